/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets: made on the control thread, so that a bind error is a configuration error. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "core/base/log.h"
#include "listeners/listener_priv.h"

#define PREBIND   ENVOY__CONFIG__CORE__V3__SOCKET_OPTION__SOCKET_STATE__STATE_PREBIND
#define BOUND     ENVOY__CONFIG__CORE__V3__SOCKET_OPTION__SOCKET_STATE__STATE_BOUND
#define LISTENING ENVOY__CONFIG__CORE__V3__SOCKET_OPTION__SOCKET_STATE__STATE_LISTENING

/* Also those of listeners that are about to close: whoever takes the address over shares them. */
static struct hb_list socks = { &socks, &socks };

/* ------------------------------------------------------------------ options */

static int
set_opt(int fd, int level, int name, const void *p, socklen_t n, const char *what, const char *hint,
	struct hb_err *reterr)
{
	if (setsockopt(fd, level, name, p, n) == 0)
		return (0);
	return (hb_err_set(reterr, -errno, "cannot set %s on a listening socket: %s%s", what,
		strerror(errno), hint));
}

static int
set_flag(int fd, int level, int name, int value, const char *what, const char *hint,
	struct hb_err *reterr)
{
	return (set_opt(fd, level, name, &value, sizeof value, what, hint, reterr));
}

static int
set_listed(int fd, const struct hb_listener *l, int state, struct hb_err *reterr)
{
	for (size_t i = 0; i < l->n_sockopts; i++) {
		const struct hb_lsockopt *o = &l->sockopt[i];
		char what[160];
		int r;

		if (o->state != state)
			continue;
		(void)snprintf(what, sizeof what, "socket option %.120s", o->o.what);
		r = set_opt(fd, o->o.level, o->o.name, o->o.value, o->o.len, what, "", reterr);
		if (r != 0)
			return (r);
	}
	return (0);
}

static int
set_before_bind(
	int fd, const struct hb_listener *l, const struct hb_laddr *a, struct hb_err *reterr)
{
	bool v6 = a->addr.kind == HB_ADDR_V6;
	int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP, r = 0;

	if (a->addr.kind != HB_ADDR_UNIX) {
		r = set_flag(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR", "", reterr);
		if (r == 0 && l->reuse_port)
			r = set_flag(fd, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT",
				"; set enable_reuse_port to false", reterr);
		if (r == 0 && v6)
			r = set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY, !a->v4_too, "IPV6_V6ONLY", "",
				reterr);
		if (r == 0 && l->freebind)
			r = set_flag(fd, level, v6 ? IPV6_FREEBIND : IP_FREEBIND, 1, "freebind", "",
				reterr);
		if (r == 0 && l->transparent)
			r = set_flag(fd, level, v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, 1,
				"transparent", "; it needs CAP_NET_ADMIN", reterr);
	}
	return (r != 0 ? r : set_listed(fd, l, PREBIND, reterr));
}

/*
 * What may differ between versions that share the sockets. Accepted sockets inherit all of it, so
 * that an accept costs no further system call.
 */
static int
set_live(int fd, const struct hb_listener *l, const struct hb_laddr *a, struct hb_err *reterr)
{
	int r = 0;

	if (a->addr.kind == HB_ADDR_UNIX) {
		if (a->path[0] != '\0' && a->mode != 0 && chmod(a->path, a->mode) != 0)
			r = hb_err_set(reterr, -errno, "cannot set the mode of %s: %s", a->path,
				strerror(errno));
		return (r);
	}
	r = set_flag(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY", "", reterr);
	if (r == 0)
		r = set_flag(
			fd, SOL_SOCKET, SO_KEEPALIVE, a->tcp.keepalive, "SO_KEEPALIVE", "", reterr);
	if (r == 0 && a->tcp.keepalive_probes > 0)
		r = set_flag(fd, IPPROTO_TCP, TCP_KEEPCNT, (int)a->tcp.keepalive_probes,
			"TCP_KEEPCNT", "", reterr);
	if (r == 0 && a->tcp.keepalive_time_s > 0)
		r = set_flag(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)a->tcp.keepalive_time_s,
			"TCP_KEEPIDLE", "", reterr);
	if (r == 0 && a->tcp.keepalive_interval_s > 0)
		r = set_flag(fd, IPPROTO_TCP, TCP_KEEPINTVL, (int)a->tcp.keepalive_interval_s,
			"TCP_KEEPINTVL", "", reterr);
	if (r == 0 && l->fast_open >= 0)
		r = set_flag(
			fd, IPPROTO_TCP, TCP_FASTOPEN, l->fast_open, "TCP_FASTOPEN", "", reterr);
	return (r);
}

/* ------------------------------------------------------------------ binding */

static int
bind_error(const struct hb_laddr *a, int err, struct hb_err *reterr)
{
	char text[HB_ADDR_TEXT_MAX];
	const char *hint = "";

	(void)hb_addr_format(&a->addr, text, sizeof text);
	if (err == EADDRINUSE)
		hint = "; another process or listener has it: stop that one, or choose another address";
	else if (err == EACCES)
		hint = a->addr.kind == HB_ADDR_UNIX ?
			"; the folder must be writable for this user" :
			"; ports below 1024 need CAP_NET_BIND_SERVICE";
	else if (err == EADDRNOTAVAIL)
		hint = "; no interface has this address: correct it, or set freebind";
	return (hb_err_set(reterr, -err, "cannot bind %s: %s%s", text, strerror(err), hint));
}

/* A socket file that nobody listens on any more is in the way; everything else stays. */
static void
remove_stale(const struct hb_laddr *a, const struct sockaddr *sa, socklen_t len)
{
	struct stat st;
	int fd;

	if (a->path[0] == '\0' || lstat(a->path, &st) != 0 || !S_ISSOCK(st.st_mode))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, sa, len) != 0 && errno == ECONNREFUSED)
		(void)unlink(a->path);
	(void)close(fd);
}

/* `to` is the address with the port that an earlier socket of the group got. */
static int
open_one(const struct hb_listener *l, const struct hb_laddr *a, const struct hb_addr *to,
	struct hb_err *reterr)
{
	struct sockaddr_storage ss;
	socklen_t len = hb_addr_to_sockaddr(to, &ss);
	int fd, r;

	HB_ASSERT(len > 0);
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return (hb_err_set(reterr, -errno, "cannot make a socket: %s%s", strerror(errno),
			errno == EMFILE ? "; raise the limit of open files (ulimit -n)" : ""));
	r = set_before_bind(fd, l, a, reterr);
	if (r == 0) {
		if (a->addr.kind == HB_ADDR_UNIX)
			remove_stale(a, (const struct sockaddr *)&ss, len);
		if (bind(fd, (const struct sockaddr *)&ss, len) != 0)
			r = bind_error(a, errno, reterr);
	}
	if (r == 0)
		r = set_listed(fd, l, BOUND, reterr);
	if (r != 0) {
		(void)close(fd);
		return (r);
	}
	return (fd);
}

/* From now on it is found by the port that the kernel chose, should a listener ask for that. */
static void
rename_key(struct hb_lsock *s)
{
	char text[HB_ADDR_TEXT_MAX], *key;

	(void)hb_addr_format(&s->bound, text, sizeof text);
	key = hb_asprintf("%s%s", text, strchr(s->key, ' '));
	hb_free(s->key);
	s->key = key;
}

static void
learn_bound(struct hb_lsock *s, const struct hb_laddr *a)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof ss;

	s->bound = a->addr;
	if (a->path != NULL) {
		s->path = hb_calloc(1, strlen(a->path + 1) + 3);
		memcpy(s->path, a->path, strlen(a->path + 1) + 1);
		s->bound.u.name = s->path;
	} else if (getsockname(s->fd[0], (struct sockaddr *)&ss, &len) == 0) {
		hb_addr_from_sockaddr(&s->bound, (struct sockaddr *)&ss, len);
		if (a->addr.port == 0)
			rename_key(s);
	}
}

static int
open_all(struct hb_lsock *s, const struct hb_listener *l, const struct hb_laddr *a,
	struct hb_err *reterr)
{
	unsigned want = l->reuse_port && a->addr.kind != HB_ADDR_UNIX ? hb_workers_count() : 1;

	while (s->n < want) {
		int fd = open_one(l, a, s->n == 0 ? &a->addr : &s->bound, reterr);

		if (fd < 0)
			return (fd);
		s->fd[s->n++] = fd;
		if (s->n == 1)
			learn_bound(s, a);
	}
	return (0);
}

static int
listen_all(struct hb_lsock *s, const struct hb_listener *l, const struct hb_laddr *a,
	struct hb_err *reterr)
{
	int r = 0;

	for (unsigned i = 0; i < s->n && r == 0; i++) {
		r = set_live(s->fd[i], l, a, reterr);
		if (r == 0 && listen(s->fd[i], l->backlog) != 0)
			r = bind_error(a, errno, reterr);
		if (r == 0)
			r = set_listed(s->fd[i], l, LISTENING, reterr);
	}
	return (r);
}

/*
 * Somebody else listens there: SO_REUSEPORT lets both, and the kernel shares connections out, which
 * nobody expects who has started a program twice. A socket without the option finds out.
 */
static bool
taken_by_others(const struct hb_listener *l, const struct hb_laddr *a)
{
	bool v6 = a->addr.kind == HB_ADDR_V6, taken = false;
	struct sockaddr_storage ss;
	struct hb_list *n;
	int fd;

	if (!l->reuse_port || a->addr.kind == HB_ADDR_UNIX || a->addr.port == 0)
		return (false);
	HB_LIST_FOREACH (n, &socks)
		if (HB_LIST_ENTRY(n, struct hb_lsock, node)->bound.port == a->addr.port)
			return (false); /* it may be ours */
	fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return (false);
	if (set_flag(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR", "", NULL) == 0 &&
		(!v6 ||
			set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY, !a->v4_too, "IPV6_V6ONLY", "",
				NULL) == 0))
		taken = bind(fd, (const struct sockaddr *)&ss,
				hb_addr_to_sockaddr(&a->addr, &ss)) != 0 &&
			errno == EADDRINUSE;
	(void)close(fd);
	return (taken);
}

static int
open_new(struct hb_lsock *s, const struct hb_listener *l, const struct hb_laddr *a,
	struct hb_err *reterr)
{
	bool shared = taken_by_others(l, a);
	int r = open_all(s, l, a, reterr);
	char text[HB_ADDR_TEXT_MAX];

	(void)hb_addr_format(&a->addr, text, sizeof text);
	if (r == 0 && shared)
		HB_LOG(LISTENER, WARN, "another process listens on this address too",
			"listener=%s address=%s effect=\"connections are shared out between both\" "
			"cure=\"stop one of them; enable_reuse_port: false refuses to start\"",
			l->name, text);
	return (r);
}

/* ------------------------------------------------------------------ life */

static struct hb_lsock *
find_shared(const struct hb_laddr *a)
{
	struct hb_list *n;

	HB_LIST_FOREACH (n, &socks) {
		struct hb_lsock *s = HB_LIST_ENTRY(n, struct hb_lsock, node);

		if (strcmp(s->key, a->key) == 0)
			return (s);
	}
	return (NULL);
}

struct hb_lsock *
hb_lsock_get(const struct hb_listener *l, const struct hb_laddr *a, struct hb_lsock *share,
	struct hb_err *reterr)
{
	struct hb_lsock *s = share;
	int r = 0;

	if (s == NULL && (a->addr.port != 0 || a->addr.kind == HB_ADDR_UNIX))
		s = find_shared(a);
	if (s != NULL) {
		s->refs++;
	} else {
		s = hb_calloc(1, sizeof *s + hb_workers_count() * sizeof s->fd[0]);
		s->magic = HB_LSOCK_MAGIC;
		s->refs = 1;
		s->key = hb_strdup(a->key);
		hb_list_init(&s->node);
		r = open_new(s, l, a, reterr);
		hb_list_add_tail(&socks, &s->node);
	}
	if (r == 0)
		r = listen_all(s, l, a, reterr);
	if (r != 0)
		hb_lsock_unref(&s);
	return (s);
}

void
hb_lsock_unref(struct hb_lsock **sp)
{
	struct hb_lsock *s = *sp;

	if (s == NULL)
		return;
	HB_CHECK(s, HB_LSOCK_MAGIC);
	HB_ASSERT(s->refs > 0);
	*sp = NULL;
	if (--s->refs > 0)
		return;
	hb_list_del(&s->node);
	/* The name goes first: whoever connects meanwhile would be cut off. */
	if (s->path != NULL && s->path[0] != '\0')
		(void)unlink(s->path);
	for (unsigned i = 0; i < s->n; i++)
		(void)close(s->fd[i]);
	hb_free(s->path);
	hb_free(s->key);
	HB_DEL(s);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/burst.h"
#include "core/transport/tcp_spare_priv.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/un.h>
#include <unistd.h>

static const struct hb_fdt_ops tcp_ops;

static struct hb_fdt *
tcp_of(const struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(t->ops == &tcp_ops.t);
	return (HB_CONTAINER(t, struct hb_fdt, base));
}

/* ------------------------------------------------------------------ system calls */

static ssize_t
tcp_read(struct hb_fdt *f, void *p, size_t n)
{
	return (recv(f->in.fd, p, n, 0));
}

static ssize_t
tcp_write(struct hb_fdt *f, const struct iovec *iov, int n)
{
	struct msghdr m = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n };

	if (n == 1)
		return (send(f->in.fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL));
	return (sendmsg(f->in.fd, &m, MSG_NOSIGNAL));
}

static int
tcp_peek(struct hb_fdt *f)
{
	char c;

	return ((int)recv(f->in.fd, &c, 1, MSG_PEEK));
}

static int
tcp_hangup_error(struct hb_fdt *f)
{
	int err = 0;
	socklen_t len = sizeof err;

	if (getsockopt(f->in.fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
		err = errno;
	return (err);
}

static int
tcp_connect_result(struct hb_fdt *f)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof peer;
	int err;

	if (getpeername(f->in.fd, (struct sockaddr *)&peer, &len) == 0)
		return (0);
	if (errno != ENOTCONN)
		return (errno);
	/* It failed, or this is a wake-up before the connection stands. */
	err = tcp_hangup_error(f);
	return (err == 0 ? EINPROGRESS : err);
}

static void
tcp_half_close(struct hb_fdt *f)
{
	/* ENOTCONN after a reset: reading tells. */
	(void)shutdown(f->in.fd, SHUT_WR);
	f->end_sent = true;
}

static void
tcp_close(struct hb_fdt *f, bool reset)
{
	struct linger l = { .l_onoff = 1, .l_linger = 0 };

	if (!reset && hb_tcp_spare__keep(f))
		return;
	if (reset && f->in.fd >= 0)
		(void)setsockopt(f->in.fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	hb_io_close(&f->in);
}

void
hb_tcp__free(struct hb_fdt *f)
{
	if (hb_io_watched(&f->in))
		hb_tcp_spare__put(f);
	hb_burst_free(f, sizeof *f);
}

static size_t
tcp_unacked(struct hb_fdt *f)
{
	int n = 0;

	if (ioctl(f->in.fd, TIOCOUTQ, &n) != 0 || n <= 0)
		return (0);
	/* A FIN on its way counts as one. */
	return ((size_t)n - (f->write_shut ? 1 : 0));
}

static enum hb_close_reason
connect_reason(int err)
{
	switch (err) {
	case ECONNREFUSED:
		return (HB_CLOSE_CONNECT_REFUSED);
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN:
	case ENETDOWN:
	case ENOENT: /* no such unix socket */
		return (HB_CLOSE_CONNECT_UNREACHABLE);
	case ETIMEDOUT:
		return (HB_CLOSE_CONNECT_TIMEOUT);
	default:
		return (HB_CLOSE_CONNECT_FAILED);
	}
}

static enum hb_close_reason
tcp_reason(const struct hb_fdt *f, int err)
{
	if (f->connecting)
		return (connect_reason(err));
	return (err == ECONNRESET || err == EPIPE ? HB_CLOSE_PEER_RESET : HB_CLOSE_IO_ERROR);
}

/* ------------------------------------------------------------------ transport slots */

static struct hb_transport *
tcp_raw(struct hb_transport *t, enum hb_dir dir)
{
	struct hb_fdt *f = tcp_of(t);

	if (f->connecting || f->error != 0)
		return (NULL);
	if (dir == HB_DIR_READ)
		return (f->eof ? NULL : t);
	return (hb_fdt__queued(f) > 0 ? NULL : t);
}

static const struct hb_fdt_ops tcp_ops = {
	.t = {
		.name = "tcp",
		.write = hb_fdt__write,
		.read_enable = hb_fdt__read_enable,
		.finish = hb_fdt__finish,
		.abort = hb_fdt__abort,
		.pending = hb_fdt__pending,
		.closed = hb_fdt__closed,
		.raw = tcp_raw,
		.run = hb_fdt__run,
	},
	.linger_reads = true,
	.socket = true,
	.read = tcp_read,
	.write = tcp_write,
	.peek = tcp_peek,
	.hangup_error = tcp_hangup_error,
	.connect_result = tcp_connect_result,
	.half_close = tcp_half_close,
	.close = tcp_close,
	.unacked = tcp_unacked,
	.free_fn = hb_tcp__free,
	.reason = tcp_reason,
};

/* ------------------------------------------------------------------ options */

static void
set_int(int fd, int level, int name, int value)
{
	(void)setsockopt(fd, level, name, &value, sizeof value);
}

/* Both ends on this host: congestion control that paces (bbr) halves the throughput there. */
static bool
peer_is_local(int fd, const struct sockaddr *peer)
{
	struct sockaddr_storage own;
	socklen_t len = sizeof own;

	if (getsockname(fd, (struct sockaddr *)&own, &len) != 0 || own.ss_family != peer->sa_family)
		return (false);
	if (own.ss_family == AF_INET) {
		in_addr_t p = ((const struct sockaddr_in *)peer)->sin_addr.s_addr;

		return (ntohl(p) >> 24 == IN_LOOPBACKNET ||
			((struct sockaddr_in *)&own)->sin_addr.s_addr == p);
	}
	return (own.ss_family == AF_INET6 &&
		IN6_ARE_ADDR_EQUAL(&((struct sockaddr_in6 *)&own)->sin6_addr,
			&((const struct sockaddr_in6 *)peer)->sin6_addr));
}

static void
set_congestion(int fd, const char *name, const struct sockaddr *peer)
{
	if (strcmp(name, "auto") != 0) {
		(void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name));
		return;
	}
	if (!peer_is_local(fd, peer))
		return;
	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) != 0)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
}

/* `peer` NULL = ask the kernel. None of these changes what the transport promises, and a unix socket has none of
 * the TCP ones: a refusal is not an error. */
static void
set_options(int fd, const struct hb_tcp_options *o, const struct sockaddr *peer)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;

	if (!o->nodelay_off)
		set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (o->keepalive) {
		set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
		if (o->keepalive_probes > 0)
			set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, (int)o->keepalive_probes);
		if (o->keepalive_time_s > 0)
			set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)o->keepalive_time_s);
		if (o->keepalive_interval_s > 0)
			set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, (int)o->keepalive_interval_s);
	}
	if (o->congestion[0] == '\0')
		return;
	if (peer == NULL) {
		if (getpeername(fd, (struct sockaddr *)&ss, &len) != 0)
			return;
		peer = (struct sockaddr *)&ss;
	}
	set_congestion(fd, o->congestion, peer);
}

/* ------------------------------------------------------------------ making */

struct hb_fdt *
hb_tcp__new(struct hb_worker *w, int fd, const struct hb_tcp_options *o)
{
	struct hb_fdt *f = hb_burst_calloc(sizeof *f);
	uint64_t flush_timeout = HB_FLUSH_TIMEOUT_MS;

	hb_transport_init(&f->base, &tcp_ops.t, w);
	f->in.fd = fd;
	if (o != NULL && o->flush_timeout_ms > 0)
		flush_timeout = o->flush_timeout_ms;
	f->flush_timeout_ms = (uint32_t)HB_MIN(flush_timeout, (uint64_t)UINT32_MAX);
	return (f);
}

static void
tcp_watch(struct hb_fdt *f)
{
	struct hb_err err;
	int r = hb_io_start(&f->in, f->base.worker, f->in.fd, hb_fdt__on_io, &err);

	if (r != 0)
		hb_fdt__fail(f, -r);
}

struct hb_transport *
hb_tcp_from_fd(struct hb_worker *w, int fd, const struct hb_tcp_options *o)
{
	struct hb_fdt *f;

	HB_ASSERT(fd >= 0);
	f = hb_tcp__new(w, fd, o);
	if (o != NULL)
		set_options(fd, o, NULL);
	f->writable = true;
	hb_transport_emit_connected(&f->base);
	hb_transport_emit_secured(&f->base);
	tcp_watch(f);
	return (&f->base);
}

/* Options that say where the connection comes from: refusing to go on beats a wrong source. */
static int
set_source(int fd, const struct hb_tcp_connect *c, struct hb_err *reterr)
{
	bool v6 = c->addr->sa_family == AF_INET6;
	int on = 1;

	if (c->mark != 0 && setsockopt(fd, SOL_SOCKET, SO_MARK, &c->mark, sizeof c->mark) != 0)
		return (hb_err_set(reterr, -errno,
			"cannot mark a socket (SO_MARK): %s; it needs CAP_NET_ADMIN",
			strerror(errno)));
	if (c->transparent &&
		setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP,
			v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, &on, sizeof on) != 0)
		return (hb_err_set(reterr, -errno,
			"cannot make a socket transparent: %s; it needs CAP_NET_ADMIN",
			strerror(errno)));
	if (c->freebind &&
		setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_FREEBIND : IP_FREEBIND,
			&on, sizeof on) != 0)
		return (hb_err_set(
			reterr, -errno, "cannot set freebind on a socket: %s", strerror(errno)));
	for (size_t i = 0; i < c->n_sockopts; i++) {
		const struct hb_tcp_sockopt *o = &c->sockopts[i];

		if (setsockopt(fd, o->level, o->name, o->value, o->len) != 0)
			return (hb_err_set(reterr, -errno, "cannot set the socket option %s: %s",
				o->what, strerror(errno)));
	}
	if (c->bind_to == NULL)
		return (0);
	/* Port 0: the kernel chooses it when the destination is known, so ports may be shared. */
	if (c->bind_to->sa_family != AF_UNIX)
		set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	if (bind(fd, c->bind_to, c->bind_len) != 0)
		return (hb_err_set(reterr, -errno,
			"cannot bind the source address: %s; it must be one of this host's (or set "
			"freebind)",
			strerror(errno)));
	return (0);
}

static int
make_socket(const struct hb_tcp_connect *c, struct hb_err *reterr)
{
	int fd, r;
	int family = c->addr->sa_family;

	if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
		return (hb_err_set(reterr, -EAFNOSUPPORT,
			"cannot connect to an address of family %d; use IPv4, IPv6 or a unix path",
			family));
	fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return (hb_err_set(reterr, -errno, "cannot make a socket: %s%s", strerror(errno),
			errno == EMFILE ? "; raise the limit of open files (ulimit -n)" : ""));
	r = set_source(fd, c, reterr);
	if (r != 0) {
		(void)close(fd);
		return (r);
	}
	return (fd);
}

struct hb_transport *
hb_tcp_connect(struct hb_worker *w, const struct hb_tcp_connect *c, struct hb_err *reterr)
{
	struct hb_io spare = { .fd = -1 };
	struct hb_fdt *f;
	bool plain = hb_tcp_spare__plain(c), again = plain && hb_tcp_spare__take(w, c, &spare);
	int r, fd = again ? spare.fd : make_socket(c, reterr);

	if (fd < 0)
		return (NULL);
	f = hb_tcp__new(w, fd, &c->options);
	if (again)
		hb_io_move(&spare, &f->in, hb_fdt__on_io);
	f->plain = plain;
	f->v6 = c->addr->sa_family == AF_INET6;
	f->defers = c->speaks_first;
	f->connecting = true;
	/* On a socket that connects: its acknowledgement of the handshake waits for bytes. */
	if (c->speaks_first && !again && c->addr->sa_family != AF_UNIX)
		set_int(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 1);
	do {
		r = connect(fd, c->addr, c->addr_len);
	} while (r != 0 && errno == EINTR);
	r = r == 0 ? 0 : errno;
	if (!again)
		set_options(fd, &c->options, c->addr);
	if (r != 0 && r != EINPROGRESS) {
		hb_fdt__fail(f, r);
		return (&f->base);
	}
	if (!again)
		tcp_watch(f);
	if (r == 0 && f->error == 0) {
		f->connecting = false;
		f->writable = true;
		hb_transport_emit_connected(&f->base);
		hb_transport_emit_secured(&f->base);
	}
	return (&f->base);
}

/* ------------------------------------------------------------------ queries */

bool
hb_tcp_is(const struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	return (t->ops == &tcp_ops.t);
}

int
hb_tcp_fd(const struct hb_transport *t)
{
	return (tcp_of(t)->in.fd);
}

void
hb_tcp_read_at_most(struct hb_transport *t, uint32_t n)
{
	HB_ASSERT(n <= HB_SCRATCH_SIZE);
	if (t->ops == &tcp_ops.t)
		tcp_of(t)->read_max = n;
}

int
hb_tcp_errno(const struct hb_transport *t)
{
	return (tcp_of(t)->error);
}

size_t
hb_tcp_unacked(struct hb_transport *t)
{
	while (t != NULL && t->ops->inner != NULL &&
		(strcmp(t->ops->name, "tls") == 0 || strcmp(t->ops->name, "chain") == 0))
		t = t->ops->inner(t);
	return (t == NULL || t->ops != &tcp_ops.t || t->dead ? 0 : tcp_unacked(tcp_of(t)));
}

static void
taken_free(struct hb_transport *t)
{
	struct hb_fdt *f = tcp_of(t);

	t->magic = 0;
	hb_tcp__free(f);
}

int
hb_tcp_take_fd(struct hb_transport **tp, struct hb_buf *ret_unread, bool *ret_end)
{
	struct hb_transport *t = *tp;
	struct hb_fdt *f = tcp_of(t);
	int fd = f->in.fd;

	HB_ASSERT(!t->dead && !f->connecting);
	HB_ASSERT(hb_fdt__queued(f) == 0 && !t->write_ended && f->raw == NULL);
	if (f->error != 0)
		return (-f->error);
	hb_transport_unread_take(t, ret_unread, ret_end);
	hb_io_stop(&f->in);
	t->dead = true;
	f->released = true;
	hb_transport_bury(t, taken_free);
	*tp = NULL;
	return (fd);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accepting. On workers.
 *
 * A wake-up accepts one connection: asking whether there is another costs three times as much as
 * the turn that tells. When there always is, it takes two, four, up to the batch of the listener; what is
 * left is taken in the next turn, so that connections that are open get their turn between. When descriptors or memory run out, accepting pauses: the
 * kernel keeps the queue, and asking again at once would spin.
 */
#include <sys/socket.h>
#include <unistd.h>
#include "core/base/log.h"
#include "listeners/listener_priv.h"

#define PAUSE_MS     100u
#define LOG_EVERY_MS 1000u
#define FULL_MAX     32u /* wake-ups that find as many as they take: the next take twice as many */
#define REST_MAX     4096u /* taken from an accept queue before its socket is closed */

enum accept_result { TOOK, EMPTY, RETRY, PAUSE };

static void on_io(struct hb_io *io, unsigned events);

/* ------------------------------------------------------------------ one connection */

struct hand_over {
	struct hb_task task;
	struct hb_ldoor *door;
	unsigned address;
	int fd; /* owned */
	socklen_t peer_len;
	struct sockaddr_storage peer;
};

/* Of the socket itself. The one it is bound to, unless that is a wildcard or the kernel lets
 * foreign addresses in. */
static void
local_address(const struct hb_listener *l, unsigned address, int fd, struct hb_facts *f)
{
	static const uint8_t zero[16];
	const struct hb_addr *bound = &l->bound[address]; /* the socket may be gone by now */
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof ss;
	struct hb_addr a = *bound;

	if (bound->kind != HB_ADDR_UNIX &&
		(l->transparent ||
			memcmp(bound->u.ip, zero, bound->kind == HB_ADDR_V4 ? 4 : 16) == 0) &&
		getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		hb_addr_from_sockaddr(&a, (struct sockaddr *)&ss, len);
	hb_addr_copy(&f->arena, &f->local, &a);
}

static void
serve(struct hb_ldoor *d, unsigned address, int fd, const struct sockaddr_storage *peer,
	socklen_t peer_len)
{
	struct hb_lworker *lw = d->lw;
	const struct hb_tcp_options *options = NULL;
	struct hb_facts f;
	struct hb_addr a;

	hb_facts_init(&f);
	local_address(lw->listener, address, fd, &f);
	hb_addr_from_sockaddr(&a, (const struct sockaddr *)peer, peer_len);
	hb_addr_copy(&f.arena, &f.remote, &a);
	/* Most options come from the listening socket, see socket.c. */
	if (lw->listener->accepted.congestion[0] != '\0')
		options = &lw->listener->accepted;
	hb_listener_take(d, hb_tcp_from_fd(lw->worker, fd, options), &f, false);
}

/* Closes by a reset: the peer learns at once that nothing was served. */
static void
drop(int fd)
{
	struct linger l = { .l_onoff = 1, .l_linger = 0 };

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	(void)close(fd);
}

static void
on_hand_over(struct hb_task *t)
{
	struct hand_over *h = HB_CONTAINER(t, struct hand_over, task);

	if (h->door->lw->closed) {
		drop(h->fd);
		hb_listener_leave(h->door);
	} else {
		serve(h->door, h->address, h->fd, &h->peer, h->peer_len);
	}
	hb_free(h);
}

static void
accepted(struct hb_laccept *a, int fd, const struct sockaddr_storage *peer, socklen_t peer_len)
{
	struct hb_worker *w = a->lw->worker;
	struct hb_ldoor *d = hb_listener_enter(w, &a->lw->socket);
	struct hand_over *h;

	if (d == NULL) {
		drop(fd);
		return;
	}
	if (d->lw == a->lw) {
		serve(d, a->index, fd, peer, peer_len);
		return;
	}
	h = hb_calloc(1, sizeof *h);
	h->door = d;
	h->address = a->index;
	h->fd = fd;
	h->peer = *peer;
	h->peer_len = peer_len;
	hb_post(d->lw->worker, &h->task, on_hand_over);
}

/* ------------------------------------------------------------------ batches */

static enum accept_result
accept_one(struct hb_laccept *a)
{
	const struct hb_listener *l = a->lw->listener;
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	int fd;

	/* Unix names are not ended by the kernel. */
	memset(&ss, 0,
		l->addr[a->index].addr.kind == HB_ADDR_UNIX ? sizeof ss : sizeof(sa_family_t));
	fd = accept4(hb_lsock_fd(l->sock[a->index], a->lw->worker), (struct sockaddr *)&ss, &len,
		SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0) {
		accepted(a, fd, &ss, len);
		return (TOOK);
	}
	switch (errno) {
	case EAGAIN:
		return (EMPTY);
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		return (PAUSE);
	default:
		/* The connection died in the queue; Linux reports its network errors here, too. */
		return (RETRY);
	}
}

/* False: it is not watched. */
static bool
watch(struct hb_laccept *a)
{
	struct hb_lworker *lw = a->lw;
	const struct hb_listener *l = lw->listener;
	struct hb_err err;

	if (hb_io_start_level(&a->io, lw->worker, hb_lsock_fd(l->sock[a->index], lw->worker), on_io,
		    &err) == 0)
		return (true);
	HB_LOG(LISTENER, ERROR, "cannot watch a listening socket", "listener=%s error=\"%s\"",
		l->name, err.text);
	return (false);
}

static void
on_pause_over(struct hb_timer *t)
{
	struct hb_laccept *a = HB_CONTAINER(t, struct hb_laccept, pause);

	if (!watch(a))
		hb_timer_start(t, PAUSE_MS);
}

static void
pause_accepting(struct hb_laccept *a, int err)
{
	struct hb_lworker *lw = a->lw;
	uint64_t now = hb_now_ms(lw->worker);

	hb_stat_inc(lw->worker, lw->listener->stats, ACCEPT_ERROR);
	hb_io_stop(&a->io);
	hb_timer_start(&a->pause, PAUSE_MS);
	if (lw->logged_ms != 0 && now - lw->logged_ms < LOG_EVERY_MS)
		return;
	lw->logged_ms = HB_MAX(now, (uint64_t)1);
	HB_LOG(LISTENER, WARN, "cannot accept, pausing; raise the limit of open files (ulimit -n)",
		"listener=%s error=\"%s\" pause_ms=%u", lw->listener->name, strerror(err),
		PAUSE_MS);
}

static void
adapt(struct hb_laccept *a, bool empty)
{
	if (empty) {
		a->burst = HB_MAX(a->burst / 2, 1u);
		a->full = 0;
	} else if (++a->full == FULL_MAX) {
		a->burst = HB_MIN(a->burst * 2, a->lw->listener->accept_batch);
		a->full = 0;
	}
}

static void
on_io(struct hb_io *io, unsigned events)
{
	struct hb_laccept *a = HB_CONTAINER(io, struct hb_laccept, io);
	const struct hb_listener *l = a->lw->listener;
	enum accept_result r = RETRY;
	unsigned took = 0;
	int err = 0;

	(void)events;
	for (unsigned i = 0; i < a->burst && (r == TOOK || r == RETRY); i++) {
		r = accept_one(a);
		err = errno;
		took += r == TOOK;
	}
	if (took > 0)
		hb_stat_record(a->lw->worker, l->stats, PER_EVENT, took);
	if (r == PAUSE)
		pause_accepting(a, err);
	else
		adapt(a, r == EMPTY);
}

/* ------------------------------------------------------------------ start and stop */

void
hb_laccept_init(struct hb_laccept *a, struct hb_lworker *lw, unsigned index)
{
	a->lw = lw;
	a->index = index;
	a->io.fd = -1;
	a->burst = 1;
	hb_timer_init(&a->pause, lw->worker, on_pause_over);
}

void
hb_listener_accept_start(struct hb_lworker *lw)
{
	struct hb_listener *l = lw->listener;

	if (lw->accepting || lw->closed || l->sock == NULL)
		return;
	lw->accepting = true;
	for (unsigned i = 0; i < l->n_addrs; i++)
		(void)watch(&lw->accept[i]);
}

void
hb_listener_accept_stop(struct hb_lworker *lw)
{
	const struct hb_listener *l = lw->listener;

	if (!lw->accepting)
		return;
	lw->accepting = false;
	for (unsigned i = 0; i < l->n_addrs; i++) {
		struct hb_laccept *a = &lw->accept[i];
		enum accept_result r = TOOK;

		hb_io_stop(&a->io);
		hb_timer_stop(&a->pause);
		/* These would be reset when the socket is closed. */
		for (unsigned n = 0; l->closing[i] && n < REST_MAX && (r == TOOK || r == RETRY);
			n++)
			r = accept_one(a);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An epoll set of our own, nested in the uv loop; on a worker's thread it is the other way round, the
 * uv loop's set lies in ours, so that readiness costs one system call and not two. A descriptor costs
 * one epoll_ctl when it starts and none when it is closed. Because the kernel may still hold events of a descriptor that was
 * stopped a moment ago, events carry a slot number and its generation, never a pointer. Without all
 * this (the uv backend) a new passthrough connection costs 22 % more CPU, a new stream 13 %, and 64
 * bytes there and back 15 % more time; test/core/calls_test.c counts the calls.
 */
#ifdef __linux__
#include "core/event/worker_priv.h"

#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_A_TURN 256
#define SLOT_NONE     UINT32_MAX
#define UV_LOOP       UINT64_MAX /* data of the uv loop's own set */

struct slot {
	struct hb_io *io; /* borrowed until hb_io_stop; NULL = free */
	uint32_t generation;
	uint32_t next_free;
};

struct epoll {
	unsigned magic;
#define EPOLL_MAGIC 0x65706f6c
	int fd; /* owned */
	uv_poll_t poll;
	struct slot *slots; /* owned; those from `fresh` on were never used nor touched */
	uint32_t nslots, fresh, first_free;
	size_t used;
};

static unsigned
io_events(uint32_t e)
{
	unsigned r = 0;

	if (e & EPOLLIN)
		r |= HB_IO_READ;
	if (e & EPOLLRDHUP)
		r |= HB_IO_READ | HB_IO_END;
	if (e & EPOLLOUT)
		r |= HB_IO_WRITE;
	/* Reading or writing tells what happened. */
	if (e & (EPOLLHUP | EPOLLERR))
		r |= HB_IO_READ | HB_IO_WRITE | HB_IO_HUP;
	return (r);
}

/* Calls the callbacks; true = the uv loop's set is ready, too. */
static bool
deliver(struct epoll *ep, const struct epoll_event *ev, int n)
{
	bool uv = false;

	for (int i = 0; i < n; i++) {
		uint32_t index = (uint32_t)ev[i].data.u64;
		struct slot *s;

		if (ev[i].data.u64 == UV_LOOP) {
			uv = true;
			continue;
		}
		HB_ASSERT(index < ep->fresh);
		s = &ep->slots[index];
		if (s->io != NULL && s->generation == (uint32_t)(ev[i].data.u64 >> 32))
			s->io->fn(s->io, io_events(ev[i].events));
	}
	return (uv);
}

/* What does not fit keeps the set readable: the next turn sees it, others come first. */
static int
collect(struct epoll *ep, struct epoll_event *ev, int timeout_ms)
{
	int n = epoll_wait(ep->fd, ev, EVENTS_A_TURN, timeout_ms);

	HB_ASSERT(n >= 0 || errno == EINTR);
	return (n);
}

static void
on_poll(uv_poll_t *h, int status, int events)
{
	struct epoll *ep = h->data;
	struct epoll_event ev[EVENTS_A_TURN];
	int n;

	(void)status;
	(void)events;
	HB_CHECK(ep, EPOLL_MAGIC);
	do {
		n = collect(ep, ev, 0);
	} while (n < 0);
	(void)deliver(ep, ev, n);
}

static void
epoll_wait_begin(struct hb_worker *w)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = UV_LOOP };
	struct epoll *ep = w->priv->io;

	HB_CHECK(ep, EPOLL_MAGIC);
	/* A set may not lie in one that lies in it. */
	(void)uv_poll_stop(&ep->poll);
	/* What rooms asked of the uv loop reaches its set in a turn of it. */
	(void)uv_run(w->loop, UV_RUN_NOWAIT);
	if (epoll_ctl(ep->fd, EPOLL_CTL_ADD, uv_backend_fd(w->loop), &ev) != 0)
		HB_WRONG("the uv loop's epoll set cannot be nested");
}

static bool
epoll_wait_own(struct hb_worker *w, int timeout_ms, void (*woken)(struct hb_worker *))
{
	struct epoll *ep = w->priv->io;
	struct epoll_event ev[EVENTS_A_TURN];
	int n = collect(ep, ev, timeout_ms);

	woken(w);
	return (deliver(ep, ev, n));
}

static void
epoll_wait_end(struct hb_worker *w)
{
	struct epoll *ep = w->priv->io;
	int r;

	(void)epoll_ctl(ep->fd, EPOLL_CTL_DEL, uv_backend_fd(w->loop), NULL);
	r = uv_poll_start(&ep->poll, UV_READABLE, on_poll);
	HB_ASSERT(r == 0);
}

static int
epoll_worker_init(struct hb_worker *w, struct hb_err *reterr)
{
	struct epoll *ep;
	int r, fd = epoll_create1(EPOLL_CLOEXEC);

	if (fd < 0)
		return (hb_err_set(reterr, -errno,
			"cannot make an epoll set: %s; raise the limit of "
			"open files (ulimit -n)",
			strerror(errno)));
	HB_NEW(ep, EPOLL_MAGIC);
	ep->fd = fd;
	ep->first_free = SLOT_NONE;
	w->priv->io = ep;
	r = uv_poll_init(w->loop, &ep->poll, fd);
	HB_ASSERT(r == 0);
	ep->poll.data = ep;
	r = uv_poll_start(&ep->poll, UV_READABLE, on_poll);
	HB_ASSERT(r == 0);
	return (0);
}

static size_t
epoll_worker_fini(struct hb_worker *w)
{
	struct epoll *ep = w->priv->io;

	if (ep == NULL)
		return (0);
	HB_CHECK(ep, EPOLL_MAGIC);
	(void)uv_poll_stop(&ep->poll);
	uv_close((uv_handle_t *)&ep->poll, NULL);
	return (ep->used);
}

static void
epoll_worker_free(struct hb_worker *w)
{
	struct epoll *ep = w->priv->io;

	if (ep == NULL)
		return;
	(void)close(ep->fd);
	hb_free(ep->slots);
	HB_DEL(ep);
	w->priv->io = NULL;
}

static uint32_t
slot_take(struct epoll *ep, struct hb_io *io)
{
	uint32_t i = ep->first_free;

	if (i != SLOT_NONE) {
		ep->first_free = ep->slots[i].next_free;
	} else {
		if (ep->fresh == ep->nslots) {
			ep->nslots = HB_MAX(ep->nslots * 2, 64u);
			ep->slots = hb_realloc(ep->slots, ep->nslots * sizeof *ep->slots);
		}
		i = ep->fresh++;
		ep->slots[i].generation = 0;
	}
	ep->slots[i].io = io;
	ep->used++;
	return (i);
}

static void
slot_release(struct epoll *ep, uint32_t i)
{
	struct slot *s = &ep->slots[i];

	s->io = NULL;
	s->generation++;
	s->next_free = ep->first_free;
	ep->first_free = i;
	ep->used--;
}

static int
epoll_start(struct hb_worker *w, struct hb_io *io, bool level, struct hb_err *reterr)
{
	struct epoll *ep = w->priv->io;
	uint32_t i = slot_take(ep, io);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET };
	int err;

	if (level)
		ev.events = EPOLLIN;
	ev.data.u64 = (uint64_t)ep->slots[i].generation << 32 | i;
	if (epoll_ctl(ep->fd, EPOLL_CTL_ADD, io->fd, &ev) != 0) {
		err = errno;
		slot_release(ep, i);
		return (hb_err_set(reterr, -err, "cannot watch a descriptor: %s", strerror(err)));
	}
	io->priv = (void *)(uintptr_t)i;
	return (0);
}

static void
epoll_moved(struct hb_worker *w, struct hb_io *io)
{
	struct epoll *ep = w->priv->io;
	uint32_t i = (uint32_t)(uintptr_t)io->priv;

	HB_ASSERT(i < ep->fresh && ep->slots[i].io != NULL);
	ep->slots[i].io = io;
}

static void
epoll_stop(struct hb_worker *w, struct hb_io *io, bool closing)
{
	struct epoll *ep = w->priv->io;
	uint32_t i = (uint32_t)(uintptr_t)io->priv;

	HB_ASSERT(i < ep->fresh && ep->slots[i].io == io);
	slot_release(ep, i);
	if (!closing)
		(void)epoll_ctl(ep->fd, EPOLL_CTL_DEL, io->fd, NULL);
}

const struct hb_io_ops hb_io_epoll_ops = {
	.worker_init = epoll_worker_init,
	.worker_fini = epoll_worker_fini,
	.worker_free = epoll_worker_free,
	.start = epoll_start,
	.moved = epoll_moved,
	.stop = epoll_stop,
	.wait_begin = epoll_wait_begin,
	.wait = epoll_wait_own,
	.wait_end = epoll_wait_end,
};
#endif

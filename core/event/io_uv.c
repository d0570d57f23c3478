/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The portable way: one uv_poll_t a descriptor. It reports levels; edges are made of them by not
 * asking again for what was reported, until hb_io_again.
 */
#include "core/event/worker_priv.h"

struct watch {
	unsigned magic;
#define WATCH_MAGIC 0x77617463
	uv_poll_t poll;
	struct hb_io *io; /* borrowed; NULL = stopped, waits for the close callback */
	int mask;         /* what is asked for */
	bool level;       /* asked for all the time */
	bool hup;         /* was reported: the level stays, asking again would spin */
};

static void on_ready(uv_poll_t *h, int status, int events);

static void
ask(struct watch *wt)
{
	/* Errors come with every question, so there is always one until they came. */
	int r, mask = wt->mask | (wt->hup ? 0 : UV_PRIORITIZED);

	if (mask == 0)
		r = uv_poll_stop(&wt->poll);
	else
		r = uv_poll_start(&wt->poll, mask, on_ready);
	HB_ASSERT(r == 0);
}

static void
on_ready(uv_poll_t *h, int status, int events)
{
	struct watch *wt = h->data;
	unsigned r = 0;

	HB_CHECK(wt, WATCH_MAGIC);
	HB_ASSERT(wt->io != NULL);
	if (status < 0 || (events & UV_PRIORITIZED)) {
		events = UV_READABLE | UV_WRITABLE;
		r = HB_IO_HUP;
		wt->hup = true;
	}
	if (events & UV_READABLE)
		r |= HB_IO_READ;
	if (events & UV_WRITABLE)
		r |= HB_IO_WRITE;
	if (!wt->level)
		wt->mask &= ~events;
	ask(wt);
	wt->io->fn(wt->io, r);
}

static int
uv_worker_init(struct hb_worker *w, struct hb_err *reterr)
{
	size_t *used;

	(void)reterr;
	used = hb_calloc(1, sizeof *used);
	w->priv->io = used;
	return (0);
}

static size_t
uv_worker_fini(struct hb_worker *w)
{
	size_t *used = w->priv->io;

	return (used == NULL ? 0 : *used);
}

static void
uv_worker_free(struct hb_worker *w)
{
	hb_free(w->priv->io);
	w->priv->io = NULL;
}

static int
uv_start(struct hb_worker *w, struct hb_io *io, bool level, struct hb_err *reterr)
{
	size_t *used = w->priv->io;
	struct watch *wt;
	int r;

	HB_NEW(wt, WATCH_MAGIC);
	r = uv_poll_init(w->loop, &wt->poll, io->fd);
	if (r != 0) {
		HB_DEL(wt);
		return (hb_err_set(reterr, r, "cannot watch a descriptor: %s", uv_strerror(r)));
	}
	wt->poll.data = wt;
	wt->io = io;
	wt->level = level;
	wt->mask = UV_READABLE | (level ? 0 : UV_WRITABLE);
	io->priv = wt;
	ask(wt);
	(*used)++;
	return (0);
}

static void
uv_again(struct hb_io *io, unsigned events)
{
	struct watch *wt;
	int mask;

	HB_CAST(wt, io->priv, WATCH_MAGIC);
	if (wt->level)
		return;
	mask = wt->mask;
	if (events & HB_IO_READ)
		mask |= UV_READABLE;
	if (events & HB_IO_WRITE)
		mask |= UV_WRITABLE;
	if (mask == wt->mask)
		return;
	wt->mask = mask;
	ask(wt);
}

static void
on_close(uv_handle_t *h)
{
	struct watch *wt = h->data;

	HB_DEL(wt);
}

static void
uv_moved(struct hb_worker *w, struct hb_io *io)
{
	struct watch *wt;

	(void)w;
	HB_CAST(wt, io->priv, WATCH_MAGIC);
	wt->io = io;
}

static void
uv_stop_io(struct hb_worker *w, struct hb_io *io, bool closing)
{
	size_t *used = w->priv->io;
	struct watch *wt;

	(void)closing;
	HB_CAST(wt, io->priv, WATCH_MAGIC);
	wt->io = NULL;
	io->priv = NULL;
	uv_close((uv_handle_t *)&wt->poll, on_close);
	(*used)--;
}

const struct hb_io_ops hb_io_uv_ops = {
	.worker_init = uv_worker_init,
	.worker_fini = uv_worker_fini,
	.worker_free = uv_worker_free,
	.start = uv_start,
	.again = uv_again,
	.moved = uv_moved,
	.stop = uv_stop_io,
};

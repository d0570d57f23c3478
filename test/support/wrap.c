/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The splitter and the blocker: one transport over another that cuts what it reads into pieces and
 * holds back what is written.
 */
#include "test/support/harness.h"

struct wrap {
	struct hb_transport base;
	struct hb_transport *inner; /* owned; NULL when it has ended */
	size_t piece;               /* 0 = as it comes */
	struct hb_buf held;         /* read, not delivered yet */
	bool held_end;
	enum hb_close_reason held_close;
	bool paused; /* we have disabled the inner one once more */
	bool blocked;
	struct hb_buf queue; /* written, not passed on yet */
	bool queued_end, finishing, inner_above;
	struct hb_timer linger;
};

static const struct hb_transport_ops wrap_ops;

static struct wrap *
wrap_of(struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(t->ops == &wrap_ops);
	return (HB_CONTAINER(t, struct wrap, base));
}

static void
wrap_free(struct hb_transport *t)
{
	struct wrap *w = wrap_of(t);

	t->magic = 0;
	hb_free(w);
}

static void
release(struct wrap *w)
{
	hb_buf_fini(&w->held);
	hb_buf_fini(&w->queue);
	hb_timer_stop(&w->linger);
	hb_transport_bury(&w->base, wrap_free);
}

static void
level(struct wrap *w)
{
	hb_transport_level(&w->base, w->inner_above ? SIZE_MAX : w->queue.len);
}

/* ------------------------------------------------------------------ reading */

/* Bytes come first, and an end before all is done. */
static bool
closed_deliverable(const struct wrap *w)
{
	return (w->held_close != HB_CLOSE_NONE && w->held.len == 0 &&
		!(w->held_close == HB_CLOSE_DONE && w->held_end));
}

static void
deliver(struct wrap *w)
{
	struct hb_buf buf = { NULL, NULL, 0 };
	bool end;
	size_t n;

	while ((w->held.len > 0 || w->held_end) && hb_transport_can_read(&w->base)) {
		n = w->piece == 0 ? w->held.len : HB_MIN(w->piece, w->held.len);
		hb_buf_move_n(&buf, &w->held, n);
		end = w->held_end && w->held.len == 0;
		if (end)
			w->held_end = false;
		hb_transport_emit_data(&w->base, &buf, end);
	}
	if (w->base.dead)
		return;
	if (closed_deliverable(w)) {
		hb_transport_emit_closed(&w->base, w->held_close);
		return;
	}
	if (w->held.len > 0 || w->held_end)
		hb_transport_run_soon(&w->base);
	if (w->inner == NULL || w->paused == (w->held.len > 0))
		return;
	w->paused = w->held.len > 0;
	hb_transport_read_disable(w->inner, w->paused ? 1 : -1);
}

static void
inner_connected(void *sink, struct hb_transport *t)
{
	struct wrap *w = sink;

	hb_transport_emit_connected(&w->base);
}

static void
inner_secured(void *sink, struct hb_transport *t)
{
	struct wrap *w = sink;

	hb_transport_emit_secured(&w->base);
}

static void
inner_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct wrap *w = sink;

	hb_buf_own(buf);
	hb_buf_move(&w->held, buf);
	w->held_end = end;
	deliver(w);
}

static void
inner_watermark(void *sink, struct hb_transport *t, bool high)
{
	struct wrap *w = sink;

	w->inner_above = high;
	level(w);
}

static void
inner_sent(void *sink, struct hb_transport *t, size_t n)
{
	struct wrap *w = sink;

	hb_transport_emit_sent(&w->base, n);
}

static void
inner_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	struct wrap *w = sink;

	w->inner = NULL;
	w->held_close = reason;
	if (closed_deliverable(w))
		hb_transport_emit_closed(&w->base, reason);
}

static const struct hb_transport_events wrap_events = {
	.on_connected = inner_connected,
	.on_secured = inner_secured,
	.on_data = inner_data,
	.on_watermark = inner_watermark,
	.on_sent = inner_sent,
	.on_closed = inner_closed,
};

/* ------------------------------------------------------------------ slots */

static void
pass(struct wrap *w, size_t n)
{
	struct hb_buf buf = { NULL, NULL, 0 };
	bool end;

	n = HB_MIN(n, w->queue.len);
	hb_buf_move_n(&buf, &w->queue, n);
	end = w->queued_end && w->queue.len == 0 && !w->blocked;
	if (end)
		w->queued_end = false;
	if (w->inner == NULL)
		hb_buf_fini(&buf);
	else if (buf.len > 0 || end)
		hb_transport_write(w->inner, &buf, end);
	hb_transport_emit_sent(&w->base, n);
	level(w);
}

static void
wrap_write(struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct wrap *w = wrap_of(t);

	if (w->inner == NULL) {
		hb_buf_fini(buf);
		return;
	}
	if (!w->blocked) {
		hb_transport_write(w->inner, buf, end);
		return;
	}
	hb_buf_own(buf);
	hb_buf_move(&w->queue, buf);
	w->queued_end = end;
	level(w);
}

static void
wrap_read_enable(struct hb_transport *t, bool on)
{
	struct wrap *w = wrap_of(t);

	if (w->inner != NULL)
		hb_transport_read_disable(w->inner, on ? -1 : 1);
	if (on)
		hb_transport_run_soon(t);
}

static void
wrap_run(struct hb_transport *t)
{
	struct wrap *w = wrap_of(t);

	if (!t->dead)
		deliver(w);
}

static void
linger_timeout(struct hb_timer *timer)
{
	struct wrap *w = HB_CONTAINER(timer, struct wrap, linger);

	hb_transport_flush_timed_out(&w->base);
	if (w->inner != NULL)
		hb_transport_abort(&w->inner, HB_CLOSE_FLUSH_TIMEOUT);
	release(w);
}

static void
wrap_finish(struct hb_transport *t, enum hb_close_reason reason)
{
	struct wrap *w = wrap_of(t);

	if (w->inner != NULL && w->blocked) {
		w->finishing = true;
		hb_timer_start(&w->linger, HB_FLUSH_TIMEOUT_MS);
		return;
	}
	if (w->inner != NULL)
		hb_transport_finish(&w->inner, reason);
	release(w);
}

static void
wrap_abort(struct hb_transport *t, enum hb_close_reason reason)
{
	struct wrap *w = wrap_of(t);

	if (w->inner != NULL)
		hb_transport_abort(&w->inner, reason);
	release(w);
}

static void
wrap_accept(struct hb_transport *t)
{
	struct wrap *w = wrap_of(t);

	if (w->inner != NULL)
		hb_transport_accept(w->inner);
}

static void
wrap_reject(struct hb_transport *t, enum hb_close_reason reason)
{
	struct wrap *w = wrap_of(t);

	if (w->inner != NULL)
		hb_transport_reject(&w->inner, reason);
	release(w);
}

static size_t
wrap_pending(const struct hb_transport *t)
{
	const struct wrap *w = HB_CONTAINER(t, const struct wrap, base);

	return (w->queue.len + (w->inner == NULL ? 0 : hb_transport_pending(w->inner)));
}

static struct hb_transport *
wrap_inner(struct hb_transport *t)
{
	return (wrap_of(t)->inner);
}

static const struct hb_tls_info *
wrap_tls_info(struct hb_transport *t)
{
	struct wrap *w = wrap_of(t);

	return (w->inner == NULL ? NULL : hb_transport_tls_info(w->inner));
}

static void
wrap_closed(struct hb_transport *t)
{
	struct wrap *w = wrap_of(t);

	if (w->inner != NULL)
		hb_transport_abort(&w->inner, HB_CLOSE_LOCAL_CLOSE);
	release(w);
}

static const struct hb_transport_ops wrap_ops = {
	.name = "wrap",
	.write = wrap_write,
	.read_enable = wrap_read_enable,
	.finish = wrap_finish,
	.abort = wrap_abort,
	.accept = wrap_accept,
	.reject = wrap_reject,
	.pending = wrap_pending,
	.tls_info = wrap_tls_info,
	.inner = wrap_inner,
	.closed = wrap_closed,
	.run = wrap_run,
};

static struct wrap *
wrap_new(struct hb_transport *inner)
{
	struct wrap *w = hb_calloc(1, sizeof *w);

	hb_transport_init(&w->base, &wrap_ops, inner->worker);
	hb_timer_init(&w->linger, inner->worker, linger_timeout);
	w->inner = inner;
	if (inner->connected)
		hb_transport_emit_connected(&w->base);
	if (inner->secured)
		hb_transport_emit_secured(&w->base);
	hb_transport_attach(inner, &wrap_events, w);
	return (w);
}

struct hb_transport *
hbt_splitter(struct hb_transport *inner, size_t n)
{
	struct wrap *w = wrap_new(inner);

	w->piece = n;
	return (&w->base);
}

struct hb_transport *
hbt_blocker(struct hb_transport *inner)
{
	struct wrap *w = wrap_new(inner);

	w->blocked = true;
	return (&w->base);
}

void
hbt_release(struct hb_transport *t, size_t n)
{
	struct wrap *w = wrap_of(t);

	if (n == SIZE_MAX)
		w->blocked = false;
	pass(w, n);
	if (!w->finishing || w->blocked)
		return;
	if (w->inner != NULL)
		hb_transport_finish(&w->inner, HB_CLOSE_DONE);
	release(w);
}

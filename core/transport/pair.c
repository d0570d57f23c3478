/* SPDX-License-Identifier: Apache-2.0 */
#include "core/transport/pair.h"
#include "core/transport/transport_priv.h"

#define PAIR_DEPTH_MAX 8u

struct pair_end {
	struct hb_transport base;
	struct pair_end *other;  /* borrowed; NULL = gone                        */
	struct hb_buf queue;     /* written here, not yet taken by the other end */
	struct hb_timer *linger; /* owned; of finish                             */
	bool server;
	bool accepted;
	bool end_queued; /* an end follows the queue                     */
	bool end_passed; /* the other end has our end                    */
	bool eof;        /* we have the other's                          */
	bool released;
};

struct pair_linger {
	struct hb_timer timer;
	struct pair_end *end; /* borrowed: its owner */
};

static const struct hb_transport_ops pair_ops;

static struct pair_end *
pair_of(struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(t->ops == &pair_ops);
	return (HB_CONTAINER(t, struct pair_end, base));
}

/* ------------------------------------------------------------------ endings */

static void
pair_free(struct hb_transport *t)
{
	struct pair_end *e = pair_of(t);

	t->magic = 0;
	hb_free(e);
}

static void
release(struct pair_end *e)
{
	HB_ASSERT(e->base.dead && !e->released);
	e->released = true;
	if (e->other != NULL)
		e->other->other = NULL;
	e->other = NULL;
	hb_buf_fini(&e->queue);
	if (e->linger != NULL) {
		hb_timer_stop(e->linger);
		hb_free(HB_CONTAINER(e->linger, struct pair_linger, timer));
		e->linger = NULL;
	}
	hb_transport_bury(&e->base, pair_free);
}

/* Ends the other end, from the run queue: its sink may be on the stack. */
static void
end_other(struct pair_end *o, enum hb_close_reason reason)
{
	if (o == NULL || o->released)
		return;
	if (o->base.dead) {
		release(o);
		return;
	}
	o->base.in_call++;
	hb_transport_emit_closed(&o->base, reason);
	o->base.in_call--;
}

static void
break_pair(struct pair_end *e, enum hb_close_reason reason)
{
	struct pair_end *o = e->other;

	release(e);
	end_other(o, reason);
}

/* The other end has our end. */
static void
end_passed(struct pair_end *e)
{
	e->end_passed = true;
	if (e->released)
		return;
	if (!e->base.dead)
		hb_transport_write_flushed(&e->base);
	else if (e->eof)
		release(e);
}

/* ------------------------------------------------------------------ bytes */

/* `o` reads no more (it lingers): what its writer has for it is gone the moment it is written. */
static void
discard(struct pair_end *e, struct pair_end *o)
{
	size_t n = e->queue.len;
	bool end = e->end_queued;

	HB_ASSERT(o->base.dead && !o->released);
	hb_buf_fini(&e->queue);
	e->end_queued = false;
	/* The sink of either end may be on the stack: what follows is told from the run queue. */
	e->base.in_call++;
	hb_transport_emit_sent(&e->base, n);
	hb_transport_level(&e->base, 0);
	if (end) {
		o->eof = true;
		if (o->end_passed)
			release(o);
		end_passed(e);
	}
	e->base.in_call--;
}

/* Delivers to `o` what its writer `e` has; the caller has asked whether o can read. */
static void
deliver(struct pair_end *e, struct pair_end *o, struct hb_buf *buf, bool end)
{
	struct hb_transport_state *s = hb_transport_state(e->base.worker);

	o->eof = o->eof || end;
	s->pair_depth++;
	hb_transport_emit_data(&o->base, buf, end);
	s->pair_depth--;
	if (end)
		end_passed(e);
}

static void
pair_write(struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct pair_end *e = pair_of(t), *o = e->other;

	HB_ASSERT(o != NULL && !e->end_queued);
	if (e->queue.len == 0 && !o->base.dead && hb_transport_can_read(&o->base) &&
		hb_transport_state(t->worker)->pair_depth < PAIR_DEPTH_MAX) {
		deliver(e, o, buf, end);
		return;
	}
	hb_buf_own(buf);
	hb_buf_move(&e->queue, buf);
	e->end_queued = end;
	if (o->base.dead) {
		discard(e, o);
		return;
	}
	hb_transport_run_soon(&o->base);
	hb_transport_level(t, e->queue.len);
}

/* From the run queue of the reader. */
static void
pair_run(struct hb_transport *t)
{
	struct pair_end *o = pair_of(t), *e = o->other;
	struct hb_buf buf = { NULL, NULL, 0 };
	size_t n;
	bool end;

	if (e == NULL || !hb_transport_can_read(t) || (e->queue.len == 0 && !e->end_queued))
		return;
	n = e->queue.len;
	end = e->end_queued;
	e->end_queued = false;
	hb_buf_move(&buf, &e->queue);
	deliver(e, o, &buf, end);
	hb_transport_emit_sent(&e->base, n);
	if (!e->base.dead)
		hb_transport_level(&e->base, e->queue.len);
}

static void
pair_read_enable(struct hb_transport *t, bool on)
{
	struct pair_end *e = pair_of(t);

	if (on && e->other != NULL && (e->other->queue.len > 0 || e->other->end_queued))
		hb_transport_run_soon(t);
}

static size_t
pair_pending(const struct hb_transport *t)
{
	return (HB_CONTAINER(t, const struct pair_end, base)->queue.len);
}

/* ------------------------------------------------------------------ slots of endings */

static void
linger_timeout(struct hb_timer *timer)
{
	struct pair_end *e = HB_CONTAINER(timer, struct pair_linger, timer)->end;

	if (!e->end_passed)
		hb_transport_flush_timed_out(&e->base);
	break_pair(e, HB_CLOSE_PEER_RESET);
}

static void
pair_finish(struct hb_transport *t, enum hb_close_reason reason)
{
	struct pair_end *e = pair_of(t), *o = e->other;
	struct pair_linger *l;

	if (o == NULL) {
		release(e);
		return;
	}
	if (!e->end_passed) {
		t->write_ended = true;
		e->end_queued = true;
		if (o->base.dead)
			discard(e, o);
		else
			hb_transport_run_soon(&o->base);
	}
	if (!e->released && e->other != NULL && (o->queue.len > 0 || o->end_queued))
		discard(o, e);
	if (e->released)
		return;
	if (e->other == NULL || (e->eof && e->end_passed)) {
		release(e);
		return;
	}
	l = hb_calloc(1, sizeof *l);
	l->end = e;
	hb_timer_init(&l->timer, t->worker, linger_timeout);
	hb_timer_start(&l->timer, HB_FLUSH_TIMEOUT_MS);
	e->linger = &l->timer;
}

static void
pair_abort(struct hb_transport *t, enum hb_close_reason reason)
{
	break_pair(pair_of(t), HB_CLOSE_PEER_RESET);
}

static void
pair_reject(struct hb_transport *t, enum hb_close_reason reason)
{
	break_pair(pair_of(t), reason);
}

static void
pair_closed(struct hb_transport *t)
{
	release(pair_of(t));
}

static void
pair_accept(struct hb_transport *t)
{
	struct pair_end *e = pair_of(t), *o = e->other;

	if (!e->server || e->accepted || o == NULL || o->base.dead)
		return;
	e->accepted = true;
	/* From the run queue: the dialler may be on the stack. */
	o->base.in_call++;
	hb_transport_emit_connected(&o->base);
	hb_transport_emit_secured(&o->base);
	o->base.in_call--;
}

static const struct hb_transport_ops pair_ops = {
	.name = "pair",
	.write = pair_write,
	.read_enable = pair_read_enable,
	.finish = pair_finish,
	.abort = pair_abort,
	.accept = pair_accept,
	.reject = pair_reject,
	.pending = pair_pending,
	.closed = pair_closed,
	.run = pair_run,
};

static struct pair_end *
pair_end_new(struct hb_worker *w)
{
	struct pair_end *e = hb_calloc(1, sizeof *e);

	hb_transport_init(&e->base, &pair_ops, w);
	/* Any queued byte stops the writer: a pair holds one batch at most. */
	e->base.out.high = 1;
	return (e);
}

void
hb_pair_new(struct hb_worker *w, struct hb_transport **ret_a, struct hb_transport **ret_b)
{
	struct pair_end *a = pair_end_new(w), *b = pair_end_new(w);

	a->other = b;
	b->other = a;
	b->server = true;
	hb_transport_emit_connected(&b->base);
	hb_transport_emit_secured(&b->base);
	*ret_a = &a->base;
	*ret_b = &b->base;
}

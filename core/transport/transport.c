/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The base of every transport: who may be told what, and when.
 *
 * An event is delivered at once when neither an event of this transport (busy) nor a call of its
 * sink (in_call) is on the stack; otherwise it becomes due and the run queue delivers it, always in
 * the order connected, secured, watermark, sent, unread bytes, closed.
 */
#include <stdio.h>
#include "core/transport/tcp_spare_priv.h"
#include "core/transport/transport_priv.h"

#define DUE_CONNECTED 1u
#define DUE_SECURED   2u

/* ------------------------------------------------------------------ state of a worker */

struct hb_transport_state *
hb_transport_state(struct hb_worker *w)
{
	struct hb_transport_state *s = w->slot[HB_SLOT_TRANSPORT];

	if (HB_UNLIKELY(s == NULL)) {
		HB_NEW(s, HB_TRANSPORT_STATE_MAGIC);
		hb_list_init(&s->lingerers);
		HB_SHOWN_PTR_SET(w->slot[HB_SLOT_TRANSPORT], s);
	}
	HB_CHECK(s, HB_TRANSPORT_STATE_MAGIC);
	return (s);
}

void
hb_transport_worker_fini(struct hb_worker *w)
{
	struct hb_transport_state *s = w->slot[HB_SLOT_TRANSPORT];

	if (s == NULL)
		return;
	HB_CHECK(s, HB_TRANSPORT_STATE_MAGIC);
	HB_ASSERT(s->pair_depth == 0);
	if (s->pump_fini != NULL)
		s->pump_fini(s->pump);
	if (s->tls_fini != NULL)
		s->tls_fini(s->tls);
	hb_tcp_spare__fini(s);
	w->slot[HB_SLOT_TRANSPORT] = NULL;
	HB_DEL(s);
}

unsigned
hb_transport_lingering(const struct hb_worker *w)
{
	const struct hb_transport_state *s = HB_SHOWN_PTR(w->slot[HB_SLOT_TRANSPORT]);

	return (s == NULL ? 0 : HB_SHOWN(s->lingering));
}

uint64_t
hb_transport_flush_timeouts(const struct hb_worker *w)
{
	const struct hb_transport_state *s = HB_SHOWN_PTR(w->slot[HB_SLOT_TRANSPORT]);

	return (s == NULL ? 0 : HB_SHOWN(s->flush_timeouts));
}

void
hb_transport_flush_timed_out(struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(t->lingering);
	HB_SHOWN_ADD(hb_transport_state(t->worker)->flush_timeouts, 1);
}

/* ------------------------------------------------------------------ delivery */

/* The sink can be told something now. */
static bool
can_tell(const struct hb_transport *t)
{
	return (t->ev != NULL && t->busy == 0 && t->in_call == 0);
}

static bool
has_unread(const struct hb_transport *t)
{
	return (t->unread != NULL);
}

static size_t
unread_len(const struct hb_transport *t)
{
	return (t->unread == NULL ? 0 : t->unread->buf.len);
}

static struct hb_transport_unread *
unread_of(struct hb_transport *t)
{
	if (t->unread == NULL)
		t->unread = hb_calloc(1, sizeof *t->unread);
	return (t->unread);
}

bool
hb_transport_unread_end(const struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	return (t->unread != NULL && t->unread->end);
}

void
hb_transport_unread_take(struct hb_transport *t, struct hb_buf *to, bool *ret_end)
{
	struct hb_transport_unread *u = t->unread;

	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	*ret_end = u != NULL && u->end;
	if (u == NULL)
		return;
	t->unread = NULL;
	hb_buf_move(to, &u->buf);
	hb_free(u);
}

void
hb_transport_unread_drop(struct hb_transport *t)
{
	struct hb_buf buf = { NULL, NULL, 0 };
	bool end;

	hb_transport_unread_take(t, &buf, &end);
	hb_buf_fini(&buf);
}

void
hb_transport_run_soon(struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(!t->buried);
	hb_run_soon(t->worker, &t->run);
}

static void
event_begin(struct hb_transport *t)
{
	HB_ASSERT(!t->dead);
	HB_ASSERT(t->busy < UINT16_MAX);
	t->busy++;
}

static void
settle(struct hb_transport *t)
{
	if (t->busy == 0 && t->in_call == 0 && !t->dead && t->close_due == HB_CLOSE_NONE &&
		t->ops->settled != NULL)
		t->ops->settled(t);
}

static void
event_end(struct hb_transport *t)
{
	HB_ASSERT(t->busy > 0);
	t->busy--;
	settle(t);
}

static void
call_begin(struct hb_transport *t)
{
	HB_ASSERT(t->in_call < UINT16_MAX);
	t->in_call++;
}

static void
call_end(struct hb_transport *t)
{
	HB_ASSERT(t->in_call > 0);
	t->in_call--;
	settle(t);
}

static void
deliver_connected(struct hb_transport *t)
{
	HB_ASSERT(!t->connected);
	t->due &= (uint8_t)~DUE_CONNECTED;
	t->connected = true;
	event_begin(t);
	if (t->ev->on_connected != NULL)
		t->ev->on_connected(t->sink, t);
	event_end(t);
}

static void
deliver_secured(struct hb_transport *t)
{
	HB_ASSERT(t->connected && !t->secured);
	t->due &= (uint8_t)~DUE_SECURED;
	t->secured = true;
	event_begin(t);
	if (t->ev->on_secured != NULL)
		t->ev->on_secured(t->sink, t);
	event_end(t);
}

static void
deliver_watermark(struct hb_transport *t)
{
	t->told_above = t->out.above;
	event_begin(t);
	if (t->ev->on_watermark != NULL)
		t->ev->on_watermark(t->sink, t, t->told_above);
	event_end(t);
}

static void
deliver_sent(struct hb_transport *t)
{
	size_t n = t->sent_due;

	t->sent_due = 0;
	event_begin(t);
	if (t->ev->on_sent != NULL)
		t->ev->on_sent(t->sink, t, n);
	event_end(t);
}

static void
deliver_closed(struct hb_transport *t)
{
	const struct hb_transport_events *ev = t->ev;
	enum hb_close_reason reason = t->close_due;
	void *sink = t->sink;

	HB_ASSERT(reason != HB_CLOSE_NONE);
	HB_ASSERT(unread_len(t) == 0);
	event_begin(t);
	t->dead = true;
	ev->on_closed(sink, t, reason);
	event_end(t);
	t->ev = NULL;
	t->sink = NULL;
	t->ops->closed(t);
}

/* An end that could not be delivered yet does not hold back a reset; bytes do. */
static bool
closed_deliverable(const struct hb_transport *t)
{
	if (t->close_due == HB_CLOSE_NONE || !can_tell(t) || unread_len(t) > 0 || t->due != 0)
		return (false);
	return (!hb_transport_unread_end(t) || t->close_due != HB_CLOSE_DONE);
}

static void
deliver_data(struct hb_transport *t, struct hb_buf *buf, bool end)
{
	HB_ASSERT(!t->read_ended);
	t->bytes_in += buf->len;
	t->read_ended = end;
	event_begin(t);
	t->ev->on_data(t->sink, t, buf, end);
	HB_ASSERT(buf->len == 0);
	event_end(t);
	if (!t->dead && t->read_ended && t->write_flushed)
		hb_transport_emit_closed(t, HB_CLOSE_DONE);
}

static void
deliver_unread(struct hb_transport *t)
{
	struct hb_buf buf = { NULL, NULL, 0 };
	bool end;

	hb_transport_unread_take(t, &buf, &end);
	deliver_data(t, &buf, end);
}

/* The state alone; busy and in_call are not asked. */
static bool
reading(const struct hb_transport *t)
{
	return (!t->dead && t->connected && t->due == 0 && t->read_disabled == 0 && !t->read_ended);
}

static void
run_due(struct hb_transport *t)
{
	if (t->due & DUE_CONNECTED)
		deliver_connected(t);
	if (!t->dead && (t->due & DUE_SECURED))
		deliver_secured(t);
	if (!t->dead && t->close_due == HB_CLOSE_NONE && t->told_above != t->out.above)
		deliver_watermark(t);
	if (!t->dead && t->sent_due > 0)
		deliver_sent(t);
	if (reading(t) && has_unread(t))
		deliver_unread(t);
	if (!t->dead && closed_deliverable(t))
		deliver_closed(t);
}

static void
transport_run(struct hb_run *run)
{
	struct hb_transport *t = HB_CONTAINER(run, struct hb_transport, run);

	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(t->busy == 0 && t->in_call == 0);
	if (!t->dead && t->ev != NULL)
		run_due(t);
	/* After finish it goes on for the lingerer; a transport that has ended is left alone. */
	if (t->ops->run != NULL && t->close_due == HB_CLOSE_NONE && (!t->dead || t->lingering))
		t->ops->run(t);
}

/* ------------------------------------------------------------------ for sinks */

void
hb_transport_attach(struct hb_transport *t, const struct hb_transport_events *ev, void *sink)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(!t->dead);
	HB_ASSERT(ev != NULL && ev->on_data != NULL && ev->on_closed != NULL);
	t->ev = ev;
	t->sink = sink;
	t->told_above = false;
	hb_transport_run_soon(t);
}

void
hb_transport_read_disable(struct hb_transport *t, int delta)
{
	bool was, is;

	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(!t->dead);
	HB_ASSERT(delta >= 0 || t->read_disabled >= (uint32_t)-delta);
	was = t->read_disabled == 0;
	t->read_disabled += (uint32_t)delta;
	is = t->read_disabled == 0;
	if (was == is)
		return;
	if (is && (has_unread(t) || t->close_due != HB_CLOSE_NONE))
		hb_transport_run_soon(t);
	if (t->close_due != HB_CLOSE_NONE)
		return;
	call_begin(t);
	t->ops->read_enable(t, is);
	call_end(t);
}

void
hb_transport_unread(struct hb_transport *t, struct hb_buf *buf, bool end)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(!t->dead);
	HB_ASSERT(!end || t->read_ended);
	t->bytes_in -= HB_MIN(t->bytes_in, (uint64_t)buf->len);
	hb_buf_own(buf);
	if (buf->len > 0)
		hb_buf_move_front(&unread_of(t)->buf, buf);
	if (end) {
		t->read_ended = false;
		unread_of(t)->end = true;
	}
	hb_transport_run_soon(t);
}

void
hb_transport_write(struct hb_transport *t, struct hb_buf *buf, bool end)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(!t->dead);
	HB_ASSERT(!t->write_ended);
	t->bytes_out += buf->len;
	t->write_ended = end;
	if (t->close_due != HB_CLOSE_NONE) {
		hb_buf_fini(buf);
		return;
	}
	call_begin(t);
	t->ops->write(t, buf, end);
	HB_ASSERT(buf->len == 0);
	call_end(t);
}

/* The sink lets go. Returns false when the transport had ended by itself already. */
static bool
let_go(struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(!t->dead);
	t->dead = true;
	t->ev = NULL;
	t->sink = NULL;
	t->due = 0;
	hb_transport_unread_drop(t);
	if (t->close_due == HB_CLOSE_NONE)
		return (true);
	t->ops->closed(t);
	return (false);
}

void
hb_transport_finish(struct hb_transport **tp, enum hb_close_reason reason)
{
	struct hb_transport *t = *tp;

	*tp = NULL;
	if (!let_go(t))
		return;
	t->lingering = true;
	HB_SHOWN_ADD(hb_transport_state(t->worker)->lingering, 1);
	t->ops->finish(t, reason);
}

void
hb_transport_abort(struct hb_transport **tp, enum hb_close_reason reason)
{
	struct hb_transport *t = *tp;

	*tp = NULL;
	if (let_go(t))
		t->ops->abort(t, reason);
}

void
hb_transport_accept(struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(!t->dead);
	if (t->close_due != HB_CLOSE_NONE || t->ops->accept == NULL)
		return;
	call_begin(t);
	t->ops->accept(t);
	call_end(t);
}

void
hb_transport_reject(struct hb_transport **tp, enum hb_close_reason reason)
{
	struct hb_transport *t = *tp;

	*tp = NULL;
	if (!let_go(t))
		return;
	if (t->ops->reject != NULL)
		t->ops->reject(t, reason);
	else
		t->ops->abort(t, reason);
}

size_t
hb_transport_pending(const struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	return (t->dead ? 0 : t->ops->pending(t));
}

const struct hb_tls_info *
hb_transport_tls_info(struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	return (t->ops->tls_info == NULL ? NULL : t->ops->tls_info(t));
}

struct hb_transport *
hb_transport_raw(struct hb_transport *t, enum hb_dir dir)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	if (t->dead || t->close_due != HB_CLOSE_NONE || t->ops->raw == NULL || !t->secured)
		return (NULL);
	if (dir == HB_DIR_READ ? (t->read_ended || has_unread(t)) : t->write_ended)
		return (NULL);
	return (t->ops->raw(t, dir));
}

void
hb_transport_set_high(struct hb_transport *t, size_t bytes)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(!t->dead);
	t->out.high = (uint32_t)HB_MIN(bytes, (size_t)HB_WATERMARK_MAX) & HB_WATERMARK_MAX;
	if (bytes == 0)
		t->out.above = false;
	else
		(void)hb_watermark_set(&t->out, hb_transport_pending(t));
	if (t->told_above != t->out.above)
		hb_transport_run_soon(t);
}

int
hb_transport_describe(struct hb_transport *t, char *dst, size_t cap)
{
	struct hb_transport *in;
	int n, sum = 0, depth = 0;

	HB_ASSERT(cap > 0);
	for (; t != NULL; t = in, depth++) {
		HB_CHECK(t, HB_TRANSPORT_MAGIC);
		in = t->ops->inner == NULL ? NULL : t->ops->inner(t);
		n = snprintf((size_t)sum < cap ? dst + sum : NULL,
			(size_t)sum < cap ? cap - (size_t)sum : 0, "%s%s", depth > 0 ? "(" : "",
			t->ops->name);
		HB_ASSERT(n >= 0);
		sum += n;
	}
	while (--depth > 0) {
		n = snprintf((size_t)sum < cap ? dst + sum : NULL,
			(size_t)sum < cap ? cap - (size_t)sum : 0, ")");
		sum += n;
	}
	return (sum);
}

/* ------------------------------------------------------------------ for implementations */

void
hb_transport_init(struct hb_transport *t, const struct hb_transport_ops *ops, struct hb_worker *w)
{
	HB_ASSERT(ops->write != NULL && ops->read_enable != NULL && ops->finish != NULL);
	HB_ASSERT(ops->abort != NULL && ops->pending != NULL && ops->closed != NULL);
	HB_CHECK(w, HB_WORKER_MAGIC);
	memset(t, 0, sizeof *t);
	t->magic = HB_TRANSPORT_MAGIC;
	t->ops = ops;
	t->worker = w;
	t->read_disabled = 1;
	t->out.high = HB_TRANSPORT_HIGH_DEFAULT;
	hb_run_init(&t->run, transport_run);
}

void
hb_transport_emit_connected(struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	if (t->dead || t->close_due != HB_CLOSE_NONE)
		return;
	HB_ASSERT(!t->connected && !(t->due & DUE_CONNECTED));
	t->due |= DUE_CONNECTED;
	if (can_tell(t))
		deliver_connected(t);
	else
		hb_transport_run_soon(t);
}

void
hb_transport_emit_secured(struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	if (t->dead || t->close_due != HB_CLOSE_NONE)
		return;
	HB_ASSERT(!t->secured && !(t->due & DUE_SECURED));
	HB_ASSERT(t->connected || (t->due & DUE_CONNECTED));
	t->due |= DUE_SECURED;
	if (t->connected && can_tell(t))
		deliver_secured(t);
	else
		hb_transport_run_soon(t);
}

void
hb_transport_emit_data(struct hb_transport *t, struct hb_buf *buf, bool end)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	if (t->dead) {
		hb_buf_fini(buf);
		return;
	}
	HB_ASSERT(t->close_due == HB_CLOSE_NONE);
	HB_ASSERT(!hb_transport_unread_end(t));
	if (buf->len == 0 && !end)
		return;
	if (hb_transport_can_read(t)) {
		deliver_data(t, buf, end);
		return;
	}
	HB_ASSERT(!t->read_ended);
	hb_buf_own(buf);
	hb_buf_move(&unread_of(t)->buf, buf);
	unread_of(t)->end = end;
	hb_transport_run_soon(t);
}

void
hb_transport_emit_closed(struct hb_transport *t, enum hb_close_reason reason)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(reason != HB_CLOSE_NONE && reason < HB_CLOSE_MAX);
	if (t->dead || t->close_due != HB_CLOSE_NONE)
		return;
	t->close_due = (uint8_t)reason;
	if (closed_deliverable(t))
		deliver_closed(t);
	else
		hb_transport_run_soon(t);
}

void
hb_transport_emit_sent(struct hb_transport *t, size_t n)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	if (n == 0 || t->dead || t->close_due != HB_CLOSE_NONE || t->ev == NULL ||
		t->ev->on_sent == NULL)
		return;
	t->sent_due = (uint32_t)HB_MIN((uint64_t)UINT32_MAX, (uint64_t)t->sent_due + n);
	if (can_tell(t))
		deliver_sent(t);
	else
		hb_transport_run_soon(t);
}

void
hb_transport_level(struct hb_transport *t, size_t queued)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	(void)hb_watermark_set(&t->out, queued);
	if (t->dead || t->close_due != HB_CLOSE_NONE || t->told_above == t->out.above)
		return;
	/* High is told at once, even inside write: the sink must stop its source. */
	if (t->ev != NULL && (t->out.above || can_tell(t)))
		deliver_watermark(t);
	else
		hb_transport_run_soon(t);
}

bool
hb_transport_can_read(const struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	return (reading(t) && can_tell(t) && !has_unread(t) && t->close_due == HB_CLOSE_NONE);
}

void
hb_transport_write_flushed(struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	if (t->dead)
		return;
	HB_ASSERT(t->write_ended);
	t->write_flushed = true;
	if (t->read_ended)
		hb_transport_emit_closed(t, HB_CLOSE_DONE);
}

static void
dead_free(struct hb_dead *d)
{
	struct hb_transport *t = HB_CONTAINER(d, struct hb_transport, dead_node);
	struct hb_transport_watch *watch = t->watch;
	enum hb_close_reason ended = t->close_due;
	uint64_t in = t->bytes_in, out = t->bytes_out;

	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(t->busy == 0 && t->in_call == 0);
	t->free_fn(t);
	if (watch != NULL)
		watch->gone(watch, ended, in, out);
}

void
hb_transport_bury(struct hb_transport *t, void (*free_fn)(struct hb_transport *))
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(t->dead);
	hb_run_cancel(&t->run);
	hb_transport_unread_drop(t);
	if (t->lingering) {
		struct hb_transport_state *s = hb_transport_state(t->worker);

		HB_ASSERT(s->lingering > 0);
		HB_SHOWN_ADD(s->lingering, -1u);
		t->lingering = false;
	}
	t->ev = NULL;
	t->free_fn = free_fn;
	t->buried = true;
	hb_dead_add(t->worker, &t->dead_node, dead_free);
}

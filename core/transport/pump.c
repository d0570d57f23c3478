/* SPDX-License-Identifier: Apache-2.0 */
#include "core/transport/park.h"
#include "core/transport/pump_priv.h"
#include "core/transport/tcp_priv.h"

#define RESET_ROUNDS_MAX  8u /* of HB_FLUSH_TIMEOUT_MS each */
#define RESET_POLL_MS_MAX 64u

/* One side was reset. The other follows when it has all that came before. */
struct hb_pump_reset {
	enum hb_close_reason reason;
	enum hb_pump_side by;
	uint64_t deadline_ms;
	size_t left; /* bytes not taken at the last deadline */
	unsigned rounds, poll_ms;
};

static enum hb_pump_side
side_of(const struct hb_pump *p, const struct hb_transport *t)
{
	HB_ASSERT(t == p->t[HB_PUMP_A] || t == p->t[HB_PUMP_B]);
	return (t == p->t[HB_PUMP_A] ? HB_PUMP_A : HB_PUMP_B);
}

static bool
both_ended(const struct hb_pump *p)
{
	return (p->dir[HB_PUMP_A].ended && p->dir[HB_PUMP_B].ended);
}

/* ------------------------------------------------------------------ time */

/* How long silence is allowed now; 0 = for ever. */
static uint64_t
patience_ms(const struct hb_pump *p)
{
	uint64_t idle = p->idle_ms, half = p->half_ms;

	if (both_ended(p))
		return (idle != 0 ? idle : HB_FLUSH_TIMEOUT_MS);
	if (!p->dir[HB_PUMP_A].ended && !p->dir[HB_PUMP_B].ended)
		return (idle);
	return (idle == 0 || (half != 0 && half < idle) ? half : idle);
}

void
hb_pump__touch(struct hb_pump *p)
{
	uint64_t ms = patience_ms(p);

	if (p->reset != NULL)
		return;
	if (ms != 0)
		hb_timer_start(&p->idle, ms);
	else
		hb_timer_stop(&p->idle);
}

/* ------------------------------------------------------------------ endings */

/* Lets both go. A clean end must not follow bytes that were dropped, hence the look at the pipe. */
static void
let_go(struct hb_pump *p, enum hb_close_reason reason)
{
	bool error = hb_close_info(reason)->is_error;

	p->done = true;
	hb_free(p->reset);
	p->reset = NULL;
	hb_timer_stop(&p->idle);
	hb_run_cancel(&p->run);
	for (enum hb_pump_side to = HB_PUMP_A; to <= HB_PUMP_B; to++) {
		enum hb_pump_side from = hb_pump_other(to);
		bool cut = hb_pump__splice_held(p, from) > 0;

		hb_pump__splice_end(p, from);
		if (p->t[to] == NULL)
			continue;
		if (error || cut)
			hb_transport_abort(&p->t[to], reason);
		else
			hb_transport_finish(&p->t[to], reason);
	}
}

static void
complete(struct hb_pump *p, enum hb_pump_side by, enum hb_close_reason reason)
{
	let_go(p, reason);
	p->ops->on_done(p, by, reason);
}

static void
complete_reset(struct hb_pump *p)
{
	enum hb_close_reason reason = p->reset->reason;
	enum hb_pump_side by = p->reset->by, to = hb_pump_other(by);

	hb_pump__splice_end(p, by);
	if (p->t[to] != NULL)
		hb_transport_abort(&p->t[to], reason);
	complete(p, by, reason);
}

/* Ours: queued or in a pipe, of which we are told when it goes. */
static size_t
ours_left(const struct hb_pump *p)
{
	enum hb_pump_side by = p->reset->by;

	return (hb_transport_pending(p->t[hb_pump_other(by)]) + hb_pump__splice_held(p, by));
}

/*
 * A reset drops what the kernel still holds for the peer, and the kernel does not tell when it is
 * gone: ask now and then.
 */
static void
follow_reset(struct hb_pump *p)
{
	struct hb_pump_reset *r = p->reset;
	struct hb_transport *to = p->t[hb_pump_other(r->by)];
	size_t ours = ours_left(p), left = ours + hb_tcp_unacked(to);
	uint64_t now_ms = hb_now_ms(p->idle.worker);

	if (now_ms >= r->deadline_ms && left < r->left && ++r->rounds < RESET_ROUNDS_MAX) {
		r->left = left;
		r->deadline_ms = now_ms + HB_FLUSH_TIMEOUT_MS;
	}
	if (left == 0 || now_ms >= r->deadline_ms) {
		complete_reset(p);
		return;
	}
	if (ours == 0)
		r->poll_ms = HB_MIN(HB_MAX(r->poll_ms * 2, 1u), RESET_POLL_MS_MAX);
	hb_timer_stop(&p->idle);
	hb_timer_start(&p->idle,
		ours == 0 ? HB_MIN(r->poll_ms, r->deadline_ms - now_ms) : r->deadline_ms - now_ms);
}

static void
begin_reset(struct hb_pump *p, enum hb_pump_side by, enum hb_close_reason reason)
{
	struct hb_pump_reset *r = hb_calloc(1, sizeof *r);

	r->reason = reason;
	r->by = by;
	r->deadline_ms = hb_now_ms(p->idle.worker) + HB_FLUSH_TIMEOUT_MS;
	p->reset = r;
	r->left = ours_left(p) + hb_tcp_unacked(p->t[hb_pump_other(by)]);
	hb_transport_read_disable(p->t[hb_pump_other(by)], 1);
	follow_reset(p);
}

void
hb_pump__drained(struct hb_pump *p)
{
	if (p->reset != NULL)
		follow_reset(p);
}

static void
on_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	struct hb_pump *p;
	enum hb_pump_side side, other;

	HB_CAST(p, sink, HB_PUMP_MAGIC);
	side = side_of(p, t);
	other = hb_pump_other(side);
	p->t[side] = NULL;
	hb_pump__splice_end(p, other);
	hb_pump__splice_source_gone(p, side);
	if (p->reset != NULL) {
		complete_reset(p);
	} else if (p->t[other] == NULL) {
		complete(p, side, reason);
	} else if (reason == HB_CLOSE_DONE) {
		HB_ASSERT(both_ended(p));
		hb_pump__touch(p);
	} else if (p->dir[side].ended) {
		/* All it had to say was said and passed on: the other side keeps that. */
		hb_transport_finish(&p->t[other], reason);
		complete(p, side, reason);
	} else {
		begin_reset(p, side, reason);
	}
}

static void
on_idle(struct hb_timer *timer)
{
	struct hb_pump *p = HB_CONTAINER(timer, struct hb_pump, idle);

	HB_CHECK(p, HB_PUMP_MAGIC);
	if (p->reset != NULL)
		follow_reset(p);
	else if (both_ended(p))
		complete(
			p, p->t[HB_PUMP_A] != NULL ? HB_PUMP_A : HB_PUMP_B, HB_CLOSE_FLUSH_TIMEOUT);
	else /* after a half-close it is the other side that is silent */
		complete(p, p->dir[HB_PUMP_A].ended ? HB_PUMP_B : HB_PUMP_A, HB_CLOSE_IDLE_TIMEOUT);
}

void
hb_pump_abort(struct hb_pump *p, enum hb_close_reason reason)
{
	HB_CHECK(p, HB_PUMP_MAGIC);
	if (!p->done)
		let_go(p, reason);
}

/* ------------------------------------------------------------------ bytes */

bool
hb_pump__progress(struct hb_pump *p, enum hb_pump_side from, size_t n)
{
	p->dir[from].bytes += n;
	hb_pump__touch(p);
	if (p->ops->on_progress != NULL && n > 0)
		p->ops->on_progress(p, from, n);
	return (!p->done);
}

/* Splice pays for bulk: a few full reads in a row tell. */
static void
consider_splice(struct hb_pump *p, struct hb_pump_dir *d, size_t n)
{
	if (p->splice_off)
		return;
	if (n < HB_PUMP_FULL_READ) {
		d->full_reads = 0;
		return;
	}
	/* Not from here: the transport is in the middle of its read. */
	if (++d->full_reads >= HB_PUMP_SPLICE_AFTER)
		hb_run_soon(p->idle.worker, &p->run);
}

/*
 * A slow receiver never empties its queue while we read on: hold the source once, if the receiver
 * looks like a socket. (While bytes are queued its write direction is not raw, so ask the other.)
 */
static void
wait_for_queue(struct hb_pump *p, enum hb_pump_side from)
{
	struct hb_transport *to = p->t[hb_pump_other(from)];
	struct hb_pump_dir *d = &p->dir[from];

	if (d->draining || d->drained)
		return;
	if (hb_transport_raw(p->t[from], HB_DIR_READ) == NULL ||
		(hb_transport_raw(to, HB_DIR_READ) == NULL && !to->read_ended))
		return;
	d->draining = true;
	hb_transport_read_disable(p->t[from], 1);
}

static void
try_splice(struct hb_pump *p, enum hb_pump_side from)
{
	struct hb_pump_dir *d = &p->dir[from];

	if (d->ended || d->splice != NULL || p->reset != NULL)
		return;
	if (d->paused || hb_transport_pending(p->t[hb_pump_other(from)]) > 0) {
		wait_for_queue(p, from);
		return;
	}
	d->full_reads = 0;
	if (d->draining) {
		d->draining = false;
		d->drained = true;
		hb_transport_read_disable(p->t[from], -1);
	}
	hb_pump__splice_try(p, from);
}

static void
on_run(struct hb_run *run)
{
	struct hb_pump *p = HB_CONTAINER(run, struct hb_pump, run);

	HB_CHECK(p, HB_PUMP_MAGIC);
	for (enum hb_pump_side from = HB_PUMP_A; from <= HB_PUMP_B && !p->done; from++)
		if (p->dir[from].full_reads >= HB_PUMP_SPLICE_AFTER)
			try_splice(p, from);
}

static void
on_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	size_t n = buf->len;
	struct hb_pump_dir *d;
	enum hb_pump_side from;
	struct hb_pump *p;

	HB_CAST(p, sink, HB_PUMP_MAGIC);
	from = side_of(p, t);
	d = &p->dir[from];
	HB_ASSERT(!d->ended && d->splice == NULL);
	HB_ASSERT(p->t[hb_pump_other(from)] != NULL && p->reset == NULL);
	hb_transport_write(p->t[hb_pump_other(from)], buf, end);
	d->ended = end;
	if (!hb_pump__progress(p, from, n))
		return;
	if (end && p->ops->on_half_closed != NULL)
		p->ops->on_half_closed(p, from);
	else if (!end)
		consider_splice(p, d, n);
}

static void
on_watermark(void *sink, struct hb_transport *t, bool high)
{
	struct hb_pump *p;
	enum hb_pump_side from;

	HB_CAST(p, sink, HB_PUMP_MAGIC);
	from = hb_pump_other(side_of(p, t));
	if (p->dir[from].paused == high)
		return;
	p->dir[from].paused = high;
	if (p->t[from] != NULL)
		hb_transport_read_disable(p->t[from], high ? 1 : -1);
}

static void
on_sent(void *sink, struct hb_transport *t, size_t n)
{
	struct hb_pump *p;

	HB_CAST(p, sink, HB_PUMP_MAGIC);
	hb_pump__touch(p);
	if (p->reset != NULL)
		follow_reset(p);
	else if (p->dir[hb_pump_other(side_of(p, t))].draining && hb_transport_pending(t) == 0)
		hb_run_soon(p->idle.worker, &p->run);
}

static const struct hb_transport_events pump_events = {
	.on_data = on_data,
	.on_watermark = on_watermark,
	.on_closed = on_closed,
	.on_sent = on_sent,
};

static void
prepare(struct hb_pump *p, struct hb_transport *a, struct hb_transport *b,
	const struct hb_pump_ops *ops)
{
	HB_ASSERT(ops->on_done != NULL);
	HB_ASSERT(a->connected && b->connected && a->worker == b->worker);
	memset(p, 0, sizeof *p);
	p->magic = HB_PUMP_MAGIC;
	p->ops = ops;
	p->t[HB_PUMP_A] = a;
	p->t[HB_PUMP_B] = b;
	hb_timer_init(&p->idle, a->worker, on_idle);
	hb_run_init(&p->run, on_run);
}

void
hb_pump_start(struct hb_pump *p, struct hb_transport *a, struct hb_transport *b,
	const struct hb_pump_ops *ops, const struct hb_pump_options *opt)
{
	prepare(p, a, b, ops);
	p->idle_ms = (uint32_t)HB_MIN(opt->idle_timeout_ms, (uint64_t)UINT32_MAX);
	p->half_ms = (uint32_t)HB_MIN(opt->half_close_timeout_ms, (uint64_t)UINT32_MAX);
	p->splice_off = opt->splice_off;
	for (enum hb_pump_side i = HB_PUMP_A; i <= HB_PUMP_B; i++) {
		struct hb_transport *t = p->t[i];

		hb_transport_attach(t, &pump_events, p);
		/* What holds less by its nature (a pair: one batch) keeps its own limit. */
		if (opt->buffer_high != 0 &&
			t->out.high >= HB_MIN(opt->buffer_high, (size_t)HB_TRANSPORT_HIGH_DEFAULT))
			hb_transport_set_high(t, opt->buffer_high);
	}
	for (enum hb_pump_side i = HB_PUMP_A; i <= HB_PUMP_B; i++)
		hb_transport_read_disable(p->t[i], -1);
	hb_pump__touch(p);
}

/* ------------------------------------------------------------------ rest */

#define PACKED_NO_SPLICE 1u
#define PACKED_DRAINED   2u /* of A; of B the next bit */
#define PACKED_MORE      8u /* numbers of splice(2)    */

const char *
hb_pump_busy(struct hb_pump *p, uint64_t *ret_due_ms)
{
	const struct hb_pump_dir *d = p->dir;

	HB_CHECK(p, HB_PUMP_MAGIC);
	*ret_due_ms = p->idle.due_ms;
	if (p->done || p->reset != NULL || d[HB_PUMP_A].ended || d[HB_PUMP_B].ended)
		return ("ending");
	if (d[HB_PUMP_A].paused || d[HB_PUMP_B].paused || d[HB_PUMP_A].draining ||
		d[HB_PUMP_B].draining || hb_list_linked(&p->run.node))
		return ("bytes wait");
	if (d[HB_PUMP_A].splice != NULL || d[HB_PUMP_B].splice != NULL) {
		hb_pump__splice_rest(p, HB_PUMP_A);
		hb_pump__splice_rest(p, HB_PUMP_B);
		return ("spliced");
	}
	if (!hb_transport_quiet(p->t[HB_PUMP_A]) || !hb_transport_quiet(p->t[HB_PUMP_B]))
		return ("a side is busy");
	return (NULL);
}

void
hb_pump_pack(struct hb_pump *p, struct hb_pack *to)
{
	const struct hb_pump_dir *d = p->dir;
	bool more = (d[0].spliced | d[1].spliced | d[0].full_reads | d[1].full_reads) != 0;

	hb_pack_byte(to,
		(uint8_t)((p->splice_off ? PACKED_NO_SPLICE : 0) |
			(d[0].drained ? PACKED_DRAINED : 0) |
			(d[1].drained ? PACKED_DRAINED << 1 : 0) | (more ? PACKED_MORE : 0)));
	hb_pack_u64(to, p->idle_ms);
	hb_pack_u64(to, p->half_ms);
	if (p->idle_ms != 0)
		hb_pack_ms(to, p->idle.due_ms);
	for (unsigned i = HB_PUMP_A; i <= HB_PUMP_B; i++) {
		hb_pack_count(to, d[i].bytes, i);
		if (more) {
			hb_pack_u64(to, d[i].spliced);
			hb_pack_u64(to, d[i].full_reads);
		}
	}
	hb_timer_stop(&p->idle);
	memset(p, 0, sizeof *p);
}

/* As hb_pump_start, but nothing is due and nothing is read yet. */
void
hb_pump_unpack(struct hb_pump *p, struct hb_unpack *from, struct hb_transport *a,
	struct hb_transport *b, const struct hb_pump_ops *ops)
{
	uint8_t bits = hb_unpack_byte(from);
	uint64_t now = hb_now_ms(a->worker), due = 0;

	prepare(p, a, b, ops);
	p->splice_off = bits & PACKED_NO_SPLICE;
	p->idle_ms = (uint32_t)hb_unpack_u64(from);
	p->half_ms = (uint32_t)hb_unpack_u64(from);
	if (p->idle_ms != 0)
		due = hb_unpack_ms(from);
	for (unsigned i = HB_PUMP_A; i <= HB_PUMP_B; i++) {
		p->dir[i].drained = bits & PACKED_DRAINED << i;
		p->dir[i].bytes = hb_unpack_count(from, i);
		if (bits & PACKED_MORE) {
			p->dir[i].spliced = hb_unpack_u64(from);
			p->dir[i].full_reads = (uint32_t)hb_unpack_u64(from);
		}
		hb_transport_resink(p->t[i], &pump_events, p);
	}
	if (due != 0)
		hb_timer_start(&p->idle, due > now ? due - now : 0);
}

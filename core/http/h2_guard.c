/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a session does not put up with: frames that cost us more than the peer (RFC 9113 10.5), and
 * peers that do not go on. One timer serves all limits of time; it may fire early, then it is set
 * again.
 *
 * Floods are counted in buckets that leak a tenth of their size a second: a burst is nobody's fault,
 * the same for minutes is.
 */
#include "core/http/h2_priv.h"

#define LEAK_MS        1000u
#define LEAK_PART      10u
#define PREMATURE_MS   1000u
#define DRAIN_PONG_MS  3000u
#define WINDOWS_A_DATA 20u /* a reader may give credit back in small steps, on two levels */

static const uint8_t ping_alive[8] = { 'h', 'b', 'o', 'n', 'e', 'l', 'i', 'v' };
static const uint8_t ping_drain[8] = { 'h', 'b', 'o', 'n', 'e', 'e', 'n', 'd' };

/* ------------------------------------------------------------------ floods */

static void
leak(struct hb_h2 *h2)
{
	struct h2_guard *g = &h2->guard;
	uint64_t now = hb_now_ms(h2->worker), s = (now - g->leaked_ms) / LEAK_MS, n;
	unsigned i;

	if (s == 0)
		return;
	g->leaked_ms += s * LEAK_MS;
	for (i = 0; i < HB_H2_FLOOD_MAX; i++) {
		n = s * HB_MAX(h2->opt->flood[i] / LEAK_PART, 1u);
		g->level[i] -= (uint32_t)HB_MIN(n, (uint64_t)g->level[i]);
	}
}

static void
flooded(struct hb_h2 *h2, enum hb_h2_flood kind)
{
	if (!h2->guard.flooded)
		hb_h2__count(h2, (enum hb_h2_count)(HB_H2_FLOODED + kind));
	h2->guard.flooded = true;
	hb_h2__fail(h2, HB_CLOSE_FLOOD);
}

bool
hb_h2__guard_add(struct hb_h2 *h2, enum hb_h2_flood kind)
{
	if (h2->guard.flooded)
		return (false);
	leak(h2);
	if (++h2->guard.level[kind] <= h2->opt->flood[kind])
		return (true);
	flooded(h2, kind);
	return (false);
}

enum hb_close_reason
hb_h2__guard_reason(struct hb_h2 *h2, int nghttp2_error)
{
	if (nghttp2_error == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS)
		flooded(h2, HB_H2_FLOOD_CONTINUATIONS);
	else if (nghttp2_error == NGHTTP2_ERR_FLOODED)
		flooded(h2, HB_H2_FLOOD_OUTBOUND);
	return (h2->guard.flooded ? HB_CLOSE_FLOOD : HB_CLOSE_PROTOCOL_ERROR);
}

/* ------------------------------------------------------------------ frames */

bool
hb_h2__guard_begin(struct hb_h2 *h2, const nghttp2_frame_hd *hd)
{
	if (h2->guard.flooded)
		return (false);
	/* Any other frame says that the block before it is over; CONTINUATION does not come here. */
	h2->guard.headers_ms = hd->type == NGHTTP2_HEADERS ? hb_now_ms(h2->worker) : 0;
	if (hd->type == NGHTTP2_PRIORITY || hd->type > NGHTTP2_CONTINUATION)
		return (hb_h2__guard_add(h2, HB_H2_FLOOD_OTHER));
	return (true);
}

/* The peer wants a stream, and at once wants it no more. */
static bool
reset(struct hb_h2 *h2, int32_t id)
{
	const struct h2_stream *s = nghttp2_session_get_stream_user_data(h2->ng, id);

	hb_h2__count(h2, HB_H2_RX_RESET);
	if (s == NULL || !h2->server || (s->responded && s->base.bytes_in > 0) ||
		(uint32_t)hb_now_ms(h2->worker) - s->opened_ms >= PREMATURE_MS)
		return (true);
	return (hb_h2__guard_add(h2, HB_H2_FLOOD_RESETS));
}

static bool
window(struct hb_h2 *h2)
{
	struct h2_guard *g = &h2->guard;

	/* Those that our DATA explains are free. */
	if (++g->windows <= g->data_sent * WINDOWS_A_DATA)
		return (true);
	return (hb_h2__guard_add(h2, HB_H2_FLOOD_WINDOWS));
}

static void
pong(struct hb_h2 *h2, const uint8_t *opaque)
{
	struct h2_guard *g = &h2->guard;

	if (memcmp(opaque, ping_alive, sizeof ping_alive) == 0) {
		g->pong_ms = hb_now_ms(h2->worker);
		g->ping_ms = 0;
	} else if (h2->drain == H2_DRAIN_NOTICE &&
		memcmp(opaque, ping_drain, sizeof ping_drain) == 0) {
		/* The client has seen the first GOAWAY. */
		h2->drain = H2_DRAIN_FINAL;
		(void)nghttp2_submit_goaway(h2->ng, NGHTTP2_FLAG_NONE,
			nghttp2_session_get_last_proc_stream_id(h2->ng), NGHTTP2_NO_ERROR, NULL, 0);
	}
}

bool
hb_h2__guard_frame(struct hb_h2 *h2, const nghttp2_frame *f)
{
	switch (f->hd.type) {
	case NGHTTP2_HEADERS:
		h2->guard.headers_ms = 0;
		return (true);
	case NGHTTP2_DATA:
		return (f->hd.length > f->data.padlen || (f->hd.flags & NGHTTP2_FLAG_END_STREAM) ||
			hb_h2__guard_add(h2, HB_H2_FLOOD_EMPTY_DATA));
	case NGHTTP2_RST_STREAM:
		return (reset(h2, f->hd.stream_id));
	case NGHTTP2_SETTINGS:
		if (f->hd.flags & NGHTTP2_FLAG_ACK)
			return (true);
		h2->guard.started = true;
		return (hb_h2__guard_add(h2, HB_H2_FLOOD_SETTINGS));
	case NGHTTP2_PING:
		if (!(f->hd.flags & NGHTTP2_FLAG_ACK))
			return (hb_h2__guard_add(h2, HB_H2_FLOOD_PINGS));
		pong(h2, f->ping.opaque_data);
		return (true);
	case NGHTTP2_WINDOW_UPDATE:
		return (window(h2));
	default:
		return (true);
	}
}

static bool
is_peers_fault(uint32_t code)
{
	return (code == NGHTTP2_PROTOCOL_ERROR || code == NGHTTP2_FLOW_CONTROL_ERROR ||
		code == NGHTTP2_STREAM_CLOSED || code == NGHTTP2_FRAME_SIZE_ERROR);
}

void
hb_h2__guard_sent(struct hb_h2 *h2, const nghttp2_frame *f)
{
	if (f->hd.type == NGHTTP2_DATA)
		h2->guard.data_sent++;
	if (f->hd.type != NGHTTP2_RST_STREAM)
		return;
	hb_h2__count(h2, HB_H2_TX_RESET);
	if (!is_peers_fault(f->rst_stream.error_code))
		return;
	hb_h2__count(h2, HB_H2_MALFORMED);
	(void)hb_h2__guard_add(h2, HB_H2_FLOOD_ERRORS);
}

/* ------------------------------------------------------------------ time */

/* When the next limit is reached; 0 = none. */
static uint64_t
earliest(const struct hb_h2 *h2)
{
	const struct h2_guard *g = &h2->guard;
	const struct hb_h2_options *o = h2->opt;
	uint64_t due = 0;

#define DUE(cond, at)                                   \
	do {                                            \
		if ((cond) && (due == 0 || (at) < due)) \
			due = (at);                     \
	} while (0)
	DUE(!g->started, g->start_ms + o->start_timeout_ms);
	DUE(g->headers_ms != 0, g->headers_ms + o->headers_timeout_ms);
	DUE(g->ping_ms != 0, g->ping_ms + o->keepalive_timeout_ms);
	DUE(g->ping_ms == 0 && o->keepalive_interval_ms != 0,
		g->pong_ms + o->keepalive_interval_ms);
	DUE(h2->active == 0 && o->idle_timeout_ms != 0 && h2->drain == H2_DRAIN_NONE,
		g->idle_ms + o->idle_timeout_ms);
	DUE(h2->drain == H2_DRAIN_NOTICE, g->drain_ms + DRAIN_PONG_MS);
#undef DUE
	return (due);
}

void
hb_h2__guard_arm(struct hb_h2 *h2)
{
	uint64_t due = earliest(h2), now = hb_now_ms(h2->worker);

	if (due == 0 || (hb_timer_running(&h2->timer) && h2->timer.due_ms <= due))
		return;
	hb_timer_start(&h2->timer, due > now ? due - now : 1);
}

static void
late(struct hb_h2 *h2, enum hb_h2_count what, enum hb_close_reason reason)
{
	hb_h2__count(h2, what);
	hb_h2__fail(h2, reason);
}

static void
on_timer(struct hb_timer *t)
{
	struct hb_h2 *h2 = HB_CONTAINER(t, struct hb_h2, timer);
	struct h2_guard *g = &h2->guard;
	const struct hb_h2_options *o = h2->opt;
	uint64_t now = hb_now_ms(h2->worker);

	HB_CHECK(h2, HB_H2_MAGIC);
	HB_ASSERT(!h2->dead);
	if (!g->started && now >= g->start_ms + o->start_timeout_ms) {
		late(h2, HB_H2_START_TIMEOUT, HB_CLOSE_HTTP_TIMEOUT);
	} else if (g->headers_ms != 0 && now >= g->headers_ms + o->headers_timeout_ms) {
		late(h2, HB_H2_HEADERS_TIMEOUT, HB_CLOSE_HTTP_TIMEOUT);
	} else if (g->ping_ms != 0 && now >= g->ping_ms + o->keepalive_timeout_ms) {
		late(h2, HB_H2_KEEPALIVE_TIMEOUT, HB_CLOSE_KEEPALIVE_TIMEOUT);
	} else if (g->ping_ms == 0 && o->keepalive_interval_ms != 0 &&
		now >= g->pong_ms + o->keepalive_interval_ms) {
		g->ping_ms = now;
		(void)nghttp2_submit_ping(h2->ng, NGHTTP2_FLAG_NONE, ping_alive);
	}
	if (h2->drain == H2_DRAIN_NOTICE && now >= g->drain_ms + DRAIN_PONG_MS)
		pong(h2, ping_drain);
	if (h2->active == 0 && o->idle_timeout_ms != 0 && h2->drain == H2_DRAIN_NONE &&
		now >= g->idle_ms + o->idle_timeout_ms) {
		hb_h2__count(h2, HB_H2_IDLE);
		hb_h2_drain(h2);
	}
	/* Sends what is there, ends what has to end, sets the timer again. */
	hb_run_soon(h2->worker, &h2->run);
}

void
hb_h2__guard_drain(struct hb_h2 *h2)
{
	h2->drain = H2_DRAIN_NOTICE;
	h2->guard.drain_ms = hb_now_ms(h2->worker);
	(void)nghttp2_submit_shutdown_notice(h2->ng);
	(void)nghttp2_submit_ping(h2->ng, NGHTTP2_FLAG_NONE, ping_drain);
}

void
hb_h2__guard_init(struct hb_h2 *h2)
{
	struct h2_guard *g = &h2->guard;

	g->start_ms = g->pong_ms = g->idle_ms = g->leaked_ms = hb_now_ms(h2->worker);
	hb_timer_init(&h2->timer, h2->worker, on_timer);
}

void
hb_h2__guard_fini(struct hb_h2 *h2)
{
	hb_timer_stop(&h2->timer);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session: nghttp2 over a transport, its life and its endings. h2_send.c and h2_recv.c move bytes.
 */
#include <pthread.h>
#include "core/http/h2_priv.h"

/* nghttp2's own limits on resets and answers: h2_guard.c replaces them. */
#define RESETS_BURST  100000u
#define RESETS_PER_S  10000u
#define CONTINUATIONS 8u /* default of its flood */
#define ACKS_MAX      100000u

static nghttp2_session_callbacks *callbacks;
static nghttp2_option *options, *server_options;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void close_session(struct hb_h2 *, enum hb_close_reason, bool reset);

/* ------------------------------------------------------------------ for streams */

void
hb_h2__mark(struct h2_stream *s)
{
	/* The batch's end tells at once: bytes of this turn need no copy. */
	if (s->h2 != NULL && s->h2->slices != NULL) {
		struct h2_busy *b = hb_h2__busy(s);

		if (!hb_list_linked(&b->dirty))
			hb_list_add_tail(&s->h2->dirty, &b->dirty);
	} else if (s->base.dead && !s->base.lingering) {
		if (s->over)
			hb_h2__stream_tell(s);
	} else {
		hb_transport_run_soon(&s->base);
	}
}

void
hb_h2__detach(struct h2_stream *s)
{
	struct hb_h2 *h2 = s->h2;

	if (!s->over)
		(void)nghttp2_session_set_stream_user_data(h2->ng, s->id, NULL);
	hb_list_del(&s->node);
	if (s->busy != NULL)
		hb_list_del(&s->busy->dirty);
	hb_h2__window_gone(s);
	hb_h2__writer_gone(s);
	HB_ASSERT(h2->buffered >= hb_h2__rx_len(s));
	h2->buffered -= hb_h2__rx_len(s);
	s->h2 = NULL;
	hb_h2__credit(h2, 0);
}

void
hb_h2__credit(struct hb_h2 *h2, size_t n)
{
	h2->credit += n;
	if (h2->credit == 0 || h2->buffered > h2->opt->buffered_max || h2->dead)
		return;
	(void)nghttp2_session_consume_connection(h2->ng, h2->credit);
	h2->credit = 0;
}
void
hb_h2__count(struct hb_h2 *h2, enum hb_h2_count what)
{
	if (h2->ev != NULL && h2->ev->on_count != NULL)
		h2->ev->on_count(h2->sink, what);
}

void
hb_h2__fail(struct hb_h2 *h2, enum hb_close_reason reason)
{
	if (h2->reason == HB_CLOSE_NONE)
		h2->reason = (uint8_t)reason;
	if (!h2->dead)
		hb_run_soon(h2->worker, &h2->run);
}

/* ------------------------------------------------------------------ the session's own matters */

static void
tell_room(struct hb_h2 *h2)
{
	uint32_t room = hb_h2_room(h2);
	bool more = room > h2->room_told;

	h2->room_told = room;
	if (more && !h2->server && h2->ev != NULL && h2->ev->on_room != NULL)
		h2->ev->on_room(h2->sink, h2);
}

static bool
nghttp2_is_done(const struct hb_h2 *h2)
{
	return (nghttp2_session_want_read(h2->ng) == 0 && nghttp2_session_want_write(h2->ng) == 0);
}

static void
settle(struct hb_h2 *h2)
{
	if (h2->dead)
		return;
	hb_h2__send(h2);
	if (nghttp2_session_get_outbound_queue_size(h2->ng) > h2->opt->flood[HB_H2_FLOOD_OUTBOUND])
		hb_h2__fail(h2, hb_h2__guard_reason(h2, NGHTTP2_ERR_FLOODED));
	if (h2->goaway_got && !h2->goaway_told) {
		h2->goaway_told = true;
		if (h2->ev->on_goaway != NULL)
			h2->ev->on_goaway(h2->sink, h2, h2->goaway_code);
		if (h2->dead)
			return;
	}
	if (h2->reason != HB_CLOSE_NONE)
		close_session(h2, (enum hb_close_reason)h2->reason, false);
	else if (h2->lower_ended)
		close_session(h2, h2->active > 0 ? HB_CLOSE_PEER_RESET : HB_CLOSE_DONE, false);
	else if (hb_h2__is_drained(h2) || nghttp2_is_done(h2))
		close_session(h2,
			h2->goaway_got && h2->active > 0 ? HB_CLOSE_GOAWAY : HB_CLOSE_DONE, false);
	else
		tell_room(h2);
	if (!h2->dead)
		hb_h2__guard_arm(h2);
}

static void
session_run(struct hb_run *run)
{
	struct hb_h2 *h2 = HB_CONTAINER(run, struct hb_h2, run);

	HB_CHECK(h2, HB_H2_MAGIC);
	settle(h2);
}

/* ------------------------------------------------------------------ endings */

static void
session_free(struct hb_dead *d)
{
	struct hb_h2 *h2 = HB_CONTAINER(d, struct hb_h2, dead_node);

	HB_CHECK(h2, HB_H2_MAGIC);
	HB_ASSERT(hb_list_empty(&h2->streams));
	nghttp2_session_del(h2->ng);
	hb_buf_fini(&h2->out);
	HB_ASSERT(h2->writers == NULL);
	hb_h2__options_drop(h2->worker, &h2->opt);
	HB_DEL(h2);
}

/* Streams are told from the run queue: their sinks may be on the stack. */
static void
lose_streams(struct hb_h2 *h2, enum hb_close_reason reason)
{
	struct hb_list *n, *tmp;

	HB_LIST_FOREACH_SAFE (n, tmp, &h2->streams)
		hb_h2__stream_lost(HB_LIST_ENTRY(n, struct h2_stream, node), reason);
}

static void
bury(struct hb_h2 *h2)
{
	h2->ev = NULL;
	hb_run_cancel(&h2->run);
	hb_h2__guard_fini(h2);
	hb_dead_add(h2->worker, &h2->dead_node, session_free);
}

static uint32_t
goaway_code(enum hb_close_reason reason)
{
	return (reason == HB_CLOSE_PROTOCOL_ERROR ? NGHTTP2_PROTOCOL_ERROR :
			reason == HB_CLOSE_FLOOD  ? NGHTTP2_ENHANCE_YOUR_CALM :
						    NGHTTP2_NO_ERROR);
}

static void
close_session(struct hb_h2 *h2, enum hb_close_reason reason, bool reset)
{
	const struct hb_h2_events *ev = h2->ev;
	void *sink = h2->sink;

	HB_ASSERT(!h2->dead);
	if (h2->lower != NULL && !reset && h2->lower->connected && !h2->sending) {
		(void)nghttp2_session_terminate_session(h2->ng, goaway_code(reason));
		hb_h2__send_last(h2);
		/* A watermark event inside may have ended us. */
		if (h2->dead)
			return;
	}
	h2->dead = true;
	lose_streams(h2, reason == HB_CLOSE_DONE ? HB_CLOSE_GOAWAY : reason);
	if (h2->lower != NULL && reset)
		hb_transport_abort(&h2->lower, reason);
	else if (h2->lower != NULL)
		hb_transport_finish(&h2->lower, reason);
	bury(h2);
	if (ev != NULL)
		ev->on_closed(sink, h2, reason);
}

/* A peer that sees the end of the connection only cannot tell what became of its stream. */
static void
take_leave(struct h2_stream *s, enum hb_close_reason reason)
{
	if (s->over || (s->rx_end && s->tx_end_sent))
		return;
	if (s->reason == HB_CLOSE_NONE)
		s->reason = (uint8_t)reason;
	hb_h2__stream_reset(s, hb_h2__error_code(reason));
}

void
hb_h2_close(struct hb_h2 **ph2, enum hb_close_reason reason)
{
	struct hb_h2 *h2 = *ph2;
	struct hb_list *n;

	HB_CHECK(h2, HB_H2_MAGIC);
	*ph2 = NULL;
	h2->ev = NULL;
	HB_LIST_FOREACH (n, &h2->streams)
		take_leave(HB_LIST_ENTRY(n, struct h2_stream, node), reason);
	/* nghttp2 sends none once the session is about to end. */
	hb_h2__send(h2);
	if (h2->dead)
		return;
	close_session(h2, reason, false);
}

void
hb_h2_abort(struct hb_h2 **ph2, enum hb_close_reason reason)
{
	struct hb_h2 *h2 = *ph2;

	HB_CHECK(h2, HB_H2_MAGIC);
	*ph2 = NULL;
	h2->ev = NULL;
	close_session(h2, reason, true);
}

void
hb_h2_drain(struct hb_h2 *h2)
{
	HB_CHECK(h2, HB_H2_MAGIC);
	if (h2->drain != H2_DRAIN_NONE || h2->dead)
		return;
	/* RFC 9113 6.8: streams on their way when the first GOAWAY was sent still count. */
	if (h2->server)
		hb_h2__guard_drain(h2);
	else
		h2->drain = H2_DRAIN_FINAL;
	hb_run_soon(h2->worker, &h2->run);
}

bool
hb_h2_draining(const struct hb_h2 *h2)
{
	HB_CHECK(h2, HB_H2_MAGIC);
	return (h2->drain != H2_DRAIN_NONE);
}

/* ------------------------------------------------------------------ events from below */

static struct hb_h2 *
h2_of(void *sink)
{
	struct hb_h2 *h2;

	HB_CAST(h2, sink, HB_H2_MAGIC);
	return (h2);
}

static void
lower_on_connected(void *sink, struct hb_transport *t)
{
	(void)t;
	hb_h2__send(h2_of(sink));
}

static void
lower_on_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct hb_h2 *h2 = h2_of(sink);

	(void)t;
	h2->lower_ended = h2->lower_ended || end;
	hb_h2__receive(h2, buf);
	settle(h2);
}

static void
lower_on_watermark(void *sink, struct hb_transport *t, bool high)
{
	struct hb_h2 *h2 = h2_of(sink);

	(void)t;
	h2->blocked = high;
	if (high) {
		hb_h2__writers_stop(h2);
		return;
	}
	settle(h2);
	hb_h2__writers_go(h2);
}

static void
lower_on_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	struct hb_h2 *h2 = h2_of(sink);

	h2->lower = NULL;
	if (h2->dead)
		return;
	h2->ended = t;
	close_session(
		h2, reason == HB_CLOSE_DONE && h2->active > 0 ? HB_CLOSE_PEER_RESET : reason, true);
	h2->ended = NULL;
}

static const struct hb_transport_events lower_events = {
	.on_connected = lower_on_connected,
	.on_data = lower_on_data,
	.on_watermark = lower_on_watermark,
	.on_closed = lower_on_closed,
};

/* ------------------------------------------------------------------ making */

static nghttp2_option *
make_options(bool server, uint32_t continuations)
{
	nghttp2_option *o;

	HB_ASSERT(nghttp2_option_new(&o) == 0);
	for (unsigned type = NGHTTP2_CONTINUATION + 1; type <= UINT8_MAX; type++)
		nghttp2_option_set_user_recv_extension_type(o, (uint8_t)type);
	nghttp2_option_set_no_auto_window_update(o, 1);
	nghttp2_option_set_no_closed_streams(o, 1);
	nghttp2_option_set_stream_reset_rate_limit(o, RESETS_BURST, RESETS_PER_S);
	nghttp2_option_set_max_outbound_ack(o, ACKS_MAX);
	nghttp2_option_set_max_continuations(o, continuations);
	/* Our answers are a status and what never changes: HPACK's table gains nothing for them. */
	if (server)
		nghttp2_option_set_max_deflate_dynamic_table_size(o, 0);
	return (o);
}

static void
make_once(void)
{
	HB_ASSERT(nghttp2_session_callbacks_new(&callbacks) == 0);
	hb_h2__send_callbacks(callbacks);
	hb_h2__recv_callbacks(callbacks);
	options = make_options(false, CONTINUATIONS);
	server_options = make_options(true, CONTINUATIONS);
}

static void
announce(struct hb_h2 *h2)
{
	nghttp2_settings_entry entries[] = {
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, h2->opt->stream_window },
		{ NGHTTP2_SETTINGS_MAX_FRAME_SIZE, h2->opt->frame_max },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, h2->opt->header_bytes_max },
		{ h2->server ? NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS :
			       NGHTTP2_SETTINGS_ENABLE_PUSH,
			h2->server ? NGHTTP2_MAX_WINDOW_SIZE : 0 },
	};

	HB_ASSERT(nghttp2_submit_settings(
			  h2->ng, NGHTTP2_FLAG_NONE, entries, HB_ARRAY_LEN(entries)) == 0);
	HB_ASSERT(nghttp2_session_set_local_window_size(
			  h2->ng, NGHTTP2_FLAG_NONE, 0, (int32_t)h2->opt->session_window) == 0);
}

static void
make_session(struct hb_h2 *h2)
{
	uint32_t continuations = h2->opt->flood[HB_H2_FLOOD_CONTINUATIONS];
	nghttp2_option *own = NULL, *o = h2->server ? server_options : options;
	nghttp2_mem mem = hb_h2__mem(h2);
	const uint8_t *p;

	if (continuations != CONTINUATIONS)
		o = own = make_options(h2->server, continuations);
	HB_ASSERT((h2->server ? nghttp2_session_server_new3(&h2->ng, callbacks, h2, o, &mem) :
				nghttp2_session_client_new3(&h2->ng, callbacks, h2, o, &mem)) == 0);
	nghttp2_option_del(own);
	if (h2->server)
		return;
	/* The preface would stand in memory that is lent until the first bytes are sent: it is taken
	 * out now, and hb_h2__send_all puts it before the first frame. */
	HB_ASSERT(nghttp2_session_mem_send(h2->ng, &p) == (ssize_t)NGHTTP2_CLIENT_MAGIC_LEN);
}

struct hb_h2 *
hb_h2_new(struct hb_transport *lower, bool server, const struct hb_h2_options *opt,
	const struct hb_h2_events *ev, void *sink)
{
	struct hb_h2 *h2;

	HB_CHECK(lower, HB_TRANSPORT_MAGIC);
	HB_ASSERT(ev->on_closed != NULL && (!server || ev->on_request != NULL));
	(void)pthread_once(&once, make_once);
	HB_NEW(h2, HB_H2_MAGIC);
	h2->worker = lower->worker;
	h2->lower = lower;
	h2->server = server;
	h2->ev = ev;
	h2->sink = sink;
	hb_list_init(&h2->streams);
	hb_list_init(&h2->dirty);
	hb_run_init(&h2->run, session_run);
	h2->opt = hb_h2__options(h2->worker, opt);
	make_session(h2);
	announce(h2);
	hb_h2__guard_init(h2);
	h2->room_told = hb_h2_room(h2);
	hb_transport_attach(lower, &lower_events, h2);
	hb_transport_read_disable(lower, -1);
	hb_run_soon(h2->worker, &h2->run);
	return (h2);
}

struct hb_transport *
hb_h2_open(struct hb_h2 *h2, const struct hb_h2_request *r)
{
	struct h2_stream *s;
	int id;

	HB_CHECK(h2, HB_H2_MAGIC);
	HB_ASSERT(!h2->server);
	if (hb_h2_room(h2) == 0)
		return (NULL);
	s = hb_h2__stream_new(h2, 0);
	id = hb_h2__stream_request(s, r);
	HB_ASSERT(id > 0);
	s->id = id;
	s->offered = true;
	h2->active++;
	hb_run_soon(h2->worker, &h2->run);
	return (&s->base);
}

/* ------------------------------------------------------------------ queries */

uint32_t
hb_h2_room(const struct hb_h2 *h2)
{
	uint32_t max;

	HB_CHECK(h2, HB_H2_MAGIC);
	if (h2->server || h2->dead || h2->drain != H2_DRAIN_NONE || h2->goaway_got ||
		h2->lower_ended || nghttp2_session_check_request_allowed(h2->ng) == 0)
		return (0);
	max = hb_h2_peer_limit(h2);
	return (max > h2->active ? max - h2->active : 0);
}

uint32_t
hb_h2_peer_limit(const struct hb_h2 *h2)
{
	HB_CHECK(h2, HB_H2_MAGIC);
	return (nghttp2_session_get_remote_settings(
		h2->ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS));
}

void
hb_h2_each_stream(struct hb_h2 *h2, void (*fn)(void *arg, struct hb_transport *stream), void *arg)
{
	struct hb_list *n, *next;

	HB_CHECK(h2, HB_H2_MAGIC);
	HB_LIST_FOREACH_SAFE (n, next, &h2->streams)
		fn(arg, &HB_LIST_ENTRY(n, struct h2_stream, node)->base);
}

uint32_t
hb_h2_streams(const struct hb_h2 *h2)
{
	HB_CHECK(h2, HB_H2_MAGIC);
	return (h2->active);
}

size_t
hb_h2_buffered(const struct hb_h2 *h2)
{
	HB_CHECK(h2, HB_H2_MAGIC);
	return (h2->buffered);
}

uint64_t
hb_h2_refused(const struct hb_h2 *h2)
{
	HB_CHECK(h2, HB_H2_MAGIC);
	return (h2->refused);
}

struct hb_transport *
hb_h2_lower(const struct hb_h2 *h2)
{
	HB_CHECK(h2, HB_H2_MAGIC);
	return (h2->lower != NULL ? h2->lower : h2->ended);
}

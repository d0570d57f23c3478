/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session: nghttp2 over a transport. nghttp2's callbacks only note what happened; sinks are
 * told between two calls into nghttp2, so that they may call anything.
 */
#include <pthread.h>
#include "core/http/h2_priv.h"

#define BATCH            HB_SCRATCH_SIZE
#define STREAMS_MAX      1024u
#define STREAM_WINDOW    (256u * 1024u)
#define WINDOW_GROWN     (4u * 1024u * 1024u)
#define SESSION_WINDOW   (16u * 1024u * 1024u)
#define FRAME_MAX        (1024u * 1024u)
#define BUFFERED_MAX     (16u * 1024u * 1024u)
#define HEADERS_MAX      100u
#define HEADER_BYTES_MAX (64u * 1024u)
#define WINDOW_LIMIT     0x7fffffffu
#define FRAME_MIN        16384u /* RFC 9113 6.5.2: what everybody takes */
#define TIMEOUT_MS       15000u
#define KEEPALIVE_MS     20000u
/* nghttp2's own limits on resets and answers: h2_guard.c replaces them. */
#define RESETS_BURST     100000u
#define RESETS_PER_S     10000u
#define ACKS_MAX         100000u
#define SETTING_SIZE     6u
#define FRAME_HEADER     9u

static nghttp2_session_callbacks *callbacks;
static nghttp2_option *options;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void close_session(struct hb_h2 *, enum hb_close_reason, bool reset);

/* ------------------------------------------------------------------ for streams */

void
hb_h2__mark(struct h2_stream *s)
{
	/* The batch's end tells at once: bytes of this turn need no copy. */
	if (s->h2 != NULL && s->h2->slices != NULL) {
		if (!hb_list_linked(&s->dirty))
			hb_list_add_tail(&s->h2->dirty, &s->dirty);
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
	hb_list_del(&s->dirty);
	hb_h2__window_gone(s);
	HB_ASSERT(h2->buffered >= s->rx.len);
	h2->buffered -= s->rx.len;
	s->h2 = NULL;
	hb_h2__credit(h2, 0);
}

void
hb_h2__credit(struct hb_h2 *h2, size_t n)
{
	h2->credit += n;
	if (h2->credit == 0 || h2->buffered > h2->opt.buffered_max || h2->dead)
		return;
	(void)nghttp2_session_consume_connection(h2->ng, h2->credit);
	h2->credit = 0;
}

/* ------------------------------------------------------------------ sending */

static void
flush(struct hb_h2 *h2)
{
	struct hb_buf b = { NULL, NULL, 0 };

	hb_buf_move(&b, &h2->out);
	if (h2->lower == NULL)
		hb_buf_fini(&b);
	else if (b.len > 0)
		hb_transport_write(h2->lower, &b, false);
}

static void
put_u32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

/*
 * nghttp2 ends the session when a peer exceeds the limit that it announced, so it knows a higher
 * one than the wire: excess streams are refused one by one (on_begin_headers).
 */
static void
first_frame(struct hb_h2 *h2, const uint8_t *p, size_t n)
{
	uint8_t *copy = hb_buf_reserve(&h2->out, n);
	size_t off;

	memcpy(copy, p, n);
	HB_ASSERT(n >= FRAME_HEADER && copy[3] == NGHTTP2_SETTINGS);
	for (off = FRAME_HEADER; off + SETTING_SIZE <= n; off += SETTING_SIZE) {
		if (copy[off] == 0 && copy[off + 1] == NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
			put_u32(copy + off + 2, h2->opt.streams_max);
	}
	hb_buf_commit(&h2->out, n);
	h2->settings_sent = true;
}

/* All frames that windows and the lower transport allow. False = nghttp2 gave up. */
static bool
send_all(struct hb_h2 *h2)
{
	const uint8_t *p;
	ssize_t n = 1;

	HB_ASSERT(!h2->sending);
	h2->sending = true;
	while (!h2->blocked && h2->lower != NULL) {
		n = nghttp2_session_mem_send(h2->ng, &p);
		if (n <= 0)
			break;
		if (h2->server && !h2->settings_sent)
			first_frame(h2, p, (size_t)n);
		else
			hb_buf_add(&h2->out, p, (size_t)n);
		if (h2->out.len >= BATCH)
			flush(h2);
	}
	flush(h2);
	h2->sending = false;
	return (n >= 0);
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

static bool
is_drained(const struct hb_h2 *h2)
{
	return (h2->drain == H2_DRAIN_FINAL && h2->active == 0);
}

/* The session's own matters: endings, GOAWAY, room. */
static bool
needs_settling(const struct hb_h2 *h2)
{
	return (is_drained(h2) || (h2->goaway_got && !h2->goaway_told) ||
		(!h2->server && hb_h2_room(h2) > h2->room_told) ||
		(nghttp2_session_want_read(h2->ng) == 0 &&
			nghttp2_session_want_write(h2->ng) == 0));
}

void
hb_h2__send(struct hb_h2 *h2)
{
	HB_CHECK(h2, HB_H2_MAGIC);
	if (h2->sending || h2->receiving || h2->blocked || h2->dead || h2->lower == NULL ||
		!h2->lower->connected)
		return;
	if (!send_all(h2)) {
		h2->reason = HB_CLOSE_PROTOCOL_ERROR;
		hb_run_soon(h2->worker, &h2->run);
	} else if (needs_settling(h2)) {
		hb_run_soon(h2->worker, &h2->run);
	}
}

static int
on_send_data(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *header, size_t n,
	nghttp2_data_source *source, void *user_data)
{
	struct hb_h2 *h2 = user_data;
	struct h2_stream *s = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);

	(void)source;
	HB_ASSERT(s != NULL && frame->data.padlen == 0 && n <= s->tx.len);
	memcpy(hb_buf_reserve(&h2->out, FRAME_HEADER), header, FRAME_HEADER);
	hb_buf_commit(&h2->out, FRAME_HEADER);
	hb_buf_move_n(&h2->out, &s->tx, n);
	s->sent += (uint32_t)n;
	if (!s->writing && n > 0)
		hb_h2__mark(s);
	/* A batch is handed on before the next frame, not in the middle of one. */
	return (0);
}

static ssize_t
on_frame_length(nghttp2_session *ng, uint8_t type, int32_t id, int32_t session_window,
	int32_t stream_window, uint32_t frame_max, void *user_data)
{
	const struct h2_stream *s = nghttp2_session_get_stream_user_data(ng, id);
	size_t n = s == NULL ? 0 : s->tx.len;

	(void)type;
	(void)session_window;
	(void)stream_window;
	(void)user_data;
	n = HB_MAX(n, (size_t)FRAME_MIN);
	return ((ssize_t)HB_MIN(HB_MIN(n, (size_t)frame_max), (size_t)H2_FRAME_MAX));
}

static int
on_frame_sent(nghttp2_session *ng, const nghttp2_frame *frame, void *user_data)
{
	struct hb_h2 *h2 = user_data;
	struct h2_stream *s;

	hb_h2__guard_sent(h2, frame);
	if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR &&
		h2->reason == HB_CLOSE_NONE)
		h2->reason = HB_CLOSE_PROTOCOL_ERROR;
	if ((frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) ||
		!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return (0);
	s = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
	if (s == NULL)
		return (0);
	s->tx_end_sent = true;
	if (s->stop_after_end && !s->rx_end)
		hb_h2__stream_reset(s, NGHTTP2_NO_ERROR);
	if (!s->writing)
		hb_h2__mark(s);
	return (0);
}

/* ------------------------------------------------------------------ receiving: nghttp2's calls */

static int
on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *user_data)
{
	struct hb_h2 *h2 = user_data;
	struct h2_stream *s;

	if (!h2->server || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return (0);
	h2->active++;
	hb_h2__count(h2, HB_H2_REQUEST);
	if (h2->active > h2->opt.streams_max || h2->drain == H2_DRAIN_FINAL) {
		h2->refused++;
		hb_h2__count(h2, HB_H2_REFUSED);
		(void)nghttp2_submit_rst_stream(
			ng, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_REFUSED_STREAM);
		return (0);
	}
	s = hb_h2__stream_new(h2, frame->hd.stream_id);
	HB_ASSERT(nghttp2_session_set_stream_user_data(ng, s->id, s) == 0);
	return (0);
}

static int
on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
	const uint8_t *value, size_t value_len, uint8_t flags, void *user_data)
{
	struct hb_h2 *h2 = user_data;
	struct h2_stream *s = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);

	(void)flags;
	/* Trailers end the stream; nobody asks for them here. */
	if (s == NULL || s->headers_done)
		return (0);
	hb_h2__fields_add(&s->fields, &h2->opt, hb_strn(name, name_len), hb_strn(value, value_len));
	return (0);
}

/* The status of a response; 0 when there is none. */
static unsigned
status_of(const struct h2_fields *f)
{
	uint64_t n = 0;
	uint32_t i;

	for (i = 0; f != NULL && i < f->n; i++) {
		if (hb_str_eq(hb_strn(f->text.p + f->v[i].name, f->v[i].name_len),
			    HB_STR(":status")) &&
			hb_str_u64(hb_strn(f->text.p + f->v[i].value, f->v[i].value_len), 999, &n))
			break;
	}
	return ((unsigned)n);
}

static void
response(struct h2_stream *s)
{
	unsigned status = status_of(s->fields);
	bool too_big = s->fields != NULL && s->fields->too_big;

	if (status >= 100 && status < 200) {
		hb_h2__fields_free(&s->fields);
		return;
	}
	s->headers_done = s->responded = true;
	s->status = (uint16_t)status;
	if (too_big) {
		s->reason = HB_CLOSE_PROTOCOL_ERROR;
		s->failed_status = true;
	} else if (status < 200 || status > 299) {
		s->reason = HB_CLOSE_TUNNEL_REJECTED;
		s->failed_status = true;
	} else {
		/* What was written meanwhile may go. */
		(void)nghttp2_session_resume_data(s->h2->ng, s->id);
	}
}

static void
headers_complete(struct hb_h2 *h2, struct h2_stream *s)
{
	if (s->headers_done)
		return;
	if (h2->server) {
		s->headers_done = true;
		s->request_due = true;
	} else {
		response(s);
	}
}

static int
on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *user_data)
{
	struct hb_h2 *h2 = user_data;
	struct h2_stream *s;

	if (!hb_h2__guard_frame(h2, frame))
		return (NGHTTP2_ERR_CALLBACK_FAILURE);
	switch (frame->hd.type) {
	case NGHTTP2_GOAWAY:
		h2->goaway_got = true;
		h2->goaway_code = frame->goaway.error_code;
		return (0);
	case NGHTTP2_HEADERS:
	case NGHTTP2_DATA:
		break;
	default:
		return (0);
	}
	s = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
	if (s == NULL)
		return (0);
	if (frame->hd.type == NGHTTP2_HEADERS)
		headers_complete(h2, s);
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
		s->rx_end = true;
	hb_h2__mark(s);
	return (0);
}

static int
on_frame_begin(nghttp2_session *ng, const nghttp2_frame_hd *hd, void *user_data)
{
	(void)ng;
	return (hb_h2__guard_begin(user_data, hd) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE);
}

/* Frames of unknown types are counted in on_frame_begin; nobody wants their payload. */
static int
on_extension_chunk(nghttp2_session *ng, const nghttp2_frame_hd *hd, const uint8_t *p, size_t n,
	void *user_data)
{
	(void)ng;
	(void)hd;
	(void)p;
	(void)n;
	(void)user_data;
	return (NGHTTP2_ERR_CANCEL);
}

static int
on_extension(nghttp2_session *ng, void **payload, const nghttp2_frame_hd *hd, void *user_data)
{
	(void)ng;
	(void)payload;
	(void)hd;
	(void)user_data;
	return (NGHTTP2_ERR_CANCEL);
}

static int
on_data_chunk(
	nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *user_data)
{
	struct hb_h2 *h2 = user_data;
	struct h2_stream *s = nghttp2_session_get_stream_user_data(ng, id);

	(void)flags;
	if (s != NULL)
		hb_h2__stream_data(s, p, n);
	hb_h2__credit(h2, n);
	return (h2->n_slices == H2_SLICES_MAX ? NGHTTP2_ERR_PAUSE : 0);
}

static int
on_invalid_frame(nghttp2_session *ng, const nghttp2_frame *frame, int error, void *user_data)
{
	struct hb_h2 *h2 = user_data;
	struct h2_stream *s;

	(void)error;
	h2->guard.headers_ms = 0;
	s = frame->hd.stream_id == 0 ?
		NULL :
		nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
	if (s != NULL && s->reason == HB_CLOSE_NONE)
		s->reason = HB_CLOSE_PROTOCOL_ERROR;
	return (0);
}

/* The truth table of core/transport/transport.h. */
static enum hb_close_reason
ending(const struct h2_stream *s, uint32_t error_code)
{
	if (error_code == NGHTTP2_NO_ERROR && s->rx_end)
		return (HB_CLOSE_NONE);
	if (error_code == NGHTTP2_REFUSED_STREAM)
		return (HB_CLOSE_STREAM_REFUSED);
	return (HB_CLOSE_STREAM_RESET);
}

static int
on_stream_close(nghttp2_session *ng, int32_t id, uint32_t error_code, void *user_data)
{
	struct hb_h2 *h2 = user_data;
	struct h2_stream *s = nghttp2_session_get_stream_user_data(ng, id);

	HB_ASSERT(h2->active > 0);
	if (--h2->active == 0) {
		h2->guard.idle_ms = hb_now_ms(h2->worker);
		if (!h2->dead)
			hb_run_soon(h2->worker, &h2->run); /* idle_timeout begins */
	}
	if (s == NULL)
		return (0);
	s->over = true;
	if (s->reason == HB_CLOSE_NONE)
		s->reason = (uint8_t)ending(s, error_code);
	if (!s->tx_end_sent) {
		s->tx_gone = true;
		hb_buf_fini(&s->tx);
	}
	hb_h2__mark(s);
	return (0);
}

/* ------------------------------------------------------------------ receiving: telling */

static void
refuse_headers(struct h2_stream *s)
{
	struct hb_transport *t = &s->base;

	hb_h2__fields_free(&s->fields);
	hb_h2__count(s->h2, HB_H2_HEADERS_TOO_BIG);
	hb_h2_stream_reject(&t, 431, NULL, 0);
}

static void
tell_request(struct hb_h2 *h2, struct h2_stream *s)
{
	struct h2_fields *fields = s->fields;
	struct hb_h2_header *list;
	struct hb_h2_request r;

	s->request_due = false;
	s->offered = true;
	/* Reset in the same batch: not worth a connection of its own. */
	if ((s->over && s->reason != HB_CLOSE_NONE) || h2->ev == NULL) {
		struct hb_transport *t = &s->base;

		hb_transport_abort(&t, HB_CLOSE_STREAM_REFUSED);
		return;
	}
	if (fields != NULL && fields->too_big) {
		refuse_headers(s);
		return;
	}
	s->fields = NULL;
	list = hb_calloc(fields == NULL ? 1 : fields->n + 1, sizeof *list);
	hb_h2__fields_request(fields, &r, list);
	hb_transport_emit_connected(&s->base);
	hb_transport_emit_secured(&s->base);
	h2->ev->on_request(h2->sink, h2, &r, &s->base);
	hb_free(list);
	hb_h2__fields_free(&fields);
}

/* Everything that this part of a batch brought. */
static void
tell_streams(struct hb_h2 *h2)
{
	struct h2_stream *s;

	while (!hb_list_empty(&h2->dirty)) {
		s = HB_LIST_ENTRY(h2->dirty.next, struct h2_stream, dirty);
		hb_list_del(&s->dirty);
		if (s->request_due)
			tell_request(h2, s);
		if (s->h2 != NULL)
			hb_h2__stream_tell(s);
	}
}

static void
receive(struct hb_h2 *h2, struct hb_buf *buf)
{
	struct hb_slice slices[H2_SLICES_MAX];
	struct iovec iov;
	ssize_t n;

	HB_ASSERT(!h2->receiving);
	h2->receiving = true;
	while (buf->len > 0 && !h2->dead) {
		HB_ASSERT(hb_buf_iov(buf, &iov, 1) == 1);
		h2->slices = slices;
		h2->n_slices = 0;
		n = nghttp2_session_mem_recv(h2->ng, iov.iov_base, iov.iov_len);
		tell_streams(h2);
		h2->slices = NULL;
		if (n < 0) {
			hb_h2__fail(h2, hb_h2__guard_reason(h2, (int)n));
			break;
		}
		/* Zero: the session is over and takes nothing more. */
		if (n == 0 && nghttp2_session_want_read(h2->ng) == 0)
			break;
		hb_buf_drain(buf, (size_t)n);
	}
	h2->receiving = false;
	hb_buf_fini(buf);
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
	if (nghttp2_session_get_outbound_queue_size(h2->ng) > h2->opt.flood[HB_H2_FLOOD_OUTBOUND])
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
	else if (is_drained(h2) || nghttp2_is_done(h2))
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
		(void)send_all(h2);
		/* A watermark event inside send_all may have ended us. */
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

void
hb_h2_close(struct hb_h2 **ph2, enum hb_close_reason reason)
{
	struct hb_h2 *h2 = *ph2;

	HB_CHECK(h2, HB_H2_MAGIC);
	*ph2 = NULL;
	h2->ev = NULL;
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
	receive(h2, buf);
	settle(h2);
}

static void
lower_on_watermark(void *sink, struct hb_transport *t, bool high)
{
	struct hb_h2 *h2 = h2_of(sink);

	(void)t;
	h2->blocked = high;
	if (!high)
		settle(h2);
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

static void
make_once(void)
{
	HB_ASSERT(nghttp2_session_callbacks_new(&callbacks) == 0);
	nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
	nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, on_frame_length);
	nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
	nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_frame_begin);
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	nghttp2_session_callbacks_set_on_extension_chunk_recv_callback(
		callbacks, on_extension_chunk);
	nghttp2_session_callbacks_set_unpack_extension_callback(callbacks, on_extension);
	HB_ASSERT(nghttp2_option_new(&options) == 0);
	for (unsigned type = NGHTTP2_CONTINUATION + 1; type <= UINT8_MAX; type++)
		nghttp2_option_set_user_recv_extension_type(options, (uint8_t)type);
	nghttp2_option_set_no_auto_window_update(options, 1);
	nghttp2_option_set_no_closed_streams(options, 1);
	nghttp2_option_set_stream_reset_rate_limit(options, RESETS_BURST, RESETS_PER_S);
	nghttp2_option_set_max_outbound_ack(options, ACKS_MAX);
	nghttp2_option_set_max_continuations(options, HB_H2_CONTINUATIONS);
}

static void
set_options(struct hb_h2_options *to, const struct hb_h2_options *from)
{
	if (from != NULL)
		*to = *from;
#define DEFAULT(field, value) to->field = to->field == 0 ? (value) : to->field
	DEFAULT(streams_max, STREAMS_MAX);
	DEFAULT(stream_window, STREAM_WINDOW);
	DEFAULT(stream_window_max, WINDOW_GROWN);
	DEFAULT(session_window, SESSION_WINDOW);
	DEFAULT(frame_max, FRAME_MAX);
	DEFAULT(buffered_max, BUFFERED_MAX);
	DEFAULT(headers_max, HEADERS_MAX);
	DEFAULT(header_bytes_max, HEADER_BYTES_MAX);
	DEFAULT(flush_timeout_ms, HB_FLUSH_TIMEOUT_MS);
	DEFAULT(start_timeout_ms, TIMEOUT_MS);
	DEFAULT(headers_timeout_ms, TIMEOUT_MS);
	DEFAULT(keepalive_timeout_ms, KEEPALIVE_MS);
	DEFAULT(reject_status, hb_h2_reject_status);
#define X(e, n, d, t) DEFAULT(flood[HB_H2_FLOOD_##e], d);
	HB_H2_FLOODS(X)
#undef X
#undef DEFAULT
	to->stream_window = HB_MIN(to->stream_window, WINDOW_LIMIT);
	to->session_window = HB_MIN(to->session_window, WINDOW_LIMIT);
	to->stream_window_max = HB_MAX(
		HB_MIN(to->stream_window_max, to->session_window), to->stream_window);
}

static void
announce(struct hb_h2 *h2)
{
	nghttp2_settings_entry entries[] = {
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, h2->opt.stream_window },
		{ NGHTTP2_SETTINGS_MAX_FRAME_SIZE, h2->opt.frame_max },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, h2->opt.header_bytes_max },
		{ h2->server ? NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS :
			       NGHTTP2_SETTINGS_ENABLE_PUSH,
			h2->server ? NGHTTP2_MAX_WINDOW_SIZE : 0 },
	};

	HB_ASSERT(nghttp2_submit_settings(
			  h2->ng, NGHTTP2_FLAG_NONE, entries, HB_ARRAY_LEN(entries)) == 0);
	HB_ASSERT(nghttp2_session_set_local_window_size(
			  h2->ng, NGHTTP2_FLAG_NONE, 0, (int32_t)h2->opt.session_window) == 0);
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
	set_options(&h2->opt, opt);
	HB_ASSERT((server ? nghttp2_session_server_new2(&h2->ng, callbacks, h2, options) :
			    nghttp2_session_client_new2(&h2->ng, callbacks, h2, options)) == 0);
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

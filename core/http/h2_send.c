/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sending: nghttp2's frames to the lower transport. DATA frames are made of the writers' own slices.
 */
#include "core/http/h2_priv.h"

#define BATCH        HB_SCRATCH_SIZE
#define FRAME_MIN    16384u /* RFC 9113 6.5.2: what everybody takes */
#define SETTING_SIZE 6u
#define FRAME_HEADER 9u

/* ------------------------------------------------------------------ sending */

static void
flush(struct hb_h2 *h2, bool last)
{
	struct hb_buf b = { NULL, NULL, 0 };

	hb_buf_move(&b, &h2->out);
	if (h2->lower == NULL)
		hb_buf_fini(&b);
	else if (b.len > 0 || last)
		hb_transport_write(h2->lower, &b, last);
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
 * The first frame, SETTINGS. nghttp2 ends the session when a peer exceeds the limit that it
 * announced, so it knows a higher one than the wire: excess streams are refused one by one
 * (on_begin_headers).
 */
static void
begin(struct hb_h2 *h2, const uint8_t *p, size_t n)
{
	uint8_t *copy;
	size_t off;

	h2->begun = true;
	if (!h2->server)
		hb_buf_add(&h2->out, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
	copy = hb_buf_reserve(&h2->out, n);
	memcpy(copy, p, n);
	HB_ASSERT(n >= FRAME_HEADER && copy[3] == NGHTTP2_SETTINGS);
	for (off = FRAME_HEADER; h2->server && off + SETTING_SIZE <= n; off += SETTING_SIZE) {
		if (copy[off] == 0 && copy[off + 1] == NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
			put_u32(copy + off + 2, h2->opt->streams_max);
	}
	hb_buf_commit(&h2->out, n);
}

static bool
send_frames(struct hb_h2 *h2, bool last)
{
	const uint8_t *p;
	ssize_t n = 1;

	HB_ASSERT(!h2->sending);
	h2->sending = true;
	while (!h2->blocked && h2->lower != NULL) {
		n = nghttp2_session_mem_send(h2->ng, &p);
		if (n <= 0)
			break;
		if (!h2->begun)
			begin(h2, p, (size_t)n);
		else
			hb_buf_add(&h2->out, p, (size_t)n);
		if (h2->out.len >= BATCH)
			flush(h2, false);
	}
	flush(h2, last);
	h2->sending = false;
	return (n >= 0);
}

bool
hb_h2__send_all(struct hb_h2 *h2)
{
	return (send_frames(h2, false));
}

void
hb_h2__send_last(struct hb_h2 *h2)
{
	(void)send_frames(h2, true);
}

/* The session's own matters: endings, GOAWAY, room. */
static bool
needs_settling(const struct hb_h2 *h2)
{
	return (hb_h2__is_drained(h2) || (h2->goaway_got && !h2->goaway_told) ||
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
	if (!hb_h2__send_all(h2)) {
		h2->reason = HB_CLOSE_PROTOCOL_ERROR;
		hb_run_soon(h2->worker, &h2->run);
	} else if (needs_settling(h2)) {
		hb_run_soon(h2->worker, &h2->run);
	}
}

void
hb_h2__send_soon(struct hb_h2 *h2)
{
	HB_CHECK(h2, HB_H2_MAGIC);
	if (!h2->dead)
		hb_run_soon(h2->worker, &h2->run);
}

static int
on_send_data(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *header, size_t n,
	nghttp2_data_source *source, void *user_data)
{
	struct hb_h2 *h2 = user_data;
	struct h2_stream *s = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
	struct h2_busy *b;
	size_t quiet;

	(void)source;
	HB_ASSERT(s != NULL && frame->data.padlen == 0 && n <= hb_h2__tx_len(s));
	memcpy(hb_buf_reserve(&h2->out, FRAME_HEADER), header, FRAME_HEADER);
	hb_buf_commit(&h2->out, FRAME_HEADER);
	b = s->busy;
	/* An end alone. */
	if (n == 0)
		return (0);
	hb_buf_move_n(&h2->out, &b->tx, n);
	quiet = HB_MIN(n, (size_t)b->quiet);
	b->quiet -= (uint16_t)quiet;
	b->sent += (uint32_t)(n - quiet);
	if (s->writing)
		return (0);
	if (n > quiet)
		hb_h2__mark(s);
	hb_h2__busy_done(s);
	/* A batch is handed on before the next frame, not in the middle of one. */
	return (0);
}

static ssize_t
on_frame_length(nghttp2_session *ng, uint8_t type, int32_t id, int32_t session_window,
	int32_t stream_window, uint32_t frame_max, void *user_data)
{
	const struct h2_stream *s = nghttp2_session_get_stream_user_data(ng, id);
	size_t n = s == NULL ? 0 : hb_h2__tx_len(s);

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

void
hb_h2__send_callbacks(nghttp2_session_callbacks *c)
{
	nghttp2_session_callbacks_set_send_data_callback(c, on_send_data);
	nghttp2_session_callbacks_set_data_source_read_length_callback(c, on_frame_length);
	nghttp2_session_callbacks_set_on_frame_send_callback(c, on_frame_sent);
}

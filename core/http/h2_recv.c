/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receiving. nghttp2's callbacks only note what happened; sinks are told between two calls into
 * nghttp2, so that they may call anything.
 */
#include "core/http/h2_priv.h"

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
	if (h2->active > h2->opt->streams_max || h2->drain == H2_DRAIN_FINAL) {
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
	struct h2_stream *s = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);

	(void)flags;
	(void)user_data;
	/* Trailers end the stream; nobody asks for them here. */
	if (s == NULL || s->headers_done)
		return (0);
	hb_h2__fields_add(s, hb_strn(name, name_len), hb_strn(value, value_len));
	return (0);
}

/* The status of a response; 0 when there is none. */
static unsigned
status_of(const struct h2_fields *f)
{
	uint64_t n = 0;
	uint32_t i;

	for (i = 0; f != NULL && i < f->n; i++) {
		if (hb_str_eq(
			    hb_strn(f->text + f->v[i].name, f->v[i].name_len), HB_STR(":status")) &&
			hb_str_u64(hb_strn(f->text + f->v[i].value, f->v[i].value_len), 999, &n))
			break;
	}
	return ((unsigned)n);
}

static void
response(struct h2_stream *s)
{
	const struct h2_fields *fields = hb_h2__fields(s);
	unsigned status = status_of(fields);
	bool too_big = fields != NULL && fields->too_big;

	if (status >= 100 && status < 200) {
		hb_h2__fields_drop(s);
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
		hb_h2__stream_send(s);
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
		if (s->busy != NULL)
			hb_buf_fini(&s->busy->tx);
	}
	hb_h2__mark(s);
	return (0);
}

/* ------------------------------------------------------------------ receiving: telling */

static void
refuse_headers(struct h2_stream *s)
{
	struct hb_transport *t = &s->base;

	hb_h2__fields_drop(s);
	hb_h2__count(s->h2, HB_H2_HEADERS_TOO_BIG);
	hb_h2_stream_reject(&t, 431, NULL, 0);
}

static void
tell_request(struct hb_h2 *h2, struct h2_stream *s)
{
	struct h2_fields *fields = hb_h2__fields(s);
	struct hb_h2_header few[H2_HEADERS_FEW], *list = few;
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
	if (s->busy != NULL)
		s->busy->fields = NULL;
	if (fields != NULL && fields->n > H2_HEADERS_FEW)
		list = hb_calloc(fields->n, sizeof *list);
	hb_h2__fields_request(fields, &r, list);
	hb_transport_emit_connected(&s->base);
	hb_transport_emit_secured(&s->base);
	h2->ev->on_request(h2->sink, h2, &r, &s->base);
	if (list != few)
		hb_free(list);
	hb_h2__fields_free(&fields);
}

/* Everything that this part of a batch brought. */
static void
tell_streams(struct hb_h2 *h2)
{
	struct h2_stream *s;

	while (!hb_list_empty(&h2->dirty)) {
		s = HB_LIST_ENTRY(h2->dirty.next, struct h2_busy, dirty)->stream;
		hb_list_del(&s->busy->dirty);
		if (s->request_due)
			tell_request(h2, s);
		if (s->h2 != NULL)
			hb_h2__stream_tell(s);
	}
}

/*
 * Gives nghttp2 as many pieces as one delivery has slices for: what TLS has decrypted comes record by
 * record, and a stream shall write it in one call. Returns the bytes taken, or nghttp2's error.
 */
static ssize_t
take(struct hb_h2 *h2, const struct hb_buf *buf)
{
	struct iovec iov[HB_BUF_IOV_MAX];
	int i, pieces = hb_buf_iov(buf, iov, HB_BUF_IOV_MAX);
	ssize_t n, done = 0;

	for (i = 0; i < pieces && h2->n_slices < H2_SLICES_MAX; i++) {
		n = nghttp2_session_mem_recv(h2->ng, iov[i].iov_base, iov[i].iov_len);
		if (n < 0)
			return (n);
		done += n;
		if ((size_t)n < iov[i].iov_len)
			break;
	}
	return (done);
}

void
hb_h2__receive(struct hb_h2 *h2, struct hb_buf *buf)
{
	struct hb_slice slices[H2_SLICES_MAX];
	ssize_t n;

	HB_ASSERT(!h2->receiving);
	h2->receiving = true;
	while (buf->len > 0 && !h2->dead) {
		h2->slices = slices;
		h2->n_slices = 0;
		n = take(h2, buf);
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

void
hb_h2__recv_callbacks(nghttp2_session_callbacks *c)
{
	nghttp2_session_callbacks_set_on_begin_frame_callback(c, on_frame_begin);
	nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(c, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data_chunk);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(c, on_invalid_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(c, on_stream_close);
	nghttp2_session_callbacks_set_on_extension_chunk_recv_callback(c, on_extension_chunk);
	nghttp2_session_callbacks_set_unpack_extension_callback(c, on_extension);
}

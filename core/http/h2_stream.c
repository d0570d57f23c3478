/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stream as a transport. nghttp2 calls the session, the session notes on the stream what
 * happened, and hb_h2__stream_tell tells the sink when nghttp2 is not on the stack.
 */
#include "core/base/burst.h"
#include "core/http/h2_priv.h"

#define TLS_RECORD   16384u
#define FRAME_HEADER 9u

static const struct hb_transport_ops stream_ops;

static struct h2_stream *
stream_of(const struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(t->ops == &stream_ops);
	return (HB_CONTAINER((struct hb_transport *)(uintptr_t)t, struct h2_stream, base));
}

/* ------------------------------------------------------------------ life */

struct h2_stream *
hb_h2__stream_new(struct hb_h2 *h2, int32_t id)
{
	struct h2_stream *s = hb_burst_lasting(sizeof *s);

	hb_transport_init(&s->base, &stream_ops, h2->worker);
	s->h2 = h2;
	s->server = h2->server;
	s->id = id;
	s->opened_ms = (uint32_t)hb_now_ms(h2->worker);
	hb_list_add_tail(&h2->streams, &s->node);
	return (s);
}

static void
stream_free(struct hb_transport *t)
{
	struct h2_stream *s = stream_of(t);

	HB_ASSERT(s->busy == NULL);
	t->magic = 0;
	hb_burst_free(s, sizeof *s);
}

static void
bury(struct h2_stream *s)
{
	struct h2_linger *linger;

	if (s->h2 != NULL)
		hb_h2__detach(s);
	if (s->lingers) {
		linger = s->base.own;
		hb_timer_stop(&linger->timer);
		hb_free(linger);
		s->base.own = NULL;
		s->lingers = false;
	}
	/* Borrowed bytes would not live until the dead list is freed. */
	hb_h2__busy_free(s);
	hb_transport_bury(&s->base, stream_free);
}

void
hb_h2__stream_reset(struct h2_stream *s, uint32_t error_code)
{
	if (s->h2 == NULL || s->over)
		return;
	/* nghttp2 drops what was written and has not gone; what was put off counts as gone. */
	if (s->busy != NULL && s->busy->quiet > 0)
		hb_h2__send(s->h2);
	(void)nghttp2_submit_rst_stream(s->h2->ng, NGHTTP2_FLAG_NONE, s->id, error_code);
}

/* Nobody has seen it. */
static void
drop(struct h2_stream *s)
{
	struct hb_transport *t = &s->base;

	hb_transport_abort(&t, HB_CLOSE_STREAM_REFUSED);
}

void
hb_h2__stream_lost(struct h2_stream *s, enum hb_close_reason reason)
{
	HB_ASSERT(s->h2 != NULL);
	hb_h2__detach(s);
	if (!s->over && s->reason == HB_CLOSE_NONE && !(s->rx_end && s->tx_end_sent))
		s->reason = (uint8_t)reason;
	s->over = true;
	if (!s->offered) {
		drop(s);
		return;
	}
	if (s->base.dead) {
		bury(s);
		return;
	}
	if (s->busy != NULL)
		hb_buf_own(&s->busy->rx);
	hb_transport_run_soon(&s->base);
}

/* ------------------------------------------------------------------ telling the sink */

static void
discard(struct h2_stream *s)
{
	size_t n = hb_h2__rx_len(s);

	if (n > 0)
		hb_buf_fini(&s->busy->rx);
	hb_h2__busy_done(s);
	if (s->h2 == NULL || n == 0)
		return;
	s->h2->buffered -= n;
	if (!s->over)
		(void)nghttp2_session_consume_stream(s->h2->ng, s->id, n);
	hb_h2__credit(s->h2, 0);
}

static void
tell_data(struct h2_stream *s)
{
	struct hb_buf buf = { NULL, NULL, 0 };
	size_t n = hb_h2__rx_len(s);

	if ((n == 0 && (!s->rx_end || s->rx_end_told)) || !hb_transport_can_read(&s->base)) {
		if (n > 0) {
			hb_buf_own(&s->busy->rx);
			hb_h2__window_held(s);
		}
		return;
	}
	if (n > 0)
		hb_buf_move(&buf, &s->busy->rx);
	s->rx_end_told = s->rx_end;
	if (s->h2 != NULL)
		s->h2->buffered -= n;
	hb_transport_emit_data(&s->base, &buf, s->rx_end);
	if (s->h2 == NULL || n == 0)
		return;
	/* The sink has taken them: the peer may send as many again. */
	if (!s->over) {
		(void)nghttp2_session_consume_stream(s->h2->ng, s->id, n);
		hb_h2__window_taken(s, n);
	}
	hb_h2__credit(s->h2, 0);
}

static bool
sink_there(const struct h2_stream *s)
{
	return (!s->base.dead && s->base.close_due == HB_CLOSE_NONE);
}

/* A full session is full for those who write much. */
void
hb_h2__stream_level(struct h2_stream *s)
{
	bool full = s->writer != 0 && s->h2->blocked;

	hb_transport_level(&s->base, full ? SIZE_MAX : hb_h2__tx_len(s));
}

static void
tell_sent(struct h2_stream *s)
{
	uint32_t n = hb_h2__sent(s);

	if (n > 0) {
		s->busy->sent = 0;
		hb_transport_emit_sent(&s->base, n);
	}
	if (sink_there(s))
		hb_h2__stream_level(s);
	if (sink_there(s) && s->base.write_ended && !s->base.write_flushed &&
		(s->tx_end_sent || s->tx_gone))
		hb_transport_write_flushed(&s->base);
}

static bool
client_connects(const struct h2_stream *s)
{
	return (!s->server && s->responded && !s->failed_status && !s->connected_told);
}

void
hb_h2__stream_tell(struct h2_stream *s)
{
	if (s->base.dead) {
		if (s->over)
			bury(s);
		else
			discard(s);
		return;
	}
	if (!s->offered) {
		if (s->over)
			drop(s);
		return;
	}
	if (client_connects(s)) {
		s->connected_told = true;
		hb_transport_emit_connected(&s->base);
		hb_transport_emit_secured(&s->base);
		hb_h2__fields_drop(s);
	}
	if (sink_there(s))
		tell_data(s);
	if (sink_there(s))
		tell_sent(s);
	if (sink_there(s) && s->reason != HB_CLOSE_NONE && hb_h2__rx_len(s) == 0)
		hb_transport_emit_closed(&s->base, (enum hb_close_reason)s->reason);
	hb_h2__busy_done(s);
}

/* ------------------------------------------------------------------ bytes from and to nghttp2 */

void
hb_h2__stream_data(struct h2_stream *s, const uint8_t *p, size_t n)
{
	struct hb_h2 *h2 = s->h2;

	if (s->base.dead || s->failed_status) {
		(void)nghttp2_session_consume_stream(h2->ng, s->id, n);
		/* RFC 9113 8.1: a server that has said all may ask its client to stop. */
		if (s->tx_end_sent && h2->server)
			hb_h2__stream_reset(s, NGHTTP2_NO_ERROR);
		return;
	}
	HB_ASSERT(h2->n_slices < H2_SLICES_MAX);
	hb_buf_borrow(&hb_h2__busy(s)->rx, &h2->slices[h2->n_slices++], p, n);
	h2->buffered += n;
	hb_h2__mark(s);
}

/* Header and payload fill whole TLS records where the payload is long enough: with batches below it is worth
 * less than what can be measured, without them a record and a system call for the last 9 bytes. */
static size_t
frame_size(size_t n)
{
	size_t whole = (n + FRAME_HEADER) / TLS_RECORD * TLS_RECORD;

	return (whole > FRAME_HEADER ? whole - FRAME_HEADER : n);
}

/*
 * Once all that there is has been taken, nghttp2 forgets that the stream sends: an idle one costs no
 * queue entry, and is not asked in vain.
 */
static ssize_t
stream_read(struct h2_stream *s, size_t max, uint32_t *flags)
{
	size_t tx = hb_h2__tx_len(s), n = HB_MIN(max, tx);

	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (n < tx)
		return ((ssize_t)frame_size(n));
	*flags |= NGHTTP2_DATA_FLAG_EOF | (s->tx_end ? 0 : NGHTTP2_DATA_FLAG_NO_END_STREAM);
	s->sends = false;
	return ((ssize_t)n);
}

static ssize_t
read_data(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t max, uint32_t *flags,
	nghttp2_data_source *source, void *user_data)
{
	struct h2_stream *s = nghttp2_session_get_stream_user_data(ng, id);

	(void)buf;
	(void)source;
	(void)user_data;
	/* Reset by us: the RST_STREAM is on its way. */
	if (s == NULL)
		return (NGHTTP2_ERR_DEFERRED);
	return (stream_read(s, max, flags));
}

void
hb_h2__stream_send(struct h2_stream *s)
{
	static const nghttp2_data_provider provider = { .read_callback = read_data };

	/* A client sends nothing before it was accepted. */
	if (s->sends || !s->responded || s->over || s->h2 == NULL ||
		(hb_h2__tx_len(s) == 0 && !(s->tx_end && !s->tx_end_sent)))
		return;
	s->sends = nghttp2_submit_data(s->h2->ng, NGHTTP2_FLAG_END_STREAM, s->id, &provider) == 0;
}

/* ------------------------------------------------------------------ header blocks */

static nghttp2_nv
nv(struct hb_str name, struct hb_str value)
{
	return ((nghttp2_nv){ (uint8_t *)(uintptr_t)name.p, (uint8_t *)(uintptr_t)value.p, name.len,
		value.len, NGHTTP2_NV_FLAG_NONE });
}

/*
 * What no other stream repeats is not put into the peer's table (RFC 7541 6.2.2): it would push out
 * what others repeat, and each later stream would be compared with it (4,000 instructions).
 */
static bool
is_unique(struct hb_str name)
{
	return (hb_str_eq(name, HB_STR("traceparent")) || hb_str_eq(name, HB_STR("forwarded")));
}

int
hb_h2__stream_submit(struct h2_stream *s, unsigned status, const struct hb_h2_header *headers,
	size_t n, bool body)
{
	const char text[3] = { (char)('0' + status / 100), (char)('0' + status / 10 % 10),
		(char)('0' + status % 10) };
	nghttp2_nv few[H2_HEADERS_FEW], *v = few;
	size_t i;
	int r;

	HB_ASSERT(status >= 200 && status <= 999 && !s->responded);
	if (n + 1 > H2_HEADERS_FEW)
		v = hb_calloc(n + 1, sizeof *v);
	v[0] = nv(HB_STR(":status"), hb_strn(text, sizeof text));
	for (i = 0; i < n; i++)
		v[i + 1] = nv(headers[i].name, headers[i].value);
	r = nghttp2_submit_headers(s->h2->ng, body ? NGHTTP2_FLAG_NONE : NGHTTP2_FLAG_END_STREAM,
		s->id, NULL, v, n + 1, NULL);
	if (v != few)
		hb_free(v);
	s->responded = true;
	s->status = (uint16_t)status;
	return (r);
}

int
hb_h2__stream_request(struct h2_stream *s, const struct hb_h2_request *r)
{
	const struct {
		struct hb_str name, value;
	} pseudo[] = {
		{ HB_STR(":method"), r->method.len > 0 ? r->method : HB_STR("CONNECT") },
		{ HB_STR(":protocol"), r->protocol },
		{ HB_STR(":scheme"), r->scheme },
		{ HB_STR(":authority"), r->authority },
		{ HB_STR(":path"), r->path },
	};
	nghttp2_nv few[H2_HEADERS_FEW], *v = few;
	size_t i, n = 0;
	int id;

	if (r->n_headers + HB_ARRAY_LEN(pseudo) > H2_HEADERS_FEW)
		v = hb_calloc(r->n_headers + HB_ARRAY_LEN(pseudo), sizeof *v);
	for (i = 0; i < HB_ARRAY_LEN(pseudo); i++) {
		if (pseudo[i].value.len > 0)
			v[n++] = nv(pseudo[i].name, pseudo[i].value);
	}
	for (i = 0; i < r->n_headers; i++) {
		v[n] = nv(r->headers[i].name, r->headers[i].value);
		if (is_unique(r->headers[i].name))
			v[n].flags = NGHTTP2_NV_FLAG_NO_INDEX;
		n++;
	}
	id = nghttp2_submit_headers(s->h2->ng, NGHTTP2_FLAG_NONE, -1, NULL, v, n, s);
	if (v != few)
		hb_free(v);
	return (id);
}

/* ------------------------------------------------------------------ slots */

/*
 * A write that is not worth a record and a system call of its own: it goes at the end of this turn,
 * with what the session's other streams have by then.
 */
static bool
put_off(struct h2_stream *s)
{
	struct h2_busy *b = s->busy;

	if (b->tx.len > H2_SMALL_WRITE)
		return (false);
	hb_buf_own(&b->tx);
	b->quiet = (uint16_t)b->tx.len;
	hb_h2__stream_send(s);
	hb_h2__send_soon(s->h2);
	return (true);
}

static void
stream_write(struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct h2_stream *s = stream_of(t);
	struct h2_busy *b;
	size_t queued;
	uint32_t sent;
	bool first;

	if (s->h2 == NULL || s->over || s->tx_gone) {
		hb_buf_fini(buf);
		if (end)
			hb_transport_run_soon(t);
		return;
	}
	s->tx_end = end;
	b = hb_h2__busy(s);
	queued = b->tx.len - b->quiet;
	sent = b->sent;
	first = b->tx.len == 0;
	hb_buf_move(&b->tx, buf);
	if (first && put_off(s)) {
		hb_h2__busy_done(s);
		return;
	}
	s->writing = true;
	hb_h2__writer_wrote(s);
	hb_h2__stream_send(s);
	hb_h2__send(s->h2);
	s->writing = false;
	if (t->dead) {
		hb_h2__busy_free(s);
		return;
	}
	b = hb_h2__busy(s);
	/* on_sent is for bytes that had to wait. */
	b->sent = sent + (uint32_t)HB_MIN((size_t)(b->sent - sent), queued);
	if (b->tx.len > 0)
		hb_buf_own(&b->tx);
	hb_h2__stream_level(s);
	if (!t->dead && (hb_h2__sent(s) > 0 || s->tx_end_sent))
		hb_transport_run_soon(t);
	hb_h2__busy_done(s);
}

static void
stream_read_enable(struct hb_transport *t, bool on)
{
	struct h2_stream *s = stream_of(t);

	if (on && (hb_h2__rx_len(s) > 0 || s->rx_end || s->reason != HB_CLOSE_NONE))
		hb_transport_run_soon(t);
}

static void
linger_timeout(struct hb_timer *timer)
{
	struct h2_stream *s = HB_CONTAINER(timer, struct h2_linger, timer)->stream;
	struct hb_h2 *h2 = s->h2;

	hb_transport_flush_timed_out(&s->base);
	hb_h2__stream_reset(s, NGHTTP2_CANCEL);
	bury(s);
	if (h2 != NULL)
		hb_h2__send_soon(h2);
}

/* 200, unless it was answered. */
static void
answer(struct h2_stream *s)
{
	struct hb_h2 *h2 = s->h2;

	if (!s->responded && h2->ev != NULL && h2->ev->on_accept != NULL)
		h2->ev->on_accept(h2->sink, h2, &s->base);
	if (!s->responded)
		(void)hb_h2__stream_submit(s, 200, NULL, 0, true);
}

static void
stream_finish(struct hb_transport *t, enum hb_close_reason reason)
{
	struct h2_stream *s = stream_of(t);
	struct h2_linger *linger;

	(void)reason;
	if (s->h2 == NULL || s->over) {
		bury(s);
		return;
	}
	discard(s);
	if (s->h2->server)
		answer(s);
	t->own = linger = hb_calloc(1, sizeof *linger);
	s->lingers = true;
	linger->stream = s;
	hb_timer_init(&linger->timer, t->worker, linger_timeout);
	hb_timer_start(&linger->timer, s->h2->opt->flush_timeout_ms);
	s->tx_end = true;
	hb_h2__stream_send(s);
	hb_h2__send_soon(s->h2);
}

static void
stream_abort(struct hb_transport *t, enum hb_close_reason reason)
{
	struct h2_stream *s = stream_of(t);
	struct hb_h2 *h2 = s->h2;

	hb_h2__stream_reset(s, hb_h2__error_code(reason));
	bury(s);
	if (h2 != NULL)
		hb_h2__send_soon(h2);
}

static void
stream_accept(struct hb_transport *t)
{
	struct h2_stream *s = stream_of(t);

	if (s->h2 == NULL || s->over || !s->h2->server)
		return;
	answer(s);
	hb_h2__send_soon(s->h2);
}

static void
reject_with(struct h2_stream *s, unsigned status, const struct hb_h2_header *headers, size_t n)
{
	struct hb_h2 *h2 = s->h2;

	if (h2 == NULL || s->over) {
		bury(s);
		return;
	}
	if (!h2->server || s->responded) {
		hb_h2__stream_reset(s, NGHTTP2_CANCEL);
		bury(s);
		hb_h2__send_soon(h2);
		return;
	}
	discard(s);
	/* RFC 9113 8.1: the whole answer first, then NO_ERROR so that the client stops sending. */
	s->stop_after_end = true;
	(void)hb_h2__stream_submit(s, status, headers, n, false);
	hb_h2__send_soon(h2);
}

static void
stream_reject(struct hb_transport *t, enum hb_close_reason reason)
{
	struct h2_stream *s = stream_of(t);
	struct hb_h2 *h2 = s->h2;

	if (h2 != NULL && h2->reject != NULL)
		reject_with(s, h2->reject->status, h2->reject->headers, h2->reject->n_headers);
	else
		reject_with(s, h2 == NULL ? 0 : hb_h2_status(h2->opt->flavour, reason), NULL, 0);
}

static size_t
stream_pending(const struct hb_transport *t)
{
	return (hb_h2__tx_len(stream_of(t)));
}

static struct hb_transport *
stream_inner(struct hb_transport *t)
{
	struct h2_stream *s = stream_of(t);

	return (s->h2 == NULL ? NULL : s->h2->lower);
}

static void
stream_closed(struct hb_transport *t)
{
	struct h2_stream *s = stream_of(t);
	struct hb_h2 *h2 = s->h2;

	/* A client that was refused still owes the peer a word. */
	if (!s->over && s->reason != HB_CLOSE_NONE)
		hb_h2__stream_reset(s, NGHTTP2_CANCEL);
	bury(s);
	if (h2 != NULL)
		hb_h2__send_soon(h2);
}

static void
stream_run(struct hb_transport *t)
{
	struct h2_stream *s = stream_of(t);
	struct hb_h2 *h2 = s->h2;

	hb_h2__stream_tell(s);
	/* Credit that the sink's reading gave back. */
	if (h2 != NULL)
		hb_h2__send_soon(h2);
}

static const struct hb_transport_ops stream_ops = {
	.name = "stream",
	.write = stream_write,
	.read_enable = stream_read_enable,
	.finish = stream_finish,
	.abort = stream_abort,
	.accept = stream_accept,
	.reject = stream_reject,
	.pending = stream_pending,
	.inner = stream_inner,
	.closed = stream_closed,
	.run = stream_run,
};

/* ------------------------------------------------------------------ for other rooms */

bool
hb_h2_is_stream(const struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	return (t->ops == &stream_ops);
}

struct hb_h2 *
hb_h2_stream_session(const struct hb_transport *t)
{
	return (stream_of(t)->h2);
}

int32_t
hb_h2_stream_id(const struct hb_transport *t)
{
	return (stream_of(t)->id);
}

const char *
hb_h2_stream_state(const struct hb_transport *t)
{
	const struct h2_stream *s = stream_of(t);

	if (s->over || s->h2 == NULL || t->dead || (s->rx_end && s->tx_end))
		return ("closing");
	if (!s->responded)
		return ("opening");
	return (s->rx_end || s->tx_end ? "half-closed" : "open");
}

uint64_t
hb_h2_stream_age_ms(const struct hb_transport *t)
{
	return ((uint32_t)hb_now_ms(t->worker) - stream_of(t)->opened_ms);
}

unsigned
hb_h2_stream_status(const struct hb_transport *t)
{
	return (stream_of(t)->status);
}

void
hb_h2_stream_response(const struct hb_transport *t,
	void (*fn)(void *arg, struct hb_str name, struct hb_str value), void *arg)
{
	const struct h2_stream *s = stream_of(t);
	const struct h2_fields *f = hb_h2__fields(s);

	HB_ASSERT(!s->server);
	for (uint32_t i = 0; f != NULL && s->headers_done && i < f->n; i++) {
		const struct h2_field *v = &f->v[i];

		if (f->text[v->name] != ':')
			fn(arg, hb_strn(f->text + v->name, v->name_len),
				hb_strn(f->text + v->value, v->value_len));
	}
}

void
hb_h2_stream_accept(struct hb_transport *t, const struct hb_h2_header *headers, size_t n)
{
	struct h2_stream *s = stream_of(t);

	if (s->h2 == NULL || s->over || s->responded || !s->h2->server)
		return;
	(void)hb_h2__stream_submit(s, 200, headers, n, true);
	hb_h2__send_soon(s->h2);
}

void
hb_h2_stream_reject(
	struct hb_transport **tp, unsigned status, const struct hb_h2_header *headers, size_t n)
{
	const struct h2_reject reject = { headers, n, status };
	struct hb_h2 *h2 = stream_of(*tp)->h2;

	if (h2 != NULL)
		h2->reject = &reject;
	hb_transport_reject(tp, HB_CLOSE_LOCAL_CLOSE);
	if (h2 != NULL)
		h2->reject = NULL;
}

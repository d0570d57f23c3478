/* SPDX-License-Identifier: Apache-2.0 */
/* Connections by all ways, and what lanes have in common. */
#include "core/identity/reload.h"
#include "core/transport/tcp.h"
#include "test/bench/load/load.h"

#define WINDOW      (1u << 30) /* blind.c gives it back in time */
#define FLUSH_MS    60000u     /* longer than closing may take: nothing is reset */
#define UPLOAD_HIGH (2u * LOAD_CHUNK)

static const struct hb_transport_events lane_events;

/* ------------------------------------------------------------------ TLS */

static bool
is_peer(const void *arg, struct hb_str value)
{
	return (hb_str_eq(hb_str(arg), value));
}

static int
read_pem(const char *path, struct hb_text *ret, struct hb_err *reterr)
{
	return (path == NULL ? 0 : hb_file_read(path, ret, reterr));
}

int
load_tls_new(struct load_run *run, struct hb_tls_ctx **ret, struct hb_err *reterr)
{
	static const char *const h2[] = { "h2" };
	const struct load_options *o = run->o;
	struct hb_text ca = { 0 }, cert = { 0 }, key = { 0 };
	struct hb_tls_san_match san = { HB_SAN_URI, is_peer, o->peer };
	struct hb_tls_cert pair = { .chain_file = o->cert, .key_file = o->key };
	struct hb_tls_config config = {
		.alpn = h2,
		.n_alpn = run->via == LOAD_TLS ? 0 : 1,
		.certs = &pair,
		.n_certs = o->cert == NULL ? 0 : 1,
		.trust_file = o->ca,
		.sans = &san,
		.n_sans = o->peer == NULL ? 0 : 1,
		.sni = o->sni,
		.min = HB_TLS_1_3,
		.max_sessions = o->resume ? (unsigned)o->connections : 0,
	};
	int r = read_pem(o->ca, &ca, reterr);

	if (r == 0)
		r = read_pem(o->cert, &cert, reterr);
	if (r == 0)
		r = read_pem(o->key, &key, reterr);
	if (r == 0) {
		config.trust_pem = hb_strn(ca.p, ca.len);
		pair.chain = hb_strn(cert.p, cert.len);
		pair.key = hb_strn(key.p, key.len);
		*ret = hb_tls_ctx_new(&config, reterr);
		r = *ret == NULL ? -EINVAL : 0;
	}
	hb_text_fini(&ca);
	hb_text_fini(&cert);
	hb_text_fini(&key);
	return (r);
}

/* ------------------------------------------------------------------ lanes */

static struct load_lane *
lane_of(void *sink)
{
	struct load_lane *l = sink;

	HB_CHECK(l->conn->run, LOAD_RUN_MAGIC);
	return (l);
}

void
load_lane_write(struct load_lane *l, const void *p, size_t n, bool end)
{
	struct hb_buf b = { NULL, NULL, 0 };
	struct hb_slice s;

	if (n > 0)
		hb_buf_borrow(&b, &s, p, n);
	l->ended = l->ended || end;
	hb_transport_write(l->t, &b, end);
}

/* Whether the connection is over, when nothing is on the stack. */
static void
look(struct load_conn *c)
{
	hb_run_soon(c->run->w, &c->task);
}

void
load_lane_finish(struct load_lane *l)
{
	hb_run_cancel(&l->run);
	l->open = false;
	if (l->t != NULL)
		hb_transport_finish(&l->t, HB_CLOSE_DONE);
	look(l->conn);
}

static void
lane_attach(struct load_lane *l, struct hb_transport *t)
{
	l->t = t;
	l->open = l->ended = l->raw = false;
	l->sent = 0;
	l->got = 0;
	hb_transport_attach(t, &lane_events, l);
	if (l->conn->run->mode->kind == LOAD_UPLOAD)
		hb_transport_set_high(t, UPLOAD_HIGH);
	hb_transport_read_disable(t, -1);
}

static struct hb_transport *
open_stream(struct hb_h2 *h2, const char *authority)
{
	struct hb_h2_request r = { .authority = hb_str(authority) };

	return (hb_h2_open(h2, &r));
}

/* False: the session is gone, or has no room now and will say when. */
static bool
lane_open(struct load_lane *l, uint64_t now)
{
	struct load_conn *c = l->conn;
	const struct load_options *o = c->run->o;
	bool twice = c->run->via == LOAD_DOUBLE;
	struct hb_h2 *h2 = twice ? c->inner : c->h2;
	struct hb_transport *t;

	t = h2 == NULL ? NULL : open_stream(h2, twice ? o->inner_authority : o->authority);
	if (t == NULL)
		return (false);
	l->begun_ns = now;
	lane_attach(l, t);
	return (true);
}

static void
open_lanes(struct load_conn *c)
{
	uint64_t now = load_now_ns();

	for (uint64_t i = 0; i < c->run->o->streams && !load_stopping(c->run); i++) {
		struct load_lane *l = &c->lanes[i];

		if (l->t == NULL && !l->ended && !lane_open(l, now))
			return;
	}
}

void
load_lane_next(struct load_lane *l)
{
	struct load_conn *c = l->conn;

	load_lane_finish(l);
	if (c->run->mode->kind == LOAD_STREAM) {
		(void)lane_open(l, load_now_ns());
		return;
	}
	c->again = true;
	if (c->h2 != NULL)
		hb_h2_drain(c->inner != NULL ? c->inner : c->h2);
}

static bool
is_resumed(struct load_lane *l)
{
	struct load_conn *c = l->conn;
	struct hb_transport *t = c->h2 != NULL ? hb_h2_lower(c->h2) : l->t;
	const struct hb_tls_info *info = t == NULL ? NULL : hb_transport_tls_info(t);

	return (info != NULL && info->resumed);
}

static void
lane_on_secured(void *sink, struct hb_transport *t)
{
	struct load_lane *l = lane_of(sink);
	struct load_conn *c = l->conn;
	struct load_run *run = c->run;
	char first[2048];
	size_t n = run->hello.len;

	(void)t;
	l->open = true;
	c->n_open++;
	c->resumed = is_resumed(l);
	HB_ASSERT(n < sizeof first);
	if (n > 0)
		memcpy(first, run->hello.p, n);
	first[n] = run->mode->command;
	load_lane_write(l, first, n + 1, false);
	if (run->mode->open != NULL)
		run->mode->open(l);
	if (run->mode->kind == LOAD_DOWNLOAD && !run->honest && c->n_open == run->o->streams) {
		c->begin_blind = true;
		look(c);
	}
}

static void
lane_on_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct load_lane *l = lane_of(sink);

	(void)t;
	l->conn->run->mode->data(l, buf, end);
	hb_buf_fini(buf);
}

static void
lane_on_watermark(void *sink, struct hb_transport *t, bool high)
{
	struct load_lane *l = lane_of(sink);

	(void)t;
	if (!high && l->open && l->conn->run->mode->room != NULL)
		l->conn->run->mode->room(l);
}

/* Not when the whole session is lost: that is one error, told by session_on_closed. */
static void
lane_error(struct load_lane *l, struct hb_transport *t, enum hb_close_reason reason)
{
	const struct hb_tls_info *info = hb_transport_tls_info(t);
	const char *failure = info != NULL && info->failure != NULL ? info->failure : "";
	const char *what = hb_h2_is_stream(t) ? "stream" : "connection";
	unsigned status = hb_h2_is_stream(t) ? hb_h2_stream_status(t) : 0;

	if (status >= 300)
		load_error(l->conn->run, "a stream was refused with status %u", status);
	else
		load_error(l->conn->run, "a %s %s: %s%s%s", what,
			l->open ? "was lost" : "could not be opened", hb_close_info(reason)->text,
			*failure == '\0' ? "" : ": ", failure);
}

static void
lane_on_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	struct load_lane *l = lane_of(sink);
	struct load_conn *c = l->conn;
	struct load_run *run = c->run;
	bool with_session = hb_h2_is_stream(t) && hb_h2_stream_session(t) == NULL;

	hb_run_cancel(&l->run);
	l->t = NULL;
	if (!load_stopping(run) && !with_session)
		lane_error(l, t, reason);
	else if (load_stopping(run) && run->mode->kind == LOAD_UPLOAD && reason != HB_CLOSE_DONE)
		load_error(run, "no answer to an upload: %s", hb_close_info(reason)->text);
	l->open = false;
	l->ended = true;
	if (run->mode->kind == LOAD_CONNECT)
		c->again = true;
	look(c);
}

static const struct hb_transport_events lane_events = {
	.on_secured = lane_on_secured,
	.on_data = lane_on_data,
	.on_watermark = lane_on_watermark,
	.on_closed = lane_on_closed,
};

static void
lane_run(struct hb_run *r)
{
	struct load_lane *l = HB_CONTAINER(r, struct load_lane, run);

	if (l->t != NULL && l->open && l->conn->run->mode->room != NULL)
		l->conn->run->mode->room(l);
}

/* ------------------------------------------------------------------ sessions */

static void
session_on_room(void *sink, struct hb_h2 *h2)
{
	struct load_conn *c = sink;

	if (h2 == (c->run->via == LOAD_DOUBLE ? c->inner : c->h2))
		open_lanes(c);
}

static void
session_on_closed(void *sink, struct hb_h2 *h2, enum hb_close_reason reason)
{
	struct load_conn *c = sink;
	bool inner = h2 == c->inner;
	struct hb_transport *lower = hb_h2_lower(h2);
	const struct hb_tls_info *info = lower == NULL ? NULL : hb_transport_tls_info(lower);
	const char *more = info != NULL && info->failure != NULL ? info->failure : "";

	if (inner)
		c->inner = NULL;
	else
		c->h2 = NULL;
	/* The outer session's end takes the inner one along. */
	if (!load_stopping(c->run) && !c->again && (!inner || c->h2 != NULL))
		load_error(c->run, "%s session was lost: %s%s%s", inner ? "an inner" : "an HTTP/2",
			hb_close_info(reason)->text, *more == '\0' ? "" : ": ", more);
	if (c->run->mode->kind == LOAD_CONNECT)
		c->again = true;
	if (inner && c->h2 != NULL)
		hb_h2_drain(c->h2);
	look(c);
}

static const struct hb_h2_events session_events = {
	.on_room = session_on_room,
	.on_closed = session_on_closed,
};

static struct hb_h2 *
session_on(struct load_conn *c, struct hb_transport *lower)
{
	const struct load_options *o = c->run->o;
	struct hb_h2_options h = {
		.stream_window = WINDOW,
		.session_window = WINDOW,
		.frame_max = (uint32_t)o->max_frame,
		.flush_timeout_ms = FLUSH_MS,
	};

	/* The endpoint is ours, and what the proxy does often is what is measured. */
	for (unsigned i = 0; i < HB_H2_FLOOD_MAX; i++)
		h.flood[i] = UINT32_MAX;
	return (hb_h2_new(hb_tls_new(lower, c->tls, NULL), false, &h, &session_events, c));
}

/* ------------------------------------------------------------------ connections */

static void
start_sessions(struct load_conn *c)
{
	struct hb_transport *stream;

	c->h2 = session_on(c, c->tcp);
	if (c->run->via == LOAD_DOUBLE) {
		stream = open_stream(c->h2, c->run->o->authority);
		HB_ASSERT(stream != NULL);
		c->outer_id = hb_h2_stream_id(stream);
		c->inner = session_on(c, stream);
	}
	open_lanes(c);
}

void
load_conn_start(struct load_conn *c)
{
	struct load_run *run = c->run;
	struct hb_tcp_connect connect = {
		.addr = (const struct sockaddr *)&run->to,
		.addr_len = run->to_len,
		.options = { .flush_timeout_ms = FLUSH_MS },
	};
	struct hb_err err;

	c->again = c->blind = false;
	c->n_open = c->n_answered = 0;
	for (uint64_t i = 0; i < run->o->streams; i++)
		c->lanes[i].ended = false;
	c->lanes[0].begun_ns = load_now_ns();
	c->tcp = hb_tcp_connect(run->w, &connect, &err);
	if (c->tcp == NULL) {
		load_error(run, "%s", err.text);
		c->again = run->mode->kind == LOAD_CONNECT;
		look(c);
		return;
	}
	if (run->mode->kind == LOAD_DOWNLOAD)
		c->tcp->watch = &c->watch;
	switch (run->via) {
	case LOAD_RAW:
	case LOAD_SNI:
		lane_attach(&c->lanes[0], c->tcp);
		break;
	case LOAD_TLS:
		lane_attach(&c->lanes[0], hb_tls_new(c->tcp, c->tls, NULL));
		break;
	case LOAD_H2:
	case LOAD_DOUBLE:
		start_sessions(c);
		break;
	}
}

bool
load_conn_idle(const struct load_conn *c)
{
	bool idle = c->h2 == NULL && c->inner == NULL;

	for (uint64_t i = 0; i < c->run->o->streams && idle; i++)
		idle = c->lanes[i].t == NULL;
	return (idle);
}

void
load_conn_end(struct load_conn *c, bool now)
{
	if (now) {
		for (uint64_t i = 0; i < c->run->o->streams; i++)
			load_lane_finish(&c->lanes[i]);
		if (c->inner != NULL)
			hb_h2_abort(&c->inner, HB_CLOSE_DONE);
		if (c->h2 != NULL)
			hb_h2_abort(&c->h2, HB_CLOSE_DONE);
	} else if (c->inner != NULL) {
		hb_h2_drain(c->inner);
	} else if (c->h2 != NULL) {
		hb_h2_drain(c->h2);
	}
}

static void
conn_task(struct hb_run *r)
{
	struct load_conn *c = HB_CONTAINER(r, struct load_conn, task);

	if (c->begin_blind || c->blind)
		load_blind_begin(c);
	c->begin_blind = false;
	if (load_stopping(c->run) || !load_conn_idle(c))
		return;
	if (c->again)
		load_conn_start(c);
	else
		load_lost(c);
}

static void
tcp_gone(struct hb_transport_watch *w, enum hb_close_reason ended, uint64_t in, uint64_t out)
{
	(void)ended;
	(void)in;
	(void)out;
	HB_CONTAINER(w, struct load_conn, watch)->tcp = NULL;
}

void
load_conn_init(struct load_conn *c, struct load_run *run)
{
	struct hb_err err;

	c->run = run;
	c->tls = run->tls;
	/* A session is resumed once: side by side on one context they would run out. */
	if (run->tls != NULL && run->o->resume)
		HB_ASSERT(load_tls_new(run, &c->tls, &err) == 0);
	c->watch.gone = tcp_gone;
	c->lanes = hb_calloc(run->o->streams, sizeof *c->lanes);
	hb_run_init(&c->task, conn_task);
	for (uint64_t i = 0; i < run->o->streams; i++) {
		c->lanes[i].conn = c;
		hb_run_init(&c->lanes[i].run, lane_run);
	}
}

void
load_conn_fini(struct load_conn *c)
{
	if (c->tls != NULL && c->tls != c->run->tls)
		hb_tls_ctx_free(&c->tls);
	hb_free(c->lanes);
}

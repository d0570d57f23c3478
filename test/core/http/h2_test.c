/* SPDX-License-Identifier: Apache-2.0 */
/* Streams between a client and a server session of ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "test/core/http/h2_rig.h"

#define MIB (1024u * 1024u)

static struct hbt_pki pki;
static struct rig r;

static int
setup(void **state)
{
	(void)hbt_init(HB_IO_EPOLL);
	hbt_pki_init(&pki);
	return (0);
}

static int
teardown(void **state)
{
	hbt_pki_fini(&pki);
	hbt_fini();
	return (0);
}

static int
fresh(void **state)
{
	memset(&r, 0, sizeof r);
	r.pki = &pki;
	return (0);
}

static void
again(void)
{
	rig_stop(&r);
	(void)fresh(NULL);
}

static int
stop(void **state)
{
	rig_stop(&r);
	return (0);
}

static void
echoes(struct rig *rig, struct hbt_sink *b)
{
	(void)rig;
	b->echo = true;
}

static void
ends_on_end(struct rig *rig, struct hbt_sink *b)
{
	(void)rig;
	b->end_on_end = true;
}

static void
echo(enum rig_below below, size_t piece)
{
	unsigned i, k;

	r.prepare = echoes;
	rig_start(&r, below, piece);
	for (k = 0; k < 3; k++)
		rig_open(&r);
	for (i = 0; i < 3; i++) {
		rig_connect(&r, i);
		hbt_writez(&r.a[i], "hello", false);
	}
	for (i = 0; i < 3; i++) {
		HBT_UNTIL(hbt_gotz(&r.a[i], "hello"));
		hbt_writez(&r.a[i], " again", true);
	}
	for (i = 0; i < 3; i++) {
		HBT_UNTIL(r.a[i].closed == 1 && r.b[i].closed == 1);
		assert_true(hbt_gotz(&r.a[i], "hello again"));
		assert_int_equal(r.a[i].reason, HB_CLOSE_DONE);
		assert_int_equal(r.b[i].reason, HB_CLOSE_DONE);
	}
	assert_string_equal(r.authority, "10.0.0.1:80");
	assert_string_equal(r.method, "CONNECT");
	assert_int_equal(hb_h2_streams(r.client), 0);
	assert_int_equal(hb_h2_streams(r.server), 0);
	again();
}

static void
test_h2__echo(void **state)
{
	static const size_t pieces[] = { 0, 1, 7, 8 };
	unsigned i;

	for (i = 0; i < HB_ARRAY_LEN(pieces); i++) {
		echo(OVER_PAIR, pieces[i]);
		echo(OVER_TCP, pieces[i]);
		echo(OVER_TLS, pieces[i]);
	}
}

/* ------------------------------------------------------------------ many bytes */

struct source {
	const uint8_t *p;
	size_t len, off, chunk;
};

static void
feed(struct hbt_sink *s, enum hbt_event event)
{
	struct source *src = s->arg;
	size_t n;

	if (event != HBT_SECURED && event != HBT_LOW)
		return;
	while (s->t != NULL && !s->above && src->off < src->len) {
		n = HB_MIN(src->chunk, src->len - src->off);
		src->off += n;
		hbt_write_borrowed(s, src->p + src->off - n, n, src->off == src->len);
	}
}

static void
bulk(enum rig_below below, size_t piece, size_t len, size_t chunk)
{
	uint8_t *p = hbt_pattern(len, 3);
	struct source src[3];
	unsigned i;

	r.prepare = echoes;
	rig_start(&r, below, piece);
	for (i = 0; i < 3; i++) {
		src[i] = (struct source){ .p = p, .len = len, .chunk = chunk };
		r.a[i].hook = feed;
		r.a[i].arg = &src[i];
		rig_open(&r);
	}
	for (i = 0; i < 3; i++) {
		HBT_UNTIL(r.a[i].closed == 1 && r.b[i].closed == 1);
		assert_int_equal(r.a[i].reason, HB_CLOSE_DONE);
		assert_true(hbt_got(&r.b[i], p, len));
		assert_true(hbt_got(&r.a[i], p, len));
	}
	assert_int_equal(hb_h2_buffered(r.server), 0);
	again();
	hb_free(p);
}

static void
test_h2__bulk(void **state)
{
	bulk(OVER_TCP, 0, 16 * MIB, 256 * 1024);
	bulk(OVER_PAIR, 0, 8 * MIB, 100000);
	bulk(OVER_TLS, 0, 16 * MIB, 256 * 1024);
	bulk(OVER_TCP, 1, 64 * 1024, 1000);
	bulk(OVER_TCP, 7, 256 * 1024, 50000);
	bulk(OVER_TLS, 8, 256 * 1024, 50000);
	bulk(OVER_TCP, 0, 64 * 1024, 1);
}

/* ------------------------------------------------------------------ accept and reject */

static void
test_h2__accept_late(void **state)
{
	r.no_accept = true;
	rig_start(&r, OVER_TCP, 0);
	rig_open(&r);
	hbt_writez(&r.a[0], "early", false);
	HBT_UNTIL(r.requests == 1);
	hbt_turns(8);
	assert_int_equal(r.a[0].connected, 0);
	assert_int_equal(r.b[0].data, 0);
	assert_int_equal(hb_transport_pending(r.a[0].t), 5);
	hb_transport_accept(r.b[0].t);
	hb_transport_accept(r.b[0].t);
	HBT_UNTIL(r.a[0].connected == 1 && hbt_gotz(&r.b[0], "early"));
	assert_int_equal(hb_h2_stream_status(r.a[0].t), 200);
	assert_int_equal(hb_h2_stream_status(r.b[0].t), 200);
	assert_int_equal(hb_h2_stream_id(r.a[0].t), 1);
	assert_ptr_equal(hb_h2_stream_session(r.b[0].t), r.server);
	assert_true(hb_h2_is_stream(r.a[0].t));
	assert_false(hb_h2_is_stream(hb_h2_lower(r.client)));
}

static unsigned seen_status;

static void
note_status(struct hbt_sink *s, enum hbt_event event)
{
	if (event == HBT_CLOSED)
		seen_status = hb_h2_stream_status(s->arg);
}

static void
rejects(struct rig *rig, const struct hb_h2_request *req, struct hb_transport **t)
{
	const struct hb_h2_header h = { HB_STR("retry-after"), HB_STR("1") };

	(void)req;
	if (rig->arg == NULL)
		hb_h2_stream_reject(t, 418, &h, 1);
	else
		hb_transport_reject(t, *(enum hb_close_reason *)rig->arg);
}

static void
rejected(enum hb_close_reason *reason, unsigned status)
{
	r.on_request = rejects;
	r.arg = reason;
	rig_start(&r, OVER_TCP, 0);
	rig_open(&r);
	r.a[0].hook = note_status;
	r.a[0].arg = r.a[0].t;
	hbt_writez(&r.a[0], "never seen", false);
	HBT_UNTIL(r.a[0].closed == 1);
	assert_int_equal(r.a[0].reason, HB_CLOSE_TUNNEL_REJECTED);
	assert_int_equal(r.a[0].connected, 0);
	assert_int_equal(seen_status, status);
	HBT_UNTIL(hb_h2_streams(r.client) == 0 && hb_h2_streams(r.server) == 0);
	again();
}

static void
test_h2__reject(void **state)
{
	enum hb_close_reason denied = HB_CLOSE_RBAC_DENIED, dead = HB_CLOSE_CONNECT_REFUSED;
	enum hb_close_reason late = HB_CLOSE_CONNECT_TIMEOUT;

	rejected(&denied, 401);
	r.server_opt.flavour = HB_H2_ENVOY;
	rejected(&denied, 403);
	r.server_opt.flavour = HB_H2_ISTIO;
	rejected(&dead, 503);
	rejected(&late, 504);
	rejected(NULL, 418);
}

/* ------------------------------------------------------------------ endings */

static void
test_h2__half_close(void **state)
{
	rig_start(&r, OVER_TLS, 0);
	rig_open(&r);
	rig_connect(&r, 0);
	hbt_writez(&r.a[0], "request", true);
	HBT_UNTIL(r.b[0].ends == 1);
	assert_true(hbt_gotz(&r.b[0], "request"));
	hbt_writez(&r.b[0], "one ", false);
	HBT_UNTIL(hbt_gotz(&r.a[0], "one "));
	hbt_writez(&r.b[0], "two", true);
	HBT_UNTIL(r.a[0].closed == 1 && r.b[0].closed == 1);
	assert_true(hbt_gotz(&r.a[0], "one two"));
	assert_int_equal(r.a[0].reason, HB_CLOSE_DONE);
	rig_open(&r);
	rig_connect(&r, 1);
	hbt_writez(&r.b[1], "server first", true);
	HBT_UNTIL(r.a[1].ends == 1);
	hbt_writez(&r.a[1], "then client", true);
	HBT_UNTIL(r.a[1].closed == 1 && r.b[1].closed == 1);
	assert_true(hbt_gotz(&r.b[1], "then client"));
	assert_int_equal(r.b[1].reason, HB_CLOSE_DONE);
}

static void
test_h2__reset(void **state)
{
	rig_start(&r, OVER_TCP, 0);
	rig_open(&r);
	rig_open(&r);
	rig_open(&r);
	rig_connect(&r, 2);
	/* What was sent before a reset arrives. */
	hbt_writez(&r.a[0], "last words", false);
	hb_transport_abort(&r.a[0].t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(r.b[0].closed == 1);
	assert_true(hbt_gotz(&r.b[0], "last words"));
	assert_int_equal(r.b[0].reason, HB_CLOSE_STREAM_RESET);
	hb_transport_abort(&r.b[1].t, HB_CLOSE_UPSTREAM_RESET);
	HBT_UNTIL(r.a[1].closed == 1);
	assert_int_equal(r.a[1].reason, HB_CLOSE_STREAM_RESET);
	/* After our end the peer's reset is still a reset. */
	hbt_writez(&r.a[2], "x", true);
	HBT_UNTIL(r.b[2].ends == 1);
	hb_transport_abort(&r.b[2].t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(r.a[2].closed == 1);
	assert_int_equal(r.a[2].reason, HB_CLOSE_STREAM_RESET);
	assert_int_equal(hb_h2_streams(r.client), 0);
	assert_int_equal(hb_h2_streams(r.server), 0);
}

/* An end, then a reset by the same side: bytes first, then the end, then the reset. */
static void
test_h2__reset_after_end(void **state)
{
	rig_start(&r, OVER_TCP, 0);
	rig_open(&r);
	rig_connect(&r, 0);
	hb_transport_read_disable(r.b[0].t, 1);
	hbt_writez(&r.a[0], "all of it", true);
	hbt_turns(4);
	hb_transport_abort(&r.a[0].t, HB_CLOSE_LOCAL_CLOSE);
	hbt_turns(8);
	assert_int_equal(r.b[0].closed, 0);
	hb_transport_read_disable(r.b[0].t, -1);
	HBT_UNTIL(r.b[0].closed == 1);
	assert_true(hbt_gotz(&r.b[0], "all of it"));
	assert_int_equal(r.b[0].ends, 1);
	assert_int_equal(r.b[0].reason, HB_CLOSE_STREAM_RESET);
}

static void
test_h2__finish(void **state)
{
	uint8_t *p = hbt_pattern(3 * MIB, 5);

	r.prepare = ends_on_end;
	rig_start(&r, OVER_TCP, 0);
	rig_open(&r);
	rig_connect(&r, 0);
	hbt_write(&r.a[0], p, 3 * MIB, false);
	hb_transport_finish(&r.a[0].t, HB_CLOSE_LOCAL_CLOSE);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 1);
	HBT_UNTIL(r.b[0].closed == 1);
	assert_int_equal(r.b[0].reason, HB_CLOSE_DONE);
	assert_true(hbt_got(&r.b[0], p, 3 * MIB));
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	/* A server that has said all while its client goes on: NO_ERROR, which is an end. */
	rig_open(&r);
	rig_connect(&r, 1);
	hbt_writez(&r.b[1], "enough", false);
	hb_transport_finish(&r.b[1].t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(r.a[1].ends == 1);
	assert_true(hbt_gotz(&r.a[1], "enough"));
	hbt_writez(&r.a[1], "more", false);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	assert_int_equal(r.a[1].closed, 0);
	hbt_writez(&r.a[1], "and more", true);
	HBT_UNTIL(r.a[1].closed == 1);
	assert_int_equal(r.a[1].reason, HB_CLOSE_DONE);
	hb_free(p);
}

static void
test_h2__finish_before_accept(void **state)
{
	r.no_accept = true;
	rig_start(&r, OVER_TCP, 0);
	rig_open(&r);
	HBT_UNTIL(r.requests == 1);
	hb_transport_finish(&r.b[0].t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(r.a[0].ends == 1);
	hbt_writez(&r.a[0], "", true);
	HBT_UNTIL(r.a[0].closed == 1);
	assert_int_equal(r.a[0].reason, HB_CLOSE_DONE);
}

static void
test_h2__finish_timeout(void **state)
{
	uint64_t before = hb_transport_flush_timeouts(hbt_worker());
	uint8_t *p = hbt_pattern(MIB, 5);

	r.paused = true;
	rig_start(&r, OVER_TCP, 0);
	rig_open(&r);
	rig_connect(&r, 0);
	hbt_write(&r.a[0], p, MIB, false);
	hb_transport_finish(&r.a[0].t, HB_CLOSE_LOCAL_CLOSE);
	hbt_advance(9000);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 1);
	hbt_advance(1000);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 0);
	assert_int_equal(hb_transport_flush_timeouts(hbt_worker()), before + 1);
	hb_transport_read_disable(r.b[0].t, -1);
	HBT_UNTIL(r.b[0].closed == 1);
	assert_int_equal(r.b[0].reason, HB_CLOSE_STREAM_RESET);
	hb_free(p);
}

/* ------------------------------------------------------------------ letting go in every event */

static void
let_go(enum rig_below below, bool server, unsigned event, bool finish)
{
	uint8_t *p = hbt_pattern(3 * MIB, 5);
	struct source src = { .p = p, .len = 3 * MIB, .chunk = 512 * 1024 };
	struct hbt_sink *one = server ? &r.b[0] : &r.a[0], *other = server ? &r.a[0] : &r.b[0];

	r.a[0].hook = feed;
	r.a[0].arg = &src;
	r.b[0].echo = true;
	one->let_go_in = event;
	one->let_go_finish = finish;
	rig_start(&r, below, 0);
	rig_open(&r);
	HBT_UNTIL((one->t == NULL && r.requests > 0) && (other->closed > 0 || other->ends > 0));
	/* The session has survived. */
	r.prepare = echoes;
	r.opened = r.requests = 1;
	rig_open(&r);
	rig_connect(&r, 1);
	hbt_writez(&r.a[1], "alive", true);
	HBT_UNTIL(r.a[1].closed == 1);
	assert_true(hbt_gotz(&r.a[1], "alive"));
	again();
	hb_free(p);
}

static void
test_h2__let_go(void **state)
{
	unsigned event, below;

	for (below = OVER_PAIR; below <= OVER_TLS; below++) {
		for (event = HBT_CONNECTED; event <= HBT_CLOSED; event <<= 1) {
			let_go((enum rig_below)below, false, event, false);
			let_go((enum rig_below)below, true, event, false);
			let_go((enum rig_below)below, false, event, true);
			let_go((enum rig_below)below, true, event, true);
		}
	}
}

/* ------------------------------------------------------------------ pressure */

/* 100 streams stall with full windows; the 101st moves. */
static void
test_h2__stalled_streams_harm_none(void **state)
{
	uint8_t *p = hbt_pattern(2 * MIB, 9);
	unsigned i;

	r.paused = true;
	rig_start(&r, OVER_TCP, 0);
	for (i = 0; i < 32; i++) {
		rig_open(&r);
		hbt_write(&r.a[i], p, 300 * 1024, false);
	}
	rig_connect(&r, 31);
	HBT_UNTIL(hb_h2_buffered(r.server) == 32u * 256 * 1024);
	r.paused = false;
	r.prepare = echoes;
	rig_open(&r);
	rig_connect(&r, 32);
	hbt_write(&r.a[32], p, 2 * MIB, true);
	HBT_UNTIL(r.a[32].closed == 1);
	assert_true(hbt_got(&r.a[32], p, 2 * MIB));
	assert_int_equal(hb_h2_buffered(r.server), 32u * 256 * 1024);
	for (i = 0; i < 32; i++)
		hb_transport_read_disable(r.b[i].t, -1);
	for (i = 0; i < 32; i++) {
		HBT_UNTIL(r.b[i].got.len == 300 * 1024);
		assert_true(hbt_got(&r.b[i], p, 300 * 1024));
	}
	assert_int_equal(hb_h2_buffered(r.server), 0);
	hb_free(p);
}

/* The server's sink keeps up, then it stops: what the client has sent ahead is the window. */
static size_t
sent_ahead(unsigned i, const uint8_t *p)
{
	size_t held = hb_h2_buffered(r.server), now;

	hb_transport_read_disable(r.b[i].t, 1);
	hbt_write(&r.a[i], p, 8 * MIB, false);
	do {
		now = held;
		hbt_turns(20);
		held = hb_h2_buffered(r.server);
	} while (held != now || held == 0);
	return (held);
}

static void
pass(unsigned i, const uint8_t *p, size_t n)
{
	size_t before = r.b[i].got.len;

	hbt_write(&r.a[i], p, n, false);
	HBT_UNTIL(r.b[i].got.len == before + n);
}

static void
test_h2__window_grows(void **state)
{
	uint8_t *p = hbt_pattern(8 * MIB, 9);
	size_t total = 8 * MIB;

	rig_start(&r, OVER_TCP, 0);
	rig_open(&r);
	rig_connect(&r, 0);
	pass(0, p, total);
	/* What waits halves the window, but credit that was given stays given. */
	assert_int_equal(sent_ahead(0, p), 4 * MIB);
	hb_transport_read_disable(r.b[0].t, -1);
	total += 8 * MIB;
	HBT_UNTIL(r.b[0].got.len == total);
	assert_int_equal(hb_h2_buffered(r.server), 0);
	assert_memory_equal(r.b[0].got.p, p, 8 * MIB);
	hb_free(p);
}

static void
test_h2__window_shrinks(void **state)
{
	uint8_t *p = hbt_pattern(8 * MIB, 9);
	size_t all = 0;

	rig_start(&r, OVER_TCP, 0);
	rig_open(&r);
	rig_connect(&r, 0);
	pass(0, p, 8 * MIB);
	all = 8 * MIB;
	/* Each stop halves what it has grown by; the peer uses up the credit that it has, and less
	 * comes back. */
	for (unsigned i = 0; i < 40; i++) {
		hb_transport_read_disable(r.b[0].t, 1);
		hbt_write(&r.a[0], p, 200 * 1024, false);
		HBT_UNTIL(hb_h2_buffered(r.server) == 200 * 1024);
		hb_transport_read_disable(r.b[0].t, -1);
		all += 200 * 1024;
		HBT_UNTIL(r.b[0].got.len == all);
	}
	assert_in_range(sent_ahead(0, p), 100 * 1024, 512 * 1024);
	hb_free(p);
}

/* Streams that stall all at once, fully grown, leave room for another. */
static void
test_h2__grown_windows_are_limited(void **state)
{
	uint8_t *p = hbt_pattern(8 * MIB, 9);
	unsigned i, n = 8;

	rig_start(&r, OVER_TCP, 0);
	for (i = 0; i < n; i++) {
		rig_open(&r);
		rig_connect(&r, i);
		pass(i, p, 8 * MIB);
	}
	for (i = 0; i < n; i++)
		(void)sent_ahead(i, p);
	/* Credit below half a window is not given back yet. */
	assert_true(hb_h2_buffered(r.server) > 6 * MIB);
	assert_true(hb_h2_buffered(r.server) <= 12 * MIB + n * 256 * 1024);
	r.prepare = echoes;
	rig_open(&r);
	rig_connect(&r, n);
	hbt_write(&r.a[n], p, 2 * MIB, true);
	HBT_UNTIL(r.a[n].closed == 1);
	assert_true(hbt_got(&r.a[n], p, 2 * MIB));
	/* They give it back. */
	for (i = 0; i < n; i++)
		hb_transport_abort(&r.b[i].t, HB_CLOSE_LOCAL_CLOSE);
	for (i = 0; i < n; i++)
		HBT_UNTIL(r.a[i].closed == 1);
	r.prepare = NULL;
	rig_open(&r);
	rig_connect(&r, n + 1);
	pass(n + 1, p, 8 * MIB);
	assert_in_range(sent_ahead(n + 1, p), 2 * MIB, 4 * MIB);
	hb_free(p);
}

static void
test_h2__window_is_fixed(void **state)
{
	uint8_t *p = hbt_pattern(8 * MIB, 9);

	r.server_opt.stream_window = r.server_opt.stream_window_max = 100000;
	rig_start(&r, OVER_TCP, 0);
	rig_open(&r);
	rig_connect(&r, 0);
	pass(0, p, 4 * MIB);
	assert_in_range(sent_ahead(0, p), 50000, 100000);
	hb_free(p);
}

/* What all stalled streams hold is limited: then the session's window closes, and opens again. */
static void
test_h2__buffered_limit(void **state)
{
	uint8_t *p = hbt_pattern(MIB, 9);
	unsigned i;

	r.paused = true;
	r.server_opt.buffered_max = 64 * 1024;
	r.server_opt.session_window = 256 * 1024;
	rig_start(&r, OVER_TCP, 0);
	for (i = 0; i < 8; i++) {
		rig_open(&r);
		hbt_write(&r.a[i], p, 200 * 1024, true);
	}
	rig_connect(&r, 7);
	hbt_turns(100);
	assert_true(hb_h2_buffered(r.server) > 64 * 1024);
	assert_true(hb_h2_buffered(r.server) <= (64 + 256 + 256) * 1024);
	for (i = 0; i < 8; i++)
		hb_transport_read_disable(r.b[i].t, -1);
	for (i = 0; i < 8; i++) {
		HBT_UNTIL(r.b[i].ends == 1);
		assert_true(hbt_got(&r.b[i], p, 200 * 1024));
	}
	hb_free(p);
}

/* An aborted stream gives back what it held. */
static void
test_h2__abort_while_stalled(void **state)
{
	uint8_t *p = hbt_pattern(MIB, 9);

	r.paused = true;
	rig_start(&r, OVER_TCP, 0);
	rig_open(&r);
	hbt_write(&r.a[0], p, MIB, false);
	HBT_UNTIL(hb_h2_buffered(r.server) == 256 * 1024);
	assert_true(hb_transport_pending(r.a[0].t) == MIB - 256 * 1024);
	hb_transport_abort(&r.b[0].t, HB_CLOSE_LOCAL_CLOSE);
	assert_int_equal(hb_h2_buffered(r.server), 0);
	HBT_UNTIL(r.a[0].closed == 1);
	hb_free(p);
}

static void
test_h2__watermarks(void **state)
{
	uint8_t *p = hbt_pattern(8 * MIB, 9);
	struct source src = { .p = p, .len = 8 * MIB, .chunk = 100000 };

	r.paused = true;
	r.a[0].hook = feed;
	r.a[0].arg = &src;
	rig_start(&r, OVER_TLS, 0);
	rig_open(&r);
	rig_connect(&r, 0);
	hbt_turns(50);
	assert_true(r.a[0].above);
	assert_true(hb_transport_pending(r.a[0].t) < MIB + 100000);
	hb_transport_read_disable(r.b[0].t, -1);
	HBT_UNTIL(r.b[0].ends == 1);
	assert_true(hbt_got(&r.b[0], p, 8 * MIB));
	assert_true(r.a[0].lows > 0 && r.a[0].sent > 0);
	hb_free(p);
}

/* The socket below is full: no frame is made that would wait there. */
static void
test_h2__blocked_below(void **state)
{
	uint8_t *p = hbt_pattern(8 * MIB, 9);
	struct source src = { .p = p, .len = 8 * MIB, .chunk = 256 * 1024 };
	struct hb_transport *a, *b, *blocker;

	r.server_opt.stream_window = 64 * MIB;
	r.server_opt.session_window = 64 * MIB;
	r.a[0].hook = feed;
	r.a[0].arg = &src;
	hbt_tcp_pair(&a, &b);
	blocker = hbt_blocker(a);
	rig_start_over(&r, blocker, b);
	hbt_turns(4);
	hbt_release(blocker, 1 * MIB);
	hbt_turns(4);
	hbt_release(blocker, 1 * MIB);
	rig_open(&r);
	hbt_turns(4);
	hbt_release(blocker, 1 * MIB);
	rig_connect(&r, 0);
	hbt_turns(10);
	assert_true(r.a[0].above);
	assert_true(hb_transport_pending(blocker) <= 2 * MIB);
	assert_true(hb_transport_pending(r.a[0].t) <= 2 * MIB);
	hbt_release(blocker, SIZE_MAX);
	HBT_UNTIL(r.b[0].ends == 1);
	assert_true(hbt_got(&r.b[0], p, 8 * MIB));
	hb_free(p);
}

static void
test_h2__copies_nothing(void **state)
{
	uint8_t *p = hbt_pattern(128 * 1024, 13);
	uint64_t before;
	unsigned i;

	rig_start(&r, OVER_TLS, 0);
	rig_open(&r);
	rig_connect(&r, 0);
	hbt_turns(4);
	for (i = 0; i < 16; i++) {
		struct hb_buf buf = { NULL, NULL, 0 };
		struct hb_slice slice;

		before = hb_buf_copied();
		hb_buf_borrow(&buf, &slice, p, 128 * 1024);
		hb_transport_write(r.a[0].t, &buf, false);
		HBT_UNTIL(r.b[0].got.len == (i + 1) * 128u * 1024u);
		/* WINDOW_UPDATE frames. */
		assert_true(hb_buf_copied() - before <= 64);
	}
	hb_free(p);
}

/* ------------------------------------------------------------------ sessions */

static void
test_h2__stream_limit(void **state)
{
	unsigned i;

	r.server_opt.streams_max = 4;
	rig_start(&r, OVER_TCP, 0);
	/* Before the peer's SETTINGS came nobody knows its limit. */
	assert_int_equal(hb_h2_room(r.client), 100);
	for (i = 0; i < 6; i++)
		rig_open(&r);
	HBT_UNTIL(r.a[4].closed == 1 && r.a[5].closed == 1);
	assert_int_equal(r.a[4].reason, HB_CLOSE_STREAM_REFUSED);
	assert_int_equal(hb_h2_refused(r.server), 2);
	rig_connect(&r, 3);
	assert_int_equal(hb_h2_room(r.client), 0);
	assert_null(hb_h2_open(r.client, &(struct hb_h2_request){ .authority = HB_STR("a:1") }));
	r.rooms = 0;
	hb_transport_abort(&r.a[0].t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(r.rooms > 0);
	assert_int_equal(hb_h2_room(r.client), 1);
	r.requests = 6;
	i = rig_open(&r);
	HBT_UNTIL(r.a[i].secured == 1);
}

static void
test_h2__drain_client(void **state)
{
	r.prepare = echoes;
	rig_start(&r, OVER_TCP, 0);
	rig_open(&r);
	rig_connect(&r, 0);
	hb_h2_drain(r.client);
	hb_h2_drain(r.client);
	assert_int_equal(hb_h2_room(r.client), 0);
	hbt_turns(8);
	assert_int_equal(r.client_closed, 0);
	hbt_writez(&r.a[0], "still", true);
	HBT_UNTIL(r.client_closed == 1 && r.server_closed == 1);
	assert_true(hbt_gotz(&r.a[0], "still"));
	assert_int_equal(r.client_reason, HB_CLOSE_DONE);
	assert_int_equal(r.server_reason, HB_CLOSE_DONE);
}

static void
test_h2__drain_server(void **state)
{
	r.prepare = echoes;
	rig_start(&r, OVER_TCP, 0);
	rig_open(&r);
	rig_connect(&r, 0);
	hb_h2_drain(r.server);
	HBT_UNTIL(r.goaways == 1);
	assert_int_equal(hb_h2_room(r.client), 0);
	assert_null(hb_h2_open(r.client, &(struct hb_h2_request){ .authority = HB_STR("a:1") }));
	hbt_writez(&r.a[0], "still", true);
	HBT_UNTIL(r.client_closed == 1 && r.server_closed == 1);
	assert_true(hbt_gotz(&r.a[0], "still"));
	assert_int_equal(r.a[0].reason, HB_CLOSE_DONE);
	assert_int_equal(r.server_reason, HB_CLOSE_DONE);
}

/* A stream on its way while the server begins to drain is served. */
static void
test_h2__drain_race(void **state)
{
	r.prepare = echoes;
	rig_start(&r, OVER_TCP, 0);
	rig_open(&r);
	rig_connect(&r, 0);
	hb_h2_drain(r.server);
	rig_open(&r);
	HBT_UNTIL(r.a[1].secured == 1 || r.a[1].closed == 1);
	assert_int_equal(r.a[1].secured, 1);
	hbt_writez(&r.a[1], "late", true);
	hbt_writez(&r.a[0], "", true);
	HBT_UNTIL(r.client_closed == 1 && r.server_closed == 1);
	assert_true(hbt_gotz(&r.a[1], "late"));
}

static void
closes(bool server, bool reset)
{
	rig_start(&r, OVER_TCP, 0);
	rig_open(&r);
	rig_open(&r);
	rig_connect(&r, 1);
	if (reset)
		hb_h2_abort(server ? &r.server : &r.client, HB_CLOSE_LOCAL_CLOSE);
	else
		hb_h2_close(server ? &r.server : &r.client, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(r.a[0].closed && r.a[1].closed && r.b[0].closed && r.b[1].closed);
	assert_int_equal(server ? r.b[0].reason : r.a[0].reason, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(server ? r.client_closed == 1 : r.server_closed == 1);
	again();
}

static void
test_h2__close(void **state)
{
	closes(false, false);
	closes(true, false);
	closes(false, true);
	closes(true, true);
}

/* The session ends while the sink of one of its streams is on the stack. */
static void
close_in_data(struct hbt_sink *s, enum hbt_event event)
{
	(void)s;
	if (event == HBT_DATA && r.server != NULL)
		hb_h2_close(&r.server, HB_CLOSE_SHUTDOWN);
}

static void
test_h2__close_in_event(void **state)
{
	rig_start(&r, OVER_TLS, 0);
	rig_open(&r);
	rig_open(&r);
	rig_connect(&r, 1);
	r.b[0].hook = close_in_data;
	hbt_writez(&r.a[0], "x", false);
	hbt_writez(&r.a[1], "y", false);
	HBT_UNTIL(r.a[0].closed && r.a[1].closed && r.b[0].closed && r.b[1].closed);
	assert_true(hbt_gotz(&r.b[1], "y"));
	HBT_UNTIL(r.client_closed == 1);
}

static void
closes_session(struct rig *rig, const struct hb_h2_request *req, struct hb_transport **t)
{
	(void)req;
	hb_h2_close(&rig->server, HB_CLOSE_SHUTDOWN);
	hb_transport_abort(t, HB_CLOSE_SHUTDOWN);
}

static void
test_h2__close_in_request(void **state)
{
	r.on_request = closes_session;
	rig_start(&r, OVER_TCP, 0);
	rig_open(&r);
	rig_open(&r);
	HBT_UNTIL(r.a[0].closed == 1 && r.a[1].closed == 1 && r.client_closed == 1);
	assert_int_equal(r.requests, 1);
}

/* A stream that was opened meanwhile learns the reason, and the session's sink the text. */
static void
test_h2__handshake_fails(void **state)
{
	struct hb_tls_config c = { .trust_pem = hb_str(pki.client->pem) };
	struct hb_tls_ctx *ctx = hbt_tls_ctx(&c);
	struct hb_transport *a, *b;

	hbt_tcp_pair(&a, &b);
	rig_start_over(&r, hb_tls_new(a, ctx, NULL), hb_tls_new(b, pki.server_ctx, NULL));
	rig_open(&r);
	HBT_UNTIL(r.a[0].closed == 1 && r.client_closed == 1 && r.server_closed == 1);
	assert_int_equal(r.a[0].reason, HB_CLOSE_TLS_VERIFY);
	assert_int_equal(r.client_reason, HB_CLOSE_TLS_VERIFY);
	assert_true(strlen(r.failure) > 0);
	assert_int_equal(r.server_reason, HB_CLOSE_TLS_PEER_REFUSED);
	rig_stop(&r);
	hb_tls_ctx_free(&ctx);
}

static void
test_h2__headers(void **state)
{
	struct hb_h2_header h[101];
	struct hb_h2_request req = { .authority = HB_STR("a:1"), .headers = h };
	unsigned i;

	for (i = 0; i < HB_ARRAY_LEN(h); i++)
		h[i] = (struct hb_h2_header){ HB_STR("x-n"), HB_STR("v") };
	rig_start(&r, OVER_TCP, 0);
	req.n_headers = 98; /* and two pseudo-headers */
	hbt_attach(&r.a[0], hb_h2_open(r.client, &req));
	HBT_UNTIL(r.a[0].secured == 1);
	assert_int_equal(r.n_headers, 98);
	req.n_headers = 99;
	hbt_attach(&r.a[1], hb_h2_open(r.client, &req));
	r.a[1].hook = note_status;
	r.a[1].arg = r.a[1].t;
	HBT_UNTIL(r.a[1].closed == 1);
	assert_int_equal(r.a[1].reason, HB_CLOSE_TUNNEL_REJECTED);
	assert_int_equal(seen_status, 431);
	assert_int_equal(r.requests, 1);
	hbt_writez(&r.a[0], "fine", false);
	HBT_UNTIL(hbt_gotz(&r.b[0], "fine"));
}

static void
test_h2__post(void **state)
{
	struct hb_h2_request req = { .method = HB_STR("POST"),
		.scheme = HB_STR("https"),
		.authority = HB_STR("a"),
		.path = HB_STR("/tunnel") };

	r.prepare = echoes;
	rig_start(&r, OVER_TCP, 0);
	hbt_attach(&r.a[0], hb_h2_open(r.client, &req));
	HBT_UNTIL(r.a[0].secured == 1);
	assert_string_equal(r.method, "POST");
	hbt_writez(&r.a[0], "body", true);
	HBT_UNTIL(r.a[0].closed == 1);
	assert_true(hbt_gotz(&r.a[0], "body"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, fresh, stop)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_h2__echo),
		T(test_h2__bulk),
		T(test_h2__accept_late),
		T(test_h2__reject),
		T(test_h2__half_close),
		T(test_h2__reset),
		T(test_h2__reset_after_end),
		T(test_h2__finish),
		T(test_h2__finish_before_accept),
		T(test_h2__finish_timeout),
		T(test_h2__let_go),
		T(test_h2__stalled_streams_harm_none),
		T(test_h2__window_grows),
		T(test_h2__window_shrinks),
		T(test_h2__grown_windows_are_limited),
		T(test_h2__window_is_fixed),
		T(test_h2__buffered_limit),
		T(test_h2__abort_while_stalled),
		T(test_h2__watermarks),
		T(test_h2__blocked_below),
		T(test_h2__copies_nothing),
		T(test_h2__stream_limit),
		T(test_h2__drain_client),
		T(test_h2__drain_server),
		T(test_h2__drain_race),
		T(test_h2__close),
		T(test_h2__close_in_event),
		T(test_h2__close_in_request),
		T(test_h2__handshake_fails),
		T(test_h2__headers),
		T(test_h2__post),
	};

	return (cmocka_run_group_tests(tests, setup, teardown));
}

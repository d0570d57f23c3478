/* SPDX-License-Identifier: Apache-2.0 */
/* Streams between a client and a server session of ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "test/core/http/h2_rig.h"

#define MIB (1024u * 1024u)

static void
echo(enum hbt_below below, size_t piece)
{
	unsigned i, k;

	w.prepare = rig_echoes;
	rig_start(&w, below, piece);
	for (k = 0; k < 3; k++)
		rig_open(&w);
	for (i = 0; i < 3; i++) {
		rig_connect(&w, i);
		hbt_writez(&w.a[i], "hello", false);
	}
	for (i = 0; i < 3; i++) {
		HBT_UNTIL(hbt_gotz(&w.a[i], "hello"));
		hbt_writez(&w.a[i], " again", true);
	}
	for (i = 0; i < 3; i++) {
		HBT_UNTIL(w.a[i].closed == 1 && w.b[i].closed == 1);
		assert_true(hbt_gotz(&w.a[i], "hello again"));
		assert_int_equal(w.a[i].reason, HB_CLOSE_DONE);
		assert_int_equal(w.b[i].reason, HB_CLOSE_DONE);
	}
	assert_string_equal(w.authority, "10.0.0.1:80");
	assert_string_equal(w.method, "CONNECT");
	assert_int_equal(hb_h2_streams(w.client), 0);
	assert_int_equal(hb_h2_streams(w.server), 0);
	rig_again();
}

static void
test_h2__echo(void **state)
{
	static const size_t pieces[] = { 0, 1, 7, 8 };
	unsigned i;

	for (i = 0; i < HB_ARRAY_LEN(pieces); i++) {
		echo(HBT_OVER_PAIR, pieces[i]);
		echo(HBT_OVER_TCP, pieces[i]);
		echo(HBT_OVER_TLS, pieces[i]);
	}
}

/* ------------------------------------------------------------------ many bytes */

static void
bulk(enum hbt_below below, size_t piece, size_t len, size_t chunk)
{
	uint8_t *p = hbt_pattern(len, 3);
	struct hbt_feed src[3];
	unsigned i;

	w.prepare = rig_echoes;
	rig_start(&w, below, piece);
	for (i = 0; i < 3; i++) {
		src[i] = (struct hbt_feed){ .p = p, .len = len, .chunk = chunk };
		w.a[i].hook = hbt_feed;
		w.a[i].arg = &src[i];
		rig_open(&w);
	}
	for (i = 0; i < 3; i++) {
		HBT_UNTIL(w.a[i].closed == 1 && w.b[i].closed == 1);
		assert_int_equal(w.a[i].reason, HB_CLOSE_DONE);
		assert_true(hbt_got(&w.b[i], p, len));
		assert_true(hbt_got(&w.a[i], p, len));
	}
	assert_int_equal(hb_h2_buffered(w.server), 0);
	rig_again();
	hb_free(p);
}

static void
test_h2__bulk(void **state)
{
	bulk(HBT_OVER_TCP, 0, 16 * MIB, 256 * 1024);
	bulk(HBT_OVER_PAIR, 0, 8 * MIB, 100000);
	bulk(HBT_OVER_TLS, 0, 16 * MIB, 256 * 1024);
	bulk(HBT_OVER_TCP, 1, 64 * 1024, 1000);
	bulk(HBT_OVER_TCP, 7, 256 * 1024, 50000);
	bulk(HBT_OVER_TLS, 8, 256 * 1024, 50000);
	bulk(HBT_OVER_TCP, 0, 64 * 1024, 1);
}

/* ------------------------------------------------------------------ accept and reject */

static void
test_h2__accept_late(void **state)
{
	w.no_accept = true;
	rig_start(&w, HBT_OVER_TCP, 0);
	rig_open(&w);
	hbt_writez(&w.a[0], "early", false);
	HBT_UNTIL(w.requests == 1);
	hbt_turns(8);
	assert_int_equal(w.a[0].connected, 0);
	assert_int_equal(w.b[0].data, 0);
	assert_int_equal(hb_transport_pending(w.a[0].t), 5);
	hb_transport_accept(w.b[0].t);
	hb_transport_accept(w.b[0].t);
	HBT_UNTIL(w.a[0].connected == 1 && hbt_gotz(&w.b[0], "early"));
	assert_int_equal(hb_h2_stream_status(w.a[0].t), 200);
	assert_int_equal(hb_h2_stream_status(w.b[0].t), 200);
	assert_int_equal(hb_h2_stream_id(w.a[0].t), 1);
	assert_ptr_equal(hb_h2_stream_session(w.b[0].t), w.server);
	assert_true(hb_h2_is_stream(w.a[0].t));
	assert_false(hb_h2_is_stream(hb_h2_lower(w.client)));
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
	w.on_request = rejects;
	w.arg = reason;
	rig_start(&w, HBT_OVER_TCP, 0);
	rig_open(&w);
	w.a[0].hook = note_status;
	w.a[0].arg = w.a[0].t;
	hbt_writez(&w.a[0], "never seen", false);
	HBT_UNTIL(w.a[0].closed == 1);
	assert_int_equal(w.a[0].reason, HB_CLOSE_TUNNEL_REJECTED);
	assert_int_equal(w.a[0].connected, 0);
	assert_int_equal(seen_status, status);
	HBT_UNTIL(hb_h2_streams(w.client) == 0 && hb_h2_streams(w.server) == 0);
	rig_again();
}

static void
test_h2__reject(void **state)
{
	enum hb_close_reason denied = HB_CLOSE_RBAC_DENIED, dead = HB_CLOSE_CONNECT_REFUSED;
	enum hb_close_reason late = HB_CLOSE_CONNECT_TIMEOUT;

	rejected(&denied, 401);
	w.server_opt.flavour = HB_H2_ENVOY;
	rejected(&denied, 403);
	w.server_opt.flavour = HB_H2_ISTIO;
	rejected(&dead, 503);
	rejected(&late, 504);
	rejected(NULL, 418);
}

/* ------------------------------------------------------------------ endings */

static void
test_h2__half_close(void **state)
{
	rig_start(&w, HBT_OVER_TLS, 0);
	rig_open(&w);
	rig_connect(&w, 0);
	hbt_writez(&w.a[0], "request", true);
	HBT_UNTIL(w.b[0].ends == 1);
	assert_true(hbt_gotz(&w.b[0], "request"));
	hbt_writez(&w.b[0], "one ", false);
	HBT_UNTIL(hbt_gotz(&w.a[0], "one "));
	hbt_writez(&w.b[0], "two", true);
	HBT_UNTIL(w.a[0].closed == 1 && w.b[0].closed == 1);
	assert_true(hbt_gotz(&w.a[0], "one two"));
	assert_int_equal(w.a[0].reason, HB_CLOSE_DONE);
	rig_open(&w);
	rig_connect(&w, 1);
	hbt_writez(&w.b[1], "server first", true);
	HBT_UNTIL(w.a[1].ends == 1);
	hbt_writez(&w.a[1], "then client", true);
	HBT_UNTIL(w.a[1].closed == 1 && w.b[1].closed == 1);
	assert_true(hbt_gotz(&w.b[1], "then client"));
	assert_int_equal(w.b[1].reason, HB_CLOSE_DONE);
}

static void
test_h2__reset(void **state)
{
	rig_start(&w, HBT_OVER_TCP, 0);
	rig_open(&w);
	rig_open(&w);
	rig_open(&w);
	rig_connect(&w, 2);
	/* What was sent before a reset arrives. */
	hbt_writez(&w.a[0], "last words", false);
	hb_transport_abort(&w.a[0].t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(w.b[0].closed == 1);
	assert_true(hbt_gotz(&w.b[0], "last words"));
	assert_int_equal(w.b[0].reason, HB_CLOSE_STREAM_RESET);
	hb_transport_abort(&w.b[1].t, HB_CLOSE_UPSTREAM_RESET);
	HBT_UNTIL(w.a[1].closed == 1);
	assert_int_equal(w.a[1].reason, HB_CLOSE_STREAM_RESET);
	/* After our end the peer's reset is still a reset. */
	hbt_writez(&w.a[2], "x", true);
	HBT_UNTIL(w.b[2].ends == 1);
	hb_transport_abort(&w.b[2].t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(w.a[2].closed == 1);
	assert_int_equal(w.a[2].reason, HB_CLOSE_STREAM_RESET);
	assert_int_equal(hb_h2_streams(w.client), 0);
	assert_int_equal(hb_h2_streams(w.server), 0);
}

/* An end, then a reset by the same side: bytes first, then the end, then the reset. */
static void
test_h2__reset_after_end(void **state)
{
	rig_start(&w, HBT_OVER_TCP, 0);
	rig_open(&w);
	rig_connect(&w, 0);
	hb_transport_read_disable(w.b[0].t, 1);
	hbt_writez(&w.a[0], "all of it", true);
	hbt_turns(4);
	hb_transport_abort(&w.a[0].t, HB_CLOSE_LOCAL_CLOSE);
	hbt_turns(8);
	assert_int_equal(w.b[0].closed, 0);
	hb_transport_read_disable(w.b[0].t, -1);
	HBT_UNTIL(w.b[0].closed == 1);
	assert_true(hbt_gotz(&w.b[0], "all of it"));
	assert_int_equal(w.b[0].ends, 1);
	assert_int_equal(w.b[0].reason, HB_CLOSE_STREAM_RESET);
}

static void
test_h2__finish(void **state)
{
	uint8_t *p = hbt_pattern(3 * MIB, 5);

	w.prepare = rig_ends_on_end;
	rig_start(&w, HBT_OVER_TCP, 0);
	rig_open(&w);
	rig_connect(&w, 0);
	hbt_write(&w.a[0], p, 3 * MIB, false);
	hb_transport_finish(&w.a[0].t, HB_CLOSE_LOCAL_CLOSE);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 1);
	HBT_UNTIL(w.b[0].closed == 1);
	assert_int_equal(w.b[0].reason, HB_CLOSE_DONE);
	assert_true(hbt_got(&w.b[0], p, 3 * MIB));
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	/* A server that has said all while its client goes on: NO_ERROR, which is an end. */
	rig_open(&w);
	rig_connect(&w, 1);
	hbt_writez(&w.b[1], "enough", false);
	hb_transport_finish(&w.b[1].t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(w.a[1].ends == 1);
	assert_true(hbt_gotz(&w.a[1], "enough"));
	hbt_writez(&w.a[1], "more", false);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	assert_int_equal(w.a[1].closed, 0);
	hbt_writez(&w.a[1], "and more", true);
	HBT_UNTIL(w.a[1].closed == 1);
	assert_int_equal(w.a[1].reason, HB_CLOSE_DONE);
	hb_free(p);
}

static void
test_h2__finish_before_accept(void **state)
{
	w.no_accept = true;
	rig_start(&w, HBT_OVER_TCP, 0);
	rig_open(&w);
	HBT_UNTIL(w.requests == 1);
	hb_transport_finish(&w.b[0].t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(w.a[0].ends == 1);
	hbt_writez(&w.a[0], "", true);
	HBT_UNTIL(w.a[0].closed == 1);
	assert_int_equal(w.a[0].reason, HB_CLOSE_DONE);
}

static void
test_h2__finish_timeout(void **state)
{
	uint64_t before = hb_transport_flush_timeouts(hbt_worker());
	uint8_t *p = hbt_pattern(MIB, 5);

	w.paused = true;
	rig_start(&w, HBT_OVER_TCP, 0);
	rig_open(&w);
	rig_connect(&w, 0);
	hbt_write(&w.a[0], p, MIB, false);
	hb_transport_finish(&w.a[0].t, HB_CLOSE_LOCAL_CLOSE);
	hbt_advance(9000);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 1);
	hbt_advance(1000);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 0);
	assert_int_equal(hb_transport_flush_timeouts(hbt_worker()), before + 1);
	hb_transport_read_disable(w.b[0].t, -1);
	HBT_UNTIL(w.b[0].closed == 1);
	assert_int_equal(w.b[0].reason, HB_CLOSE_STREAM_RESET);
	hb_free(p);
}

/* ------------------------------------------------------------------ letting go in every event */

static void
let_go(enum hbt_below below, bool server, unsigned event, bool finish)
{
	uint8_t *p = hbt_pattern(3 * MIB, 5);
	struct hbt_feed src = { .p = p, .len = 3 * MIB, .chunk = 512 * 1024 };
	struct hbt_sink *one = server ? &w.b[0] : &w.a[0], *other = server ? &w.a[0] : &w.b[0];

	w.a[0].hook = hbt_feed;
	w.a[0].arg = &src;
	w.b[0].echo = true;
	one->let_go_in = event;
	one->let_go_finish = finish;
	rig_start(&w, below, 0);
	rig_open(&w);
	HBT_UNTIL((one->t == NULL && w.requests > 0) && (other->closed > 0 || other->ends > 0));
	/* The session has survived. */
	w.prepare = rig_echoes;
	w.opened = w.requests = 1;
	rig_open(&w);
	rig_connect(&w, 1);
	hbt_writez(&w.a[1], "alive", true);
	HBT_UNTIL(w.a[1].closed == 1);
	assert_true(hbt_gotz(&w.a[1], "alive"));
	rig_again();
	hb_free(p);
}

static void
test_h2__let_go(void **state)
{
	unsigned event, below;

	for (below = HBT_OVER_PAIR; below <= HBT_OVER_TLS; below++) {
		for (event = HBT_CONNECTED; event <= HBT_CLOSED; event <<= 1) {
			let_go((enum hbt_below)below, false, event, false);
			let_go((enum hbt_below)below, true, event, false);
			let_go((enum hbt_below)below, false, event, true);
			let_go((enum hbt_below)below, true, event, true);
		}
	}
}

/* ------------------------------------------------------------------ headers */

static void
test_h2__headers(void **state)
{
	struct hb_h2_header h[101];
	struct hb_h2_request req = { .authority = HB_STR("a:1"), .headers = h };
	unsigned i;

	for (i = 0; i < HB_ARRAY_LEN(h); i++)
		h[i] = (struct hb_h2_header){ HB_STR("x-n"), HB_STR("v") };
	rig_start(&w, HBT_OVER_TCP, 0);
	req.n_headers = 98; /* and two pseudo-headers */
	hbt_attach(&w.a[0], hb_h2_open(w.client, &req));
	HBT_UNTIL(w.a[0].secured == 1);
	assert_int_equal(w.n_headers, 98);
	req.n_headers = 99;
	hbt_attach(&w.a[1], hb_h2_open(w.client, &req));
	w.a[1].hook = note_status;
	w.a[1].arg = w.a[1].t;
	HBT_UNTIL(w.a[1].closed == 1);
	assert_int_equal(w.a[1].reason, HB_CLOSE_TUNNEL_REJECTED);
	assert_int_equal(seen_status, 431);
	assert_int_equal(w.requests, 1);
	hbt_writez(&w.a[0], "fine", false);
	HBT_UNTIL(hbt_gotz(&w.b[0], "fine"));
}

static void
test_h2__post(void **state)
{
	struct hb_h2_request req = { .method = HB_STR("POST"),
		.scheme = HB_STR("https"),
		.authority = HB_STR("a"),
		.path = HB_STR("/tunnel") };

	w.prepare = rig_echoes;
	rig_start(&w, HBT_OVER_TCP, 0);
	hbt_attach(&w.a[0], hb_h2_open(w.client, &req));
	HBT_UNTIL(w.a[0].secured == 1);
	assert_string_equal(w.method, "POST");
	hbt_writez(&w.a[0], "body", true);
	HBT_UNTIL(w.a[0].closed == 1);
	assert_true(hbt_gotz(&w.a[0], "body"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_fresh, rig_over)

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
		T(test_h2__headers),
		T(test_h2__post),
	};

	return (cmocka_run_group_tests(tests, hbt_ends_setup, hbt_ends_teardown));
}

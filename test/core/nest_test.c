/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transports nested three deep, as a tunnel nests them:
 *
 *   client sink ─ TLS ─ HTTP/2 stream ─ TLS ─ TCP ─┐
 *                                                  │ (the wire: loopback, or two pairs and a cutter)
 *   echo ─ TLS ─ pair ─ pump ─ HTTP/2 stream ─ TLS ─ TCP
 *
 * The pair's far end accepts, and only then is the stream answered. Cut into pieces at both TLS
 * layers, blocked, let go of in every event, cut at every n-th byte of the wire, and with time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/http/h2.h"
#include "core/transport/pump.h"
#include "test/support/ends.h"

#define MIB (1024u * 1024u)

enum wire { WIRE_TCP, WIRE_CUT };

/* The wire that breaks: passes `left` bytes, then resets both sides. */
struct cutter {
	struct hb_transport *t[2];
	size_t left, passed;
};

static struct {
	struct hbt_sink a, b; /* client; echo                                     */
	struct hb_h2 *client, *server;
	struct hb_transport *near;    /* the pair's end that the pump will take           */
	struct hb_transport *stream;  /* waits for it                                     */
	struct hb_transport *blocker; /* below the client's TLS; NULL = none              */
	struct hb_pump pump;
	unsigned pump_done, server_streams;
	enum hb_close_reason pump_reason;
	uint64_t idle_timeout_ms;
	size_t piece; /* of the wire and of the stream                    */
	bool silent;  /* the far end of the pair is no TLS                */
	bool blocked;
	struct cutter cut;
} n;

/* ------------------------------------------------------------------ the stream to the pair */

static void
on_done(struct hb_pump *p, enum hb_pump_side by, enum hb_close_reason reason)
{
	n.pump_done++;
	n.pump_reason = reason;
}

static const struct hb_pump_ops pump_ops = { .on_done = on_done };

/* Until the pump takes over, one sink waits at the stream and one at the pair. */
static void
waiting_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	HB_WRONG("reading is disabled");
}

static void
near_connected(void *sink, struct hb_transport *t)
{
	const struct hb_pump_options opt = { .idle_timeout_ms = n.idle_timeout_ms };

	hb_transport_accept(n.stream);
	n.near = NULL;
	hb_pump_start(&n.pump, n.stream, t, &pump_ops, &opt);
	n.stream = NULL;
}

static void
near_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	n.near = NULL;
	hb_transport_reject(&n.stream, reason);
}

static void
stream_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	n.stream = NULL;
	hb_transport_abort(&n.near, reason);
}

static const struct hb_transport_events near_events = {
	.on_connected = near_connected,
	.on_data = waiting_data,
	.on_closed = near_closed,
};

static const struct hb_transport_events stream_events = {
	.on_data = waiting_data,
	.on_closed = stream_closed,
};

static void
on_request(
	void *sink, struct hb_h2 *h2, const struct hb_h2_request *req, struct hb_transport *stream)
{
	struct hb_transport *far;

	HB_ASSERT(n.server_streams++ == 0);
	n.stream = stream;
	hb_transport_attach(stream, &stream_events, NULL);
	hb_pair_new(hbt_worker(), &n.near, &far);
	hb_transport_attach(n.near, &near_events, NULL);
	if (n.silent) {
		hb_transport_accept(far);
		hbt_attach(&n.b, far);
	} else {
		hbt_attach(&n.b, hb_tls_new(far, hbt_ends_pki.server_ctx, NULL));
	}
}

static void
session_closed(void *sink, struct hb_h2 *h2, enum hb_close_reason reason)
{
	if (h2 == n.client)
		n.client = NULL;
	else
		n.server = NULL;
}

static const struct hb_h2_events session_events = {
	.on_request = on_request,
	.on_closed = session_closed,
};

/* ------------------------------------------------------------------ the wire */

static void
cut_both(void)
{
	unsigned i;

	for (i = 0; i < 2; i++) {
		if (n.cut.t[i] != NULL)
			hb_transport_abort(&n.cut.t[i], HB_CLOSE_LOCAL_CLOSE);
	}
}

static void
cut_on_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct hb_transport *to = n.cut.t[t == n.cut.t[0] ? 1 : 0];
	struct hb_buf part = { NULL, NULL, 0 };
	size_t k = HB_MIN(n.cut.left, buf->len);

	hb_buf_move_n(&part, buf, k);
	hb_buf_fini(buf);
	n.cut.left -= k;
	n.cut.passed += k;
	if (to == NULL)
		hb_buf_fini(&part);
	else if (k > 0 || end)
		hb_transport_write(to, &part, end);
	if (n.cut.left == 0)
		cut_both();
}

static void
cut_on_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	n.cut.t[t == n.cut.t[0] ? 0 : 1] = NULL;
	if (reason != HB_CLOSE_DONE)
		cut_both();
}

static const struct hb_transport_events cut_events = {
	.on_data = cut_on_data,
	.on_closed = cut_on_closed,
};

static void
make_wire(enum wire wire, struct hb_transport **a, struct hb_transport **b)
{
	unsigned i;

	if (wire == WIRE_TCP) {
		hbt_tcp_pair(a, b);
		return;
	}
	hb_pair_new(hbt_worker(), a, &n.cut.t[0]);
	hb_pair_new(hbt_worker(), &n.cut.t[1], b);
	for (i = 0; i < 2; i++) {
		hb_transport_attach(n.cut.t[i], &cut_events, NULL);
		hb_transport_read_disable(n.cut.t[i], -1);
	}
	hb_transport_accept(n.cut.t[0]);
}

/* ------------------------------------------------------------------ start and stop */

static void
start(enum wire wire)
{
	const struct hb_h2_request req = { .authority = HB_STR("inner.example:443") };
	struct hb_transport *a, *b, *stream;

	make_wire(wire, &a, &b);
	if (n.blocked)
		a = n.blocker = hbt_blocker(a);
	if (n.piece > 0) {
		a = hbt_splitter(a, n.piece);
		b = hbt_splitter(b, n.piece);
	}
	n.client = hb_h2_new(
		hb_tls_new(a, hbt_ends_pki.client_ctx, NULL), false, NULL, &session_events, NULL);
	n.server = hb_h2_new(
		hb_tls_new(b, hbt_ends_pki.server_ctx, NULL), true, NULL, &session_events, NULL);
	stream = hb_h2_open(n.client, &req);
	if (n.piece > 0)
		stream = hbt_splitter(stream, n.piece);
	hbt_attach(&n.a, hb_tls_new(stream, hbt_ends_pki.client_ctx, HBT_SERVER_DNS));
}

static void
stop(void)
{
	hbt_sink_fini(&n.a);
	hbt_sink_fini(&n.b);
	if (n.pump.magic != 0)
		hb_pump_abort(&n.pump, HB_CLOSE_LOCAL_CLOSE);
	if (n.stream != NULL)
		hb_transport_abort(&n.stream, HB_CLOSE_LOCAL_CLOSE);
	if (n.near != NULL)
		hb_transport_abort(&n.near, HB_CLOSE_LOCAL_CLOSE);
	if (n.client != NULL)
		hb_h2_close(&n.client, HB_CLOSE_LOCAL_CLOSE);
	if (n.server != NULL)
		hb_h2_close(&n.server, HB_CLOSE_LOCAL_CLOSE);
	cut_both();
	hbt_turns(8);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	hbt_turns(4);
	memset(&n, 0, sizeof n);
}

/* ------------------------------------------------------------------ sources */

static void
bulk(size_t piece, size_t len, size_t chunk)
{
	uint8_t *p = hbt_pattern(len, 21);
	struct hbt_feed src = { .p = p, .len = len, .chunk = chunk };

	n.piece = piece;
	n.a.hook = hbt_feed;
	n.a.arg = &src;
	n.b.echo = true;
	start(WIRE_TCP);
	HBT_UNTIL(n.a.closed == 1 && n.b.closed == 1 && n.pump_done == 1);
	assert_int_equal(n.a.reason, HB_CLOSE_DONE);
	assert_int_equal(n.b.reason, HB_CLOSE_DONE);
	assert_int_equal(n.pump_reason, HB_CLOSE_DONE);
	assert_true(hbt_got(&n.b, p, len));
	assert_true(hbt_got(&n.a, p, len));
	stop();
	hb_free(p);
}

/* ------------------------------------------------------------------ tests */

static void
test_nest__describes(void **state)
{
	const struct hb_tls_info *i;
	char text[64];

	n.b.echo = true;
	start(WIRE_TCP);
	HBT_UNTIL(n.a.secured == 1 && n.b.secured == 1);
	(void)hb_transport_describe(n.a.t, text, sizeof text);
	assert_string_equal(text, "tls(stream(tls(tcp)))");
	(void)hb_transport_describe(n.b.t, text, sizeof text);
	assert_string_equal(text, "tls(pair)");
	i = hb_transport_tls_info(n.a.t);
	assert_string_equal(i->peer->spiffe_id, HBT_SERVER_ID);
	i = hb_transport_tls_info(n.b.t);
	assert_string_equal(i->peer->spiffe_id, HBT_CLIENT_ID);
	assert_true(hb_str_eq(i->sni, HB_STR(HBT_SERVER_DNS)));
	stop();
}

static void
test_nest__echo(void **state)
{
	bulk(0, 1, 1);
	bulk(0, 16 * MIB, 256 * 1024);
	bulk(0, 3 * MIB, 1000);
	bulk(1, 32 * 1024, 5000);
	bulk(7, 256 * 1024, 50000);
	bulk(8, 256 * 1024, 50000);
	bulk(1000, 2 * MIB, 100000);
}

static void
test_nest__half_close(void **state)
{
	start(WIRE_TCP);
	HBT_UNTIL(n.a.secured == 1 && n.b.secured == 1);
	hbt_writez(&n.a, "request", true);
	HBT_UNTIL(n.b.ends == 1);
	assert_true(hbt_gotz(&n.b, "request"));
	hbt_writez(&n.b, "answer ", false);
	HBT_UNTIL(hbt_gotz(&n.a, "answer "));
	hbt_writez(&n.b, "and end", true);
	HBT_UNTIL(n.a.closed == 1 && n.b.closed == 1);
	assert_true(hbt_gotz(&n.a, "answer and end"));
	assert_int_equal(n.a.reason, HB_CLOSE_DONE);
	/* The tunnel's session stays. */
	assert_non_null(n.client);
	assert_int_equal(hb_h2_streams(n.client), 0);
	stop();
}

/* A reset goes through all layers; the outer session survives it. */
static void
reset(bool from_client)
{
	struct hbt_sink *other = from_client ? &n.b : &n.a;

	start(WIRE_TCP);
	HBT_UNTIL(n.a.secured == 1 && n.b.secured == 1);
	hb_transport_abort(from_client ? &n.a.t : &n.b.t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(other->closed == 1);
	assert_int_equal(other->ends, 0);
	assert_int_not_equal(other->reason, HB_CLOSE_DONE);
	assert_non_null(n.client);
	HBT_UNTIL(hb_h2_streams(n.client) == 0 && hb_h2_streams(n.server) == 0);
	stop();
}

static void
test_nest__reset(void **state)
{
	reset(true);
	reset(false);
}

static void
test_nest__reader_stops(void **state)
{
	uint8_t *p = hbt_pattern(32 * MIB, 4);
	struct hbt_feed src = { .p = p, .len = 32 * MIB, .chunk = 256 * 1024 };

	n.a.hook = hbt_feed;
	n.a.arg = &src;
	start(WIRE_TCP);
	HBT_UNTIL(n.b.secured == 1);
	hb_transport_read_disable(n.b.t, 1);
	hbt_turns(200);
	/* Everything between holds a bounded part and the source was told. */
	assert_true(n.a.above);
	assert_true(src.off < 8 * MIB);
	hb_transport_read_disable(n.b.t, -1);
	HBT_UNTIL(n.b.ends == 1);
	assert_true(hbt_got(&n.b, p, 32 * MIB));
	stop();
	hb_free(p);
}

static void
test_nest__blocked_wire(void **state)
{
	uint8_t *p = hbt_pattern(4 * MIB, 4);
	struct hbt_feed src = { .p = p, .len = 4 * MIB, .chunk = 256 * 1024 };
	unsigned i;

	n.blocked = true;
	n.a.hook = hbt_feed;
	n.a.arg = &src;
	n.b.echo = true;
	start(WIRE_TCP);
	for (i = 0; i < 20000 && n.a.secured == 0; i++) {
		hbt_release(n.blocker, 1);
		hbt_turns(1);
	}
	assert_int_equal(n.a.secured, 1);
	hbt_turns(50);
	assert_true(n.a.above);
	assert_true(hb_transport_pending(n.blocker) < 2 * MIB);
	hbt_release(n.blocker, SIZE_MAX);
	HBT_UNTIL(n.a.closed == 1);
	assert_int_equal(n.a.reason, HB_CLOSE_DONE);
	assert_true(hbt_got(&n.a, p, 4 * MIB));
	stop();
	hb_free(p);
}

static void
let_go(bool server, unsigned event, bool finish)
{
	uint8_t *p = hbt_pattern(3 * MIB, 5);
	struct hbt_feed src = { .p = p, .len = 3 * MIB, .chunk = 512 * 1024 };
	struct hbt_sink *one = server ? &n.b : &n.a, *other = server ? &n.a : &n.b;

	n.a.hook = hbt_feed;
	n.a.arg = &src;
	n.b.echo = true;
	one->let_go_in = event;
	one->let_go_finish = finish;
	start(WIRE_TCP);
	HBT_UNTIL((one->connected || one->closed) && one->t == NULL);
	HBT_UNTIL(other->closed > 0 || other->ends > 0 ||
		(!server && n.server_streams == 0 && hb_h2_streams(n.client) == 0) ||
		(n.server_streams == 1 && n.b.t == NULL));
	stop();
	hb_free(p);
}

static void
test_nest__let_go(void **state)
{
	unsigned event;

	for (event = HBT_CONNECTED; event <= HBT_CLOSED; event <<= 1) {
		let_go(false, event, false);
		let_go(true, event, false);
		let_go(false, event, true);
		let_go(true, event, true);
	}
}

static size_t
cut_at(size_t bytes, const uint8_t *p, size_t len)
{
	struct hbt_feed src = { .p = p, .len = len, .chunk = 300 };
	size_t passed;

	n.cut.left = bytes;
	n.a.hook = hbt_feed;
	n.a.arg = &src;
	n.b.echo = true;
	start(WIRE_CUT);
	HBT_UNTIL(n.a.closed == 1);
	if (bytes == SIZE_MAX)
		assert_true(hbt_got(&n.a, p, len));
	HBT_UNTIL(n.b.t == NULL && n.stream == NULL && n.near == NULL);
	passed = n.cut.passed;
	stop();
	return (passed);
}

static void
test_nest__cut_at_every_nth_byte(void **state)
{
	uint8_t *p = hbt_pattern(2000, 8);
	size_t k, whole = cut_at(SIZE_MAX, p, 2000);

	assert_true(whole > 6000 && whole < 40000);
	for (k = 1; k < whole; k += 11)
		(void)cut_at(k, p, 2000);
	hb_free(p);
}

/* ------------------------------------------------------------------ time */

static void
test_nest__inner_handshake_times_out(void **state)
{
	n.silent = true;
	start(WIRE_TCP);
	HBT_UNTIL(n.a.connected == 1 && n.b.data > 0);
	hbt_advance(13000);
	assert_int_equal(n.a.closed, 0);
	hbt_advance(2000);
	HBT_UNTIL(n.a.closed == 1 && n.b.closed == 1 && n.pump_done == 1);
	assert_int_equal(n.a.reason, HB_CLOSE_TLS_TIMEOUT);
	assert_int_not_equal(n.b.reason, HB_CLOSE_DONE);
	stop();
}

static void
test_nest__pump_idles_out(void **state)
{
	n.idle_timeout_ms = 60000;
	n.b.echo = true;
	start(WIRE_TCP);
	HBT_UNTIL(n.a.secured == 1 && n.b.secured == 1);
	hbt_advance(40000);
	hbt_writez(&n.a, "tick", false);
	HBT_UNTIL(hbt_gotz(&n.a, "tick"));
	hbt_advance(40000);
	assert_int_equal(n.pump_done, 0);
	hbt_advance(25000);
	HBT_UNTIL(n.pump_done == 1 && n.a.closed == 1 && n.b.closed == 1);
	assert_int_equal(n.pump_reason, HB_CLOSE_IDLE_TIMEOUT);
	assert_int_equal(n.a.reason, HB_CLOSE_PEER_TRUNCATED);
	stop();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nest__describes),
		cmocka_unit_test(test_nest__echo),
		cmocka_unit_test(test_nest__half_close),
		cmocka_unit_test(test_nest__reset),
		cmocka_unit_test(test_nest__reader_stops),
		cmocka_unit_test(test_nest__blocked_wire),
		cmocka_unit_test(test_nest__let_go),
		cmocka_unit_test(test_nest__cut_at_every_nth_byte),
		cmocka_unit_test(test_nest__inner_handshake_times_out),
		cmocka_unit_test(test_nest__pump_idles_out),
	};

	return (cmocka_run_group_tests(tests, hbt_ends_setup, hbt_ends_teardown));
}

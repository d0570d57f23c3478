/* SPDX-License-Identifier: Apache-2.0 */
/* Two ends over a pair, loopback TCP, or another TLS: bytes, endings, pressure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>
#include "test/support/ends.h"

#define MIB (1024u * 1024u)

struct rig {
	struct hbt_sink a, b; /* client, server */
};

static void
rig_start(struct rig *r, enum hbt_below below, size_t piece)
{
	struct hb_transport *a, *b;

	hbt_ends(below, 0, &a, &b);
	if (piece > 0) {
		a = hbt_splitter(a, piece);
		b = hbt_splitter(b, piece);
	}
	hbt_attach(&r->a, hb_tls_new(a, hbt_ends_pki.client_ctx, HBT_SERVER_DNS));
	hbt_attach(&r->b, hb_tls_new(b, hbt_ends_pki.server_ctx, NULL));
}

static void
rig_stop(struct rig *r)
{
	hbt_sink_fini(&r->a);
	hbt_sink_fini(&r->b);
	hbt_turns(4);
}

static void
secure(struct rig *r)
{
	HBT_UNTIL(r->a.secured == 1 && r->b.secured == 1);
}

static void
test_tls__says_who(void **state)
{
	const struct hb_tls_info *i;
	struct rig r = { 0 };

	rig_start(&r, HBT_OVER_TCP, 0);
	secure(&r);
	i = hb_transport_tls_info(r.a.t);
	assert_string_equal(i->version, "TLSv1.3");
	assert_non_null(strstr(i->cipher, "TLS_"));
	assert_true(hb_str_eq(i->alpn, HB_STR("h2")));
	assert_true(hb_str_eq(i->sni, HB_STR(HBT_SERVER_DNS)));
	assert_string_equal(i->peer->spiffe_id, HBT_SERVER_ID);
	assert_string_equal(i->local->spiffe_id, HBT_CLIENT_ID);
	assert_true(i->peer_verified);
	assert_false(i->resumed);
	assert_null(i->failure);
	i = hb_transport_tls_info(r.b.t);
	assert_true(hb_str_eq(i->sni, HB_STR(HBT_SERVER_DNS)));
	assert_string_equal(i->peer->spiffe_id, HBT_CLIENT_ID);
	assert_string_equal(i->local->spiffe_id, HBT_SERVER_ID);
	assert_true(i->peer_verified);
	rig_stop(&r);
}

static void
echo(enum hbt_below below, size_t piece)
{
	struct rig r = { .b.echo = true };

	rig_start(&r, below, piece);
	secure(&r);
	hbt_writez(&r.a, "hello", false);
	HBT_UNTIL(hbt_gotz(&r.a, "hello"));
	hbt_writez(&r.a, " again", true);
	HBT_UNTIL(r.a.closed == 1 && r.b.closed == 1);
	assert_true(hbt_gotz(&r.a, "hello again"));
	assert_int_equal(r.a.reason, HB_CLOSE_DONE);
	assert_int_equal(r.b.reason, HB_CLOSE_DONE);
	assert_string_equal(r.b.trace, r.b.sent > 0 ? r.b.trace : "csdeX");
	rig_stop(&r);
}

static void
test_tls__echo(void **state)
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
	uint8_t *p = hbt_pattern(len, 7);
	struct hbt_feed src = { .p = p, .len = len, .chunk = chunk };
	struct rig r = { .a.hook = hbt_feed, .a.arg = &src, .b.echo = true };

	rig_start(&r, below, piece);
	HBT_UNTIL(r.a.closed == 1 && r.b.closed == 1);
	assert_int_equal(r.a.reason, HB_CLOSE_DONE);
	assert_true(hbt_got(&r.b, p, len));
	assert_true(hbt_got(&r.a, p, len));
	rig_stop(&r);
	hb_free(p);
}

static void
test_tls__bulk(void **state)
{
	bulk(HBT_OVER_TCP, 0, 64 * MIB, 256 * 1024);
	bulk(HBT_OVER_PAIR, 0, 64 * MIB, 1000 * 1000);
	bulk(HBT_OVER_TLS, 0, 16 * MIB, 100000);
	bulk(HBT_OVER_TCP, 0, 1 * MIB, 1);
}

static void
test_tls__bulk_split(void **state)
{
	static const size_t pieces[] = { 1, 7, 8, 4096 };
	unsigned i;

	for (i = 0; i < HB_ARRAY_LEN(pieces); i++) {
		bulk(HBT_OVER_TCP, pieces[i], pieces[i] == 1 ? 128 * 1024 : MIB, 50000);
		bulk(HBT_OVER_TLS, pieces[i], pieces[i] == 1 ? 64 * 1024 : MIB, 50000);
	}
}

/* Slices of all lengths, so that records are gathered and cut in every way. */
static void
test_tls__slices(void **state)
{
	static const size_t sizes[] = { 9, 16375, 1, 16384, 16383, 2, 40000, 300000, 9, 262144, 5 };
	struct rig r = { 0 };
	struct hb_buf buf = { NULL, NULL, 0 };
	struct hb_slice slice[HB_ARRAY_LEN(sizes)];
	size_t i, len = 0, off = 0;
	uint8_t *p;

	for (i = 0; i < HB_ARRAY_LEN(sizes); i++)
		len += sizes[i];
	p = hbt_pattern(len, 3);
	rig_start(&r, HBT_OVER_TCP, 0);
	secure(&r);
	for (i = 0; i < HB_ARRAY_LEN(sizes); i++) {
		hb_buf_borrow(&buf, &slice[i], p + off, sizes[i]);
		off += sizes[i];
	}
	hb_transport_write(r.a.t, &buf, false);
	HBT_UNTIL(r.b.got.len == len);
	assert_true(hbt_got(&r.b, p, len));
	rig_stop(&r);
	hb_free(p);
}

/* Written before the handshake, ended before the handshake, let go before the handshake. */
static void
test_tls__early_writes(void **state)
{
	struct rig r = { .b.end_on_end = true };

	rig_start(&r, HBT_OVER_TCP, 0);
	hbt_writez(&r.a, "early ", false);
	hbt_writez(&r.a, "bird", true);
	hbt_writez(&r.b, "late", false);
	HBT_UNTIL(r.a.closed == 1 && r.b.closed == 1);
	assert_true(hbt_gotz(&r.b, "early bird"));
	assert_true(hbt_gotz(&r.a, "late"));
	assert_int_equal(r.a.reason, HB_CLOSE_DONE);
	rig_stop(&r);
	memset(&r, 0, sizeof r);
	r.b.end_on_end = true;
	rig_start(&r, HBT_OVER_TCP, 0);
	hbt_writez(&r.a, "left behind", false);
	hb_transport_finish(&r.a.t, HB_CLOSE_LOCAL_CLOSE);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 1);
	HBT_UNTIL(r.b.closed == 1);
	assert_true(hbt_gotz(&r.b, "left behind"));
	assert_int_equal(r.b.reason, HB_CLOSE_DONE);
	rig_stop(&r);
}

/* ------------------------------------------------------------------ endings */

static void
half_close(enum hbt_below below)
{
	struct rig r = { 0 };

	rig_start(&r, below, 0);
	secure(&r);
	hbt_writez(&r.a, "request", true);
	HBT_UNTIL(r.b.ends == 1);
	assert_true(hbt_gotz(&r.b, "request"));
	assert_int_equal(r.b.closed, 0);
	hbt_writez(&r.b, "one ", false);
	HBT_UNTIL(hbt_gotz(&r.a, "one "));
	hbt_writez(&r.b, "two", true);
	HBT_UNTIL(r.a.closed == 1 && r.b.closed == 1);
	assert_true(hbt_gotz(&r.a, "one two"));
	assert_int_equal(r.a.reason, HB_CLOSE_DONE);
	assert_int_equal(r.b.reason, HB_CLOSE_DONE);
	rig_stop(&r);
}

static void
test_tls__half_close(void **state)
{
	half_close(HBT_OVER_PAIR);
	half_close(HBT_OVER_TCP);
	half_close(HBT_OVER_TLS);
}

static void
abort_one(enum hbt_below below, bool server)
{
	struct rig r = { 0 };
	struct hbt_sink *other = server ? &r.a : &r.b;

	rig_start(&r, below, 0);
	secure(&r);
	hb_transport_abort(server ? &r.b.t : &r.a.t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(other->closed == 1);
	assert_int_equal(other->ends, 0);
	if (below == HBT_OVER_TCP)
		assert_int_equal(other->reason, HB_CLOSE_PEER_RESET);
	rig_stop(&r);
}

static void
test_tls__reset(void **state)
{
	abort_one(HBT_OVER_PAIR, false);
	abort_one(HBT_OVER_TCP, false);
	abort_one(HBT_OVER_TLS, false);
	abort_one(HBT_OVER_TCP, true);
}

static void
test_tls__finish(void **state)
{
	struct rig r = { .b.end_on_end = true };
	uint8_t *p = hbt_pattern(3 * MIB, 1);

	rig_start(&r, HBT_OVER_TCP, 0);
	secure(&r);
	hbt_write(&r.a, p, 3 * MIB, false);
	hb_transport_finish(&r.a.t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(r.b.closed == 1);
	assert_int_equal(r.b.reason, HB_CLOSE_DONE);
	assert_true(hbt_got(&r.b, p, 3 * MIB));
	rig_stop(&r);
	hb_free(p);
}

/* The peer's socket ends without close_notify: below TLS, where only the lower transport knows. */
static void
bare_fin(struct hb_tls_ctx *ctx, struct hbt_sink *b)
{
	struct hb_transport *lower[2];
	struct hbt_sink a = { 0 };
	int fd;

	hbt_tcp_pair(&lower[0], &lower[1]);
	fd = hb_tcp_fd(lower[0]);
	hbt_attach(&a, hb_tls_new(lower[0], hbt_ends_pki.client_ctx, NULL));
	hbt_attach(b, hb_tls_new(lower[1], ctx, NULL));
	HBT_UNTIL(a.secured == 1 && b->secured == 1);
	hbt_writez(&a, "half a ", false);
	hbt_turns(2);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	HBT_UNTIL(b->closed == 1 || b->ends == 1);
	hbt_sink_fini(&a);
	hbt_turns(4);
}

static void
test_tls__truncated(void **state)
{
	struct hbt_sink b = { 0 };
	struct hb_tls_cert cert = hbt_tls_cert(hbt_ends_pki.server);
	struct hb_tls_config c = {
		.server = true, .certs = &cert, .n_certs = 1, .bare_fin_is_end = true
	};
	struct hb_tls_ctx *ctx = hbt_tls_ctx(&c);

	bare_fin(hbt_ends_pki.server_ctx, &b);
	assert_true(hbt_gotz(&b, "half a "));
	assert_int_equal(b.ends, 0);
	assert_int_equal(b.reason, HB_CLOSE_PEER_TRUNCATED);
	hbt_sink_fini(&b);
	memset(&b, 0, sizeof b);
	bare_fin(ctx, &b);
	assert_true(hbt_gotz(&b, "half a "));
	assert_int_equal(b.ends, 1);
	hbt_sink_fini(&b);
	hbt_turns(4);
	hb_tls_ctx_free(&ctx);
}

/* ------------------------------------------------------------------ letting go in every event */

static void
let_go(enum hbt_below below, bool server, unsigned event, bool finish)
{
	uint8_t *p = hbt_pattern(3 * MIB, 5);
	struct hbt_feed src = { .p = p, .len = 3 * MIB, .chunk = 512 * 1024 };
	struct rig r = { .a.hook = hbt_feed, .a.arg = &src, .b.echo = true };
	struct hbt_sink *one = server ? &r.b : &r.a, *other = server ? &r.a : &r.b;

	one->let_go_in = event;
	one->let_go_finish = finish;
	rig_start(&r, below, 0);
	HBT_UNTIL((one->t == NULL || one->closed > 0) && (other->closed > 0 || other->ends > 0));
	rig_stop(&r);
	hbt_turns(20);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	hb_free(p);
}

static void
test_tls__let_go(void **state)
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

/* ------------------------------------------------------------------ pressure */

static void
test_tls__reader_stops(void **state)
{
	uint8_t *p = hbt_pattern(32 * MIB, 9);
	struct hbt_feed src = { .p = p, .len = 32 * MIB, .chunk = 256 * 1024 };
	struct rig r = { .a.hook = hbt_feed, .a.arg = &src };
	struct hb_transport *a, *b;

	hbt_ends(HBT_OVER_TCP, 0, &a, &b);
	hbt_attach(&r.a, hb_tls_new(a, hbt_ends_pki.client_ctx, NULL));
	hbt_attach_paused(&r.b, hb_tls_new(b, hbt_ends_pki.server_ctx, NULL));
	secure(&r);
	hbt_turns(200);
	assert_true(r.a.above);
	assert_int_equal(r.b.got.len, 0);
	assert_true(src.off < 32 * MIB);
	assert_true(hb_transport_pending(r.a.t) < MIB + 512 * 1024);
	hb_transport_read_disable(r.b.t, -1);
	HBT_UNTIL(r.b.ends == 1);
	assert_true(hbt_got(&r.b, p, 32 * MIB));
	assert_true(r.a.lows > 0);
	rig_stop(&r);
	hb_free(p);
}

/* One pause after each event: nothing may be lost or delivered while paused. */
static void
test_tls__pause_each(void **state)
{
	uint8_t *p = hbt_pattern(2 * MIB, 11);
	struct hbt_feed src = { .p = p, .len = 2 * MIB, .chunk = 300 * 1024 };
	struct rig r = { .a.hook = hbt_feed, .a.arg = &src, .b.pause_each = true };
	unsigned below;

	for (below = HBT_OVER_PAIR; below <= HBT_OVER_TLS; below++) {
		src.off = 0;
		rig_start(&r, (enum hbt_below)below, 0);
		HBT_UNTIL((r.b.t != NULL && r.b.t->read_disabled > 0 && r.b.ends == 0 ?
				hb_transport_read_disable(r.b.t, -1) :
				(void)0,
			r.b.ends == 1));
		assert_true(hbt_got(&r.b, p, 2 * MIB));
		rig_stop(&r);
		memset(&r, 0, sizeof r);
		r.a.hook = hbt_feed;
		r.a.arg = &src;
		r.b.pause_each = true;
	}
	hb_free(p);
}

/* A relay without pressure copies nothing but what the handshake needs. */
static void
test_tls__copies_nothing(void **state)
{
	struct rig r = { 0 };
	uint8_t *p = hbt_pattern(128 * 1024, 13);
	uint64_t before;
	unsigned i;

	rig_start(&r, HBT_OVER_TCP, 0);
	secure(&r);
	hbt_turns(4);
	for (i = 0; i < 16; i++) {
		struct hb_buf buf = { NULL, NULL, 0 };
		struct hb_slice slice;

		before = hb_buf_copied();
		hb_buf_borrow(&buf, &slice, p, 128 * 1024);
		hb_transport_write(r.a.t, &buf, false);
		HBT_UNTIL(r.b.got.len == (i + 1) * 128u * 1024u);
		assert_int_equal(hb_buf_copied() - before, 0);
	}
	rig_stop(&r);
	hb_free(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tls__says_who),
		cmocka_unit_test(test_tls__echo),
		cmocka_unit_test(test_tls__bulk),
		cmocka_unit_test(test_tls__bulk_split),
		cmocka_unit_test(test_tls__slices),
		cmocka_unit_test(test_tls__early_writes),
		cmocka_unit_test(test_tls__half_close),
		cmocka_unit_test(test_tls__reset),
		cmocka_unit_test(test_tls__finish),
		cmocka_unit_test(test_tls__truncated),
		cmocka_unit_test(test_tls__let_go),
		cmocka_unit_test(test_tls__reader_stops),
		cmocka_unit_test(test_tls__pause_each),
		cmocka_unit_test(test_tls__copies_nothing),
	};

	return (cmocka_run_group_tests(tests, hbt_ends_setup, hbt_ends_teardown));
}

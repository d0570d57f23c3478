/* SPDX-License-Identifier: Apache-2.0 */
#include "test/core/transport/pump_fixture.h"

/* ------------------------------------------------------------------ between two pairs */

/* peer a <-> pump <-> peer b */
static void
pairs_start(struct fixture *f, struct peer *a, struct peer *b, const struct hb_pump_options *opt)
{
	static const struct hb_pump_options none;
	struct hb_transport *a_far, *a_near, *b_near, *b_far;
	struct peer maker_a, maker_b;

	memset(f, 0, sizeof *f);
	hb_pair_new(w, &a_far, &a_near);
	hb_pair_new(w, &b_near, &b_far);
	peer_attach(a, a_far);
	peer_attach(b, b_far);
	peer_attach(&maker_a, a_near);
	peer_attach(&maker_b, b_near);
	hb_transport_accept(a_near);
	hb_transport_accept(b_far);
	turns(2);
	assert_true(maker_a.connected && maker_b.connected && a->connected && b->connected);
	hb_transport_read_disable(a_far, -1);
	hb_transport_read_disable(b_far, -1);
	hb_pump_start(&f->pump, a_near, b_near, &pump_ops, opt == NULL ? &none : opt);
}

static void
test_pump__half_close_both_ways(void **state)
{
	for (int first = 0; first < 2; first++) {
		struct fixture f;
		struct peer a, b, *x = first ? &b : &a, *y = first ? &a : &b;

		pairs_start(&f, &a, &b, NULL);
		peer_write(x, "request", false);
		peer_write(x, " and end", true);
		turns(3);
		peer_expect(y, "request and end");
		assert_true(y->end);
		assert_false(x->end);
		assert_int_equal(f.half_closed[first], 1);
		assert_int_equal(f.half_closed[1 - first], 0);
		assert_int_equal(f.done, 0);
		peer_write(y, "answer", false);
		turns(3);
		peer_expect(x, "answer");
		peer_write(y, "", true);
		turns(3);
		assert_true(x->end);
		assert_int_equal(f.done, 1);
		assert_int_equal(f.reason, HB_CLOSE_DONE);
		assert_int_equal(f.progress[first], 15);
		assert_int_equal(f.pump.dir[1 - first].bytes, 6);
		assert_int_equal(x->closed, HB_CLOSE_DONE);
		assert_int_equal(y->closed, HB_CLOSE_DONE);
	}
}

static void
test_pump__reset_both_ways(void **state)
{
	for (int first = 0; first < 2; first++) {
		struct fixture f;
		struct peer a, b, *x = first ? &b : &a, *y = first ? &a : &b;

		pairs_start(&f, &a, &b, NULL);
		peer_write(x, "last words", false);
		turns(2);
		hb_transport_abort(&x->t, HB_CLOSE_LOCAL_CLOSE);
		turns(3);
		peer_expect(y, "last words");
		assert_false(y->end);
		assert_int_equal(y->closed, HB_CLOSE_PEER_RESET);
		assert_int_equal(f.done, 1);
		assert_int_equal(f.by, first);
		assert_int_equal(f.reason, HB_CLOSE_PEER_RESET);
	}
}

/* The receiver has paused: what was received before the reset still reaches it, then the reset. */
static void
test_pump__reset_waits_for_the_queue(void **state)
{
	struct fixture f;
	struct peer a, b;

	pairs_start(&f, &a, &b, NULL);
	hb_transport_read_disable(b.t, 1);
	peer_write(&a, "kept", false);
	turns(2);
	hb_transport_abort(&a.t, HB_CLOSE_LOCAL_CLOSE);
	turns(3);
	assert_int_equal(f.done, 0);
	assert_int_equal(b.closed, HB_CLOSE_NONE);
	hb_transport_read_disable(b.t, -1);
	turns(3);
	peer_expect(&b, "kept");
	assert_int_equal(b.closed, HB_CLOSE_PEER_RESET);
	assert_int_equal(f.reason, HB_CLOSE_PEER_RESET);
	assert_int_equal(f.by, HB_PUMP_A);
}

static void
test_pump__reset_of_a_stuck_receiver_in_time(void **state)
{
	struct fixture f;
	struct peer a, b;

	hb_clock_fake(w, 1000);
	pairs_start(&f, &a, &b, NULL);
	hb_transport_read_disable(b.t, 1);
	peer_write(&a, "never read", false);
	turns(2);
	hb_transport_abort(&a.t, HB_CLOSE_LOCAL_CLOSE);
	turns(3);
	hb_clock_advance(w, HB_FLUSH_TIMEOUT_MS - 1);
	turns(2);
	assert_int_equal(f.done, 0);
	hb_clock_advance(w, HB_FLUSH_TIMEOUT_MS / 10);
	turns(3);
	assert_int_equal(f.reason, HB_CLOSE_PEER_RESET);
	assert_int_equal(b.closed, HB_CLOSE_PEER_RESET);
}

/* A reset after the end takes nothing back: the other side keeps a clean end. */
static void
test_pump__reset_after_the_end(void **state)
{
	struct fixture f;
	struct peer a, b;

	pairs_start(&f, &a, &b, NULL);
	hb_transport_read_disable(b.t, 1);
	peer_write(&a, "all of it", true);
	turns(3);
	hb_transport_abort(&a.t, HB_CLOSE_LOCAL_CLOSE);
	turns(3);
	assert_int_equal(f.done, 1);
	assert_int_equal(f.by, HB_PUMP_A);
	hb_transport_read_disable(b.t, -1);
	turns(3);
	peer_expect(&b, "all of it");
	assert_true(b.end);
	hb_transport_finish(&b.t, HB_CLOSE_DONE);
	turns(3);
}

static void
test_pump__blocked_consumer_stops_the_source(void **state)
{
	static char piece[10000];
	struct fixture f;
	struct peer a, b;
	size_t sent = 0;

	memset(piece, 'x', sizeof piece - 1);
	pairs_start(&f, &a, &b, NULL);
	hb_transport_read_disable(b.t, 1);
	for (int i = 0; i < 1000 && !a.high; i++) {
		peer_write(&a, piece, false);
		sent += sizeof piece - 1;
		turns(2);
	}
	assert_true(a.high);
	assert_true(sent < 100000);
	turns(5);
	hb_transport_read_disable(b.t, -1);
	turns(5);
	assert_false(a.high);
	assert_int_equal(b.got.len, sent);
	peer_write(&a, "more", true);
	peer_write(&b, "", true);
	turns(4);
	assert_int_equal(b.got.len, sent + 4);
	hb_buf_fini(&b.got);
	assert_int_equal(f.done, 1);
}

static void
test_pump__idle_timeout(void **state)
{
	const struct hb_pump_options opt = { .idle_timeout_ms = 1000 };
	struct fixture f;
	struct peer a, b;

	hb_clock_fake(w, 5000);
	pairs_start(&f, &a, &b, &opt);
	for (int i = 0; i < 20; i++) {
		hb_clock_advance(w, 900);
		peer_write(i % 2 ? &a : &b, "x", false);
		turns(2);
		assert_int_equal(f.done, 0);
	}
	hb_clock_advance(w, 999);
	assert_int_equal(f.done, 0);
	hb_clock_advance(w, 100);
	assert_int_equal(f.done, 1);
	assert_int_equal(f.reason, HB_CLOSE_IDLE_TIMEOUT);
	turns(3);
	/* Not an error: both see a clean end. */
	assert_true(a.end && b.end);
	hb_buf_fini(&a.got);
	hb_buf_fini(&b.got);
	hb_transport_finish(&a.t, HB_CLOSE_DONE);
	hb_transport_finish(&b.t, HB_CLOSE_DONE);
	turns(3);
}

static void
test_pump__half_close_timeout(void **state)
{
	const struct hb_pump_options opt = { .idle_timeout_ms = 100000,
		.half_close_timeout_ms = 500 };
	struct fixture f;
	struct peer a, b;

	hb_clock_fake(w, 5000);
	pairs_start(&f, &a, &b, &opt);
	hb_clock_advance(w, 2000);
	peer_write(&a, "end", true);
	turns(3);
	hb_clock_advance(w, 400);
	peer_write(&b, "still here", false);
	turns(3);
	hb_clock_advance(w, 499);
	assert_int_equal(f.done, 0);
	hb_clock_advance(w, 50);
	assert_int_equal(f.done, 1);
	assert_int_equal(f.reason, HB_CLOSE_IDLE_TIMEOUT);
	assert_int_equal(f.by, HB_PUMP_B);
	turns(3);
	hb_buf_fini(&a.got);
	hb_buf_fini(&b.got);
	assert_int_equal(a.closed, HB_CLOSE_DONE);
	hb_transport_finish(&b.t, HB_CLOSE_DONE);
	turns(3);
}

/* Both have ended, one takes nothing: bounded, and it sees a reset. */
static void
test_pump__flush_timeout(void **state)
{
	struct fixture f;
	struct peer a, b;

	hb_clock_fake(w, 5000);
	pairs_start(&f, &a, &b, NULL);
	hb_transport_read_disable(b.t, 1);
	peer_write(&a, "unread", true);
	peer_write(&b, "", true);
	turns(4);
	assert_int_equal(f.done, 0);
	hb_clock_advance(w, HB_FLUSH_TIMEOUT_MS + HB_FLUSH_TIMEOUT_MS / 10);
	turns(3);
	assert_int_equal(f.done, 1);
	assert_int_equal(f.reason, HB_CLOSE_FLUSH_TIMEOUT);
	assert_int_equal(f.by, HB_PUMP_B);
	assert_int_equal(b.closed, HB_CLOSE_PEER_RESET);
}

static void
test_pump__abort_from_inside(void **state)
{
	for (int kind = 0; kind < 3; kind++) {
		struct fixture f;
		struct peer a, b;

		pairs_start(&f, &a, &b, NULL);
		f.abort_on_progress = kind == 0 ? HB_CLOSE_RBAC_DENIED : HB_CLOSE_NONE;
		f.abort_on_half_close = kind == 1 ? HB_CLOSE_RBAC_DENIED : HB_CLOSE_NONE;
		peer_write(&a, "x", true);
		if (kind == 2)
			hb_pump_abort(&f.pump, HB_CLOSE_DRAINED);
		turns(3);
		hb_pump_abort(&f.pump, HB_CLOSE_ADMIN);
		assert_int_equal(f.done, 0);
		assert_int_equal(a.closed, HB_CLOSE_PEER_RESET);
		assert_int_equal(b.closed, HB_CLOSE_PEER_RESET);
		hb_buf_fini(&b.got);
	}
}

int
main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_pump__half_close_both_ways),
		TEST(test_pump__reset_both_ways),
		TEST(test_pump__reset_waits_for_the_queue),
		TEST(test_pump__reset_of_a_stuck_receiver_in_time),
		TEST(test_pump__reset_after_the_end),
		TEST(test_pump__blocked_consumer_stops_the_source),
		TEST(test_pump__idle_timeout),
		TEST(test_pump__half_close_timeout),
		TEST(test_pump__flush_timeout),
		TEST(test_pump__abort_from_inside),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

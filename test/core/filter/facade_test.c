/* SPDX-License-Identifier: Apache-2.0 */
/* The downstream as the terminal filter's transport. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/core/filter/rec.h"

static struct hb_chain *chain;
static struct hbf h;
static struct hbt_sink sink; /* of the terminal filter */

static int
setup(void **state)
{
	(void)rec_setup(state);
	memset(&h, 0, sizeof h);
	memset(&sink, 0, sizeof sink);
	chain = hbf_filters(REC_CHAIN);
	return (0);
}

static int
teardown(void **state)
{
	hbt_sink_fini(&sink);
	hbf_close(&h);
	hb_chain_free(&chain);
	return (rec_teardown(state));
}

static void
take(enum hbf_wire wire, bool paused)
{
	struct hbf_options o = { .wire = wire };
	struct hb_transport *t;

	hbf_open(&h, chain, &o);
	HBT_UNTIL(rec_t.f != NULL && h.client.secured);
	hbt_turns(2);
	t = hb_filter_take_downstream(rec_t.f);
	assert_true(t->connected && t->secured);
	if (paused)
		hbt_attach_paused(&sink, t);
	else
		hbt_attach(&sink, t);
	rec_expect(" aC bC tC aS bS tS");
}

static void
test_facade__bytes_both_ways(void **state)
{
	char text[32];

	take(HBF_PAIR, false);
	assert_int_equal(hb_transport_describe(sink.t, text, sizeof text), 11);
	assert_string_equal(text, "chain(pair)");
	hbt_writez(&h.client, "down", true);
	HBT_UNTIL(sink.ends == 1);
	assert_true(hbt_gotz(&sink, "down"));
	rec_expect(" a<down. b<down.");
	hbt_writez(&sink, "up", true);
	rec_expect(" b>up. a>up.");
	HBT_UNTIL(h.closed);
	assert_true(hbt_gotz(&h.client, "up"));
	assert_int_equal(sink.reason, HB_CLOSE_DONE);
	assert_int_equal(h.reason, HB_CLOSE_DONE);
	rec_expect(" aF bF tF");
}

static void
test_facade__finish(void **state)
{
	take(HBF_TCP, false);
	hbt_writez(&sink, "rest", false);
	hb_transport_finish(&sink.t, HB_CLOSE_LOCAL_CLOSE);
	rec_expect(" b>rest a>rest b>. a>.");
	HBT_UNTIL(h.closed && h.client.ends == 1);
	assert_true(hbt_gotz(&h.client, "rest"));
	assert_int_equal(h.reason, HB_CLOSE_LOCAL_CLOSE);
	rec_expect(" aF bF tF");
}

static void
test_facade__abort(void **state)
{
	take(HBF_TCP, false);
	hb_transport_abort(&sink.t, HB_CLOSE_STREAM_RESET);
	HBT_UNTIL(h.closed && h.client.closed);
	assert_int_equal(h.client.reason, HB_CLOSE_PEER_RESET);
	assert_int_equal(h.reason, HB_CLOSE_UPSTREAM_RESET);
}

/* Another filter ends the connection: the sink is told why. */
static void
test_facade__closed_by_filter(void **state)
{
	take(HBF_TCP, false);
	hb_filter_close(rec_a.f, HB_CLOSE_REVOKED);
	HBT_UNTIL(h.closed);
	assert_int_equal(sink.closed, 1);
	assert_int_equal(sink.reason, HB_CLOSE_REVOKED);
}

static void
test_facade__finished_by_filter(void **state)
{
	take(HBF_TCP, false);
	hb_filter_finish(rec_a.f, HB_CLOSE_DONE);
	HBT_UNTIL(h.closed);
	assert_int_equal(sink.reason, HB_CLOSE_LOCAL_CLOSE);
	assert_int_equal(h.client.ends, 1);
}

/* What arrived before the reset is delivered first, even to a sink that does not read yet. */
static void
test_facade__reset_with_bytes_unread(void **state)
{
	take(HBF_PAIR, false);
	rec_b.answer[REC_READ] = HB_FILTER_STOP;
	hbt_writez(&h.client, "last", false);
	hbt_turns(3);
	hb_transport_read_disable(sink.t, 1);
	rec_b.answer[REC_READ] = HB_FILTER_CONTINUE;
	hb_filter_continue(rec_b.f);
	hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
	hbt_turns(5);
	assert_int_equal(sink.data, 0);
	assert_false(h.closed);
	hb_transport_read_disable(sink.t, -1);
	HBT_UNTIL(h.closed);
	assert_true(hbt_gotz(&sink, "last"));
	assert_int_equal(sink.reason, HB_CLOSE_PEER_RESET);
}

/* … unless somebody has no time for it. */
static void
test_facade__reset_and_closed(void **state)
{
	take(HBF_PAIR, false);
	rec_b.answer[REC_READ] = HB_FILTER_STOP;
	hbt_writez(&h.client, "last", false);
	hbt_turns(3);
	hb_transport_read_disable(sink.t, 1);
	rec_b.answer[REC_READ] = HB_FILTER_CONTINUE;
	hb_filter_continue(rec_b.f);
	hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
	hbt_turns(5);
	assert_false(h.closed);
	hb_conn_close(h.conn, HB_CLOSE_SHUTDOWN);
	HBT_UNTIL(h.closed);
	assert_int_equal(sink.closed, 1);
	assert_int_equal(sink.data, 0);
}

static void
test_facade__held_bytes_come_first(void **state)
{
	struct hb_transport *t;

	rec_t.answer[REC_READ] = HB_FILTER_STOP;
	hbf_open(&h, chain, NULL);
	HBT_UNTIL(rec_t.f != NULL && h.client.secured);
	hbt_writez(&h.client, "one ", false);
	hbt_turns(3);
	hbt_writez(&h.client, "two", true);
	hbt_turns(3);
	t = hb_filter_take_downstream(rec_t.f);
	hbt_attach(&sink, t);
	HBT_UNTIL(sink.ends == 1);
	assert_true(hbt_gotz(&sink, "one two"));
	hb_text_fini(&rec_trace);
}

static void
test_facade__unread(void **state)
{
	struct hb_buf none = { NULL, NULL, 0 };
	struct hb_transport *t;

	rec_t.take = true;
	hbf_open(&h, chain, NULL);
	HBT_UNTIL(rec_t.f != NULL && h.client.secured);
	hbt_writez(&h.client, "all of it", true);
	hbt_turns(3);
	hb_filter_unread(rec_t.f, &rec_t.taken, true);
	hb_filter_unread(rec_t.f, &none, false);
	t = hb_filter_take_downstream(rec_t.f);
	hbt_attach(&sink, t);
	HBT_UNTIL(sink.ends == 1);
	assert_true(hbt_gotz(&sink, "all of it"));
	hb_text_fini(&rec_trace);
}

static void
test_facade__backpressure(void **state)
{
	size_t n = 4u << 20;
	uint8_t *p = hbt_pattern(n, 1);
	struct hb_conn_view v;

	take(HBF_TCP, true);
	hbt_write(&h.client, p, n, true);
	hbt_turns(30);
	hb_conn_view(h.conn, &v);
	assert_int_equal(v.bytes_in, 0);
	hb_transport_read_disable(sink.t, -1);
	HBT_UNTIL(sink.ends == 1);
	assert_true(hbt_got(&sink, p, n));
	hb_transport_read_disable(h.client.t, 1);
	while (!sink.highs)
		hbt_write(&sink, p, 1u << 20, false);
	assert_int_equal(sink.lows, 0);
	hb_transport_read_disable(h.client.t, -1);
	HBT_UNTIL(sink.lows == 1);
	hb_free(p);
	hb_text_fini(&rec_trace);
}

static void
test_facade__raw(void **state)
{
	take(HBF_TCP, true);
	assert_null(hb_transport_raw(sink.t, HB_DIR_READ));
	rec_a.answer[REC_READ] = rec_b.answer[REC_READ] = HB_FILTER_DETACH;
	rec_a.answer[REC_WRITE] = rec_b.answer[REC_WRITE] = HB_FILTER_DETACH;
	hb_transport_read_disable(sink.t, -1);
	hbt_writez(&h.client, "x", false);
	HBT_UNTIL(sink.data == 1);
	assert_null(hb_transport_raw(sink.t, HB_DIR_WRITE));
	assert_non_null(hb_transport_raw(sink.t, HB_DIR_READ));
	hbt_writez(&sink, "y", false);
	assert_non_null(hb_transport_raw(sink.t, HB_DIR_WRITE));
	assert_string_equal(hb_transport_raw(sink.t, HB_DIR_WRITE)->ops->name, "tcp");
	hb_text_fini(&rec_trace);
}

static void
test_facade__linger(void **state)
{
	take(HBF_TCP, false);
	hb_filter_linger(rec_t.f, true);
	hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(sink.closed == 1);
	hbt_turns(3);
	assert_false(h.closed);
	rec_expect(" tG");
	hb_filter_linger(rec_t.f, false);
	HBT_UNTIL(h.closed);
	rec_expect(" aF bF tF");
}

/* An operator, a drain time that is over: the other side is not waited for. */
static void
test_facade__no_linger_when_closed_from_outside(void **state)
{
	take(HBF_TCP, false);
	hb_filter_linger(rec_t.f, true);
	hb_conn_close(h.conn, HB_CLOSE_DRAINED);
	HBT_UNTIL(h.closed);
	assert_int_equal(sink.closed, 1);
	hb_text_fini(&rec_trace);
}

/* The same, when it already lingers. */
static void
test_facade__linger_ends_when_closed_from_outside(void **state)
{
	take(HBF_TCP, false);
	hb_filter_linger(rec_t.f, true);
	hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(sink.closed == 1);
	assert_false(h.closed);
	hb_conn_close(h.conn, HB_CLOSE_DRAINED);
	HBT_UNTIL(h.closed);
	hb_text_fini(&rec_trace);
}

static struct {
	unsigned opened, closed, failed;
	uint64_t in, out;
} seen;

static void *
see_opened(const struct hb_conn *c)
{
	seen.opened++;
	return (&seen);
}

static void
see_moved(void *arg, uint64_t in, uint64_t out)
{
	assert_ptr_equal(arg, &seen);
	seen.in += in;
	seen.out += out;
}

static void
see_closed(void *arg, const struct hb_conn *c)
{
	assert_ptr_equal(arg, &seen);
	seen.closed++;
}

static void
see_failed(const struct hb_conn *c)
{
	struct hb_conn_view v;

	hb_conn_view(c, &v);
	assert_int_equal(v.reason, HB_CLOSE_RBAC_DENIED);
	seen.failed++;
}

static const struct hb_conn_observer observer = { see_opened, see_moved, see_closed, see_failed };

static void
test_facade__observer(void **state)
{
	memset(&seen, 0, sizeof seen);
	hb_conn_observe(&observer);
	take(HBF_PAIR, false);
	hbt_writez(&h.client, "early", false);
	HBT_UNTIL(hbt_gotz(&sink, "early"));
	assert_int_equal(seen.opened, 0);
	hb_transport_accept(sink.t);
	hb_transport_accept(sink.t);
	assert_int_equal(seen.opened, 1);
	assert_int_equal(seen.in, 5);
	hbt_writez(&sink, "answer", true);
	hbt_writez(&h.client, "!", true);
	HBT_UNTIL(h.closed);
	assert_int_equal(seen.in, 6);
	assert_int_equal(seen.out, 6);
	assert_int_equal(seen.closed, 1);
	assert_int_equal(seen.failed, 0);
	hb_conn_observe(NULL);
}

static void
test_facade__observer_of_failures(void **state)
{
	memset(&seen, 0, sizeof seen);
	hb_conn_observe(&observer);
	rec_b.answer[REC_SECURED] = HB_FILTER_STOP;
	hbf_open(&h, chain, NULL);
	HBT_UNTIL(rec_b.f != NULL);
	hbt_turns(3);
	hb_filter_close(rec_a.f, HB_CLOSE_RBAC_DENIED);
	HBT_UNTIL(h.closed);
	assert_int_equal(seen.opened, 0);
	assert_int_equal(seen.closed, 0);
	assert_int_equal(seen.failed, 1);
	hb_conn_observe(NULL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_facade__bytes_both_ways),
		T(test_facade__finish),
		T(test_facade__abort),
		T(test_facade__closed_by_filter),
		T(test_facade__finished_by_filter),
		T(test_facade__reset_with_bytes_unread),
		T(test_facade__reset_and_closed),
		T(test_facade__held_bytes_come_first),
		T(test_facade__unread),
		T(test_facade__backpressure),
		T(test_facade__raw),
		T(test_facade__linger),
		T(test_facade__no_linger_when_closed_from_outside),
		T(test_facade__linger_ends_when_closed_from_outside),
		T(test_facade__observer),
		T(test_facade__observer_of_failures),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

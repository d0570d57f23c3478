/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The base alone, over a transport that does nothing but record which slot was entered.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/support/harness.h"

struct mock {
	struct hb_transport base;
	char calls
		[64]; /* w write, + - read_enable, f finish, a abort, j reject, k accept, c closed,
	                 * r run, s settled */
	size_t pending;
	bool emit_in_write; /* everything that must not reach a sink inside its own call */
};

static unsigned freed;

static struct mock *
note(struct hb_transport *t, char c)
{
	struct mock *m = HB_CONTAINER(t, struct mock, base);
	size_t n = strlen(m->calls);

	assert_true(n + 1 < sizeof m->calls);
	m->calls[n] = c;
	m->calls[n + 1] = '\0';
	return (m);
}

static void
mock_free(struct hb_transport *t)
{
	freed++;
	hb_free(t);
}

static void
emit(struct hb_transport *t, const char *z, bool end)
{
	struct hb_buf buf = { NULL, NULL, 0 };
	struct hb_slice slice;

	hb_buf_borrow(&buf, &slice, z, strlen(z));
	hb_transport_emit_data(t, &buf, end);
	assert_int_equal(buf.len, 0);
}

static void
mock_write(struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct mock *m = note(t, 'w');

	hb_buf_fini(buf);
	if (!m->emit_in_write)
		return;
	emit(t, "inside", false);
	hb_transport_emit_sent(t, 3);
	hb_transport_level(t, 10u * HB_TRANSPORT_HIGH_DEFAULT);
	hb_transport_level(t, 0);
	hb_transport_emit_closed(t, HB_CLOSE_IO_ERROR);
	hb_transport_emit_closed(t, HB_CLOSE_SHUTDOWN);
}

static void
mock_read_enable(struct hb_transport *t, bool on)
{
	(void)note(t, on ? '+' : '-');
}

static void
mock_finish(struct hb_transport *t, enum hb_close_reason reason)
{
	(void)note(t, 'f');
	hb_transport_run_soon(t);
}

static void
mock_abort(struct hb_transport *t, enum hb_close_reason reason)
{
	(void)note(t, 'a');
	hb_transport_bury(t, mock_free);
}

static void
mock_closed(struct hb_transport *t)
{
	(void)note(t, 'c');
	hb_transport_bury(t, mock_free);
}

static void
mock_run(struct hb_transport *t)
{
	(void)note(t, 'r');
	if (t->lingering)
		hb_transport_bury(t, mock_free);
}

static void
mock_settled(struct hb_transport *t)
{
	(void)note(t, 's');
}

static size_t
mock_pending(const struct hb_transport *t)
{
	return (HB_CONTAINER(t, const struct mock, base)->pending);
}

static const struct hb_transport_ops mock_ops = {
	.name = "mock",
	.write = mock_write,
	.read_enable = mock_read_enable,
	.finish = mock_finish,
	.abort = mock_abort,
	.pending = mock_pending,
	.closed = mock_closed,
	.run = mock_run,
	.settled = mock_settled,
};

static struct mock *
mock_new(void)
{
	struct mock *m = hb_calloc(1, sizeof *m);

	hb_transport_init(&m->base, &mock_ops, hbt_worker());
	return (m);
}

/* Connected, attached, reading, its calls forgotten. */
static struct mock *
mock_open(struct hbt_sink *s)
{
	struct mock *m = mock_new();

	hb_transport_emit_connected(&m->base);
	hb_transport_emit_secured(&m->base);
	hbt_attach(s, &m->base);
	hbt_turns(2);
	assert_string_equal(s->trace, "cs");
	m->calls[0] = '\0';
	return (m);
}

static int
setup(void **state)
{
	(void)hbt_init(HB_IO_EPOLL);
	freed = 0;
	return (0);
}

static int
teardown(void **state)
{
	hbt_fini();
	return (0);
}

/* ------------------------------------------------------------------ order */

static void
test_transport__events_wait_for_a_sink(void **state)
{
	struct mock *m = mock_new();
	struct hbt_sink s = { 0 };

	hb_transport_emit_connected(&m->base);
	hb_transport_emit_secured(&m->base);
	emit(&m->base, "abc", true);
	hbt_turns(3);
	assert_false(m->base.connected);
	hbt_attach_paused(&s, &m->base);
	assert_string_equal(s.trace, "");
	hbt_turns(2);
	assert_string_equal(s.trace, "cs");
	assert_int_equal(m->base.bytes_in, 0);
	hb_transport_read_disable(&m->base, -1);
	assert_string_equal(s.trace, "cs");
	hbt_turns(2);
	assert_string_equal(s.trace, "csde");
	assert_int_equal(m->base.bytes_in, 3);
	hbt_sink_fini(&s);
}

static void
test_transport__closed_before_attach(void **state)
{
	struct mock *m = mock_new();
	struct hbt_sink s = { 0 };

	hb_transport_emit_closed(&m->base, HB_CLOSE_CONNECT_REFUSED);
	/* Nothing of a connection that never was is told after its end. */
	hb_transport_emit_connected(&m->base);
	hbt_turns(3);
	assert_int_equal(freed, 0);
	hbt_attach(&s, &m->base);
	hbt_turns(2);
	assert_string_equal(s.trace, "X");
	assert_int_equal(s.reason, HB_CLOSE_CONNECT_REFUSED);
	assert_int_equal(freed, 1);
	hbt_sink_fini(&s);
}

static void
test_transport__nothing_inside_a_call(void **state)
{
	struct hbt_sink s = { 0 };
	struct mock *m = mock_open(&s);

	m->emit_in_write = true;
	hbt_writez(&s, "x", false);
	/* High is told inside the write; the rest waits, in order. */
	assert_string_equal(s.trace, "csH");
	hbt_turns(1);
	assert_string_equal(s.trace, "csHSdX");
	assert_true(hbt_gotz(&s, "inside"));
	assert_int_equal(s.sent, 3);
	/* The first reason holds, and no low follows the end. */
	assert_int_equal(s.reason, HB_CLOSE_IO_ERROR);
	assert_int_equal(freed, 1);
	hbt_sink_fini(&s);
}

static void
nest_hook(struct hbt_sink *s, enum hbt_event event)
{
	struct mock *m = s->arg;

	if (!(event & HBT_DATA) || s->data > 1)
		return;
	assert_int_equal(m->base.busy, 1);
	assert_false(hb_transport_can_read(&m->base));
	emit(&m->base, "two", false);
	hbt_writez(s, "answer", false);
	assert_int_equal(s->data, 1);
}

static void
test_transport__no_slot_twice(void **state)
{
	struct hbt_sink s = { .hook = nest_hook };
	struct mock *m = mock_open(&s);

	s.arg = m;
	emit(&m->base, "one", false);
	assert_true(hbt_gotz(&s, "one"));
	/* Settled once, when the outermost event had returned. */
	assert_string_equal(m->calls, "ws");
	hbt_turns(1);
	assert_true(hbt_gotz(&s, "onetwo"));
	hbt_sink_fini(&s);
}

/* ------------------------------------------------------------------ endings */

static void
test_transport__done_when_both_have_ended(void **state)
{
	for (unsigned flush_first = 0; flush_first < 2; flush_first++) {
		struct hbt_sink s = { 0 };
		struct mock *m = mock_open(&s);

		hbt_write(&s, NULL, 0, true);
		if (flush_first)
			hb_transport_write_flushed(&m->base);
		assert_int_equal(s.closed, 0);
		emit(&m->base, "x", true);
		if (!flush_first) {
			assert_int_equal(s.closed, 0);
			hb_transport_write_flushed(&m->base);
		}
		assert_string_equal(s.trace, "csdeX");
		assert_int_equal(s.reason, HB_CLOSE_DONE);
		hbt_turns(1);
		assert_int_equal(freed, flush_first + 1);
		hbt_sink_fini(&s);
	}
}

static void
test_transport__let_go_of_what_has_ended(void **state)
{
	for (unsigned how = 0; how < 3; how++) {
		struct hbt_sink s = { 0 };
		struct mock *m = mock_open(&s);
		struct hb_transport *t = &m->base;
		struct hb_buf buf = { NULL, NULL, 0 };

		hb_transport_read_disable(t, 1);
		hb_buf_addz(&buf, "unread");
		hb_transport_unread(t, &buf, false);
		hb_transport_emit_closed(t, HB_CLOSE_PEER_RESET);
		hbt_turns(2);
		assert_int_equal(s.closed, 0);
		m->calls[0] = '\0';
		/* It ended long ago: no slot but closed. */
		hb_transport_accept(t);
		hbt_writez(&s, "x", false);
		hb_transport_read_disable(t, -1);
		hb_transport_read_disable(t, 1);
		assert_null(hb_transport_raw(t, HB_DIR_WRITE));
		if (how == 0)
			hb_transport_finish(&s.t, HB_CLOSE_DONE);
		else if (how == 1)
			hb_transport_abort(&s.t, HB_CLOSE_DONE);
		else
			hb_transport_reject(&s.t, HB_CLOSE_DONE);
		assert_string_equal(m->calls, "c");
		assert_int_equal(hb_transport_lingering(hbt_worker()), 0);
		hbt_turns(1);
		assert_int_equal(freed, how + 1);
		assert_int_equal(s.closed, 0);
		hbt_sink_fini(&s);
	}
}

static void
test_transport__an_end_does_not_hold_back_a_reset(void **state)
{
	struct hbt_sink s = { 0 };
	struct mock *m = mock_open(&s);

	hb_transport_read_disable(&m->base, 1);
	emit(&m->base, "", true);
	hbt_turns(2);
	hb_transport_emit_closed(&m->base, HB_CLOSE_PEER_RESET);
	assert_string_equal(s.trace, "csX");
	hbt_sink_fini(&s);
}

static void
give_back_hook(struct hbt_sink *s, enum hbt_event event)
{
	struct hb_buf none = { NULL, NULL, 0 };
	struct hb_transport *t = s->t;

	if (!(event & HBT_END) || s->ends != 1 || t == NULL)
		return;
	hb_transport_read_disable(t, 1);
	hbt_write(s, NULL, 0, true);
	hb_transport_write_flushed(t);
	hb_transport_unread(t, &none, true);
	s->ends = 0;
	s->hook = NULL;
}

/* An end that was given back must be taken again before all is done. */
static void
test_transport__done_waits_for_the_end(void **state)
{
	struct hbt_sink s = { .hook = give_back_hook };
	struct mock *m = mock_open(&s);

	emit(&m->base, "", true);
	hbt_turns(3);
	assert_string_equal(s.trace, "csde");
	hb_transport_read_disable(&m->base, -1);
	hbt_turns(2);
	assert_string_equal(s.trace, "csdedeX");
	assert_int_equal(s.reason, HB_CLOSE_DONE);
	hbt_sink_fini(&s);
}

static void
test_transport__finish_lingers_until_buried(void **state)
{
	struct hbt_sink s = { 0 };
	struct mock *m = mock_open(&s);

	hb_transport_finish(&s.t, HB_CLOSE_LOCAL_CLOSE);
	assert_null(s.t);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 1);
	assert_int_equal(hb_transport_pending(&m->base), 0);
	/* Nobody hears anything any more. */
	emit(&m->base, "late", false);
	hb_transport_level(&m->base, SIZE_MAX);
	hb_transport_emit_sent(&m->base, 5);
	hb_transport_emit_closed(&m->base, HB_CLOSE_IO_ERROR);
	hbt_turns(1);
	assert_string_equal(s.trace, "cs");
	assert_int_equal(hb_transport_lingering(hbt_worker()), 0);
	assert_int_equal(freed, 1);
	hbt_sink_fini(&s);
}

static void
test_transport__reject_is_abort_by_default(void **state)
{
	struct hbt_sink s = { 0 };
	struct mock *m = mock_open(&s);

	hb_transport_accept(&m->base);
	hb_transport_reject(&s.t, HB_CLOSE_RBAC_DENIED);
	assert_string_equal(m->calls, "a");
	hbt_sink_fini(&s);
}

/* ------------------------------------------------------------------ flow */

static void
test_transport__watermarks(void **state)
{
	struct hbt_sink s = { 0 }, second = { 0 };
	struct mock *m = mock_open(&s);
	struct hb_transport *t = &m->base;

	hb_transport_set_high(t, 100);
	hb_transport_level(t, 99);
	assert_int_equal(s.highs, 0);
	hb_transport_level(t, 100);
	hb_transport_level(t, 500);
	hb_transport_level(t, 51);
	assert_int_equal(s.highs, 1);
	assert_int_equal(s.lows, 0);
	hb_transport_level(t, 50);
	hb_transport_level(t, 99);
	assert_int_equal(s.lows, 1);
	/* A new limit is compared with what is queued, and told from the run queue. */
	m->pending = 99;
	hb_transport_set_high(t, 40);
	assert_int_equal(s.highs, 1);
	hbt_turns(1);
	assert_int_equal(s.highs, 2);
	/* A second sink must be told where it stands. */
	s.t = NULL;
	hbt_attach_paused(&second, t);
	hbt_turns(1);
	assert_int_equal(second.highs, 1);
	hb_transport_set_high(t, 0);
	hbt_turns(1);
	assert_int_equal(second.lows, 1);
	hb_transport_level(t, SIZE_MAX);
	assert_int_equal(second.highs, 1);
	hbt_sink_fini(&second);
	hbt_sink_fini(&s);
}

static void
test_transport__read_disable_counts(void **state)
{
	struct hbt_sink s = { 0 };
	struct mock *m = mock_open(&s);
	struct hb_transport *t = &m->base;

	hb_transport_read_disable(t, 2);
	hb_transport_read_disable(t, 1);
	hb_transport_read_disable(t, -2);
	assert_string_equal(m->calls, "-s");
	emit(t, "a", false);
	emit(t, "b", false);
	hbt_turns(2);
	assert_int_equal(s.data, 0);
	hb_transport_read_disable(t, -1);
	assert_int_equal(s.data, 0);
	hbt_turns(1);
	assert_true(hbt_gotz(&s, "ab"));
	assert_int_equal(s.data, 1);
	hbt_sink_fini(&s);
}

static void
test_transport__unread_comes_first(void **state)
{
	struct hbt_sink s = { 0 };
	struct mock *m = mock_open(&s);
	struct hb_transport *t = &m->base;
	struct hb_buf buf = { NULL, NULL, 0 };

	emit(t, "abcdef", false);
	assert_int_equal(t->bytes_in, 6);
	hb_text_fini(&s.got);
	hb_buf_addz(&buf, "ef");
	hb_transport_unread(t, &buf, false);
	hb_buf_addz(&buf, "cd");
	hb_transport_unread(t, &buf, false);
	assert_int_equal(t->bytes_in, 2);
	/* What comes meanwhile comes after it. */
	emit(t, "gh", true);
	assert_int_equal(s.data, 1);
	hbt_turns(1);
	assert_true(hbt_gotz(&s, "cdefgh"));
	assert_int_equal(t->bytes_in, 8);
	assert_int_equal(s.ends, 1);
	hbt_sink_fini(&s);
}

/* An idle socket owns no buffer; what it does own is this much. */
static void
test_transport__base_is_small(void **state)
{
	assert_true(sizeof(struct hb_transport) <= 184);
}

int
main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(test_transport__##t, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(events_wait_for_a_sink),
		TEST(closed_before_attach),
		TEST(nothing_inside_a_call),
		TEST(no_slot_twice),
		TEST(done_when_both_have_ended),
		TEST(let_go_of_what_has_ended),
		TEST(an_end_does_not_hold_back_a_reset),
		TEST(done_waits_for_the_end),
		TEST(finish_lingers_until_buried),
		TEST(reject_is_abort_by_default),
		TEST(watermarks),
		TEST(read_disable_counts),
		TEST(unread_comes_first),
		TEST(base_is_small),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

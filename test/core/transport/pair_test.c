/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/support/conformance.h"

static int
setup(void **state)
{
	(void)hbt_init(HB_IO_EPOLL);
	return (0);
}

static int
teardown(void **state)
{
	hbt_fini();
	return (0);
}

static void
make_accepted(struct hb_transport **ret_a, struct hb_transport **ret_b)
{
	hb_pair_new(hbt_worker(), ret_a, ret_b);
	hb_transport_accept(*ret_b);
}

static void
test_pair__conformance(void **state)
{
	static const struct hbt_maker maker = { "pair", make_accepted, HB_CLOSE_PEER_RESET, 0 };

	hbt_conformance(&maker);
}

static void
test_pair__accept_connects(void **state)
{
	struct hb_transport *ta, *tb;
	struct hbt_sink a = { 0 }, b = { 0 };

	hb_pair_new(hbt_worker(), &ta, &tb);
	hbt_attach(&a, ta);
	hbt_attach(&b, tb);
	HBT_UNTIL(b.secured == 1);
	/* What the acceptor says before it accepts waits; so does the dialler's request not. */
	hbt_writez(&b, "banner", false);
	hbt_writez(&a, "early", false);
	HBT_UNTIL(b.got.len == 5);
	hbt_turns(3);
	assert_int_equal(a.connected, 0);
	assert_int_equal(b.highs, 1);
	hb_transport_accept(tb);
	assert_int_equal(a.connected, 0);
	HBT_UNTIL(a.got.len == 6);
	assert_string_equal(a.trace, "csd");
	assert_int_equal(b.lows, 1);
	/* Again: nothing. The client's end has nothing to accept. */
	hb_transport_accept(tb);
	hb_transport_accept(ta);
	hbt_turns(3);
	assert_int_equal(a.connected, 1);
	hbt_sink_fini(&a);
	hbt_sink_fini(&b);
}

static void
test_pair__reject_carries_the_reason(void **state)
{
	struct hb_transport *ta, *tb;
	struct hbt_sink a = { 0 }, b = { 0 };

	hb_pair_new(hbt_worker(), &ta, &tb);
	hbt_attach(&a, ta);
	hbt_attach(&b, tb);
	HBT_UNTIL(b.secured == 1);
	hb_transport_reject(&b.t, HB_CLOSE_RBAC_DENIED);
	assert_null(b.t);
	assert_int_equal(a.closed, 0);
	HBT_UNTIL(a.closed == 1);
	assert_string_equal(a.trace, "X");
	assert_int_equal(a.reason, HB_CLOSE_RBAC_DENIED);
	hbt_sink_fini(&a);
	hbt_sink_fini(&b);
}

static void
test_pair__unblocked_bytes_are_not_copied(void **state)
{
	struct hb_transport *ta, *tb;
	struct hbt_sink a = { 0 }, b = { 0 };
	uint64_t before;
	struct hb_buf buf = { NULL, NULL, 0 };
	struct hb_slice slice;
	uint8_t *bytes = hbt_pattern(1000, 1);

	make_accepted(&ta, &tb);
	hbt_attach(&a, ta);
	hbt_attach(&b, tb);
	HBT_UNTIL(a.secured == 1 && b.secured == 1);
	before = hb_buf_copied();
	hb_buf_borrow(&buf, &slice, bytes, 1000);
	hb_transport_write(ta, &buf, false);
	assert_true(hbt_got(&b, bytes, 1000));
	assert_int_equal(hb_buf_copied(), before);
	/* A paused reader: the batch is owned, and stops the writer. */
	hb_transport_read_disable(tb, 1);
	hb_buf_borrow(&buf, &slice, bytes, 1000);
	hb_transport_write(ta, &buf, false);
	assert_int_equal(hb_buf_copied(), before + 1000);
	assert_int_equal(a.highs, 1);
	hbt_sink_fini(&a);
	hbt_sink_fini(&b);
	hb_free(bytes);
}

/* A chain of pairs, each end forwarding to the next: direct to a small depth, then by the queue. */
#define CHAIN 40

struct relay {
	struct hbt_sink sink;
	struct hb_transport *next;
	unsigned depth;
};

static unsigned depth_now, depth_most;

static void
relay_hook(struct hbt_sink *s, enum hbt_event event)
{
	struct relay *r = s->arg;
	struct hb_buf buf = { NULL, NULL, 0 };

	if (!(event & HBT_DATA) || r->next == NULL)
		return;
	depth_now++;
	depth_most = HB_MAX(depth_most, depth_now);
	hb_buf_addz(&buf, "x");
	hb_transport_write(r->next, &buf, false);
	depth_now--;
}

static void
test_pair__deep_chains_do_not_recurse(void **state)
{
	struct relay relays[CHAIN] = { 0 };
	struct hbt_sink first = { 0 };
	struct hb_transport *ta, *tb, *up = NULL;

	depth_now = depth_most = 0;
	for (unsigned i = 0; i < CHAIN; i++) {
		make_accepted(&ta, &tb);
		if (i == 0)
			up = ta;
		else
			relays[i - 1].next = ta;
		relays[i].sink.arg = &relays[i];
		relays[i].sink.hook = relay_hook;
		hbt_attach(&relays[i].sink, tb);
	}
	hbt_attach(&first, up);
	hbt_turns(4);
	hbt_writez(&first, "x", false);
	assert_int_equal(depth_most, 8);
	HBT_UNTIL(relays[CHAIN - 1].sink.got.len == 1);
	assert_int_equal(depth_most, 8);
	hbt_sink_fini(&first);
	for (unsigned i = 0; i < CHAIN; i++) {
		if (relays[i].next != NULL)
			hb_transport_abort(&relays[i].next, HB_CLOSE_LOCAL_CLOSE);
		hbt_sink_fini(&relays[i].sink);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_pair__conformance, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pair__accept_connects, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_pair__reject_carries_the_reason, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_pair__unblocked_bytes_are_not_copied, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_pair__deep_chains_do_not_recurse, setup, teardown),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

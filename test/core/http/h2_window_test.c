/* SPDX-License-Identifier: Apache-2.0 */
/* Pressure: windows, watermarks, what stalled streams hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "test/core/http/h2_rig.h"

#define MIB (1024u * 1024u)

/* 100 streams stall with full windows; the 101st moves. */
static void
test_h2__stalled_streams_harm_none(void **state)
{
	uint8_t *p = hbt_pattern(2 * MIB, 9);
	unsigned i;

	w.paused = true;
	rig_start(&w, HBT_OVER_TCP, 0);
	for (i = 0; i < 32; i++) {
		rig_open(&w);
		hbt_write(&w.a[i], p, 300 * 1024, false);
	}
	rig_connect(&w, 31);
	HBT_UNTIL(hb_h2_buffered(w.server) == 32u * 256 * 1024);
	w.paused = false;
	w.prepare = rig_echoes;
	rig_open(&w);
	rig_connect(&w, 32);
	hbt_write(&w.a[32], p, 2 * MIB, true);
	HBT_UNTIL(w.a[32].closed == 1);
	assert_true(hbt_got(&w.a[32], p, 2 * MIB));
	assert_int_equal(hb_h2_buffered(w.server), 32u * 256 * 1024);
	for (i = 0; i < 32; i++)
		hb_transport_read_disable(w.b[i].t, -1);
	for (i = 0; i < 32; i++) {
		HBT_UNTIL(w.b[i].got.len == 300 * 1024);
		assert_true(hbt_got(&w.b[i], p, 300 * 1024));
	}
	assert_int_equal(hb_h2_buffered(w.server), 0);
	hb_free(p);
}

/* The server's sink keeps up, then it stops: what the client has sent ahead is the window. */
static size_t
sent_ahead(unsigned i, const uint8_t *p)
{
	size_t held = hb_h2_buffered(w.server), now;

	hb_transport_read_disable(w.b[i].t, 1);
	hbt_write(&w.a[i], p, 8 * MIB, false);
	do {
		now = held;
		hbt_turns(20);
		held = hb_h2_buffered(w.server);
	} while (held != now || held == 0);
	return (held);
}

static void
pass(unsigned i, const uint8_t *p, size_t n)
{
	size_t before = w.b[i].got.len;

	hbt_write(&w.a[i], p, n, false);
	HBT_UNTIL(w.b[i].got.len == before + n);
}

static void
test_h2__window_grows(void **state)
{
	uint8_t *p = hbt_pattern(8 * MIB, 9);
	size_t total = 8 * MIB;

	rig_start(&w, HBT_OVER_TCP, 0);
	rig_open(&w);
	rig_connect(&w, 0);
	pass(0, p, total);
	/* What waits halves the window, but credit that was given stays given. */
	/* … and half a window of what was taken may not be given back yet. */
	assert_in_range(sent_ahead(0, p), 2 * MIB, 4 * MIB);
	hb_transport_read_disable(w.b[0].t, -1);
	total += 8 * MIB;
	HBT_UNTIL(w.b[0].got.len == total);
	assert_int_equal(hb_h2_buffered(w.server), 0);
	assert_memory_equal(w.b[0].got.p, p, 8 * MIB);
	hb_free(p);
}

static void
test_h2__window_shrinks(void **state)
{
	uint8_t *p = hbt_pattern(8 * MIB, 9);
	size_t all = 0;

	rig_start(&w, HBT_OVER_TCP, 0);
	rig_open(&w);
	rig_connect(&w, 0);
	pass(0, p, 8 * MIB);
	all = 8 * MIB;
	/* Each stop halves what it has grown by; the peer uses up the credit that it has, and less
	 * comes back. */
	for (unsigned i = 0; i < 40; i++) {
		hb_transport_read_disable(w.b[0].t, 1);
		hbt_write(&w.a[0], p, 200 * 1024, false);
		HBT_UNTIL(hb_h2_buffered(w.server) == 200 * 1024);
		hb_transport_read_disable(w.b[0].t, -1);
		all += 200 * 1024;
		HBT_UNTIL(w.b[0].got.len == all);
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

	rig_start(&w, HBT_OVER_TCP, 0);
	for (i = 0; i < n; i++) {
		rig_open(&w);
		rig_connect(&w, i);
		pass(i, p, 8 * MIB);
	}
	for (i = 0; i < n; i++)
		(void)sent_ahead(i, p);
	/* Credit below half a window is not given back yet. */
	assert_true(hb_h2_buffered(w.server) > 6 * MIB);
	assert_true(hb_h2_buffered(w.server) <= 12 * MIB + n * 256 * 1024);
	w.prepare = rig_echoes;
	rig_open(&w);
	rig_connect(&w, n);
	hbt_write(&w.a[n], p, 2 * MIB, true);
	HBT_UNTIL(w.a[n].closed == 1);
	assert_true(hbt_got(&w.a[n], p, 2 * MIB));
	/* They give it back. */
	for (i = 0; i < n; i++)
		hb_transport_abort(&w.b[i].t, HB_CLOSE_LOCAL_CLOSE);
	for (i = 0; i < n; i++)
		HBT_UNTIL(w.a[i].closed == 1);
	w.prepare = NULL;
	rig_open(&w);
	rig_connect(&w, n + 1);
	pass(n + 1, p, 8 * MIB);
	assert_in_range(sent_ahead(n + 1, p), 2 * MIB, 4 * MIB);
	hb_free(p);
}

static void
test_h2__window_is_fixed(void **state)
{
	uint8_t *p = hbt_pattern(8 * MIB, 9);

	w.server_opt.stream_window = w.server_opt.stream_window_max = 100000;
	rig_start(&w, HBT_OVER_TCP, 0);
	rig_open(&w);
	rig_connect(&w, 0);
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

	w.paused = true;
	w.server_opt.buffered_max = 64 * 1024;
	w.server_opt.session_window = 256 * 1024;
	rig_start(&w, HBT_OVER_TCP, 0);
	for (i = 0; i < 8; i++) {
		rig_open(&w);
		hbt_write(&w.a[i], p, 200 * 1024, true);
	}
	rig_connect(&w, 7);
	hbt_turns(100);
	assert_true(hb_h2_buffered(w.server) > 64 * 1024);
	assert_true(hb_h2_buffered(w.server) <= (64 + 256 + 256) * 1024);
	for (i = 0; i < 8; i++)
		hb_transport_read_disable(w.b[i].t, -1);
	for (i = 0; i < 8; i++) {
		HBT_UNTIL(w.b[i].ends == 1);
		assert_true(hbt_got(&w.b[i], p, 200 * 1024));
	}
	hb_free(p);
}

/* An aborted stream gives back what it held. */
static void
test_h2__abort_while_stalled(void **state)
{
	uint8_t *p = hbt_pattern(MIB, 9);

	w.paused = true;
	rig_start(&w, HBT_OVER_TCP, 0);
	rig_open(&w);
	hbt_write(&w.a[0], p, MIB, false);
	HBT_UNTIL(hb_h2_buffered(w.server) == 256 * 1024);
	assert_true(hb_transport_pending(w.a[0].t) == MIB - 256 * 1024);
	hb_transport_abort(&w.b[0].t, HB_CLOSE_LOCAL_CLOSE);
	assert_int_equal(hb_h2_buffered(w.server), 0);
	HBT_UNTIL(w.a[0].closed == 1);
	hb_free(p);
}

static void
test_h2__watermarks(void **state)
{
	uint8_t *p = hbt_pattern(8 * MIB, 9);
	struct hbt_feed src = { .p = p, .len = 8 * MIB, .chunk = 100000 };

	w.paused = true;
	w.a[0].hook = hbt_feed;
	w.a[0].arg = &src;
	rig_start(&w, HBT_OVER_TLS, 0);
	rig_open(&w);
	rig_connect(&w, 0);
	hbt_turns(50);
	assert_true(w.a[0].above);
	assert_true(hb_transport_pending(w.a[0].t) < MIB + 100000);
	hb_transport_read_disable(w.b[0].t, -1);
	HBT_UNTIL(w.b[0].ends == 1);
	assert_true(hbt_got(&w.b[0], p, 8 * MIB));
	assert_true(w.a[0].lows > 0 && w.a[0].sent > 0);
	hb_free(p);
}

/* The socket below is full: no frame is made that would wait there. */
static void
test_h2__blocked_below(void **state)
{
	uint8_t *p = hbt_pattern(8 * MIB, 9);
	struct hbt_feed src = { .p = p, .len = 8 * MIB, .chunk = 256 * 1024 };
	struct hb_transport *a, *b, *blocker;

	w.server_opt.stream_window = 64 * MIB;
	w.server_opt.session_window = 64 * MIB;
	w.a[0].hook = hbt_feed;
	w.a[0].arg = &src;
	hbt_tcp_pair(&a, &b);
	blocker = hbt_blocker(a);
	rig_start_over(&w, blocker, b);
	hbt_turns(4);
	hbt_release(blocker, 1 * MIB);
	hbt_turns(4);
	hbt_release(blocker, 1 * MIB);
	rig_open(&w);
	hbt_turns(4);
	hbt_release(blocker, 1 * MIB);
	rig_connect(&w, 0);
	hbt_turns(10);
	assert_true(w.a[0].above);
	assert_true(hb_transport_pending(blocker) <= 2 * MIB);
	assert_true(hb_transport_pending(w.a[0].t) <= 2 * MIB);
	hbt_release(blocker, SIZE_MAX);
	HBT_UNTIL(w.b[0].ends == 1);
	assert_true(hbt_got(&w.b[0], p, 8 * MIB));
	hb_free(p);
}

static void
test_h2__copies_nothing(void **state)
{
	uint8_t *p = hbt_pattern(128 * 1024, 13);
	uint64_t before;
	unsigned i;

	rig_start(&w, HBT_OVER_TLS, 0);
	rig_open(&w);
	rig_connect(&w, 0);
	hbt_turns(4);
	for (i = 0; i < 16; i++) {
		struct hb_buf buf = { NULL, NULL, 0 };
		struct hb_slice slice;

		before = hb_buf_copied();
		hb_buf_borrow(&buf, &slice, p, 128 * 1024);
		hb_transport_write(w.a[0].t, &buf, false);
		HBT_UNTIL(w.b[0].got.len == (i + 1) * 128u * 1024u);
		/* WINDOW_UPDATE frames. */
		assert_true(hb_buf_copied() - before <= 64);
	}
	hb_free(p);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_fresh, rig_over)

int
main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return (cmocka_run_group_tests(tests, hbt_ends_setup, hbt_ends_teardown));
}

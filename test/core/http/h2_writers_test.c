/* SPDX-License-Identifier: Apache-2.0 */
/* Streams that write in bulk stop and go on with the connection below them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/core/http/h2_rig.h"

#define BULK   8192u
#define CHUNK  (256u * 1024u)
#define WINDOW (64u << 20)
#define QUIET  3u /* the stream that writes little */

static struct rig r;
static uint8_t *bytes;

/* Four streams of a server, three of which have written in bulk; then the client reads no more. */
static void
fill(void)
{
	r.client_opt.stream_window = r.client_opt.stream_window_max = WINDOW;
	r.client_opt.session_window = WINDOW;
	rig_start(&r, HBT_OVER_TCP, 0);
	for (unsigned i = 0; i <= QUIET; i++) {
		(void)rig_open(&r);
		rig_connect(&r, i);
		hb_transport_set_high(r.b[i].t, CHUNK);
		hbt_write_borrowed(&r.b[i], bytes, i == QUIET ? 10 : BULK, false);
	}
	HBT_UNTIL(r.a[QUIET].got.len == 10 && r.a[0].got.len == BULK);
	hb_transport_read_disable(hb_h2_lower(r.client), 1);
	for (unsigned i = 0; i < 200 && r.b[0].highs == 0; i++)
		hbt_write_borrowed(&r.b[0], bytes, CHUNK, false);
	assert_int_equal(r.b[0].highs, 1);
}

static void
test_writers__stop_together(void **state)
{
	(void)state;
	fill();
	assert_int_equal(r.b[1].highs, 1);
	assert_int_equal(r.b[2].highs, 1);
	assert_int_equal(hb_transport_pending(r.b[1].t), 0);
	assert_int_equal(r.b[QUIET].highs, 0);
	assert_int_equal(r.b[1].lows, 0);
	hb_transport_read_disable(hb_h2_lower(r.client), -1);
	HBT_UNTIL(r.b[0].lows == 1 && r.b[1].lows == 1 && r.b[2].lows == 1);
	hbt_write_borrowed(&r.b[1], bytes, CHUNK, true);
	HBT_UNTIL(r.a[1].ends == 1);
	assert_int_equal(r.a[1].got.len, BULK + CHUNK);
	assert_memory_equal(r.a[1].got.p + BULK, bytes, CHUNK);
	rig_stop(&r);
}

/* The list is walked meanwhile. */
static void
test_writers__let_go_when_stopped(void **state)
{
	(void)state;
	r.b[1].let_go_in = r.b[2].let_go_in = HBT_HIGH;
	fill();
	assert_null(r.b[1].t);
	assert_null(r.b[2].t);
	hb_transport_read_disable(hb_h2_lower(r.client), -1);
	HBT_UNTIL(r.b[0].lows == 1 && r.a[1].ends + r.a[1].closed > 0);
	rig_stop(&r);
}

static int
setup(void **state)
{
	(void)state;
	(void)hbt_init(HB_IO_EPOLL);
	memset(&r, 0, sizeof r);
	bytes = hbt_pattern(CHUNK, 7);
	return (0);
}

static int
teardown(void **state)
{
	(void)state;
	hb_free(bytes);
	hb_h2_worker_fini(hbt_worker());
	hbt_fini();
	return (0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_writers__stop_together, setup, teardown),
		cmocka_unit_test_setup_teardown(test_writers__let_go_when_stopped, setup, teardown),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

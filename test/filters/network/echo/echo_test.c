/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/support/filter_harness.h"

extern const struct hb_filter_type hb_filter_echo;

static const char CHAIN[] =
	"- name: echo\n"
	"  typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}\n";

static int
setup(void **state)
{
	hbf_init();
	hbf_register(&hb_filter_echo);
	return (0);
}

static int
teardown(void **state)
{
	hbf_fini();
	return (0);
}

static void
echo_over(enum hbf_wire wire, size_t split)
{
	struct hb_chain *chain = hbf_filters(CHAIN);
	struct hbf_options o = { .wire = wire, .split = split };
	struct hbf h = { 0 };

	hbf_open(&h, chain, &o);
	HBT_UNTIL(h.client.secured);
	hbt_writez(&h.client, "hello, chain", false);
	HBT_UNTIL(hbt_gotz(&h.client, "hello, chain"));
	hbt_writez(&h.client, "!", true);
	HBT_UNTIL(h.client.ends == 1);
	assert_true(hbt_gotz(&h.client, "hello, chain!"));
	HBT_UNTIL(h.closed);
	assert_int_equal(h.reason, HB_CLOSE_DONE);
	assert_int_equal(h.bytes_in, 13);
	assert_int_equal(h.bytes_out, 13);
	hbf_close(&h);
	hb_chain_free(&chain);
}

static void
test_echo__wires(void **state)
{
	static const size_t pieces[] = { 0, 1, 7, 8 };

	for (enum hbf_wire w = HBF_PAIR; w <= HBF_TCP; w++)
		for (size_t i = 0; i < HB_ARRAY_LEN(pieces); i++)
			echo_over(w, pieces[i]);
}

/* A client that sends without reading is stopped, and nothing is lost. */
static void
test_echo__client_does_not_read(void **state)
{
	struct hb_chain *chain = hbf_filters(CHAIN);
	struct hbf_options o = { .wire = HBF_TCP, .block = true, .buffer_high = 65536 };
	size_t n = 8u << 20;
	uint8_t *p = hbt_pattern(n, 3);
	struct hb_conn_view v;
	struct hbf h = { 0 };

	hbf_open(&h, chain, &o);
	HBT_UNTIL(h.client.secured);
	hbt_write(&h.client, p, n, true);
	hbt_turns(200);
	hb_conn_view(h.conn, &v);
	assert_true(v.bytes_in < n / 2);
	hbt_release(h.blocker, SIZE_MAX);
	HBT_UNTIL(h.client.ends == 1);
	assert_true(hbt_got(&h.client, p, n));
	HBT_UNTIL(h.closed);
	hb_free(p);
	hbf_close(&h);
	hb_chain_free(&chain);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_echo__wires, setup, teardown),
		cmocka_unit_test_setup_teardown(test_echo__client_does_not_read, setup, teardown),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

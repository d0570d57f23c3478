/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "test/support/filter_harness.h"

extern const struct hb_filter_type hb_filter_tcp_proxy;

#define PROXY                                                                                   \
	"- name: tcp\n"                                                                         \
	"  typed_config:\n"                                                                     \
	"    \"@type\": "                                                                       \
	"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\n"
#define TO_APP PROXY "    stat_prefix: p\n    cluster: app\n"

static int
setup(void **state)
{
	hbf_init();
	hbf_register(&hb_filter_tcp_proxy);
	return (0);
}

static int
teardown(void **state)
{
	hbf_fini();
	return (0);
}

static void
relay_over(enum hbf_wire wire, size_t split)
{
	struct hb_chain *chain = hbf_filters(TO_APP);
	struct hbf_options o = { .wire = wire, .split = split };
	struct hbt_sink *up = &hbf_dialler.up[hbf_dialler.n];
	struct hbf h = {0};

	hbf_dialler.wire = wire;
	hbf_open(&h, chain, &o);
	HBT_UNTIL(h.client.secured && up->secured);
	assert_string_equal(hbf_dialler.cluster, "app");
	hbt_writez(&h.client, "question", true);
	HBT_UNTIL(up->ends == 1);
	assert_true(hbt_gotz(up, "question"));
	hbt_writez(up, "the answer", true);
	HBT_UNTIL(h.client.ends == 1);
	assert_true(hbt_gotz(&h.client, "the answer"));
	HBT_UNTIL(h.closed);
	assert_int_equal(h.reason, HB_CLOSE_DONE);
	assert_int_equal(h.bytes_in, 8);
	assert_int_equal(h.bytes_out, 10);
	assert_string_equal(h.cluster, "app");
	hbf_close(&h);
	hb_chain_free(&chain);
}

static void
test_tcp_proxy__relays(void **state)
{
	static const size_t pieces[] = { 0, 1, 7, 8 };

	for (enum hbf_wire w = HBF_PAIR; w <= HBF_TCP; w++)
		for (size_t i = 0; i < HB_ARRAY_LEN(pieces); i++)
			relay_over(w, pieces[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tcp_proxy__relays, setup, teardown),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/support/filter_harness.h"

extern const struct hb_filter_type hb_filter_connection_limit;
extern const struct hb_filter_type hb_filter_echo;

#define LIMIT               \
	"- name: l\n"       \
	"  typed_config:\n" \
	"    \"@type\": "   \
	"type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit\n"
#define ECHO_FILTER                    \
	"- name: e\n"                  \
	"  typed_config: {\"@type\": " \
	"type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}\n"
#define TWO LIMIT "    stat_prefix: p\n    max_connections: 2\n"

static int
setup(void **state)
{
	hbf_init();
	hbf_register(&hb_filter_connection_limit);
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
works(struct hbf *h)
{
	HBT_UNTIL(h->client.secured);
	hbt_writez(&h->client, "x", false);
	HBT_UNTIL(hbt_gotz(&h->client, "x"));
}

static void
test_connection_limit__limits(void **state)
{
	struct hb_chain *chain = hbf_filters(TWO ECHO_FILTER);
	struct hbf h[4] = { { { 0 } } };

	hbf_open(&h[0], chain, NULL);
	hbf_open(&h[1], chain, NULL);
	works(&h[0]);
	works(&h[1]);
	hbf_open(&h[2], chain, NULL);
	HBT_UNTIL(h[2].closed);
	assert_int_equal(h[2].reason, HB_CLOSE_CX_LIMIT);
	assert_int_equal(hbf_stat("connection_limit.p.active_connections"), 2);
	assert_int_equal(hbf_stat("connection_limit.p.limited_connections"), 1);
	hbf_close(&h[0]);
	hbf_open(&h[3], chain, NULL);
	works(&h[3]);
	for (int i = 1; i < 4; i++)
		hbf_close(&h[i]);
	assert_int_equal(hbf_stat("connection_limit.p.active_connections"), 0);
	hb_chain_free(&chain);
}

static void
test_connection_limit__delay(void **state)
{
	struct hb_chain *chain = hbf_filters(
		LIMIT "    stat_prefix: q\n    max_connections: 1\n    delay: 3s\n" ECHO_FILTER);
	struct hbf h[2] = { { { 0 } } };

	hbf_open(&h[0], chain, NULL);
	works(&h[0]);
	hbf_open(&h[1], chain, NULL);
	hbt_writez(&h[1].client, "x", false);
	hbt_turns(3);
	hbt_advance(2000);
	assert_false(h[1].closed);
	assert_int_equal(h[1].client.data, 0);
	hbt_advance(1500);
	HBT_UNTIL(h[1].closed);
	assert_int_equal(h[1].reason, HB_CLOSE_CX_LIMIT);
	hbf_close(&h[0]);
	hbf_close(&h[1]);
	hb_chain_free(&chain);
}

static void
test_connection_limit__off(void **state)
{
	struct hb_chain *chain = hbf_filters(
		LIMIT "    stat_prefix: r\n    max_connections: 1\n"
		      "    runtime_enabled: {default_value: false}\n" ECHO_FILTER);
	struct hbf h[2] = { { { 0 } } };

	for (int i = 0; i < 2; i++) {
		hbf_open(&h[i], chain, NULL);
		works(&h[i]);
	}
	for (int i = 0; i < 2; i++)
		hbf_close(&h[i]);
	hb_chain_free(&chain);
}

static void
test_connection_limit__errors(void **state)
{
	hbf_expect_error(
		LIMIT "    max_connections: 1\n" ECHO_FILTER, "stat_prefix: must not be empty");
	hbf_expect_error(LIMIT "    stat_prefix: p\n" ECHO_FILTER,
		"max_connections: is required and at least 1");
	hbf_expect_error(LIMIT "    stat_prefix: p\n    max_connections: 0\n" ECHO_FILTER,
		"max_connections: is required and at least 1");
}

static void
test_connection_limit__explain(void **state)
{
	struct hb_chain *chain = hbf_filters(TWO ECHO_FILTER);
	struct hb_text t = hbf_explain(chain, NULL);

	assert_non_null(strstr(t.p, "0 of 2 connections"));
	assert_non_null(strstr(t.p, "echo: sends every byte back"));
	hb_text_fini(&t);
	hb_chain_free(&chain);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_connection_limit__limits),
		T(test_connection_limit__delay),
		T(test_connection_limit__off),
		T(test_connection_limit__errors),
		T(test_connection_limit__explain),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

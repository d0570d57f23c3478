/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "test/support/filter_harness.h"

extern const struct hb_filter_type hb_filter_set_filter_state;
extern const struct hb_filter_type hb_filter_tcp_proxy;

#define SET                 \
	"- name: s\n"       \
	"  typed_config:\n" \
	"    \"@type\": "   \
	"type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config\n"
#define PROXY                                                                          \
	"- name: t\n"                                                                  \
	"  typed_config: {\"@type\": "                                                 \
	"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, " \
	"stat_prefix: p, cluster: fallback}\n"
#define FORMAT(text) "format_string: {text_format_source: {inline_string: \"" text "\"}}"

static int
setup(void **state)
{
	hbf_init();
	hbf_register(&hb_filter_set_filter_state);
	hbf_register(&hb_filter_tcp_proxy);
	hbf_dialler.mode = HBF_FAIL;
	hbf_dialler.failure = HB_CLOSE_CONNECT_REFUSED;
	return (0);
}

static int
teardown(void **state)
{
	hbf_fini();
	return (0);
}

/* One value for the key "k"; what it is at the end. */
static void
gives(const char *slot, const char *value, const char *want)
{
	struct hb_facts facts = hbf_facts("sni.test");
	struct hbf_options o = { .facts = &facts };
	struct hb_chain *chain;
	struct hbf h = { .state_key = "k" };
	char yaml[1024];

	(void)snprintf(yaml, sizeof yaml, SET "    %s: [{%s}]\n" PROXY, slot, value);
	chain = hbf_filters(yaml);
	hbf_open(&h, chain, &o);
	HBT_UNTIL(h.closed);
	assert_string_equal(h.state_value, want);
	hbf_close(&h);
	hb_chain_free(&chain);
}

static void
test_set_filter_state__values(void **state)
{
	gives("on_new_connection", "object_key: k, " FORMAT("%REQUESTED_SERVER_NAME%:443"),
		"sni.test:443");
	gives("on_downstream_tls_handshake", "object_key: k, " FORMAT("plain"), "plain");
	gives("on_new_connection", "object_key: k, " FORMAT("%DOWNSTREAM_PEER_URI_SAN%"), "-");
	gives("on_new_connection",
		"object_key: k, skip_if_empty: true, format_string: "
		"{omit_empty_values: true, text_format_source: "
		"{inline_string: \"%DOWNSTREAM_PEER_URI_SAN%\"}}",
		"");
	gives("on_new_connection", "object_key: k, format_string: {json_format: {a: 1}}",
		"{\"a\":1}\n");
}

/* Later values see earlier ones; a read-only one stays. */
static void
test_set_filter_state__order(void **state)
{
	gives("on_new_connection",
		"object_key: k, " FORMAT("1") "}, {object_key: k, " FORMAT("%FILTER_STATE(k:PLAIN)%2") "}, {object_key: k, read_only: true, " FORMAT(
			"%FILTER_STATE(k:PLAIN)%3") "}, {object_key: k, " FORMAT("4"),
		"123");
}

/* A key that holds an address takes nothing else. */
static void
test_set_filter_state__addresses(void **state)
{
	gives("on_new_connection",
		"object_key: k, factory_key: "
		"envoy.network.transport_socket.original_dst_address, " FORMAT("10.0.0.1:80"),
		"10.0.0.1:80");
	gives("on_new_connection",
		"object_key: k, factory_key: "
		"envoy.network.transport_socket.original_dst_address, " FORMAT("nonsense"),
		"");
}

static void
test_set_filter_state__chooses_cluster(void **state)
{
	struct hb_facts facts = hbf_facts("sni.test");
	struct hbf_options o = { .facts = &facts };
	struct hb_chain *chain = hbf_filters(
		SET "    on_new_connection: [{object_key: envoy.tcp_proxy.cluster, " FORMAT(
			"c-%REQUESTED_SERVER_NAME%") "}]\n" PROXY);
	struct hbf h = { 0 };

	hbf_open(&h, chain, &o);
	HBT_UNTIL(h.closed);
	assert_string_equal(hbf_dialler.cluster, "c-sni.test");
	hbf_close(&h);
	hb_chain_free(&chain);
}

static void
test_set_filter_state__errors(void **state)
{
	hbf_expect_error(SET "    on_new_connection: [{" FORMAT("x") "}]\n" PROXY,
		"object_key: is required");
	hbf_expect_error(SET "    on_new_connection: [{object_key: k}]\n" PROXY,
		"format_string: is required");
	hbf_expect_error(SET "    on_new_connection: [{object_key: k, format_string: {}}]\n" PROXY,
		"has no format");
	hbf_expect_error(SET "    on_downstream_tls_handshake: [{object_key: k, " FORMAT(
				 "%REQUESTED_SERVER_NAM%") "}]\n" PROXY,
		"REQUESTED_SERVER_NAME");
}

static void
test_set_filter_state__explain(void **state)
{
	struct hb_chain *chain = hbf_filters(
		SET "    on_new_connection: [{object_key: envoy.tcp_proxy.cluster, " FORMAT(
			"other") "}]\n" PROXY);
	struct hb_text t = hbf_explain(chain, NULL);

	assert_non_null(strstr(t.p, "envoy.tcp_proxy.cluster = \"other\""));
	assert_non_null(strstr(t.p, "cluster other"));
	hb_text_fini(&t);
	hb_chain_free(&chain);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_set_filter_state__values),
		T(test_set_filter_state__order),
		T(test_set_filter_state__addresses),
		T(test_set_filter_state__chooses_cluster),
		T(test_set_filter_state__errors),
		T(test_set_filter_state__explain),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/support/filter_harness.h"

extern const struct hb_filter_type hb_filter_sni_router;
extern const struct hb_filter_type hb_filter_tcp_proxy;

#define ROUTER              \
	"- name: r\n"       \
	"  typed_config:\n" \
	"    \"@type\": type.googleapis.com/hbone.filters.network.sni_router.SniRouter\n"
#define PROXY                                                                          \
	"- name: t\n"                                                                  \
	"  typed_config: {\"@type\": "                                                 \
	"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, " \
	"stat_prefix: p, cluster: fallback}\n"
#define ROUTES                                                               \
	ROUTER                                                               \
	"    routes:\n"                                                      \
	"    - {server_names: [a.test, \"*.b.test\"], cluster: one}\n"       \
	"    - {server_names: [c.test], cluster: gone}\n"                    \
	"    istio: {cluster_format: \"outbound|{port}|{subset}|{host}\"}\n" \
	"    stat_prefix: s\n"

static int
setup(void **state)
{
	hbf_init();
	hbf_register(&hb_filter_sni_router);
	hbf_register(&hb_filter_tcp_proxy);
	hbf_dialler.missing = "gone";
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

/* cluster NULL: refused with `reason` before any dial. */
static void
routes(const char *yaml, const char *sni, const char *cluster, enum hb_close_reason reason)
{
	struct hb_chain *chain = hbf_filters(yaml);
	struct hb_facts facts = hbf_facts(sni);
	struct hbf_options o = { .wire = HBF_TCP, .facts = &facts };
	unsigned before = hbf_dialler.dials;
	struct hbf h = { 0 };

	hbf_open(&h, chain, &o);
	HBT_UNTIL(h.closed && h.client.closed);
	assert_int_equal(h.client.reason, HB_CLOSE_PEER_RESET);
	assert_int_equal(h.reason, reason);
	assert_int_equal(hbf_dialler.dials - before, cluster != NULL);
	if (cluster != NULL)
		assert_string_equal(hbf_dialler.cluster, cluster);
	hbf_close(&h);
	hb_chain_free(&chain);
}

static void
test_sni_router__routes(void **state)
{
	const enum hb_close_reason dialled = HB_CLOSE_CONNECT_REFUSED;
	struct hb_chain *keep = hbf_filters(ROUTES PROXY); /* keeps the counters */

	routes(ROUTES PROXY, "a.test", "one", dialled);
	routes(ROUTES PROXY, "x.y.b.test", "one", dialled);
	routes(ROUTES PROXY, "outbound_.80_.v1_.web.ns", "outbound|80|v1|web.ns", dialled);
	routes(ROUTES PROXY, "b.test", NULL, HB_CLOSE_UNKNOWN_SNI);
	routes(ROUTES PROXY, NULL, NULL, HB_CLOSE_UNKNOWN_SNI);
	routes(ROUTES PROXY, "c.test", NULL, HB_CLOSE_NO_CLUSTER);
	hbf_dialler.missing = "outbound|81||web.ns";
	routes(ROUTES PROXY, "outbound_.81_._.web.ns", NULL, HB_CLOSE_UNKNOWN_SNI);
	assert_int_equal(hbf_stat("sni_router.s.routed_exact"), 1);
	assert_int_equal(hbf_stat("sni_router.s.routed_wildcard"), 1);
	assert_int_equal(hbf_stat("sni_router.s.routed_istio"), 1);
	assert_int_equal(hbf_stat("sni_router.s.unknown_sni"), 2);
	assert_int_equal(hbf_stat("sni_router.s.no_sni"), 1);
	assert_int_equal(hbf_stat("sni_router.s.no_cluster"), 1);
	hb_chain_free(&keep);
}

static void
test_sni_router__defaults(void **state)
{
	routes(ROUTER "    default_cluster: d\n" PROXY, NULL, "d", HB_CLOSE_CONNECT_REFUSED);
	routes(ROUTER "    default_cluster: d\n" PROXY, "x.test", "d", HB_CLOSE_CONNECT_REFUSED);
	routes(ROUTER "    istio: {}\n" PROXY, "outbound_.80_._.h", "outbound_.80_._.h",
		HB_CLOSE_CONNECT_REFUSED);
}

static void
test_sni_router__alert(void **state)
{
	static const uint8_t alert[] = { 0x15, 3, 3, 0, 2, 2, 112 };
	struct hb_chain *chain = hbf_filters(ROUTES "    alert_unrecognized_name: true\n" PROXY);
	struct hb_facts facts = hbf_facts("unknown.test");
	struct hbf_options o = { .wire = HBF_TCP, .facts = &facts };
	struct hbf h = { 0 };

	hbf_open(&h, chain, &o);
	hbt_writez(&h.client, "a client hello that nobody has read", false);
	HBT_UNTIL(h.client.ends == 1);
	assert_true(hbt_got(&h.client, alert, sizeof alert));
	hbt_write(&h.client, NULL, 0, true);
	HBT_UNTIL(h.closed);
	assert_int_equal(h.reason, HB_CLOSE_UNKNOWN_SNI);
	assert_int_equal(hbf_dialler.dials, 0);
	hbf_close(&h);
	hb_chain_free(&chain);
}

static void
test_sni_router__state_is_taken(void **state)
{
	struct hb_chain *chain = hbf_filters(ROUTES PROXY);
	struct hb_facts facts = hbf_facts("a.test");
	struct hbf_options o = { .facts = &facts };
	struct hbf h = { 0 };

	(void)hb_facts_state_set(
		&facts, hb_str(HB_STATE_TCP_PROXY_CLUSTER), hb_str("fixed"), true, 0);
	hbf_open(&h, chain, &o);
	HBT_UNTIL(h.closed);
	assert_int_equal(h.reason, HB_CLOSE_NO_ROUTE);
	assert_int_equal(hbf_dialler.dials, 0);
	hbf_close(&h);
	hb_chain_free(&chain);
}

static void
test_sni_router__errors(void **state)
{
	hbf_expect_error(ROUTER PROXY, "routes nothing");
	hbf_expect_error(ROUTER "    routes: [{server_names: [\"*x\"], cluster: c}]\n" PROXY,
		"routes[0].server_names[0]: \"*x\" has a wildcard in a wrong place");
	hbf_expect_error(ROUTER "    routes: [{server_names: [x], cluster: c}, "
				"{server_names: [X], cluster: d}]\n" PROXY,
		"routes[1].server_names[0]: \"X\" stands in a route already");
	hbf_expect_error(
		ROUTER "    routes: [{server_names: [x]}]\n" PROXY, "cluster: must not be empty");
	hbf_expect_error(ROUTER "    routes: [{cluster: c}]\n" PROXY, "name one server at least");
	hbf_expect_error(ROUTER "    istio: {cluster_format: \"{prot}\"}\n" PROXY,
		"{prot} is unknown; there are {port}");
}

static void
test_sni_router__explain(void **state)
{
	struct hb_chain *chain = hbf_filters(ROUTES PROXY);
	struct hb_facts facts = hbf_facts("outbound_.80_._.h");
	struct hb_text t = hbf_explain(chain, &facts);

	assert_non_null(strstr(t.p, "cluster outbound|80||h (Istio server name)"));
	assert_non_null(strstr(t.p, "tcp_proxy: cluster outbound|80||h"));
	hb_text_fini(&t);
	t = hbf_explain(chain, NULL);
	assert_non_null(strstr(t.p, "refused     sni_router: no server name"));
	assert_null(strstr(t.p, "tcp_proxy"));
	hb_text_fini(&t);
	hb_chain_free(&chain);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_sni_router__routes),
		T(test_sni_router__defaults),
		T(test_sni_router__alert),
		T(test_sni_router__state_is_taken),
		T(test_sni_router__errors),
		T(test_sni_router__explain),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

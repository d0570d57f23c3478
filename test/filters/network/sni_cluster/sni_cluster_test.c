/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/support/filter_harness.h"

extern const struct hb_filter_type hb_filter_sni_cluster;
extern const struct hb_filter_type hb_filter_tcp_proxy;

static const char CHAIN[] =
	"- name: s\n"
	"  typed_config: {\"@type\": "
	"type.googleapis.com/envoy.extensions.filters.network.sni_cluster.v3.SniCluster}\n"
	"- name: t\n"
	"  typed_config: {\"@type\": "
	"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, "
	"stat_prefix: p, cluster: fallback}\n";

static int
setup(void **state)
{
	hbf_init();
	hbf_register(&hb_filter_sni_cluster);
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
dials(const char *sni, const char *cluster)
{
	struct hb_chain *chain = hbf_filters(CHAIN);
	struct hb_facts facts = hbf_facts(sni);
	struct hbf_options o = { .facts = &facts };
	struct hbf h = { 0 };

	hbf_dialler.mode = HBF_FAIL;
	hbf_dialler.failure = HB_CLOSE_CONNECT_REFUSED;
	hbf_open(&h, chain, &o);
	HBT_UNTIL(h.closed);
	assert_string_equal(hbf_dialler.cluster, cluster);
	hbf_close(&h);
	hb_chain_free(&chain);
}

static void
test_sni_cluster__dials(void **state)
{
	dials("outbound_.80_._.web.default.svc.cluster.local",
		"outbound_.80_._.web.default.svc.cluster.local");
	dials(NULL, "fallback");
}

static void
test_sni_cluster__explain(void **state)
{
	struct hb_chain *chain = hbf_filters(CHAIN);
	struct hb_facts facts = hbf_facts("a.test");
	struct hb_text t = hbf_explain(chain, &facts);

	assert_non_null(strstr(t.p, "cluster a.test: a filter before it chose the cluster"));
	hb_text_fini(&t);
	hb_chain_free(&chain);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_sni_cluster__dials),
		T(test_sni_cluster__explain),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

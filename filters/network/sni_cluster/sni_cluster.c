/* SPDX-License-Identifier: Apache-2.0 */
#include "core/filter/explain.h"
#include "core/filter/filter.h"
#include "envoy/extensions/filters/network/sni_cluster/v3/sni_cluster.pb-c.h"

static void
set_cluster(struct hb_facts *facts)
{
	if (hb_facts_hello(facts)->sni.len > 0)
		(void)hb_facts_state_set(facts, hb_str(HB_STATE_TCP_PROXY_CLUSTER),
			hb_facts_hello(facts)->sni, false, 0);
}

/* The name is known before, when tls_inspector read it, or by our own handshake. */
static enum hb_filter_status
sni_cluster_on_secured(struct hb_filter *f)
{
	set_cluster(hb_filter_facts(f));
	return (HB_FILTER_CONTINUE);
}

static void
sni_cluster_explain(const void *conf, const struct hb_facts *facts, struct hb_explain *ex)
{
	if (hb_facts_hello(facts)->sni.len == 0) {
		hb_explain_step(ex, "filter", "sni_cluster", "pass", "no server name");
		return;
	}
	set_cluster(hb_explain_facts(ex));
	hb_explain_step(ex, "filter", "sni_cluster", "pass", "tcp_proxy shall use cluster %.*s",
		HB_STR_FMT(hb_facts_hello(facts)->sni));
}

const struct hb_filter_type hb_filter_sni_cluster = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.kind = HB_FILTER_NETWORK,
	.name = "hbone.filters.network.sni_cluster",
	.alias = "envoy.filters.network.sni_cluster",
	.config = &envoy__extensions__filters__network__sni_cluster__v3__sni_cluster__descriptor,
	.on_secured = sni_cluster_on_secured,
	.explain = sni_cluster_explain,
};

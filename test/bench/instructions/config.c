/* SPDX-License-Identifier: Apache-2.0 */
/* Filter chain match among many chains; configuration of many clusters. */
#include <stdio.h>
#include "core/match/match.h"
#include "envoy/config/listener/v3/listener_components.pb-c.h"
#include "test/bench/instructions/instructions.h"

#define CHAINS 10000u

static struct {
	struct hb_cfg *cfg;
	struct hb_chain_match *match;
	struct hb_facts facts;
	unsigned next; /* cluster */
} c;

/* ------------------------------------------------------------------ chains */

static const char *
server_name(unsigned i)
{
	static char name[80];

	(void)snprintf(name, sizeof name, "outbound_.%u_._.svc-%u.ns.svc.cluster.local", i % 7, i);
	return (name);
}

/* Like a gateway on 15443: a chain a service and port. */
static void
matches_setup(void)
{
	Envoy__Config__Listener__V3__FilterChainMatch msg;
	char *names[1];

	c.cfg = hb_cfg_new("chains", NULL);
	c.match = hb_chain_match_new();
	for (unsigned i = 0; i < CHAINS; i++) {
		envoy__config__listener__v3__filter_chain_match__init(&msg);
		names[0] = (char *)(uintptr_t)server_name(i);
		msg.n_server_names = 1;
		msg.server_names = names;
		if (hb_chain_match_add(c.match, c.cfg, NULL, &msg, i, names[0]) != 0)
			HB_WRONG("the chain is refused");
	}
	if (hb_chain_match_freeze(c.match, c.cfg) != 0)
		HB_WRONG("the chains are refused");
	hb_facts_init(&c.facts);
	(void)hb_addr_parse(HB_STR("10.1.2.3:15443"), &c.facts.local);
	(void)hb_addr_parse(HB_STR("10.4.5.6:30000"), &c.facts.remote);
	hb_facts_hello_edit(&c.facts)->transport_protocol = "tls";
	hb_facts_hello_edit(&c.facts)->sni = HB_STR("outbound_.3_._.svc-4711.ns.svc.cluster.local");
}

static void
matches(unsigned n)
{
	static const char *const names[] = { "outbound_.0_._.svc-7.ns.svc.cluster.local",
		"outbound_.3_._.svc-9999.ns.svc.cluster.local", "nobody.ns.svc.cluster.local",
		"outbound_.6_._.svc-6.ns.svc.cluster.local" };
	static const int want[] = { 7, 9999, -1, 6 };

	for (unsigned i = 0; i < n; i++) {
		hb_facts_hello_edit(&c.facts)->sni = hb_str(names[i % 4]);
		if (hb_chain_match_find(c.match, &c.facts) != want[i % 4])
			HB_WRONG("the wrong chain");
	}
}

static void
matches_fini(void)
{
	hb_facts_fini(&c.facts);
	hb_chain_match_free(&c.match);
	hb_cfg_free(&c.cfg);
}

/* ------------------------------------------------------------------ clusters */

static void
add_cluster(unsigned i)
{
	char yaml[512];

	(void)snprintf(yaml, sizeof yaml,
		"name: outbound|80||svc-%u.ns.svc.cluster.local\n"
		"connect_timeout: 1s\n"
		"load_assignment:\n"
		"  cluster_name: c\n"
		"  endpoints:\n"
		"  - lb_endpoints:\n"
		"    - endpoint: {address: {socket_address: {address: 10.%u.%u.%u, port_value: 80}}}\n"
		"    - endpoint: {address: {socket_address: {address: 10.%u.%u.%u, port_value: 81}}}\n",
		i, i >> 16, i >> 8 & 255, i & 255, i >> 16, i >> 8 & 255, i & 255);
	hbi_apply(HBI_CLUSTER, yaml);
}

static void
clusters(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		add_cluster(c.next++);
}

static void
clusters_fini(void)
{
	char name[64];

	while (c.next > 0) {
		(void)snprintf(
			name, sizeof name, "outbound|80||svc-%u.ns.svc.cluster.local", --c.next);
		hbi_remove(HBI_CLUSTER, name);
		hbi_turn();
	}
	hbi_house_fini();
}

static size_t
cluster_bytes(void)
{
	enum { N = 500 };
	size_t before;

	hbi_house_init();
	clusters(10);
	hbi_turn();
	before = hbi_heap();
	clusters(N);
	for (int i = 0; i < 8; i++)
		hbi_turn();
	before = (hbi_heap() - before) / N;
	clusters_fini();
	return (before);
}

const struct hbi_run hbi_matches = { "matches", "matches", 100000, 10, matches_setup, matches,
	matches_fini };
const struct hbi_run hbi_clusters = { "clusters", "clusters", 10000, 10, hbi_house_init, clusters,
	clusters_fini };
const struct hbi_memory hbi_mem_cluster = { "cluster", cluster_bytes };

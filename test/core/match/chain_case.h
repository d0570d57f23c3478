/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/core/match/chain_case.h: filter chain matches and connections written as lines of text, and
 * a naive matcher to compare the real one with. One line each:
 *
 *   chain NAME dport=443 dst=10.0.0.0/8,::/0 sni=a.com,*.b.com transport=tls alpn=h2,http/1.1
 *         direct=0.0.0.0/0 type=local source=10.1.0.0/16 sport=1,2
 *   conn local=10.0.0.1:443 remote=1.2.3.4:5000 direct=1.2.3.4:5000 sni=a.com transport=tls alpn=h2
 *
 * Every word but the first is optional. Words that are not understood are left out, and so is what
 * is beyond the limits: the text may come from a fuzzer.
 */
#ifndef TEST_CORE_MATCH_CHAIN_CASE_H
#define TEST_CORE_MATCH_CHAIN_CASE_H

#include "core/match/match.h"
#include "envoy/config/listener/v3/listener_components.pb-c.h"

#define CHAIN_CASE_CHAINS_MAX 64u
#define CHAIN_CASE_CONNS_MAX  64u
#define CHAIN_CASE_LIST_MAX   64u

struct chain_case {
	struct hb_arena arena;
	Envoy__Config__Listener__V3__FilterChainMatch *chains[CHAIN_CASE_CHAINS_MAX];
	const char *names[CHAIN_CASE_CHAINS_MAX];
	struct hb_facts conns[CHAIN_CASE_CONNS_MAX]; /* strings lie in arena */
	unsigned n_chains, n_conns;
};

void chain_case_parse(struct chain_case *, struct hb_str text);
void chain_case_fini(struct chain_case *);
/* Adds all chains and freezes; NULL when anything was refused. */
struct hb_chain_match *chain_case_compile(const struct chain_case *, struct hb_cfg *);
/* Index of the chain, or -1; by enumerating the keys of the connection at each level. */
int chain_case_naive(const struct chain_case *, const struct hb_facts *);
/* The chains share a key at every level. */
bool chain_case_overlap(const struct chain_case *, unsigned a, unsigned b);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/filter/chain_set.h: the filter chains of a listener or a tunnel server, and the choice among
 * them by facts: the match of each chain, or a matcher that names one, else the default chain.
 *
 * Control thread but for hb_chain_set_find.
 */
#ifndef HB_CORE_FILTER_CHAIN_SET_H
#define HB_CORE_FILTER_CHAIN_SET_H

#include "core/filter/conn.h"
#include "core/match/match.h"
#include "envoy/config/listener/v3/listener_components.pb-c.h"

/* Frozen once published. Chains belong to the control thread: a later set may take some over. */
struct hb_chain_set {
	unsigned magic;
#define HB_CHAIN_SET_MAGIC 0x1c7d44e9
	size_t n;
	struct hb_chain **chain;   /* owned array; references unless `moved`         */
	struct hb_chain *fallback; /* default_filter_chain; NULL = none              */
	bool *moved;               /* control thread; n + 1 entries, the last is the fallback's */
	struct hb_chain_match *match; /* owned; NULL with `matcher`                   */
	struct hb_matcher *matcher;   /* owned; NULL = per-chain match                  */
	bool for_streams; /* of a tunnel server: what matches nothing is answered 503         */
	struct hb_map *by_name;       /* owned; with `matcher`: name -> &chain[i]       */
};

/* What a set is compiled from; all borrowed. */
struct hb_chain_source {
	const void *owner; /* message with the fields filter_chains and filter_chain_matcher       */
	const char *where; /* of the owner in messages, "listener sni"                             */
	Envoy__Config__Listener__V3__FilterChain *const *chains;
	size_t n;
	const Envoy__Config__Listener__V3__FilterChain *fallback; /* NULL = none                   */
	/* xds.type.matcher.v3.Matcher that chooses by name; NULL = filter_chain_match of each */
	const void *matcher;
};

/* NULL after reporting. */
struct hb_chain_set *hb_chain_set_compile(struct hb_cfg *, const struct hb_chain_source *);
/* Drops what was not taken over. */
void hb_chain_set_free(struct hb_chain_set **);
/* Where a chain of `old` is equal to one of `set`, the old one goes on serving. */
void hb_chain_set_adopt(struct hb_chain_set *set, struct hb_chain_set *old);
/* On a worker. NULL = no chain matches and there is no default. */
const struct hb_chain *hb_chain_set_find(const struct hb_chain_set *, const struct hb_facts *);
const struct hb_chain *hb_chain_set_explain(
	const struct hb_chain_set *, const struct hb_facts *, struct hb_explain *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/match/chain_priv.h: the inside of the filter chain match: what one chain wants (a rule), and
 * the tree that is built from all rules.
 */
#ifndef HB_CORE_MATCH_CHAIN_PRIV_H
#define HB_CORE_MATCH_CHAIN_PRIV_H

#include "core/match/ip_table_priv.h"
#include "core/match/match.h"

/* In the order of the walk. X(ENUM, "name of the field", "what the connection has, as a phrase") */
#define CHAIN_LEVELS(X)                                                         \
	X(DST_PORT, "destination_port", "the local port is")                           \
	X(DST_IP, "prefix_ranges", "the local address is")                             \
	X(SNI, "server_names", "the server name is")                                   \
	X(TRANSPORT, "transport_protocol", "the transport protocol is")                \
	X(ALPN, "application_protocols", "the client offers")                          \
	X(DIRECT_IP, "direct_source_prefix_ranges", "the socket's peer is")            \
	X(SOURCE_TYPE, "source_type", "the peer is")                                   \
	X(SOURCE_IP, "source_prefix_ranges", "the peer is")                            \
	X(SOURCE_PORT, "source_ports", "the peer's port is")

enum chain_level {
#define X(e, n, t) CHAIN_##e,
	CHAIN_LEVELS(X)
#undef X
	CHAIN_LEVEL_MAX
};

struct chain_strs {
	struct hb_str *v;
	uint32_t n; /* 0 = any */
};
struct chain_cidrs {
	struct hb_cidr *v;
	uint32_t n; /* 0 = any */
};

/* All memory is in the arena of the match. */
struct chain_rule {
	const void *chain_msg; /* borrowed, for errors; NULL once frozen           */
	const char *name;      /* of the chain                                     */
	unsigned    chain;
	uint16_t    dst_port;    /* 0 = any                                        */
	uint8_t     source_type; /* FilterChainMatch.ConnectionSourceType          */
	struct chain_strs  sni;  /* lower case; "*.example.com" is ".example.com"  */
	struct chain_strs  alpn;
	struct hb_str      transport; /* "" = any                                  */
	struct chain_cidrs dst, direct, source;
	uint16_t *source_ports;
	uint32_t  n_source_ports; /* 0 = any                                       */
};

#define CHAIN_SOURCE_ANY      0
#define CHAIN_SOURCE_LOCAL    1
#define CHAIN_SOURCE_EXTERNAL 2

/*
 * Below a node all rules agree on the levels above. A MAP or RANGES node looks one level up; a
 * RULE node is all that is left of the walk when only one rule with short lists remains: this
 * chain or none. Levels at which no rule has a condition have no node.
 */
enum chain_node_kind { CHAIN_NODE_MAP, CHAIN_NODE_RANGES, CHAIN_NODE_RULE };

struct chain_node {
	struct chain_node *all; /* next in the list of all nodes */
	uint8_t kind;           /* enum chain_node_kind          */
	uint8_t level;          /* enum chain_level              */
	union {
		struct {
			struct hb_map     *children; /* key of the level -> node         */
			struct chain_node *any;      /* of rules without condition       */
		} map;
		struct hb_ip_table ranges; /* value: node                                */
		const struct chain_rule *rule;
	} u;
};

struct hb_chain_match {
	unsigned magic;
#define CHAIN_MATCH_MAGIC 0xc4a17a7c
	bool               frozen;
	struct hb_arena    arena;
	struct hb_map     *seen;    /* wire bytes of a match -> rule; NULL once frozen   */
	struct hb_map     *interned; /* strings, and lists of them; NULL once frozen     */
	struct chain_rule **rules;  /* owned array                                       */
	uint32_t           n_rules, cap_rules;
	struct chain_node *root;    /* NULL = nothing matches                            */
	struct chain_node *nodes;
	size_t             n_nodes;
};

extern const char *const hb_chain_level_names[CHAIN_LEVEL_MAX];

/* Level by level: how many keys a rule has there, and each. Ranges without condition are two keys
 * (0.0.0.0/0 and ::/0), everything else without condition is the empty key. */
uint32_t      hb_chain__rule_n_keys(const struct chain_rule *, enum chain_level);
struct hb_str hb_chain__rule_key(const struct chain_rule *, enum chain_level, uint32_t i);
bool          hb_chain__rule_is_any(const struct chain_rule *, enum chain_level);
/* How specific the best key is that the connection has: -1 = none has it, 0 = no condition. At one
 * level and for one connection equal ranks above 0 mean the same key. */
int hb_chain__rule_rank(const struct chain_rule *, enum chain_level, const struct hb_facts *);
/* Address at the IP levels as the walk sees it: what is no IP address becomes 255.255.255.255. */
void hb_chain__address(const struct hb_facts *, enum chain_level, struct hb_addr *ret);
bool hb_chain__is_local(const struct hb_facts *);
struct hb_str hb_chain__transport(const struct hb_facts *);
/* "443", "10.0.0.0/8", "*.example.com", "any". */
void hb_chain__key_text(struct hb_text *, enum chain_level, struct hb_str key);

/* Builds root; reports overlaps. */
int hb_chain__build(struct hb_chain_match *, struct hb_cfg *);

#endif

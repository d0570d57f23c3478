/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/match/matcher_priv.h: the inside of the unified matcher: inputs (what is looked at), and
 * lists and trees of what follows from them.
 */
#ifndef HB_CORE_MATCH_MATCHER_PRIV_H
#define HB_CORE_MATCH_MATCHER_PRIV_H

#include "core/match/match_priv.h"
#include "xds/type/matcher/v3/matcher.pb-c.h"

/* ------------------------------------------------------------------ inputs */

/* X(ENUM, DESCRIPTOR, "what it is, for people") */
#define HB_INPUTS(X)                                                                   \
	X(DST_IP, network__v3__destination_ipinput, "local address")                   \
	X(DST_PORT, network__v3__destination_port_input, "local port")                 \
	X(SOURCE_IP, network__v3__source_ipinput, "peer address")                      \
	X(SOURCE_PORT, network__v3__source_port_input, "peer port")                    \
	X(DIRECT_IP, network__v3__direct_source_ipinput, "peer address of the socket") \
	X(SOURCE_TYPE, network__v3__source_type_input, "source type")                  \
	X(SNI, network__v3__server_name_input, "server name")                          \
	X(TRANSPORT, network__v3__transport_protocol_input, "transport protocol")      \
	X(ALPN, network__v3__application_protocol_input, "application protocols")      \
	X(STATE, network__v3__filter_state_input, "filter state")                      \
	X(METADATA, network__v3__dynamic_metadata_input, "metadata")                   \
	X(URI_SAN, ssl__v3__uri_san_input, "URI names of the peer")                    \
	X(DNS_SAN, ssl__v3__dns_san_input, "DNS names of the peer")                    \
	X(SUBJECT, ssl__v3__subject_input, "subject of the peer")

enum hb_input_kind {
#define X(e, d, t) HB_INPUT_##e,
	HB_INPUTS(X)
#undef X
	HB_INPUT_MAX
};

struct hb_input {
	uint8_t kind;     /* enum hb_input_kind                       */
	char   *ns, *key; /* owned; of filter state or metadata, or NULL */
};

/*
 * Lists (offered protocols, names of a certificate) are joined in a buffer of the caller. One that
 * does not fit is no value; HB_FACTS_ALPN_MAX protocols always fit.
 */
#define HB_INPUT_BUF 8192u

/* `msg` is a TypedExtensionConfig. */
int  hb_match__input_compile(struct hb_cfg *, const void *owner_msg, const char *field,
    const Xds__Core__V3__TypedExtensionConfig *msg, struct hb_input *ret);
void hb_match__input_fini(struct hb_input *);
/* p NULL = no value. The text lies in the facts or in buf. */
struct hb_str hb_match__input_get(const struct hb_input *, const struct hb_facts *,
    char buf[HB_INPUT_BUF]);
/* The value as an IP address; false when it is none. */
bool hb_match__input_ip(const struct hb_input *, const struct hb_facts *, struct hb_addr *ret);
/* `server name`, `filter state io.istio.x`. */
void hb_match__input_text(struct hb_text *, const struct hb_input *);

/* ------------------------------------------------------------------ matchers */

#define HB_MATCHER_DEPTH_MAX 32u

/* What follows from a match: one of matcher and action, or neither: nothing. */
struct hb_on_match {
	struct hb_matcher *matcher; /* owned                                */
	const void *action;         /* owned, freed by hb_matcher.action_free */
	bool keep_matching;
};

enum hb_predicate_kind { HB_PREDICATE_SINGLE, HB_PREDICATE_OR, HB_PREDICATE_AND, HB_PREDICATE_NOT };

struct hb_predicate {
	uint8_t kind; /* enum hb_predicate_kind */
	struct hb_input input;
	struct hb_string_matcher *string; /* SINGLE; owned          */
	struct hb_predicate *v;           /* others; owned array    */
	size_t n;
};

/* One value of a tree. */
struct hb_tree_entry {
	struct hb_str key;                 /* in the arena; of a range as text                   */
	const struct hb_on_match *on;      /* may be shared by several                           */
	const struct hb_tree_entry *wider; /* to try when this one has no result; NULL = none    */
	bool exclusive;                    /* not when reached as `wider`                        */
};

enum hb_matcher_kind {
	HB_MATCHER_ANY,    /* on_no_match at once */
	HB_MATCHER_LIST,
	HB_MATCHER_EXACT,
	HB_MATCHER_PREFIX,
	HB_MATCHER_IP,
	HB_MATCHER_NAME,
};

struct hb_matcher {
	unsigned magic;
#define HB_MATCHER_MAGIC 0x3a7c4e12
	uint8_t kind;    /* enum hb_matcher_kind                                 */
	bool    strings; /* actions are text                                     */
	void  (*action_free)(const void *);
	struct hb_arena arena;
	struct hb_on_match *on; /* owned array: of list entries, of values       */
	size_t n_on;
	struct hb_on_match on_no_match;
	struct hb_predicate *predicates; /* LIST: owned array, as long as on     */
	/* trees */
	struct hb_input input;
	struct hb_map *map;              /* EXACT, NAME: key -> entry            */
	struct hb_tree_entry *entries;   /* owned array; PREFIX: sorted by key   */
	size_t n_entries;
	struct hb_ip_table ranges;       /* IP: value is the entry               */
	const struct hb_tree_entry *everything; /* NAME: of "*"                  */
};

struct hb_matcher_build {
	struct hb_cfg *cfg;
	hb_matcher_action_f *action;
	void (*action_free)(const void *);
	void *arg;
	unsigned depth;
};

int hb_matcher__on_match(struct hb_matcher_build *, const void *owner_msg, const char *field,
    const Xds__Type__Matcher__V3__Matcher__OnMatch *, struct hb_on_match *ret);
/* Fills in what belongs to trees. */
int hb_matcher__tree_compile(struct hb_matcher_build *, struct hb_matcher *,
    const Xds__Type__Matcher__V3__Matcher__MatcherTree *);
/* The first entry to try, NULL when none has the value. */
const struct hb_tree_entry *hb_matcher__tree_find(const struct hb_matcher *,
    const struct hb_facts *);

#endif

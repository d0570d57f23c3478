/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/match/match.h: deciding by facts. Compiled on the control thread, frozen, evaluated on
 * workers without allocation: strings, metadata values, Envoy's filter chain match, the unified
 * matcher tree, RBAC.
 */
#ifndef HB_CORE_MATCH_MATCH_H
#define HB_CORE_MATCH_MATCH_H

#include "core/config/config.h"
#include "core/facts/facts.h"

struct hb_explain_sink { /* why-lines of a decision; core/filter/explain.h forwards them */
	void (*line)(void *arg, const char *subject, const char *verdict, const char *why);
	void *arg;
};

/* ------------------------------------------------------------------ strings */

struct hb_string_matcher; /* envoy.type.matcher.v3.StringMatcher; regex is RE2, linear time */
struct hb_string_matcher *hb_string_matcher_compile(struct hb_cfg *, const void *owner_msg,
    const char *field, int index, const void *msg);
void hb_string_matcher_free(struct hb_string_matcher **);
bool hb_string_match(const struct hb_string_matcher *, struct hb_str value);

/* ------------------------------------------------------------------ filter chain match */

/*
 * envoy.config.listener.v3.FilterChainMatch, compiled as nested maps exactly as Envoy does: one
 * walk through port, destination IP, server name, transport protocol, application protocols (in
 * the client's order), direct source IP, source type, source IP, source port, without
 * backtracking. What deeper levels miss is a miss.
 */
struct hb_chain_match;
struct hb_chain_match *hb_chain_match_new(void);
/*
 * Adds chain number `chain`. `msg` NULL = matches everything. Reports refused fields, bad
 * wildcards, equal rules (naming both chains). 0 or -EINVAL.
 */
int  hb_chain_match_add(struct hb_chain_match *, struct hb_cfg *, const void *chain_msg,
    const void *msg, unsigned chain, const char *chain_name);
/*
 * After the last chain was added and before the first find; builds the tree and reports overlapping
 * rules. The messages given to hb_chain_match_add must still be there. 0 or -EINVAL.
 */
int  hb_chain_match_freeze(struct hb_chain_match *, struct hb_cfg *);
void hb_chain_match_free(struct hb_chain_match **);
/* Number of the chain, or -1. */
int  hb_chain_match_find(const struct hb_chain_match *, const struct hb_facts *);
/* Same, telling at which level which branch was taken and why the other chains lost. */
int  hb_chain_match_explain(const struct hb_chain_match *, const struct hb_facts *,
    const struct hb_explain_sink *);

/* ------------------------------------------------------------------ unified matcher */

/*
 * xds.type.matcher.v3.Matcher: lists and trees (exact, prefix, IP, server name), nested, with
 * keep_matching and on_no_match. Actions are google.protobuf.StringValue or any message that
 * `action` accepts. Depth at most 32. As in Envoy a branch without a result is no dead end: the
 * search goes on with the next entry of the list, the next shorter prefix, the next wider range
 * (unless `exclusive`), the next wildcard, then on_no_match.
 */
struct hb_matcher;
/*
 * Called for each action while compiling; owner_msg is its TypedExtensionConfig. 0 and an action
 * that action_free takes (NULL is not allowed), or -EINVAL after reporting.
 */
typedef int hb_matcher_action_f(struct hb_cfg *, const void *owner_msg, const ProtobufCMessage *action,
    void *arg, const void **ret_action);
/* action NULL: StringValue only, the action is a `const char *`. */
struct hb_matcher *hb_matcher_compile(struct hb_cfg *, const void *owner_msg, const char *field,
    const void *msg, hb_matcher_action_f *action, void (*action_free)(const void *), void *arg);
void hb_matcher_free(struct hb_matcher **);
/* The action, or NULL when nothing matches. */
const void *hb_matcher_eval(const struct hb_matcher *, const struct hb_facts *);
const void *hb_matcher_explain(const struct hb_matcher *, const struct hb_facts *,
    const struct hb_explain_sink *);
/* All action strings (StringValue matchers), for validation that chains exist. */
void hb_matcher_actions(const struct hb_matcher *, void (*fn)(void *arg, const void *action),
    void *arg);

/* ------------------------------------------------------------------ RBAC */

enum hb_rbac_verdict { HB_RBAC_ALLOW, HB_RBAC_DENY };

/*
 * envoy.config.rbac.v3.RBAC, or a matcher whose actions are envoy.config.rbac.v3.Action. All inputs
 * are known once a connection is secured. `authenticated` looks at the URI names of the peer's
 * certificate, without any at its DNS names, without any at its subject; a plaintext connection in
 * a tunnel has the identity of the connection that carries it.
 */
struct hb_rbac;
struct hb_rbac *hb_rbac_compile(struct hb_cfg *, const void *owner_msg, const char *field,
    const void *rbac_msg);
void hb_rbac_free(struct hb_rbac **);
struct hb_rbac_result {
	enum hb_rbac_verdict verdict;
	bool        log;     /* a LOG policy matched                              */
	const char *policy;  /* that decided; NULL = none matched                 */
};
/* Policies in sorted order of names; ALLOW without a match denies. */
struct hb_rbac_result hb_rbac_eval(const struct hb_rbac *, const struct hb_facts *);
/* The action of these policies is LOG: the verdict is always ALLOW, and result.log says the rest. */
bool hb_rbac_logs(const struct hb_rbac *);
void hb_rbac_explain(const struct hb_rbac *, const struct hb_facts *, const struct hb_explain_sink *);

#endif

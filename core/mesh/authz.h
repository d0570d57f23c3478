/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/mesh/authz.h: Istio's authorization of connections (istio.security.Authorization), as
 * ztunnel decides it.
 *
 * Of the policies that apply to a workload: a DENY policy that matches denies; without any ALLOW
 * policy everything else passes; with one, only what some ALLOW policy matches. A policy matches
 * when any of its groups does, a group when all of its rules do, rules when any of their matches
 * does, and a match when all of its lists agree: any element of the positive list (an empty one
 * agrees), none of the negative one. Edges: a policy without groups never matches, a group without
 * rules and rules without matches always do, a match without any list never does.
 *
 * What is compared:
 *   principals        the SPIFFE id of the verified peer (hb_facts_identity) without spiffe://; of
 *                     any form. Without an identity nothing matches, so not_principals is true.
 *   namespaces        of an id of Istio's form, else ""
 *   service accounts  of an id of Istio's form, else none
 *   source IP         of the TCP connection at the bottom (hb_facts_root), for what a tunnel's
 *                     headers say can be made up by the peer
 *   destination       hb_facts.local; for a tunnel stream whose local address was not restored to
 *                     its target, what the authority tells (a name has a port, but no address: it is
 *                     in no range)
 * Metadata that the peer sends (baggage, forwarded) is never looked at.
 *
 * Where ztunnel drops a condition that it cannot read, and so lets a DENY policy match less than
 * was meant, compiling fails here instead: addresses of a wrong length, StringMatch without a
 * field, ports outside 1 … 65535, principals that start with spiffe://.
 *
 * Policies and sets are frozen; evaluation allocates nothing.
 */
#ifndef HB_CORE_MESH_AUTHZ_H
#define HB_CORE_MESH_AUTHZ_H

#include "core/config/config.h"
#include "core/facts/facts.h"
#include "core/match/match.h"

/* ------------------------------------------------------------------ one policy */

struct hb_authz_policy;

enum hb_authz_scope { HB_AUTHZ_GLOBAL, HB_AUTHZ_NAMESPACE, HB_AUTHZ_WORKLOAD };

/* An istio.security.Authorization; NULL after errors were reported. Control thread. */
struct hb_authz_policy *hb_authz_policy_compile(struct hb_cfg *, const void *authorization_msg);
void hb_authz_policy_free(struct hb_authz_policy **);
/* "namespace/name": what it is called in logs, and by workloads that name it. */
const char *hb_authz_policy_key(const struct hb_authz_policy *);
struct hb_str hb_authz_policy_namespace(const struct hb_authz_policy *);
enum hb_authz_scope hb_authz_policy_scope(const struct hb_authz_policy *);
bool hb_authz_policy_denies(const struct hb_authz_policy *); /* action DENY */
bool hb_authz_policy_dry_run(const struct hb_authz_policy *);
/* Whether it matches, whatever its action. */
bool hb_authz_policy_match(const struct hb_authz_policy *, const struct hb_facts *);

/* ------------------------------------------------------------------ those of a workload */

/* Policies that apply together, in the order in which they were added. They are borrowed. */
struct hb_authz;
struct hb_authz *hb_authz_new(void);
void hb_authz_free(struct hb_authz **);
void hb_authz_add(struct hb_authz *, const struct hb_authz_policy *);
/* A workload names a policy that does not exist: everything is denied until it does. `key` is
 * copied. */
void hb_authz_add_unknown(struct hb_authz *, const char *key);
size_t hb_authz_count(const struct hb_authz *);
bool hb_authz_has_dry_run(const struct hb_authz *); /* any policy in dry run */

enum hb_authz_why {
	HB_AUTHZ_NO_ALLOW_POLICY, /* allowed: no policy says whom to allow      */
	HB_AUTHZ_ALLOWED,         /* allowed by `policy`                        */
	HB_AUTHZ_DENIED,          /* denied by `policy`                         */
	HB_AUTHZ_NONE_ALLOWED,    /* denied: there are ALLOW policies           */
	HB_AUTHZ_UNKNOWN,         /* denied: a policy is missing                */
};

struct hb_authz_verdict {
	enum hb_authz_why why;
	const char       *policy; /* key of the policy that decided; NULL = none did */
};

static inline bool
hb_authz_allows(struct hb_authz_verdict v)
{
	return (v.why == HB_AUTHZ_NO_ALLOW_POLICY || v.why == HB_AUTHZ_ALLOWED);
}

struct hb_authz_result {
	struct hb_authz_verdict enforced;
	/* If the policies in dry run were enforced too; equal to `enforced` when there are none. */
	struct hb_authz_verdict dry;
	unsigned dry_hits; /* policies in dry run that match */
};

struct hb_authz_result hb_authz_eval(const struct hb_authz *, const struct hb_facts *);
/* Calls fn for each policy in dry run that matches. */
void hb_authz_dry_hits(const struct hb_authz *, const struct hb_facts *,
    void (*fn)(void *arg, const struct hb_authz_policy *), void *arg);
/* "explicitly denied by: NS/NAME", "allow policies exist, but none allowed", …; bounded by `cap`,
 * always terminated. */
void hb_authz_reason(struct hb_authz_verdict, char *dst, size_t cap);
/* What is known of the peer, a line for each policy that was looked at, then one with the subject
 * "authz" and the verdict "allow" or "deny". */
void hb_authz_explain(const struct hb_authz *, const struct hb_facts *,
    const struct hb_explain_sink *);

#endif

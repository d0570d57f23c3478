/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/identity/rules.h: which SPIFFE identities a peer may have.
 *
 * The peer's certificate must have one URI SAN, and it must be a SPIFFE id. It is then accepted by
 * the first of these that fits:
 *
 *   ids               one of them is the identity
 *   id_prefixes       one of them is the identity, or whole segments at its beginning
 *   service_accounts  trust domain accepted, and "NAMESPACE/ACCOUNT" is the workload, or "ACCOUNT"
 *                     is its account and its namespace is ours
 *   namespaces        trust domain accepted, and its namespace is one of them; "." = ours, "*" = any
 *   default           when none of the four lists has an entry: trust domain accepted, and the same
 *                     namespace as ours
 *
 * A trust domain is accepted when it is one of trust_domains ("*" = every one that our trust bundle
 * vouches for), by default when it is ours. Aliases are other names of our own trust domain: what
 * is said of ours holds for an alias, in ids and prefixes too.
 *
 * Rules are frozen once made, and may be asked by every worker.
 */
#ifndef HB_CORE_IDENTITY_RULES_H
#define HB_CORE_IDENTITY_RULES_H

#include "core/identity/identity.h"

#define HB_RULES_MAX 10000u /* entries of one list */

struct hb_rules_list {
	const char *const *v;
	size_t             n;
};

struct hb_rules_options { /* texts are copied */
	struct hb_rules_list trust_domains, trust_domain_aliases, namespaces, service_accounts, ids,
	    id_prefixes;
};

struct hb_rules;

/* -EINVAL when an entry cannot be one of its list: *ret_list (option name, static) and *ret_index
 * say which, reterr why. */
int  hb_rules_new(const struct hb_rules_options *, struct hb_rules **ret, const char **ret_list,
    size_t *ret_index, struct hb_err *reterr);
void hb_rules_free(struct hb_rules **);

/* None of the four lists has an entry: the default rule holds. */
bool hb_rules_is_default(const struct hb_rules *);

/* Our certificate must have a SPIFFE id for these rules to mean anything; *ret_why says for what. */
bool hb_rules_need_own(const struct hb_rules *, const char **ret_why);

enum hb_rules_answer {
	HB_RULES_ALLOWED,
	HB_RULES_NO_IDENTITY, /* no URI, several, or one that is not a SPIFFE id */
	HB_RULES_DENIED,
};

/*
 * Judges a verified peer; `own` is our certificate (NULL = we have none). `text` (cap bytes) then
 * says which rule decided: "namespaces: prod", or what was refused and what is allowed.
 */
enum hb_rules_answer hb_rules_judge(const struct hb_rules *, const struct hb_cert_info *peer,
    const struct hb_cert_info *own, char *text, size_t cap);

/* "trust domain cluster.local (ours), namespaces: . other": for logs and explanations. */
void hb_rules_describe(const struct hb_rules *, struct hb_text *);

#endif

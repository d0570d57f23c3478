/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/mesh/authz_priv.h: the shape of a compiled policy. Everything lies in the policy's arena.
 */
#ifndef HB_CORE_MESH_AUTHZ_PRIV_H
#define HB_CORE_MESH_AUTHZ_PRIV_H

#include "core/mesh/authz.h"

enum hb_authz_string_kind { HB_AUTHZ_EXACT, HB_AUTHZ_PREFIX, HB_AUTHZ_SUFFIX, HB_AUTHZ_PRESENCE };

struct hb_authz_string {
	uint8_t kind; /* enum hb_authz_string_kind */
	struct hb_str text;
};

struct hb_authz_account {
	struct hb_str ns, sa;
};

/* One list of a match: what must be, or what must not be. */
#define HB_AUTHZ_LIST(type)    \
	struct {               \
		unsigned n;    \
		const type *v; \
	}

struct hb_authz_match {
	HB_AUTHZ_LIST(struct hb_authz_string) namespaces[2], principals[2]; /* [1] = not_… */
	HB_AUTHZ_LIST(struct hb_cidr) sources[2], destinations[2];
	HB_AUTHZ_LIST(uint16_t) ports[2];
	HB_AUTHZ_LIST(struct hb_authz_account) accounts[2];
	bool empty; /* no list at all */
};

struct hb_authz_rules { /* any of them */
	unsigned n;
	const struct hb_authz_match *v;
};

struct hb_authz_group { /* all of them */
	unsigned n;
	const struct hb_authz_rules *v;
};

struct hb_authz_policy {
	unsigned magic;
#define HB_AUTHZ_POLICY_MAGIC 0xa0712001
	struct hb_arena arena;
	struct hb_str key, ns;
	uint8_t scope; /* enum hb_authz_scope */
	bool deny, dry_run;
	unsigned n; /* any of them */
	const struct hb_authz_group *v;
};

/* What policies ask for, taken from the facts once. */
struct hb_authz_peer {
	bool known;              /* a SPIFFE id was verified         */
	struct hb_str principal; /* without spiffe://                */
	struct hb_str ns, sa;    /* "" when it is not of Istio's form */
	bool account;            /* it is of Istio's form            */
	struct hb_addr source, destination; /* NONE when no IP address */
	uint16_t port; /* of the destination; 0 = none     */
};

void hb_authz__peer(const struct hb_facts *, struct hb_authz_peer *ret);
bool hb_authz__match(const struct hb_authz_policy *, const struct hb_authz_peer *);

#endif

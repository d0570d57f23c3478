/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/match/rbac_priv.h: the inside of the RBAC engine: permissions and principals are one kind of
 * rule, for both ask for facts of the connection.
 */
#ifndef HB_CORE_MATCH_RBAC_PRIV_H
#define HB_CORE_MATCH_RBAC_PRIV_H

#include "core/match/match_priv.h"

enum hb_rule_kind {
	HB_RULE_ANY,
	HB_RULE_AND,
	HB_RULE_OR,
	HB_RULE_NOT,
	HB_RULE_IP,
	HB_RULE_PORT,
	HB_RULE_SNI,
	HB_RULE_AUTHENTICATED,
	HB_RULE_METADATA,
	HB_RULE_STATE,
};

enum hb_rule_addr { HB_RULE_LOCAL, HB_RULE_REMOTE, HB_RULE_DIRECT_REMOTE };

struct hb_rule {
	uint8_t kind; /* enum hb_rule_kind        */
	uint8_t addr; /* IP: enum hb_rule_addr    */
	struct hb_cidr cidr;              /* IP                                         */
	uint32_t port_start, port_end;    /* PORT: the end is not part of it            */
	struct hb_string_matcher *string; /* SNI, AUTHENTICATED (NULL = anybody); owned */
	struct hb_metadata_matcher *metadata;
	struct hb_state_matcher *state;
	struct hb_rule *v; /* AND, OR, NOT; owned array */
	size_t n;
};

/* Arrays of messages to an OR rule; at least one is needed. 0 or -EINVAL. */
int  hb_rule__permissions(struct hb_cfg *, const void *owner_msg, const char *field, size_t n,
    void *const *permissions, struct hb_rule *ret);
int  hb_rule__principals(struct hb_cfg *, const void *owner_msg, const char *field, size_t n,
    void *const *principals, struct hb_rule *ret);
void hb_rule__fini(struct hb_rule *);
bool hb_rule__match(const struct hb_rule *, const struct hb_facts *);
void hb_rule__text(struct hb_text *, const struct hb_rule *);

#endif

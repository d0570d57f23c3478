/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/match/ip_table_priv.h: ranges of addresses, sorted, each knowing the next wider one, so that
 * a look-up is one binary search and at most one step a prefix length. The same range may be added
 * more than once; then the one that was added first comes first.
 */
#ifndef HB_CORE_MATCH_IP_TABLE_PRIV_H
#define HB_CORE_MATCH_IP_TABLE_PRIV_H

#include "core/facts/facts.h"

struct hb_ip_range {
	struct hb_cidr cidr;
	bool        equal; /* the entry before this one is the same range, added later  */
	uint32_t    order; /* of adding                                                */
	uint32_t    wider; /* index of the narrowest range around it; UINT32_MAX: none */
	const void *value; /* borrowed                                                 */
};

struct hb_ip_table {
	struct hb_ip_range *v; /* owned */
	uint32_t n, cap;
};

void hb_ip_table_add(struct hb_ip_table *, const struct hb_cidr *, const void *value);
/* After the last add and before the first find. */
void hb_ip_table_freeze(struct hb_ip_table *);
void hb_ip_table_fini(struct hb_ip_table *);
/* The narrowest range with this address, NULL when none has it (always for what is no IP). */
const struct hb_ip_range *hb_ip_table_find(const struct hb_ip_table *, const struct hb_addr *);
/* The next one that has every address of r: the same range added later, or a wider one; or NULL. */
const struct hb_ip_range *hb_ip_table_next(const struct hb_ip_table *, const struct hb_ip_range *r);

#endif

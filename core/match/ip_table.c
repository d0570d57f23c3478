/* SPDX-License-Identifier: Apache-2.0 */
#include "core/match/ip_table_priv.h"

#include <stdlib.h>

#define NONE UINT32_MAX

static size_t
ip_bytes(uint8_t kind)
{
	return (kind == HB_ADDR_V4 ? 4 : 16);
}

void
hb_ip_table_add(struct hb_ip_table *t, const struct hb_cidr *c, const void *value)
{
	if (t->n == t->cap) {
		HB_ASSERT(t->cap < NONE / 2);
		t->cap = HB_MAX(t->cap * 2, 4u);
		t->v = hb_realloc(t->v, t->cap * sizeof *t->v);
	}
	t->v[t->n] = (struct hb_ip_range){
		.cidr = *c, .order = t->n, .wider = NONE, .value = value
	};
	t->n++;
}

/* Wide before narrow, and of equal ranges the first one last: a search for the last entry that is
 * not behind an address then ends at the best candidate. */
static int
range_cmp(const void *pa, const void *pb)
{
	const struct hb_ip_range *a = pa, *b = pb;
	int r;

	if (a->cidr.kind != b->cidr.kind)
		return (a->cidr.kind < b->cidr.kind ? -1 : 1);
	r = memcmp(a->cidr.ip, b->cidr.ip, ip_bytes(a->cidr.kind));
	if (r != 0)
		return (r);
	if (a->cidr.len != b->cidr.len)
		return (a->cidr.len < b->cidr.len ? -1 : 1);
	return (a->order > b->order ? -1 : a->order < b->order);
}

static bool
range_has(const struct hb_ip_range *r, uint8_t kind, const uint8_t *ip)
{
	struct hb_addr a = { .kind = kind };

	memcpy(a.u.ip, ip, ip_bytes(kind));
	return (hb_cidr_contains(&r->cidr, &a));
}

void
hb_ip_table_freeze(struct hb_ip_table *t)
{
	if (t->n > 0)
		qsort(t->v, t->n, sizeof *t->v, range_cmp);
	for (uint32_t i = 1; i < t->n; i++) {
		struct hb_ip_range *r = &t->v[i];
		uint32_t w = i - 1;

		if (t->v[w].cidr.kind == r->cidr.kind && t->v[w].cidr.len == r->cidr.len &&
			memcmp(t->v[w].cidr.ip, r->cidr.ip, ip_bytes(r->cidr.kind)) == 0) {
			r->equal = true;
			r->wider = t->v[w].wider;
			continue;
		}
		while (w != NONE && !range_has(&t->v[w], r->cidr.kind, r->cidr.ip))
			w = t->v[w].wider;
		r->wider = w;
	}
}

void
hb_ip_table_fini(struct hb_ip_table *t)
{
	hb_free(t->v);
	memset(t, 0, sizeof *t);
}

const struct hb_ip_range *
hb_ip_table_find(const struct hb_ip_table *t, const struct hb_addr *a)
{
	uint32_t low = 0, high = t->n, i;

	if (a->kind != HB_ADDR_V4 && a->kind != HB_ADDR_V6)
		return (NULL);
	while (low < high) {
		const struct hb_cidr *c = &t->v[(i = low + (high - low) / 2)].cidr;

		if (c->kind < a->kind ||
			(c->kind == a->kind && memcmp(c->ip, a->u.ip, ip_bytes(c->kind)) <= 0))
			low = i + 1;
		else
			high = i;
	}
	for (i = low == 0 ? NONE : low - 1; i != NONE; i = t->v[i].wider) {
		if (hb_cidr_contains(&t->v[i].cidr, a))
			return (&t->v[i]);
	}
	return (NULL);
}

const struct hb_ip_range *
hb_ip_table_next(const struct hb_ip_table *t, const struct hb_ip_range *r)
{
	HB_ASSERT(r >= t->v && r < t->v + t->n);
	if (r->equal)
		return (r - 1);
	return (r->wider == NONE ? NULL : &t->v[r->wider]);
}

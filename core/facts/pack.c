/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/pack.h"
#include "core/facts/facts.h"

#define HAS_PARENT  1u
#define PARENT_KEPT 2u
#define RESTORED    4u
#define HAS_DIRECT  8u
#define HAS_HELLO   16u

static struct hb_str
str_in(struct hb_facts *f, struct hb_unpack *u)
{
	struct hb_str s = hb_unpack_str(u);

	return (s.p == NULL ? s : hb_arena_str(&f->arena, s));
}

static void
hello_pack(const struct hb_facts_hello *h, struct hb_pack *p)
{
	hb_pack_str(p, h->sni);
	hb_pack_ptr(p, h->transport_protocol);
	hb_pack_byte(p, h->n_alpn);
	for (unsigned i = 0; i < h->n_alpn; i++)
		hb_pack_str(p, h->alpn[i]);
}

static void
hello_unpack(struct hb_facts *f, struct hb_unpack *u)
{
	struct hb_str alpn[HB_FACTS_ALPN_MAX], sni = hb_unpack_str(u);
	const char *protocol = hb_unpack_ptr(u);
	unsigned n = hb_unpack_byte(u);

	HB_ASSERT(n <= HB_FACTS_ALPN_MAX);
	for (unsigned i = 0; i < n; i++)
		alpn[i] = hb_unpack_str(u);
	hb_facts_hello_set(f, sni, alpn, n);
	f->hello->transport_protocol = protocol;
}

static void
list_pack(const struct hb_fact_entry *e, unsigned n, struct hb_pack *p)
{
	hb_pack_byte(p, (uint8_t)n);
	for (; e != NULL; e = e->next) {
		hb_pack_str(p, e->ns);
		hb_pack_str(p, e->key);
		hb_pack_str(p, e->value);
		hb_pack_byte(p, (uint8_t)(e->shared << 2 | e->read_only << 1 | e->is_address));
	}
}

static uint8_t
list_unpack(struct hb_facts *f, struct hb_fact_entry **tail, struct hb_unpack *u)
{
	uint8_t n = hb_unpack_byte(u), bits;
	struct hb_fact_entry *e;

	for (unsigned i = 0; i < n; i++) {
		e = hb_arena_alloc(&f->arena, sizeof *e);
		e->ns = str_in(f, u);
		e->key = str_in(f, u);
		e->value = str_in(f, u);
		bits = hb_unpack_byte(u);
		e->shared = bits >> 2;
		e->read_only = bits & 2;
		e->is_address = bits & 1;
		*tail = e;
		tail = &e->next;
	}
	return (n);
}

bool
hb_facts_packable(const struct hb_facts *f)
{
	return (f->tls == NULL && f->authority.len <= HB_FACTS_PACK_MAX &&
		hb_arena_used(&f->arena) <= HB_FACTS_PACK_MAX);
}

void
hb_facts_pack(struct hb_facts *f, struct hb_pack *p)
{
	HB_ASSERT(hb_facts_packable(f));
	hb_pack_byte(p,
		(uint8_t)((f->parent != NULL ? HAS_PARENT : 0) |
			(f->parent_kept ? PARENT_KEPT : 0) | (f->local_restored ? RESTORED : 0) |
			(f->direct != NULL ? HAS_DIRECT : 0) | (f->hello != NULL ? HAS_HELLO : 0)));
	if (f->parent != NULL)
		hb_pack_ptr(p, f->parent);
	hb_addr_pack(&f->local, p);
	hb_addr_pack(&f->remote, p);
	if (f->direct != NULL) {
		hb_addr_pack(&f->direct[0], p);
		hb_addr_pack(&f->direct[1], p);
	}
	if (f->hello != NULL)
		hello_pack(f->hello, p);
	hb_pack_str(p, f->authority);
	list_pack(f->metadata, f->n_metadata, p);
	list_pack(f->filter_state, f->n_filter_state, p);
	/* The reference to the parent is in the bytes now. */
	f->parent_kept = false;
	hb_facts_fini(f);
}

void
hb_facts_unpack(struct hb_facts *f, struct hb_unpack *u)
{
	uint8_t bits = hb_unpack_byte(u);

	if (bits & HAS_PARENT)
		f->parent = hb_unpack_ptr(u);
	f->parent_kept = bits & PARENT_KEPT;
	f->local_restored = bits & RESTORED;
	hb_addr_unpack(&f->arena, &f->local, u);
	hb_addr_unpack(&f->arena, &f->remote, u);
	if (bits & HAS_DIRECT) {
		f->direct = hb_arena_alloc(&f->arena, 2 * sizeof *f->direct);
		hb_addr_unpack(&f->arena, &f->direct[0], u);
		hb_addr_unpack(&f->arena, &f->direct[1], u);
	}
	if (bits & HAS_HELLO)
		hello_unpack(f, u);
	f->authority = str_in(f, u);
	f->n_metadata = list_unpack(f, &f->metadata, u);
	f->n_filter_state = list_unpack(f, &f->filter_state, u);
}

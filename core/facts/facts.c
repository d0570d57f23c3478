/* SPDX-License-Identifier: Apache-2.0 */
#include "core/facts/facts.h"

void
hb_facts_init(struct hb_facts *f)
{
	memset(f, 0, sizeof *f);
}

void
hb_facts_unref(struct hb_facts_owner **op)
{
	struct hb_facts_owner *o = *op;

	if (o == NULL)
		return;
	*op = NULL;
	HB_ASSERT(o->refs > 0);
	if (--o->refs == 0)
		o->free_fn(o);
}

void
hb_facts_set_parent(struct hb_facts *f, const struct hb_facts *parent, struct hb_facts_owner *owner)
{
	HB_ASSERT(f->parent == NULL && f->parent_owner == NULL && owner->refs > 0);
	f->parent = parent;
	f->parent_owner = owner;
	owner->refs++;
}

void
hb_facts_fini(struct hb_facts *f)
{
	hb_facts_unref(&f->parent_owner);
	hb_arena_fini(&f->arena);
	memset(f, 0, sizeof *f);
}

bool
hb_facts_alpn_add(struct hb_facts *f, struct hb_str name)
{
	unsigned n = f->n_alpn;
	struct hb_str *more;

	if (n >= HB_FACTS_ALPN_MAX)
		return (false);
	/* Most clients offer one or two; the array doubles when it is full. */
	if (n == 0 || (n > 1 && (n & (n - 1)) == 0)) {
		more = hb_arena_alloc(&f->arena, HB_MAX(2 * n, 2u) * sizeof *more);
		for (unsigned i = 0; i < n; i++)
			more[i] = f->alpn[i];
		f->alpn = more;
	}
	f->alpn[f->n_alpn++] = hb_arena_str(&f->arena, name);
	return (true);
}

static struct hb_fact_entry *
entry_find(struct hb_fact_entry *list, struct hb_str ns, struct hb_str key)
{
	for (struct hb_fact_entry *e = list; e != NULL; e = e->next) {
		if (hb_str_eq(e->key, key) && hb_str_eq(e->ns, ns))
			return (e);
	}
	return (NULL);
}

/* Appends, so that lists keep the order in which things became known. */
static struct hb_fact_entry *
entry_add(struct hb_facts *f, struct hb_fact_entry **list, struct hb_str ns, struct hb_str key)
{
	struct hb_fact_entry *e = hb_arena_alloc(&f->arena, sizeof *e), **tail = list;

	while (*tail != NULL)
		tail = &(*tail)->next;
	*tail = e;
	e->ns = hb_arena_str(&f->arena, ns);
	e->key = hb_arena_str(&f->arena, key);
	return (e);
}

/*
 * An older value that is as long is overwritten, so that a value which is set again and again
 * (one for each request of a long connection) does not grow the arena.
 */
static void
entry_value(struct hb_facts *f, struct hb_fact_entry *e, struct hb_str value)
{
	struct hb_addr ignored;

	if (e->value.p != NULL && value.len <= e->value.len) {
		char *p = (char *)(uintptr_t)e->value.p;

		if (value.len > 0)
			memmove(p, value.p, value.len);
		p[value.len] = '\0';
		e->value.len = value.len;
	} else {
		e->value = hb_arena_str(&f->arena, value);
	}
	e->is_address = hb_addr_parse(e->value, &ignored) || hb_addr_parse_ip(e->value, &ignored);
}

bool
hb_facts_metadata_set(struct hb_facts *f, struct hb_str ns, struct hb_str key, struct hb_str value)
{
	struct hb_fact_entry *e = entry_find(f->metadata, ns, key);

	if (e == NULL) {
		if (f->n_metadata >= HB_FACT_ENTRIES_MAX)
			return (false);
		e = entry_add(f, &f->metadata, ns, key);
		f->n_metadata++;
	}
	entry_value(f, e, value);
	return (true);
}

bool
hb_facts_state_set(
	struct hb_facts *f, struct hb_str key, struct hb_str value, bool read_only, uint8_t shared)
{
	struct hb_fact_entry *e = entry_find(f->filter_state, HB_STR(""), key);

	if (e != NULL && e->read_only)
		return (false);
	if (e == NULL) {
		if (f->n_filter_state >= HB_FACT_ENTRIES_MAX)
			return (false);
		e = entry_add(f, &f->filter_state, HB_STR(""), key);
		f->n_filter_state++;
	}
	entry_value(f, e, value);
	e->read_only = read_only;
	e->shared = shared;
	return (true);
}

struct hb_str
hb_facts_metadata(const struct hb_facts *f, struct hb_str ns, struct hb_str key)
{
	const struct hb_fact_entry *e = entry_find(f->metadata, ns, key);

	return (e == NULL ? (struct hb_str){ 0 } : e->value);
}

const struct hb_fact_entry *
hb_facts_state_entry(const struct hb_facts *f, struct hb_str key)
{
	for (; f != NULL; f = f->parent) {
		const struct hb_fact_entry *e = entry_find(f->filter_state, HB_STR(""), key);

		if (e != NULL)
			return (e);
	}
	return (NULL);
}

/* What every stream of a tunnel would have to carry as entries. */
static struct hb_str
implied(const struct hb_facts *f, struct hb_str key)
{
	struct hb_str v = { 0 };

	if (f->authority.len == 0)
		return (v);
	if (hb_str_eq(key, HB_STR(HB_STATE_AUTHORITY)))
		v = f->authority;
	else if (f->parent != NULL && hb_str_eq(key, HB_STR(HB_STATE_PEER_PRINCIPAL)))
		v = f->parent->principal;
	return (v.len > 0 ? v : (struct hb_str){ 0 });
}

struct hb_str
hb_facts_state(const struct hb_facts *f, struct hb_str key)
{
	const struct hb_fact_entry *e;
	struct hb_str v;

	for (; f != NULL; f = f->parent) {
		e = entry_find(f->filter_state, HB_STR(""), key);
		v = e != NULL ? e->value : implied(f, key);
		if (v.p != NULL)
			return (v);
	}
	return ((struct hb_str){ 0 });
}

const struct hb_facts *
hb_facts_identity(const struct hb_facts *f)
{
	for (; f != NULL; f = f->parent) {
		if (f->peer_cert != NULL || f->principal.len > 0)
			return (f);
		if (f->tls_version != NULL)
			return (NULL);
	}
	return (NULL);
}

const struct hb_facts *
hb_facts_root(const struct hb_facts *f)
{
	while (f->parent != NULL)
		f = f->parent;
	return (f);
}

static void
entry_copy(struct hb_facts *to, struct hb_fact_entry **list, uint16_t *n,
	const struct hb_fact_entry *from)
{
	struct hb_fact_entry *e;

	if (entry_find(*list, from->ns, from->key) != NULL)
		return;
	e = entry_add(to, list, from->ns, from->key);
	entry_value(to, e, from->value);
	e->shared = from->shared;
	e->read_only = from->read_only;
	(*n)++;
}

static void
implied_copy(struct hb_facts *to, const struct hb_facts *from, struct hb_str key)
{
	struct hb_str v = implied(from, key);

	if (v.p != NULL && hb_facts_state(to, key).p == NULL)
		(void)hb_facts_state_set(to, key, v, false, 0);
}

static struct hb_str
str_copy(struct hb_facts *to, struct hb_str s)
{
	return (s.p == NULL ? s : hb_arena_str(&to->arena, s));
}

static const char *
z_copy(struct hb_facts *to, const char *z)
{
	return (z == NULL ? NULL : hb_arena_str(&to->arena, hb_str(z)).p);
}

void
hb_facts_copy(struct hb_facts *to, const struct hb_facts *from)
{
	HB_ASSERT(to != from);
	hb_facts_init(to);
	hb_addr_copy(&to->arena, &to->local, &from->local);
	hb_addr_copy(&to->arena, &to->remote, &from->remote);
	hb_addr_copy(&to->arena, &to->direct_local, &from->direct_local);
	hb_addr_copy(&to->arena, &to->direct_remote, &from->direct_remote);
	to->local_restored = from->local_restored;
	to->transport_protocol = str_copy(to, from->transport_protocol);
	to->sni = str_copy(to, from->sni);
	for (unsigned i = 0; i < from->n_alpn; i++)
		(void)hb_facts_alpn_add(to, from->alpn[i]);
	to->alpn_chosen = str_copy(to, from->alpn_chosen);
	to->authority = str_copy(to, from->authority);
	to->principal = str_copy(to, from->principal);
	to->tls_version = z_copy(to, from->tls_version);
	to->tls_cipher = z_copy(to, from->tls_cipher);
	for (const struct hb_fact_entry *e = from->metadata; e != NULL; e = e->next)
		entry_copy(to, &to->metadata, &to->n_metadata, e);
	/* The copy may outlive the connections below, so it takes along what they would answer. */
	for (const struct hb_facts *f = from; f != NULL; f = f->parent) {
		for (const struct hb_fact_entry *e = f->filter_state; e != NULL; e = e->next)
			entry_copy(to, &to->filter_state, &to->n_filter_state, e);
		implied_copy(to, f, HB_STR(HB_STATE_AUTHORITY));
		implied_copy(to, f, HB_STR(HB_STATE_PEER_PRINCIPAL));
	}
}

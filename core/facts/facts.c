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
hb_facts_set_parent(struct hb_facts *f, struct hb_facts *parent)
{
	HB_ASSERT(f->parent == NULL && !f->parent_kept && parent->keep.refs > 0);
	f->parent = parent;
	f->parent_kept = true;
	parent->keep.refs++;
}

void
hb_facts_fini(struct hb_facts *f)
{
	struct hb_facts_owner *keep = NULL;

	if (f->parent_kept)
		keep = &((struct hb_facts *)(uintptr_t)f->parent)->keep;
	hb_facts_unref(&keep);
	hb_arena_fini(&f->arena);
	memset(f, 0, sizeof *f);
}

/* ------------------------------------------------------------------ parts */

const struct hb_facts_hello *
hb_facts_hello(const struct hb_facts *f)
{
	static const struct hb_facts_hello none;

	return (f->hello == NULL ? &none : f->hello);
}

const struct hb_facts_tls *
hb_facts_tls(const struct hb_facts *f)
{
	static const struct hb_facts_tls none;

	return (f->tls == NULL ? &none : f->tls);
}

struct hb_str
hb_facts_transport_protocol(const struct hb_facts *f)
{
	const char *z = hb_facts_hello(f)->transport_protocol;

	return (hb_str(z == NULL ? "raw_buffer" : z));
}

struct hb_facts_hello *
hb_facts_hello_edit(struct hb_facts *f)
{
	if (f->hello == NULL)
		f->hello = hb_arena_alloc(&f->arena, sizeof *f->hello);
	return (f->hello);
}

struct hb_facts_tls *
hb_facts_tls_edit(struct hb_facts *f)
{
	if (f->tls == NULL)
		f->tls = hb_arena_alloc(&f->arena, sizeof *f->tls);
	return (f->tls);
}

const struct hb_addr *
hb_facts_direct_local(const struct hb_facts *f)
{
	while (f->direct == NULL && f->parent != NULL)
		f = f->parent;
	return (f->direct == NULL ? &f->local : &f->direct[0]);
}

const struct hb_addr *
hb_facts_direct_remote(const struct hb_facts *f)
{
	while (f->direct == NULL && f->parent != NULL)
		f = f->parent;
	return (f->direct == NULL ? &f->remote : &f->direct[1]);
}

static void
direct_set(struct hb_facts *f, const struct hb_addr *local, const struct hb_addr *remote)
{
	struct hb_addr *direct = hb_arena_alloc(&f->arena, 2 * sizeof *direct);

	hb_addr_copy(&f->arena, &direct[0], local);
	hb_addr_copy(&f->arena, &direct[1], remote);
	f->direct = direct;
}

void
hb_facts_keep_direct(struct hb_facts *f)
{
	if (f->direct == NULL && f->parent == NULL)
		direct_set(f, &f->local, &f->remote);
}

/* Most clients offer one or two; the array doubles when it is full. */
static unsigned
alpn_room(unsigned n)
{
	unsigned room = 2;

	if (n == 0)
		return (0);
	while (room < n)
		room *= 2;
	return (room);
}

static struct hb_str
put_str(char **at, struct hb_str s)
{
	char *p = *at;

	if (s.p == NULL)
		return (s);
	memcpy(p, s.p, s.len);
	*at += s.len + 1;
	return (hb_strn(p, s.len));
}

void
hb_facts_hello_set(struct hb_facts *f, struct hb_str sni, const struct hb_str *alpn, unsigned n)
{
	struct hb_facts_hello *h;
	unsigned room = alpn_room(n = HB_MIN(n, (unsigned)HB_FACTS_ALPN_MAX));
	size_t size = sizeof *h + room * sizeof *alpn + sni.len + 1;
	char *at;

	for (unsigned i = 0; i < n; i++)
		size += alpn[i].len + 1;
	h = hb_arena_alloc(&f->arena, size);
	h->transport_protocol = "tls";
	h->n_alpn = (uint8_t)n;
	h->alpn = (struct hb_str *)(h + 1);
	at = (char *)(h->alpn + room);
	h->sni = put_str(&at, sni);
	if (h->sni.len > 0)
		hb_str_lower((char *)(uintptr_t)h->sni.p, h->sni.len);
	for (unsigned i = 0; i < n; i++)
		h->alpn[i] = put_str(&at, alpn[i]);
	f->hello = h;
}

bool
hb_facts_alpn_add(struct hb_facts *f, struct hb_str name)
{
	struct hb_facts_hello *h = hb_facts_hello_edit(f);
	unsigned n = h->n_alpn;
	struct hb_str *more;

	if (n >= HB_FACTS_ALPN_MAX)
		return (false);
	if (alpn_room(n) == n) {
		more = hb_arena_alloc(&f->arena, alpn_room(n + 1) * sizeof *more);
		for (unsigned i = 0; i < n; i++)
			more[i] = h->alpn[i];
		h->alpn = more;
	}
	h->alpn[h->n_alpn++] = hb_arena_str(&f->arena, name);
	return (true);
}

/* ------------------------------------------------------------------ lists */

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
		v = hb_facts_tls(f->parent)->principal;
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
		if (f->tls == NULL)
			continue;
		if (f->tls->peer_cert != NULL || f->tls->principal.len > 0)
			return (f);
		if (f->tls->version != NULL)
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
entry_copy(struct hb_facts *to, struct hb_fact_entry **list, uint8_t *n,
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

static void
hello_copy(struct hb_facts *to, const struct hb_facts_hello *from)
{
	struct hb_facts_hello *h = hb_facts_hello_edit(to);

	h->transport_protocol = from->transport_protocol;
	h->sni = str_copy(to, from->sni);
	for (unsigned i = 0; i < from->n_alpn; i++)
		(void)hb_facts_alpn_add(to, from->alpn[i]);
}

static void
tls_copy(struct hb_facts *to, const struct hb_facts_tls *from)
{
	struct hb_facts_tls *t = hb_facts_tls_edit(to);

	t->alpn_chosen = str_copy(to, from->alpn_chosen);
	t->principal = str_copy(to, from->principal);
	t->version = z_copy(to, from->version);
	t->cipher = z_copy(to, from->cipher);
}

void
hb_facts_copy(struct hb_facts *to, const struct hb_facts *from)
{
	const struct hb_addr *local = hb_facts_direct_local(from);
	const struct hb_addr *remote = hb_facts_direct_remote(from);

	HB_ASSERT(to != from);
	hb_facts_init(to);
	hb_addr_copy(&to->arena, &to->local, &from->local);
	hb_addr_copy(&to->arena, &to->remote, &from->remote);
	if (!hb_addr_eq(local, &from->local) || !hb_addr_eq(remote, &from->remote))
		direct_set(to, local, remote);
	to->local_restored = from->local_restored;
	to->authority = str_copy(to, from->authority);
	if (from->hello != NULL)
		hello_copy(to, from->hello);
	if (from->tls != NULL)
		tls_copy(to, from->tls);
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

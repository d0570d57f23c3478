/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "core/event/table.h"
#include "upstreams/endpoint.h"

/* ------------------------------------------------------------------ addresses */

/* A unix name with its NULs: abstract ones begin with one. */
static size_t
unix_size(const char *name)
{
	return (1 + (name[0] == '\0' ? 1 + strlen(name + 1) : strlen(name)));
}

static bool
has_name(const struct hb_addr *a)
{
	return (a->kind == HB_ADDR_UNIX || a->kind == HB_ADDR_INTERNAL);
}

static struct hb_ep_addrs *
addrs_new(size_t cap)
{
	return (hb_calloc(1, sizeof(struct hb_ep_addrs) + cap * sizeof(struct hb_addr)));
}

/* There is room for `cap`. */
static void
addrs_add(struct hb_ep_addrs *a, size_t cap, const struct hb_addr *addr)
{
	char *name;
	size_t n;

	for (unsigned i = 0; i < a->n; i++) {
		if (hb_addr_eq(&a->v[i], addr))
			return;
	}
	if (a->n == cap)
		return;
	a->v[a->n] = *addr;
	if (has_name(addr)) {
		n = unix_size(addr->u.name);
		name = hb_malloc(n);
		memcpy(name, addr->u.name, n);
		a->v[a->n].u.name = name;
	}
	a->n++;
}

/* Index of the next address that is (or is not) of the family; n = none. */
static size_t
next_of(const struct hb_addr *v, size_t n, size_t from, uint8_t kind, bool is)
{
	while (from < n && (v[from].kind == kind) != is)
		from++;
	return (from);
}

struct hb_ep_addrs *
hb_ep_addrs_new(const struct hb_addr *v, size_t n, const struct hb_ep_order *order)
{
	size_t cap = HB_MIN(n, (size_t)HB_EP_ADDRS_MAX);
	struct hb_ep_addrs *a = addrs_new(cap);
	uint8_t first = order->first;
	size_t mine, other;

	HB_ASSERT(n > 0 && order->count > 0);
	if (first == HB_ADDR_NONE || next_of(v, n, 0, first, true) == n)
		first = v[0].kind;
	mine = next_of(v, n, 0, first, true);
	other = next_of(v, n, 0, first, false);
	while (mine < n || other < n) {
		for (unsigned i = 0; i < order->count && mine < n; i++) {
			addrs_add(a, cap, &v[mine]);
			mine = next_of(v, n, mine + 1, first, true);
		}
		if (other < n) {
			addrs_add(a, cap, &v[other]);
			other = next_of(v, n, other + 1, first, false);
		}
	}
	return (a);
}

struct hb_ep_addrs *
hb_ep_addrs_copy(const struct hb_ep_addrs *from)
{
	struct hb_ep_addrs *a = addrs_new(from->n);

	for (unsigned i = 0; i < from->n; i++)
		addrs_add(a, from->n, &from->v[i]);
	return (a);
}

void
hb_ep_addrs_free(void *addrs)
{
	struct hb_ep_addrs *a = addrs;

	if (a == NULL)
		return;
	for (unsigned i = 0; i < a->n; i++) {
		if (has_name(&a->v[i]))
			hb_free((void *)(uintptr_t)a->v[i].u.name);
	}
	hb_free(a);
}

bool
hb_ep_addrs_eq(const struct hb_ep_addrs *a, const struct hb_ep_addrs *b)
{
	if (a->n != b->n)
		return (false);
	for (unsigned i = 0; i < a->n; i++) {
		if (!hb_addr_eq(&a->v[i], &b->v[i]))
			return (false);
	}
	return (true);
}

/* ------------------------------------------------------------------ cells */

struct hb_ep_cell *
hb_ep_cell_new(void)
{
	struct hb_ep_cell *c = aligned_alloc(_Alignof(struct hb_ep_cell), sizeof *c);

	HB_ASSERT(c != NULL);
	memset(c, 0, sizeof *c);
	c->magic = HB_EP_CELL_MAGIC;
	c->refs = 1;
	return (c);
}

void
hb_ep_cell_unref(struct hb_ep_cell **cp)
{
	struct hb_ep_cell *c = *cp;

	HB_CHECK(c, HB_EP_CELL_MAGIC);
	HB_ASSERT(c->refs > 0);
	*cp = NULL;
	if (--c->refs == 0 && c->orphan)
		HB_DEL(c);
}

static unsigned
cell_index(const struct hb_endpoint *e, const struct hb_worker *w)
{
	unsigned i = w->index == HB_WORKER_CONTROL ? e->n_cells - 1 : w->index;

	HB_ASSERT(i < e->n_cells);
	return (i);
}

bool
hb_endpoint_has_cell(
	const struct hb_endpoint *e, const struct hb_worker *w, const struct hb_ep_cell *c)
{
	HB_CHECK(e, HB_ENDPOINT_MAGIC);
	return (atomic_load_explicit(&e->cell[cell_index(e, w)], memory_order_relaxed) == c);
}

struct hb_ep_cell *
hb_endpoint_cell(const struct hb_endpoint *e, const struct hb_worker *w)
{
	_Atomic(struct hb_ep_cell *) *slot;
	struct hb_ep_cell *c, *none = NULL;

	HB_CHECK(e, HB_ENDPOINT_MAGIC);
	slot = &((struct hb_endpoint *)(uintptr_t)e)->cell[cell_index(e, w)];
	c = atomic_load_explicit(slot, memory_order_acquire);
	if (c == NULL) {
		c = hb_ep_cell_new();
		c->refs = 0;
		/* The control thread may adopt a cell of this worker here (ORIGINAL_DST). */
		if (!atomic_compare_exchange_strong(slot, &none, c)) {
			HB_DEL(c);
			c = none;
		}
	}
	HB_CHECK(c, HB_EP_CELL_MAGIC);
	c->refs++;
	return (c);
}

bool
hb_endpoint_adopt(struct hb_endpoint *e, const struct hb_worker *w, struct hb_ep_cell *c)
{
	struct hb_ep_cell *none = NULL;

	HB_CHECK(e, HB_ENDPOINT_MAGIC);
	HB_CHECK(c, HB_EP_CELL_MAGIC);
	return (atomic_compare_exchange_strong(&e->cell[cell_index(e, w)], &none, c));
}

void
hb_ep_cell_orphan(struct hb_ep_cell *c)
{
	HB_CHECK(c, HB_EP_CELL_MAGIC);
	c->orphan = true;
	if (c->refs == 0)
		HB_DEL(c);
}

/* On the worker: the endpoint is gone. */
static void
cell_orphaned(struct hb_task *t)
{
	hb_ep_cell_orphan(HB_CONTAINER(t, struct hb_ep_cell, task));
}

/* ------------------------------------------------------------------ endpoints */

struct hb_endpoint *
hb_endpoint_new(const struct hb_ep_conf *conf, const char *hostname, struct hb_ep_addrs *addrs,
	unsigned health)
{
	static uint64_t last_id;
	unsigned n = hb_workers_count() + 1;
	struct hb_endpoint *e = hb_calloc(1, sizeof *e + n * sizeof e->cell[0]);

	HB_ASSERT(addrs != NULL && addrs->n > 0);
	e->magic = HB_ENDPOINT_MAGIC;
	e->refs = 1;
	e->id = ++last_id;
	e->conf = conf;
	e->hostname = hb_strdup(hostname);
	atomic_init(&e->addrs, addrs);
	atomic_init(&e->health, health);
	e->n_cells = n;
	return (e);
}

void
hb_endpoint_ref(struct hb_endpoint *e)
{
	HB_CHECK(e, HB_ENDPOINT_MAGIC);
	HB_ASSERT(e->refs > 0);
	e->refs++;
}

/* The workers have passed: nobody finds the endpoint any more. */
static void
endpoint_free(void *obj)
{
	struct hb_endpoint *e;

	HB_CAST(e, obj, HB_ENDPOINT_MAGIC);
	for (unsigned i = 0; i < e->n_cells; i++) {
		struct hb_ep_cell *c = atomic_load(&e->cell[i]);

		if (c == NULL)
			continue;
		if (hb_worker_control() == NULL || i == e->n_cells - 1)
			cell_orphaned(&c->task);
		else
			hb_post(hb_worker_at(i), &c->task, cell_orphaned);
	}
	hb_ep_addrs_free(atomic_load(&e->addrs));
	hb_free(e->hostname);
	HB_DEL(e);
}

void
hb_endpoint_unref(struct hb_endpoint **ep)
{
	struct hb_endpoint *e = *ep;

	HB_CHECK(e, HB_ENDPOINT_MAGIC);
	HB_ASSERT(e->refs > 0);
	*ep = NULL;
	if (--e->refs == 0)
		hb_retire(e, endpoint_free);
}

void
hb_endpoint_set_addrs(struct hb_endpoint *e, struct hb_ep_addrs *addrs)
{
	HB_CHECK(e, HB_ENDPOINT_MAGIC);
	hb_retire(atomic_exchange(&e->addrs, addrs), hb_ep_addrs_free);
}

/* ------------------------------------------------------------------ numbers */

uint32_t
hb_endpoint_active(const struct hb_endpoint *e)
{
	uint32_t sum = 0;

	HB_CHECK(e, HB_ENDPOINT_MAGIC);
	for (unsigned i = 0; i < e->n_cells; i++) {
		const struct hb_ep_cell *c = atomic_load_explicit(
			&e->cell[i], memory_order_acquire);

		if (c != NULL)
			sum += atomic_load_explicit(&c->active, memory_order_relaxed);
	}
	return (sum);
}

void
hb_endpoint_numbers(const struct hb_endpoint *e, struct hb_ep_numbers *ret)
{
	HB_CHECK(e, HB_ENDPOINT_MAGIC);
	memset(ret, 0, sizeof *ret);
	for (unsigned i = 0; i < e->n_cells; i++) {
		const struct hb_ep_cell *c = atomic_load_explicit(
			&e->cell[i], memory_order_acquire);

		if (c == NULL)
			continue;
		ret->active += atomic_load_explicit(&c->active, memory_order_relaxed);
		ret->total += atomic_load_explicit(&c->total, memory_order_relaxed);
		ret->failed += atomic_load_explicit(&c->failed, memory_order_relaxed);
		ret->timeouts += atomic_load_explicit(&c->timeouts, memory_order_relaxed);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Chains and listeners that go: their connections are told, get time, and are then cut. */
#include <stdlib.h>
#include "core/base/log.h"
#include "listeners/listener_priv.h"

#define TICK_MS 1000u

struct drain {
	unsigned magic;
#define DRAIN_MAGIC 0x66a01d3b
	struct hb_list node;
	struct hb_chain **chain; /* owned array, sorted by address      */
	size_t n;
	bool owns;             /* references of the chains, too        */
	struct hb_listener *l; /* owned; NULL = chains alone           */
	uint64_t due_ms;
	bool cut;
};

static struct {
	struct hb_list drains;
	struct hb_timer tick;
	uint64_t time_ms;
	bool stopped;
} all;

/* ------------------------------------------------------------------ walks over connections */

struct walk {
	unsigned magic;
#define WALK_MAGIC 0x0a4cc8f7
	size_t n;
	enum hb_close_reason reason; /* NONE: tell them to drain */
	struct hb_listener *l;       /* its pre-connections, too; borrowed */
	const struct hb_chain *chain[];
};

static int
by_address(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t)(*(struct hb_chain *const *)a);
	uintptr_t y = (uintptr_t)(*(struct hb_chain *const *)b);

	return (x < y ? -1 : x > y);
}

static bool
walk_one(void *arg, struct hb_conn *c)
{
	const struct walk *k = arg;
	const struct hb_chain *chain = hb_conn_chain(c);

	if (bsearch(&chain, k->chain, k->n, sizeof k->chain[0], by_address) == NULL)
		return (true);
	if (k->reason == HB_CLOSE_NONE)
		hb_conn_drain(c);
	else
		hb_conn_close(c, k->reason);
	return (true);
}

static void
walk_worker(struct hb_worker *w, void *arg)
{
	struct walk *k = arg;

	HB_CHECK(k, WALK_MAGIC);
	if (k->l != NULL && k->reason != HB_CLOSE_NONE)
		hb_pre_close_all(&k->l->worker[w->index], k->reason);
	if (k->n > 0)
		hb_conn_foreach(w, walk_one, k);
}

static void
walk_done(void *arg)
{
	struct walk *k = arg;

	HB_DEL(k);
}

static void
walk(struct hb_chain *const *chain, size_t n, struct hb_listener *l, enum hb_close_reason reason)
{
	struct walk *k = hb_calloc(1, sizeof *k + n * sizeof k->chain[0]);

	k->magic = WALK_MAGIC;
	k->n = n;
	k->l = l;
	k->reason = reason;
	for (size_t i = 0; i < n; i++)
		k->chain[i] = chain[i];
	qsort(k->chain, n, sizeof k->chain[0], by_address);
	hb_post_all(walk_worker, walk_done, k);
}

void
hb_ldrain_tell(struct hb_chain *const *chain, size_t n)
{
	walk(chain, n, NULL, HB_CLOSE_NONE);
}

/* ------------------------------------------------------------------ drains */

static void
listener_unseen(void *obj)
{
	struct hb_listener *l = obj;

	hb_listener_gone(&l);
}

static void
drain_free(struct drain *d)
{
	hb_list_del(&d->node);
	hb_listeners_count(LM_CHAINS_DRAINING, -(int64_t)d->n);
	for (size_t i = 0; i < d->n && d->owns; i++)
		hb_chain_free(&d->chain[i]);
	hb_free(d->chain);
	if (d->l != NULL) {
		hb_listeners_count(LM_DRAINING, -1);
		HB_LOG(LISTENER, DEBUG, "drained", "listener=%s", d->l->name);
		/* Its last connection may just be ending in this turn of its worker. */
		hb_retire(d->l, listener_unseen);
	}
	HB_DEL(d);
}

static uint64_t
connections(const struct drain *d)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < d->n; i++)
		sum += hb_chain_connections(d->chain[i]);
	return (sum);
}

static bool
is_empty(const struct drain *d)
{
	for (size_t i = 0; d->l != NULL && i < d->l->n_workers; i++)
		if (atomic_load(&d->l->worker[i].pins) != 0)
			return (false);
	return (connections(d) == 0);
}

static void
on_tick(struct hb_timer *t)
{
	struct hb_list *n, *next;

	HB_LIST_FOREACH_SAFE (n, next, &all.drains) {
		struct drain *d = HB_LIST_ENTRY(n, struct drain, node);

		HB_CHECK(d, DRAIN_MAGIC);
		if (is_empty(d)) {
			drain_free(d);
		} else if (!d->cut && hb_now_ms(t->worker) >= d->due_ms) {
			d->cut = true;
			HB_LOG(LISTENER, INFO, "drain time is over",
				"listener=%s chains=%zu connections_cut=%llu",
				d->l == NULL ? "-" : d->l->name, d->n,
				(unsigned long long)connections(d));
			walk(d->chain, d->n, d->l, HB_CLOSE_DRAINED);
		}
	}
	if (!hb_list_empty(&all.drains))
		hb_timer_start(t, TICK_MS);
}

void
hb_ldrain_start(struct hb_chain **chain, size_t n, struct hb_listener *l)
{
	struct drain *d;

	if (n == 0 && l == NULL) {
		hb_free(chain);
		return;
	}
	HB_NEW(d, DRAIN_MAGIC);
	d->chain = chain;
	d->n = n;
	d->l = l;
	d->owns = l == NULL || atomic_load(&l->set) == NULL;
	d->due_ms = hb_now_ms(hb_worker_control()) + all.time_ms;
	hb_list_init(&d->node);
	hb_list_add_tail(&all.drains, &d->node);
	hb_listeners_count(LM_CHAINS_DRAINING, (int64_t)n);
	if (l != NULL)
		hb_listeners_count(LM_DRAINING, 1);
	walk(chain, n, l, HB_CLOSE_NONE);
	if (!all.stopped && !hb_timer_running(&all.tick))
		hb_timer_start(&all.tick, HB_MIN((uint64_t)TICK_MS, all.time_ms));
}

void
hb_ldrain_each(void (*fn)(void *arg, struct hb_listener *), void *arg)
{
	struct hb_list *n;

	HB_LIST_FOREACH (n, &all.drains) {
		struct drain *d = HB_LIST_ENTRY(n, struct drain, node);

		if (d->l != NULL)
			fn(arg, d->l);
	}
}

/* ------------------------------------------------------------------ life of the room */

void
hb_ldrain_init(uint64_t drain_time_ms)
{
	memset(&all, 0, sizeof all);
	hb_list_init(&all.drains);
	hb_timer_init(&all.tick, hb_worker_control(), on_tick);
	all.time_ms = drain_time_ms;
}

uint64_t
hb_ldrain_time_ms(void)
{
	return (all.time_ms);
}

void
hb_ldrain_stop(void)
{
	all.stopped = true;
	hb_timer_stop(&all.tick);
}

void
hb_ldrain_fini(void)
{
	while (!hb_list_empty(&all.drains))
		drain_free(HB_LIST_ENTRY(all.drains.next, struct drain, node));
}

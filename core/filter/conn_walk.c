/* SPDX-License-Identifier: Apache-2.0 */
/* All connections of a worker: its state, and whoever goes through them. */
#include "core/filter/park_priv.h"

#define ID_WORKER_SHIFT 44    /* ids stay below 2^53: exact in JSON */
#define WALK_SLICE      256u  /* connections that decide again in one turn */
#define WALK_US         1000u /* and how long that may take */

static void walk_run(struct hb_run *);

struct hb_conn_worker *
hb_conn__state(struct hb_worker *w)
{
	struct hb_conn_worker *s = w->slot[HB_SLOT_FILTER];

	if (HB_UNLIKELY(s == NULL)) {
		HB_NEW(s, HB_CONN_WORKER_MAGIC);
		s->worker = w;
		hb_list_init(&s->conns);
		hb_list_init(&s->owners);
		hb_run_init(&s->walk, walk_run);
		hb_park__init(s);
		HB_SHOWN_PTR_SET(w->slot[HB_SLOT_FILTER], s);
	}
	HB_CHECK(s, HB_CONN_WORKER_MAGIC);
	return (s);
}

void
hb_conn_worker_fini(struct hb_worker *w)
{
	struct hb_conn_worker *s = w->slot[HB_SLOT_FILTER];

	if (s == NULL)
		return;
	HB_CHECK(s, HB_CONN_WORKER_MAGIC);
	HB_ASSERT(s->count == 0 && hb_list_empty(&s->owners));
	hb_run_cancel(&s->walk);
	hb_park__fini(s);
	w->slot[HB_SLOT_FILTER] = NULL;
	HB_DEL(s);
}

uint64_t
hb_conn__id(const struct hb_worker *w, uint64_t seq)
{
	uint64_t high = w->index == HB_WORKER_CONTROL ? 0 : w->index + 1;

	return (high << ID_WORKER_SHIFT | seq);
}

void
hb_conn__list(struct hb_conn_worker *s, struct hb_conn *c)
{
	hb_list_add_tail(&s->conns, &c->node);
	/* It rested while the walk went through the others. */
	if (s->cursor == &s->conns)
		s->cursor = &c->node;
}

void
hb_conn__unlist(struct hb_conn_worker *s, struct hb_conn *c)
{
	if (s->cursor == &c->node)
		s->cursor = c->node.next;
	hb_list_del(&c->node);
}

/* ------------------------------------------------------------------ all */

void
hb_conn_foreach(struct hb_worker *w, bool (*fn)(void *arg, struct hb_conn *), void *arg)
{
	struct hb_conn_worker *s = hb_conn__state(w);
	struct hb_list *n, *next;

	HB_LIST_FOREACH_SAFE (n, next, &s->conns)
		if (!fn(arg, HB_LIST_ENTRY(n, struct hb_conn, node)))
			return;
	hb_park__visit_all(s, fn, arg);
}

uint64_t
hb_conn_count(const struct hb_worker *w)
{
	const struct hb_conn_worker *s = w->slot[HB_SLOT_FILTER];

	return (s == NULL ? 0 : s->count);
}

static struct hb_conn *
find_parked(struct hb_conn_worker *s, const struct hb_list *list, uint64_t id)
{
	struct hb_parked *k;
	struct hb_list *n;

	HB_LIST_FOREACH (n, list) {
		k = HB_LIST_ENTRY(n, struct hb_parked, node);
		if (hb_conn__id(s->worker, hb_park__seq(k)) == id)
			return (hb_park__event(s, k));
	}
	return (NULL);
}

struct hb_conn *
hb_conn_find(struct hb_worker *w, uint64_t id)
{
	struct hb_conn_worker *s = hb_conn__state(w);
	struct hb_conn *c;
	struct hb_list *n;

	HB_LIST_FOREACH (n, &s->conns) {
		c = HB_LIST_ENTRY(n, struct hb_conn, node);
		if (c->id == id)
			return (c);
	}
	c = find_parked(s, &s->park.never, id);
	if (c == NULL)
		c = find_parked(s, &s->park.walk, id);
	for (unsigned i = 0; c == NULL && i < HB_PARK_STEPS; i++)
		c = find_parked(s, &s->park.step[i], id);
	return (c);
}

/* ------------------------------------------------------------------ deciding again */

static void
decide(struct hb_conn_worker *s, struct hb_conn *c)
{
	if (hb_conn__judge(c) && s->revalidates)
		hb_conn_revalidate(c);
}

/* False: there is none left. */
static bool
walk_one(struct hb_conn_worker *s)
{
	struct hb_conn *c;

	if (s->cursor != &s->conns) {
		c = HB_LIST_ENTRY(s->cursor, struct hb_conn, node);
		s->cursor = s->cursor->next;
		decide(s, c);
		return (true);
	}
	c = hb_park__walk_next(s);
	if (c == NULL)
		return (false);
	s->cursor = c->node.next;
	decide(s, c);
	hb_park__walk_done(s, c);
	return (true);
}

/* Tunnels may have a hundred thousand streams, and each has policies to look at; a peer whose
 * certificate is verified again takes a thousand times as long. */
static void
walk_run(struct hb_run *r)
{
	struct hb_conn_worker *s = HB_CONTAINER(r, struct hb_conn_worker, walk);
	struct hb_worker *w = s->worker;
	uint64_t began = hb_now_us(w);

	HB_CHECK(s, HB_CONN_WORKER_MAGIC);
	for (unsigned n = 0; n < WALK_SLICE && hb_now_us(w) - began < WALK_US; n++) {
		if (walk_one(s))
			continue;
		s->cursor = NULL;
		s->revalidates = false;
		return;
	}
	hb_run_soon(w, &s->walk);
}

static void
walk_start(struct hb_worker *w, void *arg)
{
	struct hb_conn_worker *s = hb_conn__state(w);

	s->cursor = s->conns.next;
	hb_park__walk_start(s);
	hb_run_soon(w, &s->walk);
}

static void
walk_start_all(struct hb_worker *w, void *arg)
{
	hb_conn__state(w)->revalidates = true;
	walk_start(w, arg);
}

void
hb_conns_revalidate(void)
{
	hb_post_all(walk_start_all, NULL, NULL);
}

void
hb_chains_replaced(
	struct hb_chain *const *chain, size_t n, const char *owner, hb_chain_finder *find)
{
	for (size_t i = 0; i < n; i++)
		hb_chain__inherit(chain[i], owner, find);
	if (n > 0)
		hb_post_all(walk_start, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoint sets: priorities, localities, lists; worked out by the control thread, then frozen. */
#include "core/event/table.h"
#include "upstreams/cluster.h"

/* ------------------------------------------------------------------ loads of priorities */

static uint32_t
percent(uint32_t part, uint32_t total, unsigned factor)
{
	return (total == 0 ? 0 : (uint32_t)HB_MIN((uint64_t)100, (uint64_t)factor * part / total));
}

/* No priority has anything usable: the shares follow the numbers of endpoints. */
static void
loads_in_total_panic(struct hb_lb_prio *p, unsigned n)
{
	uint64_t total = 0;
	unsigned left = 100, last = 0;

	for (unsigned i = 0; i < n; i++)
		total += p[i].n_total;
	for (unsigned i = 0; i < n; i++) {
		p[i].load_degraded = 0;
		p[i].load_healthy = total == 0 ? 0 :
						 (uint8_t)(100 * (uint64_t)p[i].n_total / total);
		left -= p[i].load_healthy;
		if (p[i].n_total > 0)
			last = i;
	}
	if (total > 0)
		p[last].load_healthy += (uint8_t)left;
}

static bool
is_panic(const struct hb_lb_prio *p, unsigned panic_percent)
{
	return (panic_percent > 0 &&
		(p->n_total == 0 ||
			100ull * (p->n_healthy + p->n_degraded) <
				(uint64_t)panic_percent * p->n_total));
}

void
hb_lb_loads(struct hb_lb_prio *p, unsigned n, const struct hb_lb_settings *s)
{
	uint32_t health[HB_PRIORITIES_MAX], degraded[HB_PRIORITIES_MAX], available = 0, load;
	unsigned left = 100;
	bool all_panic = n > 0;
	uint8_t *first = NULL;

	HB_ASSERT(n <= HB_PRIORITIES_MAX);
	for (unsigned i = 0; i < n; i++) {
		health[i] = percent(p[i].n_healthy, p[i].n_total, s->overprovisioning);
		degraded[i] = percent(p[i].n_degraded, p[i].n_total, s->overprovisioning);
		available = HB_MIN(100u, available + health[i] + degraded[i]);
	}
	for (unsigned i = 0; i < n; i++) {
		p[i].load_healthy = p[i].load_degraded = 0;
		p[i].panic = available < 100 && is_panic(&p[i], s->panic_percent);
		all_panic = all_panic && p[i].panic;
	}
	if (all_panic)
		loads_in_total_panic(p, n);
	if (all_panic || available == 0)
		return;
	for (unsigned i = 0; i < n; i++) {
		load = HB_MIN(left, health[i] * 100 / available);
		p[i].load_healthy = (uint8_t)load;
		left -= load;
		if (first == NULL && health[i] > 0)
			first = &p[i].load_healthy;
	}
	for (unsigned i = 0; i < n; i++) {
		load = HB_MIN(left, degraded[i] * 100 / available);
		p[i].load_degraded = (uint8_t)load;
		left -= load;
		if (first == NULL && degraded[i] > 0)
			first = &p[i].load_degraded;
	}
	/* What rounding left over. */
	HB_ASSERT(first != NULL);
	*first = (uint8_t)(*first + left);
}

/* ------------------------------------------------------------------ lists */

enum part { HEALTHY, DEGRADED, ALL };

static enum part
part_of(const struct hb_endpoint *e)
{
	unsigned h = hb_endpoint_health(e);

	if (h & HB_EP_UNUSABLE)
		return (ALL);
	return (h & HB_EP_EDS_DEGRADED ? DEGRADED : HEALTHY);
}

struct build {
	struct hb_eps *eps;
	const struct hb_lb_settings *s;
	const struct hb_lb_member *m;
	size_t n;
	const uint32_t *shares;
	size_t n_localities;
	enum part *part; /* owned; of each member */
};

static bool
belongs(const struct build *b, size_t i, unsigned priority, enum part part)
{
	return (b->m[i].priority == priority && (part == ALL || b->part[i] == part));
}

static void
list_finish(struct build *b, struct hb_lb_list *l)
{
	l->index = b->eps->n_cursors++;
	l->equal = true;
	for (size_t i = 1; i < l->n; i++)
		l->equal = l->equal && l->v[i]->conf->weight == l->v[0]->conf->weight;
	if (!l->equal) {
		l->sums = hb_calloc(l->n, sizeof *l->sums);
		for (size_t i = 0; i < l->n; i++)
			l->sums[i] = l->v[i]->conf->weight + (i == 0 ? 0 : l->sums[i - 1]);
	}
	if (b->eps->type->build != NULL)
		l->built = b->eps->type->build(l);
}

/* One list of every member that belongs, whatever its locality. */
static void
group_single(struct build *b, struct hb_lb_group *g, unsigned priority, enum part part)
{
	struct hb_lb_list *l;
	size_t n = 0;

	for (size_t i = 0; i < b->n; i++)
		n += belongs(b, i, priority, part);
	if (n == 0)
		return;
	g->n = 1;
	g->list = l = hb_calloc(1, sizeof *g->list);
	l->share = 1;
	l->v = hb_calloc(n, sizeof *l->v);
	for (size_t i = 0; i < b->n; i++) {
		if (belongs(b, i, priority, part))
			l->v[l->n++] = b->m[i].ep;
	}
	list_finish(b, l);
}

/*
 * A list for each locality. Its share is its weight, less as soon as its endpoints times the
 * overprovisioning factor no longer suffice.
 */
static void
group_by_locality(struct build *b, struct hb_lb_group *g, unsigned priority, enum part part)
{
	uint32_t *here = hb_calloc(2 * b->n_localities + 1, sizeof *here),
		 *total = here + b->n_localities;
	struct hb_lb_list **of = hb_calloc(b->n_localities + 1, sizeof(struct hb_lb_list *));

	for (size_t i = 0; i < b->n; i++) {
		here[b->m[i].locality] += belongs(b, i, priority, part);
		total[b->m[i].locality] += belongs(b, i, priority, ALL);
	}
	g->list = hb_calloc(b->n_localities + 1, sizeof *g->list);
	for (size_t k = 0; k < b->n_localities; k++) {
		uint64_t share = (uint64_t)b->shares[k] *
			percent(here[k], total[k], b->s->overprovisioning);

		if (here[k] == 0 || share == 0)
			continue;
		of[k] = &g->list[g->n++];
		of[k]->share = (uint32_t)HB_MIN(share, (uint64_t)UINT32_MAX);
		of[k]->v = hb_calloc(here[k], sizeof *of[k]->v);
	}
	for (size_t i = 0; i < b->n; i++) {
		struct hb_lb_list *l = of[b->m[i].locality];

		if (l != NULL && belongs(b, i, priority, part))
			l->v[l->n++] = b->m[i].ep;
	}
	for (size_t k = 0; k < g->n; k++)
		list_finish(b, &g->list[k]);
	hb_free(of);
	hb_free(here);
}

static void
group_new(struct build *b, struct hb_lb_group *g, unsigned priority, enum part part)
{
	g->index = b->eps->n_cursors++;
	/* In panic every endpoint counts the same. */
	if (b->s->locality_weighted && part != ALL)
		group_by_locality(b, g, priority, part);
	else
		group_single(b, g, priority, part);
}

static void
prio_new(struct build *b, unsigned priority)
{
	struct hb_lb_prio *p = &b->eps->prio[priority];

	for (size_t i = 0; i < b->n; i++) {
		p->n_total += belongs(b, i, priority, ALL);
		p->n_healthy += belongs(b, i, priority, HEALTHY);
		p->n_degraded += belongs(b, i, priority, DEGRADED);
	}
	group_new(b, &p->healthy, priority, HEALTHY);
	group_new(b, &p->degraded, priority, DEGRADED);
	group_new(b, &p->all, priority, ALL);
}

struct hb_eps *
hb_eps_new(const struct hb_lb_type *type, const struct hb_lb_settings *s,
	const struct hb_lb_member *m, size_t n, const uint32_t *shares, size_t n_localities)
{
	static uint64_t last_serial;
	struct build b = { .s = s, .m = m, .n = n, .shares = shares, .n_localities = n_localities };
	struct hb_eps *eps;

	HB_NEW(eps, HB_EPS_MAGIC);
	b.eps = eps;
	eps->serial = ++last_serial;
	eps->type = type;
	eps->n = n;
	eps->ep = hb_calloc(n + 1, sizeof(struct hb_endpoint *));
	b.part = hb_calloc(n + 1, sizeof *b.part);
	for (size_t i = 0; i < n; i++) {
		HB_ASSERT(m[i].priority < HB_PRIORITIES_MAX && m[i].locality < n_localities);
		hb_endpoint_ref(m[i].ep);
		eps->ep[i] = m[i].ep;
		b.part[i] = part_of(m[i].ep);
		eps->n_prio = HB_MAX(eps->n_prio, m[i].priority + 1);
	}
	eps->prio = hb_calloc(eps->n_prio + 1, sizeof *eps->prio);
	for (unsigned i = 0; i < eps->n_prio; i++)
		prio_new(&b, i);
	hb_lb_loads(eps->prio, eps->n_prio, s);
	hb_free(b.part);
	return (eps);
}

/* ------------------------------------------------------------------ the end of a set */

static void
group_fini(const struct hb_eps *eps, struct hb_lb_group *g)
{
	for (size_t i = 0; i < g->n; i++) {
		if (g->list[i].built != NULL)
			eps->type->built_free(g->list[i].built);
		hb_free(g->list[i].v);
		hb_free(g->list[i].sums);
	}
	hb_free(g->list);
}

void
hb_eps_free(void *obj)
{
	struct hb_eps *eps = obj;

	if (eps == NULL)
		return;
	HB_CHECK(eps, HB_EPS_MAGIC);
	for (unsigned i = 0; i < eps->n_prio; i++) {
		group_fini(eps, &eps->prio[i].healthy);
		group_fini(eps, &eps->prio[i].degraded);
		group_fini(eps, &eps->prio[i].all);
	}
	for (size_t i = 0; i < eps->n; i++)
		hb_endpoint_unref(&eps->ep[i]);
	hb_free(eps->prio);
	hb_free(eps->ep);
	HB_DEL(eps);
}

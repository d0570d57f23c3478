/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing an endpoint: priority, locality, policy; and somebody else when it was tried before. */
#include "core/base/str.h"
#include "upstreams/cluster.h"

#define PICKS 3u /* of the policy, before looking for any endpoint that was not tried yet */

void
hb_lb_state_fini(struct hb_lb_state *st)
{
	for (uint32_t i = 0; i < st->n; i++)
		hb_edf_free(&st->v[i].edf);
	hb_free(st->v);
	memset(st, 0, sizeof *st);
}

static struct hb_lb_cursor *
cursor(const struct hb_eps *eps, struct hb_lb_state *st, uint32_t index)
{
	if (st->serial != eps->serial) {
		hb_lb_state_fini(st);
		st->serial = eps->serial;
		st->n = eps->n_cursors;
		st->v = hb_calloc(st->n + 1, sizeof *st->v);
	}
	HB_ASSERT(index < st->n);
	return (&st->v[index]);
}

/* ------------------------------------------------------------------ priority and locality */

/* Where the load falls; NULL = nothing is usable. */
static const struct hb_lb_group *
choose_group(const struct hb_eps *eps, struct hb_lb_ctx *ctx)
{
	unsigned at = (unsigned)((ctx->hash_set ? ctx->hash : hb_random()) % 100), sum = 0;

	for (unsigned i = 0; i < eps->n_prio; i++) {
		const struct hb_lb_prio *p = &eps->prio[i];

		sum += p->load_healthy;
		if (at >= sum)
			continue;
		ctx->panicked = p->panic;
		return (p->panic ? &p->all : &p->healthy);
	}
	for (unsigned i = 0; i < eps->n_prio; i++) {
		const struct hb_lb_prio *p = &eps->prio[i];

		sum += p->load_degraded;
		if (at >= sum)
			continue;
		ctx->panicked = p->panic;
		return (p->panic ? &p->all : &p->degraded);
	}
	return (NULL);
}

static double
list_share(void *arg, uint32_t item)
{
	const struct hb_lb_group *g = arg;

	return (g->list[item].share);
}

static const struct hb_lb_list *
choose_list(const struct hb_eps *eps, struct hb_lb_state *st, const struct hb_lb_group *g)
{
	void *arg = (void *)(uintptr_t)g;
	struct hb_lb_cursor *c;

	if (g->n <= 1)
		return (g->n == 0 ? NULL : g->list);
	c = cursor(eps, st, g->index);
	if (c->edf == NULL)
		c->edf = hb_edf_new((uint32_t)g->n, list_share, arg);
	return (&g->list[hb_edf_next(c->edf, list_share, arg)]);
}

/* ------------------------------------------------------------------ endpoints */

static bool
was_tried(const struct hb_lb_ctx *ctx, const struct hb_endpoint *e)
{
	for (unsigned i = 0; i < ctx->n_tried; i++) {
		if (ctx->tried[i] == e->id)
			return (true);
	}
	return (false);
}

/* Health may have changed since the set was made. */
static bool
went_down(const struct hb_lb_ctx *ctx, const struct hb_endpoint *e)
{
	return (!ctx->panicked && (hb_endpoint_health(e) & HB_EP_UNUSABLE) != 0);
}

static bool
was_last(const struct hb_lb_ctx *ctx, const struct hb_endpoint *e)
{
	return (ctx->n_tried > 0 && ctx->tried[ctx->n_tried - 1] == e->id);
}

/* From a random place on: the first endpoint that is as wanted. */
static struct hb_endpoint *
scan_group(const struct hb_lb_group *g, const struct hb_lb_ctx *ctx,
	bool (*avoid)(const struct hb_lb_ctx *, const struct hb_endpoint *))
{
	for (size_t k = 0; k < g->n; k++) {
		const struct hb_lb_list *l = &g->list[k];
		size_t from = (size_t)(hb_random() % l->n);

		for (size_t i = 0; i < l->n; i++) {
			struct hb_endpoint *e = l->v[(from + i) % l->n];

			if (!avoid(ctx, e) && !went_down(ctx, e))
				return (e);
		}
	}
	return (NULL);
}

/* In all priorities, healthy ones before degraded ones; then all that panic allows. */
static struct hb_endpoint *
scan(const struct hb_eps *eps, const struct hb_lb_ctx *ctx,
	bool (*avoid)(const struct hb_lb_ctx *, const struct hb_endpoint *))
{
	struct hb_endpoint *e = NULL;

	for (unsigned i = 0; e == NULL && i < eps->n_prio; i++)
		e = scan_group(&eps->prio[i].healthy, ctx, avoid);
	for (unsigned i = 0; e == NULL && i < eps->n_prio; i++)
		e = scan_group(&eps->prio[i].degraded, ctx, avoid);
	for (unsigned i = 0; e == NULL && i < eps->n_prio; i++) {
		if (eps->prio[i].panic)
			e = scan_group(&eps->prio[i].all, ctx, avoid);
	}
	return (e);
}

struct hb_endpoint *
hb_lb_choose(const struct hb_eps *eps, struct hb_lb_state *st, struct hb_lb_ctx *ctx)
{
	const struct hb_lb_group *g;
	const struct hb_lb_list *l;
	struct hb_endpoint *e = NULL, *other;

	HB_CHECK(eps, HB_EPS_MAGIC);
	for (unsigned i = 0; i < PICKS; i++) {
		g = choose_group(eps, ctx);
		l = g == NULL ? NULL : choose_list(eps, st, g);
		if (l == NULL)
			break;
		e = eps->type->pick(l, cursor(eps, st, l->index), ctx);
		if (!was_tried(ctx, e) && !went_down(ctx, e))
			return (e);
	}
	other = scan(eps, ctx, was_tried);
	if (other == NULL)
		other = scan(eps, ctx, was_last);
	return (other != NULL ? other : e);
}

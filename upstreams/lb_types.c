/* SPDX-License-Identifier: Apache-2.0 */
/* The policies: round robin, least request, random. */
#include "core/base/str.h"
#include "upstreams/cluster.h"

static double
static_weight(void *arg, uint32_t item)
{
	const struct hb_lb_list *l = arg;

	return (l->v[item]->conf->weight);
}

/* A busy endpoint is due later. */
static double
busy_weight(void *arg, uint32_t item)
{
	const struct hb_lb_list *l = arg;

	return ((double)l->v[item]->conf->weight / (1.0 + hb_endpoint_active(l->v[item])));
}

static struct hb_endpoint *
by_schedule(const struct hb_lb_list *l, struct hb_lb_cursor *c, double (*weight)(void *, uint32_t))
{
	void *arg = (void *)(uintptr_t)l;

	HB_ASSERT(l->n <= UINT32_MAX);
	if (c->edf == NULL)
		c->edf = hb_edf_new((uint32_t)l->n, weight, arg);
	return (l->v[hb_edf_next(c->edf, weight, arg)]);
}

static struct hb_endpoint *
round_robin_pick(const struct hb_lb_list *l, struct hb_lb_cursor *c, const struct hb_lb_ctx *ctx)
{
	(void)ctx;
	if (!l->equal)
		return (by_schedule(l, c, static_weight));
	if (!c->started) {
		c->started = true;
		c->pos = (uint32_t)(hb_random() % l->n);
	}
	c->pos = c->pos + 1 >= l->n ? 0 : c->pos + 1;
	return (l->v[c->pos]);
}

static struct hb_endpoint *
least_request_pick(const struct hb_lb_list *l, struct hb_lb_cursor *c, const struct hb_lb_ctx *ctx)
{
	struct hb_endpoint *best = NULL;
	uint32_t active, least = 0;

	if (!l->equal)
		return (by_schedule(l, c, busy_weight));
	for (unsigned i = 0; i < ctx->settings->choice_count; i++) {
		struct hb_endpoint *e = l->v[hb_random() % l->n];

		active = hb_endpoint_active(e);
		if (best == NULL || active < least) {
			best = e;
			least = active;
		}
	}
	return (best);
}

static struct hb_endpoint *
random_pick(const struct hb_lb_list *l, struct hb_lb_cursor *c, const struct hb_lb_ctx *ctx)
{
	size_t lo = 0, hi = l->n - 1, mid;
	uint64_t r;

	(void)c;
	(void)ctx;
	if (l->equal)
		return (l->v[hb_random() % l->n]);
	r = hb_random() % l->sums[l->n - 1];
	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		if (r < l->sums[mid])
			hi = mid;
		else
			lo = mid + 1;
	}
	return (l->v[lo]);
}

const struct hb_lb_type hb_lb_round_robin = { .name = "round_robin", .pick = round_robin_pick };
const struct hb_lb_type hb_lb_least_request = { .name = "least_request",
	.pick = least_request_pick };
const struct hb_lb_type hb_lb_random = { .name = "random", .pick = random_pick };

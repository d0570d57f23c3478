/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/log.h"
#include "upstreams/dns_cluster.h"

#define TTL_MIN_MS 1000u
#define TTL_MAX_MS (24u * 3600u * 1000u)

/* One name that is looked up again and again. */
struct hb_dns_target {
	struct hb_cluster *c;
	size_t ep; /* index */
	struct hb_timer timer;
	struct hb_dns_query *query; /* under way; NULL = none */
	bool answered;
	unsigned failures; /* in a row */
	const char *error; /* of the last one; NULL = it answered */
	void (*ready)(struct hb_cluster *);
};

/* ------------------------------------------------------------------ being ready */

static void
become_ready(struct hb_cluster *c, void (*ready)(struct hb_cluster *))
{
	if (c->ready)
		return;
	hb_timer_stop(&c->warm);
	c->ready = true;
	hb_cluster_settle(c);
	ready(c);
}

static void
on_warm(struct hb_timer *t)
{
	struct hb_cluster *c = HB_CONTAINER(t, struct hb_cluster, warm);

	HB_CHECK(c, HB_CLUSTER_MAGIC);
	HB_LOG(DNS, WARN, "a cluster goes into use without all its names", "cluster=%s missing=%zu",
		c->name, c->n_unanswered);
	become_ready(c, c->targets[0].ready);
}

/* ------------------------------------------------------------------ answers */

static void
count(const struct hb_cluster *c, enum hb_cluster_stat i)
{
	hb_stat_inc(hb_worker_control(), c->stats, i);
}

/* The endpoint of this address among those that the name stands for now. */
static struct hb_endpoint *
known(const struct hb_ep_slot *s, const struct hb_addr *a)
{
	for (size_t i = 0; i < s->n; i++) {
		if (hb_addr_eq(&hb_endpoint_addrs(s->v[i])->v[0], a))
			return (s->v[i]);
	}
	return (NULL);
}

static const char *
shown_name(const struct hb_ep_conf *e)
{
	return (*e->hostname != '\0' ? e->hostname : e->name);
}

/* STRICT_DNS: each address is an endpoint. Returns whether anything changed. */
static bool
take_each(struct hb_cluster *c, size_t i, const struct hb_addr *v, size_t n)
{
	const struct hb_ep_conf *conf = &c->ep[i];
	struct hb_endpoint **list = hb_calloc(n, sizeof(struct hb_endpoint *));
	struct hb_ep_slot fresh = { .v = list };
	bool changed = false;

	for (size_t k = 0; k < n; k++) {
		struct hb_addr a = v[k];
		struct hb_endpoint *e;

		a.port = conf->port;
		if (known(&fresh, &a) != NULL)
			continue;
		e = known(&c->slots[i], &a);
		if (e != NULL) {
			hb_endpoint_ref(e);
		} else {
			e = hb_endpoint_new(conf, shown_name(conf),
				hb_ep_addrs_new(&a, 1, &c->order), conf->health);
			changed = true;
		}
		list[fresh.n++] = e;
	}
	if (changed || fresh.n != c->slots[i].n) {
		hb_cluster_slot_set(c, i, list, fresh.n);
		return (true);
	}
	for (size_t k = 0; k < fresh.n; k++)
		hb_endpoint_unref(&list[k]);
	hb_free(list);
	return (false);
}

/* LOGICAL_DNS: one endpoint with all addresses; its connections and numbers go on. */
static bool
take_together(struct hb_cluster *c, size_t i, const struct hb_addr *v, size_t n)
{
	const struct hb_ep_conf *conf = &c->ep[i];
	struct hb_ep_slot *s = &c->slots[i];
	struct hb_addr *with_port = hb_calloc(n, sizeof *with_port);
	struct hb_ep_addrs *addrs;
	struct hb_endpoint **one;

	for (size_t k = 0; k < n; k++) {
		with_port[k] = v[k];
		with_port[k].port = conf->port;
	}
	addrs = hb_ep_addrs_new(with_port, n, &c->order);
	hb_free(with_port);
	if (s->n == 1 && hb_ep_addrs_eq(addrs, hb_endpoint_addrs(s->v[0]))) {
		hb_ep_addrs_free(addrs);
		return (false);
	}
	if (s->n == 1) {
		hb_endpoint_set_addrs(s->v[0], addrs);
		return (true);
	}
	one = hb_calloc(1, sizeof(struct hb_endpoint *));
	one[0] = hb_endpoint_new(conf, shown_name(conf), addrs, conf->health);
	hb_cluster_slot_set(c, i, one, 1);
	return (true);
}

static uint64_t
spread(uint64_t ms)
{
	/* Many processes started together do not ask together for ever. */
	return (ms + hb_random() % (ms / 8 + 1));
}

static uint64_t
after_success(const struct hb_cluster *c, const struct hb_dns_answer *a)
{
	if (c->dns.respect_ttl && a->ttl_ms != UINT64_MAX)
		return (HB_MIN(HB_MAX(a->ttl_ms, (uint64_t)TTL_MIN_MS), (uint64_t)TTL_MAX_MS));
	return (spread(c->dns.refresh_ms));
}

static uint64_t
after_failure(const struct hb_cluster *c, unsigned failures)
{
	uint64_t ms = c->dns.failure_base_ms;

	for (unsigned i = 1; i < failures && ms < c->dns.failure_max_ms; i++)
		ms *= 2;
	return (spread(HB_MIN(ms, c->dns.failure_max_ms)));
}

static void
succeeded(struct hb_dns_target *t, const struct hb_dns_answer *a)
{
	struct hb_cluster *c = t->c;
	size_t n = HB_MIN(a->n, (size_t)c->dns.addrs_max);
	bool changed;

	count(c, CL_UPDATE_SUCCESS);
	if (n < a->n) {
		hb_stat_add(hb_worker_control(), c->stats, CL_UPDATE_DROPPED, (int64_t)(a->n - n));
		HB_LOG(DNS, WARN, "an answer has more addresses than max_dns_addresses",
			"cluster=%s name=%s addresses=%zu used=%zu", c->name, c->ep[t->ep].name,
			a->n, n);
	}
	if (t->failures > 0)
		HB_LOG(DNS, INFO, "a name resolves again", "cluster=%s name=%s", c->name,
			c->ep[t->ep].name);
	t->failures = 0;
	t->error = NULL;
	changed = c->type == HB_CLUSTER_LOGICAL_DNS ? take_together(c, t->ep, a->v, n) :
						      take_each(c, t->ep, a->v, n);
	if (!changed)
		count(c, CL_UPDATE_NO_REBUILD);
	hb_timer_start(&t->timer, after_success(c, a));
}

static void
failed(struct hb_dns_target *t, const struct hb_dns_answer *a)
{
	struct hb_cluster *c = t->c;

	count(c, a->error == -ENOENT ? CL_UPDATE_EMPTY : CL_UPDATE_FAILURE);
	if (t->failures == 0)
		HB_LOG(DNS, WARN, "a name does not resolve",
			"cluster=%s name=%s reason=\"%s\" kept=%zu", c->name, c->ep[t->ep].name,
			a->why, c->slots[t->ep].n);
	t->failures++;
	t->error = a->why;
	hb_timer_start(&t->timer, after_failure(c, t->failures));
}

static void
on_answer(void *arg, const struct hb_dns_answer *a)
{
	struct hb_dns_target *t = arg;
	struct hb_cluster *c = t->c;

	HB_CHECK(c, HB_CLUSTER_MAGIC);
	t->query = NULL;
	if (a->error == 0)
		succeeded(t, a);
	else
		failed(t, a);
	if (t->answered)
		return;
	t->answered = true;
	HB_ASSERT(c->n_unanswered > 0);
	if (--c->n_unanswered == 0)
		become_ready(c, t->ready);
}

static void
look_up(struct hb_dns_target *t)
{
	const struct hb_dns_resolver *r = hb_dns_resolver();
	struct hb_cluster *c = t->c;

	HB_ASSERT(t->query == NULL);
	count(c, CL_UPDATE_ATTEMPT);
	t->query = r->query(
		r->ctx, &c->dns.resolver, c->ep[t->ep].name, c->dns.family, on_answer, t);
}

static void
on_timer(struct hb_timer *timer)
{
	look_up(HB_CONTAINER(timer, struct hb_dns_target, timer));
}

/* ------------------------------------------------------------------ start and stop */

void
hb_dns_cluster_start(struct hb_cluster *c, bool offline, void (*ready)(struct hb_cluster *))
{
	hb_timer_init(&c->warm, hb_worker_control(), on_warm);
	for (size_t i = 0; i < c->n_ep && !offline; i++)
		c->n_targets += c->ep[i].name != NULL;
	c->ready = c->n_targets == 0;
	if (c->ready)
		return;
	c->targets = hb_calloc(c->n_targets, sizeof *c->targets);
	c->n_unanswered = c->n_targets;
	for (size_t i = 0, k = 0; i < c->n_ep; i++) {
		struct hb_dns_target *t = &c->targets[k];

		if (c->ep[i].name == NULL)
			continue;
		k++;
		t->c = c;
		t->ep = i;
		t->ready = ready;
		hb_timer_init(&t->timer, hb_worker_control(), on_timer);
		look_up(t);
	}
	hb_timer_start(&c->warm, HB_WARM_MS);
}

void
hb_dns_cluster_stop(struct hb_cluster *c)
{
	const struct hb_dns_resolver *r = hb_dns_resolver();

	hb_timer_stop(&c->warm);
	for (size_t i = 0; i < c->n_targets; i++) {
		struct hb_dns_target *t = &c->targets[i];

		hb_timer_stop(&t->timer);
		if (t->query != NULL)
			r->cancel(r->ctx, t->query);
		t->query = NULL;
	}
}

const char *
hb_dns_cluster_error(const struct hb_cluster *c, size_t i)
{
	for (size_t k = 0; k < c->n_targets; k++) {
		if (c->targets[k].ep == i)
			return (c->targets[k].error);
	}
	return (NULL);
}

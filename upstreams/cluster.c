/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/log.h"
#include "core/event/table.h"
#include "core/filter/socket_options.h"
#include "upstreams/cluster.h"
#include "upstreams/dns_cluster.h"
#include "upstreams/internal.h"
#include "upstreams/orig_dst.h"
#include "upstreams/pool.h"

HB_STAT_FAMILY(
	hb_cluster_family, "cluster", "envoy_cluster", "envoy_cluster_name", HB_CLUSTER_STATS);

static struct hb_list clusters = { &clusters, &clusters };

/* ------------------------------------------------------------------ numbers of workers */

uint32_t
hb_cluster_connections(const struct hb_cluster *c)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < c->n_w; i++) {
		const struct hb_cluster_w *w = atomic_load_explicit(&c->w[i], memory_order_acquire);

		if (w != NULL)
			sum += atomic_load_explicit(&w->connections, memory_order_relaxed);
	}
	return (sum);
}

uint32_t
hb_cluster_pending(const struct hb_cluster *c)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < c->n_w; i++) {
		const struct hb_cluster_w *w = atomic_load_explicit(&c->w[i], memory_order_acquire);

		if (w != NULL)
			sum += atomic_load_explicit(&w->pending, memory_order_relaxed);
	}
	return (sum);
}

uint32_t
hb_cluster_streams(const struct hb_cluster *c)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < c->n_w; i++) {
		const struct hb_cluster_w *w = atomic_load_explicit(&c->w[i], memory_order_acquire);

		if (w != NULL)
			sum += atomic_load_explicit(&w->streams, memory_order_relaxed);
	}
	return (sum);
}

/* ------------------------------------------------------------------ gauges of the limits */

/* The cluster that the gauges of a metrics name speak of: a replaced one may live on for long. */
struct home {
	unsigned magic;
#define HOME_MAGIC 0x40a3e1d7
	unsigned refs;
	struct hb_stats *stats; /* owned reference */
	struct hb_cluster *live;
};

static struct hb_map *homes; /* by name in metrics */

static int64_t
left(uint32_t max, uint32_t used)
{
	return (max > used ? (int64_t)(max - used) : 0);
}

static int64_t
connections_left(void *arg)
{
	const struct hb_cluster *c = ((struct home *)arg)->live;

	return (c == NULL ? 0 : left(c->limits[0].connections, hb_cluster_connections(c)));
}

static int64_t
pending_left(void *arg)
{
	const struct hb_cluster *c = ((struct home *)arg)->live;

	return (c == NULL ? 0 : left(c->limits[0].pending, hb_cluster_pending(c)));
}

static int64_t
streams_left(void *arg)
{
	const struct hb_cluster *c = ((struct home *)arg)->live;

	return (c == NULL ? 0 : left(c->limits[0].requests, hb_cluster_streams(c)));
}

static int64_t
streams_open(void *arg)
{
	return (((struct home *)arg)->live != NULL && streams_left(arg) == 0);
}

static int64_t
connections_open(void *arg)
{
	return (((struct home *)arg)->live != NULL && connections_left(arg) == 0);
}

static int64_t
pending_open(void *arg)
{
	return (((struct home *)arg)->live != NULL && pending_left(arg) == 0);
}

static void
home_join(struct hb_cluster *c)
{
	struct hb_str key = hb_str(c->stat_name);
	struct home *h;

	if (homes == NULL)
		homes = hb_map_new();
	h = hb_map_get(homes, key);
	if (h == NULL) {
		HB_NEW(h, HOME_MAGIC);
		h->stats = hb_stats_get(&hb_cluster_family, key);
		hb_stat_computed(h->stats, CL_BREAKER_CX_OPEN, connections_open, h);
		hb_stat_computed(h->stats, CL_BREAKER_PENDING_OPEN, pending_open, h);
		hb_stat_computed(h->stats, CL_BREAKER_RQ_OPEN, streams_open, h);
		hb_stat_computed(h->stats, CL_BREAKER_RQ_LEFT, streams_left, h);
		hb_stat_computed(h->stats, CL_BREAKER_CX_LEFT, connections_left, h);
		hb_stat_computed(h->stats, CL_BREAKER_PENDING_LEFT, pending_left, h);
		(void)hb_map_put(homes, key, h);
	}
	h->refs++;
	c->stats = h->stats;
}

static void
home_leave(struct hb_cluster *c)
{
	struct home *h = hb_map_get(homes, hb_str(c->stat_name));

	HB_CHECK(h, HOME_MAGIC);
	if (h->live == c)
		h->live = NULL;
	c->stats = NULL;
	if (--h->refs > 0)
		return;
	(void)hb_map_del(homes, hb_str(c->stat_name));
	hb_stats_unref(&h->stats);
	HB_DEL(h);
	if (hb_map_count(homes) == 0)
		hb_map_free(&homes);
}

/* ------------------------------------------------------------------ endpoints */

static void
show_membership(struct hb_cluster *c, const struct hb_eps *eps)
{
	int64_t healthy = 0, degraded = 0;

	for (unsigned i = 0; i < eps->n_prio; i++) {
		healthy += eps->prio[i].n_healthy;
		degraded += eps->prio[i].n_degraded;
	}
	hb_stat_set(c->stats, CL_MEMBERSHIP_TOTAL, (int64_t)eps->n);
	hb_stat_set(c->stats, CL_MEMBERSHIP_HEALTHY, healthy);
	hb_stat_set(c->stats, CL_MEMBERSHIP_DEGRADED, degraded);
}

static void
rebuild(struct hb_cluster *c)
{
	struct hb_lb_member *m;
	struct hb_eps *eps, *old;
	uint32_t *shares;
	size_t n = 0;

	for (size_t i = 0; i < c->n_ep; i++)
		n += c->slots[i].n;
	m = hb_calloc(n + 1, sizeof *m);
	shares = hb_calloc(c->n_localities + 1, sizeof *shares);
	n = 0;
	for (size_t i = 0; i < c->n_ep; i++) {
		unsigned locality = c->ep[i].locality;

		for (size_t k = 0; k < c->slots[i].n; k++)
			m[n++] = (struct hb_lb_member){
				.ep = c->slots[i].v[k],
				.priority = c->localities[locality].priority,
				.locality = locality,
			};
	}
	for (size_t i = 0; i < c->n_localities; i++)
		shares[i] = c->localities[i].weight;
	eps = hb_eps_new(c->lb, &c->lb_settings, m, n, shares, c->n_localities);
	hb_free(shares);
	hb_free(m);
	old = atomic_exchange(&c->eps, eps);
	if (old != NULL)
		hb_retire(old, hb_eps_free);
	if (c->live) {
		show_membership(c, eps);
		hb_stat_inc(hb_worker_control(), hb_cluster_manager, CM_UPDATED);
	}
	hb_stat_inc(hb_worker_control(), c->stats, CL_MEMBERSHIP_CHANGE);
}

static void
rebuild_run(struct hb_run *run)
{
	struct hb_cluster *c = HB_CONTAINER(run, struct hb_cluster, rebuild);

	HB_CHECK(c, HB_CLUSTER_MAGIC);
	rebuild(c);
}

void
hb_cluster_settle(struct hb_cluster *c)
{
	if (!hb_list_linked(&c->rebuild.node))
		return;
	hb_run_cancel(&c->rebuild);
	rebuild(c);
}

void
hb_cluster_slot_set(struct hb_cluster *c, size_t i, struct hb_endpoint **v, size_t n)
{
	struct hb_ep_slot *s = &c->slots[i];

	HB_ASSERT(i < c->n_ep);
	for (size_t k = 0; k < s->n; k++)
		hb_endpoint_unref(&s->v[k]);
	hb_free(s->v);
	s->v = v;
	s->n = n;
	hb_run_soon(hb_worker_control(), &c->rebuild);
}

void
hb_cluster_health(struct hb_cluster *c, struct hb_endpoint *e, unsigned set, unsigned clear)
{
	unsigned was = hb_endpoint_health(e), is = (was | set) & ~clear;

	if (was == is)
		return;
	atomic_store_explicit(&e->health, is, memory_order_relaxed);
	hb_run_soon(hb_worker_control(), &c->rebuild);
}

/* ------------------------------------------------------------------ start and stop */

static void
start_endpoints(struct hb_cluster *c)
{
	c->slots = hb_calloc(c->n_ep + 1, sizeof *c->slots);
	for (size_t i = 0; i < c->n_ep; i++) {
		const struct hb_ep_conf *e = &c->ep[i];
		struct hb_ep_slot *s = &c->slots[i];

		if (e->addrs == NULL)
			continue;
		s->v = hb_calloc(1, sizeof(struct hb_endpoint *));
		s->n = 1;
		s->v[0] = hb_endpoint_new(e, e->hostname,
			hb_ep_addrs_new(e->addrs->v, e->addrs->n, &c->order), e->health);
	}
}

void
hb_cluster_start(struct hb_cluster *c, bool offline, void (*ready)(struct hb_cluster *))
{
	HB_CHECK(c, HB_CLUSTER_MAGIC);
	HB_ASSERT(c->stats == NULL);
	home_join(c);
	hb_list_add_tail(&clusters, &c->node);
	c->n_w = hb_workers_count() + 1;
	c->w = hb_calloc(c->n_w, sizeof *c->w);
	hb_run_init(&c->rebuild, rebuild_run);
	start_endpoints(c);
	rebuild(c);
	hb_dns_cluster_start(c, offline, ready);
	hb_orig_start(c, offline);
}

void
hb_cluster_stop(struct hb_cluster *c)
{
	HB_CHECK(c, HB_CLUSTER_MAGIC);
	HB_ASSERT(c->stats != NULL);
	hb_run_cancel(&c->rebuild);
	hb_dns_cluster_stop(c);
	hb_orig_stop(c);
	c->live = false;
}

/* On the control thread: a worker has let go. */
static void
w_closed(struct hb_task *t)
{
	struct hb_cluster *c = HB_CONTAINER(t, struct hb_cluster_w, task)->cluster;

	HB_CHECK(c, HB_CLUSTER_MAGIC);
	HB_ASSERT(c->closing > 0);
	if (--c->closing == 0)
		hb_cluster_free(c);
}

static void
w_tell(struct hb_cluster_w *w)
{
	if (w->closing && w->pins == 0)
		hb_post(hb_worker_control(), &w->task, w_closed);
}

/* On the worker. */
static void
w_close(struct hb_task *t)
{
	struct hb_cluster_w *w = HB_CONTAINER(t, struct hb_cluster_w, task);

	HB_CHECK(w, HB_CLUSTER_W_MAGIC);
	w->closing = true;
	hb_pool_drain(w);
	w_tell(w);
}

/* On the worker. */
static void
w_stop(struct hb_task *t)
{
	struct hb_cluster_w *w = HB_CONTAINER(t, struct hb_cluster_w, stop_task);

	HB_CHECK(w, HB_CLUSTER_W_MAGIC);
	hb_pool_stop(w);
}

void
hb_cluster_close_pools(struct hb_cluster *c)
{
	/* One that is gone closes them already, and may be freed before the task runs. */
	for (unsigned i = 0; c->closing == 0 && i + 1 < c->n_w; i++) {
		struct hb_cluster_w *w = atomic_load(&c->w[i]);

		if (w != NULL)
			hb_post(hb_worker_at(i), &w->stop_task, w_stop);
	}
}

void
hb_cluster_gone(void *cluster)
{
	struct hb_cluster *c;

	HB_CAST(c, cluster, HB_CLUSTER_MAGIC);
	if (hb_worker_control() == NULL) {
		hb_cluster_free(c);
		return;
	}
	/* One for ourselves, so that it is not freed while we go through the workers. */
	c->closing = 1;
	for (unsigned i = 0; i < c->n_w; i++) {
		struct hb_cluster_w *w = atomic_load(&c->w[i]);

		if (w == NULL)
			continue;
		c->closing++;
		if (i == c->n_w - 1)
			w_close(&w->task);
		else
			hb_post(hb_worker_at(i), &w->task, w_close);
	}
	if (--c->closing == 0)
		hb_cluster_free(c);
}

static void
free_started(struct hb_cluster *c)
{
	for (unsigned i = 0; i < c->n_w; i++) {
		struct hb_cluster_w *w = atomic_load(&c->w[i]);

		if (w == NULL)
			continue;
		hb_pool_free(w);
		hb_lb_state_fini(&w->lb);
		HB_DEL(w);
	}
	hb_free(c->w);
	for (size_t i = 0; i < c->n_ep; i++) {
		for (size_t k = 0; k < c->slots[i].n; k++)
			hb_endpoint_unref(&c->slots[i].v[k]);
		hb_free(c->slots[i].v);
	}
	hb_free(c->slots);
	hb_free(c->targets);
	hb_table_free(&c->orig_table);
	hb_eps_free(atomic_load(&c->eps));
	hb_list_del(&c->node);
	home_leave(c);
}

void
hb_cluster_free(struct hb_cluster *c)
{
	HB_CHECK(c, HB_CLUSTER_MAGIC);
	if (c->stats != NULL)
		free_started(c);
	for (size_t i = 0; i < c->n_ep; i++) {
		hb_free(c->ep[i].hostname);
		hb_free(c->ep[i].name);
		hb_ep_addrs_free(c->ep[i].addrs);
		hb_meta_free(&c->ep[i].meta, c->ep[i].n_meta);
	}
	hb_free(c->ep);
	for (size_t i = 0; i < c->n_localities; i++) {
		hb_free(c->localities[i].region);
		hb_free(c->localities[i].zone);
		hb_free(c->localities[i].sub_zone);
	}
	hb_free(c->localities);
	for (size_t i = 0; i < c->n_matches; i++) {
		hb_free(c->matches[i].name);
		hb_transport_socket_free(&c->matches[i].socket);
	}
	hb_free(c->matches);
	hb_transport_socket_free(&c->socket);
	for (size_t i = 0; i < c->bind.n_options; i++)
		hb_socket_option_fini(&c->bind.options[i]);
	hb_meta_free(&c->meta, c->n_meta);
	hb_free(c->http2);
	hb_free(c->orig.header);
	hb_free(c->orig.metadata_ns);
	hb_free(c->orig.metadata_key);
	hb_free(c->name);
	hb_free(c->stat_name);
	HB_DEL(c);
}

void
hb_cluster_foreach(void (*fn)(void *arg, struct hb_cluster *), void *arg)
{
	struct hb_list *n, *tmp;

	HB_LIST_FOREACH_SAFE (n, tmp, &clusters)
		fn(arg, HB_LIST_ENTRY(n, struct hb_cluster, node));
}

void
hb_cluster_free_all(void)
{
	while (!hb_list_empty(&clusters))
		hb_cluster_free(HB_LIST_ENTRY(clusters.next, struct hb_cluster, node));
}

void
hb_cluster_went_live(struct hb_cluster *c)
{
	struct home *h = hb_map_get(homes, hb_str(c->stat_name));

	HB_CHECK(h, HOME_MAGIC);
	c->live = true;
	h->live = c;
	show_membership(c, atomic_load(&c->eps));
}

/* ------------------------------------------------------------------ pins, on workers */

struct hb_cluster_w *
hb_cluster_pin(struct hb_cluster *c, struct hb_worker *worker)
{
	unsigned i = worker->index == HB_WORKER_CONTROL ? c->n_w - 1 : worker->index;
	struct hb_cluster_w *w;

	HB_CHECK(c, HB_CLUSTER_MAGIC);
	HB_ASSERT(i < c->n_w);
	w = atomic_load_explicit(&c->w[i], memory_order_relaxed);
	if (w == NULL) {
		HB_NEW(w, HB_CLUSTER_W_MAGIC);
		hb_list_init(&w->news);
		w->cluster = c;
		w->worker = worker;
		atomic_store_explicit(&c->w[i], w, memory_order_release);
	}
	w->pins++;
	return (w);
}

void
hb_cluster_unpin(struct hb_cluster_w **wp)
{
	struct hb_cluster_w *w = *wp;

	HB_CHECK(w, HB_CLUSTER_W_MAGIC);
	HB_ASSERT(w->pins > 0);
	*wp = NULL;
	w->pins--;
	w_tell(w);
}

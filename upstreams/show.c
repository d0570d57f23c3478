/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "core/admin/admin.h"
#include "envoy/admin/v3/clusters.pb-c.h"
#include "upstreams/orig_dst.h"
#include "upstreams/show.h"

typedef Envoy__Admin__V3__ClusterStatus ClusterStatus;
typedef Envoy__Admin__V3__HostStatus HostStatus;
typedef Envoy__Config__Cluster__V3__CircuitBreakers__Thresholds Thresholds;

/* ------------------------------------------------------------------ what there is to show */

struct view {
	struct hb_cluster **c;
	size_t n, cap;
};

static void
collect_cluster(void *arg, struct hb_cluster *c)
{
	struct view *v = arg;

	if (!c->live)
		return;
	if (v->n == v->cap) {
		v->cap = HB_MAX(2 * v->cap, (size_t)16);
		v->c = hb_realloc(v->c, v->cap * sizeof(struct hb_cluster *));
	}
	v->c[v->n++] = c;
}

static int
by_name(const void *a, const void *b)
{
	return (strcmp(
		(*(struct hb_cluster *const *)a)->name, (*(struct hb_cluster *const *)b)->name));
}

/* Live clusters by name; the caller frees v.c. */
static struct view
collect(void)
{
	struct view v = { 0 };

	hb_cluster_foreach(collect_cluster, &v);
	if (v.n > 1)
		qsort(v.c, v.n, sizeof(struct hb_cluster *), by_name);
	return (v);
}

static void
each_endpoint(const struct hb_cluster *c, void (*fn)(void *arg, struct hb_endpoint *), void *arg)
{
	const struct hb_eps *eps = atomic_load(&c->eps);

	for (size_t i = 0; i < eps->n; i++)
		fn(arg, eps->ep[i]);
	hb_orig_foreach(c, fn, arg);
}

static const struct hb_locality_conf *
locality_of(const struct hb_cluster *c, const struct hb_endpoint *e)
{
	static char none[] = "";
	static const struct hb_locality_conf nowhere = {
		.region = none, .zone = none, .sub_zone = none
	};

	return (c->n_localities == 0 ? &nowhere : &c->localities[e->conf->locality]);
}

/* A connection counts as a request that succeeded, as in Envoy's TCP proxy. */
static uint64_t
succeeded(const struct hb_ep_numbers *n)
{
	return (n->total - HB_MIN(n->total, n->failed));
}

/* ------------------------------------------------------------------ text */

static void
health_text(struct hb_text *t, unsigned health)
{
	static const struct {
		unsigned bit;
		const char *flag;
	} flags[] = {
		{ HB_EP_HC_FAILED, "/failed_active_hc" },
		{ HB_EP_OUTLIER, "/failed_outlier_check" },
		{ HB_EP_EDS_UNHEALTHY, "/failed_eds_health" },
		{ HB_EP_EDS_DEGRADED, "/degraded_eds_health" },
	};

	if (health == 0)
		hb_text_addz(t, "healthy");
	for (size_t i = 0; i < HB_ARRAY_LEN(flags); i++) {
		if (health & flags[i].bit)
			hb_text_addz(t, flags[i].flag);
	}
}

struct text_arg {
	struct hb_text *t;
	const struct hb_cluster *c;
};

static void
text_endpoint(void *arg, struct hb_endpoint *e)
{
	const struct text_arg *a = arg;
	const struct hb_locality_conf *l = locality_of(a->c, e);
	struct hb_ep_numbers n;
	char prefix[HB_ADDR_TEXT_MAX];

	(void)hb_addr_format(&hb_endpoint_addrs(e)->v[0], prefix, sizeof prefix);
	hb_endpoint_numbers(e, &n);
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
		{ "cx_active", n.active },
		{ "cx_connect_fail", n.failed },
		{ "cx_total", n.total },
		{ "rq_active", n.active },
		{ "rq_error", n.failed },
		{ "rq_pending_active", 0 },
		{ "rq_success", succeeded(&n) },
		{ "rq_timeout", n.timeouts },
		{ "rq_total", succeeded(&n) },
	};
	for (size_t i = 0; i < HB_ARRAY_LEN(rows); i++)
		hb_text_printf(a->t, "%s::%s::%s::%llu\n", a->c->name, prefix, rows[i].name,
			(unsigned long long)rows[i].value);
	hb_text_printf(a->t, "%s::%s::hostname::%s\n%s::%s::health_flags::", a->c->name, prefix,
		e->hostname, a->c->name, prefix);
	health_text(a->t, hb_endpoint_health(e));
	hb_text_printf(a->t, "\n%s::%s::weight::%u\n", a->c->name, prefix, e->conf->weight);
	hb_text_printf(a->t, "%s::%s::region::%s\n", a->c->name, prefix, l->region);
	hb_text_printf(a->t, "%s::%s::zone::%s\n", a->c->name, prefix, l->zone);
	hb_text_printf(a->t, "%s::%s::sub_zone::%s\n", a->c->name, prefix, l->sub_zone);
	hb_text_printf(a->t, "%s::%s::canary::false\n", a->c->name, prefix);
	hb_text_printf(a->t, "%s::%s::priority::%u\n", a->c->name, prefix, l->priority);
	hb_text_printf(a->t, "%s::%s::success_rate::-1\n", a->c->name, prefix);
	hb_text_printf(a->t, "%s::%s::local_origin_success_rate::-1\n", a->c->name, prefix);
}

static void
text_limits(struct hb_text *t, const char *cluster, const char *priority, const struct hb_limits *l)
{
	hb_text_printf(t, "%s::%s::max_connections::%u\n", cluster, priority, l->connections);
	hb_text_printf(t, "%s::%s::max_pending_requests::%u\n", cluster, priority, l->pending);
	hb_text_printf(t, "%s::%s::max_requests::%u\n", cluster, priority, l->requests);
	hb_text_printf(t, "%s::%s::max_retries::%u\n", cluster, priority, l->retries);
}

void
hb_clusters_text(struct hb_text *t)
{
	struct view v = collect();

	for (size_t i = 0; i < v.n; i++) {
		struct text_arg a = { .t = t, .c = v.c[i] };

		hb_text_printf(t, "%s::observability_name::%s\n", a.c->name, a.c->stat_name);
		text_limits(t, a.c->name, "default_priority", &a.c->limits[0]);
		text_limits(t, a.c->name, "high_priority", &a.c->limits[1]);
		hb_text_printf(t, "%s::added_via_api::false\n", a.c->name);
		each_endpoint(a.c, text_endpoint, &a);
	}
	hb_free(v.c);
}

/* ------------------------------------------------------------------ JSON */

#define NEW_MESSAGE(arena, type, p)                         \
	do {                                                \
		(p) = hb_arena_alloc((arena), sizeof *(p)); \
		type##__init(p);                            \
	} while (0)

struct json_arg {
	struct hb_arena *a;
	const struct hb_cluster *c;
	ClusterStatus *status;
	size_t cap;
};

static Google__Protobuf__UInt32Value *
json_u32(struct hb_arena *a, uint32_t value)
{
	Google__Protobuf__UInt32Value *v;

	NEW_MESSAGE(a, google__protobuf__uint32_value, v);
	v->value = value;
	return (v);
}

static Envoy__Config__Cluster__V3__CircuitBreakers *
json_limits(struct hb_arena *a, const struct hb_cluster *c)
{
	Envoy__Config__Cluster__V3__CircuitBreakers *b;

	NEW_MESSAGE(a, envoy__config__cluster__v3__circuit_breakers, b);
	b->n_thresholds = 2;
	b->thresholds = hb_arena_alloc(a, 2 * sizeof(Thresholds *));
	for (size_t i = 0; i < 2; i++) {
		Thresholds *t;

		NEW_MESSAGE(a, envoy__config__cluster__v3__circuit_breakers__thresholds, t);
		t->priority = i == 0 ? ENVOY__CONFIG__CORE__V3__ROUTING_PRIORITY__DEFAULT :
				       ENVOY__CONFIG__CORE__V3__ROUTING_PRIORITY__HIGH;
		t->max_connections = json_u32(a, c->limits[i].connections);
		t->max_pending_requests = json_u32(a, c->limits[i].pending);
		t->max_requests = json_u32(a, c->limits[i].requests);
		t->max_retries = json_u32(a, c->limits[i].retries);
		b->thresholds[i] = t;
	}
	return (b);
}

static Envoy__Config__Core__V3__Address *
json_address(struct hb_arena *a, const struct hb_addr *from)
{
	Envoy__Config__Core__V3__Address *m;
	char text[HB_ADDR_TEXT_MAX];

	NEW_MESSAGE(a, envoy__config__core__v3__address, m);
	if (from->kind == HB_ADDR_UNIX) {
		(void)hb_addr_format(from, text, sizeof text);
		m->address_case = ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_PIPE;
		NEW_MESSAGE(a, envoy__config__core__v3__pipe, m->pipe);
		m->pipe->path = (char *)(uintptr_t)hb_arena_str(a, hb_str(text)).p;
		return (m);
	}
	if (from->kind == HB_ADDR_INTERNAL) {
		m->address_case = ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_ENVOY_INTERNAL_ADDRESS;
		NEW_MESSAGE(a, envoy__config__core__v3__envoy_internal_address,
			m->envoy_internal_address);
		m->envoy_internal_address->address_name_specifier_case =
			ENVOY__CONFIG__CORE__V3__ENVOY_INTERNAL_ADDRESS__ADDRESS_NAME_SPECIFIER_SERVER_LISTENER_NAME;
		m->envoy_internal_address->server_listener_name =
			(char *)(uintptr_t)hb_arena_str(a, hb_str(from->u.name)).p;
		return (m);
	}
	(void)hb_addr_format_ip(from, text, sizeof text);
	m->address_case = ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS;
	NEW_MESSAGE(a, envoy__config__core__v3__socket_address, m->socket_address);
	m->socket_address->address = (char *)(uintptr_t)hb_arena_str(a, hb_str(text)).p;
	m->socket_address->port_specifier_case =
		ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE;
	m->socket_address->port_value = from->port;
	return (m);
}

static void
json_numbers(struct hb_arena *a, HostStatus *h, const struct hb_ep_numbers *n)
{
	const struct {
		const char *name;
		uint64_t value;
		bool gauge;
	} rows[] = {
		{ "cx_connect_fail", n->failed, false },
		{ "cx_total", n->total, false },
		{ "rq_error", n->failed, false },
		{ "rq_success", succeeded(n), false },
		{ "rq_timeout", n->timeouts, false },
		{ "rq_total", succeeded(n), false },
		{ "cx_active", n->active, true },
		{ "rq_active", n->active, true },
		{ "rq_pending_active", 0, true },
	};

	h->n_stats = HB_ARRAY_LEN(rows);
	h->stats = hb_arena_alloc(
		a, sizeof rows / sizeof rows[0] * sizeof(Envoy__Admin__V3__SimpleMetric *));
	for (size_t i = 0; i < HB_ARRAY_LEN(rows); i++) {
		NEW_MESSAGE(a, envoy__admin__v3__simple_metric, h->stats[i]);
		h->stats[i]->name = (char *)(uintptr_t)rows[i].name;
		h->stats[i]->value = rows[i].value;
		h->stats[i]->type = rows[i].gauge ? ENVOY__ADMIN__V3__SIMPLE_METRIC__TYPE__GAUGE :
						    ENVOY__ADMIN__V3__SIMPLE_METRIC__TYPE__COUNTER;
	}
}

static void
json_endpoint(void *arg, struct hb_endpoint *e)
{
	struct json_arg *j = arg;
	const struct hb_locality_conf *l = locality_of(j->c, e);
	unsigned health = hb_endpoint_health(e);
	struct hb_ep_numbers n;
	HostStatus *h;

	NEW_MESSAGE(j->a, envoy__admin__v3__host_status, h);
	h->address = json_address(j->a, &hb_endpoint_addrs(e)->v[0]);
	hb_endpoint_numbers(e, &n);
	json_numbers(j->a, h, &n);
	NEW_MESSAGE(j->a, envoy__admin__v3__host_health_status, h->health_status);
	h->health_status->failed_active_health_check = (health & HB_EP_HC_FAILED) != 0;
	h->health_status->failed_outlier_check = (health & HB_EP_OUTLIER) != 0;
	h->health_status->eds_health_status = e->conf->eds_status == 0 ?
		ENVOY__CONFIG__CORE__V3__HEALTH_STATUS__HEALTHY :
		(Envoy__Config__Core__V3__HealthStatus)e->conf->eds_status;
	h->weight = e->conf->weight;
	h->hostname = e->hostname;
	h->priority = l->priority;
	NEW_MESSAGE(j->a, envoy__config__core__v3__locality, h->locality);
	h->locality->region = l->region;
	h->locality->zone = l->zone;
	h->locality->sub_zone = l->sub_zone;
	if (j->status->n_host_statuses == j->cap) {
		j->cap = HB_MAX(2 * j->cap, (size_t)16);
		j->status->host_statuses = hb_realloc(
			j->status->host_statuses, j->cap * sizeof(HostStatus *));
	}
	j->status->host_statuses[j->status->n_host_statuses++] = h;
}

void
hb_clusters_json(struct hb_text *t)
{
	Envoy__Admin__V3__Clusters all = ENVOY__ADMIN__V3__CLUSTERS__INIT;
	struct view v = collect();
	struct hb_arena a = { 0 };

	all.n_cluster_statuses = v.n;
	all.cluster_statuses = hb_calloc(v.n + 1, sizeof(ClusterStatus *));
	for (size_t i = 0; i < v.n; i++) {
		struct json_arg j = { .a = &a, .c = v.c[i] };

		NEW_MESSAGE(&a, envoy__admin__v3__cluster_status, j.status);
		j.status->name = v.c[i]->name;
		j.status->observability_name = v.c[i]->stat_name;
		j.status->circuit_breakers = json_limits(&a, v.c[i]);
		each_endpoint(v.c[i], json_endpoint, &j);
		all.cluster_statuses[i] = j.status;
	}
	hb_cfg_to_json(t, &all.base, 0);
	for (size_t i = 0; i < v.n; i++)
		hb_free(all.cluster_statuses[i]->host_statuses);
	hb_free(all.cluster_statuses);
	hb_arena_fini(&a);
	hb_free(v.c);
}

/* ------------------------------------------------------------------ /clusters */

static void
clusters_page(struct hb_admin_request *rq)
{
	struct hb_str format = hb_admin_param(rq, "format");
	struct hb_text t = { 0 };

	if (format.p != NULL && hb_str_eq(format, HB_STR("json"))) {
		hb_clusters_json(&t);
		hb_admin_reply(rq, 200, "application/json", &t);
	} else if (format.p != NULL && format.len > 0 && !hb_str_eq(format, HB_STR("text"))) {
		hb_admin_replyf(
			rq, 400, "format is text or json, not \"%.*s\"\n", HB_STR_FMT(format));
	} else {
		hb_clusters_text(&t);
		hb_admin_reply(rq, 200, NULL, &t);
	}
}

static const struct hb_admin_endpoint clusters_endpoint = {
	.path = "/clusters",
	.help = "upstream cluster status",
	.params = "format=text|json",
	.fn = clusters_page,
};

void
hb_upstreams_admin_init(void)
{
	static bool added;

	if (!added)
		hb_admin_add(&clusters_endpoint);
	added = true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The kind "cluster": which clusters are live, warming, gone; and the binding of the dialler. */
#include "core/base/log.h"
#include "core/event/table.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "upstreams/conn.h"
#include "upstreams/dial.h"
#include "upstreams/hbone.h"
#include "upstreams/internal.h"
#include "upstreams/show.h"
#include "upstreams/tunnels.h"
#include "upstreams/upstreams.h"

HB_STAT_FAMILY(hb_cluster_manager_family, "cluster_manager", "envoy_cluster_manager", NULL,
	HB_CLUSTER_MANAGER_STATS);

static struct hb_table *live;  /* struct hb_cluster by name                                */
static struct hb_map *warming; /* the same: replace a live one as soon as they have endpoints */
struct hb_stats *hb_cluster_manager;
static bool offline, stopped;
static void (*on_ready_fn)(void *arg);
static void *on_ready_arg;

struct hb_cluster *
hb_cluster_find(struct hb_str name)
{
	return (live == NULL ? NULL : hb_table_get(live, name));
}

/* ------------------------------------------------------------------ being ready */

struct readiness {
	size_t missing;
	struct hb_text *why;
};

static void
is_missing(void *arg, struct hb_str name, void *obj)
{
	const struct hb_cluster *c = obj;
	struct readiness *r = arg;

	if (c->ready)
		return;
	r->missing++;
	if (r->why != NULL)
		hb_text_printf(r->why, "cluster %.*s waits for the addresses of %zu names\n",
			HB_STR_FMT(name), c->n_unanswered);
}

bool
hb_upstreams_ready(struct hb_text *why)
{
	struct readiness r = { .why = why };

	/* One that warms up has an older one that serves meanwhile. */
	hb_table_foreach(live, is_missing, &r);
	return (r.missing == 0);
}

void
hb_upstreams_on_ready(void (*fn)(void *arg), void *arg)
{
	on_ready_fn = fn;
	on_ready_arg = arg;
}

static void
show_counts(void)
{
	struct readiness r = { 0 };

	hb_table_foreach(live, is_missing, &r);
	hb_stat_set(hb_cluster_manager, CM_ACTIVE, (int64_t)(hb_table_count(live) - r.missing));
	hb_stat_set(hb_cluster_manager, CM_WARMING, (int64_t)(hb_map_count(warming) + r.missing));
}

static void
changed(void)
{
	show_counts();
	if (on_ready_fn != NULL)
		on_ready_fn(on_ready_arg);
}

/* ------------------------------------------------------------------ publish and retire */

/* A warming one that is no longer wanted; no worker has seen it. */
static void
drop_warming(struct hb_str name)
{
	struct hb_cluster *c = hb_map_del(warming, name);

	if (c == NULL)
		return;
	hb_cluster_stop(c);
	hb_cluster_gone(c);
}

static void
go_live(struct hb_cluster *c)
{
	struct hb_str name = hb_str(c->name);
	struct hb_cluster *old = hb_table_get(live, name);

	if (old != NULL)
		hb_cluster_stop(old);
	hb_table_put(live, name, c);
	hb_cluster_went_live(c);
	if (old != NULL)
		hb_transport_sockets_changed();
}

static void
on_cluster_ready(struct hb_cluster *c)
{
	struct hb_str name = hb_str(c->name);

	if (hb_map_get(warming, name) == c) {
		(void)hb_map_del(warming, name);
		go_live(c);
	}
	HB_LOG(UPSTREAM, DEBUG, "cluster is ready", "cluster=%s endpoints=%zu", c->name,
		atomic_load(&c->eps)->n);
	changed();
}

static int
kind_publish(const char *name, void *obj, struct hb_err *reterr)
{
	struct hb_cluster *c, *old = hb_table_get(live, hb_str(name));

	(void)reterr;
	HB_CAST(c, obj, HB_CLUSTER_MAGIC);
	HB_ASSERT(strcmp(c->name, name) == 0);
	drop_warming(hb_str(name));
	hb_stat_inc(hb_worker_control(), hb_cluster_manager, old == NULL ? CM_ADDED : CM_MODIFIED);
	hb_cluster_start(c, offline, on_cluster_ready);
	if (old != NULL && !c->ready)
		(void)hb_map_put(warming, hb_str(name), c);
	else
		go_live(c);
	changed();
	return (0);
}

static void
kind_retire(const char *name)
{
	struct hb_cluster *c = hb_table_get(live, hb_str(name));

	drop_warming(hb_str(name));
	if (c == NULL)
		return;
	hb_cluster_stop(c);
	(void)hb_table_del(live, hb_str(name));
	hb_stat_inc(hb_worker_control(), hb_cluster_manager, CM_REMOVED);
	changed();
}

static int
kind_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, void **ret_obj)
{
	*ret_obj = hb_cluster_compile(cfg, msg);
	return (*ret_obj == NULL ? -EINVAL : 0);
}

static void
kind_discard(void *obj)
{
	hb_cluster_free(obj);
}

static struct hb_str
kind_name_of(const ProtobufCMessage *msg)
{
	return (hb_str(((const Envoy__Config__Cluster__V3__Cluster *)(const void *)msg)->name));
}

static bool
kind_is_active(const char *name)
{
	const struct hb_cluster *c = hb_table_get(live, hb_str(name));

	return (c != NULL && c->ready);
}

static const struct hb_resource_kind kind = {
	.name = "cluster",
	.desc = &envoy__config__cluster__v3__cluster__descriptor,
	.order = 10,
	.compile = kind_compile,
	.discard = kind_discard,
	.publish = kind_publish,
	.retire = kind_retire,
	.name_of = kind_name_of,
	.is_active = kind_is_active,
};

/* ------------------------------------------------------------------ the room */

static bool
exists(struct hb_str cluster)
{
	return (hb_cluster_find(cluster) != NULL);
}

static const struct hb_dial_ops dial_ops = {
	.dial = hb_dial__start,
	.cancel = hb_dial__cancel,
	.exists = exists,
	.explain = hb_upstreams_explain,
	.tunnels = hb_upstreams_tunnels,
};

int
hb_upstreams_init(const struct hb_upstreams_options *o, struct hb_err *reterr)
{
	HB_ASSERT(live == NULL);
	offline = o->offline;
	stopped = false;
	live = hb_table_new(hb_cluster_gone);
	warming = hb_map_new();
	hb_cluster_manager = hb_stats_get(&hb_cluster_manager_family, HB_STR(""));
	if (hb_resource_kind_find(hb_str(kind.desc->name)) == NULL) {
		hb_resource_kind_add(&kind);
		if (hb_transport_socket_register(&hb_tsocket_hbone, reterr) != 0 ||
			hb_transport_socket_register(&hb_tsocket_internal_upstream, reterr) != 0)
			return (-EEXIST);
	}
	hb_transport_sockets_watch(hb_upconns_recheck);
	hb_dial_bind(&dial_ops);
	hb_upstreams_admin_init();
	return (0);
}

static void
stop_one(void *arg, struct hb_cluster *c)
{
	(void)arg;
	hb_cluster_close_pools(c);
	hb_cluster_stop(c);
}

void
hb_upstreams_stop(void)
{
	if (live == NULL || stopped)
		return;
	stopped = true;
	hb_transport_sockets_watch(NULL);
	hb_cluster_foreach(stop_one, NULL);
	hb_dns_fini();
}

void
hb_upstreams_fini(void)
{
	if (live == NULL)
		return;
	hb_map_free(&warming);
	hb_table_free(&live);
	hb_cluster_free_all();
	hb_stats_unref(&hb_cluster_manager);
	on_ready_fn = NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of one filter at a time, counted over all workers: the one number of this filter that
 * they share, written when a connection begins and ends.
 */
#include <stdatomic.h>
#include "core/filter/explain.h"
#include "core/filter/filter.h"
#include "core/stats/stats.h"
#include "envoy/extensions/filters/network/connection_limit/v3/connection_limit.pb-c.h"

#define CONNECTION_LIMIT_STATS(X)                                    \
	X(CL_LIMITED, "limited_connections", COUNTER,                \
		"Connections closed because the limit was reached.") \
	X(CL_ACTIVE, "active_connections", GAUGE, "Connections that the filter let pass, now open.")

enum connection_limit_stat { CONNECTION_LIMIT_STATS(HB_STAT_ENUM) CONNECTION_LIMIT_STAT_MAX };
HB_STAT_FAMILY(connection_limit_family, "connection_limit", "envoy_connection_limit",
	"envoy_connection_limit_prefix", CONNECTION_LIMIT_STATS);

typedef Envoy__Extensions__Filters__Network__ConnectionLimit__V3__ConnectionLimit msg_limit;

struct connection_limit_conf {
	unsigned magic;
#define CONNECTION_LIMIT_CONF_MAGIC 0x2c61b3f8
	struct hb_stats *stats; /* counted reference */
	uint64_t max, delay_ms;
	bool enabled;
	_Atomic uint64_t *active; /* owned; of all workers */
};

struct connection_limit {
	bool counted;
};

static void
connection_limit_conf_free(const void *conf)
{
	struct connection_limit_conf *c;

	HB_CAST(c, (void *)conf, CONNECTION_LIMIT_CONF_MAGIC);
	hb_stats_unref(&c->stats);
	hb_free((void *)c->active);
	HB_DEL(c);
}

static int
connection_limit_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, const void **ret_conf)
{
	const msg_limit *m = (const void *)msg;
	struct hb_errs *errs = hb_cfg_errs(cfg);
	size_t before = errs->n + errs->dropped;
	struct connection_limit_conf *c;

	HB_NEW(c, CONNECTION_LIMIT_CONF_MAGIC);
	c->active = hb_calloc(1, sizeof *c->active);
	if (*m->stat_prefix == '\0')
		(void)hb_cfg_error(cfg, m, "stat_prefix", -1, "must not be empty");
	if (m->max_connections == NULL || m->max_connections->value == 0)
		(void)hb_cfg_error(cfg, m, "max_connections", -1, "is required and at least 1");
	else
		c->max = m->max_connections->value;
	c->delay_ms = hb_cfg_duration_ms(cfg, m, "delay", m->delay, 0);
	c->enabled = m->runtime_enabled == NULL ||
		hb_cfg_bool(m->runtime_enabled->default_value, false);
	if (errs->n + errs->dropped != before) {
		connection_limit_conf_free(c);
		return (-EINVAL);
	}
	c->stats = hb_stats_get(&connection_limit_family, hb_str(m->stat_prefix));
	*ret_conf = c;
	return (0);
}

static enum hb_filter_status
connection_limit_on_connected(struct hb_filter *f)
{
	const struct connection_limit_conf *c = hb_filter_conf(f);
	struct connection_limit *l = hb_filter_ctx(f);
	struct hb_worker *w = hb_filter_worker(f);

	if (!c->enabled)
		return (HB_FILTER_CONTINUE);
	if (atomic_fetch_add_explicit(c->active, 1, memory_order_relaxed) < c->max) {
		l->counted = true;
		hb_stat_add(w, c->stats, CL_ACTIVE, 1);
		return (HB_FILTER_CONTINUE);
	}
	(void)atomic_fetch_sub_explicit(c->active, 1, memory_order_relaxed);
	hb_stat_inc(w, c->stats, CL_LIMITED);
	if (c->delay_ms == 0)
		hb_filter_close(f, HB_CLOSE_CX_LIMIT);
	else
		hb_filter_timer(f, c->delay_ms);
	return (HB_FILTER_STOP);
}

static void
connection_limit_on_event(struct hb_filter *f, enum hb_event ev)
{
	if (ev == HB_EVENT_TIMER)
		hb_filter_close(f, HB_CLOSE_CX_LIMIT);
}

static void
connection_limit_fini(struct hb_filter *f)
{
	const struct connection_limit_conf *c = hb_filter_conf(f);
	struct connection_limit *l = hb_filter_ctx(f);

	if (!l->counted)
		return;
	(void)atomic_fetch_sub_explicit(c->active, 1, memory_order_relaxed);
	hb_stat_add(hb_filter_worker(f), c->stats, CL_ACTIVE, -1);
}

static void
connection_limit_explain(const void *conf, const struct hb_facts *facts, struct hb_explain *ex)
{
	const struct connection_limit_conf *c = conf;
	uint64_t now = atomic_load_explicit(c->active, memory_order_relaxed);

	if (!c->enabled)
		hb_explain_step(ex, "filter", "connection_limit", "pass", "is turned off");
	else if (now < c->max)
		hb_explain_step(ex, "filter", "connection_limit", "pass",
			"%llu of %llu connections", (unsigned long long)now,
			(unsigned long long)c->max);
	else {
		hb_explain_step(ex, "filter", "connection_limit", "deny",
			"all %llu connections are taken", (unsigned long long)c->max);
		hb_explain_stop(ex);
	}
}

const struct hb_filter_type hb_filter_connection_limit = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.flags = HB_FILTER_PLAIN,
	.kind = HB_FILTER_NETWORK,
	.name = "hbone.filters.network.connection_limit",
	.alias = "envoy.filters.network.connection_limit",
	.config =
		&envoy__extensions__filters__network__connection_limit__v3__connection_limit__descriptor,
	.ctx_size = sizeof(struct connection_limit),
	.compile = connection_limit_compile,
	.conf_free = connection_limit_conf_free,
	.on_connected = connection_limit_on_connected,
	.on_event = connection_limit_on_event,
	.fini = connection_limit_fini,
	.explain = connection_limit_explain,
};

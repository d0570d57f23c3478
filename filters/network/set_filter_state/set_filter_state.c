/* SPDX-License-Identifier: Apache-2.0 */
#include "core/filter/explain.h"
#include "core/filter/filter.h"
#include "core/stats/access_log.h"
#include "envoy/extensions/filters/network/set_filter_state/v3/set_filter_state.pb-c.h"
#include "filters/network/set_filter_state/values.h"

typedef Envoy__Extensions__Filters__Network__SetFilterState__V3__Config msg_config;
struct set_filter_state_conf {
	unsigned magic;
#define SET_FILTER_STATE_CONF_MAGIC 0x0e5f17ab
	struct hb_state_values on_connected, on_secured;
};

/* ------------------------------------------------------------------ configuration */

static void
set_filter_state_conf_free(const void *conf)
{
	struct set_filter_state_conf *c;

	HB_CAST(c, (void *)conf, SET_FILTER_STATE_CONF_MAGIC);
	hb_state_values_fini(&c->on_connected);
	hb_state_values_fini(&c->on_secured);
	HB_DEL(c);
}

static int
set_filter_state_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, const void **ret_conf)
{
	const msg_config *m = (const void *)msg;
	struct hb_errs *errs = hb_cfg_errs(cfg);
	size_t before = errs->n + errs->dropped;
	struct set_filter_state_conf *c;

	HB_NEW(c, SET_FILTER_STATE_CONF_MAGIC);
	hb_state_values_compile(
		cfg, m->on_new_connection, m->n_on_new_connection, &c->on_connected);
	hb_state_values_compile(cfg, m->on_downstream_tls_handshake,
		m->n_on_downstream_tls_handshake, &c->on_secured);
	if (errs->n + errs->dropped != before) {
		set_filter_state_conf_free(c);
		return (-EINVAL);
	}
	*ret_conf = c;
	return (0);
}

/* ------------------------------------------------------------------ slots */

static void
set_all(struct hb_filter *f, const struct hb_state_values *l)
{
	struct hb_log_entry e;

	if (l->n == 0)
		return;
	hb_filter_log_entry(f, &e);
	hb_state_values_set(l, hb_filter_facts(f), &e);
}

static enum hb_filter_status
set_filter_state_on_connected(struct hb_filter *f)
{
	const struct set_filter_state_conf *c = hb_filter_conf(f);

	set_all(f, &c->on_connected);
	return (HB_FILTER_CONTINUE);
}

static enum hb_filter_status
set_filter_state_on_secured(struct hb_filter *f)
{
	const struct set_filter_state_conf *c = hb_filter_conf(f);

	set_all(f, &c->on_secured);
	return (HB_FILTER_CONTINUE);
}

static void
explain_list(const struct hb_state_values *l, const struct hb_facts *facts, struct hb_explain *ex)
{
	struct hb_facts *to = hb_explain_facts(ex);
	struct hb_log_entry e = { .facts = facts };
	struct hb_str s;

	hb_state_values_set(l, to, &e);
	for (size_t i = 0; i < l->n; i++) {
		s = hb_facts_state(to, hb_str(l->v[i].key));
		hb_explain_step(ex, "filter", "set_filter_state", "pass", "%s = \"%.*s\"",
			l->v[i].key, HB_STR_FMT(s));
	}
}

static void
set_filter_state_explain(const void *conf, const struct hb_facts *facts, struct hb_explain *ex)
{
	const struct set_filter_state_conf *c = conf;

	explain_list(&c->on_connected, facts, ex);
	explain_list(&c->on_secured, facts, ex);
}

const struct hb_filter_type hb_filter_set_filter_state = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.kind = HB_FILTER_NETWORK,
	.name = "hbone.filters.network.set_filter_state",
	.alias = "envoy.filters.network.set_filter_state",
	.config = &envoy__extensions__filters__network__set_filter_state__v3__config__descriptor,
	.compile = set_filter_state_compile,
	.conf_free = set_filter_state_conf_free,
	.on_connected = set_filter_state_on_connected,
	.on_secured = set_filter_state_on_secured,
	.explain = set_filter_state_explain,
};

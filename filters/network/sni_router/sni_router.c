/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/log.h"
#include "core/filter/dial.h"
#include "core/filter/explain.h"
#include "core/stats/stats.h"
#include "filters/network/sni_router/route.h"
#include "hbone/filters/network/sni_router/sni_router.pb-c.h"

#define SNI_ROUTER_STATS(X)                                                                     \
	X(SR_EXACT, "routed_exact", COUNTER, "Connections routed by an exact server name.")     \
	X(SR_WILDCARD, "routed_wildcard", COUNTER, "Connections routed by a wildcard or by *.") \
	X(SR_ISTIO, "routed_istio", COUNTER, "Connections routed by an Istio server name.")     \
	X(SR_DEFAULT, "routed_default", COUNTER, "Connections that took default_cluster.")      \
	X(SR_NO_SNI, "no_sni", COUNTER, "Connections refused because they had no server name.") \
	X(SR_UNKNOWN, "unknown_sni", COUNTER,                                                   \
		"Connections refused: no route has their server name.")                         \
	X(SR_NO_CLUSTER, "no_cluster", COUNTER,                                                 \
		"Connections refused: their cluster does not exist.")

enum sni_router_stat { SNI_ROUTER_STATS(HB_STAT_ENUM) SNI_ROUTER_STAT_MAX };
HB_STAT_FAMILY(sni_router_family, "sni_router", "hbone_sni_router", "hbone_sni_router_prefix",
	SNI_ROUTER_STATS);

typedef Hbone__Filters__Network__SniRouter__SniRouter msg_router;
typedef Hbone__Filters__Network__SniRouter__SniRouter__Route msg_route;

/* RFC 8446, 5.1 and 6: a plaintext record, fatal, unrecognized_name. */
static const uint8_t alert_unrecognized_name[] = { 0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x70 };

struct sni_router_conf {
	unsigned magic;
#define SNI_ROUTER_CONF_MAGIC 0x3a77e019
	struct hb_stats *stats;    /* counted reference        */
	struct sni_routes *routes; /* owned                    */
	struct sni_format *istio;  /* owned; NULL = not asked for */
	char *dflt;                /* owned; "" = none         */
	bool alert;
};

struct decision {
	struct hb_str cluster;     /* len 0 = none                                */
	enum sni_router_stat stat; /* that counts it                              */
	const char *why;
	struct hb_text text; /* owns the cluster's name when it was made up */
};

/* ------------------------------------------------------------------ configuration */

static void
sni_router_conf_free(const void *conf)
{
	struct sni_router_conf *c;

	HB_CAST(c, (void *)conf, SNI_ROUTER_CONF_MAGIC);
	hb_stats_unref(&c->stats);
	sni_routes_free(&c->routes);
	sni_format_free(&c->istio);
	hb_free(c->dflt);
	HB_DEL(c);
}

static void
compile_route(struct hb_cfg *cfg, const msg_route *m, struct sni_routes *routes)
{
	struct hb_err err;

	if (*m->cluster == '\0')
		(void)hb_cfg_error(cfg, m, "cluster", -1, "must not be empty");
	hb_cfg_refers(cfg, m, "cluster", "cluster", m->cluster);
	if (m->n_server_names == 0)
		(void)hb_cfg_error(
			cfg, m, "server_names", -1, "is empty: name one server at least");
	for (size_t i = 0; i < m->n_server_names; i++) {
		memset(&err, 0, sizeof err);
		if (sni_routes_add(routes, hb_str(m->server_names[i]), m->cluster, &err) != 0)
			(void)hb_cfg_error(cfg, m, "server_names", (int)i, "\"%s\" %s",
				m->server_names[i], err.text);
	}
}

static void
compile_istio(struct hb_cfg *cfg, const msg_router *m, struct sni_router_conf *c)
{
	const char *text = m->istio->cluster_format;
	struct hb_str bad;

	c->istio = sni_format_new(hb_str(*text == '\0' ? "{sni}" : text), &bad);
	if (c->istio == NULL)
		(void)hb_cfg_error(cfg, m->istio, "cluster_format", -1,
			"%.*s is unknown; there are {port}, {subset}, {host} and {sni}",
			HB_STR_FMT(bad));
}

static int
sni_router_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, const void **ret_conf)
{
	const msg_router *m = (const void *)msg;
	struct hb_errs *errs = hb_cfg_errs(cfg);
	size_t before = errs->n + errs->dropped;
	struct sni_router_conf *c;

	HB_NEW(c, SNI_ROUTER_CONF_MAGIC);
	c->routes = sni_routes_new();
	c->dflt = hb_strdup(m->default_cluster);
	c->alert = m->alert_unrecognized_name;
	hb_cfg_refers(cfg, m, "default_cluster", "cluster", m->default_cluster);
	for (size_t i = 0; i < m->n_routes; i++)
		compile_route(cfg, m->routes[i], c->routes);
	if (m->istio != NULL)
		compile_istio(cfg, m, c);
	if (m->n_routes == 0 && m->istio == NULL && *c->dflt == '\0')
		(void)hb_cfg_error(
			cfg, m, NULL, -1, "routes nothing: set routes, istio or default_cluster");
	if (errs->n + errs->dropped != before) {
		sni_router_conf_free(c);
		return (-EINVAL);
	}
	c->stats = hb_stats_get(&sni_router_family, hb_str(m->stat_prefix));
	*ret_conf = c;
	return (0);
}

/* ------------------------------------------------------------------ deciding */

static bool
decide_istio(const struct sni_router_conf *c, struct hb_str sni, struct decision *d)
{
	struct sni_istio istio;

	if (c->istio == NULL || !sni_istio_parse(sni, &istio))
		return (false);
	sni_format_write(c->istio, sni, &istio, &d->text);
	d->cluster = hb_strn(d->text.p, d->text.len);
	d->stat = SR_ISTIO;
	d->why = "Istio server name";
	return (true);
}

static void
decide(const struct sni_router_conf *c, struct hb_str sni, struct decision *d)
{
	const char *cluster, *kind;

	memset(d, 0, sizeof *d);
	if (sni.len > 0 && (cluster = sni_routes_find(c->routes, sni, &kind)) != NULL) {
		d->cluster = hb_str(cluster);
		d->stat = *kind == 'e' ? SR_EXACT : SR_WILDCARD;
		d->why = kind;
	} else if (sni.len > 0 && decide_istio(c, sni, d)) {
		/* decided */
	} else if (*c->dflt != '\0') {
		d->cluster = hb_str(c->dflt);
		d->stat = SR_DEFAULT;
		d->why = "default_cluster";
	} else {
		d->stat = sni.len > 0 ? SR_UNKNOWN : SR_NO_SNI;
		d->why = sni.len > 0 ? "no route has this server name" : "no server name";
	}
	/* Anybody can make up an Istio name; a route of ours to a cluster that is not there is a
	 * mistake of ours. */
	if (d->cluster.len > 0 && !hb_dial_cluster_exists(d->cluster)) {
		d->stat = d->stat == SR_ISTIO ? SR_UNKNOWN : SR_NO_CLUSTER;
		d->why = "its cluster does not exist";
		d->cluster.len = 0;
	}
}

/* ------------------------------------------------------------------ slots */

static void
refuse(struct hb_filter *f, const struct decision *d)
{
	const struct sni_router_conf *c = hb_filter_conf(f);
	enum hb_close_reason reason = d->stat == SR_NO_CLUSTER ? HB_CLOSE_NO_CLUSTER :
								 HB_CLOSE_UNKNOWN_SNI;
	struct hb_buf buf = { NULL, NULL, 0 };
	struct hb_slice slice;

	HB_LOG(FILTER, DEBUG, "sni_router: refused", "id=%llu sni=%.*s why=%s",
		(unsigned long long)hb_filter_conn_id(f),
		HB_STR_FMT(hb_facts_hello(hb_filter_facts(f))->sni), d->why);
	if (!c->alert) {
		hb_filter_close(f, reason);
		return;
	}
	hb_buf_borrow(&buf, &slice, alert_unrecognized_name, sizeof alert_unrecognized_name);
	hb_filter_write(f, &buf, true);
	hb_filter_finish(f, reason);
}

static enum hb_filter_status
sni_router_on_secured(struct hb_filter *f)
{
	const struct sni_router_conf *c = hb_filter_conf(f);
	struct hb_facts *facts = hb_filter_facts(f);
	enum hb_filter_status st = HB_FILTER_CONTINUE;
	struct decision d;

	decide(c, hb_facts_hello(facts)->sni, &d);
	hb_stat_inc(hb_filter_worker(f), c->stats, d.stat);
	if (d.cluster.len == 0) {
		refuse(f, &d);
		st = HB_FILTER_STOP;
	} else if (!hb_facts_state_set(
			   facts, hb_str(HB_STATE_TCP_PROXY_CLUSTER), d.cluster, false, 0)) {
		/* It must not go on with another cluster than ours. */
		hb_filter_close(f, HB_CLOSE_NO_ROUTE);
		st = HB_FILTER_STOP;
	}
	hb_text_fini(&d.text);
	return (st);
}

static void
sni_router_explain(const void *conf, const struct hb_facts *facts, struct hb_explain *ex)
{
	struct decision d;

	decide(conf, hb_facts_hello(facts)->sni, &d);
	if (d.cluster.len > 0) {
		(void)hb_facts_state_set(hb_explain_facts(ex), hb_str(HB_STATE_TCP_PROXY_CLUSTER),
			d.cluster, false, 0);
		hb_explain_step(ex, "filter", "sni_router", "pass",
			"tcp_proxy shall use cluster %.*s (%s)", HB_STR_FMT(d.cluster), d.why);
	} else {
		hb_explain_step(ex, "filter", "sni_router", "refused", "%s", d.why);
		hb_explain_stop(ex);
	}
	hb_text_fini(&d.text);
}

const struct hb_filter_type hb_filter_sni_router = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.kind = HB_FILTER_NETWORK,
	.name = "hbone.filters.network.sni_router",
	.config = &hbone__filters__network__sni_router__sni_router__descriptor,
	.compile = sni_router_compile,
	.conf_free = sni_router_conf_free,
	.on_secured = sni_router_on_secured,
	.explain = sni_router_explain,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* From the message to the frozen configuration. */
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb-c.h"
#include "filters/network/tcp_proxy/tcp_proxy_priv.h"

#define IDLE_MS        3600000u
#define ATTEMPTS_MAX   1000u
#define EARLY_MAX      (1024u * 1024u)
#define BACKOFF_FACTOR 10u

typedef Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy msg_proxy;
typedef Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy__WeightedCluster msg_weighted;
typedef Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy__TcpAccessLogOptions msg_log;

HB_STAT_FAMILY(tcp_proxy_family, "tcp", "envoy_tcp", "envoy_tcp_prefix", TCP_PROXY_STATS);

static void
add_cluster(struct tcp_proxy_conf *c, const char *name, uint32_t weight)
{
	struct tcp_proxy_weight *w = &c->cluster[c->n_clusters];

	w->cluster = hb_strdup(name);
	w->upto = weight + (c->n_clusters == 0 ? 0 : c->cluster[c->n_clusters - 1].upto);
	c->n_clusters++;
}

static void
compile_weighted(struct hb_cfg *cfg, const msg_weighted *m, struct tcp_proxy_conf *c)
{
	if (m->n_clusters == 0)
		(void)hb_cfg_error(cfg, m, "clusters", -1, "is empty: name one cluster at least");
	c->cluster = hb_calloc(m->n_clusters, sizeof *c->cluster);
	for (size_t i = 0; i < m->n_clusters; i++) {
		if (*m->clusters[i]->name == '\0')
			(void)hb_cfg_error(cfg, m->clusters[i], "name", -1, "must not be empty");
		if (m->clusters[i]->weight == 0)
			(void)hb_cfg_error(cfg, m->clusters[i], "weight", -1,
				"must be at least 1; to take a cluster out, remove its entry");
		add_cluster(c, m->clusters[i]->name, m->clusters[i]->weight);
		hb_cfg_refers(cfg, m->clusters[i], "name", "cluster", m->clusters[i]->name);
	}
}

static void
compile_clusters(struct hb_cfg *cfg, const msg_proxy *m, struct tcp_proxy_conf *c)
{
	switch (m->cluster_specifier_case) {
	case ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__TCP_PROXY__CLUSTER_SPECIFIER_CLUSTER:
		if (*m->cluster == '\0')
			(void)hb_cfg_error(cfg, m, "cluster", -1, "must not be empty");
		c->cluster = hb_calloc(1, sizeof *c->cluster);
		add_cluster(c, m->cluster, 1);
		hb_cfg_refers(cfg, m, "cluster", "cluster", m->cluster);
		return;
	case ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__TCP_PROXY__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS:
		compile_weighted(cfg, m->weighted_clusters, c);
		return;
	default:
		(void)hb_cfg_error(cfg, m, NULL, -1,
			"names no cluster: set cluster or weighted_clusters; with sni_cluster or sni_router "
			"before it, cluster is what takes the connections that those leave alone");
	}
}

static void
compile_backoff(struct hb_cfg *cfg, const msg_proxy *m, struct tcp_proxy_conf *c)
{
	if (m->backoff_options == NULL)
		return;
	c->backoff_ms = hb_cfg_duration_ms(
		cfg, m->backoff_options, "base_interval", m->backoff_options->base_interval, 0);
	if (c->backoff_ms == 0)
		(void)hb_cfg_error(cfg, m->backoff_options, "base_interval", -1,
			"is required and at least 1 ms");
	c->backoff_max_ms = hb_cfg_duration_ms(cfg, m->backoff_options, "max_interval",
		m->backoff_options->max_interval, c->backoff_ms * BACKOFF_FACTOR);
	if (c->backoff_max_ms < c->backoff_ms)
		(void)hb_cfg_error(
			cfg, m->backoff_options, "max_interval", -1, "is below base_interval");
}

static void
compile_connect(struct hb_cfg *cfg, const msg_proxy *m, struct tcp_proxy_conf *c)
{
	c->attempts = hb_cfg_u32(
		cfg, m, "max_connect_attempts", m->max_connect_attempts, 1, ATTEMPTS_MAX, 1);
	compile_backoff(cfg, m, c);
	c->early_max = hb_cfg_u32(
		cfg, m, "max_early_data_bytes", m->max_early_data_bytes, 0, EARLY_MAX, 0);
	c->wait_for_data = m->upstream_connect_mode ==
		ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__UPSTREAM_CONNECT_MODE__ON_DOWNSTREAM_DATA;
	if (c->wait_for_data && c->early_max == 0)
		(void)hb_cfg_error(cfg, m, "max_early_data_bytes", -1,
			"must be set and above 0 with upstream_connect_mode ON_DOWNSTREAM_DATA");
}

static void
compile_log(struct hb_cfg *cfg, const msg_proxy *m, struct tcp_proxy_conf *c)
{
	const msg_log *o = m->access_log_options;
	bool ok;

	c->log = hb_access_log_compile(
		cfg, m, "access_log", (void *const *)m->access_log, m->n_access_log, &ok);
	if (o == NULL)
		return;
	c->log_interval_ms = hb_cfg_duration_ms(
		cfg, o, "access_log_flush_interval", o->access_log_flush_interval, 0);
	if (o->access_log_flush_interval != NULL && c->log_interval_ms == 0)
		(void)hb_cfg_error(
			cfg, o, "access_log_flush_interval", -1, "must be at least 1 ms");
	c->log_connected = o->flush_access_log_on_connected;
	c->log_start = o->flush_access_log_on_start;
}

int
tcp_proxy_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, const void **ret_conf)
{
	const msg_proxy *m = (const void *)msg;
	struct hb_errs *errs = hb_cfg_errs(cfg);
	size_t before = errs->n + errs->dropped;
	struct tcp_proxy_conf *c;

	HB_NEW(c, TCP_PROXY_CONF_MAGIC);
	if (*m->stat_prefix == '\0')
		(void)hb_cfg_error(cfg, m, "stat_prefix", -1, "must not be empty");
	compile_clusters(cfg, m, c);
	compile_connect(cfg, m, c);
	compile_log(cfg, m, c);
	if (m->tunneling_config != NULL)
		c->tunnel = tcp_proxy_tunnel_compile(cfg, m->tunneling_config);
	c->idle_ms = hb_cfg_duration_ms(cfg, m, "idle_timeout", m->idle_timeout, IDLE_MS);
	c->duration_ms = hb_cfg_duration_ms(cfg, m, "max_downstream_connection_duration",
		m->max_downstream_connection_duration, 0);
	if (m->max_downstream_connection_duration != NULL && c->duration_ms == 0)
		(void)hb_cfg_error(
			cfg, m, "max_downstream_connection_duration", -1, "must be at least 1 ms");
	if (errs->n + errs->dropped != before) {
		tcp_proxy_conf_free(c);
		return (-EINVAL);
	}
	c->stats = hb_stats_get(&tcp_proxy_family, hb_str(m->stat_prefix));
	*ret_conf = c;
	return (0);
}

void
tcp_proxy_conf_free(const void *conf)
{
	struct tcp_proxy_conf *c;

	HB_CAST(c, (void *)conf, TCP_PROXY_CONF_MAGIC);
	for (size_t i = 0; i < c->n_clusters; i++)
		hb_free(c->cluster[i].cluster);
	hb_free(c->cluster);
	if (c->log != NULL)
		hb_access_log_free(&c->log);
	tcp_proxy_tunnel_free(&c->tunnel);
	if (c->stats != NULL)
		hb_stats_unref(&c->stats);
	HB_DEL(c);
}

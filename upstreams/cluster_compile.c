/* SPDX-License-Identifier: Apache-2.0 */
#include "core/filter/socket_options.h"
#include "hbone/config/cluster_options.pb-c.h"
#include "upstreams/compile.h"
#include "upstreams/hbone.h"
#include "upstreams/internal.h"

#define ORIG_HEADER "x-envoy-original-dst-host" /* Envoy's */

typedef Envoy__Config__Cluster__V3__Cluster Cluster;

#define CLUSTER_NAME_MAX   1024u
#define CONNECT_TIMEOUT_MS 5000u
#define MATCHES_MAX        256u
#define LIMIT_DEFAULT      1024u
#define RETRIES_DEFAULT    3u
#define CLEANUP_MS         5000u
#define LISTED_MAX         16384u
#define DNS_ADDRS_MAX      256u
#define OPTIONS_KEY        "hbone.cluster"

/* ------------------------------------------------------------------ type and policy */

static int
type(struct hb_cfg *cfg, const Cluster *m, struct hb_cluster *c)
{
	static const enum hb_cluster_type types[] = {
		[ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DISCOVERY_TYPE__STATIC] = HB_CLUSTER_STATIC,
		[ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DISCOVERY_TYPE__STRICT_DNS] =
			HB_CLUSTER_STRICT_DNS,
		[ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DISCOVERY_TYPE__LOGICAL_DNS] =
			HB_CLUSTER_LOGICAL_DNS,
		[ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST] =
			HB_CLUSTER_ORIGINAL_DST,
	};

	if (m->cluster_discovery_type_case ==
		ENVOY__CONFIG__CLUSTER__V3__CLUSTER__CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE)
		return (hb_compile_dns_cluster(
			cfg, m->cluster_type, m->cluster_type->typed_config, c));
	if (m->cluster_discovery_type_case ==
		ENVOY__CONFIG__CLUSTER__V3__CLUSTER__CLUSTER_DISCOVERY_TYPE__NOT_SET)
		return (0);
	if (m->type == ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DISCOVERY_TYPE__EDS)
		return (hb_cfg_error(cfg, m, "type", -1,
			"EDS needs a management server, which is not supported yet; use STATIC, STRICT_DNS, "
			"LOGICAL_DNS or ORIGINAL_DST"));
	if ((size_t)m->type >= HB_ARRAY_LEN(types))
		return (hb_cfg_error(
			cfg, m, "type", -1, "%d is no type of a cluster", (int)m->type));
	c->type = types[m->type];
	return (hb_compile_dns(cfg, m, c));
}

static int
policy(struct hb_cfg *cfg, const Cluster *m, struct hb_cluster *c)
{
	bool provided = m->lb_policy ==
		ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__CLUSTER_PROVIDED;

	c->lb = &hb_lb_round_robin;
	c->lb_settings.choice_count = 2;
	if (provided != (c->type == HB_CLUSTER_ORIGINAL_DST))
		return (hb_cfg_error(cfg, m, "lb_policy", -1,
			provided ? "CLUSTER_PROVIDED is for clusters of type ORIGINAL_DST" :
				   "must be CLUSTER_PROVIDED in a cluster of type ORIGINAL_DST"));
	switch (m->lb_policy) {
	case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__ROUND_ROBIN:
	case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__CLUSTER_PROVIDED:
		break;
	case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__LEAST_REQUEST:
		c->lb = &hb_lb_least_request;
		break;
	case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__RANDOM:
		c->lb = &hb_lb_random;
		break;
	default:
		return (hb_cfg_error(cfg, m, "lb_policy", -1,
			"is not supported yet; use ROUND_ROBIN, LEAST_REQUEST or RANDOM"));
	}
	if (m->lb_config_case ==
		ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_CONFIG_LEAST_REQUEST_LB_CONFIG)
		c->lb_settings.choice_count = hb_cfg_u32(cfg, m->least_request_lb_config,
			"choice_count", m->least_request_lb_config->choice_count, 2, 100, 2);
	return (0);
}

static int
common_lb(struct hb_cfg *cfg, const Cluster *m, struct hb_cluster *c)
{
	const Envoy__Config__Cluster__V3__Cluster__CommonLbConfig *l = m->common_lb_config;
	double percent = 50;

	if (l != NULL && l->healthy_panic_threshold != NULL)
		percent = l->healthy_panic_threshold->value;
	if (!(percent >= 0 && percent <= 100))
		return (hb_cfg_error(cfg, l, "healthy_panic_threshold", -1, "must be 0 to 100"));
	c->lb_settings.panic_percent = (unsigned)percent;
	c->lb_settings.locality_weighted = l != NULL &&
		l->locality_config_specifier_case ==
			ENVOY__CONFIG__CLUSTER__V3__CLUSTER__COMMON_LB_CONFIG__LOCALITY_CONFIG_SPECIFIER_LOCALITY_WEIGHTED_LB_CONFIG;
	return (0);
}

/* ------------------------------------------------------------------ ORIGINAL_DST */

static int
original(struct hb_cfg *cfg, const Cluster *m, struct hb_cluster *c)
{
	const Envoy__Config__Cluster__V3__Cluster__OriginalDstLbConfig *o;
	const Envoy__Type__Metadata__V3__MetadataKey *k;

	c->orig.cleanup_ms = hb_cfg_duration_ms(
		cfg, m, "cleanup_interval", m->cleanup_interval, CLEANUP_MS);
	if (c->orig.cleanup_ms == 0)
		return (hb_cfg_error(cfg, m, "cleanup_interval", -1, "must be above 0"));
	if (m->lb_config_case !=
		ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_CONFIG_ORIGINAL_DST_LB_CONFIG)
		return (0);
	o = m->original_dst_lb_config;
	if (c->type != HB_CLUSTER_ORIGINAL_DST)
		return (hb_cfg_error(cfg, m, "original_dst_lb_config", -1,
			"has an effect in clusters of type ORIGINAL_DST only"));
	if (o->upstream_port_override != NULL) {
		c->orig.port_set = true;
		c->orig.port = (uint16_t)hb_cfg_u32(cfg, o, "upstream_port_override",
			o->upstream_port_override, 1, UINT16_MAX, 1);
	}
	if (*o->http_header_name != '\0' && !o->use_http_header)
		return (hb_cfg_error(cfg, o, "http_header_name", -1,
			"has no effect without use_http_header: true"));
	if (o->use_http_header) {
		c->orig.header = hb_strdup(
			*o->http_header_name == '\0' ? ORIG_HEADER : o->http_header_name);
		hb_str_lower(c->orig.header, strlen(c->orig.header));
	}
	k = o->metadata_key;
	if (k == NULL)
		return (0);
	if (*k->key == '\0' || k->n_path != 1 || *k->path[0]->key == '\0')
		return (hb_cfg_error(cfg, o, "metadata_key", -1,
			"needs a key (the namespace) and one path "
			"segment: metadata of a connection are plain texts"));
	c->orig.metadata_ns = hb_strdup(k->key);
	c->orig.metadata_key = hb_strdup(k->path[0]->key);
	return (0);
}

/* ------------------------------------------------------------------ connections */

static int
limits(struct hb_cfg *cfg, const Cluster *m, struct hb_cluster *c)
{
	const Envoy__Config__Cluster__V3__CircuitBreakers *b = m->circuit_breakers;
	bool seen[2] = { false, false };
	int r = 0;

	c->limits[0] = c->limits[1] = (struct hb_limits){ LIMIT_DEFAULT, LIMIT_DEFAULT,
		LIMIT_DEFAULT, RETRIES_DEFAULT };
	for (size_t i = 0; b != NULL && i < b->n_thresholds; i++) {
		const Envoy__Config__Cluster__V3__CircuitBreakers__Thresholds *t = b->thresholds[i];
		unsigned p = t->priority == ENVOY__CONFIG__CORE__V3__ROUTING_PRIORITY__HIGH;

		if (seen[p])
			r = hb_cfg_error(cfg, b, "thresholds", (int)i,
				"has the same priority as one before it");
		seen[p] = true;
		c->limits[p] = (struct hb_limits){
			hb_cfg_u32(cfg, t, "max_connections", t->max_connections, 0, UINT32_MAX,
				LIMIT_DEFAULT),
			hb_cfg_u32(cfg, t, "max_pending_requests", t->max_pending_requests, 0,
				UINT32_MAX, LIMIT_DEFAULT),
			hb_cfg_u32(cfg, t, "max_requests", t->max_requests, 0, UINT32_MAX,
				LIMIT_DEFAULT),
			hb_cfg_u32(cfg, t, "max_retries", t->max_retries, 0, UINT32_MAX,
				RETRIES_DEFAULT),
		};
	}
	return (r);
}

/* Before bind is the only time that an option can be set here. */
static int
socket_option(struct hb_cfg *cfg, const Envoy__Config__Core__V3__SocketOption *m,
	struct hb_tcp_sockopt *o)
{
	int r = hb_socket_option_compile(cfg, m, o);

	if (m->state != ENVOY__CONFIG__CORE__V3__SOCKET_OPTION__SOCKET_STATE__STATE_PREBIND)
		r = hb_cfg_error(cfg, m, "state", -1, "must be STATE_PREBIND");
	return (r);
}

static int
socket_options(
	struct hb_cfg *cfg, const Envoy__Config__Core__V3__BindConfig *b, struct hb_cluster *c)
{
	int r = 0;

	if (b->n_socket_options > HB_SOCKET_OPTIONS_MAX)
		return (hb_cfg_error(cfg, b, "socket_options", -1, "has more than %u entries",
			HB_SOCKET_OPTIONS_MAX));
	for (size_t i = 0; i < b->n_socket_options; i++)
		r |= socket_option(
			cfg, b->socket_options[i], &c->bind.options[c->bind.n_options++]);
	return (r);
}

static int
source(struct hb_cfg *cfg, const Cluster *m, struct hb_cluster *c)
{
	const Envoy__Config__Core__V3__BindConfig *b = m->upstream_bind_config;
	const Envoy__Config__Core__V3__SocketAddress *s;
	struct hb_addr a;
	int r;

	if (b == NULL)
		return (0);
	c->bind.freebind = hb_cfg_bool(b->freebind, false);
	r = socket_options(cfg, b, c);
	s = b->source_address;
	if (s == NULL)
		return (r);
	if (!hb_addr_parse_ip(hb_str(s->address), &a))
		return (hb_cfg_error(
			cfg, s, "address", -1, "\"%s\" is not an IP address", s->address));
	if (s->port_specifier_case ==
		ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE) {
		if (s->port_value > UINT16_MAX)
			return (hb_cfg_error(cfg, s, "port_value", -1, "must be below 65536"));
		a.port = (uint16_t)s->port_value;
	}
	c->bind.len = hb_addr_to_sockaddr(&a, &c->bind.from);
	return (r);
}

static int
connections(struct hb_cfg *cfg, const Cluster *m, struct hb_cluster *c)
{
	const Envoy__Config__Cluster__V3__UpstreamConnectionOptions *o =
		m->upstream_connection_options;
	int r = 0;

	c->connect_timeout_ms = hb_cfg_duration_ms(
		cfg, m, "connect_timeout", m->connect_timeout, CONNECT_TIMEOUT_MS);
	if (c->connect_timeout_ms == 0)
		r = hb_cfg_error(cfg, m, "connect_timeout", -1, "must be above 0");
	c->buffer_high = hb_cfg_u32(cfg, m, "per_connection_buffer_limit_bytes",
		m->per_connection_buffer_limit_bytes, 0, UINT32_MAX, 0);
	c->order.count = 1;
	if (o != NULL)
		hb_keepalive_compile(cfg, o->tcp_keepalive, &c->tcp);
	if (o != NULL && o->happy_eyeballs_config != NULL) {
		const Envoy__Config__Cluster__V3__UpstreamConnectionOptions__HappyEyeballsConfig
			*h = o->happy_eyeballs_config;
		static const uint8_t first[] = { HB_ADDR_NONE, HB_ADDR_V4, HB_ADDR_V6 };

		if ((size_t)h->first_address_family_version < HB_ARRAY_LEN(first))
			c->order.first = first[h->first_address_family_version];
		c->order.count = hb_cfg_u32(cfg, h, "first_address_family_count",
			h->first_address_family_count, 1, HB_EP_ADDRS_MAX, 1);
	}
	return (r);
}

static int
sockets(struct hb_cfg *cfg, const Cluster *m, struct hb_cluster *c)
{
	int r = hb_transport_socket_compile(
		cfg, m, "transport_socket", m->transport_socket, true, &c->socket);

	if (m->n_transport_socket_matches > MATCHES_MAX)
		return (hb_cfg_error(cfg, m, "transport_socket_matches", -1,
			"has more than %u entries", MATCHES_MAX));
	c->matches = hb_calloc(m->n_transport_socket_matches + 1, sizeof *c->matches);
	for (size_t i = 0; i < m->n_transport_socket_matches; i++) {
		const Envoy__Config__Cluster__V3__Cluster__TransportSocketMatch *t =
			m->transport_socket_matches[i];
		struct hb_socket_match *s = &c->matches[c->n_matches++];

		s->name = hb_strdup(t->name);
		r |= hb_transport_socket_compile(
			cfg, t, "transport_socket", t->transport_socket, true, &s->socket);
	}
	return (r);
}

/* ------------------------------------------------------------------ our own options */

static int
options(struct hb_cfg *cfg, const Cluster *m, struct hb_cluster *c)
{
	const Envoy__Config__Core__V3__Metadata *md = m->metadata;
	int r = 0;

	c->orig.listed_max = LISTED_MAX;
	c->dns.addrs_max = DNS_ADDRS_MAX;
	for (size_t i = 0; md != NULL && i < md->n_typed_filter_metadata; i++) {
		const Hbone__Config__ClusterOptions *o;

		if (strcmp(md->typed_filter_metadata[i]->key, OPTIONS_KEY) != 0)
			continue;
		o = hb_cfg_any_of(cfg, md, "typed_filter_metadata", (int)i,
			md->typed_filter_metadata[i]->value,
			&hbone__config__cluster_options__descriptor);
		if (o == NULL) {
			r = -EINVAL;
			continue;
		}
		c->orig.listed_max = hb_cfg_u32(cfg, o, "max_original_dst_addresses",
			o->max_original_dst_addresses, 0, 1000000, LISTED_MAX);
		c->dns.addrs_max = hb_cfg_u32(cfg, o, "max_dns_addresses", o->max_dns_addresses, 1,
			UINT16_MAX, DNS_ADDRS_MAX);
		r |= hb_congestion_compile(cfg, o, "tcp_congestion", o->tcp_congestion, &c->tcp);
	}
	return (r);
}

/* ------------------------------------------------------------------ the whole */

static int
fill(struct hb_cfg *cfg, const Cluster *m, struct hb_cluster *c)
{
	int r = 0;

	if (*m->name == '\0')
		r = hb_cfg_error(cfg, m, NULL, -1, "name is missing");
	else if (strlen(m->name) > CLUSTER_NAME_MAX)
		r = hb_cfg_error(cfg, m, "name", -1, "has more than %u bytes", CLUSTER_NAME_MAX);
	r |= type(cfg, m, c);
	r |= policy(cfg, m, c);
	r |= common_lb(cfg, m, c);
	r |= original(cfg, m, c);
	r |= options(cfg, m, c);
	r |= limits(cfg, m, c);
	r |= source(cfg, m, c);
	r |= connections(cfg, m, c);
	r |= sockets(cfg, m, c);
	r |= hb_compile_http2(cfg, m, c);
	c->n_meta = hb_meta_compile(m->metadata, &c->meta);
	r |= hb_compile_endpoints(cfg, m, c);
	return (r);
}

static size_t
errors(struct hb_cfg *cfg)
{
	return (hb_cfg_errs(cfg)->n + hb_cfg_errs(cfg)->dropped);
}

struct hb_cluster *
hb_cluster_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg)
{
	const Cluster *m = (const void *)msg;
	size_t before = errors(cfg);
	struct hb_cluster *c;

	HB_NEW(c, HB_CLUSTER_MAGIC);
	hb_list_init(&c->node);
	c->name = hb_strdup(m->name);
	c->stat_name = hb_strdup(*m->alt_stat_name == '\0' ? m->name : m->alt_stat_name);
	if (fill(cfg, m, c) == 0 && errors(cfg) == before)
		return (c);
	hb_cluster_free(c);
	return (NULL);
}

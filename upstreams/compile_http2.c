/* SPDX-License-Identifier: Apache-2.0 */
/* typed_extension_protocol_options of a cluster. */
#include "envoy/extensions/upstreams/http/v3/http_protocol_options.pb-c.h"
#include "upstreams/compile.h"
#include "upstreams/hbone.h"

typedef Envoy__Config__Cluster__V3__Cluster ClusterMsg;
typedef Envoy__Config__Core__V3__Http2ProtocolOptions Http2Msg;
typedef Envoy__Config__Core__V3__KeepaliveSettings KeepaliveMsg;
typedef Envoy__Extensions__Upstreams__Http__V3__HttpProtocolOptions OptionsMsg;
typedef Envoy__Extensions__Upstreams__Http__V3__HttpProtocolOptions__ExplicitHttpConfig ExplicitMsg;

#define KEY        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
#define WINDOW_MIN 65535u
#define WINDOW_MAX 0x7fffffffu

static int
keepalive(struct hb_cfg *cfg, const KeepaliveMsg *k, struct hb_h2_options *o)
{
	if (k == NULL || k->interval == NULL)
		return (0);
	o->keepalive_interval_ms = hb_cfg_duration_ms(cfg, k, "interval", k->interval, 0);
	o->keepalive_timeout_ms = hb_cfg_duration_ms(cfg, k, "timeout", k->timeout, 0);
	if (o->keepalive_interval_ms == 0)
		return (hb_cfg_error(cfg, k, "interval", -1, "must be at least 1 ms"));
	if (o->keepalive_timeout_ms == 0)
		return (hb_cfg_error(cfg, k, "timeout", -1, "must be at least 1 ms"));
	return (0);
}

static int
http2(struct hb_cfg *cfg, const Http2Msg *m, struct hb_tunnels_conf *t)
{
	t->streams_max = hb_cfg_u32(cfg, m, "max_concurrent_streams", m->max_concurrent_streams, 1,
		WINDOW_MAX, t->streams_max);
	t->h2.stream_window = hb_cfg_u32(cfg, m, "initial_stream_window_size",
		m->initial_stream_window_size, WINDOW_MIN, WINDOW_MAX, 0);
	t->h2.stream_window_max = t->h2.stream_window; /* 0: the default range */
	t->h2.session_window = hb_cfg_u32(cfg, m, "initial_connection_window_size",
		m->initial_connection_window_size, WINDOW_MIN, WINDOW_MAX, 0);
	return (keepalive(cfg, m->connection_keepalive, &t->h2));
}

static int
options(struct hb_cfg *cfg, const OptionsMsg *m, struct hb_cluster *c)
{
	const Envoy__Config__Core__V3__HttpProtocolOptions *common =
		m->common_http_protocol_options;
	const ExplicitMsg *e = m->explicit_http_config;
	struct hb_tunnels_conf *t;

	if (m->upstream_protocol_options_case !=
			ENVOY__EXTENSIONS__UPSTREAMS__HTTP__V3__HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG ||
		e->protocol_config_case !=
			ENVOY__EXTENSIONS__UPSTREAMS__HTTP__V3__HTTP_PROTOCOL_OPTIONS__EXPLICIT_HTTP_CONFIG__PROTOCOL_CONFIG_HTTP2_PROTOCOL_OPTIONS)
		return (hb_cfg_error(cfg, m, NULL, -1,
			"needs explicit_http_config with http2_protocol_options"));
	t = hb_calloc(1, sizeof *t);
	hb_tunnels_defaults(t);
	c->http2 = t;
	/* Envoy has no such limit; tcp_proxy's max_connect_attempts decides what comes then. */
	t->answer_ms = c->connect_timeout_ms;
	if (common != NULL) {
		t->h2.idle_timeout_ms = hb_cfg_duration_ms(
			cfg, common, "idle_timeout", common->idle_timeout, t->h2.idle_timeout_ms);
		t->requests_max = hb_cfg_u32(cfg, common, "max_requests_per_connection",
			common->max_requests_per_connection, 0, UINT32_MAX, 0);
	}
	return (http2(cfg, e->http2_protocol_options, t));
}

int
hb_compile_http2(struct hb_cfg *cfg, const void *cluster_msg, struct hb_cluster *c)
{
	const ClusterMsg *m = cluster_msg;
	const OptionsMsg *o;
	int r = 0;

	for (size_t i = 0; i < m->n_typed_extension_protocol_options; i++) {
		const Envoy__Config__Cluster__V3__Cluster__TypedExtensionProtocolOptionsEntry *e =
			m->typed_extension_protocol_options[i];

		if (strcmp(e->key, KEY) != 0) {
			r = hb_cfg_error(cfg, m, "typed_extension_protocol_options", (int)i,
				"\"%s\" is not known; the only key is " KEY, e->key);
			continue;
		}
		o = hb_cfg_any_of(cfg, m, "typed_extension_protocol_options", (int)i, e->value,
			&envoy__extensions__upstreams__http__v3__http_protocol_options__descriptor);
		r |= o == NULL ? -EINVAL : options(cfg, o, c);
	}
	return (r);
}

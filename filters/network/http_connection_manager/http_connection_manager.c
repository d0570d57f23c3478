/* SPDX-License-Identifier: Apache-2.0 */
/* Envoy's connection manager, compiled to the tunnel server of hbone_server. */
#include "core/filter/explain.h"
#include "envoy/extensions/filters/http/router/v3/router.pb-c.h"
#include "envoy/extensions/filters/http/set_filter_state/v3/set_filter_state.pb-c.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb-c.h"
#include "filters/network/hbone_server/runtime.h"
#include "filters/network/http_connection_manager/route.h"
#include "filters/network/set_filter_state/values.h"

#define IDLE_MS     300000u /* Envoy's defaults */
#define CX_IDLE_MS  3600000u
#define HEADERS_KB  60u
#define STREAMS_MAX 1000000u
#define KB          1024u

typedef Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpConnectionManager
	msg_hcm;
typedef Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpFilter msg_filter;
typedef Envoy__Extensions__Filters__Http__SetFilterState__V3__Config msg_state;
typedef Envoy__Config__Core__V3__Http2ProtocolOptions msg_http2;

struct hcm_conf {
	struct hb_hbone_conf base;
	struct hcm_routes *routes;     /* owned */
	struct hb_state_values *state; /* owned array: of the HTTP filters, in order */
	size_t n_state;
};

static void
hcm_choose(const void *arg, const struct hb_tunnel_request *r, struct hb_facts *f,
	struct hb_hbone_way *way)
{
	const struct hcm_conf *c = arg;
	struct hb_log_entry e = { .facts = f };
	struct hcm_found found = hcm_routes_find(c->routes, r->http);

	way->chain = found.chain;
	if (found.status != 0) {
		way->refuse = HB_CLOSE_LOCAL_CLOSE;
		way->status = found.status;
		way->why = "direct_response";
	} else if (way->chain == NULL) {
		way->refuse = found.forbidden ? HB_CLOSE_RBAC_DENIED : HB_CLOSE_NO_ROUTE;
		way->why = found.forbidden ? "CONNECT is not allowed here" : "route_not_found";
	}
	if (way->chain == NULL)
		return;
	for (size_t i = 0; i < c->n_state; i++)
		hb_state_values_set(&c->state[i], f, &e);
}

/* ------------------------------------------------------------------ compiling */

static void
hcm_conf_free(const void *conf)
{
	struct hcm_conf *c = (void *)(uintptr_t)conf;

	hcm_routes_free(&c->routes);
	for (size_t i = 0; i < c->n_state; i++)
		hb_state_values_fini(&c->state[i]);
	hb_free(c->state);
	hb_hbone_conf_fini(&c->base);
	c->base.magic = 0;
	hb_free(c);
}

static void
compile_http2(struct hb_cfg *cfg, const msg_hcm *hcm, struct hb_h2_options *o)
{
	const msg_http2 none = ENVOY__CONFIG__CORE__V3__HTTP2_PROTOCOL_OPTIONS__INIT;
	const msg_http2 *m = hcm->http2_protocol_options == NULL ? &none :
								   hcm->http2_protocol_options;
	const Envoy__Config__Core__V3__HttpProtocolOptions *common =
		hcm->common_http_protocol_options;
	const Envoy__Config__Core__V3__KeepaliveSettings *k = m->connection_keepalive;

#define U32(to, field, min, max, dflt) o->to = hb_cfg_u32(cfg, m, #field, m->field, min, max, dflt)
	U32(streams_max, max_concurrent_streams, 1, STREAMS_MAX, 1024);
	U32(stream_window, initial_stream_window_size, 65535, INT32_MAX, 256 * KB);
	if (m->initial_stream_window_size != NULL)
		o->stream_window_max = o->stream_window;
	U32(session_window, initial_connection_window_size, 65535, INT32_MAX, 16 * KB * KB);
#undef U32
	if (k != NULL) {
		o->keepalive_interval_ms = hb_cfg_duration_ms(cfg, k, "interval", k->interval, 0);
		if (k->timeout == NULL)
			(void)hb_cfg_error(cfg, k, "timeout", -1, "is required");
		o->keepalive_timeout_ms = hb_cfg_duration_ms(cfg, k, "timeout", k->timeout, 0);
	}
	o->header_bytes_max = KB *
		hb_cfg_u32(cfg, hcm, "max_request_headers_kb", hcm->max_request_headers_kb, 1, 1024,
			HEADERS_KB);
	o->headers_timeout_ms = hb_cfg_duration_ms(
		cfg, hcm, "request_headers_timeout", hcm->request_headers_timeout, 0);
	o->idle_timeout_ms = common == NULL ?
		CX_IDLE_MS :
		hb_cfg_duration_ms(cfg, common, "idle_timeout", common->idle_timeout, CX_IDLE_MS);
}

static void
compile_filters(struct hb_cfg *cfg, const msg_hcm *m, struct hcm_conf *c)
{
	const ProtobufCMessage *msg;
	bool router = false;

	c->state = hb_calloc(m->n_http_filters + 1, sizeof *c->state);
	for (size_t i = 0; i < m->n_http_filters; i++) {
		const msg_filter *f = m->http_filters[i];

		msg = hb_cfg_any(cfg, f, "typed_config", -1, f->typed_config);
		if (msg == NULL)
			continue;
		if (router)
			(void)hb_cfg_error(cfg, f, NULL, -1,
				"stands behind the router, which must be the last");
		if (msg->descriptor ==
			&envoy__extensions__filters__http__router__v3__router__descriptor) {
			router = true;
		} else if (msg->descriptor ==
			&envoy__extensions__filters__http__set_filter_state__v3__config__descriptor) {
			const msg_state *s = (const void *)msg;

			hb_state_values_compile(cfg, s->on_request_headers, s->n_on_request_headers,
				&c->state[c->n_state++]);
		} else {
			(void)hb_cfg_error(cfg, f, "typed_config", -1,
				"%s is not a filter of tunnels: only set_filter_state and router are",
				msg->descriptor->name);
		}
	}
	if (!router)
		(void)hb_cfg_error(
			cfg, m, "http_filters", -1, "must end with envoy.filters.http.router");
}

static bool
allows_connect(struct hb_cfg *cfg, const msg_hcm *m)
{
	bool yes = false;

	for (size_t i = 0; i < m->n_upgrade_configs; i++) {
		if (hb_str_ieq(hb_str(m->upgrade_configs[i]->upgrade_type), HB_STR("CONNECT")))
			yes = hb_cfg_bool(m->upgrade_configs[i]->enabled, true);
		else
			(void)hb_cfg_error(cfg, m->upgrade_configs[i], "upgrade_type", -1,
				"must be CONNECT, others are not served");
	}
	return (yes);
}

static int
hcm_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, const void **ret)
{
	const msg_hcm *m = (const void *)msg;
	struct hb_errs *errs = hb_cfg_errs(cfg);
	size_t before = errs->n + errs->dropped;
	struct hcm_route_source src = { .stat_prefix = m->stat_prefix };
	struct hcm_conf *c = hb_calloc(1, sizeof *c);
	bool ok;

	hb_hbone_conf_init(&c->base, m->stat_prefix);
	if (*m->stat_prefix == '\0')
		(void)hb_cfg_error(cfg, m, "stat_prefix", -1, "must not be empty");
	if (m->codec_type >
			ENVOY__EXTENSIONS__FILTERS__NETWORK__HTTP_CONNECTION_MANAGER__V3__HTTP_CONNECTION_MANAGER__CODEC_TYPE__HTTP2 ||
		m->codec_type ==
			ENVOY__EXTENSIONS__FILTERS__NETWORK__HTTP_CONNECTION_MANAGER__V3__HTTP_CONNECTION_MANAGER__CODEC_TYPE__HTTP1)
		(void)hb_cfg_error(cfg, m, "codec_type", -1,
			"must be HTTP2 or AUTO: tunnels are served over HTTP/2");
	c->base.choose = hcm_choose;
	c->base.arg = c;
	c->base.keep_all = true;
	c->base.tunnel.h2.flavour = HB_H2_ENVOY;
	compile_http2(cfg, m, &c->base.tunnel.h2);
	compile_filters(cfg, m, c);
	src.idle_ms = hb_cfg_duration_ms(
		cfg, m, "stream_idle_timeout", m->stream_idle_timeout, IDLE_MS);
	src.connect = allows_connect(cfg, m);
	c->routes = hcm_routes_compile(cfg, m, m->route_config, &src);
	if (c->routes != NULL && hcm_routes_post(c->routes))
		c->base.tunnel.post_path = c->base.post_path = hb_strdup("/");
	c->base.log = hb_access_log_compile(
		cfg, m, "access_log", (void *const *)m->access_log, m->n_access_log, &ok);
	if (errs->n + errs->dropped != before || !ok) {
		hcm_conf_free(c);
		return (-EINVAL);
	}
	*ret = c;
	return (0);
}

/* ------------------------------------------------------------------ explaining */

static void
hcm_explain(const void *conf, const struct hb_facts *facts, struct hb_explain *ex)
{
	const struct hcm_conf *c = conf;
	struct hb_hbone_way way = { 0 };

	if (facts->authority.len == 0)
		hb_explain_step(ex, "filter", "http_connection_manager", "chosen",
			"serves HTTP/2; each CONNECT request goes where its route says");
	else if (hb_hbone_explain(&c->base, "http_connection_manager", ex, &way))
		hb_explain_step(ex, "filter", "http_connection_manager", "chosen", "route %s",
			hb_chain_name(way.chain));
	if (way.chain != NULL && way.refuse == HB_CLOSE_NONE)
		hb_chain_explain(way.chain, ex);
	hb_explain_stop(ex);
}

static const struct hb_chain *
hcm_chain_of(const void *conf, struct hb_judge *j)
{
	const struct hcm_conf *c = conf;

	return (hb_hbone_chain_of(&c->base, j));
}

const struct hb_filter_type hb_filter_http_connection_manager = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.flags = HB_FILTER_TERMINAL | HB_FILTER_CARRIER,
	.kind = HB_FILTER_NETWORK,
	.name = "hbone.filters.network.http_connection_manager",
	.alias = "envoy.filters.network.http_connection_manager",
	.config =
		&envoy__extensions__filters__network__http_connection_manager__v3__http_connection_manager__descriptor,
	.ctx_size = sizeof(struct hb_hbone),
	.compile = hcm_compile,
	.conf_free = hcm_conf_free,
	.on_secured = hb_hbone_on_secured,
	.on_event = hb_hbone_on_event,
	.fini = hb_hbone_fini,
	.explain = hcm_explain,
	.chain_of = hcm_chain_of,
};

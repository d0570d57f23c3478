/* SPDX-License-Identifier: Apache-2.0 */
/* hbone_server: its configuration, which authorities it takes, and their chains. */
#include <stdio.h>
#include <strings.h>
#include "core/filter/explain.h"
#include "filters/network/hbone_server/runtime.h"
#include "hbone/filters/network/hbone_server/hbone_server.pb-c.h"

#define PORTS_MAX     64u
#define ADDRESSES_MAX 64u
#define KEEP_MAX      32u
#define COUNT_MAX     1000000u

typedef Hbone__Filters__Network__HboneServer__HboneServer msg_server;
typedef Hbone__Filters__Network__HboneServer__HboneServer__Http2 msg_http2;
typedef Hbone__Filters__Network__HboneServer__HboneServer__Floods msg_floods;
typedef Hbone__Filters__Network__HboneServer__HboneServer__Workload msg_workload;

/* Of the mesh itself: what is sent there would come back. */
static const uint16_t own_ports[] = { 15001, 15006, 15008 };
/* What Istio's proxies send. */
static const char *const istio_headers[] = { "baggage", "forwarded", "traceparent",
	"x-forwarded-network", "x-istio-source" };

struct port_range {
	uint16_t first, last;
};

struct own_address { /* an address, or a name */
	struct hb_addr ip;
	char *name; /* owned; NULL = `ip` */
};

struct hbone_server_conf {
	struct hb_hbone_conf base;
	struct hb_chain_set *set; /* owned; NULL with `listener` */
	char *listener;           /* owned                       */
	bool workload, loopback;
	struct port_range port[PORTS_MAX];
	size_t n_ports;
	struct own_address address[ADDRESSES_MAX];
	size_t n_addresses;
	struct hb_string_matcher **allowed; /* owned; any of them     */
	size_t n_allowed;
};

/* ------------------------------------------------------------------ deciding */

static void
refuse(struct hb_hbone_way *way, enum hb_close_reason reason, const char *why)
{
	way->refuse = reason;
	way->why = why;
}

static bool
is_own_port(uint16_t port)
{
	for (size_t i = 0; i < HB_ARRAY_LEN(own_ports); i++)
		if (own_ports[i] == port)
			return (true);
	return (false);
}

static bool
is_open_port(const struct hbone_server_conf *c, uint16_t port)
{
	for (size_t i = 0; i < c->n_ports; i++)
		if (port >= c->port[i].first && port <= c->port[i].last)
			return (true);
	return (false);
}

static bool
is_own_address(const struct hbone_server_conf *c, const struct hb_authority *a,
	const struct hb_addr *arrived)
{
	if (a->is_ip && hb_addr_ip_eq(&a->ip, arrived))
		return (true);
	for (size_t i = 0; i < c->n_addresses; i++) {
		const struct own_address *o = &c->address[i];

		if (a->is_ip ? o->name == NULL && hb_addr_ip_eq(&a->ip, &o->ip) :
			       o->name != NULL && strcmp(o->name, a->host) == 0)
			return (true);
	}
	return (false);
}

/*
 * The stream is for the workload that the connection came to, and for nobody else. Of tunnels in
 * tunnels that is the outermost: peers choose what the others are said to have come to.
 */
static void
check_workload(const struct hbone_server_conf *c, const struct hb_authority *a, struct hb_facts *f,
	struct hb_hbone_way *way)
{
	struct hb_addr arrived = hb_facts_root(f)->local;
	char text[HB_ADDR_TEXT_MAX];

	if (!is_own_address(c, a, &arrived)) {
		refuse(way, a->is_ip ? HB_CLOSE_PROTOCOL_ERROR : HB_CLOSE_NO_ROUTE,
			a->is_ip ? "the authority is not the workload's address" :
				   "the authority is no name of the workload");
		return;
	}
	if (is_own_port(a->port) || (a->port == arrived.port)) {
		refuse(way, HB_CLOSE_NO_ROUTE, "the port is one of the mesh's own");
		return;
	}
	if (!is_open_port(c, a->port)) {
		refuse(way, HB_CLOSE_RBAC_DENIED, "the port is not one that may be reached");
		return;
	}
	f->local = a->is_ip ? a->ip : arrived;
	f->local.port = a->port;
	f->local_restored = true;
	if (!c->loopback)
		return;
	(void)snprintf(text, sizeof text, f->local.kind == HB_ADDR_V6 ? "[::1]:%u" : "127.0.0.1:%u",
		a->port);
	(void)hb_facts_state_set(f, HB_STR(HB_STATE_ORIGINAL_DST), hb_str(text), false, 0);
}

static bool
is_allowed(const struct hbone_server_conf *c, struct hb_str authority)
{
	for (size_t i = 0; i < c->n_allowed; i++)
		if (hb_string_match(c->allowed[i], authority))
			return (true);
	return (false);
}

static void
hbone_server_choose(const void *arg, const struct hb_tunnel_request *r, struct hb_facts *f,
	struct hb_hbone_way *way)
{
	const struct hbone_server_conf *c = arg;
	char canonical[HB_AUTHORITY_MAX + 1];

	if (c->n_allowed > 0)
		(void)hb_authority_format(&r->target, canonical, sizeof canonical);
	if (c->n_allowed > 0 && !is_allowed(c, hb_str(canonical))) {
		refuse(way, HB_CLOSE_RBAC_DENIED, "the authority is not one that may be reached");
		return;
	}
	if (c->workload)
		check_workload(c, &r->target, f, way);
	if (way->refuse != HB_CLOSE_NONE)
		return;
	if (c->set == NULL) {
		way->listener = hb_str(c->listener);
		return;
	}
	way->chain = hb_chain_set_find(c->set, f);
	if (way->chain == NULL)
		refuse(way, HB_CLOSE_NO_FILTER_CHAIN, "no filter chain matches");
}

/* ------------------------------------------------------------------ compiling */

static void
hbone_server_conf_free(const void *conf)
{
	struct hbone_server_conf *c = (void *)(uintptr_t)conf;

	hb_chain_set_free(&c->set);
	hb_free(c->listener);
	for (size_t i = 0; i < c->n_addresses; i++)
		hb_free(c->address[i].name);
	for (size_t i = 0; i < c->n_allowed; i++)
		hb_string_matcher_free(&c->allowed[i]);
	hb_free(c->allowed);
	hb_hbone_conf_fini(&c->base);
	c->base.magic = 0;
	hb_free(c);
}

static void
compile_floods(struct hb_cfg *cfg, const msg_floods *m, struct hb_h2_options *o)
{
	if (m == NULL)
		return;
#define FLOOD(kind, field)    \
	if (m->field != NULL) \
	o->flood[HB_H2_FLOOD_##kind] = hb_cfg_u32(cfg, m, #field, m->field, 1, COUNT_MAX, 1)
	FLOOD(RESETS, resets);
	FLOOD(ERRORS, stream_errors);
	FLOOD(PINGS, pings);
	FLOOD(SETTINGS, settings);
	FLOOD(EMPTY_DATA, empty_data);
	FLOOD(WINDOWS, window_updates);
	FLOOD(OTHER, other_frames);
	FLOOD(OUTBOUND, outbound_frames);
	FLOOD(CONTINUATIONS, continuations);
#undef FLOOD
}

static void
compile_http2(struct hb_cfg *cfg, const msg_http2 *given, struct hb_h2_options *o)
{
	const msg_http2 none = HBONE__FILTERS__NETWORK__HBONE_SERVER__HBONE_SERVER__HTTP2__INIT;
	const msg_http2 *m = given == NULL ? &none : given;

#define U32(to, field, min, max, dflt) o->to = hb_cfg_u32(cfg, m, #field, m->field, min, max, dflt)
#define MS(to, field, dflt)            o->to = hb_cfg_duration_ms(cfg, m, #field, m->field, dflt)
	U32(streams_max, max_concurrent_streams, 1, COUNT_MAX, 1024);
	U32(stream_window, initial_stream_window_size, 65535, INT32_MAX, 256 * 1024);
	U32(stream_window_max, max_stream_window_size, 65535, INT32_MAX, 4 * 1024 * 1024);
	U32(session_window, initial_connection_window_size, 65535, INT32_MAX, 16 * 1024 * 1024);
	U32(frame_max, max_frame_size, 16384, 16777215, 1024 * 1024);
	U32(headers_max, max_headers_count, 8, 1000, 100);
	U32(header_bytes_max, max_header_bytes, 1024, 1024 * 1024, 64 * 1024);
	U32(buffered_max, max_buffered_bytes, 65536, 1073741824, 16 * 1024 * 1024);
	MS(keepalive_interval_ms, keepalive_interval, 10000);
	MS(keepalive_timeout_ms, keepalive_timeout, 20000);
	MS(start_timeout_ms, settings_timeout, 15000);
	MS(headers_timeout_ms, headers_timeout, 15000);
	MS(idle_timeout_ms, idle_timeout, 3600000);
#undef U32
#undef MS
	compile_floods(cfg, m->floods, o);
}

static void
compile_ports(struct hb_cfg *cfg, const msg_workload *m, struct hbone_server_conf *c)
{
	if (m->n_ports == 0 || m->n_ports > PORTS_MAX) {
		(void)hb_cfg_error(cfg, m, "ports", -1,
			"needs 1 to %u ranges: say which ports may be reached", PORTS_MAX);
		return;
	}
	for (size_t i = 0; i < m->n_ports; i++) {
		const Envoy__Type__V3__Int32Range *r = m->ports[i];

		if (r->start < 1 || r->end <= r->start || r->end > 65536)
			(void)hb_cfg_error(cfg, r, NULL, -1,
				"must be a range of ports: start 1 to 65535, end at least start + 1");
		else
			c->port[c->n_ports++] = (struct port_range){ (uint16_t)r->start,
				(uint16_t)(r->end - 1) };
	}
}

static void
compile_workload(struct hb_cfg *cfg, const msg_workload *m, struct hbone_server_conf *c)
{
	struct own_address *a;

	if (m == NULL)
		return;
	c->workload = true;
	c->loopback = m->loopback;
	compile_ports(cfg, m, c);
	if (m->n_addresses > ADDRESSES_MAX) {
		(void)hb_cfg_error(cfg, m, "addresses", -1, "has more than %u", ADDRESSES_MAX);
		return;
	}
	for (size_t i = 0; i < m->n_addresses; i++) {
		a = &c->address[c->n_addresses++];
		if (hb_addr_parse_ip(hb_str(m->addresses[i]), &a->ip))
			continue;
		a->name = hb_strdup(m->addresses[i]);
		hb_str_lower(a->name, strlen(a->name));
		if (a->name[0] != '\0' && a->name[strlen(a->name) - 1] == '.')
			a->name[strlen(a->name) - 1] = '\0'; /* as that of an authority */
		if (strpbrk(a->name, ":/ ") != NULL || *a->name == '\0')
			(void)hb_cfg_error(cfg, m, "addresses", (int)i,
				"\"%s\" is neither an IP address nor a host name; ports are in `ports`",
				m->addresses[i]);
	}
}

static void
compile_keep(struct hb_cfg *cfg, const msg_server *m, struct hb_hbone_conf *c)
{
	size_t n = m->n_request_headers;

	if (n > KEEP_MAX) {
		(void)hb_cfg_error(cfg, m, "request_headers", -1, "has more than %u", KEEP_MAX);
		return;
	}
	c->keep = hb_calloc(n + HB_ARRAY_LEN(istio_headers), sizeof *c->keep);
	for (size_t i = 0; i < HB_ARRAY_LEN(istio_headers); i++)
		c->keep[c->n_keep++] = hb_strdup(istio_headers[i]);
	for (size_t i = 0; i < n; i++) {
		c->keep[c->n_keep] = hb_strdup(m->request_headers[i]);
		hb_str_lower(c->keep[c->n_keep], strlen(c->keep[c->n_keep]));
		c->n_keep++;
	}
}

static void
compile_post(struct hb_cfg *cfg, const msg_server *m, struct hb_hbone_conf *c)
{
	if (m->post == NULL)
		return;
	if (m->post->path_prefix[0] != '/')
		(void)hb_cfg_error(cfg, m->post, "path_prefix", -1,
			"must start with a slash; \"/\" is every path");
	c->tunnel.post_path = c->post_path = hb_strdup(m->post->path_prefix);
	if (*m->post->target_header == '\0')
		return;
	c->post_target = hb_strdup(m->post->target_header);
	hb_str_lower(c->post_target, strlen(c->post_target));
	c->tunnel.post_target = c->post_target;
}

static void
compile_answer(struct hb_cfg *cfg, const msg_server *m, struct hb_hbone_conf *c)
{
	if (*m->response_baggage == '\0')
		return;
	c->baggage = hb_format_compile(cfg, m, "response_baggage", -1, hb_str(m->response_baggage));
	if (c->baggage != NULL)
		hb_format_omit_empty(c->baggage);
}

static void
compile_chains(struct hb_cfg *cfg, const msg_server *m, struct hbone_server_conf *c)
{
	struct hb_chain_source src = { m, "hbone_server", m->filter_chains, m->n_filter_chains,
		m->default_filter_chain, m->filter_chain_matcher };
	bool any = m->n_filter_chains > 0 || m->default_filter_chain != NULL ||
		m->filter_chain_matcher != NULL;

	if (*m->listener == '\0')
		c->set = hb_chain_set_compile(cfg, &src);
	else if (any)
		(void)hb_cfg_error(cfg, m, "listener", -1,
			"takes the streams, so there may be no filter chains beside it");
	if (c->set != NULL)
		c->set->for_streams = true;
	c->listener = hb_strdup(m->listener);
	hb_cfg_refers(cfg, m, "listener", "listener", m->listener);
}

/* Authorities are compared in their canonical form: an exact text that is none allows nobody. */
static void
check_exact(struct hb_cfg *cfg, const Envoy__Type__Matcher__V3__StringMatcher *m)
{
	enum hb_authority_error e;
	struct hb_authority a;
	char text[HB_AUTHORITY_MAX + 1];

	if (m->match_pattern_case != ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_EXACT)
		return;
	e = hb_authority_parse(hb_str(m->exact), &a);
	if (e != HB_AUTHORITY_OK) {
		(void)hb_cfg_error(cfg, m, "exact", -1, "would never match: \"%s\" %s", m->exact,
			hb_authority_error_text(e));
		return;
	}
	(void)hb_authority_format(&a, text, sizeof text);
	if ((m->ignore_case ? strcasecmp : strcmp)(text, m->exact) != 0)
		(void)hb_cfg_error(cfg, m, "exact", -1, "would never match: write \"%s\"", text);
}

static void
compile_allowed(struct hb_cfg *cfg, const msg_server *m, struct hbone_server_conf *c)
{
	c->allowed = hb_calloc(m->n_allowed_authorities + 1, sizeof(struct hb_string_matcher *));
	for (size_t i = 0; i < m->n_allowed_authorities; i++) {
		check_exact(cfg, m->allowed_authorities[i]);
		c->allowed[c->n_allowed] = hb_string_matcher_compile(
			cfg, m, "allowed_authorities", (int)i, m->allowed_authorities[i]);
		if (c->allowed[c->n_allowed] != NULL)
			c->n_allowed++;
	}
}

static int
hbone_server_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, const void **ret)
{
	const msg_server *m = (const void *)msg;
	struct hb_errs *errs = hb_cfg_errs(cfg);
	size_t before = errs->n + errs->dropped;
	struct hbone_server_conf *c = hb_calloc(1, sizeof *c);
	bool ok;

	hb_hbone_conf_init(&c->base, m->stat_prefix);
	if (*m->stat_prefix == '\0')
		(void)hb_cfg_error(cfg, m, "stat_prefix", -1, "must not be empty");
	c->base.choose = hbone_server_choose;
	c->base.arg = c;
	c->base.trust_forwarded = m->trust_forwarded;
	compile_http2(cfg, m->http2, &c->base.tunnel.h2);
	compile_workload(cfg, m->workload, c);
	compile_allowed(cfg, m, c);
	compile_keep(cfg, m, &c->base);
	compile_post(cfg, m, &c->base);
	compile_answer(cfg, m, &c->base);
	compile_chains(cfg, m, c);
	c->base.log = hb_access_log_compile(
		cfg, m, "access_log", (void *const *)m->access_log, m->n_access_log, &ok);
	if (errs->n + errs->dropped != before || !ok) {
		hbone_server_conf_free(c);
		return (-EINVAL);
	}
	*ret = c;
	return (0);
}

static bool
hbone_server_for_workload(const void *conf)
{
	const struct hbone_server_conf *c = conf;

	return (c->workload);
}

/* ------------------------------------------------------------------ explaining */

static void
hbone_server_explain(const void *conf, const struct hb_facts *facts, struct hb_explain *ex)
{
	const struct hbone_server_conf *c = conf;
	const struct hb_chain *chain = NULL;
	struct hb_hbone_way way;

	if (facts->authority.len == 0)
		hb_explain_step(ex, "filter", "hbone_server", "chosen",
			"serves HTTP/2; each CONNECT request gets a chain of its own by its authority");
	else if (hb_hbone_explain(&c->base, "hbone_server", ex, &way) && c->set == NULL)
		hb_explain_step(ex, "filter", "hbone_server", "chosen",
			"the listener \"%s\" takes the streams", c->listener);
	else if (way.refuse == HB_CLOSE_NONE || way.refuse == HB_CLOSE_NO_FILTER_CHAIN)
		chain = hb_chain_set_explain(c->set, hb_explain_facts(ex), ex);
	if (chain != NULL)
		hb_chain_explain(chain, ex);
	hb_explain_stop(ex);
}

static const struct hb_chain *
hbone_server_chain_of(const void *conf, struct hb_judge *j)
{
	const struct hbone_server_conf *c = conf;

	return (hb_hbone_chain_of(&c->base, j));
}

const struct hb_filter_type hb_filter_hbone_server = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.flags = HB_FILTER_TERMINAL | HB_FILTER_CARRIER,
	.kind = HB_FILTER_NETWORK,
	.name = "hbone.filters.network.hbone_server",
	.config = &hbone__filters__network__hbone_server__hbone_server__descriptor,
	.ctx_size = sizeof(struct hb_hbone),
	.compile = hbone_server_compile,
	.conf_free = hbone_server_conf_free,
	.on_secured = hb_hbone_on_secured,
	.on_event = hb_hbone_on_event,
	.fini = hb_hbone_fini,
	.explain = hbone_server_explain,
	.for_workload = hbone_server_for_workload,
	.chain_of = hbone_server_chain_of,
};

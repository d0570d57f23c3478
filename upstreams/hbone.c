/* SPDX-License-Identifier: Apache-2.0 */
/* The transport socket Hbone: from its message to what requests are made of. */
#include "core/mesh/authority.h"
#include "core/mesh/baggage.h"
#include "core/mesh/headers.h"
#include "core/stats/access_log.h"
#include "hbone/transport_sockets/hbone/hbone.pb-c.h"
#include "upstreams/hbone.h"

typedef Hbone__TransportSockets__Hbone__Hbone HboneMsg;
typedef Hbone__TransportSockets__Hbone__Hbone__Pool PoolMsg;
typedef Hbone__TransportSockets__Hbone__Hbone__Baggage BaggageMsg;

#define CONNS_MAX       128u
#define IDLE_MAX        500u
#define RETRIES_MAX     3u
#define HOT_RATE        134217728u
#define SURPLUS_MS      30000u
#define COUNT_MAX       1000000u
#define IDLE_MS         300000u
#define HANDSHAKE_MS    10000u
#define ANSWER_MS       10000u
#define KEEPALIVE_MS    10000u
#define KEEPALIVE_TO_MS 20000u
#define PATH_MAX_BYTES  1024u
#define WINDOW_MIN      65535u
#define OWN_HEADERS     5u /* baggage, forwarded, traceparent, x-forwarded-network, x-istio-source */

struct hb_hbone_conf {
	unsigned magic;
#define HBONE_CONF_MAGIC 0x6d1c85e3
	struct hb_tunnels_conf tunnels;
	struct hb_transport_socket *socket; /* owned; NULL = in the clear                   */
	struct hb_hbone_conf *through;      /* owned; NULL = over TCP                       */
	struct hb_format *authority;        /* owned; NULL = the endpoint's address         */
	char *fixed; /* owned: an authority without variables, which is good; */
	struct hb_authority fixed_parsed; /* NULL = there is none                         */
	size_t headers_max;
	struct hb_header_adds *adds; /* owned; NULL = none                           */
	bool post;
	char *path;    /* owned                                        */
	uint16_t port; /* 0 = the endpoint's                           */
	bool baggage_forward;
	char *baggage; /* owned; NULL = none                           */
	bool forwarded, traceparent;
	char *network, *source; /* owned; NULL = not sent                       */
};

void
hb_tunnels_defaults(struct hb_tunnels_conf *c)
{
	memset(c, 0, sizeof *c);
	c->streams_max = 100;
	c->conns_max = CONNS_MAX;
	c->idle_max = IDLE_MAX;
	c->retries_max = RETRIES_MAX;
	c->answer_ms = ANSWER_MS;
	c->h2.idle_timeout_ms = IDLE_MS;
}

/* ------------------------------------------------------------------ compiling */

static void
conf_free(struct hb_hbone_conf **cp)
{
	struct hb_hbone_conf *c = *cp;

	if (c == NULL)
		return;
	HB_CHECK(c, HBONE_CONF_MAGIC);
	*cp = NULL;
	conf_free(&c->through);
	hb_transport_socket_free(&c->socket);
	if (c->authority != NULL)
		hb_format_free(&c->authority);
	hb_free(c->fixed);
	hb_header_adds_free(&c->adds);
	hb_free(c->path);
	hb_free(c->baggage);
	hb_free(c->network);
	hb_free(c->source);
	HB_DEL(c);
}

static void
compile_windows(struct hb_cfg *cfg, const PoolMsg *p, struct hb_h2_options *o)
{
	o->stream_window = hb_cfg_u32(cfg, p, "initial_stream_window_size",
		p->initial_stream_window_size, WINDOW_MIN, INT32_MAX, 0);
	o->stream_window_max = hb_cfg_u32(cfg, p, "max_stream_window_size",
		p->max_stream_window_size, WINDOW_MIN, INT32_MAX, 0);
	o->session_window = hb_cfg_u32(cfg, p, "initial_connection_window_size",
		p->initial_connection_window_size, WINDOW_MIN, INT32_MAX, 0);
}

static void
compile_spreading(struct hb_cfg *cfg, const PoolMsg *p, struct hb_tunnels_conf *c)
{
	c->retries_max = hb_cfg_u32(cfg, p, "max_retries", p->max_retries, 0, 100, RETRIES_MAX);
	c->hot_streams = hb_cfg_u32(cfg, p, "hot_streams", p->hot_streams, 0, COUNT_MAX, 0);
	if (p->hot_bytes_per_second != NULL)
		c->hot_rate = p->hot_bytes_per_second->value;
	c->surplus_ms = hb_cfg_duration_ms(
		cfg, p, "surplus_idle_timeout", p->surplus_idle_timeout, SURPLUS_MS);
}

static int
compile_pool(struct hb_cfg *cfg, const PoolMsg *p, struct hb_tunnels_conf *c)
{
	int r = 0;

	hb_tunnels_defaults(c);
	c->handshake_ms = HANDSHAKE_MS;
	c->hot_rate = HOT_RATE;
	c->surplus_ms = SURPLUS_MS;
	c->h2.keepalive_interval_ms = KEEPALIVE_MS;
	c->h2.keepalive_timeout_ms = KEEPALIVE_TO_MS;
	if (p != NULL) {
		c->streams_max = hb_cfg_u32(cfg, p, "streams_per_connection",
			p->streams_per_connection, 1, COUNT_MAX, c->streams_max);
		c->conns_max = hb_cfg_u32(cfg, p, "connections_per_peer", p->connections_per_peer,
			1, COUNT_MAX, CONNS_MAX);
		c->idle_max = hb_cfg_u32(
			cfg, p, "idle_connections", p->idle_connections, 0, COUNT_MAX, IDLE_MAX);
		c->h2.idle_timeout_ms = hb_cfg_duration_ms(
			cfg, p, "idle_timeout", p->idle_timeout, IDLE_MS);
		c->handshake_ms = hb_cfg_duration_ms(
			cfg, p, "handshake_timeout", p->handshake_timeout, HANDSHAKE_MS);
		c->answer_ms = hb_cfg_duration_ms(
			cfg, p, "answer_timeout", p->answer_timeout, ANSWER_MS);
		compile_windows(cfg, p, &c->h2);
		compile_spreading(cfg, p, c);
		c->h2.keepalive_interval_ms = hb_cfg_duration_ms(
			cfg, p, "keepalive_interval", p->keepalive_interval, KEEPALIVE_MS);
		c->h2.keepalive_timeout_ms = hb_cfg_duration_ms(
			cfg, p, "keepalive_timeout", p->keepalive_timeout, KEEPALIVE_TO_MS);
	}
	if (c->handshake_ms == 0)
		r = hb_cfg_error(cfg, p, "handshake_timeout", -1, "must be above 0");
	if (c->answer_ms == 0)
		r = hb_cfg_error(cfg, p, "answer_timeout", -1, "must be above 0");
	c->h2.start_timeout_ms = c->handshake_ms;
	return (r);
}

static int
workload_kind(struct hb_cfg *cfg, const BaggageMsg *m, enum hb_workload *ret)
{
	static const char *const names[HB_WORKLOAD_MAX + 1] = { "deployment", "cronjob", "pod",
		"job" };

	*ret = HB_WORKLOAD_DEPLOYMENT;
	if (*m->workload_kind == '\0')
		return (0);
	for (unsigned i = 0; i < HB_WORKLOAD_MAX; i++) {
		if (strcmp(m->workload_kind, names[i]) == 0) {
			*ret = (enum hb_workload)i;
			return (0);
		}
	}
	return (hb_cfg_error(
		cfg, m, "workload_kind", -1, "must be deployment, cronjob, pod or job"));
}

static int
compile_baggage(struct hb_cfg *cfg, const BaggageMsg *m, struct hb_hbone_conf *c)
{
	struct hb_baggage b = { .cluster = { NULL, 0 } };
	struct hb_text t = { 0 };
	int r;

	if (m == NULL)
		return (0);
	c->baggage_forward = m->forward;
	r = workload_kind(cfg, m, &b.kind);
	b.cluster = hb_str(m->cluster);
	b.ns = hb_str(m->namespace_);
	b.workload = hb_str(m->workload);
	b.service = hb_str(m->service);
	b.version = hb_str(m->version);
	b.region = hb_str(m->region);
	b.zone = hb_str(m->zone);
	hb_baggage_format(&b, &t);
	if (t.len > 0)
		c->baggage = hb_text_take(&t);
	hb_text_fini(&t);
	return (r);
}

static int
compile_request(struct hb_cfg *cfg, const HboneMsg *m, struct hb_hbone_conf *c)
{
	bool ok;
	int r = 0;

	if (*m->authority != '\0') {
		c->authority = hb_format_compile(cfg, m, "authority", -1, hb_str(m->authority));
		if (c->authority == NULL)
			r = -EINVAL;
		else
			hb_format_omit_empty(c->authority);
		if (strchr(m->authority, '%') == NULL &&
			hb_authority_parse(hb_str(m->authority), &c->fixed_parsed) ==
				HB_AUTHORITY_OK)
			c->fixed = hb_strdup(m->authority);
	}
	c->post = strcmp(m->method, "POST") == 0;
	if (*m->method != '\0' && !c->post && strcmp(m->method, "CONNECT") != 0)
		r = hb_cfg_error(cfg, m, "method", -1, "must be CONNECT or POST");
	if (*m->path != '\0' && !c->post)
		r = hb_cfg_error(cfg, m, "path", -1, "is for method POST; CONNECT has no path");
	if (*m->path != '\0' && (m->path[0] != '/' || strlen(m->path) > PATH_MAX_BYTES))
		r = hb_cfg_error(
			cfg, m, "path", -1, "must begin with / and have at most 1024 bytes");
	c->headers_max = OWN_HEADERS + m->n_headers_to_add;
	c->path = hb_strdup(*m->path == '\0' ? "/" : m->path);
	c->adds = hb_header_adds_compile(cfg, m, "headers_to_add", (void *const *)m->headers_to_add,
		m->n_headers_to_add, &ok);
	if (*m->forwarded_network != '\0') {
		if (!hb_network_valid(hb_str(m->forwarded_network)))
			r = hb_cfg_error(cfg, m, "forwarded_network", -1,
				"must be 1 to 253 letters, digits, '-', '_', '.', '/'");
		c->network = hb_strdup(m->forwarded_network);
	}
	if (*m->istio_source != '\0') {
		if (hb_istio_source_parse(hb_str(m->istio_source)) == HB_ISTIO_SOURCE_NONE)
			r = hb_cfg_error(
				cfg, m, "istio_source", -1, "must be waypoint, gateway or sidecar");
		c->source = hb_strdup(m->istio_source);
	}
	return (ok ? r : -EINVAL);
}

/* NULL after reporting. */
static struct hb_hbone_conf *
conf_new(struct hb_cfg *cfg, const HboneMsg *m, unsigned depth)
{
	struct hb_hbone_conf *c;
	int r = 0;

	HB_NEW(c, HBONE_CONF_MAGIC);
	r = compile_pool(cfg, m->pool, &c->tunnels);
	r |= compile_baggage(cfg, m->baggage, c);
	r |= compile_request(cfg, m, c);
	c->port = (uint16_t)hb_cfg_u32(cfg, m, "port", m->port, 0, UINT16_MAX, HB_HBONE_PORT);
	c->forwarded = hb_cfg_bool(m->forwarded, true);
	c->traceparent = hb_cfg_bool(m->traceparent, true);
	if (hb_transport_socket_compile(
		    cfg, m, "transport_socket", m->transport_socket, true, &c->socket) != 0)
		r = -EINVAL;
	else if (hb_transport_socket_connector(c->socket))
		r = hb_cfg_error(cfg, m, "transport_socket", -1,
			"is what secures this tunnel; put the outer tunnel into through");
	if (m->through != NULL && depth + 1 == HB_HBONE_DEPTH_MAX)
		r = hb_cfg_error(
			cfg, m, "through", -1, "is deeper than %u tunnels", HB_HBONE_DEPTH_MAX);
	else if (m->through != NULL && (c->through = conf_new(cfg, m->through, depth + 1)) == NULL)
		r = -EINVAL;
	if (r != 0)
		conf_free(&c);
	return (c);
}

static int
hbone_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, bool upstream, const void **ret_conf)
{
	struct hb_errs *errs = hb_cfg_errs(cfg);
	size_t before = errs->n + errs->dropped;
	struct hb_hbone_conf *c;

	HB_ASSERT(upstream);
	c = conf_new(cfg, (const HboneMsg *)(const void *)msg, 0);
	if (c != NULL && errs->n + errs->dropped != before)
		conf_free(&c);
	*ret_conf = c;
	return (c == NULL ? -EINVAL : 0);
}

static void
hbone_conf_free(const void *conf)
{
	struct hb_hbone_conf *c = (void *)(uintptr_t)conf;

	conf_free(&c);
}

static struct hb_transport *
hbone_wrap(const void *conf, struct hb_transport *lower, const struct hb_facts *facts,
	struct hb_str host)
{
	(void)conf;
	(void)lower;
	(void)facts;
	(void)host;
	HB_WRONG("a connector is not put over a transport");
}

static size_t
hbone_certs(const void *conf, bool trust, const struct hb_cert_info *const **ret)
{
	const struct hb_hbone_conf *c = conf;

	HB_CHECK(c, HBONE_CONF_MAGIC);
	return (hb_transport_socket_certs(c->socket, trust, ret));
}

const struct hb_transport_socket_type hb_tsocket_hbone = {
	.name = "hbone.transport_sockets.hbone",
	.upstream = &hbone__transport_sockets__hbone__hbone__descriptor,
	.compile = hbone_compile,
	.conf_free = hbone_conf_free,
	.wrap = hbone_wrap,
	.certs = hbone_certs,
	.connector = true,
};

/* ------------------------------------------------------------------ questions */

const struct hb_hbone_conf *
hb_hbone_of(const struct hb_transport_socket *s)
{
	return (hb_transport_socket_conf(s, &hb_tsocket_hbone));
}

const struct hb_tunnels_conf *
hb_hbone_tunnels(const struct hb_hbone_conf *c)
{
	HB_CHECK(c, HBONE_CONF_MAGIC);
	return (&c->tunnels);
}

const struct hb_hbone_conf *
hb_hbone_with(const struct hb_tunnels_conf *t)
{
	const struct hb_hbone_conf *c = HB_CONTAINER((uintptr_t)t, const struct hb_hbone_conf, tunnels);

	HB_CHECK(c, HBONE_CONF_MAGIC);
	return (c);
}

const struct hb_transport_socket *
hb_hbone_socket(const struct hb_hbone_conf *c)
{
	HB_CHECK(c, HBONE_CONF_MAGIC);
	return (c->socket);
}

const struct hb_hbone_conf *
hb_hbone_through(const struct hb_hbone_conf *c)
{
	HB_CHECK(c, HBONE_CONF_MAGIC);
	return (c->through);
}

uint16_t
hb_hbone_port(const struct hb_hbone_conf *c)
{
	HB_CHECK(c, HBONE_CONF_MAGIC);
	return (c->port);
}

struct hb_ep_addrs *
hb_hbone_addrs(const struct hb_hbone_conf *c, const struct hb_ep_addrs *addrs)
{
	struct hb_ep_addrs *a = hb_ep_addrs_copy(addrs);

	HB_CHECK(c, HBONE_CONF_MAGIC);
	for (unsigned i = 0; c->port != 0 && i < a->n; i++) {
		if (a->v[i].kind == HB_ADDR_V4 || a->v[i].kind == HB_ADDR_V6)
			a->v[i].port = c->port;
	}
	return (a);
}

/* ------------------------------------------------------------------ requests */

static bool
authority_fits(const struct hb_tunnel *t, struct hb_authority *parsed, struct hb_text *why)
{
	enum hb_authority_error err = hb_authority_parse(t->authority, parsed);

	if (err == HB_AUTHORITY_OK)
		return (true);
	/* A POST may do without a port; then nothing was read from it. */
	memset(parsed, 0, sizeof *parsed);
	if (t->post && err == HB_AUTHORITY_NO_PORT)
		return (true);
	hb_text_printf(why, "tunnel: authority \"%.*s\" %s", HB_STR_FMT(t->authority),
		hb_authority_error_text(err));
	return (false);
}

static struct hb_str
request_header(const struct hb_facts *f, struct hb_str name)
{
	for (; f != NULL; f = f->parent) {
		struct hb_str s = hb_facts_metadata(f, HB_STR(HB_META_REQUEST), name);

		if (s.p != NULL)
			return (s);
	}
	return ((struct hb_str){ NULL, 0 });
}

static void
add_baggage(const struct hb_hbone_conf *c, const struct hb_facts *f, struct hb_header_list *l)
{
	struct hb_str s = { NULL, 0 };

	if (c->baggage_forward)
		s = request_header(f, HB_STR("baggage"));
	if (s.len == 0)
		s = hb_str(c->baggage);
	if (s.len > 0)
		hb_header_list_add(l, HB_STR("baggage"), s);
}

static void
add_forwarded(const struct hb_facts *f, const struct hb_authority *a, struct hb_header_list *l)
{
	struct hb_forwarded fwd = { .host = { NULL, 0 } };
	struct hb_text t = { 0 };

	if (f != NULL)
		fwd.from = f->remote;
	if (!a->is_ip)
		fwd.host = hb_strn(a->host, a->host_len);
	hb_forwarded_format(&fwd, &t);
	if (t.len > 0)
		hb_header_list_put(
			l, HB_STR("forwarded"), hb_arena_str(l->arena, hb_strn(t.p, t.len)));
	hb_text_fini(&t);
}

static void
add_traceparent(const struct hb_facts *f, struct hb_header_list *l)
{
	char *text = hb_arena_alloc(l->arena, HB_TRACEPARENT_LEN + 1);
	struct hb_str s = request_header(f, HB_STR("traceparent"));
	struct hb_trace from, t;

	if (s.p != NULL && hb_trace_parse(s, &from))
		hb_trace_child(&from, &t);
	else
		hb_trace_new(&t);
	hb_trace_format(&t, text);
	hb_header_list_put(l, HB_STR("traceparent"), hb_strn(text, HB_TRACEPARENT_LEN));
}

/* With what was read from it; false: it is not fit. */
static bool
make_authority(const struct hb_hbone_conf *c, const struct hb_hbone_subject *s,
	const struct hb_log_entry *e, struct hb_hbone_request *r, struct hb_authority *parsed,
	struct hb_text *why)
{
	char addr[HB_ADDR_TEXT_MAX];
	struct hb_text t = { 0 };

	if (c->fixed != NULL) {
		r->tunnel.authority = hb_str(c->fixed);
		*parsed = c->fixed_parsed;
		return (true);
	}
	if (c->authority != NULL) {
		hb_format_write(c->authority, e, &t);
		r->tunnel.authority = hb_arena_str(&r->arena, hb_strn(t.p, t.len));
		hb_text_fini(&t);
	} else if (s->inner.len > 0) {
		r->tunnel.authority = hb_arena_str(&r->arena, s->inner);
	} else {
		(void)hb_addr_format(s->addr, addr, sizeof addr);
		r->tunnel.authority = hb_arena_str(&r->arena, hb_str(addr));
	}
	return (authority_fits(&r->tunnel, parsed, why));
}

/* What format strings see. */
static struct hb_log_entry
entry_of(const struct hb_hbone_subject *s)
{
	static const struct hb_facts nothing;

	return ((struct hb_log_entry){
		.facts = s->facts == NULL ? &nothing : s->facts,
		.cluster = hb_str(s->cluster->name),
		.upstream_host_name = hb_str(s->host),
		.upstream_remote = s->addr,
	});
}

bool
hb_hbone_request_authority(const struct hb_hbone_conf *c, const struct hb_hbone_subject *s,
	struct hb_hbone_request *r)
{
	struct hb_log_entry e = entry_of(s);
	struct hb_authority parsed;
	struct hb_text why = { 0 };
	bool fits = make_authority(c, s, &e, r, &parsed, &why);

	hb_text_fini(&why);
	return (fits);
}

bool
hb_hbone_request_make(const struct hb_hbone_conf *c, const struct hb_hbone_subject *s,
	struct hb_hbone_request *r, struct hb_text *why)
{
	struct hb_header_list l = { .arena = &r->arena, .cap = c->headers_max };
	struct hb_log_entry e = entry_of(s);
	struct hb_authority parsed;

	HB_CHECK(c, HBONE_CONF_MAGIC);
	r->tunnel.post = c->post;
	r->tunnel.path = hb_str(c->path);
	if (!make_authority(c, s, &e, r, &parsed, why))
		return (false);
	l.v = hb_arena_alloc(&r->arena, l.cap * sizeof *l.v);
	add_baggage(c, s->facts, &l);
	if (c->forwarded)
		add_forwarded(s->facts, &parsed, &l);
	if (c->traceparent)
		add_traceparent(s->facts, &l);
	if (c->network != NULL)
		hb_header_list_put(&l, HB_STR("x-forwarded-network"), hb_str(c->network));
	if (c->source != NULL)
		hb_header_list_put(&l, HB_STR("x-istio-source"), hb_str(c->source));
	hb_header_adds_apply(c->adds, &e, &l);
	r->tunnel.headers = l.v;
	r->tunnel.n_headers = l.n;
	return (true);
}

void
hb_hbone_request_fini(struct hb_hbone_request *r)
{
	hb_arena_fini(&r->arena);
	memset(&r->tunnel, 0, sizeof r->tunnel);
}

bool
hb_tunnel_check(const struct hb_tunnel *t, struct hb_text *why)
{
	struct hb_authority unused;

	return (authority_fits(t, &unused, why));
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session is the filter's context; a stream with a chain is a connection of its own, which may
 * outlive the session for a turn or two: its facts keep this memory (hb_conn_carries).
 */
#include <stdio.h>
#include "core/base/log.h"
#include "core/filter/acceptor.h"
#include "core/filter/explain.h"
#include "core/mesh/baggage.h"
#include "core/mesh/headers.h"
#include "filters/network/hbone_server/runtime.h"

#define VALUE_MAX 8192u /* bytes of one header that are kept */

HB_STAT_FAMILY(hbone_family, "hbone_server", "hbone_server", "stat_prefix", HBONE_STATS);

/* ------------------------------------------------------------------ configuration */

void
hb_hbone_conf_init(struct hb_hbone_conf *c, const char *stat_prefix)
{
	c->magic = HB_HBONE_CONF_MAGIC;
	c->label = hb_strdup(stat_prefix);
	c->stats = hb_stats_get(&hbone_family, hb_str(stat_prefix));
}

void
hb_hbone_conf_fini(struct hb_hbone_conf *c)
{
	HB_CHECK(c, HB_HBONE_CONF_MAGIC);
	for (size_t i = 0; i < c->n_keep; i++)
		hb_free(c->keep[i]);
	hb_free(c->keep);
	hb_format_free(&c->baggage);
	hb_free(c->post_path);
	hb_free(c->post_target);
	hb_free(c->label);
	hb_access_log_free(&c->log);
	hb_stats_unref(&c->stats);
}

/* ------------------------------------------------------------------ numbers and the log */

static void
count(const struct hb_hbone *s, enum hbone_stat i, int64_t n)
{
	hb_stat_add(s->worker, s->conf->stats, i, n);
}

static void
count_answer(const struct hb_hbone *s, unsigned status)
{
	static const struct {
		unsigned status;
		enum hbone_stat stat;
	} rows[] = { { 200, HBONE_200 }, { 400, HBONE_400 }, { 401, HBONE_401 }, { 403, HBONE_403 },
		{ 404, HBONE_404 }, { 431, HBONE_431 }, { 503, HBONE_503 }, { 504, HBONE_504 } };

	for (size_t i = 0; i < HB_ARRAY_LEN(rows); i++) {
		if (rows[i].status == status) {
			count(s, rows[i].stat, 1);
			return;
		}
	}
	count(s, HBONE_OTHER, 1);
}

/* A request that got no connection of its own. */
static void
log_refused(const struct hb_hbone *s, const struct hb_facts *facts, unsigned status,
	enum hb_close_reason reason, const char *why)
{
	struct hb_log_entry e = { .facts = facts,
		.conn_id = hb_filter_conn_id(s->filter),
		.start_us = hb_wall_us(s->worker),
		.reason = reason,
		.detail = hb_str(why),
		.listener_name = hb_str(s->conf->label),
		.response_code = status };

	count_answer(s, status);
	hb_access_log_write(s->worker, s->conf->log, &e);
	HB_LOG(FILTER, DEBUG, "tunnel refused", "id=%llu authority=\"%.*s\" status=%u why=\"%s\"",
		(unsigned long long)e.conn_id, HB_STR_FMT(facts->authority), status, why);
}

/* ------------------------------------------------------------------ facts of a stream */

static bool
is_kept(const struct hb_hbone_conf *c, struct hb_str name)
{
	for (size_t i = 0; i < c->n_keep; i++)
		if (hb_str_eq(name, hb_str(c->keep[i])))
			return (true);
	return (c->keep_all);
}

/* Lines of one name are one value. False: it is too long to be kept. */
static bool
keep(struct hb_facts *f, struct hb_str name, struct hb_str value)
{
	struct hb_str ns = HB_STR(HB_META_REQUEST), old = hb_facts_metadata(f, ns, name);
	struct hb_text joined = { .cap_max = VALUE_MAX };
	bool fits;

	if (old.p != NULL) {
		hb_text_add(&joined, old.p, old.len);
		hb_text_addc(&joined, ',');
		hb_text_add(&joined, value.p, value.len);
		value = hb_strn(joined.p, joined.len);
	}
	fits = !joined.truncated && value.len <= VALUE_MAX;
	if (fits)
		(void)hb_facts_metadata_set(f, ns, name, value);
	hb_text_fini(&joined);
	return (fits);
}

/* Headers of the mesh that were too long to be kept. */
#define LONG_BAGGAGE   1u
#define LONG_FORWARDED 2u

static unsigned
keep_headers(const struct hb_hbone_conf *c, struct hb_facts *f, const struct hb_h2_request *r)
{
	unsigned n = 0, too_long = 0;

	if (c->keep_all)
		(void)keep(f, HB_STR(":method"), r->method);
	for (size_t i = 0; i < r->n_headers && n < HB_HBONE_HEADERS_MAX; i++) {
		if (!is_kept(c, r->headers[i].name))
			continue;
		n++;
		if (keep(f, r->headers[i].name, r->headers[i].value))
			continue;
		if (hb_str_eq(r->headers[i].name, HB_STR("baggage")))
			too_long |= LONG_BAGGAGE;
		if (hb_str_eq(r->headers[i].name, HB_STR("forwarded")))
			too_long |= LONG_FORWARDED;
	}
	return (too_long);
}

static struct hb_str
request_header(const struct hb_facts *f, struct hb_str name)
{
	return (hb_facts_metadata(f, HB_STR(HB_META_REQUEST), name));
}

enum { BAGGAGE_GOOD, BAGGAGE_INVALID, BAGGAGE_CONTRADICTS };

/* Streams of one peer mostly bring the same: it is read once. */
static uint8_t
look_at_baggage(struct hb_hbone *s, const struct hb_facts *f, struct hb_str line)
{
	uint64_t hash = hb_hash(line.p, line.len);
	struct hb_workload_labels labels;
	struct hb_baggage b;

	if (hash == s->baggage_hash)
		return (s->baggage_found);
	s->baggage_hash = hash;
	if (hb_baggage_parse(&line, 1, &b) != HB_BAGGAGE_OK)
		s->baggage_found = BAGGAGE_INVALID;
	else
		s->baggage_found = hb_source_labels(f, &b, false, &labels) ? BAGGAGE_GOOD :
									     BAGGAGE_CONTRADICTS;
	return (s->baggage_found);
}

static void
count_headers(struct hb_hbone *s, const struct hb_facts *f, unsigned too_long)
{
	struct hb_str baggage = request_header(f, HB_STR("baggage"));
	struct hb_str forwarded = request_header(f, HB_STR("forwarded"));
	struct hb_str trace = request_header(f, HB_STR("traceparent"));
	uint8_t found = BAGGAGE_GOOD;
	struct hb_forwarded fw;
	struct hb_trace tr;

	if (too_long & LONG_BAGGAGE)
		found = BAGGAGE_INVALID;
	else if (baggage.len > 0)
		found = look_at_baggage(s, f, baggage);
	if (found == BAGGAGE_INVALID)
		count(s, HBONE_BAGGAGE_INVALID, 1);
	if (found == BAGGAGE_CONTRADICTS)
		count(s, HBONE_BAGGAGE_CONTRADICTS, 1);
	if ((too_long & LONG_FORWARDED) ||
		(forwarded.len > 0 && !hb_forwarded_parse(forwarded, &fw)))
		count(s, HBONE_FORWARDED_INVALID, 1);
	if (trace.len > 0 && !hb_trace_parse(trace, &tr))
		count(s, HBONE_TRACE_INVALID, 1);
}

static void
believe_forwarded(struct hb_facts *f)
{
	struct hb_str line = request_header(f, HB_STR("forwarded"));
	struct hb_forwarded fw;

	if (line.len > 0 && hb_forwarded_parse(line, &fw) && fw.from.kind != HB_ADDR_NONE)
		hb_addr_copy(&f->arena, &f->remote, &fw.from);
}

static void
learn(struct hb_hbone *s, struct hb_facts *f, struct hb_str authority,
	const struct hb_h2_request *r)
{
	const struct hb_facts *below;

	hb_facts_init(f);
	hb_conn_carries(s->filter, f);
	below = f->parent;
	/* Their names are the parent's, which stays. */
	f->local = below->local;
	f->remote = below->remote;
	f->authority = hb_arena_str(&f->arena, authority);
	count_headers(s, f, keep_headers(s->conf, f, r));
	if (s->conf->trust_forwarded)
		believe_forwarded(f);
}

/* Of a host name the port is known, and no address. */
static void
learn_target(struct hb_facts *f, const struct hb_authority *target)
{
	if (target->port == 0)
		return;
	f->local_restored = target->is_ip;
	f->local = target->ip;
	if (!target->is_ip)
		f->local = (struct hb_addr){ .kind = HB_ADDR_V4, .port = target->port };
}

/* ------------------------------------------------------------------ streams */

static unsigned
status_of(const void *arg, enum hb_close_reason reason)
{
	const struct hb_hbone_conf *c = arg;

	switch (reason) { /* the client did not wait for an answer */
	case HB_CLOSE_NONE:
	case HB_CLOSE_PEER_RESET:
	case HB_CLOSE_DOWNSTREAM_RESET:
	case HB_CLOSE_STREAM_RESET:
	case HB_CLOSE_GOAWAY:
		return (0);
	default:
		return (hb_h2_status(c->tunnel.h2.flavour, reason));
	}
}

static void
on_stream_closed(void *arg, struct hb_conn *conn, enum hb_close_reason reason)
{
	struct hb_hbone *s;
	struct hb_log_entry e;

	(void)reason;
	HB_CAST(s, arg, HB_HBONE_MAGIC);
	hb_conn_log_entry(conn, &e);
	count_answer(s, e.response_code);
	count(s, HBONE_ACTIVE, -1);
}

static void
start_stream(struct hb_hbone *s, struct hb_transport *t, struct hb_facts *f,
	const struct hb_chain *chain)
{
	struct hb_conn_owner owner = { .on_closed = on_stream_closed,
		.listener_name = s->conf->label,
		.log = s->conf->log,
		.status_of = status_of,
		.status_arg = s->conf,
		.carried = true,
		.arg = s };

	count(s, HBONE_TUNNELS, 1);
	count(s, HBONE_ACTIVE, 1);
	(void)hb_conn_start(s->worker, t, f, chain, &owner);
}

/* Members without a value are left out; false: nothing is left, or it is no header's value. */
static bool
trim_baggage(struct hb_text *t)
{
	char *to = t->p, *member = t->p, *end;

	for (const char *p = t->p; p < t->p + t->len; p++)
		if (*p < ' ' || *p > '~')
			return (false);
	for (; member != NULL && *member != '\0'; member = end == NULL ? NULL : end + 1) {
		size_t n;

		end = strchr(member, ',');
		n = end == NULL ? strlen(member) : (size_t)(end - member);
		if (n == 0 || member[n - 1] == '=')
			continue;
		if (to != t->p)
			*to++ = ',';
		memmove(to, member, n);
		to += n;
	}
	t->len = (size_t)(to - t->p);
	return (t->len > 0);
}

/* Says who answers, as far as that is known now: the way to the upstream stands. */
static void
on_accept(void *sink, struct hb_tunnel_server *server, struct hb_transport *t)
{
	struct hb_hbone *s;
	const struct hb_conn *c = hb_conn_at(t);
	struct hb_text text = { .cap_max = VALUE_MAX };
	struct hb_log_entry e = { 0 };
	struct hb_h2_header h;

	(void)server;
	HB_CAST(s, sink, HB_HBONE_MAGIC);
	if (s->conf->baggage == NULL || s->filter == NULL)
		return;
	if (c != NULL && hb_conn_owner_arg(c) == s)
		hb_conn_log_entry(c, &e);
	else
		e.facts = hb_filter_facts(s->filter); /* a listener has taken the stream */
	hb_format_write(s->conf->baggage, &e, &text);
	if (text.len > 0 && trim_baggage(&text)) {
		h = (struct hb_h2_header){ HB_STR("baggage"), hb_strn(text.p, text.len) };
		hb_h2_stream_accept(t, &h, 1);
	}
	hb_text_fini(&text);
}

static void
refuse(struct hb_hbone *s, struct hb_transport *t, const struct hb_facts *f,
	enum hb_close_reason reason, unsigned status, const char *why)
{
	if (status == 0)
		status = hb_h2_status(s->conf->tunnel.h2.flavour, reason);
	log_refused(s, f, status, reason, why);
	hb_h2_stream_reject(&t, status, NULL, 0);
}

static void
on_tunnel(void *sink, struct hb_tunnel_server *server, const struct hb_tunnel_request *r,
	struct hb_transport *t)
{
	struct hb_hbone *s;
	struct hb_hbone_way way = { 0 };
	char canonical[HB_AUTHORITY_MAX + 1];
	struct hb_str authority = r->authority;
	struct hb_facts f;

	(void)server;
	HB_CAST(s, sink, HB_HBONE_MAGIC);
	/* One form for whoever matches or decides; Envoy's routes take it as it was sent. */
	if (s->conf->tunnel.h2.flavour == HB_H2_ISTIO) {
		(void)hb_authority_format(&r->target, canonical, sizeof canonical);
		authority = hb_str(canonical);
	}
	learn(s, &f, authority, r->http);
	learn_target(&f, &r->target);
	s->conf->choose(s->conf->arg, r, &f, &way);
	if (way.refuse != HB_CLOSE_NONE) {
		refuse(s, t, &f, way.refuse, way.status, way.why);
	} else if (way.chain != NULL) {
		start_stream(s, t, &f, way.chain);
	} else if (hb_accept(s->worker, way.listener, t, &f) == 0) {
		count(s, HBONE_HANDED, 1);
	} else {
		refuse(s, t, &f, HB_CLOSE_NO_ROUTE, 0, "the listener does not exist");
	}
	hb_facts_fini(&f);
}

static void
on_refused(void *sink, struct hb_tunnel_server *server, const struct hb_h2_request *r,
	unsigned status, const char *why)
{
	struct hb_hbone *s;
	struct hb_facts f;

	(void)server;
	HB_CAST(s, sink, HB_HBONE_MAGIC);
	learn(s, &f, r->authority, r);
	log_refused(
		s, &f, status, status == 404 ? HB_CLOSE_NO_ROUTE : HB_CLOSE_PROTOCOL_ERROR, why);
	hb_facts_fini(&f);
}

/* ------------------------------------------------------------------ judging */

/* The request of a stream, as far as its facts tell: `v` has room for HB_HBONE_HEADERS_MAX. */
static struct hb_h2_request
request_of(const struct hb_facts *f, struct hb_h2_header *v)
{
	struct hb_h2_request r = {
		.method = HB_STR("CONNECT"), .authority = f->authority, .headers = v
	};

	for (const struct hb_fact_entry *e = f->metadata; e != NULL; e = e->next) {
		if (!hb_str_eq(e->ns, HB_STR(HB_META_REQUEST)))
			continue;
		if (hb_str_eq(e->key, HB_STR(":method")))
			r.method = e->value;
		else if (r.n_headers < HB_HBONE_HEADERS_MAX)
			v[r.n_headers++] = (struct hb_h2_header){ e->key, e->value };
	}
	return (r);
}

const struct hb_chain *
hb_hbone_chain_of(const struct hb_hbone_conf *c, struct hb_judge *j)
{
	struct hb_h2_header headers[HB_HBONE_HEADERS_MAX];
	struct hb_h2_request http = request_of(j->facts, headers);
	struct hb_tunnel_request r = { .authority = j->facts->authority, .http = &http };
	struct hb_hbone_way way = { 0 };
	struct hb_facts f;

	if (hb_authority_parse(r.authority, &r.target) != HB_AUTHORITY_OK) {
		if (c->tunnel.h2.flavour != HB_H2_ENVOY)
			return (NULL);
		r.target.port = 0;
	}
	hb_facts_copy(&f, j->facts);
	f.parent = j->facts->parent;
	c->choose(c->arg, &r, &f, &way);
	f.parent = NULL;
	hb_facts_fini(&f);
	if (way.refuse == HB_CLOSE_RBAC_DENIED) {
		j->denied = true;
		(void)snprintf(j->why, sizeof j->why, "%s", way.why);
		hb_stat_inc(j->worker, c->stats, HBONE_REVOKED);
		HB_LOG(FILTER, INFO, "tunnel revoked", "conn=%llu authority=\"%.*s\" why=\"%s\"",
			(unsigned long long)j->conn_id, HB_STR_FMT(r.authority), way.why);
	}
	return (way.refuse == HB_CLOSE_NONE ? way.chain : NULL);
}

/* ------------------------------------------------------------------ explaining */

bool
hb_hbone_explain(const struct hb_hbone_conf *c, const char *filter, struct hb_explain *ex,
	struct hb_hbone_way *ret)
{
	bool envoy = c->tunnel.h2.flavour == HB_H2_ENVOY;
	struct hb_facts *f = hb_explain_facts(ex), below;
	struct hb_h2_request http = { .method = HB_STR("CONNECT"), .authority = f->authority };
	struct hb_tunnel_request r = { .authority = f->authority, .http = &http };
	enum hb_authority_error e = hb_authority_parse(f->authority, &r.target);
	char canonical[HB_AUTHORITY_MAX + 1];

	*ret = (struct hb_hbone_way){ 0 };
	if (e != HB_AUTHORITY_OK && !envoy) {
		ret->refuse = HB_CLOSE_PROTOCOL_ERROR;
		hb_explain_step(ex, "filter", filter, "refused", "the authority %s: 400",
			hb_authority_error_text(e));
		return (false);
	}
	if (e != HB_AUTHORITY_OK)
		r.target.port = 0;
	hb_facts_copy(&below, f);
	if (!envoy) {
		(void)hb_authority_format(&r.target, canonical, sizeof canonical);
		f->authority = hb_arena_str(&f->arena, hb_str(canonical));
	}
	if (hb_facts_tls(f)->principal.len > 0)
		(void)hb_facts_state_set(
			f, HB_STR(HB_STATE_PEER_PRINCIPAL), hb_facts_tls(f)->principal, true, 0);
	*hb_facts_hello_edit(f) = (struct hb_facts_hello){ 0 };
	learn_target(f, &r.target);
	f->parent = &below;
	c->choose(c->arg, &r, f, ret);
	f->parent = NULL;
	hb_facts_fini(&below);
	if (ret->refuse != HB_CLOSE_NONE && ret->refuse != HB_CLOSE_NO_FILTER_CHAIN)
		hb_explain_step(ex, "filter", filter, "refused", "%s: %u", ret->why,
			ret->status != 0 ? ret->status :
					   hb_h2_status(c->tunnel.h2.flavour, ret->refuse));
	return (ret->refuse == HB_CLOSE_NONE || ret->refuse == HB_CLOSE_NO_FILTER_CHAIN);
}

/* ------------------------------------------------------------------ the session */

static void
on_count(void *sink, enum hb_h2_count what)
{
	static const enum hbone_stat stats[HB_H2_FLOODED] = {
		[HB_H2_REQUEST] = HBONE_RQ_TOTAL,
		[HB_H2_REFUSED] = HBONE_REFUSED,
		[HB_H2_RX_RESET] = HBONE_RX_RESET,
		[HB_H2_TX_RESET] = HBONE_TX_RESET,
		[HB_H2_MALFORMED] = HBONE_MALFORMED,
		[HB_H2_HEADERS_TOO_BIG] = HBONE_431,
		[HB_H2_KEEPALIVE_TIMEOUT] = HBONE_KEEPALIVE,
		[HB_H2_HEADERS_TIMEOUT] = HBONE_SLOW_HEADERS,
		[HB_H2_START_TIMEOUT] = HBONE_SLOW_START,
		[HB_H2_IDLE] = HBONE_IDLE,
	};
	const struct hb_hbone *s = sink;

	HB_CHECK(s, HB_HBONE_MAGIC);
	if (what >= HB_H2_FLOODED)
		count(s, HBONE_FLOOD_RESETS + (what - HB_H2_FLOODED), 1);
	else
		count(s, stats[what], 1);
}

static void
ended(struct hb_hbone *s, enum hb_close_reason reason)
{
	if (!s->counted)
		return;
	s->counted = false;
	count(s, HBONE_CX_ACTIVE, -1);
	if (reason == HB_CLOSE_PROTOCOL_ERROR)
		count(s, HBONE_CX_PROTOCOL, 1);
	if (reason == HB_CLOSE_FLOOD)
		count(s, HBONE_CX_FLOOD, 1);
}

static void
on_closed(void *sink, struct hb_tunnel_server *server, enum hb_close_reason reason)
{
	struct hb_hbone *s;
	char why[96];

	(void)server;
	HB_CAST(s, sink, HB_HBONE_MAGIC);
	ended(s, reason);
	if (s->filter == NULL || !hb_close_info(reason)->is_error)
		return;
	(void)snprintf(why, sizeof why, "HTTP/2: %s", hb_close_info(reason)->text);
	hb_filter_set_detail(s->filter, why);
}

static const struct hb_tunnel_events events = {
	.on_tunnel = on_tunnel,
	.on_accept = on_accept,
	.on_refused = on_refused,
	.on_count = on_count,
	.on_closed = on_closed,
};

enum hb_filter_status
hb_hbone_on_secured(struct hb_filter *f)
{
	struct hb_hbone *s = hb_filter_ctx(f);
	struct hb_str alpn = hb_facts_tls(hb_filter_facts(f))->alpn_chosen;
	struct hb_transport *down;

	s->magic = HB_HBONE_MAGIC;
	s->filter = f;
	s->worker = hb_filter_worker(f);
	s->conf = hb_filter_conf(f);
	HB_CHECK(s->conf, HB_HBONE_CONF_MAGIC);
	if (alpn.len > 0 && !hb_str_eq(alpn, HB_STR("h2"))) {
		hb_filter_set_detail(f, "the TLS handshake chose another protocol than h2");
		hb_filter_close(f, HB_CLOSE_PROTOCOL_ERROR);
		return (HB_FILTER_CONTINUE);
	}
	s->counted = true;
	count(s, HBONE_CX_TOTAL, 1);
	count(s, HBONE_CX_ACTIVE, 1);
	down = hb_filter_take_downstream(f);
	/* On a stream of another server: that one is answered now, our SETTINGS follow. */
	hb_transport_accept(down);
	hb_tunnel_server_start(&s->server, down, &s->conf->tunnel, &events, s);
	return (HB_FILTER_CONTINUE);
}

/* A stream that rests has nothing to do. */
static void
drain_stream(void *arg, struct hb_transport *t)
{
	struct hb_conn *c = hb_conn_at(t);

	if (c != NULL && hb_conn_owner_arg(c) == arg)
		hb_conn_drain(c);
}

void
hb_hbone_on_event(struct hb_filter *f, enum hb_event ev)
{
	struct hb_hbone *s = hb_filter_ctx(f);

	if (s->filter == NULL || s->server.magic == 0)
		return;
	if (ev == HB_EVENT_CLOSE) {
		hb_tunnel_server_close(&s->server, HB_CLOSE_DRAINED);
		ended(s, HB_CLOSE_DRAINED);
	}
	if (ev != HB_EVENT_DRAIN)
		return;
	hb_tunnel_server_drain(&s->server);
	if (s->server.h2 != NULL)
		hb_h2_each_stream(s->server.h2, drain_stream, s);
}

void
hb_hbone_fini(struct hb_filter *f)
{
	struct hb_hbone *s = hb_filter_ctx(f);

	if (s->filter == NULL)
		return;
	if (s->server.magic != 0)
		hb_tunnel_server_abort(&s->server, HB_CLOSE_ADMIN);
	ended(s, HB_CLOSE_ADMIN);
	s->filter = NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* /listeners, /connections, /drain_listeners. */
#include <stdio.h>
#include "core/admin/admin.h"
#include "core/base/log.h"
#include "envoy/admin/v3/listeners.pb-c.h"
#include "listeners/listener_priv.h"

#define LIMIT_DEFAULT 1000u
#define LIMIT_MAX     1000000u
#define FIELD_MAX     64 /* characters of one cell of the table */

/* ------------------------------------------------------------------ /listeners */

typedef Envoy__Admin__V3__Listeners msg_listeners;
typedef Envoy__Admin__V3__ListenerStatus msg_status;
typedef Envoy__Config__Core__V3__Address msg_address;

/* An address as a message, with the memory that it points to. */
struct address_msg {
	msg_address m;
	Envoy__Config__Core__V3__SocketAddress ip;
	Envoy__Config__Core__V3__Pipe pipe;
	Envoy__Config__Core__V3__EnvoyInternalAddress internal;
	char text[HB_ADDR_TEXT_MAX];
};

static void
address_fill(struct address_msg *a, const struct hb_addr *addr)
{
	envoy__config__core__v3__address__init(&a->m);
	if (addr->kind == HB_ADDR_UNIX) {
		(void)hb_addr_format(addr, a->text, sizeof a->text);
		envoy__config__core__v3__pipe__init(&a->pipe);
		a->pipe.path = a->text;
		a->m.address_case = ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_PIPE;
		a->m.pipe = &a->pipe;
		return;
	}
	if (addr->kind == HB_ADDR_INTERNAL) {
		envoy__config__core__v3__envoy_internal_address__init(&a->internal);
		a->internal.address_name_specifier_case =
			ENVOY__CONFIG__CORE__V3__ENVOY_INTERNAL_ADDRESS__ADDRESS_NAME_SPECIFIER_SERVER_LISTENER_NAME;
		a->internal.server_listener_name = (char *)(uintptr_t)addr->u.name;
		a->m.address_case =
			ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_ENVOY_INTERNAL_ADDRESS;
		a->m.envoy_internal_address = &a->internal;
		return;
	}
	(void)hb_addr_format_ip(addr, a->text, sizeof a->text);
	envoy__config__core__v3__socket_address__init(&a->ip);
	a->ip.address = a->text;
	a->ip.port_specifier_case =
		ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE;
	a->ip.port_value = addr->port;
	a->m.address_case = ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS;
	a->m.socket_address = &a->ip;
}

struct list {
	msg_listeners m;
	struct address_msg **a; /* one array a status */
};

static void
list_json(void *arg, struct hb_listener *l)
{
	struct list *v = arg;
	size_t n = v->m.n_listener_statuses++;
	struct address_msg *a = hb_calloc(l->n_addrs, sizeof *a);
	msg_address **more = hb_calloc(l->n_addrs, sizeof(msg_address *));
	msg_status *status = hb_calloc(1, sizeof *status);

	v->m.listener_statuses = hb_realloc(v->m.listener_statuses, (n + 1) * sizeof(msg_status *));
	v->a = hb_realloc(v->a, (n + 1) * sizeof(struct address_msg *));
	for (size_t i = 0; i < l->n_addrs; i++) {
		address_fill(&a[i], &l->bound[i]);
		if (i > 0)
			more[i - 1] = &a[i].m;
	}
	envoy__admin__v3__listener_status__init(status);
	status->name = l->name;
	status->local_address = &a[0].m;
	status->n_additional_local_addresses = l->n_addrs - 1;
	status->additional_local_addresses = more;
	v->m.listener_statuses[n] = status;
	v->a[n] = a;
}

static void
list_fini(struct list *v)
{
	for (size_t i = 0; i < v->m.n_listener_statuses; i++) {
		hb_free(v->m.listener_statuses[i]->additional_local_addresses);
		hb_free(v->m.listener_statuses[i]);
		hb_free(v->a[i]);
	}
	hb_free(v->m.listener_statuses);
	hb_free(v->a);
}

static void
list_text(void *arg, struct hb_listener *l)
{
	char text[HB_ADDR_TEXT_MAX];

	for (size_t i = 0; i < l->n_addrs; i++) {
		(void)hb_addr_format(&l->bound[i], text, sizeof text);
		hb_text_printf(arg, "%s::%s\n", l->name, text);
	}
}

static bool
is_json(struct hb_admin_request *rq)
{
	return (hb_str_eq(hb_admin_param(rq, "format"), HB_STR("json")));
}

static void
admin_listeners(struct hb_admin_request *rq)
{
	struct list v = { .m = ENVOY__ADMIN__V3__LISTENERS__INIT };
	struct hb_text t = { 0 };

	if (!is_json(rq)) {
		hb_listeners_each(list_text, &t);
		hb_admin_reply(rq, 200, NULL, &t);
		return;
	}
	hb_listeners_each(list_json, &v);
	hb_cfg_to_json(&t, &v.m.base, 0);
	hb_text_addc(&t, '\n');
	list_fini(&v);
	hb_admin_reply(rq, 200, "application/json", &t);
}

static const struct hb_admin_endpoint ep_listeners = { "/listeners",
	"listeners and the addresses that they are bound to (port 0 is resolved)", "format=json", 0,
	admin_listeners };

/* ------------------------------------------------------------------ /drain_listeners */

static struct hb_timer graceful;

static void
on_graceful(struct hb_timer *t)
{
	(void)t;
	hb_listeners_drain(false);
}

static void
tell_one(void *arg, struct hb_listener *l)
{
	const bool *inbound_only = arg;
	const struct hb_chain_set *set = atomic_load(&l->set);

	if (*inbound_only && !l->inbound)
		return;
	hb_ldrain_tell(set->chain, set->n);
	if (set->fallback != NULL)
		hb_ldrain_tell(&set->fallback, 1);
}

static void
admin_drain(struct hb_admin_request *rq)
{
	bool inbound = hb_admin_param(rq, "inboundonly").p != NULL;
	bool gently = hb_admin_param(rq, "graceful").p != NULL;
	bool stay = hb_admin_param(rq, "skip_exit").p != NULL;

	if (stay && !gently) {
		hb_admin_replyf(rq, 400, "skip_exit goes with graceful only\n");
		return;
	}
	HB_LOG(LISTENER, INFO, "draining by request", "inbound_only=%d graceful=%d skip_exit=%d",
		inbound, gently, stay);
	if (!gently) {
		hb_listeners_drain(inbound);
	} else {
		hb_listeners_each(tell_one, &inbound);
		if (!stay && !inbound && !hb_timer_running(&graceful))
			hb_timer_start(&graceful, hb_ldrain_time_ms());
	}
	hb_admin_replyf(rq, 200, "OK\n");
}

static const struct hb_admin_endpoint ep_drain = { "/drain_listeners",
	"stops accepting; connections stay and are told to drain",
	"inboundonly: those with traffic_direction INBOUND; graceful: stop only after the drain time; "
	"skip_exit: with graceful, do not stop at all",
	HB_ADMIN_MUTATES, admin_drain };

/* ------------------------------------------------------------------ /connections, /tunnels */

enum row_style { ROW_TABLE, ROW_JSON, ROW_LOG };

struct query {
	unsigned magic;
#define QUERY_MAGIC 0x4a7be1d9
	struct hb_admin_request *rq; /* NULL: for hb_listeners_describe */
	void (*done)(void *arg, struct hb_text *);
	void *arg;
	enum row_style style;
	bool tunnels; /* streams of tunnel servers alone */
	uint64_t limit, close_id;
	char *listener, *chain, *cluster, *peer, *sni, *authority; /* owned; NULL = any */
	size_t n;
	struct hb_listener **l; /* owned array: whose pre-connections are shown */
};

struct row {
	uint64_t id, age_ms, received, sent;
	const char *state, *listener, *chain;
	const struct hb_facts *facts;
	struct hb_str cluster, principal;
	struct hb_addr endpoint;
};

/* One worker's part of an answer. */
struct part {
	const struct query *q;
	struct hb_text *out;
	uint64_t n;
	const char *listener;
};

static void
query_free(struct query *q)
{
	hb_free(q->listener);
	hb_free(q->chain);
	hb_free(q->cluster);
	hb_free(q->peer);
	hb_free(q->sni);
	hb_free(q->authority);
	hb_free(q->l);
	HB_DEL(q);
}

static bool
is_wanted(const char *want, struct hb_str have)
{
	return (want == NULL || hb_str_ieq(hb_str(want), have));
}

static bool
row_matches(const struct query *q, const struct row *r)
{
	char ip[HB_ADDR_TEXT_MAX], full[HB_ADDR_TEXT_MAX];

	if (!is_wanted(q->listener, hb_str(r->listener)) ||
		!is_wanted(q->chain, hb_str(r->chain)) || !is_wanted(q->cluster, r->cluster) ||
		!is_wanted(q->sni, hb_facts_hello(r->facts)->sni) ||
		!is_wanted(q->authority, r->facts->authority))
		return (false);
	if (q->peer == NULL)
		return (true);
	(void)hb_addr_format_ip(&r->facts->remote, ip, sizeof ip);
	(void)hb_addr_format(&r->facts->remote, full, sizeof full);
	return (is_wanted(q->peer, hb_str(ip)) || is_wanted(q->peer, hb_str(full)) ||
		is_wanted(q->peer, r->principal));
}

static void
json_field(struct hb_text *t, const char *key, struct hb_str value)
{
	hb_text_printf(t, ",\"%s\":", key);
	hb_text_json(t, value.p, value.len);
}

static void
row_json(struct hb_text *t, const struct row *r, const char *peer, const char *endpoint)
{
	hb_text_printf(t, "{\"id\":%llu", (unsigned long long)r->id);
	json_field(t, "state", hb_str(r->state));
	json_field(t, "peer", hb_str(peer));
	json_field(t, "sni", hb_facts_hello(r->facts)->sni);
	json_field(t, "principal", r->principal);
	json_field(t, "authority", r->facts->authority);
	json_field(t, "listener", hb_str(r->listener));
	json_field(t, "chain", hb_str(r->chain));
	json_field(t, "cluster", r->cluster);
	json_field(t, "endpoint", hb_str(endpoint));
	hb_text_printf(t, ",\"received\":%llu,\"sent\":%llu,\"age_ms\":%llu}\n",
		(unsigned long long)r->received, (unsigned long long)r->sent,
		(unsigned long long)r->age_ms);
}

/* Names come from peers and from files: blanks and line ends would break the table. */
static void
cell(struct hb_text *t, int width, struct hb_str s)
{
	char z[FIELD_MAX + 1];
	size_t n = HB_MIN(s.len, (size_t)FIELD_MAX);

	for (size_t i = 0; i < n; i++)
		z[i] = s.p[i] > ' ' && s.p[i] < 0x7f ? s.p[i] : '?';
	z[n] = '\0';
	hb_text_printf(t, "%-*s ", width, n == 0 ? "-" : z);
}

static void
row_table(struct hb_text *t, const struct row *r, const char *peer, const char *endpoint)
{
	hb_text_printf(t, "%-15llu %-10s ", (unsigned long long)r->id, r->state);
	cell(t, 21, hb_str(peer));
	cell(t, 32, hb_facts_hello(r->facts)->sni);
	cell(t, 20, hb_str(r->listener));
	cell(t, 20, hb_str(r->chain));
	cell(t, 24, r->cluster);
	cell(t, 21, hb_str(endpoint));
	hb_text_printf(t, "%12llu %12llu %8llu\n", (unsigned long long)r->received,
		(unsigned long long)r->sent, (unsigned long long)(r->age_ms / 1000));
}

/* Of tunnels: who, and where to. */
static void
row_tunnel(struct hb_text *t, const struct row *r, const char *peer, const char *endpoint)
{
	hb_text_printf(t, "%-15llu %-10s ", (unsigned long long)r->id, r->state);
	cell(t, 21, hb_str(peer));
	cell(t, 48, r->principal);
	cell(t, 32, r->facts->authority);
	cell(t, 16, hb_str(r->listener));
	cell(t, 16, hb_str(r->chain));
	cell(t, 20, r->cluster);
	cell(t, 21, hb_str(endpoint));
	hb_text_printf(t, "%12llu %12llu %8llu\n", (unsigned long long)r->received,
		(unsigned long long)r->sent, (unsigned long long)(r->age_ms / 1000));
}

static const char tunnels_head[] =
	"ID              STATE      PEER                  PRINCIPAL                                      "
	"  AUTHORITY                        SERVER           CHAIN            CLUSTER              "
	"ENDPOINT                  RECEIVED         SENT    AGE_S\n";
static const char table_head[] =
	"ID              STATE      PEER                  SNI                              LISTENER"
	"             CHAIN                CLUSTER                  ENDPOINT                  RECEIVED"
	"         SENT   AGE_S\n";

static void
log_pair(struct hb_text *t, const char *key, struct hb_str value)
{
	hb_text_printf(t, " %s=", key);
	cell(t, 0, value);
	t->len--;
}

static void
row_log(struct hb_text *t, const struct row *r, const char *peer, const char *endpoint)
{
	hb_text_printf(t, "id=%llu state=%s", (unsigned long long)r->id, r->state);
	log_pair(t, "peer", hb_str(peer));
	log_pair(t, "sni", hb_facts_hello(r->facts)->sni);
	log_pair(t, "listener", hb_str(r->listener));
	log_pair(t, "chain", hb_str(r->chain));
	log_pair(t, "cluster", r->cluster);
	log_pair(t, "endpoint", hb_str(endpoint));
	hb_text_printf(t, " received=%llu sent=%llu age_s=%llu\n", (unsigned long long)r->received,
		(unsigned long long)r->sent, (unsigned long long)(r->age_ms / 1000));
}

static void
add_row(struct part *p, const struct row *r)
{
	char peer[HB_ADDR_TEXT_MAX], endpoint[HB_ADDR_TEXT_MAX];

	if (p->n >= p->q->limit || !row_matches(p->q, r))
		return;
	p->n++;
	(void)hb_addr_format(&r->facts->remote, peer, sizeof peer);
	endpoint[0] = '\0';
	if (r->endpoint.kind != HB_ADDR_NONE)
		(void)hb_addr_format(&r->endpoint, endpoint, sizeof endpoint);
	switch (p->q->style) {
	case ROW_TABLE:
		if (p->q->tunnels)
			row_tunnel(p->out, r, peer, endpoint);
		else
			row_table(p->out, r, peer, endpoint);
		break;
	case ROW_JSON:
		row_json(p->out, r, peer, endpoint);
		break;
	case ROW_LOG:
		row_log(p->out, r, peer, endpoint);
		break;
	}
}

static bool
add_conn(void *arg, struct hb_conn *c)
{
	struct part *p = arg;
	const struct hb_facts *identity;
	struct hb_conn_view v;
	struct row r;

	hb_conn_view(c, &v);
	if (p->q->tunnels && v.facts->authority.len == 0)
		return (true);
	identity = hb_facts_identity(v.facts);
	r = (struct row){ .id = v.id,
		.age_ms = v.age_ms,
		.received = v.bytes_in,
		.sent = v.bytes_out,
		.state = v.state,
		.listener = v.listener,
		.chain = v.chain,
		.facts = v.facts,
		.cluster = HB_STR(""),
		.principal = identity == NULL ? HB_STR("") : hb_facts_tls(identity)->principal };
	if (v.upstream != NULL) {
		r.cluster = v.upstream->cluster;
		r.endpoint = v.upstream->endpoint;
	}
	add_row(p, &r);
	return (p->n < p->q->limit);
}

static void
add_pre(void *arg, const struct hb_facts *f, uint64_t age_ms, size_t bytes)
{
	struct part *p = arg;
	struct row r = { .age_ms = age_ms,
		.received = bytes,
		.state = "inspecting",
		.listener = p->listener,
		.chain = "",
		.facts = f,
		.cluster = HB_STR(""),
		.principal = HB_STR("") };

	add_row(p, &r);
}

static void
gather(struct hb_worker *w, struct hb_text *out, void *arg)
{
	struct part p = { .q = arg, .out = out };

	HB_CHECK(p.q, QUERY_MAGIC);
	hb_conn_foreach(w, add_conn, &p);
	for (size_t i = 0; i < p.q->n && !p.q->tunnels; i++) {
		p.listener = p.q->l[i]->name;
		hb_pre_foreach(&p.q->l[i]->worker[w->index], add_pre, &p);
	}
}

static void
add_listener(void *arg, struct hb_listener *l)
{
	struct query *q = arg;

	q->l = hb_realloc(q->l, (q->n + 1) * sizeof(struct hb_listener *));
	q->l[q->n++] = l;
}

/* Cuts the workers' rows to the limit; returns how many stay. */
static uint64_t
cut(struct hb_text *t, uint64_t limit, bool *ret_more)
{
	uint64_t n = 0;
	size_t i = 0;

	while (i < t->len && n < limit) {
		const char *lf = memchr(t->p + i, '\n', t->len - i);

		HB_ASSERT(lf != NULL);
		i = (size_t)(lf - t->p) + 1;
		n++;
	}
	*ret_more = i < t->len;
	t->len = i;
	if (t->p != NULL)
		t->p[i] = '\0';
	return (n);
}

static void
reply_json(const struct query *q, const struct hb_text *rows, uint64_t n, bool more)
{
	struct hb_text t = { 0 };

	hb_text_printf(&t, "{\"%s\":[\n", q->tunnels ? "tunnels" : "connections");
	for (size_t i = 0; i < rows->len;) {
		size_t len = (size_t)((const char *)memchr(rows->p + i, '\n', rows->len - i) -
			(rows->p + i));

		hb_text_add(&t, rows->p + i, len);
		i += len + 1;
		hb_text_addz(&t, i < rows->len ? ",\n" : "\n");
	}
	hb_text_printf(&t, "],\"shown\":%llu,\"truncated\":%s}\n", (unsigned long long)n,
		more ? "true" : "false");
	hb_admin_reply(q->rq, 200, "application/json", &t);
}

static void
gathered(void *arg, struct hb_text *rows)
{
	struct query *q = arg;
	struct hb_text t = { 0 };
	bool more;
	uint64_t n = cut(rows, q->limit, &more);

	if (q->rq == NULL) {
		q->done(q->arg, rows);
	} else if (q->style == ROW_JSON) {
		reply_json(q, rows, n, more);
	} else {
		hb_text_addz(&t, q->tunnels ? tunnels_head : table_head);
		hb_text_add(&t, rows->p, rows->len);
		if (more)
			hb_text_printf(
				&t, "… only %llu are shown: see limit=\n", (unsigned long long)n);
		hb_admin_reply(q->rq, 200, NULL, &t);
	}
	query_free(q);
}

static void
start_query(struct query *q)
{
	hb_listeners_each(add_listener, q);
	hb_ldrain_each(add_listener, q);
	hb_admin_gather(gather, gathered, q);
}

void
hb_listeners_describe(unsigned max, void (*done)(void *arg, struct hb_text *), void *arg)
{
	struct query *q;

	HB_NEW(q, QUERY_MAGIC);
	q->style = ROW_LOG;
	q->limit = max;
	q->done = done;
	q->arg = arg;
	start_query(q);
}

static void
close_gather(struct hb_worker *w, struct hb_text *out, void *arg)
{
	const struct query *q = arg;
	struct hb_conn *c = hb_conn_find(w, q->close_id);

	if (c == NULL)
		return;
	hb_text_addz(out, "closed\n");
	hb_conn_close(c, HB_CLOSE_ADMIN);
}

static void
close_gathered(void *arg, struct hb_text *found)
{
	struct query *q = arg;

	if (found->len > 0)
		hb_admin_replyf(
			q->rq, 200, "connection %llu closed\n", (unsigned long long)q->close_id);
	else
		hb_admin_replyf(
			q->rq, 404, "no connection %llu\n", (unsigned long long)q->close_id);
	query_free(q);
}

static char *
copy_param(struct hb_admin_request *rq, const char *name)
{
	struct hb_str s = hb_admin_param(rq, name);

	return (s.p == NULL ? NULL : hb_strndup(s.p, s.len));
}

static void
list(struct hb_admin_request *rq, bool tunnels)
{
	struct hb_str id = hb_admin_param(rq, "close"), limit = hb_admin_param(rq, "limit");
	struct query *q;

	HB_NEW(q, QUERY_MAGIC);
	q->rq = rq;
	q->tunnels = tunnels;
	q->limit = LIMIT_DEFAULT;
	if (limit.p != NULL && !hb_str_u64(limit, LIMIT_MAX, &q->limit)) {
		hb_admin_replyf(rq, 400, "limit must be a number up to %u\n", LIMIT_MAX);
		query_free(q);
	} else if (id.p != NULL && !hb_admin_is_post(rq)) {
		hb_admin_replyf(rq, 405, "close changes state: use POST\n");
		query_free(q);
	} else if (id.p != NULL && !hb_str_u64(id, UINT64_MAX, &q->close_id)) {
		hb_admin_replyf(rq, 400, "close must be the number of a connection\n");
		query_free(q);
	} else if (id.p != NULL) {
		hb_admin_gather(close_gather, close_gathered, q);
	} else {
		q->style = is_json(rq) ? ROW_JSON : ROW_TABLE;
		q->listener = copy_param(rq, "listener");
		q->chain = copy_param(rq, "chain");
		q->cluster = copy_param(rq, "cluster");
		q->peer = copy_param(rq, "peer");
		q->sni = copy_param(rq, "sni");
		q->authority = copy_param(rq, "authority");
		start_query(q);
	}
}

static void
admin_connections(struct hb_admin_request *rq)
{
	list(rq, false);
}

static void
admin_tunnels(struct hb_admin_request *rq)
{
	list(rq, true);
}

static const struct hb_admin_endpoint ep_connections = { "/connections",
	"open connections: peer, server name, chain, endpoint, bytes, age, state",
	"listener=, chain=, cluster=, peer=IP|IP:PORT|ID, sni=, limit=1000, format=json; POST with "
	"close=ID closes one",
	0, admin_connections };

static const struct hb_admin_endpoint ep_tunnels = { "/tunnels",
	"open tunnel streams: peer, identity, authority, chain, endpoint, bytes, age, state",
	"authority=, listener=, chain=, cluster=, peer=IP|IP:PORT|ID, limit=1000, format=json; POST with "
	"close=ID closes one",
	0, admin_tunnels };

void
hb_listeners_admin_init(void)
{
	hb_admin_add(&ep_listeners);
	hb_admin_add(&ep_connections);
	hb_admin_add(&ep_tunnels);
	hb_admin_add(&ep_drain);
}

void
hb_listeners_admin_start(void)
{
	hb_timer_init(&graceful, hb_worker_control(), on_graceful);
}

void
hb_listeners_admin_stop(void)
{
	hb_timer_stop(&graceful);
}

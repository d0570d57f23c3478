/* SPDX-License-Identifier: Apache-2.0 */
/* /listeners, /connections, /drain_listeners. */
#include <stdio.h>
#include "core/admin/admin.h"
#include "core/base/log.h"
#include "envoy/admin/v3/listeners.pb-c.h"
#include "core/filter/dial.h"
#include "listeners/listener_priv.h"
#include "listeners/rows.h"

#define LIMIT_DEFAULT 1000u
#define LIMIT_MAX     1000000u

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

struct query {
	unsigned magic;
#define QUERY_MAGIC 0x4a7be1d9
	struct hb_admin_request *rq; /* NULL: for hb_listeners_describe */
	void (*done)(void *arg, struct hb_text *);
	void *arg;
	enum hb_row_style style;
	bool tunnels; /* streams of tunnel servers alone */
	uint64_t limit, close_id;
	/* Owned; NULL = any. */
	char *listener, *chain, *cluster, *peer, *sni, *authority, *direction;
	size_t n;
	struct hb_listener **l; /* owned array: whose pre-connections are shown */
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
	hb_free(q->direction);
	hb_free(q->l);
	HB_DEL(q);
}

static bool
is_wanted(const char *want, struct hb_str have)
{
	return (want == NULL || hb_str_ieq(hb_str(want), have));
}

static bool
row_matches(const struct query *q, const struct hb_row *r)
{
	char ip[HB_ADDR_TEXT_MAX], full[HB_ADDR_TEXT_MAX];

	if (!is_wanted(q->listener, hb_str(r->listener)) ||
		!is_wanted(q->chain, hb_str(r->chain)) || !is_wanted(q->cluster, r->cluster) ||
		!is_wanted(q->sni, hb_facts_hello(r->facts)->sni) ||
		!is_wanted(q->authority, r->authority) ||
		(q->direction != NULL && !is_wanted(q->direction, hb_str(r->direction)) &&
			!(r->outer && is_wanted(q->direction, HB_STR("out")))))
		return (false);
	if (q->peer == NULL)
		return (true);
	(void)hb_addr_format_ip(&r->peer, ip, sizeof ip);
	(void)hb_addr_format(&r->peer, full, sizeof full);
	return (is_wanted(q->peer, hb_str(ip)) || is_wanted(q->peer, hb_str(full)) ||
		is_wanted(q->peer, r->principal));
}

static void
add_row(struct part *p, const struct hb_row *r)
{
	if (p->n >= p->q->limit || !row_matches(p->q, r))
		return;
	p->n++;
	hb_row_add(p->out, r, p->q->style, p->q->tunnels);
}

/* A tunnel that the connection of `row` goes through. */
struct tunnel_arg {
	struct part *part;
	const struct hb_row *row;
};

static void
add_tunnel(void *arg, const struct hb_tunnel_view *v)
{
	const struct tunnel_arg *a = arg;
	struct hb_row r = *a->row;

	r.direction = v->outer ? "outer" : "out";
	r.outer = v->outer;
	r.state = v->state;
	r.peer = r.endpoint = v->endpoint;
	r.principal = v->peer;
	r.authority = v->authority;
	r.cluster = v->cluster;
	r.received = v->bytes_in;
	r.sent = v->bytes_out;
	r.age_ms = v->age_ms;
	add_row(a->part, &r);
}

static void
add_tunnels(struct part *p, struct hb_conn *c, const struct hb_row *r)
{
	struct tunnel_arg a = { p, r };
	struct hb_text asked = { 0 };
	struct hb_transport *up = hb_conn_upstream(c, &asked);

	if (r->authority.len > 0)
		add_row(p, r);
	if (up != NULL)
		hb_dial_tunnels(up, r->facts, hb_strn(asked.p, asked.len), add_tunnel, &a);
	hb_text_fini(&asked);
}

static bool
add_conn(void *arg, struct hb_conn *c)
{
	struct part *p = arg;
	const struct hb_facts *identity;
	struct hb_conn_view v;
	struct hb_row r;

	hb_conn_view(c, &v);
	identity = hb_facts_identity(v.facts);
	r = (struct hb_row){ .id = v.id,
		.age_ms = v.age_ms,
		.received = v.bytes_in,
		.sent = v.bytes_out,
		.direction = "in",
		.state = v.state,
		.listener = v.listener,
		.chain = v.chain,
		.facts = v.facts,
		.peer = v.facts->remote,
		.authority = v.facts->authority,
		.cluster = HB_STR(""),
		.principal = identity == NULL ? HB_STR("") : hb_facts_tls(identity)->principal };
	if (v.upstream != NULL) {
		r.cluster = v.upstream->cluster;
		r.endpoint = v.upstream->endpoint;
	}
	if (p->q->tunnels)
		add_tunnels(p, c, &r);
	else
		add_row(p, &r);
	return (p->n < p->q->limit);
}

static void
add_pre(void *arg, const struct hb_facts *f, uint64_t age_ms, size_t bytes)
{
	struct part *p = arg;
	struct hb_row r = { .age_ms = age_ms,
		.received = bytes,
		.direction = "in",
		.state = "inspecting",
		.listener = p->listener,
		.chain = "",
		.facts = f,
		.peer = f->remote,
		.authority = HB_STR(""),
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
	} else if (q->style == HB_ROW_JSON) {
		reply_json(q, rows, n, more);
	} else {
		hb_rows_table(&t, rows, q->tunnels);
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
	q->style = HB_ROW_LOG;
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
		q->style = is_json(rq) ? HB_ROW_JSON : HB_ROW_TABLE;
		q->listener = copy_param(rq, "listener");
		q->chain = copy_param(rq, "chain");
		q->cluster = copy_param(rq, "cluster");
		q->peer = copy_param(rq, "peer");
		q->sni = copy_param(rq, "sni");
		q->authority = copy_param(rq, "authority");
		q->direction = copy_param(rq, "direction");
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
	"open tunnel streams that end here and that we opened: direction, peer, identity, authority, chain, "
	"endpoint, bytes, age, state",
	"direction=in|out|outer, authority=, listener=, chain=, cluster=, peer=IP|IP:PORT|ID, limit=1000, format=json; POST with "
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

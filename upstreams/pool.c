/* SPDX-License-Identifier: Apache-2.0 */
/* Peers of a pool, and the requests that wait for a stream or for its answer. */
#include <stdio.h>
#include "core/mesh/baggage.h"
#include "upstreams/pool_priv.h"

#define HEADERS_MAX 128u  /* of an answer, that are shown */
#define SPREAD_MS   1000u /* between connections beside hot ones */

static void dispatch_run(struct hb_run *);

static void
count(const struct hb_pool *pool, enum hb_cluster_stat i, int64_t n)
{
	hb_stat_add(pool->w->worker, pool->w->cluster->stats, i, n);
}

/* ------------------------------------------------------------------ pools and peers */

/* Those with replaced certificates go now if they have no streams, else with the last of them. */
static void
on_changed(struct hb_upconn_pool *changes)
{
	struct hb_pool *pool = HB_CONTAINER(changes, struct hb_pool, changes);
	struct hb_list *n, *tmp;

	HB_CHECK(pool, HB_POOL_MAGIC);
	HB_LIST_FOREACH_SAFE (n, tmp, &pool->conns) {
		struct pool_conn *c = HB_LIST_ENTRY(n, struct pool_conn, node);

		if (c->peer == NULL || !hb_pool__conn_stale(c))
			continue;
		count(pool, CL_POOL_STALE, 1);
		hb_pool__conn_retire(c);
	}
}

static struct hb_pool *
pool_of(struct hb_cluster_w *w)
{
	struct hb_pool *pool = w->pool;

	if (pool == NULL) {
		HB_NEW(pool, HB_POOL_MAGIC);
		pool->w = w;
		pool->peers = hb_map_new();
		hb_list_init(&pool->conns);
		hb_list_init(&pool->idle);
		pool->changes.changed = on_changed;
		w->pool = pool;
	}
	HB_CHECK(pool, HB_POOL_MAGIC);
	return (pool);
}

void
hb_pool_free(struct hb_cluster_w *w)
{
	struct hb_pool *pool = w->pool;

	if (pool == NULL)
		return;
	HB_CHECK(pool, HB_POOL_MAGIC);
	HB_ASSERT(hb_map_count(pool->peers) == 0 && hb_list_empty(&pool->conns));
	w->pool = NULL;
	hb_map_free(&pool->peers);
	hb_text_fini(&pool->key);
	HB_DEL(pool);
}

static void
key_add_addr(struct hb_text *t, const struct hb_addr *a, uint16_t port)
{
	struct {
		uint16_t port;
		uint8_t kind, len, ip[16];
	} k = { port != 0 ? port : a->port, a->kind, 0, { 0 } };

	if (a->kind == HB_ADDR_V4 || a->kind == HB_ADDR_V6) {
		memcpy(k.ip, a->u.ip, a->kind == HB_ADDR_V4 ? 4 : 16);
		hb_text_add(t, &k, sizeof k);
	} else {
		/* An abstract name begins with a NUL. */
		char text[HB_ADDR_TEXT_MAX];

		(void)hb_addr_format(a, text, sizeof text);
		hb_text_add(t, text, strlen(text) + 1);
	}
}

/* Whatever tells one peer from another within a cluster. Each new stream asks: no text is made. */
static struct hb_str
key_of(struct hb_pool *pool, const struct hb_pool_request *rq)
{
	const void *const who[] = { rq->socket, rq->conf };
	struct hb_text *t = &pool->key;

	t->len = 0;
	hb_text_add(t, who, sizeof who);
	for (unsigned i = 0; i < rq->addrs->n; i++)
		key_add_addr(t, &rq->addrs->v[i], rq->port);
	hb_text_add(t, rq->host, strlen(rq->host) + 1);
	hb_transport_socket_key(rq->socket, rq->facts, hb_str(rq->host), t);
	return (hb_strn(t->p, t->len));
}

static struct hb_ep_addrs *
addrs_with_port(const struct hb_ep_addrs *from, uint16_t port)
{
	struct hb_ep_addrs *a = hb_ep_addrs_copy(from);

	for (unsigned i = 0; port != 0 && i < a->n; i++) {
		if (a->v[i].kind == HB_ADDR_V4 || a->v[i].kind == HB_ADDR_V6)
			a->v[i].port = port;
	}
	return (a);
}

static struct pool_peer *
peer_get(struct hb_pool *pool, const struct hb_pool_request *rq)
{
	struct hb_str key = key_of(pool, rq);
	struct pool_peer *p = hb_map_get(pool->peers, key);

	if (p != NULL) {
		HB_CHECK(p, POOL_PEER_MAGIC);
		return (p);
	}
	HB_NEW(p, POOL_PEER_MAGIC);
	p->pool = pool;
	p->key = hb_malloc(key.len);
	memcpy(p->key, key.p, key.len);
	p->key_len = key.len;
	p->addrs = addrs_with_port(rq->addrs, rq->port);
	p->host = hb_strdup(rq->host);
	p->limit = HB_POOL_STREAMS;
	hb_list_init(&p->conns);
	hb_list_init(&p->waiting);
	hb_run_init(&p->run, dispatch_run);
	(void)hb_map_put(pool->peers, key, p);
	return (p);
}

void
hb_pool__peer_check(struct pool_peer *p)
{
	HB_CHECK(p, POOL_PEER_MAGIC);
	if (p->n_conns > 0 || p->n_requests > 0 || p->busy)
		return;
	hb_run_cancel(&p->run);
	(void)hb_map_del(p->pool->peers, hb_strn(p->key, p->key_len));
	hb_free(p->key);
	hb_ep_addrs_free(p->addrs);
	hb_free(p->host);
	HB_DEL(p);
}

void
hb_pool__dispatch_soon(struct pool_peer *p)
{
	hb_run_soon(p->pool->w->worker, &p->run);
}

/* ------------------------------------------------------------------ the end of a request */

static void
rq_free(struct hb_dead *dead)
{
	struct hb_pool_rq *q = HB_CONTAINER(dead, struct hb_pool_rq, dead);

	HB_CHECK(q, HB_POOL_RQ_MAGIC);
	hb_ep_addrs_free(q->addrs);
	hb_free(q->host);
	HB_DEL(q);
}

static void
stop_waiting(struct hb_pool_rq *q)
{
	if (!hb_list_linked(&q->node))
		return;
	hb_list_del(&q->node);
	q->peer->n_waiting--;
}

static void
rq_end(struct hb_pool_rq *q)
{
	HB_ASSERT(q->t == NULL);
	hb_timer_stop(&q->timer);
	hb_run_cancel(&q->run);
	stop_waiting(q);
	if (q->peer != NULL) {
		q->peer->n_requests--;
		hb_pool__dispatch_soon(q->peer);
	}
	hb_dead_add(q->worker, &q->dead, rq_free);
}

static void
report(struct hb_pool_rq *q)
{
	struct hb_pool_result res = {
		.reason = q->reason,
		.addr = q->rq.addrs->v[0],
		.timeout = q->timeout,
		.text = q->text,
	};

	if (res.addr.kind != HB_ADDR_V4 && res.addr.kind != HB_ADDR_V6)
		memset(&res.addr, 0, sizeof res.addr);
	rq_end(q);
	q->rq.done(q->rq.arg, &res);
}

static void
on_run(struct hb_run *run)
{
	report(HB_CONTAINER(run, struct hb_pool_rq, run));
}

/* From the run queue: callers may be on the stack. */
static void
rq_fail(struct hb_pool_rq *q, enum hb_close_reason reason, const char *text)
{
	HB_ASSERT(reason != HB_CLOSE_NONE);
	stop_waiting(q);
	hb_timer_stop(&q->timer);
	q->reason = reason;
	(void)snprintf(q->text, sizeof q->text, "%s", text);
	hb_run_soon(q->worker, &q->run);
}

void
hb_pool_cancel(struct hb_pool_rq **qp)
{
	struct hb_pool_rq *q = *qp;

	HB_CHECK(q, HB_POOL_RQ_MAGIC);
	*qp = NULL;
	if (q->t != NULL)
		hb_transport_abort(&q->t, HB_CLOSE_LOCAL_CLOSE);
	else if (q->conn != NULL && q->conn->only == q)
		hb_pool__conn_drop(q->conn);
	rq_end(q);
}

static void
on_timer(struct hb_timer *timer)
{
	struct hb_pool_rq *q = HB_CONTAINER(timer, struct hb_pool_rq, timer);
	char text[128];

	HB_CHECK(q, HB_POOL_RQ_MAGIC);
	q->timeout = true;
	if (q->t != NULL) {
		hb_transport_abort(&q->t, HB_CLOSE_CONNECT_TIMEOUT);
		(void)snprintf(text, sizeof text, "tunnel: no answer within %llu ms",
			(unsigned long long)q->rq.conf->answer_ms);
	} else {
		(void)snprintf(text, sizeof text,
			"tunnel: no room on the %u connections to this peer",
			q->peer == NULL ? 1 : q->peer->n_conns);
	}
	count(pool_of(q->rq.w), CL_RQ_TIMEOUT, 1);
	rq_fail(q, HB_CLOSE_CONNECT_TIMEOUT, text);
}

static uint64_t
wait_ms(const struct hb_pool_rq *q)
{
	return (q->rq.w->cluster->connect_timeout_ms + q->rq.conf->handshake_ms +
		q->rq.conf->answer_ms);
}

/* ------------------------------------------------------------------ the stream of a request */

static struct hb_pool_rq *
rq_of(void *sink)
{
	struct hb_pool_rq *q;

	HB_CAST(q, sink, HB_POOL_RQ_MAGIC);
	return (q);
}

struct answer {
	struct hb_header v[HEADERS_MAX];
	size_t n;
};

static void
add_header(void *arg, struct hb_str name, struct hb_str value)
{
	struct answer *a = arg;

	if (a->n < HEADERS_MAX)
		a->v[a->n++] = (struct hb_header){ name, value };
}

/* Answers of one peer mostly bring the same: it is read once. */
static void
look_at_baggage(struct hb_pool_rq *q, const struct answer *a)
{
	const struct hb_facts *f = q->rq.facts;
	struct hb_str line[HEADERS_MAX], who;
	struct hb_workload_labels labels;
	struct pool_conn *c = q->conn;
	struct hb_baggage b;
	uint64_t hash;
	size_t n = 0;

	for (size_t i = 0; i < a->n; i++)
		if (hb_str_eq(a->v[i].name, HB_STR("baggage")))
			line[n++] = a->v[i].value;
	if (n == 0)
		return;
	who = hb_destination_principal(f, hb_str(c->peer_name == NULL ? "" : c->peer_name),
		f != NULL && (f->parent != NULL || hb_facts_identity(f) != NULL));
	hash = hb_hash(who.p, who.len);
	for (size_t i = 0; i < n; i++)
		hash = hash * 31 + hb_hash(line[i].p, line[i].len);
	if (hash != c->baggage_seen) {
		c->baggage_seen = hash;
		c->baggage_found = 0;
		if (hb_baggage_parse(line, n, &b) != HB_BAGGAGE_OK)
			c->baggage_found = CL_RQ_BAGGAGE_INVALID;
		else if (!hb_destination_labels(who, &b, false, &labels))
			c->baggage_found = CL_RQ_BAGGAGE_CONTRADICTS;
	}
	if (c->baggage_found != 0)
		count(pool_of(q->rq.w), (enum hb_cluster_stat)c->baggage_found, 1);
}

static void
tell_response(struct hb_pool_rq *q, struct hb_transport *t)
{
	unsigned status = hb_h2_stream_status(t);
	struct answer a;

	if (status == 0)
		return;
	a.n = 0;
	hb_h2_stream_response(t, add_header, &a);
	look_at_baggage(q, &a);
	if (q->rq.on_response != NULL)
		q->rq.on_response(q->rq.arg, status, a.v, a.n);
}

static void
stream_on_connected(void *sink, struct hb_transport *t)
{
	tell_response(rq_of(sink), t);
}

/* The peer's SETTINGS have come before any answer. */
static void
learn_limit(struct hb_pool_rq *q)
{
	if (q->peer != NULL && q->conn->h2 != NULL)
		q->peer->limit = hb_h2_peer_limit(q->conn->h2);
}

static void
stream_on_secured(void *sink, struct hb_transport *t)
{
	struct hb_pool_rq *q = rq_of(sink);
	struct pool_conn *c = q->conn;
	struct hb_pool_result res = {
		.t = t,
		.addr = c->addr,
		.local = c->local,
		.peer = hb_str(c->peer_name == NULL ? "" : c->peer_name),
		.host = hb_str(c->host),
		.text = "",
	};

	hb_pool__stream_won(t, q->rq.cell);
	learn_limit(q);
	q->t = NULL;
	rq_end(q);
	q->rq.done(q->rq.arg, &res);
}

/*
 * The peer has not looked at the request (REFUSED_STREAM, also what nghttp2 makes of a GOAWAY that
 * does not cover it), or the connection, which had served others, ended under it before an answer:
 * no byte was sent, another connection may do.
 */
static bool
may_try_again(const struct hb_pool_rq *q, enum hb_close_reason reason, unsigned status)
{
	if (q->peer == NULL || status != 0 || q->again >= q->rq.conf->retries_max)
		return (false);
	return (reason == HB_CLOSE_STREAM_REFUSED || (q->conn->h2 == NULL && q->conn->answered));
}

static void
explain_failure(const struct hb_pool_rq *q, enum hb_close_reason reason, unsigned status, char *dst,
	size_t cap)
{
	if (status != 0)
		(void)snprintf(dst, cap, "tunnel_response:%u", status);
	else if (q->conn->h2 == NULL && *q->conn->failure != '\0' &&
		reason != HB_CLOSE_STREAM_REFUSED)
		(void)snprintf(dst, cap, "%.200s", q->conn->failure);
	else
		(void)snprintf(dst, cap, "tunnel: %s", hb_close_info(reason)->text);
}

/* As a failure to connect, which it is for whom the tunnel is for. */
static enum hb_close_reason
failure_reason(enum hb_close_reason r)
{
	switch (r) {
	case HB_CLOSE_DONE:
	case HB_CLOSE_PEER_RESET:
	case HB_CLOSE_PEER_TRUNCATED:
	case HB_CLOSE_IO_ERROR:
	case HB_CLOSE_KEEPALIVE_TIMEOUT:
	case HB_CLOSE_SHUTDOWN:
	case HB_CLOSE_STREAM_RESET:
		return (HB_CLOSE_CONNECT_FAILED);
	default:
		return (r);
	}
}

static void
stream_on_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	struct hb_pool_rq *q = rq_of(sink);
	struct pool_conn *c = q->conn;
	unsigned status = hb_h2_stream_status(t);
	char text[HB_RACE_TEXT_MAX];

	q->t = NULL;
	tell_response(q, t);
	if (reason == HB_CLOSE_STREAM_REFUSED) {
		c->full = true;
		learn_limit(q);
	}
	if (may_try_again(q, reason, status)) {
		q->again++;
		q->conn = NULL;
		count(pool_of(q->rq.w), CL_RQ_RETRY, 1);
		hb_timer_start(&q->timer, wait_ms(q));
		hb_list_add_head(&q->peer->waiting, &q->node);
		q->peer->n_waiting++;
		hb_pool__dispatch_soon(q->peer);
		return;
	}
	explain_failure(q, reason, status, text, sizeof text);
	q->conn = NULL;
	rq_fail(q, failure_reason(reason), text);
}

static const struct hb_transport_events stream_events = {
	.on_connected = stream_on_connected,
	.on_secured = stream_on_secured,
	.on_data = hb_race_no_data,
	.on_closed = stream_on_closed,
};

static void
open_stream(struct pool_conn *c, struct hb_pool_rq *q)
{
	const struct hb_tunnel *tun = q->rq.tunnel;
	struct hb_h2_request r = {
		.authority = tun->authority,
		.headers = (const struct hb_h2_header *)(const void *)tun->headers,
		.n_headers = tun->n_headers,
	};

	_Static_assert(sizeof(struct hb_header) == sizeof(struct hb_h2_header) &&
			offsetof(struct hb_header, value) == offsetof(struct hb_h2_header, value),
		"one header, two names");
	if (tun->post) {
		r.method = HB_STR("POST");
		r.scheme = HB_STR("https");
		r.path = tun->path.len > 0 ? tun->path : HB_STR("/");
	}
	stop_waiting(q);
	q->conn = c;
	q->t = hb_h2_open(c->h2, &r);
	HB_ASSERT(q->t != NULL);
	hb_transport_attach(q->t, &stream_events, q);
	(void)hb_pool__stream_watch(c, q->t);
	hb_timer_start(&q->timer, q->rq.conf->answer_ms);
}

/* ------------------------------------------------------------------ streams for those who wait */

/* Of those that are not hot, or else of all, the one with the fewest streams. Those with replaced
 * certificates leave. */
static struct pool_conn *
best_conn(struct pool_peer *p, bool *ret_hot)
{
	struct pool_conn *best = NULL;
	struct hb_list *n, *tmp;
	bool hot;

	*ret_hot = false;
	HB_LIST_FOREACH_SAFE (n, tmp, &p->conns) {
		struct pool_conn *c = HB_LIST_ENTRY(n, struct pool_conn, peer_node);

		if (hb_pool__conn_stale(c)) {
			count(p->pool, CL_POOL_STALE, 1);
			hb_pool__conn_retire(c);
			continue;
		}
		if (!hb_pool__conn_usable(c))
			continue;
		hot = hb_pool__conn_hot(c);
		if (best == NULL || (hot == *ret_hot ? c->streams < best->streams : !hot)) {
			best = c;
			*ret_hot = hot;
		}
	}
	return (best);
}

static bool
may_connect(const struct pool_peer *p, const struct hb_tunnels_conf *conf)
{
	const struct hb_cluster *c = p->pool->w->cluster;

	return (!p->pool->stopped && p->n_conns < conf->conns_max &&
		hb_cluster_connections(c) < c->limits[0].connections);
}

/* Streams that a new connection will probably take. */
static uint32_t
share_of(const struct pool_peer *p, const struct hb_tunnels_conf *conf)
{
	return (HB_MAX(1u, HB_MIN(conf->streams_max, p->limit)));
}

static void
fail_waiting(struct pool_peer *p, uint32_t n, enum hb_close_reason reason, const char *text,
	bool timeout)
{
	while (n-- > 0 && !hb_list_empty(&p->waiting)) {
		struct hb_pool_rq *q = HB_LIST_ENTRY(p->waiting.next, struct hb_pool_rq, node);

		q->timeout = timeout;
		rq_fail(q, reason, text);
	}
}

static void
connect_more(struct pool_peer *p)
{
	while (p->n_waiting > 0) {
		struct hb_pool_rq *q = HB_LIST_ENTRY(p->waiting.next, struct hb_pool_rq, node);
		uint32_t share = share_of(p, q->rq.conf);

		if (p->n_waiting <= (uint64_t)p->n_connecting * share)
			return;
		if (may_connect(p, q->rq.conf)) {
			(void)hb_pool__conn_new(p->pool, p, q);
			continue;
		}
		count(p->pool, CL_POOL_OVERFLOW, 1);
		if (p->n_conns > 0)
			return;
		count(p->pool, CL_CX_OVERFLOW, 1);
		fail_waiting(p, UINT32_MAX, HB_CLOSE_UPSTREAM_OVERFLOW,
			"max_connections of the cluster is reached", false);
	}
}

/* All are hot: another one for the streams that come. Nobody waits for it. One connection is one worker's, and
 * one core of the peer's: more of them are what lets a busy pair of peers use more (test/upstreams/spread_test.c). */
static void
connect_beside(struct pool_peer *p, const struct hb_pool_rq *q)
{
	uint64_t now = hb_now_ms(p->pool->w->worker);

	if (p->n_connecting > 0 || now < p->spread_ms || !may_connect(p, q->rq.conf))
		return;
	p->spread_ms = now + SPREAD_MS;
	count(p->pool, CL_POOL_SPREAD, 1);
	hb_pool__conn_new(p->pool, p, q)->beside = true;
}

static void
dispatch(struct pool_peer *p)
{
	struct pool_conn *c;
	bool hot = false;

	HB_ASSERT(!p->busy);
	p->busy = true;
	while (p->n_waiting > 0 && (c = best_conn(p, &hot)) != NULL) {
		struct hb_pool_rq *q = HB_LIST_ENTRY(p->waiting.next, struct hb_pool_rq, node);

		open_stream(c, q);
		if (hot && p->n_waiting == 0)
			connect_beside(p, q);
	}
	connect_more(p);
	p->busy = false;
}

static void
dispatch_run(struct hb_run *run)
{
	struct pool_peer *p = HB_CONTAINER(run, struct pool_peer, run);

	HB_CHECK(p, POOL_PEER_MAGIC);
	dispatch(p);
	hb_pool__peer_check(p);
}

void
hb_pool__ready(struct pool_conn *c)
{
	struct hb_pool_rq *q = c->only;

	if (c->peer != NULL) {
		dispatch(c->peer);
	} else if (q != NULL) {
		c->only = NULL;
		open_stream(c, q);
		hb_h2_drain(c->h2);
	}
}

void
hb_pool__no_conn(struct pool_conn *c, const struct hb_race_result *res)
{
	struct pool_peer *p = c->peer;

	if (p != NULL && c->beside) {
		return; /* those who wait have others, or get one of their own */
	} else if (p != NULL) {
		fail_waiting(p, share_of(p, c->conf), res->reason, res->text, res->timeout);
	} else if (c->only != NULL) {
		c->only->timeout = res->timeout;
		c->only->conn = NULL;
		rq_fail(c->only, res->reason, res->text);
		c->only = NULL;
	}
}

struct hb_pool_rq *
hb_pool_open(const struct hb_pool_request *rq)
{
	struct hb_pool *pool = pool_of(rq->w);
	struct hb_pool_rq *q;

	HB_ASSERT(rq->done != NULL && rq->cell != NULL && rq->tunnel->authority.len > 0);
	HB_NEW(q, HB_POOL_RQ_MAGIC);
	q->rq = *rq;
	q->worker = rq->w->worker;
	hb_list_init(&q->node);
	hb_run_init(&q->run, on_run);
	hb_timer_init(&q->timer, q->worker, on_timer);
	if (!rq->shared) {
		q->rq.addrs = q->addrs = hb_ep_addrs_copy(rq->addrs);
		q->rq.host = q->host = hb_strdup(rq->host);
		q->conn = hb_pool__conn_new(pool, NULL, q);
		q->conn->only = q;
		return (q);
	}
	q->peer = peer_get(pool, rq);
	q->rq.addrs = q->peer->addrs;
	q->rq.host = q->peer->host;
	hb_list_add_tail(&q->peer->waiting, &q->node);
	q->peer->n_requests++;
	q->peer->n_waiting++;
	if (!q->peer->busy)
		dispatch(q->peer);
	/* Waiting for a connection ends with that; this is for the room on one. */
	if (hb_list_linked(&q->node))
		hb_timer_start(&q->timer, wait_ms(q));
	return (q);
}

/* ------------------------------------------------------------------ the end of a pool */

void
hb_pool_drain(struct hb_cluster_w *w)
{
	struct hb_pool *pool = w->pool;
	struct hb_list *n, *tmp;

	if (pool == NULL)
		return;
	HB_CHECK(pool, HB_POOL_MAGIC);
	pool->draining = true;
	HB_LIST_FOREACH_SAFE (n, tmp, &pool->idle)
		hb_pool__conn_retire(HB_LIST_ENTRY(n, struct pool_conn, idle_node));
}

void
hb_pool_stop(struct hb_cluster_w *w)
{
	struct hb_pool *pool = w->pool;

	if (pool == NULL)
		return;
	HB_CHECK(pool, HB_POOL_MAGIC);
	pool->draining = pool->stopped = true;
	while (!hb_list_empty(&pool->conns))
		hb_pool__conn_drop(HB_LIST_ENTRY(pool->conns.next, struct pool_conn, node));
}

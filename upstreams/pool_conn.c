/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of a pool: from connecting to their last stream. */
#include <stdio.h>
#include "core/transport/tls.h"
#include "upstreams/pool_priv.h"

#define RATE_MS 1000u /* over which a rate is taken, at least */

/* A stream's place in the numbers; the transport's watch. */
struct pool_stream {
	unsigned magic;
#define POOL_STREAM_MAGIC 0x1c83f5a9
	struct hb_transport_watch watch;
	struct pool_conn *conn;  /* referenced                            */
	struct hb_ep_cell *cell; /* referenced; NULL = not answered       */
};

static void
count(const struct pool_conn *c, enum hb_cluster_stat i, int64_t n)
{
	hb_stat_add(c->w->worker, c->w->cluster->stats, i, n);
}

/* ------------------------------------------------------------------ life */

void
hb_pool__conn_unref(struct pool_conn **cp)
{
	struct pool_conn *c = *cp;

	HB_CHECK(c, POOL_CONN_MAGIC);
	HB_ASSERT(c->refs > 0);
	*cp = NULL;
	if (--c->refs > 0)
		return;
	HB_ASSERT(c->pool == NULL && c->peer == NULL && c->h2 == NULL && c->link == NULL);
	hb_facts_fini(&c->facts);
	hb_free(c->host);
	hb_free(c->peer_name);
	hb_cluster_unpin(&c->w);
	HB_DEL(c);
}

static void
no_longer_idle(struct pool_conn *c)
{
	if (!hb_list_linked(&c->idle_node))
		return;
	hb_list_del(&c->idle_node);
	hb_timer_stop(&c->surplus);
	c->pool->n_idle--;
	count(c, CL_POOL_IDLE, -1);
}

static void
leave_peer(struct pool_conn *c)
{
	struct pool_peer *p = c->peer;

	no_longer_idle(c);
	if (p == NULL)
		return;
	hb_list_del(&c->peer_node);
	p->n_conns--;
	if (c->link != NULL)
		p->n_connecting--;
	c->peer = NULL;
	hb_pool__dispatch_soon(p);
}

/* Neither link nor session are left; its last stream frees it. */
static void
over(struct pool_conn *c)
{
	HB_ASSERT(c->link == NULL && c->h2 == NULL && c->pool != NULL);
	leave_peer(c);
	hb_list_del(&c->node);
	if (hb_list_empty(&c->pool->conns))
		hb_upconn_pool_leave(c->w->worker, &c->pool->changes);
	count(c, CL_POOL_ACTIVE, -1);
	c->pool = NULL;
	hb_pool__conn_unref(&c);
}

void
hb_pool__conn_retire(struct pool_conn *c)
{
	leave_peer(c);
	if (c->h2 != NULL)
		hb_h2_drain(c->h2);
}

void
hb_pool__conn_drop(struct pool_conn *c)
{
	c->only = NULL;
	if (c->link != NULL) {
		leave_peer(c);
		hb_link_cancel(&c->link);
		over(c);
	} else if (c->h2 != NULL) {
		if (c->streams == 0)
			hb_h2_close(&c->h2, HB_CLOSE_SHUTDOWN);
		else
			hb_h2_abort(&c->h2, HB_CLOSE_LOCAL_CLOSE);
		over(c);
	}
}

bool
hb_pool__conn_stale(const struct pool_conn *c)
{
	return (c->h2 != NULL && c->generation != hb_transport_socket_generation(c->socket));
}

bool
hb_pool__conn_usable(const struct pool_conn *c)
{
	const struct hb_tunnels_conf *conf = c->conf;

	/* Before its SETTINGS: as the last connection to this peer. */
	return (c->h2 != NULL && !c->full && c->streams < conf->streams_max &&
		c->streams < c->peer->limit &&
		(conf->requests_max == 0 || c->opened < conf->requests_max) &&
		hb_h2_room(c->h2) > 0);
}

/* By its streams, or by what it has carried since it was looked at. */
bool
hb_pool__conn_hot(struct pool_conn *c)
{
	const struct hb_transport *t = c->h2 == NULL ? NULL : hb_h2_lower(c->h2);
	uint64_t now = hb_now_ms(c->w->worker), bytes;

	if (c->conf->hot_streams > 0 && c->streams >= c->conf->hot_streams)
		return (true);
	if (c->conf->hot_rate == 0 || t == NULL || now - c->seen_ms < RATE_MS)
		return (c->fast);
	bytes = t->bytes_in + t->bytes_out;
	c->fast = (bytes - c->seen_bytes) / (now - c->seen_ms) >= c->conf->hot_rate / 1000;
	c->seen_ms = now;
	c->seen_bytes = bytes;
	return (c->fast);
}

/* ------------------------------------------------------------------ streams */

/* Others are there for its peer. */
static void
on_surplus(struct hb_timer *timer)
{
	struct pool_conn *c = HB_CONTAINER(timer, struct pool_conn, surplus);

	HB_CHECK(c, POOL_CONN_MAGIC);
	if (c->peer == NULL || c->peer->n_conns - c->peer->n_connecting < 2)
		return;
	count(c, CL_POOL_SURPLUS, 1);
	hb_pool__conn_retire(c);
}

/* Keeps it for later, unless there are enough of its kind. */
static void
became_idle(struct pool_conn *c)
{
	struct hb_pool *pool = c->pool;

	if (c->peer == NULL || c->h2 == NULL)
		return;
	if (pool->draining) {
		hb_pool__conn_retire(c);
		return;
	}
	hb_list_add_tail(&pool->idle, &c->idle_node);
	pool->n_idle++;
	count(c, CL_POOL_IDLE, 1);
	if (c->conf->surplus_ms > 0)
		hb_timer_start(&c->surplus, c->conf->surplus_ms);
	if (pool->n_idle <= c->conf->idle_max)
		return;
	count(c, CL_POOL_EVICTED, 1);
	hb_pool__conn_retire(HB_LIST_ENTRY(pool->idle.next, struct pool_conn, idle_node));
}

static void
stream_gone(struct hb_transport_watch *w, enum hb_close_reason ended, uint64_t in, uint64_t out)
{
	struct pool_stream *s = HB_CONTAINER(w, struct pool_stream, watch);
	struct pool_conn *c = s->conn;

	(void)ended;
	(void)in;
	(void)out;
	HB_CHECK(s, POOL_STREAM_MAGIC);
	HB_ASSERT(c->streams > 0);
	c->streams--;
	HB_CLUSTER_COUNT(c->w, streams, -1);
	count(c, CL_RQ_ACTIVE, -1);
	if (s->cell != NULL) {
		HB_EP_COUNT(s->cell, active, -1);
		hb_ep_cell_unref(&s->cell);
		c->full = false;
	}
	/* One that was refused leaves no room; when it was the only one, the peer takes none. */
	if (c->full && c->streams == 0 && c->pool != NULL)
		hb_pool__conn_retire(c);
	if (c->streams == 0 && c->pool != NULL)
		became_idle(c);
	if (c->peer != NULL)
		hb_pool__dispatch_soon(c->peer);
	HB_DEL(s);
	hb_pool__conn_unref(&c);
}

struct pool_stream *
hb_pool__stream_watch(struct pool_conn *c, struct hb_transport *t)
{
	struct pool_stream *s;

	HB_ASSERT(t->watch == NULL);
	no_longer_idle(c);
	HB_NEW(s, POOL_STREAM_MAGIC);
	s->watch.gone = stream_gone;
	s->conn = c;
	c->refs++;
	c->streams++;
	c->opened++;
	HB_CLUSTER_COUNT(c->w, streams, 1);
	count(c, CL_RQ_ACTIVE, 1);
	t->watch = &s->watch;
	return (s);
}

bool
hb_pool_place_of(const struct hb_transport *t, struct hb_pool_place *ret)
{
	const struct pool_stream *s;

	if (t->watch == NULL || t->watch->gone != stream_gone)
		return (false);
	s = HB_CONTAINER(t->watch, const struct pool_stream, watch);
	HB_CHECK(s, POOL_STREAM_MAGIC);
	*ret = (struct hb_pool_place){
		.cluster = s->conn->w->cluster,
		.conf = s->conn->conf,
		.cell = s->cell,
		.host = s->conn->host,
		.peer = hb_str(s->conn->peer_name == NULL ? "" : s->conn->peer_name),
		.addr = s->conn->addr,
	};
	return (true);
}

void
hb_pool__stream_won(struct hb_transport *t, struct hb_ep_cell *cell)
{
	struct pool_stream *s = HB_CONTAINER(t->watch, struct pool_stream, watch);

	HB_CHECK(s, POOL_STREAM_MAGIC);
	HB_ASSERT(s->cell == NULL);
	s->cell = hb_ep_cell_ref(cell);
	HB_EP_COUNT(cell, active, 1);
	s->conn->answered = true;
	if (s->conn->w->cluster->buffer_high > 0)
		hb_transport_set_high(t, s->conn->w->cluster->buffer_high);
}

/* ------------------------------------------------------------------ the session */

static struct pool_conn *
conn_of(void *sink)
{
	struct pool_conn *c;

	HB_CAST(c, sink, POOL_CONN_MAGIC);
	return (c);
}

static void
h2_on_room(void *sink, struct hb_h2 *h2)
{
	struct pool_conn *c = conn_of(sink);

	(void)h2;
	if (c->peer != NULL)
		hb_pool__dispatch_soon(c->peer);
}

static void
h2_on_goaway(void *sink, struct hb_h2 *h2, uint32_t error_code)
{
	struct pool_conn *c = conn_of(sink);

	(void)h2;
	(void)error_code;
	count(c, CL_CX_GOAWAY, 1);
	hb_pool__conn_retire(c);
}

static void
h2_on_count(void *sink, enum hb_h2_count what)
{
	static const uint8_t rows[HB_H2_COUNT_MAX] = {
		[HB_H2_RX_RESET] = CL_H2_RX_RESET,
		[HB_H2_TX_RESET] = CL_H2_TX_RESET,
		[HB_H2_MALFORMED] = CL_H2_MALFORMED,
		[HB_H2_KEEPALIVE_TIMEOUT] = CL_H2_KEEPALIVE,
		[HB_H2_IDLE] = CL_CX_IDLE,
	};
	struct pool_conn *c = conn_of(sink);

	if (what >= HB_H2_FLOODED)
		count(c, CL_H2_FLOOD, 1);
	else if (rows[what] != 0)
		count(c, (enum hb_cluster_stat)rows[what], 1);
}

static void
h2_on_closed(void *sink, struct hb_h2 *h2, enum hb_close_reason reason)
{
	struct pool_conn *c = conn_of(sink);
	struct hb_transport *lower = hb_h2_lower(h2);
	const struct hb_tls_info *tls = lower == NULL ? NULL : hb_transport_tls_info(lower);
	const char *why = hb_close_info(reason)->text;
	bool hung_up = reason == HB_CLOSE_PEER_RESET || reason == HB_CLOSE_PEER_TRUNCATED ||
		reason == HB_CLOSE_DONE;

	if (tls != NULL && tls->failure != NULL)
		why = tls->failure;
	c->h2 = NULL;
	(void)snprintf(c->failure, sizeof c->failure, "connection: %.160s%s", why,
		tls != NULL && !c->answered && hung_up ?
			" right after the TLS handshake; it may have refused our certificate" :
			"");
	/* A TLS 1.3 server looks at our certificate after we have finished. */
	if (reason == HB_CLOSE_TLS_PEER_REFUSED)
		count(c, CL_TLS_ERROR, 1);
	over(c);
}

static const struct hb_h2_events h2_events = {
	.on_room = h2_on_room,
	.on_goaway = h2_on_goaway,
	.on_count = h2_on_count,
	.on_closed = h2_on_closed,
};

/* ------------------------------------------------------------------ connecting */

static void
connected(
	struct pool_conn *c, const struct hb_race_result *res, const struct hb_upstream_info *info)
{
	c->addr = info->endpoint;
	if (c->addr.kind == HB_ADDR_UNIX || c->addr.kind == HB_ADDR_INTERNAL)
		memset(&c->addr, 0, sizeof c->addr);
	c->local = info->local;
	c->peer_name = hb_upconn_peer_name(res->t);
	count(c, CL_CX_HTTP2, 1);
	c->h2 = hb_h2_new(res->t, false, &c->conf->h2, &h2_events, c);
	if (c->peer != NULL)
		c->peer->n_connecting--;
	hb_pool__ready(c);
	if (c->streams == 0 && c->only == NULL && c->pool != NULL)
		became_idle(c);
}

static void
on_link(void *arg, const struct hb_race_result *res, const struct hb_upstream_info *info)
{
	struct pool_conn *c = conn_of(arg);

	if (res->t != NULL) {
		c->link = NULL;
		connected(c, res, info);
		return;
	}
	/* Those who wait for it first: the peer starts no other one in their stead. */
	hb_pool__no_conn(c, res);
	leave_peer(c);
	c->link = NULL;
	over(c);
}

struct pool_conn *
hb_pool__conn_new(struct hb_pool *pool, struct pool_peer *peer, const struct hb_pool_rq *q)
{
	struct hb_link_request rq = {
		.w = pool->w,
		.cell = q->rq.cell,
		.addrs = q->rq.addrs,
		.ep = q->rq.ep,
		.socket = q->rq.socket,
		.through = q->rq.through,
		.authority = q->rq.tunnel->authority,
		.connect_ms = pool->w->cluster->connect_timeout_ms,
		.handshake_ms = q->rq.conf->handshake_ms,
		.host = q->rq.host,
		.speaks_first = true, /* the preface */
		.local = true,
		.done = on_link,
	};
	struct pool_conn *c;

	HB_NEW(c, POOL_CONN_MAGIC);
	c->refs = 1;
	c->pool = pool;
	c->peer = peer;
	c->w = hb_cluster_pin(pool->w->cluster, pool->w->worker);
	c->conf = q->rq.conf;
	c->socket = q->rq.socket;
	c->generation = hb_transport_socket_generation(c->socket);
	c->host = hb_strdup(q->rq.host);
	hb_facts_init(&c->facts);
	rq.facts = q->rq.facts;
	/* A shared one may be made for somebody who does not wait for it to the end. */
	if (peer != NULL && rq.facts != NULL) {
		hb_facts_copy(&c->facts, rq.facts);
		rq.facts = &c->facts;
	}
	hb_list_init(&c->idle_node);
	hb_timer_init(&c->surplus, pool->w->worker, on_surplus);
	c->seen_ms = hb_now_ms(pool->w->worker);
	if (hb_list_empty(&pool->conns))
		hb_upconn_pool_join(c->w->worker, &pool->changes);
	hb_list_add_tail(&pool->conns, &c->node);
	count(c, CL_POOL_ACTIVE, 1);
	if (peer != NULL) {
		hb_list_add_tail(&peer->conns, &c->peer_node);
		peer->n_conns++;
		peer->n_connecting++;
	}
	rq.arg = c;
	c->link = hb_link_new(&rq);
	return (c);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/burst.h"
#include <stdio.h>
#include "core/filter/acceptor.h"
#include "core/transport/pair.h"
#include "core/transport/tls.h"
#include "upstreams/conn.h"
#include "upstreams/dial.h"
#include "upstreams/hbone.h"
#include "upstreams/internal.h"
#include "upstreams/link.h"

struct hb_link {
	unsigned magic;
#define LINK_MAGIC 0x4e8a10c7
	struct hb_worker *worker;
	struct hb_link_request rq;
	struct hb_cluster_w *w;  /* pinned; NULL = handed on, or not counted     */
	struct hb_ep_cell *cell; /* referenced, the same                         */
	char *host;              /* owned; NULL = none                           */
	struct hb_race *race;    /* over TCP                                     */
	struct hb_outer *outer;  /* the outer tunnel while it is made            */
	struct hb_transport *t;  /* owned; over a pair or a stream               */
	bool connected;          /* t                                            */
	bool counted;
	uint64_t generation; /* of the socket, when it began                 */
	struct hb_addr addr, local;
	struct hb_timer deadline;
	struct hb_run run; /* failed before the loop was reached           */
	struct hb_dead dead;
	enum hb_close_reason reason;
	char *text; /* owned; of a failure; NULL = none                   */
};

static const char *
host_of(const struct hb_link *l)
{
	return (l->host == NULL ? "" : l->host);
}

/* ------------------------------------------------------------------ counting */

static void
count_begin(struct hb_link *l)
{
	const struct hb_stats *s = l->rq.w->cluster->stats;

	l->w = hb_cluster_pin(l->rq.w->cluster, l->worker);
	l->cell = hb_ep_cell_ref(l->rq.cell);
	l->counted = true;
	HB_CLUSTER_COUNT(l->w, connections, 1);
	HB_EP_COUNT(l->cell, active, 1);
	HB_EP_COUNT(l->cell, total, 1);
	hb_stat_inc(l->worker, s, CL_CX_TOTAL);
	hb_stat_add(l->worker, s, CL_CX_ACTIVE, 1);
}

static void
count_undo(struct hb_link *l)
{
	if (!l->counted)
		return;
	l->counted = false;
	HB_CLUSTER_COUNT(l->w, connections, -1);
	HB_EP_COUNT(l->cell, active, -1);
	hb_stat_add(l->worker, l->w->cluster->stats, CL_CX_ACTIVE, -1);
	hb_ep_cell_unref(&l->cell);
	hb_cluster_unpin(&l->w);
}

static void
count_tls(struct hb_link *l, enum hb_close_reason reason)
{
	const struct hb_stats *s = l->rq.w->cluster->stats;

	if (reason == HB_CLOSE_TLS_VERIFY)
		hb_stat_inc(l->worker, s, CL_TLS_VERIFY);
	else if (reason == HB_CLOSE_TLS_SAN)
		hb_stat_inc(l->worker, s, CL_TLS_SAN);
	else
		hb_stat_inc(l->worker, s, CL_TLS_ERROR);
	if (reason == HB_CLOSE_TLS_NO_GROUP)
		hb_stat_inc(l->worker, s, CL_TLS_NO_GROUP);
}

static void
count_failure(struct hb_link *l, const struct hb_race_result *res)
{
	const struct hb_stats *s = l->rq.w->cluster->stats;

	if (l->counted) {
		HB_EP_COUNT(l->cell, failed, 1);
		hb_stat_inc(l->worker, s, CL_CX_CONNECT_FAIL);
		if (res->timeout) {
			HB_EP_COUNT(l->cell, timeouts, 1);
			hb_stat_inc(l->worker, s, CL_CX_CONNECT_TIMEOUT);
		}
	}
	if (res->no_socket)
		hb_stat_inc(l->worker, s, CL_BIND_ERRORS);
	if (res->secure)
		count_tls(l, res->reason);
}

/* ------------------------------------------------------------------ ends */

static void
link_free(struct hb_dead *dead)
{
	struct hb_link *l = HB_CONTAINER(dead, struct hb_link, dead);

	HB_CHECK(l, LINK_MAGIC);
	hb_free(l->host);
	hb_free(l->text);
	HB_BURST_DEL(l);
}

static void
link_end(struct hb_link *l)
{
	hb_timer_stop(&l->deadline);
	hb_run_cancel(&l->run);
	if (l->race != NULL)
		hb_race_cancel(&l->race);
	if (l->outer != NULL)
		hb_outer_cancel(&l->outer);
	if (l->t != NULL)
		hb_transport_abort(&l->t, HB_CLOSE_LOCAL_CLOSE);
	count_undo(l);
	hb_dead_add(l->worker, &l->dead, link_free);
}

void
hb_link_cancel(struct hb_link **lp)
{
	struct hb_link *l = *lp;

	HB_CHECK(l, LINK_MAGIC);
	*lp = NULL;
	link_end(l);
}

static void
link_failed(struct hb_link *l, const struct hb_race_result *res)
{
	count_failure(l, res);
	link_end(l);
	l->rq.done(l->rq.arg, res, NULL);
}

/* What has changed since it began was told to connections that stood. */
static bool
still_allowed(struct hb_link *l, struct hb_transport *t)
{
	const struct hb_cluster *c = l->rq.w->cluster;

	if (hb_transport_socket_generation(l->rq.socket) == l->generation &&
		hb_cluster_find(hb_str(c->name)) == c)
		return (true);
	return (hb_upconn_holds(l->rq.w, l->rq.socket, t));
}

static void
link_revoked(struct hb_link *l, const struct hb_race_result *won)
{
	const struct hb_tls_info *tls = hb_transport_tls_info(won->t);
	struct hb_race_result res = *won;
	struct hb_transport *t = won->t;

	hb_race_say(&l->text, "TLS: %.200s", tls->failure);
	hb_transport_abort(&t, HB_CLOSE_REVOKED);
	res.t = NULL;
	res.reason = HB_CLOSE_TLS_VERIFY;
	res.text = l->text;
	link_failed(l, &res);
}

static void
link_won(struct hb_link *l, const struct hb_race_result *res)
{
	struct hb_upstream_info info = { .endpoint = res->addr, .local = res->local };
	const struct hb_tls_info *tls = res->secure ? hb_transport_tls_info(res->t) : NULL;

	if (res->secure && !still_allowed(l, res->t)) {
		link_revoked(l, res);
		return;
	}
	if (res->secure)
		hb_stat_inc(l->worker, l->rq.w->cluster->stats, CL_TLS_HANDSHAKE);
	if (tls != NULL && tls->resumed)
		hb_stat_inc(l->worker, l->rq.w->cluster->stats, CL_TLS_REUSED);
	if (l->counted) {
		l->counted = false;
		hb_upconn_watch(res->t, l->rq.socket, l->w, l->cell, l->host, &info);
		l->host = NULL;
	} else if (res->secure) {
		/* In an outer tunnel: its peer is judged, the connection is none. */
		hb_upconn_watch(res->t, l->rq.socket, hb_cluster_pin(l->rq.w->cluster, l->worker),
			NULL, NULL, &info);
	}
	link_end(l);
	l->rq.done(l->rq.arg, res, &info);
}

/* Of what is not a race. */
static void
lost(struct hb_link *l, bool timeout)
{
	struct hb_race_result res = {
		.reason = l->reason,
		.addr = l->addr,
		.timeout = timeout,
		.secure = l->connected && hb_transport_socket_secure(l->rq.socket),
		.text = l->text == NULL ? "" : l->text,
	};

	link_failed(l, &res);
}

static void
fail(struct hb_link *l, enum hb_close_reason reason, const char *stage, const char *why)
{
	HB_ASSERT(reason != HB_CLOSE_NONE);
	l->reason = reason;
	hb_race_say(&l->text, "%s: %.200s", stage, why);
}

static void
on_run(struct hb_run *run)
{
	lost(HB_CONTAINER(run, struct hb_link, run), false);
}

static void
on_deadline(struct hb_timer *timer)
{
	struct hb_link *l = HB_CONTAINER(timer, struct hb_link, deadline);
	char why[64];

	(void)snprintf(why, sizeof why, "no answer within %llu ms",
		(unsigned long long)(l->connected && l->rq.handshake_ms > 0 ? l->rq.handshake_ms :
									      l->rq.connect_ms));
	fail(l, l->connected ? HB_CLOSE_TLS_TIMEOUT : HB_CLOSE_CONNECT_TIMEOUT,
		l->connected ? "TLS" : "connect", why);
	lost(l, true);
}

/* ------------------------------------------------------------------ over a pair or a stream */

static struct hb_link *
link_of(void *sink)
{
	struct hb_link *l;

	HB_CAST(l, sink, LINK_MAGIC);
	return (l);
}

static void
on_connected(void *sink, struct hb_transport *t)
{
	struct hb_link *l = link_of(sink);

	(void)t;
	l->connected = true;
	if (l->rq.handshake_ms > 0)
		hb_timer_start(&l->deadline, l->rq.handshake_ms);
}

static void
on_secured(void *sink, struct hb_transport *t)
{
	struct hb_link *l = link_of(sink);
	struct hb_race_result res = {
		.t = t,
		.addr = l->addr,
		.local = l->local,
		.secure = hb_transport_socket_secure(l->rq.socket),
		.text = "",
	};

	l->t = NULL;
	link_won(l, &res);
}

static void
on_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	struct hb_link *l = link_of(sink);
	const struct hb_tls_info *tls = hb_transport_tls_info(t);

	l->t = NULL;
	fail(l, reason, l->connected ? "TLS" : "connect",
		tls != NULL && tls->failure != NULL ? tls->failure : hb_close_info(reason)->text);
	lost(l, false);
}

static const struct hb_transport_events link_events = {
	.on_connected = on_connected,
	.on_secured = on_secured,
	.on_data = hb_race_no_data,
	.on_closed = on_closed,
};

static void
secure_over(struct hb_link *l, struct hb_transport *lower)
{
	l->connected = lower->connected;
	l->t = hb_transport_socket_wrap(l->rq.socket, lower, l->rq.facts, hb_str(host_of(l)));
	hb_transport_attach(l->t, &link_events, l);
	if (l->connected && l->rq.handshake_ms > 0)
		hb_timer_start(&l->deadline, l->rq.handshake_ms);
	/* A stream that is handed over has told already what it is; TLS tells anew. */
	if (l->t->secured)
		on_secured(l, l->t);
}

static void
start_internal(struct hb_link *l)
{
	const char *why = "";
	struct hb_transport *a;
	enum hb_close_reason r;

	l->addr = l->rq.addrs->v[0];
	r = hb_internal_connect(l->rq.w->cluster, l->rq.ep, l->rq.socket, l->rq.addrs->v[0].u.name,
		l->rq.facts, l->worker, &a, &why);
	/* The name is the address's, which may not live as long. */
	memset(&l->addr, 0, sizeof l->addr);
	if (r != HB_CLOSE_NONE) {
		fail(l, r, "internal listener", why);
		hb_run_soon(l->worker, &l->run);
		return;
	}
	hb_timer_start(&l->deadline, l->rq.connect_ms);
	secure_over(l, a);
}

static void
on_outer(void *arg, struct hb_transport *t, const struct hb_race_result *res)
{
	struct hb_link *l = link_of(arg);

	l->outer = NULL;
	l->addr = res->addr;
	l->local = res->local;
	if (t == NULL) {
		fail(l, res->reason, "outer tunnel", res->text);
		lost(l, res->timeout);
		return;
	}
	secure_over(l, t);
}

/* ------------------------------------------------------------------ over TCP */

static void
on_race(void *arg, const struct hb_race_result *res)
{
	struct hb_link *l = link_of(arg);

	l->race = NULL;
	if (res->t != NULL)
		link_won(l, res);
	else
		link_failed(l, res);
}

static void
start_race(struct hb_link *l)
{
	const struct hb_cluster *c = l->rq.w->cluster;
	struct hb_race_request rq = {
		.addrs = l->rq.addrs,
		.timeout_ms = l->rq.connect_ms,
		.handshake_ms = l->rq.handshake_ms,
		.bind = &c->bind,
		.tcp = &c->tcp,
		.socket = l->rq.socket,
		.facts = l->rq.facts,
		.host = host_of(l),
		.speaks_first = l->rq.speaks_first,
		.local = l->rq.local,
		.done = on_race,
		.arg = l,
	};

	l->race = hb_race_new(l->worker, &rq);
}

struct hb_link *
hb_link_new(const struct hb_link_request *rq)
{
	struct hb_link *l;

	HB_ASSERT(rq->done != NULL && rq->connect_ms > 0);
	HB_BURST_NEW(l, LINK_MAGIC);
	l->worker = rq->w->worker;
	l->rq = *rq;
	l->host = *rq->host == '\0' ? NULL : hb_strdup(rq->host);
	l->generation = hb_transport_socket_generation(rq->socket);
	hb_run_init(&l->run, on_run);
	hb_timer_init(&l->deadline, l->worker, on_deadline);
	/* A stream of another connection is none of its own. */
	if (rq->through == NULL)
		count_begin(l);
	if (rq->through != NULL)
		l->outer = hb_outer_open(rq, on_outer, l);
	else if (rq->addrs->v[0].kind == HB_ADDR_INTERNAL)
		start_internal(l);
	else
		start_race(l);
	l->rq.addrs = NULL;
	l->rq.authority = (struct hb_str){ NULL, 0 };
	return (l);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include "core/base/log.h"
#include "upstreams/conn.h"
#include "upstreams/dial.h"
#include "upstreams/orig_dst.h"
#include "upstreams/race.h"

#define TRIED_MAX 16u

struct hb_dial {
	unsigned magic;
#define DIAL_MAGIC 0x37ae81d2
	struct hb_worker *worker;
	struct hb_dial_request rq; /* the cluster's name is our own          */
	struct hb_cluster_w *w;    /* pinned; NULL = no cluster              */
	struct hb_ep_cell *cell;   /* referenced while an attempt is made    */
	struct hb_race *race;      /* the same                               */
	uint64_t begun_ms;
	unsigned attempts;
	uint64_t tried[TRIED_MAX]; /* the last ones                          */
	unsigned n_tried;
	uint64_t now_trying; /* id of the endpoint                     */
	bool pending;        /* counted as such                        */
	bool starting;       /* hb_dial is on the stack                */
	struct hb_run run;
	struct hb_dead dead;
	enum hb_close_reason reason;
	char *host;          /* owned; of the endpoint tried last      */
	struct hb_addr addr; /* of the same; no unix name              */
	char text[HB_RACE_TEXT_MAX];
};

static void attempt(struct hb_dial *);

static const struct hb_stats *
stats_of(const struct hb_cluster_w *w)
{
	return (w->cluster->stats);
}

/* ------------------------------------------------------------------ the end of a dial */

static void
dial_free(struct hb_dead *dead)
{
	struct hb_dial *d = HB_CONTAINER(dead, struct hb_dial, dead);

	HB_CHECK(d, DIAL_MAGIC);
	hb_free((void *)(uintptr_t)d->rq.cluster.p);
	hb_free(d->host);
	HB_DEL(d);
}

static void
no_more_pending(struct hb_dial *d)
{
	if (!d->pending)
		return;
	d->pending = false;
	HB_CLUSTER_COUNT(d->w, pending, -1);
	hb_stat_add(d->worker, stats_of(d->w), CL_RQ_PENDING_ACTIVE, -1);
}

static void
dial_release(struct hb_dial *d)
{
	HB_ASSERT(d->cell == NULL && d->race == NULL && !d->pending);
	hb_run_cancel(&d->run);
	if (d->w != NULL)
		hb_cluster_unpin(&d->w);
	hb_dead_add(d->worker, &d->dead, dial_free);
}

static void
report_failure(struct hb_dial *d)
{
	struct hb_upstream_info info = {
		.cluster = d->rq.cluster,
		.endpoint_host = hb_str(d->host == NULL ? "" : d->host),
		.endpoint = d->addr,
		.connect_ms = (uint32_t)(hb_now_ms(d->worker) - d->begun_ms),
		.attempts = d->attempts,
		.failure = hb_str(d->text),
	};
	char addr[HB_ADDR_TEXT_MAX];

	(void)hb_addr_format(&d->addr, addr, sizeof addr);
	HB_LOG(UPSTREAM, DEBUG, "no connection",
		"id=%llu cluster=%.*s endpoint=%s attempts=%u reason=%s why=\"%s\"",
		(unsigned long long)d->rq.conn_id, HB_STR_FMT(d->rq.cluster), addr, d->attempts,
		hb_close_info(d->reason)->counter, d->text);
	if (d->w != NULL)
		hb_stat_inc(d->worker, stats_of(d->w), CL_RQ_PENDING_FAILURE);
	no_more_pending(d);
	d->rq.on_done(d->rq.arg, NULL, d->reason, &info);
	dial_release(d);
}

static void
on_run(struct hb_run *run)
{
	report_failure(HB_CONTAINER(run, struct hb_dial, run));
}

static void
fail(struct hb_dial *d, enum hb_close_reason reason, const char *text)
{
	HB_ASSERT(reason != HB_CLOSE_NONE);
	d->reason = reason;
	if (text != d->text)
		(void)snprintf(d->text, sizeof d->text, "%s", text);
	if (d->starting)
		hb_run_soon(d->worker, &d->run);
	else
		report_failure(d);
}

static void
succeed(struct hb_dial *d, const struct hb_race_result *res)
{
	const struct hb_stats *s = stats_of(d->w);
	uint64_t took = hb_now_ms(d->worker) - d->begun_ms;
	struct hb_upstream_info info = {
		.endpoint = res->addr,
		.local = res->local,
		.connect_ms = (uint32_t)took,
		.attempts = d->attempts,
	};

	no_more_pending(d);
	hb_stat_inc(d->worker, s, CL_RQ_TOTAL);
	hb_stat_record(d->worker, s, CL_CX_CONNECT_MS, took);
	if (res->secure)
		hb_stat_inc(d->worker, s, CL_TLS_HANDSHAKE);
	hb_upconn_watch(res->t, d->w, d->cell, d->host, &info);
	d->w = NULL;
	d->cell = NULL;
	d->host = NULL;
	d->rq.on_done(d->rq.arg, res->t, HB_CLOSE_NONE, &info);
	dial_release(d);
}

/* ------------------------------------------------------------------ attempts */

static void
attempt_counted(struct hb_dial *d)
{
	HB_CLUSTER_COUNT(d->w, connections, 1);
	HB_EP_COUNT(d->cell, active, 1);
	HB_EP_COUNT(d->cell, total, 1);
	hb_stat_inc(d->worker, stats_of(d->w), CL_CX_TOTAL);
	hb_stat_add(d->worker, stats_of(d->w), CL_CX_ACTIVE, 1);
}

static void
attempt_uncounted(struct hb_dial *d)
{
	HB_CLUSTER_COUNT(d->w, connections, -1);
	HB_EP_COUNT(d->cell, active, -1);
	hb_stat_add(d->worker, stats_of(d->w), CL_CX_ACTIVE, -1);
	hb_ep_cell_unref(&d->cell);
}

static void
count_failure(struct hb_dial *d, const struct hb_race_result *res)
{
	const struct hb_stats *s = stats_of(d->w);

	HB_EP_COUNT(d->cell, failed, 1);
	hb_stat_inc(d->worker, s, CL_CX_CONNECT_FAIL);
	if (res->timeout) {
		HB_EP_COUNT(d->cell, timeouts, 1);
		hb_stat_inc(d->worker, s, CL_CX_CONNECT_TIMEOUT);
	}
	if (res->no_socket)
		hb_stat_inc(d->worker, s, CL_BIND_ERRORS);
	if (!res->secure)
		return;
	if (res->reason == HB_CLOSE_TLS_VERIFY)
		hb_stat_inc(d->worker, s, CL_TLS_VERIFY);
	else if (res->reason == HB_CLOSE_TLS_SAN)
		hb_stat_inc(d->worker, s, CL_TLS_SAN);
	else
		hb_stat_inc(d->worker, s, CL_TLS_ERROR);
	if (res->reason == HB_CLOSE_TLS_NO_GROUP)
		hb_stat_inc(d->worker, s, CL_TLS_NO_GROUP);
}

static void
remember_tried(struct hb_dial *d)
{
	if (d->now_trying == 0)
		return;
	if (d->n_tried == TRIED_MAX) {
		memmove(d->tried, d->tried + 1, (TRIED_MAX - 1) * sizeof d->tried[0]);
		d->n_tried--;
	}
	d->tried[d->n_tried++] = d->now_trying;
}

static void
on_race(void *arg, const struct hb_race_result *res)
{
	struct hb_dial *d = arg;

	HB_CHECK(d, DIAL_MAGIC);
	d->race = NULL;
	if (res->t != NULL) {
		succeed(d, res);
		return;
	}
	d->addr = res->addr;
	if (d->addr.kind == HB_ADDR_UNIX)
		memset(&d->addr, 0, sizeof d->addr);
	count_failure(d, res);
	attempt_uncounted(d);
	remember_tried(d);
	(void)snprintf(d->text, sizeof d->text, "%s", res->text);
	d->reason = res->reason;
	if (d->attempts < HB_MAX(d->rq.attempts_max, 1u)) {
		attempt(d);
		return;
	}
	if (d->attempts > 1) {
		hb_stat_inc(d->worker, stats_of(d->w), CL_CX_ATTEMPTS_EXCEEDED);
		d->reason = HB_CLOSE_CONNECT_ATTEMPTS;
	}
	fail(d, d->reason, d->text);
}

/* Connects to these addresses; the caller has set d->cell. */
static void
connect_to(struct hb_dial *d, const struct hb_ep_addrs *addrs,
	const struct hb_transport_socket *socket, const char *host)
{
	const struct hb_cluster *c = d->w->cluster;
	struct hb_race_request rq = {
		.addrs = addrs,
		.timeout_ms = c->connect_timeout_ms,
		.bind = &c->bind,
		.tcp = &c->tcp,
		.socket = socket,
		.facts = d->rq.facts,
		.host = host,
		.done = on_race,
		.arg = d,
	};

	hb_free(d->host);
	d->host = *host == '\0' ? NULL : hb_strdup(host);
	d->attempts++;
	attempt_counted(d);
	d->race = hb_race_new(d->worker, &rq);
}

static void
attempt_original(struct hb_dial *d)
{
	static const struct hb_ep_order order = { .count = 1 };
	struct hb_ep_addrs *addrs;
	const char *why;
	struct hb_addr a;

	if (!hb_orig_address(d->w->cluster, d->rq.facts, &a, &why)) {
		hb_stat_inc(d->worker, stats_of(d->w), CL_ORIG_INVALID);
		fail(d, HB_CLOSE_NO_HEALTHY_UPSTREAM, why);
		return;
	}
	d->cell = hb_orig_cell(d->w, &a);
	d->now_trying = 0;
	addrs = hb_ep_addrs_new(&a, 1, &order);
	connect_to(d, addrs, d->w->cluster->socket, "");
	hb_ep_addrs_free(addrs);
}

/* A failure before this attempt tells more than that nobody is left to try. */
static void
no_endpoint(struct hb_dial *d, const struct hb_eps *eps)
{
	const struct hb_cluster *c = d->w->cluster;
	bool dns = c->type == HB_CLUSTER_STRICT_DNS || c->type == HB_CLUSTER_LOGICAL_DNS;

	hb_stat_inc(d->worker, stats_of(d->w), CL_CX_NONE_HEALTHY);
	if (d->attempts > 0)
		fail(d, d->reason, d->text);
	else if (dns && eps->n == 0)
		fail(d, HB_CLOSE_DNS_FAILED, "no name of the cluster has an address yet");
	else
		fail(d, HB_CLOSE_NO_HEALTHY_UPSTREAM,
			eps->n == 0 ? "the cluster has no endpoint" :
				      "no endpoint of the cluster is usable");
}

static void
attempt(struct hb_dial *d)
{
	struct hb_cluster *c = d->w->cluster;
	struct hb_lb_ctx ctx = {
		.settings = &c->lb_settings,
		.hash = d->rq.hash,
		.hash_set = d->rq.hash_set,
		.tried = d->tried,
		.n_tried = d->n_tried,
	};
	const struct hb_eps *eps = atomic_load_explicit(&c->eps, memory_order_acquire);
	struct hb_endpoint *e;

	if (hb_cluster_connections(c) >= c->limits[0].connections) {
		hb_stat_inc(d->worker, c->stats, CL_CX_OVERFLOW);
		fail(d, HB_CLOSE_UPSTREAM_OVERFLOW, "max_connections of the cluster is reached");
		return;
	}
	if (c->type == HB_CLUSTER_ORIGINAL_DST) {
		attempt_original(d);
		return;
	}
	e = hb_lb_choose(eps, &d->w->lb, &ctx);
	if (ctx.panicked)
		hb_stat_inc(d->worker, c->stats, CL_LB_PANIC);
	if (e == NULL) {
		no_endpoint(d, eps);
		return;
	}
	d->cell = hb_endpoint_cell(e, d->worker);
	d->now_trying = e->id;
	connect_to(d, hb_endpoint_addrs(e), e->conf->socket, e->hostname);
}

/* ------------------------------------------------------------------ start and cancel */

static void
begin(struct hb_dial *d)
{
	struct hb_cluster *c = hb_cluster_find(d->rq.cluster);

	if (c == NULL) {
		fail(d, HB_CLOSE_NO_CLUSTER, "there is no cluster of this name");
		return;
	}
	d->w = hb_cluster_pin(c, d->worker);
	if (hb_cluster_pending(c) >= c->limits[0].pending) {
		hb_stat_inc(d->worker, c->stats, CL_RQ_PENDING_OVERFLOW);
		fail(d, HB_CLOSE_UPSTREAM_OVERFLOW,
			"max_pending_requests of the cluster is reached");
		return;
	}
	d->pending = true;
	HB_CLUSTER_COUNT(d->w, pending, 1);
	hb_stat_inc(d->worker, c->stats, CL_RQ_PENDING_TOTAL);
	hb_stat_add(d->worker, c->stats, CL_RQ_PENDING_ACTIVE, 1);
	attempt(d);
}

struct hb_dial *
hb_dial__start(struct hb_worker *w, const struct hb_dial_request *rq)
{
	struct hb_dial *d;

	HB_ASSERT(rq->on_done != NULL);
	HB_NEW(d, DIAL_MAGIC);
	d->worker = w;
	d->rq = *rq;
	d->rq.cluster = hb_strn(
		hb_strndup(rq->cluster.p == NULL ? "" : rq->cluster.p, rq->cluster.len),
		rq->cluster.len);
	d->begun_ms = hb_now_ms(w);
	hb_run_init(&d->run, on_run);
	d->starting = true;
	begin(d);
	d->starting = false;
	return (d);
}

void
hb_dial__cancel(struct hb_dial *d)
{
	HB_CHECK(d, DIAL_MAGIC);
	if (d->race != NULL) {
		hb_race_cancel(&d->race);
		attempt_uncounted(d);
	}
	if (d->w != NULL)
		hb_stat_inc(d->worker, stats_of(d->w), CL_RQ_CANCELLED);
	no_more_pending(d);
	dial_release(d);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/burst.h"
#include <stdio.h>
#include "core/base/log.h"
#include "upstreams/dial.h"
#include "upstreams/hbone.h"
#include "upstreams/link.h"
#include "upstreams/orig_dst.h"
#include "upstreams/pool.h"

#define TRIED_MAX 16u

struct hb_dial {
	unsigned magic;
#define DIAL_MAGIC 0x37ae81d2
	struct hb_worker *worker;
	struct hb_dial_request rq;       /* the name is the cluster's              */
	struct hb_cluster_w *w;          /* pinned; NULL = no cluster              */
	char *name;                      /* owned; of a cluster that is not there  */
	struct hb_ep_cell *cell;         /* referenced while an attempt is made    */
	struct hb_link *link;            /* of an attempt without a tunnel         */
	struct hb_pool_rq *stream;       /* of one with                            */
	struct hb_hbone_request request; /* what that asks for               */
	bool tunnel_counted;             /* as active on the endpoint              */
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
	char *text;          /* owned; of the failure; NULL = none */
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
	hb_free(d->name);
	hb_free(d->host);
	hb_free(d->text);
	HB_BURST_DEL(d);
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
	HB_ASSERT(d->cell == NULL && d->link == NULL && d->stream == NULL && !d->pending);
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
		.failure = hb_str(d->text == NULL ? "" : d->text),
	};
	char addr[HB_ADDR_TEXT_MAX];

	(void)hb_addr_format(&d->addr, addr, sizeof addr);
	HB_LOG(UPSTREAM, DEBUG, "no connection",
		"id=%llu cluster=%.*s endpoint=%s attempts=%u reason=%s why=\"%s\"",
		(unsigned long long)d->rq.conn_id, HB_STR_FMT(d->rq.cluster), addr, d->attempts,
		hb_close_info(d->reason)->counter, d->text == NULL ? "" : d->text);
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
		hb_race_say(&d->text, "%s", text);
	if (d->starting)
		hb_run_soon(d->worker, &d->run);
	else
		report_failure(d);
}

static void
succeed(struct hb_dial *d, struct hb_transport *t, struct hb_upstream_info *info)
{
	const struct hb_stats *s = stats_of(d->w);
	uint64_t took = hb_now_ms(d->worker) - d->begun_ms;

	info->connect_ms = (uint32_t)took;
	info->attempts = d->attempts;
	no_more_pending(d);
	hb_stat_inc(d->worker, s, CL_RQ_TOTAL);
	hb_stat_record(d->worker, s, CL_CX_CONNECT_MS, took);
	d->rq.on_done(d->rq.arg, t, HB_CLOSE_NONE, info);
	dial_release(d);
}

/* ------------------------------------------------------------------ attempts */

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
attempt_over(struct hb_dial *d)
{
	if (d->tunnel_counted)
		HB_EP_COUNT(d->cell, active, -1);
	d->tunnel_counted = false;
	hb_ep_cell_unref(&d->cell);
	hb_hbone_request_fini(&d->request);
}

/* Another endpoint, or the end. The reason and text of this one are set. */
static void
attempt_failed(struct hb_dial *d, const struct hb_addr *addr)
{
	d->addr = *addr;
	if (d->addr.kind != HB_ADDR_V4 && d->addr.kind != HB_ADDR_V6)
		memset(&d->addr, 0, sizeof d->addr);
	attempt_over(d);
	remember_tried(d);
	if (d->attempts < HB_MAX(d->rq.attempts_max, 1u)) {
		attempt(d);
		return;
	}
	if (d->attempts > 1) {
		hb_stat_inc(d->worker, stats_of(d->w), CL_CX_ATTEMPTS_EXCEEDED);
		d->reason = hb_close_attempts(d->reason);
	}
	fail(d, d->reason, d->text);
}

static void
on_link(void *arg, const struct hb_race_result *res, const struct hb_upstream_info *info)
{
	struct hb_dial *d = arg;
	struct hb_upstream_info mine;

	HB_CHECK(d, DIAL_MAGIC);
	d->link = NULL;
	if (res->t != NULL) {
		mine = *info;
		attempt_over(d);
		succeed(d, res->t, &mine);
		return;
	}
	hb_race_say(&d->text, "%s", res->text);
	d->reason = res->reason;
	attempt_failed(d, &res->addr);
}

static void
on_response(void *arg, unsigned status, const struct hb_header *headers, size_t n)
{
	struct hb_dial *d = arg;

	if (status < 200 || status > 299)
		hb_stat_inc(d->worker, stats_of(d->w), CL_RQ_REJECTED);
	if (d->rq.on_response != NULL)
		d->rq.on_response(d->rq.arg, status, headers, n);
}

static void
on_stream(void *arg, const struct hb_pool_result *res)
{
	struct hb_dial *d = arg;
	struct hb_upstream_info info = {
		.cluster = d->rq.cluster,
		.endpoint_host = res->host,
		.endpoint = res->addr,
		.local = res->local,
		.tls_peer = res->peer,
	};

	HB_CHECK(d, DIAL_MAGIC);
	d->stream = NULL;
	if (res->t != NULL) {
		info.cluster = hb_str(d->w->cluster->name);
		attempt_over(d);
		succeed(d, res->t, &info);
		return;
	}
	hb_race_say(&d->text, "%s", res->text);
	d->reason = res->reason;
	attempt_failed(d, &res->addr);
}

/* Where an attempt goes. */
struct place {
	const struct hb_ep_addrs *addrs;
	const struct hb_transport_socket *socket;
	const struct hb_ep_conf *ep; /* NULL = none */
	const char *host;
};

static void
open_link(struct hb_dial *d, const struct place *p)
{
	struct hb_link_request rq = {
		.w = d->w,
		.cell = d->cell,
		.addrs = p->addrs,
		.ep = p->ep,
		.socket = p->socket,
		.connect_ms = d->w->cluster->connect_timeout_ms,
		.facts = d->rq.facts,
		.host = p->host,
		.speaks_first = d->rq.speaks_first,
		.local = d->rq.local,
		.done = on_link,
		.arg = d,
	};

	d->link = hb_link_new(&rq);
}

static void
open_stream(struct hb_dial *d, struct hb_pool_request *rq, const struct place *p)
{
	rq->w = d->w;
	rq->cell = d->cell;
	rq->ep = p->ep;
	rq->facts = d->rq.facts;
	rq->host = p->host;
	rq->shared = rq->through == NULL && p->addrs->v[0].kind != HB_ADDR_INTERNAL;
	rq->on_response = on_response;
	rq->done = on_stream;
	rq->arg = d;
	/* As a connection does: balancing looks at what is on its way, too. */
	HB_EP_COUNT(d->cell, active, 1);
	d->tunnel_counted = true;
	d->stream = hb_pool_open(rq);
}

static void
not_fit(struct hb_dial *d, struct hb_text *why)
{
	attempt_over(d);
	fail(d, HB_CLOSE_CONNECT_FAILED, why->p);
	hb_text_fini(why);
}

/* The downstream asks for a tunnel: what the cluster's socket does is below it. */
static void
open_asked_tunnel(struct hb_dial *d, const struct place *p)
{
	const struct hb_hbone_conf *hbone = hb_hbone_of(p->socket);
	struct hb_pool_request rq = {
		.conf = d->w->cluster->http2,
		.tunnel = d->rq.tunnel,
		.addrs = p->addrs,
		.socket = hbone == NULL ? p->socket : NULL,
		.through = hbone,
	};
	struct hb_text why = { 0 };

	if (rq.conf == NULL)
		hb_text_addz(&why,
			"tunnel: typed_extension_protocol_options of the cluster do not "
			"say that its endpoints speak HTTP/2");
	if (rq.conf != NULL && hb_tunnel_check(rq.tunnel, &why))
		open_stream(d, &rq, p);
	else
		not_fit(d, &why);
}

static void
open_hbone(struct hb_dial *d, const struct hb_hbone_conf *hbone, const struct place *p)
{
	struct hb_hbone_subject subject = {
		.facts = d->rq.facts,
		.cluster = d->w->cluster,
		.host = p->host,
		.addr = &p->addrs->v[0],
	};
	struct hb_pool_request rq = {
		.conf = hb_hbone_tunnels(hbone),
		.tunnel = &d->request.tunnel,
		.socket = hb_hbone_socket(hbone),
		.through = hb_hbone_through(hbone),
	};
	struct hb_text why = { 0 };

	if (!hb_hbone_request_make(hbone, &subject, &d->request, &why)) {
		not_fit(d, &why);
		return;
	}
	/* An outer tunnel has a port of its own; what has no port keeps none. */
	if (rq.through == NULL)
		rq.port = hb_hbone_port(hbone);
	rq.addrs = p->addrs;
	open_stream(d, &rq, p);
}

/* The caller has set d->cell. */
static void
connect_to(struct hb_dial *d, const struct place *p)
{
	const struct hb_hbone_conf *hbone = hb_hbone_of(p->socket);
	const struct hb_cluster *c = d->w->cluster;

	hb_free(d->host);
	d->host = *p->host == '\0' ? NULL : hb_strdup(p->host);
	if ((hbone != NULL || d->rq.tunnel != NULL) &&
		hb_cluster_streams(c) >= c->limits[0].requests) {
		hb_stat_inc(d->worker, c->stats, CL_RQ_OVERFLOW);
		attempt_over(d);
		fail(d, HB_CLOSE_UPSTREAM_OVERFLOW, "max_requests of the cluster is reached");
		return;
	}
	d->attempts++;
	if (d->rq.tunnel != NULL)
		open_asked_tunnel(d, p);
	else if (hbone != NULL)
		open_hbone(d, hbone, p);
	else
		open_link(d, p);
}

static void
attempt_original(struct hb_dial *d)
{
	static const struct hb_ep_order order = { .count = 1 };
	struct place place = { .socket = d->w->cluster->socket, .host = "" };
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
	place.addrs = addrs;
	connect_to(d, &place);
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

static bool
may_share(const struct hb_dial *d)
{
	return (d->rq.tunnel != NULL || hb_hbone_of(d->w->cluster->socket) != NULL);
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

	/* A tunnel may find room on a connection that is there. */
	if (!may_share(d) && hb_cluster_connections(c) >= c->limits[0].connections) {
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
	connect_to(
		d, &(struct place){ hb_endpoint_addrs(e), e->conf->socket, e->conf, e->hostname });
}

/* ------------------------------------------------------------------ start and cancel */

static void
begin(struct hb_dial *d)
{
	struct hb_cluster *c = hb_cluster_find(d->rq.cluster);

	if (c == NULL) {
		d->name = hb_strndup(
			d->rq.cluster.p == NULL ? "" : d->rq.cluster.p, d->rq.cluster.len);
		d->rq.cluster = hb_strn(d->name, d->rq.cluster.len);
		fail(d, HB_CLOSE_NO_CLUSTER, "there is no cluster of this name");
		return;
	}
	d->w = hb_cluster_pin(c, d->worker);
	d->rq.cluster = hb_str(c->name);
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
	HB_BURST_NEW(d, DIAL_MAGIC);
	d->worker = w;
	d->rq = *rq;
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
	if (d->link != NULL)
		hb_link_cancel(&d->link);
	if (d->stream != NULL)
		hb_pool_cancel(&d->stream);
	if (d->cell != NULL)
		attempt_over(d);
	if (d->w != NULL)
		hb_stat_inc(d->worker, stats_of(d->w), CL_RQ_CANCELLED);
	no_more_pending(d);
	dial_release(d);
}

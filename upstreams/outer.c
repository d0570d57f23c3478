/* SPDX-License-Identifier: Apache-2.0 */
/* A stream of an outer tunnel, for the link that lies in it. */
#include "upstreams/hbone.h"
#include "upstreams/pool.h"

struct hb_outer {
	unsigned magic;
#define OUTER_MAGIC 0x35e2b60f
	struct hb_worker *worker;
	struct hb_hbone_request request;
	struct hb_pool_rq *rq; /* NULL = failed before */
	void (*done)(void *arg, struct hb_transport *, const struct hb_race_result *);
	void *arg;
	struct hb_text why;
	struct hb_run run;
	struct hb_dead dead;
};

static void
outer_free(struct hb_dead *dead)
{
	struct hb_outer *o = HB_CONTAINER(dead, struct hb_outer, dead);

	HB_CHECK(o, OUTER_MAGIC);
	hb_hbone_request_fini(&o->request);
	hb_text_fini(&o->why);
	HB_DEL(o);
}

static void
outer_end(struct hb_outer *o)
{
	hb_run_cancel(&o->run);
	if (o->rq != NULL)
		hb_pool_cancel(&o->rq);
	hb_dead_add(o->worker, &o->dead, outer_free);
}

void
hb_outer_cancel(struct hb_outer **op)
{
	struct hb_outer *o = *op;

	HB_CHECK(o, OUTER_MAGIC);
	*op = NULL;
	outer_end(o);
}

static void
on_run(struct hb_run *run)
{
	struct hb_outer *o = HB_CONTAINER(run, struct hb_outer, run);
	struct hb_race_result res = { .reason = HB_CLOSE_CONNECT_FAILED, .text = o->why.p };

	HB_CHECK(o, OUTER_MAGIC);
	outer_end(o);
	o->done(o->arg, NULL, &res);
}

static void
on_stream(void *arg, const struct hb_pool_result *pr)
{
	struct hb_outer *o;
	struct hb_race_result res = {
		.reason = pr->reason,
		.addr = pr->addr,
		.local = pr->local,
		.timeout = pr->timeout,
		.text = pr->text,
	};

	HB_CAST(o, arg, OUTER_MAGIC);
	o->rq = NULL;
	outer_end(o);
	o->done(o->arg, pr->t, &res);
}

struct hb_outer *
hb_outer_open(const struct hb_link_request *lr,
	void (*done)(void *arg, struct hb_transport *, const struct hb_race_result *), void *arg)
{
	struct hb_hbone_subject subject = {
		.facts = lr->facts,
		.cluster = lr->w->cluster,
		.host = lr->host,
		.addr = &lr->addrs->v[0],
		.inner = lr->authority,
	};
	struct hb_pool_request rq = {
		.w = lr->w,
		.cell = lr->cell,
		.conf = hb_hbone_tunnels(lr->through),
		.ep = lr->ep,
		.socket = hb_hbone_socket(lr->through),
		.through = hb_hbone_through(lr->through),
		.facts = lr->facts,
		.host = lr->host,
		.shared = hb_hbone_through(lr->through) == NULL &&
			lr->addrs->v[0].kind != HB_ADDR_INTERNAL,
		.done = on_stream,
	};
	struct hb_ep_addrs *addrs = hb_hbone_addrs(lr->through, lr->addrs);
	struct hb_outer *o;

	HB_NEW(o, OUTER_MAGIC);
	o->worker = lr->w->worker;
	o->done = done;
	o->arg = arg;
	hb_run_init(&o->run, on_run);
	rq.arg = o;
	rq.addrs = addrs;
	rq.tunnel = &o->request.tunnel;
	if (hb_hbone_request_make(lr->through, &subject, &o->request, &o->why))
		o->rq = hb_pool_open(&rq);
	else
		hb_run_soon(o->worker, &o->run);
	hb_ep_addrs_free(addrs);
	return (o);
}

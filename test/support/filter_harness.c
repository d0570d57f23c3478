/* SPDX-License-Identifier: Apache-2.0 */
#include "test/support/filter_harness.h"

#include <stdio.h>
#include <stdlib.h>
#include "core/base/list.h"
#include "core/filter/explain.h"
#include "envoy/config/listener/v3/listener_components.pb-c.h"

struct hbf_dialler hbf_dialler;

/* ------------------------------------------------------------------ fake dialler */

struct hb_dial {
	struct hb_list node;
	struct hb_run run;
	struct hb_dial_request rq;
	char *cluster; /* owned */
	enum hb_close_reason failure;
};

static struct hb_list dials;

static void
dial_free(struct hb_dial *d)
{
	hb_run_cancel(&d->run);
	hb_list_del(&d->node);
	hb_free(d->cluster);
	hb_free(d);
	hbf_dialler.waiting--;
}

static void
make_wire(enum hbf_wire wire, struct hb_transport **ret_client, struct hb_transport **ret_server)
{
	if (wire == HBF_PAIR)
		hb_pair_new(hbt_worker(), ret_client, ret_server);
	else if (wire == HBF_UNIX)
		hbt_unix_pair(ret_client, ret_server);
	else
		hbt_tcp_pair(ret_client, ret_server);
}

static struct hb_transport *
upstream_new(void)
{
	struct hb_transport *near, *far;
	struct hbt_sink *up;

	HB_ASSERT(hbf_dialler.n < HBF_UPSTREAMS);
	up = &hbf_dialler.up[hbf_dialler.n++];
	up->echo = hbf_dialler.up_echo;
	make_wire(hbf_dialler.wire, &near, &far);
	if (hbf_dialler.up_paused)
		hbt_attach_paused(up, far);
	else
		hbt_attach(up, far);
	/* A dialler hands out connected transports: sockets of the harness are, a pair is made so. */
	if (!near->connected) {
		hb_transport_accept(far);
		near->connected = near->secured = true;
		near->due = 0;
	}
	return (near);
}

static void
dial_run(struct hb_run *run)
{
	struct hb_dial *d = HB_CONTAINER(run, struct hb_dial, run);
	struct hb_dial_request rq = d->rq;
	enum hb_close_reason failure = d->failure;
	struct hb_upstream_info info = { .connect_ms = 3, .attempts = rq.attempts_max };
	char cluster[64];

	(void)snprintf(cluster, sizeof cluster, "%s", d->cluster);
	dial_free(d);
	info.cluster = hb_str(cluster);
	if (failure != HB_CLOSE_NONE) {
		info.failure = hb_str("fake failure");
		rq.on_done(rq.arg, NULL, failure, &info);
		return;
	}
	info.attempts = 1;
	(void)hb_addr_parse(hb_str("10.0.0.1:8080"), &info.endpoint);
	info.endpoint_host = hb_str("endpoint.test");
	rq.on_done(rq.arg, upstream_new(), HB_CLOSE_NONE, &info);
}

static struct hb_dial *
fake_dial(struct hb_worker *w, const struct hb_dial_request *rq)
{
	struct hb_dial *d = hb_calloc(1, sizeof *d);
	bool missing;

	d->rq = *rq;
	d->cluster = hb_strndup(rq->cluster.p == NULL ? "" : rq->cluster.p, rq->cluster.len);
	hb_run_init(&d->run, dial_run);
	hb_list_init(&d->node);
	hb_list_add_tail(&dials, &d->node);
	hbf_dialler.dials++;
	hbf_dialler.waiting++;
	hbf_dialler.attempts_max = rq->attempts_max;
	hbf_dialler.speaks_first = rq->speaks_first;
	hbf_dialler.local = rq->local;
	(void)snprintf(hbf_dialler.cluster, sizeof hbf_dialler.cluster, "%s", d->cluster);
	missing = hbf_dialler.missing != NULL && strcmp(hbf_dialler.missing, d->cluster) == 0;
	d->failure = missing                 ? HB_CLOSE_NO_CLUSTER :
		hbf_dialler.mode == HBF_FAIL ? hbf_dialler.failure :
					       HB_CLOSE_NONE;
	if (missing || hbf_dialler.mode != HBF_HOLD)
		hb_run_soon(w, &d->run);
	return (d);
}

static void
fake_cancel(struct hb_dial *d)
{
	hbf_dialler.canceled++;
	dial_free(d);
}

static bool
fake_exists(struct hb_str cluster)
{
	return (hbf_dialler.missing == NULL || !hb_str_eq(cluster, hb_str(hbf_dialler.missing)));
}

static void
fake_explain(struct hb_str cluster, const struct hb_facts *facts, struct hb_explain *ex)
{
	hb_explain_step(ex, "cluster", "fake", "chosen", "%.*s", HB_STR_FMT(cluster));
}

static const struct hb_dial_ops fake_ops = {
	.dial = fake_dial,
	.cancel = fake_cancel,
	.exists = fake_exists,
	.explain = fake_explain,
};

void
hbf_answer(enum hb_close_reason reason)
{
	struct hb_dial *d;

	HB_ASSERT(!hb_list_empty(&dials));
	d = HB_LIST_ENTRY(dials.next, struct hb_dial, node);
	d->failure = reason;
	hb_run_soon(hbt_worker(), &d->run);
}

/* ------------------------------------------------------------------ worker */

void
hbf_init(void)
{
	static bool types;

	(void)hbt_init(HB_IO_EPOLL);
	if (!types)
		hb_cfg_types_init();
	types = true;
	memset(&hbf_dialler, 0, sizeof hbf_dialler);
	hb_list_init(&dials);
	hb_dial_bind(&fake_ops);
}

void
hbf_fini(void)
{
	for (unsigned i = 0; i < hbf_dialler.n; i++)
		hbt_sink_fini(&hbf_dialler.up[i]);
	HBT_UNTIL(hb_conn_count(hbt_worker()) == 0);
	HB_ASSERT(hbf_dialler.waiting == 0);
	hb_conn_worker_fini(hbt_worker());
	for (int i = 0; i < 4; i++)
		hb_worker_turn(hb_worker_control(), false);
	hbt_fini();
}

void
hbf_register(const struct hb_filter_type *t)
{
	struct hb_err err = { 0 };
	int r = hb_filter_register(t, &err);

	if (r != 0 && r != -EEXIST)
		HB_WRONG(err.text);
}

/* ------------------------------------------------------------------ chains */

static struct hb_chain *
chain_of(struct hb_cfg *cfg, const char *yaml)
{
	const ProtobufCMessage *m = hb_cfg_parse_text(
		cfg, hb_str(yaml), &envoy__config__listener__v3__filter_chain__descriptor);

	return (m == NULL ? NULL : hb_chain_compile(cfg, m, "test"));
}

static void
errors_text(struct hb_cfg *cfg, struct hb_text *ret)
{
	const struct hb_errs *errs = hb_cfg_errs(cfg);

	for (size_t i = 0; i < errs->n; i++)
		hb_text_printf(ret, "%u:%u: %s: %s\n", errs->v[i].line, errs->v[i].column,
			errs->v[i].path, errs->v[i].text);
	if (errs->n == 0)
		hb_text_addz(ret, "");
}

struct hb_chain *
hbf_chain(const char *yaml)
{
	struct hb_cfg *cfg = hb_cfg_new("chain.yaml", NULL);
	struct hb_chain *c = chain_of(cfg, yaml);
	struct hb_text text = { 0 };

	if (c == NULL) {
		errors_text(cfg, &text);
		HB_WRONG(text.p);
	}
	hb_cfg_free(&cfg);
	return (c);
}

static void
wrap_filters(struct hb_text *t, const char *yaml)
{
	hb_text_addz(t, "name: c\nfilters:\n");
	hb_text_addz(t, yaml);
}

struct hb_chain *
hbf_filters(const char *yaml)
{
	struct hb_text t = { 0 };
	struct hb_chain *c;

	wrap_filters(&t, yaml);
	c = hbf_chain(t.p);
	hb_text_fini(&t);
	return (c);
}

struct hb_text
hbf_errors(const char *yaml)
{
	struct hb_cfg *cfg = hb_cfg_new("chain.yaml", NULL);
	struct hb_chain *c = chain_of(cfg, yaml);
	struct hb_text text = { 0 };

	HB_ASSERT((c == NULL) == hb_errs_any(hb_cfg_errs(cfg)));
	hb_chain_free(&c);
	errors_text(cfg, &text);
	hb_cfg_free(&cfg);
	return (text);
}

void
hbf_expect_error(const char *yaml, const char *part)
{
	struct hb_text t = { 0 }, e;

	wrap_filters(&t, yaml);
	e = hbf_errors(t.p);
	if (e.p == NULL || strstr(e.p, part) == NULL) {
		fprintf(stderr, "expected \"%s\" in:\n%s\n", part, e.p == NULL ? "" : e.p);
		HB_WRONG("the error is another");
	}
	hb_text_fini(&t);
	hb_text_fini(&e);
}

struct hb_text
hbf_explain(const struct hb_chain *chain, struct hb_facts *facts)
{
	struct hb_explain *ex = hb_explain_new();
	struct hb_text t = { 0 };

	if (facts != NULL) {
		hb_facts_copy(hb_explain_facts(ex), facts);
		hb_facts_fini(facts);
	}
	hb_chain_explain(chain, ex);
	hb_explain_text(ex, &t);
	hb_explain_free(&ex);
	return (t);
}

/* ------------------------------------------------------------------ connections */

struct hb_facts
hbf_facts(const char *sni)
{
	struct hb_facts f;

	hb_facts_init(&f);
	(void)hb_addr_parse(hb_str("127.0.0.1:4000"), &f.remote);
	(void)hb_addr_parse(hb_str("127.0.0.1:443"), &f.local);
	if (sni != NULL)
		hb_facts_hello_edit(&f)->sni = hb_arena_str(&f.arena, hb_str(sni));
	return (f);
}

static void
conn_closed(void *arg, struct hb_conn *conn, enum hb_close_reason reason)
{
	struct hbf *h = arg;
	struct hb_conn_view v;
	struct hb_str s;

	/* It may have rested, and be elsewhere now. */
	HB_ASSERT(h->conn != NULL && !h->closed);
	hb_conn_view(conn, &v);
	h->conn = NULL;
	h->closed = true;
	h->reason = reason;
	h->bytes_in = v.bytes_in;
	h->bytes_out = v.bytes_out;
	(void)snprintf(h->detail, sizeof h->detail, "%s", v.detail == NULL ? "" : v.detail);
	if (v.upstream != NULL)
		(void)snprintf(
			h->cluster, sizeof h->cluster, "%.*s", HB_STR_FMT(v.upstream->cluster));
	if (h->state_key != NULL) {
		s = hb_facts_state(v.facts, hb_str(h->state_key));
		(void)snprintf(h->state_value, sizeof h->state_value, "%.*s", HB_STR_FMT(s));
	}
}

void
hbf_open(struct hbf *h, const struct hb_chain *chain, const struct hbf_options *opt)
{
	static const struct hbf_options none;
	const struct hbf_options *o = opt == NULL ? &none : opt;
	struct hb_conn_owner owner = {
		.on_closed = conn_closed,
		.arg = h,
		.listener_name = "test",
		.log = o->log,
		.buffer_high = o->buffer_high,
	};
	struct hb_transport *client, *server;
	struct hb_facts facts = hbf_facts(NULL);

	if (o->facts != NULL) {
		hb_facts_fini(&facts);
		facts = *o->facts;
		hb_facts_init(o->facts);
	}
	make_wire(o->wire, &client, &server);
	if (o->split > 0)
		server = hbt_splitter(server, o->split);
	if (o->block)
		server = h->blocker = hbt_blocker(server);
	if (o->paused)
		hbt_attach_paused(&h->client, client);
	else
		hbt_attach(&h->client, client);
	h->conn = hb_conn_start(hbt_worker(), server, &facts, chain, &owner);
}

void
hbf_close(struct hbf *h)
{
	hbt_sink_fini(&h->client);
	if (h->blocker != NULL && !h->closed)
		hbt_release(h->blocker, SIZE_MAX);
	HBT_UNTIL(h->closed);
	hbt_turns(4);
}

/* ------------------------------------------------------------------ numbers */

int64_t
hbf_stat(const char *name)
{
	struct hb_stats_query q = { 0 };
	struct hb_text text = { 0 };
	size_t len = strlen(name);
	const char *p;
	int64_t v;

	hb_stats_text(&text, &q);
	for (p = text.p; p != NULL; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (strncmp(p, name, len) == 0 && p[len] == ':')
			break;
	}
	if (p == NULL)
		HB_WRONG(name);
	v = strtoll(p + len + 1, NULL, 10);
	hb_text_fini(&text);
	return (v);
}

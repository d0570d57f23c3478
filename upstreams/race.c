/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/burst.h"
#include <stdarg.h>
#include <stdio.h>
#include "core/transport/tls.h"
#include "upstreams/cluster.h"
#include "upstreams/race.h"

enum lane_state { LANE_WAITS, LANE_RUNS, LANE_FAILED };

/* One address. */
struct lane {
	struct hb_race *race;
	enum lane_state state;
	bool connected;
	struct hb_transport *t;   /* owned while it runs                          */
	struct hb_transport *tcp; /* at the bottom of t; NULL = gone              */
	struct hb_transport_watch tcp_watch;
};

struct hb_race {
	unsigned magic;
#define RACE_MAGIC 0x1f5de903
	struct hb_worker *worker;
	struct hb_race_request rq;
	struct hb_ep_addrs *addrs; /* owned */
	struct hb_timer stagger, deadline;
	struct hb_run run; /* all failed before the loop was reached */
	struct hb_dead dead;
	enum hb_close_reason reason; /* of the last failure */
	unsigned failed;             /* lane of it          */
	bool no_socket;              /* it had no socket    */
	char *text;                  /* owned; of it; NULL = none */
	struct lane lane[];          /* one for each address */
};

static void go_on(struct hb_race *);

/* ------------------------------------------------------------------ ends */

static void
race_free(struct hb_dead *d)
{
	struct hb_race *r = HB_CONTAINER(d, struct hb_race, dead);
	size_t size = sizeof *r + r->addrs->n * sizeof r->lane[0];

	HB_CHECK(r, RACE_MAGIC);
	hb_ep_addrs_free(r->addrs);
	hb_free(r->text);
	r->magic = 0;
	hb_burst_free(r, size);
}

static void
forget_tcp(struct lane *l)
{
	if (l->tcp != NULL)
		l->tcp->watch = NULL;
	l->tcp = NULL;
}

static void
tcp_gone(struct hb_transport_watch *w, enum hb_close_reason ended, uint64_t in, uint64_t out)
{
	(void)ended;
	(void)in;
	(void)out;
	HB_CONTAINER(w, struct lane, tcp_watch)->tcp = NULL;
}

/* Gives up a lane; it may run again. */
static void
lane_stop(struct lane *l)
{
	forget_tcp(l);
	if (l->t != NULL)
		hb_transport_abort(&l->t, HB_CLOSE_LOCAL_CLOSE);
	if (l->state == LANE_RUNS)
		l->state = LANE_WAITS;
	l->connected = false;
}

static void
race_end(struct hb_race *r)
{
	hb_timer_stop(&r->stagger);
	hb_timer_stop(&r->deadline);
	hb_run_cancel(&r->run);
	for (unsigned i = 0; i < r->addrs->n; i++)
		lane_stop(&r->lane[i]);
	hb_dead_add(r->worker, &r->dead, race_free);
}

void
hb_race_cancel(struct hb_race **pr)
{
	struct hb_race *r = *pr;

	HB_CHECK(r, RACE_MAGIC);
	*pr = NULL;
	race_end(r);
}

static void
lost(struct hb_race *r, bool timeout)
{
	struct hb_race_result res = {
		.reason = r->reason,
		.addr = r->addrs->v[r->failed],
		.timeout = timeout || r->reason == HB_CLOSE_CONNECT_TIMEOUT,
		.secure = r->lane[r->failed].connected && hb_transport_socket_secure(r->rq.socket),
		.no_socket = r->no_socket,
		.text = r->text == NULL ? "" : r->text,
	};

	HB_ASSERT(r->reason != HB_CLOSE_NONE);
	race_end(r);
	r->rq.done(r->rq.arg, &res);
}

static void
local_address(const struct lane *l, struct hb_addr *ret)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof ss;

	if (l->tcp == NULL || getsockname(hb_tcp_fd(l->tcp), (struct sockaddr *)&ss, &len) != 0 ||
		ss.ss_family == AF_UNIX)
		return;
	hb_addr_from_sockaddr(ret, (struct sockaddr *)&ss, len);
}

static void
won(struct lane *l)
{
	struct hb_race *r = l->race;
	struct hb_race_result res = {
		.t = l->t,
		.addr = r->addrs->v[l - r->lane],
		.secure = hb_transport_socket_secure(r->rq.socket),
		.text = "",
	};

	if (r->rq.local)
		local_address(l, &res.local);
	l->t = NULL;
	race_end(r);
	r->rq.done(r->rq.arg, &res);
}

/* ------------------------------------------------------------------ events of a lane */

static struct lane *
lane_of(void *sink)
{
	struct lane *l = sink;

	HB_CHECK(l->race, RACE_MAGIC);
	return (l);
}

static void
on_connected(void *sink, struct hb_transport *t)
{
	struct lane *l = lane_of(sink);
	struct hb_race *r = l->race;

	(void)t;
	l->connected = true;
	if (r->rq.handshake_ms > 0)
		hb_timer_start(&r->deadline, r->rq.handshake_ms);
	hb_timer_stop(&r->stagger);
	for (unsigned i = 0; i < r->addrs->n; i++) {
		if (&r->lane[i] != l && r->lane[i].state == LANE_RUNS && !r->lane[i].connected)
			lane_stop(&r->lane[i]);
	}
}

static void
on_secured(void *sink, struct hb_transport *t)
{
	(void)t;
	won(lane_of(sink));
}

void
hb_race_no_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	(void)sink;
	(void)t;
	(void)buf;
	(void)end;
	HB_WRONG("data came while reading is disabled");
}

void
hb_race_say(char **to, const char *fmt, ...)
{
	char text[HB_RACE_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	hb_free(*to);
	*to = hb_strdup(text);
}

static void
note_failure(struct hb_race *r, unsigned i, enum hb_close_reason reason, const char *stage,
	const char *why)
{
	r->failed = i;
	r->reason = reason;
	r->no_socket = false;
	hb_race_say(&r->text, "%s: %.200s", stage, why);
}

static void
on_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	struct lane *l = lane_of(sink);
	struct hb_race *r = l->race;
	const struct hb_tls_info *tls = hb_transport_tls_info(t);
	const char *why = hb_close_info(reason)->text;
	int err = l->tcp == NULL ? 0 : hb_tcp_errno(l->tcp);

	if (!l->connected && err != 0)
		why = strerror(err);
	if (l->connected && tls != NULL && tls->failure != NULL)
		why = tls->failure;
	note_failure(r, (unsigned)(l - r->lane), reason, l->connected ? "TLS" : "connect", why);
	l->t = NULL;
	forget_tcp(l);
	l->state = LANE_FAILED;
	go_on(r);
}

static const struct hb_transport_events lane_events = {
	.on_connected = on_connected,
	.on_secured = on_secured,
	.on_data = hb_race_no_data,
	.on_closed = on_closed,
};

/* ------------------------------------------------------------------ lanes */

static bool
lane_start(struct hb_race *r, unsigned i)
{
	struct lane *l = &r->lane[i];
	const struct hb_bind_conf *bind = r->rq.bind;
	struct hb_tcp_connect c = { .options = *r->rq.tcp, .sockopts = bind->options };
	struct sockaddr_storage ss = { 0 };
	struct hb_err err = { 0 };

	c.speaks_first = r->rq.speaks_first || hb_transport_socket_secure(r->rq.socket);
	c.addr = (struct sockaddr *)&ss;
	c.addr_len = hb_addr_to_sockaddr(&r->addrs->v[i], &ss);
	HB_ASSERT(c.addr_len > 0);
	if (ss.ss_family != AF_UNIX)
		c.n_sockopts = bind->n_options;
	if (bind->len > 0 && bind->from.ss_family == ss.ss_family) {
		c.bind_to = (const struct sockaddr *)&bind->from;
		c.bind_len = bind->len;
		c.freebind = bind->freebind;
	}
	l->tcp = hb_tcp_connect(r->worker, &c, &err);
	if (l->tcp == NULL) {
		l->state = LANE_FAILED;
		note_failure(r, i, HB_CLOSE_CONNECT_FAILED, "socket", err.text);
		r->no_socket = true;
		return (false);
	}
	l->state = LANE_RUNS;
	l->tcp_watch.gone = tcp_gone;
	l->tcp->watch = &l->tcp_watch;
	l->t = hb_transport_socket_wrap(r->rq.socket, l->tcp, r->rq.facts, hb_str(r->rq.host));
	hb_transport_attach(l->t, &lane_events, l);
	return (true);
}

/* Starts the next address that waits. False = there is none. */
static bool
start_next(struct hb_race *r)
{
	bool more = false;

	for (unsigned i = 0; i < r->addrs->n; i++) {
		if (r->lane[i].state == LANE_WAITS && lane_start(r, i)) {
			for (i++; i < r->addrs->n; i++)
				more |= r->lane[i].state == LANE_WAITS;
			if (more)
				hb_timer_start(&r->stagger, HB_RACE_STAGGER_MS);
			return (true);
		}
	}
	return (false);
}

/* After a failure. */
static void
go_on(struct hb_race *r)
{
	bool connected = false, runs = false;

	for (unsigned i = 0; i < r->addrs->n; i++) {
		runs |= r->lane[i].state == LANE_RUNS;
		connected |= r->lane[i].connected && r->lane[i].state == LANE_RUNS;
	}
	/* One that stands is waited for; a failure of another says nothing about it. */
	if (connected || start_next(r) || runs)
		return;
	lost(r, false);
}

static void
on_stagger(struct hb_timer *t)
{
	(void)start_next(HB_CONTAINER(t, struct hb_race, stagger));
}

static void
on_deadline(struct hb_timer *t)
{
	struct hb_race *r = HB_CONTAINER(t, struct hb_race, deadline);
	unsigned at = 0;

	/* The one that came furthest tells what was waited for. */
	for (unsigned i = 0; i < r->addrs->n; i++) {
		if (r->lane[i].state == LANE_RUNS &&
			(r->lane[i].connected || !r->lane[at].connected))
			at = i;
	}
	r->failed = at;
	r->no_socket = false;
	r->reason = r->lane[at].connected ? HB_CLOSE_TLS_TIMEOUT : HB_CLOSE_CONNECT_TIMEOUT;
	hb_race_say(&r->text, "%s: no answer within %llu ms",
		r->lane[at].connected ? "TLS" : "connect",
		(unsigned long long)(r->lane[at].connected && r->rq.handshake_ms > 0 ?
				r->rq.handshake_ms :
				r->rq.timeout_ms));
	lost(r, true);
}

static void
on_run(struct hb_run *run)
{
	lost(HB_CONTAINER(run, struct hb_race, run), false);
}

struct hb_race *
hb_race_new(struct hb_worker *w, const struct hb_race_request *rq)
{
	struct hb_race *r;

	HB_ASSERT(rq->addrs->n > 0 && rq->timeout_ms > 0);
	r = hb_burst_calloc(sizeof *r + rq->addrs->n * sizeof r->lane[0]);
	r->magic = RACE_MAGIC;
	r->worker = w;
	r->rq = *rq;
	r->addrs = hb_ep_addrs_copy(rq->addrs);
	for (unsigned i = 0; i < r->addrs->n; i++)
		r->lane[i].race = r;
	hb_timer_init(&r->stagger, w, on_stagger);
	hb_timer_init(&r->deadline, w, on_deadline);
	hb_run_init(&r->run, on_run);
	hb_timer_start(&r->deadline, rq->timeout_ms);
	if (!start_next(r))
		hb_run_soon(w, &r->run);
	return (r);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts and limits, the choice of a chain, the connection. On workers.
 *
 * Limits are exact upper bounds without a shared counter: each worker first counts itself in, then
 * adds up everybody. Two that come at the same time for one place may both be refused.
 */
#include "core/base/log.h"
#include "listeners/listener_priv.h"

/* Connections that the process's limit counts, by worker; the control thread's are the last. */
static struct {
	_Atomic uint64_t n;
	uint8_t pad[56];
} global[HB_WORKERS_MAX + 1];
static uint64_t global_max; /* before the workers start */

void
hb_listener_limit_init(uint64_t connections_max)
{
	global_max = connections_max;
}

static bool
counts_globally(const struct hb_ldoor *d)
{
	return (d->socket && !d->lw->listener->ignore_global);
}

static uint64_t
global_sum(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < hb_workers_count(); i++)
		sum += atomic_load(&global[i].n);
	return (sum);
}

uint64_t
hb_lname_connections(const struct hb_lname *name)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < hb_workers_count(); i++)
		sum += atomic_load(&name->count[i].n);
	return (sum);
}

static _Atomic uint64_t *
count_of(const struct hb_lworker *lw)
{
	return (&lw->listener->ident->count[lw->worker->index].n);
}

static void
pin(struct hb_ldoor *d)
{
	atomic_fetch_add(&d->lw->pins, 1);
	if (counts_globally(d))
		atomic_fetch_add(&global[d->lw->worker->index].n, 1);
}

void
hb_listener_force(struct hb_ldoor *d)
{
	atomic_fetch_add(count_of(d->lw), 1);
	pin(d);
}

void
hb_listener_leave(struct hb_ldoor *d)
{
	if (counts_globally(d))
		atomic_fetch_sub(&global[d->lw->worker->index].n, 1);
	atomic_fetch_sub(count_of(d->lw), 1);
	atomic_fetch_sub(&d->lw->pins, 1);
}

/* Counts in where the fewest are, so that long tunnels, of which the kernel's hash gives one worker many and
 * another none, use all cores; test_exact_balance. It costs each connection a shared cache line. A worker that meanwhile got another one is looked at again. */
static struct hb_ldoor *
enter_balanced(struct hb_ldoor *d)
{
	struct hb_listener *l = d->lw->listener;
	struct hb_lworker *best;
	uint64_t n, fewest;

	do {
		best = d->lw;
		fewest = atomic_load(count_of(best));
		for (size_t i = 0; i < l->n_workers; i++) {
			n = atomic_load(count_of(&l->worker[i]));
			if (n < fewest) {
				fewest = n;
				best = &l->worker[i];
			}
		}
	} while (!atomic_compare_exchange_weak(count_of(best), &fewest, fewest + 1));
	pin(&best->socket);
	return (&best->socket);
}

struct hb_ldoor *
hb_listener_enter(struct hb_worker *w, struct hb_ldoor *d)
{
	const struct hb_listener *l = d->lw->listener;

	if (l->exact_balance && d->socket)
		d = enter_balanced(d);
	else
		hb_listener_force(d);
	if (global_max != 0 && counts_globally(d) && global_sum() > global_max)
		hb_stat_inc(w, l->stats, CX_GLOBAL_OVERFLOW);
	else if (l->connections_max != 0 && hb_lname_connections(l->ident) > l->connections_max)
		hb_stat_inc(w, l->stats, CX_OVERFLOW);
	else
		return (d);
	hb_listener_leave(d);
	return (NULL);
}

struct hb_lworker *
hb_listener_serving(struct hb_lworker *lw)
{
	struct hb_listener *now = atomic_load_explicit(
		&lw->listener->ident->current, memory_order_acquire);

	return (now == NULL ? lw : &now->worker[lw->worker->index]);
}

/* ------------------------------------------------------------------ the end of a connection */

static void
on_secured(void *arg, const struct hb_conn *c)
{
	const struct hb_ldoor *d = arg;
	const struct hb_listener *l = d->lw->listener;
	struct hb_conn_view v;

	if (!hb_chain_is_tls(hb_conn_chain(c)))
		return;
	hb_conn_view(c, &v);
	hb_stat_inc(d->lw->worker, l->stats, SSL_HANDSHAKE);
	if (hb_facts_tls(v.facts)->resumed)
		hb_stat_inc(d->lw->worker, l->stats, SSL_REUSED);
	if (hb_facts_tls(v.facts)->peer_cert == NULL)
		hb_stat_inc(d->lw->worker, l->stats, SSL_NO_CERTIFICATE);
}

static void
count_tls_error(struct hb_worker *w, const struct hb_listener *l, enum hb_close_reason reason)
{
	switch (reason) {
	case HB_CLOSE_TLS_NO_CERT:
		hb_stat_inc(w, l->stats, SSL_NO_CERT);
		break;
	case HB_CLOSE_TLS_VERIFY:
		hb_stat_inc(w, l->stats, SSL_VERIFY);
		break;
	case HB_CLOSE_TLS_SAN:
		hb_stat_inc(w, l->stats, SSL_SAN);
		break;
	case HB_CLOSE_TLS_NO_GROUP:
		hb_stat_inc(w, l->stats, SSL_NO_GROUP);
		break;
	case HB_CLOSE_TLS_TIMEOUT:
		hb_stat_inc(w, l->stats, CX_TLS_TIMEOUT);
		break;
	case HB_CLOSE_TLS_HANDSHAKE:
	case HB_CLOSE_TLS_PEER_REFUSED:
	case HB_CLOSE_TLS_ERROR:
		break;
	default:
		return;
	}
	hb_stat_inc(w, l->stats, SSL_ERROR);
}

static void
on_closed(void *arg, struct hb_conn *c, enum hb_close_reason reason)
{
	struct hb_ldoor *d = arg;
	struct hb_lworker *lw = d->lw;
	const struct hb_listener *l = lw->listener;
	struct hb_worker *w = lw->worker;
	struct hb_conn_view v;

	hb_conn_view(c, &v);
	hb_stat_add(w, l->stats, CX_ACTIVE, -1);
	hb_stat_inc(w, l->stats, CX_DESTROY);
	hb_stat_record(w, l->stats, CX_LENGTH_MS, v.age_ms);
	hb_stat_add(w, lw->stats, WORKER_CX_ACTIVE, -1);
	if (hb_chain_is_tls(hb_conn_chain(c)))
		count_tls_error(w, l, reason);
	hb_listener_leave(d);
}

/* ------------------------------------------------------------------ the choice */

void
hb_listener_refuse(struct hb_ldoor *d, struct hb_transport *t, struct hb_facts *facts,
	uint64_t start_ms, enum hb_close_reason reason)
{
	struct hb_lworker *lw = d->lw;
	struct hb_worker *w = lw->worker;
	const struct hb_listener *l = lw->listener;
	struct hb_log_entry e = { .facts = facts, .reason = reason };
	const char *detail = hb_close_info(reason)->detail;

	e.duration_ms = hb_now_ms(w) - start_ms;
	e.start_us = hb_wall_us(w) - (int64_t)e.duration_ms * 1000;
	e.listener_name = hb_str(l->name);
	if (strcmp(detail, "-") != 0)
		e.detail = hb_str(detail);
	hb_access_log_write(w, l->log, &e);
	HB_LOG(LISTENER, DEBUG, "connection refused", "listener=%s reason=%s sni=\"%.*s\"", l->name,
		hb_close_info(reason)->name, HB_STR_FMT(hb_facts_hello(facts)->sni));
	if (t != NULL && d->socket)
		hb_transport_abort(&t, reason);
	else if (t != NULL)
		hb_transport_reject(&t, reason);
	hb_facts_fini(facts);
	hb_listener_leave(d);
}

static void
move(struct hb_ldoor **dp, struct hb_lworker *to)
{
	struct hb_ldoor *d = (*dp)->socket ? &to->socket : &to->stream;

	hb_listener_force(d);
	hb_listener_leave(*dp);
	*dp = d;
}

void
hb_listener_start(
	struct hb_ldoor *d, struct hb_transport *t, struct hb_facts *facts, uint64_t start_ms)
{
	struct hb_lworker *lw = hb_listener_serving(d->lw);
	const struct hb_listener *l = lw->listener;
	struct hb_worker *w = lw->worker;
	struct hb_conn_owner owner = { .on_closed = on_closed, .on_secured = on_secured };
	const struct hb_chain *chain = NULL;
	const struct hb_chain_set *set;

	if (lw != d->lw)
		move(&d, lw);
	set = atomic_load_explicit(&l->set, memory_order_acquire);
	if (set == NULL || lw->closed) {
		hb_listener_refuse(d, t, facts, start_ms, HB_CLOSE_DRAINED);
		return;
	}
	chain = hb_chain_set_find(set, facts);
	if (chain == NULL) {
		hb_stat_inc(w, l->stats, NO_CHAIN);
		hb_listener_refuse(d, t, facts, start_ms, HB_CLOSE_NO_FILTER_CHAIN);
		return;
	}
	hb_stat_inc(w, l->stats, CX_TOTAL);
	hb_stat_inc(w, l->stats, CX_ACTIVE);
	hb_stat_inc(w, lw->stats, WORKER_CX_TOTAL);
	hb_stat_inc(w, lw->stats, WORKER_CX_ACTIVE);
	owner.arg = d;
	owner.listener_name = l->name;
	owner.log = l->log;
	owner.buffer_high = l->buffer_high;
	owner.inbound = l->inbound;
	(void)hb_conn_start(w, t, facts, chain, &owner);
	hb_facts_fini(facts);
}

void
hb_listener_take(struct hb_ldoor *d, struct hb_transport *t, struct hb_facts *facts, bool handed)
{
	if (d->lw->listener->n_filters == 0 && !d->lw->listener->use_original_dst)
		hb_listener_start(d, t, facts, hb_now_ms(d->lw->worker));
	else
		hb_pre_start(d, t, facts, handed);
}

int
hb_listener_stream(
	struct hb_worker *w, struct hb_str name, struct hb_transport *t, struct hb_facts *facts)
{
	struct hb_listener *l = hb_listeners_by_name(name);
	struct hb_facts own = *facts;
	struct hb_ldoor *d;

	if (l == NULL)
		return (-ENOENT);
	HB_ASSERT(w->index < l->n_workers);
	d = &l->worker[w->index].stream;
	hb_facts_init(facts);
	if (hb_listener_enter(w, d) == NULL) {
		hb_facts_fini(&own);
		hb_transport_reject(&t, HB_CLOSE_CX_LIMIT);
		return (0);
	}
	hb_listener_take(d, t, &own, false);
	return (0);
}

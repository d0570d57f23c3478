/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a connection: start, events of its transport, end.
 *
 * The end always runs from the dead list of the turn in which the connection closed: nobody of the
 * connection is on the stack then, a transport that closed by itself still has its memory (peer
 * certificates in the facts point there), and every filter slot may close without looking back.
 */
#include <stdio.h>
#include <unistd.h>
#include "core/base/log.h"
#include "core/base/burst.h"
#include "core/filter/park_priv.h"
#include "core/filter/transport_socket.h"
#include "core/identity/identity.h"
#include "core/stats/access_log.h"
#include "core/transport/tls.h"

/* For the panic report: what this thread is busy with. */
static _Thread_local const struct hb_conn *conn_current;

static const struct hb_conn_observer *observer;

/* ------------------------------------------------------------------ owners */

static bool
owner_equal(const struct hb_conn_owner *a, const struct hb_conn_owner *b)
{
	return (a->on_closed == b->on_closed && a->on_secured == b->on_secured &&
		a->listener_name == b->listener_name && a->log == b->log &&
		a->buffer_high == b->buffer_high && a->status_of == b->status_of &&
		a->status_arg == b->status_arg && a->inbound == b->inbound &&
		a->carried == b->carried);
}

/* Listeners and tunnel servers, few: a connection refers to what it shares with its like. */
static struct hb_conn_owned *
owner_get(struct hb_worker *w, struct hb_conn_worker *s, const struct hb_conn_owner *o)
{
	struct hb_conn_owner want = *o;
	struct hb_conn_owned *found;
	struct hb_list *n;

	want.arg = NULL;
	if (want.buffer_high == 0)
		want.buffer_high = HB_TRANSPORT_HIGH_DEFAULT;
	HB_LIST_FOREACH (n, &s->owners) {
		found = HB_LIST_ENTRY(n, struct hb_conn_owned, node);
		if (owner_equal(&found->o, &want))
			goto out;
	}
	found = hb_calloc(1, sizeof *found);
	found->worker = w;
	found->o = want;
	hb_list_init(&found->node);
out:
	if (hb_list_linked(&found->node))
		hb_list_del(&found->node);
	hb_list_add_head(&s->owners, &found->node);
	found->conns++;
	return (found);
}

static void
owner_put(struct hb_conn_owned **op)
{
	struct hb_conn_owned *o = *op;

	*op = NULL;
	HB_ASSERT(o->conns > 0);
	if (--o->conns > 0)
		return;
	hb_list_del(&o->node);
	hb_free(o);
}

/* ------------------------------------------------------------------ the observer */

void
hb_conn_observe(const struct hb_conn_observer *o)
{
	observer = o;
}

static bool
is_carrier(const struct hb_conn *c)
{
	return (hb_conn__decl(c, c->chain->n_filters - 1)->type->flags & HB_FILTER_CARRIER);
}

void
hb_conn__moved(struct hb_conn *c, uint64_t in, uint64_t out)
{
	c->bytes_in += in;
	c->bytes_out += out;
	if ((c->flags & HB_CF_OPENED) && c->seen != NULL)
		observer->moved(c->seen, in, out);
}

void
hb_conn__opened(struct hb_conn *c)
{
	if (observer == NULL || (c->flags & HB_CF_OPENED) || is_carrier(c))
		return;
	c->flags |= HB_CF_OPENED;
	c->seen = observer->opened(c);
	if (c->seen != NULL) /* early data */
		observer->moved(c->seen, c->bytes_in, c->bytes_out);
}

static void
observe_end(struct hb_conn *c)
{
	if (observer == NULL)
		return;
	if ((c->flags & HB_CF_OPENED) && c->seen != NULL) {
		observer->closed(c->seen, c);
		c->seen = NULL;
	}
	/* A filter that answers by itself has accepted, and has no upstream. */
	if ((c->flags & HB_CF_SECURED) && !(c->flags & HB_CF_OPENED) && !is_carrier(c) &&
		hb_close_info(c->reason)->is_error &&
		(c->flags & (HB_CF_ACCEPTED | HB_CF_UPSTREAM)) != HB_CF_ACCEPTED)
		observer->failed(c);
}

/* ------------------------------------------------------------------ the end */

static void
handshake_stop(struct hb_conn *c)
{
	if ((c->flags & HB_CF_SECURED) || c->handshake == NULL)
		return;
	hb_timer_stop(&c->handshake->timer);
	hb_free(c->handshake);
	c->handshake = NULL;
}

static void
forget_certs(struct hb_conn *c)
{
	struct hb_facts_tls *t = c->facts.tls;

	if (t == NULL)
		return;
	t->peer_cert = t->local_cert = NULL;
	t->version = t->cipher = NULL;
}

static void
let_go(struct hb_conn *c)
{
	if (c->t == NULL)
		return;
	if (c->flags & HB_CF_FLUSH) {
		/* It still needs what the chain's transport socket owns. */
		if (c->flags & HB_CF_WRAPPED)
			hb_chain__pin_transport(c->chain, c->t);
		hb_transport_finish(&c->t, c->reason);
	} else if (c->flags & HB_CF_ACCEPTED)
		hb_transport_abort(&c->t, c->reason);
	else
		hb_transport_reject(&c->t, c->reason);
}

/* False: the terminal filter's sink cannot be told yet; its last bytes are still to be read. */
static bool
facade_end(struct hb_conn *c)
{
	struct hb_transport *ft = hb_conn__facade(c);

	if (ft == NULL)
		return (true);
	if (!(c->flags & HB_CF_GONE))
		hb_transport_unread_drop(ft);
	if (c->told == HB_CLOSE_DONE && hb_transport_unread_end(ft))
		return (false); /* facade.c asks again when the end was delivered */
	if (c->told == HB_CLOSE_DONE && !(ft->read_ended && ft->write_ended))
		c->told = HB_CLOSE_LOCAL_CLOSE; /* a filter has kept an end for itself */
	hb_transport_emit_closed(ft, c->told);
	return (hb_conn__facade(c) == NULL);
}

static void
end_filters(struct hb_conn *c)
{
	const struct hb_filter_type *type;

	for (unsigned i = 0; i < c->chain->n_filters; i++) {
		type = hb_conn__decl(c, i)->type;
		hb_filter_fini(&c->filter[i]);
		if (type->fini != NULL)
			type->fini(&c->filter[i]);
		/* fini may not start the timer again. */
		HB_ASSERT(c->filter[i].timer == NULL);
	}
}

static void
log_end(struct hb_conn *c)
{
	struct hb_log_entry e;

	if (c->owner->o.log != NULL) {
		hb_conn_log_entry(c, &e);
		hb_access_log_write(hb_conn__worker(c), c->owner->o.log, &e);
	}
	HB_LOG(CONN, DEBUG, "closed",
		"id=%llu listener=%s chain=%s reason=%s rx=%llu tx=%llu age_ms=%llu",
		(unsigned long long)c->id,
		c->owner->o.listener_name == NULL ? "" : c->owner->o.listener_name, c->chain->name,
		hb_close_info(c->reason)->name, (unsigned long long)c->bytes_in,
		(unsigned long long)c->bytes_out,
		(unsigned long long)(hb_now_ms(hb_conn__worker(c)) - c->start_ms));
}

/* The rest of the end comes in a later turn. */
static void
wait_more(struct hb_conn *c)
{
	if (c->t == NULL)
		forget_certs(c);
	c->flags &= ~HB_CF_DEAD;
	conn_current = NULL;
}

/* The downstream goes; its terminal filter still has bytes for the other side. */
static void
linger(struct hb_conn *c)
{
	unsigned last = c->chain->n_filters - 1;
	const struct hb_filter_type *type = hb_conn__decl(c, last)->type;

	let_go(c);
	if (!(c->flags & HB_CF_TOLD_GONE) && type->on_event != NULL) {
		c->flags |= HB_CF_TOLD_GONE;
		type->on_event(&c->filter[last], HB_EVENT_GONE);
	}
	wait_more(c);
	if (!(c->flags & HB_CF_LINGER))
		hb_conn__end_soon(c);
}

/* It has ended, and so have all the streams that it carried. */
void
hb_conn__free(struct hb_facts_owner *o)
{
	struct hb_conn *c = HB_CONTAINER(o, struct hb_conn, facts.keep);

	size_t size = c->chain->slab_size;

	HB_CHECK(c, HB_CONN_MAGIC);
	hb_chain__unpin(c->chain, hb_conn__worker(c));
	owner_put(&c->owner);
	hb_conn__upstream_fini(c);
	hb_facts_fini(&c->facts);
	c->magic = 0;
	hb_burst_free(c, size);
}

static void
conn_end(struct hb_dead *d)
{
	struct hb_conn *c = HB_CONTAINER(d, struct hb_conn, dead);
	struct hb_conn_worker *s = hb_conn__state(hb_conn__worker(c));
	struct hb_facts_owner *keep;

	HB_CHECK(c, HB_CONN_MAGIC);
	HB_ASSERT(c->depth == 0);
	HB_ASSERT((c->flags & (HB_CF_DEAD | HB_CF_CLOSING)) == (HB_CF_DEAD | HB_CF_CLOSING));
	conn_current = c;
	if (!facade_end(c)) {
		wait_more(c);
		return;
	}
	if ((c->flags & (HB_CF_LINGER | HB_CF_FORCED)) == HB_CF_LINGER) {
		linger(c);
		return;
	}
	handshake_stop(c);
	end_filters(c);
	while (c->holds != NULL)
		hb_conn__hold_free(c, c->holds);
	log_end(c);
	observe_end(c);
	if (c->owner->o.on_closed != NULL)
		c->owner->o.on_closed(c->owner_arg, c, c->reason);
	let_go(c);
	hb_conn__unlist(s, c);
	HB_ASSERT(s->count > 0);
	s->count--;
	hb_chain__count(c->chain, hb_conn__worker(c), -1);
	conn_current = NULL;
	keep = &c->facts.keep;
	hb_facts_unref(&keep);
}

void
hb_conn__end_soon(struct hb_conn *c)
{
	if (!(c->flags & HB_CF_CLOSING) || (c->flags & HB_CF_DEAD))
		return;
	if (c->flags & HB_CF_RUN) {
		hb_run_cancel(&c->run);
		c->flags &= ~HB_CF_RUN;
	}
	c->flags |= HB_CF_DEAD;
	hb_dead_add(hb_conn__worker(c), &c->dead, conn_end);
}

void
hb_conn__close(struct hb_conn *c, enum hb_close_reason reason, bool flush)
{
	HB_CHECK(c, HB_CONN_MAGIC);
	HB_ASSERT(reason != HB_CLOSE_NONE && reason < HB_CLOSE_MAX);
	if (c->flags & HB_CF_CLOSING)
		return;
	if (c->reason == HB_CLOSE_NONE)
		c->reason = (uint8_t)reason;
	if (c->told == HB_CLOSE_NONE)
		c->told = (uint8_t)reason;
	c->flags |= HB_CF_CLOSING | (flush ? HB_CF_FLUSH : 0);
	hb_park__unwatch(c);
	hb_conn__end_soon(c);
}

void
hb_conn__finish(struct hb_conn *c, unsigned i, enum hb_close_reason reason)
{
	struct hb_buf none = { NULL, NULL, 0 };

	HB_CHECK(c, HB_CONN_MAGIC);
	if (c->flags & (HB_CF_CLOSING | HB_CF_FINISHING))
		return;
	hb_conn__enter(c);
	if (c->reason == HB_CLOSE_NONE)
		c->reason = (uint8_t)reason;
	if (!(c->flags & HB_CF_WRITE_END))
		hb_conn__write(c, (int)i - 1, &none, true);
	c->flags |= HB_CF_FINISHING;
	hb_conn__leave(c);
}

/* ------------------------------------------------------------------ entries */

void
hb_conn__enter(struct hb_conn *c)
{
	HB_CHECK(c, HB_CONN_MAGIC);
	HB_ASSERT(c->depth < UINT16_MAX);
	c->depth++;
	c->touched = true;
	conn_current = c;
}

void
hb_conn__leave(struct hb_conn *c)
{
	HB_ASSERT(c->depth > 0);
	if (c->depth == 1) {
		hb_conn__settle(c);
		if ((c->flags & HB_CF_GONE) && !hb_conn__holding(c, HB_DIR_READ))
			hb_conn__close(c, c->reason, false);
		else if ((c->flags & HB_CF_FINISHING) &&
			(c->t == NULL || (c->flags & HB_CF_WRITE_END)))
			hb_conn__close(c, c->reason, true);
	}
	if (--c->depth > 0)
		return;
	conn_current = NULL;
	if (!(c->flags & (HB_CF_AWAKE | HB_CF_NO_REST | HB_CF_CLOSING)))
		hb_park__watch(c);
}

static struct hb_str
arena_copy(struct hb_conn *c, struct hb_str s)
{
	return (s.len == 0 ? (struct hb_str){ "", 0 } : hb_arena_str(&c->facts.arena, s));
}

/* The one URI name of the certificate, when there is exactly one. */
static struct hb_str
uri_of(const struct hb_cert_info *cert)
{
	struct hb_str uri = { NULL, 0 };

	if (cert->spiffe_id != NULL)
		return (hb_str(cert->spiffe_id));
	for (size_t i = 0; i < cert->n_san; i++) {
		if (cert->san[i].type != HB_SAN_URI)
			continue;
		if (uri.p != NULL)
			return ((struct hb_str){ NULL, 0 });
		uri = hb_str(cert->san[i].value);
	}
	return (uri);
}

static void
learn_tls(struct hb_conn *c)
{
	const struct hb_tls_info *info = hb_transport_tls_info(c->t);
	struct hb_facts_tls *tls;

	if (info == NULL)
		return;
	tls = hb_facts_tls_edit(&c->facts);
	tls->version = info->version;
	tls->cipher = info->cipher;
	tls->resumed = info->resumed;
	tls->peer_cert = info->peer;
	tls->local_cert = info->local;
	tls->alpn_chosen = arena_copy(c, info->alpn);
	if (hb_facts_hello(&c->facts)->sni.len == 0 && info->sni.len > 0)
		hb_facts_hello_edit(&c->facts)->sni = arena_copy(c, info->sni);
	if (info->peer != NULL && info->peer_verified)
		tls->principal = arena_copy(c, uri_of(info->peer));
}

struct hb_conn_texts *
hb_conn__texts(struct hb_conn *c)
{
	if (c->texts == NULL)
		c->texts = hb_arena_alloc(&c->facts.arena, sizeof *c->texts);
	return (c->texts);
}

static void
conn_on_connected(void *sink, struct hb_transport *t)
{
	struct hb_conn *c = sink;

	hb_conn__enter(c);
	c->flags |= HB_CF_CONNECTED;
	hb_conn__leave(c);
}

static void
conn_on_secured(void *sink, struct hb_transport *t)
{
	struct hb_conn *c = sink;

	if (c->flags & HB_CF_SECURED)
		return;
	hb_conn__enter(c);
	handshake_stop(c);
	c->flags |= HB_CF_SECURED;
	learn_tls(c);
	if (c->owner->o.on_secured != NULL)
		c->owner->o.on_secured(c->owner_arg, c);
	(void)hb_conn__judge(c);
	hb_conn__leave(c);
}

static void
conn_on_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct hb_conn *c = sink;

	hb_conn__enter(c);
	hb_conn__moved(c, buf->len, 0);
	hb_conn__read(c, 0, buf, end);
	hb_conn__leave(c);
}

static void
conn_on_watermark(void *sink, struct hb_transport *t, bool high)
{
	struct hb_conn *c = sink;

	hb_conn__enter(c);
	if (high)
		c->flags |= HB_CF_ABOVE;
	else
		c->flags &= ~HB_CF_ABOVE;
	hb_conn__leave(c);
}

static void
conn_on_sent(void *sink, struct hb_transport *t, size_t n)
{
	struct hb_conn *c = sink;

	if (c->flags & HB_CF_FACADE)
		hb_transport_emit_sent(&c->facade, n);
}

/* What resets the downstream is a downstream reset in logs and counters. */
static enum hb_close_reason
as_downstream(enum hb_close_reason r)
{
	return (r == HB_CLOSE_PEER_RESET || r == HB_CLOSE_STREAM_RESET ? HB_CLOSE_DOWNSTREAM_RESET :
									 r);
}

static void
conn_on_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	struct hb_conn *c = sink;
	const struct hb_tls_info *info = hb_transport_tls_info(t);

	hb_conn__enter(c);
	c->t = NULL;
	c->flags |= HB_CF_GONE;
	if (c->reason == HB_CLOSE_NONE)
		c->reason = (uint8_t)as_downstream(reason);
	if (c->told == HB_CLOSE_NONE)
		c->told = (uint8_t)reason;
	if (info != NULL && info->failure != NULL)
		hb_conn__texts(c)->tls_failure =
			hb_arena_str(&c->facts.arena, hb_str(info->failure)).p;
	hb_conn__leave(c);
	if (!(c->flags & HB_CF_CLOSING))
		forget_certs(c); /* bytes are held: the end comes in a later turn */
}

const struct hb_transport_events hb_conn__events = {
	.on_connected = conn_on_connected,
	.on_secured = conn_on_secured,
	.on_data = conn_on_data,
	.on_watermark = conn_on_watermark,
	.on_closed = conn_on_closed,
	.on_sent = conn_on_sent,
};

/* ------------------------------------------------------------------ start */

static void
on_start(struct hb_run *run)
{
	struct hb_conn *c = HB_CONTAINER(run, struct hb_conn, run);

	HB_CHECK(c, HB_CONN_MAGIC);
	c->flags &= ~HB_CF_RUN;
	conn_on_connected(c, c->t);
	if (c->t != NULL && c->t->secured)
		conn_on_secured(c, c->t);
}

static void
on_handshake_timeout(struct hb_timer *t)
{
	struct hb_conn *c = HB_CONTAINER(t, struct hb_conn_handshake, timer)->conn;

	hb_conn__close(c, HB_CLOSE_TLS_TIMEOUT, false);
}

static void
handshake_start(struct hb_conn *c)
{
	if (c->chain->socket == NULL || c->chain->connect_timeout_ms == 0)
		return;
	c->handshake = hb_calloc(1, sizeof *c->handshake);
	c->handshake->conn = c;
	hb_timer_init(&c->handshake->timer, hb_conn__worker(c), on_handshake_timeout);
	hb_timer_start(&c->handshake->timer, c->chain->connect_timeout_ms);
}

struct hb_conn *
hb_conn_start(struct hb_worker *w, struct hb_transport *lower, struct hb_facts *facts,
	const struct hb_chain *chain, const struct hb_conn_owner *owner)
{
	struct hb_conn_worker *s = hb_conn__state(w);
	struct hb_conn *c;

	HB_CHECK(chain, HB_CHAIN_MAGIC);
	hb_chain__pin(chain, w);
	c = hb_burst_calloc(chain->slab_size);
	c->magic = HB_CONN_MAGIC;
	c->chain = chain;
	c->owner = owner_get(w, s, owner);
	c->owner_arg = owner->arg;
	c->id = hb_conn__id(w, ++s->seq);
	c->start_ms = hb_now_ms(w);
	c->start_us = hb_wall_us(w);
	c->facts = *facts;
	c->facts.keep = (struct hb_facts_owner){ 1, hb_conn__free };
	hb_facts_init(facts);
	for (unsigned i = 0; i < chain->n_filters; i++)
		hb_filter_init(&c->filter[i], &hb_conn_host, c, (uint8_t)i);
	hb_conn__list(s, c);
	s->count++;
	hb_chain__count(chain, w, 1);
	c->t = hb_transport_socket_wrap(chain->socket, lower, &c->facts, (struct hb_str){ "", 0 });
	if (c->t != lower)
		c->flags |= HB_CF_WRAPPED;
	if (c->t != lower || !chain->rests)
		c->flags |= HB_CF_NO_REST;
	hb_transport_attach(c->t, &hb_conn__events, c);
	/* What holds less by its nature (a pair: one batch) keeps its own limit. */
	if (c->t->out.high >= HB_MIN(c->owner->o.buffer_high, (size_t)HB_TRANSPORT_HIGH_DEFAULT))
		hb_transport_set_high(c->t, c->owner->o.buffer_high);
	if (!c->t->secured)
		handshake_start(c);
	if (c->t->connected) {
		c->flags |= HB_CF_RUN;
		hb_run_init(&c->run, on_start);
		hb_run_soon(w, &c->run);
	}
	HB_LOG(CONN, DEBUG, "started", "id=%llu listener=%s chain=%s", (unsigned long long)c->id,
		owner->listener_name == NULL ? "" : owner->listener_name, chain->name);
	return (c);
}

void
hb_conn_carries(const struct hb_filter *f, struct hb_facts *stream)
{
	struct hb_conn *c = hb_conn__of(f);

	hb_facts_set_parent(stream, &c->facts);
}

/* ------------------------------------------------------------------ from outside */

static void
tell(struct hb_conn *c, enum hb_event ev)
{
	hb_conn__enter(c);
	hb_conn__event(c, ev);
	hb_conn__leave(c);
}

void
hb_conn_close(struct hb_conn *c, enum hb_close_reason reason)
{
	bool force = hb_close_info(reason)->is_error;
	struct hb_transport *ft;

	HB_CHECK(c, HB_CONN_MAGIC);
	if (force)
		c->flags |= HB_CF_FORCED;
	if (!(c->flags & (HB_CF_CLOSING | HB_CF_FINISHING)) && is_carrier(c))
		tell(c, HB_EVENT_CLOSE);
	if (!(c->flags & HB_CF_CLOSING)) {
		hb_conn__close(c, reason, !force);
		return;
	}
	/* It waits for the terminal filter to take or to pass on the rest; no longer. */
	c->flags &= ~(HB_CF_LINGER | HB_CF_GONE);
	hb_conn__end_soon(c);
	ft = hb_conn__facade(c);
	if (ft != NULL && ft->unread != NULL && ft->unread->buf.len > 0) {
		hb_transport_unread_drop(ft);
		hb_transport_run_soon(ft);
	}
}

void
hb_conn_drain(struct hb_conn *c)
{
	tell(c, HB_EVENT_DRAIN);
}

void
hb_conn_revalidate(struct hb_conn *c)
{
	if (c->t != NULL && !hb_transport_socket_holds(c->chain->socket, c->t))
		hb_conn_close(c, HB_CLOSE_REVOKED);
	else
		tell(c, HB_EVENT_REVALIDATE);
}

struct hb_conn *
hb_conn_at(const struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	return (t->ev == &hb_conn__events ? t->sink : NULL);
}

const void *
hb_conn_owner_arg(const struct hb_conn *c)
{
	HB_CHECK(c, HB_CONN_MAGIC);
	return (c->owner_arg);
}

const struct hb_chain *
hb_conn_chain(const struct hb_conn *c)
{
	HB_CHECK(c, HB_CONN_MAGIC);
	return (c->chain);
}

/* ------------------------------------------------------------------ views */

static const char *
state_of(const struct hb_conn *c)
{
	if (c->flags & (HB_CF_CLOSING | HB_CF_FINISHING | HB_CF_GONE))
		return ("closing");
	if (!(c->flags & HB_CF_SECURED))
		return ("handshake");
	if (!(c->flags & HB_CF_ESTABLISHED))
		return ("waiting");
	return ("open");
}

void
hb_conn_view(const struct hb_conn *c, struct hb_conn_view *ret)
{
	HB_CHECK(c, HB_CONN_MAGIC);
	*ret = (struct hb_conn_view){
		.id = c->id,
		.listener = c->owner->o.listener_name == NULL ? "" : c->owner->o.listener_name,
		.chain = c->chain->name,
		.state = state_of(c),
		.facts = &c->facts,
		.bytes_in = c->bytes_in,
		.bytes_out = c->bytes_out,
		.start_us = c->start_us,
		.age_ms = hb_now_ms(hb_conn__worker(c)) - c->start_ms,
		.reason = c->reason,
		.detail = c->texts == NULL ? NULL : c->texts->detail,
		.tls_failure = c->texts == NULL ? NULL : c->texts->tls_failure,
		.inbound = c->owner->o.inbound,
	};
	if (!(c->flags & HB_CF_UPSTREAM))
		return;
	hb_conn__upstream_info(c, &ret->info);
	ret->upstream = &ret->info;
}

static struct hb_str
detail_of(const struct hb_conn *c)
{
	const char *z = c->texts == NULL ? NULL : c->texts->detail;

	if (z == NULL)
		z = hb_close_info(c->reason)->detail;
	return (strcmp(z, "-") == 0 ? (struct hb_str){ NULL, 0 } : hb_str(z));
}

static unsigned
response_code(const struct hb_conn *c)
{
	if (c->owner->o.status_of == NULL)
		return (0);
	return (c->flags & HB_CF_ACCEPTED ?
			200 :
			c->owner->o.status_of(c->owner->o.status_arg, c->reason));
}

void
hb_conn_log_entry(const struct hb_conn *c, struct hb_log_entry *e)
{
	const struct hb_conn_upstream *u = &c->upstream;
	struct hb_upstream_info info;

	HB_CHECK(c, HB_CONN_MAGIC);
	*e = (struct hb_log_entry){
		.facts = &c->facts,
		.conn_id = c->id,
		.start_us = c->start_us,
		.duration_ms = hb_now_ms(hb_conn__worker(c)) - c->start_ms,
		.bytes_received = c->bytes_in,
		.bytes_sent = c->bytes_out,
		.reason = c->reason,
		.detail = detail_of(c),
		.chain_name = hb_str(c->chain->name),
		.listener_name = hb_str(c->owner->o.listener_name),
		.downstream_tls_failure = hb_str(c->texts == NULL ? NULL : c->texts->tls_failure),
		.response_code = response_code(c),
	};
	if (!(c->flags & HB_CF_UPSTREAM))
		return;
	e->upstream_bytes_sent = u->sent;
	e->upstream_bytes_received = u->received;
	hb_conn__upstream_info(c, &info);
	e->cluster = info.cluster;
	e->upstream_host_name = info.endpoint_host;
	e->upstream_remote = u->endpoint.kind == HB_ADDR_NONE ? NULL : &u->endpoint;
	e->upstream_local = u->local.kind == HB_ADDR_NONE ? NULL : &u->local;
	e->upstream_failure = info.failure;
	e->upstream_peer = info.tls_peer;
	e->connect_ms = info.connect_ms;
	e->attempts = info.attempts;
}

/* ------------------------------------------------------------------ panic */

void
hb_conn_panic_hook(int fd)
{
	const struct hb_conn *c = conn_current;
	char remote[HB_ADDR_TEXT_MAX], local[HB_ADDR_TEXT_MAX], line[512];
	int n;

	if (c == NULL || c->magic != HB_CONN_MAGIC)
		return;
	(void)hb_addr_format(&c->facts.remote, remote, sizeof remote);
	(void)hb_addr_format(&c->facts.local, local, sizeof local);
	n = snprintf(line, sizeof line,
		"connection %llu: %s -> %s listener=%s chain=%s state=%s flags=%x depth=%u rx=%llu tx=%llu\n",
		(unsigned long long)c->id, remote, local,
		c->owner->o.listener_name == NULL ? "" : c->owner->o.listener_name, c->chain->name,
		state_of(c), c->flags, c->depth, (unsigned long long)c->bytes_in,
		(unsigned long long)c->bytes_out);
	if (n > 0)
		(void)!write(fd, line, HB_MIN((size_t)n, sizeof line - 1));
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filter chains: compiling them, and their life.
 *
 * Who frees a chain: the owner lets go (hb_chain_free) after it has taken the chain out of what
 * workers can see. One quiescent pass later no worker can start a connection with it any more;
 * then each worker's counter is closed, and the last user of each worker tells the control thread.
 */
#include <stdio.h>
#include "core/event/table.h"
#include "core/filter/explain.h"
#include "core/filter/filter_priv.h"
#include "core/filter/transport_socket.h"
#include "envoy/config/listener/v3/listener_components.pb-c.h"

#define CHAIN_CONNECT_MS 15000u

typedef Envoy__Config__Listener__V3__FilterChain msg_chain;
typedef Envoy__Config__Listener__V3__Filter msg_filter;

/* Keeps chains that nobody owns any more reachable. */
static struct hb_list dying = { &dying, &dying };

/* ------------------------------------------------------------------ compiling */

static size_t
align16(size_t n)
{
	return ((n + 15u) & ~(size_t)15u);
}

static int
compile_filter(struct hb_cfg *cfg, struct hb_chain *c, const msg_filter *m)
{
	struct hb_chain_filter *cf = &c->filter[c->n_filters];
	const void *any = NULL;
	int r;

	if (m->config_type_case == ENVOY__CONFIG__LISTENER__V3__FILTER__CONFIG_TYPE_TYPED_CONFIG)
		any = m->typed_config;
	r = hb_filter_compile(cfg, HB_FILTER_NETWORK, m, m->name, any, &cf->type, &cf->conf);
	if (r != 0)
		return (r);
	cf->label = hb_strdup(*m->name != '\0' ? m->name : cf->type->name);
	c->n_filters++;
	return (0);
}

/* Only asked when every filter is known. */
static int
check_terminal(struct hb_cfg *cfg, const struct hb_chain *c, const msg_chain *m)
{
	const struct hb_filter_type *t;
	int r = 0;

	for (unsigned i = 0; i < c->n_filters; i++) {
		t = c->filter[i].type;
		if (i + 1 < c->n_filters && (t->flags & HB_FILTER_TERMINAL))
			r = hb_cfg_error(cfg, m->filters[i], NULL, -1,
				"%s is terminal, so it must be the last filter of the chain: move it to the end, "
				"or remove what follows",
				t->name);
		if (i + 1 == c->n_filters && !(t->flags & HB_FILTER_TERMINAL))
			r = hb_cfg_error(cfg, m->filters[i], NULL, -1,
				"%s is the last filter of the chain but not terminal: end the chain with one "
				"that is, for example envoy.filters.network.tcp_proxy",
				t->name);
	}
	return (r);
}

static int
compile_filters(struct hb_cfg *cfg, struct hb_chain *c, const msg_chain *m)
{
	int r = 0;

	if (m->n_filters == 0)
		return (hb_cfg_error(cfg, m, "filters", -1,
			"is empty: a chain needs a terminal filter, for example "
			"envoy.filters.network.tcp_proxy"));
	if (m->n_filters > HB_CHAIN_FILTERS_MAX)
		return (hb_cfg_error(cfg, m, "filters", -1, "has %zu entries, the limit is %u",
			m->n_filters, HB_CHAIN_FILTERS_MAX));
	for (size_t i = 0; i < m->n_filters; i++)
		if (compile_filter(cfg, c, m->filters[i]) != 0)
			r = -EINVAL;
	return (r != 0 ? r : check_terminal(cfg, c, m));
}

/* The terminal filter lets go of its state, and the others have none, or plain data. */
static bool
may_rest(const struct hb_chain *c)
{
	const struct hb_filter_type *t = c->filter[c->n_filters - 1].type;

	if (t->rests == NULL || t->pack == NULL || t->unpack == NULL ||
		c->slab_size > HB_FILTER_CTX_MAX)
		return (false);
	for (unsigned i = 0; i + 1 < c->n_filters; i++) {
		t = c->filter[i].type;
		if (!(t->flags & HB_FILTER_PLAIN) && (t->ctx_size > 0 || t->on_event != NULL))
			return (false);
	}
	return (true);
}

static void
lay_out(struct hb_chain *c)
{
	size_t off = sizeof(struct hb_conn) + c->n_filters * sizeof(struct hb_filter);

	for (unsigned i = 0; i < c->n_filters; i++) {
		off = align16(off);
		c->filter[i].ctx_off = (uint32_t)off;
		off += c->filter[i].type->ctx_size;
	}
	c->slab_size = off;
	c->rests = may_rest(c);
}

static void
make_pins(struct hb_chain *c)
{
	c->n_pins = hb_workers_count() + 1;
	c->pin = hb_calloc(c->n_pins, sizeof *c->pin);
	for (unsigned i = 0; i < c->n_pins; i++)
		c->pin[i].chain = c;
}

static void
chain_destroy(void *obj)
{
	struct hb_chain *c;
	const struct hb_filter_type *t;

	HB_CAST(c, obj, HB_CHAIN_MAGIC);
	if (hb_list_linked(&c->dying))
		hb_list_del(&c->dying);
	for (unsigned i = 0; i < c->n_filters; i++) {
		t = c->filter[i].type;
		if (t->conf_free != NULL && c->filter[i].conf != NULL)
			t->conf_free(c->filter[i].conf);
		hb_free(c->filter[i].label);
	}
	hb_transport_socket_free(&c->socket);
	hb_text_fini(&c->wire);
	hb_free(c->name);
	hb_free(c->where);
	hb_free(c->heir_owner);
	hb_free(c->pin);
	HB_DEL(c);
}

/* Who may open tunnels: a workload is closed to others unless it says so, a gateway should say it. */
static void
compile_admission(struct hb_cfg *cfg, const struct hb_chain *c, const msg_chain *m)
{
	const struct hb_chain_filter *last = &c->filter[c->n_filters - 1];

	if (!(last->type->flags & HB_FILTER_CARRIER))
		return;
	if (last->type->for_workload != NULL && last->type->for_workload(last->conf)) {
		(void)hb_transport_socket_for_workload(c->socket, cfg, m);
		return;
	}
	switch (hb_transport_socket_admits(c->socket)) {
	case HB_ADMITS_STATED:
		break;
	case HB_ADMITS_ALL:
		hb_cfg_warn(cfg, m, "transport_socket", -1,
			"every identity that trusted_ca vouches for may open tunnels here: name those "
			"that may by validation_context.custom_validator_config "
			"(hbone.identity.SpiffeRules; namespaces: [\"*\"] says that all may)");
		break;
	case HB_ADMITS_OWN_NAMESPACE:
		hb_cfg_warn(cfg, m, "transport_socket", -1,
			"this gateway names nobody in its hbone.identity.SpiffeRules, so that only its "
			"own namespace may open tunnels here: name those that may "
			"(namespaces: [\".\"] says that this is meant)");
		break;
	}
}

static bool
has_new_errors(struct hb_cfg *cfg, size_t before)
{
	return (hb_cfg_errs(cfg)->n + hb_cfg_errs(cfg)->dropped != before);
}

struct hb_chain *
hb_chain_compile(struct hb_cfg *cfg, const void *filter_chain_msg, const char *where)
{
	const msg_chain *m = filter_chain_msg;
	struct hb_errs *errs = hb_cfg_errs(cfg);
	size_t before = errs->n + errs->dropped;
	struct hb_chain *c;

	HB_ASSERT(m != NULL);
	HB_NEW(c, HB_CHAIN_MAGIC);
	hb_list_init(&c->dying);
	c->name = hb_strdup(m->name);
	c->where = hb_strdup(where);
	(void)compile_filters(cfg, c, m);
	(void)hb_transport_socket_compile(
		cfg, m, "transport_socket", m->transport_socket, false, &c->socket);
	c->connect_timeout_ms = hb_cfg_duration_ms(cfg, m, "transport_socket_connect_timeout",
		m->transport_socket_connect_timeout, CHAIN_CONNECT_MS);
	if (!has_new_errors(cfg, before))
		compile_admission(cfg, c, m);
	if (has_new_errors(cfg, before)) {
		chain_destroy(c);
		return (NULL);
	}
	c->wire = hb_cfg_to_wire(&m->base);
	lay_out(c);
	make_pins(c);
	return (c);
}

/* ------------------------------------------------------------------ life */

static unsigned
pin_index(const struct hb_chain *c, const struct hb_worker *w)
{
	unsigned i = w->index == HB_WORKER_CONTROL ? c->n_pins - 1 : w->index;

	HB_CHECK(c, HB_CHAIN_MAGIC);
	HB_ASSERT(i < c->n_pins);
	return (i);
}

void
hb_chain__pin(const struct hb_chain *c, const struct hb_worker *w)
{
	(void)atomic_fetch_add(&c->pin[pin_index(c, w)].n, 1);
}

static void
on_pin_free(struct hb_task *task)
{
	struct hb_chain_pin *p = HB_CONTAINER(task, struct hb_chain_pin, task);
	struct hb_chain *c = p->chain;

	HB_CHECK(c, HB_CHAIN_MAGIC);
	HB_ASSERT(c->pending > 0);
	if (--c->pending == 0)
		hb_retire(c, chain_destroy);
}

void
hb_chain__unpin(const struct hb_chain *c, const struct hb_worker *w)
{
	struct hb_chain_pin *p = &c->pin[pin_index(c, w)];
	uint64_t was = atomic_fetch_sub(&p->n, 1);

	HB_ASSERT((was & ~HB_CHAIN_CLOSING) > 0);
	if (was == HB_CHAIN_CLOSING + 1)
		hb_post(hb_worker_control(), &p->task, on_pin_free);
}

void
hb_chain__count(const struct hb_chain *c, const struct hb_worker *w, int delta)
{
	_Atomic uint64_t *n = &c->pin[pin_index(c, w)].conns;

	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + (uint64_t)delta,
		memory_order_relaxed);
}

struct lingerer {
	struct hb_transport_watch watch;
	const struct hb_chain *chain;
	struct hb_worker *worker;
};

static void
on_gone(struct hb_transport_watch *watch, enum hb_close_reason reason, uint64_t bytes_in,
	uint64_t bytes_out)
{
	struct lingerer *l = HB_CONTAINER(watch, struct lingerer, watch);

	hb_chain__unpin(l->chain, l->worker);
	hb_free(l);
}

void
hb_chain__pin_transport(const struct hb_chain *c, struct hb_transport *t)
{
	struct lingerer *l = hb_calloc(1, sizeof *l);

	HB_ASSERT(t->watch == NULL);
	l->watch.gone = on_gone;
	l->chain = c;
	l->worker = t->worker;
	hb_chain__pin(c, t->worker);
	t->watch = &l->watch;
}

/* No worker can find the chain any more. */
static void
chain_unseen(void *obj)
{
	struct hb_chain *c;

	HB_CAST(c, obj, HB_CHAIN_MAGIC);
	for (unsigned i = 0; i < c->n_pins; i++)
		if (atomic_fetch_or(&c->pin[i].n, HB_CHAIN_CLOSING) != 0)
			c->pending++;
	/* Tasks of the pins that were in use come later: they run on this thread. */
	if (c->pending == 0)
		hb_retire(c, chain_destroy);
}

void
hb_chain_free(struct hb_chain **cp)
{
	struct hb_chain *c = *cp;

	if (c == NULL)
		return;
	HB_CHECK(c, HB_CHAIN_MAGIC);
	*cp = NULL;
	hb_list_add_tail(&dying, &c->dying);
	hb_retire(c, chain_unseen);
}

/* ------------------------------------------------------------------ asking */

const char *
hb_chain_name(const struct hb_chain *c)
{
	HB_CHECK(c, HB_CHAIN_MAGIC);
	return (c->name);
}

bool
hb_chain_same(const struct hb_chain *a, const struct hb_chain *b)
{
	HB_CHECK(a, HB_CHAIN_MAGIC);
	HB_CHECK(b, HB_CHAIN_MAGIC);
	return (hb_str_eq(hb_strn(a->wire.p, a->wire.len), hb_strn(b->wire.p, b->wire.len)));
}

uint64_t
hb_chain_connect_timeout_ms(const struct hb_chain *c)
{
	HB_CHECK(c, HB_CHAIN_MAGIC);
	return (c->connect_timeout_ms);
}

bool
hb_chain_is_tls(const struct hb_chain *c)
{
	HB_CHECK(c, HB_CHAIN_MAGIC);
	return (c->socket != NULL && hb_transport_socket_secure(c->socket));
}

uint64_t
hb_chain_connections(const struct hb_chain *c)
{
	uint64_t sum = 0;

	HB_CHECK(c, HB_CHAIN_MAGIC);
	for (unsigned i = 0; i < c->n_pins; i++)
		sum += atomic_load_explicit(&c->pin[i].conns, memory_order_relaxed);
	return (sum);
}

void
hb_chain_explain(const struct hb_chain *c, struct hb_explain *ex)
{
	const struct hb_chain_filter *cf;

	HB_CHECK(c, HB_CHAIN_MAGIC);
	hb_transport_socket_explain(c->socket, hb_explain_facts(ex), ex);
	for (unsigned i = 0; i < c->n_filters && !hb_explain_stopped(ex); i++) {
		cf = &c->filter[i];
		if (cf->type->explain != NULL)
			cf->type->explain(cf->conf, hb_explain_facts(ex), ex);
		else
			hb_explain_step(
				ex, "filter", cf->label, "pass", "does not depend on these facts");
	}
}

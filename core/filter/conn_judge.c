/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of a configuration that was replaced. They drain, but what the new configuration's
 * policies no longer allow ends now, and so do those whose peer its TLS would refuse. A chain of
 * which this is so has an heir: the owner's name, and how to find the chain that stands in its
 * place. What it carries, in any depth, inherits with it.
 */
#include "core/base/log.h"
#include "core/filter/filter_priv.h"
#include "core/filter/transport_socket.h"

void
hb_chain__inherit(struct hb_chain *c, const char *owner, hb_chain_finder *find)
{
	HB_CHECK(c, HB_CHAIN_MAGIC);
	if (atomic_load_explicit(&c->heir, memory_order_relaxed) != NULL)
		return;
	c->heir_owner = hb_strdup(owner);
	atomic_store_explicit(&c->heir, find, memory_order_release);
}

/* Whose stream it is; NULL = nobody's, or that of a listener. */
static const struct hb_conn *
carrier_of(const struct hb_conn *c)
{
	const struct hb_conn *p;

	if (!c->owner->o.carried)
		return (NULL);
	HB_ASSERT(c->facts.parent != NULL);
	p = HB_CONTAINER(c->facts.parent, const struct hb_conn, facts);
	HB_CHECK(p, HB_CONN_MAGIC);
	return (p);
}

/* The chain that it would get if it came now; NULL = none, or its own is not replaced. */
static const struct hb_chain *
chain_now(const struct hb_conn *c, struct hb_judge *j)
{
	hb_chain_finder *find = atomic_load_explicit(&c->chain->heir, memory_order_acquire);
	const struct hb_conn *carrier;
	const struct hb_chain_filter *was, *now;
	const struct hb_chain *up;

	if (find != NULL)
		return (find(hb_str(c->chain->heir_owner), &c->facts));
	carrier = carrier_of(c);
	up = carrier == NULL ? NULL : chain_now(carrier, j);
	if (up == NULL || j->denied)
		return (NULL);
	was = &carrier->chain->filter[carrier->chain->n_filters - 1];
	now = &up->filter[up->n_filters - 1];
	if (now->type != was->type || now->type->chain_of == NULL)
		return (NULL);
	j->facts = &c->facts;
	return (now->type->chain_of(now->conf, j));
}

static bool
is_replaced(const struct hb_conn *c)
{
	for (; c != NULL; c = carrier_of(c))
		if (atomic_load_explicit(&c->chain->heir, memory_order_acquire) != NULL)
			return (true);
	return (false);
}

bool
hb_conn__judge(struct hb_conn *c)
{
	struct hb_judge j = { .worker = hb_conn__worker(c), .conn_id = c->id, .chain = "" };
	const struct hb_chain *now;

	/* Before that nobody knows who it is; it is asked then. */
	if (!(c->flags & HB_CF_SECURED) || (c->flags & (HB_CF_CLOSING | HB_CF_GONE)) ||
		!is_replaced(c))
		return (true);
	now = chain_now(c, &j);
	j.facts = &c->facts;
	if (now != NULL)
		j.chain = now->name;
	if (now != NULL && !j.denied && c->t != NULL && !hb_transport_socket_holds(now->socket, c->t)) {
		hb_conn_close(c, HB_CLOSE_REVOKED);
		return (false);
	}
	for (unsigned i = 0; now != NULL && !j.denied && i < now->n_filters; i++)
		if (now->filter[i].type->judge != NULL)
			now->filter[i].type->judge(now->filter[i].conf, &j);
	if (!j.denied)
		return (true);
	HB_LOG(CONN, DEBUG, "denied by the new configuration", "id=%llu chain=%s why=\"%s\"",
		(unsigned long long)c->id, j.chain, j.why);
	hb_filter_set_detail(&c->filter[0], j.why);
	hb_conn_close(c, HB_CLOSE_RBAC_DENIED);
	return (false);
}

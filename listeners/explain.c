/* SPDX-License-Identifier: Apache-2.0 */
/* The way a connection would go: listener, listener filters, chain, filters, cluster. */
#include "core/filter/dial.h"
#include "core/filter/explain.h"
#include "listeners/listener_priv.h"

struct search {
	const struct hb_addr *to;
	struct hb_listener *found;
	bool exact;
	size_t n;
	struct hb_text names; /* for the answer when there is none */
};

static bool
is_wildcard(const struct hb_addr *a)
{
	static const uint8_t zero[16];

	return (memcmp(a->u.ip, zero, a->kind == HB_ADDR_V4 ? 4 : 16) == 0);
}

/* 2 = exactly this address, 1 = the wildcard of its family and port. */
static unsigned
takes(const struct hb_listener *l, size_t i, const struct hb_addr *to)
{
	const struct hb_addr *a = &l->bound[i];

	if (hb_addr_eq(a, to))
		return (2);
	if ((a->kind != HB_ADDR_V4 && a->kind != HB_ADDR_V6) || a->port != to->port ||
		!is_wildcard(a))
		return (0);
	return (a->kind == to->kind || (l->addr[i].v4_too && to->kind == HB_ADDR_V4));
}

static void
look(void *arg, struct hb_listener *l)
{
	struct search *s = arg;
	char text[HB_ADDR_TEXT_MAX];

	for (size_t i = 0; i < l->n_addrs; i++) {
		unsigned grade = takes(l, i, s->to);

		if (grade == 2 || (grade == 1 && s->found == NULL)) {
			s->found = l;
			s->exact = grade == 2;
		}
		(void)hb_addr_format(&l->bound[i], text, sizeof text);
		if (s->n++ < 10)
			hb_text_printf(&s->names, "%s%s", s->n > 1 ? ", " : "", text);
	}
}

static struct hb_listener *
by_address(const struct hb_addr *to, struct hb_explain *e)
{
	struct search s = { .to = to };
	char text[HB_ADDR_TEXT_MAX];

	hb_listeners_each(look, &s);
	(void)hb_addr_format(to, text, sizeof text);
	if (s.found != NULL)
		hb_explain_step(e, "listener", s.found->name, "chosen", "%s %s",
			s.exact ? "it is bound to" : "it is bound to every address and the port of",
			text);
	else
		hb_explain_step(e, "result", "no listener", "refused",
			"nothing listens on %s; addresses: %s", text,
			s.names.p == NULL ? "none" : s.names.p);
	hb_text_fini(&s.names);
	return (s.found);
}

static struct hb_listener *
by_name(struct hb_str name, struct hb_facts *f, struct hb_explain *e)
{
	struct hb_listener *l = hb_listeners_find(name);

	if (l == NULL) {
		hb_explain_step(e, "result", "no listener", "refused",
			"there is no listener \"%.*s\"; /listeners lists them", HB_STR_FMT(name));
		return (NULL);
	}
	if (f->local.kind == HB_ADDR_NONE)
		f->local = l->bound[0];
	hb_explain_step(e, "listener", l->name, "chosen", "by name");
	return (l);
}

/* Shows what listener filters would find out, and hides what none of them would. */
static void
explain_filters(const struct hb_listener *l, struct hb_facts *f, struct hb_explain *e)
{
	bool tls = false;

	for (size_t i = 0; i < l->n_filters && !hb_explain_stopped(e); i++) {
		const struct hb_lfilter *lf = &l->filter[i];

		if (lf->disabled != NULL && hb_lpredicate_eval(lf->disabled, f)) {
			hb_explain_step(e, "listener_filter", lf->label, "left_out",
				"filter_disabled holds for this connection");
			continue;
		}
		tls = tls || strcmp(lf->type->name, HB_LFILTER_TLS) == 0;
		if (lf->type->explain != NULL)
			lf->type->explain(lf->conf, f, e);
		else
			hb_explain_step(e, "listener_filter", lf->label, "pass",
				"looks at the first bytes");
	}
	if (tls || !hb_str_eq(hb_facts_transport_protocol(f), HB_STR("tls")))
		return;
	hb_explain_step(e, "listener_filter", "tls_inspector", "missing",
		"server name and protocols stay unknown when the chain is chosen");
	*hb_facts_hello_edit(f) = (struct hb_facts_hello){ 0 };
}

void
hb_listeners_explain(struct hb_str name, struct hb_facts *f, struct hb_explain *e)
{
	struct hb_listener *l = name.len > 0 ? by_name(name, f, e) : by_address(&f->local, e);
	const struct hb_chain *c;
	struct hb_str cluster;

	if (l == NULL)
		return;
	explain_filters(l, f, e);
	if (hb_explain_stopped(e))
		return;
	c = hb_chain_set_explain(atomic_load(&l->set), f, e);
	if (c == NULL)
		return;
	hb_facts_fini(hb_explain_facts(e));
	hb_facts_copy(hb_explain_facts(e), f);
	hb_chain_explain(c, e);
	cluster = hb_explain_cluster(e);
	if (cluster.len > 0)
		hb_dial_explain(cluster, hb_explain_facts(e), e);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* ListenerFilter.filter_disabled: for which connections a listener filter is left out. */
#include "listeners/listener_priv.h"

#define DEPTH_MAX 32u

typedef Envoy__Config__Listener__V3__ListenerFilterChainMatchPredicate msg_predicate;
typedef Envoy__Config__Listener__V3__ListenerFilterChainMatchPredicate__MatchSet msg_set;

enum predicate_kind { ANY, NOT, AND, OR, PORTS };

struct hb_lpredicate {
	unsigned magic;
#define HB_LPREDICATE_MAGIC 0x2b60ce14
	enum predicate_kind kind;
	int32_t start, end; /* PORTS: start <= port < end */
	size_t n;
	struct hb_lpredicate **rule; /* owned array of owned ones */
};

static int
compile_rules(struct hb_cfg *cfg, struct hb_lpredicate *p, const msg_set *set, unsigned depth)
{
	int r = 0;

	if (set->n_rules < 2)
		r = hb_cfg_error(cfg, set, "rules", -1, "needs at least two entries");
	p->rule = hb_calloc(set->n_rules + 1, sizeof(struct hb_lpredicate *));
	for (size_t i = 0; i < set->n_rules; i++) {
		p->rule[p->n] = hb_lpredicate_compile(cfg, set->rules[i], depth + 1);
		if (p->rule[p->n] == NULL)
			r = -EINVAL;
		else
			p->n++;
	}
	return (r);
}

static int
compile_ports(struct hb_cfg *cfg, struct hb_lpredicate *p, const Envoy__Type__V3__Int32Range *range)
{
	p->kind = PORTS;
	p->start = range->start;
	p->end = range->end;
	if (range->start < 0 || range->end > 65536 || range->start >= range->end)
		return (hb_cfg_error(cfg, range, NULL, -1,
			"must be ports: 0 <= start < end <= 65536 (the end is not part of it)"));
	return (0);
}

static int
compile_not(struct hb_cfg *cfg, struct hb_lpredicate *p, const msg_predicate *m, unsigned depth)
{
	p->kind = NOT;
	p->rule = hb_calloc(1, sizeof(struct hb_lpredicate *));
	p->rule[0] = hb_lpredicate_compile(cfg, m, depth + 1);
	p->n = p->rule[0] == NULL ? 0 : 1;
	return (p->n == 1 ? 0 : -EINVAL);
}

struct hb_lpredicate *
hb_lpredicate_compile(struct hb_cfg *cfg, const msg_predicate *m, unsigned depth)
{
	struct hb_lpredicate *p;
	int r = 0;

	HB_NEW(p, HB_LPREDICATE_MAGIC);
	if (depth > DEPTH_MAX) {
		r = hb_cfg_error(cfg, m, NULL, -1, "is nested deeper than %u", DEPTH_MAX);
		hb_lpredicate_free(&p);
		return (NULL);
	}
	switch (m->rule_case) {
	case ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER_CHAIN_MATCH_PREDICATE__RULE_OR_MATCH:
		p->kind = OR;
		r = compile_rules(cfg, p, m->or_match, depth);
		break;
	case ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER_CHAIN_MATCH_PREDICATE__RULE_AND_MATCH:
		p->kind = AND;
		r = compile_rules(cfg, p, m->and_match, depth);
		break;
	case ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER_CHAIN_MATCH_PREDICATE__RULE_NOT_MATCH:
		r = compile_not(cfg, p, m->not_match, depth);
		break;
	case ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER_CHAIN_MATCH_PREDICATE__RULE_ANY_MATCH:
		p->kind = ANY;
		if (!m->any_match)
			r = hb_cfg_error(cfg, m, "any_match", -1, "must be true");
		break;
	case ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER_CHAIN_MATCH_PREDICATE__RULE_DESTINATION_PORT_RANGE:
		r = compile_ports(cfg, p, m->destination_port_range);
		break;
	default:
		r = hb_cfg_error(cfg, m, NULL, -1,
			"is empty: use or_match, and_match, not_match, any_match or "
			"destination_port_range");
		break;
	}
	if (r != 0)
		hb_lpredicate_free(&p);
	return (p);
}

void
hb_lpredicate_free(struct hb_lpredicate **pp)
{
	struct hb_lpredicate *p = *pp;

	if (p == NULL)
		return;
	HB_CHECK(p, HB_LPREDICATE_MAGIC);
	*pp = NULL;
	for (size_t i = 0; i < p->n; i++)
		hb_lpredicate_free(&p->rule[i]);
	hb_free(p->rule);
	HB_DEL(p);
}

bool
hb_lpredicate_eval(const struct hb_lpredicate *p, const struct hb_facts *f)
{
	HB_CHECK(p, HB_LPREDICATE_MAGIC);
	switch (p->kind) {
	case ANY:
		return (true);
	case NOT:
		return (!hb_lpredicate_eval(p->rule[0], f));
	case AND:
	case OR:
		for (size_t i = 0; i < p->n; i++)
			if (hb_lpredicate_eval(p->rule[i], f) == (p->kind == OR))
				return (p->kind == OR);
		return (p->kind == AND);
	case PORTS:
		return (f->local.port >= p->start && f->local.port < p->end);
	}
	HB_WRONG("kind of predicate");
}

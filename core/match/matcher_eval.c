/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One walk for deciding and for explaining: without a sink it says nothing and allocates nothing.
 * A branch without a result is no dead end: the search goes on with the next best one.
 */
#include "core/match/match_priv.h"
#include "core/match/matcher_priv.h"

#include <stdio.h>

#define WHY_MAX 1024u

static const void *walk(
	const struct hb_matcher *, const struct hb_facts *, const struct hb_explain_sink *);

/* ------------------------------------------------------------------ telling */

static void
value_text(struct hb_text *t, const struct hb_input *in, const struct hb_facts *f)
{
	char buf[HB_INPUT_BUF];
	struct hb_str v = hb_match__input_get(in, f, buf);

	hb_match__input_text(t, in);
	if (v.p == NULL) {
		hb_text_addz(t, " has no value");
		return;
	}
	hb_text_addz(t, " is ");
	hb_text_json(t, v.p, HB_MIN(v.len, (size_t)200));
}

static void
predicate_text(struct hb_text *t, const struct hb_predicate *p)
{
	if (p->kind == HB_PREDICATE_SINGLE) {
		hb_match__input_text(t, &p->input);
		hb_text_addc(t, ' ');
		hb_match__string_text(t, p->string);
		return;
	}
	hb_text_addz(t, p->kind == HB_PREDICATE_NOT ? "not (" : "(");
	for (size_t i = 0; i < p->n; i++) {
		if (i > 0)
			hb_text_addz(t, p->kind == HB_PREDICATE_OR ? " or " : " and ");
		predicate_text(t, &p->v[i]);
	}
	hb_text_addc(t, ')');
}

static void
tell_list(const struct hb_explain_sink *sink, const struct hb_matcher *m, size_t i, bool holds)
{
	struct hb_text why = { .cap_max = WHY_MAX };
	char subject[48];

	(void)snprintf(subject, sizeof subject, "matcher_list[%zu]", i);
	predicate_text(&why, &m->predicates[i]);
	hb_match__tell(sink, subject, holds ? "match" : "lost", &why);
}

static void
tell_tree(const struct hb_explain_sink *sink, const struct hb_matcher *m, const struct hb_facts *f,
	const struct hb_tree_entry *e)
{
	static const char *const kinds[] = { [HB_MATCHER_EXACT] = "exact_match_map",
		[HB_MATCHER_PREFIX] = "prefix_match_map",
		[HB_MATCHER_IP] = "IPMatcher",
		[HB_MATCHER_NAME] = "ServerNameMatcher" };
	struct hb_text why = { .cap_max = WHY_MAX };

	value_text(&why, &m->input, f);
	if (e == NULL) {
		hb_text_printf(&why, ": not among the %zu entries", m->n_entries);
	} else {
		hb_text_addz(&why, ": the best entry is ");
		if (m->kind == HB_MATCHER_NAME && *e->key.p == '.')
			hb_text_addc(&why, '*');
		hb_text_add(&why, e->key.p, e->key.len);
	}
	hb_match__tell(sink, kinds[m->kind], e == NULL ? "lost" : "match", &why);
}

/* ------------------------------------------------------------------ deciding */

static const void *
follow(const struct hb_matcher *m, const struct hb_on_match *on, const struct hb_facts *f,
	const struct hb_explain_sink *sink)
{
	const void *r = on->matcher == NULL ? on->action : walk(on->matcher, f, sink);

	if (r == NULL || !on->keep_matching)
		return (r);
	if (sink != NULL)
		sink->line(sink->arg, m->strings ? r : "action", "kept",
			"keep_matching: noted, and the search goes on");
	return (NULL);
}

static bool holds(const struct hb_predicate *p, const struct hb_facts *f);

static bool
holds_single(const struct hb_predicate *p, const struct hb_facts *f)
{
	char buf[HB_INPUT_BUF];
	struct hb_str v = hb_match__input_get(&p->input, f, buf);

	return (v.p != NULL && hb_string_match(p->string, v));
}

static bool
holds(const struct hb_predicate *p, const struct hb_facts *f)
{
	if (p->kind == HB_PREDICATE_SINGLE)
		return (holds_single(p, f));
	if (p->kind == HB_PREDICATE_NOT)
		return (!holds(p->v, f));
	for (size_t i = 0; i < p->n; i++) {
		if (holds(&p->v[i], f) == (p->kind == HB_PREDICATE_OR))
			return (p->kind == HB_PREDICATE_OR);
	}
	return (p->kind == HB_PREDICATE_AND);
}

static const void *
walk_list(const struct hb_matcher *m, const struct hb_facts *f, const struct hb_explain_sink *sink)
{
	const void *r = NULL;

	for (size_t i = 0; i < m->n_on && r == NULL; i++) {
		bool yes = holds(&m->predicates[i], f);

		if (sink != NULL)
			tell_list(sink, m, i, yes);
		if (yes)
			r = follow(m, &m->on[i], f, sink);
	}
	return (r);
}

static const void *
walk_tree(const struct hb_matcher *m, const struct hb_facts *f, const struct hb_explain_sink *sink)
{
	const struct hb_tree_entry *first = hb_matcher__tree_find(m, f), *e;
	const void *r = NULL;

	if (sink != NULL && first == NULL)
		tell_tree(sink, m, f, NULL);
	for (e = first; e != NULL && r == NULL; e = e->wider) {
		if (e->exclusive && e != first)
			continue;
		if (sink != NULL)
			tell_tree(sink, m, f, e);
		r = follow(m, e->on, f, sink);
	}
	return (r);
}

static const void *
walk(const struct hb_matcher *m, const struct hb_facts *f, const struct hb_explain_sink *sink)
{
	const void *r = NULL;

	HB_CHECK(m, HB_MATCHER_MAGIC);
	if (m->kind == HB_MATCHER_LIST)
		r = walk_list(m, f, sink);
	else if (m->kind != HB_MATCHER_ANY)
		r = walk_tree(m, f, sink);
	if (r != NULL || (m->on_no_match.action == NULL && m->on_no_match.matcher == NULL))
		return (r);
	if (sink != NULL)
		sink->line(sink->arg, "on_no_match", "match", "nothing before it had a result");
	return (follow(m, &m->on_no_match, f, sink));
}

const void *
hb_matcher_eval(const struct hb_matcher *m, const struct hb_facts *f)
{
	return (walk(m, f, NULL));
}

const void *
hb_matcher_explain(
	const struct hb_matcher *m, const struct hb_facts *f, const struct hb_explain_sink *sink)
{
	const void *r = walk(m, f, sink);

	if (r == NULL)
		sink->line(sink->arg, "matcher", "miss", "no entry has a result");
	else if (m->strings)
		sink->line(sink->arg, r, "chosen", "the matcher's action names it");
	return (r);
}

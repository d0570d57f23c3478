/* SPDX-License-Identifier: Apache-2.0 */
/* The filter chains of an owner and the choice among them. */
#include "core/filter/chain_set.h"
#include "core/filter/explain.h"

typedef Envoy__Config__Listener__V3__FilterChain msg_chain;

/* ------------------------------------------------------------------ compiling */

static int
compile_chains(struct hb_cfg *cfg, struct hb_chain_set *s, const struct hb_chain_source *m)
{
	int r = 0;

	s->chain = hb_calloc(m->n + 1, sizeof *s->chain);
	s->moved = hb_calloc(m->n + 1, sizeof *s->moved);
	s->n = m->n;
	for (size_t i = 0; i < s->n; i++) {
		s->chain[i] = hb_chain_compile(cfg, m->chains[i], m->where);
		if (s->chain[i] == NULL)
			r = -EINVAL;
	}
	if (m->fallback != NULL) {
		s->fallback = hb_chain_compile(cfg, m->fallback, m->where);
		if (s->fallback == NULL)
			r = -EINVAL;
	}
	if (s->n == 0 && m->fallback == NULL)
		r = hb_cfg_error(cfg, m->owner, "filter_chains", -1,
			"is empty: add a filter chain, or a default_filter_chain");
	return (r);
}

static int
compile_match(struct hb_cfg *cfg, struct hb_chain_set *s, const struct hb_chain_source *m)
{
	int r = 0;

	s->match = hb_chain_match_new();
	for (size_t i = 0; i < s->n; i++) {
		const msg_chain *c = m->chains[i];

		if (hb_chain_match_add(
			    s->match, cfg, c, c->filter_chain_match, (unsigned)i, c->name) != 0)
			r = -EINVAL;
	}
	return (r != 0 ? r : hb_chain_match_freeze(s->match, cfg));
}

struct action_check {
	struct hb_cfg *cfg;
	const struct hb_chain_source *m;
	const struct hb_chain_set *s;
	int r;
};

static void
check_action(void *arg, const void *action)
{
	struct action_check *c = arg;
	const char *name = action, *near, **names;

	if (hb_map_get(c->s->by_name, hb_str(name)) != NULL)
		return;
	names = hb_calloc(c->s->n + 1, sizeof *names);
	for (size_t i = 0; i < c->s->n; i++)
		names[i] = c->m->chains[i]->name;
	near = hb_err_nearest(name, names);
	hb_free(names);
	if (near != NULL)
		c->r = hb_cfg_error(c->cfg, c->m->owner, "filter_chain_matcher", -1,
			"names the filter chain \"%s\", which is not there; did you mean \"%s\"?",
			name, near);
	else
		c->r = hb_cfg_error(c->cfg, c->m->owner, "filter_chain_matcher", -1,
			"names the filter chain \"%s\", which is not there", name);
}

static int
compile_matcher(struct hb_cfg *cfg, struct hb_chain_set *s, const struct hb_chain_source *m)
{
	struct action_check check = { cfg, m, s, 0 };

	s->by_name = hb_map_new();
	for (size_t i = 0; i < s->n; i++) {
		const msg_chain *c = m->chains[i];

		if (*c->name == '\0')
			check.r = hb_cfg_error(cfg, c, "name", -1,
				"is needed: filter_chain_matcher chooses chains by name");
		else if (hb_map_put(s->by_name, hb_str(c->name), &s->chain[i]) != NULL)
			check.r = hb_cfg_error(cfg, c, "name", -1,
				"\"%s\" is the name of another chain, too: filter_chain_matcher chooses "
				"chains by name",
				c->name);
	}
	s->matcher = hb_matcher_compile(
		cfg, m->owner, "filter_chain_matcher", m->matcher, NULL, NULL, NULL);
	if (s->matcher == NULL)
		return (-EINVAL);
	hb_matcher_actions(s->matcher, check_action, &check);
	return (check.r);
}

struct hb_chain_set *
hb_chain_set_compile(struct hb_cfg *cfg, const struct hb_chain_source *m)
{
	struct hb_chain_set *s;
	int r;

	HB_NEW(s, HB_CHAIN_SET_MAGIC);
	r = compile_chains(cfg, s, m);
	if ((m->matcher != NULL ? compile_matcher(cfg, s, m) : compile_match(cfg, s, m)) != 0)
		r = -EINVAL;
	if (r != 0)
		hb_chain_set_free(&s);
	return (s);
}

/* ------------------------------------------------------------------ life */

void
hb_chain_set_free(struct hb_chain_set **sp)
{
	struct hb_chain_set *s = *sp;

	if (s == NULL)
		return;
	HB_CHECK(s, HB_CHAIN_SET_MAGIC);
	*sp = NULL;
	for (size_t i = 0; i < s->n; i++)
		if (!s->moved[i])
			hb_chain_free(&s->chain[i]);
	if (!s->moved[s->n])
		hb_chain_free(&s->fallback);
	hb_chain_match_free(&s->match);
	hb_matcher_free(&s->matcher);
	hb_map_free(&s->by_name);
	hb_free(s->chain);
	hb_free(s->moved);
	HB_DEL(s);
}

/* Chains of the old set by name; several may have the same one, or none. */
struct candidates {
	struct hb_map *first; /* name -> &next[i] */
	size_t *next;         /* i + 1 of the next chain of that name; 0 = last */
};

static void
adopt_one(struct hb_chain_set *old, const struct candidates *c, struct hb_chain **mine)
{
	size_t *at = hb_map_get(c->first, hb_str(hb_chain_name(*mine)));

	while (at != NULL) {
		size_t i = (size_t)(at - c->next);

		if (!old->moved[i] && hb_chain_same(*mine, old->chain[i])) {
			hb_chain_free(mine);
			*mine = old->chain[i];
			old->moved[i] = true;
			return;
		}
		at = *at == 0 ? NULL : &c->next[*at - 1];
	}
}

void
hb_chain_set_adopt(struct hb_chain_set *set, struct hb_chain_set *old)
{
	struct candidates c = { hb_map_new(), hb_calloc(old->n + 1, sizeof *c.next) };

	for (size_t i = old->n; i > 0; i--) {
		size_t *was = hb_map_put(
			c.first, hb_str(hb_chain_name(old->chain[i - 1])), &c.next[i - 1]);

		c.next[i - 1] = was == NULL ? 0 : (size_t)(was - c.next) + 1;
	}
	for (size_t i = 0; i < set->n; i++)
		adopt_one(old, &c, &set->chain[i]);
	if (set->fallback != NULL && old->fallback != NULL &&
		hb_chain_same(set->fallback, old->fallback)) {
		hb_chain_free(&set->fallback);
		set->fallback = old->fallback;
		old->moved[old->n] = true;
	}
	hb_map_free(&c.first);
	hb_free(c.next);
}

/* ------------------------------------------------------------------ choosing */

static const struct hb_chain *
chain_of_action(const struct hb_chain_set *s, const char *name)
{
	struct hb_chain **c = name == NULL ? NULL : hb_map_get(s->by_name, hb_str(name));

	return (c == NULL ? s->fallback : *c);
}

const struct hb_chain *
hb_chain_set_find(const struct hb_chain_set *s, const struct hb_facts *f)
{
	int i;

	HB_CHECK(s, HB_CHAIN_SET_MAGIC);
	if (s->matcher != NULL)
		return (chain_of_action(s, hb_matcher_eval(s->matcher, f)));
	i = hb_chain_match_find(s->match, f);
	HB_ASSERT(i < (int)s->n);
	return (i < 0 ? s->fallback : s->chain[i]);
}

static void
explain_line(void *arg, const char *subject, const char *verdict, const char *why)
{
	hb_explain_step(arg, "chain", subject, verdict, "%s", why);
}

const struct hb_chain *
hb_chain_set_explain(const struct hb_chain_set *s, const struct hb_facts *f, struct hb_explain *e)
{
	struct hb_explain_sink sink = { explain_line, e };
	const struct hb_chain *c;
	int i;

	HB_CHECK(s, HB_CHAIN_SET_MAGIC);
	if (s->matcher != NULL) {
		c = chain_of_action(s, hb_matcher_explain(s->matcher, f, &sink));
	} else {
		i = hb_chain_match_explain(s->match, f, &sink);
		c = i < 0 ? s->fallback : s->chain[i];
	}
	if (c == NULL)
		hb_explain_step(e, "result", "no filter chain", "refused",
			"no filter chain matches and there is no default_filter_chain: %s (flag NR)",
			s->for_streams ? "the answer is 503" : "the connection is reset");
	else if (c == s->fallback)
		hb_explain_step(e, "chain", hb_chain_name(c), "chosen",
			"default_filter_chain: no other chain matches");
	return (c);
}

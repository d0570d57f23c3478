/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same walk for people: over sets of rules instead of the tree, so that each chain that loses
 * can be told where and why.
 */
#include "core/match/chain_priv.h"
#include "core/match/match_priv.h"

/* Losers named at one level; a gateway has thousands of chains. */
#define LOSERS_MAX 20u
#define WHY_MAX    1024u

static void
json_str(struct hb_text *t, struct hb_str s)
{
	hb_text_json(t, s.p == NULL ? "" : s.p, s.len);
}

static const char *const level_phrases[CHAIN_LEVEL_MAX] = {
#define X(e, n, t) t,
	CHAIN_LEVELS(X)
#undef X
};

static void
has_text(struct hb_text *t, enum chain_level level, const struct hb_facts *f)
{
	const struct hb_addr *a = level == CHAIN_DST_PORT || level == CHAIN_DST_IP ? &f->local :
		level == CHAIN_DIRECT_IP ? hb_facts_direct_remote(f) :
					   &f->remote;
	const struct hb_facts_hello *hello = hb_facts_hello(f);
	char ip[HB_ADDR_TEXT_MAX];

	switch (level) {
	case CHAIN_SNI:
		json_str(t, hello->sni);
		break;
	case CHAIN_TRANSPORT:
		hb_text_add(t, hb_chain__transport(f).p, hb_chain__transport(f).len);
		break;
	case CHAIN_ALPN:
		if (hello->n_alpn == 0)
			hb_text_addz(t, "none");
		for (unsigned i = 0; i < hello->n_alpn; i++) {
			hb_text_addz(t, i == 0 ? "" : ",");
			json_str(t, hello->alpn[i]);
		}
		break;
	case CHAIN_SOURCE_TYPE:
		hb_text_addz(t, hb_chain__is_local(f) ? "on this machine" : "elsewhere");
		break;
	case CHAIN_DST_PORT:
	case CHAIN_SOURCE_PORT:
		hb_text_printf(t, "%u", a->port);
		break;
	default:
		(void)hb_addr_format_ip(a, ip, sizeof ip);
		hb_text_addz(t, ip);
	}
}

static void
wants_text(struct hb_text *t, const struct chain_rule *r, enum chain_level level)
{
	uint32_t n = hb_chain__rule_is_any(r, level) ? 1 : hb_chain__rule_n_keys(r, level);

	if (hb_chain__rule_is_any(r, level)) {
		hb_text_addz(t, "any");
		return;
	}
	for (uint32_t i = 0; i < HB_MIN(n, 5u); i++) {
		hb_text_addz(t, i == 0 ? "" : ",");
		hb_chain__key_text(t, level, hb_chain__rule_key(r, level, i));
	}
	if (n > 5)
		hb_text_printf(t, ",… %u more", n - 5);
}

static void
tell_loser(const struct chain_rule *r, enum chain_level level, int rank, const struct hb_facts *f,
	const struct chain_rule *winner, const struct hb_explain_sink *sink)
{
	struct hb_text why = { .cap_max = WHY_MAX };

	hb_text_printf(&why, "%s ", hb_chain_level_names[level]);
	wants_text(&why, r, level);
	if (rank < 0) {
		hb_text_printf(&why, " does not match: %s ", level_phrases[level]);
		has_text(&why, level, f);
	} else {
		hb_text_addz(&why, " matches too, but less specifically than ");
		wants_text(&why, winner, level);
		hb_text_printf(&why, " of \"%s\", and there is no way back", winner->name);
	}
	hb_match__tell(sink, r->name, "lost", &why);
}

static void
tell_branch(enum chain_level level, const struct chain_rule *winner, uint32_t n, uint32_t kept,
	const struct hb_facts *f, const struct hb_explain_sink *sink)
{
	struct hb_text why = { .cap_max = WHY_MAX };

	hb_text_printf(&why, "%s ", level_phrases[level]);
	has_text(&why, level, f);
	if (winner == NULL) {
		hb_text_addz(&why,
			n == 1 ? ": the one chain left wants something else" :
				 ": all chains left want something else");
	} else {
		hb_text_printf(&why, ": %u of %u chains left %s it most specifically (", kept, n,
			kept == 1 ? "takes" : "take");
		wants_text(&why, winner, level);
		hb_text_addc(&why, ')');
	}
	hb_match__tell(sink, hb_chain_level_names[level], winner == NULL ? "miss" : "branch", &why);
}

/* Keeps the rules of the picked branch in v; returns how many. */
static uint32_t
narrow(const struct hb_chain_match *m, enum chain_level level, uint32_t *v, uint32_t n,
	const struct hb_facts *f, const struct hb_explain_sink *sink)
{
	const struct chain_rule *winner = NULL;
	uint32_t kept = 0, losers = 0;
	bool conditional = false;
	int best = -1;

	for (uint32_t i = 0; i < n; i++) {
		const struct chain_rule *r = m->rules[v[i]];
		int rank = hb_chain__rule_rank(r, level, f);

		conditional = conditional || !hb_chain__rule_is_any(r, level);
		if (rank > best) {
			best = rank;
			winner = r;
			kept = 0;
		}
		kept += rank == best && rank >= 0;
	}
	if (!conditional)
		return (n);
	tell_branch(level, winner, n, kept, f, sink);
	kept = 0;
	for (uint32_t i = 0; i < n; i++) {
		const struct chain_rule *r = m->rules[v[i]];
		int rank = hb_chain__rule_rank(r, level, f);

		if (rank == best && rank >= 0)
			v[kept++] = v[i];
		else if (losers++ < LOSERS_MAX)
			tell_loser(r, level, rank, f, winner, sink);
	}
	if (losers > LOSERS_MAX) {
		struct hb_text why = { .cap_max = WHY_MAX };

		hb_text_printf(&why, "%u more chains lost here", losers - LOSERS_MAX);
		hb_match__tell(sink, hb_chain_level_names[level], "lost", &why);
	}
	return (kept);
}

int
hb_chain_match_explain(const struct hb_chain_match *m, const struct hb_facts *f,
	const struct hb_explain_sink *sink)
{
	uint32_t n, *v;
	int chain = -1;

	HB_CHECK(m, CHAIN_MATCH_MAGIC);
	HB_ASSERT(m->frozen);
	n = m->n_rules;
	v = hb_calloc(HB_MAX(n, 1u), sizeof *v);
	for (uint32_t i = 0; i < n; i++)
		v[i] = i;
	for (unsigned level = 0; level < CHAIN_LEVEL_MAX && n > 0; level++)
		n = narrow(m, level, v, n, f, sink);
	/* No two rules agree on all levels, else freezing had failed. */
	HB_ASSERT(n <= 1);
	if (n == 1) {
		chain = (int)m->rules[v[0]]->chain;
		sink->line(sink->arg, m->rules[v[0]]->name, "chosen",
			"its filter_chain_match has all that the connection has");
	} else {
		sink->line(sink->arg, "filter_chain_match", "miss",
			"no filter chain is left; default_filter_chain serves, else the connection is closed");
	}
	hb_free(v);
	return (chain);
}

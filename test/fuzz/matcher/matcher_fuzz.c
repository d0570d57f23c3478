/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chains and connections from text: chains that are refused must have been wrong or overlap, and for
 * those that are left the tree, its explanation and a naive matcher find the same chain.
 */
#include "test/core/match/chain_case.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_line(void *arg, const char *subject, const char *verdict, const char *why)
{
	HB_ASSERT(subject != NULL && *verdict != '\0' && *why != '\0');
	(*(unsigned *)arg)++;
}

/* This chain alone is accepted. */
static bool
is_valid(const struct chain_case *c, unsigned i)
{
	struct hb_cfg *cfg = hb_cfg_new("one", NULL);
	struct hb_chain_match *m = hb_chain_match_new();
	bool valid = hb_chain_match_add(m, cfg, NULL, c->chains[i], i, c->names[i]) == 0;

	HB_ASSERT(valid != hb_errs_any(hb_cfg_errs(cfg)));
	if (valid)
		HB_ASSERT(hb_chain_match_freeze(m, cfg) == 0);
	hb_chain_match_free(&m);
	hb_cfg_free(&cfg);
	return (valid);
}

static void
compare(const struct chain_case *c, const struct hb_chain_match *m)
{
	unsigned lines = 0;
	const struct hb_explain_sink sink = { .line = check_line, .arg = &lines };

	for (unsigned i = 0; i < c->n_conns; i++) {
		int chain = hb_chain_match_find(m, &c->conns[i]);

		HB_ASSERT(chain == chain_case_naive(c, &c->conns[i]));
		HB_ASSERT(chain == hb_chain_match_explain(m, &c->conns[i], &sink));
		HB_ASSERT(lines > 0);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hb_cfg *cfg = hb_cfg_new("fuzz", NULL);
	struct hb_chain_match *all, *m;
	struct chain_case c;
	unsigned given, kept = 0;

	chain_case_parse(&c, hb_strn(data, size));
	given = c.n_chains;
	all = chain_case_compile(&c, cfg);
	HB_ASSERT((all == NULL) == hb_errs_any(hb_cfg_errs(cfg)));
	for (unsigned i = 0; i < given; i++) {
		bool keep = is_valid(&c, i);

		for (unsigned k = 0; k < kept && keep; k++)
			keep = !chain_case_overlap(&c, i, k);
		if (keep) {
			c.chains[kept] = c.chains[i];
			c.names[kept++] = c.names[i];
		}
	}
	c.n_chains = kept;
	HB_ASSERT((all != NULL) == (kept == given));
	m = all != NULL ? all : chain_case_compile(&c, cfg);
	HB_ASSERT(m != NULL);
	compare(&c, m);
	hb_chain_match_free(&m);
	chain_case_fini(&c);
	hb_cfg_free(&cfg);
	return (0);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policies and matchers as YAML: what is accepted answers for every connection, the explanation
 * says the same, and what is refused says why. The first line tells what the rest is: "rbac",
 * "actions" (a matcher of policies), or "matcher" (of chains).
 */
#include "envoy/config/rbac/v3/rbac.pb-c.h"
#include "test/core/match/chain_case.h"
#include "xds/type/matcher/v3/matcher.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char CONNS[] =
	"conn local=10.0.0.1:443 remote=10.1.2.3:5000 sni=www.example.com transport=tls alpn=h2,http/1.1\n"
	"conn local=[fd00::1]:80 remote=127.0.0.1:1 direct=8.8.8.8:9 sni=outbound_.80_._.svc.ns\n"
	"conn local=/run/x.sock remote=/run/y.sock\n"
	"conn\n";

static void
last_line(void *arg, const char *subject, const char *verdict, const char *why)
{
	HB_ASSERT(*subject != '\0' && why != NULL);
	*(char *)arg = *verdict;
}

static void
run_rbac(struct hb_cfg *cfg, const void *msg, const struct chain_case *c)
{
	struct hb_rbac *r = hb_rbac_compile(cfg, msg, NULL, msg);
	char verdict = '\0';
	const struct hb_explain_sink sink = { .line = last_line, .arg = &verdict };

	HB_ASSERT((r == NULL) == hb_errs_any(hb_cfg_errs(cfg)));
	for (unsigned i = 0; r != NULL && i < c->n_conns; i++) {
		struct hb_rbac_result result = hb_rbac_eval(r, &c->conns[i]);

		hb_rbac_explain(r, &c->conns[i], &sink);
		HB_ASSERT(verdict == (result.verdict == HB_RBAC_ALLOW ? 'a' : 'd'));
		HB_ASSERT(!result.log || (result.policy != NULL && verdict == 'a'));
	}
	hb_rbac_free(&r);
}

static void
run_matcher(struct hb_cfg *cfg, const void *msg, const struct chain_case *c)
{
	struct hb_matcher *m = hb_matcher_compile(cfg, msg, NULL, msg, NULL, NULL, NULL);
	char verdict = '\0';
	const struct hb_explain_sink sink = { .line = last_line, .arg = &verdict };

	HB_ASSERT((m == NULL) == hb_errs_any(hb_cfg_errs(cfg)));
	for (unsigned i = 0; m != NULL && i < c->n_conns; i++) {
		const char *action = hb_matcher_eval(m, &c->conns[i]);

		HB_ASSERT(hb_matcher_explain(m, &c->conns[i], &sink) == action);
		HB_ASSERT(verdict == (action == NULL ? 'm' : 'c'));
	}
	hb_matcher_free(&m);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *newline = size == 0 ? NULL : memchr(data, '\n', size);
	size_t head = newline == NULL ? size : (size_t)(newline - data);
	struct hb_str kind = hb_strn(data, head);
	struct hb_str yaml = hb_strn(data + head, size - head);
	bool rbac = hb_str_eq(kind, HB_STR("rbac")), actions = hb_str_eq(kind, HB_STR("actions"));
	struct hb_cfg *cfg = hb_cfg_new("fuzz", NULL);
	struct chain_case c;
	const void *msg;

	chain_case_parse(&c, HB_STR(CONNS));
	(void)hb_facts_state_set(&c.conns[0], HB_STR("k"), HB_STR("10.0.0.9:80"), false, 0);
	(void)hb_facts_metadata_set(&c.conns[0], HB_STR("n"), HB_STR("k"), HB_STR("1.5"));
	hb_facts_tls_edit(&c.conns[1])->principal = HB_STR("spiffe://td/ns/a/sa/b");
	msg = hb_cfg_parse_text(cfg, yaml,
		rbac ? &envoy__config__rbac__v3__rbac__descriptor :
		       &xds__type__matcher__v3__matcher__descriptor);
	if (msg != NULL && (rbac || actions))
		run_rbac(cfg, msg, &c);
	else if (msg != NULL)
		run_matcher(cfg, msg, &c);
	chain_case_fini(&c);
	hb_cfg_free(&cfg);
	return (0);
}

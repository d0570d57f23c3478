/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of an istio.security.Authorization from a management server: refused with an error, or a
 * policy that decides the same each time, with which what DENY refuses is what ALLOW lets pass.
 */
#include "core/config/config.h"
#include "core/mesh/authz.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void
decide(const struct hb_authz_policy *p, const char *id, const char *from, const char *authority)
{
	struct hb_authz *a = hb_authz_new();
	struct hb_authz_result r;
	struct hb_facts f;
	char reason[64];
	bool match;

	hb_facts_init(&f);
	HB_ASSERT(hb_addr_parse(hb_str(from), &f.remote));
	hb_facts_tls_edit(&f)->principal = hb_str(id);
	f.authority = hb_str(authority);
	match = hb_authz_policy_match(p, &f);
	hb_authz_add(a, p);
	r = hb_authz_eval(a, &f);
	hb_authz_reason(r.enforced, reason, sizeof reason);
	HB_ASSERT(*reason != '\0');
	if (hb_authz_policy_dry_run(p))
		HB_ASSERT(hb_authz_allows(r.enforced) && r.dry_hits == (unsigned)match);
	else
		HB_ASSERT(hb_authz_allows(r.enforced) == (hb_authz_policy_denies(p) != match));
	HB_ASSERT(hb_authz_allows(r.dry) == (hb_authz_policy_denies(p) != match));
	hb_authz_free(&a);
	hb_facts_fini(&f);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const ProtobufCMessageDescriptor *desc;
	struct hb_cfg *cfg = hb_cfg_new("authorization", NULL);
	struct hb_authz_policy *policy = NULL;
	const ProtobufCMessage *m;

	if (desc == NULL) {
		hb_cfg_types_init();
		desc = hb_cfg_type_find(HB_STR("istio.security.Authorization"));
	}
	m = hb_cfg_parse_wire(cfg, hb_strn(p, n), desc);
	if (m != NULL)
		policy = hb_authz_policy_compile(cfg, m);
	HB_ASSERT((policy == NULL) == hb_errs_any(hb_cfg_errs(cfg)));
	hb_cfg_free(&cfg);
	if (policy == NULL)
		return (0);
	decide(policy, "", "10.0.0.1:1000", "10.0.0.2:8080");
	decide(policy, "spiffe://td/ns/a/sa/b", "10.0.0.1:1000", "[fd00::1]:80");
	decide(policy, "spiffe://td/other", "[fd00::2]:1000", "echo.example:80");
	hb_authz_policy_free(&policy);
	return (0);
}

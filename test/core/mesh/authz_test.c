/* SPDX-License-Identifier: Apache-2.0 */
#include "test/core/match/doc.h"

#include <stdio.h>

#include "core/mesh/authz.h"
#include "hbone/filters/network/authz/authz.pb-c.h"

#define POLICIES_MAX 16u

typedef Hbone__Filters__Network__Authz__Authz authz_msg;

static struct hb_authz_policy *policies[POLICIES_MAX];
static struct hb_authz *set;

static void
fini(void)
{
	hb_authz_free(&set);
	for (unsigned i = 0; i < POLICIES_MAX; i++)
		hb_authz_policy_free(&policies[i]);
	doc_close();
}

static int
teardown(void **state)
{
	(void)state;
	fini();
	return (0);
}

/* From the YAML of a list of policies. */
static void
compile(const char *yaml)
{
	char *whole = hb_asprintf("policies:\n%s\n", yaml);
	const authz_msg *m;

	fini();
	m = doc_open(&hbone__filters__network__authz__authz__descriptor, whole);
	hb_free(whole);
	set = hb_authz_new();
	assert_true(m->n_policies <= POLICIES_MAX);
	for (size_t i = 0; i < m->n_policies; i++) {
		policies[i] = hb_authz_policy_compile(doc, m->policies[i]);
		for (size_t k = 0; k < hb_cfg_errs(doc)->n; k++)
			print_message("%s: %s\n", hb_cfg_errs(doc)->v[k].path,
				hb_cfg_errs(doc)->v[k].text);
		assert_non_null(policies[i]);
		hb_authz_add(set, policies[i]);
	}
	/* What is compiled does not need the messages. */
	doc_close();
}

struct conn {
	const char *id;        /* NULL = none           */
	const char *from, *to; /* with ports            */
	const char *authority; /* NULL = no stream      */
};

/* A stream's facts are on top of those of the connection that carries it. */
static void
facts_open(const struct conn *c, struct hb_facts *f, struct hb_facts *below)
{
	struct hb_facts *bottom = c->authority == NULL ? f : below;

	hb_facts_init(f);
	hb_facts_init(below);
	assert_true(hb_addr_parse(hb_str(c->from), &bottom->remote));
	assert_true(hb_addr_parse(hb_str(c->to), &bottom->local));
	hb_facts_tls_edit(bottom)->principal = hb_str(c->id);
	if (c->authority != NULL) {
		f->parent = below;
		f->authority = hb_str(c->authority);
		f->local = below->local;
		/* As a header would have it. */
		assert_true(hb_addr_parse(HB_STR("6.6.6.6:666"), &f->remote));
	}
}

static void
last_verdict(void *arg, const char *subject, const char *verdict, const char *why)
{
	assert_true(*why != '\0');
	if (strcmp(subject, "authz") == 0)
		(void)snprintf(arg, 200, "%s: %s", verdict, why);
}

/* "allow: why" or "deny: why". */
static const char *
decide(const struct conn *c)
{
	static char text[200];
	char reason[160], explained[200] = "";
	struct hb_explain_sink sink = { .line = last_verdict, .arg = explained };
	struct hb_facts f, below;
	struct hb_authz_result r;

	facts_open(c, &f, &below);
	r = hb_authz_eval(set, &f);
	hb_authz_explain(set, &f, &sink);
	hb_facts_fini(&f);
	hb_facts_fini(&below);
	hb_authz_reason(r.enforced, reason, sizeof reason);
	(void)snprintf(text, sizeof text, "%s: %s", hb_authz_allows(r.enforced) ? "allow" : "deny",
		reason);
	assert_string_equal(text, explained);
	return (text);
}

static bool
matches(const struct conn *c)
{
	struct hb_facts f, below;
	bool r;

	facts_open(c, &f, &below);
	r = hb_authz_policy_match(policies[0], &f);
	hb_facts_fini(&f);
	hb_facts_fini(&below);
	return (r);
}

#define ID                "spiffe://td/ns/namespace/sa/account"
#define ID_ALT            "spiffe://td-alt/ns/ns-alt/sa/sa-alt"
#define DECIDE(want, ...) assert_string_equal(decide(&(struct conn){ __VA_ARGS__ }), want)
#define NO_ALLOW          "allow: no allow policy exists"
#define NONE              "deny: allow policies exist, but none allowed"

static const struct conn plaintext = { NULL, "127.0.0.1:1234", "127.0.0.2:8080", NULL };
static const struct conn tls = { ID, "127.0.0.1:1234", "127.0.0.2:8080", NULL };
static const struct conn tls_alt = { ID_ALT, "127.0.0.3:1234", "127.0.0.4:9090", NULL };

/* ------------------------------------------------------------------ one match */

static const struct match_case {
	const char *match; /* YAML of a match */
	bool plaintext, tls, tls_alt;
} match_cases[] = {
	{ "namespaces: [{exact: namespace}]", false, true, false },
	{ "not_namespaces: [{exact: namespace}]", true, false, true },
	{ "namespaces: [{presence: {}}]", false, true, true },
	{ "not_namespaces: [{presence: {}}]", true, false, false },
	{ "namespaces: [{prefix: names}]", false, true, false },
	{ "namespaces: [{suffix: -alt}]", false, false, true },
	{ "namespaces: [{exact: Namespace}]", false, false, false },
	/* "" is the namespace of who has none; ztunnel compares it like any other. */
	{ "namespaces: [{prefix: ''}]", true, true, true },
	{ "namespaces: [{exact: ''}]", true, false, false },
	{ "namespaces: [{exact: a}, {exact: ns-alt}, {exact: namespace}]", false, true, true },

	{ "service_accounts: [{namespace: namespace, service_account: account}]", false, true,
		false },
	{ "not_service_accounts: [{namespace: namespace, service_account: account}]", true, false,
		true },
	{ "service_accounts: [{namespace: ns-alt, serviceAccount: account}]", false, false, false },

	{ "principals: [{exact: td/ns/namespace/sa/account}]", false, true, false },
	{ "not_principals: [{exact: td/ns/namespace/sa/account}]", true, false, true },
	{ "principals: [{presence: {}}]", false, true, true },
	{ "not_principals: [{presence: {}}]", true, false, false },
	{ "principals: [{prefix: td/}]", false, true, false },
	{ "principals: [{prefix: td}]", false, true, true },
	{ "principals: [{suffix: /sa/account}]", false, true, false },
	{ "principals: [{exact: TD/ns/namespace/sa/account}]", false, false, false },
	/* An empty prefix is true of every principal, but not of none. */
	{ "principals: [{prefix: ''}]", false, true, true },
	{ "not_principals: [{prefix: ''}]", true, false, false },

	{ "source_ips: [{cidr: 127.0.0.1}]", true, true, false },
	{ "not_source_ips: [{cidr: 127.0.0.1}]", false, false, true },
	{ "source_ips: [{address: fwAAAQ==, length: 32}]", true, true, false },
	{ "destination_ips: [{cidr: 127.0.0.2/32}]", true, true, false },
	{ "not_destination_ips: [{cidr: 127.0.0.2/32}]", false, false, true },
	{ "destination_ips: [{cidr: 127.0.0.1/24}]", true, true, true },
	{ "destination_ips: [{address: fwAAAQ==}]", true, true, true }, /* length 0 */
	{ "destination_ips: [{cidr: '::/0'}]", false, false, false },
	{ "destination_ips: [{cidr: '::ffff:127.0.0.2'}]", true, true, false },

	{ "destination_ports: [8080]", true, true, false },
	{ "not_destination_ports: [8080]", false, false, true },
	{ "destination_ports: [1, 9090, 8080]", true, true, true },

	/* All lists must agree. */
	{ "{destination_ports: [8080], principals: [{presence: {}}]}", false, true, false },
	{ "{destination_ports: [8080, 9090], not_namespaces: [{exact: ns-alt}]}", true, true,
		false },
	{ "{namespaces: [{presence: {}}], not_namespaces: [{exact: ns-alt}]}", false, true, false },
	{ "{destination_ports: [8080], not_destination_ports: [8080]}", false, false, false },
	{ "{}", false, false, false },
};

static void
test_match(void **state)
{
	(void)state;
	for (size_t i = 0; i < HB_ARRAY_LEN(match_cases); i++) {
		const struct match_case *c = &match_cases[i];
		bool flow = c->match[0] == '{';
		char *yaml = hb_asprintf("- {name: p, groups: [{rules: [{matches: [%s%s%s]}]}]}",
			flow ? "" : "{", c->match, flow ? "" : "}");

		compile(yaml);
		hb_free(yaml);
		if (matches(&plaintext) != c->plaintext || matches(&tls) != c->tls ||
			matches(&tls_alt) != c->tls_alt)
			fail_msg("%s: %d %d %d", c->match, matches(&plaintext), matches(&tls),
				matches(&tls_alt));
	}
}

/* ------------------------------------------------------------------ groups, rules, matches */

static void
test_empty_levels(void **state)
{
	static const struct {
		const char *groups;
		bool match;
	} cases[] = {
		{ "[{rules: [{matches: [{}]}]}]", false }, /* a match without lists is skipped */
		{ "[{rules: [{matches: []}]}]", true },
		{ "[{rules: []}]", true },
		{ "[]", false },
		{ "[{rules: [{matches: [{}, {destination_ports: [8080]}]}]}]", true },
		{ "[{rules: [{}, {matches: [{}]}]}]", false },
		{ "[{rules: [{matches: [{}]}]}, {}]", true },
	};

	(void)state;
	for (size_t i = 0; i < HB_ARRAY_LEN(cases); i++) {
		char *yaml = hb_asprintf("- {name: p, groups: %s}", cases[i].groups);

		compile(yaml);
		hb_free(yaml);
		if (matches(&plaintext) != cases[i].match)
			fail_msg("%s", cases[i].groups);
	}
}

/* (namespace a or b) and port 80, as one group; then a or b as two groups. */
static void
test_nesting(void **state)
{
	(void)state;
	compile("- name: p\n"
		"  groups:\n"
		"  - rules:\n"
		"    - matches: [{namespaces: [{exact: a}]}, {namespaces: [{exact: b}]}]\n"
		"    - matches: [{destination_ports: [80]}]\n");
	DECIDE("allow: allowed by: /p", "spiffe://td/ns/a/sa/x", "1.1.1.1:1", "2.2.2.2:80");
	DECIDE("allow: allowed by: /p", "spiffe://td/ns/b/sa/x", "1.1.1.1:1", "2.2.2.2:80");
	DECIDE(NONE, "spiffe://td/ns/c/sa/x", "1.1.1.1:1", "2.2.2.2:80");
	DECIDE(NONE, "spiffe://td/ns/b/sa/x", "1.1.1.1:1", "2.2.2.2:81");
	compile("- name: p\n"
		"  namespace: n\n"
		"  groups:\n"
		"  - rules: [{matches: [{namespaces: [{exact: a}]}]}]\n"
		"  - rules: [{matches: [{namespaces: [{exact: b}]}]}]\n");
	DECIDE("allow: allowed by: n/p", "spiffe://td/ns/a/sa/x", "1.1.1.1:1", "2.2.2.2:80");
	DECIDE("allow: allowed by: n/p", "spiffe://td/ns/b/sa/x", "1.1.1.1:1", "2.2.2.2:80");
	DECIDE(NONE, "spiffe://td/ns/bad/sa/x", "1.1.1.1:1", "2.2.2.2:80");
}

/* ------------------------------------------------------------------ sets */

#define MATCH(m) "groups: [{rules: [{matches: [{" m "}]}]}]"

static void
test_order_of_decision(void **state)
{
	(void)state;
	compile(" []");
	DECIDE(NO_ALLOW, NULL, "1.1.1.1:1", "2.2.2.2:80");
	/* A DENY policy alone: the rest passes. */
	compile("- {name: d, namespace: ns, action: DENY, " MATCH("destination_ports: [80]") "}");
	DECIDE("deny: explicitly denied by: ns/d", ID, "1.1.1.1:1", "2.2.2.2:80");
	DECIDE(NO_ALLOW, ID, "1.1.1.1:1", "2.2.2.2:81");
	/* DENY goes before ALLOW, wherever it stands. */
	compile("- {name: a, namespace: ns, " MATCH(
		"principals: [{presence: {}}]") "}\n"
						"- {name: d, namespace: ns, action: DENY, " MATCH(
							"destination_ports: [80]") "}");
	DECIDE("deny: explicitly denied by: ns/d", ID, "1.1.1.1:1", "2.2.2.2:80");
	DECIDE("allow: allowed by: ns/a", ID, "1.1.1.1:1", "2.2.2.2:81");
	DECIDE(NONE, NULL, "1.1.1.1:1", "2.2.2.2:81");
	/* Any ALLOW policy suffices. */
	compile("- {name: a, namespace: ns, " MATCH(
		"destination_ports: [80]") "}\n"
					   "- {name: b, namespace: ns, " MATCH(
						   "destination_ports: [81]") "}");
	DECIDE("allow: allowed by: ns/a", ID, "1.1.1.1:1", "2.2.2.2:80");
	DECIDE("allow: allowed by: ns/b", ID, "1.1.1.1:1", "2.2.2.2:81");
	DECIDE(NONE, ID, "1.1.1.1:1", "2.2.2.2:82");
}

static void
test_policies_without_groups(void **state)
{
	(void)state;
	compile("- {name: nobody, namespace: ns}");
	DECIDE(NONE, ID, "1.1.1.1:1", "2.2.2.2:80");
	compile("- {name: nothing, namespace: ns, action: DENY}");
	DECIDE(NO_ALLOW, ID, "1.1.1.1:1", "2.2.2.2:80");
}

/* PeerAuthentication STRICT, as istiod sends it. */
static void
test_strict(void **state)
{
	(void)state;
	compile("- {name: istio_converted_static_strict, namespace: istio-system, action: DENY, "
		"scope: WORKLOAD_SELECTOR, " MATCH("not_principals: [{presence: {}}]") "}");
	DECIDE("deny: explicitly denied by: istio-system/istio_converted_static_strict", NULL,
		"1.1.1.1:1", "2.2.2.2:80");
	DECIDE(NO_ALLOW, ID, "1.1.1.1:1", "2.2.2.2:80");
}

static void
test_unknown_policy(void **state)
{
	(void)state;
	compile("- {name: a, namespace: ns, " MATCH(
		"destination_ports: [80]") "}\n"
					   "- {name: d, namespace: ns, action: DENY, " MATCH(
						   "destination_ports: [81]") "}");
	hb_authz_add_unknown(set, "ns/missing");
	hb_authz_add_unknown(set, "ns/second");
	DECIDE("deny: policy is not known: ns/missing", ID, "1.1.1.1:1", "2.2.2.2:80");
	DECIDE("deny: explicitly denied by: ns/d", ID, "1.1.1.1:1", "2.2.2.2:81");
}

/* ------------------------------------------------------------------ dry run */

static void
add_hit(void *arg, const struct hb_authz_policy *p)
{
	struct hb_text *t = arg;

	hb_text_printf(t, "%s%s", t->len > 0 ? " " : "", hb_authz_policy_key(p));
}

/* "enforced | dry | hits". */
static void
expect_dry(const char *id, const char *to, const char *want)
{
	struct conn c = { id, "1.1.1.1:1", to, NULL };
	struct hb_facts f, below;
	struct hb_authz_result r;
	struct hb_text hits = { 0 };
	char enforced[100], dry[100], got[300];
	unsigned n = 0;

	facts_open(&c, &f, &below);
	r = hb_authz_eval(set, &f);
	hb_authz_dry_hits(set, &f, add_hit, &hits);
	hb_authz_reason(r.enforced, enforced, sizeof enforced);
	hb_authz_reason(r.dry, dry, sizeof dry);
	(void)snprintf(
		got, sizeof got, "%s | %s | %s", enforced, dry, hits.p == NULL ? "" : hits.p);
	for (size_t i = 0; i < hits.len; i++)
		n += i == 0 || hits.p[i] == ' ';
	assert_int_equal(r.dry_hits, n);
	assert_string_equal(got, want);
	hb_text_fini(&hits);
	hb_facts_fini(&f);
	hb_facts_fini(&below);
	(void)decide(&c);
}

static void
test_dry_run(void **state)
{
	(void)state;
	compile("- {name: d, namespace: n, action: DENY, dry_run: true, " MATCH(
		"destination_ports: [80]") "}");
	expect_dry(ID, "2.2.2.2:80", "no allow policy exists | explicitly denied by: n/d | n/d");
	expect_dry(ID, "2.2.2.2:81", "no allow policy exists | no allow policy exists | ");
	/* An ALLOW policy in dry run does not make others be denied. */
	compile("- {name: a, namespace: n, dry_run: true, " MATCH("destination_ports: [80]") "}");
	expect_dry(ID, "2.2.2.2:80", "no allow policy exists | allowed by: n/a | n/a");
	expect_dry(ID, "2.2.2.2:81",
		"no allow policy exists | allow policies exist, but none allowed | ");
	/* … and does not allow what the enforced ones do not. */
	compile("- {name: a, namespace: n, dry_run: true, " MATCH(
		"destination_ports: [80]") "}\n"
					   "- {name: b, namespace: n, " MATCH(
						   "destination_ports: [81]") "}\n"
									      "- {name: d, namespace: n, dry_run: true, action: DENY, " MATCH(
										      "principals: [{presence: {}}]") "}");
	expect_dry(NULL, "2.2.2.2:80",
		"allow policies exist, but none allowed | allowed by: n/a | n/a");
	expect_dry(NULL, "2.2.2.2:81", "allowed by: n/b | allowed by: n/b | ");
	expect_dry(ID, "2.2.2.2:81", "allowed by: n/b | explicitly denied by: n/d | n/d");
	expect_dry(ID, "2.2.2.2:80",
		"allow policies exist, but none allowed | explicitly denied by: n/d | n/d n/a");
}

/* ------------------------------------------------------------------ where facts come from */

static void
test_streams(void **state)
{
	(void)state;
	compile("- {name: p, namespace: n, " MATCH(
		"destination_ports: [8080], "
		"destination_ips: [{cidr: 10.0.0.0/8}], source_ips: [{cidr: 1.1.1.1}], "
		"principals: [{exact: td/ns/namespace/sa/account}]") "}");
	/* Target of the stream; peer and source of the connection that carries it. */
	DECIDE("allow: allowed by: n/p", ID, "1.1.1.1:1", "10.0.0.1:15008", "10.0.0.2:8080");
	DECIDE(NONE, ID, "1.1.1.1:1", "10.0.0.1:15008", "10.0.0.2:15008");
	DECIDE(NONE, ID, "1.1.1.1:1", "10.0.0.1:15008", "11.0.0.2:8080");
	DECIDE(NONE, ID, "6.6.6.6:1", "10.0.0.1:15008", "10.0.0.2:8080");
	DECIDE(NONE, ID_ALT, "1.1.1.1:1", "10.0.0.1:15008", "10.0.0.2:8080");
	DECIDE(NONE, NULL, "1.1.1.1:1", "10.0.0.1:15008", "10.0.0.2:8080");
	/* A name has a port, but is in no range. */
	DECIDE(NONE, ID, "1.1.1.1:1", "10.0.0.1:15008", "echo.example:8080");
	compile("- {name: p, namespace: n, " MATCH(
		"destination_ports: [8080], "
		"not_destination_ips: [{cidr: 10.0.0.0/8}]") "}");
	DECIDE("allow: allowed by: n/p", ID, "1.1.1.1:1", "10.0.0.1:15008", "echo.example:8080");
	DECIDE(NONE, ID, "1.1.1.1:1", "10.0.0.1:15008", "echo.example:80");
	DECIDE(NONE, ID, "1.1.1.1:1", "10.0.0.1:8080", "not an authority");
	DECIDE("allow: allowed by: n/p", ID, "1.1.1.1:1", "10.0.0.1:15008", "[fd00::1]:8080");
}

static void
test_restored_destination(void **state)
{
	struct conn c = { ID, "1.1.1.1:1", "10.0.0.1:15008", "echo.example:80" };
	struct hb_facts f, below;

	(void)state;
	compile("- {name: p, namespace: n, " MATCH("destination_ports: [8080], "
						   "destination_ips: [{cidr: 10.9.9.9}]") "}");
	facts_open(&c, &f, &below);
	assert_false(hb_authz_policy_match(policies[0], &f));
	/* The tunnel server resolved the name. */
	assert_true(hb_addr_parse(HB_STR("10.9.9.9:8080"), &f.local));
	f.local_restored = true;
	assert_true(hb_authz_policy_match(policies[0], &f));
	hb_facts_fini(&f);
	hb_facts_fini(&below);
}

static void
test_identities(void **state)
{
	(void)state;
	/* An id of another form than Istio's is a principal without namespace. */
	compile("- {name: p, " MATCH("principals: [{exact: td/web/frontend}]") "}");
	DECIDE("allow: allowed by: /p", "spiffe://td/web/frontend", "1.1.1.1:1", "2.2.2.2:80");
	compile("- {name: p, " MATCH("namespaces: [{presence: {}}]") "}");
	DECIDE(NONE, "spiffe://td/web/frontend", "1.1.1.1:1", "2.2.2.2:80");
	compile("- {name: p, " MATCH(
		"not_service_accounts: [{namespace: a, service_account: b}]") "}");
	DECIDE("allow: allowed by: /p", "spiffe://td/web/frontend", "1.1.1.1:1", "2.2.2.2:80");
	/* What is no SPIFFE id is no identity here. */
	compile("- {name: p, " MATCH("principals: [{presence: {}}]") "}");
	DECIDE(NONE, "https://td/ns/a/sa/b", "1.1.1.1:1", "2.2.2.2:80");
	DECIDE(NONE, "spiffe://TD/ns/a/sa/b", "1.1.1.1:1", "2.2.2.2:80");
	DECIDE(NONE, "spiffe://", "1.1.1.1:1", "2.2.2.2:80");
	DECIDE("allow: allowed by: /p", "spiffe://td", "1.1.1.1:1", "2.2.2.2:80");
}

/* TLS without a client certificate inside a tunnel is nobody, whoever opened the tunnel. */
static void
test_tls_in_tunnel(void **state)
{
	struct conn c = { ID, "1.1.1.1:1", "10.0.0.1:15008", "10.0.0.2:80" };
	struct hb_facts f, below;

	(void)state;
	compile("- {name: p, " MATCH("principals: [{presence: {}}]") "}");
	facts_open(&c, &f, &below);
	assert_true(hb_authz_policy_match(policies[0], &f));
	hb_facts_tls_edit(&f)->version = "TLSv1.3";
	assert_false(hb_authz_policy_match(policies[0], &f));
	hb_facts_tls_edit(&f)->principal = HB_STR(ID_ALT);
	assert_true(hb_authz_policy_match(policies[0], &f));
	hb_facts_fini(&f);
	hb_facts_fini(&below);
}

/* ------------------------------------------------------------------ errors */

static const struct error_case {
	const char *policy, *path, *words;
} error_cases[] = {
	{ "{}", "policies[0].name", "must not be empty" },
	{ "{name: 'a b'}", "policies[0].name", "white space" },
	{ "{name: a/b}", "policies[0].name", "slash" },
	{ "{name: a, namespace: \"x\\ny\"}", "policies[0].namespace", "control character" },
	{ "{name: a, " MATCH("principals: [{}]") "}",
		"policies[0].groups[0].rules[0].matches[0].principals[0]",
		"exact, prefix, suffix, presence" },
	{ "{name: a, " MATCH("not_namespaces: [{presence: {}}, {}]") "}",
		"policies[0].groups[0].rules[0].matches[0].not_namespaces[1]",
		"exact, prefix, suffix, presence" },
	{ "{name: a, " MATCH("principals: [{exact: 'spiffe://td/ns/a/sa/b'}]") "}",
		"policies[0].groups[0].rules[0].matches[0].principals[0].exact",
		"without spiffe://" },
	{ "{name: a, " MATCH("not_principals: [{prefix: 'spiffe://td'}]") "}",
		"policies[0].groups[0].rules[0].matches[0].not_principals[0].prefix",
		"without spiffe://" },
	{ "{name: a, " MATCH("source_ips: [{}]") "}",
		"policies[0].groups[0].rules[0].matches[0].source_ips[0]", "0 bytes" },
	{ "{name: a, " MATCH("source_ips: [{address: AAAA, length: 8}]") "}",
		"policies[0].groups[0].rules[0].matches[0].source_ips[0]", "3 bytes" },
	{ "{name: a, " MATCH("not_source_ips: [{address: fwAAAQ==, length: 33}]") "}",
		"policies[0].groups[0].rules[0].matches[0].not_source_ips[0]", "33" },
	{ "{name: a, " MATCH("destination_ips: [{cidr: 10.0.0.0/33}]") "}",
		"policies[0].groups[0].rules[0].matches[0].destination_ips[0]", "33" },
	{ "{name: a, " MATCH("destination_ips: [{cidr: 10.0.0.0/}]") "}",
		"policies[0].groups[0].rules[0].matches[0].destination_ips[0]",
		"behind the slash" },
	{ "{name: a, " MATCH("not_destination_ips: [{cidr: host}]") "}",
		"policies[0].groups[0].rules[0].matches[0].not_destination_ips[0]",
		"no IP address" },
	{ "{name: a, " MATCH("destination_ips: [{cidr: 10.0.0.1, length: 8}]") "}",
		"policies[0].groups[0].rules[0].matches[0].destination_ips[0]", "keep one" },
	{ "{name: a, " MATCH("destination_ports: [65616]") "}",
		"policies[0].groups[0].rules[0].matches[0].destination_ports[0]", "65616" },
	{ "{name: a, " MATCH("not_destination_ports: [80, 0]") "}",
		"policies[0].groups[0].rules[0].matches[0].not_destination_ports[1]", "no port" },
	{ "{name: a, " MATCH("service_accounts: [{namespace: a}]") "}",
		"policies[0].groups[0].rules[0].matches[0].service_accounts[0].service_account",
		"must not be empty" },
	{ "{name: a, " MATCH("not_service_accounts: [{service_account: a}]") "}",
		"policies[0].groups[0].rules[0].matches[0].not_service_accounts[0].namespace",
		"must not be empty" },
};

static void
test_errors(void **state)
{
	(void)state;
	for (size_t i = 0; i < HB_ARRAY_LEN(error_cases); i++) {
		const struct error_case *c = &error_cases[i];
		char *yaml = hb_asprintf("policies:\n- %s\n", c->policy);
		const authz_msg *m = doc_open(
			&hbone__filters__network__authz__authz__descriptor, yaml);

		assert_null(hb_authz_policy_compile(doc, m->policies[0]));
		doc_assert_error(c->path, c->words);
		doc_close();
		hb_free(yaml);
	}
}

/* Enum values and tags that are not known refuse a policy that comes as bytes. */
static void
test_wire(void **state)
{
	static const uint8_t action[] = { 0x0a, 1, 'p', 0x20, 7 };
	static const uint8_t scope[] = { 0x0a, 1, 'p', 0x18, 3 };
	static const uint8_t tag[] = { 0x0a, 1, 'p', 0x3a, 0 };
	static const uint8_t good[] = { 0x0a, 1, 'p', 0x12, 1, 'n', 0x18, 2, 0x20, 1, 0x30, 1 };
	const ProtobufCMessageDescriptor *desc = hb_cfg_type_find(
		HB_STR("type.googleapis.com/istio.security.Authorization"));
	const struct hb_str bad[] = { hb_strn(action, sizeof action), hb_strn(scope, sizeof scope),
		hb_strn(tag, sizeof tag) };

	(void)state;
	assert_non_null(desc);
	for (size_t i = 0; i < HB_ARRAY_LEN(bad); i++) {
		const ProtobufCMessage *m;

		doc = hb_cfg_new("authorization p", NULL);
		m = hb_cfg_parse_wire(doc, bad[i], desc);
		assert_true(m == NULL || hb_authz_policy_compile(doc, m) == NULL);
		assert_true(hb_errs_any(hb_cfg_errs(doc)));
		doc_close();
	}
	doc = hb_cfg_new("authorization p", NULL);
	policies[0] = hb_authz_policy_compile(
		doc, hb_cfg_parse_wire(doc, hb_strn(good, sizeof good), desc));
	assert_non_null(policies[0]);
	assert_string_equal(hb_authz_policy_key(policies[0]), "n/p");
	assert_true(hb_str_eq(hb_authz_policy_namespace(policies[0]), HB_STR("n")));
	assert_int_equal(hb_authz_policy_scope(policies[0]), HB_AUTHZ_WORKLOAD);
	assert_true(hb_authz_policy_denies(policies[0]));
	assert_true(hb_authz_policy_dry_run(policies[0]));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_match, teardown),
		cmocka_unit_test_teardown(test_empty_levels, teardown),
		cmocka_unit_test_teardown(test_nesting, teardown),
		cmocka_unit_test_teardown(test_order_of_decision, teardown),
		cmocka_unit_test_teardown(test_policies_without_groups, teardown),
		cmocka_unit_test_teardown(test_strict, teardown),
		cmocka_unit_test_teardown(test_unknown_policy, teardown),
		cmocka_unit_test_teardown(test_dry_run, teardown),
		cmocka_unit_test_teardown(test_streams, teardown),
		cmocka_unit_test_teardown(test_restored_destination, teardown),
		cmocka_unit_test_teardown(test_identities, teardown),
		cmocka_unit_test_teardown(test_tls_in_tunnel, teardown),
		cmocka_unit_test_teardown(test_errors, teardown),
		cmocka_unit_test_teardown(test_wire, teardown),
	};

	hb_cfg_types_init();
	return (cmocka_run_group_tests(tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "test/core/match/doc.h"

#include <stdio.h>

#include "core/identity/identity.h"
#include "core/match/match_priv.h"
#include "envoy/config/rbac/v3/rbac.pb-c.h"
#include "test/core/match/chain_case.h"
#include "xds/type/matcher/v3/matcher.pb-c.h"

static struct hb_rbac *rbac;

static void
compile_as(const ProtobufCMessageDescriptor *desc, const char *yaml)
{
	const void *msg;

	hb_rbac_free(&rbac);
	msg = doc_open(desc, yaml);
	rbac = hb_rbac_compile(doc, msg, NULL, msg);
	for (size_t i = 0; i < hb_cfg_errs(doc)->n; i++)
		print_message("%s: %s\n", hb_cfg_errs(doc)->v[i].path, hb_cfg_errs(doc)->v[i].text);
	assert_non_null(rbac);
	doc_close();
}

static void
compile(const char *yaml)
{
	compile_as(&envoy__config__rbac__v3__rbac__descriptor, yaml);
}

static int
teardown(void **state)
{
	(void)state;
	hb_rbac_free(&rbac);
	doc_close();
	return (0);
}

static void
last_verdict(void *arg, const char *subject, const char *verdict, const char *why)
{
	assert_true(*why != '\0');
	if (strcmp(subject, "rbac") == 0)
		(void)snprintf(arg, 16, "%s", verdict);
}

/* "allow NAME", "deny NAME", "allow NAME log"; NAME "-" = no policy. */
static const char *
decide(const struct hb_facts *f)
{
	static char text[128];
	struct hb_rbac_result r = hb_rbac_eval(rbac, f);
	char explained[16] = "";
	struct hb_explain_sink sink = { .line = last_verdict, .arg = explained };

	hb_rbac_explain(rbac, f, &sink);
	assert_string_equal(explained, r.verdict == HB_RBAC_ALLOW ? "allow" : "deny");
	(void)snprintf(text, sizeof text, "%s %s%s", explained, r.policy == NULL ? "-" : r.policy,
		r.log ? " log" : "");
	return (text);
}

static const char *
decide_conn(const char *conn)
{
	struct chain_case c;
	char line[512];
	const char *r;

	(void)snprintf(line, sizeof line, "conn %s", conn);
	chain_case_parse(&c, hb_str(line));
	r = decide(&c.conns[0]);
	chain_case_fini(&c);
	return (r);
}

#define DECIDE(conn, want) assert_string_equal(decide_conn(conn), want)
#define ANYBODY            "principals: [{any: true}]"
#define ANYTHING           "permissions: [{any: true}]"

static void
test_actions(void **state)
{
	(void)state;
	compile("{policies: {p: {permissions: [{destination_port: 80}], " ANYBODY "}}}");
	DECIDE("local=1.1.1.1:80", "allow p");
	DECIDE("local=1.1.1.1:81", "deny -");
	DECIDE("local=/run/x", "deny -");
	compile("{action: DENY, policies: {p: {permissions: [{destination_port: 80}], " ANYBODY
		"}}}");
	DECIDE("local=1.1.1.1:80", "deny p");
	DECIDE("local=1.1.1.1:81", "allow -");
	assert_false(hb_rbac_logs(rbac));
	compile("{action: LOG, policies: {p: {permissions: [{destination_port: 80}], " ANYBODY
		"}}}");
	DECIDE("local=1.1.1.1:80", "allow p log");
	DECIDE("local=1.1.1.1:81", "allow -");
	assert_true(hb_rbac_logs(rbac));
	/* No policy at all: ALLOW denies everything, DENY nothing. */
	compile("{}");
	DECIDE("local=1.1.1.1:80", "deny -");
	compile("{action: DENY}");
	DECIDE("local=1.1.1.1:80", "allow -");
}

static void
test_sorted_by_name(void **state)
{
	(void)state;
	compile("{policies: {b: {" ANYTHING ", " ANYBODY
		"}, a: {permissions: [{destination_port: 80}], " ANYBODY
		"}, B: {permissions: [{destination_port: 82}], " ANYBODY "}}}");
	DECIDE("local=1.1.1.1:80", "allow a");
	DECIDE("local=1.1.1.1:81", "allow b");
	DECIDE("local=1.1.1.1:82", "allow B");
}

static void
test_permissions(void **state)
{
	(void)state;
	compile("{policies: {p: {permissions: [\n"
		"  {and_rules: {rules: [{destination_ip: {address_prefix: 10.0.0.0, prefix_len: 8}},\n"
		"    {not_rule: {destination_port: 80}}]}},\n"
		"  {or_rules: {rules: [{destination_port_range: {start: 1000, end: 2000}},\n"
		"    {requested_server_name: {suffix: .example.com}}]}}], " ANYBODY "}}}");
	DECIDE("local=10.0.0.1:81", "allow p");
	DECIDE("local=10.0.0.1:80", "deny -");
	DECIDE("local=11.0.0.1:1000", "allow p");
	DECIDE("local=11.0.0.1:1999", "allow p");
	DECIDE("local=11.0.0.1:2000", "deny -"); /* the end is not part of the range */
	DECIDE("local=11.0.0.1:1 sni=a.example.com", "allow p");
	DECIDE("local=11.0.0.1:1 sni=a.example.org", "deny -");
	compile("{policies: {p: {permissions: [{requested_server_name: {exact: ''}}], " ANYBODY
		"}}}");
	DECIDE("local=1.1.1.1:1", "allow p");
	DECIDE("local=1.1.1.1:1 sni=a", "deny -");
}

static void
test_addresses(void **state)
{
	(void)state;
	compile("{policies: {\n"
		"  direct: {" ANYTHING
		", principals: [{direct_remote_ip: {address_prefix: 10.0.0.0, "
		"prefix_len: 8}}]},\n"
		"  remote: {" ANYTHING
		", principals: [{remote_ip: {address_prefix: 8.8.0.0, prefix_len: "
		"16}}]},\n"
		"  source: {" ANYTHING
		", principals: [{source_ip: {address_prefix: 'fd00::', prefix_len: "
		"8}}]}}}");
	DECIDE("remote=8.8.8.8:1 direct=10.0.0.1:1", "allow direct");
	DECIDE("remote=8.8.8.8:1 direct=11.0.0.1:1", "allow remote");
	DECIDE("remote=[fd00::1]:1", "allow source");
	DECIDE("remote=9.9.9.9:1", "deny -");
	DECIDE("remote=[::ffff:8.8.8.8]:1", "allow remote"); /* one address, one form */
	DECIDE("remote=/run/x", "deny -");
}

/* ------------------------------------------------------------------ identity */

static void
test_authenticated(void **state)
{
	struct hb_san both[] = { { HB_SAN_DNS, (char *)(uintptr_t) "b.example" },
		{ HB_SAN_URI, (char *)(uintptr_t) "spiffe://td/ns/a/sa/b" },
		{ HB_SAN_URI, (char *)(uintptr_t) "urn:second" } };
	struct hb_cert_info cert = {
		.subject = (char *)(uintptr_t) "CN=client", .san = both, .n_san = 3
	};
	struct hb_facts f;

	(void)state;
	hb_facts_init(&f);
	compile("{policies: {\n"
		"  a-uri: {" ANYTHING ", principals: [{authenticated: {principal_name: {contains: "
		"/ns/a/}}}]},\n"
		"  b-second: {" ANYTHING ", principals: [{authenticated: {principal_name: {exact: "
		"'urn:second'}}}]},\n"
		"  c-dns: {" ANYTHING ", principals: [{authenticated: {principal_name: {exact: "
		"b.example}}}]},\n"
		"  d-subject: {" ANYTHING ", principals: [{authenticated: {principal_name: {exact: "
		"CN=client}}}]},\n"
		"  e-any: {" ANYTHING ", principals: [{authenticated: {}}]}}}");
	assert_string_equal(decide(&f), "deny -");
	hb_facts_tls_edit(&f)->principal = HB_STR("spiffe://td/ns/a/sa/b");
	assert_string_equal(decide(&f), "allow a-uri");
	hb_facts_tls_edit(&f)->principal = HB_STR("spiffe://td/ns/ab/sa/b");
	assert_string_equal(decide(&f), "allow e-any");
	/* It is a piece of something: what follows is not part of it. */
	hb_facts_tls_edit(&f)->principal = hb_strn("urn:second/ns/a/", sizeof "urn:second" - 1);
	assert_string_equal(decide(&f), "allow b-second");
	hb_facts_tls_edit(&f)->peer_cert = &cert;
	assert_string_equal(decide(&f), "allow a-uri");
	both[1].value = (char *)(uintptr_t) "spiffe://td/ns/x/sa/b";
	assert_string_equal(decide(&f), "allow b-second");
	/* With URI names the others do not count. */
	cert.n_san = 2;
	assert_string_equal(decide(&f), "allow e-any");
	cert.n_san = 1;
	assert_string_equal(decide(&f), "allow c-dns");
	cert.n_san = 0;
	assert_string_equal(decide(&f), "allow d-subject");
	hb_facts_fini(&f);
}

/* Plaintext inside a tunnel has the identity of the tunnel; TLS without a certificate has none. */
static void
test_identity_of_a_stream(void **state)
{
	struct hb_facts tunnel, stream;

	(void)state;
	hb_facts_init(&tunnel);
	hb_facts_init(&stream);
	stream.parent = &tunnel;
	compile("{policies: {p: {" ANYTHING
		", principals: [{authenticated: {principal_name: {prefix: "
		"'spiffe://td/'}}}]}}}");
	assert_string_equal(decide(&stream), "deny -");
	hb_facts_tls_edit(&tunnel)->principal = HB_STR("spiffe://td/ns/a/sa/b");
	hb_facts_tls_edit(&tunnel)->version = "TLSv1.3";
	assert_string_equal(decide(&stream), "allow p");
	hb_facts_tls_edit(&stream)->version = "TLSv1.3";
	assert_string_equal(decide(&stream), "deny -");
	hb_facts_tls_edit(&stream)->principal = HB_STR("spiffe://other/ns/a/sa/b");
	assert_string_equal(decide(&stream), "deny -");
	hb_facts_fini(&stream);
	hb_facts_fini(&tunnel);
}

/* As istiod writes them: sets in sets, regular expressions, filter state. */
static void
test_istio_shape(void **state)
{
	struct hb_facts f;

	(void)state;
	compile("{policies: {'ns[foo]-policy[allow]-rule[0]': {\n"
		"  permissions: [{and_rules: {rules: [{or_rules: {rules: [{destination_port: 8080}]}}]}}],\n"
		"  principals: [{and_ids: {ids: [{or_ids: {ids: [{filter_state: {key: "
		"io.istio.peer_principal, string_match: {safe_regex: {regex: '.*/ns/foo/.*'}}}}]}},\n"
		"    {not_id: {or_ids: {ids: [{filter_state: {key: io.istio.peer_principal, "
		"string_match: {suffix: /sa/bad}}}]}}}]}}]}}}");
	hb_facts_init(&f);
	assert_true(hb_addr_parse(HB_STR("10.0.0.1:8080"), &f.local));
	assert_string_equal(decide(&f), "deny -");
	hb_facts_state_set(
		&f, HB_STR("io.istio.peer_principal"), HB_STR("spiffe://td/ns/foo/sa/x"), false, 1);
	assert_string_equal(decide(&f), "allow ns[foo]-policy[allow]-rule[0]");
	hb_facts_state_set(&f, HB_STR("io.istio.peer_principal"),
		HB_STR("spiffe://td/ns/foo/sa/bad"), false, 1);
	assert_string_equal(decide(&f), "deny -");
	hb_facts_fini(&f);
}

static void
test_metadata(void **state)
{
	struct hb_facts f;

	(void)state;
	compile("{policies: {\n"
		"  a: {permissions: [{metadata: {filter: n, path: [{key: k}], value: {string_match: "
		"{exact: x}}}}], " ANYBODY "},\n"
		"  b: {" ANYTHING
		", principals: [{sourced_metadata: {metadata_matcher: {filter: n, path: "
		"[{key: k}], value: {present_match: true}}}}]}}}");
	hb_facts_init(&f);
	assert_string_equal(decide(&f), "deny -");
	hb_facts_metadata_set(&f, HB_STR("n"), HB_STR("k"), HB_STR("x"));
	assert_string_equal(decide(&f), "allow a");
	hb_facts_metadata_set(&f, HB_STR("n"), HB_STR("k"), HB_STR("y"));
	assert_string_equal(decide(&f), "allow b");
	hb_facts_fini(&f);
}

/* ------------------------------------------------------------------ matcher */

#define RBAC_ACTION(name, what)                                                                       \
	"action: {name: x, typed_config: {'@type': type.googleapis.com/envoy.config.rbac.v3.Action, " \
	"name: " name ", action: " what "}}"

static void
test_matcher(void **state)
{
	(void)state;
	compile_as(&xds__type__matcher__v3__matcher__descriptor,
		"matcher_tree:\n"
		"  input: {name: i, typed_config: {'@type': type.googleapis.com/envoy.extensions.matching."
		"common_inputs.network.v3.DestinationPortInput}}\n"
		"  exact_match_map: {map: {'80': {" RBAC_ACTION("web",
			"ALLOW") "},\n"
				 "    '22': {" RBAC_ACTION("ssh", "DENY") "}, '25': {" RBAC_ACTION(
					 "mail", "LOG") "}}}\n");
	DECIDE("local=1.1.1.1:80", "allow web");
	DECIDE("local=1.1.1.1:22", "deny ssh");
	DECIDE("local=1.1.1.1:25", "allow mail log");
	DECIDE("local=1.1.1.1:26", "deny -");
}

/* ------------------------------------------------------------------ what is refused */

static void
refused(const char *yaml, const char *path, const char *words)
{
	const void *msg = doc_open(&envoy__config__rbac__v3__rbac__descriptor, yaml);

	assert_null(hb_rbac_compile(doc, msg, NULL, msg));
	doc_assert_error(path, words);
	doc_close();
}

static void
test_refused(void **state)
{
	(void)state;
	refused("{policies: {p: {" ANYBODY "}}}", "policies[\"p\"].permissions", "at least one");
	refused("{policies: {p: {" ANYTHING "}}}", "policies[\"p\"].principals", "at least one");
	refused("{policies: {p: {permissions: [{any: false}], " ANYBODY "}}}",
		"policies[\"p\"].permissions[0].any", "must be true");
	refused("{policies: {p: {permissions: [{}], " ANYBODY "}}}",
		"policies[\"p\"].permissions[0]", "one kind of permission");
	refused("{policies: {p: {permissions: [{destination_port: 65536}], " ANYBODY "}}}",
		"policies[\"p\"].permissions[0].destination_port", "not a port");
	refused("{policies: {p: {permissions: [{destination_port_range: {start: 5, end: 5}}], " ANYBODY
		"}}}",
		"policies[\"p\"].permissions[0].destination_port_range", "no range of ports");
	refused("{policies: {p: {permissions: [{and_rules: {}}], " ANYBODY "}}}",
		"policies[\"p\"].permissions[0].and_rules.rules", "at least one");
	refused("{policies: {p: {permissions: [{destination_ip: {address_prefix: x}}], " ANYBODY
		"}}}",
		"policies[\"p\"].permissions[0].destination_ip", "not an IP address");
	refused("{policies: {p: {" ANYTHING ", principals: [{}]}}}",
		"policies[\"p\"].principals[0]", "one kind of principal");
	refused("{policies: {p: {" ANYTHING
		", principals: [{authenticated: {principal_name: {}}}]}}}",
		"policies[\"p\"].principals[0].authenticated.principal_name", "needs one of");
	refused("{policies: {p: {" ANYTHING
		", principals: [{sourced_metadata: {metadata_source: ROUTE, "
		"metadata_matcher: {}}}]}}}",
		"policies[\"p\"].principals[0].sourced_metadata.metadata_source", "only DYNAMIC");
}

/* What needs an HTTP request is refused, not silently never true: a DENY would let all through. */
static void
test_http_rules_are_refused(void **state)
{
	static const char *const yamls[] = {
		"{policies: {p: {permissions: [{header: {name: a}}], " ANYBODY "}}}",
		"{policies: {p: {permissions: [{url_path: {path: {exact: /}}}], " ANYBODY "}}}",
		"{policies: {p: {" ANYTHING ", principals: [{header: {name: a}}]}}}",
		"{policies: {p: {" ANYTHING ", principals: [{url_path: {path: {exact: /}}}]}}}",
		"{policies: {p: {" ANYTHING ", " ANYBODY ", condition: {}}}}",
	};

	(void)state;
	for (size_t i = 0; i < HB_ARRAY_LEN(yamls); i++) {
		doc = hb_cfg_new("test.yaml", NULL);
		assert_null(hb_cfg_parse_text(
			doc, hb_str(yamls[i]), &envoy__config__rbac__v3__rbac__descriptor));
		assert_true(hb_errs_any(hb_cfg_errs(doc)));
		doc_close();
	}
}

/* ------------------------------------------------------------------ explain */

static void
collect(void *arg, const char *subject, const char *verdict, const char *why)
{
	hb_text_printf(arg, "%s %s: %s\n", subject, verdict, why);
}

static void
test_explain(void **state)
{
	struct hb_text t = { 0 };
	struct hb_explain_sink sink = { .line = collect, .arg = &t };
	struct hb_facts f;

	(void)state;
	compile("{policies: {\n"
		"  a: {permissions: [{destination_port: 80}, {destination_port_range: {start: 90, end: "
		"100}}], " ANYBODY "},\n"
		"  b: {" ANYTHING
		", principals: [{not_id: {authenticated: {principal_name: {prefix: "
		"'spiffe://td/'}}}}]},\n"
		"  c: {" ANYTHING
		", principals: [{remote_ip: {address_prefix: 10.0.0.0, prefix_len: "
		"8}}]},\n"
		"  d: {" ANYTHING ", " ANYBODY "}}}");
	hb_facts_init(&f);
	assert_true(hb_addr_parse(HB_STR("10.0.0.1:443"), &f.local));
	assert_true(hb_addr_parse(HB_STR("10.0.0.2:5000"), &f.remote));
	hb_facts_tls_edit(&f)->principal = HB_STR("spiffe://td/ns/a/sa/b");
	hb_rbac_explain(rbac, &f, &sink);
	assert_string_equal(t.p,
		"connection facts: from 10.0.0.2:5000, to 10.0.0.1:443, server name \"\", authenticated as "
		"spiffe://td/ns/a/sa/b\n"
		"a lost: no permission matches: (destination_port 80 or destination_port 90-99)\n"
		"b lost: no principal matches: not authenticated name starts with \"spiffe://td/\"\n"
		"c match: permission any, principal remote_ip in 10.0.0.0/8\n"
		"rbac allow: policy \"c\" matches and the action is ALLOW\n");
	hb_text_fini(&t);
	hb_facts_fini(&f);
}

#define TEST(f) cmocka_unit_test_teardown(f, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_actions),
		TEST(test_sorted_by_name),
		TEST(test_permissions),
		TEST(test_addresses),
		TEST(test_authenticated),
		TEST(test_identity_of_a_stream),
		TEST(test_istio_shape),
		TEST(test_metadata),
		TEST(test_matcher),
		TEST(test_refused),
		TEST(test_http_rules_are_refused),
		TEST(test_explain),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

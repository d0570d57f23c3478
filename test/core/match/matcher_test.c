/* SPDX-License-Identifier: Apache-2.0 */
#include "test/core/match/doc.h"

#include <stdio.h>

#include "core/match/matcher_priv.h"
#include "test/core/match/chain_case.h"

#define INPUT(name)                                                                               \
	"input: {name: i, typed_config: {'@type': type.googleapis.com/envoy.extensions.matching." \
	"common_inputs.network.v3." name "}}"
#define KEY_INPUT(name, rest)                                                                     \
	"input: {name: i, typed_config: {'@type': type.googleapis.com/envoy.extensions.matching." \
	"common_inputs.network.v3." name ", " rest "}}"
#define SSL_INPUT(name)                                                                           \
	"input: {name: i, typed_config: {'@type': type.googleapis.com/envoy.extensions.matching." \
	"common_inputs.ssl.v3." name "}}"
#define ACTION(name)                                                                                  \
	"action: {name: a, typed_config: {'@type': type.googleapis.com/google.protobuf.StringValue, " \
	"value: " name "}}"
#define CUSTOM(type)                                                                                    \
	"custom_match: {name: c, typed_config: {'@type': type.googleapis.com/xds.type.matcher.v3." type \
	", "

static struct hb_matcher *matcher;

static void
compile(const char *yaml)
{
	const void *msg = doc_open(&xds__type__matcher__v3__matcher__descriptor, yaml);

	matcher = hb_matcher_compile(doc, msg, NULL, msg, NULL, NULL, NULL);
	for (size_t i = 0; i < hb_cfg_errs(doc)->n; i++)
		print_message("%s: %s\n", hb_cfg_errs(doc)->v[i].path, hb_cfg_errs(doc)->v[i].text);
	assert_non_null(matcher);
	doc_close();
}

static int
teardown(void **state)
{
	(void)state;
	hb_matcher_free(&matcher);
	doc_close();
	return (0);
}

static void
ignore_line(void *arg, const char *subject, const char *verdict, const char *why)
{
	(void)arg;
	assert_true(*subject != '\0' && *verdict != '\0' && *why != '\0');
}

static const char *
eval_facts(const struct hb_facts *f)
{
	const struct hb_explain_sink sink = { .line = ignore_line };
	const char *r = hb_matcher_eval(matcher, f);

	assert_ptr_equal(hb_matcher_explain(matcher, f, &sink), r);
	return (r == NULL ? "none" : r);
}

static const char *
eval(const char *conn)
{
	struct chain_case c;
	char line[1024];
	const char *r;

	(void)snprintf(line, sizeof line, "conn %s", conn);
	chain_case_parse(&c, hb_str(line));
	r = eval_facts(&c.conns[0]);
	chain_case_fini(&c);
	return (r);
}

#define EVAL(conn, action) assert_string_equal(eval(conn), action)

/* The documents are easier to read in lines of their own. */
/* clang-format off */

/* ------------------------------------------------------------------ trees */

/* As a gateway has it: an IP tree, then ports as decimal text. */
static void
test_ip_then_port(void **state)
{
	(void)state;
	compile("matcher_tree:\n"
		"  " INPUT("DestinationIPInput") "\n"
		"  " CUSTOM("IPMatcher") "range_matchers: [\n"
		"    {ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}], on_match: {matcher: {\n"
		"      matcher_tree: {" INPUT("DestinationPortInput") ",\n"
		"        exact_match_map: {map: {'80': {" ACTION("http") "}}}}}}},\n"
		"    {ranges: [{address_prefix: 10.1.0.0, prefix_len: 16},\n"
		"              {address_prefix: 'fd00::', prefix_len: 8}], on_match: {"
		ACTION("narrow") "}}]}}\n"
		"on_no_match: {" ACTION("fallback") "}\n");
	EVAL("local=10.9.9.9:80", "http");
	EVAL("local=10.9.9.9:81", "fallback"); /* nested miss: on_no_match of the outer one */
	EVAL("local=10.1.9.9:81", "narrow");
	EVAL("local=[fd00::1]:80", "narrow");
	EVAL("local=11.0.0.1:80", "fallback");
	EVAL("local=/run/x.sock", "fallback");
}

/* A narrower range without a result falls back to the wider one, unless that is exclusive. */
static void
test_exclusive(void **state)
{
	static const char fmt[] = "matcher_tree:\n"
		"  " INPUT("SourceIPInput") "\n"
		"  " CUSTOM("IPMatcher") "range_matchers: [\n"
		"    {ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}], exclusive: %s,\n"
		"     on_match: {" ACTION("wide") "}},\n"
		"    {ranges: [{address_prefix: 10.1.0.0, prefix_len: 16}], on_match: {matcher: {\n"
		"      matcher_tree: {" INPUT("ServerNameInput") ",\n"
		"        exact_match_map: {map: {a.com: {" ACTION("narrow") "}}}}}}}]}}\n";
	char yaml[2048];

	(void)state;
	(void)snprintf(yaml, sizeof yaml, fmt, "false");
	compile(yaml);
	EVAL("remote=10.1.0.1:1 sni=a.com", "narrow");
	EVAL("remote=10.1.0.1:1 sni=b.com", "wide");
	EVAL("remote=10.2.0.1:1 sni=b.com", "wide");
	hb_matcher_free(&matcher);
	(void)snprintf(yaml, sizeof yaml, fmt, "true");
	compile(yaml);
	EVAL("remote=10.1.0.1:1 sni=a.com", "narrow");
	EVAL("remote=10.1.0.1:1 sni=b.com", "none");
	EVAL("remote=10.2.0.1:1 sni=b.com", "wide");
}

/* The same range twice: in the order of the configuration. */
static void
test_equal_ranges(void **state)
{
	(void)state;
	compile("matcher_tree:\n"
		"  " INPUT("DirectSourceIPInput") "\n"
		"  " CUSTOM("IPMatcher") "range_matchers: [\n"
		"    {ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}], on_match: {matcher: {\n"
		"      matcher_tree: {" INPUT("SourcePortInput") ",\n"
		"        exact_match_map: {map: {'7': {" ACTION("seven") "}}}}}}},\n"
		"    {ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}], on_match: {"
		ACTION("rest") "}}]}}\n");
	EVAL("remote=10.1.0.1:7", "seven");
	EVAL("remote=10.1.0.1:8", "rest");
	EVAL("direct=11.1.0.1:7 remote=10.1.0.1:7", "none");
}

/* The offered protocols are one text, each in quotes, with commas. */
static void
test_protocols(void **state)
{
	(void)state;
	compile("matcher_tree:\n"
		"  " INPUT("ApplicationProtocolInput") "\n"
		"  exact_match_map: {map: {\"'h2c'\": {" ACTION("h2c") "},\n"
		"    \"'h2','http/1.1'\": {" ACTION("both") "}, h2: {" ACTION("never") "}}}\n");
	EVAL("alpn=h2c", "h2c");
	EVAL("alpn=h2,http/1.1", "both");
	EVAL("alpn=http/1.1,h2", "none");
	EVAL("alpn=h2", "none");
	EVAL("sni=a", "none");
}

static void
test_longest_protocols_fit(void **state)
{
	struct hb_facts f;
	char name[255];

	(void)state;
	compile("matcher_list: {matchers: [{predicate: {single_predicate: {\n"
		"  " INPUT("ApplicationProtocolInput") ", value_match: {suffix: \"x'\"}}},\n"
						       "  on_match: {" ACTION("all") "}}]}\n");
	memset(name, 'x', sizeof name);
	hb_facts_init(&f);
	while (hb_facts_alpn_add(&f, hb_strn(name, sizeof name)))
		;
	assert_int_equal(hb_facts_hello(&f)->n_alpn, HB_FACTS_ALPN_MAX);
	assert_string_equal(eval_facts(&f), "all");
	hb_facts_fini(&f);
}

static void
test_prefixes(void **state)
{
	(void)state;
	compile("matcher_tree:\n"
		"  " INPUT("ServerNameInput") "\n"
		"  prefix_match_map: {map: {\n"
		"    outbound_: {" ACTION("out") "},\n"
		"    outbound_.80: {" ACTION("eighty") "},\n"
		"    outbound_.8080: {matcher: {matcher_tree: {" INPUT("TransportProtocolInput")
		",\n"
		"      exact_match_map: {map: {tls: {" ACTION("long") "}}}}}},\n"
		"    z: {" ACTION("z") "}, outbound_.9: {" ACTION("nine") "}}}\n");
	EVAL("sni=outbound_.8080_._.x transport=tls", "long");
	EVAL("sni=outbound_.8080_._.x", "eighty"); /* the nested one has no result */
	EVAL("sni=outbound_.80", "eighty");
	EVAL("sni=outbound_.85_._.x", "out");
	EVAL("sni=outbound_.99", "nine");
	EVAL("sni=zebra", "z");
	EVAL("sni=outbound", "none");
	EVAL("sni=a", "none");
}

static void
test_server_names(void **state)
{
	(void)state;
	compile("matcher_tree:\n"
		"  " INPUT("ServerNameInput") "\n"
		"  " CUSTOM("ServerNameMatcher") "domain_matchers: [\n"
		"    {domains: [WWW.example.com, example.com], on_match: {" ACTION("exact") "}},\n"
		"    {domains: ['*.example.com'], on_match: {" ACTION("sub") "}},\n"
		"    {domains: [b.example.com], on_match: {keep_matching: true, " ACTION("kept")
		"}},\n"
		"    {domains: ['*.com'], on_match: {" ACTION("com") "}},\n"
		"    {domains: ['*'], on_match: {" ACTION("all") "}}]}}\n"
		"on_no_match: {" ACTION("nothing") "}\n");
	EVAL("sni=www.example.com", "exact");
	EVAL("sni=example.com", "exact");
	EVAL("sni=x.y.example.com", "sub");
	EVAL("sni=b.example.com", "sub"); /* kept, so the search goes on */
	EVAL("sni=x.com", "com");
	EVAL("sni=com", "all");
	EVAL("sni=.com", "all");
	EVAL("sni=x.org", "all");
	EVAL("local=1.1.1.1:1", "nothing"); /* no value is not even `*` */
}

static void
test_state_and_metadata(void **state)
{
	struct hb_facts below, f;

	(void)state;
	compile("matcher_tree:\n"
		"  " KEY_INPUT("FilterStateInput", "key: io.istio.connect_authority") "\n"
		"  exact_match_map: {map: {'svc:80': {matcher: {matcher_tree: {\n"
		"    " KEY_INPUT("DynamicMetadataInput", "filter: n, path: [{key: a}, {key: b}]")
		",\n"
		"    exact_match_map: {map: {x: {" ACTION("yes") "}}}}}}}}\n");
	hb_facts_init(&below);
	hb_facts_init(&f);
	f.parent = &below;
	assert_string_equal(eval_facts(&f), "none");
	hb_facts_state_set(
		&below, HB_STR("io.istio.connect_authority"), HB_STR("svc:80"), false, 0);
	assert_string_equal(eval_facts(&f), "none");
	hb_facts_metadata_set(&f, HB_STR("n"), HB_STR("a.b"), HB_STR("x"));
	assert_string_equal(eval_facts(&f), "yes");
	hb_facts_fini(&f);
	hb_facts_fini(&below);
}

static void
test_ssl_and_source_type(void **state)
{
	struct hb_facts f;

	(void)state;
	compile("matcher_tree:\n"
		"  " SSL_INPUT("UriSanInput") "\n"
		"  prefix_match_map: {map: {'spiffe://td/': {" ACTION("td") "}}}\n"
		"on_no_match: {matcher: {matcher_tree: {" INPUT("SourceTypeInput") ",\n"
		"  exact_match_map: {map: {local: {" ACTION("local") "}}}}}}\n");
	hb_facts_init(&f);
	assert_string_equal(eval_facts(&f), "none");
	assert_true(hb_addr_parse(HB_STR("127.0.0.1:1"), &f.remote));
	assert_string_equal(eval_facts(&f), "local");
	hb_facts_tls_edit(&f)->principal = HB_STR("spiffe://td/ns/a/sa/b");
	assert_string_equal(eval_facts(&f), "td");
	hb_facts_fini(&f);
}

/* ------------------------------------------------------------------ lists */

static void
test_list(void **state)
{
	(void)state;
	compile("matcher_list: {matchers: [\n"
		"  {predicate: {and_matcher: {predicate: [\n"
		"     {single_predicate: {" INPUT("ServerNameInput")
		", value_match: {suffix: .com}}},\n"
		"     {not_matcher: {single_predicate: {" INPUT("DestinationPortInput")
		", value_match: {exact: '80'}}}}]}},\n"
		"   on_match: {" ACTION("com") "}},\n"
		"  {predicate: {or_matcher: {predicate: [\n"
		"     {single_predicate: {" INPUT("ServerNameInput")
		", value_match: {exact: a.org}}},\n"
		"     {single_predicate: {" INPUT("SourcePortInput")
		", value_match: {exact: '7'}}}]}},\n"
		"   on_match: {" ACTION("or") "}},\n"
		"  {predicate: {not_matcher: {single_predicate: {" INPUT("ServerNameInput")
		", value_match: {contains: .}}}},\n"
		"   on_match: {" ACTION("nameless") "}}]}\n");
	EVAL("local=1.1.1.1:443 sni=a.com", "com");
	EVAL("local=1.1.1.1:80 sni=a.com remote=1.1.1.1:7", "or");
	EVAL("local=1.1.1.1:80 sni=a.com", "none");
	EVAL("sni=a.org", "or");
	EVAL("local=1.1.1.1:443", "nameless"); /* no value: the condition does not hold, not does */
}

/* An entry that holds but has no result, and one that is kept, do not end the list. */
static void
test_list_goes_on(void **state)
{
	(void)state;
	compile("matcher_list: {matchers: [\n"
		"  {predicate: {single_predicate: {" INPUT("ServerNameInput")
		", value_match: {prefix: a}}}, on_match: {keep_matching: true, " ACTION("kept")
		"}},\n"
		"  {predicate: {single_predicate: {" INPUT("ServerNameInput")
		", value_match: {prefix: a}}}, on_match: {matcher: {matcher_tree: {"
		INPUT("DestinationPortInput") ", exact_match_map: {map: {'80': {" ACTION("eighty")
		"}}}}}}},\n"
		"  {predicate: {single_predicate: {" INPUT("ServerNameInput")
		", value_match: {prefix: a}}}, on_match: {" ACTION("last") "}}]}\n");
	EVAL("local=1.1.1.1:80 sni=a", "eighty");
	EVAL("local=1.1.1.1:81 sni=a", "last");
	EVAL("local=1.1.1.1:81 sni=b", "none");
}

static void
test_keep_on_no_match(void **state)
{
	(void)state;
	compile("on_no_match: {keep_matching: true, " ACTION("kept") "}\n");
	EVAL("sni=a", "none");
	hb_matcher_free(&matcher);
	compile("on_no_match: {" ACTION("always") "}\n");
	EVAL("sni=a", "always");
}

static void
count_action(void *arg, const void *action)
{
	char *all = arg;

	(void)strcat(strcat(all, action), ";");
}

static void
test_actions(void **state)
{
	char all[64] = "";

	(void)state;
	compile("matcher_tree: {" INPUT("ServerNameInput")
		", exact_match_map: {map: {a: {matcher: {\n"
		"  on_no_match: {" ACTION("one") "}}}}}}\n"
		"on_no_match: {" ACTION("two") "}\n");
	hb_matcher_actions(matcher, count_action, all);
	assert_string_equal(all, "one;two;");
}

/* ------------------------------------------------------------------ what is refused */

static void
refused(const char *yaml, const char *path, const char *words)
{
	const void *msg = doc_open(&xds__type__matcher__v3__matcher__descriptor, yaml);

	matcher = hb_matcher_compile(doc, msg, NULL, msg, NULL, NULL, NULL);
	assert_null(matcher);
	doc_assert_error(path, words);
	doc_close();
}

static void
test_refused(void **state)
{
	(void)state;
	refused("{}", "", "needs one of matcher_list, matcher_tree");
	refused("{matcher_list: {}}", "matcher_list.matchers", "at least one");
	refused("{on_no_match: {}}", "on_no_match", "needs one of matcher, action");
	refused("{matcher_tree: {exact_match_map: {map: {a: {" ACTION("x") "}}}}}",
		"matcher_tree.input", "name what is looked at");
	refused("{matcher_tree: {" INPUT("ServerNameInput") "}}", "matcher_tree",
		"needs one of exact");
	refused("{matcher_tree: {" INPUT("ServerNameInput") ", exact_match_map: {}}}",
		"matcher_tree.exact_match_map.map", "at least one");
	refused("{matcher_tree: {" KEY_INPUT("FilterStateInput",
			"key: ''") ", exact_match_map: {map: {a: {" ACTION("x") "}}}}}",
		"matcher_tree.input.typed_config.key", "must not be empty");
	refused("{matcher_tree: {input: {name: i, typed_config: {'@type': "
		"type.googleapis.com/google.protobuf.StringValue, value: x}}, exact_match_map: {map: {a: {"
		ACTION("x") "}}}}}", "matcher_tree.input.typed_config", "not an input");
	refused("{on_no_match: {action: {name: a, typed_config: {'@type': "
		"type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.ServerNameInput}}}}",
		"on_no_match.action.typed_config", "is no action here");
	refused("{on_no_match: {" ACTION("''") "}}", "on_no_match.action.typed_config",
		"must not be empty");
	refused("{matcher_tree: {" INPUT("ServerNameInput") ", " CUSTOM("ServerNameMatcher")
		"domain_matchers: [{domains: ['*foo'], on_match: {" ACTION("x") "}}]}}}}",
		"matcher_tree.custom_match.typed_config.domain_matchers[0].domains[0]",
		"is no server name");
	refused("{matcher_tree: {" INPUT("ServerNameInput") ", " CUSTOM("ServerNameMatcher")
		"domain_matchers: [{domains: [a.com, A.com], on_match: {" ACTION("x") "}}]}}}}",
		"matcher_tree.custom_match.typed_config.domain_matchers[0].domains[1]",
		"there twice");
	refused("{matcher_tree: {" INPUT("SourceIPInput") ", " CUSTOM("IPMatcher")
		"range_matchers: [{ranges: [{address_prefix: x}], on_match: {" ACTION("x") "}}]}}}}",
		"matcher_tree.custom_match.typed_config.range_matchers[0].ranges[0]",
		"not an IP address");
	refused(
		"{matcher_list: {matchers: [{predicate: {and_matcher: {predicate: [{single_predicate: {"
		INPUT("ServerNameInput") ", value_match: {exact: a}}}]}}, on_match: {" ACTION("x")
		"}}]}}", "matcher_list.matchers[0].predicate.and_matcher.predicate", "at least two");
	refused("{matcher_list: {matchers: [{on_match: {" ACTION("x") "}}]}}",
		"matcher_list.matchers[0].predicate", "needs one of single_predicate");
	refused("{matcher_list: {matchers: [{predicate: {single_predicate: {"
		INPUT("ServerNameInput") "}}, on_match: {" ACTION("x") "}}]}}",
		"matcher_list.matchers[0].predicate.single_predicate.value_match",
		"needs one of exact");
}

static void
test_depth(void **state)
{
	struct hb_text yaml = { 0 };
	const void *msg;

	(void)state;
	for (unsigned i = 0; i <= HB_MATCHER_DEPTH_MAX; i++)
		hb_text_addz(&yaml, "{on_no_match: {matcher: ");
	hb_text_addz(&yaml, "{on_no_match: {" ACTION("deep") "}}");
	for (unsigned i = 0; i <= HB_MATCHER_DEPTH_MAX; i++)
		hb_text_addz(&yaml, "}}");
	msg = doc_open(&xds__type__matcher__v3__matcher__descriptor, yaml.p);
	assert_null(hb_matcher_compile(doc, msg, NULL, msg, NULL, NULL, NULL));
	assert_int_equal(hb_cfg_errs(doc)->n, 1);
	assert_non_null(strstr(hb_cfg_errs(doc)->v[0].text, "nested deeper than 32"));
	hb_text_fini(&yaml);
	doc_close();
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
	struct chain_case c;

	(void)state;
	compile("matcher_list: {matchers: [\n"
		"  {predicate: {not_matcher: {single_predicate: {" INPUT("ServerNameInput")
		", value_match: {suffix: .com}}}}, on_match: {" ACTION("x") "}}]}\n"
		"on_no_match: {matcher: {matcher_tree: {" INPUT("DestinationIPInput") ", "
		CUSTOM("IPMatcher")
		"range_matchers: [{ranges: [{address_prefix: 10.0.0.0, prefix_len: "
		"8}], on_match: {" ACTION("ten") "}}]}}}}}\n");
	chain_case_parse(&c, HB_STR("conn local=10.2.3.4:80 sni=a.com"));
	assert_string_equal(hb_matcher_explain(matcher, &c.conns[0], &sink), "ten");
	chain_case_fini(&c);
	assert_string_equal(t.p,
		"matcher_list[0] lost: not (server name ends with \".com\")\n"
		"on_no_match match: nothing before it had a result\n"
		"IPMatcher match: local address is \"10.2.3.4\": the best entry is 10.0.0.0/8\n"
		"ten chosen: the matcher's action names it\n");
	hb_text_fini(&t);
}

#define TEST(f) cmocka_unit_test_teardown(f, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_ip_then_port),
		TEST(test_exclusive),
		TEST(test_equal_ranges),
		TEST(test_protocols),
		TEST(test_longest_protocols_fit),
		TEST(test_prefixes),
		TEST(test_server_names),
		TEST(test_state_and_metadata),
		TEST(test_ssl_and_source_type),
		TEST(test_list),
		TEST(test_list_goes_on),
		TEST(test_keep_on_no_match),
		TEST(test_actions),
		TEST(test_refused),
		TEST(test_depth),
		TEST(test_explain),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "test/core/match/doc.h"

#include "core/match/match.h"
#include "core/match/regex.h"
#include "envoy/type/matcher/v3/string.pb-c.h"
#include "xds/type/matcher/v3/string.pb-c.h"

static struct hb_string_matcher *
compile(const ProtobufCMessageDescriptor *desc, const char *yaml)
{
	const void *msg = doc_open(desc, yaml);

	return (hb_string_matcher_compile(doc, msg, NULL, -1, msg));
}

static bool
match_len(const char *yaml, struct hb_str value)
{
	struct hb_string_matcher *m = compile(
		&envoy__type__matcher__v3__string_matcher__descriptor, yaml);
	struct hb_string_matcher *x;
	bool r;

	assert_non_null(m);
	r = hb_string_match(m, value);
	hb_string_matcher_free(&m);
	doc_close();
	/* The xDS message means the same. */
	x = compile(&xds__type__matcher__v3__string_matcher__descriptor, yaml);
	assert_non_null(x);
	assert_int_equal(hb_string_match(x, value), r);
	hb_string_matcher_free(&x);
	doc_close();
	return (r);
}

static bool
match(const char *yaml, const char *value)
{
	return (match_len(yaml, hb_str(value)));
}

static void
test_exact(void **state)
{
	(void)state;
	assert_true(match("{exact: abc}", "abc"));
	assert_false(match("{exact: abc}", "ABC"));
	assert_false(match("{exact: abc}", "abcd"));
	assert_false(match("{exact: abc}", "ab"));
	assert_true(match("{exact: aBc, ignore_case: true}", "AbC"));
	assert_true(match("{exact: ''}", ""));
	assert_true(match_len("{exact: ''}", (struct hb_str){ 0 }));
	assert_false(match("{exact: ''}", "a"));
	assert_false(match_len("{exact: ab}", HB_STR("ab\0")));
}

static void
test_parts(void **state)
{
	(void)state;
	assert_true(match("{prefix: ab}", "abc"));
	assert_true(match("{prefix: ab}", "ab"));
	assert_false(match("{prefix: ab}", "a"));
	assert_false(match("{prefix: ab}", "xab"));
	assert_true(match("{prefix: AB, ignore_case: true}", "aBc"));
	assert_true(match("{suffix: bc}", "abc"));
	assert_false(match("{suffix: bc}", "bcd"));
	assert_false(match("{suffix: bc}", "c"));
	assert_true(match("{suffix: .Example.com, ignore_case: true}", "a.example.COM"));
	assert_true(match("{contains: ss}", "mississippi"));
	assert_true(match("{contains: /ns/a/}", "spiffe://td/ns/a/sa/b"));
	assert_false(match("{contains: /ns/a/}", "spiffe://td/ns/ab/sa/b"));
	assert_true(match("{contains: PPI, ignore_case: true}", "mississippi"));
	assert_false(match("{contains: ppix, ignore_case: true}", "mississippi"));
	assert_false(match_len("{contains: a}", (struct hb_str){ 0 }));
	assert_false(match_len("{prefix: a}", (struct hb_str){ 0 }));
}

static void
test_regex(void **state)
{
	(void)state;
	assert_true(match("{safe_regex: {regex: '.*/ns/a/.*'}}", "spiffe://td/ns/a/sa/b"));
	assert_false(match("{safe_regex: {regex: 'a'}}", "aa")); /* the whole text */
	assert_true(match("{safe_regex: {regex: '(?i)a+'}}", "aAa"));
	assert_true(match("{safe_regex: {regex: 'a*'}}", ""));
	assert_true(match_len("{safe_regex: {regex: 'a*'}}", (struct hb_str){ 0 }));
	assert_false(match("{safe_regex: {regex: '.+'}}", ""));
	assert_false(match("{safe_regex: {regex: 'a.b'}}", "a\nb"));
}

static void
refused(const char *yaml, const char *path, const char *words)
{
	assert_null(compile(&envoy__type__matcher__v3__string_matcher__descriptor, yaml));
	doc_assert_error(path, words);
	doc_close();
}

static void
test_refused(void **state)
{
	(void)state;
	refused("{}", "", "needs one of exact");
	refused("{ignore_case: true}", "", "needs one of exact");
	refused("{prefix: ''}", "prefix", "must not be empty");
	refused("{suffix: ''}", "suffix", "must not be empty");
	refused("{contains: ''}", "contains", "must not be empty");
	refused("{safe_regex: {}}", "safe_regex.regex", "must not be empty");
	refused("{safe_regex: {regex: '('}}", "safe_regex.regex", "missing )");
	refused("{safe_regex: {regex: '(a)\\1'}}", "safe_regex.regex", "invalid escape");
	refused("{safe_regex: {regex: '(?=a)'}}", "safe_regex.regex", "no RE2 expression");
	/* Compiled size is limited, not only length. */
	refused("{safe_regex: {regex: '((((a{30}){30}){30}){30})'}}", "safe_regex.regex",
		"no RE2 expression");
}

static void
test_too_long(void **state)
{
	char why[64], *big = hb_calloc(1, HB_REGEX_MAX + 2);

	(void)state;
	memset(big, 'a', HB_REGEX_MAX + 1);
	assert_null(hb_regex_new(big, HB_REGEX_MAX + 1, why, sizeof why));
	assert_non_null(strstr(why, "longer than"));
	hb_free(big);
}

static void
test_warning(void **state)
{
	struct hb_string_matcher *m = compile(&envoy__type__matcher__v3__string_matcher__descriptor,
		"{safe_regex: {regex: a}, ignore_case: true}");

	(void)state;
	assert_non_null(m);
	assert_int_equal(hb_cfg_warnings(doc)->n, 1);
	assert_non_null(strstr(hb_cfg_warnings(doc)->v[0].text, "(?i)"));
	hb_string_matcher_free(&m);
	doc_close();
}

/* What takes exponential time elsewhere is linear here. */
static void
test_linear(void **state)
{
	char why[64], text[4096];
	struct hb_regex *r = hb_regex_new("(a*)*(a|aa)*b", 13, why, sizeof why);

	(void)state;
	assert_non_null(r);
	memset(text, 'a', sizeof text);
	for (unsigned i = 0; i < 100; i++)
		assert_false(hb_regex_full(r, text, sizeof text));
	hb_regex_free(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_regex),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_warning),
		cmocka_unit_test(test_linear),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

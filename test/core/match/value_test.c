/* SPDX-License-Identifier: Apache-2.0 */
#include "test/core/match/doc.h"

#include "core/match/match_priv.h"
#include "envoy/type/matcher/v3/filter_state.pb-c.h"
#include "envoy/type/matcher/v3/metadata.pb-c.h"

static bool
metadata(const char *yaml, const char *value)
{
	const void *msg = doc_open(&envoy__type__matcher__v3__metadata_matcher__descriptor, yaml);
	struct hb_metadata_matcher *m = hb_metadata_matcher_compile(doc, msg, NULL, msg);
	struct hb_facts f;
	bool r;

	assert_non_null(m);
	hb_facts_init(&f);
	if (value != NULL)
		assert_true(hb_facts_metadata_set(&f, HB_STR("n"), HB_STR("a.b"), hb_str(value)));
	r = hb_metadata_match(m, &f);
	hb_facts_fini(&f);
	hb_metadata_matcher_free(&m);
	doc_close();
	return (r);
}

#define AB "filter: n, path: [{key: a}, {key: b}]"

static void
test_metadata(void **state)
{
	(void)state;
	assert_true(metadata("{" AB ", value: {string_match: {exact: x}}}", "x"));
	assert_false(metadata("{" AB ", value: {string_match: {exact: x}}}", "y"));
	assert_false(metadata("{" AB ", value: {string_match: {exact: x}}}", NULL));
	assert_true(metadata("{" AB ", value: {string_match: {exact: x}}, invert: true}", NULL));
	assert_true(metadata("{" AB ", value: {present_match: true}}", ""));
	assert_false(metadata("{" AB ", value: {present_match: true}}", NULL));
	assert_true(metadata("{" AB ", value: {bool_match: true}}", "true"));
	assert_false(metadata("{" AB ", value: {bool_match: true}}", "false"));
	assert_true(metadata("{" AB ", value: {bool_match: false}}", "false"));
	assert_true(metadata("{" AB ", value: {double_match: {exact: 1.5}}}", "1.5"));
	assert_false(metadata("{" AB ", value: {double_match: {exact: 1.5}}}", "1.5x"));
	assert_false(metadata("{" AB ", value: {double_match: {exact: 1.5}}}", ""));
	assert_true(metadata("{" AB ", value: {double_match: {range: {start: 1, end: 2}}}}", "1"));
	assert_false(metadata("{" AB ", value: {double_match: {range: {start: 1, end: 2}}}}", "2"));
	assert_false(
		metadata("{" AB ", value: {double_match: {range: {start: 1, end: 2}}}}", "nan"));
	assert_true(metadata("{" AB ", value: {or_match: {value_matchers: [{bool_match: true}, "
			     "{string_match: {prefix: x}}]}}}",
		"xy"));
	assert_false(
		metadata("{filter: other, path: [{key: a}], value: {present_match: true}}", "x"));
}

static void
metadata_refused(const char *yaml, const char *path, const char *words)
{
	const void *msg = doc_open(&envoy__type__matcher__v3__metadata_matcher__descriptor, yaml);

	assert_null(hb_metadata_matcher_compile(doc, msg, NULL, msg));
	doc_assert_error(path, words);
	doc_close();
}

static void
test_metadata_refused(void **state)
{
	(void)state;
	metadata_refused("{path: [{key: a}], value: {bool_match: true}}", "filter", "namespace");
	metadata_refused("{filter: n, value: {bool_match: true}}", "path", "at least one");
	metadata_refused("{filter: n, path: [{}], value: {bool_match: true}}", "path[0]", "a key");
	metadata_refused("{" AB "}", "value", "needs one of");
	metadata_refused("{" AB ", value: {}}", "value", "needs one of");
	metadata_refused(
		"{" AB ", value: {present_match: false}}", "value.present_match", "invert");
	metadata_refused("{" AB ", value: {double_match: {range: {start: 2, end: 2}}}}",
		"value.double_match.range", "empty");
	metadata_refused("{" AB ", value: {or_match: {value_matchers: [{bool_match: true}]}}}",
		"value.or_match", "at least two");
}

static bool
state_match(const char *yaml, const char *value)
{
	const void *msg = doc_open(
		&envoy__type__matcher__v3__filter_state_matcher__descriptor, yaml);
	struct hb_state_matcher *m = hb_state_matcher_compile(doc, msg, NULL, msg);
	struct hb_facts below, f;
	bool r;

	assert_non_null(m);
	hb_facts_init(&below);
	hb_facts_init(&f);
	f.parent = &below;
	if (value != NULL)
		assert_true(hb_facts_state_set(&below, HB_STR("k"), hb_str(value), false, 0));
	r = hb_state_match(m, &f);
	hb_facts_fini(&f);
	hb_facts_fini(&below);
	hb_state_matcher_free(&m);
	doc_close();
	return (r);
}

static void
test_state(void **state)
{
	const char *ranges =
		"{key: k, address_match: {ranges: [{address_prefix: 10.0.0.0, prefix_len: "
		"8}, {address_prefix: 'fd00::', prefix_len: 8}]}}";

	(void)state;
	assert_true(state_match("{key: k, string_match: {prefix: spiffe}}", "spiffe://x"));
	assert_false(state_match("{key: k, string_match: {prefix: spiffe}}", NULL));
	assert_false(state_match("{key: j, string_match: {prefix: spiffe}}", "spiffe://x"));
	assert_true(state_match(ranges, "10.1.2.3"));
	assert_true(state_match(ranges, "10.1.2.3:80"));
	assert_true(state_match(ranges, "[fd00::1]:80"));
	assert_false(state_match(ranges, "11.1.2.3"));
	assert_false(state_match(ranges, "ten"));
	assert_false(state_match(ranges, NULL));
}

static void
state_refused(const char *yaml, const char *path, const char *words)
{
	const void *msg = doc_open(
		&envoy__type__matcher__v3__filter_state_matcher__descriptor, yaml);

	assert_null(hb_state_matcher_compile(doc, msg, NULL, msg));
	doc_assert_error(path, words);
	doc_close();
}

static void
test_state_refused(void **state)
{
	(void)state;
	state_refused("{string_match: {exact: a}}", "key", "must not be empty");
	state_refused("{key: k}", "", "needs one of");
	state_refused("{key: k, address_match: {}}", "address_match.ranges", "at least one");
	state_refused("{key: k, address_match: {ranges: [{address_prefix: x}]}}",
		"address_match.ranges[0]", "not an IP address");
}

/* Forgetting prefix_len is an old trap. */
static void
test_prefix_len_warning(void **state)
{
	const void *msg = doc_open(&envoy__type__matcher__v3__filter_state_matcher__descriptor,
		"{key: k, address_match: {ranges: [{address_prefix: 10.0.0.1}, {address_prefix: "
		"0.0.0.0}]}}");
	struct hb_state_matcher *m = hb_state_matcher_compile(doc, msg, NULL, msg);

	(void)state;
	assert_non_null(m);
	assert_int_equal(hb_cfg_warnings(doc)->n, 1);
	assert_non_null(strstr(hb_cfg_warnings(doc)->v[0].text, "set prefix_len: 32"));
	hb_state_matcher_free(&m);
	doc_close();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_metadata),
		cmocka_unit_test(test_metadata_refused),
		cmocka_unit_test(test_state),
		cmocka_unit_test(test_state_refused),
		cmocka_unit_test(test_prefix_len_warning),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

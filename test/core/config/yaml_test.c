/* SPDX-License-Identifier: Apache-2.0 */
/* Text to nodes: syntax, aliases, limits. */
#include "test/core/config/support.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "google/protobuf/struct.pb-c.h"

#define LISTENER DESC(envoy__config__listener__v3__listener)
#define STRUCT   DESC(google__protobuf__struct)

static void
test_syntax(void **state)
{
	expect_errors("", LISTENER, "the document is empty", NULL);
	expect_errors("name: [a", LISTENER,
		"2:1: not valid YAML: did not find expected ',' or ']', while parsing a flow sequence",
		NULL);
	expect_errors("name: a\n  b: c", LISTENER,
		"2:4: not valid YAML: mapping values are not allowed in this context", NULL);
	expect_errors("name: a\n---\nname: b", LISTENER,
		"2:1: only one document may stand in a file", NULL);
	expect_errors("name: \"a\\0b\"", LISTENER, "1:7: the text holds a NUL character", NULL);
	expect_errors(
		"name: !secret a", LISTENER, "1:7: tags other than !!str are not supported", NULL);
	expect_errors("name: !!binary YQ==", LISTENER,
		"1:7: tags other than !!str are not supported", NULL);
	expect_errors("filter_chains: !x []", LISTENER, "1:16: tags are not supported", NULL);
	expect_errors("[a]: b", LISTENER, "1:1: a key must be text, not a list", NULL);
	expect_errors("- a", LISTENER,
		"1:1: must be a mapping with fields of envoy.config.listener.v3.Listener, not a list",
		NULL);
	expect_errors("name: \xff", LISTENER,
		"not readable as text: invalid leading UTF-8 octet (byte 6)", NULL);
}

static void
test_keys(void **state)
{
	expect_errors("name: a\nname: b", LISTENER,
		"2:1: \"name\" stands twice here, first in line 1", NULL);
	expect_errors("stat_prefix: a\nstatPrefix: b", LISTENER,
		"2:1: statPrefix: the field stands here twice, as \"stat_prefix\" too", NULL);
	expect_errors("base: &b {name: a}\n<<: *b\n", STRUCT,
		"2:1: merge keys (<<) are not supported: repeat the fields, or use an alias for a whole value",
		NULL);
	expect_json("\"<<\": 1", STRUCT, "{\"<<\":1}");
}

static void
test_aliases(void **state)
{
	expect_json("a: &x [1, {b: two}]\nc: *x\nd: &x 3\ne: *x", STRUCT,
		"{\"a\":[1,{\"b\":\"two\"}],\"c\":[1,{\"b\":\"two\"}],\"d\":3,\"e\":3}");
	expect_errors("a: *x", STRUCT, "1:4: the alias *x has no anchor before it", NULL);
	expect_errors("a: &x [1, *x]", STRUCT,
		"1:11: the alias stands inside the value that it refers to", NULL);
	expect_errors("a: &x {b: {c: *x}}", STRUCT,
		"1:15: the alias stands inside the value that it refers to", NULL);
}

static void
expect_limit(const char *text, const struct hb_cfg_limits *limits, ...)
{
	struct hb_cfg *cfg = hb_cfg_new("t.yaml", limits);
	va_list ap;

	assert_null(hb_cfg_parse_text(cfg, hb_str(text), STRUCT));
	va_start(ap, limits);
	expect_cfg_errors(cfg, "t.yaml", ap);
	va_end(ap);
	hb_cfg_free(&cfg);
}

static void
test_limits(void **state)
{
	const char *many =
		"1:17: too many values in the document (aliases count for what they stand for)";

	expect_limit("a: 0123456789", &(struct hb_cfg_limits){ .bytes_max = 12 },
		"the document has more than 12 bytes", NULL);
	expect_limit("a: {b: {c: {d: 1}}}", &(struct hb_cfg_limits){ .depth_max = 3 },
		"1:13: nested too deeply", NULL);
	expect_limit("a: [1, 2, 3, 4, 5]", &(struct hb_cfg_limits){ .nodes_max = 5 }, many, NULL);
	expect_limit("a: &x 1\nb: [*x, *x, *x]", &(struct hb_cfg_limits){ .aliases_max = 2 },
		"2:13: too many aliases in the document", NULL);
	/* The alias brings three levels to a place where two are allowed. */
	expect_limit("a: &x [[[1]]]\nb: {c: {d: *x}}", &(struct hb_cfg_limits){ .depth_max = 5 },
		"2:12: nested too deeply", NULL);
}

/* Ten levels of nine aliases each would be 3.5 billion values. */
static void
test_alias_bomb(void **state)
{
	struct hb_text t = { 0 };
	struct hb_cfg *cfg = hb_cfg_new("t.yaml", NULL);

	hb_text_addz(&t, "a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
	for (int i = 1; i <= 10; i++) {
		hb_text_printf(&t, "a%d: &a%d [", i, i);
		for (int k = 0; k < 9; k++)
			hb_text_printf(&t, "%s*a%d", k == 0 ? "" : ", ", i - 1);
		hb_text_addz(&t, "]\n");
	}
	assert_null(hb_cfg_parse_text(cfg, hb_str(t.p), STRUCT));
	assert_int_equal(hb_cfg_errs(cfg)->n, 1);
	assert_non_null(strstr(hb_cfg_errs(cfg)->v[0].text, "too many values"));
	hb_cfg_free(&cfg);
	hb_text_fini(&t);
}

/* One long text is repeated, not many values. */
static void
test_alias_bomb_of_text(void **state)
{
	struct hb_text t = { 0 };
	struct hb_cfg *cfg = hb_cfg_new("t.yaml", NULL);

	hb_text_addz(&t, "a: &a ");
	for (int i = 0; i < 100000; i++)
		hb_text_addz(&t, "xxxxxxxxxx");
	hb_text_addz(&t, "\nb: [");
	for (int i = 0; i < 50000; i++)
		hb_text_addz(&t, "*a, ");
	hb_text_addz(&t, "]\n");
	assert_null(hb_cfg_parse_text(cfg, hb_str(t.p), STRUCT));
	assert_non_null(strstr(hb_cfg_errs(cfg)->v[0].text, "too many values"));
	hb_cfg_free(&cfg);
	hb_text_fini(&t);
}

static void
test_json_text(void **state)
{
	expect_json("{\"a\":1,\"b\":\"x\\/\\u00e4\\ud83d\\ude00\",\n\t\"c\":[true,null,-1.5e3]}",
		STRUCT, "{\"a\":1,\"b\":\"x/\xc3\xa4\xf0\x9f\x98\x80\",\"c\":[true,null,-1500]}");
	/* An escaped backslash before ud83d is no surrogate. */
	expect_json("{\"a\": \"\\\\ud83d\\\\ude00\"}", STRUCT, "{\"a\":\"\\\\ud83d\\\\ude00\"}");
}

static void
test_plain_values(void **state)
{
	expect_json(
		"a: 007\nb: +1\nc: 1.50\nd: true\ne: \"true\"\nf: ~\ng:\nh: yes\ni: .5\nj: 0.5\nk: 1e400",
		STRUCT,
		"{\"a\":\"007\",\"b\":\"+1\",\"c\":1.5,\"d\":true,\"e\":\"true\",\"f\":null,\"g\":null,"
		"\"h\":\"yes\",\"i\":\".5\",\"j\":0.5,\"k\":\"1e400\"}");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_syntax),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_aliases),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_alias_bomb),
		cmocka_unit_test(test_alias_bomb_of_text),
		cmocka_unit_test(test_json_text),
		cmocka_unit_test(test_plain_values),
	};

	return (cmocka_run_group_tests_name("yaml", tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/mesh/headers.h"

/* ------------------------------------------------------------------ traceparent */

static void
test_trace_good(void **state)
{
	static const char *const good[] = {
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"00-00000000000000000000000000000001-0000000000000001-ff",
	};
	char text[HB_TRACEPARENT_LEN + 1];
	struct hb_trace t, child;

	(void)state;
	for (size_t i = 0; i < HB_ARRAY_LEN(good); i++) {
		assert_true(hb_trace_parse(hb_str(good[i]), &t));
		hb_trace_format(&t, text);
		assert_string_equal(text, good[i]);
		hb_trace_child(&t, &child);
		assert_memory_equal(child.trace_id, t.trace_id, sizeof t.trace_id);
		assert_memory_not_equal(child.parent_id, t.parent_id, sizeof t.parent_id);
		assert_int_equal(child.flags, t.flags);
	}
}

static void
test_trace_bad(void **state)
{
	static const char *const bad[] = {
		"",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-001",
		"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
		"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
		"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-00",
		"00-0gf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333x-00",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0 ",
		"00-00000000000000000000000000000000-b7ad6b7169203331-00",
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-00",
		/* 55 characters without enough dashes. */
		"0000af7651916cd43dd8448eb211c80319cb7ad6b71692033310000",
		"00-0af7651916cd43dd8448eb211c80319cab7ad6b7169203331-00",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033310000",
		"-------------------------------------------------------",
		"0000000000000000000000000000000000000000000000000000000",
		"00-0af7651916cd43dd8448eb211c80319c-+7ad6b7169203331-00",
	};
	struct hb_trace t;

	(void)state;
	for (size_t i = 0; i < HB_ARRAY_LEN(bad); i++) {
		if (hb_trace_parse(hb_str(bad[i]), &t))
			fail_msg("%s", bad[i]);
	}
}

static void
test_trace_new(void **state)
{
	char a[HB_TRACEPARENT_LEN + 1], b[HB_TRACEPARENT_LEN + 1];
	struct hb_trace t, back;

	(void)state;
	hb_trace_new(&t);
	hb_trace_format(&t, a);
	assert_int_equal(strlen(a), HB_TRACEPARENT_LEN);
	assert_true(hb_trace_parse(hb_str(a), &back));
	assert_memory_equal(&t, &back, sizeof t);
	assert_true(hb_str_ends(hb_str(a), HB_STR("-00")));
	hb_trace_new(&t);
	hb_trace_format(&t, b);
	assert_string_not_equal(a, b);
}

/* ------------------------------------------------------------------ forwarded */

static const struct forwarded_case {
	const char *line;
	bool ok;
	const char *from, *host;
} forwarded_cases[] = {
	{ "for=\"10.0.0.1:1234\"", true, "10.0.0.1:1234", "" },
	{ "for=\"10.0.0.1:1234\";host=echo.example", true, "10.0.0.1:1234", "echo.example" },
	{ "for=\"[fd00::1]:1234\";host=echo.ns.svc.cluster.local", true, "[fd00::1]:1234",
		"echo.ns.svc.cluster.local" },
	{ "for=10.0.0.1", true, "10.0.0.1:0", "" },
	{ "for=\"[fd00::1]\"", true, "[fd00::1]:0", "" },
	{ "For=\"10.0.0.1:1\" ; Host=\"a.example:80\" ; proto=https", true, "10.0.0.1:1",
		"a.example:80" },
	{ "host=a.example", true, "-", "a.example" },
	{ "by=10.0.0.2;proto=http", true, "-", "" },
	{ "for=unknown;host=a", true, "-", "a" },
	{ "for=_hidden", true, "-", "" },
	{ "for=\"_hidden:80\"", true, "-", "" },
	/* Only the first element. */
	{ "for=10.0.0.1, for=10.0.0.2;host=b", true, "10.0.0.1:0", "" },
	{ "for=10.0.0.1,garbage\"", true, "10.0.0.1:0", "" },
	/* A host that is none. */
	{ "for=10.0.0.1;host=\"a b\"", true, "10.0.0.1:0", "" },
	{ "for=10.0.0.1;host=\"a,b\"", true, "10.0.0.1:0", "" },
	{ "for=10.0.0.1;host=\"\"", true, "10.0.0.1:0", "" },
	{ "for=10.0.0.1;host=10.0.0.2", true, "10.0.0.1:0", "" },
	{ "for=10.0.0.1;host=\"u@a.example\"", true, "10.0.0.1:0", "" },

	{ "", false, "-", "" },
	{ "for", false, "-", "" },
	{ "for=", false, "-", "" },
	{ "for=;host=a", false, "-", "" },
	{ "=10.0.0.1", false, "-", "" },
	{ ";", false, "-", "" },
	{ "for=10.0.0.1;", false, "-", "" },
	{ "for=10.0.0.1:80", false, "-", "" }, /* a colon needs quotes */
	{ "for=\"10.0.0.1", false, "-", "" },
	{ "for=\"10.0.0.1\\\"\"", false, "-", "" },
	{ "for=\"10.0.0.1:70000\"", false, "-", "" },
	{ "for=\"fd00::1\"", false, "-", "" },
	{ "for=\"[10.0.0.1]\"", false, "-", "" },
	{ "for=\"[fd00::1\"", false, "-", "" },
	{ "for=\"\"", false, "-", "" },
	{ "for=host.example", false, "-", "" },
	{ "for=10.0.0.1;for=10.0.0.2", false, "-", "" },
	{ "host=a;host=b", false, "-", "" },
	{ "for=10.0.0.1 x", false, "-", "" },
	{ "for = 10.0.0.1", false, "-", "" },
	{ "for=10.0.0.1;h\xc3\xb6st=a", false, "-", "" },
};

static void
test_forwarded_read(void **state)
{
	char text[HB_ADDR_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < HB_ARRAY_LEN(forwarded_cases); i++) {
		const struct forwarded_case *c = &forwarded_cases[i];
		struct hb_forwarded f;
		bool ok = hb_forwarded_parse(hb_str(c->line), &f);

		(void)hb_addr_format(&f.from, text, sizeof text);
		if (ok != c->ok || strcmp(text, c->from) != 0 ||
			!hb_str_eq(f.host, hb_str(c->host)))
			fail_msg("%s: %d %s %.*s", c->line, ok, text, HB_STR_FMT(f.host));
	}
}

static void
test_forwarded_limits(void **state)
{
	char line[HB_FORWARDED_MAX + 1];
	struct hb_forwarded f;

	(void)state;
	memset(line, ' ', sizeof line);
	memcpy(line, "for=10.0.0.1", 12);
	assert_true(hb_forwarded_parse(hb_strn(line, sizeof line - 1), &f));
	assert_false(hb_forwarded_parse(hb_strn(line, sizeof line), &f));
	memset(line, 'a', sizeof line);
	memcpy(line, "host=", 5);
	assert_true(hb_forwarded_parse(hb_strn(line, 5 + 63), &f));
	assert_int_equal(f.host.len, 63);
	assert_true(hb_forwarded_parse(hb_strn(line, 5 + 300), &f));
	assert_int_equal(f.host.len, 0);
}

static void
expect_forwarded(const char *from, const char *host, const char *want)
{
	struct hb_forwarded f = { .host = hb_str(host) }, back;
	struct hb_text t = { 0 };

	if (*from != '\0' && !hb_addr_parse(hb_str(from), &f.from))
		assert_true(hb_addr_parse_ip(hb_str(from), &f.from));
	hb_forwarded_format(&f, &t);
	assert_string_equal(t.p == NULL ? "" : t.p, want);
	if (t.len > 0) {
		assert_true(hb_forwarded_parse(hb_strn(t.p, t.len), &back));
		assert_true(hb_addr_eq(&back.from, &f.from));
		assert_true(back.host.len == 0 || hb_str_eq(back.host, f.host));
	}
	hb_text_fini(&t);
}

static void
test_forwarded_write(void **state)
{
	(void)state;
	expect_forwarded("10.0.0.1:80", "", "for=\"10.0.0.1:80\"");
	expect_forwarded("10.0.0.1:80", "echo.example", "for=\"10.0.0.1:80\";host=echo.example");
	expect_forwarded("[fd00::1]:80", "echo", "for=\"[fd00::1]:80\";host=echo");
	expect_forwarded("10.0.0.1:80", "echo:80", "for=\"10.0.0.1:80\";host=\"echo:80\"");
	expect_forwarded("10.0.0.1", "", "for=\"10.0.0.1\"");
	expect_forwarded("fd00::1", "", "for=\"[fd00::1]\"");
	expect_forwarded("10.0.0.1:80", "a\";x=\"y", "for=\"10.0.0.1:80\"");
	expect_forwarded("10.0.0.1:80", "a\r\nb", "for=\"10.0.0.1:80\"");
	expect_forwarded("", "echo", "");
}

/* ------------------------------------------------------------------ x-… */

static void
test_network(void **state)
{
	char text[HB_NETWORK_MAX + 1];

	(void)state;
	assert_true(hb_network_valid(HB_STR("network-1")));
	assert_true(hb_network_valid(HB_STR("projects/a_b/net.1")));
	assert_false(hb_network_valid(HB_STR("")));
	assert_false(hb_network_valid((struct hb_str){ 0 }));
	assert_false(hb_network_valid(HB_STR("a b")));
	assert_false(hb_network_valid(HB_STR("a,b")));
	assert_false(hb_network_valid(HB_STR("a\n")));
	assert_false(hb_network_valid(HB_STR("\xc3\xa9")));
	memset(text, 'n', sizeof text);
	assert_true(hb_network_valid(hb_strn(text, HB_NETWORK_MAX)));
	assert_false(hb_network_valid(hb_strn(text, HB_NETWORK_MAX + 1)));
}

static void
test_istio_source(void **state)
{
	(void)state;
	for (int i = 1; i < HB_ISTIO_SOURCE_MAX; i++)
		assert_int_equal(hb_istio_source_parse(hb_str(hb_istio_source_text(i))), i);
	assert_null(hb_istio_source_text(HB_ISTIO_SOURCE_NONE));
	assert_int_equal(hb_istio_source_parse(HB_STR("waypoint")), HB_ISTIO_SOURCE_WAYPOINT);
	assert_int_equal(hb_istio_source_parse(HB_STR("Waypoint")), HB_ISTIO_SOURCE_NONE);
	assert_int_equal(hb_istio_source_parse(HB_STR("waypoint ")), HB_ISTIO_SOURCE_NONE);
	assert_int_equal(hb_istio_source_parse(HB_STR("")), HB_ISTIO_SOURCE_NONE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trace_good),
		cmocka_unit_test(test_trace_bad),
		cmocka_unit_test(test_trace_new),
		cmocka_unit_test(test_forwarded_read),
		cmocka_unit_test(test_forwarded_limits),
		cmocka_unit_test(test_forwarded_write),
		cmocka_unit_test(test_network),
		cmocka_unit_test(test_istio_source),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

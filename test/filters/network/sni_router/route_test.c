/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "filters/network/sni_router/route.h"

static void
istio(const char *sni, const char *port, const char *subset, const char *host)
{
	struct sni_istio i;

	assert_true(sni_istio_parse(hb_str(sni), &i));
	assert_true(hb_str_eq(i.port, hb_str(port)));
	assert_true(hb_str_eq(i.subset, hb_str(subset)));
	assert_true(hb_str_eq(i.host, hb_str(host)));
}

static void
test_istio__parse(void **state)
{
	static const char *const bad[] = {
		"",
		"outbound",
		"outbound_.",
		"outbound_.80",
		"outbound_.80_.",
		"outbound_.80_._.",
		"inbound_.80_._.host",
		"outbound_.0_._.host",
		"outbound_.65536_._.host",
		"outbound_.8o_._.host",
		"outbound_._._.host",
		"outbound_.80_.v1.host",
		"_.80_._.h",
		"xoutbound_.80_._.host",
		"outbound_.080x_._.host",
	};
	struct sni_istio i;

	istio("outbound_.80_._.web.default.svc.cluster.local", "80", "",
		"web.default.svc.cluster.local");
	istio("outbound_.15443_.v1_.a_b.example", "15443", "v1", "a_b.example");
	istio("outbound_.1_.sub.set_.h", "1", "sub.set", "h");
	istio("outbound_.65535_._.x_.y", "65535", "", "x_.y");
	for (size_t k = 0; k < HB_ARRAY_LEN(bad); k++)
		if (sni_istio_parse(hb_str(bad[k]), &i))
			fail_msg("accepted \"%s\"", bad[k]);
}

static void
format(const char *fmt, const char *want)
{
	const char *sni = "outbound_.80_.v1_.host";
	struct hb_text t = { 0 };
	struct sni_format *f;
	struct sni_istio i;
	struct hb_str bad;

	assert_true(sni_istio_parse(hb_str(sni), &i));
	f = sni_format_new(hb_str(fmt), &bad);
	assert_non_null(f);
	sni_format_write(f, hb_str(sni), &i, &t);
	assert_string_equal(t.p == NULL ? "" : t.p, want);
	hb_text_fini(&t);
	sni_format_free(&f);
}

static void
test_format__writes(void **state)
{
	struct hb_str bad;

	format("outbound|{port}|{subset}|{host}", "outbound|80|v1|host");
	format("{sni}", "outbound_.80_.v1_.host");
	format("{host}{host}x", "hosthostx");
	format("plain", "plain");
	format("", "");
	assert_null(sni_format_new(hb_str("a{prot}b"), &bad));
	assert_true(hb_str_eq(bad, hb_str("{prot}")));
	assert_null(sni_format_new(hb_str("a{po"), &bad));
	assert_true(hb_str_eq(bad, hb_str("{po")));
	assert_null(sni_format_new(hb_str("{"), &bad));
}

static void
add(struct sni_routes *r, const char *name, const char *cluster, int want)
{
	struct hb_err err = { 0 };

	assert_int_equal(sni_routes_add(r, hb_str(name), cluster, &err), want);
	assert_int_equal(*err.text != '\0', want != 0);
}

static void
finds(const struct sni_routes *r, const char *sni, const char *cluster, const char *kind)
{
	const char *k, *c = sni_routes_find(r, hb_str(sni), &k);

	if (cluster == NULL) {
		assert_null(c);
		return;
	}
	assert_non_null(c);
	assert_string_equal(c, cluster);
	assert_string_equal(k, kind);
}

static void
test_routes__longest_first(void **state)
{
	struct sni_routes *r = sni_routes_new();

	add(r, "www.example.com", "exact", 0);
	add(r, "*.example.com", "short", 0);
	add(r, "*.deep.Example.com", "long", 0);
	add(r, "*.com", "com", 0);
	finds(r, "www.example.com", "exact", "exact");
	finds(r, "api.example.com", "short", "wildcard");
	finds(r, "a.b.example.com", "short", "wildcard");
	finds(r, "x.deep.example.com", "long", "wildcard");
	finds(r, "deep.example.com", "short", "wildcard");
	finds(r, "example.com", "com", "wildcard");
	finds(r, "com", NULL, NULL);
	finds(r, ".com", NULL, NULL);
	finds(r, "example.org", NULL, NULL);
	finds(r, ".", NULL, NULL);
	add(r, "*", "any", 0);
	finds(r, "example.org", "any", "any");
	finds(r, "www.example.com", "exact", "exact");
	sni_routes_free(&r);
}

static void
test_routes__refused(void **state)
{
	struct sni_routes *r = sni_routes_new();
	char longer[300];

	memset(longer, 'a', sizeof longer - 1);
	longer[sizeof longer - 1] = '\0';
	add(r, "a.test", "x", 0);
	add(r, "A.TEST", "y", -EEXIST);
	add(r, "*.test", "x", 0);
	add(r, "*.Test", "x", -EEXIST);
	add(r, "*", "x", 0);
	add(r, "*", "x", -EEXIST);
	add(r, "", "x", -EINVAL);
	add(r, "*.", "x", -EINVAL);
	add(r, "*a.test", "x", -EINVAL);
	add(r, "a.*.test", "x", -EINVAL);
	add(r, "a.test*", "x", -EINVAL);
	add(r, "*.*", "x", -EINVAL);
	add(r, longer, "x", -EINVAL);
	sni_routes_free(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_istio__parse),
		cmocka_unit_test(test_format__writes),
		cmocka_unit_test(test_routes__longest_first),
		cmocka_unit_test(test_routes__refused),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

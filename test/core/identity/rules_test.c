/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/identity/rules.h"

#define LIST(...)                                                                           \
	{                                                                                   \
		(const char *const[]){ __VA_ARGS__ },                                       \
			sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *) \
	}
#define OWN "spiffe://cluster.local/ns/prod/sa/me"

static char text[512];

/* A certificate with these URI SANs; of one only it is the identity. */
static enum hb_rules_answer
judge_uris(const struct hb_rules_options *o, const char *own, const char *uri, const char *second)
{
	struct hb_san sans[2] = { { HB_SAN_URI, (char *)(uintptr_t)uri },
		{ HB_SAN_URI, (char *)(uintptr_t)second } };
	struct hb_cert_info peer = {
		.magic = HB_CERT_INFO_MAGIC, .san = sans, .n_san = second != NULL ? 2 : uri != NULL
	};
	struct hb_cert_info ours = { .magic = HB_CERT_INFO_MAGIC,
		.spiffe_id = (char *)(uintptr_t)own };
	struct hb_rules *r = NULL;
	enum hb_rules_answer a;
	const char *list = "";
	struct hb_spiffe id;
	struct hb_err err;
	size_t index;

	if (hb_rules_new(o, &r, &list, &index, &err) != 0)
		fail_msg("%s[%zu]: %s", list, index, err.text);
	if (second == NULL && hb_spiffe_parse(hb_str(uri), &id, NULL) == 0)
		peer.spiffe_id = sans[0].value;
	a = hb_rules_judge(r, &peer, own == NULL ? NULL : &ours, text, sizeof text);
	hb_rules_free(&r);
	return (a);
}

static bool
allows(const struct hb_rules_options *o, const char *peer)
{
	return (judge_uris(o, OWN, peer, NULL) == HB_RULES_ALLOWED);
}

static void
test_rules__default(void **state)
{
	struct hb_rules_options o = { 0 };

	assert_true(allows(&o, "spiffe://cluster.local/ns/prod/sa/x"));
	assert_string_equal(text, "default, same trust domain and namespace: prod");
	assert_false(allows(&o, "spiffe://cluster.local/ns/production/sa/x"));
	assert_string_equal(text,
		"spiffe://cluster.local/ns/production/sa/x is not allowed: we are " OWN
		" and allow default, same trust domain and namespace");
	assert_false(allows(&o, "spiffe://other/ns/prod/sa/x"));
	assert_false(allows(&o, "spiffe://cluster.local/spire/agent"));
	assert_int_equal(
		judge_uris(&o, NULL, "spiffe://cluster.local/ns/prod/sa/x", NULL), HB_RULES_DENIED);
}

static void
test_rules__no_identity(void **state)
{
	struct hb_rules_options o = { .trust_domains = LIST("*"), .namespaces = LIST("*") };

	assert_int_equal(judge_uris(&o, OWN, NULL, NULL), HB_RULES_NO_IDENTITY);
	assert_non_null(strstr(text, "no URI SAN"));
	assert_int_equal(judge_uris(&o, OWN, "spiffe://a/ns/b/sa/c", "spiffe://a/ns/b/sa/c"),
		HB_RULES_NO_IDENTITY);
	assert_non_null(strstr(text, "2 URI SANs"));
	assert_int_equal(judge_uris(&o, OWN, "https://a/ns/b/sa/c", NULL), HB_RULES_NO_IDENTITY);
	assert_non_null(strstr(text, "not a SPIFFE identity"));
	assert_int_equal(judge_uris(&o, OWN, "spiffe://a/ns/b/sa/c", NULL), HB_RULES_ALLOWED);
	assert_string_equal(text, "namespaces: *");
}

static void
test_rules__namespaces_and_accounts(void **state)
{
	struct hb_rules_options ns = { .namespaces = LIST(".", "istio-system") };
	struct hb_rules_options foreign = { .namespaces = LIST("istio-system") };
	struct hb_rules_options sa = { .service_accounts = LIST("web", "stage/batch") };

	assert_true(allows(&ns, "spiffe://cluster.local/ns/prod/sa/x"));
	assert_true(allows(&ns, "spiffe://cluster.local/ns/istio-system/sa/x"));
	assert_false(allows(&ns, "spiffe://cluster.local/ns/stage/sa/x"));
	assert_false(allows(&ns, "spiffe://other/ns/istio-system/sa/x"));
	assert_false(allows(&foreign, "spiffe://cluster.local/ns/prod/sa/x"));
	assert_true(allows(&sa, "spiffe://cluster.local/ns/prod/sa/web"));
	assert_string_equal(text, "service_accounts: web");
	assert_true(allows(&sa, "spiffe://cluster.local/ns/stage/sa/batch"));
	assert_false(allows(&sa, "spiffe://cluster.local/ns/stage/sa/web"));
	assert_false(allows(&sa, "spiffe://cluster.local/ns/prod/sa/batch"));
	assert_false(allows(&sa, "spiffe://other/ns/stage/sa/batch"));
}

static void
test_rules__trust_domains(void **state)
{
	struct hb_rules_options alias = { .trust_domain_aliases = LIST("old.local") };
	struct hb_rules_options listed = { .trust_domains = LIST("partner.example"),
		.namespaces = LIST("*") };
	struct hb_rules_options ids = { .trust_domain_aliases = LIST("old.local"),
		.ids = LIST("spiffe://cluster.local/ns/a/sa/b") };

	assert_true(allows(&alias, "spiffe://old.local/ns/prod/sa/x"));
	assert_false(allows(&alias, "spiffe://older.local/ns/prod/sa/x"));
	assert_true(allows(&listed, "spiffe://partner.example/ns/any/sa/x"));
	assert_false(allows(&listed, "spiffe://cluster.local/ns/prod/sa/x"));
	assert_true(allows(&ids, "spiffe://old.local/ns/a/sa/b"));
	assert_false(allows(&ids, "spiffe://other.local/ns/a/sa/b"));
}

static void
test_rules__ids_and_prefixes(void **state)
{
	struct hb_rules_options o = { .ids = LIST("spiffe://x/ns/a/sa/b", "spiffe://x/spire/agent"),
		.id_prefixes = LIST("spiffe://y/ns/prod/", "spiffe://z") };

	assert_true(allows(&o, "spiffe://x/ns/a/sa/b"));
	assert_string_equal(text, "ids: spiffe://x/ns/a/sa/b");
	assert_true(allows(&o, "spiffe://x/spire/agent"));
	assert_false(allows(&o, "spiffe://x/ns/a/sa/bb"));
	assert_true(allows(&o, "spiffe://y/ns/prod/sa/q"));
	assert_string_equal(text, "id_prefixes: spiffe://y/ns/prod");
	assert_false(allows(&o, "spiffe://y/ns/production/sa/q"));
	assert_true(allows(&o, "spiffe://z/whatever"));
	assert_false(allows(&o, "spiffe://zz/whatever"));
	/* With lists of ids the default rule is off. */
	assert_false(allows(&o, "spiffe://cluster.local/ns/prod/sa/x"));
	assert_int_equal(judge_uris(&o, NULL, "spiffe://x/ns/a/sa/b", NULL), HB_RULES_ALLOWED);
}

static void
test_rules__bad_entries(void **state)
{
	const struct {
		struct hb_rules_options o;
		const char *list;
		size_t index;
	} bad[] = {
		{ { .trust_domains = LIST("a", "UPPER") }, "trust_domains", 1 },
		{ { .trust_domains = LIST("a/b") }, "trust_domains", 0 },
		{ { .trust_domain_aliases = LIST("*") }, "trust_domain_aliases", 0 },
		{ { .namespaces = LIST("ok", "") }, "namespaces", 1 },
		{ { .namespaces = LIST("a/b") }, "namespaces", 0 },
		{ { .namespaces = LIST("..") }, "namespaces", 0 },
		{ { .service_accounts = LIST("a/b/c") }, "service_accounts", 0 },
		{ { .service_accounts = LIST("/b") }, "service_accounts", 0 },
		{ { .ids = LIST("cluster.local/ns/a/sa/b") }, "ids", 0 },
		{ { .ids = LIST("spiffe://cluster.local") }, "ids", 0 },
		{ { .id_prefixes = LIST("spiffe://") }, "id_prefixes", 0 },
		{ { .id_prefixes = LIST("") }, "id_prefixes", 0 },
	};

	for (size_t i = 0; i < HB_ARRAY_LEN(bad); i++) {
		struct hb_rules *r = NULL;
		const char *list = NULL;
		struct hb_err err;
		size_t index = 99;

		assert_int_equal(hb_rules_new(&bad[i].o, &r, &list, &index, &err), -EINVAL);
		assert_string_equal(list, bad[i].list);
		assert_int_equal(index, bad[i].index);
		assert_true(err.text[0] != '\0');
	}
}

static void
test_rules__need_own(void **state)
{
	const struct {
		struct hb_rules_options o;
		bool need;
	} v[] = {
		{ { .ids = LIST("spiffe://a/b") }, false },
		{ { .trust_domains = LIST("*"), .namespaces = LIST("*") }, false },
		{ { .trust_domains = LIST("a"), .service_accounts = LIST("n/s") }, false },
		{ { .trust_domains = LIST("a"), .service_accounts = LIST("n/s", "s") }, true },
		{ { .namespaces = LIST("x") }, true },
		{ { .trust_domains = LIST("a"), .namespaces = LIST("x", ".") }, true },
		{ { .trust_domains = { NULL, 0 } }, true },
	};

	for (size_t i = 0; i < HB_ARRAY_LEN(v); i++) {
		struct hb_rules *r;
		const char *why;
		size_t index;

		assert_int_equal(hb_rules_new(&v[i].o, &r, &why, &index, NULL), 0);
		assert_int_equal(hb_rules_need_own(r, &why), v[i].need);
		hb_rules_free(&r);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules__default),
		cmocka_unit_test(test_rules__no_identity),
		cmocka_unit_test(test_rules__namespaces_and_accounts),
		cmocka_unit_test(test_rules__trust_domains),
		cmocka_unit_test(test_rules__ids_and_prefixes),
		cmocka_unit_test(test_rules__bad_entries),
		cmocka_unit_test(test_rules__need_own),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

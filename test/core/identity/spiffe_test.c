/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/identity/identity.h"

static void
assert_str(struct hb_str s, const char *want)
{
	assert_int_equal(s.len, strlen(want));
	assert_memory_equal(s.p == NULL ? "" : s.p, want, s.len);
}

static void
test_spiffe__parts(void **state)
{
	struct hb_spiffe s;

	assert_int_equal(
		hb_spiffe_parse(hb_str("spiffe://cluster.local/ns/default/sa/client"), &s, NULL),
		0);
	assert_str(s.trust_domain, "cluster.local");
	assert_str(s.path, "/ns/default/sa/client");
	assert_str(s.ns, "default");
	assert_str(s.sa, "client");
	assert_int_equal(hb_spiffe_parse(hb_str("spiffe://a-b_c.9"), &s, NULL), 0);
	assert_str(s.trust_domain, "a-b_c.9");
	assert_str(s.path, "");
	assert_int_equal(hb_spiffe_parse(hb_str("spiffe://td/ns/a/sa/b/c"), &s, NULL), 0);
	assert_str(s.ns, "");
	assert_int_equal(hb_spiffe_parse(hb_str("spiffe://td/sa/a/ns/b"), &s, NULL), 0);
	assert_str(s.sa, "");
	assert_int_equal(hb_spiffe_parse(hb_str("spiffe://td/Upper/..x/.y/z.."), &s, NULL), 0);
}

static void
test_spiffe__refused(void **state)
{
	static const char *const bad[] = {
		"",
		"spiffe:",
		"spiffe://",
		"spiffe:///ns/a",
		"https://td/a",
		"SPIFFE://td/a",
		"Spiffe://td/a",
		"spiffe://TD/a",
		"spiffe://td:443/a",
		"spiffe://u@td/a",
		"spiffe://td/a?q",
		"spiffe://td/a#f",
		"spiffe://td?q",
		"spiffe://td/",
		"spiffe://td//a",
		"spiffe://td/a/",
		"spiffe://td/a//b",
		"spiffe://td/.",
		"spiffe://td/..",
		"spiffe://td/a/../b",
		"spiffe://td/a/./b",
		"spiffe://td/a b",
		"spiffe://td/%41",
		"spiffe://td/\xc3\xa4",
		"spiffe://t\xc3\xa4/a",
		"spiffe://td/a\n",
	};
	struct hb_spiffe s = { 0 };
	struct hb_err err;
	size_t i;

	for (i = 0; i < HB_ARRAY_LEN(bad); i++) {
		err.text[0] = '\0';
		if (hb_spiffe_parse(hb_str(bad[i]), &s, &err) != -EINVAL)
			fail_msg("accepted: %s", bad[i]);
		assert_true(strlen(err.text) > 0);
	}
	assert_int_equal(hb_spiffe_parse(hb_strn("spiffe://td/a\0b", 15), &s, NULL), -EINVAL);
}

static void
test_spiffe__limits(void **state)
{
	struct hb_text t = { 0 };
	struct hb_spiffe s;

	hb_text_addz(&t, "spiffe://");
	while (t.len < 9 + 255)
		hb_text_addc(&t, 'a');
	assert_int_equal(hb_spiffe_parse(hb_strn(t.p, t.len), &s, NULL), 0);
	hb_text_addc(&t, 'a');
	assert_int_equal(hb_spiffe_parse(hb_strn(t.p, t.len), &s, NULL), -EINVAL);
	t.len = 9 + 255;
	hb_text_addc(&t, '/');
	while (t.len < 2048)
		hb_text_addc(&t, 'b');
	assert_int_equal(hb_spiffe_parse(hb_strn(t.p, t.len), &s, NULL), 0);
	hb_text_addc(&t, 'b');
	assert_int_equal(hb_spiffe_parse(hb_strn(t.p, t.len), &s, NULL), -EINVAL);
	hb_text_fini(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spiffe__parts),
		cmocka_unit_test(test_spiffe__refused),
		cmocka_unit_test(test_spiffe__limits),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

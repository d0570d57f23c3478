/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/str.h"

static void test_compare(void **state)
{
	assert_true(hb_str_eq(hb_str(NULL), HB_STR("")));
	assert_false(hb_str_eq(HB_STR("a"), HB_STR("A")));
	assert_true(hb_str_ieq(HB_STR("Host-1"), HB_STR("hOST-1")));
	assert_false(hb_str_ieq(HB_STR("@"), HB_STR("`")));
	assert_false(hb_str_ieq(HB_STR("a"), HB_STR("ab")));
	assert_true(hb_str_starts(HB_STR("abc"), HB_STR("ab")));
	assert_true(hb_str_starts(hb_str(NULL), hb_str(NULL)));
	assert_false(hb_str_starts(HB_STR("a"), HB_STR("ab")));
	assert_true(hb_str_ends(HB_STR("abc"), HB_STR("bc")));
	assert_true(hb_str_ends(hb_str(NULL), HB_STR("")));
	assert_false(hb_str_ends(HB_STR("c"), HB_STR("bc")));
	assert_true(hb_str_cmp(HB_STR("a"), HB_STR("b")) < 0);
	assert_true(hb_str_cmp(HB_STR("ab"), HB_STR("a")) > 0);
	assert_true(hb_str_cmp(HB_STR("\xff"), HB_STR("a")) > 0);
	assert_int_equal(hb_str_cmp(hb_str(NULL), HB_STR("")), 0);
}

static void test_lower_and_numbers(void **state)
{
	char text[] = "AbZ[\xc3\x84";
	uint64_t v = 7;

	hb_str_lower(text, sizeof text - 1);
	assert_string_equal(text, "abz[\xc3\x84");
	assert_true(hb_str_u64(HB_STR("0"), 10, &v) && v == 0);
	assert_true(hb_str_u64(HB_STR("0065535"), 65535, &v) && v == 65535);
	assert_true(hb_str_u64(HB_STR("18446744073709551615"), UINT64_MAX, &v) && v == UINT64_MAX);
	assert_false(hb_str_u64(HB_STR("18446744073709551616"), UINT64_MAX, &v));
	assert_false(hb_str_u64(HB_STR("65536"), 65535, &v));
	assert_false(hb_str_u64(HB_STR(""), 10, &v));
	assert_false(hb_str_u64(HB_STR("-1"), 10, &v));
	assert_false(hb_str_u64(HB_STR("+1"), 10, &v));
	assert_false(hb_str_u64(HB_STR(" 1"), 10, &v));
	assert_false(hb_str_u64(HB_STR("1a"), 10, &v));
	assert_false(hb_str_u64(hb_str(NULL), 10, &v));
}

static void test_text_grows(void **state)
{
	struct hb_text t = { 0 };
	char *taken;

	for (int i = 0; i < 1000; i++)
		hb_text_printf(&t, "%d,", i);
	assert_int_equal(t.len, 3890);
	assert_int_equal(strlen(t.p), 3890);
	taken = hb_text_take(&t);
	assert_memory_equal(taken, "0,1,2,", 6);
	hb_free(taken);
	assert_null(t.p);
	taken = hb_text_take(&t);
	assert_string_equal(taken, "");
	hb_free(taken);
	hb_text_add(&t, NULL, 0);
	assert_string_equal(t.p, "");
	hb_text_fini(&t);
	hb_text_fini(&t);
}

static void test_text_limit(void **state)
{
	struct hb_text t = { .cap_max = 10 };

	hb_text_addz(&t, "12345");
	hb_text_printf(&t, "%s", "67890");
	assert_false(t.truncated);
	assert_string_equal(t.p, "1234567890");
	hb_text_addc(&t, 'x');
	assert_true(t.truncated);
	assert_string_equal(t.p, "1234567890");
	hb_text_fini(&t);
	hb_text_printf(&t, "%s", "12345678");
	hb_text_printf(&t, "%d", 12345);
	assert_true(t.truncated);
	/* No later, shorter text may fill the gap. */
	hb_text_addc(&t, 'x');
	assert_string_equal(t.p, "12345678");
	hb_text_fini(&t);
	t.cap_max = 200;
	hb_text_printf(&t, "%201s", "");
	assert_true(t.truncated);
	assert_string_equal(t.p, "");
	hb_text_fini(&t);
}

static void check_json(const char *in, size_t n, const char *want)
{
	struct hb_text t = { 0 };

	hb_text_json(&t, in, n);
	assert_string_equal(t.p, want);
	hb_text_fini(&t);
}

static void test_json(void **state)
{
#define CHECK(in, want) check_json((in), sizeof(in) - 1, (want))
	check_json(NULL, 0, "\"\"");
	CHECK("plain", "\"plain\"");
	CHECK("a\"b\\c/", "\"a\\\"b\\\\c/\"");
	CHECK("\b\f\n\r\t\x01\x1f\x7f", "\"\\b\\f\\n\\r\\t\\u0001\\u001f\\u007f\"");
	CHECK("nul\0here", "\"nul\\u0000here\"");
	CHECK("\xc3\xa4\xe2\x82\xac\xf0\x9f\x8e\x89", "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x8e\x89\"");
	CHECK("\xff", "\"\xef\xbf\xbd\"");
	CHECK("\xc3", "\"\xef\xbf\xbd\"");
	CHECK("\xc0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\"");
	CHECK("\xe0\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
	CHECK("\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
	CHECK("\xf4\x90\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
	CHECK("\xe2\x82x", "\"\xef\xbf\xbd\xef\xbf\xbdx\"");
	/* What YAML takes for a line's end, a mark or a control is escaped too. */
	CHECK("\x7f\xc2\x85\xc2\x9f\xc2\xa0", "\"\\u007f\\u0085\\u009f\xc2\xa0\"");
	CHECK("\xe2\x80\xa8\xe2\x80\xa9\xef\xbb\xbf", "\"\\u2028\\u2029\\ufeff\"");
#undef CHECK
}

static void test_hash_stable(void **state)
{
	/* Values of the XXH64 reference, seed 0. */
	assert_true(hb_hash_stable("", 0) == 0xef46db3751d8e999);
	assert_true(hb_hash_stable(NULL, 0) == 0xef46db3751d8e999);
	assert_true(hb_hash_stable("a", 1) == 0xd24ec4f1a98c6e5b);
	assert_true(hb_hash_stable("abc", 3) == 0x44bc2cf5ad770999);
	assert_true(hb_hash_stable("Nobody inspects the spammish repetition", 39) ==
		0xfbcea83c8a378bf1);
}

static void test_hash(void **state)
{
	char bytes[64] = { 0 };
	unsigned same = 0, ones = 0;

	assert_true(hb_hash("abc", 3) == hb_hash("abc", 3));
	for (size_t n = 0; n < sizeof bytes; n++)
		assert_true(hb_hash(bytes, n) != hb_hash(bytes, n + 1));
	/* Flipping any one bit flips about half of the result. */
	for (unsigned bit = 0; bit < 8 * sizeof bytes; bit++) {
		uint64_t before = hb_hash(bytes, sizeof bytes), after;

		bytes[bit / 8] ^= (char)(1 << bit % 8);
		after = hb_hash(bytes, sizeof bytes);
		bytes[bit / 8] ^= (char)(1 << bit % 8);
		same += before == after;
		ones += (unsigned)__builtin_popcountll(before ^ after);
	}
	assert_int_equal(same, 0);
	assert_in_range(ones / (8 * sizeof bytes), 28, 36);
}

static void test_random(void **state)
{
	uint64_t first, second;

	assert_true(hb_random() != hb_random());
	hb_random_seed(1);
	first = hb_random();
	second = hb_random();
	hb_random_seed(1);
	assert_true(hb_random() == first && hb_random() == second);
	hb_random_seed(2);
	assert_true(hb_random() != first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_compare),
		cmocka_unit_test(test_lower_and_numbers),
		cmocka_unit_test(test_text_grows),
		cmocka_unit_test(test_text_limit),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_hash_stable),
		cmocka_unit_test(test_hash),
		cmocka_unit_test(test_random),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

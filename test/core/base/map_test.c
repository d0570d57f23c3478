/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "core/base/str.h"

#define KEYS 5000

static struct hb_str key_of(char *buf, size_t cap, unsigned i)
{
	return (hb_strn(buf, (size_t)snprintf(buf, cap, "key-%u", i)));
}

static void test_basics(void **state)
{
	struct hb_map *m = hb_map_new();
	int a, b;

	assert_null(hb_map_get(m, HB_STR("x")));
	assert_null(hb_map_del(m, HB_STR("x")));
	assert_null(hb_map_put(m, HB_STR("x"), &a));
	assert_null(hb_map_put(m, HB_STR(""), &b));
	assert_null(hb_map_put(m, hb_strn("a\0b", 3), &b));
	assert_ptr_equal(hb_map_get(m, HB_STR("x")), &a);
	assert_ptr_equal(hb_map_get(m, hb_str(NULL)), &b);
	assert_ptr_equal(hb_map_get(m, hb_strn("a\0b", 3)), &b);
	assert_null(hb_map_get(m, HB_STR("a")));
	assert_ptr_equal(hb_map_put(m, HB_STR("x"), &b), &a);
	assert_int_equal(hb_map_count(m), 3);
	assert_ptr_equal(hb_map_del(m, HB_STR("x")), &b);
	assert_null(hb_map_del(m, HB_STR("x")));
	assert_int_equal(hb_map_count(m), 2);
	hb_map_free(&m);
	assert_null(m);
	hb_map_free(&m);
}

static void test_iteration(void **state)
{
	static char seen[KEYS];
	struct hb_map *m = hb_map_new();
	struct hb_str key;
	size_t cursor = 0;
	unsigned n = 0;
	char buf[32];
	void *value;

	assert_false(hb_map_next(m, &cursor, &key, &value));
	for (unsigned i = 0; i < KEYS; i++)
		hb_map_put(m, key_of(buf, sizeof buf, i), &seen[i]);
	cursor = 0;
	while (hb_map_next(m, &cursor, &key, &value)) {
		unsigned i = (unsigned)((char *)value - seen);

		assert_true(hb_str_eq(key, key_of(buf, sizeof buf, i)));
		assert_int_equal(seen[i], 0);
		seen[i] = 1;
		n++;
	}
	assert_int_equal(n, KEYS);
	hb_map_free(&m);
}

/* Random puts and deletes agree with a plain array, through growth and moved-back runs. */
static void test_against_model(void **state)
{
	static void *model[KEYS];
	static char values[16];
	struct hb_map *m = hb_map_new();
	size_t count = 0;
	char buf[32];

	hb_random_seed(42);
	for (unsigned step = 0; step < 200000; step++) {
		uint64_t r = hb_random();
		unsigned i = (unsigned)(r % (step < 100000 ? KEYS : 50));
		void *value = &values[(r >> 40) % sizeof values];
		struct hb_str key = key_of(buf, sizeof buf, i);

		if ((r >> 32) & 1) {
			assert_ptr_equal(hb_map_put(m, key, value), model[i]);
			count += model[i] == NULL;
			model[i] = value;
		} else {
			assert_ptr_equal(hb_map_del(m, key), model[i]);
			count -= model[i] != NULL;
			model[i] = NULL;
		}
		assert_int_equal(hb_map_count(m), count);
	}
	for (unsigned i = 0; i < KEYS; i++)
		assert_ptr_equal(hb_map_get(m, key_of(buf, sizeof buf, i)), model[i]);
	hb_map_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_basics),
		cmocka_unit_test(test_iteration),
		cmocka_unit_test(test_against_model),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

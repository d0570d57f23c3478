/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/facts/facts.h"

static void
test_alloc(void **state)
{
	struct hb_arena a = { 0 };
	size_t total = 0;

	(void)state;
	assert_null(a.head);
	for (size_t n = 0; n < 3000; n += 7) {
		unsigned char *p = hb_arena_alloc(&a, n);

		assert_int_equal((uintptr_t)p % 8, 0);
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(p[i], 0);
			p[i] = 0xff;
		}
		total += n;
	}
	assert_true(hb_arena_used(&a) >= total);
	hb_arena_fini(&a);
	assert_null(a.head);
	assert_int_equal(hb_arena_used(&a), 0);
	hb_arena_fini(&a);
}

static void
test_str(void **state)
{
	struct hb_arena a = { 0 };
	struct hb_str s = hb_arena_str(&a, HB_STR("x\0y")), empty = hb_arena_str(&a, HB_STR(""));
	char *big = hb_calloc(1, 100000);

	(void)state;
	assert_int_equal(s.len, 3);
	assert_memory_equal(s.p, "x\0y", 4);
	assert_non_null(empty.p);
	assert_int_equal(empty.p[0], 0);
	memset(big, 'b', 100000);
	assert_memory_equal(hb_arena_str(&a, hb_strn(big, 100000)).p, big, 100000);
	hb_free(big);
	hb_arena_fini(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alloc),
		cmocka_unit_test(test_str),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

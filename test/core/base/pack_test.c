/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/pack.h"

/* Values of every length, pseudo-random; the generator runs again for the reader. */
static uint64_t
next(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (*state >> (*state >> 58));
}

static void
test_pack(void **state)
{
	static uint8_t bytes[1 << 16];
	struct hb_pack p = { .at = bytes,
		.end = bytes + sizeof bytes,
		.near = (uintptr_t)bytes,
		.ref_ms = 1000000,
		.ref = { 77, UINT64_MAX } };
	struct hb_unpack u = {
		.at = bytes, .near = p.near, .ref_ms = p.ref_ms, .ref = { 77, UINT64_MAX }
	};
	uint64_t r = 1;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		hb_pack_u64(&p, next(&r));
		hb_pack_ms(&p, next(&r));
		hb_pack_count(&p, next(&r), i % 2);
		hb_pack_ptr(&p, (void *)(uintptr_t)next(&r));
		hb_pack_byte(&p, (uint8_t)next(&r));
	}
	u.end = p.at;
	r = 1;
	for (unsigned i = 0; i < 1000; i++) {
		assert_true(hb_unpack_u64(&u) == next(&r));
		assert_true(hb_unpack_ms(&u) == next(&r));
		assert_true(hb_unpack_count(&u, i % 2) == next(&r));
		assert_true(hb_unpack_ptr(&u) == (void *)(uintptr_t)next(&r));
		assert_int_equal(hb_unpack_byte(&u), (uint8_t)next(&r));
	}
	assert_ptr_equal(u.at, u.end);
}

static size_t
size_of(uint64_t v, uint64_t ref)
{
	uint8_t bytes[16];
	struct hb_pack p = { .at = bytes, .end = bytes + sizeof bytes };

	hb_pack_near(&p, v, ref);
	return ((size_t)(p.at - bytes));
}

static void
test_near_is_short(void **state)
{
	(void)state;
	assert_int_equal(size_of(UINT64_MAX, UINT64_MAX), 1);
	assert_int_equal(size_of(1000, 1063), 1);
	assert_int_equal(size_of(1063, 1000), 1);
	assert_int_equal(size_of(1064, 1000), 2);
	assert_int_equal(size_of(0, UINT64_MAX), 1); /* around the end */
	assert_int_equal(size_of(UINT64_MAX / 2, 0), 10);
}

static void
test_text(void **state)
{
	uint8_t bytes[64];
	struct hb_pack p = { .at = bytes, .end = bytes + sizeof bytes };
	struct hb_unpack u = { .at = bytes, .end = bytes + sizeof bytes };

	(void)state;
	hb_pack_str(&p, (struct hb_str){ NULL, 0 });
	hb_pack_str(&p, HB_STR(""));
	hb_pack_str(&p, hb_strn("a\0b", 3));
	hb_pack_bytes(&p, "xyz", 3);
	assert_null(hb_unpack_str(&u).p);
	assert_non_null(hb_unpack_str(&u).p);
	assert_true(hb_str_eq(hb_unpack_str(&u), hb_strn("a\0b", 3)));
	assert_memory_equal(hb_unpack_bytes(&u, 3), "xyz", 3);
	assert_int_equal(u.at - bytes, p.at - bytes);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pack),
		cmocka_unit_test(test_near_is_short),
		cmocka_unit_test(test_text),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

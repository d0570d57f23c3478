/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/mman.h>

#include "core/base/burst.h"

#define MANY 4000u

static uint8_t *object[MANY];
static size_t size[MANY];

static void
make(unsigned i, size_t n)
{
	size[i] = n;
	object[i] = hb_burst_calloc(n);
	assert_int_equal((uintptr_t)object[i] % 16, 0);
	for (size_t k = 0; k < n; k++)
		assert_int_equal(object[i][k], 0);
	memset(object[i], (int)(i & 0xff), n);
}

static void
drop(unsigned i)
{
	for (size_t k = 0; k < size[i]; k++)
		assert_int_equal(object[i][k], i & 0xff);
	hb_burst_free(object[i], size[i]);
	object[i] = NULL;
}

/* Nothing overlaps, all is zeroed, whatever was there before; and after the burst nothing is left. */
static void
test_random(void **state)
{
	uint64_t r = 1;

	(void)state;
	for (unsigned round = 0; round < 40000; round++) {
		unsigned i;

		r = r * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		i = (unsigned)(r >> 33) % MANY;
		if (object[i] == NULL)
			make(i, (size_t)(r >> 48) % (HB_BURST_SIZE_MAX + 64));
		else
			drop(i);
	}
	for (unsigned i = 0; i < MANY; i++)
		if (object[i] != NULL)
			drop(i);
	assert_int_equal(hb_burst_blocks(), 0);
	hb_burst_free(NULL, 16);
}

/* What stays lies together: most blocks of a burst are empty when it is over. */
static void
test_what_stays_is_together(void **state)
{
	size_t most;

	(void)state;
	for (unsigned i = 0; i < MANY; i++)
		make(i, 720);
	most = hb_burst_blocks();
	for (unsigned i = 0; i < MANY - 64; i++)
		drop(i);
	assert_true(hb_burst_blocks() <= most / 16);
	for (unsigned i = MANY - 64; i < MANY; i++)
		drop(i);
	assert_int_equal(hb_burst_blocks(), 0);
}

/* Pages of the objects' blocks that are resident. */
static size_t
resident(uint8_t *const *at, unsigned n)
{
	size_t found = 0;
	uintptr_t last = 0;

	for (unsigned i = 0; i < n; i++) {
		uintptr_t page = (uintptr_t)at[i] & ~(uintptr_t)4095;
		unsigned char in = 0;

		if (page == last)
			continue;
		last = page;
		assert_int_equal(mincore((void *)page, 4096, &in), 0);
		found += in & 1;
	}
	return (found);
}

/* Empty blocks that are kept have one page each. */
static void
test_kept_blocks_are_small(void **state)
{
	static uint8_t *at[MANY];

	(void)state;
	for (unsigned i = 0; i < MANY; i++) {
		make(i, 720);
		at[i] = object[i];
	}
	if (hb_burst_blocks() == 0)
		skip(); /* a sanitizer's memory */
	for (unsigned i = 0; i < MANY; i++)
		drop(i);
	assert_true(resident(at, MANY) <= 16);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_what_stays_is_together),
		cmocka_unit_test(test_kept_blocks_are_small),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

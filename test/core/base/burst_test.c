/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "core/base/burst.h"

#define MANY  4000u
#define BLOCK (16u * 1024u)

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

/* What is said to last lies apart from what does not, whatever the sizes. */
static void
test_what_lasts_is_apart(void **state)
{
	static void *lasts[MANY];
	size_t both;

	(void)state;
	for (unsigned i = 0; i < MANY; i++) {
		lasts[i] = hb_burst_lasting(176);
		make(i, 176);
	}
	both = hb_burst_blocks();
	for (unsigned i = 0; i < MANY; i++)
		drop(i);
	assert_true(hb_burst_blocks() <= both / 2);
	for (unsigned i = 0; i < MANY; i++)
		hb_burst_free(lasts[i], 176);
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
	bool pooled;

	(void)state;
	for (unsigned i = 0; i < MANY; i++) {
		make(i, 720);
		at[i] = object[i];
	}
	pooled = hb_burst_blocks() > 0;
	for (unsigned i = 0; i < MANY; i++)
		drop(i);
	if (!pooled)
		skip(); /* a sanitizer's memory */
	assert_true(resident(at, MANY) <= 16);
}

/* ------------------------------------------------------------------ threads */

static void
run_thread(void *(*fn)(void *), void *arg)
{
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, fn, arg), 0);
	assert_int_equal(pthread_join(t, NULL), 0);
}

static void *
drop_some(void *arg)
{
	for (unsigned i = *(const unsigned *)arg; i < MANY; i++)
		drop(i);
	/* It owns nothing itself, and frees no block of another thread. */
	assert_int_equal(hb_burst_blocks(), 0);
	return (NULL);
}

/* What others free is its owner's again, all of it, when he collects. */
static void
test_freed_by_another(void **state)
{
	unsigned from = 0;
	size_t most;

	(void)state;
	for (unsigned i = 0; i < MANY; i++)
		make(i, 16 + i % 700);
	most = hb_burst_blocks();
	run_thread(drop_some, &from);
	assert_int_equal(hb_burst_blocks(), most);
	hb_burst_collect();
	assert_int_equal(hb_burst_blocks(), 0);
}

/* … or when he needs a block: nothing is mapped for a thread that only makes. */
static void
test_freed_by_another_is_used_again(void **state)
{
	static uint8_t *at[MANY];
	unsigned from = MANY / 2, again = 0;
	size_t most;

	(void)state;
	for (unsigned i = 0; i < MANY; i++)
		make(i, 720);
	if ((most = hb_burst_blocks()) == 0) {
		for (unsigned i = 0; i < MANY; i++)
			drop(i);
		skip(); /* a sanitizer's memory */
	}
	memcpy(at, object, sizeof at);
	run_thread(drop_some, &from);
	for (unsigned i = from; i < MANY; i++) {
		make(i, 720);
		for (unsigned k = from; k < MANY && !again; k++)
			again = object[i] == at[k];
	}
	assert_true(again);
	assert_true(hb_burst_blocks() <= most + BLOCK);
	for (unsigned i = 0; i < MANY; i++)
		drop(i);
	assert_int_equal(hb_burst_blocks(), 0);
}

static void *
make_all(void *arg)
{
	for (unsigned i = 0; i < MANY; i++)
		make(i, 720);
	*(size_t *)arg = hb_burst_blocks();
	return (NULL);
}

static void *
adopt(void *arg)
{
	void *p = hb_burst_alloc(720);

	*(size_t *)arg = hb_burst_blocks();
	hb_burst_free(p, 720);
	return (NULL);
}

/* What a thread leaves is freed by whoever has it, and its memory is the next thread's. */
static void
test_owner_has_ended(void **state)
{
	size_t most, some, none;

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		run_thread(make_all, &most);
		/* Before its memory is adopted, and after it. */
		for (unsigned i = 0; i < MANY; i += 2)
			drop(i);
		run_thread(adopt, &some);
		for (unsigned i = 1; i < MANY; i += 2)
			drop(i);
		run_thread(adopt, &none);
		if (most == 0)
			skip(); /* a sanitizer's memory */
		assert_int_equal(some, most);
		assert_int_equal(none, BLOCK);
	}
}

/* Two threads that make, and free what the other one has made. */
#define CELLS  64u
#define ROUNDS 200000u

struct side {
	_Atomic(uint8_t *) cell[CELLS]; /* what it made; the other side takes it */
	atomic_bool done;
	struct side *other;
	size_t most;
};

static void
check_and_free(uint8_t *p)
{
	uint16_t n;

	memcpy(&n, p, sizeof n);
	for (size_t k = 2; k < n; k++)
		HB_ASSERT(p[k] == (uint8_t)n);
	memset(p, 0xee, n);
	hb_burst_free(p, n);
}

static void
exchange_one(struct side *s, uint64_t r)
{
	unsigned i = (unsigned)(r >> 33) % CELLS;
	uint8_t *p = atomic_exchange(&s->other->cell[i], NULL);
	uint16_t n = (uint16_t)(2 + (r >> 50) % 900);

	if (p != NULL)
		check_and_free(p);
	p = hb_burst_alloc(n);
	memcpy(p, &n, sizeof n);
	memset(p + 2, n & 0xff, n - 2u);
	p = atomic_exchange(&s->cell[i], p);
	if (p != NULL)
		check_and_free(p);
}

static void *
exchange(void *arg)
{
	struct side *s = arg;
	uint64_t r = (uintptr_t)s;

	for (unsigned round = 0; round < ROUNDS; round++) {
		r = r * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		exchange_one(s, r);
		s->most = HB_MAX(s->most, hb_burst_blocks());
	}
	atomic_store(&s->done, true);
	while (!atomic_load(&s->other->done))
		sched_yield();
	for (unsigned i = 0; i < CELLS; i++) {
		uint8_t *p = atomic_exchange(&s->other->cell[i], NULL);

		if (p != NULL)
			check_and_free(p);
	}
	return (NULL);
}

/* Two orphans have two heirs. */
static void *
adopt_two(void *arg)
{
	void *p = hb_burst_alloc(16);
	size_t adopted;

	*(size_t *)arg = hb_burst_blocks();
	run_thread(adopt, &adopted);
	hb_burst_free(p, 16);
	assert_true(adopted <= BLOCK);
	return (NULL);
}

static void
test_two_threads(void **state)
{
	static struct side side[2];
	pthread_t t[2];
	size_t adopted;

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		side[i].other = &side[1 - i];
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, exchange, &side[i]), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	/* A block for each size at most is what CELLS objects need at a time. */
	for (unsigned i = 0; i < 2; i++)
		assert_true(side[i].most <= 60 * BLOCK);
	/* Nothing was lost between them. */
	run_thread(adopt_two, &adopted);
	assert_true(adopted <= BLOCK);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_what_stays_is_together),
		cmocka_unit_test(test_what_lasts_is_apart),
		cmocka_unit_test(test_kept_blocks_are_small),
		cmocka_unit_test(test_freed_by_another),
		cmocka_unit_test(test_freed_by_another_is_used_again),
		cmocka_unit_test(test_owner_has_ended),
		cmocka_unit_test(test_two_threads),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

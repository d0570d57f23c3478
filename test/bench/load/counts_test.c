/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <time.h>
#include <unistd.h>
#include "test/bench/load/hist.h"
#include "test/bench/load/usage.h"

static struct load_hist hist;

static void
test_empty(void **state)
{
	load_hist_reset(&hist);
	assert_int_equal(load_hist_at(&hist, 0.5), 0);
}

static void
test_small_values_are_exact(void **state)
{
	load_hist_reset(&hist);
	for (uint64_t v = 1; v <= 100; v++)
		load_hist_record(&hist, v);
	assert_int_equal(load_hist_at(&hist, 0.50), 50);
	assert_int_equal(load_hist_at(&hist, 0.99), 99);
	assert_int_equal(load_hist_at(&hist, 1.0), 100);
	assert_int_equal(load_hist_at(&hist, 0.0), 1);
	assert_int_equal(hist.max, 100);
	assert_int_equal(hist.sum, 5050);
}

/* Each power of two and its neighbours: no bucket is too wide, none overlaps the one before. */
static void
test_every_size_is_known_to_a_percent(void **state)
{
	uint64_t v[3], got;

	for (unsigned bit = 1; bit < 64; bit++) {
		v[0] = ((uint64_t)1 << bit) - 1;
		v[1] = (uint64_t)1 << bit;
		v[2] = v[1] + v[1] / 3;
		for (unsigned i = 0; i < 3; i++) {
			load_hist_reset(&hist);
			load_hist_record(&hist, v[i]);
			load_hist_record(&hist, UINT64_MAX);
			got = load_hist_at(&hist, 0.5);
			assert_true(got >= v[i] - v[i] / 100);
			assert_true(got <= v[i] + v[i] / 100);
		}
	}
}

/* A rare slow one shows in the tail only. */
static void
test_tail(void **state)
{
	load_hist_reset(&hist);
	for (unsigned i = 0; i < 990; i++)
		load_hist_record(&hist, 20000);
	for (unsigned i = 0; i < 10; i++)
		load_hist_record(&hist, 5000000);
	assert_in_range(load_hist_at(&hist, 0.99), 19800, 20200);
	assert_in_range(load_hist_at(&hist, 0.995), 4950000, 5000000);
	assert_int_equal(hist.max, 5000000);
}

static void
burn(uint64_t ns)
{
	struct timespec t;

	do {
		(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	} while ((uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec < ns);
}

static void
test_usage_of_ourselves(void **state)
{
	struct load_usage u;
	struct timespec t;
	int pid = getpid();

	load_usage_begin(&u, &pid, 1);
	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	burn((uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec + 50000000u);
	load_usage_end(&u, &pid, 1);
	assert_false(u.gone);
	assert_in_range(u.cpu_ns[0], 30000000, 500000000);
	assert_in_range(u.own_cpu_ns, 30000000, 500000000);
	assert_true(u.steal_share >= 0.0 && u.steal_share <= 1.0);
	assert_true(u.other_busy <= 1.0);
}

static void
test_usage_of_nobody(void **state)
{
	struct load_usage u;
	int pid = INT32_MAX; /* above pid_max of any kernel */

	load_usage_begin(&u, &pid, 1);
	load_usage_end(&u, &pid, 1);
	assert_true(u.gone);
	assert_int_equal(u.cpu_ns[0], 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_small_values_are_exact),
		cmocka_unit_test(test_every_size_is_known_to_a_percent),
		cmocka_unit_test(test_tail),
		cmocka_unit_test(test_usage_of_ourselves),
		cmocka_unit_test(test_usage_of_nobody),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

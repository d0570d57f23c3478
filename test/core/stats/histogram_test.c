/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/stats/stats_priv.h"

static struct hb_hist_sum sum;

static void sum_of(const struct hb_hist *h)
{
	memset(&sum, 0, sizeof sum);
	hb_hist_sum_add(&sum, h);
}

/* Equal within what a double prints with ten digits. */
static bool near(double a, double b)
{
	double d = a - b;

	return (d < 1e-9 && d > -1e-9);
}

/* One sample of 1 gives the quantiles that Envoy prints for it. */
static void test_one_sample(void **state)
{
	struct hb_hist *h = hb_calloc(1, sizeof *h);

	hb_hist_record(h, 1);
	sum_of(h);
	assert_true(near(hb_hist_quantile(&sum, 0), 1));
	assert_true(near(hb_hist_quantile(&sum, 0.25), 1.025));
	assert_true(near(hb_hist_quantile(&sum, 0.5), 1.05));
	assert_true(near(hb_hist_quantile(&sum, 0.999), 1.0999));
	assert_true(near(hb_hist_quantile(&sum, 1), 1.1));
	hb_hist_free(h);
}

static void test_zero_and_huge(void **state)
{
	struct hb_hist *h = hb_calloc(1, sizeof *h);

	hb_hist_record(h, 0);
	sum_of(h);
	assert_true(near(hb_hist_quantile(&sum, 0), 0));
	assert_true(near(hb_hist_quantile(&sum, 1), 0));
	hb_hist_record(h, UINT64_MAX);
	sum_of(h);
	assert_int_equal(sum.count, 2);
	assert_true(hb_hist_quantile(&sum, 0.75) >= 1.8e19);
	assert_true(hb_hist_quantile(&sum, 1) <= 1.9e19);
	assert_int_equal(hb_hist_count_to(&sum, 0), 1);
	assert_int_equal(hb_hist_count_to(&sum, 1e18), 1);
	hb_hist_free(h);
}

/* Each value lies in a bucket that holds it and is at most a tenth as wide. */
static void test_buckets(void **state)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < 2000 && v < UINT64_MAX / 2; i++, v += v / 37 + 1) {
		struct hb_hist *h = hb_calloc(1, sizeof *h);
		double lo, hi;

		hb_hist_record(h, v);
		sum_of(h);
		lo = hb_hist_quantile(&sum, 0);
		hi = hb_hist_quantile(&sum, 1);
		assert_true(lo <= (double)v && (double)v <= hi);
		assert_true(hi - lo <= lo / 10 + 1e-9);
		assert_int_equal(hb_hist_count_to(&sum, hi), 1);
		hb_hist_free(h);
	}
	for (uint64_t p = 1, d = 0; d < HB_HIST_DECADES; d++, p *= 10) {
		struct hb_hist *h = hb_calloc(1, sizeof *h);

		hb_hist_record(h, p);
		hb_hist_record(h, p - 1);
		sum_of(h);
		assert_int_equal(sum.n[d][d == 0 ? 1 : 0], 1);
		hb_hist_free(h);
	}
}

static void test_quantiles_and_counts(void **state)
{
	struct hb_hist *h = hb_calloc(1, sizeof *h);
	struct hb_hist_sum *base = hb_calloc(1, sizeof *base);

	for (uint64_t v = 1; v <= 1000; v++)
		hb_hist_record(h, v);
	sum_of(h);
	assert_int_equal(sum.count, 1000);
	assert_int_equal(sum.sum, 500500);
	for (unsigned q = 1; q < 10; q++) {
		double got = hb_hist_quantile(&sum, q / 10.0);

		assert_true(got >= q * 100 - 1 && got <= q * 100 + 11);
	}
	assert_true(near(hb_hist_quantile(&sum, 1), 1100));
	assert_int_equal(hb_hist_count_to(&sum, 0.5), 0);
	assert_int_equal(hb_hist_count_to(&sum, 1), 1);
	assert_int_equal(hb_hist_count_to(&sum, 25), 25);
	assert_int_equal(hb_hist_count_to(&sum, 499), 499);
	assert_int_equal(hb_hist_count_to(&sum, 1e9), 1000);
	hb_hist_sum_add(base, h);
	hb_hist_record(h, 7);
	sum_of(h);
	hb_hist_sum_sub(&sum, base);
	assert_int_equal(sum.count, 1);
	assert_int_equal(sum.sum, 7);
	assert_true(near(hb_hist_quantile(&sum, 0), 7));
	hb_free(base);
	hb_hist_free(h);
	hb_hist_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_sample),
		cmocka_unit_test(test_zero_and_huge),
		cmocka_unit_test(test_buckets),
		cmocka_unit_test(test_quantiles_and_counts),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

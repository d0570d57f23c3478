/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "filters/network/local_ratelimit/bucket.h"
#include "test/support/filter_harness.h"

extern const struct hb_filter_type hb_filter_local_ratelimit;
extern const struct hb_filter_type hb_filter_echo;

#define LIMIT               \
	"- name: l\n"       \
	"  typed_config:\n" \
	"    \"@type\": "   \
	"type.googleapis.com/envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit\n"
#define ECHO_FILTER                    \
	"- name: e\n"                  \
	"  typed_config: {\"@type\": " \
	"type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}\n"
#define RATE(prefix)                          \
	LIMIT "    stat_prefix: " prefix "\n" \
	      "    token_bucket: {max_tokens: 2, tokens_per_fill: 1, fill_interval: 1s}\n"

static int
setup(void **state)
{
	hbf_init();
	hbf_register(&hb_filter_local_ratelimit);
	hbf_register(&hb_filter_echo);
	return (0);
}

static int
teardown(void **state)
{
	hbf_fini();
	return (0);
}

static bool
passes(const struct hb_chain *chain)
{
	struct hbf h = { 0 };
	bool ok;

	hbf_open(&h, chain, NULL);
	hbt_turns(4);
	ok = !h.closed;
	if (!ok)
		assert_int_equal(h.reason, HB_CLOSE_RATE_LIMITED);
	hbf_close(&h);
	return (ok);
}

static void
test_local_ratelimit__limits(void **state)
{
	struct hb_chain *chain = hbf_filters(RATE("p") ECHO_FILTER);

	assert_true(passes(chain));
	assert_true(passes(chain));
	assert_false(passes(chain));
	assert_int_equal(hbf_stat("local_rate_limit.p.rate_limited"), 1);
	hb_clock_advance(hbt_worker(), 1000);
	assert_true(passes(chain));
	assert_false(passes(chain));
	hb_clock_advance(hbt_worker(), 60000);
	assert_true(passes(chain));
	assert_true(passes(chain));
	assert_false(passes(chain));
	hb_chain_free(&chain);
}

static void
test_local_ratelimit__shared(void **state)
{
	struct hb_chain *a = hbf_filters(RATE("a") "    share_key: k\n" ECHO_FILTER);
	struct hb_chain *b = hbf_filters(RATE("b") "    share_key: k\n" ECHO_FILTER);
	struct hb_chain *c = hbf_filters(RATE("c") ECHO_FILTER);

	assert_true(passes(a));
	assert_true(passes(b));
	assert_false(passes(a));
	assert_false(passes(b));
	assert_true(passes(c));
	hb_chain_free(&a);
	hb_chain_free(&b);
	hb_chain_free(&c);
}

static void
test_local_ratelimit__off(void **state)
{
	struct hb_chain *chain = hbf_filters(
		RATE("o") "    runtime_enabled: {default_value: false}\n" ECHO_FILTER);

	for (int i = 0; i < 5; i++)
		assert_true(passes(chain));
	hb_chain_free(&chain);
}

static void
test_local_ratelimit__errors(void **state)
{
	hbf_expect_error(LIMIT "    stat_prefix: p\n" ECHO_FILTER, "token_bucket: is required");
	hbf_expect_error(LIMIT
		"    stat_prefix: p\n    token_bucket: {fill_interval: 1s}\n" ECHO_FILTER,
		"max_tokens: must be at least 1");
	hbf_expect_error(LIMIT
		"    stat_prefix: p\n    token_bucket: {max_tokens: 1}\n" ECHO_FILTER,
		"fill_interval: is required and at least 1 ms");
	hbf_expect_error(LIMIT "    token_bucket: {max_tokens: 1, fill_interval: 1s}\n" ECHO_FILTER,
		"stat_prefix: must not be empty");
}

/* Never more than `max` tokens, whatever the clock does. */
static void
test_bucket__clock(void **state)
{
	struct bucket_config c = { .max = 5, .per_fill = 3, .interval_ms = 10 };
	struct bucket *b = bucket_get(&c, hb_str(""));

	assert_int_equal(bucket_tokens(b, 1000), 5);
	for (int i = 0; i < 5; i++)
		assert_true(bucket_take(b, 1000));
	assert_false(bucket_take(b, 1009));
	assert_int_equal(bucket_tokens(b, 1010), 3);
	assert_int_equal(bucket_tokens(b, 1005), 3); /* a worker whose clock is behind */
	assert_int_equal(bucket_tokens(b, 1020), 5);
	assert_int_equal(bucket_tokens(b, UINT64_MAX / 2), 5);
	bucket_put(&b);
	assert_null(b);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_local_ratelimit__limits),
		T(test_local_ratelimit__shared),
		T(test_local_ratelimit__off),
		T(test_local_ratelimit__errors),
		T(test_bucket__clock),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

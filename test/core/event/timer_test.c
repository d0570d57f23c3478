/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/str.h"
#include "core/event/worker.h"

static struct hb_worker *w;

struct probe {
	struct hb_timer timer;
	uint64_t fired_ms; /* 0 = not yet */
	unsigned fired;
	uint64_t restart_ms;
	struct hb_timer *other; /* stopped when this one fires */
};

static void
on_probe(struct hb_timer *t)
{
	struct probe *p = HB_CONTAINER(t, struct probe, timer);

	assert_false(hb_timer_running(t));
	p->fired_ms = hb_now_ms(w);
	p->fired++;
	if (p->other != NULL)
		hb_timer_stop(p->other);
	if (p->restart_ms != 0)
		hb_timer_start(t, p->restart_ms);
}

static int
setup(void **state)
{
	assert_int_equal(hb_workers_init(1, NULL), 0);
	w = hb_worker_at(0);
	hb_worker_enter(w);
	hb_clock_fake(w, 1000003);
	return (0);
}

static int
teardown(void **state)
{
	hb_workers_fini();
	return (0);
}

static void
test_timer__never_early_and_precise_enough(void **state)
{
	static const uint64_t delays[] = { 0, 1, 2, 15, 16, 17, 255, 256, 257, 1000, 4095, 4096,
		5000, 65535, 65536, 300000, 3600000, 86400000, UINT64_C(40) * 86400000,
		UINT64_C(400) * 86400000 };

	for (uint64_t phase = 0; phase < 300; phase += 37) {
		for (size_t i = 0; i < HB_ARRAY_LEN(delays); i++) {
			struct probe p = { 0 };
			uint64_t start, late, d = delays[i];

			hb_clock_advance(w, phase);
			start = hb_now_ms(w);
			hb_timer_init(&p.timer, w, on_probe);
			hb_timer_start(&p.timer, d);
			assert_true(hb_timer_running(&p.timer));
			hb_clock_advance(w, d + d / 8 + 20);
			assert_int_equal(p.fired, 1);
			assert_true(p.fired_ms >= start + d);
			late = p.fired_ms - start - d;
			assert_true(late <= (d < 256 ? 0 : d < 4000 ? 15 : d / 15));
		}
	}
}

static void
test_timer__moved_lazily(void **state)
{
	struct probe p = { 0 };

	hb_timer_init(&p.timer, w, on_probe);
	for (int i = 0; i < 1000; i++) {
		hb_timer_start(&p.timer, 200);
		hb_clock_advance(w, 150);
	}
	assert_int_equal(p.fired, 0);
	hb_clock_advance(w, 49);
	assert_int_equal(p.fired, 0);
	hb_clock_advance(w, 1);
	assert_int_equal(p.fired, 1);
}

static void
test_timer__moved_earlier(void **state)
{
	struct probe p = { 0 };

	hb_timer_init(&p.timer, w, on_probe);
	hb_timer_start(&p.timer, 100000);
	hb_timer_start(&p.timer, 200000);
	hb_timer_start(&p.timer, 50);
	hb_clock_advance(w, 49);
	assert_int_equal(p.fired, 0);
	hb_clock_advance(w, 1);
	assert_int_equal(p.fired, 1);
	hb_clock_advance(w, 1000000);
	assert_int_equal(p.fired, 1);
}

static void
test_timer__stop(void **state)
{
	struct probe p = { 0 };

	hb_timer_init(&p.timer, w, on_probe);
	hb_timer_stop(&p.timer);
	hb_timer_start(&p.timer, 50);
	hb_timer_stop(&p.timer);
	hb_timer_stop(&p.timer);
	assert_false(hb_timer_running(&p.timer));
	hb_clock_advance(w, 1000);
	assert_int_equal(p.fired, 0);
}

static void
test_timer__stops_another_that_is_due(void **state)
{
	struct probe a = { 0 }, b = { 0 };

	hb_timer_init(&a.timer, w, on_probe);
	hb_timer_init(&b.timer, w, on_probe);
	a.other = &b.timer;
	hb_timer_start(&a.timer, 300);
	hb_timer_start(&b.timer, 300);
	hb_clock_advance(w, 400);
	assert_int_equal(a.fired, 1);
	assert_int_equal(b.fired, 0);
}

static void
test_timer__restarts_itself(void **state)
{
	struct probe p = { .restart_ms = 10 };

	hb_timer_init(&p.timer, w, on_probe);
	hb_timer_start(&p.timer, 10);
	hb_clock_advance(w, 1000);
	assert_int_equal(p.fired, 100);
	hb_timer_stop(&p.timer);
}

/* Many timers, moved and stopped at random, against their due times. */
static void
test_timer__random(void **state)
{
	enum { N = 500 };
	static struct probe p[N];
	static uint64_t due[N];
	unsigned live = 0;

	hb_random_seed(11);
	memset(p, 0, sizeof p);
	memset(due, 0, sizeof due);
	for (int i = 0; i < N; i++)
		hb_timer_init(&p[i].timer, w, on_probe);
	for (int round = 0; round < 20000; round++) {
		unsigned i = (unsigned)(hb_random() % N), kind = (unsigned)(hb_random() % 8);

		if (kind == 0) {
			hb_timer_stop(&p[i].timer);
			due[i] = 0;
		} else if (kind < 6) {
			uint64_t d = hb_random() % (UINT64_C(1) << (hb_random() % 24));

			hb_timer_start(&p[i].timer, d);
			due[i] = hb_now_ms(w) + d;
		} else {
			hb_clock_advance(w, hb_random() % 2000);
			for (int k = 0; k < N; k++) {
				if (p[k].fired == 0)
					continue;
				assert_true(due[k] != 0 && p[k].fired_ms >= due[k]);
				p[k].fired = 0;
				due[k] = 0;
			}
		}
	}
	for (int k = 0; k < N; k++)
		live += due[k] != 0;
	hb_clock_advance(w, UINT64_C(1) << 26);
	for (int k = 0; k < N; k++) {
		live -= p[k].fired;
		assert_false(hb_timer_running(&p[k].timer));
	}
	assert_int_equal(live, 0);
}

static void
test_timer__real_clock(void **state)
{
	struct probe near = { 0 }, far = { 0 };
	uint64_t start;

	hb_workers_fini();
	assert_int_equal(hb_workers_init(1, NULL), 0);
	w = hb_worker_at(0);
	hb_worker_enter(w);
	hb_timer_init(&near.timer, w, on_probe);
	hb_timer_init(&far.timer, w, on_probe);
	start = hb_now_ms(w);
	hb_timer_start(&far.timer, 3600000);
	hb_timer_start(&near.timer, 30);
	while (near.fired == 0)
		hb_worker_turn(w, true);
	assert_true(near.fired_ms >= start + 30);
	hb_timer_stop(&far.timer);
}

/* Timers that run when the clock is taken over keep what was left of their delay. */
static void
test_timer__survives_the_fake(void **state)
{
	struct probe p = { 0 };

	hb_timer_init(&p.timer, w, on_probe);
	hb_timer_start(&p.timer, 5000);
	hb_clock_advance(w, 1000);
	hb_clock_fake(w, 77);
	hb_clock_advance(w, 3999);
	assert_int_equal(p.fired, 0);
	hb_clock_advance(w, 300);
	assert_int_equal(p.fired, 1);
}

int
main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_timer__never_early_and_precise_enough),
		TEST(test_timer__moved_lazily),
		TEST(test_timer__moved_earlier),
		TEST(test_timer__stop),
		TEST(test_timer__stops_another_that_is_due),
		TEST(test_timer__restarts_itself),
		TEST(test_timer__random),
		TEST(test_timer__real_clock),
		TEST(test_timer__survives_the_fake),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

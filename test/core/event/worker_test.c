/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#include "core/event/worker.h"

/* A number that a worker writes and the control thread reads later. */
static _Atomic unsigned counter;

static int
setup(void **state)
{
	atomic_store(&counter, 0);
	assert_int_equal(hb_workers_init(2, NULL), 0);
	return (0);
}

static int
teardown(void **state)
{
	hb_workers_fini();
	assert_null(hb_worker_control());
	return (0);
}

/* ------------------------------------------------------------------ one thread */

static char order[64];
static unsigned norder;

static void
note(char c)
{
	assert_true(norder < sizeof order - 1);
	order[norder++] = c;
	order[norder] = '\0';
}

struct thing {
	struct hb_task task;
	struct hb_run run;
	struct hb_dead dead;
	struct hb_timer timer;
	struct hb_worker *w;
	char name;
	unsigned again;
};

static void
on_dead(struct hb_dead *d)
{
	note('d');
	(void)d;
}

static void
on_run(struct hb_run *r)
{
	struct thing *t = HB_CONTAINER(r, struct thing, run);

	note('r');
	hb_dead_add(t->w, &t->dead, on_dead);
}

static void
on_task(struct hb_task *task)
{
	struct thing *t = HB_CONTAINER(task, struct thing, task);

	note('t');
	hb_run_soon(t->w, &t->run);
	hb_run_soon(t->w, &t->run);
}

static void
on_timer(struct hb_timer *timer)
{
	note('T');
	(void)timer;
}

static void
test_worker__order_of_a_turn(void **state)
{
	struct hb_worker *w = hb_worker_at(0);
	struct thing t = { .w = w };

	norder = 0;
	hb_worker_enter(w);
	hb_run_init(&t.run, on_run);
	hb_timer_init(&t.timer, w, on_timer);
	hb_timer_start(&t.timer, 0);
	hb_post(w, &t.task, on_task);
	hb_worker_turn(w, true); /* arms the timer, does the rest */
	while (hb_timer_running(&t.timer))
		hb_worker_turn(w, true);
	assert_string_equal(order, "trdT");
	assert_ptr_equal(hb_worker_current(), w);
}

static void
on_run_count(struct hb_run *r)
{
	atomic_fetch_add(&counter, 1);
	(void)r;
}

static void
test_worker__run_queue_is_bounded(void **state)
{
	enum { N = 300 };
	static struct hb_run runs[N];
	struct hb_worker *w = hb_worker_at(0);

	for (int i = 0; i < N; i++) {
		hb_run_init(&runs[i], on_run_count);
		hb_run_soon(w, &runs[i]);
	}
	hb_run_cancel(&runs[3]);
	hb_run_cancel(&runs[3]);
	hb_worker_turn(w, false);
	assert_int_equal(atomic_load(&counter), 256);
	hb_worker_turn(w, true); /* does not block: work waits */
	assert_int_equal(atomic_load(&counter), N - 1);
}

static void
on_run_again(struct hb_run *r)
{
	struct thing *t = HB_CONTAINER(r, struct thing, run);

	if (--t->again > 0)
		hb_run_soon(t->w, r);
}

/* Once a turn, so that others are not kept waiting; the loop does not block meanwhile. */
static void
test_worker__run_again_from_inside(void **state)
{
	struct hb_worker *w = hb_worker_at(0);
	struct thing t = { .w = w, .again = 10 };

	hb_run_init(&t.run, on_run_again);
	hb_run_soon(w, &t.run);
	for (unsigned left = 10; left-- > 0;) {
		hb_worker_turn(w, true);
		assert_int_equal(t.again, left);
	}
}

static void
test_worker__scratch_is_a_stack(void **state)
{
	struct hb_worker *w = hb_worker_at(0);
	uint8_t *p[HB_SCRATCH_DEPTH];

	for (unsigned i = 0; i < HB_SCRATCH_DEPTH; i++) {
		p[i] = hb_scratch_lease(w);
		assert_non_null(p[i]);
		memset(p[i], (int)i, HB_SCRATCH_SIZE);
	}
	assert_null(hb_scratch_lease(w));
	assert_int_equal(hb_scratch_exhausted(w), 1);
	for (unsigned i = HB_SCRATCH_DEPTH; i-- > 0;) {
		assert_int_equal(p[i][HB_SCRATCH_SIZE - 1], i);
		hb_scratch_release(w, p[i]);
	}
	assert_ptr_equal(hb_scratch_lease(w), p[0]);
	hb_scratch_release(w, p[0]);
}

static void
test_worker__clocks(void **state)
{
	struct hb_worker *w = hb_worker_at(0);
	uint64_t us = hb_now_us(w), ms = hb_now_ms(w);
	int64_t wall = hb_wall_us(w);

	assert_true(hb_now_us(w) >= us);
	assert_true(hb_now_ms(w) >= ms);
	assert_true(ms <= us / 1000 + 1);
	assert_true(wall > INT64_C(1600000000000000));
	hb_clock_fake(w, 1000);
	wall = hb_wall_us(w);
	assert_int_equal(hb_now_ms(w), 1000);
	hb_clock_advance(w, 250);
	assert_int_equal(hb_now_ms(w), 1250);
	assert_int_equal(hb_now_us(w), 1250000);
	assert_int_equal(hb_wall_us(w) - wall, 250000);
}

static void
on_each(struct hb_worker *w, void *arg)
{
	assert_ptr_equal(hb_worker_current(), w);
	*(unsigned *)arg += 1 + w->index;
}

static void
on_all(void *arg)
{
	*(unsigned *)arg += 100;
}

static void
test_worker__post_all_at_once_when_not_running(void **state)
{
	unsigned n = 0;

	hb_post_all(on_each, on_all, &n);
	assert_int_equal(n, 103);
	assert_ptr_equal(hb_worker_current(), hb_worker_control());
}

static void
test_worker__counts(void **state)
{
	struct hb_err err;

	assert_int_equal(hb_workers_count(), 2);
	assert_int_equal(hb_worker_at(1)->index, 1);
	assert_int_equal(hb_worker_control()->index, HB_WORKER_CONTROL);
	hb_workers_fini();
	assert_int_equal(hb_workers_init(0, &err), -EINVAL);
	assert_int_equal(hb_workers_init(HB_WORKERS_MAX + 1, &err), -EINVAL);
}

/* ------------------------------------------------------------------ threads */

struct ordered {
	struct hb_task task;
	unsigned poster, number;
};

enum { POSTERS = 3, POSTS = 2000 };
static unsigned last_number[POSTERS]; /* of the worker 0 */

static void
on_stop(struct hb_task *t)
{
	hb_control_stop();
	(void)t;
}

static void
on_ordered(struct hb_task *task)
{
	static struct hb_task stop;
	struct ordered *o = HB_CONTAINER(task, struct ordered, task);

	assert_ptr_equal(hb_worker_current(), hb_worker_at(0));
	assert_int_equal(o->number, last_number[o->poster] + 1);
	last_number[o->poster] = o->number;
	hb_free(o);
	if (atomic_fetch_add(&counter, 1) + 1 == POSTERS * POSTS)
		hb_post(hb_worker_control(), &stop, on_stop);
}

static void *
poster(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;

	assert_null(hb_worker_current());
	for (unsigned i = 1; i <= POSTS; i++) {
		struct ordered *o = hb_calloc(1, sizeof *o);

		o->poster = me;
		o->number = i;
		hb_post(hb_worker_at(0), &o->task, on_ordered);
	}
	return (NULL);
}

static void
test_worker__tasks_of_one_poster_run_in_order(void **state)
{
	pthread_t th[POSTERS];

	memset(last_number, 0, sizeof last_number);
	assert_int_equal(hb_workers_start(NULL), 0);
	for (uintptr_t i = 0; i < POSTERS; i++)
		assert_int_equal(pthread_create(&th[i], NULL, poster, (void *)i), 0);
	hb_control_run();
	for (int i = 0; i < POSTERS; i++)
		assert_int_equal(pthread_join(th[i], NULL), 0);
	assert_int_equal(atomic_load(&counter), POSTERS * POSTS);
}

static void
on_each_thread(struct hb_worker *w, void *arg)
{
	assert_ptr_equal(hb_worker_current(), w);
	atomic_fetch_add(&counter, 1);
	(void)arg;
}

static void
on_all_thread(void *arg)
{
	unsigned *rounds = arg;

	assert_ptr_equal(hb_worker_current(), hb_worker_control());
	assert_int_equal(atomic_load(&counter), ++*rounds * 2);
	if (*rounds < 100)
		hb_post_all(on_each_thread, on_all_thread, rounds);
	else
		hb_control_stop();
}

static void
test_worker__post_all_across_threads(void **state)
{
	unsigned rounds = 0;

	assert_int_equal(hb_workers_start(NULL), 0);
	hb_post_all(on_each_thread, on_all_thread, &rounds);
	hb_control_run();
	assert_int_equal(rounds, 100);
}

static void
on_leftover(struct hb_task *t)
{
	atomic_fetch_add(&counter, 1);
	hb_free(t);
}

/* What is posted just before the end still runs. */
static void
test_worker__fini_runs_what_was_posted(void **state)
{
	assert_int_equal(hb_workers_start(NULL), 0);
	for (unsigned i = 0; i < 5000; i++)
		hb_post(hb_worker_at(i % 2), hb_calloc(1, sizeof(struct hb_task)), on_leftover);
	hb_workers_fini();
	assert_int_equal(atomic_load(&counter), 5000);
}

static void
on_end(struct hb_worker *w)
{
	/* Everything has run by then. */
	assert_int_equal(atomic_load(&counter), 10);
	assert_non_null(w->slot[HB_SLOT_TEST]);
	w->slot[HB_SLOT_TEST] = NULL;
}

static void
on_fill(struct hb_task *t)
{
	struct hb_worker *w = hb_worker_current();

	w->slot[HB_SLOT_TEST] = w;
	on_leftover(t);
}

static void
test_worker__end_hooks_come_last(void **state)
{
	hb_workers_at_end(on_end);
	assert_int_equal(hb_workers_start(NULL), 0);
	for (unsigned i = 0; i < 10; i++)
		hb_post(hb_worker_at(i % 2), hb_calloc(1, sizeof(struct hb_task)), on_fill);
	hb_workers_fini();
	/* Forgotten: the next end does not call it. */
	assert_int_equal(hb_workers_init(2, NULL), 0);
}

static void
look_at_stack(struct hb_worker *w, void *arg)
{
	stack_t stack;

	(void)w;
	(void)arg;
	if (sigaltstack(NULL, &stack) == 0 && !(stack.ss_flags & SS_DISABLE))
		atomic_fetch_add(&counter, 1);
}

static void
stop(void *arg)
{
	(void)arg;
	hb_control_stop();
}

/* For the report after their own stack has overflowed. */
static void
test_worker__threads_have_a_stack_for_the_panic(void **state)
{
	assert_int_equal(hb_workers_start(NULL), 0);
	hb_post_all(look_at_stack, stop, NULL);
	hb_control_run();
	assert_int_equal(atomic_load(&counter), 2);
}

static void
test_worker__stop_before_run(void **state)
{
	hb_control_stop();
	hb_control_run();
}

int
main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_worker__order_of_a_turn),
		TEST(test_worker__run_queue_is_bounded),
		TEST(test_worker__run_again_from_inside),
		TEST(test_worker__scratch_is_a_stack),
		TEST(test_worker__clocks),
		TEST(test_worker__post_all_at_once_when_not_running),
		TEST(test_worker__counts),
		TEST(test_worker__tasks_of_one_poster_run_in_order),
		TEST(test_worker__post_all_across_threads),
		TEST(test_worker__fini_runs_what_was_posted),
		TEST(test_worker__end_hooks_come_last),
		TEST(test_worker__threads_have_a_stack_for_the_panic),
		TEST(test_worker__stop_before_run),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

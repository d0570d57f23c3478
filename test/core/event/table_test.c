/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <stdio.h>

#include "core/event/table.h"

static struct hb_worker *control;
static unsigned freed; /* objects, on the control thread */

struct object {
	unsigned magic;
#define OBJECT_MAGIC 0x0b1ec7
	unsigned name, version;
};

static struct object *
object(unsigned name, unsigned version)
{
	struct object *o;

	HB_NEW(o, OBJECT_MAGIC);
	o->name = name;
	o->version = version;
	return (o);
}

static void
object_free(void *arg)
{
	struct object *o;

	HB_CAST(o, arg, OBJECT_MAGIC);
	assert_ptr_equal(hb_worker_current(), control);
	HB_DEL(o);
	freed++;
}

static struct hb_str
key(unsigned i)
{
	static _Thread_local char text[32];

	(void)snprintf(text, sizeof text, "cluster/%u", i);
	return (hb_str(text));
}

static int
setup(void **state)
{
	freed = 0;
	assert_int_equal(hb_workers_init(2, NULL), 0);
	control = hb_worker_control();
	return (0);
}

static int
teardown(void **state)
{
	hb_workers_fini();
	return (0);
}

static void
settle(void)
{
	for (int i = 0; i < 50; i++)
		hb_worker_turn(control, false);
}

static void
count_one(void *arg, struct hb_str name, void *obj)
{
	struct object *o = obj;

	assert_true(hb_str_eq(name, key(o->name)));
	++*(size_t *)arg;
}

static void
test_table__put_get_del(void **state)
{
	struct hb_table *t = hb_table_new(object_free);
	size_t n = 0;

	assert_null(hb_table_get(t, key(1)));
	assert_false(hb_table_del(t, key(1)));
	for (unsigned i = 0; i < 3000; i++)
		hb_table_put(t, key(i), object(i, 1));
	hb_table_put(t, hb_str(""), object(0, 9));
	assert_int_equal(hb_table_count(t), 3001);
	assert_int_equal(((struct object *)hb_table_get(t, hb_str("")))->version, 9);
	assert_true(hb_table_del(t, hb_str("")));
	for (unsigned i = 0; i < 3000; i += 2)
		assert_true(hb_table_del(t, key(i)));
	for (unsigned i = 1; i < 3000; i += 2)
		hb_table_put(t, key(i), object(i, 2));
	for (unsigned i = 0; i < 3000; i++) {
		struct object *o = hb_table_get(t, key(i));

		if (i % 2 == 0)
			assert_null(o);
		else
			assert_true(o != NULL && o->name == i && o->version == 2);
	}
	hb_table_foreach(t, count_one, &n);
	assert_int_equal(n, 1500);
	assert_int_equal(freed, 0); /* not before the turn ends */
	settle();
	assert_int_equal(freed, 3001);
	hb_table_free(&t);
	assert_null(t);
	hb_table_free(&t);
	settle();
	assert_int_equal(freed, 4501);
}

/* Names that come and go leave no growing array of graves. */
static void
test_table__churn(void **state)
{
	struct hb_table *t = hb_table_new(object_free);

	for (unsigned i = 0; i < 100000; i++) {
		hb_table_put(t, key(i), object(i, 1));
		if (i >= 10)
			assert_true(hb_table_del(t, key(i - 10)));
		if (i % 1000 == 0)
			hb_worker_turn(control, false);
	}
	assert_int_equal(hb_table_count(t), 10);
	hb_table_free(&t);
	settle();
	while (freed < 100000)
		hb_worker_turn(control, false);
}

static char sequence[16];
static unsigned nsequence;

static void *
letter(char c)
{
	return ((void *)(uintptr_t)c);
}

static void
on_retired(void *arg)
{
	char c = (char)(uintptr_t)arg;

	sequence[nsequence++] = c;
	if (c == 'b')
		hb_retire(letter('d'), on_retired); /* retiring while freeing */
}

static void
test_retire__in_order(void **state)
{
	nsequence = 0;
	memset(sequence, 0, sizeof sequence);
	hb_retire(letter('a'), on_retired);
	hb_retire(letter('b'), on_retired);
	hb_retire_barrier(on_retired, letter('!'));
	hb_worker_turn(control, true);
	settle();
	assert_string_equal(sequence, "ab!d");
}

static void
test_retire__fini_frees_the_rest(void **state)
{
	nsequence = 0;
	memset(sequence, 0, sizeof sequence);
	assert_int_equal(hb_workers_start(NULL), 0);
	hb_retire(letter('a'), on_retired);
	hb_retire(letter('b'), on_retired);
	hb_workers_fini();
	assert_string_equal(sequence, "abd");
	hb_retire(letter('c'), on_retired); /* nobody can hold it */
	assert_string_equal(sequence, "abdc");
}

/* ------------------------------------------------------------------ threads */

enum { NAMES = 64, ROUNDS = 20000 };

static struct hb_table *shared;
static _Atomic bool stop_readers;
static _Atomic unsigned readers;
static _Atomic uint64_t reads;

struct reader {
	struct hb_run run;
	struct hb_worker *w;
	struct object *kept[50]; /* until the end of the turn: checked on the dead list */
	struct hb_dead dead;
};

static void
check(const struct object *o)
{
	HB_CHECK(o, OBJECT_MAGIC);
	assert_true(o->name < NAMES && o->version > 0);
}

static void reader_run(struct hb_run *r);

static void
reader_dead(struct hb_dead *d)
{
	struct reader *r = HB_CONTAINER(d, struct reader, dead);

	/* Gives the writer time to replace them, and to free them if it were wrong. */
	sched_yield();
	for (unsigned i = 0; i < HB_ARRAY_LEN(r->kept); i++)
		if (r->kept[i] != NULL)
			check(r->kept[i]);
	if (atomic_load(&stop_readers)) {
		hb_free(r);
		atomic_fetch_sub(&readers, 1);
	} else {
		hb_run_soon(r->w, &r->run);
	}
}

static void
reader_run(struct hb_run *run)
{
	struct reader *r = HB_CONTAINER(run, struct reader, run);

	for (unsigned i = 0; i < HB_ARRAY_LEN(r->kept); i++) {
		unsigned name = (unsigned)(hb_random() % NAMES);
		struct object *o = hb_table_get(shared, key(name));

		r->kept[i] = NULL;
		if (o == NULL)
			continue;
		check(o);
		assert_int_equal(o->name, name);
		r->kept[i] = o;
	}
	atomic_fetch_add(&reads, HB_ARRAY_LEN(r->kept));
	hb_dead_add(r->w, &r->dead, reader_dead);
}

static void
reader_start(struct hb_worker *w, void *arg)
{
	struct reader *r = hb_calloc(1, sizeof *r);

	r->w = w;
	hb_run_init(&r->run, reader_run);
	hb_run_soon(w, &r->run);
	atomic_fetch_add(&readers, 1);
	(void)arg;
}

static void
on_barrier(void *arg)
{
	if (atomic_load(&readers) == 0)
		hb_control_stop();
	else
		hb_retire_barrier(on_barrier, NULL);
	(void)arg;
}

struct writer {
	struct hb_task task;
	unsigned round;
};

/* A few changes a turn of the control loop. */
static void
writer_task(struct hb_task *task)
{
	struct writer *wr = HB_CONTAINER(task, struct writer, task);

	for (unsigned i = 0; i < 5; i++) {
		unsigned name = (unsigned)(hb_random() % NAMES);

		if (hb_random() % 3 == 0)
			(void)hb_table_del(shared, key(name));
		else
			hb_table_put(shared, key(name), object(name, ++wr->round));
	}
	if (wr->round < ROUNDS || atomic_load(&reads) < 20000) {
		hb_post(control, task, writer_task);
	} else {
		atomic_store(&stop_readers, true);
		hb_retire_barrier(on_barrier, NULL);
	}
}

/* Readers on two threads hold objects until their turn ends, while the writer replaces them. */
static void
test_table__readers_under_a_writer(void **state)
{
	struct writer wr = { .round = 0 };

	atomic_store(&stop_readers, false);
	atomic_store(&readers, 0);
	atomic_store(&reads, 0);
	shared = hb_table_new(object_free);
	assert_int_equal(hb_workers_start(NULL), 0);
	hb_post_all(reader_start, NULL, NULL);
	hb_post(control, &wr.task, writer_task);
	hb_control_run();
	assert_true(freed > 100);
	hb_table_free(&shared);
	hb_workers_fini();
	assert_int_equal(freed, wr.round);
}

int
main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_table__put_get_del),
		TEST(test_table__churn),
		TEST(test_retire__in_order),
		TEST(test_retire__fini_frees_the_rest),
		TEST(test_table__readers_under_a_writer),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

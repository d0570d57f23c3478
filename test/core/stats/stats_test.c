/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>

#include "core/stats/stats.h"

#define WORKERS 3
#define ADDS    100000

#define ROOM_STATS(X)                                                            \
	X(ROOM_CX_TOTAL, "cx_total", COUNTER, "Connections.")                    \
	X(ROOM_CX_ACTIVE, "cx_active", GAUGE, "Open connections.")               \
	X(ROOM_LENGTH_MS, "length_ms", HISTOGRAM, "How long they lived, in ms.") \
	X(ROOM_SSL_FAIL, "ssl.fail", COUNTER, "Failed \\ refused\nhandshakes.")
enum room_stat {
	ROOM_STATS(HB_STAT_ENUM) ROOM_STAT_MAX
};
HB_STAT_FAMILY(room_family, "room", "envoy_room", "envoy_room_name", ROOM_STATS);

#define HOUSE_STATS(X)                               \
	X(HOUSE_STATE, "state", GAUGE, "0 is live.") \
	X(HOUSE_UPTIME, "uptime", GAUGE, "Seconds.")
enum house_stat {
	HOUSE_STATS(HB_STAT_ENUM) HOUSE_STAT_MAX
};
HB_STAT_FAMILY(house_family, "house", "envoy_house", NULL, HOUSE_STATS);

#define GATE_STATS(X) X(GATE_OPEN, "open", COUNTER, "Gates opened.")
enum gate_stat {
	GATE_STATS(HB_STAT_ENUM) GATE_STAT_MAX
};
HB_STAT_FAMILY(gate_family, "*.gate.*", "envoy_gate", "envoy_gate_prefix", GATE_STATS);
HB_STAT_FAMILY(tail_family, "*.tail.", "envoy_tail", "envoy_tail_prefix", GATE_STATS);

static int setup(void **state)
{
	struct hb_err err;

	(void)state;
	return (hb_workers_init(WORKERS, &err));
}

static int teardown(void **state)
{
	(void)state;
	hb_workers_fini();
	return (0);
}

static bool starts_with(void *arg, const char *name)
{
	return (hb_str_starts(hb_str(name), hb_str(arg)));
}

static void check_text(const struct hb_stats_query *q, const char *want)
{
	struct hb_text t = { 0 };

	hb_text_addz(&t, "");
	hb_stats_text(&t, q);
	assert_string_equal(t.p, want);
	hb_text_fini(&t);
}

static void test_sums(void **state)
{
	struct hb_stats *s = hb_stats_get(&room_family, HB_STR("a"));

	assert_int_equal(hb_stat_value(s, ROOM_CX_TOTAL), 0);
	hb_stat_inc(hb_worker_at(0), s, ROOM_CX_TOTAL);
	hb_stat_add(hb_worker_at(2), s, ROOM_CX_TOTAL, 4);
	hb_stat_add(hb_worker_control(), s, ROOM_CX_TOTAL, 10);
	assert_int_equal(hb_stat_value(s, ROOM_CX_TOTAL), 15);
	assert_int_equal(hb_stat_value_of(s, ROOM_CX_TOTAL, hb_worker_at(0)), 1);
	assert_int_equal(hb_stat_value_of(s, ROOM_CX_TOTAL, hb_worker_at(1)), 0);
	assert_int_equal(hb_stat_value_of(s, ROOM_CX_TOTAL, hb_worker_at(2)), 4);
	assert_int_equal(hb_stat_value_of(s, ROOM_CX_TOTAL, hb_worker_control()), 10);
	/* A connection that moves leaves a worker with less than nothing. */
	hb_stat_add(hb_worker_at(0), s, ROOM_CX_ACTIVE, 1);
	hb_stat_add(hb_worker_at(1), s, ROOM_CX_ACTIVE, -1);
	assert_int_equal(hb_stat_value(s, ROOM_CX_ACTIVE), 0);
	hb_stat_record(hb_worker_at(0), s, ROOM_LENGTH_MS, 5);
	hb_stat_record(hb_worker_at(1), s, ROOM_LENGTH_MS, 500);
	assert_int_equal(hb_stat_value(s, ROOM_LENGTH_MS), 2);
	hb_stats_unref(&s);
	assert_null(s);
	hb_stats_unref(&s);
}

static void test_scopes_outlive_owners(void **state)
{
	struct hb_stats *old = hb_stats_get(&room_family, HB_STR("a")), *s, *other;

	assert_int_equal(hb_stat_value(old, ROOM_CX_TOTAL), 0);
	hb_stat_inc(hb_worker_at(0), old, ROOM_CX_TOTAL);
	s = hb_stats_get(&room_family, HB_STR("a"));
	other = hb_stats_get(&room_family, HB_STR("b"));
	assert_ptr_equal(s, old);
	assert_ptr_not_equal(other, s);
	hb_stats_unref(&old);
	assert_int_equal(hb_stat_value(s, ROOM_CX_TOTAL), 1);
	assert_int_equal(hb_stat_value(other, ROOM_CX_TOTAL), 0);
	assert_string_equal(hb_stats_label(s), "a");
	hb_stats_unref(&s);
	hb_stats_unref(&other);
	check_text(NULL, "");
}

static int64_t forty_two(void *arg)
{
	return (*(int *)arg + 40);
}

static void test_text(void **state)
{
	struct hb_stats *a = hb_stats_get(&room_family, HB_STR("127.0.0.1:80")),
			*b = hb_stats_get(&room_family, HB_STR("b\n")),
			*h = hb_stats_get(&house_family, HB_STR(""));
	struct hb_stats_query used = { .used_only = true };
	struct hb_stats_query filtered = { .filter = starts_with, .arg = (char *)"room.b_.c" };
	int two = 2;

	check_text(&used, "");
	hb_stat_computed(h, HOUSE_UPTIME, forty_two, &two);
	hb_stat_set(h, HOUSE_STATE, 0);
	hb_stat_add(hb_worker_at(1), a, ROOM_CX_ACTIVE, 1);
	hb_stat_add(hb_worker_at(1), a, ROOM_CX_ACTIVE, -1);
	check_text(&used, "house.state: 0\nhouse.uptime: 42\nroom.127.0.0.1_80.cx_active: 0\n");
	check_text(&filtered, "room.b_.cx_active: 0\nroom.b_.cx_total: 0\n");
	hb_stat_record(hb_worker_at(1), a, ROOM_LENGTH_MS, 1);
	filtered.arg = (char *)"room.127";
	check_text(&filtered,
		"room.127.0.0.1_80.cx_active: 0\nroom.127.0.0.1_80.cx_total: 0\n"
		"room.127.0.0.1_80.ssl.fail: 0\nroom.127.0.0.1_80.length_ms: P0(nan,1.0) "
		"P25(nan,1.025) P50(nan,1.05) P75(nan,1.075) P90(nan,1.09) P95(nan,1.095) "
		"P99(nan,1.099) P99.5(nan,1.0995) P99.9(nan,1.0999) P100(nan,1.1)\n");
	filtered.arg = (char *)"room.b_.l";
	check_text(&filtered, "room.b_.length_ms: No recorded values\n");
	hb_stats_unref(&a);
	hb_stats_unref(&b);
	hb_stats_unref(&h);
}

static void test_json(void **state)
{
	struct hb_stats *h = hb_stats_get(&house_family, HB_STR("")), *a;
	struct hb_text t = { 0 };

	hb_stat_set(h, HOUSE_STATE, -1);
	hb_stats_json(&t, NULL);
	assert_string_equal(t.p,
		"{\"stats\":[{\"name\":\"house.state\",\"value\":-1},"
		"{\"name\":\"house.uptime\",\"value\":0}]}");
	hb_text_fini(&t);
	hb_stats_unref(&h);
	a = hb_stats_get(&room_family, HB_STR("q\""));
	hb_stat_record(hb_worker_at(0), a, ROOM_LENGTH_MS, 20);
	hb_stats_json(&t, &(struct hb_stats_query){ .used_only = true });
	assert_non_null(strstr(t.p,
		"{\"stats\":[{\"histograms\":{\"supported_quantiles\":"
		"[0,25,50,75,90,95,99,99.5,99.9,100],\"computed_quantiles\":"
		"[{\"name\":\"room.q\\\".length_ms\",\"values\":"
		"[{\"cumulative\":20.0,\"interval\":null},"));
	assert_non_null(strstr(t.p, "{\"cumulative\":21.0,\"interval\":null}]}]}}]}"));
	hb_text_fini(&t);
	hb_stats_reset();
	hb_stats_json(&t, NULL);
	assert_non_null(strstr(t.p, "\"value\":0},{\"histograms\":"));
	assert_non_null(strstr(t.p, "[{\"cumulative\":null,\"interval\":null},"));
	hb_text_fini(&t);
	hb_stats_unref(&a);
}

static void test_prometheus(void **state)
{
	struct hb_stats *b = hb_stats_get(&room_family, HB_STR("b")),
			*a = hb_stats_get(&room_family, HB_STR("a\"\\:1")),
			*h = hb_stats_get(&house_family, HB_STR(""));
	struct hb_text t = { 0 };

	hb_stat_inc(hb_worker_at(0), a, ROOM_SSL_FAIL);
	hb_stat_add(hb_worker_at(0), b, ROOM_SSL_FAIL, 2);
	hb_stat_set(h, HOUSE_STATE, 3);
	hb_stat_record(hb_worker_at(0), b, ROOM_LENGTH_MS, 1);
	hb_stat_record(hb_worker_at(1), b, ROOM_LENGTH_MS, 7000);
	hb_stats_prometheus(&t, &(struct hb_stats_query){ .used_only = true });
	assert_non_null(strstr(t.p,
		"# HELP envoy_house_state 0 is live.\n"
		"# TYPE envoy_house_state gauge\n"
		"envoy_house_state 3\n"
		"# HELP envoy_room_length_ms How long they lived, in ms.\n"
		"# TYPE envoy_room_length_ms histogram\n"
		"envoy_room_length_ms_bucket{envoy_room_name=\"b\",le=\"0.5\"} 0\n"
		"envoy_room_length_ms_bucket{envoy_room_name=\"b\",le=\"1\"} 1\n"));
	assert_non_null(strstr(t.p, "le=\"5000\"} 1\n"));
	assert_non_null(strstr(t.p, "le=\"10000\"} 2\n"));
	assert_non_null(strstr(t.p,
		"le=\"3600000\"} 2\n"
		"envoy_room_length_ms_bucket{envoy_room_name=\"b\",le=\"+Inf\"} 2\n"
		"envoy_room_length_ms_sum{envoy_room_name=\"b\"} 7001\n"
		"envoy_room_length_ms_count{envoy_room_name=\"b\"} 2\n"
		"# HELP envoy_room_ssl_fail Failed \\\\ refused\\nhandshakes.\n"
		"# TYPE envoy_room_ssl_fail counter\n"
		"envoy_room_ssl_fail{envoy_room_name=\"a\\\"\\\\_1\"} 1\n"
		"envoy_room_ssl_fail{envoy_room_name=\"b\"} 2\n"));
	hb_text_fini(&t);
	hb_stats_unref(&a);
	hb_stats_unref(&b);
	hb_stats_unref(&h);
}

static void test_reset(void **state)
{
	struct hb_stats *s = hb_stats_get(&room_family, HB_STR("a"));

	for (int round = 0; round < 3; round++) {
		hb_stat_add(hb_worker_at(0), s, ROOM_CX_TOTAL, 3);
		hb_stat_add(hb_worker_at(1), s, ROOM_CX_TOTAL, 4);
		hb_stat_record(hb_worker_at(1), s, ROOM_LENGTH_MS, 9);
		hb_stat_add(hb_worker_at(1), s, ROOM_CX_ACTIVE, 1);
		assert_int_equal(hb_stat_value(s, ROOM_CX_TOTAL), 7);
		assert_int_equal(hb_stat_value(s, ROOM_LENGTH_MS), 1);
		hb_stats_reset();
		assert_int_equal(hb_stat_value(s, ROOM_CX_TOTAL), 0);
		assert_int_equal(hb_stat_value_of(s, ROOM_CX_TOTAL, hb_worker_at(1)), 0);
		assert_int_equal(hb_stat_value(s, ROOM_LENGTH_MS), 0);
		assert_int_equal(hb_stat_value(s, ROOM_CX_ACTIVE), round + 1);
	}
	hb_stats_unref(&s);
}

static void count_family(void *arg, const struct hb_stat_family *f)
{
	unsigned *seen = arg;

	if (f == &gate_family || f == &tail_family)
		return;
	*seen |= f == &room_family ? 1 : f == &house_family ? 2 : 4;
}

static void test_families(void **state)
{
	unsigned seen = 0;

	hb_stats_families(count_family, &seen);
	assert_int_equal(seen, 3);
}

struct adder {
	pthread_t thread;
	struct hb_worker *worker;
	struct hb_stats *s;
	_Atomic bool *go;
};

static void *adder_run(void *arg)
{
	struct adder *a = arg;

	while (!atomic_load(a->go))
		;
	for (unsigned i = 0; i < ADDS; i++) {
		hb_stat_inc(a->worker, a->s, ROOM_CX_TOTAL);
		hb_stat_record(a->worker, a->s, ROOM_LENGTH_MS, i);
	}
	return (NULL);
}

/* Workers write while the control thread reads, prints and resets: nothing is lost. */
static void test_concurrent(void **state)
{
	struct hb_stats *s = hb_stats_get(&room_family, HB_STR("busy"));
	int64_t seen = 0, last = 0;
	struct adder adders[WORKERS];
	_Atomic bool go = false;
	struct hb_text t = { 0 };

	for (unsigned i = 0; i < WORKERS; i++) {
		adders[i] = (struct adder){ .worker = hb_worker_at(i), .s = s, .go = &go };
		assert_int_equal(pthread_create(&adders[i].thread, NULL, adder_run, &adders[i]), 0);
	}
	atomic_store(&go, true);
	while (seen < ADDS) {
		seen = hb_stat_value(s, ROOM_CX_TOTAL);
		assert_true(seen >= last);
		last = seen;
		hb_stats_prometheus(&t, NULL);
		hb_text_fini(&t);
	}
	hb_stats_reset();
	for (unsigned i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_join(adders[i].thread, NULL), 0);
	assert_true(hb_stat_value(s, ROOM_CX_TOTAL) <= ADDS * (WORKERS - 1));
	assert_true(hb_stat_value(s, ROOM_LENGTH_MS) <= ADDS * WORKERS);
	assert_true(hb_stat_value(s, ROOM_LENGTH_MS) >= 0);
	hb_stats_unref(&s);
}

static char seven[] = "7";

static bool wants_other(void *arg, const char *name)
{
	(void)arg;
	return (strcmp(name, "other_total") == 0);
}

static void render_other(void *arg, const struct hb_stats_query *q, struct hb_text *t)
{
	if (hb_stats_wanted(q, "other_total"))
		hb_text_printf(t, "other_total %s\n", (const char *)arg);
	if (hb_stats_wanted(q, "another_total"))
		hb_text_addz(t, "another_total 1\n");
}

/* Registered for good, hence the last test. */
static void test_renderers(void **state)
{
	struct hb_text t = { 0 };

	hb_stats_renderer_add(render_other, seven);
	hb_stats_prometheus(&t, NULL);
	assert_true(hb_str_ends(hb_strn(t.p, t.len), HB_STR("other_total 7\nanother_total 1\n")));
	t.len = 0;
	hb_stats_prometheus(&t, &(struct hb_stats_query){ .filter = wants_other });
	assert_string_equal(t.p, "other_total 7\n");
	hb_text_fini(&t);
}

/* Envoy puts some prefixes before the family's name. */
static void test_label_in_the_middle(void **state)
{
	struct hb_stats *one = hb_stats_get(&gate_family, HB_STR("north:1")),
			*two = hb_stats_get(&gate_family, HB_STR("north:1\nback_")),
			*tail = hb_stats_get(&tail_family, HB_STR("a\nb"));
	struct hb_stats_query used = { .used_only = true };
	struct hb_text t = { 0 };

	hb_stat_inc(hb_worker_control(), one, GATE_OPEN);
	hb_stat_add(hb_worker_control(), two, GATE_OPEN, 2);
	hb_stat_add(hb_worker_control(), tail, GATE_OPEN, 3);
	check_text(&used,
		"a_b.tail.open: 3\nnorth_1.gate.back_open: 2\nnorth_1.gate.open: 1\n");
	hb_stats_prometheus(&t, &used);
	assert_non_null(strstr(t.p, "\nenvoy_gate_back_open{envoy_gate_prefix=\"north_1\"} 2\n"));
	assert_non_null(strstr(t.p, "\nenvoy_gate_open{envoy_gate_prefix=\"north_1\"} 1\n"));
	assert_non_null(strstr(t.p, "\nenvoy_tail_open{envoy_tail_prefix=\"a_b\"} 3\n"));
	hb_text_fini(&t);
	hb_stats_unref(&one);
	hb_stats_unref(&two);
	hb_stats_unref(&tail);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_sums),
		TEST(test_scopes_outlive_owners),
		TEST(test_text),
		TEST(test_label_in_the_middle),
		TEST(test_json),
		TEST(test_prometheus),
		TEST(test_reset),
		TEST(test_families),
		TEST(test_concurrent),
		TEST(test_renderers),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

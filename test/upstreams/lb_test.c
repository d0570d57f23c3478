/* SPDX-License-Identifier: Apache-2.0 */
/* Shares of priorities, panic, localities, and the policies' distributions. */
#include "test/upstreams/support.h"

#define PICKS 30000

/* ------------------------------------------------------------------ loads */

static struct hb_lb_settings settings = {
	.choice_count = 2, .panic_percent = 50, .overprovisioning = 140
};

struct p {
	unsigned total, healthy, degraded;
	int load, load_degraded, panic;
};

static void
loads(struct p *v, unsigned n)
{
	struct hb_lb_prio p[4] = { { 0 } };
	unsigned sum = 0;

	for (unsigned i = 0; i < n; i++) {
		p[i].n_total = v[i].total;
		p[i].n_healthy = v[i].healthy;
		p[i].n_degraded = v[i].degraded;
	}
	hb_lb_loads(p, n, &settings);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(p[i].load_healthy, v[i].load);
		assert_int_equal(p[i].load_degraded, v[i].load_degraded);
		assert_int_equal(p[i].panic, v[i].panic);
		sum += p[i].load_healthy + p[i].load_degraded;
	}
	assert_true(sum == 100 || sum == 0);
}
#define LOADS(...)                               \
	do {                                     \
		struct p v_[] = { __VA_ARGS__ }; \
		loads(v_, HB_ARRAY_LEN(v_));     \
	} while (0)

static void
test_loads__priorities(void **state)
{
	(void)state;
	LOADS({ 10, 10, 0, 100, 0, 0 }, { 10, 10, 0, 0, 0, 0 });
	/* 72 % healthy times 1.4 still is all of the load. */
	LOADS({ 100, 72, 0, 100, 0, 0 }, { 100, 100, 0, 0, 0, 0 });
	LOADS({ 100, 71, 0, 99, 0, 0 }, { 100, 100, 0, 1, 0, 0 });
	LOADS({ 100, 50, 0, 70, 0, 0 }, { 100, 100, 0, 30, 0, 0 });
	LOADS({ 100, 25, 0, 35, 0, 0 }, { 100, 100, 0, 65, 0, 0 });
	LOADS({ 100, 0, 0, 0, 0, 0 }, { 100, 100, 0, 100, 0, 0 });
	LOADS({ 100, 25, 0, 35, 0, 0 }, { 100, 25, 0, 35, 0, 0 }, { 100, 100, 0, 30, 0, 0 });
}

static void
test_loads__shares_are_normalised(void **state)
{
	(void)state;
	/* 35 % and 35 %: nothing is missing of the 70, and both are in panic below 50 %. */
	LOADS({ 100, 25, 0, 50, 0, 1 }, { 100, 25, 0, 50, 0, 1 });
	/* Only the second is in panic. */
	LOADS({ 100, 50, 0, 84, 0, 0 }, { 100, 10, 0, 16, 0, 1 });
}

static void
test_loads__degraded_are_the_last_resort(void **state)
{
	(void)state;
	LOADS({ 10, 0, 10, 0, 100, 0 });
	LOADS({ 10, 8, 2, 100, 0, 0 });
	LOADS({ 100, 50, 50, 70, 30, 0 });
	LOADS({ 100, 0, 100, 0, 0, 0 }, { 100, 100, 0, 100, 0, 0 });
}

static void
test_loads__panic(void **state)
{
	(void)state;
	LOADS({ 10, 0, 0, 100, 0, 1 });
	/* All in panic: the shares follow the numbers of endpoints. */
	LOADS({ 30, 0, 0, 75, 0, 1 }, { 10, 0, 0, 25, 0, 1 });
	/* Seven tenths of the load are there: no panic at half of the endpoints. */
	LOADS({ 10, 5, 0, 100, 0, 0 });
	settings.panic_percent = 0;
	LOADS({ 10, 0, 0, 0, 0, 0 });
	LOADS({ 10, 1, 0, 100, 0, 0 });
	settings.panic_percent = 50;
	LOADS({ 0, 0, 0, 0, 0, 1 });
}

/* ------------------------------------------------------------------ choosing */

#define EP(port, rest)                                                                             \
	"{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: " #port "}}}" rest \
	"}"

/* Counts of ports 1 … 9 after n choices. */
static void
choose(struct hb_cluster *c, unsigned n, unsigned counts[10])
{
	struct hb_lb_state st = { 0 };
	struct hb_endpoint *e;

	memset(counts, 0, 10 * sizeof counts[0]);
	for (unsigned i = 0; i < n; i++) {
		struct hb_lb_ctx ctx = { .settings = &c->lb_settings };

		e = hb_lb_choose(atomic_load(&c->eps), &st, &ctx);
		counts[e == NULL ? 0 : hb_endpoint_addrs(e)->v[0].port]++;
	}
	hb_lb_state_fini(&st);
}

static void
about(unsigned n, double share)
{
	if (n < share * PICKS * 0.93 - 2 || n > share * PICKS * 1.07 + 2)
		fail_msg("%u of %d instead of about %.0f", n, PICKS, share * PICKS);
}

static struct hb_cluster *
one_locality(const char *policy, const char *endpoints, const char *rest)
{
	return (up_cluster(
		"{name: c, lb_policy: %s, load_assignment: {endpoints: [{lb_endpoints: [%s]}]}%s}",
		policy, endpoints, rest));
}

static void
test_round_robin(void **state)
{
	struct hb_cluster *c = one_locality(
		"ROUND_ROBIN", EP(1, "") "," EP(2, "") "," EP(3, ""), "");
	unsigned n[10], first[10], starts = 0;

	(void)state;
	choose(c, 30, n);
	assert_int_equal(n[1], 10);
	assert_int_equal(n[2], 10);
	assert_int_equal(n[3], 10);
	/* Workers do not all start with the same one. */
	for (unsigned i = 0; i < 32; i++) {
		choose(c, 1, first);
		starts |= first[1] << 1 | first[2] << 2 | first[3] << 3;
	}
	assert_int_equal(starts, 14);
}

static void
test_round_robin__weights(void **state)
{
	struct hb_cluster *c = one_locality("ROUND_ROBIN",
		EP(1, ", load_balancing_weight: 1") "," EP(2, ", load_balancing_weight: 2") "," EP(
			3, ", load_balancing_weight: 7"),
		"");
	unsigned n[10];

	(void)state;
	choose(c, PICKS, n);
	about(n[1], 0.1);
	about(n[2], 0.2);
	about(n[3], 0.7);
	choose(c, 100, n);
	assert_in_range(n[1], 9, 11);
	assert_in_range(n[2], 18, 22);
}

static void
test_random__weights(void **state)
{
	struct hb_cluster *c = one_locality("RANDOM",
		EP(1, ", load_balancing_weight: 1") "," EP(2, ", load_balancing_weight: 3"), "");
	unsigned n[10];

	(void)state;
	choose(c, PICKS, n);
	about(n[1], 0.25);
	about(n[2], 0.75);
	c = one_locality("RANDOM", EP(1, "") "," EP(2, ""), "");
	choose(c, PICKS, n);
	about(n[1], 0.5);
}

static void
add_active(struct hb_cluster *c, size_t i, int n)
{
	struct hb_ep_cell *cell = hb_endpoint_cell(atomic_load(&c->eps)->ep[i], hbt_worker());

	HB_EP_COUNT(cell, active, (uint32_t)n);
	hb_ep_cell_unref(&cell);
}

static void
test_least_request(void **state)
{
	struct hb_cluster *c = one_locality(
		"LEAST_REQUEST", EP(1, "") "," EP(2, "") "," EP(3, ""), "");
	unsigned n[10];

	(void)state;
	choose(c, PICKS, n);
	about(n[1], 1.0 / 3);
	add_active(c, 0, 10);
	choose(c, PICKS, n);
	/* Two of three drawn with repetition: both are the busy one in 1 of 9. */
	about(n[1], 1.0 / 9);
	about(n[2], 4.0 / 9);
	add_active(c, 0, -10);
}

static void
test_least_request__weights(void **state)
{
	struct hb_cluster *c = one_locality("LEAST_REQUEST",
		EP(1, ", load_balancing_weight: 1") "," EP(2, ", load_balancing_weight: 3"), "");
	unsigned n[10];

	(void)state;
	choose(c, PICKS, n);
	about(n[2], 0.75);
	add_active(c, 1, 2);
	/* 3 / (2 + 1) against 1. */
	choose(c, PICKS, n);
	about(n[2], 0.5);
	add_active(c, 1, -2);
}

static void
test_health(void **state)
{
	struct hb_cluster *c = one_locality("RANDOM",
		EP(1, ", health_status: UNHEALTHY") "," EP(2, ", health_status: DRAINING") "," EP(3,
			", health_status: TIMEOUT") "," EP(4, ", health_status: DEGRADED") "," EP(5,
			", health_status: HEALTHY") "," EP(6, "") "," EP(7, "") "," EP(8, ""),
		"");
	unsigned n[10];

	(void)state;
	/* 4 of 8 are healthy, 1 is degraded: 70 % and 17 % of 87. */
	choose(c, PICKS, n);
	assert_int_equal(n[1] + n[2] + n[3], 0);
	about(n[4], 0.20);
	about(n[5], 0.20);
	assert_int_equal(up_stat(c, CL_MEMBERSHIP_TOTAL), 8);
	assert_int_equal(up_stat(c, CL_MEMBERSHIP_HEALTHY), 4);
	assert_int_equal(up_stat(c, CL_MEMBERSHIP_DEGRADED), 1);
	/* A health check or an ejection shows at once, and in the next set. */
	hb_cluster_health(c, atomic_load(&c->eps)->ep[4], HB_EP_OUTLIER, 0);
	choose(c, PICKS, n);
	assert_int_equal(n[5], 0);
	up_turns(2);
	assert_int_equal(up_stat(c, CL_MEMBERSHIP_HEALTHY), 3);
	hb_cluster_health(c, atomic_load(&c->eps)->ep[4], 0, HB_EP_OUTLIER);
	up_turns(2);
	assert_int_equal(up_stat(c, CL_MEMBERSHIP_HEALTHY), 4);
}

static void
test_panic(void **state)
{
	struct hb_cluster *c;
	unsigned n[10];

	(void)state;
	c = one_locality("RANDOM",
		EP(1, ", health_status: UNHEALTHY") "," EP(2, ", health_status: UNHEALTHY") "," EP(
			3, ""),
		"");
	choose(c, PICKS, n);
	about(n[1], 1.0 / 3);
	c = one_locality("RANDOM",
		EP(1, ", health_status: UNHEALTHY") "," EP(2, ", health_status: UNHEALTHY") "," EP(
			3, ""),
		", common_lb_config: {healthy_panic_threshold: {value: 0}}");
	choose(c, PICKS, n);
	assert_int_equal(n[3], PICKS);
	c = one_locality("RANDOM", EP(1, ", health_status: UNHEALTHY"),
		", common_lb_config: {healthy_panic_threshold: {value: 0}}");
	choose(c, 10, n);
	assert_int_equal(n[0], 10);
}

static void
test_priorities(void **state)
{
	struct hb_cluster *c = up_cluster(
		"{name: c, lb_policy: RANDOM, load_assignment: {endpoints: ["
		"{lb_endpoints: [%s, %s]}, {priority: 1, lb_endpoints: [%s]}]}}",
		EP(1, ""), EP(2, ", health_status: UNHEALTHY"), EP(3, ""));
	unsigned n[10];

	(void)state;
	choose(c, PICKS, n);
	about(n[1], 0.7);
	about(n[3], 0.3);
	c = up_cluster(
		"{name: c, lb_policy: RANDOM, load_assignment: {policy: {overprovisioning_factor: 100}, "
		"endpoints: [{lb_endpoints: [%s, %s]}, {priority: 1, lb_endpoints: [%s]}]}}",
		EP(1, ""), EP(2, ", health_status: UNHEALTHY"), EP(3, ""));
	choose(c, PICKS, n);
	about(n[1], 0.5);
}

static void
test_localities(void **state)
{
	static const char fmt[] =
		"{name: c, lb_policy: RANDOM, "
		"common_lb_config: {locality_weighted_lb_config: {}}, load_assignment: {endpoints: ["
		"{locality: {zone: a}, load_balancing_weight: 1, lb_endpoints: [%s, %s]}, "
		"{locality: {zone: b}, load_balancing_weight: 3, lb_endpoints: [%s, %s]}, "
		"{locality: {zone: none}, lb_endpoints: [%s]}]}}";
	struct hb_cluster *c;
	unsigned n[10];

	(void)state;
	c = up_cluster(fmt, EP(1, ""), EP(2, ""), EP(3, ""), EP(4, ""), EP(5, ""));
	choose(c, PICKS, n);
	about(n[1], 0.125);
	about(n[3], 0.375);
	assert_int_equal(n[5], 0);
	/* Half of b: its weight of 3 counts 0.7. */
	c = up_cluster(fmt, EP(1, ""), EP(2, ""), EP(3, ""), EP(4, ", health_status: UNHEALTHY"),
		EP(5, ""));
	choose(c, PICKS, n);
	about(n[1] + n[2], 1 / 3.1);
	about(n[3], 2.1 / 3.1);
}

static void
test_tried_endpoints_come_last(void **state)
{
	struct hb_cluster *c = up_cluster(
		"{name: c, load_assignment: {endpoints: [{lb_endpoints: [%s, %s]}, "
		"{priority: 1, lb_endpoints: [%s]}]}}",
		EP(1, ""), EP(2, ""), EP(3, ""));
	const struct hb_eps *eps = atomic_load(&c->eps);
	struct hb_lb_state st = { 0 };
	uint64_t tried[4];

	(void)state;
	for (unsigned round = 0; round < 100; round++) {
		bool seen[4] = { false };
		struct hb_lb_ctx ctx = { .settings = &c->lb_settings, .tried = tried };
		struct hb_endpoint *e, *last = NULL;

		for (unsigned i = 0; i < 3; i++) {
			e = hb_lb_choose(eps, &st, &ctx);
			assert_false(seen[hb_endpoint_addrs(e)->v[0].port]);
			seen[hb_endpoint_addrs(e)->v[0].port] = true;
			tried[ctx.n_tried++] = e->id;
			last = e;
		}
		e = hb_lb_choose(eps, &st, &ctx);
		assert_non_null(e);
		assert_ptr_not_equal(e, last);
	}
	hb_lb_state_fini(&st);
	c = one_locality("ROUND_ROBIN", EP(1, ""), "");
	eps = atomic_load(&c->eps);
	tried[0] = eps->ep[0]->id;
	assert_ptr_equal(
		hb_lb_choose(eps, &st,
			&(struct hb_lb_ctx){
				.settings = &c->lb_settings, .tried = tried, .n_tried = 1 }),
		eps->ep[0]);
	hb_lb_state_fini(&st);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loads__priorities),
		cmocka_unit_test(test_loads__shares_are_normalised),
		cmocka_unit_test(test_loads__degraded_are_the_last_resort),
		cmocka_unit_test(test_loads__panic),
		cmocka_unit_test_setup_teardown(test_round_robin, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_round_robin__weights, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_random__weights, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_least_request, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_least_request__weights, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_health, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_panic, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_priorities, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_localities, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(
			test_tried_endpoints_come_last, up_setup, up_teardown),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

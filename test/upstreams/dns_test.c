/* SPDX-License-Identifier: Apache-2.0 */
/* Names: warming, refreshing, failing; then c-ares against a name server of the test. */
#include "test/upstreams/support.h"

#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#define NAME(n) "{endpoint: {address: {socket_address: {address: " n ", port_value: 80}}}}"

static int
setup(void **state)
{
	(void)up_setup(state);
	up_dns_fake();
	return (0);
}

static struct hb_cluster *
strict(const char *endpoints, const char *rest)
{
	return (up_cluster(
		"{name: c, type: STRICT_DNS, load_assignment: {endpoints: [{lb_endpoints: [%s]}]}%s}",
		endpoints, rest));
}

static void
expect(const struct hb_cluster *c, const char *want)
{
	const struct hb_eps *eps = atomic_load(&c->eps);
	struct hb_text got = { 0 };
	char text[HB_ADDR_TEXT_MAX];

	hb_text_addz(&got, "");
	for (size_t i = 0; i < eps->n; i++) {
		const struct hb_ep_addrs *a = hb_endpoint_addrs(eps->ep[i]);

		for (unsigned k = 0; k < a->n; k++) {
			(void)hb_addr_format(&a->v[k], text, sizeof text);
			hb_text_printf(&got, "%s%s", got.len == 0 ? "" : k == 0 ? " " : "/", text);
		}
	}
	assert_string_equal(got.p, want);
	hb_text_fini(&got);
}

/* ------------------------------------------------------------------ STRICT_DNS */

static unsigned told;

static void
on_ready(void *arg)
{
	(void)arg;
	told++;
}

static void
test_ready_after_the_first_answers(void **state)
{
	struct hb_cluster *c;
	struct hb_text why = { 0 };
	struct up_dial d;

	(void)state;
	hb_upstreams_on_ready(on_ready, NULL);
	assert_true(hb_upstreams_ready(NULL));
	up_answer("a", "10.0.0.1 10.0.0.2", 1000);
	up_answer("b", "", 0);
	c = strict(NAME("a") "," NAME("b") "," NAME("10.9.9.9"), "");
	assert_false(hb_upstreams_ready(&why));
	assert_string_equal(why.p, "cluster c waits for the addresses of 2 names\n");
	hb_text_fini(&why);
	expect(c, "10.9.9.9:80");
	told = 0;
	up_dns_deliver();
	assert_true(hb_upstreams_ready(NULL));
	assert_int_equal(told, 1);
	expect(c, "10.0.0.1:80 10.0.0.2:80 10.9.9.9:80");
	assert_int_equal(up_stat(c, CL_UPDATE_SUCCESS), 1);
	assert_int_equal(up_stat(c, CL_UPDATE_EMPTY), 1);
	c = up_cluster(
		"{name: n, type: STRICT_DNS, load_assignment: {endpoints: [{lb_endpoints: [" NAME(
			"b") "]}]}}");
	up_dns_deliver();
	assert_true(c->ready);
	assert_int_equal(up_dial(&d, "n", 1, NULL), 0);
	assert_int_equal(d.reason, HB_CLOSE_DNS_FAILED);
}

static void
test_gives_up_waiting(void **state)
{
	struct hb_cluster *c = strict(NAME("a"), "");

	(void)state;
	assert_false(c->ready);
	up_advance(15000);
	assert_true(c->ready);
	up_answer("a", "10.0.0.1", 0);
	up_dns_deliver();
	expect(c, "10.0.0.1:80");
}

static void
test_more_addresses_than_wanted(void **state)
{
	struct hb_cluster *c = strict(NAME("a"),
		", metadata: {typed_filter_metadata: {hbone.cluster: {'@type': "
		"type.googleapis.com/hbone.config.ClusterOptions, max_dns_addresses: 2}}}");

	(void)state;
	up_answer("a", "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4", 1000);
	up_dns_deliver();
	expect(c, "10.0.0.1:80 10.0.0.2:80");
	assert_int_equal(up_stat(c, CL_UPDATE_DROPPED), 2);
}

static void
test_refreshes_and_keeps_endpoints(void **state)
{
	struct hb_cluster *c = strict(NAME("a"), ", dns_refresh_rate: 10s");
	struct hb_endpoint *kept;

	(void)state;
	up_answer("a", "10.0.0.1 10.0.0.2 10.0.0.2", 1000);
	up_dns_deliver();
	expect(c, "10.0.0.1:80 10.0.0.2:80");
	kept = atomic_load(&c->eps)->ep[1];
	hb_clock_advance(hb_worker_control(), 9000);
	assert_int_equal(up_dns_waiting(), 0);
	/* 10 s and at most an eighth of it. */
	hb_clock_advance(hb_worker_control(), 3200);
	assert_int_equal(up_dns_waiting(), 1);
	up_answer("a", "10.0.0.2 10.0.0.3", 1000);
	up_dns_deliver();
	expect(c, "10.0.0.2:80 10.0.0.3:80");
	assert_ptr_equal(atomic_load(&c->eps)->ep[0], kept);
	up_advance(12000);
	up_dns_deliver();
	assert_int_equal(up_stat(c, CL_UPDATE_NO_REBUILD), 1);
	assert_int_equal(up_stat(c, CL_UPDATE_ATTEMPT), 3);
}

static void
test_failure_keeps_the_last_good_answer(void **state)
{
	struct hb_cluster *c = strict(NAME("a"),
		", dns_refresh_rate: 10s, "
		"dns_failure_refresh_rate: {base_interval: 1s, max_interval: 4s}");

	(void)state;
	up_answer("a", "10.0.0.1", 0);
	up_dns_deliver();
	up_answer("a", NULL, 0);
	up_advance(11000);
	up_dns_deliver();
	expect(c, "10.0.0.1:80");
	/* 1, 2, 4, 4 s. */
	for (unsigned i = 0, ms = 1000; i < 4; i++, ms = HB_MIN(2 * ms, 4000u)) {
		hb_clock_advance(hb_worker_control(), ms - ms / 8);
		assert_int_equal(up_dns_waiting(), 0);
		hb_clock_advance(hb_worker_control(), ms / 2);
		assert_int_equal(up_dns_waiting(), 1);
		up_dns_deliver();
	}
	assert_int_equal(up_stat(c, CL_UPDATE_FAILURE), 5);
	up_answer("a", "", 0);
	up_advance(4500);
	up_dns_deliver();
	expect(c, "10.0.0.1:80");
	assert_int_equal(up_stat(c, CL_UPDATE_EMPTY), 1);
	up_answer("a", "10.0.0.2", 0);
	up_advance(4500);
	up_dns_deliver();
	expect(c, "10.0.0.2:80");
}

static void
test_ttl(void **state)
{
	struct hb_cluster *c = strict(NAME("a"), ", dns_refresh_rate: 10s, respect_dns_ttl: true");

	(void)state;
	up_answer("a", "10.0.0.1", 60000);
	up_dns_deliver();
	hb_clock_advance(hb_worker_control(), 59000);
	assert_int_equal(up_dns_waiting(), 0);
	hb_clock_advance(hb_worker_control(), 6000);
	assert_int_equal(up_dns_waiting(), 1);
	/* /etc/hosts has none. */
	up_answer("a", "10.0.0.1", UINT64_MAX);
	up_dns_deliver();
	hb_clock_advance(hb_worker_control(), 12500);
	assert_int_equal(up_dns_waiting(), 1);
	up_answer("a", "10.0.0.1", 1);
	up_dns_deliver();
	hb_clock_advance(hb_worker_control(), 900);
	assert_int_equal(up_dns_waiting(), 0);
	expect(c, "10.0.0.1:80");
}

static void
test_families(void **state)
{
	static const struct {
		const char *family, *want;
	} rows[] = {
		{ "AUTO", "[::1]:80" },
		{ "V4_ONLY", "10.0.0.1:80" },
		{ "V6_ONLY", "[::1]:80" },
		{ "V4_PREFERRED", "10.0.0.1:80" },
		{ "ALL", "10.0.0.1:80 [::1]:80" },
	};
	char rest[64];

	(void)state;
	up_answer("a", "10.0.0.1 ::1", 0);
	for (size_t i = 0; i < HB_ARRAY_LEN(rows); i++) {
		struct hb_cluster *c;

		(void)snprintf(rest, sizeof rest, ", dns_lookup_family: %s", rows[i].family);
		(void)strict(NAME("a"), rest);
		up_dns_deliver();
		c = hb_cluster_find(HB_STR("c"));
		expect(c, rows[i].want);
	}
	up_answer("a", "10.0.0.1", 0);
	(void)strict(NAME("a"), "");
	up_dns_deliver();
	expect(hb_cluster_find(HB_STR("c")), "10.0.0.1:80");
}

static void
test_an_update_warms_up_first(void **state)
{
	struct hb_cluster *old, *c;

	(void)state;
	up_answer("a", "10.0.0.1", 0);
	up_answer("b", "10.0.0.2", 0);
	old = strict(NAME("a"), "");
	up_dns_deliver();
	assert_ptr_equal(strict(NAME("b"), ""), old);
	assert_true(hb_upstreams_ready(NULL));
	expect(hb_cluster_find(HB_STR("c")), "10.0.0.1:80");
	up_dns_deliver();
	c = hb_cluster_find(HB_STR("c"));
	assert_ptr_not_equal(c, old);
	expect(c, "10.0.0.2:80");
	/* Replaced while it warms up, and removed. */
	(void)strict(NAME("a"), "");
	(void)strict(NAME("a") "," NAME("b"), "");
	up_remove("c");
	up_dns_deliver();
	assert_null(hb_cluster_find(HB_STR("c")));
}

static void
test_offline(void **state)
{
	struct hb_cluster *c = up_compile(
		"{name: c, type: STRICT_DNS, load_assignment: {endpoints: "
		"[{lb_endpoints: [" NAME("a") "]}]}}");

	(void)state;
	hb_cluster_start(c, true, NULL);
	assert_true(c->ready);
	assert_int_equal(up_dns_asked(), 0);
	expect(c, "");
	hb_cluster_stop(c);
	hb_cluster_gone(c);
}

/* ------------------------------------------------------------------ LOGICAL_DNS */

static void
test_logical(void **state)
{
	struct hb_endpoint *e;
	struct hb_cluster *c = up_cluster(
		"{name: c, type: LOGICAL_DNS, dns_lookup_family: ALL, load_assignment: "
		"{endpoints: [{lb_endpoints: [" NAME("a") "]}]}}");

	(void)state;
	up_answer("a", "10.0.0.1 10.0.0.2 ::1", 0);
	up_dns_deliver();
	expect(c, "10.0.0.1:80/[::1]:80/10.0.0.2:80");
	e = atomic_load(&c->eps)->ep[0];
	assert_string_equal(e->hostname, "a");
	up_answer("a", "10.0.0.3", 0);
	up_advance(6000);
	up_dns_deliver();
	expect(c, "10.0.0.3:80");
	assert_ptr_equal(atomic_load(&c->eps)->ep[0], e);
	up_advance(6000);
	up_dns_deliver();
	assert_int_equal(up_stat(c, CL_UPDATE_NO_REBUILD), 1);
}

static void
test_dns_cluster_extension(void **state)
{
	struct hb_cluster *c = up_cluster(
		"{name: c, cluster_type: {name: dns, typed_config: {'@type': "
		"type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster, dns_refresh_rate: 30s, "
		"dns_lookup_family: V4_ONLY, all_addresses_in_single_endpoint: true}}, load_assignment: "
		"{endpoints: [{lb_endpoints: [" NAME("a") "]}]}}");

	(void)state;
	assert_int_equal(c->type, HB_CLUSTER_LOGICAL_DNS);
	assert_int_equal(c->dns.refresh_ms, 30000);
	up_answer("a", "10.0.0.1 ::1", 0);
	up_dns_deliver();
	expect(c, "10.0.0.1:80");
}

/* ------------------------------------------------------------------ c-ares and a server */

static int server;
static unsigned n_requests;

static int
setup_server(void **state)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	(void)up_setup(state);
	hb_dns_resolver_set(NULL);
	server = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(server, (struct sockaddr *)&a, sizeof a), 0);
	n_requests = 0;
	return (0);
}

static int
teardown_server(void **state)
{
	(void)up_teardown(state);
	(void)close(server);
	return (0);
}

static uint16_t
server_port(void)
{
	struct sockaddr_in a;
	socklen_t len = sizeof a;

	assert_int_equal(getsockname(server, (struct sockaddr *)&a, &len), 0);
	return (ntohs(a.sin_port));
}

/*
 * Answers what has come: A records 10.1.1.1 and 10.1.1.2 (TTL 30), AAAA 2001:db8::1 for names that
 * begin with 'a'; NXDOMAIN otherwise.
 */
static void
serve(void)
{
	uint8_t m[512];
	struct sockaddr_storage from;
	socklen_t len = sizeof from;
	ssize_t n;

	while ((n = recvfrom(server, m, sizeof m - 128, 0, (struct sockaddr *)&from, &len)) > 0) {
		size_t q = 12, end;
		bool known = m[13] == 'a', v6;

		n_requests++;
		while (m[q] != 0)
			q += m[q] + 1u;
		v6 = m[q + 2] == 28;
		end = q + 5;
		m[2] = 0x81;
		m[3] = known ? 0x80 : 0x83;
		m[6] = 0;
		m[7] = known ? (v6 ? 1 : 2) : 0;
		m[8] = m[9] = m[10] = m[11] = 0;
		for (unsigned i = 0; i < m[7]; i++) {
			static const uint8_t ip6[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 1 };
			uint8_t rr[] = { 0xc0, 12, 0, (uint8_t)(v6 ? 28 : 1), 0, 1, 0, 0, 0, 30, 0,
				(uint8_t)(v6 ? 16 : 4) };
			uint8_t ip4[4] = { 10, 1, 1, (uint8_t)(i + 1) };

			memcpy(m + end, rr, sizeof rr);
			end += sizeof rr;
			memcpy(m + end, v6 ? ip6 : ip4, v6 ? 16 : 4);
			end += v6 ? 16 : 4;
		}
		(void)sendto(server, m, end, 0, (struct sockaddr *)&from, len);
		len = sizeof from;
	}
}

static struct hb_cluster *
by_server(const char *endpoints, const char *family)
{
	return (up_cluster(
		"{name: c, type: STRICT_DNS, respect_dns_ttl: true, dns_lookup_family: %s, "
		"typed_dns_resolver_config: {name: cares, typed_config: {'@type': type.googleapis.com/"
		"envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig, query_tries: 1, "
		"query_timeout_seconds: 1, dns_resolver_options: {no_default_search_domain: true}, "
		"resolvers: [{socket_address: {address: 127.0.0.1, port_value: %u}}]}}, "
		"load_assignment: {endpoints: [{lb_endpoints: [%s]}]}}",
		family, server_port(), endpoints));
}

static void
test_cares__answers(void **state)
{
	struct hb_cluster *c = by_server(NAME("a.test"), "V4_ONLY");

	(void)state;
	UP_UNTIL((serve(), c->ready));
	expect(c, "10.1.1.1:80 10.1.1.2:80");
	assert_int_equal(n_requests, 1);
	/* The TTL of 30 s. */
	hb_clock_advance(hb_worker_control(), 29000);
	assert_int_equal(up_stat(c, CL_UPDATE_ATTEMPT), 1);
	hb_clock_advance(hb_worker_control(), 4000);
	assert_int_equal(up_stat(c, CL_UPDATE_ATTEMPT), 2);
	UP_UNTIL((serve(), up_stat(c, CL_UPDATE_SUCCESS) == 2));
	assert_int_equal(up_stat(c, CL_UPDATE_NO_REBUILD), 1);
}

static void
test_cares__families(void **state)
{
	struct hb_cluster *c = by_server(NAME("a.test"), "ALL");

	(void)state;
	UP_UNTIL((serve(), c->ready));
	assert_int_equal(atomic_load(&c->eps)->n, 3);
	assert_int_equal(n_requests, 2);
	(void)by_server(NAME("a.test"), "AUTO");
	UP_UNTIL((serve(), hb_cluster_find(HB_STR("c")) != c));
	expect(hb_cluster_find(HB_STR("c")), "[2001:db8::1]:80");
}

static void
test_cares__no_such_name(void **state)
{
	struct hb_cluster *c = by_server(NAME("b.test") "," NAME("a.test"), "V4_ONLY");

	(void)state;
	UP_UNTIL((serve(), c->ready));
	expect(c, "10.1.1.1:80 10.1.1.2:80");
	assert_int_equal(up_stat(c, CL_UPDATE_EMPTY), 1);
}

static void
test_cares__hosts_file_and_silence(void **state)
{
	struct hb_cluster *c = by_server(NAME("localhost"), "V4_ONLY");

	(void)state;
	/* From /etc/hosts, or the name that every resolver knows. */
	UP_UNTIL(c->ready);
	expect(c, "127.0.0.1:80");
	assert_int_equal(n_requests, 0);
	/* Nobody answers; removed meanwhile. */
	(void)by_server(NAME("a.test"), "V4_ONLY");
	up_turns(4);
	up_remove("c");
	up_turns(4);
	/* And a time-out, on the fake clock of the control thread. */
	c = by_server(NAME("a.test"), "V4_ONLY");
	up_turns(4);
	assert_false(c->ready);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_ready_after_the_first_answers, setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_gives_up_waiting, setup, up_teardown),
		cmocka_unit_test_setup_teardown(
			test_more_addresses_than_wanted, setup, up_teardown),
		cmocka_unit_test_setup_teardown(
			test_refreshes_and_keeps_endpoints, setup, up_teardown),
		cmocka_unit_test_setup_teardown(
			test_failure_keeps_the_last_good_answer, setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_ttl, setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_families, setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_an_update_warms_up_first, setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_offline, setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_logical, setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_dns_cluster_extension, setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_cares__answers, setup_server, teardown_server),
		cmocka_unit_test_setup_teardown(
			test_cares__families, setup_server, teardown_server),
		cmocka_unit_test_setup_teardown(
			test_cares__no_such_name, setup_server, teardown_server),
		cmocka_unit_test_setup_teardown(
			test_cares__hosts_file_and_silence, setup_server, teardown_server),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

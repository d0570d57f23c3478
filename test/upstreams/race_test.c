/* SPDX-License-Identifier: Apache-2.0 */
/* Several addresses of one endpoint (RFC 8305): their order, staggering, failures. */
#include "test/upstreams/support.h"

#include <stdio.h>
#include <unistd.h>

/* ------------------------------------------------------------------ order */

static void
expect_order(const char *in, uint8_t first, unsigned count, const char *want)
{
	struct hb_ep_order order = { .first = first, .count = count };
	struct hb_addr v[HB_EP_ADDRS_MAX + 8];
	struct hb_ep_addrs *a;
	struct hb_text got = { 0 };
	char text[HB_ADDR_TEXT_MAX], copy[512], *save = NULL;
	size_t n = 0;

	(void)snprintf(copy, sizeof copy, "%s", in);
	for (char *p = strtok_r(copy, " ", &save); p != NULL; p = strtok_r(NULL, " ", &save))
		assert_true(hb_addr_parse_ip(hb_str(p), &v[n++]));
	a = hb_ep_addrs_new(v, n, &order);
	for (unsigned i = 0; i < a->n; i++) {
		(void)hb_addr_format_ip(&a->v[i], text, sizeof text);
		hb_text_printf(&got, "%s%s", i == 0 ? "" : " ", text);
	}
	assert_string_equal(got.p, want);
	hb_text_fini(&got);
	hb_ep_addrs_free(a);
}

static void
test_order(void **state)
{
	(void)state;
	expect_order("1.1.1.1", 0, 1, "1.1.1.1");
	expect_order("::1 ::2 1.1.1.1 1.1.1.2", 0, 1, "::1 1.1.1.1 ::2 1.1.1.2");
	expect_order("1.1.1.1 1.1.1.2 1.1.1.3 ::1", 0, 1, "1.1.1.1 ::1 1.1.1.2 1.1.1.3");
	expect_order("1.1.1.1 1.1.1.2 1.1.1.3 ::1", 0, 2, "1.1.1.1 1.1.1.2 ::1 1.1.1.3");
	expect_order("1.1.1.1 ::1", HB_ADDR_V6, 1, "::1 1.1.1.1");
	expect_order("1.1.1.1 1.1.1.2", HB_ADDR_V6, 1, "1.1.1.1 1.1.1.2");
	expect_order("1.1.1.1 1.1.1.1 ::1 1.1.1.1", 0, 1, "1.1.1.1 ::1");
	expect_order(
		"1.0.0.1 1.0.0.2 1.0.0.3 1.0.0.4 1.0.0.5 1.0.0.6 1.0.0.7 1.0.0.8 1.0.0.9 1.0.0.10 1.0.0.11 "
		"1.0.0.12 1.0.0.13 1.0.0.14 1.0.0.15 1.0.0.16 1.0.0.17",
		0, 1,
		"1.0.0.1 1.0.0.2 1.0.0.3 1.0.0.4 1.0.0.5 1.0.0.6 1.0.0.7 1.0.0.8 1.0.0.9 1.0.0.10 1.0.0.11 1.0.0.12 "
		"1.0.0.13 1.0.0.14 1.0.0.15 1.0.0.16");
}

/* ------------------------------------------------------------------ racing */

static struct hb_cluster *
two(const char *ip2, uint16_t one, uint16_t other)
{
	return (up_cluster(
		"{name: c, connect_timeout: 3s, load_assignment: {endpoints: [{lb_endpoints: [{endpoint: "
		"{address: {socket_address: {address: 127.0.0.1, port_value: %u}}, additional_addresses: "
		"[{address: {socket_address: {address: '%s', port_value: %u}}}]}}]}]}}",
		one, ip2, other));
}

static void
test_a_failure_starts_the_next_at_once(void **state)
{
	struct hb_cluster *c;
	struct up_dial d;
	uint16_t port;
	int fd = up_listen(&port);

	(void)state;
	c = two("127.0.0.1", up_closed_port(), port);
	/* The clock stands still. */
	assert_int_equal(up_dial(&d, "c", 1, NULL), port);
	assert_int_equal(d.attempts, 1);
	assert_int_equal(up_stat(c, CL_CX_TOTAL), 1);
	assert_int_equal(up_stat(c, CL_CX_CONNECT_FAIL), 0);
	up_close(&d);
	(void)close(fd);
}

static void
test_a_slow_one_is_overtaken(void **state)
{
	struct up_dial d;
	uint16_t slow, port;
	int extra[4], hang = up_hanging(&slow, extra), fd = up_listen(&port);

	(void)state;
	(void)two("127.0.0.1", slow, port);
	up_dial_start(&d, "c", 1, NULL);
	up_turns(20);
	assert_int_equal(d.done, 0);
	hb_clock_advance(hbt_worker(), 290);
	up_turns(20);
	assert_int_equal(d.done, 0);
	hb_clock_advance(hbt_worker(), 40);
	UP_UNTIL(d.done == 1);
	assert_int_equal(d.endpoint.port, port);
	hb_transport_abort(&d.t, HB_CLOSE_LOCAL_CLOSE);
	for (int i = 0; i < 4; i++)
		(void)close(extra[i]);
	(void)close(hang);
	(void)close(fd);
}

static void
test_both_families(void **state)
{
	struct up_dial d;
	uint16_t port;
	int fd = up_listen(&port), fd6 = up_listen6(port);

	(void)state;
	if (fd6 < 0) {
		(void)close(fd);
		skip();
	}
	(void)up_cluster(
		"{name: c, upstream_connection_options: {happy_eyeballs_config: "
		"{first_address_family_version: V6}}, load_assignment: {endpoints: [{lb_endpoints: [{endpoint: "
		"{address: {socket_address: {address: 127.0.0.1, port_value: %u}}, additional_addresses: "
		"[{address: {socket_address: {address: '::1', port_value: %u}}}]}}]}]}}",
		port, port);
	assert_int_equal(up_dial(&d, "c", 1, NULL), port);
	assert_int_equal(d.endpoint.kind, HB_ADDR_V6);
	up_close(&d);
	(void)close(fd6);
	assert_int_equal(up_dial(&d, "c", 1, NULL), port);
	assert_int_equal(d.endpoint.kind, HB_ADDR_V4);
	up_close(&d);
	(void)close(fd);
}

static void
test_all_fail(void **state)
{
	struct up_dial d;
	struct hb_cluster *c;

	(void)state;
	c = two("127.0.0.1", up_closed_port(), up_closed_port());
	assert_int_equal(up_dial(&d, "c", 1, NULL), 0);
	assert_int_equal(d.reason, HB_CLOSE_CONNECT_REFUSED);
	assert_int_equal(up_stat(c, CL_CX_CONNECT_FAIL), 1);
}

static void
test_all_hang(void **state)
{
	struct up_dial d;
	uint16_t a, b;
	int extra[2][4], fd[2] = { up_hanging(&a, extra[0]), up_hanging(&b, extra[1]) };
	struct hb_cluster *c = two("127.0.0.1", a, b);

	(void)state;
	up_dial_start(&d, "c", 1, NULL);
	up_advance(300);
	up_turns(10);
	assert_int_equal(d.done, 0);
	up_advance(3000);
	UP_UNTIL(d.done == 1);
	assert_int_equal(d.reason, HB_CLOSE_CONNECT_TIMEOUT);
	assert_int_equal(up_stat(c, CL_CX_CONNECT_TIMEOUT), 1);
	/* Cancelled while both are under way. */
	up_dial_start(&d, "c", 1, NULL);
	up_advance(300);
	hb_dial_cancel(&d.dial);
	up_turns(4);
	assert_int_equal(up_stat(c, CL_CX_ACTIVE), 0);
	for (int i = 0; i < 8; i++)
		(void)close(extra[i / 4][i % 4]);
	(void)close(fd[0]);
	(void)close(fd[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test_setup_teardown(
			test_a_failure_starts_the_next_at_once, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(
			test_a_slow_one_is_overtaken, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_both_families, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_all_fail, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_all_hang, up_setup, up_teardown),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Dialling: endpoints, failures, limits, replaced clusters, what is counted and told. */
#include "test/upstreams/support.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "core/event/table.h"

static struct hb_cluster *
cluster(const uint16_t *ports, size_t n, const char *rest)
{
	return (up_cluster("{name: c, load_assignment: {endpoints: [{lb_endpoints: %s}]}%s}",
		up_endpoints(ports, n), rest));
}

static void
test_connects(void **state)
{
	struct hb_cluster *c;
	struct up_dial d;
	uint16_t port;
	int fd = up_listen(&port), peer;
	char buf[8];

	(void)state;
	c = up_cluster(
		"{name: c, load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {hostname: one, "
		"address: {socket_address: {address: 127.0.0.1, port_value: %u}}}}]}]}, "
		"per_connection_buffer_limit_bytes: 4096}",
		port);
	assert_int_equal(up_dial(&d, "c", 1, NULL), port);
	assert_string_equal(d.host, "one");
	assert_int_equal(d.attempts, 1);
	assert_true(hb_addr_is_loopback(&d.local) && d.local.port != 0);
	assert_int_equal(d.t->out.high, 4096);
	peer = up_accept(fd);
	assert_int_equal(up_stat(c, CL_CX_ACTIVE), 1);
	assert_int_equal(up_stat(c, CL_CX_TOTAL), 1);
	assert_int_equal(up_stat(c, CL_RQ_TOTAL), 1);
	assert_int_equal(up_stat(c, CL_RQ_PENDING_ACTIVE), 0);
	assert_int_equal(hb_cluster_connections(c), 1);
	hbt_fd_write(peer, "hello", 5);
	UP_UNTIL(d.t->bytes_in == 5);
	up_close(&d);
	UP_UNTIL(up_stat(c, CL_CX_ACTIVE) == 0);
	assert_int_equal(up_stat(c, CL_CX_DESTROY), 1);
	assert_int_equal(up_stat(c, CL_CX_DESTROY_LOCAL), 1);
	assert_int_equal(up_stat(c, CL_CX_RX_BYTES), 5);
	assert_int_equal(up_stat(c, CL_CX_CONNECT_MS), 1);
	assert_int_equal(up_stat(c, CL_CX_LENGTH_MS), 1);
	assert_int_equal(hb_cluster_connections(c), 0);
	(void)hbt_fd_read(peer, buf, sizeof buf);
	(void)close(peer);
	(void)close(fd);
}

static void
test_the_endpoint_ends_it(void **state)
{
	struct hb_cluster *c;
	struct up_dial d;
	uint16_t port;
	int fd = up_listen(&port);

	(void)state;
	c = cluster(&port, 1, "");
	assert_int_equal(up_dial(&d, "c", 1, NULL), port);
	hbt_fd_reset(up_accept(fd));
	UP_UNTIL(d.t == NULL);
	assert_int_equal(d.reason, HB_CLOSE_PEER_RESET);
	up_turns(2);
	assert_int_equal(up_stat(c, CL_CX_DESTROY_REMOTE), 1);
	assert_int_equal(up_stat(c, CL_CX_ACTIVE), 0);
	(void)close(fd);
}

static void
test_no_cluster(void **state)
{
	struct up_dial d;

	(void)state;
	assert_int_equal(up_dial(&d, "nobody", 3, NULL), 0);
	assert_int_equal(d.reason, HB_CLOSE_NO_CLUSTER);
	assert_string_equal(d.failure, "there is no cluster of this name");
	assert_int_equal(d.attempts, 0);
	assert_false(hb_dial_cluster_exists(HB_STR("nobody")));
	(void)up_cluster("{name: empty, load_assignment: {}}");
	assert_true(hb_dial_cluster_exists(HB_STR("empty")));
	assert_int_equal(up_dial(&d, "empty", 3, NULL), 0);
	assert_int_equal(d.reason, HB_CLOSE_NO_HEALTHY_UPSTREAM);
	assert_string_equal(d.failure, "the cluster has no endpoint");
}

static void
test_refused__goes_to_the_next(void **state)
{
	uint16_t ports[3];
	struct hb_cluster *c;
	struct up_dial d;
	int fd = up_listen(&ports[2]);
	unsigned attempts = 0;

	(void)state;
	ports[0] = up_closed_port();
	ports[1] = up_closed_port();
	c = cluster(ports, 3, "");
	for (unsigned i = 0; i < 12; i++) {
		assert_int_equal(up_dial(&d, "c", 3, NULL), ports[2]);
		attempts = HB_MAX(attempts, d.attempts);
		up_close(&d);
		(void)close(up_accept(fd));
	}
	assert_int_equal(attempts, 3);
	assert_int_equal(up_stat(c, CL_CX_CONNECT_FAIL), up_stat(c, CL_CX_TOTAL) - 12);
	assert_int_equal(up_stat(c, CL_CX_ACTIVE), 0);
	(void)close(fd);
}

static void
test_refused__is_told(void **state)
{
	uint16_t ports[2] = { up_closed_port(), up_closed_port() };
	struct hb_cluster *c = cluster(ports, 2, "");
	struct hb_ep_numbers n;
	struct up_dial d;

	(void)state;
	assert_int_equal(up_dial(&d, "c", 0, NULL), 0);
	assert_int_equal(d.reason, HB_CLOSE_CONNECT_REFUSED);
	assert_int_equal(d.attempts, 1);
	assert_string_equal(d.failure, "connect: Connection refused");
	assert_true(d.endpoint.port == ports[0] || d.endpoint.port == ports[1]);
	assert_int_equal(up_dial(&d, "c", 5, NULL), 0);
	assert_int_equal(d.reason, HB_CLOSE_CONNECT_ATTEMPTS);
	assert_int_equal(d.attempts, 5);
	assert_string_equal(d.failure, "connect: Connection refused");
	assert_int_equal(up_stat(c, CL_CX_ATTEMPTS_EXCEEDED), 1);
	assert_int_equal(up_stat(c, CL_CX_CONNECT_FAIL), 6);
	assert_int_equal(up_stat(c, CL_RQ_PENDING_FAILURE), 2);
	assert_int_equal(up_stat(c, CL_RQ_PENDING_ACTIVE), 0);
	/* Never the same one twice in a row: five attempts alternate. */
	hb_endpoint_numbers(atomic_load(&c->eps)->ep[0], &n);
	assert_in_range(n.failed, 2, 4);
	assert_int_equal(n.active, 0);
}

static void
test_timeout(void **state)
{
	struct hb_cluster *c;
	struct up_dial d;
	uint16_t port;
	int extra[4], fd = up_hanging(&port, extra);

	(void)state;
	c = cluster(&port, 1, ", connect_timeout: 2s");
	up_dial_start(&d, "c", 1, NULL);
	up_turns(20);
	assert_int_equal(d.done, 0);
	assert_int_equal(up_stat(c, CL_RQ_PENDING_ACTIVE), 1);
	hb_clock_advance(hbt_worker(), 1900);
	up_turns(4);
	assert_int_equal(d.done, 0);
	up_advance(2000);
	UP_UNTIL(d.done == 1);
	assert_int_equal(d.reason, HB_CLOSE_CONNECT_TIMEOUT);
	assert_string_equal(d.failure, "connect: no answer within 2000 ms");
	assert_int_equal(up_stat(c, CL_CX_CONNECT_TIMEOUT), 1);
	assert_int_equal(up_stat(c, CL_CX_CONNECT_FAIL), 1);
	assert_int_equal(up_stat(c, CL_CX_ACTIVE), 0);
	/* The reason of the last attempt is not lost. */
	up_dial_start(&d, "c", 2, NULL);
	up_turns(4);
	up_advance(2001);
	UP_UNTIL(up_stat(c, CL_CX_CONNECT_TIMEOUT) == 2);
	up_advance(2001);
	UP_UNTIL(d.done == 1);
	assert_int_equal(d.reason, HB_CLOSE_ATTEMPTS_TIMEOUT);
	assert_int_equal(d.attempts, 2);
	assert_int_equal(up_stat(c, CL_CX_ATTEMPTS_EXCEEDED), 1);
	for (int i = 0; i < 4; i++)
		(void)close(extra[i]);
	(void)close(fd);
}

static void
test_cancel(void **state)
{
	struct hb_cluster *c;
	struct up_dial d;
	uint16_t port;
	int fd = up_listen(&port);

	(void)state;
	c = cluster(&port, 1, "");
	up_dial_start(&d, "c", 1, NULL);
	hb_dial_cancel(&d.dial);
	assert_null(d.dial);
	up_dial_start(&d, "nobody", 1, NULL);
	hb_dial_cancel(&d.dial);
	up_turns(10);
	assert_int_equal(d.done, 0);
	assert_int_equal(up_stat(c, CL_RQ_CANCELLED), 1);
	assert_int_equal(up_stat(c, CL_CX_ACTIVE), 0);
	assert_int_equal(up_stat(c, CL_RQ_PENDING_ACTIVE), 0);
	assert_int_equal(hb_cluster_connections(c), 0);
	(void)close(fd);
}

static void
test_limits(void **state)
{
	struct hb_cluster *c;
	struct up_dial d[4];
	uint16_t port;
	int fd = up_listen(&port);

	(void)state;
	c = cluster(&port, 1,
		", circuit_breakers: {thresholds: [{priority: HIGH, max_connections: 1}, "
		"{max_connections: 2, max_pending_requests: 1}]}");
	up_dial_start(&d[0], "c", 1, NULL);
	/* One is being made, that is all that may wait. */
	assert_int_equal(up_stat(c, CL_BREAKER_PENDING_OPEN), 1);
	assert_int_equal(up_dial(&d[1], "c", 1, NULL), 0);
	assert_int_equal(d[1].reason, HB_CLOSE_UPSTREAM_OVERFLOW);
	assert_int_equal(up_stat(c, CL_RQ_PENDING_OVERFLOW), 1);
	UP_UNTIL(d[0].done == 1);
	assert_int_equal(up_dial(&d[2], "c", 1, NULL), port);
	assert_int_equal(up_stat(c, CL_BREAKER_CX_OPEN), 1);
	assert_int_equal(up_dial(&d[3], "c", 3, NULL), 0);
	assert_int_equal(d[3].reason, HB_CLOSE_UPSTREAM_OVERFLOW);
	assert_string_equal(d[3].failure, "max_connections of the cluster is reached");
	assert_int_equal(up_stat(c, CL_CX_OVERFLOW), 1);
	up_close(&d[2]);
	assert_int_equal(up_stat(c, CL_BREAKER_CX_OPEN), 0);
	assert_int_equal(up_stat(c, CL_BREAKER_CX_LEFT), 1);
	assert_int_equal(up_dial(&d[3], "c", 3, NULL), port);
	up_close(&d[3]);
	hb_transport_abort(&d[0].t, HB_CLOSE_LOCAL_CLOSE);
	(void)close(fd);
}

static void
test_replaced_and_removed(void **state)
{
	struct hb_cluster *old, *c;
	struct up_dial d, e;
	uint16_t port[2];
	int fd[2] = { up_listen(&port[0]), up_listen(&port[1]) }, peer;

	(void)state;
	old = cluster(&port[0], 1, "");
	assert_int_equal(up_dial(&d, "c", 1, NULL), port[0]);
	peer = up_accept(fd[0]);
	c = cluster(&port[1], 1, "");
	assert_ptr_not_equal(c, old);
	up_turns(10);
	assert_int_equal(up_dial(&e, "c", 1, NULL), port[1]);
	/* The old connection lives and counts. */
	assert_int_equal(up_stat(c, CL_CX_ACTIVE), 2);
	hbt_fd_write(peer, "x", 1);
	UP_UNTIL(d.t->bytes_in == 1);
	up_remove("c");
	up_turns(10);
	assert_false(hb_dial_cluster_exists(HB_STR("c")));
	hbt_fd_write(peer, "y", 1);
	UP_UNTIL(d.t->bytes_in == 2);
	up_close(&d);
	up_close(&e);
	assert_int_equal(up_dial(&d, "c", 1, NULL), 0);
	assert_int_equal(d.reason, HB_CLOSE_NO_CLUSTER);
	up_turns(10);
	(void)close(peer);
	(void)close(fd[0]);
	(void)close(fd[1]);
}

static void
nothing_left(void *arg, struct hb_cluster *c)
{
	(void)c;
	++*(unsigned *)arg;
}

static void
test_an_unpinned_cluster_is_freed(void **state)
{
	struct up_dial d;
	uint16_t port;
	unsigned n = 0;
	int fd = up_listen(&port);

	(void)state;
	(void)cluster(&port, 1, "");
	assert_int_equal(up_dial(&d, "c", 1, NULL), port);
	up_remove("c");
	up_turns(10);
	hb_cluster_foreach(nothing_left, &n);
	assert_int_equal(n, 1);
	up_close(&d);
	up_turns(10);
	n = 0;
	hb_cluster_foreach(nothing_left, &n);
	assert_int_equal(n, 0);
	(void)close(fd);
}

static void
test_bind_address(void **state)
{
	struct hb_cluster *c;
	struct up_dial d;
	uint16_t port;
	struct hb_addr want;
	int fd = up_listen(&port);

	(void)state;
	(void)cluster(&port, 1,
		", upstream_bind_config: {source_address: {address: 127.0.0.7, port_value: 0}}");
	assert_true(hb_addr_parse_ip(HB_STR("127.0.0.7"), &want));
	assert_int_equal(up_dial(&d, "c", 1, NULL), port);
	assert_true(hb_addr_ip_eq(&d.local, &want));
	up_close(&d);
	/* An address that no interface has. */
	c = cluster(&port, 1,
		", upstream_bind_config: {source_address: {address: 192.0.2.1, port_value: 0}}");
	assert_int_equal(up_dial(&d, "c", 1, NULL), 0);
	assert_int_equal(d.reason, HB_CLOSE_CONNECT_FAILED);
	assert_int_equal(up_stat(c, CL_BIND_ERRORS), 1);
	/* Of the other family: not used. */
	(void)cluster(&port, 1,
		", upstream_bind_config: {source_address: {address: '::1', port_value: 0}}");
	assert_int_equal(up_dial(&d, "c", 1, NULL), port);
	up_close(&d);
	(void)close(fd);
}

static void
test_socket_options(void **state)
{
	struct hb_cluster *c;
	struct up_dial d;
	uint16_t port;
	int fd = up_listen(&port), value = 0;
	socklen_t len = sizeof value;

	(void)state;
	(void)cluster(&port, 1,
		", upstream_bind_config: {socket_options: [{level: 6, name: 18, int_value: 4321}, "
		"{level: 1, name: 9, buf_value: AQAAAA==}]}");
	assert_int_equal(up_dial(&d, "c", 1, NULL), port);
	assert_int_equal(
		getsockopt(hb_tcp_fd(d.t), IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &len), 0);
	assert_int_equal(value, 4321);
	assert_int_equal(getsockopt(hb_tcp_fd(d.t), SOL_SOCKET, SO_KEEPALIVE, &value, &len), 0);
	assert_int_equal(value, 1);
	up_close(&d);
	c = cluster(&port, 1,
		", upstream_bind_config: {socket_options: [{description: nonsense, level: 6, "
		"name: 9999, int_value: 1}]}");
	assert_int_equal(up_dial(&d, "c", 1, NULL), 0);
	assert_string_equal(
		d.failure, "socket: cannot set the socket option nonsense: Protocol not available");
	assert_int_equal(up_stat(c, CL_BIND_ERRORS), 1);
	(void)close(fd);
}

static void
test_bytes_of_living_connections(void **state)
{
	struct hb_cluster *c;
	struct hb_slice slice;
	struct hb_buf buf = { 0 };
	struct up_dial d;
	uint16_t port;
	int fd = up_listen(&port), peer;

	(void)state;
	c = cluster(&port, 1, "");
	assert_int_equal(up_dial(&d, "c", 1, NULL), port);
	peer = up_accept(fd);
	hbt_fd_write(peer, "hello", 5);
	hb_buf_borrow(&buf, &slice, "abc", 3);
	hb_transport_write(d.t, &buf, false);
	UP_UNTIL(d.t->bytes_in == 5);
	assert_int_equal(up_stat(c, CL_CX_RX_BYTES), 0);
	up_advance(5000);
	assert_int_equal(up_stat(c, CL_CX_RX_BYTES), 5);
	assert_int_equal(up_stat(c, CL_CX_TX_BYTES), 3);
	hbt_fd_write(peer, "!", 1);
	UP_UNTIL(d.t->bytes_in == 6);
	up_close(&d);
	assert_int_equal(up_stat(c, CL_CX_RX_BYTES), 6);
	assert_int_equal(up_stat(c, CL_CX_TX_BYTES), 3);
	(void)close(peer);
	(void)close(fd);
}

static void
test_unix_socket(void **state)
{
	static const char name[] = "@hbone-upstreams-dial-test";
	struct sockaddr_un {
		sa_family_t family;
		char path[108];
	} a = { .family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct up_dial d;

	(void)state;
	memcpy(a.path + 1, name + 1, sizeof name - 2);
	assert_int_equal(
		bind(fd, (struct sockaddr *)&a, (socklen_t)(sizeof(sa_family_t) + sizeof name - 1)),
		0);
	assert_int_equal(listen(fd, 8), 0);
	(void)up_cluster(
		"{name: c, load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: "
		"{pipe: {path: '%s'}}}}]}]}}",
		name);
	(void)up_dial(&d, "c", 1, NULL);
	assert_non_null(d.t);
	assert_int_equal(d.endpoint.kind, HB_ADDR_UNIX);
	up_close(&d);
	(void)close(fd);
	assert_int_equal(up_dial(&d, "c", 1, NULL), 0);
	assert_int_equal(d.reason, HB_CLOSE_CONNECT_REFUSED);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_connects, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_the_endpoint_ends_it, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_no_cluster, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(
			test_refused__goes_to_the_next, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_refused__is_told, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_timeout, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_cancel, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_limits, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_replaced_and_removed, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(
			test_an_unpinned_cluster_is_freed, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_bind_address, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_socket_options, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(
			test_bytes_of_living_connections, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_unix_socket, up_setup, up_teardown),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

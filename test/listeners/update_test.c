/* SPDX-License-Identifier: Apache-2.0 */
/* Replacing and removing listeners under connections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>
#include <cmocka.h>
#include "core/event/io.h"
#include "test/listeners/listener_env.h"

#define ADDR "address: {socket_address: {address: 127.0.0.1, port_value: 0}}\n"
#define TLS_INSPECTOR                                               \
	"listener_filters: [{name: tls, typed_config: {\"@type\": " \
	"type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}]\n"
#define FILTERS "filters: [{name: test.name}]"
#define CHAIN(name, sni) \
	"- {name: " name ", filter_chain_match: {server_names: [" sni "]}, " FILTERS "}\n"

static int
setup(void **state)
{
	le_init(NULL);
	return (0);
}

static int
teardown(void **state)
{
	le_fini();
	return (0);
}

static void
open_chain(struct le_client *c, uint16_t port, const char *sni, const char *chain)
{
	le_connect(c, port);
	le_send_hello(c, sni, NULL);
	le_expect_line(c, chain);
}

static void
test_in_place(void **state)
{
	struct le_client a, b, inspecting, now;
	uint16_t port;
	uint8_t hello[256];
	size_t n = le_hello(hello, sizeof hello, "b.example", NULL);

	le_apply_ok("name: l\n" ADDR TLS_INSPECTOR "filter_chains:\n" CHAIN("a", "a.example")
			CHAIN("b", "b.example"));
	port = le_port("l", 0);
	open_chain(&a, port, "a.example", "a");
	open_chain(&b, port, "b.example", "b");
	le_connect(&inspecting, port);
	le_send(&inspecting, hello, 10);
	LE_UNTIL(le_lstat("l", "downstream_pre_cx_active") == 1);
	/* b changes its name, c is new, a stays (at another place). */
	le_apply_ok("name: l\n" ADDR TLS_INSPECTOR "filter_chains:\n" CHAIN("c", "c.example")
			CHAIN("b2", "b.example") CHAIN("a", "a.example"));
	assert_int_equal(le_port("l", 0), port);
	assert_int_equal(le_stat("listener_manager.listener_in_place_updated"), 1);
	LE_UNTIL(le_stat("listener_manager.total_filter_chains_draining") == 1);
	/* Only the connection of the chain that vanished is told. */
	LE_UNTIL(le_drained == 1);
	/* Who was being looked at gets the new chains. */
	le_send(&inspecting, hello + 10, n - 10);
	le_expect_line(&inspecting, "b2");
	open_chain(&now, port, "c.example", "c");
	le_advance(20000);
	le_expect_echo(&b);
	le_advance(6000);
	/* Cut: the drain time is over. */
	le_expect_reset(&b);
	le_advance(3000);
	assert_int_equal(le_stat("listener_manager.total_filter_chains_draining"), 0);
	le_expect_echo(&a);
	le_expect_echo(&now);
	le_expect_echo(&inspecting);
	assert_int_equal(le_drained, 1);
	le_close(&a);
	le_close(&b);
	le_close(&now);
	le_close(&inspecting);
}

static void
test_same_is_nothing(void **state)
{
	static const char yaml[] = "name: l\n" ADDR "filter_chains: [{name: a, " FILTERS "}]\n";

	le_apply_ok(yaml);
	le_apply_ok(yaml);
	assert_int_equal(le_stat("listener_manager.listener_added"), 1);
	assert_int_equal(le_stat("listener_manager.listener_modified"), 0);
}

/* Other options: a new version takes over the socket, its queue and the equal chains. */
static void
test_take_over(void **state)
{
	struct le_client old, queued, pre, gone;
	uint16_t port;
	uint8_t hello[256];
	size_t n = le_hello(hello, sizeof hello, "a.example", NULL);

	le_apply_ok("name: l\n" ADDR TLS_INSPECTOR "filter_chains:\n" CHAIN("a", "a.example")
			CHAIN("b", "b.example"));
	port = le_port("l", 0);
	open_chain(&old, port, "a.example", "a");
	open_chain(&gone, port, "b.example", "b");
	le_connect(&pre, port);
	le_send(&pre, hello, 10);
	LE_UNTIL(le_lstat("l", "downstream_pre_cx_active") == 1);
	/* In the accept queue while the versions change. */
	le_connect(&queued, port);
	le_apply_ok("name: l\n" ADDR TLS_INSPECTOR
		    "listener_filters_timeout: 5s\nfilter_chains:\n" CHAIN("a", "a.example"));
	assert_int_equal(le_port("l", 0), port);
	assert_int_equal(le_stat("listener_manager.listener_modified"), 1);
	assert_int_equal(le_stat("listener_manager.total_listeners_active"), 1);
	le_send(&queued, hello, n);
	le_expect_line(&queued, "a");
	le_send(&pre, hello + 10, n - 10);
	le_expect_line(&pre, "a");
	le_expect_echo(&old);
	LE_UNTIL(le_drained == 1);
	le_advance(27000);
	le_expect_reset(&gone);
	le_expect_echo(&old);
	le_expect_echo(&queued);
	/* The old version lives as long as its connection. */
	assert_int_equal(le_stat("listener_manager.total_listeners_draining"), 1);
	assert_int_equal(hb_listeners_connections(), 3);
	le_close(&old);
	le_close(&queued);
	le_close(&pre);
	le_close(&gone);
	LE_UNTIL(hb_listeners_connections() == 0);
	le_advance(2000);
	assert_int_equal(le_stat("listener_manager.total_listeners_draining"), 0);
}

static void
test_limit_counts_all_versions(void **state)
{
	static const char format[] =
		"name: l\n" ADDR "filter_chains: [{name: a, " FILTERS "}]\n"
		"metadata: {typed_filter_metadata: {hbone.listener: {\"@type\": "
		"type.googleapis.com/hbone.config.ListenerOptions, "
		"max_connections: %u}}}\n";
	struct le_client a, b;
	char yaml[512];

	(void)snprintf(yaml, sizeof yaml, format, 2);
	le_apply_ok(yaml);
	le_connect(&a, le_port("l", 0));
	le_expect_line(&a, "a");
	(void)snprintf(yaml, sizeof yaml, format, 1);
	le_apply_ok(yaml);
	le_connect(&b, le_port("l", 0));
	le_expect_reset(&b);
	le_expect_echo(&a);
	le_close(&a);
	le_close(&b);
}

static uint16_t
free_port(int *ret_fd)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof sin;

	*ret_fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(*ret_fd, (struct sockaddr *)&sin, sizeof sin), 0);
	assert_int_equal(listen(*ret_fd, 1), 0);
	assert_int_equal(getsockname(*ret_fd, (struct sockaddr *)&sin, &len), 0);
	return (ntohs(sin.sin_port));
}

static const char *
on_port(const char *name, unsigned port)
{
	static char yaml[512];

	(void)snprintf(yaml, sizeof yaml,
		"name: %s\naddress: {socket_address: {address: 127.0.0.1, "
		"port_value: %u}}\nfilter_chains: [{name: %s, " FILTERS "}]\n",
		name, port, name);
	return (yaml);
}

static void
test_address_moves(void **state)
{
	struct le_client a, b;
	uint16_t old;

	le_apply_ok("name: l\n" ADDR "filter_chains: [{name: l, " FILTERS "}]\n");
	old = le_port("l", 0);
	le_connect(&a, old);
	le_expect_line(&a, "l");
	/* In the queue of a socket that goes: it is served, not reset. */
	le_connect(&b, old);
	le_apply_ok("name: l\naddress: {socket_address: {address: 127.0.0.2, port_value: 0}}\n"
		    "filter_chains: [{name: l, " FILTERS "}]\n");
	le_expect_line(&b, "l");
	le_expect_echo(&a);
	le_close(&a);
	le_close(&b);
	/* The address is free again: another listener may have it. */
	le_turn();
	le_apply_ok(on_port("m", old));
	le_connect(&a, old);
	le_expect_line(&a, "m");
	le_close(&a);
}

static void
test_rename_keeps_queue(void **state)
{
	struct le_client queued;
	uint16_t port;
	int fd;

	port = free_port(&fd);
	close(fd);
	le_apply_ok(on_port("one", port));
	le_connect(&queued, port);
	le_remove("one");
	le_apply_ok(on_port("two", port));
	/* Whoever takes it, nobody resets it. */
	LE_UNTIL(le_poll(&queued));
	assert_false(queued.reset);
	le_close(&queued);
	le_connect(&queued, port);
	le_expect_line(&queued, "two");
	le_close(&queued);
}

static void
test_addresses_in_use(void **state)
{
	uint16_t port;
	const char *e;
	int fd;

	port = free_port(&fd);
	e = le_apply(on_port("l", port));
	assert_non_null(strstr(e, "Address already in use"));
	assert_non_null(strstr(e, "choose another address"));
	assert_int_equal(le_stat("listener_manager.listener_create_failure"), 1);
	close(fd);
	le_apply_ok(on_port("l", port));
	e = le_apply(on_port("m", port));
	assert_non_null(strstr(e, "belongs to the listener \"l\""));
	/* The refused one changed nothing. */
	assert_int_equal(le_stat("listener_manager.total_listeners_active"), 1);
	e = le_apply("name: n\naddress: {socket_address: {address: 192.0.2.1, port_value: 0}}\n"
		     "filter_chains: [{" FILTERS "}]\n");
	assert_non_null(strstr(e, "freebind"));
	le_apply_ok("name: n\naddress: {socket_address: {address: 192.0.2.1, port_value: 0}}\n"
		    "filter_chains: [{" FILTERS "}]\nfreebind: true\n");
}

/* The live one stays when its change is refused. */
static void
test_refused_update(void **state)
{
	struct le_client c;
	uint16_t port;
	char yaml[512];
	int fd;

	le_apply_ok("name: l\n" ADDR "filter_chains: [{name: a, " FILTERS "}]\n");
	(void)snprintf(yaml, sizeof yaml,
		"name: l\naddress: {socket_address: {address: 127.0.0.1, "
		"port_value: %u}}\nfilter_chains: [{name: b, " FILTERS "}]\n",
		free_port(&fd));
	port = le_port("l", 0);
	assert_string_not_equal(le_apply(yaml), "");
	close(fd);
	assert_int_equal(le_port("l", 0), port);
	le_connect(&c, port);
	le_expect_line(&c, "a");
	le_close(&c);
}

static void
test_remove_drains(void **state)
{
	struct le_client c, pre;
	uint16_t port;

	le_apply_ok("name: l\n" ADDR TLS_INSPECTOR "filter_chains:\n" CHAIN("a", "a.example"));
	port = le_port("l", 0);
	open_chain(&c, port, "a.example", "a");
	le_connect(&pre, port);
	LE_UNTIL(hb_listeners_connections() == 2);
	le_remove("l");
	LE_UNTIL(le_drained == 1);
	assert_int_equal(le_stat("listener_manager.total_listeners_draining"), 1);
	le_expect_echo(&c);
	/* One that is still looked at may go on. */
	le_send_hello(&pre, "a.example", NULL);
	le_expect_line(&pre, "a");
	le_advance(27000);
	le_expect_reset(&c);
	le_expect_reset(&pre);
	le_advance(3000);
	assert_int_equal(le_stat("listener_manager.total_listeners_draining"), 0);
	assert_int_equal(hb_listeners_connections(), 0);
	le_close(&c);
	le_close(&pre);
}

static void
test_drain_all(void **state)
{
	struct le_client in, out;
	uint16_t port_in, port_out;

	le_apply_ok("name: in\ntraffic_direction: INBOUND\n" ADDR
		    "filter_chains: [{name: in, " FILTERS "}]\n");
	le_apply_ok("name: out\n" ADDR "filter_chains: [{name: out, " FILTERS "}]\n");
	port_in = le_port("in", 0);
	port_out = le_port("out", 0);
	le_connect(&in, port_in);
	le_expect_line(&in, "in");
	le_connect(&out, port_out);
	le_expect_line(&out, "out");
	hb_listeners_drain(true);
	LE_UNTIL(le_drained == 1);
	le_expect_echo(&in);
	/* What comes later in this direction is ignored, not refused. */
	le_apply_ok("name: in2\ntraffic_direction: INBOUND\n" ADDR
		    "filter_chains: [{name: in, " FILTERS "}]\n");
	assert_int_equal(le_stat("listener_manager.listener_added"), 2);
	hb_listeners_drain(false);
	LE_UNTIL(le_drained == 2);
	le_expect_echo(&out);
	assert_int_equal(hb_listeners_connections(), 2);
	hb_listeners_close_all(HB_CLOSE_DRAINED);
	le_expect_reset(&in);
	le_expect_reset(&out);
	LE_UNTIL(hb_listeners_connections() == 0);
	le_close(&in);
	le_close(&out);
}

static void
described(void *arg, struct hb_text *t)
{
	hb_text_add(arg, t->p, t->len);
}

static void
test_describe(void **state)
{
	struct le_client c[4];
	struct hb_text t = { 0 };
	unsigned lines = 0;

	le_apply_ok("name: l\n" ADDR TLS_INSPECTOR "filter_chains:\n" CHAIN("a", "a.example"));
	for (unsigned i = 0; i < 3; i++)
		open_chain(&c[i], le_port("l", 0), "a.example", "a");
	le_connect(&c[3], le_port("l", 0));
	LE_UNTIL(hb_listeners_connections() == 4);
	hb_listeners_describe(100, described, &t);
	LE_UNTIL(t.len > 0);
	for (size_t i = 0; i < t.len; i++)
		lines += t.p[i] == '\n';
	assert_int_equal(lines, 4);
	assert_non_null(strstr(t.p, "sni=a.example listener=l chain=a"));
	assert_non_null(strstr(t.p, "state=inspecting"));
	hb_text_fini(&t);
	hb_listeners_describe(2, described, &t);
	LE_UNTIL(t.len > 0);
	lines = 0;
	for (size_t i = 0; i < t.len; i++)
		lines += t.p[i] == '\n';
	assert_int_equal(lines, 2);
	hb_text_fini(&t);
	for (unsigned i = 0; i < 4; i++)
		le_close(&c[i]);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_in_place),
		T(test_same_is_nothing),
		T(test_take_over),
		T(test_limit_counts_all_versions),
		T(test_address_moves),
		T(test_rename_keeps_queue),
		T(test_addresses_in_use),
		T(test_refused_update),
		T(test_remove_drains),
		T(test_drain_all),
		T(test_describe),
	};

	int failed = cmocka_run_group_tests_name("epoll", tests, NULL, NULL);

	hb_io_backend(HB_IO_UV);
	return (failed + cmocka_run_group_tests_name("uv", tests, NULL, NULL));
}

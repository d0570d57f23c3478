/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain connections that are passed on by their server name, as in row P2: accepted by a listener, looked
 * at by tls_inspector, dialled by tcp_proxy; a ClientHello goes to the origin, a byte comes back, then
 * both ends go.
 */
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include "listeners/listeners.h"
#include "test/bench/instructions/instructions.h"
#include "test/bench/load/hello.h"
#include "test/support/filter_harness.h"

#define LISTENER                                                                                   \
	"name: sni\n"                                                                              \
	"address: {socket_address: {address: 127.0.0.1, port_value: 0}}\n"                         \
	"listener_filters:\n"                                                                      \
	"- name: tls_inspector\n"                                                                  \
	"  typed_config: {\"@type\": type.googleapis.com/"                                          \
	"envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}\n"                       \
	"filter_chains:\n"                                                                         \
	"- filter_chain_match: {server_names: [bench.example]}\n"                                  \
	"  filters:\n"                                                                             \
	"  - name: tcp\n"                                                                          \
	"    typed_config: {\"@type\": "                                                            \
	"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: " \
	"p, cluster: origin}\n"

extern const struct hb_filter_type hb_filter_tcp_proxy, hb_lfilter_tls_inspector;

static struct {
	int origin;
	struct sockaddr_in at; /* the listener's */
	struct hb_text hello;
} c;

static void
note_port(void *arg, const char *name, const struct hb_addr *bound)
{
	(void)arg;
	(void)name;
	c.at.sin_port = htons(bound->port);
}

static void
connections_setup(void)
{
	const struct hb_listeners_options o = { .drain_time_ms = 1000 };
	struct hb_err err;

	hbi_house_init();
	hbf_register(&hb_lfilter_tls_inspector);
	hbf_register(&hb_filter_tcp_proxy);
	if (hb_listeners_init(&o, &err) != 0 ||
		load_hello("bench.example", &c.hello, &err) != 0)
		HB_WRONG(err.text);
	c.origin = hbi_origin();
	hbi_apply(HBI_LISTENER, LISTENER);
	c.at.sin_family = AF_INET;
	c.at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	hb_listeners_foreach(note_port, NULL);
	HB_ASSERT(c.at.sin_port != 0);
}

/* The listening socket has it; nobody waits for the accept. */
static int
client(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&c.at, sizeof c.at) != 0)
		HB_WRONG("a client cannot connect");
	return (fd);
}

static void
send_all(int fd, const void *p, size_t n)
{
	if (send(fd, p, n, MSG_NOSIGNAL) != (ssize_t)n)
		HB_WRONG("an end cannot send");
}

static ssize_t
receive(int fd, size_t n)
{
	char bytes[2048];

	HB_ASSERT(n <= sizeof bytes);
	return (recv(fd, bytes, n, MSG_DONTWAIT));
}

static void
connections(unsigned n)
{
	while (n-- > 0) {
		int down = client(), up;

		send_all(down, c.hello.p, c.hello.len);
		up = hbi_accept(c.origin);
		HBI_UNTIL(receive(up, c.hello.len) == (ssize_t)c.hello.len);
		send_all(up, "x", 1);
		HBI_UNTIL(receive(down, 1) == 1);
		(void)shutdown(down, SHUT_WR);
		HBI_UNTIL(receive(up, 1) == 0);
		(void)close(up);
		HBI_UNTIL(receive(down, 1) == 0);
		(void)close(down);
		HBI_UNTIL(hb_conn_count(hbt_worker()) == 0);
	}
}

static void
connections_fini(void)
{
	hbi_remove(HBI_LISTENER, "sni");
	hb_listeners_close_all(HB_CLOSE_SHUTDOWN);
	HBI_UNTIL(hb_listeners_connections() == 0);
	hb_clock_advance(hb_worker_control(), 20000);
	(void)close(c.origin);
	hbi_remove(HBI_CLUSTER, "origin");
	hbi_house_fini();
	hb_listeners_fini();
	hb_text_fini(&c.hello);
}

const struct hbi_run hbi_connections = { "connections", "connections", 10000, 50, connections_setup,
	connections, connections_fini };

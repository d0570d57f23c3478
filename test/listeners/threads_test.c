/* SPDX-License-Identifier: Apache-2.0 */
/* Workers on threads of their own: listeners change under a stream of new connections, and no
 * connection fails. Real clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "core/transport/transport.h"
#include "test/listeners/listener_env.h"

#define ADDR "address: {socket_address: {address: 127.0.0.1, port_value: 0}}\n"
#define TLS_INSPECTOR                                               \
	"listener_filters: [{name: tls, typed_config: {\"@type\": " \
	"type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}]\n"
#define CLIENTS 4
#define CHANGES 60

static _Atomic bool stop;
static _Atomic unsigned good, failed;
static uint16_t port;

static bool
read_line(int fd, char *line, size_t cap)
{
	size_t n = 0;

	while (n + 1 < cap) {
		if (recv(fd, &line[n], 1, 0) != 1)
			return (false);
		if (line[n++] == '\n')
			break;
	}
	line[n] = '\0';
	return (true);
}

/* One whole conversation. */
static bool
converse(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	uint8_t hello[256];
	size_t n = le_hello(hello, sizeof hello, "a.example", NULL);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char line[64];
	bool ok = connect(fd, (struct sockaddr *)&sin, sizeof sin) == 0 &&
		send(fd, hello, 20, MSG_NOSIGNAL) == 20 &&
		send(fd, hello + 20, n - 20, MSG_NOSIGNAL) == (ssize_t)(n - 20) &&
		read_line(fd, line, sizeof line) && line[0] == 'a' &&
		send(fd, "ping\n", 5, MSG_NOSIGNAL) == 5 && read_line(fd, line, sizeof line) &&
		strcmp(line, "ping\n") == 0 && shutdown(fd, SHUT_WR) == 0 &&
		recv(fd, line, 1, 0) == 0;

	(void)close(fd);
	return (ok);
}

static void *
client(void *arg)
{
	while (!atomic_load(&stop)) {
		if (converse())
			atomic_fetch_add(&good, 1);
		else
			atomic_fetch_add(&failed, 1);
	}
	return (NULL);
}

/* Chains in place, then options (a new version), then the equal chain at another place. */
static void
change(unsigned i)
{
	char yaml[1024];

	(void)snprintf(yaml, sizeof yaml,
		"name: l\n" ADDR TLS_INSPECTOR
		"listener_filters_timeout: %us\nconnection_balance_config: {%s}\nfilter_chains:\n"
		"- {name: a%u, filter_chain_match: {server_names: [a.example]}, filters: "
		"[{name: test.name}]}\n"
		"- {name: b, filter_chain_match: {server_names: [b.example]}, filters: "
		"[{name: test.name}]}\n",
		10 + i / 2 % 3, i % 3 == 0 ? "exact_balance: {}" : "", i % 2);
	le_apply_ok(yaml);
}

static struct hb_timer changer;
static unsigned changes;

static void
on_change(struct hb_timer *t)
{
	if (changes++ < CHANGES) {
		change(changes);
		hb_timer_start(t, 5);
		return;
	}
	atomic_store(&stop, true);
	hb_control_stop();
}

static void
test_changes_under_load(void **state)
{
	pthread_t thread[CLIENTS];
	struct hb_listeners_options o = { .drain_time_ms = 60000 };

	le_init_real(&o);
	change(0);
	port = le_port("l", 0);
	assert_int_equal(hb_workers_start(NULL), 0);
	for (unsigned i = 0; i < CLIENTS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, client, NULL), 0);
	hb_timer_init(&changer, hb_worker_control(), on_change);
	hb_timer_start(&changer, 5);
	hb_control_run();
	for (unsigned i = 0; i < CLIENTS; i++)
		pthread_join(thread[i], NULL);
	le_fini_real();
	print_message("%u conversations\n", atomic_load(&good));
	assert_int_equal(atomic_load(&failed), 0);
	assert_true(atomic_load(&good) > CHANGES);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes_under_load),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

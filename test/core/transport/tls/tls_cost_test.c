/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a mutual TLS 1.3 server costs: CPU of a handshake (printed) and memory of an idle connection
 * (held to a limit). No sockets, and the client's time is not counted.
 */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/base/burst.h"
#include "test/core/transport/tls/client.h"

/* Bytes of the allocator for one idle connection, with its half of a pair. */
#define IDLE_MAX 3500

static struct hbt_pki pki;
static SSL_CTX *client;
static struct hb_tls_ctx *server;
static SSL_SESSION *session; /* the newest that the server gave */

static int
setup(void **state)
{
	struct hb_tls_cert cert;
	struct hb_tls_config c;

	(void)hbt_init(HB_IO_EPOLL);
	hbt_pki_init(&pki);
	c = hbt_tls_server_config(&pki, &cert);
	server = hbt_tls_ctx(&c);
	client = hbt_tls_client_ctx(pki.client, &session);
	return (0);
}

static int
teardown(void **state)
{
	SSL_SESSION_free(session);
	SSL_CTX_free(client);
	hb_tls_ctx_free(&server);
	hbt_pki_fini(&pki);
	hbt_fini();
	return (0);
}

static void
cost(const char *what, bool resume)
{
	enum { N = 1000 };
	struct hbt_tls_client c;
	int64_t t0 = hbt_cpu_ns(), others = 0;

	for (unsigned i = 0; i < N; i++) {
		SSL_SESSION *offer = resume ? session : NULL;

		assert_true(hbt_tls_client_connect(&c, client, server, offer));
		assert_int_equal(c.info->resumed, resume);
		hbt_tls_client_fini(&c);
		others += c.cpu_ns;
	}
	print_message("%s: %.0f us of server CPU a handshake\n", what,
		(double)(hbt_cpu_ns() - t0 - others) / N / 1000);
}

static void
test_cost__handshakes(void **state)
{
	hb_tls_set_verified_chains(0);
	cost("full", false);
	hb_tls_set_verified_chains(HB_TLS_VERIFIED_CHAINS);
	cost("full, chain remembered", false);
	cost("resumed", true);
}

static void
test_cost__memory(void **state)
{
	enum { N = 200 };
	struct hbt_tls_client *c = hb_calloc(N, sizeof *c);
	size_t before;
	double each;

	for (unsigned i = 0; i < N; i++)
		assert_true(hbt_tls_client_connect(&c[i], client, server, NULL));
	before = mallinfo2().uordblks + hb_burst_in_use();
	for (unsigned i = 0; i < N; i++)
		hbt_sink_fini(&c[i].server);
	hbt_turns(4);
	each = (double)(before - (mallinfo2().uordblks + hb_burst_in_use())) / N;
	print_message("an idle connection of a server: %.0f bytes\n", each);
	for (unsigned i = 0; i < N; i++)
		hbt_tls_client_fini(&c[i]);
	hb_free(c);
#ifndef __SANITIZE_ADDRESS__
	assert_true(each < IDLE_MAX);
#endif
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cost__handshakes),
		cmocka_unit_test(test_cost__memory),
	};

	return (cmocka_run_group_tests(tests, setup, teardown));
}

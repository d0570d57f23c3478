/* SPDX-License-Identifier: Apache-2.0 */
/* What every transport must do, for TLS over a socket and over a pair. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/support/conformance.h"
#include "test/support/ends.h"

static void
wrap(struct hb_transport **a, struct hb_transport **b)
{
	*a = hb_tls_new(*a, hbt_ends_pki.client_ctx, NULL);
	*b = hb_tls_new(*b, hbt_ends_pki.server_ctx, NULL);
}

static void
over_tcp(struct hb_transport **ret_a, struct hb_transport **ret_b)
{
	hbt_tcp_pair(ret_a, ret_b);
	wrap(ret_a, ret_b);
}

static void
over_pair(struct hb_transport **ret_a, struct hb_transport **ret_b)
{
	hb_pair_new(hbt_worker(), ret_a, ret_b);
	hb_transport_accept(*ret_b);
	wrap(ret_a, ret_b);
}

static void
test_tls__conformance_over_tcp(void **state)
{
	static const struct hbt_maker maker = { "tls(tcp)", over_tcp, HB_CLOSE_PEER_RESET,
		9 * 1024 * 1024 };

	hbt_conformance(&maker);
}

static void
test_tls__conformance_over_pair(void **state)
{
	static const struct hbt_maker maker = { "tls(pair)", over_pair, HB_CLOSE_PEER_RESET,
		300000 };

	hbt_conformance(&maker);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_tls__conformance_over_tcp, hbt_ends_setup, hbt_ends_teardown),
		cmocka_unit_test_setup_teardown(
			test_tls__conformance_over_pair, hbt_ends_setup, hbt_ends_teardown),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

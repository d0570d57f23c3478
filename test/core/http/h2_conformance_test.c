/* SPDX-License-Identifier: Apache-2.0 */
/* What every transport must do, for the streams of one session. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/http/h2.h"
#include "test/support/conformance.h"
#include "test/support/ends.h"

static struct hb_h2 *client, *server;
static struct hb_transport *offered;

static void
on_request(
	void *sink, struct hb_h2 *h2, const struct hb_h2_request *req, struct hb_transport *stream)
{
	HB_ASSERT(offered == NULL);
	offered = stream;
}

static void
on_closed(void *sink, struct hb_h2 *h2, enum hb_close_reason reason)
{
	if (h2 == client)
		client = NULL;
	else
		server = NULL;
}

static const struct hb_h2_events events = { .on_request = on_request, .on_closed = on_closed };

static void
sessions(bool tls)
{
	struct hb_transport *a, *b;

	hbt_ends(tls ? HBT_OVER_TLS : HBT_OVER_TCP, 0, &a, &b);
	client = hb_h2_new(a, false, NULL, &events, NULL);
	server = hb_h2_new(b, true, NULL, &events, NULL);
}

static int
teardown(void **state)
{
	/* Every case was one stream of the same two sessions. */
	assert_non_null(client);
	assert_non_null(server);
	assert_int_equal(hb_h2_streams(client), 0);
	assert_int_equal(hb_h2_streams(server), 0);
	assert_int_equal(hb_h2_buffered(client), 0);
	assert_int_equal(hb_h2_buffered(server), 0);
	hb_h2_close(&client, HB_CLOSE_LOCAL_CLOSE);
	hbt_turns(8);
	assert_null(server);
	return (hbt_ends_teardown(state));
}

static void
open_stream(struct hb_transport **ret_client, struct hb_transport **ret_server)
{
	const struct hb_h2_request req = { .authority = HB_STR("a.example:443") };

	*ret_client = hb_h2_open(client, &req);
	HB_ASSERT(*ret_client != NULL);
	HBT_UNTIL(offered != NULL);
	*ret_server = offered;
	offered = NULL;
	hb_transport_accept(*ret_server);
}

static void
from_client(struct hb_transport **ret_a, struct hb_transport **ret_b)
{
	open_stream(ret_a, ret_b);
}

static void
from_server(struct hb_transport **ret_a, struct hb_transport **ret_b)
{
	open_stream(ret_b, ret_a);
}

static void
test_h2__conformance_client(void **state)
{
	static const struct hbt_maker maker = { "stream(tcp)", from_client, HB_CLOSE_STREAM_RESET,
		256 * 1024 };

	sessions(false);
	hbt_conformance(&maker);
}

static void
test_h2__conformance_server(void **state)
{
	static const struct hbt_maker maker = { "stream(tls(tcp))", from_server,
		HB_CLOSE_STREAM_RESET, 256 * 1024 };

	sessions(true);
	hbt_conformance(&maker);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_h2__conformance_client, hbt_ends_setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_h2__conformance_server, hbt_ends_setup, teardown),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

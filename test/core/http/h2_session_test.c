/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: limits, draining, closing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "test/core/http/h2_rig.h"

static unsigned sends;

/* In libc's place. */
ssize_t
send(int fd, const void *p, size_t n, int flags)
{
	sends++;
	return (syscall(SYS_sendto, fd, p, n, flags, NULL, 0));
}

static void
test_h2__stream_limit(void **state)
{
	unsigned i;

	w.server_opt.streams_max = 4;
	rig_start(&w, HBT_OVER_TCP, 0);
	/* Before the peer's SETTINGS came nobody knows its limit. */
	assert_int_equal(hb_h2_room(w.client), 100);
	for (i = 0; i < 6; i++)
		rig_open(&w);
	HBT_UNTIL(w.a[4].closed == 1 && w.a[5].closed == 1);
	assert_int_equal(w.a[4].reason, HB_CLOSE_STREAM_REFUSED);
	assert_int_equal(hb_h2_refused(w.server), 2);
	rig_connect(&w, 3);
	assert_int_equal(hb_h2_room(w.client), 0);
	assert_null(hb_h2_open(w.client, &(struct hb_h2_request){ .authority = HB_STR("a:1") }));
	w.rooms = 0;
	hb_transport_abort(&w.a[0].t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(w.rooms > 0);
	assert_int_equal(hb_h2_room(w.client), 1);
	w.requests = 6;
	i = rig_open(&w);
	HBT_UNTIL(w.a[i].secured == 1);
}

static void
test_h2__drain_client(void **state)
{
	w.prepare = rig_echoes;
	rig_start(&w, HBT_OVER_TCP, 0);
	rig_open(&w);
	rig_connect(&w, 0);
	hb_h2_drain(w.client);
	hb_h2_drain(w.client);
	assert_int_equal(hb_h2_room(w.client), 0);
	hbt_turns(8);
	assert_int_equal(w.client_closed, 0);
	hbt_writez(&w.a[0], "still", true);
	HBT_UNTIL(w.client_closed == 1 && w.server_closed == 1);
	assert_true(hbt_gotz(&w.a[0], "still"));
	assert_int_equal(w.client_reason, HB_CLOSE_DONE);
	assert_int_equal(w.server_reason, HB_CLOSE_DONE);
}

/* GOAWAY and the end below it, close_notify, leave together. */
static void
test_h2__goaway_and_end_are_one_call(void **state)
{
	w.prepare = rig_echoes;
	rig_start(&w, HBT_OVER_TLS, 0);
	rig_open(&w);
	rig_connect(&w, 0);
	hbt_writez(&w.a[0], "done", true);
	HBT_UNTIL(w.a[0].closed == 1 && w.b[0].closed == 1);
	hbt_turns(8);
	sends = 0;
	hb_h2_close(&w.client, HB_CLOSE_DONE);
	assert_int_equal(sends, 1);
	HBT_UNTIL(w.server_closed == 1);
	assert_int_equal(w.server_reason, HB_CLOSE_DONE);
}

static void
test_h2__drain_server(void **state)
{
	w.prepare = rig_echoes;
	rig_start(&w, HBT_OVER_TCP, 0);
	rig_open(&w);
	rig_connect(&w, 0);
	hb_h2_drain(w.server);
	HBT_UNTIL(w.goaways == 1);
	assert_int_equal(hb_h2_room(w.client), 0);
	assert_null(hb_h2_open(w.client, &(struct hb_h2_request){ .authority = HB_STR("a:1") }));
	hbt_writez(&w.a[0], "still", true);
	HBT_UNTIL(w.client_closed == 1 && w.server_closed == 1);
	assert_true(hbt_gotz(&w.a[0], "still"));
	assert_int_equal(w.a[0].reason, HB_CLOSE_DONE);
	assert_int_equal(w.server_reason, HB_CLOSE_DONE);
}

/* A stream on its way while the server begins to drain is served. */
static void
test_h2__drain_race(void **state)
{
	w.prepare = rig_echoes;
	rig_start(&w, HBT_OVER_TCP, 0);
	rig_open(&w);
	rig_connect(&w, 0);
	hb_h2_drain(w.server);
	rig_open(&w);
	HBT_UNTIL(w.a[1].secured == 1 || w.a[1].closed == 1);
	assert_int_equal(w.a[1].secured, 1);
	hbt_writez(&w.a[1], "late", true);
	hbt_writez(&w.a[0], "", true);
	HBT_UNTIL(w.client_closed == 1 && w.server_closed == 1);
	assert_true(hbt_gotz(&w.a[1], "late"));
}

static void
closes(bool server, bool reset)
{
	rig_start(&w, HBT_OVER_TCP, 0);
	rig_open(&w);
	rig_open(&w);
	rig_connect(&w, 1);
	if (reset)
		hb_h2_abort(server ? &w.server : &w.client, HB_CLOSE_LOCAL_CLOSE);
	else
		hb_h2_close(server ? &w.server : &w.client, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(w.a[0].closed && w.a[1].closed && w.b[0].closed && w.b[1].closed);
	assert_int_equal(server ? w.b[0].reason : w.a[0].reason, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(server ? w.client_closed == 1 : w.server_closed == 1);
	rig_again();
}

static void
test_h2__close(void **state)
{
	closes(false, false);
	closes(true, false);
	closes(false, true);
	closes(true, true);
}

/* The session ends while the sink of one of its streams is on the stack. */
static void
close_in_data(struct hbt_sink *s, enum hbt_event event)
{
	(void)s;
	if (event == HBT_DATA && w.server != NULL)
		hb_h2_close(&w.server, HB_CLOSE_SHUTDOWN);
}

static void
test_h2__close_in_event(void **state)
{
	rig_start(&w, HBT_OVER_TLS, 0);
	rig_open(&w);
	rig_open(&w);
	rig_connect(&w, 1);
	w.b[0].hook = close_in_data;
	hbt_writez(&w.a[0], "x", false);
	hbt_writez(&w.a[1], "y", false);
	HBT_UNTIL(w.a[0].closed && w.a[1].closed && w.b[0].closed && w.b[1].closed);
	assert_true(hbt_gotz(&w.b[1], "y"));
	HBT_UNTIL(w.client_closed == 1);
}

static void
closes_session(struct rig *rig, const struct hb_h2_request *req, struct hb_transport **t)
{
	(void)req;
	hb_h2_close(&rig->server, HB_CLOSE_SHUTDOWN);
	hb_transport_abort(t, HB_CLOSE_SHUTDOWN);
}

static void
test_h2__close_in_request(void **state)
{
	w.on_request = closes_session;
	rig_start(&w, HBT_OVER_TCP, 0);
	rig_open(&w);
	rig_open(&w);
	HBT_UNTIL(w.a[0].closed == 1 && w.a[1].closed == 1 && w.client_closed == 1);
	assert_int_equal(w.requests, 1);
}

/* A stream that was opened meanwhile learns the reason, and the session's sink the text. */
static void
test_h2__handshake_fails(void **state)
{
	struct hb_tls_config c = { .trust_pem = hb_str(hbt_ends_pki.client->pem) };
	struct hb_tls_ctx *ctx = hbt_tls_ctx(&c);
	struct hb_transport *a, *b;

	hbt_tcp_pair(&a, &b);
	rig_start_over(&w, hb_tls_new(a, ctx, NULL), hb_tls_new(b, hbt_ends_pki.server_ctx, NULL));
	rig_open(&w);
	HBT_UNTIL(w.a[0].closed == 1 && w.client_closed == 1 && w.server_closed == 1);
	assert_int_equal(w.a[0].reason, HB_CLOSE_TLS_VERIFY);
	assert_int_equal(w.client_reason, HB_CLOSE_TLS_VERIFY);
	assert_true(strlen(w.failure) > 0);
	assert_int_equal(w.server_reason, HB_CLOSE_TLS_PEER_REFUSED);
	rig_stop(&w);
	hb_tls_ctx_free(&ctx);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_fresh, rig_over)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_h2__stream_limit),
		T(test_h2__drain_client),
		T(test_h2__goaway_and_end_are_one_call),
		T(test_h2__drain_server),
		T(test_h2__drain_race),
		T(test_h2__close),
		T(test_h2__close_in_event),
		T(test_h2__close_in_request),
		T(test_h2__handshake_fails),
	};

	return (cmocka_run_group_tests(tests, hbt_ends_setup, hbt_ends_teardown));
}

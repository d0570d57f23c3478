/* SPDX-License-Identifier: Apache-2.0 */
/* A chain with a TLS transport socket: what the facts say, and what the chain must outlive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "core/filter/transport_socket.h"
#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb-c.h"
#include "test/core/filter/rec.h"
#include "test/support/certs/pki.h"

static struct hbt_pki pki;
static struct hb_chain *chain;
static struct hbf h;
static int freed;

static struct hb_transport *
tls_wrap(const void *conf, struct hb_transport *lower, const struct hb_facts *facts,
	struct hb_str host)
{
	return (hb_tls_new(lower, pki.server_ctx, NULL));
}

static int
tls_compile(struct hb_cfg *cfg, const ProtobufCMessage *m, bool upstream, const void **ret_conf)
{
	*ret_conf = &freed;
	return (0);
}

static void
tls_free(const void *conf)
{
	freed++;
}

/* RawBuffer's message stands for TLS with the certificates of this test. */
static const struct hb_transport_socket_type tls = {
	.name = "test.tls",
	.downstream = &envoy__extensions__transport_sockets__raw_buffer__v3__raw_buffer__descriptor,
	.compile = tls_compile,
	.conf_free = tls_free,
	.wrap = tls_wrap,
	.secure = true,
};

static const char yaml[] =
	"name: secure\n"
	"filters: [{name: test.a}, {name: test.t}]\n"
	"transport_socket_connect_timeout: 5s\n"
	"transport_socket:\n"
	"  name: x\n"
	"  typed_config: {\"@type\": "
	"type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}\n";

static int
setup(void **state)
{
	static bool registered;

	(void)rec_setup(state);
	if (!registered)
		assert_int_equal(hb_transport_socket_register(&tls, NULL), 0);
	registered = true;
	hbt_pki_init(&pki);
	memset(&h, 0, sizeof h);
	chain = hbf_chain(yaml);
	freed = 0;
	return (0);
}

static int
teardown(void **state)
{
	hbf_close(&h);
	hb_chain_free(&chain);
	(void)rec_teardown(state);
	hbt_pki_fini(&pki);
	return (0);
}

/* Puts TLS between the client's transport and its sink. */
static void
open_tls(void)
{
	struct hbf_options o = { .wire = HBF_TCP, .paused = true };
	struct hb_transport *lower;

	hbf_open(&h, chain, &o);
	lower = h.client.t;
	memset(&h.client, 0, sizeof h.client);
	hbt_attach(&h.client, hb_tls_new(lower, pki.client_ctx, HBT_SERVER_DNS));
}

static void
test_tls__facts(void **state)
{
	const struct hb_facts *f;
	struct hb_conn_view v;

	assert_true(hb_chain_is_tls(chain));
	open_tls();
	HBT_UNTIL(rec_trace.len > 0);
	rec_expect(" aC tC");
	hb_conn_view(h.conn, &v);
	assert_string_equal(v.state, "handshake");
	HBT_UNTIL(h.client.secured && rec_trace.len > 0);
	rec_expect(" aS tS");
	hb_conn_view(h.conn, &v);
	assert_string_equal(v.state, "open");
	f = v.facts;
	assert_true(hb_str_eq(hb_facts_tls(f)->principal, hb_str(HBT_CLIENT_ID)));
	assert_true(hb_str_eq(hb_facts_hello(f)->sni, hb_str(HBT_SERVER_DNS)));
	assert_true(hb_str_eq(hb_facts_tls(f)->alpn_chosen, hb_str("h2")));
	assert_string_equal(hb_facts_tls(f)->version, "TLSv1.3");
	assert_non_null(hb_facts_tls(f)->cipher);
	assert_string_equal(hb_facts_tls(f)->peer_cert->spiffe_id, HBT_CLIENT_ID);
	assert_string_equal(hb_facts_tls(f)->local_cert->spiffe_id, HBT_SERVER_ID);
	rec_t.echo = true;
	hbt_writez(&h.client, "secret", true);
	HBT_UNTIL(h.client.ends == 1);
	assert_true(hbt_gotz(&h.client, "secret"));
	HBT_UNTIL(h.closed);
	rec_expect(" a<secret. t<secret. a>secret. aF tF");
}

static void
check_cert(struct hb_filter *f, enum rec_slot s, struct hb_buf *buf, bool end)
{
	assert_string_equal(hb_facts_tls(hb_filter_facts(f))->peer_cert->spiffe_id, HBT_CLIENT_ID);
}

static void
test_tls__cert_until_the_end(void **state)
{
	open_tls();
	HBT_UNTIL(h.client.secured && rec_t.f != NULL);
	hbt_turns(3);
	rec_t.hook = check_cert;
	hb_conn_drain(h.conn);
	hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(h.closed);
	hb_text_fini(&rec_trace);
}

static void
test_tls__handshake_timeout(void **state)
{
	struct hbf_options o = { .wire = HBF_TCP };

	hbf_open(&h, chain, &o);
	HBT_UNTIL(rec_trace.len > 0);
	hbt_advance(4000);
	assert_false(h.closed);
	hbt_advance(1100);
	HBT_UNTIL(h.closed);
	assert_int_equal(h.reason, HB_CLOSE_TLS_TIMEOUT);
	rec_expect(" aC tC aF tF");
}

static void
test_tls__not_tls(void **state)
{
	struct hbf_options o = { .wire = HBF_TCP };

	hbf_open(&h, chain, &o);
	hbt_writez(&h.client, "GET / HTTP/1.1\r\n\r\n", false);
	HBT_UNTIL(h.closed);
	assert_true(h.reason == HB_CLOSE_TLS_HANDSHAKE || h.reason == HB_CLOSE_TLS_ERROR);
	rec_expect(" aC tC aF tF");
}

/* The owner drops the chain while its last connection's bytes are still being flushed. */
static void
test_tls__chain_outlives_lingerer(void **state)
{
	size_t n = 8u << 20;
	uint8_t *p = hbt_pattern(n, 2);
	struct hb_buf buf = { NULL, NULL, 0 };

	open_tls();
	HBT_UNTIL(h.client.secured && rec_t.f != NULL);
	hbt_turns(3);
	hb_transport_read_disable(h.client.t, 1);
	hb_buf_add(&buf, p, n);
	hb_filter_write(rec_t.f, &buf, false);
	hb_filter_finish(rec_t.f, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(h.closed);
	hb_chain_free(&chain);
	for (int i = 0; i < 5; i++) {
		hbt_turns(2);
		hb_worker_turn(hb_worker_control(), false);
	}
	/* Perhaps only the socket lingers, with bytes that are encrypted already. */
	assert_true(hb_transport_lingering(hbt_worker()) > 0);
	hb_transport_read_disable(h.client.t, -1);
	HBT_UNTIL(h.client.ends == 1);
	assert_true(hbt_got(&h.client, p, n));
	hbt_write(&h.client, NULL, 0, true);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	for (int i = 0; i < 5; i++) {
		hbt_turns(2);
		hb_worker_turn(hb_worker_control(), false);
	}
	assert_int_equal(freed, 1);
	hb_free(p);
	hb_text_fini(&rec_trace);
}

static void
test_tls__transport_socket_errors(void **state)
{
	struct hb_text e = hbf_errors(
		"filters: [{name: test.t}]\ntransport_socket: {name: x, "
		"typed_config: {\"@type\": type.googleapis.com/envoy.config.core.v3.Address, "
		"pipe: {path: /x}}}\n");

	assert_non_null(strstr(e.p, "is not the configuration of a transport socket"));
	hb_text_fini(&e);
	h.closed = true;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_tls__facts),
		T(test_tls__cert_until_the_end),
		T(test_tls__handshake_timeout),
		T(test_tls__not_tls),
		T(test_tls__chain_outlives_lingerer),
		T(test_tls__transport_socket_errors),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Against a peer that does what ours never does: key updates, tickets, broken records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include "core/identity/cert.h"
#include "test/support/ends.h"

static struct {
	int fd;
	SSL_CTX *ctx;
	SSL *ssl;
	struct hbt_sink s;
	struct hb_tls_ctx *ours; /* without client certificates */
} p;

static enum ssl_verify_result_t
accept_any(SSL *ssl, uint8_t *alert)
{
	return (ssl_verify_ok);
}

/* The peer is the other side of `server`. */
static void
start(bool server, uint16_t version)
{
	struct hb_credential_pem pem = { .chain = hb_str(hbt_ends_pki.server->chain_pem),
		.key = hb_str(hbt_ends_pki.server->key_pem) };
	struct hb_tls_cert cert = hbt_tls_cert(hbt_ends_pki.server);
	struct hb_tls_config c = { .server = server, .certs = &cert, .n_certs = 1 };
	struct hb_credential *cred = NULL;

	memset(&p, 0, sizeof p);
	p.ours = hbt_tls_ctx(&c);
	p.ctx = SSL_CTX_new(TLS_with_buffers_method());
	SSL_CTX_set_custom_verify(p.ctx, SSL_VERIFY_NONE, accept_any);
	assert_int_equal(hb_credential_new(&pem, &cred, NULL), 0);
	assert_int_equal(
		SSL_CTX_set_chain_and_key(p.ctx, cred->chain, cred->n, cred->key, NULL), 1);
	hb_credential_free(&cred);
	assert_int_equal(SSL_CTX_set_min_proto_version(p.ctx, version), 1);
	assert_int_equal(SSL_CTX_set_max_proto_version(p.ctx, version), 1);
	hbt_attach(&p.s, hb_tls_new(hbt_tcp_and_fd(&p.fd, false, NULL), p.ours, NULL));
	p.ssl = SSL_new(p.ctx);
	assert_int_equal(SSL_set_fd(p.ssl, p.fd), 1);
	if (server)
		SSL_set_connect_state(p.ssl);
	else
		SSL_set_accept_state(p.ssl);
	HBT_UNTIL(SSL_do_handshake(p.ssl) == 1);
	HBT_UNTIL(p.s.secured == 1);
}

static void
stop(void)
{
	SSL_free(p.ssl);
	SSL_CTX_free(p.ctx);
	close(p.fd);
	hbt_sink_fini(&p.s);
	ERR_clear_error();
	hbt_turns(8);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	hbt_turns(2);
	hb_tls_ctx_free(&p.ours);
}

static void
peer_writes(const char *z)
{
	HBT_UNTIL(SSL_write(p.ssl, z, (int)strlen(z)) > 0);
}

static void
peer_reads(const char *z)
{
	char text[64];
	size_t n = 0;
	int r;

	HBT_UNTIL((r = SSL_read(p.ssl, text + n, (int)(sizeof text - n))) > 0 &&
		(n += (size_t)r) == strlen(z));
	assert_memory_equal(text, z, n);
}

static void
test_peer__key_update(void **state)
{
	unsigned i, server;

	for (server = 0; server < 2; server++) {
		start(server == 1, TLS1_3_VERSION);
		for (i = 0; i < 3; i++) {
			assert_int_equal(SSL_key_update(p.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
			hb_text_fini(&p.s.got);
			peer_writes("after");
			HBT_UNTIL(hbt_gotz(&p.s, "after"));
			hbt_writez(&p.s, "and back", false);
			peer_reads("and back");
		}
		stop();
	}
}

/* Data, a key update between records, data and the end, all read at once: one delivery. */
static void
test_peer__batch(void **state)
{
	size_t n = 3u * 16384 + 100;
	uint8_t *bytes = hbt_pattern(2 * n, 5);
	unsigned server;

	for (server = 0; server < 2; server++) {
		start(server == 1, TLS1_3_VERSION);
		p.s.data = 0;
		assert_int_equal(SSL_write(p.ssl, bytes, (int)n), (int)n);
		assert_int_equal(SSL_key_update(p.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
		assert_int_equal(SSL_write(p.ssl, bytes + n, (int)n), (int)n);
		assert_int_equal(SSL_shutdown(p.ssl), 0);
		HBT_UNTIL(p.s.ends == 1);
		assert_true(hbt_got(&p.s, bytes, 2 * n));
		assert_int_equal(p.s.data, 1);
		stop();
	}
	hb_free(bytes);
}

/* What came before a broken record is delivered; it is read with others, so nothing is copied first. */
static void
test_peer__broken_in_batch(void **state)
{
	static const uint8_t junk[5 + 40] = { 23, 3, 3, 0, 40 };

	start(true, TLS1_3_VERSION);
	peer_writes("good");
	assert_int_equal(write(p.fd, junk, sizeof junk), sizeof junk);
	HBT_UNTIL(p.s.closed == 1);
	assert_true(hbt_gotz(&p.s, "good"));
	assert_int_equal(p.s.reason, HB_CLOSE_TLS_ERROR);
	assert_true(SSL_read(p.ssl, &(char){ 0 }, 1) <= 0);
	assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
	stop();
}

static void
test_peer__key_update_flood(void **state)
{
	unsigned i;

	start(true, TLS1_3_VERSION);
	for (i = 0; i < 40; i++) {
		assert_int_equal(SSL_key_update(p.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
		(void)SSL_write(p.ssl, "", 0);
		hbt_turns(1);
	}
	HBT_UNTIL(p.s.closed == 1);
	assert_int_equal(p.s.reason, HB_CLOSE_TLS_ERROR);
	stop();
}

static void
test_peer__versions_and_half_close(void **state)
{
	static const uint16_t versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	unsigned i, server;

	for (i = 0; i < HB_ARRAY_LEN(versions); i++) {
		for (server = 0; server < 2; server++) {
			start(server == 1, versions[i]);
			peer_writes("last");
			assert_int_equal(SSL_shutdown(p.ssl), 0);
			HBT_UNTIL(p.s.ends == 1);
			assert_true(hbt_gotz(&p.s, "last"));
			assert_int_equal(p.s.closed, 0);
			hbt_writez(&p.s, "answer", false);
			peer_reads("answer");
			hbt_writez(&p.s, "", true);
			HBT_UNTIL(SSL_read(p.ssl, &(char){ 0 }, 1) == 0);
			assert_true(SSL_get_shutdown(p.ssl) & SSL_RECEIVED_SHUTDOWN);
			HBT_UNTIL(p.s.closed == 1);
			assert_int_equal(p.s.reason, HB_CLOSE_DONE);
			stop();
		}
	}
}

/* Tickets of a server are read and thrown away: the next connection is a full handshake. */
static void
test_peer__tickets_are_not_used(void **state)
{
	start(false, TLS1_3_VERSION);
	peer_writes("hello");
	HBT_UNTIL(hbt_gotz(&p.s, "hello"));
	assert_false(hb_transport_tls_info(p.s.t)->resumed);
	stop();
	start(false, TLS1_2_VERSION);
	peer_writes("hello");
	HBT_UNTIL(hbt_gotz(&p.s, "hello"));
	stop();
	/* And ours sends none. */
	start(true, TLS1_3_VERSION);
	hbt_writez(&p.s, "hello", false);
	peer_reads("hello");
	assert_false(SSL_SESSION_has_ticket(SSL_get_session(p.ssl)));
	stop();
}

static void
test_peer__broken_record(void **state)
{
	static const uint8_t forged[] = { 23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
		13, 14, 15, 16, 17, 18, 19, 20 };
	char text[64];

	start(true, TLS1_3_VERSION);
	peer_writes("good");
	hbt_fd_write(p.fd, forged, sizeof forged);
	HBT_UNTIL(p.s.closed == 1);
	assert_true(hbt_gotz(&p.s, "good"));
	assert_int_equal(p.s.reason, HB_CLOSE_TLS_ERROR);
	/* It is told why. */
	HBT_UNTIL(SSL_read(p.ssl, text, sizeof text) <= 0 && ERR_peek_error() != 0);
	assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
	stop();
}

static void
test_peer__oversized_record(void **state)
{
	static const uint8_t header[] = { 23, 3, 3, 0xff, 0xff };

	start(true, TLS1_3_VERSION);
	hbt_fd_write(p.fd, header, sizeof header);
	HBT_UNTIL(p.s.closed == 1);
	assert_int_equal(p.s.reason, HB_CLOSE_TLS_ERROR);
	stop();
}

/* A fatal alert before the first byte from a server that we took for content: a refusal. */
static void
test_peer__late_refusal(void **state)
{
	start(false, TLS1_3_VERSION);
	assert_int_equal(SSL_send_fatal_alert(p.ssl, SSL_AD_HANDSHAKE_FAILURE), 1);
	HBT_UNTIL(p.s.closed == 1);
	assert_int_equal(p.s.reason, HB_CLOSE_TLS_PEER_REFUSED);
	stop();
	start(false, TLS1_3_VERSION);
	peer_writes("x");
	HBT_UNTIL(p.s.data == 1);
	assert_int_equal(SSL_send_fatal_alert(p.ssl, SSL_AD_INTERNAL_ERROR), 1);
	HBT_UNTIL(p.s.closed == 1);
	assert_int_equal(p.s.reason, HB_CLOSE_TLS_ERROR);
	stop();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_peer__key_update),
		cmocka_unit_test(test_peer__batch),
		cmocka_unit_test(test_peer__broken_in_batch),
		cmocka_unit_test(test_peer__key_update_flood),
		cmocka_unit_test(test_peer__versions_and_half_close),
		cmocka_unit_test(test_peer__tickets_are_not_used),
		cmocka_unit_test(test_peer__broken_record),
		cmocka_unit_test(test_peer__oversized_record),
		cmocka_unit_test(test_peer__late_refusal),
	};

	return (cmocka_run_group_tests(tests, hbt_ends_setup, hbt_ends_teardown));
}

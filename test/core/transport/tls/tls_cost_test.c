/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a mutual TLS 1.3 server costs: CPU of a handshake (printed) and memory of an idle connection
 * (held to a limit). No sockets: the client is the library alone, its time is not counted.
 */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>
#include <openssl/bio.h>
#include <openssl/ssl.h>
#include "core/identity/cert.h"
#include "test/support/certs/pki.h"
#include "test/support/harness.h"

/* Bytes of the allocator for one idle connection, without what lies below TLS. */
#define IDLE_MAX 4800

static struct hbt_pki pki;

struct client {
	SSL *ssl;
	BIO *in, *out; /* owned by ssl */
	struct hbt_sink below, server;
};

static struct {
	SSL_CTX *ctx;
	struct hb_credential *cred;
	struct hb_tls_ctx *server;
	SSL_SESSION *session; /* the newest that a server gave */
	int64_t client_ns;
} all;

static int64_t
cpu_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (ts.tv_sec * (int64_t)1000000000 + ts.tv_nsec);
}

static enum ssl_verify_result_t
accept_any(SSL *ssl, uint8_t *alert)
{
	return (ssl_verify_ok);
}

static int
keep_session(SSL *ssl, SSL_SESSION *s)
{
	SSL_SESSION_free(all.session);
	all.session = s;
	return (1);
}

static int
setup(void **state)
{
	struct hb_credential_pem pem;
	struct hb_tls_config c = { 0 };
	struct hb_tls_cert cert;

	(void)hbt_init(HB_IO_EPOLL);
	hbt_pki_init(&pki);
	memset(&all, 0, sizeof all);
	pem = (struct hb_credential_pem){ .chain = hb_str(pki.client->chain_pem),
		.key = hb_str(pki.client->key_pem) };
	cert = hbt_tls_cert(pki.server);
	c.server = c.require_peer_cert = true;
	c.certs = &cert;
	c.n_certs = 1;
	c.trust_pem = hb_str(pki.root->pem);
	all.server = hbt_tls_ctx(&c);
	all.ctx = SSL_CTX_new(TLS_with_buffers_method());
	SSL_CTX_set_custom_verify(all.ctx, SSL_VERIFY_PEER, accept_any);
	SSL_CTX_set_session_cache_mode(
		all.ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(all.ctx, keep_session);
	assert_int_equal(hb_credential_new(&pem, &all.cred, NULL), 0);
	assert_int_equal(SSL_CTX_set_chain_and_key(all.ctx, all.cred->chain, all.cred->n,
				 all.cred->key, NULL),
		1);
	return (0);
}

static int
teardown(void **state)
{
	SSL_SESSION_free(all.session);
	SSL_CTX_free(all.ctx);
	hb_credential_free(&all.cred);
	hb_tls_ctx_free(&all.server);
	hbt_pki_fini(&pki);
	hbt_fini();
	return (0);
}

/* What the server wrote goes in, one step, what the client writes goes out. */
static void
client_turn(struct client *c)
{
	uint8_t buf[8192];
	int64_t t0 = cpu_ns();
	int n;

	(void)BIO_write(c->in, c->below.got.p, (int)c->below.got.len);
	if (SSL_in_init(c->ssl))
		(void)SSL_do_handshake(c->ssl);
	else
		(void)SSL_read(c->ssl, buf, sizeof buf);
	n = BIO_read(c->out, buf, sizeof buf);
	all.client_ns += cpu_ns() - t0;
	hb_text_fini(&c->below.got);
	if (n > 0)
		hbt_write(&c->below, buf, (size_t)n, false);
}

static void
connect_one(struct client *c, bool resume)
{
	struct hb_transport *a, *b;

	memset(c, 0, sizeof *c);
	hb_pair_new(hbt_worker(), &a, &b);
	hbt_attach(&c->below, a);
	hbt_attach(&c->server, hb_tls_new(b, all.server, NULL));
	c->ssl = SSL_new(all.ctx);
	c->in = BIO_new(BIO_s_mem());
	c->out = BIO_new(BIO_s_mem());
	SSL_set_bio(c->ssl, c->in, c->out);
	SSL_set_connect_state(c->ssl);
	if (resume)
		assert_int_equal(SSL_set_session(c->ssl, all.session), 1);
	while (c->server.secured == 0 || SSL_in_init(c->ssl)) {
		client_turn(c);
		hbt_turns(2);
		assert_int_equal(c->server.closed, 0);
	}
	client_turn(c); /* tickets */
	assert_int_equal(hb_transport_tls_info(c->server.t)->resumed, resume);
	assert_non_null(hb_transport_tls_info(c->server.t)->peer);
}

static void
drop(struct client *c)
{
	hbt_sink_fini(&c->server);
	hbt_sink_fini(&c->below);
	SSL_free(c->ssl);
	hbt_turns(2);
}

static void
cost(const char *what, unsigned n, bool resume)
{
	struct client c;
	int64_t t0;

	connect_one(&c, false);
	drop(&c);
	t0 = cpu_ns();
	all.client_ns = 0;
	for (unsigned i = 0; i < n; i++) {
		connect_one(&c, resume);
		drop(&c);
	}
	print_message("%s: %.0f us of server CPU a handshake\n", what,
		(double)(cpu_ns() - t0 - all.client_ns) / n / 1000);
}

static void
test_cost__handshakes(void **state)
{
	cost("full", 1000, false);
}

static void
test_cost__memory(void **state)
{
	enum { N = 200 };
	struct client *c = hb_calloc(N, sizeof *c);
	size_t before, below;
	double each;

	for (unsigned i = 0; i < N; i++) {
		connect_one(&c[i], false);
		SSL_free(c[i].ssl);
		c[i].ssl = NULL;
	}
	before = mallinfo2().uordblks;
	for (unsigned i = 0; i < N; i++)
		hbt_sink_fini(&c[i].server);
	hbt_turns(4);
	below = mallinfo2().uordblks;
	each = (double)(before - below) / N;
	print_message("an idle connection of a server: %.0f bytes\n", each);
	for (unsigned i = 0; i < N; i++)
		drop(&c[i]);
	hb_free(c);
	if (getenv("ASAN_OPTIONS") == NULL)
		assert_true(each < IDLE_MAX);
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

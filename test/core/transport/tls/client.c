/* SPDX-License-Identifier: Apache-2.0 */
#include "test/core/transport/tls/client.h"

#include <stdio.h>
#include <time.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include "core/identity/cert.h"

int64_t
hbt_cpu_ns(void)
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
	SSL_SESSION **ret = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	if (ret == NULL)
		return (0);
	SSL_SESSION_free(*ret);
	*ret = s;
	return (1);
}

SSL_CTX *
hbt_tls_client_ctx(const struct hb_test_cert *cert, SSL_SESSION **ret_session)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_with_buffers_method());
	struct hb_credential *cred = NULL;
	struct hb_credential_pem pem;

	HB_ASSERT(SSL_CTX_set_app_data(ctx, ret_session) == 1);
	SSL_CTX_set_custom_verify(ctx, SSL_VERIFY_PEER, accept_any);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, keep_session);
	if (cert == NULL)
		return (ctx);
	pem = (struct hb_credential_pem){ .chain = hb_str(cert->chain_pem),
		.key = hb_str(cert->key_pem) };
	HB_ASSERT(hb_credential_new(&pem, &cred, NULL) == 0);
	HB_ASSERT(SSL_CTX_set_chain_and_key(ctx, cred->chain, cred->n, cred->key, NULL) == 1);
	hb_credential_free(&cred);
	return (ctx);
}

void
hbt_tls_client_turn(struct hbt_tls_client *c)
{
	uint8_t buf[8192];
	int64_t t0 = hbt_cpu_ns();
	int n;

	(void)BIO_write(c->in, c->below.got.p, (int)c->below.got.len);
	if (SSL_in_init(c->ssl))
		(void)SSL_do_handshake(c->ssl);
	else
		(void)SSL_read(c->ssl, buf, sizeof buf);
	n = BIO_read(c->out, buf, sizeof buf);
	ERR_clear_error();
	c->cpu_ns += hbt_cpu_ns() - t0;
	hb_text_fini(&c->below.got);
	if (n > 0 && c->below.t != NULL)
		hbt_write(&c->below, buf, (size_t)n, false);
}

static void
note(struct hbt_sink *s, enum hbt_event event)
{
	struct hbt_tls_client *c = HB_CONTAINER(s, struct hbt_tls_client, server);
	const struct hb_tls_info *info = hb_transport_tls_info(c->tls);

	c->chain_cached = info->chain_cached;
	if (event != HBT_CLOSED)
		return;
	if (info->failure != NULL)
		(void)snprintf(c->failure, sizeof c->failure, "%s", info->failure);
	c->info = NULL;
}

bool
hbt_tls_client_connect(struct hbt_tls_client *c, SSL_CTX *ctx, const struct hb_tls_ctx *server,
	SSL_SESSION *session)
{
	struct hb_transport *a, *b;

	memset(c, 0, sizeof *c);
	hb_pair_new(hbt_worker(), &a, &b);
	hbt_attach(&c->below, a);
	c->tls = hb_tls_new(b, server, NULL);
	c->info = hb_transport_tls_info(c->tls);
	c->server.hook = note;
	hbt_attach(&c->server, c->tls);
	c->ssl = SSL_new(ctx);
	c->in = BIO_new(BIO_s_mem());
	c->out = BIO_new(BIO_s_mem());
	SSL_set_bio(c->ssl, c->in, c->out);
	SSL_set_connect_state(c->ssl);
	if (session != NULL)
		HB_ASSERT(SSL_set_session(c->ssl, session) == 1);
	for (unsigned i = 0; i < 50 && c->server.closed == 0; i++) {
		if (c->server.secured != 0 && !SSL_in_init(c->ssl))
			break;
		hbt_tls_client_turn(c);
		hbt_turns(2);
	}
	if (c->server.secured != 0 && c->server.closed == 0)
		hbt_write(&c->server, "", 1, false); /* tickets go with the first record */
	hbt_tls_client_turn(c);
	return (c->server.secured != 0 && c->server.closed == 0);
}

void
hbt_tls_client_fini(struct hbt_tls_client *c)
{
	hbt_sink_fini(&c->server);
	hbt_sink_fini(&c->below);
	SSL_free(c->ssl);
	hbt_turns(2);
}

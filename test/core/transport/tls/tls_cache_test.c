/* SPDX-License-Identifier: Apache-2.0 */
/* Chains that have verified are remembered; everything else is asked every time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <openssl/evp.h>
#include "test/core/transport/tls/client.h"

#define HOUR 3600

static struct hbt_pki pki;
static struct hb_tls_config config; /* of a server, as setup made it */
static struct hb_tls_cert server_cert;

static int
setup(void **state)
{
	(void)hbt_init(HB_IO_EPOLL);
	hbt_pki_init(&pki);
	config = hbt_tls_server_config(&pki, &server_cert);
	return (0);
}

static int
teardown(void **state)
{
	hb_tls_set_verified_chains(HB_TLS_VERIFIED_CHAINS);
	hbt_pki_fini(&pki);
	hbt_fini();
	return (0);
}

static uint64_t
counter(enum hb_tls_counter i)
{
	return (hb_tls_counter(hbt_worker(), i));
}

/* One connection; *cached: its chain was known. */
static bool
let_in(const struct hb_tls_ctx *server, SSL_CTX *client, bool *cached)
{
	struct hbt_tls_client c;
	bool in = hbt_tls_client_connect(&c, client, server, NULL);

	*cached = c.chain_cached;
	if (in)
		assert_true(c.info->peer != NULL && c.info->peer_verified);
	hbt_tls_client_fini(&c);
	return (in);
}

static void
test_cache__known(void **state)
{
	struct hb_tls_ctx *server = hbt_tls_ctx(&config), *twin = hbt_tls_ctx(&config);
	SSL_CTX *client = hbt_tls_client_ctx(pki.client, NULL);
	bool cached;

	assert_true(let_in(server, client, &cached) && !cached);
	assert_true(let_in(server, client, &cached) && cached);
	/* The same trust by another context. */
	assert_true(let_in(twin, client, &cached) && cached);
	assert_int_equal(counter(HB_TLS_CHAINS), 1);
	assert_int_equal(counter(HB_TLS_CHAIN_HITS), 2);
	assert_int_equal(counter(HB_TLS_CHAIN_MISSES), 1);
	SSL_CTX_free(client);
	hb_tls_ctx_free(&server);
	hb_tls_ctx_free(&twin);
}

/* Other roots, a revocation list, another depth, client or server: another answer. */
static void
test_cache__other_trust(void **state)
{
	struct hb_tls_ctx *server = hbt_tls_ctx(&config), *other;
	SSL_CTX *client = hbt_tls_client_ctx(pki.client, NULL);
	struct hb_tls_config c = config;
	char *crl = hb_test_crl(pki.root, pki.client);
	bool cached;

	assert_true(let_in(server, client, &cached) && !cached);
	c.crl_pem = hb_str(crl);
	other = hbt_tls_ctx(&c);
	assert_false(let_in(other, client, &cached));
	assert_false(cached);
	hb_tls_ctx_free(&other);
	c = config;
	c.trust_pem = hb_str(pki.other->pem);
	other = hbt_tls_ctx(&c);
	assert_false(let_in(other, client, &cached));
	hb_tls_ctx_free(&other);
	c = config;
	c.max_verify_depth = 7;
	other = hbt_tls_ctx(&c);
	assert_true(let_in(other, client, &cached) && !cached);
	hb_tls_ctx_free(&other);
	assert_int_equal(counter(HB_TLS_CHAIN_HITS), 0);
	assert_int_equal(counter(HB_TLS_CHAINS), 2);
	hb_free(crl);
	SSL_CTX_free(client);
	hb_tls_ctx_free(&server);
}

static bool
is_nobody(const void *arg, struct hb_str value)
{
	return (false);
}

/* A chain that is known is no way round names and pins. */
static void
test_cache__names(void **state)
{
	struct hb_tls_ctx *server = hbt_tls_ctx(&config), *other;
	SSL_CTX *client = hbt_tls_client_ctx(pki.client, NULL);
	struct hb_tls_san_match nobody = { HB_SAN_URI, is_nobody, NULL };
	struct hb_str pin = hb_strn("01234567890123456789012345678901", 32);
	struct hb_tls_config c = config;
	bool cached;

	assert_true(let_in(server, client, &cached) && !cached);
	c.sans = &nobody;
	c.n_sans = 1;
	other = hbt_tls_ctx(&c);
	assert_false(let_in(other, client, &cached));
	assert_true(cached);
	hb_tls_ctx_free(&other);
	c = config;
	c.cert_hashes = &pin;
	c.n_cert_hashes = 1;
	other = hbt_tls_ctx(&c);
	assert_false(let_in(other, client, &cached));
	assert_true(cached);
	hb_tls_ctx_free(&other);
	SSL_CTX_free(client);
	hb_tls_ctx_free(&server);
}

/* What is remembered ends with the first certificate of the chain. */
static void
test_cache__expiry(void **state)
{
	struct hb_test_cert_options middle = { .issuer = pki.root,
		.cn = "middle",
		.ca = true,
		.pathlen = -1,
		.from_s = -HOUR,
		.to_s = HOUR };
	struct hb_test_cert *ca = hb_test_cert_new(&middle);
	struct hb_test_cert *leaf = hb_test_leaf(ca, "URI:" HBT_CLIENT_ID);
	struct hb_tls_ctx *server = hbt_tls_ctx(&config);
	SSL_CTX *client = hbt_tls_client_ctx(leaf, NULL);
	struct hbt_tls_client c;
	bool cached;

	assert_true(let_in(server, client, &cached) && !cached);
	hbt_advance((uint64_t)HOUR / 2 * 1000);
	assert_true(let_in(server, client, &cached) && cached);
	assert_int_equal(counter(HB_TLS_CHAINS), 1);
	hbt_advance((uint64_t)HOUR / 2 * 1000);
	assert_false(hbt_tls_client_connect(&c, client, server, NULL));
	assert_non_null(strstr(c.failure, "expired"));
	hbt_tls_client_fini(&c);
	assert_int_equal(counter(HB_TLS_CHAINS), 0);
	SSL_CTX_free(client);
	hb_tls_ctx_free(&server);
	hb_test_cert_free(&leaf);
	hb_test_cert_free(&ca);
}

/* The oldest gives way; a live connection keeps what it shows of its peer. */
static void
test_cache__bounded(void **state)
{
	struct hb_tls_ctx *server = hbt_tls_ctx(&config);
	SSL_CTX *client[4];
	struct hb_test_cert *leaf[4];
	struct hbt_tls_client live;
	bool cached;

	hb_tls_set_verified_chains(3);
	for (unsigned i = 0; i < 4; i++) {
		leaf[i] = hb_test_leaf(pki.root, "URI:" HBT_CLIENT_ID);
		client[i] = hbt_tls_client_ctx(leaf[i], NULL);
	}
	assert_true(hbt_tls_client_connect(&live, client[0], server, NULL));
	for (unsigned i = 1; i < 4; i++)
		assert_true(let_in(server, client[i], &cached) && !cached);
	assert_int_equal(counter(HB_TLS_CHAINS), 3);
	assert_int_equal(counter(HB_TLS_CHAINS_EVICTED), 1);
	assert_true(let_in(server, client[1], &cached) && cached);
	assert_true(let_in(server, client[0], &cached) && !cached);
	assert_true(let_in(server, client[1], &cached) && cached); /* 2 was the oldest */
	assert_true(let_in(server, client[2], &cached) && !cached);
	assert_string_equal(live.info->peer->spiffe_id, HBT_CLIENT_ID);
	hbt_tls_client_fini(&live);
	hb_tls_set_verified_chains(0);
	assert_true(let_in(server, client[3], &cached) && !cached);
	assert_true(let_in(server, client[3], &cached) && !cached);
	assert_int_equal(counter(HB_TLS_CHAINS), 0);
	for (unsigned i = 0; i < 4; i++) {
		SSL_CTX_free(client[i]);
		hb_test_cert_free(&leaf[i]);
	}
	hb_tls_ctx_free(&server);
}

/* Chains that did not verify, or that nobody verifies, are not remembered. */
static void
test_cache__only_verified(void **state)
{
	struct hb_test_cert *stranger = hb_test_leaf(pki.other, "URI:" HBT_CLIENT_ID);
	struct hb_tls_ctx *server = hbt_tls_ctx(&config), *lax;
	SSL_CTX *client = hbt_tls_client_ctx(stranger, NULL);
	struct hb_tls_config c = config;
	struct hbt_tls_client l;
	bool cached;

	assert_false(let_in(server, client, &cached));
	c.accept_untrusted = true;
	lax = hbt_tls_ctx(&c);
	assert_true(hbt_tls_client_connect(&l, client, lax, NULL));
	assert_true(l.info->peer != NULL && !l.info->peer_verified);
	hbt_tls_client_fini(&l);
	hb_tls_ctx_free(&lax);
	c.trust_pem = (struct hb_str){ 0 };
	lax = hbt_tls_ctx(&c);
	assert_true(hbt_tls_client_connect(&l, client, lax, NULL));
	hbt_tls_client_fini(&l);
	hb_tls_ctx_free(&lax);
	assert_int_equal(counter(HB_TLS_CHAINS), 0);
	SSL_CTX_free(client);
	hb_tls_ctx_free(&server);
	hb_test_cert_free(&stranger);
}

/* ------------------------------------------------------------------ a thief of certificates */

static EVP_PKEY *thief;

static enum ssl_private_key_result_t
sign(SSL *ssl, uint8_t *out, size_t *out_len, size_t max_out, uint16_t alg, const uint8_t *in,
	size_t in_len)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();

	*out_len = max_out;
	assert_int_equal(
		EVP_DigestSignInit(md, NULL, SSL_get_signature_algorithm_digest(alg), NULL, thief),
		1);
	assert_int_equal(EVP_DigestSign(md, out, out_len, in, in_len), 1);
	EVP_MD_CTX_free(md);
	return (ssl_private_key_success);
}

static const SSL_PRIVATE_KEY_METHOD thiefs = { .sign = sign };

/* Who shows a chain that is known must own its key. */
static void
test_cache__stolen_chain(void **state)
{
	struct hb_tls_ctx *server = hbt_tls_ctx(&config);
	SSL_CTX *client = hbt_tls_client_ctx(pki.client, NULL), *stolen;
	struct hb_credential_pem pem = { .chain = hb_str(pki.client->chain_pem),
		.key = hb_str(pki.client->key_pem) };
	struct hb_credential *cred = NULL;
	struct hbt_tls_client c;
	bool cached;

	assert_true(let_in(server, client, &cached) && !cached);
	thief = pki.server->key;
	stolen = hbt_tls_client_ctx(NULL, NULL);
	assert_int_equal(hb_credential_new(&pem, &cred, NULL), 0);
	assert_int_equal(SSL_CTX_set_chain_and_key(stolen, cred->chain, cred->n, NULL, &thiefs), 1);
	assert_false(hbt_tls_client_connect(&c, stolen, server, NULL));
	assert_true(c.chain_cached);
	assert_int_equal(c.server.reason, HB_CLOSE_TLS_HANDSHAKE);
	hbt_tls_client_fini(&c);
	hb_credential_free(&cred);
	SSL_CTX_free(stolen);
	SSL_CTX_free(client);
	hb_tls_ctx_free(&server);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_cache__known, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cache__other_trust, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cache__names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cache__expiry, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cache__bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cache__only_verified, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cache__stolen_chain, setup, teardown),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

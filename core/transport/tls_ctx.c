/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <openssl/err.h>
#include <openssl/nid.h>
#include <openssl/pool.h>
#include "core/transport/tls_priv.h"

#define HANDSHAKE_TIMEOUT_MS 15000u
/* Names of trust anchors in a CertificateRequest, so that a peer with several certificates can
 * choose; a bundle of public roots would make each handshake tens of kilobytes longer. */
#define CA_NAMES_MAX         32u

/* Not in a file that reads it, which would take the value here for good. */
__attribute__((weak)) const unsigned hb_tls_batch_records = 66;

static const char default_ciphers[] =
	"[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]:"
	"[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]:"
	"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";

static const char *
lib_error(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());

	ERR_clear_error();
	return (text == NULL ? "not accepted" : text);
}

/* ------------------------------------------------------------------ server's choices */

/* A suite that an ECDSA certificate can serve: any of TLS 1.3, or one that names ECDSA. */
static bool
offers_ecdsa_suite(const struct hb_tls_ctx *ctx, const SSL_CLIENT_HELLO *hello)
{
	bool v13 = SSL_CTX_get_max_proto_version(ctx->ssl_ctx) == TLS1_3_VERSION;
	const SSL_CIPHER *cipher;
	size_t i;

	for (i = 0; i + 1 < hello->cipher_suites_len; i += 2) {
		uint16_t suite = (uint16_t)(hello->cipher_suites[i] << 8 |
			hello->cipher_suites[i + 1]);

		cipher = SSL_get_cipher_by_value(suite);
		if (cipher == NULL)
			continue;
		if (SSL_CIPHER_get_auth_nid(cipher) == NID_auth_ecdsa ||
			(v13 && SSL_CIPHER_get_auth_nid(cipher) == NID_auth_any))
			return (true);
	}
	return (false);
}

static bool
client_takes_ecdsa(const struct hb_tls_ctx *ctx, const SSL_CLIENT_HELLO *hello)
{
	const uint8_t *p;
	size_t n, i;

	if (!SSL_early_callback_ctx_extension_get(hello, TLSEXT_TYPE_signature_algorithms, &p, &n))
		return (false);
	for (i = 2; i + 1 < n; i += 2) {
		uint16_t alg = (uint16_t)(p[i] << 8 | p[i + 1]);

		if (alg == SSL_SIGN_ECDSA_SECP256R1_SHA256 ||
			alg == SSL_SIGN_ECDSA_SECP384R1_SHA384 ||
			alg == SSL_SIGN_ECDSA_SECP521R1_SHA512)
			return (offers_ecdsa_suite(ctx, hello));
	}
	return (false);
}

/* The best name match of a key type that the client takes; the first usable one otherwise. */
static const struct hb_credential *
choose(const struct hb_tls_ctx *ctx, const SSL_CLIENT_HELLO *hello, struct hb_str name)
{
	const struct hb_credential *best = ctx->creds[0];
	bool ecdsa = client_takes_ecdsa(ctx, hello);
	int score, fits, top = 0;
	size_t i;

	for (i = 0; i < ctx->n_creds; i++) {
		const struct hb_credential *c = ctx->creds[i];

		if (c->type == HB_KEY_EC && !ecdsa)
			continue;
		fits = name.len == 0 ? 0 : hb_credential_fits(c, name);
		score = 1 + 2 * fits + (fits > 0 && c->type == HB_KEY_EC ? 1 : 0);
		if (score > top) {
			top = score;
			best = c;
		}
	}
	return (best);
}

static enum ssl_select_cert_result_t
select_certificate(const SSL_CLIENT_HELLO *hello)
{
	struct hb_tls *t = hb_tls__of(hello->ssl);
	const struct hb_tls_ctx *ctx = t->ctx;
	const char *name = SSL_get_servername(hello->ssl, TLSEXT_NAMETYPE_host_name);

	HB_CHECK(&t->base, HB_TRANSPORT_MAGIC);
	/* A second ClientHello, after HelloRetryRequest, passes here too. */
	hb_free(t->sni);
	t->sni = NULL;
	if (name != NULL) {
		t->sni = hb_strdup(name);
		hb_str_lower(t->sni, strlen(t->sni));
	} else if (ctx->require_sni) {
		hb_tls__failure(t, "the client sent no server name and one is required");
		return (ssl_select_cert_error);
	}
	t->cred = ctx->n_creds == 1 ? ctx->creds[0] : choose(ctx, hello, hb_str(t->sni));
	if (SSL_set_chain_and_key(hello->ssl, t->cred->chain, t->cred->n, t->cred->key, NULL) !=
		1) {
		hb_tls__failure(t, "the certificate cannot be used: %s", lib_error());
		return (ssl_select_cert_error);
	}
	return (ssl_select_cert_success);
}

static int
select_alpn(SSL *ssl, const uint8_t **ret, uint8_t *ret_len, const uint8_t *offered, unsigned n,
	void *arg)
{
	const struct hb_tls_ctx *ctx = arg;
	uint8_t *chosen;

	(void)ssl;
	HB_CHECK(ctx, HB_TLS_CTX_MAGIC);
	if (SSL_select_next_proto(&chosen, ret_len, ctx->alpn, (unsigned)ctx->alpn_len, offered,
		    n) != OPENSSL_NPN_NEGOTIATED)
		return (SSL_TLSEXT_ERR_NOACK);
	*ret = chosen;
	return (SSL_TLSEXT_ERR_OK);
}

/* A session is resumed in TLS 1.3 only: tickets of 1.2 give away what they protect with their key. */
static int
before_certificate(SSL *ssl, void *arg)
{
	(void)arg;
	if (SSL_version(ssl) != TLS1_3_VERSION)
		SSL_set_options(ssl, SSL_OP_NO_TICKET);
	return (1);
}

/* Counts, because a server may send without end. 1 = the session was taken. */
static int
new_session(SSL *ssl, SSL_SESSION *session)
{
	struct hb_tls *t = hb_tls__of(ssl);

	if (t->tickets < UINT8_MAX)
		t->tickets++;
	return (hb_tls__session_keep(t, session));
}

/* ------------------------------------------------------------------ making a context */

static uint16_t
version_number(enum hb_tls_version v, uint16_t otherwise)
{
	switch (v) {
	case HB_TLS_1_0:
		return (TLS1_VERSION);
	case HB_TLS_1_1:
		return (TLS1_1_VERSION);
	case HB_TLS_1_2:
		return (TLS1_2_VERSION);
	case HB_TLS_1_3:
		return (TLS1_3_VERSION);
	case HB_TLS_AUTO:
	default:
		return (otherwise);
	}
}

static int
set_versions(struct hb_tls_ctx *ctx, const struct hb_tls_config *c, struct hb_err *reterr)
{
	uint16_t min = version_number(c->min, TLS1_2_VERSION);
	uint16_t max = version_number(c->max, TLS1_3_VERSION);

	if (min > max && c->min == HB_TLS_AUTO)
		min = max;
	if (min > max)
		return (hb_err_set(
			reterr, -EINVAL, "the minimum TLS version is above the maximum"));
	HB_ASSERT(SSL_CTX_set_min_proto_version(ctx->ssl_ctx, min) == 1);
	HB_ASSERT(SSL_CTX_set_max_proto_version(ctx->ssl_ctx, max) == 1);
	return (0);
}

static int
set_ciphers(struct hb_tls_ctx *ctx, const struct hb_tls_config *c, struct hb_err *reterr)
{
	const char *list = c->cipher_list == NULL ? default_ciphers : c->cipher_list;
	const char *groups = c->groups == NULL ? "X25519:P-256" : c->groups;

	if (SSL_CTX_set_strict_cipher_list(ctx->ssl_ctx, list) != 1)
		return (hb_err_set(reterr, -EINVAL,
			"cipher suites \"%s\": %s (these are TLS 1.2 "
			"suites in OpenSSL notation)",
			list, lib_error()));
	if (SSL_CTX_set1_curves_list(ctx->ssl_ctx, groups) != 1)
		return (hb_err_set(reterr, -EINVAL,
			"key exchange groups \"%s\": %s (X25519, P-256, P-384 and P-521 are known, "
			"X25519MLKEM768 is not)",
			groups, lib_error()));
	return (0);
}

static int
set_alpn(struct hb_tls_ctx *ctx, const struct hb_tls_config *c, struct hb_err *reterr)
{
	size_t i, n, len = 0;

	for (i = 0; i < c->n_alpn; i++) {
		n = strlen(c->alpn[i]);
		if (n == 0 || n > 255)
			return (hb_err_set(reterr, -EINVAL,
				"ALPN protocol %zu must have 1 to 255 "
				"bytes",
				i + 1));
		len += 1 + n;
	}
	if (len == 0)
		return (0);
	if (len > UINT16_MAX)
		return (hb_err_set(reterr, -EINVAL, "the ALPN protocols are too many"));
	ctx->alpn = hb_malloc(len);
	for (i = 0; i < c->n_alpn; i++) {
		n = strlen(c->alpn[i]);
		ctx->alpn[ctx->alpn_len++] = (uint8_t)n;
		memcpy(ctx->alpn + ctx->alpn_len, c->alpn[i], n);
		ctx->alpn_len += n;
	}
	if (c->server)
		SSL_CTX_set_alpn_select_cb(ctx->ssl_ctx, select_alpn, ctx);
	else
		HB_ASSERT(SSL_CTX_set_alpn_protos(ctx->ssl_ctx, ctx->alpn, ctx->alpn_len) == 0);
	return (0);
}

static int
read_certs(struct hb_tls_ctx *ctx, const struct hb_tls_config *c, struct hb_err *reterr)
{
	size_t i;
	int r;

	ctx->creds = hb_calloc(c->n_certs + c->n_credentials + 1, sizeof ctx->creds[0]);
	for (i = 0; i < c->n_credentials; i++)
		ctx->creds[ctx->n_creds++] = hb_credential_ref(c->credentials[i]);
	for (i = 0; c->n_credentials == 0 && i < c->n_certs; i++) {
		const struct hb_tls_cert *cert = &c->certs[i];
		struct hb_credential_pem pem = { .chain = cert->chain,
			.key = cert->key,
			.password = cert->password,
			.chain_file = cert->chain_file,
			.key_file = cert->key_file };

		r = hb_credential_new(&pem, &ctx->creds[i], reterr);
		if (r != 0)
			return (r);
		ctx->n_creds++;
	}
	return (0);
}

static int
set_certs(struct hb_tls_ctx *ctx, const struct hb_tls_config *c, struct hb_err *reterr)
{
	size_t i, k, n = 0;
	int r = read_certs(ctx, c, reterr);

	if (r != 0)
		return (r);
	if (c->server && ctx->n_creds == 0)
		return (hb_err_set(reterr, -EINVAL, "a TLS server needs a certificate"));
	for (i = 0; i < ctx->n_creds; i++)
		n += ctx->creds[i]->n;
	ctx->certs = hb_calloc(n + 1, sizeof ctx->certs[0]);
	for (i = 0; i < ctx->n_creds; i++) {
		for (k = 0; k < ctx->creds[i]->n; k++)
			ctx->certs[ctx->n_certs++] = ctx->creds[i]->info[k];
	}
	if (c->server) {
		SSL_CTX_set_select_certificate_cb(ctx->ssl_ctx, select_certificate);
		return (0);
	}
	if (ctx->n_creds > 0 &&
		SSL_CTX_set_chain_and_key(ctx->ssl_ctx, ctx->creds[0]->chain, ctx->creds[0]->n,
			ctx->creds[0]->key, NULL) != 1)
		return (hb_err_set(
			reterr, -EINVAL, "the client certificate cannot be used: %s", lib_error()));
	return (0);
}

static void
announce_anchors(struct hb_tls_ctx *ctx)
{
	CRYPTO_BUFFER *names[CA_NAMES_MAX];
	const struct hb_cert_info *const *unused;
	STACK_OF(CRYPTO_BUFFER) * sk;
	size_t i, n;

	if (hb_trust_info(ctx->trust, &unused) > CA_NAMES_MAX)
		return;
	sk = sk_CRYPTO_BUFFER_new_null();
	HB_ASSERT(sk != NULL);
	n = hb_trust_names(ctx->trust, names, CA_NAMES_MAX);
	for (i = 0; i < n; i++)
		HB_ASSERT(sk_CRYPTO_BUFFER_push(sk, names[i]) != 0);
	SSL_CTX_set0_client_CAs(ctx->ssl_ctx, sk);
}

static int
set_trust(struct hb_tls_ctx *ctx, const struct hb_tls_config *c, struct hb_err *reterr)
{
	struct hb_trust_options o = { .pem = c->trust_pem,
		.crl_pem = c->crl_pem,
		.crl_leaf_only = c->crl_leaf_only,
		.allow_expired = c->allow_expired,
		.max_depth = c->max_verify_depth,
		.file = c->trust_file,
		.crl_file = c->crl_file };
	bool judged = c->n_sans + c->n_cert_hashes + c->n_spki_hashes > 0;
	bool trusted = c->trust != NULL || c->trust_pem.len > 0;
	int r, mode = SSL_VERIFY_PEER;

	if (!trusted && c->crl_pem.len > 0)
		return (hb_err_set(reterr, -EINVAL,
			"a revocation list without a trust bundle has "
			"no effect: give the trusted CA"));
	if (!trusted && (c->n_sans > 0 || c->sni_is_identity || c->rules != NULL))
		return (hb_err_set(reterr, -EINVAL,
			"names can be matched only in certificates "
			"that are verified: give the trusted CA"));
	if (c->trust != NULL) {
		ctx->trust = hb_trust_ref(c->trust);
	} else if (trusted) {
		r = hb_trust_new(&o, &ctx->trust, reterr);
		if (r != 0)
			return (r);
	}
	if (c->server && !c->require_peer_cert && ctx->trust == NULL && !judged)
		mode = SSL_VERIFY_NONE;
	if (c->server && c->require_peer_cert)
		mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
	SSL_CTX_set_custom_verify(ctx->ssl_ctx, mode, hb_tls__verify);
	if (c->server && ctx->trust != NULL)
		announce_anchors(ctx);
	return (0);
}

/* Rules that compare with our own identity need one. */
static int
set_rules(struct hb_tls_ctx *ctx, const struct hb_tls_config *c, struct hb_err *reterr)
{
	const char *why;

	ctx->rules = c->rules;
	if (c->rules == NULL || !hb_rules_need_own(c->rules, &why))
		return (0);
	for (size_t i = 0; i < ctx->n_creds; i++) {
		if (ctx->creds[i]->info[0]->spiffe_id == NULL)
			return (hb_err_set(reterr, -EINVAL,
				"the identity rules need a SPIFFE id in our own certificate (%s), "
				"and certificate %zu (%s) has none: give trust_domains and lists "
				"that do not refer to it",
				why, i + 1, ctx->creds[i]->info[0]->subject));
	}
	if (ctx->n_creds == 0)
		return (hb_err_set(reterr, -EINVAL,
			"the identity rules need a certificate of our own "
			"(%s): give one, or trust_domains and lists that do not refer to it",
			why));
	return (0);
}

static uint8_t (*copy_hashes(const struct hb_str *v, size_t n, struct hb_err *reterr))[32]
{
	uint8_t(*h)[32] = hb_calloc(n + 1, sizeof *h);
	size_t i;

	for (i = 0; i < n; i++) {
		if (v[i].len != 32) {
			(void)hb_err_set(reterr, -EINVAL,
				"certificate hash %zu must have 32 bytes "
				"(SHA-256)",
				i + 1);
			hb_free(h);
			return (NULL);
		}
		memcpy(h[i], v[i].p, 32);
	}
	return (h);
}

static int
copy_rules(struct hb_tls_ctx *ctx, const struct hb_tls_config *c, struct hb_err *reterr)
{
	if (c->sni != NULL && (c->sni[0] == '\0' || strlen(c->sni) > TLSEXT_MAXLEN_host_name))
		return (hb_err_set(reterr, -EINVAL, "the server name must have 1 to %d bytes",
			TLSEXT_MAXLEN_host_name));
	ctx->sni = c->sni == NULL ? NULL : hb_strdup(c->sni);
	ctx->sans = hb_calloc(c->n_sans + 1, sizeof ctx->sans[0]);
	if (c->n_sans > 0)
		memcpy(ctx->sans, c->sans, c->n_sans * sizeof ctx->sans[0]);
	ctx->n_sans = c->n_sans;
	ctx->cert_hashes = copy_hashes(c->cert_hashes, c->n_cert_hashes, reterr);
	if (ctx->cert_hashes == NULL)
		return (-EINVAL);
	ctx->n_cert_hashes = c->n_cert_hashes;
	ctx->spki_hashes = copy_hashes(c->spki_hashes, c->n_spki_hashes, reterr);
	if (ctx->spki_hashes == NULL)
		return (-EINVAL);
	ctx->n_spki_hashes = c->n_spki_hashes;
	ctx->accept_untrusted = c->accept_untrusted;
	ctx->require_sni = c->require_sni;
	ctx->require_peer_cert = c->require_peer_cert;
	ctx->bare_fin_is_end = c->bare_fin_is_end;
	ctx->sni_is_identity = c->sni_is_identity;
	ctx->handshake_timeout_ms = c->handshake_timeout_ms == 0 ? HANDSHAKE_TIMEOUT_MS :
								   c->handshake_timeout_ms;
	return (0);
}

/* Never early data: it can be replayed. */
static void
set_resumption(struct hb_tls_ctx *ctx, const struct hb_tls_config *c)
{
	bool resume = c->server && !c->no_tickets;
	uint32_t timeout = c->session_timeout_s == 0 ? HB_TLS_SESSION_TIMEOUT :
						       c->session_timeout_s;

	SSL_CTX_set_early_data_enabled(ctx->ssl_ctx, 0);
	SSL_CTX_set_session_cache_mode(ctx->ssl_ctx,
		c->server ? SSL_SESS_CACHE_OFF :
			    SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx->ssl_ctx, new_session);
	ctx->max_sessions = c->server ? 0 : c->max_sessions;
	/* A client would offer sessions of TLS 1.2 by this option only. */
	if (!resume)
		(void)SSL_CTX_set_options(ctx->ssl_ctx, SSL_OP_NO_TICKET);
	if (!c->server)
		SSL_CTX_set_reverify_on_resume(ctx->ssl_ctx, 1);
	if (!resume)
		return;
	ctx->session_timeout_s = HB_MIN(timeout, HB_TLS_SESSION_TIMEOUT_MAX);
	SSL_CTX_set_session_psk_dhe_timeout(ctx->ssl_ctx, ctx->session_timeout_s);
	SSL_CTX_set_cert_cb(ctx->ssl_ctx, before_certificate, NULL);
	/* The next one comes with the session that used it; each costs 4 us of a handshake's 120. */
	(void)SSL_CTX_set_num_tickets(ctx->ssl_ctx, 1);
	SSL_CTX_set_ticket_aead_method(ctx->ssl_ctx, &hb_tls__tickets);
	hb_tls__tickets_start(ctx, c->ticket_keys, c->n_ticket_keys);
}

struct hb_tls_ctx *
hb_tls_ctx_new(const struct hb_tls_config *c, struct hb_err *reterr)
{
	struct hb_tls_ctx *ctx;

	HB_NEW(ctx, HB_TLS_CTX_MAGIC);
	ctx->server = c->server;
	ctx->n_users = hb_workers_count() + 1;
	ctx->users = aligned_alloc(
		_Alignof(struct hb_tls_users), ctx->n_users * sizeof ctx->users[0]);
	HB_ASSERT(ctx->users != NULL);
	for (unsigned i = 0; i < ctx->n_users; i++) {
		atomic_init(&ctx->users[i].n, 0);
		ctx->users[i].sessions = NULL;
	}
	ctx->ssl_ctx = SSL_CTX_new(TLS_with_buffers_method());
	HB_ASSERT(ctx->ssl_ctx != NULL);
	/* The chain is kept once for all connections of the peer: struct hb_tls_peer. 560 bytes of a connection. */
	SSL_CTX_set_retain_only_sha256_of_client_certs(ctx->ssl_ctx, 1);
	(void)SSL_CTX_set_options(ctx->ssl_ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
	set_resumption(ctx, c);
	if (copy_rules(ctx, c, reterr) != 0 || set_versions(ctx, c, reterr) != 0 ||
		set_ciphers(ctx, c, reterr) != 0 || set_alpn(ctx, c, reterr) != 0 ||
		set_certs(ctx, c, reterr) != 0 || set_trust(ctx, c, reterr) != 0 ||
		set_rules(ctx, c, reterr) != 0)
		hb_tls_ctx_free(&ctx);
	return (ctx);
}

void
hb_tls_ctx_free(struct hb_tls_ctx **pctx)
{
	struct hb_tls_ctx *ctx = *pctx;
	size_t i;

	if (ctx == NULL)
		return;
	HB_CHECK(ctx, HB_TLS_CTX_MAGIC);
	*pctx = NULL;
	HB_ASSERT(hb_tls_ctx_users(ctx) == 0);
	for (unsigned k = 0; k < ctx->n_users; k++)
		hb_tls__sessions_free(&ctx->users[k].sessions);
	free(ctx->users);
	hb_tls__tickets_stop(ctx);
	SSL_CTX_free(ctx->ssl_ctx);
	for (i = 0; i < ctx->n_creds; i++)
		hb_credential_free(&ctx->creds[i]);
	hb_free(ctx->creds);
	hb_free(ctx->certs);
	hb_trust_free(&ctx->trust);
	hb_free(ctx->sans);
	hb_free(ctx->cert_hashes);
	hb_free(ctx->spki_hashes);
	hb_free(ctx->alpn);
	hb_free(ctx->sni);
	HB_DEL(ctx);
}

struct hb_tls_users *
hb_tls__mine(const struct hb_tls *t)
{
	uint32_t i = t->base.worker->index;

	if (i == HB_WORKER_CONTROL)
		i = t->ctx->n_users - 1;
	HB_ASSERT(i < t->ctx->n_users);
	return (&t->ctx->users[i]);
}

/* Nobody else writes this line: no read-modify-write, nobody waits. */
void
hb_tls__use(const struct hb_tls *t, bool on)
{
	struct hb_tls_users *u = hb_tls__mine(t);

	atomic_store_explicit(&u->n,
		atomic_load_explicit(&u->n, memory_order_relaxed) + (on ? 1 : (size_t)-1),
		memory_order_release);
}

size_t
hb_tls_ctx_users(const struct hb_tls_ctx *ctx)
{
	size_t n = 0;

	HB_CHECK(ctx, HB_TLS_CTX_MAGIC);
	for (unsigned i = 0; i < ctx->n_users; i++)
		n += atomic_load_explicit(&ctx->users[i].n, memory_order_acquire);
	return (n);
}

size_t
hb_tls_ctx_certs(const struct hb_tls_ctx *ctx, const struct hb_cert_info *const **ret)
{
	HB_CHECK(ctx, HB_TLS_CTX_MAGIC);
	*ret = ctx->certs;
	return (ctx->n_certs);
}

size_t
hb_tls_ctx_trust(const struct hb_tls_ctx *ctx, const struct hb_cert_info *const **ret)
{
	HB_CHECK(ctx, HB_TLS_CTX_MAGIC);
	*ret = NULL;
	return (ctx->trust == NULL ? 0 : hb_trust_info(ctx->trust, ret));
}

/* ------------------------------------------------------------------ one connection's SSL */

void
hb_tls__failure(struct hb_tls *t, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (t->failure != NULL)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	t->failure = hb_strdup(text);
}

SSL *
hb_tls__ssl(struct hb_tls *t)
{
	SSL *ssl = SSL_new(t->ctx->ssl_ctx);
	BIO *bio = hb_tls__bio(t);

	HB_ASSERT(ssl != NULL);
	SSL_set_bio(ssl, bio, bio);
	/* 580 bytes of an idle connection. */
	SSL_set_shed_handshake_config(ssl, 1);
	if (t->ctx->server) {
		SSL_set_accept_state(ssl);
		return (ssl);
	}
	SSL_set_connect_state(ssl);
	if (t->ctx->n_creds > 0)
		t->cred = t->ctx->creds[0];
	if (t->sni != NULL && SSL_set_tlsext_host_name(ssl, t->sni) != 1) {
		ERR_clear_error();
		t->bad_name = true;
	}
	return (ssl);
}

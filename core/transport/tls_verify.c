/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a peer may come in. Only what its chain is worth is remembered (tls_cache.c); names, pins
 * and rules are asked for every handshake, resumed ones too.
 */
#include <openssl/nid.h>
#include <openssl/pool.h>
#include <openssl/x509.h>
#include "core/base/log.h"
#include "core/transport/tls_priv.h"

/* ------------------------------------------------------------------ names, pins, rules */

static bool
pinned(const struct hb_tls_ctx *ctx, const CRYPTO_BUFFER *leaf)
{
	uint8_t digest[32];
	size_t i;

	if (ctx->n_cert_hashes + ctx->n_spki_hashes == 0)
		return (true);
	hb_cert_sha256(leaf, digest);
	for (i = 0; i < ctx->n_cert_hashes; i++) {
		if (memcmp(ctx->cert_hashes[i], digest, sizeof digest) == 0)
			return (true);
	}
	if (ctx->n_spki_hashes == 0 || !hb_cert_spki_sha256(leaf, digest))
		return (false);
	for (i = 0; i < ctx->n_spki_hashes; i++) {
		if (memcmp(ctx->spki_hashes[i], digest, sizeof digest) == 0)
			return (true);
	}
	return (false);
}

static bool
san_allowed(const struct hb_tls_ctx *ctx, const struct hb_cert_info *leaf)
{
	const struct hb_tls_san_match *m;
	size_t i;

	for (i = 0; i < ctx->n_sans; i++) {
		m = &ctx->sans[i];
		if (hb_cert_san_any(leaf, m->type, m->match, m->arg))
			return (true);
	}
	return (ctx->n_sans == 0);
}

static bool
covers_sni(const void *arg, struct hb_str value)
{
	const struct hb_tls *t = arg;

	return (hb_dns_name_covers(value, hb_str(t->sni)));
}

/* The peer learns that its certificate is good, and that it may not come in with it. */
static bool
rules_allow(struct hb_tls *t, const struct hb_tls_ctx *ctx, const struct hb_tls_peer *peer,
	uint8_t *ret_alert)
{
	const struct hb_credential *cred = ctx == t->ctx ? t->cred :
		ctx->n_creds == 0                        ? NULL :
							   ctx->creds[0];
	const struct hb_cert_info *own = cred == NULL ? NULL : cred->info[0];
	char text[512];
	enum hb_rules_answer answer = hb_rules_judge(
		ctx->rules, peer->info, own, text, sizeof text);

	if (answer == HB_RULES_ALLOWED)
		return (true);
	if (answer == HB_RULES_DENIED)
		*ret_alert = SSL_AD_ACCESS_DENIED;
	hb_tls__failure(t, "%s", text);
	return (false);
}

static void
log_refusal(const struct hb_tls *t, const struct hb_tls_ctx *ctx)
{
	if (ctx->rules != NULL)
		HB_LOG(TLS, INFO, "peer refused by identity rules", "peer=%s subject=%s reason=%s",
			ctx->server ? "client" : "server", t->peer->info->subject, t->failure);
}

enum hb_close_reason
hb_tls__judge_names(struct hb_tls *t, const struct hb_tls_ctx *ctx, const struct hb_tls_peer *peer,
	uint8_t *ret_alert)
{
	*ret_alert = SSL_AD_CERTIFICATE_UNKNOWN;
	if (!pinned(ctx, peer->chain[0])) {
		hb_tls__failure(t, "the certificate is none of the pinned ones");
		return (HB_CLOSE_TLS_VERIFY);
	}
	if (ctx->sni_is_identity && t->sni != NULL) {
		if (!hb_cert_san_any(peer->info, HB_SAN_DNS, covers_sni, t)) {
			hb_tls__failure(t,
				"no DNS name of the certificate covers the server name %s", t->sni);
			return (HB_CLOSE_TLS_SAN);
		}
	} else if (!san_allowed(ctx, peer->info)) {
		hb_tls__failure(t, "no subject alternative name is an allowed one");
		return (HB_CLOSE_TLS_SAN);
	}
	if (ctx->rules != NULL && !rules_allow(t, ctx, peer, ret_alert))
		return (HB_CLOSE_TLS_SAN);
	return (HB_CLOSE_NONE);
}

/* ------------------------------------------------------------------ chains */

static enum hb_purpose
purpose_of_peer(const struct hb_tls_ctx *ctx)
{
	return (ctx->server ? HB_PURPOSE_CLIENT : HB_PURPOSE_SERVER);
}

static int64_t
wall_s(const struct hb_tls *t)
{
	return (hb_wall_us(t->base.worker) / 1000000);
}

/* The failure of a chain, and the alert for it. */
static enum hb_close_reason
bad_chain(struct hb_tls *t, const struct hb_verdict *v, uint8_t *ret_alert)
{
	hb_tls__failure(t, "%s (certificate %d of the chain)", v->text, v->depth);
	/* Another CA of the same name is not a broken signature to its peer. */
	*ret_alert = v->error == X509_V_ERR_CERT_SIGNATURE_FAILURE ?
		SSL_AD_UNKNOWN_CA :
		(uint8_t)SSL_alert_from_verify_result(v->error);
	return (HB_CLOSE_TLS_VERIFY);
}

/* Leaves t->peer alone only when the certificate cannot be read. */
static enum hb_close_reason
judge_chain(struct hb_tls *t, CRYPTO_BUFFER *const *chain, size_t n, uint8_t *ret_alert)
{
	const struct hb_tls_ctx *ctx = t->ctx;
	struct hb_verdict v;
	struct hb_err err;
	uint8_t key[HB_TLS_CHAIN_KEY];

	if (ctx->trust != NULL) {
		hb_tls__chain_key(ctx->trust, purpose_of_peer(ctx), chain, n, key);
		t->peer = hb_tls__chain_find(t->base.worker, key, wall_s(t));
		t->info.chain_cached = t->peer != NULL;
		if (t->peer != NULL)
			return (HB_CLOSE_NONE);
	}
	t->peer = hb_tls__peer_new(chain, n, &err);
	if (t->peer == NULL) {
		hb_tls__failure(t, "the peer's certificate: %s", err.text);
		*ret_alert = SSL_AD_BAD_CERTIFICATE;
		return (HB_CLOSE_TLS_VERIFY);
	}
	if (ctx->trust == NULL)
		return (HB_CLOSE_NONE);
	v = hb_trust_verify(ctx->trust, chain, n, purpose_of_peer(ctx), wall_s(t));
	if (v.error != 0)
		return (bad_chain(t, &v, ret_alert));
	hb_tls__chain_keep(t->base.worker, key, t->peer, &v);
	return (HB_CLOSE_NONE);
}

/* The peer is in. */
static void
admitted(struct hb_tls *t, const struct hb_tls_ctx *ctx)
{
	t->trust_id = ctx->trust == NULL ? 0 : hb_trust_id(ctx->trust);
	t->info.peer_verified = ctx->trust != NULL;
}

static enum ssl_verify_result_t
refuse(struct hb_tls *t, enum hb_close_reason reason)
{
	t->verdict = (uint8_t)reason;
	return (ssl_verify_invalid);
}

enum ssl_verify_result_t
hb_tls__verify(SSL *ssl, uint8_t *ret_alert)
{
	struct hb_tls *t = hb_tls__of(ssl);
	const STACK_OF(CRYPTO_BUFFER) *sk = SSL_get0_peer_certificates(ssl);
	CRYPTO_BUFFER *chain[HB_TLS_CHAIN_MAX];
	enum hb_close_reason reason;
	size_t i, n = sk == NULL ? 0 : sk_CRYPTO_BUFFER_num(sk);

	HB_CHECK(&t->base, HB_TRANSPORT_MAGIC);
	HB_ASSERT(t->peer == NULL);
	*ret_alert = SSL_AD_BAD_CERTIFICATE;
	if (n == 0 || n > HB_TLS_CHAIN_MAX) {
		hb_tls__failure(t, "%zu certificates in the peer's chain", n);
		return (refuse(t, HB_CLOSE_TLS_VERIFY));
	}
	for (i = 0; i < n; i++)
		chain[i] = sk_CRYPTO_BUFFER_value(sk, i);
	reason = judge_chain(t, chain, n, ret_alert);
	if (reason == HB_CLOSE_NONE)
		reason = hb_tls__judge_names(t, t->ctx, t->peer, ret_alert);
	if (reason == HB_CLOSE_TLS_SAN)
		log_refusal(t, t->ctx);
	if (reason == HB_CLOSE_NONE)
		admitted(t, t->ctx);
	else if (!t->ctx->accept_untrusted || t->peer == NULL)
		return (refuse(t, reason));
	return (ssl_verify_ok);
}

/* ------------------------------------------------------------------ again */

bool
hb_tls__would_admit(struct hb_tls *t, const STACK_OF(CRYPTO_BUFFER) * sk)
{
	CRYPTO_BUFFER *chain[HB_TLS_CHAIN_MAX];
	size_t i, n = sk == NULL ? 0 : sk_CRYPTO_BUFFER_num(sk);
	uint8_t key[HB_TLS_CHAIN_KEY], unused;
	struct hb_tls_peer *peer;
	bool ok;

	if (t->ctx->trust == NULL)
		return (true);
	if (n == 0 || n > HB_TLS_CHAIN_MAX)
		return (false);
	for (i = 0; i < n; i++)
		chain[i] = sk_CRYPTO_BUFFER_value(sk, i);
	hb_tls__chain_key(t->ctx->trust, purpose_of_peer(t->ctx), chain, n, key);
	peer = hb_tls__chain_find(t->base.worker, key, wall_s(t));
	if (peer == NULL)
		return (false);
	ok = hb_tls__judge_names(t, t->ctx, peer, &unused) == HB_CLOSE_NONE;
	hb_tls__peer_unref(&peer);
	hb_free(t->failure);
	t->failure = NULL;
	return (ok);
}

void
hb_tls__resumed(struct hb_tls *t)
{
	HB_SHOWN_ADD(hb_tls__worker(t->base.worker)->counters[HB_TLS_RESUMED], 1);
	if (!t->ctx->server)
		return; /* hb_tls__verify was asked again */
	HB_ASSERT(t->peer == NULL);
	t->peer = t->offered;
	t->offered = NULL;
	if (t->peer == NULL)
		return;
	t->info.chain_cached = true;
	admitted(t, t->ctx);
}

/* Beside trust. Contexts of one configuration have the same pointers. */
static bool
same_demands(const struct hb_tls_ctx *a, const struct hb_tls_ctx *b)
{
	return (a->rules == b->rules && a->n_sans == b->n_sans &&
		a->n_cert_hashes == b->n_cert_hashes && a->n_spki_hashes == b->n_spki_hashes &&
		memcmp(a->sans, b->sans, a->n_sans * sizeof a->sans[0]) == 0 &&
		memcmp(a->cert_hashes, b->cert_hashes, a->n_cert_hashes * 32) == 0 &&
		memcmp(a->spki_hashes, b->spki_hashes, a->n_spki_hashes * 32) == 0);
}

/* One that was never verified is as new to `now`. */
static bool
chain_holds(struct hb_tls *t, const struct hb_tls_ctx *now)
{
	struct hb_verdict v;
	uint8_t unused;

	if (now->trust == NULL || hb_trust_id(now->trust) == t->trust_id)
		return (true);
	v = (t->info.peer_verified ? hb_trust_recheck : hb_trust_verify)(
		now->trust, t->peer->chain, t->peer->n, purpose_of_peer(now), wall_s(t));
	if (v.error != 0)
		(void)bad_chain(t, &v, &unused);
	return (v.error == 0);
}

bool
hb_tls__recheck(struct hb_tls *t, const struct hb_tls_ctx *now)
{
	uint8_t unused;

	if (now == t->ctx || (now->accept_untrusted && !t->info.peer_verified))
		return (true);
	if (t->peer == NULL) {
		if (now->require_peer_cert)
			hb_tls__failure(t, "the peer has shown no certificate");
		return (!now->require_peer_cert);
	}
	if (!chain_holds(t, now))
		return (false);
	if (!same_demands(now, t->ctx) &&
		hb_tls__judge_names(t, now, t->peer, &unused) != HB_CLOSE_NONE) {
		log_refusal(t, now);
		return (false);
	}
	t->trust_id = now->trust == NULL ? 0 : hb_trust_id(now->trust);
	return (true);
}

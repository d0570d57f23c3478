/* SPDX-License-Identifier: Apache-2.0 */
#include "core/identity/info_priv.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/pool.h>
#include <openssl/x509v3.h>

#define DEPTH_DEFAULT  100u
/* Certificates of a peer's chain that are looked at; the message that carries them is bounded by
 * the TLS transport too. */
#define PEER_CHAIN_MAX 64u

struct hb_trust {
	unsigned magic;
#define HB_TRUST_MAGIC 0x52c3d8f7
	unsigned refs;
	char *shared_as;
	struct hb_identity__serving serving;
	X509_STORE *store;
	STACK_OF(X509) * anchors;
	struct hb_cert_info **info; /* of the anchors */
	size_t n;
	bool allow_expired;
	unsigned max_depth;
	int64_t crl_since, crl_due; /* all lists are good in between */
	uint64_t id;
	uint8_t digest[32];
};

static uint64_t last_id;

static void
add_crl(struct hb_trust *t, X509_CRL *crl)
{
	int64_t since, due = INT64_MAX;

	if (!hb_identity__time(X509_CRL_get0_lastUpdate(crl), &since))
		since = INT64_MAX;
	t->crl_since = HB_MAX(t->crl_since, since);
	if (X509_CRL_get0_nextUpdate(crl) != NULL &&
		!hb_identity__time(X509_CRL_get0_nextUpdate(crl), &due))
		due = 0;
	t->crl_due = HB_MIN(t->crl_due, due);
	HB_ASSERT(X509_STORE_add_crl(t->store, crl) == 1);
	X509_CRL_free(crl);
}

/* NULL at the end, and when the next one cannot be read: then *ret_bad says so. */
static X509_CRL *
next_der_crl(const uint8_t **p, const uint8_t *end, bool *ret_bad)
{
	X509_CRL *crl;

	/* An editor's newline at the end. */
	while (*p < end && (**p == '\n' || **p == '\r'))
		(*p)++;
	if (*p == end)
		return (NULL);
	crl = d2i_X509_CRL(NULL, p, (long)(end - *p));
	*ret_bad = crl == NULL;
	return (crl);
}

static X509_CRL *
next_pem_crl(BIO *bio, bool *ret_bad)
{
	X509_CRL *crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);

	*ret_bad = crl == NULL && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE;
	return (crl);
}

static int
add_crls(struct hb_trust *t, const struct hb_trust_options *o, struct hb_err *reterr)
{
	const char *what = o->crl_file == NULL ? "the inline revocation list" : o->crl_file;
	const uint8_t *p = (const uint8_t *)o->crl_pem.p, *end = p + o->crl_pem.len;
	BIO *bio = BIO_new_mem_buf(o->crl_pem.p, (int)o->crl_pem.len);
	bool der = *p == 0x30, bad = false; /* a SEQUENCE */
	X509_CRL *crl;
	size_t n = 0;
	int r = 0;

	HB_ASSERT(bio != NULL);
	ERR_clear_error();
	while (n <= HB_TRUST_MAX &&
		(crl = der ? next_der_crl(&p, end, &bad) : next_pem_crl(bio, &bad)) != NULL) {
		add_crl(t, crl);
		n++;
	}
	if (bad)
		r = hb_err_set(reterr, -EINVAL, "list %zu of %s cannot be read: %s", n + 1, what,
			hb_identity__lib_error("damaged"));
	else if (n > HB_TRUST_MAX)
		r = hb_err_set(reterr, -EINVAL, "%s has more than %u lists", what, HB_TRUST_MAX);
	else if (n == 0)
		r = hb_err_set(reterr, -EINVAL,
			"%s holds no revocation list (no line -----BEGIN "
			"X509 CRL-----, and it is not DER)",
			what);
	ERR_clear_error();
	BIO_free(bio);
	if (r == 0)
		HB_ASSERT(X509_STORE_set_flags(t->store,
				  X509_V_FLAG_CRL_CHECK |
					  (o->crl_leaf_only ? 0 : X509_V_FLAG_CRL_CHECK_ALL)) == 1);
	return (r);
}

/*
 * While a root is replaced, old and new one often have the same subject, and certificates that name
 * no authority key id then fit both: the signature tells.
 */
static int
issued(X509_STORE_CTX *ctx, X509 *x, X509 *issuer)
{
	EVP_PKEY *key;
	int r;

	(void)ctx;
	if (X509_check_issued(issuer, x) != X509_V_OK)
		return (0);
	key = X509_get_pubkey(issuer);
	r = key == NULL ? 0 : X509_verify(x, key);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return (r == 1);
}

static bool
same_subject_twice(const struct hb_trust *t)
{
	struct hb_map *seen = hb_map_new();
	bool twice = false;
	size_t i;

	for (i = 0; i < t->n; i++)
		twice |= hb_map_put(seen, hb_str(t->info[i]->subject), t->info[i]) != NULL;
	hb_map_free(&seen);
	return (twice);
}

static int
add_anchors(struct hb_trust *t, const char *file, const char *what, struct hb_err *reterr)
{
	struct hb_err err;
	size_t i, n = sk_X509_num(t->anchors);
	int r;

	t->info = hb_calloc(n, sizeof t->info[0]);
	for (i = 0; i < n; i++) {
		r = hb_identity__info(sk_X509_value(t->anchors, i), &t->info[i], &err);
		if (r != 0)
			return (hb_err_set(
				reterr, r, "certificate %zu of %s: %s", i + 1, what, err.text));
		t->n = i + 1;
		if (file != NULL)
			t->info[i]->file = hb_strdup(file);
		HB_ASSERT(X509_STORE_add_cert(t->store, sk_X509_value(t->anchors, i)) == 1);
	}
	if (same_subject_twice(t))
		X509_STORE_set_check_issued(t->store, issued);
	return (0);
}

int
hb_trust_new(const struct hb_trust_options *o, struct hb_trust **ret, struct hb_err *reterr)
{
	const char *what = o->file == NULL ? "the inline trust bundle" : o->file;
	struct hb_trust *t;
	int r;

	HB_NEW(t, HB_TRUST_MAGIC);
	t->refs = 1;
	t->id = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED);
	t->crl_since = INT64_MIN;
	t->crl_due = INT64_MAX;
	hb_identity__trust_digest(o, t->digest);
	t->allow_expired = o->allow_expired;
	t->max_depth = o->max_depth == 0 ? DEPTH_DEFAULT : o->max_depth;
	t->store = X509_STORE_new();
	HB_ASSERT(t->store != NULL);
	/* Partial chains: an intermediate, or a leaf, in the bundle is an anchor of its own. */
	HB_ASSERT(X509_STORE_set_flags(
			  t->store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN) == 1);
	r = hb_identity__pem_certs(o->pem, what, HB_TRUST_MAX, &t->anchors, reterr);
	if (r == 0)
		r = add_anchors(t, o->file, what, reterr);
	if (r == 0 && o->crl_pem.len > 0)
		r = add_crls(t, o, reterr);
	if (r != 0)
		hb_trust_free(&t);
	else
		*ret = t;
	return (r);
}

struct hb_trust *
hb_trust_ref(struct hb_trust *t)
{
	HB_CHECK(t, HB_TRUST_MAGIC);
	t->refs++;
	return (t);
}

char **
hb_identity__trust_name(struct hb_trust *t)
{
	HB_CHECK(t, HB_TRUST_MAGIC);
	return (&t->shared_as);
}

struct hb_identity__serving *
hb_identity__trust_serving(struct hb_trust *t)
{
	HB_CHECK(t, HB_TRUST_MAGIC);
	return (&t->serving);
}

uint64_t
hb_trust_id(const struct hb_trust *t)
{
	HB_CHECK(t, HB_TRUST_MAGIC);
	return (t->id);
}

const uint8_t *
hb_trust_digest(const struct hb_trust *t)
{
	HB_CHECK(t, HB_TRUST_MAGIC);
	return (t->digest);
}

int64_t
hb_trust_crl_due(const struct hb_trust *t)
{
	HB_CHECK(t, HB_TRUST_MAGIC);
	return (t->crl_due);
}

void
hb_trust_free(struct hb_trust **pt)
{
	struct hb_trust *t = *pt;
	size_t i;

	if (t == NULL)
		return;
	HB_CHECK(t, HB_TRUST_MAGIC);
	*pt = NULL;
	if (--t->refs > 0)
		return;
	hb_identity__unshare(&t->shared_as);
	for (i = 0; i < t->n; i++)
		hb_cert_info_free(&t->info[i]);
	hb_free(t->info);
	if (t->anchors != NULL)
		sk_X509_pop_free(t->anchors, X509_free);
	X509_STORE_free(t->store);
	HB_DEL(t);
}

size_t
hb_trust_info(const struct hb_trust *t, const struct hb_cert_info *const **ret)
{
	HB_CHECK(t, HB_TRUST_MAGIC);
	*ret = (const struct hb_cert_info *const *)t->info;
	return (t->n);
}

size_t
hb_trust_names(const struct hb_trust *t, CRYPTO_BUFFER **ret, size_t max)
{
	size_t i, n;
	uint8_t *der;
	int len;

	HB_CHECK(t, HB_TRUST_MAGIC);
	n = HB_MIN(max, t->n);
	for (i = 0; i < n; i++) {
		der = NULL;
		len = i2d_X509_NAME(X509_get_subject_name(sk_X509_value(t->anchors, i)), &der);
		HB_ASSERT(len > 0);
		ret[i] = CRYPTO_BUFFER_new(der, (size_t)len, NULL);
		HB_ASSERT(ret[i] != NULL);
		OPENSSL_free(der);
	}
	return (n);
}

/* ------------------------------------------------------------------ verification */

/* What is asked of a chain. */
struct question {
	enum hb_purpose purpose;
	int64_t now_s;
	bool again; /* it has verified before */
};

static int
ignore_dates(int ok, X509_STORE_CTX *ctx)
{
	int error = X509_STORE_CTX_get_error(ctx);

	if (ok == 0 &&
		(error == X509_V_ERR_CERT_HAS_EXPIRED || error == X509_V_ERR_CERT_NOT_YET_VALID)) {
		X509_STORE_CTX_set_error(ctx, X509_V_OK);
		return (1);
	}
	return (ok);
}

/* A live connection ends for what is known of its peer, not for what is no longer known. */
static int
only_what_is_known(int ok, X509_STORE_CTX *ctx)
{
	int error = X509_STORE_CTX_get_error(ctx);

	if (ok == 0 &&
		(error == X509_V_ERR_CRL_HAS_EXPIRED || error == X509_V_ERR_UNABLE_TO_GET_CRL)) {
		X509_STORE_CTX_set_error(ctx, X509_V_OK);
		return (1);
	}
	return (ignore_dates(ok, ctx));
}

static void
prepare(const struct hb_trust *t, X509_STORE_CTX *ctx, const struct question *q)
{
	X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
	bool client = q->purpose == HB_PURPOSE_CLIENT;

	HB_ASSERT(X509_VERIFY_PARAM_set_purpose(
			  param, client ? X509_PURPOSE_SSL_CLIENT : X509_PURPOSE_SSL_SERVER) == 1);
	HB_ASSERT(X509_VERIFY_PARAM_set_trust(
			  param, client ? X509_TRUST_SSL_CLIENT : X509_TRUST_SSL_SERVER) == 1);
	X509_VERIFY_PARAM_set_time(param, (time_t)q->now_s);
	X509_VERIFY_PARAM_set_depth(param, (int)HB_MIN(t->max_depth, 1000u));
	if (q->again)
		X509_STORE_CTX_set_verify_cb(ctx, only_what_is_known);
	else if (t->allow_expired)
		X509_STORE_CTX_set_verify_cb(ctx, ignore_dates);
}

/* How long a chain that has verified stays good. */
static void
bound(const struct hb_trust *t, STACK_OF(X509) * chain, struct hb_verdict *v)
{
	int64_t from, until;

	v->from_s = t->crl_since;
	v->until_s = t->crl_due;
	for (size_t i = 0; i < sk_X509_num(chain) && !t->allow_expired; i++) {
		const X509 *x = sk_X509_value(chain, i);

		if (!hb_identity__time(X509_get0_notBefore(x), &from))
			from = INT64_MAX;
		if (!hb_identity__time(X509_get0_notAfter(x), &until))
			until = INT64_MIN;
		v->from_s = HB_MAX(v->from_s, from);
		v->until_s = HB_MIN(v->until_s, until);
	}
}

static struct hb_verdict
run(const struct hb_trust *t, X509 *leaf, STACK_OF(X509) * others, const struct question *q)
{
	struct hb_verdict v = { 0 };
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();

	HB_ASSERT(ctx != NULL);
	HB_ASSERT(X509_STORE_CTX_init(ctx, t->store, leaf, others) == 1);
	prepare(t, ctx, q);
	if (X509_verify_cert(ctx) != 1) {
		v.error = X509_STORE_CTX_get_error(ctx);
		if (v.error == X509_V_OK)
			v.error = X509_V_ERR_UNSPECIFIED;
		/* The library stops looking for issuers there and then misses one. */
		if (sk_X509_num(X509_STORE_CTX_get0_chain(ctx)) > t->max_depth)
			v.error = X509_V_ERR_CERT_CHAIN_TOO_LONG;
		v.depth = X509_STORE_CTX_get_error_depth(ctx);
		v.text = X509_verify_cert_error_string(v.error);
	} else {
		bound(t, X509_STORE_CTX_get0_chain(ctx), &v);
	}
	X509_STORE_CTX_free(ctx);
	return (v);
}

static struct hb_verdict
ask(const struct hb_trust *t, CRYPTO_BUFFER *const *chain, size_t n, const struct question *q)
{
	struct hb_verdict v = { .error = X509_V_ERR_INVALID_CALL, .text = "not a certificate" };
	STACK_OF(X509) *others = sk_X509_new_null();
	X509 *x, *leaf = NULL;
	size_t i;

	HB_CHECK(t, HB_TRUST_MAGIC);
	HB_ASSERT(others != NULL);
	for (i = 0; i < n && i < PEER_CHAIN_MAX; i++) {
		x = X509_parse_from_buffer(chain[i]);
		if (x == NULL)
			break;
		if (i == 0)
			leaf = x;
		else
			HB_ASSERT(sk_X509_push(others, x) != 0);
	}
	if (i == PEER_CHAIN_MAX && i < n)
		v = (struct hb_verdict){ X509_V_ERR_CERT_CHAIN_TOO_LONG, (int)i,
			"certificate chain too long" };
	else if (i == n && leaf != NULL)
		v = run(t, leaf, others, q);
	else
		v.depth = (int)i;
	ERR_clear_error();
	X509_free(leaf);
	sk_X509_pop_free(others, X509_free);
	return (v);
}

struct hb_verdict
hb_trust_verify(const struct hb_trust *t, CRYPTO_BUFFER *const *chain, size_t n,
	enum hb_purpose purpose, int64_t now_s)
{
	return (ask(t, chain, n, &(struct question){ purpose, now_s, false }));
}

struct hb_verdict
hb_trust_recheck(const struct hb_trust *t, CRYPTO_BUFFER *const *chain, size_t n,
	enum hb_purpose purpose, int64_t now_s)
{
	return (ask(t, chain, n, &(struct question){ purpose, now_s, true }));
}

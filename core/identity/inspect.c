/* SPDX-License-Identifier: Apache-2.0 */
#include "core/identity/inspect.h"

#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/pool.h>
#include <openssl/x509.h>
#include "core/identity/info_priv.h"
#include "core/identity/reload.h"

#define DAY 86400

struct look {
	const struct hb_identity_paths *paths;
	struct hb_inspection *in;
	int64_t now_s;
	struct hb_text chain, key, roots, crl; /* empty = not given, or not readable */
	CRYPTO_BUFFER *der[HB_CHAIN_MAX];      /* of the chain */
	size_t n_der;
};

static void note(struct hb_errs *, const char *fmt, ...) HB_PRINTF(2, 3);

static void
note(struct hb_errs *to, const char *fmt, ...)
{
	struct hb_err *e = hb_errs_add(to);
	va_list ap;

	if (e == NULL)
		return;
	e->code = -EINVAL;
	va_start(ap, fmt);
	(void)vsnprintf(e->text, sizeof e->text, fmt, ap);
	va_end(ap);
}

void
hb_inspect_date(int64_t s, char ret[32])
{
	time_t t = (time_t)s;
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL || strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		(void)snprintf(ret, 32, "@%lld", (long long)s);
}

/* ------------------------------------------------------------------ reading */

static void
read_part(struct look *l, const char *path, struct hb_text *ret)
{
	struct hb_err err;

	if (path == NULL)
		return;
	if (hb_file_read(path, ret, &err) != 0)
		note(&l->in->problems, "%s", err.text);
	else if (ret->len == 0)
		note(&l->in->problems, "%s is empty", path);
}

/* Certificates of a text; DER only for the chain. */
static void
read_certs(struct look *l, const struct hb_text *pem, const char *path, size_t max,
	struct hb_cert_info ***ret, size_t *ret_n, bool keep_der)
{
	STACK_OF(X509) *sk = NULL;
	struct hb_err err;

	if (pem->len == 0)
		return;
	if (hb_identity__pem_certs(hb_strn(pem->p, pem->len), path, max, &sk, &err) != 0) {
		note(&l->in->problems, "%s", err.text);
		return;
	}
	*ret = hb_calloc(sk_X509_num(sk) + 1, sizeof **ret);
	for (size_t i = 0; i < sk_X509_num(sk); i++) {
		X509 *x = sk_X509_value(sk, i);

		if (hb_identity__info(x, &(*ret)[*ret_n], &err) != 0) {
			note(&l->in->problems, "certificate %zu of %s: %s", i + 1, path, err.text);
			break;
		}
		(*ret_n)++;
		if (keep_der)
			l->der[l->n_der++] = hb_identity__der(x);
	}
	sk_X509_pop_free(sk, X509_free);
}

static void
describe_key(const struct hb_credential *c, struct hb_inspection *in)
{
	const char *curve;

	if (c->type == HB_KEY_RSA) {
		(void)snprintf(in->key_kind, sizeof in->key_kind, "RSA %d", EVP_PKEY_bits(c->key));
		return;
	}
	curve = EC_curve_nid2nist(
		EC_GROUP_get_curve_name(EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(c->key))));
	(void)snprintf(in->key_kind, sizeof in->key_kind, "%s", curve == NULL ? "EC" : curve);
}

/* ------------------------------------------------------------------ looking */

static void
look_at_key(struct look *l)
{
	struct hb_credential_pem pem = { .chain = hb_strn(l->chain.p, l->chain.len),
		.key = hb_strn(l->key.p, l->key.len),
		.chain_file = l->paths->chain,
		.key_file = l->paths->key };
	struct hb_credential *c;
	struct hb_err err;
	struct stat st;

	if (l->key.len == 0 || l->in->n_chain == 0)
		return;
	l->in->key_read = true;
	if (hb_credential_new(&pem, &c, &err) != 0) {
		note(&l->in->problems, "%s", err.text);
		return;
	}
	l->in->key_matches = true;
	describe_key(c, l->in);
	hb_credential_free(&c);
	if (stat(l->paths->key, &st) == 0 && (st.st_mode & 077) != 0)
		note(&l->in->warnings, "%s can be read by others (mode %03o): chmod 600 it",
			l->paths->key, (unsigned)st.st_mode & 0777);
}

static void
look_at_dates(struct look *l, const struct hb_cert_info *c, const char *what, size_t number)
{
	int64_t life = c->not_after - c->not_before, left = c->not_after - l->now_s;
	char date[32];

	hb_inspect_date(left < 0 ? c->not_after : c->not_before, date);
	if (left < 0)
		note(&l->in->problems, "%s %zu (%s) has expired on %s: renew it", what, number,
			c->subject, date);
	else if (c->not_before > l->now_s)
		note(&l->in->problems,
			"%s %zu (%s) is not valid before %s: check the clocks of "
			"this machine and of the authority",
			what, number, c->subject, date);
	else if (left < life / 5)
		note(&l->in->warnings,
			"%s %zu (%s) is past 80 %% of its life, %lld hours are left: "
			"it should have been renewed",
			what, number, c->subject, (long long)(left / 3600));
}

static void
look_at_identity(struct look *l)
{
	const struct hb_cert_info *leaf = l->in->chain[0];
	size_t uris = 0;

	for (size_t i = 0; i < leaf->n_san; i++)
		uris += leaf->san[i].type == HB_SAN_URI;
	if (uris > 1)
		note(&l->in->problems,
			"the certificate has %zu URI SANs: a SPIFFE identity must be the "
			"only one, peers refuse it",
			uris);
	else if (leaf->spiffe_id == NULL)
		note(&l->in->warnings,
			"the certificate names no SPIFFE identity: peers of a mesh refuse "
			"it; have it issued with one URI SAN spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT");
}

static void
look_at_order(struct look *l)
{
	for (size_t i = 0; i + 1 < l->in->n_chain; i++)
		if (strcmp(l->in->chain[i]->issuer, l->in->chain[i + 1]->subject) != 0)
			note(&l->in->problems,
				"certificate %zu of %s (%s) did not issue certificate %zu "
				"(by %s): put the leaf first, then its issuer, and so on",
				i + 2, l->paths->chain, l->in->chain[i + 1]->subject, i + 1,
				l->in->chain[i]->issuer);
}

static const char *
advice(int error)
{
	switch (error) {
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		return ("the roots are of another authority, or an intermediate is missing in the chain");
	case X509_V_ERR_INVALID_PURPOSE:
		return ("extended key usage must have clientAuth and serverAuth");
	case X509_V_ERR_CERT_REVOKED:
		return ("have another one issued");
	case X509_V_ERR_UNABLE_TO_GET_CRL:
		return ("the lists lack the one of an authority of this chain");
	case X509_V_ERR_CRL_HAS_EXPIRED:
		return ("the revocation list is overdue, fetch a new one");
	default:
		return ("see the dates and names above");
	}
}

static bool
verify(struct look *l, const struct hb_trust *t, enum hb_purpose purpose)
{
	struct hb_verdict v = hb_trust_verify(t, l->der, l->n_der, purpose, l->now_s);

	if (v.error != 0)
		note(&l->in->problems,
			"as a %s it does not verify against %s: %s (certificate %d): %s",
			purpose == HB_PURPOSE_CLIENT ? "client" : "server", l->paths->roots, v.text,
			v.depth + 1, advice(v.error));
	return (v.error == 0);
}

static void
look_at_trust(struct look *l)
{
	struct hb_trust_options o = { .pem = hb_strn(l->roots.p, l->roots.len),
		.crl_pem = hb_strn(l->crl.p, l->crl.len),
		.file = l->paths->roots,
		.crl_file = l->paths->crl };
	struct hb_trust *t;
	struct hb_err err;

	if (l->paths->roots == NULL)
		note(&l->in->warnings,
			"there are no roots beside it: peers cannot be verified with it");
	if (l->in->n_roots == 0)
		return;
	if (hb_trust_new(&o, &t, &err) != 0) {
		note(&l->in->problems, "%s", err.text);
		return;
	}
	if (l->n_der > 0) {
		l->in->as_client = verify(l, t, HB_PURPOSE_CLIENT);
		l->in->as_server = verify(l, t, HB_PURPOSE_SERVER);
	}
	hb_trust_free(&t);
}

static void
look_at_all(struct look *l)
{
	struct hb_inspection *in = l->in;

	read_part(l, l->paths->chain, &l->chain);
	read_part(l, l->paths->key, &l->key);
	read_part(l, l->paths->roots, &l->roots);
	read_part(l, l->paths->crl, &l->crl);
	read_certs(l, &l->chain, l->paths->chain, HB_CHAIN_MAX, &in->chain, &in->n_chain, true);
	read_certs(l, &l->roots, l->paths->roots, HB_TRUST_MAX, &in->roots, &in->n_roots, false);
	look_at_key(l);
	for (size_t i = 0; i < in->n_chain; i++)
		look_at_dates(l, in->chain[i], "certificate", i + 1);
	for (size_t i = 0; i < in->n_roots; i++)
		look_at_dates(l, in->roots[i], "root", i + 1);
	if (in->n_chain > 0)
		look_at_identity(l);
	look_at_order(l);
	look_at_trust(l);
}

struct hb_inspection *
hb_inspect(const struct hb_identity_paths *paths, int64_t now_s)
{
	struct look l = { .paths = paths, .now_s = now_s };

	HB_NEW(l.in, HB_INSPECTION_MAGIC);
	hb_errs_init(&l.in->problems);
	hb_errs_init(&l.in->warnings);
	look_at_all(&l);
	for (size_t i = 0; i < l.n_der; i++)
		CRYPTO_BUFFER_free(l.der[i]);
	if (l.key.p != NULL)
		OPENSSL_cleanse(l.key.p, l.key.cap);
	hb_text_fini(&l.chain);
	hb_text_fini(&l.key);
	hb_text_fini(&l.roots);
	hb_text_fini(&l.crl);
	return (l.in);
}

static void
infos_free(struct hb_cert_info **v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		hb_cert_info_free(&v[i]);
	hb_free(v);
}

void
hb_inspection_free(struct hb_inspection **pin)
{
	struct hb_inspection *in = *pin;

	HB_CHECK(in, HB_INSPECTION_MAGIC);
	*pin = NULL;
	infos_free(in->chain, in->n_chain);
	infos_free(in->roots, in->n_roots);
	hb_errs_fini(&in->problems);
	hb_errs_fini(&in->warnings);
	HB_DEL(in);
}

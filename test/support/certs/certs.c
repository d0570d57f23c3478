/* SPDX-License-Identifier: Apache-2.0 */
#include "test/support/certs/certs.h"

#include <stdio.h>
#include <time.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/curve25519.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#define HOUR  3600
#define YEARS (10 * 365 * 24 * HOUR)

static EVP_PKEY *
ec_key(int nid)
{
	EC_KEY *ec = EC_KEY_new_by_curve_name(nid);
	EVP_PKEY *key = EVP_PKEY_new();

	HB_ASSERT(EC_KEY_generate_key(ec) == 1);
	HB_ASSERT(EVP_PKEY_assign_EC_KEY(key, ec) == 1);
	return (key);
}

static EVP_PKEY *
rsa_key(int bits)
{
	EVP_PKEY *key = EVP_PKEY_new();
	RSA *rsa = RSA_new();
	BIGNUM *e = BN_new();

	HB_ASSERT(BN_set_word(e, RSA_F4) == 1);
	HB_ASSERT(RSA_generate_key_ex(rsa, bits, e, NULL) == 1);
	HB_ASSERT(EVP_PKEY_assign_RSA(key, rsa) == 1);
	BN_free(e);
	return (key);
}

static EVP_PKEY *
ed25519_key(void)
{
	uint8_t pub[ED25519_PUBLIC_KEY_LEN], priv[ED25519_PRIVATE_KEY_LEN];

	ED25519_keypair(pub, priv);
	return (EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, priv, 32));
}

static EVP_PKEY *
make_key(enum hb_test_key kind)
{
	switch (kind) {
	case HB_TEST_P384:
		return (ec_key(NID_secp384r1));
	case HB_TEST_RSA2048:
		return (rsa_key(2048));
	case HB_TEST_RSA1024:
		return (rsa_key(1024));
	case HB_TEST_ED25519:
		return (ed25519_key());
	case HB_TEST_P256:
	default:
		return (ec_key(NID_X9_62_prime256v1));
	}
}

static void
extension(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;
	char *copy = hb_strdup(value);

	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	ext = X509V3_EXT_nconf_nid(NULL, &ctx, nid, copy);
	HB_ASSERT(ext != NULL);
	HB_ASSERT(X509_add_ext(x, ext, -1) == 1);
	X509_EXTENSION_free(ext);
	hb_free(copy);
}

static void
extensions(X509 *x, X509 *issuer, const struct hb_test_cert_options *o)
{
	unsigned eku = o->eku == 0 ? HB_TEST_EKU_CLIENT | HB_TEST_EKU_SERVER : o->eku;
	char text[64];

	if (o->ca) {
		if (o->pathlen >= 0)
			(void)snprintf(
				text, sizeof text, "critical,CA:TRUE,pathlen:%d", o->pathlen);
		else
			(void)snprintf(text, sizeof text, "critical,CA:TRUE");
		extension(x, issuer, NID_basic_constraints, text);
		extension(x, issuer, NID_key_usage, "critical,keyCertSign,cRLSign");
	} else {
		extension(x, issuer, NID_basic_constraints, "critical,CA:FALSE");
		extension(x, issuer, NID_key_usage,
			o->key_usage != NULL ? o->key_usage : "critical,digitalSignature");
		if (!(eku & HB_TEST_EKU_NONE))
			extension(x, issuer, NID_ext_key_usage,
				eku == HB_TEST_EKU_CLIENT         ? "clientAuth" :
					eku == HB_TEST_EKU_SERVER ? "serverAuth" :
								    "serverAuth,clientAuth");
	}
	if (o->sans != NULL)
		extension(x, issuer, NID_subject_alt_name, o->sans);
}

static char *
bio_text(BIO *bio)
{
	const uint8_t *p;
	size_t n;
	char *text;

	HB_ASSERT(BIO_mem_contents(bio, &p, &n) == 1);
	text = hb_strndup((const char *)p, n);
	BIO_free(bio);
	return (text);
}

static char *
cert_pem(X509 *x)
{
	BIO *bio = BIO_new(BIO_s_mem());

	HB_ASSERT(PEM_write_bio_X509(bio, x) == 1);
	return (bio_text(bio));
}

static void
set_serial(X509 *x)
{
	static uint32_t next;
	ASN1_INTEGER *serial = ASN1_INTEGER_new();

	HB_ASSERT(ASN1_INTEGER_set(serial,
			  (long)(0x1000 + __atomic_add_fetch(&next, 1, __ATOMIC_RELAXED))) == 1);
	HB_ASSERT(X509_set_serialNumber(x, serial) == 1);
	ASN1_INTEGER_free(serial);
}

struct hb_test_cert *
hb_test_cert_new(const struct hb_test_cert_options *o)
{
	struct hb_test_cert *c = hb_calloc(1, sizeof *c);
	bool dates = o->from_s != 0 || o->to_s != 0;
	time_t now = time(NULL);
	X509 *issuer;
	EVP_PKEY *sign;
	X509_NAME *name;

	c->x = X509_new();
	c->key = make_key(o->key);
	issuer = o->issuer == NULL ? c->x : o->issuer->x;
	sign = o->issuer == NULL ? c->key : o->issuer->key;
	HB_ASSERT(X509_set_version(c->x, X509_VERSION_3) == 1);
	set_serial(c->x);
	name = X509_get_subject_name(c->x);
	if (o->cn != NULL)
		HB_ASSERT(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
				  (const uint8_t *)o->cn, -1, -1, 0) == 1);
	HB_ASSERT(X509_set_issuer_name(c->x, X509_get_subject_name(issuer)) == 1);
	HB_ASSERT(ASN1_TIME_set((ASN1_TIME *)X509_getm_notBefore(c->x),
			  now + (dates ? o->from_s : -HOUR)) != NULL);
	HB_ASSERT(ASN1_TIME_set((ASN1_TIME *)X509_getm_notAfter(c->x),
			  now + (dates ? o->to_s : YEARS)) != NULL);
	HB_ASSERT(X509_set_pubkey(c->x, c->key) == 1);
	extensions(c->x, issuer, o);
	HB_ASSERT(X509_sign(c->x, sign,
			  EVP_PKEY_id(sign) == EVP_PKEY_ED25519 ? NULL : EVP_sha256()) != 0);
	c->pem = cert_pem(c->x);
	/* A root is not sent. */
	if (o->issuer != NULL && X509_check_issued(o->issuer->x, o->issuer->x) != X509_V_OK)
		c->chain_pem = hb_asprintf("%s%s", c->pem, o->issuer->chain_pem);
	else
		c->chain_pem = hb_strdup(c->pem);
	c->key_pem = hb_test_key_pem(c, HB_TEST_KEY_PKCS8, NULL);
	return (c);
}

void
hb_test_cert_free(struct hb_test_cert **pc)
{
	struct hb_test_cert *c = *pc;

	if (c == NULL)
		return;
	*pc = NULL;
	X509_free(c->x);
	EVP_PKEY_free(c->key);
	hb_free(c->pem);
	hb_free(c->chain_pem);
	hb_free(c->key_pem);
	hb_free(c);
}

struct hb_test_cert *
hb_test_root(const char *cn)
{
	struct hb_test_cert_options o = { .cn = cn, .ca = true, .pathlen = -1 };

	return (hb_test_cert_new(&o));
}

struct hb_test_cert *
hb_test_leaf(const struct hb_test_cert *issuer, const char *sans)
{
	struct hb_test_cert_options o = { .issuer = issuer, .sans = sans };

	if (sans == NULL)
		o.cn = "no names";
	return (hb_test_cert_new(&o));
}

char *
hb_test_crl(const struct hb_test_cert *issuer, const struct hb_test_cert *revoked)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *t = ASN1_TIME_new();
	X509_REVOKED *entry;
	BIO *bio = BIO_new(BIO_s_mem());

	HB_ASSERT(X509_CRL_set_version(crl, X509_CRL_VERSION_2) == 1);
	HB_ASSERT(X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->x)) == 1);
	HB_ASSERT(ASN1_TIME_set(t, time(NULL) - HOUR) != NULL);
	HB_ASSERT(X509_CRL_set1_lastUpdate(crl, t) == 1);
	if (revoked != NULL) {
		entry = X509_REVOKED_new();
		HB_ASSERT(X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revoked->x)) ==
			1);
		HB_ASSERT(X509_REVOKED_set_revocationDate(entry, t) == 1);
		HB_ASSERT(X509_CRL_add0_revoked(crl, entry) == 1);
	}
	HB_ASSERT(ASN1_TIME_set(t, time(NULL) + YEARS) != NULL);
	HB_ASSERT(X509_CRL_set1_nextUpdate(crl, t) == 1);
	HB_ASSERT(X509_CRL_sign(crl, issuer->key, EVP_sha256()) != 0);
	HB_ASSERT(PEM_write_bio_X509_CRL(bio, crl) == 1);
	ASN1_TIME_free(t);
	X509_CRL_free(crl);
	return (bio_text(bio));
}

char *
hb_test_key_pem(const struct hb_test_cert *c, enum hb_test_key_form form, const char *password)
{
	BIO *bio = BIO_new(BIO_s_mem());
	bool secret = form == HB_TEST_KEY_PKCS8_ENCRYPTED ||
		form == HB_TEST_KEY_TRADITIONAL_ENCRYPTED;
	const EVP_CIPHER *cipher = secret ? EVP_aes_256_cbc() : NULL;
	uint8_t *pw = secret ? (uint8_t *)(uintptr_t)password : NULL;
	int n = secret ? (int)strlen(password) : 0, r;

	if (form == HB_TEST_KEY_PKCS8 || form == HB_TEST_KEY_PKCS8_ENCRYPTED)
		r = PEM_write_bio_PKCS8PrivateKey(bio, c->key, cipher, (char *)pw, n, NULL, NULL);
	else if (EVP_PKEY_id(c->key) == EVP_PKEY_RSA)
		r = PEM_write_bio_RSAPrivateKey(
			bio, EVP_PKEY_get0_RSA(c->key), cipher, pw, n, NULL, NULL);
	else
		r = PEM_write_bio_ECPrivateKey(
			bio, EVP_PKEY_get0_EC_KEY(c->key), cipher, pw, n, NULL, NULL);
	HB_ASSERT(r == 1);
	return (bio_text(bio));
}

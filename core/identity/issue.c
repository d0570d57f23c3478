/* SPDX-License-Identifier: Apache-2.0 */
#include "core/identity/issue.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include "core/identity/identity.h"
#include "core/identity/info_priv.h"

#define DAY        86400
#define BACKDATE_S 300 /* clocks of peers differ */

void
hb_issued_fini(struct hb_issued *i)
{
	if (i->key.p != NULL)
		OPENSSL_cleanse(i->key.p, i->key.cap);
	hb_text_fini(&i->cert);
	hb_text_fini(&i->key);
}

/* ------------------------------------------------------------------ parts */

static EVP_PKEY *
new_key(void)
{
	EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
	EVP_PKEY *key = EVP_PKEY_new();

	HB_ASSERT(ec != NULL && key != NULL);
	HB_ASSERT(EC_KEY_generate_key(ec) == 1);
	HB_ASSERT(EVP_PKEY_assign_EC_KEY(key, ec) == 1);
	return (key);
}

static void
set_serial(X509 *x)
{
	uint8_t raw[16];
	BIGNUM *bn;

	HB_ASSERT(RAND_bytes(raw, sizeof raw) == 1);
	raw[0] = (raw[0] & 0x7f) | 0x40; /* positive, and always of this length */
	bn = BN_bin2bn(raw, sizeof raw, NULL);
	HB_ASSERT(bn != NULL);
	HB_ASSERT(BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(x)) != NULL);
	BN_free(bn);
}

static void
add_ext(X509 *x, int nid, void *value, bool critical)
{
	HB_ASSERT(X509_add1_ext_i2d(x, nid, value, critical, X509V3_ADD_DEFAULT) == 1);
}

static void
set_usage(X509 *x, bool ca)
{
	BASIC_CONSTRAINTS *bc = BASIC_CONSTRAINTS_new();
	ASN1_BIT_STRING *usage = ASN1_BIT_STRING_new();
	EXTENDED_KEY_USAGE *eku;

	HB_ASSERT(bc != NULL && usage != NULL);
	bc->ca = ca ? 0xff : 0; /* of DER */
	add_ext(x, NID_basic_constraints, bc, true);
	/* RFC 5280 4.2.1.3: digitalSignature 0, keyCertSign 5, cRLSign 6. */
	HB_ASSERT(ASN1_BIT_STRING_set_bit(usage, ca ? 5 : 0, 1) == 1);
	if (ca)
		HB_ASSERT(ASN1_BIT_STRING_set_bit(usage, 6, 1) == 1);
	add_ext(x, NID_key_usage, usage, true);
	BASIC_CONSTRAINTS_free(bc);
	ASN1_BIT_STRING_free(usage);
	if (ca)
		return;
	eku = sk_ASN1_OBJECT_new_null();
	HB_ASSERT(eku != NULL && sk_ASN1_OBJECT_push(eku, OBJ_nid2obj(NID_server_auth)) != 0 &&
		sk_ASN1_OBJECT_push(eku, OBJ_nid2obj(NID_client_auth)) != 0);
	add_ext(x, NID_ext_key_usage, eku, false);
	sk_ASN1_OBJECT_free(eku);
}

static void
add_name(GENERAL_NAMES *names, int type, const char *text)
{
	GENERAL_NAME *g = GENERAL_NAME_new();
	ASN1_IA5STRING *s = ASN1_IA5STRING_new();

	HB_ASSERT(g != NULL && s != NULL);
	HB_ASSERT(ASN1_STRING_set(s, text, (int)strlen(text)) == 1);
	GENERAL_NAME_set0_value(g, type, s);
	HB_ASSERT(sk_GENERAL_NAME_push(names, g) != 0);
}

/* Key identifiers help peers to find the issuer among roots of one name. */
static void
set_key_ids(X509 *x, X509 *issuer)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned n;
	ASN1_OCTET_STRING *skid = ASN1_OCTET_STRING_new();
	AUTHORITY_KEYID *akid;
	const ASN1_OCTET_STRING *of_issuer;

	HB_ASSERT(skid != NULL && X509_pubkey_digest(x, EVP_sha1(), digest, &n) == 1);
	HB_ASSERT(ASN1_OCTET_STRING_set(skid, digest, (int)n) == 1);
	add_ext(x, NID_subject_key_identifier, skid, false);
	ASN1_OCTET_STRING_free(skid);
	of_issuer = X509_get0_subject_key_id(issuer);
	if (of_issuer == NULL)
		return;
	akid = AUTHORITY_KEYID_new();
	HB_ASSERT(akid != NULL);
	akid->keyid = ASN1_OCTET_STRING_dup(of_issuer);
	HB_ASSERT(akid->keyid != NULL);
	add_ext(x, NID_authority_key_identifier, akid, false);
	AUTHORITY_KEYID_free(akid);
}

static void
add_subject(X509 *x, const char *field, const char *value)
{
	HB_ASSERT(X509_NAME_add_entry_by_txt(X509_get_subject_name(x), field, MBSTRING_UTF8,
			  (const uint8_t *)value, -1, -1, 0) == 1);
}

static X509 *
new_cert(EVP_PKEY *key, int64_t from_s, int64_t to_s)
{
	X509 *x = X509_new();

	HB_ASSERT(x != NULL && X509_set_version(x, X509_VERSION_3) == 1);
	set_serial(x);
	HB_ASSERT(ASN1_TIME_set(X509_getm_notBefore(x), from_s) != NULL);
	HB_ASSERT(ASN1_TIME_set(X509_getm_notAfter(x), to_s) != NULL);
	HB_ASSERT(X509_set_pubkey(x, key) == 1);
	return (x);
}

static void
take_text(BIO *bio, struct hb_text *ret)
{
	const uint8_t *p;
	size_t n;

	HB_ASSERT(BIO_mem_contents(bio, &p, &n) == 1);
	hb_text_add(ret, p, n);
	OPENSSL_cleanse((void *)(uintptr_t)p, n);
	BIO_free(bio);
}

static void
write_pem(X509 *x, EVP_PKEY *key, struct hb_issued *ret)
{
	BIO *cert = BIO_new(BIO_s_mem()), *secret = BIO_new(BIO_s_mem());

	memset(ret, 0, sizeof *ret);
	HB_ASSERT(cert != NULL && secret != NULL);
	HB_ASSERT(PEM_write_bio_X509(cert, x) == 1);
	HB_ASSERT(PEM_write_bio_PKCS8PrivateKey(secret, key, NULL, NULL, 0, NULL, NULL) == 1);
	take_text(cert, &ret->cert);
	take_text(secret, &ret->key);
}

/* ------------------------------------------------------------------ root */

int
hb_issue_root(const char *trust_domain, unsigned days, int64_t now_s, struct hb_issued *ret,
	struct hb_err *reterr)
{
	char *id = hb_asprintf("spiffe://%s", trust_domain);
	GENERAL_NAMES *names;
	struct hb_spiffe parsed;
	EVP_PKEY *key;
	X509 *x;

	if (hb_spiffe_parse(hb_str(id), &parsed, NULL) != 0 || parsed.path.len > 0) {
		hb_free(id);
		return (hb_err_set(reterr, -EINVAL,
			"\"%s\" is not a trust domain: use lower-case "
			"letters, digits, dots, dashes, such as cluster.local",
			trust_domain));
	}
	key = new_key();
	x = new_cert(key, now_s - BACKDATE_S, now_s + (int64_t)days * DAY);
	add_subject(x, "O", trust_domain);
	add_subject(x, "CN", "hbone TEST authority, not for production");
	HB_ASSERT(X509_set_issuer_name(x, X509_get_subject_name(x)) == 1);
	set_usage(x, true);
	names = sk_GENERAL_NAME_new_null();
	HB_ASSERT(names != NULL);
	add_name(names, GEN_URI, id);
	add_ext(x, NID_subject_alt_name, names, false);
	GENERAL_NAMES_free(names);
	set_key_ids(x, x);
	HB_ASSERT(X509_sign(x, key, EVP_sha256()) != 0);
	write_pem(x, key, ret);
	X509_free(x);
	EVP_PKEY_free(key);
	hb_free(id);
	return (0);
}

/* ------------------------------------------------------------------ leaf */

struct signer {
	X509 *x;
	EVP_PKEY *key;
};

static int
read_signer(struct hb_str pem, struct hb_str key_pem, struct signer *ret, struct hb_err *reterr)
{
	BIO *cert = BIO_new_mem_buf(pem.p, (int)pem.len);
	BIO *key = BIO_new_mem_buf(key_pem.p, (int)key_pem.len);
	int r = 0;

	HB_ASSERT(cert != NULL && key != NULL);
	ret->x = PEM_read_bio_X509(cert, NULL, NULL, NULL);
	ret->key = PEM_read_bio_PrivateKey(key, NULL, NULL, NULL);
	if (ret->x == NULL || ret->key == NULL || X509_check_private_key(ret->x, ret->key) != 1)
		r = hb_err_set(reterr, -EINVAL,
			"the authority's certificate and key cannot be read or do not fit: make one "
			"with ca init");
	else if (X509_check_ca(ret->x) == 0)
		r = hb_err_set(reterr, -EINVAL, "the certificate is not one of an authority");
	ERR_clear_error();
	BIO_free(cert);
	BIO_free(key);
	return (r);
}

static bool
is_dns_name(const char *z)
{
	size_t n = strlen(z);

	return (n > 0 && n <= 253 &&
		strspn(z, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_*") ==
			n);
}

static int
check(const struct hb_issue *o, const struct signer *s, int64_t now_s, struct hb_err *reterr)
{
	struct hb_spiffe id;
	int64_t end;

	if (hb_spiffe_parse(hb_str(o->id), &id, reterr) != 0)
		return (-EINVAL);
	if (id.path.len == 0)
		return (hb_err_set(reterr, -EINVAL,
			"\"%s\" names a trust domain: a workload is "
			"spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT",
			o->id));
	for (size_t i = 0; i < o->n_dns; i++)
		if (!is_dns_name(o->dns[i]))
			return (hb_err_set(reterr, -EINVAL, "\"%s\" is not a DNS name", o->dns[i]));
	if (!hb_identity__time(X509_get0_notAfter(s->x), &end) || now_s + o->life_s > end)
		return (hb_err_set(reterr, -EINVAL,
			"the authority ends in %lld days, before the "
			"certificate would: give fewer --days",
			(long long)((end - now_s) / DAY)));
	return (0);
}

static void
sign_leaf(const struct hb_issue *o, const struct signer *s, int64_t now_s, struct hb_issued *ret)
{
	EVP_PKEY *key = new_key();
	X509 *x = new_cert(key, now_s - BACKDATE_S, now_s + o->life_s);
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();

	HB_ASSERT(names != NULL);
	/* X509-SVID 4.1 and RFC 5280 4.2.1.6: no subject, so the names are critical. */
	HB_ASSERT(X509_set_issuer_name(x, X509_get_subject_name(s->x)) == 1);
	set_usage(x, false);
	add_name(names, GEN_URI, o->id);
	for (size_t i = 0; i < o->n_dns; i++)
		add_name(names, GEN_DNS, o->dns[i]);
	add_ext(x, NID_subject_alt_name, names, true);
	GENERAL_NAMES_free(names);
	set_key_ids(x, s->x);
	HB_ASSERT(X509_sign(x, s->key, EVP_sha256()) != 0);
	write_pem(x, key, ret);
	X509_free(x);
	EVP_PKEY_free(key);
}

int
hb_issue_leaf(const struct hb_issue *o, struct hb_str root_pem, struct hb_str root_key_pem,
	int64_t now_s, struct hb_issued *ret, struct hb_err *reterr)
{
	struct signer s = { NULL, NULL };
	int r = read_signer(root_pem, root_key_pem, &s, reterr);

	if (r == 0)
		r = check(o, &s, now_s, reterr);
	if (r == 0)
		sign_leaf(o, &s, now_s, ret);
	X509_free(s.x);
	EVP_PKEY_free(s.key);
	return (r);
}

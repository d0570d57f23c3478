/* SPDX-License-Identifier: Apache-2.0 */
#include "core/identity/info_priv.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/pool.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#define RSA_BITS_MIN 2048

struct password {
	struct hb_str text;
	bool asked;
};

static int
give_password(char *dst, int cap, int writing, void *arg)
{
	struct password *pw = arg;

	pw->asked = true;
	if (pw->text.len == 0 || cap < 0 || pw->text.len > (size_t)cap)
		return (-1);
	memcpy(dst, pw->text.p, pw->text.len);
	return ((int)pw->text.len);
}

static int
read_key(const struct hb_credential_pem *pem, EVP_PKEY **ret, struct hb_err *reterr)
{
	struct password pw = { .text = pem->password };
	const char *what = pem->key_file == NULL ? "the inline private key" : pem->key_file;
	BIO *bio;
	int reason;

	if (pem->key.len == 0)
		return (hb_err_set(reterr, -EINVAL,
			"%s is empty: give the private key of the "
			"certificate in PEM",
			what));
	bio = BIO_new_mem_buf(pem->key.p, (int)pem->key.len);
	HB_ASSERT(bio != NULL);
	ERR_clear_error();
	*ret = PEM_read_bio_PrivateKey(bio, NULL, give_password, &pw);
	BIO_free(bio);
	reason = ERR_GET_REASON(ERR_peek_last_error());
	ERR_clear_error();
	if (*ret != NULL)
		return (0);
	if (pw.asked && pem->password.len == 0)
		return (hb_err_set(reterr, -EINVAL, "%s is encrypted: give its password", what));
	if (pw.asked)
		return (hb_err_set(reterr, -EINVAL,
			"%s cannot be decrypted: the password is "
			"wrong, or the cipher is not supported",
			what));
	if (reason == PEM_R_NO_START_LINE)
		return (hb_err_set(reterr, -EINVAL,
			"%s holds no PEM private key (no line "
			"-----BEGIN PRIVATE KEY-----)",
			what));
	return (hb_err_set(reterr, -EINVAL,
		"%s cannot be read: damaged, or of a kind that is not "
		"supported (RSA, P-256, P-384 and P-521 are)",
		what));
}

static int
check_key(struct hb_credential *c, X509 *leaf, const struct hb_credential_pem *pem,
	struct hb_err *reterr)
{
	const char *what = pem->key_file == NULL ? "the inline private key" : pem->key_file;
	int nid;

	switch (EVP_PKEY_id(c->key)) {
	case EVP_PKEY_RSA:
		c->type = HB_KEY_RSA;
		if (EVP_PKEY_bits(c->key) < RSA_BITS_MIN)
			return (hb_err_set(reterr, -EINVAL,
				"%s is RSA of %d bits: at least %d are "
				"needed",
				what, EVP_PKEY_bits(c->key), RSA_BITS_MIN));
		break;
	case EVP_PKEY_EC:
		c->type = HB_KEY_EC;
		nid = EC_GROUP_get_curve_name(EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(c->key)));
		if (nid != NID_X9_62_prime256v1 && nid != NID_secp384r1 && nid != NID_secp521r1)
			return (hb_err_set(reterr, -EINVAL,
				"%s is on curve %s: only P-256, P-384 "
				"and P-521 are supported",
				what, OBJ_nid2sn(nid)));
		break;
	default:
		return (hb_err_set(reterr, -EINVAL,
			"%s is of a kind that is not supported: use "
			"RSA, P-256, P-384 or P-521",
			what));
	}
	if (X509_check_private_key(leaf, c->key) != 1) {
		ERR_clear_error();
		return (hb_err_set(reterr, -EINVAL,
			"%s does not belong to the first certificate "
			"of %s: issue or copy certificate and key together",
			what, pem->chain_file == NULL ? "the inline chain" : pem->chain_file));
	}
	return (0);
}

/* Every suite that we have needs a signature of the leaf; peers would refuse it as we do. */
static int
check_usage(X509 *leaf, const char *what, struct hb_err *reterr)
{
	if (X509_get_key_usage(leaf) & KU_DIGITAL_SIGNATURE)
		return (0);
	return (hb_err_set(reterr, -EINVAL,
		"the key usage of the first certificate of %s does not allow signatures: issue it "
		"with digitalSignature",
		what));
}

CRYPTO_BUFFER *
hb_identity__der(X509 *x)
{
	uint8_t *der = NULL;
	int n = i2d_X509(x, &der);
	CRYPTO_BUFFER *b;

	HB_ASSERT(n > 0);
	b = CRYPTO_BUFFER_new(der, (size_t)n, NULL);
	HB_ASSERT(b != NULL);
	OPENSSL_free(der);
	return (b);
}

int
hb_credential_new(
	const struct hb_credential_pem *pem, struct hb_credential **ret, struct hb_err *reterr)
{
	const char *what = pem->chain_file == NULL ? "the inline certificate chain" :
						     pem->chain_file;
	struct hb_credential *c;
	STACK_OF(X509) *sk = NULL;
	struct hb_err err;
	size_t i, n;
	int r;

	r = hb_identity__pem_certs(pem->chain, what, HB_CHAIN_MAX, &sk, reterr);
	if (r != 0)
		return (r);
	HB_NEW(c, HB_CREDENTIAL_MAGIC);
	c->refs = 1;
	n = sk_X509_num(sk);
	c->chain = hb_calloc(n, sizeof c->chain[0]);
	c->info = hb_calloc(n, sizeof c->info[0]);
	for (i = 0; i < n && r == 0; i++) {
		r = hb_identity__info(sk_X509_value(sk, i), &c->info[i], &err);
		if (r != 0) {
			r = hb_err_set(
				reterr, r, "certificate %zu of %s: %s", i + 1, what, err.text);
			break;
		}
		if (pem->chain_file != NULL)
			c->info[i]->file = hb_strdup(pem->chain_file);
		c->chain[i] = hb_identity__der(sk_X509_value(sk, i));
		c->n = i + 1;
	}
	if (r == 0)
		r = check_usage(sk_X509_value(sk, 0), what, reterr);
	if (r == 0)
		r = read_key(pem, &c->key, reterr);
	if (r == 0)
		r = check_key(c, sk_X509_value(sk, 0), pem, reterr);
	sk_X509_pop_free(sk, X509_free);
	if (r != 0)
		hb_credential_free(&c);
	else
		*ret = c;
	return (r);
}

struct hb_credential *
hb_credential_ref(struct hb_credential *c)
{
	HB_CHECK(c, HB_CREDENTIAL_MAGIC);
	c->refs++;
	return (c);
}

void
hb_credential_free(struct hb_credential **pc)
{
	struct hb_credential *c = *pc;
	size_t i;

	if (c == NULL)
		return;
	HB_CHECK(c, HB_CREDENTIAL_MAGIC);
	*pc = NULL;
	if (--c->refs > 0)
		return;
	hb_identity__unshare(&c->shared_as);
	for (i = 0; i < c->n; i++) {
		CRYPTO_BUFFER_free(c->chain[i]);
		hb_cert_info_free(&c->info[i]);
	}
	hb_free(c->chain);
	hb_free(c->info);
	EVP_PKEY_free(c->key);
	HB_DEL(c);
}

/* RFC 6125 6.4.3: a wildcard is the whole left-most label and stands for exactly one label. */
static bool
wildcard_covers(struct hb_str pattern, struct hb_str name)
{
	const char *dot = name.len == 0 ? NULL : memchr(name.p, '.', name.len);
	size_t skip;

	if (!hb_str_starts(pattern, HB_STR("*.")) || dot == NULL || dot == name.p)
		return (false);
	skip = (size_t)(dot - name.p);
	return (hb_str_ieq(
		hb_strn(pattern.p + 1, pattern.len - 1), hb_strn(name.p + skip, name.len - skip)));
}

bool
hb_dns_name_covers(struct hb_str pattern, struct hb_str name)
{
	return (hb_str_ieq(pattern, name) || wildcard_covers(pattern, name));
}

int
hb_credential_fits(const struct hb_credential *c, struct hb_str name)
{
	const struct hb_cert_info *leaf;
	struct hb_str value;
	int best = 0;
	size_t i;

	HB_CHECK(c, HB_CREDENTIAL_MAGIC);
	leaf = c->info[0];
	for (i = 0; i < leaf->n_san; i++) {
		if (leaf->san[i].type != HB_SAN_DNS)
			continue;
		value = hb_str(leaf->san[i].value);
		if (hb_str_ieq(value, name))
			return (2);
		if (wildcard_covers(value, name))
			best = 1;
	}
	return (best);
}

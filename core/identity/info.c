/* SPDX-License-Identifier: Apache-2.0 */
#include "core/identity/info_priv.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/pool.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

const char *
hb_identity__lib_error(const char *otherwise)
{
	uint32_t e = ERR_peek_last_error();
	const char *text = e == 0 ? NULL : ERR_reason_error_string(e);

	ERR_clear_error();
	return (text == NULL ? otherwise : text);
}

int
hb_identity__pem_certs(struct hb_str pem, const char *what, size_t max, STACK_OF(X509) * *ret,
	struct hb_err *reterr)
{
	BIO *bio = BIO_new_mem_buf(pem.p == NULL ? "" : pem.p, (int)pem.len);
	STACK_OF(X509) *sk = sk_X509_new_null();
	X509 *x;
	int r = 0;

	HB_ASSERT(bio != NULL && sk != NULL);
	ERR_clear_error();
	while (r == 0 && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		HB_ASSERT(sk_X509_push(sk, x) != 0);
		if (sk_X509_num(sk) > max)
			r = hb_err_set(
				reterr, -EINVAL, "%s has more than %zu certificates", what, max);
	}
	if (r == 0 && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		r = hb_err_set(reterr, -EINVAL, "certificate %zu of %s cannot be read: %s",
			sk_X509_num(sk) + 1, what, hb_identity__lib_error("damaged"));
	if (r == 0 && sk_X509_num(sk) == 0)
		r = hb_err_set(reterr, -EINVAL,
			"%s holds no PEM certificate (no line -----BEGIN "
			"CERTIFICATE-----)",
			what);
	ERR_clear_error();
	BIO_free(bio);
	if (r != 0)
		sk_X509_pop_free(sk, X509_free);
	else
		*ret = sk;
	return (r);
}

/* ------------------------------------------------------------------ text of parts */

static char *
name_text(X509_NAME *name)
{
	BIO *bio = BIO_new(BIO_s_mem());
	const uint8_t *p;
	size_t n;
	char *text;

	HB_ASSERT(bio != NULL);
	(void)X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253);
	HB_ASSERT(BIO_mem_contents(bio, &p, &n));
	text = hb_strndup((const char *)p, n);
	BIO_free(bio);
	return (text);
}

static char *
serial_text(X509 *x)
{
	BIGNUM *bn = ASN1_INTEGER_to_BN(X509_get_serialNumber(x), NULL);
	char *hex = bn == NULL ? NULL : BN_bn2hex(bn), *text;

	text = hb_strdup(hex == NULL ? "" : hex);
	hb_str_lower(text, strlen(text));
	OPENSSL_free(hex);
	BN_free(bn);
	return (text);
}

bool
hb_identity__time(const ASN1_TIME *t, int64_t *ret)
{
	static const int64_t epoch = 0;
	ASN1_TIME *zero = ASN1_TIME_set(NULL, epoch);
	int days = 0, secs = 0;
	bool ok = zero != NULL && ASN1_TIME_diff(&days, &secs, zero, t) == 1;

	ASN1_TIME_free(zero);
	*ret = ok ? (int64_t)days * 86400 + secs : 0;
	return (ok);
}

/* ------------------------------------------------------------------ subject alternative names */

static char *
ip_text(const ASN1_OCTET_STRING *s)
{
	char text[INET6_ADDRSTRLEN];
	int n = ASN1_STRING_length(s);

	if (n != 4 && n != 16)
		return (NULL);
	if (inet_ntop(n == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(s), text, sizeof text) ==
		NULL)
		return (NULL);
	return (hb_strdup(text));
}

static char *
ia5_text(const ASN1_IA5STRING *s)
{
	const unsigned char *p = ASN1_STRING_get0_data(s);
	int i, n = ASN1_STRING_length(s);

	if (n <= 0)
		return (NULL);
	for (i = 0; i < n; i++) {
		if (p[i] <= 0x20 || p[i] >= 0x7f)
			return (NULL);
	}
	return (hb_strndup((const char *)p, (size_t)n));
}

/* False when the name is one we keep but has no legal value. */
static bool
add_san(struct hb_cert_info *info, const GENERAL_NAME *g)
{
	struct hb_san *san = &info->san[info->n_san];

	switch (g->type) {
	case GEN_EMAIL:
		san->type = HB_SAN_EMAIL;
		san->value = ia5_text(g->d.rfc822Name);
		break;
	case GEN_DNS:
		san->type = HB_SAN_DNS;
		san->value = ia5_text(g->d.dNSName);
		if (san->value != NULL)
			hb_str_lower(san->value, strlen(san->value));
		break;
	case GEN_URI:
		san->type = HB_SAN_URI;
		san->value = ia5_text(g->d.uniformResourceIdentifier);
		break;
	case GEN_IPADD:
		san->type = HB_SAN_IP;
		san->value = ip_text(g->d.iPAddress);
		break;
	default:
		return (true);
	}
	if (san->value == NULL)
		return (false);
	info->n_san++;
	return (true);
}

static int
read_sans(X509 *x, struct hb_cert_info *info, struct hb_err *reterr)
{
	int critical = -1, r = 0;
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, &critical, NULL);
	size_t i, n;

	if (names == NULL) {
		ERR_clear_error();
		if (critical != -1)
			return (hb_err_set(reterr, -EINVAL,
				"the subject alternative names cannot "
				"be read"));
		return (0);
	}
	n = sk_GENERAL_NAME_num(names);
	if (n > HB_SANS_MAX) {
		r = hb_err_set(
			reterr, -EINVAL, "more than %u subject alternative names", HB_SANS_MAX);
	} else {
		info->san = hb_calloc(n + 1, sizeof *info->san);
		for (i = 0; i < n && r == 0; i++) {
			if (!add_san(info, sk_GENERAL_NAME_value(names, i)))
				r = hb_err_set(reterr, -EINVAL,
					"subject alternative name %zu has "
					"an illegal value",
					i + 1);
		}
	}
	GENERAL_NAMES_free(names);
	return (r);
}

static const char *
only_uri(const struct hb_cert_info *info)
{
	const char *uri = NULL;
	size_t i;

	for (i = 0; i < info->n_san; i++) {
		if (info->san[i].type != HB_SAN_URI)
			continue;
		if (uri != NULL)
			return (NULL);
		uri = info->san[i].value;
	}
	return (uri);
}

bool
hb_cert_san_any(const struct hb_cert_info *info, enum hb_san_type type,
	bool (*match)(const void *arg, struct hb_str value), const void *arg)
{
	size_t i, uris = 0;
	bool spiffe = false;

	HB_CHECK(info, HB_CERT_INFO_MAGIC);
	for (i = 0; i < info->n_san; i++) {
		if (info->san[i].type == HB_SAN_URI) {
			uris++;
			spiffe |= hb_str_starts(hb_str(info->san[i].value), HB_STR("spiffe://"));
		}
	}
	if (type == HB_SAN_URI && spiffe && uris > 1)
		return (false);
	for (i = 0; i < info->n_san; i++) {
		if (info->san[i].type == type && match(arg, hb_str(info->san[i].value)))
			return (true);
	}
	return (false);
}

/* ------------------------------------------------------------------ whole certificates */

static void
hex(char *dst, const uint8_t *p, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	size_t i;

	for (i = 0; i < n; i++) {
		dst[2 * i] = digits[p[i] >> 4];
		dst[2 * i + 1] = digits[p[i] & 15];
	}
	dst[2 * n] = '\0';
}

int
hb_identity__info(X509 *x, struct hb_cert_info **ret, struct hb_err *reterr)
{
	struct hb_cert_info *info;
	struct hb_spiffe spiffe;
	uint8_t digest[SHA256_DIGEST_LENGTH];
	unsigned len = 0;
	const char *uri;
	int r = 0;

	HB_NEW(info, HB_CERT_INFO_MAGIC);
	info->subject = name_text(X509_get_subject_name(x));
	info->issuer = name_text(X509_get_issuer_name(x));
	info->serial = serial_text(x);
	HB_ASSERT(X509_digest(x, EVP_sha256(), digest, &len) == 1 && len == sizeof digest);
	hex(info->sha256, digest, sizeof digest);
	if (!hb_identity__time(X509_get0_notBefore(x), &info->not_before) ||
		!hb_identity__time(X509_get0_notAfter(x), &info->not_after))
		r = hb_err_set(reterr, -EINVAL, "the validity dates cannot be read");
	if (r == 0)
		r = read_sans(x, info, reterr);
	ERR_clear_error();
	if (r != 0) {
		hb_cert_info_free(&info);
		return (r);
	}
	uri = only_uri(info);
	if (uri != NULL && hb_spiffe_parse(hb_str(uri), &spiffe, NULL) == 0)
		info->spiffe_id = hb_strdup(uri);
	*ret = info;
	return (0);
}

static X509 *
parse(const CRYPTO_BUFFER *der)
{
	X509 *x = X509_parse_from_buffer((CRYPTO_BUFFER *)(uintptr_t)der);

	ERR_clear_error();
	return (x);
}

int
hb_cert_info_new(const CRYPTO_BUFFER *der, struct hb_cert_info **ret, struct hb_err *reterr)
{
	X509 *x = parse(der);
	int r;

	if (x == NULL)
		return (hb_err_set(reterr, -EINVAL, "not a certificate"));
	r = hb_identity__info(x, ret, reterr);
	X509_free(x);
	return (r);
}

bool
hb_cert_spki_sha256(const CRYPTO_BUFFER *der, uint8_t ret[32])
{
	X509 *x = parse(der);
	uint8_t *spki = NULL;
	int n;

	if (x == NULL)
		return (false);
	n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &spki);
	if (n > 0)
		SHA256(spki, (size_t)n, ret);
	OPENSSL_free(spki);
	X509_free(x);
	return (n > 0);
}

void
hb_cert_sha256(const CRYPTO_BUFFER *der, uint8_t ret[32])
{
	SHA256(CRYPTO_BUFFER_data(der), CRYPTO_BUFFER_len(der), ret);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/support/certs/certs.h: certificates made when a test runs, so that none can expire in the
 * tree. P-256 unless asked otherwise; valid from an hour ago for ten years unless asked otherwise.
 */
#ifndef HB_TEST_SUPPORT_CERTS_H
#define HB_TEST_SUPPORT_CERTS_H

#include "core/base/base.h"

struct x509_st;
struct evp_pkey_st;

enum hb_test_key { HB_TEST_P256, HB_TEST_P384, HB_TEST_RSA2048, HB_TEST_RSA1024, HB_TEST_ED25519 };

#define HB_TEST_EKU_CLIENT 1u
#define HB_TEST_EKU_SERVER 2u
#define HB_TEST_EKU_NONE   4u /* no extended key usage at all */

struct hb_test_cert {
	struct x509_st     *x;
	struct evp_pkey_st *key;
	char *pem;       /* this certificate                                                  */
	char *chain_pem; /* with its issuers below a root, leaf first: what a server sends    */
	char *key_pem;   /* PKCS#8                                                            */
};

struct hb_test_cert_options {
	const char *cn;          /* NULL = empty subject                                      */
	const char *sans;        /* "URI:spiffe://…,DNS:a.example,IP:127.0.0.1"; NULL = none  */
	const struct hb_test_cert *issuer; /* NULL = signed by itself                         */
	int64_t     from_s, to_s; /* relative to now; both 0 = the default                    */
	unsigned    eku;         /* 0 = both                                                  */
	const char *key_usage;   /* of a leaf; NULL = "critical,digitalSignature"             */
	bool        ca;
	int         pathlen;     /* of a CA; 0 = none below it, -1 = no limit                 */
	enum hb_test_key key;
};

struct hb_test_cert *hb_test_cert_new(const struct hb_test_cert_options *);
void hb_test_cert_free(struct hb_test_cert **);

/* Shorthands. */
struct hb_test_cert *hb_test_root(const char *cn);
struct hb_test_cert *hb_test_leaf(const struct hb_test_cert *issuer, const char *sans);

/* A revocation list of the issuer with one certificate in it (NULL = an empty list); owned text. */
char *hb_test_crl(const struct hb_test_cert *issuer, const struct hb_test_cert *revoked);

enum hb_test_key_form {
	HB_TEST_KEY_PKCS8,
	HB_TEST_KEY_PKCS8_ENCRYPTED,
	HB_TEST_KEY_TRADITIONAL,           /* SEC1 or PKCS#1 */
	HB_TEST_KEY_TRADITIONAL_ENCRYPTED,
};
/* Owned text. */
char *hb_test_key_pem(const struct hb_test_cert *, enum hb_test_key_form, const char *password);

#endif

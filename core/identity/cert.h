/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/identity/cert.h: certificates with keys, trust anchors, verification. For the TLS transport
 * and for who describes certificates (/certs); the library's X.509 types stay inside the room.
 *
 * All objects are frozen after creation and may be used by every worker.
 */
#ifndef HB_CORE_IDENTITY_CERT_H
#define HB_CORE_IDENTITY_CERT_H

#include "core/base/list.h"
#include "core/identity/identity.h"

struct crypto_buffer_st; /* CRYPTO_BUFFER: the DER of one certificate */
struct evp_pkey_st;      /* EVP_PKEY */

#define HB_CHAIN_MAX 32u    /* certificates in a chain of ours           */
#define HB_TRUST_MAX 16384u /* anchors in a bundle, and CRLs beside them */

/* ------------------------------------------------------------------ certificates with keys */

enum hb_key_type { HB_KEY_RSA, HB_KEY_EC };

struct hb_credential {
	unsigned magic;
#define HB_CREDENTIAL_MAGIC 0x2b7a90d1
	unsigned                  refs; /* private */
	char                     *shared_as; /* private; NULL = not shared         */
	struct hb_list            serving;   /* private, of expiry.c               */
	unsigned                  serves, warned; /* private, of expiry.c          */
	struct crypto_buffer_st **chain; /* n entries, leaf first              */
	struct hb_cert_info     **info;  /* of the same, in the same order     */
	size_t                    n;
	struct evp_pkey_st       *key;
	enum hb_key_type          type;
};

struct hb_credential_pem {
	struct hb_str chain, key, password; /* texts; password empty = none                    */
	const char   *chain_file, *key_file; /* for messages; NULL = "inline certificate" …    */
};

/*
 * Reads a chain (leaf first) and its key: PKCS#8 (also encrypted), SEC1 or PKCS#1. RSA of 2048 bits
 * and more, P-256, P-384 and P-521. Refuses a key that does not belong to the leaf. -EINVAL.
 */
int  hb_credential_new(const struct hb_credential_pem *, struct hb_credential **ret,
    struct hb_err *reterr);
/* The one of the same texts that somebody has already, or a new one, to share. */
int  hb_credential_shared(const struct hb_credential_pem *, struct hb_credential **ret,
    struct hb_err *reterr);
/* One more owner. Owners come and go on one thread, the control thread. */
struct hb_credential *hb_credential_ref(struct hb_credential *);
void hb_credential_free(struct hb_credential **);
/* How well the leaf's DNS names fit: 2 = one is the name, 1 = a wildcard covers it, 0 = no. */
int hb_credential_fits(const struct hb_credential *, struct hb_str name);

/* A DNS name of a certificate stands for `name` (RFC 6125 section 6.4.3): equal but for case, or a
 * wildcard as its whole first label. */
bool hb_dns_name_covers(struct hb_str pattern, struct hb_str name);

/* ------------------------------------------------------------------ trust */

struct hb_trust_options {
	struct hb_str pem;           /* anchors: roots, or intermediates that are trusted as such */
	struct hb_str crl_pem;       /* lists, all in PEM or all in DER, one after the other;
	                              * empty = no revocation check                               */
	bool          crl_leaf_only; /* false: a CRL is needed for each issuer of the chain       */
	bool          allow_expired; /* dates of peers' certificates do not count                 */
	unsigned      max_depth;     /* certificates above the leaf, the anchor too; 0 = 100      */
	const char   *file, *crl_file; /* for messages; NULL = inline                             */
};

struct hb_trust;

int  hb_trust_new(const struct hb_trust_options *, struct hb_trust **ret, struct hb_err *reterr);
/* The one of the same texts and options that somebody has already, or a new one, to share. */
int  hb_trust_shared(const struct hb_trust_options *, struct hb_trust **ret,
    struct hb_err *reterr);
/* One more owner. Owners come and go on one thread, the control thread. */
struct hb_trust *hb_trust_ref(struct hb_trust *);
void hb_trust_free(struct hb_trust **);
/* What the anchors say; borrowed. */
size_t hb_trust_info(const struct hb_trust *, const struct hb_cert_info *const **ret);
/* DER names of the anchors for a CertificateRequest, fresh buffers owned by the caller; at most
 * `max`. Returns how many were written. */
size_t hb_trust_names(const struct hb_trust *, struct crypto_buffer_st **ret, size_t max);

/* When the first revocation list is due for replacement, in seconds since 1970; after that nobody
 * is verified. INT64_MAX = never, or there is no list. */
int64_t hb_trust_crl_due(const struct hb_trust *);

enum hb_purpose { HB_PURPOSE_CLIENT, HB_PURPOSE_SERVER }; /* what the peer is */

struct hb_verdict {
	int         error; /* 0 = verified; else an X509_V_ERR_… number (for the choice of an alert) */
	int         depth; /* of the certificate at fault, 0 = leaf                                */
	const char *text;  /* static; NULL when verified                                           */
	/* Verified: the answer stays the same at any time from_s <= t < until_s (validity of every
	 * certificate up to the anchor, and of the revocation lists); seconds since 1970. */
	int64_t     from_s, until_s;
};

/*
 * Verifies a peer's chain (leaf first) against the anchors at the time `now_s`: signatures,
 * validity, basic constraints and path length, key usage and extended key usage for the purpose,
 * depth, CRLs. Names are not looked at: see hb_cert_san_any.
 */
struct hb_verdict hb_trust_verify(const struct hb_trust *, struct crypto_buffer_st *const *chain,
    size_t n, enum hb_purpose, int64_t now_s);

/* The same for a peer that verified before: the dates of its certificates do not count, for a
 * connection may outlive them, nor does a revocation list that is overdue or missing; revocation
 * and a root that is gone do. */
struct hb_verdict hb_trust_recheck(const struct hb_trust *, struct crypto_buffer_st *const *chain,
    size_t n, enum hb_purpose, int64_t now_s);
/* SHA-256 (32 bytes, borrowed) of the anchors, the lists and the options: two trust objects with one
 * digest verify the same chains, in any process. */
const uint8_t *hb_trust_digest(const struct hb_trust *);
/* Differs between any two trust objects of this process; never 0. */
uint64_t hb_trust_id(const struct hb_trust *);

/* ------------------------------------------------------------------ what a certificate says */

/*
 * -EINVAL when it is not a certificate, has more than HB_SANS_MAX names, or a name with bytes that
 * no name of its kind may have (NUL, blanks, control characters, beyond ASCII).
 */
#define HB_SANS_MAX 256u
int hb_cert_info_new(const struct crypto_buffer_st *der, struct hb_cert_info **ret,
    struct hb_err *reterr);
/* SHA-256 of the SubjectPublicKeyInfo / of the certificate. False = not a certificate. */
bool hb_cert_spki_sha256(const struct crypto_buffer_st *der, uint8_t ret[32]);
void hb_cert_sha256(const struct crypto_buffer_st *der, uint8_t ret[32]);

/*
 * True when `match` accepts one SAN of this type. A certificate that names a SPIFFE id must have it
 * as its only URI (X509-SVID section 2): with a second URI no URI of it is ever accepted.
 */
bool hb_cert_san_any(const struct hb_cert_info *, enum hb_san_type,
    bool (*match)(const void *arg, struct hb_str value), const void *arg);

#endif

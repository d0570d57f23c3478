/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/identity/info_priv.h: between the sources of this room.
 */
#ifndef HB_CORE_IDENTITY_INFO_PRIV_H
#define HB_CORE_IDENTITY_INFO_PRIV_H

#include <openssl/x509.h>
#include "core/identity/cert.h"

int hb_identity__info(X509 *, struct hb_cert_info **ret, struct hb_err *reterr);

/* Seconds since 1970. */
bool hb_identity__time(const ASN1_TIME *, int64_t *ret);

/*
 * The certificates of a PEM text in order. `what` names the text in errors. Fails when there is
 * none, more than `max`, or one that does not parse. The caller frees the stack and its entries.
 */
int hb_identity__pem_certs(struct hb_str pem, const char *what, size_t max, STACK_OF(X509) **ret,
    struct hb_err *reterr);

/* Empties the library's error queue and returns the text of its newest entry (static storage of
 * the library), or `otherwise`. */
const char *hb_identity__lib_error(const char *otherwise);

/* The DER of a certificate; the caller frees it. */
CRYPTO_BUFFER *hb_identity__der(X509 *);

/* The object is gone: nobody finds it any more. Frees the name; NULL = was never shared. */
void hb_identity__unshare(char **name);

/* See hb_trust_digest. */
void hb_identity__trust_digest(const struct hb_trust_options *, uint8_t ret[32]);

/* What trust.c knows of a trust object that is shared. */
char **hb_identity__trust_name(struct hb_trust *);

/* What expiry.c keeps of a trust object, a part of it. */
struct hb_identity__serving {
	struct hb_list   node;
	struct hb_trust *trust;
	unsigned         n;
	int64_t          warned_s;
};
struct hb_identity__serving *hb_identity__trust_serving(struct hb_trust *);

#endif

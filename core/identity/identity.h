/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/identity/identity.h: SPIFFE ids, what a certificate says, and what is accepted.
 *
 * No network I/O. Parsed objects are frozen after creation and shared by workers; who created
 * them frees them (through hb_retire once published). An identity comes from a verified
 * certificate only.
 */
#ifndef HB_CORE_IDENTITY_IDENTITY_H
#define HB_CORE_IDENTITY_IDENTITY_H

#include "core/base/err.h"
#include "core/base/str.h"

/* spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT (SPIFFE-ID section 2; Istio's path form).
 * All parts borrowed from the text that was parsed. */
struct hb_spiffe {
	struct hb_str trust_domain, path; /* path with its leading slash; "" = none       */
	struct hb_str ns, sa;             /* empty when the path is not of Istio's form   */
};
/* 0 or -EINVAL with the reason. At most 2048 bytes, lower-case trust domain, no empty or dot
 * segments, no port, query or fragment. */
int hb_spiffe_parse(struct hb_str uri, struct hb_spiffe *ret, struct hb_err *reterr);

enum hb_san_type { HB_SAN_EMAIL = 1, HB_SAN_DNS = 2, HB_SAN_URI = 3, HB_SAN_IP = 4 };

struct hb_san {
	enum hb_san_type type;
	char            *value; /* text; IP addresses in their usual notation */
};

/* What one certificate says. Owned as a whole: hb_cert_info_free. */
struct hb_cert_info {
	unsigned       magic;
#define HB_CERT_INFO_MAGIC 0x1c0ffee5
	char          *subject, *issuer; /* RFC 2253 text                                       */
	char          *serial;           /* lower-case hex                                      */
	char           sha256[65];       /* of the DER, lower-case hex                          */
	int64_t        not_before, not_after; /* seconds since 1970                             */
	struct hb_san *san;
	size_t         n_san;            /* at most 256 are kept; more refuses the certificate   */
	char          *spiffe_id;        /* the only URI SAN, when it is a SPIFFE id, else NULL  */
	char          *file;             /* where it was read; NULL = inline, or a peer's        */
};
void hb_cert_info_free(struct hb_cert_info **);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/identity/info_priv.h: between the sources of this room.
 */
#ifndef HB_CORE_IDENTITY_INFO_PRIV_H
#define HB_CORE_IDENTITY_INFO_PRIV_H

#include <openssl/x509.h>
#include "core/identity/cert.h"

int hb_identity__info(X509 *, struct hb_cert_info **ret, struct hb_err *reterr);

/*
 * The certificates of a PEM text in order. `what` names the text in errors. Fails when there is
 * none, more than `max`, or one that does not parse. The caller frees the stack and its entries.
 */
int hb_identity__pem_certs(struct hb_str pem, const char *what, size_t max, STACK_OF(X509) **ret,
    struct hb_err *reterr);

/* Empties the library's error queue and returns the text of its newest entry (static storage of
 * the library), or `otherwise`. */
const char *hb_identity__lib_error(const char *otherwise);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/identity/expiry.h: how long our certificates and the revocation lists are still good.
 *
 * Only what new handshakes use counts: an old certificate that live connections keep is no reason
 * to worry. Control thread.
 */
#ifndef HB_CORE_IDENTITY_EXPIRY_H
#define HB_CORE_IDENTITY_EXPIRY_H

#include "core/identity/cert.h"

/* One context for new handshakes more, or one less, uses it. */
void hb_credential_serves(struct hb_credential *, bool on);
void hb_trust_serves(struct hb_trust *, bool on);

/* When the first certificate of our chains in use ends, in seconds since 1970; INT64_MAX = none. */
int64_t hb_identity_first_expiry(void);
/* Whole days until then, 0 when it has passed, UINT32_MAX (as Envoy) without any certificate. */
int64_t hb_identity_days_left(int64_t now_s);
/* Certificates in use whose chain has ended. */
size_t hb_identity_expired(int64_t now_s);

/*
 * Logs a warning once a certificate and occasion: 30, 7 and 1 days before its end (where that is
 * less than half of its life), past 80 % of its life without a new one, and when it has ended; and
 * once a day for a revocation list that is overdue.
 */
void hb_identity_check_expiry(int64_t now_s);
/* Warnings since the start. */
uint64_t hb_identity_expiry_warnings(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/http/h2.h"

/* docs/hbone.md shows it to users. What is not named here is 503: no way to the upstream. */
static const uint16_t table[HB_CLOSE_MAX][HB_H2_FLAVOUR_MAX] = {
	/* reason                     Istio, Envoy */
	[HB_CLOSE_PROTOCOL_ERROR] = { 400, 400 },
	[HB_CLOSE_RBAC_DENIED] = { 401, 403 },
	[HB_CLOSE_REVOKED] = { 401, 403 },
	[HB_CLOSE_NO_FILTER_CHAIN] = { 503, 404 },
	[HB_CLOSE_NO_ROUTE] = { 503, 404 },
	[HB_CLOSE_UNKNOWN_SNI] = { 503, 404 },
	[HB_CLOSE_RATE_LIMITED] = { 429, 429 },
	[HB_CLOSE_CONNECT_TIMEOUT] = { 504, 503 },
	[HB_CLOSE_ATTEMPTS_TIMEOUT] = { 504, 503 },
	[HB_CLOSE_TLS_TIMEOUT] = { 504, 503 },
};

unsigned
hb_h2_status(enum hb_h2_flavour flavour, enum hb_close_reason reason)
{
	HB_ASSERT(reason < HB_CLOSE_MAX && flavour < HB_H2_FLAVOUR_MAX);
	return (table[reason][flavour] == 0 ? 503 : table[reason][flavour]);
}

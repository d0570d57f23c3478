/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filters/network/sni_router/route.h: from a server name to a cluster. Frozen once built; lookups
 * do not allocate but for the text of an Istio name's cluster.
 */
#ifndef HB_FILTERS_NETWORK_SNI_ROUTER_ROUTE_H
#define HB_FILTERS_NETWORK_SNI_ROUTER_ROUTE_H

#include "core/base/err.h"
#include "core/base/str.h"

/* outbound_.PORT_.SUBSET_.HOST; the subset may be empty. Parts are borrowed from the name. */
struct sni_istio {
	struct hb_str port, subset, host;
};
/* False: not of this form (the port is a decimal number from 1 to 65535, the host not empty). */
bool sni_istio_parse(struct hb_str sni, struct sni_istio *ret);

/* "outbound|{port}|{subset}|{host}" in pieces. */
struct sni_format;
/* NULL with *ret_bad = the unknown piece ("{prot}"). */
struct sni_format *sni_format_new(struct hb_str text, struct hb_str *ret_bad);
void sni_format_free(struct sni_format **);
void sni_format_write(const struct sni_format *, struct hb_str sni, const struct sni_istio *,
    struct hb_text *);

struct sni_routes;
struct sni_routes *sni_routes_new(void);
void sni_routes_free(struct sni_routes **);
/*
 * `name`: exact, "*.suffix" or "*"; any case. `cluster` is copied. -EEXIST: the name is there
 * already; -EINVAL: not such a name.
 */
int sni_routes_add(struct sni_routes *, struct hb_str name, const char *cluster,
    struct hb_err *reterr);
/* Exact name, else the longest suffix, else "*". NULL = none. *ret_kind: "exact", "wildcard" or
 * "any". `sni` is lower case and not empty. */
const char *sni_routes_find(const struct sni_routes *, struct hb_str sni, const char **ret_kind);

#endif

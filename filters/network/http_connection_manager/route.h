/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filters/network/http_connection_manager/route.h: routes of CONNECT requests and of tunnel POSTs,
 * frozen. Each has a filter chain, a tcp_proxy to its cluster, or a status to answer.
 */
#ifndef HB_FILTERS_NETWORK_HTTP_CONNECTION_MANAGER_ROUTE_H
#define HB_FILTERS_NETWORK_HTTP_CONNECTION_MANAGER_ROUTE_H

#include "core/filter/chain_set.h"
#include "core/http/h2.h"
#include "envoy/config/route/v3/route.pb-c.h"

struct hcm_routes;

struct hcm_route_source {
	const char *stat_prefix;
	uint64_t idle_ms;      /* of routes that say nothing; 0 = none */
	bool connect;          /* the connection manager allows CONNECT */
};

/* NULL after reporting. */
struct hcm_routes *hcm_routes_compile(struct hb_cfg *, const void *owner_msg,
	const Envoy__Config__Route__V3__RouteConfiguration *, const struct hcm_route_source *);
void hcm_routes_free(struct hcm_routes **);
/* Some route takes POST requests. */
bool hcm_routes_post(const struct hcm_routes *);

struct hcm_found { /* of the first route that matches; all zero when none does */
	const struct hb_chain *chain;
	unsigned status; /* to be answered at once                     */
	bool forbidden;  /* it does not allow CONNECT                  */
};
struct hcm_found hcm_routes_find(const struct hcm_routes *, const struct hb_h2_request *);

#endif

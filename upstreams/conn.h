/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/conn.h: an established connection, watched until it is gone: what it counts on cluster
 * and endpoint, and the strings that its owner may show meanwhile. On its worker.
 */
#ifndef HB_UPSTREAMS_CONN_H
#define HB_UPSTREAMS_CONN_H

#include "core/filter/conn.h"
#include "upstreams/cluster.h"

/* Bytes of living connections come into the counters after at most so long. */
#define HB_UPCONN_COUNT_MS 5000u

/*
 * Watches t. Takes the pin, the reference, and `host` (fresh memory; NULL = none); both were
 * counted as active. Fills cluster, endpoint_host, tls_peer and transport of info with strings that
 * live as long as t.
 */
void hb_upconn_watch(struct hb_transport *t, struct hb_cluster_w *, struct hb_ep_cell *, char *host,
    struct hb_upstream_info *info);

/* What its certificate says: the URI, else the subject; fresh memory. NULL = it showed none. */
char *hb_upconn_peer_name(struct hb_transport *);

#endif

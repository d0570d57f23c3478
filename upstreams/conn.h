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
 * Watches t, which `socket` (of the cluster; NULL = bytes in the clear) has secured. Takes the pin,
 * the reference, and `host` (fresh memory; NULL = none); both were counted as active. Without a cell
 * it is not counted (a stream of another connection lies below), its peer is judged only. Fills
 * cluster, endpoint_host, tls_peer and keep of info; the strings live as long as t, or what is kept.
 */
void hb_upconn_watch(struct hb_transport *t, const struct hb_transport_socket *socket,
    struct hb_cluster_w *, struct hb_ep_cell *, char *host, struct hb_upstream_info *info);

/*
 * Whether the peer of t, which `socket` of w's cluster has secured, is one that the cluster of this
 * name would take now: by the socket as it is, or by the one in its place when the cluster was
 * replaced.
 */
bool hb_upconn_holds(const struct hb_cluster_w *w, const struct hb_transport_socket *socket,
    struct hb_transport *t);

/*
 * Certificates, trust or clusters have changed (hb_transport_sockets_watch): pools are told, and
 * every connection's peer is judged again, in slices; one that does not hold is reset with
 * HB_CLOSE_REVOKED, for all that use it.
 */
void hb_upconns_recheck(struct hb_worker *);

/* A pool that has connections; embedded there. */
struct hb_upconn_pool {
	struct hb_list node; /* private */
	void (*changed)(struct hb_upconn_pool *); /* see hb_upconns_recheck; may leave */
};
void hb_upconn_pool_join(struct hb_worker *, struct hb_upconn_pool *);
void hb_upconn_pool_leave(struct hb_worker *, struct hb_upconn_pool *);

/* What its certificate says: the URI, else the subject; fresh memory. NULL = it showed none. */
char *hb_upconn_peer_name(struct hb_transport *);

#endif

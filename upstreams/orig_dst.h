/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/orig_dst.h: clusters of type ORIGINAL_DST: the endpoint is the address that the client
 * wanted to reach.
 *
 * A worker dials an address at once; the control thread then lists it as an endpoint, so that the
 * next dials count on it, and forgets it when nothing used it for cleanup_interval.
 */
#ifndef HB_UPSTREAMS_ORIG_DST_H
#define HB_UPSTREAMS_ORIG_DST_H

#include "upstreams/cluster.h"


/* Control thread; nothing happens in clusters of other types. */
void hb_orig_start(struct hb_cluster *, bool offline);
void hb_orig_stop(struct hb_cluster *);

/*
 * The address for this connection: filter state, then the header of its tunnel request, then
 * metadata_key, then the local address that was restored; with the port override. False = there is none; *why says so.
 */
bool hb_orig_address(const struct hb_cluster *, const struct hb_facts *, struct hb_addr *ret,
    const char **why);
/* On a worker: the cell that counts for this address, with one reference. The cluster is pinned. */
struct hb_ep_cell *hb_orig_cell(struct hb_cluster_w *, const struct hb_addr *);
void hb_orig_foreach(const struct hb_cluster *, void (*fn)(void *arg, struct hb_endpoint *), void *arg);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/dns_cluster.h: endpoints by name: looking names up again and again, keeping the last
 * good answer. Control thread.
 */
#ifndef HB_UPSTREAMS_DNS_CLUSTER_H
#define HB_UPSTREAMS_DNS_CLUSTER_H

#include "upstreams/cluster.h"

#define HB_WARM_MS 15000u /* a cluster waits so long for its first answers */

/* Makes the cluster ready at once when it has no names, or `offline`. */
void hb_dns_cluster_start(struct hb_cluster *, bool offline, void (*ready)(struct hb_cluster *));
void hb_dns_cluster_stop(struct hb_cluster *);
/* What the last look-up of ep `i` failed with; NULL = it did not fail, or there was none. */
const char *hb_dns_cluster_error(const struct hb_cluster *, size_t i);

#endif

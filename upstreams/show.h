/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/show.h: what the room tells people: /clusters and explain. Control thread.
 */
#ifndef HB_UPSTREAMS_SHOW_H
#define HB_UPSTREAMS_SHOW_H

#include "core/facts/facts.h"
#include "upstreams/cluster.h"

struct hb_explain;

/* Registers /clusters. */
void hb_upstreams_admin_init(void);
/* Envoy's lines / envoy.admin.v3.Clusters of all live clusters, in order of their names. */
void hb_clusters_text(struct hb_text *);
void hb_clusters_json(struct hb_text *);
/* For hb_dial_ops: which endpoint would be taken, and why. */
void hb_upstreams_explain(struct hb_str cluster, const struct hb_facts *, struct hb_explain *);

#endif

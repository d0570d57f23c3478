/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/app/mesh_metrics.h: feeds Istio's TCP metrics (core/mesh/telemetry.h) with what happens to
 * connections (struct hb_conn_observer), and shows them with the other metrics.
 */
#ifndef HB_CORE_APP_MESH_METRICS_H
#define HB_CORE_APP_MESH_METRICS_H

#include "core/filter/conn.h"
#include "core/mesh/telemetry.h"

struct hb_mesh_metrics_options {
	bool     off;
	unsigned series_max; /* of one worker; 0 = the registry's default */
	bool     locality;
};

/* Control thread; once, after hb_workers_init and before connections. */
void hb_mesh_metrics_init(const struct hb_mesh_metrics_options *);
/* When no worker runs any more. */
void hb_mesh_metrics_fini(void);

/*
 * The labels of a connection but its response flags; borrowed from the view. Verified identities go
 * before baggage. The reporter is the destination for tunnel streams, connections of a verified peer,
 * and listeners with traffic_direction INBOUND; else the source.
 */
void hb_mesh_labels(const struct hb_conn_view *, struct hb_tcp_labels *ret);
/* The response flag of a connection that failed. */
const char *hb_mesh_flag(enum hb_close_reason);

#endif

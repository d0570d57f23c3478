/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/dial.h: from a cluster's name to a connected transport: limits, choice, race, the next
 * endpoint when one fails; then counting the connection until it is gone. For upstreams.c and
 * tests; filters come in by core/filter/dial.h.
 */
#ifndef HB_UPSTREAMS_DIAL_H
#define HB_UPSTREAMS_DIAL_H

#include "core/filter/dial.h"
#include "upstreams/cluster.h"

/* Any thread, until the turn ends. NULL = there is none (upstreams.c). */
struct hb_cluster *hb_cluster_find(struct hb_str name);

struct hb_dial *hb_dial__start(struct hb_worker *, const struct hb_dial_request *);
void hb_dial__cancel(struct hb_dial *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/upstreams.h: clusters, endpoints, load balancing, DNS, connecting. For core/app.
 * Control thread only; the data path comes in by core/filter/dial.h.
 */
#ifndef HB_UPSTREAMS_UPSTREAMS_H
#define HB_UPSTREAMS_UPSTREAMS_H

#include "core/config/resource.h"

struct hb_upstreams_options {
	bool offline; /* `validate`, `explain`: resolve and connect nothing */
};

/* Registers kind "cluster", the dialler, counters and the admin endpoint /clusters; before the
 * workers start. */
int  hb_upstreams_init(const struct hb_upstreams_options *, struct hb_err *reterr);
/* Control thread, before hb_workers_fini: ends look-ups, timers and pooled connections. Other dials go on. */
void hb_upstreams_stop(void);
/* After hb_workers_fini. */
void hb_upstreams_fini(void);
/* Every cluster has its first endpoints (DNS answered or gave up). */
bool hb_upstreams_ready(struct hb_text *why);
/* Calls fn each time readiness may have changed; one listener, NULL = none. */
void hb_upstreams_on_ready(void (*fn)(void *arg), void *arg);

#endif

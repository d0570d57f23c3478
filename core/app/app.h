/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/app/app.h: the process: what it was started with, its state, binding of the rooms. Control
 * thread only; one process, one struct.
 */
#ifndef HB_CORE_APP_APP_H
#define HB_CORE_APP_APP_H

#include "core/app/cli.h"
#include "core/app/mesh_metrics.h"
#include "core/admin/admin.h"
#include "core/config/resource.h"

enum hb_app_state { /* numbers of envoy.admin.v3.ServerInfo.State */
	HB_APP_LIVE,
	HB_APP_DRAINING,
	HB_APP_PRE_INITIALIZING,
	HB_APP_INITIALIZING,
};

struct hb_app {
	const struct hb_args *args;
	enum hb_app_state     state;
	bool     healthcheck_failed;    /* POST /healthcheck/fail                          */
	uint64_t started_ms;            /* monotonic                                       */
	uint64_t drain_time_ms;
	uint64_t connections_max;       /* 0 = no limit                                    */
	struct hb_admin_config admin;
	struct hb_mesh_metrics_options metrics;
	struct hb_text admin_path, node_wire; /* unix path; the node message for dumps     */
};

extern struct hb_app hb_app;
extern const char    hb_version[];  /* "hbone 0.1.0 (GIT)"                             */

/* Message types, filters (and --load modules), transport sockets. Returns 0 or prints. */
int hb_app_register(const struct hb_args *);
/* Reads the configuration of args into cfg; NULL after printing every error. */
const ProtobufCMessage *hb_app_load(const struct hb_args *, struct hb_cfg **ret_cfg);
/* Process options of the bootstrap (admin, drain time, limits) into hb_app. */
int hb_app_options(struct hb_cfg *, const ProtobufCMessage *bootstrap);
/* Errors (or warnings) one a line, to stderr; returns how many. */
size_t hb_app_print(const struct hb_errs *, const char *grade);
/* Rooms of layer 7. `offline`: bind and resolve nothing. */
int hb_app_rooms(bool offline, struct hb_err *reterr);
void hb_app_rooms_fini(void);

/* 200 or 503 with state and, in `why`, what it waits for. */
bool hb_app_ready(struct hb_text *why);
/* What others are told: draining as well while the health check is failed by request. */
enum hb_app_state hb_app_state_shown(void);
const char *hb_app_state_name(void);
/* Endpoints /ready /server_info /healthcheck/… /quitquitquit /explain. */
void hb_app_admin_init(void);
/* Statistics server.*; after the rooms. */
void hb_app_stats_init(void);
void hb_app_stats_fini(void);
/* SIGTERM and /quitquitquit: begin to drain; a second call ends at once. */
void hb_app_stop(void);
/* SIGHUP: read the file again. */
void hb_app_reload(void);

/* Facts from the options of `explain` or the query of /explain; -EINVAL names the bad one. */
struct hb_explain_query {
	struct hb_str listener, sni, alpn, src, dst, peer, authority;
};
int hb_app_explain(const struct hb_explain_query *, bool json, struct hb_text *,
    struct hb_err *reterr);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/stats/access_log.h: one line for a connection, in Envoy's format strings or JSON.
 *
 * Format strings are compiled once to a list of operators (the same formatter also makes
 * headers, host names and filter state elsewhere). Lines are gathered in a block for each worker
 * and file, handed over when it holds 64 KiB or is HB_ACCESS_LOG_FLUSH_MS old, and written in
 * libuv's thread pool. When 4 MiB wait for a file, further blocks are dropped and counted: a slow
 * disk or pipe never blocks a worker or the control thread.
 */
#ifndef HB_CORE_STATS_ACCESS_LOG_H
#define HB_CORE_STATS_ACCESS_LOG_H

#include "core/base/close_reason.h"
#include "core/config/config.h"
#include "core/facts/facts.h"
#include "core/stats/stats.h"

/* What operators can ask for; absent things print "-" (JSON: null). */
struct hb_log_entry {
	const struct hb_facts *facts;
	uint64_t    conn_id;
	int64_t     start_us;          /* wall clock                                       */
	uint64_t    duration_ms;
	uint64_t    bytes_received, bytes_sent;         /* from / to the downstream        */
	uint64_t    upstream_bytes_sent, upstream_bytes_received;
	enum hb_close_reason reason;
	struct hb_str detail;          /* connection termination details                    */
	struct hb_str chain_name;      /* %FILTER_CHAIN_NAME%                                */
	struct hb_str listener_name;
	struct hb_str cluster;         /* %UPSTREAM_CLUSTER%                                 */
	struct hb_str upstream_host_name;
	const struct hb_addr *upstream_remote, *upstream_local;  /* NULL = none             */
	struct hb_str upstream_failure;
	struct hb_str upstream_peer;   /* %UPSTREAM_PEER_URI_SAN%                            */
	struct hb_str downstream_tls_failure;
	uint32_t    connect_ms, attempts;
	uint32_t    response_code;     /* of a tunnel stream; 0 = none                        */
	uint8_t     log_type;          /* envoy.data.accesslog.v3.AccessLogType; 0 = at the end */
};

/* ------------------------------------------------------------------ formatter */

struct hb_format; /* compiled text */
/* Unknown operators and bad arguments are errors with the nearest name. NULL on error. */
struct hb_format *hb_format_compile(struct hb_cfg *, const void *owner_msg, const char *field,
    int index, struct hb_str text);
/* google.protobuf.Struct: one JSON object; `typed`: numbers stay numbers, what is missing is null. */
struct hb_format *hb_format_compile_json(struct hb_cfg *, const void *owner_msg, const char *field,
    const void *struct_msg, bool typed);
/* Missing values: nothing instead of "-", and JSON keys without a value are left out. */
void hb_format_omit_empty(struct hb_format *);
void hb_format_free(struct hb_format **);
/* Appends; a JSON object is followed by a newline, text is as written. */
void hb_format_write(const struct hb_format *, const struct hb_log_entry *, struct hb_text *);

/* ------------------------------------------------------------------ access logs */

#define HB_ACCESS_LOG_FLUSH_MS 1000u

/* A list of envoy.config.accesslog.v3.AccessLog messages, compiled. */
struct hb_access_log;
/* NULL with *ret_ok true when n is 0. */
struct hb_access_log *hb_access_log_compile(struct hb_cfg *, const void *owner_msg,
    const char *field, void *const *msgs, size_t n, bool *ret_ok);
void hb_access_log_free(struct hb_access_log **); /* control thread, after the workers passed */
/* On a worker. `log` may be NULL. */
void hb_access_log_write(struct hb_worker *, const struct hb_access_log *log,
    const struct hb_log_entry *);
/* Control thread. Everything logged so far is written, then done(arg); done may be NULL. */
void hb_access_log_flush(void (*done)(void *arg), void *arg);
/*
 * The end of the process, control thread, while its loop still exists: waits (at most 2 s) for what
 * is being written; lines logged from here on are kept for hb_access_log_fini.
 */
void hb_access_log_stop(void);
/* For hb_workers_at_end, to be registered before rooms whose connections still log. */
void hb_access_log_worker_fini(struct hb_worker *);
/* Control thread. Each file is opened anew before its next line (after rotation). */
void hb_access_log_reopen(void);
/* Control thread, after the workers stopped. */
void hb_access_log_fini(void);

#endif

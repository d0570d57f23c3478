/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/stats/log_file.h: files that workers append lines to; inside this room only. Files are found
 * by path and live as long as the process, so their number is bounded by the paths that were ever
 * configured.
 */
#ifndef HB_CORE_STATS_LOG_FILE_H
#define HB_CORE_STATS_LOG_FILE_H

#include "core/base/str.h"
#include "core/event/worker.h"

struct log_file;

/* Control thread. "" = standard output, "-" = standard error, else a path; nothing is opened. */
struct log_file *hb_log_file_get(struct hb_str path);
/* On a worker: where to append a line; call hb_log_file_appended afterwards. */
struct hb_text *hb_log_file_text(struct log_file *, struct hb_worker *);
void hb_log_file_appended(struct log_file *, struct hb_worker *);
/* Control thread; see core/stats/access_log.h. */
void hb_log_file_flush(void (*done)(void *arg), void *arg);
void hb_log_file_reopen(void);
void hb_log_file_stop(void);
void hb_log_file_worker_fini(struct hb_worker *);
void hb_log_file_fini(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/stats/stats.h: counters, gauges and histograms.
 *
 * A family is a table of statistics that share a prefix and labels ("cluster.NAME.…"); a scope is
 * one member of it (one cluster). Rooms declare families as X-macro tables with a prose text each,
 * which is also their documentation (docs/operations.md is generated from them). Workers write
 * plain memory of their own, without locks or read-modify-write atomics; readers sum. A worker's
 * block of a scope is made at its first write, so unused scopes cost a few words.
 */
#ifndef HB_CORE_STATS_STATS_H
#define HB_CORE_STATS_STATS_H

#include "core/base/str.h"
#include "core/event/worker.h"

enum hb_stat_kind { HB_STAT_COUNTER, HB_STAT_GAUGE, HB_STAT_HISTOGRAM };

struct hb_stat_desc {
	const char       *name; /* "upstream_cx_total"                              */
	enum hb_stat_kind kind;
	const char       *help; /* one sentence                                     */
};

struct hb_stat_family {
	/* "cluster": text name is NAME.LABEL.STAT; "" label: NAME.STAT. "*.rbac.*": the whole of what
	 * stands before STAT; LABEL takes the place of the first *, its second part (after a newline,
	 * or nothing) that of the second. For Prometheus the second part begins STAT. */
	const char *name;
	const char *prometheus; /* "envoy_cluster": PROMETHEUS_STAT                             */
	const char *label;      /* "envoy_cluster_name"; NULL = no label                        */
	const struct hb_stat_desc *stats;
	unsigned n_stats;
};

/*
 * Enum and family from one table:
 *   #define ECHO_STATS(X) X(ECHO_BYTES, "bytes", COUNTER, "Bytes echoed.")
 *   enum echo_stat { ECHO_STATS(HB_STAT_ENUM) ECHO_STAT_MAX };
 *   HB_STAT_FAMILY(echo_family, "echo", "hbone_echo", "hbone_prefix", ECHO_STATS);
 */
#define HB_STAT_ENUM(e, n, k, h) e,
#define HB_STAT_DESC_ROW_(e, n, k, h) {n, HB_STAT_##k, h},
#define HB_STAT_FAMILY(var, name_, prom_, label_, TABLE)                         \
	static const struct hb_stat_desc var##_stats[] = {TABLE(HB_STAT_DESC_ROW_)}; \
	const struct hb_stat_family var = {name_, prom_, label_, var##_stats,        \
	    sizeof var##_stats / sizeof var##_stats[0]}

struct hb_stats;

/* Control thread. The scope with this label is made or found (reference counted); its numbers
 * outlive a replaced owner. `label` "" when the family has none. After hb_workers_init. In output
 * colons of a label become '_', as in Envoy ("listener.0.0.0.0_15443.…"). */
HB_EXPORT struct hb_stats *hb_stats_get(const struct hb_stat_family *, struct hb_str label);
HB_EXPORT void hb_stats_unref(struct hb_stats **); /* freed after the workers passed (hb_retire) */
const char *hb_stats_label(const struct hb_stats *);

/* On a worker or the control thread. `i` is the row in the family's table. */
HB_EXPORT void hb_stat_add(struct hb_worker *, const struct hb_stats *, unsigned i, int64_t n);
static inline void
hb_stat_inc(struct hb_worker *w, const struct hb_stats *s, unsigned i)
{
	hb_stat_add(w, s, i, 1);
}
/* Control thread only: sets a gauge that nobody adds to. */
void hb_stat_set(const struct hb_stats *, unsigned i, int64_t value);
/* Histogram sample (milliseconds by convention of the name). */
HB_EXPORT void hb_stat_record(struct hb_worker *, const struct hb_stats *, unsigned i, uint64_t value);

/* Any time on the control thread: sum of all workers / of one worker, since the last reset. The
 * value of a histogram is its number of samples; per worker it has none. */
int64_t hb_stat_value(const struct hb_stats *, unsigned i);
int64_t hb_stat_value_of(const struct hb_stats *, unsigned i, const struct hb_worker *);

/* ------------------------------------------------------------------ output, control thread */

/* A gauge computed when asked: registered once by a room, family row i of scope s. */
void hb_stat_computed(const struct hb_stats *, unsigned i, int64_t (*fn)(void *arg), void *arg);

/* A NULL query wants everything. */
struct hb_stats_query {
	bool used_only;                         /* only what was ever written               */
	bool (*filter)(void *arg, const char *text_name); /* NULL = all                     */
	void *arg;
};
/* "name: value" lines sorted by name; histograms as Envoy prints them
 * ("P0(nan,1.0) P25(nan,1.0) …" with quantiles since start). */
void hb_stats_text(struct hb_text *, const struct hb_stats_query *);
/* {"stats":[{"name":…,"value":…},…,{"histograms":{…}}]} */
void hb_stats_json(struct hb_text *, const struct hb_stats_query *);
/* Exposition format 0.0.4 with HELP and TYPE; histograms with Envoy's buckets. */
void hb_stats_prometheus(struct hb_text *, const struct hb_stats_query *);
/*
 * A room whose metrics have labels of another shape prints them itself, in the same format: fn adds
 * them at the end of hb_stats_prometheus. Registered once, before anybody asks; at most 8.
 */
typedef void hb_stats_render_f(void *arg, const struct hb_stats_query *, struct hb_text *);
void hb_stats_renderer_add(hb_stats_render_f *fn, void *arg);
/* Whether a query (NULL = everything) asks for a metric by this name. */
bool hb_stats_wanted(const struct hb_stats_query *, const char *name);
/* Counters and histograms to zero; gauges stay. */
void hb_stats_reset(void);
/* Every family that was used by hb_stats_get, for generated documentation. */
void hb_stats_families(void (*fn)(void *arg, const struct hb_stat_family *), void *arg);

#endif

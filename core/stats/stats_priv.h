/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/stats/stats_priv.h: how scopes keep their numbers.
 *
 * scope ── blocks[0] control thread ── cells[row]: counter, gauge or histogram pointer
 *       ├─ blocks[1] worker 0
 *       └─ …         NULL until the first write of that thread
 *
 * A block is written by its thread only, with relaxed stores; the control thread reads all of
 * them. Nobody else may zero them: a reset remembers the sums as the base that is subtracted.
 */
#ifndef HB_CORE_STATS_STATS_PRIV_H
#define HB_CORE_STATS_STATS_PRIV_H

#include "core/stats/stats.h"

#define HB_HIST_DECADES    20 /* digits of UINT64_MAX */
#define HB_HIST_PER_DECADE 90 /* two significant digits: 10 … 99 */

/*
 * One thread's samples. Bucket k of decade 0 is the value k (0 … 9); bucket k of decade d > 0 holds
 * the values from (k + 10) * 10^(d-1) to below (k + 11) * 10^(d-1). Decades are made when needed.
 */
struct hb_hist {
	_Atomic uint64_t sum;
	_Atomic(_Atomic uint64_t *) decade[HB_HIST_DECADES]; /* owned */
};

/* The samples of all threads at one moment. */
struct hb_hist_sum {
	uint64_t count, sum;
	uint64_t n[HB_HIST_DECADES][HB_HIST_PER_DECADE];
};

void hb_hist_record(struct hb_hist *, uint64_t value);
void hb_hist_free(struct hb_hist *); /* accepts NULL */
/* Adds what `h` holds. */
void hb_hist_sum_add(struct hb_hist_sum *, const struct hb_hist *);
/* Removes what was there at the time of `base`. */
void hb_hist_sum_sub(struct hb_hist_sum *, const struct hb_hist_sum *base);
/* The value below which the share q (0 … 1) lies, interpolated in its bucket; count > 0. */
double hb_hist_quantile(const struct hb_hist_sum *, double q);
/* Samples <= bound; a bucket counts when its largest integer does. */
uint64_t hb_hist_count_to(const struct hb_hist_sum *, double bound);

/* One row of one scope, for sorting and printing. */
struct hb_stat_entry {
	const struct hb_stats *stats; /* borrowed until control returns to the loop */
	unsigned               i;
};

/* Everything that the query wants, unsorted; the caller frees *ret. */
size_t hb_stats_collect(const struct hb_stats_query *, struct hb_stat_entry **ret);
const struct hb_stat_family *hb_stats_family(const struct hb_stats *);
/* The label with '_' for colons and control bytes. */
const char *hb_stats_shown_label(const struct hb_stats *);
/* The label's second part, which begins the metric's name for Prometheus; "" without. */
const char *hb_stats_more(const struct hb_stats *);
/* "cluster.NAME.", with the shown label. */
const char *hb_stats_prefix(const struct hb_stats *);
/* Since the last reset. */
void hb_stats_hist(const struct hb_stats *, unsigned i, struct hb_hist_sum *ret);

static inline const struct hb_stat_desc *
hb_stat_entry_desc(const struct hb_stat_entry *e)
{
	return (&hb_stats_family(e->stats)->stats[e->i]);
}

#endif

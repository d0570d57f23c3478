/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/bench/load/hist.h: latencies in buckets of high dynamic range: each power of two has 128, so
 * a value is known to 0.8 %, from 1 ns to 2^63 ns.
 */
#ifndef HB_TEST_BENCH_LOAD_HIST_H
#define HB_TEST_BENCH_LOAD_HIST_H

#include <stdint.h>

#define LOAD_HIST_BITS    7u
#define LOAD_HIST_BUCKETS ((64u - LOAD_HIST_BITS + 1u) << LOAD_HIST_BITS)

struct load_hist {
	uint64_t count, sum, max;
	uint32_t bucket[LOAD_HIST_BUCKETS];
};

void load_hist_reset(struct load_hist *);
void load_hist_record(struct load_hist *, uint64_t value);
/* The value that `share` (0 … 1) of all are not above, to the middle of its bucket; 0 = none. */
uint64_t load_hist_at(const struct load_hist *, double share);

#endif

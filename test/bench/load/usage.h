/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/bench/load/usage.h: what a window of time costs processes, and how quiet the machine was.
 */
#ifndef HB_TEST_BENCH_LOAD_USAGE_H
#define HB_TEST_BENCH_LOAD_USAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOAD_PIDS_MAX 16u

struct load_usage {
	uint64_t cpu_ns[LOAD_PIDS_MAX]; /* of all threads of each pid, without their waiting */
	uint64_t own_cpu_ns;
	bool     gone;                  /* one of the processes could not be read            */
	double   steal_share;           /* of all CPUs' time, taken by the hypervisor        */
	double   other_busy;            /* of the CPUs we may not run on; < 0 = there is none */
	uint64_t all, steal, others, others_busy; /* private: ticks at the start           */
};

/* Remembers where the counters stand; end turns that into differences. */
void load_usage_begin(struct load_usage *, const int *pids, size_t n);
void load_usage_end(struct load_usage *, const int *pids, size_t n);

#endif

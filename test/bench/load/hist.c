/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "core/base/base.h"
#include "test/bench/load/hist.h"

#define HALF (1u << LOAD_HIST_BITS)

void
load_hist_reset(struct load_hist *h)
{
	memset(h, 0, sizeof *h);
}

/* Values below 128 have a bucket each; then the 7 bits after the leading one choose. */
static unsigned
bucket_of(uint64_t v)
{
	unsigned shift;

	if (v < HALF)
		return ((unsigned)v);
	shift = 63u - (unsigned)__builtin_clzll(v) - LOAD_HIST_BITS;
	return (((shift + 1u) << LOAD_HIST_BITS) + (unsigned)((v >> shift) - HALF));
}

static uint64_t
middle_of(unsigned i)
{
	unsigned shift;

	if (i < HALF)
		return (i);
	shift = (i >> LOAD_HIST_BITS) - 1u;
	return (((uint64_t)(i & (HALF - 1u)) + HALF) << shift) + ((uint64_t)1 << shift) / 2;
}

void
load_hist_record(struct load_hist *h, uint64_t v)
{
	unsigned i = bucket_of(v);

	HB_ASSERT(i < LOAD_HIST_BUCKETS);
	h->bucket[i]++;
	h->count++;
	h->sum += v;
	h->max = HB_MAX(h->max, v);
}

uint64_t
load_hist_at(const struct load_hist *h, double share)
{
	uint64_t want, seen = 0;

	if (h->count == 0)
		return (0);
	want = (uint64_t)(share * (double)h->count + 0.999999);
	want = HB_MIN(HB_MAX(want, (uint64_t)1), h->count);
	for (unsigned i = 0; i < LOAD_HIST_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen >= want)
			return (HB_MIN(middle_of(i), h->max));
	}
	return (h->max);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/stats/stats_priv.h"

static const uint64_t pow10_table[HB_HIST_DECADES] = {
	1u,
	10u,
	100u,
	1000u,
	10000u,
	100000u,
	1000000u,
	10000000u,
	100000000u,
	1000000000u,
	10000000000u,
	100000000000u,
	1000000000000u,
	10000000000000u,
	100000000000000u,
	1000000000000000u,
	10000000000000000u,
	100000000000000000u,
	1000000000000000000u,
	10000000000000000000u,
};

static unsigned decade_buckets(unsigned d)
{
	return (d == 0 ? 10 : HB_HIST_PER_DECADE);
}

void hb_hist_record(struct hb_hist *h, uint64_t value)
{
	_Atomic uint64_t *buckets;
	unsigned d = 0, k;

	while (d + 1 < HB_HIST_DECADES && value >= pow10_table[d + 1])
		d++;
	k = (unsigned)(d == 0 ? value : value / pow10_table[d - 1] - 10);
	HB_ASSERT(k < decade_buckets(d));
	buckets = atomic_load_explicit(&h->decade[d], memory_order_relaxed);
	if (HB_UNLIKELY(buckets == NULL)) {
		buckets = hb_calloc(decade_buckets(d), sizeof *buckets);
		atomic_store_explicit(&h->decade[d], buckets, memory_order_release);
	}
	atomic_store_explicit(&buckets[k],
		atomic_load_explicit(&buckets[k], memory_order_relaxed) + 1, memory_order_relaxed);
	atomic_store_explicit(&h->sum, atomic_load_explicit(&h->sum, memory_order_relaxed) + value,
		memory_order_relaxed);
}

void hb_hist_free(struct hb_hist *h)
{
	if (h == NULL)
		return;
	for (unsigned d = 0; d < HB_HIST_DECADES; d++)
		hb_free(atomic_load_explicit(&h->decade[d], memory_order_relaxed));
	hb_free(h);
}

void hb_hist_sum_add(struct hb_hist_sum *s, const struct hb_hist *h)
{
	s->sum += atomic_load_explicit(&h->sum, memory_order_relaxed);
	for (unsigned d = 0; d < HB_HIST_DECADES; d++) {
		const _Atomic uint64_t *buckets = atomic_load_explicit(
			&h->decade[d], memory_order_acquire);

		for (unsigned k = 0; buckets != NULL && k < decade_buckets(d); k++) {
			uint64_t n = atomic_load_explicit(&buckets[k], memory_order_relaxed);

			s->n[d][k] += n;
			s->count += n;
		}
	}
}

void hb_hist_sum_sub(struct hb_hist_sum *s, const struct hb_hist_sum *base)
{
	s->sum -= base->sum;
	s->count -= base->count;
	for (unsigned d = 0; d < HB_HIST_DECADES; d++) {
		for (unsigned k = 0; k < HB_HIST_PER_DECADE; k++)
			s->n[d][k] -= base->n[d][k];
	}
}

double hb_hist_quantile(const struct hb_hist_sum *s, double q)
{
	double target = q * (double)s->count, below = 0, left = 0, width = 0, n = 0;

	HB_ASSERT(s->count > 0);
	for (unsigned d = 0; d < HB_HIST_DECADES; d++) {
		for (unsigned k = 0; k < decade_buckets(d); k++) {
			if (s->n[d][k] == 0)
				continue;
			below += n;
			n = (double)s->n[d][k];
			/* One-digit values have buckets of a tenth, as Envoy has them. */
			left = d == 0 ? k : (double)(k + 10) * (double)pow10_table[d - 1];
			width = d > 0 ? (double)pow10_table[d - 1] : k > 0 ? 0.1 : 0;
			if (below + n >= target)
				return (left + width * (target - below) / n);
		}
	}
	return (left + width);
}

uint64_t hb_hist_count_to(const struct hb_hist_sum *s, double bound)
{
	uint64_t count = 0;

	for (unsigned d = 0; d < HB_HIST_DECADES; d++) {
		for (unsigned k = 0; k < decade_buckets(d); k++) {
			double last = d == 0 ? k :
					       (double)(k + 11) * (double)pow10_table[d - 1] - 1;

			if (last > bound)
				return (count);
			count += s->n[d][k];
		}
	}
	return (count);
}

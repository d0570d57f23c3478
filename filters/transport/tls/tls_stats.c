/* SPDX-License-Identifier: Apache-2.0 */
/* tls.*: what workers remember of peers, summed when it is asked for. */
#include "core/event/worker.h"
#include "core/stats/stats.h"
#include "filters/transport/tls/tls_conf_priv.h"

/* In the order of enum hb_tls_counter. */
#define TLS_STATS(X)                                                                                            \
	X(TLS_CHAINS, "verified_chains", GAUGE,                                                                 \
		"Chains of peers' certificates whose verification workers remember (Options.verified_chains).") \
	X(TLS_CHAIN_HITS, "verified_chain_hits", GAUGE,                                                         \
		"Chains that needed no verification because it was remembered, since the start.")               \
	X(TLS_CHAIN_MISSES, "verified_chain_misses", GAUGE,                                                     \
		"Chains that had to be verified, since the start.")                                             \
	X(TLS_CHAINS_EVICTED, "verified_chains_evicted", GAUGE,                                                 \
		"Chains forgotten for lack of room, since the start.")                                          \
	X(TLS_RESUMED, "sessions_resumed", GAUGE,                                                               \
		"Handshakes of both sides that resumed a session, since the start.")                            \
	X(TLS_TICKETS_REFUSED, "tickets_refused", GAUGE,                                                        \
		"Session tickets of clients that led to a full handshake, since the start.")

enum tls_stat { TLS_STATS(HB_STAT_ENUM) TLS_STAT_MAX };
HB_STAT_FAMILY(tls_family, "tls", "hbone_tls", NULL, TLS_STATS);

static struct hb_stats *stats; /* NULL = there are no workers */

static int64_t
compute(void *arg)
{
	uint64_t total = 0;

	_Static_assert(
		(int)TLS_STAT_MAX == (int)HB_TLS_COUNTER_MAX, "a statistic for each counter");
	for (unsigned i = 0; i < hb_workers_count(); i++)
		total += hb_tls_counter(hb_worker_at(i), (enum hb_tls_counter)(uintptr_t)arg);
	return ((int64_t)total);
}

void
hb_tls_stats_start(void)
{
	if (stats != NULL || hb_worker_control() == NULL)
		return;
	stats = hb_stats_get(&tls_family, HB_STR(""));
	for (unsigned i = 0; i < TLS_STAT_MAX; i++)
		hb_stat_computed(stats, i, compute, (void *)(uintptr_t)i);
}

void
hb_tls_stats_stop(void)
{
	hb_stats_unref(&stats);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* server.*: numbers of the process, computed when they are asked for. */
#include <malloc.h>
#include <time.h>
#include "core/app/app.h"
#include "core/app/heap.h"
#include "core/base/burst.h"
#include "core/base/log.h"
#include "core/event/worker.h"
#include "core/filter/park.h"
#include "core/identity/expiry.h"
#include "core/stats/stats.h"
#include "core/transport/pump.h"
#include "core/transport/transport.h"
#include "listeners/listeners.h"

#define SERVER_STATS(X)                                                                                  \
	X(SERVER_LIVE, "live", GAUGE, "1 while the process neither drains nor fails its health check.")                            \
	X(SERVER_STATE, "state", GAUGE, "0 live, 1 draining, 2 and 3 starting.")                         \
	X(SERVER_UPTIME, "uptime", GAUGE, "Seconds since the start.")                                    \
	X(SERVER_CONCURRENCY, "concurrency", GAUGE, "Worker threads.")                                   \
	X(SERVER_ALLOCATED, "memory_allocated", GAUGE, "Bytes of the heap in use.")                      \
	X(SERVER_HEAP, "memory_heap_size", GAUGE, "Bytes of the heap.")                                  \
	X(SERVER_HEAP_TRIMS, "heap_trims", GAUGE, "Times that free memory was given back (--heap-trim), since the start.") \
	X(SERVER_CERT_DAYS, "days_until_first_cert_expiring", GAUGE,                                     \
		"Whole days until the first of our certificates in use ends; 4294967295 without any.")   \
	X(SERVER_CONNECTIONS, "total_connections", GAUGE, "Open downstream connections.")                \
	X(SERVER_LINGERING, "lingering", GAUGE, "Connections that only flush their last bytes.")         \
	X(SERVER_FLUSH_TIMEOUTS, "flush_timeouts", GAUGE, "Last bytes that a peer did not take in time, since the start.") \
	X(SERVER_PIPES, "splice_pipes", GAUGE, "Pipes that splice(2) uses or keeps.")                    \
	X(SERVER_SPLICED, "spliced_bytes", GAUGE, "Bytes moved by splice(2), since the start.")         \
	X(SERVER_RESTING, "connections_resting", GAUGE, "Idle connections that are packed into less memory (--rest-above).") \
	X(SERVER_RESTS, "connection_rests", GAUGE, "Times that an idle connection went to rest, since the start.") \
	X(SERVER_WAKES, "connection_wakes", GAUGE, "Times that a connection at rest was woken, since the start.") \
	X(SERVER_SCRATCH, "scratch_exhausted", GAUGE, "Times that a worker's scratch buffers ran out, since the start.") \
	X(SERVER_LOG_DROPPED, "log_dropped", GAUGE, "Lines of the application log that could not be written, since the start.")

enum server_stat { SERVER_STATS(HB_STAT_ENUM) SERVER_STAT_MAX };
HB_STAT_FAMILY(server_family, "server", "envoy_server", NULL, SERVER_STATS);

static struct hb_stats *stats;

/* Sums a number that each worker keeps; read while the worker writes, it may be a moment old. */
static int64_t
sum(uint64_t (*of)(const struct hb_worker *))
{
	uint64_t total = 0;

	for (unsigned i = 0; i < hb_workers_count(); i++)
		total += of(hb_worker_at(i));
	return ((int64_t)total);
}

static uint64_t
lingering_of(const struct hb_worker *w)
{
	return (hb_transport_lingering(w));
}

static uint64_t
pipes_of(const struct hb_worker *w)
{
	return (hb_pump_pipes(w));
}

static int64_t
compute(void *arg)
{
	struct mallinfo2 m;

	switch ((enum server_stat)(uintptr_t)arg) {
	case SERVER_LIVE:
		return (hb_app_state_shown() != HB_APP_DRAINING);
	case SERVER_STATE:
		return ((int64_t)hb_app_state_shown());
	case SERVER_UPTIME:
		return ((int64_t)(hb_now_ms(hb_worker_control()) - hb_app.started_ms) / 1000);
	case SERVER_CONCURRENCY:
		return (hb_workers_count());
	case SERVER_ALLOCATED:
		m = mallinfo2();
		return ((int64_t)(m.uordblks + m.hblkhd + hb_burst_total()));
	case SERVER_HEAP:
		m = mallinfo2();
		return ((int64_t)(m.arena + m.hblkhd + hb_burst_total()));
	case SERVER_HEAP_TRIMS:
		return ((int64_t)hb_heap_trims());
	case SERVER_CERT_DAYS:
		return (hb_identity_days_left((int64_t)time(NULL)));
	case SERVER_CONNECTIONS:
		return ((int64_t)hb_listeners_connections());
	case SERVER_LINGERING:
		return (sum(lingering_of));
	case SERVER_FLUSH_TIMEOUTS:
		return (sum(hb_transport_flush_timeouts));
	case SERVER_PIPES:
		return (sum(pipes_of));
	case SERVER_SPLICED:
		return (sum(hb_pump_spliced));
	case SERVER_RESTING:
		return (sum(hb_park_resting));
	case SERVER_RESTS:
		return (sum(hb_park_rests));
	case SERVER_WAKES:
		return (sum(hb_park_wakes));
	case SERVER_SCRATCH:
		return (sum(hb_scratch_exhausted));
	case SERVER_LOG_DROPPED:
		return ((int64_t)hb_log_dropped());
	case SERVER_STAT_MAX:
		break;
	}
	HB_WRONG("server statistic");
}

void
hb_app_stats_init(void)
{
	stats = hb_stats_get(&server_family, HB_STR(""));
	for (unsigned i = 0; i < SERVER_STAT_MAX; i++)
		hb_stat_computed(stats, i, compute, (void *)(uintptr_t)i);
}

void
hb_app_stats_fini(void)
{
	hb_stats_unref(&stats);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/filter/park.h: idle connections take little memory. For core/app and tests.
 *
 * A worker keeps some connections as they are; further ones rest when they have had no event for
 * some milliseconds (longer where they are soon woken): their state is packed into one record of a
 * few hundred bytes, and made again at their next event. That costs an event about a microsecond.
 * Only connections that a tcp_proxy (or a filter with the same slots, core/filter/filter.h) passes
 * on, both ways open and nothing queued, without TLS of the chain's own, rest.
 */
#ifndef HB_CORE_FILTER_PARK_H
#define HB_CORE_FILTER_PARK_H

#include "core/event/worker.h"

#define HB_PARK_ABOVE_DEFAULT 32u
#define HB_PARK_NEVER         UINT32_MAX

/*
 * Process-wide, before workers start: so many connections of a worker never rest; 0 = each rests as
 * soon as it has had no event for a turn of the loop (for tests), HB_PARK_NEVER = none rests.
 */
void hb_park_above(uint32_t n);
/* Of a worker, any thread: resting now; since the start, how often one went to rest, and was woken. */
uint64_t hb_park_resting(const struct hb_worker *);
uint64_t hb_park_rests(const struct hb_worker *);
uint64_t hb_park_wakes(const struct hb_worker *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filters/network/local_ratelimit/bucket.h: a token bucket that all workers of the process share,
 * without a lock. Tokens come in whole fills at multiples of the interval.
 */
#ifndef HB_FILTERS_NETWORK_LOCAL_RATELIMIT_BUCKET_H
#define HB_FILTERS_NETWORK_LOCAL_RATELIMIT_BUCKET_H

#include "core/base/str.h"

struct bucket_config {
	uint32_t max, per_fill;  /* at least 1 */
	uint64_t interval_ms;    /* at least 1 */
};

struct bucket;

/* Control thread. Buckets with the same non-empty key and the same numbers are one. Starts full. */
struct bucket *bucket_get(const struct bucket_config *, struct hb_str share_key);
void bucket_put(struct bucket **);
/* Any worker. False = empty. */
bool bucket_take(struct bucket *, uint64_t now_ms);
/* Tokens that a connection would find now. */
uint32_t bucket_tokens(struct bucket *, uint64_t now_ms);

#endif

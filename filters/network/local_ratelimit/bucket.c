/* SPDX-License-Identifier: Apache-2.0 */
#include "filters/network/local_ratelimit/bucket.h"

#include <stdatomic.h>
#include "core/base/list.h"

struct bucket {
	unsigned magic;
#define BUCKET_MAGIC 0x61b0c4e7
	struct bucket_config config;
	char *key; /* owned; "" = not shared */
	unsigned refs;
	struct hb_list node;
	_Atomic uint64_t fill; /* number of the last fill (time / interval); 0 = none yet */
	_Atomic uint32_t tokens;
};

static struct hb_list buckets = { &buckets, &buckets };

static bool
same(const struct bucket *b, const struct bucket_config *c, struct hb_str key)
{
	return (b->config.max == c->max && b->config.per_fill == c->per_fill &&
		b->config.interval_ms == c->interval_ms && hb_str_eq(hb_str(b->key), key));
}

struct bucket *
bucket_get(const struct bucket_config *c, struct hb_str key)
{
	struct bucket *b;
	struct hb_list *n;

	HB_ASSERT(c->max > 0 && c->per_fill > 0 && c->interval_ms > 0);
	HB_LIST_FOREACH (n, &buckets) {
		b = HB_LIST_ENTRY(n, struct bucket, node);
		if (key.len > 0 && same(b, c, key)) {
			b->refs++;
			return (b);
		}
	}
	HB_NEW(b, BUCKET_MAGIC);
	b->config = *c;
	b->key = hb_strndup(key.len == 0 ? "" : key.p, key.len);
	b->refs = 1;
	atomic_init(&b->tokens, c->max);
	hb_list_add_tail(&buckets, &b->node);
	return (b);
}

void
bucket_put(struct bucket **bp)
{
	struct bucket *b = *bp;

	if (b == NULL)
		return;
	HB_CHECK(b, BUCKET_MAGIC);
	*bp = NULL;
	if (--b->refs > 0)
		return;
	hb_list_del(&b->node);
	hb_free(b->key);
	HB_DEL(b);
}

static void
add_tokens(struct bucket *b, uint64_t fills)
{
	uint32_t have = atomic_load(&b->tokens), want;

	do {
		if (fills > (b->config.max - have) / b->config.per_fill)
			want = b->config.max;
		else
			want = have + (uint32_t)fills * b->config.per_fill;
	} while (!atomic_compare_exchange_weak(&b->tokens, &have, want));
}

/* Whoever moves the number of the fill on adds its tokens. A worker whose clock is behind does not. */
static void
refill(struct bucket *b, uint64_t now_ms)
{
	uint64_t last = atomic_load(&b->fill), now = now_ms / b->config.interval_ms + 1;

	while (last < now)
		if (atomic_compare_exchange_weak(&b->fill, &last, now)) {
			if (last != 0)
				add_tokens(b, now - last);
			return;
		}
}

bool
bucket_take(struct bucket *b, uint64_t now_ms)
{
	uint32_t have;

	HB_CHECK(b, BUCKET_MAGIC);
	refill(b, now_ms);
	have = atomic_load(&b->tokens);
	while (have > 0)
		if (atomic_compare_exchange_weak(&b->tokens, &have, have - 1))
			return (true);
	return (false);
}

uint32_t
bucket_tokens(struct bucket *b, uint64_t now_ms)
{
	HB_CHECK(b, BUCKET_MAGIC);
	refill(b, now_ms);
	return (atomic_load(&b->tokens));
}

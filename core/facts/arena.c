/* SPDX-License-Identifier: Apache-2.0 */
#include "core/facts/facts.h"

#include "core/base/burst.h"

/*
 * The first block holds what a stream has, its authority, and most need no second one. The next are
 * half as large again, up to a limit, each with its head a multiple of 16. What is large gets a
 * block of its own, behind the one that is being filled.
 */
#define BLOCK_FIRST 24u
#define BLOCK_MAX   8192u
#define ALIGNMENT   8u

struct block {
	struct block *next;
	uint32_t cap, used;
	_Alignas(ALIGNMENT) char data[];
};

static struct block *
block_new(size_t cap)
{
	struct block *b;

	HB_ASSERT(cap <= INT32_MAX);
	b = hb_burst_calloc(sizeof *b + cap);
	b->cap = (uint32_t)cap;
	return (b);
}

/* The block that n bytes, which head has no room for, go to. */
static struct block *
block_for(struct hb_arena *a, size_t n)
{
	struct block *head = a->head, *b;
	size_t cap = BLOCK_FIRST;

	if (head != NULL)
		cap = HB_MIN(((head->cap * 3u / 2u + 7u) & ~15u) + 8u, BLOCK_MAX);
	if (head != NULL && n > cap / 2) {
		b = block_new(n);
		b->next = head->next;
		head->next = b;
		return (b);
	}
	b = block_new(HB_MAX(cap, n));
	b->next = head;
	a->head = b;
	return (b);
}

static void *
take(struct hb_arena *a, size_t n, size_t alignment)
{
	struct block *b = a->head;
	size_t at = b == NULL ? 0 : (b->used + alignment - 1) & ~(alignment - 1);

	if (b == NULL || at + n > b->cap) {
		b = block_for(a, n);
		at = 0;
	}
	b->used = (uint32_t)(at + n);
	return (b->data + at);
}

void *
hb_arena_alloc(struct hb_arena *a, size_t n)
{
	HB_ASSERT(n <= INT32_MAX - ALIGNMENT);
	return (take(a, HB_MAX((n + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1), (size_t)ALIGNMENT),
		ALIGNMENT));
}

struct hb_str
hb_arena_str(struct hb_arena *a, struct hb_str s)
{
	char *p;

	HB_ASSERT(s.len < INT32_MAX - ALIGNMENT);
	p = take(a, s.len + 1, 1);
	if (s.len > 0)
		memcpy(p, s.p, s.len);
	return (hb_strn(p, s.len));
}

size_t
hb_arena_used(const struct hb_arena *a)
{
	size_t n = 0;

	for (const struct block *b = a->head; b != NULL; b = b->next)
		n += b->used;
	return (n);
}

void
hb_arena_fini(struct hb_arena *a)
{
	struct block *b = a->head, *next;

	for (; b != NULL; b = next) {
		next = b->next;
		hb_burst_free(b, sizeof *b + b->cap);
	}
	a->head = NULL;
}

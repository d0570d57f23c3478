/* SPDX-License-Identifier: Apache-2.0 */
#include "core/facts/facts.h"

/*
 * Blocks double up to a limit: the first one holds what most connections need (a server name, a
 * few offers, one identity), and a large value gets a block of its own.
 */
#define BLOCK_FIRST 512u
#define BLOCK_MAX   8192u
#define ALIGNMENT   16u

struct block {
	struct block *next;
	size_t cap, used;
	_Alignas(ALIGNMENT) char data[];
};

static struct block *
block_new(struct hb_arena *a, size_t n)
{
	struct block *head = a->head, *b;
	size_t cap = head == NULL ? BLOCK_FIRST : HB_MIN(head->cap * 2, (size_t)BLOCK_MAX);

	cap = HB_MAX(cap, n);
	HB_ASSERT(cap < SIZE_MAX - sizeof *b);
	b = hb_calloc(1, sizeof *b + cap);
	b->cap = cap;
	b->next = head;
	a->head = b;
	return (b);
}

void *
hb_arena_alloc(struct hb_arena *a, size_t n)
{
	struct block *b = a->head;
	void *p;

	HB_ASSERT(n <= SIZE_MAX - ALIGNMENT);
	n = HB_MAX((n + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1), (size_t)ALIGNMENT);
	if (b == NULL || b->cap - b->used < n)
		b = block_new(a, n);
	p = b->data + b->used;
	b->used += n;
	a->used += n;
	return (p);
}

struct hb_str
hb_arena_str(struct hb_arena *a, struct hb_str s)
{
	char *p = hb_arena_alloc(a, s.len + 1);

	if (s.len > 0)
		memcpy(p, s.p, s.len);
	return (hb_strn(p, s.len));
}

void
hb_arena_fini(struct hb_arena *a)
{
	struct block *b = a->head, *next;

	for (; b != NULL; b = next) {
		next = b->next;
		hb_free(b);
	}
	a->head = NULL;
	a->used = 0;
}

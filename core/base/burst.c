/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/burst.h"

#include <sys/mman.h>
#include "core/base/list.h"

#define BLOCK   (32u * 1024u)
#define REGION  (32u * BLOCK) /* mapped at once, for ever */
#define KEPT    8u            /* empty blocks that keep a page: objects come and go one at a time */
#define PAGE    4096u
#define CLASSES (HB_BURST_SIZE_MAX / 16u)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define POOLED false
#else
#define POOLED true
#endif

struct pool;

/* At the start of its memory, which is aligned to its size. */
struct block {
	struct hb_list node; /* of its class while it has room             */
	struct pool *pool;
	void *freed;                /* objects, each points to the next           */
	uint32_t used, fresh, room; /* objects; from `fresh` on never used */
	uint32_t size;              /* of an object                               */
};
_Static_assert(sizeof(struct block) % 16 == 0, "objects are aligned");

struct pool {                            /* of a thread; lives as long as the process */
	struct hb_list partial[CLASSES]; /* struct block with room; the fullest first, about */
	void *kept[KEPT];                /* empty blocks                         */
	void **cold;                     /* owned; those that gave their pages back */
	char *fresh, *end;               /* never used ones, of the last region  */
	size_t n_kept, n_cold, cap_cold, n_used;
};

static _Thread_local struct pool *mine;

static struct pool *
pool_of_thread(void)
{
	if (HB_LIKELY(mine != NULL))
		return (mine);
	mine = hb_calloc(1, sizeof *mine);
	for (unsigned i = 0; i < CLASSES; i++)
		hb_list_init(&mine->partial[i]);
	return (mine);
}

/* ------------------------------------------------------------------ blocks */

static void *
block_fresh(struct pool *p)
{
	char *at;

	if (p->fresh == p->end) {
		at = mmap(NULL, REGION + BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
		if (at == MAP_FAILED)
			HB_WRONG("out of memory");
		/* A huge page would be resident for one object, and never empty. */
		(void)madvise(at, REGION + BLOCK, MADV_NOHUGEPAGE);
		p->fresh = (char *)(((uintptr_t)at + BLOCK - 1) & ~(uintptr_t)(BLOCK - 1));
		p->end = p->fresh + REGION;
	}
	at = p->fresh;
	p->fresh += BLOCK;
	return (at);
}

static struct block *
block_take(struct pool *p, unsigned class)
{
	struct block *b;

	if (p->n_kept > 0)
		b = p->kept[--p->n_kept];
	else if (p->n_cold > 0)
		b = p->cold[--p->n_cold];
	else
		b = block_fresh(p);
	p->n_used++;
	b->pool = p;
	b->freed = NULL;
	b->size = (class + 1) * 16;
	b->room = (BLOCK - (uint32_t)sizeof *b) / b->size;
	b->used = b->fresh = 0;
	hb_list_add_head(&p->partial[class], &b->node);
	return (b);
}

static void
block_give(struct pool *p, struct block *b)
{
	hb_list_del(&b->node);
	HB_ASSERT(p->n_used > 0);
	p->n_used--;
	if (p->n_kept < KEPT) {
		/* After a burst most of it has been touched; its next use may not need more than a page. */
		if (sizeof *b + (size_t)b->fresh * b->size > PAGE)
			(void)madvise((char *)b + PAGE, BLOCK - PAGE, MADV_DONTNEED);
		p->kept[p->n_kept++] = b;
		return;
	}
	if (p->n_cold == p->cap_cold) {
		p->cap_cold = HB_MAX(p->cap_cold * 2, (size_t)32);
		p->cold = hb_realloc(p->cold, p->cap_cold * sizeof *p->cold);
	}
	(void)madvise(b, BLOCK, MADV_DONTNEED);
	p->cold[p->n_cold++] = b;
}

/* ------------------------------------------------------------------ objects */

void *
hb_burst_calloc(size_t n)
{
	unsigned class = n == 0 ? 0 : (unsigned)((n - 1) / 16);
	struct pool *p;
	struct block *b;
	void *at;

	if (!POOLED || n > HB_BURST_SIZE_MAX)
		return (hb_calloc(1, n));
	p = pool_of_thread();
	b = hb_list_empty(&p->partial[class]) ?
		block_take(p, class) :
		HB_LIST_ENTRY(p->partial[class].next, struct block, node);
	at = b->freed;
	if (at != NULL)
		memcpy(&b->freed, at, sizeof b->freed);
	else
		at = (char *)(b + 1) + (size_t)b->fresh++ * b->size;
	if (++b->used == b->room)
		hb_list_del(&b->node);
	return (memset(at, 0, n));
}

void
hb_burst_free(void *at, size_t n)
{
	struct block *b = (void *)((uintptr_t)at & ~(uintptr_t)(BLOCK - 1));

	if (at == NULL)
		return;
	if (!POOLED || n > HB_BURST_SIZE_MAX) {
		hb_free(at);
		return;
	}
	HB_ASSERT(b->used > 0 && n <= b->size && HB_MAX(n, (size_t)1) + 16 > b->size);
	memcpy(at, &b->freed, sizeof b->freed);
	b->freed = at;
	if (b->used-- == b->room)
		hb_list_add_head(&b->pool->partial[b->size / 16 - 1], &b->node);
	if (b->used == 0)
		block_give(b->pool, b);
}

size_t
hb_burst_blocks(void)
{
	return (mine == NULL ? 0 : mine->n_used * BLOCK);
}

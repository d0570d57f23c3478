/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/burst.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "core/base/list.h"

#define BLOCK   (16u * 1024u)
#define REGION  (64u * BLOCK) /* mapped at once, for ever */
#define KEPT    8u            /* empty blocks that keep a page: objects come and go one at a time */
#define PAGE    4096u
#define CLASSES (HB_BURST_SIZE_MAX / 16u)

#ifdef __SANITIZE_ADDRESS__
#define POOLED false
#else
#define POOLED true
#endif

struct pool;

/* At the start of its memory, which is aligned to its size. */
struct block {
	struct hb_list node; /* of its class while it has room             */
	struct pool *pool;
	struct hb_list *home;       /* the pool's list for its class              */
	void *freed;                /* objects, each points to the next           */
	uint16_t used, fresh, room; /* objects; from `fresh` on never used        */
	uint16_t size;              /* of an object                               */
};
_Static_assert(sizeof(struct block) % 16 == 0, "objects are aligned");
_Static_assert(BLOCK / 16u <= UINT16_MAX && HB_BURST_SIZE_MAX <= UINT16_MAX, "it fits the counts");

#define LINE 64u

/*
 * Of a thread. When it ends its pool is an orphan until another thread adopts it, so there are as many as
 * there were threads at once, and a block's pool is always there.
 */
struct pool {
	struct hb_list partial[2][CLASSES]; /* struct block with room; the fullest first, about;
	                                       [1]: of what lasts */
	void *kept[KEPT];                   /* empty blocks                         */
	void **cold;                        /* owned; those that gave their pages back */
	char *fresh, *end;                  /* never used ones, of the last region  */
	size_t n_kept, n_cold, cap_cold, n_used;
	struct pool *next;  /* orphan                                     */
	struct pool *other; /* of all pools                               */
	/* The only line that other threads write to: objects that they have freed. */
	_Alignas(LINE) _Atomic(void *) foreign;
};
_Static_assert(offsetof(struct pool, foreign) % LINE == 0 &&
		sizeof(struct pool) == offsetof(struct pool, foreign) + LINE,
	"nothing of the owner's shares a line with what others write");

static _Thread_local struct pool *mine;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key; /* its destructor notices the end of a thread */
static pthread_mutex_t orphans_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pool *orphans;
static struct pool *pools; /* all of them; grows only */

static void collect(struct pool *);
/* Rare, and no part of what the owner does for each object. */
static struct pool *pool_make(void) __attribute__((noinline));
static void push_foreign(struct pool *, void *at) __attribute__((noinline));
static void take_foreign(struct pool *) __attribute__((noinline));

static void
thread_ended(void *arg)
{
	struct pool *p = arg;

	collect(p);
	/* A later destructor of this thread may still free: as any other thread does, from now on. */
	mine = NULL;
	pthread_mutex_lock(&orphans_lock);
	p->next = orphans;
	orphans = p;
	pthread_mutex_unlock(&orphans_lock);
}

static void
key_make(void)
{
	if (pthread_key_create(&key, thread_ended) != 0)
		HB_WRONG("no thread-specific keys left");
}

static struct pool *
pool_new(void)
{
	struct pool *p = aligned_alloc(LINE, sizeof *p);

	if (p == NULL)
		HB_WRONG("out of memory");
	memset(p, 0, sizeof *p);
	for (unsigned i = 0; i < CLASSES; i++) {
		hb_list_init(&p->partial[0][i]);
		hb_list_init(&p->partial[1][i]);
	}
	p->other = pools;
	HB_SHOWN_PTR_SET(pools, p);
	return (p);
}

/* Once a thread. */
static struct pool *
pool_make(void)
{
	struct pool *p;

	(void)pthread_once(&once, key_make);
	pthread_mutex_lock(&orphans_lock);
	p = orphans;
	if (p != NULL)
		orphans = p->next;
	else
		p = pool_new();
	pthread_mutex_unlock(&orphans_lock);
	p->next = NULL;
	if (pthread_setspecific(key, p) != 0)
		HB_WRONG("out of memory");
	collect(p);
	return (mine = p);
}

static inline struct pool *
pool_of_thread(void)
{
	return (HB_LIKELY(mine != NULL) ? mine : pool_make());
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
block_take(struct pool *p, struct hb_list *home, size_t size)
{
	struct block *b;

	if (p->n_kept > 0)
		b = p->kept[--p->n_kept];
	else if (p->n_cold > 0)
		b = p->cold[--p->n_cold];
	else
		b = block_fresh(p);
	HB_SHOWN_ADD(p->n_used, 1);
	b->pool = p;
	b->freed = NULL;
	b->home = home;
	b->size = (uint16_t)size;
	b->room = (uint16_t)((BLOCK - sizeof *b) / size);
	b->used = b->fresh = 0;
	hb_list_add_head(home, &b->node);
	return (b);
}

static void
block_give(struct pool *p, struct block *b)
{
	hb_list_del(&b->node);
	HB_ASSERT(p->n_used > 0);
	HB_SHOWN_ADD(p->n_used, -1);
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

static struct block *
block_of(void *at)
{
	return ((void *)((uintptr_t)at & ~(uintptr_t)(BLOCK - 1)));
}

/* By the thread that has the pool. */
static void
give_back(struct pool *p, struct block *b, void *at)
{
	HB_ASSERT(b->used > 0);
	memcpy(at, &b->freed, sizeof b->freed);
	b->freed = at;
	if (b->used-- == b->room)
		hb_list_add_head(b->home, &b->node);
	if (b->used == 0)
		block_give(p, b);
}

/* By any other one. Nobody but the owner takes from the list, and then all of it. */
static void
push_foreign(struct pool *p, void *at)
{
	void *head = atomic_load_explicit(&p->foreign, memory_order_relaxed);

	do {
		memcpy(at, &head, sizeof head);
	} while (!atomic_compare_exchange_weak_explicit(
		&p->foreign, &head, at, memory_order_release, memory_order_relaxed));
}

static void
take_foreign(struct pool *p)
{
	void *at = atomic_exchange_explicit(&p->foreign, NULL, memory_order_acquire), *next;

	for (; at != NULL; at = next) {
		memcpy(&next, at, sizeof next);
		give_back(p, block_of(at), at);
	}
}

static void
collect(struct pool *p)
{
	if (HB_UNLIKELY(atomic_load_explicit(&p->foreign, memory_order_relaxed) != NULL))
		take_foreign(p);
}

void
hb_burst_collect(void)
{
	if (mine != NULL)
		collect(mine);
}

/* The block that the next object of this class comes from. */
static struct block *
block_with_room(struct pool *p, size_t n, unsigned lasts)
{
	size_t class = n == 0 ? 0 : (n - 1) / 16;
	struct hb_list *home = &p->partial[lasts][class];

	if (HB_UNLIKELY(hb_list_empty(home)))
		collect(p);
	if (HB_UNLIKELY(hb_list_empty(home)))
		return (block_take(p, home, (class + 1) * 16));
	return (HB_LIST_ENTRY(home->next, struct block, node));
}

static inline void *
take(size_t n, unsigned lasts)
{
	struct block *b;
	void *at;

	if (!POOLED || n > HB_BURST_SIZE_MAX)
		return (hb_malloc(n));
	b = block_with_room(pool_of_thread(), n, lasts);
	at = b->freed;
	if (at != NULL)
		memcpy(&b->freed, at, sizeof b->freed);
	else
		at = (char *)(b + 1) + (size_t)b->fresh++ * b->size;
	if (++b->used == b->room)
		hb_list_del(&b->node);
	return (at);
}

void *
hb_burst_alloc(size_t n)
{
	return (take(n, 0));
}

void *
hb_burst_lasting(size_t n)
{
	return (memset(take(n, 1), 0, n));
}

void
hb_burst_free(void *at, size_t n)
{
	struct block *b = block_of(at);

	if (at == NULL)
		return;
	if (!POOLED || n > HB_BURST_SIZE_MAX) {
		hb_free(at);
		return;
	}
	HB_ASSERT(n <= b->size && HB_MAX(n, (size_t)1) + 16 > b->size);
	if (HB_LIKELY(b->pool == mine))
		give_back(b->pool, b, at);
	else
		push_foreign(b->pool, at);
}

size_t
hb_burst_blocks(void)
{
	return (mine == NULL ? 0 : mine->n_used * BLOCK);
}

size_t
hb_burst_total(void)
{
	size_t n = 0;

	for (const struct pool *p = HB_SHOWN_PTR(pools); p != NULL; p = p->other)
		n += HB_SHOWN(p->n_used);
	return (n * BLOCK);
}

size_t
hb_burst_in_use(void)
{
	size_t n = hb_burst_blocks();
	const struct block *b;

	for (unsigned i = 0; n > 0 && i < 2 * CLASSES; i++) {
		const struct hb_list *home = &mine->partial[i / CLASSES][i % CLASSES];

		for (const struct hb_list *at = home->next; at != home; at = at->next) {
			b = HB_LIST_ENTRY(at, const struct block, node);
			n -= (size_t)(b->room - b->used) * b->size;
		}
	}
	return (n);
}

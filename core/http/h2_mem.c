/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of nghttp2's sessions. Each has a buffer for the frame that it sends next, 16 KiB from
 * the start and as large as the largest DATA frame later, although our payload never goes through it
 * (NO_COPY). What is in it counts only until nghttp2_session_mem_send has handed it out, and
 * hb_h2__send_all copies it then; so all sessions of a worker have the same one lent. The pages
 * behind the longest header block are never touched. It saves 16 KiB a session (row T5).
 *
 * Which block it is: the only ones that nghttp2 asks for by realloc of nothing are the chunks of its
 * frame buffer. The first is lent; a larger one replaces it, which nghttp2 does without looking at
 * the older one; another of the same size is the rest of a long header block, kept between calls,
 * and memory of its own.
 *
 * A server's answers are encoded without a table (make_options in h2_session.c), yet nghttp2 gives each
 * encoder the ring of one. It is the first block of that size which a session asks for, and nothing is
 * read from it or written to it while the table's size is 0: servers share one that cannot be touched.
 *
 * Everything else is burst memory, what is large malloc's: a stream's state, which lives as long as the
 * stream, does not share pages with the frames of its start. nghttp2 does not tell what it frees, so the size
 * stands before each block.
 */
#include <sys/mman.h>
#include "core/base/burst.h"
#include "core/http/h2_priv.h"

#define CHUNK_MIN 16384u
/* 4096 bytes of the default table, 32 that an entry costs at least, and pointers to entries. */
#define RING_SIZE (4096u / 32u * sizeof(void *))

struct head {
	_Alignas(16) size_t size; /* with this */
};

static void *
map(size_t n, int protection)
{
	void *p = mmap(NULL, n, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		HB_WRONG("out of memory");
	return (p);
}

struct h2_worker *
hb_h2__worker(struct hb_worker *w)
{
	void *p = w->slot[HB_SLOT_HTTP];

	if (HB_LIKELY(p != NULL))
		return (p);
	p = map(sizeof(struct h2_worker), PROT_READ | PROT_WRITE);
	((struct h2_worker *)p)->ring = map(RING_SIZE, PROT_NONE);
	w->slot[HB_SLOT_HTTP] = p;
	return (p);
}

void
hb_h2_worker_fini(struct hb_worker *w)
{
	struct h2_worker *p = w->slot[HB_SLOT_HTTP];

	w->slot[HB_SLOT_HTTP] = NULL;
	if (p == NULL)
		return;
	HB_ASSERT(!p->fields_used);
	HB_ASSERT(p->options == NULL);
	HB_ASSERT(munmap(p->ring, RING_SIZE) == 0);
	HB_ASSERT(munmap(p, sizeof *p) == 0);
}

static void *
block_new(size_t n)
{
	struct head *h = hb_burst_alloc(sizeof *h + n);

	h->size = sizeof *h + n;
	return (h + 1);
}

static void
block_del(void *p)
{
	struct head *h = (struct head *)p - 1;

	hb_burst_free(h, h->size);
}

static void *
mem_malloc(size_t n, void *user_data)
{
	struct hb_h2 *h2 = user_data;

	if (HB_UNLIKELY(n == RING_SIZE) && h2->server && h2->ring == NULL) {
		h2->ring = hb_h2__worker(h2->worker)->ring;
		return (h2->ring);
	}
	return (block_new(n));
}

static void *
mem_calloc(size_t n, size_t size, void *user_data)
{
	(void)user_data;
	HB_ASSERT(size == 0 || n <= SIZE_MAX / 2 / size);
	return (memset(block_new(n * size), 0, n * size));
}

static void
mem_free(void *p, void *user_data)
{
	const struct hb_h2 *h2 = user_data;

	if (p != NULL && p != h2->lent && p != h2->ring)
		block_del(p);
}

static void *
mem_realloc(void *p, size_t n, void *user_data)
{
	struct hb_h2 *h2 = user_data;
	void *q;

	if (p == NULL && n >= CHUNK_MIN && n > h2->lent_size &&
		n <= sizeof(((struct h2_worker *)0)->frame)) {
		h2->lent = hb_h2__worker(h2->worker)->frame;
		h2->lent_size = (uint32_t)n;
		return (h2->lent);
	}
	q = block_new(n);
	if (p != NULL) {
		HB_ASSERT(p != h2->lent && p != h2->ring);
		memcpy(q, p, HB_MIN(n, ((struct head *)p)[-1].size - sizeof(struct head)));
		block_del(p);
	}
	return (q);
}

nghttp2_mem
hb_h2__mem(struct hb_h2 *h2)
{
	return ((nghttp2_mem){ h2, mem_malloc, mem_free, mem_calloc, mem_realloc });
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/buffer/buf.h"

#include <pthread.h>
#include "core/base/burst.h"

#define BLOCK_MAGIC     0x626c6f63
#define BLOCK_MIN_BITS  8  /* smallest block: 256 bytes                                    */
#define BLOCK_MAX_BITS  18 /* largest pooled block: 256 KiB, one batch of a socket         */
#define BLOCK_MAX       ((size_t)1 << BLOCK_MAX_BITS)
#define CLASSES         (BLOCK_MAX_BITS - BLOCK_MIN_BITS + 1)
#define CLASS_BYTES_MAX (512u * 1024u) /* a thread keeps so many free bytes of each size   */
#define SMALL_BYTES_MAX (16u * 1024u)  /* … of the small sizes, which lie in burst memory    */
#define CLASS_KEEP_MIN  4u             /* … but so many blocks at least                    */
#define GROW_MAX        ((size_t)16 * 1024) /* small appends make blocks no larger than this */
#define PULLUP_MAX      ((size_t)64 * 1024)

/* A pool would hide a use after free from the sanitizer. */
#ifdef __SANITIZE_ADDRESS__
#define POOLED false
#else
#define POOLED true
#endif

/*
 * Slices that share a block stay on one thread, so the count is no atomic. Who holds the only
 * reference may write behind its bytes.
 */
struct hb_block {
	unsigned magic;
	uint32_t refs;
	size_t cap;
	struct hb_block *next; /* in a free list */
	uint8_t data[];
};

struct pool {
	struct hb_block *blocks[CLASSES];
	unsigned nblocks[CLASSES];
	bool registered; /* the thread's end will free it */
	uint64_t copied;
};

static _Thread_local struct pool pool;
static pthread_key_t pool_key;
static pthread_once_t pool_once = PTHREAD_ONCE_INIT;

static void pool_register(void) __attribute__((noinline)); /* once a thread */

/* ------------------------------------------------------------------ blocks and slices */

static bool
is_small(size_t cap)
{
	return (sizeof(struct hb_block) + cap <= HB_BURST_SIZE_MAX);
}

static void
block_del(struct hb_block *b)
{
	if (is_small(b->cap))
		hb_burst_free(b, sizeof *b + b->cap);
	else
		hb_free(b);
}

/* So many blocks of a size are kept free. */
static unsigned
keep_max(size_t cap)
{
	size_t n = (is_small(cap) ? SMALL_BYTES_MAX : CLASS_BYTES_MAX) / cap;

	return ((unsigned)HB_MAX(n, (size_t)CLASS_KEEP_MIN));
}

static void
pool_free(void *arg)
{
	struct pool *p = arg;

	for (unsigned c = 0; c < CLASSES; c++) {
		while (p->blocks[c] != NULL) {
			struct hb_block *b = p->blocks[c];

			p->blocks[c] = b->next;
			block_del(b);
		}
		p->nblocks[c] = 0;
	}
	/* A later destructor of this thread may still free buffers: it registers anew. */
	p->registered = false;
}

static void
pool_key_make(void)
{
	if (pthread_key_create(&pool_key, pool_free) != 0)
		HB_WRONG("no thread-specific keys left");
}

static void
pool_register(void)
{
	(void)pthread_once(&pool_once, pool_key_make);
	if (pthread_setspecific(pool_key, &pool) != 0)
		HB_WRONG("out of memory");
	pool.registered = true;
}

static unsigned
class_of(size_t cap)
{
	unsigned bits = BLOCK_MIN_BITS;

	while (((size_t)1 << bits) < cap)
		bits++;
	return (bits - BLOCK_MIN_BITS);
}

static struct hb_block *
block_new(size_t n)
{
	struct hb_block *b;
	size_t cap = n;

	if (n <= BLOCK_MAX) {
		unsigned c = class_of(n);

		cap = (size_t)1 << (c + BLOCK_MIN_BITS);
		b = pool.blocks[c];
		if (b != NULL) {
			HB_ASSERT(b->cap == cap && b->magic == 0);
			pool.blocks[c] = b->next;
			pool.nblocks[c]--;
			goto out;
		}
	}
	n = sizeof *b + cap;
	b = is_small(cap) ? hb_burst_alloc(n) : hb_malloc(n);
	b->cap = cap;
out:
	b->magic = BLOCK_MAGIC;
	b->next = NULL;
	b->refs = 1;
	return (b);
}

static void
block_unref(struct hb_block *b)
{
	unsigned c;

	HB_CHECK(b, BLOCK_MAGIC);
	HB_ASSERT(b->refs > 0);
	if (--b->refs > 0)
		return;
	b->magic = 0;
	if (POOLED && b->cap <= BLOCK_MAX) {
		c = class_of(b->cap);
		if (pool.nblocks[c] < keep_max(b->cap)) {
			if (HB_UNLIKELY(!pool.registered))
				pool_register();
			b->next = pool.blocks[c];
			pool.blocks[c] = b;
			pool.nblocks[c]++;
			return;
		}
	}
	block_del(b);
}

static bool
block_sole(const struct hb_block *b)
{
	return (b->refs == 1);
}

/* Takes over one reference to `block` (NULL = borrowed). */
static struct hb_slice *
slice_new(uint8_t *data, size_t len, struct hb_block *block)
{
	struct hb_slice *s = hb_burst_alloc(sizeof *s);

	s->next = NULL;
	s->data = data;
	s->len = len;
	s->block = block;
	s->is_static = false;
	return (s);
}

static void
slice_free(struct hb_slice *s)
{
	if (s->block != NULL)
		block_unref(s->block);
	if (s->is_static)
		memset(s, 0, sizeof *s);
	else
		hb_burst_free(s, sizeof *s);
}

/* Bytes that may be written behind the slice. */
static size_t
slice_room(const struct hb_slice *s)
{
	if (s->block == NULL || !block_sole(s->block))
		return (0);
	return ((size_t)(s->block->data + s->block->cap - (s->data + s->len)));
}

static size_t
slice_headroom(const struct hb_slice *s)
{
	if (s->block == NULL || !block_sole(s->block))
		return (0);
	return ((size_t)(s->data - s->block->data));
}

/* ------------------------------------------------------------------ the queue */

static void
link_tail(struct hb_buf *b, struct hb_slice *s)
{
	s->next = NULL;
	if (b->tail == NULL)
		b->head = s;
	else
		b->tail->next = s;
	b->tail = s;
	b->len += s->len;
}

static void
link_head(struct hb_buf *b, struct hb_slice *s)
{
	s->next = b->head;
	b->head = s;
	if (b->tail == NULL)
		b->tail = s;
	b->len += s->len;
}

static struct hb_slice *
unlink_head(struct hb_buf *b)
{
	struct hb_slice *s = b->head;

	b->head = s->next;
	if (b->head == NULL)
		b->tail = NULL;
	b->len -= s->len;
	s->next = NULL;
	return (s);
}

void
hb_buf_fini(struct hb_buf *b)
{
	while (b->head != NULL)
		slice_free(unlink_head(b));
	HB_ASSERT(b->len == 0);
}

void
hb_buf_borrow(struct hb_buf *b, struct hb_slice *s, const void *p, size_t n)
{
	memset(s, 0, sizeof *s);
	s->is_static = true;
	if (n == 0)
		return;
	HB_ASSERT(p != NULL);
	s->data = (uint8_t *)(uintptr_t)p;
	s->len = n;
	link_tail(b, s);
}

/* Appends a copy; new blocks have room for `more` bytes that are known to follow. */
static void
append(struct hb_buf *b, const uint8_t *p, size_t n, size_t more)
{
	pool.copied += n;
	while (n > 0) {
		size_t room = b->tail == NULL ? 0 : slice_room(b->tail), k;

		if (room == 0) {
			size_t want = HB_MAX(n + more, HB_MIN(b->len, GROW_MAX));
			struct hb_block *block = block_new(HB_MIN(want, BLOCK_MAX));

			link_tail(b, slice_new(block->data, 0, block));
			room = block->cap;
		}
		k = HB_MIN(n, room);
		memcpy(b->tail->data + b->tail->len, p, k);
		b->tail->len += k;
		b->len += k;
		p += k;
		n -= k;
	}
}

void
hb_buf_add(struct hb_buf *b, const void *p, size_t n)
{
	HB_ASSERT(p != NULL || n == 0);
	append(b, p, n, 0);
}

void
hb_buf_prepend(struct hb_buf *b, const void *p, size_t n)
{
	struct hb_slice *s = b->head;
	struct hb_block *block;

	HB_ASSERT(p != NULL || n == 0);
	if (n == 0)
		return;
	pool.copied += n;
	if (s != NULL && slice_headroom(s) >= n) {
		s->data -= n;
		s->len += n;
		b->len += n;
	} else {
		block = block_new(n);
		/* At the end of the block, so that the next prepend finds room. */
		link_head(b, slice_new(block->data + block->cap - n, n, block));
	}
	memcpy(b->head->data, p, n);
}

uint8_t *
hb_buf_reserve(struct hb_buf *b, size_t n)
{
	struct hb_block *block;

	HB_ASSERT(n > 0);
	if (b->tail == NULL || slice_room(b->tail) < n) {
		block = block_new(n);
		if (b->tail != NULL && b->tail->len == 0 && b->tail->block != NULL) {
			/* An earlier reservation that was not used and is too small. */
			block_unref(b->tail->block);
			b->tail->block = block;
			b->tail->data = block->data;
		} else {
			link_tail(b, slice_new(block->data, 0, block));
		}
	}
	return (b->tail->data + b->tail->len);
}

void
hb_buf_commit(struct hb_buf *b, size_t n)
{
	if (n == 0)
		return;
	HB_ASSERT(b->tail != NULL && n <= slice_room(b->tail));
	b->tail->len += n;
	b->len += n;
}

void
hb_buf_move(struct hb_buf *to, struct hb_buf *from)
{
	HB_ASSERT(to != from);
	if (from->len == 0) {
		hb_buf_fini(from); /* an unused reservation */
		return;
	}
	if (to->len == 0)
		hb_buf_fini(to);
	if (to->tail == NULL)
		to->head = from->head;
	else
		to->tail->next = from->head;
	to->tail = from->tail;
	to->len += from->len;
	from->head = from->tail = NULL;
	from->len = 0;
}

void
hb_buf_move_n(struct hb_buf *to, struct hb_buf *from, size_t n)
{
	HB_ASSERT(to != from);
	HB_ASSERT(n <= from->len);
	if (n > 0 && to->len == 0)
		hb_buf_fini(to);
	while (n > 0) {
		struct hb_slice *s = from->head, *part;

		if (s->len <= n) {
			n -= s->len;
			link_tail(to, unlink_head(from));
			continue;
		}
		if (s->block != NULL)
			s->block->refs++;
		part = slice_new(s->data, n, s->block);
		s->data += n;
		s->len -= n;
		from->len -= n;
		link_tail(to, part);
		n = 0;
	}
}

void
hb_buf_move_front(struct hb_buf *to, struct hb_buf *from)
{
	struct hb_buf all = { 0 };

	HB_ASSERT(to != from);
	hb_buf_move(&all, from);
	hb_buf_move(&all, to);
	*to = all;
}

void
hb_buf_own(struct hb_buf *b)
{
	struct hb_buf out = { 0 };
	size_t borrowed = 0;

	for (const struct hb_slice *s = b->head; s != NULL; s = s->next)
		borrowed += s->block == NULL ? s->len : 0;
	if (borrowed == 0)
		return;
	while (b->head != NULL) {
		struct hb_slice *s = unlink_head(b);

		if (s->block != NULL) {
			link_tail(&out, s);
			continue;
		}
		borrowed -= s->len;
		append(&out, s->data, s->len, borrowed);
		slice_free(s);
	}
	*b = out;
}

bool
hb_buf_is_owned(const struct hb_buf *b)
{
	for (const struct hb_slice *s = b->head; s != NULL; s = s->next)
		if (s->block == NULL)
			return (false);
	return (true);
}

void
hb_buf_drain(struct hb_buf *b, size_t n)
{
	HB_ASSERT(n <= b->len);
	while (n > 0) {
		struct hb_slice *s = b->head;

		if (s->len > n) {
			s->data += n;
			s->len -= n;
			b->len -= n;
			return;
		}
		n -= s->len;
		slice_free(unlink_head(b));
	}
	if (b->len == 0)
		hb_buf_fini(b);
}

size_t
hb_buf_copyout(const struct hb_buf *b, size_t off, void *dst, size_t n)
{
	uint8_t *d = dst;
	size_t done = 0;

	for (const struct hb_slice *s = b->head; s != NULL && done < n; s = s->next) {
		size_t k;

		if (off >= s->len) {
			off -= s->len;
			continue;
		}
		k = HB_MIN(s->len - off, n - done);
		memcpy(d + done, s->data + off, k);
		done += k;
		off = 0;
	}
	return (done);
}

const uint8_t *
hb_buf_pullup(struct hb_buf *b, size_t n)
{
	struct hb_buf front = { 0 };
	size_t have;

	HB_ASSERT(n <= PULLUP_MAX);
	n = HB_MIN(n, b->len);
	if (n == 0)
		return ((const uint8_t *)"");
	if (b->head->len >= n)
		return (b->head->data);
	/*
	 * A parser asks for one byte more again and again: the front block keeps its place (and
	 * blocks are powers of two), so that each byte is moved a bounded number of times.
	 */
	if (slice_room(b->head) >= n - b->head->len) {
		link_tail(&front, unlink_head(b));
	} else {
		struct hb_block *block = block_new(n);

		link_tail(&front, slice_new(block->data, 0, block));
	}
	have = front.len;
	(void)hb_buf_copyout(b, 0, front.tail->data + have, n - have);
	pool.copied += n - have;
	hb_buf_drain(b, n - have);
	front.tail->len = front.len = n;
	hb_buf_move_front(b, &front);
	return (b->head->data);
}

int
hb_buf_iov(const struct hb_buf *b, struct iovec *iov, int max)
{
	int n = 0;

	for (const struct hb_slice *s = b->head; s != NULL && n < max; s = s->next) {
		if (s->len == 0)
			continue; /* a reservation without bytes yet */
		iov[n].iov_base = s->data;
		iov[n].iov_len = s->len;
		n++;
	}
	return (n);
}

uint64_t
hb_buf_copied(void)
{
	return (pool.copied);
}

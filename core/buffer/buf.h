/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/buffer/buf.h: queues of byte slices.
 *
 * A slice is BORROWED (somebody else's memory, valid until the call it was passed to returns) or
 * OWNED (a reference to a block). A zeroed struct hb_buf is a valid empty buffer. Moving slices
 * between buffers never copies bytes. A sink that cannot move borrowed bytes on before it returns
 * calls hb_buf_own, which copies exactly those: copied bytes are counted per worker
 * (hb_buf_copied), and an unblocked relay copies none.
 *
 * Not thread safe, and counts of blocks are no atomics: an owned buffer may be handed to another
 * thread as a whole when none of its slices was split (hb_buf_move_n) from what stays behind.
 */
#ifndef HB_CORE_BUFFER_BUF_H
#define HB_CORE_BUFFER_BUF_H

#include <sys/uio.h>
#include "core/base/str.h"

struct hb_block; /* reference-counted memory of a slice */

struct hb_slice {
	struct hb_slice *next;  /* private */
	uint8_t         *data;
	size_t           len;
	struct hb_block *block; /* NULL = borrowed */
	bool             is_static; /* the struct itself is the caller's (hb_buf_borrow) */
};

struct hb_buf {
	struct hb_slice *head, *tail; /* private */
	size_t           len;         /* bytes in all slices, read-only */
};

#define HB_BUF_IOV_MAX 128

/* Frees the slices (not borrowed memory). The buffer is empty and usable afterwards. */
HB_EXPORT void hb_buf_fini(struct hb_buf *);
/*
 * Appends borrowed bytes. `s` is memory for the slice, usually on the caller's stack; it must
 * live until the buffer is empty or hb_buf_own was called.
 */
HB_EXPORT void hb_buf_borrow(struct hb_buf *, struct hb_slice *s, const void *p, size_t n);
/* Appends a copy. */
HB_EXPORT void hb_buf_add(struct hb_buf *, const void *p, size_t n);
static inline void
hb_buf_addz(struct hb_buf *b, const char *z)
{
	hb_buf_add(b, z, strlen(z));
}
/* Puts a copy before everything else. */
HB_EXPORT void hb_buf_prepend(struct hb_buf *, const void *p, size_t n);
/* Reserves room for n bytes in an owned tail block: write there, then commit what was written. */
HB_EXPORT uint8_t *hb_buf_reserve(struct hb_buf *, size_t n);
HB_EXPORT void     hb_buf_commit(struct hb_buf *, size_t n);
/* Moves all / the first n bytes of `from` to the tail of `to` (a slice is split by reference;
 * a borrowed slice stays borrowed). n <= from->len. */
HB_EXPORT void hb_buf_move(struct hb_buf *to, struct hb_buf *from);
HB_EXPORT void hb_buf_move_n(struct hb_buf *to, struct hb_buf *from, size_t n);
/* Moves all of `from` before everything in `to`. */
HB_EXPORT void hb_buf_move_front(struct hb_buf *to, struct hb_buf *from);
/* Turns every borrowed slice into an owned one. */
HB_EXPORT void hb_buf_own(struct hb_buf *);
bool hb_buf_is_owned(const struct hb_buf *);
/* Drops the first n bytes; n <= len. */
HB_EXPORT void hb_buf_drain(struct hb_buf *, size_t n);
/* Copies up to n bytes from `off` without draining; returns how many. */
HB_EXPORT size_t hb_buf_copyout(const struct hb_buf *, size_t off, void *dst, size_t n);
/* One contiguous piece of the first min(n, len) bytes; may merge owned slices; valid until the
 * buffer changes. n <= 64 KiB. */
HB_EXPORT const uint8_t *hb_buf_pullup(struct hb_buf *, size_t n);
/* Fills iov with the first slices; returns entries used. */
int hb_buf_iov(const struct hb_buf *, struct iovec *iov, int max);

/* Bytes copied by hb_buf_own, _add, _prepend and _pullup on this thread since it started. */
uint64_t hb_buf_copied(void);

/*
 * Watermarks: high fires when the level rises to or above `high`, low when it falls to or below
 * high / 2 after that. high 0 = never.
 */
struct hb_watermark {
	uint32_t high : 31; /* HB_WATERMARK_MAX at most */
	uint32_t above : 1; /* read-only                */
};
#define HB_WATERMARK_MAX 0x7fffffffu
/* Returns +1 = now above, -1 = now below, 0 = no change. */
static inline int
hb_watermark_set(struct hb_watermark *w, size_t level)
{
	if (w->high == 0)
		return (0);
	if (!w->above && level >= w->high) {
		w->above = true;
		return (1);
	}
	if (w->above && level <= w->high / 2) {
		w->above = false;
		return (-1);
	}
	return (0);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/base/burst.h: memory for what comes and goes in bursts. Objects of one size lie in blocks of
 * their own, which go back to the system when nothing lives in them any more: elsewhere on the heap
 * what lives long would hold the pages of what was freed beside it.
 *
 * What is freed when the burst is over should not share blocks with what stays: whoever makes what stays, idle
 * connections, says so.
 *
 * Blocks belong to a thread. Any thread may free an object, at any time: to its owner's thread that
 * costs no lock and no atomic read-modify-write, to another one an atomic push on a list of the
 * owner's, who takes all of it back when it needs a block, or calls hb_burst_collect. Until
 * then the object's memory is nobody's to use, so an owner that sleeps holds what others have freed.
 * What a thread leaves behind when it ends, free memory and objects that live on, is adopted by the
 * next one that makes an object; at the end of the process nothing is given back. With
 * AddressSanitizer all of it is malloc's.
 */
#ifndef HB_CORE_BASE_BURST_H
#define HB_CORE_BASE_BURST_H

#include "core/base/base.h"

#define HB_BURST_SIZE_MAX 2048u /* what is larger comes from malloc */

/* Aligned to 16. Never NULL. */
void *hb_burst_alloc(size_t n);
/* … zeroed. */
static inline void *
hb_burst_calloc(size_t n)
{
	return (memset(hb_burst_alloc(n), 0, n));
}
/* … zeroed, for what is likely to outlive the burst that it is made in. */
void *hb_burst_lasting(size_t n);
/* With the size that it was made with. NULL is fine. */
void  hb_burst_free(void *p, size_t n);
/* Takes back what other threads have freed of the calling thread's: a load when they have not. Workers
 * do it at the end of each turn. */
void  hb_burst_collect(void);
#define HB_BURST_NEW(p, magic_value)             \
	do {                                     \
		(p) = hb_burst_calloc(sizeof *(p)); \
		(p)->magic = (magic_value);      \
	} while (0)
#define HB_BURST_DEL(p)                          \
	do {                                     \
		HB_ASSERT((p)->magic != 0);      \
		(p)->magic = 0;                  \
		hb_burst_free((p), sizeof *(p)); \
		(p) = NULL;                      \
	} while (0)
/* Any thread: bytes of blocks that are in use, of all threads together. */
size_t hb_burst_total(void);
/* Of the calling thread: bytes of blocks that are in use; the same without the room that is left in them,
 * so with AddressSanitizer 0. For tests. */
size_t hb_burst_blocks(void);
size_t hb_burst_in_use(void);

#endif

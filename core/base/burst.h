/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/base/burst.h: memory for what comes and goes in bursts. Objects of one size lie in blocks of
 * their own, which go back to the system when nothing lives in them any more: elsewhere on the heap
 * what lives long would hold the pages of what was freed beside it.
 *
 * An object is made and freed by one thread, or freed by another when that one has ended. With
 * AddressSanitizer all of it is malloc's.
 */
#ifndef HB_CORE_BASE_BURST_H
#define HB_CORE_BASE_BURST_H

#include "core/base/base.h"

#define HB_BURST_SIZE_MAX 2048u /* what is larger comes from malloc */

/* Zeroed, aligned to 16. Never NULL. */
void *hb_burst_calloc(size_t n);
/* With the size that it was made with. NULL is fine. */
void  hb_burst_free(void *p, size_t n);
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
/* Of the calling thread: bytes of blocks that are in use. For tests. */
size_t hb_burst_blocks(void);

#endif

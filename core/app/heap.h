/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/app/heap.h: gives pages that a burst has left free in the heap back to the system.
 *
 * The allocator does that by itself at the end of a heap only: one connection that stays there keeps
 * all below it. Trimming holds the lock of each arena in turn, for about 0.1 ms for each MiB that it
 * frees, and an allocation of its worker waits meanwhile. So it is asked for, and waits until the heap
 * has stayed as it is.
 *
 * Control thread.
 */
#ifndef HB_CORE_APP_HEAP_H
#define HB_CORE_APP_HEAP_H

#include <stdint.h>

/* Looks from now on, and trims when `mib` or more can be had. */
void hb_heap_watch(uint64_t mib);
void hb_heap_unwatch(void);
/* Times that it trimmed. */
uint64_t hb_heap_trims(void);

#endif

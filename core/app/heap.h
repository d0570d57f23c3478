/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/app/heap.h: gives pages that a burst has left free in the heap, or the start, back to the system.
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

/*
 * The process has started: what only the start has needed is given back, free pages of the heap and the
 * mappings of code and constants. What runs is mapped again, as it is needed, from the page
 * cache; the first tunnel comes no later for it.
 */
void hb_heap_started(void);
/* Looks from now on, and trims when `mib` or more can be had. */
void hb_heap_watch(uint64_t mib);
void hb_heap_unwatch(void);
/* Times that it trimmed. */
uint64_t hb_heap_trims(void);

#endif

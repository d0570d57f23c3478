/* SPDX-License-Identifier: Apache-2.0 */
#include "core/app/heap.h"
#include <link.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include "core/base/burst.h"
#include "core/base/log.h"
#include "core/event/worker.h"

#define LOOK_MS 2000u
#define LOOKS   2u /* at which the heap was as at the one before */
#define MIB     (1024 * 1024)
#define NOISE   MIB /* bytes in use that may differ from one look to the next */

static struct hb_timer timer;
static int64_t wanted;  /* bytes                                                    */
static int64_t used;    /* at the last look; -1 = none yet                          */
static int64_t beside;  /* resident, not in use, and it stays: stacks, fragments, … */
static unsigned still;
static uint64_t trims;

static int64_t
used_now(void)
{
	struct mallinfo2 m = mallinfo2();

	return ((int64_t)(m.uordblks + m.hblkhd + hb_burst_total()));
}

/* Of the process alone; -1 = the system does not say. */
static int64_t
resident_now(void)
{
	long long resident, shared;
	FILE *f = fopen("/proc/self/statm", "r");
	int n = f == NULL ? 0 : fscanf(f, "%*s %lld %lld", &resident, &shared);

	if (f != NULL)
		(void)fclose(f);
	return (n == 2 ? (resident - shared) * sysconf(_SC_PAGESIZE) : -1);
}

static void
trim(int64_t slack)
{
	struct hb_worker *w = hb_worker_control();
	uint64_t began = hb_now_us(w), took;

	(void)malloc_trim(0);
	took = hb_now_us(w) - began;
	beside = resident_now() - used_now();
	trims++;
	HB_LOG(MAIN, INFO, "free pages of the heap were given back", "mib=%lld took_us=%llu",
		(long long)(slack - beside) / MIB, (unsigned long long)took);
}

static void
on_look(struct hb_timer *t)
{
	int64_t last = used, resident = resident_now(), slack;

	hb_timer_start(t, LOOK_MS);
	used = used_now();
	slack = resident - used;
	if (resident < 0)
		return;
	if (last < 0 || slack < beside)
		beside = slack;
	still = last >= 0 && used - last <= NOISE && last - used <= NOISE ? still + 1 : 0;
	if (still >= LOOKS && slack - beside >= wanted)
		trim(slack);
}

/*
 * Code and constants of one object: nobody has written to these pages, so the file still has what is in
 * them. What relocation has written lies in a segment that is writable at first.
 */
static int
forget(struct dl_phdr_info *object, size_t size, void *arg)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from, to;

	(void)size;
	(void)arg;
	for (unsigned i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &object->dlpi_phdr[i];

		if (p->p_type != PT_LOAD || (p->p_flags & PF_W))
			continue;
		from = (object->dlpi_addr + p->p_vaddr) & ~(page - 1);
		to = (object->dlpi_addr + p->p_vaddr + p->p_filesz + page - 1) & ~(page - 1);
		/* The vDSO is no file, and says no. */
		(void)madvise((void *)from, to - from, MADV_DONTNEED);
	}
	return (0);
}

void
hb_heap_started(void)
{
	(void)malloc_trim(0);
	(void)dl_iterate_phdr(forget, NULL);
}

void
hb_heap_watch(uint64_t mib)
{
	wanted = (int64_t)mib * MIB;
	used = -1;
	hb_timer_init(&timer, hb_worker_control(), on_look);
	hb_timer_start(&timer, 0);
}

void
hb_heap_unwatch(void)
{
	if (wanted > 0)
		hb_timer_stop(&timer);
	wanted = 0;
}

uint64_t
hb_heap_trims(void)
{
	return (trims);
}

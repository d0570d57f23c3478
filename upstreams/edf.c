/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Weighted scheduling by earliest deadline: a binary heap of due times. An item of weight w is due
 * every 1/w; equal due times keep the order in which they were set.
 */
#include "core/base/str.h"
#include "upstreams/lb.h"

struct entry {
	double due;
	uint64_t order;
	uint32_t item;
};

struct hb_edf {
	unsigned magic;
#define EDF_MAGIC 0x4ed15c77
	uint32_t n;
	uint64_t order;
	struct entry heap[];
};

static bool
before(const struct entry *a, const struct entry *b)
{
	return (a->due < b->due || (a->due == b->due && a->order < b->order));
}

static void
sift_down(struct hb_edf *e, uint32_t i)
{
	struct entry moved = e->heap[i];

	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= e->n)
			break;
		if (child + 1 < e->n && before(&e->heap[child + 1], &e->heap[child]))
			child++;
		if (!before(&e->heap[child], &moved))
			break;
		e->heap[i] = e->heap[child];
		i = child;
	}
	e->heap[i] = moved;
}

static double
interval(double (*weight)(void *, uint32_t), void *arg, uint32_t item)
{
	double w = weight(arg, item);

	HB_ASSERT(w > 0);
	return (1.0 / w);
}

struct hb_edf *
hb_edf_new(uint32_t n, double (*weight)(void *, uint32_t), void *arg)
{
	struct hb_edf *e = hb_calloc(1, sizeof *e + n * sizeof e->heap[0]);

	HB_ASSERT(n > 0);
	e->magic = EDF_MAGIC;
	e->n = n;
	/* A random phase each: workers that start together do not all begin with the same item. */
	for (uint32_t i = 0; i < n; i++)
		e->heap[i] = (struct entry){
			.due = interval(weight, arg, i) *
				((double)(hb_random() >> 11) / 9007199254740992.0),
			.order = e->order++,
			.item = i,
		};
	for (uint32_t i = n / 2; i > 0; i--)
		sift_down(e, i - 1);
	return (e);
}

void
hb_edf_free(struct hb_edf **ep)
{
	if (*ep == NULL)
		return;
	HB_CHECK(*ep, EDF_MAGIC);
	HB_DEL(*ep);
}

uint32_t
hb_edf_next(struct hb_edf *e, double (*weight)(void *, uint32_t), void *arg)
{
	uint32_t item;

	HB_CHECK(e, EDF_MAGIC);
	item = e->heap[0].item;
	e->heap[0].due += interval(weight, arg, item);
	e->heap[0].order = e->order++;
	sift_down(e, 0);
	return (item);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The timer wheel. Timers do not cascade: one that was put far away fires from its coarse slot,
 * late by at most one slot. A running timer that moves further away stays where it is and only its
 * due_ms changes; its slot notices when it comes. So a busy connection's idle timer costs a store.
 */
#include "core/event/worker_priv.h"

#define LEVEL_BITS   4u
#define SLOT_MASK    (HB_WHEEL_SLOTS - 1)
#define DELAY_MS_MAX ((uint64_t)1 << 40)

static unsigned
level_shift(unsigned level)
{
	return (level * LEVEL_BITS);
}

void
hb_wheel_init(struct hb_wheel *w, uint64_t now_ms)
{
	memset(w, 0, sizeof *w);
	w->clock_ms = now_ms;
	for (unsigned n = 0; n < HB_WHEEL_LEVELS; n++)
		for (unsigned s = 0; s < HB_WHEEL_SLOTS; s++)
			hb_list_init(&w->slot[n][s]);
}

/* Distance from slot `from` to the first used slot of a level, going up and around; -1 = none. */
static int
level_distance(const uint64_t *used, unsigned from)
{
	unsigned word = from / 64;
	uint64_t bits = used[word] & (~UINT64_C(0) << (from % 64));

	/* The first word comes again at the end, for the bits below `from`. */
	for (unsigned i = 0; i <= HB_WHEEL_SLOTS / 64; i++) {
		if (bits != 0) {
			unsigned s = word * 64 + (unsigned)__builtin_ctzll(bits);

			return ((int)((s - from) & SLOT_MASK));
		}
		word = (word + 1) % (HB_WHEEL_SLOTS / 64);
		bits = used[word];
	}
	return (-1);
}

/* The next due slot: its time, level and index. */
static uint64_t
wheel_next(const struct hb_wheel *w, unsigned *ret_level, unsigned *ret_slot)
{
	uint64_t best = UINT64_MAX;

	if (w->count == 0)
		return (best);
	for (unsigned n = 0; n < HB_WHEEL_LEVELS; n++) {
		uint64_t base = w->clock_ms >> level_shift(n);
		int d = level_distance(w->used[n], (unsigned)(base & SLOT_MASK));

		if (d >= 0 && (base + (unsigned)d) << level_shift(n) < best) {
			best = (base + (unsigned)d) << level_shift(n);
			*ret_level = n;
			*ret_slot = (unsigned)((base + (unsigned)d) & SLOT_MASK);
		}
	}
	return (best);
}

uint64_t
hb_wheel_next(struct hb_wheel *w)
{
	unsigned level, slot;

	if (!w->next_known) {
		w->next_ms = wheel_next(w, &level, &slot);
		w->next_known = true;
	}
	return (w->next_ms);
}

static void
wheel_insert(struct hb_wheel *w, struct hb_timer *t, uint64_t now_ms)
{
	uint64_t due = t->due_ms, delta, at;
	unsigned n = 0, s;

	if (now_ms > w->clock_ms) {
		/* Distances count from the wheel's clock: keep it near, for precision. */
		uint64_t next = hb_wheel_next(w);

		w->clock_ms = HB_MAX(w->clock_ms, HB_MIN(now_ms, next));
	}
	due = HB_MAX(due, w->clock_ms);
	delta = due - w->clock_ms;
	if (delta >= HB_WHEEL_SLOTS) {
		/* Rounding up at both ends may cost two slots. */
		for (n = 1; n < HB_WHEEL_LEVELS - 1; n++)
			if (delta >> level_shift(n) < HB_WHEEL_SLOTS - 2)
				break;
		delta = HB_MIN(delta, (uint64_t)(HB_WHEEL_SLOTS - 2) << level_shift(n));
	}
	at = (w->clock_ms + delta + ((UINT64_C(1) << level_shift(n)) - 1)) >> level_shift(n);
	s = (unsigned)(at & SLOT_MASK);
	hb_list_add_tail(&w->slot[n][s], &t->node);
	w->used[n][s / 64] |= UINT64_C(1) << (s % 64);
	w->count++;
	if (w->next_known)
		w->next_ms = HB_MIN(w->next_ms, at << level_shift(n));
}

static void
wheel_remove(struct hb_wheel *w, struct hb_timer *t)
{
	struct hb_list *head = t->node.next, *first = &w->slot[0][0];
	size_t i;

	HB_ASSERT(w->count > 0);
	w->count--;
	if (head == t->node.prev && head >= first &&
		head < first + HB_WHEEL_LEVELS * HB_WHEEL_SLOTS) {
		/* The last one of its slot. */
		i = (size_t)(head - first);
		w->used[i / HB_WHEEL_SLOTS][i % HB_WHEEL_SLOTS / 64] &= ~(UINT64_C(1) << (i % 64));
		w->next_known = false;
	}
	hb_list_del(&t->node);
}

void
hb_wheel_run(struct hb_worker *worker, uint64_t now_ms)
{
	struct hb_wheel *w = &worker->priv->wheel;
	struct hb_list due;
	uint64_t at;
	unsigned n = 0, s = 0;

	if (hb_wheel_next(w) > now_ms) {
		w->clock_ms = HB_MAX(w->clock_ms, now_ms);
		return;
	}
	hb_list_init(&due);
	w->next_known = false;
	while ((at = wheel_next(w, &n, &s)) <= now_ms) {
		w->clock_ms = HB_MAX(w->clock_ms, at);
		hb_list_splice(&due, &w->slot[n][s]);
		w->used[n][s / 64] &= ~(UINT64_C(1) << (s % 64));
	}
	w->clock_ms = HB_MAX(w->clock_ms, now_ms);
	/* A timer that is started by one of these waits for the next turn, so this ends. */
	while (!hb_list_empty(&due)) {
		struct hb_timer *t = HB_LIST_ENTRY(due.next, struct hb_timer, node);

		wheel_remove(w, t);
		if (t->due_ms > now_ms) {
			wheel_insert(w, t, now_ms); /* it was moved, or its delay was very long */
			continue;
		}
		t->due_ms = 0;
		t->fn(t);
	}
}

void
hb_wheel_rebase(struct hb_wheel *w, uint64_t old_ms, uint64_t now_ms)
{
	struct hb_list all;

	hb_list_init(&all);
	for (unsigned n = 0; n < HB_WHEEL_LEVELS; n++)
		for (unsigned s = 0; s < HB_WHEEL_SLOTS; s++)
			hb_list_splice(&all, &w->slot[n][s]);
	hb_wheel_init(w, now_ms);
	while (!hb_list_empty(&all)) {
		struct hb_timer *t = HB_LIST_ENTRY(all.next, struct hb_timer, node);

		hb_list_del(&t->node);
		t->due_ms = now_ms + (t->due_ms > old_ms ? t->due_ms - old_ms : 0);
		t->due_ms = HB_MAX(t->due_ms, (uint64_t)1);
		wheel_insert(w, t, now_ms);
	}
}

void
hb_timer_init(struct hb_timer *t, struct hb_worker *w, void (*fn)(struct hb_timer *))
{
	HB_CHECK(w, HB_WORKER_MAGIC);
	HB_ASSERT(fn != NULL);
	hb_list_init(&t->node);
	t->worker = w;
	t->due_ms = 0;
	t->fn = fn;
}

void
hb_timer_start(struct hb_timer *t, uint64_t delay_ms)
{
	struct hb_wheel *w = &t->worker->priv->wheel;
	uint64_t now_ms = hb_now_ms(t->worker), due = now_ms + HB_MIN(delay_ms, DELAY_MS_MAX);

	HB_ASSERT(t->fn != NULL);
	due = HB_MAX(due, (uint64_t)1);
	if (t->due_ms != 0) {
		if (due >= t->due_ms) {
			t->due_ms = due;
			return;
		}
		wheel_remove(w, t);
	}
	t->due_ms = due;
	wheel_insert(w, t, now_ms);
}

void
hb_timer_stop(struct hb_timer *t)
{
	if (t->due_ms == 0)
		return;
	wheel_remove(&t->worker->priv->wheel, t);
	t->due_ms = 0;
}

bool
hb_timer_running(const struct hb_timer *t)
{
	return (t->due_ms != 0);
}

void
hb_clock_fake(struct hb_worker *worker, uint64_t now_ms)
{
	struct hb_worker_priv *p = worker->priv;
	uint64_t old_ms = hb_now_ms(worker);

	(void)hb_wall_us(worker); /* it goes on from here, in step */
	p->fake = true;
	p->fake_ms = now_ms;
	hb_wheel_rebase(&p->wheel, old_ms, now_ms);
}

void
hb_clock_advance(struct hb_worker *worker, uint64_t ms)
{
	struct hb_worker_priv *p = worker->priv;
	uint64_t end = p->fake_ms + ms, next;

	HB_ASSERT(p->fake);
	/* From one due time to the next, so that a timer that restarts itself fires each time. */
	while ((next = hb_wheel_next(&p->wheel)) <= end) {
		next = HB_MAX(next, p->fake_ms);
		p->wall_us += (int64_t)(next - p->fake_ms) * 1000;
		p->fake_ms = next;
		hb_wheel_run(worker, next);
	}
	p->wall_us += (int64_t)(end - p->fake_ms) * 1000;
	p->fake_ms = end;
}

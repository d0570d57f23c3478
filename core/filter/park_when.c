/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When connections rest. Those that had an event lately are in a list, oldest first. A sweep looks at
 * each once: who had an event since the last sweep stays, of the others those rest that may, as long
 * as more are awake than the worker keeps so. There is no sweep while none of them can rest, and
 * sweeps that find nothing to do become rare.
 */
#include "core/filter/park_priv.h"

#define SWEEP_SLICE 256u    /* connections in a turn */
#define HURRY       4u      /* times the number that stays awake */
#define DUE_MS_MAX  128000u /* a timer is late by a sixteenth, which a step must cover */

static uint32_t above = HB_PARK_ABOVE_DEFAULT;

void
hb_park_above(uint32_t n)
{
	above = n;
}

/* ------------------------------------------------------------------ the sweep */

/* Without a wait where each connection is to rest at once. */
static uint32_t
age_min(void)
{
	return (above == 0 ? 0 : HB_PARK_AGE_MIN_MS);
}

static bool
too_many(const struct hb_park *p)
{
	return (p->n_awake > above);
}

/*
 * Many that open at once have not all to be awake at once: who is idle makes room for the next, in the
 * next turn, unless it has turned out that those that rest are soon woken.
 */
static bool
in_a_hurry(const struct hb_park *p)
{
	return (p->n_awake / HURRY > above && p->interval_ms <= HB_PARK_AGE_MIN_MS);
}

static void
sweep_later(struct hb_park *p)
{
	if (!too_many(p) || hb_list_linked(&p->more.node))
		return;
	if (in_a_hurry(p))
		hb_timer_start(&p->sweep, 0);
	else if (!hb_timer_running(&p->sweep))
		hb_timer_start(&p->sweep, p->interval_ms);
}

void
hb_park__watch(struct hb_conn *c)
{
	struct hb_park *p = &hb_conn__state(hb_conn__worker(c))->park;

	HB_ASSERT(!(c->flags & (HB_CF_AWAKE | HB_CF_CLOSING)));
	c->flags |= HB_CF_AWAKE;
	c->touched = true;
	hb_list_add_tail(&p->awake, &c->awake);
	p->n_awake++;
	if (p->interval_ms > p->age_ms) {
		p->interval_ms = p->age_ms;
		hb_timer_stop(&p->sweep);
	}
	sweep_later(p);
}

void
hb_park__unwatch(struct hb_conn *c)
{
	struct hb_park *p;

	if (!(c->flags & HB_CF_AWAKE))
		return;
	p = &hb_conn__state(hb_conn__worker(c))->park;
	c->flags &= ~HB_CF_AWAKE;
	hb_list_del(&c->awake);
	HB_ASSERT(p->n_awake > 0);
	if (--p->n_awake == 0) {
		hb_timer_stop(&p->sweep);
		hb_run_cancel(&p->more);
	}
}

static void
look_at(struct hb_conn_worker *s, struct hb_conn *c)
{
	struct hb_park *p = &s->park;

	p->looked++;
	if (c->touched) {
		c->touched = false;
		p->hot++;
	} else if (hb_park__why_not(c) == NULL) {
		p->rested++;
		hb_park__rest(s, c);
		return;
	}
	hb_list_del(&c->awake);
	hb_list_add_tail(&p->awake, &c->awake);
}

/*
 * Many that are busy are looked at less often, so are those that cannot rest. Where many go to rest
 * looking pays.
 */
static void
sweep_done(struct hb_park *p)
{
	if (p->rested * 4 >= p->looked)
		p->age_ms = HB_MAX(p->age_ms / 2, age_min());
	else if (p->hot * 2 > p->looked && p->looked > HB_PARK_ABOVE_DEFAULT)
		p->age_ms = HB_MIN(p->age_ms * 2 + 1, HB_PARK_AGE_MAX_MS);
	if (p->rested + p->hot > 0)
		p->interval_ms = p->age_ms;
	else
		p->interval_ms = HB_MIN(p->interval_ms * 2 + 1, HB_PARK_AGE_MAX_MS);
	sweep_later(p);
}

static void
sweep_run(struct hb_run *run)
{
	struct hb_conn_worker *s = HB_CONTAINER(run, struct hb_conn_worker, park.more);
	struct hb_park *p = &s->park;

	HB_CHECK(s, HB_CONN_WORKER_MAGIC);
	/* Who goes through all of them must find each once. */
	for (unsigned n = 0; n < SWEEP_SLICE && s->cursor == NULL && too_many(p) && p->left > 0;
		n++) {
		p->left--;
		look_at(s, HB_LIST_ENTRY(p->awake.next, struct hb_conn, awake));
	}
	if (s->cursor == NULL && too_many(p) && p->left > 0)
		hb_run_soon(s->worker, &p->more);
	else
		sweep_done(p);
}

static void
sweep_start(struct hb_timer *t)
{
	struct hb_park *p = HB_CONTAINER(t, struct hb_park, sweep);

	p->left = p->n_awake;
	p->looked = p->rested = p->hot = 0;
	hb_run_soon(t->worker, &p->more);
}

/* ------------------------------------------------------------------ what is due */

static uint64_t
step_of(const struct hb_conn_worker *s)
{
	return (hb_now_ms(s->worker) >> HB_PARK_STEP_MS_LOG2);
}

/* The list of a step, or of the last one that there is a list for: it is looked at again then. */
static struct hb_list *
list_of(struct hb_park *p, const struct hb_parked *k)
{
	if (k->step == 0)
		return (&p->never);
	HB_ASSERT(k->step > p->done_step);
	return (&p->step[HB_MIN((uint64_t)k->step, p->done_step + HB_PARK_STEPS - 1) %
		HB_PARK_STEPS]);
}

/* The timer fires in the step before. */
static void
due_later(struct hb_conn_worker *s)
{
	struct hb_park *p = &s->park;
	uint64_t now = hb_now_ms(s->worker), at;

	for (uint64_t i = p->done_step + 1; i < p->done_step + HB_PARK_STEPS; i++) {
		if (hb_list_empty(&p->step[i % HB_PARK_STEPS]))
			continue;
		at = (i - 1) << HB_PARK_STEP_MS_LOG2;
		if (!hb_timer_running(&p->due) || p->due.due_ms > at) {
			hb_timer_stop(&p->due);
			hb_timer_start(&p->due, at > now ? HB_MIN(at - now, DUE_MS_MAX) : 1);
		}
		return;
	}
}

static void
due_run(struct hb_timer *t)
{
	struct hb_conn_worker *s = HB_CONTAINER(t, struct hb_conn_worker, park.due);
	struct hb_park *p = &s->park;
	struct hb_list over;

	HB_CHECK(s, HB_CONN_WORKER_MAGIC);
	hb_list_init(&over);
	while (p->done_step < step_of(s) + 1) {
		p->done_step++;
		hb_list_splice(&over, &p->step[p->done_step % HB_PARK_STEPS]);
	}
	while (!hb_list_empty(&over)) {
		struct hb_parked *k = HB_LIST_ENTRY(over.next, struct hb_parked, node);

		if (k->step <= p->done_step) {
			(void)hb_park__wake(s, k);
			continue;
		}
		hb_list_del(&k->node);
		hb_list_add_tail(list_of(p, k), &k->node);
	}
	due_later(s);
}

/* ------------------------------------------------------------------ those that rest */

static void
put_back(struct hb_conn_worker *s, struct hb_parked *k)
{
	struct hb_park *p = &s->park;

	if (!hb_timer_running(&p->due))
		p->done_step = step_of(s) + 1; /* all lists are empty */
	hb_list_add_tail(list_of(p, k), &k->node);
	if (k->step != 0 &&
		(!hb_timer_running(&p->due) ||
			p->due.due_ms > (uint64_t)(k->step - 1) << HB_PARK_STEP_MS_LOG2))
		due_later(s);
}

void
hb_park__put(struct hb_conn_worker *s, struct hb_parked *k)
{
	put_back(s, k);
	HB_SHOWN_ADD(s->park.parked, 1);
	HB_SHOWN_ADD(s->park.parks, 1);
}

void
hb_park__take(struct hb_conn_worker *s, struct hb_parked *k)
{
	hb_list_del(&k->node);
	HB_ASSERT(s->park.parked > 0);
	HB_SHOWN_ADD(s->park.parked, -1ull);
	HB_SHOWN_ADD(s->park.wakes, 1);
	/* The timer tells whether all lists are empty. */
	if (s->park.parked == 0)
		hb_timer_stop(&s->park.due);
}

struct hb_conn *
hb_park__event(struct hb_conn_worker *s, struct hb_parked *k)
{
	struct hb_park *p = &s->park;
	uint64_t now = hb_now_ms(s->worker);

	/* Many that are woken together say no more than one does. */
	if ((uint32_t)now - k->since_ms < HB_PARK_EARLY_MS && above > 0 &&
		now - p->doubled_ms >= p->age_ms) {
		p->age_ms = HB_MIN(p->age_ms * 2, HB_PARK_AGE_MAX_MS);
		p->doubled_ms = now;
	}
	return (hb_park__wake(s, k));
}

/* ------------------------------------------------------------------ all of them */

static void
take_all(struct hb_park *p, struct hb_list *to)
{
	for (unsigned i = 0; i < HB_PARK_STEPS; i++)
		hb_list_splice(to, &p->step[i]);
	hb_list_splice(to, &p->never);
}

void
hb_park__visit_all(struct hb_conn_worker *s, bool (*fn)(void *arg, struct hb_conn *), void *arg)
{
	struct hb_list all;
	struct hb_conn *c;
	bool goes_on = true;

	hb_list_init(&all);
	take_all(&s->park, &all);
	hb_list_splice(&all, &s->park.walk);
	while (goes_on && !hb_list_empty(&all)) {
		c = hb_park__wake(s, HB_LIST_ENTRY(all.next, struct hb_parked, node));
		goes_on = fn(arg, c);
		/* A walk must find it. */
		if (s->cursor == NULL && hb_park__why_not(c) == NULL)
			hb_park__rest(s, c);
	}
	while (!hb_list_empty(&all)) {
		struct hb_parked *k = HB_LIST_ENTRY(all.next, struct hb_parked, node);

		hb_list_del(&k->node);
		if (s->cursor == NULL)
			put_back(s, k);
		else
			hb_list_add_tail(&s->park.walk, &k->node);
	}
}

void
hb_park__walk_start(struct hb_conn_worker *s)
{
	take_all(&s->park, &s->park.walk);
}

struct hb_conn *
hb_park__walk_next(struct hb_conn_worker *s)
{
	struct hb_list *first = s->park.walk.next;

	if (first == &s->park.walk)
		return (NULL);
	return (hb_park__wake(s, HB_LIST_ENTRY(first, struct hb_parked, node)));
}

void
hb_park__walk_done(struct hb_conn_worker *s, struct hb_conn *c)
{
	if (hb_park__why_not(c) == NULL)
		hb_park__rest(s, c);
}

/* ------------------------------------------------------------------ life, numbers */

void
hb_park__init(struct hb_conn_worker *s)
{
	struct hb_park *p = &s->park;

	hb_list_init(&p->awake);
	hb_list_init(&p->never);
	hb_list_init(&p->walk);
	for (unsigned i = 0; i < HB_PARK_STEPS; i++)
		hb_list_init(&p->step[i]);
	hb_timer_init(&p->sweep, s->worker, sweep_start);
	hb_timer_init(&p->due, s->worker, due_run);
	hb_run_init(&p->more, sweep_run);
	p->age_ms = p->interval_ms = age_min();
	p->wall_us = hb_wall_us(s->worker) - (int64_t)hb_now_ms(s->worker) * 1000;
}

void
hb_park__fini(struct hb_conn_worker *s)
{
	HB_ASSERT(s->park.parked == 0 && s->park.n_awake == 0);
	hb_timer_stop(&s->park.sweep);
	hb_timer_stop(&s->park.due);
	hb_run_cancel(&s->park.more);
}

static const struct hb_park *
shown(const struct hb_worker *w)
{
	static const struct hb_park none;
	const struct hb_conn_worker *s = HB_SHOWN_PTR(w->slot[HB_SLOT_FILTER]);

	return (s == NULL ? &none : &s->park);
}

uint64_t
hb_park_resting(const struct hb_worker *w)
{
	return (HB_SHOWN(shown(w)->parked));
}

uint64_t
hb_park_rests(const struct hb_worker *w)
{
	return (HB_SHOWN(shown(w)->parks));
}

uint64_t
hb_park_wakes(const struct hb_worker *w)
{
	return (HB_SHOWN(shown(w)->wakes));
}

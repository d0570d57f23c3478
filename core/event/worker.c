/* SPDX-License-Identifier: Apache-2.0 */
#include "core/event/worker_priv.h"

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include "core/base/burst.h"
#include "core/base/log.h"

#define TASKS_A_TURN    1024u /* posted tasks; the rest waits for the next turn    */
#define RUNS_A_TURN     256u
#define DRAIN_TURNS_MAX 1000u /* at the end, for tasks that make tasks             */

/* What the end finds left open is a defect: fatal where developers look. */
#if !defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LEFT_OPEN_PANICS true
#else
#define LEFT_OPEN_PANICS false
#endif

static struct hb_worker *workers[HB_WORKERS_MAX];
static unsigned nworkers;
static struct hb_worker *control;
static bool running;
static void (*end_hooks[8])(struct hb_worker *);
static size_t n_end_hooks;

static _Thread_local struct hb_worker *current;

/* ------------------------------------------------------------------ the turn */

static bool
has_work(const struct hb_worker_priv *p)
{
	return (p->backlog != NULL || p->dead != NULL || p->quiet != NULL ||
		!hb_list_empty(&p->run) || !hb_list_empty(&p->later) ||
		atomic_load_explicit(&p->posted, memory_order_relaxed) != NULL);
}

/* Appends what was posted to the backlog, oldest first. */
static void
take_posted(struct hb_worker_priv *p)
{
	struct hb_task *t, *first = NULL, *last;

	/* Every turn asks, few find something: the line is written only then. */
	if (atomic_load_explicit(&p->posted, memory_order_relaxed) == NULL)
		return;
	t = atomic_exchange_explicit(&p->posted, NULL, memory_order_acquire);
	last = t;
	while (t != NULL) {
		struct hb_task *older = t->next;

		t->next = first;
		first = t;
		t = older;
	}
	*p->backlog_tail = first;
	p->backlog_tail = &last->next;
}

static void
run_tasks(struct hb_worker_priv *p)
{
	take_posted(p);
	for (unsigned n = 0; n < TASKS_A_TURN && p->backlog != NULL; n++) {
		struct hb_task *t = p->backlog;

		p->backlog = t->next;
		if (p->backlog == NULL)
			p->backlog_tail = &p->backlog;
		t->next = NULL;
		t->fn(t);
	}
}

static void
run_queue(struct hb_worker_priv *p)
{
	hb_list_splice(&p->run, &p->later);
	for (unsigned n = 0; n < RUNS_A_TURN && !hb_list_empty(&p->run); n++) {
		struct hb_run *r = HB_LIST_ENTRY(p->run.next, struct hb_run, node);

		hb_list_del(&r->node);
		p->running = r;
		r->fn(r);
		p->running = NULL;
	}
}

static void
free_dead(struct hb_worker_priv *p)
{
	while (p->dead != NULL) {
		struct hb_dead *d = p->dead;

		p->dead = d->next;
		if (p->dead == NULL)
			p->dead_tail = &p->dead;
		d->free_fn(d);
	}
}

static void
run_quiet(struct hb_worker_priv *p)
{
	struct hb_quiet *q = p->quiet;

	p->quiet = NULL;
	p->quiet_tail = &p->quiet;
	while (q != NULL) {
		struct hb_quiet *next = q->next;

		q->fn(q);
		q = next;
	}
}

static void
end_of_turn(struct hb_worker *w)
{
	run_tasks(w->priv);
	run_queue(w->priv);
	free_dead(w->priv);
	HB_ASSERT(w->priv->scratch_out == 0);
	hb_burst_collect();
	run_quiet(w->priv);
}

static void
on_timer(uv_timer_t *h)
{
	struct hb_worker *w = h->data;

	w->priv->armed_ms = UINT64_MAX;
	hb_wheel_run(w, hb_now_ms(w));
}

static void
on_idle(uv_idle_t *h)
{
	(void)h;
}

/* Just before the loop blocks. */
static void
on_prepare(uv_prepare_t *h)
{
	struct hb_worker *w = h->data;
	struct hb_worker_priv *p = w->priv;
	uint64_t next = p->fake ? UINT64_MAX : hb_wheel_next(&p->wheel), now = uv_now(&p->loop);

	/* own_turn sees to it. */
	if (p->waits)
		return;
	if (next != p->armed_ms) {
		p->armed_ms = next;
		if (next == UINT64_MAX)
			(void)uv_timer_stop(&p->timer);
		else
			(void)uv_timer_start(&p->timer, on_timer, next > now ? next - now : 0, 0);
	}
	p->wall_valid = p->fake;
	if (has_work(p))
		(void)uv_idle_start(&p->idle, on_idle);
	else
		(void)uv_idle_stop(&p->idle);
}

static void
on_check(uv_check_t *h)
{
	end_of_turn(h->data);
}

static void
on_wake(uv_async_t *h)
{
	/* on_check does the work of every turn. */
	(void)h;
}

/* ------------------------------------------------------------------ life */

static int
worker_new(uint32_t index, struct hb_worker **ret, struct hb_err *reterr)
{
	struct hb_worker_priv *p = hb_calloc(1, sizeof *p);
	struct hb_worker *w;
	int r = uv_loop_init(&p->loop);

	if (r != 0) {
		hb_free(p);
		return (hb_err_set(reterr, r,
			"cannot make an event loop: %s; raise the limit of "
			"open files (ulimit -n)",
			uv_strerror(r)));
	}
	HB_NEW(w, HB_WORKER_MAGIC);
	w->index = index;
	w->loop = &p->loop;
	w->priv = p;
	hb_list_init(&p->run);
	hb_list_init(&p->later);
	p->backlog_tail = &p->backlog;
	p->dead_tail = &p->dead;
	p->quiet_tail = &p->quiet;
	p->armed_ms = UINT64_MAX;
	hb_wheel_init(&p->wheel, uv_now(&p->loop));
	r = uv_async_init(&p->loop, &p->wake, on_wake);
	HB_ASSERT(r == 0);
	(void)uv_prepare_init(&p->loop, &p->prepare);
	(void)uv_check_init(&p->loop, &p->check);
	(void)uv_idle_init(&p->loop, &p->idle);
	(void)uv_timer_init(&p->loop, &p->timer);
	p->prepare.data = p->check.data = p->idle.data = p->timer.data = p->wake.data = w;
	(void)uv_prepare_start(&p->prepare, on_prepare);
	(void)uv_check_start(&p->check, on_check);
	*ret = w;
	return (hb_io_ops()->worker_init(w, reterr));
}

int
hb_workers_init(unsigned count, struct hb_err *reterr)
{
	int r;

	HB_ASSERT(control == NULL && !running);
	if (count < 1 || count > HB_WORKERS_MAX)
		return (hb_err_set(reterr, -EINVAL, "%u workers: give a number from 1 to %d", count,
			HB_WORKERS_MAX));
	r = worker_new(HB_WORKER_CONTROL, &control, reterr);
	for (unsigned i = 0; r == 0 && i < count; i++) {
		r = worker_new(i, &workers[i], reterr);
		nworkers += workers[i] != NULL;
	}
	if (r != 0) {
		hb_workers_fini();
		return (r);
	}
	current = control;
	return (0);
}

unsigned
hb_workers_count(void)
{
	return (nworkers);
}

struct hb_worker *
hb_worker_at(unsigned index)
{
	HB_ASSERT(index < nworkers);
	return (workers[index]);
}

struct hb_worker *
hb_worker_control(void)
{
	return (control);
}

struct hb_worker *
hb_worker_current(void)
{
	return (current);
}

bool
hb_workers_running(void)
{
	return (running);
}

void
hb_worker_enter(struct hb_worker *w)
{
	HB_ASSERT(!running);
	current = w;
}

static void
run_loop(struct hb_worker *w, uv_run_mode mode)
{
	struct hb_worker *outer = current;

	HB_CHECK(w, HB_WORKER_MAGIC);
	HB_ASSERT(!w->priv->inside);
	current = w;
	w->priv->inside = true;
	(void)uv_run(&w->priv->loop, mode);
	w->priv->inside = false;
	current = outer;
}

void
hb_worker_turn(struct hb_worker *w, bool wait)
{
	run_loop(w, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
}

/* Everything that was put off, for loops that turn no more. */
static bool
drain(struct hb_worker *w)
{
	struct hb_worker *outer = current;
	bool any = has_work(w->priv);

	current = w;
	if (any)
		end_of_turn(w);
	current = outer;
	return (any);
}

static void
on_woken(struct hb_worker *w)
{
	struct hb_worker_priv *p = w->priv;

	uv_update_time(&p->loop);
	if (!p->fake && hb_wheel_next(&p->wheel) <= uv_now(&p->loop))
		hb_wheel_run(w, uv_now(&p->loop));
}

static int
own_timeout(struct hb_worker_priv *p)
{
	uint64_t next = p->fake ? UINT64_MAX : hb_wheel_next(&p->wheel), now = uv_now(&p->loop);
	int uv = uv_backend_timeout(&p->loop);

	if (has_work(p) || next <= now)
		return (0);
	if (next == UINT64_MAX || (uv >= 0 && (uint64_t)uv < next - now))
		return (uv);
	return ((int)HB_MIN(next - now, (uint64_t)INT_MAX));
}

/* One turn without the uv loop, which is entered only when it has something to do. */
static void
own_turn(struct hb_worker *w)
{
	struct hb_worker_priv *p = w->priv;

	p->wall_valid = p->fake;
	if (hb_io_ops()->wait(w, own_timeout(p), on_woken) || uv_backend_timeout(&p->loop) == 0)
		(void)uv_run(&p->loop, UV_RUN_NOWAIT); /* with on_check */
	else
		end_of_turn(w);
}

static void
own_loop(struct hb_worker *w)
{
	struct hb_worker_priv *p = w->priv;

	current = w;
	p->inside = p->waits = true;
	hb_io_ops()->wait_begin(w);
	while (!p->stopped)
		own_turn(w);
	hb_io_ops()->wait_end(w);
	p->inside = p->waits = p->stopped = false;
	current = NULL;
}

static void *
worker_main(void *arg)
{
	struct hb_worker *w = arg;
	void *panic_stack = hb_panic_thread_begin();
	char name[16];

	(void)snprintf(name, sizeof name, "hb-worker-%u", w->index);
	(void)pthread_setname_np(pthread_self(), name);
	if (hb_io_ops()->wait != NULL)
		own_loop(w);
	else
		run_loop(w, UV_RUN_DEFAULT);
	hb_panic_thread_end(panic_stack);
	return (NULL);
}

int
hb_workers_start(struct hb_err *reterr)
{
	sigset_t all, old;
	int r = 0;

	HB_ASSERT(control != NULL && !running && current == control);
	running = true;
	/* Signals are the control thread's. */
	(void)sigfillset(&all);
	(void)sigdelset(&all, SIGSEGV);
	(void)sigdelset(&all, SIGBUS);
	(void)sigdelset(&all, SIGILL);
	(void)sigdelset(&all, SIGFPE);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	for (unsigned i = 0; i < nworkers && r == 0; i++) {
		r = pthread_create(&workers[i]->priv->thread, NULL, worker_main, workers[i]);
		workers[i]->priv->started = r == 0;
	}
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0)
		return (hb_err_set(reterr, -r,
			"cannot start a worker thread: %s; start with fewer "
			"workers (--concurrency)",
			strerror(r)));
	return (0);
}

void
hb_control_run(void)
{
	HB_ASSERT(current == control && control != NULL);
	if (!control->priv->stopped)
		run_loop(control, UV_RUN_DEFAULT);
	control->priv->stopped = false;
}

void
hb_control_stop(void)
{
	HB_ASSERT(current == control && control != NULL);
	control->priv->stopped = true;
	if (control->priv->inside)
		uv_stop(&control->priv->loop);
}

static void
on_stop_task(struct hb_task *t)
{
	hb_free(t);
	if (current->priv->waits)
		current->priv->stopped = true;
	else
		uv_stop(&current->priv->loop);
}

static void
join_all(void)
{
	for (unsigned i = 0; i < nworkers; i++) {
		struct hb_task *t;

		if (!workers[i]->priv->started)
			continue;
		t = hb_malloc(sizeof *t);
		hb_post(workers[i], t, on_stop_task);
	}
	for (unsigned i = 0; i < nworkers; i++) {
		if (!workers[i]->priv->started)
			continue;
		if (pthread_join(workers[i]->priv->thread, NULL) != 0)
			HB_WRONG("a worker thread cannot be joined");
		workers[i]->priv->started = false;
	}
	running = false;
}

static void
report_handle(uv_handle_t *h, void *arg)
{
	struct hb_worker *w = arg;

	if (!uv_is_closing(h))
		HB_LOG(MAIN, ERROR, "a handle is still open at the end", "worker=%d type=%s",
			(int)w->index, uv_handle_type_name(uv_handle_get_type(h)));
}

/*
 * Not of the heap, which would count all of it as used (core/app/heap.c) although most is never touched.
 * A sanitizer looks for writes behind it.
 */
static uint8_t *
scratch_new(void)
{
#ifdef __SANITIZE_ADDRESS__
	return (hb_malloc(HB_SCRATCH_SIZE));
#else
	void *p = mmap(NULL, HB_SCRATCH_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		HB_WRONG("out of memory");
	return (p);
#endif
}

static void
scratch_free(uint8_t *p)
{
#ifdef __SANITIZE_ADDRESS__
	hb_free(p);
#else
	if (p != NULL)
		HB_ASSERT(munmap(p, HB_SCRATCH_SIZE) == 0);
#endif
}

/* Returns false when something was left open: the loop's memory then stays. */
static bool
worker_free(struct hb_worker **wp)
{
	struct hb_worker *w = *wp;
	struct hb_worker_priv *p = w->priv;
	size_t watched = hb_io_ops()->worker_fini(w), timers = p->wheel.count;

	uv_close((uv_handle_t *)&p->wake, NULL);
	uv_close((uv_handle_t *)&p->prepare, NULL);
	uv_close((uv_handle_t *)&p->check, NULL);
	uv_close((uv_handle_t *)&p->idle, NULL);
	uv_close((uv_handle_t *)&p->timer, NULL);
	(void)uv_run(&p->loop, UV_RUN_NOWAIT);
	if (watched != 0 || timers != 0)
		HB_LOG(MAIN, ERROR, "something is still open at the end",
			"worker=%d descriptors=%zu timers=%zu", (int)w->index, watched, timers);
	for (unsigned i = 0; i < HB_SCRATCH_DEPTH; i++)
		scratch_free(p->scratch[i]);
	if (uv_loop_close(&p->loop) != 0) {
		uv_walk(&p->loop, report_handle, w);
		*wp = NULL;
		return (false);
	}
	hb_io_ops()->worker_free(w);
	hb_free(p);
	HB_DEL(*wp);
	return (watched == 0 && timers == 0);
}

void
hb_workers_at_end(void (*fn)(struct hb_worker *))
{
	HB_ASSERT(n_end_hooks < HB_ARRAY_LEN(end_hooks));
	end_hooks[n_end_hooks++] = fn;
}

void
hb_workers_fini(void)
{
	bool any = true, clean = true;

	if (control == NULL)
		return;
	join_all();
	for (unsigned n = 0; any && n < DRAIN_TURNS_MAX; n++) {
		any = drain(control);
		for (unsigned i = 0; i < nworkers; i++)
			any |= drain(workers[i]);
		current = control;
		any |= hb_retire_flush();
	}
	while (n_end_hooks > 0) {
		n_end_hooks--;
		for (unsigned i = 0; i < nworkers; i++)
			end_hooks[n_end_hooks](workers[i]);
	}
	current = NULL;
	for (unsigned i = 0; i < nworkers; i++)
		clean &= worker_free(&workers[i]);
	nworkers = 0;
	clean &= worker_free(&control);
	control = NULL;
	if (!clean && LEFT_OPEN_PANICS)
		HB_WRONG("something is still open at the end; the log says what");
}

/* ------------------------------------------------------------------ tasks */

void
hb_post(struct hb_worker *w, struct hb_task *t, void (*fn)(struct hb_task *))
{
	struct hb_worker_priv *p = w->priv;
	struct hb_task *head = atomic_load_explicit(&p->posted, memory_order_relaxed);

	HB_CHECK(w, HB_WORKER_MAGIC);
	t->fn = fn;
	do {
		t->next = head;
	} while (!atomic_compare_exchange_weak_explicit(
		&p->posted, &head, t, memory_order_release, memory_order_relaxed));
	/* Who filled the empty list wakes the worker; a worker looks by itself before it sleeps. */
	if (head == NULL && (w != current || !p->inside))
		(void)uv_async_send(&p->wake);
}

struct post_all {
	unsigned magic;
#define POST_ALL_MAGIC 0x70616c6c
	void (*fn)(struct hb_worker *, void *);
	void (*done)(void *);
	void *arg;
	_Atomic unsigned left;
	struct hb_task task_done;
	struct hb_task task[]; /* one a worker */
};

static void
post_all_done(struct hb_task *t)
{
	struct post_all *all = HB_CONTAINER(t, struct post_all, task_done);

	HB_CHECK(all, POST_ALL_MAGIC);
	if (all->done != NULL)
		all->done(all->arg);
	HB_DEL(all);
}

static void
post_all_one(struct hb_task *t)
{
	struct post_all *all;

	all = HB_CONTAINER(t - current->index, struct post_all, task);
	HB_CHECK(all, POST_ALL_MAGIC);
	all->fn(current, all->arg);
	if (atomic_fetch_sub_explicit(&all->left, 1, memory_order_acq_rel) == 1)
		hb_post(control, &all->task_done, post_all_done);
}

void
hb_post_all(void (*fn)(struct hb_worker *, void *arg), void (*done)(void *arg), void *arg)
{
	struct hb_worker *outer = current;
	struct post_all *all;

	HB_ASSERT(fn != NULL);
	if (!running) {
		for (unsigned i = 0; i < nworkers; i++) {
			current = workers[i];
			fn(workers[i], arg);
		}
		current = outer;
		if (done != NULL)
			done(arg);
		return;
	}
	HB_ASSERT(current == control);
	all = hb_calloc(1, sizeof *all + nworkers * sizeof all->task[0]);
	all->magic = POST_ALL_MAGIC;
	all->fn = fn;
	all->done = done;
	all->arg = arg;
	atomic_init(&all->left, nworkers);
	for (unsigned i = 0; i < nworkers; i++)
		hb_post(workers[i], &all->task[i], post_all_one);
}

void
hb_run_init(struct hb_run *r, void (*fn)(struct hb_run *))
{
	hb_list_init(&r->node);
	r->fn = fn;
}

void
hb_run_soon(struct hb_worker *w, struct hb_run *r)
{
	HB_CHECK(w, HB_WORKER_MAGIC);
	HB_ASSERT(r->fn != NULL);
	if (hb_list_linked(&r->node))
		return;
	/* One that always has more to do must not keep descriptors and timers waiting. */
	hb_list_add_tail(r == w->priv->running ? &w->priv->later : &w->priv->run, &r->node);
}

void
hb_run_cancel(struct hb_run *r)
{
	if (hb_list_linked(&r->node))
		hb_list_del(&r->node);
}

void
hb_dead_add(struct hb_worker *w, struct hb_dead *d, void (*free_fn)(struct hb_dead *))
{
	HB_CHECK(w, HB_WORKER_MAGIC);
	d->next = NULL;
	d->free_fn = free_fn;
	*w->priv->dead_tail = d;
	w->priv->dead_tail = &d->next;
}

void
hb_worker_quiet(struct hb_worker *w, struct hb_quiet *q, void (*fn)(struct hb_quiet *))
{
	q->next = NULL;
	q->fn = fn;
	*w->priv->quiet_tail = q;
	w->priv->quiet_tail = &q->next;
}

/* ------------------------------------------------------------------ time */

/* Outside of the loop (while the program starts) the loop's cached time would be old. */
static void
freshen(const struct hb_worker *w)
{
	if (!w->priv->inside)
		uv_update_time(&w->priv->loop);
}

uint64_t
hb_now_ms(const struct hb_worker *w)
{
	if (HB_UNLIKELY(w->priv->fake))
		return (w->priv->fake_ms);
	freshen(w);
	return (uv_now(&w->priv->loop));
}

uint64_t
hb_now_us(const struct hb_worker *w)
{
	if (HB_UNLIKELY(w->priv->fake))
		return (w->priv->fake_ms * 1000);
	return (uv_hrtime() / 1000);
}

int64_t
hb_wall_us(const struct hb_worker *w)
{
	struct hb_worker_priv *p = w->priv;
	struct timespec ts;

	if (p->fake || (p->wall_valid && p->inside))
		return (p->wall_us);
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	p->wall_us = (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
	p->wall_valid = true;
	return (p->wall_us);
}

/* ------------------------------------------------------------------ scratch memory */

uint8_t *
hb_scratch_lease(struct hb_worker *w)
{
	struct hb_worker_priv *p = w->priv;

	if (p->scratch_out == HB_SCRATCH_DEPTH) {
		HB_SHOWN_ADD(p->scratch_exhausted, 1);
		return (NULL);
	}
	if (p->scratch[p->scratch_out] == NULL)
		p->scratch[p->scratch_out] = scratch_new();
	return (p->scratch[p->scratch_out++]);
}

void
hb_scratch_release(struct hb_worker *w, uint8_t *p)
{
	HB_ASSERT(w->priv->scratch_out > 0);
	HB_ASSERT(w->priv->scratch[w->priv->scratch_out - 1] == p);
	w->priv->scratch_out--;
}

uint64_t
hb_scratch_exhausted(const struct hb_worker *w)
{
	return (HB_SHOWN(w->priv->scratch_exhausted));
}

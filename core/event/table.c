/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Retiring, and the table on top of it.
 *
 * A pass posts one task to each worker; the task asks to be told at the end of its turn, and the
 * last worker to get there ends the pass. One pass is under way at a time, what is retired
 * meanwhile goes with the next one.
 *
 * The table is an open-addressing array of pointers to immutable entries. Readers may probe while
 * the writer changes slots: a slot once used keeps its place until the array is replaced as a
 * whole, deleting leaves a grave.
 */
#include "core/event/table.h"

#include "core/event/worker_priv.h"

#define FREES_A_RUN 512u /* so that 100,000 objects do not stall the control loop */

/* ------------------------------------------------------------------ retiring */

struct retired {
	void *obj;
	void (*fn)(void *obj);
};

struct batch {
	struct retired *v; /* owned */
	size_t n, cap;
};

struct pass {
	unsigned magic;
#define PASS_MAGIC 0x70617373
	_Atomic unsigned left;
	struct hb_task done;
	struct pass_part {
		struct hb_task task;
		struct hb_quiet quiet;
		struct pass *pass;
	} part[]; /* one a worker */
};

/* Control thread only. */
static struct {
	struct batch next;    /* collects                                  */
	struct batch current; /* its pass is under way, or it is being freed */
	size_t freed;         /* of current                                */
	bool busy;            /* current is not empty                      */
	bool asked;           /* the end of this turn starts a pass        */
	struct hb_quiet quiet;
	struct hb_run run;
} retire;

static void on_control_quiet(struct hb_quiet *q);

static void
batch_add(struct batch *b, void *obj, void (*fn)(void *obj))
{
	if (b->n == b->cap) {
		b->cap = HB_MAX(b->cap * 2, (size_t)32);
		b->v = hb_realloc(b->v, b->cap * sizeof *b->v);
	}
	b->v[b->n++] = (struct retired){ obj, fn };
}

static void
ask_for_pass(void)
{
	if (retire.busy || retire.asked || retire.next.n == 0)
		return;
	retire.asked = true;
	hb_worker_quiet(hb_worker_control(), &retire.quiet, on_control_quiet);
}

/* Frees up to `max` of the current batch, in order. */
static void
free_some(size_t max)
{
	struct batch *b = &retire.current;

	for (; retire.freed < b->n && max > 0; max--) {
		struct retired r = b->v[retire.freed++];

		r.fn(r.obj);
	}
	if (retire.freed < b->n)
		return;
	hb_free(b->v);
	memset(b, 0, sizeof *b);
	retire.freed = 0;
	retire.busy = false;
}

static void on_free_run(struct hb_run *run);

static void
free_soon(void)
{
	if (hb_list_linked(&retire.run.node))
		return;
	hb_run_init(&retire.run, on_free_run);
	hb_run_soon(hb_worker_control(), &retire.run);
}

static void
on_free_run(struct hb_run *run)
{
	free_some(FREES_A_RUN);
	if (!retire.busy)
		ask_for_pass();
	else
		/* Not hb_run_soon at once: the run queue would go on in this turn. */
		hb_worker_quiet(hb_worker_control(), &retire.quiet, on_control_quiet);
	(void)run;
}

static void
on_pass_done(struct hb_task *t)
{
	struct pass *p = HB_CONTAINER(t, struct pass, done);

	HB_DEL(p);
	free_soon();
}

static void
on_worker_quiet(struct hb_quiet *q)
{
	struct pass *p = HB_CONTAINER(q, struct pass_part, quiet)->pass;

	HB_CHECK(p, PASS_MAGIC);
	if (atomic_fetch_sub_explicit(&p->left, 1, memory_order_acq_rel) == 1)
		hb_post(hb_worker_control(), &p->done, on_pass_done);
}

static void
on_worker_task(struct hb_task *t)
{
	struct pass_part *part = HB_CONTAINER(t, struct pass_part, task);

	hb_worker_quiet(hb_worker_current(), &part->quiet, on_worker_quiet);
}

static void
on_control_quiet(struct hb_quiet *q)
{
	unsigned n = hb_workers_count();
	struct pass *p;

	(void)q;
	if (retire.busy) {
		free_soon();
		return;
	}
	retire.asked = false;
	retire.current = retire.next;
	memset(&retire.next, 0, sizeof retire.next);
	retire.busy = true;
	if (!hb_workers_running()) {
		free_soon();
		return;
	}
	p = hb_calloc(1, sizeof *p + n * sizeof p->part[0]);
	p->magic = PASS_MAGIC;
	atomic_init(&p->left, n);
	for (unsigned i = 0; i < n; i++) {
		p->part[i].pass = p;
		hb_post(hb_worker_at(i), &p->part[i].task, on_worker_task);
	}
}

void
hb_retire(void *obj, void (*fn)(void *obj))
{
	HB_ASSERT(fn != NULL);
	if (hb_worker_control() == NULL) {
		fn(obj);
		return;
	}
	HB_ASSERT(!hb_workers_running() || hb_worker_current() == hb_worker_control());
	batch_add(&retire.next, obj, fn);
	ask_for_pass();
}

void
hb_retire_barrier(void (*done)(void *arg), void *arg)
{
	hb_retire(arg, done);
}

bool
hb_retire_flush(void)
{
	bool any = retire.busy || retire.next.n > 0;

	HB_ASSERT(!hb_workers_running());
	while (retire.busy || retire.next.n > 0) {
		if (retire.busy) {
			free_some(SIZE_MAX);
			continue;
		}
		retire.current = retire.next;
		memset(&retire.next, 0, sizeof retire.next);
		retire.busy = true;
	}
	return (any);
}

/* ------------------------------------------------------------------ table */

#define TABLE_CAP_MIN 16u

struct entry {
	unsigned magic;
#define ENTRY_MAGIC 0x656e7472
	uint64_t hash;
	void *obj; /* owned by the table: freed with the entry */
	void (*free_obj)(void *obj);
	size_t len;
	char key[];
};

struct slot {
	_Atomic uint64_t hash;
	_Atomic(struct entry *) entry; /* NULL = never used; &grave = deleted */
};

struct array {
	size_t cap; /* a power of two */
	struct slot slot[];
};

struct hb_table {
	unsigned magic;
#define TABLE_MAGIC 0x7461626c
	_Atomic(struct array *) array; /* owned */
	void (*free_obj)(void *obj);
	size_t n, used; /* used: with graves; both the writer's */
	bool iterating;
};

static struct entry grave;

static struct array *
array_new(size_t cap)
{
	struct array *a = hb_calloc(1, sizeof *a + cap * sizeof a->slot[0]);

	a->cap = cap;
	return (a);
}

static void
entry_free(void *arg)
{
	struct entry *e;

	HB_CAST(e, arg, ENTRY_MAGIC);
	if (e->free_obj != NULL)
		e->free_obj(e->obj);
	HB_DEL(e);
}

static bool
entry_is(const struct entry *e, uint64_t hash, struct hb_str name)
{
	return (e->hash == hash && hb_str_eq(hb_strn(e->key, e->len), name));
}

/* The slot that holds the name, or NULL; then *ret_free is where it may go. */
static struct slot *
find(struct array *a, uint64_t hash, struct hb_str name, struct slot **ret_free)
{
	for (size_t i = hash & (a->cap - 1);; i = (i + 1) & (a->cap - 1)) {
		struct slot *s = &a->slot[i];
		struct entry *e = atomic_load_explicit(&s->entry, memory_order_acquire);

		if (e == NULL) {
			*ret_free = s;
			return (NULL);
		}
		/* The hash in the array saves following the pointer of others. */
		if (atomic_load_explicit(&s->hash, memory_order_relaxed) == hash && e != &grave &&
			entry_is(e, hash, name))
			return (s);
	}
}

static void
slot_set(struct slot *s, struct entry *e)
{
	atomic_store_explicit(&s->hash, e->hash, memory_order_relaxed);
	atomic_store_explicit(&s->entry, e, memory_order_release);
}

static struct array *
array_of(const struct hb_table *t)
{
	HB_CHECK(t, TABLE_MAGIC);
	return (atomic_load_explicit(&t->array, memory_order_acquire));
}

/* Makes room for one entry more; graves go. */
static void
table_grow(struct hb_table *t)
{
	struct array *old = array_of(t), *a;
	size_t cap = TABLE_CAP_MIN;

	if (t->used < old->cap / 4 * 3)
		return;
	while (cap < (t->n + 1) * 2)
		cap *= 2;
	a = array_new(cap);
	for (size_t i = 0; i < old->cap; i++) {
		struct entry *e = atomic_load_explicit(&old->slot[i].entry, memory_order_relaxed);
		size_t j;

		if (e == NULL || e == &grave)
			continue;
		/* Names are all different: the next free slot is right, without a look at keys. */
		j = atomic_load_explicit(&old->slot[i].hash, memory_order_relaxed) & (cap - 1);
		while (atomic_load_explicit(&a->slot[j].entry, memory_order_relaxed) != NULL)
			j = (j + 1) & (cap - 1);
		atomic_store_explicit(&a->slot[j].hash,
			atomic_load_explicit(&old->slot[i].hash, memory_order_relaxed),
			memory_order_relaxed);
		atomic_store_explicit(&a->slot[j].entry, e, memory_order_relaxed);
	}
	t->used = t->n;
	atomic_store_explicit(&t->array, a, memory_order_release);
	hb_retire(old, hb_free);
}

struct hb_table *
hb_table_new(void (*free_obj)(void *obj))
{
	struct hb_table *t;

	HB_NEW(t, TABLE_MAGIC);
	t->free_obj = free_obj;
	atomic_init(&t->array, array_new(TABLE_CAP_MIN));
	return (t);
}

static void
table_del(void *arg)
{
	struct hb_table *t;

	HB_CAST(t, arg, TABLE_MAGIC);
	hb_free(array_of(t));
	HB_DEL(t);
}

void
hb_table_free(struct hb_table **tp)
{
	struct hb_table *t = *tp;
	struct array *a;

	if (t == NULL)
		return;
	a = array_of(t);
	for (size_t i = 0; i < a->cap; i++) {
		struct entry *e = atomic_load_explicit(&a->slot[i].entry, memory_order_relaxed);

		if (e != NULL && e != &grave)
			hb_retire(e, entry_free);
	}
	hb_retire(t, table_del);
	*tp = NULL;
}

void *
hb_table_get(const struct hb_table *t, struct hb_str name)
{
	struct slot *s, *unused;

	s = find(array_of(t), hb_hash(name.p, name.len), name, &unused);
	/* Between find and here the writer may have replaced or deleted it. */
	return (s == NULL ? NULL : atomic_load_explicit(&s->entry, memory_order_acquire)->obj);
}

void
hb_table_put(struct hb_table *t, struct hb_str name, void *obj)
{
	uint64_t hash = hb_hash(name.p, name.len);
	struct slot *s, *unused = NULL;
	struct entry *e, *old;

	HB_ASSERT(obj != NULL);
	HB_ASSERT(!t->iterating);
	e = hb_malloc(sizeof *e + name.len + 1);
	e->magic = ENTRY_MAGIC;
	e->hash = hash;
	e->obj = obj;
	e->free_obj = t->free_obj;
	e->len = name.len;
	if (name.len > 0)
		memcpy(e->key, name.p, name.len);
	e->key[name.len] = '\0';
	s = find(array_of(t), hash, name, &unused);
	if (s != NULL) {
		old = atomic_load_explicit(&s->entry, memory_order_relaxed);
		atomic_store_explicit(&s->entry, e, memory_order_release);
		hb_retire(old, entry_free);
		return;
	}
	table_grow(t);
	(void)find(array_of(t), hash, name, &unused);
	slot_set(unused, e);
	t->n++;
	t->used++;
}

bool
hb_table_del(struct hb_table *t, struct hb_str name)
{
	struct slot *s, *unused;
	struct entry *e;

	HB_ASSERT(!t->iterating);
	s = find(array_of(t), hb_hash(name.p, name.len), name, &unused);
	if (s == NULL)
		return (false);
	e = atomic_load_explicit(&s->entry, memory_order_relaxed);
	atomic_store_explicit(&s->entry, &grave, memory_order_release);
	hb_retire(e, entry_free);
	t->n--;
	return (true);
}

size_t
hb_table_count(const struct hb_table *t)
{
	HB_CHECK(t, TABLE_MAGIC);
	return (t->n);
}

void
hb_table_foreach(
	const struct hb_table *ct, void (*fn)(void *arg, struct hb_str name, void *obj), void *arg)
{
	struct hb_table *t = (struct hb_table *)(uintptr_t)ct;
	struct array *a = array_of(t);

	t->iterating = true;
	for (size_t i = 0; i < a->cap; i++) {
		struct entry *e = atomic_load_explicit(&a->slot[i].entry, memory_order_relaxed);

		if (e != NULL && e != &grave)
			fn(arg, hb_strn(e->key, e->len), e->obj);
	}
	t->iterating = false;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/stats/stats_priv.h"

#include "core/event/table.h"

#define STATS_MAGIC  0x57a75c0e
#define FAMILY_MAGIC 0x57a7fa31
#define CACHE_LINE   64

union cell {
	_Atomic int64_t n;
	_Atomic(struct hb_hist *) hist; /* owned */
};

/* One thread's numbers of one scope, on cache lines of its own. */
struct block {
	void *memory;                /* what to free                */
	_Atomic unsigned char *used; /* by row: was it ever written */
	union cell cells[];
};

struct computed {
	unsigned i;
	int64_t (*fn)(void *arg);
	void *arg;
};

struct family {
	unsigned magic;
	const struct hb_stat_family *desc; /* borrowed, lives as long as the program */
	struct hb_map *scopes;             /* owned; by label; values have their own references */
};

struct hb_stats {
	unsigned magic;
	unsigned refs;
	struct family *family;
	char *label;                    /* owned; as given */
	char *shown;                    /* owned; as it stands in output */
	char *more;                     /* owned; second part of the label, "" without */
	char *prefix;                   /* owned; with the shown label */
	struct computed *computed;      /* owned */
	unsigned n_computed;            /* entries in computed */
	int64_t *base;                  /* owned; by block and row; NULL until the first reset */
	struct hb_hist_sum **hist_base; /* owned; by row, each owned; NULL until the first reset */
	unsigned n_blocks;              /* workers + 1 */
	_Atomic(struct block *) blocks[];
};

/* By the address of the family's description; never freed. Control thread. */
static struct hb_map *families;

static struct family *family_of(const struct hb_stat_family *desc)
{
	struct hb_str key = hb_strn(&desc, sizeof desc);
	struct family *f;

	if (families == NULL)
		families = hb_map_new();
	f = hb_map_get(families, key);
	if (f != NULL)
		return (f);
	HB_NEW(f, FAMILY_MAGIC);
	f->desc = desc;
	f->scopes = hb_map_new();
	hb_map_put(families, key, f);
	return (f);
}

/* As Envoy shows it: a port's colon becomes '_', and so does what would break a line. */
static char *label_shown(const char *label)
{
	char *shown = hb_strdup(label);

	for (char *p = shown; *p != '\0'; p++) {
		if (*p == ':' || (unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '_';
	}
	return (shown);
}

static char *prefix_of(const struct hb_stats *s)
{
	const char *name = s->family->desc->name, *label = strchr(name, '*'), *more;

	if (label == NULL)
		return (hb_asprintf("%s.%s%s", name, s->shown, *s->shown != '\0' ? "." : ""));
	more = strchr(label + 1, '*');
	if (more == NULL)
		return (hb_asprintf("%.*s%s%s", (int)(label - name), name, s->shown, label + 1));
	return (hb_asprintf("%.*s%s%.*s%s%s", (int)(label - name), name, s->shown,
		(int)(more - label - 1), label + 1, s->more, more + 1));
}

/* Fills in what is shown; only families whose name has two places take a label in two parts. */
static void show(struct hb_stats *s)
{
	const char *name = s->family->desc->name, *more = strchr(s->label, '\n');

	if (more != NULL && strchr(name, '*') != strrchr(name, '*')) {
		char *first = hb_strndup(s->label, (size_t)(more - s->label));

		s->shown = label_shown(first);
		s->more = label_shown(more + 1);
		hb_free(first);
	} else {
		s->shown = label_shown(s->label);
		s->more = hb_strdup("");
	}
	s->prefix = prefix_of(s);
}

struct hb_stats *hb_stats_get(const struct hb_stat_family *desc, struct hb_str label)
{
	struct family *f = family_of(desc);
	unsigned n_blocks = hb_workers_count() + 1;
	struct hb_stats *s;

	HB_ASSERT(desc->label != NULL || label.len == 0);
	label.len = label.len == 0 ? 0 : strnlen(label.p, label.len);
	s = hb_map_get(f->scopes, label);
	if (s != NULL) {
		HB_CHECK(s, STATS_MAGIC);
		s->refs++;
		return (s);
	}
	s = hb_calloc(1, sizeof *s + n_blocks * sizeof s->blocks[0]);
	s->magic = STATS_MAGIC;
	s->refs = 1;
	s->family = f;
	s->label = hb_strndup(label.p, label.len);
	show(s);
	s->n_blocks = n_blocks;
	hb_map_put(f->scopes, label, s);
	return (s);
}

static void stats_free(void *obj)
{
	struct hb_stats *s;

	HB_CAST(s, obj, STATS_MAGIC);
	for (unsigned b = 0; b < s->n_blocks; b++) {
		struct block *block = atomic_load_explicit(&s->blocks[b], memory_order_relaxed);

		for (unsigned i = 0; block != NULL && i < s->family->desc->n_stats; i++) {
			if (s->family->desc->stats[i].kind == HB_STAT_HISTOGRAM)
				hb_hist_free(atomic_load(&block->cells[i].hist));
		}
		hb_free(block != NULL ? block->memory : NULL);
	}
	for (unsigned i = 0; s->hist_base != NULL && i < s->family->desc->n_stats; i++)
		hb_free(s->hist_base[i]);
	hb_free(s->hist_base);
	hb_free(s->base);
	hb_free(s->computed);
	hb_free(s->prefix);
	hb_free(s->more);
	hb_free(s->shown);
	hb_free(s->label);
	HB_DEL(s);
}

void hb_stats_unref(struct hb_stats **sp)
{
	struct hb_stats *s = *sp;
	void *gone;

	if (s == NULL)
		return;
	HB_CHECK(s, STATS_MAGIC);
	HB_ASSERT(s->refs > 0);
	*sp = NULL;
	if (--s->refs > 0)
		return;
	gone = hb_map_del(s->family->scopes, hb_str(s->label));
	HB_ASSERT(gone == s);
	hb_retire(s, stats_free);
}

const char *hb_stats_label(const struct hb_stats *s)
{
	HB_CHECK(s, STATS_MAGIC);
	return (s->label);
}

const struct hb_stat_family *hb_stats_family(const struct hb_stats *s)
{
	return (s->family->desc);
}

const char *hb_stats_shown_label(const struct hb_stats *s)
{
	return (s->shown);
}

const char *hb_stats_more(const struct hb_stats *s)
{
	return (s->more);
}

const char *hb_stats_prefix(const struct hb_stats *s)
{
	return (s->prefix);
}

/* The control thread's index plus 1 is 0. */
static unsigned block_index(const struct hb_worker *w)
{
	return (w->index + 1u);
}

static struct block *block_new(const struct hb_stats *s)
{
	unsigned n = s->family->desc->n_stats;
	size_t size = sizeof(struct block) + n * (sizeof(union cell) + 1);
	/* Two threads' blocks must not share a line, in front or behind. */
	size_t lines = (size + CACHE_LINE - 1) / CACHE_LINE;
	void *memory = hb_calloc(lines + 1, CACHE_LINE);
	uintptr_t start = ((uintptr_t)memory + CACHE_LINE - 1) & ~(uintptr_t)(CACHE_LINE - 1);
	struct block *b = (struct block *)start;

	b->memory = memory;
	b->used = (_Atomic unsigned char *)&b->cells[n];
	return (b);
}

/* The calling thread's block; made at its first write. */
static inline struct block *block_of(struct hb_worker *w, const struct hb_stats *s, unsigned i)
{
	unsigned index = block_index(w);
	struct block *b;

	HB_CHECK(s, STATS_MAGIC);
	HB_ASSERT(i < s->family->desc->n_stats);
	HB_ASSERT(index < s->n_blocks);
	b = atomic_load_explicit(&s->blocks[index], memory_order_relaxed);
	if (HB_UNLIKELY(b == NULL)) {
		/* Scopes are const to their users: the numbers are not part of what they are. */
		struct hb_stats *own = (struct hb_stats *)s;

		b = block_new(s);
		atomic_store_explicit(&own->blocks[index], b, memory_order_release);
	}
	atomic_store_explicit(&b->used[i], 1, memory_order_relaxed);
	return (b);
}

void hb_stat_add(struct hb_worker *w, const struct hb_stats *s, unsigned i, int64_t n)
{
	_Atomic int64_t *cell = &block_of(w, s, i)->cells[i].n;

	HB_ASSERT(s->family->desc->stats[i].kind != HB_STAT_HISTOGRAM);
	atomic_store_explicit(
		cell, atomic_load_explicit(cell, memory_order_relaxed) + n, memory_order_relaxed);
}

void hb_stat_set(const struct hb_stats *s, unsigned i, int64_t value)
{
	_Atomic int64_t *cell = &block_of(hb_worker_control(), s, i)->cells[i].n;

	HB_ASSERT(s->family->desc->stats[i].kind == HB_STAT_GAUGE);
	atomic_store_explicit(cell, value, memory_order_relaxed);
}

void hb_stat_record(struct hb_worker *w, const struct hb_stats *s, unsigned i, uint64_t value)
{
	union cell *cell = &block_of(w, s, i)->cells[i];
	struct hb_hist *h;

	HB_ASSERT(s->family->desc->stats[i].kind == HB_STAT_HISTOGRAM);
	h = atomic_load_explicit(&cell->hist, memory_order_relaxed);
	if (HB_UNLIKELY(h == NULL)) {
		h = hb_calloc(1, sizeof *h);
		atomic_store_explicit(&cell->hist, h, memory_order_release);
	}
	hb_hist_record(h, value);
}

/* What one thread counted since the last reset; never for histograms. */
static int64_t block_value(const struct hb_stats *s, unsigned index, unsigned i)
{
	const struct block *b = atomic_load_explicit(&s->blocks[index], memory_order_acquire);
	int64_t v;

	if (b == NULL)
		return (0);
	v = atomic_load_explicit(&b->cells[i].n, memory_order_relaxed);
	if (s->base != NULL)
		v -= s->base[index * s->family->desc->n_stats + i];
	return (v);
}

/* All samples since the start, without the base. */
static void hist_collect(const struct hb_stats *s, unsigned i, struct hb_hist_sum *ret)
{
	memset(ret, 0, sizeof *ret);
	for (unsigned index = 0; index < s->n_blocks; index++) {
		const struct block *b = atomic_load_explicit(
			&s->blocks[index], memory_order_acquire);
		const struct hb_hist *h = NULL;

		if (b != NULL)
			h = atomic_load_explicit(&b->cells[i].hist, memory_order_acquire);
		if (h != NULL)
			hb_hist_sum_add(ret, h);
	}
}

void hb_stats_hist(const struct hb_stats *s, unsigned i, struct hb_hist_sum *ret)
{
	hist_collect(s, i, ret);
	if (s->hist_base != NULL && s->hist_base[i] != NULL)
		hb_hist_sum_sub(ret, s->hist_base[i]);
}

static const struct computed *computed_find(const struct hb_stats *s, unsigned i)
{
	for (unsigned c = 0; c < s->n_computed; c++) {
		if (s->computed[c].i == i)
			return (&s->computed[c]);
	}
	return (NULL);
}

int64_t hb_stat_value(const struct hb_stats *s, unsigned i)
{
	const struct computed *c;
	struct hb_hist_sum hist;
	int64_t sum = 0;

	HB_CHECK(s, STATS_MAGIC);
	HB_ASSERT(i < s->family->desc->n_stats);
	if (s->family->desc->stats[i].kind == HB_STAT_HISTOGRAM) {
		hb_stats_hist(s, i, &hist);
		return ((int64_t)hist.count);
	}
	c = computed_find(s, i);
	if (c != NULL)
		return (c->fn(c->arg));
	for (unsigned index = 0; index < s->n_blocks; index++)
		sum += block_value(s, index, i);
	return (sum);
}

int64_t hb_stat_value_of(const struct hb_stats *s, unsigned i, const struct hb_worker *w)
{
	HB_CHECK(s, STATS_MAGIC);
	HB_ASSERT(i < s->family->desc->n_stats);
	HB_ASSERT(s->family->desc->stats[i].kind != HB_STAT_HISTOGRAM);
	HB_ASSERT(block_index(w) < s->n_blocks);
	return (block_value(s, block_index(w), i));
}

void hb_stat_computed(const struct hb_stats *s, unsigned i, int64_t (*fn)(void *arg), void *arg)
{
	struct hb_stats *own = (struct hb_stats *)s;
	struct computed *c = (struct computed *)computed_find(s, i);

	HB_CHECK(s, STATS_MAGIC);
	HB_ASSERT(i < s->family->desc->n_stats);
	HB_ASSERT(s->family->desc->stats[i].kind == HB_STAT_GAUGE);
	if (c == NULL) {
		own->computed = hb_realloc(
			own->computed, (own->n_computed + 1) * sizeof *own->computed);
		c = &own->computed[own->n_computed++];
	}
	*c = (struct computed){ .i = i, .fn = fn, .arg = arg };
}

static bool stat_used(const struct hb_stats *s, unsigned i)
{
	if (computed_find(s, i) != NULL)
		return (true);
	for (unsigned index = 0; index < s->n_blocks; index++) {
		const struct block *b = atomic_load_explicit(
			&s->blocks[index], memory_order_acquire);

		if (b != NULL && atomic_load_explicit(&b->used[i], memory_order_relaxed))
			return (true);
	}
	return (false);
}

static void scopes_foreach(void (*fn)(void *arg, struct hb_stats *), void *arg)
{
	size_t fc = 0, sc;
	struct hb_str key;
	void *family, *scope;

	while (families != NULL && hb_map_next(families, &fc, &key, &family)) {
		sc = 0;
		while (hb_map_next(((struct family *)family)->scopes, &sc, &key, &scope))
			fn(arg, scope);
	}
}

static void scope_reset(void *arg, struct hb_stats *s)
{
	const struct hb_stat_family *desc = s->family->desc;

	(void)arg;
	if (s->base == NULL)
		s->base = hb_calloc((size_t)s->n_blocks * desc->n_stats, sizeof *s->base);
	if (s->hist_base == NULL)
		s->hist_base = hb_calloc(desc->n_stats, sizeof *s->hist_base);
	for (unsigned i = 0; i < desc->n_stats; i++) {
		if (desc->stats[i].kind == HB_STAT_HISTOGRAM && stat_used(s, i)) {
			if (s->hist_base[i] == NULL)
				s->hist_base[i] = hb_malloc(sizeof *s->hist_base[i]);
			hist_collect(s, i, s->hist_base[i]);
		}
		for (unsigned b = 0; desc->stats[i].kind == HB_STAT_COUNTER && b < s->n_blocks; b++)
			s->base[b * desc->n_stats + i] += block_value(s, b, i);
	}
}

void hb_stats_reset(void)
{
	scopes_foreach(scope_reset, NULL);
}

struct collect {
	const struct hb_stats_query *query;
	struct hb_stat_entry *v; /* given to the caller */
	size_t n, cap;
	struct hb_text name; /* of the row that the filter is asked about */
};

static void scope_collect(void *arg, struct hb_stats *s)
{
	const struct hb_stat_family *desc = s->family->desc;
	struct collect *c = arg;

	for (unsigned i = 0; i < desc->n_stats; i++) {
		if (c->query->used_only && !stat_used(s, i))
			continue;
		if (c->query->filter != NULL) {
			c->name.len = 0;
			hb_text_addz(&c->name, s->prefix);
			hb_text_addz(&c->name, desc->stats[i].name);
			if (!c->query->filter(c->query->arg, c->name.p))
				continue;
		}
		if (c->n == c->cap) {
			c->cap = HB_MAX(c->cap * 2, (size_t)256);
			c->v = hb_realloc(c->v, c->cap * sizeof *c->v);
		}
		c->v[c->n++] = (struct hb_stat_entry){ .stats = s, .i = i };
	}
}

size_t hb_stats_collect(const struct hb_stats_query *query, struct hb_stat_entry **ret)
{
	struct collect c = { .query = query };

	scopes_foreach(scope_collect, &c);
	hb_text_fini(&c.name);
	*ret = c.v;
	return (c.n);
}

void hb_stats_families(void (*fn)(void *arg, const struct hb_stat_family *), void *arg)
{
	struct hb_str key;
	size_t cursor = 0;
	void *family;

	while (families != NULL && hb_map_next(families, &cursor, &key, &family))
		fn(arg, ((struct family *)family)->desc);
}

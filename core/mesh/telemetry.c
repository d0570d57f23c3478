/* SPDX-License-Identifier: Apache-2.0 */
#include "core/mesh/telemetry.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#define REGISTRY_MAGIC 0x7e1e3001
#define SERIES_MAGIC   0x7e1e3002
#define SERIES_MAX     2000u
#define CACHE_LINE     64u

static const struct label {
	const char *name, *empty;
	size_t offset;
} all_labels[] = {
#define LABEL(m, n, e) { n, e, offsetof(struct hb_tcp_labels, m) },
	HB_TCP_LABELS(LABEL)
#undef LABEL
};
#define N_LABELS   (unsigned)HB_ARRAY_LEN(all_labels)
#define N_LOCALITY 4u /* at the end */
#define KEY_MAX    (N_LABELS * (HB_TCP_LABEL_MAX + 1))

static const struct {
	const char *name, *help;
} metrics[HB_TCP_METRIC_MAX] = {
#define METRIC(e, n, h) [HB_TCP_##e] = { n, h },
	HB_TCP_METRICS(METRIC)
#undef METRIC
};

/* Written by its worker only, with relaxed stores. */
struct hb_tcp_series {
	unsigned magic;
	uint32_t key_len;
	uint64_t hash;
	struct hb_tcp_series *next; /* older one of this worker; set before it is published */
	_Atomic uint64_t n[HB_TCP_METRIC_MAX];
	char key[]; /* the values in order, each with its NUL */
};

/* What one worker has. Only `newest` and the two counts are read by others. */
struct shard {
	_Alignas(
		CACHE_LINE) _Atomic(struct hb_tcp_series *) newest; /* owned, with those after it */
	_Atomic uint64_t overflows;
	_Atomic unsigned count;      /* series, those of the overflow too   */
	struct hb_tcp_series **slot; /* owned; open addressing, a power of 2 */
	unsigned n_slots;
};

struct hb_tcp_registry {
	unsigned magic;
	unsigned workers, series_max, n_labels;
	void *memory; /* owned; holds the shards */
	struct shard *shards;
};

struct hb_tcp_registry *
hb_tcp_registry_new(const struct hb_tcp_options *o)
{
	struct hb_tcp_registry *r;

	HB_ASSERT(o->workers > 0);
	HB_NEW(r, REGISTRY_MAGIC);
	r->workers = o->workers;
	r->series_max = o->series_max == 0 ? SERIES_MAX : o->series_max;
	r->n_labels = N_LABELS - (o->locality ? 0 : N_LOCALITY);
	r->memory = hb_calloc(o->workers + 1, sizeof(struct shard));
	r->shards = (struct shard *)(((uintptr_t)r->memory + CACHE_LINE - 1) &
		~(uintptr_t)(CACHE_LINE - 1));
	return (r);
}

void
hb_tcp_registry_free(struct hb_tcp_registry **rp)
{
	struct hb_tcp_registry *r = *rp;

	if (r == NULL)
		return;
	HB_CHECK(r, REGISTRY_MAGIC);
	*rp = NULL;
	for (unsigned w = 0; w < r->workers; w++) {
		struct hb_tcp_series *s = atomic_load(&r->shards[w].newest), *older;

		for (; s != NULL; s = older) {
			older = s->next;
			HB_CHECK(s, SERIES_MAGIC);
			HB_DEL(s);
		}
		hb_free(r->shards[w].slot);
	}
	hb_free(r->memory);
	HB_DEL(r);
}

/* ------------------------------------------------------------------ on workers */

/* Eight bytes at once: this is done for every label of every connection. */
static bool
is_printable(struct hb_str s)
{
	const uint64_t ones = UINT64_MAX / 255, top = ones * 0x80;
	uint64_t v, bad = 0;

	for (size_t i = 0; i < s.len; i += sizeof v) {
		v = ones * ' ';
		memcpy(&v, s.p + i, HB_MIN(s.len - i, sizeof v));
		/* The top bit of a byte is set where it is, or the byte is below 0x20, or 0x7f. */
		bad |= v | (((v | top) - ones * 0x20) ^ top) | ((v & ~top) + ones);
	}
	return ((bad & top) == 0);
}

static char *
put_value(char *p, struct hb_str value, const char *empty)
{
	if (value.len == 0)
		return (stpcpy(p, empty) + 1);
	value.len = HB_MIN(value.len, (size_t)HB_TCP_LABEL_MAX);
	if (is_printable(value)) {
		memcpy(p, value.p, value.len);
		p += value.len;
	} else {
		for (size_t i = 0; i < value.len; i++)
			*p++ = is_printable(hb_strn(value.p + i, 1)) ? value.p[i] : '_';
	}
	*p++ = '\0';
	return (p);
}

static size_t
key_of(const struct hb_tcp_registry *r, const struct hb_tcp_labels *l, char *key)
{
	char *p = key;

	for (unsigned i = 0; i < r->n_labels; i++)
		p = put_value(p,
			*(const struct hb_str *)(const void *)((const char *)l +
				all_labels[i].offset),
			all_labels[i].empty);
	return ((size_t)(p - key));
}

/* In place of a key that cannot be had; the reporter comes first in it. */
static size_t
overflow_key(const struct hb_tcp_registry *r, char *key)
{
	char *p = key + strlen(key) + 1;

	for (unsigned i = 1; i < r->n_labels; i++)
		p = put_value(p, HB_STR("overflow"), "");
	return ((size_t)(p - key));
}

static struct hb_tcp_series **
slot_of(const struct shard *sh, const char *key, size_t len, uint64_t hash)
{
	unsigned i = (unsigned)hash & (sh->n_slots - 1);

	while (sh->slot[i] != NULL &&
		(sh->slot[i]->hash != hash || sh->slot[i]->key_len != len ||
			memcmp(sh->slot[i]->key, key, len) != 0))
		i = (i + 1) & (sh->n_slots - 1);
	return (&sh->slot[i]);
}

/* At most three quarters are full. */
static void
grow(struct shard *sh)
{
	struct hb_tcp_series **old = sh->slot;
	unsigned n_old = sh->n_slots;

	if ((atomic_load_explicit(&sh->count, memory_order_relaxed) + 1) * 4 <= n_old * 3)
		return;
	sh->n_slots = HB_MAX(n_old * 2, 16u);
	sh->slot = hb_calloc(sh->n_slots, sizeof(*sh->slot));
	for (unsigned i = 0; i < n_old; i++) {
		if (old[i] != NULL)
			*slot_of(sh, old[i]->key, old[i]->key_len, old[i]->hash) = old[i];
	}
	hb_free(old);
}

static struct hb_tcp_series *
series_new(
	struct shard *sh, struct hb_tcp_series **slot, const char *key, size_t len, uint64_t hash)
{
	struct hb_tcp_series *s = hb_calloc(1, sizeof *s + len);
	unsigned count = atomic_load_explicit(&sh->count, memory_order_relaxed);

	s->magic = SERIES_MAGIC;
	s->key_len = (uint32_t)len;
	s->hash = hash;
	memcpy(s->key, key, len);
	s->next = atomic_load_explicit(&sh->newest, memory_order_relaxed);
	*slot = s;
	atomic_store_explicit(&sh->count, count + 1, memory_order_relaxed);
	atomic_store_explicit(&sh->newest, s, memory_order_release);
	return (s);
}

/* The slot is NULL when there is none. */
static struct hb_tcp_series **
find(struct shard *sh, const char *key, size_t len, uint64_t *ret_hash)
{
	grow(sh);
	*ret_hash = hb_hash(key, len);
	return (slot_of(sh, key, len, *ret_hash));
}

struct hb_tcp_series *
hb_tcp_series(struct hb_tcp_registry *r, unsigned worker, const struct hb_tcp_labels *l)
{
	struct hb_tcp_series **slot;
	char key[KEY_MAX];
	size_t len;
	uint64_t hash, overflows;
	struct shard *sh;

	HB_CHECK(r, REGISTRY_MAGIC);
	HB_ASSERT(worker < r->workers);
	sh = &r->shards[worker];
	len = key_of(r, l, key);
	slot = find(sh, key, len, &hash);
	if (*slot == NULL &&
		atomic_load_explicit(&sh->count, memory_order_relaxed) >= r->series_max) {
		overflows = atomic_load_explicit(&sh->overflows, memory_order_relaxed);
		atomic_store_explicit(&sh->overflows, overflows + 1, memory_order_relaxed);
		len = overflow_key(r, key);
		slot = find(sh, key, len, &hash);
	}
	return (*slot != NULL ? *slot : series_new(sh, slot, key, len, hash));
}

void
hb_tcp_add(struct hb_tcp_series *s, enum hb_tcp_metric m, uint64_t n)
{
	HB_CHECK(s, SERIES_MAGIC);
	HB_ASSERT((unsigned)m < HB_TCP_METRIC_MAX);
	atomic_store_explicit(&s->n[m], atomic_load_explicit(&s->n[m], memory_order_relaxed) + n,
		memory_order_relaxed);
}

/* ------------------------------------------------------------------ output */

static int
series_cmp(const void *pa, const void *pb)
{
	const struct hb_tcp_series *a = *(struct hb_tcp_series *const *)pa;
	const struct hb_tcp_series *b = *(struct hb_tcp_series *const *)pb;

	return (hb_str_cmp(hb_strn(a->key, a->key_len), hb_strn(b->key, b->key_len)));
}

/* Of all workers, those with equal labels next to each other. The caller frees *ret. */
static size_t
collect(const struct hb_tcp_registry *r, struct hb_tcp_series ***ret)
{
	struct hb_tcp_series **v = NULL;
	size_t n = 0, cap = 0;

	for (unsigned w = 0; w < r->workers; w++) {
		struct hb_tcp_series *s = atomic_load_explicit(
			&r->shards[w].newest, memory_order_acquire);

		for (; s != NULL; s = s->next) {
			if (n == cap) {
				cap = HB_MAX(cap * 2, (size_t)64);
				v = hb_realloc(v, cap * sizeof(*v));
			}
			v[n++] = s;
		}
	}
	if (n > 1)
		qsort(v, n, sizeof(*v), series_cmp);
	*ret = v;
	return (n);
}

/* Of those with the labels of v[i]; *end is the first one after them. */
static uint64_t
sum(struct hb_tcp_series *const *v, size_t n, size_t i, enum hb_tcp_metric m, size_t *end)
{
	uint64_t total = 0;
	size_t k = i;

	do
		total += atomic_load_explicit(&v[k++]->n[m], memory_order_relaxed);
	while (k < n && series_cmp(&v[i], &v[k]) == 0);
	*end = k;
	return (total);
}

static void
put_labels(const struct hb_tcp_registry *r, const struct hb_tcp_series *s, struct hb_text *t)
{
	const char *p = s->key;

	for (unsigned i = 0; i < r->n_labels; i++) {
		hb_text_printf(t, "%s%s=\"", i == 0 ? "" : ",", all_labels[i].name);
		for (; *p != '\0'; p++) {
			if (*p == '"' || *p == '\\')
				hb_text_addc(t, '\\');
			hb_text_addc(t, *p);
		}
		p++;
		hb_text_addc(t, '"');
	}
}

static void
put_head(struct hb_text *t, const char *name, const char *help, const char *type)
{
	hb_text_printf(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void
render_metric(const struct hb_tcp_registry *r, struct hb_tcp_series *const *v, size_t n,
	enum hb_tcp_metric m, struct hb_text *t)
{
	bool head = false;

	for (size_t i = 0, end; i < n; i = end) {
		uint64_t total = sum(v, n, i, m, &end);

		if (total == 0)
			continue;
		if (!head)
			put_head(t, metrics[m].name, metrics[m].help, "counter");
		head = true;
		hb_text_printf(t, "%s{", metrics[m].name);
		put_labels(r, v[i], t);
		hb_text_printf(t, "} %" PRIu64 "\n", total);
	}
}

/* The reporter is the first value of a key, so its series stand together. */
static void
render_open(struct hb_tcp_series *const *v, size_t n, struct hb_text *t)
{
	if (n > 0)
		put_head(t, "istio_tcp_sockets_open", "Connections that are open.", "gauge");
	for (size_t i = 0, k; i < n; i = k) {
		int64_t open = 0;

		for (k = i; k < n && strcmp(v[i]->key, v[k]->key) == 0; k++)
			open += (int64_t)(atomic_load_explicit(
						  &v[k]->n[HB_TCP_OPENED], memory_order_relaxed) -
				atomic_load_explicit(
					&v[k]->n[HB_TCP_CLOSED], memory_order_relaxed));
		hb_text_addz(t, "istio_tcp_sockets_open{reporter=\"");
		for (const char *p = v[i]->key; *p != '\0'; p++)
			hb_text_addc(t, *p == '"' || *p == '\\' ? '_' : *p);
		hb_text_printf(t, "\"} %" PRId64 "\n", open);
	}
}

void
hb_tcp_render(const struct hb_tcp_registry *r, bool (*want)(void *arg, const char *name), void *arg,
	struct hb_text *t)
{
	static const char overflow[] = "hbone_telemetry_overflow_total";
	struct hb_tcp_series **v;
	size_t n;

	HB_CHECK(r, REGISTRY_MAGIC);
	n = collect(r, &v);
	for (int m = 0; m < HB_TCP_METRIC_MAX; m++) {
		if (want == NULL || want(arg, metrics[m].name))
			render_metric(r, v, n, (enum hb_tcp_metric)m, t);
	}
	if (want == NULL || want(arg, "istio_tcp_sockets_open"))
		render_open(v, n, t);
	if (hb_tcp_overflows(r) > 0 && (want == NULL || want(arg, overflow))) {
		put_head(t, overflow,
			"Connections without labels of their own, because there are too many.",
			"counter");
		hb_text_printf(t, "%s %" PRIu64 "\n", overflow, hb_tcp_overflows(r));
	}
	hb_free(v);
}

uint64_t
hb_tcp_overflows(const struct hb_tcp_registry *r)
{
	uint64_t n = 0;

	HB_CHECK(r, REGISTRY_MAGIC);
	for (unsigned w = 0; w < r->workers; w++)
		n += atomic_load_explicit(&r->shards[w].overflows, memory_order_relaxed);
	return (n);
}

size_t
hb_tcp_series_count(const struct hb_tcp_registry *r)
{
	size_t n = 0;

	HB_CHECK(r, REGISTRY_MAGIC);
	for (unsigned w = 0; w < r->workers; w++)
		n += atomic_load_explicit(&r->shards[w].count, memory_order_relaxed);
	return (n);
}

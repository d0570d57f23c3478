/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of str.h: open addressing, linear probing. Deleting moves the followers of the probe
 * run back instead of leaving tombstones, so a long-lived table never slows down.
 */
#include "core/base/str.h"

#define MAP_MAGIC   0x6d617030
#define MAP_CAP_MIN 8

struct map_entry {
	uint64_t hash;
	char *key; /* owned; NUL-terminated for debuggers; NULL = free slot */
	size_t len;
	void *value; /* borrowed */
};

struct hb_map {
	unsigned magic;
	struct map_entry *v; /* owned; cap entries, cap is 0 or a power of two */
	size_t cap, n;
};

struct hb_map *hb_map_new(void)
{
	struct hb_map *m;

	HB_NEW(m, MAP_MAGIC);
	return (m);
}

void hb_map_free(struct hb_map **mp)
{
	struct hb_map *m = *mp;

	if (m == NULL)
		return;
	HB_CHECK(m, MAP_MAGIC);
	for (size_t i = 0; i < m->cap; i++)
		hb_free(m->v[i].key);
	hb_free(m->v);
	HB_DEL(*mp);
}

/* The slot that holds the key, or the free slot where it belongs. The table is never full. */
static struct map_entry *map_slot(const struct hb_map *m, uint64_t hash, struct hb_str key)
{
	size_t i = hash & (m->cap - 1);

	while (m->v[i].key != NULL) {
		struct map_entry *e = &m->v[i];

		if (e->hash == hash && hb_str_eq(hb_strn(e->key, e->len), key))
			return (e);
		i = (i + 1) & (m->cap - 1);
	}
	return (&m->v[i]);
}

static void map_grow(struct hb_map *m)
{
	struct map_entry *old = m->v;
	size_t old_cap = m->cap;

	m->cap = HB_MAX(old_cap * 2, (size_t)MAP_CAP_MIN);
	m->v = hb_calloc(m->cap, sizeof *m->v);
	for (size_t i = 0; i < old_cap; i++) {
		if (old[i].key != NULL)
			*map_slot(m, old[i].hash, hb_strn(old[i].key, old[i].len)) = old[i];
	}
	hb_free(old);
}

void *hb_map_get(const struct hb_map *m, struct hb_str key)
{
	HB_CHECK(m, MAP_MAGIC);
	if (m->n == 0)
		return (NULL);
	/* A free slot's value is NULL. */
	return (map_slot(m, hb_hash(key.p, key.len), key)->value);
}

void *hb_map_put(struct hb_map *m, struct hb_str key, void *value)
{
	uint64_t hash = hb_hash(key.p, key.len);
	struct map_entry *e;
	void *old;

	HB_CHECK(m, MAP_MAGIC);
	HB_ASSERT(value != NULL);
	if (m->n >= m->cap / 4 * 3)
		map_grow(m);
	e = map_slot(m, hash, key);
	old = e->value;
	e->value = value;
	if (old != NULL)
		return (old);
	e->hash = hash;
	e->len = key.len;
	e->key = hb_malloc(key.len + 1);
	if (key.len > 0)
		memcpy(e->key, key.p, key.len);
	e->key[key.len] = '\0';
	m->n++;
	return (NULL);
}

void *hb_map_del(struct hb_map *m, struct hb_str key)
{
	size_t mask = m->cap - 1, hole, i;
	struct map_entry *e;
	void *value;

	HB_CHECK(m, MAP_MAGIC);
	if (m->n == 0)
		return (NULL);
	e = map_slot(m, hb_hash(key.p, key.len), key);
	if (e->key == NULL)
		return (NULL);
	value = e->value;
	hb_free(e->key);
	m->n--;
	hole = (size_t)(e - m->v);
	for (i = (hole + 1) & mask; m->v[i].key != NULL; i = (i + 1) & mask) {
		size_t home = m->v[i].hash & mask;

		/* An entry may move back to the hole unless its home lies behind the hole. */
		if (((i - home) & mask) >= ((i - hole) & mask)) {
			m->v[hole] = m->v[i];
			hole = i;
		}
	}
	memset(&m->v[hole], 0, sizeof m->v[hole]);
	return (value);
}

size_t hb_map_count(const struct hb_map *m)
{
	HB_CHECK(m, MAP_MAGIC);
	return (m->n);
}

bool hb_map_next(const struct hb_map *m, size_t *cursor, struct hb_str *ret_key, void **ret_value)
{
	HB_CHECK(m, MAP_MAGIC);
	for (; *cursor < m->cap; (*cursor)++) {
		const struct map_entry *e = &m->v[*cursor];

		if (e->key == NULL)
			continue;
		*ret_key = hb_strn(e->key, e->len);
		*ret_value = e->value;
		(*cursor)++;
		return (true);
	}
	return (false);
}

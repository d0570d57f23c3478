/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nghttp2's table of the streams of a session, in little memory. Its own one begins with 256 places,
 * 4 KiB of a connection that often has one stream; this one has none before the first stream, then
 * eight, and doubles. It takes the names that nghttp2 calls, so the linker leaves the library's object
 * alone. That is good for the version that was looked at; with any other the library's own is used.
 */
#include <nghttp2/nghttp2.h>
#include <stddef.h>
#include <stdint.h>

#if NGHTTP2_VERSION_NUM == 0x013400

#define BITS_FIRST  3u
#define NEEDS(size) ((size)*4u / 3u) /* places: a quarter stays free */

struct bucket {
	void *data; /* NULL = free */
	int32_t key;
};

struct table {
	uint32_t bits, size;
	uint32_t shift, mask;
	struct bucket v[]; /* 1 << bits, probed one after another from the key's home */
};

/* Lies in the session, which has 32 bytes for it and looks at none of them. */
struct nghttp2_map {
	struct table *table; /* owned; NULL = empty */
	nghttp2_mem *mem;
};

int nghttp2_map_init(struct nghttp2_map *, nghttp2_mem *);
void nghttp2_map_free(struct nghttp2_map *);
void nghttp2_map_each_free(struct nghttp2_map *, int (*fn)(void *data, void *arg), void *arg);
int nghttp2_map_each(struct nghttp2_map *, int (*fn)(void *data, void *arg), void *arg);
int nghttp2_map_insert(struct nghttp2_map *, int32_t key, void *data);
void *nghttp2_map_find(struct nghttp2_map *, int32_t key);
int nghttp2_map_remove(struct nghttp2_map *, int32_t key);
size_t nghttp2_map_size(struct nghttp2_map *);

static inline uint32_t
home(const struct table *t, int32_t key)
{
	/* Multiplicative hashing by the golden ratio: ids that count up spread evenly. */
	return (((uint32_t)key * 0x9e3779b9u) >> t->shift);
}

/* Where the key is, or the free place where it would be. */
static inline uint32_t
place(const struct table *t, int32_t key)
{
	uint32_t i = home(t, key);

	while (t->v[i].data != NULL && t->v[i].key != key)
		i = (i + 1) & t->mask;
	return (i);
}

static void
table_free(struct nghttp2_map *map, struct table *t)
{
	if (t != NULL)
		map->mem->free(t, map->mem->mem_user_data);
}

static int
grow(struct nghttp2_map *map)
{
	struct table *old = map->table, *t;
	uint32_t bits = old == NULL ? BITS_FIRST : old->bits + 1;

	t = map->mem->calloc(
		1, sizeof *t + ((size_t)1 << bits) * sizeof t->v[0], map->mem->mem_user_data);
	if (t == NULL)
		return (NGHTTP2_ERR_NOMEM);
	t->bits = bits;
	t->shift = 32u - bits;
	t->mask = (1u << bits) - 1u;
	for (uint32_t i = 0; old != NULL && i <= old->mask; i++) {
		if (old->v[i].data != NULL)
			t->v[place(t, old->v[i].key)] = old->v[i];
	}
	t->size = old == NULL ? 0 : old->size;
	map->table = t;
	table_free(map, old);
	return (0);
}

int
nghttp2_map_init(struct nghttp2_map *map, nghttp2_mem *mem)
{
	map->table = NULL;
	map->mem = mem;
	return (0);
}

void
nghttp2_map_free(struct nghttp2_map *map)
{
	if (map == NULL)
		return;
	table_free(map, map->table);
	map->table = NULL;
}

int
nghttp2_map_each(struct nghttp2_map *map, int (*fn)(void *data, void *arg), void *arg)
{
	const struct table *t = map->table;
	int r = 0;

	for (uint32_t i = 0; t != NULL && r == 0 && i <= t->mask; i++) {
		if (t->v[i].data != NULL)
			r = fn(t->v[i].data, arg);
	}
	return (r);
}

/* fn frees what is in it and is asked for all. */
void
nghttp2_map_each_free(struct nghttp2_map *map, int (*fn)(void *data, void *arg), void *arg)
{
	const struct table *t = map->table;

	for (uint32_t i = 0; t != NULL && i <= t->mask; i++) {
		if (t->v[i].data != NULL)
			(void)fn(t->v[i].data, arg);
	}
}

int
nghttp2_map_insert(struct nghttp2_map *map, int32_t key, void *data)
{
	struct table *t = map->table;
	uint32_t i;

	if (t == NULL || NEEDS(t->size + 1) > t->mask + 1) {
		int r = grow(map);

		if (r != 0)
			return (r);
		t = map->table;
	}
	i = place(t, key);
	if (t->v[i].data != NULL)
		return (NGHTTP2_ERR_INVALID_ARGUMENT);
	t->v[i] = (struct bucket){ .data = data, .key = key };
	t->size++;
	return (0);
}

void *
nghttp2_map_find(struct nghttp2_map *map, int32_t key)
{
	const struct table *t = map->table;

	return (t == NULL ? NULL : t->v[place(t, key)].data);
}

int
nghttp2_map_remove(struct nghttp2_map *map, int32_t key)
{
	struct table *t = map->table;
	uint32_t i, j;

	if (t == NULL)
		return (NGHTTP2_ERR_INVALID_ARGUMENT);
	i = j = place(t, key);
	if (t->v[i].data == NULL)
		return (NGHTTP2_ERR_INVALID_ARGUMENT);
	t->size--;
	/* Those behind it that would have been here, had it been free, move up. */
	for (;;) {
		t->v[i].data = NULL;
		do {
			j = (j + 1) & t->mask;
			if (t->v[j].data == NULL)
				return (0);
		} while (((j - home(t, t->v[j].key)) & t->mask) < ((j - i) & t->mask));
		t->v[i] = t->v[j];
		i = j;
	}
}

size_t
nghttp2_map_size(struct nghttp2_map *map)
{
	return (map->table == NULL ? 0 : map->table->size);
}
#endif

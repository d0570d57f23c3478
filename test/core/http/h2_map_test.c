/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of streams that takes the place of nghttp2's, beside a plain array: what is in it after any
 * sequence of insertions and removals, what it costs, and that this program's nghttp2 uses it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <nghttp2/nghttp2.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/base.h"

#define KEYS  4096
#define STEPS 400000

struct nghttp2_map {
	void *own[4]; /* what the library has for it */
};

int nghttp2_map_init(struct nghttp2_map *, nghttp2_mem *);
void nghttp2_map_free(struct nghttp2_map *);
void nghttp2_map_each_free(struct nghttp2_map *, int (*fn)(void *data, void *arg), void *arg);
int nghttp2_map_each(struct nghttp2_map *, int (*fn)(void *data, void *arg), void *arg);
int nghttp2_map_insert(struct nghttp2_map *, int32_t key, void *data);
void *nghttp2_map_find(struct nghttp2_map *, int32_t key);
int nghttp2_map_remove(struct nghttp2_map *, int32_t key);
size_t nghttp2_map_size(struct nghttp2_map *);

static struct {
	size_t blocks, largest;
	bool refuse;
} heap;

static void *
heap_calloc(size_t n, size_t size, void *user_data)
{
	(void)user_data;
	if (heap.refuse)
		return (NULL);
	heap.blocks++;
	heap.largest = HB_MAX(heap.largest, n * size);
	return (hb_calloc(n, size));
}

static void
heap_free(void *p, void *user_data)
{
	(void)user_data;
	if (p != NULL)
		heap.blocks--;
	hb_free(p);
}

static nghttp2_mem mem = { .calloc = heap_calloc, .free = heap_free };

static int
setup(void **state)
{
	(void)state;
	memset(&heap, 0, sizeof heap);
	return (0);
}

static int
count(void *data, void *arg)
{
	unsigned *seen = arg;

	seen[*(int32_t *)data]++;
	return (0);
}

static int
stop(void *data, void *arg)
{
	(void)data;
	(*(unsigned *)arg)++;
	return (-7);
}

/* Ids that count up, as peers give them, and some that jump. */
static void
test_map__like_an_array(void **state)
{
	static int32_t data[KEYS];
	static bool in[KEYS];
	static unsigned seen[KEYS];
	struct nghttp2_map map;
	uint32_t rnd = 1;
	size_t n = 0;

	(void)state;
	assert_int_equal(nghttp2_map_init(&map, &mem), 0);
	assert_null(nghttp2_map_find(&map, 1));
	assert_int_equal(nghttp2_map_remove(&map, 1), NGHTTP2_ERR_INVALID_ARGUMENT);
	for (unsigned i = 0; i < STEPS; i++) {
		/* Full in the middle, nearly empty at both ends. */
		uint32_t range = i < STEPS / 4 || i > STEPS / 4 * 3 ? 40 : KEYS;
		int32_t k;

		rnd = rnd * 1103515245u + 12345u;
		k = (int32_t)(rnd >> 16) % (int32_t)range;
		data[k] = k;
		if ((rnd >> 8) & 1) {
			assert_int_equal(nghttp2_map_insert(&map, k * 2 + 1, &data[k]),
				in[k] ? NGHTTP2_ERR_INVALID_ARGUMENT : 0);
			n += !in[k];
			in[k] = true;
		} else {
			assert_int_equal(nghttp2_map_remove(&map, k * 2 + 1),
				in[k] ? 0 : NGHTTP2_ERR_INVALID_ARGUMENT);
			n -= in[k];
			in[k] = false;
		}
		assert_int_equal(nghttp2_map_size(&map), n);
		k = (int32_t)(rnd >> 12) % KEYS;
		assert_ptr_equal(nghttp2_map_find(&map, k * 2 + 1), in[k] ? &data[k] : NULL);
	}
	assert_int_equal(nghttp2_map_each(&map, count, seen), 0);
	for (int32_t k = 0; k < KEYS; k++)
		assert_int_equal(seen[k], in[k]);
	nghttp2_map_each_free(&map, count, seen);
	for (int32_t k = 0; k < KEYS; k++)
		assert_int_equal(seen[k], in[k] * 2);
	nghttp2_map_free(&map);
	nghttp2_map_free(NULL);
	assert_int_equal(heap.blocks, 0);
}

/* Multiples of 2^29 all have one of eight homes. */
static void
test_map__same_home(void **state)
{
	static int32_t data[8];
	struct nghttp2_map map;

	(void)state;
	assert_int_equal(nghttp2_map_init(&map, &mem), 0);
	for (unsigned round = 0; round < 8; round++) {
		for (uint32_t i = 0; i < 4; i++)
			assert_int_equal(nghttp2_map_insert(&map, (int32_t)(i << 29), &data[i]), 0);
		assert_int_equal(nghttp2_map_remove(&map, (int32_t)((round & 3) << 29)), 0);
		for (uint32_t i = 0; i < 4; i++)
			assert_ptr_equal(nghttp2_map_find(&map, (int32_t)(i << 29)),
				i == (round & 3) ? NULL : &data[i]);
		for (uint32_t i = 0; i < 4; i++)
			(void)nghttp2_map_remove(&map, (int32_t)(i << 29));
		assert_int_equal(nghttp2_map_size(&map), 0);
	}
	nghttp2_map_free(&map);
	assert_int_equal(heap.blocks, 0);
}

static void
test_map__memory(void **state)
{
	struct nghttp2_map map;
	unsigned calls = 0;
	int32_t one = 1;

	(void)state;
	assert_int_equal(nghttp2_map_init(&map, &mem), 0);
	assert_int_equal(heap.blocks, 0);
	heap.refuse = true;
	assert_int_equal(nghttp2_map_insert(&map, 1, &one), NGHTTP2_ERR_NOMEM);
	heap.refuse = false;
	for (int32_t k = 1; k < 13; k += 2)
		assert_int_equal(nghttp2_map_insert(&map, k, &one), 0);
	assert_true(heap.largest <= 152);
	heap.refuse = true;
	assert_int_equal(nghttp2_map_insert(&map, 13, &one), NGHTTP2_ERR_NOMEM);
	assert_ptr_equal(nghttp2_map_find(&map, 11), &one);
	assert_int_equal(nghttp2_map_each(&map, stop, &calls), -7);
	assert_int_equal(calls, 1);
	nghttp2_map_free(&map);
	assert_int_equal(heap.blocks, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_map__like_an_array, setup),
		cmocka_unit_test_setup(test_map__same_home, setup),
		cmocka_unit_test_setup(test_map__memory, setup),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

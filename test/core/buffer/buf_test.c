/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>

#include "core/base/burst.h"
#include "core/buffer/buf.h"

/* The whole buffer as text, through copyout. */
static void
expect(const struct hb_buf *b, const char *want)
{
	char got[512];
	size_t n = hb_buf_copyout(b, 0, got, sizeof got - 1), sum = 0;
	struct iovec iov[HB_BUF_IOV_MAX];
	int k = hb_buf_iov(b, iov, HB_BUF_IOV_MAX);

	got[n] = '\0';
	assert_string_equal(got, want);
	assert_int_equal(b->len, strlen(want));
	for (int i = 0; i < k; i++) {
		assert_int_not_equal(iov[i].iov_len, 0);
		assert_memory_equal(iov[i].iov_base, want + sum, iov[i].iov_len);
		sum += iov[i].iov_len;
	}
	assert_int_equal(sum, strlen(want));
}

static void
test_buf__empty(void **state)
{
	struct hb_buf b = { 0 }, c = { 0 };
	struct hb_slice s;

	hb_buf_add(&b, NULL, 0);
	hb_buf_prepend(&b, NULL, 0);
	hb_buf_borrow(&b, &s, NULL, 0);
	hb_buf_move(&b, &c);
	hb_buf_move_n(&b, &c, 0);
	hb_buf_move_front(&b, &c);
	hb_buf_own(&b);
	hb_buf_drain(&b, 0);
	assert_non_null(hb_buf_pullup(&b, 10));
	assert_true(hb_buf_is_owned(&b));
	expect(&b, "");
	assert_null(b.head);
	hb_buf_fini(&b);
	hb_buf_fini(&b);
}

static void
test_buf__add_and_drain(void **state)
{
	struct hb_buf b = { 0 };
	uint64_t copied = hb_buf_copied();

	hb_buf_addz(&b, "hello ");
	hb_buf_addz(&b, "world");
	expect(&b, "hello world");
	assert_ptr_equal(b.head, b.tail); /* small appends share a block */
	assert_int_equal(hb_buf_copied() - copied, 11);
	hb_buf_drain(&b, 6);
	expect(&b, "world");
	hb_buf_drain(&b, 5);
	expect(&b, "");
	assert_null(b.head);
}

static void
test_buf__add_large(void **state)
{
	size_t n = 1000 * 1000 + 7;
	uint8_t *p = hb_malloc(n), *q = hb_malloc(n);
	struct hb_buf b = { 0 };

	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 31 + i / 257);
	hb_buf_add(&b, p, 3);
	hb_buf_add(&b, p + 3, n - 3);
	assert_int_equal(b.len, n);
	assert_int_equal(hb_buf_copyout(&b, 0, q, n), n);
	assert_memory_equal(p, q, n);
	assert_int_equal(hb_buf_copyout(&b, n - 5, q, 100), 5);
	assert_memory_equal(p + n - 5, q, 5);
	assert_int_equal(hb_buf_copyout(&b, n, q, 1), 0);
	hb_buf_fini(&b);
	hb_free(p);
	hb_free(q);
}

static void
test_buf__borrow_moves_without_copy(void **state)
{
	struct hb_buf a = { 0 }, b = { 0 };
	struct hb_slice s;
	char mem[] = "abcdef";
	uint64_t copied = hb_buf_copied();

	hb_buf_borrow(&a, &s, mem, 6);
	assert_false(hb_buf_is_owned(&a));
	hb_buf_move(&b, &a);
	assert_null(a.head);
	assert_ptr_equal(b.head->data, mem);
	assert_ptr_equal(b.head, &s);
	assert_int_equal(hb_buf_copied(), copied);
	hb_buf_drain(&b, 6);
	assert_null(b.head);
}

static void
test_buf__own_copies_borrowed_only(void **state)
{
	struct hb_buf b = { 0 };
	struct hb_slice s1, s2, s3;
	char mem[] = "abcdef", mem2[] = "ghi", mem3[] = "xyz";
	const uint8_t *kept;
	uint64_t copied;

	hb_buf_borrow(&b, &s1, mem, 6);
	hb_buf_borrow(&b, &s2, mem2, 3);
	hb_buf_addz(&b, "123");
	hb_buf_borrow(&b, &s3, mem3, 3);
	kept = s2.next->data;
	copied = hb_buf_copied();
	hb_buf_own(&b);
	assert_int_equal(hb_buf_copied() - copied, 12);
	assert_true(hb_buf_is_owned(&b));
	memset(mem, '#', 6);
	memset(mem2, '#', 3);
	memset(mem3, '#', 3);
	memset(&s1, 0xff, sizeof s1);
	memset(&s2, 0xff, sizeof s2);
	memset(&s3, 0xff, sizeof s3);
	expect(&b, "abcdefghi123xyz");
	assert_ptr_equal(b.head->next->data, kept);
	copied = hb_buf_copied();
	hb_buf_own(&b);
	assert_int_equal(hb_buf_copied(), copied);
	hb_buf_fini(&b);
}

static void
test_buf__split_borrowed(void **state)
{
	struct hb_buf a = { 0 }, b = { 0 };
	struct hb_slice s;
	char mem[] = "abcdefgh";

	hb_buf_borrow(&a, &s, mem, 8);
	hb_buf_move_n(&b, &a, 3);
	assert_ptr_equal(a.head, &s); /* the rest stays in the caller's slice */
	assert_ptr_equal(b.head->data, mem);
	expect(&a, "defgh");
	expect(&b, "abc");
	assert_false(hb_buf_is_owned(&b));
	hb_buf_own(&b);
	hb_buf_move_n(&b, &a, 2);
	hb_buf_own(&a);
	memset(mem, '#', 5);
	memset(&s, 0xff, sizeof s);
	expect(&a, "fgh");
	memcpy(mem, "abcde", 5);
	hb_buf_own(&b);
	memset(mem, '#', 8);
	expect(&b, "abcde");
	hb_buf_move_n(&b, &a, 3);
	expect(&b, "abcdefgh");
	assert_null(a.head);
	hb_buf_fini(&b);
}

static void
test_buf__split_owned_shares_the_block(void **state)
{
	struct hb_buf a = { 0 }, b = { 0 };
	const uint8_t *p;

	hb_buf_addz(&a, "abcdefgh");
	p = a.head->data;
	hb_buf_move_n(&b, &a, 3);
	assert_ptr_equal(b.head->data, p);
	assert_ptr_equal(a.head->data, p + 3);
	/* Neither may write into the shared block. */
	hb_buf_addz(&b, "XX");
	hb_buf_prepend(&a, "YY", 2);
	expect(&b, "abcXX");
	expect(&a, "YYdefgh");
	hb_buf_fini(&a);
	expect(&b, "abcXX");
	hb_buf_fini(&b);
}

static void
test_buf__prepend_uses_headroom(void **state)
{
	struct hb_buf b = { 0 };
	struct hb_slice s;

	hb_buf_borrow(&b, &s, "body", 4);
	hb_buf_prepend(&b, "head ", 5);
	hb_buf_prepend(&b, "more ", 5);
	expect(&b, "more head body");
	assert_ptr_equal(b.head->next, &s);
	hb_buf_drain(&b, 2);
	hb_buf_prepend(&b, "MO", 2);
	expect(&b, "MOre head body");
	hb_buf_fini(&b);
}

static void
test_buf__pullup(void **state)
{
	struct hb_buf b = { 0 };
	struct hb_slice s[40];
	const char *text = "the quick brown fox jumps over the lazy";
	uint64_t copied = hb_buf_copied();

	for (int i = 0; i < 39; i++)
		hb_buf_borrow(&b, &s[i], text + i, 1);
	for (size_t n = 1; n <= 39; n++)
		assert_memory_equal(hb_buf_pullup(&b, n), text, n);
	assert_memory_equal(hb_buf_pullup(&b, 1000), text, 39);
	expect(&b, text);
	assert_ptr_equal(b.head, b.tail);
	assert_int_equal(hb_buf_copied() - copied, 39); /* one byte more each time */
	hb_buf_drain(&b, 39);
	assert_null(b.head);
}

static void
test_buf__pullup_amortised(void **state)
{
	struct hb_buf b = { 0 }, one = { 0 };
	uint64_t copied = hb_buf_copied();

	for (size_t i = 0; i < 60000; i++) {
		hb_buf_addz(&one, "x");
		hb_buf_move(&b, &one);
		(void)hb_buf_pullup(&b, b.len);
	}
	assert_true(hb_buf_copied() - copied < 60000 * 6);
	assert_int_equal(b.len, 60000);
	hb_buf_fini(&b);
}

static void
test_buf__reserve_commit(void **state)
{
	struct hb_buf b = { 0 }, c = { 0 };
	struct hb_slice s;
	uint8_t *p;

	(void)hb_buf_reserve(&b, 100);
	hb_buf_commit(&b, 0);
	assert_int_equal(b.len, 0);
	p = hb_buf_reserve(&b, 100000); /* replaces the unused one */
	memcpy(p, "abc", 3);
	hb_buf_commit(&b, 3);
	expect(&b, "abc");
	p = hb_buf_reserve(&b, 10);
	assert_ptr_equal(p, b.head->data + 3); /* the same block still has room */
	memcpy(p, "def", 3);
	hb_buf_commit(&b, 3);
	expect(&b, "abcdef");
	(void)hb_buf_reserve(&c, 8);
	hb_buf_borrow(&c, &s, "gh", 2); /* an unused reservation in the middle is harmless */
	hb_buf_move(&b, &c);
	expect(&b, "abcdefgh");
	(void)hb_buf_reserve(&c, 8);
	hb_buf_move(&b, &c);
	assert_null(c.head);
	assert_memory_equal(hb_buf_pullup(&b, 8), "abcdefgh", 8);
	hb_buf_drain(&b, 8);
	assert_null(b.head);
	p = hb_buf_reserve(&b, 1024 * 1024); /* larger than a pooled block */
	memset(p, 'x', 1024 * 1024);
	hb_buf_commit(&b, 1024 * 1024);
	hb_buf_fini(&b);
}

static void
test_buf__move_front(void **state)
{
	struct hb_buf a = { 0 }, b = { 0 };

	hb_buf_addz(&a, "world");
	hb_buf_addz(&b, "hello ");
	hb_buf_move_front(&a, &b);
	expect(&a, "hello world");
	assert_null(b.head);
	hb_buf_move_front(&b, &a);
	expect(&b, "hello world");
	hb_buf_fini(&b);
}

static void
test_buf__iov_limit(void **state)
{
	struct hb_buf b = { 0 };
	struct hb_slice s[8];
	struct iovec iov[4];

	for (int i = 0; i < 8; i++)
		hb_buf_borrow(&b, &s[i], "ab", 2);
	assert_int_equal(hb_buf_iov(&b, iov, 4), 4);
	assert_int_equal(iov[3].iov_len, 2);
	hb_buf_fini(&b);
}

/* A flat model of the buffer: what it must hold. */
enum { MODEL_MAX = 1 << 16 };
static uint8_t model[MODEL_MAX];
static size_t model_len;

static void
model_cut(size_t n)
{
	memmove(model, model + n, model_len - n);
	model_len -= n;
}

static void
model_insert(size_t at, const uint8_t *src, size_t n)
{
	memmove(model + at + n, model + at, model_len - at);
	memcpy(model + at, src, n);
	model_len += n;
}

/* One random operation on both. */
static void
random_operation(struct hb_buf *b)
{
	static struct hb_slice slices[64];
	static uint8_t src[4096];
	struct hb_buf x = { 0 };
	unsigned ns = 0;
	size_t n = hb_random() % 700;

	for (size_t i = 0; i < n; i++)
		src[i] = (uint8_t)hb_random();
	switch (hb_random() % 7) {
	case 0:
		hb_buf_add(b, src, n);
		model_insert(model_len, src, n);
		break;
	case 1:
		hb_buf_prepend(b, src, n);
		model_insert(0, src, n);
		break;
	case 2:
		n = HB_MIN(n, model_len);
		hb_buf_drain(b, n);
		model_cut(n);
		break;
	case 3:
		for (size_t i = 0; i + 13 <= n; i += 13)
			hb_buf_borrow(b, &slices[ns++], src + i, 13);
		model_insert(model_len, src, (size_t)ns * 13);
		hb_buf_move_n(&x, b, HB_MIN(n, b->len));
		hb_buf_own(&x);
		hb_buf_move_front(b, &x);
		hb_buf_own(b);
		break;
	case 4:
		assert_memory_equal(hb_buf_pullup(b, n), model, HB_MIN(n, model_len));
		break;
	case 5:
		/* Rotate: what is taken from the front goes to the end. */
		n = HB_MIN(n, model_len);
		hb_buf_move_n(&x, b, n);
		hb_buf_move(b, &x);
		memcpy(src, model, n);
		model_cut(n);
		model_insert(model_len, src, n);
		break;
	default:
		memcpy(hb_buf_reserve(b, n + 1), src, n);
		hb_buf_commit(b, n);
		model_insert(model_len, src, n);
		break;
	}
}

static void
test_buf__random_against_model(void **state)
{
	static uint8_t got[MODEL_MAX];
	struct hb_buf b = { 0 };

	hb_random_seed(7);
	model_len = 0;
	for (int round = 0; round < 20000; round++) {
		random_operation(&b);
		if (model_len > MODEL_MAX / 2) {
			hb_buf_drain(&b, model_len - 100);
			model_cut(model_len - 100);
		}
		assert_int_equal(b.len, model_len);
		assert_true(hb_buf_is_owned(&b));
		if (round % 16 == 0) {
			assert_int_equal(hb_buf_copyout(&b, 0, got, MODEL_MAX), model_len);
			assert_memory_equal(got, model, model_len);
		}
	}
	hb_buf_fini(&b);
}

static void *
other_thread(void *arg)
{
	struct hb_buf *b = arg, mine = { 0 };

	hb_buf_move_n(&mine, b, 1000);
	for (int i = 0; i < 1000; i++) {
		hb_buf_addz(&mine, "y");
		hb_buf_drain(&mine, 1);
	}
	hb_buf_fini(&mine);
	hb_buf_fini(b);
	return (NULL);
}

/* A whole buffer is split and ends on another thread; the pools of ended threads are freed. */
static void
test_buf__ends_on_another_thread(void **state)
{
	for (int round = 0; round < 50; round++) {
		struct hb_buf a = { 0 }, given = { 0 };
		pthread_t th;

		for (int i = 0; i < 4000; i++) {
			hb_buf_addz(&a, "x");
			hb_buf_addz(&given, "x");
		}
		assert_int_equal(pthread_create(&th, NULL, other_thread, &given), 0);
		hb_buf_drain(&a, 500);
		hb_buf_addz(&a, "z");
		hb_buf_prepend(&a, "w", 1);
		hb_buf_fini(&a);
		assert_int_equal(pthread_join(th, NULL), 0);
	}
}

static void
test_watermark(void **state)
{
	struct hb_watermark w = { .high = 100 };

	assert_int_equal(hb_watermark_set(&w, 99), 0);
	assert_int_equal(hb_watermark_set(&w, 100), 1);
	assert_int_equal(hb_watermark_set(&w, 150), 0);
	assert_int_equal(hb_watermark_set(&w, 51), 0);
	assert_int_equal(hb_watermark_set(&w, 50), -1);
	assert_int_equal(hb_watermark_set(&w, 0), 0);
	w.high = 0;
	assert_int_equal(hb_watermark_set(&w, 1 << 30), 0);
}

/* A burst of short writes leaves little behind: what is kept free for the next ones. */
static void
test_buf__burst(void **state)
{
	static struct hb_buf b[2000];
	size_t before = hb_burst_blocks();

	(void)state;
	for (unsigned i = 0; i < HB_ARRAY_LEN(b); i++)
		hb_buf_add(&b[i], "x", 1);
	for (unsigned i = 0; i < HB_ARRAY_LEN(b); i++)
		hb_buf_fini(&b[i]);
	assert_true(hb_burst_blocks() - before <= 48 * 1024);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buf__empty),
		cmocka_unit_test(test_buf__add_and_drain),
		cmocka_unit_test(test_buf__add_large),
		cmocka_unit_test(test_buf__borrow_moves_without_copy),
		cmocka_unit_test(test_buf__own_copies_borrowed_only),
		cmocka_unit_test(test_buf__split_borrowed),
		cmocka_unit_test(test_buf__split_owned_shares_the_block),
		cmocka_unit_test(test_buf__prepend_uses_headroom),
		cmocka_unit_test(test_buf__pullup),
		cmocka_unit_test(test_buf__pullup_amortised),
		cmocka_unit_test(test_buf__reserve_commit),
		cmocka_unit_test(test_buf__move_front),
		cmocka_unit_test(test_buf__iov_limit),
		cmocka_unit_test(test_buf__random_against_model),
		cmocka_unit_test(test_buf__ends_on_another_thread),
		cmocka_unit_test(test_buf__burst),
		cmocka_unit_test(test_watermark),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/list.h"

struct item {
	struct hb_list link;
	int n;
};

static int sum_in_order(const struct hb_list *l)
{
	const struct hb_list *n;
	int sum = 0;

	HB_LIST_FOREACH (n, l)
		sum = sum * 10 + HB_LIST_ENTRY(n, struct item, link)->n;
	return (sum);
}

static void test_add_del(void **state)
{
	struct item v[4] = { 0 };
	struct hb_list l, *n, *tmp;

	hb_list_init(&l);
	for (int i = 0; i < 4; i++) {
		assert_false(hb_list_linked(&v[i].link));
		hb_list_init(&v[i].link);
		assert_false(hb_list_linked(&v[i].link));
		v[i].n = i + 1;
	}
	assert_true(hb_list_empty(&l));
	hb_list_add_tail(&l, &v[1].link);
	hb_list_add_tail(&l, &v[2].link);
	hb_list_add_head(&l, &v[0].link);
	hb_list_add_tail(&l, &v[3].link);
	assert_int_equal(sum_in_order(&l), 1234);
	assert_true(hb_list_linked(&v[2].link));
	hb_list_del(&v[2].link);
	hb_list_del(&v[2].link);
	assert_int_equal(sum_in_order(&l), 124);
	HB_LIST_FOREACH_SAFE (n, tmp, &l)
		hb_list_del(n);
	assert_true(hb_list_empty(&l));
}

static void test_splice(void **state)
{
	struct item v[4] = { { .n = 1 }, { .n = 2 }, { .n = 3 }, { .n = 4 } };
	struct hb_list a, b;

	hb_list_init(&a);
	hb_list_init(&b);
	hb_list_splice(&a, &b);
	assert_true(hb_list_empty(&a));
	hb_list_add_tail(&a, &v[0].link);
	hb_list_add_tail(&a, &v[1].link);
	hb_list_add_tail(&b, &v[2].link);
	hb_list_add_tail(&b, &v[3].link);
	hb_list_splice(&a, &b);
	assert_true(hb_list_empty(&b));
	assert_int_equal(sum_in_order(&a), 1234);
	hb_list_splice(&b, &a);
	assert_int_equal(sum_in_order(&b), 1234);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_del),
		cmocka_unit_test(test_splice),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

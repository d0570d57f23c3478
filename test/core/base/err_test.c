/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/err.h"

static const char *const names[] = {
	"address",
	"filter_chains",
	"listener_filters",
	"name",
	"use_original_dst",
	"tls",
	NULL,
};

static void test_set_and_format(void **state)
{
	struct hb_err err;
	char buf[2048];

	memset(&err, 0x5a, sizeof err);
	assert_int_equal(hb_err_set(&err, -EINVAL, "port %d is above 65535", 70000), -EINVAL);
	assert_int_equal(err.code, -EINVAL);
	hb_err_format(&err, buf, sizeof buf);
	assert_string_equal(buf, "port 70000 is above 65535");
	hb_err_prefix(&err, "cluster %s: ", "app");
	hb_err_format(&err, buf, sizeof buf);
	assert_string_equal(buf, "cluster app: port 70000 is above 65535");
	strcpy(err.path, "static_resources.clusters[0]");
	hb_err_format(&err, buf, sizeof buf);
	assert_string_equal(
		buf, "static_resources.clusters[0]: cluster app: port 70000 is above 65535");
	strcpy(err.file, "a.yaml");
	hb_err_format(&err, buf, sizeof buf);
	assert_memory_equal(buf, "a.yaml: static_", 15);
	err.line = 3;
	hb_err_format(&err, buf, sizeof buf);
	assert_memory_equal(buf, "a.yaml:3: static_", 17);
	err.column = 9;
	hb_err_format(&err, buf, sizeof buf);
	assert_memory_equal(buf, "a.yaml:3:9: static_", 19);
	assert_int_equal(hb_err_set(NULL, -ENOENT, "nobody listens"), -ENOENT);
	hb_err_prefix(NULL, "x");
}

static void test_long_texts_are_cut(void **state)
{
	char big[3000], out[8192];
	struct hb_err err;

	memset(big, 'x', sizeof big);
	big[sizeof big - 1] = '\0';
	hb_err_set(&err, -EINVAL, "%s", big);
	assert_int_equal(strlen(err.text), sizeof err.text - 1);
	hb_err_prefix(&err, "%s", big);
	assert_int_equal(strlen(err.text), sizeof err.text - 1);
	memset(err.file, 'f', sizeof err.file - 1);
	err.file[sizeof err.file - 1] = '\0';
	err.line = err.column = UINT32_MAX;
	assert_true(hb_err_format(&err, out, sizeof out) > 700);
	assert_true(hb_err_format(&err, out, 10) > 700);
	assert_int_equal(strlen(out), 9);
}

static void test_list_is_bounded(void **state)
{
	struct hb_errs errs;

	hb_errs_init(&errs);
	assert_false(hb_errs_any(&errs));
	for (int i = 0; i < 100; i++) {
		struct hb_err *err = hb_errs_add(&errs);

		assert_non_null(err);
		assert_int_equal(err->code, 0);
		hb_err_set(err, -EINVAL, "error %d", i);
	}
	assert_null(hb_errs_add(&errs));
	assert_int_equal(errs.n, 100);
	assert_int_equal(errs.dropped, 1);
	assert_string_equal(errs.v[0].text, "error 0");
	assert_string_equal(errs.v[99].text, "error 99");
	hb_errs_fini(&errs);
	hb_errs_init(&errs);
	errs.max = 1;
	assert_non_null(hb_errs_add(&errs));
	assert_null(hb_errs_add(&errs));
	assert_true(hb_errs_any(&errs));
	hb_errs_fini(&errs);
}

static void test_nearest(void **state)
{
	char big[200];

	assert_string_equal(hb_err_nearest("adress", names), "address");
	assert_string_equal(hb_err_nearest("NAME", names), "name");
	assert_string_equal(hb_err_nearest("filter_chian", names), "filter_chains");
	assert_string_equal(hb_err_nearest("listenerFilters", names), "listener_filters");
	/* A swap is one edit: "slt" is two away from "tls", "tsl" one. */
	assert_string_equal(hb_err_nearest("tsl", names), "tls");
	assert_string_equal(hb_err_nearest("nmae", names), "name");
	assert_null(hb_err_nearest("cluster", names));
	assert_null(hb_err_nearest("", names));
	assert_null(hb_err_nearest("zz", names));
	assert_null(hb_err_nearest("x", names));
	memset(big, 'a', sizeof big);
	big[sizeof big - 1] = '\0';
	assert_null(hb_err_nearest(big, names));
	assert_null(hb_err_nearest("name", (const char *const[]){ NULL }));
}

/* The nearest one wins, the first of equals. */
static void test_nearest_chooses(void **state)
{
	static const char *const near[] = { "aabbccdd", "abbccdd", "abbccde", NULL };

	assert_string_equal(hb_err_nearest("abbccd", near), "abbccdd");
	assert_string_equal(hb_err_nearest("abbccde", near), "abbccde");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_and_format),
		cmocka_unit_test(test_long_texts_are_cut),
		cmocka_unit_test(test_list_is_bounded),
		cmocka_unit_test(test_nearest),
		cmocka_unit_test(test_nearest_chooses),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

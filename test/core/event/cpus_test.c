/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/event/worker_priv.h"

static char root[64];

/* Writes a file under the fake root, with its folders. */
static void
put(const char *path, const char *text)
{
	char full[PATH_MAX];
	FILE *f;

	(void)snprintf(full, sizeof full, "%s/%s", root, path);
	for (char *p = full + strlen(root) + 1; *p != '\0'; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		(void)mkdir(full, 0700);
		*p = '/';
	}
	f = fopen(full, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static int
setup(void **state)
{
	const char *tmp = getenv("TEST_TMPDIR");

	(void)snprintf(root, sizeof root, "%.40s/hb-cpus-XXXXXX",
		tmp != NULL && strlen(tmp) < 40 ? tmp : "/tmp");
	assert_non_null(mkdtemp(root));
	return (0);
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return (remove(path));
}

static int
teardown(void **state)
{
	return (nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS));
}

static void
test_cpus__no_cgroup(void **state)
{
	assert_int_equal(hb_worker_count_under(root, 3), 3);
	assert_int_equal(hb_worker_count_under(root, 0), 1);
	assert_int_equal(hb_worker_count_under(root, 100000), HB_WORKERS_MAX);
}

static void
test_cpus__v2(void **state)
{
	put("proc/self/cgroup", "0::/kube/pod1/app\n");
	put("sys/fs/cgroup/kube/pod1/app/cpu.max", "150000 100000\n");
	assert_int_equal(hb_worker_count_under(root, 64), 2);
	assert_int_equal(hb_worker_count_under(root, 1), 1);
	put("sys/fs/cgroup/kube/pod1/app/cpu.max", "max 100000\n");
	assert_int_equal(hb_worker_count_under(root, 64), 64);
	/* The group above is the tighter one. */
	put("sys/fs/cgroup/kube/cpu.max", "400000 100000\n");
	assert_int_equal(hb_worker_count_under(root, 64), 4);
	put("sys/fs/cgroup/kube/cpu.max", "1000 100000\n");
	assert_int_equal(hb_worker_count_under(root, 64), 1);
}

static void
test_cpus__v2_in_a_container(void **state)
{
	put("proc/self/cgroup", "0::/\n");
	put("sys/fs/cgroup/cpu.max", "300000 100000\n");
	assert_int_equal(hb_worker_count_under(root, 64), 3);
	/* The host's path, which is not there: the mount's root is ours. */
	put("proc/self/cgroup", "0::/../../kubepods/pod7\n");
	assert_int_equal(hb_worker_count_under(root, 64), 3);
}

static void
test_cpus__v1(void **state)
{
	put("proc/self/cgroup", "12:cpuset:/docker/1\n4:cpu,cpuacct:/docker/1\n0::/system\n");
	put("sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us", "250000\n");
	put("sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us", "100000\n");
	assert_int_equal(hb_worker_count_under(root, 64), 3);
	put("sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us", "-1\n");
	assert_int_equal(hb_worker_count_under(root, 64), 64);
	put("proc/self/cgroup", "4:cpuset,cpu:/gone\n");
	put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "500000\n");
	put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
	assert_int_equal(hb_worker_count_under(root, 64), 5);
}

static void
test_cpus__nonsense_is_ignored(void **state)
{
	put("proc/self/cgroup", "\n:\n0:\n0::/a\nx:cpuset:/b\n");
	put("sys/fs/cgroup/a/cpu.max", "many few\n");
	put("sys/fs/cgroup/cpu.max", "100000 0\n");
	assert_int_equal(hb_worker_count_under(root, 7), 7);
	put("sys/fs/cgroup/cpu.max", "-5 100000\n");
	assert_int_equal(hb_worker_count_under(root, 7), 7);
	put("sys/fs/cgroup/cpu.max", "");
	assert_int_equal(hb_worker_count_under(root, 7), 7);
}

static void
test_cpus__here(void **state)
{
	unsigned n = hb_worker_default_count();

	assert_true(n >= 1 && n <= HB_WORKERS_MAX);
}

int
main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_cpus__no_cgroup),
		TEST(test_cpus__v2),
		TEST(test_cpus__v2_in_a_container),
		TEST(test_cpus__v1),
		TEST(test_cpus__nonsense_is_ignored),
		TEST(test_cpus__here),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

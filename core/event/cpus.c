/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many CPUs this process may use. The CPU set says on which it may run, the cgroup's quota how
 * much of them: a container with 2 CPUs on a machine of 64 should not start 64 workers.
 */
#include "core/event/worker_priv.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CPUS_MAX 8192

/* The first line of a small file, without the newline. */
static bool
read_line(const char *path, char *dst, size_t cap)
{
	FILE *f = fopen(path, "re");
	bool ok;

	if (f == NULL)
		return (false);
	ok = fgets(dst, (int)cap, f) != NULL;
	(void)fclose(f);
	if (ok)
		dst[strcspn(dst, "\n")] = '\0';
	return (ok);
}

static unsigned
cap_by(unsigned cpus, long long quota, long long period)
{
	long long n;

	if (quota <= 0 || period <= 0)
		return (cpus);
	n = quota / period + (quota % period != 0);
	return (n < (long long)cpus ? (unsigned)HB_MAX(n, 1LL) : cpus);
}

/* "max 100000" or "150000 100000" */
static unsigned
cap_v2(const char *dir, unsigned cpus)
{
	char path[PATH_MAX + 16], line[128];
	long long quota, period;

	(void)snprintf(path, sizeof path, "%s/cpu.max", dir);
	if (!read_line(path, line, sizeof line) || sscanf(line, "%lld %lld", &quota, &period) != 2)
		return (cpus);
	return (cap_by(cpus, quota, period));
}

static unsigned
cap_v1(const char *dir, unsigned cpus)
{
	char path[PATH_MAX + 32], quota[64], period[64];

	(void)snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", dir);
	if (!read_line(path, quota, sizeof quota))
		return (cpus);
	(void)snprintf(path, sizeof path, "%s/cpu.cfs_period_us", dir);
	if (!read_line(path, period, sizeof period))
		return (cpus);
	return (cap_by(cpus, strtoll(quota, NULL, 10), strtoll(period, NULL, 10)));
}

/*
 * Quotas of the group and of all groups above it. In a container the path may be the host's and
 * not be there: its nearest folder that exists, at last the root of the mount, is ours then.
 */
static unsigned
cap_path(const char *mount, const char *group, unsigned cpus,
	unsigned (*cap)(const char *dir, unsigned cpus))
{
	char dir[PATH_MAX];
	size_t min = strlen(mount);
	int n = snprintf(dir, sizeof dir, "%s%s", mount, group);

	if (n < 0 || (size_t)n >= sizeof dir)
		return (cap(mount, cpus));
	for (;;) {
		char *slash;

		cpus = cap(dir, cpus);
		slash = strrchr(dir, '/');
		if (strlen(dir) <= min || slash == NULL || (size_t)(slash - dir) < min)
			return (cpus);
		*slash = '\0';
	}
}

static bool
has_controller(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = list; p != NULL; p = strchr(p, ',')) {
		p += *p == ',';
		if (strncmp(p, name, n) == 0 && (p[n] == ',' || p[n] == '\0'))
			return (true);
	}
	return (false);
}

unsigned
hb_worker_count_under(const char *root, unsigned cpus)
{
	char path[PATH_MAX], mount[PATH_MAX], line[PATH_MAX];
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
	f = fopen(path, "re");
	/* "4:cpu,cpuacct:/path" for version 1, "0::/path" for version 2 */
	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		char *list = strchr(line, ':'),
		     *group = list == NULL ? NULL : strchr(list + 1, ':');

		if (group == NULL)
			continue;
		*group++ = '\0';
		group[strcspn(group, "\n")] = '\0';
		list++;
		if (*list == '\0') {
			(void)snprintf(mount, sizeof mount, "%s/sys/fs/cgroup", root);
			cpus = cap_path(mount, group, cpus, cap_v2);
		} else if (has_controller(list, "cpu")) {
			(void)snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/%s", root, list);
			cpus = cap_path(mount, group, cpus, cap_v1);
			(void)snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/cpu", root);
			cpus = cap_path(mount, group, cpus, cap_v1);
		}
	}
	if (f != NULL)
		(void)fclose(f);
	return (HB_MIN(HB_MAX(cpus, 1u), (unsigned)HB_WORKERS_MAX));
}

unsigned
hb_worker_default_count(void)
{
	unsigned cpus = 0;
#ifdef __linux__
	cpu_set_t *set = CPU_ALLOC(CPUS_MAX);
	size_t size = CPU_ALLOC_SIZE(CPUS_MAX);

	if (set != NULL && sched_getaffinity(0, size, set) == 0)
		cpus = (unsigned)CPU_COUNT_S(size, set);
	if (set != NULL)
		CPU_FREE(set);
#endif
	if (cpus == 0)
		cpus = (unsigned)HB_MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L);
	return (hb_worker_count_under("", cpus));
}

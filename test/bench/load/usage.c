/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include "core/base/base.h"
#include "test/bench/load/usage.h"

/* Ticks since boot of one line of /proc/stat. */
#define FIELDS 8u
#define IDLE   3u
#define IOWAIT 4u
#define STEAL  7u

/* Field 1 of /proc/PID/task/TID/schedstat of all threads: ns on a CPU. */
static bool
cpu_of(const char *pid, uint64_t *ret)
{
	char path[320];
	struct dirent *e;
	uint64_t sum = 0, ns;
	FILE *f;
	DIR *d;

	(void)snprintf(path, sizeof path, "/proc/%s/task", pid);
	d = opendir(path);
	if (d == NULL)
		return (false);
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof path, "/proc/%s/task/%.20s/schedstat", pid, e->d_name);
		f = fopen(path, "re");
		if (f == NULL)
			continue;
		if (fscanf(f, "%lu", &ns) == 1)
			sum += ns;
		(void)fclose(f);
	}
	(void)closedir(d);
	*ret = sum;
	return (true);
}

static uint64_t
sum_of(const uint64_t *v)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < FIELDS; i++)
		sum += v[i];
	return (sum);
}

static bool
fields(const char *p, uint64_t v[FIELDS])
{
	return (sscanf(p, "%lu %lu %lu %lu %lu %lu %lu %lu", &v[0], &v[1], &v[2], &v[3], &v[4],
			&v[5], &v[6], &v[7]) == (int)FIELDS);
}

static void
machine(struct load_usage *u)
{
	cpu_set_t own;
	uint64_t v[FIELDS];
	char line[512];
	unsigned cpu;
	int at;
	FILE *f = fopen("/proc/stat", "re");

	u->all = u->steal = u->others = u->others_busy = 0;
	CPU_ZERO(&own);
	(void)sched_getaffinity(0, sizeof own, &own);
	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		if (strncmp(line, "cpu ", 4) == 0 && fields(line + 4, v)) {
			u->all = sum_of(v);
			u->steal = v[STEAL];
		} else if (sscanf(line, "cpu%u %n", &cpu, &at) == 1 && fields(line + at, v) &&
			(cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &own))) {
			u->others += sum_of(v);
			u->others_busy += sum_of(v) - v[IDLE] - v[IOWAIT];
		}
	}
	if (f != NULL)
		(void)fclose(f);
}

static void
processes(struct load_usage *u, const int *pids, size_t n)
{
	char pid[16];

	for (size_t i = 0; i < n; i++) {
		(void)snprintf(pid, sizeof pid, "%d", pids[i]);
		if (!cpu_of(pid, &u->cpu_ns[i]))
			u->gone = true;
	}
	(void)cpu_of("self", &u->own_cpu_ns);
}

void
load_usage_begin(struct load_usage *u, const int *pids, size_t n)
{
	HB_ASSERT(n <= LOAD_PIDS_MAX);
	memset(u, 0, sizeof *u);
	machine(u);
	processes(u, pids, n);
}

static double
share(uint64_t part, uint64_t of)
{
	return (of == 0 ? 0.0 : (double)part / (double)of);
}

void
load_usage_end(struct load_usage *u, const int *pids, size_t n)
{
	struct load_usage end = *u;

	processes(&end, pids, n);
	machine(&end);
	for (size_t i = 0; i < n; i++)
		u->cpu_ns[i] = end.gone ? 0 : end.cpu_ns[i] - u->cpu_ns[i];
	u->gone = end.gone;
	u->own_cpu_ns = end.own_cpu_ns - u->own_cpu_ns;
	u->steal_share = share(end.steal - u->steal, end.all - u->all);
	u->other_busy = end.others == 0 ?
		-1.0 :
		share(end.others_busy - u->others_busy, end.others - u->others);
}

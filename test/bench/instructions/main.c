/* SPDX-License-Identifier: Apache-2.0 */
/*
 * instructions NAME [N]: one run of N units (default: as recorded). `list` prints all runs, one a line
 * "NAME N UNIT"; `memory` prints bytes a piece, "NAME BYTES"; `compiler` names that of this program.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <valgrind/callgrind.h>
#include "test/bench/instructions/instructions.h"

static const struct hbi_run *const runs[] = { &hbi_download, &hbi_upload, &hbi_handshakes,
	&hbi_resumptions, &hbi_connections, &hbi_tunnels, &hbi_matches, &hbi_clusters };
static const struct hbi_memory *const memory[] = { &hbi_mem_passthrough,
	&hbi_mem_connection, &hbi_mem_stream, &hbi_mem_cluster };

/* In place of libc's: keys of hash tables and the like are the same in every run. */
ssize_t
getrandom(void *p, size_t n, unsigned flags)
{
	static uint64_t x = 0x9e3779b97f4a7c15;

	for (size_t i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		((uint8_t *)p)[i] = (uint8_t)(x >> 32);
	}
	return ((ssize_t)n);
}

static void
run_counted(const struct hbi_run *r, unsigned n)
{
	hb_random_seed(42);
	r->setup();
	r->run(r->warm);
	CALLGRIND_START_INSTRUMENTATION;
	r->run(n);
	CALLGRIND_STOP_INSTRUMENTATION;
	r->fini();
}

int
main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "list";

	if (strcmp(what, "compiler") == 0)
		(void)puts("gcc " __VERSION__);
	for (size_t i = 0; i < HB_ARRAY_LEN(runs); i++) {
		if (strcmp(what, "list") == 0)
			(void)printf("%s %u %s\n", runs[i]->name, runs[i]->n, runs[i]->unit);
		if (strcmp(what, runs[i]->name) != 0)
			continue;
		run_counted(runs[i], argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : runs[i]->n);
		return (0);
	}
	for (size_t i = 0; i < HB_ARRAY_LEN(memory) && strcmp(what, "memory") == 0; i++)
		(void)printf("%s %zu\n", memory[i]->name, memory[i]->measure());
	if (strcmp(what, "list") == 0 || strcmp(what, "memory") == 0 ||
		strcmp(what, "compiler") == 0)
		return (0);
	(void)fprintf(
		stderr, "instructions: no run \"%s\"; `instructions list` names them\n", what);
	return (2);
}

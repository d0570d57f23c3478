/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/bench/floor.h: the floor, what a proxy in user space needs at least for the work of a row,
 * measured in the same rounds (docs/performance.md). One thread, one edge-triggered epoll set, and no
 * logic: no configuration, limits, timers, counters, names or logs. What it answers to is the load
 * tool, whose errors are the test; it is no proxy for anything else.
 *
 * floor.c is the command line and the loop, floor_sockets.c passes connections on, floor_hbone.c ends
 * HBONE with the libraries that hbone has.
 */
#ifndef HB_TEST_BENCH_FLOOR_H
#define HB_TEST_BENCH_FLOOR_H

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "core/base/base.h"

/* What one kind of work does; `n_files` is above every descriptor. */
struct floor_work {
	void (*begin)(size_t n_files, char **arguments);
	/* A connection, before it is watched. */
	void (*accepted)(int fd);
	/* A descriptor that is watched, or was until it was closed in this turn. */
	void (*event)(int fd, uint32_t events);
	/* Every event of a turn was told, new connections too; NULL = nothing to do. */
	void (*turned)(void);
};

extern const struct floor_work floor_passthrough, floor_terminate;

/* From now on each change of this socket is an event; what is so already is the first. */
void floor_watch(int fd);

/* A socket whose connection to the origin is under way. */
int floor_dial(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/event/worker_priv.h: what the files of this room share. Nothing here is for other rooms.
 */
#ifndef HB_CORE_EVENT_WORKER_PRIV_H
#define HB_CORE_EVENT_WORKER_PRIV_H

#include <pthread.h>
#include "core/event/io.h"
#include "core/event/worker.h"

/* ------------------------------------------------------------------ timer wheel (timer.c) */

#define HB_WHEEL_LEVELS 7u   /* 1 ms, 16 ms, 256 ms, … 16^6 ms: about 50 days in one go */
#define HB_WHEEL_SLOTS  256u

/*
 * Slot s of level n holds the timers that fire when the clock reaches a multiple of 16^n ms whose
 * quotient is s modulo 256. `clock_ms` never passes a slot that is in use.
 */
struct hb_wheel {
	uint64_t       clock_ms;
	size_t         count;                                  /* running timers        */
	uint64_t       next_ms;                                /* when `next_known`     */
	bool           next_known; /* looking for it is a twentieth of what a tunnel costs  */
	uint64_t       used[HB_WHEEL_LEVELS][HB_WHEEL_SLOTS / 64]; /* bit = slot not empty  */
	struct hb_list slot[HB_WHEEL_LEVELS][HB_WHEEL_SLOTS];
};

void hb_wheel_init(struct hb_wheel *, uint64_t now_ms);
/* When the next slot is due; UINT64_MAX = none. */
uint64_t hb_wheel_next(struct hb_wheel *);
/* Fires what is due at `now_ms`. */
void hb_wheel_run(struct hb_worker *, uint64_t now_ms);
/* Moves the whole wheel to a clock that differs by now_ms - old_ms. */
void hb_wheel_rebase(struct hb_wheel *, uint64_t old_ms, uint64_t now_ms);

/* ------------------------------------------------------------------ worker */

/* Runs at the end of a turn, when the dead list is empty: the worker holds no shared pointer. */
struct hb_quiet {
	struct hb_quiet *next; /* private */
	void (*fn)(struct hb_quiet *);
};

struct hb_worker_priv {
	uv_loop_t    loop;
	uv_async_t   wake;
	uv_prepare_t prepare;
	uv_check_t   check;
	uv_idle_t    idle; /* active while work waits: the loop then does not block */
	uv_timer_t   timer;
	uint64_t     armed_ms; /* of `timer`; UINT64_MAX = not armed */

	pthread_t thread;
	bool      started; /* the thread runs and is not joined                */
	bool      inside;  /* uv_run is on the stack: the cached time is fresh */
	bool      stopped; /* hb_control_stop came, perhaps before the loop    */
	bool      waits;   /* the thread waits by hb_io_ops.wait               */

	struct hb_task  *backlog, **backlog_tail; /* taken from `posted`, in order */
	struct hb_list   run;
	struct hb_list   later;    /* asked for again while it ran: for the next turn */
	struct hb_run   *running;  /* only compared                                   */
	struct hb_dead  *dead, **dead_tail;
	struct hb_quiet *quiet, **quiet_tail;

	struct hb_wheel wheel;
	bool            fake; /* the clock is a test's */
	uint64_t        fake_ms;
	int64_t         wall_us;
	bool            wall_valid;

	uint8_t *scratch[HB_SCRATCH_DEPTH]; /* owned; made on first use */
	unsigned scratch_out;
	uint64_t scratch_exhausted;

	void *io; /* of the backend */

	/* The only line that other threads write to. */
	char                     pad0[64];
	_Atomic(struct hb_task *) posted; /* newest first */
	char                     pad1[64];
};
/* No other field of the worker shares its line. */
_Static_assert(offsetof(struct hb_worker_priv, posted) - offsetof(struct hb_worker_priv, io) >=
		64 + sizeof(void *), "pad0");
_Static_assert(sizeof(struct hb_worker_priv) - offsetof(struct hb_worker_priv, posted) >= 64 + 8,
    "pad1");

/* Adds to the end of the current turn. */
void hb_worker_quiet(struct hb_worker *, struct hb_quiet *, void (*fn)(struct hb_quiet *));

/* ------------------------------------------------------------------ default count (cpus.c) */

/*
 * `cpus` capped by the CPU quota of the cgroup that `root`/proc/self/cgroup names, under
 * `root`/sys/fs/cgroup, rounded up. root is "" except in tests.
 */
unsigned hb_worker_count_under(const char *root, unsigned cpus);

/* ------------------------------------------------------------------ descriptors (io*.c) */

struct hb_io_ops {
	int  (*worker_init)(struct hb_worker *, struct hb_err *reterr);
	/* Starts closing; returns how many descriptors are still watched. */
	size_t (*worker_fini)(struct hb_worker *);
	/* After the loop has closed its handles. */
	void (*worker_free)(struct hb_worker *);
	int  (*start)(struct hb_worker *, struct hb_io *, bool level, struct hb_err *reterr);
	void (*again)(struct hb_io *, unsigned events); /* NULL = nothing to do */
	/* It is another struct now, which has all values of the former one. */
	void (*moved)(struct hb_worker *, struct hb_io *);
	/* The descriptor is closed next when `closing`. */
	void (*stop)(struct hb_worker *, struct hb_io *, bool closing);
	/*
	 * NULL: the uv loop waits. Else a worker's thread turns its loop itself: wait_begin, then wait
	 * as often as it likes (at most timeout_ms, -1 = for ever): calls `woken` when the time is
	 * known, then the callbacks; true = the uv loop has something to do. wait_end gives the waiting
	 * back to the uv loop.
	 */
	void (*wait_begin)(struct hb_worker *);
	bool (*wait)(struct hb_worker *, int timeout_ms, void (*woken)(struct hb_worker *));
	void (*wait_end)(struct hb_worker *);
};

#ifdef __linux__
extern const struct hb_io_ops hb_io_epoll_ops;
#endif
extern const struct hb_io_ops hb_io_uv_ops;
const struct hb_io_ops *hb_io_ops(void);

/* ------------------------------------------------------------------ retiring (table.c) */

/* The threads are joined: frees all that was retired. Returns false when there was nothing. */
bool hb_retire_flush(void);

#endif

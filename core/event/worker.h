/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/event/worker.h: threads, their loops, and how they talk.
 *
 * One control thread (the process's main thread) and N workers; each is a struct hb_worker with a
 * libuv loop. A connection lives on one worker. Nothing of a worker is touched from another
 * thread, except through hb_post. A function whose comment says nothing else is called on the
 * thread of the worker that it concerns.
 *
 * One turn of a worker's loop: timers, readiness of descriptors, posted tasks, the run queue, then
 * the dead list. When the dead list has been freed the worker is quiescent: it holds no pointer to
 * shared objects other than pinned ones (core/event/table.h).
 */
#ifndef HB_CORE_EVENT_WORKER_H
#define HB_CORE_EVENT_WORKER_H

#include <stdatomic.h>
#include <uv.h>
#include "core/base/err.h"
#include "core/base/list.h"

#define HB_WORKERS_MAX    256
#define HB_WORKER_CONTROL UINT32_MAX /* index of the control thread */

/* Rooms' own per-worker state; each row is set once by its room before traffic. */
enum hb_worker_slot {
	HB_SLOT_STATS,
	HB_SLOT_TRANSPORT,
	HB_SLOT_FILTER,
	HB_SLOT_LISTENER,
	HB_SLOT_UPSTREAM,
	HB_SLOT_HTTP,
	HB_SLOT_TEST,
	HB_SLOT_MAX
};

struct hb_worker {
	unsigned magic;
#define HB_WORKER_MAGIC 0x6b1f0d35
	uint32_t               index; /* read-only: 0 … count-1, or HB_WORKER_CONTROL            */
	/* read-only: for rooms that need a uv handle (admin, DNS); of the control thread, for a worker's
	 * thread enters its uv loop only when that has something to do */
	uv_loop_t             *loop;
	void                  *slot[HB_SLOT_MAX]; /* see enum hb_worker_slot                     */
	struct hb_worker_priv *priv;
};

/* ------------------------------------------------------------------ life */

/*
 * Default of --concurrency: the CPU set of the process, capped by the cgroup (v1 or v2) CPU quota
 * rounded up; at least 1, at most HB_WORKERS_MAX.
 */
unsigned hb_worker_default_count(void);

/* Makes the control worker on the calling thread and `count` workers, none running yet. */
int  hb_workers_init(unsigned count, struct hb_err *reterr);
unsigned hb_workers_count(void);
struct hb_worker *hb_worker_at(unsigned index);
struct hb_worker *hb_worker_control(void);
/* Of the calling thread; NULL on a foreign thread. */
struct hb_worker *hb_worker_current(void);
/* Starts the threads. Rooms fill their slots (from the control thread) before this. */
int  hb_workers_start(struct hb_err *reterr);
/* The threads have been started and not joined. */
bool hb_workers_running(void);
/* Runs the control loop until hb_control_stop. */
void hb_control_run(void);
void hb_control_stop(void);
/*
 * Stops and joins the workers, then frees everything. What rooms still hold on a worker must be
 * closed before; handles that are left are reported and panic in debug builds.
 */
void hb_workers_fini(void);
/*
 * fn frees what a room holds on a worker: hb_workers_fini calls it for each worker when all threads
 * have stopped and nothing is left to run, then forgets it. At most 8.
 */
void hb_workers_at_end(void (*fn)(struct hb_worker *));
/* Tests: one turn of a loop on the calling thread, without waiting when `wait` is false. */
void hb_worker_turn(struct hb_worker *, bool wait);
/* Tests: the calling thread acts as this worker (workers made but not started). */
void hb_worker_enter(struct hb_worker *);

/* ------------------------------------------------------------------ tasks */

struct hb_task {
	struct hb_task *next; /* private */
	void (*fn)(struct hb_task *);
};

/* Any thread. Tasks of one poster run in order. The task's memory belongs to the worker until
 * fn is called; fn may free it. */
void hb_post(struct hb_worker *, struct hb_task *, void (*fn)(struct hb_task *));

/*
 * Control thread: runs fn(worker, arg) on every worker, then done(arg) on the control thread. When
 * the workers are not running both are called at once on the calling thread.
 */
void hb_post_all(void (*fn)(struct hb_worker *, void *arg), void (*done)(void *arg), void *arg);

/* Run queue: fn runs later in this turn (or the next one: at most 256 entries a turn, and always
 * the next one when fn itself asks again). Linked once; a second hb_run_soon while linked is a
 * no-op. hb_run_cancel unlinks. */
struct hb_run {
	struct hb_list node;
	void (*fn)(struct hb_run *);
};
void hb_run_init(struct hb_run *, void (*fn)(struct hb_run *));
void hb_run_soon(struct hb_worker *, struct hb_run *);
void hb_run_cancel(struct hb_run *);

/* Dead list: free_fn(dead) runs at the end of this turn, when no callback is on the stack. */
struct hb_dead {
	struct hb_dead *next; /* private */
	void (*free_fn)(struct hb_dead *);
};
void hb_dead_add(struct hb_worker *, struct hb_dead *, void (*free_fn)(struct hb_dead *));

/* ------------------------------------------------------------------ time and timers */

/* Monotonic, cached once a turn. */
HB_EXPORT uint64_t hb_now_ms(const struct hb_worker *);
/* Monotonic, fresh (one vDSO call). */
uint64_t hb_now_us(const struct hb_worker *);
/* Wall clock, microseconds since 1970, cached once a turn. */
int64_t hb_wall_us(const struct hb_worker *);

/*
 * Hierarchical wheel, one uv timer a worker. Precision: 1 ms below 256 ms, 16 ms below about 4 s,
 * then 1/16 of the delay; never early. start on a running timer moves it (cheap: the idle timer of
 * a busy connection is moved lazily). fn is called with the timer stopped.
 */
struct hb_timer {
	struct hb_list    node; /* private */
	struct hb_worker *worker;
	uint64_t          due_ms; /* when it fires; 0 = stopped (read-only) */
	void (*fn)(struct hb_timer *);
};
void hb_timer_init(struct hb_timer *, struct hb_worker *, void (*fn)(struct hb_timer *));
void hb_timer_start(struct hb_timer *, uint64_t delay_ms);
void hb_timer_stop(struct hb_timer *);
bool hb_timer_running(const struct hb_timer *);

/* Tests: this worker's clock stands still until advanced; due timers fire in hb_clock_advance. */
void hb_clock_fake(struct hb_worker *, uint64_t now_ms);
void hb_clock_advance(struct hb_worker *, uint64_t ms);

/* ------------------------------------------------------------------ scratch memory */

/*
 * Per-worker buffers of HB_SCRATCH_SIZE bytes, leased as a stack: release in reverse order, before
 * the event that leased it returns. Only what is written to them is ever resident. Larger batches
 * mean fewer system calls, wake-ups and switches between processes, smaller ones fit the caches:
 * measured for HBONE, 1 MiB needs 12 to 20 % less CPU time than 256 KiB, and 2 MiB no less.
 * It is READ_MAX of core/transport/fd.c as 66 TLS records, with what framing and encryption add. NULL when HB_SCRATCH_DEPTH leases are out (counted); the
 * caller then stops and tries again from the run queue.
 */
#define HB_SCRATCH_SIZE  (66u * (16384u + 256u))
#define HB_SCRATCH_DEPTH 16u
uint8_t *hb_scratch_lease(struct hb_worker *);
void     hb_scratch_release(struct hb_worker *, uint8_t *);
uint64_t hb_scratch_exhausted(const struct hb_worker *);

#endif

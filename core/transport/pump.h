/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/transport/pump.h: moves both directions between two transports until both have ended.
 *
 * The pump becomes the sink of both. Bytes go by slices; per direction by splice(2) through a
 * pooled pipe once it pays (a few full reads in a row) and both sides answer hb_transport_raw.
 * Half-close passes through; a reset of one side resets the other after what was received has
 * been written (RST after an end never discards). One side's watermark pauses the other's reading.
 * Bytes inside a pipe count as queued.
 */
#ifndef HB_CORE_TRANSPORT_PUMP_H
#define HB_CORE_TRANSPORT_PUMP_H

#include "core/base/pack.h"
#include "core/transport/transport.h"

enum hb_pump_side { HB_PUMP_A, HB_PUMP_B }; /* A = downstream, B = upstream by convention */

struct hb_pump;
struct hb_pump_ops {
	/* n bytes from `from` were handed to the other side (spliced ones when they reached it).
	 * NULL = not interested. */
	void (*on_progress)(struct hb_pump *, enum hb_pump_side from, size_t n);
	/* `from` ended its direction cleanly and the end was passed on. NULL = not interested. */
	void (*on_half_closed)(struct hb_pump *, enum hb_pump_side from);
	/*
	 * Once. Both transports are let go (NULL). `by` is the side that ended it; reason DONE when
	 * both ended cleanly. The pump may be freed from here on.
	 */
	void (*on_done)(struct hb_pump *, enum hb_pump_side by, enum hb_close_reason);
};

/*
 * When both sides have ended, a peer that takes nothing for idle_timeout (if that is 0:
 * HB_FLUSH_TIMEOUT_MS) ends the pump with FLUSH_TIMEOUT. A side that must be reset gets
 * HB_FLUSH_TIMEOUT_MS to take what was received before, a few times as long as it takes bytes.
 */
struct hb_pump_options {
	uint64_t idle_timeout_ms;  /* no byte in either direction; 0 = none              */
	uint64_t half_close_timeout_ms; /* after one side ended, silence of the other; 0 = none */
	size_t   buffer_high;      /* per direction; 0 = the transports' own             */
	bool     splice_off;
};

struct hb_pump_dir { /* private but for the counters */
	uint64_t bytes;
	uint64_t spliced; /* of those, by splice(2) */
	uint32_t full_reads;
	bool     ended, paused;
	bool     draining; /* reading waits for the queue to empty, then splice begins */
	bool     drained;  /* it did once, for nothing: never again                   */
	/* Private; in on_progress not NULL = these bytes went by splice(2). */
	void    *splice;
};

struct hb_pump_reset; /* private */

struct hb_pump { /* embedded in the filter's context; zeroed before start */
	unsigned magic;
#define HB_PUMP_MAGIC 0x5d0e7713
	bool                      splice_off, done;
	uint32_t                  idle_ms, half_ms; /* of the options                             */
	const struct hb_pump_ops *ops;
	struct hb_transport      *t[2];
	struct hb_pump_dir        dir[2]; /* [A] = from A to B */
	struct hb_timer           idle;
	struct hb_run             run;      /* tries splice(2)                                    */
	struct hb_pump_reset     *reset;    /* owned; one side was reset, the other will follow   */
};

/* Takes both transports (connected, reading disabled once each by their maker). */
void hb_pump_start(struct hb_pump *, struct hb_transport *a, struct hb_transport *b,
    const struct hb_pump_ops *, const struct hb_pump_options *);
/*
 * Ends both with this reason: an error resets them, else what is queued is flushed and ended;
 * on_done is not called. Idempotent. Also from inside on_progress and on_half_closed; the memory
 * must then live until that returns.
 */
void hb_pump_abort(struct hb_pump *, enum hb_close_reason);
/*
 * For connections that rest. A pump is idle while both directions are open, quiet
 * (core/transport/park.h) and copied; *ret_due_ms = when its idle timeout ends it, 0 = never. NULL:
 * it is; else why not. One that is only spliced goes back to copying, and may be idle in the next
 * turn.
 */
const char *hb_pump_busy(struct hb_pump *, uint64_t *ret_due_ms);
/* An idle one, which is zeroed; its transports are the caller's. B delivers hb_pack.ref[1]. */
void hb_pump_pack(struct hb_pump *, struct hb_pack *);
/* The same again, between these two. Its timer fires when it would have. */
void hb_pump_unpack(struct hb_pump *, struct hb_unpack *, struct hb_transport *a,
    struct hb_transport *b, const struct hb_pump_ops *);
/* Per process: at most this many pipes, in use or pooled (default: a quarter of RLIMIT_NOFILE / 2);
 * 0 = off. Before workers start. */
void hb_pump_pipes_max(unsigned);
/* Pipes in use and pooled on this worker. */
unsigned hb_pump_pipes(const struct hb_worker *);
/* Bytes that this worker moved by splice(2) since its start. Any thread. */
uint64_t hb_pump_spliced(const struct hb_worker *);

#endif

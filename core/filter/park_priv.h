/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/filter/park_priv.h: connections that rest, and what this room keeps on a worker.
 *
 * A connection that passes bytes on to one other transport, and has had no event for a while, rests:
 * all that is known of it is packed into one small record, its memory is freed, and its next event,
 * or whoever asks for it, makes it again. Nobody can tell the difference: what it shows, logs,
 * counts and when its timeouts come. A side that is a plain TCP socket is packed with it and leaves
 * its place among the watched descriptors; any other transport stays, and has the record as sink.
 *
 *   park.c       which connections may rest; packing, making again
 *   park_when.c  when they do; timeouts of those that rest; going through all of them
 */
#ifndef HB_CORE_FILTER_PARK_PRIV_H
#define HB_CORE_FILTER_PARK_PRIV_H

#include "core/event/io.h"
#include "core/filter/filter_priv.h"
#include "core/filter/park.h"

/* Due times of those that rest, in steps of 16 s; a list for each of the next steps. */
#define HB_PARK_STEP_MS_LOG2 14u
#define HB_PARK_STEPS        64u
/* What is due within two steps does not rest, so every timer fires when it would have. */
#define HB_PARK_DUE_MIN_MS   (2u << HB_PARK_STEP_MS_LOG2)
#define HB_PARK_AGE_MIN_MS   5u     /* a connection without events for so long rests  */
#define HB_PARK_AGE_MAX_MS   10000u /* … where those that rest are soon woken         */
#define HB_PARK_EARLY_MS     1000u  /* soon                                            */

struct hb_park {
	struct hb_list awake;   /* connections that may have to rest soon             */
	size_t   n_awake;
	uint32_t age_ms;        /* see HB_PARK_AGE_MIN_MS                             */
	uint64_t doubled_ms;    /* when it was doubled                                */
	uint32_t interval_ms;   /* until the next sweep; more than age_ms when sweeps find nothing */
	struct hb_timer sweep;
	struct hb_run   more;   /* the sweep goes on                                  */
	size_t   left;          /* connections that it has not looked at              */
	size_t   looked, rested, hot; /* in this sweep; hot: had events              */
	struct hb_timer due;
	uint64_t done_step;     /* steps up to this one are over                      */
	struct hb_list step[HB_PARK_STEPS], never; /* struct hb_parked, by their due time */
	struct hb_list walk;    /* … that the walk of conn_walk.c has not seen        */
	int64_t  wall_us;       /* a connection's start_us less its start_ms, about   */
	/* Shown. */
	uint64_t parked, parks, wakes;
};

struct hb_conn_worker {
	unsigned magic;
#define HB_CONN_WORKER_MAGIC 0x2a6fd1c3
	struct hb_worker *worker;
	struct hb_list conns;   /* awake ones                                         */
	struct hb_list owners;  /* hb_conn_owned                                      */
	uint64_t count, seq;    /* count: those that rest included                    */
	struct hb_list *cursor; /* next one to decide again; NULL = no walk           */
	bool revalidates;       /* the walk asks the connection's own filters, too    */
	struct hb_run walk;
	struct hb_park park;
};

/* A connection that rests. */
struct hb_parked {
	struct hb_list node;    /* of hb_park                                         */
	unsigned magic;
#define HB_PARKED_MAGIC 0x7c02e9d5
	uint32_t step;          /* when something is due; 0 = never                   */
	uint32_t since_ms;      /* low bits of the worker's clock                     */
	uint16_t size;          /* of the packed bytes, behind io                     */
	uint8_t  n_io;
	uint8_t  packed;        /* HB_PARKED_…                                        */
	struct hb_io io[];      /* of packed sockets, downstream first                */
};
#define HB_PARKED_DOWN 1u /* the downstream is packed, too    */
#define HB_PARKED_UP   2u
#define HB_PARKED_KEEP 4u /* what is kept of the upstream, too */

/* ------------------------------------------------------------------ conn_walk.c */

/* Made on first use. */
struct hb_conn_worker *hb_conn__state(struct hb_worker *);
uint64_t hb_conn__id(const struct hb_worker *, uint64_t seq);
/* Into and out of the list of those that are awake. */
void hb_conn__list(struct hb_conn_worker *, struct hb_conn *);
void hb_conn__unlist(struct hb_conn_worker *, struct hb_conn *);

/* ------------------------------------------------------------------ park.c */

/* NULL: it may rest now; else why not. */
const char *hb_park__why_not(const struct hb_conn *);
/* Of a connection that may: its memory is gone. */
void hb_park__rest(struct hb_conn_worker *, struct hb_conn *);
/* The connection again, awake. */
struct hb_conn *hb_park__wake(struct hb_conn_worker *, struct hb_parked *);
uint64_t hb_park__seq(const struct hb_parked *);

/* ------------------------------------------------------------------ park_when.c */

void hb_park__init(struct hb_conn_worker *);
void hb_park__fini(struct hb_conn_worker *);
/* A connection that had an event and may have to rest soon; it is closing or rests: no longer. */
void hb_park__watch(struct hb_conn *);
void hb_park__unwatch(struct hb_conn *);
/* A record into the list of its step, and out of it. */
void hb_park__put(struct hb_conn_worker *, struct hb_parked *);
void hb_park__take(struct hb_conn_worker *, struct hb_parked *);
/* An event, or who asks for one, wakes it. */
struct hb_conn *hb_park__event(struct hb_conn_worker *, struct hb_parked *);
/*
 * Makes each again, calls fn with it, and lets it rest again if it may; until fn answers false. fn may
 * end the connection.
 */
void hb_park__visit_all(struct hb_conn_worker *, bool (*fn)(void *arg, struct hb_conn *),
    void *arg);
/* All go to the list of the walk; then one by one: the first of them, awake, NULL = there is none;
 * then it may rest again. */
void hb_park__walk_start(struct hb_conn_worker *);
struct hb_conn *hb_park__walk_next(struct hb_conn_worker *);
void hb_park__walk_done(struct hb_conn_worker *, struct hb_conn *);

#endif

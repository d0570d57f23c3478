/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/transport/fd_priv.h: the engine of transports over descriptors; tcp.c and stdio.c are built
 * on it.
 *
 * Reading: edge-triggered into a leased scratch buffer, delivered as borrowed bytes, at most
 * HB_FD_READS_A_TURN reads before others get their turn. Writing: the kernel first, only the tail
 * is owned (`queue`). An idle transport owns no buffer.
 *
 * A failed write drops the queue and then waits for what was received: bytes first, on_closed after
 * them. A hang-up while reading is paused is probed without taking bytes: if none wait, the sink
 * learns at once, else after it has read them.
 */
#ifndef HB_CORE_TRANSPORT_FD_PRIV_H
#define HB_CORE_TRANSPORT_FD_PRIV_H

#include "core/event/io.h"
#include "core/transport/tcp_priv.h"

#define HB_FD_READS_A_TURN  4u
/* Rounds of flush_timeout that a lingerer gets as long as the peer takes bytes in each. */
#define HB_FD_LINGER_ROUNDS 8u

struct hb_fdt;

/* How a kind of descriptor does it: base.ops of its transports points to `t`. Functions that move bytes
 * return -1 and errno on failure. */
struct hb_fdt_ops {
	struct hb_transport_ops t;
	/* Closing with unread bytes is a reset: finish waits for the peer's end. */
	bool linger_reads;
	/* A stream socket: a read of less than was asked for has emptied it, and closing sends the end. */
	bool socket;
	/* What is watched for writing; NULL = `in`. */
	struct hb_io *(*out)(struct hb_fdt *);
	ssize_t (*read)(struct hb_fdt *, void *p, size_t n);
	ssize_t (*write)(struct hb_fdt *, const struct iovec *iov, int n);
	/* > 0 bytes wait, 0 = the end waits, -1 EAGAIN or the error. Takes nothing. */
	int (*peek)(struct hb_fdt *);
	/* The pending error of a descriptor that hung up; 0 = none. */
	int (*hangup_error)(struct hb_fdt *);
	/* Result of a connect: 0, or an errno value; EINPROGRESS = not yet. NULL = never connecting. */
	int (*connect_result)(struct hb_fdt *);
	void (*half_close)(struct hb_fdt *);
	/* Closes the descriptors, watching ends with it. */
	void (*close)(struct hb_fdt *, bool reset);
	/* Bytes that the kernel holds and the peer has not taken. */
	size_t (*unacked)(struct hb_fdt *);
	enum hb_close_reason (*reason)(const struct hb_fdt *, int err);
	void (*free_fn)(struct hb_fdt *); /* the memory; NULL = hb_free */
};

struct hb_fdt_linger { /* made by finish */
	struct hb_timer timer;
	struct hb_list  node; /* of the worker's      */
	struct hb_fdt  *fdt; /* borrowed: its owner */
	size_t          outstanding;
	unsigned        rounds;
};

struct hb_fdt_raw { /* see tcp_priv.h; fn NULL = not raw */
	hb_tcp_raw_f *fn;
	void         *arg;
};

struct hb_fdt {
	struct hb_transport      base;
	struct hb_io             in;     /* of a socket: both directions          */
	struct hb_buf           *queue;  /* owned; what the kernel did not take yet, NULL = nothing */
	union {
		struct hb_fdt_raw    *raw;    /* owned; [2] by enum hb_dir, or NULL */
		struct hb_fdt_linger *linger; /* owned; once `lingers`              */
	};
	uint32_t                 flush_timeout_ms;
	uint32_t                 read_max;     /* of one read; 0 = scratch memory */
	uint16_t                 error;        /* first errno; 0 = none           */
	uint16_t                 write_failed; /* errno of the failed write       */
	bool connecting : 1;
	bool readable : 1, writable : 1; /* not seen EAGAIN since                  */
	bool hup : 1;            /* the kernel reported a hang-up or an error     */
	bool ending : 1;         /* the peer's end waits behind what is to be read */
	bool eof : 1;            /* read gave 0                                   */
	bool write_shut : 1;     /* half_close was done                           */
	bool end_sent : 1;       /* tcp.c: by shutdown()                          */
	bool plain : 1, v6 : 1, defers : 1; /* tcp.c: see tcp_spare_priv.h        */
	bool released : 1;
	bool lingers : 1;        /* finish was called                             */
};

static inline const struct hb_fdt_ops *
hb_fdt__ops(const struct hb_fdt *f)
{
	return ((const struct hb_fdt_ops *)(const void *)f->base.ops);
}

static inline size_t
hb_fdt__queued(const struct hb_fdt *f)
{
	return (f->queue == NULL ? 0 : f->queue->len);
}

/* tcp.c: a socket that is not watched yet. */
void hb_tcp__free(struct hb_fdt *);
struct hb_fdt *hb_tcp__new(struct hb_worker *, int fd, const struct hb_tcp_options *);

/* Slots of struct hb_transport_ops. */
void   hb_fdt__write(struct hb_transport *, struct hb_buf *, bool end);
void   hb_fdt__read_enable(struct hb_transport *, bool on);
void   hb_fdt__finish(struct hb_transport *, enum hb_close_reason);
void   hb_fdt__abort(struct hb_transport *, enum hb_close_reason);
size_t hb_fdt__pending(const struct hb_transport *);
void   hb_fdt__closed(struct hb_transport *);
void   hb_fdt__run(struct hb_transport *);

/* Callback of hb_io for `in` (socket: both directions). */
void hb_fdt__on_io(struct hb_io *, unsigned events);
/* Readiness, whatever it came from. */
void hb_fdt__events(struct hb_fdt *, unsigned events);
void hb_fdt__again(struct hb_fdt *, enum hb_dir);
/* The write direction is over: nothing more is sent; on_closed follows what was received. */
void hb_fdt__write_failed(struct hb_fdt *, int err);
/* The transport is over. */
void hb_fdt__fail(struct hb_fdt *, int err);
/* Closes and buries; for dead transports. */
void hb_fdt__release(struct hb_fdt *, bool reset);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/event/io.h: readiness of descriptors.
 *
 * Edge-triggered semantics, but for hb_io_start_level: after the callback said READ, read until EAGAIN and then
 * call hb_io_again(io, HB_IO_READ); until then no further READ event comes. Whoever stops before
 * EAGAIN (budget, back-pressure) remembers that the descriptor is still ready.
 *
 * Two implementations behind this header, chosen per process by hb_io_backend before workers are
 * made: `epoll` (an edge-triggered epoll set of our own, in which the uv loop's set is nested: one
 * epoll_ctl a descriptor, one system call a wake-up, hb_io_again is a no-op) and `uv` (one uv_poll_t a
 * descriptor, portable, re-armed by hb_io_again).
 */
#ifndef HB_CORE_EVENT_IO_H
#define HB_CORE_EVENT_IO_H

#include "core/event/worker.h"

#define HB_IO_READ  1u
#define HB_IO_WRITE 2u
#define HB_IO_HUP   4u /* both directions are over, or an error: read to learn which */
/* The peer's end waits behind what there is to read. Not every backend tells; one that does not says READ
 * anew after hb_io_again while an end waits. So who reads a socket and gets less than asked for may call
 * hb_io_again without having seen EAGAIN, unless END or HUP was reported. */
#define HB_IO_END   8u

enum hb_io_backend { HB_IO_EPOLL, HB_IO_UV };
/* Before hb_workers_init. Default: HB_IO_EPOLL on Linux, else HB_IO_UV. */
void hb_io_backend(enum hb_io_backend);

struct hb_io { /* there are many: packed */
	int      fd;    /* not owned: closing it is the caller's, after hb_io_stop */
	uint32_t owner; /* private: names the worker; 0 = not watched */
	void (*fn)(struct hb_io *, unsigned events);
	void    *priv;
};

/*
 * A descriptor that has hung up and comes to life again (a socket that is dissolved and connected anew)
 * goes on telling, as long as it stays watched. Not every backend can; a wake-up of its former life may
 * still come.
 */
bool hb_io_outlives_hangup(void);

static inline bool
hb_io_watched(const struct hb_io *io)
{
	return (io->owner != 0);
}

/*
 * Watches reading and writing. fn is never called from inside start. -EPERM: a regular file, which
 * is always ready and cannot be watched.
 */
int  hb_io_start(struct hb_io *, struct hb_worker *, int fd,
    void (*fn)(struct hb_io *, unsigned events), struct hb_err *reterr);
/*
 * The same for a listening socket: READ alone, in every turn as long as there is something to take.
 * Nobody has to see EAGAIN, which costs more than a connection's share of a turn; hb_io_again does nothing.
 */
int  hb_io_start_level(struct hb_io *, struct hb_worker *, int fd,
    void (*fn)(struct hb_io *, unsigned events), struct hb_err *reterr);
void hb_io_again(struct hb_io *, unsigned events);
/*
 * The watched descriptor is `to`'s from now on, which was not watched; `from` is as after
 * hb_io_stop. No event is lost or repeated. May be called from inside fn, last.
 */
void hb_io_move(struct hb_io *from, struct hb_io *to, void (*fn)(struct hb_io *, unsigned events));
/* No event after it, also none that the kernel has already reported. Idempotent. */
void hb_io_stop(struct hb_io *);
/*
 * hb_io_stop, then close(fd), for one system call less: only when no duplicate of the descriptor
 * lives on elsewhere. Also after hb_io_stop or a failed start; idempotent (fd becomes -1).
 */
void hb_io_close(struct hb_io *);

#endif

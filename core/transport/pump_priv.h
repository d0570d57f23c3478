/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/transport/pump_priv.h: between pump.c and pump_splice.c.
 *
 * One direction of a pump is either copied (by pump.c, through on_data) or spliced (by
 * pump_splice.c, through raw access to both sockets): dir[from].splice tells. A pipe is held only
 * while bytes are in it.
 */
#ifndef HB_CORE_TRANSPORT_PUMP_PRIV_H
#define HB_CORE_TRANSPORT_PUMP_PRIV_H

#include "core/transport/pump.h"

/* A read of so many bytes counts as full; after so many in a row splice is tried. */
#define HB_PUMP_FULL_READ    (32u * 1024u)
#define HB_PUMP_SPLICE_AFTER 4u

/* splice(2); tests put a failing one here. */
extern ssize_t (*hb_pump_splice_call)(int fd_in, loff_t *, int fd_out, loff_t *, size_t, unsigned);

static inline enum hb_pump_side
hb_pump_other(enum hb_pump_side side)
{
	return (side == HB_PUMP_A ? HB_PUMP_B : HB_PUMP_A);
}

/* ------------------------------------------------------------------ pump_splice.c */

/*
 * Goes over to splice when both sides allow it now and a pipe can be had. From the run queue only.
 * May end the pump.
 */
void hb_pump__splice_try(struct hb_pump *, enum hb_pump_side from);
/* Bytes in the pipe of this direction. */
size_t hb_pump__splice_held(const struct hb_pump *, enum hb_pump_side from);
/* Back to copying, or to nothing: bytes in the pipe are dropped. Idempotent. */
void hb_pump__splice_end(struct hb_pump *, enum hb_pump_side from);
/* Back to copying if nothing passes now: what copies may rest. */
void hb_pump__splice_rest(struct hb_pump *, enum hb_pump_side from);
/* `from` has closed: what the pipe holds still goes out. */
void hb_pump__splice_source_gone(struct hb_pump *, enum hb_pump_side from);

/* ------------------------------------------------------------------ pump.c */

/* n bytes reached the other side; returns false when the pump has ended meanwhile. */
bool hb_pump__progress(struct hb_pump *, enum hb_pump_side from, size_t n);
/* The pipe of this direction is empty and its source is gone. May end the pump. */
void hb_pump__drained(struct hb_pump *);
/* A byte moved: the idle timer starts anew. */
void hb_pump__touch(struct hb_pump *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/transport/park.h: transports whose connection rests. For core/filter, and for filters that
 * own a pump.
 *
 * A quiet transport has nothing to tell and nothing to send. One of two things is done with it: its
 * sink is replaced by one that waits for its next event (hb_transport_resink), or, if it is a TCP
 * socket, all but its place among the watched descriptors is packed (hb_tcp_pack) and it is made
 * again later. None of this is called from inside an event or a call of the transport, but for
 * resink, which the new sink of an event may call while that is delivered.
 */
#ifndef HB_CORE_TRANSPORT_PARK_H
#define HB_CORE_TRANSPORT_PARK_H

#include "core/base/pack.h"
#include "core/event/io.h"
#include "core/transport/transport.h"

/* Open and read in both directions, nothing is queued, due or on the stack. */
bool hb_transport_quiet(const struct hb_transport *);
/* The next event goes to this sink; without the rest of hb_transport_attach. */
void hb_transport_resink(struct hb_transport *, const struct hb_transport_events *, void *sink);
/*
 * The base of a quiet transport, without sink and watch; `in` is the way (hb_pack.ref) of what it
 * has delivered. Unpack follows hb_transport_init and leaves it quiet.
 */
void hb_transport_pack(const struct hb_transport *, struct hb_pack *, unsigned in);
void hb_transport_unpack(struct hb_transport *, struct hb_unpack *, unsigned in);

/* A TCP socket, quiet, of which every byte that came was read. */
bool hb_tcp_packable(const struct hb_transport *);
/*
 * Nulls *t, which is gone but for its descriptor: that is watched by `io` from now on. No watch may
 * be there any more.
 */
void hb_tcp_pack(struct hb_transport **t, struct hb_pack *, unsigned in, struct hb_io *io,
    void (*fn)(struct hb_io *, unsigned events));
/* The same transport, quiet, without sink, for hb_transport_resink; `io` is stopped. */
struct hb_transport *hb_tcp_unpack(struct hb_worker *, struct hb_unpack *, unsigned in,
    struct hb_io *io);
/* Events that came to `io` before that; when the sink is there, last. HB_IO_WRITE alone is none. */
void hb_tcp_woken(struct hb_transport *, unsigned events);

#endif

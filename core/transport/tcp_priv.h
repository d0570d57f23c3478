/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/transport/tcp_priv.h: raw access to a socket's descriptor, one direction at a time, for the
 * pump's splice(2).
 *
 * While a direction is raw the transport leaves it alone: it neither reads nor writes there, and the
 * readiness of the descriptor goes to `fn` (from the event loop only). The borrower uses
 * hb_tcp_fd(t) until EAGAIN, then calls hb_tcp_raw_again. When it sees an end, or an error, it gives
 * the direction back with hb_tcp_raw_end: the transport finds the end by its own read and reports it
 * as usual, and turns the error into on_closed after received bytes were delivered.
 *
 * Ownership is unchanged: on_closed, finish and abort end raw use without a call.
 */
#ifndef HB_CORE_TRANSPORT_TCP_PRIV_H
#define HB_CORE_TRANSPORT_TCP_PRIV_H

#include "core/transport/tcp.h"

/* events: HB_IO_READ, _WRITE, _HUP of core/event/io.h. May end raw use, finish or abort. */
typedef void hb_tcp_raw_f(void *arg, struct hb_transport *, enum hb_dir, unsigned events);

/*
 * Only when hb_transport_raw(t, dir) == t. The descriptor may be ready already: try first, then
 * wait for fn. write and end of a raw write direction are for after hb_tcp_raw_end.
 */
void hb_tcp_raw_begin(struct hb_transport *, enum hb_dir, hb_tcp_raw_f *fn, void *arg);
/* EAGAIN was seen in this direction. */
void hb_tcp_raw_again(struct hb_transport *, enum hb_dir);
/* n bytes went by: counted in bytes_in or bytes_out. */
void hb_tcp_raw_count(struct hb_transport *, enum hb_dir, size_t n);
/* Gives the direction back; err = errno of a failed call on the descriptor, 0 = none. Idempotent. */
void hb_tcp_raw_end(struct hb_transport *, enum hb_dir, int err);
bool hb_tcp_is_raw(const struct hb_transport *, enum hb_dir);
/*
 * Bytes written to `t` that the kernel holds and the peer has not acknowledged, where `t` is a
 * socket, or TLS or a chain on one; 0 for everything else. A reset would drop them.
 */
size_t hb_tcp_unacked(struct hb_transport *t);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/transport/tcp_spare_priv.h: sockets whose connection is over, to be connected again.
 *
 * Making a socket, watching it and closing it is an eighth of what a proxied connection costs. A socket
 * that has come to its end in order (both ends were sent, received and acknowledged, so that the kernel
 * holds nothing of the connection but the socket itself) is dissolved (connect(2) with AF_UNSPEC) and
 * connected anew instead, and stays watched all the time. A worker keeps HB_TCP_SPARES_MAX at most.
 *
 * Only sockets that differ in nothing from new ones: hb_tcp_connect made them, without a source, mark or
 * option of the configuration, and they have carried little, so that no buffer has grown. TCP_NODELAY,
 * which all of them have, stays, and so does TCP_DEFER_ACCEPT of those that speak first, which are for
 * such again. Where the kernel cannot do one of these steps there is a new socket.
 */
#ifndef HB_CORE_TRANSPORT_TCP_SPARE_PRIV_H
#define HB_CORE_TRANSPORT_TCP_SPARE_PRIV_H

#include "core/transport/fd_priv.h"

#define HB_TCP_SPARES_MAX 16u

struct hb_transport_state;

/* The socket of this connection may be a spare one, and may become one. */
bool hb_tcp_spare__plain(const struct hb_tcp_connect *);
/* In the place of closing: true when it will be a spare one, and stays watched until __put. */
bool hb_tcp_spare__keep(struct hb_fdt *);
/* At the end of that turn, so that no event of the old connection can meet the new one. */
void hb_tcp_spare__put(struct hb_fdt *);
/* *ret is watched, its descriptor the caller's, not connected to anything. False: there is none. */
bool hb_tcp_spare__take(struct hb_worker *, const struct hb_tcp_connect *, struct hb_io *ret);
/* Closes all of them. */
void hb_tcp_spare__fini(struct hb_transport_state *);

#endif

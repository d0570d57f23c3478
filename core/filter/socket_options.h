/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/filter/socket_options.h: from messages to options of sockets, for listeners and clusters.
 * Control thread.
 */
#ifndef HB_CORE_FILTER_SOCKET_OPTIONS_H
#define HB_CORE_FILTER_SOCKET_OPTIONS_H

#include "core/config/config.h"
#include "core/transport/tcp.h"

/* An envoy.config.core.v3.SocketOption; its state is the caller's to look at. What *ret points to is
 * its own. 0, or -EINVAL after reporting every error. */
int hb_socket_option_compile(struct hb_cfg *, const void *msg, struct hb_tcp_sockopt *ret);
void hb_socket_option_fini(struct hb_tcp_sockopt *);

/* An envoy.config.core.v3.TcpKeepalive; NULL changes nothing. */
void hb_keepalive_compile(struct hb_cfg *, const void *msg, struct hb_tcp_options *ret);

/*
 * Congestion control by name into ret->congestion: a name of the kernel's, or "auto" (see
 * struct hb_tcp_options); "" changes nothing. 0, or -EINVAL after reporting at `field` of msg.
 */
int hb_congestion_compile(struct hb_cfg *, const void *msg, const char *field, const char *name,
    struct hb_tcp_options *ret);

#endif

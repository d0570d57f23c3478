/* SPDX-License-Identifier: Apache-2.0 */
#include "core/filter/transport_socket.h"

extern const struct hb_transport_socket_type hb_tsocket_raw_buffer, hb_tsocket_tls,
	hb_tsocket_proxy_protocol;

/* The transport sockets of this program, registered at start. */
extern const struct hb_transport_socket_type *const hb_transport_socket_table[];
const struct hb_transport_socket_type *const hb_transport_socket_table[] = {
	&hb_tsocket_raw_buffer,
	&hb_tsocket_tls,
	&hb_tsocket_proxy_protocol,
	NULL,
};

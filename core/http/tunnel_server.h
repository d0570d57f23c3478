/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/http/tunnel_server.h: the server's side of tunnels over HTTP/2: which requests are tunnels,
 * and what is answered to those that are not, or that fail.
 *
 * A tunnel is a CONNECT request (RFC 9113 8.5) or, where configured, a POST. The stream of one that
 * is in order is handed on, not answered yet; hb_transport_accept answers 200, hb_transport_reject
 * the status of hb_h2_status. Other requests are answered here. docs/hbone.md has the table.
 */
#ifndef HB_CORE_HTTP_TUNNEL_SERVER_H
#define HB_CORE_HTTP_TUNNEL_SERVER_H

#include "core/http/h2.h"
#include "core/mesh/authority.h"

struct hb_tunnel_options { /* frozen, outlives the server */
	struct hb_h2_options h2;
	/* POST requests whose path starts so are tunnels, too; NULL = none. */
	const char *post_path;
	/* Lower-case name of the header with their target; NULL = the authority. */
	const char *post_target;
};

struct hb_tunnel_request { /* borrowed for the call */
	struct hb_str authority;        /* as it was sent                                      */
	/* Istio: always good. Envoy: port 0 when the authority is not of this form. */
	struct hb_authority target;
	bool post;
	const struct hb_h2_request *http;
};

struct hb_tunnel_server;

struct hb_tunnel_events {
	/* The callee owns the stream. */
	void (*on_tunnel)(void *sink, struct hb_tunnel_server *, const struct hb_tunnel_request *,
	    struct hb_transport *stream);
	/* As hb_h2_events. NULL = not interested. */
	void (*on_accept)(void *sink, struct hb_tunnel_server *, struct hb_transport *stream);
	/* No tunnel: answered with this status. NULL = not interested. */
	void (*on_refused)(void *sink, struct hb_tunnel_server *, const struct hb_h2_request *,
	    unsigned status, const char *why);
	void (*on_count)(void *sink, enum hb_h2_count); /* as hb_h2_events */
	/* Once; every stream has been told, the session is gone. */
	void (*on_closed)(void *sink, struct hb_tunnel_server *, enum hb_close_reason);
};

struct hb_tunnel_server { /* the caller's memory, zeroed; private */
	unsigned magic;
#define HB_TUNNEL_SERVER_MAGIC 0x3b90e2d7
	struct hb_h2 *h2; /* owned; NULL once closed */
	const struct hb_tunnel_options *opt;
	const struct hb_tunnel_events *ev;
	void *sink;
};

/* Takes `lower`, as hb_h2_new. */
void hb_tunnel_server_start(struct hb_tunnel_server *, struct hb_transport *lower,
    const struct hb_tunnel_options *, const struct hb_tunnel_events *, void *sink);
/* See hb_h2_drain. */
void hb_tunnel_server_drain(struct hb_tunnel_server *);
/* Takes leave of the peer: hb_h2_close; no event comes any more. Accepts one that is closed. */
void hb_tunnel_server_close(struct hb_tunnel_server *, enum hb_close_reason);
/* Resets all; no event comes any more. Accepts one that is closed. */
void hb_tunnel_server_abort(struct hb_tunnel_server *, enum hb_close_reason);

#endif

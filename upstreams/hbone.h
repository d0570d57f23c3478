/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/hbone.h: tunnels by configuration: our transport socket Hbone, and Envoy's
 * HttpProtocolOptions. What requests are made of; upstreams/pool.h opens the streams.
 */
#ifndef HB_UPSTREAMS_HBONE_H
#define HB_UPSTREAMS_HBONE_H

#include "core/filter/dial.h"
#include "core/filter/header_adds.h"
#include "core/filter/transport_socket.h"
#include "core/http/h2.h"
#include "upstreams/cluster.h"
#include "upstreams/link.h"
#include "upstreams/race.h"

#define HB_HBONE_PORT        15008u
#define HB_HBONE_DEPTH_MAX   4u /* tunnels inside each other */

/* How streams share connections. Frozen. */
struct hb_tunnels_conf {
	struct hb_h2_options h2;
	uint32_t streams_max;  /* of a connection at once                       */
	uint64_t requests_max; /* of a connection in its life; 0 = no limit     */
	uint32_t conns_max;    /* to one peer, of one worker                    */
	uint32_t idle_max;     /* connections without streams, of one worker    */
	uint32_t retries_max;  /* times that a request is sent again            */
	/* When all connections to a peer are hot, another one is made before they are full. */
	uint32_t hot_streams;  /* 0 = no                                        */
	uint64_t hot_rate;     /* bytes a second; 0 = no                        */
	uint64_t surplus_ms;   /* life without streams of one that is not the only one to its
	                        * peer; 0 = h2.idle_timeout_ms alone            */
	uint64_t handshake_ms; /* see struct hb_link_request                    */
	uint64_t answer_ms;
};
void hb_tunnels_defaults(struct hb_tunnels_conf *);

extern const struct hb_transport_socket_type hb_tsocket_hbone;
struct hb_hbone_conf;
/* The conf of a transport socket; NULL = it is another one. */
const struct hb_hbone_conf *hb_hbone_of(const struct hb_transport_socket *);
const struct hb_tunnels_conf *hb_hbone_tunnels(const struct hb_hbone_conf *);
/* The inverse, of what that has answered. */
const struct hb_hbone_conf *hb_hbone_with(const struct hb_tunnels_conf *);
const struct hb_transport_socket *hb_hbone_socket(const struct hb_hbone_conf *);
const struct hb_hbone_conf *hb_hbone_through(const struct hb_hbone_conf *);
/* The peer's addresses: those of the endpoint, with the port of the tunnel. Fresh memory. */
uint16_t hb_hbone_port(const struct hb_hbone_conf *); /* 0 = the endpoint's */
struct hb_ep_addrs *hb_hbone_addrs(const struct hb_hbone_conf *, const struct hb_ep_addrs *);

/* What a request is made of. */
struct hb_hbone_subject {
	const struct hb_facts *facts; /* of the downstream; NULL = none */
	const struct hb_cluster *cluster;
	const char *host;             /* of the endpoint                */
	const struct hb_addr *addr;   /* of the endpoint                */
	struct hb_str inner;          /* authority of the tunnel that this one carries; "" = none */
};
/* A request; what is in `tunnel` is its own or the configuration's. Zeroed by the caller. */
struct hb_hbone_request {
	struct hb_tunnel tunnel;
	struct hb_arena arena;
};
/* False: the authority is not fit for a request, *why is for people. */
bool hb_hbone_request_make(const struct hb_hbone_conf *, const struct hb_hbone_subject *,
    struct hb_hbone_request *, struct hb_text *why);
/* Only its authority; false when that is not fit. */
bool hb_hbone_request_authority(const struct hb_hbone_conf *, const struct hb_hbone_subject *,
    struct hb_hbone_request *);
void hb_hbone_request_fini(struct hb_hbone_request *);
/* The same for requests of others. */
bool hb_tunnel_check(const struct hb_tunnel *, struct hb_text *why);

/* HttpProtocolOptions of a cluster to c->http2. 0 or -EINVAL after reporting. */
int hb_compile_http2(struct hb_cfg *, const void *cluster_msg, struct hb_cluster *);

/* ------------------------------------------------------------------ outer tunnels */

struct hb_outer;
/* The stream of rq->through, for the link; what rq points to outlives it. `done` once, from the
 * event loop. */
struct hb_outer *hb_outer_open(const struct hb_link_request *rq,
    void (*done)(void *arg, struct hb_transport *, const struct hb_race_result *), void *arg);
void hb_outer_cancel(struct hb_outer **);

#endif

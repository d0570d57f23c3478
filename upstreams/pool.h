/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/pool.h: tunnels to endpoints: streams of HTTP/2 connections, which they share where
 * everything that decides about identity is equal. One pool a cluster and worker, so the cluster's
 * configuration (its name, source address, TLS settings, allowed peers) is part of the key by
 * construction; the key names the rest: addresses, endpoint, transport socket, and what that takes
 * from the downstream. A connection whose certificates were replaced takes no new streams, and goes
 * with its last one; one whose peer is no longer trusted ends at once (upstreams/conn.h).
 *
 *   hb_pool_open ──► waiting ──► stream open ──► answered ──► done(stream)
 *                       ▲            │ refused, or its connection ended, before the answer
 *                       └────────────┘ (at most retries_max times: nothing was sent)
 *
 * Streams are spread: each goes to the connection with the fewest, those that are not hot first;
 * another one is made when all have streams_max (or what the peer takes), and beside them when all
 * are hot. Surplus ones are closed when they have no streams for a while. All on one worker.
 */
#ifndef HB_UPSTREAMS_POOL_H
#define HB_UPSTREAMS_POOL_H

#include "core/filter/dial.h"
#include "core/http/h2.h"
#include "upstreams/cluster.h"
#include "upstreams/race.h"

#define HB_POOL_STREAMS 100u /* of a connection; also what is assumed before SETTINGS */

struct hb_pool_result {
	struct hb_transport *t;      /* the stream, answered; reading disabled; NULL = failed   */
	enum hb_close_reason reason; /* NONE when it succeeded                                 */
	struct hb_addr addr, local;
	bool timeout;
	bool secure;                 /* a TLS handshake with the peer failed                    */
	struct hb_str peer;          /* name in the peer's certificate; lives as long as t       */
	struct hb_str host;          /* the same                                                */
	const char *text;            /* of the failure, for people                              */
};

struct hb_pool_request { /* all of it outlives the request, but for what is said to be copied */
	struct hb_cluster_w *w;             /* pinned                                          */
	struct hb_ep_cell *cell;            /* referenced; the stream takes a reference of its own */
	const struct hb_tunnels_conf *conf;
	const struct hb_tunnel *tunnel;
	const struct hb_ep_addrs *addrs;    /* copied                                          */
	uint16_t port;                      /* shared: of addrs instead of their own; 0 = keeps */
	const struct hb_ep_conf *ep;        /* NULL = not a configured endpoint; of the cluster */
	const struct hb_transport_socket *socket; /* NULL = bytes in the clear                 */
	const struct hb_hbone_conf *through; /* outer tunnel; NULL = none                      */
	const struct hb_facts *facts;       /* may be NULL                                     */
	const char *host;                   /* copied                                          */
	bool shared;                        /* false: a connection for this stream alone        */
	/* As hb_dial_request. */
	void (*on_response)(void *arg, unsigned status, const struct hb_header *, size_t n);
	/* Once, from the event loop; the request is gone when it returns. */
	void (*done)(void *arg, const struct hb_pool_result *);
	void *arg;
};

struct hb_pool_rq;
struct hb_pool_rq *hb_pool_open(const struct hb_pool_request *);
/* done will not be called. Nulls *rq. */
void hb_pool_cancel(struct hb_pool_rq **rq);

/* Of a stream that hb_pool_open has made; borrowed for the turn. */
struct hb_pool_place {
	struct hb_cluster *cluster;
	const struct hb_tunnels_conf *conf;
	const struct hb_ep_cell *cell; /* NULL = not answered yet    */
	const char *host;
	struct hb_str peer;            /* name in the peer's certificate; "" */
	struct hb_addr addr;           /* of the peer                */
};
/* False: it is another transport. */
bool hb_pool_place_of(const struct hb_transport *, struct hb_pool_place *ret);

/* The cluster is gone: connections end with their last stream. */
void hb_pool_drain(struct hb_cluster_w *);
/* The process ends: connections end, those without streams by GOAWAY and close_notify. */
void hb_pool_stop(struct hb_cluster_w *);
/* Nothing is left in it. */
void hb_pool_free(struct hb_cluster_w *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/pool_priv.h: what pool.c (peers, requests) and pool_conn.c (connections) share.
 *
 *   hb_pool ──key──► pool_peer ──► pool_conn … (connecting, open)      refs: the connection itself,
 *                        │             ▲                                and each of its streams
 *                        └─ waiting ─► hb_pool_rq ── stream
 */
#ifndef HB_UPSTREAMS_POOL_PRIV_H
#define HB_UPSTREAMS_POOL_PRIV_H

#include "upstreams/conn.h"
#include "upstreams/hbone.h"
#include "upstreams/link.h"
#include "upstreams/pool.h"

struct hb_pool {
	unsigned magic;
#define HB_POOL_MAGIC 0x5d21f08c
	struct hb_cluster_w *w;  /* its owner                             */
	struct hb_map *peers;    /* by key                                */
	struct hb_text key;      /* scratch                               */
	struct hb_list conns;    /* every pool_conn that is not over      */
	struct hb_upconn_pool changes; /* joined while there are conns    */
	struct hb_list idle;     /* of those, without streams; the one used longest ago first */
	uint32_t n_idle;
	bool draining;
	bool stopped;
};

struct pool_peer {
	unsigned magic;
#define POOL_PEER_MAGIC 0x2b67e9f1
	struct hb_pool *pool;
	char *key;               /* owned; with key_len binary bytes */
	size_t key_len;
	struct hb_ep_addrs *addrs; /* owned; of all who want it */
	char *host;              /* owned, the same */
	struct hb_list conns;    /* that may take streams, now or once connected */
	struct hb_list waiting;  /* requests without a stream                   */
	uint32_t n_conns, n_connecting, n_waiting;
	uint32_t n_requests;     /* that are not over, those with a stream included */
	uint32_t limit;          /* streams that a connection turned out to take */
	uint64_t spread_ms;      /* no connection is made beside hot ones before this */
	struct hb_run run;       /* streams for those who wait */
	bool busy;               /* dispatching                */
};

struct pool_conn {
	unsigned magic;
#define POOL_CONN_MAGIC 0x7f4a316e
	unsigned refs;
	struct hb_pool *pool;    /* NULL = over                               */
	struct pool_peer *peer;  /* NULL = takes no streams, or not shared    */
	struct hb_pool_rq *only; /* not shared: who it is for; NULL = served  */
	struct hb_list node;     /* in pool->conns                            */
	struct hb_list peer_node, idle_node;
	struct hb_cluster_w *w;  /* pinned                                    */
	const struct hb_tunnels_conf *conf;
	const struct hb_transport_socket *socket;
	uint64_t generation;     /* of the socket, when it began              */
	struct hb_link *link;    /* while connecting                          */
	struct hb_h2 *h2;        /* then                                      */
	struct hb_facts facts;   /* of whom it was made for                   */
	uint32_t streams;        /* that are not gone                         */
	uint64_t opened;
	bool answered;           /* at least one                              */
	bool full;               /* refused a stream: until one of the others ends */
	bool beside;             /* made because the others were hot              */
	bool fast;               /* hot_rate was reached at the last look         */
	uint64_t seen_ms, seen_bytes; /* then                                     */
	struct hb_timer surplus; /* while it is idle                              */
	struct hb_addr addr, local;
	char *host, *peer_name;  /* owned                                     */
	uint64_t baggage_seen;   /* hash of the answers' last one, and of whose it is */
	uint8_t baggage_found;   /* enum hb_cluster_stat; 0 = good            */
	char failure[HB_RACE_TEXT_MAX];
};

struct hb_pool_rq {
	unsigned magic;
#define HB_POOL_RQ_MAGIC 0x3a9c52d7
	struct hb_pool_request rq;
	struct hb_worker *worker;
	struct pool_peer *peer;  /* NULL when not shared                      */
	struct hb_ep_addrs *addrs; /* owned; NULL = the peer's                */
	char *host;              /* owned, the same                           */
	struct hb_list node;     /* in peer->waiting                          */
	struct pool_conn *conn;  /* referenced with t; or not shared          */
	struct hb_transport *t;  /* the stream, not answered yet              */
	struct hb_timer timer;
	struct hb_run run;       /* fails                                     */
	struct hb_dead dead;
	unsigned again;
	enum hb_close_reason reason;
	bool timeout;
	char text[HB_RACE_TEXT_MAX];
};

/* pool.c */
void hb_pool__dispatch_soon(struct pool_peer *);
/* A connection could not be made: those whom it was for fail. */
void hb_pool__no_conn(struct pool_conn *, const struct hb_race_result *);
/* Frees it when nobody uses it. */
void hb_pool__peer_check(struct pool_peer *);
/* The connection stands. */
void hb_pool__ready(struct pool_conn *);

/* pool_conn.c */
struct pool_conn *hb_pool__conn_new(struct hb_pool *, struct pool_peer *, const struct hb_pool_rq *);
/* Takes no new streams from now on. */
void hb_pool__conn_retire(struct pool_conn *);
/* Ends it: cleanly without streams, else with a reset. */
void hb_pool__conn_drop(struct pool_conn *);
void hb_pool__conn_unref(struct pool_conn **);
/* Was made with certificates or trust that were replaced. */
bool hb_pool__conn_stale(const struct pool_conn *);
bool hb_pool__conn_usable(const struct pool_conn *);
bool hb_pool__conn_hot(struct pool_conn *);
/* The stream counts from now on until it is gone. */
struct pool_stream;
struct pool_stream *hb_pool__stream_watch(struct pool_conn *, struct hb_transport *);
/* It was answered: it counts on this endpoint, too. */
void hb_pool__stream_won(struct hb_transport *, struct hb_ep_cell *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/filter/conn.h: a transport with a filter chain is a connection. For listeners and whoever
 * else accepts (tunnel servers), not for filter authors.
 */
#ifndef HB_CORE_FILTER_CONN_H
#define HB_CORE_FILTER_CONN_H

#include "core/filter/filter.h"

struct hb_access_log;     /* core/stats/access_log.h                    */
struct hb_stats;
struct hb_transport_socket; /* core/filter/transport_socket.h           */

/*
 * A filter chain, frozen. Compiled from envoy.config.listener.v3.FilterChain. References are
 * counted by the control thread (owner: the listener) plus one counter a worker for its
 * connections; freed after both are zero.
 */
struct hb_chain;

/* `where` names the owner in messages ("listener sni"). Reports all errors; NULL when any. */
struct hb_chain *hb_chain_compile(struct hb_cfg *, const void *filter_chain_msg, const char *where);
void hb_chain_free(struct hb_chain **);      /* control thread: drops the owner's reference */
const char *hb_chain_name(const struct hb_chain *);
/* The message is equal: the older chain may serve on in its place. */
bool hb_chain_same(const struct hb_chain *, const struct hb_chain *);
uint64_t hb_chain_connect_timeout_ms(const struct hb_chain *); /* transport_socket_connect_timeout */
bool hb_chain_is_tls(const struct hb_chain *);
/* Live connections, summed over workers (control thread). */
uint64_t hb_chain_connections(const struct hb_chain *);
void hb_chain_explain(const struct hb_chain *, struct hb_explain *);

/* What the accepting side wants to know; all on the connection's worker. */
struct hb_conn_owner {
	/* Once, at the end; the connection's facts and counters are still there. */
	void (*on_closed)(void *arg, struct hb_conn *, enum hb_close_reason);
	/* (opt) The facts tell who the peer is, no filter has been asked yet. */
	void (*on_secured)(void *arg, const struct hb_conn *);
	void *arg;
	const char *listener_name;          /* borrowed, outlives the connection          */
	const struct hb_access_log *log;    /* listener's own access log; may be NULL     */
	size_t buffer_high;                 /* per_connection_buffer_limit_bytes; 0 = 1 MiB */
	/* Of a stream: the status that this ending is answered, before it was accepted; 0 = none.
	 * NULL = the transport has no answers. */
	unsigned (*status_of)(const void *status_arg, enum hb_close_reason);
	const void *status_arg;
	bool inbound; /* it serves what stands behind it: traffic_direction INBOUND   */
	/* A stream: its chain is one of the filter that hb_conn_carries names for its facts. */
	bool carried;
};

/*
 * Starts a connection: the chain's transport socket is put over `lower` (taken), facts are moved
 * (the argument is re-initialised), filters are made. Never fails: a failure closes it. `pre`
 * bytes are given back with hb_transport_unread by the caller before. The answer is of no use after
 * the turn: a connection may rest (core/filter/park.h), and then be made again elsewhere.
 */
struct hb_conn *hb_conn_start(struct hb_worker *, struct hb_transport *lower, struct hb_facts *facts,
    const struct hb_chain *, const struct hb_conn_owner *);
/*
 * For a filter that serves streams: the facts of one, whose parent are those of the filter's
 * connection from now on. They, the filter's context and its configuration stay until the stream's
 * facts are finished, even when the connection has ended before.
 */
void hb_conn_carries(const struct hb_filter *, struct hb_facts *stream);
/* From outside (admin, drain, shutdown). */
void hb_conn_close(struct hb_conn *, enum hb_close_reason);
/* Sends HB_EVENT_DRAIN to its filters. */
void hb_conn_drain(struct hb_conn *);
void hb_conn_revalidate(struct hb_conn *);
/*
 * Control thread: every connection and stream of every worker decides again, because policies or
 * trust changed; in slices. A call during a walk starts it anew.
 */
void hb_conns_revalidate(void);

/*
 * A later configuration stands in the place of the one that these chains belong to. Connections of
 * theirs, and streams that those carry, are shown to its transport socket (holds), and end with
 * HB_CLOSE_REVOKED if it would not let the peer in; then to its policies (hb_filter_type.judge), and
 * end with HB_CLOSE_RBAC_DENIED if denied: live ones at once, in slices; those that come or end their
 * handshake later (while the chain drains) then. Control thread, when no worker can choose these
 * chains any more. `find` answers on a worker, within the turn, which chain the owner has for these
 * facts now; NULL = none: the connection is left alone.
 */
typedef const struct hb_chain *hb_chain_finder(struct hb_str owner, const struct hb_facts *);
void hb_chains_replaced(struct hb_chain *const *chain, size_t n, const char *owner, hb_chain_finder *);

/*
 * Told of connections that are passed on to an upstream, for telemetry. Those that carry streams
 * (HB_FILTER_CARRIER) are not shown, their streams are. On the connection's worker; may not call
 * the connection but for its view.
 */
struct hb_conn_observer {
	/* The upstream is there. What is answered is given to the other two; NULL = no interest. */
	void *(*opened)(const struct hb_conn *);
	void (*moved)(void *seen, uint64_t in, uint64_t out); /* bytes from, to the downstream */
	void (*closed)(void *seen, const struct hb_conn *);
	/* Secured, but refused by a filter or left without an upstream. */
	void (*failed)(const struct hb_conn *);
};
/* Control thread, while no connection exists. NULL = nobody. Borrowed. */
void hb_conn_observe(const struct hb_conn_observer *);

/* What the strings of an upstream belong to; embedded there, on one worker. */
struct hb_upstream_keep {
	uint32_t refs;
	uint32_t tag; /* the owner's */
	const struct hb_upstream_keep_ops *ops;
};
struct hb_upstream_info;
struct hb_upstream_keep_ops {
	/* Fills cluster, endpoint_host and tls_peer. */
	void (*names)(const struct hb_upstream_keep *, struct hb_upstream_info *ret);
	void (*free_fn)(struct hb_upstream_keep *); /* the last reference is gone */
	/*
	 * (opt, all or none) Of a connection that rests (core/filter/park.h), who has a reference, and
	 * whose transport t is: whether nobody else refers to the keep but t's watch. Then pack
	 * takes both references and t's watch away, and unpack makes the keep again, with both.
	 */
	bool (*packable)(const struct hb_upstream_keep *, const struct hb_transport *t);
	void (*pack)(struct hb_upstream_keep **, struct hb_transport *t, struct hb_pack *);
	struct hb_upstream_keep *(*unpack)(struct hb_unpack *, struct hb_transport *t);
};
void hb_upstream_unkeep(struct hb_upstream_keep **);

/* For logs and /connections; borrowed, on the worker. */
struct hb_upstream_info {
	struct hb_str  cluster;
	struct hb_str  endpoint_host;   /* hostname or ""                         */
	struct hb_addr endpoint;        /* remote address                         */
	struct hb_addr local;           /* our side of the upstream connection    */
	struct hb_str  tls_peer;        /* URI SAN or subject of the upstream; "" */
	uint32_t       connect_ms, attempts;
	struct hb_str  failure;         /* transport failure reason; ""           */
	/* Whoever takes a reference may use the names for longer; NULL = nothing keeps them. */
	struct hb_upstream_keep *keep;
};
struct hb_conn_view {
	uint64_t id;
	const char *listener, *chain, *state; /* state: "handshake", "open", "closing" …  */
	const struct hb_facts *facts;
	const struct hb_upstream_info *upstream; /* NULL = none yet; of a connection: `info` */
	struct hb_upstream_info info;
	uint64_t bytes_in, bytes_out;            /* from / to the downstream          */
	int64_t  start_us;                       /* wall clock                        */
	uint64_t age_ms;
	enum hb_close_reason reason;
	const char *detail;                      /* termination detail or NULL        */
	const char *tls_failure;                 /* downstream handshake error or NULL */
	bool inbound;                            /* of the owner                       */
};
void hb_conn_view(const struct hb_conn *, struct hb_conn_view *ret);
/* See the slot `upstream` of struct hb_filter_type; for hb_dial_tunnels. */
struct hb_transport *hb_conn_upstream(struct hb_conn *, struct hb_text *authority);
/*
 * All connections of this worker, those that rest (core/filter/park.h) after the others. fn may close
 * the one it gets, and may not keep it. Stops when fn returns false.
 */
void hb_conn_foreach(struct hb_worker *, bool (*fn)(void *arg, struct hb_conn *), void *arg);
uint64_t hb_conn_count(const struct hb_worker *);
/* NULL = not (any more) on this worker. */
struct hb_conn *hb_conn_find(struct hb_worker *, uint64_t id);
const struct hb_chain *hb_conn_chain(const struct hb_conn *);
/* The connection that t is the downstream of; NULL = of none, or it rests. */
struct hb_conn *hb_conn_at(const struct hb_transport *t);
const void *hb_conn_owner_arg(const struct hb_conn *);
/* What the access log would say now; borrowed until the connection's next event. */
struct hb_log_entry; /* core/stats/access_log.h */
void hb_conn_log_entry(const struct hb_conn *, struct hb_log_entry *ret);
/* Prints the connection that this thread is busy with; for hb_panic_hook_add in main(). */
void hb_conn_panic_hook(int fd);
/* Frees the room's state on this worker, made on first use; when no connection is left there. */
void hb_conn_worker_fini(struct hb_worker *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listeners/listener_priv.h: the room's structs.
 *
 * A struct hb_listener is one version of a listener: compiled, then live, then draining, then gone.
 * Versions of the same name share a struct hb_lname (connection counts) and, where the addresses
 * stay, their sockets. Its chains are a set of their own, which an in-place update replaces:
 *
 *   hb_lname ──current──► hb_listener ──set──► hb_chain_set ──► hb_chain …
 *      ▲                     │      └─ worker[] = hb_lworker: what one worker has of it
 *      └─────────────────────┘             ▲
 *                     connections, pre-connections (counted by its pins)
 *
 * Threads: fields are written by the control thread before the listener is published and frozen
 * then, but for those marked. A hb_lworker belongs to its worker.
 */
#ifndef HB_LISTENERS_LISTENER_PRIV_H
#define HB_LISTENERS_LISTENER_PRIV_H

#include <stdatomic.h>
#include "core/event/io.h"
#include "core/event/table.h"
#include "core/filter/chain_set.h"
#include "core/filter/conn.h"
#include "core/filter/filter_host.h"
#include "core/match/match.h"
#include "core/stats/access_log.h"
#include "core/stats/stats.h"
#include "core/transport/tcp.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "listeners/listeners.h"

#define HB_LFILTERS_MAX         16u    /* listener filters of a listener           */
#define HB_LFILTER_BYTES        16384u /* what a filter may ask for by default     */
#define HB_LFILTER_BYTES_MAX    65536u
#define HB_LADDRS_MAX           64u /* addresses of a listener                  */
#define HB_LACCEPT_BATCH        64u
/* Whether these are there changes what can be known; nothing else here depends on a filter. */
#define HB_LFILTER_TLS          "hbone.filters.listener.tls_inspector"
#define HB_LFILTER_HTTP         "hbone.filters.listener.http_inspector"
#define HB_LFILTER_ORIGINAL_DST "hbone.filters.listener.original_dst"

/* ------------------------------------------------------------------ counters */

#define HB_LISTENER_STATS(X)                                                                     \
	X(CX_TOTAL, "downstream_cx_total", COUNTER, "Connections for which a filter chain ran.") \
	X(CX_ACTIVE, "downstream_cx_active", GAUGE, "Connections open now.")                     \
	X(CX_DESTROY, "downstream_cx_destroy", COUNTER, "Connections that have ended.")          \
	X(CX_LENGTH_MS, "downstream_cx_length_ms", HISTOGRAM,                                    \
		"How long connections lasted, in milliseconds.")                                 \
	X(CX_OVERFLOW, "downstream_cx_overflow", COUNTER,                                        \
		"Connections closed at once because of the listener's limit.")                   \
	X(CX_GLOBAL_OVERFLOW, "downstream_global_cx_overflow", COUNTER,                          \
		"Connections closed at once because of the process's limit.")                    \
	X(PRE_ACTIVE, "downstream_pre_cx_active", GAUGE,                                         \
		"Connections that listener filters look at now.")                                \
	X(PRE_TIMEOUT, "downstream_pre_cx_timeout", COUNTER,                                     \
		"Connections for which listener filters took too long.")                         \
	X(PRE_REMOTE_CLOSE, "downstream_listener_filter_remote_close", COUNTER,                  \
		"Peers that left while listener filters waited for bytes.")                      \
	X(PRE_ERROR, "downstream_listener_filter_error", COUNTER,                                \
		"Connections that a listener filter refused.")                                   \
	X(NO_CHAIN, "no_filter_chain_match", COUNTER,                                            \
		"Connections closed because no filter chain matched.")                           \
	X(PER_EVENT, "connections_accepted_per_socket_event", HISTOGRAM,                         \
		"Connections accepted at one wake-up.")                                          \
	X(ACCEPT_ERROR, "downstream_cx_accept_error", COUNTER,                                   \
		"Failures to accept (descriptors or memory ran out); accepting pauses then.")    \
	X(CX_TLS_TIMEOUT, "downstream_cx_transport_socket_connect_timeout", COUNTER,             \
		"Connections whose handshake took too long.")                                    \
	X(SSL_HANDSHAKE, "ssl.handshake", COUNTER, "TLS handshakes that succeeded.")             \
	X(SSL_REUSED, "ssl.session_reused", COUNTER, "TLS handshakes that resumed a session.")   \
	X(SSL_NO_CERTIFICATE, "ssl.no_certificate", COUNTER,                                     \
		"TLS handshakes of peers without a certificate.")                                \
	X(SSL_ERROR, "ssl.connection_error", COUNTER, "Connections that ended by a TLS error.")  \
	X(SSL_NO_CERT, "ssl.fail_verify_no_cert", COUNTER,                                       \
		"Handshakes that failed because the peer sent no certificate.")                  \
	X(SSL_VERIFY, "ssl.fail_verify_error", COUNTER,                                          \
		"Handshakes that failed because the peer's certificate does not verify.")        \
	X(SSL_SAN, "ssl.fail_verify_san", COUNTER,                                               \
		"Handshakes that failed because of the name in the peer's certificate.")         \
	X(SSL_NO_GROUP, "ssl.fail_no_shared_group", COUNTER,                                     \
		"Handshakes that failed because the peer accepts none of our key exchange groups.")

#define HB_LWORKER_STATS(X)                                                                 \
	X(WORKER_CX_TOTAL, "downstream_cx_total", COUNTER,                                  \
		"Connections of the listener for which a filter chain ran on this worker.") \
	X(WORKER_CX_ACTIVE, "downstream_cx_active", GAUGE,                                  \
		"Connections of the listener open on this worker.")

#define HB_LMANAGER_STATS(X)                                                                     \
	X(LM_ADDED, "listener_added", COUNTER, "Listeners added.")                               \
	X(LM_MODIFIED, "listener_modified", COUNTER, "Listeners changed.")                       \
	X(LM_IN_PLACE, "listener_in_place_updated", COUNTER,                                     \
		"Changes of filter chains alone, without a new listener.")                       \
	X(LM_REMOVED, "listener_removed", COUNTER, "Listeners removed.")                         \
	X(LM_STOPPED, "listener_stopped", COUNTER, "Listeners that stopped accepting to drain.") \
	X(LM_SUCCESS, "listener_create_success", COUNTER,                                        \
		"Workers on which a listener was started.")                                      \
	X(LM_FAILURE, "listener_create_failure", COUNTER,                                        \
		"Listeners that could not be started (address in use, socket option refused).")  \
	X(LM_WORKERS, "workers_started", GAUGE, "1 once the workers run.")                       \
	X(LM_ACTIVE, "total_listeners_active", GAUGE, "Listeners that serve.")                   \
	X(LM_WARMING, "total_listeners_warming", GAUGE, "Listeners not accepting yet.")          \
	X(LM_DRAINING, "total_listeners_draining", GAUGE,                                        \
		"Replaced or removed listeners with connections.")                               \
	X(LM_CHAINS_DRAINING, "total_filter_chains_draining", GAUGE,                             \
		"Replaced or removed filter chains with connections.")

enum hb_listener_stat { HB_LISTENER_STATS(HB_STAT_ENUM) HB_LISTENER_STAT_MAX };
enum hb_lworker_stat { HB_LWORKER_STATS(HB_STAT_ENUM) HB_LWORKER_STAT_MAX };
enum hb_lmanager_stat { HB_LMANAGER_STATS(HB_STAT_ENUM) HB_LMANAGER_STAT_MAX };
extern const struct hb_stat_family hb_listener_family, hb_lworker_family, hb_lmanager_family;

/* ------------------------------------------------------------------ addresses, sockets */

struct hb_lsockopt {
	int state;               /* enum SocketOption.SocketState         */
	struct hb_tcp_sockopt o; /* of core/filter/socket_options.h       */
};

/* An address and all that the sockets bound to it are made with. */
struct hb_laddr {
	struct hb_addr addr; /* as configured; a unix path lies in `path`               */
	char *path;          /* owned                                                    */
	char *key;           /* owned: addresses with equal keys may share their sockets */
	mode_t mode;         /* unix: 0 = as the umask leaves it                         */
	bool v4_too;         /* IPv6: IPv4 peers as well                                 */
	struct hb_tcp_options tcp; /* keepalive                                          */
};

/* Both cannot be bound: equal, but for port 0, which is always another one. */
static inline bool
hb_laddr_clash(const struct hb_laddr *a, const struct hb_laddr *b)
{
	return ((a->addr.kind == HB_ADDR_UNIX || a->addr.port != 0) &&
		hb_addr_eq(&a->addr, &b->addr));
}

/* Bound and listening sockets of one address. Control thread; descriptors are read by workers. */
struct hb_lsock {
	unsigned magic;
#define HB_LSOCK_MAGIC 0x5b2f9a07
	unsigned refs;
	struct hb_list node;  /* of all of them     */
	char *key;            /* owned              */
	struct hb_addr bound; /* port resolved      */
	char *path;           /* owned; unix: removed at the end unless abstract */
	unsigned n;           /* 1, or one a worker */
	int fd[];
};

struct hb_listener;

/*
 * Opens and listens, or shares the sockets of an earlier version: `share`, or whatever is bound to
 * this address with the same key. NULL and *reterr on failure.
 */
struct hb_lsock *hb_lsock_get(const struct hb_listener *, const struct hb_laddr *,
	struct hb_lsock *share, struct hb_err *reterr);
void hb_lsock_unref(struct hb_lsock **);
static inline int
hb_lsock_fd(const struct hb_lsock *s, const struct hb_worker *w)
{
	return (s->fd[s->n == 1 ? 0 : w->index]);
}

/* ------------------------------------------------------------------ listeners */

/* filter_disabled, compiled. */
struct hb_lpredicate;
struct hb_lpredicate *hb_lpredicate_compile(struct hb_cfg *,
	const Envoy__Config__Listener__V3__ListenerFilterChainMatchPredicate *, unsigned depth);
void hb_lpredicate_free(struct hb_lpredicate **);
bool hb_lpredicate_eval(const struct hb_lpredicate *, const struct hb_facts *);

struct hb_lfilter {
	const struct hb_filter_type *type;
	const void *conf;               /* owned                            */
	char *label;                    /* owned                            */
	struct hb_lpredicate *disabled; /* owned; NULL = never  */
	size_t ctx_off;                 /* of the context in a hb_pre      */
};

/* Shared by the versions of one name. References: control thread. */
struct hb_lname {
	unsigned magic;
#define HB_LNAME_MAGIC 0x0d8e7f51
	unsigned refs;
	char *name; /* owned */
	/* The version that takes connections; NULL = removed. Workers follow it. */
	_Atomic(struct hb_listener *) current;
	/* Connections of all versions, by worker, from accept to the end. */
	struct hb_lcount {
		_Atomic uint64_t n;
		uint8_t pad[56];
	} count[];
};
_Static_assert(sizeof(struct hb_lcount) == 64, "a cache line a worker");

/* One address on one worker. */
struct hb_laccept {
	struct hb_lworker *lw;
	unsigned index; /* of the address          */
	struct hb_io io;
	unsigned burst;         /* taken in a wake-up at most */
	unsigned full;          /* wake-ups in a row that found as many */
	struct hb_timer pause;  /* after running out of descriptors */
};

/* How a connection came: by a socket of ours or as a stream. */
struct hb_ldoor {
	struct hb_lworker *lw;
	bool socket;
};

struct hb_lworker {
	struct hb_listener *listener;
	struct hb_worker *worker;
	struct hb_ldoor socket, stream;
	struct hb_laccept *accept; /* owned, n_addrs                                       */
	struct hb_stats *stats;    /* reference                                            */
	struct hb_list pres;       /* pre-connections                                      */
	bool accepting;
	bool closed;        /* nothing new comes in any more                        */
	uint64_t logged_ms; /* when accepting last failed, in the log              */
	/* Connections, pre-connections and hand-overs that point here. Other threads add. */
	uint8_t pad[64];
	_Atomic uint64_t pins;
	uint8_t pad_after[56];
};
_Static_assert(sizeof(struct hb_lworker) - offsetof(struct hb_lworker, pins) >= 64,
    "pins and the next worker share no line");

struct hb_listener {
	unsigned magic;
#define HB_LISTENER_MAGIC 0x7c10b5d3
	struct hb_list node; /* control thread: of all that are published             */
	bool serving;        /* control thread: every worker accepts                  */
	bool stopped;        /* control thread: does not accept any more              */
	char *name;          /* owned                                                 */
	struct hb_text wire; /* of the message without chains                         */
	/* options */
	size_t n_addrs;
	struct hb_laddr *addr; /* owned                                                 */
	size_t n_sockopts;
	struct hb_lsockopt *sockopt; /* owned                                              */
	bool reuse_port, bind, transparent, freebind, use_original_dst, exact_balance;
	bool inbound, ignore_global, continue_on_timeout;
	int fast_open; /* -1 = not set                                          */
	int backlog;
	unsigned accept_batch;
	uint64_t connections_max; /* 0 = no limit                                          */
	struct hb_tcp_options accepted; /* congestion control, which a listening socket cannot choose */
	uint64_t filters_timeout_ms;
	size_t buffer_high;
	size_t n_filters, pre_size;
	struct hb_lfilter *filter; /* owned                                                */
	char *stat_prefix;         /* owned                                                 */
	struct hb_access_log *log; /* owned; NULL = none                                   */
	_Atomic(struct hb_chain_set *) set; /* NULL once a newer version took the chains over   */
	/* live */
	struct hb_lname *ident; /* reference                                             */
	struct hb_lsock **sock; /* owned array, n_addrs; NULL = not bound                */
	struct hb_addr *bound;  /* owned array, n_addrs; a port 0 is resolved            */
	bool *closing;          /* owned array, n_addrs: nobody shares the socket; set before
	                             * workers are told to stop                            */
	struct hb_stats *stats; /* reference                                             */
	size_t n_workers;
	struct hb_lworker *worker; /* owned                                                */
};

/* compile.c */
int hb_listener_compile(struct hb_cfg *, const ProtobufCMessage *, void **ret_obj);
void hb_listener_discard(void *obj);
/* After the last worker let go. */
void hb_listener_free(struct hb_listener **);

/* serve.c: counts, limits, from the accepted transport to the connection; on workers */
void hb_listener_limit_init(
	uint64_t connections_max); /* of the process; before the workers start */
uint64_t hb_lname_connections(const struct hb_lname *); /* any thread */
/*
 * Counts one connection more, with exact balance on the worker that has the fewest; `w` is the one
 * that this runs on. NULL: over a limit (counted there).
 */
struct hb_ldoor *hb_listener_enter(struct hb_worker *w, struct hb_ldoor *);
void hb_listener_force(struct hb_ldoor *); /* the same, without limits and balance */
void hb_listener_leave(struct hb_ldoor *);
static inline void
hb_listener_pin(struct hb_lworker *lw)
{
	atomic_fetch_add(&lw->pins, 1);
}
static inline void
hb_listener_unpin(struct hb_lworker *lw)
{
	atomic_fetch_sub(&lw->pins, 1);
}
/* The part of the version that takes connections now: `lw`, or a newer one's. */
struct hb_lworker *hb_listener_serving(struct hb_lworker *);
/* Chooses a chain and starts the connection. Takes transport and facts; moves the count. */
void hb_listener_start(
	struct hb_ldoor *, struct hb_transport *, struct hb_facts *, uint64_t start_ms);
/* Ends a connection that has no chain: counters, access log, reset. */
void hb_listener_refuse(struct hb_ldoor *, struct hb_transport *, struct hb_facts *,
	uint64_t start_ms, enum hb_close_reason);
/* A new transport, already counted: listener filters first. `handed`: from another listener. */
void hb_listener_take(struct hb_ldoor *, struct hb_transport *, struct hb_facts *, bool handed);
/* acceptor.h */
int hb_listener_stream(
	struct hb_worker *, struct hb_str name, struct hb_transport *, struct hb_facts *);

/* accept.c; on workers but for init */
void hb_laccept_init(struct hb_laccept *, struct hb_lworker *, unsigned index);
void hb_listener_accept_start(struct hb_lworker *);
/* What waits in the accept queues of `closing` sockets is taken first. */
void hb_listener_accept_stop(struct hb_lworker *);

/* pre.c; on workers */
extern const struct hb_filter_host hb_lfilter_host;
struct hb_pre;
/* Control thread, when the filters are compiled: where their contexts lie. */
void hb_pre_layout(struct hb_listener *);
/* Runs the filters; takes everything, may have finished on return. */
void hb_pre_start(struct hb_ldoor *, struct hb_transport *, struct hb_facts *, bool handed);
void hb_pre_close_all(struct hb_lworker *, enum hb_close_reason);
/* Calls fn for each pre-connection of this worker's listener. */
void hb_pre_foreach(struct hb_lworker *,
	void (*fn)(void *arg, const struct hb_facts *, uint64_t age_ms, size_t bytes), void *arg);

/* manager.c; control thread if not said otherwise */
struct hb_listener *hb_listeners_find(struct hb_str name);
/* By local address: exact, else the wildcard of the family. NULL = none. Any thread. */
struct hb_listener *hb_listeners_by_address(const struct hb_addr *);
struct hb_listener *hb_listeners_by_name(struct hb_str name);                   /* any thread */
void hb_listeners_each(void (*fn)(void *arg, struct hb_listener *), void *arg); /* live ones */
void hb_listeners_count(enum hb_lmanager_stat, int64_t n);
/* The sockets of a version that stopped everywhere. */
void hb_listener_unbind(struct hb_listener *);
/* No worker can hold it any more. */
void hb_listener_gone(struct hb_listener **);

/* drain.c; control thread */
void hb_ldrain_init(uint64_t drain_time_ms);
uint64_t hb_ldrain_time_ms(void);
/*
 * Tells the connections of these chains to drain, closes them when the time is over, and drops the
 * references when the last is gone. Takes the array. `l` (may be NULL) is freed when it is empty,
 * too; if it still has its chains they are the array's, and go with it. Not before workers can
 * no longer find them.
 */
void hb_ldrain_start(struct hb_chain **chain, size_t n, struct hb_listener *l);
/* Tells the connections of these chains, nothing more. */
void hb_ldrain_tell(struct hb_chain *const *chain, size_t n);
void hb_ldrain_each(void (*fn)(void *arg, struct hb_listener *), void *arg);
void hb_ldrain_stop(void); /* nothing is closed or freed by time any more */
void hb_ldrain_fini(void); /* after the workers stopped */

/* admin.c */
void hb_listeners_admin_init(void);  /* once a process   */
void hb_listeners_admin_start(void); /* with the workers */
void hb_listeners_admin_stop(void);  /* no timer runs    */

#endif

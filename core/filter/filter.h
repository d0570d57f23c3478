/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/filter/filter.h: all that a filter author reads.
 *
 * A filter type is a const singleton. Listener filters look at the first bytes of a connection
 * before its chain is chosen; network filters stand in a chain between the transport and the
 * terminal filter (the last one), which is the only one that may consume the downstream's bytes
 * for good: tcp_proxy, echo, an HBONE server. Slots that are NULL pass through.
 *
 * Order of events of one filter: on_connected once, on_secured exactly once (on plaintext right
 * after the chain's on_connected), then on_read / on_write. Filters see reads first to last and
 * writes last to first. A status answers:
 *   CONTINUE  go on with the next filter
 *   STOP      later events of later filters are held, the chain owns what is left in the buffer
 *             and pauses reading, until hb_filter_continue
 *   DETACH    CONTINUE, and this filter needs no more of this direction; when all filters of a
 *             direction have detached the bytes may bypass the chain (splice)
 * An empty buffer without `end` is not passed on: a filter that needs more bytes than it has moves
 * them to a buffer of its own and answers CONTINUE. What the terminal filter leaves after CONTINUE
 * is dropped. on_secured of a filter that stopped in on_connected is still called; only
 * hb_filter_continue takes a STOP back. Bytes that come to a filter while it is stopped wait before
 * it, what it left waits behind it.
 * From any slot a filter may close (hb_filter_close, hb_filter_finish): the chain stops there and
 * calls no slot of the connection again but fini.
 *
 * compile runs on the control thread once for each configuration, never on the data path; what it
 * returns is frozen and shared. Everything else runs on the worker of the connection.
 *
 * The ABI for filters loaded from a .so is experimental: abi_major must equal
 * HB_FILTER_ABI_MAJOR; slots are only appended; shorter structs are extended by zeroes.
 */
#ifndef HB_CORE_FILTER_FILTER_H
#define HB_CORE_FILTER_FILTER_H

#include "core/base/close_reason.h"
#include "core/buffer/buf.h"
#include "core/config/config.h"
#include "core/facts/facts.h"
#include "core/transport/transport.h"

#define HB_FILTER_ABI_MAJOR 1
#define HB_FILTER_CTX_MAX   4096u /* bytes of ctx_size */

enum hb_filter_kind { HB_FILTER_LISTENER, HB_FILTER_NETWORK };

enum hb_filter_status { HB_FILTER_CONTINUE, HB_FILTER_STOP, HB_FILTER_DETACH };

#define HB_FILTER_TERMINAL   1u /* last of a chain, exactly one                                  */
#define HB_FILTER_MAY_INJECT 2u /* uses hb_filter_inject_*                                       */
#define HB_FILTER_CARRIER    4u /* terminal; serves streams that are connections of their own    */
#define HB_FILTER_PLAIN      8u /* its context is plain data, which may be moved when no slot and no
				 * timer runs; HB_EVENT_DRAIN means nothing to it                */

enum hb_event {
	HB_EVENT_WRITE_HIGH, /* the downstream takes no more for now              */
	HB_EVENT_WRITE_LOW,  /* it does again                                     */
	HB_EVENT_TIMER,      /* the filter's timer (hb_filter_timer) fired        */
	HB_EVENT_REVALIDATE, /* policy or trust changed: decide again             */
	HB_EVENT_DRAIN,      /* the chain or the process is draining              */
	HB_EVENT_GONE,       /* hb_filter_linger only: the downstream is gone     */
	HB_EVENT_CLOSE,      /* HB_FILTER_CARRIER only: closed from outside, now; what it finishes is flushed */
};

struct hb_filter; /* one filter on one connection */
struct hb_chain;  /* core/filter/conn.h          */
struct hb_conn;
struct hb_explain;
struct hb_pack;   /* core/base/pack.h            */
struct hb_unpack;

/* What a terminal filter says of a connection that it would let rest. */
struct hb_rest {
	struct hb_transport *up; /* the other side, whose sink is the filter's             */
	uint64_t due_ms;         /* when something of the filter's own is due; 0 = never   */
};

#define HB_JUDGE_WHY_MAX 600u

/* A live connection whose configuration was replaced, before the one that stands in its place. */
struct hb_judge {
	struct hb_worker *worker;
	const struct hb_facts *facts;
	uint64_t conn_id;
	const char *chain; /* that it would have now */
	/* Set by who denies; `why` is the termination detail. */
	bool denied;
	char why[HB_JUDGE_WHY_MAX];
};

struct hb_filter_type {
	uint16_t abi_major, size;  /* HB_FILTER_ABI_MAJOR, sizeof(struct hb_filter_type)            */
	uint32_t flags;
	enum hb_filter_kind kind;
	const char *name;          /* "hbone.filters.network.echo": the name is the path            */
	const char *alias;         /* Envoy's well-known name, "envoy.filters.network.echo"; or NULL */
	const ProtobufCMessageDescriptor *config; /* message of typed_config                        */
	size_t ctx_size;           /* zeroed memory of each instance, hb_filter_ctx                 */
	/* Control thread: message to frozen configuration. 0, or -EINVAL after hb_cfg_error. */
	int  (*compile)(struct hb_cfg *, const ProtobufCMessage *, const void **ret_conf);
	void (*conf_free)(const void *conf); /* control thread, when no connection uses it        */
	enum hb_filter_status (*on_connected)(struct hb_filter *);
	enum hb_filter_status (*on_secured)(struct hb_filter *);
	/*
	 * Network: buf may be drained, added to, or left; `end` travels with the last bytes.
	 * Listener: buf holds all bytes seen so far and is not changed but by
	 * hb_lfilter_consume; STOP = need more, CONTINUE = done.
	 */
	enum hb_filter_status (*on_read)(struct hb_filter *, struct hb_buf *buf, bool end);
	enum hb_filter_status (*on_write)(struct hb_filter *, struct hb_buf *buf, bool end);
	void (*on_event)(struct hb_filter *, enum hb_event);
	void (*fini)(struct hb_filter *);
	/*
	 * Says what the filter would do with these facts, without side effects, for /explain:
	 * hb_explain_* of core/filter/explain.h. NULL = "passes".
	 */
	void (*explain)(const void *conf, const struct hb_facts *, struct hb_explain *);
	/*
	 * HB_FILTER_CARRIER, control thread: the streams end at one workload, so that the chain's
	 * transport socket lets in nobody but its own trust domain and namespace unless it says
	 * otherwise. NULL = they do not: a gateway, which has to say whom it lets in.
	 */
	bool (*for_workload)(const void *conf);
	/*
	 * Policies: whether a connection that an earlier configuration let in may stay under this
	 * one. Sets `denied`, counts and logs when not; else it has no effect. NULL = it may.
	 */
	void (*judge)(const void *conf, struct hb_judge *);
	/*
	 * HB_FILTER_CARRIER: the chain that a stream with these facts would get; NULL = none. May
	 * deny as judge does.
	 */
	const struct hb_chain *(*chain_of)(const void *conf, struct hb_judge *);
	/*
	 * Terminal, for queries: the transport of hb_dial that the connection's bytes go to; NULL =
	 * none now. Adds the authority that the filter has asked a tunnel for, if it has.
	 */
	struct hb_transport *(*upstream)(struct hb_filter *, struct hb_text *authority);
	/*
	 * A connection that rests is packed into a few bytes, and made again for its next event
	 * (core/filter/park.h). Terminal filters that took the downstream and pass it on to one
	 * other transport have all three slots or none; HB_EVENT_DRAIN means nothing to them.
	 * `rests`: NULL = nothing is under way, and *ret is filled; else why it cannot rest now. Then
	 * `pack` writes the whole context, and lets go of what it holds; its memory is zeroed after
	 * that, its transports are kept by the caller, who gives them, or their like, to `unpack`.
	 * It makes the zeroed context as it was and becomes the sink of both
	 * (hb_transport_resink). No slot may be called from any of the three.
	 */
	const char *(*rests)(struct hb_filter *, struct hb_rest *ret);
	void (*pack)(struct hb_filter *, struct hb_pack *);
	void (*unpack)(struct hb_filter *, struct hb_unpack *, struct hb_transport *down,
	    struct hb_transport *up);
};

/* ------------------------------------------------------------------ for all filters */

HB_EXPORT const void       *hb_filter_conf(const struct hb_filter *);
HB_EXPORT void             *hb_filter_ctx(const struct hb_filter *);
HB_EXPORT struct hb_facts  *hb_filter_facts(const struct hb_filter *);
HB_EXPORT struct hb_worker *hb_filter_worker(const struct hb_filter *);
HB_EXPORT uint64_t          hb_filter_conn_id(const struct hb_filter *);
HB_EXPORT const char       *hb_filter_chain_name(const struct hb_filter *);
/* Resumes after STOP: what is held goes to the next filter. From any later event. */
HB_EXPORT void hb_filter_continue(struct hb_filter *);
/* Ends the connection: queued bytes are dropped and the peer sees a reset when the reason is an
 * error, else as hb_filter_finish. */
HB_EXPORT void hb_filter_close(struct hb_filter *, enum hb_close_reason);
/* What was written is flushed, then the connection ends. */
HB_EXPORT void hb_filter_finish(struct hb_filter *, enum hb_close_reason);
/* One timer a filter; HB_EVENT_TIMER. 0 stops it. */
HB_EXPORT void hb_filter_timer(struct hb_filter *, uint64_t delay_ms);

/* ------------------------------------------------------------------ for network filters */

/* Writes towards the downstream, through the filters before this one. Takes all of buf. */
HB_EXPORT void hb_filter_write(struct hb_filter *, struct hb_buf *, bool end);
/* MAY_INJECT: passes bytes to the next filter as if they had been read. Takes all of buf. */
HB_EXPORT void hb_filter_inject_read(struct hb_filter *, struct hb_buf *, bool end);
HB_EXPORT void hb_filter_read_disable(struct hb_filter *, int delta);
/*
 * Terminal filters: the downstream, seen through the chain, as a transport that this filter owns
 * from now on (for hb_pump_start, or as the lower transport of another session). From then on
 * on_read is not called on this filter: data arrives at the transport's sink. Valid from
 * on_secured on; once. Its raw() answers the socket when every filter has detached.
 */
HB_EXPORT struct hb_transport *hb_filter_take_downstream(struct hb_filter *);
/* Terminal filters, before that: gives back bytes that on_read took, with the end when it came with
 * them. They are what the transport's sink reads first. Takes all of buf. */
HB_EXPORT void hb_filter_unread(struct hb_filter *, struct hb_buf *, bool end);
/*
 * Terminal filters that took the downstream: while on, fini waits even when the downstream is gone
 * and the transport's sink was told, because something is still on its way to the other side. Turn
 * it off in time: an operator's close does not wait.
 */
HB_EXPORT void hb_filter_linger(struct hb_filter *, bool on);
/* Books bytes that bypassed the chain (splice) on the connection's counters. */
HB_EXPORT void hb_filter_account(struct hb_filter *, uint64_t read, uint64_t written);
/* For the access log and /connections; strings are kept (hb_upstream_keep) or copied. */
struct hb_upstream_info;
HB_EXPORT void hb_filter_set_upstream(struct hb_filter *, const struct hb_upstream_info *);
/* Adds to the bytes of the upstream named last; for logs. */
HB_EXPORT void hb_filter_account_upstream(struct hb_filter *, uint64_t sent, uint64_t received);
/* Detail for %CONNECTION_TERMINATION_DETAILS%, for example the policy's name; copied. */
HB_EXPORT void hb_filter_set_detail(struct hb_filter *, const char *detail);
/*
 * What the access log would say about this connection now; borrowed until the filter's next call.
 * For hb_access_log_write (a filter's own log, at the latest in fini) and hb_format_write.
 */
struct hb_log_entry; /* core/stats/access_log.h */
HB_EXPORT void hb_filter_log_entry(const struct hb_filter *, struct hb_log_entry *ret);
/* There is an access log that will say it. */
HB_EXPORT bool hb_filter_logged(const struct hb_filter *);
/* The downstream has sent bytes that are here and were not read yet: a listener filter looked at them. */
HB_EXPORT bool hb_filter_bytes_wait(const struct hb_filter *);

/* ------------------------------------------------------------------ for listener filters */

/* Drops the first n bytes for good (PROXY protocol). */
HB_EXPORT void hb_lfilter_consume(struct hb_filter *, size_t n);
/* How many bytes this filter may ask for in all; the listener's cap is the highest of its filters.
 * Default 16 KiB, at most 64 KiB. */
HB_EXPORT void hb_lfilter_max_bytes(struct hb_filter *, size_t n);
/* The accepted socket, for getsockopt; -1 when the bytes come through no socket of their own. */
HB_EXPORT int hb_lfilter_fd(const struct hb_filter *);

/* ------------------------------------------------------------------ registry, control thread */

/* Refuses a wrong ABI, a duplicate name or config type, a ctx_size above the limit. */
int hb_filter_register(const struct hb_filter_type *, struct hb_err *reterr);
const struct hb_filter_type *hb_filter_find(enum hb_filter_kind, const ProtobufCMessageDescriptor *);
/* dlopen: the module exports `const struct hb_filter_type *const hb_filter_module[]`, ended by
 * NULL. Its message descriptors are added to the types. */
int hb_filter_load(const char *path, struct hb_err *reterr);

#endif

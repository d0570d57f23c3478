/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/filter/filter_priv.h: chain, connection and the terminal filter's view of the downstream.
 *
 * A connection is one slab: struct hb_conn, its filters, their contexts. What is rare hangs on it:
 * held bytes, timers of filters, texts of a bad end.
 *
 *   downstream                                                              terminal filter
 *   transport -> [ filter 0 ] -> [ filter 1 ] -> … -> [ filter n-1 ]    or    facade -> its sink
 *             <-              <-              <-  …                    <-
 */
#ifndef HB_CORE_FILTER_FILTER_PRIV_H
#define HB_CORE_FILTER_FILTER_PRIV_H

#include <stdatomic.h>
#include "core/filter/conn.h"
#include "core/filter/filter_host.h"

#define HB_CHAIN_FILTERS_MAX 32u

/* ------------------------------------------------------------------ chain */

struct hb_chain_filter {
	const struct hb_filter_type *type; /* lives for ever                         */
	const void                  *conf; /* owned                                  */
	char                        *label; /* owned: name in the configuration      */
	uint32_t                     ctx_off; /* of the context, from the slab's start */
};

/* One a worker, far enough apart that workers share no cache line. */
struct hb_chain_pin {
	/* Users: connections and transports that linger after theirs; plus HB_CHAIN_CLOSING once
	 * the owner let go and no new one can come. */
	_Atomic uint64_t n;
	_Atomic uint64_t conns; /* of them, connections; one writer */
	struct hb_task   task; /* tells the control thread that the last one went */
	struct hb_chain *chain;
	uint8_t          pad[64];
};
_Static_assert(sizeof(struct hb_chain_pin) >= 64 + offsetof(struct hb_chain_pin, pad), "pad");
#define HB_CHAIN_CLOSING (1ull << 63)

struct hb_chain {
	unsigned magic;
#define HB_CHAIN_MAGIC 0x3c4a1d09
	char          *name, *where;       /* owned                                       */
	struct hb_text wire;               /* of the message, for hb_chain_same           */
	struct hb_transport_socket *socket; /* owned; NULL = raw bytes                    */
	uint64_t       connect_timeout_ms;
	size_t         slab_size;
	unsigned       n_filters;
	struct hb_chain_filter filter[HB_CHAIN_FILTERS_MAX];
	unsigned       n_pins;             /* workers, and the control thread as the last */
	struct hb_chain_pin *pin;          /* owned                                       */
	unsigned       pending;            /* control thread: pins that are not free yet  */
	struct hb_list dying;              /* control thread: chains without an owner     */
	bool           rests;              /* its connections may: no filter is against it */
	/* Once replaced: who has its place now. `heir_owner` is owned, written before `heir`. */
	char          *heir_owner;
	_Atomic(hb_chain_finder *) heir;
};

/* On the connection's worker. */
void hb_chain__pin(const struct hb_chain *, const struct hb_worker *);
void hb_chain__unpin(const struct hb_chain *, const struct hb_worker *);
void hb_chain__count(const struct hb_chain *, const struct hb_worker *, int delta);
/* Control thread. The first call counts. */
void hb_chain__inherit(struct hb_chain *, const char *owner, hb_chain_finder *);
/* The transport goes on without its connection: the chain stays until it is gone. */
void hb_chain__pin_transport(const struct hb_chain *, struct hb_transport *);

/* ------------------------------------------------------------------ connection */

/* struct hb_filter.state[0]: why later filters wait. */
#define HB_STOP_CONNECTED 1u
#define HB_STOP_SECURED   2u
#define HB_STOP_READ      4u
#define HB_STOP_WRITE     8u
/* struct hb_filter.state[1]: slots that are on the stack, by the HB_STOP_ bit. */
/* struct hb_filter.state[2] */
#define HB_FS_CONNECTED 1u  /* on_connected was called                                      */
#define HB_FS_SECURED   2u  /* on_secured was called                                        */
#define HB_FS_NO_READ   4u  /* detached from reads                                          */
#define HB_FS_NO_WRITE  8u  /* detached from writes                                         */
#define HB_FS_RESUMED   16u /* hb_filter_continue came while the slot was still on the stack */

/* Bytes that wait at one filter, in one direction. */
struct hb_conn_hold {
	struct hb_conn_hold *next;
	uint8_t index;
	uint8_t dir;              /* enum hb_dir                                       */
	bool    seen_end, todo_end;
	bool    has_seen;         /* `seen` (perhaps only its end) waits for continue  */
	struct hb_buf seen;       /* left by the filter: goes to the next one          */
	struct hb_buf todo;       /* not seen by the filter yet                        */
};

struct hb_conn_handshake {
	struct hb_timer timer;
	struct hb_conn *conn;
};

/* Texts of a bad end; in the facts' arena. */
struct hb_conn_texts {
	const char *detail, *tls_failure;
};

struct hb_conn_names { /* in the facts' arena */
	struct hb_str cluster, endpoint_host, tls_peer, failure;
};

struct hb_conn_upstream {
	uint64_t sent, received;
	union {
		struct hb_upstream_keep *keep; /* a reference, when `kept`                 */
		struct hb_conn_names    *names;
	};
	struct hb_addr endpoint, local;
	uint32_t connect_ms;
	uint16_t attempts;
	bool     kept;
};

/* What all connections of a listener or filter have in common; `o.arg` is not used. */
struct hb_conn_owned {
	struct hb_worker *worker;
	struct hb_list node;  /* of the worker's, those used last first */
	uint64_t conns;
	struct hb_conn_owner o;
};

struct hb_conn {
	unsigned magic;
#define HB_CONN_MAGIC 0x51cc0b7e
	uint16_t depth;               /* entries on the stack, see hb_conn__enter           */
	uint8_t  reason;              /* enum hb_close_reason; the first one stays          */
	uint8_t  told;                /* the transport's own reason, for the facade's sink  */
	uint8_t  n_established;       /* filters that have passed connected and secured     */
	bool     touched;             /* something happened since park_when.c last looked   */
	uint32_t flags;               /* HB_CF_…                                            */
	const struct hb_chain *chain; /* pinned                                             */
	struct hb_transport   *t;     /* owned; NULL once closed                            */
	struct hb_conn_hold   *holds; /* owned                                              */
	union {
		struct hb_conn_handshake *handshake; /* owned; until HB_CF_SECURED, NULL = none */
		void          *seen;  /* from HB_CF_OPENED on: the observer's; NULL = it wants to know
				       * nothing                                            */
	};
	struct hb_conn_owned  *owner; /* a reference                                        */
	void                  *owner_arg;
	struct hb_list         node;  /* of the worker's list                               */
	union {
		struct hb_list awake; /* while HB_CF_AWAKE: park_when.c                     */
		struct hb_dead dead;  /* the end: nobody is on the stack then               */
	};
	uint64_t id, start_ms, bytes_in, bytes_out;
	int64_t  start_us;
	struct hb_conn_texts *texts; /* NULL = none                                          */
	struct hb_conn_upstream upstream; /* from HB_CF_UPSTREAM on                          */
	union {
		struct hb_run  run;   /* the start, over a transport that is connected already */
		/* The terminal filter's; its sink owns it, while HB_CF_FACADE is set. It has a
		 * reference. */
		struct hb_transport facade;
	};
	struct hb_facts facts; /* their `keep` is of this memory and the chain             */
	struct hb_filter filter[];
};

#define HB_CF_ESTABLISHED 0x0001u /* every filter has passed: reads flow                   */
#define HB_CF_CLOSING     0x0002u /* no slot but fini is called any more                   */
#define HB_CF_FLUSH       0x0004u /* let the transport go by finish, not by abort          */
#define HB_CF_ACCEPTED    0x0008u /* hb_transport_accept was called                        */
#define HB_CF_TAKEN       0x0010u /* the facade was made                                   */
#define HB_CF_ABOVE       0x0020u /* the transport's queue is above its watermark          */
#define HB_CF_TOLD_ABOVE  0x0040u /* filters and facade know it                            */
#define HB_CF_WRITE_END   0x0080u /* the end reached the transport                         */
#define HB_CF_CONNECTED   0x0100u /* the transport is connected                            */
#define HB_CF_SECURED     0x0200u /* the transport is secured                              */
#define HB_CF_GONE        0x0400u /* it closed by itself; held bytes may still be under way */
#define HB_CF_FINISHING   0x0800u /* ends once held writes have passed                     */
#define HB_CF_FACADE_OFF  0x1000u /* the facade has reading disabled                       */
#define HB_CF_DEAD        0x2000u /* the end is on the dead list                           */
#define HB_CF_LINGER      0x8000u /* the terminal filter is not done yet                   */
#define HB_CF_TOLD_GONE   0x10000u /* HB_EVENT_GONE was sent                              */
#define HB_CF_WRAPPED     0x20000u /* the transport belongs to the chain's transport socket */
#define HB_CF_OPENED      0x40000u /* the observer was told that the upstream is there     */
#define HB_CF_FORCED      0x80000u /* ended from outside: nothing waits for the other side */
#define HB_CF_UPSTREAM   0x100000u /* an upstream was named                                */
#define HB_CF_FACADE     0x200000u /* the facade is there: its sink has not let go         */
#define HB_CF_AWAKE      0x400000u /* may have to rest soon                                */
#define HB_CF_NO_REST    0x800000u /* never rests                                          */
#define HB_CF_RUN         0x4000u /* `run` of the union is in use                          */

extern const struct hb_filter_host hb_conn_host;

static inline struct hb_conn *
hb_conn__of(const struct hb_filter *f)
{
	HB_CHECK(f, HB_FILTER_MAGIC);
	HB_ASSERT(f->host == &hb_conn_host);
	return (f->owner);
}

static inline struct hb_worker *
hb_conn__worker(const struct hb_conn *c)
{
	return (c->owner->worker);
}

/* NULL = not taken, or let go. */
static inline struct hb_transport *
hb_conn__facade(struct hb_conn *c)
{
	return (c->flags & HB_CF_FACADE ? &c->facade : NULL);
}

static inline const struct hb_chain_filter *
hb_conn__decl(const struct hb_conn *c, unsigned i)
{
	return (&c->chain->filter[i]);
}

/*
 * Every way into the chain (an event, a call of a filter or of the facade's sink) is bracketed by
 * these. The outermost leave moves what waits and ends the connection if it is closing and nobody
 * of the connection is on the stack.
 */
void hb_conn__enter(struct hb_conn *);
void hb_conn__leave(struct hb_conn *);

/* conn_data.c */
/* Data enters filter i from before (i == n: behind the terminal filter) or from behind (i == -1:
 * the transport). Take all of the buffer. */
void hb_conn__read(struct hb_conn *, unsigned i, struct hb_buf *, bool end);
void hb_conn__write(struct hb_conn *, int i, struct hb_buf *, bool end);
/* Puts bytes before what the terminal filter has not seen yet. */
void hb_conn__unread(struct hb_conn *, struct hb_buf *, bool end);
/* Takes back a STOP. */
void hb_conn__resume(struct hb_filter *);
/* Goes on with everything that can: events of filters, held bytes, the end. */
void hb_conn__settle(struct hb_conn *);
struct hb_conn_hold *hb_conn__hold(const struct hb_conn *, unsigned i, enum hb_dir);
void hb_conn__hold_free(struct hb_conn *, struct hb_conn_hold *);
bool hb_conn__holding(const struct hb_conn *, enum hb_dir);
/* Every filter but the last has detached from this direction and nothing is held. */
bool hb_conn__detached(const struct hb_conn *, enum hb_dir);
void hb_conn__accept(struct hb_conn *);
void hb_conn__read_disable(struct hb_conn *, int delta);
void hb_conn__event(struct hb_conn *, enum hb_event);
void hb_conn__event_of(struct hb_filter *, enum hb_event);

/* conn_upstream.c */
void hb_conn__upstream_info(const struct hb_conn *, struct hb_upstream_info *ret);
void hb_conn__upstream_fini(struct hb_conn *);

/* conn.c */
/* Marks as closing; the end comes with this turn's dead list. The first reason stays. */
void hb_conn__close(struct hb_conn *, enum hb_close_reason, bool flush);
/* What filter i (n: the facade's sink) has written goes out, then the end. */
void hb_conn__finish(struct hb_conn *, unsigned i, enum hb_close_reason);
/* For the observer: the upstream is there; bytes passed. */
void hb_conn__opened(struct hb_conn *);
struct hb_conn_texts *hb_conn__texts(struct hb_conn *);
void hb_conn__moved(struct hb_conn *, uint64_t in, uint64_t out);
/* Goes on with an end that waited for held bytes or for the facade's sink. */
void hb_conn__end_soon(struct hb_conn *);
void hb_conn__free(struct hb_facts_owner *);
extern const struct hb_transport_events hb_conn__events;

/* conn_judge.c */
/* False: a configuration that replaced the connection's denies it; it is closing. */
bool hb_conn__judge(struct hb_conn *);

/* facade.c */
struct hb_transport *hb_conn__facade_new(struct hb_conn *);
void hb_conn__facade_init(struct hb_conn *); /* the transport alone */

#endif

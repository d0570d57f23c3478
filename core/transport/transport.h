/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/transport/transport.h: everything that carries bytes.
 *
 * A TCP socket, TLS over another transport, one HTTP/2 stream, one end of an in-process pair,
 * standard input and output: all are a struct hb_transport, full duplex with two independent
 * directions. Transports nest in any order.
 *
 * Ownership. Whoever holds a transport (the "sink") owns it until exactly one of these happens:
 *   - hb_transport_finish(&t, …)  the sink lets go: what is queued is flushed, then ended;
 *   - hb_transport_abort(&t, …)   the sink lets go: queued bytes are dropped, the peer sees a reset;
 *   - on_closed is called         the transport ended by itself.
 * After that the sink gets no further event and must not touch it; the memory goes at the end of
 * the loop turn (dead list). An outer transport owns the inner one the same way.
 *
 * Events (struct hb_transport_events) come only from the event loop or the run queue, never from
 * inside a call of the sink, except on_watermark(high), which may come from inside write. Order:
 * on_connected once, on_secured once (plaintext: together with connected), then on_data…, then
 * on_data(end) at most once, on_closed at most once, after every received byte was delivered.
 *
 * Truth table of endings, same for all transports ("TCP / TLS / HTTP/2 stream / pair"):
 *
 *   what happens on the wire                      | what the sink sees
 *   FIN / close_notify / END_STREAM / end         | on_data(end)
 *   bare FIN under TLS                            | on_closed(PEER_TRUNCATED), no on_data(end)
 *   RST / RST under TLS / RST_STREAM / abort      | on_closed(PEER_RESET or STREAM_RESET)
 *   RST_STREAM(NO_ERROR) after END_STREAM         | on_data(end) as if nothing else had come
 *   RST after the end was received                | received bytes are delivered, then on_closed;
 *                                                 | an end alone does not wait for a paused reader
 *   both directions ended and flushed             | on_closed(DONE)
 *
 *   what the sink does                            | what goes on the wire
 *   write(end)                                    | FIN / close_notify / END_STREAM / end
 *   finish                                        | the rest, then the end; reading is discarded;
 *                                                 | bounded by flush_timeout, then a reset (TCP:
 *                                                 | up to 8 times that while the peer takes some
 *                                                 | in each; a plain close when it took all)
 *   abort                                         | RST / RST / RST_STREAM / abort
 *
 * Back-pressure. write always takes all bytes (borrowed ones are sent, encrypted, framed or copied
 * before it returns). What could not be sent is queued; at `high` queued bytes on_watermark(true)
 * comes, at half of it on_watermark(false). The sink answers by hb_transport_read_disable on the
 * source; that is a counter, because several parties may pause one source.
 *
 * Re-entrancy: a transport that is inside an event (busy) queues writes and flushes them when the
 * outermost event returns, so no slot of the sink is entered twice for one object.
 */
#ifndef HB_CORE_TRANSPORT_TRANSPORT_H
#define HB_CORE_TRANSPORT_TRANSPORT_H

#include "core/base/close_reason.h"
#include "core/buffer/buf.h"
#include "core/event/worker.h"

struct hb_transport;
struct hb_tls_info; /* core/transport/tls.h */
struct sockaddr_storage;

enum hb_dir { HB_DIR_READ, HB_DIR_WRITE };

/* Who counts transports (a cluster its connections), embedded in memory of its own. */
struct hb_transport_watch {
	/* Once, at the end of a loop turn, when the transport and all that it held are gone. `ended`:
	 * the reason when it ended by itself, NONE when its sink let go. With its last counters. */
	void (*gone)(struct hb_transport_watch *, enum hb_close_reason ended, uint64_t bytes_in,
	    uint64_t bytes_out);
};

struct hb_transport_events {
	void (*on_connected)(void *sink, struct hb_transport *);
	/* Identity of the peer is known and verified (TLS); at once on plaintext. NULL = not
	 * interested. On the client side of TLS 1.3 the server may still refuse us afterwards. */
	void (*on_secured)(void *sink, struct hb_transport *);
	/*
	 * `buf` must be empty when it returns (moved away, owned if kept). Its bytes are the
	 * sink's: it may change them (TLS decrypts where they are). Only called while reading
	 * is enabled. With `end`, nothing follows but on_closed.
	 */
	void (*on_data)(void *sink, struct hb_transport *, struct hb_buf *buf, bool end);
	void (*on_watermark)(void *sink, struct hb_transport *, bool high);
	void (*on_closed)(void *sink, struct hb_transport *, enum hb_close_reason);
	/* Queued bytes were taken by the peer (n > 0) since the last call; NULL = not interested.
	 * For idle timers of long writes. */
	void (*on_sent)(void *sink, struct hb_transport *, size_t n);
};

/* What a transport implements; NULL slots marked (opt) have the default named there. */
struct hb_transport_ops {
	const char *name; /* "tcp", "tls", "stream", "pair", "stdio", "chain" */
	void (*write)(struct hb_transport *, struct hb_buf *, bool end);
	/* The count of base.read_disabled changed between 0 and more. */
	void (*read_enable)(struct hb_transport *, bool on);
	void (*finish)(struct hb_transport *, enum hb_close_reason);
	void (*abort)(struct hb_transport *, enum hb_close_reason);
	void (*accept)(struct hb_transport *);                       /* (opt) no-op      */
	void (*reject)(struct hb_transport *, enum hb_close_reason); /* (opt) abort      */
	size_t (*pending)(const struct hb_transport *); /* bytes queued for the peer, all layers */
	const struct hb_tls_info *(*tls_info)(struct hb_transport *); /* (opt) NULL      */
	/*
	 * (opt NULL) The TCP transport whose socket carries the bytes of this direction
	 * unchanged and with nothing queued above it, right now; NULL = bytes must pass here.
	 */
	struct hb_transport *(*raw)(struct hb_transport *, enum hb_dir);
	/* (opt) One layer further in: TLS over TCP answers TCP. For describing and queries. */
	struct hb_transport *(*inner)(struct hb_transport *);
	/*
	 * on_closed was delivered, or the sink let go of a transport whose emit_closed was still
	 * waiting: release what is held below and bury. Once emit_closed was called no other slot
	 * but pending, tls_info and inner is entered again.
	 */
	void (*closed)(struct hb_transport *);
	/* (opt) From the run queue after hb_transport_run_soon: go on reading, flushing, lingering. */
	void (*run)(struct hb_transport *);
	/* (opt) The outermost event or call has returned: flush what was queued meanwhile. May not
	 * deliver events itself except through the emit functions. */
	void (*settled)(struct hb_transport *);
};

/* Bytes to deliver before anything else, and perhaps the end behind them. */
struct hb_transport_unread {
	struct hb_buf buf;
	bool          end;
};

/* Embedded first in every implementation; a tunnel has three, so it is packed. */
struct hb_transport {
	unsigned magic;
#define HB_TRANSPORT_MAGIC 0x74a91c52
	uint32_t read_disabled;                 /* counter; new transports start at 1       */
	const struct hb_transport_ops    *ops;
	struct hb_worker                 *worker;
	const struct hb_transport_events *ev;   /* of the sink                              */
	union {
		void *sink;
		void *own; /* the implementation's while `lingering`: from finish to bury       */
		void (*free_fn)(struct hb_transport *); /* private: after bury                  */
	};
	uint64_t bytes_in, bytes_out;           /* delivered to / accepted from the sink    */
	struct hb_transport_watch  *watch;      /* NULL = nobody                            */
	struct hb_transport_unread *unread;     /* private: owned; NULL = nothing           */
	union {
		struct hb_run  run;             /* delivers `unread` and late events        */
		struct hb_dead dead_node;       /* after bury                               */
	};
	uint32_t sent_due;                      /* private: on_sent to deliver              */
	uint16_t busy;                          /* depth of events being delivered          */
	uint16_t in_call;                       /* depth of calls of the sink into a slot   */
	struct hb_watermark out;                /* of queued bytes                          */
	uint8_t due;                            /* private: connected, secured to deliver   */
	uint8_t close_due;                      /* private: reason of a waiting on_closed   */
	bool connected : 1, secured : 1;        /* the event was delivered                  */
	bool read_ended : 1;                    /* on_data(end) was delivered               */
	bool write_ended : 1;                   /* write(end) was called                    */
	bool write_flushed : 1;                 /* … and handed on: hb_transport_write_flushed */
	bool dead : 1;                          /* on_closed, finish or abort has happened  */
	bool lingering : 1;                     /* finish was called, not buried yet        */
	bool told_above : 1;                    /* private: level that the sink knows       */
	bool buried : 1;                        /* private                                  */
};

#define HB_TRANSPORT_HIGH_DEFAULT (1024u * 1024u)
#define HB_FLUSH_TIMEOUT_MS       10000u

/* ------------------------------------------------------------------ for sinks */

/*
 * Attaches the sink; events may come from the next loop turn on. Reading starts disabled (count 1):
 * call hb_transport_read_disable(t, -1). A later call replaces the sink and leaves that count:
 * events that were due go to the new one (t->connected and t->secured tell which have been).
 */
void hb_transport_attach(struct hb_transport *, const struct hb_transport_events *, void *sink);
void hb_transport_read_disable(struct hb_transport *, int delta);
/*
 * Gives bytes back to the front of the read direction (a listener that looked at them); they are
 * delivered first, from the run queue, once reading is enabled. `end` repeats an end that was
 * seen. Takes all of buf.
 */
void hb_transport_unread(struct hb_transport *, struct hb_buf *buf, bool end);
/* After write(end), only finish or abort is legal on this direction. */
void hb_transport_write(struct hb_transport *, struct hb_buf *, bool end);
/* The reason is for counters and for peers that can be told (streams). Nulls *t. */
void hb_transport_finish(struct hb_transport **t, enum hb_close_reason);
void hb_transport_abort(struct hb_transport **t, enum hb_close_reason);
/* Server side of a stream: answer 200. No-op on sockets; a pair passes it to the other end. */
void hb_transport_accept(struct hb_transport *);
/* Server side of a stream: answer the status that fits the reason, then end. Nulls *t. */
void hb_transport_reject(struct hb_transport **t, enum hb_close_reason);
size_t hb_transport_pending(const struct hb_transport *);
const struct hb_tls_info *hb_transport_tls_info(struct hb_transport *);
struct hb_transport *hb_transport_raw(struct hb_transport *, enum hb_dir);
/* Bytes queued before on_watermark(high); 0 = never. */
void hb_transport_set_high(struct hb_transport *, size_t bytes);
/* Lingering transports of this worker (finish called, not flushed yet). */
unsigned hb_transport_lingering(const struct hb_worker *);
/* Lingering transports that were reset because the peer did not take the rest in time. */
uint64_t hb_transport_flush_timeouts(const struct hb_worker *);
/*
 * The process ends: sockets that linger are closed now, with a reset when the peer has not taken the
 * rest, and from now on finish gives them what they take at once and closes.
 */
void hb_transport_worker_stop(struct hb_worker *);
/* Frees the room's state on this worker, made on first use; when no transport is left. */
void hb_transport_worker_fini(struct hb_worker *);
/* "tls(tcp)" for logs. */
int hb_transport_describe(struct hb_transport *, char *dst, size_t cap);

/* ------------------------------------------------------------------ for implementations */

void hb_transport_init(struct hb_transport *, const struct hb_transport_ops *, struct hb_worker *);
/*
 * Deliver events, honouring busy, in_call, read_disabled, unread and dead. emit_data leaves nothing
 * in buf; when reading is disabled (or unread bytes wait) the bytes are owned and kept in `unread`,
 * which an implementation avoids by asking hb_transport_can_read first.
 * emit_closed delivers now, or, when the sink is on the stack or bytes wait in `unread`, later;
 * the first reason wins; ops->closed follows the delivery. After each emit call the transport may
 * be dead (t->dead): its memory stays until the end of the loop turn.
 * read_ended and write_ended are kept by the base, so a wrapper of this struct need not.
 */
void hb_transport_emit_connected(struct hb_transport *);
void hb_transport_emit_secured(struct hb_transport *);
void hb_transport_emit_data(struct hb_transport *, struct hb_buf *, bool end);
void hb_transport_emit_closed(struct hb_transport *, enum hb_close_reason);
void hb_transport_emit_sent(struct hb_transport *, size_t n);
/* Tells the level of the queue; emits the watermark event when it crosses. */
void hb_transport_level(struct hb_transport *, size_t queued);
bool hb_transport_can_read(const struct hb_transport *);
/* What was unread, or waits because reading was disabled: an end behind it? Drop it; take it. */
bool hb_transport_unread_end(const struct hb_transport *);
void hb_transport_unread_drop(struct hb_transport *);
void hb_transport_unread_take(struct hb_transport *, struct hb_buf *to, bool *ret_end);
/* The end that was written is on the wire. When the read direction has ended too (now or later)
 * the base calls emit_closed(DONE). */
void hb_transport_write_flushed(struct hb_transport *);
/* Calls ops->run from the run queue (after finish too, until buried). */
void hb_transport_run_soon(struct hb_transport *);
/* finish ran into its timeout: counted. */
void hb_transport_flush_timed_out(struct hb_transport *);
/* Frees through the dead list; the implementation's memory starts with the base. */
void hb_transport_bury(struct hb_transport *, void (*free_fn)(struct hb_transport *));

#endif

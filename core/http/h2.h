/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/http/h2.h: an HTTP/2 session (RFC 9113) over any transport, whose streams are transports.
 *
 * Server: each request comes with its stream; hb_transport_accept answers 200, hb_transport_reject
 * the status that fits the reason. Client: hb_h2_open makes a stream that is connected when the
 * peer answered 2xx. Everything else (back-pressure, endings, re-entrancy) is the contract of
 * core/transport/transport.h; the truth table there says what END_STREAM and RST_STREAM mean.
 *
 * Flow control: connection credit is returned when bytes arrive, stream credit when the stream's
 * sink has taken them, so one stream that stalls harms no other; what all stalled streams of a
 * session hold together is limited (buffered_max), then connection credit waits too. The window of
 * a stream grows while its sink keeps up and shrinks when it does not; all of a session grow by
 * three quarters of buffered_max at most. Writes borrow:
 * DATA frames are made of the writer's own slices, and what windows or a slow peer hold back is
 * owned by the stream, whose watermark tells.
 *
 * Ownership: the session owns its lower transport and lives until on_closed, hb_h2_close or
 * hb_h2_abort. Streams belong to their sinks; when the session ends each of them gets on_closed.
 * All calls on the thread of the transport's worker.
 */
#ifndef HB_CORE_HTTP_H2_H
#define HB_CORE_HTTP_H2_H

#include "core/transport/transport.h"

struct hb_h2;

struct hb_h2_header {
	struct hb_str name;  /* lower case, no pseudo-header */
	struct hb_str value;
};

/* Borrowed for the call. An empty string stands for a pseudo-header that is not there. */
struct hb_h2_request {
	struct hb_str method, scheme, authority, path, protocol; /* protocol: RFC 8441 */
	const struct hb_h2_header *headers;
	size_t n_headers;
};

/*
 * What a peer may do often for good reasons, but not without end. X(ENUM, "name", at once, "text"):
 * so many at once, and in the long run a tenth of it a second; the session is ended beyond that,
 * by GOAWAY(ENHANCE_YOUR_CALM) and HB_CLOSE_FLOOD.
 */
#define HB_H2_FLOODS(X)                                                                          \
	X(RESETS, "resets", 500u, "streams reset within a second, before their answer or a byte") \
	X(ERRORS, "stream_errors", 500u, "streams that we reset for what the peer did on them")   \
	X(PINGS, "pings", 1000u, "PING frames")                                                   \
	X(SETTINGS, "settings", 100u, "SETTINGS frames")                                          \
	X(EMPTY_DATA, "empty_data", 1000u, "DATA frames without payload and without an end")      \
	X(WINDOWS, "window_updates", 1000u, "WINDOW_UPDATE frames beyond 20 for each of our DATA frames") \
	X(OTHER, "other_frames", 1000u, "PRIORITY frames and frames of unknown types")            \
	X(CONTINUATIONS, "continuations", 8u, "CONTINUATION frames of one header block; no rate, this many")   \
	X(OUTBOUND, "outbound_frames", 10000u, "frames that wait because the peer does not read")

enum hb_h2_flood {
#define X(e, n, d, t) HB_H2_FLOOD_##e,
	HB_H2_FLOODS(X)
#undef X
	HB_H2_FLOOD_MAX
};

/* For counters; what happened on a session. */
enum hb_h2_count {
	HB_H2_REQUEST,           /* a stream was opened by the peer                     */
	HB_H2_REFUSED,           /* … above streams_max, or after the final GOAWAY          */
	HB_H2_RX_RESET,          /* RST_STREAM received                                 */
	HB_H2_TX_RESET,          /* RST_STREAM sent                                     */
	HB_H2_MALFORMED,         /* a stream was reset because its request or a frame on it is wrong */
	HB_H2_HEADERS_TOO_BIG,   /* answered 431                                        */
	HB_H2_KEEPALIVE_TIMEOUT,
	HB_H2_HEADERS_TIMEOUT,
	HB_H2_START_TIMEOUT,
	HB_H2_IDLE,              /* drained because there was no stream for idle_timeout */
	HB_H2_FLOODED,           /* + enum hb_h2_flood                                  */
	HB_H2_COUNT_MAX = HB_H2_FLOODED + HB_H2_FLOOD_MAX
};

/* Whose answers: Istio's ztunnel, or Envoy's HttpConnectionManager. */
enum hb_h2_flavour { HB_H2_ISTIO, HB_H2_ENVOY, HB_H2_FLAVOUR_MAX };

struct hb_h2_options { /* 0 = the default */
	uint32_t streams_max;     /* server: concurrent streams; more are refused   (1024)    */
	uint32_t stream_window;   /* bytes a peer may send ahead on one stream    (256 KiB)   */
	uint32_t stream_window_max; /* … once the sink has kept up, at most         (4 MiB); no
	                               less than stream_window, no more than session_window      */
	uint32_t session_window;  /* … on all together                             (16 MiB)   */
	uint32_t frame_max;       /* MAX_FRAME_SIZE we accept, 16384 … 2^24-1       (1 MiB)   */
	size_t   buffered_max;    /* bytes that stalled streams may hold together  (16 MiB)   */
	uint32_t headers_max;     /* fields of one request or response               (100)    */
	uint32_t header_bytes_max; /* name + value + 32 of all, RFC 9113 6.5.2    (64 KiB)    */
	uint64_t flush_timeout_ms; /* of a stream's finish               (HB_FLUSH_TIMEOUT_MS) */
	uint64_t start_timeout_ms; /* until the peer's SETTINGS have come                (15 s) */
	uint64_t headers_timeout_ms; /* from the start of a header block to its end      (15 s) */
	/* A PING so long after the last answer (0 = none), which must be answered within … (20 s).
	 * Bytes do not count as an answer. */
	uint64_t keepalive_interval_ms, keepalive_timeout_ms;
	uint64_t idle_timeout_ms;  /* without streams, then hb_h2_drain; 0 = never              */
	uint32_t flood[HB_H2_FLOOD_MAX]; /* see HB_H2_FLOODS                                    */
	enum hb_h2_flavour flavour; /* Server: what hb_transport_reject answers               */
};

struct hb_h2_events {
	/* Server: a stream, connected, not accepted yet; the callee owns it (attach, or reject). */
	void (*on_request)(void *sink, struct hb_h2 *, const struct hb_h2_request *,
	    struct hb_transport *stream);
	/* Server: hb_transport_accept is about to answer 200; the callee may answer by itself, with
	 * headers (hb_h2_stream_accept). NULL = not interested. */
	void (*on_accept)(void *sink, struct hb_h2 *, struct hb_transport *stream);
	/* hb_h2_room may be more than before. NULL = not interested. */
	void (*on_room)(void *sink, struct hb_h2 *);
	/* The peer takes no new streams; those that it has go on. NULL = not interested. */
	void (*on_goaway)(void *sink, struct hb_h2 *, uint32_t error_code);
	/* Only for counting: from inside anything, may not call the session. NULL = not interested. */
	void (*on_count)(void *sink, enum hb_h2_count);
	/* Once; every stream has been told. The session is gone. */
	void (*on_closed)(void *sink, struct hb_h2 *, enum hb_close_reason);
};

/*
 * Takes `lower` (its reading disabled once by its maker; connected, or connecting). Events come
 * from the event loop or the run queue only.
 */
struct hb_h2 *hb_h2_new(struct hb_transport *lower, bool server, const struct hb_h2_options *,
    const struct hb_h2_events *, void *sink);

/*
 * Closes (on_closed(DONE)) when the last stream is over. A client opens no new ones. A server first
 * sends GOAWAY(2^31-1) and a PING and serves what was on its way; with the answer (or 3 s later)
 * comes the final GOAWAY, and later streams are ignored.
 */
void hb_h2_drain(struct hb_h2 *);
bool hb_h2_draining(const struct hb_h2 *);
/* Lets go: streams end with `reason` and RST_STREAM, GOAWAY, what is queued is flushed. Nulls *h2. */
void hb_h2_close(struct hb_h2 **h2, enum hb_close_reason reason);
/* The same with a reset below. */
void hb_h2_abort(struct hb_h2 **h2, enum hb_close_reason reason);

/*
 * Client: opens a stream. NULL when hb_h2_room is 0. method empty = CONNECT (then only the
 * authority counts, RFC 9113 8.5); header strings are copied.
 */
struct hb_transport *hb_h2_open(struct hb_h2 *, const struct hb_h2_request *);
/* Streams that may be opened now: what the peer allows (100 until its SETTINGS came) less those in
 * use; 0 after GOAWAY in either direction. */
uint32_t hb_h2_room(const struct hb_h2 *);
/* Client: streams at once that the peer allows; 100 until its SETTINGS came. */
uint32_t hb_h2_peer_limit(const struct hb_h2 *);
/* Those that the session knows; fn may let go of the one it gets. */
void hb_h2_each_stream(struct hb_h2 *, void (*fn)(void *arg, struct hb_transport *stream), void *arg);
/* Streams not over yet, both directions. */
uint32_t hb_h2_streams(const struct hb_h2 *);
/* Bytes that stalled streams hold. */
size_t hb_h2_buffered(const struct hb_h2 *);
/* Streams refused because of streams_max, or after the final GOAWAY. */
uint64_t hb_h2_refused(const struct hb_h2 *);
/* For queries (addresses, identity; in on_closed, why the handshake failed); still owned by the
 * session. NULL once the session let it go. */
struct hb_transport *hb_h2_lower(const struct hb_h2 *);
/* Frees the room's state on this worker, made on first use; when no session is left there. */
void hb_h2_worker_fini(struct hb_worker *);

/* ------------------------------------------------------------------ streams */

bool hb_h2_is_stream(const struct hb_transport *);
/* NULL when the session is gone. */
struct hb_h2 *hb_h2_stream_session(const struct hb_transport *stream);
int32_t hb_h2_stream_id(const struct hb_transport *stream);
/* For people: "opening" (a client's, without an answer), "open", "half-closed", "closing". */
const char *hb_h2_stream_state(const struct hb_transport *stream);
uint64_t hb_h2_stream_age_ms(const struct hb_transport *stream); /* up to 49 days */
/* Status that was received (client) or sent (server); 0 = none yet. */
unsigned hb_h2_stream_status(const struct hb_transport *stream);
/* Client: the headers of the final answer, in their order, pseudo-headers left out. While on_connected
 * runs, or on_closed of a stream that was not connected; empty at other times. */
void hb_h2_stream_response(const struct hb_transport *stream,
    void (*fn)(void *arg, struct hb_str name, struct hb_str value), void *arg);
/* Server: accept with response headers of one's own, instead of hb_transport_accept. */
void hb_h2_stream_accept(struct hb_transport *stream, const struct hb_h2_header *, size_t n);
/* Server: reject with this status and headers, instead of hb_transport_reject. Nulls *stream. */
void hb_h2_stream_reject(struct hb_transport **stream, unsigned status,
    const struct hb_h2_header *, size_t n);
/* The status that hb_transport_reject answers. */
unsigned hb_h2_status(enum hb_h2_flavour, enum hb_close_reason);

#endif

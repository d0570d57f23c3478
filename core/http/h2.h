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
 * session hold together is limited (buffered_max), then connection credit waits too. Writes borrow:
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

struct hb_h2_options { /* 0 = the default */
	uint32_t streams_max;     /* server: concurrent streams; more are refused   (1024)    */
	uint32_t stream_window;   /* bytes a peer may send ahead on one stream    (256 KiB)   */
	uint32_t session_window;  /* … on all together                             (16 MiB)   */
	uint32_t frame_max;       /* MAX_FRAME_SIZE we accept, 16384 … 2^24-1       (1 MiB)   */
	size_t   buffered_max;    /* bytes that stalled streams may hold together  (16 MiB)   */
	uint32_t headers_max;     /* fields of one request or response               (100)    */
	uint32_t header_bytes_max; /* name + value + 32 of all, RFC 9113 6.5.2    (64 KiB)    */
	uint64_t flush_timeout_ms; /* of a stream's finish               (HB_FLUSH_TIMEOUT_MS) */
};

struct hb_h2_events {
	/* Server: a stream, connected, not accepted yet; the callee owns it (attach, or reject). */
	void (*on_request)(void *sink, struct hb_h2 *, const struct hb_h2_request *,
	    struct hb_transport *stream);
	/* hb_h2_room may be more than before. NULL = not interested. */
	void (*on_room)(void *sink, struct hb_h2 *);
	/* The peer takes no new streams; those that it has go on. NULL = not interested. */
	void (*on_goaway)(void *sink, struct hb_h2 *, uint32_t error_code);
	/* Once; every stream has been told. The session is gone. */
	void (*on_closed)(void *sink, struct hb_h2 *, enum hb_close_reason);
};

/*
 * Takes `lower` (its reading disabled once by its maker; connected, or connecting). Events come
 * from the event loop or the run queue only.
 */
struct hb_h2 *hb_h2_new(struct hb_transport *lower, bool server, const struct hb_h2_options *,
    const struct hb_h2_events *, void *sink);

/* Sends GOAWAY, takes no new streams, and closes (on_closed(DONE)) when the last stream is over. */
void hb_h2_drain(struct hb_h2 *);
/* Lets go: GOAWAY, streams end with `reason`, what is queued is flushed. Nulls *h2. */
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
/* Streams not over yet, both directions. */
uint32_t hb_h2_streams(const struct hb_h2 *);
/* Bytes that stalled streams hold. */
size_t hb_h2_buffered(const struct hb_h2 *);
/* Streams refused because of streams_max. */
uint64_t hb_h2_refused(const struct hb_h2 *);
/* For queries (addresses, identity); still owned by the session. */
struct hb_transport *hb_h2_lower(const struct hb_h2 *);
bool hb_h2_is_server(const struct hb_h2 *);

/* ------------------------------------------------------------------ streams */

bool hb_h2_is_stream(const struct hb_transport *);
/* NULL when the session is gone. */
struct hb_h2 *hb_h2_stream_session(const struct hb_transport *stream);
int32_t hb_h2_stream_id(const struct hb_transport *stream);
/* Status that was received (client) or sent (server); 0 = none yet. */
unsigned hb_h2_stream_status(const struct hb_transport *stream);
/* Server: accept with response headers of one's own, instead of hb_transport_accept. */
void hb_h2_stream_accept(struct hb_transport *stream, const struct hb_h2_header *, size_t n);
/* Server: reject with this status and headers, instead of hb_transport_reject. Nulls *stream. */
void hb_h2_stream_reject(struct hb_transport **stream, unsigned status,
    const struct hb_h2_header *, size_t n);
/* The status that hb_transport_reject answers. */
unsigned hb_h2_reject_status(enum hb_close_reason);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/http/h2_priv.h: what the parts of the HTTP/2 session share.
 */
#ifndef HB_CORE_HTTP_H2_PRIV_H
#define HB_CORE_HTTP_H2_PRIV_H

#include <nghttp2/nghttp2.h>
#include "core/http/h2.h"

/* Slices that one delivery is made of; more of a batch follow in the next one. */
#define H2_SLICES_MAX 160u
/* So many header fields are listed on the stack. */
#define H2_HEADERS_FEW 32u
/* Writes up to this size wait for the end of the turn. */
#define H2_SMALL_WRITE 4096u
/* Payload of our DATA frames at most. */
#define H2_FRAME_MAX  (64u * 16384u - 9u)

/* What peers may not overdo, and not take too long for: h2_guard.c. Times in ms of the worker. */
struct h2_guard {
	uint32_t level[HB_H2_FLOOD_MAX]; /* so many lately                          */
	uint64_t leaked_ms;              /* when levels were lowered last           */
	uint64_t data_sent, windows;     /* DATA frames sent; WINDOW_UPDATE got     */
	uint64_t start_ms;               /* of the session                          */
	uint64_t headers_ms;             /* a header block has begun; 0 = none      */
	uint64_t pong_ms;                /* last answer; the start in the beginning */
	uint64_t ping_ms;                /* a PING is not answered yet; 0 = none    */
	uint64_t idle_ms;                /* since when there is no stream           */
	uint64_t drain_ms;               /* first GOAWAY                            */
	bool     started;                /* SETTINGS came                           */
	bool     flooded;
};

enum h2_drain {
	H2_DRAIN_NONE,
	H2_DRAIN_NOTICE, /* a server has sent GOAWAY(2^31-1) and waits for the PING's answer */
	H2_DRAIN_FINAL,  /* we take, or open, no new streams                                 */
};

struct hb_h2 {
	unsigned magic;
#define HB_H2_MAGIC 0x68747032
	struct hb_worker          *worker;
	struct hb_transport       *lower;   /* owned; NULL = gone                         */
	struct hb_transport       *ended;   /* what was lower, while its on_closed runs   */
	nghttp2_session           *ng;      /* until the memory goes                      */
	uint8_t                   *lent;    /* the worker's: its frame buffer, h2_mem.c   */
	uint32_t                   lent_size;
	void                      *ring;    /* the worker's: of a server's encoder        */
	const struct hb_h2_events *ev;      /* NULL = the sink let go, or was told        */
	void                      *sink;
	const struct hb_h2_options *opt;    /* one reference: h2_options.c                */
	struct hb_list             streams; /* attached to this session                   */
	struct hb_list             dirty;   /* of those, with something to tell           */
	union {
		struct hb_run      run;
		struct hb_dead     dead_node; /* once it is over                          */
	};
	struct hb_buf              out;     /* frames of one send loop                    */
	struct h2_writers         *writers; /* owned; NULL = none                         */
	struct hb_slice           *slices;  /* of the receive loop on the stack           */
	unsigned                   n_slices;
	uint32_t                   active;  /* streams that nghttp2 knows                 */
	uint32_t                   room_told; /* what on_room said last                   */
	uint32_t                   goaway_code;
	size_t                     buffered; /* bytes in streams' rx                      */
	size_t                     credit;   /* connection credit not returned yet        */
	size_t                     grown;    /* of all streams' windows                   */
	uint64_t                   refused;
	uint8_t                    reason;   /* enum hb_close_reason: why it ends         */
	uint8_t                    drain;    /* enum h2_drain                             */
	struct h2_guard            guard;
	struct hb_timer            timer;    /* the earliest of what h2_guard.c waits for */
	const struct h2_reject    *reject;   /* of hb_h2_stream_reject on the stack       */
	bool server, dead;
	bool receiving;  /* nghttp2 or a delivery is on the stack: sending waits          */
	bool sending;
	bool blocked;    /* the lower transport is above its watermark                    */
	bool begun;      /* what comes before the second frame was sent                   */
	bool goaway_got, goaway_told;
	bool lower_ended;
};

struct h2_reject {
	const struct hb_h2_header *headers;
	size_t                     n_headers;
	unsigned                   status;
};

/* Fields of a request or response while they arrive. */
struct h2_fields {
	struct hb_worker *worker;
	char    *text; /* names and values one after another */
	struct h2_field {
		uint32_t name, value; /* offsets in text */
		uint32_t name_len, value_len;
	} *v;
	uint32_t n, cap;
	uint32_t text_len, text_cap;
	size_t   bytes; /* as RFC 9113 6.5.2 counts */
	bool     too_big;
	bool     text_owned, v_owned; /* heap; else the worker's */
};

struct h2_busy { /* h2_busy.c */
	union {
		struct h2_stream *stream;  /* borrowed: its owner                         */
		struct h2_busy   *next;    /* spare                                       */
	};
	struct hb_list     dirty;  /* in h2->dirty                                        */
	struct hb_buf      rx, tx;
	struct h2_fields  *fields; /* owned; while a header block arrives                 */
	uint32_t           sent;   /* queued bytes that left since on_sent                */
	uint16_t           quiet;  /* of tx: put off by us, its sender need not hear of it */
};

/*
 * What sessions of one worker share, mapped on first use: nobody pays for pages that are not touched.
 */
struct h2_worker {
	struct h2_fields fields;   /* one header block at a time, the usual case, needs no heap */
	bool             fields_used;
	void            *ring;     /* owned; nobody may touch it: h2_mem.c */
	struct h2_busy  *spare;    /* of few: given back */
	unsigned         n_few;    /* of few: the others were never used */
	struct h2_busy   few[16];
	struct h2_shared *options; /* h2_options.c */
	struct h2_field  v[32];
	char             text[4096];
	uint8_t          frame[H2_FRAME_MAX + 4096u]; /* see h2_mem.c */
};

struct h2_stream {
	struct hb_transport base;
	struct hb_h2       *h2;     /* NULL = detached: session or stream is over in nghttp2's eyes */
	struct hb_list      node;   /* in h2->streams                                     */
	struct h2_busy     *busy;   /* owned; NULL = idle                                 */
	uint32_t            opened_ms; /* low bits of the worker's clock                  */
	uint32_t            taken;  /* since its window last changed, or bytes had to wait */
	uint32_t            grown;  /* its window, above stream_window                    */
	int32_t             id;
	uint16_t            status;
	uint16_t            writer; /* place in h2->writers + 1; 0 = none                  */
	uint8_t             reason; /* enum hb_close_reason that ended it; NONE = open    */
	bool request_due : 1;       /* on_request has to be called                        */
	bool offered : 1;           /* somebody owns it                                   */
	bool responded : 1;         /* server: HEADERS sent; client: final ones received  */
	bool failed_status : 1;     /* client: they were not 2xx                          */
	bool rx_end : 1;            /* END_STREAM received                                */
	bool rx_end_told : 1;
	bool tx_end : 1;            /* write(end)                                         */
	bool tx_end_sent : 1;
	bool tx_gone : 1;           /* the peer wants no more: writes are dropped         */
	bool over : 1;              /* nghttp2 has closed it                              */
	bool server : 1;
	bool headers_done : 1;      /* the request, or the final response, is complete    */
	bool connected_told : 1;
	bool stop_after_end : 1;    /* RST_STREAM(NO_ERROR) follows our END_STREAM        */
	bool sends : 1;             /* nghttp2 will ask for DATA                           */
	bool writing : 1;           /* the sink's write is on the stack                   */
	bool lingers : 1;           /* finish was called                                   */
	bool held : 1;              /* bytes wait for the sink: its window has shrunk      */
};

struct h2_linger { /* base.own, owned, while `lingers` */
	struct hb_timer   timer;
	struct h2_stream *stream; /* borrowed: its owner */
};

/* Session, for streams. */
void hb_h2__mark(struct h2_stream *);          /* something to tell: from the run queue  */
void hb_h2__send(struct hb_h2 *);              /* frames that are ready, if it may       */
void hb_h2__send_soon(struct hb_h2 *);         /* … from the run queue, all in one       */
void hb_h2__credit(struct hb_h2 *, size_t n);  /* connection credit for n bytes          */
void hb_h2__stream_level(struct h2_stream *);  /* what its sink has to know of the queue */
void hb_h2__detach(struct h2_stream *);        /* leaves the session's lists             */

void hb_h2__count(struct hb_h2 *, enum hb_h2_count);
/* Ends it from the run queue; the first reason stays. */
void hb_h2__fail(struct hb_h2 *, enum hb_close_reason);

static inline bool
hb_h2__is_drained(const struct hb_h2 *h2)
{
	return (h2->drain == H2_DRAIN_FINAL && h2->active == 0);
}

/* h2_busy.c. Callouts to sinks may end what a stream has: ask again after them. */
struct h2_busy *hb_h2__busy_new(struct h2_stream *);
void hb_h2__busy_free(struct h2_stream *); /* with what is in it; NULL is fine */
void hb_h2__busy_keep(struct h2_stream *); /* nothing is in it */

static inline struct h2_busy *
hb_h2__busy(struct h2_stream *s)
{
	return (HB_LIKELY(s->busy != NULL) ? s->busy : hb_h2__busy_new(s));
}

static inline size_t
hb_h2__rx_len(const struct h2_stream *s)
{
	return (s->busy == NULL ? 0 : s->busy->rx.len);
}

static inline size_t
hb_h2__tx_len(const struct h2_stream *s)
{
	return (s->busy == NULL ? 0 : s->busy->tx.len);
}

static inline uint32_t
hb_h2__sent(const struct h2_stream *s)
{
	return (s->busy == NULL ? 0 : s->busy->sent);
}

static inline struct h2_fields *
hb_h2__fields(const struct h2_stream *s)
{
	return (s->busy == NULL ? NULL : s->busy->fields);
}

/* Idle, perhaps: gives the rest back. */
static inline void
hb_h2__busy_done(struct h2_stream *s)
{
	const struct h2_busy *b = s->busy;

	if (b != NULL && b->rx.len == 0 && b->tx.len == 0 && b->sent == 0 && b->fields == NULL &&
		!hb_list_linked(&b->dirty))
		hb_h2__busy_keep(s);
}

/* h2_options.c: what was given (NULL = nothing), with defaults; the caller has one reference. */
const struct hb_h2_options *hb_h2__options(struct hb_worker *, const struct hb_h2_options *);
void hb_h2__options_drop(struct hb_worker *, const struct hb_h2_options **);

/* h2_mem.c */
nghttp2_mem hb_h2__mem(struct hb_h2 *);
struct h2_worker *hb_h2__worker(struct hb_worker *);

/* h2_send.c: all frames that windows and the lower transport allow. False = nghttp2 gave up. */
bool hb_h2__send_all(struct hb_h2 *);
/* The same, and the lower transport's end in the same write: one system call, and one record less of TLS's. */
void hb_h2__send_last(struct hb_h2 *);
void hb_h2__send_callbacks(nghttp2_session_callbacks *);

/* h2_writers.c: one wrote in bulk, or is detached; the lower transport is full, or no longer. */
void hb_h2__writer_wrote(struct h2_stream *);
void hb_h2__writer_gone(struct h2_stream *);
void hb_h2__writers_stop(struct hb_h2 *);
void hb_h2__writers_go(struct hb_h2 *);

/* h2_recv.c: takes all of buf, and tells the sinks of streams. */
void hb_h2__receive(struct hb_h2 *, struct hb_buf *buf);
void hb_h2__recv_callbacks(nghttp2_session_callbacks *);

/* h2_guard.c */
void hb_h2__guard_init(struct hb_h2 *);
void hb_h2__guard_fini(struct hb_h2 *);
/* One more of this kind. False: too many, the session is ending. */
bool hb_h2__guard_add(struct hb_h2 *, enum hb_h2_flood);
/* A frame's header, then the whole frame, came or went. False as above. */
bool hb_h2__guard_begin(struct hb_h2 *, const nghttp2_frame_hd *);
bool hb_h2__guard_frame(struct hb_h2 *, const nghttp2_frame *);
void hb_h2__guard_sent(struct hb_h2 *, const nghttp2_frame *);
/* What nghttp2_session_mem_recv answered says what the matter was. */
enum hb_close_reason hb_h2__guard_reason(struct hb_h2 *, int nghttp2_error);
/* The timer fires for whatever is due first. */
void hb_h2__guard_arm(struct hb_h2 *);
/* A PING that hb_h2_drain waits for. */
void hb_h2__guard_drain(struct hb_h2 *);

/* h2_window.c: the sink took n bytes; bytes have to wait for it; the stream leaves the session. */
void hb_h2__window_taken(struct h2_stream *, size_t n);
void hb_h2__window_held(struct h2_stream *);
void hb_h2__window_gone(struct h2_stream *);

/* Streams, for the session. */
struct h2_stream *hb_h2__stream_new(struct hb_h2 *, int32_t id);
/* Tells the sink what is due. Anything may be gone afterwards but the memory. */
void hb_h2__stream_tell(struct h2_stream *);
/* The session ends: from the run queue. */
void hb_h2__stream_lost(struct h2_stream *, enum hb_close_reason);
/* n bytes arrived, borrowed until the batch is over. */
void hb_h2__stream_data(struct h2_stream *, const uint8_t *p, size_t n);
int hb_h2__stream_submit(struct h2_stream *, unsigned status, const struct hb_h2_header *,
    size_t n, bool body);
int hb_h2__stream_request(struct h2_stream *, const struct hb_h2_request *);
/* What was written, and may go: nghttp2 will ask for it. */
void hb_h2__stream_send(struct h2_stream *);
void hb_h2__stream_reset(struct h2_stream *, uint32_t error_code);

/* Fields. */
void hb_h2__fields_add(struct h2_stream *, struct hb_str name, struct hb_str value);
void hb_h2__fields_free(struct h2_fields **);
/* … of the stream, if it has any. */
void hb_h2__fields_drop(struct h2_stream *);
/* `list` has room for fields->n entries. */
void hb_h2__fields_request(const struct h2_fields *, struct hb_h2_request *,
    struct hb_h2_header *list);
uint32_t hb_h2__error_code(enum hb_close_reason);

#endif

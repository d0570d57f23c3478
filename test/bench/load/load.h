/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/bench/load/load.h: what the parts of the load tool share. One thread, one worker.
 *
 * serve.c is the endpoint behind the proxy. On the other side conn.c makes connections by one of
 * the ways (`via`), each with one or more lanes that carry a command, and modes.c works on lanes;
 * blind.c takes ciphertext off a connection without decrypting it. run.c has the phases and the
 * report, usage.c what a run costs the processes, hist.c latencies, hello.c a ClientHello.
 */
#ifndef HB_TEST_BENCH_LOAD_LOAD_H
#define HB_TEST_BENCH_LOAD_LOAD_H

#include "core/event/io.h"
#include "core/facts/facts.h"
#include "core/http/h2.h"
#include "core/transport/tls.h"
#include "test/bench/load/hello.h"
#include "test/bench/load/hist.h"
#include "test/bench/load/usage.h"

#define LOAD_LISTEN_MAX 16u
#define LOAD_CHUNK      (256u * 1024u) /* of an upload; a write of the proxy's own size */

enum load_via { LOAD_RAW, LOAD_SNI, LOAD_TLS, LOAD_H2, LOAD_DOUBLE };
enum load_kind { LOAD_DOWNLOAD, LOAD_UPLOAD, LOAD_ECHO, LOAD_CONNECT, LOAD_STREAM, LOAD_IDLE };

struct load_options {
	const char *mode, *via, *to, *sni, *authority, *inner_authority, *ca, *cert, *key, *peer;
	const char *listen[LOAD_LISTEN_MAX];
	size_t      n_listen;
	uint64_t    connections, streams, seconds_us, warmup_us, count, max_frame, timeout_us;
	bool        honest, resume, unchecked, help;
	int         pids[LOAD_PIDS_MAX];
	size_t      n_pids;
};

struct load_run;
struct load_conn;

/* One command on its way to the endpoint: a socket, TLS, or a stream. Reused, never freed. */
struct load_lane {
	struct load_conn    *conn;
	struct hb_transport *t;       /* owned; NULL = not in use                    */
	uint64_t             begun_ns; /* of the operation that is under way         */
	uint64_t             sent;    /* upload: bytes written                       */
	size_t               got;     /* bytes of the answer that is under way       */
	uint8_t              answer[8];
	bool                 open;    /* the command is on its way                   */
	bool                 ended;   /* we have ended our direction                 */
	bool                 raw;     /* upload: the socket is written directly      */
	struct hb_run        run;
};

struct load_conn {
	struct load_run     *run;
	struct hb_transport *tcp;   /* the lowest, owned by what lies on it; NULL = gone */
	struct hb_transport_watch watch; /* of `tcp` where blind.c needs to know         */
	struct hb_tls_ctx   *tls;   /* the run's, or, to have sessions of its own to resume, owned */
	struct hb_h2        *h2;    /* owned; NULL = none                            */
	struct hb_h2        *inner; /* double: the session inside; owned             */
	int32_t              outer_id; /* double: the stream that carries `inner`   */
	struct load_lane    *lanes; /* owned: as many as --streams                   */
	unsigned             n_open; /* lanes that have been opened since the start  */
	unsigned             n_answered; /* idle: lanes that have answered           */
	bool                 resumed; /* its TLS session was                         */
	bool                 up;    /* has been counted as open                      */
	bool                 lost;  /* has been counted as gone before its time      */
	bool                 begin_blind, again; /* due in `task`                    */
	bool                 blind;
	uint64_t             taken;   /* download: bytes; of ciphertext where it is blind */
	uint64_t             taken_by_half; /* … when the window was half over        */
	uint64_t             credited; /* blind: as many of them were given back      */
	uint64_t             looked_at; /* `taken` when it was looked at last        */
	unsigned             quiet;     /* times that it was the same                */
	struct hb_run        task;
};

/* What a mode does; every slot but `data` may be NULL. */
struct load_mode {
	const char *name;
	enum load_kind kind;
	char        command;
	bool        bulk;     /* counts bytes, else operations                       */
	void (*open)(struct load_lane *);
	/* Bytes of the answer; takes all of buf. */
	void (*data)(struct load_lane *, struct hb_buf *buf, bool end);
	void (*room)(struct load_lane *);      /* the way takes more                  */
	void (*stop)(struct load_lane *);      /* the window is over; may end the lane */
};

enum load_phase { LOAD_OPENING, LOAD_WARMING, LOAD_MEASURING, LOAD_CLOSING, LOAD_DONE };

struct load_run {
	unsigned magic;
#define LOAD_RUN_MAGIC 0x10adca11
	const struct load_options *o;
	const struct load_mode    *mode;
	enum load_via              via;
	bool                       honest;
	struct hb_worker          *w;
	struct sockaddr_storage    to;
	socklen_t                  to_len;
	struct hb_tls_ctx         *tls;    /* owned; NULL = not needed                    */
	struct hb_text             hello;  /* sni: a ClientHello record                   */
	uint8_t                   *hot;    /* LOAD_CHUNK bytes to send                    */
	struct load_conn          *conns;  /* owned: as many as --connections            */
	unsigned                   n_started, n_up, n_lost;
	enum load_phase            phase;
	struct hb_timer            timer;
	struct hb_run              stop;   /* the window is over before its time         */
	bool                       half;   /* the window is half over: see run.c    */
	struct hb_io               input;  /* idle: standard input                       */
	uint64_t                   begun_ns, closing_ms;
	/* Since the start. */
	uint64_t                   bytes, operations, resumed, errors;
	/* Of the window. */
	uint64_t                   window_ns, window_bytes, window_operations, window_resumed;
	struct load_usage          usage;
	struct load_hist           hist;
	char                       error[256]; /* the first; "" = none */
};

/* NULL = there is none of this name. */
const struct load_mode *load_mode_find(const char *name);

int load_serve(const struct load_options *);
int load_measure(const struct load_options *);

/* run.c: something went wrong that should not; too many of them end the run. */
void load_error(struct load_run *, const char *fmt, ...) HB_PRINTF(2, 3);
/* A connection is open as far as its mode needs it for the window to begin. */
void load_up(struct load_conn *);
/* A connection that nothing begins again is gone before the window is over. */
void load_lost(struct load_conn *);
/* The operation of this lane is done; it has its latency. */
void load_done(struct load_lane *);
bool load_stopping(const struct load_run *);
uint64_t load_now_ns(void);

/* conn.c */
int  load_tls_new(struct load_run *, struct hb_tls_ctx **ret, struct hb_err *reterr);
void load_conn_init(struct load_conn *, struct load_run *);
void load_conn_fini(struct load_conn *);
void load_conn_start(struct load_conn *);
/* Lets go of the connection once its lanes are over; `now`: at once. */
void load_conn_end(struct load_conn *, bool now);
bool load_conn_idle(const struct load_conn *);
void load_lane_write(struct load_lane *, const void *p, size_t n, bool end);
/* Ends the lane; nothing more is told about it. */
void load_lane_finish(struct load_lane *);
/* connect, stream: the operation on this lane is over, the next one begins. */
void load_lane_next(struct load_lane *);

/* blind.c: from now on what arrives is counted and dropped below the lowest session. */
void load_blind_begin(struct load_conn *);
/* Its streams are over: ends the connection, at once or, from the inside out, in two calls. */
void load_blind_end(struct load_conn *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor terminate PORT ORIGIN CERTIFICATE KEY: HBONE ends here, with BoringSSL and nghttp2 as in hbone.
 * mTLS 1.3 (a peer proves that it has the key of its certificate, as one does whose chain is remembered),
 * each CONNECT stream to 127.0.0.1:ORIGIN.
 *
 * Records are decrypted where they were received and written on from there. What comes from a socket is
 * received in cells of one record each, the first bytes of which are left out for the head of a DATA
 * frame; it is encrypted from there into the buffer that is sent. So no byte in bulk is copied. Small
 * frames are gathered, what a turn has for a connection is one send.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/pool.h>
#include <openssl/ssl.h>

#include "core/transport/tls_record_priv.h"
#include "test/bench/floor.h"

#define BATCH  (1u << 20)
#define CELL   HB_TLS_RECORD_MAX
#define CELLS  (BATCH / CELL)
#define HEAD   9u /* of a frame                                          */
#define SMALL  4096u
#define WINDOW 0x40000000
#define SEGS   (BATCH / (HEAD + 1))
#define IOV    1024
#define RECORD 5u /* header of a record                                  */

/* Plaintext that a stream has not written yet; it lies in the buffer of its session. */
struct seg {
	const uint8_t *p;
	size_t n;
	struct seg *next;
};

/* Pooled. Room for a batch with what encryption adds, and for what is small at its end. */
struct buffer {
	struct buffer *next;
	size_t off, len; /* of ciphertext, sent up to off; of a batch, with off bytes behind it */
	struct seg *seg; /* free ones */
	uint8_t p[2 * BATCH];
	struct seg segs[SEGS];
};

struct stream {
	struct session *s;
	struct stream *next;    /* of the session                                 */
	struct stream *touched; /* next one that this batch brought bytes for     */
	int32_t id;
	int fd;
	bool dials, stands, readable, writable, hup;
	bool bulk;        /* the last read filled a record                  */
	bool deferred;    /* nghttp2 is to be told of bytes                 */
	bool ended;       /* the socket has                                 */
	bool fin, shut;   /* the peer has; it was passed on                 */
	bool over, reset; /* for nghttp2                                    */
	bool is_touched, stuck;
	struct seg *first, *last;
	uint8_t *tx;         /* received, with HEAD bytes of room before it    */
	size_t tx_len, cell; /* cell: bytes up to the next room                */
};

struct session {
	int fd;
	SSL *ssl;
	nghttp2_session *ng;
	struct stream *streams;
	struct buffer *in;  /* that streams have not written all of; NULL = none */
	struct buffer *out; /* ciphertext; NULL = none                        */
	uint8_t *part;      /* the beginning of a record, of `n_part` bytes   */
	size_t n_part;
	unsigned n_stuck;   /* streams that have not written all of `in`      */
	unsigned n_dials;   /* streams that will have something to say */
	const uint8_t *bio; /* what SSL_read is to see                        */
	size_t n_bio;
	bool secured, readable, writable, watched, hup;
	bool credit; /* came, so streams may go on                     */
	bool over;   /* nothing more comes                             */
	bool is_dirty;
	struct session *dirty;
};

/* By descriptor: one of both. */
struct end {
	struct session *s;
	struct stream *st;
};

static struct end *ends;
static SSL_CTX *tls;
static nghttp2_session_callbacks *callbacks;
static nghttp2_option *options;
static BIO_METHOD method;

static struct buffer *pool, *scratch;
static struct session *dirty;
static struct stream *touched;

/* Small plaintext that is not encrypted yet, of one session at a time. */
static uint8_t stage[CELL];
static size_t n_stage;
static struct session *stage_of;

static struct buffer *
buffer_get(void)
{
	struct buffer *b = pool;

	if (b == NULL)
		b = hb_malloc(sizeof *b);
	else
		pool = b->next;
	b->off = b->len = 0;
	b->seg = b->segs;
	return (b);
}

static void
buffer_put(struct buffer **pb)
{
	(*pb)->next = pool;
	pool = *pb;
	*pb = NULL;
}

static void
mark(struct session *s)
{
	if (s->is_dirty)
		return;
	s->is_dirty = true;
	s->dirty = dirty;
	dirty = s;
}

/* ------------------------------------------------------------------ to the session's socket */

static uint8_t *
out_room(struct session *s, size_t n)
{
	if (s->out == NULL)
		s->out = buffer_get();
	HB_ASSERT(s->out->len + n <= sizeof s->out->p);
	return (s->out->p + s->out->len);
}

static int
bio_write(BIO *bio, const char *p, int n)
{
	struct session *s = BIO_get_data(bio);

	memcpy(out_room(s, (size_t)n), p, (size_t)n);
	s->out->len += (size_t)n;
	return (n);
}

static void
seal(struct session *s, const uint8_t *p, size_t n)
{
	size_t used, k;

	for (; n > 0; p += k, n -= k) {
		k = HB_MIN(n, (size_t)CELL);
		used = hb_tls__seal(s->ssl, out_room(s, k + HB_TLS_RECORD_EXTRA), p, k);
		s->out->len += used;
		/* The ticket goes first. */
		if (used == 0)
			HB_ASSERT(SSL_write(s->ssl, p, (int)k) == (int)k);
	}
}

static void
stage_seal(void)
{
	if (n_stage > 0)
		seal(stage_of, stage, n_stage);
	n_stage = 0;
}

static void
stage_add(struct session *s, const uint8_t *p, size_t n)
{
	if (stage_of != s || n_stage + n > sizeof stage)
		stage_seal();
	stage_of = s;
	HB_ASSERT(n <= sizeof stage);
	memcpy(stage + n_stage, p, n);
	n_stage += n;
	mark(s);
}

static void
flush(struct session *s)
{
	struct buffer *b;
	ssize_t n;

	if (stage_of == s)
		stage_seal();
	b = s->out;
	if (b == NULL || !s->writable)
		return;
	n = send(s->fd, b->p + b->off, b->len - b->off, MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN)
		s->over = true;
	b->off += (size_t)HB_MAX(n, (ssize_t)0);
	s->writable = b->off == b->len;
	if (s->writable || s->over)
		buffer_put(&s->out);
}

/* Frames that nghttp2 has. */
static void
frames(struct session *s)
{
	const uint8_t *p;
	ssize_t n;

	while ((n = nghttp2_session_mem_send(s->ng, &p)) > 0)
		stage_add(s, p, (size_t)n);
	HB_ASSERT(n == 0);
}

static ssize_t
frame_length(nghttp2_session *ng, uint8_t type, int32_t id, int32_t session_window,
	int32_t stream_window, uint32_t frame_max, void *arg)
{
	const struct stream *st = nghttp2_session_get_stream_user_data(ng, id);

	(void)type;
	(void)session_window;
	(void)stream_window;
	(void)arg;
	return ((ssize_t)HB_MIN((size_t)frame_max, HB_MAX(st->cell, (size_t)1)));
}

static ssize_t
frame_source(nghttp2_session *ng, int32_t id, uint8_t *p, size_t room, uint32_t *flags,
	nghttp2_data_source *source, void *arg)
{
	struct stream *st = source->ptr;

	(void)ng;
	(void)id;
	(void)p;
	(void)arg;
	*flags = NGHTTP2_DATA_FLAG_NO_COPY;
	if (st->tx_len == 0 && st->ended)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	else if (st->tx_len == 0)
		st->deferred = true;
	return (st->tx_len == 0 && !st->ended ? NGHTTP2_ERR_DEFERRED :
						(ssize_t)HB_MIN(room, st->tx_len));
}

/* The head of the frame goes into the room before its bytes: nothing there is needed any more. */
static int
frame_send(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *head, size_t n,
	nghttp2_data_source *source, void *arg)
{
	struct session *s = arg;
	struct stream *st = source->ptr;

	(void)ng;
	(void)frame;
	if (n == 0) {
		stage_add(s, head, HEAD);
		return (0);
	}
	memcpy(st->tx - HEAD, head, HEAD);
	if (n + HEAD <= SMALL) {
		stage_add(s, st->tx - HEAD, n + HEAD);
	} else {
		stage_seal();
		seal(s, st->tx - HEAD, n + HEAD);
	}
	st->tx += n;
	st->tx_len -= n;
	st->cell -= n;
	if (st->cell == 0) {
		st->tx += HEAD;
		st->cell = HB_MIN(st->tx_len, (size_t)CELL - HEAD);
	}
	return (0);
}

/* ------------------------------------------------------------------ from the stream's socket */

/* Into cells, or for a peer that takes larger frames in one piece. */
static ssize_t
take(struct stream *st, size_t room, size_t *ret_asked)
{
	uint32_t frame_max = nghttp2_session_get_remote_settings(
		st->s->ng, NGHTTP2_SETTINGS_MAX_FRAME_SIZE);
	struct iovec iov[CELLS];
	struct msghdr m = { .msg_iov = iov };
	size_t n, asked = 0;

	st->tx = scratch->p + HEAD;
	if (!st->bulk || frame_max > CELL) {
		*ret_asked = HB_MIN(room, st->bulk ? BATCH - HEAD : (size_t)CELL - HEAD);
		return (recv(st->fd, st->tx, *ret_asked, 0));
	}
	for (; m.msg_iovlen < CELLS && asked < room; m.msg_iovlen++) {
		n = HB_MIN(room - asked, (size_t)CELL - HEAD);
		iov[m.msg_iovlen].iov_base = scratch->p + m.msg_iovlen * CELL + HEAD;
		iov[m.msg_iovlen].iov_len = n;
		asked += n;
	}
	*ret_asked = asked;
	return (recvmsg(st->fd, &m, 0));
}

/* No more than the peer has room for, so that nothing is left. */
static size_t
room_of(const struct stream *st)
{
	int32_t session = nghttp2_session_get_remote_window_size(st->s->ng);
	int32_t own = nghttp2_session_get_stream_remote_window_size(st->s->ng, st->id);

	return ((size_t)HB_MAX(HB_MIN(session, own), 0));
}

static void
tell(struct stream *st)
{
	if (st->deferred)
		HB_ASSERT(nghttp2_session_resume_data(st->s->ng, st->id) == 0);
	st->deferred = false;
	frames(st->s);
	HB_ASSERT(st->tx_len == 0);
	if (st->s->out != NULL && st->s->out->len >= BATCH / 2)
		flush(st->s);
	else
		mark(st->s);
}

static void
socket_read(struct stream *st)
{
	struct session *s = st->s;
	size_t room, asked;
	ssize_t n;

	while (st->stands && st->readable && !st->ended && !st->over && s->writable && !s->over) {
		room = room_of(st);
		if (room == 0)
			return;
		n = take(st, room, &asked);
		st->readable = n == (ssize_t)asked || (st->hup && n > 0);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			(void)nghttp2_submit_rst_stream(s->ng, 0, st->id, NGHTTP2_CONNECT_ERROR);
			mark(s);
			return;
		}
		st->ended = n == 0;
		st->tx_len = (size_t)n;
		st->cell = n < (ssize_t)(CELL - HEAD) || !st->bulk ||
				nghttp2_session_get_remote_settings(
					s->ng, NGHTTP2_SETTINGS_MAX_FRAME_SIZE) > CELL ?
			st->tx_len :
			CELL - HEAD;
		st->bulk = (size_t)n >= CELL - HEAD;
		tell(st);
	}
}

/* ------------------------------------------------------------------ to the stream's socket */

static void
shut(struct stream *st)
{
	if (!st->fin || st->shut || !st->stands || st->first != NULL)
		return;
	st->shut = true;
	(void)shutdown(st->fd, SHUT_WR);
}

/* What was written goes off the list. */
static void
written(struct stream *st, size_t n)
{
	while (st->first != NULL && n >= st->first->n) {
		n -= st->first->n;
		st->first = st->first->next;
	}
	if (st->first == NULL)
		return;
	st->first->p += n;
	st->first->n -= n;
}

static void
socket_write(struct stream *st)
{
	struct iovec iov[IOV];
	struct msghdr m;
	size_t asked;
	ssize_t n;

	while (st->first != NULL && st->writable && !st->reset) {
		m = (struct msghdr){ .msg_iov = iov };
		asked = 0;
		for (struct seg *g = st->first; g != NULL && m.msg_iovlen < IOV; g = g->next) {
			iov[m.msg_iovlen].iov_base = (void *)(uintptr_t)g->p;
			iov[m.msg_iovlen++].iov_len = g->n;
			asked += g->n;
		}
		n = m.msg_iovlen == 1 ?
			send(st->fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL) :
			sendmsg(st->fd, &m, MSG_NOSIGNAL);
		st->writable = n == (ssize_t)asked;
		if (n < 0 && errno != EAGAIN)
			n = (ssize_t)asked; /* reading tells */
		written(st, (size_t)HB_MAX(n, (ssize_t)0));
	}
	if (st->reset)
		st->first = NULL;
	shut(st);
}

/* All that a batch has brought. True: a stream has not written it yet. */
static bool
write_touched(struct session *s)
{
	struct stream *st;

	while ((st = touched) != NULL) {
		touched = st->touched;
		st->is_touched = false;
		if (st->writable)
			socket_write(st);
		if (st->first != NULL && !st->stuck) {
			st->stuck = true;
			s->n_stuck++;
		}
	}
	return (s->n_stuck > 0);
}

/* ------------------------------------------------------------------ nghttp2 tells */

static int
on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *arg)
{
	struct session *s = arg;
	struct stream *st;

	if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return (0);
	st = hb_calloc(1, sizeof *st);
	st->s = s;
	st->id = frame->hd.stream_id;
	st->fd = -1;
	st->next = s->streams;
	s->streams = st;
	return (nghttp2_session_set_stream_user_data(ng, st->id, st));
}

static void
dial(struct stream *st)
{
	int on = 1;

	st->fd = floor_dial();
	(void)setsockopt(st->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	ends[st->fd].st = st;
	st->dials = true;
	st->s->n_dials++;
	floor_watch(st->fd);
}

static void
dialled(struct stream *st)
{
	st->s->n_dials -= st->dials;
	st->dials = false;
}

static int
on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *arg)
{
	struct stream *st = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
	struct session *s = arg;

	if (frame->hd.type == NGHTTP2_WINDOW_UPDATE)
		s->credit = true;
	if (st == NULL)
		return (0);
	if (frame->hd.type == NGHTTP2_HEADERS && st->fd < 0)
		dial(st);
	if (frame->hd.type <= NGHTTP2_HEADERS && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
		st->fin = true;
		shut(st);
	}
	return (0);
}

static int
on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *arg)
{
	struct stream *st = nghttp2_session_get_stream_user_data(ng, id);
	struct session *s = arg;
	struct seg *g;

	(void)flags;
	if (st == NULL)
		return (0);
	g = s->in->seg++;
	HB_ASSERT(g < s->in->segs + SEGS);
	*g = (struct seg){ .p = p, .n = n };
	if (st->first == NULL)
		st->first = g;
	else
		st->last->next = g;
	st->last = g;
	if (!st->is_touched) {
		st->is_touched = true;
		st->touched = touched;
		touched = st;
	}
	return (0);
}

/* Its memory goes at the end of the turn: it may be among the touched. */
static int
on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *arg)
{
	struct stream *st = nghttp2_session_get_stream_user_data(ng, id);

	if (st != NULL) {
		st->over = true;
		st->reset = code != NGHTTP2_NO_ERROR;
	}
	mark(arg);
	return (0);
}

static void
http2_begin(struct session *s)
{
	static const nghttp2_settings_entry entries[] = {
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW },
		{ NGHTTP2_SETTINGS_MAX_FRAME_SIZE, BATCH },
	};

	HB_ASSERT(nghttp2_session_server_new2(&s->ng, callbacks, s, options) == 0);
	HB_ASSERT(nghttp2_submit_settings(s->ng, 0, entries, HB_ARRAY_LEN(entries)) == 0);
	HB_ASSERT(nghttp2_session_set_local_window_size(s->ng, 0, 0, WINDOW) == 0);
}

/* ------------------------------------------------------------------ from the session's socket */

static int
bio_read(BIO *bio, char *p, int n)
{
	struct session *s = BIO_get_data(bio);
	size_t k = HB_MIN((size_t)n, s->n_bio);

	BIO_clear_retry_flags(bio);
	if (k == 0) {
		BIO_set_retry_read(bio);
		return (-1);
	}
	memcpy(p, s->bio, k);
	s->bio += k;
	s->n_bio -= k;
	return ((int)k);
}

static void
feed(struct session *s, const uint8_t *p, size_t n)
{
	if (n > 0 && nghttp2_session_mem_recv(s->ng, p, n) != (ssize_t)n)
		s->over = true;
}

/* What is no plain record of data; returns the bytes that are done with. */
static size_t
by_library(struct session *s, const uint8_t *p, size_t n)
{
	uint8_t *to;
	int r;

	s->bio = p;
	s->n_bio = n;
	if (!s->secured) {
		r = SSL_do_handshake(s->ssl);
		s->secured = r == 1;
		if (s->secured)
			http2_begin(s);
	} else {
		to = s->in->p + BATCH + s->in->off;
		r = SSL_read(s->ssl, to, CELL);
		feed(s, to, (size_t)HB_MAX(r, 0));
		s->in->off += (size_t)HB_MAX(r, 0);
	}
	if (r <= 0 && SSL_get_error(s->ssl, r) != SSL_ERROR_WANT_READ)
		s->over = true;
	mark(s);
	return (n - s->n_bio);
}

static bool
is_whole(const uint8_t *p, size_t n)
{
	return (n >= RECORD && n - RECORD >= ((size_t)p[3] << 8 | p[4]));
}

/* Returns the bytes of the buffer that are not done with: a part of a record. */
static size_t
records(struct session *s, uint8_t *p, size_t n)
{
	size_t used, plain;
	uint8_t *at;

	while (n > 0 && !s->over && (!s->secured || is_whole(p, n))) {
		plain = used = 0;
		if (s->secured)
			used = hb_tls__open(s->ssl, p, n, &at, &plain);
		if (plain > 0)
			feed(s, at, plain);
		else
			used += by_library(s, p + used, n - used);
		p += used;
		n -= used;
	}
	return (n);
}

static void
keep_part(struct session *s, const uint8_t *p, size_t n)
{
	if (n > 0 && s->part == NULL)
		s->part = hb_malloc(CELL + HB_TLS_RECORD_EXTRA);
	if (n > 0)
		memcpy(s->part, p, n);
	s->n_part = n;
}

static void
session_read(struct session *s)
{
	struct buffer *b;
	size_t asked, left;
	ssize_t n;

	while (s->readable && s->in == NULL && !s->over) {
		b = s->in = buffer_get();
		if (s->n_part > 0)
			memcpy(b->p, s->part, s->n_part);
		asked = BATCH - s->n_part;
		n = recv(s->fd, b->p + s->n_part, asked, 0);
		s->readable = n == (ssize_t)asked || (s->hup && n > 0);
		s->over = n == 0 || (n < 0 && errno != EAGAIN);
		if (n > 0) {
			b->len = s->n_part + (size_t)n;
			left = records(s, b->p, b->len);
			keep_part(s, b->p + b->len - left, left);
			if (s->secured)
				frames(s);
		}
		mark(s);
		if (!write_touched(s))
			buffer_put(&s->in);
	}
}

/* ------------------------------------------------------------------ life */

static void
accepted(int fd)
{
	struct session *s = hb_calloc(1, sizeof *s);
	BIO *bio = BIO_new(&method);

	s->fd = fd;
	s->ssl = SSL_new(tls);
	HB_ASSERT(bio != NULL && s->ssl != NULL);
	BIO_set_data(bio, s);
	SSL_set_bio(s->ssl, bio, bio);
	SSL_set_accept_state(s->ssl);
	s->readable = s->writable = true;
	ends[fd].s = s;
	/* The hello is often here already. */
	session_read(s);
	floor_watch(fd);
}

static void
stream_free(struct stream *st)
{
	if (st->stuck)
		st->s->n_stuck--;
	dialled(st);
	if (st->fd >= 0) {
		ends[st->fd].st = NULL;
		(void)close(st->fd);
	}
	hb_free(st);
}

static void
session_free(struct session *s)
{
	struct stream *st;

	while ((st = s->streams) != NULL) {
		s->streams = st->next;
		stream_free(st);
	}
	nghttp2_session_del(s->ng);
	if (s->secured)
		(void)SSL_shutdown(s->ssl);
	flush(s);
	if (stage_of == s)
		stage_of = NULL;
	if (s->in != NULL)
		buffer_put(&s->in);
	if (s->out != NULL)
		buffer_put(&s->out);
	SSL_free(s->ssl);
	ends[s->fd].s = NULL;
	(void)close(s->fd);
	hb_free(s->part);
	hb_free(s);
}

/* What waited for the session's socket, or for credit. */
static void
go_on(struct session *s)
{
	s->credit = false;
	for (struct stream *st = s->streams; st != NULL; st = st->next)
		socket_read(st);
}

/* Streams that are over go, once they have written what came. */
static void
reap(struct session *s)
{
	struct stream **ps = &s->streams, *st;

	while ((st = *ps) != NULL) {
		if (!st->over || (st->first != NULL && !st->reset)) {
			ps = &st->next;
			continue;
		}
		*ps = st->next;
		stream_free(st);
	}
}

static void
turned(void)
{
	struct session *s;

	while ((s = dirty) != NULL) {
		dirty = s->dirty;
		if (s->credit)
			go_on(s);
		if (s->secured && !s->over)
			frames(s);
		reap(s);
		if (s->n_stuck == 0 && s->in != NULL)
			buffer_put(&s->in);
		/* SETTINGS and the ticket go with the first answer, which is near. */
		if (s->n_dials == 0 || s->over || s->out != NULL)
			flush(s);
		s->is_dirty = false;
		if (s->over)
			session_free(s);
	}
}

/* ------------------------------------------------------------------ events */

static void
session_event(struct session *s, uint32_t events)
{
	s->hup = s->hup || (events & EPOLLRDHUP) != 0;
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		s->readable = true;
		session_read(s);
	}
	if ((events & EPOLLOUT) && !s->writable) {
		s->writable = true;
		flush(s);
		if (s->writable)
			go_on(s);
		mark(s);
	}
}

static void
stands(struct stream *st)
{
	static const nghttp2_nv ok = { (uint8_t *)":status", (uint8_t *)"200", 7, 3, 0 };
	nghttp2_data_provider source = { { .ptr = st }, frame_source };

	st->stands = true;
	HB_ASSERT(nghttp2_submit_response(st->s->ng, st->id, &ok, 1, &source) == 0);
	mark(st->s);
	shut(st);
}

static void
stream_event(struct stream *st, uint32_t events)
{
	struct session *s = st->s;

	st->hup = st->hup || (events & EPOLLRDHUP) != 0;
	dialled(st);
	if (!st->stands && (events & (EPOLLHUP | EPOLLERR))) {
		(void)nghttp2_submit_rst_stream(s->ng, 0, st->id, NGHTTP2_CONNECT_ERROR);
		mark(s);
		return;
	}
	if (!st->stands && (events & EPOLLOUT))
		stands(st);
	if (events & EPOLLOUT) {
		st->writable = true;
		socket_write(st);
		if (st->stuck && st->first == NULL) {
			st->stuck = false;
			s->n_stuck--;
		}
		if (s->n_stuck == 0 && s->in != NULL) {
			buffer_put(&s->in);
			session_read(s);
		}
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		st->readable = true;
		socket_read(st);
	}
}

static void
event(int fd, uint32_t events)
{
	if (ends[fd].s != NULL)
		session_event(ends[fd].s, events);
	else if (ends[fd].st != NULL)
		stream_event(ends[fd].st, events);
}

/* ------------------------------------------------------------------ start */

static enum ssl_verify_result_t
remembered(SSL *ssl, uint8_t *ret_alert)
{
	(void)ssl;
	(void)ret_alert;
	return (ssl_verify_ok);
}

static int
select_h2(SSL *ssl, const uint8_t **ret, uint8_t *ret_n, const uint8_t *offered, unsigned n,
	void *arg)
{
	uint8_t *chosen;

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto(&chosen, ret_n, (const uint8_t *)"\2h2", 3, offered, n) !=
		OPENSSL_NPN_NEGOTIATED)
		return (SSL_TLSEXT_ERR_ALERT_FATAL);
	*ret = chosen;
	return (SSL_TLSEXT_ERR_OK);
}

static long
bio_ctrl(BIO *bio, int cmd, long n, void *p)
{
	(void)bio;
	(void)n;
	(void)p;
	return (cmd == BIO_CTRL_FLUSH);
}

static int
bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return (1);
}

static void
set_certificate(const char *cert, const char *key)
{
	BIO *c = BIO_new_file(cert, "r"), *k = BIO_new_file(key, "r");
	EVP_PKEY *private = k == NULL ? NULL : PEM_read_bio_PrivateKey(k, NULL, NULL, NULL);
	char *name, *header;
	uint8_t *der;
	long n;
	CRYPTO_BUFFER *chain;

	if (c == NULL || private == NULL || PEM_read_bio(c, &name, &header, &der, &n) != 1) {
		fprintf(stderr, "floor: cannot read %s and %s\n", cert, key);
		exit(1);
	}
	chain = CRYPTO_BUFFER_new(der, (size_t)n, NULL);
	HB_ASSERT(SSL_CTX_set_chain_and_key(tls, &chain, 1, private, NULL) == 1);
	CRYPTO_BUFFER_free(chain);
	EVP_PKEY_free(private);
	OPENSSL_free(name);
	OPENSSL_free(header);
	OPENSSL_free(der);
	(void)BIO_free(c);
	(void)BIO_free(k);
}

static void
begin(size_t n_files, char **arguments)
{
	ends = hb_calloc(n_files, sizeof *ends);
	scratch = buffer_get();
	method = (BIO_METHOD){ .type = BIO_TYPE_SOURCE_SINK,
		.name = "floor",
		.bwrite = bio_write,
		.bread = bio_read,
		.ctrl = bio_ctrl,
		.create = bio_create };
	tls = SSL_CTX_new(TLS_with_buffers_method());
	HB_ASSERT(tls != NULL && SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) == 1);
	SSL_CTX_set_retain_only_sha256_of_client_certs(tls, 1);
	SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
	HB_ASSERT(SSL_CTX_set_session_id_context(tls, (const uint8_t *)"f", 1) == 1);
	HB_ASSERT(SSL_CTX_set_num_tickets(tls, 1) == 1);
	SSL_CTX_set_custom_verify(
		tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, remembered);
	SSL_CTX_set_alpn_select_cb(tls, select_h2, NULL);
	set_certificate(arguments[0], arguments[1]);
	HB_ASSERT(nghttp2_option_new(&options) == 0 &&
		nghttp2_session_callbacks_new(&callbacks) == 0);
	nghttp2_option_set_no_http_messaging(options, 1);
	nghttp2_option_set_no_closed_streams(options, 1);
	nghttp2_option_set_max_deflate_dynamic_table_size(options, 0);
	nghttp2_option_set_stream_reset_rate_limit(options, 100000, 10000);
	nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, frame_length);
	nghttp2_session_callbacks_set_send_data_callback(callbacks, frame_send);
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}

const struct floor_work floor_terminate = { begin, accepted, event, turned };

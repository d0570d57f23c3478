/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One direction of a pump by splice(2): socket -> pipe -> socket, without a copy. The pipe is as
 * large as the system allows, filled only when it is empty (EAGAIN then means that the socket is
 * drained, never that the pipe is full) and given back when it is empty and nothing more waits.
 * Copying through 256 KiB instead costs 1.7 to 2.0 times the CPU a byte, through 16 KiB as others do
 * five to seven times (rows P1, P1b of docs/performance.md).
 */
#include "core/transport/pump_priv.h"

#ifdef __linux__
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>
#include "core/event/io.h"
#include "core/transport/tcp_priv.h"
#include "core/transport/transport_priv.h"

#define PIPE_SIZE     (1024 * 1024)
#define PIPE_SIZE_MIN (64 * 1024)     /* smaller ones do not pay                                 */
#define POOL_KEEP     32u             /* empty pipes that a worker keeps                          */
#define BYTES_A_TURN  (1024u * 1024u) /* then others get their turn */
#define SMALL         (16u * 1024u)   /* a wakeup that brings less is cheaper by copying        */
#define SMALL_MAX     16u             /* so many in a row end splicing                            */
#define COPY_PIECE    (64u * 1024u)

ssize_t (*hb_pump_splice_call)(int, loff_t *, int, loff_t *, size_t, unsigned) = splice;

/* ------------------------------------------------------------------ pipes */

struct pipe {
	struct pipe *next; /* in the pool */
	int r, w;
	size_t size;
};

struct pool {
	unsigned magic;
#define POOL_MAGIC 0x70697065
	struct pipe *free;
	unsigned nfree, nout;
	_Atomic uint64_t spliced; /* bytes; written by the worker, read by anybody */
};

/* Written when a pipe is made or closed, not when it goes through a pool. */
static _Atomic unsigned pipes_open;
static _Atomic unsigned pipes_max = UINT_MAX; /* UINT_MAX = not asked for yet */

void
hb_pump_pipes_max(unsigned n)
{
	atomic_store(&pipes_max, HB_MIN(n, UINT_MAX - 1));
}

static unsigned
limit(void)
{
	unsigned n = atomic_load_explicit(&pipes_max, memory_order_relaxed);
	struct rlimit rl;

	if (n != UINT_MAX)
		return (n);
	if (getrlimit(RLIMIT_NOFILE, &rl) != 0)
		rl.rlim_cur = 1024;
	n = (unsigned)HB_MIN(rl.rlim_cur / 8, (rlim_t)100000);
	atomic_store(&pipes_max, n);
	return (n);
}

static void
pipe_close(struct pipe *pi)
{
	(void)close(pi->r);
	(void)close(pi->w);
	hb_free(pi);
	atomic_fetch_sub(&pipes_open, 1);
}

static void
pool_fini(void *arg)
{
	struct pool *pool;

	HB_CAST(pool, arg, POOL_MAGIC);
	HB_ASSERT(pool->nout == 0);
	while (pool->free != NULL) {
		struct pipe *pi = pool->free;

		pool->free = pi->next;
		pipe_close(pi);
	}
	HB_DEL(pool);
}

static struct pool *
pool_of(struct hb_worker *w)
{
	struct hb_transport_state *s = hb_transport_state(w);
	struct pool *pool = s->pump;

	if (pool == NULL) {
		HB_NEW(pool, POOL_MAGIC);
		HB_SHOWN_PTR_SET(s->pump, pool);
		s->pump_fini = pool_fini;
	}
	HB_CHECK(pool, POOL_MAGIC);
	return (pool);
}

static struct pipe *
pipe_new(void)
{
	struct pipe *pi;
	int fd[2], size = -1;

	if (atomic_fetch_add(&pipes_open, 1) >= limit() || pipe2(fd, O_NONBLOCK | O_CLOEXEC) != 0) {
		atomic_fetch_sub(&pipes_open, 1);
		return (NULL);
	}
	/* Users without privileges have a budget (fs.pipe-user-pages-soft): take what is left. */
	for (int want = PIPE_SIZE; size < 0 && want >= PIPE_SIZE_MIN; want /= 2)
		size = fcntl(fd[1], F_SETPIPE_SZ, want);
	if (size < 0)
		size = fcntl(fd[1], F_GETPIPE_SZ);
	pi = hb_calloc(1, sizeof *pi);
	pi->r = fd[0];
	pi->w = fd[1];
	pi->size = size < 0 ? 0 : (size_t)size;
	if (pi->size < PIPE_SIZE_MIN) {
		pipe_close(pi);
		return (NULL);
	}
	return (pi);
}

static struct pipe *
pipe_take(struct hb_worker *w)
{
	struct pool *pool = pool_of(w);
	struct pipe *pi = pool->free;

	if (pi != NULL) {
		pool->free = pi->next;
		HB_SHOWN_ADD(pool->nfree, -1u);
	} else {
		pi = pipe_new();
		if (pi == NULL)
			return (NULL);
	}
	HB_SHOWN_ADD(pool->nout, 1);
	return (pi);
}

static void
pipe_give(struct hb_worker *w, struct pipe *pi, bool empty)
{
	struct pool *pool = pool_of(w);

	HB_ASSERT(pool->nout > 0);
	HB_SHOWN_ADD(pool->nout, -1u);
	if (!empty || pool->nfree >= POOL_KEEP) {
		pipe_close(pi);
		return;
	}
	pi->next = pool->free;
	pool->free = pi;
	HB_SHOWN_ADD(pool->nfree, 1);
}

unsigned
hb_pump_pipes(const struct hb_worker *w)
{
	const struct hb_transport_state *s = HB_SHOWN_PTR(w->slot[HB_SLOT_TRANSPORT]);
	const struct pool *pool = s == NULL ? NULL : HB_SHOWN_PTR(s->pump);

	return (pool == NULL ? 0 : HB_SHOWN(pool->nfree) + HB_SHOWN(pool->nout));
}

uint64_t
hb_pump_spliced(const struct hb_worker *w)
{
	const struct hb_transport_state *s = HB_SHOWN_PTR(w->slot[HB_SLOT_TRANSPORT]);
	const struct pool *pool = s == NULL ? NULL : HB_SHOWN_PTR(s->pump);

	return (pool == NULL ? 0 : atomic_load_explicit(&pool->spliced, memory_order_relaxed));
}

/* ------------------------------------------------------------------ one direction */

struct spliced {
	unsigned magic;
#define SPLICED_MAGIC 0x73706c69
	struct hb_pump *pump;
	enum hb_pump_side from;
	struct hb_transport *src, *dst; /* the sockets, borrowed; NULL = gone  */
	struct pipe *pipe;              /* NULL = nothing in flight            */
	size_t held;                    /* bytes in it                         */
	bool src_ready, dst_ready;
	unsigned small;
	struct hb_run run; /* goes on after others had their turn */
};

static void go(struct spliced *s);

static struct spliced *
spliced_of(const struct hb_pump *p, enum hb_pump_side from)
{
	struct spliced *s = p->dir[from].splice;

	if (s != NULL)
		HB_CHECK(s, SPLICED_MAGIC);
	return (s);
}

/*
 * A transport whose socket has gone may tell us so later, and the socket be freed before that:
 * whether it is still there must be asked of the outer one, layer by layer.
 */
static bool
alive(struct hb_transport *outer, const struct hb_transport *raw)
{
	struct hb_transport *t = raw == NULL ? NULL : outer;

	while (t != NULL && !t->dead && t->close_due == HB_CLOSE_NONE) {
		if (t == raw)
			return (true);
		t = t->ops->inner == NULL ? NULL : t->ops->inner(t);
	}
	return (false);
}

static bool
src_alive(const struct spliced *s)
{
	return (alive(s->pump->t[s->from], s->src));
}

static bool
dst_alive(const struct spliced *s)
{
	return (alive(s->pump->t[hb_pump_other(s->from)], s->dst));
}

size_t
hb_pump__splice_held(const struct hb_pump *p, enum hb_pump_side from)
{
	const struct spliced *s = spliced_of(p, from);

	return (s == NULL ? 0 : s->held);
}

static void
drop_pipe(struct spliced *s)
{
	if (s->pipe != NULL)
		pipe_give(s->pump->idle.worker, s->pipe, s->held == 0);
	s->pipe = NULL;
	s->held = 0;
}

/* Gives both directions back, with the errors that were seen. */
static void
leave(struct spliced *s, int src_err, int dst_err)
{
	struct hb_transport *src = src_alive(s) ? s->src : NULL,
			    *dst = dst_alive(s) ? s->dst : NULL;
	struct hb_pump *p = s->pump;

	HB_CHECK(s, SPLICED_MAGIC);
	drop_pipe(s);
	hb_run_cancel(&s->run);
	p->dir[s->from].splice = NULL;
	HB_DEL(s);
	/* The write direction first: what the read direction brings needs it. */
	if (dst != NULL)
		hb_tcp_raw_end(dst, HB_DIR_WRITE, dst_err);
	if (src != NULL)
		hb_tcp_raw_end(src, HB_DIR_READ, src_err);
}

void
hb_pump__splice_end(struct hb_pump *p, enum hb_pump_side from)
{
	struct spliced *s = spliced_of(p, from);

	if (s != NULL)
		leave(s, 0, 0);
}

void
hb_pump__splice_rest(struct hb_pump *p, enum hb_pump_side from)
{
	struct spliced *s = spliced_of(p, from);

	if (s != NULL && s->held == 0 && s->src != NULL && !s->src_ready &&
		!hb_list_linked(&s->run.node))
		leave(s, 0, 0);
}

void
hb_pump__splice_source_gone(struct hb_pump *p, enum hb_pump_side from)
{
	struct spliced *s = spliced_of(p, from);

	if (s == NULL)
		return;
	s->src = NULL;
	if (s->held == 0)
		leave(s, 0, 0);
}

/* Counted where the bytes pass, and by the transport that the pump holds. */
static void
count(struct spliced *s, struct hb_transport *raw, enum hb_dir dir, size_t n)
{
	struct hb_transport *outer =
		s->pump->t[dir == HB_DIR_READ ? s->from : hb_pump_other(s->from)];

	hb_tcp_raw_count(raw, dir, n);
	if (outer == raw)
		return;
	if (dir == HB_DIR_READ)
		outer->bytes_in += n;
	else
		outer->bytes_out += n;
}

static bool
not_supported(int err)
{
	return (err == EINVAL || err == ENOSYS || err == EBADF || err == ESPIPE);
}

/* The kernel will not splice into this socket: what the pipe holds goes out by copying. */
static void
copy_out(struct spliced *s)
{
	struct hb_pump *p = s->pump;
	enum hb_pump_side from = s->from;
	struct hb_buf buf = { NULL, NULL, 0 };

	while (s->held > 0) {
		size_t want = HB_MIN(s->held, (size_t)COPY_PIECE);
		ssize_t n = read(s->pipe->r, hb_buf_reserve(&buf, want), want);

		HB_ASSERT(n > 0); /* the bytes are there, it is our own pipe */
		hb_buf_commit(&buf, (size_t)n);
		s->held -= (size_t)n;
	}
	p->splice_off = true;
	leave(s, 0, 0);
	if (buf.len > 0) {
		size_t n = buf.len;

		hb_transport_write(p->t[hb_pump_other(from)], &buf, false);
		if (!hb_pump__progress(p, from, n))
			return;
	}
	hb_pump__drained(p);
}

static void
add_spliced(struct hb_worker *w, uint64_t n)
{
	struct pool *pool = pool_of(w);

	atomic_store_explicit(&pool->spliced,
		atomic_load_explicit(&pool->spliced, memory_order_relaxed) + n,
		memory_order_relaxed);
}

/*
 * Empties the pipe. True when it is empty; else the socket takes no more, or the direction is over
 * and `s` gone.
 */
static bool
drain(struct spliced *s)
{
	struct hb_pump *p = s->pump;
	enum hb_pump_side from = s->from;

	while (s->held > 0) {
		ssize_t n;

		if (!dst_alive(s) || !s->dst_ready)
			return (false);
		n = hb_pump_splice_call(s->pipe->r, NULL, hb_tcp_fd(s->dst), NULL, s->held,
			SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n > 0) {
			s->held -= (size_t)n;
			count(s, s->dst, HB_DIR_WRITE, (size_t)n);
			p->dir[from].spliced += (uint64_t)n;
			add_spliced(p->idle.worker, (uint64_t)n);
			if (!hb_pump__progress(p, from, (size_t)n))
				return (false);
		} else if (n < 0 && errno == EAGAIN) {
			s->dst_ready = false;
			hb_tcp_raw_again(s->dst, HB_DIR_WRITE);
		} else if (n == 0 || not_supported(errno)) {
			copy_out(s);
			return (false);
		} else if (errno != EINTR) {
			leave(s, 0, errno);
			return (false);
		}
	}
	return (true);
}

/* Fills the empty pipe. True when it holds bytes; else nothing waits, or the direction is over. */
static bool
fill(struct spliced *s)
{
	ssize_t n;

	if (s->pipe == NULL)
		s->pipe = pipe_take(s->pump->idle.worker);
	if (s->pipe == NULL) {
		leave(s, 0, 0);
		return (false);
	}
	do {
		n = hb_pump_splice_call(hb_tcp_fd(s->src), NULL, s->pipe->w, NULL, s->pipe->size,
			SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	} while (n < 0 && errno == EINTR);
	if (n > 0) {
		s->held = (size_t)n;
		s->small = s->held < SMALL ? s->small + 1 : 0;
		count(s, s->src, HB_DIR_READ, s->held);
		return (true);
	}
	if (n < 0 && errno == EAGAIN) {
		s->src_ready = false;
		/* After a failed write the transport must look for the end by itself. */
		if (s->small < SMALL_MAX &&
			hb_transport_raw(s->pump->t[s->from], HB_DIR_READ) != NULL) {
			drop_pipe(s);
			hb_tcp_raw_again(s->src, HB_DIR_READ);
			return (false);
		}
		n = 0;
	} else if (n < 0 && not_supported(errno)) {
		s->pump->splice_off = true;
		n = 0;
	}
	/* An end is found again, and reported, by the transport's own read. */
	leave(s, n < 0 ? errno : 0, 0);
	return (false);
}

static void
go(struct spliced *s)
{
	struct hb_pump *p = s->pump;
	size_t moved = 0;

	for (;;) {
		if (!drain(s))
			return;
		if (s->src == NULL) {
			hb_pump__drained(p);
			return;
		}
		if (!src_alive(s) || !dst_alive(s) || !s->src_ready)
			return;
		if (moved >= BYTES_A_TURN) {
			hb_run_soon(p->idle.worker, &s->run);
			return;
		}
		if (!fill(s))
			return;
		moved += s->held;
	}
}

static void
on_run(struct hb_run *run)
{
	go(HB_CONTAINER(run, struct spliced, run));
}

static void
on_raw(void *arg, struct hb_transport *raw, enum hb_dir dir, unsigned events)
{
	struct spliced *s;

	HB_CAST(s, arg, SPLICED_MAGIC);
	if (dir == HB_DIR_READ)
		s->src_ready = true;
	else
		s->dst_ready = true;
	go(s);
}

void
hb_pump__splice_try(struct hb_pump *p, enum hb_pump_side from)
{
	struct hb_transport *outer_src = p->t[from], *outer_dst = p->t[hb_pump_other(from)];
	struct hb_transport *src, *dst;
	struct spliced *s;

	if (outer_src == NULL || outer_dst == NULL || hb_transport_pending(outer_dst) > 0 ||
		outer_src->read_disabled > 0 || limit() == 0)
		return;
	src = hb_transport_raw(outer_src, HB_DIR_READ);
	dst = hb_transport_raw(outer_dst, HB_DIR_WRITE);
	if (!alive(outer_src, src) || !alive(outer_dst, dst))
		return;
	HB_NEW(s, SPLICED_MAGIC);
	s->pump = p;
	s->from = from;
	s->src = src;
	s->dst = dst;
	s->src_ready = s->dst_ready = true;
	hb_run_init(&s->run, on_run);
	p->dir[from].splice = s;
	p->dir[from].drained = false;
	hb_tcp_raw_begin(src, HB_DIR_READ, on_raw, s);
	hb_tcp_raw_begin(dst, HB_DIR_WRITE, on_raw, s);
	go(s);
}

#else /* without splice(2) everything is copied */

void
hb_pump_pipes_max(unsigned n)
{
}

unsigned
hb_pump_pipes(const struct hb_worker *w)
{
	return (0);
}

uint64_t
hb_pump_spliced(const struct hb_worker *w)
{
	return (0);
}

size_t
hb_pump__splice_held(const struct hb_pump *p, enum hb_pump_side from)
{
	return (0);
}

void
hb_pump__splice_end(struct hb_pump *p, enum hb_pump_side from)
{
}

void
hb_pump__splice_rest(struct hb_pump *p, enum hb_pump_side from)
{
}

void
hb_pump__splice_source_gone(struct hb_pump *p, enum hb_pump_side from)
{
}

void
hb_pump__splice_try(struct hb_pump *p, enum hb_pump_side from)
{
}
#endif

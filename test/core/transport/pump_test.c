/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/event/io.h"
#include "core/transport/pair.h"
#include "core/transport/pump_priv.h"
#include "core/transport/tcp.h"

#define TURNS_MAX 200000
#ifdef __SANITIZE_THREAD__
#define MILLIONS 16
#else
#define MILLIONS 64
#endif

static struct hb_worker *w;

/* ------------------------------------------------------------------ what a peer sees */

struct peer {
	struct hb_transport *t;
	struct hb_buf got;
	bool connected, end, high;
	enum hb_close_reason closed; /* NONE = still open */
};

static void
peer_connected(void *sink, struct hb_transport *t)
{
	((struct peer *)sink)->connected = true;
}

static void
peer_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct peer *e = sink;

	hb_buf_own(buf);
	hb_buf_move(&e->got, buf);
	e->end = end;
}

static void
peer_watermark(void *sink, struct hb_transport *t, bool high)
{
	((struct peer *)sink)->high = high;
}

static void
peer_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	struct peer *e = sink;

	e->closed = reason;
	e->t = NULL;
}

static const struct hb_transport_events peer_events = {
	.on_connected = peer_connected,
	.on_data = peer_data,
	.on_watermark = peer_watermark,
	.on_closed = peer_closed,
};

static void
peer_attach(struct peer *e, struct hb_transport *t)
{
	memset(e, 0, sizeof *e);
	e->t = t;
	hb_transport_attach(t, &peer_events, e);
}

static void
peer_write(struct peer *e, const char *text, bool end)
{
	struct hb_buf b = { 0 };

	hb_buf_addz(&b, text);
	hb_transport_write(e->t, &b, end);
}

static void
peer_expect(struct peer *e, const char *text)
{
	char got[256];
	size_t n = hb_buf_copyout(&e->got, 0, got, sizeof got - 1);

	got[n] = '\0';
	assert_string_equal(got, text);
	hb_buf_fini(&e->got);
}

/* ------------------------------------------------------------------ the pump under test */

struct fixture {
	struct hb_pump pump;
	uint64_t progress[2];
	unsigned half_closed[2];
	unsigned done;
	enum hb_pump_side by;
	enum hb_close_reason reason;
	enum hb_close_reason abort_on_progress, abort_on_half_close;
};

static void
on_progress(struct hb_pump *p, enum hb_pump_side from, size_t n)
{
	struct fixture *f = HB_CONTAINER(p, struct fixture, pump);

	assert_true(n > 0);
	f->progress[from] += n;
	if (f->abort_on_progress != HB_CLOSE_NONE)
		hb_pump_abort(p, f->abort_on_progress);
}

static void
on_half_closed(struct hb_pump *p, enum hb_pump_side from)
{
	struct fixture *f = HB_CONTAINER(p, struct fixture, pump);

	f->half_closed[from]++;
	if (f->abort_on_half_close != HB_CLOSE_NONE)
		hb_pump_abort(p, f->abort_on_half_close);
}

static void
on_done(struct hb_pump *p, enum hb_pump_side by, enum hb_close_reason reason)
{
	struct fixture *f = HB_CONTAINER(p, struct fixture, pump);

	assert_null(p->t[HB_PUMP_A]);
	assert_null(p->t[HB_PUMP_B]);
	f->done++;
	f->by = by;
	f->reason = reason;
}

static const struct hb_pump_ops pump_ops = {
	.on_progress = on_progress,
	.on_half_closed = on_half_closed,
	.on_done = on_done,
};

static void
turns(int n)
{
	while (n-- > 0)
		hb_worker_turn(w, false);
}

/* What the loop does until the pump ends; waits for the kernel, bounded. */
static void
until_done(struct fixture *f)
{
	for (int i = 0; i < TURNS_MAX && f->done == 0; i++)
		turns(1);
	assert_int_equal(f->done, 1);
}

static int
setup_with(enum hb_io_backend backend)
{
	hb_io_backend(backend);
	assert_int_equal(hb_workers_init(1, NULL), 0);
	w = hb_worker_at(0);
	hb_worker_enter(w);
	return (0);
}

static int
setup(void **state)
{
	return (setup_with(HB_IO_EPOLL));
}

static int
setup_uv(void **state)
{
	return (setup_with(HB_IO_UV));
}

static int
teardown(void **state)
{
	turns(3);
	assert_int_equal(hb_transport_lingering(w), 0);
	hb_transport_worker_fini(w);
	hb_workers_fini();
	return (0);
}

/* ------------------------------------------------------------------ between two pairs */

/* peer a <-> pump <-> peer b */
static void
pairs_start(struct fixture *f, struct peer *a, struct peer *b, const struct hb_pump_options *opt)
{
	static const struct hb_pump_options none;
	struct hb_transport *a_far, *a_near, *b_near, *b_far;
	struct peer maker_a, maker_b;

	memset(f, 0, sizeof *f);
	hb_pair_new(w, &a_far, &a_near);
	hb_pair_new(w, &b_near, &b_far);
	peer_attach(a, a_far);
	peer_attach(b, b_far);
	peer_attach(&maker_a, a_near);
	peer_attach(&maker_b, b_near);
	hb_transport_accept(a_near);
	hb_transport_accept(b_far);
	turns(2);
	assert_true(maker_a.connected && maker_b.connected && a->connected && b->connected);
	hb_transport_read_disable(a_far, -1);
	hb_transport_read_disable(b_far, -1);
	hb_pump_start(&f->pump, a_near, b_near, &pump_ops, opt == NULL ? &none : opt);
}

static void
test_pump__half_close_both_ways(void **state)
{
	for (int first = 0; first < 2; first++) {
		struct fixture f;
		struct peer a, b, *x = first ? &b : &a, *y = first ? &a : &b;

		pairs_start(&f, &a, &b, NULL);
		peer_write(x, "request", false);
		peer_write(x, " and end", true);
		turns(3);
		peer_expect(y, "request and end");
		assert_true(y->end);
		assert_false(x->end);
		assert_int_equal(f.half_closed[first], 1);
		assert_int_equal(f.half_closed[1 - first], 0);
		assert_int_equal(f.done, 0);
		peer_write(y, "answer", false);
		turns(3);
		peer_expect(x, "answer");
		peer_write(y, "", true);
		turns(3);
		assert_true(x->end);
		assert_int_equal(f.done, 1);
		assert_int_equal(f.reason, HB_CLOSE_DONE);
		assert_int_equal(f.progress[first], 15);
		assert_int_equal(f.pump.dir[1 - first].bytes, 6);
		assert_int_equal(x->closed, HB_CLOSE_DONE);
		assert_int_equal(y->closed, HB_CLOSE_DONE);
	}
}

static void
test_pump__reset_both_ways(void **state)
{
	for (int first = 0; first < 2; first++) {
		struct fixture f;
		struct peer a, b, *x = first ? &b : &a, *y = first ? &a : &b;

		pairs_start(&f, &a, &b, NULL);
		peer_write(x, "last words", false);
		turns(2);
		hb_transport_abort(&x->t, HB_CLOSE_LOCAL_CLOSE);
		turns(3);
		peer_expect(y, "last words");
		assert_false(y->end);
		assert_int_equal(y->closed, HB_CLOSE_PEER_RESET);
		assert_int_equal(f.done, 1);
		assert_int_equal(f.by, first);
		assert_int_equal(f.reason, HB_CLOSE_PEER_RESET);
	}
}

/* The receiver has paused: what was received before the reset still reaches it, then the reset. */
static void
test_pump__reset_waits_for_the_queue(void **state)
{
	struct fixture f;
	struct peer a, b;

	pairs_start(&f, &a, &b, NULL);
	hb_transport_read_disable(b.t, 1);
	peer_write(&a, "kept", false);
	turns(2);
	hb_transport_abort(&a.t, HB_CLOSE_LOCAL_CLOSE);
	turns(3);
	assert_int_equal(f.done, 0);
	assert_int_equal(b.closed, HB_CLOSE_NONE);
	hb_transport_read_disable(b.t, -1);
	turns(3);
	peer_expect(&b, "kept");
	assert_int_equal(b.closed, HB_CLOSE_PEER_RESET);
	assert_int_equal(f.reason, HB_CLOSE_PEER_RESET);
	assert_int_equal(f.by, HB_PUMP_A);
}

static void
test_pump__reset_of_a_stuck_receiver_in_time(void **state)
{
	struct fixture f;
	struct peer a, b;

	hb_clock_fake(w, 1000);
	pairs_start(&f, &a, &b, NULL);
	hb_transport_read_disable(b.t, 1);
	peer_write(&a, "never read", false);
	turns(2);
	hb_transport_abort(&a.t, HB_CLOSE_LOCAL_CLOSE);
	turns(3);
	hb_clock_advance(w, HB_FLUSH_TIMEOUT_MS - 1);
	turns(2);
	assert_int_equal(f.done, 0);
	hb_clock_advance(w, HB_FLUSH_TIMEOUT_MS / 10);
	turns(3);
	assert_int_equal(f.reason, HB_CLOSE_PEER_RESET);
	assert_int_equal(b.closed, HB_CLOSE_PEER_RESET);
}

/* A reset after the end takes nothing back: the other side keeps a clean end. */
static void
test_pump__reset_after_the_end(void **state)
{
	struct fixture f;
	struct peer a, b;

	pairs_start(&f, &a, &b, NULL);
	hb_transport_read_disable(b.t, 1);
	peer_write(&a, "all of it", true);
	turns(3);
	hb_transport_abort(&a.t, HB_CLOSE_LOCAL_CLOSE);
	turns(3);
	assert_int_equal(f.done, 1);
	assert_int_equal(f.by, HB_PUMP_A);
	hb_transport_read_disable(b.t, -1);
	turns(3);
	peer_expect(&b, "all of it");
	assert_true(b.end);
	hb_transport_finish(&b.t, HB_CLOSE_DONE);
	turns(3);
}

static void
test_pump__blocked_consumer_stops_the_source(void **state)
{
	static char piece[10000];
	struct fixture f;
	struct peer a, b;
	size_t sent = 0;

	memset(piece, 'x', sizeof piece - 1);
	pairs_start(&f, &a, &b, NULL);
	hb_transport_read_disable(b.t, 1);
	for (int i = 0; i < 1000 && !a.high; i++) {
		peer_write(&a, piece, false);
		sent += sizeof piece - 1;
		turns(2);
	}
	assert_true(a.high);
	assert_true(sent < 100000);
	turns(5);
	hb_transport_read_disable(b.t, -1);
	turns(5);
	assert_false(a.high);
	assert_int_equal(b.got.len, sent);
	peer_write(&a, "more", true);
	peer_write(&b, "", true);
	turns(4);
	assert_int_equal(b.got.len, sent + 4);
	hb_buf_fini(&b.got);
	assert_int_equal(f.done, 1);
}

static void
test_pump__idle_timeout(void **state)
{
	const struct hb_pump_options opt = { .idle_timeout_ms = 1000 };
	struct fixture f;
	struct peer a, b;

	hb_clock_fake(w, 5000);
	pairs_start(&f, &a, &b, &opt);
	for (int i = 0; i < 20; i++) {
		hb_clock_advance(w, 900);
		peer_write(i % 2 ? &a : &b, "x", false);
		turns(2);
		assert_int_equal(f.done, 0);
	}
	hb_clock_advance(w, 999);
	assert_int_equal(f.done, 0);
	hb_clock_advance(w, 100);
	assert_int_equal(f.done, 1);
	assert_int_equal(f.reason, HB_CLOSE_IDLE_TIMEOUT);
	turns(3);
	/* Not an error: both see a clean end. */
	assert_true(a.end && b.end);
	hb_buf_fini(&a.got);
	hb_buf_fini(&b.got);
	hb_transport_finish(&a.t, HB_CLOSE_DONE);
	hb_transport_finish(&b.t, HB_CLOSE_DONE);
	turns(3);
}

static void
test_pump__half_close_timeout(void **state)
{
	const struct hb_pump_options opt = { .idle_timeout_ms = 100000,
		.half_close_timeout_ms = 500 };
	struct fixture f;
	struct peer a, b;

	hb_clock_fake(w, 5000);
	pairs_start(&f, &a, &b, &opt);
	hb_clock_advance(w, 2000);
	peer_write(&a, "end", true);
	turns(3);
	hb_clock_advance(w, 400);
	peer_write(&b, "still here", false);
	turns(3);
	hb_clock_advance(w, 499);
	assert_int_equal(f.done, 0);
	hb_clock_advance(w, 50);
	assert_int_equal(f.done, 1);
	assert_int_equal(f.reason, HB_CLOSE_IDLE_TIMEOUT);
	assert_int_equal(f.by, HB_PUMP_B);
	turns(3);
	hb_buf_fini(&a.got);
	hb_buf_fini(&b.got);
	assert_int_equal(a.closed, HB_CLOSE_DONE);
	hb_transport_finish(&b.t, HB_CLOSE_DONE);
	turns(3);
}

/* Both have ended, one takes nothing: bounded, and it sees a reset. */
static void
test_pump__flush_timeout(void **state)
{
	struct fixture f;
	struct peer a, b;

	hb_clock_fake(w, 5000);
	pairs_start(&f, &a, &b, NULL);
	hb_transport_read_disable(b.t, 1);
	peer_write(&a, "unread", true);
	peer_write(&b, "", true);
	turns(4);
	assert_int_equal(f.done, 0);
	hb_clock_advance(w, HB_FLUSH_TIMEOUT_MS + HB_FLUSH_TIMEOUT_MS / 10);
	turns(3);
	assert_int_equal(f.done, 1);
	assert_int_equal(f.reason, HB_CLOSE_FLUSH_TIMEOUT);
	assert_int_equal(f.by, HB_PUMP_B);
	assert_int_equal(b.closed, HB_CLOSE_PEER_RESET);
}

static void
test_pump__abort_from_inside(void **state)
{
	for (int kind = 0; kind < 3; kind++) {
		struct fixture f;
		struct peer a, b;

		pairs_start(&f, &a, &b, NULL);
		f.abort_on_progress = kind == 0 ? HB_CLOSE_RBAC_DENIED : HB_CLOSE_NONE;
		f.abort_on_half_close = kind == 1 ? HB_CLOSE_RBAC_DENIED : HB_CLOSE_NONE;
		peer_write(&a, "x", true);
		if (kind == 2)
			hb_pump_abort(&f.pump, HB_CLOSE_DRAINED);
		turns(3);
		hb_pump_abort(&f.pump, HB_CLOSE_ADMIN);
		assert_int_equal(f.done, 0);
		assert_int_equal(a.closed, HB_CLOSE_PEER_RESET);
		assert_int_equal(b.closed, HB_CLOSE_PEER_RESET);
		hb_buf_fini(&b.got);
	}
}

/* ------------------------------------------------------------------ between two sockets */

struct sockets {
	int fd[2]; /* the far ends: of the downstream, of the upstream */
};

static void
tcp_pair(int fd[2])
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof sin;
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(l >= 0);
	assert_int_equal(bind(l, (struct sockaddr *)&sin, sizeof sin), 0);
	assert_int_equal(listen(l, 1), 0);
	assert_int_equal(getsockname(l, (struct sockaddr *)&sin, &len), 0);
	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd[0], (struct sockaddr *)&sin, sizeof sin), 0);
	fd[1] = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd[1] >= 0);
	assert_int_equal(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
	(void)close(l);
}

static void
sockets_start(struct fixture *f, struct sockets *s, const struct hb_pump_options *opt)
{
	static const struct hb_pump_options none;
	struct hb_transport *near[2];
	struct peer maker[2];

	memset(f, 0, sizeof *f);
	for (int i = 0; i < 2; i++) {
		int fd[2];

		tcp_pair(fd);
		s->fd[i] = fd[0];
		near[i] = hb_tcp_from_fd(w, fd[1], NULL);
		peer_attach(&maker[i], near[i]);
	}
	turns(2);
	assert_true(maker[0].connected && maker[1].connected);
	hb_pump_start(&f->pump, near[0], near[1], &pump_ops, opt == NULL ? &none : opt);
}

/* Closes with a reset. */
static void
reset_fd(int *fd)
{
	struct linger l = { .l_onoff = 1 };

	assert_int_equal(setsockopt(*fd, SOL_SOCKET, SO_LINGER, &l, sizeof l), 0);
	(void)close(*fd);
	*fd = -1;
}

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

/* One stream of bytes that are a function of their position. */
struct flow {
	int from, to;
	uint64_t total, sent, got;
	uint32_t salt;
	bool end;   /* shut down when all is sent */
	bool ended; /* the receiver saw the end   */
	int error;  /* of the receiver            */
};

static uint8_t
byte_at(const struct flow *fl, uint64_t pos)
{
	uint64_t x = (pos / 8 + fl->salt) * UINT64_C(0x9e3779b97f4a7c15);

	return ((uint8_t)((x ^ x >> 29) >> pos % 8 * 8));
}

/* Odd sizes: from 1 byte to 200 kB. */
static size_t
some_size(void)
{
	return (1 + hb_random() % (UINT64_C(1) << (1 + hb_random() % 17)) + hb_random() % 70000);
}

static void
flow_send(struct flow *fl)
{
	static uint8_t block[300000];
	size_t n = some_size();
	ssize_t r;

	n = (size_t)HB_MIN((uint64_t)n, fl->total - fl->sent);
	if (n == 0)
		return;
	for (size_t i = 0; i < n; i++)
		block[i] = byte_at(fl, fl->sent + i);
	r = send(fl->from, block, n, MSG_NOSIGNAL);
	if (r < 0)
		return;
	fl->sent += (uint64_t)r;
	if (fl->sent == fl->total && fl->end)
		assert_int_equal(shutdown(fl->from, SHUT_WR), 0);
}

static void
flow_receive(struct flow *fl, size_t max)
{
	static uint8_t block[300000];
	ssize_t n = recv(fl->to, block, HB_MIN(max, sizeof block), 0);

	if (n < 0) {
		if (errno != EAGAIN)
			fl->error = errno;
		return;
	}
	if (n == 0) {
		fl->ended = true;
		return;
	}
	for (ssize_t i = 0; i < n; i++)
		if (block[i] != byte_at(fl, fl->got + (uint64_t)i))
			fail_msg("byte %llu differs", (unsigned long long)fl->got + (unsigned)i);
	fl->got += (uint64_t)n;
}

static void
flows_run(struct flow *fl, int n)
{
	for (int i = 0; i < TURNS_MAX; i++) {
		bool all = true;

		for (int k = 0; k < n; k++) {
			flow_send(&fl[k]);
			turns(1);
			flow_receive(&fl[k], some_size() * 2);
			all &= fl[k].got == fl[k].total && (fl[k].ended || !fl[k].end);
		}
		if (all)
			return;
	}
	fail_msg("the bytes do not arrive");
}

/* So many bytes go one way that the direction is spliced afterwards. */
static void
warm_up(struct fixture *f, struct flow *fl)
{
	fl->total = fl->sent + 8 * 1024 * 1024;
	for (int i = 0; i < TURNS_MAX && (fl->got < fl->total); i++) {
		flow_send(fl);
		flow_send(fl);
		turns(1);
		flow_receive(fl, 300000);
	}
	assert_int_equal(fl->got, fl->total);
	assert_true(f->pump.dir[HB_PUMP_A].spliced + f->pump.dir[HB_PUMP_B].spliced > 0);
}

static void
test_splice__64_mb_both_ways(void **state)
{
	struct fixture f;
	struct sockets s;
	struct flow fl[2];

	hb_random_seed(3);
	sockets_start(&f, &s, NULL);
	for (int i = 0; i < 2; i++)
		fl[i] = (struct flow){ .from = s.fd[i],
			.to = s.fd[1 - i],
			.salt = (uint32_t)i * 77,
			.total = MILLIONS * 1000003,
			.end = true };
	flows_run(fl, 2);
	until_done(&f);
	assert_int_equal(f.reason, HB_CLOSE_DONE);
	for (int i = 0; i < 2; i++) {
		const struct hb_pump_dir *d = &f.pump.dir[i];

		assert_int_equal(f.half_closed[i], 1);
		assert_int_equal(d->bytes, fl[i].total);
		assert_int_equal(f.progress[i], fl[i].total);
		assert_true(d->spliced > d->bytes / 2 && d->spliced < d->bytes);
		close_fd(&s.fd[i]);
	}
	/* Nothing is in flight: the pipes are in the pool, at most one a direction. */
	assert_in_range(hb_pump_pipes(w), 1, 2);
}

/* One side ends while spliced, the other goes on for a while. */
static void
test_splice__half_close(void **state)
{
	for (int first = 0; first < 2; first++) {
		struct fixture f;
		struct sockets s;
		struct flow up, down;

		sockets_start(&f, &s, NULL);
		up = (struct flow){ .from = s.fd[first], .to = s.fd[1 - first], .salt = 1 };
		down = (struct flow){ .from = s.fd[1 - first], .to = s.fd[first], .salt = 2 };
		warm_up(&f, &up);
		up.total += 12345;
		up.end = true;
		flows_run(&up, 1);
		assert_true(up.ended);
		assert_int_equal(f.half_closed[first], 1);
		assert_int_equal(f.done, 0);
		warm_up(&f, &down);
		down.total += 1;
		down.end = true;
		flows_run(&down, 1);
		until_done(&f);
		assert_int_equal(f.reason, HB_CLOSE_DONE);
		close_fd(&s.fd[0]);
		close_fd(&s.fd[1]);
	}
}

/* The source resets while its bytes wait in the pipe: they arrive, then the reset. */
static void
test_splice__reset_of_the_source(void **state)
{
	for (int first = 0; first < 2; first++) {
		struct fixture f;
		struct sockets s;
		struct flow fl;
		uint64_t held;

		sockets_start(&f, &s, NULL);
		fl = (struct flow){ .from = s.fd[first], .to = s.fd[1 - first] };
		warm_up(&f, &fl);
		fl.total += 64 * 1024 * 1024;
		for (int i = 0; i < 3000 && hb_pump__splice_held(&f.pump, first) == 0; i++) {
			flow_send(&fl);
			turns(1);
		}
		turns(3);
		held = hb_pump__splice_held(&f.pump, first);
		assert_true(held > 0);
		held += f.pump.dir[first].bytes; /* all that had been taken from the source */
		reset_fd(&s.fd[first]);
		turns(20);
		assert_int_equal(f.done, 0);
		for (int i = 0; i < TURNS_MAX && fl.got < held; i++) {
			flow_receive(&fl, 300000);
			turns(1);
		}
		until_done(&f);
		assert_int_equal(f.by, first);
		assert_int_equal(f.reason, HB_CLOSE_PEER_RESET);
		assert_true(fl.got >= held);
		for (int i = 0; i < TURNS_MAX && fl.error == 0; i++)
			flow_receive(&fl, 300000);
		assert_int_equal(fl.error, ECONNRESET);
		assert_false(fl.ended);
		close_fd(&s.fd[1 - first]);
	}
}

static void
test_splice__reset_of_the_destination(void **state)
{
	for (int first = 0; first < 2; first++) {
		struct fixture f;
		struct sockets s;
		struct flow fl;
		char c;
		ssize_t n = -1;

		sockets_start(&f, &s, NULL);
		fl = (struct flow){ .from = s.fd[first], .to = s.fd[1 - first] };
		warm_up(&f, &fl);
		fl.total += 64 * 1024 * 1024;
		for (int i = 0; i < 500; i++) {
			flow_send(&fl);
			turns(1);
		}
		reset_fd(&s.fd[1 - first]);
		until_done(&f);
		assert_int_equal(f.by, 1 - first);
		assert_int_equal(f.reason, HB_CLOSE_PEER_RESET);
		turns(2);
		errno = 0;
		for (int i = 0; i < TURNS_MAX && n < 0 && (errno == 0 || errno == EAGAIN); i++)
			n = recv(s.fd[first], &c, 1, 0);
		assert_int_equal(n, -1);
		assert_int_equal(errno, ECONNRESET);
		close_fd(&s.fd[first]);
	}
}

/* Bytes stuck in a pipe at the idle timeout: a clean end would pretend that they were none. */
static void
test_splice__idle_timeout_with_a_full_pipe(void **state)
{
	const struct hb_pump_options opt = { .idle_timeout_ms = 60000 };
	struct fixture f;
	struct sockets s;
	struct flow fl;

	hb_clock_fake(w, 1000);
	sockets_start(&f, &s, &opt);
	fl = (struct flow){ .from = s.fd[0], .to = s.fd[1] };
	warm_up(&f, &fl);
	fl.total += 64 * 1024 * 1024;
	for (int i = 0; i < 3000 && hb_pump__splice_held(&f.pump, HB_PUMP_A) == 0; i++) {
		flow_send(&fl);
		turns(1);
	}
	turns(5);
	assert_true(hb_pump__splice_held(&f.pump, HB_PUMP_A) > 0);
	hb_clock_advance(w, 59000);
	turns(2);
	assert_int_equal(f.done, 0);
	hb_clock_advance(w, 6000);
	assert_int_equal(f.done, 1);
	assert_int_equal(f.reason, HB_CLOSE_IDLE_TIMEOUT);
	for (int i = 0; i < TURNS_MAX && fl.error == 0 && !fl.ended; i++) {
		flow_receive(&fl, 300000);
		turns(1);
	}
	assert_int_equal(fl.error, ECONNRESET);
	close_fd(&s.fd[0]);
	close_fd(&s.fd[1]);
	hb_clock_advance(w, HB_FLUSH_TIMEOUT_MS * 2);
	turns(3);
	assert_int_equal(hb_pump_pipes(w), 0); /* a pipe with bytes in it is not kept */
}

static void
test_splice__abort_with_bytes_in_flight(void **state)
{
	struct fixture f;
	struct sockets s;
	struct flow fl;

	sockets_start(&f, &s, NULL);
	fl = (struct flow){ .from = s.fd[0], .to = s.fd[1] };
	warm_up(&f, &fl);
	f.abort_on_progress = HB_CLOSE_DRAINED;
	fl.total += 1024 * 1024;
	for (int i = 0; i < 100 && !f.pump.done; i++) {
		flow_send(&fl);
		turns(1);
	}
	assert_true(f.pump.done);
	turns(2);
	assert_int_equal(f.done, 0);
	close_fd(&s.fd[0]);
	close_fd(&s.fd[1]);
}

/* A receiver that is always behind: its queue is never empty by itself, splice begins all the same. */
static void
test_splice__slow_receiver(void **state)
{
	struct fixture f;
	struct sockets s;
	struct flow fl;
	int small = 65536;

	sockets_start(&f, &s, NULL);
	assert_int_equal(setsockopt(s.fd[1], SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
	fl = (struct flow){
		.from = s.fd[0], .to = s.fd[1], .total = 24 * 1024 * 1024, .end = true
	};
	for (int i = 0; i < TURNS_MAX && !fl.ended; i++) {
		flow_send(&fl);
		flow_send(&fl);
		turns(1);
		if (i % 2 == 0)
			flow_receive(&fl, 100000);
	}
	assert_int_equal(fl.got, fl.total);
	assert_true(f.pump.dir[HB_PUMP_A].spliced > fl.total / 2);
	assert_int_equal(shutdown(s.fd[1], SHUT_WR), 0);
	until_done(&f);
	close_fd(&s.fd[0]);
	close_fd(&s.fd[1]);
}

/* When the bulk is over and small messages follow, copying is cheaper again. */
static void
test_splice__left_for_small_messages(void **state)
{
	struct fixture f;
	struct sockets s;
	struct flow fl;
	uint64_t spliced;

	sockets_start(&f, &s, NULL);
	fl = (struct flow){ .from = s.fd[0], .to = s.fd[1] };
	warm_up(&f, &fl);
	assert_non_null(f.pump.dir[HB_PUMP_A].splice);
	for (int i = 0; i < 40; i++) {
		char c = (char)byte_at(&fl, fl.sent);

		assert_int_equal(send(s.fd[0], &c, 1, MSG_NOSIGNAL), 1);
		fl.total = ++fl.sent;
		for (int k = 0; k < 1000 && fl.got < fl.total; k++) {
			turns(1);
			flow_receive(&fl, 10);
		}
		assert_int_equal(fl.got, fl.total);
	}
	turns(1);
	assert_null(f.pump.dir[HB_PUMP_A].splice);
	spliced = f.pump.dir[HB_PUMP_A].spliced;
	warm_up(&f, &fl);
	assert_true(f.pump.dir[HB_PUMP_A].spliced > spliced);
	hb_pump_abort(&f.pump, HB_CLOSE_ADMIN);
	close_fd(&s.fd[0]);
	close_fd(&s.fd[1]);
}

/* No pipe, or one for two: the rest is copied. */
static void
test_splice__pipes_run_out(void **state)
{
	for (unsigned max = 0; max < 2; max++) {
		struct fixture f;
		struct sockets s;
		struct flow fl[2];

		hb_transport_worker_fini(w);
		hb_pump_pipes_max(max);
		sockets_start(&f, &s, NULL);
		for (int i = 0; i < 2; i++)
			fl[i] = (struct flow){ .from = s.fd[i],
				.to = s.fd[1 - i],
				.end = true,
				.total = 9 * 1000003,
				.salt = (uint32_t)i };
		flows_run(fl, 2);
		until_done(&f);
		assert_int_equal(f.reason, HB_CLOSE_DONE);
		assert_int_equal(hb_pump_pipes(w), max);
		assert_true((f.pump.dir[0].spliced + f.pump.dir[1].spliced > 0) == (max > 0));
		close_fd(&s.fd[0]);
		close_fd(&s.fd[1]);
	}
	hb_pump_pipes_max(1000);
}

static void
test_splice__off(void **state)
{
	const struct hb_pump_options opt = { .splice_off = true, .buffer_high = 32768 };
	struct fixture f;
	struct sockets s;
	struct flow fl;

	sockets_start(&f, &s, &opt);
	fl = (struct flow){ .from = s.fd[0], .to = s.fd[1], .total = 5000000 };
	flows_run(&fl, 1);
	assert_int_equal(f.pump.dir[HB_PUMP_A].spliced, 0);
	assert_int_equal(f.pump.dir[HB_PUMP_A].bytes, fl.total);
	hb_pump_abort(&f.pump, HB_CLOSE_ADMIN);
	close_fd(&s.fd[0]);
	close_fd(&s.fd[1]);
}

/* ------------------------------------------------------------------ a kernel that refuses */

static unsigned splice_calls, refuse_in,
	refuse_out; /* refuse the n-th and later calls; 0 = never */

static ssize_t
splice_refusing(int in, loff_t *off_in, int out, loff_t *off_out, size_t n, unsigned flags)
{
	int is_socket;
	socklen_t len = sizeof is_socket;
	bool filling = getsockopt(in, SOL_SOCKET, SO_TYPE, &is_socket, &len) == 0;

	splice_calls++;
	if ((filling && refuse_in != 0 && splice_calls >= refuse_in) ||
		(!filling && refuse_out != 0 && splice_calls >= refuse_out)) {
		errno = EINVAL;
		return (-1);
	}
	return (splice(in, off_in, out, off_out, n, flags));
}

static void
test_splice__refused_by_the_kernel(void **state)
{
	static const struct {
		unsigned in, out;
	} cases[] = { { 1, 0 }, { 9, 0 }, { 0, 1 }, { 0, 8 } };

	hb_pump_splice_call = splice_refusing;
	for (size_t i = 0; i < HB_ARRAY_LEN(cases); i++) {
		struct fixture f;
		struct sockets s;
		struct flow fl;

		splice_calls = 0;
		refuse_in = cases[i].in;
		refuse_out = cases[i].out;
		sockets_start(&f, &s, NULL);
		fl = (struct flow){ .from = s.fd[0], .to = s.fd[1], .total = 7000001, .end = true };
		flows_run(&fl, 1);
		assert_true(splice_calls > 0);
		assert_int_equal(f.pump.dir[HB_PUMP_A].bytes, fl.total);
		assert_true(f.pump.dir[HB_PUMP_A].spliced < fl.total / 2);
		assert_int_equal(shutdown(s.fd[1], SHUT_WR), 0);
		until_done(&f);
		assert_int_equal(f.reason, HB_CLOSE_DONE);
		close_fd(&s.fd[0]);
		close_fd(&s.fd[1]);
	}
	hb_pump_splice_call = splice;
}

int
main(void)
{
#define TEST(fn)      cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define TEST_BOTH(fn) TEST(fn), cmocka_unit_test_setup_teardown(fn, setup_uv, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_pump__half_close_both_ways),
		TEST(test_pump__reset_both_ways),
		TEST(test_pump__reset_waits_for_the_queue),
		TEST(test_pump__reset_of_a_stuck_receiver_in_time),
		TEST(test_pump__reset_after_the_end),
		TEST(test_pump__blocked_consumer_stops_the_source),
		TEST(test_pump__idle_timeout),
		TEST(test_pump__half_close_timeout),
		TEST(test_pump__flush_timeout),
		TEST(test_pump__abort_from_inside),
		TEST_BOTH(test_splice__64_mb_both_ways),
		TEST_BOTH(test_splice__half_close),
		TEST_BOTH(test_splice__reset_of_the_source),
		TEST_BOTH(test_splice__reset_of_the_destination),
		TEST(test_splice__idle_timeout_with_a_full_pipe),
		TEST(test_splice__abort_with_bytes_in_flight),
		TEST(test_splice__slow_receiver),
		TEST(test_splice__left_for_small_messages),
		TEST(test_splice__pipes_run_out),
		TEST(test_splice__off),
		TEST(test_splice__refused_by_the_kernel),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

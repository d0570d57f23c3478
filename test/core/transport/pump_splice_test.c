/* SPDX-License-Identifier: Apache-2.0 */
#include "test/core/transport/pump_fixture.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/transport/tcp.h"

#ifdef __SANITIZE_THREAD__
#define MILLIONS 16
#else
#define MILLIONS 64
#endif

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
sockets_connect(struct sockets *s, struct hb_transport *near[2], struct peer maker[2])
{
	for (int i = 0; i < 2; i++) {
		int fd[2];

		tcp_pair(fd);
		s->fd[i] = fd[0];
		near[i] = hb_tcp_from_fd(w, fd[1], NULL);
		peer_attach(&maker[i], near[i]);
	}
	turns(2);
	assert_true(maker[0].connected && maker[1].connected);
}

static void
sockets_start(struct fixture *f, struct sockets *s, const struct hb_pump_options *opt)
{
	static const struct hb_pump_options none;
	struct hb_transport *near[2];
	struct peer maker[2];

	memset(f, 0, sizeof *f);
	sockets_connect(s, near, maker);
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

/* A receiver that is always behind never empties its queue by itself; splice begins all the same. */
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

/* ------------------------------------------------------------------ a layer above the socket */

/* A chain of filters in short: it passes everything on, but tells of its socket's end late. */
struct shell {
	struct hb_transport base;
	struct hb_transport *in; /* owned; NULL = gone */
	enum hb_close_reason late;
};

static struct shell *
shell_of(const struct hb_transport *t)
{
	return (HB_CONTAINER(t, struct shell, base));
}

static void
shell_free(struct hb_transport *t)
{
	hb_free(shell_of(t));
}

static void
shell_write(struct hb_transport *t, struct hb_buf *buf, bool end)
{
	hb_transport_write(shell_of(t)->in, buf, end);
}

static void
shell_read_enable(struct hb_transport *t, bool on)
{
	if (shell_of(t)->in != NULL)
		hb_transport_read_disable(shell_of(t)->in, on ? -1 : 1);
}

static void
shell_finish(struct hb_transport *t, enum hb_close_reason reason)
{
	if (shell_of(t)->in != NULL)
		hb_transport_finish(&shell_of(t)->in, reason);
	hb_transport_bury(t, shell_free);
}

static void
shell_abort(struct hb_transport *t, enum hb_close_reason reason)
{
	if (shell_of(t)->in != NULL)
		hb_transport_abort(&shell_of(t)->in, reason);
	hb_transport_bury(t, shell_free);
}

static size_t
shell_pending(const struct hb_transport *t)
{
	return (shell_of(t)->in == NULL ? 0 : hb_transport_pending(shell_of(t)->in));
}

static struct hb_transport *
shell_raw(struct hb_transport *t, enum hb_dir dir)
{
	return (shell_of(t)->in == NULL ? NULL : hb_transport_raw(shell_of(t)->in, dir));
}

static struct hb_transport *
shell_inner(struct hb_transport *t)
{
	return (shell_of(t)->in);
}

static void
shell_closed(struct hb_transport *t)
{
	hb_transport_bury(t, shell_free);
}

static const struct hb_transport_ops shell_ops = {
	.name = "chain",
	.write = shell_write,
	.read_enable = shell_read_enable,
	.finish = shell_finish,
	.abort = shell_abort,
	.pending = shell_pending,
	.raw = shell_raw,
	.inner = shell_inner,
	.closed = shell_closed,
};

static void
shell_on_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	hb_transport_emit_data(sink, buf, end);
}

static void
shell_on_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	shell_of(sink)->in = NULL;
	shell_of(sink)->late = reason;
}

static const struct hb_transport_events shell_events = {
	.on_data = shell_on_data,
	.on_closed = shell_on_closed,
};

static struct shell *
shell_new(struct hb_transport *in)
{
	struct shell *sh = hb_calloc(1, sizeof *sh);

	hb_transport_init(&sh->base, &shell_ops, w);
	sh->base.connected = sh->base.secured = true;
	sh->in = in;
	hb_transport_attach(in, &shell_events, &sh->base);
	return (sh);
}

/*
 * The socket below is freed long before the pump hears of it: reset by its peer, or aborted by the
 * layer in the middle of splicing. What it brought still goes out.
 */
static void
socket_gone(bool by_layer)
{
	static const struct hb_pump_options none;
	struct hb_transport *near[2];
	struct peer maker[2];
	struct fixture f = { 0 };
	struct shell *sh;
	struct sockets s;
	struct flow fl;
	uint64_t taken;

	sockets_connect(&s, near, maker);
	sh = shell_new(near[0]);
	hb_pump_start(&f.pump, &sh->base, near[1], &pump_ops, &none);
	fl = (struct flow){ .from = s.fd[0], .to = s.fd[1] };
	warm_up(&f, &fl);
	assert_true(sh->base.bytes_in > 8000000);
	fl.total += 64 * 1024 * 1024;
	for (int i = 0; i < 3000 && hb_pump__splice_held(&f.pump, HB_PUMP_A) == 0; i++) {
		flow_send(&fl);
		turns(1);
	}
	assert_true(hb_pump__splice_held(&f.pump, HB_PUMP_A) > 0);
	taken = sh->base.bytes_in;
	if (by_layer) {
		hb_transport_abort(&sh->in, HB_CLOSE_REVOKED);
		sh->late = HB_CLOSE_REVOKED;
		turns(3);
	} else {
		reset_fd(&s.fd[0]);
	}
	for (int i = 0; i < TURNS_MAX && (sh->in != NULL || fl.got < taken); i++) {
		flow_receive(&fl, 300000);
		turns(1);
	}
	assert_null(sh->in);
	assert_int_equal(fl.got, taken);
	turns(5);
	assert_int_equal(f.done, 0);
	hb_transport_emit_closed(&sh->base, sh->late);
	until_done(&f);
	assert_int_equal(f.by, HB_PUMP_A);
	assert_int_equal(f.reason, by_layer ? HB_CLOSE_REVOKED : HB_CLOSE_PEER_RESET);
	close_fd(&s.fd[0]);
	close_fd(&s.fd[1]);
}

static void
test_splice__socket_gone_below_a_layer(void **state)
{
	socket_gone(false);
	socket_gone(true);
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
		TEST_BOTH(test_splice__socket_gone_below_a_layer),
		TEST(test_splice__refused_by_the_kernel),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

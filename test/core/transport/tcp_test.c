/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/transport/fd_priv.h"
#include "test/support/conformance.h"

static int
setup_epoll(void **state)
{
	(void)hbt_init(HB_IO_EPOLL);
	return (0);
}

static int
setup_uv(void **state)
{
	(void)hbt_init(HB_IO_UV);
	return (0);
}

static int
teardown(void **state)
{
	hbt_fini();
	return (0);
}

/* ------------------------------------------------------------------ every transport's cases */

static void
make_small(struct hb_transport **ret_a, struct hb_transport **ret_b)
{
	int fd[2];

	hbt_loopback(fd, true);
	*ret_a = hb_tcp_from_fd(hbt_worker(), fd[0], NULL);
	*ret_b = hb_tcp_from_fd(hbt_worker(), fd[1], NULL);
}

static void
make_connecting(struct hb_transport **ret_a, struct hb_transport **ret_b)
{
	struct sockaddr_storage addr;
	struct hb_tcp_connect c = { .addr = (struct sockaddr *)&addr };
	int fd, listener = hbt_listen(&addr, &c.addr_len);

	*ret_a = hb_tcp_connect(hbt_worker(), &c, NULL);
	assert_non_null(*ret_a);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(fd >= 0);
	assert_int_equal(close(listener), 0);
	*ret_b = hb_tcp_from_fd(hbt_worker(), fd, NULL);
}

static void
test_tcp__conformance(void **state)
{
	static const struct hbt_maker maker = { "tcp", hbt_tcp_pair, HB_CLOSE_PEER_RESET,
		8 * 1024 * 1024 };

	hbt_conformance(&maker);
}

static void
test_tcp__conformance_small_buffers(void **state)
{
	static const struct hbt_maker maker = { "tcp, small", make_small, HB_CLOSE_PEER_RESET,
		500000 };

	hbt_conformance(&maker);
}

static void
test_tcp__conformance_connecting(void **state)
{
	static const struct hbt_maker maker = { "tcp, connecting", make_connecting,
		HB_CLOSE_PEER_RESET, 8 * 1024 * 1024 };

	hbt_conformance(&maker);
}

/* ------------------------------------------------------------------ endings on the wire */

static void
test_tcp__fin_is_an_end_and_end_is_a_fin(void **state)
{
	struct hbt_sink s = { 0 };
	char c[8];
	int fd;

	hbt_attach(&s, hbt_tcp_and_fd(&fd, false, NULL));
	hbt_fd_write(fd, "abc", 3);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	HBT_UNTIL(s.ends == 1);
	assert_true(hbt_gotz(&s, "abc"));
	assert_string_equal(s.trace, "csde");
	hbt_writez(&s, "xyz", true);
	/* Both directions ended: it is done before the peer has even read. */
	HBT_UNTIL(s.closed == 1);
	assert_int_equal(s.reason, HB_CLOSE_DONE);
	hbt_fd_read_n(fd, c, 3);
	assert_int_equal(hbt_fd_read(fd, c, sizeof c), 0);
	(void)close(fd);
	hbt_sink_fini(&s);
}

static void
test_tcp__reset_after_bytes_delivers_them_first(void **state)
{
	struct hbt_sink s = { 0 };
	int fd;

	hbt_attach_paused(&s, hbt_tcp_and_fd(&fd, false, NULL));
	hbt_turns(3);
	hbt_fd_write(fd, "abc", 3);
	hbt_turns(3);
	hbt_fd_reset(fd);
	hbt_turns(10);
	/* Bytes wait: the paused sink does not hear of it yet. */
	assert_string_equal(s.trace, "cs");
	hb_transport_read_disable(s.t, -1);
	assert_int_equal(s.data, 0);
	HBT_UNTIL(s.closed == 1);
	assert_string_equal(s.trace, "csdX");
	assert_int_equal(s.reason, HB_CLOSE_PEER_RESET);
	assert_true(hbt_gotz(&s, "abc"));
	hbt_sink_fini(&s);
}

static void
test_tcp__reset_after_the_end_delivers_both(void **state)
{
	struct hbt_sink s = { 0 };
	int fd;

	hbt_attach_paused(&s, hbt_tcp_and_fd(&fd, false, NULL));
	hbt_turns(3);
	hbt_fd_write(fd, "abc", 3);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	hbt_turns(3);
	hbt_fd_reset(fd);
	hbt_turns(10);
	assert_string_equal(s.trace, "cs");
	hb_transport_read_disable(s.t, -1);
	HBT_UNTIL(s.closed == 1);
	assert_string_equal(s.trace, "csdeX");
	assert_int_equal(s.reason, HB_CLOSE_PEER_RESET);
	hbt_sink_fini(&s);
}

static void
test_tcp__reset_after_the_end_was_delivered(void **state)
{
	struct hbt_sink s = { 0 };
	int fd;

	hbt_attach(&s, hbt_tcp_and_fd(&fd, false, NULL));
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	HBT_UNTIL(s.ends == 1);
	hbt_fd_reset(fd);
	HBT_UNTIL(s.closed == 1);
	assert_string_equal(s.trace, "csdeX");
	assert_int_equal(s.reason, HB_CLOSE_PEER_RESET);
	hbt_sink_fini(&s);
}

/* The write finds the reset, not the read; what was received still comes first. */
static void
write_finds_reset(bool fin_first)
{
	struct hbt_sink s = { 0 };
	int fd;

	hbt_attach_paused(&s, hbt_tcp_and_fd(&fd, false, NULL));
	HBT_UNTIL(s.secured == 1);
	hbt_fd_write(fd, "abc", 3);
	if (fin_first)
		assert_int_equal(shutdown(fd, SHUT_WR), 0);
	hbt_fd_reset(fd);
	/* No turn in between: the first to touch the socket is the write. */
	hbt_writez(&s, "into the void", false);
	hbt_writez(&s, "and again", false);
	assert_int_equal(s.closed, 0);
	hbt_turns(5);
	assert_int_equal(s.closed, 0);
	hbt_writez(&s, "bye", true);
	hb_transport_read_disable(s.t, -1);
	HBT_UNTIL(s.closed == 1);
	assert_true(hbt_gotz(&s, "abc"));
	assert_string_equal(s.trace, fin_first ? "csdeX" : "csdX");
	assert_int_equal(s.reason, HB_CLOSE_PEER_RESET);
	hbt_sink_fini(&s);
}

static void
test_tcp__write_finds_the_reset(void **state)
{
	write_finds_reset(false);
	write_finds_reset(true);
}

static void
test_tcp__reset_while_a_tail_is_queued(void **state)
{
	struct hbt_sink s = { 0 };
	uint8_t *bytes = hbt_pattern(3000000, 1);
	int fd;

	hbt_attach(&s, hbt_tcp_and_fd(&fd, true, NULL));
	HBT_UNTIL(s.secured == 1);
	hbt_write(&s, bytes, 3000000, true);
	assert_int_equal(s.highs, 1);
	assert_true(hb_transport_pending(s.t) > 0);
	hbt_fd_reset(fd);
	HBT_UNTIL(s.closed == 1);
	assert_int_equal(s.reason, HB_CLOSE_PEER_RESET);
	/* Nothing was sent any more, so the source was not told to go on. */
	assert_int_equal(s.lows, 0);
	hbt_sink_fini(&s);
	hb_free(bytes);
}

static void
test_tcp__abort_is_a_reset(void **state)
{
	struct hbt_sink s = { 0 };
	char c;
	int fd;

	hbt_attach(&s, hbt_tcp_and_fd(&fd, false, NULL));
	HBT_UNTIL(s.secured == 1);
	hb_transport_abort(&s.t, HB_CLOSE_LOCAL_CLOSE);
	assert_int_equal(hbt_fd_read(fd, &c, 1), -1);
	assert_int_equal(errno, ECONNRESET);
	(void)close(fd);
	hbt_sink_fini(&s);
}

/* finish with unread bytes in the kernel must not turn into a reset that destroys the answer. */
static void
test_tcp__finish_discards_what_still_comes(void **state)
{
	struct hbt_sink s = { 0 };
	uint8_t *bytes = hbt_pattern(2000000, 2);
	char answer[6];
	int fd;

	hbt_attach_paused(&s, hbt_tcp_and_fd(&fd, false, NULL));
	HBT_UNTIL(s.secured == 1);
	hbt_fd_write(fd, "request", 7);
	hbt_writez(&s, "answer", false);
	hb_transport_finish(&s.t, HB_CLOSE_DONE);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 1);
	hbt_fd_write(fd, bytes, 2000000);
	hbt_fd_read_n(fd, answer, 6);
	assert_memory_equal(answer, "answer", 6);
	assert_int_equal(hbt_fd_read(fd, answer, 1), 0);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 1);
	(void)close(fd);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	assert_int_equal(hb_transport_flush_timeouts(hbt_worker()), 0);
	hbt_sink_fini(&s);
	hb_free(bytes);
}

/* Everything was taken and the peer just stays: a plain close, no reset. */
static void
test_tcp__nothing_lingers_at_the_end(void **state)
{
	struct hbt_sink s[2] = { { 0 } };
	char c[4];
	int fd[2];

	for (unsigned i = 0; i < 2; i++) {
		hbt_attach(&s[i], hbt_tcp_and_fd(&fd[i], false, NULL));
		HBT_UNTIL(s[i].secured == 1);
		hbt_writez(&s[i], "bye", false);
	}
	hb_transport_finish(&s[0].t, HB_CLOSE_DONE);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 1);
	hb_transport_worker_stop(hbt_worker());
	hb_transport_finish(&s[1].t, HB_CLOSE_DONE);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 0);
	for (unsigned i = 0; i < 2; i++) {
		hbt_fd_read_n(fd[i], c, 3);
		assert_int_equal(hbt_fd_read(fd[i], c, 1), 0);
		(void)close(fd[i]);
		hbt_sink_fini(&s[i]);
	}
	hbt_turns(2);
	hb_transport_worker_fini(hbt_worker());
}

static void
test_tcp__finish_of_a_silent_peer_is_a_clean_close(void **state)
{
	struct hb_tcp_options o = { .flush_timeout_ms = 500 };
	struct hbt_sink s = { 0 };
	char c[4];
	int fd;

	hbt_attach(&s, hbt_tcp_and_fd(&fd, false, &o));
	HBT_UNTIL(s.secured == 1);
	hbt_writez(&s, "bye", false);
	hb_transport_finish(&s.t, HB_CLOSE_DONE);
	hbt_turns(5);
	hb_clock_advance(hbt_worker(), 499);
	hbt_turns(2);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 1);
	hbt_advance(500);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 0);
	assert_int_equal(hb_transport_flush_timeouts(hbt_worker()), 0);
	hbt_fd_read_n(fd, c, 3);
	assert_int_equal(hbt_fd_read(fd, c, 1), 0);
	(void)close(fd);
	hbt_sink_fini(&s);
}

/* A peer that takes a little in every round gets more rounds, but not without end. */
static void
test_tcp__a_dripping_peer_is_bounded(void **state)
{
	struct hb_tcp_options o = { .flush_timeout_ms = 1000 };
	struct hbt_sink s = { 0 };
	size_t n = 4000000;
	uint8_t *bytes = hbt_pattern(n, 3);
	unsigned rounds = 0;
	char c[20000];
	int fd;

	hbt_attach(&s, hbt_tcp_and_fd(&fd, true, &o));
	HBT_UNTIL(s.secured == 1);
	hbt_write(&s, bytes, n, false);
	hbt_turns(5);
	hb_transport_finish(&s.t, HB_CLOSE_DONE);
	while (hb_transport_lingering(hbt_worker()) > 0) {
		hbt_fd_read_n(fd, c, sizeof c);
		hbt_turns(20);
		hb_clock_advance(hbt_worker(), 1080);
		hbt_turns(2);
		rounds++;
	}
	assert_in_range(rounds, 4, 9);
	assert_int_equal(hb_transport_flush_timeouts(hbt_worker()), 1);
	(void)close(fd);
	hbt_sink_fini(&s);
	hb_free(bytes);
}

/* ------------------------------------------------------------------ reading and writing */

static void
test_tcp__unblocked_relay_copies_nothing(void **state)
{
	struct hbt_sink s = { .echo = true };
	uint8_t *bytes = hbt_pattern(30000, 4), *back = hb_malloc(30000);
	uint64_t before;
	int fd;

	hbt_attach(&s, hbt_tcp_and_fd(&fd, false, NULL));
	HBT_UNTIL(s.secured == 1);
	before = hb_buf_copied();
	hbt_fd_write(fd, bytes, 30000);
	hbt_fd_read_n(fd, back, 30000);
	assert_memory_equal(bytes, back, 30000);
	assert_int_equal(hb_buf_copied(), before);
	assert_int_equal(hb_transport_pending(s.t), 0);
	(void)close(fd);
	hbt_sink_fini(&s);
	hb_free(bytes);
	hb_free(back);
}

/* One loud connection does not hold up the others: at most four reads a turn. */
static void
test_tcp__reads_are_bounded_a_turn(void **state)
{
	struct hbt_sink s = { 0 };
	size_t n = 5u * HB_SCRATCH_SIZE;
	uint8_t *bytes = hbt_pattern(n, 5);
	int fd, big = 8 * 1024 * 1024;
	unsigned before;

	hbt_attach_paused(&s, hbt_tcp_and_fd(&fd, false, NULL));
	(void)setsockopt(hb_tcp_fd(s.t), SOL_SOCKET, SO_RCVBUF, &big, sizeof big);
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &big, sizeof big);
	HBT_UNTIL(s.secured == 1);
	hbt_fd_write(fd, bytes, n);
	hbt_turns(3);
	hb_transport_read_disable(s.t, -1);
	while (s.got.len < n) {
		before = s.data;
		hbt_turns(1);
		assert_in_range(s.data - before, 0, 8);
	}
	assert_true(hbt_got(&s, bytes, n));
	(void)close(fd);
	hbt_sink_fini(&s);
	hb_free(bytes);
}

/* No scratch buffer is free: the read waits for the run queue, nothing is lost. */
static void
test_tcp__reading_waits_for_scratch(void **state)
{
	struct hbt_sink s = { 0 };
	uint8_t *leases[HB_SCRATCH_DEPTH];
	int fd;

	hbt_attach(&s, hbt_tcp_and_fd(&fd, false, NULL));
	HBT_UNTIL(s.secured == 1);
	hbt_turns(2);
	assert_int_equal(send(fd, "abc", 3, 0), 3);
	/* As if it were read inside sixteen other events. */
	for (unsigned i = 0; i < HB_SCRATCH_DEPTH; i++)
		leases[i] = hb_scratch_lease(hbt_worker());
	hb_fdt__events(HB_CONTAINER(s.t, struct hb_fdt, base), HB_IO_READ);
	assert_int_equal(s.data, 0);
	assert_true(hb_scratch_exhausted(hbt_worker()) > 0);
	for (unsigned i = HB_SCRATCH_DEPTH; i-- > 0;)
		hb_scratch_release(hbt_worker(), leases[i]);
	HBT_UNTIL(hbt_gotz(&s, "abc"));
	(void)close(fd);
	hbt_sink_fini(&s);
}

static void
test_tcp__writes_before_connected_wait(void **state)
{
	struct sockaddr_storage addr;
	struct hb_tcp_connect c = { .addr = (struct sockaddr *)&addr };
	int fd = -1, listener = hbt_listen(&addr, &c.addr_len);
	struct hbt_sink s = { 0 };
	char got[5];

	hbt_attach(&s, hb_tcp_connect(hbt_worker(), &c, NULL));
	hbt_writez(&s, "early", true);
	assert_int_equal(s.connected, 0);
	HBT_UNTIL(s.secured == 1);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(fd >= 0);
	hbt_fd_read_n(fd, got, 5);
	assert_memory_equal(got, "early", 5);
	assert_int_equal(hbt_fd_read(fd, got, 1), 0);
	(void)close(fd);
	(void)close(listener);
	HBT_UNTIL(s.closed == 1);
	assert_int_equal(s.reason, HB_CLOSE_DONE);
	hbt_sink_fini(&s);
}

/* ------------------------------------------------------------------ connecting */

static int seen_errno;

static void
note_errno(struct hbt_sink *s, enum hbt_event event)
{
	if (event == HBT_CLOSED)
		seen_errno = hb_tcp_errno(s->arg);
}

static void
connect_fails(const struct sockaddr *addr, socklen_t len, enum hb_close_reason reason, int err)
{
	struct hb_tcp_connect c = { .addr = addr, .addr_len = len };
	struct hb_transport *t = hb_tcp_connect(hbt_worker(), &c, NULL);
	struct hbt_sink s = { .hook = note_errno, .arg = t };

	assert_non_null(t);
	hbt_attach(&s, t);
	assert_int_equal(s.closed, 0);
	HBT_UNTIL(s.closed == 1);
	assert_string_equal(s.trace, "X");
	assert_int_equal(s.reason, reason);
	assert_int_equal(seen_errno, err);
	hbt_sink_fini(&s);
	/* The same with a sink that comes late, and with one that does not wait. */
	t = hb_tcp_connect(hbt_worker(), &c, NULL);
	hbt_turns(5);
	s = (struct hbt_sink){ 0 };
	hbt_attach(&s, t);
	hbt_writez(&s, "x", true);
	HBT_UNTIL(s.closed == 1);
	assert_int_equal(s.reason, reason);
	hbt_sink_fini(&s);
	t = hb_tcp_connect(hbt_worker(), &c, NULL);
	hb_transport_finish(&t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	t = hb_tcp_connect(hbt_worker(), &c, NULL);
	hb_transport_abort(&t, HB_CLOSE_LOCAL_CLOSE);
}

static void
test_tcp__connect_refused(void **state)
{
	struct sockaddr_storage addr;
	socklen_t len;

	(void)close(hbt_listen(&addr, &len));
	connect_fails((struct sockaddr *)&addr, len, HB_CLOSE_CONNECT_REFUSED, ECONNREFUSED);
}

static void
test_tcp__connect_unreachable(void **state)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX, .sun_path = "/nonexistent/socket" };
	/* A v4 multicast source cannot be a TCP peer. */
	struct sockaddr_in sin = {
		.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0xe0000001)
	};

	connect_fails((struct sockaddr *)&sun, sizeof sun, HB_CLOSE_CONNECT_UNREACHABLE, ENOENT);
	connect_fails(
		(struct sockaddr *)&sin, sizeof sin, HB_CLOSE_CONNECT_UNREACHABLE, ENETUNREACH);
}

static void
test_tcp__connect_cannot_even_begin(void **state)
{
	struct sockaddr_storage addr;
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000201) };
	struct hb_tcp_connect c = { .addr = (struct sockaddr *)&addr };
	struct hb_err err;
	int listener = hbt_listen(&addr, &c.addr_len);

	c.bind_to = (struct sockaddr *)&sin;
	c.bind_len = sizeof sin;
	assert_null(hb_tcp_connect(hbt_worker(), &c, &err));
	assert_int_equal(err.code, -EADDRNOTAVAIL);
	assert_non_null(strstr(err.text, "source address"));
	addr.ss_family = AF_PACKET;
	c.bind_to = NULL;
	assert_null(hb_tcp_connect(hbt_worker(), &c, &err));
	assert_int_equal(err.code, -EAFNOSUPPORT);
	(void)close(listener);
}

static int
get_int(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof v;

	assert_int_equal(getsockopt(fd, level, name, &v, &len), 0);
	return (v);
}

static void
test_tcp__options(void **state)
{
	struct sockaddr_storage addr, own;
	struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000009) };
	struct hb_tcp_connect c = { .addr = (struct sockaddr *)&addr,
		.bind_to = (struct sockaddr *)&from,
		.bind_len = sizeof from,
		.freebind = true,
		.options = { .keepalive = true,
			.keepalive_probes = 3,
			.keepalive_time_s = 77,
			.keepalive_interval_s = 11,
			.congestion = "auto" } };
	int fd, listener = hbt_listen(&addr, &c.addr_len);
	struct hbt_sink s = { 0 };
	socklen_t len = sizeof own;
	char name[16] = "";
	socklen_t name_len = sizeof name;

	hbt_attach(&s, hb_tcp_connect(hbt_worker(), &c, NULL));
	HBT_UNTIL(s.secured == 1);
	fd = hb_tcp_fd(s.t);
	assert_true(get_int(fd, IPPROTO_TCP, TCP_NODELAY) != 0);
	assert_true(get_int(fd, SOL_SOCKET, SO_KEEPALIVE) != 0);
	assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
	assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_KEEPIDLE), 77);
	assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_KEEPINTVL), 11);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &len), 0);
	assert_int_equal(((struct sockaddr_in *)&own)->sin_addr.s_addr, htonl(0x7f000009));
	if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &name_len) == 0)
		assert_true(strcmp(name, "cubic") == 0 || strcmp(name, "reno") == 0);
	(void)close(listener);
	hbt_sink_fini(&s);
}

/* ------------------------------------------------------------------ unix, take, describe, raw */

static void
test_tcp__unix_sockets(void **state)
{
	struct hb_transport *ta, *tb;
	struct hbt_sink a = { 0 }, b = { 0 };

	hbt_unix_pair(&ta, &tb);
	hbt_attach(&a, ta);
	hbt_attach(&b, tb);
	hbt_writez(&a, "ping", false);
	HBT_UNTIL(hbt_gotz(&b, "ping"));
	hbt_writez(&b, "pong", true);
	HBT_UNTIL(a.ends == 1);
	hbt_writez(&a, "", true);
	HBT_UNTIL(a.closed == 1 && b.closed == 1);
	assert_int_equal(a.reason, HB_CLOSE_DONE);
	assert_int_equal(b.reason, HB_CLOSE_DONE);
	hbt_sink_fini(&a);
	hbt_sink_fini(&b);
	/* There is no reset on a unix socket without unread bytes; the next write finds out. */
	hbt_unix_pair(&ta, &tb);
	a = b = (struct hbt_sink){ 0 };
	hbt_attach(&a, ta);
	hb_transport_abort(&tb, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(a.ends == 1);
	hbt_writez(&a, "x", false);
	HBT_UNTIL(a.closed == 1);
	assert_int_equal(a.reason, HB_CLOSE_PEER_RESET);
	hbt_sink_fini(&a);
}

static void
test_tcp__take_fd(void **state)
{
	struct hbt_sink s = { 0 };
	struct hb_transport *t;
	struct hb_buf buf = { NULL, NULL, 0 }, unread = { NULL, NULL, 0 };
	bool end = true;
	int fd, taken;
	char c[3];

	hbt_attach(&s, hbt_tcp_and_fd(&fd, false, NULL));
	hbt_fd_write(fd, "abc", 3);
	HBT_UNTIL(s.got.len == 3);
	hb_buf_addz(&buf, "abc");
	hb_transport_read_disable(s.t, 1);
	hb_transport_unread(s.t, &buf, false);
	t = s.t;
	s.t = NULL;
	taken = hb_tcp_take_fd(&t, &unread, &end);
	assert_true(taken >= 0);
	assert_null(t);
	assert_false(end);
	assert_int_equal(unread.len, 3);
	hb_buf_fini(&unread);
	hbt_turns(2);
	/* It works on, under a new transport. */
	hbt_sink_fini(&s);
	s = (struct hbt_sink){ 0 };
	hbt_attach(&s, hb_tcp_from_fd(hbt_worker(), taken, NULL));
	hbt_writez(&s, "xyz", false);
	hbt_fd_read_n(fd, c, 3);
	assert_memory_equal(c, "xyz", 3);
	hbt_fd_reset(fd);
	hbt_sink_fini(&s);
	/* One that has failed meanwhile stays. */
	t = hbt_tcp_and_fd(&fd, false, NULL);
	s = (struct hbt_sink){ 0 };
	hbt_attach_paused(&s, t);
	HBT_UNTIL(s.secured == 1);
	hbt_fd_reset(fd);
	hb_transport_unread(t, &buf, false);
	hb_buf_addz(&buf, "held");
	hb_transport_unread(t, &buf, false);
	hbt_turns(10);
	assert_int_equal(s.closed, 0);
	assert_int_equal(hb_tcp_take_fd(&t, &unread, &end), -ECONNRESET);
	assert_non_null(t);
	hbt_sink_fini(&s);
}

static void
test_tcp__describe(void **state)
{
	struct hb_transport *ta, *tb, *t;
	char text[64], small[8];

	hbt_tcp_pair(&ta, &tb);
	t = hbt_splitter(hbt_blocker(ta), 1);
	assert_int_equal(hb_transport_describe(t, text, sizeof text), 15);
	assert_string_equal(text, "wrap(wrap(tcp))");
	assert_int_equal(hb_transport_describe(t, small, sizeof small), 15);
	assert_string_equal(small, "wrap(wr");
	assert_null(hb_transport_tls_info(t));
	hb_transport_abort(&t, HB_CLOSE_LOCAL_CLOSE);
	hb_transport_abort(&tb, HB_CLOSE_LOCAL_CLOSE);
}

struct raw {
	unsigned events[2];
	char got[16];
	size_t len;
	bool end_at_eof;
};

static void
on_raw(void *arg, struct hb_transport *t, enum hb_dir dir, unsigned events)
{
	struct raw *r = arg;
	ssize_t n;

	r->events[dir]++;
	if (dir != HB_DIR_READ)
		return;
	while ((n = recv(hb_tcp_fd(t), r->got + r->len, sizeof r->got - r->len, 0)) > 0) {
		r->len += (size_t)n;
		hb_tcp_raw_count(t, HB_DIR_READ, (size_t)n);
	}
	if (n < 0 && errno == EAGAIN)
		hb_tcp_raw_again(t, HB_DIR_READ);
	else if (n < 0)
		hb_tcp_raw_end(t, HB_DIR_READ, errno);
	else
		hb_tcp_raw_end(t, HB_DIR_READ, 0);
}

static void
test_tcp__raw_access(void **state)
{
	struct hbt_sink s = { 0 };
	struct raw r = { 0 };
	int fd;

	hbt_attach(&s, hbt_tcp_and_fd(&fd, false, NULL));
	assert_null(hb_transport_raw(s.t, HB_DIR_READ));
	HBT_UNTIL(s.secured == 1);
	hbt_turns(2);
	assert_ptr_equal(hb_transport_raw(s.t, HB_DIR_READ), s.t);
	assert_ptr_equal(hb_transport_raw(s.t, HB_DIR_WRITE), s.t);
	hb_tcp_raw_begin(s.t, HB_DIR_READ, on_raw, &r);
	assert_true(hb_tcp_is_raw(s.t, HB_DIR_READ));
	hbt_fd_write(fd, "raw", 3);
	HBT_UNTIL(r.len == 3);
	assert_int_equal(s.data, 0);
	assert_int_equal(s.t->bytes_in, 3);
	/* The end is the transport's to find. */
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	HBT_UNTIL(s.ends == 1);
	assert_false(hb_tcp_is_raw(s.t, HB_DIR_READ));
	assert_null(hb_transport_raw(s.t, HB_DIR_READ));
	/* A raw write direction hears of the reset, and gives it back with the error. */
	hb_tcp_raw_begin(s.t, HB_DIR_WRITE, on_raw, &r);
	hbt_fd_reset(fd);
	HBT_UNTIL(r.events[HB_DIR_WRITE] > 0 || s.closed == 1);
	if (s.t != NULL)
		hb_tcp_raw_end(s.t, HB_DIR_WRITE, EPIPE);
	HBT_UNTIL(s.closed == 1);
	assert_int_equal(s.reason, HB_CLOSE_PEER_RESET);
	hbt_sink_fini(&s);
}

static void
test_tcp__raw_reset(void **state)
{
	struct hbt_sink s = { 0 };
	struct raw r = { 0 };
	int fd;

	hbt_attach(&s, hbt_tcp_and_fd(&fd, false, NULL));
	HBT_UNTIL(s.secured == 1);
	hb_tcp_raw_begin(s.t, HB_DIR_READ, on_raw, &r);
	hbt_fd_write(fd, "last", 4);
	hbt_fd_reset(fd);
	HBT_UNTIL(s.closed == 1);
	assert_int_equal(r.len, 4);
	assert_string_equal(s.trace, "csX");
	assert_int_equal(s.reason, HB_CLOSE_PEER_RESET);
	hbt_sink_fini(&s);
}

/* ------------------------------------------------------------------ reset at every byte */

/* The peer sends k bytes of its message and resets: the sink gets exactly those, then the reset. */
static void
test_tcp__reset_at_every_byte(void **state)
{
	const char *message = "GET / HTTP/1.1\r\n\r\n";

	for (size_t k = 0; k <= strlen(message); k++) {
		struct hbt_sink s = { 0 };
		int fd;

		hbt_attach(&s, hbt_splitter(hbt_tcp_and_fd(&fd, false, NULL), 1 + k % 3));
		if (k > 0)
			hbt_fd_write(fd, message, k);
		hbt_fd_reset(fd);
		HBT_UNTIL(s.closed == 1);
		assert_true(hbt_got(&s, message, k));
		assert_int_equal(s.reason, HB_CLOSE_PEER_RESET);
		assert_string_equal(s.trace, k > 0 ? "csdX" : "csX");
		hbt_sink_fini(&s);
	}
}

#define BOTH(t)                                            \
	{ #t " (epoll)", t, setup_epoll, teardown, NULL }, \
	{                                                  \
#t " (uv)", t, setup_uv, teardown, NULL    \
	}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_tcp__conformance),
		BOTH(test_tcp__conformance_small_buffers),
		BOTH(test_tcp__conformance_connecting),
		BOTH(test_tcp__fin_is_an_end_and_end_is_a_fin),
		BOTH(test_tcp__reset_after_bytes_delivers_them_first),
		BOTH(test_tcp__reset_after_the_end_delivers_both),
		BOTH(test_tcp__reset_after_the_end_was_delivered),
		BOTH(test_tcp__write_finds_the_reset),
		BOTH(test_tcp__reset_while_a_tail_is_queued),
		BOTH(test_tcp__abort_is_a_reset),
		BOTH(test_tcp__finish_discards_what_still_comes),
		BOTH(test_tcp__finish_of_a_silent_peer_is_a_clean_close),
		BOTH(test_tcp__nothing_lingers_at_the_end),
		BOTH(test_tcp__a_dripping_peer_is_bounded),
		BOTH(test_tcp__unblocked_relay_copies_nothing),
		BOTH(test_tcp__reads_are_bounded_a_turn),
		BOTH(test_tcp__reading_waits_for_scratch),
		BOTH(test_tcp__writes_before_connected_wait),
		BOTH(test_tcp__connect_refused),
		BOTH(test_tcp__connect_unreachable),
		BOTH(test_tcp__connect_cannot_even_begin),
		BOTH(test_tcp__options),
		BOTH(test_tcp__unix_sockets),
		BOTH(test_tcp__take_fd),
		BOTH(test_tcp__describe),
		BOTH(test_tcp__raw_access),
		BOTH(test_tcp__raw_reset),
		BOTH(test_tcp__reset_at_every_byte),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

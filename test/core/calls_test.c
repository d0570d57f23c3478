/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bytes and connections cost in system calls, counted: the techniques of docs/performance.md that
 * save them cannot get lost unseen, however fast or busy the machine is. libc's functions are
 * replaced by ones that count.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "core/event/io.h"
#include "core/transport/pump.h"
#include "core/transport/tcp.h"
#include "test/support/ends.h"

#define MIB    (1024u * 1024u)
#define RECORD 16384u

static struct {
	unsigned recv, send, epoll_ctl, pipe, splice, getpeername;
} calls;

ssize_t
recv(int fd, void *p, size_t n, int flags)
{
	calls.recv++;
	return (syscall(SYS_recvfrom, fd, p, n, flags, NULL, NULL));
}

ssize_t
send(int fd, const void *p, size_t n, int flags)
{
	calls.send++;
	return (syscall(SYS_sendto, fd, p, n, flags, NULL, 0));
}

ssize_t
sendmsg(int fd, const struct msghdr *m, int flags)
{
	calls.send++;
	return (syscall(SYS_sendmsg, fd, m, flags));
}

int
epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
	calls.epoll_ctl++;
	return ((int)syscall(SYS_epoll_ctl, epfd, op, fd, ev));
}

int
getpeername(int fd, struct sockaddr *restrict sa, socklen_t *restrict len)
{
	calls.getpeername++;
	return ((int)syscall(SYS_getpeername, fd, sa, len));
}

int
pipe2(int fd[2], int flags)
{
	calls.pipe++;
	return ((int)syscall(SYS_pipe2, fd, flags));
}

ssize_t
splice(int in, off64_t *off_in, int out, off64_t *off_out, size_t n, unsigned flags)
{
	calls.splice++;
	return (syscall(SYS_splice, in, off_in, out, off_out, n, flags));
}

static void
forget(void)
{
	memset(&calls, 0, sizeof calls);
}

/* ------------------------------------------------------------------ a socket */

/* One EPOLL_CTL_ADD as it begins; closing the descriptor is the end of that. */
static void
test_calls__epoll_ctl(void **state)
{
	struct hbt_sink s = { 0 };
	char text[8];
	int fd;

	hbt_turns(2); /* the loop's own descriptors */
	forget();
	hbt_attach(&s, hbt_tcp_and_fd(&fd, false, NULL));
	HBT_UNTIL(s.secured == 1);
	for (int i = 0; i < 8; i++) {
		hbt_fd_write(fd, "question", 8);
		HBT_UNTIL(s.got.len == (i + 1) * sizeof text);
		hbt_write(&s, "response", 8, false);
		hbt_fd_read_n(fd, text, sizeof text);
	}
	(void)close(fd);
	HBT_UNTIL(s.ends == 1);
	hb_transport_finish(&s.t, HB_CLOSE_DONE);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	assert_int_equal(calls.epoll_ctl, 1);
	hbt_sink_fini(&s);
}

/* That a connection stands is told by readiness; the kernel is asked why one failed. */
static void
test_calls__connect(void **state)
{
	struct hbt_sink s = { 0 }, refused = { 0 };
	struct sockaddr_storage at;
	struct hb_tcp_connect c = { .addr = (struct sockaddr *)&at };
	int fd = hbt_listen(&at, &c.addr_len);

	forget();
	hbt_attach(&s, hb_tcp_connect(hbt_worker(), &c, NULL));
	HBT_UNTIL(s.secured == 1);
	assert_int_equal(calls.getpeername, 0);
	assert_int_equal(calls.epoll_ctl, 1);
	hbt_sink_fini(&s);
	(void)close(fd);
	hbt_attach(&refused, hb_tcp_connect(hbt_worker(), &c, NULL));
	HBT_UNTIL(refused.closed == 1);
	assert_int_equal(refused.reason, HB_CLOSE_CONNECT_REFUSED);
	hbt_sink_fini(&refused);
}

static bool
acceptable(int listener)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };

	return (poll(&p, 1, 0) == 1);
}

/* A connection that speaks first: its handshake ends with its bytes, by a packet and a wake-up of the peer
 * less, which has them when it accepts. */
static void
test_calls__speaks_first(void **state)
{
	struct sockaddr_storage at;
	struct hb_tcp_connect c = { .addr = (struct sockaddr *)&at };
	struct hbt_sink plain = { 0 }, s = { 0 };
	int fd = hbt_listen(&at, &c.addr_len), peer;
	char text[8];

	forget();
	hbt_attach(&plain, hb_tcp_connect(hbt_worker(), &c, NULL));
	HBT_UNTIL(plain.secured == 1);
	assert_true(acceptable(fd));
	(void)close(accept(fd, NULL, NULL));
	c.speaks_first = true;
	hbt_attach(&s, hb_tcp_connect(hbt_worker(), &c, NULL));
	HBT_UNTIL(s.secured == 1);
	assert_false(acceptable(fd));
	hbt_write(&s, "question", 8, false);
	assert_true(acceptable(fd));
	peer = accept(fd, NULL, NULL);
	assert_int_equal(recv(peer, text, sizeof text, MSG_DONTWAIT), 8);
	hbt_sink_fini(&s);
	hbt_sink_fini(&plain);
	(void)close(peer);
	(void)close(fd);
}

/* A message that is read by one call, and answered by one call, which comes before the loop turns. */
static void
test_calls__message(void **state)
{
	struct hbt_sink s = { .echo = true };
	char text[64] = "there and back";
	int fd;

	hbt_attach(&s, hbt_tcp_and_fd(&fd, false, NULL));
	HBT_UNTIL(s.secured == 1);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(syscall(SYS_write, fd, text, sizeof text), sizeof text);
		forget();
		while (calls.send == 0)
			hbt_turns(1);
		hbt_turns(4);
		assert_int_equal(calls.recv, 1);
		assert_int_equal(calls.send, 1);
		assert_int_equal(calls.epoll_ctl, 0);
		assert_int_equal(syscall(SYS_read, fd, text, sizeof text), sizeof text);
	}
	hbt_sink_fini(&s);
	(void)close(fd);
}

/* ------------------------------------------------------------------ TLS */

/* Records go, and come, a MiB to a call where the socket lets them: not one each, and not 256 KiB. */
static void
test_calls__tls_batches(void **state)
{
	struct hbt_sink a = { 0 }, b = { 0 };
	struct hb_transport *t[2];
	struct hbt_feed feed = { .len = 8 * MIB, .chunk = MIB };
	uint8_t *p = hbt_pattern(feed.len, 3);
	unsigned records = (unsigned)(feed.len / RECORD);

	hbt_ends(HBT_OVER_TLS, 0, &t[0], &t[1]);
	hbt_attach(&a, t[0]);
	hbt_attach(&b, t[1]);
	HBT_UNTIL(a.secured == 1 && b.secured == 1);
	feed.p = p;
	a.arg = &feed;
	a.hook = hbt_feed;
	forget();
	hbt_feed(&a, HBT_SECURED);
	HBT_UNTIL(b.ends == 1);
	assert_true(hbt_got(&b, p, feed.len));
	print_message("%u records: %u calls that send, %u that receive\n", records, calls.send,
		calls.recv);
	assert_in_range(calls.send, 1, records / 24);
	assert_in_range(calls.recv, 1, records / 24);
	hbt_sink_fini(&a);
	hbt_sink_fini(&b);
	hb_free(p);
}

/* ------------------------------------------------------------------ splice */

static void
on_done(struct hb_pump *p, enum hb_pump_side by, enum hb_close_reason reason)
{
	HB_WRONG("neither side ends");
}

static const struct hb_pump_ops pump_ops = { .on_done = on_done };

/* 8 MiB through a pump between two sockets of this worker. */
static void
relay(void)
{
	static const struct hb_pump_options options;
	static uint8_t block[256 * 1024];
	struct hb_pump pump = { 0 };
	struct hb_transport *t[2];
	struct hbt_sink maker[2] = { 0 };
	size_t sent = 0, got = 0;
	ssize_t n;
	int fd[2];

	for (int i = 0; i < 2; i++) {
		t[i] = hbt_tcp_and_fd(&fd[i], false, NULL);
		hbt_attach_paused(&maker[i], t[i]);
		HBT_UNTIL(maker[i].connected == 1);
	}
	hb_pump_start(&pump, t[0], t[1], &pump_ops, &options);
	forget();
	while (got < 8 * MIB) {
		n = sent == 8 * MIB ? 0 : syscall(SYS_write, fd[0], block, sizeof block);
		sent += n > 0 ? (size_t)n : 0;
		hbt_turns(1);
		n = syscall(SYS_read, fd[1], block, sizeof block);
		got += n > 0 ? (size_t)n : 0;
	}
	assert_true(pump.dir[HB_PUMP_A].spliced > 4 * MIB);
	hb_pump_abort(&pump, HB_CLOSE_LOCAL_CLOSE);
	hbt_turns(4);
	for (int i = 0; i < 2; i++)
		(void)close(fd[i]);
}

/* A pipe costs five calls (pipe2, two to size it, two to close): the next connection has the last one's. */
static void
test_calls__pipes_are_pooled(void **state)
{
	relay();
	assert_true(calls.pipe <= 1 && calls.splice > 0);
	print_message("8 MiB: %u calls of splice, %u of recv and %u of send before\n", calls.splice,
		calls.recv, calls.send);
	relay();
	assert_int_equal(calls.pipe, 0);
	assert_int_equal(calls.epoll_ctl, 0);
	assert_true(calls.splice > 0 && calls.recv <= 16 && calls.send <= 16);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls__epoll_ctl),
		cmocka_unit_test(test_calls__connect),
		cmocka_unit_test(test_calls__speaks_first),
		cmocka_unit_test(test_calls__message),
		cmocka_unit_test(test_calls__tls_batches),
		cmocka_unit_test(test_calls__pipes_are_pooled),
	};

	return (cmocka_run_group_tests(tests, hbt_ends_setup, hbt_ends_teardown));
}

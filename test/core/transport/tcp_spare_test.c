/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets whose connection is over are connected again, and only those: what must not become a spare one is
 * seen by the call of socket() that the next connection makes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "core/transport/tcp_spare_priv.h"
#include "test/support/harness.h"

static unsigned sockets, watched;
static bool dissolving_fails;
static struct sockaddr_storage at;
static socklen_t at_len;
static int listener;

int
socket(int family, int type, int protocol)
{
	sockets++;
	return ((int)syscall(SYS_socket, family, type, protocol));
}

int
epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
	watched += op == EPOLL_CTL_ADD;
	return ((int)syscall(SYS_epoll_ctl, epfd, op, fd, ev));
}

int
connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	if (sa->sa_family == AF_UNSPEC && dissolving_fails) {
		errno = EAFNOSUPPORT;
		return (-1);
	}
	return ((int)syscall(SYS_connect, fd, sa, len));
}

static int
setup(void **state)
{
	(void)hbt_init(HB_IO_EPOLL);
	listener = hbt_listen(&at, &at_len);
	return (0);
}

static int
setup_uv(void **state)
{
	(void)hbt_init(HB_IO_UV);
	listener = hbt_listen(&at, &at_len);
	return (0);
}

static int
teardown(void **state)
{
	(void)close(listener);
	dissolving_fails = false;
	hbt_fini();
	return (0);
}

/* ------------------------------------------------------------------ one connection */

struct end {
	struct hbt_sink sink;
	int fd; /* of the peer */
};

static void
open_with(struct end *e, struct hb_tcp_connect *c)
{
	memset(e, 0, sizeof *e);
	c->addr = (struct sockaddr *)&at;
	c->addr_len = at_len;
	sockets = watched = 0;
	hbt_attach(&e->sink, hb_tcp_connect(hbt_worker(), c, NULL));
	e->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(e->fd >= 0);
	HBT_UNTIL(e->sink.secured == 1);
}

static void
open_end(struct end *e)
{
	struct hb_tcp_connect c = { 0 };

	open_with(e, &c);
}

/* Bytes go there and back. */
static void
talk(struct end *e)
{
	char text[8];

	hbt_writez(&e->sink, "question", false);
	hbt_fd_read_n(e->fd, text, sizeof text);
	assert_memory_equal(text, "question", 8);
	hbt_fd_write(e->fd, "answer", 6);
	HBT_UNTIL(hbt_gotz(&e->sink, "answer"));
}

static void
gone(struct end *e)
{
	hbt_turns(4);
	hbt_sink_fini(&e->sink);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 0);
}

/* Our end first, then the peer's. */
static void
close_in_order(struct end *e)
{
	char c;

	hbt_write(&e->sink, NULL, 0, true);
	assert_int_equal(hbt_fd_read(e->fd, &c, 1), 0);
	(void)close(e->fd);
	HBT_UNTIL(e->sink.closed == 1);
	assert_int_equal(e->sink.reason, HB_CLOSE_DONE);
	gone(e);
}

static void
expect_new_socket(void)
{
	struct end e;

	open_end(&e);
	assert_int_equal(sockets, 1);
	talk(&e);
	close_in_order(&e);
}

/* ------------------------------------------------------------------ again */

static void
test_spare__connects_again(void **state)
{
	struct end e;
	int on = 0;
	socklen_t len = sizeof on;

	expect_new_socket();
	for (int i = 0; i < 20; i++) {
		open_end(&e);
		assert_int_equal(sockets, 0);
		assert_int_equal(watched, 0);
		assert_int_equal(getsockopt(hb_tcp_fd(e.sink.t), IPPROTO_TCP, TCP_NODELAY, &on, &len),
			0);
		assert_int_not_equal(on, 0);
		talk(&e);
		assert_string_equal(e.sink.trace, "csd");
		close_in_order(&e);
	}
}

/* One that speaks first waits with the end of its handshake each time, and serves its like alone. */
static void
test_spare__speaks_first(void **state)
{
	struct hb_tcp_connect c = { .addr = (struct sockaddr *)&at,
		.addr_len = at_len,
		.speaks_first = true };
	struct pollfd p = { .fd = listener, .events = POLLIN };
	struct end e;

	for (unsigned i = 0; i < 3; i++) {
		memset(&e, 0, sizeof e);
		sockets = 0;
		hbt_attach(&e.sink, hb_tcp_connect(hbt_worker(), &c, NULL));
		assert_int_equal(sockets, i == 0 ? 1 : 0);
		HBT_UNTIL(e.sink.secured == 1);
		assert_int_equal(poll(&p, 1, 0), 0);
		hbt_writez(&e.sink, "hello", false);
		e.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		assert_true(e.fd >= 0);
		assert_int_equal(hbt_fd_read(e.fd, (char[8]){ 0 }, 5), 5);
		talk(&e);
		close_in_order(&e);
	}
	expect_new_socket();
}

static void
connect_at_once(struct hbt_sink *s, enum hbt_event event)
{
	struct hb_tcp_connect c = { .addr = (struct sockaddr *)&at, .addr_len = at_len };

	if (event != HBT_CLOSED)
		return;
	sockets = 0;
	hbt_attach(s->arg, hb_tcp_connect(hbt_worker(), &c, NULL));
	assert_int_equal(sockets, 1);
}

/* A new connection of the turn in which the old one has ended must get no event of that one. */
static void
test_spare__not_in_the_same_turn(void **state)
{
	struct end a, b = { 0 };

	expect_new_socket();
	open_end(&a);
	assert_int_equal(sockets, 0);
	a.sink.arg = &b.sink;
	a.sink.hook = connect_at_once;
	close_in_order(&a);
	b.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	HBT_UNTIL(b.sink.secured == 1);
	talk(&b);
	close_in_order(&b);
}

static void
test_spare__refused(void **state)
{
	struct hbt_sink s = { 0 };
	struct hb_tcp_connect c = { .addr = (struct sockaddr *)&at, .addr_len = at_len };

	expect_new_socket();
	(void)close(listener);
	sockets = 0;
	hbt_attach(&s, hb_tcp_connect(hbt_worker(), &c, NULL));
	HBT_UNTIL(s.closed == 1);
	assert_int_equal(sockets, 0);
	assert_int_equal(s.reason, HB_CLOSE_CONNECT_REFUSED);
	hbt_sink_fini(&s);
	hbt_turns(2);
	listener = hbt_listen(&at, &at_len);
	expect_new_socket();
}

/* ------------------------------------------------------------------ not again */

static void
test_spare__unclean_ends(void **state)
{
	struct end e;

	open_end(&e);
	talk(&e);
	hbt_fd_reset(e.fd);
	HBT_UNTIL(e.sink.closed == 1);
	gone(&e);
	open_end(&e);
	assert_int_equal(sockets, 1);
	hb_transport_abort(&e.sink.t, HB_CLOSE_LOCAL_CLOSE);
	(void)close(e.fd);
	gone(&e);
	/* A reset behind our end. */
	open_end(&e);
	assert_int_equal(sockets, 1);
	hbt_write(&e.sink, NULL, 0, true);
	hbt_fd_reset(e.fd);
	HBT_UNTIL(e.sink.closed == 1);
	gone(&e);
	expect_new_socket();
}

/* The peer ended first: closing sends our end, which nobody has acknowledged yet. */
static void
test_spare__our_end_on_its_way(void **state)
{
	struct end e;

	open_end(&e);
	assert_int_equal(shutdown(e.fd, SHUT_WR), 0);
	HBT_UNTIL(e.sink.ends == 1);
	hbt_write(&e.sink, NULL, 0, true);
	HBT_UNTIL(e.sink.closed == 1);
	(void)close(e.fd);
	gone(&e);
	expect_new_socket();
}

static void
test_spare__grown(void **state)
{
	static char block[100000];
	struct end e;

	open_end(&e);
	hbt_fd_write(e.fd, block, sizeof block);
	HBT_UNTIL(e.sink.got.len == sizeof block);
	close_in_order(&e);
	expect_new_socket();
}

/* A socket with an option of its own neither is one nor becomes one. */
static void
test_spare__options(void **state)
{
	const struct sockaddr_in own = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int on = 1;
	const struct hb_tcp_sockopt o = { SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on, "keepalive" };
	struct hb_tcp_connect c[] = {
		{ .bind_to = (const struct sockaddr *)&own, .bind_len = sizeof own },
		{ .sockopts = &o, .n_sockopts = 1 },
		{ .options.keepalive = true },
		{ .options.nodelay_off = true },
		{ .options.congestion = "reno" },
		{ .freebind = true },
	};
	struct end e;

	for (size_t i = 0; i < HB_ARRAY_LEN(c); i++) {
		open_with(&e, &c[i]);
		assert_int_equal(sockets, 1);
		talk(&e);
		close_in_order(&e);
	}
	expect_new_socket();
	open_with(&e, &c[0]);
	assert_int_equal(sockets, 1);
	close_in_order(&e);
	open_end(&e);
	assert_int_equal(sockets, 0);
	close_in_order(&e);
}

static void
test_spare__another_family(void **state)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_storage four = at;
	socklen_t four_len = at_len;
	int fd4 = listener, fd6 = (int)syscall(SYS_socket, AF_INET6, SOCK_STREAM, 0);
	struct end e;

	if (fd6 < 0 || bind(fd6, (struct sockaddr *)&sin6, sizeof sin6) != 0) {
		(void)close(fd6);
		skip(); /* no IPv6 here */
	}
	assert_int_equal(listen(fd6, 8), 0);
	expect_new_socket();
	listener = fd6;
	at_len = sizeof at;
	assert_int_equal(getsockname(fd6, (struct sockaddr *)&at, &at_len), 0);
	expect_new_socket();
	open_end(&e);
	assert_int_equal(sockets, 0);
	talk(&e);
	close_in_order(&e);
	(void)close(fd6);
	listener = fd4;
	at = four;
	at_len = four_len;
	open_end(&e);
	assert_int_equal(sockets, 0);
	talk(&e);
	close_in_order(&e);
}

/* Where the kernel cannot, there is a new socket. */
static void
test_spare__dissolving_fails(void **state)
{
	expect_new_socket();
	dissolving_fails = true;
	expect_new_socket();
}

static void
test_spare__so_many(void **state)
{
	static struct end e[HB_TCP_SPARES_MAX + 4];
	unsigned again = 0;

	for (size_t i = 0; i < HB_ARRAY_LEN(e); i++)
		open_end(&e[i]);
	for (size_t i = 0; i < HB_ARRAY_LEN(e); i++)
		close_in_order(&e[i]);
	for (size_t i = 0; i < HB_ARRAY_LEN(e); i++) {
		open_end(&e[i]);
		again += sockets == 0;
	}
	assert_int_equal(again, HB_TCP_SPARES_MAX);
	for (size_t i = 0; i < HB_ARRAY_LEN(e); i++)
		close_in_order(&e[i]);
}

/* libuv's poll does not come back from a hang-up. */
static void
test_spare__uv_has_none(void **state)
{
	expect_new_socket();
	expect_new_socket();
}

#define CASE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_spare__connects_again),
		CASE(test_spare__speaks_first),
		CASE(test_spare__not_in_the_same_turn),
		CASE(test_spare__refused),
		CASE(test_spare__unclean_ends),
		CASE(test_spare__our_end_on_its_way),
		CASE(test_spare__grown),
		CASE(test_spare__options),
		CASE(test_spare__another_family),
		CASE(test_spare__dissolving_fails),
		CASE(test_spare__so_many),
		cmocka_unit_test_setup_teardown(test_spare__uv_has_none, setup_uv, teardown),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor: what a proxy in user space needs at least for the work of a row, measured in the same
 * rounds (docs/performance.md). One thread, one edge-triggered epoll set, a table by descriptor, and
 * no logic: no configuration, limits, timers, counters, names or logs. What it answers to is the load
 * tool, whose errors are the test; it is no proxy for anything else.
 *
 * floor passthrough PORT ORIGIN: the first bytes of a connection go to 127.0.0.1:ORIGIN, then both
 * directions, by recv and send, in bulk by splice through a pipe of 1 MiB.
 * floor streams PORT ORIGIN, floor tunnels PORT ORIGIN: bare.h, without TLS and HTTP/2; a tunnel
 * pays for the key exchange and the signatures of TLS 1.3, nothing else of it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/curve25519.h>
#include <openssl/ec_key.h>
#include <openssl/ecdsa.h>
#include <openssl/nid.h>

#include "core/base/base.h"
#include "test/bench/bare.h"

#define PIPE   (1u << 20)
#define EVENTS 256
#define SPLICE (SPLICE_F_MOVE | SPLICE_F_NONBLOCK)

/* From FIRST to ORDERS bytes are read here, later by relay(). */
enum state {
	FREE,
	LISTEN,
	FIRST,  /* passthrough: nothing has come yet                        */
	HELLO,  /* tunnels: the first message comes                         */
	FINISH, /* … the second                                             */
	ORDERS, /* streams: the connection that stays                       */
	DIALS,  /* upstream: the peer is told when it stands                */
	RELAY,
	LEAVES /* upstream of a stream that was closed: waits for its end  */
};

struct end {
	enum state state;
	int peer; /* 0 = none */
	bool watched, hup;
	bool ended;   /* the end of what comes here was passed on           */
	bool resumed; /* HELLO and later                                    */
	size_t got;   /* HELLO, FINISH: bytes                               */
	int pipe[2];  /* from here to the peer; 0 = none yet                */
	size_t piped; /* bytes in it                                        */
};

static struct end *ends; /* by descriptor */
static int ep;
static enum state begins;
static struct sockaddr_in origin;
static uint8_t scratch[65536], hot[BARE_FLIGHT];
static EC_KEY *key;

static void
drop(int fd)
{
	struct end *e = &ends[fd];

	if (e->pipe[0] != 0) {
		(void)close(e->pipe[0]);
		(void)close(e->pipe[1]);
	}
	memset(e, 0, sizeof *e);
	(void)close(fd);
}

static void
drop_both(int fd)
{
	int peer = ends[fd].peer;

	if (peer != 0)
		drop(peer);
	drop(fd);
}

static void
watch(int fd)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET };

	if (ends[fd].watched)
		return;
	ends[fd].watched = true;
	ev.data.fd = fd;
	HB_ASSERT(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == 0);
}

/* ------------------------------------------------------------------ both directions */

static void
open_pipe(struct end *e)
{
	HB_ASSERT(pipe2(e->pipe, O_NONBLOCK | O_CLOEXEC) == 0);
	(void)fcntl(e->pipe[0], F_SETPIPE_SZ, PIPE);
}

/* To the peer; what it does not take waits in the pipe. */
static void
give(int fd, const uint8_t *p, size_t n)
{
	struct end *e = &ends[fd];
	ssize_t sent = send(e->peer, p, n, MSG_NOSIGNAL);

	if (sent == (ssize_t)n)
		return;
	if (sent < 0 && errno != EAGAIN) {
		drop_both(fd);
		return;
	}
	sent = HB_MAX(sent, 0);
	if (e->pipe[0] == 0)
		open_pipe(e);
	e->piped = n - (size_t)sent;
	HB_ASSERT(write(e->pipe[1], p + sent, e->piped) == (ssize_t)e->piped);
}

/* False: the peer takes no more now, or all is over. */
static bool
empty_pipe(int fd)
{
	struct end *e = &ends[fd];
	ssize_t n;

	while (e->piped > 0) {
		n = splice(e->pipe[0], NULL, e->peer, NULL, e->piped, SPLICE);
		if (n < 0 && errno != EAGAIN)
			drop_both(fd);
		if (n < 0)
			return (false);
		e->piped -= (size_t)n;
	}
	return (e->state != FREE);
}

static void
pass_end(int fd)
{
	struct end *e = &ends[fd];

	e->ended = true;
	if (ends[e->peer].ended)
		drop_both(fd);
	else
		(void)shutdown(e->peer, SHUT_WR);
}

/* As recv or splice; *ret_more: there may be more. */
static ssize_t
take(int fd, bool *ret_more)
{
	struct end *e = &ends[fd];
	ssize_t n;

	*ret_more = true;
	if (e->pipe[0] != 0) {
		n = splice(fd, NULL, e->pipe[1], NULL, PIPE, SPLICE);
		e->piped = n > 0 ? (size_t)n : 0;
		return (n);
	}
	n = recv(fd, scratch, sizeof scratch, 0);
	if (n == (ssize_t)sizeof scratch)
		open_pipe(e);
	else
		*ret_more = e->hup;
	if (n > 0)
		give(fd, scratch, (size_t)n);
	return (n);
}

static void
relay(int fd)
{
	struct end *e = &ends[fd];
	bool more = true;
	ssize_t n;

	while (!e->ended && empty_pipe(fd) && more) {
		n = take(fd, &more);
		if (n == 0) {
			pass_end(fd);
		} else if (n < 0) {
			if (errno != EAGAIN)
				drop_both(fd);
			return;
		}
	}
}

/* ------------------------------------------------------------------ upstream */

static void
dial(int fd, enum state state)
{
	int up = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	HB_ASSERT(up >= 0);
	HB_ASSERT(connect(up, (struct sockaddr *)&origin, sizeof origin) == 0 ||
		errno == EINPROGRESS);
	ends[up].state = state;
	ends[up].peer = fd;
	ends[fd].peer = up;
	watch(up);
}

static void
stands(int up)
{
	static const uint8_t opened = BARE_OPENED;

	ends[up].state = RELAY;
	give(up, &opened, 1);
}

/* ------------------------------------------------------------------ first bytes */

static void
first(int fd)
{
	ssize_t n = recv(fd, scratch, sizeof scratch, 0);

	watch(fd);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		drop(fd);
		return;
	}
	ends[fd].state = RELAY;
	dial(fd, RELAY);
	give(fd, scratch, (size_t)n);
	/* No edge tells of what did not fit. */
	if (n == (ssize_t)sizeof scratch)
		relay(fd);
}

/* An ephemeral key and the shared secret. */
static void
exchange_keys(void)
{
	uint8_t public[32], private[32], shared[32];

	X25519_keypair(public, private);
	HB_ASSERT(X25519(shared, private, public) == 1);
}

static void
sign(bool check)
{
	static uint8_t signature[128], digest[32];
	static unsigned len = sizeof signature;

	if (check)
		HB_ASSERT(ECDSA_verify(0, digest, sizeof digest, signature, len, key) == 1);
	else
		HB_ASSERT(ECDSA_sign(0, digest, sizeof digest, signature, &len, key) == 1);
}

/* A message of a handshake, in one piece or in several. */
static void
handshake(int fd)
{
	struct end *e = &ends[fd];
	ssize_t n = recv(fd, scratch, sizeof scratch, 0);
	size_t finish;

	watch(fd);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		drop(fd);
		return;
	}
	if (e->state == HELLO && e->got == 0)
		e->resumed = scratch[0] == BARE_RESUMED;
	e->got += (size_t)n;
	finish = e->resumed ? BARE_SHORT : BARE_FINISH;
	if (e->state == HELLO && e->got == BARE_HELLO) {
		exchange_keys();
		if (!e->resumed)
			sign(false);
		e->got = 0;
		e->state = FINISH;
		n = e->resumed ? BARE_SHORT : BARE_FLIGHT;
		HB_ASSERT(send(fd, hot, (size_t)n, MSG_NOSIGNAL) == n);
	} else if (e->state == FINISH && e->got == finish) {
		if (!e->resumed)
			sign(true);
		e->state = RELAY;
		dial(fd, DIALS);
	}
}

static void
order(int fd)
{
	ssize_t n = recv(fd, scratch, sizeof scratch, 0);
	struct end *e = &ends[fd];
	size_t at = 0;

	watch(fd);
	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		drop_both(fd);
		return;
	}
	if (n > 0 && scratch[at] == BARE_CLOSE) {
		(void)shutdown(e->peer, SHUT_WR);
		ends[e->peer].state = LEAVES;
		e->peer = 0;
		at++;
	}
	if ((ssize_t)at >= n)
		return;
	if (scratch[at] == BARE_OPEN)
		dial(fd, DIALS);
	else
		give(fd, scratch + at, (size_t)n - at);
}

static void
leave(int up)
{
	ssize_t n;

	do {
		n = recv(up, scratch, sizeof scratch, 0);
	} while (n > 0);
	if (n == 0 || errno != EAGAIN)
		drop(up);
}

/* ------------------------------------------------------------------ events */

static void
readable(int fd)
{
	switch (ends[fd].state) {
	case FIRST:
		first(fd);
		break;
	case HELLO:
	case FINISH:
		handshake(fd);
		break;
	case ORDERS:
		order(fd);
		break;
	case RELAY:
		relay(fd);
		break;
	case LEAVES:
		leave(fd);
		break;
	default:
		break;
	}
}

/* An end that came with the last bytes: no edge tells of it again. */
static void
readable_to_the_end(int fd)
{
	struct end *e = &ends[fd];
	enum state before;

	do {
		before = e->state;
		readable(fd);
	} while (e->hup && before >= FIRST && before <= ORDERS && e->state != FREE);
}

static void
on_event(const struct epoll_event *ev)
{
	int fd = ev->data.fd;
	struct end *e = &ends[fd];

	if (e->state == FREE)
		return;
	e->hup = e->hup || (ev->events & EPOLLRDHUP) != 0;
	if (e->ended && (ev->events & EPOLLERR)) {
		drop_both(fd);
		return;
	}
	if (ev->events & EPOLLOUT) {
		if (e->state == DIALS)
			stands(fd);
		else if (e->peer != 0 && ends[e->peer].piped > 0)
			relay(e->peer);
	}
	if (ev->events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		readable_to_the_end(fd);
}

static void
accept_one(int lfd)
{
	int fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	HB_ASSERT(ends[fd].state == FREE);
	ends[fd].state = begins;
	/* Often they are here already. */
	readable(fd);
}

/* New connections last: they must not get a descriptor for which there is an event yet. */
static void
turn(int lfd)
{
	struct epoll_event ev[EVENTS];
	int n = epoll_wait(ep, ev, EVENTS, -1);
	bool accepts = false;

	for (int i = 0; i < n; i++) {
		if (ev[i].data.fd == lfd)
			accepts = true;
		else
			on_event(&ev[i]);
	}
	if (accepts)
		accept_one(lfd);
}

static int
listen_on(uint16_t port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct epoll_event ev = { .events = EPOLLIN };
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof at;

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
		bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 4096) != 0 ||
		getsockname(fd, (struct sockaddr *)&at, &len) != 0) {
		fprintf(stderr, "floor: cannot listen on 127.0.0.1:%u: %s\n", port,
			strerror(errno));
		exit(1);
	}
	ev.data.fd = fd;
	HB_ASSERT(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == 0);
	printf("{\"ready\":true,\"port\":%u}\n", ntohs(at.sin_port));
	(void)fflush(stdout);
	return (fd);
}

int
main(int argc, char **argv)
{
	struct rlimit files;
	int lfd;

	if (argc != 4) {
		fputs("usage: floor passthrough|streams|tunnels PORT ORIGIN-PORT\n", stderr);
		return (1);
	}
	begins = strcmp(argv[1], "streams") == 0 ? ORDERS :
		strcmp(argv[1], "tunnels") == 0  ? HELLO :
						   FIRST;
	origin.sin_family = AF_INET;
	origin.sin_port = htons((uint16_t)atoi(argv[3]));
	origin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	HB_ASSERT(getrlimit(RLIMIT_NOFILE, &files) == 0);
	ends = hb_calloc((size_t)files.rlim_cur, sizeof *ends);
	key = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
	HB_ASSERT(key != NULL && EC_KEY_generate_key(key) == 1);
	ep = epoll_create1(EPOLL_CLOEXEC);
	HB_ASSERT(ep >= 0);
	lfd = listen_on((uint16_t)atoi(argv[2]));
	for (;;)
		turn(lfd);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor passthrough PORT ORIGIN: the first bytes of a connection go to 127.0.0.1:ORIGIN, then both
 * directions, by recv and send, in bulk by splice through a pipe of 1 MiB.
 */
#include <fcntl.h>
#include <string.h>
#include "test/bench/floor.h"

#define PIPE   (1u << 20)
#define SPLICE (SPLICE_F_MOVE | SPLICE_F_NONBLOCK)

/* FIRST: nothing has come yet. */
enum state { FREE, FIRST, RELAY };

struct end {
	enum state state;
	int peer; /* 0 = none */
	bool watched, hup;
	bool ended;   /* the end of what comes here was passed on           */
	int pipe[2];  /* from here to the peer; 0 = none yet                */
	size_t piped; /* bytes in it                                        */
};

static struct end *ends; /* by descriptor */
static uint8_t scratch[65536];

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
	if (!ends[fd].watched)
		floor_watch(fd);
	ends[fd].watched = true;
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

/* ------------------------------------------------------------------ first bytes */

static void
dial(int fd)
{
	int up = floor_dial();

	ends[up].state = ends[fd].state = RELAY;
	ends[up].peer = fd;
	ends[fd].peer = up;
	watch(up);
}

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
	dial(fd);
	give(fd, scratch, (size_t)n);
	/* No edge tells of what did not fit. */
	if (n == (ssize_t)sizeof scratch)
		relay(fd);
}

/* ------------------------------------------------------------------ events */

static void
readable(int fd)
{
	if (ends[fd].state == FIRST)
		first(fd);
	else if (ends[fd].state == RELAY)
		relay(fd);
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
	} while (e->hup && before == FIRST && e->state != FREE);
}

static void
event(int fd, uint32_t events)
{
	struct end *e = &ends[fd];

	if (e->state == FREE)
		return;
	e->hup = e->hup || (events & EPOLLRDHUP) != 0;
	if (e->ended && (events & EPOLLERR)) {
		drop_both(fd);
		return;
	}
	if ((events & EPOLLOUT) && e->peer != 0 && ends[e->peer].piped > 0)
		relay(e->peer);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		readable_to_the_end(fd);
}

static void
accepted(int fd)
{
	HB_ASSERT(ends[fd].state == FREE);
	ends[fd].state = FIRST;
	/* Often they are here already. */
	readable(fd);
}

static void
begin(size_t n_files, char **arguments)
{
	(void)arguments;
	ends = hb_calloc(n_files, sizeof *ends);
}

const struct floor_work floor_passthrough = { begin, accepted, event, NULL };

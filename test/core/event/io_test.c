/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/event/io.h"

static struct hb_worker *w;

struct end {
	struct hb_io io;
	unsigned events; /* all seen, or-ed */
	unsigned calls;
	size_t got;
	bool eof;
	bool drain; /* read until EAGAIN, then again */
	void (*extra)(struct end *);
};

static void
on_end(struct hb_io *io, unsigned events)
{
	struct end *e = HB_CONTAINER(io, struct end, io);
	char buf[64];
	ssize_t n;

	e->events |= events;
	e->calls++;
	if (e->extra != NULL)
		e->extra(e);
	if (!e->drain || !hb_io_watched(io) || !(events & HB_IO_READ))
		return;
	while ((n = read(io->fd, buf, sizeof buf)) > 0)
		e->got += (size_t)n;
	if (n == 0)
		e->eof = true;
	else
		hb_io_again(io, HB_IO_READ);
}

static void
pair(int fd[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
}

static void
turns(int n)
{
	for (int i = 0; i < n; i++)
		hb_worker_turn(w, false);
}

static void
start(struct end *e, int fd)
{
	assert_int_equal(hb_io_start(&e->io, w, fd, on_end, NULL), 0);
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
setup_epoll(void **state)
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
	hb_workers_fini();
	return (0);
}

static void
test_io__edges(void **state)
{
	struct end a = { 0 };
	int fd[2];
	char buf[8];

	pair(fd);
	start(&a, fd[0]);
	assert_int_equal(a.calls, 0);
	turns(3);
	assert_int_equal(a.events, HB_IO_WRITE);
	assert_int_equal(a.calls, 1); /* writable once, not in each turn */
	a.calls = a.events = 0;
	assert_int_equal(write(fd[1], "x", 1), 1);
	turns(3);
	assert_true(a.events & HB_IO_READ);
	assert_int_equal(a.calls, 1);
	/* Nobody read: no further event. */
	turns(3);
	assert_int_equal(a.calls, 1);
	assert_int_equal(read(fd[0], buf, 8), 1);
	assert_int_equal(read(fd[0], buf, 8), -1);
	hb_io_again(&a.io, HB_IO_READ);
	turns(2);
	assert_int_equal(a.calls, 1);
	a.events = 0;
	assert_int_equal(write(fd[1], "y", 1), 1);
	turns(2);
	assert_int_equal(a.calls, 2);
	assert_true(a.events & HB_IO_READ);
	hb_io_stop(&a.io);
	hb_io_stop(&a.io);
	(void)close(fd[0]);
	(void)close(fd[1]);
}

static void
test_io__writable_again(void **state)
{
	struct end a = { 0 };
	static char block[65536];
	int fd[2];
	ssize_t n;

	pair(fd);
	start(&a, fd[0]);
	turns(2);
	while (write(fd[0], block, sizeof block) > 0)
		;
	hb_io_again(&a.io, HB_IO_WRITE);
	turns(2);
	a.events = 0;
	while ((n = read(fd[1], block, sizeof block)) > 0)
		;
	assert_int_equal(n, -1);
	turns(2);
	assert_true(a.events & HB_IO_WRITE);
	hb_io_close(&a.io);
	assert_int_equal(a.io.fd, -1);
	hb_io_close(&a.io);
	assert_int_equal(read(fd[1], block, 1), 0);
	(void)close(fd[1]);
}

static void
test_io__end_and_hup(void **state)
{
	struct end a = { .drain = true };
	int fd[2];

	pair(fd);
	start(&a, fd[0]);
	turns(2);
	assert_int_equal(write(fd[1], "bye", 3), 3);
	assert_int_equal(shutdown(fd[1], SHUT_WR), 0);
	turns(3);
	assert_int_equal(a.got, 3);
	assert_true(a.eof);
	a.events = a.eof = 0;
	(void)close(fd[1]);
	hb_io_again(&a.io, HB_IO_READ | HB_IO_WRITE);
	turns(3);
	assert_true(a.events & HB_IO_READ);
	assert_true(a.eof);
	hb_io_close(&a.io);
}

/* A listening socket that has something is told of in each turn, whatever is taken; nothing else is. */
static void
test_io__level(void **state)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct end a = { 0 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), c[2];

	/* A name that the kernel chooses. */
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &(socklen_t){ sizeof at }), 0);
	assert_int_equal(hb_io_start_level(&a.io, w, fd, on_end, NULL), 0);
	turns(3);
	assert_int_equal(a.calls, 0);
	for (int i = 0; i < 2; i++) {
		c[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(c[i], (struct sockaddr *)&at, sizeof(sa_family_t) + 6), 0);
	}
	for (unsigned i = 1; i <= 2; i++) {
		turns(3);
		assert_in_range(a.calls, 2, 4);
		assert_int_equal(a.events, HB_IO_READ);
		hb_io_again(&a.io, HB_IO_READ);
		(void)close(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
		a.calls = 0;
	}
	turns(3);
	assert_int_equal(a.calls, 0);
	hb_io_close(&a.io);
	(void)close(c[0]);
	(void)close(c[1]);
}

static struct end *victim;

static void
stop_victim(struct end *e)
{
	if (e == victim || !hb_io_watched(&victim->io))
		return;
	hb_io_stop(&victim->io);
}

static void
stop_other(struct end *e)
{
	struct end *other = e == victim ? e - 1 : victim;

	if (hb_io_watched(&other->io))
		hb_io_stop(&other->io);
}

/* Both are ready in the same wakeup: who comes first stops the other, which then hears nothing. */
static void
test_io__stopped_in_the_same_batch(void **state)
{
	struct end e[2] = { { .extra = stop_other }, { .extra = stop_other } };
	int x[2], y[2];

	victim = &e[1];
	pair(x);
	pair(y);
	start(&e[0], x[0]);
	start(&e[1], y[0]);
	assert_int_equal(write(x[1], "x", 1), 1);
	assert_int_equal(write(y[1], "y", 1), 1);
	turns(3);
	assert_int_equal(e[0].calls + e[1].calls, 1);
	hb_io_stop(&e[0].io);
	hb_io_stop(&e[1].io);
	for (int i = 0; i < 2; i++) {
		(void)close(x[i]);
		(void)close(y[i]);
	}
}

static struct end reused;
static int reused_fd;

static void
close_and_reuse(struct end *e)
{
	if (!hb_io_watched(&victim->io))
		return;
	stop_victim(e);
	(void)close(victim->io.fd);
	start(&reused, reused_fd);
}

/* A new descriptor in the place of a stopped one does not get the old one's event. */
static void
test_io__stale_event_is_not_for_the_next(void **state)
{
	struct end a = { .extra = close_and_reuse }, b = { 0 };
	int x[2], y[2], z[2];
	static char block[4096];

	memset(&reused, 0, sizeof reused);
	pair(x);
	pair(y);
	pair(z);
	/* z[0] is never ready: nothing to read, no room to write. */
	while (write(z[0], block, sizeof block) > 0)
		;
	reused_fd = z[0];
	victim = &b;
	start(&a, x[0]);
	start(&b, y[0]);
	turns(3);
	assert_int_equal(a.calls, 1);
	assert_false(hb_io_watched(&b.io));
	assert_true(hb_io_watched(&reused.io));
	assert_int_equal(reused.calls, 0);
	hb_io_stop(&reused.io);
	hb_io_close(&a.io);
	(void)close(x[1]);
	(void)close(y[1]);
	(void)close(z[0]);
	(void)close(z[1]);
}

/* More descriptors than fit into one wakeup: all are served. */
static void
test_io__many(void **state)
{
	enum { N = 400 };
	static struct end e[N];
	static int fd[N][2];
	size_t got = 0;

	memset(e, 0, sizeof e);
	for (int i = 0; i < N; i++) {
		pair(fd[i]);
		e[i].drain = true;
		start(&e[i], fd[i][0]);
		assert_int_equal(write(fd[i][1], "abc", 3), 3);
	}
	turns(4);
	for (int i = 0; i < N; i++) {
		got += e[i].got;
		hb_io_close(&e[i].io);
		(void)close(fd[i][1]);
	}
	assert_int_equal(got, N * 3);
}

static void
test_io__regular_file_is_refused(void **state)
{
	struct end a = { 0 };
	struct hb_err err;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(hb_io_start(&a.io, w, fd, on_end, &err), -EPERM);
	hb_io_stop(&a.io);
	hb_io_close(&a.io);
}

/* The same descriptor moves from one worker to another: only the second hears of it. */
static void
test_io__start_again_after_stop(void **state)
{
	struct end a = { .drain = true }, b = { .drain = true };
	int fd[2];

	pair(fd);
	start(&a, fd[0]);
	turns(1);
	hb_io_stop(&a.io);
	a.calls = 0;
	start(&b, fd[0]);
	assert_int_equal(write(fd[1], "abc", 3), 3);
	turns(3);
	assert_int_equal(a.calls, 0);
	assert_int_equal(b.got, 3);
	hb_io_close(&b.io);
	(void)close(fd[1]);
}

static struct end moved_to;

static void
move_away(struct end *e)
{
	hb_io_move(&e->io, &moved_to.io, on_end);
}

/* A descriptor gets another struct: from outside, and from inside its event. No edge is lost. */
static void
test_io__move(void **state)
{
	struct end a = { .drain = true }, b = { .drain = true };
	int fd[2];

	moved_to = (struct end){ .drain = true };
	pair(fd);
	start(&a, fd[0]);
	turns(2);
	a.calls = 0;
	hb_io_move(&a.io, &b.io, on_end);
	assert_false(hb_io_watched(&a.io));
	hb_io_stop(&a.io);
	assert_int_equal(write(fd[1], "abc", 3), 3);
	turns(3);
	assert_int_equal(b.got, 3);
	b.extra = move_away;
	assert_int_equal(write(fd[1], "de", 2), 2);
	turns(1);
	assert_false(hb_io_watched(&b.io));
	assert_int_equal(moved_to.got, 0);
	on_end(&moved_to.io, HB_IO_READ); /* the event was for it */
	assert_int_equal(write(fd[1], "f", 1), 1);
	turns(3);
	assert_int_equal(a.calls, 0);
	assert_int_equal(b.got, 3);
	assert_int_equal(moved_to.got, 3);
	hb_io_close(&moved_to.io);
	(void)close(fd[1]);
}

int
main(void)
{
#define TEST(fn)                                                    \
	cmocka_unit_test_setup_teardown(fn, setup_epoll, teardown), \
		cmocka_unit_test_setup_teardown(fn, setup_uv, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_io__edges),
		TEST(test_io__writable_again),
		TEST(test_io__level),
		TEST(test_io__end_and_hup),
		TEST(test_io__stopped_in_the_same_batch),
		TEST(test_io__stale_event_is_not_for_the_next),
		TEST(test_io__many),
		TEST(test_io__regular_file_is_refused),
		TEST(test_io__start_again_after_stop),
		TEST(test_io__move),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

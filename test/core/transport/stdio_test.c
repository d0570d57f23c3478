/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/support/harness.h"

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

struct pipes {
	int to, from; /* the test's ends, non-blocking */
	struct hb_transport *t;
};

static struct pipes
open_pipes(void)
{
	struct pipes p;
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	p.to = in[1];
	p.from = out[0];
	assert_int_equal(fcntl(p.to, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(fcntl(p.from, F_SETFL, O_NONBLOCK), 0);
	p.t = hb_stdio_transport(hbt_worker(), in[0], out[1], NULL);
	assert_non_null(p.t);
	return (p);
}

static void
put(int fd, const char *z)
{
	assert_int_equal(write(fd, z, strlen(z)), (ssize_t)strlen(z));
}

static void
test_stdio__both_ways_and_ends(void **state)
{
	struct pipes p = open_pipes();
	struct hbt_sink s = { 0 };
	char c[8];

	hbt_attach(&s, p.t);
	put(p.to, "hello");
	HBT_UNTIL(hbt_gotz(&s, "hello"));
	hbt_writez(&s, "world", true);
	hbt_fd_read_n(p.from, c, 5);
	assert_memory_equal(c, "world", 5);
	assert_int_equal(hbt_fd_read(p.from, c, 1), 0);
	assert_int_equal(s.closed, 0);
	(void)close(p.to);
	HBT_UNTIL(s.closed == 1);
	assert_string_equal(s.trace, "csdeX");
	assert_int_equal(s.reason, HB_CLOSE_DONE);
	(void)close(p.from);
	hbt_sink_fini(&s);
}

static void
test_stdio__back_pressure(void **state)
{
	struct pipes p = open_pipes();
	struct hbt_sink s = { 0 };
	size_t n = 2000000;
	uint8_t *bytes = hbt_pattern(n, 1), *back = hb_malloc(n);

	hbt_attach(&s, p.t);
	HBT_UNTIL(s.secured == 1);
	hbt_write(&s, bytes, n, true);
	assert_int_equal(s.highs, 1);
	hbt_fd_read_n(p.from, back, n);
	assert_memory_equal(bytes, back, n);
	HBT_UNTIL(s.lows == 1);
	(void)close(p.from);
	(void)close(p.to);
	HBT_UNTIL(s.closed == 1);
	hbt_sink_fini(&s);
	hb_free(bytes);
	hb_free(back);
}

/* The reader of our output leaves: known without a write, after what was received. */
static void
test_stdio__reader_leaves(void **state)
{
	struct pipes p = open_pipes();
	struct hbt_sink s = { 0 };

	hbt_attach_paused(&s, p.t);
	HBT_UNTIL(s.secured == 1);
	put(p.to, "last");
	(void)close(p.from);
	hbt_turns(5);
	assert_int_equal(s.closed, 0);
	hb_transport_read_disable(s.t, -1);
	HBT_UNTIL(s.closed == 1);
	assert_true(hbt_gotz(&s, "last"));
	assert_int_equal(s.reason, HB_CLOSE_PEER_RESET);
	(void)close(p.to);
	hbt_sink_fini(&s);
}

static void
test_stdio__write_to_a_broken_pipe(void **state)
{
	struct pipes p = open_pipes();
	struct hbt_sink s = { 0 };

	hbt_attach(&s, p.t);
	HBT_UNTIL(s.secured == 1);
	(void)close(p.from);
	/* SIGPIPE would end this test. */
	hbt_writez(&s, "x", false);
	assert_int_equal(s.closed, 0);
	HBT_UNTIL(s.closed == 1);
	assert_int_equal(s.reason, HB_CLOSE_PEER_RESET);
	(void)close(p.to);
	hbt_sink_fini(&s);
}

/* A person's terminal does not end: finish waits for the output only. */
static void
test_stdio__finish_does_not_wait_for_input(void **state)
{
	struct pipes p = open_pipes();
	struct hbt_sink s = { 0 };
	size_t n = 300000;
	uint8_t *bytes = hbt_pattern(n, 2), *back = hb_malloc(n);

	hbt_attach(&s, p.t);
	HBT_UNTIL(s.secured == 1);
	put(p.to, "typed ahead");
	hbt_write(&s, bytes, n, false);
	hb_transport_finish(&s.t, HB_CLOSE_DONE);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 1);
	hbt_fd_read_n(p.from, back, n);
	assert_memory_equal(bytes, back, n);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	assert_int_equal(hbt_fd_read(p.from, back, 1), 0);
	(void)close(p.to);
	(void)close(p.from);
	hbt_sink_fini(&s);
	hb_free(bytes);
	hb_free(back);
}

static void
test_stdio__flush_timeout(void **state)
{
	struct pipes p = open_pipes();
	struct hbt_sink s = { 0 };
	uint8_t *bytes = hbt_pattern(300000, 2);

	hbt_attach(&s, p.t);
	HBT_UNTIL(s.secured == 1);
	hbt_write(&s, bytes, 300000, false);
	hb_transport_finish(&s.t, HB_CLOSE_DONE);
	hbt_turns(5);
	hbt_advance(HB_FLUSH_TIMEOUT_MS);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 0);
	assert_int_equal(hb_transport_flush_timeouts(hbt_worker()), 1);
	(void)close(p.to);
	(void)close(p.from);
	hbt_sink_fini(&s);
	hb_free(bytes);
}

static int
temporary_file(void)
{
	int fd = memfd_create("stdio_test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return (fd);
}

static void
test_stdio__regular_files(void **state)
{
	int in = temporary_file(), out = temporary_file(), check;
	size_t n = 5u * HB_SCRATCH_SIZE;
	uint8_t *bytes = hbt_pattern(n, 3), *back = hb_malloc(n);
	struct hbt_sink s = { .echo = true };

	assert_int_equal(write(in, bytes, n), (ssize_t)n);
	assert_int_equal(lseek(in, 0, SEEK_SET), 0);
	check = dup(out);
	hbt_attach(&s, hb_stdio_transport(hbt_worker(), in, out, NULL));
	HBT_UNTIL(s.closed == 1);
	assert_int_equal(s.reason, HB_CLOSE_DONE);
	assert_int_equal(pread(check, back, n, 0), (ssize_t)n);
	assert_memory_equal(bytes, back, n);
	(void)close(check);
	hbt_sink_fini(&s);
	hb_free(bytes);
	hb_free(back);
}

static void
test_stdio__one_socket_for_both(void **state)
{
	int fd[2];
	struct hbt_sink s = { .echo = true };
	char c[4];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	assert_int_equal(fcntl(fd[1], F_SETFL, O_NONBLOCK), 0);
	hbt_attach(&s, hb_stdio_transport(hbt_worker(), fd[0], fd[0], NULL));
	put(fd[1], "abc");
	hbt_fd_read_n(fd[1], c, 3);
	assert_memory_equal(c, "abc", 3);
	assert_int_equal(shutdown(fd[1], SHUT_WR), 0);
	HBT_UNTIL(s.closed == 1);
	assert_int_equal(s.reason, HB_CLOSE_DONE);
	hbt_turns(2);
	assert_int_equal(hbt_fd_read(fd[1], c, 1), 0);
	(void)close(fd[1]);
	hbt_sink_fini(&s);
}

/* The flags of a terminal are those of the shell too, and the three numbers stay taken. */
static void
test_stdio__descriptors_are_given_back(void **state)
{
	int in[2], keep = dup(STDIN_FILENO), other;
	struct stat null, now;
	struct hb_transport *t;
	struct hb_err err;

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	other = dup(in[0]);
	assert_int_equal(dup2(in[0], STDIN_FILENO), STDIN_FILENO);
	t = hb_stdio_transport(hbt_worker(), STDIN_FILENO, in[1], NULL);
	assert_non_null(t);
	assert_true(fcntl(other, F_GETFL) & O_NONBLOCK);
	hb_transport_abort(&t, HB_CLOSE_LOCAL_CLOSE);
	assert_false(fcntl(other, F_GETFL) & O_NONBLOCK);
	assert_int_equal(stat("/dev/null", &null), 0);
	assert_int_equal(fstat(STDIN_FILENO, &now), 0);
	assert_int_equal(now.st_rdev, null.st_rdev);
	(void)close(other);
	(void)close(in[0]);
	if (keep >= 0) {
		(void)dup2(keep, STDIN_FILENO);
		(void)close(keep);
	}
	assert_null(hb_stdio_transport(hbt_worker(), 1 << 20, 1 << 20, &err));
	assert_int_equal(err.code, -EBADF);
}

#define BOTH(t)                                                          \
	{ #t " (epoll)", test_stdio__##t, setup_epoll, teardown, NULL }, \
	{                                                                \
#t " (uv)", test_stdio__##t, setup_uv, teardown, NULL    \
	}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(both_ways_and_ends),
		BOTH(back_pressure),
		BOTH(reader_leaves),
		BOTH(write_to_a_broken_pipe),
		BOTH(finish_does_not_wait_for_input),
		BOTH(flush_timeout),
		BOTH(regular_files),
		BOTH(one_socket_for_both),
		BOTH(descriptors_are_given_back),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

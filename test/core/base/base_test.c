/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/close_reason.h"

#define THING_MAGIC 0x7417

struct thing {
	unsigned magic;
	int value;
};

const char hb_version[] = "1.2.3-test";

/* What a child that runs `fn` leaves on stderr; its wait status in *ret_status. */
static void run_child(void (*fn)(void), char *out, size_t cap, int *ret_status)
{
	size_t n = 0;
	int fds[2];
	ssize_t r;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		/* The runner's handlers would report the child's death as a failed test. */
		static const int signals[] = { SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE };

		for (size_t i = 0; i < HB_ARRAY_LEN(signals); i++)
			signal(signals[i], SIG_DFL);
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		fn();
		_exit(0);
	}
	close(fds[1]);
	while (n < cap - 1 && (r = read(fds[0], out + n, cap - 1 - n)) > 0)
		n += (size_t)r;
	out[n] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(pid, ret_status, 0), pid);
}

static void hook_hello(int fd)
{
	dprintf(fd, "hook: hello\n");
}

static void hook_panics(int fd)
{
	(void)fd;
	HB_WRONG("hook broke");
}

static void child_assert(void)
{
	int two = 2;

	hb_panic_hook_add(hook_hello);
	HB_ASSERT(two + two == 5);
}

static void child_hook_panics(void)
{
	hb_panic_hook_add(hook_panics);
	HB_WRONG("first");
}

static void test_panic_report(void **state)
{
	char out[16384];
	int status;

	run_child(child_assert, out, sizeof out, &status);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_non_null(strstr(out, "panic: two + two == 5\n"));
	assert_non_null(strstr(out, "test/core/base/base_test.c:"));
	assert_non_null(strstr(out, "child_assert()"));
	assert_non_null(strstr(out, "version 1.2.3-test"));
	assert_non_null(strstr(out, "backtrace:\n"));
	assert_non_null(strstr(out, "hook: hello\n"));
}

/* Whether the report's backtrace has a return into the function that begins at `f`. */
static bool shows(const char *out, void (*f)(void))
{
	const char *p = strstr(out, "backtrace:\n");

	while (p != NULL && (p = strstr(p, "[0x")) != NULL) {
		uintptr_t pc = strtoul(++p, NULL, 16);

		if (pc > (uintptr_t)f && pc - (uintptr_t)f <= 128)
			return (true);
	}
	return (false);
}

static void test_panic_backtrace(void **state)
{
	char out[16384];
	int status;

	run_child(child_assert, out, sizeof out, &status);
	assert_true(shows(out, child_assert));
	assert_false(shows(out, hb_panic_init));
}

static void test_panic_in_hook(void **state)
{
	char out[16384];
	int status;

	run_child(child_hook_panics, out, sizeof out, &status);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_non_null(strstr(out, "panic: first\n"));
	assert_non_null(strstr(out, "panic within the panic report: hook broke"));
}

/* Sanitizers report these in their own way, and have larger frames in the place of libc's. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static void child_segv(void)
{
	volatile uintptr_t address = 16;

	hb_panic_init();
	*(volatile char *)address = 1;
}

static int compare_panics(const void *a, const void *b)
{
	HB_ASSERT(a == b);
	return (0);
}

/* Calls back through libc, which has no frame pointers. */
static void child_qsort(void)
{
	int v[] = { 3, 1, 2, 5, 4 };

	qsort(v, HB_ARRAY_LEN(v), sizeof v[0], compare_panics);
	_exit(v[0]);
}

/* Faults in libc, in a leaf that has not touched the frame pointer. */
static void child_copy(void)
{
	char *volatile nowhere = (char *)16;
	volatile size_t n = 64;
	char from[64] = "";

	hb_panic_init();
	_exit(*(char *)memcpy(nowhere, from, n));
}

static void child_wild_call(void)
{
	void (*volatile nowhere)(void) = NULL;

	hb_panic_init();
	nowhere();
	_exit(0);
}

/* Grows the stack until it ends; the volatile buffer keeps each frame. */
static int recurse(int depth)
{
	volatile char frame[4096];

	frame[0] = (char)depth;
	if (depth == -1)
		return (0);
	return (recurse(depth + 1) + frame[0]);
}

static void child_overflow(void)
{
	hb_panic_init();
	_exit(recurse(0) & 1);
}

static void *thread_overflow(void *arg)
{
	(void)hb_panic_thread_begin();
	_exit(recurse(0) & 1);
	return (arg);
}

static void child_thread_overflow(void)
{
	pthread_t thread;

	hb_panic_init();
	if (pthread_create(&thread, NULL, thread_overflow, NULL) == 0)
		(void)pthread_join(thread, NULL);
}

static void child_oom(void)
{
	volatile size_t huge = PTRDIFF_MAX;

	hb_free(hb_malloc(huge));
}

static void child_overflowing_product(void)
{
	volatile size_t huge = SIZE_MAX / 2;

	hb_free(hb_calloc(huge, 4));
}

static void test_panic_signals(void **state)
{
	char out[16384];
	int status;

	run_child(child_segv, out, sizeof out, &status);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_non_null(strstr(out, "panic: signal 11 (Segmentation fault)"));
	assert_non_null(strstr(out, "address 0x10"));
	assert_true(shows(out, child_segv));
	run_child(child_qsort, out, sizeof out, &status);
	assert_true(shows(out, child_qsort));
	run_child(child_copy, out, sizeof out, &status);
	assert_true(shows(out, child_copy));
	run_child(child_wild_call, out, sizeof out, &status);
	assert_true(shows(out, child_wild_call));
	run_child(child_overflow, out, sizeof out, &status);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_non_null(strstr(out, "panic: signal 11 (Segmentation fault)"));
	run_child(child_thread_overflow, out, sizeof out, &status);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_non_null(strstr(out, "panic: signal 11 (Segmentation fault)"));
}

static void test_out_of_memory(void **state)
{
	char out[16384];
	int status;

	run_child(child_oom, out, sizeof out, &status);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_non_null(strstr(out, "panic: out of memory"));
	run_child(child_overflowing_product, out, sizeof out, &status);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_non_null(strstr(out, "panic: out of memory"));
}
#endif

static void test_objects(void **state)
{
	struct thing *t, *cast;
	void *opaque;

	HB_NEW(t, THING_MAGIC);
	assert_int_equal(t->magic, THING_MAGIC);
	assert_int_equal(t->value, 0);
	opaque = t;
	HB_CAST(cast, opaque, THING_MAGIC);
	assert_ptr_equal(cast, t);
	assert_ptr_equal(HB_CONTAINER(&t->value, struct thing, value), t);
	HB_DEL(t);
	assert_null(t);
}

static void test_memory(void **state)
{
	char *s = hb_strdup("abc");

	assert_string_equal(s, "abc");
	s = hb_realloc(s, 100);
	assert_string_equal(s, "abc");
	hb_free(s);
	s = hb_strndup("abcdef", 2);
	assert_string_equal(s, "ab");
	hb_free(s);
	s = hb_strndup("ab", 10);
	assert_string_equal(s, "ab");
	hb_free(s);
	s = hb_asprintf("%d-%s", 7, "x");
	assert_string_equal(s, "7-x");
	hb_free(s);
	s = hb_malloc(0);
	hb_free(s);
	s = hb_calloc(0, 8);
	hb_free(s);
	hb_free(NULL);
}

static void test_close_reasons(void **state)
{
	for (int i = 0; i < HB_CLOSE_MAX; i++) {
		const struct hb_close_info *info = hb_close_info((enum hb_close_reason)i);

		assert_true(info->name[0] != '\0' && info->counter[0] != '\0');
		assert_true(info->flag[0] != '\0' && info->detail[0] != '\0');
		assert_true(info->text[0] != '\0');
		for (int j = 0; j < i; j++)
			assert_string_not_equal(
				info->counter, hb_close_info((enum hb_close_reason)j)->counter);
	}
	assert_string_equal(hb_close_info(HB_CLOSE_NONE)->name, "NONE");
	assert_string_equal(hb_close_info(HB_CLOSE_IDLE_TIMEOUT)->flag, "SI");
	assert_true(hb_close_info(HB_CLOSE_PEER_RESET)->is_error);
	assert_false(hb_close_info(HB_CLOSE_DONE)->is_error);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_panic_report),
		cmocka_unit_test(test_panic_backtrace),
		cmocka_unit_test(test_panic_in_hook),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
		cmocka_unit_test(test_panic_signals),
		cmocka_unit_test(test_out_of_memory),
#endif
		cmocka_unit_test(test_objects),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_close_reasons),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

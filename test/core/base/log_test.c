/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/log.h"

#define THREADS 4
#define LINES   500

static char captured[8192];

static void capture(void *arg, const char *line)
{
	(void)arg;
	assert_true(strlen(line) < 4096);
	strcpy(captured, line);
}

static int setup(void **state)
{
	hb_log_level_all(HB_LOG_INFO);
	hb_log_capture(capture, NULL);
	captured[0] = '\0';
	return (hb_log_init(NULL, *state != NULL, NULL));
}

static int teardown(void **state)
{
	(void)state;
	hb_log_capture(NULL, NULL);
	return (hb_log_init(NULL, false, NULL));
}

/* What follows the time stamp, whose shape is checked. */
static const char *after_time(const char *line)
{
	unsigned y, mo, d, h, mi, s, ms;
	int n = 0;

	assert_int_equal(
		sscanf(line, "%4u-%2u-%2uT%2u:%2u:%2u.%3uZ%n", &y, &mo, &d, &h, &mi, &s, &ms, &n),
		7);
	assert_int_equal(n, 24);
	assert_true(y >= 2024 && mo >= 1 && mo <= 12 && d >= 1 && d <= 31 && s <= 60);
	return (line + n);
}

static void test_text(void **state)
{
	HB_LOG(LISTENER, INFO, "0.0.0.0:15443 listening", "workers=%u", 2u);
	assert_string_equal(
		after_time(captured), " info  listener: 0.0.0.0:15443 listening workers=2");
	HB_LOG(MAIN, CRITICAL, "stop");
	assert_string_equal(after_time(captured), " critical main: stop");
	HB_LOG(TLS, WARN, "x", "name=\"%s\" sni=%s empty=%s", "a", "b c", "");
	assert_string_equal(
		after_time(captured), " warning tls: x name=\"a\" sni=\"b c\" empty=\"\"");
}

/* No value can forge a line, a pair or a terminal sequence. */
static void test_text_hostile(void **state)
{
	HB_LOG(TLS, INFO, "x", "sni=\"%s\" alpn=%s n=%d", "a\" admin=\"1",
		"h2\nforged line\x1b[0m\\", 3);
	assert_string_equal(after_time(captured),
		" info  tls: x sni=\"a\\\" admin=\\\"1\" alpn=\"h2\\x0aforged line\\x1b[0m\\\\\" n=3");
}

static void test_json(void **state)
{
	HB_LOG(CONN, ERROR, "say \"hi\"",
		"port=%u id=%s age_s=%.3f bad=%.1f padded=%03d q=\"%d\" two=%d/%d neg=%ld pre-%d",
		80u, "123", 0.25, (double)__builtin_inff(), 7, 5, 1, 2, -4L, 9);
	assert_memory_equal(captured, "{\"time\":\"", 9);
	assert_string_equal(after_time(captured + 9),
		"\",\"level\":\"error\",\"component\":\"connection\",\"message\":\"say \\\"hi\\\"\","
		"\"port\":80,\"id\":\"123\",\"age_s\":0.250,\"bad\":\"inf\",\"padded\":\"007\",\"q\":\"5\","
		"\"two\":\"1/2\",\"neg\":-4,\"detail\":\"pre-9\"}");
	HB_LOG(CONN, ERROR, "m", "sni=\"%s\" x=%s", "a\" b=\"c", "\xff\n");
	assert_string_equal(strstr(captured, "\"sni\""),
		"\"sni\":\"a\\\" b=\\\"c\",\"x\":\"\xef\xbf\xbd\\n\"}");
	HB_LOG(CONN, ERROR, "m");
	assert_string_equal(strstr(captured, "\"message\""), "\"message\":\"m\"}");
}

static void test_line_limit(void **state)
{
	char big[5000], medium[3000];

	memset(big, 'x', sizeof big);
	big[sizeof big - 1] = '\0';
	memset(medium, '\n', sizeof medium);
	medium[sizeof medium - 1] = '\0';
	HB_LOG(CONN, INFO, "m", "a=%d big=%s after=%d", 1, big, 2);
	assert_non_null(strstr(
		captured, *state != NULL ? "\"a\":1,\"truncated\":true}" : " a=1 truncated=true"));
	/* It fits before escaping only: left out alone. */
	HB_LOG(CONN, INFO, "m", "a=%d medium=%s after=%d", 1, medium, 2);
	assert_non_null(strstr(captured,
		*state != NULL ? "\"a\":1,\"after\":2,\"truncated\":true}" :
				 " a=1 after=2 truncated=true"));
	hb_log_write(HB_LOG_C_MAIN, HB_LOG_INFO, big, " ");
	assert_in_range(strlen(captured), 1024, 1200);
	hb_log_write(HB_LOG_C_MAIN, HB_LOG_INFO, medium, " ");
	if (*state == NULL)
		assert_non_null(strstr(captured, "(unprintable message)"));
}

static void test_levels(void **state)
{
	enum hb_log_level level = HB_LOG_OFF;
	struct hb_err err;

	HB_LOG(DNS, DEBUG, "hidden");
	assert_string_equal(captured, "");
	assert_int_equal(hb_log_levels_parse("dns:debug,tls:off", NULL), 0);
	assert_true(HB_LOG_ON(DNS, DEBUG));
	assert_false(HB_LOG_ON(DNS, TRACE));
	assert_false(HB_LOG_ON(TLS, CRITICAL));
	HB_LOG(DNS, DEBUG, "shown");
	assert_non_null(strstr(captured, "dns: shown"));
	assert_int_equal(hb_log_level_parse("warn", &level, NULL), 0);
	assert_int_equal(level, HB_LOG_WARN);
	assert_int_equal(hb_log_level_parse("Warning", &level, NULL), 0);
	assert_int_equal(hb_log_level_parse("off", &level, NULL), 0);
	assert_int_equal(level, HB_LOG_OFF);
	assert_int_equal(hb_log_level_parse("debgu", &level, &err), -EINVAL);
	assert_string_equal(err.text, "log level \"debgu\" is not known: did you mean \"debug\"?");
	assert_int_equal(hb_log_level_parse("loudest", &level, &err), -EINVAL);
	assert_string_equal(err.text,
		"log level \"loudest\" is not known: use one of trace, debug, "
		"info, warning, error, critical, off");
	assert_string_equal(hb_log_component_name(HB_LOG_C_CONN), "connection");
	assert_string_equal(hb_log_level_name(HB_LOG_TRACE), "trace");
}

static void test_levels_all_or_nothing(void **state)
{
	static const char *const bad[] = {
		"dns:debug,tsl:debug",
		"dns:debug,tls",
		"dns:debug,tls:",
		"dns:debug,",
		",",
		":",
		"dns:debug,tls:info:x",
	};
	struct hb_err err;

	for (size_t i = 0; i < HB_ARRAY_LEN(bad); i++) {
		assert_int_equal(hb_log_levels_parse(bad[i], &err), -EINVAL);
		assert_false(HB_LOG_ON(DNS, DEBUG));
	}
	hb_log_levels_parse(bad[0], &err);
	assert_string_equal(err.text, "log component \"tsl\" is not known: did you mean \"tls\"?");
	assert_int_equal(hb_log_levels_parse("", &err), 0);
}

static size_t file_read(const char *path, char *buf, size_t cap)
{
	FILE *f = fopen(path, "r");
	size_t n;

	assert_non_null(f);
	n = fread(buf, 1, cap - 1, f);
	buf[n] = '\0';
	fclose(f);
	return (n);
}

static void temp_dir(char *dir, size_t cap)
{
	const char *base = getenv("TEST_TMPDIR");

	snprintf(dir, cap, "%s/log-XXXXXX", base != NULL ? base : "/tmp");
	assert_non_null(mkdtemp(dir));
}

static void *thread_logs(void *arg)
{
	for (int i = 0; i < LINES; i++)
		HB_LOG(CONN, INFO, "line", "thread=%d n=%d end=1", (int)(intptr_t)arg, i);
	return (NULL);
}

/* Lines of several threads stay whole, and rotation loses none. */
static void test_file_and_rotation(void **state)
{
	static char buf[2][THREADS * LINES * 100];
	char dir[256], path[300], moved[300];
	pthread_t threads[THREADS];
	struct hb_err err;
	size_t lines = 0;

	temp_dir(dir, sizeof dir);
	snprintf(path, sizeof path, "%s/log", dir);
	snprintf(moved, sizeof moved, "%s/log.1", dir);
	hb_log_capture(NULL, NULL);
	assert_int_equal(hb_log_init(path, false, &err), 0);
	for (intptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, thread_logs, (void *)i), 0);
	assert_int_equal(rename(path, moved), 0);
	assert_int_equal(hb_log_reopen(&err), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	HB_LOG(MAIN, INFO, "last");
	file_read(moved, buf[0], sizeof buf[0]);
	file_read(path, buf[1], sizeof buf[1]);
	assert_non_null(strstr(buf[1], "main: last\n"));
	for (int i = 0; i < 2; i++) {
		for (char *line = buf[i], *end; (end = strchr(line, '\n')) != NULL;
			line = end + 1) {
			*end = '\0';
			lines += end - line > 6 && strcmp(end - 6, " end=1") == 0;
			after_time(line);
		}
	}
	assert_int_equal(lines, THREADS * LINES);
	unlink(moved);
	unlink(path);
	/* The folder is gone: the old file stays in use. */
	rmdir(dir);
	assert_int_equal(hb_log_reopen(&err), -ENOENT);
	assert_non_null(strstr(err.text, "cannot be opened"));
	assert_int_equal(hb_log_init(path, false, &err), -ENOENT);
}

/* Writes until a line is dropped; a blocked write would run into the alarm. */
static void log_until_dropped(void)
{
	uint64_t before = hb_log_dropped();

	alarm(20);
	for (int i = 0; i < 10000 && hb_log_dropped() == before; i++)
		HB_LOG(MAIN, INFO, "filling", "i=%d text=%0200d", i, i);
	assert_true(hb_log_dropped() > before);
	alarm(0);
}

static void check_stderr_is(int fd)
{
	int saved = dup(STDERR_FILENO);

	hb_log_capture(NULL, NULL);
	if (fd < 0)
		close(STDERR_FILENO);
	else
		dup2(fd, STDERR_FILENO);
	assert_int_equal(hb_log_init(NULL, false, NULL), 0);
	if (fd < 0)
		HB_LOG(MAIN, INFO, "nobody reads this");
	else
		log_until_dropped();
	assert_true(fcntl(STDERR_FILENO, F_GETFD) >= 0);
	dup2(saved, STDERR_FILENO);
	close(saved);
	assert_int_equal(hb_log_init(NULL, false, NULL), 0);
}

static void test_stderr_never_blocks(void **state)
{
	int fds[2], full;

	/* Nobody reads; then the reader is gone; then stderr is closed. */
	assert_int_equal(pipe(fds), 0);
	check_stderr_is(fds[1]);
	close(fds[0]);
	check_stderr_is(fds[1]);
	close(fds[1]);
	check_stderr_is(-1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	check_stderr_is(fds[1]);
	close(fds[0]);
	check_stderr_is(fds[1]);
	close(fds[1]);
	full = open("/dev/full", O_WRONLY);
	assert_true(full >= 0);
	check_stderr_is(full);
	close(full);
}

/* An inherited pipe keeps its blocking mode for those who share it. */
static void test_stderr_flags_stay(void **state)
{
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	check_stderr_is(fds[1]);
	assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	static int json = 1;
#define TEST(t)      cmocka_unit_test_setup_teardown(t, setup, teardown)
#define TEST_JSON(t) cmocka_unit_test_prestate_setup_teardown(t, setup, teardown, &json)
	const struct CMUnitTest tests[] = {
		TEST(test_text),
		TEST(test_text_hostile),
		TEST_JSON(test_json),
		TEST(test_line_limit),
		TEST_JSON(test_line_limit),
		TEST(test_levels),
		TEST(test_levels_all_or_nothing),
		TEST(test_file_and_rotation),
		TEST(test_stderr_never_blocks),
		TEST(test_stderr_flags_stay),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

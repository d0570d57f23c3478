/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "filters/listener/http_inspector/request_line.h"

static void
check(const char *text, enum hb_http_look want)
{
	static const size_t pieces[] = { 1, 3, 7, 4096 };
	size_t n = strlen(text);

	for (size_t p = 0; p < HB_ARRAY_LEN(pieces); p++) {
		struct hb_http_line l = { 0 };
		enum hb_http_look got = HB_HTTP_MORE;

		for (size_t i = 0; i < n && got == HB_HTTP_MORE; i += pieces[p])
			got = hb_http_line_feed(&l, text + i, HB_MIN(pieces[p], n - i));
		if (got != want)
			print_error("%s: %d, not %d\n", text, got, want);
		assert_int_equal(got, want);
	}
}

static void
test_http1(void **state)
{
	check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", HB_HTTP_11);
	check("GET / HTTP/1.0\r\n", HB_HTTP_10);
	check("M-SEARCH * HTTP/1.1\n", HB_HTTP_11);
	check("CONNECT [::1]:443 HTTP/1.1\r\n", HB_HTTP_11);
	check("PRIVATE /x HTTP/1.1\r\n", HB_HTTP_11);
	check("PRI * HTTP/1.1\r\n", HB_HTTP_11);
}

static void
test_http2(void **state)
{
	check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HB_HTTP_2);
	check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", HB_HTTP_2);
	check("PRI * HTTP/2.0\r\n\r\nXX", HB_HTTP_NOT);
}

static void
test_more(void **state)
{
	check("", HB_HTTP_MORE);
	check("P", HB_HTTP_MORE);
	check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r", HB_HTTP_MORE);
	check("GET / HTTP/1.1\r", HB_HTTP_MORE);
	check("GET / HTTP/1.1", HB_HTTP_MORE);
}

static void
test_not(void **state)
{
	check("\x16\x03\x01", HB_HTTP_NOT);
	check(" GET / HTTP/1.1\r\n", HB_HTTP_NOT);
	check("GET  / HTTP/1.1\r\n", HB_HTTP_NOT);
	check("GET / FTP/1.1\r\n", HB_HTTP_NOT);
	check("GET / HTTP/1.x\r\n", HB_HTTP_NOT);
	check("GET / HTTP/1.1x", HB_HTTP_NOT);
	check("GET / HTTP/1.1\r\r", HB_HTTP_NOT);
	check("SSH-2.0-OpenSSH_9.2\r\n", HB_HTTP_NOT);
	check("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n", HB_HTTP_NOT);
}

static void
test_limit(void **state)
{
	struct hb_http_line l = { 0 };
	enum hb_http_look got = hb_http_line_feed(&l, "GET /", 5);

	for (unsigned i = 0; i < HB_HTTP_LINE_MAX && got == HB_HTTP_MORE; i++)
		got = hb_http_line_feed(&l, "a", 1);
	assert_int_equal(got, HB_HTTP_NOT);
	assert_int_equal(l.fed, HB_HTTP_LINE_MAX + 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_http1),
		cmocka_unit_test(test_http2),
		cmocka_unit_test(test_more),
		cmocka_unit_test(test_not),
		cmocka_unit_test(test_limit),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

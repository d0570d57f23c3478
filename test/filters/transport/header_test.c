/* SPDX-License-Identifier: Apache-2.0 */
/* PROXY headers, byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "filters/transport/proxy_protocol/header.h"

static struct hb_addr
addr(const char *text)
{
	struct hb_addr a = { 0 };

	if (*text != '\0')
		assert_true(hb_addr_parse(hb_str(text), &a));
	return (a);
}

static void
expect(struct hb_buf *buf, const void *want, size_t n)
{
	uint8_t got[512];

	assert_int_equal(buf->len, n);
	assert_int_equal(hb_buf_copyout(buf, 0, got, sizeof got), n);
	assert_memory_equal(got, want, n);
	hb_buf_fini(buf);
}

static void
v1(const char *source, const char *destination, const char *want)
{
	struct hb_addr s = addr(source), d = addr(destination);
	struct hb_buf buf = { 0 };

	hb_proxy_header_v1(&buf, &s, &d);
	expect(&buf, want, strlen(want));
}

static void
test_v1(void **state)
{
	(void)state;
	v1("1.2.3.4:5", "6.7.8.9:65535", "PROXY TCP4 1.2.3.4 6.7.8.9 5 65535\r\n");
	v1("[2001:db8::1]:1", "[::2]:2", "PROXY TCP6 2001:db8::1 ::2 1 2\r\n");
	v1("1.2.3.4:5", "[::2]:2", "PROXY TCP6 ::ffff:1.2.3.4 ::2 5 2\r\n");
	v1("", "6.7.8.9:1", "PROXY UNKNOWN\r\n");
	v1("6.7.8.9:1", "", "PROXY UNKNOWN\r\n");
	v1("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
		"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535",
		"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 65535 65535\r\n");
}

#define SIGNATURE '\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'

static void
v2(const char *source, const char *destination, const char *tlvs, const uint8_t *want, size_t n)
{
	struct hb_addr s = addr(source), d = addr(destination);
	struct hb_buf buf = { 0 };

	hb_proxy_header_v2(&buf, &s, &d, hb_str(tlvs));
	expect(&buf, want, n);
}

static void
test_v2(void **state)
{
	static const uint8_t v4[] = { SIGNATURE, 0x21, 0x11, 0, 12, 1, 2, 3, 4, 6, 7, 8, 9, 0, 5,
		0xff, 0xff };
	static const uint8_t v6[] = { SIGNATURE, 0x21, 0x21, 0, 36, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0xff, 0xff, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 5, 0,
		2 };
	static const uint8_t local[] = { SIGNATURE, 0x20, 0, 0, 3, 'a', 'b', 'c' };

	(void)state;
	v2("1.2.3.4:5", "6.7.8.9:65535", "", v4, sizeof v4);
	v2("1.2.3.4:5", "[::2]:2", "", v6, sizeof v6);
	v2("", "6.7.8.9:1", "abc", local, sizeof local);
}

static void
test_v2__longest(void **state)
{
	struct hb_addr a = addr("[::1]:1");
	struct hb_buf buf = { 0 };
	char *tlvs = hb_malloc(HB_PROXY_TLVS_MAX);
	uint8_t head[16];

	(void)state;
	memset(tlvs, 'x', HB_PROXY_TLVS_MAX);
	hb_proxy_header_v2(&buf, &a, &a, hb_strn(tlvs, HB_PROXY_TLVS_MAX));
	assert_int_equal(hb_buf_copyout(&buf, 0, head, sizeof head), sizeof head);
	assert_int_equal((size_t)head[14] << 8 | head[15], buf.len - 16);
	assert_true(buf.len - 16 <= UINT16_MAX);
	hb_buf_fini(&buf);
	hb_free(tlvs);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_v1),
		cmocka_unit_test(test_v2),
		cmocka_unit_test(test_v2__longest),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

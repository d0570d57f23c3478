/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "filters/listener/proxy_protocol/proxy_header.h"

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define V4  "\xc0\0\2\x0a\xc6\x33\x64\1\x9c\x40\1\xbb"

static struct hb_proxy_header h;

/* Every cut needs more, the whole gives `want`. */
static void
check(const void *p, size_t n, enum hb_proxy_status want)
{
	enum hb_proxy_status s;

	for (size_t i = 0; i < n && want == HB_PROXY_DONE; i++) {
		assert_int_equal(hb_proxy_header_parse(p, i, &h), HB_PROXY_MORE);
		assert_true(h.size > i && h.size <= n);
	}
	s = hb_proxy_header_parse(p, n, &h);
	if (s != want)
		print_error("%.*s: %d, not %d\n", (int)n, (const char *)p, s, want);
	assert_int_equal(s, want);
	if (s == HB_PROXY_DONE)
		assert_int_equal(h.size, n);
}

static void
checkz(const char *z, enum hb_proxy_status want)
{
	check(z, strlen(z), want);
}

static void
assert_addrs(const char *source, const char *destination)
{
	char text[HB_ADDR_TEXT_MAX];

	assert_true(h.addressed);
	hb_addr_format(&h.source, text, sizeof text);
	assert_string_equal(text, source);
	hb_addr_format(&h.destination, text, sizeof text);
	assert_string_equal(text, destination);
}

static void
test_v1(void **state)
{
	checkz("PROXY TCP4 192.0.2.10 198.51.100.1 40000 443\r\n", HB_PROXY_DONE);
	assert_int_equal(h.version, 1);
	assert_addrs("192.0.2.10:40000", "198.51.100.1:443");
	checkz("PROXY TCP6 2001:db8::10 2001:db8::1 1 65535\r\n", HB_PROXY_DONE);
	assert_addrs("[2001:db8::10]:1", "[2001:db8::1]:65535");
	checkz("PROXY TCP6 ::ffff:192.0.2.10 ::ffff:198.51.100.1 1 2\r\n", HB_PROXY_DONE);
	assert_addrs("192.0.2.10:1", "198.51.100.1:2");
	checkz("PROXY UNKNOWN\r\n", HB_PROXY_DONE);
	assert_false(h.addressed);
	checkz("PROXY UNKNOWN whatever else\r\n", HB_PROXY_DONE);
	assert_false(h.addressed);
}

static void
test_v1_bad(void **state)
{
	static const char *const bad[] = {
		"PROXY TCP4 192.0.2.10 198.51.100.1 40000 65536\r\n",
		"PROXY TCP4 192.0.2.10 198.51.100.1 40000\r\n",
		"PROXY TCP4 192.0.2.10 198.51.100.1 40000 443 x\r\n",
		"PROXY TCP4 192.0.2.10 198.51.100.1 40000 443 \r\n",
		"PROXY TCP4  192.0.2.10 198.51.100.1 40000 443\r\n",
		"PROXY TCP4 192.0.2.10 198.51.100.1 -1 443\r\n",
		"PROXY TCP4 2001:db8::10 2001:db8::1 1 2\r\n",
		"PROXY TCP6 192.0.2.10 198.51.100.1 1 2\r\n",
		"PROXY TCP4 192.0.2 198.51.100.1 1 2\r\n",
		"PROXY TCP5 192.0.2.10 198.51.100.1 1 2\r\n",
		"PROXY UNKNOWN\n",
		"PROXY \r\n",
		NULL,
	};
	char line[HB_PROXY_V1_MAX + 1];

	for (const char *const *z = bad; *z != NULL; z++)
		checkz(*z, HB_PROXY_BAD);
	memset(line, 'x', sizeof line);
	memcpy(line, "PROXY ", 6);
	check(line, HB_PROXY_V1_MAX - 1, HB_PROXY_MORE);
	check(line, HB_PROXY_V1_MAX, HB_PROXY_BAD);
}

static void
test_v2(void **state)
{
	static const char v4[] = SIG "\x21\x11\0\x0c" V4;
	static const char v6[] = SIG "\x21\x21\0\x24"
				     "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x10"
				     "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\x9c\x40\1\xbb";
	static const char local[] = SIG "\x20\x11\0\x0c" V4;
	static const char unspec[] = SIG "\x21\0\0\0";

	check(v4, sizeof v4 - 1, HB_PROXY_DONE);
	assert_int_equal(h.version, 2);
	assert_addrs("192.0.2.10:40000", "198.51.100.1:443");
	check(v6, sizeof v6 - 1, HB_PROXY_DONE);
	assert_addrs("[2001:db8::10]:40000", "[2001:db8::1]:443");
	check(local, sizeof local - 1, HB_PROXY_DONE);
	assert_false(h.addressed);
	check(unspec, sizeof unspec - 1, HB_PROXY_DONE);
	assert_false(h.addressed);
}

static void
test_v2_unix(void **state)
{
	char p[16 + 216] = SIG "\x21\x31\0\xd8/run/a.sock";

	check(p, sizeof p, HB_PROXY_DONE);
	assert_false(h.addressed);
	p[15] = (char)0xd7;
	check(p, sizeof p - 1, HB_PROXY_BAD);
}

static void
test_v2_tlvs(void **state)
{
	static const char p[] = SIG "\x21\x11\0\x17" V4 "\2\0\3abc\xea\0\2\0\1";
	struct hb_str tlvs, value;
	uint8_t type;

	check(p, sizeof p - 1, HB_PROXY_DONE);
	tlvs = h.tlvs;
	assert_true(hb_proxy_tlv_next(&tlvs, &type, &value));
	assert_int_equal(type, 2);
	assert_true(hb_str_eq(value, HB_STR("abc")));
	assert_true(hb_proxy_tlv_next(&tlvs, &type, &value));
	assert_int_equal(type, 0xea);
	assert_int_equal(value.len, 2);
	assert_false(hb_proxy_tlv_next(&tlvs, &type, &value));
}

static void
test_v2_bad(void **state)
{
	static const char version[] = SIG "\x31\x11\0\x0c";
	static const char command[] = SIG "\x22\x11\0\x0c";
	static const char family[] = SIG "\x21\x41\0\x0c" V4;
	static const char datagram[] = SIG "\x21\x12\0\x0c" V4;
	static const char too_short[] = SIG "\x21\x11\0\x0b" V4;
	static const char tlv[] = SIG "\x21\x11\0\x0f" V4 "\2\0\1";
	static const char huge[] = SIG "\x21\x11\x40\0";

	/* Known after the 13th byte. */
	check(version, 13, HB_PROXY_BAD);
	check(command, 13, HB_PROXY_BAD);
	check(family, sizeof family - 1, HB_PROXY_BAD);
	check(datagram, sizeof datagram - 1, HB_PROXY_BAD);
	check(too_short, sizeof too_short - 2, HB_PROXY_BAD);
	check(tlv, sizeof tlv - 1, HB_PROXY_BAD);
	check(huge, sizeof huge - 1, HB_PROXY_BAD);
	assert_int_equal(h.version, 2);
}

static void
test_none(void **state)
{
	checkz("G", HB_PROXY_NONE);
	checkz("PROXx", HB_PROXY_NONE);
	checkz("\r\n\r\nQUIT", HB_PROXY_NONE);
	checkz("PROX", HB_PROXY_MORE);
	checkz("\r\n", HB_PROXY_MORE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_v1),
		cmocka_unit_test(test_v1_bad),
		cmocka_unit_test(test_v2),
		cmocka_unit_test(test_v2_unix),
		cmocka_unit_test(test_v2_tlvs),
		cmocka_unit_test(test_v2_bad),
		cmocka_unit_test(test_none),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

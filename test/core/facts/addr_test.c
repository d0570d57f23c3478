/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "core/facts/facts.h"

static struct hb_addr
ip(const char *text)
{
	struct hb_addr a;

	assert_true(hb_addr_parse_ip(hb_str(text), &a));
	return (a);
}

static void
test_parse_ip(void **state)
{
	static const char *const bad[] = { "", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4 ",
		"01.2.3.4", "fe80::1%eth0", "[::1]", "1.2.3.4:80", "g::1", ":::", "localhost",
		"0000:0000:0000:0000:0000:0000:0000:0000:0000:0000" };
	struct hb_addr a = { .port = 7 };

	(void)state;
	for (size_t i = 0; i < HB_ARRAY_LEN(bad); i++)
		assert_false(hb_addr_parse_ip(hb_str(bad[i]), &a));
	assert_false(hb_addr_parse_ip(HB_STR("1.2.3.4\0"), &a));
	assert_int_equal(a.port, 7);
	a = ip("10.1.2.3");
	assert_int_equal(a.kind, HB_ADDR_V4);
	assert_memory_equal(a.u.ip, "\x0a\x01\x02\x03", 4);
	assert_int_equal(ip("::1").kind, HB_ADDR_V6);
	/* One address has one form. */
	a = ip("::ffff:10.1.2.3");
	assert_int_equal(a.kind, HB_ADDR_V4);
	assert_memory_equal(a.u.ip, "\x0a\x01\x02\x03", 4);
}

static void
test_parse_format(void **state)
{
	static const char *const good[] = { "10.0.0.1:80", "[::1]:443", "0.0.0.0:0",
		"[2001:db8::7]:65535" };
	static const char *const bad[] = { "", ":", ":80", "10.0.0.1",
		"10.0.0.1:", "10.0.0.1:65536", "10.0.0.1:-1", "::1:80", "[::1]", "[10.0.0.1]:80",
		"[]:80", "[::1:80", "10.0.0.1: 80" };
	struct hb_addr a;
	char text[HB_ADDR_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < HB_ARRAY_LEN(good); i++) {
		assert_true(hb_addr_parse(hb_str(good[i]), &a));
		assert_int_equal(hb_addr_format(&a, text, sizeof text), (int)strlen(good[i]));
		assert_string_equal(text, good[i]);
	}
	for (size_t i = 0; i < HB_ARRAY_LEN(bad); i++)
		assert_false(hb_addr_parse(hb_str(bad[i]), &a));
	a = ip("fd00::1");
	hb_addr_format_ip(&a, text, sizeof text);
	assert_string_equal(text, "fd00::1");
	assert_int_equal(hb_addr_format_ip(&a, text, 3), 7);
	a = (struct hb_addr){ .kind = HB_ADDR_INTERNAL, .u.name = "main_internal" };
	hb_addr_format(&a, text, sizeof text);
	assert_string_equal(text, "envoy://main_internal/");
	a = (struct hb_addr){ 0 };
	hb_addr_format(&a, text, sizeof text);
	assert_string_equal(text, "-");
}

static void
roundtrip(const char *text)
{
	struct sockaddr_storage ss;
	struct hb_addr a, b;
	socklen_t len;

	assert_true(hb_addr_parse(hb_str(text), &a));
	len = hb_addr_to_sockaddr(&a, &ss);
	assert_true(len > 0);
	hb_addr_from_sockaddr(&b, (struct sockaddr *)&ss, len);
	assert_true(hb_addr_eq(&a, &b));
}

static void
test_sockaddr_ip(void **state)
{
	struct sockaddr_in6 mapped = { .sin6_family = AF_INET6, .sin6_port = htons(9) };
	struct hb_addr a, four = ip("1.2.3.4");
	struct sockaddr_storage ss = { .ss_family = AF_PACKET };

	(void)state;
	roundtrip("1.2.3.4:5");
	roundtrip("[2001:db8::1]:5");
	inet_pton(AF_INET6, "::ffff:1.2.3.4", &mapped.sin6_addr);
	hb_addr_from_sockaddr(&a, (struct sockaddr *)&mapped, sizeof mapped);
	assert_int_equal(a.port, 9);
	assert_true(hb_addr_ip_eq(&a, &four));
	assert_false(hb_addr_eq(&a, &four));
	hb_addr_from_sockaddr(&a, (struct sockaddr *)&ss, sizeof ss);
	assert_int_equal(a.kind, HB_ADDR_NONE);
	ss.ss_family = AF_INET;
	hb_addr_from_sockaddr(&a, (struct sockaddr *)&ss, 4);
	assert_int_equal(a.kind, HB_ADDR_NONE);
	assert_int_equal(hb_addr_to_sockaddr(&a, &ss), 0);
}

static void
unix_roundtrip(const char *name, size_t n, const char *text)
{
	struct hb_addr a = { .kind = HB_ADDR_UNIX, .u.name = name }, b;
	struct sockaddr_storage ss;
	char got[HB_ADDR_TEXT_MAX];
	socklen_t len = hb_addr_to_sockaddr(&a, &ss);

	assert_int_equal(len, offsetof(struct sockaddr_un, sun_path) + n);
	hb_addr_from_sockaddr(&b, (struct sockaddr *)&ss, len);
	assert_int_equal(b.kind, HB_ADDR_UNIX);
	assert_true(hb_addr_eq(&a, &b));
	hb_addr_format(&b, got, sizeof got);
	assert_string_equal(got, text);
}

static void
test_sockaddr_unix(void **state)
{
	char longest[109] = { 0 };
	struct hb_addr a = { .kind = HB_ADDR_UNIX, .u.name = longest };
	struct sockaddr_storage ss;
	struct sockaddr_un *sun = (void *)&ss;

	(void)state;
	unix_roundtrip("/run/x.sock", sizeof "/run/x.sock", "/run/x.sock");
	unix_roundtrip("\0abstract", sizeof "\0abstract" - 1, "@abstract");
	unix_roundtrip("\0", 0, "@");
	memset(longest, 'p', 107);
	unix_roundtrip(longest, 108, longest);
	longest[107] = 'p';
	assert_int_equal(hb_addr_to_sockaddr(&a, &ss), 0);
	/* The kernel accepts 108 bytes without a NUL: nothing that could be borrowed. */
	memset(&ss, 0, sizeof ss);
	sun->sun_family = AF_UNIX;
	memset(sun->sun_path, 'q', 108);
	hb_addr_from_sockaddr(&a, (struct sockaddr *)&ss, sizeof *sun);
	assert_int_equal(a.kind, HB_ADDR_NONE);
}

static void
test_loopback(void **state)
{
	static const char *const yes[] = { "127.0.0.1", "127.255.0.3", "::1", "::ffff:127.0.0.1" };
	static const char *const no[] = { "128.0.0.1", "::", "::2", "10.0.0.1", "fe80::1" };

	(void)state;
	for (size_t i = 0; i < HB_ARRAY_LEN(yes); i++) {
		struct hb_addr a = ip(yes[i]);

		assert_true(hb_addr_is_loopback(&a));
	}
	for (size_t i = 0; i < HB_ARRAY_LEN(no); i++) {
		struct hb_addr a = ip(no[i]);

		assert_false(hb_addr_is_loopback(&a));
	}
}

static bool
contains(const char *prefix, unsigned len, const char *addr)
{
	struct hb_addr a = ip(addr);
	struct hb_cidr c;

	assert_int_equal(hb_cidr_parse(hb_str(prefix), len, &c, NULL), 0);
	return (hb_cidr_contains(&c, &a));
}

static void
test_cidr(void **state)
{
	(void)state;
	assert_true(contains("10.0.0.0", 8, "10.255.1.2"));
	assert_false(contains("10.0.0.0", 8, "11.0.0.0"));
	assert_true(contains("10.9.8.7", 8, "10.0.0.1"));
	assert_true(contains("192.168.1.128", 25, "192.168.1.129"));
	assert_false(contains("192.168.1.128", 25, "192.168.1.127"));
	assert_true(contains("1.2.3.4", 32, "1.2.3.4"));
	assert_false(contains("1.2.3.4", 32, "1.2.3.5"));
	assert_true(contains("0.0.0.0", 0, "255.255.255.255"));
	assert_false(contains("0.0.0.0", 0, "::1"));
	assert_true(contains("::", 0, "fd00::1"));
	assert_false(contains("::", 0, "1.2.3.4"));
	assert_true(contains("fd00:1::", 31, "fd00:0::5"));
	assert_true(contains("fd00::", 128, "fd00::"));
	assert_true(contains("::ffff:10.0.0.0", 104, "10.1.1.1"));
	assert_true(contains("::ffff:0:0", 96, "10.1.1.1"));
}

static void
test_cidr_errors(void **state)
{
	struct hb_cidr c;
	struct hb_err e = { 0 };

	(void)state;
	assert_int_equal(hb_cidr_parse(HB_STR("10.0.0.0/8"), 8, &c, &e), -EINVAL);
	assert_non_null(strstr(e.text, "not an IP address"));
	assert_int_equal(hb_cidr_parse(HB_STR("10.0.0.0"), 33, &c, &e), -EINVAL);
	assert_non_null(strstr(e.text, "more than the 32 bits"));
	assert_int_equal(hb_cidr_parse(HB_STR("::"), 129, &c, &e), -EINVAL);
	assert_int_equal(hb_cidr_parse(HB_STR("::ffff:10.0.0.0"), 95, &c, &e), -EINVAL);
	assert_int_equal(hb_cidr_parse((struct hb_str){ 0 }, 0, &c, &e), -EINVAL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_ip),
		cmocka_unit_test(test_parse_format),
		cmocka_unit_test(test_sockaddr_ip),
		cmocka_unit_test(test_sockaddr_unix),
		cmocka_unit_test(test_loopback),
		cmocka_unit_test(test_cidr),
		cmocka_unit_test(test_cidr_errors),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

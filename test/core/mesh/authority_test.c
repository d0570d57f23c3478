/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/mesh/authority.h"

#define L63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define L253                    \
	L63 "." L63 "." L63 "." \
	    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

/* Text, and its canonical form. */
static const char *const good[][2] = {
	{ "10.0.0.1:80", "10.0.0.1:80" },
	{ "0.0.0.0:1", "0.0.0.0:1" },
	{ "255.255.255.255:65535", "255.255.255.255:65535" },
	{ "[::1]:8080", "[::1]:8080" },
	{ "[FD00:0:0:0::AB]:8080", "[fd00::ab]:8080" },
	{ "[::ffff:10.0.0.1]:80", "10.0.0.1:80" },
	{ "echo:80", "echo:80" },
	{ "echo.example:80", "echo.example:80" },
	{ "Echo.EXAMPLE:80", "echo.example:80" },
	{ "echo.example.:80", "echo.example:80" },
	{ "xn--bcher-kva.example:80", "xn--bcher-kva.example:80" },
	{ "a_b.default.svc.cluster.local:80", "a_b.default.svc.cluster.local:80" },
	{ "1.example:80", "1.example:80" },
	{ "10.0.0.1.example:80", "10.0.0.1.example:80" },
	{ "a-b:80", "a-b:80" },
	{ L63 ":80", L63 ":80" },
	{ L253 ":65535", L253 ":65535" },
	{ L253 ".:65535", L253 ":65535" },
};

static const struct {
	const char *text;
	enum hb_authority_error error;
} bad[] = {
	{ "", HB_AUTHORITY_EMPTY },
	{ "10.0.0.1", HB_AUTHORITY_NO_PORT },
	{ "10.0.0.1:", HB_AUTHORITY_NO_PORT },
	{ "echo", HB_AUTHORITY_NO_PORT },
	{ "[::1]", HB_AUTHORITY_NO_PORT },
	{ "[::1]:", HB_AUTHORITY_NO_PORT },
	{ "10.0.0.1:0", HB_AUTHORITY_BAD_PORT },
	{ "10.0.0.1:65536", HB_AUTHORITY_BAD_PORT },
	{ "10.0.0.1:65616", HB_AUTHORITY_BAD_PORT },
	{ "10.0.0.1:99999999999999999999", HB_AUTHORITY_BAD_PORT },
	{ "10.0.0.1:+80", HB_AUTHORITY_BAD_PORT },
	{ "10.0.0.1: 80", HB_AUTHORITY_BAD_PORT },
	{ "10.0.0.1:80 ", HB_AUTHORITY_BAD_PORT },
	{ "10.0.0.1:080", HB_AUTHORITY_BAD_PORT },
	{ "10.0.0.1:http", HB_AUTHORITY_BAD_PORT },
	{ "10.0.0.1:80/", HB_AUTHORITY_BAD_PORT },
	{ "[::1]:0", HB_AUTHORITY_BAD_PORT },
	{ "user@echo:80", HB_AUTHORITY_USERINFO },
	{ "@echo:80", HB_AUTHORITY_USERINFO },
	{ "echo:80@evil:80", HB_AUTHORITY_USERINFO },
	{ "::1:80", HB_AUTHORITY_BAD_IP },
	{ "a:b:80", HB_AUTHORITY_BAD_IP },
	{ "[::1", HB_AUTHORITY_BAD_IP },
	{ "[]:80", HB_AUTHORITY_BAD_IP },
	{ "[::1]80", HB_AUTHORITY_BAD_IP },
	{ "[::1]x:80", HB_AUTHORITY_BAD_IP },
	{ "[10.0.0.1]:80", HB_AUTHORITY_BAD_IP },
	{ "[fe80::1%eth0]:80", HB_AUTHORITY_BAD_IP },
	{ "[v1.x]:80", HB_AUTHORITY_BAD_IP },
	{ "[echo]:80", HB_AUTHORITY_BAD_IP },
	{ "127.1:80", HB_AUTHORITY_BAD_IP },
	{ "010.0.0.1:80", HB_AUTHORITY_BAD_IP },
	{ "256.0.0.1:80", HB_AUTHORITY_BAD_IP },
	{ "1.2.3.4.5:80", HB_AUTHORITY_BAD_IP },
	{ "2130706433:80", HB_AUTHORITY_BAD_IP },
	{ "0x7f000001:80", HB_AUTHORITY_BAD_IP },
	{ "0x7f.0.0.0X1:80", HB_AUTHORITY_BAD_IP },
	{ "127.0.0.0x1:80", HB_AUTHORITY_BAD_IP },
	{ "10.0.0.1.:80", HB_AUTHORITY_BAD_IP },
	{ ":80", HB_AUTHORITY_BAD_HOST },
	{ ".:80", HB_AUTHORITY_BAD_HOST },
	{ "..:80", HB_AUTHORITY_BAD_HOST },
	{ ".echo:80", HB_AUTHORITY_BAD_HOST },
	{ "a..b:80", HB_AUTHORITY_BAD_HOST },
	{ "a..:80", HB_AUTHORITY_BAD_HOST },
	{ "-a:80", HB_AUTHORITY_BAD_HOST },
	{ "a-.b:80", HB_AUTHORITY_BAD_HOST },
	{ "a b:80", HB_AUTHORITY_BAD_HOST },
	{ " echo:80", HB_AUTHORITY_BAD_HOST },
	{ "a/b:80", HB_AUTHORITY_BAD_HOST },
	{ "a%62:80", HB_AUTHORITY_BAD_HOST },
	{ "a*:80", HB_AUTHORITY_BAD_HOST },
	{ "b\xc3\xbc"
	  "cher:80",
		HB_AUTHORITY_BAD_HOST },
	{ "http://echo", HB_AUTHORITY_BAD_PORT },
	{ L63 "a:80", HB_AUTHORITY_BAD_HOST },
	{ L253 "a:80", HB_AUTHORITY_TOO_LONG },
	{ L253 ".a:655350", HB_AUTHORITY_TOO_LONG },
};

static void
test_good(void **state)
{
	char text[HB_AUTHORITY_MAX + 1];

	for (size_t i = 0; i < HB_ARRAY_LEN(good); i++) {
		struct hb_authority a, again;
		enum hb_authority_error e = hb_authority_parse(hb_str(good[i][0]), &a);

		if (e != HB_AUTHORITY_OK)
			fail_msg("%s %s", good[i][0], hb_authority_error_text(e));
		assert_int_equal(hb_authority_format(&a, text, sizeof text), strlen(good[i][1]));
		assert_string_equal(text, good[i][1]);
		assert_int_equal(a.is_ip, a.ip.kind != HB_ADDR_NONE);
		assert_int_equal(a.is_ip, a.host_len == 0);
		assert_int_equal(a.host_len, strlen(a.host));
		if (a.is_ip)
			assert_int_equal(a.ip.port, a.port);
		/* The canonical form is a fixed point. */
		assert_int_equal(hb_authority_parse(hb_str(text), &again), HB_AUTHORITY_OK);
		assert_memory_equal(&a, &again, sizeof a);
	}
}

static void
test_bad(void **state)
{
	for (size_t i = 0; i < HB_ARRAY_LEN(bad); i++) {
		struct hb_authority a = { .port = 4711 };
		enum hb_authority_error e = hb_authority_parse(hb_str(bad[i].text), &a);

		if (e != bad[i].error)
			fail_msg("\"%s\" %s", bad[i].text, hb_authority_error_text(e));
		assert_int_equal(a.port, 4711);
		assert_true(strlen(hb_authority_error_text(e)) > 4);
	}
	assert_int_equal(hb_authority_parse(hb_strn("a\0b:80", 6), &(struct hb_authority){ 0 }),
		HB_AUTHORITY_BAD_HOST);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

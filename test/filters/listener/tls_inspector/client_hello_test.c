/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "filters/listener/tls_inspector/client_hello.h"

/* ------------------------------------------------------------------ building hellos */

struct out {
	uint8_t p[140000];
	size_t n;
};

static struct out msg, wire;

static void
put(struct out *o, unsigned bytes, size_t v)
{
	while (bytes-- > 0)
		o->p[o->n++] = (uint8_t)(v >> (8 * bytes));
}

static void
puts_of(struct out *o, const char *z)
{
	memcpy(o->p + o->n, z, strlen(z));
	o->n += strlen(z);
}

/* The lengths before a piece are filled in when it is closed. */
static size_t
open_vec(struct out *o, unsigned bytes)
{
	put(o, bytes, 0);
	return (o->n);
}

static void
close_vec(struct out *o, unsigned bytes, size_t at)
{
	size_t n = o->n - at;

	for (unsigned i = 0; i < bytes; i++)
		o->p[at - bytes + i] = (uint8_t)(n >> (8 * (bytes - 1 - i)));
}

static size_t
open_ext(unsigned type)
{
	put(&msg, 2, type);
	return (open_vec(&msg, 2));
}

static void
add_sni(const char *name)
{
	size_t ext = open_ext(0), list = open_vec(&msg, 2), one;

	put(&msg, 1, 0);
	one = open_vec(&msg, 2);
	puts_of(&msg, name);
	close_vec(&msg, 2, one);
	close_vec(&msg, 2, list);
	close_vec(&msg, 2, ext);
}

static void
add_alpn(const char *const *names)
{
	size_t ext = open_ext(16), list = open_vec(&msg, 2), one;

	for (; *names != NULL; names++) {
		one = open_vec(&msg, 1);
		puts_of(&msg, *names);
		close_vec(&msg, 1, one);
	}
	close_vec(&msg, 2, list);
	close_vec(&msg, 2, ext);
}

static void
add_zeros(unsigned type, size_t n)
{
	size_t ext = open_ext(type);

	memset(msg.p + msg.n, 0, n);
	msg.n += n;
	close_vec(&msg, 2, ext);
}

static size_t
begin(void)
{
	msg.n = 0;
	put(&msg, 1, 1);
	put(&msg, 3, 0);
	put(&msg, 2, 0x0303);
	memset(msg.p + msg.n, 7, 32);
	msg.n += 32;
	put(&msg, 1, 0);
	put(&msg, 2, 4);
	put(&msg, 4, 0x0a0a1301);
	put(&msg, 2, 0x0100);
	return (open_vec(&msg, 2));
}

/* Closes the hello and cuts it into records. */
static void
end(size_t extensions, size_t record)
{
	close_vec(&msg, 2, extensions);
	close_vec(&msg, 3, 4);
	wire.n = 0;
	for (size_t i = 0; i < msg.n; i += record) {
		size_t n = HB_MIN(record, msg.n - i);

		put(&wire, 3, 0x160301);
		put(&wire, 2, n);
		memcpy(wire.p + wire.n, msg.p + i, n);
		wire.n += n;
	}
}

static enum hb_hello_status
feed_all(struct hb_hello *h, size_t raw_max, size_t piece)
{
	enum hb_hello_status s = HB_HELLO_MORE;

	hb_hello_init(h, raw_max);
	for (size_t i = 0; i < wire.n && s == HB_HELLO_MORE; i += piece)
		s = hb_hello_feed(h, wire.p + i, HB_MIN(piece, wire.n - i));
	return (s);
}

static void
assert_str(struct hb_str s, const char *z)
{
	assert_int_equal(s.len, strlen(z));
	assert_memory_equal(s.p, z, s.len);
}

static const char *const web_protocols[] = { "h2", "http/1.1", NULL };

static void
web_hello(size_t record, size_t padding)
{
	size_t extensions = begin();

	add_zeros(0x1a1a, 0);
	add_zeros(51, padding);
	add_sni("WWW.example.com");
	add_alpn(web_protocols);
	add_zeros(0xfafa, 1);
	end(extensions, record);
}

/* ------------------------------------------------------------------ tests */

static void
test_pieces_and_records(void **state)
{
	static const size_t sizes[] = { 1, 2, 5, 7, 8, 100, 16384 };
	struct hb_hello h;

	for (size_t r = 0; r < HB_ARRAY_LEN(sizes); r++)
		for (size_t p = 0; p < HB_ARRAY_LEN(sizes); p++) {
			/* A post-quantum key share. */
			web_hello(sizes[r], 1300);
			assert_int_equal(feed_all(&h, 0x10000, sizes[p]), HB_HELLO_DONE);
			assert_str(h.sni, "WWW.example.com");
			assert_int_equal(h.n_alpn, 2);
			assert_str(h.alpn[0], "h2");
			assert_str(h.alpn[1], "http/1.1");
			assert_false(h.ech);
			hb_hello_fini(&h);
		}
}

static void
test_every_cut_needs_more(void **state)
{
	struct hb_hello h;

	web_hello(50, 10);
	for (size_t n = 0; n < wire.n; n++) {
		hb_hello_init(&h, 0x10000);
		assert_int_equal(hb_hello_feed(&h, wire.p, n), HB_HELLO_MORE);
		assert_int_equal(hb_hello_feed(&h, wire.p + n, wire.n - n), HB_HELLO_DONE);
		hb_hello_fini(&h);
	}
}

static void
test_above_16k(void **state)
{
	struct hb_hello h;

	web_hello(16384, 40000);
	assert_int_equal(feed_all(&h, 0x10000, 1460), HB_HELLO_DONE);
	assert_str(h.sni, "WWW.example.com");
	hb_hello_fini(&h);
}

static void
test_limit(void **state)
{
	struct hb_hello h;

	/* Known from the length, long before the bytes are there. */
	web_hello(16384, 40000);
	hb_hello_init(&h, 16384);
	assert_int_equal(hb_hello_feed(&h, wire.p, 9), HB_HELLO_TOO_LARGE);
	hb_hello_fini(&h);
	/* Exactly the limit passes, one byte less does not. */
	web_hello(16384, 300);
	assert_int_equal(feed_all(&h, wire.n, 1), HB_HELLO_DONE);
	hb_hello_fini(&h);
	assert_int_equal(feed_all(&h, wire.n - 1, wire.n), HB_HELLO_TOO_LARGE);
	hb_hello_fini(&h);
	/* Record headers count: a hello in tiny records is cut off. */
	web_hello(1, 300);
	assert_int_equal(feed_all(&h, 1000, wire.n), HB_HELLO_TOO_LARGE);
	assert_true(h.raw <= 1000);
	hb_hello_fini(&h);
}

static void
test_not_tls_at_once(void **state)
{
	static const char *const texts[] = { "GET / HTTP/1.1\r\n", "\x80\x2e\x01", "\x15\x03\x01",
		"\x16\x02\x01", "SSH-2.0-x\r\n", NULL };
	struct hb_hello h;

	for (const char *const *t = texts; *t != NULL; t++) {
		hb_hello_init(&h, 0);
		if ((*t)[0] == 0x16)
			assert_int_equal(hb_hello_feed(&h, *t, 1), HB_HELLO_MORE);
		assert_int_equal(hb_hello_feed(&h, *t + h.raw, 2 - h.raw), HB_HELLO_NOT_TLS);
		/* The answer stays. */
		assert_int_equal(hb_hello_feed(&h, "\x16\x03\x01", 3), HB_HELLO_NOT_TLS);
		hb_hello_fini(&h);
	}
}

static void
test_nothing_but_a_hello(void **state)
{
	struct hb_hello h;
	size_t e = begin();

	end(e, 16384);
	assert_int_equal(feed_all(&h, 0x10000, 3), HB_HELLO_DONE);
	assert_null(h.sni.p);
	assert_int_equal(h.n_alpn, 0);
	hb_hello_fini(&h);
}

static void
test_ech(void **state)
{
	struct hb_hello h;
	size_t e = begin();

	add_zeros(0xfe0d, 200);
	add_sni("public.example");
	end(e, 16384);
	assert_int_equal(feed_all(&h, 0x10000, 16), HB_HELLO_DONE);
	assert_true(h.ech);
	assert_str(h.sni, "public.example");
	hb_hello_fini(&h);
}

static void
test_many_protocols(void **state)
{
	const char *names[41];
	char text[40][8];
	struct hb_hello h;
	size_t e = begin();

	for (unsigned i = 0; i < 40; i++) {
		snprintf(text[i], sizeof text[i], "p%u", i);
		names[i] = text[i];
	}
	names[40] = NULL;
	add_alpn(names);
	end(e, 16384);
	assert_int_equal(feed_all(&h, 0x10000, 99), HB_HELLO_DONE);
	assert_int_equal(h.n_alpn, HB_HELLO_ALPN_MAX);
	assert_str(h.alpn[HB_HELLO_ALPN_MAX - 1], "p15");
	hb_hello_fini(&h);
}

static void
assert_bad(size_t e)
{
	struct hb_hello h;

	end(e, 16384);
	assert_int_equal(feed_all(&h, 0x10000, 11), HB_HELLO_BAD);
	hb_hello_fini(&h);
}

static void
test_bad_names(void **state)
{
	static const char *const empty[] = { "", NULL };
	char longest[HB_HELLO_SNI_MAX + 2];
	size_t e = begin();

	add_sni("");
	assert_bad(e);
	e = begin();
	add_sni("a\nb");
	assert_bad(e);
	e = begin();
	add_sni("a\xc3\xa4");
	assert_bad(e);
	memset(longest, 'a', sizeof longest);
	longest[HB_HELLO_SNI_MAX + 1] = '\0';
	e = begin();
	add_sni(longest);
	assert_bad(e);
	/* Twice: which one would the upstream take? */
	e = begin();
	add_sni("a.example");
	add_sni("b.example");
	assert_bad(e);
	e = begin();
	add_alpn(web_protocols);
	add_alpn(web_protocols);
	assert_bad(e);
	e = begin();
	add_alpn(empty);
	assert_bad(e);
}

static void
test_bad_shapes(void **state)
{
	static const struct {
		size_t n;
		const char *p;
	} v[] = {
		{ 9, "\x16\x03\x01\0\4\2\0\0\0" },   /* another handshake message          */
		{ 5, "\x16\x03\x01\0\0" },           /* an empty record                    */
		{ 5, "\x16\x03\x01\x40\x01" },       /* a record above 16 KiB              */
		{ 9, "\x16\x03\x01\0\5\1\0\0\0" },   /* no room for the fixed part         */
		{ 9, "\x16\x03\x01\0\5\1\0\0\x26" }, /* the same, one byte short           */
		{ 7, "\x16\x03\x01\0\1\1\x17" },     /* another record type in the middle  */
	};
	struct hb_hello h;

	for (size_t i = 0; i < HB_ARRAY_LEN(v); i++) {
		hb_hello_init(&h, 0x10000);
		assert_int_equal(hb_hello_feed(&h, v[i].p, v[i].n), HB_HELLO_BAD);
		hb_hello_fini(&h);
	}
	/* Every length of a good hello, made wrong: an answer, never a read behind the end. */
	for (size_t i = 9; i < 9 + 80; i++) {
		enum hb_hello_status s;

		web_hello(16384, 10);
		wire.p[i] ^= 0x80;
		s = feed_all(&h, 0x10000, 5);
		assert_true(s == HB_HELLO_DONE || s == HB_HELLO_BAD);
		hb_hello_fini(&h);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces_and_records),
		cmocka_unit_test(test_every_cut_needs_more),
		cmocka_unit_test(test_above_16k),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_not_tls_at_once),
		cmocka_unit_test(test_nothing_but_a_hello),
		cmocka_unit_test(test_ech),
		cmocka_unit_test(test_many_protocols),
		cmocka_unit_test(test_bad_names),
		cmocka_unit_test(test_bad_shapes),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

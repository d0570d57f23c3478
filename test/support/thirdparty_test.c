/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <ares.h>
#include <cmocka.h>
#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <protobuf-c/protobuf-c.h>
#include <uv.h>
#include <yaml.h>
#include <zlib.h>

#include <h2o.h>
#include <picohttpparser.h>

#include "test/support/thirdparty_cxx.h"

static void on_timer(uv_timer_t *t)
{
	*(int *)t->data += 1;
	uv_close((uv_handle_t *)t, NULL);
}

static void uv_runs_a_timer(void **state)
{
	int fired = 0;
	uv_loop_t loop;
	uv_timer_t timer = { .data = &fired };

	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(uv_timer_init(&loop, &timer), 0);
	assert_int_equal(uv_timer_start(&timer, on_timer, 0, 0), 0);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(fired, 1);
	assert_int_equal(uv_loop_close(&loop), 0);
}

static void boringssl_speaks_tls13(void **state)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_with_buffers_method());
	SSL *ssl;

	assert_non_null(ctx);
	assert_int_equal(SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION), 1);
	ssl = SSL_new(ctx);
	assert_non_null(ssl);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	/* The headers are BoringSSL's, not those of an OpenSSL that the system may have too. */
#ifndef OPENSSL_IS_BORINGSSL
#error "openssl/ssl.h is not BoringSSL's"
#endif
}

static void h2o_and_picohttpparser_parse(void **state)
{
	static const char text[] = "GET /ready HTTP/1.1\r\nhost: a\r\n\r\n";
	const char *method, *path;
	size_t method_len, path_len, nheaders = 4;
	struct phr_header headers[4];
	int minor;
	h2o_globalconf_t config;

	assert_int_equal(phr_parse_request(text, strlen(text), &method, &method_len, &path,
				 &path_len, &minor, headers, &nheaders, 0),
		(int)strlen(text));
	assert_memory_equal(path, "/ready", path_len);
	assert_int_equal(nheaders, 1);

	h2o_config_init(&config);
	assert_non_null(
		h2o_config_register_host(&config, h2o_iovec_init(H2O_STRLIT("default")), 65535));
	h2o_config_dispose(&config);
}

static void nghttp2_inflates(void **state)
{
	nghttp2_hd_inflater *inflater;

	assert_int_equal(nghttp2_hd_inflate_new(&inflater), 0);
	nghttp2_hd_inflate_del(inflater);
	assert_true(nghttp2_version(0)->version_num >= 0x013400);
}

static void yaml_parses(void **state)
{
	yaml_parser_t parser;
	yaml_event_t event;

	assert_int_equal(yaml_parser_initialize(&parser), 1);
	yaml_parser_set_input_string(&parser, (const unsigned char *)"a: 1", 4);
	assert_int_equal(yaml_parser_parse(&parser, &event), 1);
	assert_int_equal(event.type, YAML_STREAM_START_EVENT);
	yaml_event_delete(&event);
	yaml_parser_delete(&parser);
}

static void others_answer(void **state)
{
	ares_channel channel;

	assert_int_equal(ares_library_init(ARES_LIB_INIT_ALL), ARES_SUCCESS);
	assert_int_equal(ares_init(&channel), ARES_SUCCESS);
	ares_destroy(channel);
	ares_library_cleanup();
	assert_true(protobuf_c_version_number() >= 1004000);
	assert_int_not_equal(crc32(0, (const Bytef *)"a", 1), 0);
	assert_true(thirdparty_re2_full_match("outbound_\\.([0-9]+)_\\..*", "outbound_.80_.v1_.a"));
	assert_false(thirdparty_re2_full_match("(", "("));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(uv_runs_a_timer),
		cmocka_unit_test(boringssl_speaks_tls13),
		cmocka_unit_test(h2o_and_picohttpparser_parse),
		cmocka_unit_test(nghttp2_inflates),
		cmocka_unit_test(yaml_parses),
		cmocka_unit_test(others_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

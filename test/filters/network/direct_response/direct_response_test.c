/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "test/support/filter_harness.h"

extern const struct hb_filter_type hb_filter_direct_response;

#define DIRECT              \
	"- name: d\n"       \
	"  typed_config:\n" \
	"    \"@type\": "   \
	"type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config\n"

static int
setup(void **state)
{
	hbf_init();
	hbf_register(&hb_filter_direct_response);
	return (0);
}

static int
teardown(void **state)
{
	hbf_fini();
	return (0);
}

/* The client has written something that nobody reads: the answer must still arrive whole. */
static void
answers(const char *yaml, const char *text, enum hbf_wire wire)
{
	struct hb_chain *chain = hbf_filters(yaml);
	struct hbf_options o = { .wire = wire };
	struct hbf h = { 0 };

	hbf_open(&h, chain, &o);
	hbt_writez(&h.client, "GET / HTTP/1.1\r\n\r\n", false);
	HBT_UNTIL(h.client.ends == 1);
	assert_true(hbt_gotz(&h.client, text));
	hbt_write(&h.client, NULL, 0, true);
	HBT_UNTIL(h.closed);
	assert_int_equal(h.reason, HB_CLOSE_LOCAL_CLOSE);
	assert_int_equal(h.bytes_out, strlen(text));
	hbf_close(&h);
	hb_chain_free(&chain);
}

static void
test_direct_response__answers(void **state)
{
	for (enum hbf_wire w = HBF_PAIR; w <= HBF_TCP; w++) {
		answers(DIRECT "    response: {inline_string: \"go away\\n\"}\n", "go away\n", w);
		answers(DIRECT, "", w);
	}
}

static void
test_direct_response__file(void **state)
{
	char path[] = "/tmp/hbone_direct_response_XXXXXX", yaml[512];
	int fd = mkstemp(path);

	assert_int_equal(write(fd, "from a file", 11), 11);
	(void)close(fd);
	(void)snprintf(yaml, sizeof yaml, DIRECT "    response: {filename: \"%s\"}\n", path);
	answers(yaml, "from a file", HBF_TCP);
	(void)unlink(path);
}

static void
test_direct_response__errors(void **state)
{
	struct hb_text t = { 0 };

	hbf_expect_error(DIRECT "    response: {filename: /nonexistent}\n", "/nonexistent");
	hb_text_addz(&t, DIRECT "    response: {inline_string: \"");
	for (int i = 0; i < 5000; i++)
		hb_text_addc(&t, 'x');
	hb_text_addz(&t, "\"}\n");
	hbf_expect_error(t.p, "4096");
	hb_text_fini(&t);
}

static void
test_direct_response__explain(void **state)
{
	struct hb_chain *chain = hbf_filters(DIRECT "    response: {inline_string: abc}\n");
	struct hb_text t = hbf_explain(chain, NULL);

	assert_non_null(strstr(t.p, "answers 3 bytes and closes"));
	hb_text_fini(&t);
	hb_chain_free(&chain);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_direct_response__answers),
		T(test_direct_response__file),
		T(test_direct_response__errors),
		T(test_direct_response__explain),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

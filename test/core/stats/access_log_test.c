/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include "core/stats/access_log.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb-c.h"

static struct hb_facts facts;
static struct hb_log_entry entry;

static int
setup(void **state)
{
	(void)state;
	hb_facts_init(&facts);
	hb_addr_parse(HB_STR("10.0.0.1:40000"), &facts.remote);
	hb_addr_parse(HB_STR("10.0.0.2:443"), &facts.local);
	hb_facts_hello_edit(&facts)->sni = HB_STR("a.example");
	hb_facts_metadata_set(&facts, HB_STR("ns"), HB_STR("key"), HB_STR("meta"));
	hb_facts_state_set(&facts, HB_STR("state.key"), HB_STR("held"), false, 0);
	entry = (struct hb_log_entry){ .facts = &facts,
		.bytes_received = 7,
		.bytes_sent = 9,
		.duration_ms = 1500,
		.start_us = 1700000000123456,
		.reason = HB_CLOSE_NO_FILTER_CHAIN,
		.chain_name = HB_STR("chain \"one\"") };
	return (0);
}

static int
teardown(void **state)
{
	(void)state;
	hb_facts_fini(&facts);
	return (0);
}

static void
expect_text(const char *fmt, const char *want)
{
	struct hb_cfg *cfg = hb_cfg_new("test", NULL);
	struct hb_format *f = hb_format_compile(cfg, NULL, NULL, -1, hb_str(fmt));
	struct hb_text t = { 0 };

	assert_non_null(f);
	hb_format_write(f, &entry, &t);
	assert_string_equal(t.p, want);
	hb_text_fini(&t);
	hb_format_free(&f);
	hb_cfg_free(&cfg);
}

static void
expect_error(const char *fmt, const char *part)
{
	struct hb_cfg *cfg = hb_cfg_new("test", NULL);

	assert_null(hb_format_compile(cfg, NULL, NULL, -1, hb_str(fmt)));
	assert_true(hb_cfg_errs(cfg)->n > 0);
	assert_non_null(strstr(hb_cfg_errs(cfg)->v[0].text, part));
	hb_cfg_free(&cfg);
}

static void
test_operators(void **state)
{
	(void)state;
	expect_text("plain %% text", "plain % text");
	expect_text("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_PORT%", "10.0.0.1:40000 443");
	expect_text("%REQUESTED_SERVER_NAME%:443", "a.example:443");
	expect_text("%REQUESTED_SERVER_NAME:3%", "a.e");
	expect_text("%BYTES_RECEIVED%/%BYTES_SENT% %DURATION%", "7/9 1500");
	expect_text(
		"%RESPONSE_FLAGS% %CONNECTION_TERMINATION_DETAILS%", "NR filter_chain_not_found");
	expect_text("%UPSTREAM_HOST% %UPSTREAM_CLUSTER%", "- -");
	expect_text("%FILTER_STATE(state.key:PLAIN)% %DYNAMIC_METADATA(ns:key)%", "held meta");
	expect_text("%FILTER_STATE(other)% %REQ(:METHOD)%", "- -");
	expect_text("%START_TIME%", "2023-11-14T22:13:20.123Z");
	expect_text("%START_TIME(%s.%3f)%", "1700000000.123");
	expect_text("%START_TIME(%Y/%m/%d %H)%", "2023/11/14 22");
}

static void
test_bad_formats_say_what_is_wrong(void **state)
{
	(void)state;
	expect_error("%BYTES_RECIEVED%", "BYTES_RECEIVED");
	expect_error("%BYTES_SENT", "%%");
	expect_error("%FILTER_STATE%", "argument");
	expect_error("%BYTES_SENT(x)%", "no argument");
	expect_error("%BYTES_SENT:x%", "length");
	expect_error("%START_TIME(%s%", "without an end");
}

static const char proxy_yaml[] =
	"stat_prefix: x\ncluster: c\naccess_log:\n"
	"- name: f\n"
	"  filter: {or_filter: {filters: [{response_flag_filter: {flags: [NR]}},\n"
	"                                 {duration_filter: {comparison: {op: GE, value: {default_value: 2000}}}}]}}\n"
	"  typed_config:\n"
	"    \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n"
	"    path: %s\n"
	"    log_format: {json_format: {sni: \"%%REQUESTED_SERVER_NAME%%\", rx: \"%%BYTES_RECEIVED%%\",\n"
	"                               up: \"%%UPSTREAM_HOST%%\", mix: \"c=%%FILTER_CHAIN_NAME%%\", deep: {list: [\"%%DURATION%%\", 1, true]}}}\n";

static void
wait_done(void *arg)
{
	*(bool *)arg = true;
}

static void
test_json_lines_reach_the_file_when_the_filter_passes(void **state)
{
	char path[] = "/tmp/hbone_access_log_XXXXXX", text[2048], got[1024];
	const Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy *m;
	struct hb_cfg *cfg = hb_cfg_new("test", NULL);
	struct hb_access_log *l;
	struct hb_err err;
	bool ok, done = false;
	FILE *file;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(hb_workers_init(1, &err), 0);
	hb_cfg_types_init();
	snprintf(text, sizeof text, proxy_yaml, path);
	m = (const void *)hb_cfg_parse_text(cfg, hb_str(text),
		&envoy__extensions__filters__network__tcp_proxy__v3__tcp_proxy__descriptor);
	assert_non_null(m);
	l = hb_access_log_compile(
		cfg, m, "access_log", (void *const *)m->access_log, m->n_access_log, &ok);
	assert_true(ok);
	assert_non_null(l);
	hb_access_log_write(hb_worker_control(), l, &entry);
	entry.reason = HB_CLOSE_DONE;
	hb_access_log_write(hb_worker_control(), l, &entry);
	entry.duration_ms = 2000;
	entry.bytes_received = 8;
	hb_access_log_write(hb_worker_control(), l, &entry);
	hb_access_log_flush(wait_done, &done);
	while (!done)
		hb_worker_turn(hb_worker_control(), true);
	file = fopen(path, "r");
	assert_non_null(fgets(got, sizeof got, file));
	assert_non_null(strstr(got, "\"sni\":\"a.example\""));
	assert_non_null(strstr(got, "\"rx\":7"));
	assert_non_null(strstr(got, "\"up\":null"));
	assert_non_null(strstr(got, "\"mix\":\"c=chain \\\"one\\\"\""));
	assert_non_null(strstr(got, "\"deep\":{\"list\":[1500,1,true]}"));
	assert_non_null(fgets(got, sizeof got, file));
	assert_non_null(strstr(got, "\"rx\":8"));
	assert_null(fgets(got, sizeof got, file));
	fclose(file);
	unlink(path);
	hb_access_log_free(&l);
	hb_cfg_free(&cfg);
	hb_access_log_fini();
	hb_workers_fini();
}

/* Connections that are cut at the very end log as well. */
static void
test_lines_after_the_last_flush_are_written(void **state)
{
	static const char yaml[] =
		"access_log:\n"
		"- name: file\n"
		"  typed_config:\n"
		"    \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n"
		"    path: %s\n"
		"    log_format: {text_format_source: {inline_string: \"%%BYTES_RECEIVED%%\\n\"}}\n";
	char path[] = "/tmp/hbone_access_log_XXXXXX", text[1024], got[64] = "";
	const Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy *m;
	struct hb_cfg *cfg = hb_cfg_new("test", NULL);
	struct hb_access_log *l;
	struct hb_err err;
	FILE *file;
	bool ok;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(hb_workers_init(1, &err), 0);
	hb_cfg_types_init();
	snprintf(text, sizeof text, yaml, path);
	m = (const void *)hb_cfg_parse_text(cfg, hb_str(text),
		&envoy__extensions__filters__network__tcp_proxy__v3__tcp_proxy__descriptor);
	assert_non_null(m);
	l = hb_access_log_compile(
		cfg, m, "access_log", (void *const *)m->access_log, m->n_access_log, &ok);
	assert_true(ok);
	entry.bytes_received = 1;
	hb_access_log_write(hb_worker_at(0), l, &entry);
	hb_access_log_stop();
	entry.bytes_received = 2;
	hb_access_log_write(hb_worker_at(0), l, &entry);
	hb_access_log_write(hb_worker_control(), l, &entry);
	hb_access_log_free(&l);
	hb_workers_at_end(hb_access_log_worker_fini);
	hb_workers_fini();
	hb_access_log_fini();
	file = fopen(path, "r");
	assert_int_equal(fread(got, 1, sizeof got, file), 6);
	assert_string_equal(got, "1\n2\n2\n");
	fclose(file);
	unlink(path);
	hb_cfg_free(&cfg);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_operators, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_bad_formats_say_what_is_wrong, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_json_lines_reach_the_file_when_the_filter_passes, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_lines_after_the_last_flush_are_written, setup, teardown),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

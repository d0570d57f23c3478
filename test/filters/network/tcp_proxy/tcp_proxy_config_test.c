/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of the configuration, its explanation, and the access log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/stats/access_log.h"
#include "test/support/filter_harness.h"

extern const struct hb_filter_type hb_filter_tcp_proxy;

#define PROXY               \
	"- name: tcp\n"     \
	"  typed_config:\n" \
	"    \"@type\": "   \
	"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\n"
#define TO_APP   PROXY "    stat_prefix: p\n    cluster: app\n"
#define WEIGHTED PROXY "    stat_prefix: p\n    weighted_clusters: "

static int
setup(void **state)
{
	hbf_init();
	hbf_register(&hb_filter_tcp_proxy);
	return (0);
}

static int
teardown(void **state)
{
	hbf_fini();
	hb_access_log_fini();
	return (0);
}

static void
test_tcp_proxy__errors(void **state)
{
	hbf_expect_error(PROXY "    cluster: x\n", "stat_prefix: must not be empty");
	hbf_expect_error(PROXY "    stat_prefix: p\n", "names no cluster");
	hbf_expect_error(
		PROXY "    stat_prefix: p\n    cluster: \"\"\n", "cluster: must not be empty");
	hbf_expect_error(WEIGHTED "{}\n", "clusters: is empty");
	hbf_expect_error(WEIGHTED "{clusters: [{name: a, weight: 0}]}\n",
		"clusters[0].weight: must be at least 1");
	hbf_expect_error(
		WEIGHTED "{clusters: [{weight: 1}]}\n", "clusters[0].name: must not be empty");
	hbf_expect_error(TO_APP "    max_connect_attempts: 0\n", "max_connect_attempts");
	hbf_expect_error(TO_APP "    backoff_options: {}\n", "base_interval: is required");
	hbf_expect_error(TO_APP "    backoff_options: {base_interval: 2s, max_interval: 1s}\n",
		"max_interval: is below base_interval");
	hbf_expect_error(TO_APP "    upstream_connect_mode: ON_DOWNSTREAM_DATA\n",
		"max_early_data_bytes: must be set");
	hbf_expect_error(TO_APP "    max_early_data_bytes: 2000000\n", "max_early_data_bytes");
	hbf_expect_error(TO_APP "    max_downstream_connection_duration: 0s\n", "at least 1 ms");
	hbf_expect_error(TO_APP "    access_log_options: {access_log_flush_interval: 0s}\n",
		"at least 1 ms");
	hbf_expect_error(TO_APP "    access_log: [{name: x}]\n", "access_log[0]");
	hbf_expect_error(TO_APP "    idle_timeot: 3s\n", "idle_timeout");
	hbf_expect_error(TO_APP "    tunneling_config: {hostname: \"%NONSENSE%:80\"}\n", "NONSENSE");
}

static void
explains(const char *yaml, struct hb_facts *facts, const char *want)
{
	struct hb_chain *chain = hbf_filters(yaml);
	struct hb_text t = hbf_explain(chain, facts);

	assert_non_null(strstr(t.p, want));
	hb_text_fini(&t);
	hb_chain_free(&chain);
}

static void
test_tcp_proxy__explain(void **state)
{
	struct hb_facts facts = hbf_facts(NULL);

	explains(TO_APP, NULL, "chosen      tcp_proxy: cluster app: its cluster");
	explains(WEIGHTED "{clusters: [{name: a, weight: 1}, {name: b, weight: 1}]}\n", NULL,
		"one of its weighted clusters");
	(void)hb_facts_state_set(&facts, hb_str(HB_STATE_TCP_PROXY_CLUSTER), hb_str("z"), false, 0);
	explains(TO_APP, &facts, "cluster z: a filter before it chose the cluster");
}

/* ------------------------------------------------------------------ access log */

static char log_path[] = "/tmp/hbone_tcp_proxy_log_XXXXXX";

static struct hb_chain *
logging(const char *options)
{
	char yaml[2048];

	(void)snprintf(yaml, sizeof yaml,
		TO_APP
		"    access_log:\n"
		"    - name: file\n"
		"      typed_config:\n"
		"        \"@type\": "
		"type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n"
		"        path: %s\n"
		"        log_format: {text_format_source: {inline_string: \"%%ACCESS_LOG_TYPE%% "
		"%%RESPONSE_FLAGS%% %%BYTES_RECEIVED%% %%BYTES_SENT%% %%UPSTREAM_CLUSTER%% "
		"%%UPSTREAM_HOST%% %%CONNECTION_TERMINATION_DETAILS%% "
		"%%UPSTREAM_TRANSPORT_FAILURE_REASON%%\\n\"}}\n%s",
		log_path, options);
	return (hbf_filters(yaml));
}

static void
on_flushed(void *arg)
{
	*(bool *)arg = true;
}

/* Both loops run on this thread, so that what the worker hands over arrives a turn later. */
static void
flush(void)
{
	bool done;

	hb_worker_enter(hb_worker_control());
	for (int i = 0; i < 2; i++) {
		done = false;
		hb_access_log_flush(on_flushed, &done);
		do
			hb_worker_turn(hb_worker_control(), false);
		while (!done);
	}
	hb_worker_enter(hbt_worker());
}

static void
expect_log(const char *want)
{
	char got[4096];
	size_t n;
	FILE *f;

	flush();
	f = fopen(log_path, "r+");
	assert_non_null(f);
	n = fread(got, 1, sizeof got - 1, f);
	got[n] = '\0';
	assert_string_equal(got, want);
	assert_int_equal(ftruncate(fileno(f), 0), 0);
	(void)fclose(f);
}

static void
test_tcp_proxy__log(void **state)
{
	struct hbf_options o = { .wire = HBF_TCP };
	struct hb_chain *chain;
	struct hbf h = { 0 };
	int fd;

	(void)snprintf(log_path, sizeof log_path, "/tmp/hbone_tcp_proxy_log_XXXXXX");
	fd = mkstemp(log_path);
	assert_true(fd >= 0);
	(void)close(fd);
	chain = logging("    access_log_options: {access_log_flush_interval: 10s, "
			"flush_access_log_on_connected: true, flush_access_log_on_start: true}\n");
	hbf_dialler.wire = HBF_TCP;
	hbf_open(&h, chain, &o);
	HBT_UNTIL(hbf_dialler.n == 1 && h.client.secured);
	assert_true(hbf_dialler.local); /* which the log may show */
	hbt_turns(3);
	expect_log("TcpConnectionStart - 0 0 - - - -\n"
		   "TcpUpstreamConnected - 0 0 app 10.0.0.1:8080 - -\n");
	hbt_writez(&h.client, "1234", false);
	HBT_UNTIL(hbt_gotz(&hbf_dialler.up[0], "1234"));
	hbt_advance(10000);
	expect_log("TcpPeriodic - 4 0 app 10.0.0.1:8080 - -\n");
	hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
	hbf_close(&h);
	expect_log("TcpConnectionEnd DC 4 0 app 10.0.0.1:8080 - -\n");
	hb_chain_free(&chain);

	memset(&h, 0, sizeof h);
	chain = logging("    max_connect_attempts: 2\n");
	hbf_dialler.mode = HBF_FAIL;
	hbf_dialler.failure = HB_CLOSE_CONNECT_REFUSED;
	hbf_open(&h, chain, &o);
	HBT_UNTIL(h.closed);
	hbf_close(&h);
	expect_log("TcpConnectionEnd URX 0 0 app - max_connect_attempts fake failure\n");
	hb_chain_free(&chain);
	(void)unlink(log_path);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_tcp_proxy__errors),
		T(test_tcp_proxy__explain),
		T(test_tcp_proxy__log),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

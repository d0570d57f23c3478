/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes to messages: types, classes, Any, where errors are, what compile functions use. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "test/core/config/support.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"
#include "envoy/config/core/v3/socket_option.pb-c.h"
#include "envoy/extensions/filters/network/rbac/v3/rbac.pb-c.h"
#include "envoy/extensions/filters/network/sni_cluster/v3/sni_cluster.pb-c.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"

#define BOOTSTRAP DESC(envoy__config__bootstrap__v3__bootstrap)
#define LISTENER  DESC(envoy__config__listener__v3__listener)
#define CLUSTER   DESC(envoy__config__cluster__v3__cluster)
#define TLS       DESC(envoy__extensions__transport_sockets__tls__v3__common_tls_context)
#define OPTION    DESC(envoy__config__core__v3__socket_option)
#define TCP_PROXY DESC(envoy__extensions__filters__network__tcp_proxy__v3__tcp_proxy)
#define RBAC      DESC(envoy__extensions__filters__network__rbac__v3__rbac)

#define TYPE          "type.googleapis.com/"
#define TCP_PROXY_URL TYPE "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"

static void
test_gateway(void **state)
{
	struct hb_cfg *cfg = hb_cfg_new("sni-gateway.yaml", NULL);
	const Envoy__Config__Bootstrap__V3__Bootstrap *b;
	const Envoy__Config__Listener__V3__Listener *l;
	const Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy *p;
	const Envoy__Config__Listener__V3__Filter *f;

	b = (const void *)hb_cfg_parse_file(
		cfg, "test/core/config/data/sni-gateway.yaml", BOOTSTRAP);
	assert_non_null(b);
	assert_int_equal(hb_cfg_warnings(cfg)->n, 0);
	assert_string_equal(b->node->id, "sidecar");
	assert_int_equal(b->static_resources->n_listeners, 2);
	assert_int_equal(b->static_resources->n_clusters, 3);
	l = b->static_resources->listeners[0];
	assert_int_equal(l->n_filter_chains, 2);
	assert_int_equal(l->filter_chains[1]->filter_chain_match->n_application_protocols, 5);
	assert_int_equal(l->filter_chains[1]->n_filters, 2);
	f = l->filter_chains[1]->filters[0];
	assert_non_null(hb_cfg_any_of(cfg, f, "typed_config", -1, f->typed_config,
		DESC(envoy__extensions__filters__network__sni_cluster__v3__sni_cluster)));
	f = l->filter_chains[0]->filters[0];
	p = hb_cfg_any_of(cfg, f, "typed_config", -1, f->typed_config, TCP_PROXY);
	assert_string_equal(p->cluster, "outbound_.80_._.echo.default.svc.cluster.local");
	assert_int_equal(p->n_access_log, 1);
	assert_non_null(hb_cfg_any(
		cfg, p->access_log[0], "typed_config", -1, p->access_log[0]->typed_config));
	hb_cfg_free(&cfg);
}

static void
test_names(void **state)
{
	expect_errors(
		"static_resources:\n  lisners: []\n  listeners:\n  - nam: a\n    filterChain: 1\n",
		BOOTSTRAP,
		"2:3: static_resources.lisners: unknown field of envoy.config.bootstrap.v3.Bootstrap."
		"StaticResources; did you mean \"listeners\"?",
		"4:5: static_resources.listeners[0].nam: unknown field of envoy.config.listener.v3.Listener; "
		"did you mean \"name\"?",
		"5:5: static_resources.listeners[0].filterChain: unknown field of "
		"envoy.config.listener.v3.Listener; did you mean \"filter_chains\"?",
		NULL);
	expect_errors("zzzzzzzzzz: 1", BOOTSTRAP,
		"1:1: zzzzzzzzzz: unknown field of envoy.config.bootstrap.v3.Bootstrap", NULL);
	expect_json("perConnectionBufferLimitBytes: 7\nstat_prefix: a", LISTENER,
		"{\"per_connection_buffer_limit_bytes\":7,\"stat_prefix\":\"a\"}");
}

static void
test_classes(void **state)
{
	expect_errors("name: a\nudpListenerConfig: {}\nenable_mptcp: true\n", LISTENER,
		"2:1: udpListenerConfig: hbone does not support this field of "
		"envoy.config.listener.v3.Listener",
		"3:1: enable_mptcp: not supported", NULL);
	expect_errors("key_log: {path: [1]}", TLS,
		"1:1: key_log: not supported: would reveal session keys", NULL);
	/* What is refused may be written as if it were absent. */
	expect_json("enable_mptcp: false\ntcp_fast_open_queue_length: ~\n", LISTENER, "{}");
	expect_json("stats_flush_interval: 5s", BOOTSTRAP, "{\"stats_flush_interval\":\"5s\"}");
}

static void
test_scalars(void **state)
{
	expect_json("level: -6\nname: \"9223372036854775807\"\nint_value: 0x10\nstate: 1", OPTION,
		"{\"level\":\"-6\",\"name\":\"9223372036854775807\",\"int_value\":\"16\",\"state\":\"STATE_BOUND\"}");
	expect_json("buf_value: aGk_aA\n", OPTION, "{\"buf_value\":\"aGk/aA==\"}");
	expect_json("description: 12", OPTION, "{\"description\":\"12\"}");
	expect_errors("level: 9223372036854775808\nname: 1.5\nint_value: 007\nstate: STATE_BOND\n",
		OPTION,
		"1:8: level: must be a whole number from -9223372036854775808 to 9223372036854775807",
		"2:7: name: must be a whole number from -9223372036854775808 to 9223372036854775807",
		"3:12: int_value: must be a whole number from -9223372036854775808 to 9223372036854775807",
		"4:8: state: \"STATE_BOND\" is not a value of envoy.config.core.v3.SocketOption.SocketState; "
		"did you mean \"STATE_BOUND\"?",
		NULL);
	expect_errors("buf_value: a", OPTION, "1:12: buf_value: must be bytes in base64", NULL);
	expect_errors(
		"description: [a]", OPTION, "1:14: description: must be text, not a list", NULL);
	expect_errors("continue_on_listener_filters_timeout: \"true\"\ntransparent: yes\n"
		      "tcp_backlog_size: -1\nlisteners: 1",
		LISTENER,
		"1:39: continue_on_listener_filters_timeout: must be true or false, without quotes",
		"2:14: transparent: must be true or false",
		"3:19: tcp_backlog_size: must be a whole number from 0 to 4294967295",
		"4:1: listeners: unknown field of envoy.config.listener.v3.Listener", NULL);
}

static void
test_shapes(void **state)
{
	expect_errors("address: 127.0.0.1:80\nfilter_chains: {}\nlistener_filters: [~, {name: a}]",
		LISTENER,
		"1:10: address: must be a mapping with fields of envoy.config.core.v3.Address, not a plain value",
		"2:16: filter_chains: must be a list, not a mapping",
		"3:20: listener_filters[0]: must not be null", NULL);
	expect_errors("address:\n  pipe: {path: /a}\n  socket_address: {address: 1.2.3.4}",
		LISTENER, "3:3: address.socket_address: socket_address and pipe exclude each other",
		NULL);
	expect_errors("rules: {policies: [a]}", RBAC,
		"1:19: rules.policies: must be a mapping, not a list", NULL);
	expect_errors("rules:\n  policies:\n    \"a b\":\n      permission: []", RBAC,
		"4:7: rules.policies[\"a b\"].permission: unknown field of envoy.config.rbac.v3.Policy; "
		"did you mean \"permissions\"?",
		NULL);
}

static void
test_durations(void **state)
{
	expect_json("connect_timeout: 0.25s\ncleanup_interval: 1.000000001s\ndns_refresh_rate: 90s",
		CLUSTER,
		"{\"connect_timeout\":\"0.250s\",\"dns_refresh_rate\":\"90s\",\"cleanup_interval\":\"1.000000001s\"}");
	expect_errors("connect_timeout: 5\ncleanup_interval: 5m", CLUSTER,
		"1:18: connect_timeout: must be a duration in seconds with an s at the end, such as \"5s\" or "
		"\"0.25s\"",
		"2:19: cleanup_interval: must be a duration in seconds with an s at the end, such as \"5s\" or "
		"\"0.25s\"",
		NULL);
}

static void
test_any(void **state)
{
	const char *head = "filters:\n- name: a\n  typed_config:\n";
	char text[1000];

	snprintf(text, sizeof text, "%s    \"@type\": %s\n    clustr: a\n    stat_prefix: b\n",
		head, TCP_PROXY_URL);
	expect_errors(text, DESC(envoy__config__listener__v3__filter_chain),
		"5:5: filters[0].typed_config.clustr: unknown field of "
		"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy; did you mean \"cluster\"?",
		NULL);
	snprintf(text, sizeof text, "%s    cluster: a\n", head);
	expect_errors(text, DESC(envoy__config__listener__v3__filter_chain),
		"4:5: filters[0].typed_config: must name its type: \"@type\": type.googleapis.com/...",
		NULL);
	snprintf(text, sizeof text, "%s    \"@type\": " TYPE "envoy.extensions.network.TcpProxy\n",
		head);
	expect_errors(text, DESC(envoy__config__listener__v3__filter_chain),
		"4:14: filters[0].typed_config.@type: unknown type \"" TYPE
		"envoy.extensions.network.TcpProxy\"; "
		"did you mean \"" TCP_PROXY_URL "\"?",
		NULL);
	expect_json("{action: {name: chain, typed_config: {\"@type\": " TYPE
		    "google.protobuf.StringValue, "
		    "value: main}}}",
		DESC(xds__type__matcher__v3__matcher__on_match),
		"{\"action\":{\"name\":\"chain\",\"typed_config\":{\"@type\":\"" TYPE
		"google.protobuf.StringValue\",\"value\":\"main\"}}}");
	expect_errors("{action: {typed_config: {\"@type\": " TYPE "google.protobuf.StringValue}}}",
		DESC(xds__type__matcher__v3__matcher__on_match),
		"1:25: action.typed_config: needs a \"value\" beside \"@type\"", NULL);
}

static void
test_typed_struct(void **state)
{
	const ProtobufCMessage *m;
	const Envoy__Config__Listener__V3__Filter *f;
	const Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy *p;
	struct hb_cfg *cfg = text_cfg(
		"name: a\ntyped_config:\n  \"@type\": " TYPE "udpa.type.v1.TypedStruct\n"
		"  type_url: " TCP_PROXY_URL
		"\n  value: {stat_prefix: s, cluster: c, max_connect_attempts: 3}\n",
		DESC(envoy__config__listener__v3__filter), &m);

	assert_non_null(m);
	f = (const void *)m;
	p = hb_cfg_any_of(cfg, f, "typed_config", -1, f->typed_config, TCP_PROXY);
	assert_non_null(p);
	assert_string_equal(p->cluster, "c");
	assert_int_equal(
		hb_cfg_u32(cfg, p, "max_connect_attempts", p->max_connect_attempts, 1, 9, 1), 3);
	hb_cfg_free(&cfg);
	expect_errors("typed_config:\n  \"@type\": " TYPE "xds.type.v3.TypedStruct\n"
		      "  type_url: " TCP_PROXY_URL "\n  value: {stat_prefx: s}\n",
		DESC(envoy__config__listener__v3__filter),
		"4:11: typed_config.stat_prefx: unknown field of "
		"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy; did you mean \"stat_prefix\"?",
		NULL);
	expect_errors("typed_config:\n  \"@type\": " TYPE
		      "xds.type.v3.TypedStruct\n  type_url: nowhere\n",
		DESC(envoy__config__listener__v3__filter),
		"3:13: typed_config.type_url: unknown type \"nowhere\"", NULL);
}

/* Below a field without effect, types that only others know are passed over. */
static void
test_harmless(void **state)
{
	const char *text = "name: c\nmetadata:\n  typed_filter_metadata:\n    a.b:\n"
			   "      \"@type\": " TYPE "a.B\n      c: [1]\n";
	const ProtobufCMessage *m;
	struct hb_cfg *cfg = text_cfg(text, CLUSTER, &m);
	char line[1024];

	assert_non_null(m);
	assert_int_equal(hb_cfg_warnings(cfg)->n, 1);
	hb_err_format(&hb_cfg_warnings(cfg)->v[0], line, sizeof line);
	assert_string_equal(line,
		"t.yaml:5:16: metadata.typed_filter_metadata[\"a.b\"].@type: unknown type \"" TYPE
		"a.B\", without effect here");
	hb_cfg_free(&cfg);
	expect_json(text, CLUSTER,
		"{\"name\":\"c\",\"metadata\":{\"typed_filter_metadata\":{\"a.b\":{\"@type\":\"" TYPE
		"xds.type.v3.TypedStruct\",\"type_url\":\"" TYPE
		"a.B\",\"value\":{\"@type\":\"" TYPE "a.B\",\"c\":[1]}}}}}");
	expect_errors("metadata: {filter_metdata: {}}", CLUSTER,
		"1:12: metadata.filter_metdata: unknown field of envoy.config.core.v3.Metadata; did you mean "
		"\"filter_metadata\"?",
		NULL);
}

static void
expect_compile_error(struct hb_cfg *cfg, ...)
{
	va_list ap;

	va_start(ap, cfg);
	expect_cfg_errors(cfg, "t.yaml", ap);
	va_end(ap);
	hb_errs_fini(hb_cfg_errs(cfg));
	hb_errs_init(hb_cfg_errs(cfg));
}

static void
test_compile_helpers(void **state)
{
	const ProtobufCMessage *m;
	struct hb_cfg *cfg = text_cfg(
		"filter_chains:\n- filters:\n  - name: a\n  - name: b\n    typed_config:\n"
		"      \"@type\": " TCP_PROXY_URL
		"\n      idle_timeout: 0.0001s\n      max_connect_attempts: 7\n"
		"      access_log_options:\n        access_log_flush_interval: -1s\n",
		LISTENER, &m);
	const Envoy__Config__Listener__V3__Listener *l = (const void *)m;
	const Envoy__Config__Listener__V3__Filter *f;
	const Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy *p;

	assert_non_null(m);
	f = l->filter_chains[0]->filters[0];
	assert_null(hb_cfg_any(cfg, f, "typed_config", -1, f->typed_config));
	expect_compile_error(cfg,
		"3:5: filter_chains[0].filters[0].typed_config: is missing: write a mapping "
		"with \"@type\": type.googleapis.com/...",
		NULL);
	f = l->filter_chains[0]->filters[1];
	assert_null(hb_cfg_any_of(cfg, f, "typed_config", -1, f->typed_config, RBAC));
	expect_compile_error(cfg,
		"6:7: filter_chains[0].filters[1].typed_config: must be a "
		"envoy.extensions.filters.network.rbac.v3.RBAC, not a "
		"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
		NULL);
	p = hb_cfg_any_of(cfg, f, "typed_config", -1, f->typed_config, TCP_PROXY);
	assert_int_equal(hb_cfg_duration_ms(cfg, p, "idle_timeout", p->idle_timeout, 5), 1);
	assert_int_equal(hb_cfg_duration_ms(cfg, p, "backoff", NULL, 5), 5);
	assert_int_equal(
		hb_cfg_u32(cfg, p, "max_connect_attempts", p->max_connect_attempts, 1, 6, 2), 2);
	assert_int_equal(hb_cfg_duration_ms(cfg, p->access_log_options, "access_log_flush_interval",
				 p->access_log_options->access_log_flush_interval, 9),
		9);
	assert_int_equal(
		hb_cfg_error(cfg, p, "stat_prefix", -1, "must not be %s", "empty"), -EINVAL);
	assert_int_equal(hb_cfg_error(cfg, l, "filter_chains", 0, "has no end"), -EINVAL);
	expect_compile_error(cfg,
		"8:29: filter_chains[0].filters[1].typed_config.max_connect_attempts: must be from 1 to 6",
		"10:36: filter_chains[0].filters[1].typed_config.access_log_options.access_log_flush_interval: "
		"must not be negative",
		"6:7: filter_chains[0].filters[1].typed_config.stat_prefix: must not be empty",
		"2:3: filter_chains[0]: has no end", NULL);
	assert_true(hb_cfg_bool(NULL, true));
	hb_cfg_free(&cfg);
}

static void
read_source(const char *text, size_t max, const char *want, const char *error)
{
	const ProtobufCMessage *m;
	struct hb_cfg *cfg = text_cfg(text, DESC(envoy__config__core__v3__data_source), &m);
	struct hb_text t;

	assert_non_null(m);
	if (want != NULL) {
		assert_int_equal(hb_cfg_data_source(cfg, m, NULL, m, max, &t), 0);
		assert_string_equal(t.p, want);
		hb_text_fini(&t);
	} else {
		assert_int_equal(hb_cfg_data_source(cfg, m, NULL, m, max, &t), -EINVAL);
		expect_compile_error(cfg, error, NULL);
	}
	hb_cfg_free(&cfg);
}

static void
test_data_source(void **state)
{
	char path[] = "/tmp/hb-config-XXXXXX", text[100], error[200];
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "hello", 5), 5);
	close(fd);
	setenv("HB_CONFIG_TEST", "from env", 1);
	read_source("inline_string: abc", 10, "abc", NULL);
	read_source("inline_bytes: aGk=", 10, "hi", NULL);
	read_source("environment_variable: HB_CONFIG_TEST", 10, "from env", NULL);
	read_source("environment_variable: HB_CONFIG_NONE", 10, NULL,
		"1:1: the environment variable HB_CONFIG_NONE is not set");
	read_source("inline_string: abcdef", 5, NULL, "1:1: has more than 5 bytes");
	read_source("{}", 5, NULL,
		"1:1: needs one of filename, inline_bytes, inline_string and environment_variable");
	snprintf(text, sizeof text, "filename: %s", path);
	read_source(text, 10, "hello", NULL);
	snprintf(error, sizeof error, "1:11: filename: %s has more than 3 bytes", path);
	read_source(text, 3, NULL, error);
	unlink(path);
	snprintf(error, sizeof error, "1:11: filename: cannot open %s: No such file or directory",
		path);
	read_source(text, 10, NULL, error);
	read_source("filename: /tmp", 10, NULL, "1:11: filename: /tmp is a directory");
}

static void
test_types(void **state)
{
	struct hb_err err = { 0 };
	ProtobufCMessageDescriptor other = *TCP_PROXY;

	assert_ptr_equal(hb_cfg_type_find(HB_STR(TCP_PROXY_URL)), TCP_PROXY);
	assert_ptr_equal(hb_cfg_type_find(HB_STR("envoy.config.listener.v3.Listener")), LISTENER);
	assert_null(hb_cfg_type_find(HB_STR("a.B")));
	assert_int_equal(hb_cfg_type_add(TCP_PROXY, &err), 0);
	assert_int_equal(hb_cfg_type_add(&other, &err), -EEXIST);
	assert_string_equal(err.text,
		"the message type envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy "
		"is already known");
}

static void
test_files(void **state)
{
	struct hb_cfg *cfg = hb_cfg_new("gone.yaml", NULL);

	assert_null(hb_cfg_parse_file(cfg, "/nonexistent/gone.yaml", BOOTSTRAP));
	assert_int_equal(hb_cfg_errs(cfg)->n, 1);
	assert_string_equal(hb_cfg_errs(cfg)->v[0].text,
		"cannot open /nonexistent/gone.yaml: No such file or directory");
	hb_cfg_free(&cfg);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gateway),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_scalars),
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_any),
		cmocka_unit_test(test_typed_struct),
		cmocka_unit_test(test_harmless),
		cmocka_unit_test(test_compile_helpers),
		cmocka_unit_test(test_data_source),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_files),
	};

	return (cmocka_run_group_tests_name("decode", tests, NULL, NULL));
}

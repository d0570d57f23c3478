/* SPDX-License-Identifier: Apache-2.0 */
/* Messages to JSON. */
#include "test/core/config/support.h"
#include "envoy/admin/v3/config_dump.pb-c.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/common.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"

#define TYPE "type.googleapis.com/"

static void
test_pretty(void **state)
{
	const ProtobufCMessage *m;
	struct hb_cfg *cfg = text_cfg(
		"{name: a, address: {socket_address: {address: \"::\", port_value: 0}}, "
		"filter_chains: [{}, {name: b, filter_chain_match: {source_ports: [1, 2]}}]}",
		DESC(envoy__config__listener__v3__listener), &m);
	struct hb_text t = { 0 };

	hb_cfg_to_json(&t, m, 1);
	/* A member of a oneof is printed even with its default. */
	assert_string_equal(t.p,
		"{\n"
		"    \"name\": \"a\",\n"
		"    \"address\": {\n"
		"      \"socket_address\": {\n"
		"        \"address\": \"::\",\n"
		"        \"port_value\": 0\n"
		"      }\n"
		"    },\n"
		"    \"filter_chains\": [\n"
		"      {},\n"
		"      {\n"
		"        \"filter_chain_match\": {\n"
		"          \"source_ports\": [\n"
		"            1,\n"
		"            2\n"
		"          ]\n"
		"        },\n"
		"        \"name\": \"b\"\n"
		"      }\n"
		"    ]\n"
		"  }");
	hb_text_fini(&t);
	hb_cfg_free(&cfg);
}

static void
test_values(void **state)
{
	expect_json("common_lb_config: {healthy_panic_threshold: {value: 33.3}}",
		DESC(envoy__config__cluster__v3__cluster),
		"{\"common_lb_config\":{\"healthy_panic_threshold\":{\"value\":33.3}}}");
	expect_json("\"2026-01-02T03:04:05.678Z\"", DESC(google__protobuf__timestamp),
		"\"2026-01-02T03:04:05.678Z\"");
	expect_json("\"1969-12-31T23:59:59Z\"", DESC(google__protobuf__timestamp),
		"\"1969-12-31T23:59:59Z\"");
	expect_json("-1.5s", DESC(google__protobuf__duration), "\"-1.500s\"");
	expect_json("{transport_socket: {name: \"a\\u00e4\\n\\\"\"}}",
		DESC(envoy__config__cluster__v3__cluster),
		"{\"transport_socket\":{\"name\":\"a\xc3\xa4\\n\\\"\"}}");
	expect_json("lb_policy: MAGLEV", DESC(envoy__config__cluster__v3__cluster),
		"{\"lb_policy\":\"MAGLEV\"}");
	expect_json("max_active_downstream_connections: 5",
		hb_cfg_type_find(
			HB_STR("envoy.extensions.resource_monitors.downstream_connections.v3."
			       "DownstreamConnectionsConfig")),
		"{\"max_active_downstream_connections\":\"5\"}");
}

/* Keys never leave; where they are kept does. */
static void
test_secrets(void **state)
{
	const char *want = "{\"certificate_chain\":{\"inline_string\":\"cert\"},"
			   "\"private_key\":{\"inline_string\":\"[redacted]\"}}";

	expect_json("certificate_chain: {inline_string: cert}\nprivate_key: {inline_string: key}",
		DESC(envoy__extensions__transport_sockets__tls__v3__tls_certificate), want);
	expect_json("private_key: {inline_bytes: a2V5}",
		DESC(envoy__extensions__transport_sockets__tls__v3__tls_certificate),
		"{\"private_key\":{\"inline_bytes\":\"W3JlZGFjdGVkXQ==\"}}");
	expect_json("private_key: {filename: /etc/key.pem}",
		DESC(envoy__extensions__transport_sockets__tls__v3__tls_certificate),
		"{\"private_key\":{\"filename\":\"/etc/key.pem\"}}");
	expect_json(
		"typed_config: {\"@type\": " TYPE "xds.type.v3.TypedStruct, type_url: " TYPE
		"envoy.extensions.transport_sockets.tls.v3.TlsCertificate, value: {privateKey: {inline_string: key}}}",
		DESC(envoy__config__core__v3__typed_extension_config),
		"{\"typed_config\":{\"@type\":\"" TYPE
		"xds.type.v3.TypedStruct\",\"type_url\":\"" TYPE
		"envoy.extensions.transport_sockets.tls.v3.TlsCertificate\",\"value\":{\"privateKey\":"
		"{\"inline_string\":\"[redacted]\"}}}}");
}

/* What admin prints is built by hand, with resources as bytes. */
static void
test_dump(void **state)
{
	Envoy__Admin__V3__ListenersConfigDump__StaticListener sl =
		ENVOY__ADMIN__V3__LISTENERS_CONFIG_DUMP__STATIC_LISTENER__INIT;
	Envoy__Admin__V3__ListenersConfigDump__StaticListener *v[1] = { &sl };
	Envoy__Admin__V3__ListenersConfigDump d = ENVOY__ADMIN__V3__LISTENERS_CONFIG_DUMP__INIT;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	uint8_t bytes[] = { 0x0a, 1, 'x' };
	struct hb_text t = { 0 };

	any.type_url = (char *)(uintptr_t)TYPE "envoy.config.listener.v3.Listener";
	any.value.data = bytes;
	any.value.len = sizeof bytes;
	sl.listener = &any;
	d.n_static_listeners = 1;
	d.static_listeners = v;
	hb_cfg_to_json(&t, &d.base, -1);
	assert_string_equal(t.p,
		"{\"static_listeners\":[{\"listener\":{\"@type\":\"" TYPE
		"envoy.config.listener.v3.Listener\",\"name\":\"x\"}}]}");
	hb_text_fini(&t);
	/* What cannot be opened is shown as it is. */
	any.type_url = (char *)(uintptr_t) "a.B";
	hb_cfg_to_json(&t, &any.base, -1);
	assert_string_equal(t.p, "{\"@type\":\"a.B\",\"value\":\"CgF4\"}");
	hb_text_fini(&t);
	any.type_url = (char *)(uintptr_t) "";
	hb_cfg_to_json(&t, &any.base, -1);
	assert_string_equal(t.p, "{}");
	hb_text_fini(&t);
}

static void
test_defaults_on_demand(void **state)
{
	Envoy__Admin__V3__ListenersConfigDump d = ENVOY__ADMIN__V3__LISTENERS_CONFIG_DUMP__INIT;
	Envoy__Config__Core__V3__SocketAddress a =
		ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__INIT;
	struct hb_text t = { 0 };

	(void)state;
	hb_cfg_to_json_defaults(&t, &d.base, -1);
	assert_non_null(strstr(t.p, "\"version_info\":\"\""));
	assert_non_null(strstr(t.p, "\"static_listeners\":[]"));
	hb_text_fini(&t);
	hb_cfg_to_json_defaults(&t, &a.base, -1);
	assert_non_null(strstr(t.p, "\"protocol\":\"TCP\""));
	assert_non_null(strstr(t.p, "\"ipv4_compat\":false"));
	/* A oneof has no default. */
	assert_null(strstr(t.p, "port_value"));
	hb_text_fini(&t);
}

/* JSON that was printed reads back to the same bytes. */
static void
test_round_trip(void **state)
{
	struct hb_cfg *a = hb_cfg_new("a", NULL), *b = hb_cfg_new("b", NULL);
	const ProtobufCMessageDescriptor *desc = hb_cfg_type_find(
		HB_STR("envoy.config.bootstrap.v3.Bootstrap"));
	const ProtobufCMessage *m = hb_cfg_parse_file(
				       a, "test/core/config/data/sni-gateway.yaml", desc),
			       *n;
	struct hb_text json = { 0 }, x, y;

	assert_non_null(m);
	hb_cfg_to_json(&json, m, 0);
	n = hb_cfg_parse_text(b, hb_strn(json.p, json.len), desc);
	assert_non_null(n);
	x = hb_cfg_to_wire(m);
	y = hb_cfg_to_wire(n);
	assert_int_equal(x.len, y.len);
	assert_memory_equal(x.p, y.p, x.len);
	hb_text_fini(&x);
	hb_text_fini(&y);
	hb_text_fini(&json);
	hb_cfg_free(&a);
	hb_cfg_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pretty),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_secrets),
		cmocka_unit_test(test_dump),
		cmocka_unit_test(test_defaults_on_demand),
		cmocka_unit_test(test_round_trip),
	};

	return (cmocka_run_group_tests_name("json", tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Cluster messages: what is refused and why; /clusters; explain. */
#include "test/upstreams/support.h"

#include "core/filter/explain.h"

#define EP(port) \
	"{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: " #port "}}}}"
#define ONE "load_assignment: {endpoints: [{lb_endpoints: [" EP(1) "]}]}"
#define BY_NAME                                                                                \
	"load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: " \
	"{address: a.example, port_value: 1}}}}]}]}"

/* ------------------------------------------------------------------ what is refused */

static void
test_refused__types(void **state)
{
	(void)state;
	up_refused("{" ONE "}", "name is missing", NULL);
	up_refused("{name: c}", "load_assignment is missing", NULL);
	up_refused("{name: c, type: EDS, " ONE "}", "EDS needs a management server", NULL);
	up_refused("{name: c, " BY_NAME "}", "\"a.example\" is not an IP address", NULL);
	up_refused("{name: c, type: LOGICAL_DNS, load_assignment: {endpoints: [{lb_endpoints: [" EP(
			   1) ", " EP(2) "]}]}}",
		"LOGICAL_DNS has exactly one endpoint, not 2", NULL);
	up_refused("{name: c, type: ORIGINAL_DST, " ONE "}", "must be CLUSTER_PROVIDED",
		"is not possible with ORIGINAL_DST", NULL);
	up_refused("{name: c, lb_policy: CLUSTER_PROVIDED, " ONE "}",
		"is for clusters of type ORIGINAL_DST", NULL);
	up_refused("{name: c, lb_policy: MAGLEV, " ONE "}",
		"use ROUND_ROBIN, LEAST_REQUEST or RANDOM", NULL);
	up_refused("{name: c, original_dst_lb_config: {upstream_port_override: 1}, " ONE "}",
		"in clusters of type ORIGINAL_DST only", NULL);
	up_refused(
		"{name: c, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, original_dst_lb_config: "
		"{upstream_port_override: 70000, metadata_key: {key: a}}}",
		"upstream_port_override", "needs a key (the namespace) and one path segment", NULL);
}

static void
test_refused__endpoints(void **state)
{
	(void)state;
	up_refused(
		"{name: c, load_assignment: {endpoints: [{lb_endpoints: [{}, {endpoint: {}}, {endpoint: {address: {}}}, "
		"{endpoint: {address: {socket_address: {address: 1.2.3.4}}}}, "
		"{endpoint: {address: {socket_address: {protocol: UDP, address: 1.2.3.4, port_value: 1}}}}, "
		"{load_balancing_weight: 0, endpoint: {address: {pipe: {path: ''}}}}]}]}}",
		"lb_endpoints[0]: endpoint is missing", "address needs an address",
		"it needs an address", "port_value: must be 1 to 65535", "must be TCP",
		"load_balancing_weight", "must have 1 to 107 bytes", NULL);
	up_refused(
		"{name: c, type: STRICT_DNS, load_assignment: {endpoints: [{lb_endpoints: ["
		"{endpoint: {address: {pipe: {path: /x}}}}, "
		"{endpoint: {address: {socket_address: {address: 'a b', port_value: 1}}}}, "
		"{endpoint: {address: {socket_address: {address: a, port_value: 1}}, additional_addresses: "
		"[{address: {socket_address: {address: 1.2.3.4, port_value: 1}}}]}}]}]}}",
		"DNS has no Unix domain sockets", "neither an IP address nor a host name",
		"is not possible with a host name", NULL);
	up_refused(
		"{name: c, load_assignment: {endpoints: [{priority: 2, lb_endpoints: []}, {lb_endpoints: []}]}}",
		"priority 2 but none has 1", NULL);
	up_refused("{name: c, load_assignment: {endpoints: [{priority: 128}]}}",
		"must be below 128", NULL);
	up_refused(
		"{name: c, load_assignment: {policy: {overprovisioning_factor: 0}, endpoints: []}}",
		"overprovisioning_factor", NULL);
}

static void
test_refused__connections(void **state)
{
	(void)state;
	up_refused(
		"{name: c, connect_timeout: 0s, common_lb_config: {healthy_panic_threshold: {value: 101}}, "
		"circuit_breakers: {thresholds: [{}, {priority: DEFAULT}]}, "
		"upstream_bind_config: {source_address: {address: nowhere, port_value: 0}, socket_options: "
		"[{level: 1, name: 2, state: STATE_BOUND, int_value: 1}, {level: 1, name: 2}]}, "
		"upstream_connection_options: {tcp_keepalive: {keepalive_probes: 0}, happy_eyeballs_config: "
		"{first_address_family_count: 0}}, least_request_lb_config: {choice_count: 1}, " ONE
		"}",
		"choice_count", "must be 0 to 100", "thresholds[1]: has the same priority",
		"must be STATE_PREBIND", "buf_value is missing", "is not an IP address",
		"connect_timeout: must be above 0", "keepalive_probes",
		"first_address_family_count", NULL);
}

static void
test_refused__dns(void **state)
{
	(void)state;
	up_refused(
		"{name: c, type: STRICT_DNS, dns_refresh_rate: 0s, dns_failure_refresh_rate: {base_interval: 2s, "
		"max_interval: 1s}, " BY_NAME "}",
		"dns_refresh_rate: must be at least 1 ms", "is shorter than base_interval", NULL);
	up_refused("{name: c, type: STRICT_DNS, dns_failure_refresh_rate: {}, " BY_NAME "}",
		"base_interval is missing", NULL);
	up_refused(
		"{name: c, cluster_type: {name: x, typed_config: {'@type': type.googleapis.com/"
		"envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig}}, " BY_NAME
		"}",
		"DnsCluster", NULL);
	up_refused(
		"{name: c, type: STRICT_DNS, typed_dns_resolver_config: {name: x, typed_config: {'@type': "
		"type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig, "
		"query_timeout_seconds: 0, query_tries: 0}}, " BY_NAME "}",
		"query_tries", "query_timeout_seconds", NULL);
}

static void
test_congestion_has_a_name(void **state)
{
	(void)state;
	up_refused("{name: c, metadata: {typed_filter_metadata: {hbone.cluster: {'@type': "
		   "type.googleapis.com/hbone.config.ClusterOptions, tcp_congestion: 'B BR'}}}, "
		   "load_assignment: {endpoints: [{lb_endpoints: [" EP(1) "]}]}}",
		"\"B BR\" is no name of a congestion control", NULL);
}

static void
test_all_that_is_honoured(void **state)
{
	struct hb_cluster *c = up_cluster(
		"{name: c, alt_stat_name: other, lb_policy: LEAST_REQUEST, "
		"least_request_lb_config: {choice_count: 5}, connect_timeout: 1.5s, "
		"per_connection_buffer_limit_bytes: 32768, common_lb_config: {healthy_panic_threshold: {value: 12.7}}, "
		"circuit_breakers: {thresholds: [{max_connections: 7, max_pending_requests: 8}]}, "
		"upstream_bind_config: {freebind: true, source_address: {address: '::1', port_value: 0}}, "
		"upstream_connection_options: {tcp_keepalive: {keepalive_probes: 3, keepalive_time: 60, "
		"keepalive_interval: 10}}, metadata: {typed_filter_metadata: {hbone.cluster: {'@type': "
		"type.googleapis.com/hbone.config.ClusterOptions, tcp_congestion: auto}}}, "
		"load_assignment: {policy: {overprovisioning_factor: 200}, "
		"endpoints: [{lb_endpoints: [" EP(1) "]}]}}");

	(void)state;
	assert_string_equal(c->stat_name, "other");
	assert_int_equal(c->lb_settings.choice_count, 5);
	assert_int_equal(c->lb_settings.panic_percent, 12);
	assert_int_equal(c->lb_settings.overprovisioning, 200);
	assert_int_equal(c->connect_timeout_ms, 1500);
	assert_int_equal(c->buffer_high, 32768);
	assert_int_equal(c->limits[0].connections, 7);
	assert_int_equal(c->limits[0].pending, 8);
	assert_int_equal(c->limits[1].connections, 1024);
	assert_true(c->bind.freebind && c->bind.from.ss_family == AF_INET6);
	assert_true(c->tcp.keepalive && c->tcp.keepalive_probes == 3 &&
		c->tcp.keepalive_time_s == 60 && c->tcp.keepalive_interval_s == 10);
	assert_string_equal(c->tcp.congestion, "auto");
}

/* ------------------------------------------------------------------ /clusters */

static const char two_clusters[] =
	"{name: b, load_assignment: {endpoints: [{locality: {region: eu, zone: z1, sub_zone: r1}, priority: 0, "
	"lb_endpoints: [{load_balancing_weight: 3, health_status: DRAINING, endpoint: {hostname: one, "
	"address: {socket_address: {address: 127.0.0.1, port_value: 1}}}}]}]}}";

static void
test_clusters_text(void **state)
{
	struct hb_text t = { 0 };

	(void)state;
	(void)up_cluster("%s", two_clusters);
	(void)up_cluster("{name: a, load_assignment: {}}");
	hb_clusters_text(&t);
	assert_string_equal(t.p,
		"a::observability_name::a\n"
		"a::default_priority::max_connections::1024\n"
		"a::default_priority::max_pending_requests::1024\n"
		"a::default_priority::max_requests::1024\n"
		"a::default_priority::max_retries::3\n"
		"a::high_priority::max_connections::1024\n"
		"a::high_priority::max_pending_requests::1024\n"
		"a::high_priority::max_requests::1024\n"
		"a::high_priority::max_retries::3\n"
		"a::added_via_api::false\n"
		"b::observability_name::b\n"
		"b::default_priority::max_connections::1024\n"
		"b::default_priority::max_pending_requests::1024\n"
		"b::default_priority::max_requests::1024\n"
		"b::default_priority::max_retries::3\n"
		"b::high_priority::max_connections::1024\n"
		"b::high_priority::max_pending_requests::1024\n"
		"b::high_priority::max_requests::1024\n"
		"b::high_priority::max_retries::3\n"
		"b::added_via_api::false\n"
		"b::127.0.0.1:1::cx_active::0\n"
		"b::127.0.0.1:1::cx_connect_fail::0\n"
		"b::127.0.0.1:1::cx_total::0\n"
		"b::127.0.0.1:1::rq_active::0\n"
		"b::127.0.0.1:1::rq_error::0\n"
		"b::127.0.0.1:1::rq_pending_active::0\n"
		"b::127.0.0.1:1::rq_success::0\n"
		"b::127.0.0.1:1::rq_timeout::0\n"
		"b::127.0.0.1:1::rq_total::0\n"
		"b::127.0.0.1:1::hostname::one\n"
		"b::127.0.0.1:1::health_flags::/failed_eds_health\n"
		"b::127.0.0.1:1::weight::3\n"
		"b::127.0.0.1:1::region::eu\n"
		"b::127.0.0.1:1::zone::z1\n"
		"b::127.0.0.1:1::sub_zone::r1\n"
		"b::127.0.0.1:1::canary::false\n"
		"b::127.0.0.1:1::priority::0\n"
		"b::127.0.0.1:1::success_rate::-1\n"
		"b::127.0.0.1:1::local_origin_success_rate::-1\n");
	hb_text_fini(&t);
}

static void
has(const struct hb_text *t, const char *part)
{
	if (strstr(t->p, part) == NULL)
		fail_msg("\"%s\" is not in %s", part, t->p);
}

static void
test_clusters_json(void **state)
{
	struct hb_text t = { 0 };

	(void)state;
	(void)up_cluster("%s", two_clusters);
	hb_clusters_json(&t);
	has(&t, "\"name\": \"b\"");
	has(&t, "\"port_value\": 1");
	has(&t, "\"hostname\": \"one\"");
	has(&t, "\"eds_health_status\": \"DRAINING\"");
	has(&t, "\"weight\": 3");
	has(&t, "\"zone\": \"z1\"");
	has(&t, "\"type\": \"GAUGE\"");
	has(&t, "\"name\": \"cx_total\"");
	has(&t, "\"observability_name\": \"b\"");
	has(&t, "\"max_connections\": 1024");
	hb_text_fini(&t);
}

/* ------------------------------------------------------------------ explain */

static void
explain(struct hb_text *t, const char *cluster, const struct hb_facts *f)
{
	struct hb_explain *ex = hb_explain_new();

	hb_text_fini(t);
	hb_dial_explain(hb_str(cluster), f, ex);
	hb_explain_text(ex, t);
	hb_explain_free(&ex);
}

static void
test_explain(void **state)
{
	struct hb_text t = { 0 };
	struct hb_facts f;

	(void)state;
	explain(&t, "nobody", NULL);
	has(&t, "there is no cluster of this name");
	(void)up_cluster("{name: c, load_assignment: {endpoints: [{lb_endpoints: [" EP(1) ", " EP(
		3) ", {health_status: UNHEALTHY, endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 2}}}}"
		   "]}, {priority: 1, lb_endpoints: [" EP(4) "]}]}}");
	explain(&t, "c", NULL);
	has(&t, "type STATIC, round_robin, 0 of 1024 connections in use");
	has(&t, "93 % of the connections; 2 of 3 endpoints healthy");
	has(&t, "unhealthy by configuration");
	has(&t, "connects within 5000 ms, in the clear");
	(void)up_cluster("{name: o, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED}");
	hb_facts_init(&f);
	explain(&t, "o", &f);
	has(&t, "no original address was restored");
	assert_true(hb_addr_parse(HB_STR("10.0.0.1:80"), &f.local));
	f.local_restored = true;
	explain(&t, "o", &f);
	has(&t, "10.0.0.1:80");
	hb_facts_fini(&f);
	up_dns_fake();
	(void)up_cluster("{name: d, type: STRICT_DNS, " BY_NAME "}");
	explain(&t, "d", NULL);
	has(&t, "it has not been looked up yet");
	has(&t, "the cluster has no endpoint");
	up_dns_deliver();
	explain(&t, "d", NULL);
	has(&t, "no such name");
	hb_text_fini(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_refused__types, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_refused__endpoints, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_refused__connections, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_refused__dns, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_congestion_has_a_name, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_all_that_is_honoured, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_clusters_text, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_clusters_json, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_explain, up_setup, up_teardown),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

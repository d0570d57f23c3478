/* SPDX-License-Identifier: Apache-2.0 */
/* What a listener's configuration may say, and the explanation of a connection's way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "core/filter/explain.h"
#include "test/listeners/listener_env.h"

#define ADDR    "address: {socket_address: {address: 127.0.0.1, port_value: 0}}\n"
#define FILTERS "filters: [{name: test.name}]"
#define CHAINS  "filter_chains: [{" FILTERS "}]\n"
#define TLS_INSPECTOR                                               \
	"listener_filters: [{name: tls, typed_config: {\"@type\": " \
	"type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}]\n"

static int
setup(void **state)
{
	le_init(NULL);
	return (0);
}

static int
teardown(void **state)
{
	le_fini();
	return (0);
}

static void
bad(const char *yaml, const char *want)
{
	const char *e = le_apply(yaml);

	if (strstr(e, want) == NULL)
		print_error("%swant \"%s\", got \"%s\"\n", yaml, want, e);
	assert_non_null(strstr(e, want));
}

static void
test_addresses(void **state)
{
	bad("name: l\n" CHAINS, "address: is needed");
	bad("name: l\naddress: {}\n" CHAINS, "needs a socket_address or a pipe");
	bad("name: l\naddress: {socket_address: {address: localhost, port_value: 1}}\n" CHAINS,
		"no IPv4 or IPv6 address");
	bad("name: l\naddress: {socket_address: {address: 127.0.0.1}}\n" CHAINS, "port_value");
	bad("name: l\naddress: {socket_address: {address: 127.0.0.1, port_value: 65536}}\n" CHAINS,
		"at most 65535");
	bad("name: l\naddress: {socket_address: {protocol: UDP, address: 127.0.0.1, port_value: 1}}\n" CHAINS,
		"must be TCP");
	bad("name: l\naddress: {socket_address: {address: 127.0.0.1, port_value: 1, ipv4_compat: true}}"
	    "\n" CHAINS,
		"IPv6 addresses only");
	bad("name: l\naddress: {pipe: {path: ''}}\n" CHAINS, "1 to 107 bytes");
	bad("name: l\naddress: {pipe: {path: /x, mode: 512}}\n" CHAINS, "0o777");
	bad("name: l\naddress: {socket_address: {address: 127.0.0.1, port_value: 4}}\n"
	    "additional_addresses: [{address: {socket_address: {address: 127.0.0.1, port_value: 4}"
	    "}}]\n" CHAINS,
		"of this listener already");
}

static void
test_all_errors_at_once(void **state)
{
	const char *e = le_apply(
		"name: l\naddress: {socket_address: {address: x, port_value: 70000}}\n"
		"listener_filters_timeout: -1s\n"
		"max_connections_to_accept_per_socket_event: 0\n"
		"listener_filters: [{name: nobody}, {name: p, filter_disabled: {}, typed_config: {\"@type\": "
		"type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector}}]\n"
		"filter_chains: [{}, {filter_chain_match: {server_names: ['*']}, " FILTERS "}]\n");

	assert_non_null(strstr(e, "no IPv4 or IPv6 address"));
	assert_non_null(strstr(e, "at most 65535"));
	assert_non_null(strstr(e, "listener_filters_timeout"));
	assert_non_null(strstr(e, "max_connections_to_accept_per_socket_event"));
	assert_non_null(strstr(e, "listener_filters[0]"));
	assert_non_null(strstr(e, "or_match"));
	assert_non_null(strstr(e, "filter_chains[0]"));
	assert_non_null(strstr(e, "server_names"));
}

static void
test_chains(void **state)
{
	bad("name: l\n" ADDR, "add a filter chain");
	bad("name: l\n" ADDR "filter_chains: [{" FILTERS "}, {" FILTERS "}]\n", "filter_chains");
	bad("name: l\n" ADDR "filter_chains: [{" FILTERS "}]\n"
	    "filter_chain_matcher: {on_no_match: {action: {name: x, typed_config: {\"@type\": "
	    "type.googleapis.com/google.protobuf.StringValue, value: a}}}}\n",
		"is needed");
	bad("name: l\n" ADDR "filter_chains: [{name: chain-a, " FILTERS "}]\n"
	    "filter_chain_matcher: {on_no_match: {action: {name: x, typed_config: {\"@type\": "
	    "type.googleapis.com/google.protobuf.StringValue, value: chain-b}}}}\n",
		"did you mean \"chain-a\"");
}

static void
test_matcher_chooses(void **state)
{
	struct le_client c;

	le_apply_ok(
		"name: l\n" ADDR TLS_INSPECTOR "filter_chains: [{name: a, " FILTERS
		"}, {name: b, " FILTERS "}]\n"
		"filter_chain_matcher:\n"
		"  matcher_tree:\n"
		"    input: {name: sni, typed_config: {\"@type\": type.googleapis.com/"
		"envoy.extensions.matching.common_inputs.network.v3.ServerNameInput}}\n"
		"    exact_match_map: {map: {a.example: {action: {name: x, typed_config: {\"@type\": "
		"type.googleapis.com/google.protobuf.StringValue, value: a}}}}}\n"
		"  on_no_match: {action: {name: y, typed_config: {\"@type\": "
		"type.googleapis.com/google.protobuf.StringValue, value: b}}}\n");
	le_connect(&c, le_port("l", 0));
	le_send_hello(&c, "a.example", NULL);
	le_expect_line(&c, "a");
	le_close(&c);
	le_connect(&c, le_port("l", 0));
	le_send_hello(&c, "z.example", NULL);
	le_expect_line(&c, "b");
	le_close(&c);
}

static void
test_options(void **state)
{
	struct le_client c;

	/* SO_RCVBUF (8) of SOL_SOCKET (1); TCP_DEFER_ACCEPT (9) of IPPROTO_TCP (6). */
	le_apply_ok(
		"name: l\n" ADDR CHAINS
		"tcp_backlog_size: 10\ntcp_fast_open_queue_length: 5\nstat_prefix: mine\n"
		"tcp_keepalive: {keepalive_time: 60, keepalive_interval: 5, keepalive_probes: 3}\n"
		"socket_options: [{level: 1, name: 8, int_value: 65536, description: receive buffer},"
		" {level: 6, name: 9, int_value: 1, state: STATE_LISTENING}]\n"
		"per_connection_buffer_limit_bytes: 32768\n");
	le_connect(&c, le_port("l", 0));
	le_send(&c, "ping\n", 5);
	le_expect_line(&c, "");
	le_expect_line(&c, "ping");
	le_close(&c);
	assert_int_equal(le_stat("listener.mine.downstream_cx_total"), 1);
	assert_int_equal(le_stat("listener.mine.worker_0.downstream_cx_total") +
			le_stat("listener.mine.worker_1.downstream_cx_total"),
		1);
	bad("name: m\n" ADDR CHAINS "socket_options: [{level: 6, name: 9999, int_value: 1, "
	    "description: nonsense}]\n",
		"nonsense");
}

/* `validate` finds two listeners on one address. */
static void
test_clash_in_one_file(void **state)
{
	static const char yaml[] =
		"static_resources:\n"
		"  listeners:\n"
		"  - {name: one, address: {socket_address: {address: 127.0.0.1, port_value: 9}}, "
		"filter_chains: [{" FILTERS "}]}\n"
		"  - {name: two, address: {socket_address: {address: 127.0.0.1, port_value: 9}}, "
		"filter_chains: [{" FILTERS "}]}\n"
		"  - {name: free, address: {socket_address: {address: 127.0.0.1, port_value: 9}}, "
		"bind_to_port: false, filter_chains: [{" FILTERS "}]}\n";
	struct hb_cfg *cfg = hb_cfg_new("file", NULL);
	const ProtobufCMessage *m = hb_cfg_parse_text(
		cfg, hb_str(yaml), hb_cfg_type_find(HB_STR("envoy.config.bootstrap.v3.Bootstrap")));
	char line[1024];

	assert_non_null(m);
	assert_int_equal(hb_bootstrap_apply(cfg, m, true, true), -EINVAL);
	assert_int_equal(hb_cfg_errs(cfg)->n, 1);
	hb_err_format(&hb_cfg_errs(cfg)->v[0], line, sizeof line);
	assert_non_null(strstr(line, "listeners[1].address"));
	assert_non_null(strstr(line, "127.0.0.1:9 belongs to the listener \"one\""));
	hb_cfg_free(&cfg);
}

/* ------------------------------------------------------------------ explain */

static struct hb_text explained;

static void
explain(const char *listener, const char *dst, const char *sni)
{
	struct hb_facts f;
	struct hb_explain *e = hb_explain_new();

	hb_facts_init(&f);
	assert_true(hb_addr_parse(HB_STR("192.0.2.7:40000"), &f.remote));
	if (dst != NULL)
		assert_true(hb_addr_parse(hb_str(dst), &f.local));
	if (sni != NULL) {
		hb_facts_hello_edit(&f)->sni = hb_str(sni);
		hb_facts_hello_edit(&f)->transport_protocol = "tls";
	}
	hb_listeners_explain(hb_str(listener), &f, e);
	hb_text_fini(&explained);
	hb_explain_text(e, &explained);
	hb_explain_free(&e);
	hb_facts_fini(&f);
}

static int
setup_offline(void **state)
{
	struct hb_listeners_options o = { .drain_time_ms = 25000, .offline = true };

	le_init(&o);
	return (0);
}

static void
test_explain(void **state)
{
	/* Nothing is bound. */
	le_apply_ok(
		"name: gw\naddress: {socket_address: {address: 0.0.0.0, port_value: 443}}\n" TLS_INSPECTOR
		"filter_chains:\n"
		"- {name: a, filter_chain_match: {server_names: [a.example]}, " FILTERS "}\n"
		"- {name: b, filter_chain_match: {server_names: [b.example]}, " FILTERS "}\n");
	explain("", "10.0.0.1:443", "a.example");
	assert_non_null(strstr(explained.p, "gw"));
	assert_non_null(strstr(explained.p, "chosen"));
	assert_non_null(strstr(explained.p, "lost"));
	explain("gw", NULL, "z.example");
	assert_non_null(strstr(explained.p, "NR"));
	explain("", "10.0.0.1:444", "a.example");
	assert_non_null(strstr(explained.p, "nothing listens on 10.0.0.1:444"));
	assert_non_null(strstr(explained.p, "0.0.0.0:443"));
	explain("nobody", NULL, NULL);
	assert_non_null(strstr(explained.p, "there is no listener"));
	hb_text_fini(&explained);
}

/* Without an inspector the server name cannot be known. */
static void
test_explain_blind(void **state)
{
	le_apply_ok("name: l\n" ADDR "filter_chains:\n"
		    "- {name: a, filter_chain_match: {server_names: [a.example]}, " FILTERS "}\n");
	explain("l", NULL, "a.example");
	assert_non_null(strstr(explained.p, "tls_inspector"));
	assert_non_null(strstr(explained.p, "NR"));
	hb_text_fini(&explained);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_addresses),
		T(test_all_errors_at_once),
		T(test_chains),
		T(test_matcher_chooses),
		T(test_options),
		T(test_clash_in_one_file),
		cmocka_unit_test_setup_teardown(test_explain, setup_offline, teardown),
		cmocka_unit_test_setup_teardown(test_explain_blind, setup_offline, teardown),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

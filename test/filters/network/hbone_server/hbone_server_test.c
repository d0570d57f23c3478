/* SPDX-License-Identifier: Apache-2.0 */
/* Tunnels through a filter chain that ends in hbone_server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "test/filters/network/hbone_server/tunnels.h"

#define MIB (1024u * 1024u)

#define SERVER                                                                                \
	"- name: server\n"                                                                    \
	"  typed_config:\n"                                                                   \
	"    \"@type\": type.googleapis.com/hbone.filters.network.hbone_server.HboneServer\n" \
	"    stat_prefix: t\n"
#define PROXY                                                                          \
	"    filter_chains:\n"                                                         \
	"    - filters:\n"                                                             \
	"      - name: tcp\n"                                                          \
	"        typed_config: {\"@type\": "                                           \
	"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, " \
	"stat_prefix: p, cluster: up}\n"
#define DENY                                                                                  \
	"    filter_chains:\n"                                                                \
	"    - filters:\n"                                                                    \
	"      - name: rbac\n"                                                                \
	"        typed_config: {\"@type\": "                                                  \
	"type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, stat_prefix: r, " \
	"rules: {action: ALLOW, policies: {p: {permissions: [{any: true}], principals: "      \
	"[{authenticated: {principal_name: {exact: \"" PEER "x\"}}}]}}}}\n"                   \
	"      - name: echo\n"                                                                \
	"        typed_config: {\"@type\": "                                                  \
	"type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}\n"
#define WORKLOAD \
	"    workload: {ports: [{start: 80, end: 90}], addresses: [web.example], loopback: true}\n"

extern const struct hb_filter_type hb_filter_hbone_server, hb_filter_tcp_proxy, hb_filter_rbac,
	hb_filter_echo;

/* ------------------------------------------------------------------ set-up */

static int
setup(void **state)
{
	hb_panic_hook_add(hb_conn_panic_hook);
	hbf_init();
	hbf_register(&hb_filter_hbone_server);
	hbf_register(&hb_filter_tcp_proxy);
	hbf_register(&hb_filter_rbac);
	hbf_register(&hb_filter_echo);
	return (0);
}

static int
teardown(void **state)
{
	hbf_fini();
	return (0);
}

/* ------------------------------------------------------------------ answers */

static void
test_hbone__works(void **state)
{
	struct tunnel *t;

	open_server(SERVER PROXY);
	t = dial("10.0.0.9:80");
	assert_int_equal(answer(t), 200);
	hbt_writez(&t->sink, "hello", false);
	HBT_UNTIL(hbf_dialler.n == 1 && hbt_gotz(&hbf_dialler.up[0], "hello"));
	hbt_writez(&hbf_dialler.up[0], "answer", true);
	HBT_UNTIL(t->sink.ends == 1);
	assert_true(hbt_gotz(&t->sink, "answer"));
	hbt_writez(&t->sink, ", bye", true);
	HBT_UNTIL(t->sink.closed == 1 && hbf_dialler.up[0].closed == 1);
	assert_true(hbt_gotz(&hbf_dialler.up[0], "hello, bye"));
	assert_int_equal(t->sink.reason, HB_CLOSE_DONE);
	assert_int_equal(hbf_stat("hbone_server.t.rq_200"), 1);
	assert_int_equal(hbf_stat("hbone_server.t.tunnels_active"), 0);
}

static void
refused(const char *filters, const char *authority, unsigned status)
{
	open_server(filters);
	assert_int_equal(answer(dial(authority)), status);
	hbt_turns(4);
	assert_int_equal(w.closed, 0); /* the connection goes on */
	(void)stop(NULL);
}

static void
test_hbone__answers(void **state)
{
	static const char *const bad[] = { "10.0.0.9", "10.0.0.9:70000", "10.0.0.9:0",
		"@10.0.0.9:80", "x@10.0.0.9:80", "10.0.0:80", "fd00::1:80", "[fd00::1]", ":80" };
	static const enum hb_close_reason unreachable[] = { HB_CLOSE_CONNECT_REFUSED,
		HB_CLOSE_CONNECT_UNREACHABLE, HB_CLOSE_DNS_FAILED, HB_CLOSE_NO_CLUSTER,
		HB_CLOSE_NO_HEALTHY_UPSTREAM, HB_CLOSE_UPSTREAM_OVERFLOW };

	for (size_t i = 0; i < HB_ARRAY_LEN(bad); i++)
		refused(SERVER PROXY, bad[i], 400);
	for (size_t i = 0; i < HB_ARRAY_LEN(unreachable); i++) {
		hbf_dialler.mode = HBF_FAIL;
		hbf_dialler.failure = unreachable[i];
		refused(SERVER PROXY, "10.0.0.9:80", 503);
	}
	hbf_dialler.mode = HBF_FAIL;
	hbf_dialler.failure = HB_CLOSE_CONNECT_TIMEOUT;
	refused(SERVER PROXY, "10.0.0.9:80", 504);
	refused(SERVER DENY, "10.0.0.9:80", 401);
	refused(SERVER "    allowed_authorities: [{suffix: \".example:443\"}]\n" PROXY,
		"www.example:80", 401);
	refused(SERVER
		"    filter_chain_matcher: {matcher_tree: {input: {name: p, typed_config: "
		"{\"@type\": type.googleapis.com/envoy.extensions.matching.common_inputs."
		"network.v3.DestinationPortInput}}, exact_match_map: {map: {\"443\": {action: "
		"{name: a, typed_config: {\"@type\": type.googleapis.com/"
		"google.protobuf.StringValue, value: c}}}}}}}\n"
		"    filter_chains: [{name: c, filters: [{name: e, typed_config: {\"@type\": "
		"type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}]}]\n",
		"www.example:80", 503);
	refused(SERVER "    listener: nobody\n", "10.0.0.9:80", 503);
}

/* No HTTP at all: the stream is reset, and nothing else suffers. */
static void
test_hbone__malformed(void **state)
{
	struct tunnel *t, *other;

	open_server(SERVER PROXY);
	other = dial("10.0.0.9:80");
	assert_int_equal(answer(other), 200);
	t = dial("a b:80");
	assert_int_equal(answer(t), 0);
	assert_int_equal(t->sink.reason, HB_CLOSE_STREAM_RESET);
	hbt_writez(&other->sink, "alive", false);
	HBT_UNTIL(hbt_gotz(&hbf_dialler.up[0], "alive"));
	assert_int_equal(hbf_stat("hbone_server.t.http2.stream_errors"), 1);
}

static void
test_hbone__workload(void **state)
{
	refused(SERVER WORKLOAD PROXY, "10.1.2.4:80", 400);
	refused(SERVER WORKLOAD PROXY, "other.example:80", 503);
	refused(SERVER WORKLOAD PROXY, "10.1.2.3:15008", 503);
	refused(SERVER WORKLOAD PROXY, "10.1.2.3:15001", 503);
	refused(SERVER WORKLOAD PROXY, "10.1.2.3:15006", 503);
	refused(SERVER WORKLOAD PROXY, "10.1.2.3:90", 401);
	refused(SERVER WORKLOAD PROXY, "127.0.0.1:80", 400);
	refused(SERVER WORKLOAD PROXY, "10.1.2.3:89", 200);
	refused(SERVER WORKLOAD PROXY, "WEB.example:80", 200);
	hbf_expect_error(SERVER "    workload: {}\n" PROXY, "say which ports may be reached");
	hbf_expect_error(
		SERVER "    workload: {ports: [{start: 0, end: 90}]}\n" PROXY, "range of ports");
}

static void
test_hbone__methods(void **state)
{
	const struct hb_h2_request get = { .method = HB_STR("GET"),
		.scheme = HB_STR("https"),
		.authority = HB_STR("10.0.0.9:80"),
		.path = HB_STR("/") };
	struct hb_h2_request post = get;
	const struct hb_h2_header target = { HB_STR("x-service"), HB_STR("web.example:80") };

	post.method = HB_STR("POST");
	open_server(SERVER PROXY);
	assert_int_equal(answer(request(&get)), 400);
	assert_int_equal(answer(request(&post)), 400);
	(void)stop(NULL);
	open_server(SERVER "    post: {path_prefix: /_hbone/, target_header: X-Service}\n" PROXY);
	assert_int_equal(answer(request(&post)), 400);
	post.path = HB_STR("/_hbone/tcp");
	assert_int_equal(answer(request(&post)), 400); /* no target */
	post.headers = &target;
	post.n_headers = 1;
	assert_int_equal(answer(request(&post)), 200);
	assert_int_equal(answer(request(&get)), 400);
}

static void
test_hbone__too_many_headers(void **state)
{
	struct hb_h2_header h[20];
	struct hb_h2_request r = {
		.authority = HB_STR("10.0.0.9:80"), .headers = h, .n_headers = 20
	};

	for (unsigned i = 0; i < 20; i++)
		h[i] = (struct hb_h2_header){ HB_STR("x-filler"), HB_STR("v") };
	open_server(SERVER "    http2: {max_headers_count: 10}\n" PROXY);
	assert_int_equal(answer(request(&r)), 431);
	r.n_headers = 5;
	assert_int_equal(answer(request(&r)), 200);
	assert_int_equal(hbf_stat("hbone_server.t.rq_431"), 1);
}

/* ------------------------------------------------------------------ the answer waits, bytes too */

static void
test_hbone__accepted_when_connected(void **state)
{
	struct tunnel *t;

	hbf_dialler.mode = HBF_HOLD;
	open_server(SERVER PROXY);
	t = dial("10.0.0.9:80");
	HBT_UNTIL(hbf_dialler.waiting == 1);
	hbt_writez(&t->sink, "early", true);
	hbt_turns(10);
	assert_int_equal(t->sink.connected, 0);
	hbf_answer(HB_CLOSE_NONE);
	assert_int_equal(answer(t), 200);
	HBT_UNTIL(hbf_dialler.up[0].ends == 1);
	assert_true(hbt_gotz(&hbf_dialler.up[0], "early"));
}

static void
test_hbone__reset_while_dialling(void **state)
{
	struct tunnel *t;

	hbf_dialler.mode = HBF_HOLD;
	open_server(SERVER PROXY);
	t = dial("10.0.0.9:80");
	HBT_UNTIL(hbf_dialler.waiting == 1);
	hb_transport_abort(&t->sink.t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(hbf_dialler.canceled == 1);
	HBT_UNTIL(hbf_stat("hbone_server.t.tunnels_active") == 0);
}

/* ------------------------------------------------------------------ endings */

/* An origin that ends first while the client's half is open and its window is small. */
static void
test_hbone__origin_first_loses_nothing(void **state)
{
	uint8_t *p = hbt_pattern(4 * MIB, 7);
	struct tunnel *t;

	open_server(SERVER PROXY);
	t = dial("10.0.0.9:80");
	assert_int_equal(answer(t), 200);
	hb_transport_read_disable(t->t, 1);
	hbt_write(&hbf_dialler.up[0], p, 4 * MIB, true);
	hbt_turns(50);
	assert_int_equal(t->sink.closed, 0);
	hb_transport_read_disable(t->t, -1);
	HBT_UNTIL(t->sink.ends == 1);
	assert_true(hbt_got(&t->sink, p, 4 * MIB));
	assert_int_equal(t->sink.closed, 0);
	hbt_writez(&t->sink, "the other half lives", true);
	HBT_UNTIL(hbf_dialler.up[0].ends == 1);
	assert_true(hbt_gotz(&hbf_dialler.up[0], "the other half lives"));
	HBT_UNTIL(t->sink.closed == 1);
	assert_int_equal(t->sink.reason, HB_CLOSE_DONE);
	hb_free(p);
}

static void
test_hbone__resets(void **state)
{
	struct tunnel *t;

	hbf_dialler.wire = HBF_TCP;
	open_server(SERVER PROXY);
	/* a reset of the client is one for the origin, after what came before it */
	t = dial("10.0.0.9:80");
	assert_int_equal(answer(t), 200);
	hbt_writez(&t->sink, "last", false);
	HBT_UNTIL(hbt_gotz(&hbf_dialler.up[0], "last"));
	hb_transport_abort(&t->sink.t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(hbf_dialler.up[0].closed == 1);
	/* … and the other way round */
	t = dial("10.0.0.9:80");
	assert_int_equal(answer(t), 200);
	hbt_writez(&hbf_dialler.up[1], "last", false);
	HBT_UNTIL(hbt_gotz(&t->sink, "last"));
	hb_transport_abort(&hbf_dialler.up[1].t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(t->sink.closed == 1);
	assert_int_equal(t->sink.reason, HB_CLOSE_STREAM_RESET);
	assert_int_equal(t->sink.ends, 0);
	assert_int_equal(w.closed, 0);
}

/* The connection is cut below open streams: nothing of it is used after its end. */
static void
cut(void (*how)(void))
{
	hbf_dialler.wire = HBF_TCP;
	open_server(SERVER PROXY);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(answer(dial("10.0.0.9:80")), 200);
	how();
	HBT_UNTIL(w.conn.closed && hbf_stat("hbone_server.t.tunnels_active") == 0);
	for (unsigned i = 0; i < 3; i++)
		HBT_UNTIL(hbf_dialler.up[i].closed == 1);
	(void)stop(NULL);
}

static void
by_client(void)
{
	hb_h2_abort(&w.h2, HB_CLOSE_LOCAL_CLOSE);
}

static void
by_operator(void)
{
	hb_conn_close(w.conn.conn, HB_CLOSE_ADMIN);
	hb_conn_close(w.conn.conn, HB_CLOSE_ADMIN);
}

static void
test_hbone__cut(void **state)
{
	cut(by_client);
	cut(by_operator);
}

/* ------------------------------------------------------------------ limits, draining */

static void
test_hbone__stream_limit(void **state)
{
	open_server(SERVER "    http2: {max_concurrent_streams: 2}\n" PROXY);
	for (unsigned i = 0; i < 4; i++) /* before the limit is known */
		(void)dial("10.0.0.9:80");
	assert_int_equal(answer(&w.t[0]), 200);
	assert_int_equal(answer(&w.t[1]), 200);
	for (unsigned i = 2; i < 4; i++) {
		HBT_UNTIL(w.t[i].sink.closed == 1);
		assert_int_equal(w.t[i].sink.reason, HB_CLOSE_STREAM_REFUSED);
	}
	hbt_writez(&w.t[0].sink, "alive", false);
	HBT_UNTIL(hbt_gotz(&hbf_dialler.up[0], "alive"));
	assert_int_equal(hbf_stat("hbone_server.t.http2.stream_refused"), 2);
}

static void
test_hbone__drain(void **state)
{
	struct tunnel *t;

	open_server(SERVER PROXY);
	t = dial("10.0.0.9:80");
	assert_int_equal(answer(t), 200);
	hb_conn_drain(w.conn.conn);
	HBT_UNTIL(w.goaways == 1);
	assert_int_equal(hb_h2_room(w.h2), 0);
	hbt_writez(&t->sink, "still here", true);
	HBT_UNTIL(hbf_dialler.up[0].ends == 1);
	hbt_writez(&hbf_dialler.up[0], "", true);
	HBT_UNTIL(w.closed == 1 && w.conn.closed);
	assert_int_equal(w.conn.reason, HB_CLOSE_DONE);
}

static void
test_hbone__configuration(void **state)
{
	hbf_expect_error(SERVER, "filter_chains: is empty");
	hbf_expect_error(SERVER "    listener: l\n" PROXY, "no filter chains beside it");
	hbf_expect_error(SERVER "    post: {path_prefix: x}\n" PROXY, "start with a slash");
	hbf_expect_error(
		SERVER "    http2: {max_concurrent_streams: 0}\n" PROXY, "max_concurrent_streams");
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stop)
	const struct CMUnitTest tests[] = {
		T(test_hbone__works),
		T(test_hbone__answers),
		T(test_hbone__malformed),
		T(test_hbone__workload),
		T(test_hbone__methods),
		T(test_hbone__too_many_headers),
		T(test_hbone__accepted_when_connected),
		T(test_hbone__reset_while_dialling),
		T(test_hbone__origin_first_loses_nothing),
		T(test_hbone__resets),
		T(test_hbone__cut),
		T(test_hbone__stream_limit),
		T(test_hbone__drain),
		cmocka_unit_test(test_hbone__configuration),
	};
#undef T

	return (cmocka_run_group_tests(tests, setup, teardown));
}

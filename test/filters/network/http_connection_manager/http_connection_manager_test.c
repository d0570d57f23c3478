/* SPDX-License-Identifier: Apache-2.0 */
/* Envoy's form: routes, answers, what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "test/filters/network/hbone_server/tunnels.h"

#define T "type.googleapis.com/envoy.extensions.filters."
#define HCM                                                                              \
	"- name: hcm\n"                                                                  \
	"  typed_config:\n"                                                              \
	"    \"@type\": " T "network.http_connection_manager.v3.HttpConnectionManager\n" \
	"    stat_prefix: h\n"
#define STATE                                                                                    \
	"{name: s, typed_config: {\"@type\": " T "http.set_filter_state.v3.Config, "             \
	"on_request_headers: [{object_key: envoy.tcp_proxy.cluster, format_string: "             \
	"{text_format_source: {inline_string: \"%REQ(X-CLUSTER)%\"}, omit_empty_values: true}, " \
	"skip_if_empty: true}]}}"
#define ROUTER  "{name: r, typed_config: {\"@type\": " T "http.router.v3.Router}}"
#define FILTERS "    http_filters: [" STATE ", " ROUTER "]\n"
#define CONNECT "    upgrade_configs: [{upgrade_type: CONNECT}]\n"
#define TO(c) \
	"route: {cluster: " c ", upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}]}"
#define ANY_TO(c)     "{match: {connect_matcher: {}}, " TO(c) "}"
#define HEADER(m, c)  "{match: {connect_matcher: {}, headers: [" m "]}, " TO(c) "}"
#define ROUTES(hosts) HCM FILTERS CONNECT "    route_config: {virtual_hosts: [" hosts "]}\n"
#define HOST(n, d, r) "{name: " n ", domains: [" d "], routes: [" r "]}"

extern const struct hb_filter_type hb_filter_http_connection_manager, hb_filter_tcp_proxy;

static int
setup(void **state)
{
	hb_panic_hook_add(hb_conn_panic_hook);
	hbf_init();
	hbf_register(&hb_filter_http_connection_manager);
	hbf_register(&hb_filter_tcp_proxy);
	return (0);
}

static int
teardown(void **state)
{
	hbf_fini();
	return (0);
}

static void
goes_to(const char *authority, const char *cluster)
{
	struct tunnel *t = dial(authority);

	assert_int_equal(answer(t), *cluster == '\0' ? 404 : 200);
	if (*cluster != '\0')
		assert_string_equal(hbf_dialler.cluster, cluster);
}

/* Exact, longest suffix, longest prefix, any; case does not matter. */
static void
test_hcm__domains(void **state)
{
	open_server(ROUTES(HOST("a", "\"a.example:80\"", ANY_TO("exact")) ", " HOST(
		"b", "\"*.example:80\"", ANY_TO("suffix")) ", " HOST("c", "\"*.b.example:80\"",
		ANY_TO("longer")) ", " HOST("d", "\"10.0.0.*\"", ANY_TO("prefix"))));
	goes_to("a.example:80", "exact");
	goes_to("A.EXAMPLE:80", "exact");
	goes_to("x.example:80", "suffix");
	goes_to("x.b.example:80", "longer");
	goes_to("10.0.0.1:80", "prefix");
	goes_to("10.0.1.1:80", "");
	goes_to("a.example:81", "");
	(void)stop(NULL);
	open_server(ROUTES(HOST("a", "\"a.example:80\"", ANY_TO("exact")) ", " HOST(
		"z", "\"*\"", ANY_TO("any"))));
	goes_to("a.example:80", "exact");
	goes_to("b.example:80", "any");
}

static void
test_hcm__headers(void **state)
{
	const struct hb_h2_header h[] = { { HB_STR("x-kind"), HB_STR("one") },
		{ HB_STR("x-kind"), HB_STR("two") } };
	struct hb_h2_request r = { .authority = HB_STR("a:80"), .headers = h, .n_headers = 2 };

	open_server(ROUTES(HOST("a", "\"*\"",
		HEADER("{name: X-Kind, string_match: {exact: \"one,two\"}}", "joined") ", " HEADER(
			"{name: x-kind, string_match: {prefix: o}, invert_match: true}",
			"not-o") ", " HEADER("{name: x-absent, present_match: false}, {name: x-kind, present_match: true}",
			"there") ", " HEADER("{name: x-kind, treat_missing_header_as_empty: true, string_match: {exact: \"\"}}",
			"empty"))));
	assert_int_equal(answer(request(&r)), 200);
	assert_string_equal(hbf_dialler.cluster, "joined");
	r.n_headers = 1;
	assert_int_equal(answer(request(&r)), 200);
	assert_string_equal(hbf_dialler.cluster, "there");
	r.n_headers = 0;
	assert_int_equal(answer(request(&r)), 200);
	assert_string_equal(hbf_dialler.cluster, "empty");
}

static void
test_hcm__filter_state(void **state)
{
	const struct hb_h2_header h = { HB_STR("x-cluster"), HB_STR("chosen") };
	const struct hb_h2_request r = {
		.authority = HB_STR("a:80"), .headers = &h, .n_headers = 1
	};

	open_server(ROUTES(HOST("a", "\"*\"", ANY_TO("other"))));
	assert_int_equal(answer(request(&r)), 200);
	assert_string_equal(hbf_dialler.cluster, "chosen");
	goes_to("b:80", "other");
}

static void
test_hcm__answers(void **state)
{
	static const char weighted[] = ROUTES(HOST("a", "\"*\"",
		"{match: {connect_matcher: {}}, route: {weighted_clusters: {clusters: [{name: w, weight: 1}]}, "
		"upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}]}}"));
	const struct hb_h2_request get = { .method = HB_STR("GET"),
		.scheme = HB_STR("https"),
		.authority = HB_STR("a:80"),
		.path = HB_STR("/") };

	open_server(weighted);
	goes_to("a:80", "w");
	goes_to("without-port", "w");
	assert_int_equal(answer(request(&get)), 404);
	hbf_dialler.mode = HBF_FAIL;
	hbf_dialler.failure = HB_CLOSE_CONNECT_TIMEOUT;
	assert_int_equal(answer(dial("a:80")), 503);
	(void)stop(NULL);
	/* without a word about CONNECT it is forbidden */
	open_server(HCM FILTERS
		"    route_config: {virtual_hosts: [{name: a, domains: [\"*\"], routes: [{match: "
		"{connect_matcher: {}}, route: {cluster: c}}]}]}\n");
	assert_int_equal(answer(dial("a:80")), 403);
}

/* POST requests by prefix and path, and what is answered without an upstream. */
static void
test_hcm__post(void **state)
{
#define POST_TO(m, c)                                                                         \
	"{match: {" m "}, route: {cluster: " c ", upgrade_configs: [{upgrade_type: CONNECT, " \
	"connect_config: {allow_post: true}}]}}"
	struct hb_h2_request r = { .method = HB_STR("POST"),
		.scheme = HB_STR("https"),
		.authority = HB_STR("a:80"),
		.path = HB_STR("/t/1?q") };

	open_server(ROUTES(HOST("a", "\"*\"",
		POST_TO("path: /t/1", "path") ", " POST_TO("prefix: /t/", "prefix") ", "
		"{match: {prefix: /no}, direct_response: {status: 451}}, "
		"{match: {connect_matcher: {}, headers: [{name: x, present_match: true}]}, "
		"direct_response: {status: 421}}, " ANY_TO("connect"))));
	assert_int_equal(answer(request(&r)), 200);
	assert_string_equal(hbf_dialler.cluster, "path");
	r.path = HB_STR("/t/12");
	assert_int_equal(answer(request(&r)), 200);
	assert_string_equal(hbf_dialler.cluster, "prefix");
	r.path = HB_STR("/no/way");
	assert_int_equal(answer(request(&r)), 451);
	r.path = HB_STR("/other");
	assert_int_equal(answer(request(&r)), 404);
	r.method = HB_STR("PUT");
	r.path = HB_STR("/t/1");
	assert_int_equal(answer(request(&r)), 404);
	goes_to("a:80", "connect");
	r = (struct hb_h2_request){ .authority = HB_STR("a:80"),
		.headers = &(struct hb_h2_header){ HB_STR("x"), HB_STR("") },
		.n_headers = 1 };
	assert_int_equal(answer(request(&r)), 421);
}

static void
test_hcm__configuration(void **state)
{
	hbf_expect_error(HCM FILTERS CONNECT, "needs a virtual host");
	hbf_expect_error(HCM CONNECT
		"    route_config: {virtual_hosts: [" HOST("a", "\"*\"", ANY_TO("c")) "]}\n",
		"must end with envoy.filters.http.router");
	hbf_expect_error(ROUTES(HOST("a", "\"*\"", "{match: {}, " TO("c") "}")),
		"must have a connect_matcher");
	hbf_expect_error(
		ROUTES(HOST("a", "\"*\"", "{match: {connect_matcher: {}}, route: {cluster: c}}")),
		"connect_config");
	hbf_expect_error(ROUTES(HOST("a", "\"*\"",
				 "{match: {connect_matcher: {}}, route: {cluster: c, "
				 "upgrade_configs: [{upgrade_type: CONNECT}]}}")),
		"passed on, which is not supported");
	hbf_expect_error(
		ROUTES(HOST("a", "\"x:1\"", ANY_TO("c")) ", " HOST("b", "\"X:1\"", ANY_TO("c"))),
		"is in another virtual host, too");
	hbf_expect_error(ROUTES(HOST("a", "\"a*b\"", ANY_TO("c"))), "have one * at one end");
	hbf_expect_error(ROUTES(HOST("a", "\"*\"", "{match: {prefix: /}, " TO("c") "}")),
		"allow_post: true");
	hbf_expect_error(ROUTES(HOST("a", "\"*\"", POST_TO("path: t", "c"))), "start with a slash");
	hbf_expect_error(ROUTES(HOST("a", "\"*\"",
				 "{match: {connect_matcher: {}}, direct_response: {status: 99}}")),
		"must be 200 to 599");
	hbf_expect_error(ROUTES(HOST("a", "\"*\"",
				 "{match: {connect_matcher: {}}, route: {cluster: c, "
				 "upgrade_configs: [{upgrade_type: CONNECT, connect_config: "
				 "{proxy_protocol_config: {}}}]}}")),
		"hbone does not support this field of");
	hbf_expect_error(ROUTES(HOST("a", "\"*\"",
				 "{match: {connect_matcher: {}}, direct_response: {status: 200, "
				 "body: {inline_string: x}}}")),
		"hbone does not support this field of");
	hbf_expect_error(HCM FILTERS "    codec_type: HTTP1\n", "must be HTTP2 or AUTO");
}

int
main(void)
{
#define UT(name) cmocka_unit_test_setup_teardown(name, fresh, stop)
	const struct CMUnitTest tests[] = {
		UT(test_hcm__domains),
		UT(test_hcm__headers),
		UT(test_hcm__filter_state),
		UT(test_hcm__answers),
		UT(test_hcm__post),
		cmocka_unit_test(test_hcm__configuration),
	};
#undef UT

	return (cmocka_run_group_tests(tests, setup, teardown));
}

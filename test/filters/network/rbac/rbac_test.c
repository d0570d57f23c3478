/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "core/base/log.h"
#include "test/support/filter_harness.h"

extern const struct hb_filter_type hb_filter_rbac, hb_filter_tcp_proxy;

#define TYPE "type.googleapis.com/envoy.extensions.filters.network."
#define RBAC                                    \
	"- name: rbac\n"                        \
	"  typed_config:\n"                     \
	"    \"@type\": " TYPE "rbac.v3.RBAC\n" \
	"    stat_prefix: p.\n"
#define PROXY                               \
	"- name: tcp\n"                     \
	"  typed_config: {\"@type\": " TYPE \
	"tcp_proxy.v3.TcpProxy, stat_prefix: p, cluster: app}\n"
#define POLICY(name, permission) \
	"{policies: {" name ": {permissions: [" permission "], principals: [{any: true}]}}}\n"
#define HTTPS "{destination_port: 443}"
#define HTTP  "{destination_port: 80}"
#define NOTE  "{metadata: {filter: n, path: [{key: k}], value: {string_match: {exact: ok}}}}"

static struct hb_chain *chain;
static struct hbf h;
static char last_log[1024];

static void
keep_log(void *arg, const char *line)
{
	if (strstr(line, "rbac") != NULL)
		(void)snprintf(last_log, sizeof last_log, "%s", line);
}

static int
setup(void **state)
{
	hbf_init();
	hbf_register(&hb_filter_rbac);
	hbf_register(&hb_filter_tcp_proxy);
	memset(&h, 0, sizeof h);
	last_log[0] = '\0';
	hb_log_capture(keep_log, NULL);
	return (0);
}

static int
teardown(void **state)
{
	hb_log_capture(NULL, NULL);
	if (h.conn != NULL || h.closed)
		hbf_close(&h);
	hb_chain_free(&chain);
	hbf_fini();
	return (0);
}

static void
open_with(const char *yaml, struct hb_facts *facts)
{
	const struct hbf_options o = { .wire = HBF_TCP, .facts = facts };

	hbf_dialler.wire = HBF_TCP;
	chain = hbf_filters(yaml);
	hbf_open(&h, chain, &o);
}

/* The connection is served: its bytes arrive at the upstream. */
static void
expect_served(const char *bytes)
{
	HBT_UNTIL(hbf_dialler.up[0].secured);
	hbt_writez(&h.client, bytes, false);
	HBT_UNTIL(hbf_dialler.up[0].got.len >= strlen(bytes));
	assert_false(h.closed);
}

static void
expect_closed(enum hb_close_reason reason, const char *detail)
{
	HBT_UNTIL(h.closed);
	assert_int_equal(h.reason, reason);
	assert_string_equal(h.detail, detail);
}

static struct hb_facts *
facts_of_conn(void)
{
	struct hb_conn_view v;

	hb_conn_view(h.conn, &v);
	return ((struct hb_facts *)(uintptr_t)v.facts);
}

static void
assert_metadata(const char *ns, const char *key, const char *value)
{
	struct hb_str got = hb_facts_metadata(facts_of_conn(), hb_str(ns), hb_str(key));

	assert_non_null(got.p);
	assert_true(hb_str_eq(got, hb_str(value)));
}

/* ------------------------------------------------------------------ enforced */

static void
test_rbac__allows(void **state)
{
	hb_log_level_all(HB_LOG_DEBUG);
	open_with(RBAC "    rules: " POLICY("web", HTTPS) PROXY, NULL);
	expect_served("hello");
	hb_log_level_all(HB_LOG_INFO);
	assert_int_equal(hbf_stat("p.rbac.allowed"), 1);
	assert_int_equal(hbf_stat("p.rbac.denied"), 0);
	assert_non_null(strstr(last_log, "allowed"));
	assert_non_null(strstr(last_log, "policy=web"));
}

/* Denied by what is known at connect: no dial, no byte of a server that speaks first. */
static void
test_rbac__denies_before_any_dial(void **state)
{
	open_with(RBAC "    rules: " POLICY("web", HTTP) PROXY, NULL);
	expect_closed(HB_CLOSE_RBAC_DENIED, "rbac_access_denied_matched_policy[none]");
	assert_int_equal(hbf_dialler.dials, 0);
	HBT_UNTIL(h.client.closed);
	assert_int_equal(h.client.got.len, 0);
	assert_int_equal(hbf_stat("p.rbac.denied"), 1);
	assert_int_equal(hbf_stat("p.rbac.allowed"), 0);
	assert_non_null(strstr(last_log, "denied"));
	assert_non_null(strstr(last_log, "policy=none"));
	assert_non_null(strstr(last_log, "remote=127.0.0.1:4000"));
}

static void
test_rbac__detail_names_the_policy(void **state)
{
	open_with(RBAC
		"    rules: {action: DENY, policies: {\"no web\\there\": {permissions: [" HTTPS
		"], principals: [{any: true}]}}}\n" PROXY,
		NULL);
	expect_closed(HB_CLOSE_RBAC_DENIED, "rbac_access_denied_matched_policy[no_web_here]");
}

static void
test_rbac__by_identity(void **state)
{
	static const char yaml[] = RBAC
		"    rules: {policies: {p: {permissions: [{any: true}], principals: [{authenticated: "
		"{principal_name: {prefix: 'spiffe://td/ns/a/'}}}]}}}\n" PROXY;
	struct hb_facts f = hbf_facts("a.example");

	hb_facts_tls_edit(&f)->principal = HB_STR("spiffe://td/ns/a/sa/x");
	open_with(yaml, &f);
	expect_served("hello");
	hbf_close(&h);
	memset(&h, 0, sizeof h);
	hb_chain_free(&chain);
	f = hbf_facts("a.example");
	hb_facts_tls_edit(&f)->principal = HB_STR("spiffe://td/ns/b/sa/x");
	open_with(yaml, &f);
	expect_closed(HB_CLOSE_RBAC_DENIED, "rbac_access_denied_matched_policy[none]");
	assert_int_equal(hbf_dialler.dials, 1);
	assert_non_null(strstr(last_log, "peer=spiffe://td/ns/b/sa/x"));
}

static void
test_rbac__without_rules(void **state)
{
	open_with(RBAC PROXY, NULL);
	expect_served("hello");
	assert_int_equal(hbf_stat("p.rbac.allowed"), 0);
}

/* A rule set that is there but has no policy denies. */
static void
test_rbac__empty_rules(void **state)
{
	open_with(RBAC "    rules: {}\n" PROXY, NULL);
	expect_closed(HB_CLOSE_RBAC_DENIED, "rbac_access_denied_matched_policy[none]");
}

static void
test_rbac__matcher(void **state)
{
	open_with(RBAC
		"    matcher:\n"
		"      matcher_tree:\n"
		"        input: {name: i, typed_config: {'@type': type.googleapis.com/envoy.extensions."
		"matching.common_inputs.network.v3.DestinationPortInput}}\n"
		"        exact_match_map: {map: {'443': {action: {name: a, typed_config: {'@type': "
		"type.googleapis.com/envoy.config.rbac.v3.Action, name: closed, action: DENY}}}}}\n" PROXY,
		NULL);
	expect_closed(HB_CLOSE_RBAC_DENIED, "rbac_access_denied_matched_policy[closed]");
}

/* ------------------------------------------------------------------ shadow, log */

static void
test_rbac__shadow(void **state)
{
	open_with(RBAC "    shadow_rules: " POLICY("web", HTTP) PROXY, NULL);
	expect_served("hello");
	assert_int_equal(hbf_stat("p.rbac.shadow_denied"), 1);
	assert_int_equal(hbf_stat("p.rbac.denied"), 0);
	assert_metadata("envoy.filters.network.rbac", "shadow_engine_result", "denied");
}

static void
test_rbac__shadow_prefix(void **state)
{
	open_with(RBAC "    shadow_rules_stat_prefix: dry_run_\n"
		       "    rules: " POLICY("web", HTTPS) "    shadow_rules: " POLICY("dry", HTTPS)
			       PROXY,
		NULL);
	expect_served("hello");
	assert_int_equal(hbf_stat("p.rbac.dry_run_shadow_allowed"), 1);
	assert_int_equal(hbf_stat("p.rbac.allowed"), 1);
	assert_metadata("envoy.filters.network.rbac", "dry_run_shadow_engine_result", "allowed");
	assert_metadata("envoy.filters.network.rbac", "dry_run_shadow_effective_policy_id", "dry");
}

static void
log_action(const char *permission, const char *hint)
{
	char yaml[1024];

	(void)snprintf(yaml, sizeof yaml,
		RBAC
		"    rules: {action: LOG, policies: {p: {permissions: [%s], principals: [{any: "
		"true}]}}}\n" PROXY,
		permission);
	open_with(yaml, NULL);
	expect_served("hello");
	assert_metadata("envoy.common", "access_log_hint", hint);
}

static void
test_rbac__log_match(void **state)
{
	log_action(HTTPS, "true");
}

static void
test_rbac__log_no_match(void **state)
{
	log_action(HTTP, "false");
}

/* Metadata is bounded; what does not fit is counted. */
static void
test_rbac__metadata_full(void **state)
{
	struct hb_facts f = hbf_facts(NULL);
	char key[16];

	for (unsigned i = 0; i < HB_FACT_ENTRIES_MAX; i++) {
		(void)snprintf(key, sizeof key, "k%u", i);
		assert_true(hb_facts_metadata_set(&f, HB_STR("n"), hb_str(key), HB_STR("v")));
	}
	open_with(RBAC "    shadow_rules: " POLICY("web", HTTPS) PROXY, &f);
	expect_served("hello");
	assert_int_equal(hbf_stat("p.rbac.metadata_dropped"), 2);
}

/* ------------------------------------------------------------------ later */

static void
test_rbac__continuous(void **state)
{
	struct hb_facts f = hbf_facts(NULL);

	assert_true(hb_facts_metadata_set(&f, HB_STR("n"), HB_STR("k"), HB_STR("ok")));
	open_with(RBAC "    enforcement_type: CONTINUOUS\n    rules: " POLICY("note", NOTE) PROXY,
		&f);
	expect_served("hello");
	assert_int_equal(hbf_stat("p.rbac.allowed"), 2);
	assert_true(hb_facts_metadata_set(facts_of_conn(), HB_STR("n"), HB_STR("k"), HB_STR("no")));
	hbt_writez(&h.client, "more", false);
	expect_closed(HB_CLOSE_RBAC_DENIED, "rbac_access_denied_matched_policy[none]");
	assert_true(hbt_gotz(&hbf_dialler.up[0], "hello"));
}

/* The default decides once, and no longer stands in the way of the bytes. */
static void
test_rbac__one_time(void **state)
{
	struct hb_facts f = hbf_facts(NULL);

	assert_true(hb_facts_metadata_set(&f, HB_STR("n"), HB_STR("k"), HB_STR("ok")));
	open_with(RBAC "    rules: " POLICY("note", NOTE) PROXY, &f);
	expect_served("hello");
	assert_true(hb_facts_metadata_set(facts_of_conn(), HB_STR("n"), HB_STR("k"), HB_STR("no")));
	expect_served("hellomore");
	assert_int_equal(hbf_stat("p.rbac.allowed"), 1);
}

static void
test_rbac__revalidate(void **state)
{
	struct hb_facts f = hbf_facts(NULL);

	assert_true(hb_facts_metadata_set(&f, HB_STR("n"), HB_STR("k"), HB_STR("ok")));
	open_with(RBAC "    rules: " POLICY("note", NOTE) PROXY, &f);
	expect_served("hello");
	hb_conn_revalidate(h.conn);
	hbt_turns(3);
	assert_false(h.closed);
	assert_true(hb_facts_metadata_set(facts_of_conn(), HB_STR("n"), HB_STR("k"), HB_STR("no")));
	hb_conn_revalidate(h.conn);
	expect_closed(HB_CLOSE_REVOKED, "rbac_access_denied_matched_policy[none]");
	assert_int_equal(hbf_stat("p.rbac.revoked"), 1);
	assert_int_equal(hbf_stat("p.rbac.allowed"), 1);
	assert_non_null(strstr(last_log, "revoked"));
	HBT_UNTIL(hbf_dialler.up[0].closed);
}

static void
test_rbac__delay_deny(void **state)
{
	open_with(RBAC "    delay_deny: 5s\n    rules: " POLICY("web", HTTP) PROXY, NULL);
	hbt_writez(&h.client, "hello", false);
	hbt_turns(5);
	hbt_advance(4000);
	assert_false(h.closed);
	hb_conn_revalidate(h.conn); /* is denied already */
	hbt_turns(3);
	assert_false(h.closed);
	hbt_advance(1100);
	expect_closed(HB_CLOSE_RBAC_DENIED, "rbac_access_denied_matched_policy[none]");
	assert_int_equal(hbf_dialler.dials, 0);
	assert_int_equal(hbf_stat("p.rbac.denied"), 1);
}

static void
test_rbac__peer_leaves_during_delay(void **state)
{
	open_with(RBAC "    delay_deny: 5s\n    rules: " POLICY("web", HTTP) PROXY, NULL);
	HBT_UNTIL(h.client.secured);
	hbt_turns(5);
	hbf_close(&h);
	assert_int_equal(hbf_dialler.dials, 0);
}

/* ------------------------------------------------------------------ configuration, explain */

static void
test_rbac__errors(void **state)
{
	hbf_expect_error("- name: rbac\n"
			 "  typed_config: {\"@type\": " TYPE "rbac.v3.RBAC}\n" PROXY,
		"must not be empty");
	hbf_expect_error(RBAC "    rules: {policies: {p: {permissions: [{any: true}]}}}\n" PROXY,
		"needs at least one entry");
	hbf_expect_error(RBAC "    shadow_matcher: {}\n" PROXY, "needs one of matcher_list");
	hbf_expect_error(RBAC "    delay_deny: -1s\n" PROXY, "");
	chain = hbf_filters(RBAC PROXY);
}

static void
test_rbac__explain(void **state)
{
	struct hb_facts f = hbf_facts("a.example");
	struct hb_text t;

	chain = hbf_filters(RBAC
		"    rules: " POLICY("web", HTTP) "    shadow_rules: " POLICY("dry", HTTPS) PROXY);
	t = hbf_explain(chain, &f);
	assert_non_null(strstr(t.p, "no permission matches: destination_port 80"));
	assert_non_null(strstr(t.p, "no policy matches and the action is ALLOW"));
	assert_non_null(strstr(t.p, "dry"));
	/* Nothing after it is asked. */
	assert_null(strstr(t.p, "cluster"));
	hb_text_fini(&t);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_rbac__allows),
		TEST(test_rbac__denies_before_any_dial),
		TEST(test_rbac__detail_names_the_policy),
		TEST(test_rbac__by_identity),
		TEST(test_rbac__without_rules),
		TEST(test_rbac__empty_rules),
		TEST(test_rbac__matcher),
		TEST(test_rbac__shadow),
		TEST(test_rbac__shadow_prefix),
		TEST(test_rbac__log_match),
		TEST(test_rbac__log_no_match),
		TEST(test_rbac__metadata_full),
		TEST(test_rbac__continuous),
		TEST(test_rbac__one_time),
		TEST(test_rbac__revalidate),
		TEST(test_rbac__delay_deny),
		TEST(test_rbac__peer_leaves_during_delay),
		TEST(test_rbac__errors),
		TEST(test_rbac__explain),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

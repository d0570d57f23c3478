/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "core/base/log.h"
#include "core/mesh/policies.h"
#include "test/support/filter_harness.h"

extern const struct hb_filter_type hb_filter_authz, hb_filter_echo, hb_filter_tcp_proxy;

#define AUTHZ                                                                    \
	"- name: authz\n"                                                        \
	"  typed_config:\n"                                                      \
	"    \"@type\": type.googleapis.com/hbone.filters.network.authz.Authz\n" \
	"    stat_prefix: p\n"
#define PROXY                                                                               \
	"- name: tcp\n"                                                                     \
	"  typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.network." \
	"tcp_proxy.v3.TcpProxy, stat_prefix: p, cluster: app}\n"
#define PORT(p)  "groups: [{rules: [{matches: [{destination_ports: [" p "]}]}]}]"
#define ID(p)    "groups: [{rules: [{matches: [{principals: [{exact: " p "}]}]}]}]"
#define HTTPS    "    policies: [{name: web, namespace: shop, " PORT("443") "}]\n"
#define NOT_OURS "    policies: [{name: web, namespace: shop, " PORT("80") "}]\n"
#define DENY     "    policies: [{name: no-web, namespace: shop, action: DENY, " PORT("443") "}]\n"

static struct hb_chain *chain;
static struct hbf h;
static char logs[4096]; /* of the component, newest last */
static unsigned changes;

static void
keep_log(void *arg, const char *line)
{
	size_t n = strlen(logs);

	if (strstr(line, "rbac") != NULL && n + strlen(line) + 2 < sizeof logs)
		(void)snprintf(logs + n, sizeof logs - n, "%s\n", line);
}

static int
setup(void **state)
{
	hbf_init();
	hbf_register(&hb_filter_authz);
	hbf_register(&hb_filter_echo);
	hbf_register(&hb_filter_tcp_proxy);
	memset(&h, 0, sizeof h);
	logs[0] = '\0';
	changes = 0;
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
	hb_policies_fini();
	return (0);
}

static void
open_with(const char *yaml, struct hb_facts *facts)
{
	const struct hbf_options o = { .wire = HBF_TCP, .facts = facts };

	hbf_dialler.wire = HBF_TCP;
	if (chain == NULL)
		chain = hbf_filters(yaml);
	hbf_open(&h, chain, &o);
}

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

static void
expect_logged(const char *part)
{
	if (strstr(logs, part) == NULL)
		fail_msg("\"%s\" is not in\n%s", part, logs);
}

/* A shared policy, from its YAML. */
static void
share(const char *yaml)
{
	struct hb_cfg *cfg = hb_cfg_new("test.yaml", NULL);
	const ProtobufCMessage *m = hb_cfg_parse_text(cfg, hb_str(yaml), hb_policies_kind.desc);
	void *obj;

	assert_non_null(m);
	assert_int_equal(hb_policies_kind.compile(cfg, m, &obj), 0);
	hb_policies_put(obj);
	hb_cfg_free(&cfg);
}

static void
revalidate(void *arg)
{
	changes++;
	if (h.conn != NULL)
		hb_conn_revalidate(h.conn);
}

/* ------------------------------------------------------------------ enforced */

static void
test_authz__allows(void **state)
{
	hb_log_level_all(HB_LOG_DEBUG);
	open_with(AUTHZ HTTPS PROXY, NULL);
	expect_served("hello");
	hb_log_level_all(HB_LOG_INFO);
	assert_int_equal(hbf_stat("authz.p.allowed"), 1);
	assert_int_equal(hbf_stat("authz.p.denied"), 0);
	assert_int_equal(hbf_stat("authz.p.dry_run_allowed"), 0);
	expect_logged("allowed");
	expect_logged("policy=shop/web");
	expect_logged("reason=\"allowed by: shop/web\"");
}

static void
test_authz__denies_before_any_dial(void **state)
{
	open_with(AUTHZ NOT_OURS PROXY, NULL);
	expect_closed(HB_CLOSE_RBAC_DENIED, "allow policies exist, but none allowed");
	assert_int_equal(hbf_dialler.dials, 0);
	HBT_UNTIL(h.client.closed);
	assert_int_equal(h.client.got.len, 0);
	assert_int_equal(hbf_stat("authz.p.denied"), 1);
	expect_logged("denied");
	expect_logged("policy=none");
	expect_logged("remote=127.0.0.1:4000");
}

static void
test_authz__names_the_policy(void **state)
{
	open_with(AUTHZ DENY PROXY, NULL);
	expect_closed(HB_CLOSE_RBAC_DENIED, "explicitly denied by: shop/no-web");
	expect_logged("policy=shop/no-web");
}

/* The chain of a stream: its target, and the identity of the connection below. */
static void
test_authz__stream(void **state)
{
	static const char yaml[] = AUTHZ
		"    policies:\n"
		"    - name: tunnel\n"
		"      namespace: shop\n"
		"      groups:\n"
		"      - rules:\n"
		"        - matches: [{principals: [{exact: td/ns/web/sa/fe}]}]\n"
		"        - matches: [{destination_ports: [8080]}]\n" PROXY;
	struct hb_facts below = hbf_facts(NULL), f = hbf_facts(NULL), g = hbf_facts(NULL);

	hb_facts_tls_edit(&below)->principal = HB_STR("spiffe://td/ns/web/sa/fe");
	f.parent = g.parent = &below;
	f.authority = HB_STR("10.0.0.1:8080");
	g.authority = HB_STR("10.0.0.1:8081");
	open_with(yaml, &f);
	expect_served("hello");
	hbf_close(&h);
	memset(&h, 0, sizeof h);
	open_with(yaml, &g);
	expect_closed(HB_CLOSE_RBAC_DENIED, "allow policies exist, but none allowed");
	expect_logged("authority=10.0.0.1:8081");
	expect_logged("peer=spiffe://td/ns/web/sa/fe");
	hbf_close(&h);
	memset(&h, 0, sizeof h);
	hb_facts_fini(&below);
}

static void
test_authz__scopes(void **state)
{
	static const char policies[] =
		"    policies:\n"
		"    - {name: other, namespace: other, scope: NAMESPACE, action: DENY, " PORT(
			"443") "}\n"
			       "    - {name: sel, namespace: shop, scope: WORKLOAD_SELECTOR, action: DENY, " PORT(
				       "443") "}\n";
	char *yaml;

	/* Without a namespace all of them apply. */
	yaml = hb_asprintf("%s%s%s", AUTHZ, policies, PROXY);
	open_with(yaml, NULL);
	expect_closed(HB_CLOSE_RBAC_DENIED, "explicitly denied by: other/other");
	hb_free(yaml);
	hbf_close(&h);
	memset(&h, 0, sizeof h);
	hb_chain_free(&chain);
	yaml = hb_asprintf("%s%s%s%s", AUTHZ, policies, "    namespace: shop\n", PROXY);
	open_with(yaml, NULL);
	expect_closed(HB_CLOSE_RBAC_DENIED, "explicitly denied by: shop/sel");
	hb_free(yaml);
	hbf_close(&h);
	memset(&h, 0, sizeof h);
	hb_chain_free(&chain);
	/* A policy that is named applies, the selector's others do not. */
	yaml = hb_asprintf("%s%s%s%s", AUTHZ, policies,
		"    - {name: named, namespace: shop, scope: WORKLOAD_SELECTOR, " PORT(
			"443") "}\n"
			       "    namespace: shop\n"
			       "    workload_policies: [shop/named]\n",
		PROXY);
	open_with(yaml, NULL);
	expect_served("hello");
	hb_free(yaml);
}

/* ------------------------------------------------------------------ dry run */

static void
test_authz__dry_run(void **state)
{
	open_with(AUTHZ
		"    policies: [{name: maybe, namespace: shop, action: DENY, dry_run: true, " PORT(
			"443") "}]\n" PROXY,
		NULL);
	expect_served("hello");
	assert_int_equal(hbf_stat("authz.p.allowed"), 1);
	assert_int_equal(hbf_stat("authz.p.dry_run_denied"), 1);
	assert_int_equal(hbf_stat("authz.p.dry_run_allowed"), 0);
	assert_int_equal(hbf_stat("authz.p.dry_run_matched"), 1);
	expect_logged("dry run policy matches");
	expect_logged("dry run would deny");
	expect_logged("policy=shop/maybe");
}

/* ------------------------------------------------------------------ shared policies */

static void
test_authz__change_revokes(void **state)
{
	hb_policies_on_change(revalidate, NULL);
	open_with(AUTHZ "    shared_policies: true\n    namespace: shop\n" PROXY, NULL);
	expect_served("hello");
	/* Of no concern to this workload. */
	share("{name: a, namespace: other, scope: NAMESPACE, action: DENY, " PORT("443") "}");
	share("{name: b, namespace: shop, scope: WORKLOAD_SELECTOR, action: DENY, " PORT(
		"443") "}");
	share("{name: c, namespace: shop, scope: NAMESPACE, " PORT("443") "}");
	hbt_turns(3);
	assert_int_equal(changes, 3);
	assert_false(h.closed);
	/* Replaced: now it allows something else only. */
	share("{name: c, namespace: shop, scope: NAMESPACE, " PORT("80") "}");
	expect_closed(HB_CLOSE_REVOKED, "allow policies exist, but none allowed");
	assert_int_equal(hbf_stat("authz.p.revoked"), 1);
	assert_int_equal(hbf_stat("authz.p.allowed"), 1);
	assert_int_equal(hbf_stat("authz.p.denied"), 0);
	expect_logged("revoked");
	HBT_UNTIL(hbf_dialler.up[0].closed);
}

static void
test_authz__removed_policy(void **state)
{
	share("{name: d, action: DENY, " PORT("443") "}");
	open_with(AUTHZ "    shared_policies: true\n" PROXY, NULL);
	expect_closed(HB_CLOSE_RBAC_DENIED, "explicitly denied by: /d");
	hbf_close(&h);
	memset(&h, 0, sizeof h);
	assert_true(hb_policies_del(HB_STR("/d")));
	assert_false(hb_policies_del(HB_STR("/d")));
	open_with(NULL, NULL);
	expect_served("hello");
}

/* A policy that the workload names: denied until it is there. */
static void
test_authz__missing_policy(void **state)
{
	open_with(AUTHZ "    shared_policies: true\n"
			"    workload_policies: [shop/sel]\n" PROXY,
		NULL);
	expect_closed(HB_CLOSE_RBAC_DENIED, "policy is not known: shop/sel");
	hbf_close(&h);
	memset(&h, 0, sizeof h);
	share("{name: sel, namespace: shop, scope: WORKLOAD_SELECTOR, " PORT("443") "}");
	open_with(NULL, NULL);
	expect_served("hello");
}

static void
revalidate_all(void *arg)
{
	changes++;
	hb_conns_revalidate();
}

/* More connections than one turn decides again; some go while the walk is under way. */
static void
test_authz__many_connections(void **state)
{
	enum { N = 700 };
	struct hbf *v = hb_calloc(N, sizeof *v);
	const struct hbf_options o = { .wire = HBF_PAIR };

	hb_policies_on_change(revalidate_all, NULL);
	chain = hbf_filters(AUTHZ "    shared_policies: true\n"
				  "- name: echo\n"
				  "  typed_config: {\"@type\": type.googleapis.com/"
				  "envoy.extensions.filters.network.echo.v3.Echo}\n");
	for (unsigned i = 0; i < N; i++)
		hbf_open(&v[i], chain, &o);
	for (unsigned i = 0; i < N; i++)
		HBT_UNTIL(v[i].client.secured);
	hb_policies_begin();
	share("{name: other, action: DENY, " PORT("1") "}");
	share("{name: web, action: DENY, " PORT("443") "}");
	assert_int_equal(changes, 0);
	hb_policies_end();
	assert_int_equal(changes, 1);
	for (unsigned i = 200; i < N; i += 50)
		hb_conn_close(v[i].conn, HB_CLOSE_ADMIN);
	for (unsigned i = 0; i < N; i++) {
		HBT_UNTIL(v[i].closed);
		assert_int_equal(
			v[i].reason, i >= 200 && i % 50 == 0 ? HB_CLOSE_ADMIN : HB_CLOSE_REVOKED);
	}
	assert_int_equal(hbf_stat("authz.p.revoked"), N - 10);
	for (unsigned i = 0; i < N; i++)
		hbf_close(&v[i]);
	hb_free(v);
}

/* ------------------------------------------------------------------ configuration, explain */

static void
test_authz__errors(void **state)
{
	hbf_expect_error(AUTHZ PROXY, "without any, everything would pass");
	hbf_expect_error(AUTHZ "    policies: [{namespace: a}]\n" PROXY, "must not be empty");
	hbf_expect_error(AUTHZ "    policies: [{name: a}, {name: b}, {name: a}]\n" PROXY,
		"\"/a\" is there already, as policies[0]");
	hbf_expect_error(AUTHZ HTTPS "    workload_policies: [web]\n" PROXY,
		"must have the form namespace/name");
	hbf_expect_error(AUTHZ HTTPS "    workload_policies: [shop/webb]\n" PROXY,
		"no policy of this filter");
	hbf_expect_error(AUTHZ "    policies: [{name: a, " ID("spiffe://td/ns/a/sa/b") "}]\n" PROXY,
		"without spiffe://");
	chain = hbf_filters(
		AUTHZ "    shared_policies: true\n    workload_policies: [a/b]\n" PROXY);
}

static void
test_authz__explain(void **state)
{
	struct hb_facts f = hbf_facts(NULL), g = hbf_facts(NULL);
	struct hb_text t;

	chain = hbf_filters(
		AUTHZ "    policies:\n"
		      "    - {name: web, namespace: shop, " PORT(
			      "80") "}\n"
				    "    - {name: dry, namespace: shop, dry_run: true, " PORT(
					    "443") "}\n" PROXY);
	t = hbf_explain(chain, &f);
	assert_non_null(strstr(t.p, "ALLOW policy does not match"));
	assert_non_null(strstr(t.p, "ALLOW (dry run) policy matches"));
	assert_non_null(strstr(t.p, "allow policies exist, but none allowed"));
	assert_non_null(strstr(t.p, "without identity"));
	/* Nothing after it is asked. */
	assert_null(strstr(t.p, "cluster"));
	hb_text_fini(&t);
	assert_true(hb_addr_parse(HB_STR("127.0.0.1:80"), &g.local));
	hb_facts_tls_edit(&g)->principal = HB_STR("spiffe://td/ns/a/sa/b");
	t = hbf_explain(chain, &g);
	assert_non_null(strstr(t.p, "allowed by: shop/web"));
	assert_non_null(strstr(t.p, "principal td/ns/a/sa/b"));
	assert_non_null(strstr(t.p, "cluster"));
	hb_text_fini(&t);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_authz__allows),
		TEST(test_authz__denies_before_any_dial),
		TEST(test_authz__names_the_policy),
		TEST(test_authz__stream),
		TEST(test_authz__scopes),
		TEST(test_authz__dry_run),
		TEST(test_authz__change_revokes),
		TEST(test_authz__removed_policy),
		TEST(test_authz__missing_policy),
		TEST(test_authz__many_connections),
		TEST(test_authz__errors),
		TEST(test_authz__explain),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

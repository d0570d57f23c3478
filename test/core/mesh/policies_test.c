/* SPDX-License-Identifier: Apache-2.0 */
#include "test/core/match/doc.h"

#include <stdatomic.h>
#include <stdio.h>

#include "core/event/table.h"
#include "core/mesh/policies.h"

static struct hb_policy_view *view;
static unsigned changes;

static int
setup(void **state)
{
	struct hb_err err;

	(void)state;
	assert_int_equal(hb_workers_init(1, &err), 0);
	changes = 0;
	return (0);
}

static int
teardown(void **state)
{
	(void)state;
	hb_policy_view_free(&view);
	hb_workers_fini();
	hb_policies_fini();
	doc_close();
	return (0);
}

static struct hb_authz_policy *
policy(const char *yaml)
{
	const ProtobufCMessage *m = doc_open(hb_policies_kind.desc, yaml);
	void *obj;

	assert_int_equal(hb_policies_kind.compile(doc, m, &obj), 0);
	doc_close();
	return (obj);
}

#define ALL "groups: [{}]"

static void
share(const char *ns, const char *name, const char *scope)
{
	char *yaml = hb_asprintf(
		"{name: %s, namespace: %s, scope: %s, action: DENY, " ALL "}", name, ns, scope);

	hb_policies_put(policy(yaml));
	hb_free(yaml);
}

static void
expect_reason(const char *want)
{
	struct hb_facts f;
	char reason[200];

	hb_facts_init(&f);
	hb_authz_reason(
		hb_authz_eval(hb_policy_view_get(view), &f).enforced, reason, sizeof reason);
	assert_string_equal(reason, want);
	hb_facts_fini(&f);
}

static void
on_change(void *arg)
{
	changes++;
}

static void
test_scopes(void **state)
{
	static const char *const names[] = { "b/named", "b/missing" };

	(void)state;
	share("root", "global", "GLOBAL");
	share("a", "ours", "NAMESPACE");
	share("b", "theirs", "NAMESPACE");
	share("a", "unnamed", "WORKLOAD_SELECTOR");
	share("b", "named", "WORKLOAD_SELECTOR");
	assert_int_equal(hb_policies_count(), 5);
	view = hb_policy_view_new(&(struct hb_policy_view_options){
		.ns = HB_STR("a"), .shared = true, .names = names, .n_names = 2 });
	assert_int_equal(hb_authz_count(hb_policy_view_get(view)), 3);
	/* In the order of keys, whatever the order of arrival. */
	expect_reason("explicitly denied by: a/ours");
	assert_true(hb_policies_del(HB_STR("a/ours")));
	expect_reason("explicitly denied by: b/named");
	assert_true(hb_policies_del(HB_STR("root/global")));
	assert_true(hb_policies_del(HB_STR("b/named")));
	expect_reason("policy is not known: b/named");
	hb_policy_view_free(&view);
	/* Without a namespace only the GLOBAL ones. */
	share("root", "global", "GLOBAL");
	view = hb_policy_view_new(&(struct hb_policy_view_options){ .shared = true });
	assert_int_equal(hb_authz_count(hb_policy_view_get(view)), 1);
	hb_policy_view_free(&view);
	view = hb_policy_view_new(&(struct hb_policy_view_options){ .ns = HB_STR("a") });
	expect_reason("no allow policy exists");
}

static void
test_own(void **state)
{
	static const char *const names[] = { "b/sel" };
	struct hb_authz_policy *own[] = {
		policy("{name: ns, namespace: b, scope: NAMESPACE, " ALL "}"),
		policy("{name: sel, namespace: b, scope: WORKLOAD_SELECTOR, " ALL "}"),
	};

	(void)state;
	share("root", "global", "GLOBAL");
	view = hb_policy_view_new(&(struct hb_policy_view_options){ .own = own, .n_own = 2 });
	assert_int_equal(hb_authz_count(hb_policy_view_get(view)), 2);
	hb_policy_view_free(&view);
	view = hb_policy_view_new(
		&(struct hb_policy_view_options){ .own = own, .n_own = 2, .ns = HB_STR("a") });
	assert_int_equal(hb_authz_count(hb_policy_view_get(view)), 1);
	hb_policy_view_free(&view);
	view = hb_policy_view_new(&(struct hb_policy_view_options){ .own = own,
		.n_own = 2,
		.ns = HB_STR("a"),
		.shared = true,
		.names = names,
		.n_names = 1 });
	assert_int_equal(hb_authz_count(hb_policy_view_get(view)), 2);
	hb_policy_view_free(&view);
	hb_authz_policy_free(&own[0]);
	hb_authz_policy_free(&own[1]);
}

static void
test_batches(void **state)
{
	(void)state;
	hb_policies_on_change(on_change, NULL);
	view = hb_policy_view_new(&(struct hb_policy_view_options){ .shared = true });
	hb_policies_begin();
	hb_policies_end();
	assert_int_equal(changes, 0);
	hb_policies_begin();
	share("a", "one", "GLOBAL");
	hb_policies_begin();
	share("a", "two", "GLOBAL");
	hb_policies_end();
	/* The view still has what was there, and does not notice that it goes. */
	expect_reason("no allow policy exists");
	assert_int_equal(changes, 0);
	hb_policies_end();
	assert_int_equal(changes, 1);
	expect_reason("explicitly denied by: a/one");
	hb_policies_begin();
	assert_true(hb_policies_del(HB_STR("a/one")));
	hb_worker_turn(hb_worker_control(), false);
	expect_reason("explicitly denied by: a/one");
	hb_policies_end();
	expect_reason("explicitly denied by: a/two");
	assert_false(hb_policies_del(HB_STR("a/one")));
	assert_int_equal(changes, 2);
	assert_null(hb_policies_find(HB_STR("a/one")));
	assert_non_null(hb_policies_find(HB_STR("a/two")));
}

static void
test_resources(void **state)
{
	const struct hb_resource_kind *k = &hb_policies_kind;
	struct hb_err err;
	const ProtobufCMessage *m;

	(void)state;
	m = doc_open(k->desc, "{name: n, namespace: ns}");
	assert_true(hb_str_eq(k->name_of(m), HB_STR("ns/n")));
	doc_close();
	assert_int_equal(k->publish("ns/other", policy("{name: n, namespace: ns}"), &err), -EINVAL);
	assert_non_null(strstr(err.text, "\"ns/other\""));
	assert_int_equal(k->publish("ns/n", policy("{name: n, namespace: ns}"), &err), 0);
	assert_int_equal(hb_policies_count(), 1);
	k->retire("ns/n");
	assert_int_equal(hb_policies_count(), 0);
	k->discard(policy("{name: n}"));
}

static _Atomic bool stop, stopped;

static void
worker_reads(struct hb_run *r)
{
	struct hb_facts f;
	struct hb_authz_verdict v;

	hb_facts_init(&f);
	for (unsigned i = 0; i < 100; i++) {
		v = hb_authz_eval(hb_policy_view_get(view), &f).enforced;
		/* Never without: the second one is there before the first one goes. */
		HB_ASSERT(v.why == HB_AUTHZ_DENIED && strlen(v.policy) == 5);
	}
	hb_facts_fini(&f);
	if (!atomic_load(&stop))
		hb_run_soon(hb_worker_current(), r);
	else
		atomic_store(&stopped, true);
}

static struct hb_run reader;

static void
reader_start(struct hb_task *t)
{
	hb_run_init(&reader, worker_reads);
	hb_run_soon(hb_worker_current(), &reader);
}

/* A worker decides while policies come and go. */
static void
test_changes_under_readers(void **state)
{
	struct hb_task task;
	struct hb_err err;
	char name[8], last[16];

	(void)state;
	share("a", "000", "GLOBAL");
	view = hb_policy_view_new(&(struct hb_policy_view_options){ .shared = true });
	assert_int_equal(hb_workers_start(&err), 0);
	atomic_store(&stop, false);
	hb_post(hb_worker_at(0), &task, reader_start);
	for (unsigned i = 1; i < 500; i++) {
		(void)snprintf(last, sizeof last, "a/%03u", i - 1);
		(void)snprintf(name, sizeof name, "%03u", i);
		share("a", name, "GLOBAL");
		assert_true(hb_policies_del(hb_str(last)));
		hb_worker_turn(hb_worker_control(), false);
	}
	atomic_store(&stop, true);
	while (!atomic_load(&stopped))
		hb_worker_turn(hb_worker_control(), false);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_scopes),
		TEST(test_own),
		TEST(test_batches),
		TEST(test_resources),
		TEST(test_changes_under_readers),
	};

	hb_cfg_types_init();
	return (cmocka_run_group_tests(tests, NULL, NULL));
}

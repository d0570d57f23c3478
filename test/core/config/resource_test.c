/* SPDX-License-Identifier: Apache-2.0 */
/* Applying resources and whole bootstraps; two kinds that only write down what happens. */
#include <stdio.h>
#include "test/core/config/support.h"
#include "core/config/resource.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"
#include "istio/security/authorization.pb-c.h"

static struct hb_text happened;
static int objects;

/* A listener named "bad" does not compile, one named "busy" cannot be published. */
static int
compile(struct hb_cfg *cfg, const char *name, const ProtobufCMessage *m, void **ret)
{
	if (strcmp(name, "bad") == 0)
		return (hb_cfg_error(cfg, m, "name", -1, "is bad"));
	*ret = hb_strdup(name);
	objects++;
	return (0);
}

static int
listener_compile(struct hb_cfg *cfg, const ProtobufCMessage *m, void **ret)
{
	return (compile(cfg, ((const Envoy__Config__Listener__V3__Listener *)(const void *)m)->name,
		m, ret));
}

static int
cluster_compile(struct hb_cfg *cfg, const ProtobufCMessage *m, void **ret)
{
	return (compile(
		cfg, ((const Envoy__Config__Cluster__V3__Cluster *)(const void *)m)->name, m, ret));
}

static int
policy_compile(struct hb_cfg *cfg, const ProtobufCMessage *m, void **ret)
{
	return (compile(
		cfg, ((const Istio__Security__Authorization *)(const void *)m)->name, m, ret));
}

static void
discard(void *obj)
{
	hb_free(obj);
	objects--;
}

static int
publish(const char *name, void *obj, struct hb_err *reterr)
{
	discard(obj);
	if (strcmp(name, "busy") == 0)
		return (hb_err_set(reterr, -EADDRINUSE, "the address is in use"));
	hb_text_printf(&happened, "+%.9s ", name);
	return (0);
}

static void
retire(const char *name)
{
	hb_text_printf(&happened, "-%s ", name);
}

static struct hb_str
listener_name(const ProtobufCMessage *m)
{
	return (hb_str(((const Envoy__Config__Listener__V3__Listener *)(const void *)m)->name));
}

static struct hb_str
cluster_name(const ProtobufCMessage *m)
{
	return (hb_str(((const Envoy__Config__Cluster__V3__Cluster *)(const void *)m)->name));
}

static struct hb_str
policy_name(const ProtobufCMessage *m)
{
	return (hb_str(((const Istio__Security__Authorization *)(const void *)m)->name));
}

static const struct hb_resource_kind listeners = {
	.name = "listener",
	.desc = DESC(envoy__config__listener__v3__listener),
	.order = 20,
	.compile = listener_compile,
	.discard = discard,
	.publish = publish,
	.retire = retire,
	.name_of = listener_name,
};
static const struct hb_resource_kind clusters = {
	.name = "cluster",
	.desc = DESC(envoy__config__cluster__v3__cluster),
	.order = 10,
	.compile = cluster_compile,
	.discard = discard,
	.publish = publish,
	.retire = retire,
	.name_of = cluster_name,
};

static const struct hb_resource_kind policies = {
	.name = "authorization",
	.desc = DESC(istio__security__authorization),
	.order = 5,
	.compile = policy_compile,
	.discard = discard,
	.publish = publish,
	.retire = retire,
	.name_of = policy_name,
};

static void
expect_happened(const char *want)
{
	assert_string_equal(happened.p == NULL ? "" : happened.p, want);
	hb_text_fini(&happened);
	assert_int_equal(objects, 0);
}

/* Applies a bootstrap and expects errors as expect_errors does. */
static void
apply(const char *text, bool dry_run, bool all_or_nothing, const char *want, ...)
{
	const ProtobufCMessage *m;
	struct hb_cfg *cfg = text_cfg(text, DESC(envoy__config__bootstrap__v3__bootstrap), &m);
	va_list ap;
	int r;

	assert_non_null(m);
	r = hb_bootstrap_apply(cfg, m, dry_run, all_or_nothing);
	assert_int_equal(r, hb_errs_any(hb_cfg_errs(cfg)) ? -EINVAL : 0);
	va_start(ap, want);
	expect_cfg_errors(cfg, "t.yaml", ap);
	va_end(ap);
	expect_happened(want);
	hb_cfg_free(&cfg);
}

static int
clean(void **state)
{
	apply("{}", false, false, "", NULL);
	return (0);
}

static int
leave(void **state)
{
	const ProtobufCMessage *m;
	struct hb_cfg *cfg = text_cfg("{}", DESC(envoy__config__bootstrap__v3__bootstrap), &m);

	hb_bootstrap_apply(cfg, m, false, false);
	hb_text_fini(&happened);
	hb_cfg_free(&cfg);
	return (0);
}

static void
test_order(void **state)
{
	apply("static_resources: {listeners: [{name: l1}, {name: l2}], clusters: [{name: c1}, {name: c2}]}",
		false, true, "+c1 +c2 +l1 +l2 ", NULL);
	/* Unchanged stays; removals of listeners first, of clusters last. */
	apply("static_resources: {listeners: [{name: l3}, {name: l1}], clusters: [{name: c3}, {name: c2}]}",
		false, false, "-l2 +c3 +l3 -c1 ", NULL);
	apply("static_resources: {listeners: [{name: l1, stat_prefix: x}, {name: l3}], "
	      "clusters: [{name: c2}, {name: c3}]}",
		false, false, "+l1 ", NULL);
	apply("{}", false, false, "-l1 -l3 -c2 -c3 ", NULL);
}

static void
test_dry_run(void **state)
{
	apply("static_resources: {listeners: [{name: l1}, {name: bad}], clusters: [{name: c1}, {name: bad}]}",
		true, true, "", "1:88: static_resources.clusters[1].name: is bad",
		"1:51: static_resources.listeners[1].name: is bad", NULL);
	apply("static_resources: {listeners: [{name: busy}]}", true, true, "", NULL);
}

static void
test_all_or_nothing(void **state)
{
	struct hb_resource_view v;

	apply("static_resources: {listeners: [{name: l1}, {name: bad}]}", false, true, "",
		"1:51: static_resources.listeners[1].name: is bad", NULL);
	apply("static_resources: {listeners: [{name: l1}, {name: busy}, {name: l2}], clusters: [{name: c}]}",
		false, true, "+c +l1 +l2 -l2 -l1 -c ",
		"1:44: static_resources.listeners[1]: the address is in use", NULL);
	assert_false(hb_resource_get(&clusters, "c", &v));
}

static void
test_one_bad(void **state)
{
	struct hb_resource_view v;

	apply("static_resources: {listeners: [{name: l1}, {name: busy}, {name: bad}]}", false,
		false, "+l1 ", "1:65: static_resources.listeners[2].name: is bad",
		"1:44: static_resources.listeners[1]: the address is in use", NULL);
	assert_true(hb_resource_get(&listeners, "l1", &v));
	assert_null(v.error);
	assert_true(v.updated_ms > 0);
	assert_true(v.wire.len > 0);
	assert_true(hb_resource_get(&listeners, "bad", &v));
	assert_string_equal(v.error, "t.yaml:1:65: static_resources.listeners[2].name: is bad");
	assert_int_equal(v.wire.len, 0);
	assert_true(v.error_wire.len > 0);
	assert_true(hb_resource_get(&listeners, "busy", &v));
	assert_string_equal(
		v.error, "t.yaml:1:44: static_resources.listeners[1]: the address is in use");
}

#define OPTIONS(policies)                                             \
	"bootstrap_extensions: [{name: o, typed_config: {\"@type\": " \
	"type.googleapis.com/hbone.bootstrap.Options, authorization_policies: [" policies "]}}]"

/* Lists of bootstrap extensions are resources like those of static_resources. */
static void
test_extensions(void **state)
{
	apply("static_resources: {clusters: [{name: c}]}\n" OPTIONS("{name: p}, {name: q}"), false,
		true, "+p +q +c ", NULL);
	apply(OPTIONS("{name: q}, {name: bad}"), false, false, "-c -p ",
		"1:146: bootstrap_extensions[0].typed_config.authorization_policies[1].name: is bad",
		NULL);
	apply(OPTIONS("{name: q, action: DENY}, {name: q}"), true, true, "",
		"1:160: bootstrap_extensions[0].typed_config.authorization_policies[1].name: \"q\" is used "
		"twice, first by bootstrap_extensions[0].typed_config.authorization_policies[0]",
		NULL);
	apply("{}", false, false, "-q ", NULL);
}

static void
test_names(void **state)
{
	apply("static_resources: {clusters: [{name: a}, {name: b}, {name: a}]}", false, true, "",
		"1:60: static_resources.clusters[2].name: \"a\" is used twice, first by static_resources.clusters[0]",
		NULL);
	/* Without a name, what is the same stays. */
	apply("static_resources: {listeners: [{stat_prefix: a}]}", false, true, "+listener- ",
		NULL);
	apply("static_resources: {listeners: [{stat_prefix: a}]}", false, false, "", NULL);
}

static int
apply_one(const char *text, const char *name, const char *version, const char *want)
{
	const ProtobufCMessage *m;
	struct hb_cfg *cfg = text_cfg(text, DESC(envoy__config__cluster__v3__cluster), &m);
	int r;

	assert_non_null(m);
	r = hb_resource_apply(cfg, &clusters, name, version, HB_RESOURCE_XDS, m);
	assert_int_equal(r != 0, hb_errs_any(hb_cfg_errs(cfg)));
	expect_happened(want);
	hb_cfg_free(&cfg);
	return (r);
}

static void
test_xds(void **state)
{
	struct hb_resource_view v;

	assert_int_equal(apply_one("name: x", "x", "1", "+x "), 0);
	assert_int_equal(apply_one("name: x", "x", "2", ""), 0);
	assert_true(hb_resource_get(&clusters, "x", &v));
	assert_string_equal(v.version, "2");
	/* The last good one stays, with the reason for which the new one was refused. */
	assert_int_equal(apply_one("name: bad", "x", "3", ""), -EINVAL);
	assert_true(hb_resource_get(&clusters, "x", &v));
	assert_string_equal(v.version, "2");
	assert_string_equal(v.error, "t.yaml:1:7: name: is bad");
	assert_true(v.wire.len > 0);
	assert_int_equal(apply_one("name: x", "x", "4", ""), 0);
	assert_true(hb_resource_get(&clusters, "x", &v));
	assert_null(v.error);
	/* Neither side touches what the other brought. */
	apply("static_resources: {clusters: [{name: x}, {name: s}]}", false, false, "+s ",
		"1:38: static_resources.clusters[0].name: the cluster \"x\" belongs to the management server",
		NULL);
	assert_int_equal(apply_one("name: s", "s", "1", ""), -EEXIST);
	assert_false(hb_resource_remove(&clusters, "s", HB_RESOURCE_XDS));
	assert_false(hb_resource_remove(&clusters, "nowhere", HB_RESOURCE_XDS));
	assert_true(hb_resource_remove(&clusters, "x", HB_RESOURCE_XDS));
	expect_happened("-x ");
	assert_false(hb_resource_get(&clusters, "x", &v));
}

static void
note(void *arg, const struct hb_resource_view *v)
{
	hb_text_printf(arg, "%s/%s ", v->kind->name, v->name);
}

static void
test_foreach(void **state)
{
	struct hb_text t = { 0 };

	apply("static_resources: {listeners: [{name: b}, {name: a}], clusters: [{name: z}, {name: y}]}",
		false, true, "+z +y +b +a ", NULL);
	hb_resource_foreach(note, &t);
	assert_string_equal(t.p, "cluster/y cluster/z listener/a listener/b ");
	hb_text_fini(&t);
	assert_ptr_equal(
		hb_resource_kind_find(HB_STR("envoy.config.cluster.v3.Cluster")), &clusters);
	assert_null(hb_resource_kind_find(HB_STR("a.B")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_order, clean, leave),
		cmocka_unit_test_setup_teardown(test_dry_run, clean, leave),
		cmocka_unit_test_setup_teardown(test_all_or_nothing, clean, leave),
		cmocka_unit_test_setup_teardown(test_one_bad, clean, leave),
		cmocka_unit_test_setup_teardown(test_extensions, clean, leave),
		cmocka_unit_test_setup_teardown(test_names, clean, leave),
		cmocka_unit_test_setup_teardown(test_xds, clean, leave),
		cmocka_unit_test_setup_teardown(test_foreach, clean, leave),
	};

	hb_resource_kind_add(&listeners);
	hb_resource_kind_add(&clusters);
	hb_resource_kind_add(&policies);
	return (cmocka_run_group_tests_name("resource", tests, NULL, NULL));
}

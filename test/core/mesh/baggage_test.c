/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/identity/cert.h"
#include "core/mesh/baggage.h"

#define LINES_MAX 8u

static const struct read_case {
	const char *lines[LINES_MAX]; /* ends with NULL */
	enum hb_baggage_error error;
	const char *want; /* "cluster|ns|workload|service|version|region|zone" */
} read_cases[] = {
	{ { "k8s.cluster.name=K1,k8s.namespace.name=NS1,k8s.deployment.name=N1,service.name=N2,"
	    "service.version=V1" },
		HB_BAGGAGE_OK, "K1|NS1|N1|N2|V1||" },
	{ { "k8s.cluster.name=c1,k8s.namespace.name=default,k8s.deployment.name=client,"
	    "service.name=client,service.version=v1,cloud.region=r1,cloud.availability_zone=z1" },
		HB_BAGGAGE_OK, "c1|default|client|client|v1|r1|z1" },
	/* Empty is absent. */
	{ { "k8s.cluster.name=,k8s.namespace.name=,k8s.deployment.name=,service.name=,"
	    "service.version=" },
		HB_BAGGAGE_OK, "||||||" },
	/* Several lines are one. */
	{ { "k8s.cluster.name=K1", "k8s.namespace.name=NS1", "k8s.deployment.name=N1",
		  "service.name=N2", "service.version=V1" },
		HB_BAGGAGE_OK, "K1|NS1|N1|N2|V1||" },
	{ { NULL }, HB_BAGGAGE_OK, "||||||" },
	{ { "" }, HB_BAGGAGE_OK, "||||||" },
	{ { ",,,", "=", "==,=a" }, HB_BAGGAGE_OK, "||||||" },
	{ { "k8s.cluster.name" }, HB_BAGGAGE_OK, "||||||" },
	/* Between the first and the second '='. */
	{ { "service.name=a=b=c" }, HB_BAGGAGE_OK, "|||a|||" },
	{ { "service.name==b" }, HB_BAGGAGE_OK, "||||||" },
	/* No trimming, no decoding, no properties. */
	{ { "service.name= a , service.version=v" }, HB_BAGGAGE_OK, "||| a |||" },
	{ { "service.name=a%20b;prop" }, HB_BAGGAGE_OK, "|||a%20b;prop|||" },
	{ { "service.name=a\tb" }, HB_BAGGAGE_OK, "|||a\tb|||" },
	/* Keys differ by case, unknown ones are passed over. */
	{ { "Service.name=a,foo=bar,k8s.daemonset.name=d,service.name.x=y" }, HB_BAGGAGE_OK,
		"||||||" },
	/* The last one wins, also an empty one; workloads of all kinds are one key. */
	{ { "service.name=a,service.name=b" }, HB_BAGGAGE_OK, "|||b|||" },
	{ { "service.name=a", "service.name=" }, HB_BAGGAGE_OK, "||||||" },
	{ { "k8s.deployment.name=d,k8s.pod.name=p" }, HB_BAGGAGE_OK, "||p||||" },
	{ { "k8s.cronjob.name=c" }, HB_BAGGAGE_OK, "||c||||" },
	{ { "k8s.job.name=j" }, HB_BAGGAGE_OK, "||j||||" },
	/* A byte that is not ASCII: nothing is known, whatever came before. */
	{ { "service.name=a", "service.version=\xc3\xa9" }, HB_BAGGAGE_NOT_ASCII, "||||||" },
	{ { "service.name=\x80" }, HB_BAGGAGE_NOT_ASCII, "||||||" },
	{ { "service.name=a\x7f" }, HB_BAGGAGE_NOT_ASCII, "||||||" },
	{ { "service.name=a\rb" }, HB_BAGGAGE_NOT_ASCII, "||||||" },
	{ { "foo=\x01,service.name=a" }, HB_BAGGAGE_NOT_ASCII, "||||||" },
};

static void
text_of(const struct hb_baggage *b, struct hb_text *t)
{
	hb_text_printf(t, "%.*s|%.*s|%.*s|%.*s|%.*s|%.*s|%.*s", HB_STR_FMT(b->cluster),
		HB_STR_FMT(b->ns), HB_STR_FMT(b->workload), HB_STR_FMT(b->service),
		HB_STR_FMT(b->version), HB_STR_FMT(b->region), HB_STR_FMT(b->zone));
}

static void
test_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < HB_ARRAY_LEN(read_cases); i++) {
		const struct read_case *c = &read_cases[i];
		struct hb_str lines[LINES_MAX];
		struct hb_text t = { 0 };
		struct hb_baggage b;
		size_t n = 0;

		for (; c->lines[n] != NULL; n++)
			lines[n] = hb_str(c->lines[n]);
		assert_int_equal(hb_baggage_parse(lines, n, &b), c->error);
		assert_true(strlen(hb_baggage_error_text(c->error)) > 4);
		text_of(&b, &t);
		assert_string_equal(t.p, c->want);
		hb_text_fini(&t);
	}
}

/* One byte, one member, one value more than allowed. */
static void
test_limits(void **state)
{
	char *big = hb_malloc(HB_BAGGAGE_BYTES_MAX + 1);
	struct hb_str lines[2] = { HB_STR("service.name=a,"), { NULL, 0 } };
	struct hb_baggage b;
	char value[HB_BAGGAGE_VALUE_MAX + 20];

	(void)state;
	memset(big, 'x', HB_BAGGAGE_BYTES_MAX + 1);
	lines[1] = hb_strn(big, HB_BAGGAGE_BYTES_MAX - lines[0].len);
	assert_int_equal(hb_baggage_parse(lines, 2, &b), HB_BAGGAGE_OK);
	assert_int_equal(b.service.len, 1);
	lines[1].len++;
	assert_int_equal(hb_baggage_parse(lines, 2, &b), HB_BAGGAGE_TOO_LONG);
	assert_int_equal(b.service.len, 0);
	memset(big, ',', HB_BAGGAGE_MEMBERS_MAX);
	lines[1] = hb_strn(big, HB_BAGGAGE_MEMBERS_MAX - 3);
	assert_int_equal(hb_baggage_parse(lines, 2, &b), HB_BAGGAGE_OK);
	lines[1].len++;
	assert_int_equal(hb_baggage_parse(lines, 2, &b), HB_BAGGAGE_TOO_MANY);
	assert_int_equal(b.service.len, 0);
	memset(value, 'v', sizeof value);
	memcpy(value, "service.name=", 13);
	lines[1] = hb_strn(value, 13 + HB_BAGGAGE_VALUE_MAX);
	assert_int_equal(hb_baggage_parse(lines, 2, &b), HB_BAGGAGE_OK);
	assert_int_equal(b.service.len, HB_BAGGAGE_VALUE_MAX);
	lines[1].len++;
	assert_int_equal(hb_baggage_parse(lines, 2, &b), HB_BAGGAGE_OK);
	assert_int_equal(b.service.len, 1);
	hb_free(big);
}

static void
expect_written(const struct hb_baggage *b, const char *want)
{
	struct hb_text t = { 0 }, a = { 0 };
	struct hb_baggage again;
	struct hb_str line;

	hb_baggage_format(b, &t);
	assert_string_equal(t.p == NULL ? "" : t.p, want);
	/* What was written is read back. */
	line = hb_strn(t.p, t.len);
	assert_int_equal(hb_baggage_parse(&line, 1, &again), HB_BAGGAGE_OK);
	hb_baggage_format(&again, &a);
	assert_string_equal(a.p == NULL ? "" : a.p, want);
	hb_text_fini(&t);
	hb_text_fini(&a);
}

static void
test_write(void **state)
{
	char big[HB_BAGGAGE_VALUE_MAX + 1];
	struct hb_baggage b = {
		.cluster = HB_STR("c1"),
		.ns = HB_STR("default"),
		.workload = HB_STR("client"),
		.service = HB_STR("svc"),
		.version = HB_STR("v1"),
		.region = HB_STR("r1"),
		.zone = HB_STR("z1"),
	};

	(void)state;
	expect_written(&b,
		"k8s.cluster.name=c1,k8s.namespace.name=default,k8s.deployment.name=client,"
		"service.name=svc,service.version=v1,cloud.region=r1,cloud.availability_zone=z1");
	b.kind = HB_WORKLOAD_POD;
	b.cluster = b.service = b.region = (struct hb_str){ 0 };
	expect_written(&b,
		"k8s.namespace.name=default,k8s.pod.name=client,service.version=v1,"
		"cloud.availability_zone=z1");
	/* A value cannot forge a member. */
	b.ns = HB_STR("a,service.name=evil");
	b.version = HB_STR("a=b");
	b.zone = HB_STR("x\r\ny: z");
	b.service = HB_STR("caf\xc3\xa9");
	expect_written(&b, "k8s.pod.name=client");
	memset(big, 'x', sizeof big);
	b.workload = hb_strn(big, sizeof big);
	expect_written(&b, "");
	expect_written(&(struct hb_baggage){ 0 }, "");
}

/* ------------------------------------------------------------------ labels */

#define ID "spiffe://td/ns/default/sa/client"

static void
expect_label(struct hb_str got, const char *want)
{
	if (!hb_str_eq(got, hb_str(want)))
		fail_msg("got %.*s, wanted %s", HB_STR_FMT(got), want);
}

static const struct hb_baggage claimed = {
	.cluster = HB_STR("c1"),
	.ns = HB_STR("default"),
	.workload = HB_STR("client-v1"),
	.service = HB_STR("client"),
	.version = HB_STR("v1"),
	.region = HB_STR("r"),
	.zone = HB_STR("z"),
};

static void
test_labels_agree(void **state)
{
	struct hb_facts below, f;
	struct hb_workload_labels l;

	(void)state;
	hb_facts_init(&below);
	hb_facts_init(&f);
	f.parent = &below;
	hb_facts_tls_edit(&below)->principal = HB_STR(ID);
	assert_true(hb_source_labels(&f, &claimed, false, &l));
	expect_label(l.principal, ID);
	expect_label(l.ns, "default");
	expect_label(l.workload, "client-v1");
	expect_label(l.app, "client-v1");
	expect_label(l.canonical_service, "client");
	expect_label(l.canonical_revision, "v1");
	expect_label(l.version, "v1");
	expect_label(l.cluster, "c1");
	expect_label(l.region, "r");
	expect_label(l.zone, "z");
	assert_true(hb_destination_labels(HB_STR(ID), &claimed, false, &l));
	expect_label(l.principal, ID);
	expect_label(l.app, "client");
	/* Baggage that says nothing of the namespace. */
	assert_true(
		hb_source_labels(&f, &(struct hb_baggage){ .service = HB_STR("s") }, false, &l));
	expect_label(l.ns, "default");
	expect_label(l.canonical_service, "s");
	hb_facts_fini(&f);
	hb_facts_fini(&below);
}

/* The certificate wins; baggage has no say in the principal. */
static void
test_labels_contradict(void **state)
{
	struct hb_facts f;
	struct hb_workload_labels l;

	(void)state;
	hb_facts_init(&f);
	hb_facts_tls_edit(&f)->principal = HB_STR("spiffe://td/ns/attacker/sa/x");
	assert_false(hb_source_labels(&f, &claimed, false, &l));
	expect_label(l.principal, "spiffe://td/ns/attacker/sa/x");
	expect_label(l.ns, "attacker");
	expect_label(l.workload, "");
	expect_label(l.app, "");
	expect_label(l.canonical_service, "");
	expect_label(l.cluster, "");
	assert_false(hb_destination_labels(hb_facts_tls(&f)->principal, &claimed, false, &l));
	expect_label(l.ns, "attacker");
	/* A gateway that is trusted to hand on its clients' baggage. */
	assert_true(hb_source_labels(&f, &claimed, true, &l));
	expect_label(l.principal, "spiffe://td/ns/attacker/sa/x");
	expect_label(l.ns, "default");
	expect_label(l.workload, "client-v1");
	/* Nobody is known. */
	hb_facts_tls_edit(&f)->principal = HB_STR("");
	assert_true(hb_source_labels(&f, &claimed, false, &l));
	expect_label(l.principal, "");
	expect_label(l.ns, "default");
	/* No SPIFFE id is no principal here. */
	hb_facts_tls_edit(&f)->principal = HB_STR("https://td/ns/default/sa/x");
	assert_true(hb_source_labels(&f, &claimed, false, &l));
	expect_label(l.principal, "");
	hb_facts_fini(&f);
}

static void
test_destination_principal(void **state)
{
	static char id[] = "spiffe://td/ns/own/sa/x";
	const struct hb_cert_info own = { .spiffe_id = id };
	struct hb_facts below, f;

	(void)state;
	hb_facts_init(&below);
	hb_facts_init(&f);
	hb_facts_tls_edit(&below)->local_cert = &own;
	f.parent = &below;
	expect_label(hb_destination_principal(&f, HB_STR("spiffe://td/ns/b/sa/y"), true), "spiffe://td/ns/b/sa/y");
	expect_label(hb_destination_principal(&f, HB_STR("CN=y"), true), id);
	expect_label(hb_destination_principal(&f, HB_STR(""), false), "");
	expect_label(hb_destination_principal(NULL, HB_STR(""), true), "");
	f.parent = NULL;
	expect_label(hb_destination_principal(&f, HB_STR(""), true), "");
	hb_facts_fini(&f);
	hb_facts_fini(&below);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_write),
		cmocka_unit_test(test_labels_agree),
		cmocka_unit_test(test_labels_contradict),
		cmocka_unit_test(test_destination_principal),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/mesh/telemetry.h"

static const struct hb_tcp_labels full = {
	.reporter = HB_STR("destination"),
	.source = {
		.workload = HB_STR("sw"), .canonical_service = HB_STR("scs"),
		.canonical_revision = HB_STR("scr"), .ns = HB_STR("sns"),
		.principal = HB_STR("spiffe://td/ns/sns/sa/a"), .app = HB_STR("sa"),
		.version = HB_STR("sv"), .cluster = HB_STR("sc"), .region = HB_STR("sr"),
		.zone = HB_STR("sz"),
	},
	.destination = {
		.workload = HB_STR("dw"), .canonical_service = HB_STR("dcs"),
		.canonical_revision = HB_STR("dcr"), .ns = HB_STR("dns"),
		.principal = HB_STR("spiffe://td/ns/dns/sa/b"), .app = HB_STR("da"),
		.version = HB_STR("dv"), .cluster = HB_STR("dc"), .region = HB_STR("dr"),
		.zone = HB_STR("dz"),
	},
	.service = HB_STR("echo.dns.svc"),
	.service_namespace = HB_STR("dns"),
	.service_name = HB_STR("echo"),
	.response_flags = HB_STR("DENY"),
	.security_policy = HB_STR("mutual_tls"),
};

#define FULL                                                                                    \
	"reporter=\"destination\",source_workload=\"sw\",source_canonical_service=\"scs\","     \
	"source_canonical_revision=\"scr\",source_workload_namespace=\"sns\","                  \
	"source_principal=\"spiffe://td/ns/sns/sa/a\",source_app=\"sa\",source_version=\"sv\"," \
	"source_cluster=\"sc\",destination_service=\"echo.dns.svc\","                           \
	"destination_service_namespace=\"dns\",destination_service_name=\"echo\","              \
	"destination_workload=\"dw\",destination_canonical_service=\"dcs\","                    \
	"destination_canonical_revision=\"dcr\",destination_workload_namespace=\"dns\","        \
	"destination_principal=\"spiffe://td/ns/dns/sa/b\",destination_app=\"da\","             \
	"destination_version=\"dv\",destination_cluster=\"dc\",request_protocol=\"tcp\","       \
	"response_flags=\"DENY\",connection_security_policy=\"mutual_tls\""
#define LOCALITY \
	",source_region=\"sr\",source_zone=\"sz\",destination_region=\"dr\",destination_zone=\"dz\""

static bool
only_failed(void *arg, const char *name)
{
	(void)arg;
	return (strcmp(name, "istio_tcp_connections_failed_total") == 0);
}

static bool
only_open(void *arg, const char *name)
{
	(void)arg;
	return (strcmp(name, "istio_tcp_sockets_open") == 0);
}

static void
expect(const struct hb_tcp_registry *r, bool (*want)(void *, const char *), const char *text)
{
	struct hb_text t = { 0 };

	hb_tcp_render(r, want, NULL, &t);
	assert_string_equal(t.p == NULL ? "" : t.p, text);
	hb_text_fini(&t);
}

static void
expect_part(const struct hb_tcp_registry *r, const char *part, bool there)
{
	struct hb_text t = { 0 };

	hb_tcp_render(r, NULL, NULL, &t);
	if ((t.p != NULL && strstr(t.p, part) != NULL) != there)
		fail_msg("%s\n%s", part, t.p == NULL ? "" : t.p);
	hb_text_fini(&t);
}

#define FAILED_HEAD                                                                          \
	"# HELP istio_tcp_connections_failed_total Connections that failed or were refused." \
	"\n# TYPE istio_tcp_connections_failed_total counter\n"

static void
test_labels(void **state)
{
	struct hb_tcp_registry *r = hb_tcp_registry_new(&(struct hb_tcp_options){ .workers = 1 });

	(void)state;
	expect(r, NULL, "");
	hb_tcp_add(hb_tcp_series(r, 0, &full), HB_TCP_FAILED, 1);
	expect(r, only_failed, FAILED_HEAD "istio_tcp_connections_failed_total{" FULL "} 1\n");
	hb_tcp_registry_free(&r);
	r = hb_tcp_registry_new(&(struct hb_tcp_options){ .workers = 1, .locality = true });
	hb_tcp_add(hb_tcp_series(r, 0, &full), HB_TCP_FAILED, 1);
	expect(r, only_failed,
		FAILED_HEAD "istio_tcp_connections_failed_total{" FULL LOCALITY "} 1\n");
	hb_tcp_registry_free(&r);
	assert_null(r);
	hb_tcp_registry_free(&r);
}

static void
test_missing(void **state)
{
	struct hb_tcp_registry *r = hb_tcp_registry_new(&(struct hb_tcp_options){ .workers = 1 });
	struct hb_tcp_labels l = { .reporter = HB_STR("source") };

	(void)state;
	hb_tcp_add(hb_tcp_series(r, 0, &l), HB_TCP_OPENED, 1);
	expect_part(r, "reporter=\"source\",source_workload=\"unknown\",", true);
	expect_part(r,
		"request_protocol=\"tcp\",response_flags=\"-\","
		"connection_security_policy=\"unknown\"} 1\n",
		true);
	/* Metrics without a value have no head either. */
	expect_part(r, "istio_tcp_sent_bytes_total", false);
	hb_tcp_registry_free(&r);
}

static void
test_escaping(void **state)
{
	struct hb_tcp_registry *r = hb_tcp_registry_new(&(struct hb_tcp_options){ .workers = 1 });
	char big[HB_TCP_LABEL_MAX + 10], cut[HB_TCP_LABEL_MAX + 30];
	struct hb_tcp_labels l = {
		.reporter = HB_STR("source"),
		.service = HB_STR("a\"} 1\nfake{x=\"\\"),
		.service_name = HB_STR("caf\xc3\xa9"),
		.service_namespace = hb_strn("a\0b", 3),
	};

	(void)state;
	memset(big, 'x', sizeof big);
	l.source.workload = hb_strn(big, sizeof big);
	hb_tcp_add(hb_tcp_series(r, 0, &l), HB_TCP_OPENED, 1);
	expect_part(r, "destination_service=\"a\\\"} 1_fake{x=\\\"\\\\\",", true);
	expect_part(r, "destination_service_name=\"caf__\",", true);
	expect_part(r, "destination_service_namespace=\"a_b\",", true);
	(void)snprintf(cut, sizeof cut, "\"%.*s\"", (int)HB_TCP_LABEL_MAX, big);
	expect_part(r, cut, true);
	hb_tcp_registry_free(&r);
}

/* Neighbours must not flow into each other: "a" + "bc" is not "ab" + "c". */
static void
test_series_differ(void **state)
{
	struct hb_tcp_registry *r = hb_tcp_registry_new(&(struct hb_tcp_options){ .workers = 1 });
	struct hb_tcp_labels a = { .source = { .workload = HB_STR("a"),
					   .canonical_service = HB_STR("bc") } };
	struct hb_tcp_labels b = { .source = { .workload = HB_STR("ab"),
					   .canonical_service = HB_STR("c") } };
	struct hb_tcp_series *sa = hb_tcp_series(r, 0, &a);

	(void)state;
	assert_ptr_not_equal(sa, hb_tcp_series(r, 0, &b));
	assert_ptr_equal(sa, hb_tcp_series(r, 0, &a));
	assert_int_equal(hb_tcp_series_count(r), 2);
	hb_tcp_registry_free(&r);
}

static void
test_sums_of_workers(void **state)
{
	struct hb_tcp_registry *r = hb_tcp_registry_new(&(struct hb_tcp_options){ .workers = 3 });
	struct hb_tcp_labels other = full;

	(void)state;
	other.reporter = HB_STR("source");
	for (unsigned w = 0; w < 3; w++) {
		hb_tcp_add(hb_tcp_series(r, w, &full), HB_TCP_OPENED, w + 1);
		hb_tcp_add(hb_tcp_series(r, w, &full), HB_TCP_RECEIVED, 1000);
	}
	hb_tcp_add(hb_tcp_series(r, 1, &full), HB_TCP_CLOSED, 2);
	hb_tcp_add(hb_tcp_series(r, 2, &other), HB_TCP_OPENED, 7);
	hb_tcp_add(hb_tcp_series(r, 0, &other), HB_TCP_CLOSED, 7);
	expect_part(r, "istio_tcp_connections_opened_total{" FULL "} 6\n", true);
	expect_part(r, "istio_tcp_received_bytes_total{" FULL "} 3000\n", true);
	expect(r, only_open,
		"# HELP istio_tcp_sockets_open Connections that are open.\n"
		"# TYPE istio_tcp_sockets_open gauge\n"
		"istio_tcp_sockets_open{reporter=\"destination\"} 4\n"
		"istio_tcp_sockets_open{reporter=\"source\"} 0\n");
	hb_tcp_registry_free(&r);
}

/* A peer that makes up labels costs no more memory than the limit. */
static void
test_overflow(void **state)
{
	struct hb_tcp_registry *r = hb_tcp_registry_new(
		&(struct hb_tcp_options){ .workers = 2, .series_max = 100 });
	struct hb_tcp_labels l = { 0 };
	char name[32];

	(void)state;
	for (unsigned i = 0; i < 10000; i++) {
		(void)snprintf(name, sizeof name, "w%u", i);
		l.reporter = i % 2 == 0 ? HB_STR("source") : HB_STR("destination");
		l.source.workload = hb_str(name);
		hb_tcp_add(hb_tcp_series(r, 0, &l), HB_TCP_OPENED, 1);
	}
	assert_int_equal(hb_tcp_series_count(r), 102);
	assert_int_equal(hb_tcp_overflows(r), 9900);
	expect_part(r, "{reporter=\"source\",source_workload=\"overflow\",", true);
	expect_part(r,
		"response_flags=\"overflow\",connection_security_policy=\"overflow\"} 4950\n",
		true);
	expect_part(r, "hbone_telemetry_overflow_total 9900\n", true);
	/* Those that were there before keep their own. */
	l.reporter = HB_STR("source");
	l.source.workload = HB_STR("w0");
	hb_tcp_add(hb_tcp_series(r, 0, &l), HB_TCP_OPENED, 41);
	expect_part(r, "connection_security_policy=\"unknown\"} 42\n", true);
	/* The other worker has a limit of its own. */
	l.source.workload = HB_STR("w5000");
	hb_tcp_add(hb_tcp_series(r, 1, &l), HB_TCP_OPENED, 1);
	assert_int_equal(hb_tcp_series_count(r), 103);
	hb_tcp_registry_free(&r);
}

#define WRITERS 2u
#define ROUNDS  20000u

static struct hb_tcp_registry *shared;
static _Atomic unsigned running;

static void *
writer(void *arg)
{
	unsigned w = (unsigned)(uintptr_t)arg;
	struct hb_tcp_labels l = full;
	char name[32];

	for (unsigned i = 0; i < ROUNDS; i++) {
		(void)snprintf(name, sizeof name, "w%u", i % 300);
		l.source.workload = hb_str(name);
		hb_tcp_add(hb_tcp_series(shared, w, &l), HB_TCP_SENT, 3);
	}
	atomic_fetch_sub(&running, 1);
	return (NULL);
}

static uint64_t
total_sent(void)
{
	static const char name[] = "istio_tcp_sent_bytes_total{";
	struct hb_text t = { 0 };
	uint64_t sum = 0;

	hb_tcp_render(shared, NULL, NULL, &t);
	for (const char *p = t.p; p != NULL && (p = strstr(p, name)) != NULL; p++)
		sum += strtoull(strchr(p, '}') + 2, NULL, 10);
	hb_text_fini(&t);
	return (sum);
}

static void
test_render_while_written(void **state)
{
	pthread_t thread[WRITERS];
	uint64_t last = 0, now;

	(void)state;
	shared = hb_tcp_registry_new(&(struct hb_tcp_options){ .workers = WRITERS });
	atomic_store(&running, WRITERS);
	for (unsigned w = 0; w < WRITERS; w++)
		assert_int_equal(pthread_create(&thread[w], NULL, writer, (void *)(uintptr_t)w), 0);
	while (atomic_load(&running) > 0) {
		now = total_sent();
		assert_true(now >= last);
		last = now;
	}
	for (unsigned w = 0; w < WRITERS; w++)
		assert_int_equal(pthread_join(thread[w], NULL), 0);
	assert_int_equal(total_sent(), 3 * ROUNDS * WRITERS);
	assert_int_equal(hb_tcp_series_count(shared), 300 * WRITERS);
	hb_tcp_registry_free(&shared);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_escaping),
		cmocka_unit_test(test_series_differ),
		cmocka_unit_test(test_sums_of_workers),
		cmocka_unit_test(test_overflow),
		cmocka_unit_test(test_render_while_written),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

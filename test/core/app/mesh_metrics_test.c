/* SPDX-License-Identifier: Apache-2.0 */
/* Who is who: labels from facts, upstream and baggage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/app/mesh_metrics.h"
#include "core/identity/identity.h"

#define CLIENT "spiffe://td/ns/a/sa/client"
#define SERVER "spiffe://td/ns/b/sa/server"

static struct hb_cert_info own_cert;
static struct hb_facts below, facts;
static struct hb_upstream_info up;
static struct hb_conn_view view;
static struct hb_tcp_labels l;

static int
setup(void **state)
{
	(void)state;
	hb_facts_init(&below);
	hb_facts_init(&facts);
	own_cert = (struct hb_cert_info){ .spiffe_id = (char *)(uintptr_t)SERVER };
	up = (struct hb_upstream_info){ .cluster = HB_STR("web") };
	view = (struct hb_conn_view){ .facts = &facts, .upstream = &up };
	return (0);
}

static int
teardown(void **state)
{
	(void)state;
	hb_facts_fini(&facts);
	hb_facts_fini(&below);
	return (0);
}

static void
baggage(const char *ns, const char *line)
{
	assert_true(hb_facts_metadata_set(&facts, hb_str(ns), HB_STR("baggage"), hb_str(line)));
}

static void
is(struct hb_str got, const char *want)
{
	assert_true(hb_str_eq(got, hb_str(want)));
}

static void
test_mesh_metrics__plain(void **state)
{
	hb_mesh_labels(&view, &l);
	is(l.reporter, "source");
	is(l.security_policy, "unknown");
	is(l.source.principal, "");
	is(l.service, "");
	is(l.service_name, "web");
	view.inbound = true;
	hb_mesh_labels(&view, &l);
	is(l.reporter, "destination");
	view.upstream = NULL;
	hb_mesh_labels(&view, &l);
	is(l.service_name, "");
}

static void
test_mesh_metrics__tunnel_stream(void **state)
{
	hb_facts_tls_edit(&below)->principal = HB_STR(CLIENT);
	hb_facts_tls_edit(&below)->peer_cert = &own_cert;
	hb_facts_tls_edit(&below)->local_cert = &own_cert;
	hb_facts_hello_edit(&below)->transport_protocol = "tls";
	facts.parent = &below;
	facts.authority = HB_STR("echo.b.svc.cluster.local:80");
	baggage(HB_META_REQUEST,
		"k8s.cluster.name=c1,k8s.namespace.name=a,k8s.deployment.name=w,service.name=s");
	hb_mesh_labels(&view, &l);
	is(l.reporter, "destination");
	is(l.security_policy, "mutual_tls");
	is(l.source.principal, CLIENT);
	is(l.source.ns, "a");
	is(l.source.workload, "w");
	is(l.source.cluster, "c1");
	is(l.destination.principal, SERVER);
	is(l.destination.ns, "b");
	is(l.service, "echo.b.svc.cluster.local");
	is(l.service_name, "echo");
	is(l.service_namespace, "b");
}

/* The certificate says another namespace: it speaks of somebody else. */
static void
test_mesh_metrics__identity_wins(void **state)
{
	hb_facts_tls_edit(&facts)->principal = HB_STR(CLIENT);
	baggage(HB_META_REQUEST, "k8s.namespace.name=other,k8s.deployment.name=w");
	hb_mesh_labels(&view, &l);
	is(l.reporter, "destination");
	is(l.source.ns, "a");
	is(l.source.workload, "");
}

static void
test_mesh_metrics__originated(void **state)
{
	up.cluster = HB_STR("outbound|80||echo.b.svc.cluster.local");
	up.tls_peer = HB_STR(SERVER);
	baggage(HB_META_RESPONSE, "k8s.namespace.name=b,k8s.deployment.name=server");
	hb_mesh_labels(&view, &l);
	is(l.reporter, "source");
	is(l.security_policy, "mutual_tls");
	is(l.destination.principal, SERVER);
	is(l.destination.workload, "server");
	is(l.service, "echo.b.svc.cluster.local");
	is(l.service_name, "echo");
	/* A public server's certificate is no identity of the mesh. */
	up.tls_peer = HB_STR("CN=web.example");
	hb_mesh_labels(&view, &l);
	is(l.security_policy, "unknown");
	is(l.destination.principal, "");
}

static void
test_mesh_metrics__authorities(void **state)
{
	static const struct {
		const char *authority, *service, *name, *ns;
	} rows[] = {
		{ "10.0.0.1:80", "", "web", "" },
		{ "[::1]:80", "", "web", "" },
		{ "[::1]", "", "web", "" },
		{ "host:80", "host", "host", "" },
		{ "a.example:80", "a.example", "a.example", "" },
		{ "a.ns.svc:80", "a.ns.svc", "a", "ns" },
		{ "a.ns.com.svc", "a.ns.com.svc", "a.ns.com.svc", "" },
		{ ":", "", "web", "" },
		{ ".", ".", ".", "" },
	};

	for (size_t i = 0; i < HB_ARRAY_LEN(rows); i++) {
		facts.authority = hb_str(rows[i].authority);
		hb_mesh_labels(&view, &l);
		is(l.service, rows[i].service);
		is(l.service_name, rows[i].name);
		is(l.service_namespace, rows[i].ns);
	}
}

static void
test_mesh_metrics__flags(void **state)
{
	assert_string_equal(hb_mesh_flag(HB_CLOSE_RBAC_DENIED), "DENY");
	assert_string_equal(hb_mesh_flag(HB_CLOSE_CONNECT_REFUSED), "CONNECT");
	assert_string_equal(hb_mesh_flag(HB_CLOSE_TLS_SAN), "TLS_FAILURE");
	assert_string_equal(hb_mesh_flag(HB_CLOSE_GOAWAY), "H2_HANDSHAKE_FAILURE");
	assert_string_equal(hb_mesh_flag(HB_CLOSE_RATE_LIMITED), "RL");
	for (unsigned r = HB_CLOSE_NONE; r < HB_CLOSE_MAX; r++)
		assert_non_null(hb_mesh_flag((enum hb_close_reason)r));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_mesh_metrics__plain),
		T(test_mesh_metrics__tunnel_stream),
		T(test_mesh_metrics__identity_wins),
		T(test_mesh_metrics__originated),
		T(test_mesh_metrics__authorities),
		T(test_mesh_metrics__flags),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

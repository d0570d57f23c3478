/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates that must be refused, of either side, under the rule of a workload. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "test/filters/transport/tls/rig.h"

#define HOUR 3600
#define RULES                                                         \
	"custom_validator_config: {name: r, typed_config: {'@type': " \
	"type.googleapis.com/hbone.identity.SpiffeRules%s}}"

static struct hb_test_cert *root, *other_root, *inter, *good;

static int
setup(void **state)
{
	struct hb_test_cert_options o = { .cn = "intermediate", .ca = true };

	rig_init();
	root = hb_test_root("root");
	other_root = hb_test_root("root"); /* same name, another key */
	o.issuer = root;
	inter = hb_test_cert_new(&o);
	good = hb_test_leaf(root, "URI:spiffe://cluster.local/ns/prod/sa/good");
	return (0);
}

static int
teardown(void **state)
{
	hb_test_cert_free(&root);
	hb_test_cert_free(&other_root);
	hb_test_cert_free(&inter);
	hb_test_cert_free(&good);
	rig_fini();
	return (0);
}

static struct hb_transport_socket *
side(bool server, const struct hb_test_cert *c, const char *rules)
{
	char more[1024];
	char *certs = rig_certs(c), *trust, *common;
	struct hb_transport_socket *s;

	(void)snprintf(more, sizeof more, RULES, rules);
	trust = rig_trust(root, more);
	common = hb_asprintf("%s, %s", certs, trust);
	s = server ? rig_server(common) : rig_client(common);
	hb_free(certs);
	hb_free(trust);
	hb_free(common);
	return (s);
}

/* A side that presents the certificate and accepts whatever root vouches for. */
static struct hb_transport_socket *
bearer(bool server, const struct hb_test_cert *c)
{
	return (side(server, c, ", trust_domains: ['*'], namespaces: ['*']"));
}

static void
meet(struct rig_conn *c, bool bad_is_server, const struct hb_test_cert *cert, const char *rules)
{
	struct hb_transport_socket *bad = bearer(bad_is_server, cert),
				   *judge = side(!bad_is_server, good, rules);

	rig_connect(c, bad_is_server ? judge : bad, bad_is_server ? bad : judge);
	hb_transport_socket_free(&bad);
	hb_transport_socket_free(&judge);
}

static void
expect(const struct hb_test_cert *cert, enum hb_close_reason reason, const char *text, int alert)
{
	for (int bad_is_server = 0; bad_is_server < 2; bad_is_server++) {
		char told[32];
		struct rig_conn c;
		const struct hbt_sink *judge = bad_is_server ? &c.client : &c.server;
		const char *why = bad_is_server ? c.client_text : c.server_text;
		const char *heard = bad_is_server ? c.server_text : c.client_text;

		meet(&c, bad_is_server, cert, "");
		(void)snprintf(told, sizeof told, "alert %d", alert);
		if (judge->reason != reason || strstr(why, text) == NULL ||
			strstr(heard, told) == NULL)
			fail_msg("%s: %s: \"%s\"; the other heard \"%s\"",
				bad_is_server ? "client" : "server",
				hb_close_info(judge->reason)->name, why, heard);
		assert_int_equal(c.client.data + c.server.data, 0);
		rig_conn_fini(&c);
	}
}

static void
expect_good(const struct hb_test_cert *cert, const char *rules)
{
	for (int bad_is_server = 0; bad_is_server < 2; bad_is_server++) {
		struct rig_conn c;

		meet(&c, bad_is_server, cert, rules);
		if (c.client.closed)
			fail_msg("client: %s; server: %s", c.client_text, c.server_text);
		hbt_writez(&c.client, "hello", false);
		HBT_UNTIL(hbt_gotz(&c.client, "hello"));
		rig_conn_fini(&c);
	}
}

static struct hb_test_cert *
make(const struct hb_test_cert *issuer, const char *sans, int64_t from, int64_t to, unsigned eku)
{
	struct hb_test_cert_options o = { .issuer = issuer,
		.sans = sans,
		.from_s = from,
		.to_s = to,
		.eku = eku,
		.cn = sans == NULL ? "nobody" : NULL };

	return (hb_test_cert_new(&o));
}

#define ID(td, ns) "URI:spiffe://" td "/ns/" ns "/sa/x"

static void
test_identity__refused(void **state)
{
	const struct {
		const char *sans;
		int64_t from, to;
		const char *text;
		enum hb_close_reason reason;
		int alert;
		bool other;
	} v[] = {
		{ ID("cluster.local", "prod"), -2 * HOUR, -HOUR, "expired", HB_CLOSE_TLS_VERIFY,
			45 },
		{ ID("cluster.local", "prod"), HOUR, 2 * HOUR, "not yet valid", HB_CLOSE_TLS_VERIFY,
			45 },
		{ ID("cluster.local", "prod"), 0, 0, "certificate 0 of the chain",
			HB_CLOSE_TLS_VERIFY, 48, true },
		{ ID("other.local", "prod"), 0, 0,
			"spiffe://other.local/ns/prod/sa/x is not allowed", HB_CLOSE_TLS_SAN, 49 },
		{ ID("cluster.local", "stage"), 0, 0,
			"is not allowed: we are spiffe://cluster.local/ns/prod/sa/good "
			"and allow default, same trust domain and namespace",
			HB_CLOSE_TLS_SAN, 49 },
		{ "DNS:cluster.local", 0, 0, "names no SPIFFE identity", HB_CLOSE_TLS_SAN, 46 },
		{ NULL, 0, 0, "names no SPIFFE identity", HB_CLOSE_TLS_SAN, 46 },
		{ ID("cluster.local", "prod") "," ID("cluster.local", "prod"), 0, 0, "2 URI SANs",
			HB_CLOSE_TLS_SAN, 46 },
		{ "URI:https://cluster.local/ns/prod/sa/x", 0, 0, "not a SPIFFE identity",
			HB_CLOSE_TLS_SAN, 46 },
	};

	for (size_t i = 0; i < HB_ARRAY_LEN(v); i++) {
		struct hb_test_cert *c = make(
			v[i].other ? other_root : root, v[i].sans, v[i].from, v[i].to, 0);

		expect(c, v[i].reason, v[i].text, v[i].alert);
		hb_test_cert_free(&c);
	}
}

static void
test_identity__wrong_usage(void **state)
{
	struct rig_conn c;
	struct hb_test_cert *server_only = make(
		root, ID("cluster.local", "prod"), 0, 0, HB_TEST_EKU_SERVER);
	struct hb_test_cert *client_only = make(
		root, ID("cluster.local", "prod"), 0, 0, HB_TEST_EKU_CLIENT);

	meet(&c, false, server_only, "");
	assert_int_equal(c.server.reason, HB_CLOSE_TLS_VERIFY);
	assert_non_null(strstr(c.server_text, "purpose"));
	assert_non_null(strstr(c.client_text, "alert 43"));
	rig_conn_fini(&c);
	meet(&c, true, client_only, "");
	assert_int_equal(c.client.reason, HB_CLOSE_TLS_VERIFY);
	assert_non_null(strstr(c.client_text, "purpose"));
	rig_conn_fini(&c);
	meet(&c, false, client_only, "");
	assert_int_equal(c.server.secured, 1);
	rig_conn_fini(&c);
	hb_test_cert_free(&server_only);
	hb_test_cert_free(&client_only);
}

static void
test_identity__good(void **state)
{
	struct hb_test_cert *plain = make(root, ID("cluster.local", "prod"), 0, 0, 0);
	struct hb_test_cert *chained = make(inter, ID("cluster.local", "prod"), 0, 0, 0);
	struct hb_test_cert *foreign = make(root, ID("other.local", "stage"), 0, 0, 0);

	expect_good(plain, "");
	expect_good(chained, "");
	expect_good(foreign, ", ids: ['spiffe://other.local/ns/stage/sa/x']");
	expect_good(foreign, ", trust_domain_aliases: [other.local], namespaces: ['.', stage]");
	expect_good(foreign, ", id_prefixes: ['spiffe://other.local/']");
	hb_test_cert_free(&plain);
	hb_test_cert_free(&chained);
	hb_test_cert_free(&foreign);
}

/* An intermediate that is not sent breaks the chain. */
static void
test_identity__missing_intermediate(void **state)
{
	struct hb_test_cert *chained = make(inter, ID("cluster.local", "prod"), 0, 0, 0);

	hb_free(chained->chain_pem);
	chained->chain_pem = hb_strdup(chained->pem);
	expect(chained, HB_CLOSE_TLS_VERIFY, "unable to get local issuer", 48);
	hb_test_cert_free(&chained);
}

static void
test_identity__configuration(void **state)
{
	char *certs = rig_certs(good), *trust, *common;
	struct hb_test_cert *bare = hb_test_leaf(root, "DNS:a.example");
	char more[512];

	(void)snprintf(more, sizeof more, RULES, ", namespaces: [prod, 'a/b']");
	trust = rig_trust(root, more);
	common = hb_asprintf("%s, %s", certs, trust);
	assert_non_null(strstr(rig_server_error(common), "namespaces[1]: must be a namespace"));
	hb_free(common);
	(void)snprintf(more, sizeof more, RULES, "");
	common = hb_asprintf("%s, validation_context: {%s}", certs, more);
	assert_non_null(strstr(rig_server_error(common), "give the trusted CA"));
	hb_free(common);
	hb_free(certs);
	hb_free(trust);
	certs = rig_certs(bare);
	trust = rig_trust(root, more);
	common = hb_asprintf("%s, %s", certs, trust);
	assert_non_null(
		strstr(rig_server_error(common), "need a SPIFFE id in our own certificate"));
	hb_free(common);
	hb_free(certs);
	hb_free(trust);
	hb_test_cert_free(&bare);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_identity__refused),
		T(test_identity__wrong_usage),
		T(test_identity__good),
		T(test_identity__missing_intermediate),
		T(test_identity__configuration),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

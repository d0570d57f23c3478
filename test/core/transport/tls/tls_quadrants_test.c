/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates that must let in, and those that must not, shown by clients to a server and by servers to
 * a client; with the rule of a workload (our trust domain and namespace), each twice, so that nothing that
 * is remembered of the first time helps the second time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "core/identity/rules.h"
#include "test/support/certs/pki.h"
#include "test/support/harness.h"

#define DAY  86400
#define US   "spiffe://cluster.local/ns/default/sa/us"
#define PEER "spiffe://cluster.local/ns/default/sa/peer"

enum issuer { ROOT, OTHER, MIDDLE, ITSELF };

static const struct row {
	const char *what;
	enum issuer issuer;
	struct hb_test_cert_options o;
	bool without_chain;                        /* the leaf is shown alone             */
	enum hb_close_reason as_client, as_server; /* NONE = let in                       */
} rows[] = {
	{ "good", ROOT, { .sans = "URI:" PEER }, false, 0, 0 },
	{ "good, with a DNS name", ROOT, { .sans = "DNS:a.example,URI:" PEER }, false, 0, 0 },
	{ "below an intermediate", MIDDLE, { .sans = "URI:" PEER }, false, 0, 0 },
	{ "without its intermediate", MIDDLE, { .sans = "URI:" PEER }, true, HB_CLOSE_TLS_VERIFY,
		HB_CLOSE_TLS_VERIFY },
	{ "expired", ROOT, { .sans = "URI:" PEER, .from_s = -2 * DAY, .to_s = -DAY }, false,
		HB_CLOSE_TLS_VERIFY, HB_CLOSE_TLS_VERIFY },
	{ "not yet valid", ROOT, { .sans = "URI:" PEER, .from_s = DAY, .to_s = 2 * DAY }, false,
		HB_CLOSE_TLS_VERIFY, HB_CLOSE_TLS_VERIFY },
	{ "other root of the same name", OTHER, { .sans = "URI:" PEER }, false, HB_CLOSE_TLS_VERIFY,
		HB_CLOSE_TLS_VERIFY },
	{ "signed by itself", ITSELF, { .sans = "URI:" PEER }, false, HB_CLOSE_TLS_VERIFY,
		HB_CLOSE_TLS_VERIFY },
	{ "for servers only", ROOT, { .sans = "URI:" PEER, .eku = HB_TEST_EKU_SERVER }, false,
		HB_CLOSE_TLS_VERIFY, 0 },
	{ "for clients only", ROOT, { .sans = "URI:" PEER, .eku = HB_TEST_EKU_CLIENT }, false, 0,
		HB_CLOSE_TLS_VERIFY },
	{ "other trust domain", ROOT, { .sans = "URI:spiffe://other.example/ns/default/sa/peer" },
		false, HB_CLOSE_TLS_SAN, HB_CLOSE_TLS_SAN },
	{ "other namespace", ROOT, { .sans = "URI:spiffe://cluster.local/ns/other/sa/peer" }, false,
		HB_CLOSE_TLS_SAN, HB_CLOSE_TLS_SAN },
	{ "namespace that begins as ours", ROOT,
		{ .sans = "URI:spiffe://cluster.local/ns/default2/sa/peer" }, false,
		HB_CLOSE_TLS_SAN, HB_CLOSE_TLS_SAN },
	{ "no names", ROOT, { .cn = PEER }, false, HB_CLOSE_TLS_SAN, HB_CLOSE_TLS_SAN },
	{ "a DNS name only", ROOT, { .sans = "DNS:peer.default.svc.cluster.local" }, false,
		HB_CLOSE_TLS_SAN, HB_CLOSE_TLS_SAN },
	{ "a URI of another kind", ROOT, { .sans = "URI:https://cluster.local/ns/default/sa/peer" },
		false, HB_CLOSE_TLS_SAN, HB_CLOSE_TLS_SAN },
	{ "two SPIFFE ids", ROOT, { .sans = "URI:" PEER ",URI:" US }, false, HB_CLOSE_TLS_SAN,
		HB_CLOSE_TLS_SAN },
	{ "a SPIFFE id and another URI", ROOT, { .sans = "URI:" PEER ",URI:https://x.example/" },
		false, HB_CLOSE_TLS_SAN, HB_CLOSE_TLS_SAN },
};

static struct hb_test_cert *root, *other, *middle, *us;
static struct hb_rules *rules;

static int
setup(void **state)
{
	struct hb_test_cert_options o = { .cn = "middle", .ca = true, .pathlen = 0 };
	const char *list;
	size_t index;

	(void)hbt_init(HB_IO_EPOLL);
	root = hb_test_root("root");
	other = hb_test_root("root");
	o.issuer = root;
	middle = hb_test_cert_new(&o);
	us = hb_test_leaf(root, "URI:" US);
	return (hb_rules_new(&(struct hb_rules_options){ 0 }, &rules, &list, &index, NULL));
}

static int
teardown(void **state)
{
	hb_test_cert_free(&us);
	hb_test_cert_free(&middle);
	hb_test_cert_free(&other);
	hb_test_cert_free(&root);
	hb_rules_free(&rules);
	hbt_fini();
	return (0);
}

static struct hb_tls_ctx *
context(bool server, const struct hb_tls_cert *cert, bool judges)
{
	struct hb_tls_config c = { .server = server,
		.require_peer_cert = server && judges,
		.certs = cert,
		.n_certs = 1,
		.max_sessions = 8 };

	if (judges) {
		c.trust_pem = hb_str(root->pem);
		c.rules = rules;
	}
	return (hbt_tls_ctx(&c));
}

/* Why the side that judges has closed; NONE = the peer is in, and *resumed tells how. */
static enum hb_close_reason
meet(const struct hb_tls_ctx *judge, const struct hb_tls_ctx *peer, bool peer_is_server,
	bool *resumed)
{
	struct hb_transport *a, *b;
	struct hbt_sink s[2];
	struct hbt_sink *mine = &s[peer_is_server ? 0 : 1];
	enum hb_close_reason reason;

	memset(s, 0, sizeof s);
	hb_pair_new(hbt_worker(), &a, &b);
	hbt_attach(&s[0], hb_tls_new(a, peer_is_server ? judge : peer, "peer.example"));
	hbt_attach(&s[1], hb_tls_new(b, peer_is_server ? peer : judge, NULL));
	HBT_UNTIL((mine->secured || mine->closed) && (s[0].secured || s[0].closed));
	if (!s[1].closed && s[1].secured) {
		hbt_writez(&s[1], "x", false); /* with the ticket */
		HBT_UNTIL(hbt_gotz(&s[0], "x") || s[0].closed);
	}
	reason = mine->reason;
	*resumed = !mine->closed && hb_transport_tls_info(mine->t)->resumed;
	if (!mine->closed)
		assert_string_equal(hb_transport_tls_info(mine->t)->peer->spiffe_id, PEER);
	hbt_sink_fini(&s[0]);
	hbt_sink_fini(&s[1]);
	hbt_turns(4);
	return (reason);
}

static struct hb_test_cert *
make(const struct row *r)
{
	struct hb_test_cert_options o = r->o;

	o.issuer = r->issuer == ROOT ? root :
		r->issuer == OTHER   ? other :
		r->issuer == MIDDLE  ? middle :
				       NULL;
	return (hb_test_cert_new(&o));
}

static void
quadrants(bool peer_is_server)
{
	struct hb_tls_cert own = hbt_tls_cert(us);
	struct hb_tls_ctx *judge = context(!peer_is_server, &own, true);

	for (size_t i = 0; i < HB_ARRAY_LEN(rows); i++) {
		const struct row *r = &rows[i];
		enum hb_close_reason want = peer_is_server ? r->as_server : r->as_client, got;
		struct hb_test_cert *cert = make(r);
		struct hb_tls_cert shown = hbt_tls_cert(cert);
		struct hb_tls_ctx *peer;
		bool resumed;

		if (r->without_chain)
			shown.chain = hb_str(cert->pem);
		peer = context(peer_is_server, &shown, false);
		for (unsigned time = 0; time < 2; time++) {
			got = meet(judge, peer, peer_is_server, &resumed);
			if (got != want)
				fail_msg("%s, time %u: %s", r->what, time + 1,
					hb_close_info(got)->name);
			assert_int_equal(resumed, want == HB_CLOSE_NONE && time == 1);
		}
		hb_tls_ctx_free(&peer);
		hb_test_cert_free(&cert);
	}
	hb_tls_ctx_free(&judge);
}

static void
test_quadrants__clients(void **state)
{
	quadrants(false);
}

static void
test_quadrants__servers(void **state)
{
	quadrants(true);
}

/* The library holds peers to it as well (test/integration/test_identity.py shows it one). */
static void
test_quadrants__key_usage(void **state)
{
	struct hb_test_cert_options o = {
		.issuer = root, .sans = "URI:" US, .key_usage = "critical,keyAgreement"
	};
	struct hb_test_cert *cert = hb_test_cert_new(&o);
	struct hb_tls_cert shown = hbt_tls_cert(cert);
	struct hb_tls_config c = { .certs = &shown, .n_certs = 1 };
	struct hb_err err;

	assert_null(hb_tls_ctx_new(&c, &err));
	assert_non_null(strstr(err.text, "digitalSignature"));
	hb_test_cert_free(&cert);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quadrants__clients),
		cmocka_unit_test(test_quadrants__servers),
		cmocka_unit_test(test_quadrants__key_usage),
	};

	return (cmocka_run_group_tests(tests, setup, teardown));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The authority for tests, and what inspection says of its certificates and of bad ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <cmocka.h>
#include "core/identity/inspect.h"
#include "core/identity/issue.h"
#include "test/core/identity/folder.h"
#include "test/support/certs/certs.h"

#define ID  "spiffe://cluster.local/ns/prod/sa/web"
#define DAY 86400

static struct folder folder;
static struct hb_issued root, leaf;
static int64_t now;

static void
put(const char *name, const char *text)
{
	folder_write(&folder, name, text);
	assert_int_equal(chmod(folder_at(&folder, name), 0600), 0);
}

static int
setup(void **state)
{
	const char *const dns[] = { "web.prod.svc", "*.web.example" };
	struct hb_issue o = { .id = ID, .dns = dns, .n_dns = 2, .life_s = 30 * DAY };
	struct hb_err err;

	now = (int64_t)time(NULL);
	folder_init(&folder);
	assert_int_equal(hb_issue_root("cluster.local", 365, now, &root, &err), 0);
	if (hb_issue_leaf(&o, hb_str(root.cert.p), hb_str(root.key.p), now, &leaf, &err) != 0)
		fail_msg("%s", err.text);
	put("root-cert.pem", root.cert.p);
	put("cert-chain.pem", leaf.cert.p);
	put("key.pem", leaf.key.p);
	return (0);
}

static int
teardown(void **state)
{
	hb_issued_fini(&root);
	hb_issued_fini(&leaf);
	folder_fini(&folder);
	return (0);
}

static struct hb_inspection *
look_at(int64_t at)
{
	struct hb_identity_paths p;
	struct hb_inspection *in;
	struct hb_err err;

	assert_int_equal(hb_identity_search(folder.path, &p, &err), 0);
	in = hb_inspect(&p, at);
	hb_identity_paths_fini(&p);
	return (in);
}

/* Exactly these (parts of) problems and warnings, in order. */
static void
expect_at(int64_t at, const char *const *problems, size_t n_problems, const char *const *warnings,
	size_t n_warnings)
{
	struct hb_inspection *in = look_at(at);
	const struct hb_errs *lists[2] = { &in->problems, &in->warnings };
	const char *const *v[2] = { problems, warnings };
	size_t n[2] = { n_problems, n_warnings };

	for (int k = 0; k < 2; k++) {
		for (size_t i = 0; i < lists[k]->n; i++)
			if (i >= n[k] || strstr(lists[k]->v[i].text, v[k][i]) == NULL)
				fail_msg("%s %zu: %s", k == 0 ? "problem" : "warning", i,
					lists[k]->v[i].text);
		assert_int_equal(lists[k]->n, n[k]);
	}
	hb_inspection_free(&in);
}

#define V(...)                                  \
	((const char *const[]){ __VA_ARGS__ }), \
		sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *)
#define NONE NULL, 0

static void
test_inspect__good(void **state)
{
	struct hb_inspection *in = look_at(now);

	assert_int_equal(in->problems.n + in->warnings.n, 0);
	assert_true(in->key_matches && in->as_client && in->as_server);
	assert_string_equal(in->key_kind, "P-256");
	assert_int_equal(in->n_chain, 1);
	assert_int_equal(in->n_roots, 1);
	assert_string_equal(in->chain[0]->spiffe_id, ID);
	assert_int_equal(in->chain[0]->n_san, 3);
	assert_string_equal(in->roots[0]->spiffe_id, "spiffe://cluster.local");
	assert_non_null(strstr(in->roots[0]->subject, "TEST"));
	assert_true(in->chain[0]->not_before <= now && in->chain[0]->not_after == now + 30 * DAY);
	hb_inspection_free(&in);
}

static void
test_inspect__dates(void **state)
{
	expect_at(now + 26 * DAY, NONE, V("past 80 % of its life"));
	expect_at(now + 31 * DAY, V("has expired on", "as a client", "as a server"), NONE);
	expect_at(now - DAY,
		V("certificate 1 () is not valid before", "root 1", "as a client", "as a server"),
		NONE);
}

static void
test_inspect__wrong_files(void **state)
{
	struct hb_test_cert *other = hb_test_root("other"),
			    *foreign = hb_test_leaf(other, "URI:" ID);
	char *bad_order;

	put("key.pem", foreign->key_pem);
	expect_at(now, V("does not belong to the first certificate"), NONE);
	put("key.pem", leaf.key.p);
	assert_int_equal(chmod(folder_at(&folder, "key.pem"), 0644), 0);
	expect_at(now, NONE, V("chmod 600"));
	put("key.pem", leaf.key.p);
	put("root-cert.pem", other->pem);
	expect_at(now, V("the roots are of another authority", "as a server"), NONE);
	folder_remove(&folder, "root-cert.pem");
	expect_at(now, NONE, V("no roots beside it"));
	put("root-cert.pem", root.cert.p);
	bad_order = hb_asprintf("%s%s", leaf.cert.p, foreign->pem);
	put("cert-chain.pem", bad_order);
	expect_at(now, V("did not issue certificate 1"), NONE);
	put("cert-chain.pem", "nothing");
	expect_at(now, V("holds no PEM certificate"), NONE);
	put("cert-chain.pem", "");
	expect_at(now, V("is empty"), NONE);
	hb_free(bad_order);
	hb_test_cert_free(&other);
	hb_test_cert_free(&foreign);
}

static void
test_inspect__identity_and_revocation(void **state)
{
	struct hb_test_cert *ca = hb_test_root("ca"), *bare = hb_test_leaf(ca, "DNS:a.example");
	struct hb_test_cert *two = hb_test_leaf(ca, "URI:" ID ",URI:" ID);
	char *crl = hb_test_crl(ca, two);

	put("root-cert.pem", ca->pem);
	put("cert-chain.pem", bare->chain_pem);
	put("key.pem", bare->key_pem);
	expect_at(now, NONE, V("names no SPIFFE identity"));
	put("cert-chain.pem", two->chain_pem);
	put("key.pem", two->key_pem);
	expect_at(now, V("has 2 URI SANs"), NONE);
	put("ca-crl.pem", crl);
	expect_at(now, V("has 2 URI SANs", "have another one issued", "as a server"), NONE);
	put("ca-crl.pem", "garbage");
	expect_at(now, V("has 2 URI SANs", "holds no revocation list"), NONE);
	hb_free(crl);
	hb_test_cert_free(&ca);
	hb_test_cert_free(&bare);
	hb_test_cert_free(&two);
}

static void
test_issue__refuses(void **state)
{
	const char *const bad_dns[] = { "a.example", "b,DNS:c" };
	struct hb_issue o = { .id = ID, .life_s = DAY };
	struct hb_issued ret = { 0 };
	struct hb_str pem = hb_str(root.cert.p), key = hb_str(root.key.p);
	struct hb_err err;

	assert_int_equal(hb_issue_root("Upper", 1, now, &ret, &err), -EINVAL);
	assert_int_equal(hb_issue_root("a/b", 1, now, &ret, &err), -EINVAL);
	o.id = "spiffe://cluster.local";
	assert_int_equal(hb_issue_leaf(&o, pem, key, now, &ret, &err), -EINVAL);
	assert_non_null(strstr(err.text, "names a trust domain"));
	o.id = "https://x/y";
	assert_int_equal(hb_issue_leaf(&o, pem, key, now, &ret, &err), -EINVAL);
	o.id = ID;
	o.dns = bad_dns;
	o.n_dns = 2;
	assert_int_equal(hb_issue_leaf(&o, pem, key, now, &ret, &err), -EINVAL);
	assert_non_null(strstr(err.text, "not a DNS name"));
	o.n_dns = 0;
	o.life_s = 366 * DAY;
	assert_int_equal(hb_issue_leaf(&o, pem, key, now, &ret, &err), -EINVAL);
	assert_non_null(strstr(err.text, "fewer --days"));
	o.life_s = DAY;
	assert_int_equal(hb_issue_leaf(&o, pem, hb_str(leaf.key.p), now, &ret, &err), -EINVAL);
	assert_int_equal(
		hb_issue_leaf(&o, hb_str(leaf.cert.p), hb_str(leaf.key.p), now, &ret, &err),
		-EINVAL);
	assert_non_null(strstr(err.text, "not one of an authority"));
	assert_null(ret.cert.p);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_inspect__good),
		T(test_inspect__dates),
		T(test_inspect__wrong_files),
		T(test_inspect__identity_and_revocation),
		T(test_issue__refuses),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

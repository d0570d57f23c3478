/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>
#include <openssl/bio.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/pool.h>
#include <openssl/x509.h>
#include "core/identity/cert.h"
#include "test/support/certs/certs.h"

#define ID   "URI:spiffe://cluster.local/ns/default/sa/client"
#define HOUR 3600

static struct hb_test_cert *root, *other, *inter, *leaf, *chained;

static int
setup(void **state)
{
	struct hb_test_cert_options o = { .cn = "intermediate", .ca = true };

	root = hb_test_root("cluster.local");
	other = hb_test_root("cluster.local"); /* same name, another key */
	o.issuer = root;
	inter = hb_test_cert_new(&o);
	leaf = hb_test_leaf(root, ID);
	chained = hb_test_leaf(inter, ID);
	return (0);
}

static int
teardown(void **state)
{
	hb_test_cert_free(&root);
	hb_test_cert_free(&other);
	hb_test_cert_free(&inter);
	hb_test_cert_free(&leaf);
	hb_test_cert_free(&chained);
	return (0);
}

static CRYPTO_BUFFER *
der(const struct hb_test_cert *c)
{
	uint8_t *p = NULL;
	int n = i2d_X509(c->x, &p);
	CRYPTO_BUFFER *b = CRYPTO_BUFFER_new(p, (size_t)n, NULL);

	OPENSSL_free(p);
	return (b);
}

static struct hb_trust *
trust(const struct hb_trust_options *o)
{
	struct hb_trust *t = NULL;
	struct hb_err err;

	if (hb_trust_new(o, &t, &err) != 0)
		fail_msg("%s", err.text);
	return (t);
}

static struct hb_verdict
judge_at(const struct hb_trust *t, const struct hb_test_cert *a, const struct hb_test_cert *b,
	enum hb_purpose purpose, int64_t now)
{
	CRYPTO_BUFFER *chain[2] = { der(a), b == NULL ? NULL : der(b) };
	struct hb_verdict v = hb_trust_verify(t, chain, b == NULL ? 1 : 2, purpose, now);

	CRYPTO_BUFFER_free(chain[0]);
	CRYPTO_BUFFER_free(chain[1]);
	return (v);
}

static struct hb_verdict
judge(const struct hb_trust *t, const struct hb_test_cert *a, const struct hb_test_cert *b)
{
	return (judge_at(t, a, b, HB_PURPOSE_CLIENT, (int64_t)time(NULL)));
}

static void
test_trust__chains(void **state)
{
	struct hb_trust_options o = { .pem = hb_str(root->pem) };
	struct hb_trust *t = trust(&o);
	struct hb_test_cert *foreign = hb_test_leaf(other, ID), *alone = hb_test_root("alone");
	struct hb_verdict v;

	assert_int_equal(judge(t, leaf, NULL).error, 0);
	assert_null(judge(t, leaf, NULL).text);
	assert_int_equal(judge(t, chained, inter).error, 0);
	v = judge(t, chained, NULL);
	assert_int_equal(v.error, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY);
	assert_non_null(v.text);
	assert_int_not_equal(judge(t, foreign, NULL).error, 0);
	assert_int_not_equal(judge(t, foreign, other).error, 0);
	assert_int_not_equal(judge(t, alone, NULL).error, 0);
	hb_test_cert_free(&foreign);
	hb_test_cert_free(&alone);
	hb_trust_free(&t);
}

static void
test_trust__intermediate_as_anchor(void **state)
{
	struct hb_trust_options o = { .pem = hb_str(inter->pem) };
	struct hb_trust *t = trust(&o);

	assert_int_equal(judge(t, chained, NULL).error, 0);
	assert_int_not_equal(judge(t, leaf, NULL).error, 0);
	hb_trust_free(&t);
	o.pem = hb_str(leaf->pem);
	t = trust(&o);
	assert_int_equal(judge(t, leaf, NULL).error, 0);
	assert_int_not_equal(judge(t, chained, inter).error, 0);
	hb_trust_free(&t);
}

static void
test_trust__bundle(void **state)
{
	char *both = hb_asprintf("%s\n# second\n%s", other->pem, root->pem);
	struct hb_trust_options o = { .pem = hb_str(both) };
	struct hb_trust *t = trust(&o);
	struct hb_test_cert *foreign = hb_test_leaf(other, ID);
	const struct hb_cert_info *const *info;
	CRYPTO_BUFFER *names[4];
	size_t i, n;

	assert_int_equal(judge(t, leaf, NULL).error, 0);
	assert_int_equal(judge(t, foreign, NULL).error, 0);
	assert_int_equal(hb_trust_info(t, &info), 2);
	assert_string_equal(info[1]->subject, "CN=cluster.local");
	n = hb_trust_names(t, names, 4);
	assert_int_equal(n, 2);
	for (i = 0; i < n; i++) {
		assert_true(CRYPTO_BUFFER_len(names[i]) > 0);
		CRYPTO_BUFFER_free(names[i]);
	}
	hb_test_cert_free(&foreign);
	hb_trust_free(&t);
	hb_free(both);
}

static void
test_trust__dates(void **state)
{
	struct hb_test_cert_options c = {
		.issuer = root, .sans = ID, .from_s = -48 * HOUR, .to_s = -24 * HOUR
	};
	struct hb_test_cert *expired = hb_test_cert_new(&c), *early;
	struct hb_trust_options o = { .pem = hb_str(root->pem) };
	struct hb_trust *t = trust(&o);
	int64_t now = (int64_t)time(NULL);

	c.from_s = 24 * HOUR;
	c.to_s = 48 * HOUR;
	early = hb_test_cert_new(&c);
	assert_int_equal(judge(t, expired, NULL).error, X509_V_ERR_CERT_HAS_EXPIRED);
	assert_int_equal(judge(t, early, NULL).error, X509_V_ERR_CERT_NOT_YET_VALID);
	/* The time is the one that is given. */
	assert_int_equal(judge_at(t, early, NULL, HB_PURPOSE_CLIENT, now + 30 * HOUR).error, 0);
	hb_trust_free(&t);
	o.allow_expired = true;
	t = trust(&o);
	assert_int_equal(judge(t, expired, NULL).error, 0);
	assert_int_equal(judge(t, early, NULL).error, 0);
	hb_trust_free(&t);
	hb_test_cert_free(&expired);
	hb_test_cert_free(&early);
}

static void
test_trust__purpose(void **state)
{
	struct hb_test_cert_options c = { .issuer = root, .sans = ID, .eku = HB_TEST_EKU_SERVER };
	struct hb_test_cert *server = hb_test_cert_new(&c), *client, *any;
	struct hb_trust_options o = { .pem = hb_str(root->pem) };
	struct hb_trust *t = trust(&o);
	int64_t now = (int64_t)time(NULL);

	c.eku = HB_TEST_EKU_CLIENT;
	client = hb_test_cert_new(&c);
	c.eku = HB_TEST_EKU_NONE;
	any = hb_test_cert_new(&c);
	assert_int_equal(judge_at(t, server, NULL, HB_PURPOSE_CLIENT, now).error,
		X509_V_ERR_INVALID_PURPOSE);
	assert_int_equal(judge_at(t, server, NULL, HB_PURPOSE_SERVER, now).error, 0);
	assert_int_equal(judge_at(t, client, NULL, HB_PURPOSE_CLIENT, now).error, 0);
	assert_int_equal(judge_at(t, client, NULL, HB_PURPOSE_SERVER, now).error,
		X509_V_ERR_INVALID_PURPOSE);
	assert_int_equal(judge_at(t, any, NULL, HB_PURPOSE_CLIENT, now).error, 0);
	assert_int_equal(judge_at(t, any, NULL, HB_PURPOSE_SERVER, now).error, 0);
	hb_trust_free(&t);
	hb_test_cert_free(&server);
	hb_test_cert_free(&client);
	hb_test_cert_free(&any);
}

static void
test_trust__leaf_signs_nothing(void **state)
{
	struct hb_test_cert *forged = hb_test_leaf(leaf, ID);
	struct hb_test_cert_options c = { .issuer = inter, .cn = "below", .ca = true };
	struct hb_test_cert *below = hb_test_cert_new(&c);
	struct hb_trust_options o = { .pem = hb_str(root->pem) };
	struct hb_trust *t = trust(&o);
	CRYPTO_BUFFER *chain[3];
	struct hb_test_cert *deep = hb_test_leaf(below, ID);
	unsigned i;

	assert_int_not_equal(judge(t, forged, leaf).error, 0);
	/* The intermediate's path length is 0. */
	chain[0] = der(deep);
	chain[1] = der(below);
	chain[2] = der(inter);
	assert_int_equal(hb_trust_verify(t, chain, 3, HB_PURPOSE_CLIENT, (int64_t)time(NULL)).error,
		X509_V_ERR_PATH_LENGTH_EXCEEDED);
	for (i = 0; i < 3; i++)
		CRYPTO_BUFFER_free(chain[i]);
	hb_trust_free(&t);
	hb_test_cert_free(&forged);
	hb_test_cert_free(&below);
	hb_test_cert_free(&deep);
}

static void
test_trust__depth(void **state)
{
	struct hb_test_cert_options c = { .cn = "i", .ca = true, .pathlen = -1, .issuer = root };
	struct hb_test_cert *a = hb_test_cert_new(&c), *b, *deep;
	struct hb_trust_options o = { .pem = hb_str(root->pem), .max_depth = 1 };
	struct hb_trust *t = trust(&o);
	CRYPTO_BUFFER *chain[3];
	unsigned i;

	c.issuer = a;
	c.cn = "j";
	b = hb_test_cert_new(&c);
	deep = hb_test_leaf(b, ID);
	chain[0] = der(deep);
	chain[1] = der(b);
	chain[2] = der(a);
	assert_int_equal(judge(t, leaf, NULL).error, 0);
	assert_int_equal(judge(t, chained, inter).error, X509_V_ERR_CERT_CHAIN_TOO_LONG);
	hb_trust_free(&t);
	o.max_depth = 2;
	t = trust(&o);
	assert_int_equal(judge(t, chained, inter).error, 0);
	assert_int_equal(hb_trust_verify(t, chain, 3, HB_PURPOSE_CLIENT, (int64_t)time(NULL)).error,
		X509_V_ERR_CERT_CHAIN_TOO_LONG);
	hb_trust_free(&t);
	o.max_depth = 3;
	t = trust(&o);
	assert_int_equal(
		hb_trust_verify(t, chain, 3, HB_PURPOSE_CLIENT, (int64_t)time(NULL)).error, 0);
	for (i = 0; i < 3; i++)
		CRYPTO_BUFFER_free(chain[i]);
	hb_trust_free(&t);
	hb_test_cert_free(&a);
	hb_test_cert_free(&b);
	hb_test_cert_free(&deep);
}

static void
test_trust__revoked(void **state)
{
	struct hb_test_cert *second = hb_test_leaf(root, ID);
	char *crl = hb_test_crl(root, leaf);
	struct hb_trust_options o = { .pem = hb_str(root->pem), .crl_pem = hb_str(crl) };
	struct hb_trust *t = trust(&o);

	assert_int_equal(judge(t, leaf, NULL).error, X509_V_ERR_CERT_REVOKED);
	assert_int_equal(judge(t, second, NULL).error, 0);
	/* The intermediate's list is missing. */
	assert_int_equal(judge(t, chained, inter).error, X509_V_ERR_UNABLE_TO_GET_CRL);
	hb_trust_free(&t);
	hb_free(crl);
	crl = hb_test_crl(inter, NULL);
	o.crl_pem = hb_str(crl);
	t = trust(&o);
	assert_int_equal(judge(t, chained, inter).error, X509_V_ERR_UNABLE_TO_GET_CRL);
	hb_trust_free(&t);
	o.crl_leaf_only = true;
	t = trust(&o);
	assert_int_equal(judge(t, chained, inter).error, 0);
	hb_trust_free(&t);
	hb_free(crl);
	hb_test_cert_free(&second);
}

/* DER, one list after the other, and when the first is due. */
static void
test_trust__der_lists(void **state)
{
	char *crls[2] = { hb_test_crl(root, NULL), hb_test_crl(other, leaf) };
	struct hb_trust_options o = { .pem = hb_str(root->pem), .crl_file = "lists.der" };
	struct hb_trust *t = trust(&o), *none = NULL;
	struct hb_text text = { 0 };
	struct hb_err err;
	unsigned i;

	assert_true(hb_trust_crl_due(t) == INT64_MAX);
	hb_trust_free(&t);
	for (i = 0; i < HB_ARRAY_LEN(crls); i++) {
		BIO *bio = BIO_new_mem_buf(crls[i], -1);
		X509_CRL *crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);
		uint8_t *p = NULL;
		int n = i2d_X509_CRL(crl, &p);

		hb_text_add(&text, p, (size_t)n);
		OPENSSL_free(p);
		X509_CRL_free(crl);
		BIO_free(bio);
		hb_free(crls[i]);
	}
	o.crl_pem = hb_strn(text.p, text.len);
	t = trust(&o);
	assert_int_equal(judge(t, leaf, NULL).error, 0);
	assert_true(hb_trust_crl_due(t) > time(NULL) && hb_trust_crl_due(t) < INT64_MAX);
	hb_trust_free(&t);
	for (i = 1; i < 40; i++) {
		o.crl_pem.len = text.len - i; /* cut in the second list */
		assert_int_equal(hb_trust_new(&o, &none, &err), -EINVAL);
		assert_non_null(strstr(err.text, "list 2 of lists.der cannot be read"));
	}
	hb_text_fini(&text);
}

/* A live connection outlives its certificate and an overdue list, not its revocation or its root. */
static void
test_trust__recheck(void **state)
{
	char *crl = hb_test_crl(root, NULL), *full = hb_test_crl(root, leaf);
	struct hb_trust_options o = { .pem = hb_str(root->pem), .crl_pem = hb_str(crl) };
	int64_t late = (int64_t)time(NULL) + 20LL * 365 * 24 * HOUR;
	CRYPTO_BUFFER *chain[1] = { der(leaf) };
	struct hb_trust *t = trust(&o);

	assert_int_not_equal(hb_trust_verify(t, chain, 1, HB_PURPOSE_CLIENT, late).error, 0);
	assert_int_equal(hb_trust_recheck(t, chain, 1, HB_PURPOSE_CLIENT, late).error, 0);
	hb_trust_free(&t);
	o.crl_pem = hb_str(full);
	t = trust(&o);
	assert_int_equal(hb_trust_recheck(t, chain, 1, HB_PURPOSE_CLIENT, late).error,
		X509_V_ERR_CERT_REVOKED);
	hb_trust_free(&t);
	o.pem = hb_str(other->pem);
	o.crl_pem = hb_str("");
	t = trust(&o);
	assert_int_not_equal(hb_trust_recheck(t, chain, 1, HB_PURPOSE_CLIENT, late).error, 0);
	hb_trust_free(&t);
	CRYPTO_BUFFER_free(chain[0]);
	hb_free(crl);
	hb_free(full);
}

static void
test_trust__shared(void **state)
{
	struct hb_trust_options o = { .pem = hb_str(root->pem) }, p = o, q = o;
	struct hb_trust *a, *b, *c, *d;
	struct hb_err err;

	q.pem = hb_str(other->pem);
	p.allow_expired = true;
	assert_int_equal(hb_trust_shared(&o, &a, &err), 0);
	assert_int_equal(hb_trust_shared(&o, &b, &err), 0);
	assert_int_equal(hb_trust_shared(&p, &c, &err), 0);
	assert_int_equal(hb_trust_shared(&q, &d, &err), 0);
	assert_ptr_equal(a, b);
	assert_true(a != c && a != d && c != d);
	hb_trust_free(&a);
	assert_int_equal(judge(b, leaf, NULL).error, 0);
	hb_trust_free(&b);
	hb_trust_free(&c);
	hb_trust_free(&d);
}

static void
test_trust__garbage(void **state)
{
	struct hb_trust_options o = { .pem = hb_str(root->pem) };
	struct hb_trust *t = trust(&o), *none = NULL;
	CRYPTO_BUFFER *chain[65];
	struct hb_err err;
	unsigned i;

	chain[0] = CRYPTO_BUFFER_new((const uint8_t *)"garbage", 7, NULL);
	assert_int_not_equal(hb_trust_verify(t, chain, 1, HB_PURPOSE_CLIENT, 0).error, 0);
	assert_int_not_equal(hb_trust_verify(t, chain, 0, HB_PURPOSE_CLIENT, 0).error, 0);
	CRYPTO_BUFFER_free(chain[0]);
	for (i = 0; i < HB_ARRAY_LEN(chain); i++)
		chain[i] = der(leaf);
	assert_int_equal(hb_trust_verify(t, chain, HB_ARRAY_LEN(chain), HB_PURPOSE_CLIENT,
				 (int64_t)time(NULL))
				 .error,
		X509_V_ERR_CERT_CHAIN_TOO_LONG);
	for (i = 0; i < HB_ARRAY_LEN(chain); i++)
		CRYPTO_BUFFER_free(chain[i]);
	hb_trust_free(&t);
	o.crl_pem = hb_str("not a list");
	assert_int_equal(hb_trust_new(&o, &none, &err), -EINVAL);
	assert_non_null(strstr(err.text, "holds no revocation list"));
	o.crl_pem = hb_str("");
	o.pem = hb_str("nothing");
	o.file = "roots.pem";
	assert_int_equal(hb_trust_new(&o, &none, &err), -EINVAL);
	assert_non_null(strstr(err.text, "roots.pem holds no PEM certificate"));
	assert_null(none);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trust__chains),
		cmocka_unit_test(test_trust__intermediate_as_anchor),
		cmocka_unit_test(test_trust__bundle),
		cmocka_unit_test(test_trust__dates),
		cmocka_unit_test(test_trust__purpose),
		cmocka_unit_test(test_trust__leaf_signs_nothing),
		cmocka_unit_test(test_trust__depth),
		cmocka_unit_test(test_trust__revoked),
		cmocka_unit_test(test_trust__der_lists),
		cmocka_unit_test(test_trust__recheck),
		cmocka_unit_test(test_trust__shared),
		cmocka_unit_test(test_trust__garbage),
	};

	return (cmocka_run_group_tests(tests, setup, teardown));
}

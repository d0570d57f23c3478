/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>
#include "core/identity/cert.h"
#include "test/support/certs/certs.h"

#define SPIFFE "spiffe://cluster.local/ns/default/sa/client"

static struct hb_test_cert *root;

static int
setup(void **state)
{
	root = hb_test_root("root");
	return (0);
}

static int
teardown(void **state)
{
	hb_test_cert_free(&root);
	return (0);
}

static int
load(const char *chain, const char *key, const char *password, struct hb_credential **ret,
	struct hb_err *err)
{
	struct hb_credential_pem pem = {
		.chain = hb_str(chain), .key = hb_str(key), .password = hb_str(password)
	};

	return (hb_credential_new(&pem, ret, err));
}

static void
load_fails(const char *chain, const char *key, const char *password, const char *words)
{
	struct hb_credential *c = NULL;
	struct hb_err err = { 0 };

	assert_int_equal(load(chain, key, password, &c, &err), -EINVAL);
	assert_null(c);
	if (strstr(err.text, words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

static void
test_cert__says(void **state)
{
	struct hb_test_cert *leaf = hb_test_leaf(root,
		"URI:" SPIFFE ",DNS:A.example,IP:10.0.0.1,"
		"IP:::1,email:x@y.example");
	struct hb_credential *c;
	const struct hb_cert_info *i;
	struct hb_err err;
	int64_t now = (int64_t)time(NULL);

	assert_int_equal(load(leaf->chain_pem, leaf->key_pem, NULL, &c, &err), 0);
	assert_int_equal(c->n, 1);
	assert_int_equal(c->type, HB_KEY_EC);
	i = c->info[0];
	assert_string_equal(i->subject, "");
	assert_string_equal(i->issuer, "CN=root");
	assert_true(strlen(i->serial) > 0);
	assert_int_equal(strlen(i->sha256), 64);
	assert_true(i->not_before <= now - 3600 && i->not_before > now - 3700);
	assert_true(i->not_after > now + 9ll * 365 * 86400);
	assert_int_equal(i->n_san, 5);
	assert_int_equal(i->san[0].type, HB_SAN_URI);
	assert_string_equal(i->san[0].value, SPIFFE);
	assert_int_equal(i->san[1].type, HB_SAN_DNS);
	assert_string_equal(i->san[1].value, "a.example");
	assert_int_equal(i->san[2].type, HB_SAN_IP);
	assert_string_equal(i->san[2].value, "10.0.0.1");
	assert_string_equal(i->san[3].value, "::1");
	assert_int_equal(i->san[4].type, HB_SAN_EMAIL);
	assert_string_equal(i->spiffe_id, SPIFFE);
	hb_credential_free(&c);
	hb_test_cert_free(&leaf);
}

static void
test_cert__key_forms(void **state)
{
	static const enum hb_test_key keys[] = { HB_TEST_P256, HB_TEST_P384, HB_TEST_RSA2048 };
	struct hb_test_cert_options o = { .issuer = root, .sans = "DNS:a.example" };
	struct hb_test_cert *leaf;
	struct hb_credential *c;
	struct hb_err err;
	unsigned k, form;
	char *key;

	for (k = 0; k < HB_ARRAY_LEN(keys); k++) {
		o.key = keys[k];
		leaf = hb_test_cert_new(&o);
		for (form = HB_TEST_KEY_PKCS8; form <= HB_TEST_KEY_TRADITIONAL_ENCRYPTED; form++) {
			bool secret = form == HB_TEST_KEY_PKCS8_ENCRYPTED ||
				form == HB_TEST_KEY_TRADITIONAL_ENCRYPTED;

			key = hb_test_key_pem(leaf, (enum hb_test_key_form)form, "sesame");
			if (load(leaf->pem, key, secret ? "sesame" : NULL, &c, &err) != 0)
				fail_msg("key %u form %u: %s", k, form, err.text);
			hb_credential_free(&c);
			if (secret) {
				load_fails(leaf->pem, key, NULL, "give its password");
				load_fails(leaf->pem, key, "wrong", "password is wrong");
			}
			hb_free(key);
		}
		hb_test_cert_free(&leaf);
	}
}

static void
test_cert__refused(void **state)
{
	struct hb_test_cert *a = hb_test_leaf(root, "DNS:a.example");
	struct hb_test_cert *b = hb_test_leaf(root, "DNS:b.example");
	struct hb_test_cert_options o = { .issuer = root, .key = HB_TEST_RSA1024 };
	struct hb_test_cert *weak = hb_test_cert_new(&o), *ed;
	char *cut = hb_strndup(a->pem, strlen(a->pem) / 2);
	struct hb_text many = { 0 };
	unsigned i;

	load_fails("", a->key_pem, NULL, "holds no PEM certificate");
	load_fails("hello", a->key_pem, NULL, "holds no PEM certificate");
	load_fails(cut, a->key_pem, NULL, "certificate 1");
	load_fails(a->pem, "", NULL, "is empty");
	load_fails(a->pem, a->pem, NULL, "holds no PEM private key");
	load_fails(a->pem, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", NULL,
		"cannot be read");
	load_fails(a->pem, b->key_pem, NULL, "does not belong");
	load_fails(weak->pem, weak->key_pem, NULL, "at least 2048");
	o.key = HB_TEST_ED25519;
	ed = hb_test_cert_new(&o);
	load_fails(ed->pem, ed->key_pem, NULL, "not supported");
	for (i = 0; i <= HB_CHAIN_MAX; i++)
		hb_text_addz(&many, a->pem);
	load_fails(many.p, a->key_pem, NULL, "more than 32");
	hb_text_fini(&many);
	hb_free(cut);
	hb_test_cert_free(&a);
	hb_test_cert_free(&b);
	hb_test_cert_free(&weak);
	hb_test_cert_free(&ed);
}

static void
test_cert__too_many_names(void **state)
{
	struct hb_test_cert *leaf;
	struct hb_text sans = { 0 };
	struct hb_credential *c;
	struct hb_err err;
	unsigned i;

	for (i = 0; i < HB_SANS_MAX; i++)
		hb_text_printf(&sans, "%sDNS:n%u.example", i == 0 ? "" : ",", i);
	leaf = hb_test_leaf(root, sans.p);
	assert_int_equal(load(leaf->pem, leaf->key_pem, NULL, &c, &err), 0);
	assert_int_equal(c->info[0]->n_san, HB_SANS_MAX);
	hb_credential_free(&c);
	hb_test_cert_free(&leaf);
	hb_text_addz(&sans, ",DNS:last.example");
	leaf = hb_test_leaf(root, sans.p);
	load_fails(leaf->pem, leaf->key_pem, NULL, "more than 256");
	hb_test_cert_free(&leaf);
	hb_text_fini(&sans);
	leaf = hb_test_leaf(root, "DNS:a b.example");
	load_fails(leaf->pem, leaf->key_pem, NULL, "illegal value");
	hb_test_cert_free(&leaf);
}

static void
test_cert__fits(void **state)
{
	struct hb_test_cert *leaf = hb_test_leaf(root, "DNS:a.example,DNS:*.b.example,URI:" SPIFFE);
	struct hb_credential *c;
	struct hb_err err;

	assert_int_equal(load(leaf->pem, leaf->key_pem, NULL, &c, &err), 0);
	assert_int_equal(hb_credential_fits(c, hb_str("a.example")), 2);
	assert_int_equal(hb_credential_fits(c, hb_str("A.EXAMPLE")), 2);
	assert_int_equal(hb_credential_fits(c, hb_str("x.b.example")), 1);
	assert_int_equal(hb_credential_fits(c, hb_str("x.y.b.example")), 0);
	assert_int_equal(hb_credential_fits(c, hb_str("b.example")), 0);
	assert_int_equal(hb_credential_fits(c, hb_str(".b.example")), 0);
	assert_int_equal(hb_credential_fits(c, hb_str("aa.example")), 0);
	assert_int_equal(hb_credential_fits(c, hb_str("")), 0);
	hb_credential_free(&c);
	hb_test_cert_free(&leaf);
}

static bool
equals(const void *arg, struct hb_str value)
{
	return (hb_str_eq(hb_str(arg), value));
}

static void
test_cert__san_any(void **state)
{
	static const struct {
		const char *sans;
		bool uri, id;
	} cases[] = {
		{ "URI:" SPIFFE, true, true },
		{ "DNS:x,URI:" SPIFFE, true, true },
		{ "URI:" SPIFFE ",URI:spiffe://cluster.local/ns/default/sa/admin", false, false },
		{ "URI:https://a.example/,URI:" SPIFFE, false, false },
		{ "URI:https://a.example/", false, false },
		{ "DNS:" SPIFFE, false, false },
		{ NULL, false, false },
	};
	struct hb_test_cert *leaf;
	struct hb_credential *c;
	struct hb_err err;
	unsigned i;

	for (i = 0; i < HB_ARRAY_LEN(cases); i++) {
		leaf = hb_test_leaf(root, cases[i].sans);
		assert_int_equal(load(leaf->pem, leaf->key_pem, NULL, &c, &err), 0);
		assert_int_equal(
			hb_cert_san_any(c->info[0], HB_SAN_URI, equals, SPIFFE), cases[i].uri);
		assert_int_equal(c->info[0]->spiffe_id != NULL, cases[i].id);
		hb_credential_free(&c);
		hb_test_cert_free(&leaf);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cert__says),
		cmocka_unit_test(test_cert__key_forms),
		cmocka_unit_test(test_cert__refused),
		cmocka_unit_test(test_cert__too_many_names),
		cmocka_unit_test(test_cert__fits),
		cmocka_unit_test(test_cert__san_any),
	};

	return (cmocka_run_group_tests(tests, setup, teardown));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>
#include "core/identity/search.h"
#include "test/core/identity/folder.h"

static void
test_search__directory(void **state)
{
	struct hb_identity_paths p;
	struct folder f;
	struct hb_err err;

	folder_init(&f);
	assert_int_equal(hb_identity_search(f.path, &p, &err), -ENOENT);
	assert_non_null(strstr(err.text, f.path));
	folder_write(&f, "tls.crt", "");
	assert_int_equal(hb_identity_search(f.path, &p, &err), -ENOENT);
	folder_write(&f, "tls.key", "");
	assert_int_equal(hb_identity_search(f.path, &p, &err), 0);
	assert_string_equal(p.chain, folder_at(&f, "tls.crt"));
	assert_string_equal(p.key, folder_at(&f, "tls.key"));
	assert_null(p.roots);
	hb_identity_paths_fini(&p);
	folder_write(&f, "ca.crt", "");
	folder_write(&f, "ca-crl.pem", "");
	assert_int_equal(hb_identity_search(folder_at(&f, ""), &p, &err), 0);
	assert_string_equal(p.roots, folder_at(&f, "ca.crt"));
	assert_string_equal(p.crl, folder_at(&f, "ca-crl.pem"));
	hb_identity_paths_fini(&p);
	/* Istio's names go first, and pairs are not mixed. */
	folder_write(&f, "key.pem", "");
	folder_write(&f, "root-cert.pem", "");
	assert_int_equal(hb_identity_search(f.path, &p, &err), 0);
	assert_string_equal(p.key, folder_at(&f, "tls.key"));
	hb_identity_paths_fini(&p);
	folder_write(&f, "cert-chain.pem", "");
	assert_int_equal(hb_identity_search(f.path, &p, &err), 0);
	assert_string_equal(p.chain, folder_at(&f, "cert-chain.pem"));
	assert_string_equal(p.roots, folder_at(&f, "root-cert.pem"));
	hb_identity_paths_fini(&p);
	folder_fini(&f);
}

static void
test_search__usual_places(void **state)
{
	struct hb_identity_paths p;
	struct folder f;
	struct hb_err err;
	char back[1024];

	folder_init(&f);
	assert_non_null(getcwd(back, sizeof back));
	assert_int_equal(chdir(f.path), 0);
	folder_write(&f, "key.pem", "");
	folder_write(&f, "cert-chain.pem", "");
	assert_int_equal(hb_identity_search(NULL, &p, &err), 0);
	assert_string_equal(p.chain, "cert-chain.pem");
	assert_string_equal(p.key, "key.pem");
	assert_null(p.roots);
	hb_identity_paths_fini(&p);
	folder_mkdir(&f, "var");
	folder_mkdir(&f, "var/run");
	folder_mkdir(&f, "var/run/secrets");
	folder_mkdir(&f, "var/run/secrets/istio");
	folder_write(&f, "var/run/secrets/istio/root-cert.pem", "");
	assert_int_equal(hb_identity_search("", &p, &err), 0);
	assert_string_equal(p.roots, "./var/run/secrets/istio/root-cert.pem");
	hb_identity_paths_fini(&p);
	assert_int_equal(chdir(back), 0);
	folder_fini(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_search__directory),
		cmocka_unit_test(test_search__usual_places),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

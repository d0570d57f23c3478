/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <cmocka.h>
#include "core/base/log.h"
#include "core/identity/expiry.h"
#include "test/support/certs/certs.h"

#define DAY 86400

static char last[4096];
static unsigned lines;
static struct hb_test_cert *root;

static void
keep_line(void *arg, const char *line)
{
	(void)arg;
	(void)snprintf(last, sizeof last, "%s", line);
	lines++;
}

static int
setup(void **state)
{
	root = hb_test_root("root");
	hb_log_capture(keep_line, NULL);
	return (0);
}

static int
teardown(void **state)
{
	hb_log_capture(NULL, NULL);
	hb_test_cert_free(&root);
	return (0);
}

static struct hb_credential *
lives(int64_t days)
{
	struct hb_test_cert_options o = {
		.issuer = root, .sans = "URI:spiffe://a/ns/b/sa/c", .from_s = 0, .to_s = days * DAY
	};
	struct hb_test_cert *c;
	struct hb_credential_pem pem;
	struct hb_credential *cred;

	o.from_s = -1; /* both 0 would be the default dates */
	c = hb_test_cert_new(&o);
	pem = (struct hb_credential_pem){ .chain = hb_str(c->chain_pem),
		.key = hb_str(c->key_pem) };
	assert_int_equal(hb_credential_shared(&pem, &cred, NULL), 0);
	hb_test_cert_free(&c);
	return (cred);
}

/* Says this at `at`, and only once. */
static void
says(int64_t at, const char *what)
{
	unsigned before = lines;

	hb_identity_check_expiry(at);
	assert_int_equal(lines, before + 1);
	if (strstr(last, what) == NULL)
		fail_msg("%s", last);
	hb_identity_check_expiry(at + 60);
	assert_int_equal(lines, before + 1);
}

static void
silent(int64_t at)
{
	unsigned before = lines;

	hb_identity_check_expiry(at);
	if (lines != before)
		fail_msg("%s", last);
}

static void
test_expiry__warnings(void **state)
{
	struct hb_credential *c = lives(365);
	int64_t now = (int64_t)time(NULL);

	assert_true(hb_identity_first_expiry() == INT64_MAX);
	assert_int_equal(hb_identity_days_left(now), UINT32_MAX);
	hb_credential_serves(c, true);
	assert_int_equal(
		hb_identity_days_left(now), 364 + (c->info[0]->not_after - now == 365 * DAY));
	silent(now);
	silent(now + 290 * DAY);
	says(now + 293 * DAY, "past 80 %");
	silent(now + 334 * DAY);
	says(now + 336 * DAY, "expires soon");
	says(now + 359 * DAY, "expires soon");
	says(now + 364 * DAY + 3600, "expires soon");
	assert_int_equal(hb_identity_expired(now + 364 * DAY), 0);
	says(now + 366 * DAY, "has expired");
	assert_int_equal(hb_identity_expired(now + 366 * DAY), 1);
	assert_int_equal(hb_identity_days_left(now + 366 * DAY), 0);
	hb_credential_serves(c, false);
	/* Replaced: what old connections keep is no reason to worry. */
	assert_int_equal(hb_identity_expired(now + 366 * DAY), 0);
	hb_credential_free(&c);
}

/* A certificate of one day is late after 80 % of it, and not because it ends tomorrow. */
static void
test_expiry__short_lives(void **state)
{
	struct hb_credential *c = lives(1), *later = lives(10);
	int64_t now = (int64_t)time(NULL);

	hb_credential_serves(c, true);
	hb_credential_serves(c, true);
	hb_credential_serves(later, true);
	assert_true(hb_identity_first_expiry() == c->info[0]->not_after);
	silent(now + DAY / 2);
	says(now + DAY * 9 / 10, "past 80 %");
	hb_credential_serves(c, false);
	says(now + DAY + 60, "has expired");
	hb_credential_serves(c, false);
	assert_true(hb_identity_first_expiry() == later->info[0]->not_after);
	hb_credential_serves(later, false);
	hb_credential_free(&c);
	hb_credential_free(&later);
}

static void
test_expiry__revocation_list(void **state)
{
	char *crl = hb_test_crl(root, NULL);
	struct hb_trust_options o = { .pem = hb_str(root->pem), .crl_pem = hb_str(crl) };
	struct hb_trust *t;
	int64_t due;

	assert_int_equal(hb_trust_shared(&o, &t, NULL), 0);
	due = hb_trust_crl_due(t);
	hb_trust_serves(t, true);
	silent(due - 1);
	says(due + 3600, "a revocation list is overdue");
	silent(due + DAY);
	says(due + DAY + 7200, "hours_overdue=26");
	hb_trust_serves(t, false);
	hb_trust_free(&t);
	hb_free(crl);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_expiry__warnings),
		cmocka_unit_test(test_expiry__short_lives),
		cmocka_unit_test(test_expiry__revocation_list),
	};

	return (cmocka_run_group_tests(tests, setup, teardown));
}

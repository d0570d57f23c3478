/* SPDX-License-Identifier: Apache-2.0 */
/* Random chains and connections: the tree, its explanation and a naive matcher agree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "test/core/match/chain_case.h"

#define ROUNDS 4000u

static const char *const dports[] = { "80", "443" };
static const char *const prefixes[] = { "0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24",
	"10.1.2.3/32", "127.0.0.0/8", "::/0", "fd00::/8", "fd00:1::/32", "255.255.255.255/32",
	"::ffff:10.1.0.0/112", "192.168.0.0/17" };
static const char *const addrs[] = { "10.1.2.3", "10.1.2.4", "10.1.9.9", "10.9.9.9", "127.0.0.1",
	"192.168.127.255", "192.168.128.0", "8.8.8.8", "[fd00:1::1]", "[fd00:2::1]",
	"[2001:db8::1]", "[::1]", "/run/x.sock" };
static const char *const names[] = { "a.com", "*.com", "b.a.com", "*.a.com", "*.b.a.com",
	"c.b.a.com", "A.ORG", "*.org", "com" };
static const char *const snis[] = { "", "a.com", "b.a.com", "c.b.a.com", "x.c.b.a.com", "com",
	".com", "a.org", "x.a.org.", "net", ".a.com", "a.com." };
static const char *const alpns[] = { "h2", "http/1.1", "istio", "istio-h2" };
static const char *const transports[] = { "tls", "raw_buffer" };
static const char *const types[] = { "local", "external" };
static const char *const sports[] = { "1000", "2000", "3000" };

static unsigned
pick(unsigned n)
{
	return ((unsigned)(hb_random() % n));
}

/* With the chance of one in `odds`, " key=" and up to three of the values. */
static void
add_list(struct hb_text *t, const char *key, const char *const *v, unsigned n, unsigned odds,
	unsigned max)
{
	unsigned count = 1 + pick(max);

	if (pick(odds) != 0)
		return;
	hb_text_printf(t, " %s=", key);
	for (unsigned i = 0; i < count; i++)
		hb_text_printf(t, "%s%s", i == 0 ? "" : ",", v[pick(n)]);
}

#define LIST(t, key, v, odds, max) add_list(t, key, v, HB_ARRAY_LEN(v), odds, max)

static void
add_chain(struct hb_text *t, unsigned i)
{
	hb_text_printf(t, "chain c%u", i);
	LIST(t, "dport", dports, 4, 1);
	LIST(t, "dst", prefixes, 3, 3);
	LIST(t, "sni", names, 2, 3);
	LIST(t, "transport", transports, 4, 1);
	LIST(t, "alpn", alpns, 3, 3);
	LIST(t, "direct", prefixes, 6, 2);
	LIST(t, "type", types, 4, 1);
	LIST(t, "source", prefixes, 3, 3);
	LIST(t, "sport", sports, 5, 2);
	hb_text_addc(t, '\n');
}

static void
add_conn(struct hb_text *t)
{
	hb_text_printf(t, "conn local=%s:%s remote=%s:%s direct=%s:%s",
		addrs[pick(HB_ARRAY_LEN(addrs))], pick(4) == 0 ? "25" : dports[pick(2)],
		addrs[pick(HB_ARRAY_LEN(addrs))], sports[pick(HB_ARRAY_LEN(sports))],
		addrs[pick(HB_ARRAY_LEN(addrs))], sports[pick(HB_ARRAY_LEN(sports))]);
	hb_text_printf(t, " sni=%s", snis[pick(HB_ARRAY_LEN(snis))]);
	LIST(t, "transport", transports, 1, 1);
	LIST(t, "alpn", alpns, 1, 3);
	hb_text_addc(t, '\n');
}

static void
ignore_line(void *arg, const char *subject, const char *verdict, const char *why)
{
	(void)arg;
	assert_non_null(subject);
	assert_non_null(verdict);
	assert_true(*why != '\0');
}

/* Throws out chains that overlap an earlier one; returns whether there were any. */
static bool
drop_overlaps(struct chain_case *c)
{
	unsigned kept = 0, all = c->n_chains;

	for (unsigned i = 0; i < all; i++) {
		bool overlaps = false;

		for (unsigned j = 0; j < kept && !overlaps; j++)
			overlaps = chain_case_overlap(c, i, j);
		if (!overlaps)
			c->chains[kept++] = c->chains[i];
	}
	c->n_chains = kept;
	return (kept < all);
}

static void
compare(const struct chain_case *c, const struct hb_chain_match *m, unsigned *hits)
{
	const struct hb_explain_sink sink = { .line = ignore_line };

	for (unsigned i = 0; i < c->n_conns; i++) {
		int naive = chain_case_naive(c, &c->conns[i]);

		assert_int_equal(hb_chain_match_find(m, &c->conns[i]), naive);
		assert_int_equal(hb_chain_match_explain(m, &c->conns[i], &sink), naive);
		*hits += naive >= 0;
	}
}

static void
test_random(void **state)
{
	unsigned hits = 0, refused = 0;

	(void)state;
	hb_random_seed(20260801);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct hb_cfg *cfg = hb_cfg_new("random", NULL);
		struct hb_text text = { 0 };
		struct hb_chain_match *m;
		struct chain_case c;
		unsigned n = 1 + pick(round % 2 == 0 ? 6 : 40);

		for (unsigned i = 0; i < n; i++)
			add_chain(&text, i);
		for (unsigned i = 0; i < 40; i++)
			add_conn(&text);
		chain_case_parse(&c, hb_strn(text.p, text.len));
		m = chain_case_compile(&c, cfg);
		if (drop_overlaps(&c)) {
			assert_null(m);
			assert_true(hb_errs_any(hb_cfg_errs(cfg)));
			refused++;
			m = chain_case_compile(&c, cfg);
		}
		assert_non_null(m);
		compare(&c, m, &hits);
		hb_chain_match_free(&m);
		chain_case_fini(&c);
		hb_text_fini(&text);
		hb_cfg_free(&cfg);
	}
	/* Both kinds of answers must have been common, or nothing was tested. */
	assert_true(hits > ROUNDS * 40 / 10 && hits < ROUNDS * 40 / 10 * 9);
	assert_true(refused > ROUNDS / 20);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <cmocka.h>

#include "core/match/chain_priv.h"
#include "test/core/match/chain_case.h"

static struct hb_cfg *cfg;
static struct hb_chain_match *match;
static struct chain_case chains;

static int
setup(void **state)
{
	(void)state;
	cfg = hb_cfg_new("test", NULL);
	return (0);
}

static int
teardown(void **state)
{
	(void)state;
	hb_chain_match_free(&match);
	chain_case_fini(&chains);
	hb_cfg_free(&cfg);
	return (0);
}

static void
compile(const char *text)
{
	chain_case_parse(&chains, hb_str(text));
	match = chain_case_compile(&chains, cfg);
	for (size_t i = 0; i < hb_cfg_errs(cfg)->n; i++)
		print_message("%s\n", hb_cfg_errs(cfg)->v[i].text);
	assert_non_null(match);
}

static void
count_lines(void *arg, const char *subject, const char *verdict, const char *why)
{
	(void)subject, (void)verdict, (void)why;
	(*(unsigned *)arg)++;
}

/* The name of the chain that takes this connection, "none" when no one does. */
static const char *
find(const char *conn)
{
	struct hb_explain_sink sink = { .line = count_lines };
	unsigned lines = 0;
	struct chain_case c;
	char line[512];
	int chain;

	sink.arg = &lines;
	(void)snprintf(line, sizeof line, "conn %s", conn);
	chain_case_parse(&c, hb_str(line));
	chain = hb_chain_match_find(match, &c.conns[0]);
	assert_int_equal(chain, chain_case_naive(&chains, &c.conns[0]));
	assert_int_equal(chain, hb_chain_match_explain(match, &c.conns[0], &sink));
	assert_true(lines > 0);
	chain_case_fini(&c);
	return (chain < 0 ? "none" : chains.names[chain]);
}

#define FIND(conn, chain) assert_string_equal(find(conn), chain)

/* ------------------------------------------------------------------ level by level */

static void
test_port_0_only_without_subtree(void **state)
{
	(void)state;
	compile("chain p dport=443 dst=10.0.0.0/8\n"
		"chain any\n");
	FIND("local=10.0.0.1:443", "p");
	FIND("local=11.0.0.1:443", "none"); /* 443 has a subtree: no way back to `any` */
	FIND("local=11.0.0.1:80", "any");
	FIND("local=10.0.0.1:80", "any");
}

static void
test_longest_prefix(void **state)
{
	(void)state;
	compile("chain all\n"
		"chain wide dst=10.0.0.0/8\n"
		"chain narrow dst=10.1.0.0/16,192.168.0.0/16\n"
		"chain one dst=10.1.2.3/32 sport=7\n"
		"chain six dst=fd00::/8\n");
	FIND("local=10.9.9.9:1", "wide");
	FIND("local=10.1.9.9:1", "narrow");
	FIND("local=192.168.9.9:1", "narrow");
	FIND("local=10.1.2.3:1 remote=1.1.1.1:7", "one");
	FIND("local=10.1.2.3:1 remote=1.1.1.1:8", "none"); /* the /32 is final */
	FIND("local=11.1.1.1:1", "all");
	FIND("local=[fd00::1]:1", "six");
	FIND("local=[2001:db8::1]:1", "all"); /* no condition is 0.0.0.0/0 and ::/0 */
}

/* A v4-mapped destination is an IPv4 destination. */
static void
test_mapped_addresses(void **state)
{
	(void)state;
	compile("chain four dst=10.0.0.0/8\n"
		"chain six dst=::/0\n");
	FIND("local=[::ffff:10.0.0.1]:1", "four");
	FIND("local=[fd00::1]:1", "six");
	FIND("local=[::ffff:11.0.0.1]:1", "none");
}

static void
test_names(void **state)
{
	(void)state;
	compile("chain exact sni=www.example.com\n"
		"chain sub sni=*.example.com\n"
		"chain com sni=*.com\n"
		"chain upper sni=API.Example.ORG\n"
		"chain none\n");
	FIND("sni=www.example.com", "exact");
	FIND("sni=a.example.com", "sub");
	FIND("sni=a.b.c.example.com", "sub"); /* any depth */
	FIND("sni=example.com", "com");       /* but not the name itself */
	FIND("sni=com", "none");
	FIND("sni=x.com", "com");
	FIND("sni=api.example.org", "upper");
	FIND("sni=.com", "com"); /* no host name, but the very key of *.com */
	FIND("sni=example.net", "none");
	FIND("sni=", "none");
	FIND("local=1.1.1.1:1", "none");
}

static void
test_wildcard_is_not_the_name(void **state)
{
	(void)state;
	compile("chain sub sni=*.example.com\n");
	FIND("sni=example.com", "none");
	FIND("sni=a.example.com", "sub");
	FIND("sni=aexample.com", "none");
	FIND("sni=a.example.com.", "none");
}

static void
test_transport(void **state)
{
	(void)state;
	compile("chain tls transport=tls\n"
		"chain raw transport=raw_buffer sport=5\n"
		"chain any sport=6\n");
	FIND("transport=tls", "tls");
	FIND("transport=raw_buffer remote=1.1.1.1:5", "raw");
	FIND("remote=1.1.1.1:5", "raw");  /* nobody told: raw_buffer */
	FIND("remote=1.1.1.1:6", "none"); /* the raw_buffer branch is final */
	FIND("transport=quic remote=1.1.1.1:6", "any");
}

static void
test_protocols_in_client_order(void **state)
{
	(void)state;
	compile("chain h1 alpn=http/1.1\n"
		"chain h2 alpn=h2,istio\n"
		"chain any\n");
	FIND("alpn=h2,http/1.1", "h2");
	FIND("alpn=http/1.1,h2", "h1"); /* the client's order decides, not the chains' */
	FIND("alpn=foo,istio", "h2");
	FIND("alpn=H2", "any");
	FIND("alpn=foo", "any");
	FIND("sni=x", "any");
}

/* The first offered protocol that has an entry is final, also when a later one would do. */
static void
test_first_protocol_is_final(void **state)
{
	(void)state;
	compile("chain a alpn=h2 source=10.0.0.0/8\n"
		"chain b alpn=http/1.1\n");
	FIND("alpn=h2,http/1.1 remote=10.0.0.1:1", "a");
	FIND("alpn=h2,http/1.1 remote=11.0.0.1:1", "none");
	FIND("alpn=http/1.1 remote=11.0.0.1:1", "b");
}

/* The direct source is the socket's peer, the source what PROXY protocol told. */
static void
test_direct_source(void **state)
{
	(void)state;
	compile("chain lb direct=10.0.0.0/8 source=8.0.0.0/8\n"
		"chain lb2 direct=10.0.0.0/8\n"
		"chain any\n");
	FIND("direct=10.0.0.1:1 remote=8.8.8.8:1", "lb");
	FIND("direct=10.0.0.1:1 remote=9.9.9.9:1", "lb2");
	FIND("direct=8.8.8.8:1 remote=8.8.8.8:1", "any");
}

static void
test_source_type(void **state)
{
	(void)state;
	compile("chain local type=local\n"
		"chain external type=external source=10.0.0.0/8\n"
		"chain any\n");
	FIND("local=10.0.0.9:1 remote=127.0.0.1:5", "local");
	FIND("local=10.0.0.9:1 remote=[::1]:5", "local");
	FIND("local=10.0.0.9:1 remote=10.0.0.9:5", "local"); /* same IP */
	FIND("remote=/run/peer.sock", "local");
	FIND("local=10.0.0.9:1 remote=10.0.0.8:5", "external");
	FIND("local=10.0.0.9:1 remote=11.0.0.8:5", "none"); /* external is final */
}

static void
test_source_type_any(void **state)
{
	(void)state;
	compile("chain local type=local\n"
		"chain any\n");
	FIND("remote=127.0.0.1:5", "local");
	FIND("remote=8.8.8.8:5", "any");
}

static void
test_source_port(void **state)
{
	(void)state;
	compile("chain ports sport=1000,2000\n"
		"chain any\n");
	FIND("remote=1.1.1.1:1000", "ports");
	FIND("remote=1.1.1.1:2000", "ports");
	FIND("remote=1.1.1.1:3000", "any");
}

/* What is no IP address is 255.255.255.255 and has no port. */
static void
test_unix(void **state)
{
	(void)state;
	compile("chain port dport=80\n"
		"chain v4 dst=0.0.0.0/0 source=10.0.0.0/8\n"
		"chain everything source=0.0.0.0/0\n"
		"chain one dst=10.0.0.1/32\n");
	FIND("local=/run/a.sock remote=/run/b.sock", "everything");
	match = (hb_chain_match_free(&match), NULL);
	chain_case_fini(&chains);
	compile("chain six dst=::/0\n");
	FIND("local=/run/a.sock remote=/run/b.sock", "none");
	FIND("local=[::1]:1", "six");
}

/* ------------------------------------------------------------------ the known surprises */

/* envoyproxy/envoy#3471 */
static void
test_no_way_back_from_a_name(void **state)
{
	(void)state;
	compile("chain wild sni=*.com\n"
		"chain exact sni=example.com alpn=h2\n");
	FIND("sni=example.com alpn=http/1.1", "none");
	FIND("sni=example.com alpn=h2", "exact");
	FIND("sni=www.example.com alpn=http/1.1", "wild");
}

/* envoyproxy/envoy#7341 */
static void
test_no_way_back_from_a_port(void **state)
{
	(void)state;
	compile("chain foo dport=443 sni=*.foo.com\n"
		"chain all\n");
	FIND("local=10.0.0.1:443 sni=bar.com", "none");
	FIND("local=10.0.0.1:443 sni=a.foo.com", "foo");
	FIND("local=10.0.0.1:80 sni=bar.com", "all");
}

static void
test_no_chains(void **state)
{
	(void)state;
	match = hb_chain_match_new();
	assert_int_equal(hb_chain_match_freeze(match, cfg), 0);
	FIND("local=10.0.0.1:443", "none");
}

/* ------------------------------------------------------------------ what is refused */

static void
refused(const char *text, const char *why)
{
	size_t before = hb_cfg_errs(cfg)->n;
	bool found = false;

	chain_case_parse(&chains, hb_str(text));
	match = chain_case_compile(&chains, cfg);
	assert_null(match);
	for (size_t i = before; i < hb_cfg_errs(cfg)->n; i++)
		found = found || strstr(hb_cfg_errs(cfg)->v[i].text, why) != NULL;
	if (!found && hb_cfg_errs(cfg)->n > before)
		print_message("%s\n", hb_cfg_errs(cfg)->v[before].text);
	assert_true(found);
	chain_case_fini(&chains);
}

static void
test_refused(void **state)
{
	(void)state;
	refused("chain a sni=*\n", "is no server name");
	refused("chain a sni=*.\n", "is no server name");
	refused("chain a sni=www.*.com\n", "a wildcard may only be the first label");
	refused("chain a sni=*foo.com\n", "a wildcard may only be the first label");
	refused("chain a sni=*.*.com\n", "a wildcard may only be the first label");
	refused("chain a sni=a.com,,b.com\n", "is no server name");
	refused("chain a alpn=h2,,h3\n", "is empty");
	refused("chain a dport=0\n", "0 is not a port");
	refused("chain a dport=65536\n", "65536 is not a port");
	refused("chain a sport=70000\n", "70000 is not a port");
	refused("chain a dst=10.0.0.0/33\n", "more than the 32 bits");
	refused("chain a source=nowhere/8\n", "not an IP address");
	refused("chain a direct=10.0.0/8\n", "not an IP address");
	refused("chain one sni=a.com\nchain two sni=a.com\n",
		"filter chain \"two\" has the same match as filter chain \"one\"");
	refused("chain one\nchain two\n", "\"two\" has the same match as filter chain \"one\"");
	refused("chain one sni=a.com,b.com\nchain two sni=b.com,c.com\n",
		"filter chains \"one\" and \"two\" overlap: both would take connections with server_names "
		"b.com; make one of them more specific");
	refused("chain one sni=A.com\nchain two sni=a.com\n", "overlap");
	refused("chain one dst=10.1.2.3/8 alpn=h2\nchain two dst=10.0.0.0/8 alpn=h3,h2\n",
		"prefix_ranges 10.0.0.0/8, application_protocols h2");
	refused("chain one dst=0.0.0.0/0\nchain two\n", "overlap");
	refused("chain one sport=1,2\nchain two sport=2,3\n", "source_ports 2");
}

/* Nothing is gained by naming a key twice, and nothing is lost. */
static void
test_duplicates_in_one_list(void **state)
{
	(void)state;
	compile("chain a sni=a.com,A.com,a.com alpn=h2,h2 dst=10.0.0.0/8,10.1.0.0/8 sport=1,1\n"
		"chain b sni=a.com alpn=h3\n");
	FIND("local=10.0.0.1:1 remote=1.1.1.1:1 sni=a.com alpn=h2", "a");
	FIND("local=11.0.0.1:1 sni=a.com alpn=h3", "b");
}

/* Errors know the place in the file. */
static void
test_error_location(void **state)
{
	const char *yaml = "name: x\n"
			   "filter_chain_match:\n"
			   "  server_names:\n"
			   "  - ok.example.com\n"
			   "  - '*'\n"
			   "  prefix_ranges:\n"
			   "  - {address_prefix: 10.0.0.0, prefix_len: 40}\n";
	const Envoy__Config__Listener__V3__FilterChain *chain = (const void *)hb_cfg_parse_text(
		cfg, hb_str(yaml), &envoy__config__listener__v3__filter_chain__descriptor);
	const struct hb_errs *errs = hb_cfg_errs(cfg);

	(void)state;
	assert_non_null(chain);
	match = hb_chain_match_new();
	assert_int_equal(
		hb_chain_match_add(match, cfg, chain, chain->filter_chain_match, 0, chain->name),
		-EINVAL);
	assert_int_equal(errs->n, 2);
	assert_string_equal(errs->v[0].path, "filter_chain_match.prefix_ranges[0]");
	assert_int_equal(errs->v[0].line, 7);
	assert_string_equal(errs->v[1].path, "filter_chain_match.server_names[1]");
	assert_int_equal(errs->v[1].line, 5);
}

/* ------------------------------------------------------------------ explain */

struct lines {
	char text[8192];
	size_t n;
};

static void
collect(void *arg, const char *subject, const char *verdict, const char *why)
{
	struct lines *l = arg;
	int n = snprintf(
		l->text + l->n, sizeof l->text - l->n, "%s %s: %s\n", subject, verdict, why);

	l->n = HB_MIN(l->n + (size_t)n, sizeof l->text - 1);
}

static void
test_explain(void **state)
{
	struct lines l = { .n = 0 };
	struct hb_explain_sink sink = { .line = collect, .arg = &l };
	struct chain_case c;

	(void)state;
	compile("chain wild sni=*.com\n"
		"chain exact sni=example.com alpn=h2\n"
		"chain other sni=a.org,b.org dst=10.0.0.0/8\n"
		"chain rest dst=0.0.0.0/0 dport=80\n");
	chain_case_parse(&c, HB_STR("conn local=1.2.3.4:443 sni=example.com alpn=http/1.1,foo"));
	assert_int_equal(hb_chain_match_explain(match, &c.conns[0], &sink), -1);
	chain_case_fini(&c);
	assert_string_equal(l.text,
		"destination_port branch: the local port is 443: 3 of 4 chains left take it most "
		"specifically (any)\n"
		"rest lost: destination_port 80 does not match: the local port is 443\n"
		"prefix_ranges branch: the local address is 1.2.3.4: 2 of 3 chains left take it most "
		"specifically (any)\n"
		"other lost: prefix_ranges 10.0.0.0/8 does not match: the local address is 1.2.3.4\n"
		"server_names branch: the server name is \"example.com\": 1 of 2 chains left takes it most "
		"specifically (example.com)\n"
		"wild lost: server_names *.com matches too, but less specifically than example.com of "
		"\"exact\", and there is no way back\n"
		"application_protocols miss: the client offers \"http/1.1\",\"foo\": the one chain left wants "
		"something else\n"
		"exact lost: application_protocols h2 does not match: the client offers "
		"\"http/1.1\",\"foo\"\n"
		"filter_chain_match miss: no filter chain is left; default_filter_chain serves, else the "
		"connection is closed\n");
}

/* ------------------------------------------------------------------ size and speed */

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ((double)t.tv_sec + (double)t.tv_nsec / 1e9);
}

/* Like a gateway on 15443: one chain a service and port, each with the same five protocols. */
static void
test_ten_thousand_chains(void **state)
{
	static const char *const alpn[] = { "istio", "istio-peer-exchange", "istio-http/1.0",
		"istio-http/1.1", "istio-h2" };
	enum { N = 10000 };
	Envoy__Config__Listener__V3__FilterChainMatch msg;
	char name[80], *names[1] = { name };
	double start = seconds(), took;
	struct hb_facts f;

	(void)state;
	match = hb_chain_match_new();
	for (unsigned i = 0; i < N; i++) {
		envoy__config__listener__v3__filter_chain_match__init(&msg);
		(void)snprintf(
			name, sizeof name, "outbound_.%u_._.svc-%u.ns.svc.cluster.local", i % 7, i);
		msg.n_server_names = 1;
		msg.server_names = names;
		msg.n_application_protocols = HB_ARRAY_LEN(alpn);
		msg.application_protocols = (char **)(uintptr_t)alpn;
		assert_int_equal(hb_chain_match_add(match, cfg, NULL, &msg, i, name), 0);
	}
	assert_int_equal(hb_chain_match_freeze(match, cfg), 0);
	took = seconds() - start;
	hb_facts_init(&f);
	(void)hb_facts_alpn_add(&f, HB_STR("h2"));
	(void)hb_facts_alpn_add(&f, HB_STR("istio-h2"));
	start = seconds();
	for (unsigned i = 0; i < N; i++) {
		(void)snprintf(
			name, sizeof name, "outbound_.%u_._.svc-%u.ns.svc.cluster.local", i % 7, i);
		hb_facts_hello_edit(&f)->sni = hb_str(name);
		assert_int_equal(hb_chain_match_find(match, &f), i);
	}
	print_message(
		"10,000 chains: compiled in %.1f ms, %zu bytes and %zu nodes, %.0f ns a look-up\n",
		took * 1e3, hb_arena_used(&match->arena), match->n_nodes,
		(seconds() - start) / N * 1e9);
	hb_facts_hello_edit(&f)->n_alpn = 1;
	assert_int_equal(hb_chain_match_find(match, &f), -1);
	hb_facts_fini(&f);
	assert_true(match->n_nodes <= N + 1);
	assert_true(hb_arena_used(&match->arena) < (size_t)N * 512);
	assert_true(took < 5); /* a tenth of a second; sanitizers and busy machines are slower */
}

/* Lists that multiply are shared, not expanded: here 40 * 40 * 40 cases of two chains. */
static void
test_products_are_shared(void **state)
{
	struct hb_text t = { 0 };

	(void)state;
	for (unsigned chain = 0; chain < 2; chain++) {
		hb_text_printf(
			&t, "chain c%u type=%s dst=", chain, chain == 0 ? "local" : "external");
		for (unsigned i = 0; i < 40; i++)
			hb_text_printf(&t, "10.%u.0.0/16,", i);
		hb_text_addz(&t, " sni=x.com");
		for (unsigned i = 0; i < 40; i++)
			hb_text_printf(&t, ",n%u.com", i);
		hb_text_addz(&t, " alpn=h2");
		for (unsigned i = 0; i < 40; i++)
			hb_text_printf(&t, ",p%u", i);
		hb_text_addz(&t, "\n");
	}
	t.p[t.len - 1] = '\0';
	for (char *p; (p = strstr(t.p, ", ")) != NULL;)
		*p = ' ';
	compile(t.p);
	hb_text_fini(&t);
	assert_true(match->n_nodes < 10);
	FIND("local=10.39.1.1:1 sni=n39.com alpn=p39 remote=127.0.0.1:1", "c0");
	FIND("local=10.0.1.1:1 sni=n0.com alpn=p0 remote=10.0.0.7:1", "c1");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_port_0_only_without_subtree),
		TEST(test_longest_prefix),
		TEST(test_mapped_addresses),
		TEST(test_names),
		TEST(test_wildcard_is_not_the_name),
		TEST(test_transport),
		TEST(test_protocols_in_client_order),
		TEST(test_first_protocol_is_final),
		TEST(test_direct_source),
		TEST(test_source_type),
		TEST(test_source_type_any),
		TEST(test_source_port),
		TEST(test_unix),
		TEST(test_no_way_back_from_a_name),
		TEST(test_no_way_back_from_a_port),
		TEST(test_no_chains),
		TEST(test_refused),
		TEST(test_duplicates_in_one_list),
		TEST(test_error_location),
		TEST(test_explain),
		TEST(test_ten_thousand_chains),
		TEST(test_products_are_shared),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that rest. Every script below runs twice, with and without, over every wire; what both
 * sides saw, and what is known of the connection at its end, must be the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "core/filter/park_priv.h"
#include "core/stats/access_log.h"
#include "test/support/filter_harness.h"

extern const struct hb_filter_type hb_filter_tcp_proxy, hb_filter_rbac;

#define PROXY                                                                          \
	"- name: tcp\n"                                                                \
	"  typed_config: {\"@type\": "                                                 \
	"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, " \
	"stat_prefix: p, cluster: app, idle_timeout: 100s}\n"
#define RBAC                                                                                  \
	"- name: rbac\n"                                                                      \
	"  typed_config: {\"@type\": "                                                        \
	"type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, stat_prefix: r, " \
	"rules: {action: ALLOW, policies: {p: {permissions: [{any: true}], principals: [{any: true}]}}}}\n"

static struct hb_chain *chain;
static struct hbf h;
static bool rests; /* in this run */
static struct hb_text seen;

static struct hbt_sink *
up(void)
{
	return (&hbf_dialler.up[0]);
}

static struct hb_conn_worker *
state_of_worker(void)
{
	return (hb_conn__state(hbt_worker()));
}

/* The one connection; it is awake then. */
static struct hb_conn *
conn(void)
{
	return (hb_conn_find(hbt_worker(), hb_conn__id(hbt_worker(), 1)));
}

static void
note(const char *what, const char *value)
{
	hb_text_addz(&seen, what);
	hb_text_addc(&seen, '=');
	hb_text_addz(&seen, value);
	hb_text_addc(&seen, '\n');
}

static void
note_number(const char *what, uint64_t n)
{
	char text[24];

	(void)snprintf(text, sizeof text, "%llu", (unsigned long long)n);
	note(what, text);
}

/* Turns until the connection rests, if it does in this run. */
static void
settle(void)
{
	const char *why;

	for (unsigned i = 0; i < 8; i++)
		hbt_advance(1);
	if (!rests || hb_park_resting(hbt_worker()) == 1)
		return;
	why = hb_park__why_not(conn());
	fail_msg("awake: %s", why == NULL ? "no sweep" : why);
}

static void
note_facts(const struct hb_facts *f)
{
	char text[HB_ADDR_TEXT_MAX];

	(void)hb_addr_format(&f->local, text, sizeof text);
	note("local", text);
	(void)hb_addr_format(&f->remote, text, sizeof text);
	note("remote", text);
	(void)hb_addr_format(hb_facts_direct_remote(f), text, sizeof text);
	note("direct", text);
	note("sni", hb_facts_hello(f)->sni.p == NULL ? "(none)" : hb_facts_hello(f)->sni.p);
	note("protocol", hb_facts_transport_protocol(f).p);
	note_number("alpn", hb_facts_hello(f)->n_alpn);
}

static void
note_view(void)
{
	struct hb_conn_view v;
	char text[HB_ADDR_TEXT_MAX];

	hb_conn_view(conn(), &v);
	note_number("id", v.id);
	note("listener", v.listener);
	note("chain", v.chain);
	note("state", v.state);
	note_number("in", v.bytes_in);
	note_number("out", v.bytes_out);
	note_number("age", v.age_ms);
	note("cluster", v.upstream == NULL ? "(none)" : v.upstream->cluster.p);
	note_number("attempts", v.info.attempts);
	note_number("connect", v.info.connect_ms);
	(void)hb_addr_format(&v.info.endpoint, text, sizeof text);
	note("endpoint", text);
	note_facts(v.facts);
}

/* ------------------------------------------------------------------ scripts */

static void
say(struct hbt_sink *from, struct hbt_sink *to, const char *z)
{
	uint64_t got = to->got.len + strlen(z);

	hbt_writez(from, z, false);
	HBT_UNTIL(to->got.len == got);
}

static void
script_talk(void)
{
	for (unsigned i = 0; i < 4; i++) {
		settle();
		say(&h.client, up(), "question ");
		settle();
		say(up(), &h.client, "the answer ");
		if (i % 2 == 1)
			note_view();
	}
	settle();
	hbt_writez(&h.client, "bye", true);
	HBT_UNTIL(up()->ends == 1);
	hbt_advance(100);
	assert_int_equal(hb_park_resting(hbt_worker()), 0); /* half open */
	hbt_writez(up(), "bye, too", true);
}

static void
script_upstream_ends(void)
{
	settle();
	hbt_writez(up(), "bye", true);
	HBT_UNTIL(h.client.ends == 1);
	hbt_writez(&h.client, "bye, too", true);
}

/* A unix socket knows no reset: its end was an end, which is answered. */
static void
answer_end(struct hbt_sink *by)
{
	for (unsigned i = 0; i < 20 && !h.closed; i++)
		hbt_advance(64);
	if (!h.closed && by->t != NULL && by->ends == 1)
		hbt_writez(by, "", true);
}

static void
script_downstream_resets(void)
{
	say(&h.client, up(), "x");
	settle();
	hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
	answer_end(up());
}

static void
script_upstream_resets(void)
{
	say(up(), &h.client, "x");
	settle();
	hb_transport_abort(&up()->t, HB_CLOSE_LOCAL_CLOSE);
	answer_end(&h.client);
}

static void
script_bytes_and_reset(void)
{
	settle();
	hbt_writez(&h.client, "the last words", false);
	hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
	answer_end(up());
}

static void
script_idle(void)
{
	say(&h.client, up(), "x");
	settle();
	hb_clock_advance(hbt_worker(), 99000);
	hbt_turns(4);
	assert_false(h.closed);
	hbt_advance(8000); /* a timer is late by a sixteenth */
	assert_true(h.closed);
}

static void
script_idle_moves(void)
{
	for (unsigned i = 0; i < 5; i++) {
		hb_clock_advance(hbt_worker(), 60000);
		settle();
		say(&h.client, up(), "x");
		settle();
	}
	hbt_advance(101000);
}

static void
script_closed_from_outside(void)
{
	settle();
	hb_conn_close(conn(), HB_CLOSE_ADMIN);
}

static bool
visit(void *arg, struct hb_conn *c)
{
	if (*(unsigned *)arg == 0)
		hb_conn_drain(c);
	else if (*(unsigned *)arg == 1)
		hb_conn_revalidate(c);
	else
		hb_conn_close(c, HB_CLOSE_DRAINED);
	return (true);
}

/* Who visits those that rest finds them resting afterwards. */
static void
script_visits(void)
{
	for (unsigned what = 0; what < 3; what++) {
		settle();
		hb_conn_foreach(hbt_worker(), visit, &what);
		if (what < 2)
			assert_int_equal(hb_park_resting(hbt_worker()), rests ? 1 : 0);
	}
}

static void
script_revalidate(void)
{
	settle();
	hb_conns_revalidate();
	hbt_turns(8);
	assert_int_equal(hb_park_resting(hbt_worker()), rests ? 1 : 0);
	say(&h.client, up(), "still there");
	hb_conns_revalidate();
	settle();
	script_upstream_ends();
}

/* ------------------------------------------------------------------ running them */

typedef void script_f(void);

static struct hb_facts
some_facts(void)
{
	static const struct hb_str alpn[] = { HB_STR("h2"), HB_STR("http/1.1") };
	struct hb_facts f = hbf_facts(NULL);

	hb_facts_hello_set(&f, HB_STR("www.example"), alpn, 2);
	hb_facts_keep_direct(&f);
	(void)hb_addr_parse(HB_STR("[2001:db8::1]:77"), &f.remote);
	(void)hb_facts_metadata_set(&f, HB_STR("ns"), HB_STR("key"), HB_STR("value"));
	(void)hb_facts_state_set(&f, HB_STR("state"), HB_STR("10.0.0.1"), true, 1);
	return (f);
}

/* What was seen; freed by the caller. */
static struct hb_text
run(script_f *script, enum hbf_wire down, enum hbf_wire upstream, bool resting)
{
	struct hb_facts facts;
	struct hbf_options o = { .wire = down, .facts = &facts };
	struct hb_text ret;

	rests = resting;
	hb_park_above(resting ? 0 : HB_PARK_NEVER);
	hbf_init();
	hbf_register(&hb_filter_tcp_proxy);
	hbf_register(&hb_filter_rbac);
	chain = hbf_filters(RBAC PROXY);
	facts = some_facts();
	memset(&h, 0, sizeof h);
	h.state_key = "state";
	hbf_dialler.wire = upstream;
	hbf_open(&h, chain, &o);
	HBT_UNTIL(h.client.secured && up()->secured);
	script();
	for (unsigned i = 0; i < 100 && !h.closed;
		i++) /* a reset follows what the peer has taken */
		hbt_advance(64);
	if (!h.closed)
		print_error("%d %d %d: client %s, upstream %s\n", down, upstream, resting,
			h.client.trace, up()->trace);
	HBT_UNTIL(h.closed);
	hbt_turns(8);
	note("client got", h.client.got.len == 0 ? "" : h.client.got.p);
	note("client", h.client.trace);
	note("upstream got", up()->got.len == 0 ? "" : up()->got.p);
	note("upstream", up()->trace);
	note("reason", hb_close_info(h.reason)->name);
	note_number("rx", h.bytes_in);
	note_number("tx", h.bytes_out);
	note("detail", h.detail);
	note("to", h.cluster);
	note("filter state", h.state_value);
	note_number("counted rx", (uint64_t)hbf_stat("tcp.p.downstream_cx_rx_bytes_total"));
	note_number("counted tx", (uint64_t)hbf_stat("tcp.p.downstream_cx_tx_bytes_total"));
	note_number("counted idle", (uint64_t)hbf_stat("tcp.p.idle_timeout"));
	assert_int_equal(hb_park_rests(hbt_worker()) > 0, resting);
	assert_int_equal(hb_park_rests(hbt_worker()), hb_park_wakes(hbt_worker()));
	hbf_close(&h);
	hb_chain_free(&chain);
	hbf_fini();
	ret = seen;
	seen = (struct hb_text){ 0 };
	return (ret);
}

static void
same(script_f *script)
{
	struct hb_text plain, rested;

	for (enum hbf_wire down = HBF_PAIR; down <= HBF_TCP; down++) {
		for (enum hbf_wire upstream = HBF_PAIR; upstream <= HBF_TCP; upstream++) {
			plain = run(script, down, upstream, false);
			rested = run(script, down, upstream, true);
			assert_string_equal(plain.p, rested.p);
			hb_text_fini(&plain);
			hb_text_fini(&rested);
		}
	}
}

#define SAME(name)                                  \
	static void test_park__##name(void **state) \
	{                                           \
		(void)state;                        \
		same(script_##name);                \
	}
SAME(talk)
SAME(upstream_ends)
SAME(downstream_resets)
SAME(upstream_resets)
SAME(bytes_and_reset)
SAME(idle)
SAME(idle_moves)
SAME(closed_from_outside)
SAME(visits)
SAME(revalidate)

/* ------------------------------------------------------------------ when */

static struct hbf many[HBF_UPSTREAMS];

static void
open_many(unsigned n)
{
	static const struct hbf_options tcp = { .wire = HBF_TCP };

	hbf_init();
	hbf_register(&hb_filter_tcp_proxy);
	chain = hbf_filters(PROXY);
	hbf_dialler.wire = HBF_TCP;
	memset(many, 0, sizeof many);
	for (unsigned i = 0; i < n; i++)
		hbf_open(&many[i], chain, &tcp);
	HBT_UNTIL(hbf_dialler.n == n && many[n - 1].client.secured);
	hbt_turns(4);
}

static void
close_many(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		hbf_close(&many[i]);
	hb_chain_free(&chain);
	hbf_fini();
}

/* Those above the number rest, the oldest first, after their time and not before. */
static void
test_park__above(void **state)
{
	const struct hb_park *p;

	(void)state;
	hb_park_above(10);
	open_many(32);
	p = &state_of_worker()->park;
	assert_int_equal(hb_park_resting(hbt_worker()), 0);
	hb_clock_advance(hbt_worker(), HB_PARK_AGE_MIN_MS - 1);
	hbt_turns(4);
	assert_int_equal(hb_park_resting(hbt_worker()), 0);
	hbt_advance(3 * HB_PARK_AGE_MIN_MS);
	hbt_advance(3 * HB_PARK_AGE_MIN_MS);
	HBT_UNTIL(hb_park_resting(hbt_worker()) == 22);
	assert_int_equal(p->n_awake, 10);
	assert_int_equal(hb_conn_count(hbt_worker()), 32);
	assert_false(hb_timer_running(&p->sweep));
	/* One that is soon woken makes the worker more patient. */
	hbt_writez(&many[0].client, "x", false);
	HBT_UNTIL(hbf_dialler.up[0].got.len == 1);
	assert_int_equal(p->age_ms, HB_PARK_AGE_MIN_MS * 2);
	assert_int_equal(hb_park_resting(hbt_worker()), 21);
	/* … once, however many are woken then. */
	hbt_writez(&many[1].client, "x", false);
	HBT_UNTIL(hbf_dialler.up[1].got.len == 1);
	assert_int_equal(p->age_ms, HB_PARK_AGE_MIN_MS * 2);
	close_many(32);
}

/* A connection that cannot rest does not keep the worker busy. */
static void
test_park__no_spin(void **state)
{
	const struct hb_park *p;

	(void)state;
	hb_park_above(0);
	hbf_dialler = (struct hbf_dialler){ 0 };
	open_many(1);
	p = &state_of_worker()->park;
	/* The peer does not read: bytes wait. */
	hb_transport_read_disable(hbf_dialler.up[0].t, 1);
	for (unsigned i = 0; i < 400; i++) {
		static const char lots[65536];

		hbt_write(&many[0].client, lots, sizeof lots, false);
		hbt_turns(1);
	}
	for (unsigned i = 0; i < 30; i++)
		hbt_advance(HB_PARK_AGE_MAX_MS / 8);
	assert_int_equal(hb_park_resting(hbt_worker()), 0);
	assert_true(p->interval_ms > HB_PARK_AGE_MAX_MS / 2);
	hb_transport_read_disable(hbf_dialler.up[0].t, -1);
	HBT_UNTIL(hbf_dialler.up[0].got.len == 400 * 65536);
	hbt_advance(2 * HB_PARK_AGE_MAX_MS);
	hbt_advance(2 * HB_PARK_AGE_MAX_MS);
	HBT_UNTIL(hb_park_resting(hbt_worker()) == 1);
	close_many(1);
}

/* What a connection at rest takes; tcp_proxy between two sockets. */
static void
test_park__size(void **state)
{
	struct hb_park *p;
	struct hb_parked *k;
	size_t size;

	(void)state;
	hb_park_above(0);
	open_many(1);
	for (unsigned i = 0; i < 8; i++)
		hbt_advance(1);
	assert_int_equal(hb_park_resting(hbt_worker()), 1);
	p = &state_of_worker()->park;
	for (unsigned i = 0; i < HB_PARK_STEPS; i++) {
		if (hb_list_empty(&p->step[i]))
			continue;
		k = HB_LIST_ENTRY(p->step[i].next, struct hb_parked, node);
		size = sizeof *k + k->n_io * sizeof k->io[0] + k->size;
		print_message("at rest: %zu bytes, of which %u packed\n", size, k->size);
		assert_int_equal(k->n_io, 2);
		assert_true(size <= 220);
	}
	close_many(1);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_park__talk),
		cmocka_unit_test(test_park__upstream_ends),
		cmocka_unit_test(test_park__downstream_resets),
		cmocka_unit_test(test_park__upstream_resets),
		cmocka_unit_test(test_park__bytes_and_reset),
		cmocka_unit_test(test_park__idle),
		cmocka_unit_test(test_park__idle_moves),
		cmocka_unit_test(test_park__closed_from_outside),
		cmocka_unit_test(test_park__visits),
		cmocka_unit_test(test_park__revalidate),
		cmocka_unit_test(test_park__above),
		cmocka_unit_test(test_park__no_spin),
		cmocka_unit_test(test_park__size),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "core/transport/pump.h"
#include "test/support/filter_harness.h"

extern const struct hb_filter_type hb_filter_tcp_proxy;

#define PROXY               \
	"- name: tcp\n"     \
	"  typed_config:\n" \
	"    \"@type\": "   \
	"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\n"
#define TO_APP PROXY "    stat_prefix: p\n    cluster: app\n"

static int
setup(void **state)
{
	hbf_init();
	hbf_register(&hb_filter_tcp_proxy);
	return (0);
}

static int
teardown(void **state)
{
	hbf_fini();
	return (0);
}

static void
relay_over(enum hbf_wire wire, size_t split)
{
	struct hb_chain *chain = hbf_filters(TO_APP);
	struct hbf_options o = { .wire = wire, .split = split };
	struct hbt_sink *up = &hbf_dialler.up[hbf_dialler.n];
	struct hbf h = { 0 };

	hbf_dialler.wire = wire;
	hbf_open(&h, chain, &o);
	HBT_UNTIL(h.client.secured && up->secured);
	assert_string_equal(hbf_dialler.cluster, "app");
	hbt_writez(&h.client, "question", true);
	HBT_UNTIL(up->ends == 1);
	assert_true(hbt_gotz(up, "question"));
	hbt_writez(up, "the answer", true);
	HBT_UNTIL(h.client.ends == 1);
	assert_true(hbt_gotz(&h.client, "the answer"));
	HBT_UNTIL(h.closed);
	assert_int_equal(h.reason, HB_CLOSE_DONE);
	assert_int_equal(h.bytes_in, 8);
	assert_int_equal(h.bytes_out, 10);
	assert_string_equal(h.cluster, "app");
	hbf_close(&h);
	hb_chain_free(&chain);
}

static void
test_tcp_proxy__relays(void **state)
{
	static const size_t pieces[] = { 0, 1, 7, 8 };

	for (enum hbf_wire w = HBF_PAIR; w <= HBF_TCP; w++)
		for (size_t i = 0; i < HB_ARRAY_LEN(pieces); i++)
			relay_over(w, pieces[i]);
}

/* ------------------------------------------------------------------ endings */

static struct hb_chain *chain;
static struct hbf h;

static struct hbt_sink *
up(unsigned i)
{
	return (&hbf_dialler.up[i]);
}

/* A connection to upstream 0 over TCP, both sides connected. */
static void
open_tcp(const char *yaml, const struct hbf_options *o)
{
	static const struct hbf_options tcp = { .wire = HBF_TCP };

	memset(&h, 0, sizeof h);
	hbf_dialler.wire = HBF_TCP;
	chain = hbf_filters(yaml);
	hbf_open(&h, chain, o == NULL ? &tcp : o);
}

static void
open_both(const char *yaml)
{
	open_tcp(yaml, NULL);
	HBT_UNTIL(h.client.secured && up(0)->secured);
	hbt_turns(3);
}

static void
close_tcp(enum hb_close_reason reason)
{
	HBT_UNTIL(h.closed);
	assert_int_equal(h.reason, reason);
	hbf_close(&h);
	hb_chain_free(&chain);
}

static void
test_tcp_proxy__downstream_ends_first(void **state)
{
	open_both(TO_APP);
	hbt_writez(&h.client, "bye", true);
	HBT_UNTIL(up(0)->ends == 1);
	assert_int_equal(h.client.ends, 0);
	hbt_writez(up(0), "late answer", true);
	HBT_UNTIL(h.client.ends == 1);
	assert_true(hbt_gotz(&h.client, "late answer"));
	close_tcp(HB_CLOSE_DONE);
}

static void
test_tcp_proxy__upstream_ends_first(void **state)
{
	open_both(TO_APP);
	hbt_writez(up(0), "banner", true);
	HBT_UNTIL(h.client.ends == 1);
	hbt_writez(&h.client, "still talking", false);
	HBT_UNTIL(hbt_gotz(up(0), "still talking"));
	hbt_write(&h.client, NULL, 0, true);
	HBT_UNTIL(up(0)->ends == 1);
	close_tcp(HB_CLOSE_DONE);
}

static void
test_tcp_proxy__reset_of_downstream(void **state)
{
	open_both(TO_APP);
	hbt_writez(&h.client, "last", false);
	HBT_UNTIL(hbt_gotz(up(0), "last"));
	hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(up(0)->closed);
	assert_int_equal(up(0)->reason, HB_CLOSE_PEER_RESET);
	assert_int_equal(up(0)->ends, 0);
	close_tcp(HB_CLOSE_DOWNSTREAM_RESET);
	assert_int_equal(hbf_stat("tcp.p.upstream_flush_active"), 0);
}

static void
test_tcp_proxy__reset_of_upstream(void **state)
{
	open_both(TO_APP);
	hbt_writez(up(0), "last", false);
	HBT_UNTIL(hbt_gotz(&h.client, "last"));
	hb_transport_abort(&up(0)->t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(h.client.closed);
	assert_int_equal(h.client.reason, HB_CLOSE_PEER_RESET);
	close_tcp(HB_CLOSE_UPSTREAM_RESET);
}

/* Each side may be reset at any turn of the loop: both are gone afterwards. */
static void
test_tcp_proxy__reset_at_every_turn(void **state)
{
	for (unsigned turns = 0; turns < 12; turns++)
		for (int side = 0; side < 2; side++) {
			struct hbt_sink *u;

			open_tcp(TO_APP, NULL);
			u = up(hbf_dialler.n);
			hbt_writez(&h.client, "x", turns & 1);
			hbt_turns(turns);
			if (side == 0 || u->t == NULL)
				hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
			else
				hb_transport_abort(&u->t, HB_CLOSE_LOCAL_CLOSE);
			HBT_UNTIL(h.closed);
			if (u->connected)
				HBT_UNTIL(u->closed || u->t == NULL || u->ends > 0);
			hbf_close(&h);
			hb_chain_free(&chain);
		}
}

/* Closed from outside, both sides are reset. */
static void
test_tcp_proxy__admin_closes(void **state)
{
	open_both(TO_APP);
	hb_conn_close(h.conn, HB_CLOSE_ADMIN);
	HBT_UNTIL(h.client.closed && up(0)->closed);
	assert_int_equal(up(0)->reason, HB_CLOSE_PEER_RESET);
	close_tcp(HB_CLOSE_ADMIN);
}

/* The downstream is gone; what it sent still goes to an upstream that reads slowly. */
static void
test_tcp_proxy__flushes_upstream(void **state)
{
	size_t n = 8u << 20;
	uint8_t *p = hbt_pattern(n, 9);

	hbf_dialler.up_paused = true;
	open_both(TO_APP);
	hbt_write(up(0), NULL, 0, true);
	HBT_UNTIL(h.client.ends == 1);
	hbt_write(&h.client, p, n, true);
	hbt_turns(50);
	assert_false(h.closed);
	hb_transport_read_disable(up(0)->t, -1);
	HBT_UNTIL(up(0)->ends == 1);
	assert_true(hbt_got(up(0), p, n));
	hb_free(p);
	close_tcp(HB_CLOSE_DONE);
	assert_int_equal(hbf_stat("tcp.p.upstream_flush_active"), 0);
}

/* … or does not read at all: an operator need not wait. */
static void
test_tcp_proxy__flush_is_cut(void **state)
{
	size_t n = 64u << 10;
	struct hbf_options o = { .wire = HBF_PAIR };
	uint8_t *p = hbt_pattern(n, 9);

	hbf_dialler.up_paused = true;
	open_tcp(TO_APP, &o);
	hbf_dialler.wire = HBF_PAIR;
	HBT_UNTIL(hbf_dialler.n == 1);
	hbt_turns(3);
	hbt_write(&h.client, p, n, false);
	hbt_turns(3);
	hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
	hbt_turns(5);
	hb_free(p);
	assert_false(h.closed);
	assert_int_equal(hbf_stat("tcp.p.upstream_flush_active"), 1);
	hb_conn_close(h.conn, HB_CLOSE_SHUTDOWN);
	close_tcp(HB_CLOSE_DOWNSTREAM_RESET);
	assert_int_equal(hbf_stat("tcp.p.upstream_flush_active"), 0);
	assert_true(hbf_stat("tcp.p.upstream_flush_total") > 0);
}

/* ------------------------------------------------------------------ dialling */

static void
test_tcp_proxy__not_read_before_connected(void **state)
{
	struct hb_conn_view v;

	hbf_dialler.mode = HBF_HOLD;
	open_tcp(TO_APP, NULL);
	HBT_UNTIL(h.client.secured && hbf_dialler.dials == 1);
	hbt_writez(&h.client, "early", true);
	hbt_turns(10);
	hb_conn_view(h.conn, &v);
	assert_int_equal(v.bytes_in, 0);
	assert_string_equal(v.state, "waiting");
	assert_null(v.upstream);
	hbf_answer(HB_CLOSE_NONE);
	HBT_UNTIL(hbf_dialler.n == 1 && up(0)->ends == 1);
	assert_true(hbt_gotz(up(0), "early"));
	hb_conn_view(h.conn, &v);
	assert_true(hb_str_eq(v.upstream->endpoint_host, hb_str("endpoint.test")));
	hbt_write(up(0), NULL, 0, true);
	close_tcp(HB_CLOSE_DONE);
}

static void
test_tcp_proxy__client_leaves_while_dialling(void **state)
{
	hbf_dialler.mode = HBF_HOLD;
	open_tcp(TO_APP, NULL);
	HBT_UNTIL(hbf_dialler.dials == 1);
	hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
	close_tcp(HB_CLOSE_DOWNSTREAM_RESET);
	assert_int_equal(hbf_dialler.canceled, 1);
}

static void
fails_with(const char *yaml, enum hb_close_reason failure, enum hb_close_reason reason)
{
	hbf_dialler.mode = HBF_FAIL;
	hbf_dialler.failure = failure;
	open_tcp(yaml, NULL);
	HBT_UNTIL(h.client.closed);
	assert_int_equal(h.client.reason, HB_CLOSE_PEER_RESET);
	close_tcp(reason);
}

static void
test_tcp_proxy__failures(void **state)
{
	int64_t before;

	fails_with(TO_APP, HB_CLOSE_CONNECT_REFUSED, HB_CLOSE_CONNECT_REFUSED);
	assert_int_equal(hbf_dialler.attempts_max, 1);
	fails_with(TO_APP, HB_CLOSE_NO_HEALTHY_UPSTREAM, HB_CLOSE_NO_HEALTHY_UPSTREAM);
	fails_with(TO_APP "    max_connect_attempts: 3\n", HB_CLOSE_CONNECT_TIMEOUT,
		HB_CLOSE_ATTEMPTS_TIMEOUT);
	fails_with(TO_APP "    max_connect_attempts: 3\n", HB_CLOSE_CONNECT_REFUSED,
		HB_CLOSE_CONNECT_ATTEMPTS);
	assert_int_equal(hbf_dialler.attempts_max, 3);
	before = hbf_stat("tcp.p.downstream_cx_no_route");
	fails_with(
		TO_APP "    max_connect_attempts: 3\n", HB_CLOSE_NO_CLUSTER, HB_CLOSE_NO_CLUSTER);
	assert_int_equal(hbf_stat("tcp.p.downstream_cx_no_route"), before + 1);
}

static void
test_tcp_proxy__backoff(void **state)
{
	hbf_dialler.mode = HBF_FAIL;
	hbf_dialler.failure = HB_CLOSE_CONNECT_REFUSED;
	open_tcp(TO_APP "    max_connect_attempts: 4\n"
			"    backoff_options: {base_interval: 1s, max_interval: 2s}\n",
		NULL);
	HBT_UNTIL(hbf_dialler.dials == 1 && hbf_dialler.waiting == 0);
	hbt_turns(5);
	assert_false(h.closed);
	hbt_advance(1000);
	HBT_UNTIL(hbf_dialler.dials == 2 && hbf_dialler.waiting == 0);
	assert_int_equal(hbf_dialler.attempts_max, 1);
	hbt_advance(2000);
	HBT_UNTIL(hbf_dialler.dials == 3 && hbf_dialler.waiting == 0);
	hbf_dialler.mode = HBF_CONNECT;
	hbt_advance(2000);
	HBT_UNTIL(hbf_dialler.dials == 4 && hbf_dialler.n == 1);
	HBT_UNTIL(up(0)->secured);
	hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
	close_tcp(HB_CLOSE_DOWNSTREAM_RESET);
}

static void
test_tcp_proxy__backoff_ends(void **state)
{
	hbf_dialler.mode = HBF_FAIL;
	hbf_dialler.failure = HB_CLOSE_CONNECT_REFUSED;
	open_tcp(TO_APP "    max_connect_attempts: 2\n    backoff_options: {base_interval: 1s}\n",
		NULL);
	HBT_UNTIL(hbf_dialler.dials == 1 && hbf_dialler.waiting == 0);
	hbt_advance(1000);
	close_tcp(HB_CLOSE_CONNECT_ATTEMPTS);
	assert_int_equal(hbf_dialler.dials, 2);
}

static void
test_tcp_proxy__weights(void **state)
{
	static const char yaml[] = PROXY
		"    stat_prefix: w\n"
		"    weighted_clusters: {clusters: [{name: small, weight: 1}, {name: big, weight: 9}]}\n";
	unsigned small = 0;

	hb_random_seed(42);
	hbf_dialler.mode = HBF_FAIL;
	hbf_dialler.failure = HB_CLOSE_CONNECT_REFUSED;
	for (int i = 0; i < 400; i++) {
		struct hbf_options o = { .wire = HBF_PAIR };

		open_tcp(yaml, &o);
		close_tcp(HB_CLOSE_CONNECT_REFUSED);
		small += strcmp(hbf_dialler.cluster, "small") == 0;
	}
	assert_in_range(small, 20, 70);
}

static void
test_tcp_proxy__filter_state(void **state)
{
	struct hb_facts facts = hbf_facts("x.test");
	struct hbf_options o = { .wire = HBF_PAIR, .facts = &facts };

	(void)hb_facts_state_set(
		&facts, hb_str(HB_STATE_TCP_PROXY_CLUSTER), hb_str("other"), false, 0);
	hbf_dialler.mode = HBF_FAIL;
	hbf_dialler.failure = HB_CLOSE_CONNECT_REFUSED;
	open_tcp(TO_APP, &o);
	close_tcp(HB_CLOSE_CONNECT_REFUSED);
	assert_string_equal(hbf_dialler.cluster, "other");
}

/* ------------------------------------------------------------------ early bytes */

#define EARLY TO_APP "    max_early_data_bytes: 8\n"

static void
test_tcp_proxy__early_data(void **state)
{
	int64_t before = 0;

	hbf_dialler.mode = HBF_HOLD;
	open_tcp(EARLY, NULL);
	HBT_UNTIL(h.client.secured && hbf_dialler.dials == 1);
	before = hbf_stat("tcp.p.early_data_received_count_total");
	hbt_writez(&h.client, "1234", false);
	hbt_turns(5);
	hbt_writez(&h.client, "5678", false);
	hbt_turns(5);
	hbt_writez(&h.client, "not yet read", true);
	hbt_turns(5);
	assert_int_equal(hbf_stat("tcp.p.early_data_received_count_total"), before + 1);
	hbf_answer(HB_CLOSE_NONE);
	HBT_UNTIL(hbf_dialler.n == 1 && up(0)->ends == 1);
	assert_true(hbt_gotz(up(0), "12345678not yet read"));
	hbt_write(up(0), NULL, 0, true);
	close_tcp(HB_CLOSE_DONE);
	assert_int_equal(h.bytes_in, 20);
}

static void
test_tcp_proxy__early_end(void **state)
{
	hbf_dialler.mode = HBF_HOLD;
	open_tcp(EARLY, NULL);
	HBT_UNTIL(h.client.secured && hbf_dialler.dials == 1);
	hbt_writez(&h.client, "all", true);
	hbt_turns(5);
	hbf_answer(HB_CLOSE_NONE);
	HBT_UNTIL(hbf_dialler.n == 1 && up(0)->ends == 1);
	assert_true(hbt_gotz(up(0), "all"));
	hbt_writez(up(0), "answer", true);
	HBT_UNTIL(h.client.ends == 1);
	assert_true(hbt_gotz(&h.client, "answer"));
	close_tcp(HB_CLOSE_DONE);
}

static void
test_tcp_proxy__dial_on_data(void **state)
{
	open_tcp(EARLY "    upstream_connect_mode: ON_DOWNSTREAM_DATA\n", NULL);
	HBT_UNTIL(h.client.secured);
	hbt_turns(10);
	assert_int_equal(hbf_dialler.dials, 0);
	hbt_writez(&h.client, "hi", false);
	HBT_UNTIL(hbf_dialler.n == 1 && hbt_gotz(up(0), "hi"));
	assert_true(hbf_dialler.speaks_first);
	hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
	close_tcp(HB_CLOSE_DOWNSTREAM_RESET);
}

/* What a dial is told, because it costs: a listener filter has looked at bytes, which will follow at once. Nobody
 * logs the local address. */
static void
test_tcp_proxy__bytes_wait_for_the_dial(void **state)
{
	struct hb_conn_owner own = { .listener_name = "l" };
	struct hb_facts facts = hbf_facts("a.example");
	struct hb_buf hello = { NULL, NULL, 0 };
	struct hb_transport *t;
	int fd;

	open_both(TO_APP);
	assert_false(hbf_dialler.speaks_first || hbf_dialler.local);
	t = hbt_tcp_and_fd(&fd, false, NULL);
	hb_buf_addz(&hello, "hello");
	hb_transport_unread(t, &hello, false);
	(void)hb_conn_start(hbt_worker(), t, &facts, chain, &own);
	HBT_UNTIL(hbf_dialler.n == 2 && hbt_gotz(up(1), "hello"));
	assert_true(hbf_dialler.speaks_first);
	assert_false(hbf_dialler.local);
	hbt_fd_reset(fd);
	HBT_UNTIL(hb_conn_count(hbt_worker()) == 1);
	hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
	close_tcp(HB_CLOSE_DOWNSTREAM_RESET);
}

/* ------------------------------------------------------------------ time */

static void
test_tcp_proxy__idle(void **state)
{
	open_both(TO_APP "    idle_timeout: 10s\n");
	hbt_advance(8000);
	hbt_writez(up(0), "x", false);
	HBT_UNTIL(hbt_gotz(&h.client, "x"));
	hbt_advance(8000);
	assert_false(h.closed);
	hbt_advance(3000);
	HBT_UNTIL(h.client.ends == 1 && up(0)->ends == 1);
	close_tcp(HB_CLOSE_IDLE_TIMEOUT);
	assert_int_equal(hbf_stat("tcp.p.idle_timeout"), 1);
}

static void
test_tcp_proxy__idle_of_connection(void **state)
{
	struct hb_facts facts = hbf_facts(NULL);
	struct hbf_options o = { .wire = HBF_TCP, .facts = &facts };

	(void)hb_facts_state_set(&facts, hb_str(HB_STATE_IDLE_TIMEOUT), hb_str("500"), false, 0);
	open_tcp(TO_APP, &o);
	HBT_UNTIL(hbf_dialler.n == 1 && up(0)->secured);
	hbt_turns(3);
	hbt_advance(600);
	close_tcp(HB_CLOSE_IDLE_TIMEOUT);
}

static void
test_tcp_proxy__max_duration(void **state)
{
	int64_t before;

	open_both(TO_APP "    max_downstream_connection_duration: 60s\n");
	before = hbf_stat("tcp.p.max_downstream_connection_duration");
	hbt_advance(50000);
	assert_false(h.closed);
	hbt_advance(10000);
	HBT_UNTIL(h.client.ends == 1 && up(0)->ends == 1);
	close_tcp(HB_CLOSE_MAX_DURATION);
	assert_int_equal(hbf_stat("tcp.p.max_downstream_connection_duration"), before + 1);
	hbf_dialler.mode = HBF_HOLD;
	open_tcp(TO_APP "    max_downstream_connection_duration: 60s\n", NULL);
	HBT_UNTIL(hbf_dialler.dials == 2);
	hbt_advance(61000);
	close_tcp(HB_CLOSE_MAX_DURATION);
	assert_int_equal(hbf_dialler.canceled, 1);
}

/* ------------------------------------------------------------------ bulk */

static void
bulk(size_t n, bool back)
{
	uint8_t *p = hbt_pattern(n, 5);
	struct hbt_sink *from, *to;

	open_both(TO_APP);
	from = back ? up(0) : &h.client;
	to = back ? &h.client : up(0);
	hbt_write(from, p, n, true);
	HBT_UNTIL(to->ends == 1);
	assert_true(hbt_got(to, p, n));
	assert_true(hb_pump_pipes(hbt_worker()) > 0); /* splice(2) was used */
	hbt_write(to, NULL, 0, true);
	HBT_UNTIL(h.closed);
	assert_int_equal(back ? h.bytes_out : h.bytes_in, n);
	hb_free(p);
	close_tcp(HB_CLOSE_DONE);
}

static void
test_tcp_proxy__bulk_down(void **state)
{
	bulk(64u << 20, true);
}

static void
test_tcp_proxy__bulk_up(void **state)
{
	int64_t before, n = 64 << 20;

	open_both(TO_APP);
	hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
	close_tcp(HB_CLOSE_DOWNSTREAM_RESET);
	hbt_sink_fini(up(0));
	hbf_dialler.n = 0;
	memset(up(0), 0, sizeof *up(0));
	before = hbf_stat("tcp.p.downstream_cx_rx_bytes_total");
	bulk((size_t)n, false);
	assert_int_equal(hbf_stat("tcp.p.downstream_cx_rx_bytes_total") - before, n);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_tcp_proxy__relays),
		T(test_tcp_proxy__downstream_ends_first),
		T(test_tcp_proxy__upstream_ends_first),
		T(test_tcp_proxy__reset_of_downstream),
		T(test_tcp_proxy__reset_of_upstream),
		T(test_tcp_proxy__reset_at_every_turn),
		T(test_tcp_proxy__admin_closes),
		T(test_tcp_proxy__flushes_upstream),
		T(test_tcp_proxy__flush_is_cut),
		T(test_tcp_proxy__not_read_before_connected),
		T(test_tcp_proxy__client_leaves_while_dialling),
		T(test_tcp_proxy__failures),
		T(test_tcp_proxy__backoff),
		T(test_tcp_proxy__backoff_ends),
		T(test_tcp_proxy__weights),
		T(test_tcp_proxy__filter_state),
		T(test_tcp_proxy__early_data),
		T(test_tcp_proxy__early_end),
		T(test_tcp_proxy__dial_on_data),
		T(test_tcp_proxy__bytes_wait_for_the_dial),
		T(test_tcp_proxy__idle),
		T(test_tcp_proxy__idle_of_connection),
		T(test_tcp_proxy__max_duration),
		T(test_tcp_proxy__bulk_down),
		T(test_tcp_proxy__bulk_up),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

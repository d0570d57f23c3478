/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three connections deep:
 *
 *   client = TLS over TLS over a socket
 *   socket -> TLS -> conn 1 (tcp_proxy) -> pair -> TLS -> conn 2 (tcp_proxy) -> pair -> conn 3 (echo)
 *
 * with reads cut into pieces at every level, ends and resets from either side at every turn.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/filter/transport_socket.h"
#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb-c.h"
#include "test/support/certs/pki.h"
#include "test/support/filter_harness.h"

extern const struct hb_filter_type hb_filter_echo;
extern const struct hb_filter_type hb_filter_tcp_proxy;

#define TLS_SOCKET                                                             \
	"transport_socket: {name: x, typed_config: {\"@type\": "               \
	"type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3" \
	".RawBuffer}}\n"
#define PROXY_TO(cluster)                                                   \
	"filters: [{name: t, typed_config: {\"@type\": "                    \
	"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3" \
	".TcpProxy, stat_prefix: n, cluster: " cluster "}}]\n"
#define ECHO_CHAIN                                       \
	"filters: [{name: e, typed_config: {\"@type\": " \
	"type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}]\n"

static struct hbt_pki pki;
static struct hb_chain *chain[3];
static unsigned open_conns;
static enum hb_close_reason reasons[3];
static size_t piece;
static bool refuse; /* the innermost dial fails */

/* ------------------------------------------------------------------ TLS of the chains */

static struct hb_transport *
tls_wrap(const void *conf, struct hb_transport *lower, const struct hb_facts *facts,
	struct hb_str host)
{
	return (hb_tls_new(lower, pki.server_ctx, NULL));
}

static const struct hb_transport_socket_type tls = {
	.name = "test.tls",
	.downstream = &envoy__extensions__transport_sockets__raw_buffer__v3__raw_buffer__descriptor,
	.wrap = tls_wrap,
	.secure = true,
};

/* ------------------------------------------------------------------ connections and dials */

static void
conn_closed(void *arg, struct hb_conn *c, enum hb_close_reason reason)
{
	*(enum hb_close_reason *)arg = reason;
	open_conns--;
}

static void
conn_start(unsigned level, struct hb_transport *t)
{
	struct hb_conn_owner owner = {
		.on_closed = conn_closed,
		.arg = &reasons[level],
		.listener_name = "nest",
	};
	struct hb_facts facts = hbf_facts(NULL);

	if (piece > 0)
		t = hbt_splitter(t, piece);
	open_conns++;
	(void)hb_conn_start(hbt_worker(), t, &facts, chain[level], &owner);
}

/* A dial to the next level: a pair, connected when that level accepts. */
struct hb_dial {
	struct hb_dial_request rq;
	struct hb_transport *t;
	struct hb_run run;
	unsigned level;
};

static void
dial_done(struct hb_dial *d, struct hb_transport *t, enum hb_close_reason reason)
{
	struct hb_dial_request rq = d->rq;

	hb_run_cancel(&d->run);
	hb_free(d);
	rq.on_done(rq.arg, t, reason, NULL);
}

static void
dial_on_connected(void *sink, struct hb_transport *t)
{
}

static void
dial_on_secured(void *sink, struct hb_transport *t)
{
	dial_done(sink, t, HB_CLOSE_NONE);
}

static void
dial_on_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	HB_WRONG("reading is disabled");
}

static void
dial_on_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	dial_done(sink, NULL, reason);
}

static const struct hb_transport_events dial_events = {
	.on_connected = dial_on_connected,
	.on_secured = dial_on_secured,
	.on_data = dial_on_data,
	.on_closed = dial_on_closed,
};

static void
dial_run(struct hb_run *run)
{
	struct hb_dial *d = HB_CONTAINER(run, struct hb_dial, run);
	struct hb_transport *b;

	if (refuse && d->level == 2) {
		dial_done(d, NULL, HB_CLOSE_CONNECT_REFUSED);
		return;
	}
	hb_pair_new(hbt_worker(), &d->t, &b);
	hb_transport_attach(d->t, &dial_events, d);
	conn_start(d->level, b);
}

static struct hb_dial *
dial(struct hb_worker *w, const struct hb_dial_request *rq)
{
	struct hb_dial *d = hb_calloc(1, sizeof *d);

	d->rq = *rq;
	d->level = hb_str_eq(rq->cluster, hb_str("one")) ? 1 : 2;
	hb_run_init(&d->run, dial_run);
	hb_run_soon(w, &d->run);
	return (d);
}

static void
dial_cancel(struct hb_dial *d)
{
	hb_run_cancel(&d->run);
	if (d->t != NULL)
		hb_transport_abort(&d->t, HB_CLOSE_LOCAL_CLOSE);
	hb_free(d);
}

static bool
exists(struct hb_str cluster)
{
	return (true);
}

static const struct hb_dial_ops dial_ops = {
	.dial = dial,
	.cancel = dial_cancel,
	.exists = exists,
};

/* ------------------------------------------------------------------ fixture */

static int
setup(void **state)
{
	static bool registered;

	hbf_init();
	hb_dial_bind(&dial_ops);
	hbf_register(&hb_filter_echo);
	hbf_register(&hb_filter_tcp_proxy);
	if (!registered)
		assert_int_equal(hb_transport_socket_register(&tls, NULL), 0);
	registered = true;
	hbt_pki_init(&pki);
	chain[0] = hbf_chain("name: zero\n" TLS_SOCKET PROXY_TO("one"));
	chain[1] = hbf_chain("name: one\n" TLS_SOCKET PROXY_TO("two"));
	chain[2] = hbf_chain("name: two\n" ECHO_CHAIN);
	refuse = false;
	piece = 0;
	return (0);
}

static int
teardown(void **state)
{
	for (int i = 0; i < 3; i++)
		hb_chain_free(&chain[i]);
	hbf_fini();
	hbt_pki_fini(&pki);
	return (0);
}

static void
open_client(struct hbt_sink *client)
{
	struct hb_transport *a, *b;

	memset(client, 0, sizeof *client);
	memset(reasons, 0, sizeof reasons);
	hbt_tcp_pair(&a, &b);
	conn_start(0, b);
	a = hb_tls_new(a, pki.client_ctx, HBT_SERVER_DNS);
	hbt_attach(client, hb_tls_new(a, pki.client_ctx, HBT_SERVER_DNS));
}

static void
all_gone(struct hbt_sink *client)
{
	hbt_sink_fini(client);
	HBT_UNTIL(open_conns == 0);
	hbt_turns(4);
}

/* ------------------------------------------------------------------ cases */

static void
echoes(size_t cut, size_t n)
{
	uint8_t *p = hbt_pattern(n, 11);
	struct hbt_sink client;

	piece = cut;
	open_client(&client);
	HBT_UNTIL(client.secured);
	hbt_write(&client, p, n / 2, false);
	HBT_UNTIL(client.got.len == n / 2);
	hbt_write(&client, p + n / 2, n - n / 2, true);
	HBT_UNTIL(client.ends == 1);
	assert_true(hbt_got(&client, p, n));
	HBT_UNTIL(open_conns == 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(reasons[i], HB_CLOSE_DONE);
	all_gone(&client);
	hb_free(p);
}

static void
test_nesting__echoes(void **state)
{
	echoes(0, 2u << 20);
	echoes(1, 3000);
	echoes(7, 20000);
	echoes(8, 20000);
}

/* The client resets after so many turns: nothing is left behind, at any level. */
static void
test_nesting__client_resets(void **state)
{
	struct hbt_sink client;

	for (size_t cut = 0; cut < 8; cut += 7)
		for (unsigned turns = 0; turns < 60; turns++) {
			piece = cut;
			open_client(&client);
			hbt_turns(turns);
			if (client.secured && client.t != NULL)
				hbt_writez(&client, "in between", turns & 1);
			hbt_turns(turns % 3);
			if (client.t != NULL)
				hb_transport_abort(&client.t, HB_CLOSE_LOCAL_CLOSE);
			all_gone(&client);
		}
}

/* What the level in the middle is told reaches both ends. */
static bool
close_one(void *arg, struct hb_conn *c)
{
	struct hb_conn_view v;

	hb_conn_view(c, &v);
	if (strcmp(v.chain, arg) == 0)
		hb_conn_close(c, HB_CLOSE_ADMIN);
	return (true);
}

static void
test_nesting__closed_at_each_level(void **state)
{
	static const char *const names[] = { "zero", "one", "two" };
	struct hbt_sink client;

	for (int i = 0; i < 3; i++)
		for (unsigned turns = 0; turns < 40; turns += 3) {
			open_client(&client);
			hbt_turns(turns);
			hb_conn_foreach(hbt_worker(), close_one, (void *)names[i]);
			hbt_turns(20);
			if (client.secured && client.t != NULL && client.closed == 0)
				hbt_writez(&client, "x", false);
			/* The level may not have been there yet. */
			HBT_UNTIL((hb_conn_foreach(hbt_worker(), close_one, (void *)names[i]),
				client.closed == 1));
			assert_int_equal(client.ends, 0);
			all_gone(&client);
		}
}

/* The innermost dial decides: when it fails, no level is accepted and the client sees a reset. */
static void
test_nesting__inner_dial_fails(void **state)
{
	struct hbt_sink client;

	refuse = true;
	open_client(&client);
	HBT_UNTIL(client.closed == 1);
	assert_int_equal(client.data, 0);
	HBT_UNTIL(open_conns == 0);
	assert_int_equal(reasons[1], HB_CLOSE_CONNECT_REFUSED);
	all_gone(&client);
}

static void
test_nesting__client_does_not_read(void **state)
{
	size_t n = 4u << 20;
	uint8_t *p = hbt_pattern(n, 12);
	struct hbt_sink client;

	open_client(&client);
	HBT_UNTIL(client.secured);
	hb_transport_read_disable(client.t, 1);
	hbt_write(&client, p, n, true);
	hbt_turns(200);
	assert_int_equal(client.data, 0);
	hb_transport_read_disable(client.t, -1);
	HBT_UNTIL(client.ends == 1);
	assert_true(hbt_got(&client, p, n));
	HBT_UNTIL(open_conns == 0);
	all_gone(&client);
	hb_free(p);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_nesting__echoes),
		T(test_nesting__client_resets),
		T(test_nesting__closed_at_each_level),
		T(test_nesting__inner_dial_fails),
		T(test_nesting__client_does_not_read),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

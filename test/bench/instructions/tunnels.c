/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tunnels: CONNECT streams through hbone_server and tcp_proxy to an origin on loopback, each of them
 * dialled, answered with a byte and closed. And what idle ones hold.
 */
#include <sys/socket.h>
#include <unistd.h>
#include "core/http/h2.h"
#include "test/bench/instructions/instructions.h"
#include "test/support/certs/pki.h"
#include "test/support/filter_harness.h"

#define SERVER                                                                                \
	"- name: server\n"                                                                    \
	"  typed_config:\n"                                                                   \
	"    \"@type\": type.googleapis.com/hbone.filters.network.hbone_server.HboneServer\n" \
	"    stat_prefix: t\n"                                                                \
	"    filter_chains:\n"                                                                \
	"    - filters:\n"                                                                    \
	"      - name: tcp\n"                                                                 \
	"        typed_config: " PROXY "\n"
#define PROXY                                                                                      \
	"{\"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, " \
	"stat_prefix: p, cluster: origin}"

extern const struct hb_filter_type hb_filter_hbone_server, hb_filter_tcp_proxy;

static struct {
	int origin;
	struct hb_chain *chain;
	struct hb_h2 *h2;
} w;

/* What a client sees of a tunnel. */
struct tunnel {
	struct hb_transport *t;
	bool connected, ended;
	size_t received;
};

/* ------------------------------------------------------------------ clients */

static void
on_connected(void *sink, struct hb_transport *t)
{
	((struct tunnel *)sink)->connected = true;
}

static void
on_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct tunnel *tn = sink;

	tn->received += buf->len;
	tn->ended |= end;
	hb_buf_drain(buf, buf->len);
}

static void
on_watermark(void *sink, struct hb_transport *t, bool high)
{
}

static void
on_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	((struct tunnel *)sink)->t = NULL;
}

static const struct hb_transport_events tunnel_events = {
	.on_connected = on_connected,
	.on_data = on_data,
	.on_watermark = on_watermark,
	.on_closed = on_closed,
};

static void
session_closed(void *sink, struct hb_h2 *h2, enum hb_close_reason reason)
{
	w.h2 = NULL;
}

static const struct hb_h2_events session_events = { .on_closed = session_closed };

static void
house(const char *filters)
{
	hbi_house_init();
	hbf_register(&hb_filter_hbone_server);
	hbf_register(&hb_filter_tcp_proxy);
	w.origin = hbi_origin();
	w.chain = hbf_filters(filters);
}

static void
house_fini(void)
{
	HBI_UNTIL(hb_conn_count(hbt_worker()) == 0);
	hb_chain_free(&w.chain);
	(void)close(w.origin);
	hbi_remove(HBI_CLUSTER, "origin");
	hbi_house_fini();
}

/* ------------------------------------------------------------------ tunnels */

static void
tunnels_setup(void)
{
	struct hb_conn_owner own = { .listener_name = "bench" };
	struct hb_facts facts = hbf_facts(NULL);
	struct hb_transport *a, *b;

	house(SERVER);
	hbt_unix_pair(&a, &b);
	(void)hb_conn_start(hbt_worker(), b, &facts, w.chain, &own);
	w.h2 = hb_h2_new(a, false, NULL, &session_events, NULL);
}

static void
tunnels_fini(void)
{
	if (w.h2 != NULL)
		hb_h2_close(&w.h2, HB_CLOSE_LOCAL_CLOSE);
	house_fini();
}

static void
tunnel_open(struct tunnel *tn)
{
	const struct hb_h2_request rq = { .authority = HB_STR("10.0.0.9:80") };

	HBI_UNTIL(hb_h2_room(w.h2) > 0);
	*tn = (struct tunnel){ .t = hb_h2_open(w.h2, &rq) };
	hb_transport_attach(tn->t, &tunnel_events, tn);
	hb_transport_read_disable(tn->t, -1);
}

static void
tunnels(unsigned n)
{
	struct tunnel tn;

	while (n-- > 0) {
		struct hb_buf none = { 0 };
		char byte = 'x';
		int fd;

		tunnel_open(&tn);
		fd = hbi_accept(w.origin);
		if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
			HB_WRONG("the origin cannot send");
		HBI_UNTIL(tn.received == 1);
		hb_transport_write(tn.t, &none, true);
		HBI_UNTIL(recv(fd, &byte, 1, 0) == 0);
		(void)close(fd);
		HBI_UNTIL(tn.t == NULL);
	}
}

/* ------------------------------------------------------------------ memory */

#define IDLE 100u

/* Streams of one session, each with its connection and its socket to the origin; the client's side
 * is in the figure, too. */
static size_t
stream_bytes(void)
{
	static struct tunnel tn[IDLE];
	int fd[IDLE];
	size_t before;

	tunnels_setup();
	tunnels(2);
	before = hbi_heap();
	for (unsigned i = 0; i < IDLE; i++) {
		tunnel_open(&tn[i]);
		fd[i] = hbi_accept(w.origin);
		HBI_UNTIL(tn[i].connected);
	}
	before = (hbi_heap() - before) / IDLE;
	for (unsigned i = 0; i < IDLE; i++) {
		hb_transport_abort(&tn[i].t, HB_CLOSE_LOCAL_CLOSE);
		(void)close(fd[i]);
	}
	tunnels_fini();
	return (before);
}

/* Connections of mutual TLS and HTTP/2 with one stream each, which has a socket to the origin; the
 * client's side is in the figure, too. */
static size_t
connection_bytes(void)
{
	static struct tunnel tn[IDLE + 1];
	struct hb_conn_owner own = { .listener_name = "bench" };
	struct hb_h2 *h2[IDLE + 1];
	struct hb_transport *a, *b;
	struct hbt_pki pki;
	int fd[IDLE + 1];
	size_t before = 0;

	house(SERVER);
	hbt_pki_init(&pki);
	for (unsigned i = 0; i <= IDLE; i++) {
		struct hb_facts facts = hbf_facts(NULL);

		if (i == 1)
			before = hbi_heap();
		hbt_tcp_pair(&a, &b);
		(void)hb_conn_start(hbt_worker(), hb_tls_new(b, pki.server_ctx, NULL), &facts,
			w.chain, &own);
		h2[i] = w.h2 = hb_h2_new(
			hb_tls_new(a, pki.client_ctx, NULL), false, NULL, &session_events, NULL);
		tunnel_open(&tn[i]);
		fd[i] = hbi_accept(w.origin);
		HBI_UNTIL(tn[i].connected);
		for (int k = 0; k < 4; k++)
			hbi_turn();
	}
	before = (hbi_heap() - before) / IDLE;
	for (unsigned i = 0; i <= IDLE; i++) {
		hb_transport_abort(&tn[i].t, HB_CLOSE_LOCAL_CLOSE);
		hb_h2_close(&h2[i], HB_CLOSE_LOCAL_CLOSE);
		(void)close(fd[i]);
	}
	HBI_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	hbt_pki_fini(&pki);
	house_fini();
	return (before);
}

/* TLS that is passed on by its server name: two sockets. */
static size_t
passthrough_bytes(void)
{
	struct hb_conn_owner own = { .listener_name = "bench" };
	struct hb_transport *t;
	int fd[2 * IDLE + 2];
	size_t before = 0;

	house("- name: tcp\n  typed_config: " PROXY "\n");
	for (unsigned i = 0; i <= IDLE; i++) {
		struct hb_facts facts = hbf_facts("outbound_.80_._.web.ns.svc.cluster.local");

		if (i == 1) /* the first one makes what all share */
			before = hbi_heap();
		t = hbt_tcp_and_fd(&fd[2 * i], false, NULL);
		(void)hb_conn_start(hbt_worker(), t, &facts, w.chain, &own);
		fd[2 * i + 1] = hbi_accept(w.origin);
		for (int k = 0; k < 4; k++)
			hbi_turn();
	}
	before = (hbi_heap() - before) / IDLE;
	for (unsigned i = 0; i < HB_ARRAY_LEN(fd); i++)
		(void)close(fd[i]);
	house_fini();
	return (before);
}

const struct hbi_run hbi_tunnels = { "tunnels", "tunnels", 10000, 50, tunnels_setup, tunnels,
	tunnels_fini };
const struct hbi_memory hbi_mem_passthrough = { "idle_passthrough_connection", passthrough_bytes };
const struct hbi_memory hbi_mem_connection = { "idle_tunnel_connection", connection_bytes };
const struct hbi_memory hbi_mem_stream = { "idle_tunnel_stream", stream_bytes };

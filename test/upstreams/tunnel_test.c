/* SPDX-License-Identifier: Apache-2.0 */
/* Tunnels to endpoints: requests, sharing of connections, refusals, endings, time limits. */
#include "test/upstreams/peer.h"

#include <stdio.h>
#include <unistd.h>

#include "test/core/http/h2_frames.h"

static struct peer p;
static struct up_dial dials[PEER_STREAMS];

static int
setup(void **state)
{
	memset(&p, 0, sizeof p);
	p.fd = -1;
	return (up_setup(state));
}

static int
teardown(void **state)
{
	for (size_t i = 0; i < HB_ARRAY_LEN(dials); i++) {
		hb_dial_cancel(&dials[i].dial);
		if (dials[i].t != NULL)
			hb_transport_abort(&dials[i].t, HB_CLOSE_LOCAL_CLOSE);
	}
	memset(dials, 0, sizeof dials);
	peer_stop(&p);
	UP_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	return (up_teardown(state));
}

/* A cluster of the peer, with these options of Hbone and of the cluster. */
static struct hb_cluster *
cluster(const char *hbone, const char *rest)
{
	if (p.fd < 0)
		peer_start(&p);
	return (peer_cluster(&p, hbone, rest));
}

static void
start(unsigned i)
{
	up_dial_start(&dials[i], "c", 1, NULL);
}

/* Dials and waits. */
static void
dial(unsigned i)
{
	start(i);
	PEER_UNTIL(&p, dials[i].done == 1);
}

static unsigned
open_sessions(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p.n_sessions; i++)
		n += p.s[i].h2 != NULL;
	return (n);
}

static unsigned
succeeded(unsigned from, unsigned n)
{
	unsigned sum = 0;

	for (unsigned i = from; i < from + n; i++)
		sum += dials[i].t != NULL;
	return (sum);
}

static unsigned
finished(unsigned from, unsigned n)
{
	unsigned sum = 0;

	for (unsigned i = from; i < from + n; i++)
		sum += dials[i].done;
	return (sum);
}

/* Takes the stream of a dial over. */
static void
take(struct hbt_sink *s, unsigned i)
{
	memset(s, 0, sizeof *s);
	hbt_attach(s, dials[i].t);
	dials[i].t = NULL;
}

/* ------------------------------------------------------------------ requests */

static void
test_request(void **state)
{
	struct hb_cluster *c = cluster("", "");
	struct hbt_sink s;
	char want[64];

	(void)state;
	dial(0);
	assert_non_null(dials[0].t);
	(void)snprintf(want, sizeof want, "127.0.0.1:%u", p.port);
	assert_string_equal(p.authority, want);
	assert_string_equal(p.method, "CONNECT");
	assert_string_equal(p.path, "");
	assert_non_null(strstr(p.headers.p, "traceparent: 00-"));
	assert_null(strstr(p.headers.p, "baggage"));
	assert_int_equal(dials[0].endpoint.port, p.port);
	assert_int_equal(dials[0].local.kind, HB_ADDR_V4);
	take(&s, 0);
	hbt_writez(&s, "hello", true);
	PEER_UNTIL(&p, s.closed == 1);
	assert_true(hbt_gotz(&s, "hello"));
	assert_string_equal(s.trace, "deX");
	assert_int_equal(s.reason, HB_CLOSE_DONE);
	up_turns(4);
	assert_int_equal(up_stat(c, CL_CX_TOTAL), 1);
	assert_int_equal(up_stat(c, CL_CX_HTTP2), 1);
	assert_int_equal(up_stat(c, CL_RQ_TOTAL), 1);
	assert_int_equal(up_stat(c, CL_RQ_ACTIVE), 0);
	assert_int_equal(up_stat(c, CL_POOL_IDLE), 1);
	hbt_sink_fini(&s);
}

static void
test_request__headers(void **state)
{
	struct hb_facts f;

	(void)state;
	(void)cluster(
		", method: POST, path: /t, authority: 'shop.example:80', forwarded_network: n1, "
		"istio_source: gateway, baggage: {cluster: c1, namespace: ns, workload: w, "
		"service: s, version: v}, headers_to_add: [{header: {key: X-Sni, value: "
		"'%REQUESTED_SERVER_NAME%'}}, {header: {key: x-none, value: '%CONNECTION_ID%'}}, "
		"{header: {key: traceparent, value: t}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]",
		"");
	hb_facts_init(&f);
	hb_facts_hello_edit(&f)->sni = HB_STR("a.example");
	assert_true(hb_addr_parse(HB_STR("10.1.2.3:4567"), &f.remote));
	up_dial_start(&dials[0], "c", 1, &f);
	PEER_UNTIL(&p, dials[0].done == 1);
	assert_non_null(dials[0].t);
	assert_string_equal(p.method, "POST");
	assert_string_equal(p.path, "/t");
	assert_string_equal(p.authority, "shop.example:80");
	assert_string_equal(p.headers.p,
		"baggage: k8s.cluster.name=c1,k8s.namespace.name=ns,k8s.deployment.name=w,"
		"service.name=s,service.version=v\n"
		"forwarded: for=\"10.1.2.3:4567\";host=shop.example\n"
		"x-forwarded-network: n1\nx-istio-source: gateway\nx-sni: a.example\n"
		"x-none: 0\ntraceparent: t\n");
	hb_facts_fini(&f);
}

static void
test_request__of_a_gateway(void **state)
{
	struct hb_facts f;

	(void)state;
	(void)cluster(", baggage: {cluster: mine, forward: true}", "");
	hb_facts_init(&f);
	assert_true(hb_facts_metadata_set(
		&f, HB_STR(HB_META_REQUEST), HB_STR("baggage"), HB_STR("k8s.cluster.name=theirs")));
	assert_true(hb_facts_metadata_set(&f, HB_STR(HB_META_REQUEST), HB_STR("traceparent"),
		HB_STR("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")));
	up_dial_start(&dials[0], "c", 1, &f);
	PEER_UNTIL(&p, dials[0].done == 1);
	assert_non_null(strstr(p.headers.p, "baggage: k8s.cluster.name=theirs\n"));
	assert_non_null(strstr(p.headers.p, "traceparent: 00-0af7651916cd43dd8448eb211c80319c-"));
	assert_null(strstr(p.headers.p, "b7ad6b7169203331"));
	dial(1);
	assert_non_null(strstr(p.headers.p, "baggage: k8s.cluster.name=mine\n"));
	hb_facts_fini(&f);
}

static void
test_request__authority_must_fit(void **state)
{
	(void)state;
	(void)cluster(", authority: '%REQUESTED_SERVER_NAME%:443'", "");
	dial(0);
	assert_null(dials[0].t);
	assert_int_equal(dials[0].reason, HB_CLOSE_CONNECT_FAILED);
	assert_non_null(strstr(dials[0].failure, "tunnel: authority \":443\""));
	assert_int_equal(p.n_sessions, 0);
}

/* ------------------------------------------------------------------ sharing */

static void
test_burst(void **state)
{
	struct hb_cluster *c;

	(void)state;
	p.opt.streams_max = 100;
	c = cluster("", "");
	for (unsigned i = 0; i < 250; i++)
		start(i);
	PEER_UNTIL(&p, finished(0, 250) == 250);
	assert_int_equal(succeeded(0, 250), 250);
	assert_int_equal(p.n_sessions, 3);
	assert_int_equal(up_stat(c, CL_CX_TOTAL), 3);
	assert_int_equal(up_stat(c, CL_RQ_ACTIVE), 250);
	assert_int_equal(up_stat(c, CL_RQ_RETRY), 0);
	/* Full ones take more when streams have ended: no fourth. */
	for (unsigned i = 0; i < 100; i++)
		up_close(&dials[i]);
	for (unsigned i = 0; i < 100; i++)
		start(i);
	PEER_UNTIL(&p, finished(0, 100) == 100);
	assert_int_equal(succeeded(0, 250), 250);
	assert_int_equal(p.n_sessions, 3);
}

static void
test_burst__smaller_limit(void **state)
{
	struct hb_cluster *c;

	(void)state;
	p.opt.streams_max = 40;
	c = cluster("", "");
	for (unsigned i = 0; i < 100; i++)
		start(i);
	PEER_UNTIL(&p, finished(0, 100) == 100);
	assert_int_equal(succeeded(0, 100), 100);
	assert_in_range(p.n_sessions, 3, 4);
	assert_int_equal(up_stat(c, CL_RQ_RETRY), 60);
}

static void
test_spread(void **state)
{
	(void)state;
	(void)cluster(", pool: {streams_per_connection: 2}", "");
	for (unsigned i = 0; i < 4; i++)
		dial(i);
	assert_int_equal(p.n_sessions, 2);
	up_close(&dials[0]);
	up_close(&dials[2]);
	/* Each has one: they go to both. */
	dial(0);
	dial(2);
	assert_int_equal(p.n_sessions, 2);
	assert_int_equal(p.s[0].streams, 3);
	assert_int_equal(p.s[1].streams, 3);
}

static void
test_limits(void **state)
{
	struct hb_cluster *c = cluster(
		", pool: {streams_per_connection: 1, connections_per_peer: 2}",
		", circuit_breakers: {thresholds: [{max_requests: 3}]}");

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		start(i);
	PEER_UNTIL(&p, finished(0, 3) == 2);
	assert_int_equal(up_stat(c, CL_POOL_OVERFLOW) > 0, true);
	/* The third finds room when one ends. */
	up_close(&dials[0]);
	PEER_UNTIL(&p, dials[2].done == 1);
	assert_non_null(dials[2].t);
	assert_int_equal(p.n_sessions, 2);
	/* One that finds none gives up. */
	start(3);
	up_turns(4);
	for (unsigned i = 0; dials[3].done == 0 && i < 40; i++)
		up_advance(1000);
	assert_int_equal(dials[3].reason, HB_CLOSE_CONNECT_TIMEOUT);
	assert_string_equal(dials[3].failure, "tunnel: no room on the 2 connections to this peer");
}

static void
test_limits__requests(void **state)
{
	struct hb_cluster *c = cluster("", ", circuit_breakers: {thresholds: [{max_requests: 2}]}");

	(void)state;
	dial(0);
	dial(1);
	dial(2);
	assert_int_equal(dials[2].reason, HB_CLOSE_UPSTREAM_OVERFLOW);
	assert_int_equal(up_stat(c, CL_RQ_OVERFLOW), 1);
	up_close(&dials[0]);
	dial(2);
	assert_non_null(dials[2].t);
}

static void
test_limits__connections(void **state)
{
	(void)state;
	(void)cluster(", pool: {streams_per_connection: 1}",
		", circuit_breakers: {thresholds: [{max_connections: 0}]}");
	dial(0);
	assert_int_equal(dials[0].reason, HB_CLOSE_UPSTREAM_OVERFLOW);
}

static void
test_idle(void **state)
{
	struct hb_cluster *c = cluster(", pool: {keepalive_interval: 0s}", "");

	(void)state;
	dial(0);
	up_advance(600000);
	assert_int_equal(open_sessions(), 1);
	up_close(&dials[0]);
	up_advance(100000);
	PEER_UNTIL(&p, up_stat(c, CL_POOL_IDLE) == 1);
	assert_int_equal(open_sessions(), 1);
	up_advance(300000);
	PEER_UNTIL(&p, open_sessions() == 0);
	PEER_UNTIL(&p, up_stat(c, CL_POOL_ACTIVE) == 0);
	assert_int_equal(up_stat(c, CL_POOL_IDLE), 0);
	assert_int_equal(up_stat(c, CL_CX_IDLE), 1);
	assert_int_equal(p.s[0].reason, HB_CLOSE_DONE);
	dial(0);
	assert_non_null(dials[0].t);
	assert_int_equal(p.n_sessions, 2);
}

static void
test_idle__not_too_many(void **state)
{
	struct hb_cluster *c = cluster(
		", pool: {streams_per_connection: 1, idle_connections: 2}", "");

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		dial(i);
	for (unsigned i = 0; i < 4; i++)
		up_close(&dials[i]);
	PEER_UNTIL(&p, open_sessions() == 2);
	assert_int_equal(up_stat(c, CL_POOL_EVICTED), 2);
	assert_int_equal(up_stat(c, CL_POOL_IDLE), 2);
	/* Those used longest ago are gone. */
	assert_null(p.s[0].h2);
	assert_null(p.s[1].h2);
}

static void
test_cluster_replaced(void **state)
{
	struct hbt_sink s;

	(void)state;
	(void)cluster("", "");
	dial(0);
	(void)cluster(", istio_source: gateway", "");
	dial(1);
	assert_int_equal(p.n_sessions, 2);
	assert_non_null(strstr(p.headers.p, "x-istio-source"));
	/* The stream of the old one goes on, and its connection ends with it. */
	take(&s, 0);
	hbt_writez(&s, "on", true);
	PEER_UNTIL(&p, s.closed == 1);
	assert_true(hbt_gotz(&s, "on"));
	PEER_UNTIL(&p, open_sessions() == 1);
	assert_null(p.s[0].h2);
	hbt_sink_fini(&s);
	/* One that idles ends at once. */
	up_close(&dials[1]);
	up_remove("c");
	PEER_UNTIL(&p, open_sessions() == 0);
}

/* ------------------------------------------------------------------ another identity */

static uint64_t generation;

static struct hb_transport *
id_wrap(const void *conf, struct hb_transport *lower, const struct hb_facts *f, struct hb_str host)
{
	(void)conf;
	(void)f;
	(void)host;
	return (lower);
}

static void
id_key(const void *conf, const struct hb_facts *f, struct hb_str host, struct hb_text *t)
{
	(void)conf;
	(void)host;
	hb_text_printf(t, "id=%.*s;", HB_STR_FMT(hb_facts_tls(f)->principal));
}

static uint64_t
id_generation(const void *conf)
{
	(void)conf;
	return (generation);
}

/* Stands for TLS; its message is one that no other transport socket has. */
static struct hb_transport_socket_type id_type = {
	.name = "test.id",
	.wrap = id_wrap,
	.key = id_key,
	.generation = id_generation,
};

static struct hb_cluster *
id_cluster(void)
{
	if (id_type.upstream == NULL) {
		id_type.upstream = hb_cfg_type_find(
			HB_STR("envoy.extensions.access_loggers.file.v3.FileAccessLog"));
		assert_int_equal(hb_transport_socket_register(&id_type, NULL), 0);
	}
	return (cluster(
		", transport_socket: {name: id, typed_config: {'@type': type.googleapis.com/"
		"envoy.extensions.access_loggers.file.v3.FileAccessLog}}",
		""));
}

static void
id_dial(unsigned i, struct hb_facts *f, const char *id)
{
	hb_facts_tls_edit(f)->principal = hb_str(id);
	up_dial_start(&dials[i], "c", 1, f);
	PEER_UNTIL(&p, dials[i].done == 1);
	assert_non_null(dials[i].t);
}

static void
test_identity(void **state)
{
	struct hb_cluster *c = id_cluster();
	struct hb_facts f;

	(void)state;
	hb_facts_init(&f);
	id_dial(0, &f, "a");
	id_dial(1, &f, "a");
	assert_int_equal(p.n_sessions, 1);
	id_dial(2, &f, "b");
	assert_int_equal(p.n_sessions, 2);
	id_dial(3, &f, "a");
	assert_int_equal(p.n_sessions, 2);
	/* New certificates: what is open goes on, nothing new is put beside it. */
	generation++;
	id_dial(4, &f, "a");
	assert_int_equal(p.n_sessions, 3);
	assert_int_equal(up_stat(c, CL_POOL_STALE), 1);
	assert_int_equal(open_sessions(), 3);
	up_close(&dials[0]);
	up_close(&dials[1]);
	assert_int_equal(open_sessions(), 3);
	up_close(&dials[3]);
	PEER_UNTIL(&p, open_sessions() == 2);
	assert_null(p.s[0].h2);
	hb_facts_fini(&f);
}

/* ------------------------------------------------------------------ answers */

static unsigned answer_status;

static void
answer(struct peer *peer, const struct hb_h2_request *r, struct hb_transport *t)
{
	(void)peer;
	(void)r;
	hb_h2_stream_reject(&t, answer_status, NULL, 0);
}

static void
test_rejected(void **state)
{
	struct hb_cluster *c;

	(void)state;
	p.on_request = answer;
	c = cluster("", "");
	for (unsigned i = 0; i < 3; i++) {
		static const unsigned statuses[] = { 503, 401, 302 };
		char want[32];

		answer_status = statuses[i];
		dial(i);
		(void)snprintf(want, sizeof want, "tunnel_response:%u", answer_status);
		assert_int_equal(dials[i].reason, HB_CLOSE_TUNNEL_REJECTED);
		assert_string_equal(dials[i].failure, want);
	}
	/* Only the stream has ended. */
	assert_int_equal(p.n_sessions, 1);
	assert_int_equal(open_sessions(), 1);
	assert_int_equal(up_stat(c, CL_RQ_REJECTED), 3);
	assert_int_equal(up_stat(c, CL_RQ_TOTAL), 0);
}

static void
leave(struct peer *peer, const struct hb_h2_request *r, struct hb_transport *t)
{
	struct hbt_sink *s = hb_calloc(1, sizeof *s);

	(void)r;
	peer->stream[peer->n_streams++] = s;
	hbt_attach(s, t);
}

static void
test_answer_timeout(void **state)
{
	struct hb_cluster *c;

	(void)state;
	p.on_request = leave;
	c = cluster("", "");
	start(0);
	PEER_UNTIL(&p, p.n_streams == 1);
	up_advance(9000);
	assert_int_equal(dials[0].done, 0);
	up_advance(2000);
	PEER_UNTIL(&p, dials[0].done == 1);
	assert_int_equal(dials[0].reason, HB_CLOSE_CONNECT_TIMEOUT);
	assert_string_equal(dials[0].failure, "tunnel: no answer within 10000 ms");
	PEER_UNTIL(&p, p.stream[0]->closed == 1);
	assert_int_equal(open_sessions(), 1);
	assert_int_equal(up_stat(c, CL_RQ_TIMEOUT), 1);
}

static void
test_settings_timeout(void **state)
{
	(void)state;
	p.silent = true;
	(void)cluster("", "");
	start(0);
	PEER_UNTIL(&p, p.n_left == 1);
	for (unsigned i = 0; dials[0].done == 0 && i < 40; i++)
		up_advance(500);
	/* Either limit may be the first: both are 10 s. */
	assert_true(dials[0].reason == HB_CLOSE_HTTP_TIMEOUT ||
		dials[0].reason == HB_CLOSE_CONNECT_TIMEOUT);
	assert_int_equal(dials[0].done, 1);
}

static void
speak_first(struct peer *peer, const struct hb_h2_request *r, struct hb_transport *t)
{
	struct hbt_sink *s = peer_take(peer, t, false);

	(void)r;
	hbt_writez(s, "220 ready", true);
}

static void
test_server_speaks_first(void **state)
{
	struct hbt_sink s;

	(void)state;
	p.on_request = speak_first;
	(void)cluster("", "");
	dial(0);
	up_turns(4);
	take(&s, 0);
	PEER_UNTIL(&p, s.ends == 1);
	assert_true(hbt_gotz(&s, "220 ready"));
	hbt_writez(&s, "quit", true);
	PEER_UNTIL(&p, s.closed == 1 && p.stream[0]->ends == 1);
	assert_true(hbt_gotz(p.stream[0], "quit"));
	hbt_sink_fini(&s);
}

static void
test_reset_after_data(void **state)
{
	struct hbt_sink s;

	(void)state;
	(void)cluster("", "");
	dial(0);
	take(&s, 0);
	hbt_writez(p.stream[0], "some", false);
	up_turns(2);
	hb_transport_abort(&p.stream[0]->t, HB_CLOSE_PEER_RESET);
	PEER_UNTIL(&p, s.closed == 1);
	assert_true(hbt_gotz(&s, "some"));
	assert_int_equal(s.ends, 0);
	assert_int_equal(s.reason, HB_CLOSE_STREAM_RESET);
	/* And the other way. */
	hbt_sink_fini(&s);
	dial(1);
	hb_transport_abort(&dials[1].t, HB_CLOSE_PEER_RESET);
	PEER_UNTIL(&p, p.stream[1]->closed == 1);
	assert_int_equal(p.stream[1]->reason, HB_CLOSE_STREAM_RESET);
	assert_int_equal(open_sessions(), 1);
	hbt_sink_fini(&s);
}

/* ------------------------------------------------------------------ refusals */

static unsigned refusals;

static void
refuse(struct peer *peer, const struct hb_h2_request *r, struct hb_transport *t)
{
	(void)r;
	if (refusals == 0) {
		(void)peer_take(peer, t, true);
		return;
	}
	refusals--;
	hb_transport_abort(&t, HB_CLOSE_STREAM_REFUSED);
}

static void
test_refused(void **state)
{
	struct hb_cluster *c;

	(void)state;
	p.on_request = refuse;
	refusals = 2;
	c = cluster("", "");
	dial(0);
	assert_non_null(dials[0].t);
	assert_int_equal(up_stat(c, CL_RQ_RETRY), 2);
	refusals = 100;
	dial(1);
	assert_int_equal(dials[1].reason, HB_CLOSE_STREAM_REFUSED);
	assert_string_equal(dials[1].failure, "tunnel: the peer refused the stream");
	assert_int_equal(up_stat(c, CL_RQ_RETRY), 5);
}

static void
test_refused__next_endpoint(void **state)
{
	struct peer q = { .fd = -1 };
	uint16_t ports[2];

	(void)state;
	peer_start(&p);
	peer_start(&q);
	p.on_request = refuse;
	refusals = 100;
	ports[0] = p.port;
	ports[1] = q.port;
	(void)up_cluster("{name: c, load_assignment: {endpoints: [{lb_endpoints: %s}]}, "
			 "transport_socket: " PEER_HBONE ", port: 0}}}",
		up_endpoints(ports, 2));
	for (unsigned i = 0; i < 2; i++) {
		up_dial_start(&dials[i], "c", 2, NULL);
		PEER_UNTIL(&p, (peer_accept(&q), dials[i].done == 1));
		assert_non_null(dials[i].t);
		assert_int_equal(dials[i].endpoint.port, q.port);
	}
	up_close(&dials[0]);
	up_close(&dials[1]);
	peer_stop(&q);
}

static void
test_goaway(void **state)
{
	struct hb_cluster *c = cluster("", "");
	struct hbt_sink s;

	(void)state;
	dial(0);
	take(&s, 0);
	hb_h2_drain(p.s[0].h2);
	PEER_UNTIL(&p, up_stat(c, CL_CX_GOAWAY) > 0);
	dial(1);
	assert_non_null(dials[1].t);
	assert_int_equal(p.n_sessions, 2);
	hbt_writez(&s, "still here", true);
	PEER_UNTIL(&p, s.closed == 1);
	assert_true(hbt_gotz(&s, "still here"));
	PEER_UNTIL(&p, p.s[0].h2 == NULL);
	hbt_sink_fini(&s);
}

/* The request is under way when the connection, which served others before, ends. */
static void
test_connection_lost(void **state)
{
	struct hb_cluster *c = cluster("", "");

	(void)state;
	dial(0);
	up_close(&dials[0]);
	start(0);
	hb_h2_abort(&p.s[0].h2, HB_CLOSE_SHUTDOWN);
	PEER_UNTIL(&p, dials[0].done == 1);
	assert_non_null(dials[0].t);
	assert_int_equal(up_stat(c, CL_RQ_RETRY), 1);
	assert_int_equal(p.n_sessions, 2);
}

static void
test_nobody_there(void **state)
{
	uint16_t port = up_closed_port();
	struct hb_cluster *c;

	(void)state;
	c = up_cluster("{name: c, load_assignment: {endpoints: [{lb_endpoints: %s}]}, "
		       "transport_socket: " PEER_HBONE ", port: 0}}}",
		up_endpoints(&port, 1));
	for (unsigned i = 0; i < 150; i++)
		start(i);
	UP_UNTIL(finished(0, 150) == 150);
	assert_int_equal(dials[149].reason, HB_CLOSE_CONNECT_REFUSED);
	assert_string_equal(dials[149].failure, "connect: Connection refused");
	assert_int_equal(up_stat(c, CL_CX_TOTAL), 2);
	assert_int_equal(up_stat(c, CL_POOL_ACTIVE), 0);
}

static void
test_cancel(void **state)
{
	(void)state;
	p.on_request = leave;
	(void)cluster("", "");
	/* While connecting, */
	start(0);
	hb_dial_cancel(&dials[0].dial);
	PEER_UNTIL(&p, p.n_sessions == 1);
	/* and while the answer is waited for. */
	start(1);
	PEER_UNTIL(&p, p.n_streams == 1);
	hb_dial_cancel(&dials[1].dial);
	PEER_UNTIL(&p, p.stream[0]->closed == 1);
	assert_int_equal(p.n_sessions, 1);
	assert_int_equal(open_sessions(), 1);
	p.on_request = NULL;
	dial(2);
	assert_non_null(dials[2].t);
	assert_int_equal(p.n_sessions, 1);
}

/* ------------------------------------------------------------------ frames by hand */

static struct hb_text seen;

static bool
saw(int fd, uint8_t type, uint32_t stream)
{
	char part[65536];
	ssize_t n;

	while ((n = hbt_fd_read(fd, part, sizeof part)) > 0) {
		size_t skip = seen.len == 0 ? strlen(PREFACE) : 0;

		assert_true((size_t)n > skip);
		hb_text_add(&seen, part + skip, (size_t)n - skip);
	}
	return (frame_find(&seen, type, stream, NULL));
}

static void
answer_200(struct hb_text *t, uint32_t stream, uint8_t flags)
{
	frame(t, HEADERS, (uint8_t)(END_HEADERS | flags), stream, "\x88", 1);
}

/* Requests go out before SETTINGS; data, END_STREAM and RST_STREAM(NO_ERROR) come in one piece. */
static void
test_wire(void **state)
{
	struct hb_text t = { 0 };
	struct hbt_sink s;

	(void)state;
	p.silent = true;
	(void)cluster("", "");
	start(0);
	start(1);
	PEER_UNTIL(&p, p.n_left == 1);
	UP_UNTIL(saw(p.left[0], HEADERS, 3));
	frame(&t, SETTINGS, 0, 0, NULL, 0);
	answer_200(&t, 1, 0);
	frame(&t, DATA, 0, 1, "all of ", 7);
	frame(&t, DATA, END_STREAM, 1, "it", 2);
	code_frame(&t, RST_STREAM, 1, 0);
	/* GOAWAY that covers the first alone: the second goes to another connection. */
	frame(&t, GOAWAY, 0, 0, "\0\0\0\1\0\0\0\0", 8);
	hbt_fd_write(p.left[0], t.p, t.len);
	hb_text_fini(&t);
	UP_UNTIL(dials[0].done == 1);
	take(&s, 0);
	hbt_writez(&s, "late", false);
	UP_UNTIL(s.ends == 1);
	assert_true(hbt_gotz(&s, "all of it"));
	hbt_writez(&s, "", true);
	UP_UNTIL(s.closed == 1);
	assert_int_equal(s.reason, HB_CLOSE_DONE);
	p.silent = false;
	PEER_UNTIL(&p, dials[1].done == 1);
	assert_non_null(dials[1].t);
	hb_text_fini(&seen);
	hbt_sink_fini(&s);
}

/* ------------------------------------------------------------------ Envoy's form */

static void
on_done(void *arg, struct hb_transport *t, enum hb_close_reason reason,
	const struct hb_upstream_info *info)
{
	struct up_dial *d = arg;

	d->done++;
	d->dial = NULL;
	d->t = t;
	d->reason = reason;
	(void)snprintf(d->failure, sizeof d->failure, "%.*s", HB_STR_FMT(info->failure));
}

static char response[256];

static void
on_response(void *arg, unsigned status, const struct hb_header *h, size_t n)
{
	int at = snprintf(response, sizeof response, "%u", status);

	(void)arg;
	for (size_t i = 0; i < n; i++)
		at += snprintf(response + at, sizeof response - (size_t)at, " %.*s=%.*s",
			HB_STR_FMT(h[i].name), HB_STR_FMT(h[i].value));
}

static void
ask(unsigned i, const struct hb_tunnel *t)
{
	struct hb_dial_request rq = {
		.cluster = HB_STR("c"),
		.tunnel = t,
		.arg = &dials[i],
		.on_done = on_done,
		.on_response = on_response,
	};

	memset(&dials[i], 0, sizeof dials[i]);
	*response = '\0';
	dials[i].dial = hb_dial(hbt_worker(), &rq);
	PEER_UNTIL(&p, dials[i].done == 1);
}

#define HTTP2                                                                                           \
	", typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: " \
	"{'@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, "        \
	"explicit_http_config: {http2_protocol_options: {max_concurrent_streams: 2}}}}"

static void
answer_with_header(struct peer *peer, const struct hb_h2_request *r, struct hb_transport *t)
{
	static const struct hb_h2_header h = { { "baggage", 7 }, { "a=b", 3 } };
	struct hbt_sink *s = hb_calloc(1, sizeof *s);

	(void)r;
	peer->stream[peer->n_streams++] = s;
	hbt_attach(s, t);
	hb_h2_stream_accept(t, &h, 1);
}

static void
test_asked(void **state)
{
	static const struct hb_header h = { { "x-a", 3 }, { "b", 1 } };
	struct hb_tunnel t = {
		.authority = HB_STR("web.example:80"), .headers = &h, .n_headers = 1
	};

	(void)state;
	peer_start(&p);
	p.on_request = answer_with_header;
	(void)up_cluster("{name: c, load_assignment: {endpoints: [{lb_endpoints: %s}]}" HTTP2 "}",
		up_endpoints(&p.port, 1));
	for (unsigned i = 0; i < 3; i++)
		ask(i, &t);
	assert_int_equal(succeeded(0, 3), 3);
	assert_int_equal(p.n_sessions, 2);
	assert_string_equal(p.authority, "web.example:80");
	assert_string_equal(p.headers.p, "x-a: b\n");
	assert_string_equal(response, "200 baggage=a=b");
	p.on_request = answer;
	answer_status = 404;
	ask(3, &t);
	assert_string_equal(response, "404");
	assert_string_equal(dials[3].failure, "tunnel_response:404");
	t.authority = HB_STR("web.example");
	ask(4, &t);
	assert_string_equal(dials[4].failure, "tunnel: authority \"web.example\" has no port");
}

static void
test_asked__no_http2(void **state)
{
	struct hb_tunnel t = { .authority = HB_STR("web.example:80") };

	(void)state;
	peer_start(&p);
	(void)up_cluster("{name: c, load_assignment: {endpoints: [{lb_endpoints: %s}]}}",
		up_endpoints(&p.port, 1));
	ask(0, &t);
	assert_int_equal(dials[0].reason, HB_CLOSE_CONNECT_FAILED);
	assert_non_null(strstr(dials[0].failure, "typed_extension_protocol_options"));
}

/* ------------------------------------------------------------------ configuration */

#define BAD(fields) \
	"{name: c, load_assignment: {endpoints: []}, transport_socket: " PEER_HBONE fields "}}}"

static void
test_refused_configurations(void **state)
{
	(void)state;
	up_refused(BAD(", method: GET"), "method: must be CONNECT or POST", NULL);
	up_refused(BAD(", path: /x"), "path: is for method POST", NULL);
	up_refused(BAD(", authority: '%NOPE%'"), "authority", NULL);
	up_refused(BAD(", port: 70000"), "port", NULL);
	up_refused(BAD(", istio_source: me"), "istio_source: must be", NULL);
	up_refused(BAD(", forwarded_network: 'a b'"), "forwarded_network: must be", NULL);
	up_refused(BAD(", headers_to_add: [{header: {key: ':path', value: x}}]"),
		"key: is no name of a header", NULL);
	up_refused(BAD(", headers_to_add: [{header: {key: Connection, value: x}}]"),
		"key: is a header that is not sent with tunnels", NULL);
	up_refused(BAD(", baggage: {workload_kind: x}"), "workload_kind: must be", NULL);
	up_refused(BAD(", pool: {answer_timeout: 0s, streams_per_connection: 0}"),
		"streams_per_connection", "answer_timeout: must be above 0", NULL);
	up_refused(BAD(", through: {through: {through: {through: {}}}}"), "through: is deeper than",
		NULL);
	up_refused(
		BAD(", transport_socket: " PEER_HBONE "}}"), "put the outer tunnel into through", NULL);
	up_refused("{name: c, load_assignment: {endpoints: []}, typed_extension_protocol_options: "
		   "{x: {'@type': type.googleapis.com/"
		   "envoy.extensions.upstreams.http.v3.HttpProtocolOptions}}}",
		"\"x\" is not known", NULL);
	up_refused("{name: c, load_assignment: {endpoints: []}, typed_extension_protocol_options: "
		   "{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': "
		   "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions}}}",
		"needs explicit_http_config", NULL);
}

int
main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_request),
		T(test_request__headers),
		T(test_request__of_a_gateway),
		T(test_request__authority_must_fit),
		T(test_burst),
		T(test_burst__smaller_limit),
		T(test_spread),
		T(test_limits),
		T(test_limits__requests),
		T(test_limits__connections),
		T(test_idle),
		T(test_idle__not_too_many),
		T(test_cluster_replaced),
		T(test_identity),
		T(test_rejected),
		T(test_answer_timeout),
		T(test_settings_timeout),
		T(test_server_speaks_first),
		T(test_reset_after_data),
		T(test_refused),
		T(test_refused__next_endpoint),
		T(test_goaway),
		T(test_connection_lost),
		T(test_nobody_there),
		T(test_cancel),
		T(test_wire),
		T(test_asked),
		T(test_asked__no_http2),
		T(test_refused_configurations),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints that are listeners of the process, and tunnels inside tunnels. */
#include "test/upstreams/peer.h"

#include <stdio.h>
#include <unistd.h>

#include "core/filter/acceptor.h"

#define RAW                                                        \
	"{name: raw, typed_config: {'@type': type.googleapis.com/" \
	"envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}"

extern const struct hb_transport_socket_type hb_tsocket_raw_buffer;

static struct up_dial dials[8];

/* ------------------------------------------------------------------ listeners */

static struct {
	unsigned n;
	struct hbt_sink s[8];
	struct hb_facts facts[8];
	bool wait; /* accept is left to the test */
	enum hb_close_reason reject;
} in;

static int
take(struct hb_worker *w, struct hb_str name, struct hb_transport *t, struct hb_facts *f)
{
	struct hbt_sink *s = &in.s[in.n];

	(void)w;
	if (!hb_str_eq(name, HB_STR("inside")))
		return (-ENOENT);
	in.facts[in.n++] = *f;
	hb_facts_init(f);
	if (in.reject != HB_CLOSE_NONE) {
		hb_transport_reject(&t, in.reject);
		return (0);
	}
	s->echo = s->end_on_end = true;
	hbt_attach(s, t);
	if (!in.wait)
		hb_transport_accept(t);
	return (0);
}

static const struct hb_acceptor_ops acceptor = { .accept = take };

static int
group_setup(void **state)
{
	(void)state;
	hb_acceptor_bind(&acceptor);
	return (hb_transport_socket_register(&hb_tsocket_raw_buffer, NULL));
}

static int
setup(void **state)
{
	memset(&in, 0, sizeof in);
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
	for (size_t i = 0; i < HB_ARRAY_LEN(in.s); i++) {
		hbt_sink_fini(&in.s[i]);
		hb_facts_fini(&in.facts[i]);
	}
	up_turns(4);
	UP_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	return (up_teardown(state));
}

#define ENDPOINT(name, metadata)                                              \
	"load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: " \
	"{envoy_internal_address: {server_listener_name: " name "}}}" metadata "}]}]}"
#define UPSTREAM(fields)                                                                      \
	"transport_socket: {name: i, typed_config: {'@type': type.googleapis.com/"            \
	"envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport, " \
	"transport_socket: " RAW fields "}}"

static void
dial(unsigned i, const struct hb_facts *f)
{
	up_dial_start(&dials[i], "c", 1, f);
	UP_UNTIL(dials[i].done == 1);
}

static void
test_internal(void **state)
{
	struct hb_cluster *c = up_cluster("{name: c, " ENDPOINT("inside", "") "}");
	struct hb_facts f;
	struct hbt_sink s = { .t = NULL };

	(void)state;
	hb_facts_init(&f);
	assert_true(hb_addr_parse(HB_STR("10.1.2.3:4567"), &f.remote));
	hb_facts_tls_edit(&f)->principal = HB_STR("spiffe://td/ns/a/sa/b");
	assert_true(hb_facts_state_set(&f, HB_STR("k"), HB_STR("v"), false, 2));
	dial(0, &f);
	assert_non_null(dials[0].t);
	assert_int_equal(dials[0].endpoint.kind, HB_ADDR_NONE);
	hbt_attach(&s, dials[0].t);
	dials[0].t = NULL;
	hbt_writez(&s, "hello", true);
	UP_UNTIL(s.closed == 1);
	assert_true(hbt_gotz(&s, "hello"));
	assert_int_equal(in.facts[0].local.kind, HB_ADDR_INTERNAL);
	assert_string_equal(in.facts[0].local.u.name, "inside");
	assert_int_equal(in.facts[0].remote.port, 4567);
	assert_true(
		hb_str_eq(hb_facts_tls(&in.facts[0])->principal, HB_STR("spiffe://td/ns/a/sa/b")));
	/* Filter state is for internal_upstream to hand over. */
	assert_null(hb_facts_state(&in.facts[0], HB_STR("k")).p);
	up_turns(4);
	assert_int_equal(up_stat(c, CL_CX_TOTAL), 1);
	assert_int_equal(up_stat(c, CL_CX_ACTIVE), 0);
	hbt_sink_fini(&s);
	hb_facts_fini(&f);
}

static void
test_internal__handed_over(void **state)
{
	struct hb_facts f, below;
	struct hb_str s;

	(void)state;
	(void)up_cluster("{name: c, metadata: {filter_metadata: {c: {x: 7}}}, " ENDPOINT("inside",
		", metadata: {filter_metadata: {h: {a: text, b: true, c: {}}, other: {a: no}}}") ", " UPSTREAM(", passthrough_metadata: [{kind: {host: {}}, name: h}, {kind: {cluster: {}}, "
													       "name: c}]") "}");
	hb_facts_init(&below);
	hb_facts_init(&f);
	f.parent = &below;
	assert_true(hb_facts_state_set(&below, HB_STR("far"), HB_STR("1"), true, 2));
	assert_true(hb_facts_state_set(&f, HB_STR("once"), HB_STR("2"), false, 1));
	assert_true(hb_facts_state_set(&f, HB_STR("none"), HB_STR("3"), false, 0));
	dial(0, &f);
	assert_non_null(dials[0].t);
	s = hb_facts_state(&in.facts[0], HB_STR("far"));
	assert_true(hb_str_eq(s, HB_STR("1")));
	assert_int_equal(hb_facts_state_entry(&in.facts[0], HB_STR("far"))->shared, 2);
	assert_true(hb_facts_state_entry(&in.facts[0], HB_STR("far"))->read_only);
	assert_int_equal(hb_facts_state_entry(&in.facts[0], HB_STR("once"))->shared, 0);
	assert_null(hb_facts_state(&in.facts[0], HB_STR("none")).p);
	s = hb_facts_metadata(&in.facts[0], HB_STR("h"), HB_STR("a"));
	assert_true(hb_str_eq(s, HB_STR("text")));
	s = hb_facts_metadata(&in.facts[0], HB_STR("h"), HB_STR("b"));
	assert_true(hb_str_eq(s, HB_STR("true")));
	s = hb_facts_metadata(&in.facts[0], HB_STR("c"), HB_STR("x"));
	assert_true(hb_str_eq(s, HB_STR("7")));
	assert_null(hb_facts_metadata(&in.facts[0], HB_STR("other"), HB_STR("a")).p);
	hb_facts_fini(&f);
	hb_facts_fini(&below);
}

/* Connected when the chain inside has accepted, which it does when its own upstream is there. */
static void
test_internal__accepted_late(void **state)
{
	(void)state;
	(void)up_cluster("{name: c, connect_timeout: 2s, " ENDPOINT("inside", "") "}");
	in.wait = true;
	up_dial_start(&dials[0], "c", 1, NULL);
	up_turns(8);
	assert_int_equal(dials[0].done, 0);
	hb_transport_accept(in.s[0].t);
	UP_UNTIL(dials[0].done == 1);
	assert_non_null(dials[0].t);
	up_dial_start(&dials[1], "c", 1, NULL);
	up_turns(8);
	up_advance(3000);
	UP_UNTIL(dials[1].done == 1);
	assert_int_equal(dials[1].reason, HB_CLOSE_CONNECT_TIMEOUT);
	in.reject = HB_CLOSE_CONNECT_REFUSED;
	dial(2, NULL);
	assert_int_equal(dials[2].reason, HB_CLOSE_CONNECT_REFUSED);
}

static void
test_internal__refused(void **state)
{
	struct hb_facts f;

	(void)state;
	(void)up_cluster("{name: c, " ENDPOINT("outside", "") "}");
	dial(0, NULL);
	assert_int_equal(dials[0].reason, HB_CLOSE_NO_ROUTE);
	assert_string_equal(
		dials[0].failure, "internal listener: there is no listener of this name");
	/* A loop of internal listeners ends. */
	(void)up_cluster("{name: c, " ENDPOINT("inside", "") "}");
	hb_facts_init(&f);
	for (unsigned i = 0; i < 12; i++) {
		up_dial_start(&dials[0], "c", 1, &f);
		UP_UNTIL(dials[0].done == 1);
		if (dials[0].t == NULL)
			break;
		up_close(&dials[0]);
		hb_facts_fini(&f);
		f = in.facts[0];
		hb_facts_init(&in.facts[0]);
		hbt_sink_fini(&in.s[0]);
		memset(&in.s[0], 0, sizeof in.s[0]);
		in.n = 0;
	}
	assert_non_null(strstr(dials[0].failure, "is there a loop?"));
	hb_facts_fini(&f);
	up_refused("{name: c, type: STRICT_DNS, " ENDPOINT("inside", "") "}",
		"DNS has no listeners; use a cluster of type STATIC", NULL);
	up_refused("{name: c, " ENDPOINT("''", "") "}", "server_listener_name: must not be empty",
		NULL);
	up_refused("{name: c, " ENDPOINT("a", "") ", " UPSTREAM(
			   ", passthrough_metadata: [{name: x}, {kind: {host: {}}}]") "}",
		"kind: must be host or cluster", "name: must not be empty", NULL);
	up_refused(
		"{name: c, " ENDPOINT("a",
			"") ", transport_socket: {name: i, typed_config: "
			    "{'@type': type.googleapis.com/envoy.extensions.transport_sockets."
			    "internal_upstream.v3.InternalUpstreamTransport, transport_socket: " PEER_HBONE
			    "}}}}}",
		"makes connections itself", NULL);
}

/* ------------------------------------------------------------------ tunnels in tunnels */

static struct peer outer, inner;

/* The outer proxy hands the bytes of its streams to the inner one. */
static void
carry(struct peer *p, const struct hb_h2_request *r, struct hb_transport *t)
{
	(void)p;
	(void)r;
	hb_transport_accept(t);
	peer_serve(&inner, t);
}

static unsigned
open_sessions(const struct peer *p)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->n_sessions; i++)
		n += p->s[i].h2 != NULL;
	return (n);
}

static void
double_start(const char *through)
{
	memset(&outer, 0, sizeof outer);
	memset(&inner, 0, sizeof inner);
	inner.fd = -1;
	peer_start(&outer);
	outer.on_request = carry;
	(void)up_cluster("{name: c, load_assignment: {endpoints: [{lb_endpoints: %s}]}, "
			 "transport_socket: " PEER_HBONE ", authority: 'svc.example:80', "
			 "forwarded_network: net1, through: {port: 0, istio_source: gateway%s}}}}",
		up_endpoints(&outer.port, 1), through);
}

static void
double_stop(void)
{
	for (size_t i = 0; i < HB_ARRAY_LEN(dials); i++) {
		hb_dial_cancel(&dials[i].dial);
		up_close(&dials[i]);
	}
	peer_stop(&inner);
	peer_stop(&outer);
}

static void
test_double(void **state)
{
	struct hb_cluster *c;
	struct hbt_sink s = { .t = NULL };

	(void)state;
	double_start("");
	c = hb_cluster_find(HB_STR("c"));
	for (unsigned i = 0; i < 3; i++) {
		up_dial_start(&dials[i], "c", 1, NULL);
		PEER_UNTIL(&outer, dials[i].done == 1);
		assert_non_null(dials[i].t);
	}
	/* One outer connection with three streams, each with a session of its own in it. */
	assert_int_equal(outer.n_sessions, 1);
	assert_int_equal(outer.s[0].streams, 3);
	assert_int_equal(inner.n_sessions, 3);
	assert_int_equal(up_stat(c, CL_CX_TOTAL), 1);
	assert_string_equal(outer.authority, "svc.example:80");
	assert_non_null(strstr(outer.headers.p, "x-istio-source: gateway\n"));
	assert_null(strstr(outer.headers.p, "x-forwarded-network"));
	assert_string_equal(inner.authority, "svc.example:80");
	assert_non_null(strstr(inner.headers.p, "x-forwarded-network: net1\n"));
	hbt_attach(&s, dials[0].t);
	dials[0].t = NULL;
	hbt_writez(&s, "through both", true);
	PEER_UNTIL(&outer, s.closed == 1);
	assert_true(hbt_gotz(&s, "through both"));
	assert_int_equal(s.reason, HB_CLOSE_DONE);
	/* The inner session and its outer stream end with it; the outer connection stays. */
	PEER_UNTIL(&outer, open_sessions(&inner) == 2);
	PEER_UNTIL(&outer, hb_h2_streams(outer.s[0].h2) == 2);
	assert_int_equal(open_sessions(&outer), 1);
	hbt_sink_fini(&s);
	double_stop();
}

static void
refuse(struct peer *p, const struct hb_h2_request *r, struct hb_transport *t)
{
	(void)p;
	(void)r;
	hb_h2_stream_reject(&t, 503, NULL, 0);
}

static void
test_double__refused(void **state)
{
	(void)state;
	double_start("");
	outer.on_request = refuse;
	up_dial_start(&dials[0], "c", 1, NULL);
	PEER_UNTIL(&outer, dials[0].done == 1);
	assert_int_equal(dials[0].reason, HB_CLOSE_TUNNEL_REJECTED);
	assert_string_equal(dials[0].failure, "outer tunnel: tunnel_response:503");
	outer.on_request = carry;
	inner.on_request = refuse;
	up_dial_start(&dials[0], "c", 1, NULL);
	PEER_UNTIL(&outer, dials[0].done == 1);
	assert_string_equal(dials[0].failure, "tunnel_response:503");
	PEER_UNTIL(&outer, open_sessions(&inner) == 0);
	/* Given up at each stage. */
	for (unsigned turns = 0; turns < 12; turns++) {
		up_dial_start(&dials[1], "c", 1, NULL);
		for (unsigned i = 0; i < turns; i++) {
			peer_accept(&outer);
			up_turns(1);
		}
		hb_dial_cancel(&dials[1].dial);
		up_close(&dials[1]);
		up_turns(8);
		if (inner.n_sessions > 12)
			break;
	}
	PEER_UNTIL(&outer, open_sessions(&inner) == 0);
	double_stop();
}

static void
test_double__authority(void **state)
{
	(void)state;
	double_start(", authority: 'nowhere'");
	up_dial_start(&dials[0], "c", 1, NULL);
	UP_UNTIL(dials[0].done == 1);
	assert_string_equal(
		dials[0].failure, "outer tunnel: tunnel: authority \"nowhere\" has no port");
	double_stop();
}

int
main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_internal),
		T(test_internal__handed_over),
		T(test_internal__accepted_late),
		T(test_internal__refused),
		T(test_double),
		T(test_double__refused),
		T(test_double__authority),
	};

	return (cmocka_run_group_tests(tests, group_setup, NULL));
}

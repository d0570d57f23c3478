/* SPDX-License-Identifier: Apache-2.0 */
/* Transport sockets of clusters: TLS towards endpoints, the PROXY header, the choice by metadata. */
#include "test/upstreams/support.h"

#include <stdio.h>
#include <unistd.h>

#include "core/filter/transport_socket.h"
#include "core/transport/tls.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "test/support/certs/certs.h"

extern const struct hb_transport_socket_type hb_tsocket_raw_buffer, hb_tsocket_tls,
	hb_tsocket_proxy_protocol;

#define TLS_TYPE "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
#define RAW                                                        \
	"{name: raw, typed_config: {'@type': type.googleapis.com/" \
	"envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}"

static struct hb_test_cert *root, *leaf, *client;
static struct hb_text root_json, leaf_json, leaf_key_json, client_json, client_key_json;
static struct hb_transport_socket *server_socket;

static void
json(struct hb_text *t, const char *z)
{
	hb_text_json(t, z, strlen(z));
}

static int
group_setup(void **state)
{
	(void)state;
	assert_int_equal(hb_transport_socket_register(&hb_tsocket_raw_buffer, NULL), 0);
	assert_int_equal(hb_transport_socket_register(&hb_tsocket_tls, NULL), 0);
	assert_int_equal(hb_transport_socket_register(&hb_tsocket_proxy_protocol, NULL), 0);
	root = hb_test_root("root");
	leaf = hb_test_leaf(root, "URI:spiffe://td/ns/a/sa/b,DNS:*.a.example");
	client = hb_test_leaf(root, "URI:spiffe://td/ns/c/sa/d");
	json(&root_json, root->pem);
	json(&leaf_json, leaf->chain_pem);
	json(&leaf_key_json, leaf->key_pem);
	json(&client_json, client->chain_pem);
	json(&client_key_json, client->key_pem);
	return (0);
}

static int
group_teardown(void **state)
{
	(void)state;
	hb_test_cert_free(&root);
	hb_test_cert_free(&leaf);
	hb_test_cert_free(&client);
	hb_text_fini(&root_json);
	hb_text_fini(&leaf_json);
	hb_text_fini(&leaf_key_json);
	hb_text_fini(&client_json);
	hb_text_fini(&client_key_json);
	return (0);
}

static int
setup(void **state)
{
	const ProtobufCMessage *msg;
	struct hb_text yaml = { 0 };
	struct hb_cfg *cfg;

	(void)up_setup(state);
	hb_text_printf(&yaml,
		"{name: tls, typed_config: {'@type': " TLS_TYPE "DownstreamTlsContext, "
		"common_tls_context: {tls_certificates: [{certificate_chain: {inline_string: %s}, "
		"private_key: {inline_string: %s}}], alpn_protocols: [istio, h2]}}}",
		leaf_json.p, leaf_key_json.p);
	cfg = hb_cfg_new("server", NULL);
	msg = hb_cfg_parse_text(cfg, hb_strn(yaml.p, yaml.len),
		&envoy__config__core__v3__transport_socket__descriptor);
	assert_non_null(msg);
	assert_int_equal(
		hb_transport_socket_compile(cfg, msg, NULL, msg, false, &server_socket), 0);
	hb_cfg_free(&cfg);
	hb_text_fini(&yaml);
	return (0);
}

static int
teardown(void **state)
{
	up_turns(4);
	UP_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	up_turns(4);
	hb_transport_socket_free(&server_socket);
	return (up_teardown(state));
}

/* "{name: tls, typed_config: …}" with this validation and further fields. */
static const char *
tls_socket(const char *validation, const char *rest)
{
	static char text[16384];

	(void)snprintf(text, sizeof text,
		"{name: tls, typed_config: {'@type': " TLS_TYPE "UpstreamTlsContext, "
		"common_tls_context: {validation_context: {trusted_ca: {inline_string: %s}%s}}%s}}",
		root_json.p, validation, rest);
	return (text);
}

static struct hb_cluster *
cluster(const uint16_t *ports, size_t n, const char *socket, const char *rest)
{
	return (up_cluster(
		"{name: c, load_assignment: {endpoints: [{lb_endpoints: %s}]}, transport_socket: %s%s}",
		up_endpoints(ports, n), socket, rest));
}

/* Accepts and speaks TLS. */
static void
serve(struct hbt_sink *s, int listener)
{
	struct hb_transport *tcp = hb_tcp_from_fd(hbt_worker(), up_accept(listener), NULL);

	memset(s, 0, sizeof *s);
	hbt_attach(s, hb_transport_socket_wrap(server_socket, tcp, NULL, HB_STR("")));
}

/* Dials against a TLS server that accepts one connection. */
static uint16_t
dial(struct up_dial *d, struct hbt_sink *s, int listener, const struct hb_facts *facts)
{
	up_dial_start(d, "c", 1, facts);
	serve(s, listener);
	UP_UNTIL(d->done == 1);
	return (d->t == NULL ? 0 : d->endpoint.port);
}

static void
end(struct up_dial *d, struct hbt_sink *s)
{
	if (d->t != NULL)
		hb_transport_abort(&d->t, HB_CLOSE_LOCAL_CLOSE);
	hbt_sink_fini(s);
	up_turns(4);
}

/* ------------------------------------------------------------------ TLS */

static void
test_verified(void **state)
{
	struct hb_cluster *c;
	struct hbt_sink s;
	struct up_dial d;
	uint16_t port;
	int fd = up_listen(&port);

	(void)state;
	c = cluster(&port, 1,
		tls_socket(", match_typed_subject_alt_names: [{san_type: URI, matcher: "
			   "{prefix: 'spiffe://td/ns/a/'}}]",
			", sni: x.a.example"),
		"");
	assert_int_equal(dial(&d, &s, fd, NULL), port);
	assert_string_equal(d.peer, "spiffe://td/ns/a/sa/b");
	assert_true(hb_str_eq(hb_transport_tls_info(s.t)->sni, HB_STR("x.a.example")));
	assert_int_equal(up_stat(c, CL_TLS_HANDSHAKE), 1);
	/* The connection outlives its cluster and keeps the TLS context. */
	up_remove("c");
	up_turns(10);
	hbt_writez(&s, "still here", false);
	up_hold(&d);
	UP_UNTIL(d.t->bytes_in == 10);
	end(&d, &s);
	(void)close(fd);
}

static void
test_refused_identities(void **state)
{
	static const struct {
		const char *validation, *rest, *failure;
		enum hb_close_reason reason;
		enum hb_cluster_stat stat;
	} rows[] = {
		{ ", match_typed_subject_alt_names: [{san_type: URI, matcher: {exact: 'spiffe://td/ns/a/sa/x'}}]",
			"", "TLS: no subject alternative name is an allowed one", HB_CLOSE_TLS_SAN,
			CL_TLS_SAN },
		{ ", match_subject_alt_names: [{exact: 'y.b.example'}]", "",
			"TLS: no subject alternative name is an allowed one", HB_CLOSE_TLS_SAN,
			CL_TLS_SAN },
		{ "", ", sni: x.b.example, auto_sni_san_validation: true",
			"TLS: no DNS name of the certificate covers the server name x.b.example",
			HB_CLOSE_TLS_SAN, CL_TLS_SAN },
		{ ", verify_certificate_hash: ['00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff']",
			"", "TLS: the certificate is none of the pinned ones", HB_CLOSE_TLS_VERIFY,
			CL_TLS_VERIFY },
	};
	uint16_t port;
	int fd = up_listen(&port);

	(void)state;
	for (size_t i = 0; i < HB_ARRAY_LEN(rows); i++) {
		struct hb_cluster *c = cluster(
			&port, 1, tls_socket(rows[i].validation, rows[i].rest), "");
		int64_t before = up_stat(c, rows[i].stat);
		struct hbt_sink s;
		struct up_dial d;

		assert_int_equal(dial(&d, &s, fd, NULL), 0);
		assert_string_equal(d.failure, rows[i].failure);
		assert_int_equal(d.reason, rows[i].reason);
		assert_int_equal(up_stat(c, rows[i].stat), before + 1);
		assert_int_equal(up_stat(c, CL_CX_ACTIVE), 0);
		end(&d, &s);
	}
	(void)close(fd);
}

static void
test_accepted_identities(void **state)
{
	static const struct {
		const char *validation, *rest;
	} rows[] = {
		/* A wildcard of the certificate stands for the name. */
		{ ", match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: x.a.example}}]",
			"" },
		{ ", match_subject_alt_names: [{exact: nothing}, {suffix: /sa/b}]", "" },
		{ ", match_subject_alt_names: [{exact: X.A.EXAMPLE}]", "" },
		{ "", ", sni: x.a.example, auto_sni_san_validation: true" },
		/* The server name replaces other conditions. */
		{ ", match_subject_alt_names: [{exact: nothing}]",
			", sni: x.a.example, auto_sni_san_validation: true" },
	};
	uint16_t port;
	int fd = up_listen(&port);

	(void)state;
	for (size_t i = 0; i < HB_ARRAY_LEN(rows); i++) {
		struct hbt_sink s;
		struct up_dial d;

		(void)cluster(&port, 1, tls_socket(rows[i].validation, rows[i].rest), "");
		if (dial(&d, &s, fd, NULL) != port)
			fail_msg("row %zu: %s", i, d.failure);
		end(&d, &s);
	}
	(void)close(fd);
}

static void
test_server_names(void **state)
{
	struct hb_facts f;
	struct hbt_sink s;
	struct up_dial d;
	uint16_t port;
	int fd = up_listen(&port);

	(void)state;
	(void)up_cluster(
		"{name: c, load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {hostname: Host.a.example, "
		"address: {socket_address: {address: 127.0.0.1, port_value: %u}}}}]}]}, transport_socket: %s}",
		port, tls_socket("", ", sni: fixed.a.example, auto_host_sni: true"));
	assert_int_equal(dial(&d, &s, fd, NULL), port);
	assert_true(hb_str_eq(hb_transport_tls_info(s.t)->sni, HB_STR("host.a.example")));
	end(&d, &s);
	hb_facts_init(&f);
	(void)hb_facts_state_set(
		&f, HB_STR(HB_STATE_UPSTREAM_SERVER_NAME), HB_STR("wanted.example"), false, 0);
	assert_int_equal(dial(&d, &s, fd, &f), port);
	assert_true(hb_str_eq(hb_transport_tls_info(s.t)->sni, HB_STR("wanted.example")));
	end(&d, &s);
	hb_facts_fini(&f);
	(void)cluster(&port, 1, tls_socket("", ", sni: fixed.a.example, auto_host_sni: true"), "");
	assert_int_equal(dial(&d, &s, fd, NULL), port);
	assert_true(hb_str_eq(hb_transport_tls_info(s.t)->sni, HB_STR("fixed.a.example")));
	end(&d, &s);
	(void)close(fd);
}

static void
test_handshake_timeout(void **state)
{
	struct hb_cluster *c;
	struct up_dial d;
	uint16_t port;
	int fd = up_listen(&port), peer;

	(void)state;
	c = cluster(&port, 1, tls_socket("", ""), ", connect_timeout: 20s");
	up_dial_start(&d, "c", 1, NULL);
	peer = up_accept(fd);
	up_turns(10);
	/* The handshake's own limit of 15 s does not count here. */
	up_advance(16000);
	assert_int_equal(d.done, 0);
	up_advance(5000);
	UP_UNTIL(d.done == 1);
	assert_int_equal(d.reason, HB_CLOSE_TLS_TIMEOUT);
	assert_string_equal(d.failure, "TLS: no answer within 20000 ms");
	assert_int_equal(up_stat(c, CL_CX_CONNECT_TIMEOUT), 1);
	assert_int_equal(up_stat(c, CL_TLS_ERROR), 1);
	(void)close(peer);
	(void)close(fd);
}

static void
test_a_failed_handshake_goes_to_the_next(void **state)
{
	struct hb_cluster *c;
	struct hbt_sink s;
	struct up_dial d;
	uint16_t ports[2];
	int bad, fd[2] = { up_listen(&ports[0]), up_listen(&ports[1]) };
	bool done = false;

	(void)state;
	c = cluster(ports, 2, tls_socket("", ""), "");
	/* Round robin: one of two dials meets the bad one first. */
	for (unsigned i = 0; i < 4 && !done; i++) {
		up_dial_start(&d, "c", 2, NULL);
		UP_UNTIL((bad = accept4(fd[0], NULL, NULL, SOCK_NONBLOCK)) >= 0 ||
			hb_endpoint_active(atomic_load(&c->eps)->ep[1]) > 0);
		if (bad >= 0) {
			hbt_fd_write(bad, "this is not TLS\r\n", 17);
			done = true;
		}
		serve(&s, fd[1]);
		UP_UNTIL(d.done == 1);
		assert_int_equal(d.endpoint.port, ports[1]);
		if (bad >= 0)
			(void)close(bad);
		end(&d, &s);
	}
	assert_true(done);
	assert_int_equal(d.attempts, 2);
	assert_int_equal(up_stat(c, CL_TLS_ERROR), 1);
	(void)close(fd[0]);
	(void)close(fd[1]);
}

/* ------------------------------------------------------------------ PROXY header */

static void
facts_addresses(struct hb_facts *f)
{
	hb_facts_init(f);
	assert_true(hb_addr_parse(HB_STR("192.0.2.1:4711"), &f->remote));
	assert_true(hb_addr_parse(HB_STR("198.51.100.7:443"), &f->local));
}

static void
test_proxy_header__v1(void **state)
{
	static const char want[] = "PROXY TCP4 192.0.2.1 198.51.100.7 4711 443\r\n";
	char got[sizeof want - 1];
	struct hb_facts f;
	struct up_dial d;
	uint16_t port;
	int fd = up_listen(&port), peer;

	(void)state;
	facts_addresses(&f);
	(void)cluster(&port, 1,
		"{name: pp, typed_config: {'@type': type.googleapis.com/"
		"envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport, "
		"transport_socket: " RAW "}}",
		"");
	assert_int_equal(up_dial(&d, "c", 1, &f), port);
	assert_ptr_equal(hb_transport_raw(d.t, HB_DIR_READ), d.t);
	peer = up_accept(fd);
	hbt_fd_read_n(peer, got, sizeof got);
	assert_memory_equal(got, want, sizeof got);
	up_close(&d);
	(void)close(peer);
	(void)close(fd);
	hb_facts_fini(&f);
}

static void
test_proxy_header__v2_before_tls(void **state)
{
	static const uint8_t want[] = {
		'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n', 0x21, 0x11, 0,
		12 + 4 + 5, 192, 0, 2, 1, 198, 51, 100, 7, 0x12, 0x67, 0x01, 0xbb, 0xe0, 0, 1, 'x',
		0x02, 0, 2, 'a', 'b', 0x16, /* a TLS handshake record */
	};
	uint8_t got[sizeof want];
	struct hb_facts f;
	struct up_dial d;
	uint16_t port;
	int fd = up_listen(&port), peer;
	char socket[20000];

	(void)state;
	facts_addresses(&f);
	(void)hb_facts_metadata_set(&f, HB_STR(HB_META_PROXY_TLVS), HB_STR("0x02"), HB_STR("ab"));
	(void)hb_facts_metadata_set(
		&f, HB_STR(HB_META_PROXY_TLVS), HB_STR("0x03"), HB_STR("left out"));
	(void)snprintf(socket, sizeof socket,
		"{name: pp, typed_config: {'@type': type.googleapis.com/"
		"envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport, "
		"config: {version: V2, pass_through_tlvs: {match_type: INCLUDE, tlv_type: [2]}, "
		"added_tlvs: [{type: 224, value: eA==}]}, transport_socket: %s}}",
		tls_socket("", ""));
	(void)cluster(&port, 1, socket, "");
	up_dial_start(&d, "c", 1, &f);
	peer = up_accept(fd);
	hbt_fd_read_n(peer, got, sizeof got);
	assert_memory_equal(got, want, sizeof got);
	hb_dial_cancel(&d.dial);
	up_turns(4);
	(void)close(peer);
	(void)close(fd);
	hb_facts_fini(&f);
}

/* ------------------------------------------------------------------ choice by metadata */

static void
test_socket_by_metadata(void **state)
{
	static const char *const metadata[] = {
		"{filter_metadata: {envoy.transport_socket_match: {tlsMode: istio, n: 1, l: [a, {b: true}]}}}",
		"{filter_metadata: {envoy.transport_socket_match: {tlsMode: none}}}",
		"{filter_metadata: {other: {tlsMode: istio}}}",
	};
	static const bool tls[] = { true, false, false };
	struct hb_cluster *c;

	(void)state;
	for (size_t i = 0; i < HB_ARRAY_LEN(metadata); i++) {
		c = up_cluster(
			"{name: c, transport_socket_matches: [{name: m, match: {tlsMode: istio, l: [a, {b: true}]}, "
			"transport_socket: %s}, {name: rest, match: {}}], load_assignment: {endpoints: [{lb_endpoints: "
			"[{metadata: %s, endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}}]}]}}",
			tls_socket("", ""), metadata[i]);
		assert_int_equal(
			hb_transport_socket_secure(atomic_load(&c->eps)->ep[0]->conf->socket),
			tls[i]);
	}
	/* From the locality; and no match at all. */
	c = up_cluster(
		"{name: c, transport_socket_matches: [{name: m, match: {a: 1}, transport_socket: %s}], "
		"load_assignment: {endpoints: [{metadata: {filter_metadata: {envoy.transport_socket_match: {a: 1}}}, "
		"lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}}]}, "
		"{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 2}}}}]}]}}",
		tls_socket("", ""));
	assert_true(hb_transport_socket_secure(atomic_load(&c->eps)->ep[0]->conf->socket));
	assert_false(hb_transport_socket_secure(atomic_load(&c->eps)->ep[1]->conf->socket));
}

static void
test_warning(void **state)
{
	(void)state;
	up_warns(
		"{name: c, load_assignment: {}, transport_socket: {name: tls, typed_config: {'@type': " TLS_TYPE
		"UpstreamTlsContext}}}",
		"the peer is not verified");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_verified, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_identities, setup, teardown),
		cmocka_unit_test_setup_teardown(test_accepted_identities, setup, teardown),
		cmocka_unit_test_setup_teardown(test_server_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_handshake_timeout, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_failed_handshake_goes_to_the_next, setup, teardown),
		cmocka_unit_test_setup_teardown(test_proxy_header__v1, setup, teardown),
		cmocka_unit_test_setup_teardown(test_proxy_header__v2_before_tls, setup, teardown),
		cmocka_unit_test_setup_teardown(test_socket_by_metadata, setup, teardown),
		cmocka_unit_test_setup_teardown(test_warning, setup, teardown),
	};

	return (cmocka_run_group_tests(tests, group_setup, group_teardown));
}

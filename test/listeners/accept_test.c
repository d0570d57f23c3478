/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets, limits, balance, listener filters, the choice of a chain. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>
#include "core/event/io.h"
#include "core/filter/acceptor.h"
#include "core/stats/access_log.h"
#include "core/transport/pair.h"
#include "test/listeners/listener_env.h"

#define ADDR "address: {socket_address: {address: 127.0.0.1, port_value: 0}}\n"
#define TLS_INSPECTOR                                               \
	"listener_filters: [{name: tls, typed_config: {\"@type\": " \
	"type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}]\n"
#define FILTERS "filters: [{name: test.name}]"

static unsigned accepts;

/* In libc's place. */
int
accept4(int fd, struct sockaddr *restrict sa, socklen_t *restrict len, int flags)
{
	accepts++;
	return ((int)syscall(SYS_accept4, fd, sa, len, flags));
}

static int
setup(void **state)
{
	le_init(NULL);
	return (0);
}

static int
teardown(void **state)
{
	le_fini();
	return (0);
}

static void
test_no_filter_no_wait(void **state)
{
	struct le_client c;

	le_apply_ok("name: l\n" ADDR "filter_chains: [{name: a, " FILTERS "}]\n");
	le_connect(&c, le_port("l", 0));
	/* The server speaks first: nothing waited for a byte. */
	le_expect_line(&c, "a");
	le_expect_echo(&c);
	assert_int_equal(le_last_facts.local.port, le_port("l", 0));
	assert_int_equal(le_last_facts.remote.kind, HB_ADDR_V4);
	assert_true(hb_str_eq(hb_facts_transport_protocol(&le_last_facts), HB_STR("raw_buffer")));
	assert_int_equal(le_lstat("l", "downstream_cx_total"), 1);
	assert_int_equal(le_lstat("l", "downstream_cx_active"), 1);
	assert_int_equal(hb_listeners_connections(), 1);
	le_close(&c);
	LE_UNTIL(hb_listeners_connections() == 0);
	assert_int_equal(le_lstat("l", "downstream_cx_active"), 0);
	assert_int_equal(le_lstat("l", "downstream_cx_destroy"), 1);
}

#define SNI_CHAINS                                                                        \
	"filter_chains:\n"                                                                \
	"- {name: a, filter_chain_match: {server_names: [a.example]}, " FILTERS "}\n"     \
	"- {name: b, filter_chain_match: {server_names: ['*.b.example']}, " FILTERS "}\n" \
	"- {name: raw, filter_chain_match: {transport_protocol: raw_buffer}, " FILTERS "}\n"

static void
test_sni(void **state)
{
	struct le_client c;
	uint8_t hello[512];
	size_t n;

	le_apply_ok("name: l\n" ADDR TLS_INSPECTOR SNI_CHAINS);
	le_connect(&c, le_port("l", 0));
	/* Byte by byte, upper case. */
	n = le_hello(hello, sizeof hello, "X.B.Example", "h2,http/1.1");
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(c.n, 0);
		le_send(&c, &hello[i], 1);
		le_turn();
		le_turn();
	}
	le_expect_line(&c, "b");
	LE_UNTIL(le_received.len == n);
	assert_memory_equal(le_received.p, hello, n);
	assert_true(hb_str_eq(hb_facts_hello(&le_last_facts)->sni, HB_STR("x.b.example")));
	assert_int_equal(hb_facts_hello(&le_last_facts)->n_alpn, 2);
	assert_int_equal(le_stat("tls_inspector.sni_found"), 1);
	le_expect_echo(&c);
	le_close(&c);
	le_connect(&c, le_port("l", 0));
	le_send(&c, "GET / HTTP/1.1\r\n", 16);
	le_expect_line(&c, "raw");
	le_close(&c);
}

static void
test_no_chain_is_reset(void **state)
{
	struct le_client c;

	le_apply_ok("name: l\n" ADDR TLS_INSPECTOR SNI_CHAINS);
	le_connect(&c, le_port("l", 0));
	le_send_hello(&c, "c.example", NULL);
	le_expect_reset(&c);
	le_close(&c);
	assert_int_equal(le_lstat("l", "no_filter_chain_match"), 1);
	assert_int_equal(le_lstat("l", "downstream_cx_total"), 0);
	assert_int_equal(hb_listeners_connections(), 0);
	/* A default takes it. */
	le_apply_ok("name: l\n" ADDR TLS_INSPECTOR SNI_CHAINS
		    "default_filter_chain: {name: rest, " FILTERS "}\n");
	le_connect(&c, le_port("l", 0));
	le_send_hello(&c, "c.example", NULL);
	le_expect_line(&c, "rest");
	le_close(&c);
}

static void
test_timeout(void **state)
{
	struct le_client c;

	le_apply_ok("name: l\n" ADDR TLS_INSPECTOR SNI_CHAINS);
	le_connect(&c, le_port("l", 0));
	le_send(&c, "\x16\x03", 2);
	LE_UNTIL(le_lstat("l", "downstream_pre_cx_active") == 1);
	le_advance(14000);
	le_expect_silence(&c);
	le_advance(2500);
	le_expect_reset(&c);
	le_close(&c);
	assert_int_equal(le_lstat("l", "downstream_pre_cx_timeout"), 1);
	assert_int_equal(le_lstat("l", "downstream_pre_cx_active"), 0);
}

static void
test_continue_after_timeout(void **state)
{
	struct le_client c;

	le_apply_ok("name: l\n" ADDR TLS_INSPECTOR SNI_CHAINS
		    "listener_filters_timeout: 2s\ncontinue_on_listener_filters_timeout: true\n");
	le_connect(&c, le_port("l", 0));
	le_send(&c, "\x16\x03", 2);
	LE_UNTIL(le_lstat("l", "downstream_pre_cx_active") == 1);
	le_advance(2500);
	le_expect_line(&c, "raw");
	LE_UNTIL(le_received.len == 2);
	le_expect_echo(&c);
	le_close(&c);
}

static void
test_remote_close(void **state)
{
	struct le_client c;

	le_apply_ok("name: l\n" ADDR TLS_INSPECTOR SNI_CHAINS);
	le_connect(&c, le_port("l", 0));
	le_send(&c, "\x16\x03", 2);
	LE_UNTIL(le_lstat("l", "downstream_pre_cx_active") == 1);
	le_close(&c);
	LE_UNTIL(le_lstat("l", "downstream_listener_filter_remote_close") == 1);
	assert_int_equal(hb_listeners_connections(), 0);
}

static void
test_hello_too_large(void **state)
{
	struct le_client c;

	le_apply_ok("name: l\n" ADDR SNI_CHAINS
		    "listener_filters: [{name: tls, typed_config: {\"@type\": "
		    "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3."
		    "TlsInspector, max_client_hello_size: 512}}]\n");
	le_connect(&c, le_port("l", 0));
	le_send(&c, "\x16\x03\x01\x02\x04\x01\x00\x02\x00", 9);
	le_expect_reset(&c);
	le_close(&c);
	assert_int_equal(le_stat("tls_inspector.client_hello_too_large"), 1);
	assert_int_equal(le_lstat("l", "downstream_listener_filter_error"), 1);
}

static void
test_filter_disabled(void **state)
{
	struct le_client c;
	char yaml[1024];

	(void)snprintf(yaml, sizeof yaml,
		"name: l\n" ADDR "filter_chains: [{name: a, " FILTERS "}]\n"
		"listener_filters: [{name: tls, typed_config: {\"@type\": "
		"type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3."
		"TlsInspector}, filter_disabled: {or_match: {rules: [{destination_port_range: "
		"{start: 1, end: 65536}}, {not_match: {any_match: true}}]}}}]\n");
	le_apply_ok(yaml);
	le_connect(&c, le_port("l", 0));
	le_expect_line(&c, "a");
	le_close(&c);
}

/* The congestion control of our end of a client's connection. */
static void
congestion_of(const struct le_client *c, char ret[16])
{
	struct sockaddr_in own, peer;
	socklen_t len = sizeof own;

	assert_int_equal(getsockname(c->fd, (struct sockaddr *)&own, &len), 0);
	for (int fd = 3; fd < 1024; fd++) {
		len = sizeof peer;
		if (getpeername(fd, (struct sockaddr *)&peer, &len) != 0 ||
			peer.sin_family != AF_INET || peer.sin_port != own.sin_port)
			continue;
		len = 16;
		assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, ret, &len), 0);
		return;
	}
	fail_msg("the connection is not there");
}

static void
test_congestion(void **state)
{
	static const char *const names[] = { "auto", "reno" };
	struct le_client c;
	char name[16] = "";

	for (unsigned i = 0; i < 2; i++) {
		char *yaml = hb_asprintf(
			"name: l\n" ADDR "filter_chains: [{name: a, " FILTERS "}]\n"
			"metadata: {typed_filter_metadata: {hbone.listener: {\"@type\": "
			"type.googleapis.com/hbone.config.ListenerOptions, "
			"tcp_congestion: %s}}}\n",
			names[i]);

		le_apply_ok(yaml);
		hb_free(yaml);
		le_connect(&c, le_port("l", 0));
		le_expect_line(&c, "a");
		congestion_of(&c, name);
		/* The peer is on this host: nothing that paces. */
		assert_true(strcmp(name, "reno") == 0 || (i == 0 && strcmp(name, "cubic") == 0));
		le_close(&c);
	}
}

static void
test_limit(void **state)
{
	struct le_client c[3];

	le_apply_ok("name: l\n" ADDR "filter_chains: [{name: a, " FILTERS "}]\n"
		    "metadata: {typed_filter_metadata: {hbone.listener: {\"@type\": "
		    "type.googleapis.com/hbone.config.ListenerOptions, max_connections: 2}}}\n");
	for (unsigned i = 0; i < 2; i++) {
		le_connect(&c[i], le_port("l", 0));
		le_expect_line(&c[i], "a");
	}
	le_connect(&c[2], le_port("l", 0));
	le_expect_reset(&c[2]);
	le_close(&c[2]);
	assert_int_equal(le_lstat("l", "downstream_cx_overflow"), 1);
	le_close(&c[0]);
	LE_UNTIL(hb_listeners_connections() == 1);
	le_connect(&c[0], le_port("l", 0));
	le_expect_line(&c[0], "a");
	le_close(&c[0]);
	le_close(&c[1]);
}

static int
setup_global(void **state)
{
	struct hb_listeners_options o = { .drain_time_ms = 25000, .connections_max = 1 };

	le_init(&o);
	return (0);
}

static void
test_global_limit(void **state)
{
	struct le_client c[3];

	le_apply_ok("name: l\n" ADDR "filter_chains: [{name: a, " FILTERS "}]\n");
	le_apply_ok("name: free\n" ADDR "filter_chains: [{name: f, " FILTERS "}]\n"
		    "ignore_global_conn_limit: true\n");
	le_connect(&c[0], le_port("l", 0));
	le_expect_line(&c[0], "a");
	le_connect(&c[1], le_port("l", 0));
	le_expect_reset(&c[1]);
	le_connect(&c[2], le_port("free", 0));
	le_expect_line(&c[2], "f");
	assert_int_equal(le_lstat("l", "downstream_global_cx_overflow"), 1);
	for (unsigned i = 0; i < 3; i++)
		le_close(&c[i]);
}

static void
test_exact_balance(void **state)
{
	struct le_client c[20];

	le_apply_ok("name: l\n" ADDR "filter_chains: [{name: a, " FILTERS "}]\n"
		    "connection_balance_config: {exact_balance: {}}\n");
	for (unsigned i = 0; i < 20; i++) {
		le_connect(&c[i], le_port("l", 0));
		le_expect_line(&c[i], "a");
	}
	assert_int_equal(le_conns(0), 10);
	assert_int_equal(le_conns(1), 10);
	for (unsigned i = 0; i < 20; i++)
		le_expect_echo(&c[i]);
	for (unsigned i = 0; i < 20; i++)
		le_close(&c[i]);
}

static void
test_one_socket_for_all(void **state)
{
	struct le_client c[10];

	le_apply_ok("name: l\n" ADDR "filter_chains: [{name: a, " FILTERS "}]\n"
		    "enable_reuse_port: false\nconnection_balance_config: {exact_balance: {}}\n"
		    "max_connections_to_accept_per_socket_event: 1\n");
	for (unsigned i = 0; i < 10; i++)
		le_connect(&c[i], le_port("l", 0));
	for (unsigned i = 0; i < 10; i++) {
		le_expect_line(&c[i], "a");
		le_close(&c[i]);
	}
}

static void
test_addresses(void **state)
{
	char path[64], yaml[1024];
	struct le_client c;
	struct stat st;

	(void)snprintf(path, sizeof path, "%s/hbone-%d.sock",
		getenv("TEST_TMPDIR") != NULL && strlen(getenv("TEST_TMPDIR")) < 40 ?
			getenv("TEST_TMPDIR") :
			"/tmp",
		(int)getpid());
	(void)snprintf(yaml, sizeof yaml,
		"name: l\n" ADDR "additional_addresses:\n"
		"- address: {socket_address: {address: '::', port_value: 0, ipv4_compat: true}}\n"
		"- address: {pipe: {path: %s, mode: 384}}\n"
		"- address: {pipe: {path: '@hbone-%d'}}\n"
		"filter_chains: [{name: a, " FILTERS "}]\n",
		path, (int)getpid());
	le_apply_ok(yaml);
	le_connect(&c, le_port("l", 0));
	le_expect_line(&c, "a");
	le_close(&c);
	/* IPv4 through the IPv6 wildcard: plain IPv4 addresses in the facts. */
	le_connect(&c, le_port("l", 1));
	le_expect_line(&c, "a");
	assert_int_equal(le_last_facts.local.kind, HB_ADDR_V4);
	assert_int_equal(le_last_facts.local.port, le_port("l", 1));
	le_close(&c);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	le_connect_unix(&c, path);
	le_expect_line(&c, "a");
	assert_int_equal(le_last_facts.local.kind, HB_ADDR_UNIX);
	assert_string_equal(le_last_facts.local.u.name, path);
	le_close(&c);
	(void)snprintf(yaml, sizeof yaml, "@hbone-%d", (int)getpid());
	le_connect_unix(&c, yaml);
	le_expect_line(&c, "a");
	le_expect_echo(&c);
	le_close(&c);
	le_remove("l");
	le_advance(3000);
	assert_int_equal(stat(path, &st), -1);
}

static void
test_original_dst_hand_over(void **state)
{
	struct le_client c;

	le_apply_ok("name: front\n" ADDR "use_original_dst: true\n"
		    "filter_chains: [{name: front, " FILTERS "}]\n"
		    "listener_filters: [{name: pp, typed_config: {\"@type\": "
		    "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3."
		    "ProxyProtocol, rules: [{tlv_type: 2, on_tlv_present: {key: authority}}], "
		    "pass_through_tlvs: {match_type: INCLUDE, tlv_type: [2]}}}]\n");
	le_apply_ok(
		"name: back\nbind_to_port: false\n"
		"address: {socket_address: {address: 0.0.0.0, port_value: 8443}}\n" TLS_INSPECTOR
			SNI_CHAINS);
	le_connect(&c, le_port("front", 0));
	le_send(&c,
		"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x12\xc0\0\2\x0a\xc6\x33\x64\1\x9c\x40\x20\xfb"
		"\2\0\3abc",
		34);
	le_send_hello(&c, "a.example", NULL);
	le_expect_line(&c, "a");
	assert_int_equal(le_last_facts.local.port, 8443);
	assert_true(le_last_facts.local_restored);
	assert_int_equal(le_last_facts.remote.port, 40000);
	assert_int_not_equal(hb_facts_direct_remote(&le_last_facts)->port, 40000);
	assert_true(hb_str_eq(
		hb_facts_metadata(&le_last_facts, HB_STR("envoy.filters.listener.proxy_protocol"),
			HB_STR("authority")),
		HB_STR("abc")));
	assert_true(hb_str_eq(
		hb_facts_metadata(&le_last_facts, HB_STR(HB_META_PROXY_TLVS), HB_STR("0x02")),
		HB_STR("abc")));
	/* Only the header was dropped. */
	LE_UNTIL(le_received.len > 0);
	assert_int_equal((uint8_t)le_received.p[0], 0x16);
	le_expect_echo(&c);
	le_close(&c);
	/* Nobody has that port: the front's own chain. */
	le_connect(&c, le_port("front", 0));
	le_send(&c, "PROXY TCP4 192.0.2.1 198.51.100.1 1 9999\r\n", 42);
	le_expect_line(&c, "front");
	le_close(&c);
	/* No header at all. */
	le_connect(&c, le_port("front", 0));
	le_send(&c, "GET", 3);
	le_expect_reset(&c);
	le_close(&c);
	assert_int_equal(le_stat("proxy_proto.not_found_disallowed"), 1);
}

static void
test_http_inspector(void **state)
{
	struct le_client c;

	le_apply_ok("name: l\n" ADDR "listener_filters: [{name: h, typed_config: {\"@type\": "
		    "type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3."
		    "HttpInspector}}]\nfilter_chains:\n"
		    "- {name: h1, filter_chain_match: {application_protocols: [http/1.1]}, " FILTERS
		    "}\n"
		    "- {name: h2, filter_chain_match: {application_protocols: [h2c]}, " FILTERS
		    "}\n- {name: other, " FILTERS "}\n");
	le_connect(&c, le_port("l", 0));
	le_send(&c, "GET / HTTP/1.1\r\n", 16);
	le_expect_line(&c, "h1");
	le_close(&c);
	le_connect(&c, le_port("l", 0));
	le_send(&c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
	le_expect_line(&c, "h2");
	le_close(&c);
	le_connect(&c, le_port("l", 0));
	le_send(&c, "SSH-2.0-x\r\n", 11);
	le_expect_line(&c, "other");
	le_close(&c);
}

static void
sink_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct hb_text *got = sink;
	uint8_t b[256];
	size_t n;

	while ((n = hb_buf_copyout(buf, 0, b, sizeof b)) > 0) {
		hb_text_add(got, b, n);
		hb_buf_drain(buf, n);
	}
}

static enum hb_close_reason stream_reason;

static void
sink_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	stream_reason = reason;
}

static void
sink_watermark(void *sink, struct hb_transport *t, bool high)
{
}

/* A stream enters by name and is inspected like a socket. */
static void
test_stream(void **state)
{
	static const struct hb_transport_events ev = {
		.on_data = sink_data, .on_closed = sink_closed, .on_watermark = sink_watermark
	};
	struct hb_worker *w = hb_worker_at(1);
	struct hb_text got = { 0 };
	struct hb_transport *a, *b;
	struct hb_facts f;
	struct hb_buf buf = { 0 };
	uint8_t hello[256];

	le_apply_ok("name: l\n" ADDR TLS_INSPECTOR SNI_CHAINS);
	hb_worker_enter(w);
	hb_pair_new(w, &a, &b);
	hb_facts_init(&f);
	assert_int_equal(hb_accept(w, HB_STR("nobody"), b, &f), -ENOENT);
	assert_int_equal(hb_accept(w, HB_STR("l"), b, &f), 0);
	hb_transport_attach(a, &ev, &got);
	hb_transport_read_disable(a, -1);
	hb_buf_add(&buf, hello, le_hello(hello, sizeof hello, "a.example", NULL));
	hb_transport_write(a, &buf, false);
	LE_UNTIL(got.len > 0);
	assert_string_equal(got.p, "a\n");
	hb_transport_abort(&a, HB_CLOSE_DONE);
	/* No chain: the other end is told why. */
	hb_pair_new(w, &a, &b);
	assert_int_equal(hb_accept(w, HB_STR("l"), b, &f), 0);
	hb_transport_attach(a, &ev, &got);
	hb_transport_read_disable(a, -1);
	hb_buf_add(&buf, hello, le_hello(hello, sizeof hello, "z.example", NULL));
	hb_transport_write(a, &buf, false);
	stream_reason = HB_CLOSE_NONE;
	LE_UNTIL(stream_reason != HB_CLOSE_NONE);
	hb_facts_fini(&f);
	hb_text_fini(&got);
	hb_worker_enter(hb_worker_control());
	LE_UNTIL(hb_listeners_connections() == 0);
}

#define ORIGINAL_DST                                               \
	"listener_filters: [{name: od, typed_config: {\"@type\": " \
	"type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}}]\n"

/* A tunnel stream brings the destination as metadata; a socket that was not redirected has none. */
static void
test_original_dst(void **state)
{
	struct hb_worker *w = hb_worker_at(0);
	struct hb_transport *a, *b;
	struct le_client c;
	struct hb_facts f;

	le_apply_ok("name: l\n" ADDR ORIGINAL_DST "filter_chains: [{name: a, " FILTERS "}]\n");
	le_connect(&c, le_port("l", 0));
	le_expect_line(&c, "a");
	assert_false(le_last_facts.local_restored);
	assert_int_equal(le_stat("original_dst_listener_filter.not_redirected"), 1);
	le_close(&c);
	hb_worker_enter(w);
	hb_pair_new(w, &a, &b);
	hb_facts_init(&f);
	assert_true(hb_facts_metadata_set(&f, HB_STR("envoy.filters.listener.original_dst"),
		HB_STR("local"), HB_STR("192.0.2.9:8080")));
	assert_int_equal(hb_accept(w, HB_STR("l"), b, &f), 0);
	LE_UNTIL(le_last_facts.local.port == 8080);
	assert_true(le_last_facts.local_restored);
	hb_transport_abort(&a, HB_CLOSE_DONE);
	hb_facts_fini(&f);
	hb_worker_enter(hb_worker_control());
	LE_UNTIL(hb_listeners_connections() == 0);
	/* TPROXY: the socket's own address is the wanted one. Needs a capability. */
	if (*le_apply("name: t\n" ADDR ORIGINAL_DST "transparent: true\n"
		      "filter_chains: [{name: t, " FILTERS "}]\n") != '\0')
		return;
	le_connect(&c, le_port("t", 0));
	le_expect_line(&c, "t");
	assert_true(le_last_facts.local_restored);
	assert_int_equal(le_last_facts.local.port, le_port("t", 0));
	le_close(&c);
}

static void
test_access_log_of_the_refused(void **state)
{
	char path[64], yaml[1024], line[256] = "";
	struct le_client c;
	FILE *log;

	(void)snprintf(path, sizeof path, "/tmp/hbone-log-%d", (int)getpid());
	(void)snprintf(yaml, sizeof yaml,
		"name: l\n" ADDR TLS_INSPECTOR SNI_CHAINS
		"access_log: [{name: file, typed_config: {\"@type\": "
		"type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: %s, "
		"log_format: {text_format_source: {inline_string: "
		"\"%%RESPONSE_FLAGS%% %%REQUESTED_SERVER_NAME%% %%FILTER_CHAIN_NAME%%\\n\"}}}}]\n",
		path);
	le_apply_ok(yaml);
	le_connect(&c, le_port("l", 0));
	le_send_hello(&c, "c.example", NULL);
	le_expect_reset(&c);
	le_close(&c);
	hb_access_log_flush(NULL, NULL);
	log = NULL;
	LE_UNTIL((log != NULL || (log = fopen(path, "r")) != NULL) &&
		(rewind(log), fgets(line, sizeof line, log) != NULL));
	assert_string_equal(line, "NR c.example -\n");
	fclose(log);
	(void)unlink(path);
}

static void
test_ipv6(void **state)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct le_client c = { .fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0) };

	if (*le_apply("name: l\naddress: {socket_address: {address: '::1', port_value: 0}}\n"
		      "filter_chains: [{name: a, " FILTERS "}]\n") != '\0') {
		le_close(&c); /* no IPv6 on this host */
		return;
	}
	sin6.sin6_port = htons(le_port("l", 0));
	(void)connect(c.fd, (struct sockaddr *)&sin6, sizeof sin6);
	le_expect_line(&c, "a");
	assert_int_equal(le_last_facts.local.kind, HB_ADDR_V6);
	assert_true(hb_addr_is_loopback(&le_last_facts.remote));
	le_close(&c);
}

/* Who comes alone is not asked whether somebody else is there; who come together are all taken. */
static void
test_one_call_accepts(void **state)
{
	enum { ALONE = 40, TOGETHER = 150 };
	static struct le_client c[TOGETHER];

	le_apply_ok("name: l\n" ADDR "filter_chains: [{name: a, " FILTERS "}]\n");
	accepts = 0;
	for (int i = 0; i < ALONE; i++) {
		le_connect(&c[0], le_port("l", 0));
		le_expect_line(&c[0], "a");
		le_close(&c[0]);
	}
	assert_in_range(accepts, ALONE, ALONE + 2);
	for (int i = 0; i < TOGETHER; i++)
		le_connect(&c[i], le_port("l", 0));
	accepts = 0;
	LE_UNTIL(le_lstat("l", "downstream_cx_total") == ALONE + TOGETHER);
	assert_in_range(accepts, TOGETHER, TOGETHER + 4);
	for (int i = 0; i < TOGETHER; i++)
		le_close(&c[i]);
}

static void
test_out_of_descriptors(void **state)
{
	struct rlimit old, tight;
	struct le_client c;
	int64_t errors;

	le_apply_ok("name: l\n" ADDR "filter_chains: [{name: a, " FILTERS "}]\n");
	le_connect(&c, le_port("l", 0));
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	tight = old;
	tight.rlim_cur = (rlim_t)c.fd + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	LE_UNTIL(le_lstat("l", "downstream_cx_accept_error") > 0);
	/* It pauses: turning without time does not ask again. */
	errors = le_lstat("l", "downstream_cx_accept_error");
	le_expect_silence(&c);
	assert_int_equal(le_lstat("l", "downstream_cx_accept_error"), errors);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	le_advance(1000);
	le_expect_line(&c, "a");
	le_close(&c);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_no_filter_no_wait),
		T(test_sni),
		T(test_no_chain_is_reset),
		T(test_timeout),
		T(test_continue_after_timeout),
		T(test_remote_close),
		T(test_hello_too_large),
		T(test_filter_disabled),
		T(test_congestion),
		T(test_limit),
		cmocka_unit_test_setup_teardown(test_global_limit, setup_global, teardown),
		T(test_exact_balance),
		T(test_one_socket_for_all),
		T(test_addresses),
		T(test_original_dst_hand_over),
		T(test_http_inspector),
		T(test_stream),
		T(test_original_dst),
		T(test_access_log_of_the_refused),
		T(test_ipv6),
		T(test_one_call_accepts),
		T(test_out_of_descriptors),
	};

	int failed = cmocka_run_group_tests_name("epoll", tests, NULL, NULL);

	hb_io_backend(HB_IO_UV);
	return (failed + cmocka_run_group_tests_name("uv", tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Protobuf bytes to messages: limits, undeclared tags, text. */
#include <stdlib.h>
#include "test/core/config/support.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/struct.pb-c.h"

#define LISTENER  DESC(envoy__config__listener__v3__listener)
#define CLUSTER   DESC(envoy__config__cluster__v3__cluster)
#define TCP_PROXY DESC(envoy__extensions__filters__network__tcp_proxy__v3__tcp_proxy)
#define TYPE      "type.googleapis.com/"

static struct hb_cfg *
bytes_cfg(const void *p, size_t n, const ProtobufCMessageDescriptor *desc,
	const struct hb_cfg_limits *limits, const ProtobufCMessage **ret)
{
	struct hb_cfg *cfg = hb_cfg_new("listener x", limits);

	*ret = hb_cfg_parse_wire(cfg, hb_strn(p, n), desc);
	return (cfg);
}

static void
expect_refused(const void *p, size_t n, const ProtobufCMessageDescriptor *desc, ...)
{
	const ProtobufCMessage *m;
	struct hb_cfg *cfg = bytes_cfg(p, n, desc, NULL, &m);
	va_list ap;

	assert_null(m);
	va_start(ap, desc);
	expect_cfg_errors(cfg, "listener x", ap);
	va_end(ap);
	hb_cfg_free(&cfg);
}

#define REFUSED(lit, desc, ...) expect_refused(lit, sizeof(lit) - 1, desc, __VA_ARGS__, NULL)

/* Text to bytes to message, with every Any open and paths for errors. */
static void
test_from_text(void **state)
{
	const char *text =
		"name: l\nfilter_chains:\n- filters:\n  - name: tcp\n    typed_config:\n"
		"      \"@type\": " TYPE "udpa.type.v1.TypedStruct\n"
		"      type_url: " TYPE "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\n"
		"      value: {stat_prefix: p, cluster: c, idle_timeout: 2s, max_connect_attempts: 3}\n";
	const ProtobufCMessage *m, *w;
	struct hb_cfg *cfg = text_cfg(text, LISTENER, &m), *b;
	struct hb_text bytes;
	const Envoy__Config__Listener__V3__Filter *f;
	const Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy *p;
	char line[512];

	assert_non_null(m);
	bytes = hb_cfg_to_wire(m);
	b = bytes_cfg(bytes.p, bytes.len, LISTENER, NULL, &w);
	assert_non_null(w);
	f = ((const Envoy__Config__Listener__V3__Listener *)(const void *)w)
		    ->filter_chains[0]
		    ->filters[0];
	p = hb_cfg_any_of(b, f, "typed_config", -1, f->typed_config, TCP_PROXY);
	assert_non_null(p);
	assert_string_equal(p->cluster, "c");
	assert_int_equal(hb_cfg_duration_ms(b, p, "idle_timeout", p->idle_timeout, 0), 2000);
	hb_cfg_error(b, p, "cluster", -1, "is not there");
	hb_err_format(&hb_cfg_errs(b)->v[0], line, sizeof line);
	assert_string_equal(
		line, "listener x: filter_chains[0].filters[0].typed_config.cluster: is not there");
	hb_text_fini(&bytes);
	hb_cfg_free(&b);
	hb_cfg_free(&cfg);
}

static void
test_tags(void **state)
{
	const ProtobufCMessage *m;
	struct hb_cfg *cfg;

	/* 21 is known and left out, 100 is not known, 30 is declared and refused. */
	REFUSED("\xa8\x01\x01", LISTENER,
		"field reuse_port (21) of envoy.config.listener.v3.Listener is not supported");
	REFUSED("\xa0\x06\x01\xf0\x01\x01", LISTENER,
		"envoy.config.listener.v3.Listener has no field 100 that hbone knows",
		"field enable_mptcp (30) of envoy.config.listener.v3.Listener is not supported");
	/* In a cluster the same is counted. */
	cfg = bytes_cfg("\x0a\x01"
			"a\xb2\x01\x00\xa0\x06\x01",
		9, CLUSTER, NULL, &m);
	assert_non_null(m);
	assert_int_equal(hb_cfg_passed_over(cfg), 2);
	hb_cfg_free(&cfg);
	/* An address passes over, except within a listener: 1.1 is the socket address, 9 is unknown. */
	REFUSED("\x12\x04\x0a\x02\x48\x01", LISTENER,
		"address.socket_address: envoy.config.core.v3.SocketAddress has no field 9 that "
		"hbone knows");
	REFUSED("\x80\x01\x07", LISTENER,
		"traffic_direction: 7 is not a value of "
		"envoy.config.core.v3.TrafficDirection");
}

static void
test_broken(void **state)
{
	REFUSED("\x0a\x05"
		"a",
		LISTENER, "not a valid envoy.config.listener.v3.Listener message");
	REFUSED("\x0b", LISTENER, "not a valid envoy.config.listener.v3.Listener message");
	REFUSED("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", LISTENER,
		"not a valid envoy.config.listener.v3.Listener message");
	REFUSED("\x0a\x03"
		"a\0b",
		LISTENER, "name: the text is not UTF-8 or holds a NUL character");
	REFUSED("\x0a\x02\xc0\x80", LISTENER,
		"name: the text is not UTF-8 or holds a NUL character");
	REFUSED("\x0a\x03\xed\xa0\x80", LISTENER,
		"name: the text is not UTF-8 or holds a NUL character");
	REFUSED("\x0a\x04\xf4\x90\x80\x80", LISTENER,
		"name: the text is not UTF-8 or holds a NUL character");
}

/* A list in a list in a list …: protobuf-c alone would run out of stack. Caller frees. */
static uint8_t *
deep_value(size_t want, size_t *ret_len)
{
	size_t n = 0, cap = want + 64;
	uint8_t *p = malloc(cap);

	while (n < want) {
		uint8_t head[12];
		size_t h = 0, len = n;

		head[h++] = n % 2 == 0 ? 0x32 : 0x0a;
		do {
			head[h++] = (uint8_t)((len & 0x7f) | (len > 0x7f ? 0x80 : 0));
			len >>= 7;
		} while (len > 0);
		/* Built from the inside, backwards. */
		memcpy(p + cap - n - h, head, h);
		n += h;
	}
	memmove(p, p + cap - n, n);
	*ret_len = n;
	return (p);
}

static void
test_depth(void **state)
{
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	struct hb_text json = { 0 };
	const ProtobufCMessage *m;
	struct hb_cfg *cfg;
	size_t n;
	uint8_t *p = deep_value(300000, &n);

	cfg = bytes_cfg(p, n, DESC(google__protobuf__value), NULL, &m);
	assert_null(m);
	assert_true(hb_errs_any(hb_cfg_errs(cfg)));
	hb_cfg_free(&cfg);
	/* Such a resource is refused, and may be printed as what was refused. */
	any.type_url = (char *)(uintptr_t)TYPE "google.protobuf.Value";
	any.value.data = p;
	any.value.len = n;
	hb_cfg_to_json(&json, &any.base, -1);
	assert_non_null(strstr(json.p, "\"value\":\""));
	hb_text_fini(&json);
	free(p);
}

/* What has no effect cannot make a resource wrong, but has the same limits. */
static void
test_without_effect(void **state)
{
	/* Cluster.metadata (25), which nothing reads here, has an unknown field. */
	const char metadata[] = "\x0a\x01"
				"c\xca\x01\x03\xa0\x06\x01";
	const ProtobufCMessage *m;
	struct hb_cfg *cfg = bytes_cfg(metadata, sizeof metadata - 1, CLUSTER, NULL, &m);
	struct hb_text t = { 0 };
	size_t n;
	uint8_t *p;

	assert_non_null(m);
	assert_int_equal(hb_cfg_passed_over(cfg), 0);
	hb_cfg_free(&cfg);
	/* Cluster.metadata.filter_metadata["a"].fields["b"] is deep. */
	p = deep_value(1000, &n);
	for (int level = 0; level < 5; level++) {
		static const uint8_t tags[] = { 0x12, 0x0a, 0x12, 0x0a, 0xca };
		struct hb_text outer = { 0 };
		struct hb_str in = level == 0 ? hb_strn(p, n) : hb_strn(t.p, t.len);

		hb_text_addc(&outer, (char)tags[level]);
		if (level == 4)
			hb_text_addc(&outer, 1);
		hb_text_addc(&outer, (char)((in.len & 0x7f) | 0x80));
		hb_text_addc(&outer, (char)(in.len >> 7));
		hb_text_add(&outer, in.p, in.len);
		hb_text_fini(&t);
		t = outer;
	}
	cfg = bytes_cfg(t.p, t.len, CLUSTER, NULL, &m);
	assert_null(m);
	assert_non_null(strstr(hb_cfg_errs(cfg)->v[0].text, "nested too deeply"));
	hb_cfg_free(&cfg);
	hb_text_fini(&t);
	free(p);
}

static void
test_limits(void **state)
{
	const ProtobufCMessage *m;
	struct hb_cfg *cfg = bytes_cfg("\x0a\x01"
				       "a\x0a\x01"
				       "b",
		6, CLUSTER, &(struct hb_cfg_limits){ .nodes_max = 1 }, &m);

	assert_null(m);
	assert_string_equal(hb_cfg_errs(cfg)->v[0].text, "too many values");
	hb_cfg_free(&cfg);
	cfg = bytes_cfg("\x0a\x01"
			"a",
		3, CLUSTER, &(struct hb_cfg_limits){ .bytes_max = 2 }, &m);
	assert_null(m);
	assert_string_equal(hb_cfg_errs(cfg)->v[0].text, "more than 2 bytes");
	hb_cfg_free(&cfg);
}

/* A type that nobody knows matters only to who opens it. */
static void
test_unknown_any(void **state)
{
	const char bytes[] = "\x0a\x01"
			     "c\xc2\x01\x09\x1a\x07\x0a\x03"
			     "a.B\x12\x00";
	const ProtobufCMessage *m;
	struct hb_cfg *cfg = bytes_cfg(bytes, sizeof bytes - 1, CLUSTER, NULL, &m);
	const Envoy__Config__Cluster__V3__Cluster *c = (const void *)m;

	assert_non_null(c);
	assert_null(hb_cfg_any(
		cfg, c->transport_socket, "typed_config", -1, c->transport_socket->typed_config));
	assert_string_equal(hb_cfg_errs(cfg)->v[0].text, "unknown type \"a.B\"");
	assert_string_equal(hb_cfg_errs(cfg)->v[0].path, "transport_socket.typed_config");
	hb_cfg_free(&cfg);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_from_text),
		cmocka_unit_test(test_tags),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_without_effect),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_unknown_any),
	};

	return (cmocka_run_group_tests_name("bytes", tests, NULL, NULL));
}

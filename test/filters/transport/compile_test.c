/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of transport sockets: what is refused and why, and what is only warned of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/filter/transport_socket.h"
#include "core/identity/identity.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "test/support/certs/certs.h"

extern const struct hb_transport_socket_type hb_tsocket_raw_buffer, hb_tsocket_tls,
	hb_tsocket_proxy_protocol;

#define TLS \
	"{name: tls, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
#define DOWN TLS "DownstreamTlsContext, "
#define UP   TLS "UpstreamTlsContext, "
#define RAW                                                        \
	"{name: raw, typed_config: {'@type': type.googleapis.com/" \
	"envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}"
#define PP                                                        \
	"{name: pp, typed_config: {'@type': type.googleapis.com/" \
	"envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport, "

static struct hb_test_cert *root, *leaf, *other;
static struct hb_text root_json, chain_json, key_json, other_key_json;

static void
json(struct hb_text *t, const char *z)
{
	hb_text_json(t, z, strlen(z));
}

static int
setup(void **state)
{
	(void)state;
	hb_cfg_types_init();
	assert_int_equal(hb_transport_socket_register(&hb_tsocket_raw_buffer, NULL), 0);
	assert_int_equal(hb_transport_socket_register(&hb_tsocket_tls, NULL), 0);
	assert_int_equal(hb_transport_socket_register(&hb_tsocket_proxy_protocol, NULL), 0);
	root = hb_test_root("root");
	leaf = hb_test_leaf(root, "DNS:a.example");
	other = hb_test_leaf(root, "DNS:b.example");
	json(&root_json, root->pem);
	json(&chain_json, leaf->chain_pem);
	json(&key_json, leaf->key_pem);
	json(&other_key_json, other->key_pem);
	return (0);
}

static int
teardown(void **state)
{
	(void)state;
	hb_test_cert_free(&root);
	hb_test_cert_free(&leaf);
	hb_test_cert_free(&other);
	hb_text_fini(&root_json);
	hb_text_fini(&chain_json);
	hb_text_fini(&key_json);
	hb_text_fini(&other_key_json);
	return (0);
}

/* Compiles; the caller frees all three. */
static struct hb_cfg *
compile(bool upstream, struct hb_transport_socket **ret, int *r, const char *fmt, va_list ap)
{
	struct hb_cfg *cfg = hb_cfg_new("t", NULL);
	const ProtobufCMessage *m;
	struct hb_text yaml = { 0 };
	char line[1024];

	hb_text_vprintf(&yaml, fmt, ap);
	m = hb_cfg_parse_text(cfg, hb_strn(yaml.p, yaml.len),
		&envoy__config__core__v3__transport_socket__descriptor);
	if (m == NULL) {
		(void)hb_err_format(&hb_cfg_errs(cfg)->v[0], line, sizeof line);
		fail_msg("%s", line);
	}
	*r = hb_transport_socket_compile(cfg, m, NULL, m, upstream, ret);
	hb_text_fini(&yaml);
	return (cfg);
}

/* Good, with this warning (NULL = none). */
static struct hb_transport_socket *good(bool upstream, const char *warning, const char *fmt, ...)
	HB_PRINTF(3, 4);

static struct hb_transport_socket *
good(bool upstream, const char *warning, const char *fmt, ...)
{
	struct hb_transport_socket *s = NULL;
	struct hb_cfg *cfg;
	char line[1024];
	va_list ap;
	int r;

	va_start(ap, fmt);
	cfg = compile(upstream, &s, &r, fmt, ap);
	va_end(ap);
	if (r != 0) {
		(void)hb_err_format(&hb_cfg_errs(cfg)->v[0], line, sizeof line);
		fail_msg("%s", line);
	}
	assert_int_equal(hb_cfg_warnings(cfg)->n, warning != NULL);
	if (warning != NULL)
		assert_non_null(strstr(hb_cfg_warnings(cfg)->v[0].text, warning));
	hb_cfg_free(&cfg);
	return (s);
}

/* Refused with as many errors as there are parts (separated by '|'). */
static void bad(bool upstream, const char *parts, const char *fmt, ...) HB_PRINTF(3, 4);

static void
bad(bool upstream, const char *parts, const char *fmt, ...)
{
	struct hb_transport_socket *s = NULL;
	char copy[1024], line[1024], *save = NULL;
	struct hb_cfg *cfg;
	size_t i = 0;
	va_list ap;
	int r;

	va_start(ap, fmt);
	cfg = compile(upstream, &s, &r, fmt, ap);
	va_end(ap);
	assert_int_equal(r, -EINVAL);
	(void)snprintf(copy, sizeof copy, "%s", parts);
	for (char *p = strtok_r(copy, "|", &save); p != NULL; p = strtok_r(NULL, "|", &save), i++) {
		assert_true(i < hb_cfg_errs(cfg)->n);
		(void)hb_err_format(&hb_cfg_errs(cfg)->v[i], line, sizeof line);
		if (strstr(line, p) == NULL)
			fail_msg("expected \"%s\" in \"%s\"", p, line);
	}
	assert_int_equal(i, hb_cfg_errs(cfg)->n);
	hb_cfg_free(&cfg);
}

#define CERT \
	"tls_certificates: [{certificate_chain: {inline_string: %s}, private_key: {inline_string: %s}}]"

static void
test_server(void **state)
{
	const struct hb_cert_info *const *info;
	struct hb_transport_socket *s;

	(void)state;
	s = good(false, NULL,
		DOWN "common_tls_context: {" CERT ", alpn_protocols: [h2, http/1.1], tls_params: "
		     "{tls_minimum_protocol_version: TLSv1_3, ecdh_curves: [P-256], cipher_suites: "
		     "[ECDHE-ECDSA-AES128-GCM-SHA256]}}}}",
		chain_json.p, key_json.p);
	assert_true(hb_transport_socket_secure(s));
	assert_int_equal(hb_transport_socket_certs(s, false, &info), 1);
	assert_string_equal(info[0]->san[0].value, "a.example");
	assert_int_equal(hb_transport_socket_certs(s, true, &info), 0);
	hb_transport_socket_free(&s);
	s = good(false, "any certificate is accepted",
		DOWN "require_client_certificate: true, common_tls_context: {" CERT "}}}",
		chain_json.p, key_json.p);
	hb_transport_socket_free(&s);
	s = good(false, NULL,
		DOWN
		"require_client_certificate: true, common_tls_context: {" CERT
		", validation_context: {trusted_ca: {inline_string: %s}, max_verify_depth: 3}}}}",
		chain_json.p, key_json.p, root_json.p);
	assert_int_equal(hb_transport_socket_certs(s, true, &info), 1);
	hb_transport_socket_free(&s);
}

static void
test_server__refused(void **state)
{
	(void)state;
	bad(false, "a TLS server needs a certificate", DOWN "require_sni: true}}");
	bad(false, "a TLS server needs a certificate", DOWN "common_tls_context: {}}}");
	bad(false, "certificate_chain is missing|private_key is missing",
		DOWN "common_tls_context: {tls_certificates: [{}]}}}");
	bad(false, "certificate_chain: is empty|private_key",
		DOWN
		"common_tls_context: {tls_certificates: "
		"[{certificate_chain: {inline_string: ''}, private_key: {filename: /nonexistent/key.pem}}]}}}");
	bad(false, "key", DOWN "common_tls_context: {" CERT "}}}", chain_json.p, other_key_json.p);
	bad(false, "cipher suites",
		DOWN "common_tls_context: {" CERT ", tls_params: {cipher_suites: [ROT13]}}}}",
		chain_json.p, key_json.p);
	bad(false, "above the maximum",
		DOWN
		"common_tls_context: {" CERT ", tls_params: "
		"{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_2}}}}",
		chain_json.p, key_json.p);
}

static void
test_errors_name_files(void **state)
{
	char name[] = "/tmp/hbone-compile-test-XXXXXX";
	int fd = mkstemp(name);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "nonsense\n", 9), 9);
	(void)close(fd);
	bad(true, name,
		UP "common_tls_context: {validation_context: {trusted_ca: {filename: %s}}}}}",
		name);
	bad(true, name,
		UP "common_tls_context: {validation_context: {trusted_ca: {inline_string: %s}, "
		   "crl: {filename: %s}}}}}",
		root_json.p, name);
	bad(true, name,
		UP
		"common_tls_context: {validation_context: {trusted_ca: {inline_string: %s}}, "
		"tls_certificates: [{certificate_chain: {filename: %s}, private_key: {inline_string: %s}}]}}}",
		root_json.p, name, key_json.p);
	(void)unlink(name);
}

static void
test_client(void **state)
{
	struct hb_transport_socket *s;

	(void)state;
	s = good(true, "the peer is not verified", UP "sni: a.example}}");
	hb_transport_socket_free(&s);
	s = good(true, NULL,
		UP
		"common_tls_context: {validation_context: {verify_certificate_spki: "
		"[47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=], verify_certificate_hash: "
		"['e3:b0:c4:42:98:fc:1c:14:9a:fb:f4:c8:99:6f:b9:24:27:ae:41:e4:64:9b:93:4c:a4:95:99:1b:78:52:b8:55']}}}}");
	hb_transport_socket_free(&s);
	s = good(true, NULL,
		UP
		"auto_host_sni: true, auto_sni_san_validation: true, common_tls_context: {" CERT
		", validation_context: {trusted_ca: {inline_string: %s}, allow_expired_certificate: true}}}}",
		chain_json.p, key_json.p, root_json.p);
	hb_transport_socket_free(&s);
}

static void
test_client__refused(void **state)
{
	(void)state;
	bad(true, "a client has one certificate, not 2",
		UP
		"common_tls_context: {validation_context: {trusted_ca: "
		"{inline_string: %s}}, tls_certificates: [{certificate_chain: {inline_string: %s}, private_key: "
		"{inline_string: %s}}, {certificate_chain: {inline_string: %s}, private_key: {inline_string: %s}}]}}}",
		root_json.p, chain_json.p, key_json.p, chain_json.p, key_json.p);
	bad(true, "san_type: must be|matcher is missing|64 hexadecimal|64 hexadecimal|in base64",
		UP
		"common_tls_context: {validation_context: {trusted_ca: {inline_string: %s}, match_typed_subject_alt_names: "
		"[{matcher: {exact: a}}, {san_type: DNS}], verify_certificate_hash: [abc, "
		"'zz112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'], "
		"verify_certificate_spki: ['AAAA']}}}}",
		root_json.p);
	bad(true, "give the trusted CA", UP "sni: a.example, auto_sni_san_validation: true}}");
	bad(true, "max_verify_depth",
		UP "common_tls_context: {validation_context: {trusted_ca: {inline_string: %s}, "
		   "max_verify_depth: 0}}}}",
		root_json.p);
	bad(true, "DownstreamTlsContext", DOWN "common_tls_context: {}}}");
}

static void
test_proxy_protocol(void **state)
{
	const struct hb_cert_info *const *info;
	struct hb_transport_socket *s;

	(void)state;
	s = good(true, NULL, PP "transport_socket: " RAW "}}");
	assert_false(hb_transport_socket_secure(s));
	assert_int_equal(hb_transport_socket_certs(s, false, &info), 0);
	hb_transport_socket_free(&s);
	s = good(true, NULL,
		PP
		"config: {version: V2, pass_through_tlvs: {}, added_tlvs: [{type: 255, value: ''}]}, "
		"transport_socket: " RAW "}}");
	hb_transport_socket_free(&s);
	s = good(true, NULL,
		PP
		"config: {version: V2, added_tlvs: [{type: 208, format_string: {text_format_source: "
		"{inline_string: '%%DOWNSTREAM_PEER_URI_SAN%%'}}}]}, transport_socket: " RAW "}}");
	hb_transport_socket_free(&s);
	bad(true, "excludes value",
		PP "config: {version: V2, added_tlvs: [{type: 208, value: eA==, format_string: "
		   "{text_format_source: {inline_string: x}}}]}, transport_socket: " RAW "}}");
	bad(true, "has no text",
		PP "config: {version: V2, added_tlvs: [{type: 208, format_string: {}}]}, "
		   "transport_socket: " RAW "}}");
	bad(true, "transport_socket is missing", PP "config: {}}}");
	bad(true, "TLVs need version: V2",
		PP "config: {added_tlvs: [{type: 1}]}, transport_socket: " RAW "}}");
	bad(true, "tlv_type[1]: must be below 256|must be below 256",
		PP
		"config: {version: V2, pass_through_tlvs: "
		"{match_type: INCLUDE, tlv_type: [255, 256]}, added_tlvs: [{type: 256}]}, transport_socket: " RAW
		"}}");
	bad(false, "ProxyProtocolUpstreamTransport", PP "transport_socket: " RAW "}}");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server),
		cmocka_unit_test(test_server__refused),
		cmocka_unit_test(test_errors_name_files),
		cmocka_unit_test(test_client),
		cmocka_unit_test(test_client__refused),
		cmocka_unit_test(test_proxy_protocol),
	};

	return (cmocka_run_group_tests(tests, setup, teardown));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Handshakes that must succeed, and those that must fail, on both sides. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>
#include "core/base/burst.h"
#include "core/identity/cert.h"
#include "test/support/ends.h"

#define HOUR   3600
#define ID(sa) "spiffe://cluster.local/ns/default/sa/" sa

struct
try {
	struct hb_tls_config client, server; /* set up by try_init, changed by the test */
	struct hb_tls_cert client_cert, server_cert;
	const char *sni;
	struct hbt_sink a, b; /* after try_run: reasons, or secured      */
	char a_text[256], b_text[256];
	bool a_verified, b_verified;
	struct hb_tls_ctx *ctx[2];
};

static void
try_init(struct try *t)
{
	memset(t, 0, sizeof *t);
	t->client_cert = hbt_tls_cert(hbt_ends_pki.client);
	t->server_cert = hbt_tls_cert(hbt_ends_pki.server);
	t->client.certs = &t->client_cert;
	t->client.n_certs = 1;
	t->client.trust_pem = hb_str(hbt_ends_pki.root->pem);
	t->server = t->client;
	t->server.certs = &t->server_cert;
	t->server.server = true;
	t->server.require_peer_cert = true;
}

/* The text is known while on_closed runs only, when the sink has no transport any more. */
static struct hb_transport *watched[2];
static char *watched_text[2];

static void
closed_text(struct hbt_sink *s, enum hbt_event event)
{
	unsigned i;

	if (event != HBT_CLOSED)
		return;
	for (i = 0; i < 2; i++) {
		if (s->arg == watched_text[i]) {
			const struct hb_tls_info *info = hb_transport_tls_info(watched[i]);

			if (info->failure != NULL)
				(void)snprintf(watched_text[i], 256, "%s", info->failure);
		}
	}
}

static void
try_run(struct try *t)
{
	struct hb_transport *a, *b;

	t->ctx[0] = hbt_tls_ctx(&t->client);
	t->ctx[1] = hbt_tls_ctx(&t->server);
	hbt_tcp_pair(&a, &b);
	watched[0] = hb_tls_new(a, t->ctx[0], t->sni);
	watched[1] = hb_tls_new(b, t->ctx[1], NULL);
	watched_text[0] = t->a.arg = t->a_text;
	watched_text[1] = t->b.arg = t->b_text;
	t->a.hook = t->b.hook = closed_text;
	hbt_attach(&t->a, watched[0]);
	hbt_attach(&t->b, watched[1]);
	HBT_UNTIL((t->a.secured || t->a.closed) && (t->b.secured || t->b.closed));
	/* What a TLS 1.3 server thinks of the client comes later. */
	HBT_UNTIL(!(t->b.closed && !t->a.closed) && !(t->a.closed && !t->b.closed));
	if (t->a.secured && t->a.t != NULL)
		t->a_verified = hb_transport_tls_info(t->a.t)->peer_verified;
	if (t->b.secured && t->b.t != NULL)
		t->b_verified = hb_transport_tls_info(t->b.t)->peer_verified;
}

static void
try_fini(struct try *t)
{
	hbt_sink_fini(&t->a);
	hbt_sink_fini(&t->b);
	hbt_turns(8);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	hbt_turns(2);
	hb_tls_ctx_free(&t->ctx[0]);
	hb_tls_ctx_free(&t->ctx[1]);
}

static void
expect_secured(struct try *t)
{
	try_run(t);
	if (t->a.closed || t->b.closed)
		fail_msg("client: %s; server: %s", t->a_text, t->b_text);
	try_fini(t);
}

static void
expect(struct try *t, enum hb_close_reason client, enum hb_close_reason server)
{
	try_run(t);
	if (t->a.reason != client || t->b.reason != server)
		fail_msg("client %s (%s), server %s (%s)", hb_close_info(t->a.reason)->name,
			t->a_text, hb_close_info(t->b.reason)->name, t->b_text);
	assert_true(strlen(t->a_text) > 0 && strlen(t->b_text) > 0);
	assert_int_equal(t->a.data + t->b.data, 0);
	try_fini(t);
}

static struct hb_test_cert *
dated(int64_t from_s, int64_t to_s)
{
	struct hb_test_cert_options o = {
		.issuer = hbt_ends_pki.root, .sans = "URI:" ID("x"), .from_s = from_s, .to_s = to_s
	};

	return (hb_test_cert_new(&o));
}

/* One certificate that the other side must refuse, tried on both sides and in both versions. */
static void
refused_cert(struct hb_test_cert *c)
{
	struct try t;
	unsigned v;

	for (v = HB_TLS_1_2; v <= HB_TLS_1_3; v++) {
		try_init(&t);
		t.client.min = t.client.max = (enum hb_tls_version)v;
		t.client_cert = hbt_tls_cert(c);
		expect(&t, HB_CLOSE_TLS_PEER_REFUSED, HB_CLOSE_TLS_VERIFY);
		try_init(&t);
		t.client.min = t.client.max = (enum hb_tls_version)v;
		t.server_cert = hbt_tls_cert(c);
		expect(&t, HB_CLOSE_TLS_VERIFY, HB_CLOSE_TLS_PEER_REFUSED);
	}
}

static void
test_handshake__certificates(void **state)
{
	struct hb_test_cert *c = hb_test_leaf(hbt_ends_pki.other, "URI:" HBT_CLIENT_ID);
	struct hb_test_cert_options o = {
		.issuer = hbt_ends_pki.root, .sans = "URI:" ID("x"), .eku = HB_TEST_EKU_SERVER
	};
	struct try t;

	refused_cert(c);
	hb_test_cert_free(&c);
	c = dated(-48 * HOUR, -24 * HOUR);
	refused_cert(c);
	hb_test_cert_free(&c);
	c = dated(24 * HOUR, 48 * HOUR);
	refused_cert(c);
	hb_test_cert_free(&c);
	c = hb_test_leaf(NULL, "URI:" HBT_CLIENT_ID); /* signed by itself */
	refused_cert(c);
	hb_test_cert_free(&c);
	c = hb_test_cert_new(&o);
	try_init(&t);
	t.client_cert = hbt_tls_cert(c);
	expect(&t, HB_CLOSE_TLS_PEER_REFUSED, HB_CLOSE_TLS_VERIFY);
	try_init(&t);
	t.server_cert = hbt_tls_cert(c);
	expect_secured(&t);
	hb_test_cert_free(&c);
}

static void
test_handshake__no_certificate(void **state)
{
	struct try t;

	try_init(&t);
	t.client.n_certs = 0;
	expect(&t, HB_CLOSE_TLS_PEER_REFUSED, HB_CLOSE_TLS_NO_CERT);
	try_init(&t);
	t.client.n_certs = 0;
	t.server.require_peer_cert = false;
	try_run(&t);
	assert_int_equal(t.b.secured, 1);
	assert_null(hb_transport_tls_info(t.b.t)->peer);
	assert_false(t.b_verified);
	assert_true(t.a_verified);
	try_fini(&t);
	/* Asked for, but not verified: no trust. */
	try_init(&t);
	t.server.trust_pem = hb_str("");
	try_run(&t);
	assert_int_equal(t.b.secured, 1);
	assert_non_null(hb_transport_tls_info(t.b.t)->peer);
	assert_false(t.b_verified);
	try_fini(&t);
}

static bool
same(const void *arg, struct hb_str value)
{
	return (hb_str_eq(hb_str(arg), value));
}

static void
test_handshake__names(void **state)
{
	struct hb_tls_san_match right = { HB_SAN_URI, same, HBT_SERVER_ID };
	struct hb_tls_san_match wrong = { HB_SAN_URI, same, ID("other") };
	struct hb_tls_san_match both[2] = { wrong, { HB_SAN_DNS, same, HBT_SERVER_DNS } };
	struct hb_test_cert *two = hb_test_leaf(
		hbt_ends_pki.root, "URI:" HBT_SERVER_ID ",URI:" ID("admin"));
	struct try t;

	try_init(&t);
	t.client.sans = &right;
	t.client.n_sans = 1;
	expect_secured(&t);
	try_init(&t);
	t.client.sans = &wrong;
	t.client.n_sans = 1;
	expect(&t, HB_CLOSE_TLS_SAN, HB_CLOSE_TLS_PEER_REFUSED);
	try_init(&t);
	t.client.sans = both;
	t.client.n_sans = 2;
	expect_secured(&t);
	try_init(&t);
	t.server.sans = &wrong;
	t.server.n_sans = 1;
	expect(&t, HB_CLOSE_TLS_PEER_REFUSED, HB_CLOSE_TLS_SAN);
	/* Two SPIFFE ids in one certificate are none. */
	try_init(&t);
	t.server_cert = hbt_tls_cert(two);
	t.client.sans = &right;
	t.client.n_sans = 1;
	expect(&t, HB_CLOSE_TLS_SAN, HB_CLOSE_TLS_PEER_REFUSED);
	hb_test_cert_free(&two);
}

static void
test_handshake__pins(void **state)
{
	struct hb_credential_pem pem = { .chain = hb_str(hbt_ends_pki.server->pem),
		.key = hb_str(hbt_ends_pki.server->key_pem) };
	struct hb_credential *c = NULL;
	uint8_t cert[32], spki[32], wrong[32] = { 1 };
	struct hb_str right_cert = hb_strn(cert, 32), right_spki = hb_strn(spki, 32);
	struct hb_str none = hb_strn(wrong, 32), mixed[2] = { none, right_cert };
	struct try t;

	assert_int_equal(hb_credential_new(&pem, &c, NULL), 0);
	hb_cert_sha256(c->chain[0], cert);
	assert_true(hb_cert_spki_sha256(c->chain[0], spki));
	hb_credential_free(&c);
	try_init(&t);
	t.client.cert_hashes = mixed;
	t.client.n_cert_hashes = 2;
	expect_secured(&t);
	try_init(&t);
	t.client.spki_hashes = &right_spki;
	t.client.n_spki_hashes = 1;
	expect_secured(&t);
	/* Either list is enough. */
	try_init(&t);
	t.client.cert_hashes = &none;
	t.client.n_cert_hashes = 1;
	t.client.spki_hashes = &right_spki;
	t.client.n_spki_hashes = 1;
	expect_secured(&t);
	try_init(&t);
	t.client.cert_hashes = &none;
	t.client.n_cert_hashes = 1;
	expect(&t, HB_CLOSE_TLS_VERIFY, HB_CLOSE_TLS_PEER_REFUSED);
	try_init(&t);
	t.client.spki_hashes = &right_cert;
	t.client.n_spki_hashes = 1;
	expect(&t, HB_CLOSE_TLS_VERIFY, HB_CLOSE_TLS_PEER_REFUSED);
}

static void
test_handshake__lenient(void **state)
{
	struct hb_test_cert *old = dated(-48 * HOUR, -24 * HOUR);
	struct hb_test_cert *foreign = hb_test_leaf(hbt_ends_pki.other, "URI:" HBT_CLIENT_ID);
	char *crl = hb_test_crl(hbt_ends_pki.root, hbt_ends_pki.client);
	struct try t;

	try_init(&t);
	t.client_cert = hbt_tls_cert(old);
	t.server.allow_expired = true;
	try_run(&t);
	assert_true(t.b_verified);
	try_fini(&t);
	try_init(&t);
	t.client_cert = hbt_tls_cert(foreign);
	t.server.accept_untrusted = true;
	try_run(&t);
	assert_int_equal(t.b.secured, 1);
	assert_false(t.b_verified);
	try_fini(&t);
	try_init(&t);
	t.server.crl_pem = hb_str(crl);
	expect(&t, HB_CLOSE_TLS_PEER_REFUSED, HB_CLOSE_TLS_VERIFY);
	hb_free(crl);
	hb_test_cert_free(&old);
	hb_test_cert_free(&foreign);
}

static void
test_handshake__versions(void **state)
{
	struct try t;

	try_init(&t);
	t.client.max = HB_TLS_1_2;
	try_run(&t);
	assert_string_equal(hb_transport_tls_info(t.a.t)->version, "TLSv1.2");
	assert_string_equal(hb_transport_tls_info(t.a.t)->cipher, "ECDHE-ECDSA-AES128-GCM-SHA256");
	try_fini(&t);
	try_init(&t);
	t.client.max = HB_TLS_1_2;
	t.server.min = HB_TLS_1_3;
	expect(&t, HB_CLOSE_TLS_HANDSHAKE, HB_CLOSE_TLS_HANDSHAKE);
	try_init(&t);
	t.client.max = HB_TLS_1_2;
	t.client.cipher_list = "ECDHE-RSA-AES128-GCM-SHA256";
	expect(&t, HB_CLOSE_TLS_HANDSHAKE, HB_CLOSE_TLS_HANDSHAKE);
	try_init(&t);
	t.client.groups = "P-384";
	expect(&t, HB_CLOSE_TLS_HANDSHAKE, HB_CLOSE_TLS_NO_GROUP);
	/* A group that the client did not guess: a second ClientHello. */
	try_init(&t);
	t.server.groups = "P-256";
	t.sni = HBT_SERVER_DNS;
	expect_secured(&t);
}

static void
test_handshake__alpn_and_sni(void **state)
{
	static const char *const ours[] = { "istio", "h2" }, *const theirs[] = { "h2", "istio" };
	static const char *const none[] = { "http/1.1" };
	struct try t;

	try_init(&t);
	t.client.alpn = theirs;
	t.server.alpn = ours;
	t.client.n_alpn = t.server.n_alpn = 2;
	try_run(&t);
	assert_true(hb_str_eq(hb_transport_tls_info(t.a.t)->alpn, HB_STR("istio")));
	assert_true(hb_str_eq(hb_transport_tls_info(t.b.t)->alpn, HB_STR("istio")));
	try_fini(&t);
	try_init(&t);
	t.client.alpn = none;
	t.client.n_alpn = 1;
	t.server.alpn = ours;
	t.server.n_alpn = 2;
	try_run(&t);
	assert_int_equal(t.a.secured, 1);
	assert_int_equal(hb_transport_tls_info(t.a.t)->alpn.len, 0);
	try_fini(&t);
	try_init(&t);
	t.server.require_sni = true;
	expect(&t, HB_CLOSE_TLS_HANDSHAKE, HB_CLOSE_TLS_HANDSHAKE);
	try_init(&t);
	t.server.require_sni = true;
	t.sni = "UPPER.example";
	try_run(&t);
	assert_true(hb_str_eq(hb_transport_tls_info(t.b.t)->sni, HB_STR("upper.example")));
	try_fini(&t);
}

static void
test_handshake__bad_sni(void **state)
{
	struct hb_transport *a, *b;
	struct hbt_sink s = { 0 };
	char name[300];

	memset(name, 'a', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	hb_pair_new(hbt_worker(), &a, &b);
	hb_transport_accept(b);
	hbt_attach(&s, hb_tls_new(a, hbt_ends_pki.client_ctx, name));
	HBT_UNTIL(s.closed == 1);
	assert_int_equal(s.reason, HB_CLOSE_TLS_HANDSHAKE);
	hb_transport_abort(&b, HB_CLOSE_LOCAL_CLOSE);
	hbt_sink_fini(&s);
}

/* ------------------------------------------------------------------ several certificates */

static const char *
served(struct try *t, const char *sni)
{
	static char dns[64];

	t->sni = sni;
	t->a.secured = t->b.secured = 0;
	try_run(t);
	(void)snprintf(dns, sizeof dns, "%s", hb_transport_tls_info(t->a.t)->peer->san[0].value);
	try_fini(t);
	memset(&t->a, 0, sizeof t->a);
	memset(&t->b, 0, sizeof t->b);
	return (dns);
}

static void
test_handshake__chooses_certificate(void **state)
{
	static const char *const sans[] = { "DNS:first.example", "DNS:second.example",
		"DNS:*.third.example", "DNS:second.example,DNS:rsa", "DNS:rsa.example" };
	struct hb_test_cert_options o = { .issuer = hbt_ends_pki.root };
	struct hb_test_cert *c[HB_ARRAY_LEN(sans)];
	struct hb_tls_cert certs[HB_ARRAY_LEN(sans)];
	struct try t;
	size_t i;

	for (i = 0; i < HB_ARRAY_LEN(sans); i++) {
		o.sans = sans[i];
		o.key = i >= 3 ? HB_TEST_RSA2048 : HB_TEST_P256;
		c[i] = hb_test_cert_new(&o);
		certs[i] = hbt_tls_cert(c[i]);
	}
	try_init(&t);
	t.server.certs = certs;
	t.server.n_certs = HB_ARRAY_LEN(sans);
	assert_string_equal(served(&t, NULL), "first.example");
	assert_string_equal(served(&t, "nobody.example"), "first.example");
	assert_string_equal(served(&t, "second.example"), "second.example");
	assert_string_equal(served(&t, "A.third.example"), "*.third.example");
	assert_string_equal(served(&t, "a.b.third.example"), "first.example");
	assert_string_equal(served(&t, "rsa.example"), "rsa.example");
	/* A client without ECDSA: the name still counts, then the first that it can use. */
	t.client.max = HB_TLS_1_2;
	t.client.cipher_list = "ECDHE-RSA-AES128-GCM-SHA256";
	assert_string_equal(served(&t, "second.example"), "second.example");
	assert_string_equal(served(&t, "nobody.example"), "second.example");
	for (i = 0; i < HB_ARRAY_LEN(sans); i++)
		hb_test_cert_free(&c[i]);
}

/* ------------------------------------------------------------------ what is no TLS */

static void
speak_to_server(const void *p, size_t n, bool alert, struct hbt_sink *s)
{
	struct hb_transport *t;
	uint8_t answer[4096];
	int fd;

	t = hb_tls_new(hbt_tcp_and_fd(&fd, false, NULL), hbt_ends_pki.server_ctx, NULL);
	watched[0] = t;
	hbt_attach(s, t);
	hbt_fd_write(fd, p, n);
	HBT_UNTIL(s->closed == 1);
	assert_int_equal(s->reason, HB_CLOSE_TLS_HANDSHAKE);
	if (alert) {
		HBT_UNTIL(hbt_fd_read(fd, answer, sizeof answer) > 0);
		assert_int_equal(answer[0], 21);
	}
	close(fd);
	hbt_sink_fini(s);
	hbt_turns(8);
}

static void
test_handshake__garbage(void **state)
{
	static const char http[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
	static const uint8_t record[] = { 22, 3, 1, 0, 4, 1, 0, 0, 0 }, zero[64];
	char text[256] = "";
	struct hbt_sink s = { .hook = closed_text, .arg = text };

	watched_text[0] = text;
	speak_to_server(http, sizeof http - 1, false, &s);
	assert_non_null(strstr(text, "HTTP"));
	memset(&s, 0, sizeof s);
	speak_to_server(record, sizeof record, true, &s);
	memset(&s, 0, sizeof s);
	speak_to_server(zero, sizeof zero, true, &s);
}

static void
test_handshake__server_is_no_tls(void **state)
{
	struct hbt_sink s = { 0 };
	uint8_t hello[2048];
	int fd;

	hbt_attach(&s, hb_tls_new(hbt_tcp_and_fd(&fd, false, NULL), hbt_ends_pki.client_ctx, NULL));
	HBT_UNTIL(hbt_fd_read(fd, hello, sizeof hello) > 0);
	hbt_fd_write(fd, "SSH-2.0-x\r\n", 11);
	HBT_UNTIL(s.closed == 1);
	assert_int_equal(s.reason, HB_CLOSE_TLS_HANDSHAKE);
	close(fd);
	hbt_sink_fini(&s);
	hbt_turns(8);
}

static void
test_handshake__peer_leaves(void **state)
{
	struct hbt_sink s = { 0 };
	int fd;

	hbt_attach(&s, hb_tls_new(hbt_tcp_and_fd(&fd, false, NULL), hbt_ends_pki.server_ctx, NULL));
	hbt_turns(4);
	close(fd);
	HBT_UNTIL(s.closed == 1);
	assert_int_equal(s.reason, HB_CLOSE_TLS_HANDSHAKE);
	hbt_sink_fini(&s);
	memset(&s, 0, sizeof s);
	hbt_attach(&s, hb_tls_new(hbt_tcp_and_fd(&fd, false, NULL), hbt_ends_pki.server_ctx, NULL));
	hbt_turns(4);
	hbt_fd_reset(fd);
	HBT_UNTIL(s.closed == 1);
	assert_int_equal(s.reason, HB_CLOSE_PEER_RESET);
	hbt_sink_fini(&s);
}

static void
test_handshake__timeout(void **state)
{
	const struct hb_tls_ctx *ctx[2] = { hbt_ends_pki.server_ctx, hbt_ends_pki.client_ctx };
	struct hbt_sink s;
	unsigned i;
	int fd;

	for (i = 0; i < 2; i++) {
		memset(&s, 0, sizeof s);
		hbt_attach(&s, hb_tls_new(hbt_tcp_and_fd(&fd, false, NULL), ctx[i], NULL));
		HBT_UNTIL(s.connected == 1);
		hbt_advance(13000);
		assert_int_equal(s.closed, 0);
		hbt_advance(2000);
		assert_int_equal(s.closed, 1);
		assert_int_equal(s.reason, HB_CLOSE_TLS_TIMEOUT);
		close(fd);
		hbt_sink_fini(&s);
	}
}

/* A sink that let go with bytes to send does not wait for ever either. */
static void
test_handshake__linger_timeout(void **state)
{
	struct hbt_sink s = { 0 };
	int fd;

	hbt_attach(&s, hb_tls_new(hbt_tcp_and_fd(&fd, false, NULL), hbt_ends_pki.server_ctx, NULL));
	HBT_UNTIL(s.connected == 1);
	hbt_writez(&s, "never sent", false);
	hb_transport_finish(&s.t, HB_CLOSE_LOCAL_CLOSE);
	hbt_turns(4);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 1);
	hbt_advance(15000);
	assert_int_equal(hb_transport_lingering(hbt_worker()), 0);
	close(fd);
	hbt_sink_fini(&s);
}

/* ------------------------------------------------------------------ a cut at every byte */

struct cut {
	struct hb_transport *t[2];
	size_t left;
	size_t passed;
};

static void
cut_both(struct cut *c)
{
	unsigned i;

	for (i = 0; i < 2; i++) {
		if (c->t[i] != NULL)
			hb_transport_abort(&c->t[i], HB_CLOSE_LOCAL_CLOSE);
	}
}

static void
cut_on_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct cut *c = sink;
	struct hb_transport *to = t == c->t[0] ? c->t[1] : c->t[0];
	struct hb_buf part = { NULL, NULL, 0 };
	size_t n = HB_MIN(c->left, buf->len);

	hb_buf_move_n(&part, buf, n);
	hb_buf_fini(buf);
	c->left -= n;
	c->passed += n;
	if (to == NULL)
		hb_buf_fini(&part);
	else if (n > 0 || end)
		hb_transport_write(to, &part, end);
	if (c->left == 0)
		cut_both(c);
}

static void
cut_on_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	struct cut *c = sink;

	(void)reason;
	c->t[t == c->t[0] ? 0 : 1] = NULL;
	cut_both(c);
}

static const struct hb_transport_events cut_events = {
	.on_data = cut_on_data,
	.on_closed = cut_on_closed,
};

static size_t
cut_at(size_t n)
{
	struct cut c = { .left = n };
	struct hbt_sink a = { 0 }, b = { 0 };
	struct hb_transport *client, *server;

	hb_pair_new(hbt_worker(), &client, &c.t[0]);
	hb_pair_new(hbt_worker(), &c.t[1], &server);
	hb_transport_attach(c.t[0], &cut_events, &c);
	hb_transport_attach(c.t[1], &cut_events, &c);
	hb_transport_read_disable(c.t[0], -1);
	hb_transport_read_disable(c.t[1], -1);
	hb_transport_accept(c.t[0]);
	hbt_attach(&a, hb_tls_new(client, hbt_ends_pki.client_ctx, NULL));
	hbt_attach(&b, hb_tls_new(server, hbt_ends_pki.server_ctx, NULL));
	HBT_UNTIL((a.secured && b.secured) || (a.closed && b.closed));
	cut_both(&c);
	HBT_UNTIL(a.closed && b.closed);
	assert_int_equal(a.ends + b.ends, 0);
	hbt_sink_fini(&a);
	hbt_sink_fini(&b);
	hbt_turns(2);
	return (c.passed);
}

static void
test_handshake__cut_at_every_byte(void **state)
{
	size_t n, whole = cut_at(SIZE_MAX);

	assert_true(whole > 1000 && whole < 10000);
	for (n = 1; n < whole; n++)
		(void)cut_at(n);
}

/* ------------------------------------------------------------------ memory */

static void
test_handshake__idle_memory(void **state)
{
	enum { N = 64 };
	struct hbt_sink a[N] = { { 0 } }, b[N] = { { 0 } };
	struct hb_transport *x, *y;
	size_t before, each;
	unsigned i;

	(void)cut_at(SIZE_MAX); /* what is made once */
	before = mallinfo2().uordblks + hb_burst_in_use();
	for (i = 0; i < N; i++) {
		hb_pair_new(hbt_worker(), &x, &y);
		hbt_attach(&a[i], hb_tls_new(x, hbt_ends_pki.client_ctx, NULL));
		hbt_attach(&b[i], hb_tls_new(y, hbt_ends_pki.server_ctx, NULL));
		HBT_UNTIL(a[i].secured && b[i].secured);
		hbt_write(&a[i], "x", 1, false);
		HBT_UNTIL(b[i].data == 1);
		hb_text_fini(&b[i].got);
	}
	hbt_turns(4);
	each = (mallinfo2().uordblks + hb_burst_in_use() - before) / (2 * N);
	print_message("an idle end with its half of a pair: %zu bytes\n", each);
	/* A record buffer alone would be 16 KiB. */
	assert_true(each < 8 * 1024);
	for (i = 0; i < N; i++) {
		hbt_sink_fini(&a[i]);
		hbt_sink_fini(&b[i]);
	}
	hbt_turns(8);
}

/* ------------------------------------------------------------------ configurations */

static void
config_fails(const struct hb_tls_config *c, const char *words)
{
	struct hb_err err;
	struct hb_tls_ctx *ctx = hb_tls_ctx_new(c, &err);

	if (ctx != NULL)
		fail_msg("accepted: %s", words);
	if (strstr(err.text, words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

static void
test_handshake__configurations(void **state)
{
	static const char *const empty[] = { "" };
	struct hb_str shrt = HB_STR("short");
	struct hb_tls_san_match m = { HB_SAN_URI, same, "x" };
	struct hb_tls_config c = { .server = true };
	struct try t;

	config_fails(&c, "needs a certificate");
	try_init(&t);
	t.server.min = HB_TLS_1_3;
	t.server.max = HB_TLS_1_2;
	config_fails(&t.server, "above the maximum");
	try_init(&t);
	t.server.cipher_list = "NONSENSE";
	config_fails(&t.server, "NONSENSE");
	try_init(&t);
	t.server.groups = "P-1";
	config_fails(&t.server, "P-1");
	try_init(&t);
	t.server.alpn = empty;
	t.server.n_alpn = 1;
	config_fails(&t.server, "ALPN");
	try_init(&t);
	t.server.cert_hashes = &shrt;
	t.server.n_cert_hashes = 1;
	config_fails(&t.server, "32 bytes");
	try_init(&t);
	t.server.trust_pem = hb_str("");
	t.server.sans = &m;
	t.server.n_sans = 1;
	config_fails(&t.server, "trusted CA");
	try_init(&t);
	t.server_cert.chain_file = "/etc/cert.pem";
	t.server_cert.key_file = "/etc/key.pem";
	t.server_cert.key = hb_str(hbt_ends_pki.client->key_pem);
	config_fails(&t.server,
		"/etc/key.pem does not belong to the first certificate of "
		"/etc/cert.pem");
}

static void
test_handshake__context_describes(void **state)
{
	const struct hb_cert_info *const *info;

	assert_int_equal(hb_tls_ctx_certs(hbt_ends_pki.server_ctx, &info), 1);
	assert_string_equal(info[0]->spiffe_id, HBT_SERVER_ID);
	assert_int_equal(hb_tls_ctx_trust(hbt_ends_pki.server_ctx, &info), 1);
	assert_string_equal(info[0]->subject, "CN=cluster.local");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handshake__certificates),
		cmocka_unit_test(test_handshake__no_certificate),
		cmocka_unit_test(test_handshake__names),
		cmocka_unit_test(test_handshake__pins),
		cmocka_unit_test(test_handshake__lenient),
		cmocka_unit_test(test_handshake__versions),
		cmocka_unit_test(test_handshake__alpn_and_sni),
		cmocka_unit_test(test_handshake__bad_sni),
		cmocka_unit_test(test_handshake__chooses_certificate),
		cmocka_unit_test(test_handshake__garbage),
		cmocka_unit_test(test_handshake__server_is_no_tls),
		cmocka_unit_test(test_handshake__peer_leaves),
		cmocka_unit_test(test_handshake__timeout),
		cmocka_unit_test(test_handshake__linger_timeout),
		cmocka_unit_test(test_handshake__cut_at_every_byte),
		cmocka_unit_test(test_handshake__idle_memory),
		cmocka_unit_test(test_handshake__configurations),
		cmocka_unit_test(test_handshake__context_describes),
	};

	return (cmocka_run_group_tests(tests, hbt_ends_setup, hbt_ends_teardown));
}

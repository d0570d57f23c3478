/* SPDX-License-Identifier: Apache-2.0 */
/* Resumption: a shorter way in for those who would get in anyway, and for nobody else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>
#include <openssl/mem.h>
#include "test/core/transport/tls/client.h"

#define HOUR 3600

static struct hbt_pki pki;
static struct hb_tls_config config; /* of a server, as setup made it */
static struct hb_tls_cert server_cert, client_cert;
static SSL_SESSION *session; /* the newest that a server gave */
static SSL_CTX *client;

static int
setup(void **state)
{
	(void)hbt_init(HB_IO_EPOLL);
	hbt_pki_init(&pki);
	client_cert = hbt_tls_cert(pki.client);
	config = hbt_tls_server_config(&pki, &server_cert);
	client = hbt_tls_client_ctx(pki.client, &session);
	return (0);
}

static int
teardown(void **state)
{
	SSL_SESSION_free(session);
	session = NULL;
	SSL_CTX_free(client);
	hb_tls_set_verified_chains(HB_TLS_VERIFIED_CHAINS);
	hbt_pki_fini(&pki);
	hbt_fini();
	return (0);
}

static uint64_t
counter(enum hb_tls_counter i)
{
	return (hb_tls_counter(hbt_worker(), i));
}

enum way { IN_FULL, IN_RESUMED, OUT };

/* One connection that offers the newest session, if there is one. */
static enum way
enter(const struct hb_tls_ctx *server)
{
	SSL_SESSION *offer = session;
	struct hbt_tls_client c;
	enum way way = OUT;

	if (offer != NULL)
		SSL_SESSION_up_ref(offer);
	if (hbt_tls_client_connect(&c, client, server, offer)) {
		way = c.info->resumed ? IN_RESUMED : IN_FULL;
		assert_int_equal(SSL_session_reused(c.ssl), c.info->resumed);
		assert_int_equal(SSL_early_data_accepted(c.ssl), 0);
		assert_non_null(c.info->local);
		assert_null(c.info->failure);
	}
	if (way != OUT && c.info->peer != NULL) {
		assert_true(c.info->peer_verified);
		assert_string_equal(c.info->peer->spiffe_id, HBT_CLIENT_ID);
	}
	hbt_tls_client_fini(&c);
	SSL_SESSION_free(offer);
	return (way);
}

static void
test_session__resumed(void **state)
{
	struct hb_tls_ctx *server = hbt_tls_ctx(&config), *twin = hbt_tls_ctx(&config);

	assert_int_equal(enter(server), IN_FULL);
	assert_non_null(session);
	assert_int_equal(SSL_SESSION_early_data_capable(session), 0);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(enter(server), IN_RESUMED);
	/* The same certificate, trust and keys of the process. */
	assert_int_equal(enter(twin), IN_RESUMED);
	assert_int_equal(counter(HB_TLS_RESUMED), 6);
	assert_int_equal(counter(HB_TLS_TICKETS_REFUSED), 0);
	hb_tls_ctx_free(&server);
	assert_int_equal(enter(twin), IN_RESUMED);
	hb_tls_ctx_free(&twin);
}

/* A context that differs from the one of the ticket in one thing. */
static enum way
enter_changed(const struct hb_tls_config *c)
{
	struct hb_tls_ctx *server = hbt_tls_ctx(&config), *other = hbt_tls_ctx(c);
	enum way way;

	SSL_SESSION_free(session);
	session = NULL;
	assert_int_equal(enter(server), IN_FULL);
	way = enter(other);
	hb_tls_ctx_free(&server);
	hb_tls_ctx_free(&other);
	return (way);
}

static void
test_session__trust(void **state)
{
	struct hb_test_cert *stranger = hb_test_leaf(pki.root, "URI:" HBT_CLIENT_ID);
	char *revoked = hb_test_crl(pki.root, pki.client), *not = hb_test_crl(pki.root, stranger);
	char *both = hb_asprintf("%s%s", pki.root->pem, pki.other->pem);
	struct hb_tls_config c = config;

	c.crl_pem = hb_str(revoked);
	assert_int_equal(enter_changed(&c), OUT);
	c.crl_pem = hb_str(not );
	assert_int_equal(enter_changed(&c), IN_FULL);
	c = config;
	c.trust_pem = hb_str(pki.other->pem);
	assert_int_equal(enter_changed(&c), OUT);
	c.trust_pem = hb_str(both);
	assert_int_equal(enter_changed(&c), IN_FULL);
	assert_true(counter(HB_TLS_TICKETS_REFUSED) >= 4);
	assert_int_equal(counter(HB_TLS_RESUMED), 0);
	hb_free(both);
	hb_free(revoked);
	hb_free(not );
	hb_test_cert_free(&stranger);
}

/* A connection that began with a ticket ends with its peer's good name, as any other. */
static void
test_session__judged_again(void **state)
{
	struct hb_test_cert *stranger = hb_test_leaf(pki.root, "URI:" HBT_CLIENT_ID);
	char *revoked = hb_test_crl(pki.root, pki.client), *not = hb_test_crl(pki.root, stranger);
	struct hb_tls_ctx *server = hbt_tls_ctx(&config), *bad, *good;
	struct hb_tls_config c = config;
	struct hbt_tls_client live;

	c.crl_pem = hb_str(revoked);
	bad = hbt_tls_ctx(&c);
	c.crl_pem = hb_str(not);
	good = hbt_tls_ctx(&c);
	assert_int_equal(enter(server), IN_FULL);
	assert_true(hbt_tls_client_connect(&live, client, server, session));
	assert_true(live.info->resumed);
	assert_true(hb_tls_recheck(live.tls, good));
	assert_false(hb_tls_recheck(live.tls, bad));
	assert_non_null(strstr(hb_transport_tls_info(live.tls)->failure, "revoked"));
	hbt_tls_client_fini(&live);
	hb_tls_ctx_free(&server);
	hb_tls_ctx_free(&good);
	hb_tls_ctx_free(&bad);
	hb_free(revoked);
	hb_free(not);
	hb_test_cert_free(&stranger);
}

static void
test_session__own_certificate(void **state)
{
	struct hb_test_cert *next = hb_test_leaf(pki.root, "URI:" HBT_SERVER_ID);
	struct hb_tls_cert cert = hbt_tls_cert(next);
	struct hb_tls_config c = config;

	c.certs = &cert;
	assert_int_equal(enter_changed(&c), IN_FULL);
	hb_test_cert_free(&next);
}

static bool allowed;

static bool
is_allowed(const void *arg, struct hb_str value)
{
	return (allowed);
}

static void
test_session__names(void **state)
{
	struct hb_tls_san_match rule = { HB_SAN_URI, is_allowed, NULL };
	struct hb_str pin = hb_strn("01234567890123456789012345678901", 32);
	struct hb_tls_config c = config;
	struct hb_tls_ctx *server;

	c.sans = &rule;
	c.n_sans = 1;
	server = hbt_tls_ctx(&c);
	allowed = true;
	assert_int_equal(enter(server), IN_FULL);
	assert_int_equal(enter(server), IN_RESUMED);
	allowed = false;
	assert_int_equal(enter(server), OUT);
	allowed = true;
	assert_int_equal(enter(server), IN_RESUMED);
	hb_tls_ctx_free(&server);
	c = config;
	c.cert_hashes = &pin;
	c.n_cert_hashes = 1;
	assert_int_equal(enter_changed(&c), OUT);
}

/* A session without a certificate does not open a door that asks for one. */
static void
test_session__anonymous(void **state)
{
	SSL_CTX *known = client;
	struct hb_tls_config c = config;
	struct hb_tls_ctx *lax, *strict = hbt_tls_ctx(&config);

	client = hbt_tls_client_ctx(NULL, &session);
	c.require_peer_cert = false;
	lax = hbt_tls_ctx(&c);
	assert_int_equal(enter(lax), IN_FULL);
	assert_int_equal(enter(lax), IN_RESUMED);
	assert_int_equal(enter(strict), OUT);
	SSL_CTX_free(client);
	client = known;
	hb_tls_ctx_free(&lax);
	hb_tls_ctx_free(&strict);
}

/* Who got in without being verified comes in the same way each time. */
static void
test_session__unverified(void **state)
{
	struct hb_test_cert *stranger = hb_test_leaf(pki.other, "URI:" HBT_CLIENT_ID);
	SSL_CTX *known = client;
	struct hb_tls_config c = config;
	struct hb_tls_ctx *lax;
	struct hbt_tls_client l;

	client = hbt_tls_client_ctx(stranger, &session);
	c.accept_untrusted = true;
	lax = hbt_tls_ctx(&c);
	for (unsigned i = 0; i < 2; i++) {
		assert_true(hbt_tls_client_connect(&l, client, lax, i == 0 ? NULL : session));
		assert_true(l.info->peer != NULL && !l.info->peer_verified && !l.info->resumed);
		hbt_tls_client_fini(&l);
	}
	SSL_CTX_free(client);
	client = known;
	hb_tls_ctx_free(&lax);
	hb_test_cert_free(&stranger);
}

static void
test_session__time(void **state)
{
	struct hb_test_cert_options o = {
		.issuer = pki.root, .sans = "URI:" HBT_CLIENT_ID, .from_s = -HOUR, .to_s = 12 * HOUR
	};
	struct hb_test_cert *leaf = hb_test_cert_new(&o);
	struct hb_tls_config c = config;
	struct hb_tls_ctx *server;
	SSL_CTX *known = client;

	c.session_timeout_s = 10 * HOUR;
	server = hbt_tls_ctx(&c);
	client = hbt_tls_client_ctx(leaf, &session);
	assert_int_equal(enter(server), IN_FULL);
	/* Resuming does not make it younger. */
	hbt_advance((uint64_t)6 * HOUR * 1000);
	assert_int_equal(enter(server), IN_RESUMED);
	hbt_advance((uint64_t)4 * HOUR * 1000);
	assert_int_equal(enter(server), IN_FULL);
	assert_int_equal(enter(server), IN_RESUMED);
	/* The certificate has ended. */
	hbt_advance((uint64_t)3 * HOUR * 1000);
	assert_int_equal(enter(server), OUT);
	SSL_CTX_free(client);
	client = known;
	hb_tls_ctx_free(&server);
	hb_test_cert_free(&leaf);
}

/* A worker that does not know the chain (any more) asks for it. */
static void
test_session__forgotten_chain(void **state)
{
	struct hb_tls_ctx *server = hbt_tls_ctx(&config);

	hb_tls_set_verified_chains(0);
	assert_int_equal(enter(server), IN_FULL);
	assert_int_equal(enter(server), IN_FULL);
	hb_tls_set_verified_chains(1);
	assert_int_equal(enter(server), IN_FULL);
	assert_int_equal(enter(server), IN_RESUMED);
	hb_tls_ctx_free(&server);
}

static void
test_session__off(void **state)
{
	struct hb_tls_config c = config;
	struct hb_tls_ctx *server;

	c.no_tickets = true;
	server = hbt_tls_ctx(&c);
	assert_int_equal(enter(server), IN_FULL);
	assert_null(session);
	hb_tls_ctx_free(&server);
	assert_int_equal(enter_changed(&c), IN_FULL);
}

/* TLS 1.2 gives no tickets. */
static void
test_session__version(void **state)
{
	struct hb_tls_ctx *server = hbt_tls_ctx(&config);

	assert_int_equal(SSL_CTX_set_max_proto_version(client, TLS1_2_VERSION), 1);
	assert_int_equal(enter(server), IN_FULL);
	assert_int_equal(enter(server), IN_FULL);
	assert_true(session == NULL || !SSL_SESSION_has_ticket(session));
	hb_tls_ctx_free(&server);
}

static void
test_session__keys_rotate(void **state)
{
	struct hb_tls_config c = config;
	int64_t now = (int64_t)time(NULL);
	struct hb_tls_ctx *server;
	SSL_SESSION *old;

	c.session_timeout_s = HB_TLS_SESSION_TIMEOUT_MAX;
	server = hbt_tls_ctx(&c);
	assert_int_equal(enter(server), IN_FULL);
	old = session;
	SSL_SESSION_up_ref(old);
	for (unsigned i = 1; i <= 24; i++) {
		hb_tls_tickets_rotate(now + i * HOUR + 10);
		hb_tls_tickets_rotate(now + i * HOUR + 20); /* too early */
		hbt_turns(2);
	}
	assert_int_equal(enter(server), IN_RESUMED);
	assert_ptr_not_equal(session, old);
	hb_tls_tickets_rotate(now + 26 * HOUR);
	hbt_turns(2);
	assert_int_equal(enter(server), IN_RESUMED);
	SSL_SESSION_free(session);
	session = old;
	assert_int_equal(enter(server), IN_FULL);
	hb_tls_ctx_free(&server);
}

/* Keys that are given outlive a context, and the process that made the ticket. */
static void
test_session__given_keys(void **state)
{
	uint8_t bytes[3][HB_TLS_TICKET_KEY];
	struct hb_str keys[3];
	struct hb_tls_config c = config;
	struct hb_tls_ctx *a, *b, *none;

	for (unsigned i = 0; i < 3; i++) {
		memset(bytes[i], (int)i + 1, sizeof bytes[i]);
		keys[i] = hb_strn((const char *)bytes[i], sizeof bytes[i]);
	}
	c.ticket_keys = keys;
	c.n_ticket_keys = 2;
	a = hbt_tls_ctx(&c);
	c.ticket_keys = keys + 1;
	b = hbt_tls_ctx(&c);
	none = hbt_tls_ctx(&config);
	assert_int_equal(enter(b), IN_FULL);    /* sealed by the second */
	assert_int_equal(enter(a), IN_RESUMED); /* opened by the second, sealed by the first */
	assert_int_equal(enter(b), IN_FULL);
	assert_int_equal(enter(none), IN_FULL);
	assert_int_equal(enter(b), IN_FULL);
	hb_tls_ctx_free(&a);
	hb_tls_ctx_free(&b);
	hb_tls_ctx_free(&none);
}

/* The same session with another ticket. */
static SSL_SESSION *
with_ticket(const SSL_SESSION *s, const uint8_t *ticket, size_t n)
{
	SSL_SESSION *copy;
	uint8_t *bytes;
	size_t len;

	assert_int_equal(SSL_SESSION_to_bytes(s, &bytes, &len), 1);
	copy = SSL_SESSION_from_bytes(bytes, len, client);
	OPENSSL_free(bytes);
	assert_int_equal(SSL_SESSION_set_ticket(copy, ticket, n), 1);
	return (copy);
}

/* Each byte of a ticket counts. */
static void
test_session__forged(void **state)
{
	struct hb_tls_ctx *server = hbt_tls_ctx(&config);
	SSL_SESSION *good;
	const uint8_t *ticket;
	uint8_t *copy;
	size_t n;

	assert_int_equal(enter(server), IN_FULL);
	good = session;
	SSL_SESSION_get0_ticket(good, &ticket, &n);
	copy = hb_malloc(n);
	memcpy(copy, ticket, n);
	session = with_ticket(good, copy, n);
	assert_int_equal(enter(server), IN_RESUMED);
	for (size_t i = 0; i < n + 80; i++) {
		size_t len = i < n ? n : i - n + 1;

		copy[i % n] ^= 1;
		SSL_SESSION_free(session);
		session = with_ticket(good, copy, len);
		copy[i % n] ^= 1;
		assert_int_equal(enter(server), IN_FULL);
	}
	hb_free(copy);
	SSL_SESSION_free(good);
	hb_tls_ctx_free(&server);
}

/* ------------------------------------------------------------------ our own client */

struct ours {
	struct hbt_sink a, b;
	bool resumed;
	enum hb_close_reason reason; /* of the client */
};

static void
ours_run(struct ours *o, const struct hb_tls_ctx *from, const struct hb_tls_ctx *to,
	const char *sni, bool tcp)
{
	struct hb_transport *a, *b;

	memset(o, 0, sizeof *o);
	if (tcp)
		hbt_tcp_pair(&a, &b);
	else
		hb_pair_new(hbt_worker(), &a, &b);
	hbt_attach(&o->a, hb_tls_new(a, from, sni));
	hbt_attach(&o->b, hb_tls_new(b, to, NULL));
	HBT_UNTIL((o->a.secured && o->b.secured) || o->a.closed);
	if (!o->a.closed) {
		hbt_writez(&o->b, "x", false);
		HBT_UNTIL(hbt_gotz(&o->a, "x") || o->a.closed);
	}
	o->reason = o->a.reason;
	if (!o->a.closed) {
		o->resumed = hb_transport_tls_info(o->a.t)->resumed;
		assert_int_equal(hb_transport_tls_info(o->b.t)->resumed, o->resumed);
		assert_true(hb_transport_tls_info(o->a.t)->peer_verified);
		assert_string_equal(hb_transport_tls_info(o->a.t)->peer->spiffe_id, HBT_SERVER_ID);
		assert_string_equal(hb_transport_tls_info(o->b.t)->peer->spiffe_id, HBT_CLIENT_ID);
	}
	hbt_sink_fini(&o->a);
	hbt_sink_fini(&o->b);
	hbt_turns(4);
}

static struct hb_tls_config
client_config(void)
{
	return ((struct hb_tls_config){ .certs = &client_cert,
		.n_certs = 1,
		.trust_pem = hb_str(pki.root->pem),
		.max_sessions = 2 });
}

/* The pair has no address: the server name is the key. */
static void
test_client__by_name(void **state)
{
	struct hb_tls_config c = client_config();
	struct hb_tls_ctx *server = hbt_tls_ctx(&config), *a = hbt_tls_ctx(&c), *b;
	struct ours o;

	ours_run(&o, a, server, "one.example", false);
	assert_false(o.resumed);
	for (unsigned i = 0; i < 3; i++) {
		ours_run(&o, a, server, "one.example", false);
		assert_true(o.resumed);
	}
	ours_run(&o, a, server, "two.example", false);
	assert_false(o.resumed);
	ours_run(&o, a, server, NULL, false);
	assert_false(o.resumed);
	ours_run(&o, a, server, NULL, false);
	assert_false(o.resumed); /* nobody knows that it is the same server */
	/* Two keys at most: the third one makes the oldest go. */
	ours_run(&o, a, server, "three.example", false);
	ours_run(&o, a, server, "one.example", false);
	assert_false(o.resumed);
	ours_run(&o, a, server, "three.example", false);
	assert_true(o.resumed);
	/* Sessions are a context's. */
	b = hbt_tls_ctx(&c);
	ours_run(&o, b, server, "three.example", false);
	assert_false(o.resumed);
	hb_tls_ctx_free(&a);
	hb_tls_ctx_free(&b);
	hb_tls_ctx_free(&server);
}

/* A socket of hbt_tcp_pair has another peer address each time. */
static void
test_client__by_address(void **state)
{
	struct hb_tls_config c = client_config();
	struct hb_tls_ctx *server = hbt_tls_ctx(&config), *a = hbt_tls_ctx(&c);
	struct ours o;

	for (unsigned i = 0; i < 3; i++) {
		ours_run(&o, a, server, "one.example", true);
		assert_false(o.resumed);
	}
	hb_tls_ctx_free(&a);
	hb_tls_ctx_free(&server);
}

/* What a session's server has shown is judged again before the session is offered. */
static void
test_client__judged(void **state)
{
	struct hb_test_cert_options short_lived = {
		.issuer = pki.root, .sans = "URI:" HBT_SERVER_ID, .from_s = -HOUR, .to_s = HOUR
	};
	struct hb_test_cert *leaf = hb_test_cert_new(&short_lived);
	struct hb_tls_cert cert = hbt_tls_cert(leaf);
	struct hb_tls_san_match rule = { HB_SAN_URI, is_allowed, NULL };
	struct hb_tls_config c = client_config(), s = config;
	struct hb_tls_ctx *server, *a;
	struct ours o;

	c.sans = &rule;
	c.n_sans = 1;
	s.certs = &cert;
	server = hbt_tls_ctx(&s);
	a = hbt_tls_ctx(&c);
	allowed = true;
	ours_run(&o, a, server, "one.example", false);
	ours_run(&o, a, server, "one.example", false);
	assert_true(o.resumed);
	allowed = false;
	ours_run(&o, a, server, "one.example", false);
	assert_int_equal(o.reason, HB_CLOSE_TLS_SAN);
	allowed = true;
	ours_run(&o, a, server, "one.example", false);
	assert_false(o.resumed); /* it was thrown away */
	hbt_advance((uint64_t)HOUR * 1000);
	ours_run(&o, a, server, "one.example", false);
	assert_int_equal(o.reason, HB_CLOSE_TLS_VERIFY);
	hb_tls_ctx_free(&a);
	hb_tls_ctx_free(&server);
	hb_test_cert_free(&leaf);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_session__resumed),
		T(test_session__trust),
		T(test_session__judged_again),
		T(test_session__own_certificate),
		T(test_session__names),
		T(test_session__anonymous),
		T(test_session__unverified),
		T(test_session__time),
		T(test_session__forgotten_chain),
		T(test_session__off),
		T(test_session__version),
		T(test_session__keys_rotate),
		T(test_session__given_keys),
		T(test_session__forged),
		T(test_client__by_name),
		T(test_client__by_address),
		T(test_client__judged),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

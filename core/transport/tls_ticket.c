/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tickets of a server (RFC 8446 section 4.6.1): what it needs to resume a session, sealed for itself.
 *
 * A ticket is bound to our certificate and to our trust (associated data of the AEAD), and names the
 * chain that its owner has shown by the key under which workers remember it. It is good as long as the
 * chain is: the worker must have it still, and pins, names and rules are asked again. Everything else
 * is a full handshake, which is never worse than slow. So nothing that came from outside is parsed here,
 * and a ticket has no certificate in it.
 *
 * A resumed handshake takes 72 us of a server, a full one with a known chain 120 (tls_cost_test; ./dev
 * instructions resumptions).
 *
 * Layout: name of the key, nonce, sealed (head, the library's session), tag.
 */
#include <stdatomic.h>
#include <time.h>
#include <openssl/aead.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include "core/event/table.h"
#include "core/transport/tls_priv.h"

#define NAME     16u
#define NONCE    12u
#define TAG      16u
#define SECRET   32u
/* Of our own keys: an hour for new tickets, then a day for those that are out. */
#define ROTATE_S 3600
#define KEYS_MAX (HB_TLS_SESSION_TIMEOUT_MAX / ROTATE_S + 1)

struct ticket_key {
	uint8_t name[NAME], secret[SECRET];
};

/* Frozen. The first key seals, all open. */
struct hb_tls_tickets {
	unsigned magic;
#define TICKETS_MAGIC 0x71c4e75a
	unsigned n;
	int64_t made_s; /* of the first key */
	struct ticket_key key[];
};

/* Before the session, in the ticket. */
struct head {
	int64_t since_s;                 /* of the full handshake            */
	uint8_t chain[HB_TLS_CHAIN_KEY]; /* of the peer, when it has one     */
	uint8_t peer;                    /* enum peer                        */
	uint8_t zero[7];
};

enum peer { PEER_NONE, PEER_CHAIN, PEER_UNVERIFIED };

/* Those of the process, which contexts without keys of their own use. */
static struct {
	_Atomic(struct hb_tls_tickets *) keys;
	size_t n_contexts;
} ours;

/* ------------------------------------------------------------------ keys; control thread */

static struct hb_tls_tickets *
tickets_new(unsigned n, int64_t now_s)
{
	struct hb_tls_tickets *k = hb_calloc(1, sizeof *k + n * sizeof k->key[0]);

	k->magic = TICKETS_MAGIC;
	k->n = n;
	k->made_s = now_s;
	return (k);
}

static void
tickets_free(void *arg)
{
	struct hb_tls_tickets *k = arg;

	HB_CHECK(k, TICKETS_MAGIC);
	OPENSSL_cleanse(k->key, k->n * sizeof k->key[0]);
	HB_DEL(k);
}

static void
make_key(struct ticket_key *k)
{
	HB_ASSERT(RAND_bytes(k->name, sizeof k->name) == 1);
	HB_ASSERT(RAND_bytes(k->secret, sizeof k->secret) == 1);
}

void
hb_tls_tickets_rotate(int64_t now_s)
{
	struct hb_tls_tickets *old = atomic_load_explicit(&ours.keys, memory_order_relaxed), *next;

	if (old == NULL || now_s - old->made_s < ROTATE_S)
		return;
	next = tickets_new(HB_MIN(old->n + 1, (unsigned)KEYS_MAX), now_s);
	make_key(&next->key[0]);
	memcpy(&next->key[1], old->key, (next->n - 1) * sizeof old->key[0]);
	atomic_store_explicit(&ours.keys, next, memory_order_release);
	hb_retire(old, tickets_free);
}

void
hb_tls__tickets_start(struct hb_tls_ctx *ctx, const struct hb_str *given, size_t n)
{
	struct hb_tls_tickets *k;
	uint8_t digest[SHA512_DIGEST_LENGTH];

	if (n > 0) {
		ctx->tickets = tickets_new((unsigned)n, 0);
		for (size_t i = 0; i < n; i++) {
			HB_ASSERT(given[i].len == HB_TLS_TICKET_KEY);
			SHA512((const uint8_t *)given[i].p, given[i].len, digest);
			memcpy(ctx->tickets->key[i].name, given[i].p, NAME);
			memcpy(ctx->tickets->key[i].secret, digest, SECRET);
		}
		OPENSSL_cleanse(digest, sizeof digest);
		return;
	}
	ctx->shared_tickets = true;
	if (ours.n_contexts++ > 0)
		return;
	k = tickets_new(1, (int64_t)time(NULL));
	make_key(&k->key[0]);
	atomic_store_explicit(&ours.keys, k, memory_order_release);
}

void
hb_tls__tickets_stop(struct hb_tls_ctx *ctx)
{
	if (ctx->tickets != NULL)
		tickets_free(ctx->tickets);
	ctx->tickets = NULL;
	if (!ctx->shared_tickets || --ours.n_contexts > 0)
		return;
	/* No context, nobody who looks. */
	tickets_free(atomic_exchange_explicit(&ours.keys, NULL, memory_order_relaxed));
}

static const struct hb_tls_tickets *
keys_of(const struct hb_tls_ctx *ctx)
{
	const struct hb_tls_tickets *k = ctx->shared_tickets ?
		atomic_load_explicit(&ours.keys, memory_order_acquire) :
		ctx->tickets;

	HB_CHECK(k, TICKETS_MAGIC);
	return (k);
}

/* ------------------------------------------------------------------ sealing and opening */

static int64_t
wall_s(const struct hb_tls *t)
{
	return (hb_wall_us(t->base.worker) / 1000000);
}

/* What a ticket is bound to besides its key. */
struct bond {
	uint8_t trust[SHA256_DIGEST_LENGTH];
	char cert[64]; /* SHA-256 in hex */
};

static void
bond_of(const struct hb_tls *t, struct bond *b)
{
	memset(b, 0, sizeof *b);
	if (t->ctx->trust != NULL)
		memcpy(b->trust, hb_trust_digest(t->ctx->trust), sizeof b->trust);
	memcpy(b->cert, t->cred->info[0]->sha256, sizeof b->cert);
}

static void
cipher(EVP_AEAD_CTX *aead, const struct ticket_key *k)
{
	HB_ASSERT(
		EVP_AEAD_CTX_init(aead, EVP_aead_aes_256_gcm(), k->secret, SECRET, TAG, NULL) == 1);
}

static size_t
max_overhead(SSL *ssl)
{
	(void)ssl;
	return (NAME + NONCE + sizeof(struct head) + TAG);
}

static int
seal(SSL *ssl, uint8_t *out, size_t *out_len, size_t max_out, const uint8_t *in, size_t in_len)
{
	struct hb_tls *t = hb_tls__of(ssl);
	const struct ticket_key *k = &keys_of(t->ctx)->key[0];
	bool reused = SSL_session_reused(ssl) != 0;
	const struct hb_tls_peer *peer = reused ? t->offered : t->peer;
	uint8_t *body = out + NAME + NONCE;
	struct head head = { .since_s = reused ? t->since_s : wall_s(t) };
	struct bond bond;
	EVP_AEAD_CTX aead;
	size_t n;

	HB_CHECK(&t->base, HB_TRANSPORT_MAGIC);
	HB_ASSERT(max_out >= in_len + max_overhead(ssl));
	if (peer != NULL) {
		head.peer = reused || t->info.peer_verified ? PEER_CHAIN : PEER_UNVERIFIED;
		memcpy(head.chain, peer->key, sizeof head.chain);
	}
	memcpy(out, k->name, NAME);
	HB_ASSERT(RAND_bytes(out + NAME, NONCE) == 1);
	memcpy(body, &head, sizeof head);
	memcpy(body + sizeof head, in, in_len);
	bond_of(t, &bond);
	cipher(&aead, k);
	HB_ASSERT(EVP_AEAD_CTX_seal(&aead, body, &n, max_out - NAME - NONCE, out + NAME, NONCE,
			  body, sizeof head + in_len, (const uint8_t *)&bond, sizeof bond) == 1);
	EVP_AEAD_CTX_cleanup(&aead);
	*out_len = NAME + NONCE + n;
	return (1);
}

static const struct ticket_key *
find_key(const struct hb_tls_tickets *keys, const uint8_t *name)
{
	for (unsigned i = 0; i < keys->n; i++) {
		if (memcmp(keys->key[i].name, name, NAME) == 0)
			return (&keys->key[i]);
	}
	return (NULL);
}

static bool
unseal(const struct hb_tls *t, uint8_t *out, size_t *ret_n, size_t max_out, const uint8_t *in,
	size_t in_len)
{
	const struct ticket_key *k;
	struct bond bond;
	EVP_AEAD_CTX aead;
	bool ok;

	if (in_len < NAME + NONCE + sizeof(struct head) + TAG)
		return (false);
	k = find_key(keys_of(t->ctx), in);
	if (k == NULL)
		return (false);
	bond_of(t, &bond);
	cipher(&aead, k);
	ok = EVP_AEAD_CTX_open(&aead, out, ret_n, max_out, in + NAME, NONCE, in + NAME + NONCE,
		     in_len - NAME - NONCE, (const uint8_t *)&bond, sizeof bond) == 1;
	EVP_AEAD_CTX_cleanup(&aead);
	ERR_clear_error();
	HB_ASSERT(!ok || *ret_n >= sizeof(struct head));
	return (ok);
}

/* Whether the owner of the ticket would be let in today with what it has shown then. */
static bool
holds(struct hb_tls *t, const struct head *h)
{
	int64_t age = wall_s(t) - h->since_s;
	uint8_t unused;

	if (age < 0 || age >= (int64_t)t->ctx->session_timeout_s)
		return (false);
	if (h->peer == PEER_NONE)
		return (!t->ctx->require_peer_cert);
	if (h->peer != PEER_CHAIN)
		return (false);
	t->offered = hb_tls__chain_find(t->base.worker, h->chain, wall_s(t));
	if (t->offered == NULL)
		return (false);
	if (hb_tls__judge_names(t, t->ctx, t->offered, &unused) == HB_CLOSE_NONE)
		return (true);
	/* The full handshake will say so, if it is still true then. */
	hb_free(t->failure);
	t->failure = NULL;
	return (false);
}

static enum ssl_ticket_aead_result_t
open_ticket(
	SSL *ssl, uint8_t *out, size_t *out_len, size_t max_out, const uint8_t *in, size_t in_len)
{
	struct hb_tls *t = hb_tls__of(ssl);
	struct head head;
	size_t n = 0;

	HB_CHECK(&t->base, HB_TRANSPORT_MAGIC);
	hb_tls__peer_unref(&t->offered);
	if (unseal(t, out, &n, max_out, in, in_len)) {
		memcpy(&head, out, sizeof head);
		if (holds(t, &head)) {
			t->since_s = head.since_s;
			*out_len = n - sizeof head;
			memmove(out, out + sizeof head, *out_len);
			return (ssl_ticket_aead_success);
		}
	}
	hb_tls__peer_unref(&t->offered);
	HB_SHOWN_ADD(hb_tls__worker(t->base.worker)->counters[HB_TLS_TICKETS_REFUSED], 1);
	return (ssl_ticket_aead_ignore_ticket);
}

const SSL_TICKET_AEAD_METHOD hb_tls__tickets = {
	.max_overhead = max_overhead,
	.seal = seal,
	.open = open_ticket,
};

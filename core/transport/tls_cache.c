/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chains that have verified, remembered by each worker for itself: no lock, no shared cache line.
 *
 * A chain costs two signature checks and the parsing of every certificate of it; a peer that comes
 * back with the same one pays a SHA-256. The key covers every byte that the answer depends on but the
 * time, which bounds the entry. What proves that the peer owns its certificate (CertificateVerify) is
 * no part of this and always checked. Of a server's handshake it saves a quarter: 120 us and not 163
 * (tls_cost_test prints both; ./dev instructions handshakes counts the cheap one).
 */
#include <openssl/pool.h>
#include <openssl/sha.h>
#include "core/transport/tls_priv.h"
#include "core/transport/transport_priv.h"

static unsigned chains_max = HB_TLS_VERIFIED_CHAINS; /* relaxed: set by the control thread */

void
hb_tls_set_verified_chains(unsigned max)
{
	HB_ASSERT(max <= HB_TLS_VERIFIED_CHAINS_MAX);
	__atomic_store_n(&chains_max, max, __ATOMIC_RELAXED);
}

/* ------------------------------------------------------------------ a worker's own */

static void
drop(struct hb_tls_worker *w, struct hb_tls_peer *p)
{
	HB_ASSERT(hb_map_del(w->chains, hb_strn((const char *)p->key, sizeof p->key)) == p);
	hb_list_del(&p->lru);
	HB_SHOWN_ADD(w->counters[HB_TLS_CHAINS], (uint64_t)-1);
	hb_tls__peer_unref(&p);
}

static void
worker_fini(void *arg)
{
	struct hb_tls_worker *w = arg;

	HB_CHECK(w, HB_TLS_WORKER_MAGIC);
	while (!hb_list_empty(&w->lru))
		drop(w, HB_LIST_ENTRY(w->lru.next, struct hb_tls_peer, lru));
	hb_map_free(&w->chains);
	HB_DEL(w);
}

struct hb_tls_worker *
hb_tls__worker(struct hb_worker *worker)
{
	struct hb_transport_state *s = hb_transport_state(worker);
	struct hb_tls_worker *w = s->tls;

	if (HB_UNLIKELY(w == NULL)) {
		HB_NEW(w, HB_TLS_WORKER_MAGIC);
		w->chains = hb_map_new();
		hb_list_init(&w->lru);
		s->tls_fini = worker_fini;
		HB_SHOWN_PTR_SET(s->tls, w);
	}
	HB_CHECK(w, HB_TLS_WORKER_MAGIC);
	return (w);
}

uint64_t
hb_tls_counter(const struct hb_worker *worker, enum hb_tls_counter i)
{
	const struct hb_transport_state *s = HB_SHOWN_PTR(worker->slot[HB_SLOT_TRANSPORT]);
	const struct hb_tls_worker *w = s == NULL ? NULL : HB_SHOWN_PTR(s->tls);

	HB_ASSERT(i < HB_TLS_COUNTER_MAX);
	return (w == NULL ? 0 : HB_SHOWN(w->counters[i]));
}

/* ------------------------------------------------------------------ peers */

struct hb_tls_peer *
hb_tls__peer_new(CRYPTO_BUFFER *const *chain, size_t n, struct hb_err *reterr)
{
	struct hb_tls_peer *p = hb_calloc(1, sizeof *p + n * sizeof p->chain[0]);

	HB_ASSERT(n > 0);
	p->magic = HB_TLS_PEER_MAGIC;
	p->refs = 1;
	hb_list_init(&p->lru);
	if (hb_cert_info_new(chain[0], &p->info, reterr) != 0) {
		hb_tls__peer_unref(&p);
		return (NULL);
	}
	for (; p->n < n; p->n++) {
		(void)CRYPTO_BUFFER_up_ref(chain[p->n]);
		p->chain[p->n] = chain[p->n];
	}
	return (p);
}

struct hb_tls_peer *
hb_tls__peer_ref(struct hb_tls_peer *p)
{
	HB_CHECK(p, HB_TLS_PEER_MAGIC);
	p->refs++;
	return (p);
}

void
hb_tls__peer_unref(struct hb_tls_peer **pp)
{
	struct hb_tls_peer *p = *pp;

	*pp = NULL;
	if (p == NULL)
		return;
	HB_CHECK(p, HB_TLS_PEER_MAGIC);
	HB_ASSERT(p->refs > 0);
	if (--p->refs > 0)
		return;
	HB_ASSERT(!hb_list_linked(&p->lru));
	while (p->n > 0)
		CRYPTO_BUFFER_free(p->chain[--p->n]);
	hb_cert_info_free(&p->info);
	HB_DEL(p);
}

/* ------------------------------------------------------------------ chains */

void
hb_tls__chain_key(const struct hb_trust *trust, enum hb_purpose purpose,
	CRYPTO_BUFFER *const *chain, size_t n, uint8_t ret[HB_TLS_CHAIN_KEY])
{
	uint8_t head[8] = { (uint8_t)purpose };
	SHA256_CTX sha;
	size_t i, len;

	_Static_assert(HB_TLS_CHAIN_KEY == SHA256_DIGEST_LENGTH, "a key is a digest");
	SHA256_Init(&sha);
	SHA256_Update(&sha, hb_trust_digest(trust), SHA256_DIGEST_LENGTH);
	SHA256_Update(&sha, head, sizeof head);
	for (i = 0; i < n; i++) {
		len = CRYPTO_BUFFER_len(chain[i]);
		SHA256_Update(&sha, &len, sizeof len);
		SHA256_Update(&sha, CRYPTO_BUFFER_data(chain[i]), len);
	}
	SHA256_Final(ret, &sha);
}

struct hb_tls_peer *
hb_tls__chain_find(struct hb_worker *worker, const uint8_t key[HB_TLS_CHAIN_KEY], int64_t now_s)
{
	struct hb_tls_worker *w = hb_tls__worker(worker);
	struct hb_tls_peer *p = hb_map_get(w->chains, hb_strn((const char *)key, HB_TLS_CHAIN_KEY));

	if (p != NULL && (now_s < p->from_s || now_s >= p->until_s)) {
		drop(w, p);
		p = NULL;
	}
	if (p == NULL) {
		HB_SHOWN_ADD(w->counters[HB_TLS_CHAIN_MISSES], 1);
		return (NULL);
	}
	HB_SHOWN_ADD(w->counters[HB_TLS_CHAIN_HITS], 1);
	hb_list_del(&p->lru);
	hb_list_add_head(&w->lru, &p->lru);
	return (hb_tls__peer_ref(p));
}

void
hb_tls__chain_keep(struct hb_worker *worker, const uint8_t key[HB_TLS_CHAIN_KEY],
	struct hb_tls_peer *p, const struct hb_verdict *v)
{
	struct hb_tls_worker *w = hb_tls__worker(worker);
	unsigned max = __atomic_load_n(&chains_max, __ATOMIC_RELAXED);

	HB_ASSERT(v->error == 0 && !hb_list_linked(&p->lru));
	while (hb_map_count(w->chains) > 0 && hb_map_count(w->chains) >= max) {
		drop(w, HB_LIST_ENTRY(w->lru.prev, struct hb_tls_peer, lru));
		HB_SHOWN_ADD(w->counters[HB_TLS_CHAINS_EVICTED], 1);
	}
	if (max == 0)
		return;
	memcpy(p->key, key, sizeof p->key);
	p->from_s = v->from_s;
	p->until_s = v->until_s;
	HB_ASSERT(hb_map_put(w->chains, hb_strn((const char *)key, HB_TLS_CHAIN_KEY), p) == NULL);
	hb_list_add_head(&w->lru, &hb_tls__peer_ref(p)->lru);
	HB_SHOWN_ADD(w->counters[HB_TLS_CHAINS], 1);
}

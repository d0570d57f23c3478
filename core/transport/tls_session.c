/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions that a client may resume: each worker keeps its own for each context, by the address of the
 * peer and the server name. A session is used once (RFC 8446 appendix C.4). A context that is replaced
 * (other certificate, trust, rules) takes its sessions with it.
 */
#include <openssl/pool.h>
#include <sys/socket.h>
#include "core/transport/tcp.h"
#include "core/transport/tls_priv.h"

#define EACH_MAX 2u /* sessions for one key */

struct kept {
	struct hb_list lru;
	char *key;
	size_t key_len;
	unsigned n;
	SSL_SESSION *session[EACH_MAX]; /* the newest last */
};

/* Of one worker and context. */
struct hb_tls_sessions {
	unsigned magic;
#define SESSIONS_MAGIC 0x5e5510f5
	struct hb_map *map; /* key -> struct kept, which it owns */
	struct hb_list lru; /* newest first */
};

static void
kept_free(struct hb_tls_sessions *s, struct kept *k)
{
	HB_ASSERT(hb_map_del(s->map, hb_strn(k->key, k->key_len)) == k);
	hb_list_del(&k->lru);
	while (k->n > 0)
		SSL_SESSION_free(k->session[--k->n]);
	hb_free(k->key);
	hb_free(k);
}

void
hb_tls__sessions_free(struct hb_tls_sessions **ps)
{
	struct hb_tls_sessions *s = *ps;

	*ps = NULL;
	if (s == NULL)
		return;
	HB_CHECK(s, SESSIONS_MAGIC);
	while (!hb_list_empty(&s->lru))
		kept_free(s, HB_LIST_ENTRY(s->lru.next, struct kept, lru));
	hb_map_free(&s->map);
	HB_DEL(s);
}

/* NULL = nothing is kept. */
static struct hb_tls_sessions **
place(const struct hb_tls *t)
{
	return (t->ctx->max_sessions == 0 ? NULL : &hb_tls__mine(t)->sessions);
}

/*
 * Who is meant to be at the other end: the address of the outermost connection's peer and the server
 * name. Servers inside the tunnels of one gateway are told apart by their names only: without them they
 * share a key, and one that gets another's ticket refuses it. Behind an in-process pair there is no
 * address. False = it is not known.
 */
static bool
key_of(const struct hb_tls *t, struct hb_text *ret)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	struct hb_transport *lower = t->lower, *next;

	while (lower != NULL && lower->ops->inner != NULL &&
		(next = lower->ops->inner(lower)) != NULL)
		lower = next;
	if (lower != NULL && strcmp(lower->ops->name, "tcp") == 0 && !lower->dead &&
		getpeername(hb_tcp_fd(lower), (struct sockaddr *)&ss, &len) == 0)
		hb_text_add(ret, &ss, HB_MIN((size_t)len, sizeof ss));
	else if (t->sni == NULL)
		return (false);
	if (t->sni != NULL)
		hb_text_addz(ret, t->sni);
	return (ret->len > 0);
}

/* ------------------------------------------------------------------ keeping */

static struct kept *
kept_for(struct hb_tls_sessions *s, struct hb_text *key, size_t max)
{
	struct kept *k = hb_map_get(s->map, hb_strn(key->p, key->len));

	if (k != NULL) {
		hb_list_del(&k->lru);
		hb_list_add_head(&s->lru, &k->lru);
		return (k);
	}
	while (hb_map_count(s->map) >= max)
		kept_free(s, HB_LIST_ENTRY(s->lru.prev, struct kept, lru));
	k = hb_calloc(1, sizeof *k);
	k->key_len = key->len;
	k->key = hb_text_take(key);
	hb_list_add_head(&s->lru, &k->lru);
	HB_ASSERT(hb_map_put(s->map, hb_strn(k->key, k->key_len), k) == NULL);
	return (k);
}

bool
hb_tls__session_keep(struct hb_tls *t, SSL_SESSION *session)
{
	struct hb_tls_sessions **ps = place(t), *s;
	struct hb_text key = { 0 };
	struct kept *k;

	if (ps == NULL || SSL_SESSION_get_protocol_version(session) != TLS1_3_VERSION ||
		(t->ctx->trust != NULL && !t->info.peer_verified) || !key_of(t, &key)) {
		hb_text_fini(&key);
		return (false);
	}
	if (*ps == NULL) {
		HB_NEW(*ps, SESSIONS_MAGIC);
		(*ps)->map = hb_map_new();
		hb_list_init(&(*ps)->lru);
	}
	s = *ps;
	HB_CHECK(s, SESSIONS_MAGIC);
	k = kept_for(s, &key, t->ctx->max_sessions);
	hb_text_fini(&key);
	if (k->n == EACH_MAX) {
		SSL_SESSION_free(k->session[0]);
		memmove(&k->session[0], &k->session[1], sizeof k->session - sizeof k->session[0]);
		k->n--;
	}
	k->session[k->n++] = session;
	return (true);
}

/* ------------------------------------------------------------------ using */

static SSL_SESSION *
take(struct hb_tls_sessions *s, const struct hb_text *key)
{
	struct kept *k = hb_map_get(s->map, hb_strn(key->p, key->len));
	SSL_SESSION *session;

	if (k == NULL)
		return (NULL);
	session = k->session[--k->n];
	if (k->n == 0)
		kept_free(s, k);
	return (session);
}

void
hb_tls__session_offer(struct hb_tls *t)
{
	struct hb_tls_sessions **ps = place(t);
	struct hb_text key = { 0 };
	SSL_SESSION *session = NULL;

	if (ps != NULL && *ps != NULL && key_of(t, &key)) {
		HB_CHECK(*ps, SESSIONS_MAGIC);
		session = take(*ps, &key);
	}
	hb_text_fini(&key);
	if (session == NULL)
		return;
	/* A server that would no longer be let in is asked for its certificate anew. */
	if (hb_tls__would_admit(t, SSL_SESSION_get0_peer_certificates(session)))
		HB_ASSERT(SSL_set_session(t->ssl, session) == 1);
	SSL_SESSION_free(session);
}

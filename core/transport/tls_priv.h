/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/transport/tls_priv.h: what the files of TLS share: tls.c (the transport), tls_bio.c, tls_ctx.c (the
 * configuration), tls_verify.c (who may come in), tls_cache.c (chains that have verified), tls_ticket.c
 * and tls_session.c (resumption by a server, by a client).
 */
#ifndef HB_CORE_TRANSPORT_TLS_PRIV_H
#define HB_CORE_TRANSPORT_TLS_PRIV_H

#include <openssl/ssl.h>
#include "core/identity/cert.h"
#include "core/transport/tls.h"
#include "core/transport/tls_record_priv.h"

struct hb_tls_ctx {
	unsigned magic;
#define HB_TLS_CTX_MAGIC 0x7e11c0de
	SSL_CTX                *ssl_ctx;
	bool                    server;
	struct hb_credential  **creds;   /* owned                                             */
	size_t                  n_creds;
	struct hb_trust        *trust;   /* owned; NULL = peers are not verified              */
	const struct hb_cert_info **certs; /* all of creds, flat, for hb_tls_ctx_certs        */
	size_t                  n_certs;
	struct hb_tls_san_match *sans;   /* owned array                                       */
	size_t                  n_sans;
	uint8_t               (*cert_hashes)[32], (*spki_hashes)[32];
	size_t                  n_cert_hashes, n_spki_hashes;
	uint8_t                *alpn;    /* wire form, in order of preference                 */
	size_t                  alpn_len;
	char                   *sni;
	bool                    accept_untrusted, require_sni, bare_fin_is_end, sni_is_identity;
	bool                    require_peer_cert;
	bool                    shared_tickets; /* the keys of the process are used           */
	struct hb_tls_tickets  *tickets; /* owned; keys that were given, NULL = none          */
	uint32_t                session_timeout_s, max_sessions;
	uint64_t                handshake_timeout_ms;
	const struct hb_rules  *rules;   /* NULL = none                                       */
	struct hb_tls_users    *users;   /* n_users of them                                   */
	unsigned                n_users;
};

/* Of one worker, the last one of the control thread, each on a cache line of its own. */
struct hb_tls_users {
	_Alignas(64) _Atomic size_t n;     /* transports                                      */
	struct hb_tls_sessions *sessions;  /* owned; NULL = none yet                          */
};

/*
 * Records that are encrypted before they are written, at most. 1 = one system call writes one record,
 * and reading takes its header, then the rest of it: the pattern of others, for comparison. The
 * symbol is weak: test/bench/per_record.c has another value. 66 fill the scratch memory.
 */
extern const unsigned hb_tls_batch_records;

#define HB_TLS_CHAIN_MAX 32u /* certificates that a peer may send */
#define HB_TLS_CHAIN_KEY 32u

/* What a peer has shown; of one worker, and one for all its connections while it is remembered. */
struct hb_tls_peer {
	unsigned magic;
#define HB_TLS_PEER_MAGIC 0x1d9a70b4
	unsigned             refs;
	struct hb_list       lru;            /* linked = remembered                           */
	uint8_t              key[HB_TLS_CHAIN_KEY];
	int64_t              from_s, until_s; /* while it is good                             */
	struct hb_cert_info *info;           /* owned; of the leaf                            */
	size_t               n;
	CRYPTO_BUFFER       *chain[];        /* leaf first                                    */
};

/* Of one worker. */
struct hb_tls_worker {
	unsigned magic;
#define HB_TLS_WORKER_MAGIC 0x3b52e6c8
	struct hb_map *chains;               /* key -> struct hb_tls_peer, which it owns      */
	struct hb_list lru;                  /* of the same, newest first                     */
	uint64_t       counters[HB_TLS_COUNTER_MAX];
};

struct hb_tls_early {
	struct hb_timer timer; /* of the handshake                                           */
	struct hb_buf   buf;   /* plaintext that was written before it was done, or while records are
	                        * being written                                              */
	struct hb_tls  *tls;   /* borrowed: its owner                                        */
};

struct hb_tls {
	struct hb_transport      base;
	struct hb_transport     *lower;  /* owned; NULL = gone                                */
	const struct hb_tls_ctx *ctx;    /* outlives us                                       */
	SSL                     *ssl;
	struct hb_tls_early     *early;  /* owned; until the handshake is done, and rarely later; NULL = none */
	struct hb_buf            in;     /* ciphertext to decrypt; owned between events only
	                                  * while reading is disabled                         */
	struct hb_buf            out;    /* ciphertext that found no scratch memory           */
	uint8_t                 *enc;    /* scratch that records are written to; NULL = none  */
	uint32_t                 enc_len;
	uint8_t                  tickets;     /* received                                     */
	uint8_t                  lower_reason; /* of a lower transport that is gone           */
	bool started, secured;           /* handshake begun, done                             */
	bool accepted;                   /* a server has accepted the lower transport         */
	bool paused;                     /* one of the lower transport's read_disabled is ours */
	bool lower_ended;                /* it delivered its end                              */
	bool got_close;                  /* close_notify was received                         */
	bool got_data;                   /* an application record was received                */
	bool encrypting;                 /* a write is on the stack                           */
	bool end_sent;                   /* close_notify was written                          */
	bool bad_name;                   /* a client's server name that cannot be sent        */
	uint64_t                 trust_id; /* with which the peer was last verified; 0 = none   */
	uint8_t                  verdict; /* enum hb_close_reason that verification decided   */
	const struct hb_credential *cred; /* ours, of ctx; NULL = none                        */
	struct hb_tls_peer      *peer;   /* NULL = it showed no certificate                   */
	struct hb_tls_peer      *offered; /* of the session that a client wants to resume     */
	int64_t                  since_s; /* of that session: when its peer proved itself     */
	char                    *sni;
	char                    *failure;
	struct hb_tls_info       info;
};

/* Notes the first failure's text; later ones do not replace it. */
void hb_tls__failure(struct hb_tls *, const char *fmt, ...) HB_PRINTF(2, 3);

/* ------------------------------------------------------------------ tls_verify.c */

enum ssl_verify_result_t hb_tls__verify(SSL *, uint8_t *ret_alert);

/* Pins, names and rules of ctx; the reason is noted, *ret_alert fits it. */
enum hb_close_reason hb_tls__judge_names(struct hb_tls *, const struct hb_tls_ctx *,
    const struct hb_tls_peer *, uint8_t *ret_alert);

/* A client would let in the server with this chain; only a chain that is remembered. */
bool hb_tls__would_admit(struct hb_tls *, const STACK_OF(CRYPTO_BUFFER) *);

/* The handshake has resumed the session that was offered: its peer is in. */
void hb_tls__resumed(struct hb_tls *);

/* See hb_tls_recheck. */
bool hb_tls__recheck(struct hb_tls *, const struct hb_tls_ctx *now);

/* ------------------------------------------------------------------ tls_cache.c */

/* Made on first use. */
struct hb_tls_worker *hb_tls__worker(struct hb_worker *);

/* NULL: reterr says what is wrong with the leaf. */
struct hb_tls_peer *hb_tls__peer_new(CRYPTO_BUFFER *const *chain, size_t n, struct hb_err *reterr);
struct hb_tls_peer *hb_tls__peer_ref(struct hb_tls_peer *);
void hb_tls__peer_unref(struct hb_tls_peer **);

/* SHA-256 over trust (anchors, lists, options), purpose and chain. */
void hb_tls__chain_key(const struct hb_trust *, enum hb_purpose, CRYPTO_BUFFER *const *chain,
    size_t n, uint8_t ret[HB_TLS_CHAIN_KEY]);
/* One more reference for the caller; NULL = not remembered, or no longer good. */
struct hb_tls_peer *hb_tls__chain_find(struct hb_worker *, const uint8_t key[HB_TLS_CHAIN_KEY],
    int64_t now_s);
/* Remembers a peer whose chain has verified. */
void hb_tls__chain_keep(struct hb_worker *, const uint8_t key[HB_TLS_CHAIN_KEY],
    struct hb_tls_peer *, const struct hb_verdict *);

/* ------------------------------------------------------------------ tls_ticket.c */

/* With these keys (none: with those of the process). Control thread. */
void hb_tls__tickets_start(struct hb_tls_ctx *, const struct hb_str *given, size_t n);
void hb_tls__tickets_stop(struct hb_tls_ctx *);
extern const SSL_TICKET_AEAD_METHOD hb_tls__tickets;

/* ------------------------------------------------------------------ tls_session.c */

/* Keeps a client's session, or false. */
bool hb_tls__session_keep(struct hb_tls *, SSL_SESSION *);
/* Offers the newest session that is kept for this peer, if it would be let in. */
void hb_tls__session_offer(struct hb_tls *);
void hb_tls__sessions_free(struct hb_tls_sessions **);

/* ------------------------------------------------------------------ the connection */

/* What t->ctx has for this worker. */
struct hb_tls_users *hb_tls__mine(const struct hb_tls *);

/* One transport more or less of t->ctx. */
void hb_tls__use(const struct hb_tls *, bool on);

/* The BIO of this connection, for both directions; owned by the SSL that it is given to. */
BIO *hb_tls__bio(struct hb_tls *);
/* Whose SSL that is. */
struct hb_tls *hb_tls__of(const SSL *);

/* An SSL of this context for this connection; never NULL. */
SSL *hb_tls__ssl(struct hb_tls *);

#endif

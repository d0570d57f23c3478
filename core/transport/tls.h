/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/transport/tls.h: TLS (BoringSSL) over any transport, both sides.
 *
 * A struct hb_tls_ctx is a frozen configuration (certificates, trust, ALPN, versions), made on the
 * control thread, shared by workers, freed through hb_retire. hb_tls_new wraps a connected (or
 * connecting) transport. Reads and writes are batched: everything that the lower transport
 * delivered is decrypted at once, where it lies, writes are encrypted up to 66 records at a time
 * into worker scratch memory and handed down in one slice; an idle connection owns no buffer
 * (handshake state is shed). One system call for each record instead costs 2.5 to 3.5 times the CPU
 * (row H1d of docs/performance.md; test/core/calls_test.c counts the calls).
 *
 * close_notify <-> end, see the truth table of core/transport/transport.h.
 */
#ifndef HB_CORE_TRANSPORT_TLS_H
#define HB_CORE_TRANSPORT_TLS_H

#include "core/identity/cert.h"
#include "core/identity/rules.h"
#include "core/transport/transport.h"

struct hb_tls_ctx;

enum hb_tls_version { HB_TLS_AUTO, HB_TLS_1_0, HB_TLS_1_1, HB_TLS_1_2, HB_TLS_1_3 };

#define HB_TLS_TICKET_KEY          80u
#define HB_TLS_SESSION_TIMEOUT     7200u
#define HB_TLS_SESSION_TIMEOUT_MAX 86400u

struct hb_tls_cert { /* PEM texts, copied */
	struct hb_str chain, key, password;
	const char   *chain_file, *key_file; /* for messages and /certs; NULL = inline */
};

/* One accepted subject alternative name; the list is any-of, empty = any. `match` is asked with
 * each SAN of `type`. */
struct hb_tls_san_match {
	enum hb_san_type type;
	bool (*match)(const void *arg, struct hb_str value);
	const void *arg; /* frozen, outlives the context */
};

struct hb_tls_config {
	bool server;
	enum hb_tls_version min, max;            /* AUTO: 1.2 … 1.3                           */
	const struct hb_tls_cert *certs;
	size_t n_certs;                          /* a server needs one at least               */
	struct hb_credential *const *credentials; /* the same, made already: the context becomes
	                                          * one more owner; then certs is not looked at */
	size_t n_credentials;
	const char *const *alpn;
	size_t n_alpn;                           /* in order of preference                    */
	struct hb_str trust_pem;                 /* empty = the peer is not verified          */
	struct hb_str crl_pem;                   /* PEM or DER                                */
	struct hb_trust *trust;                  /* the same, made already: the context becomes
	                                          * one more owner; what belongs to trust_pem and
	                                          * crl_pem, and max_verify_depth, is not looked at */
	const char *trust_file, *crl_file;       /* for messages; NULL = inline               */
	bool crl_leaf_only, allow_expired, accept_untrusted;
	bool require_peer_cert;                  /* server: refuse a client without one       */
	bool require_sni;                        /* server                                    */
	unsigned max_verify_depth;               /* above the leaf, anchor too; 0 = 100       */
	const struct hb_tls_san_match *sans;
	size_t n_sans;
	const struct hb_rules *rules;            /* which SPIFFE identities a peer may have, after
	                                          * `sans`; NULL = all. Outlives the context  */
	const struct hb_str *cert_hashes, *spki_hashes; /* raw 32 bytes each; any-of          */
	size_t n_cert_hashes, n_spki_hashes;
	const char *cipher_list;                 /* TLS 1.2, OpenSSL notation; NULL = default */
	const char *groups;                      /* NULL = X25519:P-256                       */
	const char *sni;                         /* client: NULL = none sent                  */
	bool sni_is_identity;                    /* client: when a server name was sent, a DNS
	                                          * name of the server must cover it; then `sans`
	                                          * is not asked                              */
	bool bare_fin_is_end;                    /* accept a missing close_notify as an end   */
	bool no_tickets;                         /* server: nothing is resumed                */
	const struct hb_str *ticket_keys;        /* server: HB_TLS_TICKET_KEY bytes each, the
	                                          * first one seals; none = those of the process,
	                                          * see hb_tls_tickets_rotate                 */
	size_t n_ticket_keys;
	uint32_t session_timeout_s;              /* server: from the full handshake on; 0 =
	                                          * HB_TLS_SESSION_TIMEOUT, and at most
	                                          * HB_TLS_SESSION_TIMEOUT_MAX                */
	uint32_t max_sessions;                   /* client: peers whose sessions each worker
	                                          * keeps; 0 = nothing is resumed             */
	uint64_t handshake_timeout_ms;           /* 0 = 15000                                 */
};

/* All errors name what is wrong with which PEM (file names when given). */
struct hb_tls_ctx *hb_tls_ctx_new(const struct hb_tls_config *, struct hb_err *reterr);
void hb_tls_ctx_free(struct hb_tls_ctx **);
/* For /certs and expiry counters: leaf (and chain) and trust anchors; borrowed. */
size_t hb_tls_ctx_certs(const struct hb_tls_ctx *, const struct hb_cert_info *const **ret);
size_t hb_tls_ctx_trust(const struct hb_tls_ctx *, const struct hb_cert_info *const **ret);

/* TLS transports of this context that are not freed yet, of all workers. Any thread; exact once no
 * worker can find the context any more. */
size_t hb_tls_ctx_users(const struct hb_tls_ctx *);

/*
 * Wraps `lower` (taken; the TLS transport becomes its sink). Server or client as the context says.
 * `sni` overrides the configured name of a client (NULL = keep). The context must outlive the
 * transport: pin it through the chain or cluster, or free it when hb_tls_ctx_users says 0. on_connected comes when the lower transport is
 * connected, on_secured when the handshake and verification are done; failures are on_closed with
 * TLS_… reasons, after the alert was sent.
 */
struct hb_transport *hb_tls_new(struct hb_transport *lower, const struct hb_tls_ctx *,
    const char *sni);

/*
 * Whether the peer of this transport would be let in by `now`, the context that has replaced the
 * transport's own: trust, pins, names, rules, whether it has to show a certificate (one that
 * hb_tls_new has not made shows none). Cheap when the trust is the same or was asked before. False:
 * the failure of a transport of hb_tls_new says why.
 */
bool hb_tls_recheck(struct hb_transport *, const struct hb_tls_ctx *now);
/* Ends one for which that is false, from outside of it: a reset below, on_closed(reason) for its
 * sink. From the run queue. */
void hb_tls_end(struct hb_transport *, enum hb_close_reason);

/* Control thread, now and then (seconds since 1970): every hour tickets get a new key. Old ones open
 * what is out for another day. */
void hb_tls_tickets_rotate(int64_t now_s);

/* What a TLS transport knows after on_secured; borrowed until it is gone. */
struct hb_tls_info {
	const char *version;       /* "TLSv1.3"                                               */
	const char *cipher;        /* "TLS_AES_128_GCM_SHA256"                                */
	struct hb_str alpn;        /* chosen protocol; empty = none                           */
	struct hb_str sni;         /* server name sent or received; lower case                */
	bool resumed;              /* the peer proved itself in an earlier handshake          */
	const struct hb_cert_info *peer; /* NULL = the peer sent no certificate               */
	const struct hb_cert_info *local; /* the certificate we used; NULL = none             */
	bool peer_verified;        /* peer is of a chain that our trust verifies              */
	bool chain_cached;         /* its chain was known, see hb_tls_set_verified_chains     */
	const char *failure;       /* last handshake error for logs ("certificate expired"); NULL = none */
};

/* ------------------------------------------------------------------ what workers remember */

/*
 * Chains whose verification each worker remembers (the oldest give way), until the first of their
 * certificates or revocation lists ends or the trust changes; 0 = none. Control thread; holds
 * for the chains that come.
 */
#define HB_TLS_VERIFIED_CHAINS     1024u /* default */
#define HB_TLS_VERIFIED_CHAINS_MAX 100000u
void hb_tls_set_verified_chains(unsigned max);

enum hb_tls_counter {
	HB_TLS_CHAINS,         /* remembered now                                              */
	HB_TLS_CHAIN_HITS,
	HB_TLS_CHAIN_MISSES,
	HB_TLS_CHAINS_EVICTED, /* for lack of room                                            */
	HB_TLS_RESUMED,        /* handshakes, of both sides                                   */
	HB_TLS_TICKETS_REFUSED, /* a full handshake followed                                  */
	HB_TLS_COUNTER_MAX
};
/* Of one worker; any thread. */
uint64_t hb_tls_counter(const struct hb_worker *, enum hb_tls_counter);

#endif

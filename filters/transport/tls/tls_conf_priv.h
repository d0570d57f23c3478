/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filters/transport/tls/tls_conf_priv.h: from the messages of
 * envoy.extensions.transport_sockets.tls.v3 to a TLS context, and to its successors when files of it
 * change.
 *
 * A struct hb_tls_conf is everything that a context is made of. Its context is replaced as a whole;
 * workers take the current one for each new connection, and a connection keeps the one it began
 * with. Replaced contexts are freed when their last connection is gone. All but hb_tls_conf_ctx and
 * hb_tls_conf_generation belongs to the control thread.
 */
#ifndef HB_FILTERS_TRANSPORT_TLS_TLS_CONF_PRIV_H
#define HB_FILTERS_TRANSPORT_TLS_TLS_CONF_PRIV_H

#include <stdatomic.h>
#include "core/config/config.h"
#include "core/identity/cert.h"
#include "core/identity/reload.h"
#include "core/identity/rules.h"
#include "core/match/match.h"
#include "core/transport/tls.h"

/* A condition on subject alternative names. */
struct hb_tls_name {
	struct hb_string_matcher *matcher; /* owned                                              */
	char                     *exact;   /* owned; of an exact condition, for DNS wildcards    */
};

struct hb_tls_conf;

/* Where bytes come from: a file, or the configuration (environment) once. */
struct hb_tls_source {
	struct hb_file_user user; /* of a file                                          */
	struct hb_tls_conf *conf;
	char               *file; /* owned; NULL = not a file                           */
	struct hb_blob     *good; /* owned; NULL = no such source, or no longer needed  */
};

struct hb_tls_pair {
	struct hb_tls_source  chain, key, password;
	struct hb_credential *good;     /* owned                                        */
	uint8_t               seen[32]; /* digest of what was looked at last            */
};

struct hb_tls_conf {
	unsigned magic;
#define HB_TLS_CONF_MAGIC 0x2d8f61b3
	unsigned refs; /* the owner, and each context that lives          */
	_Atomic(struct hb_tls_ctx *) ctx;
	_Atomic uint64_t generation;
	struct hb_list   dirty; /* in the queue of those whose files changed       */
	bool             auto_host_sni;
	bool             cert_optional; /* a server's require_client_certificate is false, in words */
	/* What a context is made of; tls points into the rest. */
	struct hb_tls_config     tls;
	struct hb_tls_pair      *pairs; /* n_pairs                                         */
	size_t                   n_pairs;
	struct hb_credential   **creds; /* the pairs' good ones, for tls                   */
	struct hb_tls_source     ca, crl;
	uint8_t                  ca_seen[32], crl_seen[32];
	struct hb_tls_source    *tickets; /* n_tickets; keys of session tickets            */
	size_t                   n_tickets;
	struct hb_str           *ticket_keys;   /* bytes of the same, for tls              */
	uint8_t                  tickets_seen[32];
	struct hb_trust         *trust; /* owned; NULL = peers are not verified            */
	struct hb_rules         *rules; /* owned; NULL = none                              */
	size_t                   n_names;
	struct hb_tls_name      *names;
	struct hb_tls_san_match *sans;
	struct hb_str           *hashes;        /* certificates, then public keys          */
	uint8_t                (*digests)[32];  /* what hashes point to                    */
	char                   **alpn, *ciphers, *groups, *sni;
};

/* NULL after reporting every error. */
struct hb_tls_conf *hb_tls_conf_downstream(struct hb_cfg *, const void *msg);
struct hb_tls_conf *hb_tls_conf_upstream(struct hb_cfg *, const void *msg);
/* Control thread, before anybody uses its context: only our own trust domain and namespace may come
 * in. -EINVAL after hb_cfg_error at the owner's transport_socket. */
int hb_tls_conf_default_rules(struct hb_tls_conf *, struct hb_cfg *, const void *owner_msg);
/* What tls has of the ticket keys follows the sources. */
void hb_tls_conf_ticket_keys(struct hb_tls_conf *);
/* The owner lets go; connections may still use its contexts. */
void hb_tls_conf_free(struct hb_tls_conf **);

/* The context for a new connection; any worker, until its turn ends or a transport uses it. */
static inline struct hb_tls_ctx *
hb_tls_conf_ctx(const struct hb_tls_conf *c)
{
	return (atomic_load_explicit(&c->ctx, memory_order_acquire));
}

/* ------------------------------------------------------------------ tls_stats.c */

/* The statistics tls.* are there; more than once is once. Control thread. */
void hb_tls_stats_start(void);
void hb_tls_stats_stop(void);

/* ------------------------------------------------------------------ tls_reload.c */

/* Counts a live connection whose peer is no longer trusted. On its worker. */
void hb_tls_reload_revoked(struct hb_worker *);

/* Begins to watch the files of a conf that is complete. */
void hb_tls_reload_start(struct hb_tls_conf *);
void hb_tls_reload_stop(struct hb_tls_conf *);
/* Nobody finds this context of the conf any more: frees it once nobody uses it, and drops one
 * reference of the conf. */
void hb_tls_reload_drop(struct hb_tls_conf *, struct hb_tls_ctx *);
void hb_tls_conf_unref(struct hb_tls_conf *);
/* Trust of a conf with other texts. */
struct hb_trust_options hb_tls_reload_trust_options(const struct hb_tls_conf *, struct hb_str ca,
    struct hb_str crl);
/* Digest of these texts, for `seen`. */
void hb_tls_reload_digest(const struct hb_str *v, size_t n, uint8_t ret[32]);

#endif

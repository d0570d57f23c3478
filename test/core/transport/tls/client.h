/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/core/transport/tls/client.h: a client that is the library alone, without sockets, towards a
 * server of ours over a pair: it shows what certificate, key and session the test likes.
 */
#ifndef HB_TEST_TLS_CLIENT_H
#define HB_TEST_TLS_CLIENT_H

#include <openssl/ssl.h>
#include "test/support/certs/pki.h"
#include "test/support/harness.h"

struct hbt_tls_client {
	SSL            *ssl;       /* owned                                                      */
	BIO            *in, *out;  /* of ssl                                                     */
	struct hbt_sink below;     /* the client's end of the pair                               */
	struct hbt_sink server;    /* the sink of the TLS transport                              */
	struct hb_transport *tls;  /* the server; owned by its sink                              */
	const struct hb_tls_info *info; /* of the same; NULL once it has closed                  */
	char            failure[256]; /* of the server                                           */
	bool            chain_cached; /* the server knew the client's chain                      */
	int64_t         cpu_ns;    /* of the client's own work                                   */
};

/* A client context that shows this certificate (NULL = none) and believes everybody; owned. What
 * servers give goes into *ret_session (the newest one, owned), unless that is NULL. */
SSL_CTX *hbt_tls_client_ctx(const struct hb_test_cert *, SSL_SESSION **ret_session);

/* The handshake until both sides are secured, or the server has refused; then tickets are read. The
 * client is zeroed before; `session` NULL = none is offered. True = secured. */
bool hbt_tls_client_connect(struct hbt_tls_client *, SSL_CTX *, const struct hb_tls_ctx *server,
    SSL_SESSION *session);
/* Reads what the server has written, and answers. */
void hbt_tls_client_turn(struct hbt_tls_client *);
void hbt_tls_client_fini(struct hbt_tls_client *);

int64_t hbt_cpu_ns(void);

#endif

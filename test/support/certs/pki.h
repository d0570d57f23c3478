/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/support/certs/pki.h: a small mesh: a root, a second root of the same name that nobody
 * trusts, a server, a client, and TLS contexts of both (mutual TLS, ALPN h2).
 */
#ifndef HB_TEST_SUPPORT_PKI_H
#define HB_TEST_SUPPORT_PKI_H

#include "core/transport/tls.h"
#include "test/support/certs/certs.h"

#define HBT_SERVER_ID  "spiffe://cluster.local/ns/default/sa/server"
#define HBT_CLIENT_ID  "spiffe://cluster.local/ns/default/sa/client"
#define HBT_SERVER_DNS "server.example"

struct hbt_pki {
	struct hb_test_cert *root, *other, *server, *client;
	struct hb_tls_ctx   *server_ctx, *client_ctx;
};

void hbt_pki_init(struct hbt_pki *);
void hbt_pki_fini(struct hbt_pki *);
/* The certificate as a part of a configuration; texts are borrowed. */
struct hb_tls_cert hbt_tls_cert(const struct hb_test_cert *);
/* Of a server that demands a client's certificate; *ret_cert is a part of it, with borrowed texts. */
struct hb_tls_config hbt_tls_server_config(const struct hbt_pki *, struct hb_tls_cert *ret_cert);
/* A context; panics with the error's text. */
struct hb_tls_ctx *hbt_tls_ctx(const struct hb_tls_config *);

#endif

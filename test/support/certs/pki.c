/* SPDX-License-Identifier: Apache-2.0 */
#include "test/support/certs/pki.h"

struct hb_tls_cert
hbt_tls_cert(const struct hb_test_cert *c)
{
	return ((struct hb_tls_cert){ .chain = hb_str(c->chain_pem), .key = hb_str(c->key_pem) });
}

struct hb_tls_ctx *
hbt_tls_ctx(const struct hb_tls_config *c)
{
	struct hb_err err;
	struct hb_tls_ctx *ctx = hb_tls_ctx_new(c, &err);

	if (ctx == NULL)
		HB_WRONG(err.text);
	return (ctx);
}

struct hb_tls_config
hbt_tls_server_config(const struct hbt_pki *p, struct hb_tls_cert *cert)
{
	*cert = hbt_tls_cert(p->server);
	return ((struct hb_tls_config){ .server = true,
		.require_peer_cert = true,
		.certs = cert,
		.n_certs = 1,
		.trust_pem = hb_str(p->root->pem) });
}

void
hbt_pki_init(struct hbt_pki *p)
{
	static const char *const alpn[] = { "h2" };
	struct hb_tls_config c = { .n_certs = 1, .alpn = alpn, .n_alpn = 1 };
	struct hb_tls_cert cert;

	p->root = hb_test_root("cluster.local");
	p->other = hb_test_root("cluster.local");
	p->server = hb_test_leaf(p->root, "URI:" HBT_SERVER_ID ",DNS:" HBT_SERVER_DNS);
	p->client = hb_test_leaf(p->root, "URI:" HBT_CLIENT_ID);
	c.trust_pem = hb_str(p->root->pem);
	c.certs = &cert;
	cert = hbt_tls_cert(p->client);
	p->client_ctx = hbt_tls_ctx(&c);
	c = hbt_tls_server_config(p, &cert);
	c.alpn = alpn;
	c.n_alpn = 1;
	p->server_ctx = hbt_tls_ctx(&c);
}

void
hbt_pki_fini(struct hbt_pki *p)
{
	hb_tls_ctx_free(&p->server_ctx);
	hb_tls_ctx_free(&p->client_ctx);
	hb_test_cert_free(&p->root);
	hb_test_cert_free(&p->other);
	hb_test_cert_free(&p->server);
	hb_test_cert_free(&p->client);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* As a TLS client in the mesh would send it. */
#include "test/bench/load/hello.h"

#include <openssl/ssl.h>
#include "core/base/base.h"

int
load_hello(const char *sni, struct hb_text *ret, struct hb_err *reterr)
{
	static const uint8_t alpn[] = { 5, 'i', 's', 't', 'i', 'o' };
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	SSL *ssl = ctx == NULL ? NULL : SSL_new(ctx);
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	const uint8_t *p;
	size_t n = 0;

	HB_ASSERT(ssl != NULL && in != NULL && out != NULL);
	SSL_set_bio(ssl, in, out);
	SSL_set_connect_state(ssl);
	if (SSL_set_tlsext_host_name(ssl, sni) == 1 &&
		SSL_set_alpn_protos(ssl, alpn, sizeof alpn) == 0) {
		(void)SSL_do_handshake(ssl);
		if (BIO_mem_contents(out, &p, &n) == 1)
			hb_text_add(ret, p, n);
	}
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	if (n == 0)
		return (hb_err_set(reterr, -EINVAL,
			"\"%s\" cannot be a server name; give a DNS "
			"name with --sni",
			sni));
	return (0);
}

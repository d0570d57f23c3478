/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of application data without a copy. SSL_read and SSL_write go through buffers of their own:
 * each record is copied into one and out of it again. What the library does behind them works in place,
 * or from one buffer to another; this file calls that, which is no public interface of BoringSSL (the
 * public OpenRecord and SealRecord end at TLS 1.2), so everything that is not plain application data
 * in the middle of a connection is left to SSL_read and SSL_write.
 */
#include <algorithm>
#include <ssl/internal.h>

extern "C" {
#include "core/transport/tls_record_priv.h"
}

/* Nothing that SSL_read would have to do before it looks at the next record. */
static bool
can_open(SSL *ssl)
{
	const bssl::SSL3_STATE *s3 = ssl->s3;

	return (!SSL_in_init(ssl) && s3->pending_app_data.empty() && s3->read_buffer.empty() &&
		!s3->renegotiate_pending && s3->read_shutdown == bssl::ssl_shutdown_none &&
		(s3->hs_buf == nullptr || s3->hs_buf->length == 0));
}

size_t
hb_tls__open(SSL *ssl, uint8_t *in, size_t n, uint8_t **ret_p, size_t *ret_n)
{
	bssl::Span<uint8_t> out;
	uint8_t alert = SSL_AD_DECODE_ERROR;
	size_t used = 0;

	*ret_n = 0;
	if (!can_open(ssl) || n == 0 || in[0] != SSL3_RT_APPLICATION_DATA)
		return (0);
	switch (bssl::ssl_open_app_data(ssl, &out, &used, &alert, bssl::MakeSpan(in, n))) {
	case bssl::ssl_open_record_success:
		ssl->s3->key_update_count = 0;
		*ret_p = out.data();
		*ret_n = out.size();
		return (used);
	case bssl::ssl_open_record_discard:
	case bssl::ssl_open_record_close_notify:
		return (used);
	case bssl::ssl_open_record_error:
		/* It is remembered for SSL_read. */
		if (alert != 0)
			bssl::ssl_send_alert(ssl, SSL3_AL_FATAL, alert);
		return (used);
	default: /* not whole */
		return (0);
	}
}

/* Nothing that SSL_write would have to write before the next record. */
static bool
can_seal(const SSL *ssl)
{
	const bssl::SSL3_STATE *s3 = ssl->s3;

	return (!SSL_in_init(ssl) && s3->write_shutdown == bssl::ssl_shutdown_none &&
		!s3->alert_dispatch && !s3->wpend_pending && s3->write_buffer.empty() &&
		s3->pending_hs_data == nullptr && s3->pending_flight == nullptr);
}

size_t
hb_tls__seal(SSL *ssl, uint8_t *out, const uint8_t *p, size_t n)
{
	size_t used, max = std::min(n, (size_t)HB_TLS_RECORD_MAX);

	if (n == 0 || !can_seal(ssl) ||
		!bssl::tls_seal_record(ssl, out, &used, max + HB_TLS_RECORD_EXTRA,
			SSL3_RT_APPLICATION_DATA, p, max))
		return (0);
	return (used);
}

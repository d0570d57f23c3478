/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/transport/tls_record_priv.h: records of application data without SSL_read and SSL_write, of a
 * connection whose handshake is done. C++ includes it, too.
 */
#ifndef HB_CORE_TRANSPORT_TLS_RECORD_PRIV_H
#define HB_CORE_TRANSPORT_TLS_RECORD_PRIV_H

#include <openssl/ssl.h>

#define HB_TLS_RECORD_MAX   16384u /* plaintext of one record, RFC 8446 5.1                      */
#define HB_TLS_RECORD_EXTRA 256u   /* header, nonce, tag, padding of any version and cipher      */

/*
 * One record of application data at the beginning of `in`, decrypted in place. Returns the bytes of
 * `in` that are done with; the plaintext is *ret_n bytes at *ret_p, within them. *ret_n 0: SSL_read
 * must be called, it knows what to do (the record is not whole or not of data, a message waits, the
 * record is wrong: its alert was sent); 0 bytes were taken then, or the record.
 */
size_t hb_tls__open(SSL *, uint8_t *in, size_t n, uint8_t **ret_p, size_t *ret_n);

/*
 * Encrypts one record of min(n, 16384) bytes into `out`, which has room for it, HB_TLS_RECORD_EXTRA
 * included. Returns the bytes written; 0 = SSL_write must be called (something goes before it).
 */
size_t hb_tls__seal(SSL *, uint8_t *out, const uint8_t *p, size_t n);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filters/listener/tls_inspector/client_hello.h: reading a TLS ClientHello without answering it.
 *
 * A push parser, no I/O: feed it the bytes of a connection in pieces of any size, each byte once.
 * The hello may be spread over many TCP segments and over many TLS records (RFC 8446, 5.1). It
 * takes the server name (RFC 6066, 3) and the application protocols (RFC 7301, 3.1); everything
 * else is only checked for its shape. GREASE values (RFC 8701), unknown extensions and an outer
 * hello of ECH are ordinary extensions here: with ECH the name is the public one.
 *
 * Memory: a hello inside one record of one piece is read in place; otherwise handshake bytes are
 * gathered in memory owned by the parser, at most `raw_max` of them.
 */
#ifndef HB_FILTERS_LISTENER_TLS_INSPECTOR_CLIENT_HELLO_H
#define HB_FILTERS_LISTENER_TLS_INSPECTOR_CLIENT_HELLO_H

#include "core/base/str.h"

enum hb_hello_status {
	HB_HELLO_MORE,      /* so far a hello; feed what comes next                              */
	HB_HELLO_DONE,      /* complete, results are set                                         */
	HB_HELLO_NOT_TLS,   /* the first bytes are not those of a TLS handshake                  */
	HB_HELLO_BAD,       /* a TLS handshake, but no well-formed ClientHello                   */
	HB_HELLO_TOO_LARGE, /* complete only beyond raw_max; known as soon as the length is read */
};

#define HB_HELLO_RAW_MIN  256u
#define HB_HELLO_RAW_MAX  65536u /* default of raw_max as well                          */
#define HB_HELLO_ALPN_MAX 16u    /* protocols that are kept; further ones are passed over */
#define HB_HELLO_SNI_MAX  255u

struct hb_hello {
	/* Results after DONE. Borrowed: from the last piece fed or from the parser. */
	struct hb_str sni;                     /* as sent: printable ASCII; p NULL = none      */
	struct hb_str alpn[HB_HELLO_ALPN_MAX]; /* in the client's order, any bytes */
	uint8_t n_alpn;
	bool ech; /* the hello is the outer one of ECH (0xfe0d)   */

	size_t raw; /* read-only: bytes fed, record headers included */
	/* private */
	size_t raw_max;
	size_t want; /* length of the handshake message; 0 = not known yet   */
	size_t record_left;
	uint8_t header[5];
	uint8_t n_header;
	uint8_t status;
	struct hb_text msg; /* owned: the handshake message so far                  */
};

/* `raw_max` counts every byte of the connection up to the hello's end; it is cut to
 * HB_HELLO_RAW_MIN … HB_HELLO_RAW_MAX. */
void hb_hello_init(struct hb_hello *, size_t raw_max);
void hb_hello_fini(struct hb_hello *);
/* What stands behind the hello is not looked at. After another status than MORE it stays. */
enum hb_hello_status hb_hello_feed(struct hb_hello *, const void *p, size_t n);

#endif

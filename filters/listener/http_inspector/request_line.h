/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filters/listener/http_inspector/request_line.h: does a connection begin with HTTP?
 *
 * A push parser, no I/O and no memory: feed it the first bytes in pieces of any size, each byte
 * once. It knows the request line of HTTP/1 (RFC 9112, 3: one space between the parts, any token as
 * method) and the connection preface of HTTP/2 (RFC 9113, 3.4), and gives up at the first byte that
 * fits neither.
 */
#ifndef HB_FILTERS_LISTENER_HTTP_INSPECTOR_REQUEST_LINE_H
#define HB_FILTERS_LISTENER_HTTP_INSPECTOR_REQUEST_LINE_H

#include "core/base/base.h"

enum hb_http_look {
	HB_HTTP_MORE, /* may become HTTP; feed what comes next */
	HB_HTTP_10,
	HB_HTTP_11,
	HB_HTTP_2,
	HB_HTTP_NOT,
};

#define HB_HTTP_METHOD_MAX 32u
#define HB_HTTP_LINE_MAX   16384u /* longer request lines are not HTTP here */

/* Zeroed is initialised. */
struct hb_http_line {
	size_t fed; /* read-only: bytes looked at */
	uint8_t status, state, at, minor;
	bool not_preface, not_line; /* what it cannot become any more */
};

/* After another answer than MORE it stays. */
enum hb_http_look hb_http_line_feed(struct hb_http_line *, const void *p, size_t n);

#endif

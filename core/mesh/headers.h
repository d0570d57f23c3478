/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/mesh/headers.h: the other headers of a tunnel request that say something about the
 * connection: traceparent, forwarded, x-forwarded-network, x-istio-source.
 *
 * All of them come from the peer. What cannot be read is as if it were not there, and never ends a
 * request. Read functions borrow from the text; write functions add only what a reader of the same
 * rules takes back unchanged.
 */
#ifndef HB_CORE_MESH_HEADERS_H
#define HB_CORE_MESH_HEADERS_H

#include "core/facts/facts.h"

/* ------------------------------------------------------------------ traceparent */

#define HB_TRACEPARENT_LEN 55u /* 00-<32 hex>-<16 hex>-<2 hex> */

struct hb_trace { /* https://www.w3.org/TR/trace-context/ version 00 */
	uint8_t trace_id[16];
	uint8_t parent_id[8];
	uint8_t flags; /* bit 0: sampled */
};

/* Exactly 55 characters, version 00, lower-case hex, ids that are not all zero. */
bool hb_trace_parse(struct hb_str, struct hb_trace *ret);
/* Random ids, no flags. */
void hb_trace_new(struct hb_trace *);
/* Same trace and flags, a new parent id: for the request that follows from one with `from`. */
void hb_trace_child(const struct hb_trace *from, struct hb_trace *ret);
/* The header's value, NUL-terminated. */
void hb_trace_format(const struct hb_trace *, char dst[HB_TRACEPARENT_LEN + 1]);

/* ------------------------------------------------------------------ forwarded */

#define HB_FORWARDED_MAX      1024u /* of one line     */
#define HB_FORWARDED_HOST_MAX 255u

struct hb_forwarded {
	struct hb_addr from; /* NONE = not said; port 0 = not said */
	struct hb_str  host; /* name, or name and port; "" = not said */
};

/*
 * RFC 7239, the first element of a line: for (an IP address, with a port or without; "unknown" and
 * obfuscated names are not said) and host; other parameters are passed over. False when the line is
 * malformed anywhere in this element, too long, or says a thing twice; *ret is empty then.
 */
bool hb_forwarded_parse(struct hb_str line, struct hb_forwarded *ret);
/* for="IP:port";host=HOST, as Istio writes it. Without `from` (NONE, or no IP address) nothing is
 * added; a host that is no name with an optional port is left out. */
void hb_forwarded_format(const struct hb_forwarded *, struct hb_text *);

/* ------------------------------------------------------------------ x-… */

#define HB_NETWORK_MAX 253u

/* The sender's network, on the inner request of double HBONE: 1 to 253 letters, digits, '-', '_', '.',
 * '/'. Others are as if not there. Of no effect on policies. */
bool hb_network_valid(struct hb_str);

/*
 * x-istio-source: what kind of proxy sent the outer request of double HBONE. An east-west gateway
 * goes round the waypoint of a service when a waypoint sent it, so believe it only where the peer's
 * identity is one that may say so.
 */
enum hb_istio_source {
	HB_ISTIO_SOURCE_NONE, /* not there, or unknown */
	HB_ISTIO_SOURCE_WAYPOINT,
	HB_ISTIO_SOURCE_GATEWAY,
	HB_ISTIO_SOURCE_SIDECAR,
	HB_ISTIO_SOURCE_MAX,
};
enum hb_istio_source hb_istio_source_parse(struct hb_str);
/* NULL for NONE: then the header is not sent. */
const char *hb_istio_source_text(enum hb_istio_source);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filters/listener/proxy_protocol/proxy_header.h: the header of the PROXY protocol, versions 1 and
 * 2 (haproxy.org, proxy-protocol.txt), as a pure function of a connection's first bytes.
 */
#ifndef HB_FILTERS_LISTENER_PROXY_PROTOCOL_PROXY_HEADER_H
#define HB_FILTERS_LISTENER_PROXY_PROTOCOL_PROXY_HEADER_H

#include "core/facts/facts.h"

enum hb_proxy_status {
	HB_PROXY_MORE, /* a beginning: call again with at least `need` bytes from the start */
	HB_PROXY_DONE, /* complete, results are set                                         */
	HB_PROXY_NONE, /* this is no PROXY header                                           */
	HB_PROXY_BAD,  /* it began like one and is not well-formed, or is too long          */
};

#define HB_PROXY_V1_MAX 107u   /* with CRLF                                                */
#define HB_PROXY_V2_MAX 16384u /* with the 16 bytes of its fixed part; longer ones are bad */

struct hb_proxy_header {
	uint8_t version; /* 1 or 2, also with BAD; 0 = not known yet                       */
	/*
	 * False: the connection's own addresses count: a health check of the proxy itself
	 * (LOCAL), an unknown or unix peer.
	 */
	bool addressed;
	struct hb_addr source, destination; /* V4 or V6; mapped V6 became V4                  */
	struct hb_str tlvs; /* version 2, borrowed from the bytes; well-formed             */
	size_t size;        /* DONE: bytes of the header; MORE: `need`                        */
};

enum hb_proxy_status hb_proxy_header_parse(const void *p, size_t n, struct hb_proxy_header *ret);

/* Walks tlvs: false at the end. */
bool hb_proxy_tlv_next(struct hb_str *tlvs, uint8_t *ret_type, struct hb_str *ret_value);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/mesh/authority.h: the target of a CONNECT request: 10.0.0.1:80, [fd00::1]:80 or
 * host.example:80 (RFC 9110 9.3.6, RFC 3986 3.2.2).
 *
 * Strict, because access is decided by it: the port is mandatory and between 1 and 65535, without
 * sign, blank or leading zero; user information, paths, zones of IPv6 and percent-encoding are
 * refused; IPv6 stands in brackets, IPv4 in the usual four decimal parts. What looks like a number
 * but is none of those (127.1, 0x7f000001, 010.0.0.1, a last label of digits) is refused, too: a
 * resolver would make an address of it that no policy saw.
 */
#ifndef HB_CORE_MESH_AUTHORITY_H
#define HB_CORE_MESH_AUTHORITY_H

#include "core/facts/facts.h"

#define HB_AUTHORITY_MAX      (255u + 1u + 5u) /* longest text that is accepted */
#define HB_AUTHORITY_HOST_MAX 253u             /* RFC 1035 2.3.4, without the final dot */

struct hb_authority {
	bool     is_ip;
	uint16_t port;      /* host order, not 0 */
	struct hb_addr ip;  /* with the port; kind NONE for a name. v4-mapped IPv6 becomes IPv4 */
	uint8_t  host_len;  /* of a name */
	char     host[HB_AUTHORITY_HOST_MAX + 1]; /* name in lower case, without a final dot; "" for IP */
};

enum hb_authority_error {
	HB_AUTHORITY_OK,
	HB_AUTHORITY_EMPTY,
	HB_AUTHORITY_TOO_LONG,
	HB_AUTHORITY_USERINFO,  /* something@ */
	HB_AUTHORITY_NO_PORT,
	HB_AUTHORITY_BAD_PORT,
	HB_AUTHORITY_BAD_IP,    /* brackets without an IPv6 address; IPv6 without brackets; 1.2.3 */
	HB_AUTHORITY_BAD_HOST,  /* a label is empty or too long, or a character is not allowed */
	HB_AUTHORITY_ERROR_MAX,
};

/*
 * Names have letters, digits, '-', '_' and dots, labels of 1 to 63 bytes that neither start nor end
 * with '-'; a final dot is accepted and dropped. Names in Unicode must come as A-labels (xn--…).
 * *ret is set when the result is OK.
 */
enum hb_authority_error hb_authority_parse(struct hb_str text, struct hb_authority *ret);
/* For people and logs: "has no port". */
const char *hb_authority_error_text(enum hb_authority_error);
/* The canonical text; returns as snprintf. HB_AUTHORITY_MAX + 1 bytes are always enough. */
int hb_authority_format(const struct hb_authority *, char *dst, size_t cap);

#endif

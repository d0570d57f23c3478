/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <stdio.h>
#include "filters/transport/proxy_protocol/header.h"

#define V1_MAX   108u /* the longest line, with its NUL                            */
#define V2_FIXED 16u
#define V2_INET  0x11u
#define V2_INET6 0x21u
#define V2_LOCAL 0x20u
#define V2_PROXY 0x21u

static const uint8_t signature[12] = { 0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49,
	0x54, 0x0a };

static bool
is_ip(const struct hb_addr *a)
{
	return (a->kind == HB_ADDR_V4 || a->kind == HB_ADDR_V6);
}

/* The address in the bytes of IPv6, an IPv4 one as ::ffff:a.b.c.d. */
static void
as_v6(const struct hb_addr *a, uint8_t ret[16])
{
	if (a->kind == HB_ADDR_V6) {
		memcpy(ret, a->u.ip, 16);
		return;
	}
	memset(ret, 0, 10);
	memset(ret + 10, 0xff, 2);
	memcpy(ret + 12, a->u.ip, 4);
}

void
hb_proxy_header_v1(
	struct hb_buf *buf, const struct hb_addr *source, const struct hb_addr *destination)
{
	char line[V1_MAX + 1], s[INET6_ADDRSTRLEN], d[INET6_ADDRSTRLEN];
	bool v4 = source->kind == HB_ADDR_V4 && destination->kind == HB_ADDR_V4;
	uint8_t a[16], b[16];
	int n;

	if (!is_ip(source) || !is_ip(destination)) {
		hb_buf_addz(buf, "PROXY UNKNOWN\r\n");
		return;
	}
	as_v6(source, a);
	as_v6(destination, b);
	HB_ASSERT(inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? a + 12 : a, s, sizeof s) != NULL);
	HB_ASSERT(inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? b + 12 : b, d, sizeof d) != NULL);
	n = snprintf(line, sizeof line, "PROXY %s %s %s %u %u\r\n", v4 ? "TCP4" : "TCP6", s, d,
		source->port, destination->port);
	HB_ASSERT(n > 0 && (size_t)n < sizeof line);
	hb_buf_add(buf, line, (size_t)n);
}

static size_t
put_port(uint8_t *p, uint16_t port)
{
	p[0] = (uint8_t)(port >> 8);
	p[1] = (uint8_t)port;
	return (2);
}

void
hb_proxy_header_v2(struct hb_buf *buf, const struct hb_addr *source,
	const struct hb_addr *destination, struct hb_str tlvs)
{
	uint8_t h[V2_FIXED + 2 * 16 + 2 * 2] = { 0 }, a[16], b[16];
	size_t n = V2_FIXED, width, skip;

	HB_ASSERT(tlvs.len <= HB_PROXY_TLVS_MAX);
	memcpy(h, signature, sizeof signature);
	if (!is_ip(source) || !is_ip(destination)) {
		h[12] = V2_LOCAL;
	} else {
		h[12] = V2_PROXY;
		h[13] = source->kind == HB_ADDR_V4 && destination->kind == HB_ADDR_V4 ? V2_INET :
											V2_INET6;
		width = h[13] == V2_INET ? 4 : 16;
		skip = 16 - width;
		as_v6(source, a);
		as_v6(destination, b);
		memcpy(h + n, a + skip, width);
		memcpy(h + n + width, b + skip, width);
		n += 2 * width;
		n += put_port(h + n, source->port);
		n += put_port(h + n, destination->port);
	}
	(void)put_port(h + 14, (uint16_t)(n - V2_FIXED + tlvs.len));
	hb_buf_add(buf, h, n);
	hb_buf_add(buf, tlvs.p, tlvs.len);
}

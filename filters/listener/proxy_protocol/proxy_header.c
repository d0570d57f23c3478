/* SPDX-License-Identifier: Apache-2.0 */
#include "filters/listener/proxy_protocol/proxy_header.h"

#define V2_FIXED       16u
#define V2_FAMILY_V4   1u
#define V2_FAMILY_V6   2u
#define V2_FAMILY_UNIX 3u
#define V2_STREAM      1u
#define V2_UNIX_SIZE   216u

static const char v1_start[] = "PROXY ";
static const char v2_start[] = "\r\n\r\n\0\r\nQUIT\n";

/* ------------------------------------------------------------------ version 1 */

/* Cuts the next word; a word ends at exactly one space, the last one at the end. */
static bool
next_word(struct hb_str *line, struct hb_str *ret)
{
	const char *space = memchr(line->p, ' ', line->len);

	ret->p = line->p;
	ret->len = space == NULL ? line->len : (size_t)(space - line->p);
	if (space == NULL)
		*line = hb_strn(line->p + line->len, 0);
	else
		*line = hb_strn(space + 1, line->len - ret->len - 1);
	return (ret->len > 0);
}

static bool
v1_address(struct hb_str *line, bool v6, struct hb_addr *ret)
{
	struct hb_str word;

	/* The text decides the family: ::ffff:1.2.3.4 is a fine TCP6 address. */
	return (next_word(line, &word) && (memchr(word.p, ':', word.len) != NULL) == v6 &&
		hb_addr_parse_ip(word, ret));
}

static bool
v1_port(struct hb_str *line, bool last, struct hb_addr *ret)
{
	struct hb_str word;
	uint64_t port;

	if (!next_word(line, &word) || !hb_str_u64(word, UINT16_MAX, &port) ||
		(last && word.p + word.len != line->p))
		return (false);
	ret->port = (uint16_t)port;
	return (true);
}

static bool
v1_line(struct hb_str line, struct hb_proxy_header *ret)
{
	struct hb_str word;
	bool v6;

	if (!next_word(&line, &word))
		return (false);
	if (hb_str_eq(word, HB_STR("UNKNOWN")))
		return (true);
	v6 = hb_str_eq(word, HB_STR("TCP6"));
	if (!v6 && !hb_str_eq(word, HB_STR("TCP4")))
		return (false);
	ret->addressed = true;
	return (v1_address(&line, v6, &ret->source) && v1_address(&line, v6, &ret->destination) &&
		v1_port(&line, false, &ret->source) && v1_port(&line, true, &ret->destination));
}

static enum hb_proxy_status
v1_parse(const char *p, size_t n, struct hb_proxy_header *ret)
{
	const char *lf = memchr(p, '\n', HB_MIN(n, HB_PROXY_V1_MAX));

	ret->version = 1;
	if (lf == NULL) {
		ret->size = n + 1;
		return (n < HB_PROXY_V1_MAX ? HB_PROXY_MORE : HB_PROXY_BAD);
	}
	ret->size = (size_t)(lf - p) + 1;
	if (lf[-1] != '\r' ||
		!v1_line(hb_strn(p + sizeof v1_start - 1, ret->size - (sizeof v1_start - 1) - 2),
			ret))
		return (HB_PROXY_BAD);
	return (HB_PROXY_DONE);
}

/* ------------------------------------------------------------------ version 2 */

static void
v2_address(struct hb_addr *a, uint8_t kind, const uint8_t *ip, const uint8_t *port)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	memset(a, 0, sizeof *a);
	if (kind == HB_ADDR_V6 && memcmp(ip, mapped, sizeof mapped) == 0) {
		kind = HB_ADDR_V4;
		ip += sizeof mapped;
	}
	a->kind = kind;
	memcpy(a->u.ip, ip, kind == HB_ADDR_V4 ? 4 : 16);
	a->port = (uint16_t)(port[0] << 8 | port[1]);
}

bool
hb_proxy_tlv_next(struct hb_str *tlvs, uint8_t *ret_type, struct hb_str *ret_value)
{
	const uint8_t *p = (const uint8_t *)tlvs->p;
	size_t n;

	if (tlvs->len < 3)
		return (false);
	n = (size_t)p[1] << 8 | p[2];
	if (tlvs->len - 3 < n)
		return (false);
	*ret_type = p[0];
	*ret_value = hb_strn(p + 3, n);
	*tlvs = hb_strn(p + 3 + n, tlvs->len - 3 - n);
	return (true);
}

static enum hb_proxy_status
v2_body(const uint8_t *p, size_t n, unsigned family, unsigned transport,
	struct hb_proxy_header *ret)
{
	static const uint8_t ip_size[] = { 0, 4, 16 };
	struct hb_str tlvs, value;
	size_t used = 0;
	uint8_t type;

	if (family == V2_FAMILY_V4 || family == V2_FAMILY_V6) {
		size_t ip = ip_size[family];
		uint8_t kind = family == V2_FAMILY_V4 ? HB_ADDR_V4 : HB_ADDR_V6;

		used = 2 * ip + 4;
		/* A datagram's header in front of a byte stream is somebody's mistake. */
		if (transport != V2_STREAM || n < used)
			return (HB_PROXY_BAD);
		ret->addressed = true;
		v2_address(&ret->source, kind, p, p + 2 * ip);
		v2_address(&ret->destination, kind, p + ip, p + 2 * ip + 2);
	} else if (family == V2_FAMILY_UNIX) {
		used = V2_UNIX_SIZE;
		if (transport != V2_STREAM || n < used)
			return (HB_PROXY_BAD);
	} else if (family != 0) {
		return (HB_PROXY_BAD);
	}
	ret->tlvs = tlvs = hb_strn(p + used, n - used);
	while (hb_proxy_tlv_next(&tlvs, &type, &value))
		continue;
	return (tlvs.len == 0 ? HB_PROXY_DONE : HB_PROXY_BAD);
}

static enum hb_proxy_status
v2_parse(const uint8_t *p, size_t n, struct hb_proxy_header *ret)
{
	ret->version = 2;
	ret->size = V2_FIXED;
	/* Version and command are known early; do not wait for bytes that cannot help. */
	if (n > 12 && (p[12] >> 4 != 2 || (p[12] & 15) > 1))
		return (HB_PROXY_BAD);
	if (n < V2_FIXED)
		return (HB_PROXY_MORE);
	ret->size = V2_FIXED + ((size_t)p[14] << 8 | p[15]);
	if (ret->size > HB_PROXY_V2_MAX)
		return (HB_PROXY_BAD);
	if (n < ret->size)
		return (HB_PROXY_MORE);
	if ((p[12] & 15) == 0)
		return (HB_PROXY_DONE); /* LOCAL: whatever follows is skipped */
	return (v2_body(p + V2_FIXED, ret->size - V2_FIXED, p[13] >> 4, p[13] & 15, ret));
}

enum hb_proxy_status
hb_proxy_header_parse(const void *p, size_t n, struct hb_proxy_header *ret)
{
	size_t n1 = HB_MIN(n, sizeof v1_start - 1), n2 = HB_MIN(n, sizeof v2_start - 1);
	bool v1 = memcmp(p, v1_start, n1) == 0, v2 = memcmp(p, v2_start, n2) == 0;

	memset(ret, 0, sizeof *ret);
	if (v1 && n1 == sizeof v1_start - 1)
		return (v1_parse(p, n, ret));
	if (v2 && n2 == sizeof v2_start - 1)
		return (v2_parse(p, n, ret));
	ret->size = n + 1;
	return (v1 || v2 ? HB_PROXY_MORE : HB_PROXY_NONE);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/facts/facts.h"

static void
mask(uint8_t *ip, unsigned bytes, unsigned len)
{
	for (unsigned i = 0; i<bytes; i++, len = len> 8 ? len - 8 : 0)
		ip[i] &= (uint8_t)(len >= 8 ? 0xff : 0xff00 >> len);
}

int
hb_cidr_parse(struct hb_str prefix, unsigned len, struct hb_cidr *ret, struct hb_err *reterr)
{
	struct hb_cidr c = { 0 };
	struct hb_addr a;
	unsigned bits;
	bool mapped;

	if (!hb_addr_parse_ip(prefix, &a))
		return (hb_err_set(reterr, -EINVAL,
			"\"%.*s\" is not an IP address: write for example 10.0.0.0 or fd00::",
			(int)HB_MIN(prefix.len, (size_t)64), prefix.p == NULL ? "" : prefix.p));
	mapped = a.kind == HB_ADDR_V4 && memchr(prefix.p, ':', prefix.len) != NULL;
	bits = a.kind == HB_ADDR_V4 && !mapped ? 32 : 128;
	if (len > bits)
		return (hb_err_set(reterr, -EINVAL,
			"prefix length %u is more than the %u bits of %.*s", len, bits,
			HB_STR_FMT(prefix)));
	if (mapped && len < 96)
		return (hb_err_set(reterr, -EINVAL,
			"%.*s/%u mixes IPv4 and IPv6: IPv4-mapped ranges start at /96, or write the IPv4 "
			"range itself",
			HB_STR_FMT(prefix), len));
	c.kind = a.kind;
	c.len = (uint8_t)(mapped ? len - 96 : len);
	memcpy(c.ip, a.u.ip, a.kind == HB_ADDR_V4 ? 4 : 16);
	mask(c.ip, sizeof c.ip, c.len);
	*ret = c;
	return (0);
}

bool
hb_cidr_contains(const struct hb_cidr *c, const struct hb_addr *a)
{
	unsigned whole = c->len / 8, rest = c->len % 8;

	if (a->kind != c->kind || (a->kind != HB_ADDR_V4 && a->kind != HB_ADDR_V6))
		return (false);
	if (memcmp(c->ip, a->u.ip, whole) != 0)
		return (false);
	return (rest == 0 || ((c->ip[whole] ^ a->u.ip[whole]) & (uint8_t)(0xff00 >> rest)) == 0);
}

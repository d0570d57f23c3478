/* SPDX-License-Identifier: Apache-2.0 */
#include "core/match/match_priv.h"

#include "envoy/config/core/v3/address.pb-c.h"
#include "xds/core/v3/cidr.pb-c.h"

/* One message under two names. */
typedef Envoy__Config__Core__V3__CidrRange cidr_msg;
_Static_assert(
	offsetof(cidr_msg, address_prefix) == offsetof(Xds__Core__V3__CidrRange, address_prefix),
	"CidrRange.address_prefix");
_Static_assert(offsetof(cidr_msg, prefix_len) == offsetof(Xds__Core__V3__CidrRange, prefix_len),
	"CidrRange.prefix_len");

int
hb_match__cidr(struct hb_cfg *cfg, const void *owner_msg, const char *field, int index,
	const void *msg, struct hb_cidr *ret)
{
	static const uint8_t zero[16];
	const cidr_msg *c = msg;
	struct hb_err e = { 0 };

	if (c == NULL)
		return (hb_cfg_error(cfg, owner_msg, field, index, "is missing"));
	HB_ASSERT(c->base.descriptor == &envoy__config__core__v3__cidr_range__descriptor ||
		c->base.descriptor == &xds__core__v3__cidr_range__descriptor);
	if (hb_cidr_parse(hb_str(c->address_prefix),
		    c->prefix_len == NULL ? 0 : c->prefix_len->value, ret, &e) != 0)
		return (hb_cfg_error(cfg, owner_msg, field, index, "%s", e.text));
	if (c->prefix_len == NULL) {
		struct hb_addr a;

		/* Everybody who forgets it means one address. */
		if (hb_addr_parse_ip(hb_str(c->address_prefix), &a) &&
			memcmp(a.u.ip, zero, a.kind == HB_ADDR_V4 ? 4 : 16) != 0)
			hb_cfg_warn(cfg, owner_msg, field, index,
				"%s without prefix_len is %s/0: every address; set prefix_len: %u for one",
				c->address_prefix, c->address_prefix,
				a.kind == HB_ADDR_V4 ? 32 : 128);
	}
	return (0);
}

void
hb_match__cidr_text(struct hb_text *t, const struct hb_cidr *c)
{
	struct hb_addr a = { .kind = c->kind };
	char ip[HB_ADDR_TEXT_MAX];

	memcpy(a.u.ip, c->ip, sizeof c->ip);
	(void)hb_addr_format_ip(&a, ip, sizeof ip);
	hb_text_printf(t, "%s/%u", ip, c->len);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/match/chain_priv.h"
#include "core/match/match_priv.h"

const char *const hb_chain_level_names[CHAIN_LEVEL_MAX] = {
#define X(e, n, t) n,
	CHAIN_LEVELS(X)
#undef X
};

static const struct hb_cidr everything[2] = { { .kind = HB_ADDR_V4 }, { .kind = HB_ADDR_V6 } };
_Static_assert(sizeof(struct hb_cidr) == 18, "a range is its own key, so it has no padding");

static const struct chain_cidrs *
rule_cidrs(const struct chain_rule *r, enum chain_level level)
{
	return (level == CHAIN_DST_IP            ? &r->dst :
			level == CHAIN_DIRECT_IP ? &r->direct :
						   &r->source);
}

bool
hb_chain__rule_is_any(const struct chain_rule *r, enum chain_level level)
{
	switch (level) {
	case CHAIN_DST_PORT:
		return (r->dst_port == 0);
	case CHAIN_SNI:
		return (r->sni.n == 0);
	case CHAIN_TRANSPORT:
		return (r->transport.len == 0);
	case CHAIN_ALPN:
		return (r->alpn.n == 0);
	case CHAIN_SOURCE_TYPE:
		return (r->source_type == CHAIN_SOURCE_ANY);
	case CHAIN_SOURCE_PORT:
		return (r->n_source_ports == 0);
	case CHAIN_DST_IP:
	case CHAIN_DIRECT_IP:
	case CHAIN_SOURCE_IP:
		return (rule_cidrs(r, level)->n == 0);
	default:
		HB_WRONG("no such level");
	}
}

uint32_t
hb_chain__rule_n_keys(const struct chain_rule *r, enum chain_level level)
{
	uint32_t n = 1;

	if (level == CHAIN_SNI)
		n = r->sni.n;
	else if (level == CHAIN_ALPN)
		n = r->alpn.n;
	else if (level == CHAIN_SOURCE_PORT)
		n = r->n_source_ports;
	else if (level == CHAIN_DST_IP || level == CHAIN_DIRECT_IP || level == CHAIN_SOURCE_IP)
		n = rule_cidrs(r, level)->n == 0 ? HB_ARRAY_LEN(everything) :
						   rule_cidrs(r, level)->n;
	return (HB_MAX(n, 1u));
}

struct hb_str
hb_chain__rule_key(const struct chain_rule *r, enum chain_level level, uint32_t i)
{
	const struct chain_cidrs *c;

	HB_ASSERT(i < hb_chain__rule_n_keys(r, level));
	switch (level) {
	case CHAIN_DST_PORT:
		return (hb_strn(&r->dst_port, r->dst_port == 0 ? 0 : sizeof r->dst_port));
	case CHAIN_SNI:
		return (r->sni.n == 0 ? HB_STR("") : r->sni.v[i]);
	case CHAIN_TRANSPORT:
		return (r->transport);
	case CHAIN_ALPN:
		return (r->alpn.n == 0 ? HB_STR("") : r->alpn.v[i]);
	case CHAIN_SOURCE_TYPE:
		return (hb_strn(&r->source_type, r->source_type != CHAIN_SOURCE_ANY));
	case CHAIN_SOURCE_PORT:
		return (r->n_source_ports == 0 ? HB_STR("") : hb_strn(&r->source_ports[i], 2));
	default:
		c = rule_cidrs(r, level);
		return (hb_strn(c->n == 0 ? &everything[i] : &c->v[i], sizeof(struct hb_cidr)));
	}
}

void
hb_chain__address(const struct hb_facts *f, enum chain_level level, struct hb_addr *ret)
{
	*ret = level == CHAIN_DST_IP     ? f->local :
		level == CHAIN_DIRECT_IP ? *hb_facts_direct_remote(f) :
					   f->remote;
	if (ret->kind == HB_ADDR_V4 || ret->kind == HB_ADDR_V6)
		return;
	memset(ret, 0, sizeof *ret);
	ret->kind = HB_ADDR_V4;
	memset(ret->u.ip, 255, 4);
}

bool
hb_chain__is_local(const struct hb_facts *f)
{
	if (f->remote.kind == HB_ADDR_UNIX || hb_addr_is_loopback(&f->remote))
		return (true);
	return ((f->remote.kind == HB_ADDR_V4 || f->remote.kind == HB_ADDR_V6) &&
		hb_addr_ip_eq(&f->remote, &f->local));
}

struct hb_str
hb_chain__transport(const struct hb_facts *f)
{
	return (hb_facts_transport_protocol(f));
}

static int
sni_rank(const struct chain_rule *r, struct hb_str sni)
{
	int best = r->sni.n == 0 ? 0 : -1;

	for (uint32_t i = 0; i < r->sni.n; i++) {
		struct hb_str name = r->sni.v[i];

		if (hb_str_eq(name, sni))
			return (INT32_MAX);
		/* At least one byte stands before the dot, and one after it. */
		if (name.len >= 2 && name.p[0] == '.' && sni.len > name.len &&
			hb_str_ends(sni, name))
			best = HB_MAX(best, (int)name.len);
	}
	return (best);
}

static int
alpn_rank(const struct chain_rule *r, const struct hb_facts *f)
{
	if (r->alpn.n == 0)
		return (0);
	for (int i = 0; i < hb_facts_hello(f)->n_alpn; i++) {
		for (uint32_t j = 0; j < r->alpn.n; j++) {
			if (hb_str_eq(hb_facts_hello(f)->alpn[i], r->alpn.v[j]))
				return (HB_FACTS_ALPN_MAX - i);
		}
	}
	return (-1);
}

static int
cidr_rank(const struct chain_rule *r, enum chain_level level, const struct hb_facts *f)
{
	const struct chain_cidrs *c = rule_cidrs(r, level);
	struct hb_addr a;
	int best = -1;

	hb_chain__address(f, level, &a);
	for (uint32_t i = 0; i < c->n; i++) {
		if (hb_cidr_contains(&c->v[i], &a))
			best = HB_MAX(best, c->v[i].len);
	}
	return (c->n == 0 ? 0 : best);
}

int
hb_chain__rule_rank(const struct chain_rule *r, enum chain_level level, const struct hb_facts *f)
{
	bool ip = false, has;

	if (hb_chain__rule_is_any(r, level))
		return (0);
	switch (level) {
	case CHAIN_SNI:
		return (sni_rank(r, hb_facts_hello(f)->sni));
	case CHAIN_ALPN:
		return (alpn_rank(r, f));
	case CHAIN_DST_IP:
	case CHAIN_DIRECT_IP:
	case CHAIN_SOURCE_IP:
		return (cidr_rank(r, level, f));
	case CHAIN_DST_PORT:
		ip = f->local.kind == HB_ADDR_V4 || f->local.kind == HB_ADDR_V6;
		has = ip && f->local.port == r->dst_port;
		break;
	case CHAIN_TRANSPORT:
		has = hb_str_eq(r->transport, hb_chain__transport(f));
		break;
	case CHAIN_SOURCE_TYPE:
		has = hb_chain__is_local(f) == (r->source_type == CHAIN_SOURCE_LOCAL);
		break;
	default:
		ip = f->remote.kind == HB_ADDR_V4 || f->remote.kind == HB_ADDR_V6;
		has = false;
		for (uint32_t i = 0; ip && i < r->n_source_ports && !has; i++)
			has = r->source_ports[i] == f->remote.port;
	}
	return (has ? 1 : -1);
}

void
hb_chain__key_text(struct hb_text *t, enum chain_level level, struct hb_str key)
{
	struct hb_cidr cidr;
	uint16_t port;

	if (key.len == 0) {
		hb_text_addz(t, "any");
		return;
	}
	switch (level) {
	case CHAIN_DST_PORT:
	case CHAIN_SOURCE_PORT:
		memcpy(&port, key.p, sizeof port);
		hb_text_printf(t, "%u", port);
		break;
	case CHAIN_DST_IP:
	case CHAIN_DIRECT_IP:
	case CHAIN_SOURCE_IP:
		memcpy(&cidr, key.p, sizeof cidr);
		hb_match__cidr_text(t, &cidr);
		break;
	case CHAIN_SOURCE_TYPE:
		hb_text_addz(
			t, key.p[0] == CHAIN_SOURCE_LOCAL ? "SAME_IP_OR_LOOPBACK" : "EXTERNAL");
		break;
	default:
		hb_text_printf(t, "%s%.*s", level == CHAIN_SNI && key.p[0] == '.' ? "*" : "",
			HB_STR_FMT(key));
	}
}

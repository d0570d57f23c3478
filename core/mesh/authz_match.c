/* SPDX-License-Identifier: Apache-2.0 */
#include "core/mesh/authz_priv.h"

#include "core/identity/identity.h"
#include "core/mesh/authority.h"

/* ------------------------------------------------------------------ facts */

static bool
is_ip(const struct hb_addr *a)
{
	return (a->kind == HB_ADDR_V4 || a->kind == HB_ADDR_V6);
}

static void
peer_identity(const struct hb_facts *f, struct hb_authz_peer *p)
{
	static const size_t scheme_len = sizeof "spiffe://" - 1;
	const struct hb_facts *id = hb_facts_identity(f);
	struct hb_str name = id == NULL ? HB_STR("") : hb_facts_tls(id)->principal;
	struct hb_spiffe s;

	if (id == NULL || hb_spiffe_parse(name, &s, NULL) != 0)
		return;
	p->known = true;
	p->principal = hb_strn(name.p + scheme_len, name.len - scheme_len);
	p->ns = s.ns;
	p->sa = s.sa;
	p->account = s.sa.len > 0;
}

static void
peer_destination(const struct hb_facts *f, struct hb_authz_peer *p)
{
	struct hb_authority a;

	if (f->authority.len > 0 && !f->local_restored &&
		hb_authority_parse(f->authority, &a) == HB_AUTHORITY_OK) {
		p->destination = a.ip;
		p->port = a.port;
	} else if (is_ip(&f->local)) {
		p->destination = f->local;
		p->port = f->local.port;
	}
}

void
hb_authz__peer(const struct hb_facts *f, struct hb_authz_peer *ret)
{
	const struct hb_facts *root = hb_facts_root(f);

	*ret = (struct hb_authz_peer){ .ns = HB_STR(""), .sa = HB_STR("") };
	peer_identity(f, ret);
	if (is_ip(&root->remote))
		ret->source = root->remote;
	peer_destination(f, ret);
}

/* ------------------------------------------------------------------ lists */

static bool
string_match(const struct hb_authz_string *m, struct hb_str s)
{
	switch (m->kind) {
	case HB_AUTHZ_EXACT:
		return (hb_str_eq(m->text, s));
	case HB_AUTHZ_PREFIX:
		return (hb_str_starts(s, m->text));
	case HB_AUTHZ_SUFFIX:
		return (hb_str_ends(s, m->text));
	default:
		return (s.len > 0);
	}
}

static bool
namespace_is(const struct hb_authz_string *m, const struct hb_authz_peer *p)
{
	return (string_match(m, p->ns));
}

static bool
principal_is(const struct hb_authz_string *m, const struct hb_authz_peer *p)
{
	return (p->known && string_match(m, p->principal));
}

static bool
source_is(const struct hb_cidr *m, const struct hb_authz_peer *p)
{
	return (hb_cidr_contains(m, &p->source));
}

static bool
destination_is(const struct hb_cidr *m, const struct hb_authz_peer *p)
{
	return (hb_cidr_contains(m, &p->destination));
}

static bool
port_is(const uint16_t *m, const struct hb_authz_peer *p)
{
	return (*m == p->port);
}

static bool
account_is(const struct hb_authz_account *m, const struct hb_authz_peer *p)
{
	return (p->account && hb_str_eq(m->ns, p->ns) && hb_str_eq(m->sa, p->sa));
}

/* Any element of the positive list, or none there; and none of the negative one. */
#define AGREES(name, type, element_is)                                                 \
	static bool name(unsigned n, const type *v, unsigned not_n, const type *not_v, \
		const struct hb_authz_peer *p)                                         \
	{                                                                              \
		bool agrees = n == 0;                                                  \
                                                                                       \
		for (unsigned i = 0; i < n && !agrees; i++)                            \
			agrees = element_is(&v[i], p);                                 \
		for (unsigned i = 0; i < not_n && agrees; i++)                         \
			agrees = !element_is(&not_v[i], p);                            \
		return (agrees);                                                       \
	}
AGREES(namespaces_agree, struct hb_authz_string, namespace_is)
AGREES(principals_agree, struct hb_authz_string, principal_is)
AGREES(sources_agree, struct hb_cidr, source_is)
AGREES(destinations_agree, struct hb_cidr, destination_is)
AGREES(ports_agree, uint16_t, port_is)
AGREES(accounts_agree, struct hb_authz_account, account_is)
#define LISTS(l) (l)[0].n, (l)[0].v, (l)[1].n, (l)[1].v

static bool
match(const struct hb_authz_match *m, const struct hb_authz_peer *p)
{
	return (!m->empty && ports_agree(LISTS(m->ports), p) &&
		destinations_agree(LISTS(m->destinations), p) &&
		sources_agree(LISTS(m->sources), p) && accounts_agree(LISTS(m->accounts), p) &&
		namespaces_agree(LISTS(m->namespaces), p) &&
		principals_agree(LISTS(m->principals), p));
}

/* ------------------------------------------------------------------ policies */

static bool
rules_match(const struct hb_authz_rules *r, const struct hb_authz_peer *p)
{
	for (unsigned i = 0; i < r->n; i++) {
		if (match(&r->v[i], p))
			return (true);
	}
	return (r->n == 0);
}

static bool
group_match(const struct hb_authz_group *g, const struct hb_authz_peer *p)
{
	for (unsigned i = 0; i < g->n; i++) {
		if (!rules_match(&g->v[i], p))
			return (false);
	}
	return (true);
}

bool
hb_authz__match(const struct hb_authz_policy *policy, const struct hb_authz_peer *p)
{
	HB_CHECK(policy, HB_AUTHZ_POLICY_MAGIC);
	for (unsigned i = 0; i < policy->n; i++) {
		if (group_match(&policy->v[i], p))
			return (true);
	}
	return (false);
}

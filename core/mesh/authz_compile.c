/* SPDX-License-Identifier: Apache-2.0 */
#include "core/mesh/authz_priv.h"

#include "istio/security/authorization.pb-c.h"

typedef Istio__Security__Authorization policy_msg;
typedef Istio__Security__Match match_msg;
typedef Istio__Security__StringMatch string_msg;
typedef Istio__Security__Address address_msg;
typedef Istio__Security__ServiceAccountMatch account_msg;
#define CASE(name) ISTIO__SECURITY__STRING_MATCH__MATCH_TYPE_##name

struct compile {
	struct hb_cfg *cfg;
	struct hb_arena *arena;
	const match_msg *m; /* the match at hand */
	bool failed;
};

static void *
array(struct compile *c, size_t n, size_t size)
{
	return (n == 0 ? NULL : hb_arena_alloc(c->arena, n * size));
}

/* ------------------------------------------------------------------ elements */

static void
string_compile(struct compile *c, const string_msg *s, const char *field, int index, bool principal,
	struct hb_authz_string *ret)
{
	const char *text = "", *member = NULL;

	switch ((int)s->match_type_case) {
	case CASE(EXACT):
		ret->kind = HB_AUTHZ_EXACT;
		text = s->exact;
		member = "exact";
		break;
	case CASE(PREFIX):
		ret->kind = HB_AUTHZ_PREFIX;
		text = s->prefix;
		member = "prefix";
		break;
	case CASE(SUFFIX):
		ret->kind = HB_AUTHZ_SUFFIX;
		text = s->suffix;
		member = "suffix";
		break;
	case CASE(PRESENCE):
		ret->kind = HB_AUTHZ_PRESENCE;
		break;
	default:
		hb_cfg_error(
			c->cfg, c->m, field, index, "needs one of exact, prefix, suffix, presence");
		c->failed = true;
		return;
	}
	if (principal && strstr(text, "://") != NULL) {
		hb_cfg_error(c->cfg, s, member, -1,
			"would never match: principals are written without spiffe://");
		c->failed = true;
	}
	ret->text = hb_arena_str(c->arena, hb_str(text));
}

/* "10.0.0.0/8" or one address. */
static int
cidr_text(const char *text, struct hb_cidr *ret, struct hb_err *err)
{
	const char *slash = strchr(text, '/');
	struct hb_str ip = slash == NULL ? hb_str(text) : hb_strn(text, (size_t)(slash - text));
	struct hb_addr a;
	uint64_t len;

	if (!hb_addr_parse_ip(ip, &a))
		return (hb_err_set(err, -EINVAL, "\"%.100s\" is no IP address or range", text));
	if (slash == NULL) {
		len = memchr(ip.p, ':', ip.len) != NULL ? 128 : 32;
	} else if (!hb_str_u64(hb_str(slash + 1), 128, &len)) {
		return (hb_err_set(err, -EINVAL,
			"\"%.100s\" has no length between 0 and %d behind the slash", text,
			a.kind == HB_ADDR_V4 ? 32 : 128));
	}
	return (hb_cidr_parse(ip, (unsigned)len, ret, err));
}

static int
cidr_bytes(const address_msg *a, struct hb_cidr *ret, struct hb_err *err)
{
	struct hb_addr ip = { .kind = a->address.len == 4 ? HB_ADDR_V4 : HB_ADDR_V6 };
	char text[HB_ADDR_TEXT_MAX];

	if (a->address.len != 4 && a->address.len != 16)
		return (hb_err_set(err, -EINVAL,
			"has an address of %zu bytes; an IP address has 4 or 16", a->address.len));
	memcpy(ip.u.ip, a->address.data, a->address.len);
	(void)hb_addr_format_ip(&ip, text, sizeof text);
	return (hb_cidr_parse(hb_str(text), a->length, ret, err));
}

static void
address_compile(
	struct compile *c, const address_msg *a, const char *field, int index, struct hb_cidr *ret)
{
	struct hb_err err = { 0 };
	int r;

	if (*a->cidr != '\0' && (a->address.len > 0 || a->length > 0))
		r = hb_err_set(&err, -EINVAL, "has both cidr and address; keep one");
	else if (*a->cidr != '\0')
		r = cidr_text(a->cidr, ret, &err);
	else
		r = cidr_bytes(a, ret, &err);
	if (r == 0)
		return;
	hb_cfg_error(c->cfg, c->m, field, index, "%s", err.text);
	c->failed = true;
}

static void
account_compile(struct compile *c, const account_msg *a, struct hb_authz_account *ret)
{
	if (*a->namespace_ == '\0') {
		hb_cfg_error(c->cfg, a, "namespace", -1, "must not be empty: it would never match");
		c->failed = true;
	}
	if (*a->service_account == '\0') {
		hb_cfg_error(c->cfg, a, "service_account", -1,
			"must not be empty: it would never match");
		c->failed = true;
	}
	ret->ns = hb_arena_str(c->arena, hb_str(a->namespace_));
	ret->sa = hb_arena_str(c->arena, hb_str(a->service_account));
}

/* ------------------------------------------------------------------ lists */

static const struct hb_authz_string *
strings(struct compile *c, const char *field, size_t n, string_msg *const *v, bool principal)
{
	struct hb_authz_string *ret = array(c, n, sizeof *ret);

	for (size_t i = 0; i < n; i++)
		string_compile(c, v[i], field, (int)i, principal, &ret[i]);
	return (ret);
}

static const struct hb_cidr *
addresses(struct compile *c, const char *field, size_t n, address_msg *const *v)
{
	struct hb_cidr *ret = array(c, n, sizeof *ret);

	for (size_t i = 0; i < n; i++)
		address_compile(c, v[i], field, (int)i, &ret[i]);
	return (ret);
}

static const uint16_t *
ports(struct compile *c, const char *field, size_t n, const uint32_t *v)
{
	uint16_t *ret = array(c, n, sizeof *ret);

	for (size_t i = 0; i < n; i++) {
		if (v[i] == 0 || v[i] > UINT16_MAX) {
			hb_cfg_error(
				c->cfg, c->m, field, (int)i, "%u is no port (1 to 65535)", v[i]);
			c->failed = true;
		}
		ret[i] = (uint16_t)v[i];
	}
	return (ret);
}

static const struct hb_authz_account *
accounts(struct compile *c, size_t n, account_msg *const *v)
{
	struct hb_authz_account *ret = array(c, n, sizeof *ret);

	for (size_t i = 0; i < n; i++)
		account_compile(c, v[i], &ret[i]);
	return (ret);
}

#define LIST(to, count, call)               \
	do {                                \
		(to).n = (unsigned)(count); \
		(to).v = (call);            \
		any |= (to).n > 0;          \
	} while (0)

static void
match_compile(struct compile *c, const match_msg *m, struct hb_authz_match *ret)
{
	bool any = false;

	c->m = m;
	LIST(ret->namespaces[0], m->n_namespaces,
		strings(c, "namespaces", m->n_namespaces, m->namespaces, false));
	LIST(ret->namespaces[1], m->n_not_namespaces,
		strings(c, "not_namespaces", m->n_not_namespaces, m->not_namespaces, false));
	LIST(ret->principals[0], m->n_principals,
		strings(c, "principals", m->n_principals, m->principals, true));
	LIST(ret->principals[1], m->n_not_principals,
		strings(c, "not_principals", m->n_not_principals, m->not_principals, true));
	LIST(ret->sources[0], m->n_source_ips,
		addresses(c, "source_ips", m->n_source_ips, m->source_ips));
	LIST(ret->sources[1], m->n_not_source_ips,
		addresses(c, "not_source_ips", m->n_not_source_ips, m->not_source_ips));
	LIST(ret->destinations[0], m->n_destination_ips,
		addresses(c, "destination_ips", m->n_destination_ips, m->destination_ips));
	LIST(ret->destinations[1], m->n_not_destination_ips,
		addresses(c, "not_destination_ips", m->n_not_destination_ips,
			m->not_destination_ips));
	LIST(ret->ports[0], m->n_destination_ports,
		ports(c, "destination_ports", m->n_destination_ports, m->destination_ports));
	LIST(ret->ports[1], m->n_not_destination_ports,
		ports(c, "not_destination_ports", m->n_not_destination_ports,
			m->not_destination_ports));
	LIST(ret->accounts[0], m->n_service_accounts,
		accounts(c, m->n_service_accounts, m->service_accounts));
	LIST(ret->accounts[1], m->n_not_service_accounts,
		accounts(c, m->n_not_service_accounts, m->not_service_accounts));
	ret->empty = !any;
	if (!any)
		hb_cfg_warn(c->cfg, m, NULL, -1,
			"has no condition and so matches nothing; rules without matches match everything");
}

/* ------------------------------------------------------------------ policies */

static void
rules_compile(struct compile *c, const Istio__Security__Rules *m, struct hb_authz_rules *ret)
{
	struct hb_authz_match *v = array(c, m->n_matches, sizeof *v);

	for (size_t i = 0; i < m->n_matches; i++)
		match_compile(c, m->matches[i], &v[i]);
	ret->n = (unsigned)m->n_matches;
	ret->v = v;
}

static void
group_compile(struct compile *c, const Istio__Security__Group *m, struct hb_authz_group *ret)
{
	struct hb_authz_rules *v = array(c, m->n_rules, sizeof *v);

	for (size_t i = 0; i < m->n_rules; i++)
		rules_compile(c, m->rules[i], &v[i]);
	ret->n = (unsigned)m->n_rules;
	ret->v = v;
}

/* It stands in logs and in namespace/name. */
static void
name_check(struct compile *c, const policy_msg *m, const char *field, const char *name)
{
	for (const char *p = name; *p != '\0'; p++) {
		if ((unsigned char)*p > ' ' && *p != 0x7f && *p != '/')
			continue;
		hb_cfg_error(c->cfg, m, field, -1,
			"must have no white space, control character or slash");
		c->failed = true;
		return;
	}
}

static void
head_compile(struct compile *c, const policy_msg *m, struct hb_authz_policy *p)
{
	char *key = hb_asprintf("%s/%s", m->namespace_, m->name);

	p->key = hb_arena_str(c->arena, hb_str(key));
	p->ns = hb_strn(p->key.p, strlen(m->namespace_));
	hb_free(key);
	p->deny = m->action == ISTIO__SECURITY__ACTION__DENY;
	p->dry_run = m->dry_run;
	p->scope = (uint8_t)m->scope;
	name_check(c, m, "name", m->name);
	name_check(c, m, "namespace", m->namespace_);
	if (*m->name == '\0') {
		hb_cfg_error(c->cfg, m, "name", -1, "must not be empty");
		c->failed = true;
	}
	if (m->action != ISTIO__SECURITY__ACTION__ALLOW &&
		m->action != ISTIO__SECURITY__ACTION__DENY) {
		hb_cfg_error(c->cfg, m, "action", -1, "%d is no action", (int)m->action);
		c->failed = true;
	}
	if ((unsigned)m->scope > ISTIO__SECURITY__SCOPE__WORKLOAD_SELECTOR) {
		hb_cfg_error(c->cfg, m, "scope", -1, "%d is no scope", (int)m->scope);
		c->failed = true;
	}
}

_Static_assert((int)ISTIO__SECURITY__SCOPE__GLOBAL == (int)HB_AUTHZ_GLOBAL, "scope");
_Static_assert((int)ISTIO__SECURITY__SCOPE__NAMESPACE == (int)HB_AUTHZ_NAMESPACE, "scope");
_Static_assert((int)ISTIO__SECURITY__SCOPE__WORKLOAD_SELECTOR == (int)HB_AUTHZ_WORKLOAD, "scope");

struct hb_authz_policy *
hb_authz_policy_compile(struct hb_cfg *cfg, const void *msg)
{
	const policy_msg *m = msg;
	struct hb_authz_policy *p;
	struct hb_authz_group *v;
	struct compile c = { .cfg = cfg };

	HB_ASSERT(m->base.descriptor == &istio__security__authorization__descriptor);
	HB_NEW(p, HB_AUTHZ_POLICY_MAGIC);
	c.arena = &p->arena;
	head_compile(&c, m, p);
	v = array(&c, m->n_groups, sizeof *v);
	for (size_t i = 0; i < m->n_groups; i++)
		group_compile(&c, m->groups[i], &v[i]);
	p->n = (unsigned)m->n_groups;
	p->v = v;
	if (c.failed)
		hb_authz_policy_free(&p);
	return (p);
}

void
hb_authz_policy_free(struct hb_authz_policy **pp)
{
	struct hb_authz_policy *p = *pp;

	if (p == NULL)
		return;
	HB_CHECK(p, HB_AUTHZ_POLICY_MAGIC);
	*pp = NULL;
	hb_arena_fini(&p->arena);
	HB_DEL(p);
}

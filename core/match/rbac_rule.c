/* SPDX-License-Identifier: Apache-2.0 */
#include "core/match/rbac_priv.h"

#include "core/identity/identity.h"
#include "envoy/config/rbac/v3/rbac.pb-c.h"

typedef Envoy__Config__Rbac__V3__Permission permission_msg;
typedef Envoy__Config__Rbac__V3__Principal principal_msg;
#define PERMISSION(name) ENVOY__CONFIG__RBAC__V3__PERMISSION__RULE_##name
#define PRINCIPAL(name)  ENVOY__CONFIG__RBAC__V3__PRINCIPAL__IDENTIFIER_##name

/* ------------------------------------------------------------------ shared parts */

typedef int rule_one_f(struct hb_cfg *, const void *owner_msg, const char *field, int index,
	const void *msg, struct hb_rule *);

static int
rule_set(struct hb_cfg *cfg, const void *owner_msg, const char *field, size_t n, void *const *msgs,
	enum hb_rule_kind kind, rule_one_f *one, struct hb_rule *r)
{
	int error = 0;

	r->kind = (uint8_t)kind;
	if (n == 0)
		return (hb_cfg_error(cfg, owner_msg, field, -1, "needs at least one entry"));
	r->v = hb_calloc(n, sizeof *r->v);
	r->n = n;
	for (size_t i = 0; i < n; i++)
		error |= one(cfg, owner_msg, field, (int)i, msgs[i], &r->v[i]);
	return (error);
}

static int
rule_not(struct hb_cfg *cfg, const void *owner_msg, const char *field, const void *msg,
	rule_one_f *one, struct hb_rule *r)
{
	r->kind = HB_RULE_NOT;
	r->v = hb_calloc(1, sizeof *r->v);
	r->n = 1;
	return (one(cfg, owner_msg, field, -1, msg, r->v));
}

static int
rule_any(struct hb_cfg *cfg, const void *msg, bool any, struct hb_rule *r)
{
	r->kind = HB_RULE_ANY;
	if (any)
		return (0);
	return (hb_cfg_error(cfg, msg, "any", -1, "must be true; false would match nothing"));
}

static int
rule_ip(struct hb_cfg *cfg, const void *msg, const char *field, const void *cidr,
	enum hb_rule_addr addr, struct hb_rule *r)
{
	r->kind = HB_RULE_IP;
	r->addr = (uint8_t)addr;
	return (hb_match__cidr(cfg, msg, field, -1, cidr, &r->cidr));
}

static int
rule_metadata(struct hb_cfg *cfg, const void *msg, const char *field, const void *matcher,
	struct hb_rule *r)
{
	r->kind = HB_RULE_METADATA;
	r->metadata = hb_metadata_matcher_compile(cfg, msg, field, matcher);
	return (r->metadata == NULL ? -EINVAL : 0);
}

static int
rule_sourced(
	struct hb_cfg *cfg, const Envoy__Config__Rbac__V3__SourcedMetadata *m, struct hb_rule *r)
{
	if (m->metadata_source != ENVOY__CONFIG__RBAC__V3__METADATA_SOURCE__DYNAMIC)
		return (hb_cfg_error(cfg, m, "metadata_source", -1,
			"only DYNAMIC is supported: a connection has no route"));
	return (rule_metadata(cfg, m, "metadata_matcher", m->metadata_matcher, r));
}

static int
rule_ports(struct hb_cfg *cfg, const void *msg, const char *field, int64_t start, int64_t end,
	struct hb_rule *r)
{
	r->kind = HB_RULE_PORT;
	if (start < 0 || end > 65536 || start >= end)
		return (hb_cfg_error(cfg, msg, field, -1,
			"[%lld, %lld) is no range of ports: 0 <= start < end <= 65536, and the end is not "
			"part of it",
			(long long)start, (long long)end));
	r->port_start = (uint32_t)start;
	r->port_end = (uint32_t)end;
	return (0);
}

/* ------------------------------------------------------------------ permissions, principals */

static int
permission(struct hb_cfg *cfg, const void *owner_msg, const char *field, int index, const void *msg,
	struct hb_rule *r)
{
	const permission_msg *p = msg;

	switch (p->rule_case) {
	case PERMISSION(AND_RULES):
		return (rule_set(cfg, p->and_rules, "rules", p->and_rules->n_rules,
			(void *const *)p->and_rules->rules, HB_RULE_AND, permission, r));
	case PERMISSION(OR_RULES):
		return (rule_set(cfg, p->or_rules, "rules", p->or_rules->n_rules,
			(void *const *)p->or_rules->rules, HB_RULE_OR, permission, r));
	case PERMISSION(ANY):
		return (rule_any(cfg, p, p->any, r));
	case PERMISSION(DESTINATION_IP):
		return (rule_ip(cfg, p, "destination_ip", p->destination_ip, HB_RULE_LOCAL, r));
	case PERMISSION(DESTINATION_PORT):
		if (p->destination_port > UINT16_MAX)
			return (hb_cfg_error(cfg, p, "destination_port", -1,
				"%u is not a port: at most 65535", p->destination_port));
		return (rule_ports(cfg, p, "destination_port", p->destination_port,
			(int64_t)p->destination_port + 1, r));
	case PERMISSION(DESTINATION_PORT_RANGE):
		return (rule_ports(cfg, p, "destination_port_range",
			p->destination_port_range->start, p->destination_port_range->end, r));
	case PERMISSION(METADATA):
		return (rule_metadata(cfg, p, "metadata", p->metadata, r));
	case PERMISSION(SOURCED_METADATA):
		return (rule_sourced(cfg, p->sourced_metadata, r));
	case PERMISSION(NOT_RULE):
		return (rule_not(cfg, p, "not_rule", p->not_rule, permission, r));
	case PERMISSION(REQUESTED_SERVER_NAME):
		r->kind = HB_RULE_SNI;
		r->string = hb_string_matcher_compile(
			cfg, p, "requested_server_name", -1, p->requested_server_name);
		return (r->string == NULL ? -EINVAL : 0);
	default:
		return (hb_cfg_error(cfg, owner_msg, field, index,
			"needs one kind of permission, for example any: true"));
	}
}

static int
authenticated(struct hb_cfg *cfg, const Envoy__Config__Rbac__V3__Principal__Authenticated *a,
	struct hb_rule *r)
{
	r->kind = HB_RULE_AUTHENTICATED;
	if (a->principal_name == NULL)
		return (0);
	r->string = hb_string_matcher_compile(cfg, a, "principal_name", -1, a->principal_name);
	return (r->string == NULL ? -EINVAL : 0);
}

static int
principal(struct hb_cfg *cfg, const void *owner_msg, const char *field, int index, const void *msg,
	struct hb_rule *r)
{
	const principal_msg *p = msg;

	switch (p->identifier_case) {
	case PRINCIPAL(AND_IDS):
		return (rule_set(cfg, p->and_ids, "ids", p->and_ids->n_ids,
			(void *const *)p->and_ids->ids, HB_RULE_AND, principal, r));
	case PRINCIPAL(OR_IDS):
		return (rule_set(cfg, p->or_ids, "ids", p->or_ids->n_ids,
			(void *const *)p->or_ids->ids, HB_RULE_OR, principal, r));
	case PRINCIPAL(ANY):
		return (rule_any(cfg, p, p->any, r));
	case PRINCIPAL(AUTHENTICATED):
		return (authenticated(cfg, p->authenticated, r));
	case PRINCIPAL(SOURCE_IP):
		return (rule_ip(cfg, p, "source_ip", p->source_ip, HB_RULE_REMOTE, r));
	case PRINCIPAL(REMOTE_IP):
		return (rule_ip(cfg, p, "remote_ip", p->remote_ip, HB_RULE_REMOTE, r));
	case PRINCIPAL(DIRECT_REMOTE_IP):
		return (rule_ip(
			cfg, p, "direct_remote_ip", p->direct_remote_ip, HB_RULE_DIRECT_REMOTE, r));
	case PRINCIPAL(METADATA):
		return (rule_metadata(cfg, p, "metadata", p->metadata, r));
	case PRINCIPAL(SOURCED_METADATA):
		return (rule_sourced(cfg, p->sourced_metadata, r));
	case PRINCIPAL(FILTER_STATE):
		r->kind = HB_RULE_STATE;
		r->state = hb_state_matcher_compile(cfg, p, "filter_state", p->filter_state);
		return (r->state == NULL ? -EINVAL : 0);
	case PRINCIPAL(NOT_ID):
		return (rule_not(cfg, p, "not_id", p->not_id, principal, r));
	default:
		return (hb_cfg_error(cfg, owner_msg, field, index,
			"needs one kind of principal, for example any: true"));
	}
}

int
hb_rule__permissions(struct hb_cfg *cfg, const void *owner_msg, const char *field, size_t n,
	void *const *permissions, struct hb_rule *ret)
{
	return (rule_set(cfg, owner_msg, field, n, permissions, HB_RULE_OR, permission, ret));
}

int
hb_rule__principals(struct hb_cfg *cfg, const void *owner_msg, const char *field, size_t n,
	void *const *principals, struct hb_rule *ret)
{
	return (rule_set(cfg, owner_msg, field, n, principals, HB_RULE_OR, principal, ret));
}

void
hb_rule__fini(struct hb_rule *r)
{
	hb_string_matcher_free(&r->string);
	hb_metadata_matcher_free(&r->metadata);
	hb_state_matcher_free(&r->state);
	for (size_t i = 0; i < r->n; i++)
		hb_rule__fini(&r->v[i]);
	hb_free(r->v);
	r->v = NULL;
	r->n = 0;
}

/* ------------------------------------------------------------------ deciding */

static const struct hb_addr *
rule_addr(const struct hb_rule *r, const struct hb_facts *f)
{
	return (r->addr == HB_RULE_LOCAL          ? &f->local :
			r->addr == HB_RULE_REMOTE ? &f->remote :
						    hb_facts_direct_remote(f));
}

/* URI names when there are any, else DNS names when there are any, else the subject. */
static bool
authenticated_match(const struct hb_rule *r, const struct hb_facts *f)
{
	static const int types[] = { HB_SAN_URI, HB_SAN_DNS };
	const struct hb_facts *id = hb_facts_identity(f);
	struct hb_str name;

	if (id == NULL || r->string == NULL)
		return (id != NULL);
	for (unsigned t = 0; t < HB_ARRAY_LEN(types); t++) {
		size_t i = 0;

		for (; (name = hb_match__identity_san(id, types[t], i)).p != NULL; i++) {
			if (hb_string_match(r->string, name))
				return (true);
		}
		if (i > 0)
			return (false);
	}
	return (hb_string_match(r->string, hb_str(hb_match__identity_subject(id))));
}

bool
hb_rule__match(const struct hb_rule *r, const struct hb_facts *f)
{
	switch (r->kind) {
	case HB_RULE_ANY:
		return (true);
	case HB_RULE_NOT:
		return (!hb_rule__match(r->v, f));
	case HB_RULE_AND:
	case HB_RULE_OR:
		for (size_t i = 0; i < r->n; i++) {
			if (hb_rule__match(&r->v[i], f) == (r->kind == HB_RULE_OR))
				return (r->kind == HB_RULE_OR);
		}
		return (r->kind == HB_RULE_AND);
	case HB_RULE_IP:
		return (hb_cidr_contains(&r->cidr, rule_addr(r, f)));
	case HB_RULE_PORT:
		return ((f->local.kind == HB_ADDR_V4 || f->local.kind == HB_ADDR_V6) &&
			f->local.port >= r->port_start && f->local.port < r->port_end);
	case HB_RULE_SNI:
		return (hb_string_match(r->string, hb_facts_hello(f)->sni));
	case HB_RULE_AUTHENTICATED:
		return (authenticated_match(r, f));
	case HB_RULE_METADATA:
		return (hb_metadata_match(r->metadata, f));
	case HB_RULE_STATE:
		return (hb_state_match(r->state, f));
	default:
		HB_WRONG("no such rule");
	}
}

/* ------------------------------------------------------------------ for people */

static void
rule_set_text(struct hb_text *t, const struct hb_rule *r)
{
	if (r->n > 1)
		hb_text_addc(t, '(');
	for (size_t i = 0; i < r->n; i++) {
		if (i > 0)
			hb_text_addz(t, r->kind == HB_RULE_OR ? " or " : " and ");
		hb_rule__text(t, &r->v[i]);
	}
	if (r->n > 1)
		hb_text_addc(t, ')');
}

void
hb_rule__text(struct hb_text *t, const struct hb_rule *r)
{
	static const char *const addrs[] = { "destination_ip", "remote_ip", "direct_remote_ip" };

	switch (r->kind) {
	case HB_RULE_ANY:
		hb_text_addz(t, "any");
		break;
	case HB_RULE_NOT:
		hb_text_addz(t, "not ");
		hb_rule__text(t, r->v);
		break;
	case HB_RULE_AND:
	case HB_RULE_OR:
		rule_set_text(t, r);
		break;
	case HB_RULE_IP:
		hb_text_printf(t, "%s in ", addrs[r->addr]);
		hb_match__cidr_text(t, &r->cidr);
		break;
	case HB_RULE_PORT:
		if (r->port_end == r->port_start + 1)
			hb_text_printf(t, "destination_port %u", r->port_start);
		else
			hb_text_printf(t, "destination_port %u-%u", r->port_start, r->port_end - 1);
		break;
	case HB_RULE_SNI:
		hb_text_addz(t, "requested_server_name ");
		hb_match__string_text(t, r->string);
		break;
	case HB_RULE_AUTHENTICATED:
		hb_text_addz(t, "authenticated");
		if (r->string != NULL) {
			hb_text_addz(t, " name ");
			hb_match__string_text(t, r->string);
		}
		break;
	case HB_RULE_METADATA:
		hb_match__metadata_text(t, r->metadata);
		break;
	default:
		hb_match__state_text(t, r->state);
	}
}

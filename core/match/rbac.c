/* SPDX-License-Identifier: Apache-2.0 */
#include "core/match/rbac_priv.h"

#include <stdlib.h>

#include "core/identity/identity.h"
#include "envoy/config/rbac/v3/rbac.pb-c.h"
#include "xds/type/matcher/v3/matcher.pb-c.h"

#define RBAC_MAGIC        0x4bacf001
#define RBAC_ACTION_MAGIC 0x4bacf002
#define WHY_MAX           1024u

typedef Envoy__Config__Rbac__V3__RBAC rbac_msg;
typedef Envoy__Config__Rbac__V3__Policy policy_msg;
#define ACTION(name) ENVOY__CONFIG__RBAC__V3__RBAC__ACTION__##name

struct policy {
	char *name; /* owned */
	struct hb_rule permissions, principals;
};

struct hb_rbac {
	unsigned magic;
	int action;              /* of the policies              */
	struct policy *policies; /* owned, sorted by name        */
	size_t n_policies;
	struct hb_matcher *matcher; /* owned; instead of policies  */
};

/* A result of the matcher. */
struct rbac_action {
	unsigned magic;
	int action;
	char *name; /* owned */
};

/* ------------------------------------------------------------------ compile */

static int
policy_compile(struct hb_cfg *cfg, const void *entry, const char *name, const policy_msg *m,
	struct policy *p)
{
	int error = 0;

	p->name = hb_strdup(name);
	if (*name == '\0')
		error = hb_cfg_error(cfg, entry, NULL, -1, "a policy needs a name");
	if (m == NULL)
		return (hb_cfg_error(cfg, entry, NULL, -1, "policy \"%s\" is empty", name));
	error |= hb_rule__permissions(cfg, m, "permissions", m->n_permissions,
		(void *const *)m->permissions, &p->permissions);
	error |= hb_rule__principals(cfg, m, "principals", m->n_principals,
		(void *const *)m->principals, &p->principals);
	return (error);
}

static int
policy_cmp(const void *a, const void *b)
{
	return (strcmp(((const struct policy *)a)->name, ((const struct policy *)b)->name));
}

static int
action_compile(struct hb_cfg *cfg, const void *owner_msg, const ProtobufCMessage *msg, void *arg,
	const void **ret)
{
	const Envoy__Config__Rbac__V3__Action *m = (const void *)msg;
	struct rbac_action *a;

	(void)arg;
	if (msg->descriptor != &envoy__config__rbac__v3__action__descriptor)
		return (hb_cfg_error(cfg, owner_msg, "typed_config", -1,
			"%s is no action here; use envoy.config.rbac.v3.Action",
			msg->descriptor->name));
	if (*m->name == '\0')
		return (hb_cfg_error(cfg, m, "name", -1, "must not be empty"));
	if (m->action != ACTION(ALLOW) && m->action != ACTION(DENY) && m->action != ACTION(LOG))
		return (hb_cfg_error(cfg, m, "action", -1, "%d is no action", (int)m->action));
	HB_NEW(a, RBAC_ACTION_MAGIC);
	a->name = hb_strdup(m->name);
	a->action = (int)m->action;
	*ret = a;
	return (0);
}

static void
action_free(const void *action)
{
	struct rbac_action *a;

	HB_CAST(a, (void *)(uintptr_t)action, RBAC_ACTION_MAGIC);
	hb_free(a->name);
	HB_DEL(a);
}

static int
policies_compile(struct hb_cfg *cfg, const rbac_msg *m, struct hb_rbac *r)
{
	int error = 0;

	r->action = (int)m->action;
	if (r->action != ACTION(ALLOW) && r->action != ACTION(DENY) && r->action != ACTION(LOG))
		error = hb_cfg_error(cfg, m, "action", -1, "%d is no action", r->action);
	r->policies = hb_calloc(m->n_policies + 1, sizeof *r->policies);
	r->n_policies = m->n_policies;
	for (size_t i = 0; i < m->n_policies; i++)
		error |= policy_compile(cfg, m->policies[i], m->policies[i]->key,
			m->policies[i]->value, &r->policies[i]);
	qsort(r->policies, r->n_policies, sizeof *r->policies, policy_cmp);
	return (error);
}

struct hb_rbac *
hb_rbac_compile(struct hb_cfg *cfg, const void *owner_msg, const char *field, const void *msg)
{
	const ProtobufCMessage *base = msg;
	struct hb_rbac *r;
	int error = 0;

	if (msg == NULL) {
		hb_cfg_error(cfg, owner_msg, field, -1, "is missing");
		return (NULL);
	}
	HB_NEW(r, RBAC_MAGIC);
	if (base->descriptor == &xds__type__matcher__v3__matcher__descriptor) {
		r->matcher = hb_matcher_compile(
			cfg, owner_msg, field, msg, action_compile, action_free, NULL);
		error = r->matcher == NULL ? -EINVAL : 0;
	} else {
		HB_ASSERT(base->descriptor == &envoy__config__rbac__v3__rbac__descriptor);
		error = policies_compile(cfg, msg, r);
	}
	if (error != 0)
		hb_rbac_free(&r);
	return (r);
}

void
hb_rbac_free(struct hb_rbac **rp)
{
	struct hb_rbac *r = *rp;

	if (r == NULL)
		return;
	HB_CHECK(r, RBAC_MAGIC);
	for (size_t i = 0; i < r->n_policies; i++) {
		hb_free(r->policies[i].name);
		hb_rule__fini(&r->policies[i].permissions);
		hb_rule__fini(&r->policies[i].principals);
	}
	hb_free(r->policies);
	hb_matcher_free(&r->matcher);
	HB_DEL(*rp);
}

/* ------------------------------------------------------------------ decide */

static struct hb_rbac_result
result(int action, const char *policy)
{
	struct hb_rbac_result r = { .policy = policy };

	if (action == ACTION(ALLOW))
		r.verdict = policy != NULL ? HB_RBAC_ALLOW : HB_RBAC_DENY;
	else if (action == ACTION(DENY))
		r.verdict = policy != NULL ? HB_RBAC_DENY : HB_RBAC_ALLOW;
	else
		r.verdict = HB_RBAC_ALLOW;
	r.log = action == ACTION(LOG) && policy != NULL;
	return (r);
}

static struct hb_rbac_result
matcher_result(const struct rbac_action *a)
{
	return (a == NULL ? result(ACTION(ALLOW), NULL) : result(a->action, a->name));
}

struct hb_rbac_result
hb_rbac_eval(const struct hb_rbac *r, const struct hb_facts *f)
{
	HB_CHECK(r, RBAC_MAGIC);
	if (r->matcher != NULL)
		return (matcher_result(hb_matcher_eval(r->matcher, f)));
	for (size_t i = 0; i < r->n_policies; i++) {
		const struct policy *p = &r->policies[i];

		if (hb_rule__match(&p->permissions, f) && hb_rule__match(&p->principals, f))
			return (result(r->action, p->name));
	}
	return (result(r->action, NULL));
}

bool
hb_rbac_logs(const struct hb_rbac *r)
{
	HB_CHECK(r, RBAC_MAGIC);
	return (r->matcher == NULL && r->action == ACTION(LOG));
}

/* ------------------------------------------------------------------ explain */

static void
explain_policy(const struct policy *p, const struct hb_facts *f, const struct hb_explain_sink *sink)
{
	bool permitted = hb_rule__match(&p->permissions, f);
	bool match = permitted && hb_rule__match(&p->principals, f);
	const struct hb_rule *why_not = permitted ? &p->principals : &p->permissions;
	struct hb_text why = { .cap_max = WHY_MAX };

	if (match) {
		hb_text_addz(&why, "permission ");
		hb_rule__text(&why, &p->permissions);
		hb_text_addz(&why, ", principal ");
		hb_rule__text(&why, &p->principals);
	} else {
		hb_text_printf(&why, "no %s matches: ", permitted ? "principal" : "permission");
		hb_rule__text(&why, why_not);
	}
	sink->line(sink->arg, p->name, match ? "match" : "lost", why.p == NULL ? "" : why.p);
	hb_text_fini(&why);
}

static void
explain_peer(const struct hb_facts *f, const struct hb_explain_sink *sink)
{
	const struct hb_facts *id = hb_facts_identity(f);
	struct hb_text why = { .cap_max = WHY_MAX };
	char addr[HB_ADDR_TEXT_MAX];
	struct hb_str name = { 0 }, sni = hb_facts_hello(f)->sni;

	if (id != NULL && (name = hb_match__identity_san(id, HB_SAN_URI, 0)).p == NULL &&
		(name = hb_match__identity_san(id, HB_SAN_DNS, 0)).p == NULL)
		name = hb_str(hb_match__identity_subject(id));
	(void)hb_addr_format(&f->remote, addr, sizeof addr);
	hb_text_printf(&why, "from %s, ", addr);
	(void)hb_addr_format(&f->local, addr, sizeof addr);
	hb_text_printf(&why, "to %s, server name ", addr);
	hb_text_json(&why, sni.p == NULL ? "" : sni.p, sni.len);
	hb_text_printf(&why, ", %s%.*s", id == NULL ? "not authenticated" : "authenticated as ",
		HB_STR_FMT(name));
	sink->line(sink->arg, "connection", "facts", why.p);
	hb_text_fini(&why);
}

void
hb_rbac_explain(
	const struct hb_rbac *r, const struct hb_facts *f, const struct hb_explain_sink *sink)
{
	static const char *const actions[] = { "ALLOW", "DENY", "LOG" };
	struct hb_rbac_result verdict = hb_rbac_eval(r, f);
	struct hb_text why = { .cap_max = WHY_MAX };

	explain_peer(f, sink);
	if (r->matcher != NULL)
		(void)hb_matcher_explain(r->matcher, f, sink);
	for (size_t i = 0; i < r->n_policies; i++) {
		explain_policy(&r->policies[i], f, sink);
		/* Later ones are not looked at. */
		if (verdict.policy == r->policies[i].name)
			break;
	}
	if (verdict.policy != NULL)
		hb_text_printf(&why, "policy \"%s\" matches", verdict.policy);
	else
		hb_text_addz(&why, "no policy matches");
	if (r->matcher == NULL)
		hb_text_printf(&why, " and the action is %s", actions[r->action]);
	sink->line(sink->arg, "rbac", verdict.verdict == HB_RBAC_ALLOW ? "allow" : "deny", why.p);
	hb_text_fini(&why);
}

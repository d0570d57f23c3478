/* SPDX-License-Identifier: Apache-2.0 */
#include "core/mesh/authz_priv.h"

#include <stdio.h>

#define AUTHZ_MAGIC 0xa0712002
#define WHY_MAX     1024u

struct list {
	const struct hb_authz_policy **v; /* owned; what it points to is borrowed */
	size_t n, cap;
};

struct hb_authz {
	unsigned magic;
	struct list deny, allow; /* in the order they came, those in dry run too */
	size_t n_allow, n_dry;   /* ALLOW policies that are enforced; policies in dry run */
	char *unknown;           /* owned; the first policy that does not exist; NULL = none */
};

/* ------------------------------------------------------------------ one policy */

const char *
hb_authz_policy_key(const struct hb_authz_policy *p)
{
	HB_CHECK(p, HB_AUTHZ_POLICY_MAGIC);
	return (p->key.p);
}

struct hb_str
hb_authz_policy_namespace(const struct hb_authz_policy *p)
{
	HB_CHECK(p, HB_AUTHZ_POLICY_MAGIC);
	return (p->ns);
}

enum hb_authz_scope
hb_authz_policy_scope(const struct hb_authz_policy *p)
{
	HB_CHECK(p, HB_AUTHZ_POLICY_MAGIC);
	return ((enum hb_authz_scope)p->scope);
}

bool
hb_authz_policy_denies(const struct hb_authz_policy *p)
{
	HB_CHECK(p, HB_AUTHZ_POLICY_MAGIC);
	return (p->deny);
}

bool
hb_authz_policy_dry_run(const struct hb_authz_policy *p)
{
	HB_CHECK(p, HB_AUTHZ_POLICY_MAGIC);
	return (p->dry_run);
}

bool
hb_authz_policy_match(const struct hb_authz_policy *p, const struct hb_facts *f)
{
	struct hb_authz_peer peer;

	hb_authz__peer(f, &peer);
	return (hb_authz__match(p, &peer));
}

/* ------------------------------------------------------------------ the set */

struct hb_authz *
hb_authz_new(void)
{
	struct hb_authz *a;

	HB_NEW(a, AUTHZ_MAGIC);
	return (a);
}

void
hb_authz_free(struct hb_authz **ap)
{
	struct hb_authz *a = *ap;

	if (a == NULL)
		return;
	HB_CHECK(a, AUTHZ_MAGIC);
	*ap = NULL;
	hb_free(a->deny.v);
	hb_free(a->allow.v);
	hb_free(a->unknown);
	HB_DEL(a);
}

void
hb_authz_add(struct hb_authz *a, const struct hb_authz_policy *p)
{
	struct list *l;

	HB_CHECK(a, AUTHZ_MAGIC);
	HB_CHECK(p, HB_AUTHZ_POLICY_MAGIC);
	l = p->deny ? &a->deny : &a->allow;
	if (l->n == l->cap) {
		l->cap = HB_MAX(l->cap * 2, (size_t)4);
		l->v = hb_realloc(l->v, l->cap * sizeof(*l->v));
	}
	l->v[l->n++] = p;
	a->n_dry += p->dry_run;
	a->n_allow += !p->deny && !p->dry_run;
}

void
hb_authz_add_unknown(struct hb_authz *a, const char *key)
{
	HB_CHECK(a, AUTHZ_MAGIC);
	if (a->unknown == NULL)
		a->unknown = hb_strdup(key);
}

size_t
hb_authz_count(const struct hb_authz *a)
{
	HB_CHECK(a, AUTHZ_MAGIC);
	return (a->deny.n + a->allow.n);
}

bool
hb_authz_has_dry_run(const struct hb_authz *a)
{
	HB_CHECK(a, AUTHZ_MAGIC);
	return (a->n_dry > 0);
}

/* ------------------------------------------------------------------ decide */

/* The first that matches; those in dry run count only when asked for. */
static const struct hb_authz_policy *
first_match(const struct list *l, const struct hb_authz_peer *p, bool dry)
{
	for (size_t i = 0; i < l->n; i++) {
		if ((dry || !l->v[i]->dry_run) && hb_authz__match(l->v[i], p))
			return (l->v[i]);
	}
	return (NULL);
}

static struct hb_authz_verdict
decide(const struct hb_authz *a, const struct hb_authz_peer *p, bool dry)
{
	size_t n_allow = dry ? a->allow.n : a->n_allow;
	const struct hb_authz_policy *policy = first_match(&a->deny, p, dry);

	if (policy != NULL)
		return ((struct hb_authz_verdict){ HB_AUTHZ_DENIED, policy->key.p });
	if (a->unknown != NULL)
		return ((struct hb_authz_verdict){ HB_AUTHZ_UNKNOWN, a->unknown });
	if (n_allow == 0)
		return ((struct hb_authz_verdict){ HB_AUTHZ_NO_ALLOW_POLICY, NULL });
	policy = first_match(&a->allow, p, dry);
	if (policy == NULL)
		return ((struct hb_authz_verdict){ HB_AUTHZ_NONE_ALLOWED, NULL });
	return ((struct hb_authz_verdict){ HB_AUTHZ_ALLOWED, policy->key.p });
}

struct dry_hits {
	void (*fn)(void *arg, const struct hb_authz_policy *); /* NULL = only count */
	void *arg;
	unsigned n;
};

static void
dry_list(const struct list *l, const struct hb_authz_peer *p, struct dry_hits *hits)
{
	for (size_t i = 0; i < l->n; i++) {
		if (!l->v[i]->dry_run || !hb_authz__match(l->v[i], p))
			continue;
		hits->n++;
		if (hits->fn != NULL)
			hits->fn(hits->arg, l->v[i]);
	}
}

static void
dry_all(const struct hb_authz *a, const struct hb_authz_peer *p, struct dry_hits *hits)
{
	if (a->n_dry == 0)
		return;
	dry_list(&a->deny, p, hits);
	dry_list(&a->allow, p, hits);
}

struct hb_authz_result
hb_authz_eval(const struct hb_authz *a, const struct hb_facts *f)
{
	struct hb_authz_result r;
	struct hb_authz_peer peer;
	struct dry_hits hits = { 0 };

	HB_CHECK(a, AUTHZ_MAGIC);
	hb_authz__peer(f, &peer);
	r.enforced = decide(a, &peer, false);
	r.dry = a->n_dry == 0 ? r.enforced : decide(a, &peer, true);
	dry_all(a, &peer, &hits);
	r.dry_hits = hits.n;
	return (r);
}

void
hb_authz_dry_hits(const struct hb_authz *a, const struct hb_facts *f,
	void (*fn)(void *arg, const struct hb_authz_policy *), void *arg)
{
	struct hb_authz_peer peer;
	struct dry_hits hits = { .fn = fn, .arg = arg };

	HB_CHECK(a, AUTHZ_MAGIC);
	hb_authz__peer(f, &peer);
	dry_all(a, &peer, &hits);
}

void
hb_authz_reason(struct hb_authz_verdict v, char *dst, size_t cap)
{
	switch (v.why) {
	case HB_AUTHZ_NO_ALLOW_POLICY:
		(void)snprintf(dst, cap, "no allow policy exists");
		break;
	case HB_AUTHZ_ALLOWED:
		(void)snprintf(dst, cap, "allowed by: %s", v.policy);
		break;
	case HB_AUTHZ_DENIED:
		(void)snprintf(dst, cap, "explicitly denied by: %s", v.policy);
		break;
	case HB_AUTHZ_UNKNOWN:
		(void)snprintf(dst, cap, "policy is not known: %s", v.policy);
		break;
	default:
		(void)snprintf(dst, cap, "allow policies exist, but none allowed");
		break;
	}
}

/* ------------------------------------------------------------------ explain */

static void
explain_peer(const struct hb_authz_peer *p, const struct hb_explain_sink *sink)
{
	struct hb_text why = { .cap_max = WHY_MAX };
	char ip[HB_ADDR_TEXT_MAX];

	(void)hb_addr_format_ip(&p->source, ip, sizeof ip);
	hb_text_printf(&why, "from %s, ", ip);
	(void)hb_addr_format_ip(&p->destination, ip, sizeof ip);
	hb_text_printf(&why, "to %s port %u, ", ip, p->port);
	if (!p->known)
		hb_text_addz(&why, "without identity");
	else
		hb_text_printf(&why, "principal %.*s, namespace \"%.*s\"", HB_STR_FMT(p->principal),
			HB_STR_FMT(p->ns));
	sink->line(sink->arg, "connection", "facts", why.p);
	hb_text_fini(&why);
}

/* True when it decides. */
static bool
explain_policy(const struct hb_authz_policy *policy, const struct hb_authz_peer *p,
	const struct hb_explain_sink *sink)
{
	bool match = hb_authz__match(policy, p);
	struct hb_text why = { .cap_max = WHY_MAX };

	hb_text_printf(&why, "%s%s policy %s", policy->deny ? "DENY" : "ALLOW",
		policy->dry_run ? " (dry run)" : "", match ? "matches" : "does not match");
	if (policy->n == 0)
		hb_text_addz(&why, ": it has no groups");
	sink->line(sink->arg, policy->key.p, match ? "match" : "lost", why.p);
	hb_text_fini(&why);
	return (match && !policy->dry_run);
}

void
hb_authz_explain(
	const struct hb_authz *a, const struct hb_facts *f, const struct hb_explain_sink *sink)
{
	struct hb_authz_result r = hb_authz_eval(a, f);
	struct hb_authz_peer peer;
	char why[WHY_MAX];
	bool decided = false;

	hb_authz__peer(f, &peer);
	explain_peer(&peer, sink);
	for (size_t i = 0; i < a->deny.n && !decided; i++)
		decided = explain_policy(a->deny.v[i], &peer, sink);
	for (size_t i = 0; i < a->allow.n && !decided && a->unknown == NULL; i++)
		decided = explain_policy(a->allow.v[i], &peer, sink);
	if (r.dry.why != r.enforced.why || r.dry.policy != r.enforced.policy) {
		hb_authz_reason(r.dry, why, sizeof why);
		sink->line(sink->arg, "dry run", hb_authz_allows(r.dry) ? "allow" : "deny", why);
	}
	hb_authz_reason(r.enforced, why, sizeof why);
	sink->line(sink->arg, "authz", hb_authz_allows(r.enforced) ? "allow" : "deny", why);
}

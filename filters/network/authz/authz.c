/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Istio's authorization policies. As with rbac, everything that a policy asks for is known once the
 * peer is, so the decision is made in on_secured, before any later filter sees the connection.
 * What is decided is in core/mesh/authz.h; which policies apply, in core/mesh/policies.h.
 */
#include "core/base/log.h"
#include "core/filter/explain.h"
#include "core/filter/filter.h"
#include "core/mesh/policies.h"
#include "core/stats/stats.h"
#include "hbone/filters/network/authz/authz.pb-c.h"

#define AUTHZ_STATS(X)                                                                     \
	X(AUTHZ_ALLOWED, "allowed", COUNTER, "Connections and streams that may pass.")     \
	X(AUTHZ_DENIED, "denied", COUNTER, "Connections and streams that were refused.")   \
	X(AUTHZ_REVOKED, "revoked", COUNTER,                                               \
		"Open connections and streams that were ended because policies changed.")  \
	X(AUTHZ_DRY_RUN_ALLOWED, "dry_run_allowed", COUNTER,                               \
		"Decisions that would let pass if the policies in dry run were enforced.") \
	X(AUTHZ_DRY_RUN_DENIED, "dry_run_denied", COUNTER,                                 \
		"Decisions that would refuse if the policies in dry run were enforced.")   \
	X(AUTHZ_DRY_RUN_MATCHED, "dry_run_matched", COUNTER,                               \
		"Policies in dry run that matched, one for each policy and decision.")

enum authz_stat { AUTHZ_STATS(HB_STAT_ENUM) AUTHZ_STAT_MAX };
HB_STAT_FAMILY(authz_family, "authz", "hbone_authz", "hbone_authz_prefix", AUTHZ_STATS);

#define REASON_MAX HB_JUDGE_WHY_MAX /* two names of Kubernetes, and what is said about them */

typedef Hbone__Filters__Network__Authz__Authz authz_msg;

struct authz_conf {
	unsigned magic;
#define AUTHZ_CONF_MAGIC 0xa072c0f1
	struct hb_authz_policy **own; /* owned, each of them too */
	size_t n_own;
	struct hb_policy_view *view; /* owned           */
	struct hb_stats *stats;      /* counted reference */
};

/* ------------------------------------------------------------------ configuration */

static void
authz_conf_free(const void *conf)
{
	struct authz_conf *c;

	HB_CAST(c, (void *)(uintptr_t)conf, AUTHZ_CONF_MAGIC);
	hb_policy_view_free(&c->view);
	for (size_t i = 0; i < c->n_own; i++)
		hb_authz_policy_free(&c->own[i]);
	hb_free(c->own);
	hb_stats_unref(&c->stats);
	HB_DEL(c);
}

/* The number of the policy of this name, or -1. */
static int
own_find(const struct authz_conf *c, const char *key)
{
	for (size_t i = 0; i < c->n_own; i++) {
		if (c->own[i] != NULL && strcmp(hb_authz_policy_key(c->own[i]), key) == 0)
			return ((int)i);
	}
	return (-1);
}

static void
compile_policies(struct hb_cfg *cfg, const authz_msg *m, struct authz_conf *c)
{
	c->own = hb_calloc(m->n_policies + 1, sizeof(*c->own));
	for (size_t i = 0; i < m->n_policies; i++) {
		struct hb_authz_policy *p = hb_authz_policy_compile(cfg, m->policies[i]);

		if (p != NULL && own_find(c, hb_authz_policy_key(p)) >= 0)
			(void)hb_cfg_error(cfg, m, "policies", (int)i,
				"\"%s\" is there already, as policies[%d]", hb_authz_policy_key(p),
				own_find(c, hb_authz_policy_key(p)));
		c->own[c->n_own++] = p;
	}
}

static void
check_names(struct hb_cfg *cfg, const authz_msg *m, const struct authz_conf *c)
{
	for (size_t i = 0; i < m->n_workload_policies; i++) {
		const char *name = m->workload_policies[i];

		if (strchr(name, '/') == NULL)
			(void)hb_cfg_error(cfg, m, "workload_policies", (int)i,
				"\"%.200s\" must have the form namespace/name", name);
		else if (!m->shared_policies && own_find(c, name) < 0)
			(void)hb_cfg_error(cfg, m, "workload_policies", (int)i,
				"no policy of this filter is called \"%.200s\"; set shared_policies if it comes from elsewhere",
				name);
	}
}

static int
authz_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, const void **ret_conf)
{
	const authz_msg *m = (const void *)msg;
	struct hb_errs *errs = hb_cfg_errs(cfg);
	size_t before = errs->n + errs->dropped;
	struct authz_conf *c;

	HB_NEW(c, AUTHZ_CONF_MAGIC);
	compile_policies(cfg, m, c);
	check_names(cfg, m, c);
	if (m->n_policies == 0 && !m->shared_policies)
		(void)hb_cfg_error(cfg, m, "policies", -1,
			"are missing: without any, everything would pass; add one, or set shared_policies");
	if (errs->n + errs->dropped != before) {
		authz_conf_free(c);
		return (-EINVAL);
	}
	c->view = hb_policy_view_new(&(struct hb_policy_view_options){
		.ns = hb_str(m->namespace_),
		.names = (const char *const *)m->workload_policies,
		.n_names = m->n_workload_policies,
		.own = c->own,
		.n_own = c->n_own,
		.shared = m->shared_policies,
	});
	c->stats = hb_stats_get(&authz_family, hb_str(m->stat_prefix));
	*ret_conf = c;
	return (0);
}

/* ------------------------------------------------------------------ a decision */

static void
log_facts(const struct hb_facts *facts, uint64_t conn_id, const char *chain,
	enum hb_log_level level, const char *what, const char *policy, const char *reason)
{
	const struct hb_facts *id = hb_facts_identity(facts);
	struct hb_str peer = id == NULL ? HB_STR("") : hb_facts_tls(id)->principal;
	char remote[HB_ADDR_TEXT_MAX], local[HB_ADDR_TEXT_MAX];

	if (hb_log_levels[HB_LOG_C_RBAC] > (unsigned char)level)
		return;
	(void)hb_addr_format(&hb_facts_root(facts)->remote, remote, sizeof remote);
	(void)hb_addr_format(&facts->local, local, sizeof local);
	hb_log_write(HB_LOG_C_RBAC, level, what,
		" conn=%llu chain=%s policy=%s reason=%s remote=%s local=%s authority=%.*s peer=%.*s",
		(unsigned long long)conn_id, chain, policy == NULL ? "none" : policy, reason,
		remote, local, HB_STR_FMT(facts->authority), HB_STR_FMT(peer));
}

static void
log_decision(struct hb_filter *f, enum hb_log_level level, const char *what, const char *policy,
	const char *reason)
{
	log_facts(hb_filter_facts(f), hb_filter_conn_id(f), hb_filter_chain_name(f), level, what,
		policy, reason);
}

static void
dry_hit(void *arg, const struct hb_authz_policy *p)
{
	log_decision(arg, HB_LOG_INFO, "dry run policy matches", hb_authz_policy_key(p),
		hb_authz_policy_denies(p) ? "DENY" : "ALLOW");
}

static void
note_dry_run(struct hb_filter *f, const struct hb_authz *set, const struct hb_authz_result *r)
{
	const struct authz_conf *c = hb_filter_conf(f);
	struct hb_worker *w = hb_filter_worker(f);
	bool allows = hb_authz_allows(r->dry);
	char reason[REASON_MAX];

	if (!hb_authz_has_dry_run(set))
		return;
	hb_stat_inc(w, c->stats, allows ? AUTHZ_DRY_RUN_ALLOWED : AUTHZ_DRY_RUN_DENIED);
	hb_stat_add(w, c->stats, AUTHZ_DRY_RUN_MATCHED, r->dry_hits);
	if (!HB_LOG_ON(RBAC, INFO))
		return;
	hb_authz_dry_hits(set, hb_filter_facts(f), dry_hit, f);
	if (allows == hb_authz_allows(r->enforced))
		return;
	hb_authz_reason(r->dry, reason, sizeof reason);
	log_decision(f, HB_LOG_INFO, allows ? "dry run would allow" : "dry run would deny",
		r->dry.policy, reason);
}

/* True when the connection may go on; else it was closed. */
static bool
decide(struct hb_filter *f, bool revalidate)
{
	const struct authz_conf *c = hb_filter_conf(f);
	struct hb_worker *w = hb_filter_worker(f);
	const struct hb_authz *set = hb_policy_view_get(c->view);
	struct hb_authz_result r = hb_authz_eval(set, hb_filter_facts(f));
	bool allows = hb_authz_allows(r.enforced);
	char reason[REASON_MAX];

	if (!revalidate)
		note_dry_run(f, set, &r);
	if (allows && revalidate)
		return (true);
	hb_authz_reason(r.enforced, reason, sizeof reason);
	if (allows) {
		hb_stat_inc(w, c->stats, AUTHZ_ALLOWED);
		log_decision(f, HB_LOG_DEBUG, "allowed", r.enforced.policy, reason);
		return (true);
	}
	hb_stat_inc(w, c->stats, revalidate ? AUTHZ_REVOKED : AUTHZ_DENIED);
	log_decision(f, HB_LOG_INFO, revalidate ? "revoked" : "denied", r.enforced.policy, reason);
	hb_filter_set_detail(f, reason);
	hb_filter_close(f, revalidate ? HB_CLOSE_REVOKED : HB_CLOSE_RBAC_DENIED);
	return (false);
}

static void
authz_judge(const void *conf, struct hb_judge *j)
{
	const struct authz_conf *c = conf;
	struct hb_authz_result r = hb_authz_eval(hb_policy_view_get(c->view), j->facts);

	if (hb_authz_allows(r.enforced))
		return;
	j->denied = true;
	hb_authz_reason(r.enforced, j->why, sizeof j->why);
	hb_stat_inc(j->worker, c->stats, AUTHZ_REVOKED);
	log_facts(
		j->facts, j->conn_id, j->chain, HB_LOG_INFO, "revoked", r.enforced.policy, j->why);
}

/* ------------------------------------------------------------------ slots */

static enum hb_filter_status
authz_on_secured(struct hb_filter *f)
{
	return (decide(f, false) ? HB_FILTER_CONTINUE : HB_FILTER_STOP);
}

static void
authz_on_event(struct hb_filter *f, enum hb_event ev)
{
	if (ev == HB_EVENT_REVALIDATE)
		(void)decide(f, true);
}

static void
explain_line(void *arg, const char *subject, const char *verdict, const char *why)
{
	/* The last line is the filter's verdict, those before it are how it came about. */
	hb_explain_step(arg, strcmp(subject, "authz") == 0 ? "filter" : "policy", subject, verdict,
		"%s", why);
}

static void
authz_explain(const void *conf, const struct hb_facts *facts, struct hb_explain *ex)
{
	const struct authz_conf *c = conf;
	const struct hb_explain_sink sink = { .line = explain_line, .arg = ex };
	const struct hb_authz *set = hb_policy_view_get(c->view);

	hb_authz_explain(set, facts, &sink);
	if (!hb_authz_allows(hb_authz_eval(set, facts).enforced))
		hb_explain_stop(ex);
}

const struct hb_filter_type hb_filter_authz = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.flags = HB_FILTER_PLAIN,
	.kind = HB_FILTER_NETWORK,
	.name = "hbone.filters.network.authz",
	.config = &hbone__filters__network__authz__authz__descriptor,
	.compile = authz_compile,
	.conf_free = authz_conf_free,
	.on_secured = authz_on_secured,
	.on_event = authz_on_event,
	.explain = authz_explain,
	.judge = authz_judge,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network RBAC. Everything that a policy can ask for is known once the peer is: addresses, server
 * name, identity, metadata and filter state of listener filters. So the decision is made there, in
 * on_secured, which no later filter sees before: nothing is dialled for a denied connection, and no
 * greeting of a server that speaks first leaks to it. Envoy decides at the first byte from the
 * client; for what a client can observe of an allowed connection that makes no difference.
 */
#include "core/base/log.h"
#include "core/filter/explain.h"
#include "core/filter/filter.h"
#include "core/match/match.h"
#include "core/stats/stats.h"
#include "envoy/extensions/filters/network/rbac/v3/rbac.pb-c.h"

#include <ctype.h>
#include <stdio.h>

#define RBAC_STATS(X)                                                                                 \
	X(RBAC_ALLOWED, "allowed", COUNTER, "Decisions that let a connection pass.")                  \
	X(RBAC_DENIED, "denied", COUNTER, "Connections that were closed because of a policy.")        \
	X(RBAC_SHADOW_ALLOWED, "shadow_allowed", COUNTER,                                             \
		"Decisions of the shadow policies that would let a connection pass.")                 \
	X(RBAC_SHADOW_DENIED, "shadow_denied", COUNTER,                                               \
		"Decisions of the shadow policies that would close a connection.")                    \
	X(RBAC_REVOKED, "revoked", COUNTER,                                                           \
		"Open connections that were closed because they are denied since something changed.") \
	X(RBAC_METADATA_DROPPED, "metadata_dropped", COUNTER,                                         \
		"Notes about decisions that found the connection's metadata full.")

enum rbac_stat { RBAC_STATS(HB_STAT_ENUM) RBAC_STAT_MAX };
HB_STAT_FAMILY(rbac_family, "*.rbac.*", "envoy_rbac", "envoy_rbac_prefix", RBAC_STATS);

#define RBAC_NS  "envoy.filters.network.rbac"
#define HINT_NS  "envoy.common"
#define HINT_KEY "access_log_hint"

typedef Envoy__Extensions__Filters__Network__Rbac__V3__RBAC rbac_msg;

struct rbac_conf {
	unsigned magic;
#define RBAC_CONF_MAGIC 0x7bacc0f1
	struct hb_rbac *rules, *shadow;        /* owned; NULL = none                         */
	struct hb_stats *stats, *shadow_stats; /* counted references; one without prefix */
	char *shadow_policy_key, *shadow_result_key; /* owned                        */
	uint64_t delay_ms;
	bool continuous;
};

struct rbac {
	bool denied; /* and waiting for the timer */
};

/* ------------------------------------------------------------------ configuration */

static void
rbac_conf_free(const void *conf)
{
	struct rbac_conf *c;

	HB_CAST(c, (void *)(uintptr_t)conf, RBAC_CONF_MAGIC);
	hb_rbac_free(&c->rules);
	hb_rbac_free(&c->shadow);
	hb_stats_unref(&c->stats);
	hb_stats_unref(&c->shadow_stats);
	hb_free(c->shadow_policy_key);
	hb_free(c->shadow_result_key);
	HB_DEL(c);
}

static struct hb_rbac *
compile_one(struct hb_cfg *cfg, const rbac_msg *m, const char *rules_field, const void *rules,
	const char *matcher_field, const void *matcher)
{
	if (matcher != NULL && rules != NULL)
		hb_cfg_warn(
			cfg, m, rules_field, -1, "is ignored, because %s is there", matcher_field);
	if (matcher != NULL)
		return (hb_rbac_compile(cfg, m, matcher_field, matcher));
	return (rules == NULL ? NULL : hb_rbac_compile(cfg, m, rules_field, rules));
}

/*
 * Names as Envoy makes them: STAT_PREFIX.rbac.allowed, STAT_PREFIX.rbac.SHADOW_PREFIXshadow_allowed.
 * Istio's stat_prefix ends with the dot already ("tcp.").
 */
static void
scopes(struct rbac_conf *c, const rbac_msg *m)
{
	struct hb_str label = hb_str(m->stat_prefix);
	char *both;

	if (label.len > 1 && label.p[label.len - 1] == '.')
		label.len--;
	both = hb_asprintf("%.*s\n%s", HB_STR_FMT(label), m->shadow_rules_stat_prefix);
	c->stats = hb_stats_get(&rbac_family, label);
	c->shadow_stats = hb_stats_get(
		&rbac_family, *m->shadow_rules_stat_prefix == '\0' ? label : hb_str(both));
	hb_free(both);
}

static int
rbac_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, const void **ret_conf)
{
	const rbac_msg *m = (const void *)msg;
	struct hb_errs *errs = hb_cfg_errs(cfg);
	size_t before = errs->n + errs->dropped;
	struct rbac_conf *c;

	HB_NEW(c, RBAC_CONF_MAGIC);
	if (*m->stat_prefix == '\0')
		(void)hb_cfg_error(cfg, m, "stat_prefix", -1, "must not be empty");
	c->rules = compile_one(cfg, m, "rules", m->rules, "matcher", m->matcher);
	c->shadow = compile_one(
		cfg, m, "shadow_rules", m->shadow_rules, "shadow_matcher", m->shadow_matcher);
	c->delay_ms = hb_cfg_duration_ms(cfg, m, "delay_deny", m->delay_deny, 0);
	c->continuous = m->enforcement_type ==
		ENVOY__EXTENSIONS__FILTERS__NETWORK__RBAC__V3__RBAC__ENFORCEMENT_TYPE__CONTINUOUS;
	if (errs->n + errs->dropped != before) {
		rbac_conf_free(c);
		return (-EINVAL);
	}
	c->shadow_policy_key = hb_asprintf(
		"%sshadow_effective_policy_id", m->shadow_rules_stat_prefix);
	c->shadow_result_key = hb_asprintf("%sshadow_engine_result", m->shadow_rules_stat_prefix);
	scopes(c, m);
	*ret_conf = c;
	return (0);
}

/* ------------------------------------------------------------------ a decision */

static void
note(struct hb_filter *f, const char *ns, const char *key, const char *value)
{
	const struct rbac_conf *c = hb_filter_conf(f);

	if (!hb_facts_metadata_set(hb_filter_facts(f), hb_str(ns), hb_str(key), hb_str(value)))
		hb_stat_inc(hb_filter_worker(f), c->stats, RBAC_METADATA_DROPPED);
}

static void
log_facts(const struct hb_facts *facts, uint64_t conn_id, const char *chain,
	enum hb_log_level level, const char *what, const char *policy)
{
	const struct hb_facts *id = hb_facts_identity(facts);
	struct hb_str peer = id == NULL ? HB_STR("") : hb_facts_tls(id)->principal;
	char remote[HB_ADDR_TEXT_MAX], local[HB_ADDR_TEXT_MAX];

	if (hb_log_levels[HB_LOG_C_RBAC] > (unsigned char)level)
		return;
	(void)hb_addr_format(&facts->remote, remote, sizeof remote);
	(void)hb_addr_format(&facts->local, local, sizeof local);
	hb_log_write(HB_LOG_C_RBAC, level, what,
		" conn=%llu chain=%s policy=%s remote=%s local=%s sni=%.*s peer=%.*s",
		(unsigned long long)conn_id, chain, policy == NULL ? "none" : policy, remote, local,
		HB_STR_FMT(hb_facts_hello(facts)->sni), HB_STR_FMT(peer));
}

static void
log_decision(struct hb_filter *f, enum hb_log_level level, const char *what,
	const struct hb_rbac_result *r)
{
	log_facts(hb_filter_facts(f), hb_filter_conn_id(f), hb_filter_chain_name(f), level, what,
		r->policy);
}

static void
decide_shadow(struct hb_filter *f)
{
	const struct rbac_conf *c = hb_filter_conf(f);
	struct hb_rbac_result r;
	bool allowed;

	if (c->shadow == NULL)
		return;
	r = hb_rbac_eval(c->shadow, hb_filter_facts(f));
	allowed = r.verdict == HB_RBAC_ALLOW;
	hb_stat_inc(hb_filter_worker(f), c->shadow_stats,
		allowed ? RBAC_SHADOW_ALLOWED : RBAC_SHADOW_DENIED);
	note(f, RBAC_NS, c->shadow_result_key, allowed ? "allowed" : "denied");
	if (r.policy != NULL)
		note(f, RBAC_NS, c->shadow_policy_key, r.policy);
	log_decision(f, HB_LOG_DEBUG, allowed ? "shadow allowed" : "shadow denied", &r);
}

/* White space would break the columns of an access log. */
static void
format_detail(const char *policy, char *detail, size_t size)
{
	int n = snprintf(detail, size, "rbac_access_denied_matched_policy[%.200s]",
		policy == NULL ? "none" : policy);

	for (int i = 0; i < n && i < (int)size - 1; i++) {
		if (isspace((unsigned char)detail[i]))
			detail[i] = '_';
	}
}

static void
set_detail(struct hb_filter *f, const char *policy)
{
	char detail[256];

	format_detail(policy, detail, sizeof detail);
	hb_filter_set_detail(f, detail);
}

/* True when the connection may go on; else it was closed, or will be when the timer fires. */
static bool
decide(struct hb_filter *f, bool revalidate)
{
	const struct rbac_conf *c = hb_filter_conf(f);
	struct rbac *ctx = hb_filter_ctx(f);
	struct hb_worker *w = hb_filter_worker(f);
	struct hb_rbac_result r;

	if (c->rules == NULL)
		return (true);
	r = hb_rbac_eval(c->rules, hb_filter_facts(f));
	if (hb_rbac_logs(c->rules) || r.log)
		note(f, HINT_NS, HINT_KEY, r.log ? "true" : "false");
	if (r.verdict == HB_RBAC_ALLOW) {
		if (!revalidate)
			hb_stat_inc(w, c->stats, RBAC_ALLOWED);
		log_decision(f, HB_LOG_DEBUG, "allowed", &r);
		return (true);
	}
	hb_stat_inc(w, c->stats, revalidate ? RBAC_REVOKED : RBAC_DENIED);
	log_decision(f, HB_LOG_INFO, revalidate ? "revoked" : "denied", &r);
	set_detail(f, r.policy);
	ctx->denied = true;
	if (revalidate)
		hb_filter_close(f, HB_CLOSE_REVOKED);
	else if (c->delay_ms == 0)
		hb_filter_close(f, HB_CLOSE_RBAC_DENIED);
	else
		hb_filter_timer(f, c->delay_ms);
	return (false);
}

static void
rbac_judge(const void *conf, struct hb_judge *j)
{
	const struct rbac_conf *c = conf;
	struct hb_rbac_result r;

	if (c->rules == NULL)
		return;
	r = hb_rbac_eval(c->rules, j->facts);
	if (r.verdict == HB_RBAC_ALLOW)
		return;
	j->denied = true;
	format_detail(r.policy, j->why, sizeof j->why);
	hb_stat_inc(j->worker, c->stats, RBAC_REVOKED);
	log_facts(j->facts, j->conn_id, j->chain, HB_LOG_INFO, "revoked", r.policy);
}

/* ------------------------------------------------------------------ slots */

static enum hb_filter_status
rbac_on_secured(struct hb_filter *f)
{
	decide_shadow(f);
	return (decide(f, false) ? HB_FILTER_CONTINUE : HB_FILTER_STOP);
}

static enum hb_filter_status
rbac_on_read(struct hb_filter *f, struct hb_buf *buf, bool end)
{
	const struct rbac_conf *c = hb_filter_conf(f);

	if (!c->continuous)
		return (HB_FILTER_DETACH);
	decide_shadow(f);
	return (decide(f, false) ? HB_FILTER_CONTINUE : HB_FILTER_STOP);
}

static void
rbac_on_event(struct hb_filter *f, enum hb_event ev)
{
	struct rbac *ctx = hb_filter_ctx(f);

	if (ev == HB_EVENT_TIMER && ctx->denied)
		hb_filter_close(f, HB_CLOSE_RBAC_DENIED);
	else if (ev == HB_EVENT_REVALIDATE && !ctx->denied)
		(void)decide(f, true);
}

/* ------------------------------------------------------------------ explain */

static void
explain_line(void *arg, const char *subject, const char *verdict, const char *why)
{
	/* The last line is the filter's verdict, those before it are how it came about. */
	hb_explain_step(arg, strcmp(subject, "rbac") == 0 ? "filter" : "policy", subject, verdict,
		"%s", why);
}

static void
explain_shadow_line(void *arg, const char *subject, const char *verdict, const char *why)
{
	hb_explain_step(arg, "shadow_policy", subject, verdict, "%s", why);
}

static void
rbac_explain(const void *conf, const struct hb_facts *facts, struct hb_explain *ex)
{
	const struct rbac_conf *c = conf;
	const struct hb_explain_sink sink = { .line = explain_line, .arg = ex };
	const struct hb_explain_sink shadow = { .line = explain_shadow_line, .arg = ex };

	if (c->shadow != NULL)
		hb_rbac_explain(c->shadow, facts, &shadow);
	if (c->rules == NULL) {
		hb_explain_step(ex, "filter", "rbac", "pass", "has no rules to enforce");
		return;
	}
	hb_rbac_explain(c->rules, facts, &sink);
	if (hb_rbac_eval(c->rules, facts).verdict == HB_RBAC_DENY)
		hb_explain_stop(ex);
}

const struct hb_filter_type hb_filter_rbac = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.flags = HB_FILTER_PLAIN,
	.kind = HB_FILTER_NETWORK,
	.name = "hbone.filters.network.rbac",
	.alias = "envoy.filters.network.rbac",
	.config = &envoy__extensions__filters__network__rbac__v3__rbac__descriptor,
	.ctx_size = sizeof(struct rbac),
	.compile = rbac_compile,
	.conf_free = rbac_conf_free,
	.on_secured = rbac_on_secured,
	.on_read = rbac_on_read,
	.on_event = rbac_on_event,
	.explain = rbac_explain,
	.judge = rbac_judge,
};

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/filter/explain.h"
#include "core/filter/filter.h"
#include "core/stats/stats.h"
#include "envoy/extensions/filters/network/local_ratelimit/v3/local_rate_limit.pb-c.h"
#include "filters/network/local_ratelimit/bucket.h"

#define LOCAL_RATELIMIT_STATS(X) \
	X(LR_LIMITED, "rate_limited", COUNTER, "Connections closed because the bucket was empty.")

enum local_ratelimit_stat { LOCAL_RATELIMIT_STATS(HB_STAT_ENUM) LOCAL_RATELIMIT_STAT_MAX };
HB_STAT_FAMILY(local_ratelimit_family, "local_rate_limit", "envoy_local_rate_limit",
	"envoy_local_network_ratelimit_prefix", LOCAL_RATELIMIT_STATS);

typedef Envoy__Extensions__Filters__Network__LocalRatelimit__V3__LocalRateLimit msg_limit;
typedef Envoy__Type__V3__TokenBucket msg_bucket;

struct local_ratelimit_conf {
	unsigned magic;
#define LOCAL_RATELIMIT_CONF_MAGIC 0x15a9e3c2
	struct hb_stats *stats; /* counted reference */
	struct bucket *bucket;  /* counted reference */
	bool enabled;
};

static void
local_ratelimit_conf_free(const void *conf)
{
	struct local_ratelimit_conf *c;

	HB_CAST(c, (void *)conf, LOCAL_RATELIMIT_CONF_MAGIC);
	hb_stats_unref(&c->stats);
	bucket_put(&c->bucket);
	HB_DEL(c);
}

static void
compile_bucket(
	struct hb_cfg *cfg, const msg_limit *owner, const msg_bucket *m, struct bucket_config *ret)
{
	if (m == NULL) {
		(void)hb_cfg_error(cfg, owner, "token_bucket", -1, "is required");
		return;
	}
	ret->max = m->max_tokens;
	if (ret->max == 0)
		(void)hb_cfg_error(cfg, m, "max_tokens", -1, "must be at least 1");
	ret->per_fill = hb_cfg_u32(cfg, m, "tokens_per_fill", m->tokens_per_fill, 1, UINT32_MAX, 1);
	ret->interval_ms = hb_cfg_duration_ms(cfg, m, "fill_interval", m->fill_interval, 0);
	if (ret->interval_ms == 0)
		(void)hb_cfg_error(cfg, m, "fill_interval", -1, "is required and at least 1 ms");
}

static int
local_ratelimit_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, const void **ret_conf)
{
	const msg_limit *m = (const void *)msg;
	struct hb_errs *errs = hb_cfg_errs(cfg);
	size_t before = errs->n + errs->dropped;
	struct bucket_config bc = { 0 };
	struct local_ratelimit_conf *c;

	if (*m->stat_prefix == '\0')
		(void)hb_cfg_error(cfg, m, "stat_prefix", -1, "must not be empty");
	compile_bucket(cfg, m, m->token_bucket, &bc);
	if (errs->n + errs->dropped != before)
		return (-EINVAL);
	HB_NEW(c, LOCAL_RATELIMIT_CONF_MAGIC);
	c->enabled = m->runtime_enabled == NULL ||
		hb_cfg_bool(m->runtime_enabled->default_value, false);
	c->bucket = bucket_get(&bc, hb_str(m->share_key));
	c->stats = hb_stats_get(&local_ratelimit_family, hb_str(m->stat_prefix));
	*ret_conf = c;
	return (0);
}

static enum hb_filter_status
local_ratelimit_on_connected(struct hb_filter *f)
{
	const struct local_ratelimit_conf *c = hb_filter_conf(f);
	struct hb_worker *w = hb_filter_worker(f);

	if (!c->enabled || bucket_take(c->bucket, hb_now_ms(w)))
		return (HB_FILTER_CONTINUE);
	hb_stat_inc(w, c->stats, LR_LIMITED);
	hb_filter_close(f, HB_CLOSE_RATE_LIMITED);
	return (HB_FILTER_STOP);
}

static void
local_ratelimit_explain(const void *conf, const struct hb_facts *facts, struct hb_explain *ex)
{
	const struct local_ratelimit_conf *c = conf;
	struct hb_worker *w = hb_worker_current();
	uint32_t n;

	if (!c->enabled || w == NULL) {
		hb_explain_step(ex, "filter", "local_ratelimit", "pass", "%s",
			c->enabled ? "depends on the time" : "is turned off");
		return;
	}
	n = bucket_tokens(c->bucket, hb_now_ms(w));
	hb_explain_step(
		ex, "filter", "local_ratelimit", n > 0 ? "pass" : "deny", "%u tokens are left", n);
	if (n == 0)
		hb_explain_stop(ex);
}

const struct hb_filter_type hb_filter_local_ratelimit = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.kind = HB_FILTER_NETWORK,
	.name = "hbone.filters.network.local_ratelimit",
	.alias = "envoy.filters.network.local_ratelimit",
	.config =
		&envoy__extensions__filters__network__local_ratelimit__v3__local_rate_limit__descriptor,
	.compile = local_ratelimit_compile,
	.conf_free = local_ratelimit_conf_free,
	.on_connected = local_ratelimit_on_connected,
	.explain = local_ratelimit_explain,
};

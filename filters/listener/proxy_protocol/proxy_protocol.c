/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a PROXY header, takes the addresses from it and drops it. */
#include <stdio.h>
#include "core/filter/filter.h"
#include "core/stats/stats.h"
#include "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.pb-c.h"
#include "filters/listener/proxy_protocol/proxy_header.h"

#define DEFAULT_NAMESPACE "envoy.filters.listener.proxy_protocol"
#define TLV_TYPES         256u

#define STATS(X)                                                                               \
	X(V1_FOUND, "versions.v1.found", COUNTER, "Headers of version 1 that were used.")      \
	X(V1_DISALLOWED, "versions.v1.disallowed", COUNTER,                                    \
		"Connections closed because their header had version 1, which is disallowed.") \
	X(V1_ERROR, "versions.v1.error", COUNTER,                                              \
		"Connections closed because of a broken header of version 1.")                 \
	X(V2_FOUND, "versions.v2.found", COUNTER, "Headers of version 2 that were used.")      \
	X(V2_DISALLOWED, "versions.v2.disallowed", COUNTER,                                    \
		"Connections closed because their header had version 2, which is disallowed.") \
	X(V2_ERROR, "versions.v2.error", COUNTER,                                              \
		"Connections closed because of a broken header of version 2.")                 \
	X(NOT_FOUND_ALLOWED, "not_found_allowed", COUNTER,                                     \
		"Connections without a header that went on.")                                  \
	X(NOT_FOUND_DISALLOWED, "not_found_disallowed", COUNTER,                               \
		"Connections closed because they had no header.")                              \
	X(TLV_DROPPED, "tlv_dropped", COUNTER,                                                 \
		"TLVs that did not fit into the connection's metadata.")

enum proxy_protocol_stat { STATS(HB_STAT_ENUM) STAT_MAX };
HB_STAT_FAMILY(hb_proxy_protocol_family, "proxy_proto", "envoy_proxy_proto",
	"envoy_proxy_protocol_prefix", STATS);

struct proxy_protocol_rule {
	struct hb_str ns, key; /* in the configuration's arena */
	uint8_t type;
};

struct proxy_protocol_conf {
	unsigned magic;
#define PROXY_PROTOCOL_CONF_MAGIC 0x5e0c77a4
	struct hb_stats *stats; /* reference                           */
	struct hb_arena arena;
	struct proxy_protocol_rule *rules; /* owned, n_rules            */
	size_t n_rules;
	bool pass[TLV_TYPES]; /* TLVs kept for the upstream's header */
	bool disallowed[3];   /* by version                          */
	bool optional;
};

typedef Envoy__Extensions__Filters__Listener__ProxyProtocol__V3__ProxyProtocol msg_config;
typedef Envoy__Extensions__Filters__Listener__ProxyProtocol__V3__ProxyProtocol__Rule msg_rule;

/* ------------------------------------------------------------------ configuration */

static void
proxy_protocol_conf_free(const void *conf)
{
	struct proxy_protocol_conf *c;

	HB_CAST(c, (void *)(uintptr_t)conf, PROXY_PROTOCOL_CONF_MAGIC);
	hb_stats_unref(&c->stats);
	hb_arena_fini(&c->arena);
	hb_free(c->rules);
	HB_DEL(c);
}

static int
compile_rules(struct hb_cfg *cfg, const msg_config *m, struct proxy_protocol_conf *c)
{
	int r = 0;

	if (m->n_rules > HB_FACT_ENTRIES_MAX)
		return (hb_cfg_error(cfg, m, "rules", -1, "has %zu entries, the limit is %u",
			m->n_rules, HB_FACT_ENTRIES_MAX));
	c->rules = hb_calloc(m->n_rules + 1, sizeof *c->rules);
	for (size_t i = 0; i < m->n_rules; i++) {
		const msg_rule *rule = m->rules[i];
		struct proxy_protocol_rule *to = &c->rules[c->n_rules++];

		if (rule->tlv_type >= TLV_TYPES)
			r = hb_cfg_error(cfg, rule, "tlv_type", -1, "must be below 256");
		if (rule->on_tlv_present == NULL || *rule->on_tlv_present->key == '\0') {
			r = hb_cfg_error(cfg, rule, "on_tlv_present", -1,
				"needs a key: it names the value in the metadata");
			continue;
		}
		to->type = (uint8_t)rule->tlv_type;
		to->key = hb_arena_str(&c->arena, hb_str(rule->on_tlv_present->key));
		to->ns = hb_arena_str(&c->arena,
			*rule->on_tlv_present->metadata_namespace != '\0' ?
				hb_str(rule->on_tlv_present->metadata_namespace) :
				HB_STR(DEFAULT_NAMESPACE));
	}
	return (r);
}

static int
compile_pass(struct hb_cfg *cfg, const Envoy__Config__Core__V3__ProxyProtocolPassThroughTLVs *m,
	struct proxy_protocol_conf *c)
{
	int r = 0;

	if (m == NULL)
		return (0);
	if (m->match_type ==
		ENVOY__CONFIG__CORE__V3__PROXY_PROTOCOL_PASS_THROUGH_TLVS__PASS_TLVS_MATCH_TYPE__INCLUDE_ALL)
		memset(c->pass, true, sizeof c->pass);
	for (size_t i = 0; i < m->n_tlv_type; i++) {
		if (m->tlv_type[i] >= TLV_TYPES)
			r = hb_cfg_error(cfg, m, "tlv_type", (int)i, "must be below 256");
		else
			c->pass[m->tlv_type[i]] = true;
	}
	return (r);
}

static int
proxy_protocol_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, const void **ret_conf)
{
	const msg_config *m = (const void *)msg;
	struct proxy_protocol_conf *c;
	int r;

	HB_NEW(c, PROXY_PROTOCOL_CONF_MAGIC);
	c->optional = m->allow_requests_without_proxy_protocol;
	for (size_t i = 0; i < m->n_disallowed_versions; i++)
		c->disallowed[m->disallowed_versions[i] ==
					ENVOY__CONFIG__CORE__V3__PROXY_PROTOCOL_CONFIG__VERSION__V2 ?
				2 :
				1] = true;
	r = compile_rules(cfg, m, c);
	if (compile_pass(cfg, m->pass_through_tlvs, c) != 0)
		r = -EINVAL;
	if (c->disallowed[1] && c->disallowed[2])
		r = hb_cfg_error(cfg, m, "disallowed_versions", -1,
			"leaves no version: remove the filter, or allow one");
	c->stats = hb_stats_get(&hb_proxy_protocol_family, hb_str(m->stat_prefix));
	if (r != 0) {
		proxy_protocol_conf_free(c);
		return (r);
	}
	*ret_conf = c;
	return (0);
}

/* ------------------------------------------------------------------ connections */

static enum hb_filter_status
proxy_protocol_on_connected(struct hb_filter *f)
{
	hb_lfilter_max_bytes(f, HB_PROXY_V2_MAX);
	return (HB_FILTER_STOP);
}

static enum hb_filter_status
proxy_protocol_refuse(struct hb_filter *f, enum proxy_protocol_stat stat)
{
	const struct proxy_protocol_conf *c = hb_filter_conf(f);

	hb_stat_inc(hb_filter_worker(f), c->stats, stat);
	hb_filter_close(f, HB_CLOSE_LISTENER_FILTER);
	return (HB_FILTER_STOP);
}

static void
proxy_protocol_keep_tlvs(struct hb_filter *f, struct hb_str tlvs)
{
	const struct proxy_protocol_conf *c = hb_filter_conf(f);
	struct hb_facts *facts = hb_filter_facts(f);
	struct hb_str value;
	char key[8];
	uint8_t type;
	bool kept = true;

	while (hb_proxy_tlv_next(&tlvs, &type, &value)) {
		for (size_t i = 0; i < c->n_rules; i++)
			if (c->rules[i].type == type)
				kept = hb_facts_metadata_set(
					       facts, c->rules[i].ns, c->rules[i].key, value) &&
					kept;
		if (c->pass[type]) {
			(void)snprintf(key, sizeof key, "0x%02x", type);
			kept = hb_facts_metadata_set(
				       facts, HB_STR(HB_META_PROXY_TLVS), hb_str(key), value) &&
				kept;
		}
		if (!kept)
			hb_stat_inc(hb_filter_worker(f), c->stats, TLV_DROPPED);
		kept = true;
	}
}

static enum hb_filter_status
proxy_protocol_use(struct hb_filter *f, const struct hb_proxy_header *h)
{
	const struct proxy_protocol_conf *c = hb_filter_conf(f);
	struct hb_facts *facts = hb_filter_facts(f);

	if (c->disallowed[h->version])
		return (proxy_protocol_refuse(f, h->version == 1 ? V1_DISALLOWED : V2_DISALLOWED));
	if (h->addressed) {
		hb_facts_keep_direct(facts);
		facts->remote = h->source;
		facts->local_restored = facts->local_restored ||
			!hb_addr_eq(&facts->local, &h->destination);
		facts->local = h->destination;
	}
	proxy_protocol_keep_tlvs(f, h->tlvs);
	hb_stat_inc(hb_filter_worker(f), c->stats, h->version == 1 ? V1_FOUND : V2_FOUND);
	hb_lfilter_consume(f, h->size);
	return (HB_FILTER_CONTINUE);
}

static enum hb_filter_status
proxy_protocol_on_read(struct hb_filter *f, struct hb_buf *buf, bool end)
{
	const struct proxy_protocol_conf *c = hb_filter_conf(f);
	enum hb_proxy_status s = HB_PROXY_MORE;
	struct hb_proxy_header h;
	size_t n = HB_MIN(buf->len, HB_PROXY_V1_MAX);

	while (s == HB_PROXY_MORE) {
		s = hb_proxy_header_parse(hb_buf_pullup(buf, n), n, &h);
		if (s == HB_PROXY_MORE && h.size > buf->len)
			return (HB_FILTER_STOP);
		n = h.size;
	}
	switch (s) {
	case HB_PROXY_DONE:
		return (proxy_protocol_use(f, &h));
	case HB_PROXY_BAD:
		return (proxy_protocol_refuse(f, h.version == 1 ? V1_ERROR : V2_ERROR));
	case HB_PROXY_MORE:
	case HB_PROXY_NONE:
		break;
	}
	if (!c->optional)
		return (proxy_protocol_refuse(f, NOT_FOUND_DISALLOWED));
	hb_stat_inc(hb_filter_worker(f), c->stats, NOT_FOUND_ALLOWED);
	return (HB_FILTER_CONTINUE);
}

const struct hb_filter_type hb_lfilter_proxy_protocol = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.kind = HB_FILTER_LISTENER,
	.name = "hbone.filters.listener.proxy_protocol",
	.alias = "envoy.filters.listener.proxy_protocol",
	.config =
		&envoy__extensions__filters__listener__proxy_protocol__v3__proxy_protocol__descriptor,
	.compile = proxy_protocol_compile,
	.conf_free = proxy_protocol_conf_free,
	.on_connected = proxy_protocol_on_connected,
	.on_read = proxy_protocol_on_read,
};

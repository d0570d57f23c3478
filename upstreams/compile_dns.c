/* SPDX-License-Identifier: Apache-2.0 */
#include "envoy/extensions/clusters/dns/v3/dns_cluster.pb-c.h"
#include "envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver.pb-c.h"
#include "upstreams/compile.h"

#define REFRESH_MS 5000u

typedef Envoy__Config__Cluster__V3__Cluster Cluster;
typedef Envoy__Config__Cluster__V3__Cluster__RefreshRate ClusterRate;
typedef Envoy__Extensions__Clusters__Dns__V3__DnsCluster DnsCluster;
typedef Envoy__Extensions__Network__DnsResolver__Cares__V3__CaresDnsResolverConfig CaresMsg;

static int
name_servers(struct hb_cfg *cfg, const CaresMsg *m, struct hb_dns_settings *s)
{
	int r = 0;

	if (m->n_resolvers > HB_DNS_SERVERS_MAX)
		return (hb_cfg_error(
			cfg, m, "resolvers", -1, "has more than %u entries", HB_DNS_SERVERS_MAX));
	for (size_t i = 0; i < m->n_resolvers; i++) {
		struct hb_addr a;

		if (hb_compile_address(cfg, m, "resolvers", (int)i, m->resolvers[i], &a, NULL) !=
			0) {
			r = -EINVAL;
		} else if (a.kind == HB_ADDR_UNIX) {
			hb_free((void *)(uintptr_t)a.u.name);
			r = hb_cfg_error(
				cfg, m, "resolvers", (int)i, "must be an IP address and port");
		} else {
			s->servers[s->n_servers++] = a;
		}
	}
	return (r);
}

/* `typed`: envoy.config.core.v3.TypedExtensionConfig. */
static int
resolver(struct hb_cfg *cfg, const Envoy__Config__Core__V3__TypedExtensionConfig *typed,
	struct hb_dns_settings *s)
{
	const CaresMsg *m;

	if (typed == NULL)
		return (0);
	m = hb_cfg_any_of(cfg, typed, "typed_config", -1, typed->typed_config,
		&envoy__extensions__network__dns_resolver__cares__v3__cares_dns_resolver_config__descriptor);
	if (m == NULL)
		return (-EINVAL);
	s->tries = hb_cfg_u32(cfg, m, "query_tries", m->query_tries, 1, 100, 0);
	s->rotate = m->rotate_nameservers;
	if (m->query_timeout_seconds != NULL) {
		if (m->query_timeout_seconds->value < 1 || m->query_timeout_seconds->value > 3600)
			return (hb_cfg_error(
				cfg, m, "query_timeout_seconds", -1, "must be 1 to 3600"));
		s->timeout_ms = (unsigned)m->query_timeout_seconds->value * 1000;
	}
	if (m->dns_resolver_options != NULL) {
		s->tcp_only = m->dns_resolver_options->use_tcp_for_dns_lookups;
		s->no_search = m->dns_resolver_options->no_default_search_domain;
	}
	return (name_servers(cfg, m, s));
}

static int
interval(struct hb_cfg *cfg, const void *msg, const char *field, const void *duration,
	uint64_t dflt, uint64_t *ret)
{
	*ret = hb_cfg_duration_ms(cfg, msg, field, duration, dflt);
	return (*ret > 0 ? 0 : hb_cfg_error(cfg, msg, field, -1, "must be at least 1 ms"));
}

/* The rates of Cluster and DnsCluster are two messages of the same fields. */
static int
failure_rate(struct hb_cfg *cfg, const void *msg, const void *base, const void *max,
	struct hb_dns_conf *d)
{
	if (base == NULL)
		return (hb_cfg_error(cfg, msg, NULL, -1, "base_interval is missing"));
	if (interval(cfg, msg, "base_interval", base, d->refresh_ms, &d->failure_base_ms) != 0 ||
		interval(cfg, msg, "max_interval", max, 10 * d->failure_base_ms,
			&d->failure_max_ms) != 0)
		return (-EINVAL);
	if (d->failure_max_ms < d->failure_base_ms)
		return (hb_cfg_error(
			cfg, msg, "max_interval", -1, "is shorter than base_interval"));
	return (0);
}

int
hb_compile_dns(struct hb_cfg *cfg, const Cluster *m, struct hb_cluster *c)
{
	const ClusterRate *rate = m->dns_failure_refresh_rate;
	struct hb_dns_conf *d = &c->dns;
	int r;

	/* Both enumerations are in the same order. */
	d->family = (enum hb_dns_family)m->dns_lookup_family;
	d->respect_ttl = m->respect_dns_ttl;
	r = interval(cfg, m, "dns_refresh_rate", m->dns_refresh_rate, REFRESH_MS, &d->refresh_ms);
	d->failure_base_ms = d->failure_max_ms = d->refresh_ms;
	if (rate != NULL)
		r |= failure_rate(cfg, rate, rate->base_interval, rate->max_interval, d);
	return (r | resolver(cfg, m->typed_dns_resolver_config, &d->resolver));
}

int
hb_compile_dns_cluster(struct hb_cfg *cfg, const void *owner, const void *any, struct hb_cluster *c)
{
	const DnsCluster *m = hb_cfg_any_of(cfg, owner, "typed_config", -1, any,
		&envoy__extensions__clusters__dns__v3__dns_cluster__descriptor);
	struct hb_dns_conf *d = &c->dns;
	int r;

	c->type = HB_CLUSTER_STRICT_DNS;
	if (m == NULL)
		return (-EINVAL);
	if (m->all_addresses_in_single_endpoint)
		c->type = HB_CLUSTER_LOGICAL_DNS;
	/* The same order behind UNSPECIFIED, which means AUTO. */
	d->family = m->dns_lookup_family == 0 ? HB_DNS_AUTO :
						(enum hb_dns_family)(m->dns_lookup_family - 1);
	d->respect_ttl = m->respect_dns_ttl;
	r = interval(cfg, m, "dns_refresh_rate", m->dns_refresh_rate, REFRESH_MS, &d->refresh_ms);
	d->failure_base_ms = d->failure_max_ms = d->refresh_ms;
	if (m->dns_failure_refresh_rate != NULL)
		r |= failure_rate(cfg, m->dns_failure_refresh_rate,
			m->dns_failure_refresh_rate->base_interval,
			m->dns_failure_refresh_rate->max_interval, d);
	return (r | resolver(cfg, m->typed_dns_resolver_config, &d->resolver));
}

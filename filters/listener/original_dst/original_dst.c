/* SPDX-License-Identifier: Apache-2.0 */
/* Restores where a redirected connection (iptables REDIRECT or DNAT) wanted to go. */
#include <netinet/in.h>
#include <sys/socket.h>
#include "core/filter/filter.h"
#include "core/stats/stats.h"
#include "envoy/extensions/filters/listener/original_dst/v3/original_dst.pb-c.h"

/* SO_ORIGINAL_DST of linux/netfilter_ipv4.h and IP6T_SO_ORIGINAL_DST of its sister; both headers
 * clash with those of libc. */
#define OPT_ORIGINAL_DST 80

/* A listener without a socket gives the destination as metadata, as Envoy does. */
#define METADATA_NAMESPACE "envoy.filters.listener.original_dst"
#define METADATA_LOCAL     "local"
/* Filter state that a connection inside the process was handed goes before it. */
#define STATE_LOCAL        "envoy.filters.listener.original_dst.local_ip"
#define STATE_REMOTE       "envoy.filters.listener.original_dst.remote_ip"

#define STATS(X)                                                                                 \
	X(RESTORED, "restored", COUNTER, "Connections whose original destination was restored.") \
	X(NOT_REDIRECTED, "not_redirected", COUNTER, "Connections that came here directly.")

enum original_dst_stat { STATS(HB_STAT_ENUM) STAT_MAX };
HB_STAT_FAMILY(hb_original_dst_family, "original_dst_listener_filter",
	"hbone_original_dst_listener_filter", NULL, STATS);

struct original_dst_conf {
	unsigned magic;
#define ORIGINAL_DST_CONF_MAGIC 0x60d9a215
	struct hb_stats *stats; /* reference */
};

static int
original_dst_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, const void **ret_conf)
{
	struct original_dst_conf *c;

	(void)cfg;
	(void)msg;
	HB_NEW(c, ORIGINAL_DST_CONF_MAGIC);
	c->stats = hb_stats_get(&hb_original_dst_family, HB_STR(""));
	*ret_conf = c;
	return (0);
}

static void
original_dst_conf_free(const void *conf)
{
	struct original_dst_conf *c;

	HB_CAST(c, (void *)(uintptr_t)conf, ORIGINAL_DST_CONF_MAGIC);
	hb_stats_unref(&c->stats);
	HB_DEL(c);
}

static bool
original_dst_of_socket(int fd, const struct hb_addr *local, struct hb_addr *ret)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof ss;
	int level = local->kind == HB_ADDR_V6 ? IPPROTO_IPV6 : IPPROTO_IP;
	struct hb_addr a;

	if (getsockopt(fd, level, OPT_ORIGINAL_DST, &ss, &len) != 0)
		return (false);
	hb_addr_from_sockaddr(&a, (const struct sockaddr *)&ss, len);
	/* The kernel answers our own address for connections that it tracks but did not redirect;
	 * going there would be a loop. */
	if (a.kind != local->kind || hb_addr_eq(&a, local))
		return (false);
	*ret = a;
	return (true);
}

/* TPROXY: the socket itself has the address that the peer wanted. */
static bool
original_dst_is_transparent(int fd, const struct hb_addr *local)
{
	bool v6 = local->kind == HB_ADDR_V6;
	int on = 0;
	socklen_t len = sizeof on;

	return (getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP,
			v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, &on, &len) == 0 &&
		on != 0);
}

static bool
original_dst_find(struct hb_filter *f, struct hb_addr *ret)
{
	const struct hb_facts *facts = hb_filter_facts(f);
	struct hb_str meta = hb_facts_metadata(
		facts, HB_STR(METADATA_NAMESPACE), HB_STR(METADATA_LOCAL));
	struct hb_str state = hb_facts_state(facts, HB_STR(STATE_LOCAL));
	int fd = hb_lfilter_fd(f);

	if (fd < 0 && state.p != NULL && hb_addr_parse(state, ret))
		return (true);
	if (meta.p != NULL)
		return (hb_addr_parse(meta, ret));
	*ret = facts->local;
	if (fd < 0 || (ret->kind != HB_ADDR_V4 && ret->kind != HB_ADDR_V6))
		return (false);
	return (original_dst_of_socket(fd, &facts->local, ret) ||
		original_dst_is_transparent(fd, &facts->local));
}

static enum hb_filter_status
original_dst_on_connected(struct hb_filter *f)
{
	const struct original_dst_conf *c = hb_filter_conf(f);
	struct hb_facts *facts = hb_filter_facts(f);
	struct hb_str remote = hb_facts_state(facts, HB_STR(STATE_REMOTE));
	struct hb_addr a;

	if (hb_lfilter_fd(f) < 0 && remote.p != NULL && hb_addr_parse(remote, &a)) {
		hb_facts_keep_direct(facts);
		facts->remote = a;
	}
	if (original_dst_find(f, &a)) {
		hb_facts_keep_direct(facts);
		facts->local = a;
		facts->local_restored = true;
		hb_stat_inc(hb_filter_worker(f), c->stats, RESTORED);
	} else {
		hb_stat_inc(hb_filter_worker(f), c->stats, NOT_REDIRECTED);
	}
	return (HB_FILTER_CONTINUE);
}

const struct hb_filter_type hb_lfilter_original_dst = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.kind = HB_FILTER_LISTENER,
	.name = "hbone.filters.listener.original_dst",
	.alias = "envoy.filters.listener.original_dst",
	.config = &envoy__extensions__filters__listener__original_dst__v3__original_dst__descriptor,
	.compile = original_dst_compile,
	.conf_free = original_dst_conf_free,
	.on_connected = original_dst_on_connected,
};

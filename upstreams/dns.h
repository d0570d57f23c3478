/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/dns.h: names to addresses, on the control thread's loop (c-ares), behind a table of
 * functions so that tests can answer for themselves.
 */
#ifndef HB_UPSTREAMS_DNS_H
#define HB_UPSTREAMS_DNS_H

#include "core/event/worker.h"
#include "core/facts/facts.h"

enum hb_dns_family { HB_DNS_AUTO, HB_DNS_V4_ONLY, HB_DNS_V6_ONLY, HB_DNS_V4_PREFERRED, HB_DNS_ALL };

#define HB_DNS_SERVERS_MAX 8u
#define HB_DNS_NAME_MAX    253u

struct hb_dns_settings {
	unsigned n_servers;                         /* 0 = those of /etc/resolv.conf */
	struct hb_addr servers[HB_DNS_SERVERS_MAX];
	unsigned timeout_ms, tries;                 /* 0 = 5000, 4                   */
	bool tcp_only, no_search, rotate;
};

struct hb_dns_answer {
	int         error;        /* 0; -ENOENT: no such name or no address of the family; -EIO: failed */
	const char *why;          /* static text of the error                           */
	const struct hb_addr *v;  /* addresses without port, in the order of the answer */
	size_t      n;
	uint64_t    ttl_ms;       /* the lowest of the answer; UINT64_MAX = unknown (/etc/hosts) */
};

/* One look-up. */
struct hb_dns_query {
	unsigned magic;
#define HB_DNS_QUERY_MAGIC 0x6a8d0f29
	void (*done)(void *arg, const struct hb_dns_answer *);
	void *arg;
	enum hb_dns_family family;
	void *priv;               /* of the resolver */
};

struct hb_dns_resolver {
	/*
	 * Looks `name` up and calls done once, never before it returns. The query's memory is the
	 * resolver's; it is gone once done returns.
	 */
	struct hb_dns_query *(*query)(void *ctx, const struct hb_dns_settings *, const char *name,
	    enum hb_dns_family, void (*done)(void *arg, const struct hb_dns_answer *), void *arg);
	/* done will not be called. */
	void (*cancel)(void *ctx, struct hb_dns_query *);
	void *ctx;
};

/* The resolver in use; c-ares unless a test has set another. Control thread. */
const struct hb_dns_resolver *hb_dns_resolver(void);
void hb_dns_resolver_set(const struct hb_dns_resolver *); /* NULL = c-ares again */
/* Ends every query of c-ares and frees its channels. */
void hb_dns_fini(void);

/* Keeps what the family wants; returns how many are left (in place). */
size_t hb_dns_select(struct hb_addr *v, size_t n, enum hb_dns_family);

#endif

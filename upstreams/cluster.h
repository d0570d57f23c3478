/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/cluster.h: clusters: their configuration, endpoints, and each worker's state.
 *
 * Life: hb_cluster_compile makes one from its message without touching anything live (`validate`
 * does no more). hb_cluster_start gives it endpoints. Once it is in the table workers find it by
 * name; a dial or connection pins it on its worker, so that it goes on with the TLS context and the
 * counters it began with when the cluster is replaced or removed. It is freed when it is out of the
 * table and no worker has a pin.
 */
#ifndef HB_UPSTREAMS_CLUSTER_H
#define HB_UPSTREAMS_CLUSTER_H

#include "core/config/config.h"
#include "core/event/worker.h"
#include "core/filter/transport_socket.h"
#include "core/stats/stats.h"
#include "core/transport/tcp.h"
#include "upstreams/dns.h"
#include "upstreams/lb.h"
#include "upstreams/stats.h"

enum hb_cluster_type { HB_CLUSTER_STATIC, HB_CLUSTER_STRICT_DNS, HB_CLUSTER_LOGICAL_DNS, HB_CLUSTER_ORIGINAL_DST };

/* ------------------------------------------------------------------ configuration, frozen */

struct hb_locality_conf {
	char    *region, *zone, *sub_zone;
	unsigned priority;
	uint32_t weight; /* 0 = none given */
};

struct hb_ep_conf {
	unsigned locality;           /* index                                            */
	uint32_t weight;
	unsigned health;             /* HB_EP_EDS_… bits                                 */
	int      eds_status;         /* number of envoy.config.core.v3.HealthStatus      */
	char    *hostname;           /* shown, and for auto_host_sni; "" = none          */
	char    *name;               /* to look up; NULL = the addresses are given       */
	uint16_t port;               /* of the name                                      */
	struct hb_ep_addrs *addrs;   /* owned; NULL = by name                            */
	struct hb_transport_socket *socket; /* of the cluster; NULL = bytes in the clear */
	struct hb_meta *meta;        /* owned; of internal listeners only                */
	size_t   n_meta;
};

/* Circuit breakers of a priority; requests are the streams of tunnels, retries are shown only. */
struct hb_limits {
	uint32_t connections, pending, requests, retries;
};

#define HB_SOCKET_OPTIONS_MAX 16u
struct hb_bind_conf {
	struct sockaddr_storage from; /* ss_family 0 = the system's choice */
	socklen_t len;
	bool      freebind;
	size_t    n_options;
	struct hb_tcp_sockopt options[HB_SOCKET_OPTIONS_MAX]; /* values and texts are owned */
};

struct hb_dns_conf {
	struct hb_dns_settings resolver;
	enum hb_dns_family family;
	uint64_t refresh_ms;
	uint64_t failure_base_ms, failure_max_ms;
	bool     respect_ttl;
	uint32_t addrs_max; /* of one answer */
};

struct hb_socket_match {
	char *name;
	struct hb_transport_socket *socket;
};

struct hb_orig_conf {
	bool     port_set;
	uint16_t port;
	char    *header;                     /* lower case; NULL = not asked */
	char    *metadata_ns, *metadata_key; /* NULL = not asked */
	uint64_t cleanup_ms;
	uint32_t listed_max; /* addresses */
};

struct hb_cluster_w; /* one worker's state */
struct hb_meta;      /* upstreams/internal.h */
struct hb_pool;      /* upstreams/pool.h     */
struct hb_tunnels_conf; /* upstreams/hbone.h */

struct hb_cluster {
	unsigned magic;
#define HB_CLUSTER_MAGIC 0x5c2f90e1
	char *name, *stat_name;
	enum hb_cluster_type type;
	const struct hb_lb_type *lb;
	struct hb_lb_settings lb_settings;
	struct hb_ep_order order;
	uint64_t connect_timeout_ms;
	size_t   buffer_high;             /* 0 = the default                             */
	struct hb_limits limits[2];       /* DEFAULT, which holds; HIGH is only shown    */
	struct hb_bind_conf   bind;
	struct hb_tcp_options tcp;
	struct hb_transport_socket *socket; /* owned; NULL = bytes in the clear          */
	size_t   n_matches;
	struct hb_socket_match *matches;  /* owned                                       */
	struct hb_dns_conf  dns;
	struct hb_orig_conf orig;
	size_t   n_localities, n_ep;
	struct hb_locality_conf *localities; /* owned                                    */
	struct hb_ep_conf       *ep;         /* owned                                    */
	struct hb_meta          *meta;       /* owned                                    */
	size_t                   n_meta;
	struct hb_tunnels_conf  *http2;      /* owned; NULL = the endpoints do not speak HTTP/2 */

	/* Control thread, from hb_cluster_start on. */
	struct hb_list    node;           /* of all clusters                             */
	struct hb_stats  *stats;          /* owned reference                             */
	struct hb_ep_slot *slots;         /* owned; the endpoints of each ep             */
	struct hb_run     rebuild;
	struct hb_dns_target *targets;    /* owned; n_targets                            */
	size_t            n_targets, n_unanswered;
	struct hb_timer   warm;           /* gives up waiting for the first answers      */
	bool              ready;          /* has its first endpoints, or gave up         */
	bool              live;           /* in the table                                */
	struct hb_table  *orig_table;     /* owned; ORIGINAL_DST: endpoints by address   */
	struct hb_timer   orig_timer;
	unsigned          closing;        /* workers that have not let go yet            */

	/* Read by workers. */
	_Atomic(struct hb_eps *) eps;     /* owned; replaced through hb_retire; NULL = none yet */
	unsigned          n_w;            /* workers, and the control thread as the last */
	_Atomic(struct hb_cluster_w *) *w; /* owned                                      */
};

/* Endpoints that one hb_ep_conf stands for. */
struct hb_ep_slot {
	size_t n;
	struct hb_endpoint **v; /* owned references */
};

/* NULL after reporting every error. */
struct hb_cluster *hb_cluster_compile(struct hb_cfg *, const ProtobufCMessage *);
/* Frees one that was never started, or that nobody can hold any more. */
void hb_cluster_free(struct hb_cluster *);

/* ------------------------------------------------------------------ control thread */

/* Makes endpoints, begins look-ups (unless offline). `ready` is called when it has become ready
 * later than in this call. */
void hb_cluster_start(struct hb_cluster *, bool offline, void (*ready)(struct hb_cluster *));
/* It is in the table from now on: the gauges of its metrics speak of it. */
void hb_cluster_went_live(struct hb_cluster *);
/* It leaves the table (or never came into it): stops look-ups and timers. */
void hb_cluster_stop(struct hb_cluster *);
/* The process ends: workers close the connections that wait for further tunnels. */
void hb_cluster_close_pools(struct hb_cluster *);
/* For hb_table: no worker finds it any more. Frees it when all pins are gone. */
void hb_cluster_gone(void *cluster);
/* Replaces what one ep stands for; takes the references (and v). The set is made anew soon. */
void hb_cluster_slot_set(struct hb_cluster *, size_t i, struct hb_endpoint **v, size_t n);
/* Does now what is to be done soon. */
void hb_cluster_settle(struct hb_cluster *);
/* Health of an endpoint changed: sets and clears HB_EP_… bits, the set is made anew soon. */
void hb_cluster_health(struct hb_cluster *, struct hb_endpoint *, unsigned set, unsigned clear);
/* Every started cluster, also those that are about to go. */
void hb_cluster_foreach(void (*fn)(void *arg, struct hb_cluster *), void *arg);
/* Frees what is left; no worker is running. */
void hb_cluster_free_all(void);

/* ------------------------------------------------------------------ workers */

/* One worker's part of a cluster. */
struct hb_cluster_w {
	unsigned magic;
#define HB_CLUSTER_W_MAGIC 0x13f7ac44
	struct hb_cluster *cluster;
	struct hb_worker  *worker;
	_Atomic uint32_t connections; /* also those being made; written by the worker alone */
	_Atomic uint32_t pending;     /* being made                                         */
	_Atomic uint32_t streams;     /* of tunnels                                         */
	struct hb_pool *pool;         /* owned; NULL = no tunnel yet                        */
	struct hb_list  news;         /* orig_dst.c: addresses not listed yet               */
	uint64_t pins;
	bool     closing;             /* tell the control thread when the last pin goes     */
	struct hb_task task, stop_task;
	struct hb_lb_state lb;
};

struct hb_cluster_w *hb_cluster_pin(struct hb_cluster *, struct hb_worker *);
void hb_cluster_unpin(struct hb_cluster_w **);
/* Sums over all workers. */
uint32_t hb_cluster_connections(const struct hb_cluster *);
uint32_t hb_cluster_pending(const struct hb_cluster *);
uint32_t hb_cluster_streams(const struct hb_cluster *);

#define HB_CLUSTER_COUNT(w, field, delta)                                               \
	atomic_store_explicit(&(w)->field,                                              \
	    atomic_load_explicit(&(w)->field, memory_order_relaxed) + (uint32_t)(delta), \
	    memory_order_relaxed)

#endif

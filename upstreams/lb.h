/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/lb.h: load balancing: endpoint sets, and the policies that choose from them.
 *
 * The control thread works out a frozen set (struct hb_eps) whenever endpoints or their health
 * change: priorities with their shares of the load, localities, and lists of endpoints that are
 * equals. A worker chooses priority and locality by chance, then asks the policy for one endpoint
 * of a list. Policies keep a cursor for each list and worker: workers do not wait for each other.
 */
#ifndef HB_UPSTREAMS_LB_H
#define HB_UPSTREAMS_LB_H

#include "upstreams/endpoint.h"

struct hb_cluster;
struct hb_edf;

#define HB_PRIORITIES_MAX 128u

/* ------------------------------------------------------------------ sets, frozen */

/* Endpoints that are equals but for their weight. */
struct hb_lb_list {
	uint32_t  index;    /* of its cursor                                          */
	uint32_t  share;    /* of the load among the lists of its group               */
	size_t    n;
	struct hb_endpoint **v; /* of the set's references                            */
	bool      equal;    /* all weights are the same                               */
	uint64_t *sums;     /* running sums of the weights; NULL when equal           */
	void     *built;    /* of the policy (a hash ring)                            */
};

/* Lists among which one is chosen by share: localities with weights, else a single list. */
struct hb_lb_group {
	uint32_t index;     /* of its cursor */
	size_t   n;         /* 0 = no endpoint */
	struct hb_lb_list *list;
};

struct hb_lb_prio {
	uint32_t n_total, n_healthy, n_degraded;
	uint8_t  load_healthy, load_degraded; /* percent of all connections; all together 100 */
	bool     panic;       /* health does not count here */
	struct hb_lb_group healthy, degraded, all;
};

struct hb_eps {
	unsigned magic;
#define HB_EPS_MAGIC 0x6f0d24b3
	uint64_t serial;         /* never used twice                */
	size_t   n;
	struct hb_endpoint **ep; /* owned references, in order of configuration */
	unsigned n_prio;
	struct hb_lb_prio *prio;
	uint32_t n_cursors;
	const struct hb_lb_type *type;
};

struct hb_lb_settings {
	unsigned choice_count;            /* of least request                      */
	unsigned panic_percent;           /* 0 = never                             */
	unsigned overprovisioning;        /* percent, 140                          */
	bool     locality_weighted;
};

/* One endpoint with what the set must know of it. */
struct hb_lb_member {
	struct hb_endpoint *ep; /* the set takes a reference */
	unsigned priority, locality; /* locality: index in `shares` */
};

/* Control thread. `shares`: weight of each locality (0 = no load), asked when locality_weighted. */
struct hb_eps *hb_eps_new(const struct hb_lb_type *, const struct hb_lb_settings *,
    const struct hb_lb_member *, size_t n, const uint32_t *shares, size_t n_localities);
void hb_eps_free(void *eps); /* for hb_retire too; accepts NULL */

/*
 * Shares of priorities (Envoy's rules): `total`, `healthy`, `degraded` endpoints in; loads and
 * panic out. Pure.
 */
void hb_lb_loads(struct hb_lb_prio *, unsigned n, const struct hb_lb_settings *);

/* ------------------------------------------------------------------ choosing, on a worker */

struct hb_lb_cursor {
	bool     started;
	uint32_t pos;
	struct hb_edf *edf; /* owned */
};

/* A worker's cursors for the set with this serial. */
struct hb_lb_state {
	uint64_t serial;
	uint32_t n;
	struct hb_lb_cursor *v; /* owned */
};
void hb_lb_state_fini(struct hb_lb_state *);

struct hb_lb_ctx {
	const struct hb_lb_settings *settings;
	uint64_t hash;
	bool     hash_set;
	const uint64_t *tried;    /* ids of endpoints that failed this dial, in order */
	unsigned n_tried;
	bool     panicked;        /* out: health did not count  */
};

struct hb_lb_type {
	const char *name; /* "round_robin" */
	/* Control thread: what is worked out once for a list, and its end. NULL = nothing. */
	void *(*build)(const struct hb_lb_list *);
	void  (*built_free)(void *built);
	/* list->n > 0. Never NULL. */
	struct hb_endpoint *(*pick)(const struct hb_lb_list *, struct hb_lb_cursor *,
	    const struct hb_lb_ctx *);
};
extern const struct hb_lb_type hb_lb_round_robin, hb_lb_least_request, hb_lb_random;

/*
 * One endpoint, or NULL when none is usable. An endpoint that this dial tried before only when
 * there is no other; the last one tried only when it is the only one.
 */
struct hb_endpoint *hb_lb_choose(const struct hb_eps *, struct hb_lb_state *, struct hb_lb_ctx *);

/* ------------------------------------------------------------------ earliest deadline first */

/* A schedule in which item i comes up in proportion to its weight; starts at a random place. */
struct hb_edf *hb_edf_new(uint32_t n, double (*weight)(void *arg, uint32_t item), void *arg);
void hb_edf_free(struct hb_edf **);
/* The next item; it is due again after 1/weight(item). */
uint32_t hb_edf_next(struct hb_edf *, double (*weight)(void *arg, uint32_t item), void *arg);

#endif

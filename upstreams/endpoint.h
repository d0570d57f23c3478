/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/endpoint.h: one place to connect to: its addresses, health, and each worker's numbers.
 *
 * The control thread makes endpoints and counts who lists them (sets, DNS targets); when nobody does
 * any more, the endpoint is freed after the workers have passed. A connection does not hold its
 * endpoint but the cell, which belongs to the worker and lives until both endpoint and connections
 * have let it go.
 */
#ifndef HB_UPSTREAMS_ENDPOINT_H
#define HB_UPSTREAMS_ENDPOINT_H

#include <stdatomic.h>
#include "core/event/worker.h"
#include "core/facts/facts.h"

/* ------------------------------------------------------------------ addresses */

#define HB_EP_ADDRS_MAX 16u

/* Frozen; in the order in which they are raced. Names (of unix sockets, of listeners of this process)
 * are its own; what is a listener has no other kinds beside it. */
struct hb_ep_addrs {
	unsigned       n; /* 1 … HB_EP_ADDRS_MAX */
	struct hb_addr v[];
};

/* Which family goes first, and how many of it before the other's first (RFC 8305 section 4). */
struct hb_ep_order {
	uint8_t  first; /* enum hb_addr_kind; NONE = the family of the first address */
	unsigned count; /* at least 1 */
};

/* Drops duplicates and what is beyond the limit; interleaves the families. n > 0. */
struct hb_ep_addrs *hb_ep_addrs_new(const struct hb_addr *v, size_t n, const struct hb_ep_order *);
struct hb_ep_addrs *hb_ep_addrs_copy(const struct hb_ep_addrs *);
void hb_ep_addrs_free(void *addrs); /* for hb_retire too; accepts NULL */
bool hb_ep_addrs_eq(const struct hb_ep_addrs *, const struct hb_ep_addrs *);

/* ------------------------------------------------------------------ endpoints */

/* Why an endpoint gets no connections, or only as a last resort; 0 = healthy. */
#define HB_EP_EDS_UNHEALTHY 1u /* UNHEALTHY, DRAINING or TIMEOUT by configuration        */
#define HB_EP_EDS_DEGRADED  2u /* DEGRADED by configuration                              */
#define HB_EP_HC_FAILED     4u /* an active health check failed                          */
#define HB_EP_OUTLIER       8u /* ejected because connections to it failed               */
#define HB_EP_UNUSABLE (HB_EP_EDS_UNHEALTHY | HB_EP_HC_FAILED | HB_EP_OUTLIER)

/* One worker's numbers; written by it alone. Others read them relaxed. */
struct hb_ep_cell { /* a cache line of its own: another worker's may lie next to it */
	_Alignas(64) unsigned magic;
#define HB_EP_CELL_MAGIC 0x3c6a11d5
	unsigned refs;             /* connections and dials                                  */
	bool     orphan;           /* the endpoint is gone                                   */
	_Atomic uint32_t active;   /* connections, those being made included                 */
	_Atomic uint64_t total, failed, timeouts;
	struct hb_task task;       /* private: the endpoint lets go                          */
};
_Static_assert(sizeof(struct hb_ep_cell) == 64, "workers share no cache line");

struct hb_ep_conf; /* upstreams/cluster.h */

struct hb_endpoint {
	unsigned magic;
#define HB_ENDPOINT_MAGIC 0x29b1e07f
	unsigned refs;                         /* control thread                          */
	uint64_t id;                           /* never used twice                        */
	const struct hb_ep_conf *conf;         /* of the cluster, which outlives it       */
	char    *hostname;                     /* owned; "" = none                        */
	_Atomic(struct hb_ep_addrs *) addrs;   /* owned; replaced through hb_retire       */
	_Atomic unsigned health;               /* HB_EP_… bits; any thread reads          */
	uint64_t mark;                         /* control thread, for who made it         */
	unsigned n_cells;                      /* workers, and the control thread as last */
	_Atomic(struct hb_ep_cell *) cell[];   /* NULL until the worker's first use       */
};

/* Control thread. Takes addrs; one reference is the caller's. */
struct hb_endpoint *hb_endpoint_new(const struct hb_ep_conf *, const char *hostname,
    struct hb_ep_addrs *addrs, unsigned health);
void hb_endpoint_ref(struct hb_endpoint *);
void hb_endpoint_unref(struct hb_endpoint **);
void hb_endpoint_set_addrs(struct hb_endpoint *, struct hb_ep_addrs *);

/* Workers, until the turn ends. */
static inline const struct hb_ep_addrs *
hb_endpoint_addrs(const struct hb_endpoint *e)
{
	return (atomic_load_explicit(&e->addrs, memory_order_acquire));
}

static inline unsigned
hb_endpoint_health(const struct hb_endpoint *e)
{
	return (atomic_load_explicit(&e->health, memory_order_relaxed));
}

/* The calling worker's cell, made on first use, with one reference for the caller. */
struct hb_ep_cell *hb_endpoint_cell(const struct hb_endpoint *, const struct hb_worker *);
/* On the cell's worker. */
bool hb_endpoint_has_cell(const struct hb_endpoint *, const struct hb_worker *, const struct hb_ep_cell *);
void hb_ep_cell_unref(struct hb_ep_cell **);
/* On its worker: one reference more; returns its argument. */
static inline struct hb_ep_cell *
hb_ep_cell_ref(struct hb_ep_cell *c)
{
	HB_CHECK(c, HB_EP_CELL_MAGIC);
	c->refs++;
	return (c);
}
/*
 * For an endpoint that is not there yet: a cell with one reference, which stays until it is adopted
 * (control thread: by the endpoint made meanwhile; false = that has another one) or orphaned (on its
 * worker).
 */
struct hb_ep_cell *hb_ep_cell_new(void);
bool hb_endpoint_adopt(struct hb_endpoint *, const struct hb_worker *, struct hb_ep_cell *);
void hb_ep_cell_orphan(struct hb_ep_cell *);
/* Adds to the worker's own number. */
#define HB_EP_COUNT(cell, field, n)                                                        \
	atomic_store_explicit(&(cell)->field,                                              \
	    atomic_load_explicit(&(cell)->field, memory_order_relaxed) + (n), memory_order_relaxed)

/* Sums over the workers; any thread. */
struct hb_ep_numbers {
	uint64_t active, total, failed, timeouts;
};
uint32_t hb_endpoint_active(const struct hb_endpoint *);
void hb_endpoint_numbers(const struct hb_endpoint *, struct hb_ep_numbers *ret);

#endif

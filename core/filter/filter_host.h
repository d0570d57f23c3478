/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/filter/filter_host.h: who runs filters. A filter instance (struct hb_filter) lives in its
 * host: a connection runs network filters (core/filter/conn.c), a listener runs listener filters.
 * The hb_filter_* functions that authors call (core/filter/filter.h) go to the host through this
 * table. Not for filter authors.
 */
#ifndef HB_CORE_FILTER_FILTER_HOST_H
#define HB_CORE_FILTER_FILTER_HOST_H

#include "core/filter/filter.h"

/* NULL slots marked (opt) are never asked on that kind of host; calling them panics. */
struct hb_filter_host {
	enum hb_filter_kind kind;
	const struct hb_filter_type *(*type)(const struct hb_filter *);
	const void *(*conf)(const struct hb_filter *);
	void *(*ctx)(const struct hb_filter *); /* ctx_size zeroed bytes, aligned to 16 */
	struct hb_facts *(*facts)(const struct hb_filter *);
	struct hb_worker *(*worker)(const struct hb_filter *);
	uint64_t (*conn_id)(const struct hb_filter *);
	const char *(*chain_name)(const struct hb_filter *); /* (opt) "" */
	void (*resume)(struct hb_filter *);                  /* hb_filter_continue */
	void (*close)(struct hb_filter *, enum hb_close_reason, bool flush);
	/* The filter's timer fired: call its on_event(TIMER) as any other slot. */
	void (*timer)(struct hb_filter *);
	void (*consume)(struct hb_filter *, size_t n);       /* (opt) listener filters */
	void (*max_bytes)(struct hb_filter *, size_t n);     /* (opt) listener filters */
	int (*fd)(const struct hb_filter *);                 /* (opt) listener filters */
};

struct hb_filter_timer;

struct hb_filter {
	unsigned magic;
#define HB_FILTER_MAGIC 0x2f17e6a9
	uint8_t index;  /* place in the chain                       */
	uint8_t state[3]; /* the host's own                         */
	const struct hb_filter_host *host;
	void   *owner;  /* the host's object, for its slots         */
	struct hb_filter_timer *timer; /* owned; NULL until first used */
};

/* Caller's memory, zeroed. */
void hb_filter_init(struct hb_filter *, const struct hb_filter_host *, void *owner, uint8_t index);
/* Stops the timer. Does not call the type's fini. Accepts zeroed memory. */
void hb_filter_fini(struct hb_filter *);
bool hb_filter_timer_runs(const struct hb_filter *);

/* For hosts and their compile functions, control thread: a type without configuration message, or
 * any type, by its name or alias. NULL = unknown. */
const struct hb_filter_type *hb_filter_find_name(enum hb_filter_kind, struct hb_str name);

/*
 * Finds the type of one entry of a filter list and compiles its configuration. `owner_msg` is the
 * Filter or ListenerFilter message, `any` its typed_config (NULL = none given: then the type is
 * found by `name` and must have no message). 0, or -EINVAL after reporting.
 */
int hb_filter_compile(struct hb_cfg *, enum hb_filter_kind, const void *owner_msg, const char *name,
    const void *any, const struct hb_filter_type **ret_type, const void **ret_conf);

#endif

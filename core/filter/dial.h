/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/filter/dial.h: how filters reach upstreams. upstreams/ implements it and binds itself at
 * start; filters see only this.
 */
#ifndef HB_CORE_FILTER_DIAL_H
#define HB_CORE_FILTER_DIAL_H

#include "core/filter/conn.h"

struct hb_dial; /* one attempt in progress, owned by upstreams */

struct hb_header {
	struct hb_str name; /* lower case */
	struct hb_str value;
};

/* A request for a tunnel, RFC 9113 8.5. */
struct hb_tunnel {
	struct hb_str authority;   /* host and port                                            */
	bool   post;               /* POST instead of CONNECT                                  */
	struct hb_str path;        /* of a POST                                                */
	const struct hb_header *headers;
	size_t n_headers;
};

struct hb_dial_request {
	struct hb_str cluster;           /* name                                              */
	const struct hb_facts *facts;    /* of the downstream; must outlive the dial; or NULL  */
	uint64_t hash;                   /* for consistent hashing                             */
	bool     hash_set;
	unsigned attempts_max;           /* endpoints to try; 0 = 1                            */
	uint64_t conn_id;                /* of the downstream, for logs                        */
	bool     speaks_first;           /* bytes wait to be written as soon as it stands      */
	bool     local;                  /* info->local is wanted: it may cost a system call   */
	/*
	 * The endpoint is an HTTP/2 proxy: what comes back is a stream of this request, which all
	 * outlives the dial. NULL = the bytes go to the endpoint itself (by whatever the cluster's
	 * transport socket does on the way).
	 */
	const struct hb_tunnel *tunnel;
	/* The proxy's final answer, before on_done; headers are borrowed for the call. NULL = not
	 * interested. */
	void (*on_response)(void *arg, unsigned status, const struct hb_header *, size_t n);
	void    *arg;
	/*
	 * Once, from the event loop (never from inside hb_dial). Success: a connected, secured
	 * transport (owned by the callee, reading disabled) and reason NONE. Failure: NULL and
	 * why. `info` is borrowed during the call; its strings stay valid as long as the
	 * transport is open.
	 */
	void (*on_done)(void *arg, struct hb_transport *, enum hb_close_reason,
	    const struct hb_upstream_info *info);
};

/* Starts; the request is copied. Never NULL. */
struct hb_dial *hb_dial(struct hb_worker *, const struct hb_dial_request *);
/* on_done will not be called. Nulls *d. Only before on_done. */
void hb_dial_cancel(struct hb_dial **d);
/* Any thread: does the cluster exist now? */
bool hb_dial_cluster_exists(struct hb_str cluster);

/* A tunnel that we have opened: one stream of it. */
struct hb_tunnel_view {
	bool outer;               /* it carries the tunnel that was shown before     */
	const char *state;        /* hb_h2_stream_state                              */
	struct hb_str authority;  /* that it was asked for                           */
	struct hb_str peer;       /* URI SAN or subject of its other end; ""         */
	struct hb_str cluster;
	struct hb_addr endpoint;  /* its other end                                   */
	uint64_t bytes_in, bytes_out; /* from and to that, what the tunnel carries   */
	uint64_t age_ms;
};

struct hb_explain;
struct hb_dial_ops {
	struct hb_dial *(*dial)(struct hb_worker *, const struct hb_dial_request *);
	void (*cancel)(struct hb_dial *);
	bool (*exists)(struct hb_str cluster);
	/* Cluster and endpoint that would be taken, and why. Control thread. */
	void (*explain)(struct hb_str cluster, const struct hb_facts *, struct hb_explain *);
	/* See hb_dial_tunnels. NULL = there are none. */
	void (*tunnels)(struct hb_transport *, const struct hb_facts *, struct hb_str asked,
	    void (*fn)(void *arg, const struct hb_tunnel_view *), void *arg);
};
void hb_dial_bind(const struct hb_dial_ops *);
void hb_dial_explain(struct hb_str cluster, const struct hb_facts *, struct hb_explain *);
/*
 * On the worker: the tunnels that `up`, which hb_dial has made for the connection with these facts,
 * goes through, the innermost first; views are borrowed for the call. `asked`: hb_tunnel.authority
 * of that dial; the other authorities are not kept but made again, of facts as they are now.
 */
void hb_dial_tunnels(struct hb_transport *up, const struct hb_facts *, struct hb_str asked,
    void (*fn)(void *arg, const struct hb_tunnel_view *), void *arg);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/link.h: one secured transport to an endpoint, and its place in the numbers of cluster
 * and endpoint, whatever lies between: TCP (upstreams/race.h), an internal listener of this process
 * (an in-process pair, made for this link alone), or a stream of an outer tunnel.
 */
#ifndef HB_UPSTREAMS_LINK_H
#define HB_UPSTREAMS_LINK_H

#include "core/filter/conn.h"
#include "upstreams/cluster.h"
#include "upstreams/race.h"

struct hb_hbone_conf; /* upstreams/hbone.h */

struct hb_link_request {
	struct hb_cluster_w *w;                   /* pinned by the caller until done            */
	struct hb_ep_cell *cell;                  /* referenced by the caller until done        */
	const struct hb_ep_addrs *addrs;          /* copied                                     */
	const struct hb_ep_conf *ep;              /* NULL = not a configured endpoint           */
	const struct hb_transport_socket *socket; /* NULL = bytes in the clear                  */
	/* The outer tunnel, with the authority of what it carries; NULL = none. */
	const struct hb_hbone_conf *through;
	struct hb_str authority;
	uint64_t connect_ms;                      /* until TCP, the pair or the stream stands    */
	uint64_t handshake_ms;                    /* then until it is secured; 0 = within connect_ms */
	const struct hb_facts *facts;             /* of the downstream; may be NULL; outlives the link */
	const char *host;                         /* copied                                     */
	bool speaks_first, local;                 /* see hb_race_request                        */
	/* Once, from the event loop; the link is gone when it returns. `info` is filled when it
	 * succeeded, and its strings live as long as the transport. */
	void (*done)(void *arg, const struct hb_race_result *, const struct hb_upstream_info *info);
	void *arg;
};

struct hb_link;
/* Counts the connection as begun. Never NULL. */
struct hb_link *hb_link_new(const struct hb_link_request *);
/* done will not be called. Nulls *l. */
void hb_link_cancel(struct hb_link **l);

#endif

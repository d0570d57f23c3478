/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/internal.h: endpoints that are listeners of this process (envoy_internal_address), and
 * the transport socket internal_upstream. Each connection is an in-process pair of its own: nothing
 * that belongs to one can reach another.
 */
#ifndef HB_UPSTREAMS_INTERNAL_H
#define HB_UPSTREAMS_INTERNAL_H

#include "core/filter/transport_socket.h"
#include "upstreams/cluster.h"

#define HB_INTERNAL_HOPS_MAX 8u /* internal listeners one after another */

extern const struct hb_transport_socket_type hb_tsocket_internal_upstream;

/* A scalar of metadata as text; strings are owned. */
struct hb_meta {
	char *ns, *key, *value;
};
/* Of an envoy.config.core.v3.Metadata (NULL = none): what lies at the top of each namespace. */
size_t hb_meta_compile(const void *metadata_msg, struct hb_meta **ret);
void hb_meta_free(struct hb_meta **, size_t n);

/*
 * Hands one end of a new pair to the listener `name`, with the address of the client, the verified
 * identity of the peer, and, when `socket` is internal_upstream, what that passes on. *ret is the
 * other end, connected when the chain of the listener has accepted. A reason and *why on failure.
 */
enum hb_close_reason hb_internal_connect(const struct hb_cluster *, const struct hb_ep_conf *,
    const struct hb_transport_socket *socket, const char *name, const struct hb_facts *,
    struct hb_worker *, struct hb_transport **ret, const char **why);

#endif

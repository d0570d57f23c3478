/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/compile.h: what the files that turn cluster messages into struct hb_cluster share.
 * Functions return 0, or -EINVAL after reporting every error that they found.
 */
#ifndef HB_UPSTREAMS_COMPILE_H
#define HB_UPSTREAMS_COMPILE_H

#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "upstreams/cluster.h"

/* compile_endpoints.c: localities and endpoints of load_assignment, with their sockets. */
int hb_compile_endpoints(struct hb_cfg *, const Envoy__Config__Cluster__V3__Cluster *, struct hb_cluster *);
/*
 * envoy.config.core.v3.Address as an address. A host name is an error unless `name` is not NULL:
 * then *name (borrowed from the message) is set and only the port of ret. The name of a unix
 * socket, or of a listener of this process, is fresh memory.
 */
int hb_compile_address(struct hb_cfg *, const void *owner, const char *field, int index, const void *msg,
    struct hb_addr *ret, const char **name);

/* compile_dns.c: how names are looked up, of a DNS cluster. */
int hb_compile_dns(struct hb_cfg *, const Envoy__Config__Cluster__V3__Cluster *, struct hb_cluster *);
/* The same from DnsCluster; sets the type, too. */
int hb_compile_dns_cluster(struct hb_cfg *, const void *owner, const void *any, struct hb_cluster *);

#endif

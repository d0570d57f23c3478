/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/mesh/baggage.h: who somebody says to be. Istio's form of the header `baggage`
 * (https://www.w3.org/TR/baggage/), read and written as ztunnel does.
 *
 *     k8s.cluster.name=c1,k8s.namespace.name=default,k8s.deployment.name=client,service.name=client
 *
 * Baggage is what a peer claims. It fills labels of metrics and logs where nothing better is known,
 * and that is all: no policy looks at it, and the verified identity of the peer always wins over it
 * (hb_source_labels).
 */
#ifndef HB_CORE_MESH_BAGGAGE_H
#define HB_CORE_MESH_BAGGAGE_H

#include "core/facts/facts.h"

#define HB_BAGGAGE_BYTES_MAX   8192u /* of all lines together */
#define HB_BAGGAGE_MEMBERS_MAX 180u  /* of all lines together */
#define HB_BAGGAGE_VALUE_MAX   256u  /* of one value          */

/* X(member of struct hb_baggage, "key"), in the order of writing. */
#define HB_BAGGAGE_MEMBERS(X)                         \
	X(cluster, "k8s.cluster.name")                \
	X(ns, "k8s.namespace.name")                   \
	X(workload, NULL /* see enum hb_workload */)  \
	X(service, "service.name")     /* canonical */ \
	X(version, "service.version")  /* canonical */ \
	X(region, "cloud.region")                     \
	X(zone, "cloud.availability_zone")

/* The key of the workload's name: k8s.deployment.name, … */
enum hb_workload {
	HB_WORKLOAD_DEPLOYMENT,
	HB_WORKLOAD_CRONJOB,
	HB_WORKLOAD_POD,
	HB_WORKLOAD_JOB,
	HB_WORKLOAD_MAX,
};

struct hb_baggage { /* empty = absent; borrowed from the lines that were read */
#define HB_BAGGAGE_MEMBER_(m, k) struct hb_str m;
	HB_BAGGAGE_MEMBERS(HB_BAGGAGE_MEMBER_)
#undef HB_BAGGAGE_MEMBER_
	enum hb_workload kind; /* of `workload` */
};

enum hb_baggage_error {
	HB_BAGGAGE_OK,
	HB_BAGGAGE_NOT_ASCII, /* a byte that is neither printable ASCII nor a tab */
	HB_BAGGAGE_TOO_LONG,  /* HB_BAGGAGE_BYTES_MAX                             */
	HB_BAGGAGE_TOO_MANY,  /* HB_BAGGAGE_MEMBERS_MAX                           */
	HB_BAGGAGE_ERROR_MAX,
};

/*
 * Reads the lines of the header (any number, also none) as one. Of a member only the text between
 * its first and second '=' counts; there is no percent-encoding and no trimming; keys that are not
 * in the table are passed over, and so is a value above HB_BAGGAGE_VALUE_MAX; the last of equal
 * keys wins, and the kinds of workload are one key. After an error nothing is known (*ret is
 * empty): the request goes on without baggage.
 */
enum hb_baggage_error hb_baggage_parse(const struct hb_str *lines, size_t n, struct hb_baggage *ret);
const char *hb_baggage_error_text(enum hb_baggage_error);
/*
 * Adds the header's value. Empty members are left out, and so are those that could not be read back
 * as they are: with ',' or '=', bytes that are not printable ASCII, above HB_BAGGAGE_VALUE_MAX.
 */
void hb_baggage_format(const struct hb_baggage *, struct hb_text *);

/* ------------------------------------------------------------------ labels */

/* What metrics and logs say about one side; empty = unknown; borrowed. */
struct hb_workload_labels {
	struct hb_str workload, canonical_service, canonical_revision, ns;
	struct hb_str principal; /* SPIFFE id; from a verified certificate only */
	struct hb_str app, version, cluster, region, zone;
};

/*
 * The client's side of a connection: principal and namespace of the verified identity
 * (hb_facts_identity), the rest from the baggage. Baggage that contradicts the certificate's
 * namespace speaks of somebody else: nothing of it is taken, and the result is false (to be
 * counted). `relayed` says that configuration trusts this peer as a gateway that hands on the
 * baggage of its clients: then the labels are the client's as claimed, and only the principal, which
 * is the gateway's, is certain.
 */
bool hb_source_labels(const struct hb_facts *, const struct hb_baggage *, bool relayed,
    struct hb_workload_labels *ret);
/*
 * Whose identity the server's side has: that of the upstream, or, when it has none and the connection
 * is one to ourselves (inbound), our own towards the nearest peer; "" = nobody's. Borrowed.
 */
struct hb_str hb_destination_principal(const struct hb_facts *, struct hb_str upstream_peer,
    bool inbound);
/*
 * The server's side, from the baggage of its answer; `principal` is that of
 * hb_destination_principal. Same rules.
 */
bool hb_destination_labels(struct hb_str principal, const struct hb_baggage *, bool relayed,
    struct hb_workload_labels *ret);

#endif

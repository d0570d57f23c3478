/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/mesh/telemetry.h: the mesh's view of connections, as Istio's dashboards know it: the
 * istio_tcp_* metrics with their labels.
 *
 * A series is a set of labels with its counters. Each worker has series of its own, which it
 * alone writes, without locks; the control thread reads those of all workers and adds up what has
 * the same labels. Labels come from peers, so the number of series of a worker is limited: what
 * comes beyond is counted together, with "overflow" in place of every label but the reporter. Series
 * are kept until the end: a counter that vanished and came back would look like a restart.
 */
#ifndef HB_CORE_MESH_TELEMETRY_H
#define HB_CORE_MESH_TELEMETRY_H

#include "core/base/str.h"
#include "core/mesh/baggage.h"

/* X(member of struct hb_tcp_labels, "label", "what an empty value is called"), in Istio's order. */
#define HB_TCP_LABELS(X)                                                                \
	X(reporter, "reporter", "unknown")                                              \
	X(source.workload, "source_workload", "unknown")                                \
	X(source.canonical_service, "source_canonical_service", "unknown")              \
	X(source.canonical_revision, "source_canonical_revision", "unknown")            \
	X(source.ns, "source_workload_namespace", "unknown")                            \
	X(source.principal, "source_principal", "unknown")                              \
	X(source.app, "source_app", "unknown")                                          \
	X(source.version, "source_version", "unknown")                                  \
	X(source.cluster, "source_cluster", "unknown")                                  \
	X(service, "destination_service", "unknown")                                    \
	X(service_namespace, "destination_service_namespace", "unknown")                \
	X(service_name, "destination_service_name", "unknown")                          \
	X(destination.workload, "destination_workload", "unknown")                      \
	X(destination.canonical_service, "destination_canonical_service", "unknown")    \
	X(destination.canonical_revision, "destination_canonical_revision", "unknown")  \
	X(destination.ns, "destination_workload_namespace", "unknown")                  \
	X(destination.principal, "destination_principal", "unknown")                    \
	X(destination.app, "destination_app", "unknown")                                \
	X(destination.version, "destination_version", "unknown")                        \
	X(destination.cluster, "destination_cluster", "unknown")                        \
	X(request_protocol, "request_protocol", "tcp")                                  \
	X(response_flags, "response_flags", "-")                                        \
	X(security_policy, "connection_security_policy", "unknown")                     \
	X(source.region, "source_region", "unknown")           /* these four only when */ \
	X(source.zone, "source_zone", "unknown")               /* `locality` is set     */ \
	X(destination.region, "destination_region", "unknown")                          \
	X(destination.zone, "destination_zone", "unknown")

/* Bytes of a value; more are cut off. What is not printable ASCII is shown as '_'. */
#define HB_TCP_LABEL_MAX 255u

struct hb_tcp_labels { /* borrowed for the call */
	struct hb_str reporter; /* "source" or "destination"                                    */
	struct hb_workload_labels source, destination;
	struct hb_str service;  /* host name of the service that was addressed                  */
	struct hb_str service_namespace, service_name;
	struct hb_str request_protocol;
	struct hb_str response_flags;  /* "DENY", "CONNECT", …                                  */
	struct hb_str security_policy; /* "mutual_tls" or "unknown"                             */
};

/* X(ENUM, "name", "what it counts") */
#define HB_TCP_METRICS(X)                                                                        \
	X(OPENED, "istio_tcp_connections_opened_total", "Connections that were opened.")         \
	X(CLOSED, "istio_tcp_connections_closed_total", "Connections that were closed.")         \
	X(FAILED, "istio_tcp_connections_failed_total", "Connections that failed or were refused.") \
	X(SENT, "istio_tcp_sent_bytes_total",                                                    \
		"Bytes of responses: from the server to the client, whoever reports.")           \
	X(RECEIVED, "istio_tcp_received_bytes_total",                                            \
		"Bytes of requests: from the client to the server, whoever reports.")

enum hb_tcp_metric {
#define HB_TCP_METRIC_(e, n, h) HB_TCP_##e,
	HB_TCP_METRICS(HB_TCP_METRIC_)
#undef HB_TCP_METRIC_
	HB_TCP_METRIC_MAX
};

struct hb_tcp_registry;
struct hb_tcp_series;

struct hb_tcp_options {
	unsigned workers;    /* how many write                                               */
	unsigned series_max; /* of one worker, 0 = 2000; beyond it they share the overflow   */
	bool     locality;   /* regions and zones too                                        */
};

/* Control thread, before workers write. */
struct hb_tcp_registry *hb_tcp_registry_new(const struct hb_tcp_options *);
/* When no worker writes any more. */
void hb_tcp_registry_free(struct hb_tcp_registry **);
/* On worker `worker`: the series with these labels, made or found. Never NULL, lives as long as the
 * registry: a connection may keep it. */
struct hb_tcp_series *hb_tcp_series(struct hb_tcp_registry *, unsigned worker,
    const struct hb_tcp_labels *);
/* On the worker of the series. */
void hb_tcp_add(struct hb_tcp_series *, enum hb_tcp_metric, uint64_t n);

/* Control thread, any time: sums over the workers. Exposition format 0.0.4 with HELP and TYPE, in
 * the order of labels; also istio_tcp_sockets_open (opened less closed) by reporter and, when it is
 * not 0, hbone_telemetry_overflow_total. `want` says which metrics (by name); NULL = all. */
void hb_tcp_render(const struct hb_tcp_registry *, bool (*want)(void *arg, const char *name),
    void *arg, struct hb_text *);
/* Lookups that found the limit reached. */
uint64_t hb_tcp_overflows(const struct hb_tcp_registry *);
size_t hb_tcp_series_count(const struct hb_tcp_registry *);

#endif

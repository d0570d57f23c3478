/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/filter/transport_socket.h: transport sockets by configuration (raw_buffer, tls,
 * upstream_proxy_protocol): what turns a lower transport into the one that filters or clusters use.
 * Types live in filters/transport/<name>/ and are registered like filters.
 */
#ifndef HB_CORE_FILTER_TRANSPORT_SOCKET_H
#define HB_CORE_FILTER_TRANSPORT_SOCKET_H

#include "core/config/config.h"
#include "core/facts/facts.h"
#include "core/transport/transport.h"

struct hb_cert_info;
struct hb_explain;

/* Downstream side: what the configuration says of the clients that may come in. */
enum hb_admits {
	HB_ADMITS_STATED,        /* who may is said, or clients are not verified at all           */
	HB_ADMITS_ALL,           /* nothing: whoever has a certificate that verifies              */
	HB_ADMITS_OWN_NAMESPACE, /* identity rules without an entry: our trust domain, namespace  */
};

struct hb_transport_socket_type {
	const char *name; /* "envoy.transport_sockets.tls" */
	const ProtobufCMessageDescriptor *downstream, *upstream; /* NULL = not for that side */
	int  (*compile)(struct hb_cfg *, const ProtobufCMessage *, bool upstream, const void **ret_conf);
	void (*conf_free)(const void *conf);
	/*
	 * Takes `lower`. `facts`: downstream side: of the connection itself; upstream side: of the
	 * downstream that is being served (may be NULL). `host` is the endpoint's host name or ""
	 * (upstream, for auto_host_sni). Never fails: failing transports report on_closed.
	 */
	struct hb_transport *(*wrap)(const void *conf, struct hb_transport *lower,
	    const struct hb_facts *facts, struct hb_str host);
	/* Certificates for /certs; NULL = none. */
	size_t (*certs)(const void *conf, bool trust, const struct hb_cert_info *const **ret);
	bool secure; /* encrypts */
	/*
	 * Upstream side: adds what wrap would take from facts and host, "name=value;" each, so that a
	 * connection may be shared by those for whom the text is equal. NULL = it takes nothing.
	 */
	void (*key)(const void *conf, const struct hb_facts *, struct hb_str host, struct hb_text *);
	/* Changes whenever a new connection would use another certificate or other trust; NULL = never. */
	uint64_t (*generation)(const void *conf);
	/* On the worker: false = the peer of this transport, which `wrap` made (or the socket whose
	 * place this one has taken; downstream side: or none, when that had raw bytes), is no longer
	 * one that it would let in; on the upstream side the transport is one of
	 * core/transport/tls.h then. NULL = there is nothing to ask. */
	bool (*holds)(const void *conf, struct hb_transport *);
	/* Downstream side. NULL = it looks at no certificates of clients. */
	enum hb_admits (*admits)(const void *conf);
	/*
	 * Downstream side, before the first connection: it stands in front of a workload. Where the
	 * configuration does not say who may come in, its own trust domain and namespace may, and
	 * nobody else; a client without a certificate only where that is said. 0, or -EINVAL after
	 * hb_cfg_error at `owner`'s field transport_socket. NULL = it looks at no certificates.
	 */
	int (*for_workload)(const void *conf, struct hb_cfg *, const void *owner_msg);
	/* Downstream side: what it would say of a peer with these facts (its identity); a refusal ends
	 * with hb_explain_stop. NULL = it looks at none of them. */
	void (*explain)(const void *conf, const struct hb_facts *, struct hb_explain *);
	/* Makes connections itself, so that it must be the outermost one of a cluster; wrap is not
	 * called. */
	bool connector;
};

int hb_transport_socket_register(const struct hb_transport_socket_type *, struct hb_err *reterr);

/* A compiled one; frozen, owned by the chain or cluster. NULL pointer = raw bytes. */
struct hb_transport_socket;
/* `msg` is envoy.config.core.v3.TransportSocket (NULL: *ret = NULL, 0). */
int hb_transport_socket_compile(struct hb_cfg *, const void *owner_msg, const char *field,
    const void *msg, bool upstream, struct hb_transport_socket **ret);
void hb_transport_socket_free(struct hb_transport_socket **);
struct hb_transport *hb_transport_socket_wrap(const struct hb_transport_socket *,
    struct hb_transport *lower, const struct hb_facts *, struct hb_str host);
/* See the slot `key`. */
void hb_transport_socket_key(const struct hb_transport_socket *, const struct hb_facts *,
    struct hb_str host, struct hb_text *);
/* Any thread. Connections of an older generation serve on, and take no new streams. */
uint64_t hb_transport_socket_generation(const struct hb_transport_socket *);
bool hb_transport_socket_holds(const struct hb_transport_socket *, struct hb_transport *);
void hb_transport_socket_explain(const struct hb_transport_socket *, const struct hb_facts *,
    struct hb_explain *);
enum hb_admits hb_transport_socket_admits(const struct hb_transport_socket *);
/* Once, after compiling. */
int hb_transport_socket_for_workload(const struct hb_transport_socket *, struct hb_cfg *,
    const void *owner_msg);
bool hb_transport_socket_connector(const struct hb_transport_socket *);
/* What `type` compiled; NULL = it is of another type. */
const void *hb_transport_socket_conf(const struct hb_transport_socket *,
    const struct hb_transport_socket_type *type);
bool hb_transport_socket_secure(const struct hb_transport_socket *);
size_t hb_transport_socket_certs(const struct hb_transport_socket *, bool trust,
    const struct hb_cert_info *const **ret);
/*
 * Control thread: new connections are judged or made otherwise than those that are there (files of a
 * socket have changed, or who owns it was replaced). Soon, and once for many calls, `fn` runs on every
 * worker: who holds connections of upstream sockets looks at them again.
 */
void hb_transport_sockets_changed(void);
/* One for the process; NULL = nobody. Control thread. */
void hb_transport_sockets_watch(void (*fn)(struct hb_worker *));

/* Control thread: every live compiled socket with certificates, for /certs. */
void hb_transport_socket_foreach(void (*fn)(void *arg, const struct hb_transport_socket *), void *arg);

#endif

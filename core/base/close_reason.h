/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/base/close_reason.h: every way in which a connection, stream or dial can end, in one table.
 *
 * X(ENUM, "counter", is_error, "FLAG", "detail", "text")
 *   counter   suffix of the counter that counts it (documented in docs/operations.md)
 *   is_error  true when the other side must see a reset instead of a clean end
 *   FLAG      Envoy response flag for access logs, "-" = none
 *   detail    %CONNECTION_TERMINATION_DETAILS% / %UPSTREAM_TRANSPORT_FAILURE_REASON%, "-" = none
 *   text      for people
 */
#ifndef HB_CORE_BASE_CLOSE_REASON_H
#define HB_CORE_BASE_CLOSE_REASON_H

#include "core/base/base.h"

#define HB_CLOSE_REASONS(X)                                                                                       \
	X(NONE, "none", false, "-", "-", "still open")                                                            \
	X(DONE, "done", false, "-", "-", "both sides ended cleanly")                                              \
	X(PEER_RESET, "peer_reset", true, "DC", "-", "the peer reset the connection")                             \
	X(UPSTREAM_RESET, "upstream_reset", true, "UC", "-", "the upstream reset the connection")                 \
	X(DOWNSTREAM_RESET, "downstream_reset", true, "DC", "-", "the downstream reset the connection")           \
	X(PEER_TRUNCATED, "peer_truncated", true, "UC", "tls_truncated", "TLS ended without close_notify")        \
	X(LOCAL_CLOSE, "local_close", false, "-", "-", "closed by a filter")                                      \
	X(IO_ERROR, "io_error", true, "UC", "-", "reading or writing the socket failed")                          \
	X(IDLE_TIMEOUT, "idle_timeout", false, "SI", "idle_timeout", "no byte for the idle timeout")              \
	X(MAX_DURATION, "max_duration", false, "DT", "max_duration", "older than the maximum duration")           \
	X(FLUSH_TIMEOUT, "flush_timeout", true, "-", "flush_timeout", "the peer did not take the rest in time")   \
	X(PRE_CX_TIMEOUT, "pre_cx_timeout", true, "-", "listener_filter_timeout", "listener filters timed out")   \
	X(PRE_CX_CLOSED, "pre_cx_closed", false, "DC", "-", "the peer left before a filter chain was chosen")     \
	X(LISTENER_FILTER, "listener_filter_error", true, "-", "listener_filter_error", "a listener filter refused the first bytes") \
	X(NO_FILTER_CHAIN, "no_filter_chain_match", true, "NR", "filter_chain_not_found", "no filter chain matches") \
	X(CX_LIMIT, "cx_overflow", true, "-", "connection_limit", "the listener's connection limit is reached")   \
	X(GLOBAL_CX_LIMIT, "global_cx_overflow", true, "OM", "global_connection_limit", "the process's connection limit is reached") \
	X(RATE_LIMITED, "rate_limited", true, "RL", "rate_limited", "a rate limit refused the connection")        \
	X(RBAC_DENIED, "rbac_denied", true, "UAEX", "rbac_access_denied", "a policy denies the connection")       \
	X(UNKNOWN_SNI, "unknown_sni", true, "NR", "unknown_sni", "no route for the server name")                  \
	X(NO_CLUSTER, "no_cluster", true, "NC", "cluster_not_found", "the cluster is not known")                  \
	X(NO_ROUTE, "no_route", true, "NR", "no_route", "nothing selects a cluster")                              \
	X(NO_HEALTHY_UPSTREAM, "no_healthy_upstream", true, "UH", "no_healthy_upstream", "the cluster has no usable endpoint") \
	X(UPSTREAM_OVERFLOW, "upstream_overflow", true, "UO", "upstream_overflow", "a circuit breaker is open")   \
	X(CONNECT_REFUSED, "connect_refused", true, "UF", "connection_refused", "the endpoint refused the connection") \
	X(CONNECT_UNREACHABLE, "connect_unreachable", true, "UF", "unreachable", "the endpoint cannot be reached") \
	X(CONNECT_TIMEOUT, "connect_timeout", true, "UF", "connection_timeout", "connecting took too long")       \
	X(CONNECT_FAILED, "connect_failed", true, "UF", "connection_failure", "connecting failed")                \
	X(CONNECT_ATTEMPTS, "connect_attempts_exceeded", true, "URX", "max_connect_attempts", "every connect attempt failed") \
	X(ATTEMPTS_TIMEOUT, "connect_attempts_timeout", true, "URX", "max_connect_attempts", "every connect attempt failed, the last one by taking too long") \
	X(DNS_FAILED, "dns_failed", true, "DF", "dns_resolution_failed", "the name does not resolve")             \
	X(TLS_HANDSHAKE, "tls_handshake_failed", true, "UF", "tls_handshake_failed", "the TLS handshake failed")  \
	X(TLS_NO_GROUP, "tls_no_shared_group", true, "UF", "tls_no_shared_group", "the peer accepts none of our key exchange groups") \
	X(TLS_TIMEOUT, "tls_handshake_timeout", true, "UF", "tls_handshake_timeout", "the TLS handshake took too long") \
	X(TLS_NO_CERT, "tls_no_certificate", true, "UF", "peer_certificate_missing", "the peer sent no certificate") \
	X(TLS_VERIFY, "tls_verify_failed", true, "UF", "certificate_verify_failed", "the peer's certificate does not verify") \
	X(TLS_SAN, "tls_san_mismatch", true, "UF", "san_mismatch", "the peer's identity is not an allowed one")   \
	X(TLS_PEER_REFUSED, "tls_peer_refused", true, "UF", "peer_refused_certificate", "the peer refused our certificate") \
	X(TLS_ERROR, "tls_error", true, "UC", "tls_protocol_error", "a TLS record was not acceptable")            \
	X(TLS_NO_SECRET, "tls_no_secret", true, "UF", "secret_not_supplied", "the certificate is not available yet") \
	X(PROTOCOL_ERROR, "protocol_error", true, "DPE", "protocol_error", "the peer broke the protocol")         \
	X(FLOOD, "flood", true, "DPE", "http2_flood", "the peer sent more frames of a kind than are of use")          \
	X(KEEPALIVE_TIMEOUT, "keepalive_timeout", true, "-", "keepalive_timeout", "the peer does not answer PING")    \
	X(HTTP_TIMEOUT, "http_timeout", true, "DPE", "http_timeout", "the peer took too long for its settings or a header block") \
	X(STREAM_REFUSED, "stream_refused", true, "UF", "stream_refused", "the peer refused the stream")          \
	X(STREAM_RESET, "stream_reset", true, "UR", "stream_reset", "the peer reset the stream")                  \
	X(GOAWAY, "goaway", true, "UF", "goaway", "the session is going away")                                    \
	X(TUNNEL_REJECTED, "tunnel_rejected", true, "UF", "tunnel_rejected", "the proxy answered the tunnel request with an error") \
	X(BUFFER_LIMIT, "buffer_limit", true, "OM", "buffer_limit", "more bytes had to be kept than the limit allows") \
	X(OVERLOAD, "overload", true, "OM", "overload", "the process is overloaded")                              \
	X(REVOKED, "revoked", true, "UAEX", "revoked", "policy or trust changed and denies it now")               \
	X(DRAINED, "drained", true, "-", "drained", "still open when draining ended")                             \
	X(ADMIN, "admin_close", true, "-", "admin_close", "closed by an operator")                                \
	X(SHUTDOWN, "shutdown", true, "-", "shutdown", "the process is stopping")

enum hb_close_reason {
#define X(e, c, i, f, d, t) HB_CLOSE_##e,
	HB_CLOSE_REASONS(X)
#undef X
	HB_CLOSE_MAX
};

struct hb_close_info {
	const char *name;    /* "IDLE_TIMEOUT"         */
	const char *counter; /* "idle_timeout"         */
	const char *flag;    /* "SI"; "-" = none       */
	const char *detail;  /* "idle_timeout"         */
	const char *text;    /* for people             */
	bool        is_error;
};

/* Never NULL for r < HB_CLOSE_MAX. */
HB_EXPORT const struct hb_close_info *hb_close_info(enum hb_close_reason r);

/* The reason of a dial whose allowed attempts all failed, the last one for `last`. */
enum hb_close_reason hb_close_attempts(enum hb_close_reason last);

#endif

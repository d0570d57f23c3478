/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/stats.h: the counters of a cluster and of the room.
 */
#ifndef HB_UPSTREAMS_STATS_H
#define HB_UPSTREAMS_STATS_H

#include "core/stats/stats.h"

#define HB_CLUSTER_STATS(X)                                                                         \
	X(CL_CX_TOTAL, "upstream_cx_total", COUNTER, "Connections begun, one for each endpoint tried.") \
	X(CL_CX_ACTIVE, "upstream_cx_active", GAUGE, "Connections open or being made.")              \
	X(CL_CX_CONNECT_FAIL, "upstream_cx_connect_fail", COUNTER,                                   \
	    "Connections that could not be made, timeouts and failed TLS handshakes included.")     \
	X(CL_CX_CONNECT_TIMEOUT, "upstream_cx_connect_timeout", COUNTER,                             \
	    "Connections not made within connect_timeout.")                                         \
	X(CL_CX_ATTEMPTS_EXCEEDED, "upstream_cx_connect_attempts_exceeded", COUNTER,                 \
	    "Dials that gave up after the allowed number of endpoints.")                            \
	X(CL_CX_OVERFLOW, "upstream_cx_overflow", COUNTER,                                           \
	    "Dials refused because max_connections was reached.")                                   \
	X(CL_CX_NONE_HEALTHY, "upstream_cx_none_healthy", COUNTER,                                   \
	    "Dials refused because no endpoint was usable.")                                        \
	X(CL_CX_DESTROY, "upstream_cx_destroy", COUNTER, "Established connections that ended.")      \
	X(CL_CX_DESTROY_LOCAL, "upstream_cx_destroy_local", COUNTER, "Of these, ended by us.")       \
	X(CL_CX_DESTROY_REMOTE, "upstream_cx_destroy_remote", COUNTER,                               \
	    "Of these, ended by the endpoint, or by both sides.")                                   \
	X(CL_CX_RX_BYTES, "upstream_cx_rx_bytes_total", COUNTER,                                     \
	    "Bytes received from endpoints; those of living connections are added every 5 s.")                       \
	X(CL_CX_TX_BYTES, "upstream_cx_tx_bytes_total", COUNTER,                                     \
	    "Bytes sent to endpoints; those of living connections are added every 5 s.")                             \
	X(CL_CX_CONNECT_MS, "upstream_cx_connect_ms", HISTOGRAM,                                     \
	    "Time to make a connection, TLS handshake included, in ms.")                            \
	X(CL_CX_LENGTH_MS, "upstream_cx_length_ms", HISTOGRAM, "Life of a connection in ms.")        \
	X(CL_RQ_TOTAL, "upstream_rq_total", COUNTER, "Dials that got a connection.")                 \
	X(CL_RQ_CANCELLED, "upstream_rq_cancelled", COUNTER,                                         \
	    "Dials given up by the downstream before a connection was there.")                      \
	X(CL_RQ_PENDING_TOTAL, "upstream_rq_pending_total", COUNTER, "Dials begun.")                 \
	X(CL_RQ_PENDING_ACTIVE, "upstream_rq_pending_active", GAUGE,                                 \
	    "Dials waiting for their connection.")                                                  \
	X(CL_RQ_PENDING_OVERFLOW, "upstream_rq_pending_overflow", COUNTER,                           \
	    "Dials refused because max_pending_requests was reached.")                              \
	X(CL_RQ_PENDING_FAILURE, "upstream_rq_pending_failure_eject", COUNTER,                       \
	    "Dials that ended without a connection.")                                               \
	X(CL_MEMBERSHIP_CHANGE, "membership_change", COUNTER, "Times the set of endpoints changed.") \
	X(CL_MEMBERSHIP_TOTAL, "membership_total", GAUGE, "Endpoints.")                              \
	X(CL_MEMBERSHIP_HEALTHY, "membership_healthy", GAUGE, "Usable endpoints, without degraded ones.") \
	X(CL_MEMBERSHIP_DEGRADED, "membership_degraded", GAUGE, "Endpoints used as a last resort.")  \
	X(CL_LB_PANIC, "lb_healthy_panic", COUNTER,                                                  \
	    "Choices made among all endpoints because too few were healthy.")                       \
	X(CL_UPDATE_ATTEMPT, "update_attempt", COUNTER, "Look-ups of names begun.")                  \
	X(CL_UPDATE_SUCCESS, "update_success", COUNTER, "Look-ups that answered with addresses.")    \
	X(CL_UPDATE_FAILURE, "update_failure", COUNTER,                                              \
	    "Look-ups that failed; the last good answer stays.")                                    \
	X(CL_UPDATE_EMPTY, "update_empty", COUNTER,                                                  \
	    "Look-ups of names without an address of the wanted family; the last good answer stays.") \
	X(CL_UPDATE_DROPPED, "update_dropped_addresses", COUNTER,                                    \
	    "Addresses of answers beyond max_dns_addresses, which are not used.")                   \
	X(CL_UPDATE_NO_REBUILD, "update_no_rebuild", COUNTER, "Look-ups that changed nothing.")      \
	X(CL_BREAKER_CX_OPEN, "circuit_breakers.default.cx_open", GAUGE,                             \
	    "1 while max_connections is reached.")                                                  \
	X(CL_BREAKER_PENDING_OPEN, "circuit_breakers.default.rq_pending_open", GAUGE,                \
	    "1 while max_pending_requests is reached.")                                             \
	X(CL_BREAKER_RQ_OPEN, "circuit_breakers.default.rq_open", GAUGE,                             \
	    "1 while max_requests is reached.")                                                     \
	X(CL_BREAKER_RQ_LEFT, "circuit_breakers.default.remaining_rq", GAUGE,                        \
	    "Streams of tunnels left before max_requests is reached.")                              \
	X(CL_BREAKER_CX_LEFT, "circuit_breakers.default.remaining_cx", GAUGE,                        \
	    "Connections left before max_connections is reached.")                                  \
	X(CL_BREAKER_PENDING_LEFT, "circuit_breakers.default.remaining_pending", GAUGE,              \
	    "Dials left before max_pending_requests is reached.")                                   \
	X(CL_BIND_ERRORS, "bind_errors", COUNTER,                                                    \
	    "Sockets that could not be made or bound to upstream_bind_config.")                     \
	X(CL_ORIG_INVALID, "original_dst_host_invalid", COUNTER,                                     \
	    "Dials of ORIGINAL_DST without an original address.")                                   \
	X(CL_ORIG_UNTRACKED, "original_dst_host_untracked", COUNTER,                                 \
	    "Original addresses dialled but not listed, because max_original_dst_addresses are listed already.") \
	X(CL_CX_HTTP2, "upstream_cx_http2_total", COUNTER, "Connections made for tunnels.")          \
	X(CL_CX_IDLE, "upstream_cx_idle_timeout", COUNTER,                                           \
	    "Connections of tunnels closed because they had no stream for idle_timeout.")           \
	X(CL_CX_GOAWAY, "upstream_cx_close_notify", COUNTER, "GOAWAY frames received.")              \
	X(CL_POOL_ACTIVE, "hbone_pool.connections", GAUGE, "Connections of tunnels, those being made included.") \
	X(CL_POOL_IDLE, "hbone_pool.idle", GAUGE, "Of these, without a stream.")                     \
	X(CL_POOL_EVICTED, "hbone_pool.evicted", COUNTER,                                            \
	    "Connections closed because more than idle_connections had no stream.")                 \
	X(CL_POOL_SPREAD, "hbone_pool.spread", COUNTER,                                              \
	    "Connections made because all to a peer were hot (hot_streams, hot_bytes_per_second).") \
	X(CL_POOL_SURPLUS, "hbone_pool.surplus", COUNTER,                                            \
	    "Connections closed because they had no stream for surplus_idle_timeout and were not the only one to the peer.") \
	X(CL_POOL_STALE, "hbone_pool.stale", COUNTER,                                                \
	    "Connections that take no new streams because certificates or trust were replaced.")    \
	X(CL_POOL_OVERFLOW, "upstream_cx_pool_overflow", COUNTER,                                    \
	    "Times that tunnels had to wait because connections_per_peer or max_connections was reached.") \
	X(CL_RQ_ACTIVE, "upstream_rq_active", GAUGE, "Streams of tunnels, those not answered yet included.") \
	X(CL_RQ_RETRY, "upstream_rq_retry", COUNTER,                                                 \
	    "Tunnel requests sent again because the peer had not looked at them.")                  \
	X(CL_RQ_TIMEOUT, "upstream_rq_timeout", COUNTER,                                             \
	    "Tunnel requests that were not answered, or found no room, in time.")                   \
	X(CL_RQ_REJECTED, "upstream_rq_rejected", COUNTER, "Tunnel requests answered with another status than 2xx.") \
	X(CL_RQ_BAGGAGE_INVALID, "hbone_pool.baggage_invalid", COUNTER,                              \
	    "Answers to tunnel requests whose baggage is over a limit (8192 bytes, 180 members) or unreadable.") \
	X(CL_RQ_BAGGAGE_CONTRADICTS, "hbone_pool.baggage_contradicts", COUNTER,                      \
	    "Answers whose baggage names another namespace than the peer's certificate, or than our own where the peer has no identity and our client came by mTLS: nothing of it becomes a label.") \
	X(CL_RQ_OVERFLOW, "upstream_rq_overflow", COUNTER,                                           \
	    "Dials of tunnels refused because max_requests was reached.")                           \
	X(CL_H2_RX_RESET, "http2.rx_reset", COUNTER, "RST_STREAM frames received.")                  \
	X(CL_H2_TX_RESET, "http2.tx_reset", COUNTER, "RST_STREAM frames sent.")                      \
	X(CL_H2_MALFORMED, "http2.rx_messaging_error", COUNTER,                                      \
	    "Streams reset because the peer's answer or a frame on it was wrong.")                  \
	X(CL_H2_KEEPALIVE, "http2.keepalive_timeout", COUNTER,                                       \
	    "Connections closed because a PING was not answered.")                                  \
	X(CL_H2_FLOOD, "http2.flood", COUNTER,                                                       \
	    "Connections closed because the peer sent more frames of a kind than are of use.")      \
	X(CL_TLS_HANDSHAKE, "ssl.handshake", COUNTER, "TLS handshakes that succeeded.")              \
	X(CL_TLS_REUSED, "ssl.session_reused", COUNTER, "TLS handshakes that resumed a session.")    \
	X(CL_TLS_ERROR, "ssl.connection_error", COUNTER,                                             \
	    "TLS handshakes that failed for another reason than the endpoint's certificate.")       \
	X(CL_TLS_VERIFY, "ssl.fail_verify_error", COUNTER,                                           \
	    "TLS handshakes in which the endpoint's certificate did not verify.")                   \
	X(CL_TLS_SAN, "ssl.fail_verify_san", COUNTER,                                                \
	    "TLS handshakes in which the endpoint's identity was not an allowed one.")              \
	X(CL_TLS_REVOKED, "ssl.revoked", COUNTER,                                                    \
	    "Live connections ended because the endpoint's certificate or identity is no longer allowed.") \
	X(CL_TLS_NO_GROUP, "ssl.fail_no_shared_group", COUNTER,                                      \
	    "TLS handshakes in which the endpoint wanted a key exchange group that is not ours.")

enum hb_cluster_stat { HB_CLUSTER_STATS(HB_STAT_ENUM) CL_STAT_MAX };
extern const struct hb_stat_family hb_cluster_family;

#define HB_CLUSTER_MANAGER_STATS(X)                                                          \
	X(CM_ADDED, "cluster_added", COUNTER, "Clusters added.")                              \
	X(CM_MODIFIED, "cluster_modified", COUNTER, "Clusters replaced.")                     \
	X(CM_REMOVED, "cluster_removed", COUNTER, "Clusters removed.")                        \
	X(CM_UPDATED, "cluster_updated", COUNTER, "Times the endpoints of a cluster changed.") \
	X(CM_ACTIVE, "active_clusters", GAUGE, "Clusters in use.")                            \
	X(CM_WARMING, "warming_clusters", GAUGE, "Clusters waiting for their first endpoints.")

enum hb_cluster_manager_stat { HB_CLUSTER_MANAGER_STATS(HB_STAT_ENUM) CM_STAT_MAX };
extern const struct hb_stat_family hb_cluster_manager_family;
extern struct hb_stats *hb_cluster_manager; /* of upstreams.c; control thread */

#endif

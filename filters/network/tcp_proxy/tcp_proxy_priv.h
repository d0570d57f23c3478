/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filters/network/tcp_proxy/tcp_proxy_priv.h: configuration and counters of tcp_proxy.
 */
#ifndef HB_FILTERS_NETWORK_TCP_PROXY_TCP_PROXY_PRIV_H
#define HB_FILTERS_NETWORK_TCP_PROXY_TCP_PROXY_PRIV_H

#include "core/filter/filter.h"
#include "core/filter/header_adds.h"
#include "core/stats/access_log.h"
#include "core/stats/stats.h"

/* X(ENUM, "name", KIND, "what it counts") */
#define TCP_PROXY_STATS(X)                                                                        \
	X(TCP_N_CX_TOTAL, "downstream_cx_total", COUNTER, "Connections that reached the filter.")   \
	X(TCP_N_CX_NO_ROUTE, "downstream_cx_no_route", COUNTER,                                     \
	    "Connections for which no cluster was chosen, or one that does not exist.")           \
	X(TCP_N_CX_RX, "downstream_cx_rx_bytes_total", COUNTER, "Bytes received from downstreams.") \
	X(TCP_N_CX_TX, "downstream_cx_tx_bytes_total", COUNTER, "Bytes sent to downstreams.")       \
	X(TCP_N_PAUSED, "downstream_flow_control_paused_reading_total", COUNTER,                    \
	    "Times that a downstream was not read because its upstream took nothing.")            \
	X(TCP_N_RESUMED, "downstream_flow_control_resumed_reading_total", COUNTER,                  \
	    "Times that a paused downstream was read again.")                                     \
	X(TCP_N_EARLY, "early_data_received_count_total", COUNTER,                                  \
	    "Connections that sent bytes before their upstream was connected.")                   \
	X(TCP_N_IDLE, "idle_timeout", COUNTER, "Connections closed by the idle timeout.")           \
	X(TCP_N_MAX_DURATION, "max_downstream_connection_duration", COUNTER,                        \
	    "Connections closed because they reached the maximum duration.")                      \
	X(TCP_N_FLUSH_TOTAL, "upstream_flush_total", COUNTER,                                       \
	    "Connections whose downstream was gone while bytes for the upstream were left.")      \
	X(TCP_N_FLUSH_ACTIVE, "upstream_flush_active", GAUGE,                                       \
	    "Of those, the ones that are still sending.")

enum tcp_proxy_stat { TCP_PROXY_STATS(HB_STAT_ENUM) TCP_PROXY_STAT_MAX };

struct tcp_proxy_weight {
	char    *cluster; /* owned                                */
	uint64_t upto;    /* sum of the weights so far, this included */
};

/* tunneling_config */
struct tcp_proxy_tunnel {
	struct hb_format *authority;     /* owned               */
	struct hb_header_adds *adds;     /* owned; NULL = none  */
	bool  post, propagate_headers;
	char *path;                      /* owned; of a POST    */
};

struct tcp_proxy_conf {
	unsigned magic;
#define TCP_PROXY_CONF_MAGIC 0x7c9047a1
	struct hb_stats *stats;           /* counted reference           */
	struct tcp_proxy_weight *cluster; /* owned; sorted by `upto`     */
	size_t   n_clusters;
	unsigned attempts;
	uint64_t idle_ms;                 /* 0 = none                    */
	uint64_t duration_ms;             /* 0 = none                    */
	uint64_t backoff_ms, backoff_max_ms; /* 0 = retry at once        */
	bool     wait_for_data;           /* dial when bytes are there   */
	size_t   early_max;               /* bytes kept before connected */
	struct hb_access_log *log;        /* owned; NULL = none          */
	uint64_t log_interval_ms;         /* 0 = none                    */
	bool     log_start, log_connected;
	struct tcp_proxy_tunnel *tunnel;  /* owned; NULL = none          */
};

int  tcp_proxy_compile(struct hb_cfg *, const ProtobufCMessage *, const void **ret_conf);
void tcp_proxy_conf_free(const void *conf);

/* tcp_proxy_tunnel.c. NULL after reporting. */
struct tcp_proxy_tunnel *tcp_proxy_tunnel_compile(struct hb_cfg *, const void *tunneling_msg);
void tcp_proxy_tunnel_free(struct tcp_proxy_tunnel **);

/* One connection's request, until the dial is over. */
struct tcp_proxy_request {
	struct hb_tunnel tunnel;
	struct hb_arena  arena; /* of its strings */
	struct hb_header headers[HB_HEADER_ADDS_MAX];
};
struct tcp_proxy_request *tcp_proxy_request_make(const struct tcp_proxy_tunnel *, struct hb_filter *);
/* Adds what it would ask for now. */
void tcp_proxy_authority(const struct tcp_proxy_tunnel *, struct hb_filter *, struct hb_text *to);
void tcp_proxy_request_free(struct tcp_proxy_request **); /* accepts NULL inside */
/* Keeps an answer's headers as filter state. */
void tcp_proxy_keep_response(struct hb_filter *, const struct hb_header *, size_t n);

#endif

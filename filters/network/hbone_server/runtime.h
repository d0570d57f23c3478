/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filters/network/hbone_server/runtime.h: a tunnel server at the end of a filter chain. What the
 * configuration looks like is its user's matter: hbone_server has its own message,
 * http_connection_manager Envoy's. Each compiles to a struct hb_hbone_conf and puts these slots into
 * its filter type.
 */
#ifndef HB_FILTERS_NETWORK_HBONE_SERVER_RUNTIME_H
#define HB_FILTERS_NETWORK_HBONE_SERVER_RUNTIME_H

#include "core/filter/chain_set.h"
#include "core/http/tunnel_server.h"
#include "core/stats/access_log.h"
#include "core/stats/stats.h"

/* X(ENUM, "name", KIND, "text"); the floods follow in the order of HB_H2_FLOODS. */
#define HBONE_STATS(X)                                                                            \
	X(HBONE_CX_TOTAL, "downstream_cx_total", COUNTER, "HTTP/2 connections served.")           \
	X(HBONE_CX_ACTIVE, "downstream_cx_active", GAUGE, "HTTP/2 connections open now.")         \
	X(HBONE_CX_PROTOCOL, "downstream_cx_protocol_error", COUNTER,                             \
		"Connections ended because the peer broke HTTP/2.")                               \
	X(HBONE_CX_FLOOD, "downstream_cx_flood", COUNTER, "Connections ended by a flood.")        \
	X(HBONE_RQ_TOTAL, "downstream_rq_total", COUNTER, "Requests received.")                   \
	X(HBONE_ACTIVE, "tunnels_active", GAUGE, "Tunnel streams open now.")                      \
	X(HBONE_TUNNELS, "tunnels_total", COUNTER, "Requests that got a filter chain.")           \
	X(HBONE_HANDED, "tunnels_handed_over", COUNTER, "Requests that a listener took.")         \
	X(HBONE_REVOKED, "tunnels_revoked", COUNTER,                                              \
		"Tunnels ended because a reload no longer allows their authority or port.")       \
	X(HBONE_200, "rq_200", COUNTER, "Ended tunnels that had been answered 200.")              \
	X(HBONE_400, "rq_400", COUNTER, "Requests answered 400: no tunnel, or a bad authority.")  \
	X(HBONE_401, "rq_401", COUNTER, "Requests answered 401: denied.")                         \
	X(HBONE_403, "rq_403", COUNTER, "Requests answered 403: denied.")                         \
	X(HBONE_404, "rq_404", COUNTER, "Requests answered 404: no route.")                       \
	X(HBONE_431, "rq_431", COUNTER, "Requests answered 431: too many or too large headers.")  \
	X(HBONE_503, "rq_503", COUNTER, "Requests answered 503: no upstream.")                    \
	X(HBONE_504, "rq_504", COUNTER, "Requests answered 504: connecting took too long.")       \
	X(HBONE_OTHER, "rq_other", COUNTER, "Requests with another answer, or none.")             \
	X(HBONE_BAGGAGE_INVALID, "baggage_invalid", COUNTER,                                      \
		"Requests whose baggage is over a limit (8192 bytes, 180 members) or unreadable.") \
	X(HBONE_BAGGAGE_CONTRADICTS, "baggage_contradicts", COUNTER,                              \
		"Requests whose baggage names another namespace than the peer's certificate: "    \
		"nothing of it is believed.")                                                     \
	X(HBONE_FORWARDED_INVALID, "forwarded_invalid", COUNTER,                                  \
		"Requests whose header forwarded is over 1024 bytes or unreadable.")              \
	X(HBONE_TRACE_INVALID, "traceparent_invalid", COUNTER,                                    \
		"Requests whose header traceparent is unreadable.")                               \
	X(HBONE_REFUSED, "http2.stream_refused", COUNTER,                                         \
		"Streams refused (REFUSED_STREAM): over the limit, or after the final GOAWAY.")   \
	X(HBONE_RX_RESET, "http2.rx_reset", COUNTER, "RST_STREAM frames received.")               \
	X(HBONE_TX_RESET, "http2.tx_reset", COUNTER, "RST_STREAM frames sent.")                   \
	X(HBONE_MALFORMED, "http2.stream_errors", COUNTER,                                        \
		"Streams reset because of a malformed request or a wrong frame.")                 \
	X(HBONE_KEEPALIVE, "http2.keepalive_timeout", COUNTER,                                    \
		"Connections ended because a PING was not answered.")                             \
	X(HBONE_SLOW_HEADERS, "http2.headers_timeout", COUNTER,                                   \
		"Connections ended because a header block took too long.")                        \
	X(HBONE_SLOW_START, "http2.settings_timeout", COUNTER,                                    \
		"Connections ended because the first SETTINGS took too long.")                    \
	X(HBONE_IDLE, "http2.idle_timeout", COUNTER, "Connections drained for want of streams.")  \
	X(HBONE_FLOOD_RESETS, "http2.flood_resets", COUNTER,                                      \
		"Connections ended by streams that were reset too soon.")                         \
	X(HBONE_FLOOD_ERRORS, "http2.flood_stream_errors", COUNTER,                               \
		"Connections ended by streams that we had to reset.")                             \
	X(HBONE_FLOOD_PINGS, "http2.flood_pings", COUNTER, "Connections ended by PING frames.")   \
	X(HBONE_FLOOD_SETTINGS, "http2.flood_settings", COUNTER,                                  \
		"Connections ended by SETTINGS frames.")                                          \
	X(HBONE_FLOOD_EMPTY, "http2.flood_empty_data", COUNTER,                                   \
		"Connections ended by empty DATA frames.")                                        \
	X(HBONE_FLOOD_WINDOWS, "http2.flood_window_updates", COUNTER,                             \
		"Connections ended by WINDOW_UPDATE frames.")                                     \
	X(HBONE_FLOOD_OTHER, "http2.flood_other_frames", COUNTER,                                 \
		"Connections ended by PRIORITY frames or unknown ones.")                          \
	X(HBONE_FLOOD_CONTINUATIONS, "http2.flood_continuations", COUNTER,                        \
		"Connections ended by CONTINUATION frames.")                                      \
	X(HBONE_FLOOD_OUTBOUND, "http2.flood_outbound_frames", COUNTER,                           \
		"Connections ended because the peer did not read what it asked for.")

enum hbone_stat { HBONE_STATS(HB_STAT_ENUM) HBONE_STAT_MAX };
_Static_assert(HBONE_STAT_MAX - HBONE_FLOOD_RESETS == HB_H2_FLOOD_MAX, "a row for each flood");

#define HB_HBONE_HEADERS_MAX 32u /* fields of a request that are kept; more are not */

/* Where a stream goes. */
struct hb_hbone_way {
	const struct hb_chain *chain; /* NULL = to the listener                            */
	struct hb_str listener;
	enum hb_close_reason refuse;  /* not NONE: not at all                              */
	unsigned status;              /* … with this answer; 0 = that of the reason        */
	const char *why;              /* of a refusal; for the log                         */
};

struct hb_hbone_conf { /* frozen */
	unsigned magic;
#define HB_HBONE_CONF_MAGIC 0x61f8c20e
	struct hb_tunnel_options tunnel;
	char *label;                  /* owned; what streams are listed under              */
	struct hb_stats *stats;       /* reference                                         */
	struct hb_access_log *log;    /* owned; NULL = none                                */
	struct hb_format *baggage;    /* owned; of answers; NULL = none                    */
	char **keep;                  /* owned; headers kept as metadata, lower case       */
	size_t n_keep;
	bool keep_all;
	bool trust_forwarded;
	/* Decides; may change the facts of the stream. `arg` belongs to the user. */
	void (*choose)(const void *arg, const struct hb_tunnel_request *, struct hb_facts *,
		struct hb_hbone_way *ret);
	const void *arg;
	/* Owned by the runtime once set: what tunnel points to. */
	char *post_path, *post_target;
};

struct hb_hbone { /* context of the filter; private */
	unsigned magic;
#define HB_HBONE_MAGIC 0x2c61b7f5
	struct hb_filter *filter;       /* NULL once it ended; the memory stays, see hb_conn_carries */
	struct hb_worker *worker;
	const struct hb_hbone_conf *conf;
	struct hb_tunnel_server server;
	bool counted;                   /* in HBONE_CX_ACTIVE                                */
	uint8_t baggage_found;          /* what the baggage with this hash was found to be   */
	uint64_t baggage_hash;
};

/* For compile functions; stat_prefix is copied. */
void hb_hbone_conf_init(struct hb_hbone_conf *, const char *stat_prefix);
/* All but `arg` and the struct itself. */
void hb_hbone_conf_fini(struct hb_hbone_conf *);

/* Slots; the configuration of the filter starts with a struct hb_hbone_conf. */
enum hb_filter_status hb_hbone_on_secured(struct hb_filter *);
void hb_hbone_on_event(struct hb_filter *, enum hb_event);
void hb_hbone_fini(struct hb_filter *);

/*
 * For chain_of slots: the choice for a request with the stream's authority and what is kept of its
 * method and headers. Its path is not: a POST in Envoy's form has no route then, and stays.
 */
const struct hb_chain *hb_hbone_chain_of(const struct hb_hbone_conf *, struct hb_judge *);

struct hb_explain;
/*
 * For explain slots: a CONNECT request with the authority of the explained facts, which become those
 * of its stream. False: it is refused, and the explanation says why; but for
 * HB_CLOSE_NO_FILTER_CHAIN, where the chain set has more to say.
 */
bool hb_hbone_explain(const struct hb_hbone_conf *, const char *filter, struct hb_explain *,
	struct hb_hbone_way *ret);

#endif

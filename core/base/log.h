/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/base/log.h: the application log (the access log lives in core/stats).
 *
 * One line a message, to stderr or a file, as text
 *     2026-01-02T03:04:05.678Z info  listener: 0.0.0.0:15443 listening workers=2
 * or as JSON. Each component has its level, changeable at run time (admin /logging). Components
 * are the rows of HB_LOG_COMPONENTS. Thread safe; a line is written with one write(2). Never log
 * keys, tokens or payload bytes.
 */
#ifndef HB_CORE_BASE_LOG_H
#define HB_CORE_BASE_LOG_H

#include "core/base/err.h"

enum hb_log_level {
	HB_LOG_TRACE,
	HB_LOG_DEBUG,
	HB_LOG_INFO,
	HB_LOG_WARN,
	HB_LOG_ERROR,
	HB_LOG_CRITICAL,
	HB_LOG_OFF,
};

/* X(ENUM, "name", "what it tells") */
#define HB_LOG_COMPONENTS(X)                                                          \
	X(MAIN, "main", "start, stop, signals, command line")                         \
	X(CONFIG, "config", "reading, validating and applying configuration")         \
	X(LISTENER, "listener", "sockets, accepting, filter chains, draining")        \
	X(CONN, "connection", "connections: opening, closing, why")                   \
	X(FILTER, "filter", "listener, network and HTTP filters")                     \
	X(TLS, "tls", "handshakes, certificates, verification")                       \
	X(HTTP, "http", "HTTP/1 and HTTP/2 sessions")                                 \
	X(HBONE, "hbone", "tunnels")                                                  \
	X(UPSTREAM, "upstream", "clusters, endpoints, connecting")                    \
	X(DNS, "dns", "name resolution")                                              \
	X(RBAC, "rbac", "policy decisions")                                           \
	X(ADMIN, "admin", "admin requests")                                           \
	X(XDS, "xds", "management server streams")                                    \
	X(STATS, "stats", "metrics and access logs")

enum hb_log_component {
#define X(e, n, t) HB_LOG_C_##e,
	HB_LOG_COMPONENTS(X)
#undef X
	HB_LOG_C_MAX
};

/* Level of each component; read with a plain relaxed load by HB_LOG_ON. */
HB_EXPORT extern _Atomic unsigned char hb_log_levels[HB_LOG_C_MAX];

#define HB_LOG_ON(comp, level) \
	(hb_log_levels[HB_LOG_C_##comp] <= (unsigned char)HB_LOG_##level)
/*
 * HB_LOG(LISTENER, INFO, "listening", "address=%s workers=%u", addr, n): a fixed message, then
 * key=value pairs. In JSON each pair becomes a field, a number when its format is one (%u, %.3f).
 * Values may come from peers: they are quoted and escaped when they need it, and cannot forge a
 * line or a pair; keys and the format are ours. At most 24 pairs. A line has at most 4 KiB: pairs
 * that do not fit are left out and truncated=true is added.
 */
#define HB_LOG(comp, level, msg, ...)                                                       \
	(HB_LOG_ON(comp, level)                                                             \
	        ? hb_log_write(HB_LOG_C_##comp, HB_LOG_##level, (msg), " " __VA_ARGS__)     \
	        : (void)0)

HB_EXPORT void hb_log_write(enum hb_log_component, enum hb_log_level, const char *msg,
    const char *kv, ...) HB_PRINTF(4, 5);

/*
 * path NULL = stderr. Call from main() before threads start. Text, level info by default. Ignores
 * SIGPIPE if nobody handles it, and opens /dev/null as stderr if stderr is closed.
 */
int  hb_log_init(const char *path, bool json, struct hb_err *reterr);
/* Re-opens the file (after rotation). Any thread. */
int  hb_log_reopen(struct hb_err *reterr);
/* Lines that could not be written: nobody reads the pipe, the disk is full. Any thread. */
uint64_t hb_log_dropped(void);
void hb_log_level_all(enum hb_log_level);
/* "info", "warning" and "warn", …; -EINVAL with the nearest name. */
int  hb_log_level_parse(const char *name, enum hb_log_level *ret, struct hb_err *reterr);
const char *hb_log_level_name(enum hb_log_level);
/* "connection:debug,tls:trace"; all or nothing. */
int  hb_log_levels_parse(const char *spec, struct hb_err *reterr);
const char *hb_log_component_name(enum hb_log_component);
/* Tests and tools: everything goes to `fn` instead, one line without newline; NULL restores. */
void hb_log_capture(void (*fn)(void *arg, const char *line), void *arg);

#endif

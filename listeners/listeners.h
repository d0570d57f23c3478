/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listeners/listeners.h: sockets, listener filters, filter chain choice, warming, in-place update,
 * drain. For core/app. Control thread only.
 *
 * A listener is published by name (kind "listener"). Sockets are made on the control thread, one
 * for each worker and address (SO_REUSEPORT), so a bind error is an error of the configuration.
 * Replacing: when only chains differ, sockets and equal chains stay, vanished chains drain alone;
 * otherwise the new listener takes over (the sockets too, where addresses are equal) before the
 * old one stops accepting.
 */
#ifndef HB_LISTENERS_LISTENERS_H
#define HB_LISTENERS_LISTENERS_H

#include "core/config/resource.h"
#include "core/base/close_reason.h"
#include "core/facts/facts.h"

struct hb_explain;

struct hb_listeners_options {
	uint64_t connections_max; /* of all listeners that do not ignore it; 0 = no limit   */
	uint64_t drain_time_ms;   /* of a vanished chain or listener, 25000 by default      */
	bool offline;             /* `validate`, `explain`: bind nothing, match only        */
};

/* Registers kind, acceptor, counters and admin endpoints (/listeners /connections
 * /drain_listeners); before the workers start. */
int hb_listeners_init(const struct hb_listeners_options *, struct hb_err *reterr);
/* After the workers stopped. Closes all sockets. */
void hb_listeners_fini(void);

/* "0.0.0.0:15443" of every bound socket address; port 0 is resolved. */
void hb_listeners_foreach(
	void (*fn)(void *arg, const char *name, const struct hb_addr *bound), void *arg);
/* Every listener serves what it names (clusters known, sockets listening). `why` (may be NULL)
 * gets one line for each that does not. */
bool hb_listeners_ready(struct hb_text *why);

/* Stops accepting (sockets closed); connections stay and get HB_EVENT_DRAIN. inbound_only: those
 * with traffic_direction INBOUND. */
void hb_listeners_drain(bool inbound_only);
/* Connections of all listeners, including those before a chain was chosen. */
uint64_t hb_listeners_connections(void);
/* Closes what is left with this reason; each is written to the log. */
void hb_listeners_close_all(enum hb_close_reason);
/* One line for each connection that is left, at most `max`. Answers on the control thread. */
void hb_listeners_describe(unsigned max, void (*done)(void *arg, struct hb_text *), void *arg);

/* The way of a connection with these facts (addresses, sni, alpn …), without opening one.
 * `listener` empty = the one bound to facts->local. Adds steps, then asks chain, filters, cluster. */
void hb_listeners_explain(struct hb_str listener, struct hb_facts *, struct hb_explain *);

#endif

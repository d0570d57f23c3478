/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/race.h: connecting to one endpoint that may have several addresses (RFC 8305): the next
 * address is tried when the last one failed or has not answered for 300 ms. As soon as one TCP
 * connection stands the others are given up; they get their turn again if its TLS handshake fails.
 * The first secured transport wins.
 */
#ifndef HB_UPSTREAMS_RACE_H
#define HB_UPSTREAMS_RACE_H

#include "core/filter/transport_socket.h"
#include "core/transport/tcp.h"
#include "upstreams/endpoint.h"

#define HB_RACE_STAGGER_MS 300u
#define HB_RACE_TEXT_MAX   256u

struct hb_bind_conf; /* upstreams/cluster.h */

struct hb_race_result {
	struct hb_transport *t;      /* secured, reading disabled, its sink still to be set; NULL = failed */
	enum hb_close_reason reason; /* NONE when it succeeded                                    */
	struct hb_addr addr;         /* that won, or failed last; its name lives as long as the race */
	struct hb_addr local;        /* NONE when unknown, or not wanted                          */
	bool timeout;
	bool secure;                 /* there was a TLS handshake                                 */
	bool no_socket;              /* not even a socket could be made or bound                  */
	const char *text;            /* of the failure, for people; "" = none                     */
};

struct hb_race_request {
	const struct hb_ep_addrs *addrs;          /* copied                                     */
	uint64_t timeout_ms;                      /* for TCP and TLS together                   */
	uint64_t handshake_ms;                    /* for TLS alone, then timeout_ms is for TCP; 0 = no */
	const struct hb_bind_conf *bind;          /* this and all that follow outlive the race  */
	const struct hb_tcp_options *tcp;
	const struct hb_transport_socket *socket; /* NULL = bytes in the clear                  */
	const struct hb_facts *facts;             /* of the downstream; may be NULL             */
	const char *host;
	bool speaks_first;                        /* see hb_tcp_connect; TLS always does        */
	bool local;                               /* hb_race_result.local is wanted             */
	/* Once, from the event loop; the race is gone when it returns. */
	void (*done)(void *arg, const struct hb_race_result *);
	void *arg;
};

struct hb_race;
struct hb_race *hb_race_new(struct hb_worker *, const struct hb_race_request *);
/* done will not be called. */
void hb_race_cancel(struct hb_race **);

/* A text of a failure: fresh memory, cut at HB_RACE_TEXT_MAX bytes, in the place of what *to owns;
 * an argument may lie in that. */
void hb_race_say(char **to, const char *fmt, ...) HB_PRINTF(2, 3);

/* on_data of whoever waits for a connection with reading disabled: nothing can come. */
void hb_race_no_data(void *sink, struct hb_transport *, struct hb_buf *, bool end);

#endif

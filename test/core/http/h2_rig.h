/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/core/http/h2_rig.h: a client session and a server session over a pair, loopback TCP or TLS,
 * and the streams between them.
 */
#ifndef HB_TEST_CORE_HTTP_H2_RIG_H
#define HB_TEST_CORE_HTTP_H2_RIG_H

#include "core/http/h2.h"
#include "test/support/ends.h"

#define RIG_STREAMS 128

struct rig {
	struct hb_h2 *client, *server;
	struct hb_h2_options client_opt, server_opt;
	struct hbt_sink a[RIG_STREAMS], b[RIG_STREAMS]; /* client's and server's end of stream i */
	unsigned opened, requests;
	bool no_accept;              /* requests wait: rig_accept                               */
	bool paused;                 /* attach the server's ends paused                         */
	void (*prepare)(struct rig *, struct hbt_sink *b); /* options, before attach            */
	void (*on_request)(struct rig *, const struct hb_h2_request *, struct hb_transport **);
	void *arg;
	char authority[256], method[16];
	unsigned n_headers;
	enum hb_close_reason client_reason, server_reason;
	char failure[256];           /* why the client's TLS below failed                       */
	unsigned client_closed, server_closed, goaways, rooms;
};

void rig_start(struct rig *, enum hbt_below, size_t piece);
/* Over these two, taken. */
void rig_start_over(struct rig *, struct hb_transport *a, struct hb_transport *b);
/* Opens a stream, attached to r->a[i] (options set by the caller before); returns i. */
unsigned rig_open(struct rig *);
/* Until stream i is connected on both sides. */
void rig_connect(struct rig *, unsigned i);
/* Lets go of all; turns until nothing lingers. */
void rig_stop(struct rig *);
/* For `prepare`. */
void rig_echoes(struct rig *, struct hbt_sink *b);
void rig_ends_on_end(struct rig *, struct hbt_sink *b);

/* The one of a test: set-up and tear-down for cmocka, and a new one in the middle. */
extern struct rig w;
int rig_fresh(void **state);
int rig_over(void **state);
void rig_again(void);

#endif

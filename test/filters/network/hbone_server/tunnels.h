/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/filters/network/hbone_server/tunnels.h: an HTTP/2 client in front of a chain that ends in a
 * tunnel server. The connection came from 127.0.0.1:4000 to 10.1.2.3:15008, its peer is PEER.
 */
#ifndef HB_TEST_FILTERS_NETWORK_HBONE_SERVER_TUNNELS_H
#define HB_TEST_FILTERS_NETWORK_HBONE_SERVER_TUNNELS_H

#include "core/http/h2.h"
#include "test/support/filter_harness.h"

#define TUNNELS 12u
#define PEER    "spiffe://cluster.local/ns/default/sa/client"

struct tunnel {
	struct hbt_sink sink;
	struct hb_transport *t; /* borrowed, also in the turn of its end */
	unsigned status;
};

extern struct tunnels {
	struct hb_chain *chain;
	struct hbf conn;
	struct hb_h2 *h2;
	struct tunnel t[TUNNELS];
	unsigned n, goaways, closed;
	enum hb_close_reason reason;
} w;

/* From the YAML of a list of filters. */
void open_server(const char *filters);
struct tunnel *request(const struct hb_h2_request *);
struct tunnel *dial(const char *authority);
/* Waits for it; 0 = reset. */
unsigned answer(struct tunnel *);
/* cmocka's set-up and tear-down of a test. */
int fresh(void **state);
int stop(void **state);

#endif

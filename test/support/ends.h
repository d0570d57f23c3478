/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/support/ends.h: two connected ends over a pair, loopback TCP or TLS, with certificates for
 * both; and a source of many bytes.
 */
#ifndef HB_TEST_SUPPORT_ENDS_H
#define HB_TEST_SUPPORT_ENDS_H

#include "test/support/certs/pki.h"
#include "test/support/harness.h"

enum hbt_below { HBT_OVER_PAIR, HBT_OVER_TCP, HBT_OVER_TLS };

/* Between hbt_ends_setup and hbt_ends_teardown. */
extern struct hbt_pki hbt_ends_pki;

/* cmocka's set-up and tear-down: the worker, on epoll, and the certificates. */
int hbt_ends_setup(void **state);
int hbt_ends_teardown(void **state);

/* A client's and a server's end. The wire, below TLS, is read in pieces of this size; 0 = as it comes. */
void hbt_ends(enum hbt_below, size_t piece, struct hb_transport **ret_a, struct hb_transport **ret_b);

/* Hook of a sink, whose `arg` is a struct hbt_feed: writes all of it with an end, chunk by chunk, as
 * long as the transport is not above its watermark. */
struct hbt_feed {
	const uint8_t *p;
	size_t len, off, chunk;
};
void hbt_feed(struct hbt_sink *, enum hbt_event);

#endif

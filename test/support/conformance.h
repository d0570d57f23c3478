/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/support/conformance.h: what every transport must do, whatever carries it. A room's test
 * gives a maker of connected pairs; the cases go through the truth table of
 * core/transport/transport.h, let go in every event, cut, block, pause and unread.
 */
#ifndef HB_TEST_SUPPORT_CONFORMANCE_H
#define HB_TEST_SUPPORT_CONFORMANCE_H

#include "test/support/harness.h"

struct hbt_maker {
	const char *name;
	/* Two ends of one connection; connected, or about to be. */
	void (*make)(struct hb_transport **ret_a, struct hb_transport **ret_b);
	enum hb_close_reason reset; /* what an abort of the other end looks like              */
	size_t room;                /* bytes that one direction takes while its reader is
	                             * paused, at most (kernel and frames); 0 = none          */
};

/* Runs every case on a worker made by hbt_init; each names itself on stderr. Panics on failure. */
void hbt_conformance(const struct hbt_maker *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/core/filter/rec.h: three filters that record what they are told and answer what the test
 * wants: "test.a", "test.b" and the terminal "test.t", without configuration.
 *
 * The trace of a connection, words with a blank before each: aC on_connected, aS on_secured,
 * a<xyz on_read of "xyz" (a<xyz. with the end), a>xyz on_write, aH aL watermarks, aT timer,
 * aR revalidate, aD drain, aF fini.
 */
#ifndef HB_TEST_CORE_FILTER_REC_H
#define HB_TEST_CORE_FILTER_REC_H

#include "test/support/filter_harness.h"

enum rec_slot { REC_CONNECTED, REC_SECURED, REC_READ, REC_WRITE, REC_EVENT, REC_SLOTS };

struct rec {
	struct hb_filter *f; /* of the connection that came last; NULL after fini    */
	enum hb_filter_status answer[REC_SLOTS];
	/* After recording, before answering. */
	void (*hook)(struct hb_filter *, enum rec_slot, struct hb_buf *, bool end);
	bool take;           /* moves what it reads to `taken`                       */
	bool echo;           /* writes what it reads                                 */
	struct hb_buf taken;
};

extern struct rec rec_a, rec_b, rec_t;
extern struct hb_text rec_trace;
extern bool rec_levels; /* record watermarks, too: a pair has one at every byte */

/* "- name: test.a …" for hbf_filters. */
#define REC_CHAIN "- name: test.a\n- name: test.b\n- name: test.t\n"

int  rec_setup(void **state);    /* hbf_init, registers, forgets */
int  rec_teardown(void **state);
/* The trace so far is this; it is forgotten then. */
void rec_expect(const char *trace);
#define REC_WRITEZ(rec, z, end)                                     \
	do {                                                        \
		struct hb_buf buf_ = {NULL, NULL, 0};               \
		hb_buf_addz(&buf_, (z));                            \
		hb_filter_write((rec).f, &buf_, (end));             \
	} while (0)

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/core/transport/pump_fixture.h: one worker, a pump under test that notes what it is told, and
 * peers that note what reaches them.
 */
#ifndef HB_TEST_CORE_TRANSPORT_PUMP_FIXTURE_H
#define HB_TEST_CORE_TRANSPORT_PUMP_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/event/io.h"
#include "core/transport/pair.h"
#include "core/transport/pump_priv.h"

/* Turns of the loop before a test gives up. */
#define TURNS_MAX 200000

extern struct hb_worker *w;

struct peer {
	struct hb_transport *t;
	struct hb_buf got;
	bool connected, end, high;
	enum hb_close_reason closed; /* NONE = still open */
};

void peer_attach(struct peer *, struct hb_transport *);
void peer_write(struct peer *, const char *text, bool end);
/* What has come is exactly this; forgets it. */
void peer_expect(struct peer *, const char *text);

struct fixture {
	struct hb_pump pump;
	uint64_t progress[2];
	unsigned half_closed[2];
	unsigned done;
	enum hb_pump_side by;
	enum hb_close_reason reason;
	enum hb_close_reason abort_on_progress, abort_on_half_close;
};

extern const struct hb_pump_ops pump_ops;

void turns(int n);
/* Turns until the pump says that it has ended. */
void until_done(struct fixture *);

/* With epoll, with uv; after the test nothing lingers. */
int setup(void **state);
int setup_uv(void **state);
int teardown(void **state);

#endif

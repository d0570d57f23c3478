/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sessions and idle streams cost, by owner, and that the frame buffer which all sessions of a
 * worker have lent mixes nothing up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <malloc.h>
#include <stdio.h>

#include "core/base/burst.h"
#include "core/http/h2_priv.h"
#include "test/core/http/h2_rig.h"

#define SESSIONS 8u
#define STREAMS  100u
#define LONG     40000u /* of a header: more than two frames */

static void
owner(const char *name, size_t n)
{
	printf("  %-52s %6zu bytes\n", name, n);
}

static size_t
in_use(void)
{
	return (mallinfo2().uordblks + hb_burst_in_use());
}

static struct rig rigs[SESSIONS];

static void
finish(void)
{
	for (unsigned i = 0; i < SESSIONS; i++)
		rig_stop(&rigs[i]);
	memset(rigs, 0, sizeof rigs);
}

/* A pair of sessions, less the pair's own memory, which is the same before and after. */
static void
test_mem__session(void **state)
{
	size_t before, each;

	(void)state;
	rig_start(&rigs[0], HBT_OVER_PAIR, 0); /* what is made on first use */
	hbt_turns(10);
	before = in_use();
	for (unsigned i = 1; i < SESSIONS; i++)
		rig_start(&rigs[i], HBT_OVER_PAIR, 0);
	hbt_turns(10);
	each = (in_use() - before) / (SESSIONS - 1) / 2;
	/* Servers' encoders have no table; clients' have one each. */
	assert_non_null(rigs[0].server->ring);
	assert_ptr_equal(rigs[0].server->ring, rigs[1].server->ring);
	assert_null(rigs[0].client->ring);
	assert_ptr_equal(rigs[0].server->opt, rigs[1].server->opt);
	owner("struct hb_h2", sizeof(struct hb_h2));
	owner("measured: a session, nghttp2 and half a pair", each);
#ifndef __SANITIZE_ADDRESS__
	assert_true(each <= 5300);
#endif
	finish();
}

static void
test_mem__idle_stream(void **state)
{
	struct rig *r = &rigs[0];
	size_t before, each;

	(void)state;
	rig_start(r, HBT_OVER_PAIR, 0);
	rig_connect(r, rig_open(r)); /* what is made on first use */
	before = in_use();
	for (unsigned i = 1; i < STREAMS; i++)
		(void)rig_open(r);
	for (unsigned i = 1; i < STREAMS; i++)
		rig_connect(r, i);
	hbt_turns(10);
	each = (in_use() - before) / (STREAMS - 1) / 2;
	owner("of a stream: struct hb_transport", sizeof(struct hb_transport));
	owner("… the rest of struct h2_stream",
		sizeof(struct h2_stream) - sizeof(struct hb_transport));
	owner("measured: an idle stream, nghttp2's share included", each);
#ifndef __SANITIZE_ADDRESS__
	/* 224 are nghttp2's; its table of streams has 256 places for these 100. */
	assert_true(each <= sizeof(struct h2_stream) + 352);
#endif
	finish();
}

/* ------------------------------------------------------------------ the buffer that is lent */

static void
accept_long(struct rig *r, const struct hb_h2_request *req, struct hb_transport **stream)
{
	char *value = r->arg;
	const struct hb_h2_header h = { HB_STR("x-long"), hb_strn(value, LONG) };

	(void)req;
	hb_h2_stream_accept(*stream, &h, 1);
}

static struct {
	unsigned seen;
	char letter;
} answer;

static void
check_header(void *arg, struct hb_str name, struct hb_str value)
{
	(void)arg;
	assert_true(hb_str_eq(name, HB_STR("x-long")));
	assert_int_equal(value.len, LONG);
	for (size_t i = 0; i < value.len; i++)
		assert_int_equal(value.p[i], answer.letter);
	answer.seen++;
}

static void
on_connected(struct hbt_sink *s, enum hbt_event ev)
{
	if (ev != HBT_CONNECTED)
		return;
	answer.letter = *(const char *)s->arg;
	hb_h2_stream_response(s->t, check_header, NULL);
}

/* Small pieces below and many sessions: each is interrupted in the middle of its header block. */
static void
test_mem__lent_buffer(void **state)
{
	static char values[SESSIONS][LONG];
	uint8_t *lent = NULL;

	(void)state;
	answer.seen = 0;
	for (unsigned i = 0; i < SESSIONS; i++) {
		struct rig *r = &rigs[i];

		memset(values[i], 'a' + (int)i, LONG);
		r->arg = values[i];
		r->on_request = accept_long;
		r->a[0].hook = on_connected;
		r->a[0].arg = values[i];
		rig_start(r, HBT_OVER_TCP, 512);
	}
	for (unsigned i = 0; i < SESSIONS; i++)
		(void)rig_open(&rigs[i]);
	for (unsigned i = 0; i < SESSIONS; i++)
		rig_connect(&rigs[i], 0);
	assert_int_equal(answer.seen, SESSIONS);
	for (unsigned i = 0; i < SESSIONS; i++) {
		lent = lent == NULL ? rigs[i].server->lent : lent;
		assert_non_null(lent);
		assert_ptr_equal(rigs[i].server->lent, lent);
		assert_ptr_equal(rigs[i].client->lent, lent);
	}
	finish();
}

static int
setup(void **state)
{
	(void)state;
	(void)hbt_init(HB_IO_EPOLL);
	return (0);
}

static int
teardown(void **state)
{
	(void)state;
	hb_h2_worker_fini(hbt_worker());
	hbt_fini();
	return (0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mem__session),
		cmocka_unit_test(test_mem__idle_stream),
		cmocka_unit_test(test_mem__lent_buffer),
	};

	return (cmocka_run_group_tests(tests, setup, teardown));
}

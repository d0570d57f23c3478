/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an idle connection costs, by owner, in bytes that were asked for (malloc adds up to 16 to
 * each). Printed, and held to a ceiling so that growth is noticed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <malloc.h>
#include <stdio.h>

#include "core/base/burst.h"
#include "core/filter/filter_priv.h"
#include "test/core/filter/rec.h"

#define CONNS 200

static void
owner(const char *name, size_t n)
{
	printf("  %-52s %5zu bytes\n", name, n);
}

static void
test_memory__idle_connection(void **state)
{
	struct hb_chain *chain = hbf_filters("- name: test.t\n");
	static struct hb_transport *a[CONNS], *b[CONNS];
	static struct hbt_sink clients[CONNS];
	size_t before, after, each;

	owner("struct hb_facts, embedded in the connection", sizeof(struct hb_facts));
	owner("the terminal filter's view of the downstream, there too",
		sizeof(struct hb_transport));
	owner("what is known of the upstream, there too", sizeof(struct hb_conn_upstream));
	owner("the rest of the connection",
		offsetof(struct hb_conn, filter) - sizeof(struct hb_facts) -
			sizeof(struct hb_transport) - sizeof(struct hb_conn_upstream));
	owner("each filter of the chain, besides its context", sizeof(struct hb_filter));
	owner("a whole connection with one filter (24 bytes)", chain->slab_size);
	owner("a timer of a filter, from its first use on",
		sizeof(struct hb_timer) + sizeof(void *));
	for (int i = 0; i < CONNS; i++)
		hb_pair_new(hbt_worker(), &a[i], &b[i]);
	before = mallinfo2().uordblks + hb_burst_in_use();
	for (int i = 0; i < CONNS; i++) {
		struct hb_conn_owner own = { .listener_name = "test" };
		struct hb_facts facts = hbf_facts(NULL);

		(void)hb_conn_start(hbt_worker(), b[i], &facts, chain, &own);
		hbt_attach(&clients[i], a[i]);
	}
	hbt_turns(5);
	hb_text_fini(&rec_trace);
	after = mallinfo2().uordblks + hb_burst_in_use();
	each = (after - before) / CONNS;
	owner("measured: connection, one filter, no upstream", each);
#ifndef __SANITIZE_ADDRESS__
	assert_true(each <= chain->slab_size + 72); /* 30 in the pair; rounded to its place in a block */
#endif
	assert_true(chain->slab_size <= 520);
	for (int i = 0; i < CONNS; i++)
		hbt_sink_fini(&clients[i]);
	HBT_UNTIL(hb_conn_count(hbt_worker()) == 0);
	hb_text_fini(&rec_trace);
	hb_chain_free(&chain);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_memory__idle_connection, rec_setup, rec_teardown),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

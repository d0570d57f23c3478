/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "test/filters/network/hbone_server/tunnels.h"

struct tunnels w;

static void
on_goaway(void *sink, struct hb_h2 *h2, uint32_t code)
{
	w.goaways++;
}

static void
on_closed(void *sink, struct hb_h2 *h2, enum hb_close_reason reason)
{
	w.h2 = NULL;
	w.closed++;
	w.reason = reason;
}

static const struct hb_h2_events client_events = {
	.on_goaway = on_goaway,
	.on_closed = on_closed,
};

static void
note_status(struct hbt_sink *s, enum hbt_event ev)
{
	struct tunnel *t = s->arg;

	if (ev == HBT_CONNECTED || ev == HBT_CLOSED)
		t->status = hb_h2_stream_status(t->t);
}

struct tunnel *
request(const struct hb_h2_request *r)
{
	struct tunnel *t = &w.t[w.n++];

	assert_true(w.n <= TUNNELS);
	t->t = hb_h2_open(w.h2, r);
	assert_non_null(t->t);
	t->sink.hook = note_status;
	t->sink.arg = t;
	hbt_attach(&t->sink, t->t);
	return (t);
}

struct tunnel *
dial(const char *authority)
{
	struct hb_h2_request r = { .authority = hb_str(authority) };

	return (request(&r));
}

void
open_server(const char *filters)
{
	struct hb_facts f = hbf_facts(NULL);
	struct hbf_options opt = { .wire = HBF_UNIX, .facts = &f, .paused = true };
	struct hb_transport *t;

	(void)hb_addr_parse(HB_STR("10.1.2.3:15008"), &f.local);
	hb_facts_tls_edit(&f)->principal = hb_arena_str(&f.arena, HB_STR(PEER));
	w.chain = hbf_filters(filters);
	hbf_open(&w.conn, w.chain, &opt);
	t = w.conn.client.t;
	w.conn.client.t = NULL;
	w.h2 = hb_h2_new(t, false, NULL, &client_events, NULL);
}

unsigned
answer(struct tunnel *t)
{
	HBT_UNTIL(t->sink.connected == 1 || t->sink.closed == 1);
	return (t->status);
}

int
fresh(void **state)
{
	memset(&w, 0, sizeof w);
	hbf_dialler = (struct hbf_dialler){ .mode = HBF_CONNECT, .wire = HBF_UNIX };
	return (0);
}

int
stop(void **state)
{
	for (unsigned i = 0; i < w.n; i++)
		hbt_sink_fini(&w.t[i].sink);
	for (unsigned i = 0; i < hbf_dialler.n; i++)
		hbt_sink_fini(&hbf_dialler.up[i]);
	if (w.h2 != NULL)
		hb_h2_close(&w.h2, HB_CLOSE_LOCAL_CLOSE);
	if (w.chain != NULL)
		hbf_close(&w.conn);
	hb_chain_free(&w.chain);
	hbt_turns(20);
	return (fresh(state));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Order of events, STOP and continue, closing from every slot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

#include "test/core/filter/rec.h"

static struct hb_chain *chain;
static struct hbf h;

static int
setup(void **state)
{
	(void)rec_setup(state);
	memset(&h, 0, sizeof h);
	chain = hbf_filters(REC_CHAIN);
	return (0);
}

static int
teardown(void **state)
{
	hbf_close(&h);
	hb_chain_free(&chain);
	return (rec_teardown(state));
}

static void
inject(struct hb_filter *f, const char *z, bool end)
{
	struct hb_buf buf = { NULL, NULL, 0 };

	hb_buf_addz(&buf, z);
	hb_filter_inject_read(f, &buf, end);
}

static void
open_all(void)
{
	hbf_open(&h, chain, NULL);
	rec_expect("");
	HBT_UNTIL(rec_t.f != NULL && h.client.secured);
	rec_expect(" aC bC tC aS bS tS");
}

static void
test_conn__order(void **state)
{
	rec_t.echo = true;
	open_all();
	hbt_writez(&h.client, "one", false);
	HBT_UNTIL(hbt_gotz(&h.client, "one"));
	rec_expect(" a<one b<one t<one b>one a>one");
	hbt_writez(&h.client, "two", true);
	HBT_UNTIL(h.closed);
	rec_expect(" a<two. b<two. t<two. b>two. a>two. aF bF tF");
	assert_int_equal(h.reason, HB_CLOSE_DONE);
	assert_int_equal(h.bytes_in, 6);
	assert_int_equal(h.bytes_out, 6);
}

/* A filter may change, keep and add bytes. */
static void
stutter(struct hb_filter *f, enum rec_slot s, struct hb_buf *buf, bool end)
{
	if (s == REC_READ)
		hb_buf_addz(buf, "+");
	if (s == REC_WRITE)
		hb_buf_prepend(buf, "-", 1);
}

static void
test_conn__filters_change_bytes(void **state)
{
	rec_t.echo = true;
	rec_a.hook = stutter;
	open_all();
	hbt_writez(&h.client, "x", false);
	HBT_UNTIL(hbt_gotz(&h.client, "-x+"));
	rec_expect(" a<x b<x+ t<x+ b>x+ a>x+");
}

/* What a filter takes away entirely is not shown to the next one, but the end is. */
static void
test_conn__taken_bytes(void **state)
{
	rec_a.take = true;
	open_all();
	hbt_writez(&h.client, "x", false);
	hbt_turns(3);
	rec_expect(" a<x");
	hbt_writez(&h.client, "y", true);
	hbt_turns(3);
	rec_expect(" a<y. b<. t<.");
}

static void
test_conn__stop_connected(void **state)
{
	rec_a.answer[REC_CONNECTED] = HB_FILTER_STOP;
	hbf_open(&h, chain, NULL);
	HBT_UNTIL(rec_a.f != NULL);
	hbt_turns(3);
	rec_expect(" aC aS");
	assert_int_equal(h.client.connected, 0);
	hbt_writez(&h.client, "early", false);
	hbt_turns(3);
	rec_expect("");
	hb_filter_continue(rec_a.f);
	rec_expect(" bC bS tC tS");
	HBT_UNTIL(rec_trace.len > 0);
	rec_expect(" a<early b<early t<early");
}

static void
test_conn__stop_secured(void **state)
{
	rec_b.answer[REC_SECURED] = HB_FILTER_STOP;
	hbf_open(&h, chain, NULL);
	HBT_UNTIL(rec_b.f != NULL);
	hbt_turns(3);
	rec_expect(" aC bC tC aS bS");
	hb_filter_continue(rec_b.f);
	rec_expect(" tS");
	hb_filter_continue(rec_b.f);
	rec_expect("");
}

static void
continue_now(struct hb_filter *f, enum rec_slot s, struct hb_buf *buf, bool end)
{
	hb_filter_continue(f);
}

/* An answer that is there at once: continue comes before STOP was returned. */
static void
test_conn__continue_inside(void **state)
{
	for (int i = 0; i < REC_EVENT; i++)
		rec_a.answer[i] = HB_FILTER_STOP;
	rec_a.hook = continue_now;
	rec_t.echo = true;
	open_all();
	hbt_writez(&h.client, "x", true);
	HBT_UNTIL(h.closed);
	rec_expect(" a<x. b<x. t<x. b>x. a>x. aF bF tF");
}

static void
test_conn__stop_read(void **state)
{
	open_all();
	rec_b.answer[REC_READ] = HB_FILTER_STOP;
	hbt_writez(&h.client, "1", false);
	hbt_turns(3);
	rec_expect(" a<1 b<1");
	hbt_writez(&h.client, "2", true);
	hbt_turns(3);
	rec_expect("");
	rec_b.answer[REC_READ] = HB_FILTER_CONTINUE;
	hb_filter_continue(rec_b.f);
	rec_expect(" t<1");
	hbt_turns(3);
	rec_expect(" a<2. b<2. t<2.");
}

/* Two filters hold at once: what is injected past the first waits before the second. */
static void
test_conn__two_holds(void **state)
{
	open_all();
	rec_a.answer[REC_READ] = rec_b.answer[REC_READ] = HB_FILTER_STOP;
	hbt_writez(&h.client, "1", false);
	hbt_turns(3);
	rec_expect(" a<1");
	inject(rec_a.f, "i", false);
	rec_expect(" b<i");
	inject(rec_a.f, "j", false);
	rec_expect("");
	hb_filter_continue(rec_a.f);
	rec_expect("");
	rec_b.answer[REC_READ] = HB_FILTER_CONTINUE;
	hb_filter_continue(rec_b.f);
	rec_expect(" t<i b<j1 t<j1");
}

/* What a stopped filter held of a connection that was reset still goes on, and then the end comes. */
static void
test_conn__reset_while_held(void **state)
{
	open_all();
	rec_b.answer[REC_READ] = HB_FILTER_STOP;
	hbt_writez(&h.client, "last words", false);
	HBT_UNTIL(rec_trace.len > 0);
	rec_expect(" a<last words b<last words");
	hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
	hbt_turns(5);
	assert_false(h.closed);
	hb_filter_continue(rec_b.f);
	rec_expect(" t<last words");
	HBT_UNTIL(h.closed);
	rec_expect(" aF bF tF");
	assert_int_equal(h.reason, HB_CLOSE_DOWNSTREAM_RESET);
}

static void
test_conn__stop_write(void **state)
{
	struct hbf_options o = { .wire = HBF_TCP, .buffer_high = 4 };
	struct hbt_sink *c = &h.client;

	rec_levels = true;
	hbf_open(&h, chain, &o);
	HBT_UNTIL(rec_t.f != NULL && c->secured);
	rec_expect(" aC bC tC aS bS tS");
	rec_b.answer[REC_WRITE] = HB_FILTER_STOP;
	REC_WRITEZ(rec_t, "12", false);
	rec_expect(" b>12");
	REC_WRITEZ(rec_t, "34", false);
	rec_expect(" aH bH tH");
	rec_b.answer[REC_WRITE] = HB_FILTER_CONTINUE;
	hb_filter_continue(rec_b.f);
	rec_expect(" a>12 aL bL tL b>34 a>34");
	HBT_UNTIL(hbt_gotz(c, "1234"));
	/* The end waits for held bytes. */
	rec_b.answer[REC_WRITE] = HB_FILTER_STOP;
	REC_WRITEZ(rec_t, "5", false);
	hb_filter_finish(rec_t.f, HB_CLOSE_LOCAL_CLOSE);
	hbt_turns(3);
	assert_false(h.closed);
	rec_expect(" b>5");
	rec_b.answer[REC_WRITE] = HB_FILTER_CONTINUE;
	hb_filter_continue(rec_b.f);
	HBT_UNTIL(h.closed && c->ends == 1);
	rec_expect(" a>5 b>. a>. aF bF tF");
	assert_true(hbt_gotz(c, "12345"));
	assert_int_equal(h.reason, HB_CLOSE_LOCAL_CLOSE);
}

static void
test_conn__detach(void **state)
{
	rec_a.answer[REC_READ] = HB_FILTER_DETACH;
	rec_b.answer[REC_WRITE] = HB_FILTER_DETACH;
	rec_t.echo = true;
	open_all();
	hbt_writez(&h.client, "1", false);
	hbt_turns(3);
	rec_expect(" a<1 b<1 t<1 b>1 a>1");
	hbt_writez(&h.client, "2", false);
	hbt_turns(3);
	rec_expect(" b<2 t<2 a>2");
}

static void
test_conn__timer_and_events(void **state)
{
	open_all();
	hb_filter_timer(rec_b.f, 50);
	hb_filter_timer(rec_a.f, 20);
	hb_filter_timer(rec_a.f, 0);
	hbt_advance(10);
	rec_expect("");
	hbt_advance(60);
	rec_expect(" bT");
	hb_conn_revalidate(h.conn);
	hb_conn_drain(h.conn);
	rec_expect(" aR bR tR aD bD tD");
	hb_conns_revalidate();
	hb_conns_revalidate();
	rec_expect("");
	hbt_turns(3);
	rec_expect(" aR bR tR");
	assert_string_equal(hb_filter_chain_name(rec_b.f), "c");
	assert_ptr_equal(hb_filter_worker(rec_b.f), hbt_worker());
	hb_filter_timer(rec_a.f, 20);
	hb_conn_close(h.conn, HB_CLOSE_ADMIN);
	HBT_UNTIL(h.closed);
	assert_int_equal(h.reason, HB_CLOSE_ADMIN);
	hbt_advance(60);
	rec_expect(" aF bF tF");
}

static void
test_conn__contexts(void **state)
{
	uint8_t *p[3];

	open_all();
	p[0] = hb_filter_ctx(rec_a.f);
	p[1] = hb_filter_ctx(rec_b.f);
	p[2] = hb_filter_ctx(rec_t.f);
	for (int i = 0; i < 3; i++) {
		assert_int_equal((uintptr_t)p[i] % 16, 0);
		for (int k = 0; k < 24; k++)
			assert_int_equal(p[i][k], 0);
		memset(p[i], 0xff, 24);
	}
	assert_true(p[1] >= p[0] + 24 && p[2] >= p[1] + 24);
}

static char panic_text[512];

static void
ask_panic_hook(struct hb_filter *f, enum rec_slot s, struct hb_buf *buf, bool end)
{
	int fd[2];
	ssize_t n;

	assert_int_equal(pipe(fd), 0);
	hb_conn_panic_hook(fd[1]);
	(void)close(fd[1]);
	n = read(fd[0], panic_text, sizeof panic_text - 1);
	panic_text[HB_MAX(n, 0)] = '\0';
	(void)close(fd[0]);
}

/* A panic names the connection that its thread works on, and none when there is none. */
static void
test_conn__panic_hook(void **state)
{
	open_all();
	rec_t.hook = ask_panic_hook;
	hbt_writez(&h.client, "x", false);
	HBT_UNTIL(rec_trace.len > 0);
	rec_expect(" a<x b<x t<x");
	assert_non_null(strstr(panic_text,
		"127.0.0.1:4000 -> 127.0.0.1:443 listener=test chain=c "
		"state=open"));
	ask_panic_hook(NULL, 0, NULL, false);
	assert_string_equal(panic_text, "");
}

/* ------------------------------------------------------------------ closing */

static enum rec_slot close_slot;
static bool close_by_finish;

static void
close_here(struct hb_filter *f, enum rec_slot s, struct hb_buf *buf, bool end)
{
	if (s != close_slot)
		return;
	if (close_by_finish)
		hb_filter_finish(f, HB_CLOSE_LOCAL_CLOSE);
	else
		hb_filter_close(f, HB_CLOSE_RBAC_DENIED);
	/* All of these are harmless on a connection that is closing. */
	REC_WRITEZ((struct rec){ .f = f }, "late", true);
	inject(f, "late", false);
	hb_filter_continue(f);
	hb_filter_close(f, HB_CLOSE_OVERLOAD);
}

static void
close_in(struct rec *r, enum rec_slot s, bool finish, enum hb_filter_status answer)
{
	memset(&h, 0, sizeof h);
	rec_t.echo = true;
	close_slot = s;
	close_by_finish = finish;
	r->hook = close_here;
	r->answer[s] = answer;
	hbf_open(&h, chain, NULL);
	hbt_turns(3);
	if (!h.closed && h.client.t != NULL)
		hbt_writez(&h.client, "x", false);
	hbt_turns(3);
	if (!h.closed)
		hb_conn_drain(h.conn);
	HBT_UNTIL(h.closed);
	assert_int_equal(h.reason, finish ? HB_CLOSE_LOCAL_CLOSE : HB_CLOSE_RBAC_DENIED);
	HBT_UNTIL(h.client.closed || h.client.ends > 0);
	if (!finish)
		assert_int_equal(h.client.ends, 0);
	hbf_close(&h);
	r->hook = NULL;
	r->answer[s] = HB_FILTER_CONTINUE;
	hb_text_fini(&rec_trace);
}

static void
test_conn__close_in_every_slot(void **state)
{
	struct rec *const recs[] = { &rec_a, &rec_b, &rec_t };

	for (size_t i = 0; i < 3; i++)
		for (enum rec_slot s = 0; s < REC_SLOTS; s++) {
			if (i == 2 && s == REC_WRITE)
				continue; /* nobody writes through the terminal filter */
			for (int k = 0; k < 4; k++)
				close_in(recs[i], s, k & 1,
					k & 2 ? HB_FILTER_STOP : HB_FILTER_CONTINUE);
		}
	memset(&h, 0, sizeof h);
	h.closed = true;
}

/* A connection whose client goes away at any point ends, whatever the filters hold. */
static void
test_conn__client_leaves(void **state)
{
	for (unsigned turns = 0; turns < 6; turns++)
		for (int stop = 0; stop < 3; stop++) {
			memset(&h, 0, sizeof h);
			rec_a.answer[REC_CONNECTED] = stop == 1 ? HB_FILTER_STOP :
								  HB_FILTER_CONTINUE;
			rec_b.answer[REC_SECURED] = stop == 2 ? HB_FILTER_STOP : HB_FILTER_CONTINUE;
			hbf_open(&h, chain, NULL);
			hbt_turns(turns);
			hb_transport_abort(&h.client.t, HB_CLOSE_LOCAL_CLOSE);
			HBT_UNTIL(h.closed);
			assert_int_equal(h.reason, HB_CLOSE_DOWNSTREAM_RESET);
			hbf_close(&h);
			hb_text_fini(&rec_trace);
		}
	memset(&h, 0, sizeof h);
	h.closed = true;
}

/* ------------------------------------------------------------------ numbers and lists */

static bool
count_all(void *arg, struct hb_conn *c)
{
	++*(unsigned *)arg;
	return (true);
}

static bool
close_all(void *arg, struct hb_conn *c)
{
	hb_conn_close(c, HB_CLOSE_DRAINED);
	return (true);
}

static void
test_conn__ids_and_lists(void **state)
{
	struct hbf many[20];
	struct hb_conn_view v;
	uint64_t last = 0;
	unsigned n = 0;

	memset(many, 0, sizeof many);
	for (int i = 0; i < 20; i++) {
		hbf_open(&many[i], chain, NULL);
		hb_conn_view(many[i].conn, &v);
		assert_true(v.id > last && v.id < (1ull << 53));
		assert_int_equal(v.id >> 44, 1);
		last = v.id;
		assert_ptr_equal(hb_conn_find(hbt_worker(), v.id), many[i].conn);
	}
	assert_null(hb_conn_find(hbt_worker(), last + 1));
	hb_conn_foreach(hbt_worker(), count_all, &n);
	assert_int_equal(n, 20);
	assert_int_equal(hb_conn_count(hbt_worker()), 20);
	assert_int_equal(hb_chain_connections(chain), 20);
	hbt_turns(3);
	hb_conn_view(many[0].conn, &v);
	assert_string_equal(v.state, "open");
	assert_string_equal(v.listener, "test");
	assert_string_equal(v.chain, "c");
	hb_conn_foreach(hbt_worker(), close_all, NULL);
	for (int i = 0; i < 20; i++)
		hbf_close(&many[i]);
	assert_int_equal(hb_chain_connections(chain), 0);
	hb_text_fini(&rec_trace);
	h.closed = true;
}

/* The owner may let go of a chain while connections use it. */
static void
test_conn__chain_outlives_owner(void **state)
{
	struct hb_chain *other = hbf_filters(REC_CHAIN);

	assert_true(hb_chain_same(chain, other));
	rec_t.echo = true;
	hbf_open(&h, other, NULL);
	hb_chain_free(&other);
	for (int i = 0; i < 5; i++)
		hb_worker_turn(hb_worker_control(), false);
	HBT_UNTIL(h.client.secured);
	hbt_writez(&h.client, "still here", true);
	HBT_UNTIL(h.closed);
	assert_true(hbt_gotz(&h.client, "still here"));
	for (int i = 0; i < 5; i++)
		hb_worker_turn(hb_worker_control(), false);
	hb_text_fini(&rec_trace);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_conn__order),
		T(test_conn__filters_change_bytes),
		T(test_conn__taken_bytes),
		T(test_conn__stop_connected),
		T(test_conn__stop_secured),
		T(test_conn__continue_inside),
		T(test_conn__stop_read),
		T(test_conn__two_holds),
		T(test_conn__reset_while_held),
		T(test_conn__stop_write),
		T(test_conn__detach),
		T(test_conn__timer_and_events),
		T(test_conn__contexts),
		T(test_conn__panic_hook),
		T(test_conn__close_in_every_slot),
		T(test_conn__client_leaves),
		T(test_conn__ids_and_lists),
		T(test_conn__chain_outlives_owner),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "test/support/conformance.h"

#include <stdio.h>

struct pair {
	const struct hbt_maker *maker;
	struct hbt_sink a, b;
	struct hb_transport *ta, *tb; /* until attached */
};

static void
pair_make(struct pair *p, const struct hbt_maker *m)
{
	memset(p, 0, sizeof *p);
	p->maker = m;
	m->make(&p->ta, &p->tb);
}

/* Attached, connected, reading. */
static void
pair_open(struct pair *p, const struct hbt_maker *m)
{
	pair_make(p, m);
	hbt_attach(&p->a, p->ta);
	hbt_attach(&p->b, p->tb);
	HBT_UNTIL(p->a.secured == 1 && p->b.secured == 1);
	HB_ASSERT(p->a.connected == 1 && p->b.connected == 1);
}

static void
pair_fini(struct pair *p)
{
	hbt_sink_fini(&p->a);
	hbt_sink_fini(&p->b);
	hbt_turns(4);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	hbt_turns(2);
}

/* The order of events, but for those of the queue, which differ from one transport to the other. */
static bool
trace_is(const struct hbt_sink *s, const char *want)
{
	const char *c;

	for (c = s->trace; *c != '\0'; c++) {
		if (strchr("HLS", *c) != NULL)
			continue;
		if (*c != *want++)
			return (false);
	}
	return (*want == '\0');
}

/* ------------------------------------------------------------------ the truth table */

static void
case_both_ways(const struct hbt_maker *m)
{
	struct pair p;

	pair_open(&p, m);
	hbt_write_borrowed(&p.a, "hello", 5, false);
	hbt_write_borrowed(&p.b, "world", 5, false);
	HBT_UNTIL(p.b.got.len == 5 && p.a.got.len == 5);
	HB_ASSERT(hbt_gotz(&p.b, "hello") && hbt_gotz(&p.a, "world"));
	HB_ASSERT(trace_is(&p.a, "csd") && trace_is(&p.b, "csd"));
	HB_ASSERT(p.a.t->bytes_in == 5 && p.a.t->bytes_out == 5);
	HB_ASSERT(hb_transport_pending(p.a.t) == 0);
	pair_fini(&p);
}

static void
case_half_close(const struct hbt_maker *m)
{
	struct pair p;

	pair_open(&p, m);
	hbt_writez(&p.a, "request", true);
	HBT_UNTIL(p.b.ends == 1);
	HB_ASSERT(hbt_gotz(&p.b, "request") && p.b.closed == 0 && p.a.closed == 0);
	hbt_writez(&p.b, "one", false);
	hbt_turns(3);
	hbt_writez(&p.b, "two", true);
	HBT_UNTIL(p.a.closed == 1 && p.b.closed == 1);
	HB_ASSERT(hbt_gotz(&p.a, "onetwo") && p.a.ends == 1);
	HB_ASSERT(p.a.reason == HB_CLOSE_DONE && p.b.reason == HB_CLOSE_DONE);
	pair_fini(&p);
}

static void
case_both_end_at_once(const struct hbt_maker *m)
{
	struct pair p;

	pair_open(&p, m);
	hbt_write(&p.a, NULL, 0, true);
	hbt_write(&p.b, NULL, 0, true);
	HBT_UNTIL(p.a.closed == 1 && p.b.closed == 1);
	HB_ASSERT(trace_is(&p.a, "csdeX") && trace_is(&p.b, "csdeX"));
	HB_ASSERT(p.a.reason == HB_CLOSE_DONE && p.b.reason == HB_CLOSE_DONE);
	pair_fini(&p);
}

static void
case_end_answers_end(const struct hbt_maker *m)
{
	struct pair p;

	pair_make(&p, m);
	p.b.end_on_end = true;
	hbt_attach(&p.a, p.ta);
	hbt_attach(&p.b, p.tb);
	HBT_UNTIL(p.a.secured == 1);
	hbt_writez(&p.a, "x", true);
	HBT_UNTIL(p.a.closed == 1 && p.b.closed == 1);
	HB_ASSERT(p.a.reason == HB_CLOSE_DONE && p.b.reason == HB_CLOSE_DONE);
	pair_fini(&p);
}

static void
case_abort(const struct hbt_maker *m)
{
	struct pair p;

	pair_open(&p, m);
	hbt_writez(&p.a, "x", false);
	HBT_UNTIL(p.b.got.len == 1);
	hb_transport_abort(&p.a.t, HB_CLOSE_LOCAL_CLOSE);
	HB_ASSERT(p.a.t == NULL);
	HBT_UNTIL(p.b.closed == 1);
	HB_ASSERT(p.b.reason == m->reset && p.b.ends == 0 && p.a.closed == 0);
	pair_fini(&p);
}

static void
case_abort_after_end(const struct hbt_maker *m)
{
	struct pair p;

	pair_open(&p, m);
	hbt_writez(&p.a, "last words", true);
	HBT_UNTIL(p.b.ends == 1);
	hb_transport_abort(&p.a.t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(p.b.closed == 1);
	HB_ASSERT(p.b.reason == m->reset && hbt_gotz(&p.b, "last words"));
	pair_fini(&p);
}

/* The reader is paused: it hears of the reset although it does not read. */
static void
case_abort_while_paused(const struct hbt_maker *m)
{
	struct pair p;

	pair_open(&p, m);
	hb_transport_read_disable(p.b.t, 1);
	hbt_turns(2);
	hb_transport_abort(&p.a.t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(p.b.closed == 1);
	HB_ASSERT(p.b.reason == m->reset && p.b.data == 0);
	pair_fini(&p);
}

static void
case_finish(const struct hbt_maker *m)
{
	struct pair p;

	pair_open(&p, m);
	hbt_writez(&p.a, "bye", false);
	hb_transport_finish(&p.a.t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(p.b.ends == 1);
	HB_ASSERT(hbt_gotz(&p.b, "bye") && p.b.closed == 0);
	/* Nobody listens any more, and nothing breaks by it. */
	hbt_writez(&p.b, "still here", false);
	hbt_turns(3);
	HB_ASSERT(p.b.closed == 0);
	hbt_writez(&p.b, "ok", true);
	HBT_UNTIL(p.b.closed == 1);
	HB_ASSERT(p.b.reason == HB_CLOSE_DONE && p.a.closed == 0);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	HB_ASSERT(hb_transport_flush_timeouts(hbt_worker()) == 0);
	pair_fini(&p);
}

static void
case_finish_after_end(const struct hbt_maker *m)
{
	struct pair p;

	pair_open(&p, m);
	hbt_writez(&p.a, "x", true);
	HBT_UNTIL(p.b.ends == 1);
	hb_transport_finish(&p.b.t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(p.a.closed == 1);
	HB_ASSERT(p.a.reason == HB_CLOSE_DONE && p.a.ends == 1);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	pair_fini(&p);
}

static void
case_finish_both(const struct hbt_maker *m)
{
	struct pair p;

	pair_open(&p, m);
	hbt_writez(&p.a, "x", false);
	hbt_writez(&p.b, "y", false);
	hb_transport_finish(&p.a.t, HB_CLOSE_LOCAL_CLOSE);
	hb_transport_finish(&p.b.t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	HB_ASSERT(hb_transport_flush_timeouts(hbt_worker()) == 0);
	pair_fini(&p);
}

/* More than fits anywhere is queued when the sink lets go; the peer gets all of it. */
static void
case_finish_flushes(const struct hbt_maker *m)
{
	struct pair p;
	size_t n = m->room + 300000;
	uint8_t *bytes = hbt_pattern(n, 7);

	pair_open(&p, m);
	hb_transport_read_disable(p.b.t, 1);
	hbt_write_borrowed(&p.a, bytes, n, false);
	hbt_turns(4);
	hb_transport_finish(&p.a.t, HB_CLOSE_LOCAL_CLOSE);
	HB_ASSERT(hb_transport_lingering(hbt_worker()) > 0);
	hbt_turns(4);
	hb_transport_read_disable(p.b.t, -1);
	HBT_UNTIL(p.b.ends == 1);
	HB_ASSERT(hbt_got(&p.b, bytes, n));
	hb_transport_finish(&p.b.t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	pair_fini(&p);
	hb_free(bytes);
}

/* The peer takes nothing: the lingerer gives up, and the peer sees a reset after what it had. */
static void
case_flush_timeout(const struct hbt_maker *m)
{
	struct pair p;
	size_t n = m->room + 300000;
	uint8_t *bytes = hbt_pattern(n, 8);
	uint64_t before = hb_transport_flush_timeouts(hbt_worker());

	pair_open(&p, m);
	hb_transport_read_disable(p.b.t, 1);
	hbt_write(&p.a, bytes, n, false);
	hbt_turns(20);
	hb_transport_finish(&p.a.t, HB_CLOSE_LOCAL_CLOSE);
	hbt_turns(20);
	hb_clock_advance(hbt_worker(), HB_FLUSH_TIMEOUT_MS - 1);
	HB_ASSERT(hb_transport_lingering(hbt_worker()) > 0);
	hbt_advance(HB_FLUSH_TIMEOUT_MS);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	HB_ASSERT(hb_transport_flush_timeouts(hbt_worker()) == before + 1);
	if (p.b.t != NULL)
		hb_transport_read_disable(p.b.t, -1);
	HBT_UNTIL(p.b.closed == 1);
	HB_ASSERT(p.b.ends == 0 && p.b.reason == m->reset && p.b.got.len < n);
	pair_fini(&p);
	hb_free(bytes);
}

/* ------------------------------------------------------------------ flow */

static void
case_watermarks(const struct hbt_maker *m)
{
	struct pair p;
	size_t n = 64 * 1024, total = 0;
	uint8_t *bytes = hbt_pattern(n, 3);

	pair_open(&p, m);
	hb_transport_set_high(p.a.t, 100000);
	hb_transport_read_disable(p.b.t, 1);
	while (p.a.highs == 0) {
		hbt_write(&p.a, bytes, n, false);
		hbt_turns(1);
		total += n;
		HB_ASSERT(total <= m->room + 500000);
	}
	HB_ASSERT(p.a.lows == 0 && hb_transport_pending(p.a.t) >= 100000);
	hbt_write(&p.a, bytes, n, false);
	total += n;
	HB_ASSERT(p.a.highs == 1);
	hb_transport_read_disable(p.b.t, -1);
	HBT_UNTIL(p.b.got.len == total);
	HBT_UNTIL(p.a.lows == 1);
	HB_ASSERT(p.a.highs == 1 && hb_transport_pending(p.a.t) == 0 && p.a.sent > 0);
	for (size_t off = 0; off < total; off += n)
		HB_ASSERT(memcmp(p.b.got.p + off, bytes, n) == 0);
	pair_fini(&p);
	hb_free(bytes);
}

static void
case_read_disable_counts(const struct hbt_maker *m)
{
	struct pair p;

	pair_open(&p, m);
	hb_transport_read_disable(p.b.t, 1);
	hb_transport_read_disable(p.b.t, 1);
	hbt_writez(&p.a, "x", true);
	hbt_turns(5);
	hb_transport_read_disable(p.b.t, -1);
	hbt_turns(5);
	HB_ASSERT(p.b.data == 0);
	hb_transport_read_disable(p.b.t, -1);
	HB_ASSERT(p.b.data == 0);
	HBT_UNTIL(p.b.ends == 1);
	HB_ASSERT(hbt_gotz(&p.b, "x"));
	pair_fini(&p);
}

static void
case_pause_in_data(const struct hbt_maker *m)
{
	struct pair p;
	size_t n = 1000000;
	uint8_t *bytes = hbt_pattern(n, 4);

	pair_make(&p, m);
	p.b.pause_each = true;
	hbt_attach(&p.a, p.ta);
	hbt_attach(&p.b, p.tb);
	HBT_UNTIL(p.a.secured == 1);
	hbt_write(&p.a, bytes, n, true);
	while (p.b.ends == 0) {
		unsigned seen = p.b.data;

		hbt_turns(2);
		HB_ASSERT(p.b.data == seen || p.b.t->read_disabled == 1);
		if (p.b.t->read_disabled > 0 && p.b.ends == 0)
			hb_transport_read_disable(p.b.t, -1);
	}
	HB_ASSERT(hbt_got(&p.b, bytes, n));
	pair_fini(&p);
	hb_free(bytes);
}

static void
case_echo_split(const struct hbt_maker *m)
{
	static const size_t pieces[] = { 1, 7, 8, 0 };
	size_t n = 5000;
	uint8_t *bytes = hbt_pattern(n, 5);

	for (size_t i = 0; i < HB_ARRAY_LEN(pieces); i++) {
		struct pair p;

		pair_make(&p, m);
		p.b.echo = true;
		hbt_attach(&p.a, hbt_splitter(p.ta, pieces[i]));
		hbt_attach(&p.b, hbt_splitter(p.tb, pieces[i]));
		HBT_UNTIL(p.a.secured == 1 && p.b.secured == 1);
		hbt_write_borrowed(&p.a, bytes, n, true);
		HBT_UNTIL(p.a.closed == 1 && p.b.closed == 1);
		HB_ASSERT(hbt_got(&p.a, bytes, n) && hbt_got(&p.b, bytes, n));
		HB_ASSERT(p.a.reason == HB_CLOSE_DONE && p.b.reason == HB_CLOSE_DONE);
		pair_fini(&p);
	}
	hb_free(bytes);
}

static void
case_echo_much(const struct hbt_maker *m)
{
	struct pair p;
	size_t n = 6 * 1024 * 1024;
	uint8_t *bytes = hbt_pattern(n, 6);

	pair_make(&p, m);
	p.b.echo = true;
	hbt_attach(&p.a, p.ta);
	hbt_attach(&p.b, p.tb);
	HBT_UNTIL(p.a.secured == 1);
	hbt_write_borrowed(&p.a, bytes, n, true);
	HBT_UNTIL(p.a.closed == 1 && p.b.closed == 1);
	HB_ASSERT(hbt_got(&p.a, bytes, n));
	HB_ASSERT(p.a.reason == HB_CLOSE_DONE && p.b.reason == HB_CLOSE_DONE);
	pair_fini(&p);
	hb_free(bytes);
}

static void
case_blocker(const struct hbt_maker *m)
{
	struct pair p;

	pair_make(&p, m);
	hbt_attach(&p.a, hbt_blocker(p.ta));
	hbt_attach(&p.b, p.tb);
	HBT_UNTIL(p.a.secured == 1 && p.b.secured == 1);
	hbt_writez(&p.a, "abcdef", true);
	hbt_turns(5);
	HB_ASSERT(p.b.data == 0 && hb_transport_pending(p.a.t) == 6);
	hbt_release(p.a.t, 2);
	HBT_UNTIL(hbt_gotz(&p.b, "ab"));
	hbt_turns(5);
	HB_ASSERT(p.b.ends == 0);
	hbt_release(p.a.t, SIZE_MAX);
	HBT_UNTIL(p.b.ends == 1);
	HB_ASSERT(hbt_gotz(&p.b, "abcdef"));
	pair_fini(&p);
}

/* ------------------------------------------------------------------ unread, attach */

static void
case_unread(const struct hbt_maker *m)
{
	struct pair p;
	struct hbt_sink second = { 0 };
	struct hb_buf buf = { NULL, NULL, 0 };
	struct hb_transport *t;

	pair_open(&p, m);
	hbt_writez(&p.a, "first", true);
	HBT_UNTIL(p.b.ends == 1);
	HB_ASSERT(hb_transport_raw(p.b.t, HB_DIR_READ) == NULL);
	/* A second sink takes over, reads the same bytes again, then what is new. */
	t = p.b.t;
	p.b.t = NULL;
	hb_transport_read_disable(t, 1);
	hb_buf_addz(&buf, "first");
	hb_transport_unread(t, &buf, true);
	HB_ASSERT(buf.len == 0 && t->bytes_in == 0 && !t->read_ended);
	hbt_attach_paused(&second, t);
	hbt_turns(4);
	HB_ASSERT(second.data == 0 && second.connected == 0);
	hb_transport_read_disable(t, -1);
	HB_ASSERT(second.data == 0);
	HBT_UNTIL(second.ends == 1);
	HB_ASSERT(hbt_gotz(&second, "first") && t->bytes_in == 5);
	hbt_write(&second, NULL, 0, true);
	HBT_UNTIL(second.closed == 1 && p.a.closed == 1);
	HB_ASSERT(second.reason == HB_CLOSE_DONE);
	hbt_sink_fini(&second);
	pair_fini(&p);
}

/* Bytes that were given back are delivered before a reset is told. */
static void
case_unread_then_reset(const struct hbt_maker *m)
{
	struct pair p;
	struct hb_buf buf = { NULL, NULL, 0 };

	pair_open(&p, m);
	hbt_writez(&p.a, "abc", false);
	HBT_UNTIL(p.b.got.len == 3);
	hb_transport_read_disable(p.b.t, 1);
	hb_buf_addz(&buf, "abc");
	hb_transport_unread(p.b.t, &buf, false);
	hb_transport_abort(&p.a.t, HB_CLOSE_LOCAL_CLOSE);
	hbt_turns(10);
	HB_ASSERT(p.b.closed == 0);
	/* Writing to what has ended goes nowhere and harms nothing. */
	hbt_writez(&p.b, "too late", false);
	hbt_turns(2);
	HB_ASSERT(p.b.closed == 0);
	hb_transport_read_disable(p.b.t, -1);
	HBT_UNTIL(p.b.closed == 1);
	HB_ASSERT(hbt_gotz(&p.b, "abcabc") && p.b.reason == m->reset);
	pair_fini(&p);
}

static void
case_late_attach(const struct hbt_maker *m)
{
	struct pair p;

	pair_make(&p, m);
	hbt_attach(&p.a, p.ta);
	hbt_turns(20);
	hbt_attach_paused(&p.b, p.tb);
	HB_ASSERT(p.b.connected == 0);
	HBT_UNTIL(p.b.secured == 1 && p.a.secured == 1);
	hbt_writez(&p.a, "x", false);
	hbt_turns(5);
	HB_ASSERT(p.b.data == 0);
	hb_transport_read_disable(p.b.t, -1);
	HBT_UNTIL(p.b.got.len == 1);
	pair_fini(&p);
}

/* ------------------------------------------------------------------ letting go anywhere */

static void
let_go_once(const struct hbt_maker *m, enum hbt_event event, bool finish, bool server, size_t n)
{
	struct pair p;
	struct hbt_sink *s = server ? &p.b : &p.a, *o = server ? &p.a : &p.b;
	uint8_t *bytes = hbt_pattern(n, 9);

	pair_make(&p, m);
	s->let_go_in = event;
	s->let_go_finish = finish;
	s->echo = server;
	o->echo = !server;
	hbt_attach(&p.a, p.ta);
	hbt_attach(&p.b, p.tb);
	HBT_UNTIL(o->closed == 1 || s->closed == 1 || s->t == NULL || p.a.secured == 1);
	if (p.a.t != NULL)
		hbt_write(&p.a, bytes, n, false);
	for (unsigned i = 0; i < 20 && p.a.t != NULL; i++)
		hbt_turns(1);
	if (p.a.t != NULL && !p.a.t->write_ended)
		hbt_write(&p.a, NULL, 0, true);
	for (unsigned i = 0; i < 50; i++)
		hbt_turns(1);
	/* Whoever is left is let go here; the sinks prove the rest. */
	pair_fini(&p);
	hb_free(bytes);
}

static void
case_let_go_anywhere(const struct hbt_maker *m)
{
	static const enum hbt_event events[] = { HBT_CONNECTED, HBT_SECURED, HBT_DATA, HBT_END,
		HBT_HIGH, HBT_LOW, HBT_SENT, HBT_CLOSED };

	for (size_t i = 0; i < HB_ARRAY_LEN(events); i++)
		for (unsigned bits = 0; bits < 8; bits++)
			let_go_once(m, events[i], bits & 1, bits & 2,
				bits & 4 ? m->room + 2000000 : 10);
}

/* A reset of either side after each byte of a short exchange. */
static void
case_reset_anywhere(const struct hbt_maker *m)
{
	const char *words = "0123456789ABCDEF";

	for (size_t cut = 0; cut < 34; cut++) {
		struct pair p;
		size_t sent = 0;

		pair_make(&p, m);
		p.b.echo = true;
		hbt_attach(&p.a, p.ta);
		hbt_attach(&p.b, p.tb);
		HBT_UNTIL(p.a.secured == 1 && p.b.secured == 1);
		for (; sent < cut / 2; sent++) {
			hbt_write(&p.a, words + sent, 1, false);
			hbt_turns(1);
		}
		if (cut % 2 == 0)
			hb_transport_abort(&p.a.t, HB_CLOSE_LOCAL_CLOSE);
		else
			hb_transport_abort(&p.b.t, HB_CLOSE_LOCAL_CLOSE);
		HBT_UNTIL(p.a.closed + p.b.closed == 1);
		HB_ASSERT((p.a.closed ? p.a.reason : p.b.reason) == m->reset);
		HB_ASSERT(p.b.got.len <= sent &&
			memcmp(words, p.b.got.p == NULL ? "" : p.b.got.p, p.b.got.len) == 0);
		HB_ASSERT(p.a.got.len <= p.b.got.len);
		pair_fini(&p);
	}
}

static const struct {
	const char *name;
	void (*fn)(const struct hbt_maker *);
} cases[] = {
#define CASE(n)              \
	{                    \
#n, case_##n \
	}
	CASE(both_ways),
	CASE(half_close),
	CASE(both_end_at_once),
	CASE(end_answers_end),
	CASE(abort),
	CASE(abort_after_end),
	CASE(abort_while_paused),
	CASE(finish),
	CASE(finish_after_end),
	CASE(finish_both),
	CASE(finish_flushes),
	CASE(flush_timeout),
	CASE(watermarks),
	CASE(read_disable_counts),
	CASE(pause_in_data),
	CASE(echo_split),
	CASE(echo_much),
	CASE(blocker),
	CASE(unread),
	CASE(unread_then_reset),
	CASE(late_attach),
	CASE(let_go_anywhere),
	CASE(reset_anywhere),
#undef CASE
};

void
hbt_conformance(const struct hbt_maker *m)
{
	for (size_t i = 0; i < HB_ARRAY_LEN(cases); i++) {
		(void)fprintf(stderr, "  %s: %s\n", m->name, cases[i].name);
		cases[i].fn(m);
	}
}

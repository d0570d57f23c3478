/* SPDX-License-Identifier: Apache-2.0 */
/* A server session and peers that flood it, stall, or leave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>
#include "core/http/h2.h"
#include "test/core/http/h2_frames.h"
#include "test/support/harness.h"

#define CALM 11u /* ENHANCE_YOUR_CALM */

static struct {
	int fd;
	struct hb_h2 *h2;
	struct hbt_sink s[8];
	unsigned requests, closed, counts[HB_H2_COUNT_MAX];
	enum hb_close_reason reason;
	struct hb_h2_options opt;
	struct hb_text in;
	bool drop; /* streams are refused by their sink at once */
} w;

static void
on_request(
	void *sink, struct hb_h2 *h2, const struct hb_h2_request *req, struct hb_transport *stream)
{
	if (w.drop || w.requests >= HB_ARRAY_LEN(w.s)) {
		hb_transport_reject(&stream, HB_CLOSE_CONNECT_REFUSED);
		return;
	}
	hbt_attach(&w.s[w.requests++], stream);
}

static void
on_count(void *sink, enum hb_h2_count what)
{
	HB_ASSERT(what < HB_H2_COUNT_MAX);
	w.counts[what]++;
}

static void
on_closed(void *sink, struct hb_h2 *h2, enum hb_close_reason reason)
{
	w.h2 = NULL;
	w.closed++;
	w.reason = reason;
}

static const struct hb_h2_events events = {
	.on_request = on_request,
	.on_count = on_count,
	.on_closed = on_closed,
};

static void
send_text(struct hb_text *t)
{
	hbt_fd_write(w.fd, t->p, t->len);
	hb_text_fini(t);
}

static void
read_in(void)
{
	char part[65536];
	ssize_t n;

	while ((n = hbt_fd_read(w.fd, part, sizeof part)) > 0)
		hb_text_add(&w.in, part, (size_t)n);
}

static bool
saw(uint8_t type, uint32_t stream, struct hb_str *ret_payload)
{
	read_in();
	return (frame_find(&w.in, type, stream, ret_payload));
}

/* The peer's SETTINGS have come. */
static void
start(void)
{
	struct hb_transport *t = hbt_tcp_and_fd(&w.fd, false, NULL);
	struct hb_text x = { 0 };

	w.h2 = hb_h2_new(t, true, &w.opt, &events, NULL);
	preface(&x);
	send_text(&x);
	HBT_UNTIL(saw(SETTINGS, 0, NULL));
	hbt_turns(4);
}

static int
setup(void **state)
{
	(void)hbt_init(HB_IO_EPOLL);
	return (0);
}

static int
teardown(void **state)
{
	hbt_fini();
	return (0);
}

static int
fresh(void **state)
{
	memset(&w, 0, sizeof w);
	w.fd = -1;
	return (0);
}

static int
stop(void **state)
{
	for (unsigned i = 0; i < HB_ARRAY_LEN(w.s); i++)
		hbt_sink_fini(&w.s[i]);
	if (w.h2 != NULL)
		hb_h2_close(&w.h2, HB_CLOSE_LOCAL_CLOSE);
	if (w.fd >= 0)
		close(w.fd);
	hb_text_fini(&w.in);
	hbt_turns(8);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	return (fresh(state));
}

static void
again(void)
{
	(void)stop(NULL);
}

/* ------------------------------------------------------------------ floods */

typedef void make_f(struct hb_text *, unsigned i);

static void
ping(struct hb_text *t, unsigned i)
{
	(void)i;
	frame(t, PING, 0, 0, "12345678", 8);
}

static void
settings(struct hb_text *t, unsigned i)
{
	(void)i;
	frame(t, SETTINGS, 0, 0, NULL, 0);
}

static void
empty_data(struct hb_text *t, unsigned i)
{
	if (i == 0)
		connect_headers(t, 1, 0);
	frame(t, DATA, 0, 1, NULL, 0);
}

/* Nothing but padding is nothing, too. */
static void
padded_data(struct hb_text *t, unsigned i)
{
	if (i == 0)
		connect_headers(t, 1, 0);
	frame(t, DATA, PADDED, 1, "\2\0\0", 3);
}

static void
window(struct hb_text *t, unsigned i)
{
	(void)i;
	code_frame(t, WINDOW_UPDATE, 0, 1);
}

static void
priority(struct hb_text *t, unsigned i)
{
	frame(t, PRIORITY, 0, 2 * i + 1, "\0\0\0\0\7", 5);
}

static void
unknown(struct hb_text *t, unsigned i)
{
	(void)i;
	frame(t, 0xbe, 0, 0, "odd", 3);
}

static void
rapid_reset(struct hb_text *t, unsigned i)
{
	connect_headers(t, 2 * i + 1, 0);
	code_frame(t, RST_STREAM, 2 * i + 1, 8);
}

/* The peer makes us reset: a window that overflows. */
static void
made_reset(struct hb_text *t, unsigned i)
{
	connect_headers(t, 2 * i + 1, 0);
	code_frame(t, WINDOW_UPDATE, 2 * i + 1, 0x7fffffff);
}

static void
send_some(make_f *make, unsigned from, unsigned to)
{
	struct hb_text t = { 0 };

	for (unsigned i = from; i < to; i++)
		make(&t, i);
	send_text(&t);
	hbt_turns(20);
	read_in();
}

/* `limit` of them are put up with, one more is not. */
static void
flood(make_f *make, enum hb_h2_flood kind)
{
	struct hb_str p;

	w.opt.flood[kind] = 20;
	w.opt.streams_max = 1000;
	start();
	send_some(make, 0, kind == HB_H2_FLOOD_SETTINGS ? 19 : 20);
	assert_int_equal(w.closed, 0);
	send_some(make, 20, 22);
	HBT_UNTIL(w.closed == 1);
	assert_int_equal(w.reason, HB_CLOSE_FLOOD);
	assert_int_equal(w.counts[HB_H2_FLOODED + kind], 1);
	HBT_UNTIL(saw(GOAWAY, 0, &p));
	assert_int_equal(frame_u32(p, 4), CALM);
	again();
}

static void
test_guard__floods(void **state)
{
	flood(ping, HB_H2_FLOOD_PINGS);
	flood(settings, HB_H2_FLOOD_SETTINGS);
	flood(empty_data, HB_H2_FLOOD_EMPTY_DATA);
	flood(padded_data, HB_H2_FLOOD_EMPTY_DATA);
	flood(window, HB_H2_FLOOD_WINDOWS);
	flood(priority, HB_H2_FLOOD_OTHER);
	flood(unknown, HB_H2_FLOOD_OTHER);
	flood(rapid_reset, HB_H2_FLOOD_RESETS);
	w.drop = true;
	flood(made_reset, HB_H2_FLOOD_ERRORS);
}

/* A tenth of the burst is fine in each second. */
static void
test_guard__leaks(void **state)
{
	w.opt.flood[HB_H2_FLOOD_PINGS] = 20;
	start();
	send_some(ping, 0, 20);
	for (unsigned i = 0; i < 5; i++) {
		hbt_advance(1000);
		send_some(ping, 0, 2);
		assert_int_equal(w.closed, 0);
	}
	send_some(ping, 0, 1);
	HBT_UNTIL(w.closed == 1);
}

/* Tunnels that lived are reset as often as their connections are. */
static void
test_guard__late_resets(void **state)
{
	struct hb_text t = { 0 };

	w.opt.flood[HB_H2_FLOOD_RESETS] = 2;
	start();
	for (unsigned i = 0; i < 5; i++)
		connect_headers(&t, 2 * i + 1, 0);
	send_text(&t);
	HBT_UNTIL(w.requests == 5);
	hbt_advance(1000);
	for (unsigned i = 0; i < 5; i++)
		code_frame(&t, RST_STREAM, 2 * i + 1, 8);
	send_text(&t);
	HBT_UNTIL(w.s[4].closed == 1);
	assert_int_equal(w.closed, 0);
	assert_int_equal(w.counts[HB_H2_RX_RESET], 5);
}

/* A header block in n + 1 frames. */
static void
send_block(uint32_t stream, unsigned n, bool whole)
{
	struct hb_text t = { 0 }, block = { 0 };

	field(&block, ":method", "CONNECT");
	field(&block, ":authority", "a:1");
	frame(&t, HEADERS, 0, stream, block.p, block.len);
	hb_text_fini(&block);
	for (unsigned i = 1; i <= n; i++)
		frame(&t, CONTINUATION, i == n && whole ? END_HEADERS : 0, stream, NULL, 0);
	send_text(&t);
}

static void
too_many(uint32_t stream, unsigned n)
{
	struct hb_str p;

	send_block(stream, n, false);
	HBT_UNTIL(w.closed == 1);
	assert_int_equal(w.reason, HB_CLOSE_FLOOD);
	assert_int_equal(w.counts[HB_H2_FLOODED + HB_H2_FLOOD_CONTINUATIONS], 1);
	HBT_UNTIL(saw(GOAWAY, 0, &p));
	assert_int_equal(frame_u32(p, 4), CALM);
}

static void
test_guard__continuations(void **state)
{
	start();
	send_block(1, 8, true);
	HBT_UNTIL(w.requests == 1);
	too_many(3, 9);
}

static void
test_guard__continuations_option(void **state)
{
	w.opt.flood[HB_H2_FLOOD_CONTINUATIONS] = 20;
	start();
	send_block(1, 20, true);
	HBT_UNTIL(w.requests == 1);
	too_many(3, 21);
}

/* A peer that makes us answer and does not read. */
static void
test_guard__outbound(void **state)
{
	struct hb_text t = { 0 };
	struct hb_transport *lower;

	w.opt.flood[HB_H2_FLOOD_PINGS] = 1000000;
	w.opt.flood[HB_H2_FLOOD_OUTBOUND] = 100;
	lower = hbt_tcp_and_fd(&w.fd, true, NULL);
	hb_transport_set_high(lower, 1);
	w.h2 = hb_h2_new(lower, true, &w.opt, &events, NULL);
	preface(&t);
	send_text(&t);
	for (unsigned k = 0; k < 5000 && w.closed == 0; k++) {
		for (unsigned i = 0; i < 20; i++)
			ping(&t, i);
		if (write(w.fd, t.p, t.len) < 0)
			assert_int_equal(w.closed, 1);
		hb_text_fini(&t);
		hbt_turns(2);
	}
	assert_int_equal(w.closed, 1);
	assert_int_equal(w.reason, HB_CLOSE_FLOOD);
	assert_int_equal(w.counts[HB_H2_FLOODED + HB_H2_FLOOD_OUTBOUND], 1);
}

/* ------------------------------------------------------------------ time */

static void
test_guard__start_timeout(void **state)
{
	w.h2 = hb_h2_new(hbt_tcp_and_fd(&w.fd, false, NULL), true, &w.opt, &events, NULL);
	hbt_turns(4);
	hbt_advance(14000);
	assert_int_equal(w.closed, 0);
	hbt_advance(2000);
	HBT_UNTIL(w.closed == 1);
	assert_int_equal(w.reason, HB_CLOSE_HTTP_TIMEOUT);
	assert_int_equal(w.counts[HB_H2_START_TIMEOUT], 1);
}

static void
test_guard__slow_headers(void **state)
{
	struct hb_text t = { 0 }, block = { 0 };

	start();
	field(&block, ":method", "CONNECT");
	frame(&t, HEADERS, 0, 1, block.p, block.len);
	hb_text_fini(&block);
	send_text(&t);
	hbt_turns(4);
	hbt_advance(14000);
	assert_int_equal(w.closed, 0);
	hbt_advance(2000);
	HBT_UNTIL(w.closed == 1);
	assert_int_equal(w.reason, HB_CLOSE_HTTP_TIMEOUT);
	assert_int_equal(w.counts[HB_H2_HEADERS_TIMEOUT], 1);
	assert_int_equal(w.requests, 0);
}

/* First after 10 s, then 10 s after each answer; no answer for 20 s is the end. */
static void
test_guard__keepalive(void **state)
{
	struct hb_text t = { 0 };
	struct hb_str p;

	w.opt.keepalive_interval_ms = 10000;
	start();
	hbt_advance(9000);
	assert_false(saw(PING, 0, NULL));
	hbt_advance(1500);
	HBT_UNTIL(saw(PING, 0, &p));
	frame(&t, PING, ACK, 0, p.p, p.len);
	send_text(&t);
	hbt_turns(4);
	hbt_advance(9000);
	read_in();
	assert_int_equal(frame_count(&w.in, PING, 0), 1);
	hbt_advance(1500);
	read_in();
	assert_int_equal(frame_count(&w.in, PING, 0), 2);
	hbt_advance(17000);
	assert_int_equal(w.closed, 0);
	hbt_advance(4000);
	HBT_UNTIL(w.closed == 1);
	assert_int_equal(w.reason, HB_CLOSE_KEEPALIVE_TIMEOUT);
	assert_int_equal(w.counts[HB_H2_KEEPALIVE_TIMEOUT], 1);
}

/* Without streams it drains; with one it does not. */
static void
test_guard__idle(void **state)
{
	struct hb_text t = { 0 };

	w.opt.idle_timeout_ms = 60000;
	start();
	connect_headers(&t, 1, 0);
	send_text(&t);
	HBT_UNTIL(w.requests == 1);
	hbt_advance(70000);
	assert_false(hb_h2_draining(w.h2));
	hb_transport_abort(&w.s[0].t, HB_CLOSE_LOCAL_CLOSE);
	hbt_turns(4);
	hbt_advance(50000);
	assert_false(hb_h2_draining(w.h2));
	hbt_advance(15000);
	assert_true(w.closed == 1 || hb_h2_draining(w.h2));
	hbt_advance(4000);
	HBT_UNTIL(w.closed == 1);
	assert_int_equal(w.reason, HB_CLOSE_DONE);
	assert_int_equal(w.counts[HB_H2_IDLE], 1);
}

/* ------------------------------------------------------------------ draining */

/* What was opened before the PING came back is served, what comes later is not. */
static void
test_guard__drain(void **state)
{
	struct hb_text t = { 0 };
	struct hb_str p;

	start();
	connect_headers(&t, 1, 0);
	send_text(&t);
	HBT_UNTIL(w.requests == 1);
	hb_h2_drain(w.h2);
	HBT_UNTIL(saw(GOAWAY, 0, &p));
	assert_int_equal(frame_u32(p, 0), 0x7fffffff);
	HBT_UNTIL(saw(PING, 0, &p));
	connect_headers(&t, 3, 0);
	frame(&t, PING, ACK, 0, p.p, p.len);
	connect_headers(&t, 5, 0);
	send_text(&t);
	HBT_UNTIL(w.requests == 2 && (read_in(), frame_count(&w.in, GOAWAY, 0) == 2));
	hbt_turns(4);
	assert_int_equal(w.requests, 2);
	hb_transport_accept(w.s[1].t);
	HBT_UNTIL(saw(HEADERS, 3, NULL));
	assert_false(saw(HEADERS, 5, NULL));
	for (unsigned i = 0; i < 2; i++)
		hb_transport_abort(&w.s[i].t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(w.closed == 1);
	assert_int_equal(w.reason, HB_CLOSE_DONE);
}

/* Nothing is open: a stream on its way is still served. */
static void
test_guard__drain_empty(void **state)
{
	struct hb_text t = { 0 };

	start();
	hb_h2_drain(w.h2);
	HBT_UNTIL(saw(PING, 0, NULL));
	hbt_turns(4);
	assert_int_equal(w.closed, 0);
	connect_headers(&t, 1, 0);
	send_text(&t);
	HBT_UNTIL(w.requests == 1);
	hbt_advance(4000); /* the peer does not answer the PING */
	HBT_UNTIL((read_in(), frame_count(&w.in, GOAWAY, 0) == 2));
	assert_int_equal(w.closed, 0);
	hb_transport_abort(&w.s[0].t, HB_CLOSE_LOCAL_CLOSE);
	HBT_UNTIL(w.closed == 1);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stop)
	const struct CMUnitTest tests[] = {
		T(test_guard__floods),
		T(test_guard__leaks),
		T(test_guard__late_resets),
		T(test_guard__continuations),
		T(test_guard__continuations_option),
		T(test_guard__outbound),
		T(test_guard__start_timeout),
		T(test_guard__slow_headers),
		T(test_guard__keepalive),
		T(test_guard__idle),
		T(test_guard__drain),
		T(test_guard__drain_empty),
	};
#undef T

	return (cmocka_run_group_tests(tests, setup, teardown));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A session and a peer that writes its frames by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>
#include "core/http/h2.h"
#include "test/core/http/h2_frames.h"
#include "test/support/harness.h"

static struct {
	int fd;
	struct hb_h2 *h2;
	struct hbt_sink s[8];
	unsigned requests, closed, goaways;
	enum hb_close_reason reason;
	struct hb_h2_options opt;
	struct hb_text in; /* what we sent and the peer has read */
} w;

static void
on_request(
	void *sink, struct hb_h2 *h2, const struct hb_h2_request *req, struct hb_transport *stream)
{
	HB_ASSERT(w.requests < HB_ARRAY_LEN(w.s));
	hbt_attach(&w.s[w.requests++], stream);
	hb_transport_accept(stream);
}

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

static const struct hb_h2_events events = {
	.on_request = on_request,
	.on_goaway = on_goaway,
	.on_closed = on_closed,
};

/* ------------------------------------------------------------------ the peer */

static void
send_text(struct hb_text *t)
{
	hbt_fd_write(w.fd, t->p, t->len);
	hb_text_fini(t);
}

/* Reads what came; true once a frame of this type and stream has been seen. */
static bool
saw(uint8_t type, uint32_t stream, struct hb_str *ret_payload)
{
	char part[65536];
	ssize_t n;

	while ((n = hbt_fd_read(w.fd, part, sizeof part)) > 0)
		hb_text_add(&w.in, part, (size_t)n);
	return (frame_find(&w.in, type, stream, ret_payload));
}

/* ------------------------------------------------------------------ set-up */

static void
start(bool server)
{
	struct hb_transport *t = hbt_tcp_and_fd(&w.fd, false, NULL);

	w.h2 = hb_h2_new(t, server, &w.opt, &events, NULL);
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
	unsigned i;

	for (i = 0; i < HB_ARRAY_LEN(w.s); i++)
		hbt_sink_fini(&w.s[i]);
	if (w.h2 != NULL)
		hb_h2_close(&w.h2, HB_CLOSE_LOCAL_CLOSE);
	if (w.fd >= 0)
		close(w.fd);
	hb_text_fini(&w.in);
	hbt_turns(8);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	return (0);
}

/* ------------------------------------------------------------------ tests */

static void
test_wire__announces(void **state)
{
	static const uint8_t streams[] = { 0, 3, 0, 0, 0, 77 }, window[] = { 0, 4, 0, 4, 0, 0 };
	static const uint8_t frame_max[] = { 0, 5, 0, 16, 0, 0 };
	struct hb_str p;

	w.opt.streams_max = 77;
	start(true);
	HBT_UNTIL(saw(SETTINGS, 0, &p));
	assert_non_null(memmem(p.p, p.len, streams, sizeof streams));
	assert_non_null(memmem(p.p, p.len, window, sizeof window));
	assert_non_null(memmem(p.p, p.len, frame_max, sizeof frame_max));
	HBT_UNTIL(saw(WINDOW_UPDATE, 0, NULL));
}

/* Until all that is written at once to a peer with this MAX_FRAME_SIZE has come: its DATA frames. */
static unsigned
frames_of(uint8_t max_high, uint8_t max_low, size_t n, size_t *ret_len, unsigned max)
{
	const uint8_t settings[] = { 0, 5, 0, max_high, max_low, 0, 0, 4, 0, 0x40, 0, 0 };
	uint8_t *p = hbt_pattern(n, 5);
	struct hb_text t = { 0 };
	unsigned frames = 0;
	size_t got = 0;

	start(true);
	hb_text_add(&t, PREFACE, sizeof PREFACE - 1);
	frame(&t, SETTINGS, 0, 0, settings, sizeof settings);
	code_frame(&t, WINDOW_UPDATE, 0, 1u << 24);
	connect_headers(&t, 1, 0);
	send_text(&t);
	HBT_UNTIL(w.requests == 1 && saw(HEADERS, 1, NULL));
	hbt_write(&w.s[0], p, n, false);
	hb_free(p);
	while (got < n) {
		hbt_turns(1);
		(void)saw(DATA, 1, NULL);
		frames = frame_lengths(&w.in, DATA, 1, ret_len, max);
		got = 0;
		for (unsigned i = 0; i < HB_MIN(frames, max); i++)
			got += ret_len[i];
	}
	return (frames);
}

/* Header and payload of a frame are one record of TLS, or many of them: none has a rest of a few bytes. */
static void
test_wire__frames_fill_records(void **state)
{
	size_t len[8];

	assert_int_equal(frames_of(0, 0x40, 5 * 16375 + 100, len, 8), 6);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(len[i], 16384 - 9);
	assert_int_equal(len[5], 100);
}

/* A peer that takes 1 MiB frames, as ztunnel does, gets what is there in one: a header less for each record. */
static void
test_wire__frames_grow(void **state)
{
	size_t len[8];

	assert_int_equal(frames_of(0x10, 0, 16 * 16384 - 9, len, 8), 1);
	assert_int_equal(len[0], 16 * 16384 - 9);
}

static void
test_wire__no_error_after_end(void **state)
{
	struct hb_text t = { 0 };

	start(true);
	preface(&t);
	connect_headers(&t, 1, 0);
	frame(&t, DATA, END_STREAM, 1, "bytes", 5);
	code_frame(&t, RST_STREAM, 1, 0);
	send_text(&t);
	HBT_UNTIL(w.s[0].ends == 1);
	assert_true(hbt_gotz(&w.s[0], "bytes"));
	hbt_turns(4);
	assert_int_equal(w.s[0].closed, 0);
	hbt_writez(&w.s[0], "nobody reads", false);
	hbt_writez(&w.s[0], "this", true);
	HBT_UNTIL(w.s[0].closed == 1);
	assert_int_equal(w.s[0].reason, HB_CLOSE_DONE);
	assert_int_equal(hb_h2_streams(w.h2), 0);
}

static void
test_wire__no_error_without_end(void **state)
{
	struct hb_text t = { 0 };

	start(true);
	preface(&t);
	connect_headers(&t, 1, 0);
	send_text(&t);
	HBT_UNTIL(w.requests == 1);
	frame(&t, DATA, 0, 1, "bytes", 5);
	code_frame(&t, RST_STREAM, 1, 0);
	send_text(&t);
	HBT_UNTIL(w.s[0].closed == 1);
	assert_true(hbt_gotz(&w.s[0], "bytes"));
	assert_int_equal(w.s[0].reason, HB_CLOSE_STREAM_RESET);
}

/* Opened and reset at once: nobody is bothered. */
static void
test_wire__reset_at_once(void **state)
{
	struct hb_text t = { 0 };

	start(true);
	preface(&t);
	connect_headers(&t, 1, 0);
	code_frame(&t, RST_STREAM, 1, 8);
	connect_headers(&t, 3, 0);
	send_text(&t);
	HBT_UNTIL(w.requests == 1);
	assert_int_equal(hb_h2_stream_id(w.s[0].t), 3);
	assert_int_equal(hb_h2_streams(w.h2), 1);
}

static void
test_wire__padding_and_trailers(void **state)
{
	struct hb_text t = { 0 }, trailer = { 0 };

	start(true);
	preface(&t);
	connect_headers(&t, 1, 0);
	frame(&t, DATA, PADDED, 1, "\3abc\0\0\0", 7);
	frame(&t, DATA, PADDED, 1, "\0def", 4);
	field(&trailer, "x-trailer", "1");
	frame(&t, HEADERS, END_HEADERS | END_STREAM, 1, trailer.p, trailer.len);
	hb_text_fini(&trailer);
	send_text(&t);
	HBT_UNTIL(w.s[0].ends == 1);
	assert_true(hbt_gotz(&w.s[0], "abcdef"));
}

static void
test_wire__ping(void **state)
{
	struct hb_text t = { 0 };
	struct hb_str p;

	start(true);
	preface(&t);
	frame(&t, PING, 0, 0, "12345678", 8);
	send_text(&t);
	HBT_UNTIL(saw(PING, 0, &p));
	assert_memory_equal(p.p, "12345678", 8);
}

/* The limit is ours even after the peer acknowledged it: the session goes on. */
static void
test_wire__stream_limit(void **state)
{
	struct hb_text t = { 0 };
	struct hb_str p;
	uint32_t id;

	w.opt.streams_max = 4;
	start(true);
	HBT_UNTIL(saw(SETTINGS, 0, NULL));
	preface(&t);
	frame(&t, SETTINGS, ACK, 0, NULL, 0);
	for (id = 1; id < 101; id += 2)
		connect_headers(&t, id, 0);
	send_text(&t);
	HBT_UNTIL(saw(RST_STREAM, 99, &p));
	assert_memory_equal(p.p, "\0\0\0\7", 4);
	assert_int_equal(w.requests, 4);
	assert_int_equal(hb_h2_refused(w.h2), 46);
	assert_int_equal(hb_h2_streams(w.h2), 4);
	frame(&t, DATA, 0, 7, "alive", 5);
	send_text(&t);
	HBT_UNTIL(hbt_gotz(&w.s[3], "alive"));
}

static void
test_wire__headers_too_big(void **state)
{
	struct hb_text t = { 0 }, block = { 0 };
	char value[121];
	unsigned i;

	memset(value, 'v', sizeof value - 1);
	value[sizeof value - 1] = '\0';
	w.opt.header_bytes_max = 4096;
	start(true);
	preface(&t);
	field(&block, ":method", "CONNECT");
	field(&block, ":authority", "a:1");
	for (i = 0; i < 60; i++)
		field(&block, "x-filler", value);
	frame(&t, HEADERS, END_HEADERS, 1, block.p, block.len);
	hb_text_fini(&block);
	connect_headers(&t, 3, 0);
	send_text(&t);
	/* 431, the end, and NO_ERROR to stop what may follow. */
	HBT_UNTIL(saw(HEADERS, 1, NULL) && saw(RST_STREAM, 1, NULL));
	HBT_UNTIL(w.requests == 1 && saw(HEADERS, 3, NULL));
	assert_int_equal(hb_h2_streams(w.h2), 1);
}

static void
closes_with_error(struct hb_text *t)
{
	start(true);
	send_text(t);
	HBT_UNTIL(w.closed == 1);
	assert_int_equal(w.reason, HB_CLOSE_PROTOCOL_ERROR);
	HBT_UNTIL(saw(GOAWAY, 0, NULL));
	(void)stop(NULL);
	(void)fresh(NULL);
}

static void
test_wire__protocol_errors(void **state)
{
	struct hb_text t = { 0 };

	hb_text_addz(&t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	closes_with_error(&t);
	preface(&t);
	frame(&t, DATA, 0, 1, "idle", 4);
	closes_with_error(&t);
	preface(&t);
	frame(&t, PING, 0, 0, "short", 5);
	closes_with_error(&t);
	preface(&t);
	frame(&t, HEADERS, END_HEADERS, 1, "\xff\xff\xff\xff\xff\xff", 6);
	closes_with_error(&t);
	preface(&t);
	connect_headers(&t, 2, 0);
	closes_with_error(&t);
}

static void
test_wire__bad_request(void **state)
{
	struct hb_text t = { 0 }, block = { 0 };
	struct hb_str p;

	start(true);
	preface(&t);
	field(&block, ":method", "CONNECT");
	field(&block, ":path", "/not-for-connect");
	frame(&t, HEADERS, END_HEADERS, 1, block.p, block.len);
	hb_text_fini(&block);
	send_text(&t);
	HBT_UNTIL(saw(RST_STREAM, 1, &p));
	assert_memory_equal(p.p, "\0\0\0\1", 4);
	assert_int_equal(w.requests, 0);
	HBT_UNTIL(hb_h2_streams(w.h2) == 0);
	connect_headers(&t, 3, 0);
	send_text(&t);
	HBT_UNTIL(w.requests == 1);
}

static void
test_wire__fin_with_streams(void **state)
{
	struct hb_text t = { 0 };

	start(true);
	preface(&t);
	connect_headers(&t, 1, 0);
	frame(&t, DATA, 0, 1, "half", 4);
	send_text(&t);
	HBT_UNTIL(hbt_gotz(&w.s[0], "half"));
	close(w.fd);
	w.fd = -1;
	HBT_UNTIL(w.closed == 1 && w.s[0].closed == 1);
	assert_int_equal(w.s[0].ends, 0);
	assert_int_equal(w.s[0].reason, HB_CLOSE_PEER_RESET);
	assert_int_equal(w.reason, HB_CLOSE_PEER_RESET);
}

static void
test_wire__client_goaway(void **state)
{
	const struct hb_h2_request req = { .authority = HB_STR("a:1") };
	static const uint8_t ok[] = { 0x88 }; /* :status 200 */
	static const uint8_t last1[] = { 0, 0, 0, 1, 0, 0, 0, 0 };
	struct hb_text t = { 0 };

	start(false);
	hbt_attach(&w.s[0], hb_h2_open(w.h2, &req));
	hbt_attach(&w.s[1], hb_h2_open(w.h2, &req));
	frame(&t, SETTINGS, 0, 0, NULL, 0);
	frame(&t, HEADERS, END_HEADERS, 1, ok, sizeof ok);
	frame(&t, GOAWAY, 0, 0, last1, sizeof last1);
	send_text(&t);
	HBT_UNTIL(w.goaways == 1 && w.s[1].closed == 1);
	assert_int_equal(w.s[1].reason, HB_CLOSE_STREAM_REFUSED);
	assert_int_equal(w.s[0].connected, 1);
	assert_int_equal(hb_h2_room(w.h2), 0);
	frame(&t, DATA, END_STREAM, 1, "goes on", 7);
	send_text(&t);
	HBT_UNTIL(w.s[0].ends == 1);
	assert_true(hbt_gotz(&w.s[0], "goes on"));
	hbt_writez(&w.s[0], "done", true);
	HBT_UNTIL(w.s[0].closed == 1 && w.closed == 1);
	assert_int_equal(w.s[0].reason, HB_CLOSE_DONE);
}

static void
test_wire__client_interim_response(void **state)
{
	const struct hb_h2_request req = { .authority = HB_STR("a:1") };
	static const uint8_t ok[] = { 0x88 };
	struct hb_text t = { 0 }, early = { 0 };

	start(false);
	hbt_attach(&w.s[0], hb_h2_open(w.h2, &req));
	field(&early, ":status", "103");
	frame(&t, SETTINGS, 0, 0, NULL, 0);
	frame(&t, HEADERS, END_HEADERS, 1, early.p, early.len);
	hb_text_fini(&early);
	send_text(&t);
	hbt_turns(8);
	assert_int_equal(w.s[0].connected, 0);
	frame(&t, HEADERS, END_HEADERS | END_STREAM, 1, ok, sizeof ok);
	send_text(&t);
	HBT_UNTIL(w.s[0].ends == 1);
	assert_int_equal(w.s[0].connected, 1);
}

/* Whatever the script, a cut after each of its bytes ends everything and leaks nothing. */
static void
test_wire__cut_at_every_byte(void **state)
{
	struct hb_text t = { 0 };
	size_t n, whole;
	char *copy;

	preface(&t);
	connect_headers(&t, 1, 0);
	frame(&t, DATA, 0, 1, "0123456789", 10);
	frame(&t, DATA, END_STREAM, 1, "end", 3);
	connect_headers(&t, 3, END_STREAM);
	code_frame(&t, RST_STREAM, 3, 8);
	whole = t.len;
	copy = hb_text_take(&t);
	for (n = 0; n < whole; n++) {
		(void)fresh(NULL);
		start(true);
		w.s[0].pause_each = n % 3 == 0;
		hbt_fd_write(w.fd, copy, n);
		hbt_turns(3);
		if (n % 2 == 0)
			close(w.fd);
		else
			hbt_fd_reset(w.fd);
		w.fd = -1;
		HBT_UNTIL(w.closed == 1);
		(void)stop(NULL);
	}
	hb_free(copy);
	(void)fresh(NULL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, fresh, stop)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_wire__announces),
		T(test_wire__frames_fill_records),
		T(test_wire__frames_grow),
		T(test_wire__no_error_after_end),
		T(test_wire__no_error_without_end),
		T(test_wire__reset_at_once),
		T(test_wire__padding_and_trailers),
		T(test_wire__ping),
		T(test_wire__stream_limit),
		T(test_wire__headers_too_big),
		T(test_wire__protocol_errors),
		T(test_wire__bad_request),
		T(test_wire__fin_with_streams),
		T(test_wire__client_goaway),
		T(test_wire__client_interim_response),
		T(test_wire__cut_at_every_byte),
	};

	return (cmocka_run_group_tests(tests, setup, teardown));
}

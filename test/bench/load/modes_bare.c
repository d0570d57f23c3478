/* SPDX-License-Identifier: Apache-2.0 */
/* connect and stream by `bare`, with test/bench/floor.c at the other end: see test/bench/bare.h. */
#include "test/bench/bare.h"
#include "test/bench/load/load.h"

/* The answer has `want` bytes so far, of which the last is of this call; false: not yet, or too many. */
static bool
came(struct load_lane *l, const struct hb_buf *buf, bool end, size_t want)
{
	l->got += buf->len;
	if (!end && l->got <= want)
		return (l->got == want);
	load_error(l->conn->run,
		end ? "a bare connection ended before its time" :
		      "a bare connection had too many bytes");
	load_lane_finish(l);
	return (false);
}

static void
tunnel_open(struct load_lane *l)
{
	l->conn->resumed = l->conn->run->o->resume;
	l->sent = 0;
}

/* `sent` counts messages. */
static void
tunnel_data(struct load_lane *l, struct hb_buf *buf, bool end)
{
	const struct load_run *run = l->conn->run;
	bool resumed = l->conn->resumed;

	if (!came(l, buf, end, l->sent == 0 ? (resumed ? BARE_SHORT : BARE_FLIGHT) : 1))
		return;
	l->got = 0;
	switch (l->sent++) {
	case 0:
		load_lane_write(l, run->hot, resumed ? BARE_SHORT : BARE_FINISH, false);
		break;
	case 1:
		load_lane_write(l, "X", 1, false);
		break;
	default:
		load_done(l);
		load_up(l->conn);
		load_lane_next(l);
		break;
	}
}

static void
stream_data(struct load_lane *l, struct hb_buf *buf, bool end)
{
	static const char next[] = { BARE_CLOSE, BARE_OPEN };

	if (!came(l, buf, end, 1))
		return;
	l->got = 0;
	if (l->sent++ % 2 == 0) {
		load_lane_write(l, "X", 1, false);
		return;
	}
	load_done(l);
	load_up(l->conn);
	l->begun_ns = load_now_ns();
	load_lane_write(l, next, sizeof next, false);
}

/* Its hello is the run's, which has a byte less for the command. */
static const struct load_mode tunnel = { "connect", LOAD_CONNECT, 'X', .open = tunnel_open,
	.data = tunnel_data };
static const struct load_mode stream = { "stream", LOAD_ECHO, BARE_OPEN, .data = stream_data };

const struct load_mode *
load_mode_bare(enum load_kind kind)
{
	return (kind == LOAD_CONNECT ? &tunnel : kind == LOAD_STREAM ? &stream : NULL);
}

void
load_bare_hello(bool resume, struct hb_text *ret)
{
	static const char hello[BARE_HELLO - 1];

	hb_text_add(ret, hello, sizeof hello);
	ret->p[0] = resume ? BARE_RESUMED : BARE_FULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/socket.h>
#include "core/transport/tcp_priv.h"
#include "test/bench/load/load.h"

#define PING          64u
#define WRITES_A_TURN 16u

static void
opened(struct load_lane *l)
{
	if (l->conn->n_open == l->conn->run->o->streams)
		load_up(l->conn);
}

/* ------------------------------------------------------------------ download */

static void
download_data(struct load_lane *l, struct hb_buf *buf, bool end)
{
	struct load_run *run = l->conn->run;

	run->bytes += buf->len;
	l->conn->taken += buf->len;
	if (!end)
		return;
	load_error(run, "a download ended before its time");
	load_lane_finish(l);
}

/* ------------------------------------------------------------------ upload */

static void
count(struct load_lane *l, size_t n)
{
	l->sent += n;
	l->conn->run->bytes += n;
}

/* False = the socket takes no more, or has failed, for now. */
static bool
send_raw(struct load_lane *l)
{
	ssize_t n = send(hb_tcp_fd(l->t), l->conn->run->hot, LOAD_CHUNK, MSG_NOSIGNAL);

	if (n >= 0) {
		count(l, (size_t)n);
		return (true);
	}
	if (errno == EAGAIN || errno == EWOULDBLOCK) {
		hb_tcp_raw_again(l->t, HB_DIR_WRITE);
	} else if (errno != EINTR) {
		l->raw = false;
		hb_tcp_raw_end(l->t, HB_DIR_WRITE, errno);
	}
	return (errno == EINTR);
}

static bool
send_on(struct load_lane *l)
{
	if (l->t->out.above)
		return (false);
	count(l, LOAD_CHUNK);
	load_lane_write(l, l->conn->run->hot, LOAD_CHUNK, false);
	return (true);
}

static void
upload_room(struct load_lane *l)
{
	for (unsigned i = 0; i < WRITES_A_TURN; i++) {
		if (l->ended || !(l->raw ? send_raw(l) : send_on(l)))
			return;
	}
	hb_run_soon(l->conn->run->w, &l->run);
}

static void
raw_room(void *arg, struct hb_transport *t, enum hb_dir dir, unsigned events)
{
	(void)t;
	(void)dir;
	(void)events;
	upload_room(arg);
}

static void
upload_open(struct load_lane *l)
{
	opened(l);
	/* A socket that has taken the command needs no queue above it. */
	if (hb_transport_raw(l->t, HB_DIR_WRITE) == l->t) {
		l->raw = true;
		hb_tcp_raw_begin(l->t, HB_DIR_WRITE, raw_room, l);
	}
	hb_run_soon(l->conn->run->w, &l->run);
}

static void
upload_data(struct load_lane *l, struct hb_buf *buf, bool end)
{
	struct load_run *run = l->conn->run;
	size_t n = hb_buf_copyout(buf, 0, l->answer + l->got, sizeof l->answer - l->got);
	uint64_t came = 0;

	l->got += n;
	if (!end && l->got < sizeof l->answer)
		return;
	for (size_t i = 0; i < l->got; i++)
		came = came << 8 | l->answer[i];
	if (!l->ended || l->got < sizeof l->answer || came != l->sent)
		load_error(run, "of %lu bytes uploaded %lu came", (unsigned long)l->sent,
			(unsigned long)came);
	load_lane_finish(l);
}

static void
upload_stop(struct load_lane *l)
{
	if (!l->open || l->conn->run->o->unchecked) {
		load_lane_finish(l);
		return;
	}
	if (l->raw)
		hb_tcp_raw_end(l->t, HB_DIR_WRITE, 0);
	l->raw = false;
	load_lane_write(l, NULL, 0, true);
}

/* ------------------------------------------------------------------ echo */

static void
ping(struct load_lane *l)
{
	l->begun_ns = load_now_ns();
	load_lane_write(l, l->conn->run->hot, PING, false);
}

static void
echo_open(struct load_lane *l)
{
	opened(l);
	ping(l);
}

static void
echo_data(struct load_lane *l, struct hb_buf *buf, bool end)
{
	l->got += buf->len;
	if (end || l->got > PING) {
		load_error(l->conn->run,
			end ? "an echo ended before its time" : "an echo had too many bytes");
		load_lane_finish(l);
	} else if (l->got == PING) {
		l->got = 0;
		load_done(l);
		ping(l);
	}
}

/* ------------------------------------------------------------------ connect, stream */

static void
once_data(struct load_lane *l, struct hb_buf *buf, bool end)
{
	(void)end;
	if (buf->len != 1)
		load_error(l->conn->run, "%zu bytes came instead of one", buf->len);
	else
		load_done(l);
	load_up(l->conn);
	load_lane_next(l);
}

/* ------------------------------------------------------------------ idle */

static void
idle_data(struct load_lane *l, struct hb_buf *buf, bool end)
{
	struct load_conn *c = l->conn;

	if (end || buf->len != 1) {
		load_error(c->run, "an idle connection ended before its time");
		load_lane_finish(l);
		return;
	}
	load_done(l);
	if (++c->n_answered == c->run->o->streams)
		load_up(c);
}

static const struct load_mode modes[] = {
	{ "download", LOAD_DOWNLOAD, 'D', .bulk = true, .open = opened, .data = download_data },
	{ "upload", LOAD_UPLOAD, 'U', .bulk = true, .open = upload_open, .data = upload_data,
		.room = upload_room, .stop = upload_stop },
	{ "echo", LOAD_ECHO, 'E', .open = echo_open, .data = echo_data },
	{ "connect", LOAD_CONNECT, 'X', .data = once_data },
	{ "stream", LOAD_STREAM, 'X', .data = once_data },
	{ "idle", LOAD_IDLE, 'I', .data = idle_data },
};

const struct load_mode *
load_mode_find(const char *name)
{
	for (size_t i = 0; i < HB_ARRAY_LEN(modes); i++) {
		if (strcmp(modes[i].name, name) == 0)
			return (&modes[i]);
	}
	return (NULL);
}

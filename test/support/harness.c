/* SPDX-License-Identifier: Apache-2.0 */
#include "test/support/harness.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

/* ------------------------------------------------------------------ worker */

static struct hb_worker *worker;

struct hb_worker *
hbt_init(enum hb_io_backend backend)
{
	int r;

	HB_ASSERT(worker == NULL);
	hb_io_backend(backend);
	r = hb_workers_init(1, NULL);
	HB_ASSERT(r == 0);
	worker = hb_worker_at(0);
	hb_worker_enter(worker);
	hb_clock_fake(worker, 1000000);
	return (worker);
}

void
hbt_fini(void)
{
	HB_ASSERT(worker != NULL);
	hbt_turns(4);
	HBT_UNTIL(hb_transport_lingering(worker) == 0);
	hbt_turns(4);
	hb_transport_worker_fini(worker);
	hb_workers_fini();
	worker = NULL;
}

struct hb_worker *
hbt_worker(void)
{
	HB_ASSERT(worker != NULL);
	return (worker);
}

void
hbt_turns(unsigned n)
{
	while (n-- > 0)
		hb_worker_turn(worker, false);
}

void
hbt_advance(uint64_t ms)
{
	/* A wheel rounds up by 1/16 of the delay at most. */
	hb_clock_advance(worker, ms + ms / 16 + 16);
	hbt_turns(4);
}

static uint64_t
real_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000);
}

uint64_t
hbt__deadline(void)
{
	return (real_ms() + 10000);
}

bool
hbt__turn(uint64_t deadline)
{
	hb_worker_turn(worker, false);
	(void)sched_yield();
	return (real_ms() < deadline);
}

/* ------------------------------------------------------------------ recording sink */

static void
let_go(struct hbt_sink *s)
{
	if (s->t == NULL)
		return;
	if (s->let_go_finish)
		hb_transport_finish(&s->t, HB_CLOSE_LOCAL_CLOSE);
	else
		hb_transport_abort(&s->t, HB_CLOSE_LOCAL_CLOSE);
}

static void
trace(struct hbt_sink *s, char c)
{
	size_t n = strlen(s->trace);

	if (c == 'd' && n > 0 && s->trace[n - 1] == 'd')
		return;
	if (n + 1 < sizeof s->trace)
		s->trace[n] = c;
}

static struct hbt_sink *
enter(void *sink, struct hb_transport *t, char c)
{
	struct hbt_sink *s = sink;

	HB_ASSERT(s->t == t);
	HB_ASSERT(s->closed == 0);
	HB_ASSERT(s->inside == 0 || c == 'H');
	s->inside++;
	trace(s, c);
	return (s);
}

static void
leave(struct hbt_sink *s, enum hbt_event event)
{
	if (s->let_go_in & event)
		let_go(s);
	if (s->hook != NULL)
		s->hook(s, event);
	HB_ASSERT(s->inside > 0);
	s->inside--;
}

static void
on_connected(void *sink, struct hb_transport *t)
{
	struct hbt_sink *s = enter(sink, t, 'c');

	HB_ASSERT(s->connected == 0 && s->secured == 0 && s->data == 0 && s->ends == 0);
	s->connected++;
	if (s->answer != NULL)
		hbt_write(s, s->answer, s->answer_len, false);
	leave(s, HBT_CONNECTED);
}

static void
on_secured(void *sink, struct hb_transport *t)
{
	struct hbt_sink *s = enter(sink, t, 's');

	HB_ASSERT(s->secured == 0 && s->data == 0 && s->ends == 0);
	s->secured++;
	leave(s, HBT_SECURED);
}

static void
record(struct hbt_sink *s, const struct hb_buf *buf)
{
	char part[4096];
	size_t n, off = 0;

	while ((n = hb_buf_copyout(buf, off, part, sizeof part)) > 0) {
		hb_text_add(&s->got, part, n);
		off += n;
	}
}

static void
on_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct hbt_sink *s = enter(sink, t, 'd');

	HB_ASSERT(t->connected && t->secured);
	HB_ASSERT(t->read_disabled == 0);
	HB_ASSERT(s->ends == 0);
	HB_ASSERT(buf->len > 0 || end);
	s->data++;
	record(s, buf);
	if (end) {
		s->ends++;
		trace(s, 'e');
	}
	if (s->echo && !t->write_ended)
		hb_transport_write(t, buf, end);
	hb_buf_fini(buf);
	if (end && s->end_on_end && s->t != NULL && !t->write_ended)
		hb_transport_write(t, buf, true);
	if (s->pause_each && s->t != NULL)
		hb_transport_read_disable(t, 1);
	leave(s, end ? HBT_DATA | HBT_END : HBT_DATA);
}

static void
on_watermark(void *sink, struct hb_transport *t, bool high)
{
	struct hbt_sink *s = enter(sink, t, high ? 'H' : 'L');

	HB_ASSERT(s->above != high);
	s->above = high;
	if (high)
		s->highs++;
	else
		s->lows++;
	/* An echo is its own source. */
	if (s->echo)
		hb_transport_read_disable(t, high ? 1 : -1);
	leave(s, high ? HBT_HIGH : HBT_LOW);
}

static void
on_sent(void *sink, struct hb_transport *t, size_t n)
{
	struct hbt_sink *s = enter(sink, t, 'S');

	HB_ASSERT(n > 0);
	s->sent += n;
	leave(s, HBT_SENT);
}

static void
on_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	struct hbt_sink *s = enter(sink, t, 'X');

	HB_ASSERT(reason != HB_CLOSE_NONE && reason < HB_CLOSE_MAX);
	HB_ASSERT(reason != HB_CLOSE_DONE || s->ends == 1);
	s->closed++;
	s->reason = reason;
	s->t = NULL;
	leave(s, HBT_CLOSED);
}

static const struct hb_transport_events sink_events = {
	.on_connected = on_connected,
	.on_secured = on_secured,
	.on_data = on_data,
	.on_watermark = on_watermark,
	.on_sent = on_sent,
	.on_closed = on_closed,
};

void
hbt_attach_paused(struct hbt_sink *s, struct hb_transport *t)
{
	s->t = t;
	s->above = false;
	hb_transport_attach(t, &sink_events, s);
}

void
hbt_attach(struct hbt_sink *s, struct hb_transport *t)
{
	hbt_attach_paused(s, t);
	hb_transport_read_disable(t, -1);
}

void
hbt_write(struct hbt_sink *s, const void *p, size_t n, bool end)
{
	struct hb_buf buf = { NULL, NULL, 0 };

	HB_ASSERT(s->t != NULL);
	if (n > 0)
		hb_buf_add(&buf, p, n);
	hb_transport_write(s->t, &buf, end);
}

void
hbt_writez(struct hbt_sink *s, const char *z, bool end)
{
	hbt_write(s, z, strlen(z), end);
}

void
hbt_write_borrowed(struct hbt_sink *s, const void *p, size_t n, bool end)
{
	struct hb_buf buf = { NULL, NULL, 0 };
	struct hb_slice slice;
	uint8_t *copy = hb_malloc(n == 0 ? 1 : n);

	HB_ASSERT(s->t != NULL);
	if (n > 0)
		memcpy(copy, p, n);
	hb_buf_borrow(&buf, &slice, copy, n);
	hb_transport_write(s->t, &buf, end);
	memset(copy, 0xdb, n == 0 ? 1 : n);
	hb_free(copy);
}

bool
hbt_got(const struct hbt_sink *s, const void *p, size_t n)
{
	return (s->got.len == n && (n == 0 || memcmp(s->got.p, p, n) == 0));
}

bool
hbt_gotz(const struct hbt_sink *s, const char *z)
{
	return (hbt_got(s, z, strlen(z)));
}

void
hbt_sink_fini(struct hbt_sink *s)
{
	if (s->t != NULL)
		hb_transport_abort(&s->t, HB_CLOSE_LOCAL_CLOSE);
	hb_text_fini(&s->got);
}

uint8_t *
hbt_pattern(size_t n, unsigned seed)
{
	uint8_t *p = hb_malloc(n == 0 ? 1 : n);
	uint32_t x = seed * 2654435761u + 1;

	for (size_t i = 0; i < n; i++) {
		x = x * 1664525u + 1013904223u;
		p[i] = (uint8_t)(x >> 24);
	}
	return (p);
}

/* ------------------------------------------------------------------ descriptors */

static void
nonblocking(int fd)
{
	int r = fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);

	HB_ASSERT(r == 0);
}

static void
shrink(int fd)
{
	int n = 4096;

	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof n);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &n, sizeof n);
}

int
hbt_listen(struct sockaddr_storage *ret_addr, socklen_t *ret_len)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int r, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	HB_ASSERT(fd >= 0);
	r = bind(fd, (struct sockaddr *)&sin, sizeof sin);
	HB_ASSERT(r == 0);
	r = listen(fd, 128);
	HB_ASSERT(r == 0);
	*ret_len = sizeof *ret_addr;
	r = getsockname(fd, (struct sockaddr *)ret_addr, ret_len);
	HB_ASSERT(r == 0);
	return (fd);
}

void
hbt_loopback(int fd[2], bool small_buffers)
{
	struct sockaddr_storage addr;
	socklen_t len;
	int r, on = 1, listener = hbt_listen(&addr, &len);

	if (small_buffers)
		shrink(listener);
	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	HB_ASSERT(fd[0] >= 0);
	if (small_buffers)
		shrink(fd[0]);
	r = connect(fd[0], (struct sockaddr *)&addr, len);
	HB_ASSERT(r == 0);
	fd[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	HB_ASSERT(fd[1] >= 0);
	(void)close(listener);
	for (int i = 0; i < 2; i++) {
		nonblocking(fd[i]);
		(void)setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	}
}

void
hbt_tcp_pair(struct hb_transport **ret_a, struct hb_transport **ret_b)
{
	int fd[2];

	hbt_loopback(fd, false);
	*ret_a = hb_tcp_from_fd(worker, fd[0], NULL);
	*ret_b = hb_tcp_from_fd(worker, fd[1], NULL);
}

void
hbt_unix_pair(struct hb_transport **ret_a, struct hb_transport **ret_b)
{
	int fd[2], r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd);

	HB_ASSERT(r == 0);
	*ret_a = hb_tcp_from_fd(worker, fd[0], NULL);
	*ret_b = hb_tcp_from_fd(worker, fd[1], NULL);
}

struct hb_transport *
hbt_tcp_and_fd(int *ret_fd, bool small_buffers, const struct hb_tcp_options *o)
{
	int fd[2];

	hbt_loopback(fd, small_buffers);
	*ret_fd = fd[1];
	return (hb_tcp_from_fd(worker, fd[0], o));
}

void
hbt_fd_reset(int fd)
{
	struct linger l = { .l_onoff = 1, .l_linger = 0 };

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	(void)close(fd);
}

ssize_t
hbt_fd_read(int fd, void *p, size_t n)
{
	ssize_t r;

	do {
		r = read(fd, p, n);
	} while (r < 0 && errno == EINTR);
	return (r);
}

void
hbt_fd_read_n(int fd, void *p, size_t n)
{
	size_t got = 0;
	ssize_t r = -1;

	while (got < n) {
		HBT_UNTIL((r = hbt_fd_read(fd, (uint8_t *)p + got, n - got)) > 0);
		got += (size_t)r;
	}
}

void
hbt_fd_write(int fd, const void *p, size_t n)
{
	size_t put = 0;
	ssize_t r = -1;

	while (put < n) {
		HBT_UNTIL((r = send(fd, (const uint8_t *)p + put, n - put, MSG_NOSIGNAL)) > 0);
		put += (size_t)r;
	}
}

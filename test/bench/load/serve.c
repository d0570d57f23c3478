/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The endpoint behind the proxy, nearly free: it shares a CPU with the proxy that is measured, so
 * it is a bare epoll loop, level-triggered, one system call for each thing that happens, and its
 * state is a table by descriptor.
 */
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include "test/bench/load/load.h"

#define HOT      (1024u * 1024u)
#define HEADER   5u /* of a TLS record */
#define EVENTS   256
#define ACCEPTS  64u
#define TAKE_MAX (1u << 30)

enum state {
	FREE,
	LISTEN,
	START,   /* nothing is known yet: a record to skip, then the command */
	LENGTH,  /* 'd': the number comes */
	SOURCE,
	SINK,
	BACK,
	HOLD /* until the peer ends */
};

struct end {
	enum state state;
	uint32_t events; /* that epoll reports */
	uint32_t skip;   /* START: bytes of the record that are still to come */
	uint8_t head[8]; /* START: the record's header; LENGTH: the number */
	uint8_t n_head;
	bool http;       /* START: inside the head of an HTTP/1.1 request */
	uint8_t n_blank; /* … bytes of CR LF CR LF at its end */
	bool bounded;
	uint64_t n;    /* SOURCE: to send, when bounded; SINK: came */
	uint8_t *rest; /* BACK: what the socket did not take; owned */
	size_t n_rest;
};

static struct end *ends; /* by descriptor */
static size_t n_ends;
static int ep;
static uint8_t *hot, scratch[65536];

static void
end_close(int fd)
{
	hb_free(ends[fd].rest);
	memset(&ends[fd], 0, sizeof ends[fd]);
	(void)close(fd);
}

static void
watch(int fd, uint32_t events)
{
	struct end *e = &ends[fd];
	struct epoll_event ev = { .events = events, .data.fd = fd };

	if (e->events == events)
		return;
	HB_ASSERT(epoll_ctl(ep, e->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &ev) == 0);
	e->events = events;
}

/* ------------------------------------------------------------------ what is asked for */

static void
source(int fd)
{
	struct end *e = &ends[fd];
	size_t want = e->bounded ? HB_MIN(e->n, (uint64_t)HOT) : HOT;
	ssize_t n = want == 0 ? 0 : send(fd, hot, want, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		end_close(fd);
		return;
	}
	if (e->bounded && n > 0)
		e->n -= (uint64_t)n;
	if (e->bounded && e->n == 0) {
		(void)shutdown(fd, SHUT_WR);
		e->state = HOLD;
		watch(fd, EPOLLIN);
	} else {
		watch(fd, EPOLLIN | EPOLLOUT);
	}
}

static void
put_u64(uint8_t p[8], uint64_t v)
{
	for (unsigned i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (56 - 8 * i));
}

/* The peer has ended. */
static void
at_end(int fd)
{
	struct end *e = &ends[fd];
	uint8_t count[8];

	if (e->state == SINK) {
		put_u64(count, e->n);
		(void)send(fd, count, sizeof count, MSG_NOSIGNAL);
	}
	end_close(fd);
}

static void
echo(int fd, const uint8_t *p, size_t n)
{
	struct end *e = &ends[fd];
	ssize_t sent = n == 0 ? 0 : send(fd, p, n, MSG_NOSIGNAL);

	if (sent < 0 && errno != EAGAIN) {
		end_close(fd);
		return;
	}
	sent = HB_MAX(sent, 0);
	if ((size_t)sent == n) {
		watch(fd, EPOLLIN);
		return;
	}
	e->n_rest = n - (size_t)sent;
	e->rest = hb_malloc(e->n_rest);
	memcpy(e->rest, p + sent, e->n_rest);
	watch(fd, EPOLLOUT);
}

static void
echo_rest(int fd)
{
	struct end *e = &ends[fd];
	uint8_t *rest = e->rest;
	size_t n = e->n_rest;

	e->rest = NULL;
	e->n_rest = 0;
	echo(fd, rest, n);
	hb_free(rest);
}

static void
answer(int fd)
{
	ends[fd].state = HOLD;
	if (send(fd, "x", 1, MSG_NOSIGNAL) == 1)
		watch(fd, EPOLLIN);
	else
		end_close(fd);
}

/* ------------------------------------------------------------------ the start */

/* The bytes of 'd': a number, then as many bytes go back. */
static void
length(int fd, const uint8_t *p, size_t n)
{
	struct end *e = &ends[fd];

	while (n > 0 && e->n_head < 8) {
		e->n = e->n << 8 | *p++;
		e->n_head++;
		n--;
	}
	if (e->n_head == 8) {
		e->state = SOURCE;
		e->bounded = true;
		source(fd);
	} else {
		watch(fd, EPOLLIN);
	}
}

static void
command(int fd, const uint8_t *p, size_t n)
{
	struct end *e = &ends[fd];

	switch (p[0]) {
	case 'D':
		e->state = SOURCE;
		source(fd);
		break;
	case 'd':
		e->state = LENGTH;
		e->n_head = 0;
		length(fd, p + 1, n - 1);
		break;
	case 'U':
		e->state = SINK;
		e->n = n - 1;
		watch(fd, EPOLLIN);
		break;
	case 'E':
		e->state = BACK;
		echo(fd, p + 1, n - 1);
		break;
	case 'X':
	case 'I':
		answer(fd);
		break;
	default:
		fprintf(stderr, "load: a connection asks for 0x%02x\n", p[0]);
		end_close(fd);
	}
}

/* Bytes of a ClientHello that a passthrough has brought along. */
static size_t
skip_record(struct end *e, const uint8_t *p, size_t n)
{
	size_t at = 0, skipped;

	while (at < n && (e->n_head > 0 ? e->n_head < HEADER : p[at] == 0x16)) {
		e->head[e->n_head++] = p[at++];
		if (e->n_head == HEADER)
			e->skip = (uint32_t)e->head[3] << 8 | e->head[4];
	}
	skipped = HB_MIN(n - at, (size_t)e->skip);
	e->skip -= (uint32_t)skipped;
	return (at + skipped);
}

/* Bytes of a tunnel request: HAProxy and nghttpx pass it on as CONNECT of HTTP/1.1. It is answered, then forgotten. */
static size_t
skip_request(int fd, const uint8_t *p, size_t n)
{
	static const char ok[] = "HTTP/1.1 200 OK\r\n\r\n", blank[] = "\r\n\r\n";
	struct end *e = &ends[fd];
	size_t at = 0;

	if (!e->http && n > 0 && p[0] == 'C')
		e->http = true;
	while (e->http && at < n) {
		e->n_blank = p[at] == blank[e->n_blank] ? e->n_blank + 1 : p[at] == '\r';
		at++;
		if (e->n_blank == sizeof blank - 1) {
			e->http = false;
			e->n_blank = 0;
			(void)send(fd, ok, sizeof ok - 1, MSG_NOSIGNAL);
		}
	}
	return (at);
}

static void
start(int fd, const uint8_t *p, size_t n)
{
	size_t skipped = skip_record(&ends[fd], p, n);

	skipped += skip_request(fd, p + skipped, n - skipped);
	if (skipped < n)
		command(fd, p + skipped, n - skipped);
	else
		watch(fd, EPOLLIN);
}

/* ------------------------------------------------------------------ events */

static void
readable(int fd)
{
	struct end *e = &ends[fd];
	bool drop = e->state == SINK || e->state == HOLD || e->state == SOURCE;
	ssize_t n = drop ? recv(fd, NULL, TAKE_MAX, MSG_TRUNC) :
			   recv(fd, scratch, sizeof scratch, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		watch(fd, e->events == 0 ? EPOLLIN : e->events);
	} else if (n < 0) {
		end_close(fd);
	} else if (n == 0) {
		at_end(fd);
	} else if (e->state == SINK) {
		e->n += (uint64_t)n;
	} else if (e->state == START) {
		start(fd, scratch, (size_t)n);
	} else if (e->state == LENGTH) {
		length(fd, scratch, (size_t)n);
	} else if (e->state == BACK) {
		echo(fd, scratch, (size_t)n);
	}
}

static void
accept_some(int lfd)
{
	int fd;

	for (unsigned i = 0; i < ACCEPTS; i++) {
		fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		HB_ASSERT((size_t)fd < n_ends && ends[fd].state == FREE);
		ends[fd].state = START;
		/* A proxy writes as soon as it is connected: often it is here already. */
		readable(fd);
	}
}

static void
on_event(const struct epoll_event *ev)
{
	int fd = ev->data.fd;

	if (ev->events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		readable(fd);
	if (!(ev->events & EPOLLOUT))
		return;
	if (ends[fd].state == SOURCE)
		source(fd);
	else if (ends[fd].state == BACK && ends[fd].rest != NULL)
		echo_rest(fd);
}

/* ------------------------------------------------------------------ */

static int
listen_on(const char *text, struct hb_text *ready, struct hb_err *reterr)
{
	struct sockaddr_storage ss;
	struct hb_addr a;
	socklen_t len = 0;
	char name[128];
	int fd, on = 1;

	if (hb_addr_parse(hb_str(text), &a))
		len = hb_addr_to_sockaddr(&a, &ss);
	if (len == 0)
		return (hb_err_set(reterr, -EINVAL, "--listen %s: give ADDRESS:PORT", text));
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (fd < 0 || bind(fd, (struct sockaddr *)&ss, len) != 0 || listen(fd, 4096) != 0)
		return (hb_err_set(
			reterr, -errno, "cannot listen on %s: %s", text, strerror(errno)));
	len = sizeof ss;
	(void)getsockname(fd, (struct sockaddr *)&ss, &len);
	hb_addr_from_sockaddr(&a, (struct sockaddr *)&ss, len);
	(void)hb_addr_format(&a, name, sizeof name);
	hb_text_printf(ready, "%s\"%s\"", ready->len == 0 ? "" : ",", name);
	HB_ASSERT((size_t)fd < n_ends);
	ends[fd].state = LISTEN;
	watch(fd, EPOLLIN);
	return (0);
}

static void
on_signal(int number)
{
	_exit(0);
}

/* Connections that were closed or reset are handled before their numbers are used again. */
static void
turn(void)
{
	struct epoll_event ev[EVENTS];
	int n = epoll_wait(ep, ev, EVENTS, -1);

	for (int i = 0; i < n; i++) {
		if (ends[ev[i].data.fd].state != LISTEN)
			on_event(&ev[i]);
	}
	for (int i = 0; i < n; i++) {
		if (ends[ev[i].data.fd].state == LISTEN)
			accept_some(ev[i].data.fd);
	}
}

int
load_serve(const struct load_options *o)
{
	struct hb_text ready = { 0 };
	struct rlimit files;
	struct hb_err err;
	int r = 0;

	(void)signal(SIGTERM, on_signal);
	(void)signal(SIGINT, on_signal);
	HB_ASSERT(getrlimit(RLIMIT_NOFILE, &files) == 0);
	n_ends = (size_t)files.rlim_cur;
	ends = hb_calloc(n_ends, sizeof *ends);
	hot = hb_calloc(1, HOT);
	memset(hot, 'h', HOT);
	ep = epoll_create1(EPOLL_CLOEXEC);
	HB_ASSERT(ep >= 0);
	for (size_t i = 0; i < o->n_listen && r == 0; i++)
		r = listen_on(o->listen[i], &ready, &err);
	if (r != 0) {
		fprintf(stderr, "load: %s\n", err.text);
		return (1);
	}
	printf("{\"ready\":true,\"listen\":[%s]}\n", ready.p);
	(void)fflush(stdout);
	hb_text_fini(&ready);
	for (;;)
		turn();
}

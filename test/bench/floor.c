/* SPDX-License-Identifier: Apache-2.0 */
/* The floor's command line and loop: see floor.h. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "test/bench/floor.h"

#define EVENTS 256

static int ep;
static struct sockaddr_in origin;

void
floor_watch(int fd)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.fd = fd };

	HB_ASSERT(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == 0);
}

int
floor_dial(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	HB_ASSERT(fd >= 0);
	HB_ASSERT(connect(fd, (struct sockaddr *)&origin, sizeof origin) == 0 ||
		errno == EINPROGRESS);
	return (fd);
}

/* New connections last: they must not get a descriptor for which there is an event yet. */
static void
turn(const struct floor_work *work, int lfd)
{
	struct epoll_event ev[EVENTS];
	int fd, n = epoll_wait(ep, ev, EVENTS, -1);
	bool accepts = false;

	for (int i = 0; i < n; i++) {
		if (ev[i].data.fd == lfd)
			accepts = true;
		else
			work->event(ev[i].data.fd, ev[i].events);
	}
	if (accepts) {
		fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			work->accepted(fd);
	}
	if (work->turned != NULL)
		work->turned();
}

static int
listen_on(uint16_t port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct epoll_event ev = { .events = EPOLLIN };
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof at;

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	/* TCP_NODELAY goes over to what it accepts. */
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
		bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 4096) != 0 ||
		getsockname(fd, (struct sockaddr *)&at, &len) != 0) {
		fprintf(stderr, "floor: cannot listen on 127.0.0.1:%u: %s\n", port,
			strerror(errno));
		exit(1);
	}
	ev.data.fd = fd;
	HB_ASSERT(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == 0);
	printf("{\"ready\":true,\"port\":%u}\n", ntohs(at.sin_port));
	(void)fflush(stdout);
	return (fd);
}

int
main(int argc, char **argv)
{
	const struct floor_work *work = NULL;
	struct rlimit files;
	int lfd;

	if (argc == 4 && strcmp(argv[1], "passthrough") == 0)
		work = &floor_passthrough;
	else if (argc == 6 && strcmp(argv[1], "terminate") == 0)
		work = &floor_terminate;
	if (work == NULL) {
		fputs("usage: floor passthrough PORT ORIGIN-PORT\n"
		      "       floor terminate PORT ORIGIN-PORT CERTIFICATE KEY (PEM files)\n",
			stderr);
		return (1);
	}
	origin.sin_family = AF_INET;
	origin.sin_port = htons((uint16_t)atoi(argv[3]));
	origin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	HB_ASSERT(getrlimit(RLIMIT_NOFILE, &files) == 0);
	ep = epoll_create1(EPOLL_CLOEXEC);
	HB_ASSERT(ep >= 0);
	work->begin((size_t)files.rlim_cur, argv + 4);
	lfd = listen_on((uint16_t)atoi(argv[2]));
	for (;;)
		turn(work, lfd);
}

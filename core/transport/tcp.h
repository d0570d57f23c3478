/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/transport/tcp.h: stream sockets (TCP and unix) and standard input/output as transports.
 */
#ifndef HB_CORE_TRANSPORT_TCP_H
#define HB_CORE_TRANSPORT_TCP_H

#include <sys/socket.h>
#include "core/transport/transport.h"

struct hb_tcp_options {
	bool     nodelay_off;       /* default: TCP_NODELAY on                              */
	bool     keepalive;
	unsigned keepalive_probes, keepalive_time_s, keepalive_interval_s; /* 0 = system    */
	uint64_t flush_timeout_ms;  /* of finish; 0 = HB_FLUSH_TIMEOUT_MS                   */
	/* "" = system; "auto" = cubic or reno when the peer is on this host, else system; else a
	 * name for TCP_CONGESTION, ignored when the kernel does not have it. */
	char     congestion[16];
};

/*
 * A unix socket cannot send a reset: an abort is an end for its peer (ECONNRESET only when bytes
 * were unread), so what must not be taken for complete needs framing above it.
 */

/*
 * Takes a connected, non-blocking descriptor (owned from now on, closed on every path). Emits
 * connected and secured from the run queue. Never fails: trouble is reported by on_closed.
 */
struct hb_transport *hb_tcp_from_fd(struct hb_worker *, int fd, const struct hb_tcp_options *);

/*
 * Starts a connect. on_connected when established, or on_closed(CONNECT_…) with
 * hb_tcp_errno telling why. Timeouts are the caller's. `bind_to` may be NULL. Returns NULL and
 * fills reterr only when no socket could be made (descriptors, bad address, a source address, mark
 * or transparency that the kernel refuses).
 */
/* One setsockopt() call; all of it is borrowed while hb_tcp_connect runs. */
struct hb_tcp_sockopt {
	int         level, name;
	const void *value;
	socklen_t   len;
	const char *what; /* for the message when the kernel refuses it */
};

struct hb_tcp_connect {
	const struct sockaddr *addr;
	socklen_t              addr_len;
	const struct sockaddr *bind_to;
	socklen_t              bind_len;
	bool                   freebind, transparent;
	/* Bytes will be written as soon as it stands: the handshake's last packet waits for them, up
	 * to the 200 ms of a delayed acknowledgement. */
	bool                   speaks_first;
	uint32_t               mark;      /* SO_MARK, 0 = none */
	const struct hb_tcp_sockopt *sockopts; /* set before bind; a refused one is an error */
	size_t                 n_sockopts;
	struct hb_tcp_options  options;
};
struct hb_transport *hb_tcp_connect(struct hb_worker *, const struct hb_tcp_connect *,
    struct hb_err *reterr);

bool hb_tcp_is(const struct hb_transport *);
/* For a tcp transport only. fd stays owned by it. */
int hb_tcp_fd(const struct hb_transport *);
/* For measurements: one system call reads n bytes at most, 1 … HB_SCRATCH_SIZE; 0 = as many as there
 * are. Does nothing to a transport that is no socket. */
void hb_tcp_read_at_most(struct hb_transport *, uint32_t n);
int hb_tcp_errno(const struct hb_transport *);
/*
 * Takes the descriptor out of a connected transport that has read nothing it did not unread and
 * was written nothing; unread bytes move to *ret_unread. The transport is gone. For moving to
 * another worker. A negative errno when the connection has failed meanwhile: *t stays the
 * caller's and on_closed follows.
 */
int hb_tcp_take_fd(struct hb_transport **, struct hb_buf *ret_unread, bool *ret_end);

/*
 * Two descriptors as one transport (0 and 1 for an ssh ProxyCommand). Owned: they are switched to
 * non-blocking, restored and closed; 0, 1 and 2 are pointed at /dev/null instead, so that no later
 * file takes their number. Regular files, pipes, terminals and sockets are fine; the two may be the
 * same. Ignores SIGPIPE for the process, since a pipe's reader may leave. A reset cannot be sent
 * through a pipe: abort ends it. NULL leaves both to the caller.
 */
struct hb_transport *hb_stdio_transport(struct hb_worker *, int fd_in, int fd_out,
    struct hb_err *reterr);

#endif

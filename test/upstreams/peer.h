/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/upstreams/peer.h: proxies that tunnels end at: our own HTTP/2 server behind a listening
 * socket, with TLS or without, and the record of what came.
 */
#ifndef HB_TEST_UPSTREAMS_PEER_H
#define HB_TEST_UPSTREAMS_PEER_H

#include "test/upstreams/support.h"

#include "core/http/h2.h"

/* The transport socket hbone, to be followed by its fields and "}}". */
#define PEER_HBONE                                                   \
	"{name: hbone, typed_config: {'@type': type.googleapis.com/" \
	"hbone.transport_sockets.hbone.Hbone"

#define PEER_SESSIONS 16
#define PEER_STREAMS  400

struct peer;
struct peer_session {
	struct peer *peer;
	struct hb_h2 *h2;      /* NULL = closed */
	unsigned streams;      /* that came     */
	enum hb_close_reason reason;
};

struct peer {
	int fd;                /* listening; -1 = none */
	uint16_t port;
	const struct hb_transport_socket *socket; /* NULL = in the clear */
	struct hb_h2_options opt;
	/* What a request gets; NULL = 200 and an echo. Takes the stream. */
	void (*on_request)(struct peer *, const struct hb_h2_request *, struct hb_transport *);
	bool silent;           /* connections are taken and left alone */
	int  left[PEER_SESSIONS];
	unsigned n_left;
	struct peer_session s[PEER_SESSIONS];
	unsigned n_sessions;
	struct hbt_sink *stream[PEER_STREAMS]; /* owned */
	unsigned n_streams;
	char authority[256], method[16], path[64];
	struct hb_text headers; /* "name: value\n" of the last request */
};

/* Listens on 127.0.0.1. */
void peer_start(struct peer *);
void peer_stop(struct peer *);
/* The cluster "c" of tunnels to it; ", field: …" of Hbone and of the cluster. */
struct hb_cluster *peer_cluster(const struct peer *, const char *hbone, const char *rest);
/* Speaks HTTP/2 over this one, taken. */
void peer_serve(struct peer *, struct hb_transport *);
/* Takes connections that are there. */
void peer_accept(struct peer *);
/* Attaches a sink with echo (or without) and answers 200. */
struct hbt_sink *peer_take(struct peer *, struct hb_transport *, bool echo);
/* Turns everything until `cond`. */
#define PEER_UNTIL(peer, cond)                                                              \
	do {                                                                                \
		uint64_t until_ = hbt__deadline();                                          \
		while (!(cond)) {                                                           \
			peer_accept(peer);                                                  \
			if (!up__turn(until_))                                              \
				hb_panic(__FILE__, __LINE__, __func__, "never: " #cond);    \
		}                                                                           \
	} while (0)

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "test/upstreams/peer.h"

#include <stdio.h>
#include <unistd.h>

struct hbt_sink *
peer_take(struct peer *p, struct hb_transport *t, bool echo)
{
	struct hbt_sink *s = hb_calloc(1, sizeof *s);

	HB_ASSERT(p->n_streams < PEER_STREAMS);
	p->stream[p->n_streams++] = s;
	s->echo = echo;
	s->end_on_end = echo;
	hbt_attach(s, t);
	hb_transport_accept(t);
	return (s);
}

static void
remember(struct peer *p, const struct hb_h2_request *r)
{
	(void)snprintf(p->authority, sizeof p->authority, "%.*s", HB_STR_FMT(r->authority));
	(void)snprintf(p->method, sizeof p->method, "%.*s", HB_STR_FMT(r->method));
	(void)snprintf(p->path, sizeof p->path, "%.*s", HB_STR_FMT(r->path));
	hb_text_fini(&p->headers);
	hb_text_addz(&p->headers, "");
	for (size_t i = 0; i < r->n_headers; i++)
		hb_text_printf(&p->headers, "%.*s: %.*s\n", HB_STR_FMT(r->headers[i].name),
			HB_STR_FMT(r->headers[i].value));
}

static void
on_request(void *sink, struct hb_h2 *h2, const struct hb_h2_request *r, struct hb_transport *stream)
{
	struct peer_session *s = sink;

	(void)h2;
	s->streams++;
	remember(s->peer, r);
	if (s->peer->on_request != NULL)
		s->peer->on_request(s->peer, r, stream);
	else
		(void)peer_take(s->peer, stream, true);
}

static void
on_closed(void *sink, struct hb_h2 *h2, enum hb_close_reason reason)
{
	struct peer_session *s = sink;

	(void)h2;
	s->h2 = NULL;
	s->reason = reason;
}

static const struct hb_h2_events events = { .on_request = on_request, .on_closed = on_closed };

void
peer_serve(struct peer *p, struct hb_transport *t)
{
	struct peer_session *s;

	HB_ASSERT(p->n_sessions < PEER_SESSIONS);
	s = &p->s[p->n_sessions++];
	s->peer = p;
	t = hb_transport_socket_wrap(p->socket, t, NULL, HB_STR(""));
	s->h2 = hb_h2_new(t, true, &p->opt, &events, s);
}

void
peer_accept(struct peer *p)
{
	int fd;

	while (p->fd >= 0 && (fd = accept4(p->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		if (p->silent)
			p->left[p->n_left++] = fd;
		else
			peer_serve(p, hb_tcp_from_fd(hbt_worker(), fd, NULL));
	}
}

void
peer_start(struct peer *p)
{
	p->fd = up_listen(&p->port);
}

struct hb_cluster *
peer_cluster(const struct peer *p, const char *hbone, const char *rest)
{
	return (up_cluster("{name: c, connect_timeout: 5s, load_assignment: {endpoints: "
			   "[{lb_endpoints: %s}]}, transport_socket: " PEER_HBONE ", port: 0%s}}%s}",
		up_endpoints(&p->port, 1), hbone, rest));
}

void
peer_stop(struct peer *p)
{
	for (unsigned i = 0; i < p->n_streams; i++) {
		hbt_sink_fini(p->stream[i]);
		hb_free(p->stream[i]);
	}
	for (unsigned i = 0; i < p->n_sessions; i++) {
		if (p->s[i].h2 != NULL)
			hb_h2_abort(&p->s[i].h2, HB_CLOSE_SHUTDOWN);
	}
	for (unsigned i = 0; i < p->n_left; i++)
		(void)close(p->left[i]);
	if (p->fd >= 0)
		(void)close(p->fd);
	hb_text_fini(&p->headers);
	up_turns(4);
}

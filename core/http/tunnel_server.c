/* SPDX-License-Identifier: Apache-2.0 */
#include "core/http/tunnel_server.h"

/* ------------------------------------------------------------------ requests */

static struct hb_tunnel_server *
server_of(void *sink)
{
	struct hb_tunnel_server *t;

	HB_CAST(t, sink, HB_TUNNEL_SERVER_MAGIC);
	return (t);
}

static void
refuse(struct hb_tunnel_server *t, const struct hb_h2_request *r, struct hb_transport *stream,
	unsigned status, const char *why)
{
	if (t->ev->on_refused != NULL)
		t->ev->on_refused(t->sink, t, r, status, why);
	hb_h2_stream_reject(&stream, status, NULL, 0);
}

static struct hb_str
header(const struct hb_h2_request *r, const char *name)
{
	for (size_t i = 0; i < r->n_headers; i++)
		if (hb_str_eq(r->headers[i].name, hb_str(name)))
			return (r->headers[i].value);
	return ((struct hb_str){ "", 0 });
}

/* False: the request is no tunnel. */
static bool
is_tunnel(const struct hb_tunnel_options *o, const struct hb_h2_request *r,
	struct hb_tunnel_request *ret)
{
	ret->http = r;
	ret->authority = r->authority;
	if (hb_str_eq(r->method, HB_STR("CONNECT")))
		return (r->protocol.len == 0);
	ret->post = true;
	if (o->post_path == NULL || !hb_str_eq(r->method, HB_STR("POST")) ||
		!hb_str_starts(r->path, hb_str(o->post_path)))
		return (false);
	if (o->post_target != NULL)
		ret->authority = header(r, o->post_target);
	return (true);
}

static void
on_request(void *sink, struct hb_h2 *h2, const struct hb_h2_request *r, struct hb_transport *stream)
{
	struct hb_tunnel_server *t = server_of(sink);
	bool envoy = t->opt->h2.flavour == HB_H2_ENVOY;
	struct hb_tunnel_request req = { 0 };
	enum hb_authority_error e;

	(void)h2;
	if (!is_tunnel(t->opt, r, &req)) {
		refuse(t, r, stream, envoy ? 404 : 400, "not a CONNECT request");
		return;
	}
	e = hb_authority_parse(req.authority, &req.target);
	if (e != HB_AUTHORITY_OK && (!envoy || req.authority.len == 0)) {
		refuse(t, r, stream, 400, hb_authority_error_text(e));
		return;
	}
	if (e != HB_AUTHORITY_OK)
		req.target.port = 0;
	t->ev->on_tunnel(t->sink, t, &req, stream);
}

static void
on_accept(void *sink, struct hb_h2 *h2, struct hb_transport *stream)
{
	struct hb_tunnel_server *t = server_of(sink);

	(void)h2;
	if (t->ev->on_accept != NULL)
		t->ev->on_accept(t->sink, t, stream);
}

static void
on_count(void *sink, enum hb_h2_count what)
{
	const struct hb_tunnel_server *t = server_of(sink);

	if (t->ev->on_count != NULL)
		t->ev->on_count(t->sink, what);
}

static void
on_closed(void *sink, struct hb_h2 *h2, enum hb_close_reason reason)
{
	struct hb_tunnel_server *t = server_of(sink);

	HB_ASSERT(t->h2 == h2);
	t->h2 = NULL;
	t->ev->on_closed(t->sink, t, reason);
}

static const struct hb_h2_events events = {
	.on_request = on_request,
	.on_accept = on_accept,
	.on_count = on_count,
	.on_closed = on_closed,
};

/* ------------------------------------------------------------------ life */

void
hb_tunnel_server_start(struct hb_tunnel_server *t, struct hb_transport *lower,
	const struct hb_tunnel_options *opt, const struct hb_tunnel_events *ev, void *sink)
{
	HB_ASSERT(t->magic == 0 && ev->on_tunnel != NULL && ev->on_closed != NULL);
	t->magic = HB_TUNNEL_SERVER_MAGIC;
	t->opt = opt;
	t->ev = ev;
	t->sink = sink;
	t->h2 = hb_h2_new(lower, true, &opt->h2, &events, t);
}

void
hb_tunnel_server_drain(struct hb_tunnel_server *t)
{
	HB_CHECK(t, HB_TUNNEL_SERVER_MAGIC);
	if (t->h2 != NULL)
		hb_h2_drain(t->h2);
}

void
hb_tunnel_server_close(struct hb_tunnel_server *t, enum hb_close_reason reason)
{
	HB_CHECK(t, HB_TUNNEL_SERVER_MAGIC);
	if (t->h2 != NULL)
		hb_h2_close(&t->h2, reason);
}

void
hb_tunnel_server_abort(struct hb_tunnel_server *t, enum hb_close_reason reason)
{
	HB_CHECK(t, HB_TUNNEL_SERVER_MAGIC);
	if (t->h2 != NULL)
		hb_h2_abort(&t->h2, reason);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "test/core/http/h2_rig.h"

#include <stdio.h>

struct rig w;

static void
on_request(
	void *sink, struct hb_h2 *h2, const struct hb_h2_request *req, struct hb_transport *stream)
{
	struct rig *r = sink;
	struct hbt_sink *b = &r->b[r->requests];

	HB_ASSERT(h2 == r->server && r->requests < RIG_STREAMS);
	r->requests++;
	(void)snprintf(r->authority, sizeof r->authority, "%.*s", HB_STR_FMT(req->authority));
	(void)snprintf(r->method, sizeof r->method, "%.*s", HB_STR_FMT(req->method));
	r->n_headers = (unsigned)req->n_headers;
	if (r->on_request != NULL)
		r->on_request(r, req, &stream);
	if (stream == NULL)
		return;
	if (r->prepare != NULL)
		r->prepare(r, b);
	if (r->paused)
		hbt_attach_paused(b, stream);
	else
		hbt_attach(b, stream);
	if (!r->no_accept)
		hb_transport_accept(stream);
}

static void
on_closed(void *sink, struct hb_h2 *h2, enum hb_close_reason reason)
{
	struct rig *r = sink;
	struct hb_transport *lower = hb_h2_lower(h2);
	const struct hb_tls_info *i = lower == NULL ? NULL : hb_transport_tls_info(lower);

	if (h2 == r->client) {
		if (i != NULL && i->failure != NULL)
			(void)snprintf(r->failure, sizeof r->failure, "%s", i->failure);
		r->client = NULL;
		r->client_closed++;
		r->client_reason = reason;
	} else {
		HB_ASSERT(h2 == r->server);
		r->server = NULL;
		r->server_closed++;
		r->server_reason = reason;
	}
}

static void
on_goaway(void *sink, struct hb_h2 *h2, uint32_t code)
{
	struct rig *r = sink;

	(void)h2;
	(void)code;
	r->goaways++;
}

static void
on_room(void *sink, struct hb_h2 *h2)
{
	struct rig *r = sink;

	HB_ASSERT(h2 == r->client && hb_h2_room(h2) > 0);
	r->rooms++;
}

static const struct hb_h2_events rig_events = {
	.on_request = on_request,
	.on_room = on_room,
	.on_goaway = on_goaway,
	.on_closed = on_closed,
};

void
rig_start_over(struct rig *r, struct hb_transport *a, struct hb_transport *b)
{
	r->client = hb_h2_new(a, false, &r->client_opt, &rig_events, r);
	r->server = hb_h2_new(b, true, &r->server_opt, &rig_events, r);
}

void
rig_start(struct rig *r, enum hbt_below below, size_t piece)
{
	struct hb_transport *a, *b;

	hbt_ends(below, piece, &a, &b);
	rig_start_over(r, a, b);
}

unsigned
rig_open(struct rig *r)
{
	const struct hb_h2_request req = { .authority = HB_STR("10.0.0.1:80") };
	struct hb_transport *t = hb_h2_open(r->client, &req);
	unsigned i = r->opened++;

	HB_ASSERT(t != NULL && i < RIG_STREAMS);
	hbt_attach(&r->a[i], t);
	return (i);
}

void
rig_connect(struct rig *r, unsigned i)
{
	HBT_UNTIL(r->a[i].secured == 1 && r->b[i].secured == 1);
}

void
rig_stop(struct rig *r)
{
	unsigned i;

	for (i = 0; i < RIG_STREAMS; i++) {
		hbt_sink_fini(&r->a[i]);
		hbt_sink_fini(&r->b[i]);
	}
	if (r->client != NULL)
		hb_h2_close(&r->client, HB_CLOSE_LOCAL_CLOSE);
	if (r->server != NULL)
		hb_h2_close(&r->server, HB_CLOSE_LOCAL_CLOSE);
	hbt_turns(8);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	hbt_turns(4);
}

void
rig_echoes(struct rig *r, struct hbt_sink *b)
{
	(void)r;
	b->echo = true;
}

void
rig_ends_on_end(struct rig *r, struct hbt_sink *b)
{
	(void)r;
	b->end_on_end = true;
}

int
rig_fresh(void **state)
{
	(void)state;
	memset(&w, 0, sizeof w);
	return (0);
}

int
rig_over(void **state)
{
	(void)state;
	rig_stop(&w);
	return (0);
}

void
rig_again(void)
{
	rig_stop(&w);
	(void)rig_fresh(NULL);
}

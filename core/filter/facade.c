/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The downstream as its terminal filter sees it: a transport whose bytes go through the other
 * filters of the chain. It owns no bytes: what its sink does not take stays in the base's queue
 * while the connection's transport is paused.
 */
#include "core/filter/filter_priv.h"

static struct hb_conn *
conn_of(struct hb_transport *t)
{
	return (HB_CONTAINER(t, struct hb_conn, facade));
}

/* NULL once they have parted. */
static struct hb_conn *
conn_behind(struct hb_transport *t)
{
	struct hb_conn *c = conn_of(t);

	return (c->flags & HB_CF_FACADE ? c : NULL);
}

static void
facade_write(struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct hb_conn *c = conn_of(t);

	if (c->t != NULL && c->t->out.high != t->out.high)
		hb_transport_set_high(c->t, t->out.high);
	hb_conn__enter(c);
	hb_conn__write(c, (int)c->chain->n_filters - 2, buf, end);
	hb_conn__leave(c);
}

static void
facade_read_enable(struct hb_transport *t, bool on)
{
	struct hb_conn *c = conn_of(t);

	HB_ASSERT(!!(c->flags & HB_CF_FACADE_OFF) == on);
	c->flags ^= HB_CF_FACADE_OFF;
	hb_conn__read_disable(c, on ? -1 : 1);
}

static void
facade_free(struct hb_transport *t)
{
	struct hb_facts_owner *keep = &conn_of(t)->facts.keep;

	hb_facts_unref(&keep);
}

/* Neither has anything to do with the other any more. */
static struct hb_conn *
facade_part(struct hb_transport *t)
{
	struct hb_conn *c = conn_of(t);

	HB_ASSERT(c->flags & HB_CF_FACADE);
	c->flags &= ~HB_CF_FACADE;
	hb_transport_bury(t, facade_free);
	return (c);
}

/* The sink speaks of its own other side: what reset that one is the upstream here. */
static enum hb_close_reason
as_upstream(enum hb_close_reason r)
{
	return (r == HB_CLOSE_PEER_RESET || r == HB_CLOSE_STREAM_RESET ? HB_CLOSE_UPSTREAM_RESET :
									 r);
}

static void
facade_finish(struct hb_transport *t, enum hb_close_reason reason)
{
	struct hb_conn *c = facade_part(t);

	hb_conn__finish(c, c->chain->n_filters - 1, reason);
}

static void
facade_abort(struct hb_transport *t, enum hb_close_reason reason)
{
	hb_conn__close(facade_part(t), as_upstream(reason), false);
}

static void
facade_accept(struct hb_transport *t)
{
	hb_conn__opened(conn_of(t));
	hb_conn__accept(conn_of(t));
}

static size_t
facade_pending(const struct hb_transport *t)
{
	const struct hb_conn *c = HB_CONTAINER(t, const struct hb_conn, facade);
	const struct hb_conn_hold *h;
	size_t n;

	if (!(c->flags & HB_CF_FACADE))
		return (0);
	n = c->t == NULL ? 0 : hb_transport_pending(c->t);
	for (h = c->holds; h != NULL; h = h->next)
		if (h->dir == HB_DIR_WRITE)
			n += h->seen.len + h->todo.len;
	return (n);
}

static const struct hb_tls_info *
facade_tls_info(struct hb_transport *t)
{
	struct hb_conn *c = conn_behind(t);

	return (c == NULL || c->t == NULL ? NULL : hb_transport_tls_info(c->t));
}

static struct hb_transport *
facade_raw(struct hb_transport *t, enum hb_dir dir)
{
	struct hb_conn *c = conn_behind(t);

	if (c == NULL || c->t == NULL || (c->flags & (HB_CF_CLOSING | HB_CF_FINISHING)) ||
		!hb_conn__detached(c, dir))
		return (NULL);
	return (hb_transport_raw(c->t, dir));
}

static struct hb_transport *
facade_inner(struct hb_transport *t)
{
	struct hb_conn *c = conn_behind(t);

	return (c == NULL ? NULL : c->t);
}

static void
facade_closed(struct hb_transport *t)
{
	hb_conn__end_soon(facade_part(t));
}

/* After queued bytes or an end were delivered: the connection's end may have waited for that. */
static void
facade_run(struct hb_transport *t)
{
	if (conn_behind(t) != NULL)
		hb_conn__end_soon(conn_of(t));
}

static const struct hb_transport_ops facade_ops = {
	.name = "chain",
	.write = facade_write,
	.read_enable = facade_read_enable,
	.finish = facade_finish,
	.abort = facade_abort,
	.accept = facade_accept,
	.pending = facade_pending,
	.tls_info = facade_tls_info,
	.raw = facade_raw,
	.inner = facade_inner,
	.closed = facade_closed,
	.run = facade_run,
};

/* What came before the filter took the downstream is what its sink reads first. */
static void
hand_over(struct hb_conn *c, struct hb_transport *t)
{
	struct hb_conn_hold *h = hb_conn__hold(c, c->chain->n_filters - 1, HB_DIR_READ);

	if (h == NULL)
		return;
	hb_buf_move(&h->seen, &h->todo);
	hb_transport_emit_data(t, &h->seen, h->seen_end || h->todo_end);
	hb_conn__hold_free(c, h);
}

void
hb_conn__facade_init(struct hb_conn *c)
{
	struct hb_transport *t = &c->facade;

	memset(t, 0, sizeof *t); /* `run` was there */
	hb_transport_init(t, &facade_ops, hb_conn__worker(c));
	/* Its first sink need not hear of what the chain has heard already. */
	t->connected = t->secured = true;
}

struct hb_transport *
hb_conn__facade_new(struct hb_conn *c)
{
	struct hb_transport *t = &c->facade;

	HB_ASSERT(!(c->flags & (HB_CF_FACADE | HB_CF_TAKEN | HB_CF_RUN)));
	hb_conn__facade_init(c);
	t->out.high = c->t == NULL ? c->owner->o.buffer_high : c->t->out.high;
	c->facts.keep.refs++;
	c->flags |= HB_CF_TAKEN | HB_CF_FACADE | HB_CF_FACADE_OFF;
	hb_conn__read_disable(c, 1);
	hand_over(c, t);
	if (c->flags & HB_CF_TOLD_ABOVE)
		hb_transport_level(t, t->out.high);
	return (t);
}

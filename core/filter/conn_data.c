/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How events and bytes go along a chain. One walk for each direction; where a filter stops it, or
 * is on the stack already, the bytes wait in a hold, and the outermost leave goes on with whatever
 * can go on. Holds nearer to the goal are served first, so bytes keep their order.
 */
#include "core/filter/filter_priv.h"

/* ------------------------------------------------------------------ holds */

struct hb_conn_hold *
hb_conn__hold(const struct hb_conn *c, unsigned i, enum hb_dir dir)
{
	struct hb_conn_hold *h;

	for (h = c->holds; h != NULL; h = h->next)
		if (h->index == i && h->dir == dir)
			return (h);
	return (NULL);
}

void
hb_conn__hold_free(struct hb_conn *c, struct hb_conn_hold *h)
{
	struct hb_conn_hold **p = &c->holds;

	while (*p != h) {
		HB_ASSERT(*p != NULL);
		p = &(*p)->next;
	}
	*p = h->next;
	hb_buf_fini(&h->seen);
	hb_buf_fini(&h->todo);
	hb_free(h);
}

static struct hb_conn_hold *
hold_get(struct hb_conn *c, unsigned i, enum hb_dir dir)
{
	struct hb_conn_hold *h = hb_conn__hold(c, i, dir);

	if (h != NULL)
		return (h);
	h = hb_calloc(1, sizeof *h);
	h->index = (uint8_t)i;
	h->dir = (uint8_t)dir;
	h->next = c->holds;
	c->holds = h;
	return (h);
}

bool
hb_conn__holding(const struct hb_conn *c, enum hb_dir dir)
{
	const struct hb_conn_hold *h;

	for (h = c->holds; h != NULL; h = h->next)
		if (h->dir == dir)
			return (true);
	return (false);
}

/* Bytes that have not been shown to the filter yet. */
static void
hold_todo(struct hb_conn *c, unsigned i, enum hb_dir dir, struct hb_buf *buf, bool end)
{
	struct hb_conn_hold *h = hold_get(c, i, dir);

	hb_buf_own(buf);
	hb_buf_move(&h->todo, buf);
	h->todo_end |= end;
}

/* Bytes that the filter left when it stopped. */
static void
hold_seen(struct hb_conn *c, unsigned i, enum hb_dir dir, struct hb_buf *buf, bool end)
{
	struct hb_conn_hold *h;

	if (buf->len == 0 && !end)
		return;
	h = hold_get(c, i, dir);
	HB_ASSERT(!h->has_seen);
	h->has_seen = true;
	h->seen_end = end;
	hb_buf_own(buf);
	hb_buf_move(&h->seen, buf);
}

void
hb_conn__unread(struct hb_conn *c, struct hb_buf *buf, bool end)
{
	struct hb_conn_hold *h;

	HB_ASSERT(!(c->flags & HB_CF_TAKEN));
	if (buf->len == 0 && !end)
		return;
	h = hold_get(c, c->chain->n_filters - 1, HB_DIR_READ);
	hb_buf_own(buf);
	hb_buf_move_front(&h->todo, buf);
	h->todo_end |= end;
}

static size_t
held_bytes(const struct hb_conn *c, enum hb_dir dir)
{
	const struct hb_conn_hold *h;
	size_t n = 0;

	for (h = c->holds; h != NULL; h = h->next)
		if (h->dir == dir)
			n += h->seen.len + h->todo.len;
	return (n);
}

static uint8_t
stop_bit(enum hb_dir dir)
{
	return (dir == HB_DIR_READ ? HB_STOP_READ : HB_STOP_WRITE);
}

static bool
is_terminal(const struct hb_conn *c, unsigned i)
{
	return (i + 1 == c->chain->n_filters);
}

/* ------------------------------------------------------------------ one slot */

void
hb_conn__read_disable(struct hb_conn *c, int delta)
{
	if (c->t != NULL)
		hb_transport_read_disable(c->t, delta);
}

typedef enum hb_filter_status data_slot_f(struct hb_filter *, struct hb_buf *, bool end);

/*
 * Shows bytes to one filter. True: they go on to the next. False: the filter stopped, or the
 * connection is closing; nothing is left in buf.
 */
static bool
call_data(struct hb_conn *c, unsigned i, enum hb_dir dir, struct hb_buf *buf, bool end)
{
	const struct hb_filter_type *type = hb_conn__decl(c, i)->type;
	data_slot_f *slot = dir == HB_DIR_READ ? type->on_read : type->on_write;
	uint8_t off = dir == HB_DIR_READ ? HB_FS_NO_READ : HB_FS_NO_WRITE;
	struct hb_filter *f = &c->filter[i];
	enum hb_filter_status st;
	uint8_t bit = stop_bit(dir);

	if (slot == NULL || (f->state[2] & off))
		return (true);
	f->state[2] &= (uint8_t)~HB_FS_RESUMED;
	f->state[1] |= bit;
	st = slot(f, buf, end);
	f->state[1] &= (uint8_t)~bit;
	if (c->flags & HB_CF_CLOSING) {
		hb_buf_fini(buf);
		return (false);
	}
	if (st == HB_FILTER_DETACH)
		f->state[2] |= off;
	if (st != HB_FILTER_STOP || (f->state[2] & HB_FS_RESUMED))
		return (true);
	f->state[0] |= bit;
	if (dir == HB_DIR_READ)
		hb_conn__read_disable(c, 1);
	hold_seen(c, i, dir, buf, end);
	return (false);
}

/* Bytes must wait before filter i. */
static bool
must_wait(const struct hb_conn *c, unsigned i, enum hb_dir dir)
{
	const struct hb_filter *f = &c->filter[i];
	uint8_t bit = stop_bit(dir);

	return (((f->state[0] | f->state[1]) & bit) || hb_conn__hold(c, i, dir) != NULL);
}

/* ------------------------------------------------------------------ walks */

void
hb_conn__read(struct hb_conn *c, unsigned i, struct hb_buf *buf, bool end)
{
	HB_ASSERT(c->depth > 0);
	for (; i < c->chain->n_filters; i++) {
		if (c->flags & (HB_CF_CLOSING | HB_CF_FINISHING))
			break;
		if (buf->len == 0 && !end)
			return;
		if (is_terminal(c, i) && (c->flags & HB_CF_TAKEN)) {
			if (c->flags & HB_CF_FACADE)
				hb_transport_emit_data(&c->facade, buf, end);
			break;
		}
		if (must_wait(c, i, HB_DIR_READ)) {
			hold_todo(c, i, HB_DIR_READ, buf, end);
			return;
		}
		if (!call_data(c, i, HB_DIR_READ, buf, end))
			return;
	}
	hb_buf_fini(buf);
}

void
hb_conn__accept(struct hb_conn *c)
{
	if (c->flags & HB_CF_ACCEPTED)
		return;
	c->flags |= HB_CF_ACCEPTED;
	if (c->t != NULL)
		hb_transport_accept(c->t);
}

static void
write_out(struct hb_conn *c, struct hb_buf *buf, bool end)
{
	if (c->t == NULL || (c->flags & (HB_CF_CLOSING | HB_CF_WRITE_END)) ||
		(buf->len == 0 && !end)) {
		hb_buf_fini(buf);
		return;
	}
	hb_conn__accept(c);
	hb_conn__moved(c, 0, buf->len);
	if (end)
		c->flags |= HB_CF_WRITE_END;
	hb_transport_write(c->t, buf, end);
}

void
hb_conn__write(struct hb_conn *c, int i, struct hb_buf *buf, bool end)
{
	HB_ASSERT(c->depth > 0);
	for (; i >= 0; i--) {
		if (c->flags & HB_CF_CLOSING) {
			hb_buf_fini(buf);
			return;
		}
		if (buf->len == 0 && !end)
			return;
		if (must_wait(c, (unsigned)i, HB_DIR_WRITE)) {
			hold_todo(c, (unsigned)i, HB_DIR_WRITE, buf, end);
			return;
		}
		if (!call_data(c, (unsigned)i, HB_DIR_WRITE, buf, end))
			return;
	}
	write_out(c, buf, end);
}

/* ------------------------------------------------------------------ the beginning */

typedef enum hb_filter_status event_slot_f(struct hb_filter *);

static void
call_begin(struct hb_conn *c, struct hb_filter *f, event_slot_f *slot, uint8_t done, uint8_t stop)
{
	if (f->state[2] & done)
		return;
	f->state[2] |= done;
	if (slot == NULL)
		return;
	f->state[2] &= (uint8_t)~HB_FS_RESUMED;
	f->state[1] |= stop;
	if (slot(f) == HB_FILTER_STOP && !(f->state[2] & HB_FS_RESUMED))
		f->state[0] |= stop;
	f->state[1] &= (uint8_t)~stop;
}

/* Every filter has let the connection pass. */
static void
established(struct hb_conn *c)
{
	c->flags |= HB_CF_ESTABLISHED;
	/* Who took the downstream accepts it when the other side is there. */
	if (!(c->flags & HB_CF_TAKEN))
		hb_conn__accept(c);
	hb_conn__read_disable(c, -1);
}

static void
establish(struct hb_conn *c)
{
	const struct hb_filter_type *type;
	struct hb_filter *f;

	if (!(c->flags & HB_CF_CONNECTED))
		return;
	for (unsigned i = c->n_established; i < c->chain->n_filters; i++) {
		f = &c->filter[i];
		type = hb_conn__decl(c, i)->type;
		call_begin(c, f, type->on_connected, HB_FS_CONNECTED, HB_STOP_CONNECTED);
		if (c->flags & HB_CF_CLOSING)
			return;
		if (c->flags & HB_CF_SECURED)
			call_begin(c, f, type->on_secured, HB_FS_SECURED, HB_STOP_SECURED);
		if ((c->flags & HB_CF_CLOSING) ||
			(f->state[0] & (HB_STOP_CONNECTED | HB_STOP_SECURED)))
			return;
		if ((c->flags & HB_CF_SECURED) && i == c->n_established)
			c->n_established++;
	}
	if (c->n_established == c->chain->n_filters && !(c->flags & HB_CF_FINISHING))
		established(c);
}

/* ------------------------------------------------------------------ going on */

void
hb_conn__resume(struct hb_filter *f)
{
	struct hb_conn *c = hb_conn__of(f);

	if (c->flags & HB_CF_CLOSING)
		return;
	hb_conn__enter(c);
	if (f->state[1] != 0)
		f->state[2] |= HB_FS_RESUMED;
	if (f->state[0] & HB_STOP_READ)
		hb_conn__read_disable(c, -1);
	f->state[0] = 0;
	hb_conn__leave(c);
}

static bool
runnable(const struct hb_conn *c, const struct hb_conn_hold *h)
{
	const struct hb_filter *f = &c->filter[h->index];

	return (!((f->state[0] | f->state[1]) & stop_bit(h->dir)));
}

/* The hold to serve next: of those that can go on, the one nearest to its goal. */
static struct hb_conn_hold *
next_hold(const struct hb_conn *c)
{
	struct hb_conn_hold *h, *best = NULL;
	int rank, best_rank = -1;

	for (h = c->holds; h != NULL; h = h->next) {
		if (!runnable(c, h))
			continue;
		rank = h->dir == HB_DIR_READ ? h->index : (int)(HB_CHAIN_FILTERS_MAX - h->index);
		if (rank > best_rank) {
			best = h;
			best_rank = rank;
		}
	}
	return (best);
}

static void
run_hold(struct hb_conn *c, struct hb_conn_hold *h)
{
	struct hb_buf buf = { NULL, NULL, 0 };
	unsigned i = h->index;
	enum hb_dir dir = h->dir;
	bool end, behind;

	/* A terminal filter has nothing behind it: it is shown again what it left. */
	if (h->has_seen && dir == HB_DIR_READ && is_terminal(c, i)) {
		hb_buf_move_front(&h->todo, &h->seen);
		h->todo_end |= h->seen_end;
		h->has_seen = false;
	}
	behind = h->has_seen;
	end = behind ? h->seen_end : h->todo_end;
	hb_buf_move(&buf, behind ? &h->seen : &h->todo);
	h->has_seen = false;
	if (!behind || (h->todo.len == 0 && !h->todo_end))
		hb_conn__hold_free(c, h);
	if (dir == HB_DIR_READ)
		hb_conn__read(c, behind ? i + 1 : i, &buf, end);
	else
		hb_conn__write(c, behind ? (int)i - 1 : (int)i, &buf, end);
}

static void
tell_level(struct hb_conn *c)
{
	size_t high = c->owner->o.buffer_high;
	size_t limit = c->flags & HB_CF_TOLD_ABOVE ? high / 2 + 1 : high;
	bool above = (c->flags & HB_CF_ABOVE) ||
		(c->holds != NULL && held_bytes(c, HB_DIR_WRITE) >= limit);
	struct hb_transport *ft = hb_conn__facade(c);

	if (above == !!(c->flags & HB_CF_TOLD_ABOVE))
		return;
	c->flags ^= HB_CF_TOLD_ABOVE;
	if (ft != NULL)
		hb_transport_level(ft, above ? HB_MAX(ft->out.high, (size_t)1) : 0);
	hb_conn__event(c, above ? HB_EVENT_WRITE_HIGH : HB_EVENT_WRITE_LOW);
}

void
hb_conn__settle(struct hb_conn *c)
{
	struct hb_conn_hold *h;

	for (;;) {
		if (c->flags & HB_CF_CLOSING)
			return;
		if (!(c->flags & HB_CF_ESTABLISHED))
			establish(c);
		if (!(c->flags & HB_CF_CLOSING))
			tell_level(c);
		if ((c->flags & HB_CF_CLOSING) || c->holds == NULL || (h = next_hold(c)) == NULL)
			return;
		run_hold(c, h);
	}
}

bool
hb_conn__detached(const struct hb_conn *c, enum hb_dir dir)
{
	uint8_t off = dir == HB_DIR_READ ? HB_FS_NO_READ : HB_FS_NO_WRITE;
	const struct hb_filter_type *type;

	for (unsigned i = 0; i + 1 < c->chain->n_filters; i++) {
		type = hb_conn__decl(c, i)->type;
		if ((dir == HB_DIR_READ ? type->on_read : type->on_write) != NULL &&
			!(c->filter[i].state[2] & off))
			return (false);
	}
	return (!hb_conn__holding(c, dir));
}

/* ------------------------------------------------------------------ other events */

void
hb_conn__event_of(struct hb_filter *f, enum hb_event ev)
{
	struct hb_conn *c = hb_conn__of(f);
	const struct hb_filter_type *type = hb_conn__decl(c, f->index)->type;

	if (!(c->flags & HB_CF_CLOSING) && type->on_event != NULL)
		type->on_event(f, ev);
}

void
hb_conn__event(struct hb_conn *c, enum hb_event ev)
{
	HB_ASSERT(c->depth > 0);
	/* A filter that has not heard of the connection yet does not hear of its events. */
	for (unsigned i = 0; i < c->chain->n_filters; i++)
		if (c->filter[i].state[2] & HB_FS_CONNECTED)
			hb_conn__event_of(&c->filter[i], ev);
}

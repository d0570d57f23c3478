/* SPDX-License-Identifier: Apache-2.0 */
/* Which connections may rest, and how one is packed and made again. */
#include "core/base/burst.h"
#include "core/filter/park_priv.h"
#include "core/transport/park.h"
#include "core/transport/tcp.h"

#define PACKED_MAX 16384u /* facts, texts and contexts are bounded by less */
#define KEEP_MAX   2048u

/* Of a connection that rests all of these are set, and none but those below. */
#define RESTS                                                                                 \
	(HB_CF_ESTABLISHED | HB_CF_ACCEPTED | HB_CF_TAKEN | HB_CF_CONNECTED | HB_CF_SECURED | \
		HB_CF_UPSTREAM | HB_CF_FACADE)
#define ANYWAY (HB_CF_OPENED | HB_CF_LINGER)

/* struct hb_parked.packed says the rest. */
#define HAS_SEEN   1u
#define HAS_LINGER 2u
#define HAS_KEEP   4u /* names of the upstream are kept elsewhere */

static const struct hb_transport_events parked_events;
static void on_first(struct hb_io *, unsigned events);
static void on_second(struct hb_io *, unsigned events);

static struct hb_filter *
terminal(const struct hb_conn *c)
{
	return ((struct hb_filter *)(uintptr_t)&c->filter[c->chain->n_filters - 1]);
}

static const struct hb_filter_type *
terminal_type(const struct hb_conn *c)
{
	return (hb_conn__decl(c, c->chain->n_filters - 1)->type);
}

static void *
ctx_of(struct hb_conn *c, unsigned i)
{
	return ((uint8_t *)c + hb_conn__decl(c, i)->ctx_off);
}

/* ------------------------------------------------------------------ may it? */

static const char *
filters_busy(const struct hb_conn *c)
{
	for (unsigned i = 0; i < c->chain->n_filters; i++) {
		const struct hb_filter *f = &c->filter[i];

		if (f->state[0] != 0 || f->state[1] != 0)
			return ("a filter has stopped");
		if (hb_filter_timer_runs(f))
			return ("a filter has a timer");
	}
	return (NULL);
}

const char *
hb_park__why_not(const struct hb_conn *c)
{
	struct hb_rest rest = { NULL, 0 };
	const char *why;

	HB_CHECK(c, HB_CONN_MAGIC);
	if (c->flags & HB_CF_NO_REST)
		return ("its chain does not rest");
	if ((c->flags & ~(ANYWAY | HB_CF_AWAKE)) != RESTS || c->depth != 0)
		return ("it is not in its steady state");
	if (c->reason != HB_CLOSE_NONE || c->told != HB_CLOSE_NONE || c->holds != NULL ||
		c->texts != NULL)
		return ("it is ending, or bytes are held");
	/* Its own, and the facade's. */
	if (c->facts.keep.refs != 2 || !hb_facts_packable(&c->facts))
		return ("others need its facts, or they are large");
	if ((why = filters_busy(c)) != NULL ||
		(why = terminal_type(c)->rests(terminal(c), &rest)) != NULL)
		return (why);
	if (!hb_transport_quiet(c->t) || !hb_transport_quiet(rest.up))
		return ("a transport is busy");
	if ((hb_tcp_is(c->t) && !hb_tcp_packable(c->t)) ||
		(hb_tcp_is(rest.up) && !hb_tcp_packable(rest.up)))
		return ("a socket is busy");
	if (rest.due_ms != 0 && rest.due_ms < hb_now_ms(hb_conn__worker(c)) + HB_PARK_DUE_MIN_MS)
		return ("a timeout is near");
	return (NULL);
}

/* ------------------------------------------------------------------ the upstream's names */

static void
upstream_pack(struct hb_conn *c, struct hb_pack *p, bool keep_apart)
{
	struct hb_conn_upstream *u = &c->upstream;

	hb_pack_count(p, u->sent, HB_DIR_READ);
	hb_pack_count(p, u->received, HB_DIR_WRITE);
	hb_pack_u64(p, u->connect_ms);
	hb_pack_u64(p, u->attempts);
	hb_addr_pack(&u->endpoint, p);
	hb_addr_pack(&u->local, p);
	if (keep_apart)
		return;
	if (u->kept) {
		hb_pack_ptr(p, u->keep);
		return;
	}
	hb_pack_str(p, u->names->cluster);
	hb_pack_str(p, u->names->endpoint_host);
	hb_pack_str(p, u->names->tls_peer);
	hb_pack_str(p, u->names->failure);
}

static struct hb_str
text_in(struct hb_conn *c, struct hb_unpack *from)
{
	struct hb_str s = hb_unpack_str(from);

	return (s.p == NULL ? s : hb_arena_str(&c->facts.arena, s));
}

static void
upstream_unpack(struct hb_conn *c, struct hb_unpack *from, bool kept, bool keep_apart)
{
	struct hb_conn_upstream *u = &c->upstream;

	u->sent = hb_unpack_count(from, HB_DIR_READ);
	u->received = hb_unpack_count(from, HB_DIR_WRITE);
	u->connect_ms = (uint32_t)hb_unpack_u64(from);
	u->attempts = (uint16_t)hb_unpack_u64(from);
	hb_addr_unpack(&c->facts.arena, &u->endpoint, from);
	hb_addr_unpack(&c->facts.arena, &u->local, from);
	u->kept = kept;
	if (keep_apart)
		return;
	if (kept) {
		u->keep = hb_unpack_ptr(from);
		return;
	}
	u->names = hb_arena_alloc(&c->facts.arena, sizeof *u->names);
	u->names->cluster = text_in(c, from);
	u->names->endpoint_host = text_in(c, from);
	u->names->tls_peer = text_in(c, from);
	u->names->failure = text_in(c, from);
}

/* ------------------------------------------------------------------ the connection's own */

/* The first value is what hb_park__seq looks for. */
static void
head_pack(struct hb_conn_worker *s, struct hb_conn *c, struct hb_pack *p)
{
	hb_pack_u64(p, c->id - hb_conn__id(s->worker, 0));
	hb_pack_byte(p,
		(uint8_t)((c->flags & HB_CF_OPENED ? HAS_SEEN : 0) |
			(c->flags & HB_CF_LINGER ? HAS_LINGER : 0) |
			(c->upstream.kept ? HAS_KEEP : 0)));
	hb_pack_ptr(p, c->chain);
	hb_pack_ptr(p, c->owner);
	hb_pack_ptr(p, c->owner_arg);
	if (c->flags & HB_CF_OPENED)
		hb_pack_ptr(p, c->seen);
	hb_pack_u64(p, c->start_ms);
	p->ref_ms = c->start_ms;
	hb_pack_near(p, (uint64_t)c->start_us, (uint64_t)s->park.wall_us + c->start_ms * 1000);
	hb_pack_u64(p, p->ref[HB_DIR_READ] = c->bytes_in);
	hb_pack_u64(p, p->ref[HB_DIR_WRITE] = c->bytes_out);
}

/* Makes the connection; *ret = HAS_… */
static struct hb_conn *
head_unpack(struct hb_conn_worker *s, struct hb_unpack *u, uint8_t *ret)
{
	uint64_t seq = hb_unpack_u64(u);
	const struct hb_chain *chain;
	struct hb_conn *c;

	*ret = hb_unpack_byte(u);
	chain = hb_unpack_ptr(u);
	HB_CHECK(chain, HB_CHAIN_MAGIC);
	c = hb_burst_calloc(chain->slab_size);
	c->magic = HB_CONN_MAGIC;
	c->id = hb_conn__id(s->worker, seq);
	c->chain = chain;
	c->owner = hb_unpack_ptr(u);
	c->owner_arg = hb_unpack_ptr(u);
	c->flags = RESTS;
	if (*ret & HAS_SEEN) {
		c->flags |= HB_CF_OPENED;
		c->seen = hb_unpack_ptr(u);
	}
	if (*ret & HAS_LINGER)
		c->flags |= HB_CF_LINGER;
	c->n_established = (uint8_t)chain->n_filters;
	c->start_ms = u->ref_ms = hb_unpack_u64(u);
	c->start_us = (int64_t)hb_unpack_near(u, (uint64_t)s->park.wall_us + c->start_ms * 1000);
	c->bytes_in = u->ref[HB_DIR_READ] = hb_unpack_u64(u);
	c->bytes_out = u->ref[HB_DIR_WRITE] = hb_unpack_u64(u);
	return (c);
}

static void
filters_pack(struct hb_conn *c, struct hb_pack *p)
{
	for (unsigned i = 0; i < c->chain->n_filters; i++) {
		hb_pack_byte(p, c->filter[i].state[2]);
		if (&c->filter[i] != terminal(c))
			hb_pack_bytes(p, ctx_of(c, i), hb_conn__decl(c, i)->type->ctx_size);
		hb_filter_fini(&c->filter[i]);
	}
}

static void
filters_unpack(struct hb_conn *c, struct hb_unpack *u)
{
	size_t n;

	for (unsigned i = 0; i < c->chain->n_filters; i++) {
		hb_filter_init(&c->filter[i], &hb_conn_host, c, (uint8_t)i);
		c->filter[i].state[2] = hb_unpack_byte(u);
		n = hb_conn__decl(c, i)->type->ctx_size;
		if (&c->filter[i] != terminal(c) && n > 0)
			memcpy(ctx_of(c, i), hb_unpack_bytes(u, n), n);
	}
}

/* ------------------------------------------------------------------ the sides */

/* What is taken apart, until the record is there. */
struct plan {
	struct hb_transport *up;
	uint64_t due_ms;
	uint8_t packed, n_io;
	struct hb_io io[2];
};

static void
plan_make(struct hb_conn *c, struct plan *ret)
{
	struct hb_upstream_keep *keep = c->upstream.kept ? c->upstream.keep : NULL;
	struct hb_rest rest = { NULL, 0 };
	const char *why = terminal_type(c)->rests(terminal(c), &rest);

	HB_ASSERT(why == NULL && rest.up != NULL);
	*ret = (struct plan){ .up = rest.up, .due_ms = rest.due_ms };
	if (hb_tcp_is(c->t) && c->t->watch == NULL)
		ret->packed |= HB_PARKED_DOWN;
	if (!hb_tcp_is(rest.up))
		return;
	if (keep != NULL && keep->ops->packable != NULL && keep->ops->packable(keep, rest.up))
		ret->packed |= HB_PARKED_UP | HB_PARKED_KEEP;
	else if (rest.up->watch == NULL)
		ret->packed |= HB_PARKED_UP;
}

static void
side_pack(struct plan *pl, struct hb_transport **t, bool packed, unsigned in, struct hb_pack *p)
{
	if (packed)
		hb_tcp_pack(t, p, in, &pl->io[pl->n_io++], on_first);
	else
		hb_pack_ptr(p, *t);
}

/* What is kept comes behind the socket, which it is made again with, but lets go of it before. */
static void
sides_pack(struct hb_conn *c, struct plan *pl, struct hb_pack *p)
{
	uint8_t bytes[KEEP_MAX];
	struct hb_pack keep = *p;

	keep.at = bytes;
	keep.end = bytes + sizeof bytes;
	hb_transport_pack(&c->facade, p, HB_DIR_READ);
	if (pl->packed & HB_PARKED_KEEP) {
		hb_pack_ptr(&keep, c->upstream.keep->ops);
		c->upstream.keep->ops->pack(&c->upstream.keep, pl->up, &keep);
	}
	side_pack(pl, &c->t, pl->packed & HB_PARKED_DOWN, HB_DIR_READ, p);
	side_pack(pl, &pl->up, pl->packed & HB_PARKED_UP, HB_DIR_WRITE, p);
	if (pl->packed & HB_PARKED_KEEP)
		hb_pack_bytes(p, bytes, (size_t)(keep.at - bytes));
}

static void
facade_unpack(struct hb_conn *c, struct hb_unpack *u)
{
	hb_conn__facade_init(c);
	hb_transport_unpack(&c->facade, u, HB_DIR_READ);
	c->facts.keep.refs++;
}

static struct hb_transport *
side_unpack(struct hb_conn *c, struct hb_parked *k, struct hb_io **io, uint8_t bit, unsigned in,
	struct hb_unpack *u)
{
	if (k->packed & bit)
		return (hb_tcp_unpack(hb_conn__worker(c), u, in, (*io)++));
	return (hb_unpack_ptr(u));
}

/* ------------------------------------------------------------------ to rest */

static size_t
record_size(unsigned n_io, size_t n)
{
	return (sizeof(struct hb_parked) + n_io * sizeof(struct hb_io) + n);
}

static struct hb_parked *
record_new(const struct plan *pl, const uint8_t *bytes, size_t n)
{
	struct hb_parked *k = hb_burst_lasting(record_size(pl->n_io, n));

	HB_ASSERT(n <= UINT16_MAX);
	k->magic = HB_PARKED_MAGIC;
	k->size = (uint16_t)n;
	k->packed = pl->packed;
	k->n_io = pl->n_io;
	memcpy(k->io + k->n_io, bytes, n);
	return (k);
}

void
hb_park__rest(struct hb_conn_worker *s, struct hb_conn *c)
{
	uint8_t bytes[PACKED_MAX];
	struct hb_pack p = { .at = bytes, .end = bytes + sizeof bytes, .near = (uintptr_t)s };
	struct hb_parked *k;
	struct plan pl;

	HB_ASSERT(hb_park__why_not(c) == NULL && s->cursor != &c->node);
	plan_make(c, &pl);
	head_pack(s, c, &p);
	filters_pack(c, &p);
	upstream_pack(c, &p, pl.packed & HB_PARKED_KEEP);
	hb_facts_pack(&c->facts, &p);
	sides_pack(c, &pl, &p);
	terminal_type(c)->pack(terminal(c), &p);
	k = record_new(&pl, bytes, (size_t)(p.at - bytes));
	for (unsigned i = 0; i < pl.n_io; i++)
		hb_io_move(&pl.io[i], &k->io[i], i == 0 ? on_first : on_second);
	if (c->t != NULL)
		hb_transport_resink(c->t, &parked_events, k);
	if (pl.up != NULL)
		hb_transport_resink(pl.up, &parked_events, k);
	k->since_ms = (uint32_t)hb_now_ms(s->worker);
	k->step = (uint32_t)(pl.due_ms >> HB_PARK_STEP_MS_LOG2);
	hb_park__put(s, k);
	hb_park__unwatch(c);
	hb_conn__unlist(s, c);
	c->magic = 0;
	hb_burst_free(c, c->chain->slab_size);
}

/* ------------------------------------------------------------------ and back */

uint64_t
hb_park__seq(const struct hb_parked *k)
{
	const uint8_t *at = (const uint8_t *)(k->io + k->n_io);
	struct hb_unpack u = { .at = at, .end = at + k->size };

	HB_CHECK(k, HB_PARKED_MAGIC);
	return (hb_unpack_u64(&u));
}

static void
sides_unpack(
	struct hb_conn *c, struct hb_parked *k, struct hb_unpack *u, struct hb_transport **ret_up)
{
	const struct hb_upstream_keep_ops *ops;
	struct hb_io *io = k->io;

	facade_unpack(c, u);
	c->t = side_unpack(c, k, &io, HB_PARKED_DOWN, HB_DIR_READ, u);
	hb_transport_resink(c->t, &hb_conn__events, c);
	*ret_up = side_unpack(c, k, &io, HB_PARKED_UP, HB_DIR_WRITE, u);
	if (!(k->packed & HB_PARKED_KEEP))
		return;
	ops = hb_unpack_ptr(u);
	c->upstream.keep = ops->unpack(u, *ret_up);
}

struct hb_conn *
hb_park__wake(struct hb_conn_worker *s, struct hb_parked *k)
{
	const uint8_t *at = (const uint8_t *)(k->io + k->n_io);
	struct hb_unpack u = { .at = at, .end = at + k->size, .near = (uintptr_t)s };
	struct hb_transport *up;
	struct hb_conn *c;
	uint8_t has;

	HB_CHECK(k, HB_PARKED_MAGIC);
	hb_park__take(s, k);
	c = head_unpack(s, &u, &has);
	filters_unpack(c, &u);
	upstream_unpack(c, &u, has & HAS_KEEP, k->packed & HB_PARKED_KEEP);
	hb_facts_unpack(&c->facts, &u);
	c->facts.keep = (struct hb_facts_owner){ 1, hb_conn__free };
	sides_unpack(c, k, &u, &up);
	terminal_type(c)->unpack(terminal(c), &u, &c->facade, up);
	HB_ASSERT(u.at == u.end);
	k->magic = 0;
	hb_burst_free(k, record_size(k->n_io, k->size));
	hb_conn__list(s, c);
	hb_park__watch(c);
	return (c);
}

/* ------------------------------------------------------------------ events of what rests */

static struct hb_conn *
woken(void *sink)
{
	struct hb_parked *k;

	HB_CAST(k, sink, HB_PARKED_MAGIC);
	return (hb_park__event(hb_conn__state(hb_worker_current()), k));
}

static void
on_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	(void)woken(sink);
	t->ev->on_data(t->sink, t, buf, end);
}

static void
on_watermark(void *sink, struct hb_transport *t, bool high)
{
	(void)woken(sink);
	t->ev->on_watermark(t->sink, t, high);
}

static void
on_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	(void)woken(sink);
	t->ev->on_closed(t->sink, t, reason);
}

/* on_sent does not come: nothing is queued. */
static const struct hb_transport_events parked_events = {
	.on_data = on_data,
	.on_watermark = on_watermark,
	.on_closed = on_closed,
};

/* An event of a packed socket. It could be written to before; more room is no event. */
static void
io_event(struct hb_parked *k, unsigned i, unsigned events)
{
	bool down = i == 0 && (k->packed & HB_PARKED_DOWN);
	struct hb_rest rest = { NULL, 0 };
	struct hb_conn *c;

	HB_CHECK(k, HB_PARKED_MAGIC);
	if ((events & ~HB_IO_WRITE) == 0)
		return;
	c = woken(k);
	if (!down)
		(void)terminal_type(c)->rests(terminal(c), &rest);
	hb_tcp_woken(down ? c->t : rest.up, events);
}

static void
on_first(struct hb_io *io, unsigned events)
{
	io_event(HB_CONTAINER(io, struct hb_parked, io), 0, events);
}

static void
on_second(struct hb_io *io, unsigned events)
{
	io_event(HB_CONTAINER(io - 1, struct hb_parked, io), 1, events);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pre-connections: listener filters look at a connection before its chain is chosen. On workers.
 *
 * Filters run one after the other; each may wait for bytes, which are gathered here and given back
 * to the transport when all are done. As long as none waits, nothing is attached to the transport
 * and the pre-connection lives only for one call.
 */
#include "core/base/log.h"
#include "listeners/listener_priv.h"

struct hb_pre {
	unsigned magic;
#define HB_PRE_MAGIC 0x18f3a6c2
	uint8_t at;         /* the filter whose turn it is                     */
	bool begun;         /* its on_connected was called                     */
	bool waits;         /* it answered STOP                                */
	bool in_slot;       /* a slot of it is on the stack                    */
	bool resumed;       /* hb_filter_continue came from inside the slot    */
	bool handed;        /* from another listener: not once more            */
	bool attached;      /* we are the transport's sink                     */
	bool reading;       /* its reading is enabled                          */
	bool ended;         /* the peer has half-closed                        */
	uint8_t reason;     /* enum hb_close_reason: it has to end             */
	uint32_t max_bytes; /* the highest wish of its filters                 */
	size_t seen;        /* bytes that the filter has been shown            */
	struct hb_ldoor *door;
	struct hb_transport *t; /* owned; NULL once closed                       */
	struct hb_facts facts;
	struct hb_buf buf; /* gathered, owned                               */
	uint64_t start_ms;
	struct hb_timer timer;
	struct hb_list node; /* of the listener's on this worker              */
	struct hb_dead dead;
	struct hb_filter filter[]; /* then their contexts                        */
};

static void run(struct hb_pre *p);

static size_t
align16(size_t n)
{
	return ((n + 15u) & ~(size_t)15u);
}

void
hb_pre_layout(struct hb_listener *l)
{
	size_t off = align16(sizeof(struct hb_pre) + l->n_filters * sizeof(struct hb_filter));

	for (size_t i = 0; i < l->n_filters; i++) {
		l->filter[i].ctx_off = off;
		off += align16(l->filter[i].type->ctx_size);
	}
	l->pre_size = off;
}

static const struct hb_listener *
listener_of(const struct hb_pre *p)
{
	return (p->door->lw->listener);
}

/* ------------------------------------------------------------------ the end */

static void
pre_free(struct hb_dead *d)
{
	struct hb_pre *p = HB_CONTAINER(d, struct hb_pre, dead);

	HB_CHECK(p, HB_PRE_MAGIC);
	HB_DEL(p);
}

/* What belongs to the pre-connection alone; filters may still be on the stack. */
static void
detach(struct hb_pre *p)
{
	const struct hb_listener *l = listener_of(p);
	struct hb_worker *w = p->door->lw->worker;

	hb_timer_stop(&p->timer);
	hb_list_del(&p->node);
	hb_stat_add(w, l->stats, PRE_ACTIVE, -1);
	for (size_t i = 0; i < l->n_filters && i <= p->at; i++) {
		struct hb_filter *f = &p->filter[i];

		/* Filters that were left out were never begun. */
		if (f->magic != HB_FILTER_MAGIC)
			continue;
		hb_filter_fini(f);
		if (l->filter[i].type->fini != NULL)
			l->filter[i].type->fini(f);
	}
	hb_dead_add(w, &p->dead, pre_free);
}

static void
end_refused(struct hb_pre *p)
{
	const struct hb_listener *l = listener_of(p);
	struct hb_worker *w = p->door->lw->worker;

	detach(p);
	hb_buf_fini(&p->buf);
	switch (p->reason) {
	case HB_CLOSE_PRE_CX_TIMEOUT:
		hb_stat_inc(w, l->stats, PRE_TIMEOUT);
		break;
	case HB_CLOSE_PRE_CX_CLOSED:
		hb_stat_inc(w, l->stats, PRE_REMOTE_CLOSE);
		break;
	default:
		hb_stat_inc(w, l->stats, PRE_ERROR);
		break;
	}
	hb_listener_refuse(p->door, p->t, &p->facts, p->start_ms, p->reason);
	p->t = NULL;
}

/* The listener bound to the restored address, when that is another one. */
static struct hb_lworker *
next_listener(const struct hb_pre *p)
{
	const struct hb_lworker *lw = hb_listener_serving(p->door->lw);
	struct hb_listener *to;

	if (!listener_of(p)->use_original_dst || p->handed)
		return (NULL);
	if (!p->facts.local_restored && !listener_of(p)->transparent)
		return (NULL);
	to = hb_listeners_by_address(&p->facts.local);
	return (to == NULL || to == lw->listener ? NULL : &to->worker[lw->worker->index]);
}

static void
end_done(struct hb_pre *p)
{
	struct hb_lworker *to = next_listener(p);
	struct hb_ldoor *d = p->door, *from = d;

	detach(p);
	if (p->reading)
		hb_transport_read_disable(p->t, 1);
	if (p->buf.len > 0 || p->ended)
		hb_transport_unread(p->t, &p->buf, p->ended);
	if (to == NULL) {
		hb_listener_start(d, p->t, &p->facts, p->start_ms);
		return;
	}
	d = from->socket ? &to->socket : &to->stream;
	hb_listener_force(d);
	hb_listener_leave(from);
	hb_listener_take(d, p->t, &p->facts, true);
}

/* ------------------------------------------------------------------ filters */

static enum hb_filter_status
call(struct hb_pre *p, enum hb_filter_status (*slot)(struct hb_pre *))
{
	enum hb_filter_status s;

	p->in_slot = true;
	p->resumed = false;
	s = slot(p);
	p->in_slot = false;
	return (p->resumed ? HB_FILTER_CONTINUE : s);
}

static enum hb_filter_status
slot_connected(struct hb_pre *p)
{
	const struct hb_filter_type *type = listener_of(p)->filter[p->at].type;

	if (type->on_connected != NULL)
		return (type->on_connected(&p->filter[p->at]));
	return (type->on_read != NULL ? HB_FILTER_STOP : HB_FILTER_CONTINUE);
}

static enum hb_filter_status
slot_read(struct hb_pre *p)
{
	const struct hb_filter_type *type = listener_of(p)->filter[p->at].type;

	p->seen = p->buf.len;
	return (type->on_read(&p->filter[p->at], &p->buf, p->ended));
}

static bool
begin_filter(struct hb_pre *p)
{
	const struct hb_lfilter *f = &listener_of(p)->filter[p->at];

	p->begun = true;
	p->seen = 0;
	if (f->disabled != NULL && hb_lpredicate_eval(f->disabled, &p->facts))
		return (false);
	hb_filter_init(&p->filter[p->at], &hb_lfilter_host, p, p->at);
	return (call(p, slot_connected) == HB_FILTER_STOP);
}

/* True: the filter whose turn it is waits. */
static bool
step(struct hb_pre *p)
{
	const struct hb_filter_type *type = listener_of(p)->filter[p->at].type;

	if (!p->begun) {
		p->waits = begin_filter(p);
		if (!p->waits || p->reason != HB_CLOSE_NONE)
			return (false);
	} else if (!p->waits) {
		return (false);
	}
	if (type->on_read != NULL && (p->buf.len > p->seen || p->ended))
		p->waits = call(p, slot_read) == HB_FILTER_STOP;
	if (!p->waits || p->reason != HB_CLOSE_NONE)
		return (false);
	if (p->ended)
		p->reason = HB_CLOSE_PRE_CX_CLOSED;
	else if (p->buf.len >= p->max_bytes)
		p->reason = HB_CLOSE_LISTENER_FILTER;
	return (p->reason == HB_CLOSE_NONE);
}

/* ------------------------------------------------------------------ waiting for bytes */

static void
on_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct iovec iov[HB_BUF_IOV_MAX];
	struct hb_pre *p;

	HB_CAST(p, sink, HB_PRE_MAGIC);
	/* Copied into one piece: peers that send byte by byte would make a slice of each. */
	while (buf->len > 0) {
		int n = hb_buf_iov(buf, iov, HB_BUF_IOV_MAX);
		size_t bytes = 0;

		for (int i = 0; i < n; i++) {
			hb_buf_add(&p->buf, iov[i].iov_base, iov[i].iov_len);
			bytes += iov[i].iov_len;
		}
		hb_buf_drain(buf, bytes);
	}
	p->ended = p->ended || end;
	run(p);
}

static void
on_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	struct hb_pre *p;

	HB_CAST(p, sink, HB_PRE_MAGIC);
	HB_ASSERT(p->t == t);
	p->t = NULL;
	p->reason = HB_CLOSE_PRE_CX_CLOSED;
	end_refused(p);
}

static void
on_watermark(void *sink, struct hb_transport *t, bool high)
{
	/* Nothing is written before a chain is chosen. */
}

static const struct hb_transport_events pre_events = {
	.on_data = on_data,
	.on_watermark = on_watermark,
	.on_closed = on_closed,
};

static void
wait(struct hb_pre *p)
{
	if (p->attached)
		return;
	p->attached = true;
	p->reading = true;
	hb_transport_attach(p->t, &pre_events, p);
	/* A chain that needs bytes to be chosen accepts first. */
	hb_transport_accept(p->t);
	hb_transport_read_disable(p->t, -1);
	if (listener_of(p)->filters_timeout_ms > 0)
		hb_timer_start(&p->timer, listener_of(p)->filters_timeout_ms);
}

static void
run(struct hb_pre *p)
{
	while (p->reason == HB_CLOSE_NONE && p->at < listener_of(p)->n_filters) {
		if (step(p)) {
			wait(p);
			return;
		}
		if (p->reason == HB_CLOSE_NONE) {
			p->at++;
			p->begun = false;
		}
	}
	if (p->reason != HB_CLOSE_NONE)
		end_refused(p);
	else
		end_done(p);
}

static void
on_timeout(struct hb_timer *t)
{
	struct hb_pre *p = HB_CONTAINER(t, struct hb_pre, timer);

	HB_CHECK(p, HB_PRE_MAGIC);
	if (listener_of(p)->continue_on_timeout) {
		hb_stat_inc(p->door->lw->worker, listener_of(p)->stats, PRE_TIMEOUT);
		end_done(p);
		return;
	}
	p->reason = HB_CLOSE_PRE_CX_TIMEOUT;
	end_refused(p);
}

void
hb_pre_start(struct hb_ldoor *d, struct hb_transport *t, struct hb_facts *facts, bool handed)
{
	const struct hb_listener *l = d->lw->listener;
	struct hb_worker *w = d->lw->worker;
	struct hb_pre *p = hb_calloc(1, l->pre_size);

	p->magic = HB_PRE_MAGIC;
	p->door = d;
	p->t = t;
	p->facts = *facts;
	hb_facts_init(facts);
	p->handed = handed;
	p->max_bytes = HB_LFILTER_BYTES;
	p->start_ms = hb_now_ms(w);
	hb_timer_init(&p->timer, w, on_timeout);
	hb_list_add_tail(&d->lw->pres, &p->node);
	hb_stat_inc(w, l->stats, PRE_ACTIVE);
	run(p);
}

/* ------------------------------------------------------------------ from outside */

void
hb_pre_close_all(struct hb_lworker *lw, enum hb_close_reason reason)
{
	struct hb_list *n, *next;

	HB_LIST_FOREACH_SAFE (n, next, &lw->pres) {
		struct hb_pre *p = HB_LIST_ENTRY(n, struct hb_pre, node);

		p->reason = (uint8_t)reason;
		end_refused(p);
	}
}

void
hb_pre_foreach(struct hb_lworker *lw,
	void (*fn)(void *arg, const struct hb_facts *, uint64_t age_ms, size_t bytes), void *arg)
{
	struct hb_list *n;

	HB_LIST_FOREACH (n, &lw->pres) {
		const struct hb_pre *p = HB_LIST_ENTRY(n, struct hb_pre, node);

		fn(arg, &p->facts, hb_now_ms(lw->worker) - p->start_ms, p->buf.len);
	}
}

/* ------------------------------------------------------------------ host of listener filters */

static struct hb_pre *
pre_of(const struct hb_filter *f)
{
	struct hb_pre *p;

	HB_CHECK(f, HB_FILTER_MAGIC);
	HB_ASSERT(f->host == &hb_lfilter_host);
	HB_CAST(p, f->owner, HB_PRE_MAGIC);
	return (p);
}

static const struct hb_filter_type *
host_type(const struct hb_filter *f)
{
	return (listener_of(pre_of(f))->filter[f->index].type);
}

static const void *
host_conf(const struct hb_filter *f)
{
	return (listener_of(pre_of(f))->filter[f->index].conf);
}

static void *
host_ctx(const struct hb_filter *f)
{
	struct hb_pre *p = pre_of(f);

	return ((uint8_t *)p + listener_of(p)->filter[f->index].ctx_off);
}

static struct hb_facts *
host_facts(const struct hb_filter *f)
{
	return (&pre_of(f)->facts);
}

static struct hb_worker *
host_worker(const struct hb_filter *f)
{
	return (pre_of(f)->door->lw->worker);
}

/* Ids belong to connections, which begin later. */
static uint64_t
host_conn_id(const struct hb_filter *f)
{
	return (0);
}

static void
host_resume(struct hb_filter *f)
{
	struct hb_pre *p = pre_of(f);

	if (f->index != p->at || p->reason != HB_CLOSE_NONE)
		return;
	if (p->in_slot) {
		p->resumed = true;
		return;
	}
	p->waits = false;
	run(p);
}

static void
host_close(struct hb_filter *f, enum hb_close_reason reason, bool flush)
{
	struct hb_pre *p = pre_of(f);

	if (p->reason != HB_CLOSE_NONE)
		return;
	p->reason = (uint8_t)reason;
	if (!p->in_slot)
		end_refused(p);
}

static void
host_timer(struct hb_filter *f)
{
	const struct hb_filter_type *type = host_type(f);
	struct hb_pre *p = pre_of(f);

	if (type->on_event == NULL)
		return;
	p->in_slot = true;
	p->resumed = false;
	type->on_event(f, HB_EVENT_TIMER);
	p->in_slot = false;
	if (p->resumed && f->index == p->at)
		p->waits = false;
	if (p->reason != HB_CLOSE_NONE)
		end_refused(p);
	else if (!p->waits)
		run(p);
}

static void
host_consume(struct hb_filter *f, size_t n)
{
	struct hb_pre *p = pre_of(f);

	HB_ASSERT(n <= p->buf.len);
	hb_buf_drain(&p->buf, n);
	p->seen = p->seen > n ? p->seen - n : 0;
}

static void
host_max_bytes(struct hb_filter *f, size_t n)
{
	struct hb_pre *p = pre_of(f);

	p->max_bytes = HB_MAX(p->max_bytes, (uint32_t)HB_MIN(n, (size_t)HB_LFILTER_BYTES_MAX));
}

static int
host_fd(const struct hb_filter *f)
{
	const struct hb_pre *p = pre_of(f);

	return (p->door->socket && p->t != NULL ? hb_tcp_fd(p->t) : -1);
}

const struct hb_filter_host hb_lfilter_host = {
	.kind = HB_FILTER_LISTENER,
	.type = host_type,
	.conf = host_conf,
	.ctx = host_ctx,
	.facts = host_facts,
	.worker = host_worker,
	.conn_id = host_conn_id,
	.resume = host_resume,
	.close = host_close,
	.timer = host_timer,
	.consume = host_consume,
	.max_bytes = host_max_bytes,
	.fd = host_fd,
};

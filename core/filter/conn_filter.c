/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What filters call: dispatch to the host, and the host that a connection is.
 */
#include "core/filter/filter_priv.h"
#include "core/stats/access_log.h"

struct hb_filter_timer {
	struct hb_timer timer;
	struct hb_filter *filter;
};

/* ------------------------------------------------------------------ instances */

void
hb_filter_init(struct hb_filter *f, const struct hb_filter_host *host, void *owner, uint8_t index)
{
	f->magic = HB_FILTER_MAGIC;
	f->index = index;
	f->host = host;
	f->owner = owner;
}

void
hb_filter_fini(struct hb_filter *f)
{
	if (f->timer == NULL)
		return;
	hb_timer_stop(&f->timer->timer);
	hb_free(f->timer);
	f->timer = NULL;
}

bool
hb_filter_timer_runs(const struct hb_filter *f)
{
	return (f->timer != NULL && hb_timer_running(&f->timer->timer));
}

static void
on_timer(struct hb_timer *t)
{
	struct hb_filter *f = HB_CONTAINER(t, struct hb_filter_timer, timer)->filter;

	HB_CHECK(f, HB_FILTER_MAGIC);
	f->host->timer(f);
}

void
hb_filter_timer(struct hb_filter *f, uint64_t delay_ms)
{
	HB_CHECK(f, HB_FILTER_MAGIC);
	if (f->timer == NULL) {
		if (delay_ms == 0)
			return;
		f->timer = hb_calloc(1, sizeof *f->timer);
		f->timer->filter = f;
		hb_timer_init(&f->timer->timer, f->host->worker(f), on_timer);
	}
	if (delay_ms == 0)
		hb_timer_stop(&f->timer->timer);
	else
		hb_timer_start(&f->timer->timer, delay_ms);
}

/* ------------------------------------------------------------------ for all filters */

const void *
hb_filter_conf(const struct hb_filter *f)
{
	HB_CHECK(f, HB_FILTER_MAGIC);
	return (f->host->conf(f));
}

void *
hb_filter_ctx(const struct hb_filter *f)
{
	HB_CHECK(f, HB_FILTER_MAGIC);
	return (f->host->ctx(f));
}

struct hb_facts *
hb_filter_facts(const struct hb_filter *f)
{
	HB_CHECK(f, HB_FILTER_MAGIC);
	return (f->host->facts(f));
}

struct hb_worker *
hb_filter_worker(const struct hb_filter *f)
{
	HB_CHECK(f, HB_FILTER_MAGIC);
	return (f->host->worker(f));
}

uint64_t
hb_filter_conn_id(const struct hb_filter *f)
{
	HB_CHECK(f, HB_FILTER_MAGIC);
	return (f->host->conn_id(f));
}

const char *
hb_filter_chain_name(const struct hb_filter *f)
{
	HB_CHECK(f, HB_FILTER_MAGIC);
	return (f->host->chain_name == NULL ? "" : f->host->chain_name(f));
}

void
hb_filter_continue(struct hb_filter *f)
{
	HB_CHECK(f, HB_FILTER_MAGIC);
	f->host->resume(f);
}

void
hb_filter_close(struct hb_filter *f, enum hb_close_reason reason)
{
	HB_CHECK(f, HB_FILTER_MAGIC);
	f->host->close(f, reason, !hb_close_info(reason)->is_error);
}

void
hb_filter_finish(struct hb_filter *f, enum hb_close_reason reason)
{
	HB_CHECK(f, HB_FILTER_MAGIC);
	f->host->close(f, reason, true);
}

void
hb_lfilter_consume(struct hb_filter *f, size_t n)
{
	HB_CHECK(f, HB_FILTER_MAGIC);
	HB_ASSERT(f->host->consume != NULL);
	f->host->consume(f, n);
}

void
hb_lfilter_max_bytes(struct hb_filter *f, size_t n)
{
	HB_CHECK(f, HB_FILTER_MAGIC);
	HB_ASSERT(f->host->max_bytes != NULL);
	f->host->max_bytes(f, n);
}

int
hb_lfilter_fd(const struct hb_filter *f)
{
	HB_CHECK(f, HB_FILTER_MAGIC);
	HB_ASSERT(f->host->fd != NULL);
	return (f->host->fd(f));
}

/* ------------------------------------------------------------------ a connection as host */

static const struct hb_filter_type *
conn_type(const struct hb_filter *f)
{
	return (hb_conn__decl(hb_conn__of(f), f->index)->type);
}

static const void *
conn_conf(const struct hb_filter *f)
{
	return (hb_conn__decl(hb_conn__of(f), f->index)->conf);
}

static void *
conn_ctx(const struct hb_filter *f)
{
	struct hb_conn *c = hb_conn__of(f);

	return ((uint8_t *)c + hb_conn__decl(c, f->index)->ctx_off);
}

static struct hb_facts *
conn_facts(const struct hb_filter *f)
{
	return (&hb_conn__of(f)->facts);
}

static struct hb_worker *
conn_worker_of(const struct hb_filter *f)
{
	return (hb_conn__worker(hb_conn__of(f)));
}

static uint64_t
conn_id(const struct hb_filter *f)
{
	return (hb_conn__of(f)->id);
}

static const char *
conn_chain_name(const struct hb_filter *f)
{
	return (hb_conn__of(f)->chain->name);
}

static void
conn_close(struct hb_filter *f, enum hb_close_reason reason, bool flush)
{
	struct hb_conn *c = hb_conn__of(f);

	if (flush)
		hb_conn__finish(c, f->index, reason);
	else
		hb_conn__close(c, reason, false);
}

static void
conn_timer(struct hb_filter *f)
{
	struct hb_conn *c = hb_conn__of(f);

	hb_conn__enter(c);
	hb_conn__event_of(f, HB_EVENT_TIMER);
	hb_conn__leave(c);
}

const struct hb_filter_host hb_conn_host = {
	.kind = HB_FILTER_NETWORK,
	.type = conn_type,
	.conf = conn_conf,
	.ctx = conn_ctx,
	.facts = conn_facts,
	.worker = conn_worker_of,
	.conn_id = conn_id,
	.chain_name = conn_chain_name,
	.resume = hb_conn__resume,
	.close = conn_close,
	.timer = conn_timer,
};

/* ------------------------------------------------------------------ for network filters */

void
hb_filter_write(struct hb_filter *f, struct hb_buf *buf, bool end)
{
	struct hb_conn *c = hb_conn__of(f);

	hb_conn__enter(c);
	hb_conn__write(c, (int)f->index - 1, buf, end);
	hb_conn__leave(c);
}

void
hb_filter_inject_read(struct hb_filter *f, struct hb_buf *buf, bool end)
{
	struct hb_conn *c = hb_conn__of(f);

	HB_ASSERT(conn_type(f)->flags & HB_FILTER_MAY_INJECT);
	hb_conn__enter(c);
	hb_conn__read(c, f->index + 1u, buf, end);
	hb_conn__leave(c);
}

void
hb_filter_read_disable(struct hb_filter *f, int delta)
{
	hb_conn__read_disable(hb_conn__of(f), delta);
}

void
hb_filter_unread(struct hb_filter *f, struct hb_buf *buf, bool end)
{
	HB_ASSERT(conn_type(f)->flags & HB_FILTER_TERMINAL);
	hb_conn__unread(hb_conn__of(f), buf, end);
}

void
hb_filter_linger(struct hb_filter *f, bool on)
{
	struct hb_conn *c = hb_conn__of(f);

	if (on) {
		HB_ASSERT(c->flags & HB_CF_TAKEN);
		c->flags |= HB_CF_LINGER;
		return;
	}
	c->flags &= ~HB_CF_LINGER;
	hb_conn__end_soon(c);
}

struct hb_transport *
hb_filter_take_downstream(struct hb_filter *f)
{
	struct hb_conn *c = hb_conn__of(f);
	struct hb_transport *t;

	HB_ASSERT(conn_type(f)->flags & HB_FILTER_TERMINAL);
	HB_ASSERT(f->state[2] & HB_FS_SECURED);
	hb_conn__enter(c);
	t = hb_conn__facade_new(c);
	hb_conn__resume(f);
	hb_conn__leave(c);
	return (t);
}

void
hb_filter_account(struct hb_filter *f, uint64_t read, uint64_t written)
{
	hb_conn__moved(hb_conn__of(f), read, written);
}

void
hb_filter_set_detail(struct hb_filter *f, const char *detail)
{
	struct hb_conn *c = hb_conn__of(f);

	hb_conn__texts(c)->detail = hb_arena_str(&c->facts.arena, hb_str(detail)).p;
}

void
hb_filter_log_entry(const struct hb_filter *f, struct hb_log_entry *ret)
{
	hb_conn_log_entry(hb_conn__of(f), ret);
}

bool
hb_filter_logged(const struct hb_filter *f)
{
	return (hb_conn__of(f)->owner->o.log != NULL);
}

bool
hb_filter_bytes_wait(const struct hb_filter *f)
{
	const struct hb_conn *c = hb_conn__of(f);

	return (c->t != NULL && c->t->unread != NULL && c->t->unread->buf.len > 0);
}

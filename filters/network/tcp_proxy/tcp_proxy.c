/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp_proxy: chooses a cluster, dials, then lets a pump move bytes both ways.
 *
 *   on_secured ──► DIALLING ──► OPEN (pump) ──► DONE
 *        │            │  ▲
 *        ▼            ▼  │ backoff_options
 *   WAITING (first   RETRYING
 *   bytes wanted)
 *
 * The downstream is not read before the upstream is there, unless max_early_data_bytes says so.
 */
#include "core/base/log.h"
#include "core/filter/dial.h"
#include "core/filter/explain.h"
#include "core/transport/pump.h"
#include "envoy/data/accesslog/v3/accesslog.pb-c.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb-c.h"
#include "filters/network/tcp_proxy/tcp_proxy_priv.h"

#define LOG_TYPE(name) ENVOY__DATA__ACCESSLOG__V3__ACCESS_LOG_TYPE__Tcp##name

enum tcp_proxy_state { TCP_IDLE, TCP_WAITING, TCP_DIALLING, TCP_RETRYING, TCP_OPEN, TCP_DONE };

struct tcp_proxy {
	unsigned magic;
#define TCP_PROXY_MAGIC 0x1b0c7e55
	uint8_t state;     /* enum tcp_proxy_state                              */
	bool early_end;    /* the downstream ended before the upstream was there */
	bool early_full;   /* not read any more until then                      */
	bool paused;       /* as the pump's direction from the downstream       */
	bool flushing;     /* counted in TCP_N_FLUSH_ACTIVE                       */
	bool pumped;       /* the pump was started: it has the union            */
	uint16_t attempts; /* dials so far, with backoff_options                */
	uint32_t logged;   /* intervals of the log that are over                */
	struct hb_filter *filter;
	uint64_t since; /* ms                                                */
	union {
		struct {
			struct hb_dial *dial;              /* owned; NULL when none is under way  */
			struct tcp_proxy_request *request; /* owned; of a dial for a tunnel */
			struct hb_buf early;               /* owned bytes                   */
			uint64_t retry_due;                /* ms; 0 = not set               */
		};
		struct hb_pump pump;
	};
};

static void tcp_proxy_dial(struct tcp_proxy *t);

static const struct tcp_proxy_conf *
conf_of(const struct tcp_proxy *t)
{
	return (hb_filter_conf(t->filter));
}

static struct tcp_proxy *
ctx_of(struct hb_filter *f)
{
	struct tcp_proxy *t;

	HB_CAST(t, hb_filter_ctx(f), TCP_PROXY_MAGIC);
	return (t);
}

static void
count(struct tcp_proxy *t, enum tcp_proxy_stat i, int64_t n)
{
	hb_stat_add(hb_filter_worker(t->filter), conf_of(t)->stats, i, n);
}

/* ------------------------------------------------------------------ access log, timer */

static void
tcp_proxy_log(struct tcp_proxy *t, uint8_t type)
{
	const struct tcp_proxy_conf *c = conf_of(t);
	struct hb_log_entry e;

	if (c->log == NULL)
		return;
	hb_filter_log_entry(t->filter, &e);
	e.log_type = type;
	hb_access_log_write(hb_filter_worker(t->filter), c->log, &e);
}

/* When they are due, in ms; 0 = never. */
static uint64_t
duration_due(const struct tcp_proxy *t)
{
	return (conf_of(t)->duration_ms == 0 ? 0 : t->since + conf_of(t)->duration_ms);
}

static uint64_t
log_due(const struct tcp_proxy *t)
{
	const struct tcp_proxy_conf *c = conf_of(t);

	if (c->log_interval_ms == 0 || c->log == NULL)
		return (0);
	return (t->since + (t->logged + 1ull) * c->log_interval_ms);
}

/* One timer serves the maximum duration, the log's interval and the wait between attempts. */
static void
timer_set(struct tcp_proxy *t)
{
	const uint64_t due[] = { duration_due(t), log_due(t), t->pumped ? 0 : t->retry_due };
	uint64_t now = hb_now_ms(hb_filter_worker(t->filter)), first = 0;

	for (size_t i = 0; i < HB_ARRAY_LEN(due); i++)
		if (due[i] != 0 && (first == 0 || due[i] < first))
			first = due[i];
	hb_filter_timer(t->filter, first == 0 ? 0 : first > now ? first - now : 1);
}

static void
tcp_proxy_on_timer(struct tcp_proxy *t)
{
	uint64_t now = hb_now_ms(hb_filter_worker(t->filter));

	if (duration_due(t) != 0 && now >= duration_due(t)) {
		count(t, TCP_N_MAX_DURATION, 1);
		/* The pump, once it runs, flushes both sides; before, there is one only. */
		if (t->state == TCP_OPEN) {
			t->state = TCP_DONE;
			hb_pump_abort(&t->pump, HB_CLOSE_MAX_DURATION);
			hb_filter_linger(t->filter, false);
		} else {
			hb_filter_close(t->filter, HB_CLOSE_MAX_DURATION);
		}
		return;
	}
	if (log_due(t) != 0 && now >= log_due(t)) {
		t->logged = (uint32_t)((now - t->since) / conf_of(t)->log_interval_ms);
		tcp_proxy_log(t, LOG_TYPE(Periodic));
	}
	if (!t->pumped && t->retry_due != 0 && now >= t->retry_due) {
		t->retry_due = 0;
		tcp_proxy_dial(t);
	}
	timer_set(t);
}

/* ------------------------------------------------------------------ the pump's side */

static void
tcp_proxy_on_progress(struct hb_pump *p, enum hb_pump_side from, size_t n)
{
	struct tcp_proxy *t = HB_CONTAINER(p, struct tcp_proxy, pump);
	uint64_t spliced = p->dir[from].splice != NULL ? n : 0;

	if (from == HB_PUMP_A) {
		count(t, TCP_N_CX_RX, (int64_t)n);
		hb_filter_account(t->filter, spliced, 0);
		hb_filter_account_upstream(t->filter, n, 0);
		if (t->paused) {
			t->paused = false;
			count(t, TCP_N_RESUMED, 1);
		}
		if (p->dir[HB_PUMP_A].paused) {
			t->paused = true;
			count(t, TCP_N_PAUSED, 1);
		}
		return;
	}
	count(t, TCP_N_CX_TX, (int64_t)n);
	hb_filter_account(t->filter, 0, spliced);
	hb_filter_account_upstream(t->filter, 0, n);
}

static void
flushed(struct tcp_proxy *t)
{
	if (!t->flushing)
		return;
	t->flushing = false;
	count(t, TCP_N_FLUSH_ACTIVE, -1);
}

static void
tcp_proxy_on_done(struct hb_pump *p, enum hb_pump_side by, enum hb_close_reason reason)
{
	struct tcp_proxy *t = HB_CONTAINER(p, struct tcp_proxy, pump);

	HB_CHECK(t, TCP_PROXY_MAGIC);
	t->state = TCP_DONE;
	if (reason == HB_CLOSE_IDLE_TIMEOUT)
		count(t, TCP_N_IDLE, 1);
	flushed(t);
	hb_filter_linger(t->filter, false);
}

static const struct hb_pump_ops tcp_proxy_pump_ops = {
	.on_progress = tcp_proxy_on_progress,
	.on_done = tcp_proxy_on_done,
};

/* The option of this connection (filter state) before that of the configuration. */
static uint64_t
idle_ms_of(struct tcp_proxy *t)
{
	struct hb_str s = hb_facts_state(hb_filter_facts(t->filter), hb_str(HB_STATE_IDLE_TIMEOUT));
	uint64_t ms;

	if (s.p != NULL && hb_str_u64(s, UINT32_MAX, &ms))
		return (ms);
	return (conf_of(t)->idle_ms);
}

static void
tcp_proxy_open(struct tcp_proxy *t, struct hb_transport *up)
{
	struct hb_pump_options opt = { .idle_timeout_ms = idle_ms_of(t) };
	struct hb_transport *down;

	t->state = TCP_OPEN;
	hb_filter_unread(t->filter, &t->early, t->early_end);
	down = hb_filter_take_downstream(t->filter);
	hb_filter_linger(t->filter, true);
	hb_transport_accept(down);
	HB_ASSERT(t->dial == NULL && t->request == NULL && t->early.len == 0);
	t->pumped = true;
	hb_pump_start(&t->pump, down, up, &tcp_proxy_pump_ops, &opt);
	if (t->early_full)
		hb_filter_read_disable(t->filter, -1);
	if (conf_of(t)->log_connected)
		tcp_proxy_log(t, LOG_TYPE(UpstreamConnected));
}

/* ------------------------------------------------------------------ dialling */

/* "" = none. Borrowed from filter state or configuration. */
static struct hb_str
choose_cluster(const struct tcp_proxy_conf *c, const struct hb_facts *facts)
{
	struct hb_str s = hb_facts_state(facts, hb_str(HB_STATE_TCP_PROXY_CLUSTER));
	uint64_t r;
	size_t i = 0;

	if (s.len > 0)
		return (s);
	if (c->n_clusters > 1)
		for (r = hb_random() % c->cluster[c->n_clusters - 1].upto; r >= c->cluster[i].upto;)
			i++;
	return (hb_str(c->cluster[i].cluster));
}

static uint64_t
backoff_of(const struct tcp_proxy_conf *c, unsigned attempts)
{
	uint64_t ms = c->backoff_ms;

	while (--attempts > 0 && ms < c->backoff_max_ms)
		ms *= 2;
	ms = HB_MIN(ms, c->backoff_max_ms);
	return (1 + hb_random() % ms);
}

/* Another endpoint may be better; for these it would not. */
static bool
is_final(enum hb_close_reason r)
{
	return (r == HB_CLOSE_NO_CLUSTER || r == HB_CLOSE_NO_ROUTE || r == HB_CLOSE_OVERLOAD ||
		r == HB_CLOSE_UPSTREAM_OVERFLOW || r == HB_CLOSE_SHUTDOWN);
}

static void
tcp_proxy_failed(struct tcp_proxy *t, enum hb_close_reason reason, unsigned attempts)
{
	const struct tcp_proxy_conf *c = conf_of(t);

	if (c->backoff_ms != 0 && t->attempts < c->attempts && !is_final(reason)) {
		t->state = TCP_RETRYING;
		t->retry_due = hb_now_ms(hb_filter_worker(t->filter)) + backoff_of(c, t->attempts);
		timer_set(t);
		return;
	}
	t->state = TCP_DONE;
	if (reason == HB_CLOSE_NO_CLUSTER || reason == HB_CLOSE_NO_ROUTE)
		count(t, TCP_N_CX_NO_ROUTE, 1);
	HB_LOG(FILTER, DEBUG, "tcp_proxy: no upstream", "id=%llu reason=%s attempts=%u",
		(unsigned long long)hb_filter_conn_id(t->filter), hb_close_info(reason)->name,
		attempts);
	if (c->attempts > 1 && attempts >= c->attempts && !is_final(reason))
		reason = hb_close_attempts(reason);
	hb_filter_close(t->filter, reason);
}

static void
tcp_proxy_on_dialled(void *arg, struct hb_transport *up, enum hb_close_reason reason,
	const struct hb_upstream_info *info)
{
	struct tcp_proxy *t;
	struct hb_upstream_info mine;
	unsigned tried;

	HB_CAST(t, arg, TCP_PROXY_MAGIC);
	HB_ASSERT(t->state == TCP_DIALLING);
	t->dial = NULL;
	tcp_proxy_request_free(&t->request);
	tried = info == NULL || info->attempts == 0 ? 1 : info->attempts;
	t->attempts = (uint16_t)(t->attempts + tried);
	if (info != NULL) {
		mine = *info;
		mine.attempts = t->attempts;
		hb_filter_set_upstream(t->filter, &mine);
	}
	if (up != NULL)
		tcp_proxy_open(t, up);
	else
		tcp_proxy_failed(t, reason, t->attempts);
}

static void
tcp_proxy_on_response(void *arg, unsigned status, const struct hb_header *v, size_t n)
{
	struct tcp_proxy *t;

	(void)status;
	HB_CAST(t, arg, TCP_PROXY_MAGIC);
	for (size_t i = 0; i < n; i++)
		if (hb_str_eq(v[i].name, HB_STR("baggage")))
			(void)hb_facts_metadata_set(hb_filter_facts(t->filter),
				HB_STR(HB_META_RESPONSE), v[i].name, v[i].value);
	if (conf_of(t)->tunnel != NULL && conf_of(t)->tunnel->propagate_headers)
		tcp_proxy_keep_response(t->filter, v, n);
}

static void
tcp_proxy_dial(struct tcp_proxy *t)
{
	const struct tcp_proxy_conf *c = conf_of(t);
	const struct hb_facts *facts = hb_filter_facts(t->filter);
	struct hb_dial_request rq = {
		.cluster = choose_cluster(c, facts),
		.facts = facts,
		.attempts_max = c->backoff_ms != 0 ? 1 : c->attempts,
		.conn_id = hb_filter_conn_id(t->filter),
		.speaks_first = t->early.len > 0 || hb_filter_bytes_wait(t->filter),
		.local = c->log != NULL || hb_filter_logged(t->filter),
		.arg = t,
		.on_response = tcp_proxy_on_response,
		.on_done = tcp_proxy_on_dialled,
	};

	if (c->tunnel != NULL) {
		t->request = tcp_proxy_request_make(c->tunnel, t->filter);
		rq.tunnel = &t->request->tunnel;
	}
	t->state = TCP_DIALLING;
	t->dial = hb_dial(hb_filter_worker(t->filter), &rq);
}

/* ------------------------------------------------------------------ slots */

static enum hb_filter_status
tcp_proxy_on_secured(struct hb_filter *f)
{
	const struct tcp_proxy_conf *c = hb_filter_conf(f);
	struct tcp_proxy *t = hb_filter_ctx(f);

	t->magic = TCP_PROXY_MAGIC;
	t->filter = f;
	count(t, TCP_N_CX_TOTAL, 1);
	t->since = hb_now_ms(hb_filter_worker(f));
	timer_set(t);
	if (c->log_start)
		tcp_proxy_log(t, LOG_TYPE(ConnectionStart));
	if (c->wait_for_data)
		t->state = TCP_WAITING;
	else
		tcp_proxy_dial(t);
	return (c->early_max > 0 ? HB_FILTER_CONTINUE : HB_FILTER_STOP);
}

/* Early bytes only: later ones go to the pump. */
static enum hb_filter_status
tcp_proxy_on_read(struct hb_filter *f, struct hb_buf *buf, bool end)
{
	const struct tcp_proxy_conf *c = hb_filter_conf(f);
	struct tcp_proxy *t = ctx_of(f);

	if (t->early.len == 0 && buf->len > 0)
		count(t, TCP_N_EARLY, 1);
	hb_buf_own(buf);
	hb_buf_move(&t->early, buf);
	t->early_end |= end;
	if (t->early.len >= c->early_max && !t->early_full) {
		t->early_full = true;
		hb_filter_read_disable(f, 1);
	}
	if (t->state == TCP_WAITING)
		tcp_proxy_dial(t);
	return (HB_FILTER_CONTINUE);
}

static void
tcp_proxy_on_event(struct hb_filter *f, enum hb_event ev)
{
	struct tcp_proxy *t = hb_filter_ctx(f);

	if (t->filter == NULL)
		return;
	if (ev == HB_EVENT_TIMER) {
		tcp_proxy_on_timer(t);
	} else if (ev == HB_EVENT_GONE) {
		t->flushing = true;
		count(t, TCP_N_FLUSH_TOTAL, 1);
		count(t, TCP_N_FLUSH_ACTIVE, 1);
	}
}

static void
tcp_proxy_fini(struct hb_filter *f)
{
	struct tcp_proxy *t = hb_filter_ctx(f);

	if (t->filter == NULL)
		return;
	HB_CHECK(t, TCP_PROXY_MAGIC);
	if (t->state == TCP_OPEN) {
		hb_pump_abort(&t->pump, HB_CLOSE_ADMIN);
	} else if (!t->pumped) {
		hb_dial_cancel(&t->dial);
		tcp_proxy_request_free(&t->request);
		hb_buf_fini(&t->early);
	}
	flushed(t);
	tcp_proxy_log(t, LOG_TYPE(ConnectionEnd));
}

/* ------------------------------------------------------------------ rest */

static const char *
tcp_proxy_rests(struct hb_filter *f, struct hb_rest *ret)
{
	struct tcp_proxy *t = ctx_of(f);

	if (t->state != TCP_OPEN || t->flushing || t->paused)
		return ("the proxy is not open");
	ret->up = t->pump.t[HB_PUMP_B];
	return (hb_pump_busy(&t->pump, &ret->due_ms));
}

static void
tcp_proxy_pack(struct hb_filter *f, struct hb_pack *p)
{
	struct tcp_proxy *t = ctx_of(f);

	hb_pack_byte(p, (uint8_t)(t->early_end | t->early_full << 1));
	hb_pack_u64(p, t->attempts);
	hb_pack_u64(p, t->logged);
	hb_pack_ms(p, t->since);
	hb_pump_pack(&t->pump, p);
}

static void
tcp_proxy_unpack(struct hb_filter *f, struct hb_unpack *u, struct hb_transport *down,
	struct hb_transport *up)
{
	struct tcp_proxy *t = hb_filter_ctx(f);
	uint8_t early = hb_unpack_byte(u);

	t->magic = TCP_PROXY_MAGIC;
	t->state = TCP_OPEN;
	t->pumped = true;
	t->filter = f;
	t->early_end = early & 1;
	t->early_full = early & 2;
	t->attempts = (uint16_t)hb_unpack_u64(u);
	t->logged = (uint32_t)hb_unpack_u64(u);
	t->since = hb_unpack_ms(u);
	hb_pump_unpack(&t->pump, u, down, up, &tcp_proxy_pump_ops);
}

static void
tcp_proxy_explain(const void *conf, const struct hb_facts *facts, struct hb_explain *ex)
{
	const struct tcp_proxy_conf *c = conf;
	struct hb_str s = choose_cluster(c, facts);
	const char *why = "its cluster";

	if (hb_facts_state(facts, hb_str(HB_STATE_TCP_PROXY_CLUSTER)).len > 0)
		why = "a filter before it chose the cluster";
	else if (c->n_clusters > 1)
		why = "one of its weighted clusters, by chance";
	hb_explain_step(
		ex, "filter", "tcp_proxy", "chosen", "cluster %.*s: %s", HB_STR_FMT(s), why);
	hb_explain_set_cluster(ex, s);
	hb_explain_stop(ex);
}

static struct hb_transport *
tcp_proxy_upstream(struct hb_filter *f, struct hb_text *authority)
{
	struct tcp_proxy *t = hb_filter_ctx(f);

	if (t->magic == 0 || t->state != TCP_OPEN || !t->pumped)
		return (NULL);
	if (conf_of(t)->tunnel != NULL)
		tcp_proxy_authority(conf_of(t)->tunnel, f, authority);
	return (t->pump.t[HB_PUMP_B]);
}

const struct hb_filter_type hb_filter_tcp_proxy = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.flags = HB_FILTER_TERMINAL,
	.kind = HB_FILTER_NETWORK,
	.name = "hbone.filters.network.tcp_proxy",
	.alias = "envoy.filters.network.tcp_proxy",
	.config = &envoy__extensions__filters__network__tcp_proxy__v3__tcp_proxy__descriptor,
	.ctx_size = sizeof(struct tcp_proxy),
	.compile = tcp_proxy_compile,
	.conf_free = tcp_proxy_conf_free,
	.on_secured = tcp_proxy_on_secured,
	.on_read = tcp_proxy_on_read,
	.on_event = tcp_proxy_on_event,
	.fini = tcp_proxy_fini,
	.explain = tcp_proxy_explain,
	.upstream = tcp_proxy_upstream,
	.rests = tcp_proxy_rests,
	.pack = tcp_proxy_pack,
	.unpack = tcp_proxy_unpack,
};

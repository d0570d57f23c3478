/* SPDX-License-Identifier: Apache-2.0 */
/*
 * c-ares on the control thread's loop. A channel serves all look-ups with the same settings that
 * are under way and goes with the last one, so that the next one reads resolv.conf and hosts anew.
 */
#include <ares.h>
#include <netdb.h>
#include <netinet/in.h>
#include "core/base/log.h"
#include "upstreams/dns.h"

#define TIMEOUT_MS 5000
#define TRIES      4

struct channel {
	unsigned magic;
#define CHANNEL_MAGIC 0x19be5a07
	struct hb_list node;
	struct hb_dns_settings settings;
	ares_channel ares;
	struct hb_timer timer;
	struct hb_run run; /* frees it when nothing is under way */
	unsigned queries;
	struct hb_list polls;
};

struct poll {
	unsigned magic;
#define POLL_MAGIC 0x02f7b8d4
	struct hb_list node;
	struct channel *ch;
	ares_socket_t fd;
	uv_poll_t uv;
};

struct query {
	struct hb_dns_query base;
	struct hb_list node;
	struct channel *ch;
	struct hb_run run; /* an answer that came before the look-up had begun */
	bool starting, cancelled;
	int error;
	const char *why;
	struct hb_addr *v; /* owned */
	size_t n;
	uint64_t ttl_ms;
};

static struct hb_list channels = { &channels, &channels };
static struct hb_list queries = { &queries, &queries };
static bool ares_ready;

/* ------------------------------------------------------------------ sockets and time */

static void
rearm(struct channel *ch)
{
	struct timeval tv, *t = ares_timeout(ch->ares, NULL, &tv);

	if (t == NULL || ch->queries == 0)
		hb_timer_stop(&ch->timer);
	else
		hb_timer_start(
			&ch->timer, (uint64_t)t->tv_sec * 1000 + (uint64_t)t->tv_usec / 1000 + 1);
}

static void
on_timer(struct hb_timer *t)
{
	struct channel *ch = HB_CONTAINER(t, struct channel, timer);

	HB_CHECK(ch, CHANNEL_MAGIC);
	ares_process_fd(ch->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	rearm(ch);
}

static void
on_poll(uv_poll_t *uv, int status, int events)
{
	struct poll *p = HB_CONTAINER(uv, struct poll, uv);
	struct channel *ch = p->ch;
	bool r = status != 0 || (events & UV_READABLE), w = status != 0 || (events & UV_WRITABLE);

	HB_CHECK(p, POLL_MAGIC);
	ares_process_fd(ch->ares, r ? p->fd : ARES_SOCKET_BAD, w ? p->fd : ARES_SOCKET_BAD);
	rearm(ch);
}

static void
poll_free(uv_handle_t *h)
{
	struct poll *p = HB_CONTAINER(h, struct poll, uv);

	HB_DEL(p);
}

static struct poll *
poll_of(struct channel *ch, ares_socket_t fd)
{
	struct hb_list *n;
	struct poll *p;

	HB_LIST_FOREACH (n, &ch->polls) {
		p = HB_LIST_ENTRY(n, struct poll, node);
		if (p->fd == fd)
			return (p);
	}
	HB_NEW(p, POLL_MAGIC);
	p->ch = ch;
	p->fd = fd;
	hb_list_add_tail(&ch->polls, &p->node);
	HB_ASSERT(uv_poll_init(hb_worker_control()->loop, &p->uv, fd) == 0);
	return (p);
}

/* Called by c-ares whenever it wants to know about a socket, or no more (before it closes it). */
static void
on_socket(void *data, ares_socket_t fd, int readable, int writable)
{
	struct channel *ch;
	struct poll *p;

	HB_CAST(ch, data, CHANNEL_MAGIC);
	p = poll_of(ch, fd);
	if (readable || writable) {
		HB_ASSERT(uv_poll_start(&p->uv,
				  (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0),
				  on_poll) == 0);
		return;
	}
	hb_list_del(&p->node);
	(void)uv_poll_stop(&p->uv);
	uv_close((uv_handle_t *)&p->uv, poll_free);
}

/* ------------------------------------------------------------------ channels */

static void
channel_free(struct channel *ch)
{
	HB_CHECK(ch, CHANNEL_MAGIC);
	HB_ASSERT(ch->queries == 0);
	hb_run_cancel(&ch->run);
	hb_timer_stop(&ch->timer);
	hb_list_del(&ch->node);
	ares_destroy(ch->ares);
	HB_ASSERT(hb_list_empty(&ch->polls));
	HB_DEL(ch);
}

static void
channel_run(struct hb_run *run)
{
	struct channel *ch = HB_CONTAINER(run, struct channel, run);

	HB_CHECK(ch, CHANNEL_MAGIC);
	if (ch->queries == 0)
		channel_free(ch);
}

static bool
settings_eq(const struct hb_dns_settings *a, const struct hb_dns_settings *b)
{
	if (a->n_servers != b->n_servers || a->timeout_ms != b->timeout_ms ||
		a->tries != b->tries || a->tcp_only != b->tcp_only ||
		a->no_search != b->no_search || a->rotate != b->rotate)
		return (false);
	for (unsigned i = 0; i < a->n_servers; i++) {
		if (!hb_addr_eq(&a->servers[i], &b->servers[i]))
			return (false);
	}
	return (true);
}

static int
set_servers(struct channel *ch)
{
	char text[HB_ADDR_TEXT_MAX];
	struct hb_text csv = { 0 };
	int r;

	if (ch->settings.n_servers == 0)
		return (ARES_SUCCESS);
	for (unsigned i = 0; i < ch->settings.n_servers; i++) {
		(void)hb_addr_format(&ch->settings.servers[i], text, sizeof text);
		hb_text_printf(&csv, "%s%s", i == 0 ? "" : ",", text);
	}
	r = ares_set_servers_ports_csv(ch->ares, csv.p);
	hb_text_fini(&csv);
	return (r);
}

static struct channel *
channel_new(const struct hb_dns_settings *s)
{
	struct ares_options o = {
		.flags = (s->tcp_only ? ARES_FLAG_USEVC : 0) |
			(s->no_search ? ARES_FLAG_NOSEARCH : 0),
		.timeout = s->timeout_ms == 0 ? TIMEOUT_MS : (int)s->timeout_ms,
		.tries = s->tries == 0 ? TRIES : (int)s->tries,
		.sock_state_cb = on_socket,
	};
	int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB |
		(s->rotate ? ARES_OPT_ROTATE : ARES_OPT_NOROTATE);
	struct channel *ch;
	int r;

	if (!ares_ready && ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
		return (NULL);
	ares_ready = true;
	HB_NEW(ch, CHANNEL_MAGIC);
	ch->settings = *s;
	hb_list_init(&ch->polls);
	hb_run_init(&ch->run, channel_run);
	hb_timer_init(&ch->timer, hb_worker_control(), on_timer);
	o.sock_state_cb_data = ch;
	r = ares_init_options(&ch->ares, &o, mask);
	if (r == ARES_SUCCESS && (r = set_servers(ch)) != ARES_SUCCESS)
		ares_destroy(ch->ares);
	if (r != ARES_SUCCESS) {
		HB_LOG(DNS, ERROR, "the resolver cannot start", "reason=\"%s\"", ares_strerror(r));
		HB_DEL(ch);
		return (NULL);
	}
	hb_list_add_tail(&channels, &ch->node);
	return (ch);
}

static struct channel *
channel_for(const struct hb_dns_settings *s)
{
	struct hb_list *n;

	HB_LIST_FOREACH (n, &channels) {
		struct channel *ch = HB_LIST_ENTRY(n, struct channel, node);

		if (settings_eq(&ch->settings, s))
			return (ch);
	}
	return (channel_new(s));
}

/* ------------------------------------------------------------------ answers */

static bool
wanted(const struct hb_addr *a, enum hb_dns_family f)
{
	switch (f) {
	case HB_DNS_V4_ONLY:
		return (a->kind == HB_ADDR_V4);
	case HB_DNS_V6_ONLY:
		return (a->kind == HB_ADDR_V6);
	default:
		return (true);
	}
}

size_t
hb_dns_select(struct hb_addr *v, size_t n, enum hb_dns_family f)
{
	size_t v4 = 0, out = 0;

	for (size_t i = 0; i < n; i++)
		v4 += v[i].kind == HB_ADDR_V4;
	if (f == HB_DNS_AUTO)
		f = v4 < n ? HB_DNS_V6_ONLY : HB_DNS_V4_ONLY;
	else if (f == HB_DNS_V4_PREFERRED)
		f = v4 > 0 ? HB_DNS_V4_ONLY : HB_DNS_V6_ONLY;
	for (size_t i = 0; i < n; i++) {
		if (wanted(&v[i], f))
			v[out++] = v[i];
	}
	return (out);
}

static void
keep_addresses(struct query *q, const struct ares_addrinfo *res)
{
	uint64_t ttl = UINT64_MAX;
	size_t n = 0;

	/* A message of DNS has 64 KiB at most. */
	for (const struct ares_addrinfo_node *a = res->nodes; a != NULL; a = a->ai_next)
		n++;
	q->v = hb_calloc(n + 1, sizeof *q->v);
	for (const struct ares_addrinfo_node *a = res->nodes; a != NULL && q->n < n;
		a = a->ai_next) {
		hb_addr_from_sockaddr(&q->v[q->n], a->ai_addr, (socklen_t)a->ai_addrlen);
		if (q->v[q->n].kind != HB_ADDR_V4 && q->v[q->n].kind != HB_ADDR_V6)
			continue;
		q->v[q->n++].port = 0;
		/* An entry of /etc/hosts has none. */
		if (a->ai_ttl > 0)
			ttl = HB_MIN(ttl, (uint64_t)a->ai_ttl * 1000);
	}
	q->ttl_ms = ttl;
	q->n = hb_dns_select(q->v, q->n, q->base.family);
}

static void
deliver(struct query *q)
{
	struct hb_dns_answer a = {
		.error = q->error, .why = q->why, .v = q->v, .n = q->n, .ttl_ms = q->ttl_ms
	};
	struct channel *ch = q->ch;

	if (!q->cancelled)
		q->base.done(q->base.arg, &a);
	hb_run_cancel(&q->run);
	hb_list_del(&q->node);
	hb_free(q->v);
	q->base.magic = 0;
	hb_free(q);
	/* c-ares is on the stack: not now. */
	if (ch != NULL && --ch->queries == 0)
		hb_run_soon(hb_worker_control(), &ch->run);
}

static void
query_run(struct hb_run *run)
{
	deliver(HB_CONTAINER(run, struct query, run));
}

static void
on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *res)
{
	struct query *q = arg;

	HB_CHECK(&q->base, HB_DNS_QUERY_MAGIC);
	(void)timeouts;
	if (status == ARES_SUCCESS && res != NULL)
		keep_addresses(q, res);
	if (res != NULL)
		ares_freeaddrinfo(res);
	if (status == ARES_ENOTFOUND || status == ARES_ENODATA)
		q->error = -ENOENT;
	else if (status != ARES_SUCCESS)
		q->error = -EIO;
	else if (q->n == 0)
		q->error = -ENOENT;
	if (q->error != 0)
		q->why = status == ARES_SUCCESS ? "no address of the wanted family" :
						  ares_strerror(status);
	if (q->starting)
		hb_run_soon(hb_worker_control(), &q->run);
	else
		deliver(q);
}

/* ------------------------------------------------------------------ the resolver */

static struct hb_dns_query *
cares_query(void *ctx, const struct hb_dns_settings *s, const char *name, enum hb_dns_family family,
	void (*done)(void *, const struct hb_dns_answer *), void *arg)
{
	struct ares_addrinfo_hints hints = {
		.ai_flags = ARES_AI_NOSORT,
		.ai_socktype = SOCK_STREAM,
		.ai_family = family == HB_DNS_V4_ONLY ? AF_INET :
			family == HB_DNS_V6_ONLY      ? AF_INET6 :
							AF_UNSPEC,
	};
	struct query *q = hb_calloc(1, sizeof *q);

	(void)ctx;
	q->base.magic = HB_DNS_QUERY_MAGIC;
	q->base.done = done;
	q->base.arg = arg;
	q->base.family = family;
	hb_run_init(&q->run, query_run);
	hb_list_add_tail(&queries, &q->node);
	q->ch = channel_for(s);
	if (q->ch == NULL) {
		q->error = -EIO;
		q->why = "the resolver cannot start";
		hb_run_soon(hb_worker_control(), &q->run);
		return (&q->base);
	}
	q->ch->queries++;
	q->starting = true;
	ares_getaddrinfo(q->ch->ares, name, NULL, &hints, on_answer, q);
	q->starting = false;
	rearm(q->ch);
	return (&q->base);
}

static void
cares_cancel(void *ctx, struct hb_dns_query *base)
{
	struct query *q = HB_CONTAINER(base, struct query, base);

	(void)ctx;
	HB_CHECK(base, HB_DNS_QUERY_MAGIC);
	/* c-ares can only cancel all: the answer is awaited and dropped. */
	q->cancelled = true;
}

static const struct hb_dns_resolver cares = { .query = cares_query, .cancel = cares_cancel };
static const struct hb_dns_resolver *in_use = &cares;

const struct hb_dns_resolver *
hb_dns_resolver(void)
{
	return (in_use);
}

void
hb_dns_resolver_set(const struct hb_dns_resolver *r)
{
	in_use = r == NULL ? &cares : r;
}

void
hb_dns_fini(void)
{
	struct hb_list *n;

	HB_LIST_FOREACH (n, &queries)
		HB_LIST_ENTRY(n, struct query, node)->cancelled = true;
	HB_LIST_FOREACH (n, &channels)
		ares_cancel(HB_LIST_ENTRY(n, struct channel, node)->ares);
	/* Those whose answer waits in the run queue. */
	while (!hb_list_empty(&queries))
		deliver(HB_LIST_ENTRY(queries.next, struct query, node));
	while (!hb_list_empty(&channels))
		channel_free(HB_LIST_ENTRY(channels.next, struct channel, node));
	if (ares_ready)
		ares_library_cleanup();
	ares_ready = false;
}

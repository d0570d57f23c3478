/* SPDX-License-Identifier: Apache-2.0 */
#include "test/upstreams/support.h"

#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "core/config/resource.h"
#include "core/event/io.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"

static const struct hb_resource_kind *kind;

/* ------------------------------------------------------------------ loops */

void
up_turns(unsigned n)
{
	while (n-- > 0) {
		hb_worker_turn(hb_worker_control(), false);
		hb_worker_turn(hbt_worker(), false);
	}
}

bool
up__turn(uint64_t deadline)
{
	hb_worker_turn(hb_worker_control(), false);
	return (hbt__turn(deadline));
}

void
up_advance(uint64_t ms)
{
	hb_clock_advance(hb_worker_control(), ms + ms / 16 + 16);
	hb_clock_advance(hbt_worker(), ms + ms / 16 + 16);
	up_turns(4);
}

int
up_setup(void **state)
{
	const struct hb_upstreams_options o = { .offline = false };

	(void)state;
	hb_cfg_types_init();
	(void)hbt_init(HB_IO_EPOLL);
	hb_clock_fake(hb_worker_control(), 1000000);
	hb_random_seed(42);
	assert_int_equal(hb_upstreams_init(&o, NULL), 0);
	kind = hb_resource_kind_find(HB_STR("envoy.config.cluster.v3.Cluster"));
	assert_non_null(kind);
	return (0);
}

static void
collect_name(void *arg, struct hb_cluster *c)
{
	struct hb_map *names = arg;

	if (c->live)
		(void)hb_map_put(names, hb_str(c->name), c);
}

int
up_teardown(void **state)
{
	struct hb_map *names = hb_map_new();
	struct hb_str name;
	size_t at = 0;
	void *c;

	(void)state;
	hb_cluster_foreach(collect_name, names);
	while (hb_map_next(names, &at, &name, &c)) {
		char *z = hb_strndup(name.p, name.len);

		up_remove(z);
		hb_free(z);
	}
	hb_map_free(&names);
	up_turns(8);
	hb_upstreams_stop();
	up_turns(8);
	hbt_fini();
	hb_upstreams_fini();
	hb_dns_resolver_set(NULL);
	return (0);
}

/* ------------------------------------------------------------------ clusters */

static struct hb_cfg *
parse(const char *yaml, const ProtobufCMessage **ret)
{
	struct hb_cfg *cfg = hb_cfg_new("t", NULL);

	*ret = hb_cfg_parse_text(
		cfg, hb_str(yaml), &envoy__config__cluster__v3__cluster__descriptor);
	return (cfg);
}

static void
no_errors(struct hb_cfg *cfg)
{
	char line[2048];

	if (!hb_errs_any(hb_cfg_errs(cfg)))
		return;
	(void)hb_err_format(&hb_cfg_errs(cfg)->v[0], line, sizeof line);
	fail_msg("%s", line);
}

struct hb_cluster *
up_compile(const char *yaml)
{
	const ProtobufCMessage *msg;
	struct hb_cfg *cfg = parse(yaml, &msg);
	void *obj = NULL;

	no_errors(cfg);
	(void)kind->compile(cfg, msg, &obj);
	no_errors(cfg);
	hb_cfg_free(&cfg);
	return (obj);
}

struct hb_cluster *
up_cluster(const char *fmt, ...)
{
	const ProtobufCMessage *msg;
	struct hb_cluster *c;
	struct hb_text yaml = { 0 };
	struct hb_cfg *cfg;
	struct hb_str name;
	char *z;
	va_list ap;

	va_start(ap, fmt);
	hb_text_vprintf(&yaml, fmt, ap);
	va_end(ap);
	cfg = parse(yaml.p, &msg);
	no_errors(cfg);
	name = kind->name_of(msg);
	z = hb_strndup(name.p, name.len);
	(void)hb_resource_apply(cfg, kind, z, "", HB_RESOURCE_STATIC, msg);
	no_errors(cfg);
	hb_cfg_free(&cfg);
	hb_text_fini(&yaml);
	c = hb_cluster_find(hb_str(z));
	hb_free(z);
	return (c);
}

void
up_refused(const char *yaml, ...)
{
	const ProtobufCMessage *msg;
	struct hb_cfg *cfg = parse(yaml, &msg);
	const char *want;
	char line[2048];
	size_t i = 0;
	void *obj;
	va_list ap;

	no_errors(cfg);
	assert_int_equal(kind->compile(cfg, msg, &obj), -EINVAL);
	va_start(ap, yaml);
	for (; (want = va_arg(ap, const char *)) != NULL; i++) {
		if (i >= hb_cfg_errs(cfg)->n)
			fail_msg("error %zu is missing: %s", i, want);
		(void)hb_err_format(&hb_cfg_errs(cfg)->v[i], line, sizeof line);
		if (strstr(line, want) == NULL)
			fail_msg("expected \"%s\" in \"%s\"", want, line);
	}
	va_end(ap);
	if (i < hb_cfg_errs(cfg)->n) {
		(void)hb_err_format(&hb_cfg_errs(cfg)->v[i], line, sizeof line);
		fail_msg("an error too many: %s", line);
	}
	hb_cfg_free(&cfg);
}

void
up_warns(const char *yaml, const char *part)
{
	const ProtobufCMessage *msg;
	struct hb_cfg *cfg = parse(yaml, &msg);
	void *obj;

	no_errors(cfg);
	assert_int_equal(kind->compile(cfg, msg, &obj), 0);
	assert_int_equal(hb_cfg_warnings(cfg)->n, 1);
	if (strstr(hb_cfg_warnings(cfg)->v[0].text, part) == NULL)
		fail_msg("expected \"%s\" in \"%s\"", part, hb_cfg_warnings(cfg)->v[0].text);
	kind->discard(obj);
	hb_cfg_free(&cfg);
}

void
up_remove(const char *name)
{
	assert_true(hb_resource_remove(kind, name, HB_RESOURCE_STATIC));
}

int64_t
up_stat(const struct hb_cluster *c, enum hb_cluster_stat i)
{
	return (hb_stat_value(c->stats, i));
}

const char *
up_endpoints(const uint16_t *ports, size_t n)
{
	static char text[4096];
	size_t at = 0;

	for (size_t i = 0; i < n; i++)
		at += (size_t)snprintf(text + at, sizeof text - at,
			"%s{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %u}}}}",
			i == 0 ? "[" : ", ", ports[i]);
	(void)snprintf(text + at, sizeof text - at, "]");
	return (text);
}

/* ------------------------------------------------------------------ servers */

static int
bound(uint16_t *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*port = ntohs(a.sin_port);
	return (fd);
}

int
up_listen(uint16_t *ret_port)
{
	int fd = bound(ret_port);

	assert_int_equal(listen(fd, 128), 0);
	return (fd);
}

int
up_listen6(uint16_t port)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
		.sin6_port = htons(port) };
	int on = 1, fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return (-1);
	(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 128) != 0) {
		(void)close(fd);
		return (-1);
	}
	return (fd);
}

uint16_t
up_closed_port(void)
{
	uint16_t port;

	(void)close(bound(&port));
	return (port);
}

int
up_hanging(uint16_t *ret_port, int ret_extra[4])
{
	int fd = bound(ret_port);
	struct sockaddr_in a = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons(*ret_port) };

	assert_int_equal(listen(fd, 0), 0);
	for (int i = 0; i < 4; i++) {
		ret_extra[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)connect(ret_extra[i], (struct sockaddr *)&a, sizeof a);
	}
	return (fd);
}

int
up_accept(int fd)
{
	int c = -1;

	UP_UNTIL((c = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0);
	return (c);
}

/* ------------------------------------------------------------------ dials */

static void
copy(char *dst, size_t cap, struct hb_str s)
{
	(void)snprintf(dst, cap, "%.*s", HB_STR_FMT(s));
}

static void
on_done(void *arg, struct hb_transport *t, enum hb_close_reason reason,
	const struct hb_upstream_info *info)
{
	struct up_dial *d = arg;

	d->done++;
	d->dial = NULL;
	d->t = t;
	d->reason = reason;
	d->endpoint = info->endpoint;
	d->local = info->local;
	d->attempts = info->attempts;
	copy(d->host, sizeof d->host, info->endpoint_host);
	copy(d->peer, sizeof d->peer, info->tls_peer);
	copy(d->failure, sizeof d->failure, info->failure);
	HB_ASSERT((t == NULL) == (reason != HB_CLOSE_NONE));
	HB_ASSERT(t == NULL || (t->secured && t->read_disabled == 1));
}

static void
ignore_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	(void)sink;
	(void)t;
	(void)end;
	hb_buf_fini(buf);
}

static void
forget(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	struct up_dial *d = sink;

	(void)t;
	d->t = NULL;
	d->reason = reason;
}

static const struct hb_transport_events held = { .on_data = ignore_data, .on_closed = forget };

void
up_hold(struct up_dial *d)
{
	hb_transport_attach(d->t, &held, d);
	hb_transport_read_disable(d->t, -1);
}

void
up_dial_start(
	struct up_dial *d, const char *cluster, unsigned attempts, const struct hb_facts *facts)
{
	struct hb_dial_request rq = {
		.cluster = hb_str(cluster),
		.facts = facts,
		.attempts_max = attempts,
		.local = true,
		.arg = d,
		.on_done = on_done,
	};

	memset(d, 0, sizeof *d);
	d->dial = hb_dial(hbt_worker(), &rq);
	assert_int_equal(d->done, 0);
}

uint16_t
up_dial(struct up_dial *d, const char *cluster, unsigned attempts, const struct hb_facts *facts)
{
	up_dial_start(d, cluster, attempts, facts);
	UP_UNTIL(d->done == 1);
	if (d->t == NULL)
		return (0);
	up_hold(d);
	return (d->endpoint.port);
}

void
up_close(struct up_dial *d)
{
	if (d->t != NULL)
		hb_transport_abort(&d->t, HB_CLOSE_LOCAL_CLOSE);
	up_turns(2);
}

/* ------------------------------------------------------------------ names */

#define FAKE_MAX 32

static struct {
	char name[64];
	struct hb_addr v[16];
	size_t n;
	bool fails;
	uint64_t ttl_ms;
} answers[FAKE_MAX];
static size_t n_answers;

struct fake {
	struct hb_dns_query base;
	struct hb_list node;
	char name[64];
};
static struct hb_list waiting = { &waiting, &waiting };
static unsigned n_asked;

static struct hb_dns_query *
fake_query(void *ctx, const struct hb_dns_settings *s, const char *name, enum hb_dns_family family,
	void (*done)(void *, const struct hb_dns_answer *), void *arg)
{
	struct fake *q = hb_calloc(1, sizeof *q);

	(void)ctx;
	(void)s;
	q->base.done = done;
	q->base.arg = arg;
	q->base.family = family;
	(void)snprintf(q->name, sizeof q->name, "%s", name);
	hb_list_add_tail(&waiting, &q->node);
	n_asked++;
	return (&q->base);
}

static void
fake_cancel(void *ctx, struct hb_dns_query *base)
{
	struct fake *q = HB_CONTAINER(base, struct fake, base);

	(void)ctx;
	hb_list_del(&q->node);
	hb_free(q);
}

static const struct hb_dns_resolver fake_resolver = { .query = fake_query, .cancel = fake_cancel };

void
up_dns_fake(void)
{
	n_answers = 0;
	n_asked = 0;
	hb_dns_resolver_set(&fake_resolver);
}

void
up_answer(const char *name, const char *addrs, uint64_t ttl_ms)
{
	char text[1024], *save = NULL;
	size_t i;

	for (i = 0; i < n_answers && strcmp(answers[i].name, name) != 0; i++)
		;
	assert_true(i < FAKE_MAX);
	n_answers = HB_MAX(n_answers, i + 1);
	(void)snprintf(answers[i].name, sizeof answers[i].name, "%s", name);
	answers[i].n = 0;
	answers[i].fails = addrs == NULL;
	answers[i].ttl_ms = ttl_ms;
	(void)snprintf(text, sizeof text, "%s", addrs == NULL ? "" : addrs);
	for (char *p = strtok_r(text, " ", &save); p != NULL; p = strtok_r(NULL, " ", &save))
		assert_true(hb_addr_parse_ip(hb_str(p), &answers[i].v[answers[i].n++]));
}

unsigned
up_dns_waiting(void)
{
	struct hb_list *n;
	unsigned count = 0;

	HB_LIST_FOREACH (n, &waiting)
		count++;
	return (count);
}

unsigned
up_dns_asked(void)
{
	return (n_asked);
}

static void
deliver(struct fake *q)
{
	struct hb_dns_answer a = { .error = -ENOENT, .why = "no such name" };
	struct hb_addr v[16];

	for (size_t i = 0; i < n_answers; i++) {
		if (strcmp(answers[i].name, q->name) != 0)
			continue;
		if (answers[i].fails) {
			a.error = -EIO;
			a.why = "the server does not answer";
		} else if (answers[i].n > 0) {
			memcpy(v, answers[i].v, sizeof v);
			a.error = 0;
			a.v = v;
			a.n = hb_dns_select(v, answers[i].n, q->base.family);
			a.ttl_ms = answers[i].ttl_ms;
		}
	}
	hb_list_del(&q->node);
	q->base.done(q->base.arg, &a);
	hb_free(q);
}

void
up_dns_deliver(void)
{
	struct hb_worker *was = hb_worker_current();

	hb_worker_enter(hb_worker_control());
	while (!hb_list_empty(&waiting))
		deliver(HB_LIST_ENTRY(waiting.next, struct fake, node));
	hb_worker_enter(was);
	up_turns(4);
}

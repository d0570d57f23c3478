/* SPDX-License-Identifier: Apache-2.0 */
#include "test/listeners/listener_env.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "core/filter/filter.h"
#include "core/stats/access_log.h"
#include "core/transport/transport.h"
#include "envoy/config/listener/v3/listener.pb-c.h"

extern const struct hb_filter_type hb_lfilter_tls_inspector, hb_lfilter_http_inspector,
	hb_lfilter_proxy_protocol, hb_lfilter_original_dst;

unsigned le_drained;
struct hb_facts le_last_facts;
struct hb_text le_received;
static struct hb_text errors;
static bool le_threads; /* filters share nothing then */

/* ------------------------------------------------------------------ the filter */

static enum hb_filter_status
name_on_connected(struct hb_filter *f)
{
	struct hb_buf b = { 0 };

	if (!le_threads) {
		hb_facts_fini(&le_last_facts);
		hb_facts_copy(&le_last_facts, hb_filter_facts(f));
	}
	hb_buf_addz(&b, hb_filter_chain_name(f));
	hb_buf_addz(&b, "\n");
	hb_filter_write(f, &b, false);
	return (HB_FILTER_CONTINUE);
}

static enum hb_filter_status
name_on_read(struct hb_filter *f, struct hb_buf *buf, bool end)
{
	struct hb_buf out = { 0 };
	uint8_t bytes[4096];
	size_t n;

	while ((n = hb_buf_copyout(buf, 0, bytes, sizeof bytes)) > 0) {
		if (!le_threads)
			hb_text_add(&le_received, bytes, n);
		hb_buf_drain(buf, n);
		if (n >= 5 && memcmp(bytes + n - 5, "ping\n", 5) == 0)
			hb_buf_addz(&out, "ping\n");
	}
	if (out.len > 0 || end)
		hb_filter_write(f, &out, end);
	return (HB_FILTER_CONTINUE);
}

static void
name_on_event(struct hb_filter *f, enum hb_event ev)
{
	if (!le_threads)
		le_drained += ev == HB_EVENT_DRAIN;
}

static const struct hb_filter_type filter_name = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.flags = HB_FILTER_TERMINAL,
	.kind = HB_FILTER_NETWORK,
	.name = "test.name",
	.on_connected = name_on_connected,
	.on_read = name_on_read,
	.on_event = name_on_event,
};

/* ------------------------------------------------------------------ life */

static void
each_worker(void (*fn)(struct hb_worker *, uint64_t), uint64_t arg)
{
	fn(hb_worker_control(), arg);
	for (unsigned i = 0; i < hb_workers_count(); i++)
		fn(hb_worker_at(i), arg);
}

static void
init_rooms(const struct hb_listeners_options *o)
{
	static const struct hb_filter_type *const types[] = { &filter_name,
		&hb_lfilter_tls_inspector, &hb_lfilter_http_inspector, &hb_lfilter_proxy_protocol,
		&hb_lfilter_original_dst };
	static bool once;
	struct hb_listeners_options dflt = { .drain_time_ms = 25000 };
	struct hb_err err;

	for (size_t i = 0; i < HB_ARRAY_LEN(types) && !once; i++)
		HB_ASSERT(hb_filter_register(types[i], &err) == 0);
	if (!once)
		hb_cfg_types_init();
	once = true;
	hb_facts_init(&le_last_facts);
	le_drained = 0;
	HB_ASSERT(hb_listeners_init(o == NULL ? &dflt : o, &err) == 0);
}

void
le_init(const struct hb_listeners_options *o)
{
	struct hb_err err;

	HB_ASSERT(hb_workers_init(LE_WORKERS, &err) == 0);
	each_worker(hb_clock_fake, 1000000);
	init_rooms(o);
}

void
le_init_real(const struct hb_listeners_options *o)
{
	struct hb_err err;

	HB_ASSERT(hb_workers_init(LE_WORKERS, &err) == 0);
	le_threads = true;
	init_rooms(o);
}

static bool
any_left(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < hb_workers_count(); i++)
		n += (unsigned)hb_conn_count(hb_worker_at(i)) +
			hb_transport_lingering(hb_worker_at(i));
	return (n > 0);
}

static void
first_name(void *arg, const struct hb_resource_view *v)
{
	char **name = arg;

	if (*name == NULL)
		*name = hb_strdup(v->name);
}

/* The registry of resources outlives a test. */
static void
forget_all(void)
{
	char *name;

	do {
		name = NULL;
		hb_resource_foreach(first_name, &name);
		if (name != NULL)
			(void)hb_resource_remove(
				hb_resource_kind_find(HB_STR("envoy.config.listener.v3.Listener")),
				name, HB_RESOURCE_STATIC);
		hb_free(name);
	} while (name != NULL);
}

static void
end_rooms(void)
{
	hb_workers_at_end(hb_transport_worker_fini);
	hb_workers_at_end(hb_conn_worker_fini);
	hb_workers_fini();
	hb_access_log_fini();
	hb_listeners_fini();
}

void
le_fini(void)
{
	forget_all();
	hb_listeners_close_all(HB_CLOSE_SHUTDOWN);
	LE_UNTIL(!any_left());
	/* Lingering memory of chains, and retired objects. */
	le_advance(20000);
	HB_ASSERT(hb_listeners_connections() == 0);
	hb_facts_fini(&le_last_facts);
	hb_text_fini(&errors);
	hb_text_fini(&le_received);
	end_rooms();
}

static void
on_quiet(struct hb_timer *t)
{
	if (hb_listeners_connections() > 0)
		hb_timer_start(t, 10);
	else
		hb_control_stop();
}

void
le_fini_real(void)
{
	struct hb_timer t;

	hb_timer_init(&t, hb_worker_control(), on_quiet);
	forget_all();
	hb_listeners_close_all(HB_CLOSE_SHUTDOWN);
	hb_timer_start(&t, 10);
	hb_control_run();
	end_rooms();
	le_threads = false;
}

void
le_turn(void)
{
	hb_worker_turn(hb_worker_control(), false);
	for (unsigned i = 0; i < hb_workers_count(); i++)
		hb_worker_turn(hb_worker_at(i), false);
}

void
le_advance(uint64_t ms)
{
	for (unsigned i = 0; i < 5; i++)
		le_turn();
	/* In steps: periodic timers run as often as they would. */
	for (uint64_t done = 0; done < ms; done += 500) {
		each_worker(hb_clock_advance, HB_MIN((uint64_t)500, ms - done));
		le_turn();
	}
	for (unsigned i = 0; i < 5; i++)
		le_turn();
}

uint64_t
le__deadline(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000);
}

/* ------------------------------------------------------------------ listeners */

static const struct hb_resource_kind *
kind(void)
{
	return (hb_resource_kind_find(HB_STR("envoy.config.listener.v3.Listener")));
}

const char *
le_apply(const char *yaml)
{
	struct hb_cfg *cfg = hb_cfg_new("test", NULL);
	const ProtobufCMessage *m = hb_cfg_parse_text(
		cfg, hb_str(yaml), &envoy__config__listener__v3__listener__descriptor);
	char line[2048];

	hb_text_fini(&errors);
	hb_text_addz(&errors, "");
	if (m != NULL)
		(void)hb_resource_apply(
			cfg, kind(), kind()->name_of(m).p, "", HB_RESOURCE_STATIC, m);
	for (size_t i = 0; i < hb_cfg_errs(cfg)->n; i++) {
		hb_err_format(&hb_cfg_errs(cfg)->v[i], line, sizeof line);
		hb_text_printf(&errors, "%s\n", line);
	}
	hb_cfg_free(&cfg);
	return (errors.p == NULL ? "" : errors.p);
}

void
le_apply_ok(const char *yaml)
{
	const char *e = le_apply(yaml);

	if (*e != '\0')
		fprintf(stderr, "%s", e);
	HB_ASSERT(*e == '\0');
}

void
le_remove(const char *name)
{
	HB_ASSERT(hb_resource_remove(kind(), name, HB_RESOURCE_STATIC));
}

struct port_search {
	const char *name;
	unsigned n;
	uint16_t port;
};

static void
port_of(void *arg, const char *name, const struct hb_addr *bound)
{
	struct port_search *s = arg;

	if (strcmp(name, s->name) == 0 && s->n-- == 0)
		s->port = bound->port;
}

uint16_t
le_port(const char *listener, unsigned n)
{
	struct port_search s = { listener, n, 0 };

	hb_listeners_foreach(port_of, &s);
	HB_ASSERT(s.port != 0);
	return (s.port);
}

int64_t
le_stat(const char *text_name)
{
	struct hb_text t = { 0 };
	char *key = hb_asprintf("\n%s: ", text_name), *at;
	int64_t v = -1;

	hb_text_addc(&t, '\n');
	hb_stats_text(&t, NULL);
	at = strstr(t.p, key);
	if (at != NULL)
		v = strtoll(at + strlen(key), NULL, 10);
	hb_text_fini(&t);
	hb_free(key);
	return (v);
}

int64_t
le_lstat(const char *listener, const char *stat)
{
	char name[200];

	(void)snprintf(name, sizeof name, "listener.127.0.0.1_%u.%s", le_port(listener, 0), stat);
	return (le_stat(name));
}

uint64_t
le_conns(unsigned worker)
{
	return (hb_conn_count(hb_worker_at(worker)));
}

/* ------------------------------------------------------------------ clients */

static void
connected(struct le_client *c, int family, const void *sa, socklen_t len)
{
	memset(c, 0, sizeof *c);
	c->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	HB_ASSERT(c->fd >= 0);
	/* The kernel completes it by the accept queue alone. */
	HB_ASSERT(connect(c->fd, sa, len) == 0);
	HB_ASSERT(fcntl(c->fd, F_SETFL, O_NONBLOCK) == 0);
}

void
le_connect(struct le_client *c, uint16_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	connected(c, AF_INET, &sin, sizeof sin);
}

void
le_connect_unix(struct le_client *c, const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	size_t n = strlen(path);

	memcpy(sun.sun_path, path, n);
	if (path[0] == '@')
		sun.sun_path[0] = '\0';
	connected(c, AF_UNIX, &sun,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (path[0] != '@')));
}

void
le_send(struct le_client *c, const void *p, size_t n)
{
	HB_ASSERT(send(c->fd, p, n, MSG_NOSIGNAL) == (ssize_t)n);
}

bool
le_poll(struct le_client *c)
{
	ssize_t n = recv(c->fd, c->got + c->n, sizeof c->got - 1 - c->n, 0);

	if (n > 0) {
		c->n += (size_t)n;
		c->got[c->n] = '\0';
		return (true);
	}
	if (n == 0)
		c->ended = true;
	else if (errno != EAGAIN)
		c->reset = true;
	return (c->ended || c->reset);
}

static bool
has_line(struct le_client *c)
{
	(void)le_poll(c);
	return (memchr(c->got, '\n', c->n) != NULL || c->ended || c->reset);
}

void
le_expect_line(struct le_client *c, const char *line)
{
	char *lf;
	size_t n;

	LE_UNTIL(has_line(c));
	lf = memchr(c->got, '\n', c->n);
	if (lf == NULL || (size_t)(lf - c->got) != strlen(line) ||
		memcmp(c->got, line, strlen(line)) != 0)
		fprintf(stderr, "want \"%s\", got \"%.*s\" ended=%d reset=%d\n", line, (int)c->n,
			c->got, c->ended, c->reset);
	HB_ASSERT(lf != NULL && (size_t)(lf - c->got) == strlen(line));
	HB_ASSERT(memcmp(c->got, line, strlen(line)) == 0);
	n = (size_t)(lf - c->got) + 1;
	memmove(c->got, c->got + n, c->n - n);
	c->n -= n;
}

void
le_expect_reset(struct le_client *c)
{
	LE_UNTIL(le_poll(c));
	HB_ASSERT(c->reset && c->n == 0);
}

void
le_expect_silence(struct le_client *c)
{
	for (unsigned i = 0; i < 20; i++)
		le_turn();
	HB_ASSERT(!le_poll(c));
}

void
le_expect_echo(struct le_client *c)
{
	le_send(c, "ping\n", 5);
	le_expect_line(c, "ping");
}

void
le_close(struct le_client *c)
{
	if (c->fd >= 0)
		(void)close(c->fd);
	c->fd = -1;
}

/* ------------------------------------------------------------------ hellos */

struct out {
	uint8_t *p;
	size_t n, cap;
};

static void
put(struct out *o, unsigned bytes, size_t v)
{
	HB_ASSERT(o->n + bytes <= o->cap);
	while (bytes-- > 0)
		o->p[o->n++] = (uint8_t)(v >> (8 * bytes));
}

static void
put_bytes(struct out *o, unsigned length, const char *p, size_t n)
{
	put(o, length, n);
	HB_ASSERT(o->n + n <= o->cap);
	memcpy(o->p + o->n, p, n);
	o->n += n;
}

static size_t
open_vec(struct out *o)
{
	put(o, 2, 0);
	return (o->n);
}

static void
close_vec(struct out *o, size_t at)
{
	o->p[at - 2] = (uint8_t)((o->n - at) >> 8);
	o->p[at - 1] = (uint8_t)(o->n - at);
}

static void
put_alpn(struct out *o, const char *alpn)
{
	size_t ext, list;

	put(o, 2, 16);
	ext = open_vec(o);
	list = open_vec(o);
	while (*alpn != '\0') {
		size_t n = strcspn(alpn, ",");

		put_bytes(o, 1, alpn, n);
		alpn += n + (alpn[n] == ',');
	}
	close_vec(o, list);
	close_vec(o, ext);
}

size_t
le_hello(uint8_t *to, size_t cap, const char *sni, const char *alpn)
{
	static const uint8_t random[32];
	struct out o = { to, 0, cap };
	size_t record, message, extensions, ext, list;

	put(&o, 3, 0x160301);
	record = open_vec(&o);
	put(&o, 2, 0x0100);
	message = open_vec(&o);
	put(&o, 2, 0x0303);
	put_bytes(&o, 0, (const char *)random, sizeof random);
	put(&o, 1, 0);
	put(&o, 2, 2);
	put(&o, 2, 0x1301);
	put(&o, 2, 0x0100);
	extensions = open_vec(&o);
	if (sni != NULL) {
		put(&o, 2, 0);
		ext = open_vec(&o);
		list = open_vec(&o);
		put(&o, 1, 0);
		put_bytes(&o, 2, sni, strlen(sni));
		close_vec(&o, list);
		close_vec(&o, ext);
	}
	if (alpn != NULL)
		put_alpn(&o, alpn);
	close_vec(&o, extensions);
	close_vec(&o, message);
	close_vec(&o, record);
	return (o.n);
}

void
le_send_hello(struct le_client *c, const char *sni, const char *alpn)
{
	uint8_t hello[1024];
	size_t n = le_hello(hello, sizeof hello, sni, alpn);

	le_send(c, hello, n);
}

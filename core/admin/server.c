/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server of the admin pages: libh2o, on the control thread's loop. */
#include <h2o.h>
#include <h2o/http1.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "core/admin/admin_priv.h"
#include "core/base/list.h"
#include "core/base/log.h"
#include "core/stats/stats.h"

#define CONNECTIONS_MAX 64u
#define BODY_MAX        (64u * 1024u)
#define REQUEST_MS      30000u
#define PARAMS_MAX      32u
#define ENDPOINTS_MAX   64u
#define STOP_TURNS      200u

#define ADMIN_STATS(X)                                                                         \
	X(ADMIN_REQUESTS, "requests", COUNTER, "Requests answered by the admin server.")       \
	X(ADMIN_CX, "cx_active", GAUGE, "Open admin connections.")                             \
	X(ADMIN_CX_OVERFLOW, "cx_overflow", COUNTER, "Admin connections closed at the limit.") \
	X(ADMIN_REFUSED, "refused", COUNTER, "Requests with a bad method, path or parameter.")

enum admin_stat { ADMIN_STATS(HB_STAT_ENUM) ADMIN_STAT_MAX };
HB_STAT_FAMILY(admin_family, "admin", "hbone_admin", NULL, ADMIN_STATS);

enum door { DOOR_ADMIN, DOOR_METRICS, DOOR_READY, DOOR_MAX };

struct hb_admin_request {
	unsigned magic;
#define HB_ADMIN_REQUEST_MAGIC 0x61d0e511
	h2o_req_t *req;                   /* NULL once the client is gone     */
	struct hb_admin_request **anchor; /* in the request's pool: nulls `req` when that goes */
	bool is_post;
	struct hb_str name[PARAMS_MAX], value[PARAMS_MAX];
	size_t n_params;
	char *decoded; /* owned: names and values          */
};

union any_stream {
	uv_stream_t stream;
	uv_tcp_t tcp;
	uv_pipe_t pipe; /* larger than uv_tcp_t */
};

struct door_state {
	union any_stream u;
	h2o_accept_ctx_t accept;
	h2o_hostconf_t *host;
	struct hb_addr bound;
	bool open;
};

struct admin_conn {
	union any_stream u;
	struct hb_list node;
};

static struct {
	h2o_globalconf_t config;
	h2o_context_t context;
	struct door_state door[DOOR_MAX];
	struct hb_list conns;
	unsigned n_conns;
	const struct hb_admin_endpoint *endpoint[ENDPOINTS_MAX + 1];
	size_t n_endpoints;
	struct hb_stats *stats;
	bool (*allowed)(struct hb_str);
	bool started;
	char unix_path[sizeof((struct sockaddr_un *)0)->sun_path];
} admin;

void
hb_admin_add(const struct hb_admin_endpoint *ep)
{
	HB_ASSERT(admin.n_endpoints < ENDPOINTS_MAX);
	admin.endpoint[admin.n_endpoints++] = ep;
}

const struct hb_admin_endpoint *
hb_admin_endpoint_at(size_t i)
{
	return (i < admin.n_endpoints ? admin.endpoint[i] : NULL);
}

/* ------------------------------------------------------------------ requests */

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return (c - '0');
	c |= 0x20;
	return (c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1);
}

/* Percent and plus decoding in place of `to`; returns the length. */
static size_t
decode(const char *from, size_t n, char *to)
{
	size_t out = 0;

	for (size_t i = 0; i < n; i++) {
		if (from[i] == '%' && i + 2 < n && hex(from[i + 1]) >= 0 && hex(from[i + 2]) >= 0) {
			to[out++] = (char)(hex(from[i + 1]) << 4 | hex(from[i + 2]));
			i += 2;
		} else {
			to[out++] = from[i] == '+' ? ' ' : from[i];
		}
	}
	return (out);
}

static void
parse_query(struct hb_admin_request *rq, const char *q, size_t n)
{
	char *to = rq->decoded = hb_malloc(n + 1);

	while (n > 0 && rq->n_params < PARAMS_MAX) {
		const char *amp = memchr(q, '&', n), *eq;
		size_t len = amp == NULL ? n : (size_t)(amp - q), name_len;

		eq = memchr(q, '=', len);
		name_len = eq == NULL ? len : (size_t)(eq - q);
		if (name_len > 0) {
			size_t k = decode(q, name_len, to);

			rq->name[rq->n_params] = hb_strn(to, k);
			to += k;
			k = eq == NULL ? 0 : decode(eq + 1, len - name_len - 1, to);
			rq->value[rq->n_params++] = hb_strn(to, k);
			to += k;
		}
		q += amp == NULL ? len : len + 1;
		n -= amp == NULL ? len : len + 1;
	}
}

struct hb_str
hb_admin_param(struct hb_admin_request *rq, const char *name)
{
	for (size_t i = 0; i < rq->n_params; i++)
		if (hb_str_eq(rq->name[i], hb_str(name)))
			return (rq->value[i]);
	return ((struct hb_str){ 0 });
}

bool
hb_admin_param_at(struct hb_admin_request *rq, size_t i, struct hb_str *name, struct hb_str *value)
{
	if (i >= rq->n_params)
		return (false);
	*name = rq->name[i];
	*value = rq->value[i];
	return (true);
}

bool
hb_admin_is_post(const struct hb_admin_request *rq)
{
	return (rq->is_post);
}

/* The pool of the HTTP request goes: the client left or the answer was sent. */
static void
anchor_dispose(void *p)
{
	struct hb_admin_request **anchor = p;

	if (*anchor != NULL)
		(*anchor)->req = NULL;
}

static struct hb_admin_request *
request_new(h2o_req_t *req)
{
	struct hb_admin_request *rq;

	HB_NEW(rq, HB_ADMIN_REQUEST_MAGIC);
	rq->req = req;
	rq->anchor = h2o_mem_alloc_shared(&req->pool, sizeof *rq->anchor, anchor_dispose);
	*rq->anchor = rq;
	if (req->query_at != SIZE_MAX)
		parse_query(
			rq, req->path.base + req->query_at + 1, req->path.len - req->query_at - 1);
	return (rq);
}

static void
request_free(struct hb_admin_request *rq)
{
	if (rq->req != NULL)
		*rq->anchor = NULL;
	hb_free(rq->decoded);
	HB_DEL(rq);
}

static const char *
reason_of(int status)
{
	switch (status) {
	case 200:
		return ("OK");
	case 400:
		return ("Bad Request");
	case 403:
		return ("Forbidden");
	case 404:
		return ("Not Found");
	case 405:
		return ("Method Not Allowed");
	case 503:
		return ("Service Unavailable");
	default:
		return ("Error");
	}
}

void
hb_admin_reply(struct hb_admin_request *rq, int status, const char *type, struct hb_text *text)
{
	static h2o_generator_t generator;
	h2o_req_t *req = rq->req;
	h2o_iovec_t body;

	HB_CHECK(rq, HB_ADMIN_REQUEST_MAGIC);
	hb_stat_inc(hb_worker_control(), admin.stats,
		status < 400 || status >= 500 ? ADMIN_REQUESTS : ADMIN_REFUSED);
	if (req != NULL) {
		if (type == NULL)
			type = "text/plain; charset=UTF-8";
		body = h2o_strdup(&req->pool, text->p == NULL ? "" : text->p, text->len);
		req->res.status = status;
		req->res.reason = reason_of(status);
		req->res.content_length = body.len;
		h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, type,
			strlen(type));
		h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CACHE_CONTROL, NULL,
			H2O_STRLIT("no-cache, max-age=0"));
		h2o_add_header_by_str(&req->pool, &req->res.headers,
			H2O_STRLIT("x-content-type-options"), 0, NULL, H2O_STRLIT("nosniff"));
		if (status == 405)
			h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("allow"), 0,
				NULL, H2O_STRLIT("POST"));
		h2o_start_response(req, &generator);
		h2o_send(req, &body, 1, H2O_SEND_STATE_FINAL);
	}
	hb_text_fini(text);
	request_free(rq);
}

void
hb_admin_replyf(struct hb_admin_request *rq, int status, const char *fmt, ...)
{
	struct hb_text t = { 0 };
	va_list ap;

	va_start(ap, fmt);
	hb_text_vprintf(&t, fmt, ap);
	va_end(ap);
	hb_admin_reply(rq, status, NULL, &t);
}

/* ------------------------------------------------------------------ routing */

/* Public addresses serve one page each, under the names that probes and scrapers use. */
static struct hb_str
public_path(enum door door, struct hb_str path)
{
	if (door == DOOR_METRICS &&
		(hb_str_eq(path, HB_STR("/metrics")) ||
			hb_str_eq(path, HB_STR("/stats/prometheus"))))
		return (HB_STR("/stats/prometheus"));
	if (door == DOOR_READY &&
		(hb_str_eq(path, HB_STR("/healthz/ready")) || hb_str_eq(path, HB_STR("/ready"))))
		return (HB_STR("/ready"));
	return (HB_STR(""));
}

static const struct hb_admin_endpoint *
find_endpoint(struct hb_str path)
{
	for (size_t i = 0; i < admin.n_endpoints; i++)
		if (hb_str_eq(path, hb_str(admin.endpoint[i]->path)))
			return (admin.endpoint[i]);
	return (NULL);
}

static int
on_request(enum door door, h2o_req_t *req)
{
	struct hb_admin_request *rq = request_new(req);
	size_t len = req->query_at == SIZE_MAX ? req->path.len : req->query_at;
	struct hb_str path = hb_strn(req->path.base, len),
		      method = hb_strn(req->method.base, req->method.len);
	bool post = hb_str_eq(method, HB_STR("POST")), get = hb_str_eq(method, HB_STR("GET"));
	const struct hb_admin_endpoint *ep;

	rq->is_post = post;
	if (door != DOOR_ADMIN)
		path = public_path(door, path);
	ep = find_endpoint(path);
	if (ep == NULL || (door != DOOR_ADMIN && (ep->flags & HB_ADMIN_PUBLIC) == 0))
		hb_admin_replyf(
			rq, 404, "no such page%s\n", door == DOOR_ADMIN ? "; see /help" : "");
	else if (door == DOOR_ADMIN && admin.allowed != NULL && !admin.allowed(path))
		hb_admin_replyf(rq, 403, "admin.allow_paths does not allow this page\n");
	else if ((ep->flags & HB_ADMIN_MUTATES) != 0 && !post)
		hb_admin_replyf(rq, 405, "this page changes state: use POST\n");
	else if (!get && !post && !hb_str_eq(method, HB_STR("HEAD")))
		hb_admin_replyf(rq, 405, "use GET or POST\n");
	else if (door != DOOR_ADMIN && post)
		hb_admin_replyf(rq, 405, "this address is read-only\n");
	else
		ep->fn(rq);
	return (0);
}

static int
on_admin(h2o_handler_t *self, h2o_req_t *req)
{
	(void)self;
	return (on_request(DOOR_ADMIN, req));
}

static int
on_metrics(h2o_handler_t *self, h2o_req_t *req)
{
	(void)self;
	return (on_request(DOOR_METRICS, req));
}

static int
on_ready(h2o_handler_t *self, h2o_req_t *req)
{
	(void)self;
	return (on_request(DOOR_READY, req));
}

/* ------------------------------------------------------------------ sockets */

static void
conn_closed(uv_handle_t *h)
{
	struct admin_conn *c = HB_CONTAINER(h, struct admin_conn, u);

	hb_list_del(&c->node);
	admin.n_conns--;
	hb_stat_add(hb_worker_control(), admin.stats, ADMIN_CX, -1);
	free(c); /* libh2o's allocator is malloc */
}

static void
on_accept(uv_stream_t *listener, int status)
{
	struct door_state *d = HB_CONTAINER(listener, struct door_state, u);
	struct admin_conn *c;

	if (status != 0)
		return;
	c = h2o_mem_alloc(sizeof *c);
	if (listener->type == UV_NAMED_PIPE)
		uv_pipe_init(listener->loop, &c->u.pipe, 0);
	else
		uv_tcp_init(listener->loop, &c->u.tcp);
	hb_list_init(&c->node);
	hb_list_add_tail(&admin.conns, &c->node);
	admin.n_conns++;
	hb_stat_inc(hb_worker_control(), admin.stats, ADMIN_CX);
	if (uv_accept(listener, &c->u.stream) != 0) {
		uv_close((uv_handle_t *)&c->u, conn_closed);
		return;
	}
	if (admin.n_conns > CONNECTIONS_MAX) {
		hb_stat_inc(hb_worker_control(), admin.stats, ADMIN_CX_OVERFLOW);
		uv_close((uv_handle_t *)&c->u, conn_closed);
		return;
	}
	h2o_accept(&d->accept, h2o_uv_socket_create(&c->u.stream, conn_closed));
}

static int
door_error(const struct hb_addr *a, int r, struct hb_err *reterr)
{
	char text[HB_ADDR_TEXT_MAX];

	hb_addr_format(a, text, sizeof text);
	return (hb_err_set(reterr, r,
		"admin cannot listen on %s: %s; choose another address (0 picks a free port)", text,
		uv_strerror(r)));
}

static int
open_unix(struct door_state *d, const struct hb_addr *a, mode_t mode)
{
	struct stat st;
	int r;

	/* A socket of a process that is gone would be in the way; a file of another kind stays. */
	if (stat(a->u.name, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(a->u.name);
	uv_pipe_init(hb_worker_control()->loop, &d->u.pipe, 0);
	d->open = true;
	r = uv_pipe_bind(&d->u.pipe, a->u.name);
	if (r == 0 && chmod(a->u.name, mode == 0 ? 0600 : mode) != 0)
		r = -errno;
	if (r == 0)
		snprintf(admin.unix_path, sizeof admin.unix_path, "%s", a->u.name);
	return (r);
}

static int
open_tcp(struct door_state *d, const struct hb_addr *a)
{
	struct sockaddr_storage ss;
	int r;

	hb_addr_to_sockaddr(a, &ss);
	uv_tcp_init(hb_worker_control()->loop, &d->u.tcp);
	d->open = true;
	r = uv_tcp_bind(&d->u.tcp, (const struct sockaddr *)&ss, 0);
	return (r);
}

static int
door_open(enum door door, const struct hb_addr *a, mode_t mode, struct hb_err *reterr)
{
	struct door_state *d = &admin.door[door];
	struct sockaddr_storage ss;
	int len = sizeof ss, r;

	if (a->kind == HB_ADDR_NONE)
		return (0);
	r = a->kind == HB_ADDR_UNIX ? open_unix(d, a, mode) : open_tcp(d, a);
	if (r == 0)
		r = uv_listen(&d->u.stream, 128, on_accept);
	if (r != 0)
		return (door_error(a, r, reterr));
	d->bound = *a;
	if (a->kind == HB_ADDR_UNIX)
		d->bound.u.name = admin.unix_path;
	else if (uv_tcp_getsockname(&d->u.tcp, (struct sockaddr *)&ss, &len) == 0)
		hb_addr_from_sockaddr(&d->bound, (const struct sockaddr *)&ss, (socklen_t)len);
	d->accept.ctx = &admin.context;
	d->accept.hosts = h2o_mem_alloc(2 * sizeof d->accept.hosts[0]);
	d->accept.hosts[0] = d->host;
	d->accept.hosts[1] = NULL;
	return (0);
}

static void
door_host(enum door door, const char *name, int (*on_req)(h2o_handler_t *, h2o_req_t *))
{
	h2o_hostconf_t *host = h2o_config_register_host(
		&admin.config, h2o_iovec_init(name, strlen(name)), 65535);
	h2o_handler_t *handler = h2o_create_handler(
		h2o_config_register_path(host, "/", 0), sizeof *handler);

	handler->on_req = on_req;
	admin.door[door].host = host;
}

int
hb_admin_start(const struct hb_admin_config *c, struct hb_err *reterr)
{
	int r;

	HB_ASSERT(!admin.started);
	admin.started = true;
	admin.stats = hb_stats_get(&admin_family, HB_STR(""));
	admin.allowed = c->allowed;
	hb_list_init(&admin.conns);
	h2o_config_init(&admin.config);
	admin.config.server_name = h2o_iovec_init(H2O_STRLIT("hbone"));
	admin.config.http1.upgrade_to_http2 = 0;
	admin.config.http1.req_timeout = REQUEST_MS;
	admin.config.max_request_entity_size = BODY_MAX;
	door_host(DOOR_ADMIN, "admin", on_admin);
	door_host(DOOR_METRICS, "metrics", on_metrics);
	door_host(DOOR_READY, "ready", on_ready);
	h2o_context_init(&admin.context, hb_worker_control()->loop, &admin.config);
	r = door_open(DOOR_ADMIN, &c->address, c->unix_mode, reterr);
	if (r == 0)
		r = door_open(DOOR_METRICS, &c->public_metrics, 0, reterr);
	if (r == 0)
		r = door_open(DOOR_READY, &c->public_ready, 0, reterr);
	return (r);
}

void
hb_admin_stop(void)
{
	struct hb_worker *control = hb_worker_control();
	struct hb_list *n;

	if (!admin.started)
		return;
	for (unsigned i = 0; i < DOOR_MAX; i++) {
		if (admin.door[i].open)
			uv_close((uv_handle_t *)&admin.door[i].u.stream, NULL);
		free(admin.door[i].accept.hosts);
	}
	if (admin.unix_path[0] != '\0')
		unlink(admin.unix_path);
	/* libh2o has no way to close its connections: let each see its peer's end. */
	HB_LIST_FOREACH (n, &admin.conns) {
		uv_os_fd_t fd;

		if (uv_fileno((uv_handle_t *)&HB_LIST_ENTRY(n, struct admin_conn, node)->u,
			    &fd) == 0)
			shutdown(fd, SHUT_RDWR);
	}
	for (unsigned i = 0; i < STOP_TURNS && admin.n_conns > 0; i++) {
		uv_run(control->loop, UV_RUN_NOWAIT);
		if (admin.n_conns > 0)
			uv_sleep(1);
	}
	/* What still runs keeps its memory until the process ends, which is next. */
	if (admin.n_conns == 0) {
		h2o_context_dispose(&admin.context);
		h2o_config_dispose(&admin.config);
	}
	hb_stats_unref(&admin.stats);
	memset(&admin, 0, sizeof admin);
}

struct hb_addr
hb_admin_address(void)
{
	return (admin.door[DOOR_ADMIN].bound);
}

struct hb_addr
hb_admin_public_metrics_address(void)
{
	return (admin.door[DOOR_METRICS].bound);
}

struct hb_addr
hb_admin_public_ready_address(void)
{
	return (admin.door[DOOR_READY].bound);
}

/* ------------------------------------------------------------------ gathering */

struct gather {
	void (*fn)(struct hb_worker *, struct hb_text *, void *arg);
	void (*done)(void *arg, struct hb_text *);
	void *arg;
	struct hb_text part[];
};

static void
gather_run(struct hb_worker *w, void *arg)
{
	struct gather *g = arg;

	HB_ASSERT(w->index < hb_workers_count());
	g->fn(w, &g->part[w->index], g->arg);
}

static void
gather_done(void *arg)
{
	struct gather *g = arg;
	struct hb_text all = { 0 };

	for (unsigned i = 0; i < hb_workers_count(); i++) {
		hb_text_add(&all, g->part[i].p, g->part[i].len);
		hb_text_fini(&g->part[i]);
	}
	g->done(g->arg, &all);
	hb_text_fini(&all);
	hb_free(g);
}

void
hb_admin_gather(void (*fn)(struct hb_worker *, struct hb_text *, void *arg),
	void (*done)(void *arg, struct hb_text *), void *arg)
{
	struct gather *g = hb_calloc(1, sizeof *g + hb_workers_count() * sizeof g->part[0]);

	g->fn = fn;
	g->done = done;
	g->arg = arg;
	hb_post_all(gather_run, gather_done, g);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/app/mesh_metrics.h"
#include "core/event/worker.h"
#include "core/stats/stats.h"

#define CLUSTER_PREFIX_OUT "outbound|"
#define CLUSTER_PREFIX_IN  "inbound|"

static struct hb_tcp_registry *registry;

/* ------------------------------------------------------------------ labels */

static struct hb_str
after_last(struct hb_str s, char c)
{
	size_t i = s.len;

	while (i > 0 && s.p[i - 1] != c)
		i--;
	return (hb_strn(s.p + i, s.len - i));
}

static struct hb_str
before(struct hb_str s, char c)
{
	const char *p = memchr(s.p, c, s.len);

	return (p == NULL ? s : hb_strn(s.p, (size_t)(p - s.p)));
}

static struct hb_str
without_port(struct hb_str authority)
{
	struct hb_str port = after_last(authority, ':');

	return (port.len == authority.len || authority.p[authority.len - 1] == ']' ?
			authority :
			hb_strn(authority.p, authority.len - port.len - 1));
}

static bool
is_name(struct hb_str host)
{
	struct hb_addr a;

	return (host.len > 0 && host.p[0] != '[' && !hb_addr_parse_ip(host, &a));
}

/* Host name of the service: what the tunnel asks for, else what Istio's cluster names end with. */
static struct hb_str
service_of(const struct hb_facts *f, struct hb_str cluster)
{
	struct hb_str host = f->authority.len == 0 ? f->authority : without_port(f->authority);

	if (is_name(host))
		return (host);
	if (hb_str_starts(cluster, HB_STR(CLUSTER_PREFIX_OUT)) ||
		hb_str_starts(cluster, HB_STR(CLUSTER_PREFIX_IN)))
		return (after_last(cluster, '|'));
	return (HB_STR(""));
}

/* NAME.NAMESPACE.svc… says both; others are the name as they are. */
static void
name_service(struct hb_tcp_labels *l, struct hb_str cluster)
{
	struct hb_str name = before(l->service, '.'), rest, ns;

	l->service_name = l->service.len > 0 ? l->service : cluster;
	if (name.len == l->service.len)
		return;
	rest = hb_strn(l->service.p + name.len + 1, l->service.len - name.len - 1);
	ns = before(rest, '.');
	if (ns.len == rest.len)
		return;
	rest = hb_strn(rest.p + ns.len + 1, rest.len - ns.len - 1);
	if (!hb_str_eq(before(rest, '.'), HB_STR("svc")))
		return;
	l->service_name = name;
	l->service_namespace = ns;
}

static struct hb_str
baggage_of(const struct hb_facts *f, const char *ns)
{
	return (hb_facts_metadata(f, hb_str(ns), HB_STR("baggage")));
}

static void
read_baggage(struct hb_str line, struct hb_baggage *ret)
{
	(void)hb_baggage_parse(&line, line.len > 0 ? 1 : 0, ret);
}

/* All that labels are made of; borrowed from the facts. */
struct source {
	const struct hb_facts *f;
	struct hb_str asked, answered; /* baggage of the request, of the response */
	struct hb_str principal;       /* of the peer                             */
	struct hb_str destination;     /* principal                               */
	struct hb_str authority, cluster;
	bool inbound, mutual_tls;
};

static void
source_of(const struct hb_conn_view *v, struct source *s)
{
	const struct hb_facts *f = v->facts, *peer = hb_facts_identity(f);
	struct hb_str upstream_peer = HB_STR("");

	s->f = f;
	s->cluster = HB_STR("");
	if (v->upstream != NULL) {
		s->cluster = v->upstream->cluster;
		upstream_peer = v->upstream->tls_peer;
	}
	s->inbound = v->inbound || f->parent != NULL || peer != NULL;
	s->destination = hb_destination_principal(f, upstream_peer, s->inbound);
	s->mutual_tls = s->inbound ? peer != NULL : s->destination.len > 0;
	s->asked = baggage_of(f, HB_META_REQUEST);
	s->answered = baggage_of(f, HB_META_RESPONSE);
	s->principal = peer == NULL ? HB_STR("") : hb_facts_tls(peer)->principal;
	s->authority = f->authority;
}

static void
make_labels(const struct source *s, struct hb_tcp_labels *l)
{
	struct hb_baggage source, destination;

	memset(l, 0, sizeof *l);
	read_baggage(s->asked, &source);
	read_baggage(s->answered, &destination);
	(void)hb_source_labels(s->f, &source, false, &l->source);
	(void)hb_destination_labels(s->destination, &destination, false, &l->destination);
	l->reporter = s->inbound ? HB_STR("destination") : HB_STR("source");
	l->security_policy = s->mutual_tls ? HB_STR("mutual_tls") : HB_STR("unknown");
	l->service = service_of(s->f, s->cluster);
	name_service(l, s->cluster);
}

void
hb_mesh_labels(const struct hb_conn_view *v, struct hb_tcp_labels *l)
{
	struct source s;

	source_of(v, &s);
	make_labels(&s, l);
}

const char *
hb_mesh_flag(enum hb_close_reason r)
{
	switch (r) {
	case HB_CLOSE_RBAC_DENIED:
	case HB_CLOSE_REVOKED:
		return ("DENY");
	case HB_CLOSE_NO_HEALTHY_UPSTREAM:
	case HB_CLOSE_CONNECT_REFUSED:
	case HB_CLOSE_CONNECT_UNREACHABLE:
	case HB_CLOSE_CONNECT_TIMEOUT:
	case HB_CLOSE_CONNECT_FAILED:
	case HB_CLOSE_CONNECT_ATTEMPTS:
	case HB_CLOSE_ATTEMPTS_TIMEOUT:
	case HB_CLOSE_DNS_FAILED:
	case HB_CLOSE_TUNNEL_REJECTED:
		return ("CONNECT");
	case HB_CLOSE_TLS_HANDSHAKE:
	case HB_CLOSE_TLS_NO_GROUP:
	case HB_CLOSE_TLS_TIMEOUT:
	case HB_CLOSE_TLS_NO_CERT:
	case HB_CLOSE_TLS_VERIFY:
	case HB_CLOSE_TLS_SAN:
	case HB_CLOSE_TLS_PEER_REFUSED:
	case HB_CLOSE_TLS_ERROR:
	case HB_CLOSE_TLS_NO_SECRET:
		return ("TLS_FAILURE");
	case HB_CLOSE_GOAWAY:
	case HB_CLOSE_STREAM_REFUSED:
	case HB_CLOSE_HTTP_TIMEOUT:
	case HB_CLOSE_KEEPALIVE_TIMEOUT:
		return ("H2_HANDSHAKE_FAILURE");
	default:
		return (hb_close_info(r)->flag);
	}
}

/* ------------------------------------------------------------------ events */

/* NULL: it goes to an internal listener, where it is a connection again, which is counted. */
/* Not those of an internal hop, whose other end is counted. */
static bool
is_counted(const struct hb_conn_view *v)
{
	return (hb_worker_current()->index != HB_WORKER_CONTROL &&
		(v->upstream == NULL || v->upstream->endpoint.kind != HB_ADDR_INTERNAL));
}

static struct hb_tcp_series *
series_of(const struct source *s, const char *flag)
{
	struct hb_tcp_labels l;

	make_labels(s, &l);
	l.response_flags = hb_str(flag);
	return (hb_tcp_series(registry, hb_worker_current()->index, &l));
}

/* ------------------------------------------------------------------ the last ones of a worker */

/*
 * Connections come in kinds: what was looked up a moment ago is found by comparing what labels are
 * made of, for 600 instructions instead of 4,200.
 */
#define MEMOS    8u
#define MEMO_MAX 488u

struct memo {
	struct hb_tcp_series *series; /* NULL = empty */
	uint32_t len;
	char key[MEMO_MAX];
};

struct memos {
	_Alignas(64) struct memo v[MEMOS];
};
_Static_assert(sizeof(struct memos) % 64 == 0, "workers share no cache line");

static void *memory;        /* owned; holds the memos */
static struct memos *memos; /* of each worker         */

/* 0 = it does not fit. */
static size_t
memo_key(const struct source *s, char key[MEMO_MAX])
{
	const struct hb_str v[] = { s->asked, s->answered, s->principal, s->destination,
		s->authority, s->cluster };
	size_t n = 1;

	key[0] = (char)(s->inbound | s->mutual_tls << 1);
	for (size_t i = 0; i < HB_ARRAY_LEN(v); i++) {
		uint16_t len = (uint16_t)v[i].len;

		if (v[i].len > MEMO_MAX || n + sizeof len + v[i].len > MEMO_MAX)
			return (0);
		memcpy(key + n, &len, sizeof len);
		n += sizeof len;
		if (len > 0)
			memcpy(key + n, v[i].p, len);
		n += len;
	}
	return (n);
}

static struct hb_tcp_series *
series_of_kind(const struct source *s)
{
	char key[MEMO_MAX];
	size_t n = memo_key(s, key);
	unsigned spread = n == 0 ? 0 : (unsigned)(uint8_t)key[n - 1] + (unsigned)n;
	struct hb_tcp_series *series;
	uint64_t overflows;
	struct memo *m;

	if (n == 0)
		return (series_of(s, "-"));
	if (s->authority.len > 0)
		spread += (unsigned)(uint8_t)s->authority.p[s->authority.len - 1];
	m = &memos[hb_worker_current()->index].v[spread % MEMOS];
	if (m->series == NULL || m->len != n || memcmp(m->key, key, n) != 0) {
		overflows = hb_tcp_overflows(registry);
		m->series = series = series_of(s, "-");
		m->len = (uint32_t)n;
		memcpy(m->key, key, n);
		/* Those that share one for lack of room are counted each time. */
		if (hb_tcp_overflows(registry) != overflows)
			m->series = NULL;
		return (series);
	}
	return (m->series);
}

/* ------------------------------------------------------------------ events */

static void *
on_opened(const struct hb_conn *c)
{
	struct hb_tcp_series *series;
	struct hb_conn_view v;
	struct source s;

	hb_conn_view(c, &v);
	if (!is_counted(&v))
		return (NULL);
	source_of(&v, &s);
	series = series_of_kind(&s);
	hb_tcp_add(series, HB_TCP_OPENED, 1);
	return (series);
}

static void
on_moved(void *seen, uint64_t in, uint64_t out)
{
	if (in > 0)
		hb_tcp_add(seen, HB_TCP_RECEIVED, in);
	if (out > 0)
		hb_tcp_add(seen, HB_TCP_SENT, out);
}

static void
on_failed(const struct hb_conn *c)
{
	struct hb_conn_view v;
	struct source s;

	hb_conn_view(c, &v);
	if (!is_counted(&v))
		return;
	source_of(&v, &s);
	hb_tcp_add(series_of(&s, hb_mesh_flag(v.reason)), HB_TCP_FAILED, 1);
}

static void
on_closed(void *seen, const struct hb_conn *c)
{
	struct hb_conn_view v;

	hb_tcp_add(seen, HB_TCP_CLOSED, 1);
	hb_conn_view(c, &v);
	if (v.reason == HB_CLOSE_REVOKED || v.reason == HB_CLOSE_RBAC_DENIED)
		on_failed(c); /* a policy ended it: seen as its refusals are */
}

static const struct hb_conn_observer observer = {
	.opened = on_opened,
	.moved = on_moved,
	.closed = on_closed,
	.failed = on_failed,
};

/* ------------------------------------------------------------------ output */

static bool
want(void *arg, const char *name)
{
	return (hb_stats_wanted(arg, name));
}

static void
render(void *arg, const struct hb_stats_query *q, struct hb_text *t)
{
	(void)arg;
	if (registry != NULL)
		hb_tcp_render(registry, want, (void *)(uintptr_t)q, t);
}

void
hb_mesh_metrics_init(const struct hb_mesh_metrics_options *o)
{
	struct hb_tcp_options to = {
		.workers = hb_workers_count(), .series_max = o->series_max, .locality = o->locality
	};

	HB_ASSERT(registry == NULL);
	if (o->off)
		return;
	registry = hb_tcp_registry_new(&to);
	memory = hb_calloc(hb_workers_count() + 1, sizeof *memos);
	memos = (struct memos *)(((uintptr_t)memory + 63) & ~(uintptr_t)63);
	hb_stats_renderer_add(render, NULL);
	hb_conn_observe(&observer);
}

void
hb_mesh_metrics_fini(void)
{
	hb_conn_observe(NULL);
	hb_tcp_registry_free(&registry);
	hb_free(memory);
	memory = NULL;
}

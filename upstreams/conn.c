/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/pack.h"
#include "core/base/burst.h"
#include "core/identity/identity.h"
#include "core/transport/tls.h"
#include "upstreams/conn.h"
#include "upstreams/dial.h"
#include "upstreams/hbone.h"

#define NAMES_PACK_MAX 1024u
#define WALK_SLICE     256u  /* connections judged in a turn */
#define WALK_US        1000u /* and its time                 */

/* The connections of a worker; there is one as long as there are connections. */
struct census {
	unsigned magic;
#define CENSUS_MAGIC 0x4b1e70d3
	struct hb_worker *worker;
	struct hb_list conns;
	struct hb_list pools; /* that have connections, being made included */
	struct hb_timer timer;
	struct hb_run walk;
	struct hb_list *cursor; /* the next to be judged */
};

struct conn {
	struct hb_upstream_keep keep; /* of this memory; tag = CONN_MAGIC; the watch has one */
#define CONN_MAGIC 0x6e12c5b8
	struct hb_transport_watch watch;
	struct hb_list node;
	struct hb_transport *t;                   /* until watch.gone                     */
	const struct hb_transport_socket *socket; /* of the cluster           */
	struct hb_cluster_w *w;                   /* pinned                               */
	struct hb_ep_cell *cell;                  /* referenced; NULL = not counted       */
	uint64_t since_ms;
	uint64_t in, out; /* bytes that the counters have already */
	char *names;      /* owned: host, NUL, peer, NUL; NULL = neither */
};

static void
conn_check(const struct conn *c)
{
	HB_ASSERT(c->keep.tag == CONN_MAGIC);
}

static void
count_bytes(struct conn *c, uint64_t in, uint64_t out)
{
	const struct hb_stats *s = c->w->cluster->stats;

	if (in != c->in)
		hb_stat_add(c->w->worker, s, CL_CX_RX_BYTES, (int64_t)(in - c->in));
	if (out != c->out)
		hb_stat_add(c->w->worker, s, CL_CX_TX_BYTES, (int64_t)(out - c->out));
	c->in = in;
	c->out = out;
}

static void
on_census(struct hb_timer *timer)
{
	struct census *census = HB_CONTAINER(timer, struct census, timer);
	struct hb_list *n;

	HB_CHECK(census, CENSUS_MAGIC);
	HB_LIST_FOREACH (n, &census->conns) {
		struct conn *c = HB_LIST_ENTRY(n, struct conn, node);

		conn_check(c);
		if (c->cell != NULL)
			count_bytes(c, c->t->bytes_in, c->t->bytes_out);
	}
	hb_timer_start(timer, HB_UPCONN_COUNT_MS);
}

static void walk_run(struct hb_run *);

/* Made on first use. */
static struct census *
census_of(struct hb_worker *w)
{
	struct census *census = w->slot[HB_SLOT_UPSTREAM];

	if (census == NULL) {
		HB_NEW(census, CENSUS_MAGIC);
		census->worker = w;
		hb_list_init(&census->conns);
		hb_list_init(&census->pools);
		hb_timer_init(&census->timer, w, on_census);
		hb_run_init(&census->walk, walk_run);
		hb_timer_start(&census->timer, HB_UPCONN_COUNT_MS);
		w->slot[HB_SLOT_UPSTREAM] = census;
	}
	HB_CHECK(census, CENSUS_MAGIC);
	return (census);
}

static void
census_check(struct hb_worker *w, struct census *census)
{
	if (!hb_list_empty(&census->conns) || !hb_list_empty(&census->pools))
		return;
	hb_timer_stop(&census->timer);
	hb_run_cancel(&census->walk);
	w->slot[HB_SLOT_UPSTREAM] = NULL;
	HB_DEL(census);
}

static void
census_leave(struct hb_worker *w, struct conn *c)
{
	struct census *census = w->slot[HB_SLOT_UPSTREAM];

	HB_CHECK(census, CENSUS_MAGIC);
	if (census->cursor == &c->node)
		census->cursor = c->node.next;
	hb_list_del(&c->node);
	census_check(w, census);
}

void
hb_upconn_pool_join(struct hb_worker *w, struct hb_upconn_pool *p)
{
	hb_list_add_tail(&census_of(w)->pools, &p->node);
}

void
hb_upconn_pool_leave(struct hb_worker *w, struct hb_upconn_pool *p)
{
	struct census *census = w->slot[HB_SLOT_UPSTREAM];

	HB_CHECK(census, CENSUS_MAGIC);
	hb_list_del(&p->node);
	census_check(w, census);
}

/* ------------------------------------------------------------------ judging again */

/* What stands in `now` where `s` stands in `old`, at the end of a cluster's chain of tunnels. */
static const struct hb_transport_socket *
in_place(const struct hb_transport_socket *old, const struct hb_transport_socket *now,
	const struct hb_transport_socket *s)
{
	const struct hb_hbone_conf *a = hb_hbone_of(old), *b = hb_hbone_of(now);

	if (old == s)
		return (b == NULL ? now : NULL);
	for (; a != NULL && b != NULL; a = hb_hbone_through(a), b = hb_hbone_through(b)) {
		if (hb_hbone_socket(a) == s)
			return (hb_hbone_socket(b));
	}
	return (NULL);
}

/* By the place in the cluster, or the name of the match. NULL = there is none. */
static const struct hb_transport_socket *
successor(const struct hb_cluster *old, const struct hb_cluster *now,
	const struct hb_transport_socket *s)
{
	const struct hb_transport_socket *r = in_place(old->socket, now->socket, s);

	for (size_t i = 0; i < old->n_matches && r == NULL; i++) {
		for (size_t k = 0; k < now->n_matches && r == NULL; k++) {
			if (strcmp(old->matches[i].name, now->matches[k].name) == 0)
				r = in_place(old->matches[i].socket, now->matches[k].socket, s);
		}
	}
	return (r);
}

bool
hb_upconn_holds(const struct hb_cluster_w *w, const struct hb_transport_socket *socket,
	struct hb_transport *t)
{
	const struct hb_cluster *now = hb_cluster_find(hb_str(w->cluster->name));
	const struct hb_transport_socket *next = NULL;

	if (now != NULL && now != w->cluster)
		next = successor(w->cluster, now, socket);
	return (hb_transport_socket_holds(next == NULL ? socket : next, t));
}

static void
judge(struct conn *c)
{
	conn_check(c);
	if (c->socket == NULL || c->t->dead || hb_upconn_holds(c->w, c->socket, c->t))
		return;
	hb_stat_inc(c->w->worker, c->w->cluster->stats, CL_TLS_REVOKED);
	hb_tls_end(c->t, HB_CLOSE_REVOKED);
}

static void
walk_run(struct hb_run *run)
{
	struct census *census = HB_CONTAINER(run, struct census, walk);
	struct hb_worker *w = census->worker;
	uint64_t began = hb_now_us(w);

	HB_CHECK(census, CENSUS_MAGIC);
	for (unsigned n = 0; n < WALK_SLICE && census->cursor != &census->conns &&
		hb_now_us(w) - began < WALK_US;
		n++) {
		struct conn *c = HB_LIST_ENTRY(census->cursor, struct conn, node);

		census->cursor = census->cursor->next;
		judge(c);
	}
	if (census->cursor != &census->conns)
		hb_run_soon(w, &census->walk);
	else
		census->cursor = NULL;
}

void
hb_upconns_recheck(struct hb_worker *w)
{
	struct census *census = w->slot[HB_SLOT_UPSTREAM];
	struct hb_list *n, *tmp;

	if (census == NULL)
		return;
	HB_CHECK(census, CENSUS_MAGIC);
	census->cursor = census->conns.next;
	hb_run_soon(w, &census->walk);
	HB_LIST_FOREACH_SAFE (n, tmp, &census->pools) {
		struct hb_upconn_pool *p = HB_LIST_ENTRY(n, struct hb_upconn_pool, node);

		p->changed(p);
	}
}

/* ------------------------------------------------------------------ life */

static void
count_end(struct conn *c, enum hb_close_reason ended)
{
	const struct hb_stats *s = c->w->cluster->stats;
	struct hb_worker *w = c->w->worker;

	hb_stat_add(w, s, CL_CX_ACTIVE, -1);
	hb_stat_inc(w, s, CL_CX_DESTROY);
	hb_stat_inc(w, s, ended == HB_CLOSE_NONE ? CL_CX_DESTROY_LOCAL : CL_CX_DESTROY_REMOTE);
	hb_stat_record(w, s, CL_CX_LENGTH_MS, hb_now_ms(w) - c->since_ms);
	HB_CLUSTER_COUNT(c->w, connections, -1);
	HB_EP_COUNT(c->cell, active, -1);
	hb_ep_cell_unref(&c->cell);
}

static void
gone(struct hb_transport_watch *watch, enum hb_close_reason ended, uint64_t in, uint64_t out)
{
	struct conn *c = HB_CONTAINER(watch, struct conn, watch);
	struct hb_upstream_keep *keep = &c->keep;

	conn_check(c);
	census_leave(c->w->worker, c);
	if (c->cell != NULL) {
		count_bytes(c, in, out);
		count_end(c, ended);
	}
	c->t = NULL;
	hb_upstream_unkeep(&keep);
}

static void
keep_free(struct hb_upstream_keep *keep)
{
	struct conn *c = HB_CONTAINER(keep, struct conn, keep);

	conn_check(c);
	hb_cluster_unpin(&c->w);
	hb_free(c->names);
	c->keep.tag = 0;
	hb_burst_free(c, sizeof *c);
}

/* Of both, with their NULs. */
static size_t
names_len(const struct conn *c)
{
	size_t host;

	if (c->names == NULL)
		return (0);
	host = strlen(c->names) + 1;
	return (host + strlen(c->names + host) + 1);
}

static void
keep_names(const struct hb_upstream_keep *keep, struct hb_upstream_info *ret)
{
	const struct conn *c = HB_CONTAINER(keep, const struct conn, keep);

	conn_check(c);
	ret->cluster = hb_str(c->w->cluster->name);
	ret->endpoint_host = hb_str(c->names == NULL ? "" : c->names);
	ret->tls_peer = hb_str(c->names == NULL ? "" : c->names + ret->endpoint_host.len + 1);
}

/*
 * A connection of which only its owner knows, and about which nothing is to be judged. Its names are
 * short: a host's, and a peer has none in the clear.
 */
static bool
keep_packable(const struct hb_upstream_keep *keep, const struct hb_transport *t)
{
	const struct conn *c = HB_CONTAINER(keep, const struct conn, keep);

	conn_check(c);
	return (c->t == t && keep->refs == 2 && c->socket == NULL && c->cell != NULL &&
		t->watch == &c->watch && names_len(c) <= NAMES_PACK_MAX);
}

/* It stays counted; bytes are counted until now, and none will pass before it is unpacked. */
static void
keep_pack(struct hb_upstream_keep **kp, struct hb_transport *t, struct hb_pack *p)
{
	struct conn *c = HB_CONTAINER(*kp, struct conn, keep);

	HB_ASSERT(keep_packable(*kp, t));
	*kp = NULL;
	count_bytes(c, t->bytes_in, t->bytes_out);
	hb_pack_ptr(p, c->w);
	hb_pack_ptr(p, c->cell);
	hb_pack_ms(p, c->since_ms);
	hb_pack_str(p, hb_strn(c->names, names_len(c)));
	t->watch = NULL;
	census_leave(c->w->worker, c);
	hb_free(c->names);
	c->keep.tag = 0;
	hb_burst_free(c, sizeof *c);
}

static struct hb_upstream_keep *keep_unpack(struct hb_unpack *, struct hb_transport *);

static const struct hb_upstream_keep_ops keep_ops = {
	.names = keep_names,
	.free_fn = keep_free,
	.packable = keep_packable,
	.pack = keep_pack,
	.unpack = keep_unpack,
};

char *
hb_upconn_peer_name(struct hb_transport *t)
{
	const struct hb_tls_info *tls = hb_transport_tls_info(t);
	const struct hb_cert_info *p = tls == NULL ? NULL : tls->peer;

	if (p == NULL)
		return (NULL);
	for (size_t i = 0; i < p->n_san; i++) {
		if (p->san[i].type == HB_SAN_URI)
			return (hb_strdup(p->san[i].value));
	}
	return (hb_strdup(p->subject));
}

/* Takes both, either may be NULL. */
static char *
join(char *host, char *peer)
{
	size_t n = host == NULL ? 0 : strlen(host), m = peer == NULL ? 0 : strlen(peer);
	char *both = NULL;

	if (n + m > 0) {
		both = hb_calloc(1, n + 1 + m + 1);
		if (n > 0)
			memcpy(both, host, n);
		if (m > 0)
			memcpy(both + n + 1, peer, m);
	}
	hb_free(host);
	hb_free(peer);
	return (both);
}

/* The watch has the reference. */
static struct conn *
conn_new(struct hb_transport *t, struct hb_cluster_w *w, struct hb_ep_cell *cell)
{
	struct conn *c = hb_burst_calloc(sizeof *c);

	HB_ASSERT(t->watch == NULL);
	c->keep = (struct hb_upstream_keep){ 1, CONN_MAGIC, &keep_ops };
	c->watch.gone = gone;
	c->t = t;
	c->w = w;
	c->cell = cell;
	t->watch = &c->watch;
	hb_list_add_tail(&census_of(w->worker)->conns, &c->node);
	return (c);
}

static struct hb_upstream_keep *
keep_unpack(struct hb_unpack *u, struct hb_transport *t)
{
	struct hb_cluster_w *w = hb_unpack_ptr(u);
	struct conn *c = conn_new(t, w, hb_unpack_ptr(u));
	struct hb_str names;

	c->since_ms = hb_unpack_ms(u);
	c->in = t->bytes_in;
	c->out = t->bytes_out;
	names = hb_unpack_str(u);
	if (names.len > 0) {
		c->names = hb_calloc(1, names.len);
		memcpy(c->names, names.p, names.len);
	}
	c->keep.refs++;
	return (&c->keep);
}

void
hb_upconn_watch(struct hb_transport *t, const struct hb_transport_socket *socket,
	struct hb_cluster_w *w, struct hb_ep_cell *cell, char *host, struct hb_upstream_info *info)
{
	struct conn *c = conn_new(t, w, cell);

	c->socket = socket;
	c->since_ms = hb_now_ms(w->worker);
	c->names = join(host, hb_upconn_peer_name(t));
	if (cell != NULL && w->cluster->buffer_high > 0)
		hb_transport_set_high(t, w->cluster->buffer_high);
	info->keep = &c->keep;
	keep_names(&c->keep, info);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/identity/identity.h"
#include "core/transport/tls.h"
#include "upstreams/conn.h"

/* The connections of a worker; there is one as long as there are connections. */
struct census {
	unsigned magic;
#define CENSUS_MAGIC 0x4b1e70d3
	struct hb_list conns;
	struct hb_timer timer;
};

struct conn {
	unsigned magic;
#define CONN_MAGIC 0x6e12c5b8
	struct hb_transport_watch watch;
	struct hb_list node;
	const struct hb_transport *t; /* until watch.gone                     */
	struct hb_cluster_w *w;       /* pinned                               */
	struct hb_ep_cell *cell;      /* referenced                           */
	uint64_t since_ms;
	uint64_t in, out;  /* bytes that the counters have already */
	char *host, *peer; /* owned; NULL = none                   */
};

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

		HB_CHECK(c, CONN_MAGIC);
		count_bytes(c, c->t->bytes_in, c->t->bytes_out);
	}
	hb_timer_start(timer, HB_UPCONN_COUNT_MS);
}

static void
census_join(struct hb_worker *w, struct conn *c)
{
	struct census *census = w->slot[HB_SLOT_UPSTREAM];

	if (census == NULL) {
		HB_NEW(census, CENSUS_MAGIC);
		hb_list_init(&census->conns);
		hb_timer_init(&census->timer, w, on_census);
		hb_timer_start(&census->timer, HB_UPCONN_COUNT_MS);
		w->slot[HB_SLOT_UPSTREAM] = census;
	}
	HB_CHECK(census, CENSUS_MAGIC);
	hb_list_add_tail(&census->conns, &c->node);
}

static void
census_leave(struct hb_worker *w, struct conn *c)
{
	struct census *census = w->slot[HB_SLOT_UPSTREAM];

	HB_CHECK(census, CENSUS_MAGIC);
	hb_list_del(&c->node);
	if (!hb_list_empty(&census->conns))
		return;
	hb_timer_stop(&census->timer);
	w->slot[HB_SLOT_UPSTREAM] = NULL;
	HB_DEL(census);
}

static void
gone(struct hb_transport_watch *watch, enum hb_close_reason ended, uint64_t in, uint64_t out)
{
	struct conn *c = HB_CONTAINER(watch, struct conn, watch);
	const struct hb_stats *s;
	struct hb_worker *w;

	HB_CHECK(c, CONN_MAGIC);
	w = c->w->worker;
	s = c->w->cluster->stats;
	census_leave(w, c);
	count_bytes(c, in, out);
	hb_stat_add(w, s, CL_CX_ACTIVE, -1);
	hb_stat_inc(w, s, CL_CX_DESTROY);
	hb_stat_inc(w, s, ended == HB_CLOSE_NONE ? CL_CX_DESTROY_LOCAL : CL_CX_DESTROY_REMOTE);
	hb_stat_record(w, s, CL_CX_LENGTH_MS, hb_now_ms(w) - c->since_ms);
	HB_CLUSTER_COUNT(c->w, connections, -1);
	HB_EP_COUNT(c->cell, active, -1);
	hb_ep_cell_unref(&c->cell);
	hb_cluster_unpin(&c->w);
	hb_free(c->host);
	hb_free(c->peer);
	HB_DEL(c);
}

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

void
hb_upconn_watch(struct hb_transport *t, struct hb_cluster_w *w, struct hb_ep_cell *cell, char *host,
	struct hb_upstream_info *info)
{
	struct conn *c;

	HB_ASSERT(t->watch == NULL);
	HB_NEW(c, CONN_MAGIC);
	c->watch.gone = gone;
	c->t = t;
	c->w = w;
	c->cell = cell;
	c->since_ms = hb_now_ms(w->worker);
	c->host = host;
	c->peer = hb_upconn_peer_name(t);
	t->watch = &c->watch;
	census_join(w->worker, c);
	if (w->cluster->buffer_high > 0)
		hb_transport_set_high(t, w->cluster->buffer_high);
	info->transport = t;
	info->cluster = hb_str(w->cluster->name);
	info->endpoint_host = hb_str(host == NULL ? "" : host);
	info->tls_peer = hb_str(c->peer == NULL ? "" : c->peer);
}

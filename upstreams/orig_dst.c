/* SPDX-License-Identifier: Apache-2.0 */
#include "core/event/table.h"
#include "upstreams/orig_dst.h"

/* Localities and priorities say nothing here. */
static const struct hb_ep_conf orig_conf = { .weight = 1, .hostname = (char *)(uintptr_t) "" };

#define NEWS_LOOK 64u /* of those on their way */

/* ------------------------------------------------------------------ the address */

/* "10.0.0.1:80", or an address alone when the port is overridden. */
static bool
parse(const struct hb_cluster *c, struct hb_str text, struct hb_addr *ret)
{
	return (hb_addr_parse(text, ret) || (c->orig.port_set && hb_addr_parse_ip(text, ret)));
}

static bool
find_address(
	const struct hb_cluster *c, const struct hb_facts *f, struct hb_addr *ret, const char **why)
{
	struct hb_str text;

	if (f == NULL) {
		*why = "there is no downstream connection";
		return (false);
	}
	text = hb_facts_state(f, HB_STR(HB_STATE_ORIGINAL_DST));
	if (text.len > 0) {
		*why = "the filter state " HB_STATE_ORIGINAL_DST " is no address and port";
		return (parse(c, text, ret));
	}
	if (c->orig.header != NULL) {
		text = strcmp(c->orig.header, ":authority") == 0 ?
			f->authority :
			hb_facts_metadata(f, HB_STR(HB_META_REQUEST), hb_str(c->orig.header));
		*why = "the header of the tunnel request is no address and port";
		if (text.len > 0)
			return (parse(c, text, ret));
	}
	if (c->orig.metadata_ns != NULL) {
		text = hb_facts_metadata(
			f, hb_str(c->orig.metadata_ns), hb_str(c->orig.metadata_key));
		*why = "the metadata value is no address and port";
		if (text.len > 0)
			return (parse(c, text, ret));
	}
	*why = "no original address was restored; add the listener filter original_dst";
	if (!f->local_restored || (f->local.kind != HB_ADDR_V4 && f->local.kind != HB_ADDR_V6))
		return (false);
	*ret = f->local;
	return (true);
}

bool
hb_orig_address(
	const struct hb_cluster *c, const struct hb_facts *f, struct hb_addr *ret, const char **why)
{
	if (!find_address(c, f, ret, why))
		return (false);
	if (c->orig.port_set)
		ret->port = c->orig.port;
	*why = "the original address has no port";
	return (ret->port != 0);
}

/* ------------------------------------------------------------------ from workers to the list */

/* A worker tells of an address; it pins the cluster until the answer is back. */
struct news {
	unsigned magic;
#define NEWS_MAGIC 0x7d20c4a9
	struct hb_task task;
	struct hb_list node; /* hb_cluster_w.news, newest first */
	struct hb_cluster_w *w;
	struct hb_ep_cell *cell;
	struct hb_addr addr;
	bool adopted;
};

static void
news_back(struct hb_task *t)
{
	struct news *n = HB_CONTAINER(t, struct news, task);

	HB_CHECK(n, NEWS_MAGIC);
	hb_list_del(&n->node);
	if (!n->adopted)
		hb_ep_cell_orphan(n->cell);
	hb_cluster_unpin(&n->w);
	HB_DEL(n);
}

static struct hb_endpoint *
listed(struct hb_cluster *c, const struct hb_addr *addr)
{
	static const struct hb_ep_order order = { .count = 1 };
	char text[HB_ADDR_TEXT_MAX];
	struct hb_endpoint *e;
	char *hostname;

	if (c->orig_table == NULL)
		return (NULL);
	(void)hb_addr_format(addr, text, sizeof text);
	e = hb_table_get(c->orig_table, hb_str(text));
	if (e != NULL)
		return (e);
	if (hb_table_count(c->orig_table) >= c->orig.listed_max) {
		hb_stat_inc(hb_worker_control(), c->stats, CL_ORIG_UNTRACKED);
		return (NULL);
	}
	hostname = hb_asprintf("%s%s", c->name, text);
	e = hb_endpoint_new(&orig_conf, hostname, hb_ep_addrs_new(addr, 1, &order), 0);
	hb_free(hostname);
	hb_table_put(c->orig_table, hb_str(text), e);
	return (e);
}

static void
news_came(struct hb_task *t)
{
	struct news *n = HB_CONTAINER(t, struct news, task);
	struct hb_cluster *c = n->w->cluster;
	struct hb_endpoint *e;

	HB_CHECK(n, NEWS_MAGIC);
	e = listed(c, &n->addr);
	n->adopted = e != NULL && hb_endpoint_adopt(e, n->w->worker, n->cell);
	if (c->orig_table != NULL && c->live)
		hb_stat_set(c->stats, CL_MEMBERSHIP_TOTAL, (int64_t)hb_table_count(c->orig_table));
	hb_post(n->w->worker, &n->task, news_back);
}

/* Dials that come before the list has the address count as one endpoint, too. */
static struct hb_ep_cell *
cell_on_its_way(const struct hb_cluster_w *w, const struct hb_addr *addr)
{
	const struct hb_list *l;
	unsigned looked = 0;

	HB_LIST_FOREACH (l, &w->news) {
		const struct news *n = HB_LIST_ENTRY(l, const struct news, node);

		if (hb_addr_eq(&n->addr, addr))
			return (hb_ep_cell_ref(n->cell));
		if (++looked == NEWS_LOOK)
			break;
	}
	return (NULL);
}

struct hb_ep_cell *
hb_orig_cell(struct hb_cluster_w *w, const struct hb_addr *addr)
{
	struct hb_table *table = w->cluster->orig_table;
	char text[HB_ADDR_TEXT_MAX];
	const struct hb_endpoint *e;
	struct hb_ep_cell *cell = cell_on_its_way(w, addr);
	struct news *n;

	if (cell != NULL)
		return (cell);
	(void)hb_addr_format(addr, text, sizeof text);
	e = table == NULL ? NULL : hb_table_get(table, hb_str(text));
	if (e != NULL)
		return (hb_endpoint_cell(e, w->worker));
	HB_NEW(n, NEWS_MAGIC);
	n->w = hb_cluster_pin(w->cluster, w->worker);
	n->cell = hb_ep_cell_new();
	n->addr = *addr;
	hb_list_add_head(&w->news, &n->node);
	hb_post(hb_worker_control(), &n->task, news_came);
	return (n->cell);
}

/* ------------------------------------------------------------------ forgetting */

struct sweep {
	struct hb_endpoint **v; /* unused ones */
	size_t n;
};

static void
sweep_one(void *arg, struct hb_str name, void *obj)
{
	struct sweep *s = arg;
	struct hb_endpoint *e = obj;
	struct hb_ep_numbers now;

	(void)name;
	hb_endpoint_numbers(e, &now);
	if (now.active == 0 && now.total == e->mark)
		s->v[s->n++] = e;
	e->mark = now.total;
}

static void
on_cleanup(struct hb_timer *t)
{
	struct hb_cluster *c = HB_CONTAINER(t, struct hb_cluster, orig_timer);
	size_t n = hb_table_count(c->orig_table);
	struct sweep s = { .v = hb_calloc(n + 1, sizeof(struct hb_endpoint *)) };
	char text[HB_ADDR_TEXT_MAX];

	HB_CHECK(c, HB_CLUSTER_MAGIC);
	hb_table_foreach(c->orig_table, sweep_one, &s);
	for (size_t i = 0; i < s.n; i++) {
		(void)hb_addr_format(&hb_endpoint_addrs(s.v[i])->v[0], text, sizeof text);
		(void)hb_table_del(c->orig_table, hb_str(text));
	}
	hb_free(s.v);
	if (s.n > 0 && c->live)
		hb_stat_set(c->stats, CL_MEMBERSHIP_TOTAL, (int64_t)hb_table_count(c->orig_table));
	hb_timer_start(&c->orig_timer, c->orig.cleanup_ms);
}

static void
unlist(void *obj)
{
	struct hb_endpoint *e = obj;

	hb_endpoint_unref(&e);
}

void
hb_orig_start(struct hb_cluster *c, bool offline)
{
	if (c->type != HB_CLUSTER_ORIGINAL_DST)
		return;
	c->orig_table = hb_table_new(unlist);
	hb_timer_init(&c->orig_timer, hb_worker_control(), on_cleanup);
	if (!offline)
		hb_timer_start(&c->orig_timer, c->orig.cleanup_ms);
}

void
hb_orig_stop(struct hb_cluster *c)
{
	if (c->type == HB_CLUSTER_ORIGINAL_DST && c->orig_table != NULL)
		hb_timer_stop(&c->orig_timer);
}

struct each {
	void (*fn)(void *arg, struct hb_endpoint *);
	void *arg;
};

static void
each_one(void *arg, struct hb_str name, void *obj)
{
	const struct each *e = arg;

	(void)name;
	e->fn(e->arg, obj);
}

void
hb_orig_foreach(const struct hb_cluster *c, void (*fn)(void *arg, struct hb_endpoint *), void *arg)
{
	struct each e = { .fn = fn, .arg = arg };

	if (c->orig_table != NULL)
		hb_table_foreach(c->orig_table, each_one, &e);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listeners by name: publishing, replacing, removing. Control thread.
 *
 * A replacement is told to each worker by one task that stops the old version and starts the new
 * one: there is no moment without an accepting socket, and sockets that both have keep their accept
 * queue. Chains that the new version lacks drain once no worker can choose them any more.
 */
#include <stdio.h>
#include "core/base/log.h"
#include "core/filter/acceptor.h"
#include "listeners/listener_priv.h"

#define LOGGED_MAX 4u /* listeners announced at level info; a good start is short to read */

static struct {
	bool live, offline, closed;
	bool drained_all, drained_inbound; /* what comes later is ignored  */
	unsigned logged;
	struct hb_map *by_name; /* owned; values in `listeners`                    */
	struct hb_list listeners;
	struct hb_map *idents;              /* owned; name -> hb_lname                         */
	struct hb_table *names, *addresses; /* owned; what workers look into           */
	struct hb_stats *stats;
} mgr;

/* ------------------------------------------------------------------ looking up */

struct hb_listener *
hb_listeners_find(struct hb_str name)
{
	return (hb_map_get(mgr.by_name, name));
}

struct hb_listener *
hb_listeners_by_name(struct hb_str name)
{
	return (hb_table_get(mgr.names, name));
}

struct address_key {
	uint8_t b[3 + 16];
};

static struct hb_str
key_of(const struct hb_addr *a, bool wildcard, struct address_key *k)
{
	memset(k, 0, sizeof *k);
	k->b[0] = a->kind;
	k->b[1] = (uint8_t)(a->port >> 8);
	k->b[2] = (uint8_t)a->port;
	if (!wildcard)
		memcpy(&k->b[3], a->u.ip, a->kind == HB_ADDR_V4 ? 4 : 16);
	return (hb_strn(k->b, sizeof k->b));
}

struct hb_listener *
hb_listeners_by_address(const struct hb_addr *a)
{
	struct address_key k;
	struct hb_listener *l;

	if (a->kind != HB_ADDR_V4 && a->kind != HB_ADDR_V6)
		return (NULL);
	l = hb_table_get(mgr.addresses, key_of(a, false, &k));
	return (l != NULL ? l : hb_table_get(mgr.addresses, key_of(a, true, &k)));
}

/* The keys of an address: a dual-stack wildcard has a second one. */
static unsigned
keys_of(const struct hb_listener *l, size_t i, struct hb_addr ret[2])
{
	ret[0] = ret[1] = l->bound[i];
	if (ret[0].kind != HB_ADDR_V4 && ret[0].kind != HB_ADDR_V6)
		return (0);
	if (!l->addr[i].v4_too)
		return (1);
	ret[1].kind = HB_ADDR_V4;
	memset(ret[1].u.ip, 0, sizeof ret[1].u.ip);
	return (2);
}

static void
show_to_workers(struct hb_listener *l, bool on)
{
	struct address_key k;
	struct hb_addr a[2];

	for (size_t i = 0; i < l->n_addrs; i++)
		for (unsigned j = keys_of(l, i, a); j-- > 0;) {
			struct hb_str key = key_of(&a[j], false, &k);

			if (on)
				hb_table_put(mgr.addresses, key, l);
			else if (hb_table_get(mgr.addresses, key) == l)
				(void)hb_table_del(mgr.addresses, key);
		}
	if (on)
		hb_table_put(mgr.names, hb_str(l->name), l);
	else if (hb_table_get(mgr.names, hb_str(l->name)) == l)
		(void)hb_table_del(mgr.names, hb_str(l->name));
}

void
hb_listeners_each(void (*fn)(void *arg, struct hb_listener *), void *arg)
{
	struct hb_list *n, *next;

	HB_LIST_FOREACH_SAFE (n, next, &mgr.listeners)
		fn(arg, HB_LIST_ENTRY(n, struct hb_listener, node));
}

void
hb_listeners_count(enum hb_lmanager_stat i, int64_t n)
{
	if (hb_worker_control() != NULL && mgr.stats != NULL)
		hb_stat_add(hb_worker_control(), mgr.stats, i, n);
}

/* ------------------------------------------------------------------ making live */

static struct hb_lname *
ident_get(const char *name)
{
	struct hb_lname *id = hb_map_get(mgr.idents, hb_str(name));

	if (id == NULL) {
		id = hb_calloc(1, sizeof *id + hb_workers_count() * sizeof id->count[0]);
		id->magic = HB_LNAME_MAGIC;
		id->name = hb_strdup(name);
		hb_map_put(mgr.idents, hb_str(name), id);
	}
	HB_CHECK(id, HB_LNAME_MAGIC);
	id->refs++;
	return (id);
}

static void
ident_unref(struct hb_lname **idp)
{
	struct hb_lname *id = *idp;

	if (id == NULL)
		return;
	HB_CHECK(id, HB_LNAME_MAGIC);
	*idp = NULL;
	if (--id->refs > 0)
		return;
	hb_map_del(mgr.idents, hb_str(id->name));
	hb_free(id->name);
	HB_DEL(id);
}

/* The first address of `l` that `o` has as well; NULL = none. */
static const struct hb_laddr *
common_address(const struct hb_listener *l, const struct hb_listener *o)
{
	for (size_t i = 0; i < l->n_addrs && l->bind && o->bind; i++)
		for (size_t j = 0; j < o->n_addrs; j++)
			if (hb_laddr_clash(&l->addr[i], &o->addr[j]))
				return (&l->addr[i]);
	return (NULL);
}

#define CLASH_TEXT                                                                       \
	"%s belongs to the listener \"%s\" already; choose another address, or put the " \
	"filter chains into one listener"

static int
check_clash(const struct hb_listener *l, const struct hb_listener *old, struct hb_err *reterr)
{
	struct hb_list *n;
	char text[HB_ADDR_TEXT_MAX];

	HB_LIST_FOREACH (n, &mgr.listeners) {
		const struct hb_listener *o = HB_LIST_ENTRY(n, struct hb_listener, node);
		const struct hb_laddr *a = o == old ? NULL : common_address(l, o);

		if (a == NULL)
			continue;
		(void)hb_addr_format(&a->addr, text, sizeof text);
		return (hb_err_set(reterr, -EADDRINUSE, CLASH_TEXT, text, o->name));
	}
	return (0);
}

static int
listener_clash(
	struct hb_cfg *cfg, const ProtobufCMessage *msg, const void *obj, const void *earlier)
{
	const struct hb_listener *l = obj, *o = earlier;
	const struct hb_laddr *a = common_address(l, o);
	char text[HB_ADDR_TEXT_MAX];

	if (a == NULL)
		return (0);
	(void)hb_addr_format(&a->addr, text, sizeof text);
	return (hb_cfg_error(cfg, msg, "address", -1, CLASH_TEXT, text, o->name));
}

/* Sockets of a port that the kernel chose stay with the listener, too. */
static struct hb_lsock *
shared_of(const struct hb_listener *old, const struct hb_laddr *a, size_t i)
{
	if (old == NULL || old->sock == NULL || i >= old->n_addrs ||
		strcmp(old->addr[i].key, a->key) != 0)
		return (NULL);
	return (old->sock[i]);
}

static int
bind_all(struct hb_listener *l, const struct hb_listener *old, struct hb_err *reterr)
{
	l->bound = hb_calloc(l->n_addrs, sizeof *l->bound);
	l->closing = hb_calloc(l->n_addrs, sizeof *l->closing);
	for (size_t i = 0; i < l->n_addrs; i++)
		l->bound[i] = l->addr[i].addr;
	if (mgr.offline || !l->bind)
		return (0);
	l->sock = hb_calloc(l->n_addrs, sizeof(struct hb_lsock *));
	for (size_t i = 0; i < l->n_addrs; i++) {
		l->sock[i] = hb_lsock_get(l, &l->addr[i], shared_of(old, &l->addr[i], i), reterr);
		if (l->sock[i] == NULL) {
			hb_err_prefix(reterr, "listener \"%s\": ", l->name);
			return (reterr->code);
		}
		l->bound[i].port = l->sock[i]->bound.port;
	}
	return (0);
}

void
hb_listener_unbind(struct hb_listener *l)
{
	for (size_t i = 0; l->sock != NULL && i < l->n_addrs; i++)
		hb_lsock_unref(&l->sock[i]);
	hb_free(l->sock);
	l->sock = NULL;
}

static void
make_worker_parts(struct hb_listener *l, const char *label)
{
	char *name;

	l->n_workers = hb_workers_count();
	l->worker = hb_calloc(l->n_workers, sizeof *l->worker);
	for (unsigned i = 0; i < l->n_workers; i++) {
		struct hb_lworker *lw = &l->worker[i];

		lw->listener = l;
		lw->worker = hb_worker_at(i);
		lw->socket = (struct hb_ldoor){ lw, true };
		lw->stream = (struct hb_ldoor){ lw, false };
		hb_list_init(&lw->pres);
		name = hb_asprintf("%s.worker_%u", label, i);
		lw->stats = hb_stats_get(&hb_lworker_family, hb_str(name));
		hb_free(name);
		lw->accept = hb_calloc(l->n_addrs, sizeof *lw->accept);
		for (unsigned j = 0; j < l->n_addrs; j++)
			hb_laccept_init(&lw->accept[j], lw, j);
	}
}

static int
make_live(struct hb_listener *l, const char *name, const struct hb_listener *old,
	struct hb_err *reterr)
{
	char text[HB_ADDR_TEXT_MAX];
	struct hb_err err = { 0 };
	int r;

	hb_free(l->name);
	l->name = hb_strdup(name);
	r = check_clash(l, old, &err);
	if (r == 0)
		r = bind_all(l, old, &err);
	if (r != 0) {
		if (reterr != NULL)
			*reterr = err;
		return (r);
	}
	(void)hb_addr_format(&l->bound[0], text, sizeof text);
	if (*l->stat_prefix != '\0')
		(void)snprintf(text, sizeof text, "%s", l->stat_prefix);
	l->stats = hb_stats_get(&hb_listener_family, hb_str(text));
	make_worker_parts(l, text);
	l->ident = ident_get(name);
	return (0);
}

void
hb_listener_gone(struct hb_listener **lp)
{
	struct hb_listener *l = *lp;

	hb_listener_unbind(l);
	ident_unref(&l->ident);
	hb_listener_free(lp);
}

/* ------------------------------------------------------------------ telling workers */

struct swap {
	unsigned magic;
#define SWAP_MAGIC 0x3e5d09b8
	struct hb_listener *old, *now; /* either may be NULL */
};

static void
swap_worker(struct hb_worker *w, void *arg)
{
	struct swap *s = arg;

	HB_CHECK(s, SWAP_MAGIC);
	if (s->old != NULL)
		hb_listener_accept_stop(&s->old->worker[w->index]);
	if (s->now != NULL)
		hb_listener_accept_start(&s->now->worker[w->index]);
}

static void
swap_done(void *arg)
{
	struct swap *s = arg;

	HB_CHECK(s, SWAP_MAGIC);
	if (s->old != NULL)
		hb_listener_unbind(s->old);
	if (s->now != NULL) {
		if (!s->now->serving)
			hb_listeners_count(LM_WARMING, -1);
		s->now->serving = true;
		hb_listeners_count(LM_SUCCESS, hb_workers_count());
	}
	HB_DEL(s);
}

static void
swap(struct hb_listener *old, struct hb_listener *now)
{
	struct swap *s;

	HB_NEW(s, SWAP_MAGIC);
	s->old = old;
	s->now = now;
	for (size_t i = 0; old != NULL && old->sock != NULL && i < old->n_addrs; i++)
		old->closing[i] = old->sock[i]->refs == 1;
	if (mgr.offline)
		swap_done(s);
	else
		hb_post_all(swap_worker, swap_done, s);
}

/* ------------------------------------------------------------------ chains that go */

struct leaving {
	unsigned magic;
#define LEAVING_MAGIC 0x751c2e40
	struct hb_chain_set *set; /* owned; NULL: the listener keeps it */
	struct hb_listener *l;    /* owned; NULL: lives on              */
	struct hb_chain **chain;  /* owned                              */
	size_t n;
	char *heir; /* owned: name of the listener that has their place; NULL = none */
};

static const struct hb_chain *
find_heir(struct hb_str name, const struct hb_facts *facts)
{
	const struct hb_listener *l = hb_listeners_by_name(name);
	const struct hb_chain_set *set = l == NULL ?
		NULL :
		atomic_load_explicit(&l->set, memory_order_acquire);

	return (set == NULL ? NULL : hb_chain_set_find(set, facts));
}

/* No worker can choose these chains for a new connection any more. */
static void
on_left(void *obj)
{
	struct leaving *v;

	HB_CAST(v, obj, LEAVING_MAGIC);
	HB_ASSERT(hb_worker_control() != NULL);
	hb_chain_set_free(&v->set);
	if (v->heir != NULL)
		hb_chains_replaced(v->chain, v->n, v->heir, find_heir);
	hb_free(v->heir);
	hb_ldrain_start(v->chain, v->n, v->l);
	HB_DEL(v);
}

static void
leave(struct hb_chain_set *set, const char *heir, struct hb_listener *l)
{
	bool take_set = heir != NULL;
	struct leaving *v;

	HB_NEW(v, LEAVING_MAGIC);
	v->l = l;
	v->heir = heir == NULL ? NULL : hb_strdup(heir);
	v->chain = hb_calloc(set->n + 2, sizeof(struct hb_chain *));
	for (size_t i = 0; i <= set->n; i++) {
		struct hb_chain *c = i < set->n ? set->chain[i] : set->fallback;

		if (c == NULL || set->moved[i])
			continue;
		v->chain[v->n++] = c;
		/* The drain owns it now. */
		set->moved[i] = take_set;
	}
	v->set = take_set ? set : NULL;
	hb_retire(v, on_left);
}

/* ------------------------------------------------------------------ the kind */

static void
announce(const struct hb_listener *l, const char *what)
{
	char text[HB_ADDR_TEXT_MAX];

	if (mgr.offline)
		return;
	(void)hb_addr_format(&l->bound[0], text, sizeof text);
	if (mgr.logged++ < LOGGED_MAX || l->serving)
		HB_LOG(LISTENER, INFO, what, "listener=%s address=%s workers=%zu", l->name, text,
			l->n_workers);
	else
		HB_LOG(LISTENER, DEBUG, what, "listener=%s address=%s workers=%zu", l->name, text,
			l->n_workers);
}

static void
update_in_place(struct hb_listener *live, struct hb_listener *l)
{
	struct hb_chain_set *set = atomic_load(&l->set), *old = atomic_load(&live->set);

	atomic_store(&l->set, NULL);
	hb_chain_set_adopt(set, old);
	atomic_store_explicit(&live->set, set, memory_order_release);
	hb_listener_free(&l);
	leave(old, live->name, NULL);
	hb_listeners_count(LM_IN_PLACE, 1);
	hb_listeners_count(LM_MODIFIED, 1);
	HB_LOG(LISTENER, INFO, "filter chains changed", "listener=%s chains=%zu", live->name,
		set->n);
}

static void
take_over(struct hb_listener *l, struct hb_listener *old)
{
	struct hb_chain_set *was = atomic_load(&old->set);

	hb_chain_set_adopt(atomic_load(&l->set), was);
	hb_list_del(&old->node);
	/* In this order: at no time is the name unknown. */
	show_to_workers(l, true);
	show_to_workers(old, false);
	atomic_store_explicit(&l->ident->current, l, memory_order_release);
	atomic_store_explicit(&old->set, NULL, memory_order_release);
	swap(old, l);
	leave(was, l->name, old);
	hb_listeners_count(LM_MODIFIED, 1);
	hb_listeners_count(LM_STOPPED, 1);
}

static bool
is_ignored(const struct hb_listener *l)
{
	return (mgr.drained_all || mgr.closed || (mgr.drained_inbound && l->inbound));
}

static int
listener_publish(const char *name, void *obj, struct hb_err *reterr)
{
	struct hb_listener *l, *old = hb_map_get(mgr.by_name, hb_str(name));
	int r;

	HB_CAST(l, obj, HB_LISTENER_MAGIC);
	if (is_ignored(l)) {
		HB_LOG(LISTENER, WARN, "ignored: listeners are draining", "listener=%s", name);
		hb_listener_free(&l);
		return (0);
	}
	if (old != NULL &&
		hb_str_eq(hb_strn(old->wire.p, old->wire.len), hb_strn(l->wire.p, l->wire.len))) {
		update_in_place(old, l);
		return (0);
	}
	r = make_live(l, name, old, reterr);
	if (r != 0) {
		hb_listeners_count(LM_FAILURE, 1);
		hb_listener_unbind(l);
		hb_listener_free(&l);
		return (r);
	}
	hb_map_put(mgr.by_name, hb_str(name), l);
	hb_list_add_tail(&mgr.listeners, &l->node);
	hb_listeners_count(LM_WARMING, 1);
	announce(l, old == NULL ? "listening" : "listener changed");
	if (old != NULL) {
		take_over(l, old);
		return (0);
	}
	show_to_workers(l, true);
	atomic_store_explicit(&l->ident->current, l, memory_order_release);
	swap(NULL, l);
	hb_listeners_count(LM_ADDED, 1);
	hb_listeners_count(LM_ACTIVE, 1);
	return (0);
}

static void
listener_retire(const char *name)
{
	struct hb_listener *l = hb_map_del(mgr.by_name, hb_str(name));

	if (l == NULL)
		return;
	hb_list_del(&l->node);
	show_to_workers(l, false);
	atomic_store_explicit(&l->ident->current, NULL, memory_order_release);
	HB_LOG(LISTENER, INFO, "listener removed", "listener=%s", l->name);
	swap(l, NULL);
	leave(atomic_load(&l->set), NULL, l);
	hb_listeners_count(LM_REMOVED, 1);
	hb_listeners_count(LM_STOPPED, 1);
	hb_listeners_count(LM_ACTIVE, -1);
}

static struct hb_str
listener_name_of(const ProtobufCMessage *m)
{
	return (hb_str(((const Envoy__Config__Listener__V3__Listener *)(const void *)m)->name));
}

static bool
listener_is_active(const char *name)
{
	const struct hb_listener *l = hb_map_get(mgr.by_name, hb_str(name));

	return (l != NULL && l->serving);
}

static const struct hb_resource_kind listener_kind = {
	.name = "listener",
	.desc = &envoy__config__listener__v3__listener__descriptor,
	.order = 100,
	.compile = hb_listener_compile,
	.discard = hb_listener_discard,
	.publish = listener_publish,
	.retire = listener_retire,
	.name_of = listener_name_of,
	.is_active = listener_is_active,
	.clash = listener_clash,
};

static const struct hb_acceptor_ops acceptor = { .accept = hb_listener_stream };

/* ------------------------------------------------------------------ for core/app */

static int64_t
workers_started(void *arg)
{
	(void)arg;
	return (hb_workers_running());
}

int
hb_listeners_init(const struct hb_listeners_options *o, struct hb_err *reterr)
{
	static bool registered;

	(void)reterr;
	HB_ASSERT(!mgr.live);
	memset(&mgr, 0, sizeof mgr);
	mgr.live = true;
	mgr.offline = o->offline;
	mgr.by_name = hb_map_new();
	mgr.idents = hb_map_new();
	mgr.names = hb_table_new(NULL);
	mgr.addresses = hb_table_new(NULL);
	mgr.stats = hb_stats_get(&hb_lmanager_family, HB_STR(""));
	hb_stat_computed(mgr.stats, LM_WORKERS, workers_started, NULL);
	hb_list_init(&mgr.listeners);
	hb_listener_limit_init(o->connections_max);
	hb_ldrain_init(o->drain_time_ms);
	hb_listeners_admin_start();
	hb_acceptor_bind(&acceptor);
	if (!registered) {
		hb_resource_kind_add(&listener_kind);
		hb_listeners_admin_init();
	}
	registered = true;
	return (0);
}

void
hb_listeners_fini(void)
{
	if (!mgr.live)
		return;
	hb_ldrain_fini();
	while (!hb_list_empty(&mgr.listeners)) {
		struct hb_listener *l = HB_LIST_ENTRY(mgr.listeners.next, struct hb_listener, node);

		hb_list_del(&l->node);
		hb_listener_gone(&l);
	}
	hb_map_free(&mgr.by_name);
	hb_map_free(&mgr.idents);
	hb_table_free(&mgr.names);
	hb_table_free(&mgr.addresses);
	hb_stats_unref(&mgr.stats);
	mgr.live = false;
}

void
hb_listeners_foreach(
	void (*fn)(void *arg, const char *name, const struct hb_addr *bound), void *arg)
{
	struct hb_list *n;

	HB_LIST_FOREACH (n, &mgr.listeners) {
		const struct hb_listener *l = HB_LIST_ENTRY(n, struct hb_listener, node);

		for (size_t i = 0; l->sock != NULL && i < l->n_addrs; i++)
			fn(arg, l->name, &l->bound[i]);
	}
}

bool
hb_listeners_ready(struct hb_text *why)
{
	struct hb_list *n;
	bool ready = true;

	HB_LIST_FOREACH (n, &mgr.listeners) {
		const struct hb_listener *l = HB_LIST_ENTRY(n, struct hb_listener, node);

		if (l->serving || mgr.offline)
			continue;
		ready = false;
		if (why != NULL)
			hb_text_printf(why, "listener %s does not accept yet\n", l->name);
	}
	return (ready);
}

static void
drain_one(struct hb_listener *l)
{
	const struct hb_chain_set *set = atomic_load(&l->set);

	if (l->stopped)
		return;
	l->stopped = true;
	swap(l, NULL);
	hb_ldrain_tell(set->chain, set->n);
	if (set->fallback != NULL)
		hb_ldrain_tell(&set->fallback, 1);
	hb_listeners_count(LM_STOPPED, 1);
}

void
hb_listeners_drain(bool inbound_only)
{
	struct hb_list *n;

	mgr.drained_inbound = true;
	mgr.drained_all = mgr.drained_all || !inbound_only;
	HB_LIST_FOREACH (n, &mgr.listeners) {
		struct hb_listener *l = HB_LIST_ENTRY(n, struct hb_listener, node);

		if (!inbound_only || l->inbound)
			drain_one(l);
	}
}

uint64_t
hb_listeners_connections(void)
{
	size_t cursor = 0;
	uint64_t sum = 0;
	struct hb_str name;
	void *id;

	while (hb_map_next(mgr.idents, &cursor, &name, &id))
		sum += hb_lname_connections(id);
	return (sum);
}

/* ------------------------------------------------------------------ the end of everything */

struct closing {
	unsigned magic;
#define CLOSING_MAGIC 0x2f80b6d5
	enum hb_close_reason reason;
	size_t n;
	struct hb_listener **l; /* owned array */
};

static bool
close_one(void *arg, struct hb_conn *c)
{
	hb_conn_close(c, ((struct closing *)arg)->reason);
	return (true);
}

static void
close_worker(struct hb_worker *w, void *arg)
{
	struct closing *v = arg;

	HB_CHECK(v, CLOSING_MAGIC);
	for (size_t i = 0; i < v->n; i++) {
		struct hb_lworker *lw = &v->l[i]->worker[w->index];

		lw->closed = true;
		hb_listener_accept_stop(lw);
		hb_pre_close_all(lw, v->reason);
	}
	hb_conn_foreach(w, close_one, v);
}

static void
close_done(void *arg)
{
	struct closing *v = arg;

	hb_free(v->l);
	HB_DEL(v);
}

static void
close_add(void *arg, struct hb_listener *l)
{
	struct closing *v = arg;

	v->l = hb_realloc(v->l, (v->n + 1) * sizeof(struct hb_listener *));
	v->l[v->n++] = l;
}

void
hb_listeners_close_all(enum hb_close_reason reason)
{
	struct closing *v;

	mgr.closed = true;
	hb_ldrain_stop();
	hb_listeners_admin_stop();
	HB_NEW(v, CLOSING_MAGIC);
	v->reason = reason;
	hb_listeners_each(close_add, v);
	hb_ldrain_each(close_add, v);
	hb_post_all(close_worker, close_done, v);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/mesh/policies.h"

#include <stdatomic.h>

#include "core/event/table.h"
#include "istio/security/authorization.pb-c.h"

#define VIEW_MAGIC 0xa0712003

struct hb_policy_view {
	unsigned magic;
	struct hb_list node; /* of store.views */
	struct hb_policy_view_options o;
	char *ns;                       /* owned */
	char **names;                   /* owned */
	_Atomic(struct hb_authz *) set; /* owned; replaced ones are retired */
};

/* The shared policies. */
static struct {
	struct hb_authz_policy *
		*v; /* owned; in the order of keys, so that the same set is the same */
	size_t n, cap;
	struct hb_authz_policy **gone; /* owned; views may still have them */
	size_t n_gone, cap_gone;
	struct hb_list views;
	unsigned batches;
	bool changed;
	void (*fn)(void *arg);
	void *arg;
} store = { .views = { &store.views, &store.views } };

static void
policy_retired(void *obj)
{
	struct hb_authz_policy *p = obj;

	hb_authz_policy_free(&p);
}

static void
set_retired(void *obj)
{
	struct hb_authz *a = obj;

	hb_authz_free(&a);
}

static void
list_add(struct hb_authz_policy ***v, size_t *n, size_t *cap, size_t at, struct hb_authz_policy *p)
{
	if (*n == *cap) {
		*cap = HB_MAX(*cap * 2, (size_t)16);
		*v = hb_realloc(*v, *cap * sizeof(**v));
	}
	memmove(*v + at + 1, *v + at, (*n - at) * sizeof(**v));
	(*v)[at] = p;
	(*n)++;
}

/* Where a policy is, or would have to be. */
static size_t
place_of(struct hb_str key, bool *ret_found)
{
	size_t low = 0, high = store.n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (hb_str_cmp(hb_str(hb_authz_policy_key(store.v[mid])), key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	*ret_found = low < store.n && hb_str_eq(hb_str(hb_authz_policy_key(store.v[low])), key);
	return (low);
}

/* ------------------------------------------------------------------ views */

static bool
is_named(const struct hb_policy_view *view, const struct hb_authz_policy *p)
{
	for (size_t i = 0; i < view->o.n_names; i++) {
		if (strcmp(view->names[i], hb_authz_policy_key(p)) == 0)
			return (true);
	}
	return (false);
}

static bool
applies(const struct hb_policy_view *view, const struct hb_authz_policy *p, bool own)
{
	switch (hb_authz_policy_scope(p)) {
	case HB_AUTHZ_GLOBAL:
		return (true);
	case HB_AUTHZ_NAMESPACE:
		if (own && view->o.ns.len == 0)
			return (true);
		if (view->o.ns.len > 0 && hb_str_eq(view->o.ns, hb_authz_policy_namespace(p)))
			return (true);
		break;
	default:
		if (own && view->o.n_names == 0)
			return (true);
		break;
	}
	return (is_named(view, p));
}

static bool
exists(const struct hb_policy_view *view, const char *name)
{
	bool found = false;

	for (size_t i = 0; i < view->o.n_own; i++)
		found |= strcmp(hb_authz_policy_key(view->o.own[i]), name) == 0;
	if (!found && view->o.shared)
		(void)place_of(hb_str(name), &found);
	return (found);
}

static struct hb_authz *
view_build(const struct hb_policy_view *view)
{
	struct hb_authz *a = hb_authz_new();

	for (size_t i = 0; i < view->o.n_own; i++) {
		if (applies(view, view->o.own[i], true))
			hb_authz_add(a, view->o.own[i]);
	}
	for (size_t i = 0; view->o.shared && i < store.n; i++) {
		if (applies(view, store.v[i], false))
			hb_authz_add(a, store.v[i]);
	}
	for (size_t i = 0; i < view->o.n_names; i++) {
		if (!exists(view, view->names[i]))
			hb_authz_add_unknown(a, view->names[i]);
	}
	return (a);
}

struct hb_policy_view *
hb_policy_view_new(const struct hb_policy_view_options *o)
{
	struct hb_policy_view *view;

	HB_NEW(view, VIEW_MAGIC);
	view->o = *o;
	view->ns = hb_strndup(o->ns.p == NULL ? "" : o->ns.p, o->ns.len);
	view->o.ns = hb_str(view->ns);
	view->names = hb_calloc(o->n_names + 1, sizeof(*view->names));
	for (size_t i = 0; i < o->n_names; i++)
		view->names[i] = hb_strdup(o->names[i]);
	view->o.names = NULL;
	hb_list_init(&view->node);
	hb_list_add_tail(&store.views, &view->node);
	atomic_store_explicit(&view->set, view_build(view), memory_order_release);
	return (view);
}

void
hb_policy_view_free(struct hb_policy_view **vp)
{
	struct hb_policy_view *view = *vp;
	struct hb_authz *a;

	if (view == NULL)
		return;
	HB_CHECK(view, VIEW_MAGIC);
	*vp = NULL;
	hb_list_del(&view->node);
	a = atomic_load_explicit(&view->set, memory_order_relaxed);
	hb_authz_free(&a);
	for (size_t i = 0; i < view->o.n_names; i++)
		hb_free(view->names[i]);
	hb_free(view->names);
	hb_free(view->ns);
	HB_DEL(view);
}

const struct hb_authz *
hb_policy_view_get(const struct hb_policy_view *view)
{
	HB_CHECK(view, VIEW_MAGIC);
	return (atomic_load_explicit(&view->set, memory_order_acquire));
}

/* ------------------------------------------------------------------ changes */

static void
publish(void)
{
	struct hb_list *node;

	HB_LIST_FOREACH (node, &store.views) {
		struct hb_policy_view *view = HB_LIST_ENTRY(node, struct hb_policy_view, node);

		if (view->o.shared)
			hb_retire(atomic_exchange_explicit(
					  &view->set, view_build(view), memory_order_acq_rel),
				set_retired);
	}
	/* Not before: until here views had them. */
	for (size_t i = 0; i < store.n_gone; i++)
		hb_retire(store.gone[i], policy_retired);
	store.n_gone = 0;
	store.changed = false;
	if (store.fn != NULL)
		store.fn(store.arg);
}

void
hb_policies_begin(void)
{
	store.batches++;
}

void
hb_policies_end(void)
{
	HB_ASSERT(store.batches > 0);
	if (--store.batches == 0 && store.changed)
		publish();
}

static void
gone(struct hb_authz_policy *p)
{
	list_add(&store.gone, &store.n_gone, &store.cap_gone, store.n_gone, p);
}

void
hb_policies_put(struct hb_authz_policy *p)
{
	bool found;
	size_t at = place_of(hb_str(hb_authz_policy_key(p)), &found);

	hb_policies_begin();
	store.changed = true;
	if (found) {
		gone(store.v[at]);
		store.v[at] = p;
	} else {
		list_add(&store.v, &store.n, &store.cap, at, p);
	}
	hb_policies_end();
}

bool
hb_policies_del(struct hb_str key)
{
	bool found;
	size_t at = place_of(key, &found);

	if (!found)
		return (false);
	hb_policies_begin();
	store.changed = true;
	gone(store.v[at]);
	store.n--;
	memmove(store.v + at, store.v + at + 1, (store.n - at) * sizeof(*store.v));
	hb_policies_end();
	return (true);
}

const struct hb_authz_policy *
hb_policies_find(struct hb_str key)
{
	bool found;
	size_t at = place_of(key, &found);

	return (found ? store.v[at] : NULL);
}

size_t
hb_policies_count(void)
{
	return (store.n);
}

void
hb_policies_on_change(void (*fn)(void *arg), void *arg)
{
	store.fn = fn;
	store.arg = arg;
}

void
hb_policies_fini(void)
{
	HB_ASSERT(store.batches == 0);
	for (size_t i = 0; i < store.n; i++)
		hb_authz_policy_free(&store.v[i]);
	hb_free(store.v);
	hb_free(store.gone);
	store.v = store.gone = NULL;
	store.n = store.cap = store.n_gone = store.cap_gone = 0;
	store.fn = NULL;
}

/* ------------------------------------------------------------------ as resources */

static int
kind_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, void **ret_obj)
{
	*ret_obj = hb_authz_policy_compile(cfg, msg);
	return (*ret_obj == NULL ? -EINVAL : 0);
}

static int
kind_publish(const char *name, void *obj, struct hb_err *reterr)
{
	struct hb_authz_policy *p = obj;
	int r = 0;

	if (strcmp(name, hb_authz_policy_key(p)) != 0) {
		r = hb_err_set(reterr, -EINVAL,
			"the resource is called \"%.200s\", but its policy \"%.200s\"", name,
			hb_authz_policy_key(p));
		hb_authz_policy_free(&p);
		return (r);
	}
	hb_policies_put(p);
	return (0);
}

static void
kind_retire(const char *name)
{
	(void)hb_policies_del(hb_str(name));
}

/* The message has no such text in one piece: it is put together here, until the next call. */
static struct hb_str
kind_name_of(const ProtobufCMessage *msg)
{
	static struct hb_text key;
	const Istio__Security__Authorization *m = (const void *)msg;

	key.len = 0;
	hb_text_printf(&key, "%s/%s", m->namespace_, m->name);
	return (hb_strn(key.p, key.len));
}

const struct hb_resource_kind hb_policies_kind = {
	.name = "authorization",
	.desc = &istio__security__authorization__descriptor,
	.order = 5,
	.compile = kind_compile,
	.discard = policy_retired,
	.publish = kind_publish,
	.retire = kind_retire,
	.name_of = kind_name_of,
};

void
hb_policies_init(void (*on_change)(void *arg), void *arg)
{
	if (hb_resource_kind_find(hb_str(hb_policies_kind.desc->name)) == NULL)
		hb_resource_kind_add(&hb_policies_kind);
	hb_policies_on_change(on_change, arg);
}

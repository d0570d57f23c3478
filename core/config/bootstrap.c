/* SPDX-License-Identifier: Apache-2.0 */
/* A whole configuration file against what is live. */
#include <stdio.h>
#include <stdlib.h>
#include "core/config/cfg_priv.h"
#include "core/config/resource_priv.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"

struct item {
	const struct hb_resource_kind *kind;
	const ProtobufCMessage *msg;
	char *name;          /* owned                                             */
	struct hb_text wire; /* owned                                             */
	void *obj;           /* owned until published; NULL = refused or unchanged */
	size_t first_err;    /* errors from here on are this item's, to last_err  */
	bool same, refused, done;
};

struct plan {
	struct hb_cfg *cfg;
	struct item *v;
	size_t n, cap;
	size_t errs_before;
	struct hb_map *names; /* kind/name to item */
};

/* A name for what has none: the same as long as it does not change. */
static char *
name_of(const struct hb_resource_kind *kind, const ProtobufCMessage *msg,
	const struct hb_text *wire)
{
	struct hb_str name = kind->name_of(msg);

	if (name.len > 0)
		return (hb_strndup(name.p, name.len));
	return (hb_asprintf(
		"%s-%016llx", kind->name, (unsigned long long)hb_hash_stable(wire->p, wire->len)));
}

static void
plan_add(struct plan *p, const struct hb_resource_kind *kind, const ProtobufCMessage *msg)
{
	struct item *it;

	if (p->n == p->cap) {
		p->cap = p->cap == 0 ? 16 : p->cap * 2;
		p->v = hb_realloc(p->v, p->cap * sizeof *p->v);
	}
	it = &p->v[p->n++];
	*it = (struct item){ .kind = kind, .msg = msg, .wire = hb_cfg_to_wire(msg) };
	it->name = name_of(kind, msg, &it->wire);
}

/* Resources of a kind are those lists of static_resources, or of a bootstrap extension, whose elements
 * have its type. */
static void
plan_kind(struct plan *p, const struct hb_resource_kind *kind, const ProtobufCMessage *holder)
{
	const ProtobufCMessageDescriptor *desc = holder->descriptor;

	for (unsigned i = 0; i < desc->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &desc->fields[i];
		const char *base = (const char *)holder;
		ProtobufCMessage *const *v;
		size_t n;

		if (f->type != PROTOBUF_C_TYPE_MESSAGE || f->descriptor != kind->desc ||
			f->label != PROTOBUF_C_LABEL_REPEATED)
			continue;
		n = *(const size_t *)(const void *)(base + f->quantifier_offset);
		v = *(ProtobufCMessage *const *const *)(const void *)(base + f->offset);
		for (size_t k = 0; k < n; k++)
			plan_add(p, kind, v[k]);
	}
}

static void
plan_extensions(struct plan *p, const struct hb_resource_kind *kind,
	const Envoy__Config__Bootstrap__V3__Bootstrap *b)
{
	for (size_t i = 0; i < b->n_bootstrap_extensions; i++) {
		const Envoy__Config__Core__V3__TypedExtensionConfig *e = b->bootstrap_extensions[i];
		const ProtobufCMessage *m;

		/* What is of no known type is told by who reads the extensions. */
		if (e->typed_config == NULL ||
			hb_cfg_type_find(hb_str(e->typed_config->type_url)) == NULL)
			continue;
		m = hb_cfg_any(p->cfg, e, "typed_config", -1, e->typed_config);
		if (m != NULL)
			plan_kind(p, kind, m);
	}
}

static void
check_names(struct plan *p)
{
	p->names = hb_map_new();
	for (size_t i = 0; i < p->n; i++) {
		struct item *it = &p->v[i];
		char *key = hb_asprintf("%s/%s", it->kind->name, it->name);
		const struct item *first = hb_map_put(p->names, hb_str(key), it);

		if (first != NULL) {
			char *path = hb_cfg_path(p->cfg, first->msg);

			hb_cfg_error(p->cfg, it->msg, "name", -1,
				"\"%s\" is used twice, first by %s", it->name, path);
			hb_free(path);
			it->refused = true;
		} else if (hb_resource__owned_by_other(
				   p->cfg, it->kind, it->name, HB_RESOURCE_STATIC, it->msg)) {
			it->refused = true;
		}
		hb_free(key);
	}
}

static void
compile_all(struct plan *p, bool dry_run)
{
	for (size_t i = 0; i < p->n; i++) {
		struct item *it = &p->v[i];

		it->first_err = hb_resource__n_errs(p->cfg);
		it->same = !dry_run &&
			hb_resource__same(hb_resource__find(it->kind, it->name), &it->wire);
		if (it->refused || it->same)
			continue;
		it->refused = hb_resource__compile(p->cfg, it->kind, it->msg, &it->obj) != 0;
		/* Kept at once: the errors that follow belong to others. */
		if (it->refused && !dry_run)
			hb_resource__refused(p->cfg, it->kind, it->name, HB_RESOURCE_STATIC,
				&it->wire, it->first_err);
	}
}

static void
check_clashes(struct plan *p)
{
	for (size_t i = 0; i < p->n; i++) {
		struct item *it = &p->v[i];

		if (it->kind->clash == NULL || it->obj == NULL)
			continue;
		for (size_t k = 0; k < i; k++)
			if (p->v[k].kind == it->kind && p->v[k].obj != NULL &&
				it->kind->clash(p->cfg, it->msg, it->obj, p->v[k].obj) != 0)
				break;
	}
}

static bool
planned(const struct plan *p, const struct hb_resource_kind *kind, const char *name)
{
	char *key = hb_asprintf("%s/%s", kind->name, name);
	bool ret = hb_map_get(p->names, hb_str(key)) != NULL;

	hb_free(key);
	return (ret);
}

/* The nearest name of a resource of the kind; NULL = none is near. */
static const char *
nearest(const struct plan *p, const char *kind, const char *name)
{
	const char **names = hb_calloc(p->n + 1, sizeof *names), *ret;
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		if (strcmp(p->v[i].kind->name, kind) == 0)
			names[n++] = p->v[i].name;
	ret = hb_err_nearest(name, names);
	hb_free(names);
	return (ret);
}

/* No error: what is missing may be meant to come later, and its connections end with a reason. */
static void
check_references(const struct plan *p)
{
	for (const struct hb_cfg__ref *r = p->cfg->refs; r != NULL; r = r->next) {
		char *key = hb_asprintf("%s/%s", r->kind, r->name);
		const char *near;

		if (hb_map_get(p->names, hb_str(key)) == NULL) {
			near = nearest(p, r->kind, r->name);
			hb_cfg_warn(p->cfg, r->msg, r->field, -1, "there is no %s \"%s\"%s%s%s",
				r->kind, r->name, near == NULL ? "" : "; did you mean \"",
				near == NULL ? "" : near, near == NULL ? "" : "\"?");
		}
		hb_free(key);
	}
}

static void
remove_vanished(const struct plan *p, const struct hb_resource_kind *kind)
{
	size_t n;
	struct hb_resource__entry **v = hb_resource__list(kind, &n);

	for (size_t i = 0; i < n; i++) {
		if (v[i]->origin == HB_RESOURCE_STATIC && !planned(p, kind, v[i]->name))
			hb_resource_remove(kind, v[i]->name, HB_RESOURCE_STATIC);
	}
	hb_free(v);
}

/* False when an object could not be published and nothing may be live then. */
static bool
publish_all(struct plan *p, bool all_or_nothing)
{
	for (size_t i = 0; i < p->n; i++) {
		struct item *it = &p->v[i];
		void *obj = it->obj;

		if (it->same)
			hb_resource__unchanged(hb_resource__find(it->kind, it->name), "");
		if (obj == NULL)
			continue;
		it->obj = NULL;
		it->done = hb_resource__publish(p->cfg, it->kind, it->name, "", HB_RESOURCE_STATIC,
				   it->msg, &it->wire, obj) == 0;
		if (!it->done && all_or_nothing) {
			/* Go on to learn of further addresses in use, but keep nothing. */
			it->refused = true;
		}
	}
	for (size_t i = 0; i < p->n; i++) {
		if (p->v[i].refused)
			return (!all_or_nothing);
	}
	return (true);
}

static void
take_back(struct plan *p)
{
	for (size_t i = p->n; i > 0; i--) {
		if (p->v[i - 1].done)
			hb_resource_remove(p->v[i - 1].kind, p->v[i - 1].name, HB_RESOURCE_STATIC);
	}
}

static void
plan_fini(struct plan *p)
{
	for (size_t i = 0; i < p->n; i++) {
		if (p->v[i].obj != NULL)
			p->v[i].kind->discard(p->v[i].obj);
		hb_text_fini(&p->v[i].wire);
		hb_free(p->v[i].name);
	}
	hb_free(p->v);
	hb_map_free(&p->names);
}

int
hb_bootstrap_apply(
	struct hb_cfg *cfg, const ProtobufCMessage *bootstrap, bool dry_run, bool all_or_nothing)
{
	const Envoy__Config__Bootstrap__V3__Bootstrap *b = (const void *)bootstrap;
	struct plan p = { .cfg = cfg, .errs_before = hb_resource__n_errs(cfg) };
	size_t n = hb_resource__n_kinds();
	bool good;

	HB_ASSERT(bootstrap->descriptor == &envoy__config__bootstrap__v3__bootstrap__descriptor);
	for (size_t k = 0; k < n; k++) {
		if (b->static_resources != NULL)
			plan_kind(&p, hb_resource__kind_at(k), &b->static_resources->base);
		plan_extensions(&p, hb_resource__kind_at(k), b);
	}
	check_names(&p);
	compile_all(&p, dry_run);
	check_references(&p);
	/* When some may be refused alone, publishing finds out who comes second. */
	if (dry_run || all_or_nothing)
		check_clashes(&p);
	good = hb_resource__n_errs(cfg) == p.errs_before;
	if (!dry_run && (good || !all_or_nothing)) {
		/* Listeners first, so that their addresses are free; what they use last. */
		if (n > 0)
			remove_vanished(&p, hb_resource__kind_at(n - 1));
		if (!publish_all(&p, all_or_nothing))
			take_back(&p);
		for (size_t k = n; k > 1; k--)
			remove_vanished(&p, hb_resource__kind_at(k - 2));
	}
	plan_fini(&p);
	return (hb_resource__n_errs(cfg) == p.errs_before ? 0 : -EINVAL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <time.h>
#include "core/config/resource.h"
#include "core/config/resource_priv.h"

#define KINDS_MAX      16
/* A refused resource is told to a management server, whose messages are limited. */
#define ERROR_TEXT_MAX 4096

static const struct hb_resource_kind *kinds[KINDS_MAX]; /* by order */
static struct hb_map *tables[KINDS_MAX];                /* name to struct hb_resource__entry */
static size_t n_kinds;

void
hb_resource_kind_add(const struct hb_resource_kind *kind)
{
	size_t i = n_kinds;

	HB_ASSERT(n_kinds < KINDS_MAX);
	HB_ASSERT(hb_resource_kind_find(hb_str(kind->desc->name)) == NULL);
	for (; i > 0 && kinds[i - 1]->order > kind->order; i--) {
		kinds[i] = kinds[i - 1];
		tables[i] = tables[i - 1];
	}
	kinds[i] = kind;
	tables[i] = hb_map_new();
	n_kinds++;
}

const struct hb_resource_kind *
hb_resource_kind_find(struct hb_str full_message_name)
{
	for (size_t i = 0; i < n_kinds; i++) {
		if (hb_str_eq(full_message_name, hb_str(kinds[i]->desc->name)))
			return (kinds[i]);
	}
	return (NULL);
}

size_t
hb_resource__n_kinds(void)
{
	return (n_kinds);
}

const struct hb_resource_kind *
hb_resource__kind_at(size_t i)
{
	HB_ASSERT(i < n_kinds);
	return (kinds[i]);
}

static struct hb_map *
table_of(const struct hb_resource_kind *kind)
{
	for (size_t i = 0; i < n_kinds; i++) {
		if (kinds[i] == kind)
			return (tables[i]);
	}
	HB_WRONG("the kind of resource was not added");
}

struct hb_resource__entry *
hb_resource__find(const struct hb_resource_kind *kind, const char *name)
{
	return (hb_map_get(table_of(kind), hb_str(name)));
}

static struct hb_resource__entry *
entry_new(const struct hb_resource_kind *kind, const char *name, enum hb_resource_origin origin)
{
	struct hb_resource__entry *e;

	HB_NEW(e, HB_RESOURCE_ENTRY_MAGIC);
	e->kind = kind;
	e->name = hb_strdup(name);
	e->version = hb_strdup("");
	e->origin = origin;
	hb_map_put(table_of(kind), hb_str(name), e);
	return (e);
}

static void
clear_error(struct hb_resource__entry *e)
{
	hb_free(e->error);
	e->error = NULL;
	hb_text_fini(&e->error_wire);
	e->error_ms = 0;
}

static void
entry_free(struct hb_resource__entry *e)
{
	HB_CHECK(e, HB_RESOURCE_ENTRY_MAGIC);
	clear_error(e);
	hb_text_fini(&e->wire);
	hb_free(e->name);
	hb_free(e->version);
	HB_DEL(e);
}

static int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ((int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

bool
hb_resource__same(const struct hb_resource__entry *e, const struct hb_text *wire)
{
	return (e != NULL && e->live &&
		hb_str_eq(hb_strn(e->wire.p, e->wire.len), hb_strn(wire->p, wire->len)));
}

size_t
hb_resource__n_errs(struct hb_cfg *cfg)
{
	const struct hb_errs *errs = hb_cfg_errs(cfg);

	return (errs->n + errs->dropped);
}

int
hb_resource__compile(struct hb_cfg *cfg, const struct hb_resource_kind *kind,
	const ProtobufCMessage *msg, void **ret_obj)
{
	size_t before = hb_resource__n_errs(cfg);
	int r;

	*ret_obj = NULL;
	r = kind->compile(cfg, msg, ret_obj);
	if (r == 0 && hb_resource__n_errs(cfg) == before) {
		HB_ASSERT(*ret_obj != NULL);
		return (0);
	}
	/* An error was reported on the way although the room finished its work. */
	if (r == 0 && *ret_obj != NULL)
		kind->discard(*ret_obj);
	*ret_obj = NULL;
	HB_ASSERT(hb_resource__n_errs(cfg) > before);
	return (-EINVAL);
}

void
hb_resource__refused(struct hb_cfg *cfg, const struct hb_resource_kind *kind, const char *name,
	enum hb_resource_origin origin, struct hb_text *wire, size_t errs_before)
{
	const struct hb_errs *errs = hb_cfg_errs(cfg);
	struct hb_resource__entry *e = hb_resource__find(kind, name);
	struct hb_text text = { .cap_max = ERROR_TEXT_MAX };
	char line[1400];

	/* A name that the other origin owns keeps its state. */
	if (e != NULL && e->origin != origin) {
		hb_text_fini(wire);
		return;
	}
	if (e == NULL)
		e = entry_new(kind, name, origin);
	for (size_t i = errs_before; i < errs->n; i++) {
		hb_err_format(&errs->v[i], line, sizeof line);
		if (text.len > 0)
			hb_text_addz(&text, "; ");
		hb_text_addz(&text, line);
	}
	clear_error(e);
	e->error = hb_text_take(&text);
	e->error_wire = *wire;
	*wire = (struct hb_text){ 0 };
	e->error_ms = now_ms();
}

int
hb_resource__publish(struct hb_cfg *cfg, const struct hb_resource_kind *kind, const char *name,
	const char *version, enum hb_resource_origin origin, const ProtobufCMessage *msg,
	struct hb_text *wire, void *obj)
{
	struct hb_resource__entry *e;
	struct hb_err err = { 0 };
	size_t before = hb_resource__n_errs(cfg);

	if (kind->publish(name, obj, &err) != 0) {
		hb_cfg_error(cfg, msg, NULL, -1, "%s", err.text);
		hb_resource__refused(cfg, kind, name, origin, wire, before);
		return (err.code != 0 ? err.code : -EINVAL);
	}
	e = hb_resource__find(kind, name);
	if (e == NULL)
		e = entry_new(kind, name, origin);
	clear_error(e);
	hb_free(e->version);
	e->version = hb_strdup(version);
	hb_text_fini(&e->wire);
	e->wire = *wire;
	*wire = (struct hb_text){ 0 };
	e->updated_ms = now_ms();
	e->live = true;
	return (0);
}

bool
hb_resource__owned_by_other(struct hb_cfg *cfg, const struct hb_resource_kind *kind,
	const char *name, enum hb_resource_origin origin, const ProtobufCMessage *msg)
{
	const struct hb_resource__entry *e = hb_resource__find(kind, name);

	if (e == NULL || e->origin == origin)
		return (false);
	hb_cfg_error(cfg, msg, "name", -1, "the %s \"%s\" belongs to %s", kind->name, name,
		e->origin == HB_RESOURCE_STATIC ? "the configuration file" :
						  "the management server");
	return (true);
}

void
hb_resource__unchanged(struct hb_resource__entry *e, const char *version)
{
	clear_error(e);
	hb_free(e->version);
	e->version = hb_strdup(version);
}

int
hb_resource_apply(struct hb_cfg *cfg, const struct hb_resource_kind *kind, const char *name,
	const char *version, enum hb_resource_origin origin, const ProtobufCMessage *msg)
{
	struct hb_resource__entry *e = hb_resource__find(kind, name);
	struct hb_text wire = hb_cfg_to_wire(msg);
	size_t before = hb_resource__n_errs(cfg);
	void *obj;
	int r;

	if (hb_resource__owned_by_other(cfg, kind, name, origin, msg)) {
		r = -EEXIST;
	} else if (hb_resource__same(e, &wire)) {
		hb_resource__unchanged(e, version);
		r = 0;
	} else if (hb_resource__compile(cfg, kind, msg, &obj) == 0) {
		r = hb_resource__publish(cfg, kind, name, version, origin, msg, &wire, obj);
	} else {
		hb_resource__refused(cfg, kind, name, origin, &wire, before);
		r = -EINVAL;
	}
	hb_text_fini(&wire);
	return (r);
}

bool
hb_resource_remove(
	const struct hb_resource_kind *kind, const char *name, enum hb_resource_origin origin)
{
	struct hb_resource__entry *e = hb_resource__find(kind, name);
	bool live;

	if (e == NULL || e->origin != origin)
		return (false);
	hb_map_del(table_of(kind), hb_str(name));
	live = e->live;
	/* `name` may be the entry's own. */
	if (live)
		kind->retire(e->name);
	entry_free(e);
	return (live);
}

/* ------------------------------------------------------------------ looking */

static void
view_of(const struct hb_resource__entry *e, struct hb_resource_view *v)
{
	*v = (struct hb_resource_view){
		.kind = e->kind,
		.name = e->name,
		.version = e->version,
		.origin = e->origin,
		.wire = hb_strn(e->wire.p, e->live ? e->wire.len : 0),
		.updated_ms = e->updated_ms,
		.error = e->error,
		.error_wire = hb_strn(e->error_wire.p, e->error_wire.len),
		.error_ms = e->error_ms,
	};
}

bool
hb_resource_get(const struct hb_resource_kind *kind, const char *name, struct hb_resource_view *ret)
{
	const struct hb_resource__entry *e = hb_resource__find(kind, name);

	if (e == NULL)
		return (false);
	view_of(e, ret);
	return (true);
}

static int
by_name(const void *a, const void *b)
{
	const struct hb_resource__entry *const *x = a, *const *y = b;

	return (strcmp((*x)->name, (*y)->name));
}

struct hb_resource__entry **
hb_resource__list(const struct hb_resource_kind *kind, size_t *ret_n)
{
	struct hb_map *m = table_of(kind);
	struct hb_resource__entry **v = hb_calloc(hb_map_count(m) + 1, sizeof *v);
	size_t cursor = 0, n = 0;
	struct hb_str key;
	void *value;

	while (hb_map_next(m, &cursor, &key, &value))
		v[n++] = value;
	qsort(v, n, sizeof *v, by_name);
	*ret_n = n;
	return (v);
}

void
hb_resource_foreach(void (*fn)(void *arg, const struct hb_resource_view *), void *arg)
{
	for (size_t k = 0; k < n_kinds; k++) {
		size_t n;
		struct hb_resource__entry **v = hb_resource__list(kinds[k], &n);

		for (size_t i = 0; i < n; i++) {
			struct hb_resource_view view;

			view_of(v[i], &view);
			fn(arg, &view);
		}
		hb_free(v);
	}
}

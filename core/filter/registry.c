/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filter types that this process knows. Control thread only; a few dozen entries, looked up
 * while configurations are compiled: a list is enough.
 */
#include <dlfcn.h>
#include <stdio.h>
#include "core/filter/filter_host.h"

struct entry {
	unsigned magic;
#define ENTRY_MAGIC 0x0f17e9e1
	struct hb_list node;
	struct hb_filter_type type; /* our own copy: slots that an older module lacks are NULL */
};

static struct hb_list types = { &types, &types };

/* Slots that this program does not know must not be in use. */
static bool
is_newer(const struct hb_filter_type *t)
{
	const uint8_t *p = (const uint8_t *)t;

	for (size_t i = sizeof *t; i < t->size; i++)
		if (p[i] != 0)
			return (true);
	return (false);
}

static int
check_type(const struct hb_filter_type *t, struct hb_err *reterr)
{
	if (t->abi_major != HB_FILTER_ABI_MAJOR)
		return (hb_err_set(reterr, -EINVAL,
			"filter was built for ABI %u, this program has %u: build it again with the headers "
			"of this version",
			t->abi_major, HB_FILTER_ABI_MAJOR));
	if (t->size < offsetof(struct hb_filter_type, compile))
		return (hb_err_set(reterr, -EINVAL,
			"filter type has size %u, less than its required part: set .size to "
			"sizeof(struct hb_filter_type)",
			t->size));
	if (t->name == NULL || *t->name == '\0')
		return (hb_err_set(reterr, -EINVAL, "filter type has no name"));
	if (is_newer(t))
		return (hb_err_set(reterr, -EINVAL,
			"filter %s uses slots that this program does not know: it needs a newer hbone",
			t->name));
	if (t->ctx_size > HB_FILTER_CTX_MAX)
		return (hb_err_set(reterr, -EINVAL,
			"filter %s wants a context of %zu bytes, the limit is %u: allocate the rest in "
			"on_connected",
			t->name, t->ctx_size, HB_FILTER_CTX_MAX));
	if (t->kind != HB_FILTER_LISTENER && t->kind != HB_FILTER_NETWORK)
		return (hb_err_set(reterr, -EINVAL, "filter %s has an unknown kind", t->name));
	return (0);
}

static bool
has_name(const struct hb_filter_type *t, const char *name)
{
	if (name == NULL)
		return (false);
	return (strcmp(t->name, name) == 0 || (t->alias != NULL && strcmp(t->alias, name) == 0));
}

static int
check_unique(const struct hb_filter_type *t, struct hb_err *reterr)
{
	const struct hb_filter_type *o;
	struct hb_list *n;

	HB_LIST_FOREACH (n, &types) {
		o = &HB_LIST_ENTRY(n, struct entry, node)->type;
		if (has_name(o, t->name) || has_name(o, t->alias))
			return (hb_err_set(reterr, -EEXIST, "filter %s is there already", t->name));
		if (o->config != NULL && o->config == t->config && o->kind == t->kind)
			return (hb_err_set(reterr, -EEXIST,
				"filter %s has the configuration message %s, which belongs to %s already",
				t->name, t->config->name, o->name));
	}
	return (0);
}

int
hb_filter_register(const struct hb_filter_type *t, struct hb_err *reterr)
{
	struct entry *e;
	int r;

	HB_ASSERT(t != NULL);
	if ((r = check_type(t, reterr)) != 0 || (r = check_unique(t, reterr)) != 0)
		return (r);
	HB_NEW(e, ENTRY_MAGIC);
	memcpy(&e->type, t, HB_MIN((size_t)t->size, sizeof e->type));
	if (e->type.config != NULL && (r = hb_cfg_type_add(e->type.config, reterr)) != 0) {
		HB_DEL(e);
		return (r);
	}
	hb_list_add_tail(&types, &e->node);
	return (0);
}

const struct hb_filter_type *
hb_filter_find(enum hb_filter_kind kind, const ProtobufCMessageDescriptor *desc)
{
	const struct hb_filter_type *t;
	struct hb_list *n;

	HB_ASSERT(desc != NULL);
	HB_LIST_FOREACH (n, &types) {
		t = &HB_LIST_ENTRY(n, struct entry, node)->type;
		if (t->kind == kind && t->config != NULL &&
			strcmp(t->config->name, desc->name) == 0)
			return (t);
	}
	return (NULL);
}

const struct hb_filter_type *
hb_filter_find_name(enum hb_filter_kind kind, struct hb_str name)
{
	const struct hb_filter_type *t;
	struct hb_list *n;

	HB_LIST_FOREACH (n, &types) {
		t = &HB_LIST_ENTRY(n, struct entry, node)->type;
		if (t->kind == kind &&
			(hb_str_eq(hb_str(t->name), name) ||
				(t->alias != NULL && hb_str_eq(hb_str(t->alias), name))))
			return (t);
	}
	return (NULL);
}

int
hb_filter_load(const char *path, struct hb_err *reterr)
{
	const struct hb_filter_type *const *module;
	void *so;
	int r;

	so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (so == NULL)
		return (hb_err_set(
			reterr, -ENOENT, "module %s cannot be loaded: %s", path, dlerror()));
	module = dlsym(so, "hb_filter_module");
	if (module == NULL) {
		(void)dlclose(so);
		return (hb_err_set(reterr, -EINVAL,
			"module %s does not export hb_filter_module, the list of its filters",
			path));
	}
	/* Filters live for ever, so the module is never unloaded once one of them is registered. */
	for (size_t i = 0; module[i] != NULL; i++) {
		r = hb_filter_register(module[i], reterr);
		if (r == 0)
			continue;
		hb_err_prefix(reterr, "module %s: ", path);
		if (i == 0)
			(void)dlclose(so);
		return (r);
	}
	return (0);
}

/* ------------------------------------------------------------------ compiling one entry */

static int
unknown_name(struct hb_cfg *cfg, enum hb_filter_kind kind, const void *owner, const char *name)
{
	const struct hb_filter_type *t = hb_filter_find_name(kind, hb_str(name));
	const char *names[64];
	const char *near;
	size_t n = 0;
	struct hb_list *l;

	if (t != NULL)
		return (hb_cfg_error(cfg, owner, "typed_config", -1,
			"is missing; filter %s needs \"@type\": type.googleapis.com/%s", name,
			t->config->name));
	HB_LIST_FOREACH (l, &types) {
		t = &HB_LIST_ENTRY(l, struct entry, node)->type;
		if (t->kind == kind && n < HB_ARRAY_LEN(names) - 1)
			names[n++] = t->alias != NULL ? t->alias : t->name;
	}
	names[n] = NULL;
	near = hb_err_nearest(name, names);
	return (hb_cfg_error(cfg, owner, "typed_config", -1,
		"is missing, and no filter without configuration is called \"%s\"%s%s%s", name,
		near == NULL ? "" : "; did you mean \"", near == NULL ? "" : near,
		near == NULL ? "" : "\", with its typed_config?"));
}

int
hb_filter_compile(struct hb_cfg *cfg, enum hb_filter_kind kind, const void *owner_msg,
	const char *name, const void *any, const struct hb_filter_type **ret_type,
	const void **ret_conf)
{
	const struct hb_filter_type *t;
	const ProtobufCMessage *msg = NULL;

	*ret_type = NULL;
	*ret_conf = NULL;
	if (any == NULL) {
		t = hb_filter_find_name(kind, hb_str(name));
		if (t == NULL || t->config != NULL)
			return (unknown_name(cfg, kind, owner_msg, name));
	} else {
		msg = hb_cfg_any(cfg, owner_msg, "typed_config", -1, any);
		if (msg == NULL)
			return (-EINVAL);
		t = hb_filter_find(kind, msg->descriptor);
		if (t == NULL)
			return (hb_cfg_error(cfg, owner_msg, "typed_config", -1,
				"%s is not the configuration of a %s filter", msg->descriptor->name,
				kind == HB_FILTER_NETWORK ? "network" : "listener"));
	}
	*ret_type = t;
	if (t->compile == NULL)
		return (0);
	return (t->compile(cfg, msg, ret_conf));
}

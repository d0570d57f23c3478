/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include "core/config/cfg_priv.h"

/* Everything below is written on the control thread only; types live for ever. */
static struct hb_map *types;

static const char *secret_names[16];
static size_t n_secret_names;

static const struct hb_cfg__field honoured = { HB_CFG__HONOURED, false, 0, NULL };

static const struct {
	const char *name;
	enum hb_cfg__form form;
} forms[] = {
	{ "google.protobuf.Any", HB_CFG__ANY },
	{ "google.protobuf.Duration", HB_CFG__DURATION },
	{ "google.protobuf.Timestamp", HB_CFG__TIMESTAMP },
	{ "google.protobuf.Struct", HB_CFG__STRUCT },
	{ "google.protobuf.Value", HB_CFG__VALUE },
	{ "google.protobuf.ListValue", HB_CFG__LIST },
	{ "google.protobuf.DoubleValue", HB_CFG__WRAPPER },
	{ "google.protobuf.FloatValue", HB_CFG__WRAPPER },
	{ "google.protobuf.Int64Value", HB_CFG__WRAPPER },
	{ "google.protobuf.UInt64Value", HB_CFG__WRAPPER },
	{ "google.protobuf.Int32Value", HB_CFG__WRAPPER },
	{ "google.protobuf.UInt32Value", HB_CFG__WRAPPER },
	{ "google.protobuf.BoolValue", HB_CFG__WRAPPER },
	{ "google.protobuf.StringValue", HB_CFG__WRAPPER },
	{ "google.protobuf.BytesValue", HB_CFG__WRAPPER },
	{ "xds.type.v3.TypedStruct", HB_CFG__TYPED_STRUCT },
	{ "udpa.type.v1.TypedStruct", HB_CFG__TYPED_STRUCT },
};

/*
 * Packages of listeners, filters, TLS, routes and policies: to pass over something there that is
 * not understood could let a connection through which should have been refused.
 */
static const char *const strict_packages[] = {
	"envoy.config.listener.",
	"envoy.config.rbac.",
	"envoy.config.route.",
	"envoy.extensions.filters.",
	"envoy.extensions.transport_sockets.",
	"envoy.extensions.matching.",
	"envoy.type.matcher.",
	"istio.security.",
	"xds.type.matcher.",
	"hbone.",
};

static struct hb_cfg__type *
type_new(const struct hb_cfg__row *row, bool strict)
{
	struct hb_cfg__type *t;
	struct hb_str name = hb_str(row->desc->name);

	HB_NEW(t, HB_CFG__TYPE_MAGIC);
	t->row = *row;
	for (size_t i = 0; i < HB_ARRAY_LEN(forms); i++) {
		if (hb_str_eq(name, hb_str(forms[i].name)))
			t->form = forms[i].form;
	}
	t->strict = strict;
	for (size_t i = 0; i < HB_ARRAY_LEN(strict_packages); i++)
		t->strict |= hb_str_starts(name, hb_str(strict_packages[i]));
	return (t);
}

static void
note_secrets(const struct hb_cfg__row *row)
{
	for (unsigned i = 0; row->fields != NULL && i < row->desc->n_fields; i++) {
		if (!row->fields[i].secret)
			continue;
		HB_ASSERT(n_secret_names < HB_ARRAY_LEN(secret_names));
		secret_names[n_secret_names++] = row->desc->fields[i].name;
	}
}

void
hb_cfg_types_init(void)
{
	if (types != NULL)
		return;
	types = hb_map_new();
	for (size_t i = 0; i < hb_cfg__n_rows; i++) {
		const struct hb_cfg__row *row = &hb_cfg__rows[i];

		HB_ASSERT(row->desc->magic == PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC);
		hb_map_put(types, hb_str(row->desc->name), type_new(row, false));
		note_secrets(row);
	}
}

int
hb_cfg_type_add(const ProtobufCMessageDescriptor *desc, struct hb_err *reterr)
{
	struct hb_cfg__row row = { .desc = desc };
	const struct hb_cfg__type *have;
	int r;

	hb_cfg_types_init();
	if (desc->magic != PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC)
		return (hb_err_set(reterr, -EINVAL, "not a descriptor of protobuf-c"));
	if (desc->name == NULL)
		return (hb_err_set(reterr, -EINVAL,
			"the descriptor has no names: generate it without optimize_for = CODE_SIZE"));
	if (desc->n_fields > HB_CFG__FIELDS_MAX)
		return (hb_err_set(reterr, -EINVAL, "%s has more than %d fields", desc->name,
			HB_CFG__FIELDS_MAX));
	have = hb_map_get(types, hb_str(desc->name));
	if (have != NULL) {
		if (have->row.desc == desc)
			return (0);
		return (hb_err_set(
			reterr, -EEXIST, "the message type %s is already known", desc->name));
	}
	hb_map_put(types, hb_str(desc->name), type_new(&row, true));
	for (unsigned i = 0; i < desc->n_fields; i++) {
		if (desc->fields[i].type != PROTOBUF_C_TYPE_MESSAGE)
			continue;
		/* A filter may embed its own copies of google.protobuf messages: same layout. */
		r = hb_cfg_type_add(desc->fields[i].descriptor, reterr);
		if (r != 0 && r != -EEXIST)
			return (r);
	}
	return (0);
}

struct hb_str
hb_cfg__type_name(struct hb_str s)
{
	for (size_t i = s.len; i > 0; i--) {
		if (s.p[i - 1] == '/')
			return (hb_strn(s.p + i, s.len - i));
	}
	return (s);
}

const ProtobufCMessageDescriptor *
hb_cfg_type_find(struct hb_str name_or_url)
{
	const struct hb_cfg__type *t;

	hb_cfg_types_init();
	t = hb_map_get(types, hb_cfg__type_name(name_or_url));
	return (t == NULL ? NULL : t->row.desc);
}

const struct hb_cfg__type *
hb_cfg__type_of(const ProtobufCMessageDescriptor *desc)
{
	const struct hb_cfg__type *t;

	hb_cfg_types_init();
	t = hb_map_get(types, hb_str(desc->name));
	HB_CHECK(t, HB_CFG__TYPE_MAGIC);
	return (t);
}

/* "TcpProxy" of "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy". */
static const char *
last_part(const char *full)
{
	const char *dot = strrchr(full, '.');

	return (dot == NULL ? full : dot + 1);
}

static int
by_text(const void *a, const void *b)
{
	return (strcmp(*(const char *const *)a, *(const char *const *)b));
}

/* Names of what may stand on its own (filters, transport sockets, …), sorted, NULL at the end. */
static const char **
names_for_hints(size_t *ret_n)
{
	const char **names = hb_calloc(hb_map_count(types) + 1, sizeof *names);
	struct hb_str key;
	size_t cursor = 0, n = 0;
	void *value;

	while (hb_map_next(types, &cursor, &key, &value)) {
		const struct hb_cfg__type *t = value;

		if (!hb_str_starts(key, HB_STR("google.")) &&
			!hb_str_starts(key, HB_STR("envoy.admin.")))
			names[n++] = t->row.desc->name;
	}
	qsort(names, n, sizeof *names, by_text);
	*ret_n = n;
	return (names);
}

const char *
hb_cfg__type_nearest(struct hb_str name)
{
	const char **full, **last, *near, *ret;
	char *z = hb_strndup(name.p, name.len);
	size_t n;

	full = names_for_hints(&n);
	ret = hb_err_nearest(z, full);
	last = hb_calloc(n + 1, sizeof *last);
	for (size_t i = 0; i < n; i++)
		last[i] = last_part(full[i]);
	/* Long names with a wrong package in front: the name at the end tells what is meant. */
	near = ret == NULL ? hb_err_nearest(last_part(z), last) : NULL;
	for (size_t i = 0; ret == NULL && near != NULL && i < n; i++) {
		if (last[i] == near)
			ret = full[i];
	}
	hb_free(full);
	hb_free(last);
	hb_free(z);
	return (ret);
}

const struct hb_cfg__field *
hb_cfg__field_of(const struct hb_cfg__type *t, unsigned i)
{
	HB_ASSERT(i < t->row.desc->n_fields);
	return (t->row.fields == NULL ? &honoured : &t->row.fields[i]);
}

const char *
hb_cfg__not_supported(char dst[HB_CFG__WHY_MAX], const char *why)
{
	const char *prefix = "not supported: ";

	if (why == NULL)
		why = "not supported";
	if (hb_str_starts(hb_str(why), HB_STR("not supported")))
		prefix = "";
	snprintf(dst, HB_CFG__WHY_MAX, "%s%s", prefix, why);
	return (dst);
}

bool
hb_cfg__name_is_secret(struct hb_str name)
{
	hb_cfg_types_init();
	for (size_t i = 0; i < n_secret_names; i++) {
		if (hb_cfg__key_is(name, secret_names[i]))
			return (true);
	}
	return (false);
}

const char *
hb_cfg__reserved_name(const struct hb_cfg__type *t, struct hb_str name, unsigned id)
{
	for (const struct hb_cfg__reserved *r = t->row.reserved; r != NULL && r->name != NULL;
		r++) {
		if (id != 0 ? r->id == id : hb_str_eq(name, hb_str(r->name)))
			return (r->name);
	}
	return (NULL);
}

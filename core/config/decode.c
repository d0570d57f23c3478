/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes to messages, by descriptors. */
#include <stdio.h>
#include <stdlib.h>
#include "core/config/cfg_priv.h"

ProtobufCMessage *
hb_cfg__msg_new(const ProtobufCMessageDescriptor *desc)
{
	ProtobufCMessage *m = hb_calloc(1, desc->sizeof_message);

	protobuf_c_message_init(desc, m);
	return (m);
}

size_t
hb_cfg__elem_size(const ProtobufCFieldDescriptor *f)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
	case PROTOBUF_C_TYPE_ENUM:
		return (4);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return (8);
	case PROTOBUF_C_TYPE_BOOL:
		return (sizeof(protobuf_c_boolean));
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return (sizeof(void *));
	case PROTOBUF_C_TYPE_BYTES:
		return (sizeof(ProtobufCBinaryData));
	}
	HB_WRONG("type of field");
}

bool
hb_cfg__is_set(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
	static const char zero[16];
	const char *p = (const char *)m + f->offset;
	const char *q = (const char *)m + f->quantifier_offset;

	if (f->label == PROTOBUF_C_LABEL_REPEATED)
		return (*(const size_t *)(const void *)q > 0);
	if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
		return (*(const uint32_t *)(const void *)q == f->id);
	if (f->type == PROTOBUF_C_TYPE_MESSAGE)
		return (*(void *const *)(const void *)p != NULL);
	if (f->type == PROTOBUF_C_TYPE_STRING) {
		const char *z = *(const char *const *)(const void *)p;

		return (z != NULL && *z != '\0');
	}
	if (f->label == PROTOBUF_C_LABEL_OPTIONAL)
		return (*(const protobuf_c_boolean *)(const void *)q != 0);
	if (f->type == PROTOBUF_C_TYPE_BYTES)
		return (((const ProtobufCBinaryData *)(const void *)p)->len > 0);
	return (memcmp(p, zero, hb_cfg__elem_size(f)) != 0);
}

/* Reports at a key; the value may be shared by an alias and stand elsewhere. */
static void error_key(struct hb_cfg *, const ProtobufCMessage *, const struct hb_cfg__pair *,
	const char *fmt, ...) HB_PRINTF(4, 5);

static void
error_key(struct hb_cfg *cfg, const ProtobufCMessage *msg, const struct hb_cfg__pair *pair,
	const char *fmt, ...)
{
	char *path = hb_cfg_path(cfg, msg), *full, *text;
	va_list ap;

	full = hb_asprintf("%s%s%s", path, *path == '\0' ? "" : ".", pair->key.p);
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		HB_WRONG("out of memory");
	va_end(ap);
	if (pair->line != 0)
		hb_cfg__error_at(cfg, pair->line, pair->column, full, "%s", text);
	else
		hb_cfg_error(cfg, msg, pair->key.p, -1, "%s", text);
	free(text);
	hb_free(full);
	hb_free(path);
}

static void
error_unknown(struct hb_cfg *cfg, const ProtobufCMessage *msg, const struct hb_cfg__pair *pair)
{
	const ProtobufCMessageDescriptor *desc = msg->descriptor;
	const struct hb_cfg__type *t = hb_cfg__type_of(desc);
	const char **names, *near;
	char snake[128];
	size_t n = 0;

	for (size_t i = 0; i < pair->key.len && n < sizeof snake - 2; i++) {
		char c = pair->key.p[i];

		if (c >= 'A' && c <= 'Z') {
			snake[n++] = '_';
			c = (char)(c - 'A' + 'a');
		}
		snake[n++] = c;
	}
	snake[n] = '\0';
	for (const struct hb_cfg__reserved *r = t->row.reserved; r != NULL && r->name != NULL;
		r++) {
		if (hb_cfg__key_is(pair->key, r->name)) {
			error_key(cfg, msg, pair, "hbone does not support this field of %s",
				desc->name);
			return;
		}
	}
	names = hb_calloc(desc->n_fields + 1, sizeof *names);
	for (unsigned i = 0; i < desc->n_fields; i++)
		names[i] = desc->fields[i].name;
	near = hb_err_nearest(snake, names);
	if (near != NULL)
		error_key(cfg, msg, pair, "unknown field of %s; did you mean \"%s\"?", desc->name,
			near);
	else
		error_key(cfg, msg, pair, "unknown field of %s", desc->name);
	hb_free(names);
}

static const ProtobufCFieldDescriptor *
field_find(const ProtobufCMessageDescriptor *desc, struct hb_str key)
{
	const ProtobufCFieldDescriptor *f;

	f = protobuf_c_message_descriptor_get_field_by_name(desc, key.p);
	for (unsigned i = 0; f == NULL && i < desc->n_fields; i++) {
		if (hb_cfg__key_is(key, desc->fields[i].name))
			f = &desc->fields[i];
	}
	return (f);
}

static ProtobufCMessage *
child_new(struct hb_cfg *cfg, const struct hb_cfg__node *node, const ProtobufCMessage *parent,
	const ProtobufCFieldDescriptor *f, size_t index)
{
	ProtobufCMessage *m = hb_cfg__msg_new(f->descriptor);

	hb_cfg__src_add(cfg, m, node, parent, f, index);
	return (m);
}

/* An element of a repeated field, or the value of a singular one, into *dst. */
static bool
decode_value(struct hb_cfg *cfg, const struct hb_cfg__node *node, const ProtobufCMessage *msg,
	const ProtobufCFieldDescriptor *f, int index, void *dst, bool lax)
{
	if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
		ProtobufCMessage *m = child_new(cfg, node, msg, f, index < 0 ? 0 : (size_t)index);

		*(ProtobufCMessage **)dst = m;
		hb_cfg__decode(cfg, node, m, lax);
		return (true);
	}
	return (hb_cfg__decode_scalar(
		cfg, node, f, dst, (struct hb_cfg__at){ msg, f->name, index }));
}

static void
decode_map_entry(
	struct hb_cfg *cfg, const struct hb_cfg__pair *pair, ProtobufCMessage *entry, bool lax)
{
	const ProtobufCFieldDescriptor *kf = &entry->descriptor->fields[0];
	const ProtobufCFieldDescriptor *vf = &entry->descriptor->fields[1];
	struct hb_cfg__node key = {
		.kind = HB_CFG__SCALAR,
		.plain = true,
		.text = pair->key,
		.size = 1,
		.line = pair->line,
		.column = pair->column,
	};

	HB_ASSERT(kf->id == 1 && vf->id == 2);
	hb_cfg__decode_scalar(
		cfg, &key, kf, (char *)entry + kf->offset, (struct hb_cfg__at){ entry, "key", -1 });
	if (pair->value->kind == HB_CFG__NULL && vf->type != PROTOBUF_C_TYPE_MESSAGE)
		return;
	decode_value(cfg, pair->value, entry, vf, -1, (char *)entry + vf->offset, lax);
}

static void
decode_map(struct hb_cfg *cfg, const struct hb_cfg__node *node, ProtobufCMessage *msg,
	const ProtobufCFieldDescriptor *f, bool lax)
{
	size_t *n = (void *)((char *)msg + f->quantifier_offset);
	ProtobufCMessage ***v = (void *)((char *)msg + f->offset);

	if (node->kind != HB_CFG__MAP) {
		hb_cfg_error(cfg, msg, f->name, -1, "must be a mapping, not %s",
			hb_cfg__node_kind(node));
		return;
	}
	if (node->n == 0)
		return;
	*v = hb_calloc(node->n, sizeof **v);
	for (size_t i = 0; i < node->n; i++) {
		/* The entry's place is that of its value. */
		ProtobufCMessage *entry = child_new(cfg, node->map[i].value, msg, f, i);

		(*v)[(*n)++] = entry;
		decode_map_entry(cfg, &node->map[i], entry, lax);
	}
}

static void
decode_list(struct hb_cfg *cfg, const struct hb_cfg__node *node, ProtobufCMessage *msg,
	const ProtobufCFieldDescriptor *f, bool lax)
{
	size_t *n = (void *)((char *)msg + f->quantifier_offset);
	char **v = (void *)((char *)msg + f->offset);
	size_t size = hb_cfg__elem_size(f);

	if (node->kind != HB_CFG__SEQ) {
		hb_cfg_error(
			cfg, msg, f->name, -1, "must be a list, not %s", hb_cfg__node_kind(node));
		return;
	}
	if (node->n == 0)
		return;
	*v = hb_calloc(node->n, size);
	for (size_t i = 0; i < node->n; i++) {
		if (node->seq[i]->kind == HB_CFG__NULL) {
			hb_cfg_error(cfg, msg, f->name, (int)i, "must not be null");
			continue;
		}
		if (decode_value(cfg, node->seq[i], msg, f, (int)i, *v + *n * size, lax))
			(*n)++;
	}
}

/* False when another member of the same oneof is set already (which was reported). */
static bool
choose_oneof(struct hb_cfg *cfg, ProtobufCMessage *msg, const struct hb_cfg__pair *pair,
	const ProtobufCFieldDescriptor *f)
{
	uint32_t *which = (void *)((char *)msg + f->quantifier_offset);
	const ProtobufCFieldDescriptor *other;

	if (*which != 0) {
		other = protobuf_c_message_descriptor_get_field(msg->descriptor, *which);
		error_key(cfg, msg, pair, "%s and %s exclude each other", f->name,
			other == NULL ? "another field" : other->name);
		return (false);
	}
	*which = f->id;
	return (true);
}

static void
decode_singular(struct hb_cfg *cfg, const struct hb_cfg__pair *pair, ProtobufCMessage *msg,
	const ProtobufCFieldDescriptor *f, bool lax)
{
	bool in_oneof = f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;

	if (in_oneof && !choose_oneof(cfg, msg, pair, f))
		return;
	if (!decode_value(cfg, pair->value, msg, f, -1, (char *)msg + f->offset, lax)) {
		if (in_oneof)
			*(uint32_t *)(void *)((char *)msg + f->quantifier_offset) = 0;
		return;
	}
	if (!in_oneof && f->label == PROTOBUF_C_LABEL_OPTIONAL &&
		f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_MESSAGE)
		*(protobuf_c_boolean *)(void *)((char *)msg + f->quantifier_offset) = 1;
}

/*
 * A refused field may be written with the value that it has when it is absent: nothing was asked
 * for then.
 */
static void
decode_refused(struct hb_cfg *cfg, const struct hb_cfg__pair *pair, ProtobufCMessage *msg,
	const ProtobufCFieldDescriptor *f, const char *why)
{
	bool list = f->label == PROTOBUF_C_LABEL_REPEATED;
	char text[HB_CFG__WHY_MAX];

	if (list && (pair->value->kind == HB_CFG__SEQ || pair->value->kind == HB_CFG__MAP) &&
		pair->value->n == 0)
		return;
	if (!list && f->type != PROTOBUF_C_TYPE_MESSAGE) {
		decode_singular(cfg, pair, msg, f, false);
		if (!hb_cfg__is_set(msg, f))
			return;
	}
	error_key(cfg, msg, pair, "%s", hb_cfg__not_supported(text, why));
}

static bool
is_value(const ProtobufCFieldDescriptor *f)
{
	return (f->type == PROTOBUF_C_TYPE_MESSAGE &&
		hb_cfg__type_of(f->descriptor)->form == HB_CFG__VALUE);
}

static void
decode_pair(struct hb_cfg *cfg, const struct hb_cfg__pair *pair, ProtobufCMessage *msg,
	uint64_t *seen, bool lax)
{
	const ProtobufCMessageDescriptor *desc = msg->descriptor;
	const ProtobufCFieldDescriptor *f = field_find(desc, pair->key);
	const struct hb_cfg__field *class;
	unsigned i;

	if (f == NULL) {
		error_unknown(cfg, msg, pair);
		return;
	}
	i = (unsigned)(f - desc->fields);
	if (seen[i / 64] & (uint64_t)1 << i % 64) {
		error_key(cfg, msg, pair, "the field stands here twice, as \"%s\" too", f->name);
		return;
	}
	seen[i / 64] |= (uint64_t)1 << i % 64;
	class = hb_cfg__field_of(hb_cfg__type_of(desc), i);
	if (pair->value->kind == HB_CFG__NULL && !is_value(f))
		return;
	if (class->class == HB_CFG__REFUSED)
		decode_refused(cfg, pair, msg, f, class->why);
	else if (f->label != PROTOBUF_C_LABEL_REPEATED)
		decode_singular(cfg, pair, msg, f, lax || class->class == HB_CFG__HARMLESS);
	else if (f->type == PROTOBUF_C_TYPE_MESSAGE &&
		hb_cfg__type_of(f->descriptor)->row.map_entry)
		decode_map(cfg, pair->value, msg, f, lax || class->class == HB_CFG__HARMLESS);
	else
		decode_list(cfg, pair->value, msg, f, lax || class->class == HB_CFG__HARMLESS);
}

void
hb_cfg__decode_fields(
	struct hb_cfg *cfg, const struct hb_cfg__node *node, ProtobufCMessage *msg, bool lax)
{
	const struct hb_cfg__src *s = hb_cfg__src_get(cfg, msg);
	bool in_any = s->parent != NULL && s->field == NULL;
	uint64_t seen[HB_CFG__FIELDS_MAX / 64] = { 0 };

	HB_ASSERT(msg->descriptor->n_fields <= HB_CFG__FIELDS_MAX);
	if (node->kind == HB_CFG__NULL)
		return;
	if (node->kind != HB_CFG__MAP) {
		hb_cfg_error(cfg, msg, NULL, -1, "must be a mapping with fields of %s, not %s",
			msg->descriptor->name, hb_cfg__node_kind(node));
		return;
	}
	for (size_t i = 0; i < node->n; i++) {
		if (in_any && hb_str_eq(node->map[i].key, HB_STR("@type")))
			continue;
		decode_pair(cfg, &node->map[i], msg, seen, lax);
	}
}

void
hb_cfg__decode(struct hb_cfg *cfg, const struct hb_cfg__node *node, ProtobufCMessage *msg, bool lax)
{
	enum hb_cfg__form form = hb_cfg__type_of(msg->descriptor)->form;

	if (form == HB_CFG__PLAIN)
		hb_cfg__decode_fields(cfg, node, msg, lax);
	else
		hb_cfg__decode_form(cfg, node, msg, form, lax);
}

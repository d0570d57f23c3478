/* SPDX-License-Identifier: Apache-2.0 */
/* The messages which have a form of their own in text: Any, Duration, Struct, wrappers, … */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "core/config/cfg_priv.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "xds/type/v3/typed_struct.pb-c.h"

/* protobuf's own bound: about 10,000 years. */
#define DURATION_SECONDS_MAX 315576000000LL

ProtobufCBinaryData
hb_cfg__pack(const ProtobufCMessage *msg)
{
	ProtobufCBinaryData b;

	b.len = protobuf_c_message_get_packed_size(msg);
	b.data = hb_malloc(b.len);
	b.len = protobuf_c_message_pack(msg, b.data);
	return (b);
}

/* Digits after the point as billionths; false for none or more than nine. */
static bool
parse_nanos(const char *p, size_t n, int32_t *ret)
{
	int32_t v = 0;

	if (n == 0 || n > 9)
		return (false);
	for (size_t i = 0; i < 9; i++) {
		if (i < n && (p[i] < '0' || p[i] > '9'))
			return (false);
		v = v * 10 + (i < n ? p[i] - '0' : 0);
	}
	*ret = v;
	return (true);
}

static bool
parse_duration(struct hb_str s, int64_t *seconds, int32_t *nanos)
{
	bool negative = s.len > 0 && s.p[0] == '-';
	struct hb_str whole = hb_strn(s.p + negative, s.len - negative);
	const char *dot;
	uint64_t v;

	if (whole.len < 2 || whole.p[whole.len - 1] != 's')
		return (false);
	whole.len--;
	*nanos = 0;
	dot = memchr(whole.p, '.', whole.len);
	if (dot != NULL) {
		size_t n = (size_t)(dot - whole.p);

		if (!parse_nanos(dot + 1, whole.len - n - 1, nanos))
			return (false);
		whole.len = n;
	}
	if (!hb_str_u64(whole, DURATION_SECONDS_MAX, &v))
		return (false);
	*seconds = negative ? -(int64_t)v : (int64_t)v;
	*nanos = negative ? -*nanos : *nanos;
	return (true);
}

static void
decode_duration(struct hb_cfg *cfg, const struct hb_cfg__node *n, ProtobufCMessage *msg)
{
	Google__Protobuf__Duration *d = (void *)msg;

	if (n->kind == HB_CFG__SCALAR && parse_duration(n->text, &d->seconds, &d->nanos))
		return;
	hb_cfg_error(cfg, msg, NULL, -1,
		"must be a duration in seconds with an s at the end, such as \"5s\" or \"0.25s\"");
}

static void
decode_timestamp(struct hb_cfg *cfg, const struct hb_cfg__node *n, ProtobufCMessage *msg)
{
	Google__Protobuf__Timestamp *t = (void *)msg;
	struct tm tm = { 0 };
	const char *end = n->kind == HB_CFG__SCALAR ?
		strptime(n->text.p, "%Y-%m-%dT%H:%M:%S", &tm) :
		NULL;
	const char *z = end == NULL ? NULL : strchr(end, 'Z');

	if (z != NULL && z[1] == '\0' &&
		(z == end ||
			(*end == '.' && parse_nanos(end + 1, (size_t)(z - end - 1), &t->nanos)))) {
		t->seconds = timegm(&tm);
		return;
	}
	hb_cfg_error(
		cfg, msg, NULL, -1, "must be a time in UTC such as \"2026-01-02T03:04:05.678Z\"");
}

/* ------------------------------------------------------------------ Struct */

static void value_fill(const struct hb_cfg__node *n, Google__Protobuf__Value *v);

static ProtobufCMessage *
value_new(const struct hb_cfg__node *n)
{
	ProtobufCMessage *m = hb_cfg__msg_new(&google__protobuf__value__descriptor);

	value_fill(n, (void *)m);
	return (m);
}

static void
struct_fill(const struct hb_cfg__node *n, Google__Protobuf__Struct *s)
{
	if (n->n == 0)
		return;
	s->fields = hb_calloc(n->n, sizeof *s->fields);
	for (size_t i = 0; i < n->n; i++) {
		Google__Protobuf__Struct__FieldsEntry *e = (void *)hb_cfg__msg_new(
			&google__protobuf__struct__fields_entry__descriptor);

		e->key = hb_strndup(n->map[i].key.p, n->map[i].key.len);
		e->value = (void *)value_new(n->map[i].value);
		s->fields[s->n_fields++] = e;
	}
}

static void
list_fill(const struct hb_cfg__node *n, Google__Protobuf__ListValue *l)
{
	if (n->n == 0)
		return;
	l->values = hb_calloc(n->n, sizeof *l->values);
	for (size_t i = 0; i < n->n; i++)
		l->values[l->n_values++] = (void *)value_new(n->seq[i]);
}

static void
scalar_fill(const struct hb_cfg__node *n, Google__Protobuf__Value *v)
{
	static const char *const words[] = { "false", "False", "FALSE", "true", "True", "TRUE" };

	for (size_t i = 0; n->plain && i < HB_ARRAY_LEN(words); i++) {
		if (hb_str_eq(n->text, hb_str(words[i]))) {
			v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE;
			v->bool_value = i >= 3;
			return;
		}
	}
	/* 007 and +1 are texts, as in JSON. */
	if (n->plain && n->text.p[0] != '+' && n->text.p[0] != '.' &&
		!(n->text.len > 1 && n->text.p[0] == '0' && n->text.p[1] != '.') &&
		hb_cfg__parse_double(n->text, &v->number_value)) {
		v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE;
		return;
	}
	v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE;
	v->string_value = hb_strndup(n->text.p, n->text.len);
}

static void
value_fill(const struct hb_cfg__node *n, Google__Protobuf__Value *v)
{
	switch (n->kind) {
	case HB_CFG__NULL:
		v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE;
		break;
	case HB_CFG__SCALAR:
		scalar_fill(n, v);
		break;
	case HB_CFG__SEQ:
		v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE;
		v->list_value = (void *)hb_cfg__msg_new(&google__protobuf__list_value__descriptor);
		list_fill(n, v->list_value);
		break;
	case HB_CFG__MAP:
		v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE;
		v->struct_value = (void *)hb_cfg__msg_new(&google__protobuf__struct__descriptor);
		struct_fill(n, v->struct_value);
		break;
	}
}

static struct hb_cfg__node *node_of_value(struct hb_cfg *, const Google__Protobuf__Value *);

static struct hb_cfg__node *
node_of_struct(struct hb_cfg *cfg, const Google__Protobuf__Struct *s)
{
	struct hb_cfg__node *n = hb_cfg__alloc(cfg, sizeof *n);

	n->kind = HB_CFG__MAP;
	n->n = s->n_fields;
	n->map = hb_cfg__alloc(cfg, n->n * sizeof *n->map);
	for (size_t i = 0; i < n->n; i++) {
		n->map[i].key = hb_cfg__copy(cfg, s->fields[i]->key, strlen(s->fields[i]->key));
		n->map[i].value = node_of_value(cfg, s->fields[i]->value);
	}
	return (n);
}

/* The depth is that of the message, which was checked before it was unpacked. */
static struct hb_cfg__node *
node_of_value(struct hb_cfg *cfg, const Google__Protobuf__Value *v)
{
	struct hb_cfg__node *n = hb_cfg__alloc(cfg, sizeof *n);
	char number[32];

	n->size = 1;
	if (v == NULL)
		return (n);
	switch (v->kind_case) {
	case GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE:
		return (node_of_struct(cfg, v->struct_value));
	case GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE:
		n->kind = HB_CFG__SEQ;
		n->n = v->list_value->n_values;
		n->seq = hb_cfg__alloc(cfg, n->n * sizeof *n->seq);
		for (size_t i = 0; i < n->n; i++)
			n->seq[i] = node_of_value(cfg, v->list_value->values[i]);
		break;
	case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
		n->kind = HB_CFG__SCALAR;
		n->text = hb_cfg__copy(cfg, v->string_value, strlen(v->string_value));
		break;
	case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
		n->kind = HB_CFG__SCALAR;
		n->plain = true;
		snprintf(number, sizeof number, "%.17g", v->number_value);
		n->text = hb_cfg__copy(cfg, number, strlen(number));
		break;
	case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
		n->kind = HB_CFG__SCALAR;
		n->plain = true;
		n->text = v->bool_value ? HB_STR("true") : HB_STR("false");
		break;
	default:
		break;
	}
	return (n);
}

/* ------------------------------------------------------------------ Any, TypedStruct */

/* The type that a URL names; NULL after reporting at `msg`. */
static const ProtobufCMessageDescriptor *
type_of_url(struct hb_cfg *cfg, const ProtobufCMessage *msg, const char *field, struct hb_str url)
{
	const ProtobufCMessageDescriptor *desc = hb_cfg_type_find(url);
	const char *near;

	if (desc != NULL)
		return (desc);
	near = hb_cfg__type_nearest(hb_cfg__type_name(url));
	hb_cfg_error(cfg, msg, field, -1, "unknown type \"%.*s\"%s%s%s", HB_STR_FMT(url),
		near == NULL ? "" : "; did you mean \"type.googleapis.com/",
		near == NULL ? "" : near, near == NULL ? "" : "\"?");
	return (NULL);
}

/* Decodes the content of an Any or TypedStruct, which becomes its `inner`. */
static ProtobufCMessage *
decode_inner(struct hb_cfg *cfg, const struct hb_cfg__node *n, ProtobufCMessage *outer,
	const ProtobufCMessageDescriptor *desc, bool lax)
{
	ProtobufCMessage *m = hb_cfg__msg_new(desc);
	struct hb_cfg__src *s;

	hb_cfg__own(cfg, m);
	hb_cfg__src_add(cfg, m, n, outer, NULL, 0);
	hb_cfg__decode(cfg, n, m, lax);
	s = hb_cfg__src_get(cfg, m);
	/* A TypedStruct stands for what it holds. */
	hb_cfg__src_get(cfg, outer)->inner = hb_cfg__type_of(desc)->form == HB_CFG__TYPED_STRUCT ?
		s->inner :
		m;
	return (m);
}

/* Keeps an Any of unknown type below a harmless field as the mapping that it was. */
static void
keep_unknown(const struct hb_cfg__node *n, Google__Protobuf__Any *any, const char *url)
{
	Xds__Type__V3__TypedStruct ts = XDS__TYPE__V3__TYPED_STRUCT__INIT;

	ts.type_url = hb_strdup(url);
	ts.value = (void *)hb_cfg__msg_new(&google__protobuf__struct__descriptor);
	struct_fill(n, ts.value);
	any->type_url = hb_strdup("type.googleapis.com/xds.type.v3.TypedStruct");
	any->value = hb_cfg__pack(&ts.base);
	hb_free(ts.type_url);
	protobuf_c_message_free_unpacked(&ts.value->base, NULL);
}

static void
decode_any(struct hb_cfg *cfg, const struct hb_cfg__node *n, ProtobufCMessage *msg, bool lax)
{
	Google__Protobuf__Any *any = (void *)msg;
	const struct hb_cfg__pair *type = hb_cfg__node_get(n, "@type"), *value;
	const ProtobufCMessageDescriptor *desc;
	enum hb_cfg__form form;

	if (type == NULL || type->value->kind != HB_CFG__SCALAR || type->value->text.len == 0) {
		hb_cfg_error(cfg, msg, type == NULL ? NULL : "@type", -1,
			"must name its type: \"@type\": type.googleapis.com/...");
		return;
	}
	if (lax && hb_cfg_type_find(type->value->text) == NULL) {
		hb_cfg_warn(cfg, msg, "@type", -1, "unknown type \"%s\", without effect here",
			type->value->text.p);
		keep_unknown(n, any, type->value->text.p);
		return;
	}
	desc = type_of_url(cfg, msg, "@type", type->value->text);
	if (desc == NULL)
		return;
	form = hb_cfg__type_of(desc)->form;
	if (form != HB_CFG__PLAIN && form != HB_CFG__TYPED_STRUCT) {
		value = hb_cfg__node_get(n, "value");
		if (value == NULL) {
			hb_cfg_error(cfg, msg, NULL, -1, "needs a \"value\" beside \"@type\"");
			return;
		}
		n = value->value;
	}
	any->type_url = hb_strdup(type->value->text.p);
	any->value = hb_cfg__pack(decode_inner(cfg, n, msg, desc, lax));
}

static void
decode_typed_struct(
	struct hb_cfg *cfg, const struct hb_cfg__node *n, ProtobufCMessage *msg, bool lax)
{
	Xds__Type__V3__TypedStruct *ts = (void *)msg;
	const struct hb_cfg__pair *value;
	static struct hb_cfg__node empty = { .kind = HB_CFG__MAP };
	const ProtobufCMessageDescriptor *desc;

	/* udpa.type.v1.TypedStruct has the same layout. */
	hb_cfg__decode_fields(cfg, n, msg, lax);
	if (*ts->type_url == '\0') {
		hb_cfg_error(cfg, msg, "type_url", -1, "must not be empty");
		return;
	}
	if (lax && hb_cfg_type_find(hb_str(ts->type_url)) == NULL)
		return;
	desc = type_of_url(cfg, msg, "type_url", hb_str(ts->type_url));
	if (desc == NULL)
		return;
	value = hb_cfg__node_get(n, "value");
	decode_inner(cfg, value == NULL ? &empty : value->value, msg, desc, lax);
}

/* ------------------------------------------------------------------ all of them */

static bool
kind_is(struct hb_cfg *cfg, const struct hb_cfg__node *n, const ProtobufCMessage *msg,
	enum hb_cfg__kind kind, const char *what)
{
	if (n->kind == kind)
		return (true);
	hb_cfg_error(cfg, msg, NULL, -1, "must be %s, not %s", what, hb_cfg__node_kind(n));
	return (false);
}

void
hb_cfg__decode_form(struct hb_cfg *cfg, const struct hb_cfg__node *n, ProtobufCMessage *msg,
	enum hb_cfg__form form, bool lax)
{
	const ProtobufCFieldDescriptor *f = &msg->descriptor->fields[0];

	switch (form) {
	case HB_CFG__ANY:
		decode_any(cfg, n, msg, lax);
		break;
	case HB_CFG__DURATION:
		decode_duration(cfg, n, msg);
		break;
	case HB_CFG__TIMESTAMP:
		decode_timestamp(cfg, n, msg);
		break;
	case HB_CFG__STRUCT:
		if (kind_is(cfg, n, msg, HB_CFG__MAP, "a mapping"))
			struct_fill(n, (void *)msg);
		break;
	case HB_CFG__VALUE:
		value_fill(n, (void *)msg);
		break;
	case HB_CFG__LIST:
		if (kind_is(cfg, n, msg, HB_CFG__SEQ, "a list"))
			list_fill(n, (void *)msg);
		break;
	case HB_CFG__WRAPPER:
		hb_cfg__decode_scalar(
			cfg, n, f, (char *)msg + f->offset, (struct hb_cfg__at){ msg, NULL, -1 });
		break;
	case HB_CFG__TYPED_STRUCT:
		decode_typed_struct(cfg, n, msg, lax);
		break;
	case HB_CFG__PLAIN:
		HB_WRONG("a plain message has no form of its own");
	}
}

/* ------------------------------------------------------------------ from bytes */

/* Opens an Any that came as bytes; false after reporting. */
static bool
open_any(struct hb_cfg *cfg, const ProtobufCMessage *msg, bool strict, unsigned depth)
{
	const Google__Protobuf__Any *any = (const void *)msg;
	const ProtobufCMessageDescriptor *desc = hb_cfg_type_find(hb_str(any->type_url));
	ProtobufCMessage *m;
	struct hb_cfg__src *s;
	bool ok;

	/* Whether an unknown type matters is known to who opens it (hb_cfg_any). */
	if (desc == NULL)
		return (true);
	m = hb_cfg__unpack(cfg, hb_strn(any->value.data, any->value.len), desc, msg, strict, depth);
	if (m == NULL)
		return (false);
	hb_cfg__own(cfg, m);
	hb_cfg__src_add(cfg, m, NULL, msg, NULL, 0);
	ok = hb_cfg__register(cfg, m, strict, depth);
	s = hb_cfg__src_get(cfg, m);
	hb_cfg__src_get(cfg, msg)->inner = hb_cfg__type_of(desc)->form == HB_CFG__TYPED_STRUCT ?
		s->inner :
		m;
	return (ok);
}

static bool
open_typed_struct(struct hb_cfg *cfg, ProtobufCMessage *msg)
{
	const Xds__Type__V3__TypedStruct *ts = (const void *)msg;
	const ProtobufCMessageDescriptor *desc = hb_cfg_type_find(hb_str(ts->type_url));
	size_t before = cfg->errs.n + cfg->errs.dropped;
	struct hb_cfg__node *n;

	if (desc == NULL || ts->value == NULL)
		return (true);
	n = node_of_struct(cfg, ts->value);
	decode_inner(cfg, n, msg, desc, false);
	return (cfg->errs.n + cfg->errs.dropped == before);
}

bool
hb_cfg__register(struct hb_cfg *cfg, const ProtobufCMessage *msg, bool strict, unsigned depth)
{
	const struct hb_cfg__type *t = hb_cfg__type_of(msg->descriptor);
	bool ok = true;

	strict |= t->strict;
	for (unsigned i = 0; i < msg->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &msg->descriptor->fields[i];
		bool list = f->label == PROTOBUF_C_LABEL_REPEATED;
		const char *p = (const char *)msg + f->offset;
		size_t n = 1;

		/* What has no effect was not checked either. */
		if (f->type != PROTOBUF_C_TYPE_MESSAGE || !hb_cfg__is_set(msg, f) ||
			hb_cfg__field_of(t, i)->class != HB_CFG__HONOURED)
			continue;
		if (list) {
			n = *(const size_t *)(const void *)((const char *)msg +
				f->quantifier_offset);
			p = *(const char *const *)(const void *)p;
		}
		for (size_t k = 0; k < n; k++) {
			const ProtobufCMessage *m = ((ProtobufCMessage *const *)(const void *)p)[k];

			hb_cfg__src_add(cfg, m, NULL, msg, f, k);
			ok &= hb_cfg__register(cfg, m, strict, depth + 1);
		}
	}
	if (t->form == HB_CFG__ANY)
		ok &= open_any(cfg, msg, strict, depth + 1);
	else if (t->form == HB_CFG__TYPED_STRUCT)
		ok &= open_typed_struct(cfg, (ProtobufCMessage *)(uintptr_t)msg);
	return (ok);
}

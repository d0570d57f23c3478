/* SPDX-License-Identifier: Apache-2.0 */
/* Messages to proto3 JSON and to bytes. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "core/config/cfg_priv.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"

/* Deeper than any document that was accepted; what is below is left out. */
#define DEPTH_MAX 220

struct printer {
	struct hb_text *t;
	int indent; /* -1 = one line */
	int depth;
	bool redact; /* below a secret field */
	bool defaults; /* also what is not set */
};

static void print_message(struct printer *, const ProtobufCMessage *);
static void print_struct(struct printer *, const Google__Protobuf__Struct *);

static void
newline(struct printer *pr)
{
	if (pr->indent < 0)
		return;
	hb_text_addc(pr->t, '\n');
	for (int i = 0; i < pr->indent; i++)
		hb_text_addz(pr->t, "  ");
}

static void
open_block(struct printer *pr, char c)
{
	hb_text_addc(pr->t, c);
	pr->depth++;
	if (pr->indent >= 0)
		pr->indent++;
}

static void
close_block(struct printer *pr, char c, bool empty)
{
	pr->depth--;
	if (pr->indent >= 0)
		pr->indent--;
	if (!empty)
		newline(pr);
	hb_text_addc(pr->t, c);
}

/* Begins an element of a block; `first` is cleared. */
static void
element(struct printer *pr, bool *first)
{
	if (!*first)
		hb_text_addc(pr->t, ',');
	*first = false;
	newline(pr);
}

static void
print_key(struct printer *pr, bool *first, const char *key)
{
	element(pr, first);
	hb_text_json(pr->t, key, strlen(key));
	hb_text_addz(pr->t, pr->indent >= 0 ? ": " : ":");
}

static void
print_double(struct printer *pr, double d)
{
	char buf[32];

	if (!isfinite(d)) {
		hb_text_addz(pr->t,
			isnan(d)      ? "\"NaN\"" :
				d > 0 ? "\"Infinity\"" :
					"\"-Infinity\"");
		return;
	}
	/* The shortest text that reads back as the same number. */
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(buf, sizeof buf, "%.*g", digits, d);
		if (strtod(buf, NULL) == d)
			break;
	}
	hb_text_addz(pr->t, buf);
}

static void
print_base64(struct printer *pr, const uint8_t *p, size_t n)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	hb_text_addc(pr->t, '"');
	for (size_t i = 0; i < n; i += 3) {
		unsigned left = (unsigned)HB_MIN(n - i, (size_t)3);
		unsigned v = (unsigned)p[i] << 16 | (left > 1 ? (unsigned)p[i + 1] << 8 : 0) |
			(left > 2 ? p[i + 2] : 0);

		hb_text_addc(pr->t, digits[v >> 18]);
		hb_text_addc(pr->t, digits[v >> 12 & 63]);
		hb_text_addc(pr->t, left > 1 ? digits[v >> 6 & 63] : '=');
		hb_text_addc(pr->t, left > 2 ? digits[v & 63] : '=');
	}
	hb_text_addc(pr->t, '"');
}

static void
print_enum(struct printer *pr, const ProtobufCEnumDescriptor *desc, int v)
{
	const ProtobufCEnumValue *e = protobuf_c_enum_descriptor_get_value(desc, v);

	if (e == NULL)
		hb_text_printf(pr->t, "%d", v);
	else
		hb_text_printf(pr->t, "\"%s\"", e->name);
}

static void
print_bytes(struct printer *pr, const ProtobufCBinaryData *b)
{
	static const char redacted[] = "[redacted]";

	if (pr->redact && b->len > 0)
		print_base64(pr, (const uint8_t *)redacted, sizeof redacted - 1);
	else
		print_base64(pr, b->data, b->len);
}

static void
print_string(struct printer *pr, const char *z)
{
	if (z == NULL)
		z = "";
	if (pr->redact && *z != '\0')
		z = "[redacted]";
	hb_text_json(pr->t, z, strlen(z));
}

static void
print_scalar(struct printer *pr, const ProtobufCFieldDescriptor *f, const void *p)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
		hb_text_printf(pr->t, "%" PRId32, *(const int32_t *)p);
		break;
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		hb_text_printf(pr->t, "%" PRIu32, *(const uint32_t *)p);
		break;
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		hb_text_printf(pr->t, "\"%" PRId64 "\"", *(const int64_t *)p);
		break;
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		hb_text_printf(pr->t, "\"%" PRIu64 "\"", *(const uint64_t *)p);
		break;
	case PROTOBUF_C_TYPE_FLOAT:
		hb_text_printf(pr->t, "%.9g", (double)*(const float *)p);
		break;
	case PROTOBUF_C_TYPE_DOUBLE:
		print_double(pr, *(const double *)p);
		break;
	case PROTOBUF_C_TYPE_BOOL:
		hb_text_addz(pr->t, *(const protobuf_c_boolean *)p ? "true" : "false");
		break;
	case PROTOBUF_C_TYPE_ENUM:
		print_enum(pr, f->descriptor, *(const int *)p);
		break;
	case PROTOBUF_C_TYPE_STRING:
		print_string(pr, *(const char *const *)p);
		break;
	case PROTOBUF_C_TYPE_BYTES:
		print_bytes(pr, p);
		break;
	case PROTOBUF_C_TYPE_MESSAGE:
		print_message(pr, *(const ProtobufCMessage *const *)p);
		break;
	}
}

/* ------------------------------------------------------------------ forms of their own */

static void
print_nanos(struct printer *pr, int32_t nanos)
{
	nanos = nanos < 0 ? -nanos : nanos;
	if (nanos == 0)
		return;
	if (nanos % 1000000 == 0)
		hb_text_printf(pr->t, ".%03d", nanos / 1000000);
	else if (nanos % 1000 == 0)
		hb_text_printf(pr->t, ".%06d", nanos / 1000);
	else
		hb_text_printf(pr->t, ".%09d", nanos);
}

static void
print_duration(struct printer *pr, const Google__Protobuf__Duration *d)
{
	bool negative = d->seconds < 0 || d->nanos < 0;

	hb_text_printf(pr->t, "\"%s%" PRIu64, negative ? "-" : "",
		d->seconds < 0 ? (uint64_t)0 - (uint64_t)d->seconds : (uint64_t)d->seconds);
	print_nanos(pr, d->nanos);
	hb_text_addz(pr->t, "s\"");
}

static void
print_timestamp(struct printer *pr, const Google__Protobuf__Timestamp *ts)
{
	time_t t = (time_t)ts->seconds;
	char buf[64] = "";
	struct tm tm;

	if (gmtime_r(&t, &tm) != NULL)
		strftime(buf, sizeof buf, "%Y-%m-%dT%H:%M:%S", &tm);
	hb_text_printf(pr->t, "\"%s", buf);
	print_nanos(pr, ts->nanos);
	hb_text_addz(pr->t, "Z\"");
}

static void
print_value(struct printer *pr, const Google__Protobuf__Value *v)
{
	bool first = true;

	switch (v == NULL || pr->depth > DEPTH_MAX ? 0 : v->kind_case) {
	case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
		print_double(pr, v->number_value);
		break;
	case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
		print_string(pr, v->string_value);
		break;
	case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
		hb_text_addz(pr->t, v->bool_value ? "true" : "false");
		break;
	case GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE:
		print_struct(pr, v->struct_value);
		break;
	case GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE:
		open_block(pr, '[');
		for (size_t i = 0; i < v->list_value->n_values; i++) {
			element(pr, &first);
			print_value(pr, v->list_value->values[i]);
		}
		close_block(pr, ']', first);
		break;
	default:
		hb_text_addz(pr->t, "null");
		break;
	}
}

static void
print_struct(struct printer *pr, const Google__Protobuf__Struct *s)
{
	bool first = true;

	open_block(pr, '{');
	for (size_t i = 0; i < s->n_fields; i++) {
		bool redact = pr->redact;

		print_key(pr, &first, s->fields[i]->key);
		/* A TypedStruct may hold a TLS context. */
		pr->redact |= hb_cfg__name_is_secret(hb_str(s->fields[i]->key));
		print_value(pr, s->fields[i]->value);
		pr->redact = redact;
	}
	close_block(pr, '}', first);
}

static void
print_list(struct printer *pr, const Google__Protobuf__ListValue *l)
{
	Google__Protobuf__Value v = GOOGLE__PROTOBUF__VALUE__INIT;

	v.kind_case = GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE;
	v.list_value = (Google__Protobuf__ListValue *)(uintptr_t)l;
	print_value(pr, &v);
}

static void
print_form(struct printer *pr, const ProtobufCMessage *m, enum hb_cfg__form form)
{
	const ProtobufCFieldDescriptor *f = &m->descriptor->fields[0];

	switch (form) {
	case HB_CFG__DURATION:
		print_duration(pr, (const void *)m);
		break;
	case HB_CFG__TIMESTAMP:
		print_timestamp(pr, (const void *)m);
		break;
	case HB_CFG__STRUCT:
		print_struct(pr, (const void *)m);
		break;
	case HB_CFG__VALUE:
		print_value(pr, (const void *)m);
		break;
	case HB_CFG__LIST:
		print_list(pr, (const void *)m);
		break;
	case HB_CFG__WRAPPER:
		print_scalar(pr, f, (const char *)m + f->offset);
		break;
	case HB_CFG__PLAIN:
	case HB_CFG__ANY:
	case HB_CFG__TYPED_STRUCT:
		HB_WRONG("printed as fields");
	}
}

/* ------------------------------------------------------------------ fields */

static void
print_map(struct printer *pr, const ProtobufCFieldDescriptor *f, const void *p, size_t n)
{
	ProtobufCMessage *const *v = *(ProtobufCMessage *const *const *)p;
	bool first = true;

	open_block(pr, '{');
	for (size_t i = 0; i < n; i++) {
		const ProtobufCFieldDescriptor *kf = &v[i]->descriptor->fields[0];
		const ProtobufCFieldDescriptor *vf = &v[i]->descriptor->fields[1];
		/* Text and 64-bit numbers have their quotes already. */
		const char *quote = hb_cfg__elem_size(kf) < 8 ? "\"" : "";
		bool redact = pr->redact;

		element(pr, &first);
		pr->redact = false;
		hb_text_addz(pr->t, quote);
		print_scalar(pr, kf, (const char *)v[i] + kf->offset);
		hb_text_addz(pr->t, quote);
		pr->redact = redact;
		hb_text_addz(pr->t, pr->indent >= 0 ? ": " : ":");
		print_scalar(pr, vf, (const char *)v[i] + vf->offset);
	}
	close_block(pr, '}', first);
}

/*
 * Where a secret is kept is no secret, and helps to find a wrong file; what it is must not leave.
 */
static bool
names_a_place(const ProtobufCMessageDescriptor *desc, const ProtobufCFieldDescriptor *f)
{
	return (strcmp(desc->name, "envoy.config.core.v3.DataSource") == 0 &&
		(strcmp(f->name, "filename") == 0 || strcmp(f->name, "environment_variable") == 0));
}

static void
print_field(struct printer *pr, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
	const char *p = (const char *)m + f->offset;
	bool first = true;
	size_t n;

	if (f->label != PROTOBUF_C_LABEL_REPEATED) {
		print_scalar(pr, f, p);
		return;
	}
	n = *(const size_t *)(const void *)((const char *)m + f->quantifier_offset);
	if (f->type == PROTOBUF_C_TYPE_MESSAGE && hb_cfg__type_of(f->descriptor)->row.map_entry) {
		print_map(pr, f, p, n);
		return;
	}
	open_block(pr, '[');
	for (size_t i = 0; i < n; i++) {
		element(pr, &first);
		print_scalar(
			pr, f, *(const char *const *)(const void *)p + i * hb_cfg__elem_size(f));
	}
	close_block(pr, ']', first);
}

/* A field that is never absent, only empty. */
static bool
has_default(const ProtobufCFieldDescriptor *f)
{
	return (f->label == PROTOBUF_C_LABEL_REPEATED ||
		(f->type != PROTOBUF_C_TYPE_MESSAGE && (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0));
}

static void
print_fields(struct printer *pr, const ProtobufCMessage *m, bool *first)
{
	const struct hb_cfg__type *t = hb_cfg__type_of(m->descriptor);

	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
		bool redact = pr->redact;

		if (!hb_cfg__is_set(m, f) && !(pr->defaults && has_default(f)))
			continue;
		print_key(pr, first, f->name);
		pr->redact = (redact || hb_cfg__field_of(t, i)->secret) &&
			!names_a_place(m->descriptor, f);
		print_field(pr, m, f);
		pr->redact = redact;
	}
}

/* The bytes may be those of a resource that was refused. */
static void
print_any(struct printer *pr, const Google__Protobuf__Any *any, bool *first)
{
	const ProtobufCMessageDescriptor *desc = hb_cfg_type_find(hb_str(any->type_url));
	ProtobufCMessage *m = NULL;
	enum hb_cfg__form form;

	if (*any->type_url == '\0')
		return;
	print_key(pr, first, "@type");
	hb_text_json(pr->t, any->type_url, strlen(any->type_url));
	if (desc != NULL && hb_cfg__within_limits(hb_strn(any->value.data, any->value.len), desc))
		m = protobuf_c_message_unpack(desc, NULL, any->value.len, any->value.data);
	if (m == NULL) {
		print_key(pr, first, "value");
		print_bytes(pr, &any->value);
		return;
	}
	form = hb_cfg__type_of(desc)->form;
	if (form == HB_CFG__PLAIN || form == HB_CFG__TYPED_STRUCT) {
		print_fields(pr, m, first);
	} else {
		print_key(pr, first, "value");
		print_message(pr, m);
	}
	protobuf_c_message_free_unpacked(m, NULL);
}

static void
print_message(struct printer *pr, const ProtobufCMessage *m)
{
	enum hb_cfg__form form;
	bool first = true;

	if (m == NULL || pr->depth > DEPTH_MAX) {
		hb_text_addz(pr->t, "{}");
		return;
	}
	form = hb_cfg__type_of(m->descriptor)->form;
	if (form != HB_CFG__PLAIN && form != HB_CFG__ANY && form != HB_CFG__TYPED_STRUCT) {
		print_form(pr, m, form);
		return;
	}
	open_block(pr, '{');
	if (form == HB_CFG__ANY)
		print_any(pr, (const void *)m, &first);
	else
		print_fields(pr, m, &first);
	close_block(pr, '}', first);
}

void
hb_cfg_to_json(struct hb_text *t, const ProtobufCMessage *m, int indent)
{
	struct printer pr = { .t = t, .indent = indent };

	print_message(&pr, m);
}

void
hb_cfg_to_json_defaults(struct hb_text *t, const ProtobufCMessage *m, int indent)
{
	struct printer pr = { .t = t, .indent = indent, .defaults = true };

	print_message(&pr, m);
}

struct hb_text
hb_cfg_to_wire(const ProtobufCMessage *m)
{
	struct hb_text t = { 0 };
	ProtobufCBinaryData b = hb_cfg__pack(m);

	hb_text_add(&t, b.data, b.len);
	free(b.data);
	return (t);
}

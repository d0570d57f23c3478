/* SPDX-License-Identifier: Apache-2.0 */
/* Format strings with %OPERATORS%, compiled to a list. */
#include <stdio.h>
#include <stdlib.h>
#include "core/stats/access_log.h"
#include "core/stats/format_priv.h"
#include "google/protobuf/struct.pb-c.h"

#define OPS_MAX      256u
#define JSON_DEPTH   8u
#define TRUNCATE_MAX 65536u

struct json_member {
	char *key;               /* owned; NULL in a list */
	struct hb_format *value; /* owned */
};

struct hb_format {
	unsigned magic;
#define HB_FORMAT_MAGIC 0x3f0a1b77
	enum { FORMAT_TEXT, FORMAT_OBJECT, FORMAT_LIST, FORMAT_FIXED } kind;
	struct format_op *op; /* TEXT: owned              */
	size_t n_op;
	struct json_member *member; /* OBJECT, LIST: owned      */
	size_t n_member;
	char *fixed; /* FIXED: JSON text, owned  */
	bool typed, omit_empty;
};

static struct hb_format *
format_new(int kind)
{
	struct hb_format *f;

	HB_NEW(f, HB_FORMAT_MAGIC);
	f->kind = kind;
	return (f);
}

void
hb_format_free(struct hb_format **pf)
{
	struct hb_format *f = *pf;

	if (f == NULL)
		return;
	*pf = NULL;
	HB_CHECK(f, HB_FORMAT_MAGIC);
	for (size_t i = 0; i < f->n_op; i++) {
		hb_free(f->op[i].text);
		hb_free(f->op[i].arg);
	}
	for (size_t i = 0; i < f->n_member; i++) {
		hb_free(f->member[i].key);
		hb_format_free(&f->member[i].value);
	}
	hb_free(f->op);
	hb_free(f->member);
	hb_free(f->fixed);
	HB_DEL(f);
}

void
hb_format_omit_empty(struct hb_format *f)
{
	f->omit_empty = true;
	for (size_t i = 0; i < f->n_member; i++)
		hb_format_omit_empty(f->member[i].value);
}

static struct format_op *
op_add(struct hb_format *f)
{
	struct format_op *op;

	f->op = hb_realloc(f->op, (f->n_op + 1) * sizeof *f->op);
	op = &f->op[f->n_op++];
	memset(op, 0, sizeof *op);
	return (op);
}

static void
literal_add(struct hb_format *f, struct hb_str s)
{
	struct format_op *op;

	if (s.len == 0)
		return;
	if (f->n_op > 0 && f->op[f->n_op - 1].def == NULL) {
		op = &f->op[f->n_op - 1];
		op->text = hb_realloc(op->text, op->text_len + s.len + 1);
	} else {
		op = op_add(f);
		op->text = hb_malloc(s.len + 1);
	}
	memcpy(op->text + op->text_len, s.p, s.len);
	op->text_len += s.len;
	op->text[op->text_len] = '\0';
}

static const char *
bad_argument(const struct format_op_def *def, const struct format_op *op)
{
	if (def->arg == FORMAT_ARG_NONE && op->arg != NULL)
		return ("takes no argument");
	if (def->arg == FORMAT_ARG_MUST && (op->arg == NULL || *op->arg == '\0'))
		return ("needs an argument in parentheses");
	return (NULL);
}

/* NAME, NAME(arg), NAME:len, NAME(arg):len; what stands between two percent signs. */
static const char *
parse_operator(struct hb_format *f, struct hb_str s, char *name, size_t cap)
{
	struct format_op *op = op_add(f);
	const char *open = memchr(s.p, '(', s.len), *close = NULL, *colon;
	size_t name_len;
	uint64_t n;

	if (open != NULL) {
		for (const char *p = s.p + s.len - 1; p > open && close == NULL; p--)
			close = *p == ')' ? p : NULL;
		if (close == NULL)
			return ("has no closing parenthesis");
		op->arg = hb_strndup(open + 1, (size_t)(close - open - 1));
	}
	colon = memchr(close != NULL ? close : s.p, ':',
		s.len - (size_t)((close != NULL ? close : s.p) - s.p));
	if (colon != NULL) {
		if (!hb_str_u64(hb_strn(colon + 1, (size_t)(s.p + s.len - colon - 1)), TRUNCATE_MAX,
			    &n) ||
			n == 0)
			return ("has a bad length after the colon");
		op->truncate = (uint32_t)n;
	}
	name_len = open != NULL ? (size_t)(open - s.p) :
		colon != NULL   ? (size_t)(colon - s.p) :
				  s.len;
	snprintf(name, cap, "%.*s", (int)name_len, s.p);
	op->def = hb_format_op_find(hb_strn(s.p, name_len));
	if (op->def == NULL)
		return ("is not known");
	return (bad_argument(op->def, op));
}

static int
operator_error(struct hb_cfg *cfg, const void *msg, const char *field, int index, const char *name,
	const char *why)
{
	const char *near = hb_format_op_find(hb_str(name)) == NULL ? hb_format_op_nearest(name) :
								     NULL;

	if (near != NULL)
		return (hb_cfg_error(cfg, msg, field, index,
			"operator %%%s%% %s; did you mean %%%s%%?", name, why, near));
	return (hb_cfg_error(cfg, msg, field, index, "operator %%%s%% %s", name, why));
}

/* A percent sign inside parentheses (a strftime format) does not end the operator. */
static const char *
operator_end(const char *p, const char *end)
{
	int depth = 0;

	for (; p < end; p++) {
		if (*p == '(')
			depth++;
		else if (*p == ')' && depth > 0)
			depth--;
		else if (*p == '%' && depth == 0)
			return (p);
	}
	return (NULL);
}

struct hb_format *
hb_format_compile(
	struct hb_cfg *cfg, const void *msg, const char *field, int index, struct hb_str text)
{
	struct hb_format *f = format_new(FORMAT_TEXT);
	const char *p = text.p, *end = text.p + text.len, *q, *why;
	char name[64] = "";
	bool bad = false;

	while (p < end && f->n_op < OPS_MAX) {
		q = memchr(p, '%', (size_t)(end - p));
		if (q == NULL)
			q = end;
		literal_add(f, hb_strn(p, (size_t)(q - p)));
		if (q == end)
			break;
		p = q + 1;
		if (p < end && *p == '%') {
			literal_add(f, HB_STR("%"));
			p++;
			continue;
		}
		q = operator_end(p, end);
		if (q == NULL) {
			hb_cfg_error(cfg, msg, field, index,
				"\"%%\" without an end; write %%%% for a percent sign");
			bad = true;
			break;
		}
		why = parse_operator(f, hb_strn(p, (size_t)(q - p)), name, sizeof name);
		if (why != NULL) {
			operator_error(cfg, msg, field, index, name[0] != '\0' ? name : "?", why);
			bad = true;
		}
		p = q + 1;
	}
	if (!bad && f->n_op >= OPS_MAX) {
		hb_cfg_error(cfg, msg, field, index, "more than %u operators", OPS_MAX);
		bad = true;
	}
	if (bad)
		hb_format_free(&f);
	return (f);
}

static struct hb_format *compile_value(struct hb_cfg *, const void *, const char *,
	const Google__Protobuf__Value *, bool, unsigned);

static bool
member_add(struct hb_format *f, const char *key, struct hb_format *value)
{
	if (value == NULL)
		return (false);
	f->member = hb_realloc(f->member, (f->n_member + 1) * sizeof *f->member);
	f->member[f->n_member].key = key == NULL ? NULL : hb_strdup(key);
	f->member[f->n_member++].value = value;
	return (true);
}

static struct hb_format *
compile_struct(struct hb_cfg *cfg, const void *msg, const char *field,
	const Google__Protobuf__Struct *s, bool typed, unsigned depth)
{
	struct hb_format *f = format_new(FORMAT_OBJECT);

	for (size_t i = 0; i < s->n_fields; i++)
		if (!member_add(f, s->fields[i]->key,
			    compile_value(
				    cfg, msg, field, s->fields[i]->value, typed, depth + 1))) {
			hb_format_free(&f);
			return (NULL);
		}
	return (f);
}

static struct hb_format *
compile_list(struct hb_cfg *cfg, const void *msg, const char *field,
	const Google__Protobuf__ListValue *l, bool typed, unsigned depth)
{
	struct hb_format *f = format_new(FORMAT_LIST);

	for (size_t i = 0; i < l->n_values; i++)
		if (!member_add(f, NULL,
			    compile_value(cfg, msg, field, l->values[i], typed, depth + 1))) {
			hb_format_free(&f);
			return (NULL);
		}
	return (f);
}

static struct hb_format *
compile_value(struct hb_cfg *cfg, const void *msg, const char *field,
	const Google__Protobuf__Value *v, bool typed, unsigned depth)
{
	struct hb_format *f;

	if (depth > JSON_DEPTH) {
		hb_cfg_error(cfg, msg, field, -1, "is nested deeper than %u", JSON_DEPTH);
		return (NULL);
	}
	switch (v == NULL ? GOOGLE__PROTOBUF__VALUE__KIND__NOT_SET : v->kind_case) {
	case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
		f = hb_format_compile(cfg, msg, field, -1, hb_str(v->string_value));
		if (f != NULL)
			f->typed = typed;
		return (f);
	case GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE:
		return (compile_struct(cfg, msg, field, v->struct_value, typed, depth));
	case GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE:
		return (compile_list(cfg, msg, field, v->list_value, typed, depth));
	case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
		f = format_new(FORMAT_FIXED);
		f->fixed = hb_asprintf("%.17g", v->number_value);
		return (f);
	case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
		f = format_new(FORMAT_FIXED);
		f->fixed = hb_strdup(v->bool_value ? "true" : "false");
		return (f);
	default:
		f = format_new(FORMAT_FIXED);
		f->fixed = hb_strdup("null");
		return (f);
	}
}

struct hb_format *
hb_format_compile_json(
	struct hb_cfg *cfg, const void *msg, const char *field, const void *struct_msg, bool typed)
{
	return (compile_struct(cfg, msg, field, struct_msg, typed, 0));
}

/* False when the operator has no value. */
static bool
write_op(const struct format_op *op, const struct hb_log_entry *e, struct hb_text *t)
{
	size_t before = t->len;
	bool there;

	if (op->def == NULL) {
		hb_text_add(t, op->text, op->text_len);
		return (true);
	}
	there = op->def->write(op, e, t) && t->len > before;
	if (there && op->truncate > 0 && t->len - before > op->truncate) {
		t->len = before + op->truncate;
		t->p[t->len] = '\0';
	}
	return (there);
}

static void
write_text(const struct hb_format *f, const struct hb_log_entry *e, struct hb_text *t)
{
	for (size_t i = 0; i < f->n_op; i++)
		if (!write_op(&f->op[i], e, t) && !f->omit_empty)
			hb_text_addc(t, '-');
}

/* One JSON value; false when it is missing and to be left out. */
static bool
write_json(const struct hb_format *f, const struct hb_log_entry *e, struct hb_text *t)
{
	struct hb_text text = { 0 };
	bool single = f->n_op == 1 && f->op[0].def != NULL, there = true, first = true;

	if (f->kind == FORMAT_FIXED) {
		hb_text_addz(t, f->fixed);
		return (true);
	}
	if (f->kind != FORMAT_TEXT) {
		hb_text_addc(t, f->kind == FORMAT_OBJECT ? '{' : '[');
		for (size_t i = 0; i < f->n_member; i++) {
			size_t before = t->len;

			if (!first)
				hb_text_addc(t, ',');
			if (f->member[i].key != NULL) {
				hb_text_json(t, f->member[i].key, strlen(f->member[i].key));
				hb_text_addc(t, ':');
			}
			if (write_json(f->member[i].value, e, t))
				first = false;
			else
				t->len = before;
		}
		hb_text_addc(t, f->kind == FORMAT_OBJECT ? '}' : ']');
		return (true);
	}
	if (single)
		there = write_op(&f->op[0], e, &text);
	else
		write_text(f, e, &text);
	if (!there && f->omit_empty) {
		hb_text_fini(&text);
		return (false);
	}
	if (!there)
		hb_text_addz(t, f->typed ? "null" : "\"-\"");
	else if (single && f->typed && f->op[0].def->numeric)
		hb_text_add(t, text.p, text.len);
	else
		hb_text_json(t, text.p, text.len);
	hb_text_fini(&text);
	return (true);
}

void
hb_format_write(const struct hb_format *f, const struct hb_log_entry *e, struct hb_text *t)
{
	HB_CHECK(f, HB_FORMAT_MAGIC);
	if (f->kind == FORMAT_TEXT) {
		write_text(f, e, t);
		return;
	}
	write_json(f, e, t);
	hb_text_addc(t, '\n');
}

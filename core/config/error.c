/* SPDX-License-Identifier: Apache-2.0 */
/* Errors with file, line, column and path. */
#include <stdio.h>
#include "core/config/cfg_priv.h"

static void
fill(struct hb_err *e, const struct hb_cfg *cfg, unsigned line, unsigned column, const char *path,
	const char *fmt, va_list ap)
{
	e->code = -EINVAL;
	e->line = line;
	e->column = column;
	snprintf(e->file, sizeof e->file, "%s", cfg->name);
	if (path != NULL) {
		size_t n = strlen(path);

		/* The end of a long path says more than its start. */
		if (n < sizeof e->path)
			memcpy(e->path, path, n + 1);
		else
			snprintf(e->path, sizeof e->path, "...%s", path + n - (sizeof e->path - 4));
	}
	vsnprintf(e->text, sizeof e->text, fmt, ap);
}

void
hb_cfg__error_at(
	struct hb_cfg *cfg, unsigned line, unsigned column, const char *path, const char *fmt, ...)
{
	struct hb_err *e = hb_errs_add(&cfg->errs);
	va_list ap;

	if (e == NULL)
		return;
	va_start(ap, fmt);
	fill(e, cfg, line, column, path, fmt, ap);
	va_end(ap);
}

static void
path_key(struct hb_text *t, const ProtobufCMessage *entry)
{
	const ProtobufCFieldDescriptor *f = &entry->descriptor->fields[0];
	const char *p = (const char *)entry + f->offset;

	if (f->type == PROTOBUF_C_TYPE_STRING) {
		const char *z = *(const char *const *)(const void *)p;

		hb_text_printf(t, "[\"%.100s\"]", z);
	}
}

/* Appends the path of a message; the segments come from its ancestors, outermost first. */
static void
path_of(struct hb_text *t, const struct hb_cfg *cfg, const ProtobufCMessage *msg)
{
	const struct hb_cfg__src *s = hb_cfg__src_get(cfg, msg);
	bool entry;

	if (s == NULL || s->parent == NULL)
		return;
	path_of(t, cfg, s->parent);
	if (s->field == NULL)
		return;
	/* policies["web"].permissions, not policies[0].value.permissions */
	entry = hb_cfg__type_of(s->parent->descriptor)->row.map_entry;
	if (entry)
		return;
	if (t->len > 0)
		hb_text_addc(t, '.');
	hb_text_addz(t, s->field->name);
	if (hb_cfg__type_of(msg->descriptor)->row.map_entry)
		path_key(t, msg);
	else if (s->field->label == PROTOBUF_C_LABEL_REPEATED)
		hb_text_printf(t, "[%zu]", s->index);
}

static bool
camel_equal(struct hb_str camel, const char *snake)
{
	size_t i = 0;

	for (const char *s = snake; *s != '\0'; s++, i++) {
		char c = *s;

		if (c == '_' && s[1] != '\0') {
			c = *++s;
			c = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
		}
		if (i >= camel.len || camel.p[i] != c)
			return (false);
	}
	return (i == camel.len);
}

bool
hb_cfg__key_is(struct hb_str key, const char *field)
{
	return (hb_str_eq(key, hb_str(field)) || camel_equal(key, field));
}

struct place {
	unsigned line, column;
	struct hb_text path;
};

static void
place_node(struct place *pl, const struct hb_cfg__node *n)
{
	if (n->line == 0)
		return;
	pl->line = n->line;
	pl->column = n->column;
}

static void
place_find(struct place *pl, const struct hb_cfg *cfg, const ProtobufCMessage *msg,
	const char *field, int index)
{
	const struct hb_cfg__src *s = hb_cfg__src_get(cfg, msg);
	const struct hb_cfg__node *n = s == NULL ? NULL : s->node;

	path_of(&pl->path, cfg, msg);
	if (n != NULL)
		place_node(pl, n);
	if (field == NULL)
		return;
	if (pl->path.len > 0)
		hb_text_addc(&pl->path, '.');
	hb_text_addz(&pl->path, field);
	if (index >= 0)
		hb_text_printf(&pl->path, "[%d]", index);
	for (size_t i = 0; n != NULL && n->kind == HB_CFG__MAP && i < n->n; i++) {
		const struct hb_cfg__node *v = n->map[i].value;

		if (!hb_cfg__key_is(n->map[i].key, field))
			continue;
		place_node(pl, v);
		if (index >= 0 && v->kind == HB_CFG__SEQ && (size_t)index < v->n)
			place_node(pl, v->seq[index]);
		break;
	}
}

static void
report(struct hb_errs *list, struct hb_cfg *cfg, const void *msg, const char *field, int index,
	const char *fmt, va_list ap)
{
	struct hb_err *e = hb_errs_add(list);
	struct place pl = { 0 };

	if (e == NULL)
		return;
	place_find(&pl, cfg, msg, field, index);
	fill(e, cfg, pl.line, pl.column, pl.path.p, fmt, ap);
	hb_text_fini(&pl.path);
}

int
hb_cfg_error(
	struct hb_cfg *cfg, const void *msg, const char *field, int index, const char *fmt, ...)
{
	va_list ap;

	HB_CHECK(cfg, HB_CFG_MAGIC);
	va_start(ap, fmt);
	report(&cfg->errs, cfg, msg, field, index, fmt, ap);
	va_end(ap);
	return (-EINVAL);
}

void
hb_cfg_warn(struct hb_cfg *cfg, const void *msg, const char *field, int index, const char *fmt, ...)
{
	va_list ap;

	HB_CHECK(cfg, HB_CFG_MAGIC);
	va_start(ap, fmt);
	report(&cfg->warnings, cfg, msg, field, index, fmt, ap);
	va_end(ap);
}

void
hb_cfg_note(struct hb_cfg *cfg, const void *msg, const char *field, int index, const char *fmt, ...)
{
	va_list ap;

	HB_CHECK(cfg, HB_CFG_MAGIC);
	va_start(ap, fmt);
	report(&cfg->notes, cfg, msg, field, index, fmt, ap);
	va_end(ap);
}

char *
hb_cfg_path(struct hb_cfg *cfg, const void *msg)
{
	struct hb_text t = { 0 };

	HB_CHECK(cfg, HB_CFG_MAGIC);
	path_of(&t, cfg, msg);
	return (hb_text_take(&t));
}

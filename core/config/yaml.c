/* SPDX-License-Identifier: Apache-2.0 */
/* YAML and JSON text to nodes, by libyaml's events. */
#include <stdio.h>
#include <yaml.h>
#include "core/config/cfg_priv.h"

/* An alias of a long text costs memory, too. */
#define TEXT_PER_NODE 64

struct reader {
	struct hb_cfg *cfg;
	yaml_parser_t parser;
	struct hb_map *anchors; /* name to node; &unfinished while its node is being read */
	unsigned aliases;
	bool stop; /* what follows makes no sense                           */
};

static struct hb_cfg__node unfinished;

static struct hb_cfg__node *read_node(struct reader *, yaml_event_t *, unsigned depth);

const struct hb_cfg__pair *
hb_cfg__node_get(const struct hb_cfg__node *n, const char *key)
{
	for (size_t i = 0; n->kind == HB_CFG__MAP && i < n->n; i++) {
		if (hb_cfg__key_is(n->map[i].key, key))
			return (&n->map[i]);
	}
	return (NULL);
}

const char *
hb_cfg__node_kind(const struct hb_cfg__node *n)
{
	switch (n->kind) {
	case HB_CFG__NULL:
		return ("null");
	case HB_CFG__SCALAR:
		return ("a plain value");
	case HB_CFG__SEQ:
		return ("a list");
	case HB_CFG__MAP:
		return ("a mapping");
	}
	HB_WRONG("kind of node");
}

static void
stop_at(struct reader *r, const yaml_mark_t *m, const char *text)
{
	if (!r->stop)
		hb_cfg__error_at(
			r->cfg, (unsigned)m->line + 1, (unsigned)m->column + 1, NULL, "%s", text);
	r->stop = true;
}

/* What libyaml stumbled over, for people. */
static const char *
hint(const yaml_parser_t *p)
{
	if (p->error != YAML_SCANNER_ERROR || p->buffer.pointer == NULL)
		return ("");
	switch (*p->buffer.pointer) {
	case '\t':
		return ("; indent with spaces, not with a tab");
	case '@':
	case '`':
	case '%':
		return ("; put the word in quotes: \"@type\"");
	default:
		return ("");
	}
}

static bool
next(struct reader *r, yaml_event_t *ev)
{
	if (r->stop)
		return (false);
	if (yaml_parser_parse(&r->parser, ev))
		return (true);
	r->stop = true;
	if (r->parser.error == YAML_READER_ERROR) {
		hb_cfg__error_at(r->cfg, 0, 0, NULL, "not readable as text: %s (byte %zu)",
			r->parser.problem, r->parser.problem_offset);
	} else {
		hb_cfg__error_at(r->cfg, (unsigned)r->parser.problem_mark.line + 1,
			(unsigned)r->parser.problem_mark.column + 1, NULL, "not valid YAML: %s%s%s%s",
			r->parser.problem == NULL ? "syntax error" : r->parser.problem,
			r->parser.context == NULL ? "" : ", ",
			r->parser.context == NULL ? "" : r->parser.context, hint(&r->parser));
	}
	return (false);
}

static struct hb_cfg__node *
node_new(struct reader *r, enum hb_cfg__kind kind, const yaml_mark_t *m)
{
	struct hb_cfg__node *n = hb_cfg__alloc(r->cfg, sizeof *n);

	n->kind = kind;
	n->line = (unsigned)m->line + 1;
	n->column = (unsigned)m->column + 1;
	n->size = 1;
	return (n);
}

/* Adds a child's size and height; false when a limit is exceeded. */
static bool
account(struct reader *r, struct hb_cfg__node *n, const struct hb_cfg__node *child,
	const yaml_mark_t *m, unsigned depth)
{
	n->size += child->size;
	n->height = HB_MAX(n->height, child->height + 1);
	if (n->size > r->cfg->limits.nodes_max)
		stop_at(r, m,
			"too many values in the document (aliases count for what they stand for)");
	else if (depth + n->height > r->cfg->limits.depth_max)
		stop_at(r, m, "nested too deeply");
	return (!r->stop);
}

static void
define(struct reader *r, const yaml_char_t *anchor, struct hb_cfg__node *n)
{
	if (anchor != NULL)
		hb_map_put(r->anchors, hb_str((const char *)anchor), n);
}

static struct hb_cfg__node *
read_alias(struct reader *r, yaml_event_t *ev)
{
	struct hb_cfg__node *n;

	if (++r->aliases > r->cfg->limits.aliases_max) {
		stop_at(r, &ev->start_mark, "too many aliases in the document");
		return (NULL);
	}
	n = hb_map_get(r->anchors, hb_str((const char *)ev->data.alias.anchor));
	if (n == NULL) {
		char text[160];

		snprintf(text, sizeof text, "the alias *%.100s has no anchor before it",
			(const char *)ev->data.alias.anchor);
		stop_at(r, &ev->start_mark, text);
		return (NULL);
	}
	if (n == &unfinished) {
		stop_at(r, &ev->start_mark, "the alias stands inside the value that it refers to");
		return (NULL);
	}
	return (n);
}

static bool
is_null(const char *p, size_t n)
{
	static const char *const words[] = { "", "~", "null", "Null", "NULL" };

	for (size_t i = 0; i < HB_ARRAY_LEN(words); i++) {
		if (hb_str_eq(hb_strn(p, n), hb_str(words[i])))
			return (true);
	}
	return (false);
}

static struct hb_cfg__node *
read_scalar(struct reader *r, const yaml_event_t *ev)
{
	const char *p = (const char *)ev->data.scalar.value,
		   *tag = (const char *)ev->data.scalar.tag;
	size_t len = ev->data.scalar.length;
	struct hb_cfg__node *n = node_new(r, HB_CFG__SCALAR, &ev->start_mark);

	n->plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	if (tag != NULL) {
		n->plain = false;
		if (strcmp(tag, "!") != 0 && strcmp(tag, YAML_STR_TAG) != 0)
			stop_at(r, &ev->start_mark, "tags other than !!str are not supported");
	}
	if (memchr(p, '\0', len) != NULL)
		stop_at(r, &ev->start_mark, "the text holds a NUL character");
	if (n->plain && is_null(p, len))
		n->kind = HB_CFG__NULL;
	n->text = hb_cfg__copy(r->cfg, p, len);
	n->size += len / TEXT_PER_NODE;
	return (n);
}

static struct hb_cfg__node *
read_seq(struct reader *r, const yaml_event_t *start, unsigned depth)
{
	struct hb_cfg__node *n = node_new(r, HB_CFG__SEQ, &start->start_mark), **v = NULL;
	size_t cap = 0;
	yaml_event_t ev;

	while (next(r, &ev)) {
		struct hb_cfg__node *child;
		bool end = ev.type == YAML_SEQUENCE_END_EVENT;

		child = end ? NULL : read_node(r, &ev, depth + 1);
		if (child != NULL && account(r, n, child, &ev.start_mark, depth)) {
			if (n->n == cap) {
				cap = cap == 0 ? 8 : cap * 2;
				v = hb_realloc(v, cap * sizeof *v);
			}
			v[n->n++] = child;
		}
		yaml_event_delete(&ev);
		if (end)
			break;
	}
	n->seq = hb_cfg__alloc(r->cfg, n->n * sizeof *n->seq);
	if (n->n > 0)
		memcpy(n->seq, v, n->n * sizeof *v);
	hb_free(v);
	return (n);
}

/* A key that stands there already is reported and its second value dropped. */
static bool
key_is_new(struct reader *r, struct hb_map *seen, const struct hb_cfg__pair *p)
{
	const struct hb_cfg__pair *first = hb_map_get(seen, p->key);

	if (first == NULL) {
		hb_map_put(seen, p->key, (void *)(uintptr_t)p);
		return (true);
	}
	hb_cfg__error_at(r->cfg, p->line, p->column, NULL,
		"\"%.100s\" stands twice here, first in line %u", p->key.p, first->line);
	return (false);
}

/* Reads a key from its event; false when the pair cannot be used (which was reported). */
static bool
read_key(struct reader *r, yaml_event_t *ev, unsigned depth, struct hb_cfg__pair *p)
{
	struct hb_cfg__node *k = read_node(r, ev, depth + 1);

	p->line = (unsigned)ev->start_mark.line + 1;
	p->column = (unsigned)ev->start_mark.column + 1;
	if (k == NULL)
		return (false);
	if (k->kind != HB_CFG__SCALAR && k->kind != HB_CFG__NULL) {
		hb_cfg__error_at(r->cfg, p->line, p->column, NULL, "a key must be text, not %s",
			hb_cfg__node_kind(k));
		return (false);
	}
	p->key = k->text;
	if (k->plain && hb_str_eq(k->text, HB_STR("<<"))) {
		hb_cfg__error_at(r->cfg, p->line, p->column, NULL,
			"merge keys (<<) are not supported: repeat the fields, or use an alias for a whole value");
		return (false);
	}
	return (true);
}

static struct hb_cfg__node *
read_map(struct reader *r, const yaml_event_t *start, unsigned depth)
{
	struct hb_cfg__node *n = node_new(r, HB_CFG__MAP, &start->start_mark);
	struct hb_cfg__pair **v = NULL;
	struct hb_map *seen = hb_map_new();
	size_t cap = 0;
	yaml_event_t ev;

	while (next(r, &ev)) {
		struct hb_cfg__pair *p = hb_cfg__alloc(r->cfg, sizeof *p);
		bool end = ev.type == YAML_MAPPING_END_EVENT;
		bool good = !end && read_key(r, &ev, depth, p) && key_is_new(r, seen, p);

		yaml_event_delete(&ev);
		if (end || !next(r, &ev))
			break;
		p->value = read_node(r, &ev, depth + 1);
		if (p->value != NULL && account(r, n, p->value, &ev.start_mark, depth) && good) {
			if (n->n == cap) {
				cap = cap == 0 ? 8 : cap * 2;
				v = hb_realloc(v, cap * sizeof *v);
			}
			v[n->n++] = p;
		}
		yaml_event_delete(&ev);
	}
	n->map = hb_cfg__alloc(r->cfg, n->n * sizeof *n->map);
	for (size_t i = 0; i < n->n; i++)
		n->map[i] = *v[i];
	hb_free(v);
	hb_map_free(&seen);
	return (n);
}

static bool
tag_is(const yaml_char_t *tag, const char *want)
{
	return (tag == NULL || strcmp((const char *)tag, want) == 0);
}

static struct hb_cfg__node *
read_node(struct reader *r, yaml_event_t *ev, unsigned depth)
{
	const yaml_char_t *anchor = NULL;
	struct hb_cfg__node *n = NULL;

	if (depth > r->cfg->limits.depth_max) {
		stop_at(r, &ev->start_mark, "nested too deeply");
		return (NULL);
	}
	switch (ev->type) {
	case YAML_ALIAS_EVENT:
		n = read_alias(r, ev);
		break;
	case YAML_SCALAR_EVENT:
		anchor = ev->data.scalar.anchor;
		n = read_scalar(r, ev);
		break;
	case YAML_SEQUENCE_START_EVENT:
		anchor = ev->data.sequence_start.anchor;
		if (!tag_is(ev->data.sequence_start.tag, YAML_SEQ_TAG))
			stop_at(r, &ev->start_mark, "tags are not supported");
		define(r, anchor, &unfinished);
		n = read_seq(r, ev, depth);
		break;
	case YAML_MAPPING_START_EVENT:
		anchor = ev->data.mapping_start.anchor;
		if (!tag_is(ev->data.mapping_start.tag, YAML_MAP_TAG))
			stop_at(r, &ev->start_mark, "tags are not supported");
		define(r, anchor, &unfinished);
		n = read_map(r, ev, depth);
		break;
	default:
		stop_at(r, &ev->start_mark, "not valid YAML: a value is missing");
		break;
	}
	if (n != NULL)
		define(r, anchor, n);
	return (r->stop ? NULL : n);
}

static struct hb_cfg__node *
read_document(struct reader *r)
{
	struct hb_cfg__node *root = NULL;
	unsigned documents = 0;
	yaml_event_t ev;

	while (next(r, &ev)) {
		yaml_event_type_t type = ev.type;

		switch (type) {
		case YAML_STREAM_START_EVENT:
		case YAML_STREAM_END_EVENT:
		case YAML_DOCUMENT_END_EVENT:
			break;
		case YAML_DOCUMENT_START_EVENT:
			if (++documents > 1)
				stop_at(r, &ev.start_mark, "only one document may stand in a file");
			break;
		default:
			root = read_node(r, &ev, 0);
			break;
		}
		yaml_event_delete(&ev);
		if (type == YAML_STREAM_END_EVENT)
			break;
	}
	if (!r->stop && documents == 0)
		hb_cfg__error_at(r->cfg, 0, 0, NULL, "the document is empty");
	return (r->stop ? NULL : root);
}

static unsigned
hex4(const char *p, size_t n)
{
	unsigned v = 0;

	for (size_t i = 0; i < 4; i++) {
		unsigned char c = i < n ? (unsigned char)p[i] : 0;

		if (c >= '0' && c <= '9')
			v = v << 4 | (unsigned)(c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			v = v << 4 | (unsigned)((c | 32) - 'a' + 10);
		else
			return (0);
	}
	return (v);
}

/*
 * JSON writes characters beyond U+FFFF as two escaped surrogates, which libyaml refuses; YAML has
 * one long escape for them. Returns NULL when there is nothing to do.
 */
static char *
join_surrogates(struct hb_str in, size_t *ret_len)
{
	char *out;
	size_t n = 0, i = 0;

	while (i < in.len && strchr(" \t\r\n", in.p[i]) != NULL)
		i++;
	if (i == in.len || (in.p[i] != '{' && in.p[i] != '[') ||
		memmem(in.p, in.len, "\\u", 2) == NULL)
		return (NULL);
	out = hb_malloc(in.len + 1);
	for (i = 0; i < in.len;) {
		unsigned hi = 0, lo = 0;

		if (in.p[i] == '\\' && i + 11 < in.len && in.p[i + 1] == 'u' &&
			in.p[i + 6] == '\\' && in.p[i + 7] == 'u') {
			hi = hex4(in.p + i + 2, 4);
			lo = hex4(in.p + i + 8, 4);
		}
		if (hi >= 0xd800 && hi < 0xdc00 && lo >= 0xdc00 && lo < 0xe000) {
			n += (size_t)sprintf(out + n, "\\U%08x",
				0x10000 + ((hi - 0xd800) << 10) + (lo - 0xdc00));
			i += 12;
			continue;
		}
		if (in.p[i] == '\\' && i + 1 < in.len)
			out[n++] = in.p[i++];
		out[n++] = in.p[i++];
	}
	*ret_len = n;
	return (out);
}

struct hb_cfg__node *
hb_cfg__read_yaml(struct hb_cfg *cfg, struct hb_str text)
{
	struct reader r = { .cfg = cfg };
	struct hb_cfg__node *root;
	char *joined;

	if (text.len > cfg->limits.bytes_max) {
		hb_cfg__error_at(cfg, 0, 0, NULL, "the document has more than %zu bytes",
			cfg->limits.bytes_max);
		return (NULL);
	}
	joined = join_surrogates(text, &text.len);
	if (joined != NULL)
		text.p = joined;
	if (!yaml_parser_initialize(&r.parser))
		HB_WRONG("out of memory");
	r.anchors = hb_map_new();
	yaml_parser_set_input_string(
		&r.parser, (const unsigned char *)(text.p == NULL ? "" : text.p), text.len);
	root = read_document(&r);
	hb_map_free(&r.anchors);
	yaml_parser_delete(&r.parser);
	hb_free(joined);
	return (root);
}

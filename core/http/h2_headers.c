/* SPDX-License-Identifier: Apache-2.0 */
#include "core/http/h2_priv.h"

/* RFC 9113 6.5.2: what a field costs beyond its bytes. */
#define FIELD_OVERHEAD 32u

static struct h2_fields *
fields_new(struct hb_worker *worker)
{
	struct h2_worker *w = hb_h2__worker(worker);
	struct h2_fields *f = &w->fields;

	if (w->fields_used) {
		f = hb_calloc(1, sizeof *f);
	} else {
		w->fields_used = true;
		memset(f, 0, sizeof *f);
		f->v = w->v;
		f->cap = HB_ARRAY_LEN(w->v);
		f->text = w->text;
		f->text_cap = sizeof w->text;
	}
	f->worker = worker;
	return (f);
}

static void
grow_text(struct h2_fields *f, size_t n)
{
	size_t cap = HB_MAX((size_t)f->text_cap * 2, HB_MAX(f->text_len + n, (size_t)256));

	if (f->text_owned)
		f->text = hb_realloc(f->text, cap);
	else if (f->text_len > 0)
		f->text = memcpy(hb_malloc(cap), f->text, f->text_len);
	else
		f->text = hb_malloc(cap);
	f->text_owned = true;
	f->text_cap = (uint32_t)cap;
}

static void
grow_fields(struct h2_fields *f)
{
	uint32_t cap = f->cap == 0 ? 8 : f->cap * 2;

	if (f->v_owned || f->cap == 0)
		f->v = hb_realloc(f->v, cap * sizeof f->v[0]);
	else
		f->v = memcpy(hb_malloc(cap * sizeof f->v[0]), f->v, f->n * sizeof f->v[0]);
	f->v_owned = true;
	f->cap = cap;
}

static uint32_t
put(struct h2_fields *f, struct hb_str s)
{
	uint32_t at = f->text_len;

	if (s.len > 0)
		memcpy(f->text + at, s.p, s.len);
	f->text_len += (uint32_t)s.len;
	return (at);
}

void
hb_h2__fields_add(struct h2_stream *s, struct hb_str name, struct hb_str value)
{
	const struct hb_h2_options *opt = s->h2->opt;
	struct h2_busy *b = hb_h2__busy(s);
	struct h2_fields *f = b->fields;

	if (f == NULL)
		f = b->fields = fields_new(s->base.worker);
	f->bytes += name.len + value.len + FIELD_OVERHEAD;
	if (f->n >= opt->headers_max || f->bytes > opt->header_bytes_max)
		f->too_big = true;
	if (f->too_big)
		return;
	if (f->n == f->cap)
		grow_fields(f);
	if (f->text_cap - f->text_len < name.len + value.len)
		grow_text(f, name.len + value.len);
	f->v[f->n++] = (struct h2_field){ .name_len = (uint32_t)name.len,
		.value_len = (uint32_t)value.len,
		.name = put(f, name),
		.value = put(f, value) };
}

void
hb_h2__fields_free(struct h2_fields **pf)
{
	struct h2_fields *f = *pf;
	struct h2_worker *w;

	if (f == NULL)
		return;
	*pf = NULL;
	if (f->text_owned)
		hb_free(f->text);
	if (f->v_owned)
		hb_free(f->v);
	w = hb_h2__worker(f->worker);
	if (f == &w->fields)
		w->fields_used = false;
	else
		hb_free(f);
}

void
hb_h2__fields_drop(struct h2_stream *s)
{
	if (s->busy != NULL)
		hb_h2__fields_free(&s->busy->fields);
}

static struct hb_str *
pseudo(struct hb_h2_request *r, struct hb_str name)
{
	if (hb_str_eq(name, HB_STR(":method")))
		return (&r->method);
	if (hb_str_eq(name, HB_STR(":scheme")))
		return (&r->scheme);
	if (hb_str_eq(name, HB_STR(":authority")))
		return (&r->authority);
	if (hb_str_eq(name, HB_STR(":path")))
		return (&r->path);
	if (hb_str_eq(name, HB_STR(":protocol")))
		return (&r->protocol);
	return (NULL);
}

void
hb_h2__fields_request(const struct h2_fields *f, struct hb_h2_request *r, struct hb_h2_header *list)
{
	struct hb_str name, value, *slot;
	uint32_t i;

	memset(r, 0, sizeof *r);
	r->headers = list;
	for (i = 0; f != NULL && i < f->n; i++) {
		name = hb_strn(f->text + f->v[i].name, f->v[i].name_len);
		value = hb_strn(f->text + f->v[i].value, f->v[i].value_len);
		slot = name.len > 0 && name.p[0] == ':' ? pseudo(r, name) : NULL;
		if (slot != NULL)
			*slot = value;
		else
			list[r->n_headers++] = (struct hb_h2_header){ name, value };
	}
}

/* RFC 9113 7 and 8.5: a proxy tells a reset of the connection behind it by CONNECT_ERROR. */
uint32_t
hb_h2__error_code(enum hb_close_reason reason)
{
	switch (reason) {
	case HB_CLOSE_PROTOCOL_ERROR:
		return (NGHTTP2_PROTOCOL_ERROR);
	case HB_CLOSE_STREAM_REFUSED:
		return (NGHTTP2_REFUSED_STREAM);
	case HB_CLOSE_PEER_RESET:
	case HB_CLOSE_UPSTREAM_RESET:
	case HB_CLOSE_DOWNSTREAM_RESET:
	case HB_CLOSE_STREAM_RESET:
	case HB_CLOSE_PEER_TRUNCATED:
	case HB_CLOSE_IO_ERROR:
		return (NGHTTP2_CONNECT_ERROR);
	default:
		return (NGHTTP2_CANCEL);
	}
}

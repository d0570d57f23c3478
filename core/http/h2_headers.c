/* SPDX-License-Identifier: Apache-2.0 */
#include "core/http/h2_priv.h"

/* RFC 9113 6.5.2: what a field costs beyond its bytes. */
#define FIELD_OVERHEAD 32u

void
hb_h2__fields_add(struct h2_fields **pf, const struct hb_h2_options *opt, struct hb_str name,
	struct hb_str value)
{
	struct h2_fields *f = *pf;
	struct h2_field *e;

	if (f == NULL)
		f = *pf = hb_calloc(1, sizeof *f);
	f->bytes += name.len + value.len + FIELD_OVERHEAD;
	if (f->n >= opt->headers_max || f->bytes > opt->header_bytes_max)
		f->too_big = true;
	if (f->too_big)
		return;
	if (f->n == f->cap) {
		f->cap = f->cap == 0 ? 8 : f->cap * 2;
		f->v = hb_realloc(f->v, f->cap * sizeof f->v[0]);
	}
	e = &f->v[f->n++];
	e->name = (uint32_t)f->text.len;
	e->name_len = (uint32_t)name.len;
	hb_text_add(&f->text, name.p, name.len);
	e->value = (uint32_t)f->text.len;
	e->value_len = (uint32_t)value.len;
	hb_text_add(&f->text, value.p, value.len);
}

void
hb_h2__fields_free(struct h2_fields **pf)
{
	struct h2_fields *f = *pf;

	if (f == NULL)
		return;
	*pf = NULL;
	hb_text_fini(&f->text);
	hb_free(f->v);
	hb_free(f);
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
		name = hb_strn(f->text.p + f->v[i].name, f->v[i].name_len);
		value = hb_strn(f->text.p + f->v[i].value, f->v[i].value_len);
		slot = name.len > 0 && name.p[0] == ':' ? pseudo(r, name) : NULL;
		if (slot != NULL)
			*slot = value;
		else
			list[r->n_headers++] = (struct hb_h2_header){ name, value };
	}
}

unsigned
hb_h2_reject_status(enum hb_close_reason reason)
{
	switch (reason) {
	case HB_CLOSE_PROTOCOL_ERROR:
		return (400);
	case HB_CLOSE_RBAC_DENIED:
	case HB_CLOSE_REVOKED:
		return (403);
	case HB_CLOSE_NO_FILTER_CHAIN:
	case HB_CLOSE_NO_ROUTE:
	case HB_CLOSE_UNKNOWN_SNI:
		return (404);
	case HB_CLOSE_RATE_LIMITED:
		return (429);
	case HB_CLOSE_IO_ERROR:
	case HB_CLOSE_UPSTREAM_RESET:
	case HB_CLOSE_TUNNEL_REJECTED:
		return (502);
	case HB_CLOSE_CONNECT_TIMEOUT:
	case HB_CLOSE_ATTEMPTS_TIMEOUT:
	case HB_CLOSE_TLS_TIMEOUT:
		return (504);
	default:
		return (503);
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

/* SPDX-License-Identifier: Apache-2.0 */
#include "filters/network/sni_router/route.h"

#define SNI_MAX 253u

/* ------------------------------------------------------------------ Istio's names */

/* The text up to "_." and what follows. */
static bool
cut(struct hb_str *rest, struct hb_str *ret)
{
	for (size_t i = 0; i + 1 < rest->len; i++)
		if (rest->p[i] == '_' && rest->p[i + 1] == '.') {
			*ret = hb_strn(rest->p, i);
			*rest = hb_strn(rest->p + i + 2, rest->len - i - 2);
			return (true);
		}
	return (false);
}

bool
sni_istio_parse(struct hb_str sni, struct sni_istio *ret)
{
	struct hb_str rest = sni, direction;
	uint64_t port;

	if (!cut(&rest, &direction) || !hb_str_eq(direction, HB_STR("outbound")) ||
		!cut(&rest, &ret->port) || !cut(&rest, &ret->subset) || rest.len == 0)
		return (false);
	ret->host = rest;
	return (hb_str_u64(ret->port, 65535, &port) && port > 0);
}

/* ------------------------------------------------------------------ formats */

enum piece_kind { PIECE_TEXT, PIECE_PORT, PIECE_SUBSET, PIECE_HOST, PIECE_SNI };

struct piece {
	enum piece_kind kind;
	struct hb_str text; /* of PIECE_TEXT: borrowed from the format's text */
};

struct sni_format {
	unsigned magic;
#define SNI_FORMAT_MAGIC 0x51f0f0a7
	char *text;          /* owned */
	struct piece *piece; /* owned */
	size_t n;
};

static const struct {
	struct hb_str name;
	enum piece_kind kind;
} variables[] = {
	{ { "{port}", 6 }, PIECE_PORT },
	{ { "{subset}", 8 }, PIECE_SUBSET },
	{ { "{host}", 6 }, PIECE_HOST },
	{ { "{sni}", 5 }, PIECE_SNI },
};

static void
add_piece(struct sni_format *f, enum piece_kind kind, struct hb_str text)
{
	if (kind == PIECE_TEXT && text.len == 0)
		return;
	f->piece = hb_realloc(f->piece, (f->n + 1) * sizeof *f->piece);
	f->piece[f->n++] = (struct piece){ kind, text };
}

/* The variable at the start of s; false = none. */
static bool
variable(struct hb_str s, enum piece_kind *ret_kind, size_t *ret_len)
{
	for (size_t i = 0; i < HB_ARRAY_LEN(variables); i++)
		if (hb_str_starts(s, variables[i].name)) {
			*ret_kind = variables[i].kind;
			*ret_len = variables[i].name.len;
			return (true);
		}
	return (false);
}

struct sni_format *
sni_format_new(struct hb_str text, struct hb_str *ret_bad)
{
	struct sni_format *f;
	enum piece_kind kind;
	size_t start = 0, i = 0, len;

	HB_NEW(f, SNI_FORMAT_MAGIC);
	f->text = hb_strndup(text.len == 0 ? "" : text.p, text.len);
	while (i < text.len) {
		if (text.p[i] != '{') {
			i++;
			continue;
		}
		if (!variable(hb_strn(text.p + i, text.len - i), &kind, &len)) {
			for (len = 1; i + len < text.len && text.p[i + len - 1] != '}';)
				len++;
			*ret_bad = hb_strn(text.p + i, len);
			sni_format_free(&f);
			return (NULL);
		}
		add_piece(f, PIECE_TEXT, hb_strn(f->text + start, i - start));
		add_piece(f, kind, (struct hb_str){ NULL, 0 });
		start = i += len;
	}
	add_piece(f, PIECE_TEXT, hb_strn(f->text + start, i - start));
	return (f);
}

void
sni_format_free(struct sni_format **fp)
{
	struct sni_format *f = *fp;

	if (f == NULL)
		return;
	HB_CHECK(f, SNI_FORMAT_MAGIC);
	*fp = NULL;
	hb_free(f->text);
	hb_free(f->piece);
	HB_DEL(f);
}

void
sni_format_write(const struct sni_format *f, struct hb_str sni, const struct sni_istio *istio,
	struct hb_text *out)
{
	const struct hb_str part[] = {
		[PIECE_PORT] = istio->port,
		[PIECE_SUBSET] = istio->subset,
		[PIECE_HOST] = istio->host,
		[PIECE_SNI] = sni,
	};
	struct hb_str s;

	HB_CHECK(f, SNI_FORMAT_MAGIC);
	for (size_t i = 0; i < f->n; i++) {
		s = f->piece[i].kind == PIECE_TEXT ? f->piece[i].text : part[f->piece[i].kind];
		hb_text_add(out, s.p, s.len);
	}
}

/* ------------------------------------------------------------------ routes */

struct sni_routes {
	unsigned magic;
#define SNI_ROUTES_MAGIC 0x51a0b1c9
	struct hb_map *exact;  /* owned; values owned */
	struct hb_map *suffix; /* owned; keys ".example.com"; values owned */
	char *any;             /* owned; NULL = no "*" */
};

struct sni_routes *
sni_routes_new(void)
{
	struct sni_routes *r;

	HB_NEW(r, SNI_ROUTES_MAGIC);
	r->exact = hb_map_new();
	r->suffix = hb_map_new();
	return (r);
}

static void
map_drop(struct hb_map **m)
{
	struct hb_str key;
	size_t cursor = 0;
	void *v;

	while (hb_map_next(*m, &cursor, &key, &v))
		hb_free(v);
	hb_map_free(m);
}

void
sni_routes_free(struct sni_routes **rp)
{
	struct sni_routes *r = *rp;

	if (r == NULL)
		return;
	HB_CHECK(r, SNI_ROUTES_MAGIC);
	*rp = NULL;
	map_drop(&r->exact);
	map_drop(&r->suffix);
	hb_free(r->any);
	HB_DEL(r);
}

static int
add_to(struct hb_map *m, struct hb_str key, const char *cluster, struct hb_err *reterr)
{
	if (hb_map_get(m, key) != NULL)
		return (hb_err_set(reterr, -EEXIST, "stands in a route already"));
	(void)hb_map_put(m, key, hb_strdup(cluster));
	return (0);
}

int
sni_routes_add(struct sni_routes *r, struct hb_str name, const char *cluster, struct hb_err *reterr)
{
	char lower[SNI_MAX];

	HB_CHECK(r, SNI_ROUTES_MAGIC);
	if (name.len == 0 || name.len > sizeof lower)
		return (hb_err_set(reterr, -EINVAL, "has %zu bytes; a server name has 1 to %u",
			name.len, SNI_MAX));
	memcpy(lower, name.p, name.len);
	hb_str_lower(lower, name.len);
	name = hb_strn(lower, name.len);
	if (hb_str_eq(name, HB_STR("*"))) {
		if (r->any != NULL)
			return (hb_err_set(reterr, -EEXIST, "stands in a route already"));
		r->any = hb_strdup(cluster);
		return (0);
	}
	if (memchr(name.p + 1, '*', name.len - 1) != NULL ||
		(name.p[0] == '*' && (name.len < 3 || name.p[1] != '.')))
		return (hb_err_set(reterr, -EINVAL,
			"has a wildcard in a wrong place: write *.example.com, or * for every name"));
	if (name.p[0] == '*')
		return (add_to(r->suffix, hb_strn(name.p + 1, name.len - 1), cluster, reterr));
	return (add_to(r->exact, name, cluster, reterr));
}

const char *
sni_routes_find(const struct sni_routes *r, struct hb_str sni, const char **ret_kind)
{
	const char *c;

	HB_CHECK(r, SNI_ROUTES_MAGIC);
	*ret_kind = "exact";
	c = hb_map_get(r->exact, sni);
	if (c != NULL)
		return (c);
	*ret_kind = "wildcard";
	/* From the first dot on, suffixes get shorter: the first that is there is the longest. A name
	 * that starts with a dot has nothing for the wildcard to stand for. */
	for (size_t i = 1; i < sni.len && hb_map_count(r->suffix) > 0; i++) {
		if (sni.p[i] != '.')
			continue;
		c = hb_map_get(r->suffix, hb_strn(sni.p + i, sni.len - i));
		if (c != NULL)
			return (c);
	}
	*ret_kind = "any";
	return (r->any);
}

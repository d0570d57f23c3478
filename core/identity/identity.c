/* SPDX-License-Identifier: Apache-2.0 */
#include "core/identity/identity.h"

#define SPIFFE_MAX       2048u
#define TRUST_DOMAIN_MAX 255u

static const struct hb_str scheme = HB_STR("spiffe://");

static bool
is_trust_domain_char(char c)
{
	return ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
		c == '_');
}

static bool
is_path_char(char c)
{
	return (is_trust_domain_char(c) || (c >= 'A' && c <= 'Z'));
}

/* SPIFFE-ID 2.2: segments of letters, digits, dots, dashes and underscores, none empty or dots. */
static int
check_path(struct hb_str path, struct hb_err *reterr)
{
	size_t start = 1, i;

	for (i = 1; i <= path.len; i++) {
		if (i < path.len && path.p[i] != '/') {
			if (!is_path_char(path.p[i]))
				return (hb_err_set(reterr, -EINVAL,
					"SPIFFE id: a path segment may "
					"have letters, digits, '.', '-' and '_' only"));
			continue;
		}
		if (i == start)
			return (hb_err_set(reterr, -EINVAL, "SPIFFE id: empty path segment"));
		if (path.p[start] == '.' &&
			(i - start == 1 || (i - start == 2 && path.p[start + 1] == '.')))
			return (hb_err_set(reterr, -EINVAL,
				"SPIFFE id: '.' or '..' as a path "
				"segment"));
		start = i + 1;
	}
	return (0);
}

static bool
segment(struct hb_str *rest, struct hb_str *ret)
{
	const char *slash;

	if (rest->len == 0 || rest->p[0] != '/')
		return (false);
	rest->p++;
	rest->len--;
	slash = memchr(rest->p, '/', rest->len);
	ret->p = rest->p;
	ret->len = slash == NULL ? rest->len : (size_t)(slash - rest->p);
	rest->p += ret->len;
	rest->len -= ret->len;
	return (true);
}

static void
istio_form(struct hb_spiffe *s)
{
	struct hb_str rest = s->path, k1, ns, k2, sa;

	if (segment(&rest, &k1) && segment(&rest, &ns) && segment(&rest, &k2) &&
		segment(&rest, &sa) && rest.len == 0 && hb_str_eq(k1, HB_STR("ns")) &&
		hb_str_eq(k2, HB_STR("sa"))) {
		s->ns = ns;
		s->sa = sa;
	}
}

int
hb_spiffe_parse(struct hb_str uri, struct hb_spiffe *ret, struct hb_err *reterr)
{
	struct hb_spiffe s = { 0 };
	size_t i;
	int r;

	if (uri.len > SPIFFE_MAX)
		return (hb_err_set(reterr, -EINVAL, "SPIFFE id: longer than %u bytes", SPIFFE_MAX));
	if (!hb_str_starts(uri, scheme))
		return (hb_err_set(reterr, -EINVAL, "SPIFFE id: must start with spiffe://"));
	s.trust_domain.p = uri.p + scheme.len;
	for (i = scheme.len; i < uri.len && uri.p[i] != '/'; i++) {
		if (!is_trust_domain_char(uri.p[i]))
			return (hb_err_set(reterr, -EINVAL,
				"SPIFFE id: a trust domain may have "
				"lower-case letters, digits, '.', '-' and '_' only"));
	}
	s.trust_domain.len = i - scheme.len;
	if (s.trust_domain.len == 0)
		return (hb_err_set(reterr, -EINVAL, "SPIFFE id: no trust domain"));
	if (s.trust_domain.len > TRUST_DOMAIN_MAX)
		return (hb_err_set(reterr, -EINVAL, "SPIFFE id: trust domain longer than %u bytes",
			TRUST_DOMAIN_MAX));
	s.path = hb_strn(uri.p + i, uri.len - i);
	if (s.path.len > 0) {
		r = check_path(s.path, reterr);
		if (r != 0)
			return (r);
		istio_form(&s);
	}
	*ret = s;
	return (0);
}

void
hb_cert_info_free(struct hb_cert_info **pi)
{
	struct hb_cert_info *i = *pi;
	size_t k;

	if (i == NULL)
		return;
	HB_CHECK(i, HB_CERT_INFO_MAGIC);
	*pi = NULL;
	for (k = 0; k < i->n_san; k++)
		hb_free(i->san[k].value);
	hb_free(i->san);
	hb_free(i->subject);
	hb_free(i->issuer);
	hb_free(i->serial);
	hb_free(i->spiffe_id);
	hb_free(i->file);
	HB_DEL(i);
}

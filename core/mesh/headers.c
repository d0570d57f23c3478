/* SPDX-License-Identifier: Apache-2.0 */
#include "core/mesh/headers.h"

#include "core/mesh/authority.h"

/* ------------------------------------------------------------------ traceparent */

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return (c - '0');
	if (c >= 'a' && c <= 'f')
		return (c - 'a' + 10);
	return (-1);
}

static bool
hex_read(const char *p, uint8_t *dst, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int hi = hex_digit(p[2 * i]), lo = hex_digit(p[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return (false);
		dst[i] = (uint8_t)(hi << 4 | lo);
	}
	return (true);
}

static char *
hex_write(char *p, const uint8_t *src, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		*p++ = digits[src[i] >> 4];
		*p++ = digits[src[i] & 15];
	}
	return (p);
}

static bool
all_zero(const uint8_t *p, size_t n)
{
	uint8_t any = 0;

	for (size_t i = 0; i < n; i++)
		any |= p[i];
	return (any == 0);
}

bool
hb_trace_parse(struct hb_str s, struct hb_trace *ret)
{
	struct hb_trace t;

	if (s.len != HB_TRACEPARENT_LEN || memcmp(s.p, "00-", 3) != 0 || s.p[35] != '-' ||
		s.p[52] != '-' || !hex_read(s.p + 3, t.trace_id, sizeof t.trace_id) ||
		!hex_read(s.p + 36, t.parent_id, sizeof t.parent_id) ||
		!hex_read(s.p + 53, &t.flags, 1) || all_zero(t.trace_id, sizeof t.trace_id) ||
		all_zero(t.parent_id, sizeof t.parent_id))
		return (false);
	*ret = t;
	return (true);
}

static void
random_id(uint8_t *p, size_t n)
{
	do {
		for (size_t i = 0; i < n; i += sizeof(uint64_t)) {
			uint64_t r = hb_random();

			memcpy(p + i, &r, sizeof r);
		}
	} while (all_zero(p, n));
}

void
hb_trace_new(struct hb_trace *t)
{
	random_id(t->trace_id, sizeof t->trace_id);
	random_id(t->parent_id, sizeof t->parent_id);
	t->flags = 0;
}

void
hb_trace_child(const struct hb_trace *from, struct hb_trace *ret)
{
	*ret = *from;
	random_id(ret->parent_id, sizeof ret->parent_id);
}

void
hb_trace_format(const struct hb_trace *t, char dst[HB_TRACEPARENT_LEN + 1])
{
	char *p = dst;

	memcpy(p, "00-", 3);
	p = hex_write(p + 3, t->trace_id, sizeof t->trace_id);
	*p++ = '-';
	p = hex_write(p, t->parent_id, sizeof t->parent_id);
	*p++ = '-';
	p = hex_write(p, &t->flags, 1);
	*p = '\0';
}

/* ------------------------------------------------------------------ forwarded */

/* RFC 9110 5.6.2. */
static bool
is_token_char(char c)
{
	return ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL));
}

static void
skip_blanks(struct hb_str *s)
{
	while (s->len > 0 && (*s->p == ' ' || *s->p == '\t')) {
		s->p++;
		s->len--;
	}
}

static bool
take(struct hb_str *s, char c)
{
	if (s->len == 0 || *s->p != c)
		return (false);
	s->p++;
	s->len--;
	return (true);
}

static bool
take_token(struct hb_str *s, struct hb_str *ret)
{
	size_t n = 0;

	while (n < s->len && is_token_char(s->p[n]))
		n++;
	*ret = hb_strn(s->p, n);
	s->p += n;
	s->len -= n;
	return (n > 0);
}

/* Without escapes: no address and no name needs one. */
static bool
take_quoted(struct hb_str *s, struct hb_str *ret)
{
	const char *end;

	if (!take(s, '"'))
		return (false);
	end = s->len == 0 ? NULL : memchr(s->p, '"', s->len);
	if (end == NULL)
		return (false);
	*ret = hb_strn(s->p, (size_t)(end - s->p));
	if (memchr(ret->p, '\\', ret->len) != NULL)
		return (false);
	s->p += ret->len + 1;
	s->len -= ret->len + 1;
	return (true);
}

/* A node (RFC 7239 6): false when it looks like an address and is none. */
static bool
node_parse(struct hb_str s, struct hb_addr *ret)
{
	struct hb_str inner = s;
	struct hb_addr a = { 0 };

	if (hb_str_ieq(s, HB_STR("unknown")) || (s.len > 1 && s.p[0] == '_'))
		return (true);
	if (s.len > 2 && s.p[0] == '[' && s.p[s.len - 1] == ']')
		inner = hb_strn(s.p + 1, s.len - 2);
	if (hb_addr_parse(s, &a) ||
		(hb_addr_parse_ip(inner, &a) &&
			(inner.len != s.len) == (memchr(inner.p, ':', inner.len) != NULL))) {
		*ret = a;
		return (true);
	}
	return (false);
}

/* A name, or a name and a port. Names of people's services are in it, hence no IP address. */
static bool
host_valid(struct hb_str s)
{
	struct hb_authority a;
	char text[HB_FORWARDED_HOST_MAX + 4];

	if (s.len == 0 || s.len > HB_FORWARDED_HOST_MAX)
		return (false);
	memcpy(text, s.p, s.len);
	memcpy(text + s.len, ":1", 2);
	return ((hb_authority_parse(s, &a) == HB_AUTHORITY_OK ||
			hb_authority_parse(hb_strn(text, s.len + 2), &a) == HB_AUTHORITY_OK) &&
		!a.is_ip);
}

struct seen {
	bool from, host;
};

static bool
pair_parse(struct hb_str *s, struct hb_forwarded *f, struct seen *seen)
{
	struct hb_str name, value;

	if (!take_token(s, &name) || !take(s, '='))
		return (false);
	if (!(s->len > 0 && *s->p == '"' ? take_quoted(s, &value) : take_token(s, &value)))
		return (false);
	if (hb_str_ieq(name, HB_STR("for"))) {
		if (seen->from || !node_parse(value, &f->from))
			return (false);
		seen->from = true;
	} else if (hb_str_ieq(name, HB_STR("host"))) {
		if (seen->host)
			return (false);
		seen->host = true;
		if (host_valid(value))
			f->host = value;
	}
	return (true);
}

bool
hb_forwarded_parse(struct hb_str line, struct hb_forwarded *ret)
{
	struct hb_forwarded f = { 0 };
	struct seen seen = { 0 };

	memset(ret, 0, sizeof *ret);
	if (line.len == 0 || line.len > HB_FORWARDED_MAX)
		return (false);
	do {
		skip_blanks(&line);
		if (!pair_parse(&line, &f, &seen))
			return (false);
		skip_blanks(&line);
	} while (take(&line, ';'));
	if (line.len > 0 && *line.p != ',')
		return (false);
	*ret = f;
	return (true);
}

void
hb_forwarded_format(const struct hb_forwarded *f, struct hb_text *t)
{
	char addr[HB_ADDR_TEXT_MAX];
	bool brackets, quote;

	if (f->from.kind != HB_ADDR_V4 && f->from.kind != HB_ADDR_V6)
		return;
	brackets = f->from.port == 0 && f->from.kind == HB_ADDR_V6;
	if (f->from.port != 0)
		(void)hb_addr_format(&f->from, addr, sizeof addr);
	else
		(void)hb_addr_format_ip(&f->from, addr, sizeof addr);
	hb_text_addz(t, brackets ? "for=\"[" : "for=\"");
	hb_text_addz(t, addr);
	hb_text_addz(t, brackets ? "]\"" : "\"");
	if (!host_valid(f->host))
		return;
	quote = memchr(f->host.p, ':', f->host.len) != NULL;
	hb_text_printf(
		t, ";host=%s%.*s%s", quote ? "\"" : "", HB_STR_FMT(f->host), quote ? "\"" : "");
}

/* ------------------------------------------------------------------ x-… */

bool
hb_network_valid(struct hb_str s)
{
	if (s.len == 0 || s.len > HB_NETWORK_MAX)
		return (false);
	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			    c == '-' || c == '_' || c == '.' || c == '/'))
			return (false);
	}
	return (true);
}

static const char *const istio_sources[HB_ISTIO_SOURCE_MAX] = {
	[HB_ISTIO_SOURCE_WAYPOINT] = "waypoint",
	[HB_ISTIO_SOURCE_GATEWAY] = "gateway",
	[HB_ISTIO_SOURCE_SIDECAR] = "sidecar",
};

enum hb_istio_source
hb_istio_source_parse(struct hb_str s)
{
	for (int i = HB_ISTIO_SOURCE_NONE + 1; i < HB_ISTIO_SOURCE_MAX; i++) {
		if (hb_str_eq(s, hb_str(istio_sources[i])))
			return ((enum hb_istio_source)i);
	}
	return (HB_ISTIO_SOURCE_NONE);
}

const char *
hb_istio_source_text(enum hb_istio_source s)
{
	HB_ASSERT((unsigned)s < HB_ISTIO_SOURCE_MAX);
	return (istio_sources[s]);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/str.h"

#include <stdio.h>

#define TEXT_CAP_MAX_DEFAULT ((size_t)1 << 30)
#define TEXT_CAP_MIN         64

static char lower(char c)
{
	return ((char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c));
}

bool hb_str_ieq(struct hb_str a, struct hb_str b)
{
	if (a.len != b.len)
		return (false);
	for (size_t i = 0; i < a.len; i++) {
		if (lower(a.p[i]) != lower(b.p[i]))
			return (false);
	}
	return (true);
}

bool hb_str_starts(struct hb_str s, struct hb_str prefix)
{
	return (s.len >= prefix.len && hb_str_eq(hb_strn(s.p, prefix.len), prefix));
}

bool hb_str_ends(struct hb_str s, struct hb_str suffix)
{
	if (suffix.len == 0)
		return (true);
	return (s.len >= suffix.len &&
		hb_str_eq(hb_strn(s.p + s.len - suffix.len, suffix.len), suffix));
}

int hb_str_cmp(struct hb_str a, struct hb_str b)
{
	size_t n = HB_MIN(a.len, b.len);
	int r = n == 0 ? 0 : memcmp(a.p, b.p, n);

	if (r != 0)
		return (r);
	return ((a.len > b.len) - (a.len < b.len));
}

void hb_str_lower(char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = lower(p[i]);
}

bool hb_str_u64(struct hb_str s, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (s.len == 0)
		return (false);
	for (size_t i = 0; i < s.len; i++) {
		unsigned digit = (unsigned)(unsigned char)s.p[i] - '0';

		if (digit > 9 || __builtin_mul_overflow(v, (uint64_t)10, &v) ||
			__builtin_add_overflow(v, (uint64_t)digit, &v) || v > max)
			return (false);
	}
	*ret = v;
	return (true);
}

void hb_text_fini(struct hb_text *t)
{
	hb_free(t->p);
	t->p = NULL;
	t->len = t->cap = 0;
	t->truncated = false;
}

/* Makes room for n bytes and the NUL; false when the text may not grow that far. */
static bool text_reserve(struct hb_text *t, size_t n)
{
	size_t max = t->cap_max == 0 ? TEXT_CAP_MAX_DEFAULT : t->cap_max, cap;

	HB_ASSERT(t->len <= max);
	/* Nothing may follow a gap: what was cut off stays cut off at one place. */
	if (t->truncated || n > max - t->len) {
		t->truncated = true;
		return (false);
	}
	if (t->cap > 0 && n <= t->cap - 1 - t->len)
		return (true);
	cap = HB_MAX(t->cap * 2, (size_t)TEXT_CAP_MIN);
	cap = HB_MAX(HB_MIN(cap, max + 1), t->len + n + 1);
	t->p = hb_realloc(t->p, cap);
	t->p[t->len] = '\0';
	t->cap = cap;
	return (true);
}

void hb_text_add(struct hb_text *t, const void *p, size_t n)
{
	if (!text_reserve(t, n))
		return;
	if (n > 0)
		memcpy(t->p + t->len, p, n);
	t->len += n;
	t->p[t->len] = '\0';
}

void hb_text_addz(struct hb_text *t, const char *z)
{
	hb_text_add(t, z, strlen(z));
}

void hb_text_addc(struct hb_text *t, char c)
{
	hb_text_add(t, &c, 1);
}

void hb_text_vprintf(struct hb_text *t, const char *fmt, va_list ap)
{
	size_t room;
	va_list again;
	int n;

	if (!text_reserve(t, 0))
		return;
	room = t->cap - t->len;
	va_copy(again, ap);
	n = vsnprintf(t->p + t->len, room, fmt, ap);
	HB_ASSERT(n >= 0);
	if ((size_t)n >= room) {
		/* Undo the partial output before it is decided whether all of it fits. */
		t->p[t->len] = '\0';
		if (text_reserve(t, (size_t)n))
			(void)vsnprintf(t->p + t->len, (size_t)n + 1, fmt, again);
		else
			n = 0;
	}
	va_end(again);
	t->len += (size_t)n;
}

void hb_text_printf(struct hb_text *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	hb_text_vprintf(t, fmt, ap);
	va_end(ap);
}

/* Length of the well-formed UTF-8 sequence at p (RFC 3629 section 4), 0 = there is none. */
static size_t utf8_len(const unsigned char *p, size_t n)
{
	unsigned char lo = 0x80, hi = 0xbf;
	size_t len;

	if (p[0] < 0x80)
		return (1);
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		len = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		len = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		len = 4;
	else
		return (0);
	/* The second byte excludes overlong forms, surrogates and what lies above U+10FFFF. */
	if (p[0] == 0xe0)
		lo = 0xa0;
	else if (p[0] == 0xed)
		hi = 0x9f;
	else if (p[0] == 0xf0)
		lo = 0x90;
	else if (p[0] == 0xf4)
		hi = 0x8f;
	if (n < len || p[1] < lo || p[1] > hi)
		return (0);
	for (size_t i = 2; i < len; i++) {
		if (p[i] < 0x80 || p[i] > 0xbf)
			return (0);
	}
	return (len);
}

/* Of the sequence at p; 0 for what is no UTF-8. */
static unsigned utf8_code(const unsigned char *p, size_t len)
{
	if (len == 2)
		return ((p[0] & 0x1fu) << 6 | (p[1] & 0x3fu));
	if (len == 3)
		return ((p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu));
	return (len == 1 ? p[0] : 0x10000);
}

/* Beside what JSON wants: what YAML takes for a line's end, a mark or a control, since our JSON is read
 * as YAML too, and what ends a line in JavaScript. */
static bool json_needs_escape(unsigned code)
{
	return (code < 0x20 || code == '"' || code == '\\' || (code >= 0x7f && code < 0xa0) ||
		code == 0x2028 || code == 0x2029 || code == 0xfeff || code == 0xfffe || code == 0xffff);
}

static void json_escape(struct hb_text *t, unsigned c)
{
	static const char names[] = "\"\"\\\\\bb\ff\nn\rr\tt";

	for (size_t i = 0; i + 1 < sizeof names; i += 2) {
		if ((unsigned char)names[i] == c) {
			hb_text_add(t, (char[]){ '\\', names[i + 1] }, 2);
			return;
		}
	}
	hb_text_printf(t, "\\u%04x", c);
}

void hb_text_json(struct hb_text *t, const char *p, size_t n)
{
	const unsigned char *s = (const unsigned char *)p;
	size_t start = 0, i = 0;

	hb_text_addc(t, '"');
	while (i < n) {
		size_t len = utf8_len(s + i, n - i);

		if (len > 0 && !json_needs_escape(utf8_code(s + i, len))) {
			i += len;
			continue;
		}
		hb_text_add(t, s + start, i - start);
		if (len == 0)
			hb_text_addz(t, "\xef\xbf\xbd");
		else
			json_escape(t, utf8_code(s + i, len));
		i += len == 0 ? 1 : len;
		start = i;
	}
	hb_text_add(t, n == 0 ? NULL : s + start, n - start);
	hb_text_addc(t, '"');
}

char *hb_text_take(struct hb_text *t)
{
	char *p = t->p == NULL ? hb_strdup("") : t->p;

	t->p = NULL;
	hb_text_fini(t);
	return (p);
}

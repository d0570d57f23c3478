/* SPDX-License-Identifier: Apache-2.0 */
#include "core/match/match.h"

#include "core/match/match_priv.h"
#include "core/match/regex.h"
#include "envoy/type/matcher/v3/string.pb-c.h"
#include "xds/type/matcher/v3/string.pb-c.h"

#define STRING_MAGIC 0x57219a7c
#define PATTERN_MAX  16384u

enum string_kind { STRING_EXACT, STRING_PREFIX, STRING_SUFFIX, STRING_CONTAINS, STRING_REGEX };

struct hb_string_matcher {
	unsigned magic;
	uint8_t kind; /* enum string_kind */
	bool fold;    /* ASCII case ignored: text is lower case */
	char *text;   /* owned; the expression of a regex, too  */
	size_t len;
	struct hb_regex *regex; /* owned; NULL but for STRING_REGEX */
};

/* The xDS message is Envoy's with another name: same fields, numbers and places. */
typedef Envoy__Type__Matcher__V3__StringMatcher string_msg;
#define SAME_PLACE(field)                                                       \
	_Static_assert(offsetof(string_msg, field) ==                           \
			offsetof(Xds__Type__Matcher__V3__StringMatcher, field), \
		"StringMatcher." #field)
SAME_PLACE(ignore_case);
SAME_PLACE(match_pattern_case);
SAME_PLACE(exact);
_Static_assert(offsetof(Envoy__Type__Matcher__V3__RegexMatcher, regex) ==
		offsetof(Xds__Type__Matcher__V3__RegexMatcher, regex),
	"RegexMatcher.regex");
#define CASE(name) ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_##name

/* What is compared with, by which field of which message it was given. */
struct string_view {
	enum string_kind kind;
	const char *text, *field;
	const void *owner;
};

static bool
string_view(const string_msg *m, struct string_view *v)
{
	HB_ASSERT(m->base.descriptor == &envoy__type__matcher__v3__string_matcher__descriptor ||
		m->base.descriptor == &xds__type__matcher__v3__string_matcher__descriptor);
	switch ((int)m->match_pattern_case) {
	case CASE(EXACT):
		*v = (struct string_view){ STRING_EXACT, m->exact, "exact", m };
		return (true);
	case CASE(PREFIX):
		*v = (struct string_view){ STRING_PREFIX, m->prefix, "prefix", m };
		return (true);
	case CASE(SUFFIX):
		*v = (struct string_view){ STRING_SUFFIX, m->suffix, "suffix", m };
		return (true);
	case CASE(CONTAINS):
		*v = (struct string_view){ STRING_CONTAINS, m->contains, "contains", m };
		return (true);
	case CASE(SAFE_REGEX):
		*v = (struct string_view){ STRING_REGEX, m->safe_regex->regex, "regex",
			m->safe_regex };
		return (true);
	default:
		return (false);
	}
}

static int
string_check(struct hb_cfg *cfg, const string_msg *msg, const struct string_view *v)
{
	if (strlen(v->text) > PATTERN_MAX)
		return (hb_cfg_error(
			cfg, v->owner, v->field, -1, "is longer than %u bytes", PATTERN_MAX));
	if (*v->text == '\0' && v->kind != STRING_EXACT)
		return (hb_cfg_error(cfg, v->owner, v->field, -1,
			"must not be empty: it would match %s",
			v->kind == STRING_REGEX ? "only the empty text; write exact: \"\"" :
						  "everything"));
	if (v->kind == STRING_REGEX && msg->ignore_case)
		hb_cfg_warn(cfg, msg, "ignore_case", -1,
			"has no effect on safe_regex; start the expression with (?i) instead");
	return (0);
}

struct hb_string_matcher *
hb_string_matcher_compile(struct hb_cfg *cfg, const void *owner_msg, const char *field, int index,
	const void *string_matcher)
{
	const string_msg *msg = string_matcher;
	struct hb_string_matcher *m;
	struct string_view v;
	char why[160];

	if (msg == NULL || !string_view(msg, &v)) {
		hb_cfg_error(cfg, owner_msg, field, index,
			"needs one of exact, prefix, suffix, contains, safe_regex");
		return (NULL);
	}
	if (string_check(cfg, msg, &v) != 0)
		return (NULL);
	HB_NEW(m, STRING_MAGIC);
	m->kind = (uint8_t)v.kind;
	m->len = strlen(v.text);
	m->text = hb_strdup(v.text);
	m->fold = msg->ignore_case && v.kind != STRING_REGEX;
	if (m->fold)
		hb_str_lower(m->text, m->len);
	if (v.kind == STRING_REGEX &&
		(m->regex = hb_regex_new(m->text, m->len, why, sizeof why)) == NULL) {
		hb_cfg_error(cfg, v.owner, "regex", -1, "\"%.100s\" is no RE2 expression: %s",
			m->text, why);
		hb_string_matcher_free(&m);
	}
	return (m);
}

void
hb_string_matcher_free(struct hb_string_matcher **mp)
{
	struct hb_string_matcher *m = *mp;

	if (m == NULL)
		return;
	HB_CHECK(m, STRING_MAGIC);
	hb_regex_free(&m->regex);
	hb_free(m->text);
	HB_DEL(*mp);
}

static bool
contains(const struct hb_string_matcher *m, struct hb_str value)
{
	if (!m->fold)
		return (memmem(value.p, value.len, m->text, m->len) != NULL);
	for (size_t i = 0; i + m->len <= value.len; i++) {
		if (hb_str_ieq(hb_strn(value.p + i, m->len), hb_strn(m->text, m->len)))
			return (true);
	}
	return (false);
}

bool
hb_string_match(const struct hb_string_matcher *m, struct hb_str value)
{
	struct hb_str part = value, text;

	HB_CHECK(m, STRING_MAGIC);
	text = hb_strn(m->text, m->len);
	switch (m->kind) {
	case STRING_CONTAINS:
		return (value.len >= m->len && contains(m, value));
	case STRING_REGEX:
		return (hb_regex_full(m->regex, value.p, value.len));
	case STRING_PREFIX:
	case STRING_SUFFIX:
		if (value.len < m->len)
			return (false);
		part = hb_strn(
			value.p + (m->kind == STRING_SUFFIX ? value.len - m->len : 0), m->len);
		break;
	default:
		break;
	}
	return (m->fold ? hb_str_ieq(part, text) : hb_str_eq(part, text));
}

void
hb_match__string_text(struct hb_text *t, const struct hb_string_matcher *m)
{
	static const char *const kinds[] = { "is", "starts with", "ends with", "contains",
		"matches" };

	HB_CHECK(m, STRING_MAGIC);
	hb_text_printf(t, "%s ", kinds[m->kind]);
	hb_text_json(t, m->text, HB_MIN(m->len, (size_t)200));
	hb_text_addz(t, m->fold ? " in any case" : "");
}

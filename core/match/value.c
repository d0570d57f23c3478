/* SPDX-License-Identifier: Apache-2.0 */
/* Conditions on metadata and filter state, whose values are text here. */
#include "core/match/match_priv.h"

#include <math.h>
#include <stdlib.h>

#include "envoy/type/matcher/v3/filter_state.pb-c.h"
#include "envoy/type/matcher/v3/metadata.pb-c.h"

#define METADATA_MAGIC 0x3e7ada7a
#define STATE_MAGIC    0x57a7e057

typedef Envoy__Type__Matcher__V3__ValueMatcher value_msg;
typedef Envoy__Type__Matcher__V3__MetadataMatcher metadata_msg;
typedef Envoy__Type__Matcher__V3__FilterStateMatcher state_msg;
#define CASE(name) ENVOY__TYPE__MATCHER__V3__VALUE_MATCHER__MATCH_PATTERN_##name

enum value_kind { VALUE_NUMBER, VALUE_STRING, VALUE_BOOL, VALUE_PRESENT, VALUE_OR };

struct value {
	uint8_t kind;      /* enum value_kind                        */
	bool yes;          /* BOOL                                   */
	double start, end; /* NUMBER: start <= x < end, or x = start */
	bool exact;
	struct hb_string_matcher *string; /* STRING; owned   */
	struct value *any;                /* OR; owned array */
	size_t n_any;
};

static void
value_fini(struct value *v)
{
	hb_string_matcher_free(&v->string);
	for (size_t i = 0; i < v->n_any; i++)
		value_fini(&v->any[i]);
	hb_free(v->any);
}

static int
value_number(struct hb_cfg *cfg, const Envoy__Type__Matcher__V3__DoubleMatcher *m, struct value *v)
{
	v->kind = VALUE_NUMBER;
	if (m->match_pattern_case ==
		ENVOY__TYPE__MATCHER__V3__DOUBLE_MATCHER__MATCH_PATTERN_EXACT) {
		v->exact = true;
		v->start = m->exact;
		return (0);
	}
	if (m->match_pattern_case != ENVOY__TYPE__MATCHER__V3__DOUBLE_MATCHER__MATCH_PATTERN_RANGE)
		return (hb_cfg_error(cfg, m, NULL, -1, "needs one of range, exact"));
	v->start = m->range->start;
	v->end = m->range->end;
	if (!(v->start < v->end))
		return (hb_cfg_error(cfg, m, "range", -1, "is empty: start must be below end"));
	return (0);
}

/* Recursion is as deep as the document, which the decoder limits. */
static int
value_compile(struct hb_cfg *cfg, const void *owner, const char *field, int index,
	const value_msg *m, struct value *v)
{
	int error = 0;

	switch (m == NULL ? 0 : (int)m->match_pattern_case) {
	case CASE(DOUBLE_MATCH):
		return (value_number(cfg, m->double_match, v));
	case CASE(STRING_MATCH):
		v->kind = VALUE_STRING;
		v->string = hb_string_matcher_compile(cfg, m, "string_match", -1, m->string_match);
		return (v->string == NULL ? -EINVAL : 0);
	case CASE(BOOL_MATCH):
		v->kind = VALUE_BOOL;
		v->yes = m->bool_match;
		return (0);
	case CASE(PRESENT_MATCH):
		v->kind = VALUE_PRESENT;
		if (m->present_match)
			return (0);
		return (hb_cfg_error(cfg, m, "present_match", -1,
			"false never matches; write true, and invert: true around it"));
	case CASE(OR_MATCH):
		v->kind = VALUE_OR;
		v->any = hb_calloc(m->or_match->n_value_matchers + 1, sizeof *v->any);
		v->n_any = m->or_match->n_value_matchers;
		for (size_t i = 0; i < v->n_any; i++)
			error |= value_compile(cfg, m->or_match, "value_matchers", (int)i,
				m->or_match->value_matchers[i], &v->any[i]);
		if (v->n_any < 2)
			error = hb_cfg_error(
				cfg, m, "or_match", -1, "needs at least two value_matchers");
		return (error);
	default:
		return (hb_cfg_error(cfg, owner, field, index,
			"needs one of string_match, present_match, bool_match, double_match, or_match"));
	}
}

static bool
number_match(const struct value *v, struct hb_str s)
{
	char z[64], *end;
	double x;

	if (s.len == 0 || s.len >= sizeof z)
		return (false);
	memcpy(z, s.p, s.len);
	z[s.len] = '\0';
	x = strtod(z, &end);
	if (end != z + s.len || !isfinite(x))
		return (false);
	return (v->exact ? x == v->start : v->start <= x && x < v->end);
}

static bool
value_match(const struct value *v, struct hb_str s)
{
	if (s.p == NULL)
		return (false);
	switch (v->kind) {
	case VALUE_NUMBER:
		return (number_match(v, s));
	case VALUE_STRING:
		return (hb_string_match(v->string, s));
	case VALUE_BOOL:
		return (hb_str_eq(s, v->yes ? HB_STR("true") : HB_STR("false")));
	case VALUE_PRESENT:
		return (true);
	case VALUE_OR:
		for (size_t i = 0; i < v->n_any; i++) {
			if (value_match(&v->any[i], s))
				return (true);
		}
		return (false);
	default:
		HB_WRONG("no such value matcher");
	}
}

static void
value_text(struct hb_text *t, const struct value *v)
{
	switch (v->kind) {
	case VALUE_NUMBER:
		if (v->exact)
			hb_text_printf(t, "is %g", v->start);
		else
			hb_text_printf(t, "is in [%g, %g)", v->start, v->end);
		break;
	case VALUE_STRING:
		hb_match__string_text(t, v->string);
		break;
	case VALUE_BOOL:
		hb_text_addz(t, v->yes ? "is true" : "is false");
		break;
	case VALUE_PRESENT:
		hb_text_addz(t, "is there");
		break;
	default:
		for (size_t i = 0; i < v->n_any; i++) {
			hb_text_addz(t, i == 0 ? "" : " or ");
			value_text(t, &v->any[i]);
		}
	}
}

/* ------------------------------------------------------------------ metadata */

struct hb_metadata_matcher {
	unsigned magic;
	char *ns, *key; /* owned */
	struct value value;
	bool invert;
};

char *
hb_match__metadata_key(struct hb_cfg *cfg, const void *owner_msg, const char *filter, size_t n,
	const void *const *segments)
{
	struct hb_text key = { 0 };
	bool error = false;

	if (*filter == '\0')
		error = hb_cfg_error(cfg, owner_msg, "filter", -1,
				"must name the namespace, as a rule the name of the filter that wrote it") !=
			0;
	if (n == 0)
		error = hb_cfg_error(cfg, owner_msg, "path", -1, "needs at least one key") != 0;
	for (size_t i = 0; i < n; i++) {
		const Envoy__Type__Matcher__V3__MetadataMatcher__PathSegment *s = segments[i];

		/* An unset key is NULL in a oneof. */
		if (s->key == NULL || *s->key == '\0')
			error = hb_cfg_error(cfg, owner_msg, "path", (int)i, "needs a key") != 0;
		else
			hb_text_printf(&key, "%s%s", i == 0 ? "" : ".", s->key);
	}
	if (!error)
		return (hb_text_take(&key));
	hb_text_fini(&key);
	return (NULL);
}

struct hb_metadata_matcher *
hb_metadata_matcher_compile(
	struct hb_cfg *cfg, const void *owner_msg, const char *field, const void *msg)
{
	const metadata_msg *m = msg;
	struct hb_metadata_matcher *r;
	int error;

	if (m == NULL) {
		hb_cfg_error(cfg, owner_msg, field, -1, "is missing");
		return (NULL);
	}
	HB_NEW(r, METADATA_MAGIC);
	r->ns = hb_strdup(m->filter);
	r->invert = m->invert;
	r->key = hb_match__metadata_key(cfg, m, m->filter, m->n_path, (const void *const *)m->path);
	error = value_compile(cfg, m, "value", -1, m->value, &r->value);
	if (r->key == NULL || error != 0)
		hb_metadata_matcher_free(&r);
	return (r);
}

void
hb_metadata_matcher_free(struct hb_metadata_matcher **mp)
{
	struct hb_metadata_matcher *m = *mp;

	if (m == NULL)
		return;
	HB_CHECK(m, METADATA_MAGIC);
	hb_free(m->ns);
	hb_free(m->key);
	value_fini(&m->value);
	HB_DEL(*mp);
}

bool
hb_metadata_match(const struct hb_metadata_matcher *m, const struct hb_facts *f)
{
	HB_CHECK(m, METADATA_MAGIC);
	return (value_match(&m->value, hb_facts_metadata(f, hb_str(m->ns), hb_str(m->key))) !=
		m->invert);
}

void
hb_match__metadata_text(struct hb_text *t, const struct hb_metadata_matcher *m)
{
	HB_CHECK(m, METADATA_MAGIC);
	hb_text_printf(t, "%smetadata %s %s ", m->invert ? "not " : "", m->ns, m->key);
	value_text(t, &m->value);
}

/* ------------------------------------------------------------------ filter state */

struct hb_state_matcher {
	unsigned magic;
	char *key;                        /* owned                           */
	struct hb_string_matcher *string; /* owned; NULL = ranges            */
	struct hb_ip_table ranges;
};

static int
state_ranges(struct hb_cfg *cfg, const Envoy__Type__Matcher__V3__AddressMatcher *m,
	struct hb_ip_table *ranges)
{
	struct hb_cidr c;
	int error = 0;

	if (m->n_ranges == 0)
		error = hb_cfg_error(cfg, m, "ranges", -1, "needs at least one range");
	for (size_t i = 0; i < m->n_ranges; i++) {
		if (hb_match__cidr(cfg, m, "ranges", (int)i, m->ranges[i], &c) != 0)
			error = -EINVAL;
		else
			hb_ip_table_add(ranges, &c, NULL);
	}
	hb_ip_table_freeze(ranges);
	return (error);
}

struct hb_state_matcher *
hb_state_matcher_compile(
	struct hb_cfg *cfg, const void *owner_msg, const char *field, const void *msg)
{
	const state_msg *m = msg;
	struct hb_state_matcher *r;
	int error = 0;

	if (m == NULL) {
		hb_cfg_error(cfg, owner_msg, field, -1, "is missing");
		return (NULL);
	}
	HB_NEW(r, STATE_MAGIC);
	r->key = hb_strdup(m->key);
	if (*m->key == '\0')
		error = hb_cfg_error(cfg, m, "key", -1, "must not be empty");
	switch (m->matcher_case) {
	case ENVOY__TYPE__MATCHER__V3__FILTER_STATE_MATCHER__MATCHER_STRING_MATCH:
		r->string = hb_string_matcher_compile(cfg, m, "string_match", -1, m->string_match);
		error |= r->string == NULL ? -EINVAL : 0;
		break;
	case ENVOY__TYPE__MATCHER__V3__FILTER_STATE_MATCHER__MATCHER_ADDRESS_MATCH:
		error |= state_ranges(cfg, m->address_match, &r->ranges);
		break;
	default:
		error = hb_cfg_error(cfg, m, NULL, -1, "needs one of string_match, address_match");
	}
	if (error != 0)
		hb_state_matcher_free(&r);
	return (r);
}

void
hb_state_matcher_free(struct hb_state_matcher **mp)
{
	struct hb_state_matcher *m = *mp;

	if (m == NULL)
		return;
	HB_CHECK(m, STATE_MAGIC);
	hb_free(m->key);
	hb_string_matcher_free(&m->string);
	hb_ip_table_fini(&m->ranges);
	HB_DEL(*mp);
}

bool
hb_state_match(const struct hb_state_matcher *m, const struct hb_facts *f)
{
	struct hb_str value;
	struct hb_addr a;

	HB_CHECK(m, STATE_MAGIC);
	value = hb_facts_state(f, hb_str(m->key));
	if (value.p == NULL)
		return (false);
	if (m->string != NULL)
		return (hb_string_match(m->string, value));
	return ((hb_addr_parse_ip(value, &a) || hb_addr_parse(value, &a)) &&
		hb_ip_table_find(&m->ranges, &a) != NULL);
}

void
hb_match__state_text(struct hb_text *t, const struct hb_state_matcher *m)
{
	HB_CHECK(m, STATE_MAGIC);
	hb_text_printf(t, "filter_state %s ", m->key);
	if (m->string != NULL) {
		hb_match__string_text(t, m->string);
		return;
	}
	hb_text_addz(t, "is an address in");
	for (uint32_t i = 0; i < m->ranges.n; i++) {
		hb_text_addc(t, ' ');
		hb_match__cidr_text(t, &m->ranges.v[i].cidr);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Trees of the unified matcher: from a value to the entries that have it, best first. */
#include "core/match/matcher_priv.h"

#include <stdlib.h>

#include "xds/type/matcher/v3/domain.pb-c.h"
#include "xds/type/matcher/v3/ip.pb-c.h"

typedef Xds__Type__Matcher__V3__Matcher__MatcherTree tree_msg;
typedef Xds__Type__Matcher__V3__Matcher__MatcherTree__MatchMap map_msg;
typedef Xds__Type__Matcher__V3__IPMatcher ip_msg;
typedef Xds__Type__Matcher__V3__ServerNameMatcher name_msg;

static struct hb_tree_entry *
entry_add(struct hb_matcher *m, struct hb_str key, size_t on)
{
	struct hb_tree_entry *e = &m->entries[m->n_entries++];

	e->key = hb_arena_str(&m->arena, key);
	e->on = &m->on[on];
	return (e);
}

/* ------------------------------------------------------------------ maps of text */

static int
entry_cmp(const void *a, const void *b)
{
	return (hb_str_cmp(
		((const struct hb_tree_entry *)a)->key, ((const struct hb_tree_entry *)b)->key));
}

/* Sorted, the entries with a prefix follow it: the nearest one before that is a prefix is wider. */
static void
link_prefixes(struct hb_matcher *m)
{
	qsort(m->entries, m->n_entries, sizeof *m->entries, entry_cmp);
	for (size_t i = 1; i < m->n_entries; i++) {
		const struct hb_tree_entry *w = &m->entries[i - 1];

		while (w != NULL && !hb_str_starts(m->entries[i].key, w->key))
			w = w->wider;
		m->entries[i].wider = w;
	}
}

static int
map_compile(struct hb_matcher_build *b, struct hb_matcher *m, const map_msg *msg, bool prefix)
{
	int error = 0;

	m->kind = prefix ? HB_MATCHER_PREFIX : HB_MATCHER_EXACT;
	if (msg->n_map == 0)
		return (hb_cfg_error(b->cfg, msg, "map", -1, "needs at least one entry"));
	m->n_on = msg->n_map;
	m->on = hb_calloc(msg->n_map, sizeof *m->on);
	m->entries = hb_calloc(msg->n_map, sizeof *m->entries);
	m->map = hb_map_new();
	for (size_t i = 0; i < msg->n_map; i++) {
		struct hb_tree_entry *e = entry_add(m, hb_str(msg->map[i]->key), i);

		error |= hb_matcher__on_match(
			b, msg->map[i], "value", msg->map[i]->value, &m->on[i]);
		if (hb_map_put(m->map, e->key, e) != NULL)
			error |= hb_cfg_error(
				b->cfg, msg->map[i], NULL, -1, "the key is there twice");
	}
	if (prefix)
		link_prefixes(m);
	return (error);
}

static const struct hb_tree_entry *
prefix_find(const struct hb_matcher *m, struct hb_str value)
{
	size_t low = 0, high = m->n_entries;
	const struct hb_tree_entry *e;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (hb_str_cmp(m->entries[mid].key, value) <= 0)
			low = mid + 1;
		else
			high = mid;
	}
	for (e = low == 0 ? NULL : &m->entries[low - 1]; e != NULL; e = e->wider) {
		if (hb_str_starts(value, e->key))
			return (e);
	}
	return (NULL);
}

/* ------------------------------------------------------------------ ranges */

static int
ranges_add(struct hb_matcher_build *b, struct hb_matcher *m,
	const Xds__Type__Matcher__V3__IPMatcher__IPRangeMatcher *msg, size_t on)
{
	int error = 0;

	if (msg->n_ranges == 0)
		hb_cfg_warn(b->cfg, msg, "ranges", -1, "is empty: on_match is never reached");
	for (size_t i = 0; i < msg->n_ranges; i++) {
		struct hb_text text = { 0 };
		struct hb_tree_entry *e;
		struct hb_cidr c;

		if (hb_match__cidr(b->cfg, msg, "ranges", (int)i, msg->ranges[i], &c) != 0) {
			error = -EINVAL;
			continue;
		}
		hb_match__cidr_text(&text, &c);
		e = entry_add(m, hb_strn(text.p, text.len), on);
		e->exclusive = msg->exclusive;
		hb_ip_table_add(&m->ranges, &c, e);
		hb_text_fini(&text);
	}
	return (error);
}

static int
ip_compile(struct hb_matcher_build *b, struct hb_matcher *m, const ip_msg *msg)
{
	size_t n = 0;
	int error = 0;

	m->kind = HB_MATCHER_IP;
	if (msg->n_range_matchers == 0)
		return (hb_cfg_error(
			b->cfg, msg, "range_matchers", -1, "needs at least one entry"));
	for (size_t i = 0; i < msg->n_range_matchers; i++)
		n += msg->range_matchers[i]->n_ranges;
	m->n_on = msg->n_range_matchers;
	m->on = hb_calloc(m->n_on, sizeof *m->on);
	m->entries = hb_calloc(n + 1, sizeof *m->entries);
	for (size_t i = 0; i < m->n_on; i++) {
		error |= ranges_add(b, m, msg->range_matchers[i], i);
		error |= hb_matcher__on_match(b, msg->range_matchers[i], "on_match",
			msg->range_matchers[i]->on_match, &m->on[i]);
	}
	hb_ip_table_freeze(&m->ranges);
	for (uint32_t i = 0; i < m->ranges.n; i++) {
		const struct hb_ip_range *r = &m->ranges.v[i], *next;
		size_t at = (size_t)((const struct hb_tree_entry *)r->value - m->entries);

		next = hb_ip_table_next(&m->ranges, r);
		m->entries[at].wider = next == NULL ? NULL : next->value;
	}
	return (error);
}

static const struct hb_tree_entry *
ip_find(const struct hb_matcher *m, const struct hb_facts *f)
{
	const struct hb_ip_range *r;
	struct hb_addr a;

	if (!hb_match__input_ip(&m->input, f, &a))
		return (NULL);
	r = hb_ip_table_find(&m->ranges, &a);
	return (r == NULL ? NULL : r->value);
}

/* ------------------------------------------------------------------ server names */

/* The entry of the longest wildcard with at least one byte before it; "*" is the shortest. */
static const struct hb_tree_entry *
wildcard_find(const struct hb_matcher *m, struct hb_str name)
{
	for (size_t i = 1; i < name.len; i++) {
		const struct hb_tree_entry *e = name.p[i] == '.' ?
			hb_map_get(m->map, hb_strn(name.p + i, name.len - i)) :
			NULL;

		if (e != NULL)
			return (e);
	}
	return (m->everything);
}

/* A wildcard is kept under its suffix, ".example.com", which no server name can be. */
static int
name_add(struct hb_matcher_build *b, struct hb_matcher *m, const void *owner, int index,
	const char *name, size_t on)
{
	bool wildcard = name[0] == '*' && name[1] == '.' && name[2] != '\0';
	struct hb_tree_entry *e;
	bool twice;

	if (strcmp(name, "*") == 0) {
		twice = m->everything != NULL;
		m->everything = entry_add(m, hb_str(name), on);
	} else if (*name == '\0' || *name == '.' || strchr(name + wildcard, '*') != NULL) {
		return (hb_cfg_error(b->cfg, owner, "domains", index,
			"\"%s\" is no server name: write example.com, *.example.com, or * for all",
			name));
	} else {
		e = entry_add(m, hb_str(name + wildcard), on);
		hb_str_lower((char *)(uintptr_t)e->key.p, e->key.len);
		twice = hb_map_put(m->map, e->key, e) != NULL;
	}
	if (twice)
		return (hb_cfg_error(
			b->cfg, owner, "domains", index, "\"%s\" is there twice", name));
	return (0);
}

static int
name_compile(struct hb_matcher_build *b, struct hb_matcher *m, const name_msg *msg)
{
	size_t n = 0;
	int error = 0;

	m->kind = HB_MATCHER_NAME;
	if (msg->n_domain_matchers == 0)
		return (hb_cfg_error(
			b->cfg, msg, "domain_matchers", -1, "needs at least one entry"));
	for (size_t i = 0; i < msg->n_domain_matchers; i++)
		n += msg->domain_matchers[i]->n_domains;
	m->n_on = msg->n_domain_matchers;
	m->on = hb_calloc(m->n_on, sizeof *m->on);
	m->entries = hb_calloc(n + 1, sizeof *m->entries);
	m->map = hb_map_new();
	for (size_t i = 0; i < m->n_on; i++) {
		const Xds__Type__Matcher__V3__ServerNameMatcher__DomainMatcher *d =
			msg->domain_matchers[i];

		if (d->n_domains == 0)
			error |= hb_cfg_error(b->cfg, d, "domains", -1, "needs at least one name");
		for (size_t k = 0; k < d->n_domains; k++)
			error |= name_add(b, m, d, (int)k, d->domains[k], i);
		error |= hb_matcher__on_match(b, d, "on_match", d->on_match, &m->on[i]);
	}
	for (size_t i = 0; i < m->n_entries; i++) {
		if (&m->entries[i] != m->everything)
			m->entries[i].wider = wildcard_find(m, m->entries[i].key);
	}
	return (error);
}

/* ------------------------------------------------------------------ all */

int
hb_matcher__tree_compile(struct hb_matcher_build *b, struct hb_matcher *m, const tree_msg *msg)
{
	const ProtobufCMessage *custom;
	int error = hb_match__input_compile(b->cfg, msg, "input", msg->input, &m->input);

	m->kind = HB_MATCHER_EXACT;
	switch (msg->tree_type_case) {
	case XDS__TYPE__MATCHER__V3__MATCHER__MATCHER_TREE__TREE_TYPE_EXACT_MATCH_MAP:
		return (map_compile(b, m, msg->exact_match_map, false) | error);
	case XDS__TYPE__MATCHER__V3__MATCHER__MATCHER_TREE__TREE_TYPE_PREFIX_MATCH_MAP:
		return (map_compile(b, m, msg->prefix_match_map, true) | error);
	case XDS__TYPE__MATCHER__V3__MATCHER__MATCHER_TREE__TREE_TYPE_CUSTOM_MATCH:
		custom = hb_cfg_any(b->cfg, msg->custom_match, "typed_config", -1,
			msg->custom_match->typed_config);
		if (custom == NULL)
			return (-EINVAL);
		if (custom->descriptor == &xds__type__matcher__v3__ipmatcher__descriptor)
			return (ip_compile(b, m, (const void *)custom) | error);
		if (custom->descriptor == &xds__type__matcher__v3__server_name_matcher__descriptor)
			return (name_compile(b, m, (const void *)custom) | error);
		return (hb_cfg_error(b->cfg, msg->custom_match, "typed_config", -1,
			"%s is not supported here; use xds.type.matcher.v3.IPMatcher or ServerNameMatcher",
			custom->descriptor->name));
	default:
		return (hb_cfg_error(b->cfg, msg, NULL, -1,
			"needs one of exact_match_map, prefix_match_map, custom_match"));
	}
}

const struct hb_tree_entry *
hb_matcher__tree_find(const struct hb_matcher *m, const struct hb_facts *f)
{
	const struct hb_tree_entry *e;
	char buf[HB_INPUT_BUF];
	struct hb_str value;

	if (m->kind == HB_MATCHER_IP)
		return (ip_find(m, f));
	value = hb_match__input_get(&m->input, f, buf);
	if (value.p == NULL)
		return (NULL);
	if (m->kind == HB_MATCHER_PREFIX)
		return (prefix_find(m, value));
	if (m->kind == HB_MATCHER_EXACT)
		return (hb_map_get(m->map, value));
	/* What is no server name is not taken for the suffix of one. */
	e = value.len == 0 || *value.p == '.' ? NULL : hb_map_get(m->map, value);
	return (e != NULL || value.len == 0 ? e : wildcard_find(m, value));
}

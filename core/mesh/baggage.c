/* SPDX-License-Identifier: Apache-2.0 */
#include "core/mesh/baggage.h"

#include "core/identity/identity.h"

static const char *const workload_keys[HB_WORKLOAD_MAX] = {
	[HB_WORKLOAD_DEPLOYMENT] = "k8s.deployment.name",
	[HB_WORKLOAD_CRONJOB] = "k8s.cronjob.name",
	[HB_WORKLOAD_POD] = "k8s.pod.name",
	[HB_WORKLOAD_JOB] = "k8s.job.name",
};

static const struct member {
	const char *key; /* NULL: workload_keys */
	size_t offset;
} members[] = {
#define MEMBER(m, k) { k, offsetof(struct hb_baggage, m) },
	HB_BAGGAGE_MEMBERS(MEMBER)
#undef MEMBER
};

static struct hb_str *
value_of(struct hb_baggage *b, const struct member *m)
{
	return ((struct hb_str *)(void *)((char *)b + m->offset));
}

/* ------------------------------------------------------------------ read */

static bool
is_printable(char c)
{
	return ((unsigned char)c >= 0x20 && (unsigned char)c < 0x7f);
}

/* The text before the next `sep`; *rest is what follows it. False when nothing is left. */
static bool
next(struct hb_str *rest, char sep, struct hb_str *ret)
{
	const char *end;

	if (rest->p == NULL)
		return (false);
	end = memchr(rest->p, sep, rest->len);
	if (end == NULL) {
		*ret = *rest;
		*rest = (struct hb_str){ 0 };
		return (true);
	}
	*ret = hb_strn(rest->p, (size_t)(end - rest->p));
	*rest = hb_strn(end + 1, rest->len - ret->len - 1);
	return (true);
}

static void
member_set(struct hb_baggage *b, struct hb_str key, struct hb_str value)
{
	for (size_t i = 0; i < HB_ARRAY_LEN(members); i++) {
		const struct member *m = &members[i];

		if (m->key != NULL && hb_str_eq(key, hb_str(m->key))) {
			*value_of(b, m) = value;
			return;
		}
	}
	for (int k = 0; k < HB_WORKLOAD_MAX; k++) {
		if (hb_str_eq(key, hb_str(workload_keys[k]))) {
			b->workload = value;
			b->kind = (enum hb_workload)k;
		}
	}
}

static void
member_parse(struct hb_baggage *b, struct hb_str text)
{
	struct hb_str key, value;

	(void)next(&text, '=', &key);
	if (next(&text, '=', &value) && value.len <= HB_BAGGAGE_VALUE_MAX)
		member_set(b, key, value);
}

static enum hb_baggage_error
line_parse(struct hb_baggage *b, struct hb_str line, size_t *n_members)
{
	struct hb_str member;

	for (size_t i = 0; i < line.len; i++) {
		if (!is_printable(line.p[i]) && line.p[i] != '\t')
			return (HB_BAGGAGE_NOT_ASCII);
	}
	while (next(&line, ',', &member)) {
		if (++*n_members > HB_BAGGAGE_MEMBERS_MAX)
			return (HB_BAGGAGE_TOO_MANY);
		member_parse(b, member);
	}
	return (HB_BAGGAGE_OK);
}

enum hb_baggage_error
hb_baggage_parse(const struct hb_str *lines, size_t n, struct hb_baggage *ret)
{
	enum hb_baggage_error e = HB_BAGGAGE_OK;
	struct hb_baggage b = { 0 };
	size_t bytes = 0, n_members = 0;

	memset(ret, 0, sizeof *ret);
	for (size_t i = 0; i < n && e == HB_BAGGAGE_OK; i++) {
		bytes += lines[i].len;
		e = bytes > HB_BAGGAGE_BYTES_MAX ? HB_BAGGAGE_TOO_LONG :
						   line_parse(&b, lines[i], &n_members);
	}
	if (e == HB_BAGGAGE_OK)
		*ret = b;
	return (e);
}

const char *
hb_baggage_error_text(enum hb_baggage_error e)
{
	static const char *const texts[] = {
		[HB_BAGGAGE_OK] = "is good",
		[HB_BAGGAGE_NOT_ASCII] = "has bytes that are not printable ASCII",
		[HB_BAGGAGE_TOO_LONG] = "is too long",
		[HB_BAGGAGE_TOO_MANY] = "has too many members",
	};

	HB_ASSERT((unsigned)e < HB_BAGGAGE_ERROR_MAX);
	return (texts[e]);
}

/* ------------------------------------------------------------------ write */

static bool
is_writable(struct hb_str value)
{
	if (value.len == 0 || value.len > HB_BAGGAGE_VALUE_MAX)
		return (false);
	for (size_t i = 0; i < value.len; i++) {
		char c = value.p[i];

		if (!is_printable(c) || c == ',' || c == '=')
			return (false);
	}
	return (true);
}

void
hb_baggage_format(const struct hb_baggage *b, struct hb_text *t)
{
	struct hb_baggage copy = *b;
	bool first = true;

	HB_ASSERT((unsigned)b->kind < HB_WORKLOAD_MAX);
	for (size_t i = 0; i < HB_ARRAY_LEN(members); i++) {
		struct hb_str value = *value_of(&copy, &members[i]);

		if (!is_writable(value))
			continue;
		hb_text_printf(t, "%s%s=", first ? "" : ",",
			members[i].key == NULL ? workload_keys[b->kind] : members[i].key);
		hb_text_add(t, value.p, value.len);
		first = false;
	}
}

/* ------------------------------------------------------------------ labels */

static bool
labels(struct hb_str principal, const struct hb_baggage *b, bool relayed,
	struct hb_workload_labels *ret)
{
	struct hb_spiffe id = { 0 };

	memset(ret, 0, sizeof *ret);
	if (hb_spiffe_parse(principal, &id, NULL) == 0)
		ret->principal = principal;
	ret->ns = id.ns;
	if (!relayed && id.ns.len > 0 && b->ns.len > 0 && !hb_str_eq(id.ns, b->ns))
		return (false);
	if (relayed || id.ns.len == 0)
		ret->ns = b->ns;
	ret->workload = b->workload;
	ret->canonical_service = b->service;
	ret->canonical_revision = ret->version = b->version;
	ret->cluster = b->cluster;
	ret->region = b->region;
	ret->zone = b->zone;
	return (true);
}

bool
hb_source_labels(const struct hb_facts *f, const struct hb_baggage *b, bool relayed,
	struct hb_workload_labels *ret)
{
	const struct hb_facts *id = hb_facts_identity(f);
	bool agrees = labels(
		id == NULL ? HB_STR("") : hb_facts_tls(id)->principal, b, relayed, ret);

	/* ztunnel's two sides differ in this; dashboards know it so. */
	ret->app = ret->workload;
	return (agrees);
}

struct hb_str
hb_destination_principal(const struct hb_facts *f, struct hb_str upstream_peer, bool inbound)
{
	if (hb_str_starts(upstream_peer, HB_STR("spiffe://")))
		return (upstream_peer);
	for (; inbound && f != NULL; f = f->parent)
		if (hb_facts_tls(f)->local_cert != NULL)
			return (hb_str(hb_facts_tls(f)->local_cert->spiffe_id));
	return (HB_STR(""));
}

bool
hb_destination_labels(struct hb_str principal, const struct hb_baggage *b, bool relayed,
	struct hb_workload_labels *ret)
{
	bool agrees = labels(principal, b, relayed, ret);

	ret->app = ret->canonical_service;
	return (agrees);
}

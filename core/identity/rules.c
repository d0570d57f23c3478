/* SPDX-License-Identifier: Apache-2.0 */
#include "core/identity/rules.h"

#include <stdio.h>

#define OURS "."
#define ANY  "*"

#define DEFAULT_RULE "default, same trust domain and namespace"

enum list { DOMAINS, ALIASES, NAMESPACES, ACCOUNTS, IDS, PREFIXES, N_LISTS };

static const char *const list_names[N_LISTS] = { "trust_domains", "trust_domain_aliases",
	"namespaces", "service_accounts", "ids", "id_prefixes" };

struct list_of {
	char **v; /* owned */
	size_t n;
	struct hb_map *find; /* of the same texts; NULL = empty */
};

struct hb_rules {
	unsigned magic;
#define RULES_MAGIC 0x51f1e0f5
	struct list_of list[N_LISTS];
};

/* ------------------------------------------------------------------ making */

static bool
is_segment(struct hb_str s)
{
	char path[80];
	struct hb_spiffe id;
	int n = snprintf(path, sizeof path, "spiffe://a/%.*s", HB_STR_FMT(s));

	/* Names in Kubernetes have at most 63 bytes. */
	return (s.len > 0 && s.len <= 63 && memchr(s.p, '/', s.len) == NULL &&
		hb_spiffe_parse(hb_strn(path, (size_t)n), &id, NULL) == 0);
}

static bool
is_trust_domain(const char *z)
{
	char *uri = hb_asprintf("spiffe://%s", z);
	struct hb_spiffe id;
	bool is = hb_spiffe_parse(hb_str(uri), &id, NULL) == 0 && id.path.len == 0;

	hb_free(uri);
	return (is);
}

static int
check_account(const char *z, struct hb_err *reterr)
{
	const char *slash = strchr(z, '/');

	if (slash == NULL && is_segment(hb_str(z)))
		return (0);
	if (slash != NULL && is_segment(hb_strn(z, (size_t)(slash - z))) &&
		is_segment(hb_str(slash + 1)))
		return (0);
	return (hb_err_set(
		reterr, -EINVAL, "must be NAMESPACE/ACCOUNT, or ACCOUNT of our own namespace"));
}

static int
check_id(const char *z, struct hb_err *reterr)
{
	struct hb_spiffe id;
	int r = hb_spiffe_parse(hb_str(z), &id, reterr);

	if (r == 0 && id.path.len == 0)
		r = hb_err_set(reterr, -EINVAL,
			"names a trust domain, not a workload: use id_prefixes for all of it");
	return (r);
}

/* "spiffe://a/ns/b/" stands for itself without the slash: prefixes end with a segment anyway. */
static int
check_prefix(const char *z, struct hb_err *reterr)
{
	struct hb_str s = hb_str(z);
	struct hb_spiffe id;

	if (hb_str_ends(s, HB_STR("/")))
		s.len--;
	return (hb_spiffe_parse(s, &id, reterr));
}

static int
check(enum list which, const char *z, struct hb_err *reterr)
{
	switch (which) {
	case DOMAINS:
	case ALIASES:
		if (is_trust_domain(z) || (which == DOMAINS && strcmp(z, ANY) == 0))
			return (0);
		return (hb_err_set(reterr, -EINVAL,
			"must be a trust domain such as cluster.local (lower case)%s",
			which == DOMAINS ? ", or \"*\"" : ""));
	case NAMESPACES:
		if (is_segment(hb_str(z)) || strcmp(z, ANY) == 0 || strcmp(z, OURS) == 0)
			return (0);
		return (hb_err_set(
			reterr, -EINVAL, "must be a namespace, \".\" (ours) or \"*\" (any)"));
	case ACCOUNTS:
		return (check_account(z, reterr));
	case IDS:
		return (check_id(z, reterr));
	case PREFIXES:
		return (check_prefix(z, reterr));
	case N_LISTS:
		break;
	}
	HB_WRONG("list of rules");
}

static int
fill(struct list_of *l, enum list which, const struct hb_rules_list *from, size_t *ret_index,
	struct hb_err *reterr)
{
	if (from->n > HB_RULES_MAX) {
		*ret_index = HB_RULES_MAX;
		return (hb_err_set(reterr, -EINVAL, "more than %u entries", HB_RULES_MAX));
	}
	l->v = hb_calloc(from->n + 1, sizeof l->v[0]);
	for (size_t i = 0; i < from->n; i++) {
		size_t n = strlen(from->v[i]);

		*ret_index = i;
		if (check(which, from->v[i], reterr) != 0)
			return (-EINVAL);
		if (which == PREFIXES && from->v[i][n - 1] == '/')
			n--;
		l->v[l->n++] = hb_strndup(from->v[i], n);
		if (l->find == NULL)
			l->find = hb_map_new();
		(void)hb_map_put(l->find, hb_strn(from->v[i], n), l->v[i]);
	}
	return (0);
}

int
hb_rules_new(const struct hb_rules_options *o, struct hb_rules **ret, const char **ret_list,
	size_t *ret_index, struct hb_err *reterr)
{
	const struct hb_rules_list *const from[N_LISTS] = { &o->trust_domains,
		&o->trust_domain_aliases, &o->namespaces, &o->service_accounts, &o->ids,
		&o->id_prefixes };
	struct hb_rules *r;

	HB_NEW(r, RULES_MAGIC);
	for (int i = 0; i < N_LISTS; i++) {
		if (fill(&r->list[i], (enum list)i, from[i], ret_index, reterr) == 0)
			continue;
		*ret_list = list_names[i];
		hb_rules_free(&r);
		return (-EINVAL);
	}
	*ret = r;
	return (0);
}

void
hb_rules_free(struct hb_rules **pr)
{
	struct hb_rules *r = *pr;

	if (r == NULL)
		return;
	HB_CHECK(r, RULES_MAGIC);
	*pr = NULL;
	for (int i = 0; i < N_LISTS; i++) {
		for (size_t k = 0; k < r->list[i].n; k++)
			hb_free(r->list[i].v[k]);
		hb_free(r->list[i].v);
		if (r->list[i].find != NULL)
			hb_map_free(&r->list[i].find);
	}
	HB_DEL(r);
}

/* ------------------------------------------------------------------ judging */

static bool
has(const struct hb_rules *r, enum list which, struct hb_str s)
{
	return (r->list[which].find != NULL && hb_map_get(r->list[which].find, s) != NULL);
}

bool
hb_rules_is_default(const struct hb_rules *r)
{
	HB_CHECK(r, RULES_MAGIC);
	return (r->list[NAMESPACES].n + r->list[ACCOUNTS].n + r->list[IDS].n +
			r->list[PREFIXES].n ==
		0);
}

bool
hb_rules_need_own(const struct hb_rules *r, const char **ret_why)
{
	HB_CHECK(r, RULES_MAGIC);
	if (hb_rules_is_default(r)) {
		*ret_why = "peers of its namespace are allowed";
		return (true);
	}
	if (has(r, NAMESPACES, HB_STR(OURS))) {
		*ret_why = "namespaces has \".\"";
		return (true);
	}
	for (size_t i = 0; i < r->list[ACCOUNTS].n; i++) {
		*ret_why = "service_accounts has one without a namespace";
		if (strchr(r->list[ACCOUNTS].v[i], '/') == NULL)
			return (true);
	}
	*ret_why = "trust_domains is empty, which means its trust domain";
	return (r->list[DOMAINS].n == 0 && r->list[NAMESPACES].n + r->list[ACCOUNTS].n > 0);
}

/* A peer as the rules see it: an alias of our trust domain is our trust domain. */
struct seen {
	const struct hb_rules *rules;
	struct hb_spiffe peer, own; /* own: empty = we have no identity */
	struct hb_str domain;       /* of the peer; ours for an alias   */
};

static bool
domain_allowed(const struct seen *s)
{
	const struct hb_rules *r = s->rules;

	if (has(r, DOMAINS, HB_STR(ANY)) || has(r, DOMAINS, s->peer.trust_domain) ||
		has(r, DOMAINS, s->domain))
		return (true);
	return (r->list[DOMAINS].n == 0 && s->own.trust_domain.len > 0 &&
		hb_str_eq(s->domain, s->own.trust_domain));
}

/* The identity is `id`, or lies below it when `below`. */
static bool
covers(const struct seen *s, struct hb_str id, bool below)
{
	struct hb_spiffe want;

	if (hb_spiffe_parse(id, &want, NULL) != 0 ||
		(!hb_str_eq(want.trust_domain, s->domain) &&
			!hb_str_eq(want.trust_domain, s->peer.trust_domain)))
		return (false);
	if (hb_str_eq(want.path, s->peer.path))
		return (true);
	return (below && hb_str_starts(s->peer.path, want.path) &&
		s->peer.path.p[want.path.len] == '/');
}

static const char *
find_id(const struct seen *s)
{
	const struct list_of *ids = &s->rules->list[IDS], *prefixes = &s->rules->list[PREFIXES];

	for (size_t i = 0; i < ids->n; i++)
		if (covers(s, hb_str(ids->v[i]), false))
			return (ids->v[i]);
	for (size_t i = 0; i < prefixes->n; i++)
		if (covers(s, hb_str(prefixes->v[i]), true))
			return (prefixes->v[i]);
	return (NULL);
}

static bool
our_namespace(const struct seen *s)
{
	return (s->own.ns.len > 0 && hb_str_eq(s->own.ns, s->peer.ns));
}

/* The rule that lets the peer in, and its entry; NULL = none. */
static const char *
find_rule(const struct seen *s, struct hb_str *ret_entry)
{
	const struct hb_rules *r = s->rules;
	/* "NAMESPACE/ACCOUNT" without its bytes between: /ns/NAMESPACE/sa/ACCOUNT. */
	char account[160];
	const char *id = find_id(s);
	int n;

	*ret_entry = hb_str(id);
	if (id != NULL)
		return (has(r, IDS, *ret_entry) ? "ids" : "id_prefixes");
	if (s->peer.ns.len == 0 || !domain_allowed(s))
		return (NULL);
	n = snprintf(account, sizeof account, "%.*s/%.*s", HB_STR_FMT(s->peer.ns),
		HB_STR_FMT(s->peer.sa));
	*ret_entry = s->peer.sa;
	if (n > 0 && (size_t)n < sizeof account && has(r, ACCOUNTS, hb_strn(account, (size_t)n)))
		return ("service_accounts");
	if (our_namespace(s) && has(r, ACCOUNTS, s->peer.sa))
		return ("service_accounts");
	*ret_entry = s->peer.ns;
	if (has(r, NAMESPACES, s->peer.ns))
		return ("namespaces");
	if (has(r, NAMESPACES, HB_STR(ANY))) {
		*ret_entry = HB_STR(ANY);
		return ("namespaces");
	}
	if (our_namespace(s) && has(r, NAMESPACES, HB_STR(OURS)))
		return ("namespaces");
	return (hb_rules_is_default(r) && our_namespace(s) ? DEFAULT_RULE : NULL);
}

static size_t
count_uris(const struct hb_cert_info *c)
{
	size_t n = 0;

	for (size_t i = 0; i < c->n_san; i++)
		n += c->san[i].type == HB_SAN_URI;
	return (n);
}

static enum hb_rules_answer
no_identity(const struct hb_cert_info *peer, char *text, size_t cap)
{
	size_t uris = count_uris(peer);

	if (uris == 0)
		(void)snprintf(text, cap, "the certificate names no SPIFFE identity (no URI SAN)");
	else if (uris > 1)
		(void)snprintf(text, cap,
			"the certificate has %zu URI SANs, and a SPIFFE identity is "
			"the only one",
			uris);
	else
		(void)snprintf(
			text, cap, "the URI SAN of the certificate is not a SPIFFE identity");
	return (HB_RULES_NO_IDENTITY);
}

enum hb_rules_answer
hb_rules_judge(const struct hb_rules *r, const struct hb_cert_info *peer,
	const struct hb_cert_info *own, char *text, size_t cap)
{
	struct seen s = { .rules = r };
	struct hb_text allowed = { .cap_max = 256 };
	struct hb_str entry;
	const char *rule;

	HB_CHECK(r, RULES_MAGIC);
	HB_CHECK(peer, HB_CERT_INFO_MAGIC);
	if (peer->spiffe_id == NULL || hb_spiffe_parse(hb_str(peer->spiffe_id), &s.peer, NULL) != 0)
		return (no_identity(peer, text, cap));
	if (own != NULL && own->spiffe_id != NULL)
		(void)hb_spiffe_parse(hb_str(own->spiffe_id), &s.own, NULL);
	s.domain = has(r, ALIASES, s.peer.trust_domain) && s.own.trust_domain.len > 0 ?
		s.own.trust_domain :
		s.peer.trust_domain;
	rule = find_rule(&s, &entry);
	if (rule != NULL) {
		(void)snprintf(text, cap, "%s: %.*s", rule, HB_STR_FMT(entry));
		return (HB_RULES_ALLOWED);
	}
	hb_rules_describe(r, &allowed);
	(void)snprintf(text, cap, "%s is not allowed: we are %s and allow %s", peer->spiffe_id,
		own == NULL || own->spiffe_id == NULL ? "without identity" : own->spiffe_id,
		allowed.p);
	hb_text_fini(&allowed);
	return (HB_RULES_DENIED);
}

/* ------------------------------------------------------------------ telling */

static void
describe_list(const struct hb_rules *r, enum list which, struct hb_text *t)
{
	const struct list_of *l = &r->list[which];

	if (l->n == 0)
		return;
	hb_text_printf(t, ", %s", list_names[which]);
	for (size_t i = 0; i < l->n && i < 3; i++)
		hb_text_printf(t, " %s", l->v[i]);
	if (l->n > 3)
		hb_text_printf(t, " and %zu more", l->n - 3);
}

void
hb_rules_describe(const struct hb_rules *r, struct hb_text *t)
{
	const struct list_of *domains = &r->list[DOMAINS];

	HB_CHECK(r, RULES_MAGIC);
	if (domains->n == 0 && hb_rules_is_default(r))
		hb_text_addz(t, DEFAULT_RULE);
	else if (domains->n == 0)
		hb_text_addz(t, "our trust domain");
	else
		hb_text_printf(
			t, "trust domain %s%s", domains->v[0], domains->n > 1 ? " and others" : "");
	describe_list(r, ALIASES, t);
	if (domains->n > 0 && hb_rules_is_default(r))
		hb_text_addz(t, ", our namespace (default)");
	describe_list(r, NAMESPACES, t);
	describe_list(r, ACCOUNTS, t);
	describe_list(r, IDS, t);
	describe_list(r, PREFIXES, t);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "test/core/match/chain_case.h"

#include <stdio.h>

typedef Envoy__Config__Listener__V3__FilterChainMatch match_msg;
typedef Envoy__Config__Core__V3__CidrRange cidr_msg;

/* ------------------------------------------------------------------ text to messages */

static struct hb_str
cut(struct hb_str *rest, char at)
{
	const char *p = rest->len == 0 ? NULL : memchr(rest->p, at, rest->len);
	struct hb_str head = *rest;

	if (p == NULL) {
		*rest = (struct hb_str){ 0 };
		return (head);
	}
	head.len = (size_t)(p - rest->p);
	*rest = hb_strn(p + 1, rest->len - head.len - 1);
	return (head);
}

static char *
copy(struct chain_case *c, struct hb_str s)
{
	/* A message's strings end at a NUL. */
	const char *nul = s.len == 0 ? NULL : memchr(s.p, '\0', s.len);

	if (nul != NULL)
		s.len = (size_t)(nul - s.p);
	return ((char *)(uintptr_t)hb_arena_str(&c->arena, s).p);
}

static void
strings(struct chain_case *c, struct hb_str list, char ***v, size_t *n)
{
	*v = hb_arena_alloc(&c->arena, CHAIN_CASE_LIST_MAX * sizeof **v);
	for (*n = 0; list.len > 0 && *n < CHAIN_CASE_LIST_MAX;)
		(*v)[(*n)++] = copy(c, cut(&list, ','));
}

static void
cidrs(struct chain_case *c, struct hb_str list, cidr_msg ***v, size_t *n)
{
	*v = hb_arena_alloc(&c->arena, CHAIN_CASE_LIST_MAX * sizeof **v);
	for (*n = 0; list.len > 0 && *n < CHAIN_CASE_LIST_MAX;) {
		struct hb_str len = cut(&list, ','), ip = cut(&len, '/');
		cidr_msg *m = hb_arena_alloc(&c->arena, sizeof *m);
		uint64_t bits;

		envoy__config__core__v3__cidr_range__init(m);
		m->address_prefix = copy(c, ip);
		if (hb_str_u64(len, UINT32_MAX, &bits)) {
			m->prefix_len = hb_arena_alloc(&c->arena, sizeof *m->prefix_len);
			google__protobuf__uint32_value__init(m->prefix_len);
			m->prefix_len->value = (uint32_t)bits;
		}
		(*v)[(*n)++] = m;
	}
}

static void
ports(struct chain_case *c, struct hb_str list, uint32_t **v, size_t *n)
{
	*v = hb_arena_alloc(&c->arena, CHAIN_CASE_LIST_MAX * sizeof **v);
	for (*n = 0; list.len > 0 && *n < CHAIN_CASE_LIST_MAX;) {
		uint64_t port;

		if (hb_str_u64(cut(&list, ','), UINT32_MAX, &port))
			(*v)[(*n)++] = (uint32_t)port;
	}
}

static void
chain_word(struct chain_case *c, match_msg *m, struct hb_str key, struct hb_str value)
{
	uint64_t n;

	if (hb_str_eq(key, HB_STR("dport")) && hb_str_u64(value, UINT32_MAX, &n)) {
		m->destination_port = hb_arena_alloc(&c->arena, sizeof *m->destination_port);
		google__protobuf__uint32_value__init(m->destination_port);
		m->destination_port->value = (uint32_t)n;
	} else if (hb_str_eq(key, HB_STR("dst"))) {
		cidrs(c, value, &m->prefix_ranges, &m->n_prefix_ranges);
	} else if (hb_str_eq(key, HB_STR("sni"))) {
		strings(c, value, &m->server_names, &m->n_server_names);
	} else if (hb_str_eq(key, HB_STR("transport"))) {
		m->transport_protocol = copy(c, value);
	} else if (hb_str_eq(key, HB_STR("alpn"))) {
		strings(c, value, &m->application_protocols, &m->n_application_protocols);
	} else if (hb_str_eq(key, HB_STR("direct"))) {
		cidrs(c, value, &m->direct_source_prefix_ranges, &m->n_direct_source_prefix_ranges);
	} else if (hb_str_eq(key, HB_STR("type"))) {
		m->source_type = hb_str_eq(value, HB_STR("local")) ? 1 :
			hb_str_eq(value, HB_STR("external"))       ? 2 :
								     0;
	} else if (hb_str_eq(key, HB_STR("source"))) {
		cidrs(c, value, &m->source_prefix_ranges, &m->n_source_prefix_ranges);
	} else if (hb_str_eq(key, HB_STR("sport"))) {
		ports(c, value, &m->source_ports, &m->n_source_ports);
	}
}

static void
address(struct chain_case *c, struct hb_str value, struct hb_addr *ret)
{
	struct hb_addr a = { .kind = HB_ADDR_UNIX };

	if (hb_addr_parse(value, ret) || hb_addr_parse_ip(value, ret) || value.len == 0)
		return;
	a.u.name = copy(c, value);
	if (*a.u.name != '\0')
		*ret = a;
}

static void
conn_word(struct chain_case *c, struct hb_facts *f, struct hb_str key, struct hb_str value)
{
	if (hb_str_eq(key, HB_STR("local"))) {
		address(c, value, &f->local);
	} else if (hb_str_eq(key, HB_STR("remote"))) {
		address(c, value, &f->remote);
	} else if (hb_str_eq(key, HB_STR("direct"))) {
		hb_facts_keep_direct(f);
		address(c, value, &f->direct[1]);
	} else if (hb_str_eq(key, HB_STR("sni"))) {
		hb_facts_hello_edit(f)->sni = hb_arena_str(&c->arena, value);
		hb_str_lower(
			(char *)(uintptr_t)hb_facts_hello(f)->sni.p, hb_facts_hello(f)->sni.len);
	} else if (hb_str_eq(key, HB_STR("transport"))) {
		hb_facts_hello_edit(f)->transport_protocol = hb_arena_str(&c->arena, value).p;
	} else if (hb_str_eq(key, HB_STR("alpn"))) {
		hb_facts_hello_edit(f)->n_alpn = 0;
		while (value.len > 0) {
			struct hb_str name = cut(&value, ',');

			/* A ClientHello cannot offer an empty name. */
			if (name.len > 0)
				(void)hb_facts_alpn_add(f, name);
		}
	}
}

static void
line(struct chain_case *c, struct hb_str rest)
{
	struct hb_str kind = cut(&rest, ' '), name, word;

	if (hb_str_eq(kind, HB_STR("chain")) && c->n_chains < CHAIN_CASE_CHAINS_MAX) {
		match_msg *m = hb_arena_alloc(&c->arena, sizeof *m);

		envoy__config__listener__v3__filter_chain_match__init(m);
		name = cut(&rest, ' ');
		c->names[c->n_chains] = copy(c, name);
		c->chains[c->n_chains++] = m;
		while (rest.len > 0) {
			word = cut(&rest, ' ');
			name = cut(&word, '=');
			chain_word(c, m, name, word);
		}
	} else if (hb_str_eq(kind, HB_STR("conn")) && c->n_conns < CHAIN_CASE_CONNS_MAX) {
		struct hb_facts *f = &c->conns[c->n_conns++];

		hb_facts_init(f);
		while (rest.len > 0) {
			word = cut(&rest, ' ');
			name = cut(&word, '=');
			conn_word(c, f, name, word);
		}
	}
}

void
chain_case_parse(struct chain_case *c, struct hb_str text)
{
	memset(c, 0, sizeof *c);
	while (text.len > 0)
		line(c, cut(&text, '\n'));
}

void
chain_case_fini(struct chain_case *c)
{
	for (unsigned i = 0; i < c->n_conns; i++)
		hb_facts_fini(&c->conns[i]);
	hb_arena_fini(&c->arena);
	memset(c, 0, sizeof *c);
}

struct hb_chain_match *
chain_case_compile(const struct chain_case *c, struct hb_cfg *cfg)
{
	struct hb_chain_match *m = hb_chain_match_new();
	int error = 0;

	for (unsigned i = 0; i < c->n_chains; i++)
		error |= hb_chain_match_add(m, cfg, NULL, c->chains[i], i, c->names[i]);
	error |= hb_chain_match_freeze(m, cfg);
	if (error != 0)
		hb_chain_match_free(&m);
	return (m);
}

/* ------------------------------------------------------------------ the naive matcher */

static bool
bits_equal(const uint8_t *a, const uint8_t *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (((a[i / 8] ^ b[i / 8]) >> (7 - i % 8)) & 1)
			return (false);
	}
	return (true);
}

/* A range has exactly `bits` bits and they are those of the address. */
static bool
has_range(size_t n, cidr_msg *const *v, const struct hb_addr *a, unsigned bits)
{
	for (size_t i = 0; i < n; i++) {
		unsigned len = v[i]->prefix_len == NULL ? 0 : v[i]->prefix_len->value;
		struct hb_addr ip;

		if (!hb_addr_parse_ip(hb_str(v[i]->address_prefix), &ip) || ip.kind != a->kind)
			continue;
		if (ip.kind == HB_ADDR_V4 && strchr(v[i]->address_prefix, ':') != NULL)
			len -= 96;
		if (len == bits && bits_equal(ip.u.ip, a->u.ip, bits))
			return (true);
	}
	return (n == 0 && bits == 0);
}

static bool
has_string(size_t n, char *const *v, struct hb_str key, bool fold)
{
	for (size_t i = 0; i < n; i++) {
		struct hb_str s = hb_str(v[i]);

		if (fold && hb_str_starts(s, HB_STR("*.")))
			s = hb_strn(s.p + 1, s.len - 1);
		if (fold ? hb_str_ieq(s, key) : hb_str_eq(s, key))
			return (true);
	}
	return (n == 0 && key.len == 0);
}

static bool
has_port(const match_msg *m, uint32_t port)
{
	for (size_t i = 0; i < m->n_source_ports; i++) {
		if (m->source_ports[i] == port)
			return (true);
	}
	return (m->n_source_ports == 0 && port == 0);
}

struct walk {
	const struct chain_case *c;
	const struct hb_facts *f;
	struct hb_addr a; /* at the level that is looked at */
};

/* Does chain m have the k-th best key of the connection at this level? False and *end at the end. */
static bool
has_key(const struct walk *w, const match_msg *m, unsigned level, unsigned k, bool *end)
{
	unsigned bits = w->a.kind == HB_ADDR_V6 ? 128 : 32;
	const struct hb_facts_hello *hello = hb_facts_hello(w->f);
	struct hb_str s = hello->sni;
	uint32_t port = m->destination_port == NULL ? 0 : m->destination_port->value;
	bool local = w->f->remote.kind == HB_ADDR_UNIX || hb_addr_is_loopback(&w->f->remote) ||
		((w->f->remote.kind == HB_ADDR_V4 || w->f->remote.kind == HB_ADDR_V6) &&
			hb_addr_ip_eq(&w->f->remote, &w->f->local));

	*end = level == 1 || level == 5 || level == 7 ? k > bits :
		level == 2                            ? k > s.len + 1 :
		level == 4                            ? k > hello->n_alpn :
							k > 1;
	if (*end)
		return (false);
	switch (level) {
	case 0:
		return (k == 0 ? w->f->local.kind != HB_ADDR_UNIX &&
					w->f->local.kind != HB_ADDR_NONE && port != 0 &&
					port == w->f->local.port :
				 port == 0);
	case 1:
		return (has_range(m->n_prefix_ranges, m->prefix_ranges, &w->a, bits - k));
	case 2: /* whole name, then from each byte on, then none */
		if (k == 0)
			return (s.len > 0 &&
				has_string(m->n_server_names, m->server_names, s, true));
		if (k == s.len + 1)
			return (m->n_server_names == 0);
		return (k > 1 && s.p[k - 1] == '.' && k < s.len && m->n_server_names > 0 &&
			has_string(m->n_server_names, m->server_names,
				hb_strn(s.p + k - 1, s.len - k + 1), true));
	case 3:
		s = hb_facts_transport_protocol(w->f);
		return (k == 0 ? hb_str_eq(hb_str(m->transport_protocol), s) :
				 *m->transport_protocol == '\0');
	case 4:
		return (has_string(m->n_application_protocols, m->application_protocols,
			k < hello->n_alpn ? hello->alpn[k] : HB_STR(""), false));
	case 5:
		return (has_range(m->n_direct_source_prefix_ranges, m->direct_source_prefix_ranges,
			&w->a, bits - k));
	case 6:
		return ((int)m->source_type == (k == 1 ? 0 : local ? 1 : 2));
	case 7:
		return (has_range(
			m->n_source_prefix_ranges, m->source_prefix_ranges, &w->a, bits - k));
	default:
		return (k == 0 ? (w->f->remote.kind == HB_ADDR_V4 ||
					 w->f->remote.kind == HB_ADDR_V6) &&
					w->f->remote.port != 0 && has_port(m, w->f->remote.port) :
				 has_port(m, 0));
	}
}

int
chain_case_naive(const struct chain_case *c, const struct hb_facts *f)
{
	bool in[CHAIN_CASE_CHAINS_MAX], next[CHAIN_CASE_CHAINS_MAX], end = false;
	struct walk w = { .c = c, .f = f };

	memset(in, 1, sizeof in);
	for (unsigned level = 0; level < 9; level++) {
		bool found = false;

		w.a = level == 1 ? f->local : level == 5 ? *hb_facts_direct_remote(f) : f->remote;
		if (w.a.kind != HB_ADDR_V4 && w.a.kind != HB_ADDR_V6)
			(void)hb_addr_parse_ip(HB_STR("255.255.255.255"), &w.a);
		end = false;
		for (unsigned k = 0; !found && !end; k++) {
			for (unsigned i = 0; i < c->n_chains; i++) {
				next[i] = in[i] && has_key(&w, c->chains[i], level, k, &end);
				found = found || next[i];
			}
			if (c->n_chains == 0)
				return (-1);
		}
		if (!found)
			return (-1);
		memcpy(in, next, sizeof in);
	}
	for (unsigned i = 0; i < c->n_chains; i++) {
		if (in[i])
			return ((int)i);
	}
	return (-1);
}

static bool
ranges_meet(size_t na, cidr_msg *const *a, size_t nb, cidr_msg *const *b)
{
	if (na == 0 && nb == 0)
		return (true);
	if (na == 0)
		return (ranges_meet(nb, b, na, a));
	for (size_t i = 0; i < na; i++) {
		unsigned len = a[i]->prefix_len == NULL ? 0 : a[i]->prefix_len->value;
		struct hb_addr ip;

		if (!hb_addr_parse_ip(hb_str(a[i]->address_prefix), &ip))
			continue;
		if (ip.kind == HB_ADDR_V4 && strchr(a[i]->address_prefix, ':') != NULL)
			len -= 96;
		if (has_range(nb, b, &ip, len))
			return (true);
	}
	return (false);
}

static bool
strings_meet(size_t na, char *const *a, size_t nb, char *const *b, bool fold)
{
	if (na == 0 || nb == 0)
		return (na == nb);
	for (size_t i = 0; i < na; i++) {
		struct hb_str s = hb_str(a[i]);

		if (fold && hb_str_starts(s, HB_STR("*.")))
			s = hb_strn(s.p + 1, s.len - 1);
		if (has_string(nb, b, s, fold))
			return (true);
	}
	return (false);
}

bool
chain_case_overlap(const struct chain_case *c, unsigned ia, unsigned ib)
{
	const match_msg *a = c->chains[ia], *b = c->chains[ib];
	bool ports_meet = a->n_source_ports == 0 && b->n_source_ports == 0;

	for (size_t i = 0; i < a->n_source_ports; i++)
		ports_meet = ports_meet || has_port(b, a->source_ports[i]);
	return (ports_meet && a->source_type == b->source_type &&
		(a->destination_port == NULL ? 0 : a->destination_port->value) ==
			(b->destination_port == NULL ? 0 : b->destination_port->value) &&
		strcmp(a->transport_protocol, b->transport_protocol) == 0 &&
		strings_meet(a->n_server_names, a->server_names, b->n_server_names, b->server_names,
			true) &&
		strings_meet(a->n_application_protocols, a->application_protocols,
			b->n_application_protocols, b->application_protocols, false) &&
		ranges_meet(a->n_prefix_ranges, a->prefix_ranges, b->n_prefix_ranges,
			b->prefix_ranges) &&
		ranges_meet(a->n_direct_source_prefix_ranges, a->direct_source_prefix_ranges,
			b->n_direct_source_prefix_ranges, b->direct_source_prefix_ranges) &&
		ranges_meet(a->n_source_prefix_ranges, a->source_prefix_ranges,
			b->n_source_prefix_ranges, b->source_prefix_ranges));
}

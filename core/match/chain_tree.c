/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From rules to a tree, and the walk through it. A node is built from a set of rules; the same set
 * at the same level is the same node, and a set of one short rule needs no more nodes. So the tree
 * of ten thousand chains that differ in one server name is one map with ten thousand entries,
 * whatever lists they carry below.
 */
#include "core/match/chain_priv.h"

/* Keys put into maps while building: about one a rule and level in sane configurations. */
#define WORK_MAX     ((size_t)4 << 20)
/* Overlaps told before the rest is only counted. */
#define OVERLAPS_MAX 20u
/* A rule whose lists are all this short is compared, not looked up. */
#define SHORT_LIST   8u

struct group { /* the rules of a set that share a key */
	struct hb_str key;
	uint32_t *v; /* owned */
	uint32_t n, cap;
};

struct build {
	struct hb_chain_match *m;
	struct hb_cfg *cfg;
	struct hb_map *memo;     /* level and set -> node          */
	struct hb_map *overlaps; /* pairs that were told           */
	size_t work;
	int error;
	struct hb_str path[CHAIN_LEVEL_MAX]; /* keys taken so far; p NULL = no condition */
};

static struct chain_node *build_set(struct build *b, unsigned level, const uint32_t *v, uint32_t n);

static struct chain_node *
node_new(struct build *b, enum chain_node_kind kind, unsigned level)
{
	struct chain_node *n = hb_arena_alloc(&b->m->arena, sizeof *n);

	n->kind = (uint8_t)kind;
	n->level = (uint8_t)level;
	n->all = b->m->nodes;
	b->m->nodes = n;
	b->m->n_nodes++;
	return (n);
}

static bool
rule_is_short(const struct chain_rule *r, unsigned level)
{
	for (; level < CHAIN_LEVEL_MAX; level++) {
		if (hb_chain__rule_n_keys(r, level) > SHORT_LIST)
			return (false);
	}
	return (true);
}

static void
overlap(struct build *b, const struct chain_rule *first, const struct chain_rule *second)
{
	uint32_t pair[2] = { first->chain, second->chain };
	struct hb_text where = { .cap_max = 256 };

	b->error = -EINVAL;
	if (hb_map_get(b->overlaps, hb_strn(pair, sizeof pair)) != NULL)
		return;
	if (hb_map_count(b->overlaps) < OVERLAPS_MAX) {
		for (unsigned i = 0; i < CHAIN_LEVEL_MAX; i++) {
			if (b->path[i].p == NULL)
				continue;
			hb_text_printf(&where, "%s%s ", where.len == 0 ? "" : ", ",
				hb_chain_level_names[i]);
			hb_chain__key_text(&where, i, b->path[i]);
		}
		hb_cfg_error(b->cfg, second->chain_msg, "filter_chain_match", -1,
			"filter chains \"%s\" and \"%s\" overlap: both would take connections with %s; "
			"make one of them more specific",
			first->name, second->name, where.len == 0 ? "any address" : where.p);
		hb_text_fini(&where);
	}
	(void)hb_map_put(b->overlaps, hb_strn(pair, sizeof pair), b);
}

static void
group_add(struct build *b, struct group **gs, uint32_t *n, uint32_t *cap, struct hb_map *index,
	struct hb_str key, uint32_t rule)
{
	struct group *g;
	size_t at = (size_t)(uintptr_t)hb_map_get(index, key);

	if (at == 0) {
		if (*n == *cap) {
			*cap = HB_MAX(*cap * 2, 8u);
			*gs = hb_realloc(*gs, *cap * sizeof **gs);
		}
		(*gs)[*n] = (struct group){ .key = key };
		at = ++*n;
		(void)hb_map_put(index, key, (void *)(uintptr_t)at);
	}
	g = &(*gs)[at - 1];
	/* The same key twice in one list says nothing new. */
	if (g->n > 0 && g->v[g->n - 1] == rule)
		return;
	if (g->n == g->cap) {
		g->cap = HB_MAX(g->cap * 2, 1u);
		g->v = hb_realloc(g->v, g->cap * sizeof *g->v);
	}
	g->v[g->n++] = rule;
	b->work++;
}

/* The rules of the set by key, in the order of first appearance. */
static struct group *
group_set(struct build *b, unsigned level, const uint32_t *v, uint32_t n, uint32_t *ret_n)
{
	struct hb_map *index = hb_map_new();
	struct group *gs = NULL;
	uint32_t n_gs = 0, cap = 0;

	for (uint32_t i = 0; i < n && b->work <= WORK_MAX; i++) {
		const struct chain_rule *r = b->m->rules[v[i]];
		uint32_t keys = hb_chain__rule_n_keys(r, level);

		for (uint32_t k = 0; k < keys; k++)
			group_add(
				b, &gs, &n_gs, &cap, index, hb_chain__rule_key(r, level, k), v[i]);
	}
	hb_map_free(&index);
	*ret_n = n_gs;
	return (gs);
}

static struct chain_node *
build_level(struct build *b, unsigned level, const uint32_t *v, uint32_t n)
{
	bool ranges = level == CHAIN_DST_IP || level == CHAIN_DIRECT_IP || level == CHAIN_SOURCE_IP;
	struct chain_node *node = node_new(b, ranges ? CHAIN_NODE_RANGES : CHAIN_NODE_MAP, level);
	uint32_t n_gs;
	struct group *gs = group_set(b, level, v, n, &n_gs);

	if (!ranges)
		node->u.map.children = hb_map_new();
	for (uint32_t i = 0; i < n_gs; i++) {
		struct chain_node *child;

		b->path[level] = gs[i].key.len == 0 ? (struct hb_str){ 0 } : gs[i].key;
		child = b->work > WORK_MAX ? NULL : build_set(b, level + 1, gs[i].v, gs[i].n);
		if (child == NULL)
			b->error = -EINVAL;
		else if (ranges)
			hb_ip_table_add(&node->u.ranges, (const void *)gs[i].key.p, child);
		else if (gs[i].key.len == 0)
			node->u.map.any = child;
		else
			(void)hb_map_put(node->u.map.children, gs[i].key, child);
		hb_free(gs[i].v);
	}
	b->path[level] = (struct hb_str){ 0 };
	hb_free(gs);
	if (ranges)
		hb_ip_table_freeze(&node->u.ranges);
	return (node);
}

/* NULL after an error. */
static struct chain_node *
build_new(struct build *b, unsigned level, const uint32_t *v, uint32_t n)
{
	struct chain_node *node;

	if (n == 1 && rule_is_short(b->m->rules[v[0]], level)) {
		node = node_new(b, CHAIN_NODE_RULE, level);
		node->u.rule = b->m->rules[v[0]];
		return (node);
	}
	for (; level < CHAIN_LEVEL_MAX; level++) {
		for (uint32_t i = 0; i < n; i++) {
			if (!hb_chain__rule_is_any(b->m->rules[v[i]], level))
				return (build_level(b, level, v, n));
		}
	}
	HB_ASSERT(n > 1);
	for (uint32_t i = 1; i < n; i++)
		overlap(b, b->m->rules[v[0]], b->m->rules[v[i]]);
	return (NULL);
}

static struct chain_node *
build_set(struct build *b, unsigned level, const uint32_t *v, uint32_t n)
{
	struct chain_node *node;
	struct hb_text key = { 0 };

	HB_ASSERT(n > 0);
	hb_text_addc(&key, (char)level);
	hb_text_add(&key, v, n * sizeof *v);
	node = hb_map_get(b->memo, hb_strn(key.p, key.len));
	if (node == NULL)
		node = build_new(b, level, v, n);
	if (node != NULL)
		(void)hb_map_put(b->memo, hb_strn(key.p, key.len), node);
	hb_text_fini(&key);
	return (node);
}

int
hb_chain__build(struct hb_chain_match *m, struct hb_cfg *cfg)
{
	struct build b = { .m = m, .cfg = cfg, .memo = hb_map_new(), .overlaps = hb_map_new() };
	uint32_t *all = hb_calloc(HB_MAX(m->n_rules, 1u), sizeof *all);

	for (uint32_t i = 0; i < m->n_rules; i++)
		all[i] = i;
	if (m->n_rules > 0 && (m->root = build_set(&b, 0, all, m->n_rules)) == NULL)
		b.error = -EINVAL;
	if (b.work > WORK_MAX) {
		hb_cfg_error(cfg, m->rules[0]->chain_msg, "filter_chain_match", -1,
			"the lists of these %u filter chains combine to more than %zu cases; use fewer chains "
			"with several long lists each",
			m->n_rules, WORK_MAX);
	} else if (hb_map_count(b.overlaps) > OVERLAPS_MAX) {
		hb_cfg_error(cfg, m->rules[0]->chain_msg, "filter_chain_match", -1,
			"%zu more pairs of filter chains overlap",
			hb_map_count(b.overlaps) - OVERLAPS_MAX);
	}
	hb_free(all);
	hb_map_free(&b.memo);
	hb_map_free(&b.overlaps);
	return (b.error);
}

/* ------------------------------------------------------------------ the walk */

static const struct chain_node *
find_sni(const struct hb_map *names, struct hb_str sni)
{
	const struct chain_node *child = sni.len == 0 ? NULL : hb_map_get(names, sni);

	/* A wildcard stands for at least one byte, and ".": neither the first nor the last byte. */
	for (size_t i = 1; child == NULL && i + 1 < sni.len; i++) {
		if (sni.p[i] == '.')
			child = hb_map_get(names, hb_strn(sni.p + i, sni.len - i));
	}
	return (child);
}

static const struct chain_node *
find_port(const struct hb_map *ports, const struct hb_addr *a)
{
	if (a->kind != HB_ADDR_V4 && a->kind != HB_ADDR_V6)
		return (NULL);
	return (hb_map_get(ports, hb_strn(&a->port, sizeof a->port)));
}

static const struct chain_node *
find_map(const struct chain_node *n, const struct hb_facts *f)
{
	const struct hb_map *children = n->u.map.children;
	const struct chain_node *child = NULL;
	uint8_t type;

	switch (n->level) {
	case CHAIN_DST_PORT:
		child = find_port(children, &f->local);
		break;
	case CHAIN_SNI:
		child = find_sni(children, hb_facts_hello(f)->sni);
		break;
	case CHAIN_TRANSPORT:
		child = hb_map_get(children, hb_chain__transport(f));
		break;
	case CHAIN_ALPN:
		for (unsigned i = 0; child == NULL && i < hb_facts_hello(f)->n_alpn; i++)
			child = hb_map_get(children, hb_facts_hello(f)->alpn[i]);
		break;
	case CHAIN_SOURCE_TYPE:
		type = hb_chain__is_local(f) ? CHAIN_SOURCE_LOCAL : CHAIN_SOURCE_EXTERNAL;
		child = hb_map_get(children, hb_strn(&type, sizeof type));
		break;
	case CHAIN_SOURCE_PORT:
		child = find_port(children, &f->remote);
		break;
	default:
		HB_WRONG("no such level");
	}
	return (child != NULL ? child : n->u.map.any);
}

static const struct chain_node *
find_range(const struct chain_node *n, const struct hb_facts *f)
{
	const struct hb_ip_range *r;
	struct hb_addr a;

	hb_chain__address(f, n->level, &a);
	r = hb_ip_table_find(&n->u.ranges, &a);
	return (r == NULL ? NULL : r->value);
}

int
hb_chain_match_find(const struct hb_chain_match *m, const struct hb_facts *f)
{
	const struct chain_node *n;

	HB_CHECK(m, CHAIN_MATCH_MAGIC);
	HB_ASSERT(m->frozen);
	for (n = m->root; n != NULL && n->kind != CHAIN_NODE_RULE;)
		n = n->kind == CHAIN_NODE_MAP ? find_map(n, f) : find_range(n, f);
	if (n == NULL)
		return (-1);
	for (unsigned level = n->level; level < CHAIN_LEVEL_MAX; level++) {
		if (hb_chain__rule_rank(n->u.rule, level, f) < 0)
			return (-1);
	}
	return ((int)n->u.rule->chain);
}

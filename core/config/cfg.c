/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include "core/config/cfg_priv.h"

#define BYTES_MAX_DFLT   ((size_t)16 << 20)
#define DEPTH_MAX_DFLT   100
#define NODES_MAX_DFLT   2000000
#define ALIASES_MAX_DFLT 100000

#define BLOCK_SIZE 32768

struct hb_cfg__block {
	struct hb_cfg__block *next;
	size_t used, size;
	_Alignas(max_align_t) char data[];
};

struct hb_cfg *
hb_cfg_new(const char *name, const struct hb_cfg_limits *limits)
{
	struct hb_cfg *cfg;

	hb_cfg_types_init();
	HB_NEW(cfg, HB_CFG_MAGIC);
	cfg->name = hb_strdup(name);
	if (limits != NULL)
		cfg->limits = *limits;
	if (cfg->limits.bytes_max == 0)
		cfg->limits.bytes_max = BYTES_MAX_DFLT;
	if (cfg->limits.depth_max == 0)
		cfg->limits.depth_max = DEPTH_MAX_DFLT;
	if (cfg->limits.nodes_max == 0)
		cfg->limits.nodes_max = NODES_MAX_DFLT;
	if (cfg->limits.aliases_max == 0)
		cfg->limits.aliases_max = ALIASES_MAX_DFLT;
	hb_errs_init(&cfg->errs);
	hb_errs_init(&cfg->warnings);
	hb_errs_init(&cfg->notes);
	return (cfg);
}

void
hb_cfg_free(struct hb_cfg **pcfg)
{
	struct hb_cfg *cfg = *pcfg;
	struct hb_cfg__block *b, *next;

	if (cfg == NULL)
		return;
	*pcfg = NULL;
	HB_CHECK(cfg, HB_CFG_MAGIC);
	for (size_t i = 0; i < cfg->n_owned; i++)
		protobuf_c_message_free_unpacked(cfg->owned[i], NULL);
	hb_free(cfg->owned);
	hb_free(cfg->src);
	for (b = cfg->blocks; b != NULL; b = next) {
		next = b->next;
		hb_free(b);
	}
	hb_errs_fini(&cfg->errs);
	hb_errs_fini(&cfg->warnings);
	hb_errs_fini(&cfg->notes);
	hb_free(cfg->name);
	HB_DEL(cfg);
}

struct hb_errs *
hb_cfg_errs(struct hb_cfg *cfg)
{
	HB_CHECK(cfg, HB_CFG_MAGIC);
	return (&cfg->errs);
}

struct hb_errs *
hb_cfg_warnings(struct hb_cfg *cfg)
{
	HB_CHECK(cfg, HB_CFG_MAGIC);
	return (&cfg->warnings);
}

struct hb_errs *
hb_cfg_notes(struct hb_cfg *cfg)
{
	HB_CHECK(cfg, HB_CFG_MAGIC);
	return (&cfg->notes);
}

size_t
hb_cfg_passed_over(const struct hb_cfg *cfg)
{
	HB_CHECK(cfg, HB_CFG_MAGIC);
	return (cfg->passed_over);
}

void *
hb_cfg__alloc(struct hb_cfg *cfg, size_t n)
{
	struct hb_cfg__block *b = cfg->blocks;
	size_t need = (n + sizeof(max_align_t) - 1) & ~(sizeof(max_align_t) - 1);
	void *p;

	if (b == NULL || b->size - b->used < need) {
		size_t size = HB_MAX(need, (size_t)BLOCK_SIZE);

		b = hb_malloc(sizeof *b + size);
		b->used = 0;
		b->size = size;
		b->next = cfg->blocks;
		cfg->blocks = b;
	}
	p = b->data + b->used;
	b->used += need;
	return (memset(p, 0, need));
}

struct hb_str
hb_cfg__copy(struct hb_cfg *cfg, const void *p, size_t n)
{
	char *z = hb_cfg__alloc(cfg, n + 1);

	if (n > 0)
		memcpy(z, p, n);
	return (hb_strn(z, n));
}

void
hb_cfg__own(struct hb_cfg *cfg, ProtobufCMessage *msg)
{
	if (cfg->n_owned == cfg->cap_owned) {
		cfg->cap_owned = cfg->cap_owned == 0 ? 16 : cfg->cap_owned * 2;
		cfg->owned = hb_realloc(cfg->owned, cfg->cap_owned * sizeof *cfg->owned);
	}
	cfg->owned[cfg->n_owned++] = msg;
}

/* ------------------------------------------------------------------ where a message came from */

static struct hb_cfg__src *
src_slot(struct hb_cfg__src *v, size_t cap, const void *msg)
{
	size_t i = (size_t)(((uintptr_t)msg >> 4) * 0x9e3779b97f4a7c15ULL >> 20) & (cap - 1);

	while (v[i].msg != NULL && v[i].msg != msg)
		i = (i + 1) & (cap - 1);
	return (&v[i]);
}

struct hb_cfg__src *
hb_cfg__src_get(const struct hb_cfg *cfg, const void *msg)
{
	struct hb_cfg__src *s;

	if (cfg->cap_src == 0 || msg == NULL)
		return (NULL);
	s = src_slot(cfg->src, cfg->cap_src, msg);
	return (s->msg == NULL ? NULL : s);
}

static void
src_grow(struct hb_cfg *cfg)
{
	size_t cap = cfg->cap_src == 0 ? 256 : cfg->cap_src * 2;
	struct hb_cfg__src *v = hb_calloc(cap, sizeof *v);

	for (size_t i = 0; i < cfg->cap_src; i++) {
		if (cfg->src[i].msg != NULL)
			*src_slot(v, cap, cfg->src[i].msg) = cfg->src[i];
	}
	hb_free(cfg->src);
	cfg->src = v;
	cfg->cap_src = cap;
}

struct hb_cfg__src *
hb_cfg__src_add(struct hb_cfg *cfg, const ProtobufCMessage *msg, const struct hb_cfg__node *node,
	const ProtobufCMessage *parent, const ProtobufCFieldDescriptor *field, size_t index)
{
	struct hb_cfg__src *s;

	if ((cfg->n_src + 1) * 4 > cfg->cap_src * 3)
		src_grow(cfg);
	s = src_slot(cfg->src, cfg->cap_src, msg);
	HB_ASSERT(s->msg == NULL);
	s->msg = msg;
	s->node = node;
	s->parent = parent;
	s->field = field;
	s->index = index;
	cfg->n_src++;
	return (s);
}

void
hb_cfg_refers(
	struct hb_cfg *cfg, const void *msg, const char *field, const char *kind, const char *name)
{
	struct hb_cfg__ref *r;

	HB_CHECK(cfg, HB_CFG_MAGIC);
	if (*name == '\0' || hb_cfg__src_get(cfg, msg) == NULL)
		return;
	r = hb_cfg__alloc(cfg, sizeof *r);
	*r = (struct hb_cfg__ref){ NULL, msg, field, kind,
		hb_cfg__copy(cfg, name, strlen(name)).p };
	if (cfg->refs_tail == NULL)
		cfg->refs_tail = &cfg->refs;
	*cfg->refs_tail = r;
	cfg->refs_tail = &r->next;
}

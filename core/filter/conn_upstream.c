/* SPDX-License-Identifier: Apache-2.0 */
/* What a connection remembers of its upstream, in as little memory as it takes. */
#include "core/filter/filter_priv.h"

void
hb_upstream_unkeep(struct hb_upstream_keep **kp)
{
	struct hb_upstream_keep *k = *kp;

	if (k == NULL)
		return;
	*kp = NULL;
	HB_ASSERT(k->refs > 0);
	if (--k->refs == 0)
		k->ops->free_fn(k);
}

void
hb_filter_account_upstream(struct hb_filter *f, uint64_t sent, uint64_t received)
{
	struct hb_conn *c = hb_conn__of(f);

	c->upstream.sent += sent;
	c->upstream.received += received;
}

static struct hb_str
keep(struct hb_conn *c, struct hb_str s)
{
	return (s.len == 0 ? (struct hb_str){ NULL, 0 } : hb_arena_str(&c->facts.arena, s));
}

static struct hb_conn_names *
names_of(struct hb_conn *c, const struct hb_upstream_info *info)
{
	struct hb_conn_names *n = hb_arena_alloc(&c->facts.arena, sizeof *n);

	n->cluster = keep(c, info->cluster);
	n->endpoint_host = keep(c, info->endpoint_host);
	n->tls_peer = keep(c, info->tls_peer);
	n->failure = keep(c, info->failure);
	return (n);
}

void
hb_filter_set_upstream(struct hb_filter *f, const struct hb_upstream_info *info)
{
	struct hb_conn *c = hb_conn__of(f);
	struct hb_conn_upstream *u = &c->upstream;

	hb_conn__upstream_fini(c);
	c->flags |= HB_CF_UPSTREAM;
	u->kept = info->keep != NULL && info->failure.len == 0;
	if (u->kept) {
		u->keep = info->keep;
		u->keep->refs++;
	} else {
		u->names = names_of(c, info);
	}
	u->connect_ms = info->connect_ms;
	u->attempts = (uint16_t)HB_MIN(info->attempts, (uint32_t)UINT16_MAX);
	hb_addr_copy(&c->facts.arena, &u->endpoint, &info->endpoint);
	hb_addr_copy(&c->facts.arena, &u->local, &info->local);
}

void
hb_conn__upstream_info(const struct hb_conn *c, struct hb_upstream_info *ret)
{
	const struct hb_conn_upstream *u = &c->upstream;

	*ret = (struct hb_upstream_info){
		.endpoint = u->endpoint,
		.local = u->local,
		.connect_ms = u->connect_ms,
		.attempts = u->attempts,
	};
	if (u->kept) {
		u->keep->ops->names(u->keep, ret);
		return;
	}
	ret->cluster = u->names->cluster;
	ret->endpoint_host = u->names->endpoint_host;
	ret->tls_peer = u->names->tls_peer;
	ret->failure = u->names->failure;
}

struct hb_transport *
hb_conn_upstream(struct hb_conn *c, struct hb_text *authority)
{
	unsigned last = c->chain->n_filters - 1;
	const struct hb_filter_type *type = hb_conn__decl(c, last)->type;

	HB_CHECK(c, HB_CONN_MAGIC);
	if (type->upstream == NULL || !(c->flags & HB_CF_UPSTREAM) || (c->flags & HB_CF_CLOSING))
		return (NULL);
	return (type->upstream(&c->filter[last], authority));
}

void
hb_conn__upstream_fini(struct hb_conn *c)
{
	if (c->upstream.kept)
		hb_upstream_unkeep(&c->upstream.keep);
	c->upstream.kept = false;
}

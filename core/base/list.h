/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/base/list.h: intrusive doubly linked list. A node that is in no list points to itself, so
 * hb_list_del on it is harmless; initialise every node. Not thread safe.
 */
#ifndef HB_CORE_BASE_LIST_H
#define HB_CORE_BASE_LIST_H

#include "core/base/base.h"

struct hb_list {
	struct hb_list *next, *prev;
};

static inline void
hb_list_init(struct hb_list *l)
{
	l->next = l->prev = l;
}

static inline bool
hb_list_empty(const struct hb_list *l)
{
	return (l->next == l);
}

static inline bool
hb_list_linked(const struct hb_list *n)
{
	return (n->next != NULL && n->next != n);
}

static inline void
hb_list_add_tail(struct hb_list *l, struct hb_list *n)
{
	n->prev = l->prev;
	n->next = l;
	l->prev->next = n;
	l->prev = n;
}

static inline void
hb_list_add_head(struct hb_list *l, struct hb_list *n)
{
	hb_list_add_tail(l->next, n);
}

static inline void
hb_list_del(struct hb_list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	hb_list_init(n);
}

/* Moves all nodes of `from` to the tail of `to`; `from` is empty afterwards. */
static inline void
hb_list_splice(struct hb_list *to, struct hb_list *from)
{
	if (hb_list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	hb_list_init(from);
}

#define HB_LIST_ENTRY(n, type, member) HB_CONTAINER(n, type, member)
#define HB_LIST_FOREACH(n, l) for ((n) = (l)->next; (n) != (l); (n) = (n)->next)
/* Survives deletion of the current node, not of the next one. */
#define HB_LIST_FOREACH_SAFE(n, tmp, l) \
	for ((n) = (l)->next, (tmp) = (n)->next; (n) != (l); (n) = (tmp), (tmp) = (n)->next)

#endif

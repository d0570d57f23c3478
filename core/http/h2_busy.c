/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a stream has while it moves bytes or a header block arrives; an idle one has none of it. A few
 * that are not needed now are kept by the worker: a stream that is busy often asks for no memory.
 */
#include "core/http/h2_priv.h"

#define KEPT_MAX 16u

/* The session of the stream has made it. */
static inline struct h2_worker *
worker_of(const struct h2_stream *s)
{
	HB_ASSERT(s->base.worker->slot[HB_SLOT_HTTP] != NULL);
	return (s->base.worker->slot[HB_SLOT_HTTP]);
}

struct h2_busy *
hb_h2__busy_new(struct h2_stream *s)
{
	struct h2_worker *w = worker_of(s);
	struct h2_busy *b = w->kept;

	HB_ASSERT(s->busy == NULL);
	if (b != NULL) {
		w->kept = b->next;
		w->n_kept--;
	} else {
		b = hb_malloc(sizeof *b);
	}
	memset(b, 0, sizeof *b);
	b->stream = s;
	hb_list_init(&b->dirty);
	s->busy = b;
	return (b);
}

void
hb_h2__busy_keep(struct h2_stream *s)
{
	struct h2_worker *w = worker_of(s);
	struct h2_busy *b = s->busy;

	s->busy = NULL;
	if (w->n_kept == KEPT_MAX) {
		hb_free(b);
		return;
	}
	w->n_kept++;
	b->next = w->kept;
	w->kept = b;
}

void
hb_h2__busy_free(struct h2_stream *s)
{
	struct h2_busy *b = s->busy;

	if (b == NULL)
		return;
	hb_buf_fini(&b->rx);
	hb_buf_fini(&b->tx);
	hb_h2__fields_free(&b->fields);
	hb_list_del(&b->dirty);
	hb_h2__busy_keep(s);
}

void
hb_h2__busy_fini(struct h2_worker *w)
{
	struct h2_busy *b;

	while ((b = w->kept) != NULL) {
		w->kept = b->next;
		hb_free(b);
	}
}

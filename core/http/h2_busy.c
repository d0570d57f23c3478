/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a stream has while it moves bytes or a header block arrives; an idle one has none of it. The
 * worker has memory for a few, so a stream that is busy now and then does not ask the heap each time.
 */
#include "core/base/burst.h"
#include "core/http/h2_priv.h"

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
	struct h2_busy *b = w->spare;

	HB_ASSERT(s->busy == NULL);
	if (b != NULL)
		w->spare = b->next;
	else if (w->n_few < HB_ARRAY_LEN(w->few))
		b = &w->few[w->n_few++];
	else
		b = hb_burst_alloc(sizeof *b);
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
	if ((uintptr_t)b - (uintptr_t)w->few >= sizeof w->few) {
		hb_burst_free(b, sizeof *b);
		return;
	}
	b->next = w->spare;
	w->spare = b;
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

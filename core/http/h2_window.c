/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receive windows of streams that grow. A stream whose sink has taken a whole window without ever
 * making bytes wait gets one of twice the size; one whose bytes have to wait falls back by half.
 * What windows have grown is limited for the session, so that streams which stall all at once leave
 * room for the others below buffered_max.
 */
#include "core/http/h2_priv.h"

static size_t
grown_max(const struct hb_h2 *h2)
{
	return (h2->opt->buffered_max / 4 * 3);
}

/* Relative to what nghttp2 knows: before SETTINGS are acknowledged it counts with less. */
static void
change(struct h2_stream *s, int32_t by)
{
	struct hb_h2 *h2 = s->h2;
	int32_t now = nghttp2_session_get_stream_effective_local_window_size(h2->ng, s->id);

	if (now < 0 || (by > 0 && now > INT32_MAX - by) || (by < 0 && now < -by))
		return;
	if (nghttp2_session_set_local_window_size(h2->ng, NGHTTP2_FLAG_NONE, s->id, now + by) != 0)
		return;
	s->grown += (uint32_t)by;
	h2->grown += (size_t)(ssize_t)by;
}

void
hb_h2__window_taken(struct h2_stream *s, size_t n)
{
	struct hb_h2 *h2 = s->h2;
	size_t window = (size_t)h2->opt->stream_window + s->grown, more;

	HB_ASSERT(!s->over);
	s->held = false;
	if (window >= h2->opt->stream_window_max || s->rx_end)
		return;
	s->taken += (uint32_t)HB_MIN(n, window);
	if (s->taken < window)
		return;
	s->taken = 0;
	more = HB_MIN(window, h2->opt->stream_window_max - window);
	if (h2->grown + more <= grown_max(h2))
		change(s, (int32_t)more);
}

void
hb_h2__window_held(struct h2_stream *s)
{
	s->taken = 0;
	if (s->held || s->over || s->h2 == NULL)
		return;
	s->held = true;
	if (s->grown > 0)
		change(s, -(int32_t)((s->grown + 1) / 2));
}

void
hb_h2__window_gone(struct h2_stream *s)
{
	HB_ASSERT(s->h2->grown >= s->grown);
	s->h2->grown -= s->grown;
	s->grown = 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "test/core/http/h2_frames.h"

void
frame(struct hb_text *t, uint8_t type, uint8_t flags, uint32_t stream, const void *p, size_t n)
{
	uint8_t h[9] = { (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, type, flags,
		(uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8),
		(uint8_t)stream };

	hb_text_add(t, h, sizeof h);
	if (n > 0)
		hb_text_add(t, p, n);
}

void
field(struct hb_text *t, const char *name, const char *value)
{
	HB_ASSERT(strlen(name) < 127 && strlen(value) < 127);
	hb_text_addc(t, 0); /* literal, not indexed, RFC 7541 6.2.2 */
	hb_text_addc(t, (char)strlen(name));
	hb_text_addz(t, name);
	hb_text_addc(t, (char)strlen(value));
	hb_text_addz(t, value);
}

void
connect_headers(struct hb_text *t, uint32_t stream, uint8_t flags)
{
	struct hb_text block = { 0 };

	field(&block, ":method", "CONNECT");
	field(&block, ":authority", "10.0.0.1:80");
	frame(t, HEADERS, END_HEADERS | flags, stream, block.p, block.len);
	hb_text_fini(&block);
}

void
preface(struct hb_text *t)
{
	hb_text_add(t, PREFACE, 24);
	frame(t, SETTINGS, 0, 0, NULL, 0);
}

void
code_frame(struct hb_text *t, uint8_t type, uint32_t stream, uint32_t code)
{
	uint8_t p[4] = { (uint8_t)(code >> 24), (uint8_t)(code >> 16), (uint8_t)(code >> 8),
		(uint8_t)code };

	frame(t, type, 0, stream, p, sizeof p);
}

uint32_t
frame_u32(struct hb_str s, size_t off)
{
	const uint8_t *p = (const uint8_t *)s.p + off;

	HB_ASSERT(off + 4 <= s.len);
	return ((uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]);
}

/* The next frame at *off that is whole; false at the end. */
static bool
next(const struct hb_text *t, size_t *off, uint8_t *ret_type, uint32_t *ret_stream,
	struct hb_str *ret_payload)
{
	struct hb_str s = hb_strn(t->p, t->len);
	size_t len;

	if (*off + 9 > s.len)
		return (false);
	len = frame_u32(s, *off) >> 8;
	if (*off + 9 + len > s.len)
		return (false);
	*ret_type = (uint8_t)s.p[*off + 3];
	*ret_stream = frame_u32(s, *off + 5);
	*ret_payload = hb_strn(s.p + *off + 9, len);
	*off += 9 + len;
	return (true);
}

bool
frame_find(const struct hb_text *t, uint8_t type, uint32_t stream, struct hb_str *ret_payload)
{
	struct hb_str payload;
	uint32_t id;
	uint8_t is;

	for (size_t off = 0; next(t, &off, &is, &id, &payload);) {
		if (is == type && id == stream) {
			if (ret_payload != NULL)
				*ret_payload = payload;
			return (true);
		}
	}
	return (false);
}

unsigned
frame_lengths(const struct hb_text *t, uint8_t type, uint32_t stream, size_t *ret_len, unsigned max)
{
	struct hb_str payload;
	unsigned n = 0;
	uint32_t id;
	uint8_t is;

	for (size_t off = 0; next(t, &off, &is, &id, &payload);) {
		if (is != type || id != stream)
			continue;
		if (n < max)
			ret_len[n] = payload.len;
		n++;
	}
	return (n);
}

unsigned
frame_count(const struct hb_text *t, uint8_t type, uint32_t stream)
{
	return (frame_lengths(t, type, stream, NULL, 0));
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/core/http/h2_frames.h: HTTP/2 frames written and read by hand (RFC 9113 4.1), for peers that
 * do what no library would.
 */
#ifndef HB_TEST_CORE_HTTP_H2_FRAMES_H
#define HB_TEST_CORE_HTTP_H2_FRAMES_H

#include "core/base/str.h"

enum {
	DATA = 0,
	HEADERS = 1,
	PRIORITY = 2,
	RST_STREAM = 3,
	SETTINGS = 4,
	PING = 6,
	GOAWAY = 7,
	WINDOW_UPDATE = 8,
	CONTINUATION = 9,
};
#define END_STREAM  1u
#define ACK         1u
#define END_HEADERS 4u
#define PADDED      8u
#define PREFACE     "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* Each appends to the text. */
void frame(struct hb_text *, uint8_t type, uint8_t flags, uint32_t stream, const void *p, size_t n);
/* Literal, not indexed; name and value below 127 bytes. */
void field(struct hb_text *, const char *name, const char *value);
void connect_headers(struct hb_text *, uint32_t stream, uint8_t flags);
void preface(struct hb_text *);
/* RST_STREAM, WINDOW_UPDATE. */
void code_frame(struct hb_text *, uint8_t type, uint32_t stream, uint32_t code);
/* The first whole frame of this type and stream; the payload is borrowed from the text. */
bool frame_find(const struct hb_text *, uint8_t type, uint32_t stream, struct hb_str *ret_payload);
/* How many there are, and how long the payloads of the first `max` are. */
unsigned frame_lengths(const struct hb_text *, uint8_t type, uint32_t stream, size_t *ret_len, unsigned max);
/* How many there are. */
unsigned frame_count(const struct hb_text *, uint8_t type, uint32_t stream);
/* Big endian, at an offset of a payload. */
uint32_t frame_u32(struct hb_str payload, size_t off);

#endif

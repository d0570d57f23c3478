/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/base/pack.h: values in as few bytes as they need, for what is kept in large numbers. Numbers
 * are LEB128; those that are near to another one are written as the distance from it.
 *
 * A writer and a reader go through the same values in the same order; both know the references
 * before the first value that needs one. The writer's memory must be large enough, the reader's
 * bytes come from a writer of the same process: both are asserted, never answered.
 */
#ifndef HB_CORE_BASE_PACK_H
#define HB_CORE_BASE_PACK_H

#include "core/base/str.h"

struct hb_pack {
	uint8_t *at, *end;  /* borrowed                                    */
	uintptr_t near;     /* of pointers: anything on the same heap      */
	uint64_t  ref_ms;   /* of times                                    */
	uint64_t  ref[2];   /* of byte counters                            */
};

struct hb_unpack {
	const uint8_t *at, *end;
	uintptr_t near;
	uint64_t  ref_ms, ref[2];
};

static inline void
hb_pack_byte(struct hb_pack *p, uint8_t b)
{
	HB_ASSERT(p->at < p->end);
	*p->at++ = b;
}

static inline uint8_t
hb_unpack_byte(struct hb_unpack *u)
{
	HB_ASSERT(u->at < u->end);
	return (*u->at++);
}

static inline void
hb_pack_u64(struct hb_pack *p, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		hb_pack_byte(p, (uint8_t)(v | 0x80));
	hb_pack_byte(p, (uint8_t)v);
}

static inline uint64_t
hb_unpack_u64(struct hb_unpack *u)
{
	uint64_t v = 0;
	unsigned shift = 0;
	uint8_t b;

	do {
		HB_ASSERT(shift < 64);
		b = hb_unpack_byte(u);
		v |= (uint64_t)(b & 0x7f) << shift;
		shift += 7;
	} while (b & 0x80);
	return (v);
}

/* By its distance from `ref`, in either direction; wraps around. */
static inline void
hb_pack_near(struct hb_pack *p, uint64_t v, uint64_t ref)
{
	uint64_t d = v - ref;

	hb_pack_u64(p, d << 1 ^ (0 - (d >> 63)));
}

static inline uint64_t
hb_unpack_near(struct hb_unpack *u, uint64_t ref)
{
	uint64_t z = hb_unpack_u64(u);

	return (ref + (z >> 1 ^ (0 - (z & 1))));
}

static inline void
hb_pack_ms(struct hb_pack *p, uint64_t ms)
{
	hb_pack_near(p, ms, p->ref_ms);
}

static inline uint64_t
hb_unpack_ms(struct hb_unpack *u)
{
	return (hb_unpack_near(u, u->ref_ms));
}

/* A counter of the bytes that go one of two ways. */
static inline void
hb_pack_count(struct hb_pack *p, uint64_t n, unsigned way)
{
	hb_pack_near(p, n, p->ref[way]);
}

static inline uint64_t
hb_unpack_count(struct hb_unpack *u, unsigned way)
{
	return (hb_unpack_near(u, u->ref[way]));
}

static inline void
hb_pack_ptr(struct hb_pack *p, const void *ptr)
{
	hb_pack_near(p, (uintptr_t)ptr, p->near);
}

static inline void *
hb_unpack_ptr(struct hb_unpack *u)
{
	return ((void *)(uintptr_t)hb_unpack_near(u, u->near));
}

static inline void
hb_pack_bytes(struct hb_pack *p, const void *from, size_t n)
{
	HB_ASSERT((size_t)(p->end - p->at) >= n);
	if (n > 0)
		memcpy(p->at, from, n);
	p->at += n;
}

/* Borrowed from the packed bytes. */
static inline const void *
hb_unpack_bytes(struct hb_unpack *u, size_t n)
{
	const uint8_t *from = u->at;

	HB_ASSERT((size_t)(u->end - u->at) >= n);
	u->at += n;
	return (from);
}

/* Keeps NULL and "" apart. What is unpacked is borrowed, and not terminated. */
static inline void
hb_pack_str(struct hb_pack *p, struct hb_str s)
{
	hb_pack_u64(p, s.p == NULL ? 0 : s.len + 1);
	if (s.p != NULL)
		hb_pack_bytes(p, s.p, s.len);
}

static inline struct hb_str
hb_unpack_str(struct hb_unpack *u)
{
	uint64_t n = hb_unpack_u64(u);

	if (n == 0)
		return ((struct hb_str){ NULL, 0 });
	return (hb_strn(hb_unpack_bytes(u, n - 1), n - 1));
}

#endif

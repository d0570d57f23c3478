/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/crypto/gcm_vec_priv.h: a vector of HB_GCM_LANES blocks of 16 bytes (2 or 4), for gcm_bulk.c.
 *
 * `vec` is the type; besides ^ there is what follows. Lane 0 is the block with the lowest address.
 * Everything works on each lane for itself.
 */
#ifndef HB_CORE_CRYPTO_GCM_VEC_PRIV_H
#define HB_CORE_CRYPTO_GCM_VEC_PRIV_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

/* A function that is not inlined would pass vectors through memory. */
#define GCM_INLINE static inline __attribute__((always_inline))

GCM_INLINE __m128i
block_load(const void *p)
{
	return (_mm_loadu_si128((const __m128i *)p));
}

GCM_INLINE void
block_store(void *p, __m128i block)
{
	_mm_storeu_si128((__m128i *)p, block);
}

#if HB_GCM_LANES == 2

typedef __m256i vec;

#define vec_all          _mm256_broadcastsi128_si256 /* the same block in every lane */
#define vec_one          _mm256_zextsi128_si256      /* a block in lane 0, zeros in the others */
#define vec_first        _mm256_castsi256_si128      /* the block of lane 0 */
#define vec_add32        _mm256_add_epi32
#define vec_shuffle      _mm256_shuffle_epi8
#define vec_aes          _mm256_aesenc_epi128
#define vec_aes_last     _mm256_aesenclast_epi128
#define vec_clmul(a, b, which) _mm256_clmulepi64_epi128(a, b, which)
#define vec_swap(v)      _mm256_shuffle_epi32(v, 0x4e) /* the two halves of each block */

GCM_INLINE vec
vec_load(const uint8_t *p)
{
	return (_mm256_loadu_si256((const __m256i *)(const void *)p));
}

GCM_INLINE void
vec_store(uint8_t *p, vec v)
{
	_mm256_storeu_si256((__m256i *)(void *)p, v);
}

/* The sum (xor) of all lanes. */
GCM_INLINE __m128i
vec_sum(vec v)
{
	return (vec_first(v) ^ _mm256_extracti128_si256(v, 1));
}

/* 0, 1, … in the lowest 32 bits of the lanes. */
GCM_INLINE vec
vec_numbers(void)
{
	return (_mm256_set_epi32(0, 0, 0, 1, 0, 0, 0, 0));
}

#else

typedef __m512i vec;

#define vec_all          _mm512_broadcast_i32x4
#define vec_one          _mm512_zextsi128_si512
#define vec_first        _mm512_castsi512_si128
#define vec_add32        _mm512_add_epi32
#define vec_shuffle      _mm512_shuffle_epi8
#define vec_aes          _mm512_aesenc_epi128
#define vec_aes_last     _mm512_aesenclast_epi128
#define vec_clmul(a, b, which) _mm512_clmulepi64_epi128(a, b, which)
#define vec_swap(v)      _mm512_shuffle_epi32(v, 0x4e)

GCM_INLINE vec
vec_load(const uint8_t *p)
{
	return (_mm512_loadu_si512(p));
}

GCM_INLINE void
vec_store(uint8_t *p, vec v)
{
	_mm512_storeu_si512(p, v);
}

GCM_INLINE __m128i
vec_sum(vec v)
{
	__m256i half = _mm512_castsi512_si256(v) ^ _mm512_extracti64x4_epi64(v, 1);

	return (_mm256_castsi256_si128(half) ^ _mm256_extracti128_si256(half, 1));
}

GCM_INLINE vec
vec_numbers(void)
{
	return (_mm512_set_epi32(0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0));
}

#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups of four vectors: the AES rounds of one group and the GHASH of a group whose ciphertext is
 * known run side by side, because each alone leaves the CPU waiting for results. Decryption hashes
 * the group that it decrypts, encryption the one before.
 *
 * GHASH: with n blocks in a group and Y the hash so far, Y' = (Y ^ B1) H^n ^ B2 H^(n-1) ^ … ^ Bn H.
 * The products are added up unreduced (Karatsuba: three multiplications each) and reduced once.
 * Numbers are byte-reversed blocks, bits reflected; the table's powers carry a factor x that takes
 * the place of shifting each product by one bit.
 */
#if defined(__x86_64__)

#include "core/crypto/gcm_priv.h"
#include "core/crypto/gcm_vec_priv.h"

enum {
	VEC_BYTES = 16 * HB_GCM_LANES,
	GROUP_BLOCKS = 4 * HB_GCM_LANES,
	GROUP_BYTES = HB_GCM_GROUP(HB_GCM_LANES),
	TABLE_OFFSET = 32, /* from the running hash to the table of powers */
	ROUNDS_MIN = 9,    /* rounds between the first key and the last, AES-128; AES-256 has 13 */
};

/* No array: gcc keeps arrays in memory at -O2. */
struct four {
	vec a, b, c, d;
};

struct gcm {
	struct four power; /* for the blocks of a group, highest power first */
	struct four fold;  /* the xored halves of each, twice */
	vec counter;       /* next counter blocks of vector a, byte-reversed */
	vec hash;          /* running hash in lane 0, zeros in the others */
	const uint8_t *keys;
	unsigned more_rounds; /* beyond ROUNDS_MIN */
};

/* A sum of products, unreduced: lo + (mid + lo + hi) x^64 + hi x^128. */
struct sum {
	vec lo, mid, hi;
};

GCM_INLINE __m128i
reverse_mask(void)
{
	return (_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

GCM_INLINE vec
reversed(vec v)
{
	return (vec_shuffle(v, vec_all(reverse_mask())));
}

GCM_INLINE struct sum
product(vec x, vec power, vec fold)
{
	struct sum s;

	s.lo = vec_clmul(x, power, 0x00);
	s.hi = vec_clmul(x, power, 0x11);
	s.mid = vec_clmul(x ^ vec_swap(x), fold, 0x00);
	return (s);
}

GCM_INLINE void
add_product(struct sum *s, vec x, vec power, vec fold)
{
	struct sum p = product(x, power, fold);

	s->lo ^= p.lo;
	s->mid ^= p.mid;
	s->hi ^= p.hi;
}

/* Modulo x^128 + x^7 + x^2 + x + 1, reflected: twice the lowest 64 bits are folded upwards. */
GCM_INLINE vec
reduced(const struct sum *s)
{
	vec poly = vec_all(_mm_set_epi64x((long long)0xc200000000000000, 0));
	vec mid = s->mid ^ s->lo ^ s->hi;

	mid ^= vec_swap(s->lo) ^ vec_clmul(s->lo, poly, 0x10);
	return (s->hi ^ vec_swap(mid) ^ vec_clmul(mid, poly, 0x10));
}

GCM_INLINE vec
folded(vec v)
{
	return (v ^ vec_swap(v));
}

/* The vector of powers whose lowest is H^n (n odd), highest power in lane 0. */
GCM_INLINE vec
load_powers(const uint8_t *table, int n)
{
	const uint8_t *low = table + 48 * (n / 2);
	__m256i v = _mm256_set_m128i(block_load(low), block_load(low + 16));

#if HB_GCM_LANES == 2
	return (v);
#else
	__m256i high = _mm256_set_m128i(block_load(low + 48), block_load(low + 64));

	return (_mm512_inserti64x4(_mm512_castsi256_si512(high), v, 1));
#endif
}

GCM_INLINE void
setup(struct gcm *g, const AES_KEY *key, const uint8_t ivec[16], const uint64_t *hash)
{
	const uint8_t *table = (const uint8_t *)hash + TABLE_OFFSET;

#if HB_GCM_LANES == 2
	g->power.a = load_powers(table, 7);
	g->power.b = load_powers(table, 5);
	g->power.c = load_powers(table, 3);
	g->power.d = load_powers(table, 1);
#else
	/* The table ends at H^8: the upper half of the powers is the lower one times H^8. */
	vec h8 = vec_all(block_load(table + 160));
	struct sum s;

	g->power.c = load_powers(table, 5);
	g->power.d = load_powers(table, 1);
	s = product(g->power.c, h8, folded(h8));
	g->power.a = reduced(&s);
	s = product(g->power.d, h8, folded(h8));
	g->power.b = reduced(&s);
#endif
	g->fold.a = folded(g->power.a);
	g->fold.b = folded(g->power.b);
	g->fold.c = folded(g->power.c);
	g->fold.d = folded(g->power.d);
	g->hash = vec_one(_mm_shuffle_epi8(block_load(hash), reverse_mask()));
	g->counter = vec_all(_mm_shuffle_epi8(block_load(ivec), reverse_mask()));
	g->counter = vec_add32(g->counter, vec_numbers());
	g->keys = (const uint8_t *)key->rd_key;
	g->more_rounds = key->rounds - ROUNDS_MIN;
}

GCM_INLINE void
finish(const struct gcm *g, uint8_t ivec[16], uint64_t *hash)
{
	block_store(ivec, vec_first(reversed(g->counter)));
	block_store(hash, vec_first(reversed(g->hash)));
}

GCM_INLINE vec
counter_block(const struct gcm *g, int vector, vec key)
{
	vec step = vec_all(_mm_set_epi32(0, 0, 0, vector * HB_GCM_LANES));

	return (reversed(vec_add32(g->counter, step)) ^ key);
}

GCM_INLINE void
aes_round(struct four *x, const uint8_t *key)
{
	vec k = vec_all(block_load(key));

	x->a = vec_aes(x->a, k);
	x->b = vec_aes(x->b, k);
	x->c = vec_aes(x->c, k);
	x->d = vec_aes(x->d, k);
}

/* A group's counter blocks, and the rounds that only long keys have. Returns the last key used. */
GCM_INLINE const uint8_t *
aes_begin(struct gcm *g, struct four *x)
{
	const uint8_t *key = g->keys;
	vec k = vec_all(block_load(key));

	x->a = counter_block(g, 0, k);
	x->b = counter_block(g, 1, k);
	x->c = counter_block(g, 2, k);
	x->d = counter_block(g, 3, k);
	g->counter = vec_add32(g->counter, vec_all(_mm_set_epi32(0, 0, 0, GROUP_BLOCKS)));
	for (unsigned i = 0; i < g->more_rounds; i++) {
		key += 16;
		aes_round(x, key);
	}
	return (key);
}

/* The last round, and the key stream onto the text: the text is xored into the last key. */
GCM_INLINE void
aes_end(struct four *x, const uint8_t *key, const uint8_t *in, uint8_t *out)
{
	vec k = vec_all(block_load(key));

	x->a = vec_aes_last(x->a, k ^ vec_load(in));
	x->b = vec_aes_last(x->b, k ^ vec_load(in + VEC_BYTES));
	x->c = vec_aes_last(x->c, k ^ vec_load(in + 2 * VEC_BYTES));
	x->d = vec_aes_last(x->d, k ^ vec_load(in + 3 * VEC_BYTES));
	vec_store(out, x->a);
	vec_store(out + VEC_BYTES, x->b);
	vec_store(out + 2 * VEC_BYTES, x->c);
	vec_store(out + 3 * VEC_BYTES, x->d);
}

/* One group, hashing `ciphertext` meanwhile: all of it is read before anything is written. */
GCM_INLINE void
crypt_and_hash(struct gcm *g, const uint8_t *in, uint8_t *out, const uint8_t *ciphertext)
{
	struct four x;
	struct sum s;
	const uint8_t *key = aes_begin(g, &x);

	aes_round(&x, key + 16);
	s = product(reversed(vec_load(ciphertext + 3 * VEC_BYTES)), g->power.d, g->fold.d);
	aes_round(&x, key + 32);
	add_product(&s, reversed(vec_load(ciphertext + 2 * VEC_BYTES)), g->power.c, g->fold.c);
	aes_round(&x, key + 48);
	add_product(&s, reversed(vec_load(ciphertext + VEC_BYTES)), g->power.b, g->fold.b);
	aes_round(&x, key + 64);
	/* The one that needs the hash of the group before comes last. */
	add_product(&s, reversed(vec_load(ciphertext)) ^ g->hash, g->power.a, g->fold.a);
	aes_round(&x, key + 80);
	aes_round(&x, key + 96);
	aes_round(&x, key + 112);
	g->hash = vec_one(vec_sum(reduced(&s)));
	aes_round(&x, key + 128);
	aes_round(&x, key + 144);
	aes_end(&x, key + 160, in, out);
}

GCM_INLINE void
crypt_only(struct gcm *g, const uint8_t *in, uint8_t *out)
{
	struct four x;
	const uint8_t *key = aes_begin(g, &x);

	for (int i = 1; i <= ROUNDS_MIN; i++)
		aes_round(&x, key + 16 * i);
	aes_end(&x, key + 16 * (ROUNDS_MIN + 1), in, out);
}

GCM_INLINE void
hash_only(struct gcm *g, const uint8_t *ciphertext)
{
	struct sum s;

	s = product(reversed(vec_load(ciphertext)) ^ g->hash, g->power.a, g->fold.a);
	add_product(&s, reversed(vec_load(ciphertext + VEC_BYTES)), g->power.b, g->fold.b);
	add_product(&s, reversed(vec_load(ciphertext + 2 * VEC_BYTES)), g->power.c, g->fold.c);
	add_product(&s, reversed(vec_load(ciphertext + 3 * VEC_BYTES)), g->power.d, g->fold.d);
	g->hash = vec_one(vec_sum(reduced(&s)));
}

#if HB_GCM_LANES == 2
#define NAME(what) hb_gcm_256_##what
#else
#define NAME(what) hb_gcm_512_##what
#endif

size_t
NAME(encrypt)(const uint8_t *in, uint8_t *out, size_t len, const AES_KEY *key, uint8_t ivec[16],
	uint64_t *hash)
{
	size_t bytes = len - len % GROUP_BYTES;
	struct gcm g;

	if (bytes == 0)
		return (0);
	setup(&g, key, ivec, hash);
	crypt_only(&g, in, out);
	for (size_t i = GROUP_BYTES; i < bytes; i += GROUP_BYTES)
		crypt_and_hash(&g, in + i, out + i, out + i - GROUP_BYTES);
	hash_only(&g, out + bytes - GROUP_BYTES);
	finish(&g, ivec, hash);
	return (bytes);
}

size_t
NAME(decrypt)(const uint8_t *in, uint8_t *out, size_t len, const AES_KEY *key, uint8_t ivec[16],
	uint64_t *hash)
{
	size_t bytes = len - len % GROUP_BYTES;
	struct gcm g;

	if (bytes == 0)
		return (0);
	setup(&g, key, ivec, hash);
	for (size_t i = 0; i < bytes; i += GROUP_BYTES)
		crypt_and_hash(&g, in + i, out + i, in + i);
	finish(&g, ivec, hash);
	return (bytes);
}

#endif

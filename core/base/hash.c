/* SPDX-License-Identifier: Apache-2.0 */
/* Hashing and random numbers of str.h. */
#include "core/base/str.h"

#include <endian.h>
#include <errno.h>
#include <sys/random.h>

static uint64_t hash_key[2];

static _Thread_local uint64_t random_state[4];
static _Thread_local bool random_seeded;

static void kernel_random(void *p, size_t n)
{
	ssize_t r;

	do {
		r = getrandom(p, n, 0);
	} while (r < 0 && errno == EINTR);
	/* Up to 256 bytes come at once or not at all. */
	HB_ASSERT(n <= 256 && r == (ssize_t)n);
}

/* Before main() and any thread, so that hb_hash needs no check. */
static void __attribute__((constructor)) hash_key_init(void)
{
	kernel_random(hash_key, sizeof hash_key);
}

static inline uint64_t rotl(uint64_t v, unsigned n)
{
	return ((v << n) | (v >> (64 - n)));
}

static inline uint64_t read64(const unsigned char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
	return (le64toh(v));
}

static inline uint32_t read32(const unsigned char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return (le32toh(v));
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] = rotl(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] = rotl(v[2], 32);
}

/* SipHash-1-3 (Aumasson and Bernstein): keyed, and short enough for short keys. */
uint64_t hb_hash(const void *p, size_t n)
{
	const unsigned char *s = p, *end = s + (n & ~(size_t)7);
	uint64_t last = (uint64_t)n << 56;
	uint64_t v[4] = {
		hash_key[0] ^ 0x736f6d6570736575,
		hash_key[1] ^ 0x646f72616e646f6d,
		hash_key[0] ^ 0x6c7967656e657261,
		hash_key[1] ^ 0x7465646279746573,
	};

	for (; s != end; s += 8) {
		uint64_t m = read64(s);

		v[3] ^= m;
		sip_round(v);
		v[0] ^= m;
	}
	for (unsigned i = 0; i < (n & 7); i++)
		last |= (uint64_t)s[i] << (8 * i);
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (unsigned i = 0; i < 3; i++)
		sip_round(v);
	return (v[0] ^ v[1] ^ v[2] ^ v[3]);
}

#define XXH_P1 0x9e3779b185ebca87u
#define XXH_P2 0xc2b2ae3d27d4eb4fu
#define XXH_P3 0x165667b19e3779f9u
#define XXH_P4 0x85ebca77c2b2ae63u
#define XXH_P5 0x27d4eb2f165667c5u

static inline uint64_t xxh_round(uint64_t acc, uint64_t in)
{
	return (rotl(acc + in * XXH_P2, 31) * XXH_P1);
}

static uint64_t xxh_stripes(const unsigned char **s, const unsigned char *end)
{
	uint64_t acc[4] = { XXH_P1 + XXH_P2, XXH_P2, 0, (uint64_t)0 - XXH_P1 }, h;

	for (; end - *s >= 32; *s += 32) {
		for (unsigned i = 0; i < 4; i++)
			acc[i] = xxh_round(acc[i], read64(*s + (size_t)8 * i));
	}
	h = rotl(acc[0], 1) + rotl(acc[1], 7) + rotl(acc[2], 12) + rotl(acc[3], 18);
	for (unsigned i = 0; i < 4; i++)
		h = (h ^ xxh_round(0, acc[i])) * XXH_P1 + XXH_P4;
	return (h);
}

/* XXH64 with seed 0, the function of Envoy's ring hash: rings of both can be compared. */
uint64_t hb_hash_stable(const void *p, size_t n)
{
	const unsigned char *s = p, *end = s + n;
	uint64_t h = n >= 32 ? xxh_stripes(&s, end) : XXH_P5;

	h += n;
	for (; end - s >= 8; s += 8)
		h = rotl(h ^ xxh_round(0, read64(s)), 27) * XXH_P1 + XXH_P4;
	if (end - s >= 4) {
		h = rotl(h ^ (read32(s) * XXH_P1), 23) * XXH_P2 + XXH_P3;
		s += 4;
	}
	for (; s != end; s++)
		h = rotl(h ^ (*s * XXH_P5), 11) * XXH_P1;
	h = (h ^ (h >> 33)) * XXH_P2;
	h = (h ^ (h >> 29)) * XXH_P3;
	return (h ^ (h >> 32));
}

/* xoshiro256** (Blackman and Vigna). */
uint64_t hb_random(void)
{
	uint64_t *s = random_state, r, t;

	if (HB_UNLIKELY(!random_seeded)) {
		kernel_random(random_state, sizeof random_state);
		random_seeded = true;
	}
	r = rotl(s[1] * 5, 7) * 9;
	t = s[1] << 17;
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return (r);
}

void hb_random_seed(uint64_t seed)
{
	/* splitmix64 spreads the seed over the state, which must not be all zero. */
	for (unsigned i = 0; i < 4; i++) {
		uint64_t z = (seed += 0x9e3779b97f4a7c15);

		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
		z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
		random_state[i] = z ^ (z >> 31);
	}
	random_seeded = true;
}

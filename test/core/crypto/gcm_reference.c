/* SPDX-License-Identifier: Apache-2.0 */
#include "test/core/crypto/gcm_reference.h"

#include <string.h>

#include <openssl/aes.h>

#include "core/base/base.h"

/* BoringSSL's, from ghash-x86_64.S: the table as its aesni_gcm_encrypt wants it. */
void gcm_init_avx(uint8_t table[16][16], const uint64_t h[2]);

static uint64_t
load_big_endian(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v = v << 8 | p[i];
	return (v);
}

void
gcm_state_init(struct gcm_state *state, const uint8_t *key, size_t key_len)
{
	uint64_t h[2];

	memset(state, 0, sizeof(*state));
	HB_ASSERT(AES_set_encrypt_key(key, (unsigned)key_len * 8, &state->key) == 0);
	AES_encrypt(state->h, state->h, &state->key);
	h[0] = load_big_endian(state->h);
	h[1] = load_big_endian(state->h + 8);
	gcm_init_avx(state->table, h);
}

/* hash = (hash ^ block) * H: SP 800-38D, algorithm 1. The first bit of a block is its highest. */
static void
ghash_block(struct gcm_state *state, const uint8_t block[16])
{
	const uint8_t *hash = (const uint8_t *)state->hash;
	uint64_t x[2], v[2], z[2] = { 0, 0 };

	for (int i = 0; i < 2; i++) {
		x[i] = load_big_endian(hash + 8 * i) ^ load_big_endian(block + 8 * i);
		v[i] = load_big_endian(state->h + 8 * i);
	}
	for (int bit = 0; bit < 128; bit++) {
		uint64_t take = 0 - (x[bit / 64] >> (63 - bit % 64) & 1);
		uint64_t reduce = 0 - (v[1] & 1);

		z[0] ^= v[0] & take;
		z[1] ^= v[1] & take;
		v[1] = v[1] >> 1 | v[0] << 63;
		v[0] = v[0] >> 1 ^ (reduce & 0xe1ULL << 56);
	}
	for (int i = 0; i < 16; i++)
		((uint8_t *)state->hash)[i] = (uint8_t)(z[i / 8] >> (56 - 8 * (i % 8)));
}

static void
crypt_block(struct gcm_state *state, const uint8_t *in, uint8_t *out)
{
	uint8_t stream[16];

	AES_encrypt(state->ivec, stream, &state->key);
	for (int i = 0; i < 16; i++)
		out[i] = in[i] ^ stream[i];
	for (int i = 15; i >= 12 && ++state->ivec[i] == 0; i--)
		continue;
}

void
gcm_reference_encrypt(struct gcm_state *state, const uint8_t *in, uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len; i += 16) {
		crypt_block(state, in + i, out + i);
		ghash_block(state, out + i);
	}
}

void
gcm_reference_decrypt(struct gcm_state *state, const uint8_t *in, uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len; i += 16) {
		ghash_block(state, in + i);
		crypt_block(state, in + i, out + i);
	}
}

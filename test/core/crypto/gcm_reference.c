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
	return v;
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
	uint8_t x[16], v[16], z[16] = { 0 };

	memcpy(x, state->hash, 16);
	memcpy(v, state->h, 16);
	for (int i = 0; i < 16; i++)
		x[i] ^= block[i];
	for (int bit = 0; bit < 128; bit++) {
		int odd = v[15] & 1;

		if (x[bit / 8] & (0x80 >> bit % 8)) {
			for (int i = 0; i < 16; i++)
				z[i] ^= v[i];
		}
		for (int i = 15; i > 0; i--)
			v[i] = (uint8_t)(v[i] >> 1 | v[i - 1] << 7);
		v[0] = (uint8_t)(v[0] >> 1 ^ (odd ? 0xe1 : 0));
	}
	memcpy(state->hash, z, 16);
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

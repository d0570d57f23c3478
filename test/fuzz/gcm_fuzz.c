/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AES-GCM's bulk routines: each implementation of this CPU against the slow reference, and a whole
 * message sealed by one, spoilt or not, opened by the others.
 *
 * Input: key size, shift of the buffers (a byte each), length of the text (two bytes,
 * little-endian), counter block (16), hash so far (16), key (32), and the text, repeated until it
 * is long enough.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/aead.h>

#include "core/base/base.h"
#include "core/crypto/gcm.h"
#include "test/core/crypto/gcm_reference.h"

enum {
	HEAD = 4 + 16 + 16 + 32,
	TEXT_MAX = 6000,
	TAG = 16,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* `shift` bytes and then `len`, and not one more, so that a sanitizer sees a read past the end. */
static uint8_t *
copy(const uint8_t *from, size_t shift, size_t len)
{
	uint8_t *p = hb_malloc(shift + len + (shift + len == 0));

	memcpy(p + shift, from, len);
	return (p);
}

static void
bulk(const struct hb_gcm *gcm, const struct gcm_state *start, const uint8_t *text, size_t len,
	size_t shift)
{
	struct gcm_state ours = *start, theirs = *start;
	uint8_t *in = copy(text, shift, len), *out = copy(text, shift / 2, len);
	uint8_t *expected = copy(text, 0, len);
	size_t n = gcm->encrypt(in + shift, out + shift / 2, len, &ours.key, ours.ivec, ours.hash);

	HB_ASSERT(n <= len && n % 16 == 0);
	gcm_reference_encrypt(&theirs, text, expected, n);
	HB_ASSERT(memcmp(out + shift / 2, expected, len) == 0);
	HB_ASSERT(memcmp(&ours, &theirs, sizeof(ours)) == 0);

	ours = theirs = *start;
	n = gcm->decrypt(in + shift, in + shift, len, &ours.key, ours.ivec, ours.hash);
	HB_ASSERT(n <= len && n % 16 == 0);
	memcpy(expected, text, len);
	gcm_reference_decrypt(&theirs, text, expected, n);
	HB_ASSERT(memcmp(in + shift, expected, len) == 0);
	HB_ASSERT(memcmp(&ours, &theirs, sizeof(ours)) == 0);
	free(in);
	free(out);
	free(expected);
}

/* The head of the input serves as nonce, AAD and place to spoil. */
static void
message(const struct hb_gcm *gcm, const uint8_t *head, const EVP_AEAD_CTX *ctx, const uint8_t *text,
	size_t len)
{
	size_t sealed, opened, spoilt = (head[20] | (size_t)head[21] << 8) % (len + TAG);
	uint8_t *out = copy(text, TAG, len), *back = copy(text, TAG, len);

	hb_gcm_use(gcm);
	HB_ASSERT(EVP_AEAD_CTX_seal(
		ctx, out, &sealed, len + TAG, head + 4, 12, text, len, head + 20, head[0] % 17));
	HB_ASSERT(sealed == len + TAG);
	for (int w = 0; w < HB_GCM_WIDTHS; w++) {
		if (hb_gcm_get((enum hb_gcm_width)w) == NULL)
			continue;
		hb_gcm_use(hb_gcm_get((enum hb_gcm_width)w));
		HB_ASSERT(EVP_AEAD_CTX_open(ctx, back, &opened, sealed, head + 4, 12, out, sealed,
			head + 20, head[0] % 17));
		HB_ASSERT(opened == len && memcmp(back, text, len) == 0);
		out[spoilt] ^= 1;
		HB_ASSERT(!EVP_AEAD_CTX_open(ctx, back, &opened, sealed, head + 4, 12, out, sealed,
			head + 20, head[0] % 17));
		out[spoilt] ^= 1;
	}
	hb_gcm_use(NULL);
	free(out);
	free(back);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const EVP_AEAD *aead[] = { EVP_aead_aes_128_gcm(), EVP_aead_aes_192_gcm(),
		EVP_aead_aes_256_gcm() };
	static uint8_t text[TEXT_MAX];
	struct gcm_state state;
	EVP_AEAD_CTX ctx;
	size_t key_len, len;

	if (size < HEAD)
		return (0);
	key_len = EVP_AEAD_key_length(aead[data[0] % 3]);
	len = (data[2] | (size_t)data[3] << 8) % TEXT_MAX;
	for (size_t i = 0; i < len; i++)
		text[i] = size > HEAD ? data[HEAD + i % (size - HEAD)] : 0;
	gcm_state_init(&state, data + 36, key_len);
	memcpy(state.ivec, data + 4, 16);
	memcpy(state.hash, data + 20, 16);
	HB_ASSERT(EVP_AEAD_CTX_init(&ctx, aead[data[0] % 3], data + 36, key_len, TAG, NULL));
	for (int w = 0; w < HB_GCM_WIDTHS; w++) {
		const struct hb_gcm *gcm = hb_gcm_get((enum hb_gcm_width)w);

		if (gcm == NULL)
			continue;
		bulk(gcm, &state, text, len, data[1] % 64);
		message(gcm, data, &ctx, text, len);
	}
	EVP_AEAD_CTX_cleanup(&ctx);
	return (0);
}

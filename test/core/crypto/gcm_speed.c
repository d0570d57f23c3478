/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast each implementation seals and opens, through EVP_AEAD as TLS does it:
 *
 *     bazel run //test/core/crypto:gcm_speed
 *
 * Prints GB/s for AES-128-GCM and AES-256-GCM; the best of some rounds, in turn, because other work
 * on the machine only ever takes away.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/aead.h>

#include "core/base/base.h"
#include "core/crypto/gcm.h"

enum {
	ROUNDS = 7,
	SIZE_MAX_BYTES = 16384,
	TAG = 16,
};

static uint8_t text[SIZE_MAX_BYTES], sealed[SIZE_MAX_BYTES + TAG], back[SIZE_MAX_BYTES + TAG];

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ((double)t.tv_sec + 1e-9 * (double)t.tv_nsec);
}

static double
measure(const EVP_AEAD_CTX *ctx, size_t size, bool open)
{
	static const uint8_t nonce[12], aad[5];
	int times = (int)(20000000 / (size + 300));
	double start;
	size_t n, m;

	HB_ASSERT(EVP_AEAD_CTX_seal(ctx, sealed, &n, size + TAG, nonce, 12, text, size, aad, 5));
	start = now();
	for (int i = 0; i < times; i++) {
		if (open)
			HB_ASSERT(
				EVP_AEAD_CTX_open(ctx, back, &m, n, nonce, 12, sealed, n, aad, 5));
		else
			HB_ASSERT(EVP_AEAD_CTX_seal(
				ctx, sealed, &n, size + TAG, nonce, 12, text, size, aad, 5));
	}
	return ((double)times * (double)size / (now() - start) / 1e9);
}

static void
row(const EVP_AEAD_CTX *ctx, int bits, size_t size)
{
	double best[HB_GCM_WIDTHS][2] = { 0 };

	for (int round = 0; round < ROUNDS; round++) {
		for (int w = 0; w < HB_GCM_WIDTHS; w++) {
			if (hb_gcm_get((enum hb_gcm_width)w) == NULL)
				continue;
			hb_gcm_use(hb_gcm_get((enum hb_gcm_width)w));
			for (int open = 0; open < 2; open++) {
				double speed = measure(ctx, size, open != 0);

				best[w][open] = HB_MAX(best[w][open], speed);
			}
		}
	}
	printf("AES-%d-GCM %6zu bytes", bits, size);
	for (int w = 0; w < HB_GCM_WIDTHS; w++) {
		if (hb_gcm_get((enum hb_gcm_width)w) != NULL)
			printf("   %s %5.2f / %5.2f", hb_gcm_get((enum hb_gcm_width)w)->name,
				best[w][0], best[w][1]);
	}
	printf("\n");
	fflush(stdout);
}

int
main(void)
{
	static const size_t sizes[] = { 64, 256, 512, 1350, 4096, 8192, 16384 };
	static const uint8_t key[32];

	printf("GB/s, seal / open\n");
	for (int bits = 128; bits <= 256; bits += 128) {
		EVP_AEAD_CTX ctx;

		HB_ASSERT(EVP_AEAD_CTX_init(&ctx,
			bits == 128 ? EVP_aead_aes_128_gcm() : EVP_aead_aes_256_gcm(), key,
			(size_t)bits / 8, TAG, NULL));
		for (size_t i = 0; i < HB_ARRAY_LEN(sizes); i++)
			row(&ctx, bits, sizes[i]);
		EVP_AEAD_CTX_cleanup(&ctx);
	}
	return (0);
}

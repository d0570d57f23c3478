/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/core/crypto/gcm_reference.h: the contract of hb_gcm_bulk done slowly, straight from NIST
 * SP 800-38D: one block of AES at a time, multiplying bit by bit. For tests and the fuzz target.
 */
#ifndef HB_TEST_CORE_CRYPTO_GCM_REFERENCE_H
#define HB_TEST_CORE_CRYPTO_GCM_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/aes.h>

/* What BoringSSL keeps of a message: the running hash, and behind it the hash key's powers. */
struct gcm_state {
	AES_KEY key;
	uint8_t ivec[16];
	_Alignas(16) uint64_t hash[2];
	uint8_t unused[16];
	uint8_t table[16][16];
	uint8_t h[16];
};

/* Expands the key (16, 24 or 32 bytes) and the table of powers; counter and hash are zero. */
void gcm_state_init(struct gcm_state *state, const uint8_t *key, size_t key_len);

/* `len` is a multiple of 16; `out` is `in` or elsewhere. */
void gcm_reference_encrypt(struct gcm_state *state, const uint8_t *in, uint8_t *out, size_t len);
void gcm_reference_decrypt(struct gcm_state *state, const uint8_t *in, uint8_t *out, size_t len);

#endif

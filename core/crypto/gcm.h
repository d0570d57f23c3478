/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/crypto/gcm.h: the bulk routine of AES-GCM, with vectors of two or four blocks.
 *
 * BoringSSL's EVP_AEAD hands the long middle of every AES-GCM message to two functions,
 * aesni_gcm_encrypt and aesni_gcm_decrypt. The build (bazel/third_party/boringssl.BUILD) gives its
 * assembly the names hb_gcm_aesni_encrypt and hb_gcm_aesni_decrypt, and this unit defines the two
 * names instead: it looks once what the CPU has and calls the fastest implementation. BoringSSL's
 * files stay as they are, and everything else of AES-GCM (nonces, AAD, tags, the ends of messages,
 * comparing) stays theirs. `bazel build --define hbone_vaes=off` leaves only BoringSSL's assembly.
 *
 * This unit lies below core/base: BoringSSL depends on it, so it depends on nothing but BoringSSL's
 * header of AES keys. Its run time depends on the length of the input and of the key, never on
 * their bytes: no branch and no table index comes from data. All functions may be called from any
 * thread; there is no state but the choice. Empty on other CPUs than x86-64.
 */
#ifndef HB_CORE_CRYPTO_GCM_H
#define HB_CORE_CRYPTO_GCM_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/aes.h>

/*
 * Encrypts or decrypts some whole blocks at the beginning of `in` in counter mode, hashes their
 * ciphertext (NIST SP 800-38D, GCTR and GHASH), and returns how many bytes it did: a multiple of
 * 16, and 0 if `len` is too short to be worth it. The caller does the rest. `out` is `in` or does
 * not overlap it. `key` is an encryption key as the AES instructions want it. `ivec` is the next
 * counter block, big-endian in its last four bytes, which wrap without a carry; it is moved on.
 * `hash` is the running GHASH, and behind it lie, as in BoringSSL's GCM128_CONTEXT, 16 bytes that
 * are not used here and the table of BoringSSL's gcm_init_avx: H, H^2, their halves xored, H^3,
 * H^4, their halves xored, and so on up to H^8.
 */
typedef size_t hb_gcm_bulk(const uint8_t *in, uint8_t *out, size_t len, const AES_KEY *key,
	uint8_t ivec[16], uint64_t *hash);

/* How many blocks one instruction works on. */
enum hb_gcm_width {
	HB_GCM_AESNI,    /* one: BoringSSL's assembly */
	HB_GCM_VAES_256, /* two: VAES, VPCLMULQDQ, AVX2 */
	HB_GCM_VAES_512, /* four: AVX-512, too, on CPUs whose clock it does not lower */
	HB_GCM_WIDTHS,
};

struct hb_gcm {
	const char *name;
	hb_gcm_bulk *encrypt;
	hb_gcm_bulk *decrypt;
};

/* An implementation, or NULL if this CPU or this build does not have it. HB_GCM_AESNI always is. */
const struct hb_gcm *hb_gcm_get(enum hb_gcm_width width);

/* The implementation in use: the widest one until hb_gcm_use says otherwise. */
const struct hb_gcm *hb_gcm_current(void);

/* For tests and measurements: all threads use `gcm` from now on; NULL: the widest again. */
void hb_gcm_use(const struct hb_gcm *gcm);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every implementation that this CPU has, against the slow reference, against BoringSSL's own, and
 * against published vectors: BoringSSL's (NIST CAVP among them) and Wycheproof's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/aead.h>

#include "core/base/base.h"
#include "core/crypto/gcm.h"
#include "test/core/crypto/gcm_reference.h"

static const size_t key_sizes[] = { 16, 24, 32 };

/* The same bytes on every run. */
static void
fill(uint8_t *p, size_t len, uint32_t seed)
{
	uint64_t x = 0x9e3779b97f4a7c15 * (seed + 1ULL);

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = (uint8_t)(x >> 32);
	}
}

static const EVP_AEAD *
aead_for(size_t key_len)
{
	if (key_len == 16)
		return (EVP_aead_aes_128_gcm());
	return (key_len == 24 ? EVP_aead_aes_192_gcm() : EVP_aead_aes_256_gcm());
}

/* Both directions of one implementation against the reference: bytes, counter, hash. */
static void
compare(const struct hb_gcm *gcm, const struct gcm_state *start, const uint8_t *text, uint8_t *work,
	size_t len, size_t *done)
{
	struct gcm_state ours = *start, theirs = *start;
	uint8_t *expected = hb_malloc(len + 1);
	size_t n;

	memcpy(work, text, len);
	n = gcm->encrypt(work, work, len, &ours.key, ours.ivec, ours.hash);
	assert_true(n <= len && n % 16 == 0);
	gcm_reference_encrypt(&theirs, text, expected, n);
	assert_memory_equal(work, expected, n);
	assert_memory_equal(work + n, text + n, len - n);
	assert_memory_equal(&ours, &theirs, sizeof(ours));

	ours = theirs = *start;
	memcpy(work, text, len);
	*done = gcm->decrypt(work, work, len, &ours.key, ours.ivec, ours.hash);
	assert_true(*done <= len && *done % 16 == 0);
	gcm_reference_decrypt(&theirs, text, expected, *done);
	assert_memory_equal(work, expected, *done);
	assert_memory_equal(work + *done, text + *done, len - *done);
	assert_memory_equal(&ours, &theirs, sizeof(ours));
	free(expected);
}

static void
test_reference(void **unused)
{
	uint8_t text[1400], work[1400 + 64];
	size_t done = 0;

	for (size_t k = 0; k < HB_ARRAY_LEN(key_sizes); k++) {
		struct gcm_state state;
		uint8_t key[32];

		fill(key, sizeof(key), (uint32_t)k);
		gcm_state_init(&state, key, key_sizes[k]);
		for (size_t len = 0; len < sizeof(text); len += 1 + len / 600 * 6) {
			fill(state.ivec, 16, (uint32_t)len);
			fill((uint8_t *)state.hash, 16, (uint32_t)len + 7);
			fill(text, len, (uint32_t)len);
			for (int w = 0; w < HB_GCM_WIDTHS; w++) {
				const struct hb_gcm *gcm = hb_gcm_get((enum hb_gcm_width)w);

				if (gcm != NULL)
					compare(gcm, &state, text, work + len % 64, len, &done);
			}
		}
		assert_true(done > 1200);
	}
}

/* The counter wraps within its last four bytes, at each place of a group. */
static void
test_counter_wrap(void **unused)
{
	uint8_t key[16] = { 1 }, text[1024], work[1024];
	struct gcm_state state;
	size_t done;

	gcm_state_init(&state, key, sizeof(key));
	fill(text, sizeof(text), 1);
	for (unsigned before = 0; before < 70; before++) {
		uint32_t counter = 0u - before;

		memset(state.ivec, 0xff, 12);
		for (int i = 0; i < 4; i++)
			state.ivec[12 + i] = (uint8_t)(counter >> (24 - 8 * i));
		for (int w = 0; w < HB_GCM_WIDTHS; w++) {
			const struct hb_gcm *gcm = hb_gcm_get((enum hb_gcm_width)w);

			if (gcm != NULL)
				compare(gcm, &state, text, work, sizeof(text), &done);
		}
	}
}

/* Nothing is read or written beyond the ends of the text, on either side. */
static void
test_bounds(void **unused)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *map = mmap(
		NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t key[32] = { 2 }, text[1100];
	struct gcm_state state;
	size_t done;

	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(mprotect(map, page, PROT_NONE), 0);
	assert_int_equal(mprotect(map + 2 * page, page, PROT_NONE), 0);
	fill(text, sizeof(text), 2);
	gcm_state_init(&state, key, sizeof(key));
	for (size_t len = 1; len < sizeof(text); len += 1 + len % 17) {
		for (int w = 0; w < HB_GCM_WIDTHS; w++) {
			const struct hb_gcm *gcm = hb_gcm_get((enum hb_gcm_width)w);

			if (gcm == NULL)
				continue;
			compare(gcm, &state, text, map + page, len, &done);
			compare(gcm, &state, text, map + 2 * page - len, len, &done);
		}
	}
	munmap(map, 3 * page);
}

struct message {
	const uint8_t *nonce, *aad, *in;
	size_t nonce_len, aad_len, len;
};

/* Seals with one implementation, opens with it, and with BoringSSL's. `out` is the sealed bytes. */
static void
seal_and_open(const struct hb_gcm *gcm, EVP_AEAD_CTX *ctx, const struct message *m, uint8_t *out,
	uint8_t *back)
{
	size_t sealed, opened;

	hb_gcm_use(gcm);
	assert_true(EVP_AEAD_CTX_seal(ctx, out, &sealed, m->len + 16, m->nonce, m->nonce_len, m->in,
		m->len, m->aad, m->aad_len));
	assert_int_equal(sealed, m->len + 16);
	for (int i = 0; i < 2; i++) {
		memcpy(back, out, sealed);
		assert_true(EVP_AEAD_CTX_open(ctx, back, &opened, sealed, m->nonce, m->nonce_len,
			back, sealed, m->aad, m->aad_len));
		assert_int_equal(opened, m->len);
		assert_memory_equal(back, m->in, m->len);
		hb_gcm_use(hb_gcm_get(HB_GCM_AESNI));
	}
	hb_gcm_use(NULL);
}

/* All lengths to 4096 and some long ones: every implementation seals what BoringSSL's own does. */
static void
test_aead_lengths(void **unused)
{
	const size_t more[] = { 8191, 16384, 16385, 16640, 65537, 1000003 };
	size_t max = 1000003 + 16;
	uint8_t *in = hb_malloc(max), *first = hb_malloc(max), *out = hb_malloc(max);
	uint8_t *back = hb_malloc(max), key[32], nonce[48], aad[80];

	fill(in, max, 3);
	fill(key, sizeof(key), 4);
	fill(nonce, sizeof(nonce), 5);
	fill(aad, sizeof(aad), 6);
	for (size_t k = 0; k < HB_ARRAY_LEN(key_sizes); k++) {
		EVP_AEAD_CTX ctx;

		assert_true(EVP_AEAD_CTX_init(
			&ctx, aead_for(key_sizes[k]), key, key_sizes[k], 16, NULL));
		for (size_t i = k; i < 4097 + HB_ARRAY_LEN(more); i += 3) {
			struct message m = { .nonce = nonce,
				.nonce_len = i % 5 == 0 ? 1 + i % 48 : 12,
				.aad = aad,
				.aad_len = i % sizeof(aad),
				.in = in + i % 32,
				.len = i < 4097 ? i : more[i - 4097] };

			if (m.len + 32 > max)
				m.in = in;
			seal_and_open(hb_gcm_get(HB_GCM_AESNI), &ctx, &m, first, back);
			for (int w = HB_GCM_VAES_256; w < HB_GCM_WIDTHS; w++) {
				if (hb_gcm_get((enum hb_gcm_width)w) == NULL)
					continue;
				seal_and_open(
					hb_gcm_get((enum hb_gcm_width)w), &ctx, &m, out, back);
				assert_memory_equal(out, first, m.len + 16);
			}
		}
		EVP_AEAD_CTX_cleanup(&ctx);
	}
	free(in);
	free(first);
	free(out);
	free(back);
}

/* One bit changed anywhere, or an end cut off, and the message does not open. */
static void
test_tampered(void **unused)
{
	uint8_t key[16] = { 3 }, nonce[12] = { 4 }, aad[13] = { 5 }, in[1700], out[1716],
		back[1716];
	EVP_AEAD_CTX ctx;
	size_t sealed, opened;

	fill(in, sizeof(in), 8);
	assert_true(EVP_AEAD_CTX_init(&ctx, EVP_aead_aes_128_gcm(), key, sizeof(key), 16, NULL));
	for (int w = 0; w < HB_GCM_WIDTHS; w++) {
		if (hb_gcm_get((enum hb_gcm_width)w) == NULL)
			continue;
		hb_gcm_use(hb_gcm_get((enum hb_gcm_width)w));
		assert_true(EVP_AEAD_CTX_seal(&ctx, out, &sealed, sizeof(out), nonce, 12, in,
			sizeof(in), aad, sizeof(aad)));
		for (size_t i = 0; i < sealed; i++) {
			out[i] ^= (uint8_t)(1 << i % 8);
			assert_false(EVP_AEAD_CTX_open(&ctx, back, &opened, sizeof(back), nonce, 12,
				out, sealed, aad, sizeof(aad)));
			out[i] ^= (uint8_t)(1 << i % 8);
			assert_false(EVP_AEAD_CTX_open(&ctx, back, &opened, sizeof(back), nonce, 12,
				out, i, aad, sizeof(aad)));
		}
		assert_false(EVP_AEAD_CTX_open(&ctx, back, &opened, sizeof(back), nonce, 12, out,
			sealed, aad, sizeof(aad) - 1));
		assert_true(EVP_AEAD_CTX_open(&ctx, back, &opened, sizeof(back), nonce, 12, out,
			sealed, aad, sizeof(aad)));
		assert_memory_equal(back, in, sizeof(in));
	}
	hb_gcm_use(NULL);
	EVP_AEAD_CTX_cleanup(&ctx);
}

/* The fields of a vector; both kinds of file name them by these letters, in either case. */
enum field {
	F_KEY,
	F_NONCE,
	F_IN,
	F_AD,
	F_CT,
	F_TAG,
	FIELDS,
};

struct vector {
	uint8_t data[FIELDS][2048];
	size_t len[FIELDS];
	bool valid;
	bool any;
};

static const char *const names[][3] = {
	[F_KEY] = { "KEY", "key" },
	[F_NONCE] = { "NONCE", "iv" },
	[F_IN] = { "IN", "msg" },
	[F_AD] = { "AD", "aad" },
	[F_CT] = { "CT", "ct" },
	[F_TAG] = { "TAG", "tag" },
};

static size_t
from_hex(uint8_t *out, const char *hex)
{
	static const char digits[] = "0123456789abcdef";
	size_t n = 0;

	for (; isxdigit(hex[0]) && isxdigit(hex[1]); hex += 2) {
		assert_true(n < 2048);
		out[n++] = (uint8_t)((strchr(digits, tolower(hex[0])) - digits) << 4 |
			(strchr(digits, tolower(hex[1])) - digits));
	}
	return (n);
}

static void
check_vector(const struct vector *v, int *valid, int *invalid)
{
	uint8_t sealed[2048 + 16], out[2048 + 16];
	size_t len, total = v->len[F_CT] + v->len[F_TAG];
	EVP_AEAD_CTX ctx;
	bool opened;

	memcpy(sealed, v->data[F_CT], v->len[F_CT]);
	memcpy(sealed + v->len[F_CT], v->data[F_TAG], v->len[F_TAG]);
	for (int w = 0; w < HB_GCM_WIDTHS; w++) {
		if (hb_gcm_get((enum hb_gcm_width)w) == NULL)
			continue;
		hb_gcm_use(hb_gcm_get((enum hb_gcm_width)w));
		assert_true(EVP_AEAD_CTX_init(&ctx, aead_for(v->len[F_KEY]), v->data[F_KEY],
			v->len[F_KEY], v->len[F_TAG], NULL));
		opened = EVP_AEAD_CTX_open(&ctx, out, &len, sizeof(out), v->data[F_NONCE],
			v->len[F_NONCE], sealed, total, v->data[F_AD], v->len[F_AD]);
		assert_int_equal(opened, v->valid);
		if (opened) {
			assert_int_equal(len, v->len[F_IN]);
			assert_memory_equal(out, v->data[F_IN], len);
			assert_true(EVP_AEAD_CTX_seal(&ctx, out, &len, sizeof(out),
				v->data[F_NONCE], v->len[F_NONCE], v->data[F_IN], v->len[F_IN],
				v->data[F_AD], v->len[F_AD]));
			assert_int_equal(len, total);
			assert_memory_equal(out, sealed, total);
		}
		EVP_AEAD_CTX_cleanup(&ctx);
	}
	hb_gcm_use(NULL);
	*(v->valid ? valid : invalid) += 1;
}

/* "KEY: 00ff" or "key = 00ff"; an empty line ends a vector. */
static void
read_line(struct vector *v, char *line)
{
	char *value = strpbrk(line, ":= ");

	if (value == NULL || line[0] == '#' || line[0] == '[')
		return;
	*value++ = '\0';
	value += strspn(value, ":= ");
	if (strcmp(line, "FAILS") == 0)
		v->valid = false;
	if (strcmp(line, "result") == 0)
		v->valid = strncmp(value, "invalid", 7) != 0;
	for (int f = 0; f < FIELDS; f++) {
		if (strcmp(line, names[f][0]) == 0 || strcmp(line, names[f][1]) == 0) {
			v->len[f] = from_hex(v->data[f], value);
			v->any = true;
		}
	}
}

static void
run_file(const char *path, int *valid, int *invalid)
{
	struct vector v = { .valid = true };
	char line[8192];
	FILE *f = fopen(path, "r");

	if (f == NULL)
		fail_msg("%s: cannot be read", path);
	while (fgets(line, sizeof(line), f) != NULL) {
		if (line[0] != '\n') {
			read_line(&v, line);
			continue;
		}
		if (v.any)
			check_vector(&v, valid, invalid);
		v = (struct vector){ .valid = true };
	}
	if (v.any)
		check_vector(&v, valid, invalid);
	fclose(f);
}

static char **vector_files;

static void
test_vectors(void **unused)
{
	int valid = 0, invalid = 0, files = 0;

	for (char **file = vector_files; *file != NULL; file++, files++)
		run_file(*file, &valid, &invalid);
	printf("%d files: %d valid vectors, %d invalid ones\n", files, valid, invalid);
	assert_int_equal(files, 6);
	assert_true(valid > 400 && invalid > 80);
}

#if defined(__x86_64__) && !defined(HB_GCM_OFF)
/* Whether the kernel lists this among the flags of the CPU. */
static bool
kernel_says(const char *flag)
{
	static char line[8192];
	FILE *f = fopen("/proc/cpuinfo", "r");
	char *word, *rest = NULL;

	assert_non_null(f);
	while (fgets(line, sizeof line, f) != NULL && strncmp(line, "flags", 5) != 0)
		;
	(void)fclose(f);
	for (word = strtok_r(line, " \n", &rest); word != NULL; word = strtok_r(NULL, " \n", &rest))
		if (strcmp(word, flag) == 0)
			return (true);
	return (false);
}
#endif

static void
test_choice(void **unused)
{
	const struct hb_gcm *widest = NULL;

	for (int w = 0; w < HB_GCM_WIDTHS; w++) {
		const struct hb_gcm *gcm = hb_gcm_get((enum hb_gcm_width)w);

		printf("%d blocks at a time: %s\n", 1 << w, gcm != NULL ? gcm->name : "not here");
		if (gcm != NULL)
			widest = gcm;
	}
#ifdef HB_GCM_OFF
	assert_ptr_equal(widest, hb_gcm_get(HB_GCM_AESNI));
#elif defined(__x86_64__)
	assert_int_equal(hb_gcm_get(HB_GCM_VAES_256) != NULL,
		kernel_says("avx2") && kernel_says("vaes") && kernel_says("vpclmulqdq"));
#endif
	assert_non_null(hb_gcm_get(HB_GCM_AESNI));
	assert_null(hb_gcm_get(HB_GCM_WIDTHS));
	assert_ptr_equal(hb_gcm_current(), widest);
	hb_gcm_use(hb_gcm_get(HB_GCM_AESNI));
	assert_ptr_equal(hb_gcm_current(), hb_gcm_get(HB_GCM_AESNI));
	hb_gcm_use(NULL);
	assert_ptr_equal(hb_gcm_current(), widest);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_reference),
		cmocka_unit_test(test_counter_wrap),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_aead_lengths),
		cmocka_unit_test(test_tampered),
		cmocka_unit_test(test_vectors),
	};

	vector_files = argv + 1;
	return (cmocka_run_group_tests(tests, NULL, NULL));
}

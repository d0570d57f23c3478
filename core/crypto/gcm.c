/* SPDX-License-Identifier: Apache-2.0 */
#include "core/crypto/gcm.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <stdbool.h>

#include "core/crypto/gcm_priv.h"

/* The names that BoringSSL calls. */
hb_gcm_bulk aesni_gcm_encrypt;
hb_gcm_bulk aesni_gcm_decrypt;

static const struct hb_gcm gcm_aesni = {
	.name = "aes-ni",
	.encrypt = hb_gcm_aesni_encrypt,
	.decrypt = hb_gcm_aesni_decrypt,
};

#ifdef HB_GCM_VAES

/* Bits of XCR0: the register states that the kernel saves and restores. */
enum {
	STATE_YMM = 0x06,
	STATE_ZMM = 0xe6,
};

struct cpu {
	unsigned ebx, ecx; /* leaf 7: features */
	unsigned eax1;     /* leaf 7, subleaf 1 */
	unsigned states;   /* XCR0, 0 if the kernel does not use XSAVE */
};

static struct cpu
cpu_look(void)
{
	struct cpu cpu = { 0 };
	unsigned eax, ebx, ecx, edx;

	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx))
		return (cpu);
	if (ecx & bit_OSXSAVE)
		__asm__("xgetbv" : "=a"(cpu.states), "=d"(edx) : "c"(0));
	if (!__get_cpuid_count(7, 0, &eax, &cpu.ebx, &cpu.ecx, &edx))
		return (cpu);
	/* Here eax is the highest subleaf. */
	if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx))
		cpu.eax1 = eax;
	return (cpu);
}

static bool
cpu_has_256(const struct cpu *cpu)
{
	unsigned vector = bit_VAES | bit_VPCLMULQDQ;

	return ((cpu->states & STATE_YMM) == STATE_YMM && (cpu->ebx & bit_AVX2) &&
		(cpu->ecx & vector) == vector);
}

static bool
cpu_has_512(const struct cpu *cpu)
{
	unsigned avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;

	/* BF16 is no need of ours: it came after the CPUs that lower their clock for AVX-512. */
	return (cpu_has_256(cpu) && (cpu->states & STATE_ZMM) == STATE_ZMM &&
		(cpu->ebx & avx512) == avx512 && (cpu->eax1 & bit_AVX512BF16));
}

/* Four blocks at a time, then two for the rest. */
static size_t
encrypt_512(const uint8_t *in, uint8_t *out, size_t len, const AES_KEY *key, uint8_t ivec[16],
	uint64_t *hash)
{
	size_t done = hb_gcm_512_encrypt(in, out, len, key, ivec, hash);

	return (done + hb_gcm_256_encrypt(in + done, out + done, len - done, key, ivec, hash));
}

static size_t
decrypt_512(const uint8_t *in, uint8_t *out, size_t len, const AES_KEY *key, uint8_t ivec[16],
	uint64_t *hash)
{
	size_t done = hb_gcm_512_decrypt(in, out, len, key, ivec, hash);

	return (done + hb_gcm_256_decrypt(in + done, out + done, len - done, key, ivec, hash));
}

static const struct hb_gcm gcm_256 = {
	.name = "vaes-256",
	.encrypt = hb_gcm_256_encrypt,
	.decrypt = hb_gcm_256_decrypt,
};

static const struct hb_gcm gcm_512 = {
	.name = "vaes-512",
	.encrypt = encrypt_512,
	.decrypt = decrypt_512,
};

/* One bit for each width. CPUID traps in virtual machines, hence once; threads find the same. */
static unsigned
cpu_widths(void)
{
	static unsigned known;
	unsigned widths = __atomic_load_n(&known, __ATOMIC_RELAXED);

	if (widths == 0) {
		struct cpu cpu = cpu_look();

		widths = 1u << HB_GCM_AESNI | (unsigned)cpu_has_256(&cpu) << HB_GCM_VAES_256 |
			(unsigned)cpu_has_512(&cpu) << HB_GCM_VAES_512;
		__atomic_store_n(&known, widths, __ATOMIC_RELAXED);
	}
	return (widths);
}

const struct hb_gcm *
hb_gcm_get(enum hb_gcm_width width)
{
	static const struct hb_gcm *const all[] = {
		[HB_GCM_AESNI] = &gcm_aesni,
		[HB_GCM_VAES_256] = &gcm_256,
		[HB_GCM_VAES_512] = &gcm_512,
	};

	return (width < HB_GCM_WIDTHS && (cpu_widths() & 1u << width) ? all[width] : NULL);
}

#else

const struct hb_gcm *
hb_gcm_get(enum hb_gcm_width width)
{
	return (width == HB_GCM_AESNI ? &gcm_aesni : NULL);
}

#endif

/* NULL until the first use. Threads that meet there choose the same. */
static const struct hb_gcm *current;

static const struct hb_gcm *
widest(void)
{
	const struct hb_gcm *gcm = NULL;

	for (int width = HB_GCM_WIDTHS - 1; gcm == NULL; width--)
		gcm = hb_gcm_get((enum hb_gcm_width)width);
	return (gcm);
}

void
hb_gcm_use(const struct hb_gcm *gcm)
{
	__atomic_store_n(&current, gcm != NULL ? gcm : widest(), __ATOMIC_RELAXED);
}

const struct hb_gcm *
hb_gcm_current(void)
{
	const struct hb_gcm *gcm = __atomic_load_n(&current, __ATOMIC_RELAXED);

	if (__builtin_expect(gcm == NULL, 0)) {
		hb_gcm_use(NULL);
		gcm = __atomic_load_n(&current, __ATOMIC_RELAXED);
	}
	return (gcm);
}

size_t
aesni_gcm_encrypt(const uint8_t *in, uint8_t *out, size_t len, const AES_KEY *key, uint8_t ivec[16],
	uint64_t *hash)
{
	return (hb_gcm_current()->encrypt(in, out, len, key, ivec, hash));
}

size_t
aesni_gcm_decrypt(const uint8_t *in, uint8_t *out, size_t len, const AES_KEY *key, uint8_t ivec[16],
	uint64_t *hash)
{
	return (hb_gcm_current()->decrypt(in, out, len, key, ivec, hash));
}

#endif

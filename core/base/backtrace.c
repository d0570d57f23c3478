/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/backtrace_priv.h"
#include "core/base/base.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define WORD   sizeof(uintptr_t)
#define BLOCK  512u       /* what is read at once; divides a page */
#define SEARCH 2048u      /* how far up: further lies more of earlier calls than of the library that broke the chain */
#define FRAME  (1u << 20) /* no frame is larger */

/* Memory as the kernel sees it, the last block kept. */
struct memory {
	int pipe[2];
	uintptr_t block; /* 0: none */
	unsigned char bytes[BLOCK];
};

/* Raw calls: a sanitizer's write(2) would look at the bytes itself. */
static bool memory_fetch(struct memory *m, uintptr_t block)
{
	if (m->block == block)
		return (true);
	m->block = 0;
	if (syscall(SYS_write, m->pipe[1], block, BLOCK) != BLOCK ||
		syscall(SYS_read, m->pipe[0], m->bytes, BLOCK) != BLOCK)
		return (false);
	m->block = block;
	return (true);
}

static bool memory_read(struct memory *m, uintptr_t at, void *to, size_t n)
{
	unsigned char *p = to;

	for (; n > 0; n--, at++, p++) {
		if (at < BLOCK || !memory_fetch(m, at - at % BLOCK))
			return (false);
		*p = m->bytes[at % BLOCK];
	}
	return (true);
}

/* Whether a call instruction stands before `pc`. */
#if defined(__x86_64__)
static bool after_call(struct memory *m, uintptr_t pc)
{
	/* From the first byte to the end: call through a register or memory, with each length of its operand. */
	static const unsigned char lengths[] = { 2, 3, 4, 6, 7 };
	unsigned char b[7];

	if (!memory_read(m, pc - sizeof b, b, sizeof b))
		return (false);
	if (b[2] == 0xe8)
		return (true);
	for (size_t i = 0; i < sizeof lengths; i++) {
		const unsigned char *p = b + sizeof b - lengths[i];

		if (p[0] == 0xff && (p[1] & 0x38) == 0x10)
			return (true);
	}
	return (false);
}
#elif defined(__aarch64__)
static bool after_call(struct memory *m, uintptr_t pc)
{
	uint32_t code;

	return (memory_read(m, pc - sizeof code, &code, sizeof code) &&
		((code & 0xfc000000u) == 0x94000000u || (code & 0xfffffc1fu) == 0xd63f0000u));
}
#else
#error "which instructions call?"
#endif

/* Not libc, nor a filter from a .so. */
static bool in_program(uintptr_t pc)
{
	extern const char __executable_start[], etext[];

	return (pc >= (uintptr_t)__executable_start && pc < (uintptr_t)etext);
}

/* A frame is two words: the caller's frame, and where to return to. */
static bool frame_at(struct memory *m, uintptr_t at, uintptr_t frame[2])
{
	return (at % WORD == 0 && memory_read(m, at, frame, 2 * WORD) && after_call(m, frame[1]));
}

/* The next one from `at` up that has been called by us, and its caller's frame lies above it; 0 when none is near. */
static uintptr_t frame_search(struct memory *m, uintptr_t at, uintptr_t frame[2])
{
	uintptr_t up;

	for (uintptr_t end = at + SEARCH; at < end && memory_read(m, at, &up, WORD); at += WORD)
		if (up > at && up - at < FRAME && frame_at(m, at, frame) && in_program(frame[1]))
			return (at);
	return (0);
}

/* Shows each return address of ours from `at` up to `end`. */
static void words_show(struct memory *m, uintptr_t at, uintptr_t end, hb_backtrace_show_f *show)
{
	uintptr_t word;

	for (; at < end && memory_read(m, at, &word, WORD); at += WORD)
		if (in_program(word) && after_call(m, word))
			show((void *)word, false);
}

void hb_backtrace__walk(const struct hb_backtrace_from *from, unsigned n, hb_backtrace_show_f *show)
{
	struct memory m = { .block = 0 };
	uintptr_t sp = from->sp - from->sp % WORD, fp = from->fp, frame[2];
	bool gap = from->interrupted && !in_program(from->pc), sure = true;

	if (from->interrupted)
		show((void *)from->pc, true);
	if (syscall(SYS_pipe2, m.pipe, O_CLOEXEC | O_NONBLOCK) != 0)
		return;
	for (; n > 0; n--, sp = fp + sizeof frame, fp = frame[0]) {
		if (fp < sp || fp - sp >= FRAME || !frame_at(&m, fp, frame)) {
			fp = frame_search(&m, sp, frame);
			gap = true;
			sure = false;
		}
		if (fp == 0)
			break;
		if (gap)
			words_show(&m, sp, HB_MIN(fp, sp + SEARCH), show);
		show((void *)frame[1], sure);
		/* Foreign code that has left the frame pointer alone has passed its own caller by. */
		gap = !in_program(frame[1]);
	}
	(void)close(m.pipe[0]);
	(void)close(m.pipe[1]);
}

void hb_backtrace__from_signal(struct hb_backtrace_from *from, const void *context)
{
	const ucontext_t *c = context;

	from->interrupted = true;
#if defined(__x86_64__)
	from->pc = (uintptr_t)c->uc_mcontext.gregs[REG_RIP];
	from->sp = (uintptr_t)c->uc_mcontext.gregs[REG_RSP];
	from->fp = (uintptr_t)c->uc_mcontext.gregs[REG_RBP];
#else
	from->pc = (uintptr_t)c->uc_mcontext.pc;
	from->sp = (uintptr_t)c->uc_mcontext.sp;
	from->fp = (uintptr_t)c->uc_mcontext.regs[29];
#endif
}

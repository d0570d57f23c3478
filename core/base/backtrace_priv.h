/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_BASE_BACKTRACE_PRIV_H
#define CORE_BASE_BACKTRACE_PRIV_H
/*
 * core/base/backtrace_priv.h: who called, for the panic report, by frame pointers: the program has no unwind tables, which
 * would be a tenth of it (bazel/no_unwind.ld). Our code and BoringSSL's C code keep frame pointers; libc and Debian's
 * libraries do not. Where the chain ends in one of them the next 2 KiB of the stack are searched for a frame of ours. What
 * was found so, and all above it, is shown as unsure: it may be what an earlier call has left there. What called libuv's
 * loop, which has 12 KiB of its own there, is not found.
 */
#include <stdbool.h>
#include <stdint.h>

struct hb_backtrace_from {
	bool interrupted; /* at pc; else the caller of whoever owns fp comes first */
	uintptr_t pc;
	uintptr_t sp; /* nothing below it is looked at */
	uintptr_t fp;
};

/* Fills in the registers of a signal handler's third argument. */
void hb_backtrace__from_signal(struct hb_backtrace_from *, const void *context);
/* Takes one address, innermost first. !sure: see above. */
typedef void hb_backtrace_show_f(void *pc, bool sure);
/*
 * At most n callers, not counted what is unsure. May be called in a signal handler and with registers that hold anything:
 * memory is only read by system calls, which fail where there is none. Needs two free descriptors.
 */
void hb_backtrace__walk(const struct hb_backtrace_from *, unsigned n, hb_backtrace_show_f *show);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/base/base.h: object discipline, assertions, memory.
 *
 * Every heap struct starts with `unsigned magic;`. HB_NEW fills it, HB_DEL wipes it, frees the
 * object and nulls the owner's pointer; HB_CHECK proves it at the entry of a function and HB_CAST
 * turns a `void *` of a vtable border back into its type. Assertions stay on in release builds: a
 * failed one prints a panic report (see hb_panic_hook_add) and aborts. Untrusted bytes are never
 * asserted on.
 *
 * Memory: hb_malloc and friends never return NULL; running out of memory panics. Therefore each
 * size that a peer can choose is limited before it is allocated.
 */
#ifndef HB_CORE_BASE_BASE_H
#define HB_CORE_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#define HB_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define HB_NORETURN     __attribute__((noreturn))
#define HB_UNUSED       __attribute__((unused))
#define HB_MUST_USE     __attribute__((warn_unused_result))
#define HB_NONNULL      __attribute__((returns_nonnull))
#define HB_LIKELY(x)    __builtin_expect(!!(x), 1)
#define HB_UNLIKELY(x)  __builtin_expect(!!(x), 0)
/* A symbol that a filter loaded from a .so may use. */
#define HB_EXPORT __attribute__((visibility("default")))

#define HB_ARRAY_LEN(a)   (sizeof(a) / sizeof((a)[0]))
#define HB_MIN(a, b)      ((a) < (b) ? (a) : (b))
#define HB_MAX(a, b)      ((a) > (b) ? (a) : (b))
/* The object that embeds `member` at address `p`. */
#define HB_CONTAINER(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

/* Proven: cannot happen. Panics with a report. */
#define HB_ASSERT(c) (HB_LIKELY(c) ? (void)0 : hb_panic(__FILE__, __LINE__, __func__, #c))
#define HB_WRONG(why) hb_panic(__FILE__, __LINE__, __func__, why)

/*
 * A number that one thread writes and others may look at: plain relaxed loads and stores, no
 * read-modify-write, so it costs the writer nothing. HB_SHOWN_PTR publishes a pointer that way.
 */
#define HB_SHOWN_ADD(field, n)                                                              \
	__atomic_store_n(&(field), __atomic_load_n(&(field), __ATOMIC_RELAXED) + (n), __ATOMIC_RELAXED)
#define HB_SHOWN(field)           __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define HB_SHOWN_PTR(field)       __atomic_load_n(&(field), __ATOMIC_ACQUIRE)
#define HB_SHOWN_PTR_SET(field, p) __atomic_store_n(&(field), (p), __ATOMIC_RELEASE)

#define HB_NEW(p, magic_value)                  \
	do {                                    \
		(p) = hb_calloc(1, sizeof *(p)); \
		(p)->magic = (magic_value);     \
	} while (0)
#define HB_DEL(p)                            \
	do {                                 \
		HB_ASSERT((p)->magic != 0);  \
		(p)->magic = 0;              \
		hb_free(p);                  \
		(p) = NULL;                  \
	} while (0)
#define HB_CHECK(p, magic_value) HB_ASSERT((p) != NULL && (p)->magic == (magic_value))
#define HB_CAST(to, from, magic_value)      \
	do {                                \
		(to) = (from);              \
		HB_CHECK((to), magic_value); \
	} while (0)

HB_EXPORT void *hb_malloc(size_t n) HB_NONNULL;
HB_EXPORT void *hb_calloc(size_t n, size_t size) HB_NONNULL;
void *hb_realloc(void *p, size_t n) HB_NONNULL;
char *hb_strdup(const char *s) HB_NONNULL;
char *hb_strndup(const char *s, size_t n) HB_NONNULL;
/* Formats into fresh memory owned by the caller. */
char *hb_asprintf(const char *fmt, ...) HB_PRINTF(1, 2) HB_NONNULL;
/* Accepts NULL. */
HB_EXPORT void hb_free(void *p);

/*
 * Prints file, line, condition, the running version, a backtrace and whatever the panic hooks
 * add to stderr, then abort()s. Async-signal-safety is not promised, reentry is: a panic inside a
 * hook aborts at once.
 */
HB_EXPORT void hb_panic(const char *file, int line, const char *func, const char *what) HB_NORETURN;

/*
 * Adds a function that prints to `fd` what its room knows when the process panics (for example
 * the connection that a worker is busy with). At most 8 hooks; call before threads start.
 */
typedef void hb_panic_hook_f(int fd);
void hb_panic_hook_add(hb_panic_hook_f *);

/* Also reports SIGSEGV, SIGBUS, SIGILL and SIGFPE through the panic report. Once, from main(). */
void hb_panic_init(void);
/*
 * For any other thread: between the two it has a stack for the report after its own has overflowed.
 * Its start calls begin, the same thread gives what was answered to end. NULL: it has one already.
 */
void *hb_panic_thread_begin(void);
void hb_panic_thread_end(void *stack);

#endif

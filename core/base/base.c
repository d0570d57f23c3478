/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/base.h"
#include "core/base/backtrace_priv.h"

#include <execinfo.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PANIC_HOOKS_MAX   8
#define PANIC_FRAMES_MAX  64
#define PANIC_SECONDS_MAX 10

/* Defined by the binary's version stamp; tests and tools go without. */
extern const char hb_version[] __attribute__((weak));

static hb_panic_hook_f *panic_hooks[PANIC_HOOKS_MAX];
static unsigned panic_nhooks;
static _Atomic long panic_tid;
/* Enough for the report after a stack overflow; sigaltstack(2) keeps pointing to it. */
#define PANIC_STACK (128 * 1024)
static char panic_stack[PANIC_STACK];

void *hb_malloc(size_t n)
{
	void *p = malloc(n == 0 ? 1 : n);

	if (HB_UNLIKELY(p == NULL))
		HB_WRONG("out of memory");
	return (p);
}

/*
 * glibc's calloc passes by the cache of the thread, so blocks of these sizes that were freed would
 * never be taken from there again: malloc and memset are three times as fast.
 */
#define CACHED_MAX 1024u

void *hb_calloc(size_t n, size_t size)
{
	void *p;

	if (n == 0 || size == 0)
		n = size = 1;
	if (n <= CACHED_MAX && size <= CACHED_MAX && n * size <= CACHED_MAX)
		return (memset(hb_malloc(n * size), 0, n * size));
	p = calloc(n, size);
	if (HB_UNLIKELY(p == NULL))
		HB_WRONG("out of memory");
	return (p);
}

void *hb_realloc(void *p, size_t n)
{
	p = realloc(p, n == 0 ? 1 : n);
	if (HB_UNLIKELY(p == NULL))
		HB_WRONG("out of memory");
	return (p);
}

char *hb_strdup(const char *s)
{
	HB_ASSERT(s != NULL);
	return (hb_strndup(s, strlen(s)));
}

char *hb_strndup(const char *s, size_t n)
{
	char *p;

	HB_ASSERT(s != NULL || n == 0);
	n = n == 0 ? 0 : strnlen(s, n);
	p = hb_malloc(n + 1);
	if (n > 0)
		memcpy(p, s, n);
	p[n] = '\0';
	return (p);
}

char *hb_asprintf(const char *fmt, ...)
{
	va_list ap;
	char *p;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&p, fmt, ap);
	va_end(ap);
	if (HB_UNLIKELY(n < 0))
		HB_WRONG("out of memory or a bad format");
	return (p);
}

void hb_free(void *p)
{
	free(p);
}

void hb_panic_hook_add(hb_panic_hook_f *hook)
{
	HB_ASSERT(hook != NULL);
	HB_ASSERT(panic_nhooks < PANIC_HOOKS_MAX);
	panic_hooks[panic_nhooks++] = hook;
}

static void HB_PRINTF(1, 2) panic_print(const char *fmt, ...)
{
	char buf[1024];
	va_list ap;
	ssize_t r;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, sizeof buf, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	r = write(STDERR_FILENO, buf, HB_MIN((size_t)n, sizeof buf - 1));
	(void)r;
}

/* A hook that hangs or a stderr that nobody reads must not keep a broken process alive. */
static void panic_deadline(void)
{
	sigset_t set;

	signal(SIGALRM, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	alarm(PANIC_SECONDS_MAX);
}

static void panic_caller(void *pc, bool sure)
{
	if (!sure)
		panic_print("? ");
	backtrace_symbols_fd(&pc, 1, STDERR_FILENO);
}

static void HB_NORETURN panic_report(const char *file, int line, const char *func, const char *what,
	const struct hb_backtrace_from *from)
{
	char name[16] = "";
	long tid = syscall(SYS_gettid), first = 0;

	if (!atomic_compare_exchange_strong(&panic_tid, &first, tid)) {
		/* The first thread's report is the one that matters: let it end the process. */
		while (first != tid)
			(void)poll(NULL, 0, 1000);
		panic_print("panic within the panic report: %s at %s:%d\n", what, file, line);
		abort();
	}
	panic_deadline();
	(void)pthread_getname_np(pthread_self(), name, sizeof name);
	panic_print("\npanic: %s\n  at %s:%d in %s()\n  thread %s (%ld), process %ld, version %s\n"
		    "  backtrace:\n",
		what, file, line, func, name, tid, (long)getpid(),
		hb_version != NULL ? hb_version : "unknown");
	hb_backtrace__walk(from, PANIC_FRAMES_MAX, panic_caller);
	for (unsigned i = 0; i < panic_nhooks; i++)
		panic_hooks[i](STDERR_FILENO);
	abort();
}

void hb_panic(const char *file, int line, const char *func, const char *what)
{
	struct hb_backtrace_from from = { .fp = (uintptr_t)__builtin_frame_address(0) };

	from.sp = from.fp;
	panic_report(file, line, func, what, &from);
}

static void panic_on_signal(int sig, siginfo_t *info, void *context)
{
	struct hb_backtrace_from from;
	char what[96];

	hb_backtrace__from_signal(&from, context);
	snprintf(what, sizeof what, "signal %d (%s), code %d, address %p", sig, strsignal(sig),
		info->si_code, info->si_addr);
	panic_report("signal", 0, "unknown", what, &from);
}

/* A sanitizer gives its threads stacks of their own. */
static bool panic_has_stack(void)
{
	stack_t now;

	return (sigaltstack(NULL, &now) != 0 || !(now.ss_flags & SS_DISABLE));
}

void *hb_panic_thread_begin(void)
{
	stack_t stack = { .ss_size = PANIC_STACK };

	if (panic_has_stack())
		return (NULL);
	stack.ss_sp = hb_malloc(PANIC_STACK);
	(void)sigaltstack(&stack, NULL);
	return (stack.ss_sp);
}

void hb_panic_thread_end(void *p)
{
	stack_t none = { .ss_flags = SS_DISABLE };

	if (p == NULL)
		return;
	(void)sigaltstack(&none, NULL);
	hb_free(p);
}

void hb_panic_init(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE };
	struct sigaction sa = { .sa_sigaction = panic_on_signal }, old;
	stack_t stack = { .ss_sp = panic_stack, .ss_size = PANIC_STACK };

	if (!panic_has_stack())
		(void)sigaltstack(&stack, NULL);
	/* NODEFER: a fault within the report must reach hb_panic, which then aborts. */
	sa.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
	sigemptyset(&sa.sa_mask);
	for (size_t i = 0; i < HB_ARRAY_LEN(signals); i++) {
		/* A sanitizer's handler says more than ours: it stays. */
		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
			(void)sigaction(signals[i], &sa, NULL);
	}
}

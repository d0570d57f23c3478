/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/base/str.h: borrowed strings, growing text, hashing, a string-keyed table, random numbers.
 */
#ifndef HB_CORE_BASE_STR_H
#define HB_CORE_BASE_STR_H

#include <stdarg.h>
#include "core/base/base.h"

/* Bytes that somebody else owns; may hold NULs; p may be NULL when len is 0. */
struct hb_str {
	const char *p;
	size_t      len;
};

#define HB_STR(lit) ((struct hb_str){(lit), sizeof(lit) - 1})
#define HB_STR_FMT(s) (int)(s).len, (s).p == NULL ? "" : (s).p /* for "%.*s" */

static inline struct hb_str
hb_str(const char *z)
{
	return ((struct hb_str){z, z == NULL ? 0 : strlen(z)});
}

static inline struct hb_str
hb_strn(const void *p, size_t n)
{
	return ((struct hb_str){p, n});
}

static inline bool
hb_str_eq(struct hb_str a, struct hb_str b)
{
	return (a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0));
}

bool hb_str_ieq(struct hb_str a, struct hb_str b); /* ASCII case ignored */
bool hb_str_starts(struct hb_str s, struct hb_str prefix);
bool hb_str_ends(struct hb_str s, struct hb_str suffix);
int  hb_str_cmp(struct hb_str a, struct hb_str b); /* bytewise, as memcmp */
/* Lower-cases ASCII letters in place. */
void hb_str_lower(char *p, size_t n);
/* Decimal without sign, blank or overflow of `max`; false otherwise. */
bool hb_str_u64(struct hb_str s, uint64_t max, uint64_t *ret);

/* Text that grows, up to cap_max bytes (0 = 1 GiB); beyond it `truncated` is set, nothing added. */
struct hb_text {
	char  *p; /* owned; always NUL-terminated once not NULL */
	size_t len, cap, cap_max;
	bool   truncated;
};

void hb_text_fini(struct hb_text *);
void hb_text_add(struct hb_text *, const void *p, size_t n);
void hb_text_addz(struct hb_text *, const char *z);
void hb_text_addc(struct hb_text *, char c);
void hb_text_printf(struct hb_text *, const char *fmt, ...) HB_PRINTF(2, 3);
void hb_text_vprintf(struct hb_text *, const char *fmt, va_list ap);
/* JSON string with quotes; invalid UTF-8 becomes U+FFFD. Readable as YAML, too. */
void hb_text_json(struct hb_text *, const char *p, size_t n);
/* Moves the text out; caller owns it (never NULL), the struct is empty again. */
char *hb_text_take(struct hb_text *);

/* Keyed by a per-process random seed, so that peers cannot choose collisions. */
uint64_t hb_hash(const void *p, size_t n);
/* Same result in every process and version: for consistent hashing and versions in dumps. */
uint64_t hb_hash_stable(const void *p, size_t n);

/* String -> pointer. Keys are copied, values are not owned. Single-threaded. */
struct hb_map;
struct hb_map *hb_map_new(void);
void  hb_map_free(struct hb_map **);
void *hb_map_get(const struct hb_map *, struct hb_str key); /* NULL = not found */
/* Returns the value that was replaced, or NULL. `value` must not be NULL. */
void *hb_map_put(struct hb_map *, struct hb_str key, void *value);
void *hb_map_del(struct hb_map *, struct hb_str key); /* returns the value or NULL */
size_t hb_map_count(const struct hb_map *);
/* Iteration in no order: start with *cursor = 0; false at the end. No change while iterating. */
bool hb_map_next(const struct hb_map *, size_t *cursor, struct hb_str *ret_key, void **ret_value);

/* Not for keys. One stream per thread, seeded from the kernel. */
uint64_t hb_random(void);
/* Tests: makes this thread's stream repeatable. */
void hb_random_seed(uint64_t seed);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/match/regex.h: RE2 behind a C border. Matching takes time linear in the text; an expression
 * has at most HB_REGEX_MAX bytes and a compiled size within a budget of 1 MiB, its caches included.
 * Objects are frozen after creation and used by several threads.
 *
 * Seen by C and C++, so it includes nothing of ours.
 */
#ifndef HB_CORE_MATCH_REGEX_H
#define HB_CORE_MATCH_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HB_REGEX_MAX 16384

struct hb_regex;

/* RE2 syntax. NULL with a reason in `error` (cut at cap). The caller frees. */
struct hb_regex *hb_regex_new(const char *pattern, size_t n, char *error, size_t cap);
/* Accepts NULL, nulls the caller. */
void hb_regex_free(struct hb_regex **);
/* The whole text matches. `text` may be NULL when n is 0. */
bool hb_regex_full(const struct hb_regex *, const char *text, size_t n);
/* Some part of the text matches. */
bool hb_regex_find(const struct hb_regex *, const char *text, size_t n);

#ifdef __cplusplus
}
#endif

#endif

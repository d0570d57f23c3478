/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/base/err.h: errors of configuration and control paths.
 *
 * The data path builds no text: there a connection ends with one enum hb_close_reason. Everything
 * that a person asked for (a file, a resource, an address) fails with a struct hb_err: what is
 * wrong in one sentence without a final stop, where, and what to do.
 *
 * Functions that can fail return 0 or a negative errno value (HB_EINVAL and friends are plain
 * errno numbers) and fill *reterr only when they fail. reterr may be NULL.
 */
#ifndef HB_CORE_BASE_ERR_H
#define HB_CORE_BASE_ERR_H

#include <errno.h>
#include <stdarg.h>
#include "core/base/base.h"

struct hb_err {
	int      code;      /* negative errno; 0 = no error                                       */
	unsigned line;      /* 1-based; 0 = unknown                                               */
	unsigned column;    /* 1-based; 0 = unknown                                               */
	char     file[256]; /* file or resource name; "" = unknown                                */
	char     path[512]; /* for example static_resources.listeners[2].address; "" = unknown    */
	char     text[512]; /* the sentence                                                       */
};

/* Fills *reterr (when not NULL) with code and text, leaves no location, returns code. */
int hb_err_set(struct hb_err *reterr, int code, const char *fmt, ...) HB_PRINTF(3, 4);
/* Puts a prefix before the text: "cluster app: " + text. */
void hb_err_prefix(struct hb_err *err, const char *fmt, ...) HB_PRINTF(2, 3);
/* "file:line:col: path: text" with the parts that are known. Returns bytes written as snprintf. */
int hb_err_format(const struct hb_err *err, char *dst, size_t cap);

/*
 * A list of errors, so that one run reports everything that is wrong. Bounded: after `max`
 * entries (default 100) further ones are only counted.
 */
struct hb_errs {
	struct hb_err *v;       /* owned                                 */
	size_t         n;       /* entries in v                          */
	size_t         dropped; /* errors beyond the bound               */
	size_t         max;     /* 0 = 100                               */
};

void hb_errs_init(struct hb_errs *);
void hb_errs_fini(struct hb_errs *);
/* Returns the new entry to fill in, or NULL when the bound is reached (it is counted). */
struct hb_err *hb_errs_add(struct hb_errs *);
static inline bool
hb_errs_any(const struct hb_errs *e)
{
	return (e->n + e->dropped > 0);
}

/* The nearest of the NULL-terminated `names` to `word` for "did you mean …?"; NULL = none near. */
const char *hb_err_nearest(const char *word, const char *const *names);

#endif

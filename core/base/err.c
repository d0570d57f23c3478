/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/err.h"

#include <stdio.h>

#define ERRS_MAX_DEFAULT 100
#define NEAREST_LEN_MAX  64 /* bytes; longer words are never proposed nor matched */

int hb_err_set(struct hb_err *reterr, int code, const char *fmt, ...)
{
	va_list ap;

	HB_ASSERT(code < 0);
	if (reterr == NULL)
		return (code);
	reterr->code = code;
	reterr->line = reterr->column = 0;
	reterr->file[0] = reterr->path[0] = '\0';
	va_start(ap, fmt);
	(void)vsnprintf(reterr->text, sizeof reterr->text, fmt, ap);
	va_end(ap);
	return (code);
}

void hb_err_prefix(struct hb_err *err, const char *fmt, ...)
{
	char text[sizeof err->text];
	va_list ap;
	size_t n;
	int r;

	if (err == NULL)
		return;
	va_start(ap, fmt);
	r = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	HB_ASSERT(r >= 0);
	n = HB_MIN((size_t)r, sizeof text - 1);
	(void)snprintf(text + n, sizeof text - n, "%s", err->text);
	memcpy(err->text, text, sizeof text);
}

int hb_err_format(const struct hb_err *err, char *dst, size_t cap)
{
	char where[sizeof err->file + 32] = "";
	size_t n = 0;

	HB_ASSERT(err != NULL);
	if (err->file[0] != '\0')
		n += (size_t)snprintf(where, sizeof where, "%s:", err->file);
	if (err->line > 0)
		n += (size_t)snprintf(where + n, sizeof where - n, "%u:", err->line);
	if (err->line > 0 && err->column > 0)
		n += (size_t)snprintf(where + n, sizeof where - n, "%u:", err->column);
	HB_ASSERT(n < sizeof where);
	return (snprintf(dst, cap, "%s%s%s%s%s", where, n > 0 ? " " : "", err->path,
		err->path[0] != '\0' ? ": " : "", err->text));
}

void hb_errs_init(struct hb_errs *e)
{
	memset(e, 0, sizeof *e);
}

void hb_errs_fini(struct hb_errs *e)
{
	hb_free(e->v);
	memset(e, 0, sizeof *e);
}

struct hb_err *hb_errs_add(struct hb_errs *e)
{
	size_t max = e->max == 0 ? ERRS_MAX_DEFAULT : e->max;

	if (e->n >= max) {
		e->dropped++;
		return (NULL);
	}
	/* Entries are large and few: grow at powers of two only. */
	if ((e->n & (e->n - 1)) == 0)
		e->v = hb_realloc(e->v, HB_MAX(e->n * 2, (size_t)1) * sizeof *e->v);
	memset(&e->v[e->n], 0, sizeof *e->v);
	return (&e->v[e->n++]);
}

static unsigned char lower(char c)
{
	return ((unsigned char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c));
}

/*
 * Edits between a and b: insert, delete, replace, swap of neighbours (optimal string alignment).
 * A result above `max` only says "more than max".
 */
static size_t distance(const char *a, size_t an, const char *b, size_t bn, size_t max)
{
	size_t rows[3][NEAREST_LEN_MAX + 1], *before = rows[0], *last = rows[1], *now = rows[2];

	HB_ASSERT(an <= NEAREST_LEN_MAX && bn <= NEAREST_LEN_MAX);
	if ((an > bn ? an - bn : bn - an) > max)
		return (max + 1);
	for (size_t j = 0; j <= bn; j++)
		last[j] = j;
	for (size_t i = 1; i <= an; i++) {
		size_t best = now[0] = i, *spare = before;

		for (size_t j = 1; j <= bn; j++) {
			unsigned char ca = lower(a[i - 1]), cb = lower(b[j - 1]);

			now[j] = HB_MIN(last[j], now[j - 1]) + 1;
			now[j] = HB_MIN(now[j], last[j - 1] + (ca != cb));
			if (i > 1 && j > 1 && ca == lower(b[j - 2]) && lower(a[i - 2]) == cb)
				now[j] = HB_MIN(now[j], before[j - 2] + 1);
			best = HB_MIN(best, now[j]);
		}
		/* A swap reaches back one more row, hence the one of slack. */
		if (best > max + 1)
			return (max + 1);
		before = last;
		last = now;
		now = spare;
	}
	return (last[bn]);
}

const char *hb_err_nearest(const char *word, const char *const *names)
{
	size_t n = strlen(word), max = HB_MAX(n / 3, (size_t)2);
	const char *best = NULL;

	if (n > NEAREST_LEN_MAX)
		return (NULL);
	for (; *names != NULL; names++) {
		size_t len = strlen(*names), d;

		if (len > NEAREST_LEN_MAX)
			continue;
		d = distance(word, n, *names, len, max);
		/* Two words that share no letter are not near, however short they are. */
		if (d > max || d >= HB_MAX(n, len))
			continue;
		best = *names;
		if (d == 0)
			break;
		max = d - 1;
	}
	return (best);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/core/match/doc.h: one YAML document a test, and what compiling it said. doc_open decodes
 * (decoding must succeed), doc_close frees.
 */
#ifndef TEST_CORE_MATCH_DOC_H
#define TEST_CORE_MATCH_DOC_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/config/config.h"

static struct hb_cfg *doc;

static inline const void *
doc_open(const ProtobufCMessageDescriptor *desc, const char *yaml)
{
	const void *msg;

	assert_null(doc);
	doc = hb_cfg_new("test.yaml", NULL);
	msg = hb_cfg_parse_text(doc, hb_str(yaml), desc);
	for (size_t i = 0; msg == NULL && i < hb_cfg_errs(doc)->n; i++) {
		char line[1400];

		(void)hb_err_format(&hb_cfg_errs(doc)->v[i], line, sizeof line);
		print_message("%s\n", line);
	}
	assert_non_null(msg);
	return (msg);
}

static inline void
doc_close(void)
{
	hb_cfg_free(&doc);
}

/* The document has exactly one error, at this path, with these words in it. */
static inline void
doc_assert_error(const char *path, const char *words)
{
	const struct hb_errs *e = hb_cfg_errs(doc);

	if (e->n != 1 || strcmp(e->v[0].path, path) != 0 || strstr(e->v[0].text, words) == NULL) {
		print_message("wanted: %s: %s\n", path, words);
		for (size_t i = 0; i < e->n; i++)
			print_message("got: %s: %s\n", e->v[i].path, e->v[i].text);
	}
	assert_int_equal(e->n, 1);
	assert_string_equal(e->v[0].path, path);
	assert_non_null(strstr(e->v[0].text, words));
}

#endif

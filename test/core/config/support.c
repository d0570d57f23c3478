/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include "test/core/config/support.h"

struct hb_cfg *
text_cfg(const char *text, const ProtobufCMessageDescriptor *desc, const ProtobufCMessage **ret_msg)
{
	struct hb_cfg *cfg = hb_cfg_new("t.yaml", NULL);

	*ret_msg = hb_cfg_parse_text(cfg, hb_str(text), desc);
	return (cfg);
}

void
expect_cfg_errors(struct hb_cfg *cfg, const char *file, va_list ap)
{
	const struct hb_errs *errs = hb_cfg_errs(cfg);
	const char *want;
	size_t i = 0;

	for (; (want = va_arg(ap, const char *)) != NULL; i++) {
		char line[2048], full[2048];

		if (i >= errs->n)
			fail_msg("error %zu is missing: %s", i, want);
		hb_err_format(&errs->v[i], line, sizeof line);
		/* Without a line there is a blank after the name. */
		snprintf(full, sizeof full, "%s:%s%s", file,
			*want >= '0' && *want <= '9' ? "" : " ", want);
		assert_string_equal(line, full);
	}
	if (i < errs->n) {
		char line[2048];

		hb_err_format(&errs->v[i], line, sizeof line);
		fail_msg("an error too many: %s", line);
	}
}

void
expect_errors(const char *text, const ProtobufCMessageDescriptor *desc, ...)
{
	const ProtobufCMessage *m;
	struct hb_cfg *cfg = text_cfg(text, desc, &m);
	va_list ap;

	assert_null(m);
	va_start(ap, desc);
	expect_cfg_errors(cfg, "t.yaml", ap);
	va_end(ap);
	hb_cfg_free(&cfg);
}

void
expect_json(const char *text, const ProtobufCMessageDescriptor *desc, const char *json)
{
	const ProtobufCMessage *m;
	struct hb_cfg *cfg = text_cfg(text, desc, &m);
	struct hb_text t = { 0 };
	char line[2048];

	if (m == NULL) {
		hb_err_format(&hb_cfg_errs(cfg)->v[0], line, sizeof line);
		fail_msg("%s", line);
	}
	hb_cfg_to_json(&t, m, -1);
	assert_string_equal(t.p, json);
	hb_text_fini(&t);
	hb_cfg_free(&cfg);
}

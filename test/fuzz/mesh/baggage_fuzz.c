/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of a baggage header, one a line of the input: written again, nothing is added or changed. */
#include "core/mesh/baggage.h"

#define LINES_MAX 16u

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static size_t
lines_of(const uint8_t *p, size_t n, struct hb_str *lines)
{
	size_t n_lines = 0, start = 0;

	for (size_t i = 0; i <= n && n_lines < LINES_MAX; i++) {
		if (i < n && p[i] != '\n')
			continue;
		lines[n_lines++] = hb_strn(p + start, i - start);
		start = i + 1;
	}
	return (n_lines);
}

static void
same_or_gone(struct hb_str before, struct hb_str after)
{
	HB_ASSERT(after.len == 0 || hb_str_eq(before, after));
	HB_ASSERT(before.len <= HB_BAGGAGE_VALUE_MAX);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const struct hb_baggage nothing;
	struct hb_str lines[LINES_MAX], line;
	struct hb_text t = { 0 }, u = { 0 };
	struct hb_workload_labels l;
	struct hb_baggage b, again;
	enum hb_baggage_error e = hb_baggage_parse(lines, lines_of(p, n, lines), &b);

	HB_ASSERT(*hb_baggage_error_text(e) != '\0');
	HB_ASSERT(e == HB_BAGGAGE_OK || memcmp(&b, &nothing, sizeof b) == 0);
	hb_baggage_format(&b, &t);
	HB_ASSERT(t.len <= HB_BAGGAGE_BYTES_MAX);
	line = hb_strn(t.p, t.len);
	HB_ASSERT(hb_baggage_parse(&line, 1, &again) == HB_BAGGAGE_OK);
#define SAME(m, k) same_or_gone(b.m, again.m);
	HB_BAGGAGE_MEMBERS(SAME)
#undef SAME
	hb_baggage_format(&again, &u);
	HB_ASSERT(hb_str_eq(line, hb_strn(u.p, u.len)));
	/* Never another namespace than the certificate's. */
	(void)hb_destination_labels(HB_STR("spiffe://td/ns/a/sa/b"), &b, false, &l);
	HB_ASSERT(hb_str_eq(l.ns, HB_STR("a")));
	hb_text_fini(&t);
	hb_text_fini(&u);
	return (0);
}

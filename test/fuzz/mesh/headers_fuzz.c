/* SPDX-License-Identifier: Apache-2.0 */
/* One value, read as each of the headers; what is accepted comes back from what is written. */
#include "core/mesh/headers.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void
trace(struct hb_str s)
{
	char text[HB_TRACEPARENT_LEN + 1];
	struct hb_trace t, child;

	if (!hb_trace_parse(s, &t))
		return;
	hb_trace_format(&t, text);
	HB_ASSERT(hb_str_eq(hb_str(text), s));
	hb_trace_child(&t, &child);
	hb_trace_format(&child, text);
	HB_ASSERT(hb_trace_parse(hb_str(text), &t));
}

static void
forwarded(struct hb_str s)
{
	struct hb_forwarded f, again;
	struct hb_text t = { 0 };

	if (!hb_forwarded_parse(s, &f)) {
		HB_ASSERT(f.from.kind == HB_ADDR_NONE && f.host.len == 0);
		return;
	}
	HB_ASSERT(f.host.len <= HB_FORWARDED_HOST_MAX);
	hb_forwarded_format(&f, &t);
	HB_ASSERT((t.len > 0) == (f.from.kind != HB_ADDR_NONE));
	if (t.len > 0) {
		HB_ASSERT(hb_forwarded_parse(hb_strn(t.p, t.len), &again));
		HB_ASSERT(hb_addr_eq(&again.from, &f.from) && hb_str_eq(again.host, f.host));
	}
	hb_text_fini(&t);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct hb_str s = hb_strn(p, n);
	const char *source = hb_istio_source_text(hb_istio_source_parse(s));

	trace(s);
	forwarded(s);
	HB_ASSERT(source == NULL || hb_str_eq(hb_str(source), s));
	HB_ASSERT(!hb_network_valid(s) || (n > 0 && n <= HB_NETWORK_MAX));
	return (0);
}

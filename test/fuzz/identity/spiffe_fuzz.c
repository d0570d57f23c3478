/* SPDX-License-Identifier: Apache-2.0 */
/* An accepted id is put together again from its parts, byte for byte. */
#include "core/identity/identity.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct hb_str uri = hb_strn(p, n);
	struct hb_text t = { 0 };
	struct hb_spiffe s;
	struct hb_err err;

	if (hb_spiffe_parse(uri, &s, &err) != 0) {
		HB_ASSERT(err.text[0] != '\0');
		return (0);
	}
	HB_ASSERT(s.trust_domain.len > 0 && (s.path.len == 0 || s.path.p[0] == '/'));
	hb_text_printf(&t, "spiffe://%.*s", HB_STR_FMT(s.trust_domain));
	if (s.ns.len > 0)
		hb_text_printf(&t, "/ns/%.*s/sa/%.*s", HB_STR_FMT(s.ns), HB_STR_FMT(s.sa));
	else
		hb_text_printf(&t, "%.*s", HB_STR_FMT(s.path));
	HB_ASSERT(hb_str_eq(hb_strn(t.p, t.len), uri));
	hb_text_fini(&t);
	return (0);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What is accepted has one canonical text, which is accepted as the same authority. */
#include "core/mesh/authority.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	char text[HB_AUTHORITY_MAX + 1];
	struct hb_authority a, again;
	enum hb_authority_error e = hb_authority_parse(hb_strn(p, n), &a);
	int len;

	HB_ASSERT(*hb_authority_error_text(e) != '\0');
	if (e != HB_AUTHORITY_OK)
		return (0);
	HB_ASSERT(n <= HB_AUTHORITY_MAX && a.port != 0);
	HB_ASSERT(a.is_ip ? a.ip.kind != HB_ADDR_NONE && a.host_len == 0 :
			    a.ip.kind == HB_ADDR_NONE && a.host_len > 0);
	HB_ASSERT(strlen(a.host) == a.host_len);
	len = hb_authority_format(&a, text, sizeof text);
	HB_ASSERT(len > 0 && (size_t)len < sizeof text);
	HB_ASSERT(hb_authority_parse(hb_strn(text, (size_t)len), &again) == HB_AUTHORITY_OK);
	HB_ASSERT(again.port == a.port && again.is_ip == a.is_ip);
	HB_ASSERT(strcmp(again.host, a.host) == 0 && hb_addr_eq(&again.ip, &a.ip));
	return (0);
}

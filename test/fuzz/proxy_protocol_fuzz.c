/* SPDX-License-Identifier: Apache-2.0 */
/* The PROXY header parser: an answer never changes when more bytes come, and MORE asks in good
 * faith. */
#include <stdlib.h>
#include "filters/listener/proxy_protocol/proxy_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum hb_proxy_status
parse(const uint8_t *data, size_t size, struct hb_proxy_header *ret)
{
	uint8_t *copy = malloc(size > 0 ? size : 1);
	enum hb_proxy_status s;
	struct hb_str tlvs, value;
	uint8_t type;

	if (size > 0)
		memcpy(copy, data, size);
	s = hb_proxy_header_parse(copy, size, ret);
	for (tlvs = ret->tlvs; hb_proxy_tlv_next(&tlvs, &type, &value);)
		HB_ASSERT(value.len == 0 || value.p + value.len <= (char *)copy + size);
	free(copy);
	return (s);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hb_proxy_header h, part;
	enum hb_proxy_status s = parse(data, size, &h), sp;
	size_t last = HB_MIN(size, (size_t)200);

	for (size_t n = 0; n < last; n++) {
		sp = parse(data, n, &part);
		if (sp == HB_PROXY_MORE) {
			HB_ASSERT(part.size > n);
			continue;
		}
		HB_ASSERT(sp == s && part.version == h.version);
		HB_ASSERT(s != HB_PROXY_DONE || part.size == h.size);
		break;
	}
	if (s == HB_PROXY_DONE) {
		HB_ASSERT(h.size <= size && h.size <= HB_PROXY_V2_MAX);
		HB_ASSERT(!h.addressed ||
			(h.source.kind != HB_ADDR_NONE && h.source.kind <= HB_ADDR_V6));
		HB_ASSERT(parse(data, h.size - 1, &part) == HB_PROXY_MORE && part.size <= h.size);
		HB_ASSERT(parse(data, h.size, &part) == HB_PROXY_DONE);
	}
	return (0);
}

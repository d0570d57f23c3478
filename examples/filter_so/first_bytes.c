/* SPDX-License-Identifier: Apache-2.0 */
/* Logs how many bytes the first read of a connection brought, then steps out of the way. */
#include "core/base/log.h"
#include "core/filter/filter.h"

static enum hb_filter_status
first_bytes_on_read(struct hb_filter *f, struct hb_buf *buf, bool end)
{
	HB_LOG(FILTER, INFO, "first bytes", "id=%llu bytes=%zu",
		(unsigned long long)hb_filter_conn_id(f), buf->len);
	return (HB_FILTER_DETACH);
}

static const struct hb_filter_type first_bytes = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.kind = HB_FILTER_NETWORK,
	.name = "example.first_bytes",
	.on_read = first_bytes_on_read,
};

extern const struct hb_filter_type *const hb_filter_module[];
const struct hb_filter_type *const hb_filter_module[] = { &first_bytes, NULL };

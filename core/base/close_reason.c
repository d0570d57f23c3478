/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/close_reason.h"

static const struct hb_close_info infos[HB_CLOSE_MAX] = {
#define X(e, c, i, f, d, t)    \
	[HB_CLOSE_##e] = {     \
		.name = #e,    \
		.counter = c,  \
		.flag = f,     \
		.detail = d,   \
		.text = t,     \
		.is_error = i, \
	},
	HB_CLOSE_REASONS(X)
#undef X
};

const struct hb_close_info *hb_close_info(enum hb_close_reason r)
{
	HB_ASSERT((unsigned)r < HB_CLOSE_MAX);
	return (&infos[r]);
}

enum hb_close_reason
hb_close_attempts(enum hb_close_reason last)
{
	switch (last) {
	case HB_CLOSE_CONNECT_TIMEOUT:
	case HB_CLOSE_TLS_TIMEOUT:
	case HB_CLOSE_ATTEMPTS_TIMEOUT:
		return (HB_CLOSE_ATTEMPTS_TIMEOUT);
	default:
		return (HB_CLOSE_CONNECT_ATTEMPTS);
	}
}

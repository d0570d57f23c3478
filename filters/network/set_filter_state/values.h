/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filters/network/set_filter_state/values.h: objects of the filter state that a format makes, for
 * connections and for requests.
 */
#ifndef HB_FILTERS_NETWORK_SET_FILTER_STATE_VALUES_H
#define HB_FILTERS_NETWORK_SET_FILTER_STATE_VALUES_H

#include "core/stats/access_log.h"
#include "envoy/extensions/filters/common/set_filter_state/v3/value.pb-c.h"

struct hb_state_value {
	char *key;                /* owned */
	struct hb_format *format; /* owned */
	bool read_only, skip_if_empty, must_be_address;
	uint8_t shared;
};

struct hb_state_values {
	struct hb_state_value *v; /* owned */
	size_t n;
};

/* Reports all errors. */
void hb_state_values_compile(struct hb_cfg *,
	Envoy__Extensions__Filters__Common__SetFilterState__V3__FilterStateValue *const *, size_t n,
	struct hb_state_values *ret);
/* Accepts what is zeroed. */
void hb_state_values_fini(struct hb_state_values *);
/* In order; each may use what the ones before it have set. */
void hb_state_values_set(
	const struct hb_state_values *, struct hb_facts *, const struct hb_log_entry *);

#endif

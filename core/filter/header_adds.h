/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/filter/header_adds.h: headers of a request by configuration: lists of
 * envoy.config.core.v3.HeaderValueOption whose values are format strings.
 */
#ifndef HB_CORE_FILTER_HEADER_ADDS_H
#define HB_CORE_FILTER_HEADER_ADDS_H

#include "core/config/config.h"
#include "core/facts/facts.h"
#include "core/filter/dial.h"

#define HB_HEADER_ADDS_MAX 32u /* of one list */

struct hb_log_entry; /* core/stats/access_log.h */

struct hb_header_adds; /* frozen */
/* `msgs` are HeaderValueOption. NULL with *ret_ok true when n is 0; errors are reported. */
struct hb_header_adds *hb_header_adds_compile(struct hb_cfg *, const void *owner_msg,
    const char *field, void *const *msgs, size_t n, bool *ret_ok);
void hb_header_adds_free(struct hb_header_adds **); /* accepts NULL inside */

/* Headers while they are made. */
struct hb_header_list {
	struct hb_arena  *arena; /* of the strings               */
	struct hb_header *v;     /* of `cap` entries, the caller's */
	size_t n, cap;           /* what is beyond cap is left out */
};
/* One more, copied; without blanks around it. Left out when it cannot be a header's value. */
void hb_header_list_add(struct hb_header_list *, struct hb_str name, struct hb_str value);
/* One more, borrowed, of a value that is fit as it is. */
void hb_header_list_put(struct hb_header_list *, struct hb_str name, struct hb_str value);
/* As each entry's append_action says; `adds` may be NULL. */
void hb_header_adds_apply(const struct hb_header_adds *, const struct hb_log_entry *,
    struct hb_header_list *);

#endif

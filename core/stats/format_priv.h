/* SPDX-License-Identifier: Apache-2.0 */
/* core/stats/format_priv.h: the operators of format strings; inside this room only. */
#ifndef HB_CORE_STATS_FORMAT_PRIV_H
#define HB_CORE_STATS_FORMAT_PRIV_H

#include "core/stats/access_log.h"

enum format_arg { FORMAT_ARG_NONE, FORMAT_ARG_MAY, FORMAT_ARG_MUST };

struct format_op;

struct format_op_def {
	const char     *name;
	enum format_arg arg;
	bool            numeric; /* a JSON number when typed */
	/* Appends the value; false = it has none. */
	bool (*write)(const struct format_op *, const struct hb_log_entry *, struct hb_text *);
	const char *help; /* for docs/reference.md, which is made from the table */
};

struct format_op {
	const struct format_op_def *def; /* NULL = literal text */
	char    *text;                   /* owned; of a literal */
	size_t   text_len;
	char    *arg;                    /* owned; NULL = none  */
	uint32_t truncate;               /* 0 = no              */
};

const struct format_op_def *hb_format_op_find(struct hb_str name); /* NULL = unknown */
const char *hb_format_op_nearest(const char *name);                /* NULL = none near */

#endif

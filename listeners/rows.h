/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listeners/rows.h: how connections and tunnels are written for people and for programs. Workers
 * add rows, one line each; the control thread makes a page of what came together.
 */
#ifndef HB_LISTENERS_ROWS_H
#define HB_LISTENERS_ROWS_H

#include "core/facts/facts.h"

enum hb_row_style { HB_ROW_TABLE, HB_ROW_JSON, HB_ROW_LOG };

struct hb_row { /* all borrowed */
	uint64_t id, age_ms, received, sent;
	const char *direction; /* of a tunnel: "in", "out", "outer" */
	bool outer;
	const char *state, *listener, *chain;
	const struct hb_facts *facts;
	struct hb_addr peer, endpoint; /* NONE = none */
	struct hb_str authority, cluster, principal;
};

/* A worker adds the line of a connection, or of a tunnel. */
void hb_row_add(struct hb_text *, const struct hb_row *, enum hb_row_style, bool tunnel);
/* Rows of HB_ROW_TABLE below their heads, columns as wide as what is in them. */
void hb_rows_table(struct hb_text *to, const struct hb_text *rows, bool tunnels);

#endif

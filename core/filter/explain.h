/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/filter/explain.h: the answer of `hbone explain` and /explain, written step by step: which
 * chain, filter verdicts, cluster, endpoint a connection with given facts would get, and why the
 * others lost. Control thread; text and JSON come from the same calls.
 */
#ifndef HB_CORE_FILTER_EXPLAIN_H
#define HB_CORE_FILTER_EXPLAIN_H

#include "core/facts/facts.h"

struct hb_explain;

struct hb_explain *hb_explain_new(void);
void hb_explain_free(struct hb_explain **);

/*
 * One line of reasoning. `topic` is one word for machines ("listener", "chain", "filter",
 * "cluster", "endpoint", "result"), `subject` a name, `verdict` one word ("chosen", "lost",
 * "allow", "deny", "pass", "refused", "needs_bytes"), then why.
 */
HB_EXPORT void hb_explain_step(struct hb_explain *, const char *topic, const char *subject,
    const char *verdict, const char *why_fmt, ...) HB_PRINTF(5, 6);
/* A filter names the cluster that it would dial; the caller goes on from there. */
HB_EXPORT void hb_explain_set_cluster(struct hb_explain *, struct hb_str cluster);
struct hb_str hb_explain_cluster(const struct hb_explain *);
/* A filter ends the connection: nothing after it is asked. */
HB_EXPORT void hb_explain_stop(struct hb_explain *);
bool hb_explain_stopped(const struct hb_explain *);
/* Facts that a filter would set (filter state) go to a private copy. */
HB_EXPORT struct hb_facts *hb_explain_facts(struct hb_explain *);

void hb_explain_text(const struct hb_explain *, struct hb_text *);
void hb_explain_json(const struct hb_explain *, struct hb_text *);

#endif

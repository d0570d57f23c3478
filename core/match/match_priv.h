/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/match/match_priv.h: conditions that the matchers of this room share. Each is compiled from a
 * message (errors go to the document, NULL or a negative value says that there were some), frozen,
 * and freed by its owner. `_text` functions describe a condition for people.
 */
#ifndef HB_CORE_MATCH_MATCH_PRIV_H
#define HB_CORE_MATCH_MATCH_PRIV_H

#include "core/match/ip_table_priv.h"
#include "core/match/match.h"

/* A CidrRange of envoy.config.core.v3 or xds.core.v3. `field` and `index` say where it stands. */
int hb_match__cidr(struct hb_cfg *, const void *owner_msg, const char *field, int index,
    const void *cidr_msg, struct hb_cidr *ret);
void hb_match__cidr_text(struct hb_text *, const struct hb_cidr *);

void hb_match__string_text(struct hb_text *, const struct hb_string_matcher *);

/* envoy.type.matcher.v3.MetadataMatcher on the connection's own metadata. */
struct hb_metadata_matcher;
struct hb_metadata_matcher *hb_metadata_matcher_compile(struct hb_cfg *, const void *owner_msg,
    const char *field, const void *msg);
void hb_metadata_matcher_free(struct hb_metadata_matcher **);
bool hb_metadata_match(const struct hb_metadata_matcher *, const struct hb_facts *);
void hb_match__metadata_text(struct hb_text *, const struct hb_metadata_matcher *);

/* The key of a value in the flat metadata store: keys of a path joined by dots; path segments are
 * messages with `key`. NULL after an error; the caller frees. */
char *hb_match__metadata_key(struct hb_cfg *, const void *owner_msg, const char *filter, size_t n,
    const void *const *segments);

/* envoy.type.matcher.v3.FilterStateMatcher; what is not there does not match. */
struct hb_state_matcher;
struct hb_state_matcher *hb_state_matcher_compile(struct hb_cfg *, const void *owner_msg,
    const char *field, const void *msg);
void hb_state_matcher_free(struct hb_state_matcher **);
bool hb_state_match(const struct hb_state_matcher *, const struct hb_facts *);
void hb_match__state_text(struct hb_text *, const struct hb_state_matcher *);

/* Of hb_facts_identity(): names of a type in the peer's certificate, in order; p NULL = no more. A
 * principal without a certificate counts as its only URI name. */
struct hb_str hb_match__identity_san(const struct hb_facts *, int san_type, size_t i);
/* "" without a certificate. */
const char *hb_match__identity_subject(const struct hb_facts *);

/* One line of an explanation; takes the text. */
static inline void
hb_match__tell(const struct hb_explain_sink *sink, const char *subject, const char *verdict,
    struct hb_text *why)
{
	sink->line(sink->arg, subject, verdict, why->p == NULL ? "" : why->p);
	hb_text_fini(why);
}

#endif

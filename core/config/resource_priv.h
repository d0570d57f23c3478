/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/config/resource_priv.h: the table of resources as bootstrap.c sees it.
 */
#ifndef HB_CORE_CONFIG_RESOURCE_PRIV_H
#define HB_CORE_CONFIG_RESOURCE_PRIV_H

#include "core/config/resource.h"

#define HB_RESOURCE_ENTRY_MAGIC 0x4e5041ceU

/* A resource that is live, was refused, or both (the last good one stays). */
struct hb_resource__entry {
	unsigned magic;
	const struct hb_resource_kind *kind;
	char *name, *version;
	enum hb_resource_origin origin;
	bool  live;
	struct hb_text wire;
	int64_t updated_ms;
	char *error; /* NULL = none */
	struct hb_text error_wire;
	int64_t error_ms;
};

/* Kinds in their order. */
size_t hb_resource__n_kinds(void);
const struct hb_resource_kind *hb_resource__kind_at(size_t);
struct hb_resource__entry *hb_resource__find(const struct hb_resource_kind *, const char *name);
/* By name; the array is the caller's, the entries are not. */
struct hb_resource__entry **hb_resource__list(const struct hb_resource_kind *, size_t *ret_n);

size_t hb_resource__n_errs(struct hb_cfg *);
/* True when the entry is live with these bytes. */
bool hb_resource__same(const struct hb_resource__entry *, const struct hb_text *wire);
/* Forgets an older error of a live resource which was sent again. */
void hb_resource__unchanged(struct hb_resource__entry *, const char *version);
/* True, and an error is reported, when the name belongs to the other origin. */
bool hb_resource__owned_by_other(struct hb_cfg *, const struct hb_resource_kind *, const char *name,
    enum hb_resource_origin, const ProtobufCMessage *);
/* 0 and *ret_obj, or -EINVAL with at least one error reported and nothing to discard. */
int  hb_resource__compile(struct hb_cfg *, const struct hb_resource_kind *,
    const ProtobufCMessage *, void **ret_obj);
/* Takes obj, and wire on success; on failure the error is reported and kept. */
int  hb_resource__publish(struct hb_cfg *, const struct hb_resource_kind *, const char *name,
    const char *version, enum hb_resource_origin, const ProtobufCMessage *, struct hb_text *wire,
    void *obj);
/* Keeps the errors since errs_before as the state of the resource; takes wire. */
void hb_resource__refused(struct hb_cfg *, const struct hb_resource_kind *, const char *name,
    enum hb_resource_origin, struct hb_text *wire, size_t errs_before);

#endif

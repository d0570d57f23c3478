/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/config/resource.h: kinds of resources (cluster, listener, secret, …) and applying them.
 *
 * A room registers how its kind is compiled, published and retired; files (static resources) and
 * xDS then apply resources of that kind by name. Nothing here knows a resolved type. Control
 * thread only.
 *
 * Applying: same bytes as the live one = nothing happens. Otherwise compile; on error the live one
 * stays and the error is kept for /config_dump (error_state); on success publish replaces it.
 * Order of a whole document: clusters before listeners, removals of listeners first, removals of
 * clusters last (make before break).
 */
#ifndef HB_CORE_CONFIG_RESOURCE_H
#define HB_CORE_CONFIG_RESOURCE_H

#include "core/config/config.h"

struct hb_resource_kind {
	const char *name;                         /* "cluster": for messages and dumps            */
	const ProtobufCMessageDescriptor *desc;   /* of the resource                              */
	int order;                                /* lower is applied first, removed last         */
	/*
	 * Message to frozen object. Errors through hb_cfg_error; returns 0 and *ret_obj, or
	 * -EINVAL. Must not change any live state: `validate` calls it too.
	 */
	int (*compile)(struct hb_cfg *, const ProtobufCMessage *, void **ret_obj);
	/* Drops a compiled object that was never published. */
	void (*discard)(void *obj);
	/*
	 * Makes the object live under `name`, replacing an older one in place; takes ownership.
	 * May fail (an address is in use): then the old one stays live and obj is dropped.
	 */
	int (*publish)(const char *name, void *obj, struct hb_err *reterr);
	/* Takes the live object out of service (drain as configured). */
	void (*retire)(const char *name);
	/* Name of a resource of this kind inside its message; borrowed from it. */
	struct hb_str (*name_of)(const ProtobufCMessage *);
	/* True once the object serves (warming is over); NULL = always. For init and dumps. */
	bool (*is_active)(const char *name);
	/*
	 * (opt) Can two compiled objects of one document not live together (one address)? Then it
	 * reports at `msg`, the later one's, and returns -EINVAL. So that `validate` tells what
	 * otherwise only publish would find.
	 */
	int (*clash)(struct hb_cfg *, const ProtobufCMessage *msg, const void *obj,
	    const void *earlier);
};

/* Kind structs must live for ever; registered by core/app before any configuration. */
void hb_resource_kind_add(const struct hb_resource_kind *);
const struct hb_resource_kind *hb_resource_kind_find(struct hb_str full_message_name);

enum hb_resource_origin { HB_RESOURCE_STATIC, HB_RESOURCE_XDS };

/* What /config_dump and tests see of one resource. Strings are borrowed until the next change. */
struct hb_resource_view {
	const struct hb_resource_kind *kind;
	const char *name;
	const char *version;        /* "" for static ones                                     */
	enum hb_resource_origin origin;
	struct hb_str wire;         /* protobuf bytes as applied; empty if none is live       */
	int64_t updated_ms;         /* wall clock, ms since 1970                              */
	const char *error;          /* of the last refused update, NULL = none                */
	struct hb_str error_wire;   /* the refused bytes                                      */
	int64_t error_ms;
};

/*
 * Applies one resource message of cfg (decoded there already). On refusal returns a negative
 * errno; the errors are in hb_cfg_errs(cfg), the live one stays.
 */
int hb_resource_apply(struct hb_cfg *cfg, const struct hb_resource_kind *, const char *name,
    const char *version, enum hb_resource_origin, const ProtobufCMessage *);
/* false: not there. A static resource is not removed by xDS and the reverse. */
bool hb_resource_remove(const struct hb_resource_kind *, const char *name,
    enum hb_resource_origin);
bool hb_resource_get(const struct hb_resource_kind *, const char *name,
    struct hb_resource_view *ret);
/* In order of kinds, then names. */
void hb_resource_foreach(void (*fn)(void *arg, const struct hb_resource_view *), void *arg);

/*
 * A whole bootstrap (envoy.config.bootstrap.v3.Bootstrap): static_resources are compared with what
 * is live and applied, what vanished is removed. `dry_run` compiles everything and changes
 * nothing. Returns 0 when all of it was good; otherwise the good resources are live (not with
 * dry_run), the bad ones are in hb_cfg_errs(cfg). On the first load (`all_or_nothing`) nothing is
 * published unless everything is good.
 */
int hb_bootstrap_apply(struct hb_cfg *cfg, const ProtobufCMessage *bootstrap, bool dry_run,
    bool all_or_nothing);

#endif

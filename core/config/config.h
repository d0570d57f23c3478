/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/config/config.h: from YAML, JSON or protobuf bytes to messages, and from messages to frozen
 * structs.
 *
 * The model is one: protobuf messages with Envoy's real names and numbers (api/). Decoding is
 * driven by descriptors: no room parses text. `compile` functions of the rooms then turn messages
 * into frozen structs and report every error they find, not only the first.
 *
 * Life of a struct hb_cfg: decode one document (or one xDS resource), hand it to compile
 * functions, read the errors, free. It owns the messages and the memory of where each came from;
 * nothing in a compiled struct points into it. Control thread only.
 *
 * Classes of fields (api/<file>.proto comments, generated table): `honoured`, `harmless` (why), or
 * `refused`. A field that is refused or not declared is an error when it comes from a file; from
 * xDS an undeclared or refused tag in a message of listener, filter, TLS, route or policy refuses
 * that resource, elsewhere it is counted.
 */
#ifndef HB_CORE_CONFIG_CONFIG_H
#define HB_CORE_CONFIG_CONFIG_H

#include <protobuf-c/protobuf-c.h>
#include "core/base/err.h"
#include "core/base/str.h"

struct hb_cfg;

/* Limits of a document; zero = default. Exceeding one is an error with a location. */
struct hb_cfg_limits {
	size_t   bytes_max;   /* of the document, 16 MiB                                */
	unsigned depth_max;   /* nesting, 100                                           */
	size_t   nodes_max;   /* values after aliases are expanded, 2 million; each 64  */
	                      /* bytes of text count as one                             */
	unsigned aliases_max; /* uses of aliases, 100,000                               */
};

/* ------------------------------------------------------------------ message types */

/*
 * Makes a message type known to `@type`, to JSON output and to Any. All of api/ is added by
 * hb_cfg_types_init; a filter from a .so adds its own. The descriptor must live for ever.
 */
void hb_cfg_types_init(void);
int  hb_cfg_type_add(const ProtobufCMessageDescriptor *, struct hb_err *reterr);
/* By full name ("envoy.config.listener.v3.Listener") or type URL; NULL = unknown. */
const ProtobufCMessageDescriptor *hb_cfg_type_find(struct hb_str name_or_url);

/* ------------------------------------------------------------------ documents */

/*
 * `name` is what errors call the document: the file's name or "listener 0.0.0.0_15443". Never
 * fails; errors are in hb_cfg_errs().
 */
struct hb_cfg *hb_cfg_new(const char *name, const struct hb_cfg_limits *limits);
void hb_cfg_free(struct hb_cfg **);

/*
 * Decodes YAML or JSON (a subset of YAML here) as one message of type `desc`. Returns the message,
 * owned by cfg, or NULL when anything was wrong (all errors are in the list). proto3 JSON rules:
 * lowerCamel and snake_case names, enums by name or number, "1.5s" durations, wrappers as bare
 * scalars, `@type` in Any, Struct as plain mapping. Unknown and refused fields are errors with
 * line, column, full path and the nearest name. Merge keys (<<) are an error.
 */
const ProtobufCMessage *hb_cfg_parse_text(struct hb_cfg *, struct hb_str text,
    const ProtobufCMessageDescriptor *desc);
/* Same from a file ("-" = standard input). */
const ProtobufCMessage *hb_cfg_parse_file(struct hb_cfg *, const char *path,
    const ProtobufCMessageDescriptor *desc);
/* Decodes protobuf bytes; undeclared tags are handled as the class rules above say. */
const ProtobufCMessage *hb_cfg_parse_wire(struct hb_cfg *, struct hb_str bytes,
    const ProtobufCMessageDescriptor *desc);

struct hb_errs *hb_cfg_errs(struct hb_cfg *);
/* Things to tell that are no errors (a harmless field of no effect, a weak default). */
struct hb_errs *hb_cfg_warnings(struct hb_cfg *);
/* What holds because nothing else is said, and is as it should be: for `validate`. */
struct hb_errs *hb_cfg_notes(struct hb_cfg *);

/* Undeclared and refused tags of protobuf bytes that were counted and passed over. */
size_t hb_cfg_passed_over(const struct hb_cfg *);
/* Full path of a message of this document, "" = the root or unknown. Caller frees. */
char *hb_cfg_path(struct hb_cfg *, const void *msg) HB_NONNULL;

/* ------------------------------------------------------------------ for compile functions */

/*
 * Reports an error at a field of a message of this document; the location (file:line:column and
 * full path) is found from the message's address. `field` is the proto name, NULL = the message
 * itself; index >= 0 selects an element of a repeated field. Always returns -EINVAL.
 */
HB_EXPORT int hb_cfg_error(struct hb_cfg *, const void *msg, const char *field, int index,
    const char *fmt, ...) HB_PRINTF(5, 6);
void hb_cfg_warn(struct hb_cfg *, const void *msg, const char *field, int index,
    const char *fmt, ...) HB_PRINTF(5, 6);
void hb_cfg_note(struct hb_cfg *, const void *msg, const char *field, int index,
    const char *fmt, ...) HB_PRINTF(5, 6);

/*
 * The field names a resource, of kind "cluster" or "listener": hb_bootstrap_apply warns when its
 * document has none of that name. Of a message that is not of this document nothing is remembered.
 */
void hb_cfg_refers(struct hb_cfg *, const void *msg, const char *field, const char *kind,
    const char *name);

/*
 * Opens a google.protobuf.Any (udpa/xds TypedStruct inside is unwrapped): the decoded message,
 * owned by cfg, or NULL after reporting the error. `any` NULL, an empty or an unknown type URL
 * are errors that say what is missing.
 */
const ProtobufCMessage *hb_cfg_any(struct hb_cfg *, const void *owner_msg, const char *field,
    int index, const void *any);
/* Same, and the type must be `desc`. */
const void *hb_cfg_any_of(struct hb_cfg *, const void *owner_msg, const char *field, int index,
    const void *any, const ProtobufCMessageDescriptor *desc);

/*
 * google.protobuf.Duration (NULL = `dflt_ms`) to milliseconds; negative or more than 10 years is
 * an error and returns dflt_ms.
 */
HB_EXPORT uint64_t hb_cfg_duration_ms(struct hb_cfg *, const void *msg, const char *field,
    const void *duration, uint64_t dflt_ms);
/* UInt32Value (NULL = dflt) within [min, max]; outside is an error and returns dflt. */
HB_EXPORT uint32_t hb_cfg_u32(struct hb_cfg *, const void *msg, const char *field, const void *wrapper,
    uint32_t min, uint32_t max, uint32_t dflt);
/* BoolValue; NULL = dflt. */
HB_EXPORT bool hb_cfg_bool(const void *wrapper, bool dflt);
/*
 * core.v3.DataSource: filename is read (limit bytes_max), inline and environment are copied.
 * 0 and *ret owned by the caller, or -EINVAL after reporting.
 */
int hb_cfg_data_source(struct hb_cfg *, const void *msg, const char *field, const void *data_source,
    size_t bytes_max, struct hb_text *ret);

/* ------------------------------------------------------------------ output */

/*
 * proto3 JSON with snake_case names (as Envoy's admin prints), default values omitted, Any opened
 * with `@type`, fields that are sensitive (class `secret`) as "[redacted]". Pretty-printed by two
 * spaces when `indent` >= 0 (the depth at which it starts), else in one line.
 */
void hb_cfg_to_json(struct hb_text *, const ProtobufCMessage *, int indent);
/* The same with default values and empty lists, as Envoy prints what is no configuration. */
void hb_cfg_to_json_defaults(struct hb_text *, const ProtobufCMessage *, int indent);
/* Bytes for keeping and hashing: equal messages of one decoder give equal bytes. Caller frees. */
struct hb_text hb_cfg_to_wire(const ProtobufCMessage *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/config/cfg_priv.h: the inside of a document: its nodes, its messages and where each of
 * them came from.
 */
#ifndef HB_CORE_CONFIG_CFG_PRIV_H
#define HB_CORE_CONFIG_CFG_PRIV_H

#include "core/config/config.h"
#include "core/config/types_priv.h"

/* ------------------------------------------------------------------ nodes */

enum hb_cfg__kind {
	HB_CFG__NULL,
	HB_CFG__SCALAR,
	HB_CFG__SEQ,
	HB_CFG__MAP,
};

struct hb_cfg__pair;

/*
 * A value as it stands in the text, in the document's arena. Aliases make nodes shared, hence
 * read-only once built.
 */
struct hb_cfg__node {
	enum hb_cfg__kind kind;
	bool     plain;  /* scalar without quotes: may be a number or a boolean               */
	unsigned line;   /* 1-based; 0 = not from text                                        */
	unsigned column;
	unsigned height; /* levels below, so that aliases are within the depth limit          */
	size_t   size;   /* nodes with aliases expanded; 64 bytes of text count as one        */
	struct hb_str text; /* SCALAR; NUL-terminated, without NUL inside                     */
	size_t   n;         /* elements of SEQ, pairs of MAP                                  */
	struct hb_cfg__node **seq;
	struct hb_cfg__pair  *map;
};

struct hb_cfg__pair {
	struct hb_str key; /* NUL-terminated */
	unsigned line, column;
	struct hb_cfg__node *value;
};

/* NULL = no such key. */
const struct hb_cfg__pair *hb_cfg__node_get(const struct hb_cfg__node *, const char *key);
/* True for the field name in snake_case and in lowerCamelCase. */
bool hb_cfg__key_is(struct hb_str key, const char *field);
/* What a person calls it: "a list", "text", … */
const char *hb_cfg__node_kind(const struct hb_cfg__node *);

/* The document's root, or NULL after reporting. */
struct hb_cfg__node *hb_cfg__read_yaml(struct hb_cfg *, struct hb_str text);
/* The same from a google.protobuf.Struct message; NULL after reporting. */
struct hb_cfg__node *hb_cfg__read_struct(struct hb_cfg *, const ProtobufCMessage *owner,
    const ProtobufCMessage *struct_msg);

/* ------------------------------------------------------------------ the document */

#define HB_CFG_MAGIC 0xc0f19d0cU

/* Where a message came from. */
struct hb_cfg__src {
	const ProtobufCMessage *msg; /* NULL = free slot                                      */
	const struct hb_cfg__node *node;   /* NULL = from bytes                               */
	const ProtobufCMessage *parent;    /* NULL = root                                     */
	const ProtobufCFieldDescriptor *field; /* of the parent; NULL = the content of an Any */
	size_t index;                      /* in a repeated field                             */
	const ProtobufCMessage *inner;     /* an Any's, a TypedStruct's content; else NULL    */
};

struct hb_cfg__block;

/* A field that names a resource; in the document's arena. */
struct hb_cfg__ref {
	struct hb_cfg__ref *next;
	const void *msg;
	const char *field; /* lives for ever */
	const char *kind;  /* lives for ever */
	const char *name;  /* in the arena   */
};

struct hb_cfg {
	unsigned magic;
	char    *name;
	struct hb_cfg_limits limits;
	struct hb_errs errs, warnings, notes;
	size_t   passed_over;            /* tags of protobuf bytes that were counted only     */
	size_t   nodes;                  /* fields of protobuf bytes so far                   */
	size_t   unpacked;               /* protobuf bytes unpacked so far                    */
	struct hb_cfg__block *blocks;    /* owned: the arena                                  */
	struct hb_cfg__src   *src;       /* owned: open addressing, by message                */
	size_t   n_src, cap_src;
	ProtobufCMessage **owned;        /* roots and contents of Any                         */
	size_t   n_owned, cap_owned;
	struct hb_cfg__ref *refs, **refs_tail; /* as they were told; tail NULL = none yet     */
};

/* Zeroed memory that lives as long as the document. */
void *hb_cfg__alloc(struct hb_cfg *, size_t);
/* A NUL-terminated copy in the arena. */
struct hb_str hb_cfg__copy(struct hb_cfg *, const void *p, size_t n);

/* The document frees the message in the end. */
void hb_cfg__own(struct hb_cfg *, ProtobufCMessage *);
/* Returned pointers are valid until the next hb_cfg__src_add. */
struct hb_cfg__src *hb_cfg__src_get(const struct hb_cfg *, const void *msg);
struct hb_cfg__src *hb_cfg__src_add(struct hb_cfg *, const ProtobufCMessage *,
    const struct hb_cfg__node *, const ProtobufCMessage *parent,
    const ProtobufCFieldDescriptor *, size_t index);

/* Reports at a place in the text; path is owned by the caller and may be NULL. */
void hb_cfg__error_at(struct hb_cfg *, unsigned line, unsigned column, const char *path,
    const char *fmt, ...) HB_PRINTF(5, 6);

/* ------------------------------------------------------------------ decoding */

/* Most fields of one message type. */
#define HB_CFG__FIELDS_MAX 256

/* Where an error about a value belongs; as the arguments of hb_cfg_error. */
struct hb_cfg__at {
	const ProtobufCMessage *msg;
	const char *field;
	int index;
};

/* Allocates and initialises a message which protobuf_c_message_free_unpacked can free. */
ProtobufCMessage *hb_cfg__msg_new(const ProtobufCMessageDescriptor *);
/* Size of one element of a repeated field. */
size_t hb_cfg__elem_size(const ProtobufCFieldDescriptor *);
/* True when a field has a value other than its default. */
bool hb_cfg__is_set(const ProtobufCMessage *, const ProtobufCFieldDescriptor *);

/*
 * Decodes a node as the content of `msg`, which is registered already. `lax`: below a harmless
 * field, where unknown types are passed over with a warning. Errors are reported.
 */
void hb_cfg__decode(struct hb_cfg *, const struct hb_cfg__node *, ProtobufCMessage *msg, bool lax);
/* The fields of a mapping, also for types with a form of their own. */
void hb_cfg__decode_fields(struct hb_cfg *, const struct hb_cfg__node *, ProtobufCMessage *msg,
    bool lax);
/* One scalar or enum into *dst; false after reporting. */
bool hb_cfg__decode_scalar(struct hb_cfg *, const struct hb_cfg__node *,
    const ProtobufCFieldDescriptor *, void *dst, struct hb_cfg__at);
/* Decimal, finite, without blanks. */
bool hb_cfg__parse_double(struct hb_str, double *ret);
/* Messages whose text form is not a mapping of their fields (type->form). */
void hb_cfg__decode_form(struct hb_cfg *, const struct hb_cfg__node *, ProtobufCMessage *msg,
    enum hb_cfg__form, bool lax);

/* Bytes of a message, owned by the caller and freed with free(). */
ProtobufCBinaryData hb_cfg__pack(const ProtobufCMessage *);
/*
 * Registers a message that was unpacked from bytes and everything below it, and opens each Any
 * whose type is known. False after reporting.
 */
bool hb_cfg__register(struct hb_cfg *, const ProtobufCMessage *msg, bool strict, unsigned depth);
/* Unpacks bytes after checking limits, tags, UTF-8 and enums; NULL after reporting. */
ProtobufCMessage *hb_cfg__unpack(struct hb_cfg *, struct hb_str bytes,
    const ProtobufCMessageDescriptor *, const ProtobufCMessage *parent, bool strict,
    unsigned depth);

/* True when bytes may be unpacked without harm, whatever else is wrong with them. */
bool hb_cfg__within_limits(struct hb_str bytes, const ProtobufCMessageDescriptor *);

#endif

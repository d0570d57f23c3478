/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/config/types_priv.h: what is known of a message type beyond its descriptor. The rows of
 * api/ are written by api/generate.py at build time.
 */
#ifndef HB_CORE_CONFIG_TYPES_PRIV_H
#define HB_CORE_CONFIG_TYPES_PRIV_H

#include <protobuf-c/protobuf-c.h>
#include "core/base/err.h"
#include "core/base/str.h"

enum hb_cfg__class {
	HB_CFG__HONOURED,
	HB_CFG__HARMLESS,
	HB_CFG__REFUSED,
};

struct hb_cfg__field {
	enum hb_cfg__class class;
	bool        secret;
	unsigned    oneof; /* 0 = none; fields with the same number exclude each other */
	const char *why;   /* NULL when honoured */
};

/* Long enough for every reason in api/. */
#define HB_CFG__WHY_MAX 200

/* "not supported" and the reason, unless that says no more; returns dst. */
const char *hb_cfg__not_supported(char dst[HB_CFG__WHY_MAX], const char *why);

/* A field that the message has elsewhere and not here. */
struct hb_cfg__reserved {
	unsigned    id;
	const char *name; /* NULL ends the list */
};

struct hb_cfg__row {
	const ProtobufCMessageDescriptor *desc;
	/* As desc->fields; NULL = no field, or all are honoured. */
	const struct hb_cfg__field *fields;
	const struct hb_cfg__reserved *reserved; /* NULL = none */
	bool map_entry;
};

extern const struct hb_cfg__row hb_cfg__rows[];
extern const size_t hb_cfg__n_rows;

/* Types that have a form of their own in text. */
enum hb_cfg__form {
	HB_CFG__PLAIN,
	HB_CFG__ANY,
	HB_CFG__DURATION,
	HB_CFG__TIMESTAMP,
	HB_CFG__STRUCT,
	HB_CFG__VALUE,
	HB_CFG__LIST,
	HB_CFG__WRAPPER,
	HB_CFG__TYPED_STRUCT,
};

#define HB_CFG__TYPE_MAGIC 0xc5c1a55eU

struct hb_cfg__type {
	unsigned magic;
	struct hb_cfg__row row;
	enum hb_cfg__form  form;
	/* Undeclared and refused tags in it refuse a resource that comes as protobuf bytes. */
	bool strict;
};

/* Never NULL for a descriptor whose type, or an enclosing type, was added. */
const struct hb_cfg__type *hb_cfg__type_of(const ProtobufCMessageDescriptor *);
/* The part of a type URL behind the last slash. */
struct hb_str hb_cfg__type_name(struct hb_str name_or_url);
/* Full name of the known type that looks most like `name`; NULL = none near. */
const char *hb_cfg__type_nearest(struct hb_str name);
/* Class of field i; a type without classes honours all. */
const struct hb_cfg__field *hb_cfg__field_of(const struct hb_cfg__type *, unsigned i);
/* True for the name of a secret field of any type, as it may stand in a plain mapping. */
bool hb_cfg__name_is_secret(struct hb_str);
/* NULL = not a field that is known and left out. */
const char *hb_cfg__reserved_name(const struct hb_cfg__type *, struct hb_str name, unsigned id);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Protobuf bytes to messages. protobuf-c unpacks recursively and without limits, and turns a
 * string with a NUL inside into a shorter one; so the bytes are walked once before.
 */
#include <stdio.h>
#include "core/config/cfg_priv.h"

/* Bytes unpacked in all, as a multiple of the limit for the document. */
#define UNPACKED_FACTOR 8

/* Levels from the outermost message, for the path in errors. */
struct frame {
	const struct frame *up;
	const ProtobufCFieldDescriptor *field;
};

struct scan {
	struct hb_cfg *cfg;
	const ProtobufCMessage *parent; /* NULL = none */
	bool shape_only; /* below what has no effect, and for printing: nothing but limits */
	bool failed;
};

static void
frame_path(struct hb_text *t, const struct frame *fr)
{
	if (fr == NULL)
		return;
	frame_path(t, fr->up);
	if (fr->field == NULL)
		return;
	if (t->len > 0)
		hb_text_addc(t, '.');
	hb_text_addz(t, fr->field->name);
}

static void fail(struct scan *, const struct frame *, const char *fmt, ...) HB_PRINTF(3, 4);

static void
fail(struct scan *sc, const struct frame *fr, const char *fmt, ...)
{
	struct hb_text path = { 0 };
	char text[400];
	char *base;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	base = sc->parent == NULL ? NULL : hb_cfg_path(sc->cfg, sc->parent);
	if (base != NULL)
		hb_text_addz(&path, base);
	frame_path(&path, fr);
	hb_cfg__error_at(sc->cfg, 0, 0, path.p, "%s", text);
	hb_text_fini(&path);
	hb_free(base);
	sc->failed = true;
}

static bool
varint(const uint8_t **p, const uint8_t *end, uint64_t *ret)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 70; shift += 7) {
		uint8_t b;

		if (*p == end)
			return (false);
		b = *(*p)++;
		if (shift < 64)
			v |= (uint64_t)(b & 0x7f) << shift;
		if ((b & 0x80) == 0) {
			*ret = v;
			return (true);
		}
	}
	return (false);
}

/* RFC 3629, and no NUL: neither is text that can be compared with what a person wrote. */
static bool
utf8_without_nul(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n;) {
		unsigned c = p[i], len, low = 0x80, high = 0xbf;

		if (c == 0)
			return (false);
		len = c < 0x80                ? 1 :
			c >= 0xc2 && c < 0xe0 ? 2 :
			c >= 0xe0 && c < 0xf0 ? 3 :
			c >= 0xf0 && c < 0xf5 ? 4 :
						0;
		if (len == 0 || n - i < len)
			return (false);
		if (c == 0xe0)
			low = 0xa0;
		else if (c == 0xed)
			high = 0x9f;
		else if (c == 0xf0)
			low = 0x90;
		else if (c == 0xf4)
			high = 0x8f;
		for (unsigned k = 1; k < len; k++) {
			if (p[i + k] < low || p[i + k] > high)
				return (false);
			low = 0x80;
			high = 0xbf;
		}
		i += len;
	}
	return (true);
}

/* A tag that the class rules do not let pass: an error where it matters, else a count. */
static void
passed_over(struct scan *sc, const struct frame *fr, bool strict, const struct hb_cfg__type *t,
	unsigned id, const char *why)
{
	const char *name = hb_cfg__reserved_name(t, (struct hb_str){ 0 }, id);
	char text[HB_CFG__WHY_MAX];
	const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(
		t->row.desc, id);

	if (f != NULL)
		name = f->name;
	if (strict && name == NULL)
		fail(sc, fr, "%s has no field %u that hbone knows", t->row.desc->name, id);
	else if (strict)
		fail(sc, fr, "field %s (%u) of %s is %s", name, id, t->row.desc->name,
			hb_cfg__not_supported(text, why));
	else
		sc->cfg->passed_over++;
}

static void scan_message(struct scan *, const uint8_t *, size_t, const ProtobufCMessageDescriptor *,
	const struct frame *, bool strict, unsigned depth);

static void
scan_bytes(struct scan *sc, const uint8_t *p, size_t n, const ProtobufCFieldDescriptor *f,
	const struct frame *fr, bool strict, unsigned depth)
{
	struct frame sub = { fr, f };

	if (f->type == PROTOBUF_C_TYPE_MESSAGE)
		scan_message(sc, p, n, f->descriptor, &sub, strict, depth + 1);
	else if (f->type == PROTOBUF_C_TYPE_STRING && !sc->shape_only && !utf8_without_nul(p, n))
		fail(sc, &sub, "the text is not UTF-8 or holds a NUL character");
}

static void
scan_varint(struct scan *sc, uint64_t v, const ProtobufCFieldDescriptor *f, const struct frame *fr,
	bool strict)
{
	struct frame sub = { fr, f };

	if (strict && !sc->shape_only && f->type == PROTOBUF_C_TYPE_ENUM &&
		protobuf_c_enum_descriptor_get_value(f->descriptor, (int)v) == NULL)
		fail(sc, &sub, "%lld is not a value of %s", (long long)v,
			((const ProtobufCEnumDescriptor *)f->descriptor)->name);
}

/* The value of a field; false when the bytes are broken. */
static bool
scan_value(struct scan *sc, const uint8_t **p, const uint8_t *end, unsigned wire_type,
	const ProtobufCFieldDescriptor *f, const struct frame *fr, bool strict, unsigned depth)
{
	uint64_t v;

	switch (wire_type) {
	case PROTOBUF_C_WIRE_TYPE_VARINT:
		if (!varint(p, end, &v))
			return (false);
		if (f != NULL)
			scan_varint(sc, v, f, fr, strict);
		return (true);
	case PROTOBUF_C_WIRE_TYPE_64BIT:
	case PROTOBUF_C_WIRE_TYPE_32BIT:
		v = wire_type == PROTOBUF_C_WIRE_TYPE_64BIT ? 8 : 4;
		break;
	case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
		if (!varint(p, end, &v) || v > (uint64_t)(end - *p))
			return (false);
		if (f != NULL)
			scan_bytes(sc, *p, (size_t)v, f, fr, strict, depth);
		break;
	default:
		return (false);
	}
	if (v > (uint64_t)(end - *p))
		return (false);
	*p += v;
	return (true);
}

/* A field from its key on; false when the bytes are broken. */
static bool
scan_field(struct scan *sc, const uint8_t **p, const uint8_t *end, uint64_t key,
	const struct hb_cfg__type *t, const struct frame *fr, bool strict, unsigned depth)
{
	const ProtobufCFieldDescriptor *f;
	const struct hb_cfg__field *c = NULL;
	bool shape_only = sc->shape_only, ok;

	f = protobuf_c_message_descriptor_get_field(t->row.desc, (unsigned)(key >> 3));
	if (f != NULL)
		c = hb_cfg__field_of(t, (unsigned)(f - t->row.desc->fields));
	if (!shape_only && (f == NULL || c->class == HB_CFG__REFUSED))
		passed_over(sc, fr, strict, t, (unsigned)(key >> 3), f == NULL ? NULL : c->why);
	/* What has no effect cannot make a resource wrong. */
	sc->shape_only |= c != NULL && c->class != HB_CFG__HONOURED;
	ok = scan_value(sc, p, end, (unsigned)(key & 7), f, fr, strict, depth);
	sc->shape_only = shape_only;
	return (ok);
}

static void
scan_message(struct scan *sc, const uint8_t *p, size_t n, const ProtobufCMessageDescriptor *desc,
	const struct frame *fr, bool strict, unsigned depth)
{
	const struct hb_cfg__type *t = hb_cfg__type_of(desc);
	const uint8_t *end = p + n;
	uint64_t key;

	strict |= t->strict;
	if (depth > sc->cfg->limits.depth_max) {
		fail(sc, fr, "nested too deeply");
		return;
	}
	while (p < end) {
		if (sc->cfg->errs.dropped > 0) {
			sc->failed = true;
			return;
		}
		if (++sc->cfg->nodes > sc->cfg->limits.nodes_max) {
			fail(sc, fr, "too many values");
			return;
		}
		if (!varint(&p, end, &key) || key >> 3 == 0 || key >> 3 > 0x1fffffff ||
			!scan_field(sc, &p, end, key, t, fr, strict, depth)) {
			fail(sc, fr, "not a valid %s message", desc->name);
			return;
		}
	}
}

ProtobufCMessage *
hb_cfg__unpack(struct hb_cfg *cfg, struct hb_str bytes, const ProtobufCMessageDescriptor *desc,
	const ProtobufCMessage *parent, bool strict, unsigned depth)
{
	struct scan sc = { .cfg = cfg, .parent = parent };
	ProtobufCMessage *m;

	/* The content of an Any is read again, and so is an Any in it. */
	cfg->unpacked += bytes.len;
	if (bytes.len > cfg->limits.bytes_max ||
		cfg->unpacked / UNPACKED_FACTOR > cfg->limits.bytes_max) {
		fail(&sc, NULL, "more than %zu bytes", cfg->limits.bytes_max);
		return (NULL);
	}
	if (bytes.p == NULL)
		bytes.p = "";
	scan_message(&sc, (const uint8_t *)bytes.p, bytes.len, desc, NULL, strict, depth);
	if (sc.failed)
		return (NULL);
	m = protobuf_c_message_unpack(desc, NULL, bytes.len, (const uint8_t *)bytes.p);
	if (m == NULL)
		fail(&sc, NULL, "not a valid %s message", desc->name);
	return (m);
}

bool
hb_cfg__within_limits(struct hb_str bytes, const ProtobufCMessageDescriptor *desc)
{
	struct hb_cfg *cfg = hb_cfg_new("", NULL);
	struct scan sc = { .cfg = cfg, .shape_only = true };

	if (bytes.p != NULL)
		scan_message(&sc, (const uint8_t *)bytes.p, bytes.len, desc, NULL, false, 0);
	hb_cfg_free(&cfg);
	return (!sc.failed);
}

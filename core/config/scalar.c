/* SPDX-License-Identifier: Apache-2.0 */
/* Text to numbers, booleans, enums, strings and bytes, as proto3 JSON has them. */
#include <math.h>
#include <stdlib.h>
#include "core/config/cfg_priv.h"

/* Digits of a base without a sign; false on an empty text, another character or overflow. */
static bool
parse_digits(struct hb_str s, unsigned base, uint64_t *ret)
{
	uint64_t v = 0;

	if (s.len == 0)
		return (false);
	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];
		unsigned d;

		if (c >= '0' && c <= '9')
			d = (unsigned)(c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			d = (unsigned)((c | 32) - 'a' + 10);
		else
			return (false);
		if (d >= base || __builtin_mul_overflow(v, base, &v) ||
			__builtin_add_overflow(v, d, &v))
			return (false);
	}
	*ret = v;
	return (true);
}

/* Decimal, 0x… or 0o…, with a sign; a leading zero is refused because YAML 1.1 reads it as octal. */
static bool
parse_int(struct hb_str s, bool *ret_negative, uint64_t *ret)
{
	*ret_negative = s.len > 0 && s.p[0] == '-';
	if (s.len > 0 && (s.p[0] == '-' || s.p[0] == '+'))
		s = hb_strn(s.p + 1, s.len - 1);
	if (s.len > 2 && s.p[0] == '0' && (s.p[1] == 'x' || s.p[1] == 'o'))
		return (parse_digits(hb_strn(s.p + 2, s.len - 2), s.p[1] == 'x' ? 16 : 8, ret));
	if (s.len > 1 && s.p[0] == '0')
		return (false);
	return (parse_digits(s, 10, ret));
}

static bool
decode_unsigned(struct hb_cfg *cfg, const struct hb_cfg__node *n, uint64_t max, uint64_t *ret,
	struct hb_cfg__at at)
{
	bool negative;

	if (n->kind == HB_CFG__SCALAR && parse_int(n->text, &negative, ret) && *ret <= max &&
		(!negative || *ret == 0))
		return (true);
	hb_cfg_error(cfg, at.msg, at.field, at.index, "must be a whole number from 0 to %llu",
		(unsigned long long)max);
	return (false);
}

static bool
decode_signed(struct hb_cfg *cfg, const struct hb_cfg__node *n, int64_t max, int64_t *ret,
	struct hb_cfg__at at)
{
	uint64_t v, limit = (uint64_t)max;
	bool negative;

	if (n->kind == HB_CFG__SCALAR && parse_int(n->text, &negative, &v) &&
		v <= limit + (negative ? 1 : 0)) {
		*ret = (int64_t)(negative ? ~v + 1 : v);
		return (true);
	}
	hb_cfg_error(cfg, at.msg, at.field, at.index, "must be a whole number from %lld to %lld",
		(long long)-max - 1, (long long)max);
	return (false);
}

bool
hb_cfg__parse_double(struct hb_str s, double *ret)
{
	char *end;

	/* strtod also takes "inf", "nan", hexadecimal and blanks. */
	if (s.len == 0 || s.len > 64 || strspn(s.p, "+-.0123456789eE") != s.len)
		return (false);
	*ret = strtod(s.p, &end);
	return (end == s.p + s.len && isfinite(*ret));
}

static bool
decode_double(struct hb_cfg *cfg, const struct hb_cfg__node *n, double *ret, struct hb_cfg__at at)
{
	if (n->kind == HB_CFG__SCALAR && hb_cfg__parse_double(n->text, ret))
		return (true);
	hb_cfg_error(cfg, at.msg, at.field, at.index, "must be a number");
	return (false);
}

static bool
decode_bool(struct hb_cfg *cfg, const struct hb_cfg__node *n, protobuf_c_boolean *ret,
	struct hb_cfg__at at)
{
	static const char *const words[2][3] = { { "false", "False", "FALSE" },
		{ "true", "True", "TRUE" } };

	/* A key of a map<bool, …> is text in JSON; it comes as plain here. */
	for (size_t i = 0; i < 6 && n->kind == HB_CFG__SCALAR && n->plain; i++) {
		if (hb_str_eq(n->text, hb_str(words[i / 3][i % 3]))) {
			*ret = i / 3;
			return (true);
		}
	}
	hb_cfg_error(cfg, at.msg, at.field, at.index, "must be true or false%s",
		n->kind == HB_CFG__SCALAR && !n->plain ? ", without quotes" : "");
	return (false);
}

static bool
decode_enum(struct hb_cfg *cfg, const struct hb_cfg__node *n, const ProtobufCEnumDescriptor *desc,
	int *ret, struct hb_cfg__at at)
{
	const ProtobufCEnumValue *v = NULL;
	const char **names, *near;
	bool negative;
	uint64_t num;

	if (n->kind == HB_CFG__SCALAR) {
		v = protobuf_c_enum_descriptor_get_value_by_name(desc, n->text.p);
		if (v == NULL && parse_int(n->text, &negative, &num) && num <= INT32_MAX)
			v = protobuf_c_enum_descriptor_get_value(
				desc, negative ? -(int)num : (int)num);
	}
	if (v != NULL) {
		*ret = v->value;
		return (true);
	}
	if (n->kind != HB_CFG__SCALAR) {
		hb_cfg_error(cfg, at.msg, at.field, at.index, "must be a value of %s, not %s",
			desc->name, hb_cfg__node_kind(n));
		return (false);
	}
	names = hb_calloc(desc->n_value_names + 1, sizeof *names);
	for (unsigned i = 0; i < desc->n_value_names; i++)
		names[i] = desc->values_by_name[i].name;
	near = hb_err_nearest(n->text.p, names);
	hb_cfg_error(cfg, at.msg, at.field, at.index, "\"%.100s\" is not a value of %s%s%s%s",
		n->text.p, desc->name, near == NULL ? "" : "; did you mean \"",
		near == NULL ? "" : near, near == NULL ? "" : "\"?");
	hb_free(names);
	return (false);
}

static int
base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (c - 'A');
	if (c >= 'a' && c <= 'z')
		return (c - 'a' + 26);
	if (c >= '0' && c <= '9')
		return (c - '0' + 52);
	if (c == '+' || c == '-')
		return (62);
	if (c == '/' || c == '_')
		return (63);
	return (-1);
}

/* Standard or URL-safe, padded or not; line breaks are allowed, since YAML folds long text. */
static bool
decode_bytes(struct hb_cfg *cfg, const struct hb_cfg__node *n, ProtobufCBinaryData *ret,
	struct hb_cfg__at at)
{
	unsigned acc = 0, bits = 0, digits = 0, pad = 0;
	bool bad = n->kind != HB_CFG__SCALAR;
	uint8_t *out = hb_malloc(n->text.len);
	size_t len = 0;

	for (size_t i = 0; !bad && i < n->text.len; i++) {
		int d = base64_digit(n->text.p[i]);

		if (strchr(" \r\n", n->text.p[i]) != NULL)
			continue;
		if (n->text.p[i] == '=') {
			bad = ++pad > 2;
			continue;
		}
		bad = d < 0 || pad > 0;
		acc = acc << 6 | (unsigned)d;
		bits += 6;
		digits++;
		if (bits >= 8) {
			bits -= 8;
			out[len++] = (uint8_t)(acc >> bits);
		}
		acc &= 0xff;
	}
	if (bad || digits % 4 == 1 || (pad > 0 && (digits + pad) % 4 != 0)) {
		hb_free(out);
		hb_cfg_error(cfg, at.msg, at.field, at.index, "must be bytes in base64");
		return (false);
	}
	ret->data = out;
	ret->len = len;
	return (true);
}

static bool
decode_string(struct hb_cfg *cfg, const struct hb_cfg__node *n, char **ret, struct hb_cfg__at at)
{
	if (n->kind != HB_CFG__SCALAR && n->kind != HB_CFG__NULL) {
		hb_cfg_error(cfg, at.msg, at.field, at.index, "must be text, not %s",
			hb_cfg__node_kind(n));
		return (false);
	}
	*ret = hb_strndup(n->text.p, n->text.len);
	return (true);
}

bool
hb_cfg__decode_scalar(struct hb_cfg *cfg, const struct hb_cfg__node *n,
	const ProtobufCFieldDescriptor *f, void *dst, struct hb_cfg__at at)
{
	uint64_t u = 0;
	int64_t i = 0;
	double d = 0;
	bool ok;

	switch (f->type) {
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		ok = decode_unsigned(cfg, n, UINT32_MAX, &u, at);
		*(uint32_t *)dst = (uint32_t)u;
		return (ok);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		return (decode_unsigned(cfg, n, UINT64_MAX, dst, at));
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
		ok = decode_signed(cfg, n, INT32_MAX, &i, at);
		*(int32_t *)dst = (int32_t)i;
		return (ok);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		return (decode_signed(cfg, n, INT64_MAX, dst, at));
	case PROTOBUF_C_TYPE_DOUBLE:
		return (decode_double(cfg, n, dst, at));
	case PROTOBUF_C_TYPE_FLOAT:
		ok = decode_double(cfg, n, &d, at);
		*(float *)dst = (float)d;
		return (ok);
	case PROTOBUF_C_TYPE_BOOL:
		return (decode_bool(cfg, n, dst, at));
	case PROTOBUF_C_TYPE_ENUM:
		return (decode_enum(cfg, n, f->descriptor, dst, at));
	case PROTOBUF_C_TYPE_STRING:
		return (decode_string(cfg, n, dst, at));
	case PROTOBUF_C_TYPE_BYTES:
		return (decode_bytes(cfg, n, dst, at));
	case PROTOBUF_C_TYPE_MESSAGE:
		break;
	}
	HB_WRONG("not a scalar");
}

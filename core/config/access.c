/* SPDX-License-Identifier: Apache-2.0 */
/* Entry points, and what compile functions use to read messages. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/config/cfg_priv.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"

#define TEN_YEARS_S (10LL * 366 * 86400)

const ProtobufCMessage *
hb_cfg_parse_text(struct hb_cfg *cfg, struct hb_str text, const ProtobufCMessageDescriptor *desc)
{
	struct hb_cfg__node *root;
	ProtobufCMessage *m;

	HB_CHECK(cfg, HB_CFG_MAGIC);
	root = hb_cfg__read_yaml(cfg, text);
	if (root == NULL)
		return (NULL);
	m = hb_cfg__msg_new(desc);
	hb_cfg__own(cfg, m);
	hb_cfg__src_add(cfg, m, root, NULL, NULL, 0);
	hb_cfg__decode(cfg, root, m, false);
	return (hb_errs_any(&cfg->errs) ? NULL : m);
}

/* Reads a whole file, at most `max` bytes; 0, or a negative errno with the reason. */
static int
read_file(const char *path, size_t max, struct hb_text *ret, struct hb_err *reterr)
{
	int fd = strcmp(path, "-") == 0 ? STDIN_FILENO :
					  open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char buf[16384];
	struct stat st;
	ssize_t n = 0;

	if (fd < 0)
		return (hb_err_set(reterr, -errno, "cannot open %s: %s", path, strerror(errno)));
	if (fd != STDIN_FILENO && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		close(fd);
		return (hb_err_set(reterr, -EISDIR, "%s is a directory", path));
	}
	while (ret->len <= max && (n = read(fd, buf, sizeof buf)) > 0)
		hb_text_add(ret, buf, (size_t)n);
	if (n < 0)
		n = hb_err_set(reterr, -errno, "cannot read %s: %s", path, strerror(errno));
	else if (ret->len > max)
		n = hb_err_set(reterr, -EFBIG, "%s has more than %zu bytes", path, max);
	if (fd != STDIN_FILENO)
		close(fd);
	return (n < 0 ? (int)n : 0);
}

const ProtobufCMessage *
hb_cfg_parse_file(struct hb_cfg *cfg, const char *path, const ProtobufCMessageDescriptor *desc)
{
	const ProtobufCMessage *m = NULL;
	struct hb_text text = { 0 };
	struct hb_err err = { 0 };

	HB_CHECK(cfg, HB_CFG_MAGIC);
	if (read_file(path, cfg->limits.bytes_max, &text, &err) != 0)
		hb_cfg__error_at(cfg, 0, 0, NULL, "%s", err.text);
	else
		m = hb_cfg_parse_text(cfg, hb_strn(text.p, text.len), desc);
	hb_text_fini(&text);
	return (m);
}

const ProtobufCMessage *
hb_cfg_parse_wire(struct hb_cfg *cfg, struct hb_str bytes, const ProtobufCMessageDescriptor *desc)
{
	ProtobufCMessage *m;

	HB_CHECK(cfg, HB_CFG_MAGIC);
	m = hb_cfg__unpack(cfg, bytes, desc, NULL, false, 0);
	if (m == NULL)
		return (NULL);
	hb_cfg__own(cfg, m);
	hb_cfg__src_add(cfg, m, NULL, NULL, NULL, 0);
	if (!hb_cfg__register(cfg, m, false, 0))
		return (NULL);
	return (hb_errs_any(&cfg->errs) ? NULL : m);
}

const ProtobufCMessage *
hb_cfg_any(struct hb_cfg *cfg, const void *owner_msg, const char *field, int index,
	const void *any_msg)
{
	const Google__Protobuf__Any *any = any_msg;
	const struct hb_cfg__src *s = hb_cfg__src_get(cfg, any);

	HB_CHECK(cfg, HB_CFG_MAGIC);
	if (any == NULL || *any->type_url == '\0') {
		hb_cfg_error(cfg, owner_msg, field, index,
			"is missing: write a mapping with \"@type\": type.googleapis.com/...");
		return (NULL);
	}
	if (s != NULL && s->inner != NULL)
		return (s->inner);
	hb_cfg_error(cfg, owner_msg, field, index, "unknown type \"%s\"", any->type_url);
	return (NULL);
}

const void *
hb_cfg_any_of(struct hb_cfg *cfg, const void *owner_msg, const char *field, int index,
	const void *any, const ProtobufCMessageDescriptor *desc)
{
	const ProtobufCMessage *m = hb_cfg_any(cfg, owner_msg, field, index, any);

	if (m == NULL || hb_str_eq(hb_str(m->descriptor->name), hb_str(desc->name)))
		return (m);
	hb_cfg_error(cfg, owner_msg, field, index, "must be a %s, not a %s", desc->name,
		m->descriptor->name);
	return (NULL);
}

uint64_t
hb_cfg_duration_ms(struct hb_cfg *cfg, const void *msg, const char *field, const void *duration,
	uint64_t dflt_ms)
{
	const Google__Protobuf__Duration *d = duration;

	if (d == NULL)
		return (dflt_ms);
	if (d->seconds < 0 || d->nanos < 0 || d->nanos > 999999999) {
		hb_cfg_error(cfg, msg, field, -1, "must not be negative");
		return (dflt_ms);
	}
	if (d->seconds > TEN_YEARS_S) {
		hb_cfg_error(cfg, msg, field, -1, "must not be longer than ten years");
		return (dflt_ms);
	}
	/* Anything above nothing is not nothing: 0 often means "no limit". */
	return ((uint64_t)d->seconds * 1000 + ((uint64_t)d->nanos + 999999) / 1000000);
}

uint32_t
hb_cfg_u32(struct hb_cfg *cfg, const void *msg, const char *field, const void *wrapper,
	uint32_t min, uint32_t max, uint32_t dflt)
{
	const Google__Protobuf__UInt32Value *w = wrapper;

	if (w == NULL)
		return (dflt);
	if (w->value >= min && w->value <= max)
		return (w->value);
	if (max == UINT32_MAX)
		hb_cfg_error(cfg, msg, field, -1, "must be at least %u", min);
	else
		hb_cfg_error(cfg, msg, field, -1, "must be from %u to %u", min, max);
	return (dflt);
}

bool
hb_cfg_bool(const void *wrapper, bool dflt)
{
	const Google__Protobuf__BoolValue *w = wrapper;

	return (w == NULL ? dflt : w->value != 0);
}

static int
data_from_env(struct hb_cfg *cfg, const void *msg, const char *field, const char *name,
	struct hb_text *ret)
{
	const char *v = getenv(name);

	if (v == NULL)
		return (hb_cfg_error(
			cfg, msg, field, -1, "the environment variable %s is not set", name));
	hb_text_addz(ret, v);
	return (0);
}

int
hb_cfg_data_source(struct hb_cfg *cfg, const void *msg, const char *field, const void *data_source,
	size_t bytes_max, struct hb_text *ret)
{
	const Envoy__Config__Core__V3__DataSource *ds = data_source;
	struct hb_err err = { 0 };
	int r = 0;

	*ret = (struct hb_text){ 0 };
	if (ds == NULL)
		return (hb_cfg_error(cfg, msg, field, -1, "is missing"));
	switch (ds->specifier_case) {
	case ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_FILENAME:
		if (*ds->filename == '\0' || strcmp(ds->filename, "-") == 0)
			r = hb_cfg_error(cfg, ds, "filename", -1, "must be the path of a file");
		else if (read_file(ds->filename, bytes_max, ret, &err) != 0)
			r = hb_cfg_error(cfg, ds, "filename", -1, "%s", err.text);
		break;
	case ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_INLINE_BYTES:
		hb_text_add(ret, ds->inline_bytes.data, ds->inline_bytes.len);
		break;
	case ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_INLINE_STRING:
		hb_text_addz(ret, ds->inline_string);
		break;
	case ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_ENVIRONMENT_VARIABLE:
		r = data_from_env(cfg, msg, field, ds->environment_variable, ret);
		break;
	default:
		r = hb_cfg_error(cfg, msg, field, -1,
			"needs one of filename, inline_bytes, inline_string and environment_variable");
		break;
	}
	if (r == 0 && ret->len > bytes_max)
		r = hb_cfg_error(cfg, msg, field, -1, "has more than %zu bytes", bytes_max);
	if (r != 0)
		hb_text_fini(ret);
	return (r);
}

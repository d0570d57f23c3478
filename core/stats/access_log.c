/* SPDX-License-Identifier: Apache-2.0 */
#include "core/stats/access_log.h"
#include "core/stats/log_file.h"
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/core/v3/substitution_format_string.pb-c.h"
#include "envoy/extensions/access_loggers/file/v3/file.pb-c.h"
#include "envoy/extensions/access_loggers/stream/v3/stream.pb-c.h"

#define FILTER_DEPTH 16u
#define FORMAT_BYTES (64u * 1024u)
#define ENTRY_MAX    (64u * 1024u)

#define DEFAULT_FORMAT                                                                            \
	"[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "        \
	"%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "              \
	"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" " \
	"\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n"

typedef Envoy__Config__Accesslog__V3__AccessLog log_msg_t;
typedef Envoy__Config__Accesslog__V3__AccessLogFilter filter_msg_t;
typedef Envoy__Config__Core__V3__SubstitutionFormatString format_msg_t;
typedef Envoy__Extensions__AccessLoggers__File__V3__FileAccessLog file_msg_t;

enum filter_kind { FILTER_AND, FILTER_OR, FILTER_DURATION, FILTER_FLAGS, FILTER_TYPES, FILTER_ALL };

struct log_filter {
	enum filter_kind kind;
	struct log_filter *child; /* AND, OR: owned          */
	size_t n;
	int op; /* DURATION                */
	uint64_t value;
	uint64_t reasons[HB_CLOSE_MAX / 64 + 1]; /* FLAGS: bit per close reason */
	uint32_t types;                          /* TYPES: bit per type     */
};

struct log_line {
	struct log_filter *filter; /* NULL = all */
	struct hb_format *format;
	struct log_file *file; /* lives for ever */
};

struct hb_access_log {
	unsigned magic;
#define HB_ACCESS_LOG_MAGIC 0x10c0a11e
	size_t n;
	struct log_line line[];
};

static void
filter_fini(struct log_filter *f)
{
	for (size_t i = 0; i < f->n; i++)
		filter_fini(&f->child[i]);
	hb_free(f->child);
}

void
hb_access_log_free(struct hb_access_log **pl)
{
	struct hb_access_log *l = *pl;

	if (l == NULL)
		return;
	*pl = NULL;
	HB_CHECK(l, HB_ACCESS_LOG_MAGIC);
	for (size_t i = 0; i < l->n; i++) {
		if (l->line[i].filter != NULL)
			filter_fini(l->line[i].filter);
		hb_free(l->line[i].filter);
		hb_format_free(&l->line[i].format);
	}
	HB_DEL(l);
}

/* ------------------------------------------------------------------ filters */

static const char *const envoy_flags[] = { "LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR",
	"DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX", "SI", "IH", "DPE", "UMSDR", "RFCF", "NFCF",
	"DT", "UPE", "NC", "OM", "DF", "DO", "DR", "UDO", NULL };

static int
flags_compile(struct hb_cfg *cfg, const Envoy__Config__Accesslog__V3__ResponseFlagFilter *m,
	struct log_filter *f)
{
	int r = 0;

	f->kind = FILTER_FLAGS;
	for (size_t i = 0; i < m->n_flags; i++) {
		bool known = false;

		for (size_t k = 0; envoy_flags[k] != NULL && !known; k++)
			known = strcmp(envoy_flags[k], m->flags[i]) == 0;
		if (!known)
			r = hb_cfg_error(
				cfg, m, "flags", (int)i, "is not a response flag such as NR or UF");
	}
	for (unsigned c = 0; c < HB_CLOSE_MAX; c++) {
		const char *flag = hb_close_info((enum hb_close_reason)c)->flag;
		bool hit = m->n_flags == 0 && strcmp(flag, "-") != 0;

		for (size_t i = 0; i < m->n_flags && !hit; i++)
			hit = strcmp(flag, m->flags[i]) == 0;
		if (hit)
			f->reasons[c / 64] |= UINT64_C(1) << (c % 64);
	}
	return (r);
}

static int
types_compile(const Envoy__Config__Accesslog__V3__LogTypeFilter *m, struct log_filter *f)
{
	f->kind = FILTER_TYPES;
	for (size_t i = 0; i < m->n_types; i++)
		if ((unsigned)m->types[i] < 32)
			f->types |= UINT32_C(1) << (unsigned)m->types[i];
	if (m->exclude)
		f->types = ~f->types;
	return (0);
}

static int
duration_compile(struct hb_cfg *cfg, const Envoy__Config__Accesslog__V3__DurationFilter *m,
	struct log_filter *f)
{
	f->kind = FILTER_DURATION;
	if (m->comparison == NULL || m->comparison->value == NULL)
		return (hb_cfg_error(cfg, m, "comparison", -1, "needs op and value.default_value"));
	f->op = (int)m->comparison->op;
	f->value = m->comparison->value->default_value;
	return (0);
}

static int filter_compile(
	struct hb_cfg *, const filter_msg_t *, struct log_filter *, unsigned depth);

static int
list_compile(struct hb_cfg *cfg, const void *owner, filter_msg_t **v, size_t n,
	struct log_filter *f, unsigned depth)
{
	int r = 0;

	if (n < 2)
		return (hb_cfg_error(cfg, owner, "filters", -1, "needs two filters at least"));
	f->child = hb_calloc(n, sizeof *f->child);
	f->n = n;
	for (size_t i = 0; i < n; i++)
		if (filter_compile(cfg, v[i], &f->child[i], depth + 1) != 0)
			r = -EINVAL;
	return (r);
}

static int
filter_compile(struct hb_cfg *cfg, const filter_msg_t *m, struct log_filter *f, unsigned depth)
{
	if (depth > FILTER_DEPTH)
		return (hb_cfg_error(
			cfg, m, NULL, -1, "filters are nested deeper than %u", FILTER_DEPTH));
	switch (m->filter_specifier_case) {
	case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_AND_FILTER:
		f->kind = FILTER_AND;
		return (list_compile(cfg, m->and_filter, m->and_filter->filters,
			m->and_filter->n_filters, f, depth));
	case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_OR_FILTER:
		f->kind = FILTER_OR;
		return (list_compile(cfg, m->or_filter, m->or_filter->filters,
			m->or_filter->n_filters, f, depth));
	case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_RESPONSE_FLAG_FILTER:
		return (flags_compile(cfg, m->response_flag_filter, f));
	case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_LOG_TYPE_FILTER:
		return (types_compile(m->log_type_filter, f));
	case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_DURATION_FILTER:
		return (duration_compile(cfg, m->duration_filter, f));
	case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_NOT_HEALTH_CHECK_FILTER:
		f->kind = FILTER_ALL;
		return (0);
	default:
		return (hb_cfg_error(cfg, m, NULL, -1, "sets no kind of filter"));
	}
}

static bool
filter_pass(const struct log_filter *f, const struct hb_log_entry *e)
{
	unsigned type = e->log_type == 0 ?
		ENVOY__DATA__ACCESSLOG__V3__ACCESS_LOG_TYPE__TcpConnectionEnd :
		e->log_type;

	switch (f->kind) {
	case FILTER_AND:
	case FILTER_OR:
		for (size_t i = 0; i < f->n; i++)
			if (filter_pass(&f->child[i], e) != (f->kind == FILTER_AND))
				return (f->kind == FILTER_OR);
		return (f->kind == FILTER_AND);
	case FILTER_DURATION:
		switch (f->op) {
		case ENVOY__CONFIG__ACCESSLOG__V3__COMPARISON_FILTER__OP__GE:
			return (e->duration_ms >= f->value);
		case ENVOY__CONFIG__ACCESSLOG__V3__COMPARISON_FILTER__OP__LE:
			return (e->duration_ms <= f->value);
		case ENVOY__CONFIG__ACCESSLOG__V3__COMPARISON_FILTER__OP__NE:
			return (e->duration_ms != f->value);
		default:
			return (e->duration_ms == f->value);
		}
	case FILTER_FLAGS:
		return ((f->reasons[e->reason / 64] >> (e->reason % 64) & 1) != 0);
	case FILTER_TYPES:
		return (type < 32 && (f->types >> type & 1) != 0);
	case FILTER_ALL:
		return (true);
	}
	HB_WRONG("access log filter");
}

/* ------------------------------------------------------------------ loggers */

static struct hb_format *
text_compile(struct hb_cfg *cfg, const void *owner, const char *field, struct hb_str text)
{
	return (hb_format_compile(cfg, owner, field, -1, text));
}

static struct hb_format *
format_compile(struct hb_cfg *cfg, const void *owner, const format_msg_t *m)
{
	struct hb_format *f = NULL;
	struct hb_text text = { 0 };

	switch (m == NULL ? ENVOY__CONFIG__CORE__V3__SUBSTITUTION_FORMAT_STRING__FORMAT__NOT_SET :
			    m->format_case) {
	case ENVOY__CONFIG__CORE__V3__SUBSTITUTION_FORMAT_STRING__FORMAT_JSON_FORMAT:
		f = hb_format_compile_json(cfg, m, "json_format", m->json_format, true);
		break;
	case ENVOY__CONFIG__CORE__V3__SUBSTITUTION_FORMAT_STRING__FORMAT_TEXT_FORMAT:
		f = text_compile(cfg, m, "text_format", hb_str(m->text_format));
		break;
	case ENVOY__CONFIG__CORE__V3__SUBSTITUTION_FORMAT_STRING__FORMAT_TEXT_FORMAT_SOURCE:
		if (hb_cfg_data_source(cfg, m, "text_format_source", m->text_format_source,
			    FORMAT_BYTES, &text) == 0)
			f = text_compile(cfg, m, "text_format_source", hb_strn(text.p, text.len));
		hb_text_fini(&text);
		break;
	default:
		f = text_compile(cfg, owner, NULL, hb_str(DEFAULT_FORMAT));
	}
	if (f != NULL && m != NULL && m->omit_empty_values)
		hb_format_omit_empty(f);
	return (f);
}

static struct hb_format *
file_format(struct hb_cfg *cfg, const file_msg_t *m)
{
	switch (m->access_log_format_case) {
	case ENVOY__EXTENSIONS__ACCESS_LOGGERS__FILE__V3__FILE_ACCESS_LOG__ACCESS_LOG_FORMAT_FORMAT:
		return (text_compile(
			cfg, m, "format", hb_str(*m->format == '\0' ? DEFAULT_FORMAT : m->format)));
	case ENVOY__EXTENSIONS__ACCESS_LOGGERS__FILE__V3__FILE_ACCESS_LOG__ACCESS_LOG_FORMAT_JSON_FORMAT:
		return (hb_format_compile_json(cfg, m, "json_format", m->json_format, false));
	case ENVOY__EXTENSIONS__ACCESS_LOGGERS__FILE__V3__FILE_ACCESS_LOG__ACCESS_LOG_FORMAT_TYPED_JSON_FORMAT:
		return (hb_format_compile_json(
			cfg, m, "typed_json_format", m->typed_json_format, true));
	case ENVOY__EXTENSIONS__ACCESS_LOGGERS__FILE__V3__FILE_ACCESS_LOG__ACCESS_LOG_FORMAT_LOG_FORMAT:
		return (format_compile(cfg, m, m->log_format));
	default:
		return (format_compile(cfg, m, NULL));
	}
}

/* Standard output and error have one shape of message. */
static struct hb_format *
stream_format(struct hb_cfg *cfg, const ProtobufCMessage *any)
{
	const Envoy__Extensions__AccessLoggers__Stream__V3__StdoutAccessLog *m = (const void *)any;

	return (format_compile(cfg, m, m->access_log_format_case == 0 ? NULL : m->log_format));
}

static int
line_compile(struct hb_cfg *cfg, const log_msg_t *m, struct log_line *line)
{
	const ProtobufCMessage *any = hb_cfg_any(
		cfg, m, "typed_config", -1, m->config_type_case == 0 ? NULL : m->typed_config);
	int r = 0;

	if (m->filter != NULL) {
		line->filter = hb_calloc(1, sizeof *line->filter);
		r = filter_compile(cfg, m->filter, line->filter, 0);
	}
	if (any == NULL)
		return (-EINVAL);
	if (any->descriptor ==
		&envoy__extensions__access_loggers__file__v3__file_access_log__descriptor) {
		const file_msg_t *file = (const void *)any;

		if (*file->path == '\0')
			return (hb_cfg_error(cfg, file, "path", -1, "must not be empty"));
		line->format = file_format(cfg, file);
		line->file = hb_log_file_get(strcmp(file->path, "/dev/stdout") == 0 ? HB_STR("") :
				strcmp(file->path, "/dev/stderr") == 0              ? HB_STR("-") :
									 hb_str(file->path));
	} else if (any->descriptor ==
		&envoy__extensions__access_loggers__stream__v3__stdout_access_log__descriptor) {
		line->format = stream_format(cfg, any);
		line->file = hb_log_file_get(HB_STR(""));
	} else if (any->descriptor ==
		&envoy__extensions__access_loggers__stream__v3__stderr_access_log__descriptor) {
		line->format = stream_format(cfg, any);
		line->file = hb_log_file_get(HB_STR("-"));
	} else {
		return (hb_cfg_error(cfg, m, "typed_config", -1,
			"is not an access log; use FileAccessLog, StdoutAccessLog or StderrAccessLog"));
	}
	return (line->format == NULL ? -EINVAL : r);
}

struct hb_access_log *
hb_access_log_compile(struct hb_cfg *cfg, const void *owner_msg, const char *field,
	void *const *msgs, size_t n, bool *ret_ok)
{
	struct hb_access_log *l;

	*ret_ok = true;
	if (n == 0)
		return (NULL);
	l = hb_calloc(1, sizeof *l + n * sizeof l->line[0]);
	l->magic = HB_ACCESS_LOG_MAGIC;
	l->n = n;
	for (size_t i = 0; i < n; i++)
		if (line_compile(cfg, msgs[i], &l->line[i]) != 0)
			*ret_ok = false;
	if (!*ret_ok)
		hb_access_log_free(&l);
	return (l);
}

void
hb_access_log_write(
	struct hb_worker *w, const struct hb_access_log *l, const struct hb_log_entry *e)
{
	if (l == NULL)
		return;
	HB_CHECK(l, HB_ACCESS_LOG_MAGIC);
	for (size_t i = 0; i < l->n; i++) {
		const struct log_line *line = &l->line[i];
		struct hb_text *t;
		size_t before;

		if (line->filter != NULL && !filter_pass(line->filter, e))
			continue;
		t = hb_log_file_text(line->file, w);
		before = t->len;
		hb_format_write(line->format, e, t);
		if (t->len - before > ENTRY_MAX) {
			t->len = before + ENTRY_MAX;
			hb_text_addc(t, '\n');
		}
		hb_log_file_appended(line->file, w);
	}
}

void
hb_access_log_flush(void (*done)(void *arg), void *arg)
{
	hb_log_file_flush(done, arg);
}

void
hb_access_log_reopen(void)
{
	hb_log_file_reopen();
}

void
hb_access_log_stop(void)
{
	hb_log_file_stop();
}

void
hb_access_log_worker_fini(struct hb_worker *w)
{
	hb_log_file_worker_fini(w);
}

void
hb_access_log_fini(void)
{
	hb_log_file_fini();
}

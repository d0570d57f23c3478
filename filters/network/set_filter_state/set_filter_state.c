/* SPDX-License-Identifier: Apache-2.0 */
#include "core/filter/explain.h"
#include "core/filter/filter.h"
#include "core/stats/access_log.h"
#include "envoy/extensions/filters/network/set_filter_state/v3/set_filter_state.pb-c.h"

#define VALUE_MAX  16384u /* bytes of one value: its format may hold what a peer sent */
#define FORMAT_MAX 16384u /* bytes of one format                                      */

typedef Envoy__Extensions__Filters__Network__SetFilterState__V3__Config msg_config;
typedef Envoy__Extensions__Filters__Common__SetFilterState__V3__FilterStateValue msg_value;
typedef Envoy__Config__Core__V3__SubstitutionFormatString msg_format;

struct value {
	char *key;                /* owned */
	struct hb_format *format; /* owned */
	bool read_only, skip_if_empty, must_be_address;
	uint8_t shared;
};

struct value_list {
	struct value *v; /* owned */
	size_t n;
};

struct set_filter_state_conf {
	unsigned magic;
#define SET_FILTER_STATE_CONF_MAGIC 0x0e5f17ab
	struct value_list on_connected, on_secured;
};

/* Keys whose objects are addresses: other text makes no object. */
static const char *const address_keys[] = {
	HB_STATE_ORIGINAL_DST,
	"envoy.filters.listener.original_dst.local_ip",
	"envoy.filters.listener.original_dst.remote_ip",
	"envoy.network.upstream_source_address",
};

/* ------------------------------------------------------------------ configuration */

static void
list_fini(struct value_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		hb_free(l->v[i].key);
		if (l->v[i].format != NULL)
			hb_format_free(&l->v[i].format);
	}
	hb_free(l->v);
}

static void
set_filter_state_conf_free(const void *conf)
{
	struct set_filter_state_conf *c;

	HB_CAST(c, (void *)conf, SET_FILTER_STATE_CONF_MAGIC);
	list_fini(&c->on_connected);
	list_fini(&c->on_secured);
	HB_DEL(c);
}

static struct hb_format *
compile_source(struct hb_cfg *cfg, const msg_format *m)
{
	struct hb_text text = { 0 };
	struct hb_format *f = NULL;

	if (hb_cfg_data_source(
		    cfg, m, "text_format_source", m->text_format_source, FORMAT_MAX, &text) == 0)
		f = hb_format_compile(cfg, m, "text_format_source", -1, hb_strn(text.p, text.len));
	hb_text_fini(&text);
	return (f);
}

static struct hb_format *
compile_format(struct hb_cfg *cfg, const msg_format *m)
{
	struct hb_format *f = NULL;

	switch (m->format_case) {
	case ENVOY__CONFIG__CORE__V3__SUBSTITUTION_FORMAT_STRING__FORMAT_TEXT_FORMAT:
		f = hb_format_compile(cfg, m, "text_format", -1, hb_str(m->text_format));
		break;
	case ENVOY__CONFIG__CORE__V3__SUBSTITUTION_FORMAT_STRING__FORMAT_JSON_FORMAT:
		f = hb_format_compile_json(cfg, m, "json_format", m->json_format, true);
		break;
	case ENVOY__CONFIG__CORE__V3__SUBSTITUTION_FORMAT_STRING__FORMAT_TEXT_FORMAT_SOURCE:
		f = compile_source(cfg, m);
		break;
	default:
		(void)hb_cfg_error(
			cfg, m, NULL, -1, "has no format: set text_format_source.inline_string");
	}
	if (f != NULL && m->omit_empty_values)
		hb_format_omit_empty(f);
	return (f);
}

static void
compile_value(struct hb_cfg *cfg, const msg_value *m, struct value *v)
{
	const char *kind;

	v->key = hb_strdup(
		m->key_case == ENVOY__EXTENSIONS__FILTERS__COMMON__SET_FILTER_STATE__V3__FILTER_STATE_VALUE__KEY_OBJECT_KEY ?
			m->object_key :
			"");
	if (*v->key == '\0')
		(void)hb_cfg_error(cfg, m, "object_key", -1, "is required");
	if (m->value_case !=
		ENVOY__EXTENSIONS__FILTERS__COMMON__SET_FILTER_STATE__V3__FILTER_STATE_VALUE__VALUE_FORMAT_STRING)
		(void)hb_cfg_error(cfg, m, "format_string", -1, "is required");
	else
		v->format = compile_format(cfg, m->format_string);
	v->read_only = m->read_only;
	v->skip_if_empty = m->skip_if_empty;
	v->shared = (uint8_t)m->shared_with_upstream;
	kind = *m->factory_key != '\0' ? m->factory_key : v->key;
	for (size_t i = 0; i < HB_ARRAY_LEN(address_keys); i++)
		v->must_be_address |= strcmp(kind, address_keys[i]) == 0;
}

static void
compile_list(struct hb_cfg *cfg, msg_value *const *m, size_t n, struct value_list *ret)
{
	ret->v = hb_calloc(n, sizeof *ret->v);
	ret->n = n;
	for (size_t i = 0; i < n; i++)
		compile_value(cfg, m[i], &ret->v[i]);
}

static int
set_filter_state_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, const void **ret_conf)
{
	const msg_config *m = (const void *)msg;
	struct hb_errs *errs = hb_cfg_errs(cfg);
	size_t before = errs->n + errs->dropped;
	struct set_filter_state_conf *c;

	HB_NEW(c, SET_FILTER_STATE_CONF_MAGIC);
	compile_list(cfg, m->on_new_connection, m->n_on_new_connection, &c->on_connected);
	compile_list(cfg, m->on_downstream_tls_handshake, m->n_on_downstream_tls_handshake,
		&c->on_secured);
	if (errs->n + errs->dropped != before) {
		set_filter_state_conf_free(c);
		return (-EINVAL);
	}
	*ret_conf = c;
	return (0);
}

/* ------------------------------------------------------------------ slots */

static bool
is_address(struct hb_str s)
{
	struct hb_addr a;

	return (hb_addr_parse(s, &a) || hb_addr_parse_ip(s, &a));
}

static void
set(struct hb_facts *facts, const struct value *v, const struct hb_log_entry *e)
{
	struct hb_text text = { .cap_max = VALUE_MAX };
	struct hb_str s;

	hb_format_write(v->format, e, &text);
	s = hb_strn(text.p, text.len);
	if (!(s.len == 0 && v->skip_if_empty) && (!v->must_be_address || is_address(s)))
		(void)hb_facts_state_set(facts, hb_str(v->key), s, v->read_only, v->shared);
	hb_text_fini(&text);
}

static void
set_all(struct hb_filter *f, const struct value_list *l)
{
	struct hb_log_entry e;

	if (l->n == 0)
		return;
	hb_filter_log_entry(f, &e);
	for (size_t i = 0; i < l->n; i++)
		set(hb_filter_facts(f), &l->v[i], &e);
}

static enum hb_filter_status
set_filter_state_on_connected(struct hb_filter *f)
{
	const struct set_filter_state_conf *c = hb_filter_conf(f);

	set_all(f, &c->on_connected);
	return (HB_FILTER_CONTINUE);
}

static enum hb_filter_status
set_filter_state_on_secured(struct hb_filter *f)
{
	const struct set_filter_state_conf *c = hb_filter_conf(f);

	set_all(f, &c->on_secured);
	return (HB_FILTER_CONTINUE);
}

static void
explain_list(const struct value_list *l, const struct hb_facts *facts, struct hb_explain *ex)
{
	struct hb_facts *to = hb_explain_facts(ex);
	struct hb_log_entry e = { .facts = facts };
	struct hb_str s;

	for (size_t i = 0; i < l->n; i++) {
		set(to, &l->v[i], &e);
		s = hb_facts_state(to, hb_str(l->v[i].key));
		hb_explain_step(ex, "filter", "set_filter_state", "pass", "%s = \"%.*s\"",
			l->v[i].key, HB_STR_FMT(s));
	}
}

static void
set_filter_state_explain(const void *conf, const struct hb_facts *facts, struct hb_explain *ex)
{
	const struct set_filter_state_conf *c = conf;

	explain_list(&c->on_connected, facts, ex);
	explain_list(&c->on_secured, facts, ex);
}

const struct hb_filter_type hb_filter_set_filter_state = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.kind = HB_FILTER_NETWORK,
	.name = "hbone.filters.network.set_filter_state",
	.alias = "envoy.filters.network.set_filter_state",
	.config = &envoy__extensions__filters__network__set_filter_state__v3__config__descriptor,
	.compile = set_filter_state_compile,
	.conf_free = set_filter_state_conf_free,
	.on_connected = set_filter_state_on_connected,
	.on_secured = set_filter_state_on_secured,
	.explain = set_filter_state_explain,
};

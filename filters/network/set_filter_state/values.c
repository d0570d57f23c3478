/* SPDX-License-Identifier: Apache-2.0 */
#include "filters/network/set_filter_state/values.h"

#define VALUE_MAX  16384u /* bytes of one value: its format may hold what a peer sent */
#define FORMAT_MAX 16384u /* bytes of one format                                      */

typedef Envoy__Extensions__Filters__Common__SetFilterState__V3__FilterStateValue msg_value;
typedef Envoy__Config__Core__V3__SubstitutionFormatString msg_format;

/* Keys whose objects are addresses: other text makes no object. */
static const char *const address_keys[] = {
	HB_STATE_ORIGINAL_DST,
	"envoy.filters.listener.original_dst.local_ip",
	"envoy.filters.listener.original_dst.remote_ip",
	"envoy.network.upstream_source_address",
};

void
hb_state_values_fini(struct hb_state_values *l)
{
	for (size_t i = 0; i < l->n; i++) {
		hb_free(l->v[i].key);
		if (l->v[i].format != NULL)
			hb_format_free(&l->v[i].format);
	}
	hb_free(l->v);
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
compile_value(struct hb_cfg *cfg, const msg_value *m, struct hb_state_value *v)
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

void
hb_state_values_compile(
	struct hb_cfg *cfg, msg_value *const *m, size_t n, struct hb_state_values *ret)
{
	ret->v = hb_calloc(n, sizeof *ret->v);
	ret->n = n;
	for (size_t i = 0; i < n; i++)
		compile_value(cfg, m[i], &ret->v[i]);
}

static bool
is_address(struct hb_str s)
{
	struct hb_addr a;

	return (hb_addr_parse(s, &a) || hb_addr_parse_ip(s, &a));
}

static void
set(struct hb_facts *facts, const struct hb_state_value *v, const struct hb_log_entry *e)
{
	struct hb_text text = { .cap_max = VALUE_MAX };
	struct hb_str s;

	hb_format_write(v->format, e, &text);
	s = hb_strn(text.p, text.len);
	if (!(s.len == 0 && v->skip_if_empty) && (!v->must_be_address || is_address(s)))
		(void)hb_facts_state_set(facts, hb_str(v->key), s, v->read_only, v->shared);
	hb_text_fini(&text);
}

void
hb_state_values_set(
	const struct hb_state_values *l, struct hb_facts *facts, const struct hb_log_entry *e)
{
	for (size_t i = 0; i < l->n; i++)
		set(facts, &l->v[i], e);
}

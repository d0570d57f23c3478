/* SPDX-License-Identifier: Apache-2.0 */
#include "core/filter/header_adds.h"
#include "core/stats/access_log.h"
#include "envoy/config/core/v3/base.pb-c.h"

typedef Envoy__Config__Core__V3__HeaderValueOption OptionMsg;

#define NAME_MAX_BYTES 256u
#define APPEND \
	ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__APPEND_IF_EXISTS_OR_ADD
#define ABSENT ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__ADD_IF_ABSENT
#define REPLACE \
	ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__OVERWRITE_IF_EXISTS

struct add {
	char *name;              /* owned, lower case */
	struct hb_format *value; /* owned             */
	int action;
	bool keep_empty;
};

struct hb_header_adds {
	unsigned magic;
#define HEADER_ADDS_MAGIC 0x1e64b97c
	size_t n;
	struct add v[HB_HEADER_ADDS_MAX];
};

/* ------------------------------------------------------------------ compiling */

/* RFC 9110 5.6.2, and nothing that belongs to the connection (RFC 9113 8.2.2). */
static const char *
name_error(const char *name)
{
	static const char *const others[] = { "connection", "content-length", "host", "keep-alive",
		"proxy-connection", "te", "transfer-encoding", "upgrade" };
	size_t n = strlen(name);

	if (n == 0 || n > NAME_MAX_BYTES)
		return ("must have 1 to 256 bytes");
	if (strspn(name,
		    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~") !=
		n)
		return ("is no name of a header");
	for (size_t i = 0; i < HB_ARRAY_LEN(others); i++) {
		if (hb_str_ieq(hb_str(name), hb_str(others[i])))
			return ("is a header that is not sent with tunnels");
	}
	return (NULL);
}

static int
compile_one(struct hb_cfg *cfg, const OptionMsg *m, struct hb_header_adds *a)
{
	struct add *to = &a->v[a->n];
	const char *why;

	if (m->header == NULL)
		return (hb_cfg_error(cfg, m, NULL, -1, "header is missing"));
	why = name_error(m->header->key);
	if (why != NULL)
		return (hb_cfg_error(cfg, m->header, "key", -1, "%s", why));
	to->value = hb_format_compile(cfg, m->header, "value", -1, hb_str(m->header->value));
	if (to->value == NULL)
		return (-EINVAL);
	hb_format_omit_empty(to->value);
	to->name = hb_strdup(m->header->key);
	hb_str_lower(to->name, strlen(to->name));
	to->action = (int)m->append_action;
	to->keep_empty = m->keep_empty_value;
	a->n++;
	return (0);
}

struct hb_header_adds *
hb_header_adds_compile(struct hb_cfg *cfg, const void *owner_msg, const char *field,
	void *const *msgs, size_t n, bool *ret_ok)
{
	struct hb_header_adds *a;
	int r = 0;

	*ret_ok = true;
	if (n == 0)
		return (NULL);
	HB_NEW(a, HEADER_ADDS_MAGIC);
	if (n > HB_HEADER_ADDS_MAX)
		r = hb_cfg_error(
			cfg, owner_msg, field, -1, "has more than %u entries", HB_HEADER_ADDS_MAX);
	for (size_t i = 0; i < n && a->n < HB_HEADER_ADDS_MAX; i++)
		r |= compile_one(cfg, msgs[i], a);
	if (r == 0)
		return (a);
	*ret_ok = false;
	hb_header_adds_free(&a);
	return (NULL);
}

void
hb_header_adds_free(struct hb_header_adds **ap)
{
	struct hb_header_adds *a = *ap;

	if (a == NULL)
		return;
	HB_CHECK(a, HEADER_ADDS_MAGIC);
	*ap = NULL;
	for (size_t i = 0; i < a->n; i++) {
		hb_free(a->v[i].name);
		hb_format_free(&a->v[i].value);
	}
	HB_DEL(a);
}

/* ------------------------------------------------------------------ making headers */

static bool
is_blank(char c)
{
	return (c == ' ' || c == '\t');
}

/* RFC 9113 8.2.1: no controls; blanks around it are not part of a value. */
static bool
trim_value(struct hb_str *s)
{
	while (s->len > 0 && is_blank(s->p[0]))
		*s = hb_strn(s->p + 1, s->len - 1);
	while (s->len > 0 && is_blank(s->p[s->len - 1]))
		s->len--;
	for (size_t i = 0; i < s->len; i++) {
		if (((uint8_t)s->p[i] < 0x20 && s->p[i] != '\t') || s->p[i] == 0x7f)
			return (false);
	}
	return (true);
}

void
hb_header_list_add(struct hb_header_list *l, struct hb_str name, struct hb_str value)
{
	if (l->n == l->cap || !trim_value(&value))
		return;
	l->v[l->n++] = (struct hb_header){ hb_arena_str(l->arena, name),
		hb_arena_str(l->arena, value) };
}

void
hb_header_list_put(struct hb_header_list *l, struct hb_str name, struct hb_str value)
{
	if (l->n < l->cap)
		l->v[l->n++] = (struct hb_header){ name, value };
}

/* Takes away what has this name; false = nothing had. */
static bool
take_away(struct hb_header_list *l, struct hb_str name)
{
	size_t to = 0, was = l->n;

	for (size_t i = 0; i < l->n; i++) {
		if (!hb_str_eq(l->v[i].name, name))
			l->v[to++] = l->v[i];
	}
	l->n = to;
	return (to < was);
}

static bool
is_there(const struct hb_header_list *l, struct hb_str name)
{
	for (size_t i = 0; i < l->n; i++) {
		if (hb_str_eq(l->v[i].name, name))
			return (true);
	}
	return (false);
}

static void
apply_one(const struct add *a, struct hb_str value, struct hb_header_list *l)
{
	struct hb_str name = hb_str(a->name);
	bool there;

	if ((value.len == 0 && !a->keep_empty) || !trim_value(&value))
		return;
	if (a->action == ABSENT && is_there(l, name))
		return;
	if (a->action != ABSENT && a->action != APPEND) {
		there = take_away(l, name);
		if (a->action == REPLACE && !there)
			return;
	}
	hb_header_list_add(l, name, value);
}

void
hb_header_adds_apply(
	const struct hb_header_adds *a, const struct hb_log_entry *e, struct hb_header_list *l)
{
	struct hb_text t = { 0 };

	for (size_t i = 0; a != NULL && i < a->n; i++) {
		t.len = 0;
		hb_format_write(a->v[i].value, e, &t);
		apply_one(&a->v[i], hb_strn(t.p, t.len), l);
	}
	hb_text_fini(&t);
}

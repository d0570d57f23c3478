/* SPDX-License-Identifier: Apache-2.0 */
#include "core/match/matcher_priv.h"

#include "google/protobuf/wrappers.pb-c.h"

typedef Xds__Type__Matcher__V3__Matcher matcher_msg;
typedef Xds__Type__Matcher__V3__Matcher__OnMatch on_match_msg;
typedef Xds__Type__Matcher__V3__Matcher__MatcherList list_msg;
typedef Xds__Type__Matcher__V3__Matcher__MatcherList__Predicate predicate_msg;
#define ON_MATCH(name)  XDS__TYPE__MATCHER__V3__MATCHER__ON_MATCH__ON_MATCH_##name
#define PREDICATE(name) XDS__TYPE__MATCHER__V3__MATCHER__MATCHER_LIST__PREDICATE__MATCH_TYPE_##name

static struct hb_matcher *matcher_compile(
	struct hb_matcher_build *, const void *owner_msg, const char *field, const matcher_msg *);

/* ------------------------------------------------------------------ what follows */

static int
action_string(
	struct hb_cfg *cfg, const void *owner_msg, const ProtobufCMessage *action, const void **ret)
{
	const Google__Protobuf__StringValue *s = (const void *)action;

	if (action->descriptor != &google__protobuf__string_value__descriptor)
		return (hb_cfg_error(cfg, owner_msg, "typed_config", -1,
			"%s is no action here; use google.protobuf.StringValue",
			action->descriptor->name));
	if (*s->value == '\0')
		return (hb_cfg_error(
			cfg, owner_msg, "typed_config", -1, "the text must not be empty"));
	*ret = hb_strdup(s->value);
	return (0);
}

int
hb_matcher__on_match(struct hb_matcher_build *b, const void *owner_msg, const char *field,
	const on_match_msg *msg, struct hb_on_match *ret)
{
	const ProtobufCMessage *action;

	if (msg == NULL)
		return (hb_cfg_error(b->cfg, owner_msg, field, -1, "is missing"));
	ret->keep_matching = msg->keep_matching;
	switch (msg->on_match_case) {
	case ON_MATCH(MATCHER):
		ret->matcher = matcher_compile(b, msg, "matcher", msg->matcher);
		return (ret->matcher == NULL ? -EINVAL : 0);
	case ON_MATCH(ACTION):
		action = hb_cfg_any(
			b->cfg, msg->action, "typed_config", -1, msg->action->typed_config);
		if (action == NULL)
			return (-EINVAL);
		if (b->action == NULL)
			return (action_string(b->cfg, msg->action, action, &ret->action));
		return (b->action(b->cfg, msg->action, action, b->arg, &ret->action));
	default:
		return (hb_cfg_error(b->cfg, msg, NULL, -1, "needs one of matcher, action"));
	}
}

static void
on_match_fini(const struct hb_matcher *m, struct hb_on_match *on)
{
	hb_matcher_free(&on->matcher);
	if (on->action != NULL && m->strings)
		hb_free((void *)(uintptr_t)on->action);
	else if (on->action != NULL && m->action_free != NULL)
		m->action_free(on->action);
	on->action = NULL;
}

/* ------------------------------------------------------------------ conditions */

static int predicate_compile(struct hb_cfg *, const void *owner_msg, const char *field, int index,
	const predicate_msg *, struct hb_predicate *);

static int
predicate_list(struct hb_cfg *cfg, enum hb_predicate_kind kind,
	const Xds__Type__Matcher__V3__Matcher__MatcherList__Predicate__PredicateList *msg,
	struct hb_predicate *p)
{
	int error = 0;

	p->kind = (uint8_t)kind;
	if (msg->n_predicate < 2)
		error = hb_cfg_error(cfg, msg, "predicate", -1, "needs at least two conditions");
	p->v = hb_calloc(msg->n_predicate + 1, sizeof *p->v);
	p->n = msg->n_predicate;
	for (size_t i = 0; i < p->n; i++)
		error |= predicate_compile(
			cfg, msg, "predicate", (int)i, msg->predicate[i], &p->v[i]);
	return (error);
}

static int
predicate_compile(struct hb_cfg *cfg, const void *owner_msg, const char *field, int index,
	const predicate_msg *msg, struct hb_predicate *p)
{
	int error;

	switch (msg == NULL ? 0 : (int)msg->match_type_case) {
	case PREDICATE(SINGLE_PREDICATE):
		p->kind = HB_PREDICATE_SINGLE;
		error = hb_match__input_compile(cfg, msg->single_predicate, "input",
			msg->single_predicate->input, &p->input);
		p->string = hb_string_matcher_compile(cfg, msg->single_predicate, "value_match", -1,
			msg->single_predicate->matcher_case ==
					XDS__TYPE__MATCHER__V3__MATCHER__MATCHER_LIST__PREDICATE__SINGLE_PREDICATE__MATCHER_VALUE_MATCH ?
				msg->single_predicate->value_match :
				NULL);
		return (p->string == NULL ? -EINVAL : error);
	case PREDICATE(OR_MATCHER):
		return (predicate_list(cfg, HB_PREDICATE_OR, msg->or_matcher, p));
	case PREDICATE(AND_MATCHER):
		return (predicate_list(cfg, HB_PREDICATE_AND, msg->and_matcher, p));
	case PREDICATE(NOT_MATCHER):
		p->kind = HB_PREDICATE_NOT;
		p->v = hb_calloc(1, sizeof *p->v);
		p->n = 1;
		return (predicate_compile(cfg, msg, "not_matcher", -1, msg->not_matcher, p->v));
	default:
		return (hb_cfg_error(cfg, owner_msg, field, index,
			"needs one of single_predicate, or_matcher, and_matcher, not_matcher"));
	}
}

static void
predicate_fini(struct hb_predicate *p)
{
	hb_match__input_fini(&p->input);
	hb_string_matcher_free(&p->string);
	for (size_t i = 0; i < p->n; i++)
		predicate_fini(&p->v[i]);
	hb_free(p->v);
}

static int
list_compile(struct hb_matcher_build *b, struct hb_matcher *m, const list_msg *msg)
{
	int error = 0;

	m->kind = HB_MATCHER_LIST;
	if (msg->n_matchers == 0)
		return (hb_cfg_error(b->cfg, msg, "matchers", -1, "needs at least one entry"));
	m->n_on = msg->n_matchers;
	m->on = hb_calloc(m->n_on, sizeof *m->on);
	m->predicates = hb_calloc(m->n_on, sizeof *m->predicates);
	for (size_t i = 0; i < m->n_on; i++) {
		error |= predicate_compile(b->cfg, msg->matchers[i], "predicate", -1,
			msg->matchers[i]->predicate, &m->predicates[i]);
		error |= hb_matcher__on_match(
			b, msg->matchers[i], "on_match", msg->matchers[i]->on_match, &m->on[i]);
	}
	return (error);
}

/* ------------------------------------------------------------------ matchers */

static struct hb_matcher *
matcher_compile(struct hb_matcher_build *b, const void *owner_msg, const char *field,
	const matcher_msg *msg)
{
	struct hb_matcher *m;
	int error = 0;

	if (b->depth >= HB_MATCHER_DEPTH_MAX) {
		hb_cfg_error(b->cfg, owner_msg, field, -1, "matchers are nested deeper than %u",
			HB_MATCHER_DEPTH_MAX);
		return (NULL);
	}
	HB_NEW(m, HB_MATCHER_MAGIC);
	m->kind = HB_MATCHER_ANY;
	m->strings = b->action == NULL;
	m->action_free = b->action_free;
	b->depth++;
	switch (msg->matcher_type_case) {
	case XDS__TYPE__MATCHER__V3__MATCHER__MATCHER_TYPE_MATCHER_LIST:
		error = list_compile(b, m, msg->matcher_list);
		break;
	case XDS__TYPE__MATCHER__V3__MATCHER__MATCHER_TYPE_MATCHER_TREE:
		error = hb_matcher__tree_compile(b, m, msg->matcher_tree);
		break;
	default:
		if (msg->on_no_match == NULL)
			error = hb_cfg_error(b->cfg, owner_msg, field, -1,
				"needs one of matcher_list, matcher_tree, on_no_match");
	}
	if (msg->on_no_match != NULL)
		error |= hb_matcher__on_match(
			b, msg, "on_no_match", msg->on_no_match, &m->on_no_match);
	b->depth--;
	if (error != 0)
		hb_matcher_free(&m);
	return (m);
}

struct hb_matcher *
hb_matcher_compile(struct hb_cfg *cfg, const void *owner_msg, const char *field, const void *msg,
	hb_matcher_action_f *action, void (*action_free)(const void *), void *arg)
{
	struct hb_matcher_build b = {
		.cfg = cfg, .action = action, .action_free = action_free, .arg = arg
	};

	if (msg == NULL) {
		hb_cfg_error(cfg, owner_msg, field, -1, "is missing");
		return (NULL);
	}
	return (matcher_compile(&b, owner_msg, field, msg));
}

void
hb_matcher_free(struct hb_matcher **mp)
{
	struct hb_matcher *m = *mp;

	if (m == NULL)
		return;
	HB_CHECK(m, HB_MATCHER_MAGIC);
	for (size_t i = 0; i < m->n_on; i++) {
		on_match_fini(m, &m->on[i]);
		if (m->predicates != NULL)
			predicate_fini(&m->predicates[i]);
	}
	on_match_fini(m, &m->on_no_match);
	hb_match__input_fini(&m->input);
	hb_map_free(&m->map);
	hb_ip_table_fini(&m->ranges);
	hb_free(m->on);
	hb_free(m->predicates);
	hb_free(m->entries);
	hb_arena_fini(&m->arena);
	HB_DEL(*mp);
}

static void
on_match_actions(const struct hb_on_match *on, void (*fn)(void *, const void *), void *arg)
{
	if (on->action != NULL)
		fn(arg, on->action);
	if (on->matcher != NULL)
		hb_matcher_actions(on->matcher, fn, arg);
}

void
hb_matcher_actions(const struct hb_matcher *m, void (*fn)(void *arg, const void *action), void *arg)
{
	HB_CHECK(m, HB_MATCHER_MAGIC);
	for (size_t i = 0; i < m->n_on; i++)
		on_match_actions(&m->on[i], fn, arg);
	on_match_actions(&m->on_no_match, fn, arg);
}

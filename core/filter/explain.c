/* SPDX-License-Identifier: Apache-2.0 */
/* Collects the steps of an explanation and prints them for people and for machines. */
#include <stdio.h>
#include "core/base/list.h"
#include "core/filter/explain.h"

#define STEPS_MAX 10000u

struct step {
	struct hb_list node;
	char *topic, *subject, *verdict, *why; /* owned */
};

struct hb_explain {
	unsigned magic;
#define EXPLAIN_MAGIC 0x3c91a1f5
	struct hb_list steps;
	size_t n;
	size_t dropped;
	char *cluster; /* owned; NULL = none */
	bool stopped;
	struct hb_facts facts;
};

struct hb_explain *
hb_explain_new(void)
{
	struct hb_explain *e;

	HB_NEW(e, EXPLAIN_MAGIC);
	hb_list_init(&e->steps);
	hb_facts_init(&e->facts);
	return (e);
}

void
hb_explain_free(struct hb_explain **ep)
{
	struct hb_explain *e = *ep;
	struct hb_list *n, *next;

	if (e == NULL)
		return;
	HB_CHECK(e, EXPLAIN_MAGIC);
	*ep = NULL;
	HB_LIST_FOREACH_SAFE (n, next, &e->steps) {
		struct step *s = HB_LIST_ENTRY(n, struct step, node);

		hb_free(s->topic);
		hb_free(s->subject);
		hb_free(s->verdict);
		hb_free(s->why);
		hb_free(s);
	}
	hb_free(e->cluster);
	hb_facts_fini(&e->facts);
	HB_DEL(e);
}

void
hb_explain_step(struct hb_explain *e, const char *topic, const char *subject, const char *verdict,
	const char *why_fmt, ...)
{
	struct hb_text why = { 0 };
	struct step *s;
	va_list ap;

	HB_CHECK(e, EXPLAIN_MAGIC);
	if (e->n == STEPS_MAX) {
		e->dropped++;
		return;
	}
	va_start(ap, why_fmt);
	hb_text_vprintf(&why, why_fmt, ap);
	va_end(ap);
	s = hb_calloc(1, sizeof *s);
	s->topic = hb_strdup(topic);
	s->subject = hb_strdup(subject == NULL ? "" : subject);
	s->verdict = hb_strdup(verdict);
	s->why = hb_text_take(&why);
	hb_list_add_tail(&e->steps, &s->node);
	e->n++;
}

void
hb_explain_set_cluster(struct hb_explain *e, struct hb_str cluster)
{
	HB_CHECK(e, EXPLAIN_MAGIC);
	hb_free(e->cluster);
	e->cluster = hb_strndup(cluster.len == 0 ? "" : cluster.p, cluster.len);
}

struct hb_str
hb_explain_cluster(const struct hb_explain *e)
{
	HB_CHECK(e, EXPLAIN_MAGIC);
	return (hb_str(e->cluster));
}

void
hb_explain_stop(struct hb_explain *e)
{
	HB_CHECK(e, EXPLAIN_MAGIC);
	e->stopped = true;
}

bool
hb_explain_stopped(const struct hb_explain *e)
{
	HB_CHECK(e, EXPLAIN_MAGIC);
	return (e->stopped);
}

struct hb_facts *
hb_explain_facts(struct hb_explain *e)
{
	HB_CHECK(e, EXPLAIN_MAGIC);
	return (&e->facts);
}

void
hb_explain_text(const struct hb_explain *e, struct hb_text *out)
{
	const struct hb_list *n;

	HB_CHECK(e, EXPLAIN_MAGIC);
	HB_LIST_FOREACH (n, &e->steps) {
		const struct step *s = HB_LIST_ENTRY(n, const struct step, node);

		hb_text_printf(out, "%-9s %-11s %s%s%s\n", s->topic, s->verdict, s->subject,
			*s->why == '\0' || *s->subject == '\0' ? "" : ": ", s->why);
	}
	if (e->dropped > 0)
		hb_text_printf(out, "… and %zu more steps\n", e->dropped);
}

static void
json_field(struct hb_text *out, const char *name, const char *value, bool last)
{
	hb_text_printf(out, "\"%s\": ", name);
	hb_text_json(out, value, strlen(value));
	if (!last)
		hb_text_addz(out, ", ");
}

void
hb_explain_json(const struct hb_explain *e, struct hb_text *out)
{
	const struct hb_list *n;
	const char *sep = "";

	HB_CHECK(e, EXPLAIN_MAGIC);
	hb_text_addz(out, "{\n  \"cluster\": ");
	if (e->cluster == NULL)
		hb_text_addz(out, "null");
	else
		hb_text_json(out, e->cluster, strlen(e->cluster));
	hb_text_printf(out, ",\n  \"stopped\": %s,\n  \"dropped_steps\": %zu,\n  \"steps\": [",
		e->stopped ? "true" : "false", e->dropped);
	HB_LIST_FOREACH (n, &e->steps) {
		const struct step *s = HB_LIST_ENTRY(n, const struct step, node);

		hb_text_printf(out, "%s\n    {", sep);
		json_field(out, "topic", s->topic, false);
		json_field(out, "subject", s->subject, false);
		json_field(out, "verdict", s->verdict, false);
		json_field(out, "why", s->why, true);
		hb_text_addc(out, '}');
		sep = ",";
	}
	hb_text_addz(out, "\n  ]\n}\n");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Text, JSON and Prometheus output, in Envoy's shapes. */
#include "core/stats/stats_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const double quantiles[] = { 0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100 };

/* Envoy's default histogram buckets. */
static const double bounds[] = { 0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000,
	30000, 60000, 300000, 600000, 1800000, 3600000 };

/* A name in parts, so that sorting a hundred thousand of them builds none. */
struct name {
	const char *parts[4];
	unsigned at;
};

static int name_next(struct name *n, bool prometheus)
{
	int c;

	while (n->at < HB_ARRAY_LEN(n->parts) && *n->parts[n->at] == '\0')
		n->at++;
	if (n->at == HB_ARRAY_LEN(n->parts))
		return (-1);
	c = (unsigned char)*n->parts[n->at]++;
	if (prometheus &&
		!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			c == '_' || c == ':'))
		c = '_';
	return (c);
}

static struct name name_of(const struct hb_stat_entry *e, bool prometheus)
{
	const char *stat = hb_stat_entry_desc(e)->name;

	if (prometheus)
		return ((struct name){ { hb_stats_family(e->stats)->prometheus, "_",
					       hb_stats_more(e->stats), stat },
			0 });
	return ((struct name){ { hb_stats_prefix(e->stats), stat, "", "" }, 0 });
}

static int name_cmp(const struct hb_stat_entry *a, const struct hb_stat_entry *b, bool prometheus)
{
	struct name na = name_of(a, prometheus), nb = name_of(b, prometheus);
	int ca, cb;

	do {
		ca = name_next(&na, prometheus);
		cb = name_next(&nb, prometheus);
	} while (ca == cb && ca >= 0);
	return (ca - cb);
}

static void name_add(struct hb_text *t, const struct hb_stat_entry *e, bool prometheus)
{
	struct name n = name_of(e, prometheus);
	int c;

	while ((c = name_next(&n, prometheus)) >= 0)
		hb_text_addc(t, (char)c);
}

static bool is_hist(const struct hb_stat_entry *e)
{
	return (hb_stat_entry_desc(e)->kind == HB_STAT_HISTOGRAM);
}

/* Histograms come last, as in Envoy. */
static int text_cmp(const void *pa, const void *pb)
{
	const struct hb_stat_entry *a = pa, *b = pb;

	if (is_hist(a) != is_hist(b))
		return (is_hist(a) ? 1 : -1);
	return (name_cmp(a, b, false));
}

/* Samples of one name stand together, whichever family they are from. */
static int prometheus_cmp(const void *pa, const void *pb)
{
	const struct hb_stat_entry *a = pa, *b = pb;
	int r = name_cmp(a, b, true);

	return (r != 0 ? r :
			 strcmp(hb_stats_shown_label(a->stats), hb_stats_shown_label(b->stats)));
}

static size_t entries_sorted(const struct hb_stats_query *q, struct hb_stat_entry **ret,
	int (*cmp)(const void *, const void *))
{
	static const struct hb_stats_query everything;
	size_t n = hb_stats_collect(q != NULL ? q : &everything, ret);

	if (n > 1)
		qsort(*ret, n, sizeof **ret, cmp);
	return (n);
}

/* As Envoy: at least one decimal. */
static void add_double(struct hb_text *t, double v)
{
	char buf[40];

	snprintf(buf, sizeof buf, "%.10g", v);
	hb_text_printf(t, "%s%s", buf, strpbrk(buf, ".e") == NULL ? ".0" : "");
}

void hb_stats_text(struct hb_text *t, const struct hb_stats_query *q)
{
	struct hb_stat_entry *v;
	size_t n = entries_sorted(q, &v, text_cmp);
	struct hb_hist_sum hist;

	for (size_t e = 0; e < n; e++) {
		name_add(t, &v[e], false);
		if (!is_hist(&v[e])) {
			hb_text_printf(t, ": %" PRId64 "\n", hb_stat_value(v[e].stats, v[e].i));
			continue;
		}
		hb_stats_hist(v[e].stats, v[e].i, &hist);
		hb_text_addz(t, hist.count == 0 ? ": No recorded values" : ":");
		for (size_t i = 0; hist.count > 0 && i < HB_ARRAY_LEN(quantiles); i++) {
			hb_text_printf(t, " P%g(nan,", quantiles[i]);
			add_double(t, hb_hist_quantile(&hist, quantiles[i] / 100));
			hb_text_addc(t, ')');
		}
		hb_text_addc(t, '\n');
	}
	hb_free(v);
}

static void json_name(struct hb_text *t, const struct hb_stat_entry *e)
{
	struct hb_text name = { 0 };

	name_add(&name, e, false);
	hb_text_addz(t, "{\"name\":");
	hb_text_json(t, name.p, name.len);
	hb_text_fini(&name);
}

static void json_histogram(struct hb_text *t, const struct hb_stat_entry *e)
{
	struct hb_hist_sum hist;

	hb_stats_hist(e->stats, e->i, &hist);
	json_name(t, e);
	hb_text_addz(t, ",\"values\":[");
	for (size_t i = 0; i < HB_ARRAY_LEN(quantiles); i++) {
		hb_text_printf(t, "%s{\"cumulative\":", i > 0 ? "," : "");
		if (hist.count == 0)
			hb_text_addz(t, "null");
		else
			add_double(t, hb_hist_quantile(&hist, quantiles[i] / 100));
		hb_text_addz(t, ",\"interval\":null}");
	}
	hb_text_addz(t, "]}");
}

void hb_stats_json(struct hb_text *t, const struct hb_stats_query *q)
{
	struct hb_stat_entry *v;
	size_t n = entries_sorted(q, &v, text_cmp), e;

	hb_text_addz(t, "{\"stats\":[");
	for (e = 0; e < n && !is_hist(&v[e]); e++) {
		if (e > 0)
			hb_text_addc(t, ',');
		json_name(t, &v[e]);
		hb_text_printf(t, ",\"value\":%" PRId64 "}", hb_stat_value(v[e].stats, v[e].i));
	}
	if (e < n) {
		hb_text_printf(t, "%s{\"histograms\":{\"supported_quantiles\":[", e > 0 ? "," : "");
		for (size_t i = 0; i < HB_ARRAY_LEN(quantiles); i++)
			hb_text_printf(t, "%s%g", i > 0 ? "," : "", quantiles[i]);
		hb_text_addz(t, "],\"computed_quantiles\":[");
		for (size_t first = e; e < n; e++) {
			if (e > first)
				hb_text_addc(t, ',');
			json_histogram(t, &v[e]);
		}
		hb_text_addz(t, "]}}");
	}
	hb_text_addz(t, "]}");
	hb_free(v);
}

/* A label's value or a help text; quotes are escaped in values only. */
static void prometheus_escape(struct hb_text *t, const char *p, bool quotes)
{
	for (; *p != '\0'; p++) {
		if (*p == '\n')
			hb_text_addz(t, "\\n");
		else if (*p == '\\' || (quotes && *p == '"'))
			hb_text_add(t, (char[]){ '\\', *p }, 2);
		else
			hb_text_addc(t, *p);
	}
}

static void prometheus_head(struct hb_text *t, const struct hb_stat_entry *e)
{
	static const char *const types[] = {
		[HB_STAT_COUNTER] = "counter",
		[HB_STAT_GAUGE] = "gauge",
		[HB_STAT_HISTOGRAM] = "histogram",
	};

	hb_text_addz(t, "# HELP ");
	name_add(t, e, true);
	hb_text_addc(t, ' ');
	prometheus_escape(t, hb_stat_entry_desc(e)->help, false);
	hb_text_addz(t, "\n# TYPE ");
	name_add(t, e, true);
	hb_text_printf(t, " %s\n", types[hb_stat_entry_desc(e)->kind]);
}

/* name + suffix + labels + blank; le NULL = no bucket. */
static void prometheus_sample(
	struct hb_text *t, const struct hb_stat_entry *e, const char *suffix, const char *le)
{
	const char *key = hb_stats_family(e->stats)->label;
	const char *value = hb_stats_shown_label(e->stats);
	bool label = key != NULL && *value != '\0';

	name_add(t, e, true);
	hb_text_addz(t, suffix);
	if (label || le != NULL)
		hb_text_addc(t, '{');
	if (label) {
		hb_text_printf(t, "%s=\"", key);
		prometheus_escape(t, value, true);
		hb_text_addc(t, '"');
	}
	if (le != NULL)
		hb_text_printf(t, "%sle=\"%s\"", label ? "," : "", le);
	hb_text_addz(t, label || le != NULL ? "} " : " ");
}

static void prometheus_histogram(struct hb_text *t, const struct hb_stat_entry *e)
{
	struct hb_hist_sum hist;
	char le[32];

	hb_stats_hist(e->stats, e->i, &hist);
	for (size_t i = 0; i < HB_ARRAY_LEN(bounds); i++) {
		snprintf(le, sizeof le, "%.10g", bounds[i]);
		prometheus_sample(t, e, "_bucket", le);
		hb_text_printf(t, "%" PRIu64 "\n", hb_hist_count_to(&hist, bounds[i]));
	}
	prometheus_sample(t, e, "_bucket", "+Inf");
	hb_text_printf(t, "%" PRIu64 "\n", hist.count);
	prometheus_sample(t, e, "_sum", NULL);
	hb_text_printf(t, "%" PRIu64 "\n", hist.sum);
	prometheus_sample(t, e, "_count", NULL);
	hb_text_printf(t, "%" PRIu64 "\n", hist.count);
}

static struct {
	hb_stats_render_f *fn;
	void *arg;
} renderers[8];
static unsigned n_renderers;

void hb_stats_renderer_add(hb_stats_render_f *fn, void *arg)
{
	HB_ASSERT(n_renderers < HB_ARRAY_LEN(renderers));
	renderers[n_renderers].fn = fn;
	renderers[n_renderers++].arg = arg;
}

bool hb_stats_wanted(const struct hb_stats_query *q, const char *name)
{
	return (q == NULL || q->filter == NULL || q->filter(q->arg, name));
}

void hb_stats_prometheus(struct hb_text *t, const struct hb_stats_query *q)
{
	struct hb_stat_entry *v;
	size_t n = entries_sorted(q, &v, prometheus_cmp);

	for (size_t e = 0; e < n; e++) {
		if (e == 0 || name_cmp(&v[e - 1], &v[e], true) != 0)
			prometheus_head(t, &v[e]);
		if (is_hist(&v[e])) {
			prometheus_histogram(t, &v[e]);
			continue;
		}
		prometheus_sample(t, &v[e], "", NULL);
		hb_text_printf(t, "%" PRId64 "\n", hb_stat_value(v[e].stats, v[e].i));
	}
	hb_free(v);
	for (unsigned i = 0; i < n_renderers; i++)
		renderers[i].fn(renderers[i].arg, q, t);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Pages that need nothing but the rooms below: index, help, stats, logging, memory. */
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>
#include "core/admin/admin_priv.h"
#include "core/base/burst.h"
#include "core/base/log.h"
#include "core/config/config.h"
#include "core/match/regex.h"
#include "core/stats/access_log.h"
#include "core/stats/stats.h"
#include "envoy/admin/v3/memory.pb-c.h"

static void
page_help(struct hb_admin_request *rq)
{
	struct hb_text t = { 0 };
	const struct hb_admin_endpoint *ep;

	hb_text_addz(&t, "admin commands are:\n");
	for (size_t i = 0; (ep = hb_admin_endpoint_at(i)) != NULL; i++) {
		hb_text_printf(&t, "  %s%s: %s\n", ep->path,
			(ep->flags & HB_ADMIN_MUTATES) != 0 ? " (POST)" : "", ep->help);
		if (*ep->params != '\0')
			hb_text_printf(&t, "      ?%s\n", ep->params);
	}
	hb_admin_reply(rq, 200, NULL, &t);
}

static const struct hb_admin_endpoint ep_help = { "/help", "this list", "", 0, page_help };

static const char index_head[] =
	"<!doctype html><meta charset=utf-8><title>hbone admin</title><style>"
	"body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:60em;color:#223}"
	"td{padding:.3em .8em;border-top:1px solid #dde;vertical-align:top}small{color:#667}"
	"button{font:inherit;cursor:pointer}a{color:#0645ad}</style><h1>hbone admin</h1><table>\n";

static void
page_index(struct hb_admin_request *rq)
{
	struct hb_text t = { 0 };
	const struct hb_admin_endpoint *ep;

	hb_text_addz(&t, index_head);
	for (size_t i = 0; (ep = hb_admin_endpoint_at(i)) != NULL; i++) {
		hb_text_addz(&t, "<tr><td>");
		if ((ep->flags & HB_ADMIN_MUTATES) != 0)
			hb_text_printf(&t,
				"<form method=post action='%s'><button>%s</button></form>",
				ep->path + 1, ep->path);
		else
			hb_text_printf(&t, "<a href='%s'>%s</a>", ep->path + 1, ep->path);
		hb_text_printf(&t, "<td>%s<br><small>%s</small>\n", ep->help, ep->params);
	}
	hb_text_addz(&t, "</table>\n");
	hb_admin_reply(rq, 200, "text/html; charset=UTF-8", &t);
}

static const struct hb_admin_endpoint ep_index = { "/", "this page", "", 0, page_index };

/* ------------------------------------------------------------------ stats */

static bool
stat_matches(void *arg, const char *name)
{
	return (hb_regex_find(arg, name, strlen(name)));
}

static void
page_stats(struct hb_admin_request *rq)
{
	struct hb_str filter = hb_admin_param(rq, "filter"), format = hb_admin_param(rq, "format");
	struct hb_stats_query q = { .used_only = hb_admin_param(rq, "usedonly").p != NULL };
	struct hb_regex *re = NULL;
	struct hb_text t = { 0 };
	const char *type = NULL;
	char why[128];

	if (filter.len > 0) {
		re = hb_regex_new(filter.p, filter.len, why, sizeof why);
		if (re == NULL) {
			hb_admin_replyf(rq, 400, "filter: %s\n", why);
			return;
		}
		q.filter = stat_matches;
		q.arg = re;
	}
	if (format.len == 0 || hb_str_eq(format, HB_STR("text"))) {
		hb_stats_text(&t, &q);
	} else if (hb_str_eq(format, HB_STR("json"))) {
		hb_stats_json(&t, &q);
		type = "application/json";
	} else if (hb_str_eq(format, HB_STR("prometheus"))) {
		hb_stats_prometheus(&t, &q);
		type = "text/plain; version=0.0.4; charset=utf-8";
	} else {
		hb_regex_free(&re);
		hb_admin_replyf(rq, 400, "format is text, json or prometheus\n");
		return;
	}
	hb_regex_free(&re);
	hb_admin_reply(rq, 200, type, &t);
}

static const struct hb_admin_endpoint ep_stats = { "/stats", "counters, gauges and histograms",
	"usedonly, filter=REGEX, format=text|json|prometheus", 0, page_stats };

static void
page_prometheus(struct hb_admin_request *rq)
{
	struct hb_stats_query q = { .used_only = hb_admin_param(rq, "usedonly").p != NULL };
	struct hb_text t = { 0 };

	hb_stats_prometheus(&t, &q);
	hb_admin_reply(rq, 200, "text/plain; version=0.0.4; charset=utf-8", &t);
}

static const struct hb_admin_endpoint ep_prometheus = { "/stats/prometheus",
	"the same for Prometheus", "usedonly", HB_ADMIN_PUBLIC, page_prometheus };

static void
page_reset_counters(struct hb_admin_request *rq)
{
	hb_stats_reset();
	hb_admin_replyf(rq, 200, "OK\n");
}

static const struct hb_admin_endpoint ep_reset = { "/reset_counters",
	"sets counters and histograms to zero", "", HB_ADMIN_MUTATES, page_reset_counters };

/* ------------------------------------------------------------------ logging */

static int
set_levels(struct hb_admin_request *rq, struct hb_err *reterr)
{
	struct hb_str name, value;
	enum hb_log_level level;
	char spec[256];
	int r = 0;

	for (size_t i = 0; r == 0 && hb_admin_param_at(rq, i, &name, &value); i++) {
		snprintf(spec, sizeof spec, "%.*s", HB_STR_FMT(value));
		if (hb_str_eq(name, HB_STR("level"))) {
			r = hb_log_level_parse(spec, &level, reterr);
			if (r == 0)
				hb_log_level_all(level);
		} else if (hb_str_eq(name, HB_STR("paths"))) {
			r = hb_log_levels_parse(spec, reterr);
		} else {
			snprintf(spec, sizeof spec, "%.*s:%.*s", HB_STR_FMT(name),
				HB_STR_FMT(value));
			r = hb_log_levels_parse(spec, reterr);
		}
	}
	return (r);
}

static void
page_logging(struct hb_admin_request *rq)
{
	struct hb_text t = { 0 };
	struct hb_err err;

	if (set_levels(rq, &err) != 0) {
		hb_admin_replyf(rq, 400, "%s\n", err.text);
		return;
	}
	hb_text_addz(&t, "active loggers:\n");
	for (unsigned c = 0; c < HB_LOG_C_MAX; c++)
		hb_text_printf(&t, "  %s: %s\n", hb_log_component_name((enum hb_log_component)c),
			hb_log_level_name((enum hb_log_level)hb_log_levels[c]));
	hb_admin_reply(rq, 200, NULL, &t);
}

static const struct hb_admin_endpoint ep_logging = { "/logging",
	"levels of the application log, to read or set",
	"level=LEVEL, paths=COMPONENT:LEVEL,…, COMPONENT=LEVEL", HB_ADMIN_MUTATES, page_logging };

static void
page_reopen_logs(struct hb_admin_request *rq)
{
	struct hb_err err;

	if (hb_log_reopen(&err) != 0) {
		hb_admin_replyf(rq, 503, "%s\n", err.text);
		return;
	}
	hb_access_log_reopen();
	hb_admin_replyf(rq, 200, "OK\n");
}

static const struct hb_admin_endpoint ep_reopen = { "/reopen_logs",
	"opens log files anew, after rotation", "", HB_ADMIN_MUTATES, page_reopen_logs };

/* ------------------------------------------------------------------ memory */

static uint64_t
resident_bytes(void)
{
	unsigned long long pages = 0, size = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (f == NULL)
		return (0);
	if (fscanf(f, "%llu %llu", &size, &pages) != 2)
		pages = 0;
	fclose(f);
	return (pages * (uint64_t)sysconf(_SC_PAGESIZE));
}

static void
page_memory(struct hb_admin_request *rq)
{
	Envoy__Admin__V3__Memory m = ENVOY__ADMIN__V3__MEMORY__INIT;
	struct mallinfo2 info = mallinfo2();
	struct hb_text t = { 0 };

	m.allocated = info.uordblks + info.hblkhd + hb_burst_total();
	m.heap_size = info.arena + info.hblkhd + hb_burst_total();
	m.pageheap_free = info.fordblks;
	m.total_physical_bytes = resident_bytes();
	hb_cfg_to_json_defaults(&t, &m.base, 0);
	hb_text_addc(&t, '\n');
	hb_admin_reply(rq, 200, "application/json", &t);
}

static const struct hb_admin_endpoint ep_memory = { "/memory",
	"bytes allocated, of the heap and resident", "", 0, page_memory };

void
hb_admin_pages_init(void)
{
	hb_admin_add(&ep_index);
	hb_admin_add(&ep_help);
	hb_admin_add(&hb_admin_certs);
	hb_admin_add(&hb_admin_config_dump);
	hb_admin_add(&hb_admin_init_dump);
	hb_admin_add(&ep_logging);
	hb_admin_add(&ep_memory);
	hb_admin_add(&ep_reopen);
	hb_admin_add(&ep_reset);
	hb_admin_add(&ep_stats);
	hb_admin_add(&ep_prometheus);
}

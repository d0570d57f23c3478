/* SPDX-License-Identifier: Apache-2.0 */
/* Admin endpoints about the process itself. */
#include <stdio.h>
#include "core/app/app.h"
#include "core/base/log.h"
#include "core/event/worker.h"
#include "envoy/admin/v3/server_info.pb-c.h"
#include "listeners/listeners.h"
#include "upstreams/upstreams.h"

typedef Envoy__Admin__V3__ServerInfo server_info_t;
typedef Envoy__Admin__V3__CommandLineOptions options_t;

enum hb_app_state
hb_app_state_shown(void)
{
	return (hb_app.state == HB_APP_LIVE && hb_app.healthcheck_failed ? HB_APP_DRAINING :
									   hb_app.state);
}

const char *
hb_app_state_name(void)
{
	static const char *const names[] = { "LIVE", "DRAINING", "PRE_INITIALIZING",
		"INITIALIZING" };

	return (names[hb_app_state_shown()]);
}

bool
hb_app_ready(struct hb_text *why)
{
	bool ready = hb_app.state == HB_APP_LIVE;

	if (!ready)
		hb_text_printf(why, "state is %s\n", hb_app_state_name());
	if (hb_app.healthcheck_failed) {
		hb_text_addz(why, "failed by POST /healthcheck/fail\n");
		ready = false;
	}
	ready = hb_upstreams_ready(why) && ready;
	return (hb_listeners_ready(why) && ready);
}

static void
admin_ready(struct hb_admin_request *rq)
{
	struct hb_text why = { 0 }, answer = { 0 };
	bool ready = hb_app_ready(&why);

	if (ready)
		hb_text_addz(&answer, "LIVE\n");
	else if (hb_app_state_shown() == HB_APP_LIVE)
		hb_text_addz(&answer, "PRE_INITIALIZING\n");
	else
		hb_text_printf(&answer, "%s\n", hb_app_state_name());
	if (hb_admin_param(rq, "verbose").p != NULL && why.len > 0)
		hb_text_add(&answer, why.p, why.len);
	hb_text_fini(&why);
	hb_admin_reply(rq, ready ? 200 : 503, NULL, &answer);
}

static const struct hb_admin_endpoint ep_ready = { "/ready",
	"200 LIVE when traffic may come, else 503 and the state", "verbose: what it waits for",
	HB_ADMIN_PUBLIC, admin_ready };

static void
admin_server_info(struct hb_admin_request *rq)
{
	server_info_t info = ENVOY__ADMIN__V3__SERVER_INFO__INIT;
	options_t opts = ENVOY__ADMIN__V3__COMMAND_LINE_OPTIONS__INIT;
	Google__Protobuf__Duration uptime = GOOGLE__PROTOBUF__DURATION__INIT;
	Google__Protobuf__Duration drain = GOOGLE__PROTOBUF__DURATION__INIT;
	struct hb_cfg *cfg = hb_cfg_new("node", NULL);
	const struct hb_args *args = hb_app.args;
	struct hb_text t = { 0 };

	uptime.seconds = (int64_t)(hb_now_ms(hb_worker_control()) - hb_app.started_ms) / 1000;
	drain.seconds = (int64_t)(hb_app.drain_time_ms / 1000);
	opts.concurrency = hb_workers_count();
	opts.config_path = (char *)(uintptr_t)args->config;
	opts.log_level = (char *)(uintptr_t)(args->log_level == NULL ? "info" : args->log_level);
	if (args->component_log_level != NULL)
		opts.component_log_level = (char *)(uintptr_t)args->component_log_level;
	if (args->log_path != NULL)
		opts.log_path = (char *)(uintptr_t)args->log_path;
	opts.drain_time = &drain;
	opts.disable_hot_restart = true;
	info.version = (char *)(uintptr_t)hb_version;
	info.state = (Envoy__Admin__V3__ServerInfo__State)hb_app_state_shown();
	info.uptime_current_epoch = info.uptime_all_epochs = &uptime;
	info.hot_restart_version = (char *)(uintptr_t) "disabled";
	info.command_line_options = &opts;
	if (hb_app.node_wire.len > 0)
		info.node = (void *)(uintptr_t)hb_cfg_parse_wire(cfg,
			hb_strn(hb_app.node_wire.p, hb_app.node_wire.len),
			hb_cfg_type_find(HB_STR("envoy.config.core.v3.Node")));
	hb_cfg_to_json_defaults(&t, &info.base, 0);
	hb_text_addc(&t, '\n');
	hb_cfg_free(&cfg);
	hb_admin_reply(rq, 200, "application/json", &t);
}

static const struct hb_admin_endpoint ep_server_info = { "/server_info",
	"version, state, uptime, options and node as JSON", "", 0, admin_server_info };

static void
admin_healthcheck_fail(struct hb_admin_request *rq)
{
	hb_app.healthcheck_failed = true;
	HB_LOG(ADMIN, INFO, "readiness fails by request");
	hb_admin_replyf(rq, 200, "OK\n");
}

static const struct hb_admin_endpoint ep_fail = { "/healthcheck/fail", "makes /ready answer 503",
	"", HB_ADMIN_MUTATES, admin_healthcheck_fail };

static void
admin_healthcheck_ok(struct hb_admin_request *rq)
{
	hb_app.healthcheck_failed = false;
	HB_LOG(ADMIN, INFO, "readiness no longer fails by request");
	hb_admin_replyf(rq, 200, "OK\n");
}

static const struct hb_admin_endpoint ep_ok = { "/healthcheck/ok", "undoes /healthcheck/fail", "",
	HB_ADMIN_MUTATES, admin_healthcheck_ok };

static void
admin_quit(struct hb_admin_request *rq)
{
	hb_admin_replyf(rq, 200, "OK\n");
	hb_app_stop();
}

static const struct hb_admin_endpoint ep_quit = { "/quitquitquit",
	"drains and stops, as SIGTERM; a second time stops at once", "", HB_ADMIN_MUTATES,
	admin_quit };

static void
admin_explain(struct hb_admin_request *rq)
{
	struct hb_explain_query q = { .listener = hb_admin_param(rq, "listener"),
		.sni = hb_admin_param(rq, "sni"),
		.alpn = hb_admin_param(rq, "alpn"),
		.src = hb_admin_param(rq, "src"),
		.dst = hb_admin_param(rq, "dst"),
		.peer = hb_admin_param(rq, "peer"),
		.authority = hb_admin_param(rq, "authority") };
	bool json = hb_str_eq(hb_admin_param(rq, "format"), HB_STR("json"));
	struct hb_text t = { 0 };
	struct hb_err err;

	if (hb_app_explain(&q, json, &t, &err) != 0) {
		hb_admin_replyf(rq, 400, "%s\n", err.text);
		return;
	}
	hb_admin_reply(rq, 200, json ? "application/json" : NULL, &t);
}

static const struct hb_admin_endpoint ep_explain = { "/explain",
	"which chain, filters, cluster and endpoint a connection would get, and why the others lost",
	"dst=ADDRESS:PORT or listener=NAME, sni, alpn=A,B, src, peer=ID, authority, format=json", 0,
	admin_explain };

void
hb_app_admin_init(void)
{
	hb_admin_pages_init();
	hb_admin_add(&ep_ready);
	hb_admin_add(&ep_server_info);
	hb_admin_add(&ep_fail);
	hb_admin_add(&ep_ok);
	hb_admin_add(&ep_quit);
	hb_admin_add(&ep_explain);
}

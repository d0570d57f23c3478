/* SPDX-License-Identifier: Apache-2.0 */
/* hbone run: start, signals, reload, drain, stop. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include "core/app/app.h"
#include "core/app/heap.h"
#include "core/base/log.h"
#include "core/event/io.h"
#include "core/event/worker.h"
#include "core/identity/reload.h"
#include "core/filter/conn.h"
#include "core/filter/park.h"
#include "core/http/h2.h"
#include "core/stats/access_log.h"
#include "core/transport/pump.h"
#include "core/transport/transport.h"
#include "listeners/listeners.h"
#include "upstreams/upstreams.h"

#define TICK_MS       1000
#define DRAIN_LIST_MAX 20

static uv_signal_t    sig_term, sig_int, sig_hup, sig_usr1;
static struct hb_timer tick;
static uint64_t       drain_until_ms;

static int
options_setup(const struct hb_args *args)
{
	struct hb_err err;
	enum hb_log_level level;
	bool json = args->log_format != NULL && strcmp(args->log_format, "json") == 0;

	if (args->log_format != NULL && !json && strcmp(args->log_format, "text") != 0) {
		fprintf(stderr, "hbone: --log-format is text or json, not \"%s\"\n", args->log_format);
		return (HB_EXIT_USAGE);
	}
	if (args->rest_above_set != 0)
		hb_park_above(args->rest_above < 1000000 ? (uint32_t)args->rest_above :
							   HB_PARK_NEVER);
	if (args->event_backend != NULL && strcmp(args->event_backend, "uv") != 0 &&
	    strcmp(args->event_backend, "epoll") != 0) {
		fprintf(stderr, "hbone: --event-backend is epoll or uv, not \"%s\"\n", args->event_backend);
		return (HB_EXIT_USAGE);
	}
	if (hb_log_init(args->log_path, json, &err) != 0 ||
	    (args->log_level != NULL && hb_log_level_parse(args->log_level, &level, &err) != 0))
		goto bad;
	if (args->log_level != NULL)
		hb_log_level_all(level);
	if (args->component_log_level != NULL && hb_log_levels_parse(args->component_log_level, &err) != 0)
		goto bad;
	return (HB_EXIT_OK);
bad:
	fprintf(stderr, "hbone: %s\n", err.text);
	return (HB_EXIT_USAGE);
}

static void
log_errs(const struct hb_errs *errs)
{
	char line[2048];

	for (size_t i = 0; i < errs->n; i++) {
		hb_err_format(&errs->v[i], line, sizeof line);
		HB_LOG(CONFIG, ERROR, line);
	}
}

static void
set_bootstrap(const ProtobufCMessage *msg)
{
	struct hb_text wire = hb_cfg_to_wire(msg);

	hb_admin_set_bootstrap(hb_strn(wire.p, wire.len));
	hb_text_fini(&wire);
}

void
hb_app_reload(void)
{
	struct hb_cfg *cfg = hb_cfg_new(hb_app.args->config, NULL);
	const ProtobufCMessage *msg = hb_cfg_parse_file(cfg, hb_app.args->config,
	    hb_cfg_type_find(HB_STR("envoy.config.bootstrap.v3.Bootstrap")));

	if (hb_app.state == HB_APP_DRAINING) {
		HB_LOG(CONFIG, WARN, "not reloading: the process is stopping");
	} else if (msg != NULL && hb_bootstrap_apply(cfg, msg, false, false) == 0) {
		set_bootstrap(msg);
		HB_LOG(CONFIG, INFO, "configuration reloaded", "file=%s", hb_app.args->config);
	} else {
		log_errs(hb_cfg_errs(cfg));
		HB_LOG(CONFIG, ERROR, "what is refused keeps its last good configuration", "file=%s errors=%zu",
		    hb_app.args->config, hb_cfg_errs(cfg)->n + hb_cfg_errs(cfg)->dropped);
	}
	hb_cfg_free(&cfg);
}

static void
flushed(void *arg)
{
	(void)arg;
	hb_control_stop();
}

static void
end_now(void)
{
	static bool ending;

	if (ending)
		return;
	ending = true;
	hb_listeners_close_all(HB_CLOSE_DRAINED);
	hb_access_log_flush(flushed, NULL);
}

static void
drain_listed(void *arg, struct hb_text *t)
{
	(void)arg;
	for (char *save = NULL, *line = t->len > 0 ? strtok_r(t->p, "\n", &save) : NULL; line != NULL;
	     line = strtok_r(NULL, "\n", &save))
		HB_LOG(MAIN, WARN, "cut off", "%s", line);
	end_now();
}

static void
on_tick(struct hb_timer *t)
{
	uint64_t left = hb_listeners_connections(), now = hb_now_ms(t->worker);

	if (left == 0) {
		HB_LOG(MAIN, INFO, "drained");
		end_now();
	} else if (now >= drain_until_ms) {
		HB_LOG(MAIN, WARN, "drain time is over", "connections=%llu", (unsigned long long)left);
		hb_listeners_describe(DRAIN_LIST_MAX, drain_listed, NULL);
	} else {
		HB_LOG(MAIN, INFO, "draining", "connections=%llu seconds_left=%llu",
		    (unsigned long long)left, (unsigned long long)((drain_until_ms - now + 999) / 1000));
		hb_timer_start(t, HB_MIN((uint64_t)TICK_MS, drain_until_ms - now));
	}
}

void
hb_app_stop(void)
{
	if (hb_app.state == HB_APP_DRAINING) {
		HB_LOG(MAIN, WARN, "stopping at once");
		end_now();
		return;
	}
	/* Readiness fails first, so that balancers learn before connections are refused. */
	hb_app.state = HB_APP_DRAINING;
	drain_until_ms = hb_now_ms(hb_worker_control()) + hb_app.drain_time_ms;
	HB_LOG(MAIN, INFO, "stopping", "drain_seconds=%llu",
	    (unsigned long long)(hb_app.drain_time_ms / 1000));
	hb_listeners_drain(false);
	hb_timer_start(&tick, 0);
}

static void
on_signal(uv_signal_t *h, int signum)
{
	(void)h;
	switch (signum) {
	case SIGHUP:
		hb_app_reload();
		hb_identity_recheck();
		break;
	case SIGUSR1:
		hb_log_reopen(NULL);
		hb_access_log_reopen();
		break;
	default:
		hb_app_stop();
	}
}

static void
signals_start(uv_loop_t *loop)
{
	static const struct {
		uv_signal_t *h;
		int          signum;
	} v[] = {{&sig_term, SIGTERM}, {&sig_int, SIGINT}, {&sig_hup, SIGHUP}, {&sig_usr1, SIGUSR1}};

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < HB_ARRAY_LEN(v); i++) {
		uv_signal_init(loop, v[i].h);
		uv_signal_start(v[i].h, on_signal, v[i].signum);
	}
}

static void
signals_stop(void)
{
	uv_signal_t *const v[] = {&sig_term, &sig_int, &sig_hup, &sig_usr1};

	for (size_t i = 0; i < HB_ARRAY_LEN(v); i++)
		uv_close((uv_handle_t *)v[i], NULL);
}

/* Scripts and tests learn the admin port from this file. */
static int
write_admin_path(const char *path, struct hb_err *reterr)
{
	char text[HB_ADDR_TEXT_MAX];
	struct hb_addr a = hb_admin_address();
	FILE *f = fopen(path, "w");
	bool bad;

	hb_addr_format(&a, text, sizeof text);
	if (f == NULL)
		return (hb_err_set(reterr, -errno, "%s cannot be written: %s", path, strerror(errno)));
	bad = fprintf(f, "%s\n", text) < 0;
	bad = fclose(f) != 0 || bad;
	return (bad ? hb_err_set(reterr, -EIO, "%s cannot be written", path) : 0);
}

static void
log_started(void)
{
	char admin[HB_ADDR_TEXT_MAX], metrics[HB_ADDR_TEXT_MAX] = "-", ready[HB_ADDR_TEXT_MAX] = "-";
	struct hb_addr a = hb_admin_address(), m = hb_admin_public_metrics_address(),
	               r = hb_admin_public_ready_address();

	hb_addr_format(&a, admin, sizeof admin);
	if (m.kind != HB_ADDR_NONE)
		hb_addr_format(&m, metrics, sizeof metrics);
	if (r.kind != HB_ADDR_NONE)
		hb_addr_format(&r, ready, sizeof ready);
	HB_LOG(MAIN, INFO, "started", "version=\"%s\" workers=%u admin=%s metrics=%s ready=%s file=%s", hb_version,
	    hb_workers_count(), admin, metrics, ready, hb_app.args->config);
}

static int
bring_up(struct hb_cfg *cfg, const ProtobufCMessage *msg, struct hb_err *reterr)
{
	hb_app_admin_init();
	hb_app_stats_init();
	hb_mesh_metrics_init(&hb_app.metrics);
	if (hb_bootstrap_apply(cfg, msg, false, true) != 0)
		return (HB_EXIT_USAGE);
	set_bootstrap(msg);
	if (hb_admin_start(&hb_app.admin, reterr) != 0 || hb_workers_start(reterr) != 0 ||
	    (hb_app.args->admin_path != NULL && write_admin_path(hb_app.args->admin_path, reterr) != 0))
		return (HB_EXIT_RUNTIME);
	hb_app.state = HB_APP_LIVE;
	log_started();
	return (HB_EXIT_OK);
}

static int
serve(struct hb_cfg *cfg, const ProtobufCMessage *msg)
{
	struct hb_err err = {0};
	int exit_code;

	exit_code = bring_up(cfg, msg, &err);
	hb_app_print(hb_cfg_warnings(cfg), "warning");
	if (exit_code != HB_EXIT_OK) {
		hb_app_print(hb_cfg_errs(cfg), "error");
		if (err.code != 0)
			fprintf(stderr, "hbone: %s\n", err.text);
	}
	hb_cfg_free(&cfg);
	if (exit_code != HB_EXIT_OK)
		return (exit_code);
	hb_heap_started();
	hb_timer_init(&tick, hb_worker_control(), on_tick);
	if (hb_app.args->heap_trim > 0)
		hb_heap_watch(hb_app.args->heap_trim);
	signals_start(hb_worker_control()->loop);
	hb_control_run();
	signals_stop();
	hb_timer_stop(&tick);
	hb_heap_unwatch();
	HB_LOG(MAIN, INFO, "stopped");
	return (HB_EXIT_OK);
}

static void
stop_transports(struct hb_worker *w, void *arg)
{
	(void)arg;
	hb_transport_worker_stop(w);
}

int
hb_cmd_run(const struct hb_args *args)
{
	struct hb_err err = {0};
	struct hb_cfg *cfg = NULL;
	const ProtobufCMessage *msg;
	unsigned count = args->concurrency != 0 ? (unsigned)args->concurrency : hb_worker_default_count();
	int exit_code = options_setup(args);

	if (exit_code != HB_EXIT_OK)
		return (exit_code);
	hb_panic_hook_add(hb_conn_panic_hook);
	hb_panic_init();
	if (hb_app_register(args) != 0 || (msg = hb_app_load(args, &cfg)) == NULL)
		return (HB_EXIT_USAGE);
	if (hb_app_options(cfg, msg) != 0) {
		hb_app_print(hb_cfg_errs(cfg), "error");
		hb_cfg_free(&cfg);
		return (HB_EXIT_USAGE);
	}
	if (args->max_pipes_set != 0)
		hb_pump_pipes_max((unsigned)args->max_pipes);
	if (args->event_backend != NULL && strcmp(args->event_backend, "uv") == 0)
		hb_io_backend(HB_IO_UV);
	if (hb_workers_init(count, &err) != 0 || hb_app_rooms(false, &err) != 0) {
		fprintf(stderr, "hbone: %s\n", err.text);
		return (HB_EXIT_RUNTIME);
	}
	hb_app.started_ms = hb_now_ms(hb_worker_control());
	exit_code = serve(cfg, msg);
	/* After a failed start the operating system cleans up faster and surer than we could. */
	if (exit_code != HB_EXIT_OK)
		return (exit_code);
	hb_admin_stop();
	hb_app_stats_fini();
	hb_upstreams_stop();
	hb_post_all(stop_transports, NULL, NULL);
	hb_access_log_stop();
	hb_workers_at_end(hb_access_log_worker_fini);
	hb_workers_at_end(hb_transport_worker_fini);
	hb_workers_at_end(hb_conn_worker_fini);
	hb_workers_at_end(hb_h2_worker_fini);
	hb_identity_stop();
	hb_workers_fini();
	hb_app_rooms_fini();
	hb_mesh_metrics_fini();
	hb_access_log_fini();
	return (HB_EXIT_OK);
}

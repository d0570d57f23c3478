/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run: connections are opened, a few at once; when all are up the window begins after a while,
 * and when it is over everything is closed in order, so that the proxy ends as it does in service.
 */
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include "test/bench/load/load.h"

#define OPENING_AT_ONCE 64u
#define ERRORS_MAX      100u /* then it makes no sense to go on */
#define TICK_MS         10u
#define QUIET_TICKS     10u
#define CLOSING_MS      3000u

static const char *const vias[] = { "raw", "sni", "tls", "h2", "double" };

uint64_t
load_now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return ((uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec);
}

bool
load_stopping(const struct load_run *run)
{
	return (run->phase >= LOAD_CLOSING);
}

static void
stop_soon(struct load_run *run)
{
	if (!load_stopping(run))
		hb_run_soon(run->w, &run->stop);
}

void
load_error(struct load_run *run, const char *fmt, ...)
{
	va_list ap;

	if (run->errors++ == 0) {
		va_start(ap, fmt);
		(void)vsnprintf(run->error, sizeof run->error, fmt, ap);
		va_end(ap);
	}
	if (run->errors >= ERRORS_MAX ||
		(run->phase == LOAD_OPENING && run->mode->kind != LOAD_CONNECT))
		stop_soon(run);
}

void
load_lost(struct load_conn *c)
{
	if (c->lost)
		return;
	c->lost = true;
	if (++c->run->n_lost == c->run->o->connections)
		stop_soon(c->run);
}

void
load_done(struct load_lane *l)
{
	struct load_run *run = l->conn->run;

	run->operations++;
	run->resumed += l->conn->resumed;
	load_hist_record(&run->hist, load_now_ns() - l->begun_ns);
	if (run->o->count > 0 && run->phase == LOAD_MEASURING &&
		run->operations - run->window_operations >= run->o->count)
		stop_soon(run);
}

/* ------------------------------------------------------------------ phases */

static void
open_more(struct load_run *run)
{
	while (run->phase == LOAD_OPENING && run->n_started < run->o->connections &&
		run->n_started - run->n_up < OPENING_AT_ONCE)
		load_conn_start(&run->conns[run->n_started++]);
}

static void
on_input(struct hb_io *io, unsigned events)
{
	char line[64];

	(void)events;
	(void)!read(io->fd, line, sizeof line);
	stop_soon(HB_CONTAINER(io, struct load_run, input));
}

/* Whoever started us looks at the proxy now, and says when it has. */
static void
idle_begins(struct load_run *run)
{
	printf("{\"idle\":true,\"open\":%lu}\n", (unsigned long)run->operations);
	(void)fflush(stdout);
	if (hb_io_start(&run->input, run->w, STDIN_FILENO, on_input, NULL) != 0)
		stop_soon(run); /* a file, or nothing: there is nobody to wait for */
}

static void
measure(struct load_run *run)
{
	run->phase = LOAD_MEASURING;
	run->window_bytes = run->bytes;
	/* Of idle connections all that were opened count, they open before the window. */
	run->window_operations = run->mode->kind == LOAD_IDLE ? 0 : run->operations;
	run->window_resumed = run->mode->kind == LOAD_IDLE ? 0 : run->resumed;
	load_hist_reset(&run->hist);
	load_usage_begin(&run->usage, run->o->pids, run->o->n_pids);
	run->begun_ns = load_now_ns();
	if (run->mode->kind == LOAD_IDLE)
		idle_begins(run);
	else
		hb_timer_start(&run->timer, run->o->seconds_us / 2000);
}

/*
 * A blind client does not see that a stream has ended, only that nothing comes any more: a download of
 * which nothing came in the second half of the window was not measured, whoever is to blame.
 */
static void
half_over(struct load_run *run)
{
	run->half = true;
	for (uint64_t i = 0; i < run->n_started; i++)
		run->conns[i].taken_by_half = run->conns[i].taken;
	hb_timer_start(&run->timer, run->o->seconds_us / 1000 - run->o->seconds_us / 2000);
}

static void
find_stood_still(struct load_run *run)
{
	for (uint64_t i = 0; i < run->n_started && run->half; i++) {
		if (run->conns[i].taken == run->conns[i].taken_by_half)
			load_error(run, "a download stood still or ended before its time");
	}
}

void
load_up(struct load_conn *c)
{
	struct load_run *run = c->run;

	if (c->up)
		return;
	c->up = true;
	run->n_up++;
	open_more(run);
	if (run->n_up < run->o->connections || run->phase != LOAD_OPENING)
		return;
	run->phase = LOAD_WARMING;
	hb_timer_start(&run->timer, run->o->warmup_us / 1000);
}

static void
window_ends(struct load_run *run)
{
	run->window_ns = load_now_ns() - run->begun_ns;
	load_usage_end(&run->usage, run->o->pids, run->o->n_pids);
	run->window_bytes = run->bytes - run->window_bytes;
	run->window_operations = run->operations - run->window_operations;
	run->window_resumed = run->resumed - run->window_resumed;
	if (run->usage.gone)
		load_error(run, "a process given by --pid is gone");
	if (run->window_bytes + run->window_operations == 0)
		load_error(run, "nothing happened in the window");
	else if (run->mode->kind == LOAD_DOWNLOAD)
		find_stood_still(run);
}

static void
begin_closing(struct load_run *run)
{
	bool measured = run->phase == LOAD_MEASURING;

	if (load_stopping(run))
		return;
	if (measured)
		window_ends(run);
	hb_io_stop(&run->input);
	run->phase = LOAD_CLOSING;
	run->closing_ms = hb_now_ms(run->w);
	for (uint64_t i = 0; i < run->n_started; i++) {
		struct load_conn *c = &run->conns[i];

		for (uint64_t k = 0; k < run->o->streams; k++) {
			struct load_lane *l = &c->lanes[k];

			hb_run_cancel(&l->run);
			if (l->t != NULL && measured && run->mode->stop != NULL)
				run->mode->stop(l);
			else
				load_lane_finish(l);
		}
		c->looked_at = c->taken;
		if (!c->blind)
			load_conn_end(c, !measured);
	}
	hb_timer_start(&run->timer, TICK_MS);
}

/* A blind connection cannot see that its streams have ended, only that nothing comes any more. */
static void
closing(struct load_run *run)
{
	bool late = hb_now_ms(run->w) - run->closing_ms > CLOSING_MS, idle = true;

	for (uint64_t i = 0; i < run->n_started; i++) {
		struct load_conn *c = &run->conns[i];

		if (load_conn_idle(c))
			continue;
		if (late && run->mode->kind == LOAD_UPLOAD)
			load_error(run, "an upload was not answered in time");
		c->quiet = c->looked_at == c->taken ? c->quiet + 1 : 0;
		c->looked_at = c->taken;
		if (late)
			load_conn_end(c, true);
		else
			idle = false;
		if (c->blind && !late && c->quiet % QUIET_TICKS == QUIET_TICKS - 1)
			load_blind_end(c);
	}
	if (late || (idle && hb_transport_lingering(run->w) == 0))
		run->phase = LOAD_DONE;
	else
		hb_timer_start(&run->timer, TICK_MS);
}

static void
on_timer(struct hb_timer *timer)
{
	struct load_run *run = HB_CONTAINER(timer, struct load_run, timer);

	switch (run->phase) {
	case LOAD_OPENING:
		load_error(run, "only %u of %lu connections were open in time", run->n_up,
			(unsigned long)run->o->connections);
		stop_soon(run);
		break;
	case LOAD_WARMING:
		measure(run);
		break;
	case LOAD_MEASURING:
		if (run->half)
			begin_closing(run);
		else
			half_over(run);
		break;
	case LOAD_CLOSING:
		closing(run);
		break;
	case LOAD_DONE:
		break;
	}
}

static void
on_stop(struct hb_run *r)
{
	begin_closing(HB_CONTAINER(r, struct load_run, stop));
}

/* ------------------------------------------------------------------ the report */

static void
report_latency(const struct load_run *run, struct hb_text *t)
{
	const struct load_hist *h = &run->hist;

	if (run->mode->bulk || run->mode->kind == LOAD_IDLE || h->count == 0) {
		hb_text_addz(t, "null");
		return;
	}
	hb_text_printf(t, "{\"p50\":%.2f,\"p90\":%.2f,\"p99\":%.2f,\"max\":%.2f,\"mean\":%.2f}",
		(double)load_hist_at(h, 0.50) / 1e3, (double)load_hist_at(h, 0.90) / 1e3,
		(double)load_hist_at(h, 0.99) / 1e3, (double)h->max / 1e3,
		(double)h->sum / (double)h->count / 1e3);
}

static void
report_usage(const struct load_run *run, struct hb_text *t)
{
	const struct load_usage *u = &run->usage;

	hb_text_addz(t, "\"cpu_ns\":{");
	for (size_t i = 0; i < run->o->n_pids; i++)
		hb_text_printf(t, "%s\"%d\":%lu", i == 0 ? "" : ",", run->o->pids[i],
			(unsigned long)u->cpu_ns[i]);
	hb_text_printf(t, "},\"own_cpu_ns\":%lu,\"steal_share\":%.4f,\"other_busy\":",
		(unsigned long)u->own_cpu_ns, u->steal_share);
	if (u->other_busy < 0)
		hb_text_addz(t, "null");
	else
		hb_text_printf(t, "%.4f", u->other_busy);
}

static void
report(const struct load_run *run)
{
	const struct load_options *o = run->o;
	bool cipher = run->mode->kind == LOAD_DOWNLOAD && !run->honest && run->via >= LOAD_TLS;
	struct hb_text t = { 0 };

	hb_text_printf(&t, "{\"mode\":\"%s\",\"via\":\"%s\",\"connections\":%lu,\"streams\":%lu,",
		o->mode, o->via, (unsigned long)o->connections, (unsigned long)o->streams);
	hb_text_printf(&t,
		"\"seconds\":%.6f,\"bytes\":%lu,\"bytes_are\":\"%s\",\"operations\":%lu,",
		(double)run->window_ns / 1e9, (unsigned long)run->window_bytes,
		cipher ? "ciphertext" : "payload", (unsigned long)run->window_operations);
	hb_text_printf(&t, "\"errors\":%lu,\"error\":", (unsigned long)run->errors);
	if (run->errors > 0)
		hb_text_json(&t, run->error, strlen(run->error));
	else
		hb_text_addz(&t, "null");
	hb_text_printf(&t, ",\"resumed\":%lu,", (unsigned long)run->window_resumed);
	report_usage(run, &t);
	hb_text_addz(&t, ",\"latency_us\":");
	report_latency(run, &t);
	printf("%s}\n", t.p);
	hb_text_fini(&t);
	if (run->errors > 0)
		fprintf(stderr, "load: %lu errors, the first: %s\n", (unsigned long)run->errors,
			run->error);
}

/* ------------------------------------------------------------------ */

/* Options that only some ways need, and what a mode means by another way. */
static int
complete(struct load_run *run, struct load_options *o, struct hb_err *reterr)
{
	struct hb_addr to;
	unsigned via = 0;

	while (via < HB_ARRAY_LEN(vias) && strcmp(vias[via], o->via) != 0)
		via++;
	if (via == HB_ARRAY_LEN(vias))
		return (hb_err_set(
			reterr, -EINVAL, "--via %s: give raw, sni, tls, h2 or double", o->via));
	run->via = (enum load_via)via;
	run->mode = load_mode_find(o->mode);
	if (run->mode == NULL)
		return (hb_err_set(reterr, -EINVAL,
			"--mode %s: give download, upload, echo, connect, "
			"stream or idle",
			o->mode));
	/* Without streams a new one is a new connection. */
	if (run->mode->kind == LOAD_STREAM && run->via < LOAD_H2)
		run->mode = load_mode_find("connect");
	if (run->mode->kind == LOAD_CONNECT || run->via < LOAD_H2)
		o->streams = 1;
	run->honest = o->honest && run->via >= LOAD_TLS;
	if (!hb_addr_parse(hb_str(o->to), &to) ||
		(run->to_len = hb_addr_to_sockaddr(&to, &run->to)) == 0)
		return (hb_err_set(
			reterr, -EINVAL, "--to %s: give ADDRESS:PORT or unix:PATH", o->to));
	if (run->via == LOAD_SNI && o->sni == NULL)
		return (hb_err_set(reterr, -EINVAL, "--via sni needs --sni NAME"));
	if (run->via >= LOAD_H2 && o->authority == NULL)
		return (hb_err_set(
			reterr, -EINVAL, "--via %s needs --authority HOST:PORT", o->via));
	if (run->via == LOAD_DOUBLE && o->inner_authority == NULL)
		return (hb_err_set(
			reterr, -EINVAL, "--via double needs --inner-authority HOST:PORT"));
	if ((o->cert == NULL) != (o->key == NULL))
		return (hb_err_set(reterr, -EINVAL, "--cert and --key belong together"));
	if (run->via == LOAD_SNI)
		return (load_hello(o->sni, &run->hello, reterr));
	return (run->via >= LOAD_TLS ? load_tls_new(run, &run->tls, reterr) : 0);
}

static void
finish(struct load_run *run)
{
	hb_transport_worker_stop(run->w);
	for (unsigned i = 0; i < 4; i++)
		hb_worker_turn(run->w, false);
	hb_timer_stop(&run->timer);
	for (uint64_t i = 0; i < run->o->connections; i++)
		load_conn_fini(&run->conns[i]);
	hb_free(run->conns);
	if (run->tls != NULL)
		hb_tls_ctx_free(&run->tls);
	hb_text_fini(&run->hello);
	hb_free(run->hot);
	hb_transport_worker_fini(run->w);
	hb_workers_fini();
}

int
load_measure(const struct load_options *given)
{
	static struct load_run run = { .magic = LOAD_RUN_MAGIC };
	struct load_options o = *given;
	struct hb_err err;
	int r;

	run.o = &o;
	r = complete(&run, &o, &err);
	if (r == 0)
		r = hb_workers_init(1, &err);
	if (r != 0) {
		fprintf(stderr, "load: %s\n", err.text);
		return (1);
	}
	run.w = hb_worker_at(0);
	hb_worker_enter(run.w);
	run.hot = hb_calloc(1, LOAD_CHUNK);
	run.conns = hb_calloc(o.connections, sizeof *run.conns);
	for (uint64_t i = 0; i < o.connections; i++)
		load_conn_init(&run.conns[i], &run);
	hb_timer_init(&run.timer, run.w, on_timer);
	hb_run_init(&run.stop, on_stop);
	run.input.fd = -1;
	hb_timer_start(&run.timer, o.timeout_us / 1000);
	open_more(&run);
	while (run.phase != LOAD_DONE)
		hb_worker_turn(run.w, true);
	report(&run);
	finish(&run);
	return (run.errors > 0 ? 1 : 0);
}

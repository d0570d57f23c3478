/* SPDX-License-Identifier: Apache-2.0 */
/* Chains that are replaced while workers open and close connections on them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>

#include "core/event/table.h"
#include "core/filter/conn.h"
#include "core/transport/pair.h"
#include "envoy/config/listener/v3/listener_components.pb-c.h"
#include "envoy/extensions/filters/network/echo/v3/echo.pb-c.h"

#define WORKERS 3u
#define CHAINS  200u
#define PLACES  20u

static int live_confs;
static _Atomic(struct hb_chain *) current;
static _Atomic unsigned bad, total, stopped;
static _Atomic bool stopping;
static unsigned published;
static struct hb_timer replace;

struct conf {
	unsigned magic;
#define CONF_MAGIC 0x7e57c0f1
};

static int
compile(struct hb_cfg *cfg, const ProtobufCMessage *m, const void **ret_conf)
{
	struct conf *c;

	HB_NEW(c, CONF_MAGIC);
	*ret_conf = c;
	live_confs++;
	return (0);
}

static void
conf_free(const void *conf)
{
	struct conf *c = (void *)conf;

	HB_DEL(c);
	live_confs--;
}

static enum hb_filter_status
on_secured(struct hb_filter *f)
{
	const struct conf *c = hb_filter_conf(f);

	if (c->magic != CONF_MAGIC)
		atomic_fetch_add(&bad, 1);
	return (HB_FILTER_CONTINUE);
}

static void
fini(struct hb_filter *f)
{
	(void)on_secured(f);
}

static const struct hb_filter_type type = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.flags = HB_FILTER_TERMINAL,
	.kind = HB_FILTER_NETWORK,
	.name = "test.checked",
	.config = &envoy__extensions__filters__network__echo__v3__echo__descriptor,
	.compile = compile,
	.conf_free = conf_free,
	.on_secured = on_secured,
	.fini = fini,
};

static struct hb_chain *
chain_new(void)
{
	struct hb_cfg *cfg = hb_cfg_new("t", NULL);
	const ProtobufCMessage *m = hb_cfg_parse_text(cfg,
		hb_str("filters: [{name: x, typed_config: "
		       "{\"@type\": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}]"),
		&envoy__config__listener__v3__filter_chain__descriptor);
	struct hb_chain *c = hb_chain_compile(cfg, m, "test");

	HB_ASSERT(c != NULL);
	hb_cfg_free(&cfg);
	return (c);
}

/* ------------------------------------------------------------------ on a worker */

struct load;

struct place {
	struct load *load;
	struct hb_conn *conn;
};

struct load {
	struct hb_task task;
	struct hb_timer timer;
	struct hb_worker *w;
	struct place place[PLACES];
	unsigned open;
};

static struct load loads[WORKERS];

static void
closed(void *arg, struct hb_conn *c, enum hb_close_reason reason)
{
	struct place *p = arg;

	p->conn = NULL;
	p->load->open--;
	atomic_fetch_add(&total, 1);
}

static void
ignore_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	hb_buf_fini(buf);
}

static void
ignore_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
}

static const struct hb_transport_events client = {
	.on_data = ignore_data,
	.on_closed = ignore_closed,
};

static void
open_one(struct load *l, struct place *p)
{
	struct hb_conn_owner owner = { .on_closed = closed, .arg = p, .listener_name = "test" };
	struct hb_transport *a, *b;
	struct hb_facts facts;

	hb_facts_init(&facts);
	hb_pair_new(l->w, &a, &b);
	hb_transport_attach(a, &client, NULL);
	l->open++;
	p->load = l;
	p->conn = hb_conn_start(l->w, b, &facts, atomic_load(&current), &owner);
}

static void
on_turn(struct hb_timer *t)
{
	struct load *l = HB_CONTAINER(t, struct load, timer);
	struct place *p = &l->place[hb_random() % PLACES];

	if (atomic_load(&stopping)) {
		for (unsigned i = 0; i < PLACES; i++)
			if (l->place[i].conn != NULL)
				hb_conn_close(l->place[i].conn, HB_CLOSE_SHUTDOWN);
		if (l->open == 0) {
			hb_conn_worker_fini(l->w);
			atomic_fetch_add(&stopped, 1);
			return;
		}
	} else if (p->conn == NULL) {
		open_one(l, p);
	} else {
		hb_conn_close(p->conn, HB_CLOSE_ADMIN);
	}
	hb_timer_start(t, 1);
}

static void
on_begin(struct hb_task *task)
{
	struct load *l = HB_CONTAINER(task, struct load, task);

	hb_timer_init(&l->timer, l->w, on_turn);
	hb_timer_start(&l->timer, 1);
}

/* ------------------------------------------------------------------ on the control thread */

static void
on_replace(struct hb_timer *t)
{
	struct hb_chain *old;

	if (published < CHAINS) {
		published++;
		old = atomic_exchange(&current, chain_new());
		hb_chain_free(&old);
	} else {
		atomic_store(&stopping, true);
	}
	if (atomic_load(&stopped) == WORKERS) {
		hb_control_stop();
		return;
	}
	hb_timer_start(t, 1);
}

static void
test_chain__replaced_under_load(void **state)
{
	struct hb_chain *last;

	assert_int_equal(hb_workers_init(WORKERS, NULL), 0);
	hb_cfg_types_init();
	assert_int_equal(hb_filter_register(&type, NULL), 0);
	atomic_store(&current, chain_new());
	for (unsigned i = 0; i < WORKERS; i++)
		loads[i].w = hb_worker_at(i);
	assert_int_equal(hb_workers_start(NULL), 0);
	for (unsigned i = 0; i < WORKERS; i++)
		hb_post(loads[i].w, &loads[i].task, on_begin);
	hb_timer_init(&replace, hb_worker_control(), on_replace);
	hb_timer_start(&replace, 1);
	hb_control_run();
	last = atomic_load(&current);
	hb_chain_free(&last);
	hb_workers_fini();
	assert_int_equal(atomic_load(&bad), 0);
	assert_int_equal(live_confs, 0);
	assert_true(atomic_load(&total) > 100);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chain__replaced_under_load),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two workers dial without pause while the control thread replaces the cluster, changes health and
 * answers for names. For the thread sanitizer, and for what is freed when.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#include "core/config/resource.h"
#include "core/transport/transport.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "upstreams/dial.h"
#include "upstreams/orig_dst.h"
#include "upstreams/show.h"
#include "upstreams/upstreams.h"

#define WORKERS 2u
#define DIALS   3000u

struct dialler {
	struct hb_worker *worker;
	struct hb_task start, done;
	struct hb_facts facts;
	unsigned left, connected;
};

static const struct hb_resource_kind *kind;
static struct dialler diallers[WORKERS];
static unsigned running, rounds;
static int listener;
static uint16_t port;
static struct hb_timer tick;

static void next_dial(struct dialler *);

static void
finished(struct hb_task *t)
{
	(void)t;
	if (--running == 0)
		hb_control_stop();
}

static void
on_done(void *arg, struct hb_transport *t, enum hb_close_reason reason,
	const struct hb_upstream_info *info)
{
	struct dialler *d = arg;

	(void)info;
	(void)reason;
	d->connected += t != NULL;
	if (t != NULL)
		hb_transport_abort(&t, HB_CLOSE_LOCAL_CLOSE);
	if (--d->left > 0)
		next_dial(d);
	else
		hb_post(hb_worker_control(), &d->done, finished);
}

static void
next_dial(struct dialler *d)
{
	struct hb_dial_request rq = {
		.cluster = d->left % 3 == 0 ? HB_STR("orig") : HB_STR("c"),
		.facts = &d->facts,
		.attempts_max = 3,
		.arg = d,
		.on_done = on_done,
	};

	(void)hb_dial(d->worker, &rq);
}

static void
start(struct hb_task *t)
{
	next_dial(HB_CONTAINER(t, struct dialler, start));
}

static void apply(const char *fmt, ...) HB_PRINTF(1, 2);

static void
apply(const char *fmt, ...)
{
	struct hb_text yaml = { 0 };
	struct hb_cfg *cfg = hb_cfg_new("t", NULL);
	const ProtobufCMessage *msg;
	va_list ap;
	char *name;

	va_start(ap, fmt);
	hb_text_vprintf(&yaml, fmt, ap);
	va_end(ap);
	msg = hb_cfg_parse_text(
		cfg, hb_strn(yaml.p, yaml.len), &envoy__config__cluster__v3__cluster__descriptor);
	assert_non_null(msg);
	name = hb_strndup(kind->name_of(msg).p, kind->name_of(msg).len);
	assert_int_equal(hb_resource_apply(cfg, kind, name, "", HB_RESOURCE_STATIC, msg), 0);
	hb_free(name);
	hb_cfg_free(&cfg);
	hb_text_fini(&yaml);
}

static void
change(void)
{
	rounds++;
	apply("{name: c, lb_policy: %s, connect_timeout: %u.001s, load_assignment: {endpoints: [{lb_endpoints: ["
	      "{load_balancing_weight: %u, endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %u}}}}, "
	      "{endpoint: {address: {socket_address: {address: 127.0.0.2, port_value: %u}}}}]}]}}",
		rounds % 2 ? "LEAST_REQUEST" : "ROUND_ROBIN", rounds % 50 + 1, rounds % 5 + 1, port,
		port);
}

static void
on_tick(struct hb_timer *t)
{
	struct hb_cluster *c = hb_cluster_find(HB_STR("c"));
	struct hb_text text = { 0 };
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
		(void)close(fd);
	if (rounds % 2 == 0)
		hb_cluster_health(c, atomic_load(&c->eps)->ep[0], HB_EP_OUTLIER, 0);
	change();
	hb_clusters_text(&text);
	assert_true(text.len > 0);
	hb_text_fini(&text);
	hb_timer_start(t, 1);
}

static void
listen_all(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof a;

	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(listener, 1024), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
	port = ntohs(a.sin_port);
}

static void
test_dials_while_everything_changes(void **state)
{
	const struct hb_upstreams_options o = { .offline = false };
	char addr[64];

	(void)state;
	hb_cfg_types_init();
	listen_all();
	assert_int_equal(hb_workers_init(WORKERS, NULL), 0);
	hb_workers_at_end(hb_transport_worker_fini);
	assert_int_equal(hb_upstreams_init(&o, NULL), 0);
	kind = hb_resource_kind_find(HB_STR("envoy.config.cluster.v3.Cluster"));
	change();
	apply("{name: orig, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, cleanup_interval: 0.005s}");
	assert_int_equal(hb_workers_start(NULL), 0);
	running = WORKERS;
	(void)snprintf(addr, sizeof addr, "127.0.0.1:%u", port);
	for (unsigned i = 0; i < WORKERS; i++) {
		struct dialler *d = &diallers[i];

		d->worker = hb_worker_at(i);
		d->left = DIALS;
		hb_facts_init(&d->facts);
		assert_true(hb_addr_parse(hb_str(addr), &d->facts.local));
		d->facts.local_restored = true;
		hb_post(d->worker, &d->start, start);
	}
	hb_timer_init(&tick, hb_worker_control(), on_tick);
	hb_timer_start(&tick, 1);
	hb_control_run();
	hb_timer_stop(&tick);
	for (unsigned i = 0; i < WORKERS; i++) {
		assert_int_equal(diallers[i].connected, DIALS);
		hb_facts_fini(&diallers[i].facts);
	}
	assert_true(rounds > 2);
	hb_upstreams_stop();
	hb_workers_fini();
	hb_upstreams_fini();
	(void)close(listener);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dials_while_everything_changes),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

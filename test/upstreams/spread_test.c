/* SPDX-License-Identifier: Apache-2.0 */
/* Connections beside hot ones, surplus ones, requests that are sent again. */
#include "test/upstreams/peer.h"

#include <stdio.h>
#include <unistd.h>

#define MANY 8u

static struct peer p;
static struct up_dial d[MANY];
static struct hbt_sink s[MANY];

static int
setup(void **state)
{
	memset(&p, 0, sizeof p);
	memset(d, 0, sizeof d);
	memset(s, 0, sizeof s);
	(void)up_setup(state);
	peer_start(&p);
	return (0);
}

static int
teardown(void **state)
{
	for (size_t i = 0; i < MANY; i++) {
		hb_dial_cancel(&d[i].dial);
		if (d[i].t != NULL)
			hb_transport_abort(&d[i].t, HB_CLOSE_LOCAL_CLOSE);
		hbt_sink_fini(&s[i]);
	}
	peer_stop(&p);
	UP_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	return (up_teardown(state));
}

static struct hb_cluster *
cluster(const char *pool)
{
	char fields[256];

	(void)snprintf(fields, sizeof fields, ", pool: {keepalive_interval: 0s%s}", pool);
	return (peer_cluster(&p, fields, ""));
}

static void
dial(unsigned i)
{
	up_dial_start(&d[i], "c", 1, NULL);
	PEER_UNTIL(&p, d[i].done == 1);
}

static unsigned
sessions(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p.n_sessions; i++)
		n += p.s[i].h2 != NULL;
	return (n);
}

static void
test_hot_streams(void **state)
{
	struct hb_cluster *c = cluster(", hot_streams: 2");

	(void)state;
	dial(0);
	dial(1);
	assert_int_equal(up_stat(c, CL_POOL_ACTIVE), 1);
	/* Both are on one: the third is served at once, and the fourth finds another one. */
	dial(2);
	assert_int_equal(p.s[0].streams, 3);
	assert_int_equal(up_stat(c, CL_POOL_SPREAD), 1);
	PEER_UNTIL(&p, up_stat(c, CL_POOL_IDLE) == 1);
	dial(3);
	dial(4);
	assert_int_equal(p.n_sessions, 2);
	assert_int_equal(p.s[1].streams, 2);
	assert_int_equal(up_stat(c, CL_POOL_SPREAD), 1);
	/* All are hot again, but not so soon. */
	dial(5);
	assert_int_equal(up_stat(c, CL_POOL_SPREAD), 1);
	up_advance(1000);
	dial(6);
	assert_int_equal(up_stat(c, CL_POOL_SPREAD), 2);
	PEER_UNTIL(&p, p.n_sessions == 3);
}

static void
test_hot_bytes(void **state)
{
	struct hb_cluster *c = cluster(", hot_bytes_per_second: 100000");
	static char bytes[60000];

	(void)state;
	dial(0);
	up_advance(1100);
	dial(1);
	assert_int_equal(up_stat(c, CL_POOL_SPREAD), 0);
	hbt_attach(&s[0], d[0].t);
	d[0].t = NULL;
	hbt_write(&s[0], bytes, sizeof bytes, false);
	PEER_UNTIL(&p, s[0].got.len == sizeof bytes);
	/* 120 kB both ways, in a second and a bit. */
	up_advance(1000);
	dial(2);
	assert_int_equal(up_stat(c, CL_POOL_SPREAD), 1);
	PEER_UNTIL(&p, up_stat(c, CL_POOL_IDLE) == 1);
	/* Not to the fast one, although it will be asked again later. */
	dial(3);
	assert_int_equal(p.s[1].streams, 1);
	dial(4);
	dial(5);
	dial(6);
	assert_int_equal(p.s[1].streams, 4);
	/* It has cooled down. */
	up_advance(2000);
	dial(7);
	assert_int_equal(p.s[0].streams, 4);
	assert_int_equal(up_stat(c, CL_POOL_SPREAD), 1);
}

/* One that was made beside fails: nobody waits for it. */
static void
test_hot__fails(void **state)
{
	struct hb_cluster *c = cluster(", hot_streams: 1, streams_per_connection: 2");

	(void)state;
	dial(0);
	(void)close(p.fd);
	p.fd = -1;
	up_dial_start(&d[1], "c", 1, NULL);
	PEER_UNTIL(&p, d[1].done == 1 && up_stat(c, CL_CX_CONNECT_FAIL) > 0);
	assert_int_equal(up_stat(c, CL_POOL_SPREAD), 1);
	assert_non_null(d[1].t);
	assert_int_equal(sessions(), 1);
	up_turns(4);
	assert_int_equal(up_stat(c, CL_POOL_ACTIVE), 1);
}

static void
test_surplus(void **state)
{
	struct hb_cluster *c = cluster(", streams_per_connection: 1, surplus_idle_timeout: 20s");

	(void)state;
	dial(0);
	dial(1);
	dial(2);
	assert_int_equal(sessions(), 3);
	up_close(&d[0]);
	up_close(&d[1]);
	up_advance(15000);
	assert_int_equal(sessions(), 3);
	up_close(&d[2]);
	up_advance(6000);
	PEER_UNTIL(&p, sessions() == 1);
	up_advance(40000);
	/* The last one stays as long as idle_timeout says. */
	assert_int_equal(sessions(), 1);
	assert_int_equal(up_stat(c, CL_POOL_SURPLUS), 2);
	up_advance(300000);
	PEER_UNTIL(&p, sessions() == 0);
	assert_int_equal(up_stat(c, CL_CX_IDLE), 1);
}

static void
refuse(struct peer *peer, const struct hb_h2_request *r, struct hb_transport *t)
{
	(void)peer;
	(void)r;
	hb_transport_abort(&t, HB_CLOSE_STREAM_REFUSED);
}

static void
test_retries(void **state)
{
	struct hb_cluster *c = cluster(", max_retries: 1");

	(void)state;
	p.on_request = refuse;
	dial(0);
	assert_null(d[0].t);
	assert_int_equal(d[0].reason, HB_CLOSE_STREAM_REFUSED);
	assert_int_equal(up_stat(c, CL_RQ_RETRY), 1);
	c = cluster(", max_retries: 0");
	dial(1);
	assert_null(d[1].t);
	assert_int_equal(up_stat(c, CL_RQ_RETRY), 1);
}

#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(hot_streams),
		T(hot_bytes),
		T(hot__fails),
		T(surplus),
		T(retries),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

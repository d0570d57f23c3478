/* SPDX-License-Identifier: Apache-2.0 */
/* ORIGINAL_DST: where the address comes from, what is listed and forgotten. */
#include "test/upstreams/support.h"

#include <stdio.h>
#include <unistd.h>

#include "upstreams/orig_dst.h"

static void
facts_local(struct hb_facts *f, const char *addr)
{
	hb_facts_init(f);
	assert_true(hb_addr_parse(hb_str(addr), &f->local));
	f->local_restored = true;
}

static void
expect_address(const struct hb_cluster *c, const struct hb_facts *f, const char *want)
{
	char text[HB_ADDR_TEXT_MAX];
	const char *why;
	struct hb_addr a;

	if (!hb_orig_address(c, f, &a, &why))
		(void)snprintf(text, sizeof text, "%s", why);
	else
		(void)hb_addr_format(&a, text, sizeof text);
	assert_string_equal(text, want);
}

static void
test_precedence(void **state)
{
	struct hb_cluster *c = up_cluster(
		"{name: c, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, "
		"original_dst_lb_config: {metadata_key: {key: ns, path: [{key: dst}]}}}");
	struct hb_facts f;

	(void)state;
	expect_address(c, NULL, "there is no downstream connection");
	facts_local(&f, "10.0.0.1:80");
	f.local_restored = false;
	expect_address(
		c, &f, "no original address was restored; add the listener filter original_dst");
	f.local_restored = true;
	expect_address(c, &f, "10.0.0.1:80");
	(void)hb_facts_metadata_set(&f, HB_STR("ns"), HB_STR("dst"), HB_STR("10.0.0.2:81"));
	expect_address(c, &f, "10.0.0.2:81");
	(void)hb_facts_state_set(
		&f, HB_STR(HB_STATE_ORIGINAL_DST), HB_STR("[2001:db8::3]:82"), false, 0);
	expect_address(c, &f, "[2001:db8::3]:82");
	(void)hb_facts_state_set(&f, HB_STR(HB_STATE_ORIGINAL_DST), HB_STR("nonsense"), false, 0);
	expect_address(c, &f, "the filter state " HB_STATE_ORIGINAL_DST " is no address and port");
	hb_facts_fini(&f);
}

static void
test_port_override(void **state)
{
	struct hb_cluster *c = up_cluster(
		"{name: c, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, "
		"original_dst_lb_config: {upstream_port_override: 15008}}");
	struct hb_facts f;

	(void)state;
	facts_local(&f, "10.0.0.1:80");
	expect_address(c, &f, "10.0.0.1:15008");
	(void)hb_facts_state_set(&f, HB_STR(HB_STATE_ORIGINAL_DST), HB_STR("10.0.0.9"), false, 0);
	expect_address(c, &f, "10.0.0.9:15008");
	hb_facts_fini(&f);
	facts_local(&f, "10.0.0.1:0");
	c = up_cluster("{name: c, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED}");
	expect_address(c, &f, "the original address has no port");
	hb_facts_fini(&f);
}

static void
count_one(void *arg, struct hb_endpoint *e)
{
	(void)e;
	++*(unsigned *)arg;
}

static unsigned
listed(const struct hb_cluster *c)
{
	unsigned n = 0;

	hb_orig_foreach(c, count_one, &n);
	return (n);
}

static struct hb_endpoint *only;

static void
take_one(void *arg, struct hb_endpoint *e)
{
	(void)arg;
	only = e;
}

static void
test_dials_list_and_forget(void **state)
{
	struct hb_cluster *c = up_cluster(
		"{name: c, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, "
		"cleanup_interval: 5s}");
	struct hb_ep_numbers n;
	struct up_dial d[3];
	struct hb_facts f;
	struct hb_text t = { 0 };
	char addr[64];
	uint16_t port;
	int fd = up_listen(&port);

	(void)state;
	(void)snprintf(addr, sizeof addr, "127.0.0.1:%u", port);
	facts_local(&f, addr);
	/* Two at once: the second is dialled before the first is listed, and counts all the same. */
	up_dial_start(&d[0], "c", 1, &f);
	assert_int_equal(up_dial(&d[1], "c", 1, &f), port);
	UP_UNTIL(d[0].done == 1);
	assert_int_equal(up_dial(&d[2], "c", 1, &f), port);
	assert_int_equal(listed(c), 1);
	assert_int_equal(up_stat(c, CL_MEMBERSHIP_TOTAL), 1);
	hb_orig_foreach(c, take_one, NULL);
	hb_endpoint_numbers(only, &n);
	assert_int_equal(n.active, 3);
	assert_int_equal(n.total, 3);
	assert_int_equal(up_stat(c, CL_CX_ACTIVE), 3);
	hb_clusters_text(&t);
	assert_non_null(strstr(t.p, "::hostname::c127.0.0.1:"));
	hb_text_fini(&t);
	up_advance(5000);
	up_advance(5000);
	assert_int_equal(listed(c), 1);
	hb_transport_abort(&d[0].t, HB_CLOSE_LOCAL_CLOSE);
	up_close(&d[1]);
	up_close(&d[2]);
	up_advance(5000);
	up_advance(5000);
	assert_int_equal(listed(c), 0);
	assert_int_equal(up_stat(c, CL_MEMBERSHIP_TOTAL), 0);
	hb_facts_fini(&f);
	(void)close(fd);
}

/* What is not listed is dialled all the same. */
static void
test_list_is_full(void **state)
{
	struct hb_cluster *c = up_cluster(
		"{name: c, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, metadata: "
		"{typed_filter_metadata: {hbone.cluster: {'@type': "
		"type.googleapis.com/hbone.config.ClusterOptions, max_original_dst_addresses: 1}}}}");
	uint16_t port[2];
	int fd[2] = { up_listen(&port[0]), up_listen(&port[1]) };
	struct up_dial d[2];
	struct hb_facts f;
	char addr[64];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		(void)snprintf(addr, sizeof addr, "127.0.0.1:%u", port[i]);
		facts_local(&f, addr);
		assert_int_equal(up_dial(&d[i], "c", 1, &f), port[i]);
		hb_facts_fini(&f);
		up_turns(4);
	}
	assert_int_equal(listed(c), 1);
	assert_int_equal(up_stat(c, CL_ORIG_UNTRACKED), 1);
	for (unsigned i = 0; i < 2; i++) {
		up_close(&d[i]);
		(void)close(fd[i]);
	}
}

static void
test_no_address(void **state)
{
	struct hb_cluster *c = up_cluster(
		"{name: c, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED}");
	struct up_dial d;

	(void)state;
	assert_int_equal(up_dial(&d, "c", 1, NULL), 0);
	assert_int_equal(d.reason, HB_CLOSE_NO_HEALTHY_UPSTREAM);
	assert_int_equal(up_stat(c, CL_ORIG_INVALID), 1);
}

static void
test_refused(void **state)
{
	struct hb_cluster *c = up_cluster(
		"{name: c, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED}");
	struct up_dial d;
	struct hb_facts f;
	char addr[64];

	(void)state;
	(void)snprintf(addr, sizeof addr, "127.0.0.1:%u", up_closed_port());
	facts_local(&f, addr);
	assert_int_equal(up_dial(&d, "c", 2, &f), 0);
	assert_int_equal(d.attempts, 2);
	assert_int_equal(d.reason, HB_CLOSE_CONNECT_ATTEMPTS);
	assert_int_equal(up_stat(c, CL_CX_ACTIVE), 0);
	/* Removed while its news are on their way. */
	up_dial_start(&d, "c", 1, &f);
	up_remove("c");
	UP_UNTIL(d.done == 1);
	up_turns(10);
	hb_facts_fini(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_precedence, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_port_override, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_dials_list_and_forget, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_list_is_full, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_no_address, up_setup, up_teardown),
		cmocka_unit_test_setup_teardown(test_refused, up_setup, up_teardown),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

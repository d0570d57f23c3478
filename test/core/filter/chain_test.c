/* SPDX-License-Identifier: Apache-2.0 */
/* The registry, compiling chains, explaining them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "core/filter/explain.h"
#include "core/filter/filter_host.h"
#include "envoy/extensions/filters/network/echo/v3/echo.pb-c.h"
#include "envoy/extensions/filters/network/sni_cluster/v3/sni_cluster.pb-c.h"
#include "test/core/filter/rec.h"

#define ECHO_ANY "{\"@type\": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}"

static int compiled, freed;

static int
fussy_compile(struct hb_cfg *cfg, const ProtobufCMessage *m, const void **ret_conf)
{
	compiled++;
	*ret_conf = &compiled;
	return (0);
}

static void
fussy_free(const void *conf)
{
	assert_ptr_equal(conf, &compiled);
	freed++;
}

static const struct hb_filter_type fussy = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.flags = HB_FILTER_TERMINAL,
	.kind = HB_FILTER_NETWORK,
	.name = "test.fussy",
	.alias = "other.fussy",
	.config = &envoy__extensions__filters__network__echo__v3__echo__descriptor,
	.compile = fussy_compile,
	.conf_free = fussy_free,
};

static int
setup(void **state)
{
	compiled = freed = 0;
	(void)rec_setup(state);
	hbf_register(&fussy);
	return (0);
}

/* ------------------------------------------------------------------ registry */

static void
refused(const struct hb_filter_type *t, const char *part)
{
	struct hb_err err = { 0 };

	assert_int_not_equal(hb_filter_register(t, &err), 0);
	if (strstr(err.text, part) == NULL)
		fail_msg("expected \"%s\" in \"%s\"", part, err.text);
}

static void
test_registry__refuses(void **state)
{
	struct hb_filter_type t = fussy;

	refused(&t, "test.fussy is there already");
	t.name = "test.new";
	refused(&t, "test.new is there already"); /* by its alias */
	t.alias = NULL;
	refused(&t, "belongs to test.fussy already");
	t.config = NULL;
	t.abi_major++;
	refused(&t, "build it again");
	t.abi_major--;
	t.ctx_size = HB_FILTER_CTX_MAX + 1;
	refused(&t, "the limit is 4096");
	t.ctx_size = 0;
	t.size = 8;
	refused(&t, "less than its required part");
	t.size = sizeof t;
	t.name = "";
	refused(&t, "has no name");
}

struct newer {
	struct hb_filter_type old;
	void *slot;
};

static void
test_registry__sizes(void **state)
{
	static struct newer n = { .old = {
					  .abi_major = HB_FILTER_ABI_MAJOR,
					  .size = sizeof(struct newer),
					  .kind = HB_FILTER_NETWORK,
				  } };
	const struct hb_filter_type *t;
	struct hb_filter_type older;

	n.old.name = "test.newer";
	n.slot = &n;
	refused(&n.old, "needs a newer hbone");
	n.slot = NULL;
	hbf_register(&n.old);
	memset(&older, 0xff, sizeof older);
	older.abi_major = HB_FILTER_ABI_MAJOR;
	older.size = offsetof(struct hb_filter_type, compile);
	older.flags = 0;
	older.kind = HB_FILTER_NETWORK;
	older.name = "test.older";
	older.alias = NULL;
	older.config = NULL;
	older.ctx_size = 0;
	hbf_register(&older);
	t = hb_filter_find_name(HB_FILTER_NETWORK, hb_str("test.older"));
	assert_non_null(t);
	assert_null(t->on_read);
	assert_null(t->explain);
}

static void
test_registry__finds(void **state)
{
	const struct hb_filter_type *t = hb_filter_find(HB_FILTER_NETWORK,
		&envoy__extensions__filters__network__echo__v3__echo__descriptor);

	assert_string_equal(t->name, "test.fussy");
	assert_ptr_equal(hb_filter_find_name(HB_FILTER_NETWORK, hb_str("other.fussy")), t);
	assert_null(hb_filter_find_name(HB_FILTER_LISTENER, hb_str("other.fussy")));
	assert_null(hb_filter_find(HB_FILTER_NETWORK,
		&envoy__extensions__filters__network__sni_cluster__v3__sni_cluster__descriptor));
}

static void
test_registry__load(void **state)
{
	struct hb_err err = { 0 };

	assert_int_equal(hb_filter_load("/nonexistent/filter.so", &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/filter.so"));
	assert_int_equal(hb_filter_load("libc.so.6", &err), -EINVAL);
	assert_non_null(strstr(err.text, "does not export hb_filter_module"));
}

/* ------------------------------------------------------------------ chains */

static void
test_chain__errors(void **state)
{
	struct hb_text e = hbf_errors("name: x\n");

	assert_non_null(strstr(e.p, "a chain needs a terminal filter"));
	hb_text_fini(&e);
	hbf_expect_error("- name: test.a\n", "last filter of the chain but not terminal");
	hbf_expect_error("- name: test.t\n- name: test.a\n- name: test.t\n",
		"filters[0]: test.t is terminal, so it must be the last");
	hbf_expect_error("- name: other.fuzzy\n", "did you mean \"other.fussy\"");
	hbf_expect_error("- name: other.fussy\n",
		"needs \"@type\": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo");
	hbf_expect_error("- name: x\n  typed_config: {\"@type\": type.googleapis.com/"
			 "envoy.config.core.v3.Address, pipe: {path: /x}}\n",
		"is not the configuration of a network filter");
	e = hbf_errors("name: x\nfilters: [{name: test.t}]\ntransport_socket: {name: y}\n");
	assert_non_null(strstr(e.p, "name the kind of transport socket by its message"));
	hb_text_fini(&e);
	assert_int_equal(compiled, 0);
}

/* Every error is reported, and what was compiled before one is freed. */
static void
test_chain__all_errors(void **state)
{
	struct hb_text e = hbf_errors("filters:\n"
				      "- {name: ok, typed_config: " ECHO_ANY "}\n"
				      "- name: bad1\n"
				      "- name: bad2\n"
				      "transport_socket_connect_timeout: -1s\n");

	assert_non_null(strstr(e.p, "bad1"));
	assert_non_null(strstr(e.p, "bad2"));
	assert_non_null(strstr(e.p, "transport_socket_connect_timeout"));
	hb_text_fini(&e);
	hb_worker_turn(hb_worker_control(), false);
	assert_int_equal(compiled, 1);
	assert_int_equal(freed, 1);
}

static void
test_chain__too_long(void **state)
{
	struct hb_text t = { 0 };

	for (int i = 0; i < 32; i++)
		hb_text_addz(&t, "- name: test.a\n");
	hb_text_addz(&t, "- name: test.t\n");
	hbf_expect_error(t.p, "the limit is 32");
	hb_text_fini(&t);
}

static void
test_chain__same(void **state)
{
	struct hb_chain *a = hbf_chain("name: n\nfilters: [{name: test.a}, {name: test.t}]\n");
	struct hb_chain *b = hbf_chain("{filters: [{name: test.a}, {name: test.t}], name: n}\n");
	struct hb_chain *c = hbf_chain("name: n\nfilters: [{name: test.b}, {name: test.t}]\n"
				       "transport_socket_connect_timeout: 3s\n");

	assert_true(hb_chain_same(a, b));
	assert_false(hb_chain_same(a, c));
	assert_string_equal(hb_chain_name(a), "n");
	assert_int_equal(hb_chain_connect_timeout_ms(a), 15000);
	assert_int_equal(hb_chain_connect_timeout_ms(c), 3000);
	assert_false(hb_chain_is_tls(a));
	hb_chain_free(&a);
	hb_chain_free(&b);
	hb_chain_free(&c);
	assert_null(a);
}

/* ------------------------------------------------------------------ explaining */

static void
test_explain__text_and_json(void **state)
{
	struct hb_explain *ex = hb_explain_new();
	struct hb_text t = { 0 };

	hb_explain_step(ex, "listener", "gw", "chosen", "bound to %s", "[::]:15443");
	hb_explain_step(ex, "chain", "a\"b", "lost", "%s", "");
	hb_explain_step(ex, "result", "", "refused", "no chain");
	assert_int_equal(hb_explain_cluster(ex).len, 0);
	hb_explain_text(ex, &t);
	assert_string_equal(t.p,
		"listener  chosen      gw: bound to [::]:15443\n"
		"chain     lost        a\"b\n"
		"result    refused     no chain\n");
	hb_text_fini(&t);
	hb_explain_set_cluster(ex, hb_str("first"));
	hb_explain_set_cluster(ex, hb_str("app"));
	hb_explain_stop(ex);
	hb_explain_json(ex, &t);
	assert_non_null(strstr(t.p, "\"cluster\": \"app\""));
	assert_non_null(strstr(t.p, "\"stopped\": true"));
	assert_non_null(strstr(t.p, "\"subject\": \"a\\\"b\""));
	hb_text_fini(&t);
	hb_explain_free(&ex);
}

static void
test_explain__chain(void **state)
{
	struct hb_chain *c = hbf_filters("- name: test.a\n- name: test.t\n");
	struct hb_text t = hbf_explain(c, NULL);

	assert_string_equal(t.p,
		"filter    pass        test.a: does not depend on these facts\n"
		"filter    pass        test.t: does not depend on these facts\n");
	hb_text_fini(&t);
	hb_chain_free(&c);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, rec_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_registry__refuses),
		T(test_registry__sizes),
		T(test_registry__finds),
		T(test_registry__load),
		T(test_chain__errors),
		T(test_chain__all_errors),
		T(test_chain__too_long),
		T(test_chain__same),
		T(test_explain__text_and_json),
		T(test_explain__chain),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "core/facts/facts.h"

#define ASSERT_STR(s, lit) assert_true(hb_str_eq((s), HB_STR(lit)))

static void
test_metadata(void **state)
{
	struct hb_facts f;

	(void)state;
	hb_facts_init(&f);
	assert_null(hb_facts_metadata(&f, HB_STR("istio"), HB_STR("workload")).p);
	assert_true(hb_facts_metadata_set(&f, HB_STR("istio"), HB_STR("workload"), HB_STR("a")));
	assert_true(hb_facts_metadata_set(&f, HB_STR("other"), HB_STR("workload"), HB_STR("b")));
	ASSERT_STR(hb_facts_metadata(&f, HB_STR("istio"), HB_STR("workload")), "a");
	assert_true(
		hb_facts_metadata_set(&f, HB_STR("istio"), HB_STR("workload"), HB_STR("longer")));
	ASSERT_STR(hb_facts_metadata(&f, HB_STR("istio"), HB_STR("workload")), "longer");
	assert_true(hb_facts_metadata_set(&f, HB_STR("istio"), HB_STR("workload"), HB_STR("")));
	assert_non_null(hb_facts_metadata(&f, HB_STR("istio"), HB_STR("workload")).p);
	assert_int_equal(f.n_metadata, 2);
	hb_facts_fini(&f);
}

static void
test_limits(void **state)
{
	struct hb_facts f;
	char key[16];

	(void)state;
	hb_facts_init(&f);
	for (unsigned i = 0; i < HB_FACT_ENTRIES_MAX; i++) {
		int n = snprintf(key, sizeof key, "k%u", i);

		assert_true(hb_facts_state_set(&f, hb_strn(key, (size_t)n), HB_STR("v"), false, 0));
		assert_true(hb_facts_metadata_set(
			&f, HB_STR("n"), hb_strn(key, (size_t)n), HB_STR("v")));
	}
	assert_false(hb_facts_state_set(&f, HB_STR("one more"), HB_STR("v"), false, 0));
	assert_false(hb_facts_metadata_set(&f, HB_STR("n"), HB_STR("one more"), HB_STR("v")));
	assert_true(hb_facts_state_set(&f, HB_STR("k0"), HB_STR("replaced"), false, 0));
	hb_facts_fini(&f);
}

static void
test_state(void **state)
{
	struct hb_facts below, f;

	(void)state;
	hb_facts_init(&below);
	hb_facts_init(&f);
	f.parent = &below;
	assert_true(hb_facts_state_set(&below, HB_STR("peer"), HB_STR("outer"), true, 1));
	ASSERT_STR(hb_facts_state(&f, HB_STR("peer")), "outer");
	assert_false(hb_facts_state_set(&below, HB_STR("peer"), HB_STR("x"), false, 0));
	/* The nearest answers; a parent's read-only entry is not in the way. */
	assert_true(hb_facts_state_set(&f, HB_STR("peer"), HB_STR("inner"), false, 0));
	ASSERT_STR(hb_facts_state(&f, HB_STR("peer")), "inner");
	ASSERT_STR(hb_facts_state(&below, HB_STR("peer")), "outer");
	assert_null(hb_facts_state(&f, HB_STR("nothing")).p);
	assert_true(hb_facts_state_set(&f, HB_STR("dst"), HB_STR("10.0.0.1:80"), false, 2));
	assert_true(hb_facts_state_entry(&f, HB_STR("dst"))->is_address);
	assert_int_equal(hb_facts_state_entry(&f, HB_STR("dst"))->shared, 2);
	assert_false(hb_facts_state_entry(&f, HB_STR("peer"))->is_address);
	hb_facts_fini(&f);
	hb_facts_fini(&below);
}

/* Istio's names for what a stream of a tunnel knows anyway. */
static void
test_state_implied(void **state)
{
	struct hb_str authority = HB_STR(HB_STATE_AUTHORITY);
	struct hb_str peer = HB_STR(HB_STATE_PEER_PRINCIPAL);
	struct hb_facts below, stream, inner, copy;

	(void)state;
	hb_facts_init(&below);
	hb_facts_init(&stream);
	hb_facts_init(&inner);
	stream.parent = &below;
	inner.parent = &stream;
	hb_facts_tls_edit(&below)->principal = HB_STR("spiffe://td/ns/n/sa/s");
	assert_null(hb_facts_state(&below, peer).p);
	assert_null(hb_facts_state(&stream, peer).p);
	stream.authority = HB_STR("svc:80");
	ASSERT_STR(hb_facts_state(&stream, authority), "svc:80");
	ASSERT_STR(hb_facts_state(&inner, authority), "svc:80");
	ASSERT_STR(hb_facts_state(&inner, peer), "spiffe://td/ns/n/sa/s");
	assert_null(hb_facts_state(&below, authority).p);
	hb_facts_copy(&copy, &inner);
	assert_true(hb_facts_state_set(&inner, authority, HB_STR("other:1"), false, 0));
	ASSERT_STR(hb_facts_state(&inner, authority), "other:1");
	ASSERT_STR(hb_facts_state(&copy, authority), "svc:80");
	ASSERT_STR(hb_facts_state(&copy, peer), "spiffe://td/ns/n/sa/s");
	hb_facts_fini(&copy);
	hb_facts_tls_edit(&below)->principal = HB_STR("");
	assert_null(hb_facts_state(&stream, peer).p);
	hb_facts_fini(&inner);
	hb_facts_fini(&stream);
	hb_facts_fini(&below);
}

/* A long connection that sets the same key for each of its requests stays as small as it is. */
static void
test_replace_is_bounded(void **state)
{
	struct hb_facts f;
	size_t used = 0;

	(void)state;
	hb_facts_init(&f);
	for (unsigned i = 0; i < 10000; i++) {
		char value[16];
		int n = snprintf(value, sizeof value, "v%04u", i);

		assert_true(
			hb_facts_state_set(&f, HB_STR("k"), hb_strn(value, (size_t)n), false, 0));
		assert_true(hb_str_eq(hb_facts_state(&f, HB_STR("k")), hb_strn(value, (size_t)n)));
		used = i == 0 ? hb_arena_used(&f.arena) : used;
	}
	assert_int_equal(hb_arena_used(&f.arena), used);
	hb_facts_fini(&f);
}

static void
fill(struct hb_facts *f, char *buf)
{
	assert_true(hb_addr_parse(HB_STR("[::1]:81"), &f->remote));
	f->local = (struct hb_addr){ .kind = HB_ADDR_UNIX, .u.name = strcpy(buf + 20, "/x") };
	assert_ptr_equal(hb_facts_direct_local(f), &f->local);
	hb_facts_keep_direct(f);
	f->local = (struct hb_addr){ .kind = HB_ADDR_INTERNAL, .u.name = strcpy(buf, "internal") };
	assert_true(hb_addr_parse(HB_STR("10.0.0.1:80"), &f->remote));
	f->local_restored = true;
	hb_facts_hello_edit(f)->transport_protocol = "tls";
	hb_facts_hello_edit(f)->sni = hb_arena_str(&f->arena, HB_STR("a.example"));
	assert_true(hb_facts_alpn_add(f, HB_STR("h2")));
	assert_true(hb_facts_alpn_add(f, HB_STR("http/1.1")));
	hb_facts_tls_edit(f)->principal = hb_arena_str(&f->arena, HB_STR("spiffe://td/ns/n/sa/s"));
	f->authority = hb_arena_str(&f->arena, HB_STR("svc:80"));
	hb_facts_tls_edit(f)->version = "TLSv1.3";
	assert_true(hb_facts_metadata_set(f, HB_STR("n"), HB_STR("k"), HB_STR("v")));
	assert_true(hb_facts_state_set(f, HB_STR("own"), HB_STR("1"), true, 2));
	assert_true(hb_facts_state_set(f, HB_STR("both"), HB_STR("own"), false, 0));
}

static void
test_copy(void **state)
{
	struct hb_facts below, f, copy;
	char *buf = hb_calloc(1, 64);

	(void)state;
	hb_facts_init(&below);
	hb_facts_init(&f);
	fill(&f, buf);
	f.parent = &below;
	assert_true(hb_facts_state_set(&below, HB_STR("both"), HB_STR("below"), false, 0));
	assert_true(hb_facts_state_set(&below, HB_STR("below"), HB_STR("2"), false, 0));
	hb_facts_copy(&copy, &f);
	hb_facts_fini(&f);
	hb_facts_fini(&below);
	memset(buf, 'z', 64);
	hb_free(buf);
	assert_null(copy.parent);
	assert_string_equal(copy.local.u.name, "internal");
	assert_string_equal(hb_facts_direct_local(&copy)->u.name, "/x");
	assert_int_equal(copy.remote.port, 80);
	assert_int_equal(hb_facts_direct_remote(&copy)->port, 81);
	assert_true(copy.local_restored);
	ASSERT_STR(hb_facts_transport_protocol(&copy), "tls");
	ASSERT_STR(hb_facts_hello(&copy)->sni, "a.example");
	assert_int_equal(hb_facts_hello(&copy)->n_alpn, 2);
	ASSERT_STR(hb_facts_hello(&copy)->alpn[1], "http/1.1");
	ASSERT_STR(hb_facts_tls(&copy)->principal, "spiffe://td/ns/n/sa/s");
	ASSERT_STR(copy.authority, "svc:80");
	assert_string_equal(hb_facts_tls(&copy)->version, "TLSv1.3");
	assert_null(hb_facts_tls(&copy)->cipher);
	assert_null(hb_facts_tls(&copy)->alpn_chosen.p);
	ASSERT_STR(hb_facts_metadata(&copy, HB_STR("n"), HB_STR("k")), "v");
	ASSERT_STR(hb_facts_state(&copy, HB_STR("own")), "1");
	assert_true(hb_facts_state_entry(&copy, HB_STR("own"))->read_only);
	assert_int_equal(hb_facts_state_entry(&copy, HB_STR("own"))->shared, 2);
	ASSERT_STR(hb_facts_state(&copy, HB_STR("both")), "own");
	ASSERT_STR(hb_facts_state(&copy, HB_STR("below")), "2");
	hb_facts_fini(&copy);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_metadata),
		cmocka_unit_test(test_state_implied),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_state),
		cmocka_unit_test(test_replace_is_bounded),
		cmocka_unit_test(test_copy),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

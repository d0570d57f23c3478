/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "core/base/pack.h"
#include "core/facts/facts.h"

static uint8_t bytes[HB_FACTS_PACKED_MAX];

/* Packs f and makes it again. */
static void
there_and_back(struct hb_facts *f)
{
	static const struct hb_facts none;
	struct hb_pack p = { .at = bytes, .end = bytes + sizeof bytes, .near = (uintptr_t)f };
	struct hb_unpack u = { .at = bytes, .near = p.near };

	assert_true(hb_facts_packable(f));
	hb_facts_pack(f, &p);
	assert_memory_equal(f, &none, sizeof none);
	u.end = p.at;
	hb_facts_unpack(f, &u);
	assert_ptr_equal(u.at, u.end);
	memset(bytes, 0xee, sizeof bytes); /* nothing is borrowed from them */
}

static void
assert_list(const struct hb_fact_entry *a, const struct hb_fact_entry *b)
{
	for (; a != NULL && b != NULL; a = a->next, b = b->next) {
		assert_true(hb_str_eq(a->ns, b->ns) && hb_str_eq(a->key, b->key));
		assert_true(hb_str_eq(a->value, b->value));
		assert_int_equal(a->shared, b->shared);
		assert_int_equal(a->read_only, b->read_only);
		assert_int_equal(a->is_address, b->is_address);
	}
	assert_true(a == NULL && b == NULL);
}

static void
assert_facts(const struct hb_facts *a, const struct hb_facts *b)
{
	const struct hb_facts_hello *x = hb_facts_hello(a), *y = hb_facts_hello(b);

	assert_true(hb_addr_eq(&a->local, &b->local) && hb_addr_eq(&a->remote, &b->remote));
	assert_true(hb_addr_eq(hb_facts_direct_local(a), hb_facts_direct_local(b)));
	assert_true(hb_addr_eq(hb_facts_direct_remote(a), hb_facts_direct_remote(b)));
	assert_true((a->direct == NULL) == (b->direct == NULL));
	assert_true((a->hello == NULL) == (b->hello == NULL));
	assert_true(hb_str_eq(x->sni, y->sni));
	assert_string_equal(hb_facts_transport_protocol(a).p, hb_facts_transport_protocol(b).p);
	assert_int_equal(x->n_alpn, y->n_alpn);
	for (unsigned i = 0; i < x->n_alpn; i++)
		assert_true(hb_str_eq(x->alpn[i], y->alpn[i]));
	assert_true(hb_str_eq(a->authority, b->authority));
	assert_int_equal(a->local_restored, b->local_restored);
	assert_list(a->metadata, b->metadata);
	assert_list(a->filter_state, b->filter_state);
	assert_int_equal(a->n_metadata, b->n_metadata);
	assert_int_equal(a->n_filter_state, b->n_filter_state);
}

static uint64_t seed;

static unsigned
pick(unsigned n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return ((unsigned)(seed >> 33) % n);
}

static struct hb_str
some_text(void)
{
	static char text[8][40];
	static unsigned at;
	char *p = text[at++ % 8];
	unsigned n = pick(40);

	for (unsigned i = 0; i < n; i++)
		p[i] = (char)pick(256);
	return (hb_strn(p, n));
}

static void
some_address(struct hb_addr *a)
{
	static const char *const unix_names[] = { "/run/a.sock", "\0abstract", "\0\0" };

	*a = (struct hb_addr){ .kind = (uint8_t)pick(5) };
	if (a->kind == HB_ADDR_UNIX) {
		a->u.name = unix_names[pick(3)];
	} else if (a->kind == HB_ADDR_INTERNAL) {
		a->u.name = "internal-name";
	} else if (a->kind != HB_ADDR_NONE) {
		a->port = (uint16_t)pick(65536);
		for (unsigned i = 0; i < (a->kind == HB_ADDR_V4 ? 4u : 16u); i++)
			a->u.ip[i] = (uint8_t)pick(256);
	}
}

static void
some_facts(struct hb_facts *f)
{
	struct hb_str alpn[HB_FACTS_ALPN_MAX];
	unsigned n = pick(4);

	hb_facts_init(f);
	some_address(&f->local);
	some_address(&f->remote);
	if (pick(2)) {
		hb_facts_keep_direct(f);
		some_address(&f->local);
	}
	f->local_restored = pick(2);
	for (unsigned i = 0; i < n; i++)
		alpn[i] = some_text();
	if (pick(2))
		hb_facts_hello_set(f, some_text(), alpn, n);
	if (pick(2))
		f->authority = hb_arena_str(&f->arena, some_text());
	for (unsigned i = pick(6); i > 0; i--)
		(void)hb_facts_metadata_set(f, some_text(), some_text(), some_text());
	for (unsigned i = pick(3); i > 0; i--)
		(void)hb_facts_state_set(f, some_text(), some_text(), pick(2), (uint8_t)pick(3));
}

static void
test_random(void **state)
{
	struct hb_facts f, same;
	uint64_t began;

	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		began = seed;
		some_facts(&f);
		seed = began;
		some_facts(&same);
		there_and_back(&f);
		assert_facts(&f, &same);
		/* Again, and it can still be added to. */
		there_and_back(&f);
		assert_facts(&f, &same);
		assert_true(hb_facts_metadata_set(&f, HB_STR("a"), HB_STR("b"), HB_STR("c")));
		assert_true(
			hb_str_eq(hb_facts_metadata(&f, HB_STR("a"), HB_STR("b")), HB_STR("c")));
		hb_facts_fini(&f);
		hb_facts_fini(&same);
	}
}

static void
parent_gone(struct hb_facts_owner *o)
{
	(void)o;
}

static void
test_parent(void **state)
{
	struct hb_facts parent, f;

	(void)state;
	hb_facts_init(&parent);
	parent.keep = (struct hb_facts_owner){ 1, parent_gone };
	hb_facts_init(&f);
	hb_facts_set_parent(&f, &parent);
	there_and_back(&f);
	assert_ptr_equal(f.parent, &parent);
	assert_int_equal(parent.keep.refs, 2);
	hb_facts_fini(&f);
	assert_int_equal(parent.keep.refs, 1);
	hb_facts_fini(&parent);
}

static void
test_not_packable(void **state)
{
	static char large[HB_FACTS_PACK_MAX];
	struct hb_facts f;

	(void)state;
	hb_facts_init(&f);
	hb_facts_tls_edit(&f)->principal = HB_STR("spiffe://x/y");
	assert_false(hb_facts_packable(&f));
	hb_facts_fini(&f);
	memset(large, 'x', sizeof large);
	assert_true(hb_facts_packable(&f));
	(void)hb_facts_metadata_set(&f, HB_STR("a"), HB_STR("b"), hb_strn(large, sizeof large));
	assert_false(hb_facts_packable(&f));
	hb_facts_fini(&f);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_parent),
		cmocka_unit_test(test_not_packable),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

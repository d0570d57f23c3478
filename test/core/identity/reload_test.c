/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "core/event/worker.h"
#include "core/identity/reload.h"
#include "test/core/identity/folder.h"

#define POLL_MS 5000

static struct folder folder;
static uint64_t passed_ms; /* of the fake clock, since start() */

struct user {
	struct hb_file_user base;
	unsigned told;
	char seen[64]; /* text at the last call; "" = unreadable */
	struct user *peer;
	char peer_seen[64];
};

static void
copy_text(const struct hb_file_user *u, char dst[64])
{
	const char *why;
	const struct hb_blob *b = hb_file_blob(u, &why);

	assert_true((b == NULL) == (why != NULL));
	dst[0] = '\0';
	if (b != NULL && b->text.p != NULL)
		memcpy(dst, b->text.p, HB_MIN(b->text.len + 1, (size_t)64));
}

static void
changed(struct hb_file_user *base)
{
	struct user *u = HB_CONTAINER(base, struct user, base);

	u->told++;
	copy_text(base, u->seen);
	if (u->peer != NULL)
		copy_text(&u->peer->base, u->peer_seen);
}

static int
setup(void **state)
{
	folder_init(&folder);
	assert_int_equal(hb_workers_init(1, NULL), 0);
	hb_clock_fake(hb_worker_control(), 1000000);
	passed_ms = 0;
	return (0);
}

static int
teardown(void **state)
{
	assert_int_equal(hb_identity_files(), 0);
	hb_workers_fini();
	folder_fini(&folder);
	return (0);
}

static void
step(uint64_t ms)
{
	hb_worker_turn(hb_worker_control(), false);
	hb_clock_advance(hb_worker_control(), ms);
	passed_ms += ms;
	hb_worker_turn(hb_worker_control(), false);
}

/* Until the user was told `n` times in all: by inotify soon, else by the next look at the file. */
static void
until_told(const struct user *u, unsigned n, bool by_event)
{
	uint64_t last = passed_ms + (by_event ? 1000 : 2 * POLL_MS);

	while (u->told < n) {
		if (passed_ms >= last)
			fail_msg("told %u times, not %u", u->told, n);
		step(1);
	}
	assert_int_equal(u->told, n);
}

static void
start(struct user *u, const char *path)
{
	memset(u, 0, sizeof *u);
	hb_file_watch(&u->base, path, changed);
	until_told(u, 1, true);
}

static void
test_reload__in_place_and_rename(void **state)
{
	struct user u;

	folder_write(&folder, "key.pem", "one");
	start(&u, folder_at(&folder, "key.pem"));
	assert_string_equal(u.seen, "one");
	folder_write(&folder, "key.pem", "two");
	until_told(&u, 2, true);
	assert_string_equal(u.seen, "two");
	folder_rename(&folder, "key.pem", "three");
	until_told(&u, 3, true);
	assert_string_equal(u.seen, "three");
	folder_rename(&folder, "key.pem", "four");
	until_told(&u, 4, true);
	assert_string_equal(u.seen, "four");
	hb_file_unwatch(&u.base);
}

static void
test_reload__same_bytes(void **state)
{
	struct user u;

	folder_write(&folder, "a", "same");
	start(&u, folder_at(&folder, "a"));
	folder_rename(&folder, "a", "same");
	folder_write(&folder, "other", "x");
	for (unsigned i = 0; i < 40; i++)
		step(300);
	assert_int_equal(u.told, 1);
	hb_identity_recheck();
	assert_int_equal(u.told, 1);
	folder_write(&folder, "a", "new");
	hb_identity_recheck();
	assert_int_equal(u.told, 2);
	hb_file_unwatch(&u.base);
}

/* tls.crt -> ..data/tls.crt, ..data -> ..1: the kubelet swaps ..data and removes the old folder. */
static void
test_reload__kubernetes(void **state)
{
	struct user crt, key;

	folder_mkdir(&folder, "..1");
	folder_write(&folder, "..1/tls.crt", "crt 1");
	folder_write(&folder, "..1/tls.key", "key 1");
	folder_link(&folder, "..data", "..1");
	folder_link(&folder, "tls.crt", "..data/tls.crt");
	folder_link(&folder, "tls.key", "..data/tls.key");
	start(&crt, folder_at(&folder, "tls.crt"));
	start(&key, folder_at(&folder, "tls.key"));
	crt.peer = &key;
	key.peer = &crt;
	for (unsigned i = 2; i < 5; i++) {
		char name[16], text[16];

		(void)snprintf(name, sizeof name, "..%u", i);
		folder_mkdir(&folder, name);
		(void)snprintf(name, sizeof name, "..%u/tls.crt", i);
		(void)snprintf(text, sizeof text, "crt %u", i);
		folder_write(&folder, name, text);
		(void)snprintf(name, sizeof name, "..%u/tls.key", i);
		(void)snprintf(text, sizeof text, "key %u", i);
		folder_write(&folder, name, text);
		(void)snprintf(name, sizeof name, "..%u", i);
		folder_link(&folder, "..data", name);
		(void)snprintf(name, sizeof name, "..%u/tls.crt", i - 1);
		folder_remove(&folder, name);
		(void)snprintf(name, sizeof name, "..%u/tls.key", i - 1);
		folder_remove(&folder, name);
		(void)snprintf(name, sizeof name, "..%u", i - 1);
		folder_remove(&folder, name);
		until_told(&crt, i, true);
		until_told(&key, i, true);
		assert_string_equal(key.seen, text);
		/* Both were read before anybody was told. */
		assert_string_equal(crt.peer_seen, text);
		assert_int_equal(key.peer_seen[4], '0' + (int)i);
	}
	hb_file_unwatch(&crt.base);
	hb_file_unwatch(&key.base);
}

static void
test_reload__linked_folder(void **state)
{
	struct user u;

	folder_mkdir(&folder, "v1");
	folder_mkdir(&folder, "v2");
	folder_write(&folder, "v1/a", "1");
	folder_write(&folder, "v2/a", "2");
	folder_link(&folder, "current", "v1");
	start(&u, folder_at(&folder, "current/a"));
	folder_link(&folder, "current", "v2");
	until_told(&u, 2, true);
	assert_string_equal(u.seen, "2");
	folder_write(&folder, "v2/a", "3");
	until_told(&u, 3, true);
	assert_string_equal(u.seen, "3");
	hb_file_unwatch(&u.base);
}

static void
test_reload__missing(void **state)
{
	struct user u;
	const char *why;

	start(&u, folder_at(&folder, "later/a"));
	assert_null(hb_file_blob(&u.base, &why));
	assert_non_null(strstr(why, "later/a cannot be read: No such file"));
	folder_mkdir(&folder, "later");
	folder_write(&folder, "later/a", "there");
	until_told(&u, 2, false);
	assert_string_equal(u.seen, "there");
	/* Its folder is watched now. */
	folder_write(&folder, "later/a", "again");
	until_told(&u, 3, true);
	folder_remove(&folder, "later/a");
	until_told(&u, 4, true);
	assert_null(hb_file_blob(&u.base, &why));
	/* The folder is replaced by another one of its name. */
	folder_remove(&folder, "later");
	folder_mkdir(&folder, "later");
	folder_write(&folder, "later/a", "new folder");
	until_told(&u, 5, false);
	folder_write(&folder, "later/a", "seen");
	until_told(&u, 6, true);
	assert_string_equal(u.seen, "seen");
	hb_file_unwatch(&u.base);
}

static void
test_reload__not_a_file(void **state)
{
	struct user u;
	const char *why;
	struct hb_text text;
	struct hb_err err;

	assert_int_equal(mkfifo(folder_at(&folder, "pipe"), 0600), 0);
	start(&u, folder_at(&folder, "pipe"));
	assert_null(hb_file_blob(&u.base, &why));
	assert_non_null(strstr(why, "not a regular file"));
	hb_file_unwatch(&u.base);
	assert_int_equal(hb_file_read(folder.path, &text, &err), -EINVAL);
	folder_write(&folder, "big", "");
	assert_int_equal(truncate(folder_at(&folder, "big"), HB_FILE_MAX + 1), 0);
	assert_int_equal(hb_file_read(folder_at(&folder, "big"), &text, &err), -EFBIG);
	assert_int_equal(truncate(folder_at(&folder, "big"), HB_FILE_MAX), 0);
	assert_int_equal(hb_file_read(folder_at(&folder, "big"), &text, &err), 0);
	assert_int_equal(text.len, HB_FILE_MAX);
	hb_text_fini(&text);
}

/* One file, many users; and the writer who never stops is read at the latest after two seconds. */
static void
test_reload__shared_and_busy(void **state)
{
	struct user u[3];
	uint64_t began;
	unsigned i;

	folder_write(&folder, "a", "0");
	for (i = 0; i < 3; i++)
		start(&u[i], folder_at(&folder, "a"));
	assert_int_equal(hb_identity_files(), 1);
	began = passed_ms;
	for (i = 0; u[0].told == 1; i++) {
		char text[16];

		(void)snprintf(text, sizeof text, "%u", i);
		folder_write(&folder, "a", text);
		step(100);
		assert_true(passed_ms - began < 4000);
	}
	for (i = 1; i < 3; i++)
		assert_int_equal(u[i].told, 2);
	hb_file_unwatch(&u[1].base);
	hb_file_unwatch(&u[0].base);
	assert_int_equal(hb_identity_files(), 1);
	hb_file_unwatch(&u[2].base);
}

static void
test_reload__stopped(void **state)
{
	struct user u;

	folder_write(&folder, "a", "0");
	start(&u, folder_at(&folder, "a"));
	hb_identity_stop();
	folder_write(&folder, "a", "1");
	for (unsigned i = 0; i < 40; i++)
		step(300);
	assert_int_equal(u.told, 1);
	hb_file_unwatch(&u.base);
	/* Let go of before the loop ran at all. */
	hb_file_watch(&u.base, folder_at(&folder, "a"), changed);
	hb_file_unwatch(&u.base);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_reload__in_place_and_rename),
		T(test_reload__same_bytes),
		T(test_reload__kubernetes),
		T(test_reload__linked_folder),
		T(test_reload__missing),
		T(test_reload__not_a_file),
		T(test_reload__shared_and_busy),
		T(test_reload__stopped),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <cmocka.h>
#include "core/admin/admin.h"
#include "core/base/err.h"

#define TURNS_MAX 2000

/* ------------------------------------------------------------------ endpoints of the test */

static struct hb_admin_request *waiting;

static void
page_show(struct hb_admin_request *rq)
{
	struct hb_str a = hb_admin_param(rq, "a"), none = hb_admin_param(rq, "none"), name, value;
	struct hb_text t = { 0 };

	hb_text_printf(&t, "a=%.*s none=%s post=%d", HB_STR_FMT(a),
		none.p == NULL ? "absent" : "there", hb_admin_is_post(rq));
	for (size_t i = 0; hb_admin_param_at(rq, i, &name, &value); i++)
		hb_text_printf(&t, " [%.*s]", HB_STR_FMT(name));
	hb_admin_reply(rq, 200, NULL, &t);
}

static void
page_change(struct hb_admin_request *rq)
{
	hb_admin_replyf(rq, 200, "changed");
}

static void
page_later(struct hb_admin_request *rq)
{
	waiting = rq;
}

static const struct hb_admin_endpoint ep_show = { "/show", "shows", "a", 0, page_show },
				      ep_change = { "/change", "changes", "", HB_ADMIN_MUTATES,
					      page_change },
				      ep_later = { "/later", "answers later", "", 0, page_later },
				      ep_ready = { "/ready", "ready", "", HB_ADMIN_PUBLIC,
					      page_show };

static bool
allowed(struct hb_str path)
{
	return (!hb_str_eq(path, HB_STR("/memory")));
}

/* ------------------------------------------------------------------ a client */

static int
dial(const struct hb_addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = hb_addr_to_sockaddr(a, &ss);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&ss, len), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return (fd);
}

/* One request on a connection of its own; the answer is in `got`. Returns the status. */
static int
ask(const struct hb_addr *a, const char *method, const char *target, char *got, size_t cap)
{
	char rq[512];
	int fd = dial(a),
	    n = snprintf(rq, sizeof rq,
		    "%s %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
		    "content-length: 0\r\n\r\n",
		    method, target);
	size_t have = 0;

	assert_int_equal(write(fd, rq, (size_t)n), n);
	for (unsigned i = 0; i < TURNS_MAX; i++) {
		ssize_t r = read(fd, got + have, cap - have - 1);

		if (r == 0)
			break;
		if (r > 0)
			have += (size_t)r;
		hb_worker_turn(hb_worker_control(), r < 0);
	}
	got[have] = '\0';
	close(fd);
	assert_true(strncmp(got, "HTTP/1.1 ", 9) == 0);
	return (atoi(got + 9));
}

static struct hb_addr
local(void)
{
	struct hb_addr a;

	assert_true(hb_addr_parse(HB_STR("127.0.0.1:0"), &a));
	return (a);
}

static int
start(void **state)
{
	struct hb_admin_config c = {
		.address = local(), .public_ready = local(), .allowed = allowed
	};
	struct hb_err err;

	(void)state;
	assert_int_equal(hb_workers_init(1, &err), 0);
	hb_admin_pages_init();
	hb_admin_add(&ep_show);
	hb_admin_add(&ep_change);
	hb_admin_add(&ep_later);
	hb_admin_add(&ep_ready);
	assert_int_equal(hb_admin_start(&c, &err), 0);
	return (0);
}

static int
stop(void **state)
{
	(void)state;
	hb_admin_stop();
	hb_workers_fini();
	return (0);
}

static void
test_pages_methods_and_parameters(void **state)
{
	struct hb_addr a = hb_admin_address();
	char got[8192];

	(void)state;
	assert_int_equal(ask(&a, "GET", "/show?a=x%20y%2Bz+w&flag&b=", got, sizeof got), 200);
	assert_non_null(strstr(got, "a=x y+z w none=absent post=0 [a] [flag] [b]"));
	assert_int_equal(ask(&a, "POST", "/show", got, sizeof got), 200);
	assert_non_null(strstr(got, "post=1"));
	assert_int_equal(ask(&a, "GET", "/change", got, sizeof got), 405);
	assert_non_null(strstr(got, "POST"));
	assert_int_equal(ask(&a, "POST", "/change", got, sizeof got), 200);
	assert_int_equal(ask(&a, "DELETE", "/show", got, sizeof got), 405);
	assert_int_equal(ask(&a, "GET", "/nonsense", got, sizeof got), 404);
	assert_int_equal(ask(&a, "GET", "/help", got, sizeof got), 200);
	assert_non_null(strstr(got, "/change (POST)"));
	assert_int_equal(ask(&a, "GET", "/memory", got, sizeof got), 403);
	assert_int_equal(ask(&a, "GET", "/stats?filter=(", got, sizeof got), 400);
	assert_int_equal(ask(&a, "GET", "/stats?filter=^admin", got, sizeof got), 200);
	assert_non_null(strstr(got, "admin.refused"));
}

static void
test_public_addresses_serve_one_page(void **state)
{
	struct hb_addr a = hb_admin_public_ready_address();
	char got[4096];

	(void)state;
	assert_int_equal(ask(&a, "GET", "/healthz/ready", got, sizeof got), 200);
	assert_int_equal(ask(&a, "GET", "/show", got, sizeof got), 404);
	assert_int_equal(ask(&a, "POST", "/ready", got, sizeof got), 405);
}

static void
test_a_client_that_leaves_before_the_answer(void **state)
{
	static const char rq[] = "GET /later HTTP/1.1\r\nhost: x\r\n\r\n";
	struct hb_addr a = hb_admin_address();
	int fd = dial(&a);

	(void)state;
	waiting = NULL;
	assert_int_equal(write(fd, rq, sizeof rq - 1), sizeof rq - 1);
	for (unsigned i = 0; i < TURNS_MAX && waiting == NULL; i++)
		hb_worker_turn(hb_worker_control(), true);
	assert_non_null(waiting);
	close(fd);
	for (unsigned i = 0; i < 20; i++)
		hb_worker_turn(hb_worker_control(), false);
	hb_admin_replyf(waiting, 200, "too late");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_methods_and_parameters),
		cmocka_unit_test(test_public_addresses_serve_one_page),
		cmocka_unit_test(test_a_client_that_leaves_before_the_answer),
	};

	return (cmocka_run_group_tests(tests, start, stop));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a TLS server that change while it runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "core/base/log.h"
#include "core/identity/reload.h"
#include "test/core/identity/folder.h"
#include "test/filters/transport/tls/rig.h"

#define SERVER "URI:spiffe://cluster.local/ns/default/sa/server"
#define CLIENT "URI:spiffe://cluster.local/ns/default/sa/client"

static struct folder folder;
static struct hb_test_cert *root, *root2, *leaf[3], *client_leaf, *client2;
static struct hb_transport_socket *client, *stranger;
static struct hb_text log_text;

static void
keep_line(void *arg, const char *line)
{
	(void)arg;
	hb_text_addz(&log_text, line);
	hb_text_addc(&log_text, '\n');
}

static unsigned
logged(const char *what)
{
	unsigned n = 0;

	for (const char *p = log_text.p; p != NULL && (p = strstr(p, what)) != NULL; p++)
		n++;
	return (n);
}

static struct hb_transport_socket *
client_of(const struct hb_test_cert *c)
{
	char *certs = rig_certs(c),
	     *both = hb_asprintf("%s, validation_context: {trusted_ca: "
				 "{filename: %s/both.pem}}",
		     certs, folder.path);
	struct hb_transport_socket *s = rig_client(both);

	hb_free(certs);
	hb_free(both);
	return (s);
}

static int
setup(void **state)
{
	char *both;

	folder_init(&folder);
	rig_init();
	hb_log_capture(keep_line, NULL);
	root = hb_test_root("root 1");
	root2 = hb_test_root("root 2");
	for (unsigned i = 0; i < 3; i++)
		leaf[i] = hb_test_leaf(root, SERVER);
	client_leaf = hb_test_leaf(root, CLIENT);
	client2 = hb_test_leaf(root2, CLIENT);
	both = hb_asprintf("%s%s", root->pem, root2->pem);
	folder_write(&folder, "both.pem", both);
	hb_free(both);
	folder_write(&folder, "cert.pem", leaf[0]->chain_pem);
	folder_write(&folder, "key.pem", leaf[0]->key_pem);
	folder_write(&folder, "ca.pem", root->pem);
	client = client_of(client_leaf);
	stranger = client_of(client2);
	return (0);
}

static int
teardown(void **state)
{
	hb_transport_socket_free(&client);
	hb_transport_socket_free(&stranger);
	hb_test_cert_free(&root);
	hb_test_cert_free(&root2);
	for (unsigned i = 0; i < 3; i++)
		hb_test_cert_free(&leaf[i]);
	hb_test_cert_free(&client_leaf);
	hb_test_cert_free(&client2);
	rig_fini();
	assert_int_equal(hb_identity_files(), 0);
	folder_fini(&folder);
	hb_log_capture(NULL, NULL);
	hb_text_fini(&log_text);
	return (0);
}

static struct hb_transport_socket *
server_with(const char *more)
{
	char *common = hb_asprintf(
		"tls_certificates: [{certificate_chain: {filename: %s/cert.pem}, "
		"private_key: {filename: %s/key.pem}}], validation_context: {trusted_ca: {filename: "
		"%s/ca.pem}%s}",
		folder.path, folder.path, folder.path, more);
	struct hb_transport_socket *s = rig_server(common);

	hb_free(common);
	rig_control(1);
	return (s);
}

static void
expect_echo(struct rig_conn *c, const char *text)
{
	size_t before = c->client.got.len;

	hbt_writez(&c->client, text, false);
	HBT_UNTIL(c->client.got.len == before + strlen(text));
	assert_string_equal(c->client.got.p + before, text);
}

static void
expect_serves(const struct hb_transport_socket *server, const struct hb_test_cert *cert)
{
	struct rig_conn c;

	rig_connect(&c, client, server);
	if (c.client.closed)
		fail_msg("client: %s; server: %s", c.client_text, c.server_text);
	assert_string_equal(rig_serial_seen(&c), rig_serial(cert));
	rig_conn_fini(&c);
}

/* A pair as an editor or cert-manager writes it: certificate first. */
static void
write_pair(const struct hb_test_cert *c)
{
	folder_rename(&folder, "cert.pem", c->chain_pem);
	folder_rename(&folder, "key.pem", c->key_pem);
}

static void
test_rotate__live_connections_stay(void **state)
{
	struct hb_transport_socket *server = server_with("");
	struct rig_conn old;

	rig_connect(&old, client, server);
	expect_echo(&old, "before");
	assert_int_equal(hb_transport_socket_generation(server), 0);
	write_pair(leaf[1]);
	rig_until_generation(server, 0);
	assert_int_equal(rig_stat("identity.reloads"), 1);
	assert_int_equal(logged("certificate replaced"), 1);
	expect_serves(server, leaf[1]);
	/* The old context lives as long as its connection. */
	rig_control(6000);
	assert_int_equal(rig_stat("identity.retired_contexts"), 1);
	assert_string_equal(rig_serial_seen(&old), rig_serial(leaf[0]));
	expect_echo(&old, "after");
	rig_conn_fini(&old);
	rig_control(6000);
	assert_int_equal(rig_stat("identity.retired_contexts"), 0);
	write_pair(leaf[2]);
	rig_until_generation(server, 1);
	expect_serves(server, leaf[2]);
	assert_int_equal(rig_stat("identity.reload_refused"), 0);
	hb_transport_socket_free(&server);
}

/* The owner goes first: what the connection uses stays. */
static void
test_rotate__owner_goes_first(void **state)
{
	struct hb_transport_socket *server = server_with("");
	struct rig_conn c;

	rig_connect(&c, client, server);
	hb_transport_socket_free(&server);
	rig_control(6000);
	expect_echo(&c, "still here");
	rig_conn_fini(&c);
	rig_control(6000);
}

static void
test_rotate__refuses_half_and_mismatched(void **state)
{
	struct hb_transport_socket *server = server_with("");
	char *half = hb_strndup(leaf[1]->chain_pem, strlen(leaf[1]->chain_pem) / 2);

	/* Half a file, long enough to be seen. */
	folder_write(&folder, "cert.pem", half);
	rig_control(10);
	rig_control(2100);
	assert_int_equal(rig_stat("identity.reload_refused"), 1);
	assert_int_equal(logged("a changed file is refused"), 1);
	expect_serves(server, leaf[0]);
	/* The rest of it, and still the old key. */
	folder_write(&folder, "cert.pem", leaf[1]->chain_pem);
	rig_control(10);
	rig_control(2100);
	assert_int_equal(rig_stat("identity.reload_refused"), 2);
	assert_non_null(strstr(log_text.p, "does not belong to the first certificate"));
	expect_serves(server, leaf[0]);
	/* Asked again, the same files say the same: no second line. */
	hb_identity_recheck();
	rig_control(10);
	assert_int_equal(logged("a changed file is refused"), 2);
	folder_remove(&folder, "key.pem");
	rig_control(10);
	rig_control(2100);
	assert_int_equal(rig_stat("identity.reload_refused"), 3);
	assert_non_null(strstr(log_text.p, "key.pem cannot be read"));
	expect_serves(server, leaf[0]);
	assert_int_equal(hb_transport_socket_generation(server), 0);
	folder_write(&folder, "key.pem", leaf[1]->key_pem);
	rig_until_generation(server, 0);
	expect_serves(server, leaf[1]);
	hb_free(half);
	hb_transport_socket_free(&server);
}

/* A thousand clusters with the same files: one certificate in memory, one line in the log. */
static void
test_rotate__many_share(void **state)
{
	struct hb_transport_socket *v[100];
	const struct hb_cert_info *const *a, *const *b;

	for (size_t i = 0; i < HB_ARRAY_LEN(v); i++)
		v[i] = server_with("");
	write_pair(leaf[1]);
	for (size_t i = 0; i < HB_ARRAY_LEN(v); i++)
		rig_until_generation(v[i], 0);
	assert_int_equal(logged("certificate replaced"), 1);
	assert_int_equal(rig_stat("identity.reloads"), (int)HB_ARRAY_LEN(v));
	assert_int_equal(hb_transport_socket_certs(v[0], false, &a), 1);
	assert_int_equal(hb_transport_socket_certs(v[99], false, &b), 1);
	assert_ptr_equal(a[0], b[0]);
	for (size_t i = 0; i < HB_ARRAY_LEN(v); i++)
		hb_transport_socket_free(&v[i]);
}

static void
expect_refused(const struct hb_transport_socket *by, const struct hb_transport_socket *who,
	const char *text)
{
	struct rig_conn c;

	rig_connect(&c, who, by);
	assert_int_equal(c.server.reason, HB_CLOSE_TLS_VERIFY);
	if (strstr(c.server_text, text) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", text, c.server_text);
	rig_conn_fini(&c);
}

static void
test_rotate__trust(void **state)
{
	struct hb_transport_socket *server = server_with("");
	struct rig_conn c;

	expect_refused(server, stranger, "unable to get local issuer");
	folder_rename(&folder, "ca.pem", "no certificate at all");
	rig_control(10);
	rig_control(2100);
	assert_int_equal(rig_stat("identity.reload_refused"), 1);
	expect_serves(server, leaf[0]);
	folder_rename(&folder, "ca.pem", root2->pem);
	rig_until_generation(server, 0);
	assert_int_equal(logged("trust bundle replaced"), 1);
	rig_connect(&c, stranger, server);
	assert_int_equal(c.client.secured, 1);
	rig_conn_fini(&c);
	expect_refused(server, client, "unable to get local issuer");
	hb_transport_socket_free(&server);
}

/* A list that cannot be read never opens the door, and does not stop certificates from being renewed. */
static void
test_rotate__revocation(void **state)
{
	char *empty = hb_test_crl(root, NULL), *full = hb_test_crl(root, client_leaf);
	char *more = hb_asprintf(", crl: {filename: %s/crl.pem}", folder.path), *common;
	struct hb_transport_socket *server;

	folder_write(&folder, "crl.pem", "garbage");
	common = hb_asprintf(
		"tls_certificates: [{certificate_chain: {filename: %s/cert.pem}, private_key: "
		"{filename: %s/key.pem}}], validation_context: {trusted_ca: {filename: %s/ca.pem}%s}",
		folder.path, folder.path, folder.path, more);
	assert_non_null(strstr(rig_server_error(common), "crl: "));
	assert_non_null(strstr(rig_server_error(common), "holds no revocation list"));
	hb_free(common);
	folder_write(&folder, "crl.pem", empty);
	server = server_with(more);
	expect_serves(server, leaf[0]);
	folder_rename(&folder, "crl.pem", full);
	rig_until_generation(server, 0);
	expect_refused(server, client, "certificate revoked");
	folder_rename(&folder, "crl.pem", "garbage");
	rig_control(10);
	rig_control(2100);
	assert_int_equal(rig_stat("identity.reload_refused"), 1);
	expect_refused(server, client, "certificate revoked");
	write_pair(leaf[1]);
	rig_until_generation(server, 1);
	expect_refused(server, client, "certificate revoked");
	folder_remove(&folder, "crl.pem");
	rig_control(10);
	rig_control(2100);
	assert_int_equal(rig_stat("identity.reload_refused"), 2);
	expect_refused(server, client, "certificate revoked");
	folder_write(&folder, "crl.pem", empty);
	rig_until_generation(server, 2);
	expect_serves(server, leaf[1]);
	hb_free(more);
	hb_free(empty);
	hb_free(full);
	hb_transport_socket_free(&server);
}

/* What live connections are asked when trust has changed. */
static void
test_rotate__live_peers_are_judged_again(void **state)
{
	char *empty = hb_test_crl(root, NULL), *full = hb_test_crl(root, client_leaf);
	char *more = hb_asprintf(", crl: {filename: %s/crl.pem}", folder.path), *both;
	struct hb_transport_socket *server, *other;
	struct hb_test_cert *second = hb_test_leaf(root, CLIENT);
	struct rig_conn bad, good;

	folder_write(&folder, "crl.pem", empty);
	server = server_with(more);
	other = client_of(second);
	rig_connect(&bad, client, server);
	rig_connect(&good, other, server);
	assert_true(hb_transport_socket_holds(server, bad.server.t));
	write_pair(leaf[1]);
	rig_until_generation(server, 0);
	assert_true(hb_transport_socket_holds(server, bad.server.t));
	folder_rename(&folder, "crl.pem", full);
	rig_until_generation(server, 1);
	assert_false(hb_transport_socket_holds(server, bad.server.t));
	assert_int_equal(logged("its peer is no longer trusted"), 1);
	assert_non_null(strstr(log_text.p, "certificate revoked"));
	assert_int_equal(rig_stat("identity.revoked_connections"), 1);
	assert_true(hb_transport_socket_holds(server, good.server.t));
	/* A second root is no reason, the first one's end is. */
	both = hb_asprintf("%s%s", root->pem, root2->pem);
	folder_rename(&folder, "ca.pem", both);
	rig_until_generation(server, 2);
	assert_true(hb_transport_socket_holds(server, good.server.t));
	folder_rename(&folder, "ca.pem", root2->pem);
	rig_until_generation(server, 3);
	assert_false(hb_transport_socket_holds(server, good.server.t));
	rig_conn_fini(&bad);
	rig_conn_fini(&good);
	hb_transport_socket_free(&other);
	hb_transport_socket_free(&server);
	hb_test_cert_free(&second);
	hb_free(both);
	hb_free(more);
	hb_free(empty);
	hb_free(full);
}

/* Rules that compare with our identity: a certificate without one cannot take its place. */
static void
test_rotate__rules_need_identity(void **state)
{
	struct hb_test_cert *bare = hb_test_leaf(root, "DNS:server.example");
	struct hb_transport_socket *server = server_with(
		", custom_validator_config: {name: r, typed_config: "
		"{'@type': type.googleapis.com/hbone.identity.SpiffeRules}}");

	expect_serves(server, leaf[0]);
	write_pair(bare);
	rig_control(10);
	rig_control(2100);
	assert_int_equal(rig_stat("identity.reload_refused"), 1);
	assert_non_null(strstr(log_text.p, "need a SPIFFE id in our own certificate"));
	expect_serves(server, leaf[0]);
	write_pair(leaf[1]);
	rig_until_generation(server, 0);
	expect_serves(server, leaf[1]);
	hb_test_cert_free(&bare);
	hb_transport_socket_free(&server);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_rotate__live_connections_stay),
		T(test_rotate__owner_goes_first),
		T(test_rotate__refuses_half_and_mismatched),
		T(test_rotate__many_share),
		T(test_rotate__trust),
		T(test_rotate__revocation),
		T(test_rotate__live_peers_are_judged_again),
		T(test_rotate__rules_need_identity),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}

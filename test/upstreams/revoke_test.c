/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates, trust and rules of a cluster that change while its connections live. */
#include "test/upstreams/peer.h"

#include <stdio.h>

#include "core/identity/reload.h"
#include "core/transport/tls.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "test/core/identity/folder.h"
#include "test/support/certs/certs.h"

extern const struct hb_transport_socket_type hb_tsocket_tls;

#define TLS_TYPE "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."

static struct folder folder;
static struct hb_test_cert *root, *leaf, *own[2];
static char *crl_empty, *crl_full;
static struct hb_transport_socket *server;
static struct peer p;
static struct up_dial d[4];
static struct hbt_sink s[4];

static int
group_setup(void **state)
{
	(void)state;
	assert_int_equal(hb_transport_socket_register(&hb_tsocket_tls, NULL), 0);
	root = hb_test_root("root");
	leaf = hb_test_leaf(root, "URI:spiffe://td/ns/a/sa/b");
	own[0] = hb_test_leaf(root, "URI:spiffe://td/ns/c/sa/d");
	own[1] = hb_test_leaf(root, "URI:spiffe://td/ns/c/sa/d");
	crl_empty = hb_test_crl(root, NULL);
	crl_full = hb_test_crl(root, leaf);
	return (0);
}

static int
group_teardown(void **state)
{
	(void)state;
	hb_test_cert_free(&root);
	hb_test_cert_free(&leaf);
	hb_test_cert_free(&own[0]);
	hb_test_cert_free(&own[1]);
	hb_free(crl_empty);
	hb_free(crl_full);
	return (0);
}

static struct hb_transport_socket *
server_socket(void)
{
	struct hb_transport_socket *ret = NULL;
	const ProtobufCMessage *msg;
	struct hb_text yaml = { 0 };
	struct hb_cfg *cfg;

	hb_text_addz(&yaml,
		"{name: tls, typed_config: {'@type': " TLS_TYPE "DownstreamTlsContext, "
		"common_tls_context: {alpn_protocols: [h2], tls_certificates: "
		"[{certificate_chain: {inline_string: ");
	hb_text_json(&yaml, leaf->chain_pem, strlen(leaf->chain_pem));
	hb_text_addz(&yaml, "}, private_key: {inline_string: ");
	hb_text_json(&yaml, leaf->key_pem, strlen(leaf->key_pem));
	hb_text_addz(&yaml, "}}]}}}");
	cfg = hb_cfg_new("server", NULL);
	msg = hb_cfg_parse_text(cfg, hb_strn(yaml.p, yaml.len),
		&envoy__config__core__v3__transport_socket__descriptor);
	assert_non_null(msg);
	assert_int_equal(hb_transport_socket_compile(cfg, msg, NULL, msg, false, &ret), 0);
	hb_cfg_free(&cfg);
	hb_text_fini(&yaml);
	return (ret);
}

static int
setup(void **state)
{
	(void)up_setup(state);
	folder_init(&folder);
	folder_write(&folder, "ca.pem", root->pem);
	folder_write(&folder, "crl.pem", crl_empty);
	folder_write(&folder, "cert.pem", own[0]->chain_pem);
	folder_write(&folder, "key.pem", own[0]->key_pem);
	memset(&p, 0, sizeof p);
	memset(d, 0, sizeof d);
	memset(s, 0, sizeof s);
	p.fd = -1;
	p.socket = server = server_socket();
	peer_start(&p);
	return (0);
}

static int
teardown(void **state)
{
	for (size_t i = 0; i < HB_ARRAY_LEN(d); i++) {
		hb_dial_cancel(&d[i].dial);
		if (d[i].t != NULL)
			hb_transport_abort(&d[i].t, HB_CLOSE_LOCAL_CLOSE);
		hbt_sink_fini(&s[i]);
	}
	peer_stop(&p);
	UP_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	up_turns(4);
	hb_transport_socket_free(&server);
	hb_identity_stop();
	folder_fini(&folder);
	return (up_teardown(state));
}

/* A cluster of the peer; names: "" or ", match_typed_subject_alt_names: …". */
static struct hb_cluster *
cluster(bool tunnel, const char *names)
{
	char tls[2048], fields[2100];

	(void)snprintf(tls, sizeof tls,
		"{name: tls, typed_config: {'@type': " TLS_TYPE "UpstreamTlsContext, "
		"common_tls_context: {alpn_protocols: [h2], tls_certificates: [{certificate_chain: "
		"{filename: %s}, private_key: {filename: %s}}], validation_context: {trusted_ca: "
		"{filename: %s}, crl: {filename: %s}%s}}}}",
		folder_at(&folder, "cert.pem"), folder_at(&folder, "key.pem"),
		folder_at(&folder, "ca.pem"), folder_at(&folder, "crl.pem"), names);
	if (!tunnel)
		return (up_cluster("{name: c, load_assignment: {endpoints: [{lb_endpoints: %s}]}, "
				   "transport_socket: %s}",
			up_endpoints(&p.port, 1), tls));
	(void)snprintf(fields, sizeof fields, ", transport_socket: %s", tls);
	return (peer_cluster(&p, fields, ""));
}

static void
dial(unsigned i)
{
	up_dial_start(&d[i], "c", 1, NULL);
	PEER_UNTIL(&p, d[i].done == 1);
}

/* Dials and keeps what it gets. */
static void
hold(unsigned i)
{
	dial(i);
	assert_non_null(d[i].t);
	hbt_attach(&s[i], d[i].t);
	d[i].t = NULL;
}

/* Files have changed: until they are read and everybody was told. */
static void
read_again(void)
{
	up_turns(4);
	hb_identity_recheck();
	up_turns(8);
}

static void
test_revoked(void **state)
{
	struct hb_cluster *c = cluster(false, "");

	(void)state;
	hold(0);
	hold(1);
	/* Trust that is new and still good ends nothing. */
	folder_rename(&folder, "ca.pem", root->chain_pem);
	read_again();
	assert_int_equal(s[0].closed, 0);
	folder_rename(&folder, "crl.pem", crl_full);
	read_again();
	PEER_UNTIL(&p, s[0].closed == 1 && s[1].closed == 1);
	assert_int_equal(s[0].reason, HB_CLOSE_REVOKED);
	assert_int_equal(up_stat(c, CL_TLS_REVOKED), 2);
	up_turns(4);
	assert_int_equal(up_stat(c, CL_CX_ACTIVE), 0);
	dial(2);
	assert_int_equal(d[2].reason, HB_CLOSE_TLS_VERIFY);
	PEER_UNTIL(&p, p.s[0].h2 == NULL && p.s[1].h2 == NULL);
	assert_int_equal(p.s[0].reason, HB_CLOSE_PEER_RESET);
}

static void
test_revoked__streams(void **state)
{
	struct hb_cluster *c = cluster(true, "");

	(void)state;
	hold(0);
	hold(1);
	assert_int_equal(p.n_sessions, 1);
	folder_rename(&folder, "crl.pem", crl_full);
	read_again();
	PEER_UNTIL(&p, s[0].closed == 1 && s[1].closed == 1);
	assert_int_equal(s[0].reason, HB_CLOSE_REVOKED);
	assert_int_equal(s[1].reason, HB_CLOSE_REVOKED);
	assert_int_equal(up_stat(c, CL_TLS_REVOKED), 1);
	up_turns(4);
	assert_int_equal(up_stat(c, CL_POOL_ACTIVE), 0);
	assert_int_equal(up_stat(c, CL_RQ_ACTIVE), 0);
	dial(2);
	assert_null(d[2].t);
	assert_int_equal(d[2].reason, HB_CLOSE_TLS_VERIFY);
}

/* The handshake was begun with the trust of before. */
static void
test_revoked__while_connecting(void **state)
{
	struct hb_cluster *c = cluster(true, "");

	(void)state;
	up_dial_start(&d[0], "c", 1, NULL);
	up_turns(4);
	assert_int_equal(up_stat(c, CL_POOL_ACTIVE), 1);
	folder_rename(&folder, "crl.pem", crl_full);
	read_again();
	assert_int_equal(d[0].done, 0);
	PEER_UNTIL(&p, d[0].done == 1);
	assert_null(d[0].t);
	assert_int_equal(d[0].reason, HB_CLOSE_TLS_VERIFY);
	assert_non_null(strstr(d[0].failure, "revoked"));
	assert_int_equal(up_stat(c, CL_TLS_VERIFY), 1);
	up_turns(4);
	assert_int_equal(up_stat(c, CL_CX_ACTIVE), 0);
}

#define NAMES(z) ", match_typed_subject_alt_names: [{san_type: URI, matcher: {exact: '" z "'}}]"

static void
test_replaced_cluster(void **state)
{
	(void)state;
	(void)cluster(false, "");
	hold(0);
	(void)cluster(true, NAMES("spiffe://td/ns/a/sa/b"));
	up_turns(4);
	assert_int_equal(s[0].closed, 0);
	(void)cluster(false, NAMES("spiffe://td/ns/a/sa/b"));
	up_turns(4);
	assert_int_equal(s[0].closed, 0);
	hold(1);
	(void)cluster(false, NAMES("spiffe://td/ns/a/sa/other"));
	PEER_UNTIL(&p, s[0].closed == 1 && s[1].closed == 1);
	assert_int_equal(s[0].reason, HB_CLOSE_REVOKED);
	assert_int_equal(s[1].reason, HB_CLOSE_REVOKED);
}

static void
test_replaced_cluster__streams(void **state)
{
	(void)state;
	(void)cluster(true, "");
	hold(0);
	(void)cluster(true, NAMES("spiffe://td/ns/a/sa/b"));
	hold(1);
	assert_int_equal(s[0].closed, 0);
	assert_int_equal(p.n_sessions, 2);
	(void)cluster(true, NAMES("spiffe://td/ns/a/sa/other"));
	PEER_UNTIL(&p, s[0].closed == 1 && s[1].closed == 1);
	assert_int_equal(s[0].reason, HB_CLOSE_REVOKED);
	assert_int_equal(s[1].reason, HB_CLOSE_REVOKED);
}

/* A connection whose only stream is over. */
static void
hold_idle(struct hb_cluster *c)
{
	hold(0);
	hbt_writez(&s[0], "x", true);
	PEER_UNTIL(&p, s[0].closed == 1);
	up_turns(4);
	assert_int_equal(up_stat(c, CL_POOL_IDLE), 1);
}

/* A connection made with the old certificate goes at once, or with its last stream. */
static void
test_stale(void **state)
{
	struct hb_cluster *c = cluster(true, "");

	(void)state;
	hold_idle(c);
	folder_rename(&folder, "cert.pem", own[1]->chain_pem);
	folder_rename(&folder, "key.pem", own[1]->key_pem);
	read_again();
	PEER_UNTIL(&p, p.s[0].h2 == NULL);
	assert_int_equal(p.s[0].reason, HB_CLOSE_DONE);
	assert_int_equal(up_stat(c, CL_POOL_STALE), 1);
	assert_int_equal(up_stat(c, CL_POOL_IDLE), 0);
	assert_int_equal(up_stat(c, CL_TLS_REVOKED), 0);
	hold(1);
	folder_rename(&folder, "cert.pem", own[0]->chain_pem);
	folder_rename(&folder, "key.pem", own[0]->key_pem);
	read_again();
	assert_int_equal(up_stat(c, CL_POOL_STALE), 2);
	assert_int_equal(up_stat(c, CL_POOL_ACTIVE), 1);
	hbt_writez(&s[1], "y", false);
	PEER_UNTIL(&p, hbt_gotz(&s[1], "y"));
	hbt_writez(&s[1], "", true);
	PEER_UNTIL(&p, s[1].closed == 1 && p.s[1].h2 == NULL);
	assert_int_equal(p.s[1].reason, HB_CLOSE_DONE);
	assert_int_equal(p.n_sessions, 2);
}

/* GOAWAY and close_notify, not a reset. */
static void
test_process_stops(void **state)
{
	struct hb_cluster *c = cluster(true, "");

	(void)state;
	hold_idle(c);
	hb_upstreams_stop();
	PEER_UNTIL(&p, p.s[0].h2 == NULL);
	assert_int_equal(p.s[0].reason, HB_CLOSE_DONE);
}

#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(revoked),
		T(revoked__streams),
		T(revoked__while_connecting),
		T(replaced_cluster),
		T(replaced_cluster__streams),
		T(stale),
		T(process_stops),
	};

	return (cmocka_run_group_tests(tests, group_setup, group_teardown));
}

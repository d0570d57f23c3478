/* SPDX-License-Identifier: Apache-2.0 */
#include "test/filters/transport/tls/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include "core/filter/conn.h"
#include "core/identity/cert.h"
#include "core/identity/reload.h"
#include "core/stats/stats.h"
#include "envoy/config/core/v3/base.pb-c.h"

extern const struct hb_transport_socket_type hb_tsocket_tls;

void
rig_init(void)
{
	static bool registered;

	if (!registered) {
		hb_cfg_types_init();
		HB_ASSERT(hb_transport_socket_register(&hb_tsocket_tls, NULL) == 0);
		registered = true;
	}
	(void)hbt_init(HB_IO_EPOLL);
	hb_clock_fake(hb_worker_control(), 1000000);
}

void
rig_fini(void)
{
	rig_control(1);
	hb_identity_stop();
	hbt_turns(4);
	hb_conn_worker_fini(hbt_worker());
	hbt_fini();
}

/* ------------------------------------------------------------------ configuration */

static struct hb_transport_socket *
compile(bool upstream, const char *common, char *ret_error, size_t cap)
{
	struct hb_cfg *cfg = hb_cfg_new("t", NULL);
	struct hb_transport_socket *s = NULL;
	struct hb_text yaml = { 0 };
	const ProtobufCMessage *m;

	hb_text_printf(&yaml,
		"{name: tls, typed_config: {'@type': type.googleapis.com/"
		"envoy.extensions.transport_sockets.tls.v3.%s, common_tls_context: {%s}}}",
		upstream ? "UpstreamTlsContext" :
			   "DownstreamTlsContext, require_client_certificate: true",
		common);
	m = hb_cfg_parse_text(cfg, hb_strn(yaml.p, yaml.len),
		&envoy__config__core__v3__transport_socket__descriptor);
	if (m != NULL)
		(void)hb_transport_socket_compile(cfg, m, NULL, m, upstream, &s);
	if (s == NULL)
		(void)hb_err_format(&hb_cfg_errs(cfg)->v[0], ret_error, (int)cap);
	hb_text_fini(&yaml);
	hb_cfg_free(&cfg);
	return (s);
}

static struct hb_transport_socket *
must(bool upstream, const char *common)
{
	char error[2048];
	struct hb_transport_socket *s = compile(upstream, common, error, sizeof error);

	if (s == NULL)
		HB_WRONG(error);
	return (s);
}

struct hb_transport_socket *
rig_server(const char *common)
{
	return (must(false, common));
}

struct hb_transport_socket *
rig_client(const char *common)
{
	return (must(true, common));
}

const char *
rig_server_error(const char *common)
{
	static char error[2048];
	struct hb_transport_socket *s = compile(false, common, error, sizeof error);

	HB_ASSERT(s == NULL);
	return (error);
}

char *
rig_certs(const struct hb_test_cert *c)
{
	struct hb_text t = { 0 };

	hb_text_addz(&t, "tls_certificates: [{certificate_chain: {inline_string: ");
	hb_text_json(&t, c->chain_pem, strlen(c->chain_pem));
	hb_text_addz(&t, "}, private_key: {inline_string: ");
	hb_text_json(&t, c->key_pem, strlen(c->key_pem));
	hb_text_addz(&t, "}}]");
	return (hb_text_take(&t));
}

char *
rig_trust(const struct hb_test_cert *root, const char *more)
{
	struct hb_text t = { 0 };

	hb_text_addz(&t, "validation_context: {trusted_ca: {inline_string: ");
	hb_text_json(&t, root->pem, strlen(root->pem));
	hb_text_printf(&t, "}%s%s}", more == NULL ? "" : ", ", more == NULL ? "" : more);
	return (hb_text_take(&t));
}

/* ------------------------------------------------------------------ connections */

/* The text is known while on_closed runs only. */
static void
on_event(struct hbt_sink *s, enum hbt_event event)
{
	struct rig_conn *c = s->arg;
	bool client = s == &c->client;
	const struct hb_tls_info *info;

	if (event != HBT_CLOSED)
		return;
	info = hb_transport_tls_info(c->watched[client ? 0 : 1]);
	if (info->failure != NULL)
		(void)snprintf(client ? c->client_text : c->server_text, sizeof c->client_text,
			"%s", info->failure);
}

void
rig_connect(struct rig_conn *c, const struct hb_transport_socket *client,
	const struct hb_transport_socket *server)
{
	struct hb_transport *a, *b;

	memset(c, 0, sizeof *c);
	hbt_tcp_pair(&a, &b);
	c->watched[0] = hb_transport_socket_wrap(client, a, NULL, HB_STR(""));
	c->watched[1] = hb_transport_socket_wrap(server, b, NULL, HB_STR(""));
	c->client.arg = c->server.arg = c;
	c->client.hook = c->server.hook = on_event;
	c->server.echo = true;
	hbt_attach(&c->client, c->watched[0]);
	hbt_attach(&c->server, c->watched[1]);
	HBT_UNTIL(
		(c->client.secured || c->client.closed) && (c->server.secured || c->server.closed));
	HBT_UNTIL(!(c->client.closed && !c->server.closed) &&
		!(c->server.closed && !c->client.closed));
}

void
rig_conn_fini(struct rig_conn *c)
{
	hbt_sink_fini(&c->client);
	hbt_sink_fini(&c->server);
	hbt_turns(8);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	hbt_turns(2);
}

const char *
rig_serial_seen(const struct rig_conn *c)
{
	HB_ASSERT(c->client.t != NULL);
	return (hb_transport_tls_info(c->client.t)->peer->serial);
}

const char *
rig_serial(const struct hb_test_cert *c)
{
	static char text[64];
	struct hb_credential_pem pem = { .chain = hb_str(c->chain_pem), .key = hb_str(c->key_pem) };
	struct hb_credential *cred;

	HB_ASSERT(hb_credential_new(&pem, &cred, NULL) == 0);
	(void)snprintf(text, sizeof text, "%s", cred->info[0]->serial);
	hb_credential_free(&cred);
	return (text);
}

/* ------------------------------------------------------------------ control thread */

void
rig_control(uint64_t ms)
{
	for (unsigned i = 0; i < 4; i++)
		hb_worker_turn(hb_worker_control(), false);
	hb_clock_advance(hb_worker_control(), ms);
	for (unsigned i = 0; i < 4; i++)
		hb_worker_turn(hb_worker_control(), false);
}

void
rig_until_generation(const struct hb_transport_socket *s, uint64_t from)
{
	for (unsigned i = 0; hb_transport_socket_generation(s) <= from; i++) {
		HB_ASSERT(i < 300);
		rig_control(10);
	}
}

int64_t
rig_stat(const char *name)
{
	struct hb_text t = { 0 };
	char *key = hb_asprintf("\n%s: ", name), *at;
	int64_t value;

	hb_text_addc(&t, '\n');
	hb_stats_text(&t, NULL);
	at = strstr(t.p, key);
	HB_ASSERT(at != NULL);
	value = atoll(at + strlen(key));
	hb_free(key);
	hb_text_fini(&t);
	return (value);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/log.h"
#include "core/filter/explain.h"
#include "core/filter/transport_socket.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb-c.h"
#include "filters/transport/tls/tls_conf_priv.h"

#define SNI_MAX 255u

static int
tls_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, bool upstream, const void **ret_conf)
{
	*ret_conf = upstream ? hb_tls_conf_upstream(cfg, msg) : hb_tls_conf_downstream(cfg, msg);
	return (*ret_conf == NULL ? -EINVAL : 0);
}

static void
tls_conf_free(const void *conf)
{
	struct hb_tls_conf *c = (void *)(uintptr_t)conf;

	hb_tls_conf_free(&c);
}

/* What a filter asked for, else the endpoint's host name; empty = as the context says. */
static struct hb_str
tls_server_name(const struct hb_tls_conf *c, const struct hb_facts *facts, struct hb_str host)
{
	struct hb_addr ip;
	struct hb_str name = { 0 };

	if (facts != NULL)
		name = hb_facts_state(facts, HB_STR(HB_STATE_UPSTREAM_SERVER_NAME));
	if (name.len == 0 && c->auto_host_sni && !hb_addr_parse_ip(host, &ip))
		name = host;
	return (name);
}

static struct hb_transport *
tls_wrap(const void *conf, struct hb_transport *lower, const struct hb_facts *facts,
	struct hb_str host)
{
	const struct hb_tls_conf *c = conf;
	char sni[SNI_MAX + 2];
	struct hb_str name;
	size_t n;

	HB_CHECK(c, HB_TLS_CONF_MAGIC);
	name = tls_server_name(c, facts, host);
	/* One byte too many stays one too many: the handshake then fails with a reason. */
	n = HB_MIN(name.len, sizeof sni - 1);
	if (n > 0)
		memcpy(sni, name.p, n);
	sni[n] = '\0';
	return (hb_tls_new(lower, hb_tls_conf_ctx(c), n == 0 ? NULL : sni));
}

static void
tls_key(const void *conf, const struct hb_facts *facts, struct hb_str host, struct hb_text *t)
{
	const struct hb_tls_conf *c = conf;
	struct hb_str name;

	HB_CHECK(c, HB_TLS_CONF_MAGIC);
	name = tls_server_name(c, facts, host);
	if (name.len > 0)
		hb_text_printf(t, "sni=%.*s;", HB_STR_FMT(name));
}

static enum hb_admits
tls_admits(const void *conf)
{
	const struct hb_tls_conf *c = conf;

	HB_CHECK(c, HB_TLS_CONF_MAGIC);
	if (c->rules != NULL)
		return (hb_rules_is_default(c->rules) ? HB_ADMITS_OWN_NAMESPACE : HB_ADMITS_STATED);
	if (c->trust == NULL || c->tls.n_sans > 0 ||
		c->tls.n_cert_hashes + c->tls.n_spki_hashes > 0)
		return (HB_ADMITS_STATED);
	return (HB_ADMITS_ALL);
}

static int
tls_for_workload(const void *conf, struct hb_cfg *cfg, const void *owner_msg)
{
	struct hb_tls_conf *c = (void *)(uintptr_t)conf;

	HB_CHECK(c, HB_TLS_CONF_MAGIC);
	if (tls_admits(conf) == HB_ADMITS_ALL)
		return (hb_tls_conf_default_rules(c, cfg, owner_msg));
	if (c->rules == NULL && c->trust == NULL &&
		c->tls.n_cert_hashes + c->tls.n_spki_hashes == 0)
		hb_cfg_warn(cfg, owner_msg, "transport_socket", -1,
			"clients are not verified, so that anybody may open tunnels to this workload: "
			"give validation_context.trusted_ca, and its own trust domain and namespace may");
	return (0);
}

static size_t
tls_certs(const void *conf, bool trust, const struct hb_cert_info *const **ret)
{
	const struct hb_tls_conf *c = conf;

	HB_CHECK(c, HB_TLS_CONF_MAGIC);
	return (trust ? hb_tls_ctx_trust(hb_tls_conf_ctx(c), ret) :
			hb_tls_ctx_certs(hb_tls_conf_ctx(c), ret));
}

static bool
tls_holds(const void *conf, struct hb_transport *t)
{
	const struct hb_tls_conf *c = conf;
	const struct hb_tls_info *info;
	const struct hb_cert_info *peer;

	HB_CHECK(c, HB_TLS_CONF_MAGIC);
	if (hb_tls_recheck(t, hb_tls_conf_ctx(c)))
		return (true);
	info = hb_transport_tls_info(t);
	peer = info == NULL ? NULL : info->peer;
	hb_tls_reload_revoked(t->worker);
	HB_LOG(TLS, INFO, "a live connection is ended: its peer is no longer trusted",
		"peer=%s reason=%s",
		peer == NULL                    ? "-" :
			peer->spiffe_id != NULL ? peer->spiffe_id :
						  peer->subject,
		info == NULL || info->failure == NULL ? "it came without TLS" : info->failure);
	return (false);
}

/* By the identity in the facts, as if the certificate had verified. */
static void
tls_explain(const void *conf, const struct hb_facts *facts, struct hb_explain *e)
{
	const struct hb_tls_conf *c = conf;
	struct hb_str principal = hb_facts_tls(facts)->principal;
	char *id = hb_strndup(principal.p, principal.len), text[512];
	struct hb_san san = { HB_SAN_URI, id };
	struct hb_cert_info peer = { .magic = HB_CERT_INFO_MAGIC, .san = &san, .n_san = 1 };
	struct hb_text rules = { 0 };
	struct hb_spiffe parsed;

	HB_CHECK(c, HB_TLS_CONF_MAGIC);
	if (c->rules == NULL) {
		hb_free(id);
		return;
	}
	if (hb_spiffe_parse(principal, &parsed, NULL) == 0)
		peer.spiffe_id = id;
	hb_rules_describe(c->rules, &rules);
	if (principal.len == 0) {
		hb_explain_step(e, "identity", "rules", "pass", "no peer was given; they allow %s",
			rules.p);
	} else if (hb_rules_judge(c->rules, &peer,
			   c->n_pairs > 0 ? c->pairs[0].good->info[0] : NULL, text,
			   sizeof text) == HB_RULES_ALLOWED) {
		hb_explain_step(e, "identity", id, "allow", "by %s", text);
	} else {
		hb_explain_step(e, "identity", id, "deny", "%s", text);
		hb_explain_step(
			e, "result", "TLS", "refused", "the handshake fails (tls_san_mismatch)");
		hb_explain_stop(e);
	}
	hb_text_fini(&rules);
	hb_free(id);
}

static uint64_t
tls_generation(const void *conf)
{
	const struct hb_tls_conf *c = conf;

	HB_CHECK(c, HB_TLS_CONF_MAGIC);
	return (atomic_load_explicit(&c->generation, memory_order_acquire));
}

extern const struct hb_transport_socket_type hb_tsocket_tls;
const struct hb_transport_socket_type hb_tsocket_tls = {
	.name = "envoy.transport_sockets.tls",
	.downstream =
		&envoy__extensions__transport_sockets__tls__v3__downstream_tls_context__descriptor,
	.upstream =
		&envoy__extensions__transport_sockets__tls__v3__upstream_tls_context__descriptor,
	.compile = tls_compile,
	.conf_free = tls_conf_free,
	.wrap = tls_wrap,
	.certs = tls_certs,
	.generation = tls_generation,
	.explain = tls_explain,
	.holds = tls_holds,
	.admits = tls_admits,
	.for_workload = tls_for_workload,
	.secure = true,
	.key = tls_key,
};

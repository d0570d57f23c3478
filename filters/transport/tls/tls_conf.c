/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/base64.h>
#include <time.h>
#include "core/identity/cert.h"
#include "core/identity/inspect.h"
#include "core/identity/search.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb-c.h"
#include "hbone/identity/spiffe_rules.pb-c.h"
#include "hbone/transport_sockets/tls/handshaker.pb-c.h"
#include "filters/transport/tls/tls_conf_priv.h"

#define HASH_SIZE             32u
#define HASHES_MAX            1024u
#define NAMES_MAX             1024u
/* A dial's connect_timeout rules, which may be longer than the default of a handshake. */
#define UPSTREAM_HANDSHAKE_MS (24u * 3600u * 1000u)
#define CERTS_MAX             64u
#define TICKET_KEYS_MAX       16u
#define ESCAPES                                                           \
	"a client without a certificate escapes the identity rules: set " \
	"require_client_certificate"
#define SESSIONS_DEFAULT 256u
#define SESSIONS_MAX     100000u

typedef Envoy__Extensions__TransportSockets__Tls__V3__CommonTlsContext CommonMsg;
typedef Envoy__Extensions__TransportSockets__Tls__V3__UpstreamTlsContext UpstreamMsg;
typedef Envoy__Extensions__TransportSockets__Tls__V3__DownstreamTlsContext DownstreamMsg;
typedef Envoy__Extensions__TransportSockets__Tls__V3__CertificateValidationContext ValidationMsg;
typedef Envoy__Extensions__TransportSockets__Tls__V3__TlsCertificate CertificateMsg;
typedef Envoy__Extensions__TransportSockets__Tls__V3__SubjectAltNameMatcher SanMsg;
typedef Envoy__Type__Matcher__V3__StringMatcher StringMsg;
typedef Envoy__Config__Core__V3__DataSource SourceMsg;

/* What lives only while a message is read. */
struct build {
	struct hb_cfg *cfg;
	struct hb_tls_conf *conf;
	size_t errors; /* of the document before this message */
	int r;
	/* Certificates by search; NULL = by the context itself. */
	const Hbone__TransportSockets__Tls__WorkloadCertificates *search;
	struct hb_identity_paths found;
};

static const char *
file_of(const SourceMsg *s)
{
	if (s->specifier_case != ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_FILENAME)
		return (NULL);
	return (s->filename);
}

/* Leaves *ret without bytes when there is no source or it cannot be read. */
static void
source(struct build *b, const void *msg, const char *field, const SourceMsg *s,
	struct hb_tls_source *ret)
{
	struct hb_text t;

	if (s == NULL)
		return;
	ret->conf = b->conf;
	if (hb_cfg_data_source(b->cfg, msg, field, s, HB_FILE_MAX, &t) != 0) {
		b->r = -EINVAL;
		return;
	}
	if (t.len == 0)
		b->r = hb_cfg_error(b->cfg, msg, field, -1, "is empty");
	if (file_of(s) != NULL)
		ret->file = hb_strdup(file_of(s));
	ret->good = hb_blob_new(&t);
}

/* The same of a file that the search has found. */
static void
found_source(struct build *b, const char *path, struct hb_tls_source *ret)
{
	struct hb_text t = { 0 };
	struct hb_err err = { 0 };

	if (path == NULL)
		return;
	if (hb_file_read(path, &t, &err) == 0 && t.len == 0)
		(void)hb_err_set(&err, -EINVAL, "%s is empty", path);
	if (err.code != 0) {
		b->r = hb_cfg_error(b->cfg, b->search, NULL, -1, "%s", err.text);
		return;
	}
	ret->conf = b->conf;
	ret->file = hb_strdup(path);
	ret->good = hb_blob_new(&t);
}

static struct hb_str
bytes(const struct hb_tls_source *s)
{
	return (s->good == NULL ? (struct hb_str){ 0 } :
				  hb_strn(s->good->text.p, s->good->text.len));
}

/* ------------------------------------------------------------------ parameters */

/* NULL when there is nothing to join. */
static char *
join(char *const *v, size_t n)
{
	struct hb_text t = { 0 };

	for (size_t i = 0; i < n; i++)
		hb_text_printf(&t, "%s%s", i == 0 ? "" : ":", v[i]);
	return (n == 0 ? NULL : hb_text_take(&t));
}

static void
params(struct build *b, const CommonMsg *m)
{
	const Envoy__Extensions__TransportSockets__Tls__V3__TlsParameters *p = m->tls_params;
	struct hb_tls_conf *c = b->conf;

	c->alpn = hb_calloc(m->n_alpn_protocols + 1, sizeof c->alpn[0]);
	for (size_t i = 0; i < m->n_alpn_protocols; i++)
		c->alpn[i] = hb_strdup(m->alpn_protocols[i]);
	c->tls.alpn = (const char *const *)c->alpn;
	c->tls.n_alpn = m->n_alpn_protocols;
	if (p == NULL)
		return;
	/* Both enumerations count from "automatic" to 1.3. */
	c->tls.min = (enum hb_tls_version)p->tls_minimum_protocol_version;
	c->tls.max = (enum hb_tls_version)p->tls_maximum_protocol_version;
	c->tls.cipher_list = c->ciphers = join(p->cipher_suites, p->n_cipher_suites);
	c->tls.groups = c->groups = join(p->ecdh_curves, p->n_ecdh_curves);
}

/* No errors: a renewed file may come any moment, and is taken then. */
static void
look_at_dates(struct hb_cfg *cfg, const void *msg, const struct hb_credential *good)
{
	int64_t now = (int64_t)time(NULL);
	char date[32];

	for (size_t i = 0; i < good->n; i++) {
		const struct hb_cert_info *c = good->info[i];

		if (c->not_before <= now && c->not_after >= now)
			continue;
		hb_inspect_date(c->not_after < now ? c->not_after : c->not_before, date);
		hb_cfg_warn(cfg, msg, "certificate_chain", -1,
			"%s (certificate %zu) %s %s: peers refuse it; %s", c->subject, i + 1,
			c->not_after < now ? "has expired on" : "is not valid before", date,
			c->not_after < now ? "renew it" : "check the clocks");
	}
}

/* Its texts are there, or errors were reported. */
static void
make_pair(struct build *b, const void *msg, struct hb_tls_pair *p)
{
	struct hb_str texts[3];
	struct hb_err err;

	if (p->chain.good == NULL || p->key.good == NULL)
		return;
	texts[0] = bytes(&p->chain);
	texts[1] = bytes(&p->key);
	texts[2] = bytes(&p->password);
	hb_tls_reload_digest(texts, 3, p->seen);
	if (hb_credential_shared(&(struct hb_credential_pem){ texts[0], texts[1], texts[2],
					 p->chain.file, p->key.file },
		    &p->good, &err) != 0)
		b->r = hb_cfg_error(b->cfg, msg, NULL, -1, "%s", err.text);
	else
		look_at_dates(b->cfg, msg, p->good);
}

static void
certificate(struct build *b, const CertificateMsg *m, struct hb_tls_pair *p)
{
	if (m->certificate_chain == NULL)
		b->r = hb_cfg_error(b->cfg, m, NULL, -1, "certificate_chain is missing");
	if (m->private_key == NULL)
		b->r = hb_cfg_error(b->cfg, m, NULL, -1, "private_key is missing");
	source(b, m, "certificate_chain", m->certificate_chain, &p->chain);
	source(b, m, "private_key", m->private_key, &p->key);
	source(b, m, "password", m->password, &p->password);
	make_pair(b, m, p);
}

static void
search(struct build *b, const CommonMsg *m)
{
	struct hb_err err;

	if (m->n_tls_certificates > 0)
		b->r = hb_cfg_error(b->cfg, m, "tls_certificates", -1,
			"stands beside workload_certificates of custom_handshaker: remove one of them");
	else if (hb_identity_search(b->search->directory, &b->found, &err) != 0)
		b->r = hb_cfg_error(b->cfg, b->search, NULL, -1, "%s", err.text);
}

static void
certificates(struct build *b, const CommonMsg *m)
{
	size_t n = b->search != NULL ? 1 : HB_MIN(m->n_tls_certificates, (size_t)CERTS_MAX);
	struct hb_tls_conf *c = b->conf;

	if (m->n_tls_certificates > CERTS_MAX)
		b->r = hb_cfg_error(
			b->cfg, m, "tls_certificates", -1, "has more than %u entries", CERTS_MAX);
	else if (!c->tls.server && n > 1)
		b->r = hb_cfg_error(b->cfg, m, "tls_certificates", -1,
			"a client has one certificate, not %zu", n);
	c->pairs = hb_calloc(n + 1, sizeof c->pairs[0]);
	c->creds = hb_calloc(n + 1, sizeof c->creds[0]);
	c->n_pairs = n;
	if (b->search != NULL) {
		found_source(b, b->found.chain, &c->pairs[0].chain);
		found_source(b, b->found.key, &c->pairs[0].key);
		make_pair(b, b->search, &c->pairs[0]);
	}
	for (size_t i = 0; i < n; i++) {
		if (b->search == NULL)
			certificate(b, m->tls_certificates[i], &c->pairs[i]);
		c->creds[i] = c->pairs[i].good;
	}
	c->tls.credentials = c->creds;
	c->tls.n_credentials = n;
}

/* ------------------------------------------------------------------ names */

static bool
name_matches(const void *arg, struct hb_str value)
{
	const struct hb_tls_name *n = arg;

	return (hb_string_match(n->matcher, value));
}

/* A wildcard of the certificate stands for an exact name. */
static bool
dns_name_matches(const void *arg, struct hb_str value)
{
	const struct hb_tls_name *n = arg;

	return (hb_string_match(n->matcher, value) ||
		(n->exact != NULL && hb_dns_name_covers(value, hb_str(n->exact))));
}

static void
add_name(struct build *b, const void *owner, const char *field, int index, const StringMsg *m,
	unsigned first, unsigned last)
{
	struct hb_tls_name *n = &b->conf->names[b->conf->n_names];

	n->matcher = hb_string_matcher_compile(b->cfg, owner, field, index, m);
	if (n->matcher == NULL) {
		b->r = -EINVAL;
		return;
	}
	if (m->match_pattern_case == ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_EXACT)
		n->exact = hb_strdup(m->exact);
	b->conf->n_names++;
	for (unsigned type = first; type <= last; type++)
		b->conf->sans[b->conf->tls.n_sans++] = (struct hb_tls_san_match){
			.type = (enum hb_san_type)type,
			.match = type == HB_SAN_DNS ? dns_name_matches : name_matches,
			.arg = n,
		};
}

static void
names(struct build *b, const ValidationMsg *m)
{
	size_t typed = m->n_match_typed_subject_alt_names, any = m->n_match_subject_alt_names;

	if (typed + any > NAMES_MAX) {
		b->r = hb_cfg_error(b->cfg, m, "match_typed_subject_alt_names", -1,
			"more than %u names", NAMES_MAX);
		return;
	}
	b->conf->names = hb_calloc(typed + any + 1, sizeof *b->conf->names);
	b->conf->sans = hb_calloc(typed + any * HB_SAN_IP + 1, sizeof *b->conf->sans);
	b->conf->tls.sans = b->conf->sans;
	for (size_t i = 0; i < typed; i++) {
		const SanMsg *s = m->match_typed_subject_alt_names[i];

		if (s->san_type < (int)HB_SAN_EMAIL || s->san_type > (int)HB_SAN_IP)
			b->r = hb_cfg_error(
				b->cfg, s, "san_type", -1, "must be EMAIL, DNS, URI or IP_ADDRESS");
		else if (s->matcher == NULL)
			b->r = hb_cfg_error(b->cfg, s, NULL, -1, "matcher is missing");
		else
			add_name(b, s, "matcher", -1, s->matcher, s->san_type, s->san_type);
	}
	for (size_t i = 0; i < any; i++)
		add_name(b, m, "match_subject_alt_names", (int)i, m->match_subject_alt_names[i],
			HB_SAN_EMAIL, HB_SAN_IP);
}

/* ------------------------------------------------------------------ pins */

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return (c - '0');
	c |= 0x20;
	return (c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1);
}

/* 64 hexadecimal digits, or 32 pairs with colons between them. */
static bool
hex_digest(const char *z, uint8_t ret[HASH_SIZE])
{
	bool colons = strlen(z) == 3 * HASH_SIZE - 1;

	if (!colons && strlen(z) != 2 * HASH_SIZE)
		return (false);
	for (size_t i = 0; i < HASH_SIZE; i++) {
		int hi, lo;

		if (colons && i > 0 && *z++ != ':')
			return (false);
		hi = hex_digit(*z++);
		lo = hex_digit(*z++);
		if (hi < 0 || lo < 0)
			return (false);
		ret[i] = (uint8_t)(hi << 4 | lo);
	}
	return (true);
}

static bool
base64_digest(const char *z, uint8_t ret[HASH_SIZE])
{
	uint8_t raw[48];
	size_t n;

	if (strlen(z) != 44 || EVP_DecodeBase64(raw, &n, sizeof raw, (const uint8_t *)z, 44) != 1 ||
		n != HASH_SIZE)
		return (false);
	memcpy(ret, raw, HASH_SIZE);
	return (true);
}

static void
pins(struct build *b, const ValidationMsg *m)
{
	size_t nc = m->n_verify_certificate_hash, ns = m->n_verify_certificate_spki;
	struct hb_tls_conf *c = b->conf;

	if (nc + ns > HASHES_MAX) {
		b->r = hb_cfg_error(b->cfg, m, "verify_certificate_hash", -1,
			"more than %u pinned certificates and keys", HASHES_MAX);
		return;
	}
	c->digests = hb_calloc(nc + ns + 1, HASH_SIZE);
	c->hashes = hb_calloc(nc + ns + 1, sizeof *c->hashes);
	for (size_t i = 0; i < nc + ns; i++) {
		c->hashes[i] = hb_strn(c->digests[i], HASH_SIZE);
		if (i < nc && !hex_digest(m->verify_certificate_hash[i], c->digests[i]))
			b->r = hb_cfg_error(b->cfg, m, "verify_certificate_hash", (int)i,
				"must be a SHA-256 in 64 hexadecimal digits");
		if (i >= nc && !base64_digest(m->verify_certificate_spki[i - nc], c->digests[i]))
			b->r = hb_cfg_error(b->cfg, m, "verify_certificate_spki", (int)(i - nc),
				"must be a SHA-256 in base64 (44 characters)");
	}
	c->tls.cert_hashes = c->hashes;
	c->tls.n_cert_hashes = nc;
	c->tls.spki_hashes = c->hashes + nc;
	c->tls.n_spki_hashes = ns;
}

/* ------------------------------------------------------------------ identities */

static struct hb_rules_list
list_of(char *const *v, size_t n)
{
	return ((struct hb_rules_list){ (const char *const *)v, n });
}

static void
rules(struct build *b, const ValidationMsg *m)
{
	const Envoy__Config__Core__V3__TypedExtensionConfig *ext = m->custom_validator_config;
	const Hbone__Identity__SpiffeRules *r;
	const char *list;
	struct hb_err err;
	size_t index;

	if (ext == NULL)
		return;
	r = hb_cfg_any_of(b->cfg, ext, "typed_config", -1, ext->typed_config,
		&hbone__identity__spiffe_rules__descriptor);
	if (r == NULL) {
		b->r = -EINVAL;
		return;
	}
	if (hb_rules_new(
		    &(struct hb_rules_options){
			    .trust_domains = list_of(r->trust_domains, r->n_trust_domains),
			    .trust_domain_aliases = list_of(
				    r->trust_domain_aliases, r->n_trust_domain_aliases),
			    .namespaces = list_of(r->namespaces, r->n_namespaces),
			    .service_accounts = list_of(r->service_accounts, r->n_service_accounts),
			    .ids = list_of(r->ids, r->n_ids),
			    .id_prefixes = list_of(r->id_prefixes, r->n_id_prefixes),
		    },
		    &b->conf->rules, &list, &index, &err) != 0)
		b->r = hb_cfg_error(b->cfg, r, list, (int)index, "%s", err.text);
	b->conf->tls.rules = b->conf->rules;
}

/* ------------------------------------------------------------------ whole contexts */

/* What the context names goes before what was found. */
static void
trust_sources(struct build *b, const ValidationMsg *m)
{
	struct hb_tls_conf *c = b->conf;

	source(b, m, "trusted_ca", m->trusted_ca, &c->ca);
	source(b, m, "crl", m->crl, &c->crl);
	if (b->found.chain == NULL || m->trusted_ca != NULL)
		return;
	if (b->found.roots == NULL)
		b->r = hb_cfg_error(b->cfg, b->search, NULL, -1,
			"there are no roots beside %s: put root-cert.pem there, or give "
			"validation_context.trusted_ca",
			b->found.chain);
	found_source(b, b->found.roots, &c->ca);
	if (m->crl == NULL)
		found_source(b, b->found.crl, &c->crl);
}

/* Anchors alone first, so that an error is told where it belongs. */
static void
trust(struct build *b, const ValidationMsg *m)
{
	struct hb_tls_conf *c = b->conf;
	bool ca_found = m->trusted_ca == NULL && b->search != NULL;
	bool crl_found = ca_found && m->crl == NULL;
	struct hb_trust_options o;
	struct hb_str ca, crl;
	struct hb_err err;

	trust_sources(b, m);
	ca = bytes(&c->ca);
	crl = bytes(&c->crl);
	hb_tls_reload_digest(&ca, 1, c->ca_seen);
	hb_tls_reload_digest(&crl, 1, c->crl_seen);
	c->tls.trust_file = c->ca.file;
	c->tls.crl_file = c->crl.file;
	if (c->crl.good != NULL && m->trusted_ca == NULL && !ca_found)
		b->r = hb_cfg_error(b->cfg, m, "crl", -1,
			"has no effect without a trust bundle: give trusted_ca");
	if (b->r != 0 || c->ca.good == NULL)
		return;
	o = hb_tls_reload_trust_options(c, ca, (struct hb_str){ 0 });
	if (hb_trust_shared(&o, &c->trust, &err) != 0) {
		b->r = hb_cfg_error(b->cfg, ca_found ? (const void *)b->search : m,
			ca_found ? NULL : "trusted_ca", -1, "%s", err.text);
		return;
	}
	if (c->crl.good != NULL) {
		hb_trust_free(&c->trust);
		o = hb_tls_reload_trust_options(c, ca, crl);
		if (hb_trust_shared(&o, &c->trust, &err) != 0)
			b->r = hb_cfg_error(b->cfg, crl_found ? (const void *)b->search : m,
				crl_found ? NULL : "crl", -1, "%s", err.text);
	}
	c->tls.trust = c->trust;
}

static void
validation(struct build *b, const ValidationMsg *m)
{
	struct hb_tls_config *c = &b->conf->tls;

	c->crl_leaf_only = m->only_verify_leaf_cert_crl;
	c->allow_expired = m->allow_expired_certificate;
	c->accept_untrusted = m->trust_chain_verification ==
		ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__CERTIFICATE_VALIDATION_CONTEXT__TRUST_CHAIN_VERIFICATION__ACCEPT_UNTRUSTED;
	c->max_verify_depth = hb_cfg_u32(
		b->cfg, m, "max_verify_depth", m->max_verify_depth, 1, 100, 100);
	trust(b, m);
	names(b, m);
	pins(b, m);
	rules(b, m);
}

static void
handshaker(struct build *b, const CommonMsg *m)
{
	const Envoy__Config__Core__V3__TypedExtensionConfig *ext = m->custom_handshaker;
	const Hbone__TransportSockets__Tls__Handshaker *h;

	if (ext == NULL)
		return;
	h = hb_cfg_any_of(b->cfg, ext, "typed_config", -1, ext->typed_config,
		&hbone__transport_sockets__tls__handshaker__descriptor);
	if (h == NULL) {
		b->r = -EINVAL;
		return;
	}
	b->conf->tls.bare_fin_is_end = h->end_without_close_notify;
	b->search = h->workload_certificates;
	if (b->search != NULL)
		search(b, m);
}

static void
common(struct build *b, const CommonMsg *m)
{
	static const ValidationMsg none =
		ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__CERTIFICATE_VALIDATION_CONTEXT__INIT;

	params(b, m);
	handshaker(b, m);
	certificates(b, m);
	if (m->validation_context_type_case ==
		ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT)
		validation(b, m->validation_context);
	else if (b->search != NULL)
		validation(b, &none);
	hb_identity_paths_fini(&b->found);
}

/* Keys are not kept twice; what never changes is. */
static void
forget_text(struct hb_tls_source *s)
{
	if (s->file != NULL)
		hb_blob_free(&s->good);
}

static size_t
errors_of(struct hb_cfg *cfg)
{
	return (hb_cfg_errs(cfg)->n + hb_cfg_errs(cfg)->dropped);
}

/* Errors of values went to cfg one by one; now those of the whole. */
static struct hb_tls_conf *
finish(struct build *b, const void *msg)
{
	struct hb_tls_conf *c = b->conf;
	struct hb_tls_ctx *ctx = NULL;
	struct hb_err err;

	if (b->r == 0 && errors_of(b->cfg) == b->errors) {
		ctx = hb_tls_ctx_new(&c->tls, &err);
		if (ctx == NULL)
			(void)hb_cfg_error(b->cfg, msg, "common_tls_context", -1, "%s", err.text);
	}
	if (ctx == NULL) {
		hb_tls_conf_unref(c);
		return (NULL);
	}
	for (size_t i = 0; i < c->n_pairs; i++) {
		forget_text(&c->pairs[i].chain);
		forget_text(&c->pairs[i].key);
		forget_text(&c->pairs[i].password);
	}
	c->refs++;
	atomic_store_explicit(&c->ctx, ctx, memory_order_release);
	hb_tls_reload_start(c);
	return (c);
}

static void
build_init(struct build *b, struct hb_cfg *cfg, bool server)
{
	memset(b, 0, sizeof *b);
	HB_NEW(b->conf, HB_TLS_CONF_MAGIC);
	hb_list_init(&b->conf->dirty);
	b->conf->refs = 1;
	b->conf->tls.server = server;
	b->cfg = cfg;
	b->errors = errors_of(cfg);
}

static bool
judges_nobody(const struct hb_tls_config *c)
{
	return (c->trust == NULL && c->n_cert_hashes + c->n_spki_hashes == 0);
}

void
hb_tls_conf_ticket_keys(struct hb_tls_conf *c)
{
	for (size_t i = 0; i < c->n_tickets; i++)
		c->ticket_keys[i] = bytes(&c->tickets[i]);
	c->tls.ticket_keys = c->ticket_keys;
	c->tls.n_ticket_keys = c->n_tickets;
}

static void
ticket_keys(struct build *b,
	const Envoy__Extensions__TransportSockets__Tls__V3__TlsSessionTicketKeys *m)
{
	struct hb_tls_conf *c = b->conf;

	if (m->n_keys == 0 || m->n_keys > TICKET_KEYS_MAX) {
		b->r = hb_cfg_error(
			b->cfg, m, "keys", -1, "needs 1 to %u entries", TICKET_KEYS_MAX);
		return;
	}
	c->tickets = hb_calloc(m->n_keys, sizeof c->tickets[0]);
	c->ticket_keys = hb_calloc(m->n_keys, sizeof c->ticket_keys[0]);
	c->n_tickets = m->n_keys;
	for (size_t i = 0; i < m->n_keys; i++) {
		source(b, m, "keys", m->keys[i], &c->tickets[i]);
		if (c->tickets[i].good != NULL && c->tickets[i].good->text.len != HB_TLS_TICKET_KEY)
			b->r = hb_cfg_error(b->cfg, m, "keys", (int)i,
				"has %zu bytes; a key has %u (head -c %u /dev/urandom makes one)",
				c->tickets[i].good->text.len, HB_TLS_TICKET_KEY, HB_TLS_TICKET_KEY);
	}
	hb_tls_conf_ticket_keys(c);
	hb_tls_reload_digest(c->ticket_keys, c->n_tickets, c->tickets_seen);
}

static void
resumption(struct build *b, const DownstreamMsg *m)
{
	struct hb_tls_config *c = &b->conf->tls;
	uint64_t ms = hb_cfg_duration_ms(b->cfg, m, "session_timeout", m->session_timeout,
		HB_TLS_SESSION_TIMEOUT * UINT64_C(1000));

	c->no_tickets = ms < 1000 ||
		(m->session_ticket_keys_type_case ==
				ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__DOWNSTREAM_TLS_CONTEXT__SESSION_TICKET_KEYS_TYPE_DISABLE_STATELESS_SESSION_RESUMPTION &&
			m->disable_stateless_session_resumption);
	c->session_timeout_s = (uint32_t)HB_MIN(ms / 1000, HB_TLS_SESSION_TIMEOUT_MAX);
	if (m->session_ticket_keys_type_case ==
		ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__DOWNSTREAM_TLS_CONTEXT__SESSION_TICKET_KEYS_TYPE_SESSION_TICKET_KEYS)
		ticket_keys(b, m->session_ticket_keys);
}

struct hb_tls_conf *
hb_tls_conf_downstream(struct hb_cfg *cfg, const void *msg)
{
	const DownstreamMsg *m = msg;
	struct hb_tls_config *c;
	struct build b;

	build_init(&b, cfg, true);
	c = &b.conf->tls;
	c->require_peer_cert = hb_cfg_bool(m->require_client_certificate, false);
	b.conf->cert_optional = m->require_client_certificate != NULL && !c->require_peer_cert;
	c->require_sni = hb_cfg_bool(m->require_sni, false);
	resumption(&b, m);
	if (m->common_tls_context != NULL)
		common(&b, m->common_tls_context);
	if (b.conf->n_pairs == 0)
		b.r = hb_cfg_error(cfg, m,
			m->common_tls_context == NULL ? NULL : "common_tls_context", -1,
			"a TLS server needs a certificate: give common_tls_context.tls_certificates");
	if (b.r == 0 && c->require_peer_cert && judges_nobody(c))
		hb_cfg_warn(cfg, m, "require_client_certificate", -1,
			"any certificate is accepted: give validation_context.trusted_ca to verify clients");
	if (b.r == 0 && c->rules != NULL && !c->require_peer_cert)
		hb_cfg_warn(cfg, m, NULL, -1, ESCAPES);
	return (finish(&b, msg));
}

int
hb_tls_conf_default_rules(struct hb_tls_conf *c, struct hb_cfg *cfg, const void *owner_msg)
{
	static const struct hb_rules_options none;
	struct hb_tls_ctx *ctx;
	struct hb_err err;
	const char *list;
	size_t index;
	int r = hb_rules_new(&none, &c->rules, &list, &index, &err);

	HB_ASSERT(r == 0 && c->tls.server && c->n_pairs > 0);
	c->tls.rules = c->rules;
	c->tls.require_peer_cert = !c->cert_optional;
	ctx = hb_tls_ctx_new(&c->tls, &err);
	if (ctx == NULL)
		return (hb_cfg_error(cfg, owner_msg, "transport_socket", -1,
			"a workload lets in the same trust domain and namespace by default: %s "
			"(hbone.identity.SpiffeRules in validation_context.custom_validator_config)",
			err.text));
	/* The reference of the conf that the old one had is the new one's. */
	ctx = atomic_exchange_explicit(&c->ctx, ctx, memory_order_acq_rel);
	hb_tls_ctx_free(&ctx);
	hb_cfg_note(cfg, owner_msg, "transport_socket", -1,
		"tunnels to this workload by default: same trust domain and namespace as %s "
		"(hbone.identity.SpiffeRules opens it for others)",
		c->pairs[0].good->info[0]->spiffe_id);
	if (c->cert_optional)
		hb_cfg_warn(cfg, owner_msg, "transport_socket", -1, ESCAPES);
	return (0);
}

struct hb_tls_conf *
hb_tls_conf_upstream(struct hb_cfg *cfg, const void *msg)
{
	const UpstreamMsg *m = msg;
	struct hb_tls_config *c;
	struct build b;

	build_init(&b, cfg, false);
	c = &b.conf->tls;
	if (*m->sni != '\0')
		c->sni = b.conf->sni = hb_strdup(m->sni);
	c->sni_is_identity = m->auto_sni_san_validation;
	c->max_sessions = hb_cfg_u32(
		cfg, m, "max_session_keys", m->max_session_keys, 0, SESSIONS_MAX, SESSIONS_DEFAULT);
	c->handshake_timeout_ms = UPSTREAM_HANDSHAKE_MS;
	b.conf->auto_host_sni = m->auto_host_sni;
	if (m->common_tls_context != NULL)
		common(&b, m->common_tls_context);
	if (b.r == 0 && judges_nobody(c))
		hb_cfg_warn(cfg, m, NULL, -1,
			"the peer is not verified: give common_tls_context.validation_context.trusted_ca");
	return (finish(&b, msg));
}

/* ------------------------------------------------------------------ end */

static void
source_fini(struct hb_tls_source *s)
{
	HB_ASSERT(s->user.file == NULL);
	hb_free(s->file);
	hb_blob_free(&s->good);
}

static void
pairs_fini(struct hb_tls_conf *c)
{
	for (size_t i = 0; i < c->n_pairs; i++) {
		source_fini(&c->pairs[i].chain);
		source_fini(&c->pairs[i].key);
		source_fini(&c->pairs[i].password);
		hb_credential_free(&c->pairs[i].good);
	}
	hb_free(c->pairs);
	hb_free(c->creds);
}

void
hb_tls_conf_unref(struct hb_tls_conf *c)
{
	HB_CHECK(c, HB_TLS_CONF_MAGIC);
	HB_ASSERT(c->refs > 0);
	if (--c->refs > 0)
		return;
	pairs_fini(c);
	source_fini(&c->ca);
	source_fini(&c->crl);
	for (size_t i = 0; i < c->n_tickets; i++)
		source_fini(&c->tickets[i]);
	hb_free(c->tickets);
	hb_free(c->ticket_keys);
	hb_trust_free(&c->trust);
	hb_rules_free(&c->rules);
	for (size_t i = 0; i < c->n_names; i++) {
		hb_string_matcher_free(&c->names[i].matcher);
		hb_free(c->names[i].exact);
	}
	for (size_t i = 0; i < c->tls.n_alpn; i++)
		hb_free(c->alpn[i]);
	hb_free(c->alpn);
	hb_free(c->names);
	hb_free(c->sans);
	hb_free(c->hashes);
	hb_free(c->digests);
	hb_free(c->ciphers);
	hb_free(c->groups);
	hb_free(c->sni);
	HB_DEL(c);
}

void
hb_tls_conf_free(struct hb_tls_conf **pc)
{
	struct hb_tls_conf *c = *pc;

	*pc = NULL;
	if (c == NULL)
		return;
	HB_CHECK(c, HB_TLS_CONF_MAGIC);
	hb_tls_reload_stop(c);
	hb_tls_reload_drop(c, atomic_exchange_explicit(&c->ctx, NULL, memory_order_acq_rel));
	hb_tls_conf_unref(c);
}

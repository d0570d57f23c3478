/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/base64.h>
#include "core/identity/cert.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb-c.h"
#include "filters/transport/tls/tls_conf_priv.h"

#define PEM_MAX               (4u << 20) /* one source of certificates, keys or revocation lists */
#define HASH_SIZE             32u
#define HASHES_MAX            1024u
#define NAMES_MAX             1024u
/* A dial's connect_timeout rules, which may be longer than the default of a handshake. */
#define UPSTREAM_HANDSHAKE_MS (24u * 3600u * 1000u)
#define CERTS_MAX             64u

typedef Envoy__Extensions__TransportSockets__Tls__V3__CommonTlsContext CommonMsg;
typedef Envoy__Extensions__TransportSockets__Tls__V3__UpstreamTlsContext UpstreamMsg;
typedef Envoy__Extensions__TransportSockets__Tls__V3__DownstreamTlsContext DownstreamMsg;
typedef Envoy__Extensions__TransportSockets__Tls__V3__CertificateValidationContext ValidationMsg;
typedef Envoy__Extensions__TransportSockets__Tls__V3__TlsCertificate CertificateMsg;
typedef Envoy__Extensions__TransportSockets__Tls__V3__SubjectAltNameMatcher SanMsg;
typedef Envoy__Type__Matcher__V3__StringMatcher StringMsg;
typedef Envoy__Config__Core__V3__DataSource SourceMsg;

/* What lives only while one context is made. */
struct build {
	struct hb_cfg *cfg;
	struct hb_tls_conf *conf;
	struct hb_tls_config tls;
	struct hb_tls_cert *certs; /* owned                                      */
	struct hb_text *texts;     /* owned; three for each certificate          */
	struct hb_text trust, crl, ciphers, groups;
	struct hb_tls_san_match *sans; /* owned                                      */
	struct hb_str *hashes;         /* owned; certificates, then public keys      */
	uint8_t (*digests)[HASH_SIZE]; /* owned; what hashes point to    */
	int r;
};

static void
build_fini(struct build *b)
{
	for (size_t i = 0; i < 3 * b->tls.n_certs; i++)
		hb_text_fini(&b->texts[i]);
	hb_free(b->texts);
	hb_free(b->certs);
	hb_free(b->sans);
	hb_free(b->hashes);
	hb_free(b->digests);
	hb_text_fini(&b->trust);
	hb_text_fini(&b->crl);
	hb_text_fini(&b->ciphers);
	hb_text_fini(&b->groups);
}

static const char *
file_of(const SourceMsg *s)
{
	if (s == NULL ||
		s->specifier_case != ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_FILENAME)
		return (NULL);
	return (s->filename);
}

/* Empty when there is no source. */
static struct hb_str
source(struct build *b, const void *msg, const char *field, const SourceMsg *s, struct hb_text *t)
{
	if (s == NULL)
		return ((struct hb_str){ 0 });
	if (hb_cfg_data_source(b->cfg, msg, field, s, PEM_MAX, t) != 0)
		b->r = -EINVAL;
	else if (t->len == 0)
		b->r = hb_cfg_error(b->cfg, msg, field, -1, "is empty");
	return (hb_strn(t->p, t->len));
}

/* ------------------------------------------------------------------ parameters */

static char *
join(struct hb_text *t, char *const *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		hb_text_printf(t, "%s%s", i == 0 ? "" : ":", v[i]);
	return (n == 0 ? NULL : t->p);
}

static void
params(struct build *b, const CommonMsg *m)
{
	const Envoy__Extensions__TransportSockets__Tls__V3__TlsParameters *p = m->tls_params;

	b->tls.alpn = (const char *const *)m->alpn_protocols;
	b->tls.n_alpn = m->n_alpn_protocols;
	if (p == NULL)
		return;
	/* Both enumerations count from "automatic" to 1.3. */
	b->tls.min = (enum hb_tls_version)p->tls_minimum_protocol_version;
	b->tls.max = (enum hb_tls_version)p->tls_maximum_protocol_version;
	b->tls.cipher_list = join(&b->ciphers, p->cipher_suites, p->n_cipher_suites);
	b->tls.groups = join(&b->groups, p->ecdh_curves, p->n_ecdh_curves);
}

static void
certificates(struct build *b, const CommonMsg *m)
{
	size_t n = HB_MIN(m->n_tls_certificates, (size_t)CERTS_MAX);

	if (m->n_tls_certificates > CERTS_MAX)
		b->r = hb_cfg_error(
			b->cfg, m, "tls_certificates", -1, "has more than %u entries", CERTS_MAX);
	else if (!b->tls.server && n > 1)
		b->r = hb_cfg_error(b->cfg, m, "tls_certificates", -1,
			"a client has one certificate, not %zu", n);
	b->certs = hb_calloc(n + 1, sizeof *b->certs);
	b->texts = hb_calloc(3 * n + 1, sizeof *b->texts);
	b->tls.n_certs = n;
	b->tls.certs = b->certs;
	for (size_t i = 0; i < n; i++) {
		const CertificateMsg *c = m->tls_certificates[i];
		struct hb_text *t = &b->texts[3 * i];

		if (c->certificate_chain == NULL)
			b->r = hb_cfg_error(b->cfg, c, NULL, -1, "certificate_chain is missing");
		if (c->private_key == NULL)
			b->r = hb_cfg_error(b->cfg, c, NULL, -1, "private_key is missing");
		b->certs[i] = (struct hb_tls_cert){
			.chain = source(b, c, "certificate_chain", c->certificate_chain, &t[0]),
			.key = source(b, c, "private_key", c->private_key, &t[1]),
			.password = source(b, c, "password", c->password, &t[2]),
			.chain_file = file_of(c->certificate_chain),
			.key_file = file_of(c->private_key),
		};
	}
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
		b->sans[b->tls.n_sans++] = (struct hb_tls_san_match){
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
	b->sans = hb_calloc(typed + any * HB_SAN_IP + 1, sizeof *b->sans);
	b->tls.sans = b->sans;
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

	if (nc + ns > HASHES_MAX) {
		b->r = hb_cfg_error(b->cfg, m, "verify_certificate_hash", -1,
			"more than %u pinned certificates and keys", HASHES_MAX);
		return;
	}
	b->digests = hb_calloc(nc + ns + 1, HASH_SIZE);
	b->hashes = hb_calloc(nc + ns + 1, sizeof *b->hashes);
	for (size_t i = 0; i < nc + ns; i++) {
		b->hashes[i] = hb_strn(b->digests[i], HASH_SIZE);
		if (i < nc && !hex_digest(m->verify_certificate_hash[i], b->digests[i]))
			b->r = hb_cfg_error(b->cfg, m, "verify_certificate_hash", (int)i,
				"must be a SHA-256 in 64 hexadecimal digits");
		if (i >= nc && !base64_digest(m->verify_certificate_spki[i - nc], b->digests[i]))
			b->r = hb_cfg_error(b->cfg, m, "verify_certificate_spki", (int)(i - nc),
				"must be a SHA-256 in base64 (44 characters)");
	}
	b->tls.cert_hashes = b->hashes;
	b->tls.n_cert_hashes = nc;
	b->tls.spki_hashes = b->hashes + nc;
	b->tls.n_spki_hashes = ns;
}

/* ------------------------------------------------------------------ whole contexts */

static void
validation(struct build *b, const ValidationMsg *m)
{
	struct hb_tls_config *c = &b->tls;

	c->trust_pem = source(b, m, "trusted_ca", m->trusted_ca, &b->trust);
	c->trust_file = file_of(m->trusted_ca);
	c->crl_pem = source(b, m, "crl", m->crl, &b->crl);
	c->crl_file = file_of(m->crl);
	c->crl_leaf_only = m->only_verify_leaf_cert_crl;
	c->allow_expired = m->allow_expired_certificate;
	c->accept_untrusted = m->trust_chain_verification ==
		ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__CERTIFICATE_VALIDATION_CONTEXT__TRUST_CHAIN_VERIFICATION__ACCEPT_UNTRUSTED;
	c->max_verify_depth = hb_cfg_u32(
		b->cfg, m, "max_verify_depth", m->max_verify_depth, 1, 100, 100);
	names(b, m);
	pins(b, m);
}

static void
common(struct build *b, const CommonMsg *m)
{
	params(b, m);
	certificates(b, m);
	if (m->validation_context_type_case ==
		ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT)
		validation(b, m->validation_context);
}

/* Errors of values went to cfg one by one; now those of the whole. */
static struct hb_tls_conf *
finish(struct build *b, const void *msg)
{
	struct hb_err err;

	if (b->r == 0) {
		b->conf->ctx = hb_tls_ctx_new(&b->tls, &err);
		if (b->conf->ctx == NULL)
			(void)hb_cfg_error(b->cfg, msg, "common_tls_context", -1, "%s", err.text);
	}
	build_fini(b);
	if (b->conf->ctx == NULL)
		hb_tls_conf_free(&b->conf);
	return (b->conf);
}

static void
build_init(struct build *b, struct hb_cfg *cfg, bool server)
{
	memset(b, 0, sizeof *b);
	HB_NEW(b->conf, HB_TLS_CONF_MAGIC);
	b->cfg = cfg;
	b->tls.server = server;
}

static bool
judges_nobody(const struct build *b)
{
	return (b->tls.trust_pem.len == 0 && b->tls.n_cert_hashes + b->tls.n_spki_hashes == 0);
}

struct hb_tls_conf *
hb_tls_conf_downstream(struct hb_cfg *cfg, const void *msg)
{
	const DownstreamMsg *m = msg;
	struct build b;

	build_init(&b, cfg, true);
	b.tls.require_peer_cert = hb_cfg_bool(m->require_client_certificate, false);
	b.tls.require_sni = hb_cfg_bool(m->require_sni, false);
	if (m->common_tls_context == NULL || m->common_tls_context->n_tls_certificates == 0)
		b.r = hb_cfg_error(cfg, m,
			m->common_tls_context == NULL ? NULL : "common_tls_context", -1,
			"a TLS server needs a certificate: give common_tls_context.tls_certificates");
	else
		common(&b, m->common_tls_context);
	if (b.r == 0 && b.tls.require_peer_cert && judges_nobody(&b))
		hb_cfg_warn(cfg, m, "require_client_certificate", -1,
			"any certificate is accepted: give validation_context.trusted_ca to verify clients");
	return (finish(&b, msg));
}

struct hb_tls_conf *
hb_tls_conf_upstream(struct hb_cfg *cfg, const void *msg)
{
	const UpstreamMsg *m = msg;
	struct build b;

	build_init(&b, cfg, false);
	b.tls.sni = *m->sni == '\0' ? NULL : m->sni;
	b.tls.sni_is_identity = m->auto_sni_san_validation;
	b.tls.handshake_timeout_ms = UPSTREAM_HANDSHAKE_MS;
	b.conf->auto_host_sni = m->auto_host_sni;
	if (m->common_tls_context != NULL)
		common(&b, m->common_tls_context);
	if (b.r == 0 && judges_nobody(&b))
		hb_cfg_warn(cfg, m, NULL, -1,
			"the peer is not verified: give common_tls_context.validation_context.trusted_ca");
	return (finish(&b, msg));
}

void
hb_tls_conf_free(struct hb_tls_conf **pc)
{
	struct hb_tls_conf *c = *pc;

	*pc = NULL;
	if (c == NULL)
		return;
	HB_CHECK(c, HB_TLS_CONF_MAGIC);
	hb_tls_ctx_free(&c->ctx);
	for (size_t i = 0; i < c->n_names; i++) {
		hb_string_matcher_free(&c->names[i].matcher);
		hb_free(c->names[i].exact);
	}
	hb_free(c->names);
	HB_DEL(c);
}

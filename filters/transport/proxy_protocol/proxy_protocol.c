/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header goes straight into the lower transport, which keeps it until it is connected; what
 * carries the bytes behind it (TLS or nothing) is put on top as if the header were not there.
 */
#include "core/filter/transport_socket.h"
#include "core/stats/access_log.h"
#include "envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.pb-c.h"
#include "filters/transport/proxy_protocol/header.h"

typedef Envoy__Extensions__TransportSockets__ProxyProtocol__V3__ProxyProtocolUpstreamTransport
	SocketMsg;
typedef Envoy__Config__Core__V3__ProxyProtocolConfig HeaderMsg;
typedef Envoy__Config__Core__V3__ProxyProtocolPassThroughTLVs PassMsg;

#define PP_FORMATS_MAX 16u
#define PP_VALUE_MAX   4096u /* bytes of a value that is made of a format, and of the format */

struct pp_conf {
	unsigned magic;
#define PP_CONF_MAGIC 0x60b7f3a5
	bool v2;
	bool pass[256];       /* types of TLVs to repeat             */
	struct hb_text added; /* encoded TLVs of the configuration   */
	struct pp_format {
		uint8_t type;
		struct hb_format *f; /* owned                               */
	} format[PP_FORMATS_MAX];
	size_t n_formats;
	struct hb_transport_socket *inner; /* owned; NULL = bytes in the clear    */
};

static void
pp_conf_free(const void *conf)
{
	struct pp_conf *c;

	HB_CAST(c, (void *)(uintptr_t)conf, PP_CONF_MAGIC);
	hb_text_fini(&c->added);
	for (size_t i = 0; i < c->n_formats; i++)
		hb_format_free(&c->format[i].f);
	hb_transport_socket_free(&c->inner);
	HB_DEL(c);
}

static void
pp_tlv(struct hb_text *t, unsigned type, const void *value, size_t len)
{
	HB_ASSERT(type < 256 && len <= UINT16_MAX);
	hb_text_addc(t, (char)type);
	hb_text_addc(t, (char)(len >> 8));
	hb_text_addc(t, (char)len);
	hb_text_add(t, value, len);
}

static int
pp_compile_pass(struct hb_cfg *cfg, const PassMsg *m, struct pp_conf *c)
{
	int r = 0;

	if (m->match_type ==
		ENVOY__CONFIG__CORE__V3__PROXY_PROTOCOL_PASS_THROUGH_TLVS__PASS_TLVS_MATCH_TYPE__INCLUDE_ALL)
		memset(c->pass, true, sizeof c->pass);
	for (size_t i = 0; i < m->n_tlv_type; i++) {
		if (m->tlv_type[i] > 255)
			r = hb_cfg_error(cfg, m, "tlv_type", (int)i, "must be below 256");
		else
			c->pass[m->tlv_type[i]] = true;
	}
	return (r);
}

static int
pp_compile_format(struct hb_cfg *cfg, const Envoy__Config__Core__V3__TlvEntry *t, struct pp_conf *c)
{
	const Envoy__Config__Core__V3__SubstitutionFormatString *m = t->format_string;
	struct hb_text text = { 0 };
	struct hb_format *f = NULL;

	if (t->value.len > 0)
		return (hb_cfg_error(cfg, t, "format_string", -1, "excludes value: choose one"));
	if (c->n_formats == PP_FORMATS_MAX)
		return (hb_cfg_error(cfg, t, "format_string", -1, "is there more than %u times",
			PP_FORMATS_MAX));
	if (m->format_case !=
		ENVOY__CONFIG__CORE__V3__SUBSTITUTION_FORMAT_STRING__FORMAT_TEXT_FORMAT_SOURCE)
		return (hb_cfg_error(
			cfg, m, NULL, -1, "has no text: set text_format_source.inline_string"));
	if (hb_cfg_data_source(
		    cfg, m, "text_format_source", m->text_format_source, PP_VALUE_MAX, &text) == 0)
		f = hb_format_compile(cfg, m, "text_format_source", -1, hb_strn(text.p, text.len));
	hb_text_fini(&text);
	if (f == NULL)
		return (-EINVAL);
	hb_format_omit_empty(f);
	c->format[c->n_formats++] = (struct pp_format){ (uint8_t)t->type, f };
	return (0);
}

static int
pp_compile_header(struct hb_cfg *cfg, const HeaderMsg *m, struct pp_conf *c)
{
	int r = 0;

	c->v2 = m->version == ENVOY__CONFIG__CORE__V3__PROXY_PROTOCOL_CONFIG__VERSION__V2;
	if (!c->v2 && (m->pass_through_tlvs != NULL || m->n_added_tlvs > 0))
		return (hb_cfg_error(cfg, m, NULL, -1, "TLVs need version: V2"));
	if (m->pass_through_tlvs != NULL)
		r = pp_compile_pass(cfg, m->pass_through_tlvs, c);
	for (size_t i = 0; i < m->n_added_tlvs; i++) {
		const Envoy__Config__Core__V3__TlvEntry *t = m->added_tlvs[i];

		if (t->type > 255)
			r = hb_cfg_error(cfg, t, "type", -1, "must be below 256");
		else if (t->format_string != NULL)
			r = pp_compile_format(cfg, t, c) != 0 ? -EINVAL : r;
		else if (c->added.len + 3 + t->value.len > HB_PROXY_TLVS_MAX)
			return (hb_cfg_error(
				cfg, m, "added_tlvs", -1, "are longer than a header can be"));
		else
			pp_tlv(&c->added, t->type, t->value.data, t->value.len);
	}
	return (r);
}

static int
pp_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, bool upstream, const void **ret_conf)
{
	const SocketMsg *m = (const void *)msg;
	struct pp_conf *c;
	int r = 0;

	HB_ASSERT(upstream);
	HB_NEW(c, PP_CONF_MAGIC);
	if (m->config != NULL)
		r = pp_compile_header(cfg, m->config, c);
	if (m->transport_socket == NULL)
		r = hb_cfg_error(cfg, m, NULL, -1,
			"transport_socket is missing; RawBuffer sends what follows in the clear");
	else if (hb_transport_socket_compile(
			 cfg, m, "transport_socket", m->transport_socket, true, &c->inner) != 0)
		r = -EINVAL;
	else if (hb_transport_socket_connector(c->inner))
		r = hb_cfg_error(cfg, m, "transport_socket", -1,
			"makes connections itself; put the PROXY header into its own transport_socket");
	if (r != 0) {
		pp_conf_free(c);
		return (r);
	}
	*ret_conf = c;
	return (0);
}

/* ------------------------------------------------------------------ one connection */

/* The type of a kept TLV by its key "0x0c"; -1 = none. */
static int
pp_type(struct hb_str key)
{
	static const char digits[] = "0123456789abcdef";
	const char *hi, *lo;

	if (key.len != 4 || !hb_str_starts(key, HB_STR("0x")))
		return (-1);
	hi = memchr(digits, key.p[2], 16);
	lo = memchr(digits, key.p[3], 16);
	return (hi == NULL || lo == NULL ? -1 : (int)((hi - digits) << 4 | (lo - digits)));
}

static void
pp_tlvs(const struct pp_conf *c, const struct hb_facts *facts, struct hb_text *t)
{
	struct hb_log_entry entry = { .facts = facts };
	struct hb_text value;

	hb_text_add(t, c->added.p, c->added.len);
	for (size_t i = 0; facts != NULL && i < c->n_formats; i++) {
		value = (struct hb_text){ .cap_max = PP_VALUE_MAX };
		hb_format_write(c->format[i].f, &entry, &value);
		if (value.len > 0 && !value.truncated &&
			t->len + 3 + value.len <= HB_PROXY_TLVS_MAX)
			pp_tlv(t, c->format[i].type, value.p, value.len);
		hb_text_fini(&value);
	}
	for (const struct hb_fact_entry *e = facts == NULL ? NULL : facts->metadata; e != NULL;
		e = e->next) {
		int type = hb_str_eq(e->ns, HB_STR(HB_META_PROXY_TLVS)) ? pp_type(e->key) : -1;

		if (type >= 0 && c->pass[type] && e->value.len <= UINT16_MAX &&
			t->len + 3 + e->value.len <= HB_PROXY_TLVS_MAX)
			pp_tlv(t, (unsigned)type, e->value.p, e->value.len);
	}
}

/* The whole header. */
static void
pp_header(const struct pp_conf *c, const struct hb_facts *facts, struct hb_buf *buf)
{
	static const struct hb_addr none;
	const struct hb_addr *from = facts == NULL ? &none : &facts->remote;
	const struct hb_addr *to = facts == NULL ? &none : &facts->local;
	struct hb_text tlvs = { 0 };

	if (!c->v2) {
		hb_proxy_header_v1(buf, from, to);
		return;
	}
	pp_tlvs(c, facts, &tlvs);
	hb_proxy_header_v2(buf, from, to, hb_strn(tlvs.p, tlvs.len));
	hb_text_fini(&tlvs);
}

static struct hb_transport *
pp_wrap(const void *conf, struct hb_transport *lower, const struct hb_facts *facts,
	struct hb_str host)
{
	const struct pp_conf *c = conf;
	struct hb_buf buf = { 0 };

	HB_CHECK(c, PP_CONF_MAGIC);
	pp_header(c, facts, &buf);
	hb_transport_write(lower, &buf, false);
	return (hb_transport_socket_wrap(c->inner, lower, facts, host));
}

static void
pp_key(const void *conf, const struct hb_facts *facts, struct hb_str host, struct hb_text *t)
{
	const struct pp_conf *c = conf;
	struct hb_buf buf = { 0 };
	struct iovec iov;

	HB_CHECK(c, PP_CONF_MAGIC);
	pp_header(c, facts, &buf);
	hb_text_addz(t, "proxy=");
	while (buf.len > 0 && hb_buf_iov(&buf, &iov, 1) == 1) {
		for (size_t i = 0; i < iov.iov_len; i++)
			hb_text_printf(t, "%02x", ((const uint8_t *)iov.iov_base)[i]);
		hb_buf_drain(&buf, iov.iov_len);
	}
	hb_text_addc(t, ';');
	hb_transport_socket_key(c->inner, facts, host, t);
}

static uint64_t
pp_generation(const void *conf)
{
	const struct pp_conf *c = conf;

	HB_CHECK(c, PP_CONF_MAGIC);
	return (hb_transport_socket_generation(c->inner));
}

static bool
pp_holds(const void *conf, struct hb_transport *t)
{
	const struct pp_conf *c = conf;

	HB_CHECK(c, PP_CONF_MAGIC);
	return (hb_transport_socket_holds(c->inner, t));
}

static size_t
pp_certs(const void *conf, bool trust, const struct hb_cert_info *const **ret)
{
	const struct pp_conf *c = conf;

	HB_CHECK(c, PP_CONF_MAGIC);
	*ret = NULL;
	return (c->inner == NULL ? 0 : hb_transport_socket_certs(c->inner, trust, ret));
}

extern const struct hb_transport_socket_type hb_tsocket_proxy_protocol;
const struct hb_transport_socket_type hb_tsocket_proxy_protocol = {
	.name = "envoy.transport_sockets.upstream_proxy_protocol",
	.upstream =
		&envoy__extensions__transport_sockets__proxy_protocol__v3__proxy_protocol_upstream_transport__descriptor,
	.compile = pp_compile,
	.conf_free = pp_conf_free,
	.wrap = pp_wrap,
	.certs = pp_certs,
	.key = pp_key,
	.generation = pp_generation,
	.holds = pp_holds,
};

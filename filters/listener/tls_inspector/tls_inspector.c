/* SPDX-License-Identifier: Apache-2.0 */
/* Sets the transport protocol, the server name and the offered protocols from the ClientHello. */
#include "core/filter/filter.h"
#include "core/stats/stats.h"
#include "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.pb-c.h"
#include "filters/listener/tls_inspector/client_hello.h"

#define STATS(X)                                                                                 \
	X(TLS_FOUND, "tls_found", COUNTER, "Connections that began with a ClientHello.")         \
	X(TLS_NOT_FOUND, "tls_not_found", COUNTER, "Connections that did not.")                  \
	X(ALPN_FOUND, "alpn_found", COUNTER, "ClientHellos that offered application protocols.") \
	X(ALPN_NOT_FOUND, "alpn_not_found", COUNTER, "ClientHellos that offered none.")          \
	X(SNI_FOUND, "sni_found", COUNTER, "ClientHellos with a server name.")                   \
	X(SNI_NOT_FOUND, "sni_not_found", COUNTER, "ClientHellos without one.")                  \
	X(ECH_FOUND, "ech_found", COUNTER,                                                       \
		"ClientHellos that were the outer one of Encrypted Client Hello.")               \
	X(TOO_LARGE, "client_hello_too_large", COUNTER,                                          \
		"Connections closed because max_client_hello_size was not enough.")              \
	X(MALFORMED, "client_hello_malformed", COUNTER,                                          \
		"TLS handshakes that began with no well-formed ClientHello.")

enum tls_inspector_stat { STATS(HB_STAT_ENUM) STAT_MAX };
HB_STAT_FAMILY(hb_tls_inspector_family, "tls_inspector", "envoy_tls_inspector", NULL, STATS);

struct tls_inspector_conf {
	unsigned magic;
#define TLS_INSPECTOR_CONF_MAGIC 0x7a3de0c1
	struct hb_stats *stats; /* reference */
	size_t raw_max;
	bool close_malformed;
};

static int
tls_inspector_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, const void **ret_conf)
{
	const Envoy__Extensions__Filters__Listener__TlsInspector__V3__TlsInspector *m =
		(const void *)msg;
	size_t before = hb_cfg_errs(cfg)->n + hb_cfg_errs(cfg)->dropped;
	struct tls_inspector_conf *c;
	size_t raw_max = hb_cfg_u32(cfg, m, "max_client_hello_size", m->max_client_hello_size,
		HB_HELLO_RAW_MIN, HB_HELLO_RAW_MAX, HB_HELLO_RAW_MAX);

	if (hb_cfg_errs(cfg)->n + hb_cfg_errs(cfg)->dropped != before)
		return (-EINVAL);
	HB_NEW(c, TLS_INSPECTOR_CONF_MAGIC);
	c->raw_max = raw_max;
	c->close_malformed = m->close_connection_on_client_hello_parsing_errors;
	c->stats = hb_stats_get(&hb_tls_inspector_family, HB_STR(""));
	*ret_conf = c;
	return (0);
}

static void
tls_inspector_conf_free(const void *conf)
{
	struct tls_inspector_conf *c;

	HB_CAST(c, (void *)(uintptr_t)conf, TLS_INSPECTOR_CONF_MAGIC);
	hb_stats_unref(&c->stats);
	HB_DEL(c);
}

static enum hb_filter_status
tls_inspector_on_connected(struct hb_filter *f)
{
	const struct tls_inspector_conf *conf = hb_filter_conf(f);

	hb_hello_init(hb_filter_ctx(f), conf->raw_max);
	hb_lfilter_max_bytes(f, conf->raw_max);
	return (HB_FILTER_STOP);
}

static void
tls_inspector_found(struct hb_filter *f, const struct hb_hello *h)
{
	const struct tls_inspector_conf *conf = hb_filter_conf(f);
	struct hb_worker *w = hb_filter_worker(f);

	hb_stat_inc(w, conf->stats, TLS_FOUND);
	hb_stat_inc(w, conf->stats, h->sni.p != NULL ? SNI_FOUND : SNI_NOT_FOUND);
	hb_stat_inc(w, conf->stats, h->n_alpn > 0 ? ALPN_FOUND : ALPN_NOT_FOUND);
	if (h->ech)
		hb_stat_inc(w, conf->stats, ECH_FOUND);
	hb_facts_hello_set(hb_filter_facts(f), h->sni, h->alpn, h->n_alpn);
}

/* Feeds what the parser has not seen: in place when it lies in one piece. */
static enum hb_hello_status
tls_inspector_feed(struct hb_hello *h, const struct hb_buf *buf)
{
	uint8_t copy[4096];
	struct iovec iov;
	enum hb_hello_status s = HB_HELLO_MORE;
	size_t n;

	if (hb_buf_iov(buf, &iov, 1) == 1 && h->raw < iov.iov_len)
		s = hb_hello_feed(h, (uint8_t *)iov.iov_base + h->raw, iov.iov_len - h->raw);
	while (s == HB_HELLO_MORE && (n = hb_buf_copyout(buf, h->raw, copy, sizeof copy)) > 0)
		s = hb_hello_feed(h, copy, n);
	return (s);
}

static enum hb_filter_status
tls_inspector_on_read(struct hb_filter *f, struct hb_buf *buf, bool end)
{
	const struct tls_inspector_conf *conf = hb_filter_conf(f);
	struct hb_worker *w = hb_filter_worker(f);
	struct hb_hello *h = hb_filter_ctx(f);

	switch (tls_inspector_feed(h, buf)) {
	case HB_HELLO_MORE:
		return (HB_FILTER_STOP);
	case HB_HELLO_DONE:
		tls_inspector_found(f, h);
		return (HB_FILTER_CONTINUE);
	case HB_HELLO_TOO_LARGE:
		hb_stat_inc(w, conf->stats, TOO_LARGE);
		hb_filter_close(f, HB_CLOSE_LISTENER_FILTER);
		return (HB_FILTER_STOP);
	case HB_HELLO_BAD:
		hb_stat_inc(w, conf->stats, MALFORMED);
		if (conf->close_malformed) {
			hb_filter_close(f, HB_CLOSE_LISTENER_FILTER);
			return (HB_FILTER_STOP);
		}
		break;
	case HB_HELLO_NOT_TLS:
		break;
	}
	hb_stat_inc(w, conf->stats, TLS_NOT_FOUND);
	return (HB_FILTER_CONTINUE);
}

static void
tls_inspector_fini(struct hb_filter *f)
{
	hb_hello_fini(hb_filter_ctx(f));
}

const struct hb_filter_type hb_lfilter_tls_inspector = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.kind = HB_FILTER_LISTENER,
	.name = "hbone.filters.listener.tls_inspector",
	.alias = "envoy.filters.listener.tls_inspector",
	.config =
		&envoy__extensions__filters__listener__tls_inspector__v3__tls_inspector__descriptor,
	.ctx_size = sizeof(struct hb_hello),
	.compile = tls_inspector_compile,
	.conf_free = tls_inspector_conf_free,
	.on_connected = tls_inspector_on_connected,
	.on_read = tls_inspector_on_read,
	.fini = tls_inspector_fini,
};

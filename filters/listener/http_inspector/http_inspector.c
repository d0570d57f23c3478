/* SPDX-License-Identifier: Apache-2.0 */
/* Sets the application protocol of connections in the clear that begin with HTTP. */
#include "core/filter/filter.h"
#include "core/stats/stats.h"
#include "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.pb-c.h"
#include "filters/listener/http_inspector/request_line.h"

#define STATS(X)                                                                          \
	X(HTTP10_FOUND, "http10_found", COUNTER, "Connections that began with HTTP/1.0.") \
	X(HTTP11_FOUND, "http11_found", COUNTER, "Connections that began with HTTP/1.1.") \
	X(HTTP2_FOUND, "http2_found", COUNTER, "Connections that began with HTTP/2.")     \
	X(HTTP_NOT_FOUND, "http_not_found", COUNTER, "Connections that began with anything else.")

enum http_inspector_stat { STATS(HB_STAT_ENUM) STAT_MAX };
HB_STAT_FAMILY(hb_http_inspector_family, "http_inspector", "envoy_http_inspector", NULL, STATS);

struct http_inspector_conf {
	unsigned magic;
#define HTTP_INSPECTOR_CONF_MAGIC 0x19f0b6d2
	struct hb_stats *stats; /* reference */
};

static int
http_inspector_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, const void **ret_conf)
{
	struct http_inspector_conf *c;

	(void)cfg;
	(void)msg;
	HB_NEW(c, HTTP_INSPECTOR_CONF_MAGIC);
	c->stats = hb_stats_get(&hb_http_inspector_family, HB_STR(""));
	*ret_conf = c;
	return (0);
}

static void
http_inspector_conf_free(const void *conf)
{
	struct http_inspector_conf *c;

	HB_CAST(c, (void *)(uintptr_t)conf, HTTP_INSPECTOR_CONF_MAGIC);
	hb_stats_unref(&c->stats);
	HB_DEL(c);
}

static enum hb_filter_status
http_inspector_on_connected(struct hb_filter *f)
{
	/* Inside TLS there is nothing to see, and the protocols are the ClientHello's. */
	if (hb_str_eq(hb_facts_transport_protocol(hb_filter_facts(f)), HB_STR("tls")))
		return (HB_FILTER_CONTINUE);
	hb_lfilter_max_bytes(f, HB_HTTP_LINE_MAX);
	return (HB_FILTER_STOP);
}

static enum hb_filter_status
http_inspector_found(struct hb_filter *f, enum http_inspector_stat stat, const char *alpn)
{
	const struct http_inspector_conf *conf = hb_filter_conf(f);
	struct hb_facts *facts = hb_filter_facts(f);

	hb_stat_inc(hb_filter_worker(f), conf->stats, stat);
	if (alpn != NULL) {
		hb_facts_hello_edit(facts)->n_alpn = 0;
		(void)hb_facts_alpn_add(facts, hb_str(alpn));
	}
	return (HB_FILTER_CONTINUE);
}

static enum hb_filter_status
http_inspector_on_read(struct hb_filter *f, struct hb_buf *buf, bool end)
{
	struct hb_http_line *l = hb_filter_ctx(f);
	enum hb_http_look look = HB_HTTP_MORE;
	uint8_t copy[1024];
	size_t n;

	while (look == HB_HTTP_MORE && (n = hb_buf_copyout(buf, l->fed, copy, sizeof copy)) > 0)
		look = hb_http_line_feed(l, copy, n);
	switch (look) {
	case HB_HTTP_MORE:
		return (HB_FILTER_STOP);
	case HB_HTTP_10:
		return (http_inspector_found(f, HTTP10_FOUND, "http/1.0"));
	case HB_HTTP_11:
		return (http_inspector_found(f, HTTP11_FOUND, "http/1.1"));
	case HB_HTTP_2:
		return (http_inspector_found(f, HTTP2_FOUND, "h2c"));
	case HB_HTTP_NOT:
		break;
	}
	return (http_inspector_found(f, HTTP_NOT_FOUND, NULL));
}

const struct hb_filter_type hb_lfilter_http_inspector = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.kind = HB_FILTER_LISTENER,
	.name = "hbone.filters.listener.http_inspector",
	.alias = "envoy.filters.listener.http_inspector",
	.config =
		&envoy__extensions__filters__listener__http_inspector__v3__http_inspector__descriptor,
	.ctx_size = sizeof(struct hb_http_line),
	.compile = http_inspector_compile,
	.conf_free = http_inspector_conf_free,
	.on_connected = http_inspector_on_connected,
	.on_read = http_inspector_on_read,
};

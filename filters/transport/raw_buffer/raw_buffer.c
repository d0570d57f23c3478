/* SPDX-License-Identifier: Apache-2.0 */
#include "core/filter/transport_socket.h"
#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb-c.h"

static int
raw_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, bool upstream, const void **ret_conf)
{
	(void)cfg;
	(void)msg;
	(void)upstream;
	*ret_conf = NULL;
	return (0);
}

static void
raw_conf_free(const void *conf)
{
	HB_ASSERT(conf == NULL);
}

static struct hb_transport *
raw_wrap(const void *conf, struct hb_transport *lower, const struct hb_facts *facts,
	struct hb_str host)
{
	(void)conf;
	(void)facts;
	(void)host;
	return (lower);
}

extern const struct hb_transport_socket_type hb_tsocket_raw_buffer;
const struct hb_transport_socket_type hb_tsocket_raw_buffer = {
	.name = "envoy.transport_sockets.raw_buffer",
	.downstream = &envoy__extensions__transport_sockets__raw_buffer__v3__raw_buffer__descriptor,
	.upstream = &envoy__extensions__transport_sockets__raw_buffer__v3__raw_buffer__descriptor,
	.compile = raw_compile,
	.conf_free = raw_conf_free,
	.wrap = raw_wrap,
};

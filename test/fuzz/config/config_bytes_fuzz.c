/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A resource of arbitrary protobuf bytes; the first byte chooses its type.
 */
#include "core/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const types[] = {
	"envoy.config.listener.v3.Listener",
	"envoy.config.cluster.v3.Cluster",
	"envoy.config.bootstrap.v3.Bootstrap",
	"envoy.extensions.transport_sockets.tls.v3.Secret",
};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct hb_cfg_limits limits = {
		.bytes_max = 1 << 20, .depth_max = 50, .nodes_max = 20000
	};
	struct hb_text json = { 0 }, bytes;
	const ProtobufCMessage *m;
	struct hb_cfg *cfg;

	if (size == 0)
		return (0);
	cfg = hb_cfg_new("resource", &limits);
	m = hb_cfg_parse_wire(cfg, hb_strn(data + 1, size - 1),
		hb_cfg_type_find(hb_str(types[data[0] % HB_ARRAY_LEN(types)])));
	HB_ASSERT((m == NULL) == hb_errs_any(hb_cfg_errs(cfg)));
	if (m != NULL) {
		hb_cfg_to_json(&json, m, -1);
		bytes = hb_cfg_to_wire(m);
		hb_text_fini(&bytes);
		hb_text_fini(&json);
	}
	hb_cfg_free(&cfg);
	return (0);
}

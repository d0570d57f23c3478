/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A configuration file of arbitrary bytes. What decodes must pack, unpack to the same bytes, print
 * as JSON, and that JSON must be well-formed for the same reader.
 */
#include "core/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct hb_cfg_limits limits = {
	.bytes_max = 1 << 20,
	.depth_max = 50,
	.nodes_max = 20000,
	.aliases_max = 1000,
};

static void
check_bytes(const ProtobufCMessage *m)
{
	struct hb_text first = hb_cfg_to_wire(m), second;
	struct hb_cfg *cfg = hb_cfg_new("bytes", &limits);
	const ProtobufCMessage *again;

	again = hb_cfg_parse_wire(cfg, hb_strn(first.p, first.len), m->descriptor);
	if (again != NULL) {
		second = hb_cfg_to_wire(again);
		HB_ASSERT(hb_str_eq(hb_strn(first.p, first.len), hb_strn(second.p, second.len)));
		hb_text_fini(&second);
	}
	hb_cfg_free(&cfg);
	hb_text_fini(&first);
}

static void
check_json(const ProtobufCMessage *m)
{
	struct hb_text json = { 0 };
	struct hb_cfg *cfg = hb_cfg_new("json", NULL);

	hb_cfg_to_json(&json, m, 0);
	hb_cfg_parse_text(cfg, hb_strn(json.p, json.len), m->descriptor);
	for (size_t i = 0; i < hb_cfg_errs(cfg)->n; i++)
		HB_ASSERT(strstr(hb_cfg_errs(cfg)->v[i].text, "not valid YAML") == NULL);
	hb_cfg_free(&cfg);
	hb_text_fini(&json);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const ProtobufCMessageDescriptor *desc;
	const ProtobufCMessage *m;
	struct hb_cfg *cfg = hb_cfg_new("fuzz.yaml", &limits);
	char line[2048];

	desc = hb_cfg_type_find(HB_STR("envoy.config.bootstrap.v3.Bootstrap"));
	m = hb_cfg_parse_text(cfg, hb_strn(data, size), desc);
	HB_ASSERT((m == NULL) == hb_errs_any(hb_cfg_errs(cfg)));
	for (size_t i = 0; i < hb_cfg_errs(cfg)->n; i++)
		hb_err_format(&hb_cfg_errs(cfg)->v[i], line, sizeof line);
	if (m != NULL) {
		check_bytes(m);
		check_json(m);
	}
	hb_cfg_free(&cfg);
	return (0);
}

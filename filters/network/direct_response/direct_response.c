/* SPDX-License-Identifier: Apache-2.0 */
#include "core/filter/explain.h"
#include "core/filter/filter.h"
#include "envoy/extensions/filters/network/direct_response/v3/config.pb-c.h"

#define RESPONSE_MAX 4096u

typedef Envoy__Extensions__Filters__Network__DirectResponse__V3__Config msg_config;

struct direct_response_conf {
	unsigned magic;
#define DIRECT_RESPONSE_CONF_MAGIC 0x4d12e5b0
	struct hb_text text; /* owned */
};

static void
direct_response_conf_free(const void *conf)
{
	struct direct_response_conf *c;

	HB_CAST(c, (void *)conf, DIRECT_RESPONSE_CONF_MAGIC);
	hb_text_fini(&c->text);
	HB_DEL(c);
}

static int
direct_response_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, const void **ret_conf)
{
	const msg_config *m = (const void *)msg;
	struct direct_response_conf *c;
	int r;

	HB_NEW(c, DIRECT_RESPONSE_CONF_MAGIC);
	if (m->response != NULL) {
		r = hb_cfg_data_source(cfg, m, "response", m->response, RESPONSE_MAX, &c->text);
		if (r != 0) {
			direct_response_conf_free(c);
			return (r);
		}
	}
	*ret_conf = c;
	return (0);
}

static enum hb_filter_status
direct_response_on_secured(struct hb_filter *f)
{
	const struct direct_response_conf *c = hb_filter_conf(f);
	struct hb_buf buf = { NULL, NULL, 0 };
	struct hb_slice slice;

	hb_buf_borrow(&buf, &slice, c->text.p, c->text.len);
	hb_filter_write(f, &buf, true);
	hb_filter_finish(f, HB_CLOSE_LOCAL_CLOSE);
	return (HB_FILTER_STOP);
}

static void
direct_response_explain(const void *conf, const struct hb_facts *facts, struct hb_explain *ex)
{
	const struct direct_response_conf *c = conf;

	hb_explain_step(ex, "filter", "direct_response", "chosen", "answers %zu bytes and closes",
		c->text.len);
	hb_explain_stop(ex);
}

const struct hb_filter_type hb_filter_direct_response = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.flags = HB_FILTER_TERMINAL,
	.kind = HB_FILTER_NETWORK,
	.name = "hbone.filters.network.direct_response",
	.alias = "envoy.filters.network.direct_response",
	.config = &envoy__extensions__filters__network__direct_response__v3__config__descriptor,
	.compile = direct_response_compile,
	.conf_free = direct_response_conf_free,
	.on_secured = direct_response_on_secured,
	.explain = direct_response_explain,
};

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/filter/explain.h"
#include "core/filter/filter.h"
#include "envoy/extensions/filters/network/echo/v3/echo.pb-c.h"

static enum hb_filter_status
echo_on_read(struct hb_filter *f, struct hb_buf *buf, bool end)
{
	hb_filter_write(f, buf, end);
	return (HB_FILTER_CONTINUE);
}

/* A client that sends and does not read is not read any more. */
static void
echo_on_event(struct hb_filter *f, enum hb_event ev)
{
	if (ev == HB_EVENT_WRITE_HIGH)
		hb_filter_read_disable(f, 1);
	else if (ev == HB_EVENT_WRITE_LOW)
		hb_filter_read_disable(f, -1);
}

static void
echo_explain(const void *conf, const struct hb_facts *facts, struct hb_explain *ex)
{
	hb_explain_step(ex, "filter", "echo", "chosen", "sends every byte back");
	hb_explain_stop(ex);
}

const struct hb_filter_type hb_filter_echo = {
	.abi_major = HB_FILTER_ABI_MAJOR,
	.size = sizeof(struct hb_filter_type),
	.flags = HB_FILTER_TERMINAL,
	.kind = HB_FILTER_NETWORK,
	.name = "hbone.filters.network.echo",
	.alias = "envoy.filters.network.echo",
	.config = &envoy__extensions__filters__network__echo__v3__echo__descriptor,
	.on_read = echo_on_read,
	.on_event = echo_on_event,
	.explain = echo_explain,
};

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/filter/socket_options.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/socket_option.pb-c.h"

#define PROBES_MAX  127u
#define SECONDS_MAX 32767u

static void
keep_value(struct hb_tcp_sockopt *o, const void *p, size_t n)
{
	uint8_t *copy = hb_malloc(n + 1);

	if (n > 0)
		memcpy(copy, p, n);
	o->value = copy;
	o->len = (socklen_t)n;
}

int
hb_socket_option_compile(struct hb_cfg *cfg, const void *msg, struct hb_tcp_sockopt *ret)
{
	const Envoy__Config__Core__V3__SocketOption *m = msg;
	int value, r = 0;

	memset(ret, 0, sizeof *ret);
	if (m->level < 0 || m->level > INT32_MAX)
		r = hb_cfg_error(cfg, m, "level", -1, "is out of range");
	if (m->name < 0 || m->name > INT32_MAX)
		r = hb_cfg_error(cfg, m, "name", -1, "is out of range");
	ret->level = (int)m->level;
	ret->name = (int)m->name;
	if (m->value_case == ENVOY__CONFIG__CORE__V3__SOCKET_OPTION__VALUE_INT_VALUE) {
		if (m->int_value < INT32_MIN || m->int_value > INT32_MAX)
			r = hb_cfg_error(cfg, m, "int_value", -1, "is out of range");
		value = (int)m->int_value;
		keep_value(ret, &value, sizeof value);
	} else if (m->value_case == ENVOY__CONFIG__CORE__V3__SOCKET_OPTION__VALUE_BUF_VALUE) {
		keep_value(ret, m->buf_value.data, m->buf_value.len);
	} else {
		r = hb_cfg_error(cfg, m, NULL, -1, "int_value or buf_value is missing");
	}
	ret->what = *m->description != '\0' ? hb_strdup(m->description) :
					      hb_asprintf("%d of level %d", ret->name, ret->level);
	return (r);
}

void
hb_socket_option_fini(struct hb_tcp_sockopt *o)
{
	hb_free((void *)(uintptr_t)o->value);
	hb_free((void *)(uintptr_t)o->what);
	memset(o, 0, sizeof *o);
}

void
hb_keepalive_compile(struct hb_cfg *cfg, const void *msg, struct hb_tcp_options *ret)
{
	const Envoy__Config__Core__V3__TcpKeepalive *m = msg;

	if (m == NULL)
		return;
	ret->keepalive = true;
	ret->keepalive_probes = hb_cfg_u32(
		cfg, m, "keepalive_probes", m->keepalive_probes, 1, PROBES_MAX, 0);
	ret->keepalive_time_s = hb_cfg_u32(
		cfg, m, "keepalive_time", m->keepalive_time, 1, SECONDS_MAX, 0);
	ret->keepalive_interval_s = hb_cfg_u32(
		cfg, m, "keepalive_interval", m->keepalive_interval, 1, SECONDS_MAX, 0);
}

int
hb_congestion_compile(struct hb_cfg *cfg, const void *msg, const char *field, const char *name,
	struct hb_tcp_options *ret)
{
	size_t n = strlen(name);

	if (n >= sizeof ret->congestion || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != n)
		return (hb_cfg_error(cfg, msg, field, -1,
			"\"%s\" is no name of a congestion control; give \"auto\" or one of those in "
			"/proc/sys/net/ipv4/tcp_available_congestion_control",
			name));
	memcpy(ret->congestion, name, n + 1);
	return (0);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the configuration, process options, binding of the rooms. */
#include <stdio.h>
#include "core/app/app.h"
#include "core/filter/conn.h"
#include "core/filter/transport_socket.h"
#include "core/match/match.h"
#include "core/mesh/policies.h"
#include "core/transport/tls.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"
#include "envoy/extensions/bootstrap/internal_listener/v3/internal_listener.pb-c.h"
#include "envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections.pb-c.h"
#include "hbone/bootstrap/options.pb-c.h"
#include "listeners/listeners.h"
#include "upstreams/upstreams.h"

#define UNIX_PATH_MAX 107u
#define SERIES_LIMIT 1000000u

typedef Envoy__Config__Bootstrap__V3__Bootstrap bootstrap_t;
typedef Envoy__Config__Core__V3__Address address_t;

extern const struct hb_filter_type *const hb_filter_table[];
extern const struct hb_transport_socket_type *const hb_transport_socket_table[];

struct hb_app hb_app = { .state = HB_APP_PRE_INITIALIZING };

size_t
hb_app_print(const struct hb_errs *errs, const char *grade)
{
	char line[2048];

	for (size_t i = 0; i < errs->n; i++) {
		hb_err_format(&errs->v[i], line, sizeof line);
		fprintf(stderr, "%s: %s\n", grade, line);
	}
	if (errs->dropped > 0)
		fprintf(stderr, "%s: … and %zu more\n", grade, errs->dropped);
	return (errs->n + errs->dropped);
}

static int
load_modules(const char *list, struct hb_err *reterr)
{
	char *copy = hb_strdup(list), *save = NULL;
	int r = 0;

	for (char *p = strtok_r(copy, ",", &save); p != NULL && r == 0;
		p = strtok_r(NULL, ",", &save))
		r = hb_filter_load(p, reterr);
	hb_free(copy);
	return (r);
}

int
hb_app_register(const struct hb_args *args)
{
	struct hb_err err;
	int r = 0;

	hb_app.args = args;
	hb_cfg_types_init();
	for (size_t i = 0; hb_transport_socket_table[i] != NULL && r == 0; i++)
		r = hb_transport_socket_register(hb_transport_socket_table[i], &err);
	for (size_t i = 0; hb_filter_table[i] != NULL && r == 0; i++)
		r = hb_filter_register(hb_filter_table[i], &err);
	if (r == 0 && args->load != NULL)
		r = load_modules(args->load, &err);
	if (r != 0)
		fprintf(stderr, "hbone: %s\n", err.text);
	return (r);
}

const ProtobufCMessage *
hb_app_load(const struct hb_args *args, struct hb_cfg **ret_cfg)
{
	const ProtobufCMessage *msg;

	if (args->config == NULL) {
		fprintf(stderr, "hbone: which configuration? give -c FILE\n");
		*ret_cfg = NULL;
		return (NULL);
	}
	*ret_cfg = hb_cfg_new(args->config, NULL);
	msg = hb_cfg_parse_file(
		*ret_cfg, args->config, &envoy__config__bootstrap__v3__bootstrap__descriptor);
	if (msg == NULL) {
		hb_app_print(hb_cfg_errs(*ret_cfg), "error");
		hb_cfg_free(ret_cfg);
	}
	return (msg);
}

static void
read_pipe(struct hb_cfg *cfg, const Envoy__Config__Core__V3__Pipe *m, struct hb_addr *ret,
	struct hb_text *path)
{
	size_t n = strlen(m->path);

	if (n == 0 || n > UNIX_PATH_MAX || *m->path == '@')
		hb_cfg_error(cfg, m, "path", -1, "must be the path of a file, 1 to %u bytes",
			UNIX_PATH_MAX);
	if (m->mode > 0777)
		hb_cfg_error(cfg, m, "mode", -1, "must be at most 0o777");
	hb_text_fini(path);
	hb_text_addz(path, m->path);
	ret->kind = HB_ADDR_UNIX;
	ret->u.name = path->p;
	if (m->mode != 0)
		hb_app.admin.unix_mode = (mode_t)m->mode;
}

static void
read_address(struct hb_cfg *cfg, const void *owner, const char *field, const address_t *a,
	struct hb_addr *ret, struct hb_text *unix_path)
{
	const Envoy__Config__Core__V3__SocketAddress *s;

	memset(ret, 0, sizeof *ret);
	if (a == NULL)
		return;
	if (a->address_case == ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_PIPE &&
		unix_path != NULL) {
		read_pipe(cfg, a->pipe, ret, unix_path);
		return;
	}
	if (a->address_case != ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS ||
		!hb_addr_parse_ip(hb_str(a->socket_address->address), ret)) {
		hb_cfg_error(cfg, owner, field, -1, "must be an IP address and port%s",
			unix_path != NULL ? " or a pipe" : "");
		return;
	}
	s = a->socket_address;
	if (s->protocol != ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PROTOCOL__TCP)
		hb_cfg_error(cfg, s, "protocol", -1, "must be TCP");
	if (s->port_specifier_case !=
		ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE)
		hb_cfg_error(cfg, s, NULL, -1, "needs a port_value (0 takes a free port)");
	else if (s->port_value > UINT16_MAX)
		hb_cfg_error(cfg, s, "port_value", -1, "must be at most 65535");
	ret->port = (uint16_t)s->port_value;
}

static void
read_metrics(struct hb_cfg *cfg, const Hbone__Bootstrap__TcpMetrics *m)
{
	if (m == NULL)
		return;
	hb_app.metrics.off = m->off;
	hb_app.metrics.locality = m->locality;
	hb_app.metrics.series_max =
		hb_cfg_u32(cfg, m, "max_series", m->max_series, 1, SERIES_LIMIT, 0);
}

static void
read_extensions(struct hb_cfg *cfg, const bootstrap_t *b)
{
	for (size_t i = 0; i < b->n_bootstrap_extensions; i++) {
		const ProtobufCMessage *any = hb_cfg_any(cfg, b->bootstrap_extensions[i],
			"typed_config", -1, b->bootstrap_extensions[i]->typed_config);
		const Hbone__Bootstrap__Options *o = (const void *)any;

		/* Internal listeners are always there. */
		if (any == NULL ||
			any->descriptor ==
				&envoy__extensions__bootstrap__internal_listener__v3__internal_listener__descriptor)
			continue;
		if (any->descriptor != &hbone__bootstrap__options__descriptor) {
			(void)hb_cfg_error(cfg, b->bootstrap_extensions[i], "typed_config", -1,
				"must be hbone.bootstrap.Options or Envoy's InternalListener");
			continue;
		}
		read_address(cfg, o, "metrics_address", o->metrics_address,
			&hb_app.admin.public_metrics, NULL);
		read_address(cfg, o, "ready_address", o->ready_address, &hb_app.admin.public_ready,
			NULL);
		hb_app.drain_time_ms = hb_cfg_duration_ms(
			cfg, o, "drain_time", o->drain_time, hb_app.drain_time_ms);
		read_metrics(cfg, o->tcp_metrics);
		hb_tls_set_verified_chains(hb_cfg_u32(cfg, o, "verified_chains", o->verified_chains,
			0, HB_TLS_VERIFIED_CHAINS_MAX, HB_TLS_VERIFIED_CHAINS));
	}
}

static struct hb_string_matcher **allow_paths;
static size_t n_allow_paths;

static bool
path_allowed(struct hb_str path)
{
	for (size_t i = 0; i < n_allow_paths; i++)
		if (hb_string_match(allow_paths[i], path))
			return (true);
	return (false);
}

static void
allow_paths_free(void)
{
	for (size_t i = 0; i < n_allow_paths; i++)
		hb_string_matcher_free(&allow_paths[i]);
	hb_free(allow_paths);
	allow_paths = NULL;
	n_allow_paths = 0;
}

static void
read_admin(struct hb_cfg *cfg, const Envoy__Config__Bootstrap__V3__Admin *a)
{
	allow_paths_free();
	if (a == NULL)
		return;
	if (a->address != NULL)
		read_address(
			cfg, a, "address", a->address, &hb_app.admin.address, &hb_app.admin_path);
	if (a->n_allow_paths == 0)
		return;
	allow_paths = hb_calloc(a->n_allow_paths, sizeof *allow_paths);
	for (size_t i = 0; i < a->n_allow_paths; i++) {
		allow_paths[n_allow_paths] = hb_string_matcher_compile(
			cfg, a, "allow_paths", (int)i, a->allow_paths[i]);
		if (allow_paths[n_allow_paths] != NULL)
			n_allow_paths++;
	}
	hb_app.admin.allowed = path_allowed;
}

static void
read_overload(struct hb_cfg *cfg, const bootstrap_t *b)
{
	for (size_t i = 0;
		b->overload_manager != NULL && i < b->overload_manager->n_resource_monitors; i++) {
		const Envoy__Config__Overload__V3__ResourceMonitor *m =
			b->overload_manager->resource_monitors[i];
		const Envoy__Extensions__ResourceMonitors__DownstreamConnections__V3__DownstreamConnectionsConfig
			*d = hb_cfg_any_of(cfg, m, "typed_config", -1, m->typed_config,
				&envoy__extensions__resource_monitors__downstream_connections__v3__downstream_connections_config__descriptor);

		if (d == NULL)
			continue;
		if (d->max_active_downstream_connections <= 0)
			hb_cfg_error(cfg, d, "max_active_downstream_connections", -1,
				"must be at least 1");
		else
			hb_app.connections_max = (uint64_t)d->max_active_downstream_connections;
	}
}

int
hb_app_options(struct hb_cfg *cfg, const ProtobufCMessage *bootstrap)
{
	const bootstrap_t *b = (const void *)bootstrap;

	hb_app.drain_time_ms = 25000;
	memset(&hb_app.admin, 0, sizeof hb_app.admin);
	memset(&hb_app.metrics, 0, sizeof hb_app.metrics);
	hb_tls_set_verified_chains(HB_TLS_VERIFIED_CHAINS);
	hb_addr_parse(HB_STR("127.0.0.1:15000"), &hb_app.admin.address);
	read_admin(cfg, b->admin);
	read_extensions(cfg, b);
	read_overload(cfg, b);
	if (hb_app.args->drain_time_set != 0)
		hb_app.drain_time_ms = hb_app.args->drain_time_ms;
	hb_text_fini(&hb_app.node_wire);
	if (b->node != NULL)
		hb_app.node_wire = hb_cfg_to_wire(&b->node->base);
	return (hb_errs_any(hb_cfg_errs(cfg)) ? -EINVAL : 0);
}

static void
policies_changed(void *arg)
{
	(void)arg;
	hb_conns_revalidate();
}

int
hb_app_rooms(bool offline, struct hb_err *reterr)
{
	struct hb_upstreams_options up = { .offline = offline };
	struct hb_listeners_options li = {
		.offline = offline,
		.connections_max = hb_app.connections_max,
		.drain_time_ms = hb_app.drain_time_ms,
	};
	int r;

	hb_policies_init(offline ? NULL : policies_changed, NULL);
	r = hb_upstreams_init(&up, reterr);
	return (r != 0 ? r : hb_listeners_init(&li, reterr));
}

void
hb_app_rooms_fini(void)
{
	hb_listeners_fini();
	hb_upstreams_fini();
	hb_policies_fini();
	allow_paths_free();
	hb_text_fini(&hb_app.admin_path);
	hb_text_fini(&hb_app.node_wire);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* From envoy.config.listener.v3.Listener to a listener that is not live yet. */
#include <limits.h>
#include <stdio.h>
#include "core/base/log.h"
#include "core/filter/socket_options.h"
#include "hbone/config/listener_options.pb-c.h"
#include "listeners/listener_priv.h"

#define FILTERS_TIMEOUT_MS 15000u
#define BUFFER_LIMIT       (1024u * 1024u)
#define UNIX_PATH_MAX      107u
#define OPTIONS_KEY        "hbone.listener"

typedef Envoy__Config__Listener__V3__Listener msg_listener;
typedef Envoy__Config__Listener__V3__FilterChainMatch msg_match;
typedef Envoy__Config__Listener__V3__ListenerFilter msg_filter;
typedef Envoy__Config__Core__V3__Address msg_address;
typedef Envoy__Config__Core__V3__SocketAddress msg_socket_address;
typedef Envoy__Config__Core__V3__Pipe msg_pipe;
typedef Envoy__Config__Core__V3__TcpKeepalive msg_keepalive;

/* ------------------------------------------------------------------ addresses */

static int
compile_socket_address(struct hb_cfg *cfg, struct hb_laddr *a, const msg_socket_address *m)
{
	int r = 0;

	if (m->protocol != ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PROTOCOL__TCP)
		r = hb_cfg_error(cfg, m, "protocol", -1, "must be TCP");
	if (!hb_addr_parse_ip(hb_str(m->address), &a->addr))
		r = hb_cfg_error(cfg, m, "address", -1,
			"\"%s\" is no IPv4 or IPv6 address; use 0.0.0.0 or :: for every interface",
			m->address);
	if (m->port_specifier_case !=
		ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE)
		r = hb_cfg_error(cfg, m, NULL, -1, "needs a port_value (0 takes a free port)");
	else if (m->port_value > UINT16_MAX)
		r = hb_cfg_error(cfg, m, "port_value", -1, "must be at most 65535");
	else
		a->addr.port = (uint16_t)m->port_value;
	if (m->ipv4_compat && a->addr.kind == HB_ADDR_V4)
		r = hb_cfg_error(cfg, m, "ipv4_compat", -1, "is for IPv6 addresses only");
	a->v4_too = m->ipv4_compat;
	return (r);
}

static int
compile_pipe(struct hb_cfg *cfg, struct hb_laddr *a, const msg_pipe *m)
{
	size_t n = strlen(m->path);

	if (n == 0 || n > UNIX_PATH_MAX || strcmp(m->path, "@") == 0)
		return (hb_cfg_error(cfg, m, "path", -1, "must have 1 to %u bytes", UNIX_PATH_MAX));
	if (m->mode > 0777)
		return (hb_cfg_error(cfg, m, "mode", -1, "must be at most 0o777"));
	/* One NUL more: an abstract name begins with one. */
	a->path = hb_calloc(1, n + 2);
	memcpy(a->path, m->path, n);
	if (a->path[0] == '@')
		a->path[0] = '\0';
	a->addr.kind = HB_ADDR_UNIX;
	a->addr.u.name = a->path;
	a->mode = m->mode;
	return (0);
}

static int
compile_address(struct hb_cfg *cfg, struct hb_listener *l, const void *owner, const msg_address *m,
	const msg_keepalive *keepalive)
{
	struct hb_laddr *a = &l->addr[l->n_addrs++];
	int r;

	if (m == NULL)
		return (hb_cfg_error(cfg, owner, "address", -1, "is needed"));
	switch (m->address_case) {
	case ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS:
		r = compile_socket_address(cfg, a, m->socket_address);
		break;
	case ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_PIPE:
		r = compile_pipe(cfg, a, m->pipe);
		break;
	default:
		return (hb_cfg_error(cfg, m, NULL, -1, "needs a socket_address or a pipe"));
	}
	hb_keepalive_compile(cfg, keepalive, &a->tcp);
	if (r != 0)
		return (r);
	for (size_t i = 0; i + 1 < l->n_addrs; i++)
		if (hb_laddr_clash(&l->addr[i], a))
			return (hb_cfg_error(
				cfg, m, NULL, -1, "is an address of this listener already"));
	return (0);
}

/* Its name is its address. */
static int
compile_internal(struct hb_cfg *cfg, struct hb_listener *l, const msg_listener *m)
{
	int r = 0;

	if (*m->name == '\0')
		r = hb_cfg_error(
			cfg, m, "name", -1, "is what clusters call an internal listener by");
	if (m->address != NULL || m->n_additional_addresses > 0)
		r = hb_cfg_error(cfg, m, m->address != NULL ? "address" : "additional_addresses",
			-1, "is not possible together with internal_listener");
	l->addr = hb_calloc(1, sizeof *l->addr);
	l->n_addrs = 1;
	l->addr[0].path = hb_strdup(m->name);
	l->addr[0].addr.kind = HB_ADDR_INTERNAL;
	l->addr[0].addr.u.name = l->addr[0].path;
	l->bind = false;
	return (r);
}

static int
compile_addresses(struct hb_cfg *cfg, struct hb_listener *l, const msg_listener *m)
{
	int r;

	if (m->listener_specifier_case ==
		ENVOY__CONFIG__LISTENER__V3__LISTENER__LISTENER_SPECIFIER_INTERNAL_LISTENER)
		return (compile_internal(cfg, l, m));
	if (m->n_additional_addresses >= HB_LADDRS_MAX)
		return (hb_cfg_error(cfg, m, "additional_addresses", -1,
			"has %zu entries, the limit is %u", m->n_additional_addresses,
			HB_LADDRS_MAX - 1));
	l->addr = hb_calloc(m->n_additional_addresses + 1, sizeof *l->addr);
	r = compile_address(cfg, l, m, m->address, m->tcp_keepalive);
	for (size_t i = 0; i < m->n_additional_addresses; i++) {
		const Envoy__Config__Listener__V3__AdditionalAddress *a =
			m->additional_addresses[i];

		if (compile_address(cfg, l, a, a->address,
			    a->tcp_keepalive != NULL ? a->tcp_keepalive : m->tcp_keepalive) != 0)
			r = -EINVAL;
	}
	return (r);
}

static int
compile_sockopts(struct hb_cfg *cfg, struct hb_listener *l, const msg_listener *m)
{
	int r = 0;

	l->sockopt = hb_calloc(m->n_socket_options + 1, sizeof *l->sockopt);
	for (size_t i = 0; i < m->n_socket_options; i++) {
		struct hb_lsockopt *o = &l->sockopt[l->n_sockopts++];

		o->state = (int)m->socket_options[i]->state;
		r |= hb_socket_option_compile(cfg, m->socket_options[i], &o->o);
	}
	return (r);
}

/* What decides whether bound sockets can go on serving. */
static void
make_keys(struct hb_listener *l)
{
	struct hb_text options = { 0 };
	char text[HB_ADDR_TEXT_MAX];

	hb_text_printf(&options, "reuse=%d transparent=%d freebind=%d", l->reuse_port,
		l->transparent, l->freebind);
	for (size_t i = 0; i < l->n_sockopts; i++) {
		const struct hb_lsockopt *o = &l->sockopt[i];

		hb_text_printf(&options, " %d:%d:%d=", o->o.level, o->o.name, o->state);
		hb_text_json(&options, o->o.value, o->o.len);
	}
	for (size_t i = 0; i < l->n_addrs; i++) {
		struct hb_laddr *a = &l->addr[i];

		(void)hb_addr_format(&a->addr, text, sizeof text);
		a->key = hb_asprintf("%s v4=%d %s", text, a->v4_too, options.p);
	}
	hb_text_fini(&options);
}

/* ------------------------------------------------------------------ listener filters */

static bool
has_filter(const struct hb_listener *l, const char *name)
{
	for (size_t i = 0; i < l->n_filters; i++)
		if (strcmp(l->filter[i].type->name, name) == 0)
			return (true);
	return (false);
}

static int
compile_filter(struct hb_cfg *cfg, struct hb_listener *l, const msg_filter *m)
{
	struct hb_lfilter *f = &l->filter[l->n_filters];
	const void *any = NULL;
	int r;

	if (m->config_type_case ==
		ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER__CONFIG_TYPE_TYPED_CONFIG)
		any = m->typed_config;
	if (m->filter_disabled != NULL) {
		f->disabled = hb_lpredicate_compile(cfg, m->filter_disabled, 0);
		if (f->disabled == NULL)
			return (-EINVAL);
	}
	r = hb_filter_compile(cfg, HB_FILTER_LISTENER, m, m->name, any, &f->type, &f->conf);
	if (r != 0) {
		hb_lpredicate_free(&f->disabled);
		return (r);
	}
	f->label = hb_strdup(*m->name != '\0' ? m->name : f->type->name);
	l->n_filters++;
	return (0);
}

static int
compile_filters(struct hb_cfg *cfg, struct hb_listener *l, const msg_listener *m)
{
	int r = 0;

	if (m->n_listener_filters > HB_LFILTERS_MAX)
		return (hb_cfg_error(cfg, m, "listener_filters", -1,
			"has %zu entries, the limit is %u", m->n_listener_filters,
			HB_LFILTERS_MAX));
	l->filter = hb_calloc(m->n_listener_filters + 1, sizeof *l->filter);
	for (size_t i = 0; i < m->n_listener_filters; i++)
		if (compile_filter(cfg, l, m->listener_filters[i]) != 0)
			r = -EINVAL;
	return (r);
}

/* Conditions that no connection can meet, because nobody looks. */
static void
warn_blind(struct hb_cfg *cfg, const struct hb_listener *l, const msg_listener *m)
{
	bool tls = has_filter(l, HB_LFILTER_TLS), http = has_filter(l, HB_LFILTER_HTTP);

	for (size_t i = 0; i < m->n_filter_chains && m->filter_chain_matcher == NULL; i++) {
		const msg_match *c = m->filter_chains[i]->filter_chain_match;

		if (c == NULL || tls)
			continue;
		if (c->n_server_names > 0)
			hb_cfg_warn(cfg, c, "server_names", -1,
				"never match: add the listener filter tls_inspector");
		if (strcmp(c->transport_protocol, "tls") == 0)
			hb_cfg_warn(cfg, c, "transport_protocol", -1,
				"never matches: add the listener filter tls_inspector");
		if (c->n_application_protocols > 0 && !http)
			hb_cfg_warn(cfg, c, "application_protocols", -1,
				"never match: add the listener filter tls_inspector or http_inspector");
	}
	if (l->use_original_dst && !l->transparent && !has_filter(l, HB_LFILTER_ORIGINAL_DST))
		hb_cfg_warn(cfg, m, "use_original_dst", -1,
			"has no effect: add the listener filter original_dst, or set transparent");
}

/* ------------------------------------------------------------------ the rest */

static void
compile_options(struct hb_cfg *cfg, struct hb_listener *l, const msg_listener *m)
{
	const Envoy__Config__Core__V3__Metadata *md = m->metadata;

	for (size_t i = 0; md != NULL && i < md->n_typed_filter_metadata; i++) {
		const Hbone__Config__ListenerOptions *o;

		if (strcmp(md->typed_filter_metadata[i]->key, OPTIONS_KEY) != 0)
			continue;
		o = hb_cfg_any_of(cfg, md, "typed_filter_metadata", (int)i,
			md->typed_filter_metadata[i]->value,
			&hbone__config__listener_options__descriptor);
		if (o == NULL)
			continue;
		l->connections_max = hb_cfg_u32(
			cfg, o, "max_connections", o->max_connections, 1, UINT32_MAX, 0);
		/* The rest is inherited from the listening socket. */
		l->accepted.nodelay_off = true;
		(void)hb_congestion_compile(
			cfg, o, "tcp_congestion", o->tcp_congestion, &l->accepted);
	}
}

static void
compile_scalars(struct hb_cfg *cfg, struct hb_listener *l, const msg_listener *m)
{
	l->reuse_port = hb_cfg_bool(m->enable_reuse_port, true);
	l->bind = hb_cfg_bool(m->bind_to_port, true);
	l->transparent = hb_cfg_bool(m->transparent, false);
	l->freebind = hb_cfg_bool(m->freebind, false);
	l->use_original_dst = hb_cfg_bool(m->use_original_dst, false);
	l->exact_balance = m->connection_balance_config != NULL &&
		m->connection_balance_config->balance_type_case ==
			ENVOY__CONFIG__LISTENER__V3__LISTENER__CONNECTION_BALANCE_CONFIG__BALANCE_TYPE_EXACT_BALANCE;
	l->inbound = m->traffic_direction == ENVOY__CONFIG__CORE__V3__TRAFFIC_DIRECTION__INBOUND;
	l->ignore_global = m->ignore_global_conn_limit;
	l->continue_on_timeout = m->continue_on_listener_filters_timeout;
	l->fast_open = m->tcp_fast_open_queue_length == NULL ?
		-1 :
		(int)hb_cfg_u32(cfg, m, "tcp_fast_open_queue_length", m->tcp_fast_open_queue_length,
			0, UINT16_MAX, 0);
	/* The kernel cuts it to net.core.somaxconn. */
	l->backlog = (int)hb_cfg_u32(
		cfg, m, "tcp_backlog_size", m->tcp_backlog_size, 1, INT_MAX, INT_MAX);
	l->accept_batch = hb_cfg_u32(cfg, m, "max_connections_to_accept_per_socket_event",
		m->max_connections_to_accept_per_socket_event, 1, 65536, HB_LACCEPT_BATCH);
	l->filters_timeout_ms = hb_cfg_duration_ms(cfg, m, "listener_filters_timeout",
		m->listener_filters_timeout, FILTERS_TIMEOUT_MS);
	l->buffer_high = hb_cfg_u32(cfg, m, "per_connection_buffer_limit_bytes",
		m->per_connection_buffer_limit_bytes, 1, UINT32_MAX, BUFFER_LIMIT);
	l->stat_prefix = hb_strdup(m->stat_prefix);
	compile_options(cfg, l, m);
}

/* The message without what an in-place update may change. */
static struct hb_text
wire_without_chains(const msg_listener *m)
{
	msg_listener copy = *m;

	copy.n_filter_chains = 0;
	copy.filter_chains = NULL;
	copy.default_filter_chain = NULL;
	copy.filter_chain_matcher = NULL;
	return (hb_cfg_to_wire(&copy.base));
}

static struct hb_chain_set *
compile_set(struct hb_cfg *cfg, const msg_listener *m)
{
	char *where = hb_asprintf("listener %s", m->name);
	struct hb_chain_source src = { m, where, m->filter_chains, m->n_filter_chains,
		m->default_filter_chain, m->filter_chain_matcher };
	struct hb_chain_set *set = hb_chain_set_compile(cfg, &src);

	hb_free(where);
	return (set);
}

int
hb_listener_compile(struct hb_cfg *cfg, const ProtobufCMessage *msg, void **ret_obj)
{
	const msg_listener *m = (const void *)msg;
	struct hb_errs *errs = hb_cfg_errs(cfg);
	size_t before = errs->n + errs->dropped;
	struct hb_listener *l;
	bool ok;

	HB_ASSERT(msg->descriptor == &envoy__config__listener__v3__listener__descriptor);
	HB_NEW(l, HB_LISTENER_MAGIC);
	hb_list_init(&l->node);
	l->name = hb_strdup(m->name);
	compile_scalars(cfg, l, m);
	(void)compile_addresses(cfg, l, m);
	(void)compile_sockopts(cfg, l, m);
	(void)compile_filters(cfg, l, m);
	l->log = hb_access_log_compile(
		cfg, m, "access_log", (void *const *)m->access_log, m->n_access_log, &ok);
	atomic_init(&l->set, compile_set(cfg, m));
	if (errs->n + errs->dropped != before || !ok || atomic_load(&l->set) == NULL) {
		hb_listener_free(&l);
		return (-EINVAL);
	}
	warn_blind(cfg, l, m);
	make_keys(l);
	hb_pre_layout(l);
	l->wire = wire_without_chains(m);
	*ret_obj = l;
	return (0);
}

/* ------------------------------------------------------------------ the end */

static void
free_options(struct hb_listener *l)
{
	for (size_t i = 0; i < l->n_addrs && l->addr != NULL; i++) {
		hb_free(l->addr[i].path);
		hb_free(l->addr[i].key);
	}
	hb_free(l->addr);
	for (size_t i = 0; i < l->n_sockopts; i++)
		hb_socket_option_fini(&l->sockopt[i].o);
	hb_free(l->sockopt);
	for (size_t i = 0; i < l->n_filters; i++) {
		struct hb_lfilter *f = &l->filter[i];

		if (f->type->conf_free != NULL && f->conf != NULL)
			f->type->conf_free(f->conf);
		hb_lpredicate_free(&f->disabled);
		hb_free(f->label);
	}
	hb_free(l->filter);
}

void
hb_listener_free(struct hb_listener **lp)
{
	struct hb_listener *l = *lp;
	struct hb_chain_set *set;

	if (l == NULL)
		return;
	HB_CHECK(l, HB_LISTENER_MAGIC);
	HB_ASSERT(!hb_list_linked(&l->node) && l->sock == NULL && l->ident == NULL);
	*lp = NULL;
	set = atomic_load(&l->set);
	hb_chain_set_free(&set);
	for (size_t i = 0; i < l->n_workers; i++) {
		HB_ASSERT(atomic_load(&l->worker[i].pins) == 0);
		hb_stats_unref(&l->worker[i].stats);
		hb_free(l->worker[i].accept);
	}
	hb_free(l->worker);
	hb_free(l->bound);
	hb_free(l->closing);
	hb_stats_unref(&l->stats);
	hb_access_log_free(&l->log);
	free_options(l);
	hb_text_fini(&l->wire);
	hb_free(l->stat_prefix);
	hb_free(l->name);
	HB_DEL(l);
}

void
hb_listener_discard(void *obj)
{
	struct hb_listener *l;

	HB_CAST(l, obj, HB_LISTENER_MAGIC);
	hb_listener_free(&l);
}

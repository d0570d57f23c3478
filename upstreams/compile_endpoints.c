/* SPDX-License-Identifier: Apache-2.0 */
#include "upstreams/compile.h"
#include "upstreams/internal.h"

typedef Envoy__Config__Cluster__V3__Cluster ClusterMsg;
typedef Envoy__Config__Core__V3__Address AddressMsg;
typedef Envoy__Config__Core__V3__Metadata MetadataMsg;
typedef Envoy__Config__Endpoint__V3__Endpoint EndpointMsg;
typedef Envoy__Config__Endpoint__V3__LbEndpoint LbEndpointMsg;
typedef Envoy__Config__Endpoint__V3__LocalityLbEndpoints LocalityMsg;
typedef Envoy__Config__Endpoint__V3__ClusterLoadAssignment AssignmentMsg;
typedef Google__Protobuf__Struct StructMsg;
typedef Google__Protobuf__Value ValueMsg;

#define PIPE_PATH_MAX   107u
#define MATCH_NAMESPACE "envoy.transport_socket_match"

/* ------------------------------------------------------------------ addresses */

/* A name that can be looked up: letters, digits, hyphens, underscores, dots. */
static bool
is_host_name(const char *z)
{
	size_t n = strlen(z);

	if (n == 0 || n > HB_DNS_NAME_MAX || z[0] == '.')
		return (false);
	return (strspn(z, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") ==
		n);
}

static int
pipe_address(struct hb_cfg *cfg, const Envoy__Config__Core__V3__Pipe *p, struct hb_addr *ret)
{
	size_t n = strlen(p->path);
	char *name;

	if (n == 0 || n > PIPE_PATH_MAX)
		return (hb_cfg_error(cfg, p, "path", -1, "must have 1 to %u bytes", PIPE_PATH_MAX));
	/* Two NULs behind, so that an abstract name (leading NUL) ends as well. */
	name = hb_calloc(1, n + 2);
	memcpy(name, p->path, n);
	if (name[0] == '@')
		name[0] = '\0';
	ret->kind = HB_ADDR_UNIX;
	ret->u.name = name;
	return (0);
}

static int
internal_address(struct hb_cfg *cfg, const AddressMsg *a, bool dns, struct hb_addr *ret)
{
	const char *name = a->envoy_internal_address->server_listener_name;

	if (dns)
		return (hb_cfg_error(cfg, a, "envoy_internal_address", -1,
			"DNS has no listeners; use a cluster of type STATIC"));
	if (name == NULL || *name == '\0')
		return (hb_cfg_error(cfg, a->envoy_internal_address, "server_listener_name", -1,
			"must not be empty"));
	hb_cfg_refers(cfg, a->envoy_internal_address, "server_listener_name", "listener", name);
	ret->kind = HB_ADDR_INTERNAL;
	ret->u.name = hb_strdup(name);
	return (0);
}

static int
socket_address(struct hb_cfg *cfg, const Envoy__Config__Core__V3__SocketAddress *s,
	struct hb_addr *ret, const char **name)
{
	if (s->protocol != ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PROTOCOL__TCP)
		return (hb_cfg_error(cfg, s, "protocol", -1, "must be TCP"));
	if (s->port_specifier_case !=
			ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE ||
		s->port_value == 0 || s->port_value > UINT16_MAX)
		return (hb_cfg_error(cfg, s, "port_value", -1, "must be 1 to 65535"));
	if (!hb_addr_parse_ip(hb_str(s->address), ret)) {
		if (name == NULL)
			return (hb_cfg_error(cfg, s, "address", -1,
				"\"%s\" is not an IP address; "
				"a host name needs a cluster of type STRICT_DNS or LOGICAL_DNS",
				s->address));
		if (!is_host_name(s->address))
			return (hb_cfg_error(cfg, s, "address", -1,
				"\"%s\" is neither an IP address nor a host name", s->address));
		*name = s->address;
	}
	ret->port = (uint16_t)s->port_value;
	return (0);
}

int
hb_compile_address(struct hb_cfg *cfg, const void *owner, const char *field, int index,
	const void *msg, struct hb_addr *ret, const char **name)
{
	const AddressMsg *a = msg;

	memset(ret, 0, sizeof *ret);
	if (name != NULL)
		*name = NULL;
	if (a != NULL &&
		a->address_case == ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS)
		return (socket_address(cfg, a->socket_address, ret, name));
	if (a != NULL && a->address_case == ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_PIPE) {
		if (name != NULL)
			return (hb_cfg_error(cfg, a, "pipe", -1,
				"DNS has no Unix domain sockets; use a cluster of type STATIC"));
		return (pipe_address(cfg, a->pipe, ret));
	}
	if (a != NULL &&
		a->address_case == ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_ENVOY_INTERNAL_ADDRESS)
		return (internal_address(cfg, a, name != NULL, ret));
	return (hb_cfg_error(cfg, owner, a == NULL ? NULL : field, index,
		"%s needs an address: socket_address, pipe or envoy_internal_address",
		a == NULL ? field : "it"));
}

/* ------------------------------------------------------------------ metadata */

static bool value_eq(const ValueMsg *, const ValueMsg *, unsigned depth);

static const ValueMsg *
struct_get(const StructMsg *s, const char *key)
{
	for (size_t i = 0; i < s->n_fields; i++) {
		if (strcmp(s->fields[i]->key, key) == 0)
			return (s->fields[i]->value);
	}
	return (NULL);
}

/* Every field of `part` is in `whole` with the same value. */
static bool
struct_covers(const StructMsg *whole, const StructMsg *part, unsigned depth)
{
	for (size_t i = 0; i < part->n_fields; i++) {
		const ValueMsg *v = struct_get(whole, part->fields[i]->key);

		if (v == NULL || !value_eq(v, part->fields[i]->value, depth))
			return (false);
	}
	return (true);
}

static bool
value_eq(const ValueMsg *a, const ValueMsg *b, unsigned depth)
{
	if (a->kind_case != b->kind_case || depth == 0)
		return (false);
	switch (a->kind_case) {
	case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
		return (a->number_value == b->number_value);
	case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
		return (strcmp(a->string_value, b->string_value) == 0);
	case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
		return (!a->bool_value == !b->bool_value);
	case GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE:
		return (a->struct_value->n_fields == b->struct_value->n_fields &&
			struct_covers(a->struct_value, b->struct_value, depth - 1));
	case GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE:
		if (a->list_value->n_values != b->list_value->n_values)
			return (false);
		for (size_t i = 0; i < a->list_value->n_values; i++) {
			if (!value_eq(
				    a->list_value->values[i], b->list_value->values[i], depth - 1))
				return (false);
		}
		return (true);
	default:
		return (true);
	}
}

static const StructMsg *
namespace_of(const MetadataMsg *m)
{
	for (size_t i = 0; m != NULL && i < m->n_filter_metadata; i++) {
		if (strcmp(m->filter_metadata[i]->key, MATCH_NAMESPACE) == 0)
			return (m->filter_metadata[i]->value);
	}
	return (NULL);
}

static struct hb_transport_socket *
socket_for(const ClusterMsg *m, const struct hb_cluster *c, const LocalityMsg *l,
	const LbEndpointMsg *e)
{
	static const StructMsg empty = GOOGLE__PROTOBUF__STRUCT__INIT;
	const StructMsg *own = namespace_of(e->metadata);

	if (own == NULL)
		own = namespace_of(l->metadata);
	if (own == NULL)
		own = &empty;
	for (size_t i = 0; i < c->n_matches; i++) {
		const StructMsg *match = m->transport_socket_matches[i]->match;

		if (struct_covers(own, match == NULL ? &empty : match, 32))
			return (c->matches[i].socket);
	}
	return (c->socket);
}

/* ------------------------------------------------------------------ endpoints */

static unsigned
health_bits(int status)
{
	switch (status) {
	case ENVOY__CONFIG__CORE__V3__HEALTH_STATUS__UNHEALTHY:
	case ENVOY__CONFIG__CORE__V3__HEALTH_STATUS__DRAINING:
	case ENVOY__CONFIG__CORE__V3__HEALTH_STATUS__TIMEOUT:
		return (HB_EP_EDS_UNHEALTHY);
	case ENVOY__CONFIG__CORE__V3__HEALTH_STATUS__DEGRADED:
		return (HB_EP_EDS_DEGRADED);
	default:
		return (0);
	}
}

static int
endpoint_addresses(
	struct hb_cfg *cfg, const EndpointMsg *m, const struct hb_cluster *c, struct hb_ep_conf *e)
{
	bool dns = c->type == HB_CLUSTER_STRICT_DNS || c->type == HB_CLUSTER_LOGICAL_DNS;
	struct hb_addr v[HB_EP_ADDRS_MAX];
	const char *name = NULL;
	size_t n = 0;
	int r;

	r = hb_compile_address(cfg, m, "address", -1, m->address, &v[n++], dns ? &name : NULL);
	if (m->n_additional_addresses > HB_EP_ADDRS_MAX - 1)
		return (hb_cfg_error(cfg, m, "additional_addresses", -1, "has more than %u entries",
			HB_EP_ADDRS_MAX - 1));
	if (name != NULL && m->n_additional_addresses > 0)
		r = hb_cfg_error(
			cfg, m, "additional_addresses", -1, "is not possible with a host name");
	for (size_t i = 0; i < m->n_additional_addresses && name == NULL; i++) {
		r |= hb_compile_address(cfg, m->additional_addresses[i], "address", -1,
			m->additional_addresses[i]->address, &v[n++], NULL);
	}
	for (size_t i = 1; i < n && r == 0; i++) {
		if ((v[i].kind == HB_ADDR_INTERNAL) != (v[0].kind == HB_ADDR_INTERNAL))
			r = hb_cfg_error(cfg, m, "additional_addresses", (int)i - 1,
				"mixes listeners of this process with others");
	}
	e->port = v[0].port;
	if (name != NULL)
		e->name = hb_strdup(name);
	else if (r == 0)
		e->addrs = hb_ep_addrs_new(v, n, &c->order);
	for (size_t i = 0; i < n; i++) {
		if (v[i].kind == HB_ADDR_UNIX || v[i].kind == HB_ADDR_INTERNAL)
			hb_free((void *)(uintptr_t)v[i].u.name);
	}
	return (r == 0 ? 0 : -EINVAL);
}

static int
endpoint(struct hb_cfg *cfg, const ClusterMsg *cm, const LocalityMsg *l, const LbEndpointMsg *m,
	unsigned locality, struct hb_cluster *c)
{
	struct hb_ep_conf *e = &c->ep[c->n_ep++];

	e->locality = locality;
	e->eds_status = (int)m->health_status;
	e->health = health_bits(e->eds_status);
	e->weight = hb_cfg_u32(
		cfg, m, "load_balancing_weight", m->load_balancing_weight, 1, UINT32_MAX, 1);
	e->socket = socket_for(cm, c, l, m);
	if (m->host_identifier_case !=
		ENVOY__CONFIG__ENDPOINT__V3__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT) {
		e->hostname = hb_strdup("");
		return (hb_cfg_error(cfg, m, NULL, -1, "endpoint is missing"));
	}
	e->hostname = hb_strdup(m->endpoint->hostname);
	if (endpoint_addresses(cfg, m->endpoint, c, e) != 0)
		return (-EINVAL);
	if (e->addrs != NULL && e->addrs->v[0].kind == HB_ADDR_INTERNAL)
		e->n_meta = hb_meta_compile(m->metadata, &e->meta);
	return (0);
}

static int
check_priorities(struct hb_cfg *cfg, const AssignmentMsg *m)
{
	bool seen[HB_PRIORITIES_MAX] = { false };
	unsigned top = 0;

	for (size_t i = 0; i < m->n_endpoints; i++) {
		unsigned p = m->endpoints[i]->priority;

		if (p >= HB_PRIORITIES_MAX)
			return (hb_cfg_error(cfg, m->endpoints[i], "priority", -1,
				"must be below %u", HB_PRIORITIES_MAX));
		seen[p] = true;
		top = HB_MAX(top, p);
	}
	for (unsigned p = 0; p < top; p++) {
		if (!seen[p])
			return (hb_cfg_error(cfg, m, "endpoints", -1,
				"have priority %u but none has %u: priorities must not have gaps",
				top, p));
	}
	return (0);
}

static int
localities(struct hb_cfg *cfg, const ClusterMsg *cm, const AssignmentMsg *m, struct hb_cluster *c)
{
	size_t n = 0;
	int r = 0;

	for (size_t i = 0; i < m->n_endpoints; i++)
		n += m->endpoints[i]->n_lb_endpoints;
	c->localities = hb_calloc(m->n_endpoints + 1, sizeof *c->localities);
	c->ep = hb_calloc(n + 1, sizeof *c->ep);
	for (size_t i = 0; i < m->n_endpoints; i++) {
		const LocalityMsg *l = m->endpoints[i];
		const Envoy__Config__Core__V3__Locality *where = l->locality;

		c->localities[c->n_localities++] = (struct hb_locality_conf){
			.region = hb_strdup(where == NULL ? "" : where->region),
			.zone = hb_strdup(where == NULL ? "" : where->zone),
			.sub_zone = hb_strdup(where == NULL ? "" : where->sub_zone),
			.priority = l->priority,
			.weight = hb_cfg_u32(cfg, l, "load_balancing_weight",
				l->load_balancing_weight, 1, UINT32_MAX, 0),
		};
		for (size_t k = 0; k < l->n_lb_endpoints; k++)
			r |= endpoint(cfg, cm, l, l->lb_endpoints[k], (unsigned)i, c);
	}
	return (r);
}

int
hb_compile_endpoints(struct hb_cfg *cfg, const ClusterMsg *cm, struct hb_cluster *c)
{
	const AssignmentMsg *m = cm->load_assignment;
	int r;

	c->lb_settings.overprovisioning = 140;
	if (c->type == HB_CLUSTER_ORIGINAL_DST) {
		if (m != NULL)
			return (hb_cfg_error(cfg, cm, "load_assignment", -1,
				"is not possible with ORIGINAL_DST: its endpoints are the addresses that "
				"clients asked for"));
		return (0);
	}
	if (m == NULL)
		return (hb_cfg_error(cfg, cm, NULL, -1, "load_assignment is missing"));
	if (m->policy != NULL)
		c->lb_settings.overprovisioning = hb_cfg_u32(cfg, m->policy,
			"overprovisioning_factor", m->policy->overprovisioning_factor, 1, 1000000,
			140);
	r = check_priorities(cfg, m);
	if (r == 0)
		r = localities(cfg, cm, m, c);
	if (r == 0 && c->type == HB_CLUSTER_LOGICAL_DNS && c->n_ep != 1)
		r = hb_cfg_error(cfg, m, "endpoints", -1,
			"LOGICAL_DNS has exactly one endpoint, not %zu; STRICT_DNS may have several",
			c->n_ep);
	return (r);
}

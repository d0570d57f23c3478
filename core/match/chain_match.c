/* SPDX-License-Identifier: Apache-2.0 */
#include "core/match/chain_priv.h"
#include "core/match/match_priv.h"

#include <stdio.h>

#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/listener/v3/listener_components.pb-c.h"

typedef Envoy__Config__Listener__V3__FilterChainMatch match_msg;

struct hb_chain_match *
hb_chain_match_new(void)
{
	struct hb_chain_match *m;

	HB_NEW(m, CHAIN_MATCH_MAGIC);
	m->seen = hb_map_new();
	m->interned = hb_map_new();
	return (m);
}

void
hb_chain_match_free(struct hb_chain_match **mp)
{
	struct hb_chain_match *m = *mp;

	if (m == NULL)
		return;
	HB_CHECK(m, CHAIN_MATCH_MAGIC);
	for (struct chain_node *n = m->nodes; n != NULL; n = n->all) {
		if (n->kind == CHAIN_NODE_MAP)
			hb_map_free(&n->u.map.children);
		else if (n->kind == CHAIN_NODE_RANGES)
			hb_ip_table_fini(&n->u.ranges);
	}
	hb_map_free(&m->seen);
	hb_map_free(&m->interned);
	hb_free(m->rules);
	hb_arena_fini(&m->arena);
	HB_DEL(*mp);
}

/* One copy of equal bytes: thousands of chains carry the same lists of protocols. */
static const void *
intern(struct hb_chain_match *m, const void *p, size_t n)
{
	void *old;
	char *copy;

	if (n == 0)
		return ("");
	if ((old = hb_map_get(m->interned, hb_strn(p, n))) != NULL)
		return (old);
	copy = hb_arena_alloc(&m->arena, n + 1);
	memcpy(copy, p, n);
	(void)hb_map_put(m->interned, hb_strn(p, n), copy);
	return (copy);
}

static struct hb_str
intern_str(struct hb_chain_match *m, struct hb_str s)
{
	return (hb_strn(intern(m, s.p, s.len), s.len));
}

/* ------------------------------------------------------------------ from the message */

static int
read_server_name(struct hb_chain_match *m, struct hb_cfg *cfg, const match_msg *msg, size_t i,
	struct hb_str *ret)
{
	const char *name = msg->server_names[i];
	bool wildcard = strncmp(name, "*.", 2) == 0;
	char *lower;

	if (*name == '\0' || strcmp(name, "*") == 0 || strcmp(name, "*.") == 0)
		return (hb_cfg_error(cfg, msg, "server_names", (int)i,
			"\"%s\" is no server name; leave server_names out to match every name",
			name));
	if (strchr(name + wildcard, '*') != NULL)
		return (hb_cfg_error(cfg, msg, "server_names", (int)i,
			"\"%s\": a wildcard may only be the first label, as in *.example.com",
			name));
	if (*name == '.')
		hb_cfg_warn(cfg, msg, "server_names", (int)i,
			"\"%s\" matches what *%s matches; write it so", name, name);
	lower = hb_strdup(name + wildcard);
	hb_str_lower(lower, strlen(lower));
	*ret = intern_str(m, hb_str(lower));
	hb_free(lower);
	return (0);
}

static int
read_server_names(
	struct hb_chain_match *m, struct hb_cfg *cfg, const match_msg *msg, struct chain_rule *r)
{
	struct hb_str *v = hb_calloc(msg->n_server_names + 1, sizeof *v);
	int error = 0;

	for (size_t i = 0; i < msg->n_server_names; i++) {
		if (read_server_name(m, cfg, msg, i, &v[i]) != 0)
			error = -EINVAL;
	}
	r->sni.n = (uint32_t)msg->n_server_names;
	r->sni.v = (struct hb_str *)(uintptr_t)intern(m, v, msg->n_server_names * sizeof *v);
	hb_free(v);
	return (error);
}

static int
read_protocols(
	struct hb_chain_match *m, struct hb_cfg *cfg, const match_msg *msg, struct chain_rule *r)
{
	struct hb_str *v = hb_calloc(msg->n_application_protocols + 1, sizeof *v);
	int error = 0;

	for (size_t i = 0; i < msg->n_application_protocols; i++) {
		v[i] = intern_str(m, hb_str(msg->application_protocols[i]));
		if (v[i].len == 0)
			error = hb_cfg_error(cfg, msg, "application_protocols", (int)i,
				"is empty; leave application_protocols out to match every protocol");
	}
	r->alpn.n = (uint32_t)msg->n_application_protocols;
	r->alpn.v = (struct hb_str *)(uintptr_t)intern(m, v, r->alpn.n * sizeof *v);
	hb_free(v);
	return (error);
}

static int
read_cidrs(struct hb_chain_match *m, struct hb_cfg *cfg, const match_msg *msg, const char *field,
	size_t n, Envoy__Config__Core__V3__CidrRange *const *ranges, struct chain_cidrs *ret)
{
	struct hb_cidr *v = hb_calloc(n + 1, sizeof *v);
	int error = 0;

	for (size_t i = 0; i < n; i++) {
		if (hb_match__cidr(cfg, msg, field, (int)i, ranges[i], &v[i]) != 0)
			error = -EINVAL;
	}
	ret->n = (uint32_t)n;
	ret->v = (struct hb_cidr *)(uintptr_t)intern(m, v, n * sizeof *v);
	hb_free(v);
	return (error);
}

static int
read_source_ports(
	struct hb_chain_match *m, struct hb_cfg *cfg, const match_msg *msg, struct chain_rule *r)
{
	uint16_t *v = hb_calloc(msg->n_source_ports + 1, sizeof *v);
	int error = 0;

	for (size_t i = 0; i < msg->n_source_ports; i++) {
		uint32_t port = msg->source_ports[i];

		if (port == 0 || port > UINT16_MAX)
			error = hb_cfg_error(cfg, msg, "source_ports", (int)i,
				"%u is not a port: 1 to 65535", port);
		v[i] = (uint16_t)port;
	}
	r->n_source_ports = (uint32_t)msg->n_source_ports;
	r->source_ports = (uint16_t *)(uintptr_t)intern(m, v, r->n_source_ports * sizeof *v);
	hb_free(v);
	return (error);
}

static int
read_rule(struct hb_chain_match *m, struct hb_cfg *cfg, const match_msg *msg, struct chain_rule *r)
{
	int error = 0;

	if (msg->destination_port != NULL) {
		uint32_t port = msg->destination_port->value;

		if (port == 0 || port > UINT16_MAX)
			error |= hb_cfg_error(cfg, msg, "destination_port", -1,
				"%u is not a port: 1 to 65535", port);
		r->dst_port = (uint16_t)port;
	}
	error |= read_cidrs(
		m, cfg, msg, "prefix_ranges", msg->n_prefix_ranges, msg->prefix_ranges, &r->dst);
	error |= read_server_names(m, cfg, msg, r);
	r->transport = intern_str(m, hb_str(msg->transport_protocol));
	error |= read_protocols(m, cfg, msg, r);
	error |= read_cidrs(m, cfg, msg, "direct_source_prefix_ranges",
		msg->n_direct_source_prefix_ranges, msg->direct_source_prefix_ranges, &r->direct);
	if (msg->source_type > CHAIN_SOURCE_EXTERNAL)
		error |= hb_cfg_error(cfg, msg, "source_type", -1, "%d is not a source type",
			(int)msg->source_type);
	r->source_type = (uint8_t)msg->source_type;
	error |= read_cidrs(m, cfg, msg, "source_prefix_ranges", msg->n_source_prefix_ranges,
		msg->source_prefix_ranges, &r->source);
	error |= read_source_ports(m, cfg, msg, r);
	return (error == 0 ? 0 : -EINVAL);
}

/* Equal messages are told apart from overlaps: the cause is another one (a copied chain). */
static int
check_equal(
	struct hb_chain_match *m, struct hb_cfg *cfg, const match_msg *msg, struct chain_rule *r)
{
	size_t n = msg == NULL ? 0 : protobuf_c_message_get_packed_size(&msg->base);
	uint8_t *bytes = hb_malloc(n + 1);
	struct chain_rule *other;
	int error = 0;

	if (n > 0)
		(void)protobuf_c_message_pack(&msg->base, bytes);
	other = hb_map_get(m->seen, hb_strn(bytes, n));
	if (other != NULL)
		error = hb_cfg_error(cfg, r->chain_msg, "filter_chain_match", -1,
			"filter chain \"%s\" has the same match as filter chain \"%s\"; remove one of them",
			r->name, other->name);
	else
		(void)hb_map_put(m->seen, hb_strn(bytes, n), r);
	hb_free(bytes);
	return (error);
}

int
hb_chain_match_add(struct hb_chain_match *m, struct hb_cfg *cfg, const void *chain_msg,
	const void *msg, unsigned chain, const char *chain_name)
{
	struct chain_rule *r;
	char name[32];

	HB_CHECK(m, CHAIN_MATCH_MAGIC);
	HB_ASSERT(!m->frozen && chain <= INT32_MAX);
	r = hb_arena_alloc(&m->arena, sizeof *r);
	r->chain = chain;
	r->chain_msg = chain_msg;
	(void)snprintf(name, sizeof name, "#%u", chain);
	r->name = hb_arena_str(
		&m->arena, hb_str(chain_name == NULL || *chain_name == '\0' ? name : chain_name))
			  .p;
	if (msg != NULL && read_rule(m, cfg, msg, r) != 0)
		return (-EINVAL);
	if (check_equal(m, cfg, msg, r) != 0)
		return (-EINVAL);
	if (m->n_rules == m->cap_rules) {
		m->cap_rules = HB_MAX(m->cap_rules * 2, 8u);
		m->rules = hb_realloc(m->rules, m->cap_rules * sizeof(struct chain_rule *));
	}
	m->rules[m->n_rules++] = r;
	return (0);
}

int
hb_chain_match_freeze(struct hb_chain_match *m, struct hb_cfg *cfg)
{
	int error;

	HB_CHECK(m, CHAIN_MATCH_MAGIC);
	HB_ASSERT(!m->frozen);
	error = hb_chain__build(m, cfg);
	hb_map_free(&m->seen);
	hb_map_free(&m->interned);
	for (uint32_t i = 0; i < m->n_rules; i++)
		m->rules[i]->chain_msg = NULL;
	m->frozen = true;
	return (error);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include "core/filter/acceptor.h"
#include "core/transport/pair.h"
#include "envoy/extensions/transport_sockets/internal_upstream/v3/internal_upstream.pb-c.h"
#include "upstreams/internal.h"

typedef Envoy__Extensions__TransportSockets__InternalUpstream__V3__InternalUpstreamTransport
	SocketMsg;
typedef Envoy__Extensions__TransportSockets__InternalUpstream__V3__InternalUpstreamTransport__MetadataValueSource
	SourceMsg;
typedef Envoy__Type__Metadata__V3__MetadataKind KindMsg;
typedef Envoy__Config__Core__V3__Metadata MetadataMsg;
typedef Google__Protobuf__Value ValueMsg;

#define SOURCES_MAX   16u
#define META_HOPS     "hbone.internal"
#define META_HOPS_KEY "hops"

struct source {
	bool host; /* else the cluster's */
	char *ns;  /* owned              */
};

struct internal_conf {
	unsigned magic;
#define INTERNAL_CONF_MAGIC 0x29d7c05a
	size_t n;
	struct source source[SOURCES_MAX];
	struct hb_transport_socket *inner; /* owned */
};

/* ------------------------------------------------------------------ metadata */

static char *
scalar(const ValueMsg *v)
{
	switch (v->kind_case) {
	case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
		return (hb_strdup(v->string_value));
	case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
		return (hb_asprintf("%.15g", v->number_value));
	case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
		return (hb_strdup(v->bool_value ? "true" : "false"));
	default:
		return (NULL);
	}
}

size_t
hb_meta_compile(const void *metadata_msg, struct hb_meta **ret)
{
	const MetadataMsg *m = metadata_msg;
	size_t n = 0;

	*ret = NULL;
	for (size_t i = 0; m != NULL && i < m->n_filter_metadata; i++) {
		const Google__Protobuf__Struct *s = m->filter_metadata[i]->value;

		for (size_t k = 0; s != NULL && k < s->n_fields; k++) {
			char *value = scalar(s->fields[k]->value);

			if (value == NULL)
				continue;
			*ret = hb_realloc(*ret, (n + 1) * sizeof **ret);
			(*ret)[n++] = (struct hb_meta){ hb_strdup(m->filter_metadata[i]->key),
				hb_strdup(s->fields[k]->key), value };
		}
	}
	return (n);
}

void
hb_meta_free(struct hb_meta **v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		hb_free((*v)[i].ns);
		hb_free((*v)[i].key);
		hb_free((*v)[i].value);
	}
	hb_free(*v);
	*v = NULL;
}

/* ------------------------------------------------------------------ internal_upstream */

static void
internal_conf_free(const void *conf)
{
	struct internal_conf *c;

	HB_CAST(c, (void *)(uintptr_t)conf, INTERNAL_CONF_MAGIC);
	for (size_t i = 0; i < c->n; i++)
		hb_free(c->source[i].ns);
	hb_transport_socket_free(&c->inner);
	HB_DEL(c);
}

static int
compile_source(struct hb_cfg *cfg, const SourceMsg *m, struct internal_conf *c)
{
	const KindMsg *k = m->kind;
	struct source *s = &c->source[c->n];

	if (*m->name == '\0')
		return (hb_cfg_error(cfg, m, "name", -1, "must not be empty"));
	if (k == NULL ||
		(k->kind_case != ENVOY__TYPE__METADATA__V3__METADATA_KIND__KIND_HOST &&
			k->kind_case != ENVOY__TYPE__METADATA__V3__METADATA_KIND__KIND_CLUSTER))
		return (hb_cfg_error(cfg, m, "kind", -1, "must be host or cluster"));
	s->host = k->kind_case == ENVOY__TYPE__METADATA__V3__METADATA_KIND__KIND_HOST;
	s->ns = hb_strdup(m->name);
	c->n++;
	return (0);
}

static int
internal_compile(
	struct hb_cfg *cfg, const ProtobufCMessage *msg, bool upstream, const void **ret_conf)
{
	const SocketMsg *m = (const void *)msg;
	struct internal_conf *c;
	int r = 0;

	HB_ASSERT(upstream);
	HB_NEW(c, INTERNAL_CONF_MAGIC);
	if (m->n_passthrough_metadata > SOURCES_MAX)
		r = hb_cfg_error(cfg, m, "passthrough_metadata", -1, "has more than %u entries",
			SOURCES_MAX);
	for (size_t i = 0; i < m->n_passthrough_metadata && c->n < SOURCES_MAX; i++)
		r |= compile_source(cfg, m->passthrough_metadata[i], c);
	if (m->transport_socket == NULL)
		r = hb_cfg_error(cfg, m, NULL, -1,
			"transport_socket is missing; RawBuffer hands bytes over as they are");
	else if (hb_transport_socket_compile(
			 cfg, m, "transport_socket", m->transport_socket, true, &c->inner) != 0)
		r = -EINVAL;
	else if (hb_transport_socket_connector(c->inner))
		r = hb_cfg_error(cfg, m, "transport_socket", -1,
			"makes connections itself; use it as the cluster's transport_socket");
	if (r != 0) {
		internal_conf_free(c);
		return (-EINVAL);
	}
	*ret_conf = c;
	return (0);
}

static struct hb_transport *
internal_wrap(const void *conf, struct hb_transport *lower, const struct hb_facts *facts,
	struct hb_str host)
{
	const struct internal_conf *c = conf;

	HB_CHECK(c, INTERNAL_CONF_MAGIC);
	return (hb_transport_socket_wrap(c->inner, lower, facts, host));
}

static size_t
internal_certs(const void *conf, bool trust, const struct hb_cert_info *const **ret)
{
	const struct internal_conf *c = conf;

	HB_CHECK(c, INTERNAL_CONF_MAGIC);
	return (hb_transport_socket_certs(c->inner, trust, ret));
}

static void
internal_key(const void *conf, const struct hb_facts *facts, struct hb_str host, struct hb_text *t)
{
	const struct internal_conf *c = conf;

	HB_CHECK(c, INTERNAL_CONF_MAGIC);
	hb_transport_socket_key(c->inner, facts, host, t);
}

static uint64_t
internal_generation(const void *conf)
{
	const struct internal_conf *c = conf;

	HB_CHECK(c, INTERNAL_CONF_MAGIC);
	return (hb_transport_socket_generation(c->inner));
}

static bool
internal_holds(const void *conf, struct hb_transport *t)
{
	const struct internal_conf *c = conf;

	HB_CHECK(c, INTERNAL_CONF_MAGIC);
	return (hb_transport_socket_holds(c->inner, t));
}

const struct hb_transport_socket_type hb_tsocket_internal_upstream = {
	.name = "envoy.transport_sockets.internal_upstream",
	.upstream =
		&envoy__extensions__transport_sockets__internal_upstream__v3__internal_upstream_transport__descriptor,
	.compile = internal_compile,
	.conf_free = internal_conf_free,
	.wrap = internal_wrap,
	.certs = internal_certs,
	.key = internal_key,
	.generation = internal_generation,
	.holds = internal_holds,
};

/* ------------------------------------------------------------------ connecting */

static void
pass_meta(struct hb_facts *to, const struct hb_meta *v, size_t n, const char *ns)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(v[i].ns, ns) == 0)
			(void)hb_facts_metadata_set(
				to, hb_str(v[i].ns), hb_str(v[i].key), hb_str(v[i].value));
	}
}

/* Shared once: known there, and not handed on from there. */
static void
pass_state(struct hb_facts *to, const struct hb_facts *from)
{
	for (; from != NULL; from = from->parent) {
		for (const struct hb_fact_entry *e = from->filter_state; e != NULL; e = e->next) {
			if (e->shared == 0 || hb_facts_state_entry(to, e->key) != NULL)
				continue;
			(void)hb_facts_state_set(
				to, e->key, e->value, e->read_only, e->shared == 2 ? 2 : 0);
		}
	}
}

static uint64_t
hops_of(const struct hb_facts *f)
{
	struct hb_str s = { NULL, 0 };
	uint64_t n = 0;

	if (f != NULL)
		s = hb_facts_metadata(f, HB_STR(META_HOPS), HB_STR(META_HOPS_KEY));
	return (s.p != NULL && hb_str_u64(s, UINT32_MAX, &n) ? n : 0);
}

static void
fill_facts(struct hb_facts *to, const struct hb_facts *from, const char *name, uint64_t hops)
{
	struct hb_addr a = { .kind = HB_ADDR_INTERNAL, .u.name = name };
	const struct hb_facts *peer = from == NULL ? NULL : hb_facts_identity(from);
	char text[24];
	int n;

	hb_facts_init(to);
	hb_addr_copy(&to->arena, &to->local, &a);
	if (from != NULL) {
		hb_addr_copy(&to->arena, &to->remote, hb_facts_direct_remote(from));
		if (!hb_addr_eq(&to->remote, &from->remote)) {
			hb_facts_keep_direct(to);
			hb_addr_copy(&to->arena, &to->remote, &from->remote);
		}
	}
	if (peer != NULL)
		hb_facts_tls_edit(to)->principal = hb_arena_str(
			&to->arena, hb_facts_tls(peer)->principal);
	n = snprintf(text, sizeof text, "%llu", (unsigned long long)hops);
	(void)hb_facts_metadata_set(
		to, HB_STR(META_HOPS), HB_STR(META_HOPS_KEY), hb_strn(text, (size_t)n));
}

enum hb_close_reason
hb_internal_connect(const struct hb_cluster *cluster, const struct hb_ep_conf *ep,
	const struct hb_transport_socket *socket, const char *name, const struct hb_facts *facts,
	struct hb_worker *w, struct hb_transport **ret, const char **why)
{
	const struct internal_conf *c = hb_transport_socket_conf(
		socket, &hb_tsocket_internal_upstream);
	uint64_t hops = hops_of(facts) + 1;
	struct hb_transport *b;
	struct hb_facts f;

	if (hops > HB_INTERNAL_HOPS_MAX) {
		*why = "too many internal listeners one after another: is there a loop?";
		return (HB_CLOSE_NO_ROUTE);
	}
	fill_facts(&f, facts, name, hops);
	for (size_t i = 0; c != NULL && i < c->n; i++) {
		const struct source *s = &c->source[i];

		if (!s->host)
			pass_meta(&f, cluster->meta, cluster->n_meta, s->ns);
		else if (ep != NULL)
			pass_meta(&f, ep->meta, ep->n_meta, s->ns);
	}
	if (c != NULL)
		pass_state(&f, facts);
	hb_pair_new(w, ret, &b);
	if (hb_accept(w, hb_str(name), b, &f) == 0)
		return (HB_CLOSE_NONE);
	hb_facts_fini(&f);
	hb_transport_abort(&b, HB_CLOSE_NO_ROUTE);
	hb_transport_abort(ret, HB_CLOSE_NO_ROUTE);
	*why = "there is no listener of this name";
	return (HB_CLOSE_NO_ROUTE);
}

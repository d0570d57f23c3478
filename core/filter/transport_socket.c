/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transport sockets: the registry of their types, and compiled ones. Control thread, but for wrap.
 */
#include <stdatomic.h>
#include "core/filter/transport_socket.h"
#include "envoy/config/core/v3/base.pb-c.h"

#define TYPES_MAX 32u

struct hb_transport_socket {
	unsigned magic;
#define TRANSPORT_SOCKET_MAGIC 0x7e50c3e7
	const struct hb_transport_socket_type *type;
	const void *conf; /* owned */
	struct hb_list node;
};

static const struct hb_transport_socket_type *types[TYPES_MAX];
static size_t n_types;
static struct hb_list live = { &live, &live };
static void (*_Atomic watcher)(struct hb_worker *); /* written by the control thread */
static struct hb_run changed;

static int
add_message(const ProtobufCMessageDescriptor *desc, struct hb_err *reterr)
{
	return (desc == NULL ? 0 : hb_cfg_type_add(desc, reterr));
}

int
hb_transport_socket_register(const struct hb_transport_socket_type *t, struct hb_err *reterr)
{
	int r;

	HB_ASSERT(t->name != NULL && t->wrap != NULL);
	HB_ASSERT(t->downstream != NULL || t->upstream != NULL);
	for (size_t i = 0; i < n_types; i++)
		if (strcmp(types[i]->name, t->name) == 0)
			return (hb_err_set(
				reterr, -EEXIST, "transport socket %s is there already", t->name));
	if (n_types == TYPES_MAX)
		return (hb_err_set(
			reterr, -ENOSPC, "more than %u types of transport sockets", TYPES_MAX));
	if ((r = add_message(t->downstream, reterr)) != 0 ||
		(r = add_message(t->upstream, reterr)) != 0)
		return (r);
	types[n_types++] = t;
	return (0);
}

static bool
serves(const ProtobufCMessageDescriptor *side, const ProtobufCMessageDescriptor *desc)
{
	return (side != NULL && strcmp(side->name, desc->name) == 0);
}

/* NULL after reporting. */
static const struct hb_transport_socket_type *
find(struct hb_cfg *cfg, const void *owner, const ProtobufCMessageDescriptor *desc, bool upstream)
{
	const struct hb_transport_socket_type *t;

	for (size_t i = 0; i < n_types; i++) {
		t = types[i];
		if (serves(upstream ? t->upstream : t->downstream, desc))
			return (t);
	}
	for (size_t i = 0; i < n_types; i++) {
		t = types[i];
		if (!serves(upstream ? t->downstream : t->upstream, desc))
			continue;
		(void)hb_cfg_error(cfg, owner, "typed_config", -1,
			"%s is for the %s side; this is the %s side%s%s", desc->name,
			upstream ? "downstream" : "upstream", upstream ? "upstream" : "downstream",
			(upstream ? t->upstream : t->downstream) == NULL ? "" : ": use ",
			(upstream ? t->upstream : t->downstream) == NULL ?
				"" :
				(upstream ? t->upstream : t->downstream)->name);
		return (NULL);
	}
	(void)hb_cfg_error(cfg, owner, "typed_config", -1,
		"%s is not the configuration of a transport socket", desc->name);
	return (NULL);
}

int
hb_transport_socket_compile(struct hb_cfg *cfg, const void *owner_msg, const char *field,
	const void *msg, bool upstream, struct hb_transport_socket **ret)
{
	const Envoy__Config__Core__V3__TransportSocket *m = msg;
	const struct hb_transport_socket_type *type;
	struct hb_transport_socket *s;
	const ProtobufCMessage *any;
	const void *conf = NULL;
	int r;

	*ret = NULL;
	if (m == NULL)
		return (0);
	if (m->config_type_case !=
		ENVOY__CONFIG__CORE__V3__TRANSPORT_SOCKET__CONFIG_TYPE_TYPED_CONFIG)
		return (hb_cfg_error(cfg, m, "typed_config", -1,
			"is missing: name the kind of transport socket by its message"));
	any = hb_cfg_any(cfg, m, "typed_config", -1, m->typed_config);
	if (any == NULL)
		return (-EINVAL);
	type = find(cfg, m, any->descriptor, upstream);
	if (type == NULL)
		return (-EINVAL);
	if (type->compile != NULL && (r = type->compile(cfg, any, upstream, &conf)) != 0)
		return (r);
	HB_NEW(s, TRANSPORT_SOCKET_MAGIC);
	s->type = type;
	s->conf = conf;
	hb_list_add_tail(&live, &s->node);
	*ret = s;
	return (0);
}

void
hb_transport_socket_free(struct hb_transport_socket **sp)
{
	struct hb_transport_socket *s = *sp;

	if (s == NULL)
		return;
	HB_CHECK(s, TRANSPORT_SOCKET_MAGIC);
	*sp = NULL;
	hb_list_del(&s->node);
	if (s->type->conf_free != NULL && s->conf != NULL)
		s->type->conf_free(s->conf);
	HB_DEL(s);
}

struct hb_transport *
hb_transport_socket_wrap(const struct hb_transport_socket *s, struct hb_transport *lower,
	const struct hb_facts *facts, struct hb_str host)
{
	struct hb_transport *t;

	if (s == NULL)
		return (lower);
	HB_CHECK(s, TRANSPORT_SOCKET_MAGIC);
	t = s->type->wrap(s->conf, lower, facts, host);
	HB_ASSERT(t != NULL);
	return (t);
}

void
hb_transport_socket_key(const struct hb_transport_socket *s, const struct hb_facts *facts,
	struct hb_str host, struct hb_text *t)
{
	if (s != NULL && s->type->key != NULL)
		s->type->key(s->conf, facts, host, t);
}

uint64_t
hb_transport_socket_generation(const struct hb_transport_socket *s)
{
	return (s == NULL || s->type->generation == NULL ? 0 : s->type->generation(s->conf));
}

bool
hb_transport_socket_holds(const struct hb_transport_socket *s, struct hb_transport *t)
{
	return (s == NULL || s->type->holds == NULL || s->type->holds(s->conf, t));
}

void
hb_transport_socket_explain(
	const struct hb_transport_socket *s, const struct hb_facts *facts, struct hb_explain *e)
{
	if (s != NULL && s->type->explain != NULL)
		s->type->explain(s->conf, facts, e);
}

enum hb_admits
hb_transport_socket_admits(const struct hb_transport_socket *s)
{
	return (s == NULL || s->type->admits == NULL ? HB_ADMITS_STATED : s->type->admits(s->conf));
}

int
hb_transport_socket_for_workload(
	const struct hb_transport_socket *s, struct hb_cfg *cfg, const void *owner_msg)
{
	if (s == NULL || s->type->for_workload == NULL)
		return (0);
	return (s->type->for_workload(s->conf, cfg, owner_msg));
}

bool
hb_transport_socket_connector(const struct hb_transport_socket *s)
{
	return (s != NULL && s->type->connector);
}

const void *
hb_transport_socket_conf(
	const struct hb_transport_socket *s, const struct hb_transport_socket_type *type)
{
	return (s == NULL || s->type != type ? NULL : s->conf);
}

bool
hb_transport_socket_secure(const struct hb_transport_socket *s)
{
	return (s != NULL && s->type->secure);
}

size_t
hb_transport_socket_certs(
	const struct hb_transport_socket *s, bool trust, const struct hb_cert_info *const **ret)
{
	*ret = NULL;
	if (s == NULL || s->type->certs == NULL)
		return (0);
	return (s->type->certs(s->conf, trust, ret));
}

void
hb_transport_socket_foreach(void (*fn)(void *arg, const struct hb_transport_socket *), void *arg)
{
	struct hb_list *n;

	HB_LIST_FOREACH (n, &live)
		fn(arg, HB_LIST_ENTRY(n, struct hb_transport_socket, node));
}

/* ------------------------------------------------------------------ changes */

static void
tell_worker(struct hb_worker *w, void *arg)
{
	void (*fn)(struct hb_worker *) = atomic_load(&watcher);

	(void)arg;
	if (fn != NULL)
		fn(w);
}

static void
changed_run(struct hb_run *run)
{
	(void)run;
	hb_post_all(tell_worker, NULL, NULL);
}

void
hb_transport_sockets_changed(void)
{
	if (atomic_load(&watcher) == NULL)
		return;
	if (changed.fn == NULL)
		hb_run_init(&changed, changed_run);
	hb_run_soon(hb_worker_control(), &changed);
}

void
hb_transport_sockets_watch(void (*fn)(struct hb_worker *))
{
	atomic_store(&watcher, fn);
	if (fn == NULL && changed.fn != NULL)
		hb_run_cancel(&changed);
}

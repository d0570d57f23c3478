/* SPDX-License-Identifier: Apache-2.0 */
/* /config_dump, /init_dump, /certs: envoy.admin.v3 messages, printed by reflection. */
#include <stdio.h>
#include <time.h>
#include "core/admin/admin_priv.h"
#include "core/config/resource.h"
#include "core/filter/transport_socket.h"
#include "core/identity/identity.h"
#include "core/match/regex.h"
#include "envoy/admin/v3/certs.pb-c.h"
#include "envoy/admin/v3/config_dump.pb-c.h"
#include "envoy/admin/v3/config_dump_shared.pb-c.h"
#include "envoy/admin/v3/init_dump.pb-c.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"

#define TYPE_URL "type.googleapis.com/"

typedef Google__Protobuf__Timestamp timestamp_t;
typedef Google__Protobuf__Any any_t;

static struct hb_text bootstrap_wire;
static int64_t bootstrap_ms;

static int64_t
wall_ms(void)
{
	return (hb_wall_us(hb_worker_control()) / 1000);
}

void
hb_admin_set_bootstrap(struct hb_str wire)
{
	hb_text_fini(&bootstrap_wire);
	hb_text_add(&bootstrap_wire, wire.p, wire.len);
	bootstrap_ms = wall_ms();
}

static void
timestamp_set(timestamp_t *t, int64_t ms)
{
	google__protobuf__timestamp__init(t);
	t->seconds = ms / 1000;
	t->nanos = (int32_t)(ms % 1000) * 1000000;
}

static char *
unconst(const char *z)
{
	return ((char *)(uintptr_t)z);
}

/* ------------------------------------------------------------------ config dump */

struct dump {
	struct hb_regex *name; /* NULL = all            */
	bool eds;
	struct hb_text *out;
	const char *kind; /* resources of this one */
	bool alone;       /* each has a type of its own */
	size_t n;
};

static bool
dump_wants(const struct dump *d, const struct hb_resource_view *v)
{
	return (strcmp(v->kind->name, d->kind) == 0 &&
		(d->name == NULL || hb_regex_find(d->name, v->name, strlen(v->name))));
}

/* {"name": …, "listener": {"@type": …}, "last_updated": …} and the refused update, if any. The
 * member that holds the resource is named by its kind, so it is composed here, not in C types. */
static void
dump_resource(void *arg, const struct hb_resource_view *v)
{
	Envoy__Admin__V3__UpdateFailureState fail = ENVOY__ADMIN__V3__UPDATE_FAILURE_STATE__INIT;
	any_t any = GOOGLE__PROTOBUF__ANY__INIT;
	struct dump *d = arg;
	timestamp_t at;
	char *url;

	if (!dump_wants(d, v))
		return;
	url = hb_asprintf(TYPE_URL "%s", v->kind->desc->name);
	any.type_url = url;
	hb_text_addz(d->out, d->n++ == 0 ? "\n    {\n" : ",\n    {\n");
	if (d->alone)
		hb_text_printf(d->out, "     \"@type\": \"" TYPE_URL "envoy.admin.v3.%s\"%s",
			strcmp(d->kind, "listener") == 0 ? "ListenersConfigDump.StaticListener" :
							   "ClustersConfigDump.StaticCluster",
			v->wire.len > 0 || v->error != NULL ? ",\n" : "");
	if (v->wire.len > 0) {
		any.value.data = (uint8_t *)(uintptr_t)v->wire.p;
		any.value.len = v->wire.len;
		hb_text_printf(d->out, "     \"%s\": ", v->kind->name);
		hb_cfg_to_json(d->out, &any.base, 3);
		timestamp_set(&at, v->updated_ms);
		hb_text_addz(d->out, ",\n     \"last_updated\": ");
		hb_cfg_to_json(d->out, &at.base, 3);
	}
	if (v->error != NULL) {
		any.value.data = (uint8_t *)(uintptr_t)v->error_wire.p;
		any.value.len = v->error_wire.len;
		fail.failed_configuration = v->error_wire.len > 0 ? &any : NULL;
		fail.details = unconst(v->error);
		timestamp_set(&at, v->error_ms);
		fail.last_update_attempt = &at;
		hb_text_printf(d->out, "%s     \"error_state\": ", v->wire.len > 0 ? ",\n" : "");
		hb_cfg_to_json(d->out, &fail.base, 3);
	}
	hb_text_addz(d->out, "\n    }");
	hb_free(url);
}

static void
dump_section(struct dump *d, const char *type, const char *field, const char *kind)
{
	hb_text_printf(d->out, ",\n  {\n   \"@type\": \"" TYPE_URL "envoy.admin.v3.%s\"", type);
	if (field != NULL) {
		d->kind = kind;
		d->n = 0;
		hb_text_printf(d->out, ",\n   \"%s\": [", field);
		hb_resource_foreach(dump_resource, d);
		hb_text_addz(d->out, d->n > 0 ? "\n   ]" : "]");
	}
	hb_text_addz(d->out, "\n  }");
}

/* The endpoints that clusters of the file name. */
static void
dump_endpoints_of(void *arg, const struct hb_resource_view *v)
{
	const Envoy__Config__Cluster__V3__Cluster *m;
	any_t any = GOOGLE__PROTOBUF__ANY__INIT;
	struct dump *d = arg;
	struct hb_text wire;
	struct hb_cfg *cfg;

	if (!dump_wants(d, v) || v->wire.len == 0)
		return;
	cfg = hb_cfg_new(v->name, NULL);
	m = (const void *)hb_cfg_parse_wire(cfg, v->wire, v->kind->desc);
	if (m != NULL && m->load_assignment != NULL) {
		wire = hb_cfg_to_wire(&m->load_assignment->base);
		any.type_url = unconst(
			TYPE_URL "envoy.config.endpoint.v3.ClusterLoadAssignment");
		any.value.data = (uint8_t *)wire.p;
		any.value.len = wire.len;
		hb_text_addz(d->out, d->n++ == 0 ? "\n    {\n" : ",\n    {\n");
		hb_text_addz(d->out, "     \"endpoint_config\": ");
		hb_cfg_to_json(d->out, &any.base, 3);
		hb_text_addz(d->out, "\n    }");
		hb_text_fini(&wire);
	}
	hb_cfg_free(&cfg);
}

static void
dump_endpoints(struct dump *d)
{
	hb_text_addz(d->out, ",\n  {\n   \"@type\": \"" TYPE_URL
			     "envoy.admin.v3.EndpointsConfigDump\",\n"
			     "   \"static_endpoint_configs\": [");
	d->kind = "cluster";
	d->n = 0;
	hb_resource_foreach(dump_endpoints_of, d);
	hb_text_addz(d->out, d->n > 0 ? "\n   ]\n  }" : "]\n  }");
}

static void
dump_bootstrap(struct dump *d)
{
	struct hb_cfg *cfg = hb_cfg_new("bootstrap", NULL);
	Envoy__Admin__V3__BootstrapConfigDump m = ENVOY__ADMIN__V3__BOOTSTRAP_CONFIG_DUMP__INIT;
	timestamp_t at;
	any_t any = GOOGLE__PROTOBUF__ANY__INIT;
	struct hb_text wire;

	timestamp_set(&at, bootstrap_ms);
	m.last_updated = &at;
	m.bootstrap = (void *)(uintptr_t)hb_cfg_parse_wire(cfg,
		hb_strn(bootstrap_wire.p, bootstrap_wire.len),
		hb_cfg_type_find(HB_STR("envoy.config.bootstrap.v3.Bootstrap")));
	wire = hb_cfg_to_wire(&m.base);
	any.type_url = unconst(TYPE_URL "envoy.admin.v3.BootstrapConfigDump");
	any.value.data = (uint8_t *)wire.p;
	any.value.len = wire.len;
	hb_text_addz(d->out, "\n  ");
	hb_cfg_to_json(d->out, &any.base, 1);
	hb_text_fini(&wire);
	hb_cfg_free(&cfg);
}

static void
page_config_dump(struct hb_admin_request *rq)
{
	struct hb_str name = hb_admin_param(rq, "name_regex"),
		      only = hb_admin_param(rq, "resource");
	struct hb_text t = { 0 };
	struct dump d = { .out = &t, .eds = hb_admin_param(rq, "include_eds").p != NULL };
	char why[128];

	if (hb_admin_param(rq, "mask").p != NULL) {
		hb_admin_replyf(rq, 400, "mask is not supported; use resource and name_regex\n");
		return;
	}
	if (name.len > 0 && (d.name = hb_regex_new(name.p, name.len, why, sizeof why)) == NULL) {
		hb_admin_replyf(rq, 400, "name_regex: %s\n", why);
		return;
	}
	if (only.len > 0 && !hb_str_eq(only, HB_STR("static_listeners")) &&
		!hb_str_eq(only, HB_STR("static_clusters"))) {
		hb_regex_free(&d.name);
		hb_admin_replyf(rq, 400, "resource is static_listeners or static_clusters\n");
		return;
	}
	hb_text_addz(&t, "{\n \"configs\": [");
	if (only.len > 0) {
		/* As Envoy: the resources alone. */
		d.alone = true;
		d.kind = hb_str_eq(only, HB_STR("static_listeners")) ? "listener" : "cluster";
		hb_resource_foreach(dump_resource, &d);
	} else {
		dump_bootstrap(&d);
		dump_section(&d, "ClustersConfigDump", "static_clusters", "cluster");
		if (d.eds)
			dump_endpoints(&d);
		dump_section(&d, "ListenersConfigDump", "static_listeners", "listener");
		dump_section(&d, "ScopedRoutesConfigDump", NULL, NULL);
		dump_section(&d, "RoutesConfigDump", NULL, NULL);
		dump_section(&d, "SecretsConfigDump", NULL, NULL);
	}
	hb_text_addz(&t, "\n ]\n}\n");
	hb_regex_free(&d.name);
	hb_admin_reply(rq, 200, "application/json", &t);
}

const struct hb_admin_endpoint hb_admin_config_dump = { "/config_dump",
	"the configuration in force",
	"include_eds, resource=static_listeners|static_clusters, name_regex=REGEX", 0,
	page_config_dump };

/* ------------------------------------------------------------------ init dump */

static void
unready(void *arg, const struct hb_resource_view *v)
{
	struct hb_text *t = arg;

	if (v->kind->is_active == NULL || v->kind->is_active(v->name))
		return;
	hb_text_printf(t, "%s\n  {\n   \"name\": \"%s\",\n   \"target_names\": [",
		t->len > 0 ? "," : "", v->kind->name);
	hb_text_json(t, v->name, strlen(v->name));
	hb_text_addz(t, "]\n  }");
}

static void
page_init_dump(struct hb_admin_request *rq)
{
	struct hb_text list = { 0 }, t = { 0 };

	hb_resource_foreach(unready, &list);
	hb_text_printf(&t, "{\n \"unready_targets_dumps\": [%s%s]\n}\n", list.len > 0 ? list.p : "",
		list.len > 0 ? "\n " : "");
	hb_text_fini(&list);
	hb_admin_reply(rq, 200, "application/json", &t);
}

const struct hb_admin_endpoint hb_admin_init_dump = { "/init_dump",
	"resources that are not active yet", "", 0, page_init_dump };

/* ------------------------------------------------------------------ certificates */

typedef Envoy__Admin__V3__CertificateDetails details_t;
typedef Envoy__Admin__V3__SubjectAlternateName san_t;

static details_t *
details_new(const struct hb_cert_info *c)
{
	details_t *d = hb_calloc(1, sizeof *d);
	int64_t left = c->not_after - wall_ms() / 1000;

	envoy__admin__v3__certificate_details__init(d);
	d->path = c->file == NULL ? unconst("<inline>") : c->file;
	d->serial_number = c->serial;
	d->days_until_expiration = left > 0 ? (uint64_t)left / 86400 : 0;
	d->valid_from = hb_calloc(1, sizeof *d->valid_from);
	d->expiration_time = hb_calloc(1, sizeof *d->expiration_time);
	timestamp_set(d->valid_from, c->not_before * 1000);
	timestamp_set(d->expiration_time, c->not_after * 1000);
	d->subject_alt_names = hb_calloc(c->n_san + 1, sizeof(san_t *));
	for (size_t i = 0; i < c->n_san; i++) {
		san_t *s;

		if (c->san[i].type == HB_SAN_EMAIL)
			continue;
		s = d->subject_alt_names[d->n_subject_alt_names++] = hb_calloc(1, sizeof *s);
		envoy__admin__v3__subject_alternate_name__init(s);
		s->name_case = c->san[i].type == HB_SAN_DNS ?
			ENVOY__ADMIN__V3__SUBJECT_ALTERNATE_NAME__NAME_DNS :
			c->san[i].type == HB_SAN_URI ?
			ENVOY__ADMIN__V3__SUBJECT_ALTERNATE_NAME__NAME_URI :
			ENVOY__ADMIN__V3__SUBJECT_ALTERNATE_NAME__NAME_IP_ADDRESS;
		s->dns = c->san[i].value; /* the members of the oneof share this place */
	}
	return (d);
}

static void
details_free(details_t **v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < v[i]->n_subject_alt_names; k++)
			hb_free(v[i]->subject_alt_names[k]);
		hb_free(v[i]->subject_alt_names);
		hb_free(v[i]->valid_from);
		hb_free(v[i]->expiration_time);
		hb_free(v[i]);
	}
	hb_free(v);
}

static size_t
details_list(const struct hb_transport_socket *s, bool trust, details_t ***ret)
{
	const struct hb_cert_info *const *certs;
	size_t n = hb_transport_socket_certs(s, trust, &certs);

	*ret = hb_calloc(n + 1, sizeof **ret);
	for (size_t i = 0; i < n; i++)
		(*ret)[i] = details_new(certs[i]);
	return (n);
}

static void
cert_one(void *arg, const struct hb_transport_socket *s)
{
	Envoy__Admin__V3__Certificate c = ENVOY__ADMIN__V3__CERTIFICATE__INIT;
	struct hb_text *t = arg;

	c.n_ca_cert = details_list(s, true, &c.ca_cert);
	c.n_cert_chain = details_list(s, false, &c.cert_chain);
	if (c.n_ca_cert + c.n_cert_chain > 0) {
		hb_text_addz(t, t->len > 0 ? ",\n  " : "\n  ");
		hb_cfg_to_json_defaults(t, &c.base, 1);
	}
	details_free(c.ca_cert, c.n_ca_cert);
	details_free(c.cert_chain, c.n_cert_chain);
}

static void
page_certs(struct hb_admin_request *rq)
{
	struct hb_text list = { 0 }, t = { 0 };

	hb_transport_socket_foreach(cert_one, &list);
	hb_text_printf(&t, "{\n \"certificates\": [%s%s]\n}\n", list.len > 0 ? list.p : "",
		list.len > 0 ? "\n " : "");
	hb_text_fini(&list);
	hb_admin_reply(rq, 200, "application/json", &t);
}

const struct hb_admin_endpoint hb_admin_certs = { "/certs",
	"certificates in use, their names and expiry", "", 0, page_certs };

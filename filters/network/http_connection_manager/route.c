/* SPDX-License-Identifier: Apache-2.0 */
#include "core/match/match.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb-c.h"
#include "filters/network/http_connection_manager/route.h"

#define VALUE_MAX 8192u /* lines of one header that are joined to be matched */

typedef Envoy__Config__Route__V3__RouteConfiguration msg_config;
typedef Envoy__Config__Route__V3__VirtualHost msg_host;
typedef Envoy__Config__Route__V3__Route msg_route;
typedef Envoy__Config__Route__V3__RouteAction msg_action;
typedef Envoy__Config__Route__V3__HeaderMatcher msg_header;
typedef Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy msg_proxy;
typedef Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy__WeightedCluster msg_weighted;
typedef Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy__WeightedCluster__ClusterWeight
	msg_weight;

struct header_match {
	char *name;                      /* owned; lower case */
	struct hb_string_matcher *value; /* owned; NULL = presence alone */
	bool present, invert, missing_is_empty;
};

enum match_kind { MATCH_CONNECT, MATCH_PREFIX, MATCH_PATH };

struct route {
	struct hb_chain *chain; /* owned; NULL = status */
	unsigned status;        /* to be answered; 0 = chain */
	enum match_kind kind;
	char *path;                  /* owned; of kinds other than CONNECT */
	struct header_match *header; /* owned */
	size_t n_headers;
	bool forbidden; /* CONNECT is not allowed here */
};

enum domain_kind { DOMAIN_EXACT, DOMAIN_SUFFIX, DOMAIN_PREFIX, DOMAIN_ANY };

struct domain {
	char *text; /* owned; lower case, without the star */
	enum domain_kind kind;
	size_t host;
};

struct host {
	struct route *route; /* owned */
	size_t n_routes;
};

struct hcm_routes {
	unsigned magic;
#define HCM_ROUTES_MAGIC 0x5a8f3b16
	struct host *host; /* owned */
	size_t n_hosts;
	struct domain *domain; /* owned */
	size_t n_domains;
	bool post; /* some route takes POST requests */
};

/* ------------------------------------------------------------------ compiling: chains */

/* Compiled as a document of its own, for its messages stand in no file. */
static struct hb_chain *
compile_wire(struct hb_cfg *cfg, const void *owner, const ProtobufCMessage *msg, const char *where)
{
	struct hb_text bytes = hb_cfg_to_wire(msg);
	struct hb_cfg *doc = hb_cfg_new(where, NULL);
	struct hb_errs *errs = hb_cfg_errs(doc);
	const ProtobufCMessage *m = hb_cfg_parse_wire(
		doc, hb_strn(bytes.p, bytes.len), msg->descriptor);
	struct hb_chain *c = m == NULL ? NULL : hb_chain_compile(doc, m, where);

	for (size_t i = 0; i < errs->n; i++)
		(void)hb_cfg_error(cfg, owner, NULL, -1, "%s", errs->v[i].text);
	hb_cfg_free(&doc);
	hb_text_fini(&bytes);
	return (c);
}

/* A chain with a tcp_proxy alone. */
static struct hb_chain *
make_chain(struct hb_cfg *cfg, const void *owner, msg_proxy *proxy, const char *where)
{
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	Envoy__Config__Listener__V3__Filter filter = ENVOY__CONFIG__LISTENER__V3__FILTER__INIT;
	Envoy__Config__Listener__V3__Filter *filters[] = { &filter };
	Envoy__Config__Listener__V3__FilterChain chain =
		ENVOY__CONFIG__LISTENER__V3__FILTER_CHAIN__INIT;
	struct hb_text bytes = hb_cfg_to_wire(&proxy->base);
	struct hb_chain *c;

	any.type_url = (char *)(uintptr_t) "type.googleapis.com/"
					   "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
	any.value.len = bytes.len;
	any.value.data = (uint8_t *)bytes.p;
	filter.name = (char *)(uintptr_t) "tcp_proxy";
	filter.config_type_case = ENVOY__CONFIG__LISTENER__V3__FILTER__CONFIG_TYPE_TYPED_CONFIG;
	filter.typed_config = &any;
	chain.name = (char *)(uintptr_t)where;
	chain.n_filters = 1;
	chain.filters = filters;
	c = compile_wire(cfg, owner, &chain.base, where);
	hb_text_fini(&bytes);
	return (c);
}

static struct hb_chain *
chain_of(struct hb_cfg *cfg, const msg_action *m, const char *where,
	const struct hcm_route_source *src)
{
	msg_proxy proxy = ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__TCP_PROXY__INIT;
	msg_weighted weighted =
		ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__TCP_PROXY__WEIGHTED_CLUSTER__INIT;
	Google__Protobuf__Duration idle = GOOGLE__PROTOBUF__DURATION__INIT;
	uint64_t ms = hb_cfg_duration_ms(cfg, m, "idle_timeout", m->idle_timeout, src->idle_ms);
	size_t n = m->cluster_specifier_case ==
			ENVOY__CONFIG__ROUTE__V3__ROUTE_ACTION__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS ?
		m->weighted_clusters->n_clusters :
		0;
	msg_weight *w = hb_calloc(n + 1, sizeof *w);
	msg_weight **list = hb_calloc(n + 1, sizeof *list);
	struct hb_chain *c;

	idle.seconds = (int64_t)(ms / 1000);
	idle.nanos = (int32_t)(ms % 1000 * 1000000);
	proxy.stat_prefix = (char *)(uintptr_t)src->stat_prefix;
	proxy.idle_timeout = &idle;
	for (size_t i = 0; i < n; i++) {
		const Envoy__Config__Route__V3__WeightedCluster__ClusterWeight *from =
			m->weighted_clusters->clusters[i];

		w[i] = (msg_weight)
			ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__TCP_PROXY__WEIGHTED_CLUSTER__CLUSTER_WEIGHT__INIT;
		w[i].name = from->name;
		w[i].weight = hb_cfg_u32(cfg, from, "weight", from->weight, 1, UINT32_MAX, 1);
		list[i] = &w[i];
		hb_cfg_refers(cfg, from, "name", "cluster", from->name);
	}
	weighted.n_clusters = n;
	weighted.clusters = list;
	proxy.cluster_specifier_case = n > 0 ?
		ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__TCP_PROXY__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS :
		ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__TCP_PROXY__CLUSTER_SPECIFIER_CLUSTER;
	if (n > 0)
		proxy.weighted_clusters = &weighted;
	else
		proxy.cluster = m->cluster;
	hb_cfg_refers(cfg, m, "cluster", "cluster", proxy.cluster);
	c = make_chain(cfg, m, &proxy, where);
	hb_free(w);
	hb_free(list);
	return (c);
}

/* ------------------------------------------------------------------ compiling: routes */

static void
compile_header(struct hb_cfg *cfg, const msg_header *m, struct header_match *h)
{
	h->name = hb_strdup(m->name);
	hb_str_lower(h->name, strlen(h->name));
	if (*h->name == '\0')
		(void)hb_cfg_error(cfg, m, "name", -1, "must not be empty");
	h->invert = m->invert_match;
	h->missing_is_empty = m->treat_missing_header_as_empty;
	h->present = true;
	if (m->header_match_specifier_case ==
		ENVOY__CONFIG__ROUTE__V3__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_PRESENT_MATCH)
		h->present = m->present_match;
	else if (m->header_match_specifier_case ==
		ENVOY__CONFIG__ROUTE__V3__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_STRING_MATCH)
		h->value = hb_string_matcher_compile(cfg, m, "string_match", -1, m->string_match);
}

/* CONNECT is allowed by the connection manager, or by the route, which must end the tunnel. */
static void
compile_connect(struct hb_cfg *cfg, const msg_action *m, const struct hcm_route_source *src,
	struct route *r)
{
	r->forbidden = !src->connect;
	for (size_t i = 0; i < m->n_upgrade_configs; i++) {
		const Envoy__Config__Route__V3__RouteAction__UpgradeConfig *u =
			m->upgrade_configs[i];

		if (!hb_str_ieq(hb_str(u->upgrade_type), HB_STR("CONNECT"))) {
			(void)hb_cfg_error(cfg, u, "upgrade_type", -1,
				"must be CONNECT, others are not served");
			continue;
		}
		r->forbidden = !hb_cfg_bool(u->enabled, true);
		if (r->kind != MATCH_CONNECT &&
			(u->connect_config == NULL || !u->connect_config->allow_post))
			break;
		if (u->connect_config == NULL && !r->forbidden)
			(void)hb_cfg_error(cfg, u, "connect_config", -1,
				"is missing: without it the request would be passed on, which is not "
				"supported; write connect_config: {} to end the tunnel here");
		return;
	}
	if (r->kind != MATCH_CONNECT)
		(void)hb_cfg_error(cfg, m, "upgrade_configs", -1,
			"needs an entry of type CONNECT with connect_config: {allow_post: true}: requests "
			"with a path are served as tunnels only");
	else if (!r->forbidden)
		(void)hb_cfg_error(cfg, m, "upgrade_configs", -1,
			"needs an entry of type CONNECT with connect_config: {}, so that the tunnel ends "
			"here");
}

static void
compile_match(struct hb_cfg *cfg, const msg_route *m, struct route *r)
{
	const Envoy__Config__Route__V3__RouteMatch *match = m->match;

	switch (match == NULL ? 0 : match->path_specifier_case) {
	case ENVOY__CONFIG__ROUTE__V3__ROUTE_MATCH__PATH_SPECIFIER_CONNECT_MATCHER:
		break;
	case ENVOY__CONFIG__ROUTE__V3__ROUTE_MATCH__PATH_SPECIFIER_PREFIX:
		r->kind = MATCH_PREFIX;
		r->path = hb_strdup(match->prefix);
		break;
	case ENVOY__CONFIG__ROUTE__V3__ROUTE_MATCH__PATH_SPECIFIER_PATH:
		r->kind = MATCH_PATH;
		r->path = hb_strdup(match->path);
		break;
	default:
		(void)hb_cfg_error(cfg, m, "match", -1,
			"must have a connect_matcher, or the prefix or path of POST requests that are "
			"tunnels: others are not served");
		return;
	}
	if (r->path != NULL && r->path[0] != '/')
		(void)hb_cfg_error(cfg, match, r->kind == MATCH_PREFIX ? "prefix" : "path", -1,
			"must start with a slash");
	r->header = hb_calloc(match->n_headers + 1, sizeof *r->header);
	r->n_headers = match->n_headers;
	for (size_t i = 0; i < match->n_headers; i++)
		compile_header(cfg, match->headers[i], &r->header[i]);
}

static void
compile_route(struct hb_cfg *cfg, const msg_route *m, const struct hcm_route_source *src,
	const char *host, size_t index, struct route *r)
{
	char *where = hb_asprintf("%s/%zu", host, index);

	compile_match(cfg, m, r);
	if (m->action_case == ENVOY__CONFIG__ROUTE__V3__ROUTE__ACTION_DIRECT_RESPONSE) {
		r->status = m->direct_response->status;
		if (r->status < 200 || r->status > 599)
			(void)hb_cfg_error(
				cfg, m->direct_response, "status", -1, "must be 200 to 599");
	} else if (m->action_case != ENVOY__CONFIG__ROUTE__V3__ROUTE__ACTION_ROUTE) {
		(void)hb_cfg_error(cfg, m, "route", -1,
			"is missing: name a cluster, or write a direct_response");
	} else {
		compile_connect(cfg, m->route, src, r);
		if (m->route->cluster_specifier_case ==
			ENVOY__CONFIG__ROUTE__V3__ROUTE_ACTION__CLUSTER_SPECIFIER__NOT_SET)
			(void)hb_cfg_error(cfg, m->route, NULL, -1, "names no cluster");
		else
			r->chain = chain_of(cfg, m->route, where, src);
	}
	hb_free(where);
}

static void
compile_domain(struct hb_cfg *cfg, const msg_host *m, size_t i, struct hcm_routes *t, size_t host)
{
	const char *s = m->domains[i];
	size_t n = strlen(s);
	struct domain *d = &t->domain[t->n_domains++];

	d->host = host;
	d->kind = strcmp(s, "*") == 0    ? DOMAIN_ANY :
		s[0] == '*'              ? DOMAIN_SUFFIX :
		n > 0 && s[n - 1] == '*' ? DOMAIN_PREFIX :
					   DOMAIN_EXACT;
	d->text = d->kind == DOMAIN_PREFIX || d->kind == DOMAIN_ANY ? hb_strndup(s, n - 1) :
								      hb_strdup(s);
	if (d->kind == DOMAIN_SUFFIX)
		memmove(d->text, d->text + 1, n);
	hb_str_lower(d->text, strlen(d->text));
	if (n == 0 || memchr(d->text, '*', strlen(d->text)) != NULL)
		(void)hb_cfg_error(cfg, m, "domains", (int)i,
			"\"%s\" must be a name with its port, or have one * at one end", s);
	for (size_t k = 0; k + 1 < t->n_domains; k++)
		if (t->domain[k].kind == d->kind && strcmp(t->domain[k].text, d->text) == 0)
			(void)hb_cfg_error(cfg, m, "domains", (int)i,
				"\"%s\" is in another virtual host, too", s);
}

static void
compile_host(struct hb_cfg *cfg, const msg_host *m, const struct hcm_route_source *src,
	struct hcm_routes *t, size_t index)
{
	struct host *h = &t->host[index];

	if (m->n_domains == 0)
		(void)hb_cfg_error(cfg, m, "domains", -1, "is empty: \"*\" is every authority");
	t->domain = hb_realloc(t->domain, (t->n_domains + m->n_domains + 1) * sizeof *t->domain);
	for (size_t i = 0; i < m->n_domains; i++)
		compile_domain(cfg, m, i, t, index);
	h->route = hb_calloc(m->n_routes + 1, sizeof *h->route);
	h->n_routes = m->n_routes;
	for (size_t i = 0; i < m->n_routes; i++) {
		compile_route(cfg, m->routes[i], src, m->name, i, &h->route[i]);
		t->post = t->post || h->route[i].kind != MATCH_CONNECT;
	}
}

struct hcm_routes *
hcm_routes_compile(struct hb_cfg *cfg, const void *owner, const msg_config *m,
	const struct hcm_route_source *src)
{
	struct hb_errs *errs = hb_cfg_errs(cfg);
	size_t before = errs->n + errs->dropped;
	struct hcm_routes *t;

	if (m == NULL || m->n_virtual_hosts == 0) {
		(void)hb_cfg_error(
			cfg, owner, "route_config", -1, "needs a virtual host with routes");
		return (NULL);
	}
	HB_NEW(t, HCM_ROUTES_MAGIC);
	t->host = hb_calloc(m->n_virtual_hosts, sizeof *t->host);
	t->n_hosts = m->n_virtual_hosts;
	for (size_t i = 0; i < t->n_hosts; i++)
		compile_host(cfg, m->virtual_hosts[i], src, t, i);
	if (errs->n + errs->dropped != before)
		hcm_routes_free(&t);
	return (t);
}

static void
route_fini(struct route *r)
{
	hb_chain_free(&r->chain);
	hb_free(r->path);
	for (size_t i = 0; i < r->n_headers; i++) {
		hb_free(r->header[i].name);
		hb_string_matcher_free(&r->header[i].value);
	}
	hb_free(r->header);
}

void
hcm_routes_free(struct hcm_routes **tp)
{
	struct hcm_routes *t = *tp;

	if (t == NULL)
		return;
	HB_CHECK(t, HCM_ROUTES_MAGIC);
	*tp = NULL;
	for (size_t i = 0; i < t->n_hosts; i++) {
		for (size_t k = 0; k < t->host[i].n_routes; k++)
			route_fini(&t->host[i].route[k]);
		hb_free(t->host[i].route);
	}
	for (size_t i = 0; i < t->n_domains; i++)
		hb_free(t->domain[i].text);
	hb_free(t->domain);
	hb_free(t->host);
	HB_DEL(t);
}

/* ------------------------------------------------------------------ choosing */

static bool
covers(const struct domain *d, struct hb_str authority)
{
	struct hb_str text = hb_str(d->text), part = authority;

	if (d->kind == DOMAIN_ANY)
		return (true);
	/* A star stands for one character at least. */
	if (text.len > authority.len || (d->kind != DOMAIN_EXACT && text.len == authority.len))
		return (false);
	if (d->kind == DOMAIN_SUFFIX)
		part = hb_strn(authority.p + authority.len - text.len, text.len);
	else if (d->kind == DOMAIN_PREFIX)
		part = hb_strn(authority.p, text.len);
	return (hb_str_ieq(part, text));
}

static const struct host *
find_host(const struct hcm_routes *t, struct hb_str authority)
{
	const struct domain *best = NULL;

	for (size_t i = 0; i < t->n_domains; i++) {
		const struct domain *d = &t->domain[i];

		if (covers(d, authority) &&
			(best == NULL || d->kind < best->kind ||
				(d->kind == best->kind && strlen(d->text) > strlen(best->text))))
			best = d;
	}
	return (best == NULL ? NULL : &t->host[best->host]);
}

/* p NULL = not there. `joined` is for lines of one name. */
static struct hb_str
value_of(const struct hb_h2_request *r, const char *name, struct hb_text *joined)
{
	struct hb_str found = { NULL, 0 };

	if (strcmp(name, ":authority") == 0)
		return (r->authority);
	if (strcmp(name, ":method") == 0)
		return (r->method);
	for (size_t i = 0; i < r->n_headers; i++) {
		if (!hb_str_eq(r->headers[i].name, hb_str(name)))
			continue;
		if (found.p == NULL) {
			found = r->headers[i].value;
			continue;
		}
		if (joined->len == 0)
			hb_text_add(joined, found.p, found.len);
		hb_text_addc(joined, ',');
		hb_text_add(joined, r->headers[i].value.p, r->headers[i].value.len);
		found = hb_strn(joined->p, joined->len);
	}
	return (found);
}

static bool
header_matches(const struct header_match *h, const struct hb_h2_request *r)
{
	struct hb_text joined = { .cap_max = VALUE_MAX };
	struct hb_str v = value_of(r, h->name, &joined);
	bool yes;

	if (v.p == NULL && h->missing_is_empty)
		v = HB_STR("");
	if (h->value == NULL)
		yes = ((v.p != NULL) == h->present) != h->invert;
	else
		yes = v.p != NULL && hb_string_match(h->value, v) != h->invert;
	hb_text_fini(&joined);
	return (yes);
}

static bool
path_matches(const struct route *route, const struct hb_h2_request *r)
{
	bool connect = hb_str_eq(r->method, HB_STR("CONNECT"));
	struct hb_str path = r->path;
	const char *query;

	if (connect || route->kind == MATCH_CONNECT)
		return (connect && route->kind == MATCH_CONNECT);
	if (route->kind == MATCH_PREFIX)
		return (hb_str_starts(path, hb_str(route->path)));
	query = path.len == 0 ? NULL : memchr(path.p, '?', path.len);
	if (query != NULL)
		path.len = (size_t)(query - path.p);
	return (hb_str_eq(path, hb_str(route->path)));
}

bool
hcm_routes_post(const struct hcm_routes *t)
{
	HB_CHECK(t, HCM_ROUTES_MAGIC);
	return (t->post);
}

struct hcm_found
hcm_routes_find(const struct hcm_routes *t, const struct hb_h2_request *r)
{
	const struct host *h = find_host(t, r->authority);
	size_t k;

	HB_CHECK(t, HCM_ROUTES_MAGIC);
	for (size_t i = 0; h != NULL && i < h->n_routes; i++) {
		const struct route *route = &h->route[i];

		if (!path_matches(route, r))
			continue;
		for (k = 0; k < route->n_headers && header_matches(&route->header[k], r);)
			k++;
		if (k < route->n_headers)
			continue;
		return ((struct hcm_found){ .chain = route->forbidden ? NULL : route->chain,
			.status = route->status,
			.forbidden = route->forbidden });
	}
	return ((struct hcm_found){ 0 });
}

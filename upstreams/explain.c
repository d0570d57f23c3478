/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include "core/filter/explain.h"
#include "upstreams/dial.h"
#include "upstreams/hbone.h"
#include "upstreams/dns_cluster.h"
#include "upstreams/orig_dst.h"
#include "upstreams/show.h"

#define SHOWN_MAX 50u /* endpoints named in one explanation */

static const char *const type_names[] = { "STATIC", "STRICT_DNS", "LOGICAL_DNS", "ORIGINAL_DST" };

static const char *
health_why(unsigned health)
{
	if (health & HB_EP_EDS_UNHEALTHY)
		return ("unhealthy by configuration");
	if (health & HB_EP_HC_FAILED)
		return ("its health check fails");
	if (health & HB_EP_OUTLIER)
		return ("ejected after failures");
	if (health & HB_EP_EDS_DEGRADED)
		return ("degraded: used when nothing healthy is left");
	return ("healthy");
}

static void
explain_priorities(const struct hb_eps *eps, struct hb_explain *ex)
{
	for (unsigned i = 0; i < eps->n_prio; i++) {
		const struct hb_lb_prio *p = &eps->prio[i];
		unsigned load = p->load_healthy + p->load_degraded;
		char name[16];

		(void)snprintf(name, sizeof name, "%u", i);
		hb_explain_step(ex, "priority", name, load > 0 ? "chosen" : "lost",
			"%u %% of the connections; %u of %u endpoints healthy, %u degraded%s", load,
			p->n_healthy, p->n_total, p->n_degraded,
			p->panic ? "; too few are healthy, so all of them are used (panic)" : "");
	}
}

static void
explain_endpoint(const struct hb_cluster *c, const struct hb_eps *eps, const struct hb_endpoint *e,
	const struct hb_endpoint *chosen, struct hb_explain *ex)
{
	const struct hb_ep_addrs *addrs = hb_endpoint_addrs(e);
	const struct hb_lb_prio *p = &eps->prio[c->localities[e->conf->locality].priority];
	unsigned health = hb_endpoint_health(e);
	char text[HB_ADDR_TEXT_MAX];

	(void)hb_addr_format(&addrs->v[0], text, sizeof text);
	if (e == chosen)
		hb_explain_step(ex, "endpoint", text, "chosen", "%s, by %s%s%s%s",
			health_why(health), c->lb->name, *e->hostname == '\0' ? "" : ", host ",
			e->hostname, addrs->n > 1 ? "; its addresses are raced" : "");
	else if ((health & HB_EP_UNUSABLE) != 0 && !p->panic)
		hb_explain_step(ex, "endpoint", text, "lost", "%s", health_why(health));
	else if (p->load_healthy + p->load_degraded == 0)
		hb_explain_step(ex, "endpoint", text, "lost", "its priority gets no connections");
	else
		hb_explain_step(ex, "endpoint", text, "lost", "%s; another connection may get it",
			health_why(health));
}

static void
explain_names(const struct hb_cluster *c, struct hb_explain *ex)
{
	for (size_t i = 0; i < c->n_ep; i++) {
		const char *error = hb_dns_cluster_error(c, i);

		if (c->ep[i].name == NULL || c->slots[i].n > 0)
			continue;
		hb_explain_step(ex, "endpoint", c->ep[i].name, "lost", "%s",
			error != NULL             ? error :
				c->n_targets == 0 ? "names are not looked up here" :
						    "it has not been looked up yet");
	}
}

/* The tunnels in the order in which they are made. */
static void
explain_tunnels(
	const struct hb_hbone_conf *h, const struct hb_ep_addrs *addrs, struct hb_explain *ex)
{
	char text[HB_ADDR_TEXT_MAX] = "in the outer tunnel";
	struct hb_ep_addrs *peer;

	if (h == NULL)
		return;
	explain_tunnels(hb_hbone_through(h), addrs, ex);
	if (hb_hbone_through(h) == NULL) {
		peer = hb_hbone_addrs(h, addrs);
		(void)hb_addr_format(&peer->v[0], text, sizeof text);
		hb_ep_addrs_free(peer);
	}
	hb_explain_step(ex, "tunnel", text, "chosen", "HTTP/2 %s, %s",
		hb_transport_socket_secure(hb_hbone_socket(h)) ? "over TLS" : "in the clear",
		hb_hbone_through(h) == NULL ? "shared with others" : "for this connection alone");
}

static bool
is_secure(const struct hb_transport_socket *s)
{
	const struct hb_hbone_conf *h = hb_hbone_of(s);

	return (hb_transport_socket_secure(h == NULL ? s : hb_hbone_socket(h)));
}

static void
explain_balanced(struct hb_cluster *c, struct hb_explain *ex)
{
	const struct hb_eps *eps = atomic_load(&c->eps);
	struct hb_lb_ctx ctx = { .settings = &c->lb_settings };
	struct hb_lb_state state = { 0 };
	const struct hb_endpoint *chosen = hb_lb_choose(eps, &state, &ctx);
	char text[HB_ADDR_TEXT_MAX];

	hb_lb_state_fini(&state);
	explain_priorities(eps, ex);
	for (size_t i = 0; i < eps->n && i < SHOWN_MAX; i++)
		explain_endpoint(c, eps, eps->ep[i], chosen, ex);
	if (eps->n > SHOWN_MAX)
		hb_explain_step(ex, "endpoint", "…", "lost", "%zu more", eps->n - SHOWN_MAX);
	explain_names(c, ex);
	if (chosen == NULL) {
		hb_explain_step(ex, "result", c->name, "refused",
			eps->n == 0 ? "the cluster has no endpoint" : "no endpoint is usable");
		return;
	}
	explain_tunnels(hb_hbone_of(chosen->conf->socket), hb_endpoint_addrs(chosen), ex);
	(void)hb_addr_format(&hb_endpoint_addrs(chosen)->v[0], text, sizeof text);
	hb_explain_step(ex, "result", text, "chosen", "connects within %llu ms%s",
		(unsigned long long)c->connect_timeout_ms,
		is_secure(chosen->conf->socket) ? ", TLS included" : ", in the clear");
}

static void
explain_original(const struct hb_cluster *c, const struct hb_facts *facts, struct hb_explain *ex)
{
	char text[HB_ADDR_TEXT_MAX];
	struct hb_addr a;
	const char *why;

	if (!hb_orig_address(c, facts, &a, &why)) {
		hb_explain_step(ex, "result", c->name, "refused", "%s", why);
		return;
	}
	(void)hb_addr_format(&a, text, sizeof text);
	hb_explain_step(ex, "endpoint", text, "chosen", "the original destination%s",
		c->orig.port_set ? ", with the port of upstream_port_override" : "");
	hb_explain_step(ex, "result", text, "chosen", "connects within %llu ms",
		(unsigned long long)c->connect_timeout_ms);
}

void
hb_upstreams_explain(struct hb_str cluster, const struct hb_facts *facts, struct hb_explain *ex)
{
	struct hb_cluster *c = hb_cluster_find(cluster);
	char *name;

	if (c == NULL) {
		name = hb_strndup(cluster.p == NULL ? "" : cluster.p, cluster.len);
		hb_explain_step(ex, "cluster", name, "refused", "there is no cluster of this name");
		hb_free(name);
		return;
	}
	hb_explain_step(ex, "cluster", c->name, "chosen",
		"type %s, %s, %u of %u connections in use", type_names[c->type], c->lb->name,
		hb_cluster_connections(c), c->limits[0].connections);
	if (hb_cluster_connections(c) >= c->limits[0].connections)
		hb_explain_step(ex, "result", c->name, "refused", "max_connections is reached");
	else if (c->type == HB_CLUSTER_ORIGINAL_DST)
		explain_original(c, facts, ex);
	else
		explain_balanced(c, ex);
}

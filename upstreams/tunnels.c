/* SPDX-License-Identifier: Apache-2.0 */
#include "upstreams/tunnels.h"
#include "upstreams/hbone.h"
#include "upstreams/orig_dst.h"
#include "upstreams/pool.h"

/* Where the endpoint is, which may be behind the tunnel's port; the peer's address when it is gone. */
static struct hb_addr
endpoint_of(const struct hb_pool_place *p, const struct hb_worker *w, const struct hb_facts *facts)
{
	const struct hb_eps *eps = atomic_load_explicit(&p->cluster->eps, memory_order_acquire);
	struct hb_addr a;
	const char *why;

	if (p->cluster->type == HB_CLUSTER_ORIGINAL_DST)
		return (hb_orig_address(p->cluster, facts, &a, &why) ? a : p->addr);
	for (size_t i = 0; p->cell != NULL && eps != NULL && i < eps->n; i++)
		if (hb_endpoint_has_cell(eps->ep[i], w, p->cell))
			return (hb_endpoint_addrs(eps->ep[i])->v[0]);
	return (p->addr);
}

void
hb_upstreams_tunnels(struct hb_transport *t, const struct hb_facts *facts, struct hb_str asked,
	void (*fn)(void *arg, const struct hb_tunnel_view *), void *arg)
{
	struct hb_hbone_subject subject = { .facts = facts };
	struct hb_hbone_request inner = { 0 }, request;
	struct hb_tunnel_view v = { 0 };
	struct hb_pool_place p;
	struct hb_addr addr;

	for (; t != NULL; t = t->ops->inner == NULL ? NULL : t->ops->inner(t)) {
		if (!hb_h2_is_stream(t) || !hb_pool_place_of(t, &p))
			continue;
		addr = endpoint_of(&p, t->worker, facts);
		subject.cluster = p.cluster;
		subject.host = p.host;
		subject.addr = &addr;
		request = (struct hb_hbone_request){ 0 };
		if (p.conf != p.cluster->http2)
			(void)hb_hbone_request_authority(hb_hbone_with(p.conf), &subject, &request);
		else
			request.tunnel.authority = asked;
		v.state = hb_h2_stream_state(t);
		v.authority = request.tunnel.authority;
		v.peer = p.peer;
		v.cluster = hb_str(p.cluster->name);
		v.endpoint = p.addr;
		v.bytes_in = t->bytes_in;
		v.bytes_out = t->bytes_out;
		v.age_ms = hb_h2_stream_age_ms(t);
		fn(arg, &v);
		v.outer = true;
		hb_hbone_request_fini(&inner);
		inner = request;
		subject.inner = inner.tunnel.authority;
	}
	hb_hbone_request_fini(&inner);
}

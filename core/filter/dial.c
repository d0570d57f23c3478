/* SPDX-License-Identifier: Apache-2.0 */
/* Binds filters to whoever knows how to reach a cluster. */
#include "core/filter/dial.h"
#include "core/filter/explain.h"

static const struct hb_dial_ops *dial_ops; /* set before the workers start */

void
hb_dial_bind(const struct hb_dial_ops *ops)
{
	dial_ops = ops;
}

struct hb_dial *
hb_dial(struct hb_worker *w, const struct hb_dial_request *rq)
{
	struct hb_dial *d;

	HB_ASSERT(dial_ops != NULL);
	HB_ASSERT(rq->on_done != NULL);
	d = dial_ops->dial(w, rq);
	HB_ASSERT(d != NULL);
	return (d);
}

void
hb_dial_cancel(struct hb_dial **dp)
{
	struct hb_dial *d = *dp;

	if (d == NULL)
		return;
	*dp = NULL;
	dial_ops->cancel(d);
}

bool
hb_dial_cluster_exists(struct hb_str cluster)
{
	HB_ASSERT(dial_ops != NULL);
	return (dial_ops->exists(cluster));
}

void
hb_dial_explain(struct hb_str cluster, const struct hb_facts *facts, struct hb_explain *ex)
{
	if (dial_ops != NULL && dial_ops->explain != NULL)
		dial_ops->explain(cluster, facts, ex);
}

void
hb_dial_tunnels(struct hb_transport *up, const struct hb_facts *facts, struct hb_str asked,
	void (*fn)(void *arg, const struct hb_tunnel_view *), void *arg)
{
	if (dial_ops != NULL && dial_ops->tunnels != NULL)
		dial_ops->tunnels(up, facts, asked, fn, arg);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Binds whoever has a transport to the listeners that may take it. */
#include "core/filter/acceptor.h"

static const struct hb_acceptor_ops *acceptor_ops; /* set before the workers start */

void
hb_acceptor_bind(const struct hb_acceptor_ops *ops)
{
	acceptor_ops = ops;
}

int
hb_accept(struct hb_worker *w, struct hb_str name, struct hb_transport *t, struct hb_facts *facts)
{
	if (acceptor_ops == NULL)
		return (-ENOENT);
	return (acceptor_ops->accept(w, name, t, facts));
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/filter/acceptor.h: handing a transport to a listener by name: tunnel streams and in-process
 * pairs enter the house by the same door as sockets. listeners/ implements it and binds itself.
 */
#ifndef HB_CORE_FILTER_ACCEPTOR_H
#define HB_CORE_FILTER_ACCEPTOR_H

#include "core/filter/conn.h"

struct hb_acceptor_ops {
	int (*accept)(struct hb_worker *, struct hb_str listener, struct hb_transport *, struct hb_facts *);
};
void hb_acceptor_bind(const struct hb_acceptor_ops *);
/*
 * The listener `name` matches a chain for these facts and starts a connection on this worker.
 * Takes transport and facts. -ENOENT when there is no such listener (then nothing is taken).
 */
int hb_accept(struct hb_worker *, struct hb_str name, struct hb_transport *, struct hb_facts *);

#endif

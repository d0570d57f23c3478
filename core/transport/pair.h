/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/transport/pair.h: an in-process pipe with two ends, each a transport. What is written to one
 * end is delivered to the other: directly while the nesting depth is small (8), else from the run
 * queue. At most one batch is held; a disabled reader stops the writer by watermark. accept on the
 * server end (`b`) becomes on_connected at `a`; reject becomes on_closed(reason) at `a`; so the
 * innermost dial decides what the outermost peer is told.
 */
#ifndef HB_CORE_TRANSPORT_PAIR_H
#define HB_CORE_TRANSPORT_PAIR_H

#include "core/transport/transport.h"

/* Both ends live on this worker and are owned by the caller. `b` is connected at once. */
void hb_pair_new(struct hb_worker *, struct hb_transport **ret_a, struct hb_transport **ret_b);

#endif

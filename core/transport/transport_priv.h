/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/transport/transport_priv.h: what this room keeps on a worker.
 */
#ifndef HB_CORE_TRANSPORT_TRANSPORT_PRIV_H
#define HB_CORE_TRANSPORT_TRANSPORT_PRIV_H

#include "core/transport/transport.h"

struct hb_transport_state {
	unsigned magic;
#define HB_TRANSPORT_STATE_MAGIC 0x51c6e0a7
	unsigned lingering;
	unsigned pair_depth;     /* direct deliveries of pairs on the stack                   */
	uint64_t flush_timeouts;
	void    *pump;           /* owned by pump.c through pump_fini: pool of pipes          */
	void   (*pump_fini)(void *pump);
	void    *tls;            /* owned by tls_cache.c through tls_fini                     */
	void   (*tls_fini)(void *tls);
	struct hb_tcp_spares *spares; /* owned by tcp_spare.c; NULL = there was none yet      */
	struct hb_list lingerers; /* of fd.c: hb_fdt_linger                                  */
	bool     stopping;       /* nothing lingers any more                                */
};

/* HB_SLOT_TRANSPORT of this worker, made on first use. */
struct hb_transport_state *hb_transport_state(struct hb_worker *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filters/transport/tls/tls_conf_priv.h: from the messages of
 * envoy.extensions.transport_sockets.tls.v3 to one frozen TLS context.
 */
#ifndef HB_FILTERS_TRANSPORT_TLS_TLS_CONF_PRIV_H
#define HB_FILTERS_TRANSPORT_TLS_TLS_CONF_PRIV_H

#include "core/config/config.h"
#include "core/match/match.h"
#include "core/transport/tls.h"

/* A condition on subject alternative names. */
struct hb_tls_name {
	struct hb_string_matcher *matcher; /* owned                                              */
	char                     *exact;   /* owned; of an exact condition, for DNS wildcards    */
};

struct hb_tls_conf {
	unsigned magic;
#define HB_TLS_CONF_MAGIC 0x2d8f61b3
	struct hb_tls_ctx  *ctx;     /* owned */
	bool                auto_host_sni;
	size_t              n_names;
	struct hb_tls_name *names;   /* owned */
};

/* NULL after reporting every error. */
struct hb_tls_conf *hb_tls_conf_downstream(struct hb_cfg *, const void *msg);
struct hb_tls_conf *hb_tls_conf_upstream(struct hb_cfg *, const void *msg);
void hb_tls_conf_free(struct hb_tls_conf **);

#endif

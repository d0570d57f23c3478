/* SPDX-License-Identifier: Apache-2.0 */
/* core/admin/admin_priv.h: inside this room only. */
#ifndef HB_CORE_ADMIN_ADMIN_PRIV_H
#define HB_CORE_ADMIN_ADMIN_PRIV_H

#include "core/admin/admin.h"

/* Endpoints in the order of their addition; NULL beyond the last. */
const struct hb_admin_endpoint *hb_admin_endpoint_at(size_t i);

extern const struct hb_admin_endpoint hb_admin_config_dump, hb_admin_init_dump, hb_admin_certs;

#endif

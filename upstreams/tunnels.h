/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstreams/tunnels.h: hb_dial_tunnels. A stream costs nothing for being shown: what it was opened
 * for is found again.
 */
#ifndef HB_UPSTREAMS_TUNNELS_H
#define HB_UPSTREAMS_TUNNELS_H

#include "core/filter/dial.h"

void hb_upstreams_tunnels(struct hb_transport *up, const struct hb_facts *, struct hb_str asked,
    void (*fn)(void *arg, const struct hb_tunnel_view *), void *arg);

#endif

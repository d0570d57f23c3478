/* SPDX-License-Identifier: Apache-2.0 */
#include "listeners/listener_priv.h"

HB_STAT_FAMILY(hb_listener_family, "listener", "envoy_listener", "envoy_listener_address",
	HB_LISTENER_STATS);
/* The label is ADDRESS.worker_N, so that names are Envoy's. */
HB_STAT_FAMILY(hb_lworker_family, "listener", "envoy_listener_worker", "envoy_listener_worker",
	HB_LWORKER_STATS);
HB_STAT_FAMILY(
	hb_lmanager_family, "listener_manager", "envoy_listener_manager", NULL, HB_LMANAGER_STATS);

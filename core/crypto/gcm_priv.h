/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/crypto/gcm_priv.h: the implementations behind gcm.h.
 *
 * The first two are BoringSSL's assembly under our names. The others are gcm_bulk.c, compiled once
 * for each width; they must run on CPUs with the instructions only. They do whole groups of
 * HB_GCM_GROUP blocks and return 0 for less than one.
 */
#ifndef HB_CORE_CRYPTO_GCM_PRIV_H
#define HB_CORE_CRYPTO_GCM_PRIV_H

#include "core/crypto/gcm.h"

hb_gcm_bulk hb_gcm_aesni_encrypt;
hb_gcm_bulk hb_gcm_aesni_decrypt;
hb_gcm_bulk hb_gcm_256_encrypt;
hb_gcm_bulk hb_gcm_256_decrypt;
hb_gcm_bulk hb_gcm_512_encrypt;
hb_gcm_bulk hb_gcm_512_decrypt;

/* Bytes of a group: four vectors of `lanes` blocks. */
#define HB_GCM_GROUP(lanes) ((size_t)64 * (lanes))

#endif

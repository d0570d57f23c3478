/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filters/transport/proxy_protocol/header.h: writing PROXY protocol headers, versions 1 and 2 (The
 * PROXY protocol, haproxy.org, revision of 2020/03/05, sections 2.1 and 2.2).
 */
#ifndef HB_FILTERS_TRANSPORT_PROXY_PROTOCOL_HEADER_H
#define HB_FILTERS_TRANSPORT_PROXY_PROTOCOL_HEADER_H

#include "core/buffer/buf.h"
#include "core/facts/facts.h"

/* What follows the fixed part of a version 2 header; its length field has 16 bits. */
#define HB_PROXY_TLVS_MAX 65499u

/*
 * Appends a header that names source and destination. Addresses of two families become IPv6 both.
 * When one is no IP address, version 1 says UNKNOWN and version 2 LOCAL: the receiver takes the
 * addresses of its socket. `tlvs`: encoded TLVs, at most HB_PROXY_TLVS_MAX bytes.
 */
void hb_proxy_header_v1(struct hb_buf *, const struct hb_addr *source, const struct hb_addr *destination);
void hb_proxy_header_v2(struct hb_buf *, const struct hb_addr *source, const struct hb_addr *destination,
    struct hb_str tlvs);

#endif

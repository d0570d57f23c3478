# SPDX-License-Identifier: Apache-2.0
"""The filters of the binary, one line each, sorted: the name a configuration uses, and where the code lives."""

HB_FILTERS = {
    "hbone.filters.listener.http_inspector": "//filters/listener/http_inspector",
    "hbone.filters.listener.original_dst": "//filters/listener/original_dst",
    "hbone.filters.listener.proxy_protocol": "//filters/listener/proxy_protocol",
    "hbone.filters.listener.tls_inspector": "//filters/listener/tls_inspector",
    "hbone.filters.network.authz": "//filters/network/authz",
    "hbone.filters.network.connection_limit": "//filters/network/connection_limit",
    "hbone.filters.network.direct_response": "//filters/network/direct_response",
    "hbone.filters.network.echo": "//filters/network/echo",
    "hbone.filters.network.hbone_server": "//filters/network/hbone_server",
    "hbone.filters.network.http_connection_manager": "//filters/network/http_connection_manager",
    "hbone.filters.network.local_ratelimit": "//filters/network/local_ratelimit",
    "hbone.filters.network.rbac": "//filters/network/rbac",
    "hbone.filters.network.set_filter_state": "//filters/network/set_filter_state",
    "hbone.filters.network.sni_cluster": "//filters/network/sni_cluster",
    "hbone.filters.network.sni_router": "//filters/network/sni_router",
    "hbone.filters.network.tcp_proxy": "//filters/network/tcp_proxy",
}

# SPDX-License-Identifier: Apache-2.0
"""The filters of the binary, one line each, sorted: the name a configuration uses, and where the code lives."""

HB_FILTERS = {
    "hbone.filters.listener.http_inspector": "//filters/listener/http_inspector",
    "hbone.filters.listener.original_dst": "//filters/listener/original_dst",
    "hbone.filters.listener.proxy_protocol": "//filters/listener/proxy_protocol",
    "hbone.filters.listener.tls_inspector": "//filters/listener/tls_inspector",
    "hbone.filters.network.echo": "//filters/network/echo",
    "hbone.filters.network.rbac": "//filters/network/rbac",
    "hbone.filters.network.tcp_proxy": "//filters/network/tcp_proxy",
}

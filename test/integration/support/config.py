# SPDX-License-Identifier: Apache-2.0
"""Configurations of the tests. They are JSON, which is YAML too."""
import json

TYPE = "type.googleapis.com/"


def typed(name, message, **fields):
    return {"name": name, "typed_config": {"@type": TYPE + message, **fields}}


def socket_address(port=0, address="127.0.0.1"):
    return {"socket_address": {"address": address, "port_value": port}}


def endpoint(port, address="127.0.0.1"):
    return {"endpoint": {"address": socket_address(port, address)}}


def cluster(name, *ports, **fields):
    return {"name": name, "connect_timeout": "5s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint(p) for p in ports]}]},
            **fields}


def tcp_proxy(cluster_name, **fields):
    return typed("tcp", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix=fields.pop("prefix", "t"),
                 cluster=cluster_name, **fields)


def sni_chain(name, server_names, cluster_name, alpn=(), **fields):
    match = {"server_names": list(server_names)}
    if alpn:
        match["application_protocols"] = list(alpn)
    return {"name": name, "filter_chain_match": match, "filters": [tcp_proxy(cluster_name, prefix=name, **fields)]}


TLS_INSPECTOR = typed("tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")


def listener(name, chains, inspectors=(TLS_INSPECTOR,), port=0, **fields):
    return {"name": name, "address": socket_address(port), "listener_filters": list(inspectors),
            "filter_chains": list(chains), **fields}


def bootstrap(listeners, clusters, **fields):
    return json.dumps({"admin": {"address": socket_address()}, "node": {"id": "test", "cluster": "test"},
                       "static_resources": {"listeners": list(listeners), "clusters": list(clusters)}, **fields},
                      indent=1)


def tls_downstream(certs, name, alpn=(), require_client=False):
    common = {"tls_certificates": [{"certificate_chain": {"filename": certs.pem(name)},
                                    "private_key": {"filename": certs.key(name)}}]}
    if alpn:
        common["alpn_protocols"] = list(alpn)
    if require_client:
        common["validation_context"] = {"trusted_ca": {"filename": str(certs.ca)}}
    return {"name": "tls", "typed_config": {
        "@type": TYPE + "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": require_client, "common_tls_context": common}}


def tls_upstream(certs, sni, sans=(), cert=None, **fields):
    common = {"validation_context": {"trusted_ca": {"filename": str(certs.ca)}}}
    if sans:
        common["validation_context"]["match_typed_subject_alt_names"] = [
            {"san_type": kind, "matcher": {"exact": value}} for kind, value in sans]
    if cert:
        common["tls_certificates"] = [{"certificate_chain": {"filename": certs.pem(cert)},
                                       "private_key": {"filename": certs.key(cert)}}]
    return {"name": "tls", "typed_config": {
        "@type": TYPE + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "sni": sni,
        "common_tls_context": common, **fields}}

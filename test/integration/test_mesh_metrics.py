# SPDX-License-Identifier: Apache-2.0
"""istio_tcp_*: what Istio's dashboards see of plain connections and tunnels."""
import json
import re
import socket

import pytest

from support import config as c
from support import net
from support.h2client import Client
from support.proc import until

SERVER = "hbone.filters.network.hbone_server.HboneServer"
HBONE = "hbone.transport_sockets.hbone.Hbone"
MESH = "spiffe://cluster.local/ns/default/sa/"
BAGGAGE = ("k8s.cluster.name=c1,k8s.namespace.name=default,k8s.deployment.name=client-v1,service.name=client,"
           "service.version=v1")


@pytest.fixture
def echo(cleanup):
    s = net.Server(net.echo)
    cleanup(s.close)
    return s


def bootstrap(certs, echo, clusters=(), listeners=(), **options):
    dst = {"name": "dst", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "2s"}
    deny = c.typed("rbac", "envoy.extensions.filters.network.rbac.v3.RBAC", stat_prefix="r", rules={
        "action": "DENY", "policies": {"one": {"permissions": [{"destination_port": 1}],
                                               "principals": [{"any": True}]}}})
    hbone = c.typed("hbone", SERVER, stat_prefix="t", response_baggage="k8s.deployment.name=echo-v1,service.name=echo",
                    filter_chains=[{"filters": [deny, c.tcp_proxy("dst")]}])
    chain = {"filters": [hbone], "transport_socket": c.tls_downstream(certs, "echo", ["h2"], True)}
    doc = json.loads(c.bootstrap(
        [c.listener("hbone", [chain], []), c.listener("plain", [{"filters": [c.tcp_proxy("echo")]}], []), *listeners],
        [dst, c.cluster("echo", echo.port), *clusters]))
    if options:
        doc["bootstrap_extensions"] = [c.typed("o", "hbone.bootstrap.Options", tcp_metrics=options)]
    return json.dumps(doc)


def series(h, metric):
    """[(labels, value)] of istio_tcp_METRIC."""
    text = h.get("/stats/prometheus")[1]
    return [(dict(re.findall(r'(\w+)="([^"]*)"', labels)), int(value))
            for labels, value in re.findall(rf"^istio_tcp_{metric}{{(.*)}} (-?\d+)$", text, re.M)]


def total(h, metric, **labels):
    return sum(n for have, n in series(h, metric) if labels.items() <= have.items())


def test_plain_connection(hbone, certs, echo):
    h = hbone(bootstrap(certs, echo))
    with socket.create_connection(("127.0.0.1", h.port("plain"))) as s:
        s.sendall(b"12345")
        assert net.read_exactly(s, 5) == b"12345"
        # It is open: bytes are there already.
        assert total(h, "received_bytes_total") == total(h, "sent_bytes_total") == 5
        assert total(h, "sockets_open", reporter="source") == 1
        (labels, n), = series(h, "connections_opened_total")
        assert n == 1
        assert labels["reporter"] == "source" and labels["connection_security_policy"] == "unknown"
        assert labels["source_principal"] == "unknown" and labels["destination_service_name"] == "echo"
        assert labels["response_flags"] == "-" and labels["request_protocol"] == "tcp"
        assert "source_zone" not in labels
    until(lambda: total(h, "connections_closed_total") == 1, "the end")
    assert total(h, "sockets_open") == 0 and not series(h, "connections_failed_total")


@pytest.mark.peer("python-h2")
def test_tunnel(hbone, certs, echo):
    h = hbone(bootstrap(certs, echo))
    with Client(h.port("hbone"), certs) as t:
        n = t.connect(f"127.0.0.1:{echo.port}", ("baggage", BAGGAGE))
        assert t.status(n) == 200
        t.send(n, b"hello", end=True)
        assert t.read_all(n) == b"hello"
        until(lambda: total(h, "connections_closed_total") == 1, "the stream's end")
        (labels, count), = series(h, "connections_opened_total")  # and none of the HTTP/2 connection
        assert count == 1
        assert {k: v for k, v in labels.items() if v != "unknown"} == {
            "reporter": "destination", "source_workload": "client-v1", "source_canonical_service": "client",
            "source_canonical_revision": "v1", "source_workload_namespace": "default",
            "source_principal": MESH + "client", "source_app": "client-v1", "source_version": "v1",
            "source_cluster": "c1", "destination_service_name": "dst", "destination_workload_namespace": "default",
            "destination_principal": MESH + "echo", "request_protocol": "tcp", "response_flags": "-",
            "connection_security_policy": "mutual_tls"}
        assert total(h, "received_bytes_total") == total(h, "sent_bytes_total") == 5
        liar = t.connect(f"127.0.0.1:{echo.port}", ("baggage", BAGGAGE.replace("name=default", "name=other")))
        assert t.status(liar) == 200
        assert total(h, "connections_opened_total", source_workload_namespace="default",
                     source_workload="unknown") == 1
        assert t.status(t.connect("127.0.0.1:1")) == 401
        with socket.create_server(("127.0.0.1", 0)) as s:
            closed = s.getsockname()[1]
        assert t.status(t.connect(f"127.0.0.1:{closed}")) == 503
        assert total(h, "connections_failed_total", response_flags="DENY") == 1
        assert total(h, "connections_failed_total", response_flags="CONNECT") == 1
        assert total(h, "connections_failed_total") == 2


def test_both_ends(hbone, certs, echo):
    """Out through one of our tunnels and in at the other end: a source and a destination report."""
    inside = hbone(bootstrap(certs, echo))
    tls = c.tls_upstream(certs, "x", [("URI", MESH + "echo")], "client")
    tls["typed_config"]["common_tls_context"]["alpn_protocols"] = ["h2"]
    peer = c.cluster("outbound|80||echo.default.svc.cluster.local", echo.port, transport_socket=c.typed(
        "hbone", HBONE, transport_socket=tls, port=inside.port("hbone"), baggage={"namespace": "default", "workload": "w"}))
    out = c.listener("out", [{"filters": [c.tcp_proxy(peer["name"])]}], [])
    h = hbone(bootstrap(certs, echo, [peer], [out]))
    with socket.create_connection(("127.0.0.1", h.port("out"))) as s:
        s.sendall(b"through")
        assert net.read_exactly(s, 7) == b"through"
        (labels, _), = series(h, "connections_opened_total")
        assert labels["reporter"] == "source" and labels["connection_security_policy"] == "mutual_tls"
        assert labels["destination_principal"] == MESH + "echo"
        assert labels["destination_workload"] == "echo-v1"  # the answer's baggage
        assert labels["destination_service"] == "echo.default.svc.cluster.local"
        assert labels["destination_service_name"] == "echo" and labels["destination_service_namespace"] == "default"
        (labels, _), = series(inside, "connections_opened_total")
        assert labels["reporter"] == "destination" and labels["source_workload"] == "w"
        assert labels["source_principal"] == MESH + "client"


@pytest.mark.peer("python-h2")
def test_series_have_a_limit(hbone, certs, echo):
    h = hbone(bootstrap(certs, echo, max_series=3, locality=True), "--concurrency", "1")
    with Client(h.port("hbone"), certs) as t:
        for i in range(10):
            n = t.connect(f"127.0.0.1:{echo.port}",
                          ("baggage", f"k8s.deployment.name=w{i},cloud.region=r,cloud.availability_zone=z"))
            assert t.status(n) == 200
    assert len(series(h, "connections_opened_total")) == 4
    assert total(h, "connections_opened_total", source_workload="overflow", reporter="destination") == 7
    assert total(h, "connections_opened_total", source_region="r", source_zone="z") == 3
    assert "hbone_telemetry_overflow_total 7" in h.get("/stats/prometheus")[1]


def test_off(hbone, certs, echo):
    h = hbone(bootstrap(certs, echo, off=True))
    with socket.create_connection(("127.0.0.1", h.port("plain"))) as s:
        s.sendall(b"x")
        assert net.read_exactly(s, 1) == b"x"
    assert "istio_tcp" not in h.get("/stats/prometheus")[1]

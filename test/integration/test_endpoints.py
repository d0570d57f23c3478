# SPDX-License-Identifier: Apache-2.0
"""Which endpoint of a cluster is chosen, and what happens when connecting fails."""
import socket

import pytest

from support import config as c
from support import net
from support.proc import Hbone


def said(text):
    """A server that says its name and ends."""
    def handle(s):
        s.sendall(text)
        s.shutdown(socket.SHUT_WR)
        net.read_all(s)
    return handle


def gateway(up, listener=None, **proxy):
    log = c.typed("log", "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", log_format={
        "text_format_source": {"inline_string": "log flags=%RESPONSE_FLAGS% host=%UPSTREAM_HOST% "
                                                "why=%UPSTREAM_TRANSPORT_FAILURE_REASON%\n"}})
    return c.bootstrap([c.listener("in", [{"filters": [c.tcp_proxy("up", access_log=[log], **proxy)]}], inspectors=(),
                                   **(listener or {}))], [up])


def ask(h, data=b""):
    with socket.create_connection(("127.0.0.1", h.port("in")), timeout=net.TIMEOUT) as s:
        s.sendall(data)
        return net.read_all(s)


def localities(up, *groups):
    """groups: (priority, health, ports, fields)."""
    up["load_assignment"]["endpoints"] = [
        {"priority": priority, "lb_endpoints": [dict(c.endpoint(p), health_status=health) for p in ports], **fields}
        for priority, health, ports, fields in groups]
    return up


@pytest.fixture(name="named")
def named_servers(cleanup):
    """named(b"1") -> a server that says 1."""
    def make(text):
        server = net.Server(said(text))
        cleanup(server.close)
        return server
    return make


def test_a_cluster_waits_for_its_name_and_tells_so(tmp_path, cleanup):
    """Not ready, and /init_dump and /ready?verbose name what is missing, until the name server answers."""
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    cleanup(silent.close)

    up = c.cluster("up", type="STRICT_DNS", typed_dns_resolver_config=c.typed(
        "cares", "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        resolvers=[c.socket_address(silent.getsockname()[1])]))
    up["load_assignment"]["endpoints"] = [{"lb_endpoints": [c.endpoint(80, "web.example")]}]
    h = Hbone(tmp_path, gateway(up), (), 0)
    cleanup(h.stop)
    found = h.wait_line(r"admin=127\.0\.0\.1:(\d+)")
    h.admin_port = int(found[1])
    status, text = h.get("/ready?verbose")
    assert status == 503 and "up" in text
    assert "up" in h.get("/init_dump")[1]


@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"])
def test_policies_use_every_endpoint(hbone, named, policy):
    ports = [named(name).port for name in (b"1", b"2", b"3")]
    h = hbone(gateway(c.cluster("up", *ports, lb_policy=policy)), "--concurrency", "1")
    got = [ask(h) for _ in range(60)]
    assert set(got) == {b"1", b"2", b"3"}
    if policy == "ROUND_ROBIN":
        assert [got.count(x) for x in (b"1", b"2", b"3")] == [20, 20, 20]


def test_weights_of_endpoints(hbone, named):
    up = c.cluster("up", named(b"1").port, named(b"3").port)
    up["load_assignment"]["endpoints"][0]["lb_endpoints"][1]["load_balancing_weight"] = 3
    h = hbone(gateway(up), "--concurrency", "1")
    got = [ask(h) for _ in range(40)]
    assert (got.count(b"1"), got.count(b"3")) == (10, 30)


def test_weighted_clusters(hbone, named):
    proxy = c.tcp_proxy("x")
    del proxy["typed_config"]["cluster"]
    proxy["typed_config"]["weighted_clusters"] = {"clusters": [{"name": "one", "weight": 1}, {"name": "two", "weight": 9}]}
    h = hbone(c.bootstrap([c.listener("in", [{"filters": [proxy]}], inspectors=())],
                          [c.cluster("one", named(b"1").port), c.cluster("two", named(b"2").port)]))
    got = [ask(h) for _ in range(100)]
    assert 0 < got.count(b"1") < 40 < got.count(b"2")


def test_priorities_fail_over(hbone, named):
    first, second = named(b"first"), named(b"second")
    h = hbone(gateway(localities(c.cluster("up"), (0, "HEALTHY", [first.port], {}), (1, "HEALTHY", [second.port], {}))))
    assert {ask(h) for _ in range(10)} == {b"first"}
    assert h.reload(gateway(localities(c.cluster("up"), (0, "UNHEALTHY", [first.port], {}),
                                       (1, "HEALTHY", [second.port], {})))), h.output()
    assert {ask(h) for _ in range(10)} == {b"second"}


def test_panic_threshold_uses_unhealthy_endpoints_too(hbone, named):
    groups = [(0, "UNHEALTHY", [named(b"1").port, named(b"2").port], {}), (0, "HEALTHY", [named(b"3").port], {})]
    h = hbone(gateway(localities(c.cluster("up"), *groups)))
    assert {ask(h) for _ in range(40)} == {b"1", b"2", b"3"}
    h.expect_stat("cluster.up.lb_healthy_panic", 40)
    off = c.cluster("up", common_lb_config={"healthy_panic_threshold": {"value": 0}})
    assert h.reload(gateway(localities(off, *groups))), h.output()
    assert {ask(h) for _ in range(20)} == {b"3"}


def test_localities_by_weight(hbone, named):
    up = c.cluster("up", common_lb_config={"locality_weighted_lb_config": {}})
    groups = [(0, "HEALTHY", [named(b"1").port], {"locality": {"zone": "a"}, "load_balancing_weight": 1}),
              (0, "HEALTHY", [named(b"4").port], {"locality": {"zone": "b"}, "load_balancing_weight": 4})]
    h = hbone(gateway(localities(up, *groups)), "--concurrency", "1")
    got = [ask(h) for _ in range(50)]
    assert (got.count(b"1"), got.count(b"4")) == (10, 40)


def test_connect_timeout_and_what_is_logged(hbone, cleanup):
    """A listener whose queue is full answers no SYN."""
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    cleanup(full.close)
    port = full.getsockname()[1]
    fillers = []
    for _ in range(8):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex(("127.0.0.1", port))
        fillers.append(s)
    cleanup(lambda: [s.close() for s in fillers])
    h = hbone(gateway(c.cluster("up", port, connect_timeout="0.1s")))
    with pytest.raises(ConnectionResetError):
        ask(h)
    h.wait_line(r"log flags=UF \S+ why=connect: no answer within 100 ms")
    h.expect_stat("cluster.up.upstream_cx_connect_timeout", 1)


def test_connect_refused_and_attempts(hbone):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    h = hbone(gateway(c.cluster("up", port), max_connect_attempts=3))
    with pytest.raises(ConnectionResetError):
        ask(h)
    h.wait_line(r"log flags=\S*URX")
    h.expect_stat("cluster.up.upstream_cx_connect_fail", 3)
    h.expect_stat("cluster.up.upstream_cx_connect_attempts_exceeded", 1)


def test_no_healthy_endpoint_is_uh(hbone):
    h = hbone(gateway(c.cluster("up")))
    with pytest.raises(ConnectionResetError):
        ask(h)
    h.wait_line(r"log flags=UH ")


def test_addresses_of_one_endpoint_race(hbone, named):
    """RFC 8305: the first address refuses, the second wins, without another attempt of tcp_proxy."""
    server = named(b"second")
    up = c.cluster("up", server.port)
    first = up["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    first["additional_addresses"] = [{"address": first["address"]}]
    first["address"] = c.socket_address(server.port, "::1")
    h = hbone(gateway(up))
    assert ask(h) == b"second"


def test_upstream_bind_address(hbone, cleanup):
    seen = []

    def handle(s):
        seen.append(s.getpeername()[0])
        s.shutdown(socket.SHUT_WR)
    server = net.Server(handle)
    cleanup(server.close)
    bind = {"upstream_bind_config": {"source_address": {"address": "127.0.0.5", "port_value": 0}}}
    h = hbone(gateway(c.cluster("up", server.port, **bind)))
    ask(h)
    assert seen == ["127.0.0.5"]

# SPDX-License-Identifier: Apache-2.0
"""Clusters: where endpoints come from, which one is chosen, how it is connected to."""
import socket
import struct
import threading

import pytest

from support import config as c
from support import net
from support.certs import MESH
from support.proc import Hbone, until


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


class Dns:
    """A name server for one name: answers A queries with `addresses`, everything else with nothing."""

    def __init__(self, addresses):
        self.addresses = addresses
        self.asked = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                query, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            if not query:
                return
            end = query.index(b"\0", 12) + 5
            kind = struct.unpack("!H", query[end - 4:end - 2])[0]
            answers = self.addresses if kind == 1 else []
            self.asked += 1
            reply = query[:2] + struct.pack("!HHHHH", 0x8180, 1, len(answers), 0, 0) + query[12:end]
            for address in answers:
                reply += struct.pack("!HHHIH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(address)
            self.socket.sendto(reply, peer)

    def close(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"", ("127.0.0.1", self.port))
        self.socket.close()


def dns_cluster(port, kind, dns=None, name="web.example"):
    up = c.cluster("up", type=kind, dns_lookup_family="V4_ONLY", dns_refresh_rate="0.02s")
    up["load_assignment"]["endpoints"] = [{"lb_endpoints": [c.endpoint(port, name)]}]
    if dns:
        up["typed_dns_resolver_config"] = c.typed(
            "cares", "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            resolvers=[c.socket_address(dns.port)])
    return up


@pytest.mark.parametrize("kind", ["STRICT_DNS", "LOGICAL_DNS"])
def test_localhost_resolves(hbone, named, kind):
    h = hbone(gateway(dns_cluster(named(b"1").port, kind, name="localhost")))
    assert ask(h) == b"1"


def test_strict_dns_follows_the_name_server(hbone, cleanup, named):
    server = named(b"1")
    dns = Dns(["127.0.0.1"])
    cleanup(dns.close)
    h = hbone(gateway(dns_cluster(server.port, "STRICT_DNS", dns)))
    assert ask(h) == b"1"
    dns.addresses = ["127.0.0.1", "127.0.0.9"]
    until(lambda: h.stat("cluster.up.membership_total") == 2, "the second address")
    dns.addresses = []
    asked = dns.asked
    until(lambda: dns.asked > asked + 2, "empty answers")
    assert h.stat("cluster.up.membership_total") == 2, "an empty answer must not take endpoints away"
    assert h.stat("cluster.up.update_empty") > 0


def test_a_cluster_waits_for_its_name_and_tells_so(tmp_path, cleanup, named):
    """Not ready, and /init_dump and /ready?verbose name what is missing, until the name server answers."""
    server = named(b"1")
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    cleanup(silent.close)

    class Silent:
        port = silent.getsockname()[1]
    h = Hbone(tmp_path, gateway(dns_cluster(server.port, "STRICT_DNS", Silent)), (), 0)
    cleanup(h.stop)
    found = h.wait_line(r"admin=127\.0\.0\.1:(\d+)")
    h.admin_port = int(found[1])
    status, text = h.get("/ready?verbose")
    assert status == 503 and "up" in text
    assert "up" in h.get("/init_dump")[1]


def test_original_dst_dials_what_the_client_asked_for(hbone, named):
    server = named(b"there")
    up = {"name": "up", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "5s"}
    proxy = c.typed("pp", "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol")
    h = hbone(gateway(up, {"listener_filters": [proxy]}))
    header = f"PROXY TCP4 192.0.2.1 127.0.0.1 1234 {server.port}\r\n".encode()
    assert ask(h, header) == b"there"
    assert f"127.0.0.1:{server.port}" in h.get("/clusters")[1]


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
    assert h.stat("cluster.up.lb_healthy_panic") == 40
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


def test_circuit_breakers_refuse_with_uo(hbone, cleanup):
    server = net.Server(net.echo)
    cleanup(server.close)
    h = hbone(gateway(c.cluster("up", server.port, circuit_breakers={"thresholds": [{"max_connections": 1}]})))
    first = socket.create_connection(("127.0.0.1", h.port("in")), timeout=net.TIMEOUT)
    first.sendall(b"x")
    assert net.read_exactly(first, 1) == b"x"
    assert h.stat("cluster.up.circuit_breakers.default.cx_open") == 1
    with pytest.raises(ConnectionResetError):
        ask(h, b"x")
    h.wait_line(r"log flags=UO host=- ")
    assert h.stat("cluster.up.upstream_cx_overflow") == 1
    first.close()
    until(lambda: h.stat("cluster.up.circuit_breakers.default.cx_open") == 0, "the breaker to close")


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
    assert h.stat("cluster.up.upstream_cx_connect_timeout") == 1


def test_connect_refused_and_attempts(hbone):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    h = hbone(gateway(c.cluster("up", port), max_connect_attempts=3))
    with pytest.raises(ConnectionResetError):
        ask(h)
    h.wait_line(r"log flags=\S*URX")
    assert h.stat("cluster.up.upstream_cx_connect_fail") == 3
    assert h.stat("cluster.up.upstream_cx_connect_attempts_exceeded") == 1


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


@pytest.mark.parametrize("version,start", [("V1", b"PROXY TCP4 127.0.0.1 127.0.0.1 "), ("V2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11")])
def test_proxy_protocol_to_the_upstream(hbone, cleanup, version, start):
    got = []

    def handle(s):
        got.append(net.read_all(s))
    server = net.Server(handle)
    cleanup(server.close)
    config = {"version": version}
    if version == "V2":
        config["added_tlvs"] = [{"type": 0xEE, "value": "Z3JlZW4="}]
    socket_config = c.typed("pp", "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
                            config=config, transport_socket=c.typed(
                                "raw", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"))
    h = hbone(gateway(c.cluster("up", server.port, transport_socket=socket_config)))
    with socket.create_connection(("127.0.0.1", h.port("in")), timeout=net.TIMEOUT) as s:
        me = s.getsockname()[1]
        s.sendall(b"payload")
        s.shutdown(socket.SHUT_WR)
        net.read_all(s)
    assert got[0].startswith(start) and got[0].endswith(b"payload")
    if version == "V1":
        assert f" {me} ".encode() in got[0]
    else:
        assert struct.pack("!H", me) in got[0] and b"\xee\0\x05green" in got[0]


def tls_gateway(certs, port, sans, **fields):
    return gateway(c.cluster("up", port, transport_socket=c.tls_upstream(certs, "b.example", sans, **fields)))


@pytest.mark.peer("python-ssl")
def test_upstream_tls_verifies_the_name(hbone, certs, cleanup):
    names = []

    def handle(s):
        s.sendall(b"secret")
        s.unwrap().close()
    context = net.server_context(certs, "b")
    context.sni_callback = lambda o, name, _: names.append(name)

    def run(raw):
        with context.wrap_socket(raw, server_side=True) as s:
            handle(s)
    server = net.Server(run)
    cleanup(server.close)
    h = hbone(tls_gateway(certs, server.port, [("DNS", "b.example")]))
    assert ask(h) == b"secret" and names == ["b.example"]
    assert h.stat("cluster.up.ssl.handshake") == 1
    assert h.reload(tls_gateway(certs, server.port, [("DNS", "c.example")])), h.output()
    with pytest.raises(ConnectionResetError):
        ask(h)
    h.wait_line(r"log flags=UF \S+ why=\S")
    assert h.stat("cluster.up.ssl.fail_verify_san") == 1


@pytest.mark.peer("python-ssl")
def test_upstream_mutual_tls_by_spiffe_id(hbone, certs, cleanup):
    seen = []

    def handle(s):
        seen.append(s.getpeercert()["subjectAltName"])
        s.sendall(b"hello")
        s.unwrap().close()
    context = net.server_context(certs, "echo")
    context.verify_mode = 2
    context.load_verify_locations(str(certs.ca))

    def run(raw):
        with context.wrap_socket(raw, server_side=True) as s:
            handle(s)
    server = net.Server(run)
    cleanup(server.close)
    h = hbone(tls_gateway(certs, server.port, [("URI", MESH + "echo")], cert="client"))
    assert ask(h) == b"hello"
    assert seen == [(("URI", MESH + "client"),)]

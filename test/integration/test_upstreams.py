# SPDX-License-Identifier: Apache-2.0
"""Clusters against real servers: TLS, names, PROXY headers, original destinations, limits, replaced clusters."""
import socket
import struct
import subprocess
import threading

import pytest

from support import config as c
from support import net
from support.proc import Child, until


def gateway(*clusters, name="up", **fields):
    """One listener, all connections to the first cluster, what happened to stdout."""
    log = [c.typed("log", "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", log_format={
        "text_format_source": {"inline_string": "LOG flags=%RESPONSE_FLAGS% host=%UPSTREAM_HOST% "
                                                "why=%UPSTREAM_TRANSPORT_FAILURE_REASON%\n"}})]
    return c.bootstrap([c.listener("plain", [{"name": "all", "filters": [
        c.tcp_proxy(name, access_log=log, **fields.pop("proxy", {}))]}], inspectors=(), **fields)], clusters)


def connect(h):
    return socket.create_connection(("127.0.0.1", h.port("plain")), timeout=net.TIMEOUT)


def is_dropped(h):
    try:                                       # in connect or in recv, whatever is faster
        with connect(h) as s:
            s.sendall(b"hello")
            return s.recv(1) == b""
    except ConnectionError:
        return True


@pytest.fixture
def server(cleanup):
    s = net.Server(net.echo)
    cleanup(s.close)
    return s


@pytest.mark.peer("python-ssl")
def test_tls_to_the_endpoint(hbone, certs, cleanup):
    server = net.tls_server(certs, "a", net.echo)
    cleanup(server.close)
    h = hbone(gateway(c.cluster("up", server.port, transport_socket=c.tls_upstream(
        certs, "x.a.example", sans=[("DNS", "y.a.example")]))))
    with connect(h) as s:
        s.sendall(b"hello")
        assert net.read_exactly(s, 5) == b"hello"
    h.expect_stat("cluster.up.ssl.handshake", 1)


@pytest.mark.peer("python-ssl")
@pytest.mark.parametrize("name,sans,counter,why", [
    ("a", [("DNS", "b.example")], "fail_verify_san", "alternative"),
    ("stranger", [], "fail_verify_error", "")])
def test_an_endpoint_that_is_not_who_it_should_be(hbone, certs, cleanup, name, sans, counter, why):
    got = []

    def handle(s):
        got.append(s.recv(1))
    server = net.tls_server(certs, name, handle)
    cleanup(server.close)
    h = hbone(gateway(c.cluster("up", server.port, transport_socket=c.tls_upstream(certs, "a.example", sans=sans))))
    assert is_dropped(h)
    until(lambda: h.stat(f"cluster.up.ssl.{counter}") == 1, "the counter")
    assert why in h.wait_line(r"LOG flags=UF host=127.0.0.1:\d+ why=(.*)")[1]
    assert not any(got)


@pytest.mark.peer("openssl")
def test_openssl_server_with_client_certificates(hbone, certs, cleanup):
    server = Child(["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", certs.pem("a"), "-key", certs.key("a"),
                    "-CAfile", str(certs.ca), "-Verify", "1", "-verify_return_error", "-rev"], stdin=subprocess.PIPE)
    cleanup(server.stop)
    port = int(server.wait_line(r"ACCEPT 127\.0\.0\.1:(\d+)")[1])
    h = hbone(gateway(c.cluster("up", port, transport_socket=c.tls_upstream(certs, "a.example", cert="client"))))
    with connect(h) as s:
        s.sendall(b"hello\n")
        assert net.read_exactly(s, 6) == b"olleh\n"


def test_names_of_the_hosts_file(hbone, server):
    up = c.cluster("up", type="STRICT_DNS", dns_lookup_family="V4_ONLY")
    up["load_assignment"]["endpoints"][0]["lb_endpoints"] = [c.endpoint(server.port, "localhost")]
    h = hbone(gateway(up))
    with connect(h) as s:
        s.sendall(b"hello")
        assert net.read_exactly(s, 5) == b"hello"
    assert f"up::127.0.0.1:{server.port}::hostname::localhost" in h.get("/clusters")[1]


class NameServer:
    """UDP on loopback: A records for every name, as set by the test."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.addresses = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                q, peer = self.socket.recvfrom(512)
            except OSError:
                return
            end = 12
            while q[end]:
                end += q[end] + 1
            end += 5
            records = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(a) for a in self.addresses)
            self.socket.sendto(q[:2] + b"\x81\x80\0\1" + struct.pack(">H", len(self.addresses)) + b"\0\0\0\0" +
                               q[12:end] + records, peer)


def test_names_that_change(hbone, cleanup, server):
    dns = NameServer()
    cleanup(dns.socket.close)
    dns.addresses = ["127.0.0.1"]
    up = c.cluster("up", type="STRICT_DNS", dns_lookup_family="V4_ONLY", dns_refresh_rate="0.1s",
                   typed_dns_resolver_config=c.typed(
                       "cares", "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                       resolvers=[c.socket_address(dns.port)]))
    up["load_assignment"]["endpoints"][0]["lb_endpoints"] = [c.endpoint(server.port, "service.test")]
    h = hbone(gateway(up))
    with connect(h) as s:
        s.sendall(b"one")
        assert net.read_exactly(s, 3) == b"one"
        dns.addresses = ["127.0.0.2", "127.0.0.3"]
        until(lambda: h.stat("cluster.up.membership_total") == 2, "the new addresses")
        # The connection to the old address lives on.
        s.sendall(b"two")
        assert net.read_exactly(s, 3) == b"two"
    dns.addresses = []
    until(lambda: h.stat("cluster.up.update_empty") > 0, "an empty answer")
    h.expect_stat("cluster.up.membership_total", 2)


@pytest.mark.parametrize("version,header", [("V1", None), ("V2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c")])
def test_proxy_header_to_the_endpoint(hbone, cleanup, version, header):
    got = []

    def handle(s):
        got.append(net.read_all(s))
    server = net.Server(handle)
    cleanup(server.close)
    socket_config = c.typed("pp", "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
                            config={"version": version}, transport_socket=c.typed(
                                "raw", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"))
    h = hbone(gateway(c.cluster("up", server.port, transport_socket=socket_config)))
    with connect(h) as s:
        mine, theirs = s.getsockname(), s.getpeername()
        s.sendall(b"payload")
        s.shutdown(socket.SHUT_WR)
        assert s.recv(1) == b""
    want = f"PROXY TCP4 127.0.0.1 127.0.0.1 {mine[1]} {theirs[1]}\r\n".encode() if header is None else \
        header + socket.inet_aton("127.0.0.1") * 2 + struct.pack(">HH", mine[1], theirs[1])
    until(lambda: got, "the bytes")
    assert got[0] == want + b"payload"


def test_original_destination_from_a_proxy_header(hbone, server):
    up = {"name": "up", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "5s"}
    inspectors = [c.typed("pp", "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol")]
    config = c.bootstrap([c.listener("plain", [{"name": "all", "filters": [c.tcp_proxy("up")]}],
                                     inspectors=inspectors)], [up])
    h = hbone(config)
    with connect(h) as s:
        s.sendall(f"PROXY TCP4 192.0.2.1 127.0.0.1 1 {server.port}\r\nhello".encode())
        assert net.read_exactly(s, 5) == b"hello"
        assert f"up::127.0.0.1:{server.port}::cx_active::1" in h.get("/clusters")[1]


def test_connections_beyond_the_limit(hbone, server):
    h = hbone(gateway(c.cluster("up", server.port, circuit_breakers={"thresholds": [{"max_connections": 1}]})))
    with connect(h) as s:
        s.sendall(b"x")
        assert net.read_exactly(s, 1) == b"x"
        h.expect_stat("cluster.up.circuit_breakers.default.cx_open", 1)
        assert is_dropped(h)
        h.wait_line(r"LOG flags=UO")
        h.expect_stat("cluster.up.upstream_cx_overflow", 1)
    until(lambda: h.stat("cluster.up.upstream_cx_active") == 0, "the end of the first")
    with connect(h) as s:
        s.sendall(b"y")
        assert net.read_exactly(s, 1) == b"y"


def test_a_replaced_cluster_keeps_its_connections(hbone, cleanup, server):
    other = net.Server(lambda s: s.sendall(b"other"))
    cleanup(other.close)
    h = hbone(gateway(c.cluster("up", server.port)))
    with connect(h) as s:
        s.sendall(b"one")
        assert net.read_exactly(s, 3) == b"one"
        assert h.reload(gateway(c.cluster("up", other.port)))
        with connect(h) as fresh:
            assert net.read_exactly(fresh, 5) == b"other"
        s.sendall(b"two")
        assert net.read_exactly(s, 3) == b"two"
        h.expect_stat("cluster_manager.cluster_modified", 1)

# SPDX-License-Identifier: Apache-2.0
"""TLS that ends or begins here, splice(2), and the portable event backend."""
import hashlib
import socket
import ssl
import subprocess

import pytest

from support import config as c
from support import net
from support.proc import SLOW, Child, until

MIB = 1 << 20
BULK = (100 if SLOW == 1 else 20) * MIB
ECHO = c.typed("echo", "envoy.extensions.filters.network.echo.v3.Echo")


def sni_config(port):
    return c.bootstrap([c.listener("in", [c.sni_chain("a", ["a.example"], "up")])], [c.cluster("up", port)])


def hashing(s):
    """8 bytes of length, so many bytes; answers with their SHA-256, then sends as many of its own."""
    n = left = int.from_bytes(net.read_exactly(s, 8), "big")
    digest = hashlib.sha256()
    while left:
        data = s.recv(min(left, 1 << 18))
        if not data:
            raise EOFError
        left -= len(data)
        digest.update(data)
    s.sendall(digest.digest())
    s.sendall(net.pattern(n, 1))


def both_ways(s, size):
    data = net.pattern(size)
    s.sendall(size.to_bytes(8, "big"))
    s.sendall(data)
    assert net.read_exactly(s, 32) == hashlib.sha256(data).digest()
    digest, left = hashlib.sha256(), size
    while left:
        piece = s.recv(min(left, 1 << 18))
        assert piece
        left -= len(piece)
        digest.update(piece)
    assert digest.digest() == hashlib.sha256(net.pattern(size, 1)).digest()


@pytest.mark.peer("python-ssl")
@pytest.mark.parametrize("options", [(), ("--max-pipes", "0"), ("--event-backend", "uv")], ids=["splice", "copy", "uv"])
def test_100_mb_each_way(hbone, certs, cleanup, options):
    """The same bytes by splice(2), by copying and on plain libuv; the counter tells which way they went."""
    server = net.tls_server(certs, "a", hashing)
    cleanup(server.close)
    h = hbone(sni_config(server.port), *options)
    with net.tls_connect(h.port("in"), certs, "a.example") as s:
        both_ways(s, BULK)
    spliced = h.stat("server.spliced_bytes")
    if options == ("--max-pipes", "0"):
        assert spliced == 0
    else:
        assert spliced > BULK, "most of the 200 MB goes through the kernel"
    until(lambda: h.stats(r"^listener\.[^w]*\.downstream_cx_active$") == 0, "the connection to end")
    assert h.stat("tcp.a.downstream_cx_rx_bytes_total") > BULK < h.stat("tcp.a.downstream_cx_tx_bytes_total")
    assert h.stat("cluster.up.upstream_cx_rx_bytes_total") == h.stat("tcp.a.downstream_cx_tx_bytes_total")


def test_half_close_and_reset_after_splice(hbone, cleanup):
    """Once the kernel moves the bytes, an end is still an end and a reset a reset."""
    seen = []

    def handle(s):
        net.read_exactly(s, 32 * MIB)
        s.sendall(b"all")
        try:
            seen.append(len(net.read_all(s)))
        except ConnectionResetError:
            seen.append("reset")
    server = net.Server(handle)
    cleanup(server.close)
    h = hbone(c.bootstrap([c.listener("in", [{"filters": [c.tcp_proxy("up")]}], inspectors=())], [c.cluster("up", server.port)]))
    for ending, expected in (("end", 3), ("reset", "reset")):
        spliced = h.stat("server.spliced_bytes")
        s = socket.create_connection(("127.0.0.1", h.port("in")), timeout=net.TIMEOUT)
        s.sendall(bytes(32 * MIB))
        assert net.read_exactly(s, 3) == b"all"
        assert h.stat("server.spliced_bytes") > spliced
        if ending == "end":
            s.sendall(b"end")
            s.shutdown(socket.SHUT_WR)
            assert net.read_all(s) == b""
            s.close()
        else:
            net.reset(s)
        until(lambda expected=expected: seen and seen[-1] == expected, f"the {ending} at the server")


# ------------------------------------------------------------------ TLS

def tls_config(certs, port=None, **tls):
    filters = [ECHO] if port is None else [c.tcp_proxy("up")]
    return c.bootstrap([c.listener("in", [{"filters": filters, "transport_socket": c.tls_downstream(certs, "a", **tls)}],
                                   inspectors=())], [] if port is None else [c.cluster("up", port)])


@pytest.mark.peer("python-ssl")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_ends_here(hbone, certs, cleanup, version):
    server = net.Server(hashing)
    cleanup(server.close)
    h = hbone(tls_config(certs, server.port, alpn=["hbone", "h2"]))
    context = net.client_context(certs, ["h2"])
    context.minimum_version = context.maximum_version = version
    raw = socket.create_connection(("127.0.0.1", h.port("in")), timeout=net.TIMEOUT)
    with context.wrap_socket(raw, server_hostname="a.example") as s:
        assert s.selected_alpn_protocol() == "h2"
        both_ways(s, 8 * MIB)
    until(lambda: h.stats(r"^listener\..*\.ssl\.handshake$") == 1, "the handshake's counter")


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("cert,why", [(None, "no_cert"), ("stranger", "error"), ("expired", "error"), ("client", None)])
def test_client_certificates(hbone, certs, cleanup, cert, why):
    h = hbone(tls_config(certs, require_client=True))
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{h.port('in')}", "-servername", "a.example", "-CAfile",
               str(certs.ca), "-quiet"]
    if cert:
        command += ["-cert", certs.pem(cert), "-key", certs.key(cert)]
    client = Child(command, stdin=subprocess.PIPE)
    cleanup(client.stop)
    if why is None:
        client.process.stdin.write("hello\n")
        client.process.stdin.flush()
        client.wait_line("^hello$")
    else:
        client.wait_line("alert")
        until(lambda: h.stats(rf"^listener\..*\.ssl\.fail_verify_{why}$") == 1, "the counter")


@pytest.mark.peer("python-ssl")
def test_a_tcp_end_without_close_notify_is_no_clean_end(hbone, certs, cleanup):
    """A man in the middle could cut the stream: the upstream must not take it for whole."""
    seen = []

    def handle(s):
        net.read_exactly(s, 5)
        try:
            seen.append(s.recv(1))
        except ConnectionResetError:
            seen.append("reset")
    server = net.Server(handle)
    cleanup(server.close)
    h = hbone(tls_config(certs, server.port))
    s = net.tls_connect(h.port("in"), certs, "a.example")
    s.sendall(b"order")
    until(lambda: server.accepted == 1 and h.stat("tcp.t.downstream_cx_rx_bytes_total") == 5, "the bytes to pass")
    raw = socket.socket(fileno=s.detach())
    raw.shutdown(socket.SHUT_WR)
    until(lambda: seen, "the end at the server")
    assert seen == ["reset"]
    raw.close()


@pytest.mark.peer("curl")
def test_curl_over_tls_from_end_to_end(hbone, certs, cleanup):
    """Decrypted here, encrypted again to an endpoint whose name is checked."""
    def handle(s):
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += s.recv(1000)
        s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        s.unwrap().close()
    server = net.tls_server(certs, "b", handle)
    cleanup(server.close)
    up = c.cluster("up", server.port, transport_socket=c.tls_upstream(certs, "b.example", [("DNS", "b.example")]))
    h = hbone(c.bootstrap([c.listener("in", [{"filters": [c.tcp_proxy("up")], "transport_socket":
                                              c.tls_downstream(certs, "a")}], inspectors=())], [up]))
    url = f"https://a.example:{h.port('in')}/"
    out = subprocess.run(["curl", "-sS", "--cacert", str(certs.ca), "--resolve", f"a.example:{h.port('in')}:127.0.0.1", url],
                         capture_output=True, text=True, timeout=60, check=True).stdout
    assert out == "hello"
    shown = h.json("/certs")["certificates"]
    own = [cert for one in shown for cert in one["cert_chain"]]
    assert [cert["path"] for cert in own] == [certs.pem("a")] and {"dns": "a.example"} in own[0]["subject_alt_names"]
    assert [cert["path"] for one in shown for cert in one["ca_cert"]] == [str(certs.ca)]

# SPDX-License-Identifier: Apache-2.0
"""Istio's echo programs: its client tunnels to us by --hbone and --double-hbone, and we tunnel to its --hbone server."""
import re
import subprocess

import pytest

from support import certs as leaves
from support import config as c
from support import envoy, net
from support.proc import SLOW, Child, until
from support.tunnels import CLIENT, ECHO, MIB, address, both_ways, client, connect, read_to_the_end, same, server

pytestmark = pytest.mark.peer("istio-echo")


@pytest.fixture(scope="session")
def echo(certs):
    """Istio's echo server: .tcp echoes, .first does after a line of its own, .http answers, .hbone ends tunnels. Go looks
    for the address in a server's certificate, so there is one more, "istio"."""
    leaves.leaf(certs.folder, "istio", leaves.load(certs.folder, "ca"), uri=[ECHO], ip=["127.0.0.1"])
    hbone, first = envoy.free_port(), envoy.free_port()
    child = Child(["istio-echo-server", "--port", "0", "--grpc", "0", "--tcp", f"0,{first}", "--server-first", str(first),
                   "--hbone", str(hbone), "--tls", str(hbone), "--metrics", "0", "--crt", certs.pem("istio"), "--key",
                   certs.key("istio"), "--bind-localhost", f"0,{hbone},{first}"])
    child.hbone, child.first = hbone, first
    child.wait_line("Echo server is now ready")
    child.tcp = next(p for p in map(int, re.findall(r"Listening TCP on (\d+)", child.output())) if p != first)
    child.http = int(re.search(r"Listening HTTP/1.1 on (\d+)", child.output())[1])
    yield child
    child.stop()


@pytest.fixture
def istio(certs):
    """istio("--hbone", port, url, …) -> its output; the answer must be an echo, unless `fails`."""
    def run(flag, port, url, *more, cert="client", fails=False):
        done = subprocess.run(
            ["istio-echo-client", flag, f"127.0.0.1:{port}", "--hbone-client-cert", certs.pem(cert), "--hbone-client-key",
             certs.key(cert), "--hbone-ca", str(certs.ca), "--inner-hbone-insecure-skip-verify", "--timeout", "20s",
             *more, url], capture_output=True, text=True, timeout=60 * SLOW, check=False)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr
    return run


def terminator(certs, **fields):
    return server(certs, cert="istio", **fields)


def outer(certs, port):
    """An east-west gateway: the outer tunnel ends here, the inner one goes on as bytes."""
    return terminator(certs, chains=[{"filters": [c.tcp_proxy("inner")]}], clusters=[c.cluster("inner", port)])


SIZES = [1, 1000, 16384, 100000]


def message(size):
    """The client reads until it has seen this, which must not be a part of what the server says of itself."""
    return "~" + "".join(chr(97 + i % 26) for i in range(size - 1))


@pytest.mark.parametrize("size", SIZES)
def test_client_to_us(hbone, certs, echo, istio, size):
    """Client --hbone, our terminator, the echo server's plain port: ten tunnels on connections of their own."""
    h = hbone(terminator(certs))
    out = istio("--hbone", h.port("hbone"), f"tcp://127.0.0.1:{echo.tcp}", "--msg", message(size), "--count", "10")
    assert out.count("body] StatusCode=200") == 10 and len(re.findall(f"body] {message(size)}$", out, re.M)) == 10
    h.expect_stat("hbone_server.t.rq_200", 10)


def test_http_through_us(hbone, certs, echo, istio):
    h = hbone(terminator(certs))
    out = istio("--hbone", h.port("hbone"), f"http://127.0.0.1:{echo.http}/path", "--count", "5")
    assert out.count("URL=/path") == 5 and out.count("StatusCode=200") == 5


def test_server_speaks_first(hbone, certs, echo, istio):
    h = hbone(terminator(certs))
    out = istio("--hbone", h.port("hbone"), f"tcp://127.0.0.1:{echo.first}", "--server-first", "--count", "3")
    assert out.count("StatusCode=200") == 3


def test_refusals(hbone, certs, echo, istio):
    """By policy, of a port where nobody listens, and by TLS."""
    only_others = c.typed("rbac", "envoy.extensions.filters.network.rbac.v3.RBAC", stat_prefix="r", rules={
        "action": "DENY", "policies": {"client": {"permissions": [{"any": True}], "principals": [
            {"authenticated": {"principal_name": {"exact": CLIENT}}}]}}})
    h = hbone(terminator(certs, chains=[{"filters": [only_others, c.tcp_proxy("dst")]}]))
    url = f"tcp://127.0.0.1:{echo.tcp}"
    assert "401" in istio("--hbone", h.port("hbone"), url, fails=True)
    assert "503" in istio("--hbone", h.port("hbone"), "tcp://127.0.0.1:1", cert="otherns", fails=True)
    assert "StatusCode=200" in istio("--hbone", h.port("hbone"), url, cert="otherns")
    for cert in ("stranger", "expired"):  # Go reports the alert, or that the connection is gone
        istio("--hbone", h.port("hbone"), url, cert=cert, fails=True)
    h.expect_stat("hbone_server.t.rq_401", 1)
    until(lambda: h.stats(r"listener\..*\.ssl\.connection_error$") == 2, "both handshakes to fail")


@pytest.mark.parametrize("size", SIZES)
def test_double_client_to_us(hbone, certs, echo, istio, size):
    """Client --double-hbone through our gateway, to Istio's --hbone server and to ours."""
    inner = hbone(server(certs))
    for port in (echo.hbone, inner.port("hbone")):
        h = hbone(outer(certs, port))
        out = istio("--double-hbone", h.port("hbone"), f"tcp://127.0.0.1:{echo.tcp}", "--msg", message(size), "--count", "5")
        assert len(re.findall(f"body] {message(size)}$", out, re.M)) == 5
        h.expect_stat("hbone_server.t.rq_200", 5)
    inner.expect_stat("hbone_server.t.rq_200", 5)


def test_double_refused_inside(hbone, certs, echo, istio):
    """The inner server does not know the client's CA; the gateway, which does, has nothing to do with it."""
    doc = server(certs).replace(str(certs.ca), str(certs.folder / "other-ca.pem"))
    h = hbone(outer(certs, hbone(doc).port("hbone")))
    out = istio("--double-hbone", h.port("hbone"), f"tcp://127.0.0.1:{echo.tcp}", fails=True)
    assert "certificate" in out
    h.expect_stat("hbone_server.t.rq_200", 1)
    until(lambda: h.stat("hbone_server.t.tunnels_active") == 0, "no tunnel")


def origin(cleanup, handle=net.echo):
    s = net.Server(handle)
    cleanup(s.close)
    return s


def test_us_to_server(hbone, certs, echo, cleanup):
    """Our tunnels to its --hbone server, which answers 200 before it connects: sizes, half-closes, several at once."""
    target = origin(cleanup)
    h = hbone(client(certs, echo.hbone, authority=address(target)), "--concurrency", "1")
    for size in (1, 16384, 100000, 5 * MIB):
        with connect(h) as s:
            data = net.pattern(size)
            assert same(both_ways(s, data), data)
    sockets = [connect(h) for _ in range(50)]
    for s in sockets:
        s.sendall(b"hello")
    for s in sockets:
        assert net.read_exactly(s, 5) == b"hello"
        s.close()
    h.expect_stat("cluster.peer.upstream_cx_http2_total", 1)


def test_us_to_server_with_another_identity(hbone, certs, echo):
    h = hbone(client(certs, echo.hbone, peer=CLIENT, authority=f"127.0.0.1:{echo.tcp}"))
    with connect(h) as s:
        assert read_to_the_end(s) == (b"", "reset")
    h.wait_line("flags=UF why=TLS: no subject alternative name is an allowed one")


def test_us_between_both(hbone, certs, echo, istio):
    """Client --hbone, our gateway as terminator and originator, server --hbone."""
    near = hbone(client(certs, echo.hbone, authority=f"127.0.0.1:{echo.tcp}"))
    h = hbone(terminator(certs))
    out = istio("--hbone", h.port("hbone"), f"tcp://127.0.0.1:{near.port('in')}", "--msg", message(50000), "--count", "10")
    assert len(re.findall(f"body] {message(50000)}$", out, re.M)) == 10
